/* attention.c - self-attention of the f32 backends: two matrix products over the convolution micro-kernel.
 *
 * Scores:  "pixels" are queries, inputs are channels, outputs are keys;  weighted sum: inputs are keys, outputs are
 * channels.  k and v are gathered straight into the kernel's packed weight form, q into its input form, for a group
 * of at most `threads` samples; then strips of queries go score -> softmax -> weighted sum one by one, so that
 * memory grows with the map and not with the square of its pixels.
 *
 * Backward, with w = softmax(s), s = q k'^T, k' = k/sqrt(C), out = w v, for one strip of 128 queries after the
 * other: ds = w * (dw - sum of w dw),  dw = d_out v^T;     d_q = ds k'      (rows of the strip are the parallel
 * units) d_v += w^T d_out;     d_k += ds^T q, at the end divided by sqrt(C)       (keys are; a strip is one chain)
 */
#include <math.h>
#include <string.h>

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
    struct fdm_map *out; /* forward only */
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
    const int planes = fdm_min_int(3, fdm_f32_blocks(qkv->c) - 3 * b);
    const float *src = (const float *)qkv->data + pixel + 3 * b * fdm_f32_plane(qkv);
    for (int p = 0; p < planes; p++, src += fdm_f32_plane(qkv)) {
        __builtin_prefetch(src + 3 * fdm_f32_plane(qkv)); /* the next block's */
        memcpy(triplets + p * LANES, src, LANES * sizeof *src);
    }
    if (planes < 3) memset(triplets + planes * LANES, 0, (size_t)(3 - planes) * LANES * sizeof *triplets);
}

/* Operands of a sample, each a->matrix floats; NULL for those that a pass does not need.  k is divided by sqrt(C),
 * as published.  by_channel: packed as weights whose inputs are channels and whose outputs are keys; by_key: the
 * reverse. */
struct operands {
    float *q; /* [channel block][position][16 channels] */
    float *k_by_channel, *k_by_key, *v_by_channel, *v_by_key;
};

/* Where keys (16 key_block ..) and channels (16 b ..) meet in the packed forms: the first element, and from there
 * the floats to the next channel (by_channel; keys are adjacent) or to the next key (by_key; channels are). */
struct corner {
    size_t by_channel, next_channel, by_key, next_key;
};

static struct corner corner_of(const struct attention_call *a, int key_block, int b) {
    const int max = a->kernels->max_vectors, keys = a->key_blocks, channels = a->channel_blocks;
    const int key = key_block * LANES, channel = b * LANES;
    struct corner c = {.by_channel = packed_at(keys, channels, max, channel, key),
                       .by_key = packed_at(channels, keys, max, key, channel)};
    c.next_channel = packed_at(keys, channels, max, channel + 1, key) - c.by_channel;
    c.next_key = packed_at(channels, keys, max, key + 1, channel) - c.by_key;
    return c;
}

/* 16 keys x 16 channels of k or v to their places. */
static void put(const struct attention_call *a, float *by_channel, float *by_key, const struct corner *c,
                const float *values) {
    if (by_channel) {
        a->elementwise->transpose(by_channel + c->by_channel, (ptrdiff_t)c->next_channel, values, LANES, LANES,
                                  LANES);
    }
    if (!by_key) return;
    for (int i = 0; i < LANES; i++) {
        memcpy(by_key + c->by_key + i * c->next_key, values + i * LANES, LANES * sizeof *values);
    }
}

/* Gathers 16 positions of a sample; those past the last are zero. */
static void gather_block(const struct attention_call *a, const struct operands *to, int sample, int key_block) {
    const int width = a->qkv->w, positions = fdm_min_int(LANES, a->positions - key_block * LANES);
    float triplets[LANES * 3 * LANES], k[LANES * LANES], v[LANES * LANES];
    ptrdiff_t pixel[LANES];
    for (int i = 0; i < positions; i++) {
        const int position = key_block * LANES + i;
        pixel[i] = fdm_f32_pixel(a->qkv, sample, position / width, position % width);
    }
    memset(triplets, 0, sizeof triplets);
    for (int b = 0; b < a->channel_blocks; b++) {
        const struct corner corner = corner_of(a, key_block, b);
        float *q = to->q + ((size_t)b * a->key_blocks + (size_t)key_block) * LANES * LANES;
        for (int i = 0; i < positions; i++) load_triplets(triplets + i * 3 * LANES, a->qkv, pixel[i], b);
        a->elementwise->split_triplets(q, k, v, triplets, a->root, LANES * LANES);
        put(a, to->k_by_channel, to->k_by_key, &corner, k);
        put(a, to->v_by_channel, to->v_by_key, &corner, v);
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
            const struct operands to = {.q = q, .k_by_channel = q + a->matrix, .v_by_key = q + 2 * a->matrix};
            gather_block(a, &to, first + u / a->key_blocks, u % a->key_blocks);
        }
#pragma omp for schedule(dynamic)
        for (int u = 0; u < samples * strips; u++) {
            int sample = u / strips, begin = u % strips * strip;
            attention_unit(a, a->matrices + (size_t)sample * 3 * a->matrix, scores, first + sample, begin,
                           fdm_min_int(strip, a->positions - begin));
        }
    }
}

/* What both directions know: `out` is a map of the output's shape. */
static void init_call(struct attention_call *a, const struct fdm_exec *exec, const struct fdm_map *out,
                      const struct fdm_map *qkv) {
    a->kernels = exec->conv;
    a->elementwise = exec->kernels;
    a->qkv = qkv;
    a->positions = out->h * out->w;
    a->key_blocks = fdm_f32_blocks(a->positions);
    a->channel_blocks = fdm_f32_blocks(out->c);
    a->matrix = (size_t)a->key_blocks * LANES * a->channel_blocks * LANES;
    a->root = (float)sqrt((double)out->c);
}

void fdm_f32_attention(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *qkv) {
    const int samples = fdm_min_int(out->n, exec->threads);
    struct attention_call a = {.out = out};
    init_call(&a, exec, out, qkv);
    a.matrices = exec->scratch;
    a.scores = a.matrices + (size_t)samples * 3 * a.matrix;
    for (int n = 0; n < out->n; n += samples) {
        attention_group(&a, n, fdm_min_int(samples, out->n - n), exec->threads);
    }
    const ptrdiff_t planes = (ptrdiff_t)out->n * a.channel_blocks;
#pragma omp parallel for schedule(static) num_threads(exec->threads)
    for (ptrdiff_t p = 0; p < planes; p++) fdm_f32_zero_halo(out, p);
}

/* ---- backward ---- */

enum {
    QUERIES = FDM_CONV_CHAIN_PIXELS, /* in a strip: one chain of d_k and d_v */
    MATRICES = 8,                    /* of a sample: q, k twice, v, d_out, d_q, d_k, d_v */
};

/* A sample's part of the scratch. */
struct backward_sample {
    struct operands in;
    float *d_out;           /* as q */
    float *d_q, *d_k, *d_v; /* [position][channels, padded to blocks] */
    float *w, *ds;          /* [QUERIES][stride]: softmax rows of the strip, and the gradient of the scores */
};

struct backward_call {
    struct attention_call a;
    const struct fdm_map *d_out;
    struct fdm_map_target d_qkv;
    int channels;     /* padded to blocks */
    ptrdiff_t stride; /* of the rows of w and ds: a block more than the keys, so that columns do not fall into few
                         sets of the caches */
    float *scratch;
};

static size_t sample_floats(size_t keys, size_t channels) {
    return MATRICES * keys * channels + 2 * (size_t)QUERIES * (keys + LANES);
}

size_t fdm_f32_attention_backward_scratch(int n, int c, int h, int w, int threads) {
    const size_t keys = fdm_round_up((size_t)h * w, LANES), channels = (size_t)fdm_f32_blocks(c) * LANES;
    size_t matrices, strips, bytes;
    if (!fdm_mul_size(&matrices, keys, channels) || !fdm_mul_size(&matrices, matrices, MATRICES) ||
        !fdm_mul_size(&strips, keys + LANES, 2 * (size_t)QUERIES) || !fdm_add_size(&bytes, matrices, strips) ||
        !fdm_mul_size(&bytes, bytes, sizeof(float) * (size_t)fdm_min_int(n, threads))) {
        return SIZE_MAX;
    }
    return bytes;
}

static struct backward_sample sample_at(const struct backward_call *b, int slot) {
    const size_t m = b->a.matrix;
    float *p = b->scratch + (size_t)slot * sample_floats((size_t)b->a.key_blocks * LANES, (size_t)b->channels);
    struct backward_sample s = {
        .in = {.q = p, .k_by_channel = p + m, .k_by_key = p + 2 * m, .v_by_channel = p + 3 * m}};
    s.d_out = p + 4 * m, s.d_q = p + 5 * m, s.d_k = p + 6 * m, s.d_v = p + 7 * m;
    s.w = p + 8 * m, s.ds = s.w + QUERIES * b->stride;
    return s;
}

/* d_out of 16 positions, in q's form. */
static void gather_d_out(const struct backward_call *b, float *to, int sample, int key_block) {
    const struct fdm_map *m = b->d_out;
    for (int block = 0; block < b->a.channel_blocks; block++) {
        for (int i = 0; i < LANES; i++) {
            const int position = key_block * LANES + i;
            float *dst = to + ((size_t)block * b->a.key_blocks * LANES + position) * LANES;
            if (position < b->a.positions) {
                const ptrdiff_t at = fdm_f32_pixel(m, sample, position / m->w, position % m->w);
                memcpy(dst, (const float *)m->data + at + block * fdm_f32_plane(m), LANES * sizeof *dst);
            } else {
                memset(dst, 0, LANES * sizeof *dst);
            }
        }
    }
}

/* Rows first .. first+count-1 of the strip that begins at query `strip`: w, ds and d_q. */
static void backward_rows(const struct backward_call *b, const struct backward_sample *s, int strip, int first,
                          int count) {
    const struct attention_call *a = &b->a;
    ptrdiff_t query[STRIP], row[STRIP], result[STRIP];
    const ptrdiff_t block = (ptrdiff_t)a->key_blocks * LANES * LANES;
    for (int i = 0; i < count; i++) {
        query[i] = (ptrdiff_t)(strip + first + i) * LANES;
        row[i] = (first + i) * b->stride;
        result[i] = (ptrdiff_t)(strip + first + i) * b->channels;
    }
    struct fdm_conv_chain chain = {.x_pixel = query, .sum_pixel = row, .sum_vector = LANES, .pixels = count};
    chain.x = s->in.q, chain.sum = s->w;
    product(a, chain, s->in.k_by_channel, a->channel_blocks, a->key_blocks, block, LANES);
    a->elementwise->softmax_rows(s->w + first * b->stride, count, a->positions, b->stride);

    chain.x = s->d_out, chain.sum = s->ds;
    product(a, chain, s->in.v_by_channel, a->channel_blocks, a->key_blocks, block, LANES);
    a->elementwise->softmax_backward(s->ds + first * b->stride, s->w + first * b->stride, count, a->positions,
                                     b->stride);

    chain.x = s->ds, chain.x_pixel = row;
    chain.sum = s->d_q, chain.sum_pixel = result;
    product(a, chain, s->in.k_by_key, a->key_blocks, a->channel_blocks, LANES, LANES);
}

/* sum[key][channel] (+)= the strip's part: rows^T d, for `count` keys from `first` on. */
static void backward_keys(const struct backward_call *b, float *sum, const float *rows, const float *d, int strip,
                          int first, int count) {
    const struct attention_call *a = &b->a;
    const int max = a->kernels->max_vectors, groups = fdm_conv_groups(a->channel_blocks, max);
    const ptrdiff_t block = (ptrdiff_t)a->key_blocks * LANES * LANES;
    ptrdiff_t key[STRIP];
    for (int i = 0; i < count; i++) key[i] = first + i;
    for (int g = 0; g < groups; g++) {
        const int vector = fdm_conv_group_first(a->channel_blocks, max, g);
        const struct fdm_conv_pixel_chain chain = {
            .x = rows,
            .x_row = key,
            .x_step = b->stride,
            .d = d + vector * block + (ptrdiff_t)strip * LANES,
            .d_vector = block,
            .sum = sum + (ptrdiff_t)first * b->channels + vector * LANES,
            .sum_row = b->channels,
            .rows = count,
            .vectors = fdm_conv_group_size(a->channel_blocks, max, g),
            .lines = 1,
            .width = fdm_min_int(QUERIES, a->positions - strip),
            .first = strip == 0,
        };
        a->kernels->pixel_chain(&chain);
    }
}

/* d_qkv (+)= the three gradients, for one position and channel block. */
static void scatter(const struct backward_call *b, const struct backward_sample *s, int sample, int position,
                    int block) {
    const struct fdm_map *m = b->d_qkv.map;
    const size_t at = (size_t)position * b->channels + (size_t)block * LANES;
    const int channels = fdm_min_int(LANES, b->d_out->c - block * LANES);
    const int planes = fdm_min_int(3, fdm_f32_blocks(m->c) - 3 * block);
    float triplets[3 * LANES] = {0};
    b->a.elementwise->merge_triplets(triplets, s->d_q + at, s->d_k + at, s->d_v + at, b->a.root, (size_t)channels);
    float *to = (float *)m->data + fdm_f32_pixel(m, sample, position / m->w, position % m->w);
    for (int p = 0; p < planes; p++) {
        float *dst = to + (3 * block + p) * fdm_f32_plane(m);
        const float *src = triplets + p * LANES;
        if (b->d_qkv.accumulate) {
            b->a.elementwise->add_scale(dst, dst, src, 1, LANES);
        } else {
            memcpy(dst, src, LANES * sizeof *dst);
        }
    }
}

/* One strip of queries of a group of samples: rows, then keys. */
static void backward_strip(const struct backward_call *b, int samples, int strip, int threads) {
    const struct attention_call *a = &b->a;
    const int queries = fdm_min_int(QUERIES, a->positions - strip), tile = a->kernels->tile;
    const int wanted = fdm_div_up(queries * samples, 2 * threads);
    const int rows = fdm_min_int(STRIP, fdm_div_up(wanted, tile) * tile), row_units = fdm_div_up(queries, rows);
    const int key_units = fdm_div_up(a->positions, STRIP);
#pragma omp for schedule(dynamic)
    for (int u = 0; u < samples * row_units; u++) {
        const struct backward_sample s = sample_at(b, u / row_units);
        const int first = u % row_units * rows;
        backward_rows(b, &s, strip, first, fdm_min_int(rows, queries - first));
    }
#pragma omp for schedule(dynamic)
    for (int u = 0; u < samples * key_units; u++) {
        const struct backward_sample s = sample_at(b, u / key_units);
        const int first = u % key_units * STRIP, count = fdm_min_int(STRIP, a->positions - first);
        backward_keys(b, s.d_v, s.w, s.d_out, strip, first, count);
        backward_keys(b, s.d_k, s.ds, s.in.q, strip, first, count);
    }
}

/* Samples first .. first+samples-1. */
static void backward_group(const struct backward_call *b, int first, int samples, int threads) {
    const struct attention_call *a = &b->a;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int u = 0; u < samples * a->key_blocks; u++) {
            const struct backward_sample s = sample_at(b, u / a->key_blocks);
            gather_block(a, &s.in, first + u / a->key_blocks, u % a->key_blocks);
            gather_d_out(b, s.d_out, first + u / a->key_blocks, u % a->key_blocks);
        }
        for (int strip = 0; strip < a->positions; strip += QUERIES) backward_strip(b, samples, strip, threads);
#pragma omp for schedule(static)
        for (int u = 0; u < samples * a->positions; u++) {
            const struct backward_sample s = sample_at(b, u / a->positions);
            for (int block = 0; block < a->channel_blocks; block++) {
                scatter(b, &s, first + u / a->positions, u % a->positions, block);
            }
        }
    }
}

void fdm_f32_attention_backward(const struct fdm_exec *exec, struct fdm_map_target d_qkv,
                                const struct fdm_map *d_out, const struct fdm_map *qkv) {
    if (!d_qkv.map) return;
    const int n = d_out->n, samples = fdm_min_int(n, exec->threads);
    struct backward_call b = {.d_out = d_out, .d_qkv = d_qkv, .scratch = exec->scratch};
    init_call(&b.a, exec, d_out, qkv);
    b.channels = b.a.channel_blocks * LANES;
    b.stride = (ptrdiff_t)(b.a.key_blocks + 1) * LANES;
    for (int i = 0; i < n; i += samples) backward_group(&b, i, fdm_min_int(samples, n - i), exec->threads);
    const ptrdiff_t planes = (ptrdiff_t)n * fdm_f32_blocks(qkv->c);
#pragma omp parallel for schedule(static) num_threads(exec->threads)
    for (ptrdiff_t p = 0; p < planes; p++) fdm_f32_zero_halo(d_qkv.map, p);
}
