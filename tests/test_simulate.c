/* test_simulate.c - particles: their random numbers, the same bits on every instruction set, for any threads and any cut of
 * the crowd, moments within 4 standard errors of the closed forms, orders of convergence with error bars.
 *
 * The Monte-Carlo tests take FDM_TEST_PARTICLES particles (`make process-check`: 10^7). */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "fdm/random.h"
#include "fdm/simulate.h"
#include "guarded.h"
#include "suite.h"
#include "simd/kernel_table.h"

#ifdef FDM_POISON /* sanitizer builds are slow */
enum { PARTICLES = 1 << 15 };
#else
enum { PARTICLES = 1 << 18 };
#endif

static size_t particles(void) {
    const char *wish = getenv("FDM_TEST_PARTICLES");
    return wish ? strtoul(wish, NULL, 10) : PARTICLES;
}

struct crowd {
    size_t n;
    float *x, *v;
};

/* All at x = 1, at rest. */
static struct crowd crowd_new(size_t n) {
    struct crowd c = {n, malloc(n * sizeof(float)), calloc(n, sizeof(float))};
    ck_assert(c.x && c.v);
    for (size_t i = 0; i < n; i++) c.x[i] = 1;
    return c;
}
static void crowd_free(struct crowd *c) {
    free(c->x);
    free(c->v);
}

/* `count` steps of a scheme to tau, even or (for a varying beta) along tau k^2 / count^2. */
static fdm_step *steps_to(double tau, int count, fdm_scheme scheme, double zeta, double g, bool even) {
    fdm_step *steps = calloc((size_t)count, sizeof *steps);
    double *readings = calloc((size_t)count + 1, sizeof *readings);
    ck_assert(steps && readings);
    for (int k = 0; k <= count; k++) readings[k] = even ? tau * k / count : tau * k / count * k / count;
    ck_assert_int_eq(fdm_scheme_steps(steps, readings, count, scheme, zeta, g, NULL), FDM_OK);
    free(readings);
    return steps;
}

static void simulate(struct crowd *c, fdm_simulation run) {
    fdm_error err = {0};
    ck_assert_msg(fdm_simulate(c->x, c->v, c->n, &run, &err) == FDM_OK, "%s", err.message);
}

/* ---- Random numbers ------------------------------------------------------------------------------------------ */

/* They are Box and Muller's transform of Philox blocks, computed here in f64. */
START_TEST(normals_from_philox) {
    enum { N = 1000 };
    static float z[4 * N];
    const uint32_t key[2] = {12345, 678};
    double worst = 0;
    fdm_kernels_for(fdm_isa_best())->normals(z, key, 77, N);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t word[4];
        fdm_philox4x32_10(word, (const uint32_t[4]){0, 77 + i, 0, 0}, key);
        for (int k = 0; k < 2; k++) {
            const double u = ((double)(word[2 * k] >> 1) + 0.5) * 0x1p-31, angle = 6.283185307179586 * word[2 * k + 1] * 0x1p-32;
            const double r = sqrt(-2 * log(u)), want[2] = {r * cos(angle), r * sin(angle)};
            for (int c = 0; c < 2; c++) {
                const double error = fabs((double)z[(2 * k + c) * N + (int)i] - want[c]);
                if (!(error <= worst)) worst = error;
            }
        }
    }
    printf("  normals against f64: %.2g\n", worst);
    ck_assert(worst <= 3e-6); /* near u = 1, r = sqrt(2 (1 - u)) feels u's rounding: 2^-25 / r */
}
END_TEST

/* Moments up to the eighth, and the correlation of the four numbers of a block, in standard errors. */
START_TEST(normals_are_normal) {
    const size_t n = particles() / 4;
    float *z = malloc(4 * n * sizeof *z);
    ck_assert_ptr_nonnull(z);
    const uint32_t key[2] = {1, 0};
    fdm_kernels_for(fdm_isa_best())->normals(z, key, 0, n);
    static const double moment[17] = {1, 0, 1, 0, 3, 0, 15, 0, 105, 0, 945, 0, 10395, 0, 135135, 0, 2027025};
    double sum[9] = {0}, cross[6] = {0};
    for (size_t i = 0; i < 4 * n; i++) {
        double power = 1;
        for (int k = 1; k <= 8; k++) sum[k] += power *= (double)z[i];
    }
    for (size_t i = 0; i < n; i++)
        for (int a = 0, pair = 0; a < 4; a++)
            for (int b = a + 1; b < 4; b++, pair++) cross[pair] += (double)z[(size_t)a * n + i] * (double)z[(size_t)b * n + i];
    for (int k = 1; k <= 8; k++) {
        const double error = (sum[k] / (4.0 * (double)n) - moment[k]) / sqrt((moment[2 * k] - moment[k] * moment[k]) / (4.0 * (double)n));
        ck_assert_msg(fabs(error) <= 4, "moment %d is %g standard errors off", k, error);
    }
    for (int pair = 0; pair < 6; pair++) ck_assert_msg(fabs(cross[pair]) <= 4 * sqrt((double)n), "pair %d: %g", pair, cross[pair]);
    free(z);
}
END_TEST

/* ---- Same bits ----------------------------------------------------------------------------------------------- */

/* Every scheme, with and without a refined path, step counts with every remainder, every ISA, 1 to 3 threads, whole or in
 * pieces of odd sizes. */
START_TEST(same_bits) {
    enum { N = 2500 };
    static const struct {
        fdm_scheme scheme;
        int count, refine;
    } runs[] = {{FDM_SCHEME_EULER, 7, 0}, {FDM_SCHEME_SGD, 8, 1},   {FDM_SCHEME_SPLIT, 9, 0},  {FDM_SCHEME_SPLIT, 5, 3},
                {FDM_SCHEME_EULER, 2, 8}, {FDM_SCHEME_EXACT, 1, 0}, {FDM_SCHEME_EXACT, 6, 0}, {FDM_SCHEME_SPLIT, 1, 0}};
    enum fdm_isa list[FDM_ISA_COUNT];
    const int isas = f32_isas(list);
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        struct crowd first = crowd_new(N);
        fdm_step *steps = steps_to(1.7, runs[r].count, runs[r].scheme, 0.8, 1.9, true);
        const fdm_simulation run = {.steps = steps, .count = runs[r].count, .refine = runs[r].refine, .seed = 0x123456789abcu,
                                    .stream = 5, .first_particle = 4294960000u, .threads = 1, .isa = "portable"};
        simulate(&first, run);
        for (int i = 0; i < isas; i++) {
            for (int threads = 1; threads <= 3; threads++) {
                struct crowd again = crowd_new(N);
                fdm_simulation other = run;
                other.isa = fdm_isa_name(list[i]), other.threads = threads;
                size_t at = 0; /* in pieces, each told its first particle's number */
                for (size_t piece = threads == 3 ? 1 : N; at < N; at += piece, piece = piece * 3 + 1) {
                    struct crowd part = {piece < N - at ? piece : N - at, again.x + at, again.v + at};
                    other.first_particle = run.first_particle + (uint32_t)at;
                    simulate(&part, other);
                }
                ck_assert(memcmp(again.x, first.x, N * sizeof(float)) == 0 && memcmp(again.v, first.v, N * sizeof(float)) == 0);
                crowd_free(&again);
            }
        }
        free(steps);
        crowd_free(&first);
    }
}
END_TEST

/* Against the same steps in plain double arithmetic with the kernel's normals: what f32 costs. */
START_TEST(against_doubles) {
    enum { N = 64, STEPS = 200 };
    struct crowd c = crowd_new(N);
    fdm_step *steps = steps_to(4, STEPS, FDM_SCHEME_SPLIT, 1, 2, false);
    simulate(&c, (fdm_simulation){.steps = steps, .count = STEPS, .seed = 9});
    double worst = 0;
    for (uint32_t i = 0; i < N; i++) {
        double x = 1, v = 0;
        for (uint32_t k = 0; k < STEPS; k++) {
            uint32_t word[4];
            fdm_philox4x32_10(word, (const uint32_t[4]){k / 4, i, 0, 0}, (const uint32_t[2]){9, 0});
            const uint32_t *pair = word + (k % 4 / 2) * 2;
            const double r = sqrt(-2 * log(((double)(pair[0] >> 1) + 0.5) * 0x1p-31)), angle = 6.283185307179586 * pair[1] * 0x1p-32;
            const double n = k % 2 ? r * sin(angle) : r * cos(angle), was = x;
            x += steps[k].xx * x + steps[k].xv * v + steps[k].px * n;
            v += steps[k].vx * was + steps[k].vv * v + steps[k].pv * n;
        }
        worst = fmax(worst, fmax(fabs(x - (double)c.x[i]), fabs(v - (double)c.v[i])));
    }
    printf("  200 steps in f32 against f64: %.2g\n", worst);
    ck_assert(worst <= 5e-6);
    free(steps);
    crowd_free(&c);
}
END_TEST

START_TEST(page_edges) {
    struct guarded x = guarded_new(40), v = guarded_new(40);
    fdm_step *steps = steps_to(1, 3, FDM_SCHEME_EXACT, 1, 2, true);
    for (size_t n = 0; n <= 40; n++) {
        guarded_place(&x, n, n % 2), guarded_place(&v, n, n % 2);
        for (size_t i = 0; i < n; i++) x.p[i] = v.p[i] = 1;
        ck_assert_int_eq(fdm_simulate(x.p, v.p, n, &(fdm_simulation){.steps = steps, .count = 3}, NULL), FDM_OK);
    }
    free(steps);
    guarded_free(&x), guarded_free(&v);
}
END_TEST

START_TEST(wrong_runs) {
    float x = 0, v = 0;
    fdm_error err = {0};
    const fdm_step one = {.qv = 1};
    fdm_simulation run = {.steps = &one, .count = 0};
    ck_assert_int_eq(fdm_simulate(&x, &v, 1, &run, &err), FDM_BAD_USAGE);
    run.count = 1, run.refine = 2;
    ck_assert_int_eq(fdm_simulate(&x, &v, 1, &run, &err), FDM_BAD_USAGE);
    ck_assert_ptr_nonnull(strstr(err.message, "refine"));
    run.refine = 0, run.first_particle = UINT32_MAX;
    ck_assert_int_eq(fdm_simulate(&x, &v, 1, &run, &err), FDM_OK);
    ck_assert_int_eq(fdm_simulate(&x, &v, 2, &run, &err), FDM_BAD_USAGE);
    run.first_particle = 0, run.isa = "mmx";
    ck_assert_int_eq(fdm_simulate(&x, &v, 1, &run, &err), FDM_BAD_USAGE);
}
END_TEST

/* ---- Monte Carlo --------------------------------------------------------------------------------------------- */

/* The largest of five deviations, in standard errors, of the crowd's moments from m. */
static double deviation(const struct crowd *c, const fdm_moments *m) {
    double sums[5] = {0};
    for (size_t i = 0; i < c->n; i++) {
        const double dx = (double)c->x[i] - m->mean_x, dv = (double)c->v[i] - m->mean_v;
        sums[0] += dx, sums[1] += dv, sums[2] += dx * dx, sums[3] += dx * dv, sums[4] += dv * dv;
    }
    const double n = (double)c->n, xx = m->cov_xx, xv = m->cov_xv, vv = m->cov_vv;
    const double off[5] = {sums[0] / sqrt(xx * n),
                           sums[1] / sqrt(vv * n),
                           (sums[2] - n * xx) / (xx * sqrt(2 * n)),
                           (sums[3] - n * xv) / sqrt((xx * vv + xv * xv) * n),
                           (sums[4] - n * vv) / (vv * sqrt(2 * n))};
    double most = 0;
    for (int k = 0; k < 5; k++)
        if (!(fabs(off[k]) <= most)) most = fabs(off[k]);
    return most;
}

/* Every scheme in every regime: within 4 standard errors of its own exact moments; for exact steps and many fine ones
 * those are the oscillator's.  (Fixed seeds, chosen once more: with 10^7 particles seed 111's mean is 4.5 off at zeta = 1.
 * 100 other seeds there deviate with standard deviations 0.99 to 1.08, none by more than 3.5: chance.) */
START_TEST(moments_in_every_regime) {
    static const double zetas[] = {0.2, 1 - 1e-7, 1, 1 + 1e-7, 2.5};
    const size_t n = particles();
    double worst = 0;
    for (int z = 0; z < 5; z++) {
        const double g = 2 * sqrt(zetas[z]), tau = 2.2;
        for (int s = 0; s < FDM_SCHEME_COUNT; s++) {
            const int count = s == FDM_SCHEME_EXACT ? 3 : 16;
            struct crowd c = crowd_new(n);
            fdm_step *steps = steps_to(tau, count, (fdm_scheme)s, zetas[z], g, false);
            fdm_moments m = {.mean_x = 1};
            for (int k = 0; k < count; k++) fdm_moments_advance(&m, &steps[k]);
            simulate(&c, (fdm_simulation){.steps = steps, .count = count, .seed = 200 + (uint64_t)(z * FDM_SCHEME_COUNT + s)});
            if (s == FDM_SCHEME_EXACT) { /* the closed forms */
                fdm_oscillator o;
                fdm_oscillator_at(&o, zetas[z], tau, g, NULL);
                m = (fdm_moments){o.mean_x, o.mean_v, o.cov_xx, o.cov_xv, o.cov_vv};
            }
            const double off = deviation(&c, &m);
            worst = fmax(worst, off);
            ck_assert_msg(off <= 4, "%s, zeta %g: %g standard errors", fdm_scheme_name((fdm_scheme)s), zetas[z], off);
            free(steps);
            crowd_free(&c);
        }
    }
    printf("  %zu particles, 20 runs: at most %.2f standard errors off\n", n, worst);
}
END_TEST

/* The check can fail: half a per cent too much noise. */
START_TEST(moments_check_bites) {
    const size_t n = particles();
    struct crowd c = crowd_new(n);
    fdm_step *steps = steps_to(2.2, 3, FDM_SCHEME_EXACT, 1, 2.02, true);
    fdm_oscillator o;
    fdm_oscillator_at(&o, 1, 2.2, 2, NULL);
    simulate(&c, (fdm_simulation){.steps = steps, .count = 3, .seed = 3});
    const fdm_moments m = {o.mean_x, o.mean_v, o.cov_xx, o.cov_xv, o.cov_vv};
    ck_assert(n < 100000 || deviation(&c, &m) > 6);
    free(steps);
    crowd_free(&c);
}
END_TEST

/* ---- Orders of convergence ----------------------------------------------------------------------------------- */

enum { PATH = 256 }; /* intervals of the Brownian path: what the finest run takes as steps */

/* From x = 1 to tau = 2 in `count` steps along that path. */
static struct crowd along_path(size_t n, fdm_scheme scheme, int count) {
    struct crowd c = crowd_new(n);
    fdm_step *steps = steps_to(2, count, scheme, 1, 2, true);
    simulate(&c, (fdm_simulation){.steps = steps, .count = count, .refine = PATH / count, .seed = 2024});
    free(steps);
    return c;
}

/* Mean of a function of two crowds' pairs, and its standard error. */
struct estimate {
    double value, error;
};
static struct estimate estimate(const struct crowd *a, const struct crowd *b, bool strong) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < a->n; i++) {
        const double x = (double)a->x[i], y = (double)b->x[i], d = strong ? (x - y) * (x - y) : x - y;
        sum += d, squares += d * d;
    }
    const double n = (double)a->n, mean = sum / n;
    struct estimate e = {mean, sqrt((squares / n - mean * mean) / n)};
    if (strong) e = (struct estimate){sqrt(mean), 0.5 * e.error / sqrt(mean)}; /* root mean square */
    return e;
}

/* log2 of the ratio of errors at two step sizes `ratio` apart is the order, with an error bar from both. */
static void check_order(const char *what, const struct estimate *coarse, const struct estimate *fine, double ratio, double order) {
    const double slope = log(fabs(coarse->value / fine->value)) / log(ratio);
    const double bar = hypot(coarse->error / coarse->value, fine->error / fine->value) / log(ratio);
    printf("  %s: %.3f +- %.3f\n", what, slope, bar);
    /* 0.12: at these step sizes the next power of dtau still shows */
    ck_assert_msg(fabs(slope - order) <= 0.12 + 4 * bar && bar < 0.25, "%s: order %g +- %g, not %g", what, slope, bar, order);
}

START_TEST(orders_along_paths) {
    static const double weak[] = {[FDM_SCHEME_EULER] = 1, [FDM_SCHEME_SGD] = 1, [FDM_SCHEME_SPLIT] = 2};
    const size_t n = particles() / 4 < 1000000 ? particles() / 4 : 1000000;
    struct crowd truth = along_path(n, FDM_SCHEME_SPLIT, PATH);
    for (int s = 0; s < FDM_SCHEME_EXACT; s++) {
        struct estimate e[2][2]; /* strong, weak; coarse, fine */
        for (int fine = 0; fine < 2; fine++) {
            struct crowd strong = along_path(n, (fdm_scheme)s, fine ? 64 : 16);
            struct crowd mean = along_path(n, (fdm_scheme)s, fine ? 16 : 4);
            if (s != FDM_SCHEME_SPLIT) { /* large steps of order 1 are not yet in proportion */
                crowd_free(&mean);
                mean = along_path(n, (fdm_scheme)s, fine ? 128 : 32);
            }
            e[0][fine] = estimate(&strong, &truth, true);
            e[1][fine] = estimate(&mean, &truth, false);
            crowd_free(&strong);
            crowd_free(&mean);
        }
        char what[64];
        snprintf(what, sizeof what, "strong order of %s", fdm_scheme_name((fdm_scheme)s));
        check_order(what, &e[0][0], &e[0][1], 4, 1);
        snprintf(what, sizeof what, "weak order of %s", fdm_scheme_name((fdm_scheme)s));
        check_order(what, &e[1][0], &e[1][1], 4, weak[s]);
    }
    crowd_free(&truth);
}
END_TEST

/* ---- Perturbed data ------------------------------------------------------------------------------------------ */

START_TEST(perturb) {
    enum { N = 3, EACH = 37 };
    float x0[N * EACH], noise[N * EACH], second[N * EACH], got[N * EACH], v[N * EACH], sigma[N] = {0.01f, 1.5f, 70}, s[N];
    uint64_t state = 3;
    for (int i = 0; i < N * EACH; i++) {
        x0[i] = f32_value(&state, FILL_RANDOM), noise[i] = f32_value(&state, FILL_RANDOM);
        second[i] = f32_value(&state, FILL_RANDOM);
    }
    for (int i = 0; i < N; i++) s[i] = (float)fdm_kernel_scale((double)sigma[i], 2, 0.002, 80, FDM_BETA_D, FDM_BETA_MIN);
    fdm_step step;
    ck_assert_int_eq(fdm_scheme_step(&step, FDM_SCHEME_EXACT, 1, 2, 0.7, NULL), FDM_OK);
    enum fdm_isa list[FDM_ISA_COUNT];
    const int isas = f32_isas(list);
    float first_x[N * EACH], first_v[N * EACH];
    for (int k = 0; k < isas; k++) {
        const fdm_perturb_options how = {k + 1, fdm_isa_name(list[k])};
        ck_assert_int_eq(fdm_perturb(got, x0, noise, sigma, s, N, EACH, &how, NULL), FDM_OK);
        for (int i = 0; i < N * EACH; i++) { /* every operation rounded, as in the published loop */
            const float shift = noise[i] * sigma[i / EACH], noisy = x0[i] + shift;
            ck_assert(got[i] == noisy * s[i / EACH]);
        }
        ck_assert_int_eq(fdm_perturb_state(got, v, x0, NULL, noise, second, &step, N * EACH, &how, NULL), FDM_OK);
        for (int i = 0; i < N * EACH; i++) {
            ck_assert(fabs((double)got[i] - ((1 + step.xx) * (double)x0[i] + step.px * (double)noise[i])) <= 3e-7);
            ck_assert(fabs((double)v[i] - (step.vx * (double)x0[i] + step.pv * (double)noise[i] + step.qv * (double)second[i])) <= 3e-7);
        }
        if (k == 0) memcpy(first_x, got, sizeof got), memcpy(first_v, v, sizeof v);
        ck_assert(memcmp(first_x, got, sizeof got) == 0 && memcmp(first_v, v, sizeof v) == 0);
    }
    fdm_error err = {0};
    ck_assert_int_eq(fdm_perturb_state(got, v, x0, NULL, noise, NULL, &step, EACH, NULL, &err), FDM_BAD_USAGE);
    ck_assert_int_eq(fdm_perturb(got, x0, noise, sigma, s, -1, EACH, NULL, &err), FDM_BAD_USAGE);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("simulate");
    TCase *tc = tcase_create("simulate");
    tcase_add_test(tc, normals_from_philox);
    tcase_add_test(tc, normals_are_normal);
    tcase_add_test(tc, same_bits);
    tcase_add_test(tc, against_doubles);
    tcase_add_test(tc, page_edges);
    tcase_add_test(tc, wrong_runs);
    tcase_add_test(tc, moments_in_every_regime);
    tcase_add_test(tc, moments_check_bites);
    tcase_add_test(tc, orders_along_paths);
    tcase_add_test(tc, perturb);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
