/* figures_steps.c - pictures of discrete steps: SGD beside momentum SGD, and errors of the simulators. */
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "cli/process.h"
#include "fdm/random.h"
#include "fdm/simulate.h"

/* ---- descent ------------------------------------------------------------------------------------------------ */

enum { ITERATIONS = 80, WALK = 160 };
static const double rate = 0.01; /* learning rate of all */

/* Without noise, from x = 1. */
static void quiet_descent(struct fdm_figure *f, struct fdm_panel *p, const fdm_momentum_sgd *sgd, const char *name, int color,
                          double *k) {
    struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_LINE, name, color, k, ITERATIONS + 1);
    double x = 1, d = 0;
    for (int i = 0; s && i <= ITERATIONS; i++) {
        s->y[i] = x;
        fdm_momentum_sgd_step(&x, &d, sgd, 0);
    }
}

/* In the plane, from (4, 1.5), with the noise that leaves variance 1. */
static void noisy_walk(struct fdm_figure *f, struct fdm_panel *p, const fdm_momentum_sgd *sgd, const char *name, int color,
                       int64_t seed) {
    double xi[2 * WALK], x[2] = {4, 1.5}, d[2] = {0, 0};
    fdm_rng rng;
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, (uint64_t)seed);
    fdm_rng_normal_f64(&rng, xi, FDM_ARRAY_LEN(xi));
    double *across = fdm_figure_numbers(f, WALK);
    struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_LINE, name, color, across, WALK);
    for (int i = 0; s && i < WALK; i++) {
        across[i] = x[0], s->y[i] = x[1];
        for (int c = 0; c < 2; c++) fdm_momentum_sgd_step(&x[c], &d[c], sgd, xi[2 * i + c]);
    }
}

/* |x|^2/2 is the objective less its noise. */
static void contours(struct fdm_figure *f, struct fdm_panel *p) {
    enum { N = 120 };
    for (int level = 1; level <= 5; level++) {
        double *x = fdm_figure_numbers(f, N);
        struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_CLOSED, "", -1, x, N);
        for (int i = 0; s && i < N; i++) x[i] = level * cos(2 * M_PI * i / N), s->y[i] = level * sin(2 * M_PI * i / N);
    }
}

fdm_status fdm_figure_descent(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli,
                              fdm_error *err) {
    static const double zetas[] = {0.2, 1, 3};
    static const int colors[] = {3, 1, 4};
    (void)cli;
    fdm_status status = fdm_figure_start(out, "Minimising E|x − cξ|²/2 with learning rate 0.01: SGD against momentum SGD", 1, 2, err);
    if (status != FDM_OK) return status;
    struct fdm_figure *f = *out;
    struct fdm_panel *mean = fdm_figure_panel(f, 0, "Mean, from x = 1", "iteration k", "E[x]");
    struct fdm_panel *walk = fdm_figure_panel(f, 1, "160 noisy iterations in the plane", "x₁", "x₂");
    double *k = fdm_figure_range(f, 0, ITERATIONS, ITERATIONS + 1, false);
    const double h = sqrt(rate);
    f->panel_width = 330, f->panel_height = 280;
    mean->legend = true, mean->legend_corner = 3, mean->xmin = 0, mean->xmax = ITERATIONS, mean->ymin = -1.3, mean->ymax = 1.02;
    walk->square = true, walk->xmin = -2.6, walk->xmax = 5, walk->ymin = -3.4, walk->ymax = 3.4;
    walk->legend = true, walk->legend_corner = 3;
    contours(f, walk);
    /* plain SGD: variance eta c^2 / (2 - eta) = 1 */
    const fdm_momentum_sgd plain = {.rate = rate, .momentum = 0, .noise = sqrt((2 - rate) / rate)};
    quiet_descent(f, mean, &plain, "SGD", 7, k);
    noisy_walk(f, walk, &plain, "SGD", 7, o->seed);
    for (int i = 0; i < 3; i++) {
        char name[64];
        const fdm_momentum_sgd sgd = fdm_momentum_sgd_of(zetas[i], 2 * sqrt(zetas[i]), h);
        snprintf(name, sizeof name, "μ = %.2g (ζ = %g)", sgd.momentum, zetas[i]);
        quiet_descent(f, mean, &sgd, name, colors[i], k);
        if (zetas[i] == 1) noisy_walk(f, walk, &sgd, "critical momentum", 1, o->seed);
    }
    struct fdm_series *limit = fdm_panel_add(f, mean, FDM_SERIES_DASHED, "(1 + τ) exp(−τ), τ = k√η", 0, k, ITERATIONS + 1);
    for (int i = 0; limit && i <= ITERATIONS; i++) limit->y[i] = fdm_critical_mean(i * h);
    return FDM_OK;
}

/* ---- orders ------------------------------------------------------------------------------------------------- */

enum { CROWD = 1 << 17, PATH = 512, SIZES = 6 };
static const int step_counts[SIZES] = {4, 8, 16, 32, 64, 128};

/* CROWD particles from x = 1 to tau = 2 in `count` steps along one Brownian path each. */
static fdm_status along_path(float *x, float *v, fdm_scheme scheme, int count, const struct process_options *o,
                             const struct fdm_cli *cli, fdm_error *err) {
    fdm_step steps[PATH];
    double tau[PATH + 1];
    for (int k = 0; k <= count; k++) tau[k] = 2.0 * k / count;
    for (size_t i = 0; i < CROWD; i++) x[i] = 1, v[i] = 0;
    fdm_status status = fdm_scheme_steps(steps, tau, count, scheme, 1, 2, err);
    const fdm_simulation run = {.steps = steps, .count = count, .refine = PATH / count, .seed = (uint64_t)o->seed,
                                .threads = cli->threads, .isa = cli->isa};
    return status == FDM_OK ? fdm_simulate(x, v, CROWD, &run, err) : status;
}

/* Mean of d over the crowd with its standard error, d = (x - y)^2 or x - y; the former as a root mean square. */
static void estimate(struct fdm_series *s, int i, const float *x, const float *y, bool strong) {
    double sum = 0, squares = 0;
    for (size_t k = 0; k < CROWD; k++) {
        const double a = (double)x[k], b = (double)y[k], d = strong ? (a - b) * (a - b) : a - b;
        sum += d, squares += d * d;
    }
    const double mean = fabs(sum / CROWD), bar = 2 * sqrt((squares / CROWD - mean * mean) / CROWD);
    s->y[i] = strong ? sqrt(mean) : mean;
    s->low[i] = strong ? sqrt(fmax(mean - bar, 0)) : fmax(mean - bar, 1e-7);
    s->high[i] = strong ? sqrt(mean + bar) : mean + bar;
}

/* A line of that slope through (x, y). */
static void slope_line(struct fdm_figure *f, struct fdm_panel *p, double order, double y, const char *name) {
    double *x = fdm_figure_range(f, 2.0 / 128, 0.5, 2, true);
    struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_DASHED, name, -1, x, 2);
    for (int i = 0; s && i < 2; i++) s->y[i] = y * pow(x[i] / 0.5, order);
}

fdm_status fdm_figure_orders(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli,
                             fdm_error *err) {
    static const char *const names[] = {"Euler–Maruyama", "momentum SGD", "symmetric splitting"};
    static const int colors[] = {7, 3, 1};
    fdm_status status = fdm_figure_start(out, "Errors at τ = 2, ζ = 1: 131,072 particles, bars of two standard errors", 1, 2, err);
    float *x = calloc(3 * (size_t)CROWD, sizeof *x), *v = x ? x + CROWD : NULL, *truth = x ? x + 2 * (size_t)CROWD : NULL;
    if (status == FDM_OK && !x) status = fdm_fail_oom(err, "particles", 3 * (size_t)CROWD * sizeof *x);
    if (status == FDM_OK) status = along_path(truth, v, FDM_SCHEME_SPLIT, PATH, o, cli, err);
    for (int s = 0; s < 3 && status == FDM_OK; s++) {
        struct fdm_figure *f = *out;
        struct fdm_panel *strong = fdm_figure_panel(f, 0, "Strong: root mean square of x − x(τ)", "step Δτ", "");
        struct fdm_panel *weak = fdm_figure_panel(f, 1, "Weak: E[x] − E[x(τ)]", "step Δτ", "");
        double *h = fdm_figure_numbers(f, SIZES);
        struct fdm_series *a = fdm_panel_add_range(f, strong, FDM_SERIES_POINTS, names[s], colors[s], h, SIZES);
        struct fdm_series *b = fdm_panel_add_range(f, weak, FDM_SERIES_POINTS, names[s], colors[s], h, SIZES);
        f->panel_width = 330, f->panel_height = 260;
        for (int p = 0; p < 2; p++) {
            f->panels[p].xlog = f->panels[p].ylog = f->panels[p].legend = true, f->panels[p].legend_corner = 1;
            f->panels[p].xmin = 0.01, f->panels[p].xmax = 1;
            f->panels[p].ymin = p ? 1e-5 : 1e-3, f->panels[p].ymax = p ? 30 : 10;
        }
        for (int i = 0; a && b && i < SIZES && status == FDM_OK; i++) {
            h[i] = 2.0 / step_counts[i];
            status = along_path(x, v, (fdm_scheme)s, step_counts[i], o, cli, err);
            if (status != FDM_OK) break;
            estimate(a, i, x, truth, true);
            estimate(b, i, x, truth, false);
        }
        if (s == 2) {
            slope_line(f, strong, 1, 0.1, "slope 1");
            slope_line(f, weak, 1, 0.4, "slope 1");
            slope_line(f, weak, 2, 0.012, "slope 2");
        }
    }
    free(x);
    return status;
}
