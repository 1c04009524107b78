/* f32_layers.h - the layer functions of the f32 backends (portable, avx2, avx512), one section per file.
 *
 * What each computes, and the contract they share, is said in backend.h beside the table member of the same name;
 * here is only what is particular to the f32 versions.  Sizes that overflow are SIZE_MAX. */
#ifndef FDM_NN_F32_LAYERS_H
#define FDM_NN_F32_LAYERS_H

#include "nn/backend.h"

/* ---- conv2d.c: direct convolution; k odd, 1 to 7.
 * One FMA chain per output and block of 16 input channels (k = 1: 128 channels), chains added in channel order.
 * Packed weights depend on exec->conv (the group size); they are read with the exec they were packed with. */
size_t fdm_f32_conv2d_packed_bytes(int out_channels, int in_channels, int k);
void fdm_f32_conv2d_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                         int out_channels, int in_channels, int k);
void fdm_f32_conv2d(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                    const struct fdm_conv2d_args *args);

/* The packed weight of the adjoint convolution (in_channels outputs, taps reversed, no bias), as the way back of the
 * input needs it; fdm_f32_conv2d_packed_bytes(in_channels, out_channels, k). */
void fdm_f32_conv2d_pack_adjoint(const struct fdm_exec *exec, void *packed, const float *weight, int out_channels,
                                 int in_channels, int k);
/* Gradient of the input: chains as in the forward pass, over output channels.  Of the weights: within a sample, one
 * chain over max(1, 128/W) lines of pixels, chains added in order, then times scale, then the tree over samples.  Of
 * the bias: sums of lines added in order, times scale, then the tree. */
size_t fdm_f32_conv2d_backward_scratch(int n, int in_channels, int out_channels, int k, int h, int w, int threads);
void fdm_f32_conv2d_backward(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                             const struct fdm_conv2d_backward_args *args);

/* ---- linear.c: chains of 128 input features.  The packed form is that of a 1x1 convolution. */
size_t fdm_f32_linear_packed_bytes(int out_features, int in_features);
void fdm_f32_linear_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                         int out_features, int in_features);
void fdm_f32_linear(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in,
                    const struct fdm_linear_args *args);

/* Chains of 128 output features for d_in; d_weight and d_bias are trees over samples of single products and values. */
size_t fdm_f32_linear_backward_scratch(int n, int in_features, int out_features, int threads);
void fdm_f32_linear_backward(const struct fdm_exec *exec, const struct fdm_vec *d_out, const struct fdm_vec *in,
                             const struct fdm_linear_backward_args *args);

/* ---- attention.c: chains of 128 channels (scores) and 128 keys (weighted sum).  Scratch holds the gathered q, k, v
 * of `threads` samples and a strip of score rows per thread, never all scores of a sample. */
size_t fdm_f32_attention_scratch(int n, int c, int h, int w, int threads);
void fdm_f32_attention(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *qkv);

/* Chains of 128 channels (scores, gradient of the weights), keys (d_q) and queries (d_k, d_v).  Scratch holds, for
 * `threads` samples, the gathered operands and results and two strips of 128 score rows. */
size_t fdm_f32_attention_backward_scratch(int n, int c, int h, int w, int threads);
void fdm_f32_attention_backward(const struct fdm_exec *exec, struct fdm_map_target d_qkv, const struct fdm_map *d_out,
                                const struct fdm_map *qkv);

/* ---- f32_map.c: SIZE_MAX if the size overflows. */
size_t fdm_f32_map_bytes(int n, int c, int h, int w, int halo);
void fdm_f32_map_import(const struct fdm_exec *exec, struct fdm_map *out, const double *nchw);
void fdm_f32_map_export(const struct fdm_exec *exec, double *nchw, const struct fdm_map *in);
void fdm_f32_vec_import(struct fdm_vec *out, const double *rows);
void fdm_f32_vec_export(double *rows, const struct fdm_vec *in);

/* ---- groupnorm.c: groups must divide the channels. */
size_t fdm_f32_groupnorm_packed_bytes(int channels);
void fdm_f32_groupnorm_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                            int channels);
void fdm_f32_groupnorm(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                       const struct fdm_groupnorm_args *args);
size_t fdm_f32_groupnorm_backward_scratch(int n, int c, int h, int w, int threads);
void fdm_f32_groupnorm_backward(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                                const struct fdm_groupnorm_backward_args *args);

/* ---- resample.c; backward: pad <= len. */
void fdm_f32_resample(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                      const struct fdm_resample_args *args);
size_t fdm_f32_resample_backward_scratch(int n, int c, int h, int w, int threads);
void fdm_f32_resample_backward(const struct fdm_exec *exec, const struct fdm_map *d_out,
                               const struct fdm_resample_backward_args *args);

/* ---- elementwise.c */
void fdm_f32_add(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b,
                 double scale);
void fdm_f32_concat(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b);
void fdm_f32_concat_backward(const struct fdm_exec *exec, struct fdm_map_target d_a, struct fdm_map_target d_b,
                             const struct fdm_map *d_out);
void fdm_f32_add_gradients(const struct fdm_exec *exec, void *left, const void *right, size_t count);


/* ---- embedding.c */
size_t fdm_f32_freqs_packed_bytes(int half);
void fdm_f32_freqs_pack(void *packed, const float *fourier, int half);
void fdm_f32_noise_embedding(const struct fdm_exec *exec, struct fdm_vec *out, const double *c_noise,
                             const void *freqs);
void fdm_f32_swap_halves(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in);

#endif
