/* winograd_weights.c - the gradient of 3x3 weights by Winograd's F(2x2, 3x3) (simd/winograd.h):
 *
 *     dg = G^T [ sum over tiles of (B^T d B)(A dY A^T) ] G
 *
 * A unit of parallel work is some input channels x some output channels; its sample gradients go up the tree of
 * sample_tree.h in the thread's own memory.  For each sample the points are taken row by row, and for a row the tiles
 * chain by chain: transform both operands, multiply (a micro-kernel whose chains run over tiles, simd/conv.h); then the
 * row's share of G^T dU G.  What a unit transforms, other units transform again: about 5 % of the work, less than
 * passing it through the third-level cache costs (bench/LOG.md). */
#include <string.h>

#include "base/base.h"
#include "base/threads.h"
#include "nn/conv2d.h"
#include "nn/f32_map.h"
#include "nn/f32_tree.h"
#include "nn/winograd.h"
#include "simd/conv.h"
#include "simd/kernel_table.h"

enum {
    LANES = FDM_F32_LANES,
    ROW = 4,                             /* points in a row */
    TAPS = 9,
    CHAIN = FDM_WINOGRAD_CHAIN_TILES,    /* tiles in a chain */
    UNIT_BLOCKS = 6,                     /* most blocks of 16 input channels in a unit */
    UNIT_VECTORS = 4,                    /* most vectors of output channels */
    CHANNELS = UNIT_BLOCKS * LANES,
    /* floats; the strides between points are kept off powers of two */
    BLOCK = CHAIN * LANES,               /* a block's or vector's share of a point */
    V_POINT = UNIT_BLOCKS * BLOCK + 3 * LANES,
    M_POINT = UNIT_VECTORS * BLOCK + 3 * LANES,
    U_POINT = (CHANNELS * UNIT_VECTORS + 3) * LANES,
    LINE = (2 * CHAIN + 2) * LANES,
    GRADIENT = CHANNELS * TAPS * UNIT_VECTORS * LANES, /* of a unit */
    WORK = ROW * (V_POINT + M_POINT + U_POINT) + LINE,
};

static size_t thread_floats(int n) { return WORK + (size_t)fdm_tree_depth(n) * GRADIENT; }

size_t fdm_winograd_weights_scratch(int n, int threads) {
    return thread_floats(n) * (size_t)threads * sizeof(float);
}

struct call {
    const struct fdm_exec *exec;
    const struct fdm_map *d_out, *in;
    const struct fdm_conv2d_backward_args *args;
    struct fdm_winograd_tiling tiling;
    float *scratch;
    int blocks, block_units;   /* of input channels, and units that cover them */
    int vectors, vector_units; /* of output channels */
};

/* A unit at work. */
struct unit {
    int first_block, blocks, first_vector, vectors, channels;
    float *v, *m, *u, *line; /* the thread's memory: a row of points of B^T d B, of A dY A^T, of dU */
};

/* The operands of one chain: `tiles` tiles from `tile` (of the batch) on. */
static void transform(const struct call *c, const struct unit *unit, size_t tile, int tiles, int row) {
    const struct fdm_kernels *kernels = c->exec->kernels;
    const struct fdm_map *d_out = c->d_out;
    for (int b = 0; b < unit->blocks; b++)
        fdm_winograd_transform(&c->tiling, kernels, unit->v + b * BLOCK, V_POINT, unit->line, tile, tiles,
                               unit->first_block + b, row);
    for (int at = 0, count; at < tiles; at += count) {
        const int column = (int)((tile + at) % c->tiling.columns);
        const size_t line = (tile + at) / c->tiling.columns;
        const int y = 2 * (int)(line % c->tiling.lines), n = (int)(line / c->tiling.lines);
        count = fdm_min_int(tiles - at, c->tiling.columns - column);
        for (int v = 0; v < unit->vectors; v++) {
            const struct fdm_winograd_spread spread = {
                .m = unit->m + v * BLOCK + at * LANES,
                .m_point = M_POINT,
                .row = row,
                .tiles = count,
                .d_out = (const float *)d_out->data + fdm_f32_pixel(d_out, n, y, 2 * column) +
                         (unit->first_vector + v) * fdm_f32_plane(d_out),
                .d_line = fdm_f32_row(d_out),
                .lines = d_out->h - y,
                .columns = d_out->w - 2 * column,
            };
            kernels->winograd2_spread(&spread);
        }
    }
}

/* dU of a row of points (+)= one chain. */
static void multiply(const struct call *c, const struct unit *unit, int tiles, bool first) {
    const struct fdm_conv_kernels *conv = c->exec->conv;
    ptrdiff_t x_row[CHANNELS];
    for (int i = 0; i < unit->channels; i++) x_row[i] = i / LANES * BLOCK + i % LANES;
    for (int point = 0; point < ROW; point++) {
        for (int v = 0, count; v < unit->vectors; v += count) {
            count = fdm_min_int(conv->max_vectors, unit->vectors - v);
            const struct fdm_conv_pixel_chain chain = {
                .x = unit->v + point * V_POINT,
                .x_row = x_row,
                .x_step = LANES,
                .d = unit->m + point * M_POINT + v * BLOCK,
                .d_vector = BLOCK,
                .sum = unit->u + point * U_POINT + v * LANES,
                .sum_row = (ptrdiff_t)unit->vectors * LANES,
                .rows = unit->channels,
                .vectors = count,
                .lines = 1,
                .width = tiles,
                .first = first,
            };
            conv->pixel_chain(&chain);
        }
    }
}

/* dg [channel][tap][vector][16] of one sample. */
static void sample_gradient(const struct call *c, const struct unit *unit, float *dg, int n) {
    const int tiles = c->tiling.columns * c->tiling.lines;
    for (int row = 0; row < ROW; row++) {
        for (int t = 0; t < tiles; t += CHAIN) {
            const int count = fdm_min_int(CHAIN, tiles - t);
            transform(c, unit, (size_t)n * tiles + t, count, row);
            multiply(c, unit, count, t == 0);
        }
        const struct fdm_winograd_gather gather = {
            .dg = dg,
            .u = unit->u,
            .u_point = U_POINT,
            .row = row,
            .channels = unit->channels,
            .vectors = unit->vectors,
            .scale = (float)c->args->scale,
        };
        c->exec->kernels->winograd2_gather(&gather);
    }
}

/* Into the dense gradient: the taps of the unit's input channels lie side by side there. */
static void store(const struct call *c, const struct unit *unit, const float *dg) {
    const int outputs = fdm_min_int(unit->vectors * LANES, c->d_out->c - unit->first_vector * LANES);
    const size_t row = (size_t)c->in->c * TAPS;
    for (int o = 0; o < outputs; o++) {
        float *dst = (float *)c->args->d_weight + (size_t)(unit->first_vector * LANES + o) * row +
                     (size_t)unit->first_block * LANES * TAPS;
        for (int r = 0; r < unit->channels * TAPS; r++) dst[r] = dg[(size_t)r * unit->vectors * LANES + o];
    }
}

static void weights_unit(const struct call *c, int block_unit, int vector_unit) {
    float *work = c->scratch + fdm_thread_index() * thread_floats(c->in->n), *stack = work + WORK;
    struct unit unit = {
        .first_block = fdm_part_first(c->blocks, c->block_units, block_unit),
        .first_vector = fdm_part_first(c->vectors, c->vector_units, vector_unit),
        .v = work,
        .m = work + ROW * V_POINT,
        .u = work + ROW * (V_POINT + M_POINT),
        .line = work + ROW * (V_POINT + M_POINT + U_POINT),
    };
    unit.blocks = fdm_part_first(c->blocks, c->block_units, block_unit + 1) - unit.first_block;
    unit.vectors = fdm_part_first(c->vectors, c->vector_units, vector_unit + 1) - unit.first_vector;
    unit.channels = fdm_min_int(unit.blocks * LANES, c->in->c - unit.first_block * LANES);
    const size_t size = (size_t)unit.channels * TAPS * unit.vectors * LANES;
    int trees = 0;
    for (int n = 0; n < c->in->n; n++) {
        sample_gradient(c, &unit, stack + size * (size_t)trees, n);
        trees = fdm_f32_merge_trees(c->exec, stack, trees + 1, fdm_tree_merges(n), size);
    }
    (void)fdm_f32_merge_trees(c->exec, stack, trees, trees - 1, size);
    store(c, &unit, stack);
}

/* Units of whole groups of the micro-kernel; smaller ones where there are too few for all threads. */
static void choose_units(struct call *c) {
    const int max = c->exec->conv->max_vectors, wanted = c->exec->threads > 1 ? 4 * c->exec->threads : 1;
    c->block_units = fdm_conv_groups(c->blocks, UNIT_BLOCKS);
    c->vector_units = fdm_conv_groups(c->vectors, UNIT_VECTORS / max * max);
    while (c->block_units * c->vector_units < wanted && c->block_units < c->blocks) c->block_units++;
    while (c->block_units * c->vector_units < wanted && c->vector_units < c->vectors) c->vector_units++;
}

void fdm_winograd_weights_backward(const struct fdm_exec *exec, float *scratch, const struct fdm_map *d_out,
                                   const struct fdm_map *in, const struct fdm_conv2d_backward_args *args) {
    struct call c = {.exec = exec, .d_out = d_out, .in = in, .args = args, .scratch = scratch};
    c.tiling = fdm_winograd_tile(fdm_winograd_method(2), in, args->pad);
    c.blocks = fdm_f32_blocks(in->c), c.vectors = fdm_f32_blocks(d_out->c);
    choose_units(&c);
    const int units = c.block_units * c.vector_units;
#pragma omp parallel num_threads(exec->threads)
    {
#pragma omp for schedule(static) nowait
        for (int b = 0; b < (args->d_bias ? c.vectors : 0); b++)
            fdm_f32_bias_gradient(exec, d_out, (float)args->scale, args->d_bias, b);
#pragma omp for schedule(dynamic)
        for (int u = 0; u < units; u++) weights_unit(&c, u / c.vector_units, u % c.vector_units);
    }
}
