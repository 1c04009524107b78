/* backend_f32.c - the table of f32 layer functions; the instruction set comes with each call (exec->kernels, conv). */
#include "nn/f32_layers.h"

/* The direct convolution works in its output. */
static size_t conv2d_scratch(int n, int in_channels, int out_channels, int k, int out_h, int out_w, int threads) {
    (void)n, (void)in_channels, (void)out_channels, (void)k, (void)out_h, (void)out_w, (void)threads;
    return 0;
}

const struct fdm_backend *fdm_backend_f32(void) {
    static const struct fdm_backend table = {
        .name = "f32",
        .dtype = FDM_F32,
        .map_bytes = fdm_f32_map_bytes,
        .conv2d_scratch = conv2d_scratch,
        .attention_scratch = fdm_f32_attention_scratch,
        .conv2d_packed_bytes = fdm_f32_conv2d_packed_bytes,
        .conv2d_pack = fdm_f32_conv2d_pack,
        .linear_packed_bytes = fdm_f32_linear_packed_bytes,
        .linear_pack = fdm_f32_linear_pack,
        .groupnorm_packed_bytes = fdm_f32_groupnorm_packed_bytes,
        .groupnorm_pack = fdm_f32_groupnorm_pack,
        .freqs_packed_bytes = fdm_f32_freqs_packed_bytes,
        .freqs_pack = fdm_f32_freqs_pack,
        .map_import = fdm_f32_map_import,
        .map_export = fdm_f32_map_export,
        .vec_import = fdm_f32_vec_import,
        .vec_export = fdm_f32_vec_export,
        .noise_embedding = fdm_f32_noise_embedding,
        .swap_halves = fdm_f32_swap_halves,
        .linear = fdm_f32_linear,
        .conv2d = fdm_f32_conv2d,
        .resample = fdm_f32_resample,
        .groupnorm = fdm_f32_groupnorm,
        .attention = fdm_f32_attention,
        .concat = fdm_f32_concat,
        .add = fdm_f32_add,
        .resample_backward = fdm_f32_resample_backward,
        .groupnorm_backward = fdm_f32_groupnorm_backward,
        .concat_backward = fdm_f32_concat_backward,
        .resample_backward_scratch = fdm_f32_resample_backward_scratch,
        .groupnorm_backward_scratch = fdm_f32_groupnorm_backward_scratch,
        .conv2d_backward = fdm_f32_conv2d_backward,
        .conv2d_backward_scratch = fdm_f32_conv2d_backward_scratch,
        .linear_backward = fdm_f32_linear_backward,
        .linear_backward_scratch = fdm_f32_linear_backward_scratch,
        .attention_backward = fdm_f32_attention_backward,
        .attention_backward_scratch = fdm_f32_attention_backward_scratch,
        .add_gradients = fdm_f32_add_gradients,
    };
    return &table;
}
