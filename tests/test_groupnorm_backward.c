/* test_groupnorm_backward.c - backward pass of group norm (with add, SiLU and dropout) of the f32 backends against the
 * f64 reference and PyTorch's gradients; bit for bit between instruction sets, threads, batches and accumulation rounds;
 * silu' on its own. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "base/base.h"
#include "f32_maps.h"
#include "golden.h"
#include "suite.h"
#include "nn/sample_tree.h"
#include "simd/kernel_table.h"

struct gb_case {
    int n, c, groups, h, w;
    bool add, silu, accumulate;
    double p;    /* dropout */
    double mean; /* of the input */
};

static const struct gb_case cases[] = {
    {1, 4, 1, 1, 1, false, false, false, 0, 0},
    {2, 8, 2, 3, 2, true, true, false, 0, 0},
    {3, 12, 3, 5, 7, true, true, true, 0.13, 0},
    {2, 20, 5, 4, 4, false, true, false, 0, 0},
    {5, 36, 9, 6, 5, true, false, false, 0.5, 0},
    {3, 128, 32, 16, 16, true, true, true, 0.13, 0},
    /* groups that straddle blocks */
    {3, 160, 32, 3, 5, true, true, false, 0.1, 0},
    {2, 192, 32, 4, 4, true, true, true, 0, 0},
    {8, 224, 32, 2, 3, false, true, false, 0, 0},
    {2, 352, 32, 2, 2, true, true, false, 0.9, 0},
    {2, 48, 2, 5, 3, false, false, true, 0, 0},
    {5, 15, 3, 4, 3, true, true, false, 0.25, 0},
    /* rows longer than a chunk of 64 pixels */
    {2, 16, 4, 3, 70, false, false, false, 0, 0},
    {2, 8, 2, 2, 131, true, true, true, 0.3, 0},
    /* the mean a thousand times the deviation */
    {2, 16, 4, 8, 8, false, true, false, 0, 1000},
    {2, 160, 32, 8, 8, true, true, true, 0.13, 1000},
};

/* Plain f64 values of all operands, and of what is accumulated to. */
struct operands {
    double *x, *d_out, *old_in; /* (N, C, H, W) */
    double *add, *old_add;      /* (N, C) */
    float *weight, *bias;
    uint64_t keys[8];
};

static struct operands draw_operands(struct test_backend *owner, const struct gb_case *t, uint64_t seed) {
    const size_t count = (size_t)(t->n * t->c * t->h * t->w), vec = (size_t)(t->n * t->c);
    struct operands o = {.x = test_random(owner, count, seed),
                         .d_out = test_random(owner, count, seed + 1),
                         .old_in = test_random(owner, count, seed + 2),
                         .add = test_random(owner, vec, seed + 3),
                         .old_add = test_random(owner, vec, seed + 4),
                         .weight = test_random_f32(owner, (size_t)t->c, seed + 5),
                         .bias = test_random_f32(owner, (size_t)t->c, seed + 6)};
    for (size_t i = 0; i < count; i++) o.x[i] = (double)(float)(2 * o.x[i] + t->mean);
    for (int c = 0; c < t->c; c++) o.weight[c] += 1.5f;
    for (size_t i = 0; i < 8; i++) o.keys[i] = 0x9e3779b97f4a7c15u * (seed + i + 1);
    return o;
}

enum { D_IN, D_ADD, D_WEIGHT, D_BIAS, KINDS };
static const char *const kind_names[KINDS] = {"d_in", "d_add", "d_weight", "d_bias"};

struct results {
    double *values[KINDS];
    size_t count[KINDS];
};

static double *widen(struct test_backend *b, const void *elements, size_t count) {
    double *to = test_alloc(b, count * sizeof *to);
    for (size_t i = 0; i < count; i++)
        to[i] = b->table->dtype == FDM_F64 ? ((const double *)elements)[i] : (double)((const float *)elements)[i];
    return to;
}

static void check_border(const struct test_backend *b, const struct fdm_map *m) {
    if (b->table->dtype == FDM_F32) f32_check_zeros(m, "d_in");
}

/* Samples first .. first + n - 1 of the case, as one call. */
static struct results run(struct test_backend *b, const struct gb_case *t, const struct operands *o, int first, int n) {
    const size_t map = (size_t)t->c * (size_t)(t->h * t->w), at = (size_t)first * map;
    const size_t row = (size_t)(first * t->c), bytes = (size_t)t->c * (b->table->dtype == FDM_F64 ? 8 : 4);
    const struct fdm_map x = test_map_of(b, o->x + at, n, t->c, t->h, t->w, 1);
    const struct fdm_map d_out = test_map_of(b, o->d_out + at, n, t->c, t->h, t->w, 2);
    struct fdm_map d_in = test_map(b, n, t->c, t->h, t->w, 1);
    if (t->accumulate) d_in = test_map_of(b, o->old_in + at, n, t->c, t->h, t->w, 1);
    const struct fdm_vec add = test_vec_of(b, o->add + row, n, t->c);
    struct fdm_vec d_add = test_vec_of(b, o->old_add + row, n, t->c);
    const struct fdm_dropout dropout = {t->p, 7, o->keys + first};
    struct fdm_groupnorm_backward_args args = {
        .forward = {.groups = t->groups, .eps = 1e-6, .silu = t->silu, .add = t->add ? &add : NULL},
        .d_in = {&d_in, t->accumulate},
        .d_add = {t->add ? &d_add : NULL, t->accumulate},
        .d_weight = test_alloc(b, bytes),
        .d_bias = test_alloc(b, bytes)};
    args.forward.param = test_pack_groupnorm(b, o->weight, o->bias, t->c);
    if (t->p > 0) args.forward.dropout = &dropout;
    test_reserve(b, b->table->groupnorm_backward_scratch(n, t->c, t->h, t->w, b->exec.threads));
    b->table->groupnorm_backward(&b->exec, &d_out, &x, &args);
    check_border(b, &d_in);
    struct results r = {.count = {(size_t)n * map, t->add ? (size_t)(n * t->c) : 0, (size_t)t->c, (size_t)t->c}};
    r.values[D_IN] = test_map_values(b, &d_in);
    r.values[D_ADD] = t->add ? test_vec_values(b, &d_add) : NULL;
    r.values[D_WEIGHT] = widen(b, args.d_weight, (size_t)t->c);
    r.values[D_BIAS] = widen(b, args.d_bias, (size_t)t->c);
    return r;
}

static void check_same(const struct results *a, const struct results *b, const char *what) {
    for (int k = 0; k < KINDS; k++) {
        ck_assert(a->count[k] == b->count[k]);
        if (a->count[k] > 0)
            ck_assert_msg(memcmp(a->values[k], b->values[k], a->count[k] * sizeof(double)) == 0, "%s: %s differs", what,
                          kind_names[k]);
    }
}

/* Largest error relative to the largest element.  An element is the end of about ten roundings of 2^-24 in the
 * statistics, y, silu' and the two FMAs; sums add those of 16 additions in a row. */
static const double tolerance = 20 * 0x1p-24;

static void check_against(const struct results *r, const struct results *truth, const struct gb_case *t) {
    printf("groupnorm backward n %d c %3d groups %2d %2dx%-3d p %.2f mean %4.0f: relative error", t->n, t->c, t->groups,
           t->h, t->w, t->p, t->mean);
    double d_in_max = 0;
    for (int k = 0; k < KINDS; k++) {
        const struct golden_error e = golden_compare(r->values[k], truth->values[k], truth->count[k]);
        if (k == D_IN) d_in_max = e.truth_max;
        /* Sums of d_in cancel: their errors are those of d_in's elements. */
        const double largest = k == D_ADD ? fmax(e.truth_max, d_in_max) : e.truth_max;
        printf(" %s %.1e", kind_names[k], e.max_abs / largest);
        ck_assert_msg(e.max_abs <= tolerance * largest, "%s: error %g, largest %g", kind_names[k], e.max_abs, largest);
    }
    printf("\n");
}

/* The tree over samples of gradients that were computed alone or in rounds of `round` samples. */
static void check_rounds(struct test_backend *b, const struct gb_case *t, const struct operands *o,
                         const struct results *whole, int round) {
    float *stack[2][8];
    int top = 0, leaf = 0;
    for (int first = 0; first < t->n; first += round, leaf++, top++) {
        const struct results r = run(b, t, o, first, fdm_min_int(round, t->n - first));
        for (int k = 0; k < 2; k++) {
            stack[k][top] = test_alloc(b, (size_t)t->c * sizeof(float));
            for (int c = 0; c < t->c; c++) stack[k][top][c] = (float)r.values[D_WEIGHT + k][c];
        }
        const size_t map = r.count[D_IN], vec = r.count[D_ADD], unit = (size_t)t->c * (size_t)(t->h * t->w);
        ck_assert_mem_eq(r.values[D_IN], whole->values[D_IN] + (size_t)first * unit, map * sizeof(double));
        if (vec > 0)
            ck_assert_mem_eq(r.values[D_ADD], whole->values[D_ADD] + (size_t)(first * t->c), vec * sizeof(double));
        for (int m = fdm_tree_merges(leaf); m > 0; m--, top--)
            for (int k = 0; k < 2; k++)
                b->table->add_gradients(&b->exec, stack[k][top - 1], stack[k][top], (size_t)t->c);
    }
    for (; top > 1; top--)
        for (int k = 0; k < 2; k++)
            b->table->add_gradients(&b->exec, stack[k][top - 2], stack[k][top - 1], (size_t)t->c);
    for (int k = 0; k < 2; k++)
        for (int c = 0; c < t->c; c++)
            if (!((double)stack[k][0][c] == whole->values[D_WEIGHT + k][c]))
                ck_abort_msg("rounds of %d: %s of channel %d differs", round, kind_names[D_WEIGHT + k], c);
}

/* The values in memory of another owner. */
static struct results moved(struct test_backend *owner, const struct results *r) {
    struct results to = *r;
    for (int k = 0; k < KINDS; k++)
        if (r->count[k] > 0)
            to.values[k] = memcpy(test_alloc(owner, r->count[k] * sizeof(double)), r->values[k],
                                  r->count[k] * sizeof(double));
    return to;
}

START_TEST(against_reference_and_each_other) {
    const struct gb_case *t = &cases[_i];
    struct test_backend list[TEST_MAX_BACKENDS], *reference = &list[0];
    const int count = test_backends(list, 1);
    const struct operands o = draw_operands(reference, t, 10 * (uint64_t)_i + 1);
    const struct results truth = run(reference, t, &o, 0, t->n);
    struct results first = moved(reference, &truth);
    for (int k = 1; k < count; k++)
        for (int threads = 1; threads <= 3; threads++) {
            list[k].exec.threads = threads;
            const struct results r = run(&list[k], t, &o, 0, t->n);
            if (k == 1 && threads == 1) {
                check_against(&r, &truth, t);
                first = moved(reference, &r);
            }
            check_same(&first, &r, list[k].label);
            for (int round = 1; threads == 2 && round <= 4; round *= 2) check_rounds(&list[k], t, &o, &first, round);
            test_release(&list[k]);
        }
    test_release(reference);
}
END_TEST

/* d_in and d_add are optional, and leaving them out changes nothing else. */
START_TEST(targets_may_be_missing) {
    const struct gb_case t = cases[2];
    struct test_backend list[TEST_MAX_BACKENDS];
    const int count = test_backends(list, 2);
    for (int k = 1; k < count; k++) {
        struct test_backend *b = &list[k];
        const struct operands o = draw_operands(b, &t, 5);
        struct gb_case plain = t;
        plain.p = 0;
        const struct results whole = run(b, &plain, &o, 0, t.n);
        float d_weight[12], d_bias[12];
        const struct fdm_map x = test_map_of(b, o.x, t.n, t.c, t.h, t.w, 0);
        const struct fdm_map d_out = test_map_of(b, o.d_out, t.n, t.c, t.h, t.w, 0);
        const struct fdm_vec add = test_vec_of(b, o.add, t.n, t.c);
        const void *param = test_pack_groupnorm(b, o.weight, o.bias, t.c);
        const struct fdm_groupnorm_backward_args args = {
            .forward = {.groups = t.groups, .eps = 1e-6, .silu = t.silu, .add = &add, .param = param},
            .d_weight = d_weight,
            .d_bias = d_bias};
        test_reserve(b, b->table->groupnorm_backward_scratch(t.n, t.c, t.h, t.w, 2));
        b->table->groupnorm_backward(&b->exec, &d_out, &x, &args);
        for (int c = 0; c < t.c; c++)
            ck_assert((double)d_weight[c] == whole.values[D_WEIGHT][c] && (double)d_bias[c] == whole.values[D_BIAS][c]);
        test_release(b);
    }
    test_release(&list[0]);
}
END_TEST

/* ---- PyTorch's gradients ---------------------------------------------------------------------------------- */

static const char *const goldens[] = {"gn_c8.", "gn_c24.", "gn_c128.", "gn_c160.", "gn_c512."};

static struct results run_golden(struct test_backend *b, const fdm_tensors *set, const char *prefix) {
    const int n = golden_dim(set, prefix, "x", 0), c = golden_dim(set, prefix, "x", 1);
    const struct gb_case t = {n, c, fdm_min_int(32, c / 4), golden_dim(set, prefix, "x", 2),
                              golden_dim(set, prefix, "x", 3), false, false, false, 0, 0};
    struct operands o = draw_operands(b, &t, 1);
    o.x = golden_f64(set, prefix, "x"), o.d_out = golden_f64(set, prefix, "gout");
    memcpy(o.weight, golden_f32(set, prefix, "weight"), (size_t)c * sizeof(float));
    memcpy(o.bias, golden_f32(set, prefix, "bias"), (size_t)c * sizeof(float));
    const struct results r = run(b, &t, &o, 0, n);
    free(o.x), free(o.d_out);
    return r;
}

/* Against PyTorch's f32 gradients 2e-5 of the largest element; and, with the reference for truth, errors that are no
 * larger than PyTorch's, but for the chance in so few elements (8 to 512 for a parameter). */
START_TEST(pytorch_gradients) {
    static const char *const names[KINDS] = {"gx", NULL, "g_weight", "g_bias"};
    fdm_tensors set;
    golden_load(&set, "ops_layers.safetensors");
    struct test_backend list[TEST_MAX_BACKENDS];
    const int count = test_backends(list, 2);
    double log_ratio = 0;
    int ratios = 0;
    for (size_t g = 0; g < FDM_ARRAY_LEN(goldens); g++) {
        const struct results truth = run_golden(&list[0], &set, goldens[g]);
        for (int k = 1; k < count; k++) {
            const struct results r = run_golden(&list[k], &set, goldens[g]);
            for (int kind = 0; kind < KINDS; kind++) {
                if (!names[kind]) continue;
                double *golden = golden_f64(&set, goldens[g], names[kind]);
                const struct golden_error e = golden_compare(r.values[kind], golden, r.count[kind]);
                const struct golden_error ours = golden_compare(r.values[kind], truth.values[kind], r.count[kind]);
                const struct golden_error theirs = golden_compare(golden, truth.values[kind], r.count[kind]);
                printf("%s%s %s: from PyTorch %.1e; RMS error %.2e, PyTorch's %.2e\n", goldens[g], names[kind],
                       list[k].label, e.max_scaled, ours.rms, theirs.rms);
                ck_assert(e.max_scaled <= 2e-5);
                ck_assert(ours.rms <= 1.3 * theirs.rms);
                log_ratio += log(ours.rms / theirs.rms), ratios++;
                free(golden);
            }
            test_release(&list[k]);
        }
        test_release(&list[0]);
    }
    printf("groupnorm backward: RMS error over PyTorch's, geometric mean %.3f\n", exp(log_ratio / ratios));
    ck_assert(log_ratio <= 0);
    fdm_tensors_free(&set);
}
END_TEST

/* ---- silu' ------------------------------------------------------------------------------------------------ */

/* Every 997th float: the error in units of 2^-24 (|s| + |x| s (1 - s)), and the same bits everywhere. */
START_TEST(silu_gradient) {
    enum { BLOCK = 4096 };
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    static float x[BLOCK], y[FDM_ISA_COUNT][BLOCK];
    double worst = 0;
    uint64_t bits = 0;
    while (bits <= UINT32_MAX) {
        for (int i = 0; i < BLOCK; i++, bits += 997) {
            const uint32_t low = (uint32_t)(bits <= UINT32_MAX ? bits : UINT32_MAX);
            memcpy(&x[i], &low, sizeof low);
        }
        for (int k = 0; k < count; k++) fdm_kernels_for(list[k])->vsilu_gradient(y[k], x, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            for (int k = 1; k < count; k++)
                if (memcmp(&y[0][i], &y[k][i], sizeof(float)) != 0 && !(isnan(y[0][i]) && isnan(y[k][i])))
                    ck_abort_msg("%s: silu'(%a) differs", fdm_isa_name(list[k]), (double)x[i]);
            if (isnan(x[i])) {
                if (!isnan(y[0][i])) ck_abort_msg("silu'(NaN) = %a", (double)y[0][i]);
                continue;
            }
            const double v = fmin(fmax((double)x[i], -104), 104), s = 1 / (1 + exp(-v)), t = 1 / (1 + exp(v));
            const double want = s + v * s * t, bound = 0x1p-21 * 0.7072 * (s + fabs(v) * s * t) + 0x1p-142;
            const double error = fabs((double)y[0][i] - want) / bound;
            if (!(error <= 1)) ck_abort_msg("silu'(%a) = %a, not %a", (double)x[i], (double)y[0][i], want);
            worst = fmax(worst, error);
        }
    }
    printf("silu': worst error %.3f of its bound 2^-21.5\n", worst);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("groupnorm_backward");
    TCase *tcase = tcase_create("groupnorm_backward");
    tcase_set_timeout(tcase, 300); /* not about speed: sanitizer builds on a loaded machine */
    tcase_add_loop_test(tcase, against_reference_and_each_other, 0, (int)FDM_ARRAY_LEN(cases));
    tcase_add_test(tcase, targets_may_be_missing);
    tcase_add_test(tcase, pytorch_gradients);
    tcase_add_test(tcase, silu_gradient);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
