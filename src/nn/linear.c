/* linear.c - fully connected layers of the f32 backends: a 1x1 convolution whose pixels are the samples; backward,
 * too, for the gradient of the input.  That of the weights is a tree over samples of outer products. */
#include <string.h>

#include "base/base.h"
#include "base/threads.h"
#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "nn/sample_tree.h"
#include "simd/conv.h"
#include "simd/kernel_table.h"

enum {
    LANES = FDM_F32_LANES,
    ROWS = 24, /* samples per unit of work: a multiple of every tile (4, 6, 8) */
    CHAIN = FDM_CONV_CHAIN_SEGMENTS * LANES,
    WIDTH = FDM_CONV_MAX_VECTORS * LANES,
};

size_t fdm_f32_linear_packed_bytes(int out_features, int in_features) {
    return fdm_f32_conv2d_packed_bytes(out_features, in_features, 1);
}

void fdm_f32_linear_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                         int out_features, int in_features) {
    fdm_f32_conv2d_pack(exec, packed, weight, bias, out_features, in_features, 1);
}

/* rows[r][CHAIN] = in[first_row + r][first .. ] * scale, padded with zeros to whole segments. */
static void gather_rows(float *rows, const struct fdm_vec *in, int first_row, int count, int first, float scale) {
    int used = fdm_min_int(CHAIN, in->c - first), padded = fdm_f32_blocks(used) * LANES;
    for (int r = 0; r < count; r++) {
        const float *src = (const float *)in->data + (size_t)(first_row + r) * in->c + first;
        float *dst = rows + r * CHAIN;
        for (int i = 0; i < used; i++) dst[i] = src[i] * scale;
        for (int i = used; i < padded; i++) dst[i] = 0;
    }
}

/* out row = silu?(sum + residual) (and the raw sum), for one row of one group; features start at `first`. */
static void store_row(const struct fdm_exec *exec, struct fdm_vec *out, const float *sum,
                      const struct fdm_linear_args *args, int row, int first, int count) {
    size_t at = (size_t)row * out->c + first;
    float *dst = (float *)out->data + at;
    const float *residual = args->residual ? (const float *)args->residual->data + at : NULL;
    if (args->raw) memcpy((float *)args->raw->data + at, sum, (size_t)count * sizeof *sum);
    for (int o = 0; o < count; o++) dst[o] = residual ? sum[o] + residual[o] : sum[o];
    if (args->silu) exec->kernels->vsilu(dst, dst, (size_t)count);
}

/* sum[r][WIDTH] = (the group's weights) (in * in_scale) + bias for rows first_row .. first_row + count - 1. */
static void product(const struct fdm_exec *exec, float *sum, const float *packed, int outputs,
                    const struct fdm_vec *in, float in_scale, int group, int first_row, int count) {
    _Alignas(64) float rows[ROWS * CHAIN];
    ptrdiff_t x_pixel[ROWS], sum_pixel[ROWS], x_segment[FDM_CONV_CHAIN_SEGMENTS];
    const int all = fdm_f32_blocks(outputs), blocks = fdm_f32_blocks(in->c), max = exec->conv->max_vectors;
    const int first = fdm_conv_group_first(all, max, group), vectors = fdm_conv_group_size(all, max, group);
    const float *weight = packed + (size_t)first * blocks * LANES * LANES;
    const struct fdm_conv_finish finish = {
        .bias = packed + (size_t)all * blocks * LANES * LANES + first * LANES,
        .scale = 1,
        .lanes = LANES,
    };
    for (int r = 0; r < count; r++) x_pixel[r] = r * CHAIN, sum_pixel[r] = r * WIDTH;
    for (int s = 0; s < FDM_CONV_CHAIN_SEGMENTS; s++) x_segment[s] = s * LANES;
    for (int b = 0; b < blocks; b += FDM_CONV_CHAIN_SEGMENTS) {
        int segments = fdm_min_int(FDM_CONV_CHAIN_SEGMENTS, blocks - b);
        struct fdm_conv_chain chain = {
            .x = rows,
            .x_pixel = x_pixel,
            .x_segment = x_segment,
            .weight = weight + (size_t)b * LANES * LANES * vectors,
            .sum = sum,
            .sum_pixel = sum_pixel,
            .sum_vector = LANES,
            .segments = segments,
            .pixels = count,
            .vectors = vectors,
            .first = b == 0,
            .finish = b + segments == blocks ? &finish : NULL,
        };
        gather_rows(rows, in, first_row, count, b * LANES, in_scale);
        exec->conv->chain(&chain);
    }
}

/* The outputs of a group: how many, and in *first the first of them. */
static int group_outputs(const struct fdm_exec *exec, int outputs, int group, int *first) {
    const int all = fdm_f32_blocks(outputs), max = exec->conv->max_vectors;
    *first = fdm_conv_group_first(all, max, group) * LANES;
    return fdm_min_int(fdm_conv_group_size(all, max, group) * LANES, outputs - *first);
}

static void linear_unit(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in,
                        const struct fdm_linear_args *args, int group, int first_row, int count) {
    _Alignas(64) float sum[ROWS * WIDTH];
    int first, features = group_outputs(exec, out->c, group, &first);
    product(exec, sum, args->weight, out->c, in, (float)args->in_scale, group, first_row, count);
    for (int r = 0; r < count; r++) {
        store_row(exec, out, sum + r * WIDTH, args, first_row + r, first, features);
    }
}

void fdm_f32_linear(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in,
                    const struct fdm_linear_args *args) {
    const int groups = fdm_conv_groups(fdm_f32_blocks(out->c), exec->conv->max_vectors);
#pragma omp parallel for collapse(2) schedule(static) num_threads(exec->threads)
    for (int g = 0; g < groups; g++) {
        for (int r = 0; r < out->n; r += ROWS) {
            linear_unit(exec, out, in, args, g, r, fdm_min_int(ROWS, out->n - r));
        }
    }
}

/* ---- backward ---- */

/* What a call keeps in exec->scratch, in this order; sizes in floats, multiples of 16. */
struct backward_scratch {
    size_t packed;    /* the weights, transposed or not */
    size_t d_pre;     /* [n][out]: gradient before the activation */
    size_t pre;       /* [n][out]: the value there */
    size_t scaled;    /* [n][in]: the input times in_scale */
    size_t sums;      /* [threads][depth][in or out]: trees of lines of the weights' gradient */
    size_t tree_line; /* one line of those */
};

/* False if a size overflows. */
static bool scratch_sizes(struct backward_scratch *s, int n, int in_features, int out_features, int threads) {
    const size_t forward = fdm_f32_conv2d_packed_bytes(out_features, in_features, 1) / sizeof(float);
    const size_t adjoint = fdm_f32_conv2d_packed_bytes(in_features, out_features, 1) / sizeof(float);
    s->packed = forward > adjoint ? forward : adjoint;
    s->tree_line = fdm_round_up((size_t)fdm_max_int(in_features, out_features), LANES);
    return s->packed < SIZE_MAX / sizeof(float) - LANES &&
           fdm_mul_size(&s->d_pre, fdm_round_up((size_t)out_features, LANES), (size_t)n) &&
           fdm_mul_size(&s->pre, fdm_round_up((size_t)out_features, LANES), (size_t)n) &&
           fdm_mul_size(&s->scaled, fdm_round_up((size_t)in_features, LANES), (size_t)n) &&
           fdm_mul_size(&s->sums, s->tree_line, (size_t)threads * (size_t)fdm_tree_depth(n));
}

size_t fdm_f32_linear_backward_scratch(int n, int in_features, int out_features, int threads) {
    struct backward_scratch s;
    size_t floats, bytes;
    if (!scratch_sizes(&s, n, in_features, out_features, threads) || !fdm_add_size(&floats, s.packed, s.d_pre) ||
        !fdm_add_size(&floats, floats, s.pre) || !fdm_add_size(&floats, floats, s.scaled) ||
        !fdm_add_size(&floats, floats, s.sums) || !fdm_mul_size(&bytes, floats, sizeof(float))) {
        return SIZE_MAX;
    }
    return bytes;
}

/* target (+)= gradient, count elements */
static void give(const struct fdm_exec *exec, float *target, const float *gradient, size_t count, bool accumulate) {
    if (accumulate) {
        exec->kernels->add_scale(target, target, gradient, 1, count);
    } else {
        memcpy(target, gradient, count * sizeof *target);
    }
}

/* d_pre = d_out * silu'(the forward's own pre-activation). */
static void activation_backward(const struct fdm_exec *exec, float *d_pre, float *pre, float *packed,
                                const struct fdm_vec *d_out, const struct fdm_vec *in,
                                const struct fdm_linear_backward_args *args) {
    struct fdm_vec raw = {d_out->n, d_out->c, pre};
    const struct fdm_linear_args forward = {.weight = packed, .in_scale = args->in_scale};
    fdm_f32_linear_pack(exec, packed, args->weight, args->bias, d_out->c, in->c);
    fdm_f32_linear(exec, &raw, in, &forward);
    exec->kernels->silu_backward(d_pre, d_out->data, pre, (size_t)d_out->n * d_out->c);
}

static void input_unit(const struct fdm_exec *exec, const struct fdm_linear_backward_args *args,
                       const float *packed, const struct fdm_vec *d_pre, int group, int first_row, int count) {
    _Alignas(64) float sum[ROWS * WIDTH];
    const struct fdm_vec *d_in = args->d_in.vec;
    int first, features = group_outputs(exec, d_in->c, group, &first);
    product(exec, sum, packed, d_in->c, d_pre, 1, group, first_row, count);
    for (int r = 0; r < count; r++) {
        float *dst = (float *)d_in->data + (size_t)(first_row + r) * d_in->c + first;
        exec->kernels->scale(sum + r * WIDTH, sum + r * WIDTH, (float)args->in_scale, (size_t)features);
        give(exec, dst, sum + r * WIDTH, (size_t)features, args->d_in.accumulate);
    }
}

/* d_in (+)= in_scale * W^T d_pre */
static void input_backward(const struct fdm_exec *exec, const struct fdm_linear_backward_args *args, float *packed,
                           const struct fdm_vec *d_pre) {
    const struct fdm_vec *d_in = args->d_in.vec;
    const int groups = fdm_conv_groups(fdm_f32_blocks(d_in->c), exec->conv->max_vectors);
    fdm_f32_conv2d_pack_adjoint(exec, packed, args->weight, d_pre->c, d_in->c, 1);
#pragma omp parallel for collapse(2) schedule(static) num_threads(exec->threads)
    for (int g = 0; g < groups; g++) {
        for (int r = 0; r < d_in->n; r += ROWS) {
            input_unit(exec, args, packed, d_pre, g, r, fdm_min_int(ROWS, d_in->n - r));
        }
    }
}

/* result[0..count) = the tree over samples of rows[n][count] * factor[n * step], or of the rows alone. */
static void tree_of_rows(const struct fdm_exec *exec, float *result, float *stack, size_t line, const float *rows,
                         int n, size_t count, const float *factor, size_t step) {
    float *top = stack;
    int trees = 0;
    for (int i = 0; i < n; i++, top += line, trees++) {
        exec->kernels->scale(top, rows + (size_t)i * count, factor ? factor[(size_t)i * step] : 1, count);
        for (int m = fdm_tree_merges(i); m > 0; m--, top -= line, trees--) {
            exec->kernels->add_scale(top - line, top - line, top, 1, count);
        }
    }
    for (top -= line; trees > 1; trees--, top -= line) {
        exec->kernels->add_scale(top - line, top - line, top, 1, count);
    }
    memcpy(result, top, count * sizeof *result);
}

/* d_weight[o][i] = tree over samples of d_pre[o] * (in[i] * in_scale); d_bias = tree of d_pre */
static void weights_backward(const struct fdm_exec *exec, const struct fdm_linear_backward_args *args,
                             float *scaled, float *sums, size_t line, const struct fdm_vec *d_pre,
                             const struct fdm_vec *in) {
    const int n = in->n;
    const size_t inputs = (size_t)in->c, outputs = (size_t)d_pre->c;
    const float *d = d_pre->data;
    exec->kernels->scale(scaled, in->data, (float)args->in_scale, (size_t)n * inputs);
#pragma omp parallel num_threads(exec->threads)
    {
        float *stack = sums + (size_t)fdm_thread_index() * fdm_tree_depth(n) * line;
#pragma omp for schedule(static)
        for (int o = 0; o < d_pre->c; o++) {
            float *row = (float *)args->d_weight + (size_t)o * inputs;
            tree_of_rows(exec, row, stack, line, scaled, n, inputs, d + o, outputs);
        }
    }
    if (args->d_bias) tree_of_rows(exec, args->d_bias, sums, line, d, n, outputs, NULL, 0);
}

void fdm_f32_linear_backward(const struct fdm_exec *exec, const struct fdm_vec *d_out, const struct fdm_vec *in,
                             const struct fdm_linear_backward_args *args) {
    struct backward_scratch s;
    if (!scratch_sizes(&s, in->n, in->c, d_out->c, exec->threads)) return; /* the scratch query said SIZE_MAX */
    float *packed = exec->scratch, *d_pre = packed + s.packed, *pre = d_pre + s.d_pre, *scaled = pre + s.pre;
    struct fdm_vec before = *d_out;
    if (args->d_residual.vec) {
        give(exec, args->d_residual.vec->data, d_out->data, (size_t)d_out->n * d_out->c,
             args->d_residual.accumulate);
    }
    if (args->silu) {
        activation_backward(exec, d_pre, pre, packed, d_out, in, args);
        before.data = d_pre;
    }
    if (args->d_in.vec) input_backward(exec, args, packed, &before);
    if (args->d_weight) weights_backward(exec, args, scaled, scaled + s.scaled, s.tree_line, &before, in);
}
