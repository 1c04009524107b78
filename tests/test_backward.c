/* test_backward.c - every backward function of the f32 backend, on every ISA, against the reference:
 *   - values, on random shapes (channels that are no multiple of 16, odd sizes, up to 5 samples) and some of a model's;
 *   - to the bit on small integers, whose sums are exact;
 *   - the promises: same bits on every ISA, with 1, 2, 3 threads, for every split of a batch; the tree over samples;
 *     targets that accumulate or are absent.
 * One check per layer and ISA, so that what is skipped here is counted as skipped. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "backward.h"
#include "base/base.h"
#include "f32_maps.h"
#include "golden.h"
#include "suite.h"
#include "nn/sample_tree.h"

/* ---- cases ----------------------------------------------------------------------------------------------- */

#ifdef FDM_POISON /* a sanitizer build tests the memory, the plain one the numbers */
enum { RANDOM_CASES = 4, MOST_SAMPLES = 5 };
#else
enum { RANDOM_CASES = 16, MOST_SAMPLES = 5 };
#endif

static const struct layer_case fixed_cases[] = {
    {.kind = LAYER_CONV2D, .n = 2, .in = 64, .out = 64, .h = 16, .w = 16, .k = 3, .pad = 1, .bias = true},
    {.kind = LAYER_CONV2D, .n = 2, .in = 3, .out = 32, .h = 32, .w = 32, .k = 3, .pad = 1, .bias = true},
    {.kind = LAYER_CONV2D, .n = 2, .in = 32, .out = 3, .h = 32, .w = 32, .k = 3, .pad = 1, .bias = true},
    {.kind = LAYER_CONV2D, .n = 5, .in = 96, .out = 64, .h = 8, .w = 8, .k = 1, .bias = true, .extra = true, .scale = 0.5},
    {.kind = LAYER_CONV2D, .n = 3, .in = 48, .out = 80, .h = 4, .w = 4, .k = 3, .pad = 1, .bias = true, .extra = true},
    {.kind = LAYER_RESAMPLE, .n = 2, .in = 64, .h = 16, .w = 16, .len = 2, .up = true},
    {.kind = LAYER_RESAMPLE, .n = 2, .in = 64, .h = 16, .w = 16, .len = 4, .pad = 1},
    {.kind = LAYER_GROUPNORM, .n = 2, .in = 128, .h = 16, .w = 16, .groups = 32, .bias = true, .extra = true, .silu = true,
     .dropout = 0.13},
    {.kind = LAYER_GROUPNORM, .n = 2, .in = 256, .h = 8, .w = 8, .groups = 32, .bias = true, .silu = true},
    {.kind = LAYER_GROUPNORM, .n = 1, .in = 160, .h = 5, .w = 7, .groups = 32, .bias = true, .silu = true},
    {.kind = LAYER_LINEAR, .n = 4, .in = 128, .out = 512, .h = 1, .w = 1, .bias = true, .silu = true},
    {.kind = LAYER_LINEAR, .n = 5, .in = 512, .out = 256, .h = 1, .w = 1, .bias = true},
    {.kind = LAYER_LINEAR, .n = 2, .in = 9, .out = 512, .h = 1, .w = 1, .extra = true, .scale = 3.1622776601683795},
    {.kind = LAYER_ATTENTION, .n = 2, .in = 64, .h = 16, .w = 16},
    {.kind = LAYER_ATTENTION, .n = 1, .in = 24, .h = 9, .w = 11},
    {.kind = LAYER_CONCAT, .n = 2, .in = 64, .out = 32, .h = 8, .w = 8},
};

static int between(uint64_t *state, int low, int high) { return low + f32_below(state, high - low + 1); }

static void random_conv2d(struct layer_case *c, uint64_t *s) {
    c->out = between(s, 1, 40);
    c->k = between(s, 0, 2) ? 3 : 1;
    c->pad = c->k == 3 ? between(s, 0, 2) : 0;
    c->h = between(s, c->k, 13), c->w = between(s, c->k, 20);
    c->scale = between(s, 0, 1) ? 0.7071067811865476 : 1;
}

static void random_resample(struct layer_case *c, uint64_t *s) {
    static const int len_pad[][2] = {{2, 0}, {4, 1}, {4, 0}, {2, 0}, {4, 1}, {3, 1}};
    const int *filter = len_pad[f32_below(s, FDM_ARRAY_LEN(len_pad))];
    c->len = filter[0], c->pad = filter[1];
    c->up = between(s, 0, 1);
    c->h = between(s, c->up ? 1 + c->pad : c->len, 12), c->w = between(s, c->up ? 1 + c->pad : c->len, 15);
    c->scale = between(s, 0, 1) ? 0.7071067811865476 : 1;
}

/* Groups of 4 channels, as small layers have, or 32 groups of more. */
static void random_groupnorm(struct layer_case *c, uint64_t *s) {
    c->groups = between(s, 0, 3) ? between(s, 1, 32) : 32;
    c->in = c->groups * (c->groups == 32 ? between(s, 4, 7) : 4);
    c->h = between(s, 2, 9), c->w = between(s, 1, 9);
    c->bias = true;
    c->dropout = between(s, 0, 1) ? 0 : 0.3;
}

static void random_linear(struct layer_case *c, uint64_t *s) {
    c->in = between(s, 1, 70), c->out = between(s, 1, 70);
    c->h = c->w = 1;
    c->scale = between(s, 0, 1) ? 3.1622776601683795 : 1;
    c->extra = c->extra && !c->silu; /* no network has both */
}

static struct layer_case random_case(enum layer_kind kind, int index) {
    static void (*const details[LAYER_KINDS])(struct layer_case *, uint64_t *) = {random_conv2d, random_resample,
                                                                                  random_groupnorm, random_linear};
    uint64_t state = 100 * (uint64_t)kind + (uint64_t)index;
    struct layer_case c = {.kind = kind, .n = 1 + index % MOST_SAMPLES, .in = between(&state, 1, 40), .out = 1};
    c.h = between(&state, 1, 9), c.w = between(&state, 1, 11);
    if (kind == LAYER_CONCAT) c.out = between(&state, 1, 40);
    if (!details[kind]) return c;
    c.bias = between(&state, 0, 1), c.extra = between(&state, 0, 1);
    c.silu = (kind == LAYER_GROUPNORM || kind == LAYER_LINEAR) && between(&state, 0, 1);
    details[kind](&c, &state);
    return c;
}

/* ---- comparisons ----------------------------------------------------------------------------------------- */

/* What a check works with: one ISA, portable beside it, and the truth. */
struct trio {
    struct test_backend f32, portable, reference;
    double worst;
};

/* f32, relative to the largest element.  Sums of up to 1024 pixels (parameters), a thousand products (data); attention
 * goes through exponentials of sums of size 20, which magnify their rounding 20 times. */
static double tolerance(enum layer_kind kind) { return kind == LAYER_ATTENTION ? 1e-5 : 2e-6; }

static void expect_close(struct trio *t, const struct layer_case *c, const char *what, const double *got,
                         const double *truth, size_t count) {
    if (!truth && !got) return;
    char text[160];
    layer_describe(text, sizeof text, c);
    const struct golden_error e = golden_compare(got, truth, count);
    /* A gradient may be zero but for rounding (attention over one position): compare with what went in, of size 1. */
    const double unit = fmax(e.truth_max, 0.05), error = e.max_abs / unit;
    ck_assert_msg(error <= tolerance(c->kind), "%s %s: %s[%zu] = %.9g, should be %.9g; %.3g of the largest",
                  t->f32.label, text, what, e.worst, got[e.worst], truth[e.worst], error);
    t->worst = fmax(t->worst, error);
}

static void expect_same(const struct trio *t, const struct layer_case *c, const char *when, const char *what,
                        const double *a, const double *b, size_t count) {
    char text[160];
    layer_describe(text, sizeof text, c);
    ck_assert_msg((a == NULL) == (b == NULL), "%s %s: %s, %s: one is absent", t->f32.label, text, what, when);
    if (!a || memcmp(a, b, count * sizeof *a) == 0) return;
    size_t i = 0;
    while (memcmp(&a[i], &b[i], sizeof *a) == 0) i++;
    ck_abort_msg("%s %s: %s, %s: element %zu of %zu is %.9g and %.9g", t->f32.label, text, what, when, i, count, a[i],
                 b[i]);
}

static void expect_same_gradients(const struct trio *t, const struct layer_case *c, const struct layer_values *v,
                                  const char *when, const struct layer_gradients *a, const struct layer_gradients *b) {
    expect_same(t, c, when, "d_in", a->x, b->x, layer_all(&v->in));
    expect_same(t, c, when, "d_extra", a->extra, b->extra, layer_all(&v->extra));
    expect_same(t, c, when, "d_weight", a->weight, b->weight, v->weights);
    expect_same(t, c, when, "d_bias", a->bias, b->bias, v->biases);
}

static float add_f32(double a, double b) { return (float)a + (float)b; }

/* The tree as sample_tree.h builds it, over the gradients of single samples. */
static double *tree_of_leaves(struct test_backend *b, const double *const *leaves, int n, size_t count) {
    double *sum = test_alloc(b, count * sizeof *sum);
    for (size_t at = 0; at < count; at++) {
        float stack[MOST_SAMPLES] = {0};
        int top = 0;
        for (int i = 0; i < n; i++) {
            stack[top++] = (float)leaves[i][at];
            for (int m = fdm_tree_merges(i); m > 0; m--, top--) stack[top - 2] += stack[top - 1];
        }
        for (; top > 1; top--) stack[top - 2] += stack[top - 1];
        sum[at] = (double)stack[0];
    }
    return sum;
}

/* ---- one case -------------------------------------------------------------------------------------------- */

static void check_samples(struct trio *t, const struct layer_case *c, const struct layer_values *v,
                          const struct layer_gradients *all) {
    const double *weight[MOST_SAMPLES], *bias[MOST_SAMPLES];
    const size_t in = layer_sample(&v->in), extra = layer_sample(&v->extra);
    for (int n = 0; n < c->n; n++) {
        const struct layer_gradients one = layer_backward(&t->f32, c, v, n, 1, TARGETS_OVERWRITE);
        weight[n] = one.weight, bias[n] = one.bias;
        expect_same(t, c, "one sample alone", "d_in", all->x + (size_t)n * in, one.x, in);
        if (all->extra)
            expect_same(t, c, "one sample alone", "d_extra", all->extra + (size_t)n * extra, one.extra, extra);
    }
    if (all->weight)
        expect_same(t, c, "tree of samples", "d_weight", all->weight, tree_of_leaves(&t->f32, weight, c->n, v->weights),
                    v->weights);
    if (all->bias)
        expect_same(t, c, "tree of samples", "d_bias", all->bias, tree_of_leaves(&t->f32, bias, c->n, v->biases),
                    v->biases);
}

static void check_targets(struct trio *t, const struct layer_case *c, const struct layer_values *v,
                          const struct layer_gradients *all) {
    const struct layer_gradients more = layer_backward(&t->f32, c, v, 0, c->n, TARGETS_ACCUMULATE);
    const struct layer_gradients none = layer_backward(&t->f32, c, v, 0, c->n, TARGETS_NONE);
    struct layer_gradients sum = *all;
    sum.x = test_alloc(&t->f32, layer_all(&v->in) * sizeof *sum.x);
    for (size_t i = 0; i < layer_all(&v->in); i++) sum.x[i] = (double)add_f32(v->before[i], all->x[i]);
    if (all->extra) {
        sum.extra = test_alloc(&t->f32, layer_all(&v->extra) * sizeof *sum.extra);
        for (size_t i = 0; i < layer_all(&v->extra); i++)
            sum.extra[i] = (double)add_f32(v->extra_before[i], all->extra[i]);
    }
    expect_same_gradients(t, c, v, "accumulating", &sum, &more);
    expect_same(t, c, "without targets", "d_weight", all->weight, none.weight, v->weights);
    expect_same(t, c, "without targets", "d_bias", all->bias, none.bias, v->biases);
}

static void check_case(struct trio *t, const struct layer_case *c, const struct layer_values *v, bool exact) {
    const struct layer_gradients truth = layer_backward(&t->reference, c, v, 0, c->n, TARGETS_OVERWRITE);
    t->f32.exec.threads = 1;
    const struct layer_gradients got = layer_backward(&t->f32, c, v, 0, c->n, TARGETS_OVERWRITE);
    if (exact) expect_same_gradients(t, c, v, "exact sums", &got, &truth);
    expect_close(t, c, "d_in", got.x, truth.x, layer_all(&v->in));
    expect_close(t, c, "d_extra", got.extra, truth.extra, layer_all(&v->extra));
    expect_close(t, c, "d_weight", got.weight, truth.weight, v->weights);
    expect_close(t, c, "d_bias", got.bias, truth.bias, v->biases);

    const struct layer_gradients portable = layer_backward(&t->portable, c, v, 0, c->n, TARGETS_OVERWRITE);
    expect_same_gradients(t, c, v, "portable and this ISA", &portable, &got);
    for (t->f32.exec.threads = 2; t->f32.exec.threads <= 3; t->f32.exec.threads++) {
        const struct layer_gradients more = layer_backward(&t->f32, c, v, 0, c->n, TARGETS_OVERWRITE);
        expect_same_gradients(t, c, v, "1 and more threads", &got, &more);
    }
    t->f32.exec.threads = 2;
    check_samples(t, c, v, &got);
    check_targets(t, c, v, &got);
    test_release(&t->f32);
    test_release(&t->portable);
}

static void to_integers(double *x, size_t count) {
    for (size_t i = 0; x && i < count; i++) x[i] = rint(4 * x[i]);
}
static void to_integers_f32(float *x, size_t count) {
    for (size_t i = 0; x && i < count; i++) x[i] = rintf(4 * x[i]);
}

/* The same layer where every product and sum is exact: small integers, filters and factors of few bits. */
static void check_exact(struct trio *t, struct layer_case c, uint64_t seed) {
    if (c.kind == LAYER_GROUPNORM || c.kind == LAYER_ATTENTION || c.silu) return;
    if (c.scale != 1) c.scale = 0.75;
    if (c.kind == LAYER_RESAMPLE && c.len == 3) return; /* its taps have 24 bits */
    struct layer_values v = layer_values_of(&t->reference, &c, seed);
    to_integers(v.x, layer_all(&v.in));
    to_integers(v.d_out, layer_all(&v.out));
    to_integers(v.before, layer_all(&v.in));
    to_integers(v.extra_before, v.extra_x ? layer_all(&v.extra) : 0);
    to_integers_f32(v.weight, v.weights);
    check_case(t, &c, &v, true);
}

static int check_one(struct trio *t, const struct layer_case *c, uint64_t seed) {
    const struct layer_values v = layer_values_of(&t->reference, c, seed);
    check_case(t, c, &v, false);
    check_exact(t, *c, seed);
    test_release(&t->reference);
    return 1;
}

START_TEST(f32_backward_is_the_reference) {
    const enum layer_kind kind = (enum layer_kind)(_i / FDM_ISA_COUNT);
    struct trio t = {.reference = test_backend_reference(2)};
    if (!test_backend_f32(&t.f32, (enum fdm_isa)(_i % FDM_ISA_COUNT), 1)) return;
    test_backend_f32(&t.portable, FDM_ISA_ID_PORTABLE, 2);
    if (!layer_has_backward(&t.f32, kind)) {
        printf("SKIP: %s_backward on %s: not there yet\n", layer_kind_name[kind], t.f32.label);
        return;
    }
    int count = 0;
    for (size_t i = 0; i < FDM_ARRAY_LEN(fixed_cases); i++)
        if (fixed_cases[i].kind == kind) count += check_one(&t, &fixed_cases[i], 9000 + i);
    for (int i = 0; i < RANDOM_CASES; i++) {
        const struct layer_case c = random_case(kind, i);
        count += check_one(&t, &c, 100 * (uint64_t)i);
    }
    printf("%-10s %-9s %d cases, worst max/max|reference| %.2e\n", layer_kind_name[kind], t.f32.label, count, t.worst);
}
END_TEST

START_TEST(gradients_are_added) {
    struct test_backend b;
    if (!test_backend_f32(&b, (enum fdm_isa)_i, 1)) return;
    if (!b.table->add_gradients) {
        printf("SKIP: add_gradients on %s: not there yet\n", b.label);
        return;
    }
    for (size_t count = 0; count < 200; count += 1 + count / 8)
        for (b.exec.threads = 1; b.exec.threads <= 3; b.exec.threads++) {
            float *left = test_random_f32(&b, count, 1), *sum = test_random_f32(&b, count, 1);
            const float *right = test_random_f32(&b, count, 2);
            for (size_t i = 0; i < count; i++) sum[i] += right[i];
            b.table->add_gradients(&b.exec, left, right, count);
            ck_assert_msg(memcmp(left, sum, count * sizeof *sum) == 0, "%s: %zu elements", b.label, count);
        }
    test_release(&b);
}
END_TEST

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0); /* or the figures of a failing (forked) test die with it in a pipe */
    Suite *suite = suite_create("backward");
    TCase *tcase = tcase_create("against the reference");
    tcase_set_timeout(tcase, 600);
    tcase_add_loop_test(tcase, f32_backward_is_the_reference, 0, (int)LAYER_KINDS * FDM_ISA_COUNT);
    tcase_add_loop_test(tcase, gradients_are_added, 0, FDM_ISA_COUNT);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
