/* conv.h - the one micro-kernel under convolutions, linear layers and attention products.
 *
 * Everything is seen as   sum[pixel][o] = sum over segments s, i < 16:  weight[s][i][o] * x[pixel + segment_s + i]
 * where a segment is a run of 16 inputs: 16 channels at one tap of a convolution (9 segments for 3x3), one of
 * eight channel blocks of a 1x1 convolution, 16 features of a linear layer, 16 keys of an attention row.
 *
 * Numerics (CONTRACT.md P1, the same on every ISA): the segments of one call are ONE chain of fused multiply-adds
 * per output, from zero, in the order s, i.  A call then adds its chain to the running sum.  What goes into a chain
 * is fixed by the caller and never tuned:  k x k convolutions: the k*k taps of one block of 16 input channels (144
 * links for 3x3);  1x1 convolutions, linear layers, attention products: 128 terms (8 segments). Vectors run over
 * outputs, so neither tile sizes nor strips nor threads can touch the bits.
 */
#ifndef FDM_SIMD_CONV_H
#define FDM_SIMD_CONV_H

#include <stddef.h>

#include "simd/kernels.h"

enum {
    FDM_CONV_LANES = 16,        /* outputs in a vector, inputs in a segment */
    FDM_CONV_MAX_VECTORS = 3,   /* vectors of outputs in a group, any ISA */
    FDM_CONV_CHAIN_SEGMENTS = 8 /* segments of a chain where there are no taps (128 terms) */
};

/* What follows the last chain:  raw = sum + bias;  out = (raw + residual) * scale, each rounded by itself.
 * out takes the place of the sum, or is added to a target (one more rounding). */
struct fdm_conv_finish {
    const float *bias;               /* [vectors*16] or NULL */
    const float *residual;           /* or NULL; addressed like sum below */
    const ptrdiff_t *residual_pixel; /* [pixels] */
    ptrdiff_t residual_vector;
    float *raw; /* or NULL; addressed like sum */
    const ptrdiff_t *raw_pixel;
    ptrdiff_t raw_vector;
    float *target; /* or NULL; addressed like sum.  target = target + out, and the sum is left as it was */
    const ptrdiff_t *target_pixel;
    ptrdiff_t target_vector;
    float scale;
    int lanes; /* valid lanes of the last vector, 1..16: pad channels become zero even if the input holds NaN */
};

/* One chain for a strip of pixels and a group of output vectors.  All offsets count floats; x and weight are
 * 64-byte aligned, and so is every vector of sum, residual and raw. */
struct fdm_conv_chain {
    const float *x;
    const ptrdiff_t *x_pixel;   /* [pixels] where each pixel starts */
    const ptrdiff_t *x_segment; /* [segments] where its segments lie from there */
    const float *weight;        /* [segments][16][vectors*16] */
    float *sum; /* running sums, in the output map: vector v of pixel p at sum_pixel[p] + v*sum_vector */
    const ptrdiff_t *sum_pixel; /* [pixels] */
    ptrdiff_t sum_vector;
    int segments, pixels, vectors;        /* vectors <= max_vectors */
    bool first;                           /* the sum starts here: what `sum` held is not read */
    const struct fdm_conv_finish *finish; /* NULL but for the last chain */
    const float *next; /* NULL, or the weights that the next chain reads, as many: fetched meanwhile */
};

/* One chain of a weight gradient, the product whose sums run over pixels:
 *     sum[row][v*16 + o]  +=  sum over lines, over the pixels p of a line:  d[p][v*16 + o] * x[row + p]
 * One chain of fused multiply-adds per element, from zero, over all the pixels of the call in that order; then one
 * addition to the running sum.  A row is an input channel at one tap, or a key of attention; d holds 16 outputs a
 * vector.  Which pixels make up a call is the caller's, and fixed: about 128 (FDM_CONV_CHAIN_PIXELS).
 * Offsets count floats; the vectors of d and sum are 64-byte aligned. */
struct fdm_conv_pixel_chain {
    const float *x;
    const ptrdiff_t *x_row;   /* [rows] where each row's first pixel lies */
    ptrdiff_t x_line, x_step; /* to the next line, to the next pixel */
    const float *d;
    ptrdiff_t d_line, d_vector; /* pixels are adjacent: 16 floats apart */
    float *sum;                 /* vector v of row r at sum + r*sum_row + 16*v */
    ptrdiff_t sum_row;
    int rows, vectors, lines, width; /* vectors <= max_vectors; width: pixels in a line */
    bool first;                      /* the sum starts here: what `sum` held is not read */
};
enum { FDM_CONV_CHAIN_PIXELS = 128 };

struct fdm_conv_kernels {
    const char *name;
    int tile;        /* pixels (pixel_chain: rows) in a register tile: strips should be multiples of it */
    int max_vectors; /* vectors in a group of outputs; weights are packed for it */
    void (*chain)(const struct fdm_conv_chain *c);
    void (*pixel_chain)(const struct fdm_conv_pixel_chain *c);
};

extern const struct fdm_conv_kernels fdm_conv_kernels_portable, fdm_conv_kernels_avx2, fdm_conv_kernels_avx512;

/* `vectors` outputs are split as evenly as possible into groups of at most `max`: 16 = 3+3+3+3+2+2, 4 = 2+2. */
static inline int fdm_conv_groups(int vectors, int max) {
    return (vectors + max - 1) / max;
}
/* Where part `part` of `parts` parts of `count` things begins, the larger parts first. */
static inline int fdm_part_first(int count, int parts, int part) {
    const int base = count / parts, larger = count % parts;
    return part * base + (part < larger ? part : larger);
}
static inline int fdm_conv_group_first(int vectors, int max, int group) {
    return fdm_part_first(vectors, fdm_conv_groups(vectors, max), group);
}
static inline int fdm_conv_group_size(int vectors, int max, int group) {
    return fdm_conv_group_first(vectors, max, group + 1) - fdm_conv_group_first(vectors, max, group);
}

#endif
