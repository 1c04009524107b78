/* conv2d.c - direct convolution of the f32 backends over the micro-kernels of simd/conv.h, forward and backward.
 *
 * Forward loops: group of output channels -> strip of pixels -> block of input channels -> tile (in the kernel).  A
 * strip's partial sums live in the output map and stay in the second-level cache between blocks.  (group, strip)
 * pairs are the units of parallel work; since vectors run over outputs and chains over inputs, the split changes no
 * bits.  Where there are no taps (1x1) weights are few and inputs are read only once a group, so a unit is a strip
 * whose inputs fit the second-level cache, with several groups of outputs, one after the other.
 *
 * Backward: the gradient of the input is a forward convolution of d_out with the weights transposed and flipped.
 * That of the weights has a kernel of its own, whose chains run over pixels: group of output channels x some rows
 * (input channel and tap) -> sample -> chain -> tile, and the units of parallel work are the pairs of the first
 * two. */
#include <string.h>

#include "base/base.h"
#include "base/threads.h"
#include "nn/conv2d.h"
#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "nn/f32_tree.h"
#include "simd/conv.h"
#include "simd/kernel_table.h"

enum {
    LANES = FDM_F32_LANES,
    STRIP = 256,     /* pixels whose partial sums (256 x 48 x 4 B) share the L2 cache with a group's weights */
    MAX_TAPS = 49,   /* 7 x 7 */
    STRIP_INPUTS = 32768, /* floats of input (128 KB) in a strip of a 1x1 convolution: stay in L2 between groups */
    SHORT_STRIP = 48,     /* pixels in such a strip at least, as each streams a group's weights */
    UNIT_VECTORS = 2 * FDM_CONV_MAX_VECTORS, /* of outputs in a unit of a 1x1 convolution's weight gradient */
    UNIT_ROWS = 144, /* rows of a weight gradient per unit of work: a multiple of every tile; 16 inputs x 9 taps */
    WIDTH = FDM_CONV_MAX_VECTORS * LANES,
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

struct fdm_f32_weight fdm_f32_weight_of(const float *weight, int out_channels, int in_channels, int k, bool adjoint) {
    const ptrdiff_t taps = (ptrdiff_t)k * k, row = in_channels * taps;
    if (adjoint) return (struct fdm_f32_weight){weight, in_channels, out_channels, (int)taps, taps, row, true};
    return (struct fdm_f32_weight){weight, out_channels, in_channels, (int)taps, row, taps, false};
}

void fdm_f32_pack_vector(float *restrict dst, ptrdiff_t stride, const struct fdm_f32_weight *w, int first_out,
                         int first_in) {
    const int inputs = fdm_min_int(LANES, w->inputs - first_in),
              outputs = fdm_min_int(LANES, w->outputs - first_out);
    const float *block = w->data + first_out * w->output + first_in * w->input;
    const ptrdiff_t output = w->output;
    for (int t = 0; t < w->taps; t++) {
        const float *src = block + (w->flipped ? w->taps - 1 - t : t);
        for (int i = 0; i < LANES; i++, dst += stride) {
            const ptrdiff_t at = i * w->input;
            if (i < inputs && outputs == LANES && output == 1) { /* the adjoint of a 1x1 convolution: whole lines */
                memcpy(dst, src + at, LANES * sizeof *dst);
            } else if (i < inputs && outputs == LANES) {
                for (int l = 0; l < LANES; l++) dst[l] = src[at + l * output];
            } else {
                for (int l = 0; l < LANES; l++) dst[l] = i < inputs && l < outputs ? src[at + l * output] : 0;
            }
        }
    }
}

static void pack_weight(const struct fdm_exec *exec, float *packed, const struct fdm_f32_weight *w) {
    const int max = exec->conv->max_vectors;
    const int vectors = fdm_f32_blocks(w->outputs), blocks = fdm_f32_blocks(w->inputs);
    const int groups = fdm_conv_groups(vectors, max);
#pragma omp parallel for collapse(2) schedule(static) num_threads(exec->threads)
    for (int g = 0; g < groups; g++) {
        for (int b = 0; b < blocks; b++) {
            int first = fdm_conv_group_first(vectors, max, g), count = fdm_conv_group_size(vectors, max, g);
            float *dst = packed + ((size_t)first * blocks + (size_t)b * count) * w->taps * LANES * LANES;
            for (int v = 0; v < count; v++) {
                fdm_f32_pack_vector(dst + v * LANES, (ptrdiff_t)count * LANES, w, (first + v) * LANES, b * LANES);
            }
        }
    }
}

void fdm_f32_conv2d_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                         int out_channels, int in_channels, int k) {
    const struct fdm_f32_weight view = fdm_f32_weight_of(weight, out_channels, in_channels, k, false);
    float *packed_bias = (float *)packed + packed_floats(out_channels, in_channels, k);
    pack_weight(exec, packed, &view);
    for (int o = 0; o < fdm_f32_blocks(out_channels) * LANES; o++) {
        packed_bias[o] = bias && o < out_channels ? bias[o] : 0;
    }
}

void fdm_f32_conv2d_pack_adjoint(const struct fdm_exec *exec, void *packed, const float *weight, int out_channels,
                                 int in_channels, int k) {
    const struct fdm_f32_weight view = fdm_f32_weight_of(weight, out_channels, in_channels, k, true);
    float *packed_bias = (float *)packed + packed_floats(in_channels, out_channels, k);
    pack_weight(exec, packed, &view);
    memset(packed_bias, 0, (size_t)fdm_f32_blocks(in_channels) * LANES * sizeof(float));
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
    int group_run;    /* groups per unit of work */
    float *sums; /* NULL, or [threads][STRIP][WIDTH]: the results are added to out, which holds no partial sums */
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

/* What conv_unit knows of its strip of pixels, whatever the group. */
struct strip {
    int count;
    ptrdiff_t in[STRIP], out[STRIP], residual[STRIP], raw[STRIP];
    ptrdiff_t sum[STRIP]; /* in call->sums */
};

static void strip_tables(struct strip *s, const struct conv_call *call, size_t first_pixel, int count) {
    const struct fdm_epilogue *e = &call->args->epilogue;
    s->count = count;
    pixel_table(s->in, call->in, call->out, call->args->pad, first_pixel, count);
    pixel_table(s->out, call->out, call->out, 0, first_pixel, count);
    if (e->residual) pixel_table(s->residual, e->residual, call->out, 0, first_pixel, count);
    if (e->raw) pixel_table(s->raw, e->raw, call->out, 0, first_pixel, count);
    if (call->sums) {
        for (int p = 0; p < count; p++) s->sum[p] = (ptrdiff_t)p * call->kernels->max_vectors * LANES;
    }
}

/* All chains of one group of outputs for a strip. */
static void conv_group(const struct conv_call *call, const struct strip *s, int group) {
    const struct fdm_epilogue *e = &call->args->epilogue;
    const int max = call->kernels->max_vectors;
    const int first = fdm_conv_group_first(call->vectors, max, group);
    const int vectors = fdm_conv_group_size(call->vectors, max, group);
    const bool last_group = first + vectors == call->vectors;
    const float *weight = call->args->weight;
    const float *bias = weight + packed_floats(call->out->c, call->in->c, call->args->k) + first * LANES;
    struct fdm_conv_finish finish = {.bias = bias, .scale = (float)e->scale};
    finish.lanes = last_group ? call->out->c - (call->vectors - 1) * LANES : LANES;
    if (e->residual) {
        finish.residual_vector = fdm_f32_plane(e->residual);
        finish.residual = (const float *)e->residual->data + first * finish.residual_vector;
        finish.residual_pixel = s->residual;
    }
    if (e->raw) {
        finish.raw_vector = fdm_f32_plane(e->raw);
        finish.raw = (float *)e->raw->data + first * finish.raw_vector;
        finish.raw_pixel = s->raw;
    }
    float *sum = (float *)call->out->data + first * fdm_f32_plane(call->out);
    ptrdiff_t sum_vector = fdm_f32_plane(call->out);
    if (call->sums) {
        finish.target = sum, finish.target_pixel = s->out, finish.target_vector = sum_vector;
        sum = call->sums + (size_t)fdm_thread_index() * STRIP * WIDTH;
        sum_vector = LANES;
    }
    weight += (size_t)first * call->blocks * call->taps * LANES * LANES;
    for (int b = 0; b < call->blocks; b += call->chain_blocks) {
        int chained = fdm_min_int(call->chain_blocks, call->blocks - b);
        struct fdm_conv_chain chain = {
            .x = (const float *)call->in->data + b * fdm_f32_plane(call->in),
            .x_pixel = s->in,
            .x_segment = call->segments,
            .weight = weight + (size_t)b * call->taps * LANES * LANES * vectors,
            .sum = sum,
            .sum_pixel = call->sums ? s->sum : s->out,
            .sum_vector = sum_vector,
            .segments = chained * call->taps,
            .pixels = s->count,
            .vectors = vectors,
            .first = b == 0,
            .finish = b + chained == call->blocks ? &finish : NULL,
        };
        call->kernels->chain(&chain);
    }
}

/* Unit `unit`: of `strips` strips, or of a 1x1 convolution's runs of groups, those of one strip after the other. */
static void conv_unit(const struct conv_call *call, ptrdiff_t unit, ptrdiff_t strips) {
    const int runs = fdm_div_up(call->groups, call->group_run);
    const ptrdiff_t strip = call->taps == 1 ? unit / runs : unit % strips;
    const int group = (int)(call->taps == 1 ? unit % runs : unit / strips) * call->group_run;
    const size_t first = (size_t)strip * call->strip, left = call->pixels - first;
    struct strip s;
    strip_tables(&s, call, first, left < (size_t)call->strip ? (int)left : call->strip);
    for (int g = group; g < fdm_min_int(group + call->group_run, call->groups); g++) conv_group(call, &s, g);
}

/* Strips of equal length, short enough that there are eight units of work for each thread (the last ones to finish
 * then differ little), but no longer than STRIP: short strips stream a group's weights for few pixels. */
static int choose_strip(const struct conv_call *call, int threads) {
    const size_t tile = (size_t)call->kernels->tile;
    size_t most = STRIP / tile * tile, strip = call->pixels * (size_t)call->groups / (8 * (size_t)threads);
    if (call->taps == 1) {
        const size_t fit = STRIP_INPUTS / ((size_t)call->blocks * LANES) / tile * tile;
        const size_t least = SHORT_STRIP / tile * tile;
        most = fit < least ? least : fit < most ? fit : most;
    }
    strip = strip < tile ? tile : strip > most ? most : strip;
    const size_t strips = (call->pixels + strip - 1) / strip;
    return (int)fdm_round_up((call->pixels + strips - 1) / strips, tile);
}

/* How many groups a unit has: all, where there are no taps and units enough. */
static int choose_group_run(const struct conv_call *call, size_t strips, int threads) {
    const size_t runs = (8 * (size_t)threads + strips - 1) / strips;
    if (call->taps > 1) return 1;
    return runs < (size_t)call->groups ? fdm_div_up(call->groups, (int)runs) : 1;
}

/* out = the convolution, or with `sums` out += the convolution. */
static void run(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                const struct fdm_conv2d_args *args, float *sums) {
    struct conv_call call = {.kernels = exec->conv, .in = in, .out = out, .args = args, .sums = sums};
    call.taps = args->k * args->k;
    call.blocks = fdm_f32_blocks(in->c);
    call.vectors = fdm_f32_blocks(out->c);
    call.groups = fdm_conv_groups(call.vectors, exec->conv->max_vectors);
    call.chain_blocks = args->k == 1 ? FDM_CONV_CHAIN_SEGMENTS : 1;
    call.pixels = (size_t)out->n * out->h * out->w;
    call.strip = choose_strip(&call, exec->threads);
    segment_table(&call, args->k);
    const ptrdiff_t strips = (ptrdiff_t)((call.pixels + call.strip - 1) / call.strip);
    call.group_run = choose_group_run(&call, (size_t)strips, exec->threads);
    const ptrdiff_t units = strips * fdm_div_up(call.groups, call.group_run);
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
        for (ptrdiff_t unit = 0; unit < units; unit++) conv_unit(&call, unit, strips);
    }
}

void fdm_f32_conv2d(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                    const struct fdm_conv2d_args *args) {
    run(exec, out, in, args, NULL);
}

/* ---- backward: the weights ---- */

/* The gradient as the kernel makes it: a row for every input channel and tap (in the order of the dense weight), a
 * column for every output channel. */
struct weights_call {
    const struct fdm_exec *exec;
    const struct fdm_map *d_out, *in;
    const struct fdm_conv2d_backward_args *args;
    int rows;            /* input channels * taps */
    int units;           /* of at most UNIT_ROWS rows */
    int vectors, groups; /* of output channels */
    int group_run;       /* groups per unit of work: several without taps, so that inputs are read once */
    int lines;           /* of pixels in a chain */
    float *sums;         /* [threads][fdm_tree_depth(n)][groups of a unit][UNIT_ROWS][16 * vectors] */
    size_t thread_sums;
};

/* Where row r of the gradient starts to read a plane of the input whose chain starts at pixel (0, 0). */
static ptrdiff_t row_offset(const struct weights_call *call, int row) {
    const int k = call->args->k, channel = row / (k * k), tap = row % (k * k);
    return channel / LANES * fdm_f32_plane(call->in) + channel % LANES + tap / k * fdm_f32_row(call->in) +
           (ptrdiff_t)(tap % k) * LANES;
}

/* One group's part of a unit: its outputs, and where its sums begin in every leaf of the tree. */
struct weights_group {
    int first, vectors; /* output vectors */
    size_t offset;
};
struct weights_rows {
    int first, count;
    ptrdiff_t offset[UNIT_ROWS]; /* row_offset */
};

/* sum (+)= the chain of one sample that begins at line y, for one group of outputs. */
static void gradient_chain(const struct weights_call *call, float *sum, const struct weights_rows *rows,
                           const struct weights_group *group, int n, int y) {
    const struct fdm_map *in = call->in, *d_out = call->d_out;
    const int pad = call->args->pad;
    const struct fdm_conv_pixel_chain chain = {
        .x = (const float *)in->data + fdm_f32_pixel(in, n, y - pad, -pad),
        .x_row = rows->offset,
        .x_line = fdm_f32_row(in),
        .x_step = LANES,
        .d = (const float *)d_out->data + fdm_f32_pixel(d_out, n, y, 0) + group->first * fdm_f32_plane(d_out),
        .d_line = fdm_f32_row(d_out),
        .d_vector = fdm_f32_plane(d_out),
        .sum = sum + group->offset,
        .sum_row = (ptrdiff_t)group->vectors * LANES,
        .rows = rows->count,
        .vectors = group->vectors,
        .lines = fdm_min_int(call->lines, d_out->h - y),
        .width = d_out->w,
        .first = y == 0,
    };
    call->exec->conv->pixel_chain(&chain);
}

/* sum = the gradient of one sample, `size` floats: all groups chain by chain, so that a chain's inputs come from
 * memory once. */
static void sample_gradient(const struct weights_call *call, float *sum, const struct weights_rows *rows,
                            const struct weights_group *groups, int group_count, size_t size, int n) {
    for (int y = 0; y < call->d_out->h; y += call->lines) {
        for (int g = 0; g < group_count; g++) gradient_chain(call, sum, rows, &groups[g], n, y);
    }
    const float scale = (float)call->args->scale;
    if (scale != 1) call->exec->kernels->scale(sum, sum, scale, size);
}

/* The unit's columns of the dense gradient's lines, for one group's outputs. */
static void store_gradient(const struct weights_call *call, const float *sum, const struct weights_rows *rows,
                           const struct weights_group *group) {
    const int first_out = group->first * LANES;
    const int outputs = fdm_min_int(group->vectors * LANES, call->d_out->c - first_out);
    float *dst = (float *)call->args->d_weight + (size_t)first_out * call->rows + rows->first;
    call->exec->kernels->transpose(dst, call->rows, sum + group->offset, (ptrdiff_t)group->vectors * LANES,
                                   rows->count, outputs);
}

static void unit_rows(struct weights_rows *rows, const struct weights_call *call, int unit) {
    const int tile = call->exec->conv->tile;
    const int tiles = fdm_div_up(call->rows, tile), per_unit = UNIT_ROWS / tile;
    rows->first = fdm_conv_group_first(tiles, per_unit, unit) * tile;
    rows->count = fdm_min_int(fdm_conv_group_size(tiles, per_unit, unit) * tile, call->rows - rows->first);
    for (int r = 0; r < rows->count; r++) rows->offset[r] = row_offset(call, rows->first + r);
}

static void weights_unit(const struct weights_call *call, int first_group, int unit) {
    const int group_count = fdm_min_int(call->group_run, call->groups - first_group);
    const int max = call->exec->conv->max_vectors;
    float *stack = call->sums + (size_t)fdm_thread_index() * call->thread_sums; /* partial trees */
    struct weights_rows rows;
    struct weights_group groups[UNIT_VECTORS];
    size_t size = 0;
    int trees = 0;
    unit_rows(&rows, call, unit);
    for (int g = 0; g < group_count; g++) {
        groups[g].first = fdm_conv_group_first(call->vectors, max, first_group + g);
        groups[g].vectors = fdm_conv_group_size(call->vectors, max, first_group + g);
        groups[g].offset = size;
        size += (size_t)rows.count * groups[g].vectors * LANES;
    }
    for (int n = 0; n < call->in->n; n++) {
        sample_gradient(call, stack + size * (size_t)trees, &rows, groups, group_count, size, n);
        trees = fdm_f32_merge_trees(call->exec, stack, trees + 1, fdm_tree_merges(n), size);
    }
    (void)fdm_f32_merge_trees(call->exec, stack, trees, trees - 1, size);
    for (int g = 0; g < group_count; g++) store_gradient(call, stack, &rows, &groups[g]);
}

void fdm_f32_bias_gradient(const struct fdm_exec *exec, const struct fdm_map *d_out, float scale, float *d_bias,
                           int block) {
    enum { DEPTH = 32 };
    float stack[DEPTH][LANES];
    int top = 0;
    for (int n = 0; n < d_out->n; n++) {
        const ptrdiff_t at = fdm_f32_pixel(d_out, n, 0, 0) + block * fdm_f32_plane(d_out);
        const struct fdm_const_plane plane = {(const float *)d_out->data + at, fdm_f32_row(d_out)};
        exec->kernels->plane_sum(stack[top], plane, d_out->h, d_out->w);
        exec->kernels->scale(stack[top], stack[top], scale, LANES);
        top++;
        for (int m = fdm_tree_merges(n); m > 0; m--, top--) {
            for (int l = 0; l < LANES; l++) stack[top - 2][l] += stack[top - 1][l];
        }
    }
    for (; top > 1; top--) {
        for (int l = 0; l < LANES; l++) stack[top - 2][l] += stack[top - 1][l];
    }
    const int lanes = fdm_min_int(LANES, d_out->c - block * LANES);
    memcpy(d_bias + block * LANES, stack[0], (size_t)lanes * sizeof(float));
}

static size_t unit_sums(int n, int k) {
    return (size_t)fdm_tree_depth(n) * UNIT_ROWS * (k == 1 ? UNIT_VECTORS * LANES : WIDTH);
}

static void weights_backward(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                             const struct fdm_conv2d_backward_args *args, float *sums) {
    struct weights_call call = {.exec = exec, .d_out = d_out, .in = in, .args = args, .sums = sums};
    call.rows = in->c * args->k * args->k;
    call.units = fdm_conv_groups(fdm_div_up(call.rows, exec->conv->tile), UNIT_ROWS / exec->conv->tile);
    call.vectors = fdm_f32_blocks(d_out->c);
    call.groups = fdm_conv_groups(call.vectors, exec->conv->max_vectors);
    call.lines = fdm_max_int(1, FDM_CONV_CHAIN_PIXELS / d_out->w);
    call.thread_sums = unit_sums(in->n, args->k);
    call.group_run = args->k == 1 ? fdm_min_int(call.groups, UNIT_VECTORS / exec->conv->max_vectors) : 1;
    while (call.group_run > 1 && call.units * fdm_div_up(call.groups, call.group_run) < 8 * exec->threads)
        call.group_run--;
    const int runs = fdm_div_up(call.groups, call.group_run);
#pragma omp parallel num_threads(exec->threads)
    {
#pragma omp for schedule(static) nowait
        for (int b = 0; b < (args->d_bias ? call.vectors : 0); b++) {
            fdm_f32_bias_gradient(exec, d_out, (float)args->scale, args->d_bias, b);
        }
#pragma omp for schedule(dynamic)
        for (int u = 0; u < runs * call.units; u++) {
            weights_unit(&call, u / call.units * call.group_run, u % call.units);
        }
    }
}

/* ---- backward: the data ---- */

void fdm_f32_residual_backward(const struct fdm_exec *exec, const struct fdm_map_target *target,
                               const struct fdm_map *d_out, float scale) {
    struct fdm_map *to = target->map;
    const ptrdiff_t planes = (ptrdiff_t)to->n * fdm_f32_blocks(to->c);
    const size_t row = (size_t)to->w * LANES;
#pragma omp parallel for schedule(static) num_threads(exec->threads)
    for (ptrdiff_t p = 0; p < planes; p++) {
        for (int y = 0; y < to->h; y++) {
            float *dst = (float *)to->data + p * fdm_f32_plane(to) + fdm_f32_pixel(to, 0, y, 0);
            const float *src =
                (const float *)d_out->data + p * fdm_f32_plane(d_out) + fdm_f32_pixel(d_out, 0, y, 0);
            if (target->accumulate) {
                exec->kernels->scale_add(dst, src, scale, row);
            } else {
                exec->kernels->scale(dst, src, scale, row);
            }
        }
        fdm_f32_zero_halo(to, p);
    }
}

static size_t strip_sums(int threads) { return (size_t)threads * STRIP * WIDTH; }

static void input_backward(const struct fdm_exec *exec, const struct fdm_map *d_out,
                           const struct fdm_conv2d_backward_args *args) {
    struct fdm_map *to = args->d_in.map;
    float *sums = exec->scratch, *packed = sums + strip_sums(exec->threads);
    const struct fdm_conv2d_args adjoint = {
        .k = args->k, .pad = args->k - 1 - args->pad, .weight = packed, .epilogue = {.scale = args->scale}};
    fdm_f32_conv2d_pack_adjoint(exec, packed, args->weight, d_out->c, to->c, args->k);
    run(exec, to, d_out, &adjoint, args->d_in.accumulate ? sums : NULL);
}

size_t fdm_f32_conv2d_backward_scratch(int n, int in_channels, int out_channels, int k, int h, int w, int threads) {
    const size_t packed = fdm_f32_conv2d_packed_bytes(in_channels, out_channels, k);
    size_t data, weights;
    (void)h, (void)w;
    if (!fdm_add_size(&data, packed, strip_sums(threads) * sizeof(float)) ||
        !fdm_mul_size(&weights, unit_sums(n, k) * sizeof(float), (size_t)threads)) {
        return SIZE_MAX;
    }
    return data > weights ? data : weights;
}

void fdm_f32_conv2d_backward(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                             const struct fdm_conv2d_backward_args *args) {
    if (args->d_residual.map) fdm_f32_residual_backward(exec, &args->d_residual, d_out, (float)args->scale);
    if (args->d_in.map) input_backward(exec, d_out, args);
    if (args->d_weight) weights_backward(exec, d_out, in, args, exec->scratch);
}
