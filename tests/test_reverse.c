/* test_reverse.c - samplers against exact densities: from noise to Gaussian mixtures whose denoiser is known.
 *
 * In one dimension the probability flow keeps the order of points, so latents at the quantiles of N(0, 1) must come out at
 * the quantiles of the data: the distance has no statistical error. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/simulate.h"
#include "suite.h"

#ifdef FDM_POISON
enum { POINTS = 100, CROWD = 500 };
#else
enum { POINTS = 500, CROWD = 2000 };
#endif

static const double weight[3] = {0.25, 0.35, 0.4}, spread[3] = {0.08, 0.2, 0.12};
static const double mean1[3] = {-0.9, -0.1, 0.8}, mean2[6] = {-0.7, -0.5, 0.1, 0.8, 0.7, -0.3};
static const fdm_mixture line = {3, 1, weight, mean1, spread}, plane = {3, 2, weight, mean2, spread};
static const double all[1] = {1}, zero[1] = {0}, one[1] = {1}, axis1[1] = {1};
static const fdm_mixture normal = {1, 1, all, zero, one};

/* Latents at the quantiles of N(0, 1), and the data's own. */
struct points {
    float latents[POINTS];
    double want[POINTS], x[POINTS];
};
static struct points *points_new(void) {
    struct points *p = malloc(sizeof *p);
    ck_assert_ptr_nonnull(p);
    fdm_mixture_quantiles(p->x, POINTS, &normal, axis1);
    for (int i = 0; i < POINTS; i++) p->latents[i] = (float)p->x[i];
    fdm_mixture_quantiles(p->want, POINTS, &line, axis1);
    return p;
}

static double distance_of(struct points *p, fdm_solver solver, int steps, int *nfe) {
    const fdm_denoise_fn net = fdm_mixture_denoiser(&line, POINTS);
    fdm_sample_options o = fdm_sample_defaults();
    o.solver = solver, o.num_steps = steps;
    ck_assert_int_eq(fdm_sample(p->x, nfe, p->latents, &net, NULL, NULL, &o, NULL), FDM_OK);
    return fdm_wasserstein(p->x, p->want, POINTS);
}

/* sigma_max = 80 is not infinity: what is left of the data there; and sigma_min = 0.002 is not 0. */
static const double floor_1d = 7e-4;

START_TEST(ode_samplers) {
    static const struct {
        fdm_solver solver;
        int order;
    } rows[] = {{FDM_SOLVER_EULER, 1}, {FDM_SOLVER_EDM, 2}, {FDM_SOLVER_DPM, 2}, {FDM_SOLVER_DPM2M, 2}, {FDM_SOLVER_DPM3M, 2}};
    struct points *p = points_new();
    for (int r = 0; r < 5; r++) {
        int nfe;
        const double coarse = distance_of(p, rows[r].solver, 16, NULL), middle = distance_of(p, rows[r].solver, 48, &nfe);
        const double fine = distance_of(p, rows[r].solver, 200, NULL);
        const double order = log(coarse / middle) / log(3);
        printf("  %s: W1 %.2g at 16 steps, %.2g at 48 (%d evaluations), %.2g at 200; order %.2f\n", fdm_solver_name(rows[r].solver),
               coarse, middle, nfe, fine, order);
        ck_assert(fine <= (rows[r].order == 1 ? 8e-3 : floor_1d));
        ck_assert(coarse > 2 * middle || middle <= floor_1d);
        ck_assert(order >= rows[r].order - 0.35 || middle <= floor_1d);
    }
    free(p);
}
END_TEST

/* The sampler in FDM's variable: m = 0 is the EDM sampler to the last bits; with m it converges to the same, from much
 * farther away: x_t grows by orders of magnitude on the way. */
START_TEST(scaled_variable) {
    struct points *p = points_new();
    const fdm_denoise_fn net = fdm_mixture_denoiser(&line, POINTS);
    fdm_scaled_heun o = {.num_steps = 18, .sigma_min = 0.002, .sigma_max = 80, .rho = 7, .t_sigma_min = 0.002, .t_sigma_max = 80};
    double *y = malloc(POINTS * sizeof *y);
    ck_assert_ptr_nonnull(y);
    ck_assert_int_eq(fdm_sample_scaled_heun(y, p->latents, &net, &o, NULL), FDM_OK);
    const double plain = distance_of(p, FDM_SOLVER_EDM, 18, NULL); /* sorts p->x; y keeps its order, which is the same */
    for (int i = 0; i < POINTS; i++) ck_assert(fabs(p->x[i] - y[i]) <= 1e-9);
    o.m = 1;
    double last = INFINITY;
    for (int steps = 64; steps <= 1024; steps *= 4) {
        o.num_steps = steps;
        ck_assert_int_eq(fdm_sample_scaled_heun(y, p->latents, &net, &o, NULL), FDM_OK);
        const double off = fdm_wasserstein(y, p->want, POINTS);
        printf("  FDM's variable, %d steps: W1 %.2g (EDM at 18: %.2g)\n", steps, off, plain);
        ck_assert(off < last);
        last = off;
    }
    ck_assert(last <= 3e-3);
    o.m = -1;
    ck_assert_int_eq(fdm_sample_scaled_heun(y, p->latents, &net, &o, NULL), FDM_BAD_USAGE);
    free(y);
    free(p);
}
END_TEST

/* Against exact densities in 2-D: along every direction the data is a known mixture of one dimension. */
static double sliced(const double *x, int n, const fdm_mixture *m) {
    const int axes = m->dim == 1 ? 1 : 8;
    double *along = malloc((size_t)n * sizeof *along), *q = malloc((size_t)n * sizeof *q), sum = 0;
    ck_assert(along && q);
    for (int a = 0; a < axes; a++) {
        const double axis[2] = {cos(M_PI * a / axes), sin(M_PI * a / axes)};
        for (int i = 0; i < n; i++) along[i] = m->dim == 1 ? x[i] : axis[0] * x[2 * i] + axis[1] * x[2 * i + 1];
        fdm_mixture_quantiles(q, (size_t)n, m, axis);
        sum += fdm_wasserstein(along, q, (size_t)n) / axes;
    }
    free(along);
    free(q);
    return sum;
}

/* What CROWD true samples are away, the mean of four times: the statistical floor. */
static double floor_of(const fdm_mixture *m) {
    enum { TIMES = 4 };
    double floor = 0;
    double *x = malloc((size_t)CROWD * 2 * sizeof *x);
    float *narrow = malloc((size_t)CROWD * 4 * sizeof *narrow);
    ck_assert(x && narrow);
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        ck_assert_int_eq(fdm_simulate_start(narrow, narrow + 2 * CROWD, CROWD, m, 0, seed, NULL), FDM_OK);
        for (int i = 0; i < CROWD * m->dim; i++) x[i] = (double)narrow[i];
        floor += sliced(x, CROWD, m) / TIMES;
    }
    free(x);
    free(narrow);
    return floor;
}

START_TEST(sde_samplers) {
    double *x = malloc((size_t)CROWD * 2 * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (int dim = 1; dim <= 2; dim++) {
        const fdm_mixture *m = dim == 1 ? &line : &plane;
        const double floor = floor_of(m);
        for (int momentum = 0; momentum <= 1; momentum++) {
            fdm_reverse o = {.momentum = momentum, .zeta = 1, .gamma0 = 0.04, .tau_min = 1e-4, .tau_end = momentum ? 8 : 5,
                             .rho = 5, .seed = 4};
            double off[3];
            for (int k = 0; k < 3; k++) {
                o.num_steps = 8 << (2 * k);
                ck_assert_int_eq(fdm_reverse_sample(x, CROWD, m, &o, NULL), FDM_OK);
                off[k] = sliced(x, CROWD, m);
            }
            printf("  %d-D, %s: W1 %.3g, %.3g, %.3g at 8, 32, 128 steps (true samples: %.3g)\n", dim,
                   momentum ? "momentum" : "plain", off[0], off[1], off[2], floor);
            fflush(stdout);
            ck_assert(off[2] <= 2.5 * floor && (off[0] > off[2] || off[0] <= 2.5 * floor));
        }
    }
    free(x);
}
END_TEST

/* Threads change nothing; nor does the size of the crowd. */
START_TEST(reverse_same_bits) {
    double a[2 * 100], b[2 * 100];
    fdm_reverse o = {.momentum = true, .zeta = 0.7, .gamma0 = 0, .tau_min = 1e-3, .tau_end = 6, .rho = 3, .num_steps = 9, .seed = 1,
                     .threads = 1};
    ck_assert_int_eq(fdm_reverse_sample(a, 100, &plane, &o, NULL), FDM_OK);
    o.threads = 3;
    ck_assert_int_eq(fdm_reverse_sample(b, 60, &plane, &o, NULL), FDM_OK);
    ck_assert(memcmp(a, b, 60 * 2 * sizeof *a) == 0);
    fdm_error err = {0};
    o.tau_min = 7;
    ck_assert_int_eq(fdm_reverse_sample(b, 60, &plane, &o, &err), FDM_BAD_USAGE);
    o.tau_min = 1e-3, o.zeta = 0;
    ck_assert_int_eq(fdm_reverse_sample(b, 60, &plane, &o, &err), FDM_BAD_USAGE);
    o.zeta = 1, o.num_steps = 0;
    ck_assert_int_eq(fdm_reverse_sample(b, 60, &plane, &o, &err), FDM_BAD_USAGE);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reverse");
    TCase *tc = tcase_create("reverse");
    tcase_add_test(tc, ode_samplers);
    tcase_add_test(tc, scaled_variable);
    tcase_add_test(tc, sde_samplers);
    tcase_add_test(tc, reverse_same_bits);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
