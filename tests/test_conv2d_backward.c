/* test_conv2d_backward.c - the f32 gradients of a convolution, in each of its modes, against plain double loops and the published
 * program's, and bit for bit between instruction sets, thread counts and splits of the batch. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "golden.h"
#include "gradient_trees.h"
#include "nn/f32_layers.h"
#include "nn/winograd.h"
#include "suite.h"
#include "winograd_bound.h"

/* A sanitizer makes the kernels twenty times slower; the plain build tests the numbers, that one the memory. */
#ifdef FDM_POISON
enum { CASES = 12, SAME_BITS_CASES = 4, MOST_THREADS = 3 }; /* libomp leaks a little when a team grows beyond four */
#else
enum { CASES = 60, SAME_BITS_CASES = 25, MOST_THREADS = 5 };
#endif

/* One layer, what flows into it and what comes back. */
struct back_case {
    fdm_conv_mode mode;
    int n, in_c, out_c, h, w, k, pad;
    bool accumulate, has_bias;
    double scale;
    enum fill fill;
    struct fdm_map in, d_out, before_in, before_residual; /* before: what the targets hold if accumulate */
    struct fdm_map d_in, d_residual;
    float *weight, *d_weight, *d_bias;
};

static int pick(uint64_t *state, const int *from, int count) { return from[f32_below(state, count)]; }

static size_t weight_count(const struct back_case *c) { return (size_t)c->out_c * c->in_c * c->k * c->k; }

/* Targets for c's shape, and the arrays of the gradients. */
static void add_targets(struct back_case *c, int in_halo, int residual_halo) {
    c->d_in = f32_map(c->n, c->in_c, c->h, c->w, in_halo);
    c->d_residual = f32_map(c->n, c->out_c, c->d_out.h, c->d_out.w, residual_halo);
    c->d_weight = fdm_malloc_aligned(weight_count(c) * sizeof(float));
    c->d_bias = fdm_malloc_aligned((size_t)c->out_c * sizeof(float));
    ck_assert(c->d_weight && c->d_bias);
}

static void fill_case(struct back_case *c, uint64_t *state) {
    const int out_h = c->h + 2 * c->pad - c->k + 1, out_w = c->w + 2 * c->pad - c->k + 1;
    const int d_halo = fdm_max_int(0, c->k - 1 - c->pad), in_halo = f32_below(state, 3),
              residual_halo = f32_below(state, 3);
    c->in = f32_map_filled(state, c->n, c->in_c, c->h, c->w, c->pad + f32_below(state, 2), c->fill);
    c->d_out = f32_map_filled(state, c->n, c->out_c, out_h, out_w, d_halo + f32_below(state, 2), c->fill);
    c->before_in = f32_map_filled(state, c->n, c->in_c, c->h, c->w, in_halo, c->fill);
    c->before_residual = f32_map_filled(state, c->n, c->out_c, out_h, out_w, residual_halo, c->fill);
    c->weight = f32_array(state, weight_count(c), c->fill);
    add_targets(c, in_halo, residual_halo);
}

/* Single and odd channels, partial vectors and tiles, lines shorter and longer than a chain. */
static struct back_case draw_case(uint64_t *state, enum fill fill, fdm_conv_mode mode) {
    static const int channels[] = {1, 3, 8, 16, 24, 32, 48, 64, 80, 112, 160, 272};
    static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 40, 150}, kernels[] = {1, 1, 3, 3, 3, 5, 7};
    struct back_case c = {.fill = fill, .mode = mode};
    do {
        c.n = 1 + f32_below(state, 5);
        c.in_c = pick(state, channels, (int)FDM_ARRAY_LEN(channels));
        c.out_c = pick(state, channels, (int)FDM_ARRAY_LEN(channels));
        c.h = pick(state, sizes, (int)FDM_ARRAY_LEN(sizes));
        c.w = pick(state, sizes, (int)FDM_ARRAY_LEN(sizes));
        c.k = pick(state, kernels, (int)FDM_ARRAY_LEN(kernels));
        c.pad = f32_below(state, 2) ? c.k / 2 : f32_below(state, 3);
    } while (c.h + 2 * c.pad < c.k || c.w + 2 * c.pad < c.k ||
             (mode != FDM_CONV_DIRECT && !fdm_winograd_suits(c.in_c, c.out_c, c.k)) ||
             (double)c.n * c.in_c * c.out_c * (c.h + 2 * c.pad) * (c.w + 2 * c.pad) * c.k * c.k >
                 (mode == FDM_CONV_DIRECT ? 1.5e6 : 5e6));
    c.accumulate = f32_below(state, 2), c.has_bias = f32_below(state, 2);
    c.scale = f32_below(state, 2) ? 1 : fill == FILL_EXACT ? 0.5 : sqrt(0.5);
    fill_case(&c, state);
    return c;
}

static void free_case(struct back_case *c) {
    fdm_free_aligned(c->in.data), fdm_free_aligned(c->d_out.data), fdm_free_aligned(c->before_in.data);
    fdm_free_aligned(c->before_residual.data), fdm_free_aligned(c->d_in.data), fdm_free_aligned(c->d_residual.data);
    fdm_free_aligned(c->weight), fdm_free_aligned(c->d_weight), fdm_free_aligned(c->d_bias);
}

static void prepare(struct fdm_map *target, const struct fdm_map *before, bool accumulate) {
    if (accumulate) {
        memcpy(target->data, before->data, f32_map_bytes(target));
    } else {
        memset(target->data, 0xff, f32_map_bytes(target));
    }
}

/* Runs the case with poisoned memory, scratch of exactly the size asked for. */
static void run_case(struct back_case *c, enum fdm_isa isa, int threads) {
    struct fdm_exec exec = f32_exec(isa, threads);
    struct fdm_conv2d_backward_args args = {.k = c->k, .pad = c->pad, .scale = c->scale, .weight = c->weight};
    args.d_in = (struct fdm_map_target){&c->d_in, c->accumulate};
    args.d_residual = (struct fdm_map_target){&c->d_residual, c->accumulate};
    args.d_weight = c->d_weight, args.d_bias = c->has_bias ? c->d_bias : NULL;
    const struct fdm_backend *table = fdm_backend_f32(c->mode);
    exec.scratch_bytes =
        table->conv2d_backward_scratch(c->n, c->in_c, c->out_c, c->k, c->d_out.h, c->d_out.w, threads);
    exec.scratch = f32_scratch(exec.scratch_bytes);
    memset(c->d_weight, 0xff, weight_count(c) * sizeof(float));
    memset(c->d_bias, 0xff, (size_t)c->out_c * sizeof(float));
    prepare(&c->d_in, &c->before_in, c->accumulate);
    prepare(&c->d_residual, &c->before_residual, c->accumulate);
    table->conv2d_backward(&exec, &c->d_out, &c->in, &args);
    f32_scratch_free(exec.scratch, exec.scratch_bytes);
}

/* Sums in double, and of the absolute values; d_in and d_weight are the two adjoints of the same triple product. */
struct truth {
    double *d_in, *in_size, *d_weight, *weight_size, *d_bias, *bias_size;
};

static size_t index4(int a, int b, int c, int d, int nb, int nc, int nd) {
    return (((size_t)a * nb + b) * nc + c) * nd + d;
}

/* All that output pixel (n, o, y, x) gives. */
static void spread(const struct back_case *c, struct truth *t, int n, int o, int y, int x) {
    const double d = *f32_at(&c->d_out, n, o, y, x);
    t->d_bias[o] += d, t->bias_size[o] += fabs(d);
    for (int i = 0; i < c->in_c; i++) {
        for (int tap = 0; tap < c->k * c->k; tap++) {
            const int iy = y + tap / c->k - c->pad, ix = x + tap % c->k - c->pad;
            if (iy < 0 || iy >= c->h || ix < 0 || ix >= c->w) continue;
            const size_t at = index4(n, i, iy, ix, c->in_c, c->h, c->w);
            const size_t weight = ((size_t)o * c->in_c + i) * c->k * c->k + tap;
            const double to_in = d * c->weight[weight], to_weight = d * *f32_at(&c->in, n, i, iy, ix);
            t->d_in[at] += to_in, t->in_size[at] += fabs(to_in);
            t->d_weight[weight] += to_weight, t->weight_size[weight] += fabs(to_weight);
        }
    }
}

static struct truth compute_truth(const struct back_case *c) {
    const size_t inputs = (size_t)c->n * c->in_c * c->h * c->w;
    struct truth t = {calloc(inputs, 8),          calloc(inputs, 8),           calloc(weight_count(c), 8),
                      calloc(weight_count(c), 8), calloc((size_t)c->out_c, 8), calloc((size_t)c->out_c, 8)};
    ck_assert(t.d_in && t.in_size && t.d_weight && t.weight_size && t.d_bias && t.bias_size);
    for (int i = 0; i < c->n * c->out_c * c->d_out.h * c->d_out.w; i++) {
        const int x = i % c->d_out.w, y = i / c->d_out.w % c->d_out.h, row = i / (c->d_out.w * c->d_out.h);
        spread(c, &t, row / c->out_c, row % c->out_c, y, x);
    }
    return t;
}

/* The sizes that winograd_bound.h wants, in place of the direct ones: of d_in from the tile of d_out around a pixel, of
 * d_weight from the tiles of both operands. */
static void widen_sizes(const struct back_case *c, struct truth *t) {
    const int m = c->mode == FDM_CONV_WINOGRAD2 ? 2 : 4, pad = 2 - c->pad, size = m + 2;
    memset(t->in_size, 0, (size_t)c->n * c->in_c * c->h * c->w * sizeof *t->in_size);
    memset(t->weight_size, 0, weight_count(c) * sizeof *t->weight_size);
    for (size_t w = 0; w < (size_t)c->out_c * c->in_c; w++) {
        const int o = (int)(w / c->in_c), i = (int)(w % c->in_c);
        double taps = 0, both = 0;
        for (int tap = 0; tap < 9; tap++) taps += fabs((double)c->weight[w * 9 + tap]);
        for (int n = 0; n < c->n; n++) {
            for (int y = 0; y < c->h; y++)
                for (int x = 0; x < c->w; x++) {
                    double tile = 0;
                    for (int p = 0; p < size * size; p++) {
                        const int dy = y / m * m - pad + p / size, dx = x / m * m - pad + p % size;
                        if (dy >= 0 && dy < c->d_out.h && dx >= 0 && dx < c->d_out.w)
                            tile += fabs((double)*f32_at(&c->d_out, n, o, dy, dx));
                    }
                    t->in_size[index4(n, i, y, x, c->in_c, c->h, c->w)] += winograd_amplification(m) * taps * tile;
                }
            for (int y = 0; y < c->d_out.h; y += 2)
                for (int x = 0; x < c->d_out.w; x += 2) {
                    double in = 0, out = 0;
                    for (int p = 0; p < 16; p++) {
                        const int iy = y - c->pad + p / 4, ix = x - c->pad + p % 4;
                        if (iy >= 0 && iy < c->h && ix >= 0 && ix < c->w) in += fabs((double)*f32_at(&c->in, n, i, iy, ix));
                    }
                    for (int p = 0; p < 4; p++)
                        if (y + p / 2 < c->d_out.h && x + p % 2 < c->d_out.w)
                            out += fabs((double)*f32_at(&c->d_out, n, o, y + p / 2, x + p % 2));
                    both += in * out;
                }
        }
        for (int tap = 0; tap < 9; tap++) t->weight_size[w * 9 + tap] = winograd_amplification(2) * both;
    }
}

static void free_truth(struct truth *t) {
    free(t->d_in), free(t->in_size), free(t->d_weight), free(t->weight_size), free(t->d_bias), free(t->bias_size);
}

/* error <= roundings * 2^-24 * size, or nothing for exact data; the error as a part of the bound. */
static double judge(const struct back_case *c, const char *what, size_t at, double got, double expected,
                    double size, double roundings) {
    const bool thirds = c->mode == FDM_CONV_WINOGRAD4 && strcmp(what, "d_in") == 0; /* in its weights: never exact */
    const double bound = c->fill == FILL_EXACT && !thirds ? 0 : roundings * 0x1p-24 * size;
    const double error = fabs(got - expected);
    if (!(error <= bound)) /* ck_assert_msg would note each pass in a file */
        ck_abort_msg("%s[%zu]: %g instead of %g, error %g > %g", what, at, got, expected, error, bound);
    return bound > 0 ? error / bound : 0;
}

/* Tolerances: the a-priori bounds of the longest path of roundings.  d_in: a chain of 16 k^2 (128), a block sum
 * each, scale and target.  Parameters: a chain of at most max(128, W), a chain sum each, scale, the tree of
 * samples. */
static double check_case(const struct back_case *c) {
    const int blocks = (c->out_c + 15) / 16, pixels = c->d_out.h * c->d_out.w;
    const double data_roundings = (c->k == 1 ? 128 : 16 * c->k * c->k) + blocks + 3;
    const double parameter_roundings = fdm_max_int(128, c->d_out.w) + pixels / 64 + c->d_out.h + 8;
    struct truth t = compute_truth(c);
    double worst = 0;
    if (c->mode != FDM_CONV_DIRECT && (c->fill == FILL_RANDOM || c->mode == FDM_CONV_WINOGRAD4)) widen_sizes(c, &t);
    for (size_t i = 0; i < (size_t)c->n * c->in_c * c->h * c->w; i++) {
        const int x = (int)(i % c->w), y = (int)(i / c->w % c->h), row = (int)(i / ((size_t)c->w * c->h));
        const int n = row / c->in_c, channel = row % c->in_c;
        const double before = c->accumulate ? *f32_at(&c->before_in, n, channel, y, x) : 0;
        worst = fmax(worst, judge(c, "d_in", i, *f32_at(&c->d_in, n, channel, y, x), before + t.d_in[i] * c->scale,
                                  fabs(before) + t.in_size[i], data_roundings));
    }
    for (size_t i = 0; i < (size_t)c->n * c->out_c * pixels; i++) {
        const int x = (int)(i % c->d_out.w), y = (int)(i / c->d_out.w % c->d_out.h), row = (int)(i / pixels);
        const int n = row / c->out_c, o = row % c->out_c;
        const float gradient = (float)c->scale * *f32_at(&c->d_out, n, o, y, x);
        const float before = c->accumulate ? *f32_at(&c->before_residual, n, o, y, x) : 0;
        if (!(*f32_at(&c->d_residual, n, o, y, x) == before + gradient)) ck_abort_msg("d_residual[%zu]", i);
    }
    for (size_t i = 0; i < weight_count(c); i++) {
        worst = fmax(worst, judge(c, "d_weight", i, c->d_weight[i], t.d_weight[i] * c->scale, t.weight_size[i],
                                  parameter_roundings));
    }
    for (size_t o = 0; c->has_bias && o < (size_t)c->out_c; o++) {
        worst = fmax(worst, judge(c, "d_bias", o, c->d_bias[o], t.d_bias[o] * c->scale, t.bias_size[o],
                                  parameter_roundings));
    }
    f32_check_zeros(&c->d_in, "d_in");
    f32_check_zeros(&c->d_residual, "d_residual");
    free_truth(&t);
    return worst;
}

static void against_loops(enum fill fill, fdm_conv_mode mode, int cases, uint64_t seed) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    double worst = 0;
    for (int i = 0; i < cases; i++) {
        uint64_t state = seed + (uint64_t)i;
        struct back_case c = draw_case(&state, fill, mode);
        for (int a = 0; a < count; a++) {
            run_case(&c, isas[a], 1 + i % 3);
            worst = fmax(worst, check_case(&c));
        }
        free_case(&c);
    }
    printf("%s, %d cases, %s data: worst error / a-priori bound %.3f\n", fdm_conv_mode_name(mode), cases,
           fill == FILL_EXACT ? "exact" : "random", worst);
}

/* How many cases of a mode: Winograd's are larger. */
static int cases_of(int mode, int direct) { return mode == FDM_CONV_DIRECT ? direct : direct / 3; }

START_TEST(random_shapes) { against_loops(FILL_RANDOM, (fdm_conv_mode)_i, cases_of(_i, CASES), 1000); }
END_TEST

START_TEST(exact_shapes) { against_loops(FILL_EXACT, (fdm_conv_mode)_i, cases_of(_i, CASES), 2000); }
END_TEST

/* Work memory: the same for any size of map; beside a fixed part one gradient for each level of the tree of samples. */
START_TEST(workspace_grows_with_log2_of_the_batch) {
    const struct fdm_backend *table = fdm_backend_f32((fdm_conv_mode)_i);
    size_t bytes[12];
    for (int level = 0; level < 12; level++) {
        bytes[level] = table->conv2d_backward_scratch(1 << level, 16, 16, 3, 8, 8, 1);
        if (_i != FDM_CONV_DIRECT) /* no part of a map is kept */
            ck_assert_uint_eq(bytes[level], table->conv2d_backward_scratch(1 << level, 16, 16, 3, 64, 64, 1));
    }
    for (int level = 1; level < 11; level++)
        ck_assert_msg(bytes[level + 1] - bytes[level] == bytes[1] - bytes[0] && bytes[level + 1] > bytes[level],
                      "batch %d: %zu bytes, %d: %zu", 1 << level, bytes[level], 2 << level, bytes[level + 1]);
    ck_assert_uint_eq(table->conv2d_backward_scratch(8, 16, 16, 3, 8, 8, 4), 4 * table->conv2d_backward_scratch(8, 16, 16, 3, 8, 8, 1));
}
END_TEST

static void check_same(const struct back_case *a, const struct back_case *b, const char *what) {
    ck_assert_msg(!memcmp(a->d_in.data, b->d_in.data, f32_map_bytes(&a->d_in)), "d_in: %s", what);
    ck_assert_msg(!memcmp(a->d_residual.data, b->d_residual.data, f32_map_bytes(&a->d_residual)), "d_residual: %s",
                  what);
    ck_assert_msg(!memcmp(a->d_weight, b->d_weight, weight_count(a) * sizeof(float)), "d_weight: %s", what);
    ck_assert_msg(!memcmp(a->d_bias, b->d_bias, (size_t)a->out_c * sizeof(float)), "d_bias: %s", what);
}

/* Sample n of c as a case of its own. */
static struct back_case one_sample(const struct back_case *c, int n) {
    struct back_case one = *c;
    one.n = 1;
    one.in = f32_sample(&c->in, n), one.d_out = f32_sample(&c->d_out, n);
    one.before_in = f32_sample(&c->before_in, n), one.before_residual = f32_sample(&c->before_residual, n);
    one.weight = fdm_malloc_aligned(weight_count(c) * sizeof(float));
    ck_assert_ptr_nonnull(one.weight);
    memcpy(one.weight, c->weight, weight_count(c) * sizeof(float));
    add_targets(&one, c->d_in.halo, c->d_residual.halo);
    return one;
}

/* Gradients of the batch = the tree over the gradients of its samples; data gradients = the samples' own. */
static void check_tree(const struct back_case *c, enum fdm_isa isa) {
    struct gradient_tree weights = gradient_tree(c->n, weight_count(c)),
                         biases = gradient_tree(c->n, (size_t)c->out_c);
    for (int n = 0; n < c->n; n++) {
        struct back_case one = one_sample(c, n);
        run_case(&one, isa, 2);
        gradient_tree_push(&weights, one.d_weight);
        gradient_tree_push(&biases, one.d_bias);
        const size_t in_bytes = f32_map_bytes(&one.d_in), residual_bytes = f32_map_bytes(&one.d_residual);
        ck_assert(!memcmp((const char *)c->d_in.data + n * in_bytes, one.d_in.data, in_bytes));
        ck_assert(
            !memcmp((const char *)c->d_residual.data + n * residual_bytes, one.d_residual.data, residual_bytes));
        free_case(&one);
    }
    ck_assert_msg(!memcmp(gradient_tree_result(&weights), c->d_weight, weight_count(c) * sizeof(float)),
                  "d_weight of %d samples is not their tree", c->n);
    ck_assert_msg(!c->has_bias ||
                      !memcmp(gradient_tree_result(&biases), c->d_bias, (size_t)c->out_c * sizeof(float)),
                  "d_bias of %d samples is not their tree", c->n);
    gradient_tree_free(&weights), gradient_tree_free(&biases);
}

START_TEST(same_bits) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    for (int i = 0; i < cases_of(_i, SAME_BITS_CASES); i++) {
        uint64_t state = 3000 + (uint64_t)i;
        struct back_case c = draw_case(&state, FILL_RANDOM, (fdm_conv_mode)_i), other = c;
        run_case(&c, isas[0], 1);
        add_targets(&other, c.d_in.halo, c.d_residual.halo);
        for (int a = 0; a < count; a++) {
            for (int threads = 1; threads <= MOST_THREADS; threads += threads < 3 ? 1 : 2) {
                char what[80];
                snprintf(what, sizeof what, "case %d, %s, %d threads", i, fdm_isa_name(isas[a]), threads);
                run_case(&other, isas[a], threads);
                check_same(&c, &other, what);
            }
            check_tree(&c, isas[a]);
        }
        fdm_free_aligned(other.d_in.data), fdm_free_aligned(other.d_residual.data);
        fdm_free_aligned(other.d_weight), fdm_free_aligned(other.d_bias);
        free_case(&c);
    }
}
END_TEST

/* Batches of 3, 5 and 8, with a scale that rounds. */
START_TEST(batch_tree) {
    static const int batches[] = {3, 5, 8};
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    for (size_t b = 0; b < FDM_ARRAY_LEN(batches); b++) {
        uint64_t state = 4000 + (uint64_t)b;
        struct back_case c = {
            .n = batches[b], .in_c = 24, .out_c = 40, .h = 9, .w = 9, .k = 3, .pad = 1, .has_bias = true};
        c.mode = (fdm_conv_mode)_i;
        c.scale = sqrt(0.5), c.fill = FILL_RANDOM;
        fill_case(&c, &state);
        for (int a = 0; a < count; a++) {
            run_case(&c, isas[a], 2);
            check_tree(&c, isas[a]);
        }
        free_case(&c);
    }
}
END_TEST

/* NCHW floats of a golden file into a map. */
static void set_map(struct fdm_map *m, const float *nchw) {
    for (int i = 0; i < m->n * m->c * m->h * m->w; i++) {
        const int row = i / (m->h * m->w);
        *f32_at(m, row / m->c, row % m->c, i / m->w % m->h, i % m->w) = nchw[i];
    }
}

static double golden_distance(const fdm_tensors *set, const char *prefix, const char *name, const double *got,
                              size_t count) {
    double *truth = golden_f64(set, prefix, name);
    const struct golden_error e = golden_compare(got, truth, count);
    free(truth);
    ck_assert_msg(e.max_scaled <= 1e-5, "%s%s: %g of max", prefix, name, e.max_scaled);
    return e.max_scaled;
}

/* The published program's gradients (f32): 1e-5 of max leaves two summation orders room. */
static double check_golden(const fdm_tensors *set, const char *prefix, int k, enum fdm_isa isa) {
    struct back_case c = {
        .n = 2, .in_c = 5, .out_c = 7, .h = 8, .w = 8, .k = k, .pad = k / 2, .has_bias = true, .scale = 1};
    uint64_t state = 1;
    double worst = 0, got[2 * 5 * 64];
    fill_case(&c, &state);
    set_map(&c.in, golden_f32(set, prefix, "x")), set_map(&c.d_out, golden_f32(set, prefix, "gout"));
    memcpy(c.weight, golden_f32(set, prefix, "weight"), weight_count(&c) * sizeof(float));
    run_case(&c, isa, 2);
    for (int i = 0; i < 2 * 5 * 64; i++) got[i] = *f32_at(&c.d_in, i / 320, i / 64 % 5, i / 8 % 8, i % 8);
    worst = fmax(worst, golden_distance(set, prefix, "gx", got, 2 * 5 * 64));
    for (size_t i = 0; i < weight_count(&c); i++) got[i] = c.d_weight[i];
    worst = fmax(worst, golden_distance(set, prefix, "g_weight", got, weight_count(&c)));
    for (int i = 0; i < 7; i++) got[i] = c.d_bias[i];
    worst = fmax(worst, golden_distance(set, prefix, "g_bias", got, 7));
    free_case(&c);
    return worst;
}

START_TEST(goldens) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    fdm_tensors set;
    golden_load(&set, "ops_layers.safetensors");
    for (int a = 0; a < count; a++) {
        printf("goldens, %s: k = 1 %.2g, k = 3 %.2g of max\n", fdm_isa_name(isas[a]),
               check_golden(&set, "conv_k1.", 1, isas[a]), check_golden(&set, "conv_k3.", 3, isas[a]));
    }
    fdm_tensors_free(&set);
}
END_TEST

/* What is not wanted is not computed. */
START_TEST(absent_targets) {
    uint64_t state = 5000;
    struct back_case c = {.n = 2, .in_c = 5, .out_c = 7, .h = 6, .w = 6, .k = 3, .pad = 1, .scale = 1};
    fill_case(&c, &state);
    struct fdm_exec exec = f32_exec(FDM_ISA_ID_PORTABLE, 1);
    struct fdm_conv2d_backward_args args = {
        .k = 3, .pad = 1, .scale = 1, .weight = c.weight, .d_weight = c.d_weight};
    run_case(&c, FDM_ISA_ID_PORTABLE, 1);
    float *expected = fdm_malloc_aligned(weight_count(&c) * sizeof *expected);
    ck_assert_ptr_nonnull(expected);
    memcpy(expected, c.d_weight, weight_count(&c) * sizeof *expected);
    exec.scratch = fdm_malloc_aligned(fdm_f32_conv2d_backward_scratch(2, 5, 7, 3, 6, 6, 1));
    ck_assert_ptr_nonnull(exec.scratch);
    fdm_f32_conv2d_backward(&exec, &c.d_out, &c.in, &args);
    ck_assert(!memcmp(expected, c.d_weight, weight_count(&c) * sizeof *expected));
    fdm_free_aligned(expected), fdm_free_aligned(exec.scratch);
    free_case(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("conv2d_backward");
    TCase *tcase = tcase_create("f32");
    tcase_set_timeout(tcase, 600);
    tcase_add_loop_test(tcase, random_shapes, 0, FDM_CONV_MODES);
    tcase_add_loop_test(tcase, exact_shapes, 0, FDM_CONV_MODES);
    tcase_add_loop_test(tcase, same_bits, 0, FDM_CONV_MODES);
    tcase_add_loop_test(tcase, batch_tree, 0, FDM_CONV_MODES);
    tcase_add_loop_test(tcase, workspace_grows_with_log2_of_the_batch, FDM_CONV_WINOGRAD2, FDM_CONV_MODES);
    tcase_add_test(tcase, goldens);
    tcase_add_test(tcase, absent_targets);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
