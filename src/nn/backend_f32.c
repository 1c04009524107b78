/* backend_f32.c - the tables of f32 layer functions, one for each way to compute a convolution; the instruction set comes
 * with each call (exec->kernels, conv). */
#include <string.h>

#include "base/base.h"
#include "nn/f32_layers.h"
#include "nn/winograd.h"

/* ---- convolutions: direct ---- */

/* The direct convolution works in its output. */
static size_t direct_scratch(int n, int in_channels, int out_channels, int k, int out_h, int out_w, int threads) {
    (void)n, (void)in_channels, (void)out_channels, (void)k, (void)out_h, (void)out_w, (void)threads;
    return 0;
}

/* ---- convolutions: Winograd where it suits, direct elsewhere; both leave each other's layers alone ---- */

static size_t winograd_packed_bytes(int m, int out_channels, int in_channels, int k) {
    if (!fdm_winograd_suits(in_channels, out_channels, k))
        return fdm_f32_conv2d_packed_bytes(out_channels, in_channels, k);
    return fdm_winograd_packed_bytes(fdm_winograd_method(m), out_channels, in_channels);
}

static void winograd_pack(int m, const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                          int out_channels, int in_channels, int k) {
    if (fdm_winograd_suits(in_channels, out_channels, k))
        fdm_winograd_pack(fdm_winograd_method(m), exec, packed, weight, bias, out_channels, in_channels, false);
    else
        fdm_f32_conv2d_pack(exec, packed, weight, bias, out_channels, in_channels, k);
}

static size_t winograd_scratch(int m, int in_channels, int out_channels, int k, int threads) {
    if (!fdm_winograd_suits(in_channels, out_channels, k)) return 0;
    return fdm_winograd_scratch(fdm_winograd_method(m), in_channels, out_channels, threads);
}

static void winograd_conv2d(int m, const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                            const struct fdm_conv2d_args *args) {
    if (fdm_winograd_suits(in->c, out->c, args->k))
        fdm_winograd_conv2d(fdm_winograd_method(m), exec, exec->scratch, out, in, args, false);
    else
        fdm_f32_conv2d(exec, out, in, args);
}

/* The gradient of the input: packed adjoint weights, then what the convolution itself needs. */
static size_t winograd_backward_scratch(int m, int n, int in_channels, int out_channels, int k, int h, int w,
                                        int threads) {
    size_t bytes;
    if (!fdm_winograd_suits(in_channels, out_channels, k))
        return fdm_f32_conv2d_backward_scratch(n, in_channels, out_channels, k, h, w, threads);
    const size_t packed = fdm_winograd_packed_bytes(fdm_winograd_method(m), in_channels, out_channels);
    const size_t weights = fdm_winograd_weights_scratch(n, threads);
    if (!fdm_add_size(&bytes, fdm_round_up(packed, 64), winograd_scratch(m, out_channels, in_channels, k, threads)))
        return SIZE_MAX;
    return bytes > weights ? bytes : weights;
}

static void winograd_input_backward(int m, const struct fdm_exec *exec, const struct fdm_map *d_out,
                                    const struct fdm_conv2d_backward_args *args) {
    const struct fdm_winograd *method = fdm_winograd_method(m);
    struct fdm_map *to = args->d_in.map;
    const size_t packed = fdm_round_up(fdm_winograd_packed_bytes(method, to->c, d_out->c), 64);
    const struct fdm_conv2d_args adjoint = {.k = args->k, .pad = args->k - 1 - args->pad, .weight = exec->scratch,
                                            .epilogue = {.scale = args->scale}};
    fdm_winograd_pack(method, exec, exec->scratch, args->weight, NULL, d_out->c, to->c, true);
    fdm_winograd_conv2d(method, exec, (float *)exec->scratch + packed / sizeof(float), to, d_out, &adjoint,
                        args->d_in.accumulate);
}

/* The gradient of the weights is F(2x2, 3x3)'s whatever m. */
static void winograd_backward(int m, const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                              const struct fdm_conv2d_backward_args *args) {
    struct fdm_conv2d_backward_args rest = *args;
    if (!fdm_winograd_suits(in->c, d_out->c, args->k)) {
        fdm_f32_conv2d_backward(exec, d_out, in, args);
        return;
    }
    rest.d_in.map = NULL, rest.d_weight = NULL;
    fdm_f32_conv2d_backward(exec, d_out, in, &rest);
    if (args->d_in.map) winograd_input_backward(m, exec, d_out, args);
    if (args->d_weight) fdm_winograd_weights_backward(exec, exec->scratch, d_out, in, args);
}

/* The table's functions for one m. */
#define WINOGRAD_LAYERS(m)                                                                                             \
    static size_t packed_bytes_##m(int out_channels, int in_channels, int k) {                                         \
        return winograd_packed_bytes(m, out_channels, in_channels, k);                                                 \
    }                                                                                                                  \
    static void pack_##m(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,            \
                         int out_channels, int in_channels, int k) {                                                   \
        winograd_pack(m, exec, packed, weight, bias, out_channels, in_channels, k);                                    \
    }                                                                                                                  \
    static size_t scratch_##m(int n, int in_channels, int out_channels, int k, int out_h, int out_w, int threads) {    \
        (void)n, (void)out_h, (void)out_w;                                                                             \
        return winograd_scratch(m, in_channels, out_channels, k, threads);                                             \
    }                                                                                                                  \
    static void conv2d_##m(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,                 \
                           const struct fdm_conv2d_args *args) {                                                       \
        winograd_conv2d(m, exec, out, in, args);                                                                       \
    }                                                                                                                  \
    static size_t backward_scratch_##m(int n, int in_channels, int out_channels, int k, int h, int w, int threads) {   \
        return winograd_backward_scratch(m, n, in_channels, out_channels, k, h, w, threads);                           \
    }                                                                                                                  \
    static void backward_##m(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,       \
                             const struct fdm_conv2d_backward_args *args) {                                            \
        winograd_backward(m, exec, d_out, in, args);                                                                   \
    }
WINOGRAD_LAYERS(2)
WINOGRAD_LAYERS(4)

/* ---- the tables ---- */

#define SHARED_LAYERS \
    .name = "f32", \
    .dtype = FDM_F32, \
    .map_bytes = fdm_f32_map_bytes, \
    .attention_scratch = fdm_f32_attention_scratch, \
    .linear_packed_bytes = fdm_f32_linear_packed_bytes, \
    .linear_pack = fdm_f32_linear_pack, \
    .groupnorm_packed_bytes = fdm_f32_groupnorm_packed_bytes, \
    .groupnorm_pack = fdm_f32_groupnorm_pack, \
    .freqs_packed_bytes = fdm_f32_freqs_packed_bytes, \
    .freqs_pack = fdm_f32_freqs_pack, \
    .map_import = fdm_f32_map_import, \
    .map_export = fdm_f32_map_export, \
    .vec_import = fdm_f32_vec_import, \
    .vec_export = fdm_f32_vec_export, \
    .noise_embedding = fdm_f32_noise_embedding, \
    .swap_halves = fdm_f32_swap_halves, \
    .linear = fdm_f32_linear, \
    .resample = fdm_f32_resample, \
    .groupnorm = fdm_f32_groupnorm, \
    .attention = fdm_f32_attention, \
    .concat = fdm_f32_concat, \
    .add = fdm_f32_add, \
    .resample_backward = fdm_f32_resample_backward, \
    .groupnorm_backward = fdm_f32_groupnorm_backward, \
    .concat_backward = fdm_f32_concat_backward, \
    .resample_backward_scratch = fdm_f32_resample_backward_scratch, \
    .groupnorm_backward_scratch = fdm_f32_groupnorm_backward_scratch, \
    .linear_backward = fdm_f32_linear_backward, \
    .linear_backward_scratch = fdm_f32_linear_backward_scratch, \
    .attention_backward = fdm_f32_attention_backward, \
    .attention_backward_scratch = fdm_f32_attention_backward_scratch, \
    .add_gradients = fdm_f32_add_gradients,

#define WINOGRAD_TABLE(m)                                                                                              \
    {                                                                                                                  \
        SHARED_LAYERS .conv2d_scratch = scratch_##m, .conv2d_packed_bytes = packed_bytes_##m, .conv2d_pack = pack_##m, \
                      .conv2d = conv2d_##m, .conv2d_backward = backward_##m,                                           \
                      .conv2d_backward_scratch = backward_scratch_##m                                                  \
    }

const struct fdm_backend *fdm_backend_f32(enum fdm_conv_mode mode) {
    static const struct fdm_backend tables[] = {
        [FDM_CONV_DIRECT] = {
            SHARED_LAYERS
            .conv2d_scratch = direct_scratch,
            .conv2d_packed_bytes = fdm_f32_conv2d_packed_bytes,
            .conv2d_pack = fdm_f32_conv2d_pack,
            .conv2d = fdm_f32_conv2d,
            .conv2d_backward = fdm_f32_conv2d_backward,
            .conv2d_backward_scratch = fdm_f32_conv2d_backward_scratch,
        },
        [FDM_CONV_WINOGRAD2] = WINOGRAD_TABLE(2),
        [FDM_CONV_WINOGRAD4] = WINOGRAD_TABLE(4),
    };
    return &tables[mode];
}

static const char *const mode_names[FDM_CONV_MODES] = {
    [FDM_CONV_DIRECT] = "direct", [FDM_CONV_WINOGRAD2] = "winograd2", [FDM_CONV_WINOGRAD4] = "winograd4"};

const char *fdm_conv_mode_name(enum fdm_conv_mode mode) { return mode_names[mode]; }

bool fdm_conv_mode_find(enum fdm_conv_mode *mode, const char *name) {
    for (int i = 0; i < FDM_CONV_MODES; i++)
        if (strcmp(name, mode_names[i]) == 0) {
            *mode = (enum fdm_conv_mode)i;
            return true;
        }
    return false;
}
