/* weights.h - from state_dict tensors to a backend's packed parameters; internal. */
#ifndef FDM_NN_WEIGHTS_H
#define FDM_NN_WEIGHTS_H

#include "nn/parameters.h"

/* Names, types and shapes of a model's tensors against its configuration; their data is not looked at, but must not be
 * NULL.  Errors: FDM_BAD_INPUT names all tensors that are missing or misshapen; FDM_NO_RESOURCE. */
fdm_status fdm_weights_check(const fdm_tensors *weights, const fdm_config *config, const char *where, fdm_error *err);

/* Checks that `weights` holds every tensor that the graph's modules need, in f32, of the right shape and finite,
 * then packs them into a new slab (fdm_free_aligned) and fills the modules' packed, filter, raw_bias and freqs.
 * With `trains` convolutions stay out of the slab: their weights move with every update, so each is packed when its step
 * runs (fdm_weights_pack_conv2d), which takes as long and saves the memory of all but one.
 * Errors: FDM_BAD_INPUT names all tensors that are missing or misshapen. */
fdm_status fdm_weights_pack(char **slab, struct fdm_graph *g, const fdm_tensors *weights, const fdm_config *config,
                            const struct fdm_backend *backend, const struct fdm_exec *exec, bool trains,
                            const char *where, fdm_error *err);

/* Bytes of the largest packed convolution; packs the one of module `index` from the parameters. */
size_t fdm_weights_conv2d_bytes(const struct fdm_graph *g, const struct fdm_backend *backend);
void fdm_weights_pack_conv2d(void *packed, const struct fdm_graph *g, int index, const struct fdm_parameters *list,
                             const float *parameters, const struct fdm_backend *backend, const struct fdm_exec *exec);

/* Packs the parameters of a slab made with `trains` again after they have moved (buffers stay). */
void fdm_weights_repack(char *slab, struct fdm_graph *g, const struct fdm_parameters *list, const float *parameters,
                        const struct fdm_backend *backend, const struct fdm_exec *exec);

#endif
