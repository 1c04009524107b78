/* test_resample.c - resampling by 2 of the f32 backends against its definition in backend.h in f64 loops, exact
 * inputs, and bit for bit between instruction sets, thread counts and batches.  (Goldens: test_layers.c.) */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "suite.h"
#include "nn/f32_layers.h"

struct rs_case {
    bool up, has_bias, has_residual, has_raw;
    int pad, len, n, c, in_h, in_w, out_h, out_w;
    float scale;
    struct fdm_map in, residual;
    float *filter, *bias;
};

static int out_size(const struct rs_case *t, int in) {
    return t->up ? (in - 1) * 2 - 2 * t->pad + t->len : (in + 2 * t->pad - t->len) / 2 + 1;
}

/* False if the sizes drawn leave no output pixel. */
static bool draw_sizes(struct rs_case *t, uint64_t *state) {
    static const int channels[] = {1, 3, 16, 20, 40};
    t->up = f32_below(state, 2);
    t->len = 1 + f32_below(state, f32_below(state, 3) ? 5 : FDM_MAX_FILTER);
    t->pad = f32_below(state, t->len + 1); /* up to the whole filter: rows that see no input at all */
    t->n = 1 + f32_below(state, 3);
    t->c = channels[f32_below(state, (int)FDM_ARRAY_LEN(channels))];
    t->in_h = 1 + f32_below(state, 9), t->in_w = 1 + f32_below(state, 9);
    if (!t->up && (t->in_h + 2 * t->pad < t->len || t->in_w + 2 * t->pad < t->len)) return false;
    t->out_h = out_size(t, t->in_h), t->out_w = out_size(t, t->in_w);
    return t->out_h >= 1 && t->out_w >= 1;
}

static struct rs_case draw_case(uint64_t *state, enum fill fill) {
    struct rs_case t = {0};
    while (!draw_sizes(&t, state)) {
    }
    t.has_bias = f32_below(state, 2), t.has_residual = f32_below(state, 2), t.has_raw = f32_below(state, 2);
    t.scale = f32_below(state, 2) ? 1 : fill == FILL_EXACT ? 0.5f : (float)sqrt(0.5);
    t.in = f32_map_filled(state, t.n, t.c, t.in_h, t.in_w, f32_below(state, 3), fill);
    t.residual = f32_map_filled(state, t.n, t.c, t.out_h, t.out_w, f32_below(state, 2), fill);
    t.filter = f32_array(state, (size_t)(t.len * t.len), fill);
    t.bias = f32_array(state, (size_t)t.c, fill);
    return t;
}

static void free_case(struct rs_case *t) {
    fdm_free_aligned(t->in.data), fdm_free_aligned(t->residual.data);
    fdm_free_aligned(t->filter), fdm_free_aligned(t->bias);
}

struct results {
    struct fdm_map out, raw;
};

static void free_results(struct results *r) {
    fdm_free_aligned(r->out.data);
    fdm_free_aligned(r->raw.data);
}

static struct results run(const struct rs_case *t, const struct fdm_map *in, const struct fdm_map *residual,
                          enum fdm_isa isa, int threads) {
    const struct fdm_exec exec = f32_exec(isa, threads);
    struct results r = {f32_map(in->n, t->c, t->out_h, t->out_w, 1), f32_map(in->n, t->c, t->out_h, t->out_w, 0)};
    const struct fdm_resample_args args = {
        .up = t->up,
        .pad = t->pad,
        .len = t->len,
        .filter = t->filter,
        .bias = t->has_bias ? t->bias : NULL,
        .epilogue = {t->has_residual ? residual : NULL, (double)t->scale, t->has_raw ? &r.raw : NULL}};
    fdm_f32_resample(&exec, &r.out, in, &args);
    f32_check_zeros(&r.out, "out");
    if (t->has_raw) f32_check_zeros(&r.raw, "raw");
    return r;
}

/* The sum of backend.h, tap by tap; *magnitude the sum of absolute values. */
static double tap_sum(double *magnitude, const struct rs_case *t, int n, int c, int y, int x) {
    double sum = 0;
    *magnitude = 0;
    for (int k = 0; k < t->len * t->len; k++) {
        const int i = k / t->len, j = k % t->len;
        int iy = 2 * y + i - t->pad, ix = 2 * x + j - t->pad;
        double f = (double)t->filter[k];
        if (t->up) { /* 2 iy - pad + i = y */
            if ((y + t->pad - i) % 2 != 0 || (x + t->pad - j) % 2 != 0) continue;
            iy = (y + t->pad - i) / 2, ix = (x + t->pad - j) / 2, f *= 4;
        }
        if (iy < 0 || iy >= t->in_h || ix < 0 || ix >= t->in_w) continue;
        const double term = f * (double)*f32_at(&t->in, n, c, iy, ix);
        sum += term, *magnitude += fabs(term);
    }
    return sum;
}

/* Error over its bound: a chain of len^2 FMAs and an addition of the bias, each rounding at most u = 2^-24 of the
 * magnitudes so far; then the residual's addition and the scale, 3 more. */
static double check_element(const struct rs_case *t, const struct results *r, int n, int c, int y, int x) {
    double magnitude, raw = tap_sum(&magnitude, t, n, c, y, x);
    if (t->has_bias) raw += (double)t->bias[c], magnitude += fabs((double)t->bias[c]);
    double error = 0, out = raw;
    const double bound = 0x1p-24 * (t->len * t->len + 1) * magnitude + 0x1p-149;
    if (t->has_raw) error = fabs((double)*f32_at(&r->raw, n, c, y, x) - raw) / bound;
    if (t->has_residual) out += (double)*f32_at(&t->residual, n, c, y, x);
    out *= (double)t->scale;
    const double out_bound = bound * (double)t->scale + 3 * 0x1p-24 * fabs(out);
    const double out_error = fabs((double)*f32_at(&r->out, n, c, y, x) - out) / out_bound;
    return out_error <= error ? error : out_error; /* keeps a NaN */
}

static double check_all(const struct rs_case *t, const struct results *r, enum fill fill) {
    const double limit = fill == FILL_EXACT ? 0 : 1;
    double worst = 0;
    for (int i = 0; i < t->n * t->c * t->out_h * t->out_w; i++) {
        const int x = i % t->out_w, y = i / t->out_w % t->out_h, p = i / t->out_w / t->out_h;
        const double error = check_element(t, r, p / t->c, p % t->c, y, x);
        if (!(error <= limit))
            ck_abort_msg("%s len %d pad %d %dx%d: n %d c %d y %d x %d: error %.3g of its bound",
                         t->up ? "up" : "down", t->len, t->pad, t->in_h, t->in_w, p / t->c, p % t->c, y, x, error);
        worst = fmax(worst, error);
    }
    return worst;
}

static void check_same(const struct rs_case *t, const struct results *a, const struct results *b,
                       const char *what) {
    ck_assert_msg(memcmp(a->out.data, b->out.data, f32_map_bytes(&a->out)) == 0, "%s: out differs", what);
    if (t->has_raw) ck_assert_msg(memcmp(a->raw.data, b->raw.data, f32_map_bytes(&a->raw)) == 0, "%s: raw", what);
}

static void check_same_everywhere(const struct rs_case *t, const struct results *first) {
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    for (int k = 0; k < count; k++)
        for (int threads = 1; threads <= 4; threads *= 2) {
            struct results r = run(t, &t->in, &t->residual, list[k], threads);
            check_same(t, first, &r, fdm_isa_name(list[k]));
            free_results(&r);
        }
    struct fdm_map in = f32_sample(&t->in, t->n - 1), residual = f32_sample(&t->residual, t->n - 1);
    struct results part = {f32_sample(&first->out, t->n - 1), f32_sample(&first->raw, t->n - 1)};
    struct results alone = run(t, &in, &residual, fdm_isa_best(), 2);
    check_same(t, &part, &alone, "one sample alone");
    free_results(&part), free_results(&alone);
    fdm_free_aligned(in.data), fdm_free_aligned(residual.data);
}

static void check_cases(enum fill fill, uint64_t seed, int count) {
    double worst = 0;
    for (int i = 0; i < count; i++) {
        struct rs_case t = draw_case(&seed, fill);
        struct results first = run(&t, &t.in, &t.residual, FDM_ISA_ID_PORTABLE, 1);
        worst = fmax(worst, check_all(&t, &first, fill));
        check_same_everywhere(&t, &first);
        free_results(&first);
        free_case(&t);
    }
    printf("resample, %d %s cases: worst error %.3f of its bound\n", count, fill == FILL_EXACT ? "exact" : "random",
           worst);
}

START_TEST(random_cases) {
    check_cases(FILL_RANDOM, 1, 100);
}
END_TEST

/* Small integers: every sum is exact, so the error must be 0. */
START_TEST(exact_cases) {
    check_cases(FILL_EXACT, 2, 100);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("resample");
    TCase *tcase = tcase_create("resample");
    tcase_set_timeout(tcase, 300); /* not about speed: sanitizer builds on a loaded machine */
    tcase_add_test(tcase, random_cases);
    tcase_add_test(tcase, exact_cases);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
