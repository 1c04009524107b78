/* conv2d.c - direct convolution of the f32 backends over the micro-kernels of simd/conv.h.
 *
 * Loops: group of output channels -> strip of pixels -> block of input channels -> tile (in the kernel).  A strip's
 * partial sums live in the output map and stay in the second-level cache between blocks.  (group, strip) pairs are
 * the units of parallel work; since vectors run over outputs and chains over inputs, the split changes no bits. */
#include <string.h>

#include "base/base.h"
#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "simd/conv.h"

enum {
    LANES = FDM_F32_LANES,
    STRIP = 256,   /* pixels whose partial sums (256 x 48 x 4 B) share the L2 cache with a group's weights */
    MAX_TAPS = 49, /* 7 x 7 */
};

/* ---- packing: [group][block of 16 inputs][ky][kx][16 inputs][16 * vectors outputs], then [outputs] of bias ----
 */

static size_t packed_floats(int out_channels, int in_channels, int k) {
    return (size_t)fdm_f32_blocks(out_channels) * LANES * fdm_f32_blocks(in_channels) * LANES * k * k;
}

size_t fdm_f32_conv2d_packed_bytes(int out_channels, int in_channels, int k) {
    const size_t outputs = (size_t)fdm_f32_blocks(out_channels) * LANES;
    const size_t inputs = (size_t)fdm_f32_blocks(in_channels) * LANES;
    size_t floats, bytes;
    if (!fdm_mul_size(&floats, outputs, inputs) || !fdm_mul_size(&floats, floats, (size_t)k * k) ||
        !fdm_add_size(&floats, floats, outputs) || !fdm_mul_size(&bytes, floats, sizeof(float))) {
        return SIZE_MAX;
    }
    return bytes;
}

/* One vector of 16 output channels of one block of 16 input channels; rows of dst are `stride` floats apart. */
static void pack_vector(float *restrict dst, ptrdiff_t stride, const float *restrict weight, int first_out,
                        int first_in, int out_channels, int in_channels, int taps) {
    int inputs = fdm_min_int(LANES, in_channels - first_in);
    for (int l = 0; l < LANES; l++) {
        bool real = first_out + l < out_channels;
        const float *src = weight + ((size_t)(real ? first_out + l : 0) * in_channels + first_in) * taps;
        for (int t = 0; t < taps; t++) {
            float *d = dst + (ptrdiff_t)t * LANES * stride + l;
            for (int i = 0; i < LANES; i++) d[i * stride] = real && i < inputs ? src[i * taps + t] : 0;
        }
    }
}

void fdm_f32_conv2d_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                         int out_channels, int in_channels, int k) {
    const int max = exec->conv->max_vectors, taps = k * k;
    const int vectors = fdm_f32_blocks(out_channels), blocks = fdm_f32_blocks(in_channels);
    const int groups = fdm_conv_groups(vectors, max);
    float *packed_bias = (float *)packed + packed_floats(out_channels, in_channels, k);
#pragma omp parallel for collapse(2) schedule(static) num_threads(exec->threads)
    for (int g = 0; g < groups; g++) {
        for (int b = 0; b < blocks; b++) {
            int first = fdm_conv_group_first(vectors, max, g), count = fdm_conv_group_size(vectors, max, g);
            float *dst = (float *)packed + ((size_t)first * blocks + (size_t)b * count) * taps * LANES * LANES;
            for (int v = 0; v < count; v++) {
                pack_vector(dst + v * LANES, (ptrdiff_t)count * LANES, weight, (first + v) * LANES, b * LANES,
                            out_channels, in_channels, taps);
            }
        }
    }
    for (int o = 0; o < vectors * LANES; o++) packed_bias[o] = bias && o < out_channels ? bias[o] : 0;
}

/* ---- the convolution ---- */

struct conv_call {
    const struct fdm_conv_kernels *kernels;
    const struct fdm_map *in;
    struct fdm_map *out;
    const struct fdm_conv2d_args *args;
    ptrdiff_t segments[MAX_TAPS]; /* or, without taps, the blocks of a chain */
    int taps, blocks, vectors, groups;
    int chain_blocks; /* blocks of 16 input channels in a chain */
    size_t pixels;    /* N*H*W */
    int strip;        /* pixels per unit of work */
};

/* table[i] = offset of output pixel first+i (row-major over n, y, x) in `m`, shifted by (-pad, -pad). */
static void pixel_table(ptrdiff_t *table, const struct fdm_map *m, const struct fdm_map *out, int pad, size_t first,
                        int count) {
    size_t row = first / out->w;
    int x = (int)(first % out->w), y = (int)(row % out->h), n = (int)(row / out->h);
    for (int i = 0; i < count; i++) {
        table[i] = fdm_f32_pixel(m, n, y - pad, x - pad);
        if (++x == out->w) {
            x = 0;
            if (++y == out->h) y = 0, n++;
        }
    }
}

static void segment_table(struct conv_call *call, int k) {
    const struct fdm_map *in = call->in;
    if (k == 1) {
        for (int s = 0; s < call->chain_blocks; s++) call->segments[s] = s * fdm_f32_plane(in);
        return;
    }
    for (int ky = 0; ky < k; ky++) {
        for (int kx = 0; kx < k; kx++) call->segments[ky * k + kx] = ky * fdm_f32_row(in) + kx * LANES;
    }
}

/* All chains of one group of outputs for `count` pixels from `first_pixel` on. */
static void conv_unit(const struct conv_call *call, int group, size_t first_pixel, int count) {
    ptrdiff_t in_pixel[STRIP], out_pixel[STRIP], residual_pixel[STRIP], raw_pixel[STRIP];
    const struct fdm_epilogue *e = &call->args->epilogue;
    const int max = call->kernels->max_vectors;
    const int first = fdm_conv_group_first(call->vectors, max, group);
    const int vectors = fdm_conv_group_size(call->vectors, max, group);
    const bool last_group = first + vectors == call->vectors;
    const float *weight = call->args->weight;
    const float *bias = weight + packed_floats(call->out->c, call->in->c, call->args->k) + first * LANES;
    struct fdm_conv_finish finish = {.bias = bias, .scale = (float)e->scale};
    finish.lanes = last_group ? call->out->c - (call->vectors - 1) * LANES : LANES;
    pixel_table(in_pixel, call->in, call->out, call->args->pad, first_pixel, count);
    pixel_table(out_pixel, call->out, call->out, 0, first_pixel, count);
    if (e->residual) {
        pixel_table(residual_pixel, e->residual, call->out, 0, first_pixel, count);
        finish.residual_vector = fdm_f32_plane(e->residual);
        finish.residual = (const float *)e->residual->data + first * finish.residual_vector;
        finish.residual_pixel = residual_pixel;
    }
    if (e->raw) {
        pixel_table(raw_pixel, e->raw, call->out, 0, first_pixel, count);
        finish.raw_vector = fdm_f32_plane(e->raw);
        finish.raw = (float *)e->raw->data + first * finish.raw_vector;
        finish.raw_pixel = raw_pixel;
    }
    weight += (size_t)first * call->blocks * call->taps * LANES * LANES;
    for (int b = 0; b < call->blocks; b += call->chain_blocks) {
        int chained = fdm_min_int(call->chain_blocks, call->blocks - b);
        struct fdm_conv_chain chain = {
            .x = (const float *)call->in->data + b * fdm_f32_plane(call->in),
            .x_pixel = in_pixel,
            .x_segment = call->segments,
            .weight = weight + (size_t)b * call->taps * LANES * LANES * vectors,
            .sum = (float *)call->out->data + first * fdm_f32_plane(call->out),
            .sum_pixel = out_pixel,
            .sum_vector = fdm_f32_plane(call->out),
            .segments = chained * call->taps,
            .pixels = count,
            .vectors = vectors,
            .first = b == 0,
            .finish = b + chained == call->blocks ? &finish : NULL,
        };
        call->kernels->chain(&chain);
    }
}

/* Strips of equal length, short enough that there are eight units of work for each thread (the last ones to finish
 * then differ little), but no longer than STRIP: short strips stream a group's weights for few pixels. */
static int choose_strip(const struct conv_call *call, int threads) {
    const size_t tile = (size_t)call->kernels->tile, most = STRIP / tile * tile;
    size_t strip = call->pixels * (size_t)call->groups / (8 * (size_t)threads);
    strip = strip < tile ? tile : strip > most ? most : strip;
    const size_t strips = (call->pixels + strip - 1) / strip;
    return (int)fdm_round_up((call->pixels + strips - 1) / strips, tile);
}

void fdm_f32_conv2d(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                    const struct fdm_conv2d_args *args) {
    struct conv_call call = {.kernels = exec->conv, .in = in, .out = out, .args = args};
    call.taps = args->k * args->k;
    call.blocks = fdm_f32_blocks(in->c);
    call.vectors = fdm_f32_blocks(out->c);
    call.groups = fdm_conv_groups(call.vectors, exec->conv->max_vectors);
    call.chain_blocks = args->k == 1 ? FDM_CONV_CHAIN_SEGMENTS : 1;
    call.pixels = (size_t)out->n * out->h * out->w;
    call.strip = choose_strip(&call, exec->threads);
    segment_table(&call, args->k);
    const ptrdiff_t strips = (ptrdiff_t)((call.pixels + call.strip - 1) / call.strip);
    const ptrdiff_t planes = (ptrdiff_t)out->n * call.vectors;
    const struct fdm_map *raw = args->epilogue.raw;
#pragma omp parallel num_threads(exec->threads)
    {
#pragma omp for schedule(static) nowait
        for (ptrdiff_t p = 0; p < planes; p++) {
            fdm_f32_zero_halo(out, p);
            if (raw) fdm_f32_zero_halo(raw, p);
        }
#pragma omp for schedule(dynamic)
        for (ptrdiff_t unit = 0; unit < strips * call.groups; unit++) {
            size_t first = (size_t)(unit % strips) * call.strip;
            size_t left = call.pixels - first;
            conv_unit(&call, (int)(unit / strips), first, left < (size_t)call.strip ? (int)left : call.strip);
        }
    }
}
