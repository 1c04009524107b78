/* attention.c - self-attention of the f32 backends: two matrix products over the convolution micro-kernel.
 *
 * Scores:  "pixels" are queries, inputs are channels, outputs are keys;  weighted sum: inputs are keys, outputs are
 * channels.  k and v are gathered straight into the kernel's packed weight form, q into its input form, for a group
 * of at most `threads` samples; then strips of queries go score -> softmax -> weighted sum one by one, so that
 * memory grows with the map and not with the square of its pixels. */
#include <math.h>

#include "base/base.h"
#include "base/threads.h"
#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "simd/conv.h"
#include "simd/kernel_table.h"

enum {
    LANES = FDM_F32_LANES,
    CHAIN = FDM_CONV_CHAIN_SEGMENTS,
    STRIP = 48, /* queries per unit of work: a multiple of every tile */
};

struct attention_call {
    const struct fdm_conv_kernels *kernels;
    const struct fdm_kernels *elementwise;
    const struct fdm_map *qkv;
    struct fdm_map *out;
    int positions;      /* H*W: queries and keys */
    int key_blocks;     /* of 16 */
    int channel_blocks; /* of 16 */
    size_t matrix;      /* floats of q, k or v of a sample, padded to blocks */
    float root;         /* sqrt(C) */
    float *matrices;    /* [samples of the group][q, k, v][matrix] */
    float *scores;      /* [threads][STRIP][key_blocks * 16] */
};

size_t fdm_f32_attention_scratch(int n, int c, int h, int w, int threads) {
    const size_t samples = (size_t)fdm_min_int(n, threads);
    const size_t keys = fdm_round_up((size_t)h * w, LANES), channels = (size_t)fdm_f32_blocks(c) * LANES;
    size_t matrices, scores, bytes;
    if (!fdm_mul_size(&matrices, keys, channels) || !fdm_mul_size(&matrices, matrices, 3 * samples) ||
        !fdm_mul_size(&scores, keys, (size_t)STRIP * threads) || !fdm_add_size(&bytes, matrices, scores) ||
        !fdm_mul_size(&bytes, bytes, sizeof(float))) {
        return SIZE_MAX;
    }
    return bytes;
}

/* Where element (input, output) of a packed weight matrix lies (simd/conv.h): [group][block of 16 inputs][16][16
 * V]. */
static size_t packed_at(int vectors, int blocks, int max, int input, int output) {
    int vector = output / LANES, group = 0;
    while (fdm_conv_group_first(vectors, max, group + 1) <= vector) group++;
    int first = fdm_conv_group_first(vectors, max, group), count = fdm_conv_group_size(vectors, max, group);
    size_t row =
        ((size_t)first * blocks + (size_t)(input / LANES) * count) * LANES + (size_t)(input % LANES) * count;
    return (row + (vector - first)) * LANES + output % LANES;
}

/* What channels 3j + {0,1,2}, j in block b, hold at one pixel: three planes side by side (those past the last
 * channel are zero). */
static void load_triplets(float *triplets, const struct fdm_map *qkv, ptrdiff_t pixel, int b) {
    int planes = fdm_min_int(3, fdm_f32_blocks(qkv->c) - 3 * b);
    for (int p = 0; p < 3; p++) {
        const float *src = (const float *)qkv->data + pixel + (3 * b + p) * fdm_f32_plane(qkv);
        for (int l = 0; l < LANES; l++) triplets[p * LANES + l] = p < planes ? src[l] : 0;
    }
}

/* Gathers 16 positions of a sample: q as [channel block][position][16 channels], k and v packed as weights
 * (inputs x outputs = channels x keys and keys x channels).  k is divided by sqrt(C) here, as published. */
static void gather_block(const struct attention_call *a, float *q, float *k, float *v, int sample, int key_block) {
    const int max = a->kernels->max_vectors, width = a->qkv->w;
    for (int b = 0; b < a->channel_blocks; b++) {
        size_t k_at = packed_at(a->key_blocks, a->channel_blocks, max, b * LANES, key_block * LANES);
        size_t k_row = packed_at(a->key_blocks, a->channel_blocks, max, b * LANES + 1, key_block * LANES) - k_at;
        for (int i = 0; i < LANES; i++) {
            int position = key_block * LANES + i;
            float triplets[3 * LANES] = {0};
            size_t q_at = ((size_t)b * a->key_blocks * LANES + position) * LANES;
            size_t v_at = packed_at(a->channel_blocks, a->key_blocks, max, position, b * LANES);
            if (position < a->positions) {
                load_triplets(triplets, a->qkv, fdm_f32_pixel(a->qkv, sample, position / width, position % width),
                              b);
            }
            for (int l = 0; l < LANES; l++) {
                q[q_at + l] = triplets[3 * l];
                k[k_at + l * k_row + i] = triplets[3 * l + 1] / a->root;
                v[v_at + l] = triplets[3 * l + 2];
            }
        }
    }
}

/* One product for `count` rows: the chain template, but for weights and the sum, comes filled in. */
static void product(const struct attention_call *a, struct fdm_conv_chain chain, const float *weight, int inputs,
                    int outputs, ptrdiff_t input_stride, int last_lanes) {
    ptrdiff_t segment[CHAIN];
    float *sum = chain.sum;
    const int max = a->kernels->max_vectors, groups = fdm_conv_groups(outputs, max);
    const float *x = chain.x;
    for (int s = 0; s < CHAIN; s++) segment[s] = s * input_stride;
    chain.x_segment = segment;
    for (int g = 0; g < groups; g++) {
        int first = fdm_conv_group_first(outputs, max, g);
        struct fdm_conv_finish finish = {.scale = 1, .lanes = g == groups - 1 ? last_lanes : LANES};
        chain.vectors = fdm_conv_group_size(outputs, max, g);
        chain.sum = sum + first * chain.sum_vector;
        for (int b = 0; b < inputs; b += CHAIN) {
            chain.segments = fdm_min_int(CHAIN, inputs - b);
            chain.x = x + b * input_stride;
            chain.weight = weight + ((size_t)first * inputs + (size_t)b * chain.vectors) * LANES * LANES;
            chain.first = b == 0;
            chain.finish = b + chain.segments == inputs ? &finish : NULL;
            a->kernels->chain(&chain);
        }
    }
}

static void attention_unit(const struct attention_call *a, const float *matrices, float *scores, int sample,
                           int first, int count) {
    ptrdiff_t query[STRIP], row[STRIP], pixel[STRIP];
    const int stride = a->key_blocks * LANES, width = a->out->w;
    for (int i = 0; i < count; i++) {
        query[i] = (ptrdiff_t)(first + i) * LANES;
        row[i] = (ptrdiff_t)i * stride;
        pixel[i] = fdm_f32_pixel(a->out, sample, (first + i) / width, (first + i) % width);
    }
    struct fdm_conv_chain chain = {.x = matrices, .x_pixel = query, .pixels = count};
    chain.sum = scores, chain.sum_pixel = row, chain.sum_vector = LANES;
    product(a, chain, matrices + a->matrix, a->channel_blocks, a->key_blocks, (ptrdiff_t)stride * LANES, LANES);

    /* Beyond the last key the scores stay 0 (or NaN if q is not finite, as then the whole row) and meet zeros of v.
     */
    a->elementwise->softmax_rows(scores, count, a->positions, stride);

    chain.x = scores, chain.x_pixel = row;
    chain.sum = a->out->data, chain.sum_pixel = pixel, chain.sum_vector = fdm_f32_plane(a->out);
    product(a, chain, matrices + 2 * a->matrix, a->key_blocks, a->channel_blocks, LANES,
            a->out->c - (a->channel_blocks - 1) * LANES);
}

/* Samples first .. first+samples-1: gather, then strips of queries. */
static void attention_group(const struct attention_call *a, int first, int samples, int threads) {
    const int wanted = fdm_div_up(a->positions * samples, 2 * threads), tile = a->kernels->tile;
    const int strip = fdm_min_int(STRIP, fdm_div_up(wanted, tile) * tile);
    const int strips = fdm_div_up(a->positions, strip);
#pragma omp parallel num_threads(threads)
    {
        float *scores = a->scores + (size_t)fdm_thread_index() * STRIP * a->key_blocks * LANES;
#pragma omp for schedule(static)
        for (int u = 0; u < samples * a->key_blocks; u++) {
            float *q = a->matrices + (size_t)(u / a->key_blocks) * 3 * a->matrix;
            gather_block(a, q, q + a->matrix, q + 2 * a->matrix, first + u / a->key_blocks, u % a->key_blocks);
        }
#pragma omp for schedule(dynamic)
        for (int u = 0; u < samples * strips; u++) {
            int sample = u / strips, begin = u % strips * strip;
            attention_unit(a, a->matrices + (size_t)sample * 3 * a->matrix, scores, first + sample, begin,
                           fdm_min_int(strip, a->positions - begin));
        }
    }
}

void fdm_f32_attention(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *qkv) {
    const int samples = fdm_min_int(out->n, exec->threads);
    struct attention_call a = {.kernels = exec->conv, .elementwise = exec->kernels, .qkv = qkv, .out = out};
    a.positions = out->h * out->w;
    a.key_blocks = fdm_f32_blocks(a.positions);
    a.channel_blocks = fdm_f32_blocks(out->c);
    a.matrix = (size_t)a.key_blocks * LANES * a.channel_blocks * LANES;
    a.root = (float)sqrt((double)out->c);
    a.matrices = exec->scratch;
    a.scores = a.matrices + (size_t)samples * 3 * a.matrix;
    for (int n = 0; n < out->n; n += samples) {
        attention_group(&a, n, fdm_min_int(samples, out->n - n), exec->threads);
    }
    const ptrdiff_t planes = (ptrdiff_t)out->n * a.channel_blocks;
#pragma omp parallel for schedule(static) num_threads(exec->threads)
    for (ptrdiff_t p = 0; p < planes; p++) fdm_f32_zero_halo(out, p);
}
