/* init.h - the weights that training starts from, as the published program draws them.
 *
 * In the order of the published constructor every layer draws its weight, then its bias, from the generator:
 *     weight = (2 u - 1) sqrt(6 / (fan_in + fan_out)) * gain,  fan = channels k^2,  u ~ U[0, 1)
 *     gain   = 1e-5 for conv1, proj and _aux_conv, sqrt(0.2) for qkv, 1 elsewhere
 *     bias   = (2 u - 1) ... * 0: draws are consumed, the value is 0 (with their sign)
 * Norms are 1 and 0.  The buffer map_noise.freqs (fourier) is N(0, 1) * 16; resample_filter is f f^T / (sum f)^2.
 */
#ifndef FDM_INIT_H
#define FDM_INIT_H

#include <stdint.h>

#include "fdm/config.h"
#include "fdm/random.h"
#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills an empty (all zero) set with the parameters and buffers of the network under their state_dict names, in the
 * order of a state_dict, and with the metadata key `config`: what a model file holds.  Uniform numbers of the kind
 * torch-cpu are exact, so are then the weights; fourier's normals are PyTorch's within 2e-6 * 16.
 * The config must have passed fdm_config_check.  Errors, after which the set is empty: FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_init_weights(fdm_tensors *set, const fdm_config *config, fdm_rng *rng, fdm_error *err);

/* The generator (torch-cpu) as the published training loop of one process with `--seed seed` has it when it makes the
 * network: RandomState(seed mod 2^31).randint(2^31) seeds it, and its data loader has taken two words. */
FDM_API void fdm_init_seed_published(fdm_rng *rng, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
