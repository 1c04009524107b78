/* backend_emulated.c - what a GPU computes in tf32, bf16 or fp16, on top of the f32 layers.
 *
 * Tensor cores multiply operands of a narrow format, exactly, and add in f32.  So each layer here rounds copies of its
 * operands (weights when they are packed), lets the f32 layer multiply and add, and, where results are stored in the
 * narrow format (bf16, fp16), rounds after every operation that is one of the published program: a convolution, the bias
 * of a resampling, + residual, * scale, normalisation, SiLU.
 *
 * Backward: the same of the convolutions' and linear layers' operands; of attention and normalisation the results only.
 * Maps in a copy lie in scratch behind what the f32 layer itself uses.
 */
#include "nn/backend_emulated.h"

#include <math.h>
#include <string.h>

#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "simd/kernel_table.h"

enum { LANES = FDM_F32_LANES };

static fdm_format format_of(const struct fdm_exec *exec, fdm_layer_class layers) {
    return ((const fdm_emulation *)exec->settings)->format[layers];
}

/* Whether results, too, are stored in it. */
static bool is_storage(fdm_format f) { return f == FDM_FORMAT_BF16 || f == FDM_FORMAT_FP16; }

/* ---- rounding whole operands ---- */

static void round_floats(const struct fdm_exec *exec, float *x, size_t count, fdm_format f) {
    if (f == FDM_FORMAT_FP32) return;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (size_t i = 0; i < count; i++) x[i] = fdm_format_round(f, x[i]);
}

static size_t map_floats(const struct fdm_map *m) { return (size_t)(m->n * fdm_f32_sample(m)); }

static void round_map(const struct fdm_exec *exec, struct fdm_map *m, fdm_format f) {
    round_floats(exec, m->data, map_floats(m), f);
}

static void round_vec(const struct fdm_exec *exec, struct fdm_vec *v, fdm_format f) {
    round_floats(exec, v->data, (size_t)v->n * (size_t)v->c, f);
}

/* Scratch behind `used` bytes; moves on. */
static void *take(const struct fdm_exec *exec, size_t *used, size_t bytes) {
    void *p = (char *)exec->scratch + *used;
    *used += fdm_round_up(bytes, 64);
    return p;
}

/* A rounded copy of m with that halo. */
static struct fdm_map rounded_copy(const struct fdm_exec *exec, size_t *used, const struct fdm_map *m, int halo, fdm_format f) {
    struct fdm_map copy = *m;
    copy.halo = halo;
    copy.data = take(exec, used, map_floats(&copy) * sizeof(float));
    fdm_f32_add(exec, &copy, m, NULL, 1.0);
    round_map(exec, &copy, f);
    return copy;
}

static size_t copy_bytes(int n, int c, int h, int w, int halo) {
    return fdm_round_up(fdm_f32_map_bytes(n, c, h, w, halo), 64);
}

static size_t operand_scratch(int n, int c, int h, int w) { return copy_bytes(n, c, h, w, 0); }

/* The epilogue on rounded results: out = round(round(out + residual) * scale).  (The elementwise kernels may work in
 * place.) */
static void finish_map(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_epilogue *e, fdm_format f) {
    round_map(exec, out, f);
    if (e->raw) fdm_f32_add(exec, e->raw, out, NULL, 1.0);
    if (e->residual) {
        fdm_f32_add(exec, out, out, e->residual, 1.0);
        round_map(exec, out, f);
    }
    if (e->scale != 1) {
        fdm_f32_add(exec, out, out, NULL, e->scale);
        round_map(exec, out, f);
    }
}

/* out[c] += vec[c] in every pixel. */
static void add_channels(const struct fdm_exec *exec, struct fdm_map *out, const float *vec, size_t per_sample) {
    const int blocks = fdm_f32_blocks(out->c), planes = out->n * blocks;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int p = 0; p < planes; p++) {
        const int first = p % blocks * LANES, lanes = fdm_min_int(LANES, out->c - first);
        const float *add = vec + (size_t)(p / blocks) * per_sample + first;
        for (int y = 0; y < out->h; y++) {
            float *row = (float *)out->data + p * fdm_f32_plane(out) + fdm_f32_pixel(out, 0, y, 0);
            for (int x = 0; x < out->w; x++)
                for (int i = 0; i < lanes; i++) row[x * LANES + i] += add[i];
        }
    }
}

static void silu_map(const struct fdm_exec *exec, struct fdm_map *out) {
    const int planes = out->n * fdm_f32_blocks(out->c);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int p = 0; p < planes; p++)
        for (int y = 0; y < out->h; y++) {
            float *row = (float *)out->data + p * fdm_f32_plane(out) + fdm_f32_pixel(out, 0, y, 0);
            exec->kernels->vsilu(row, row, (size_t)out->w * LANES);
        }
}

/* ---- convolutions ---- */

static size_t conv2d_scratch(int n, int in_channels, int out_channels, int k, int out_h, int out_w, int threads) {
    (void)out_channels, (void)threads;
    return copy_bytes(n, in_channels, out_h + k - 1, out_w + k - 1, 0); /* the input and its padding */
}

/* The packed weights lie before the biases (conv2d.c). */
static void round_packed(const struct fdm_exec *exec, void *packed, int outputs, int inputs, int k, fdm_format f) {
    const size_t taps = (size_t)k * (size_t)k, blocks = (size_t)fdm_f32_blocks(outputs);
    const size_t weights = blocks * (size_t)fdm_f32_blocks(inputs) * taps * LANES * LANES;
    round_floats(exec, packed, weights + (is_storage(f) ? blocks * LANES : 0), f);
}

static void conv2d_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias, int outputs,
                        int inputs, int k) {
    fdm_f32_conv2d_pack(exec, packed, weight, bias, outputs, inputs, k);
    round_packed(exec, packed, outputs, inputs, k, format_of(exec, FDM_LAYERS_CONV));
}

static void conv2d(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                   const struct fdm_conv2d_args *args) {
    const fdm_format f = format_of(exec, FDM_LAYERS_CONV);
    struct fdm_conv2d_args plain = *args;
    size_t used = 0;
    if (f == FDM_FORMAT_FP32) {
        fdm_f32_conv2d(exec, out, in, args);
        return;
    }
    const struct fdm_map operand = rounded_copy(exec, &used, in, args->pad, f);
    if (is_storage(f)) plain.epilogue = (struct fdm_epilogue){.scale = 1};
    fdm_f32_conv2d(exec, out, &operand, &plain);
    if (is_storage(f)) finish_map(exec, out, &args->epilogue, f);
}

static void resample(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                     const struct fdm_resample_args *args) {
    const fdm_format f = format_of(exec, FDM_LAYERS_CONV);
    struct fdm_resample_args plain = *args;
    size_t used = 0;
    if (f == FDM_FORMAT_FP32) {
        fdm_f32_resample(exec, out, in, args);
        return;
    }
    const struct fdm_map operand = rounded_copy(exec, &used, in, 0, f);
    if (is_storage(f)) {
        plain.epilogue = (struct fdm_epilogue){.scale = 1};
        plain.bias = NULL;
    }
    fdm_f32_resample(exec, out, &operand, &plain);
    if (!is_storage(f)) return;
    if (args->bias) {
        round_map(exec, out, f);
        add_channels(exec, out, args->bias, 0);
    }
    finish_map(exec, out, &args->epilogue, f);
}

/* ---- linear ---- */

static void linear_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias, int outputs,
                        int inputs) {
    fdm_f32_linear_pack(exec, packed, weight, bias, outputs, inputs);
    round_packed(exec, packed, outputs, inputs, 1, format_of(exec, FDM_LAYERS_LINEAR));
}

static struct fdm_vec rounded_vec(const struct fdm_exec *exec, size_t *used, const struct fdm_vec *v, double scale,
                                  fdm_format f) {
    const size_t count = (size_t)v->n * (size_t)v->c;
    struct fdm_vec copy = {v->n, v->c, take(exec, used, count * sizeof(float))};
    float *to = copy.data;
    for (size_t i = 0; i < count; i++) to[i] = ((const float *)v->data)[i] * (float)scale;
    round_vec(exec, &copy, f);
    return copy;
}

static void linear(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in,
                   const struct fdm_linear_args *args) {
    const fdm_format f = format_of(exec, FDM_LAYERS_LINEAR);
    struct fdm_linear_args plain = *args;
    const size_t count = (size_t)out->n * (size_t)out->c;
    float *y = out->data;
    size_t used = 0;
    if (f == FDM_FORMAT_FP32) {
        fdm_f32_linear(exec, out, in, args);
        return;
    }
    const struct fdm_vec operand = rounded_vec(exec, &used, in, args->in_scale, f);
    plain.in_scale = 1;
    if (is_storage(f)) plain.residual = NULL, plain.silu = false, plain.raw = NULL;
    fdm_f32_linear(exec, out, &operand, &plain);
    if (!is_storage(f)) return;
    round_vec(exec, out, f);
    if (args->raw) memcpy(args->raw->data, y, count * sizeof *y);
    if (args->residual)
        for (size_t i = 0; i < count; i++) y[i] += ((const float *)args->residual->data)[i];
    if (args->silu) exec->kernels->vsilu(y, y, count);
    round_vec(exec, out, f);
}

/* ---- normalisation ---- */

static void groupnorm_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias, int channels) {
    const fdm_format f = format_of(exec, FDM_LAYERS_NORM);
    fdm_f32_groupnorm_pack(exec, packed, weight, bias, channels);
    if (is_storage(f)) round_floats(exec, packed, fdm_f32_groupnorm_packed_bytes(channels) / sizeof(float), f);
}

static void groupnorm(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                      const struct fdm_groupnorm_args *args) {
    const fdm_format f = format_of(exec, FDM_LAYERS_NORM);
    struct fdm_groupnorm_args plain = *args;
    size_t used = 0;
    if (!is_storage(f) || args->dropout) {
        fdm_f32_groupnorm(exec, out, in, args);
        if (is_storage(f)) round_map(exec, out, f);
        return;
    }
    struct fdm_map v = rounded_copy(exec, &used, in, 0, f);
    if (args->add) {
        add_channels(exec, &v, args->add->data, (size_t)args->add->c);
        round_map(exec, &v, f);
    }
    plain.add = NULL, plain.silu = false, plain.raw = NULL;
    fdm_f32_groupnorm(exec, out, &v, &plain);
    round_map(exec, out, f);
    if (args->raw) fdm_f32_add(exec, args->raw, out, NULL, 1.0);
    if (!args->silu) return;
    silu_map(exec, out);
    round_map(exec, out, f);
}

/* ---- attention: scores and weights row by row, in the order of the published program ---- */

/* q, k, v of a sample, (C, L) each; then a row of weights per thread. */
static size_t attention_scratch(int n, int c, int h, int w, int threads) {
    size_t bytes;
    const size_t l = (size_t)h * (size_t)w;
    if (!fdm_mul_size(&bytes, l, 3 * (size_t)c + (size_t)threads) || !fdm_mul_size(&bytes, bytes, sizeof(float)))
        return SIZE_MAX;
    const size_t base = fdm_f32_attention_scratch(n, c, h, w, threads);
    return base > bytes ? base : bytes;
}

/* Channel 3j + part of sample n, rounded: dense (C, L).  k is divided by sqrt(C) first, in the format it is stored in. */
static void gather(float *to, const struct fdm_map *qkv, int n, int channels, int part, fdm_format f) {
    const float root = part == 1 ? sqrtf((float)channels) : 1.0f;
    for (int j = 0; j < channels; j++) {
        const int channel = 3 * j + part;
        for (int y = 0; y < qkv->h; y++) {
            const float *row = (const float *)qkv->data + fdm_f32_pixel(qkv, n, y, 0) +
                               channel / LANES * fdm_f32_plane(qkv) + channel % LANES;
            for (int x = 0; x < qkv->w; x++) *to++ = fdm_format_round(f, row[(ptrdiff_t)x * LANES] / root);
        }
    }
}

/* Query a: weights, then the outputs of its pixel. */
static void attend(struct fdm_map *out, float *weights, const float *qkv, const struct fdm_exec *exec, int n, int a,
                   fdm_format f) {
    const size_t l = (size_t)out->h * (size_t)out->w, matrix = l * (size_t)out->c;
    const float *q = qkv, *k = q + matrix, *v = k + matrix;
    float *to = (float *)out->data + fdm_f32_pixel(out, n, a / out->w, a % out->w);
    memset(weights, 0, l * sizeof *weights);
    for (size_t j = 0; j < (size_t)out->c; j++) exec->kernels->scale_add(weights, k + j * l, q[j * l + (size_t)a], l);
    exec->kernels->softmax_rows(weights, 1, (int)l, (ptrdiff_t)l);
    for (size_t b = 0; b < l; b++) weights[b] = fdm_format_round(f, weights[b]);
    for (int j = 0; j < out->c; j++) {
        const float *row = v + (size_t)j * l;
        float sums[LANES] = {0}, sum = 0;
        for (size_t b = 0; b < l; b++) sums[b % LANES] += weights[b] * row[b];
        for (int i = 0; i < LANES; i++) sum += sums[i];
        to[j / LANES * fdm_f32_plane(out) + j % LANES] = is_storage(f) ? fdm_format_round(f, sum) : sum;
    }
}

static void attention(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *qkv) {
    const fdm_format f = format_of(exec, FDM_LAYERS_ATTENTION);
    const int l = out->h * out->w;
    const size_t matrix = (size_t)l * (size_t)out->c;
    float *matrices = exec->scratch;
    if (f == FDM_FORMAT_FP32) {
        fdm_f32_attention(exec, out, qkv);
        return;
    }
    memset(out->data, 0, map_floats(out) * sizeof(float));
    for (int n = 0; n < out->n; n++) {
        for (int part = 0; part < 3; part++) gather(matrices + (size_t)part * matrix, qkv, n, out->c, part, f);
        /* Thread t takes queries t, t + threads, ... with the t-th row. */
#pragma omp parallel for num_threads(exec->threads) schedule(static)
        for (int t = 0; t < exec->threads; t++)
            for (int a = t; a < l; a += exec->threads)
                attend(out, matrices + 3 * matrix + (size_t)t * (size_t)l, matrices, exec, n, a, f);
    }
}

/* ---- backward ---- */

static void round_target(const struct fdm_exec *exec, struct fdm_map_target t, fdm_format f) {
    if (t.map && is_storage(f)) round_map(exec, t.map, f);
}

static size_t conv2d_backward_scratch(int n, int in_channels, int out_channels, int k, int h, int w, int threads) {
    const size_t base = fdm_f32_conv2d_backward_scratch(n, in_channels, out_channels, k, h, w, threads);
    const size_t in = copy_bytes(n, in_channels, h + k - 1, w + k - 1, 0), out = copy_bytes(n, out_channels, h, w, k - 1);
    size_t weights;
    if (!fdm_mul_size(&weights, (size_t)out_channels * (size_t)in_channels, (size_t)k * (size_t)k * sizeof(float)))
        return SIZE_MAX;
    return fdm_add_saturated(fdm_add_saturated(fdm_round_up(base, 64), in), fdm_add_saturated(out, fdm_round_up(weights, 64)));
}

static float *rounded_weights(const struct fdm_exec *exec, size_t *used, const float *weight, size_t count, fdm_format f) {
    float *copy = take(exec, used, count * sizeof *copy);
    memcpy(copy, weight, count * sizeof *copy);
    round_floats(exec, copy, count, f);
    return copy;
}

static void conv2d_backward(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                            const struct fdm_conv2d_backward_args *args) {
    const fdm_format f = format_of(exec, FDM_LAYERS_CONV);
    const size_t weights = (size_t)d_out->c * (size_t)in->c * (size_t)args->k * (size_t)args->k;
    struct fdm_conv2d_backward_args rounded = *args;
    if (f == FDM_FORMAT_FP32) {
        fdm_f32_conv2d_backward(exec, d_out, in, args);
        return;
    }
    size_t used = fdm_round_up(
        fdm_f32_conv2d_backward_scratch(in->n, in->c, d_out->c, args->k, d_out->h, d_out->w, exec->threads), 64);
    const struct fdm_map x = rounded_copy(exec, &used, in, args->pad, f);
    const struct fdm_map d = rounded_copy(exec, &used, d_out, fdm_max_int(0, args->k - 1 - args->pad), f);
    rounded.weight = rounded_weights(exec, &used, args->weight, weights, f);
    fdm_f32_conv2d_backward(exec, &d, &x, &rounded);
    round_target(exec, args->d_in, f);
    round_target(exec, args->d_residual, f);
    if (!is_storage(f)) return;
    if (args->d_weight) round_floats(exec, args->d_weight, weights, f);
    if (args->d_bias) round_floats(exec, args->d_bias, (size_t)d_out->c, f);
}

static size_t linear_backward_scratch(int n, int in_features, int out_features, int threads) {
    const size_t base = fdm_f32_linear_backward_scratch(n, in_features, out_features, threads);
    const size_t vectors = ((size_t)in_features + (size_t)out_features + 32) * (size_t)n * sizeof(float);
    const size_t weights = (size_t)in_features * (size_t)out_features * sizeof(float);
    return fdm_add_saturated(fdm_round_up(base, 64), fdm_add_saturated(fdm_round_up(vectors, 64), fdm_round_up(weights, 64)));
}

static void linear_backward(const struct fdm_exec *exec, const struct fdm_vec *d_out, const struct fdm_vec *in,
                            const struct fdm_linear_backward_args *args) {
    const fdm_format f = format_of(exec, FDM_LAYERS_LINEAR);
    const size_t weights = (size_t)d_out->c * (size_t)in->c;
    struct fdm_linear_backward_args rounded = *args;
    if (f == FDM_FORMAT_FP32) {
        fdm_f32_linear_backward(exec, d_out, in, args);
        return;
    }
    size_t used = fdm_round_up(fdm_f32_linear_backward_scratch(in->n, in->c, d_out->c, exec->threads), 64);
    const struct fdm_vec x = rounded_vec(exec, &used, in, 1.0, f), d = rounded_vec(exec, &used, d_out, 1.0, f);
    rounded.weight = rounded_weights(exec, &used, args->weight, weights, f);
    fdm_f32_linear_backward(exec, &d, &x, &rounded);
    if (!is_storage(f)) return;
    if (args->d_in.vec) round_vec(exec, args->d_in.vec, f);
    if (args->d_residual.vec) round_vec(exec, args->d_residual.vec, f);
    round_floats(exec, args->d_weight, weights, f);
    if (args->d_bias) round_floats(exec, args->d_bias, (size_t)d_out->c, f);
}

static void groupnorm_backward(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                               const struct fdm_groupnorm_backward_args *args) {
    const fdm_format f = format_of(exec, FDM_LAYERS_NORM);
    fdm_f32_groupnorm_backward(exec, d_out, in, args);
    round_target(exec, args->d_in, f);
    if (!is_storage(f)) return;
    if (args->d_add.vec) round_vec(exec, args->d_add.vec, f);
    round_floats(exec, args->d_weight, (size_t)in->c, f);
    round_floats(exec, args->d_bias, (size_t)in->c, f);
}

static void resample_backward(const struct fdm_exec *exec, const struct fdm_map *d_out,
                              const struct fdm_resample_backward_args *args) {
    const fdm_format f = format_of(exec, FDM_LAYERS_CONV);
    fdm_f32_resample_backward(exec, d_out, args);
    round_target(exec, args->d_in, f);
    round_target(exec, args->d_residual, f);
    if (args->d_bias && is_storage(f)) round_floats(exec, args->d_bias, (size_t)d_out->c, f);
}

static void attention_backward(const struct fdm_exec *exec, struct fdm_map_target d_qkv, const struct fdm_map *d_out,
                               const struct fdm_map *qkv) {
    fdm_f32_attention_backward(exec, d_qkv, d_out, qkv);
    round_target(exec, d_qkv, format_of(exec, FDM_LAYERS_ATTENTION));
}

static void concat_backward(const struct fdm_exec *exec, struct fdm_map_target d_a, struct fdm_map_target d_b,
                            const struct fdm_map *d_out) {
    fdm_f32_concat_backward(exec, d_a, d_b, d_out);
    round_target(exec, d_a, format_of(exec, FDM_LAYERS_CONV));
    round_target(exec, d_b, format_of(exec, FDM_LAYERS_CONV));
}

const struct fdm_backend *fdm_backend_emulated(void) {
    static const struct fdm_backend table = {
        .name = "emulated",
        .dtype = FDM_F32,
        .map_bytes = fdm_f32_map_bytes,
        .attention_scratch = attention_scratch,
        .conv2d_scratch = conv2d_scratch,
        .operand_scratch = operand_scratch,
        .conv2d_packed_bytes = fdm_f32_conv2d_packed_bytes,
        .conv2d_pack = conv2d_pack,
        .linear_packed_bytes = fdm_f32_linear_packed_bytes,
        .linear_pack = linear_pack,
        .groupnorm_packed_bytes = fdm_f32_groupnorm_packed_bytes,
        .groupnorm_pack = groupnorm_pack,
        .freqs_packed_bytes = fdm_f32_freqs_packed_bytes,
        .freqs_pack = fdm_f32_freqs_pack,
        .map_import = fdm_f32_map_import,
        .map_export = fdm_f32_map_export,
        .vec_import = fdm_f32_vec_import,
        .vec_export = fdm_f32_vec_export,
        .noise_embedding = fdm_f32_noise_embedding,
        .swap_halves = fdm_f32_swap_halves,
        .linear = linear,
        .conv2d = conv2d,
        .resample = resample,
        .groupnorm = groupnorm,
        .attention = attention,
        .concat = fdm_f32_concat,
        .add = fdm_f32_add,
        .conv2d_backward = conv2d_backward,
        .resample_backward = resample_backward,
        .groupnorm_backward = groupnorm_backward,
        .linear_backward = linear_backward,
        .attention_backward = attention_backward,
        .concat_backward = concat_backward,
        .conv2d_backward_scratch = conv2d_backward_scratch,
        .resample_backward_scratch = fdm_f32_resample_backward_scratch,
        .groupnorm_backward_scratch = fdm_f32_groupnorm_backward_scratch,
        .linear_backward_scratch = linear_backward_scratch,
        .attention_backward_scratch = fdm_f32_attention_backward_scratch,
        .add_gradients = fdm_f32_add_gradients,
    };
    return &table;
}
