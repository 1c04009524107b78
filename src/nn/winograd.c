/* winograd.c - 3x3 convolutions of the f32 backends by Winograd's F(2x2, 3x3) or F(4x4, 3x3), forward and back to
 * the input (the gradient of the weights is in winograd_weights.c); the maps are in simd/winograd.h, the matrix products on the micro-kernel of simd/conv.h.
 *
 * The tiles of a batch are numbered line by line and cut into strips, the units of parallel work: each thread transforms
 * a strip's input, multiplies and transforms back on its own, in memory that stays in its second-level cache.  The
 * points are taken row by row; for one row:
 *   1. V = a row of B^T d B                                          of all input channels
 *   2. M = U V, the sums over input channels                         for a unit of up to 64 output channels
 *   3. Y += the row's share of A^T M A; after the last row: epilogue and store
 *
 * Numerics: at every point one chain of FMAs over 32 (F(2x2)) or 64 (F(4x4)) input channels, chains added in order;
 * strips and units change no bits. */
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
    MAX_STRIP = 48,
    UNIT_VECTORS = 4, /* most vectors of outputs in a unit */
};

const struct fdm_winograd *fdm_winograd_method(int m) {
    static const struct fdm_winograd methods[] = {
        {.m = 2, .size = 4, .points = 16, .chain_blocks = FDM_WINOGRAD2_CHAIN, .strip = 48},
        {.m = 4, .size = 6, .points = 36, .chain_blocks = FDM_WINOGRAD4_CHAIN, .strip = 24, .prefetch = true},
    };
    return &methods[m == 4];
}

bool fdm_winograd_suits(int in_channels, int out_channels, int k) {
    return k == 3 && in_channels >= LANES && out_channels >= LANES;
}

/* ---- units of outputs ---- */

/* The vectors of outputs are split into the micro-kernel's groups, and adjacent groups into units of parallel work. */
struct units {
    int vectors, max; /* of outputs; in a group */
    int groups, unit_groups, count;
};
/* Vectors [first, first + vectors), in groups. */
struct unit {
    int first, vectors, groups;
    int before[UNIT_VECTORS + 1]; /* vectors before each group; all of them last */
};

static struct units units_of(int outputs, const struct fdm_conv_kernels *kernels) {
    struct units u = {.vectors = fdm_f32_blocks(outputs), .max = kernels->max_vectors};
    u.groups = fdm_conv_groups(u.vectors, u.max);
    u.unit_groups = fdm_max_int(1, UNIT_VECTORS / u.max);
    u.count = fdm_conv_groups(u.groups, u.unit_groups);
    return u;
}

static struct unit unit_at(const struct units *u, int index) {
    struct unit unit = {.first = 0};
    const int first_group = fdm_conv_group_first(u->groups, u->unit_groups, index);
    unit.groups = fdm_conv_group_size(u->groups, u->unit_groups, index);
    unit.first = fdm_conv_group_first(u->vectors, u->max, first_group);
    for (int g = 0; g <= unit.groups; g++)
        unit.before[g] = fdm_conv_group_first(u->vectors, u->max, first_group + g) - unit.first;
    unit.vectors = unit.before[unit.groups];
    return unit;
}

/* ---- packing, in the order of use: [point][unit][chain][group][input of the chain][16 * vectors outputs], then the
 * bias ---- */

/* Where the weights of a unit's group for the chain that starts with block b begin, at one point. */
static size_t chain_offset(const struct unit *unit, int blocks, int b, int chained, int group) {
    return ((size_t)unit->first * blocks + (size_t)unit->vectors * b + (size_t)unit->before[group] * chained) * LANES * LANES;
}

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

/* Block b of inputs for one group of outputs. */
static void pack_group(const struct fdm_winograd *method, const struct fdm_kernels *kernels, float *packed, size_t point,
                       const struct fdm_f32_weight *w, const struct unit *unit, int b, int group) {
    const int blocks = fdm_f32_blocks(w->inputs), first = b / method->chain_blocks * method->chain_blocks;
    const int chained = fdm_min_int(method->chain_blocks, blocks - first);
    const int vector = unit->first + unit->before[group], count = unit->before[group + 1] - unit->before[group];
    float *dst = packed + chain_offset(unit, blocks, first, chained, group) + (size_t)(b - first) * count * LANES * LANES;
    for (int v = 0; v < count; v++)
        pack_block(method, kernels, dst + v * LANES, (ptrdiff_t)count * LANES, point, w, (vector + v) * LANES, b * LANES);
}

void fdm_winograd_pack(const struct fdm_winograd *method, const struct fdm_exec *exec, void *packed, const float *weight,
                       const float *bias, int out_channels, int in_channels, bool adjoint) {
    const struct fdm_f32_weight w = fdm_f32_weight_of(weight, out_channels, in_channels, 3, adjoint);
    const struct units units = units_of(w.outputs, exec->conv);
    const int blocks = fdm_f32_blocks(w.inputs);
    const size_t point = point_floats(w.outputs, w.inputs);
#pragma omp parallel for collapse(2) schedule(static) num_threads(exec->threads)
    for (int u = 0; u < units.count; u++) {
        for (int b = 0; b < blocks; b++) {
            const struct unit unit = unit_at(&units, u);
            for (int g = 0; g < unit.groups; g++) pack_group(method, exec->kernels, packed, point, &w, &unit, b, g);
        }
    }
    float *packed_bias = (float *)packed + (size_t)method->points * point;
    for (int o = 0; o < units.vectors * LANES; o++) packed_bias[o] = bias && o < w.outputs ? bias[o] : 0;
}

/* ---- tiles ---- */

struct fdm_winograd_tiling fdm_winograd_tile(const struct fdm_winograd *method, const struct fdm_map *in, int pad) {
    struct fdm_winograd_tiling t = {.method = method, .in = in, .pad = pad};
    t.columns = fdm_div_up(in->w + 2 * pad - 2, method->m);
    t.lines = fdm_div_up(in->h + 2 * pad - 2, method->m);
    return t;
}

/* Adjacent tiles of one line. */
static void transform_line(const struct fdm_winograd_tiling *t, const struct fdm_kernels *kernels,
                           struct fdm_winograd_input *input, size_t tile, int block) {
    const struct fdm_map *in = t->in;
    const int m = t->method->m, column = (int)(tile % t->columns) * m;
    const int line = (int)(tile / t->columns % t->lines), n = (int)(tile / t->columns / t->lines);
    input->columns = in->w + 2 * t->pad - column;
    for (int i = 0; i < t->method->size; i++) { /* rows beyond the last one matter to outputs that do not exist only */
        const int y = fdm_min_int(line * m - t->pad + i, in->h + t->pad - 1);
        input->rows[i] =
            (const float *)in->data + fdm_f32_pixel(in, n, y, column - t->pad) + block * fdm_f32_plane(in);
    }
    (m == 2 ? kernels->winograd2_input : kernels->winograd4_input)(input);
}

void fdm_winograd_transform(const struct fdm_winograd_tiling *t, const struct fdm_kernels *kernels, float *v,
                            size_t v_point, float *line, size_t first, int tiles, int block, int row) {
    for (int at = 0, count; at < tiles; at += count) {
        count = fdm_min_int(tiles - at, t->columns - (int)((first + at) % t->columns));
        struct fdm_winograd_input input = {
            .v = v + (size_t)at * LANES, .v_point = (ptrdiff_t)v_point, .row = row, .tiles = count, .line = line};
        transform_line(t, kernels, &input, first + at, block);
    }
}

/* ---- memory: each thread has its own ---- */

/* Sizes in floats; the strides between points are kept off powers of two, which would all fall into the same cache
 * sets. */
struct layout {
    size_t v_point, v;       /* a row of points of V: [point][block of 16 inputs][tile][16] */
    size_t line;             /* an input line on its way there */
    size_t m_point, m;       /* the products of a unit: [point][tile][vector of outputs][16] */
    size_t y_point, y;       /* the outputs: [vector][m*m][tile][16] */
    size_t thread;           /* all that */
};

static bool lay_out(struct layout *l, const struct fdm_winograd *method, int in_channels, int out_channels) {
    const size_t blocks = fdm_round_up((size_t)in_channels, LANES) / LANES, strip = (size_t)method->strip;
    const size_t vectors = fdm_round_up((size_t)out_channels, LANES) / LANES;
    l->v_point = (blocks * strip + 3) * LANES;
    l->line = (method->m * strip + 2) * LANES;
    l->m_point = (strip * UNIT_VECTORS + 1) * LANES;
    l->m = l->m_point * method->size;
    l->y_point = (strip + 1) * LANES;
    return fdm_mul_size(&l->v, l->v_point, (size_t)method->size) &&
           fdm_mul_size(&l->y, vectors * method->m * method->m, l->y_point) &&
           fdm_add_size(&l->thread, l->v + l->line + l->m, l->y);
}

size_t fdm_winograd_scratch(const struct fdm_winograd *method, int in_channels, int out_channels, int threads) {
    struct layout l;
    size_t bytes;
    const bool fits = lay_out(&l, method, in_channels, out_channels) &&
                      fdm_mul_size(&bytes, l.thread, (size_t)threads * sizeof(float));
    return fits ? bytes : SIZE_MAX;
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
    float *scratch;
    struct fdm_winograd_tiling tiling;
    size_t tiles;       /* of the batch */
    int strip;          /* tiles in a strip */
    int blocks;         /* of inputs */
    struct units units; /* of outputs */
    int splits;         /* parts of the units that are worked on apart */
};

/* A strip at work: its tiles and the thread's memory. */
struct strip {
    size_t first;
    int tiles;
    float *v, *line, *m, *y;
    ptrdiff_t *x_pixel, *sum_pixel;
};

static void transform_input(const struct call *c, const struct strip *s, int row) {
    for (int b = 0; b < c->blocks; b++) {
        float *v = s->v + (size_t)b * c->method->strip * LANES;
        fdm_winograd_transform(&c->tiling, c->exec->kernels, v, c->l.v_point, s->line, s->first, s->tiles, b, row);
    }
}

/* The products of a row of points and a unit of outputs: for each chain of inputs all groups, so that the strip's part
 * of V is read into the first-level cache once. */
static void multiply(const struct call *c, const struct strip *s, const struct unit *unit, int row) {
    const size_t point = point_floats(c->out->c, c->in->c);
    const ptrdiff_t block = (ptrdiff_t)c->method->strip * LANES;
    const ptrdiff_t segments[FDM_WINOGRAD4_CHAIN] = {0, block, 2 * block, 3 * block};
    for (int i = 0; i < c->method->size; i++) {
        const float *weight = (const float *)c->args->weight + (row * c->method->size + i) * point;
        for (int b = 0; b < c->blocks; b += c->method->chain_blocks) {
            const int chained = fdm_min_int(c->method->chain_blocks, c->blocks - b);
            for (int g = 0; g < unit->groups; g++) {
                const int vectors = unit->before[g + 1] - unit->before[g];
                const float *w = weight + chain_offset(unit, c->blocks, b, chained, g);
                const struct fdm_conv_chain chain = {
                    .x = s->v + i * c->l.v_point + b * block,
                    .x_pixel = s->x_pixel,
                    .x_segment = segments,
                    .weight = w,
                    .sum = s->m + i * c->l.m_point + unit->before[g] * LANES,
                    .sum_pixel = s->sum_pixel,
                    .sum_vector = LANES,
                    .segments = chained,
                    .pixels = s->tiles,
                    .vectors = vectors,
                    .first = b == 0,
                    .next = c->method->prefetch ? w + (ptrdiff_t)chained * LANES * vectors * LANES : NULL,
                };
                c->exec->conv->chain(&chain);
            }
        }
    }
}

/* Where the outputs of a strip go, or come from. */
static void place(struct fdm_winograd_place *p, ptrdiff_t *table, const struct call *c, const struct strip *s,
                  const struct fdm_map *map) {
    const int m = c->method->m;
    if (!map) return;
    int line = (int)(s->first / c->tiling.columns), column = (int)(s->first % c->tiling.columns);
    for (int t = 0; t < s->tiles; t++) {
        table[t] = fdm_f32_pixel(map, line / c->tiling.lines, line % c->tiling.lines * m, column * m);
        if (++column == c->tiling.columns) column = 0, line++;
    }
    *p = (struct fdm_winograd_place){.p = map->data, .tile = table, .row = fdm_f32_row(map)};
}

/* To the plane of another vector of channels. */
static void move_to(struct fdm_winograd_place *p, const struct fdm_map *map, int vector) {
    if (map) p->p = (float *)map->data + vector * fdm_f32_plane(map);
}

/* Adds a row of products to the outputs of a unit; after the last row they are stored. */
static void add_products(const struct call *c, const struct strip *s, const struct unit *unit, int row) {
    const struct fdm_epilogue *e = &c->args->epilogue;
    const int m = c->method->m;
    const float *bias = (const float *)c->args->weight + c->method->points * point_floats(c->out->c, c->in->c);
    ptrdiff_t out[MAX_STRIP], raw[MAX_STRIP], residual[MAX_STRIP];
    uint8_t rows[MAX_STRIP], columns[MAX_STRIP];
    struct fdm_winograd_output o = {
        .m_point = (ptrdiff_t)c->l.m_point,
        .m_tile = unit->vectors * LANES,
        .y_point = (ptrdiff_t)c->l.y_point,
        .row = row,
        .tiles = s->tiles,
        .rows = rows,
        .columns = columns,
        .scale = (float)e->scale,
        .accumulate = c->accumulate,
    };
    if (row == c->method->size - 1) {
        for (int t = 0; t < s->tiles; t++) {
            const size_t tile = s->first + t;
            rows[t] = (uint8_t)fdm_min_int(m, c->out->h - (int)(tile / c->tiling.columns % c->tiling.lines) * m);
            columns[t] = (uint8_t)fdm_min_int(m, c->out->w - (int)(tile % c->tiling.columns) * m);
        }
        place(&o.out, out, c, s, c->out);
        place(&o.raw, raw, c, s, e->raw);
        place(&o.residual, residual, c, s, e->residual);
    }
    for (int v = 0; v < unit->vectors; v++) {
        const int vector = unit->first + v;
        o.m = s->m + v * LANES;
        o.y = s->y + (size_t)vector * m * m * c->l.y_point;
        o.bias = bias + vector * LANES;
        o.lanes = fdm_min_int(LANES, c->out->c - vector * LANES);
        move_to(&o.out, c->out, vector);
        move_to(&o.raw, e->raw, vector);
        move_to(&o.residual, e->residual, vector);
        (m == 2 ? c->exec->kernels->winograd2_output : c->exec->kernels->winograd4_output)(&o);
    }
}

/* One strip and one part of the outputs. */
static void convolve_strip(const struct call *c, size_t index, int split) {
    ptrdiff_t x_pixel[MAX_STRIP], sum_pixel[MAX_STRIP];
    const int first_unit = fdm_part_first(c->units.count, c->splits, split);
    const int end_unit = fdm_part_first(c->units.count, c->splits, split + 1);
    const size_t first = index * c->strip;
    float *scratch = c->scratch + fdm_thread_index() * c->l.thread;
    const struct strip s = {
        .first = first,
        .tiles = c->tiles - first < (size_t)c->strip ? (int)(c->tiles - first) : c->strip,
        .v = scratch,
        .m = scratch + c->l.v,
        .y = scratch + c->l.v + c->l.m,
        .line = scratch + c->l.v + c->l.m + c->l.y,
        .x_pixel = x_pixel,
        .sum_pixel = sum_pixel,
    };
    for (int t = 0; t < s.tiles; t++) x_pixel[t] = (ptrdiff_t)t * LANES;
    for (int row = 0; row < c->method->size; row++) {
        transform_input(c, &s, row);
        for (int u = first_unit; u < end_unit; u++) {
            const struct unit unit = unit_at(&c->units, u);
            for (int t = 0; t < s.tiles; t++) sum_pixel[t] = (ptrdiff_t)t * unit.vectors * LANES;
            multiply(c, &s, &unit, row);
            add_products(c, &s, &unit, row);
        }
    }
}

/* Roughly how long a way to cut the work takes, in tiles x units of outputs: each strip costs some tiles more for
 * streaming the weights, each part of the outputs a sixth of a unit for transforming the input (bench/LOG.md). */
static double makespan(const struct call *c, size_t strip, int splits) {
    const double per_strip = 3, per_part = 1.0 / 6;
    const size_t threads = (size_t)c->exec->threads, whole = c->tiles / strip * splits, rest = c->tiles % strip;
    const size_t turns = (whole + threads - 1) / threads, short_turns = rest && whole % threads == 0 ? 1 : 0;
    const double tiles = (double)turns * ((double)strip + per_strip) + (double)short_turns * ((double)rest + per_strip);
    return tiles * (fdm_div_up(c->units.count, splits) + per_part);
}

/* Strips of equal length that are whole register tiles, and into how many parts the outputs are split, so that all threads
 * are busy for the same time. */
static void choose_strips(struct call *c) {
    const size_t tile = (size_t)c->exec->conv->tile, least = (c->tiles + c->method->strip - 1) / c->method->strip;
    double best = 0;
    for (size_t strips = least; strips <= least + 4 * (size_t)c->exec->threads; strips++) {
        const size_t strip = fdm_round_up((c->tiles + strips - 1) / strips, tile);
        for (int splits = 1; splits <= c->units.count; splits++) {
            const double time = makespan(c, strip, splits);
            if (best > 0 && time >= best) continue;
            best = time;
            c->strip = (int)strip;
            c->splits = splits;
        }
    }
}

void fdm_winograd_conv2d(const struct fdm_winograd *method, const struct fdm_exec *exec, float *scratch,
                         struct fdm_map *out, const struct fdm_map *in, const struct fdm_conv2d_args *args,
                         bool accumulate) {
    struct call c = {.method = method, .exec = exec, .in = in, .out = out, .args = args, .accumulate = accumulate};
    c.scratch = scratch;
    c.tiling = fdm_winograd_tile(method, in, args->pad);
    c.tiles = (size_t)c.tiling.columns * c.tiling.lines * in->n;
    c.blocks = fdm_f32_blocks(in->c);
    c.units = units_of(out->c, exec->conv);
    (void)lay_out(&c.l, method, in->c, out->c); /* the scratch exists, so it fits */
    choose_strips(&c);
    const ptrdiff_t planes = (ptrdiff_t)out->n * c.units.vectors, strips = (ptrdiff_t)((c.tiles + c.strip - 1) / c.strip);
#pragma omp parallel num_threads(exec->threads)
    {
#pragma omp for schedule(static) nowait
        for (ptrdiff_t p = 0; p < planes; p++) {
            fdm_f32_zero_halo(out, p);
            if (args->epilogue.raw) fdm_f32_zero_halo(args->epilogue.raw, p);
        }
#pragma omp for schedule(dynamic)
        for (ptrdiff_t i = 0; i < strips * c.splits; i++) convolve_strip(&c, (size_t)(i % strips), (int)(i / strips));
    }
}
