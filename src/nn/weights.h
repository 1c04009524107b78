/* weights.h - from state_dict tensors to a backend's packed parameters; internal. */
#ifndef FDM_NN_WEIGHTS_H
#define FDM_NN_WEIGHTS_H

#include "nn/parameters.h"

/* Checks that `weights` holds every tensor that the graph's modules need, in f32, of the right shape and finite,
 * then packs them into a new slab (fdm_free_aligned) and fills the modules' packed, filter, raw_bias and freqs.
 * Errors: FDM_BAD_INPUT names all tensors that are missing or misshapen. */
fdm_status fdm_weights_pack(char **slab, struct fdm_graph *g, const fdm_tensors *weights, const fdm_config *config,
                            const struct fdm_backend *backend, const struct fdm_exec *exec, const char *where,
                            fdm_error *err);

/* Packs the parameters again after they have moved (buffers stay). */
void fdm_weights_repack(char *slab, struct fdm_graph *g, const struct fdm_parameters *list, const float *parameters,
                        const struct fdm_backend *backend, const struct fdm_exec *exec);

#endif
