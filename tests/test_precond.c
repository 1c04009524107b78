/* test_precond.c - the coefficients against the published program's, entry by entry; names, ranges, bad constants.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/precond.h"
#include "golden.h"
#include "suite.h"

/* Distance in units of the last place of an f32; infinite for NaN on one side only. */
static double ulps(double got, float want) {
    if (isnan(got) && isnan(want)) return 0;
    if (got == (double)want) return 0;
    if (!isfinite(got) || !isfinite(want)) return INFINITY;
    double spacing = fabs((double)nextafterf(want, INFINITY) - (double)want);
    return fabs(got - (double)want) / spacing;
}

/* How many of a series differ, and by how much. */
struct tally {
    int count, differing;
    double worst;
};

static void count_ulps(struct tally *t, double got, float want) {
    double u = ulps(got, want);
    ck_assert_msg(isfinite(got) ? got == (double)(float)got : true, "%.17g is not an f32", got);
    t->count++;
    t->differing += u != 0;
    if (!(u <= t->worst)) t->worst = u;
}

static void report(const char *what, const char *part, const struct tally *t, double bound) {
    if (t->differing > 0)
        printf("  %s %s: %d of %d differ, worst %g ulp\n", what, part, t->differing, t->count, t->worst);
    ck_assert_msg(t->count > 0 && t->worst <= bound, "%s %s: %g ulp, bound %g", what, part, t->worst, bound);
}

static fdm_precond make(int kind, double m) {
    fdm_precond p;
    fdm_error err = {0};
    ck_assert_msg(fdm_precond_init(&p, (fdm_precond_kind)kind, m, &err) == FDM_OK, "%s", err.message);
    return p;
}

/* kernel_precond: 200 sigmas for each kind, FDM kinds with m = 2. */
START_TEST(coefficients_f32) {
    fdm_tensors set;
    golden_load(&set, "kernel_precond.safetensors");
    const fdm_precond p = make(_i, 2);
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s.", fdm_precond_class_name(p.kind));
    const float *sigma = golden_f32(&set, prefix, "sigma"), *c_in = golden_f32(&set, prefix, "c_in");
    const float *c_out = golden_f32(&set, prefix, "c_out"), *c_noise = golden_f32(&set, prefix, "c_noise");
    const float *sum = golden_f32(&set, prefix, "c_skip_plus_c_out");
    struct tally in = {0}, out = {0}, noise = {0}, both = {0};
    for (int i = 0; i < golden_dim(&set, prefix, "sigma", 0); i++) {
        fdm_precond_coeffs c;
        fdm_precond_coeffs_f32(&c, &p, sigma[i]);
        count_ulps(&in, c.c_in, c_in[i]);
        count_ulps(&out, c.c_out, c_out[i]);
        count_ulps(&noise, c.c_noise, c_noise[i]);
        count_ulps(&both, (float)c.c_skip + (float)c.c_out, sum[i]);
    }
    /* Every operation but log and exp is exact IEEE arithmetic in the published order.  log agrees here throughout.
     * PyTorch's AVX2 exp is off by up to 1 ulp, which the product with (1 + m B) can turn into 2. */
    report(prefix, "c_in", &in, fdm_precond_is_fdm(p.kind) ? 2 : 0);
    report(prefix, "c_out", &out, 0);
    report(prefix, "c_noise", &noise, 0);
    report(prefix, "c_skip + c_out", &both, 0);
    fdm_tensors_free(&set);
}
END_TEST

/* kernel_values: s(sigma) for m = 1, 2 in f32 and, at the same f32 sigmas, in f64. */
START_TEST(scale_s) {
    static const int kinds[] = {FDM_PRECOND_FDM_VP, FDM_PRECOND_FDM_VE, FDM_PRECOND_FDM_EDM};
    fdm_tensors set;
    golden_load(&set, "kernel_values.safetensors");
    for (int k = 0; k < 3; k++) {
        for (int m = 1; m <= 2; m++) {
            char prefix[64], name[16];
            const fdm_precond p = make(kinds[k], m);
            snprintf(prefix, sizeof prefix, "%s.", fdm_precond_class_name(p.kind));
            const float *sigma = golden_f32(&set, prefix, "sigma_f32");
            snprintf(name, sizeof name, "m%d.s_f32", m);
            const float *s32 = golden_f32(&set, prefix, name);
            snprintf(name, sizeof name, "m%d.s_f64", m);
            double *s64 = golden_f64(&set, prefix, name);
            double worst = 0;
            struct tally t = {0};
            for (int i = 0; i < golden_dim(&set, prefix, "sigma_f32", 0); i++) {
                fdm_precond_coeffs c;
                fdm_precond_coeffs_f32(&c, &p, sigma[i]);
                count_ulps(&t, c.c_in, s32[i]);
                fdm_precond_coeffs_f64(&c, &p, sigma[i]);
                double e = fabs(c.c_in - s64[i]) / fabs(s64[i]);
                if (!(e <= worst)) worst = e;
            }
            snprintf(name, sizeof name, "m%d.s_f32", m);
            report(prefix, name, &t, 2);
            printf("  %s m = %d: s in f64 within %.2g relative\n", prefix, m, worst);
            /* exp(-tau) turns the last bit of tau <= 20 into 20 of its own: 1e-14 */
            ck_assert(worst <= 1e-14);
            free(s64);
        }
    }
    fdm_tensors_free(&set);
}
END_TEST

START_TEST(ranges) {
    /* metadata of kernel_values holds the published ranges as Python prints them */
    fdm_tensors set;
    golden_load(&set, "kernel_values.safetensors");
    for (int kind = 0; kind < FDM_PRECOND_COUNT; kind++) {
        const fdm_precond p = make(kind, 1);
        char key[64];
        snprintf(key, sizeof key, "%s.sigma_min", fdm_precond_class_name(p.kind));
        const char *low = fdm_tensors_meta(&set, key);
        snprintf(key, sizeof key, "%s.sigma_max", fdm_precond_class_name(p.kind));
        const char *high = fdm_tensors_meta(&set, key);
        ck_assert_msg(low && high, "no metadata %s", key);
        ck_assert_double_eq(p.sigma_min, strtod(low, NULL));
        ck_assert_double_eq(p.sigma_max, strtod(high, NULL));
    }
    fdm_tensors_free(&set);
}
END_TEST

/* The f32 path is the f64 formulas up to rounding, for odd constants, too; VP's c_noise loses digits to
 * cancellation where sigma^2 approaches the spacing of 1 in f32, so sigma starts at 0.2. */
START_TEST(f32_follows_f64) {
    fdm_precond p = make(_i, 1.7);
    p.sigma_data = 0.7;
    p.beta_d = 11;
    p.beta_min = 0.3;
    p.M = 700;
    double worst = 0;
    for (double sigma = 0.2; sigma < 75; sigma *= 1.13) {
        fdm_precond_coeffs a, b;
        float rounded = (float)sigma;
        fdm_precond_coeffs_f32(&a, &p, sigma);
        fdm_precond_coeffs_f64(&b, &p, rounded);
        const double pairs[4][2] = {
            {a.c_skip, b.c_skip}, {a.c_out, b.c_out}, {a.c_in, b.c_in}, {a.c_noise, b.c_noise}};
        for (int k = 0; k < 4; k++) {
            double e = fabs(pairs[k][0] - pairs[k][1]) / fmax(fabs(pairs[k][1]), 1e-3);
            if (!(e <= worst)) worst = e;
        }
    }
    printf("  %s: f32 within %.2g of f64\n", fdm_precond_name(p.kind), worst);
    /* 2^-24 times about 100: s's exponent reaches 20; 1 + sigma^2 is rounded where its log is 0.04 */
    ck_assert(worst <= 2e-6);
}
END_TEST

START_TEST(multiplier_of_ve_is_ignored) {
    fdm_precond_coeffs a, b;
    fdm_precond one = make(FDM_PRECOND_FDM_VE, 1), three = make(FDM_PRECOND_FDM_VE, 3);
    fdm_precond_coeffs_f32(&a, &one, 5);
    fdm_precond_coeffs_f32(&b, &three, 5);
    ck_assert_double_eq(a.c_in, b.c_in);
    ck_assert_double_eq(fdm_precond_scale_f64(&one, 5), fdm_precond_scale_f64(&three, 5));
    one = make(FDM_PRECOND_FDM_EDM, 1), three = make(FDM_PRECOND_FDM_EDM, 3);
    fdm_precond_coeffs_f32(&a, &one, 5);
    fdm_precond_coeffs_f32(&b, &three, 5);
    ck_assert_double_ne(a.c_in, b.c_in);
}
END_TEST

/* Any damping: c_in is the mean of SPEC 1's table at m B(t'), near 1 it joins the published kernel, and the other
 * coefficients do not change.  The goldens above are zeta = 1. */
START_TEST(damping) {
    static const double zetas[] = {0, 0.2, 0.7, 1 - 1e-9, 1, 1 + 1e-9, 1.5, 30};
    const fdm_precond critical = make(_i, 2);
    ck_assert_double_eq(critical.zeta, 1);
    for (size_t k = 0; k < sizeof zetas / sizeof *zetas; k++) {
        const double zeta = zetas[k], root = sqrt(fabs(zeta * zeta - 1));
        fdm_precond p = critical;
        int negative = 0;
        p.zeta = zeta;
        ck_assert_int_eq(fdm_precond_check(&p, NULL), FDM_OK);
        for (double sigma = 1e-4; sigma < 1.3 * p.sigma_max; sigma *= 1.09) { /* beyond both ends of the range */
            fdm_precond_coeffs f32, f64, own;
            fdm_precond_coeffs_f32(&f32, &p, sigma);
            fdm_precond_coeffs_f32(&own, &critical, sigma);
            ck_assert(f32.c_skip == own.c_skip && f32.c_out == own.c_out && f32.c_noise == own.c_noise);
            if (zeta == 1) ck_assert_double_eq(f32.c_in, own.c_in);
            ck_assert_double_eq(f32.c_in, (double)(float)f32.c_in);
            const float rounded = (float)sigma;
            fdm_precond_coeffs_f64(&f64, &p, rounded);
            ck_assert_double_eq(f64.c_in, fdm_precond_scale_f64(&p, rounded));
            const double m = p.kind == FDM_PRECOND_FDM_VE ? 1 : 2, t = (rounded - p.sigma_min) / (p.sigma_max - p.sigma_min);
            const double tau = m * (0.1 * t + 0.5 * 19.9 * t * t);
            double mean = exp(-tau) * (1 + tau); /* also for 1 +- 1e-9: 1e-8 off */
            if (zeta < 0.9) mean = exp(-zeta * tau) * (cos(root * tau) + zeta / root * sin(root * tau));
            if (zeta > 1.1)
                mean = ((zeta + root) * exp((root - zeta) * tau) - (zeta - root) * exp((-root - zeta) * tau)) / (2 * root);
            ck_assert_msg(fabs(f64.c_in - mean) <= (fabs(zeta - 1) < 1e-6 && zeta != 1 ? 1e-8 : 1e-13), "zeta %g, sigma %g: %.17g, want %.17g",
                          zeta, sigma, f64.c_in, mean);
            /* f32 rounds tau, up to 35 here, three times, and 1 - zeta^2 has slopes of 1 at most */
            ck_assert_msg(fabs(f32.c_in - f64.c_in) <= 35 * 3 * 0x1p-24, "zeta %g, sigma %g: %.9g in f32, %.17g", zeta, sigma, f32.c_in,
                          f64.c_in);
            negative += f64.c_in < 0;
        }
        ck_assert_int_eq(negative > 0, zeta < 0.9); /* near 1 the first zero is beyond the range */
    }
    /* The three without a kernel have no damping. */
    fdm_precond p = make(FDM_PRECOND_EDM, 1);
    fdm_precond_coeffs a, b;
    fdm_precond_coeffs_f32(&a, &p, 3);
    p.zeta = 0.2;
    fdm_precond_coeffs_f32(&b, &p, 3);
    ck_assert_int_eq(memcmp(&a, &b, sizeof a), 0);
}
END_TEST

START_TEST(names) {
    fdm_precond_kind kind;
    fdm_error err = {0};
    char full[64];
    for (int i = 0; i < FDM_PRECOND_COUNT; i++) {
        ck_assert_int_eq(fdm_precond_find(&kind, fdm_precond_name((fdm_precond_kind)i), &err), FDM_OK);
        ck_assert_int_eq(kind, i);
        snprintf(full, sizeof full, "training.networks.%s", fdm_precond_class_name((fdm_precond_kind)i));
        ck_assert_int_eq(fdm_precond_find(&kind, full, &err), FDM_OK);
        ck_assert_int_eq(kind, i);
        ck_assert_int_eq(fdm_precond_is_fdm(kind), strncmp(fdm_precond_name(kind), "fdm_", 4) == 0);
    }
    static const char *const wrong[] = {"", "EDM", "fdm-edm", "EDMPrecond.", ".", "x.vp", "vp "};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(fdm_precond_find(&kind, wrong[i], &err), FDM_BAD_USAGE);
    ck_assert_int_eq(fdm_precond_find(&kind, NULL, NULL), FDM_BAD_USAGE);
    ck_assert_str_eq(fdm_precond_name((fdm_precond_kind)99), "?");
}
END_TEST

START_TEST(bad_constants) {
    static const double wrong[] = {0, -1, NAN, INFINITY, -INFINITY};
    fdm_precond p = {0};
    fdm_error err;
    for (int i = 0; i < 5; i++) {
        err = (fdm_error){0};
        ck_assert_int_eq(fdm_precond_init(&p, FDM_PRECOND_FDM_EDM, wrong[i], &err), FDM_BAD_USAGE);
        ck_assert_ptr_nonnull(strstr(err.message, "fdm_multiplier"));
    }
    ck_assert_int_eq(fdm_precond_init(&p, (fdm_precond_kind)-1, 1, &err), FDM_BAD_USAGE);
#define REFUSED(kind, field, value)                                                                                \
    do {                                                                                                           \
        p = make(kind, 1);                                                                                         \
        p.field = (value);                                                                                         \
        ck_assert_int_eq(fdm_precond_check(&p, &err), FDM_BAD_USAGE);                                              \
        ck_assert_msg(strstr(err.message, #field) != NULL, "%s", err.message);                                     \
    } while (0)
    REFUSED(FDM_PRECOND_EDM, sigma_data, 0);
    REFUSED(FDM_PRECOND_EDM, sigma_data, NAN);
    REFUSED(FDM_PRECOND_FDM_EDM, sigma_max, 0.001);
    REFUSED(FDM_PRECOND_FDM_EDM, sigma_max, INFINITY); /* t' would be 0 everywhere */
    REFUSED(FDM_PRECOND_FDM_EDM, sigma_max, NAN);
    REFUSED(FDM_PRECOND_FDM_EDM, zeta, -0.1);
    REFUSED(FDM_PRECOND_FDM_VP, zeta, NAN);
    REFUSED(FDM_PRECOND_FDM_VE, zeta, INFINITY);
    REFUSED(FDM_PRECOND_VP, sigma_min, -1);
    REFUSED(FDM_PRECOND_VP, beta_d, NAN);
    REFUSED(FDM_PRECOND_VP, beta_min, -0.1);
    REFUSED(FDM_PRECOND_VP, M, 0);
    REFUSED(FDM_PRECOND_VP, epsilon_t, 1);
#undef REFUSED
}
END_TEST

int main(void) {
    Suite *suite = suite_create("precond");
    TCase *tc = tcase_create("precond");
    tcase_add_loop_test(tc, coefficients_f32, 0, FDM_PRECOND_COUNT);
    tcase_add_test(tc, scale_s);
    tcase_add_test(tc, ranges);
    tcase_add_loop_test(tc, f32_follows_f64, 0, FDM_PRECOND_COUNT);
    tcase_add_test(tc, multiplier_of_ve_is_ignored);
    tcase_add_loop_test(tc, damping, FDM_PRECOND_FDM_VP, FDM_PRECOND_COUNT);
    tcase_add_test(tc, names);
    tcase_add_test(tc, bad_constants);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
