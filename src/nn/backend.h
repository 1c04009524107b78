/* backend.h - the table of layer functions that a backend provides; internal to the library.
 *
 * The network (graph.c, unet.c, block.c) moves tensors and calls this table; it never touches elements, and
 * the layout of an activation is the backend's own business:
 *   reference            f64, plain NCHW without halo                                    (src/reference/)
 *   portable|avx2|avx512 f32, nChw16c: [N][ceil(C/16)][H+2*halo][W+2*halo][16], halo and
 *                        pad channels always zero, so that convolutions need no border code  (src/nn/ over simd/)
 *
 * Contract of every layer function:
 *   - it writes the whole of its outputs, halo and pad channels (zeros) included;
 *   - outputs never overlap inputs, unless its comment allows it;
 *   - the result for a sample does not depend on n, on exec->threads or on the ISA (CONTRACT.md, P1);
 *   - it cannot fail: all memory is given (scratch comes from the *_scratch queries).
 */
#ifndef FDM_NN_BACKEND_H
#define FDM_NN_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/denoiser.h"
#include "fdm/tensor.h"

struct fdm_kernels;      /* simd/kernel_table.h */
struct fdm_conv_kernels; /* simd/conv.h */

/* A batch of feature maps, (N, C, H, W). */
struct fdm_map {
    int n, c, h, w;
    int halo;   /* zero border kept around every plane (f32 backends); 0 for the reference */
    void *data; /* 64-byte aligned */
};

/* A batch of feature vectors, (N, C), row-major without padding, elements of the backend's type. */
struct fdm_vec {
    int n, c;
    void *data;
};

/* How and with what to run. */
struct fdm_exec {
    int threads;                       /* >= 1 */
    const struct fdm_kernels *kernels; /* NULL for the reference */
    const struct fdm_conv_kernels *conv; /* NULL for the reference */
    const void *settings;              /* of the backends that have any: const fdm_emulation (backend_emulated.h) */
    void *scratch;                     /* 64-byte aligned, as large as the largest *_scratch answer */
    size_t scratch_bytes;
};

/* What follows a convolution or a resampling:  raw = acc + bias;  out = (raw + residual) * scale.
 * Two roundings, never an FMA, so that tracing (raw != NULL) changes no bits. */
struct fdm_epilogue {
    const struct fdm_map *residual; /* or NULL: nothing added.  Same shape as out, any halo. */
    double scale;                   /* 1 for none; rounded to f32 by the f32 backends */
    struct fdm_map *raw;            /* or NULL; else also receives the value before residual and scale */
};

/* Cross-correlation with zero padding: out[n,o,y,x] = sum_{i,ky,kx} w[o,i,ky,kx] in[n,i,y+ky-pad,x+kx-pad] + bias[o]. */
struct fdm_conv2d_args {
    int k;              /* kernel size, odd: 1 or 3 */
    int pad;            /* zero padding; out.h = in.h + 2*pad - k + 1.  in.halo >= pad for the f32 backends */
    const void *weight; /* as packed by conv2d_pack */
    struct fdm_epilogue epilogue;
};

/* Depthwise resampling by 2 with the filter F (len x len), SPEC 3:
 *   down: out[y,x] = sum F[i,j] in[2y+i-pad, 2x+j-pad],         out.h = (in.h + 2*pad - len)/2 + 1
 *   up:   out[y,x] = sum over (i,j) with 2*iy - pad + i = y, 2*ix - pad + j = x of  4*F[i,j] in[iy,ix]
 *         (transposed convolution),                              out.h = (in.h-1)*2 - 2*pad + len
 * Reads beyond the input are zero whatever in.halo is. */
struct fdm_resample_args {
    bool up;
    int pad, len;        /* len <= FDM_MAX_FILTER */
    const float *filter; /* [len][len], the module's resample_filter buffer (without the factor 4) */
    const float *bias;   /* [C] or NULL (the fused variant adds the convolution's bias here) */
    struct fdm_epilogue epilogue;
};
enum { FDM_MAX_FILTER = 16 };

/* y = silu?( (x + add - mean) / sqrt(var + eps) * weight + bias ), statistics per sample and group of
 * adjacent channels, biased variance, eps = 1e-6.  Groups = min(32, C/4) (SPEC 3). */
struct fdm_groupnorm_args {
    int groups;
    double eps;
    const struct fdm_vec *add; /* (N, C) added to x before normalising, or NULL */
    const void *param;         /* as packed by groupnorm_pack */
    bool silu;
    struct fdm_map *raw; /* or NULL; else also receives the value before SiLU (may have another halo than out) */
    const struct fdm_dropout *dropout; /* or NULL; applied last, to the output (not to raw) */
};

/* Inverted dropout, out = keep ? in / (1 - p) : 0, with a mask that is a function of where an element is, so that
 * nothing has to be stored and no split of the batch changes it:
 *   word = philox4x32_10(counter = {(y*W + x)/4, layer << 16 | c, 0, 0}, key = keys[n])[(y*W + x) % 4]
 *   keep = word >= p * 2^32 (rounded to nearest);   f32: factor (float)(1/(1 - p)), one multiplication */
struct fdm_dropout {
    double p;             /* in [0, 1) */
    uint32_t layer;       /* < 65536: tells the dropout layers of a network apart */
    const uint64_t *keys; /* [n]: one per sample; key words {low, high} */
};

/* raw = W (in * in_scale) + bias;  out = raw + residual, then SiLU if asked (never both in this network). */
struct fdm_linear_args {
    const void *weight;             /* as packed by linear_pack */
    double in_scale;                /* 1 for none; map_label uses sqrt(label_dim) */
    const struct fdm_vec *residual; /* or NULL */
    bool silu;
    struct fdm_vec *raw; /* or NULL */
};

/* --- Backward.  d_x stands for dL/dx, L the loss; a layer gets d_out and gives the gradients of its operands. ---
 *
 * Besides the contract above:
 *   - A data gradient goes to a target that is overwritten, or added to (accumulate: target = target + gradient, the
 *     gradient rounded first, then one addition); a NULL target is not wanted.  Targets overlap neither each other nor
 *     d_out or the forward's operands.
 *   - A parameter gradient is overwritten with the sum over the samples of the call.  It is dense, in the published
 *     order of its parameter ([out][in][k][k], [out][in], [C]), in elements of the backend's type.
 *   - Sums over samples follow one fixed tree (fdm_tree_*, sample_tree.h): adjacent samples first, then adjacent
 *     pairs, ...  So the gradients of 8 samples are, to the bit, what the tree makes of the gradients of 2 x 4 or
 *     8 x 1 (for rounds of a power of two samples).  Within a sample, sums over pixels have a fixed order of their own.
 *   - Nothing of the forward pass is kept but its operands: statistics, softmax rows and activations before SiLU are
 *     computed again.
 *   - Maps of the f32 backends: the halo of d_out is zero and at least k-1-pad wide for a convolution. */
struct fdm_map_target {
    struct fdm_map *map; /* or NULL */
    bool accumulate;
};
struct fdm_vec_target {
    struct fdm_vec *vec; /* or NULL */
    bool accumulate;
};

/* out = (conv(in) + bias + residual) * scale:
 *   d_residual = scale d_out;  d_bias[o] = scale sum d_out;  d_weight[o,i,ky,kx] = scale sum d_out[o,y,x] in[i,y+ky-pad,x+kx-pad];
 *   d_in = scale * (full correlation of d_out with the flipped, transposed weight). */
struct fdm_conv2d_backward_args {
    int k, pad;
    double scale;
    const float *weight; /* dense [out][in][k][k] */
    struct fdm_map_target d_in, d_residual;
    void *d_weight, *d_bias; /* d_bias may be NULL */
};

/* out = scale * (resample(in) + bias + residual). */
struct fdm_resample_backward_args {
    bool up;
    int pad, len;
    const float *filter;
    double scale;
    struct fdm_map_target d_in, d_residual;
    void *d_bias; /* [C] or NULL */
};

/* in and args as in the forward call (args->forward.raw is ignored); d_add per sample, (N, C). */
struct fdm_groupnorm_backward_args {
    struct fdm_groupnorm_args forward;
    struct fdm_map_target d_in;
    struct fdm_vec_target d_add;
    void *d_weight, *d_bias;
};

/* raw = W (in * in_scale) + bias; out = raw + residual or silu(raw). */
struct fdm_linear_backward_args {
    const float *weight, *bias; /* dense; bias may be NULL */
    double in_scale;
    bool silu;
    struct fdm_vec_target d_in, d_residual;
    void *d_weight, *d_bias; /* d_bias may be NULL */
};

struct fdm_backend {
    const char *name;
    fdm_dtype dtype; /* FDM_F32 or FDM_F64: the element type of maps and vectors */

    /* bytes of a map (n, c, h, w, halo); of a vector (n, c). */
    size_t (*map_bytes)(int n, int c, int h, int w, int halo);
    /* scratch that a call needs, in bytes, for any exec with that many threads */
    size_t (*attention_scratch)(int n, int c, int h, int w, int threads);
    size_t (*conv2d_scratch)(int n, int in_channels, int out_channels, int k, int out_h, int out_w, int threads);
    /* the same of linear (h = w = 1), resample and groupnorm for an input (n, c, h, w); NULL where they need none */
    size_t (*operand_scratch)(int n, int c, int h, int w);

    /* Packing, once per model, from f32 row-major tensors.  bias may be NULL (then zero). */
    size_t (*conv2d_packed_bytes)(int out_channels, int in_channels, int k);
    void (*conv2d_pack)(const struct fdm_exec *, void *packed, const float *weight, const float *bias,
                        int out_channels, int in_channels, int k);
    size_t (*linear_packed_bytes)(int out_features, int in_features);
    void (*linear_pack)(const struct fdm_exec *, void *packed, const float *weight, const float *bias,
                        int out_features, int in_features);
    size_t (*groupnorm_packed_bytes)(int channels);
    void (*groupnorm_pack)(const struct fdm_exec *, void *packed, const float *weight, const float *bias,
                           int channels);
    /* Frequencies of the noise embedding, K/2 of them: fourier = the f32 buffer map_noise.freqs, or NULL for
     * positional (10000^(-i/(K/2-1))); rounded as the published program rounds them (f32 backends). */
    size_t (*freqs_packed_bytes)(int half);
    void (*freqs_pack)(void *packed, const float *fourier, int half);

    /* To and from plain NCHW doubles (f32 backends round; their values convert back exactly). */
    void (*map_import)(const struct fdm_exec *, struct fdm_map *out, const double *nchw);
    void (*map_export)(const struct fdm_exec *, double *nchw, const struct fdm_map *in);
    void (*vec_import)(struct fdm_vec *out, const double *rows);
    void (*vec_export)(double *rows, const struct fdm_vec *in);

    /* out (N, K) = [cos a, sin a], a[j] = c_noise[n] * freqs[j]: the output of module map_noise. */
    void (*noise_embedding)(const struct fdm_exec *, struct fdm_vec *out, const double *c_noise, const void *freqs);
    /* out = in with its two halves exchanged: [sin, cos]. */
    void (*swap_halves)(const struct fdm_exec *, struct fdm_vec *out, const struct fdm_vec *in);
    void (*linear)(const struct fdm_exec *, struct fdm_vec *out, const struct fdm_vec *in,
                   const struct fdm_linear_args *);
    void (*conv2d)(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *in,
                   const struct fdm_conv2d_args *);
    void (*resample)(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *in,
                     const struct fdm_resample_args *);
    void (*groupnorm)(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *in,
                      const struct fdm_groupnorm_args *);
    /* One head over all C channels; qkv (N, 3C, H, W), channel 3j+{0,1,2} is {q,k,v} of channel j:
     * w = softmax_k(q^T (k/sqrt(C))), out = w v, out (N, C, H, W). */
    void (*attention)(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *qkv);
    /* out = channels of a, then of b. */
    void (*concat)(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b);
    /* out = (a + b) * scale; b may be NULL (a copy that changes the halo, times scale). */
    void (*add)(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b,
                double scale);

    /* Backward, one beside each layer above that a gradient can pass. */
    void (*conv2d_backward)(const struct fdm_exec *, const struct fdm_map *d_out, const struct fdm_map *in,
                            const struct fdm_conv2d_backward_args *);
    void (*resample_backward)(const struct fdm_exec *, const struct fdm_map *d_out,
                              const struct fdm_resample_backward_args *);
    void (*groupnorm_backward)(const struct fdm_exec *, const struct fdm_map *d_out, const struct fdm_map *in,
                               const struct fdm_groupnorm_backward_args *);
    void (*linear_backward)(const struct fdm_exec *, const struct fdm_vec *d_out, const struct fdm_vec *in,
                            const struct fdm_linear_backward_args *);
    void (*attention_backward)(const struct fdm_exec *, struct fdm_map_target d_qkv, const struct fdm_map *d_out,
                               const struct fdm_map *qkv);
    void (*concat_backward)(const struct fdm_exec *, struct fdm_map_target d_a, struct fdm_map_target d_b,
                            const struct fdm_map *d_out);
    /* Scratch in bytes of the backward calls that need any, for operands of this size (h, w: of d_out). */
    size_t (*conv2d_backward_scratch)(int n, int in_channels, int out_channels, int k, int h, int w, int threads);
    size_t (*resample_backward_scratch)(int n, int c, int h, int w, int threads);
    size_t (*groupnorm_backward_scratch)(int n, int c, int h, int w, int threads);
    size_t (*linear_backward_scratch)(int n, int in_features, int out_features, int threads);
    size_t (*attention_backward_scratch)(int n, int c, int h, int w, int threads);
    /* left[i] = left[i] + right[i]: the tree's addition, for whole gradients of accumulation rounds. */
    void (*add_gradients)(const struct fdm_exec *, void *left, const void *right, size_t count);
};

/* The f64 oracle (src/reference/), and the f32 tables (src/nn/backend_f32.c), one for each way
 * to compute convolutions, each of which serves all three ISAs. */
const struct fdm_backend *fdm_backend_reference(void);
const struct fdm_backend *fdm_backend_f32(fdm_conv_mode mode);

#endif
