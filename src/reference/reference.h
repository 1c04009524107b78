/* reference.h - the f64 oracle: every layer of backend.h in plain loops over NCHW, written to be read.
 *
 * Nothing here comes from simd/ or from the f32 layers, so that an agreement of the two means something.
 * Maps are dense (N, C, H, W) doubles; fdm_map.halo is ignored, zero padding is done by bounds checks.
 * Vectors are dense (N, C) doubles.
 */
#ifndef FDM_REFERENCE_H
#define FDM_REFERENCE_H

#include "base/base.h"
#include "nn/backend.h"

/* Pixels of one plane, and of one sample's C planes. */
static inline size_t fdm_ref_plane(const struct fdm_map *m) { return (size_t)m->h * (size_t)m->w; }
static inline size_t fdm_ref_sample(const struct fdm_map *m) { return (size_t)m->c * fdm_ref_plane(m); }
/* Row 0, column 0 of plane (n, c). */
static inline double *fdm_ref_at(const struct fdm_map *m, int n, int c) {
    return (double *)m->data + ((size_t)n * (size_t)m->c + (size_t)c) * fdm_ref_plane(m);
}

/* bytes of a*b*c*d doubles, SIZE_MAX (which no allocation grants) on overflow or a negative factor. */
size_t fdm_ref_bytes(int a, int b, int c, int d);

/* silu(x) = x * sigmoid(x) = x / (1 + e^-x) */
double fdm_ref_silu(double x);

/* silu'(x) = s + x s (1 - s), s = sigmoid(x) */
double fdm_ref_silu_slope(double x);

/* For every value acc of plane (n, c) of `out`, from `first` for `count` pixels, as left there by the layer:
 * raw = acc + bias;  out = (raw + residual) * scale. */
void fdm_ref_epilogue(struct fdm_map *out, int n, int c, size_t first, size_t count, double bias,
                      const struct fdm_epilogue *);

/* target = scale * gradient, or target += scale * gradient: how every data gradient is delivered. */
void fdm_ref_deliver(double *target, const double *gradient, size_t count, double scale, bool accumulate);
/* The same for whole maps of one shape; nothing if the target is NULL. */
void fdm_ref_deliver_map(const struct fdm_exec *, struct fdm_map_target, const struct fdm_map *gradient, double scale);

/* sum_n leaves[n * stride] in the order of sample_tree.h, which is also this: the left tree takes the largest power
 * of two below n leaves, the right tree the rest. */
double fdm_ref_tree_sum(const double *leaves, size_t stride, int n);
/* That power of two; n >= 2. */
int fdm_ref_tree_left(int n);

/* d_bias[c] = sum over the samples' tree of  scale * sum of d_out's pixels in plane (n, c).  leaves: room for n * c. */
void fdm_ref_bias_gradient(double *d_bias, double *leaves, const struct fdm_map *d_out, double scale);

/* Dropout of the value x of pixel y*W + x in plane (n, c): x / (1 - p), or 0 where the mask drops it. */
double fdm_ref_dropout(const struct fdm_dropout *, double x, int n, int c, size_t pixel);

/* C (m x n) = A (m x k) B (k x n), or A transposed (stored k x m), or B transposed (stored n x k); row-major
 * with row strides ldc, lda, ldb.  BLIS dgemm where there is one, else loops. */
enum fdm_ref_transpose { FDM_REF_AB, FDM_REF_ATB, FDM_REF_ABT };
void fdm_ref_matmul(double *c, size_t ldc, enum fdm_ref_transpose, const double *a, size_t lda, const double *b,
                    size_t ldb, int m, int n, int k);

/* The table's functions, documented in nn/backend.h. */
size_t fdm_ref_conv2d_scratch(int n, int in_channels, int out_channels, int k, int out_h, int out_w, int threads);
size_t fdm_ref_conv2d_packed_bytes(int out_channels, int in_channels, int k);
void fdm_ref_conv2d_pack(const struct fdm_exec *, void *packed, const float *weight, const float *bias,
                         int out_channels, int in_channels, int k);
void fdm_ref_conv2d(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *in,
                    const struct fdm_conv2d_args *);
size_t fdm_ref_conv2d_backward_scratch(int n, int in_channels, int out_channels, int k, int h, int w, int threads);
void fdm_ref_conv2d_backward(const struct fdm_exec *, const struct fdm_map *d_out, const struct fdm_map *in,
                             const struct fdm_conv2d_backward_args *);

size_t fdm_ref_linear_packed_bytes(int out_features, int in_features);
void fdm_ref_linear_pack(const struct fdm_exec *, void *packed, const float *weight, const float *bias,
                         int out_features, int in_features);
void fdm_ref_linear(const struct fdm_exec *, struct fdm_vec *out, const struct fdm_vec *in,
                    const struct fdm_linear_args *);
size_t fdm_ref_linear_backward_scratch(int n, int in_features, int out_features, int threads);
void fdm_ref_linear_backward(const struct fdm_exec *, const struct fdm_vec *d_out, const struct fdm_vec *in,
                             const struct fdm_linear_backward_args *);

size_t fdm_ref_groupnorm_packed_bytes(int channels);
void fdm_ref_groupnorm_pack(const struct fdm_exec *, void *packed, const float *weight, const float *bias,
                            int channels);
void fdm_ref_groupnorm(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *in,
                       const struct fdm_groupnorm_args *);
size_t fdm_ref_groupnorm_backward_scratch(int n, int c, int h, int w, int threads);
void fdm_ref_groupnorm_backward(const struct fdm_exec *, const struct fdm_map *d_out, const struct fdm_map *in,
                                const struct fdm_groupnorm_backward_args *);

size_t fdm_ref_attention_scratch(int n, int c, int h, int w, int threads);
void fdm_ref_attention(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *qkv);
size_t fdm_ref_attention_backward_scratch(int n, int c, int h, int w, int threads);
void fdm_ref_attention_backward(const struct fdm_exec *, struct fdm_map_target d_qkv, const struct fdm_map *d_out,
                                const struct fdm_map *qkv);

void fdm_ref_resample(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *in,
                      const struct fdm_resample_args *);
size_t fdm_ref_resample_backward_scratch(int n, int c, int h, int w, int threads);
void fdm_ref_resample_backward(const struct fdm_exec *, const struct fdm_map *d_out,
                               const struct fdm_resample_backward_args *);

size_t fdm_ref_freqs_packed_bytes(int half);
void fdm_ref_freqs_pack(void *packed, const float *fourier, int half);
void fdm_ref_noise_embedding(const struct fdm_exec *, struct fdm_vec *out, const double *c_noise,
                             const void *freqs);
void fdm_ref_swap_halves(const struct fdm_exec *, struct fdm_vec *out, const struct fdm_vec *in);

size_t fdm_ref_map_bytes(int n, int c, int h, int w, int halo);
void fdm_ref_map_import(const struct fdm_exec *, struct fdm_map *out, const double *nchw);
void fdm_ref_map_export(const struct fdm_exec *, double *nchw, const struct fdm_map *in);
void fdm_ref_vec_import(struct fdm_vec *out, const double *rows);
void fdm_ref_vec_export(double *rows, const struct fdm_vec *in);
void fdm_ref_concat(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *a,
                    const struct fdm_map *b);
void fdm_ref_concat_backward(const struct fdm_exec *, struct fdm_map_target d_a, struct fdm_map_target d_b,
                             const struct fdm_map *d_out);
void fdm_ref_add_gradients(const struct fdm_exec *, void *left, const void *right, size_t count);
void fdm_ref_add(const struct fdm_exec *, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b,
                 double scale);

#endif
