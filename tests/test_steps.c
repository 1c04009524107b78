/* test_steps.c - the clock, the schemes that move (x, v), momentum SGD and its limit, CLD's kernel. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/precond.h"
#include "fdm/process.h"
#include "suite.h"

static const double zetas[] = {0, 0.2, 0.999, 1, 1.001, 3};
enum { ZETAS = sizeof zetas / sizeof *zetas };

/* Mean and covariance after `count` equal steps to tau, from x = 1 at rest. */
static fdm_moments after(fdm_scheme scheme, double zeta, double g, double tau, int count) {
    fdm_step s;
    fdm_moments m = {.mean_x = 1};
    ck_assert_int_eq(fdm_scheme_step(&s, scheme, zeta, g, tau / count, NULL), FDM_OK);
    for (int k = 0; k < count; k++) fdm_moments_advance(&m, &s);
    return m;
}

static double distance(const fdm_moments *a, const fdm_oscillator *b) {
    const double off[5] = {a->mean_x - b->mean_x, a->mean_v - b->mean_v, a->cov_xx - b->cov_xx, a->cov_xv - b->cov_xv,
                           a->cov_vv - b->cov_vv};
    double most = 0;
    for (int k = 0; k < 5; k++)
        if (!(fabs(off[k]) <= most)) most = fabs(off[k]);
    return most;
}

START_TEST(clock_readings) {
    for (int i = 0; i <= 20; i++) {
        const double t = i / 20.0, b = fdm_clock(t, FDM_BETA_D, FDM_BETA_MIN);
        ck_assert(fabs(fdm_clock_inverse(b, FDM_BETA_D, FDM_BETA_MIN) - t) <= 4e-16);
        const double step = fdm_clock_between(t, t + 1e-9, FDM_BETA_D, FDM_BETA_MIN);
        ck_assert(fabs(step / ((t + 1e-9 - t) * (FDM_BETA_MIN + FDM_BETA_D * (t + 5e-10))) - 1) <= 1e-14);
        ck_assert(fabs(fdm_clock_between(0.25, t, FDM_BETA_D, FDM_BETA_MIN) -
                       (b - fdm_clock(0.25, FDM_BETA_D, FDM_BETA_MIN))) <= 1e-14);
    }
    ck_assert_double_eq(fdm_clock_inverse(2, 0, 4), 0.5); /* a constant beta */
    ck_assert_double_eq(fdm_clock_inverse(2, 4, 0), 1);
    ck_assert_double_eq(fdm_clock_inverse(0, 0, 0), 0);
}
END_TEST

/* The exact step's factor squares to the covariance, and many of them are one; a varying beta changes only the readings. */
START_TEST(exact_steps_compose) {
    double worst = 0;
    for (int z = 0; z < ZETAS; z++) {
        const double g = zetas[z] > 0 ? 2 * sqrt(zetas[z]) : 1;
        fdm_oscillator o;
        ck_assert_int_eq(fdm_oscillator_at(&o, zetas[z], 3, g, NULL), FDM_OK);
        for (int count = 1; count <= 64; count *= 4) {
            const fdm_moments m = after(FDM_SCHEME_EXACT, zetas[z], g, 3, count);
            worst = fmax(worst, distance(&m, &o));
        }
        /* t in 10 unequal pieces of the published clock */
        double tau[11];
        fdm_step steps[10];
        fdm_moments m = {.mean_x = 1};
        for (int k = 0; k <= 10; k++) tau[k] = 2 * fdm_clock(k * k / 200.0, FDM_BETA_D, FDM_BETA_MIN);
        ck_assert_int_eq(fdm_scheme_steps(steps, tau, 10, FDM_SCHEME_EXACT, zetas[z], g, NULL), FDM_OK);
        for (int k = 0; k < 10; k++) fdm_moments_advance(&m, &steps[k]);
        ck_assert_int_eq(fdm_oscillator_at(&o, zetas[z], tau[10], g, NULL), FDM_OK);
        worst = fmax(worst, distance(&m, &o));
    }
    printf("  exact steps, one against many: %.2g\n", worst);
    ck_assert(worst <= 4e-14);
}
END_TEST

/* The error of mean and covariance falls as dtau^order, by exact recursion: no random numbers. */
START_TEST(weak_orders) {
    static const int order[FDM_SCHEME_COUNT] = {
#define WEAK(e, name, weak, strong) [e] = weak,
        FDM_SCHEMES(WEAK)
#undef WEAK
    };
    for (int s = 0; s < FDM_SCHEME_COUNT; s++) {
        for (int z = 0; z < ZETAS; z++) {
            const double g = zetas[z] > 0 ? 2 * sqrt(zetas[z]) : 1;
            fdm_oscillator o;
            fdm_oscillator_at(&o, zetas[z], 2, g, NULL);
            const fdm_moments coarse = after((fdm_scheme)s, zetas[z], g, 2, 128), fine = after((fdm_scheme)s, zetas[z], g, 2, 256);
            if (s == FDM_SCHEME_EXACT) continue;
            const double slope = log2(distance(&coarse, &o) / distance(&fine, &o));
            if (z == 3) printf("  %s: weak order %.3f at zeta = 1\n", fdm_scheme_name((fdm_scheme)s), slope);
            ck_assert_msg(fabs(slope - order[s]) <= 0.06, "%s, zeta %g: order %g", fdm_scheme_name((fdm_scheme)s), zetas[z],
                          slope);
        }
    }
}
END_TEST

/* The split step is R F R: multiplied out from its parts. */
START_TEST(split_from_its_parts) {
    const double h = 0.3, zeta = 0.7, g = 1.1, c = cos(h / 2), s = sin(h / 2), e = exp(-2 * zeta * h);
    const double spread = g * sqrt((1 - e * e) / (4 * zeta));
    fdm_step got;
    ck_assert_int_eq(fdm_scheme_step(&got, FDM_SCHEME_SPLIT, zeta, g, h, NULL), FDM_OK);
    const double columns[2][2] = {{1, 0}, {0, 1}};
    for (int i = 0; i < 2; i++) {
        double x = columns[i][0], v = columns[i][1];
        const double x1 = c * x + s * v, v1 = e * (-s * x + c * v);
        x = c * x1 + s * v1, v = -s * x1 + c * v1;
        ck_assert(fabs(x - columns[i][0] - (i ? got.xv : got.xx)) <= 4e-16);
        ck_assert(fabs(v - columns[i][1] - (i ? got.vv : got.vx)) <= 4e-16);
    }
    ck_assert(fabs(got.px - s * spread) <= 1e-16 && fabs(got.pv - c * spread) <= 2e-16 && got.qv == 0);
}
END_TEST

START_TEST(wrong_steps) {
    fdm_step s;
    fdm_error err = {0};
    static const double bad[] = {-1, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(fdm_scheme_step(&s, FDM_SCHEME_SPLIT, bad[i], 1, 1, &err), FDM_BAD_USAGE);
        ck_assert_int_eq(fdm_scheme_step(&s, FDM_SCHEME_EULER, 1, bad[i], 1, &err), FDM_BAD_USAGE);
        ck_assert_int_eq(fdm_scheme_step(&s, FDM_SCHEME_EXACT, 1, 1, bad[i], &err), FDM_BAD_USAGE);
    }
    ck_assert_int_eq(fdm_scheme_step(&s, FDM_SCHEME_COUNT, 1, 1, 1, &err), FDM_BAD_USAGE);
    const double backward[] = {0, 1, 0.5};
    ck_assert_int_eq(fdm_scheme_steps(&s, backward + 1, 1, FDM_SCHEME_EXACT, 1, 1, &err), FDM_BAD_USAGE);
    ck_assert_str_eq(fdm_scheme_name(FDM_SCHEME_COUNT), "?");
    ck_assert_int_eq(fdm_scheme_step(&s, FDM_SCHEME_EXACT, 1, 2, 0, &err), FDM_OK); /* no time passes */
    ck_assert(s.xx == 0 && s.xv == 0 && s.vx == 0 && s.vv == 0 && s.px == 0 && s.pv == 0 && s.qv == 0);
    for (double h = 1e-300; h < 1; h *= 1e10) { /* tiny steps: no NaN */
        ck_assert_int_eq(fdm_scheme_step(&s, FDM_SCHEME_EXACT, 1, 2, h, &err), FDM_OK);
        ck_assert(isfinite(s.pv) && isfinite(s.qv) && fabs(s.pv * s.pv + s.qv * s.qv - 4 * h) <= 1e-9 + 8 * h * h);
    }
}
END_TEST

/* ---- Momentum SGD ---- */

START_TEST(sgd_is_the_scheme) {
    const double zeta = 0.8, g = 1.3, h = 0.05;
    const fdm_momentum_sgd sgd = fdm_momentum_sgd_of(zeta, g, h);
    double back[3], x = 0.7, d = 0.02, v = d / h, sx = x;
    fdm_momentum_sgd_limit(&back[0], &back[1], &back[2], &sgd);
    ck_assert(fabs(back[0] - zeta) <= 1e-14 && fabs(back[1] - g) <= 1e-14 && fabs(back[2] - h) <= 1e-16);
    fdm_step s;
    ck_assert_int_eq(fdm_scheme_step(&s, FDM_SCHEME_SGD, zeta, g, h, NULL), FDM_OK);
    for (int k = 0; k < 100; k++) {
        const double xi = sin(12.9898 * k) * 1.5, was = sx; /* any numbers */
        fdm_momentum_sgd_step(&x, &d, &sgd, xi);
        sx += s.xx * was + s.xv * v + s.px * xi;
        v += s.vx * was + s.vv * v + s.pv * xi;
        ck_assert(fabs(x - sx) <= 1e-13 && fabs(d - h * v) <= 1e-13);
    }
    /* without momentum: plain SGD x - eta (x - c xi), whose gradient is that of |x - c xi|^2 / 2 */
    const fdm_momentum_sgd plain = {.rate = 0.1, .momentum = 0, .noise = 2};
    x = 1, d = 5;
    fdm_momentum_sgd_step(&x, &d, &plain, 0.5);
    ck_assert_double_eq_tol(x, 1 - 0.1 * (1 - 2 * 0.5), 1e-16);
}
END_TEST

/* Learning rate to 0 at a fixed damping: its mean and spread become the oscillator's, in proportion to the step. */
START_TEST(sgd_limit) {
    fdm_oscillator o;
    fdm_oscillator_at(&o, 1, 4, 2, NULL);
    double last = 0;
    for (int count = 64; count <= 1024; count *= 2) {
        const fdm_moments m = after(FDM_SCHEME_SGD, 1, 2, 4, count);
        const double error = distance(&m, &o);
        if (count > 64) ck_assert_msg(fabs(last / error - 2) <= 0.1, "%d steps: %g after %g", count, error, last);
        last = error;
    }
    printf("  momentum SGD, rate %.2g: %.2g from the oscillator\n", 16.0 / 1024 / 1024, last);
}
END_TEST

/* ---- CLD ---- */

/* CLD's perturbation kernel as it is published (Gamma^2 = 4 M, B = beta t), for v(0) ~ N(0, gamma M). */
static fdm_moments published_cld(double friction, double b, double gamma) {
    const double mass = friction * friction / 4, e = exp(-4 * b / friction), half = exp(-2 * b / friction);
    const double var = gamma * mass, g1 = 1 / friction, g2 = g1 * g1;
    fdm_moments m;
    m.mean_x = half * (1 + 2 * b * g1);
    m.mean_v = -half * b;
    m.cov_xx = e * (1 / e - 1 - 4 * b * g1 - 8 * b * b * g2 + 16 * b * b * g2 * g2 * var);
    m.cov_xv = e * (4 * b * g2 * var - 8 * b * b * g2 * g1 * var + 4 * b * b * g1);
    m.cov_vv = e * (friction * friction / 4 * (1 / e - 1) + b * friction + var * (1 + 4 * b * b * g2 - 4 * b * g1) - 2 * b * b);
    return m;
}

START_TEST(cld_kernel) {
    double worst = 0;
    for (int f = 0; f < 2; f++) {
        for (int i = 1; i <= 20; i++) {
            fdm_cld cld = fdm_cld_defaults();
            if (f) cld.friction = 2, cld.inverse_mass = 1, cld.gamma = 0.5;
            const double t = i / 20.0;
            fdm_moments got;
            ck_assert_int_eq(fdm_cld_at(&got, &cld, t, NULL), FDM_OK);
            const fdm_moments want = published_cld(cld.friction, cld.beta * t, cld.gamma);
            const double errors[] = {got.mean_x - want.mean_x, got.mean_v - want.mean_v, got.cov_xx - want.cov_xx,
                                     got.cov_xv - want.cov_xv, got.cov_vv - want.cov_vv};
            for (int k = 0; k < 5; k++)
                if (!(fabs(errors[k]) <= worst)) worst = fabs(errors[k]);
            ck_assert_double_eq(fdm_cld_zeta(&cld), 1);
        }
    }
    printf("  CLD's published kernel: %.2g\n", worst);
    ck_assert(worst <= 4e-15);
}
END_TEST

/* M^-1 = 4, beta = 4, v(0) = 0: its mean is FDM's at m = 2, the clock being B = 4 t. */
START_TEST(cld_is_fdm) {
    fdm_cld cld = fdm_cld_defaults();
    fdm_moments got;
    cld.gamma = 0;
    for (int i = 0; i <= 10; i++) {
        const double t = i / 10.0;
        ck_assert_int_eq(fdm_cld_at(&got, &cld, t, NULL), FDM_OK);
        ck_assert(fabs(got.mean_x - fdm_critical_mean(2 * fdm_clock(t, 0, 4))) <= 1e-15);
    }
    fdm_error err = {0};
    cld.inverse_mass = 0;
    ck_assert_int_eq(fdm_cld_at(&got, &cld, 1, &err), FDM_BAD_USAGE);
    cld = fdm_cld_defaults(), cld.friction = NAN;
    ck_assert_int_eq(fdm_cld_at(&got, &cld, 1, &err), FDM_BAD_USAGE);
}
END_TEST

/* s(sigma) of the three frameworks is the critical mean at m B(t'). */
START_TEST(kernel_of_the_frameworks) {
    fdm_precond ve, paper;
    ck_assert_int_eq(fdm_precond_init(&ve, FDM_PRECOND_FDM_VE, 2, NULL), FDM_OK);
    paper = ve;
    paper.ve_multiplier = 2; /* the paper's m, by option */
    const double reading = 2 * fdm_clock(fdm_kernel_time(30, 0.02, 100), FDM_BETA_D, FDM_BETA_MIN);
    ck_assert(fabs(fdm_precond_scale_f64(&paper, 30) / fdm_critical_mean(reading) - 1) <= 1e-14);
    ck_assert(fabs(fdm_precond_scale_f64(&ve, 30) / fdm_critical_mean(reading / 2) - 1) <= 1e-14);
    paper.ve_multiplier = 0;
    ck_assert_int_eq(fdm_precond_check(&paper, NULL), FDM_BAD_USAGE);
    static const fdm_precond_kind kinds[] = {FDM_PRECOND_FDM_VP, FDM_PRECOND_FDM_VE, FDM_PRECOND_FDM_EDM};
    for (int k = 0; k < 3; k++) {
        fdm_precond p;
        ck_assert_int_eq(fdm_precond_init(&p, kinds[k], 2, NULL), FDM_OK);
        for (double sigma = 0.01; sigma < 200; sigma *= 1.7) {
            const double t = fdm_kernel_time(sigma, p.sigma_min, p.sigma_max);
            const double tau = (kinds[k] == FDM_PRECOND_FDM_VE ? 1 : 2) * fdm_clock(t, FDM_BETA_D, FDM_BETA_MIN);
            fdm_oscillator o = {.mean_x = fdm_critical_mean(tau)};
            if (tau >= 0) ck_assert_int_eq(fdm_oscillator_at(&o, 1, tau, 2, NULL), FDM_OK);
            ck_assert(fabs(fdm_precond_scale_f64(&p, sigma) / o.mean_x - 1) <= 1e-14);
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("steps");
    TCase *tc = tcase_create("steps");
    tcase_add_test(tc, clock_readings);
    tcase_add_test(tc, exact_steps_compose);
    tcase_add_test(tc, weak_orders);
    tcase_add_test(tc, split_from_its_parts);
    tcase_add_test(tc, wrong_steps);
    tcase_add_test(tc, sgd_is_the_scheme);
    tcase_add_test(tc, sgd_limit);
    tcase_add_test(tc, cld_kernel);
    tcase_add_test(tc, cld_is_fdm);
    tcase_add_test(tc, kernel_of_the_frameworks);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
