/* kernel_table.h - the kernels written over v16, one table per instruction set.
 *
 * FDM_KERNELS is the one list: table members, prototypes and tables come from it.  Pointers need no alignment
 * unless it says so; `float a[16]` is one value per lane (channel).  Outputs may be the same array as an input of
 * the same length, but may not overlap it otherwise.
 */
#ifndef FDM_SIMD_KERNEL_TABLE_H
#define FDM_SIMD_KERNEL_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "simd/kernels.h"
#include "simd/winograd.h"

/* A plane of nChw16c: w pixels of 16 channels a row, rows `row` floats apart, 64-byte aligned, without its halo. */
struct fdm_plane {
    float *p;
    ptrdiff_t row;
};
struct fdm_const_plane {
    const float *p;
    ptrdiff_t row;
};

/* Per channel, the sum over a plane of d = (x + shift) + shift_low or of d^2: hi + lo. */
struct fdm_gn_sum {
    float shift[16], shift_low[16]; /* in: one f64 number in two parts */
    float hi[16], lo[16];           /* out: the rounded sum, and the rounding errors of adding up rows */
};

/* Dropout of a plane of 16 channels (backend.h, struct fdm_dropout): an element whose word is below the threshold
 * becomes 0, the others are multiplied by factor. */
struct fdm_plane_dropout {
    uint32_t key[2];
    uint32_t channel; /* layer << 16 | the channel of lane 0, a multiple of 16 */
    uint32_t threshold;
    float factor;
};

/* One step of every particle, x += xx x + xv v + px n1, v += vx x + vv v + pv n1 + qv n2 (fdm/process.h). */
struct fdm_particle_step {
    float xx, xv, vx, vv, px, pv, qv;
};
struct fdm_particle_run {
    const struct fdm_particle_step *steps; /* (count) */
    size_t count;
    int normals;      /* a step takes: 1 (qv = 0), or 2 */
    uint32_t refine;  /* of 1 normal: the sum of this many draws over its square root; else 1 */
    uint32_t key[2];
    uint32_t first;   /* number of particle 0 in the stream */
};

/* out = silu?( (x + shift) * scale + bias ), the last two in one FMA, then dropout unless NULL; raw gets the value
 * before SiLU unless raw.p is NULL.  In and out planes are h x w. */
struct fdm_gn_apply {
    struct fdm_plane out, raw;
    struct fdm_const_plane x;
    const float *shift, *scale, *bias; /* [16] */
    bool silu;
    const struct fdm_plane_dropout *dropout;
};

/* The way back through that to (x + shift), first pass: dy = d_out * silu?'(y) * dropout, y as above, with its sums
 * over the plane, rounded sum hi and rounding errors lo as in fdm_gn_sum.  Without SiLU and dropout dy is d_out and
 * dy.p must be NULL; else it is written, but its halo is not. */
struct fdm_gn_backward {
    struct fdm_const_plane x, d_out;
    struct fdm_plane dy;
    const float *shift, *scale, *bias; /* [16] */
    bool silu;
    const struct fdm_plane_dropout *dropout;
    float sum_hi[16], sum_lo[16]; /* out: sum of dy */
    float dot_hi[16], dot_lo[16]; /* out: sum of dy * (x + shift) */
};

/* Second pass: gradient = dy * dy_scale + ((x + shift) * x_scale + offset), two FMAs; d_in = gradient, or
 * d_in + gradient. */
struct fdm_gn_gradient {
    struct fdm_plane d_in;
    struct fdm_const_plane x, dy;
    const float *shift, *dy_scale, *x_scale, *offset; /* [16] */
    bool accumulate;
};

/* One output row of a depthwise resampling by 2 (backend.h, fdm_resample_args): w output pixels x,
 *     sum = one FMA chain over t < rows (outer) and j ascending (inner) of
 *           filter[t * filter_row + j] * in[t * in_row + 16 * ix],    0 <= ix < in_w only, where
 *     down: ix = 2x + j - pad;   up: ix = (x + pad - j)/2 for j of the parity of x + pad
 * then raw = sum + bias and out = (raw + residual) * scale.  The caller has clipped the rows in the same way. */
struct fdm_resample_row {
    float *out, *raw;      /* [w][16]; raw may be NULL */
    const float *residual; /* [w][16] or NULL */
    const float *in;       /* [in_w][16], the first row that is read */
    ptrdiff_t in_row;      /* floats to the next one; negative if up */
    const float *filter;
    ptrdiff_t filter_row;
    int rows, w, in_w, pad, len;
    bool up;
    const float *bias; /* [16] or NULL */
    float scale;
};

/* One step of Adam on a stretch of parameters (src/train/optimizer.h), with its numbers rounded to f32. */
struct fdm_adam_step {
    float beta1, one_minus_beta1, beta2, one_minus_beta2;
    float eps, root_correction2; /* sqrt(1 - beta2^t) */
    float minus_rate;            /* -lr/(1 - beta1^t) */
    float decay;                 /* of the average */
};

/* X(name, parameters)
 *   vexp ... vsilu_gradient: y[i] = f(x[i]), i < n: vmath.h
 *   vfma, vdiv, vsqrt: y = a*b + c, a/b, sqrt(a): the vector type's own operations, for tests
 *   mul_wide: high and low words of the unsigned products a*b, n a multiple of 16: for tests too
 *   sum, max: horizontal results over x[0..n): lane j collects x[j], x[j+16], ... in order, then the fixed tree
 *   cos_sin: angles c*freqs[j] rounded to f32
 *   scale: y = x * s;  add_scale: y = (a + b) * s
 *   scale_add: y = y + x * s, both rounded
 *   plane_sum: sum[j] of lane j over a plane: one chain of additions per line from zero, lines added in order
 *   silu_backward: y = d * silu'(x)
 *   copy_lanes: for each of n pixels (16 floats), lanes [to, to+count) of y = lanes [from, from+count) of x
 *   add_lanes: the same with +=
 *   transpose: dst[c * dst_row + r] = src[r * src_row + c], r < rows, c < columns
 *   split_triplets: of n triplets, a[i] = x[3i], b[i] = x[3i+1] / divisor, c[i] = x[3i+2]
 *   merge_triplets: the reverse, x[3i+1] = b[i] / divisor
 *   softmax_rows: each row of len values, in place: e = exp(x - max), divided by their sum
 *   softmax_backward: rows of len weights p and of d = dL/dp: d = p * (d - sum of p d), the sum in lanes as `sum`,
 *       multiplied and added in one rounding
 *   winograd...: winograd.h.  weight: u[i*u_point + o] from g[9][16] (tap, output o)
 *   adam: param, m, v, ema updated; *cleaned receives how many of grad were NaN or infinite
 *   particles: x, v (n) moved by all steps of a run.  Particle i draws the normals of Box and Muller from Philox with the
 *       run's key and counter {b, first + i, 0, 0}, b = 0, 1, ...; each block of four words gives four, two from a
 *       pair (u, w): sqrt(-2 ln u) {cos, sin} 2 pi w
 *   normals: the first of those blocks alone, (4, n)
 *   perturb: y = (x + noise * sigma) * s, each operation rounded
 *   perturb_state: x, v (n) = one step from x0, v0 (v0 may be NULL: 0) with given normals n1, n2 (n2 may be NULL: qv = 0)
 *   fma_chains: n FMAs on each of as many independent vectors as keep a core busy, starting from x[16], which receives
 *       their sum; *flops = operations done.  For measurements of the peak. */
#define FDM_KERNELS(X)                                                                                             \
    X(vexp, (float *y, const float *x, size_t n))                                                                  \
    X(vlog, (float *y, const float *x, size_t n))                                                                  \
    X(vsin, (float *y, const float *x, size_t n))                                                                  \
    X(vcos, (float *y, const float *x, size_t n))                                                                  \
    X(vsigmoid, (float *y, const float *x, size_t n))                                                              \
    X(vtanh, (float *y, const float *x, size_t n))                                                                 \
    X(vsilu, (float *y, const float *x, size_t n))                                                                 \
    X(vfma, (float *y, const float *a, const float *b, const float *c, size_t n))                                  \
    X(vdiv, (float *y, const float *a, const float *b, size_t n))                                                  \
    X(vsilu_gradient, (float *y, const float *x, size_t n))                                                        \
    X(vsqrt, (float *y, const float *a, size_t n))                                                                 \
    X(mul_wide, (int32_t *high, int32_t *low, const int32_t *a, const int32_t *b, size_t n))                       \
    X(sum, (float *result, const float *x, size_t n))                                                              \
    X(max, (float *result, const float *x, size_t n))                                                              \
    X(cos_sin, (float *cos_out, float *sin_out, float c, const float *freqs, size_t n))                            \
    X(scale, (float *y, const float *x, float s, size_t n))                                                        \
    X(add_scale, (float *y, const float *a, const float *b, float s, size_t n))                                    \
    X(scale_add, (float *y, const float *x, float s, size_t n))                                                    \
    X(plane_sum, (float sum[16], struct fdm_const_plane x, int h, int w))                                          \
    X(silu_backward, (float *y, const float *d, const float *x, size_t n))                                         \
    X(copy_lanes, (float *y, const float *x, int to, int from, int count, size_t n))                               \
    X(add_lanes, (float *y, const float *x, int to, int from, int count, size_t n))                                \
    X(transpose, (float *dst, ptrdiff_t dst_row, const float *src, ptrdiff_t src_row, int rows, int columns))      \
    X(split_triplets, (float *a, float *b, float *c, const float *x, float divisor, size_t n))                     \
    X(merge_triplets, (float *x, const float *a, const float *b, const float *c, float divisor, size_t n))         \
    X(softmax_rows, (float *rows, int n_rows, int len, ptrdiff_t stride))                                          \
    X(softmax_backward, (float *d, const float *p, int n_rows, int len, ptrdiff_t stride))                         \
    X(gn_sum, (struct fdm_gn_sum * s, struct fdm_const_plane x, int h, int w))                                     \
    X(gn_sumsq, (struct fdm_gn_sum * s, struct fdm_const_plane x, int h, int w))                                   \
    X(gn_apply, (const struct fdm_gn_apply *a, int h, int w))                                                      \
    X(gn_backward, (struct fdm_gn_backward * b, int h, int w))                                                     \
    X(gn_gradient, (const struct fdm_gn_gradient *g, int h, int w))                                                \
    X(resample_row, (const struct fdm_resample_row *r))                                                            \
    X(winograd2_input, (const struct fdm_winograd_input *a))                                                       \
    X(winograd2_output, (const struct fdm_winograd_output *a))                                                     \
    X(winograd2_weight, (float *u, ptrdiff_t u_point, const float *g))                                             \
    X(winograd2_spread, (const struct fdm_winograd_spread *a))                                                     \
    X(winograd2_gather, (const struct fdm_winograd_gather *a))                                                     \
    X(winograd4_input, (const struct fdm_winograd_input *a))                                                       \
    X(winograd4_output, (const struct fdm_winograd_output *a))                                                     \
    X(winograd4_weight, (float *u, ptrdiff_t u_point, const float *g))                                             \
    X(adam, (float *param, float *m, float *v, float *ema, const float *grad, const struct fdm_adam_step *step,    \
             size_t *cleaned, size_t n))                                                                           \
    X(particles, (float *x, float *v, const struct fdm_particle_run *run, size_t n))                                \
    X(normals, (float *z, const uint32_t key[2], uint32_t first, size_t n))                                        \
    X(perturb, (float *y, const float *x, const float *noise, float sigma, float s, size_t n))                     \
    X(perturb_state, (float *x, float *v, const float *x0, const float *v0, const float *n1, const float *n2,      \
                      const struct fdm_particle_step *step, size_t n))                                             \
    X(fma_chains, (double *flops, float *x, size_t n))

struct fdm_kernels {
    enum fdm_isa isa;
    const char *isa_name;
#define FDM_KERNEL_MEMBER(name, params) void(*name) params;
    FDM_KERNELS(FDM_KERNEL_MEMBER)
#undef FDM_KERNEL_MEMBER
};

extern const struct fdm_kernels fdm_kernels_portable, fdm_kernels_avx2, fdm_kernels_avx512;

#define FDM_KERNEL_PROTOTYPES(name, params)                                                                        \
    void fdm_##name##_portable params;                                                                             \
    void fdm_##name##_avx2 params;                                                                                 \
    void fdm_##name##_avx512 params;
FDM_KERNELS(FDM_KERNEL_PROTOTYPES)
#undef FDM_KERNEL_PROTOTYPES

#endif
