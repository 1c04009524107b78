/* winograd.c - 3x3 convolutions of the f32 backends by Winograd's F(2x2, 3x3) or F(4x4, 3x3), forward and back to the
 * input; the maps are in simd/winograd.h, the matrix products on the micro-kernel of simd/conv.h.
 *
 * The tiles of a batch are numbered row by row.  A chunk of tile rows (a few MB of transformed input, whatever the
 * batch) goes through two phases, each with its units of parallel work:
 *   1. V = B^T d B        unit: a row of tiles x 16 input channels       -> V [point][block of 16 inputs][tile][16]
 *   2. Y = A^T (U V) A    unit: a strip of tiles x up to 64 outputs, all points; its products stay in the L2 cache
 * There are two buffers for V, so that threads go on to phase 1 of the next chunk while others finish phase 2: one
 * barrier a chunk.
 *
 * Numerics: at every point one chain of FMAs over 32 (F(2x2)) or 64 (F(4x4)) input channels, chains added in order;
 * chunks, strips and units change no bits. */
#include "simd/winograd.h"

#include <string.h>

#include "base/base.h"
#include "base/threads.h"
#include "nn/conv2d.h"
#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "nn/winograd.h"
#include "simd/conv.h"
#include "simd/kernel_table.h"

enum {
    LANES = FDM_F32_LANES,
    STRIP = 48,          /* most tiles in a unit: a multiple of every register tile */
    UNIT_VECTORS = 4,    /* most vectors of outputs in a unit */
    MIN_CHUNK = 4 << 20, /* bytes of V, at least */
    CHUNK_PER_THREAD = 2 << 20,
};

const struct fdm_winograd *fdm_winograd_method(int m) {
    static const struct fdm_winograd methods[] = {
        {.m = 2, .size = 4, .points = 16, .chain_blocks = FDM_WINOGRAD2_CHAIN},
        {.m = 4, .size = 6, .points = 36, .chain_blocks = FDM_WINOGRAD4_CHAIN},
    };
    return &methods[m == 4];
}

bool fdm_winograd_suits(int in_channels, int out_channels, int k) {
    return k == 3 && in_channels >= LANES && out_channels >= LANES;
}

/* ---- packing: [point][group of outputs][block of 16 inputs][16 inputs][16 * vectors outputs], then the bias ---- */

static size_t point_floats(int out_channels, int in_channels) {
    return (size_t)fdm_f32_blocks(out_channels) * LANES * fdm_f32_blocks(in_channels) * LANES;
}

size_t fdm_winograd_packed_bytes(const struct fdm_winograd *method, int out_channels, int in_channels) {
    const size_t outputs = fdm_round_up((size_t)out_channels, LANES), inputs = fdm_round_up((size_t)in_channels, LANES);
    size_t floats, bytes;
    if (!fdm_mul_size(&floats, outputs, inputs) || !fdm_mul_size(&floats, floats, (size_t)method->points) ||
        !fdm_add_size(&floats, floats, outputs) || !fdm_mul_size(&bytes, floats, sizeof(float)))
        return SIZE_MAX;
    return bytes;
}

static void pack_block(const struct fdm_winograd *method, const struct fdm_kernels *kernels, float *dst, ptrdiff_t row,
                       size_t point, const struct fdm_f32_weight *w, int first_out, int first_in) {
    float g[9][LANES][LANES], one[9][LANES]; /* [tap][input][output] */
    fdm_f32_pack_vector(&g[0][0][0], LANES, w, first_out, first_in);
    for (int i = 0; i < LANES; i++) {
        for (int tap = 0; tap < 9; tap++) memcpy(one[tap], g[tap][i], sizeof one[tap]);
        (method->m == 2 ? kernels->winograd2_weight : kernels->winograd4_weight)(dst + i * row, (ptrdiff_t)point,
                                                                                  &one[0][0]);
    }
}

void fdm_winograd_pack(const struct fdm_winograd *method, const struct fdm_exec *exec, void *packed, const float *weight,
                       const float *bias, int out_channels, int in_channels, bool adjoint) {
    const struct fdm_f32_weight w = fdm_f32_weight_of(weight, out_channels, in_channels, 3, adjoint);
    const int max = exec->conv->max_vectors, vectors = fdm_f32_blocks(w.outputs), blocks = fdm_f32_blocks(w.inputs);
    const int groups = fdm_conv_groups(vectors, max);
    const size_t point = point_floats(w.outputs, w.inputs);
#pragma omp parallel for collapse(2) schedule(static) num_threads(exec->threads)
    for (int g = 0; g < groups; g++) {
        for (int b = 0; b < blocks; b++) {
            const int first = fdm_conv_group_first(vectors, max, g), count = fdm_conv_group_size(vectors, max, g);
            float *dst = (float *)packed + ((size_t)first * blocks + (size_t)b * count) * LANES * LANES;
            for (int v = 0; v < count; v++)
                pack_block(method, exec->kernels, dst + v * LANES, (ptrdiff_t)count * LANES, point, &w,
                           (first + v) * LANES, b * LANES);
        }
    }
    float *packed_bias = (float *)packed + (size_t)method->points * point;
    for (int o = 0; o < vectors * LANES; o++) packed_bias[o] = bias && o < w.outputs ? bias[o] : 0;
}

/* ---- memory ---- */

/* Sizes in floats; the strides between points are kept off powers of two, which would all fall into the same cache
 * sets. */
struct layout {
    int chunk_rows, chunk_tiles;
    size_t v_point, v;      /* one of two buffers */
    size_t lines;           /* of each thread */
    size_t products;        /* of each thread */
    size_t total;           /* SIZE_MAX: overflow */
};

static struct layout lay_out(const struct fdm_winograd *method, int n, int in_channels, int h, int w, int threads) {
    struct layout l;
    const size_t tile_columns = fdm_div_up(w, method->m), tile_rows = (size_t)n * fdm_div_up(h, method->m);
    const size_t blocks = fdm_round_up((size_t)in_channels, LANES) / LANES;
    size_t budget = (size_t)CHUNK_PER_THREAD * threads, row, total;
    if (budget < MIN_CHUNK) budget = MIN_CHUNK;
    l.total = SIZE_MAX;
    if (!fdm_mul_size(&row, tile_columns * LANES * method->points, blocks) || row > SIZE_MAX / 64) return l;
    size_t rows = budget / sizeof(float) / row;
    rows = rows < 1 ? 1 : rows > tile_rows ? tile_rows : rows;
    l.chunk_rows = (int)rows;
    l.chunk_tiles = (int)(rows * tile_columns);
    l.v_point = (size_t)l.chunk_tiles * blocks * LANES + 3 * LANES;
    l.v = l.v_point * method->points;
    l.lines = (method->m * tile_columns + 2) * LANES * method->size;
    l.products = (size_t)method->points * (STRIP * UNIT_VECTORS + 1) * LANES;
    if (!fdm_mul_size(&total, l.lines + l.products, (size_t)threads) || !fdm_add_size(&total, total, l.v) ||
        !fdm_add_size(&total, total, l.v) || total > SIZE_MAX / sizeof(float))
        return l;
    l.total = total;
    return l;
}

size_t fdm_winograd_scratch(const struct fdm_winograd *method, int n, int in_channels, int h, int w, int threads) {
    const struct layout l = lay_out(method, n, in_channels, h, w, threads);
    return l.total == SIZE_MAX ? SIZE_MAX : l.total * sizeof(float);
}

/* ---- the convolution ---- */

struct call {
    const struct fdm_winograd *method;
    const struct fdm_exec *exec;
    const struct fdm_map *in;
    struct fdm_map *out;
    const struct fdm_conv2d_args *args;
    bool accumulate;
    struct layout l;
    float *v[2], *lines, *products;
    int tile_columns, tile_rows; /* of a sample */
    int blocks, vectors, groups; /* of inputs; of outputs; of the micro-kernel's groups of those */
    int unit_groups, units;      /* groups in a unit; units that cover the outputs */
};

/* Phase 1 of one row of tiles and block of channels. */
static void transform_input(const struct call *c, float *v, int row, int block, int row_in_chunk) {
    const struct fdm_map *in = c->in;
    const int n = row / c->tile_rows, first_y = row % c->tile_rows * c->method->m - c->args->pad;
    struct fdm_winograd_input input = {
        .v = v + ((size_t)block * c->l.chunk_tiles + (size_t)row_in_chunk * c->tile_columns) * LANES,
        .v_point = (ptrdiff_t)c->l.v_point,
        .columns = in->w + 2 * c->args->pad,
        .tiles = c->tile_columns,
        .lines = c->lines + (size_t)fdm_thread_index() * c->l.lines,
    };
    for (int i = 0; i < c->method->size; i++) { /* rows beyond the last one matter to outputs that do not exist only */
        const int y = fdm_min_int(first_y + i, in->h + c->args->pad - 1);
        input.rows[i] =
            (const float *)in->data + fdm_f32_pixel(in, n, y, -c->args->pad) + block * fdm_f32_plane(in);
    }
    (c->method->m == 2 ? c->exec->kernels->winograd2_input : c->exec->kernels->winograd4_input)(&input);
}

/* The products of a strip of tiles and one group of outputs, at every point. */
static void multiply_group(const struct call *c, const float *v, float *products, size_t m_point, int m_tile, int group,
                           int tiles) {
    const int max = c->exec->conv->max_vectors, first = fdm_conv_group_first(c->vectors, max, group);
    const int count = fdm_conv_group_size(c->vectors, max, group);
    const float *weight = (const float *)c->args->weight + (size_t)first * c->blocks * LANES * LANES;
    const size_t point = point_floats(c->out->c, c->in->c);
    ptrdiff_t x_pixel[STRIP], sum_pixel[STRIP], segments[FDM_WINOGRAD4_CHAIN];
    for (int t = 0; t < tiles; t++) x_pixel[t] = (ptrdiff_t)t * LANES, sum_pixel[t] = (ptrdiff_t)t * m_tile;
    for (int s = 0; s < c->method->chain_blocks; s++) segments[s] = (ptrdiff_t)s * c->l.chunk_tiles * LANES;
    for (int i = 0; i < c->method->points; i++) {
        for (int b = 0; b < c->blocks; b += c->method->chain_blocks) {
            const struct fdm_conv_chain chain = {
                .x = v + i * c->l.v_point + (size_t)b * c->l.chunk_tiles * LANES,
                .x_pixel = x_pixel,
                .x_segment = segments,
                .weight = weight + i * point + (size_t)b * count * LANES * LANES,
                .sum = products + i * m_point,
                .sum_pixel = sum_pixel,
                .sum_vector = LANES,
                .segments = fdm_min_int(c->method->chain_blocks, c->blocks - b),
                .pixels = tiles,
                .vectors = count,
                .first = b == 0,
            };
            c->exec->conv->chain(&chain);
        }
    }
}

static void tile_table(ptrdiff_t *table, const struct call *c, const struct fdm_map *m, int first, int tiles) {
    int row = first / c->tile_columns, column = first % c->tile_columns;
    for (int t = 0; t < tiles; t++) {
        table[t] = fdm_f32_pixel(m, row / c->tile_rows, row % c->tile_rows * c->method->m, column * c->method->m);
        if (++column == c->tile_columns) column = 0, row++;
    }
}

static void place(struct fdm_winograd_place *p, ptrdiff_t *table, const struct call *c, const struct fdm_map *m,
                  int first, int tiles) {
    if (!m) return;
    tile_table(table, c, m, first, tiles);
    *p = (struct fdm_winograd_place){.p = m->data, .tile = table, .row = fdm_f32_row(m)};
}

static void next_vector(struct fdm_winograd_place *p, const struct fdm_map *m, int vector) {
    if (m) p->p = (float *)m->data + vector * fdm_f32_plane(m);
}

/* The outputs of a strip from their products; `first` counts tiles of the batch. */
static void store_outputs(const struct call *c, const float *products, size_t m_point, int m_tile, int first,
                          int tiles, int first_vector, int vectors) {
    const struct fdm_epilogue *e = &c->args->epilogue;
    const int m = c->method->m;
    ptrdiff_t out[STRIP], raw[STRIP], residual[STRIP];
    uint8_t rows[STRIP], columns[STRIP];
    for (int t = 0; t < tiles; t++) {
        const int row = (first + t) / c->tile_columns % c->tile_rows, column = (first + t) % c->tile_columns;
        rows[t] = (uint8_t)fdm_min_int(m, c->out->h - row * m);
        columns[t] = (uint8_t)fdm_min_int(m, c->out->w - column * m);
    }
    struct fdm_winograd_output o = {
        .m_point = (ptrdiff_t)m_point,
        .m_tile = m_tile,
        .tiles = tiles,
        .rows = rows,
        .columns = columns,
        .scale = (float)e->scale,
        .accumulate = c->accumulate,
    };
    place(&o.out, out, c, c->out, first, tiles);
    place(&o.raw, raw, c, e->raw, first, tiles);
    place(&o.residual, residual, c, e->residual, first, tiles);
    const float *bias = (const float *)c->args->weight + c->method->points * point_floats(c->out->c, c->in->c);
    for (int v = 0; v < vectors; v++) {
        const int vector = first_vector + v;
        o.m = products + v * LANES;
        o.bias = bias + vector * LANES;
        o.lanes = fdm_min_int(LANES, c->out->c - vector * LANES);
        next_vector(&o.out, c->out, vector);
        next_vector(&o.raw, e->raw, vector);
        next_vector(&o.residual, e->residual, vector);
        (m == 2 ? c->exec->kernels->winograd2_output : c->exec->kernels->winograd4_output)(&o);
    }
}

/* Phase 2 of a strip of tiles and a unit of outputs.  `at`: the strip's first tile in the chunk. */
static void multiply(const struct call *c, const float *v, int chunk_first, int at, int tiles, int unit) {
    const int max = c->exec->conv->max_vectors;
    const int first_group = fdm_conv_group_first(c->groups, c->unit_groups, unit);
    const int groups = fdm_conv_group_size(c->groups, c->unit_groups, unit);
    const int first = fdm_conv_group_first(c->vectors, max, first_group);
    const int vectors = fdm_conv_group_first(c->vectors, max, first_group + groups) - first;
    const int m_tile = vectors * LANES;
    const size_t m_point = (size_t)STRIP * m_tile + LANES;
    float *products = c->products + (size_t)fdm_thread_index() * c->l.products;
    for (int g = first_group; g < first_group + groups; g++) {
        const int vector = fdm_conv_group_first(c->vectors, max, g) - first;
        multiply_group(c, v + (size_t)at * LANES, products + vector * LANES, m_point, m_tile, g, tiles);
    }
    store_outputs(c, products, m_point, m_tile, chunk_first + at, tiles, first, vectors);
}

/* Strips of equal length that are whole register tiles. */
static int choose_strip(const struct call *c, int tiles) {
    const int strips = fdm_div_up(tiles, STRIP);
    return (int)fdm_round_up((size_t)fdm_div_up(tiles, strips), (size_t)c->exec->conv->tile);
}

static void chunk(const struct call *c, int first_row, float *v) {
    const int rows = fdm_min_int(c->l.chunk_rows, c->in->n * c->tile_rows - first_row), tiles = rows * c->tile_columns;
    const int strip = choose_strip(c, tiles), strips = fdm_div_up(tiles, strip);
#pragma omp for schedule(static)
    for (int u = 0; u < c->blocks * rows; u++) transform_input(c, v, first_row + u % rows, u / rows, u % rows);
#pragma omp for schedule(dynamic) nowait
    for (int u = 0; u < strips * c->units; u++) {
        const int at = u % strips * strip;
        multiply(c, v, first_row * c->tile_columns, at, fdm_min_int(strip, tiles - at), u / strips);
    }
}

void fdm_winograd_conv2d(const struct fdm_winograd *method, const struct fdm_exec *exec, float *scratch,
                         struct fdm_map *out, const struct fdm_map *in, const struct fdm_conv2d_args *args,
                         bool accumulate) {
    struct call c = {.method = method, .exec = exec, .in = in, .out = out, .args = args, .accumulate = accumulate};
    c.l = lay_out(method, in->n, in->c, out->h, out->w, exec->threads);
    c.v[0] = scratch, c.v[1] = c.v[0] + c.l.v;
    c.lines = c.v[1] + c.l.v;
    c.products = c.lines + c.l.lines * exec->threads;
    c.tile_columns = fdm_div_up(out->w, method->m), c.tile_rows = fdm_div_up(out->h, method->m);
    c.blocks = fdm_f32_blocks(in->c), c.vectors = fdm_f32_blocks(out->c);
    c.groups = fdm_conv_groups(c.vectors, exec->conv->max_vectors);
    c.unit_groups = fdm_max_int(1, UNIT_VECTORS / exec->conv->max_vectors);
    c.units = fdm_conv_groups(c.groups, c.unit_groups);
    const int all_rows = in->n * c.tile_rows;
    const ptrdiff_t planes = (ptrdiff_t)out->n * c.vectors;
#pragma omp parallel num_threads(exec->threads)
    {
#pragma omp for schedule(static) nowait
        for (ptrdiff_t p = 0; p < planes; p++) {
            fdm_f32_zero_halo(out, p);
            if (args->epilogue.raw) fdm_f32_zero_halo(args->epilogue.raw, p);
        }
        for (int row = 0, turn = 0; row < all_rows; row += c.l.chunk_rows, turn ^= 1) chunk(&c, row, c.v[turn]);
    }
}
