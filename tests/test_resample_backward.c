/* test_resample_backward.c - backward pass of resampling and concatenation of the f32 backends against the f64
 * reference (exact numbers: to the bit) and PyTorch's gradients; bit for bit between instruction sets, threads, batches
 * and accumulation rounds. */
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

/* Largest error relative to the largest element: a chain of at most 16 x 16 FMAs in d_in, of which the errors partly
 * cancel; sums of at most 70 pixels in d_bias. */
static const double tolerance = 32 * 0x1p-24;

struct rb_case {
    bool up, accumulate, has_residual, has_bias;
    int pad, len, n, c, in_h, in_w, out_h, out_w;
    double scale;
    const double *d_out, *old_in, *old_residual; /* NCHW */
    const float *filter;
};

static int out_size(const struct rb_case *t, int in) {
    return t->up ? (in - 1) * 2 - 2 * t->pad + t->len : (in + 2 * t->pad - t->len) / 2 + 1;
}

static bool draw_sizes(struct rb_case *t, uint64_t *state) {
    static const int channels[] = {1, 3, 16, 20, 40};
    t->up = f32_below(state, 2);
    t->len = 1 + f32_below(state, f32_below(state, 3) ? 5 : FDM_MAX_FILTER);
    t->pad = f32_below(state, t->len + 1);
    t->n = 1 + f32_below(state, 5);
    t->c = channels[f32_below(state, (int)FDM_ARRAY_LEN(channels))];
    t->in_h = 1 + f32_below(state, 9), t->in_w = 1 + f32_below(state, 9);
    if (!t->up && (t->in_h + 2 * t->pad < t->len || t->in_w + 2 * t->pad < t->len)) return false;
    t->out_h = out_size(t, t->in_h), t->out_w = out_size(t, t->in_w);
    return t->out_h >= 1 && t->out_w >= 1;
}

static double *draw_values(struct test_backend *owner, uint64_t *state, enum fill fill, size_t count) {
    double *values = test_alloc(owner, count * sizeof *values);
    for (size_t i = 0; i < count; i++) values[i] = (double)f32_value(state, fill);
    return values;
}

static struct rb_case draw_case(struct test_backend *owner, uint64_t *state, enum fill fill) {
    struct rb_case t = {0};
    while (!draw_sizes(&t, state)) {
    }
    t.accumulate = f32_below(state, 2), t.has_residual = f32_below(state, 2), t.has_bias = f32_below(state, 2);
    t.scale = f32_below(state, 2) ? 1 : fill == FILL_EXACT ? 0.5 : sqrt(0.5);
    const size_t maps = (size_t)(t.n * t.c), out = maps * (size_t)(t.out_h * t.out_w);
    t.d_out = draw_values(owner, state, fill, out);
    t.old_residual = draw_values(owner, state, fill, out);
    t.old_in = draw_values(owner, state, fill, maps * (size_t)(t.in_h * t.in_w));
    float *filter = test_alloc(owner, (size_t)(t.len * t.len) * sizeof *filter);
    for (int i = 0; i < t.len * t.len; i++) filter[i] = f32_value(state, fill);
    t.filter = filter;
    return t;
}

enum { D_IN, D_RESIDUAL, D_BIAS, KINDS };
struct results {
    double *values[KINDS];
    size_t count[KINDS];
};

static struct fdm_map target_map(struct test_backend *b, const struct rb_case *t, const double *old, int n, int h,
                                 int w, int halo) {
    return t->accumulate ? test_map_of(b, old, n, t->c, h, w, halo) : test_map(b, n, t->c, h, w, halo);
}

static struct results run(struct test_backend *b, const struct rb_case *t, int first, int n) {
    const bool f64 = b->table->dtype == FDM_F64;
    const size_t out = (size_t)(t->c * t->out_h * t->out_w), in = (size_t)(t->c * t->in_h * t->in_w);
    const size_t from = (size_t)first;
    const struct fdm_map d_out = test_map_of(b, t->d_out + from * out, n, t->c, t->out_h, t->out_w, 1);
    struct fdm_map d_in = target_map(b, t, t->old_in + from * in, n, t->in_h, t->in_w, 2);
    struct fdm_map d_residual = target_map(b, t, t->old_residual + from * out, n, t->out_h, t->out_w, 1);
    const struct fdm_resample_backward_args args = {.up = t->up,
                                                    .pad = t->pad,
                                                    .len = t->len,
                                                    .filter = t->filter,
                                                    .scale = t->scale,
                                                    .d_in = {&d_in, t->accumulate},
                                                    .d_residual = {t->has_residual ? &d_residual : NULL, t->accumulate},
                                                    .d_bias = t->has_bias ? test_alloc(b, (size_t)t->c * 8) : NULL};
    test_reserve(b, b->table->resample_backward_scratch(n, t->c, t->out_h, t->out_w, b->exec.threads));
    b->table->resample_backward(&b->exec, &d_out, &args);
    if (!f64) f32_check_zeros(&d_in, "d_in");
    if (!f64 && t->has_residual) f32_check_zeros(&d_residual, "d_residual");
    struct results r = {{test_map_values(b, &d_in), NULL, NULL}, {(size_t)n * in, 0, 0}};
    if (t->has_residual) r.values[D_RESIDUAL] = test_map_values(b, &d_residual), r.count[D_RESIDUAL] = (size_t)n * out;
    if (t->has_bias) {
        const struct fdm_vec v = {1, t->c, args.d_bias};
        r.values[D_BIAS] = test_vec_values(b, &v), r.count[D_BIAS] = (size_t)t->c;
    }
    return r;
}

static struct results moved(struct test_backend *owner, const struct results *r) {
    struct results to = *r;
    for (int k = 0; k < KINDS; k++)
        if (r->count[k] > 0)
            to.values[k] = memcpy(test_alloc(owner, r->count[k] * sizeof(double)), r->values[k],
                                  r->count[k] * sizeof(double));
    return to;
}

static void check_same(const struct results *a, const struct results *b, const char *what) {
    for (int k = 0; k < KINDS; k++) {
        ck_assert(a->count[k] == b->count[k]);
        if (a->count[k] == 0) continue;
        ck_assert_msg(memcmp(a->values[k], b->values[k], a->count[k] * sizeof(double)) == 0, "%s: %d differs", what, k);
    }
}

/* Samples one by one give the same maps, and biases that add up in the tree to the same bits. */
static void check_alone(struct test_backend *b, const struct rb_case *t, const struct results *whole) {
    float *stack[8];
    int top = 0;
    for (int n = 0; n < t->n; n++) {
        const struct results r = run(b, t, n, 1);
        for (int k = 0; k < D_BIAS; k++)
            if (r.count[k] > 0)
                ck_assert_mem_eq(r.values[k], whole->values[k] + (size_t)n * r.count[k], r.count[k] * sizeof(double));
        if (!t->has_bias) continue;
        stack[top] = test_alloc(b, (size_t)t->c * sizeof(float));
        for (int c = 0; c < t->c; c++) stack[top][c] = (float)r.values[D_BIAS][c];
        top++;
        for (int m = fdm_tree_merges(n); m > 0; m--, top--)
            b->table->add_gradients(&b->exec, stack[top - 2], stack[top - 1], (size_t)t->c);
    }
    for (; top > 1; top--) b->table->add_gradients(&b->exec, stack[top - 2], stack[top - 1], (size_t)t->c);
    for (int c = 0; t->has_bias && c < t->c; c++) ck_assert((double)stack[0][c] == whole->values[D_BIAS][c]);
}

static double check_accuracy(const struct rb_case *t, const struct results *r, const struct results *truth,
                             double limit) {
    double worst = 0;
    for (int k = 0; k < KINDS; k++) {
        const struct golden_error e = golden_compare(r->values[k], truth->values[k], r->count[k]);
        const double error = e.max_abs > 0 ? e.max_abs / e.truth_max : 0;
        if (!(error <= limit))
            ck_abort_msg("%s len %d pad %d in %dx%d scale %g: result %d off by %.3g", t->up ? "up" : "down", t->len,
                         t->pad, t->in_h, t->in_w, t->scale, k, error);
        worst = fmax(worst, error);
    }
    return worst;
}

static void check_cases(enum fill fill, uint64_t state, int cases) {
    struct test_backend list[TEST_MAX_BACKENDS], *reference = &list[0];
    const int count = test_backends(list, 1);
    double worst = 0;
    for (int i = 0; i < cases; i++) {
        const struct rb_case t = draw_case(reference, &state, fill);
        const struct results truth = run(reference, &t, 0, t.n);
        struct results first = truth;
        for (int k = 1; k < count; k++)
            for (int threads = 1; threads <= 3; threads++) {
                list[k].exec.threads = threads;
                const struct results r = run(&list[k], &t, 0, t.n);
                if (k == 1 && threads == 1) {
                    worst = fmax(worst, check_accuracy(&t, &r, &truth, fill == FILL_EXACT ? 0 : tolerance));
                    first = moved(reference, &r);
                }
                check_same(&first, &r, list[k].label);
                if (threads == 2) check_alone(&list[k], &t, &first);
                test_release(&list[k]);
            }
        test_release(reference);
    }
    printf("resample backward, %d %s cases: worst error %.2e of the largest element\n", cases,
           fill == FILL_EXACT ? "exact" : "random", worst);
}

START_TEST(random_cases) {
    check_cases(FILL_RANDOM, 1, 80);
}
END_TEST

/* Small integers: every sum is exact. */
START_TEST(exact_cases) {
    check_cases(FILL_EXACT, 2, 80);
}
END_TEST

START_TEST(pytorch_gradients) {
    static const char *const prefixes[] = {"conv_up_k0_f11.", "conv_down_k0_f11.", "conv_up_k0_f1331.",
                                           "conv_down_k0_f1331."};
    const char *prefix = prefixes[_i];
    fdm_tensors set;
    golden_load(&set, "ops_layers.safetensors");
    const int len = golden_dim(&set, prefix, "resample_filter", 2);
    struct rb_case t = {.up = strstr(prefix, "_up_") != NULL, .len = len, .pad = (len - 1) / 2, .scale = 1};
    t.n = golden_dim(&set, prefix, "x", 0), t.c = golden_dim(&set, prefix, "x", 1);
    t.in_h = golden_dim(&set, prefix, "x", 2), t.in_w = golden_dim(&set, prefix, "x", 3);
    t.out_h = golden_dim(&set, prefix, "gout", 2), t.out_w = golden_dim(&set, prefix, "gout", 3);
    t.filter = golden_f32(&set, prefix, "resample_filter");
    double *d_out = golden_f64(&set, prefix, "gout"), *gx = golden_f64(&set, prefix, "gx");
    t.d_out = t.old_residual = d_out, t.old_in = gx;
    struct test_backend list[TEST_MAX_BACKENDS];
    const int count = test_backends(list, 2);
    for (int k = 0; k < count; k++) {
        const struct results r = run(&list[k], &t, 0, t.n);
        const struct golden_error e = golden_compare(r.values[D_IN], gx, r.count[D_IN]);
        printf("%sgx %s: %.1e from PyTorch\n", prefix, list[k].label, e.max_scaled);
        ck_assert(e.max_scaled <= 2e-6);
        test_release(&list[k]);
    }
    free(d_out), free(gx);
    fdm_tensors_free(&set);
}
END_TEST

/* ---- concatenation ---------------------------------------------------------------------------------------- */

static const int splits[][2] = {{16, 16}, {3, 5}, {20, 12}, {1, 40}, {33, 31}, {16, 7}, {48, 17}};

/* One target; d_out's channels from `first` on, or what was there plus them. */
static void check_part(const struct fdm_map *got, const struct fdm_map *d_out, const struct fdm_map *old, int first) {
    f32_check_zeros(got, "part");
    for (int i = 0; i < got->n * got->c * got->h * got->w; i++) {
        const int x = i % got->w, y = i / got->w % got->h, p = i / got->w / got->h, c = p % got->c, n = p / got->c;
        float want = *f32_at(d_out, n, first + c, y, x);
        if (old) want = *f32_at(old, n, c, y, x) + want;
        if (!(*f32_at(got, n, c, y, x) == want)) ck_abort_msg("n %d c %d of %d", n, c, got->c);
    }
}

static void check_split(const struct fdm_backend *table, const struct fdm_exec *exec, int a, int b, int wanted,
                        bool accumulate) {
    uint64_t state = (uint64_t)(100 * a + b);
    struct fdm_map d_out = f32_map_filled(&state, 2, a + b, 3, 5, 1, FILL_RANDOM), part[2], old[2];
    struct fdm_map_target target[2] = {{NULL, accumulate}, {NULL, accumulate}};
    for (int t = 0; t < 2; t++) {
        old[t] = f32_map_filled(&state, 2, t ? b : a, 3, 5, 1 - t, FILL_RANDOM);
        part[t] = f32_map(2, t ? b : a, 3, 5, 1 - t);
        if (accumulate) memcpy(part[t].data, old[t].data, f32_map_bytes(&old[t]));
        if (wanted & 1 << t) target[t].map = &part[t];
    }
    table->concat_backward(exec, target[0], target[1], &d_out);
    for (int t = 0; t < 2; t++) {
        if (target[t].map) check_part(&part[t], &d_out, accumulate ? &old[t] : NULL, t ? a : 0);
        fdm_free_aligned(old[t].data), fdm_free_aligned(part[t].data);
    }
    fdm_free_aligned(d_out.data);
}

START_TEST(concatenation) {
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    for (int k = 0; k < count * 3; k++)
        for (size_t s = 0; s < FDM_ARRAY_LEN(splits); s++)
            for (int wanted = 1; wanted <= 3; wanted++) {
                const struct fdm_exec exec = f32_exec(list[k / 3], 1 + k % 3);
                check_split(fdm_backend_f32(FDM_CONV_DEFAULT), &exec, splits[s][0], splits[s][1], wanted, false);
                check_split(fdm_backend_f32(FDM_CONV_DEFAULT), &exec, splits[s][0], splits[s][1], wanted, true);
            }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("resample_backward");
    TCase *tcase = tcase_create("resample_backward");
    tcase_set_timeout(tcase, 300); /* not about speed: sanitizer builds on a loaded machine */
    tcase_add_test(tcase, random_cases);
    tcase_add_test(tcase, exact_cases);
    tcase_add_loop_test(tcase, pytorch_gradients, 0, 4);
    tcase_add_test(tcase, concatenation);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
