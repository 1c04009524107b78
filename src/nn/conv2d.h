/* conv2d.h - what the direct and the Winograd convolution of the f32 backends share; internal. */
#ifndef FDM_NN_CONV2D_H
#define FDM_NN_CONV2D_H

#include "nn/backend.h"

/* A weight tensor (out, in, k, k), or that of its adjoint: (in, out, k, k) with the taps in reverse. */
struct fdm_f32_weight {
    const float *data;
    int outputs, inputs, taps;
    ptrdiff_t output, input; /* floats to the next */
    bool flipped;
};
struct fdm_f32_weight fdm_f32_weight_of(const float *weight, int out_channels, int in_channels, int k, bool adjoint);

/* One vector of 16 output channels of one block of 16 input channels, [tap][16 inputs]; rows of dst (16 outputs each)
 * are `stride` floats apart.  Written line by line; what is read, 16 x 16 x taps floats, stays in the first-level
 * cache. */
void fdm_f32_pack_vector(float *restrict dst, ptrdiff_t stride, const struct fdm_f32_weight *w, int first_out,
                         int first_in);

/* d_bias of the 16 channels of a block: sums of lines added in order, times scale, then the tree over samples. */
void fdm_f32_bias_gradient(const struct fdm_exec *exec, const struct fdm_map *d_out, float scale, float *d_bias,
                           int block);

/* target (+)= scale * d_out */
void fdm_f32_residual_backward(const struct fdm_exec *exec, const struct fdm_map_target *target,
                               const struct fdm_map *d_out, float scale);

#endif
