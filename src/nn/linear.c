/* linear.c - fully connected layers of the f32 backends: a 1x1 convolution whose pixels are the samples. */
#include <string.h>

#include "base/base.h"
#include "nn/f32_layers.h"
#include "nn/f32_map.h"
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

static void linear_unit(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in,
                        const struct fdm_linear_args *args, int group, int first_row, int count) {
    _Alignas(64) float rows[ROWS * CHAIN], sum[ROWS * WIDTH];
    ptrdiff_t x_pixel[ROWS], sum_pixel[ROWS], x_segment[FDM_CONV_CHAIN_SEGMENTS];
    const int all = fdm_f32_blocks(out->c), blocks = fdm_f32_blocks(in->c), max = exec->conv->max_vectors;
    const int first = fdm_conv_group_first(all, max, group), vectors = fdm_conv_group_size(all, max, group);
    const float *weight = (const float *)args->weight + (size_t)first * blocks * LANES * LANES;
    const struct fdm_conv_finish finish = {
        .bias = (const float *)args->weight + (size_t)all * blocks * LANES * LANES + first * LANES,
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
        gather_rows(rows, in, first_row, count, b * LANES, (float)args->in_scale);
        exec->conv->chain(&chain);
    }
    int features = fdm_min_int(vectors * LANES, out->c - first * LANES);
    for (int r = 0; r < count; r++) {
        store_row(exec, out, sum + r * WIDTH, args, first_row + r, first * LANES, features);
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
