/* weights.h - from state_dict tensors to a backend's packed parameters; internal. */
#ifndef FDM_NN_WEIGHTS_H
#define FDM_NN_WEIGHTS_H

#include "nn/graph.h"

/* Checks that `weights` holds every tensor that the graph's modules need, in f32, of the right shape and finite,
 * then packs them into a new slab (fdm_free_aligned) and fills the modules' packed, filter and raw_bias.
 * Errors: FDM_BAD_INPUT names all tensors that are missing or misshapen. */
fdm_status fdm_weights_pack(char **slab, struct fdm_graph *g, const fdm_tensors *weights, const fdm_config *config,
                            const struct fdm_backend *backend, const struct fdm_exec *exec, const char *where,
                            fdm_error *err);

#endif
