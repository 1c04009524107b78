/* test_mixture.c - closed forms of Gaussian mixtures against differences, quadrature and Monte Carlo. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/mixture.h"
#include "suite.h"

static const double weight[3] = {0.2, 0.5, 0.3}, spread[3] = {0.1, 0.4, 0.25};
static const double mean1[3] = {-1.2, 0.1, 1.5}, mean2[6] = {-1, 0.5, 0.3, -0.8, 1.1, 0.9};
static const fdm_mixture line = {3, 1, weight, mean1, spread}, plane = {3, 2, weight, mean2, spread};
static const double axis1[1] = {1};

/* Score = gradient of the log density, and Tweedie's formula. */
START_TEST(score_is_the_gradient) {
    static const double sigmas[] = {0, 0.05, 0.7, 20};
    double worst = 0;
    for (int s = 0; s < 4; s++) {
        for (int i = 0; i < 25; i++) {
            const double sigma = sigmas[s], x[2] = {(i % 5 - 2) * 0.6, (i / 5 - 2) * 0.55};
            double score[2], D[2];
            fdm_mixture_score(score, &plane, x, sigma);
            fdm_mixture_denoise(D, &plane, x, sigma);
            for (int d = 0; d < 2; d++) {
                const double h = 1e-5;
                double up[2] = {x[0], x[1]}, down[2] = {x[0], x[1]};
                up[d] += h, down[d] -= h;
                const double slope = (fdm_mixture_log_density(&plane, up, sigma) - fdm_mixture_log_density(&plane, down, sigma)) / (2 * h);
                worst = fmax(worst, fabs(slope - score[d]) / (1 + fabs(score[d])));
                ck_assert(fabs(x[d] + sigma * sigma * score[d] - D[d]) <= 1e-13 * (1 + fabs(x[d]) + sigma * sigma * fabs(score[d])));
            }
        }
    }
    printf("  score against differences: %.2g\n", worst);
    ck_assert(worst <= 1e-6); /* the second difference of a density with std 0.1 */
}
END_TEST

/* The density integrates to 1 and to its distribution function; D is the posterior mean by quadrature over x0. */
START_TEST(by_quadrature) {
    const double sigma = 0.5, h = 1.0 / 512;
    double total = 0, below = 0;
    for (int i = -4096; i <= 4096; i++) {
        const double x = i * h;
        const double p = exp(fdm_mixture_log_density(&line, &x, 0));
        total += p * h;
        if (i <= 102) below += p * h * (i == 102 ? 0.5 : 1);
    }
    ck_assert(fabs(total - 1) <= 1e-12);
    ck_assert(fabs(below - fdm_mixture_cdf(&line, axis1, 102 * h)) <= 1e-5);
    for (double x = -2; x <= 2; x += 0.37) {
        double D, top = 0, bottom = 0;
        fdm_mixture_denoise(&D, &line, &x, sigma);
        for (int i = -4096; i <= 4096; i++) {
            const double y = i * h, p = exp(fdm_mixture_log_density(&line, &y, 0) - 0.5 * (x - y) * (x - y) / (sigma * sigma));
            top += p * y, bottom += p;
        }
        ck_assert(fabs(D - top / bottom) <= 1e-12);
    }
}
END_TEST

/* ln p(x, v) of the state of a mixture of one variable, from the definition. */
static double log_state(const double *x, const double *v, const fdm_oscillator *o, double gamma0) {
    double sum = 0;
    for (int k = 0; k < 3; k++) {
        const double s2 = spread[k] * spread[k], dx = *x - o->mean_x * mean1[k], dv = *v - o->mean_v * mean1[k];
        const double a = o->cov_xx + s2 * o->mean_x * o->mean_x + gamma0 * o->h * o->h;
        const double b = o->cov_xv + s2 * o->mean_x * o->mean_v + gamma0 * o->h * o->dh;
        const double c = o->cov_vv + s2 * o->mean_v * o->mean_v + gamma0 * o->dh * o->dh, det = a * c - b * b;
        sum += weight[k] / sqrt(det) * exp(-0.5 * (c * dx * dx - 2 * b * dx * dv + a * dv * dv) / det);
    }
    return log(sum);
}

START_TEST(state_score) {
    double worst = 0;
    for (int i = 0; i < 60; i++) {
        fdm_oscillator o;
        const double tau = 0.05 + 0.2 * (i % 10), x = 0.4 * (i % 7 - 3), v = 0.5 * (i % 5 - 2), gamma0 = 0.04 * (i % 2), h = 1e-5;
        ck_assert_int_eq(fdm_oscillator_at(&o, i % 3 ? 1 : 0.4, tau, 2, NULL), FDM_OK);
        double score, D;
        fdm_mixture_state_score(&score, &D, &line, &x, &v, &o, gamma0);
        const double up = v + h, down = v - h;
        const double slope = (log_state(&x, &up, &o, gamma0) - log_state(&x, &down, &o, gamma0)) / (2 * h);
        worst = fmax(worst, fabs(slope - score) / (1 + fabs(score)));
        /* E[x0 | x, v] by quadrature over x0: given x0 the state is the oscillator's (v(0) spread by gamma0) */
        const double a = o.cov_xx + gamma0 * o.h * o.h, b = o.cov_xv + gamma0 * o.h * o.dh, c = o.cov_vv + gamma0 * o.dh * o.dh;
        double top = 0, bottom = 0, best = -INFINITY;
        for (int pass = 0; pass < 2; pass++) {
            for (int j = -16384; j <= 16384; j++) {
                const double y = j / 4096.0, dx = x - o.mean_x * y, dv = v - o.mean_v * y;
                const double log_p = fdm_mixture_log_density(&line, &y, 0) - 0.5 * (c * dx * dx - 2 * b * dx * dv + a * dv * dv) / (a * c - b * b);
                if (pass == 0) best = fmax(best, log_p);
                else top += y * exp(log_p - best), bottom += exp(log_p - best);
            }
        }
        ck_assert_msg(fabs(D - top / bottom) <= 1e-9, "tau %g: %g, not %g", tau, D, top / bottom);
    }
    printf("  score of the state against differences: %.2g\n", worst);
    ck_assert(worst <= 1e-7);
}
END_TEST

START_TEST(quantiles) {
    enum { N = 4001 };
    static double q[N], moved[N];
    const double oblique[2] = {0.6, 0.8};
    fdm_mixture_quantiles(q, N, &plane, oblique);
    for (int i = 0; i < N; i++) {
        ck_assert(fabs(fdm_mixture_cdf(&plane, oblique, q[i]) - (i + 0.5) / N) <= 1e-9);
        ck_assert(i == 0 || q[i] > q[i - 1]);
        moved[N - 1 - i] = q[i] + 0.25; /* in any order */
    }
    ck_assert(fabs(fdm_wasserstein(moved, q, N) - 0.25) <= 1e-14); /* a shift moves everything by as much */
    moved[7] = NAN;
    ck_assert(isnan(fdm_wasserstein(moved, q, N)));
    const double points[1] = {0}, at[1] = {2}, all[1] = {1}; /* a single point: its quantiles are all there */
    fdm_mixture_quantiles(q, 5, &(fdm_mixture){1, 1, all, at, points}, axis1);
    for (int i = 0; i < 5; i++) ck_assert(fabs(q[i] - 2) <= 1e-9);
}
END_TEST

START_TEST(checks) {
    fdm_error err;
    const double bad_weight[3] = {0.2, 0.5, 0.2}, negative[3] = {0.1, -1, 1}, nan_mean[3] = {0, NAN, 0};
    ck_assert_int_eq(fdm_mixture_check(&line, &err), FDM_OK);
    ck_assert_int_eq(fdm_mixture_check(&(fdm_mixture){3, 1, bad_weight, mean1, spread}, &err), FDM_BAD_USAGE);
    ck_assert_int_eq(fdm_mixture_check(&(fdm_mixture){3, 1, weight, mean1, negative}, &err), FDM_BAD_USAGE);
    ck_assert_int_eq(fdm_mixture_check(&(fdm_mixture){3, 1, weight, nan_mean, spread}, &err), FDM_BAD_USAGE);
    ck_assert_int_eq(fdm_mixture_check(&(fdm_mixture){0, 1, weight, mean1, spread}, &err), FDM_BAD_USAGE);
    ck_assert_int_eq(fdm_mixture_check(&(fdm_mixture){3, 9, weight, mean1, spread}, &err), FDM_BAD_USAGE);
    /* far out nothing overflows: the nearest component's line */
    const double far[1] = {1e6};
    double D;
    fdm_mixture_denoise(&D, &line, far, 0.01);
    ck_assert(isfinite(D) && isfinite(fdm_mixture_log_density(&line, far, 0.01)));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("mixture");
    TCase *tc = tcase_create("mixture");
    tcase_add_test(tc, score_is_the_gradient);
    tcase_add_test(tc, by_quadrature);
    tcase_add_test(tc, state_score);
    tcase_add_test(tc, quantiles);
    tcase_add_test(tc, checks);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
