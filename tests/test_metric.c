/* test_metric.c - the measures: against the published program's Frechet distances, known Gaussians, known sets; what must
 * not change them, what must; intervals; same bits for any threads; refusals. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/metric.h"
#include "golden.h"
#include "io_util.h"
#include "suite.h"
#include "synthetic.h"

static bool lapack; /* whether this build has it */

static void ok(fdm_status status, const fdm_error *err) { ck_assert_msg(status == FDM_OK, "%s", err->message); }

/* ---- Frechet distance -------------------------------------------------------------------------------------- */

static double frechet(const fdm_gaussian *a, const fdm_gaussian *b) {
    fdm_error err = {0};
    double distance = NAN;
    ok(fdm_frechet_distance(&distance, a, b, &err), &err);
    return distance;
}

START_TEST(published_distances) {
    static const struct {
        const char *file;
        double exact; /* in 40 decimal digits (mpmath), eigenvalues below 1e-12 of the largest being zero */
    } cases[] = {{"fid_dim64.safetensors", NAN}, {"fid_dim64_rankdef.safetensors", 26.056670700751254}};
    for (int i = 0; i < 2; i++) {
        fdm_tensors set;
        golden_load(&set, cases[i].file);
        const int d = golden_dim(&set, "", "mu", 0);
        fdm_gaussian a = {d, golden_f64(&set, "", "mu"), golden_f64(&set, "", "sigma")};
        fdm_gaussian b = {d, golden_f64(&set, "", "mu_ref"), golden_f64(&set, "", "sigma_ref")};
        const double want = isnan(cases[i].exact) ? fdm_tensor_get(golden_get(&set, "", "fid_symmetric_form"), 0) : cases[i].exact;
        const double published = fdm_tensor_get(golden_get(&set, "", "fid"), 0), got = frechet(&a, &b);
        printf("  %s: %.15g, published %.15g\n", cases[i].file, got, published);
        ck_assert_double_eq_tol(got / want, 1, 1e-12);
        ck_assert_double_eq_tol(got / published, 1, 1e-6);
        ck_assert_double_eq_tol(frechet(&b, &a) / got, 1, 1e-12);
        fdm_gaussian_free(&a), fdm_gaussian_free(&b);
        fdm_tensors_free(&set);
    }
}
END_TEST

START_TEST(published_statistics) {
    fdm_tensors set;
    fdm_error err = {0};
    fdm_gaussian g = {0};
    golden_load(&set, "fid_stats_dim32.safetensors");
    fdm_features x = {golden_f64(&set, "", "features"), 300, 32};
    double *mu = golden_f64(&set, "", "mu"), *sigma = golden_f64(&set, "", "sigma");
    ok(fdm_gaussian_fit(&g, &x, 2, &err), &err);
    ck_assert(golden_compare(g.mu, mu, 32).max_scaled <= 1e-12);
    ck_assert(golden_compare(g.sigma, sigma, 32 * 32).max_scaled <= 1e-12);
    fdm_gaussian_free(&g);
    fdm_features_free(&x);
    free(mu), free(sigma);
    fdm_tensors_free(&set);
}
END_TEST

/* tr (A B)^(1/2) of 2 x 2 matrices: with t, p the trace and determinant of A B, (t + 2 p^(1/2))^(1/2). */
static double two_by_two(const fdm_gaussian *a, const fdm_gaussian *b) {
    const double *s = a->sigma, *t = b->sigma;
    const double trace = s[0] * t[0] + 2 * s[1] * t[1] + s[3] * t[3];
    const double determinant = (s[0] * s[3] - s[1] * s[2]) * (t[0] * t[3] - t[1] * t[2]);
    const double dx = a->mu[0] - b->mu[0], dy = a->mu[1] - b->mu[1];
    return dx * dx + dy * dy + s[0] + s[3] + t[0] + t[3] - 2 * sqrt(trace + 2 * sqrt(determinant));
}

START_TEST(closed_forms) {
    /* one dimension: (m - m')^2 + (s - s')^2 */
    fdm_gaussian a = {1, (double[]){3}, (double[]){4}}, b = {1, (double[]){1}, (double[]){25}};
    ck_assert_double_eq_tol(frechet(&a, &b), 4 + 9, 1e-13);
    /* diagonal ones add up; a point has no variance */
    fdm_gaussian c = {3, (double[]){0, 0, 1}, (double[]){1, 0, 0, 0, 4, 0, 0, 0, 9}};
    fdm_gaussian e = {3, (double[]){0, 2, 1}, (double[]){16, 0, 0, 0, 4, 0, 0, 0, 0}};
    fdm_gaussian point = {3, (double[]){0, 0, 0}, (double[9]){0}};
    ck_assert_double_eq_tol(frechet(&c, &e), 4 + 9 + 0 + 9, 1e-12);
    ck_assert_double_eq_tol(frechet(&c, &point), 1 + 14, 1e-12);
    ck_assert_double_eq(frechet(&point, &point), 0);
    /* not commuting */
    fdm_gaussian f = {2, (double[]){1, 2}, (double[]){2, 1, 1, 3}}, g = {2, (double[]){0, 1}, (double[]){5, -2, -2, 1}};
    ck_assert_double_eq_tol(frechet(&f, &g), two_by_two(&f, &g), 1e-12);
    /* rank 1 against rank 1: tr = |u.v| */
    fdm_gaussian u = {2, (double[]){0, 0}, (double[]){1, 2, 2, 4}}, v = {2, (double[]){0, 0}, (double[]){9, -3, -3, 1}};
    ck_assert_double_eq_tol(frechet(&u, &v), 5 + 10 - 2 * 1, 1e-12);
    ck_assert_double_le(frechet(&f, &f), 1e-14);
}
END_TEST

/* ---- What must not change a measure, and what must --------------------------------------------------------- */

static fdm_metric_report measure(const fdm_features *x, const fdm_features *y, int bootstrap, int threads) {
    const fdm_metric_side ref = {.features = x}, images = {.features = y};
    fdm_metric_options options = fdm_metric_defaults();
    fdm_metric_report report;
    fdm_error err = {0};
    options.bootstrap = bootstrap;
    options.threads = threads;
    ok(fdm_metric_measure(&report, &ref, &images, &options, &err), &err);
    return report;
}

/* x = x H + shift, H = 1 - 2 v v^T/|v|^2 a reflection in any direction. */
static void reflect(fdm_features *x, double shift) {
    double square = 0;
    for (int j = 0; j < x->d; j++) square += (j + 1.5) * (j + 1.5);
    for (int64_t i = 0; i < x->n; i++) {
        double *row = x->values + i * x->d, dot = 0;
        for (int j = 0; j < x->d; j++) dot += row[j] * (j + 1.5);
        for (int j = 0; j < x->d; j++) row[j] += shift * j - 2 * dot / square * (j + 1.5);
    }
}

START_TEST(invariances) {
    fdm_features x = synthetic_normal(150, 6, 1), y = synthetic_normal(130, 6, 2);
    synthetic_affine(&y, 1.3, 0.2);
    const fdm_metric_report before = measure(&x, &y, 0, 2);
    reflect(&x, 3), reflect(&y, 3);
    fdm_metric_report after = measure(&x, &y, 0, 2);
    ck_assert_double_eq_tol(after.frechet.value / before.frechet.value, 1, 1e-11);
    ck_assert_double_eq_tol(after.kernel.value / before.kernel.value, 1, 1e-10);
    ck_assert_double_eq(after.precision.value, before.precision.value);
    ck_assert_double_eq(after.recall.value, before.recall.value);
    synthetic_affine(&x, 10, -7), synthetic_affine(&y, 10, -7);
    after = measure(&x, &y, 0, 2);
    ck_assert_double_eq_tol(after.frechet.value / before.frechet.value, 100, 1e-9);
    ck_assert_double_eq_tol(after.kernel.value / before.kernel.value, 1, 1e-10);
    ck_assert_double_eq(after.precision.value, before.precision.value);
    /* the order of the images, for all but the kernel distance, whose blocks are others */
    for (int j = 0; j < 6; j++) {
        const double kept = y.values[j];
        y.values[j] = y.values[129 * 6 + j];
        y.values[129 * 6 + j] = kept;
    }
    const fdm_metric_report shuffled = measure(&x, &y, 0, 2);
    ck_assert_double_eq_tol(shuffled.frechet.value / after.frechet.value, 1, 1e-11);
    ck_assert_double_eq(shuffled.precision.value, after.precision.value);
    ck_assert_double_eq(shuffled.recall.value, after.recall.value);
    /* precision of one way is recall of the other */
    const fdm_metric_report exchanged = measure(&y, &x, 0, 2);
    ck_assert_double_eq(exchanged.precision.value, shuffled.recall.value);
    fdm_features_free(&x), fdm_features_free(&y);
}
END_TEST

START_TEST(identical_sets_and_worse_ones) {
    fdm_features x = synthetic_normal(400, 8, 3), half = {x.values, 200, 8}, other = {x.values + 200 * 8, 200, 8};
    fdm_features near = synthetic_normal(200, 8, 4), noise = synthetic_normal(200, 8, 5);
    synthetic_affine(&near, 1, 0.5), synthetic_affine(&noise, 4, 2);
    const fdm_metric_report same = measure(&half, &half, 50, 2), split = measure(&half, &other, 50, 2);
    const fdm_metric_report model = measure(&half, &near, 50, 2), bad = measure(&half, &noise, 50, 2);
    ck_assert_double_le(same.frechet.value, 1e-12);
    ck_assert_double_le(fabs(same.kernel.value), fabs(split.kernel.high - split.kernel.low));
    ck_assert_double_eq(same.precision.value, 1);
    ck_assert_double_eq(same.recall.value, 1);
    ck_assert_double_gt(model.frechet.low, split.frechet.high);
    ck_assert_double_gt(bad.frechet.value, 10 * model.frechet.value);
    ck_assert_double_gt(model.kernel.low, split.kernel.high);
    ck_assert_double_gt(bad.kernel.value, 10 * model.kernel.value);
    ck_assert_double_lt(bad.precision.value, 0.2 * model.precision.value);
    ck_assert_double_lt(model.precision.value, split.precision.value);
    printf("  Frechet distance: same %.2g, split %.3g, near %.3g, noise %.3g\n", same.frechet.value, split.frechet.value,
           model.frechet.value, bad.frechet.value);
    fdm_features_free(&x), fdm_features_free(&near), fdm_features_free(&noise);
}
END_TEST

START_TEST(modes) { /* half of the reference's modes: precise, but only half is recalled */
    fdm_features x = synthetic_normal(200, 3, 6), y = synthetic_normal(100, 3, 7);
    for (int64_t i = 100 * 3; i < 200 * 3; i++) x.values[i] += 100;
    const fdm_metric_report r = measure(&x, &y, 0, 1);
    ck_assert_double_gt(r.precision.value, 0.8);
    ck_assert_double_gt(r.recall.value, 0.4);
    ck_assert_double_le(r.recall.value, 0.5);
    /* on a line: radii of the 2nd neighbours of 0, 1, 3, 7 are 3, 2, 3, 6 */
    fdm_features line = {(double[]){0, 1, 3, 7}, 4, 1}, points = {(double[]){-3, -3.1, 6, 13, 13.1}, 5, 1};
    uint8_t inside[5];
    fdm_error err = {0};
    ok(fdm_manifold_contains(inside, &points, &line, 2, 1, NULL, &err), &err);
    ck_assert(memcmp(inside, (uint8_t[]){1, 0, 1, 1, 0}, 5) == 0);
    fdm_features_free(&x), fdm_features_free(&y);
}
END_TEST

/* ---- Kernel distance --------------------------------------------------------------------------------------- */

static double kernel(const double *a, const double *b, int d) {
    double dot = 0;
    for (int j = 0; j < d; j++) dot += a[j] * b[j];
    return pow(dot / d + 1, 3);
}

/* One block of everything: the definition, in sums over all pairs. */
START_TEST(kernel_definition) {
    enum { N = 12, D = 5 };
    fdm_features x = synthetic_normal(N, D, 8), y = synthetic_normal(N, D, 9);
    fdm_error err = {0};
    double *values, mean[D] = {0}, square = 0, xx = 0, yy = 0, xy = 0;
    int64_t blocks, block = N;
    ok(fdm_kernel_distance(&values, &blocks, &block, &x, &y, 0, 1, NULL, &err), &err);
    ck_assert_int_eq(blocks, 1);
    for (int i = 0; i < N * D; i++) mean[i % D] += x.values[i] / N;
    for (int i = 0; i < N * D; i++) x.values[i] -= mean[i % D], y.values[i] -= mean[i % D];
    for (int i = 0; i < N * D; i++) square += x.values[i] * x.values[i] / (N * D);
    synthetic_affine(&x, 1 / sqrt(square), 0), synthetic_affine(&y, 1 / sqrt(square), 0);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            if (i != j) xx += kernel(x.values + i * D, x.values + j * D, D) / (N * (N - 1));
            if (i != j) yy += kernel(y.values + i * D, y.values + j * D, D) / (N * (N - 1));
            xy += kernel(x.values + i * D, y.values + j * D, D) / (N * N);
        }
    ck_assert_double_eq_tol(values[0], xx + yy - 2 * xy, 1e-12);
    free(values);
    fdm_features_free(&x), fdm_features_free(&y);
}
END_TEST

START_TEST(kernel_without_bias) { /* samples of one distribution: 0 on average */
    double sum = 0, squares = 0;
    fdm_error err = {0};
    enum { SETS = 100 };
    for (uint64_t s = 0; s < SETS; s++) {
        fdm_features x = synthetic_normal(40, 4, 2 * s), y = synthetic_normal(40, 4, 2 * s + 1);
        double *values;
        int64_t blocks, block = 10;
        ok(fdm_kernel_distance(&values, &blocks, &block, &x, &y, s, 1, NULL, &err), &err);
        for (int64_t b = 0; b < blocks; b++) sum += values[b], squares += values[b] * values[b];
        free(values);
        fdm_features_free(&x), fdm_features_free(&y);
    }
    const double n = 4 * SETS, error = sqrt(squares) / n;
    printf("  kernel distance of equal distributions: %.3g, standard error %.3g\n", sum / n, error);
    ck_assert_double_le(fabs(sum / n), 3.5 * error);
}
END_TEST

/* ---- Intervals --------------------------------------------------------------------------------------------- */

struct coverage {
    double values[4096], low[4096], high[4096];
    int n;
};

static void add(struct coverage *c, const fdm_metric_estimate *e) {
    c->values[c->n] = e->value, c->low[c->n] = e->low, c->high[c->n++] = e->high;
    ck_assert(e->low <= e->value && e->value <= e->high && e->standard_error > 0);
}

/* Share of the intervals that hold the mean of all values, which stands for the expectation. */
static double covered(const struct coverage *c) {
    double mean = 0;
    int hits = 0;
    for (int i = 0; i < c->n; i++) mean += c->values[i] / c->n;
    for (int i = 0; i < c->n; i++) hits += c->low[i] <= mean && mean <= c->high[i];
    return (double)hits / c->n;
}

START_TEST(intervals_cover) {
    enum { SETS = 150 };
    static struct coverage frechets, kernels;
    double bias = 0, mean = 0;
    for (uint64_t s = 0; s < SETS; s++) {
        fdm_features x = synthetic_normal(300, 3, 1000 + 2 * s), y = synthetic_normal(200, 3, 1001 + 2 * s);
        synthetic_affine(&y, 1.2, 0.6);
        const fdm_metric_report r = measure(&x, &y, 80, 2);
        add(&frechets, &r.frechet), add(&kernels, &r.kernel);
        bias += r.frechet.bias / SETS, mean += r.frechet.value / SETS;
        fdm_features_free(&x), fdm_features_free(&y);
    }
    const double truth = 3 * (0.6 * 0.6 + 0.2 * 0.2);
    printf("  %d sets: 95 %% intervals hold the expected Frechet distance in %.3g %%, the kernel distance in %.3g %%; the "
           "Frechet distance is %.3g above the truth, estimated %.3g\n",
           SETS, 100 * covered(&frechets), 100 * covered(&kernels), mean - truth, bias);
    fflush(stdout); /* Check ends a failing test without */
    /* binomial with 150 trials: 0.95 +- 0.018, and small samples take some of it; more so from the mean of skewed values */
    ck_assert(covered(&frechets) >= 0.88 && covered(&frechets) <= 0.995);
    ck_assert(covered(&kernels) >= 0.80 && covered(&kernels) <= 0.995);
    ck_assert_double_eq_tol(bias, mean - truth, 0.6 * fabs(mean - truth));
}
END_TEST

static void check_same(const fdm_metric_report *a, const fdm_metric_report *b) {
    ck_assert(memcmp(&a->frechet, &b->frechet, sizeof a->frechet) == 0);
    ck_assert(memcmp(&a->kernel, &b->kernel, sizeof a->kernel) == 0);
    ck_assert(memcmp(&a->precision, &b->precision, sizeof a->precision) == 0);
    ck_assert(memcmp(&a->recall, &b->recall, sizeof a->recall) == 0);
}

START_TEST(same_bits_for_any_threads) {
    fdm_features x = synthetic_normal(90, 7, 10), y = synthetic_normal(77, 7, 11);
    const fdm_metric_report one = measure(&x, &y, 20, 1), three = measure(&x, &y, 20, 3), again = measure(&x, &y, 20, 3);
    check_same(&one, &three);
    check_same(&again, &three);
    fdm_gaussian a = {0}, b = {0};
    fdm_error err = {0};
    ok(fdm_gaussian_fit(&a, &x, 1, &err), &err);
    ok(fdm_gaussian_fit(&b, &x, 4, &err), &err);
    ck_assert(memcmp(a.sigma, b.sigma, 49 * sizeof(double)) == 0);
    /* a side known by mean and covariance alone: the same distance, nothing else */
    const fdm_metric_side ref = {.gaussian = &a}, images = {.features = &y};
    const fdm_metric_options options = fdm_metric_defaults();
    fdm_metric_report r;
    ok(fdm_metric_measure(&r, &ref, &images, &options, &err), &err);
    ck_assert_double_eq(r.frechet.value, one.frechet.value);
    ck_assert(r.frechet.low < r.frechet.value && isnan(r.kernel.value) && isnan(r.recall.value) && r.ref_count == 0);
    fdm_gaussian_free(&a), fdm_gaussian_free(&b);
    fdm_features_free(&x), fdm_features_free(&y);
}
END_TEST

/* ---- Refusals ---------------------------------------------------------------------------------------------- */

static bool stop_now(void *unused) {
    (void)unused;
    return true;
}

START_TEST(refusals) {
    fdm_error err = {0};
    double distance;
    fdm_gaussian a = {2, (double[]){0, 0}, (double[]){1, 0, 0, 1}}, three = {3, (double[3]){0}, (double[9]){0}};
    fdm_gaussian skew = {2, (double[]){0, 0}, (double[]){1, 0.5, 0, 1}}, indefinite = {2, (double[]){0, 0}, (double[]){1, 2, 2, 1}};
    fdm_gaussian hollow = {2, (double[]){0, 0}, (double[]){0, 1, 1, 0}};
    fdm_gaussian nan_mu = {2, (double[]){0, NAN}, (double[]){1, 0, 0, 1}}, inf = {2, (double[]){0, 0}, (double[]){1, 0, 0, INFINITY}};
    check_refused(fdm_frechet_distance(&distance, &a, &three, &err), FDM_BAD_INPUT, &err, "2 features, the other 3");
    check_refused(fdm_frechet_distance(&distance, &a, &skew, &err), FDM_BAD_INPUT, &err, "[1,0] and [0,1] differ");
    check_refused(fdm_frechet_distance(&distance, &indefinite, &a, &err), FDM_BAD_INPUT, &err, "semi-definite");
    check_refused(fdm_frechet_distance(&distance, &a, &hollow, &err), FDM_BAD_INPUT, &err, "semi-definite");
    check_refused(fdm_frechet_distance(&distance, &nan_mu, &a, &err), FDM_BAD_INPUT, &err, "mu: element 1");
    check_refused(fdm_frechet_distance(&distance, &a, &inf, &err), FDM_BAD_INPUT, &err, "sigma: element 3");

    fdm_features x = synthetic_normal(10, 2, 1), one = {x.values, 1, 2}, other = {x.values, 5, 3}, bad = synthetic_normal(4, 2, 2);
    fdm_gaussian g = {0};
    uint8_t inside[10];
    double *values;
    int64_t blocks, block = 1;
    bad.values[5] = NAN;
    check_refused(fdm_gaussian_fit(&g, &one, 1, &err), FDM_BAD_INPUT, &err, "at least 2");
    check_refused(fdm_gaussian_fit(&g, &bad, 1, &err), FDM_BAD_INPUT, &err, "feature 1 of image 2");
    check_refused(fdm_kernel_distance(&values, &blocks, &block, &x, &x, 0, 1, NULL, &err), FDM_BAD_USAGE, &err, "block: 1");
    block = 11;
    check_refused(fdm_kernel_distance(&values, &blocks, &block, &x, &x, 0, 1, NULL, &err), FDM_BAD_INPUT, &err, "at least 11");
    check_refused(fdm_kernel_distance(&values, &blocks, &block, &x, &other, 0, 1, NULL, &err), FDM_BAD_INPUT, &err, "one feature space");
    check_refused(fdm_manifold_contains(inside, &x, &x, 10, 1, NULL, &err), FDM_BAD_INPUT, &err, "at least 11");
    check_refused(fdm_manifold_contains(inside, &x, &x, 0, 1, NULL, &err), FDM_BAD_USAGE, &err, "k: 0");
    check_refused(fdm_manifold_contains(inside, &x, &x, 65, 1, NULL, &err), FDM_BAD_USAGE, &err, "k: 65");

    const fdm_metric_side side = {.features = &x}, none = {0};
    fdm_metric_options options = fdm_metric_defaults();
    fdm_metric_report report;
    check_refused(fdm_metric_measure(&report, &side, &none, &options, &err), FDM_BAD_USAGE, &err, "neither");
    options.bootstrap = 1;
    check_refused(fdm_metric_measure(&report, &side, &side, &options, &err), FDM_BAD_USAGE, &err, "bootstrap: 1");
    options.bootstrap = 2, options.confidence = 1;
    check_refused(fdm_metric_measure(&report, &side, &side, &options, &err), FDM_BAD_USAGE, &err, "confidence");
    options.confidence = 0.9, options.stop = stop_now;
    check_refused(fdm_metric_measure(&report, &side, &side, &options, &err), FDM_INTERRUPTED, &err, NULL);
    fdm_features_free(&x), fdm_features_free(&bad);
}
END_TEST

START_TEST(without_lapack) {
    fdm_gaussian a = {1, (double[]){0}, (double[]){1}};
    fdm_error err = {0};
    double distance;
    check_refused(fdm_frechet_distance(&distance, &a, &a, &err), FDM_NO_RESOURCE, &err, "liblapack3");
    printf("SKIP: this build has no LAPACK: no Frechet distances\n");
}
END_TEST

int main(void) {
    fdm_gaussian unit = {1, (double[]){0}, (double[]){1}};
    double distance;
    lapack = fdm_frechet_distance(&distance, &unit, &unit, NULL) == FDM_OK;
    Suite *suite = suite_create("metric");
    TCase *tc = tcase_create("metric");
    if (!lapack) tcase_add_test(tc, without_lapack);
    tcase_add_test(tc, published_statistics);
    tcase_add_test(tc, kernel_definition);
    tcase_add_test(tc, kernel_without_bias);
    if (lapack) {
        tcase_add_test(tc, published_distances);
        tcase_add_test(tc, closed_forms);
        tcase_add_test(tc, invariances);
        tcase_add_test(tc, identical_sets_and_worse_ones);
        tcase_add_test(tc, modes);
        tcase_add_test(tc, intervals_cover);
        tcase_add_test(tc, same_bits_for_any_threads);
        tcase_add_test(tc, refusals);
    }
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
