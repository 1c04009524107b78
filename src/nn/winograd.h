/* winograd.h - 3x3 convolutions of the f32 backends by Winograd's minimal filtering (simd/winograd.h); internal. */
#ifndef FDM_NN_WINOGRAD_H
#define FDM_NN_WINOGRAD_H

#include "nn/backend.h"

/* F(m x m, 3x3): tiles of size x size, that many points; blocks of 16 channels in a chain; most tiles in a strip, a
 * multiple of every register tile; whether weights are worth fetching ahead (strips too short to hide it). */
struct fdm_winograd {
    int m, size, points, chain_blocks, strip;
    bool prefetch;
};
/* m: 2 or 4. */
const struct fdm_winograd *fdm_winograd_method(int m);
/* Which layers are computed this way: 3x3 with at least 16 channels on both sides; the others stay direct.  Never a
 * matter of the batch or of the machine. */
bool fdm_winograd_suits(int in_channels, int out_channels, int k);

/* Packed weights (of the adjoint convolution: in_channels outputs, taps reversed, no bias).  SIZE_MAX: overflow. */
size_t fdm_winograd_packed_bytes(const struct fdm_winograd *method, int out_channels, int in_channels);
void fdm_winograd_pack(const struct fdm_winograd *method, const struct fdm_exec *exec, void *packed, const float *weight,
                       const float *bias, int out_channels, int in_channels, bool adjoint);

/* out = the convolution with its epilogue (args->k is 3), or with accumulate out += that.  scratch: 64-byte aligned,
 * fdm_winograd_scratch bytes: about half a MB for each thread, whatever the batch and the size of the maps. */
size_t fdm_winograd_scratch(const struct fdm_winograd *method, int in_channels, int out_channels, int threads);
void fdm_winograd_conv2d(const struct fdm_winograd *method, const struct fdm_exec *exec, float *scratch,
                         struct fdm_map *out, const struct fdm_map *in, const struct fdm_conv2d_args *args,
                         bool accumulate);

/* The gradient of the weights by F(2x2, 3x3), dense (out, in, 3, 3): G^T [ sum of (B^T d B)(A dY A^T) over tiles ] G,
 * times args->scale, within a sample one chain of FMAs over FDM_WINOGRAD_CHAIN_TILES tiles, chains added in order; then
 * the tree over samples. */
size_t fdm_winograd_weights_scratch(int n, int threads);
void fdm_winograd_weights_backward(const struct fdm_exec *exec, float *scratch, const struct fdm_map *d_out,
                                   const struct fdm_map *in, const struct fdm_conv2d_backward_args *args);

/* ---- shared by the two ---- */

/* The tiles of a batch of padded inputs, numbered line by line: columns x lines in a sample. */
struct fdm_winograd_tiling {
    const struct fdm_winograd *method;
    const struct fdm_map *in;
    int pad, columns, lines;
};
struct fdm_winograd_tiling fdm_winograd_tile(const struct fdm_winograd *method, const struct fdm_map *in, int pad);

struct fdm_kernels;
/* Row `row` of the points of V for `tiles` tiles from tile `first` on and one block of 16 channels: point c of tile t at
 * v + c*v_point + 16*t.  line: scratch of 16*(m*tiles + 2) floats. */
void fdm_winograd_transform(const struct fdm_winograd_tiling *t, const struct fdm_kernels *kernels, float *v,
                            size_t v_point, float *line, size_t first, int tiles, int block, int row);

#endif
