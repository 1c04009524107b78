/* figures_reverse.c - pictures of reverse time: what samplers make of Gaussian mixtures with exact denoisers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/process.h"
#include "fdm/simulate.h"

static const double weight[] = {0.25, 0.35, 0.4}, spread[] = {0.08, 0.2, 0.12};
static const double mean1[] = {-0.9, -0.1, 0.8}, mean2[] = {-0.7, -0.5, 0.1, 0.8, 0.7, -0.3};
static const fdm_mixture line = {3, 1, weight, mean1, spread}, plane = {3, 2, weight, mean2, spread};
static const double all[] = {1}, zero[] = {0}, one[] = {1}, axis1[] = {1};
static const fdm_mixture normal = {1, 1, all, zero, one};

/* The ways back from noise. */
enum way { EULER, HEUN, DPM, DPM2M, HEUN_FDM1, HEUN_FDM2, SDE_PLAIN, SDE_MOMENTUM, WAYS };
static const struct {
    const char *name;
    int color;
    int evaluations; /* of N steps: this many N, and `more` */
    int more;
} ways[WAYS] = {
    [EULER] = {"Euler", 7, 1, 0},
    [HEUN] = {"Heun (EDM; FDM as published)", 0, 2, -1},
    [DPM] = {"DPM-Solver++ 3", 2, 1, 0},
    [DPM2M] = {"DPM-Solver++ 2M", 5, 1, 0},
    [HEUN_FDM1] = {"Heun on s·x, FDM m = 1", 4, 2, -1},
    [HEUN_FDM2] = {"Heun on s·x, FDM m = 2", 1, 2, -1},
    [SDE_PLAIN] = {"SDE, plain", -1, 1, 1},
    [SDE_MOMENTUM] = {"SDE, momentum (ζ = 1)", 3, 1, 1},
};

/* Samples (n, dim) of a mixture by that way with N steps. */
static fdm_status go(double *x, const float *latents, int n, const fdm_mixture *m, enum way way, int steps,
                     const struct process_options *o, const struct fdm_cli *cli, fdm_error *err) {
    const fdm_denoise_fn net = fdm_mixture_denoiser(m, n);
    if (way == SDE_PLAIN || way == SDE_MOMENTUM) {
        const bool momentum = way == SDE_MOMENTUM;
        const fdm_reverse r = {.momentum = momentum, .zeta = 1, .gamma0 = 0.04, .tau_min = 1e-4, .tau_end = momentum ? 8 : 5,
                               .num_steps = steps, .rho = 5, .seed = (uint64_t)o->seed, .threads = cli->threads};
        return fdm_reverse_sample(x, (size_t)n, m, &r, err);
    }
    if (way == HEUN_FDM1 || way == HEUN_FDM2) {
        const fdm_scaled_heun s = {.num_steps = steps, .sigma_min = 0.002, .sigma_max = 80, .rho = 7,
                                   .m = way == HEUN_FDM1 ? 1 : 2, .t_sigma_min = 0.002, .t_sigma_max = 80};
        return fdm_sample_scaled_heun(x, latents, &net, &s, err);
    }
    fdm_sample_options s = fdm_sample_defaults();
    s.num_steps = steps;
    s.solver = way == EULER ? FDM_SOLVER_EULER : way == HEUN ? FDM_SOLVER_EDM : way == DPM ? FDM_SOLVER_DPM : FDM_SOLVER_DPM2M;
    return fdm_sample(x, NULL, latents, &net, NULL, NULL, &s, err);
}

/* A crowd and what it is held against. */
struct trial {
    const fdm_mixture *m;
    int n, axes;
    float *latents;           /* (n, dim) */
    double *x, *along, *want; /* (n, dim), (n), (axes, n) */
};

static void trial_free(struct trial *t) {
    free(t->latents);
    free(t->x);
    free(t->along);
    free(t->want);
}

static void axis_of(double axis[2], const struct trial *t, int a) {
    axis[0] = cos(M_PI * a / t->axes), axis[1] = sin(M_PI * a / t->axes);
}

/* In 1-D latents at the quantiles of N(0, 1): the flow keeps order, so its distance has no statistical error. */
static fdm_status trial_new(struct trial *t, const fdm_mixture *m, int n, uint64_t seed, fdm_error *err) {
    const size_t numbers = (size_t)n * (size_t)m->dim;
    *t = (struct trial){.m = m, .n = n, .axes = m->dim == 1 ? 1 : 12};
    t->latents = calloc(2 * numbers, sizeof(float));
    t->x = calloc(numbers, sizeof(double)), t->along = calloc((size_t)n, sizeof(double));
    t->want = calloc((size_t)n * (size_t)t->axes, sizeof(double));
    if (!(t->latents && t->x && t->along && t->want)) return fdm_fail_oom(err, "samples", numbers * sizeof(double));
    for (int a = 0; a < t->axes; a++) {
        double axis[2];
        axis_of(axis, t, a);
        fdm_mixture_quantiles(t->want + (size_t)a * (size_t)n, (size_t)n, m, axis);
    }
    if (m->dim == 1) {
        fdm_mixture_quantiles(t->along, (size_t)n, &normal, axis1);
        for (int i = 0; i < n; i++) t->latents[i] = (float)t->along[i];
        return FDM_OK;
    }
    const double middle[2] = {0, 0};
    const fdm_mixture noise = {1, 2, all, middle, one};
    return fdm_simulate_start(t->latents, t->latents + numbers, (size_t)n, &noise, 0, seed, err);
}

/* Wasserstein-1 distance; in the plane its mean over directions. */
static double distance(struct trial *t) {
    const int dim = t->m->dim;
    double sum = 0;
    for (int a = 0; a < t->axes; a++) {
        double axis[2];
        axis_of(axis, t, a);
        for (int i = 0; i < t->n; i++) t->along[i] = dim == 1 ? t->x[i] : axis[0] * t->x[2 * i] + axis[1] * t->x[2 * i + 1];
        sum += fdm_wasserstein(t->along, t->want + (size_t)a * (size_t)t->n, (size_t)t->n) / t->axes;
    }
    return sum;
}

/* ---- nfe ---------------------------------------------------------------------------------------------------- */

static const int budgets[] = {5, 7, 9, 13, 19, 27, 39, 57, 83, 121, 181};
enum { BUDGETS = sizeof budgets / sizeof *budgets };

/* Steps that take at most that many evaluations. */
static int steps_for(enum way way, int budget) { return (budget - ways[way].more) / ways[way].evaluations; }

static fdm_status measure(struct fdm_figure *f, struct fdm_panel *p, struct trial *t, enum way way,
                          const struct process_options *o, const struct fdm_cli *cli, fdm_error *err) {
    double *nfe = fdm_figure_numbers(f, BUDGETS);
    struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_POINTS, ways[way].name, ways[way].color, nfe, BUDGETS);
    fdm_status status = FDM_OK;
    for (int i = 0; s && i < BUDGETS && status == FDM_OK; i++) {
        const int steps = steps_for(way, budgets[i]);
        status = go(t->x, t->latents, t->n, t->m, way, steps, o, cli, err);
        nfe[i] = steps * ways[way].evaluations + ways[way].more;
        if (status == FDM_OK) s->y[i] = distance(t);
        if (fdm_interrupted()) return fdm_fail_interrupted(err);
    }
    return status;
}

/* What as many true samples are away. */
static fdm_status floor_line(struct fdm_figure *f, struct fdm_panel *p, struct trial *t, uint64_t seed, fdm_error *err) {
    const size_t numbers = (size_t)t->n * (size_t)t->m->dim;
    float *x = calloc(2 * numbers, sizeof *x);
    fdm_status status = x ? fdm_simulate_start(x, x + numbers, (size_t)t->n, t->m, 0, seed, err)
                          : fdm_fail_oom(err, "samples", 2 * numbers * sizeof *x);
    for (size_t i = 0; status == FDM_OK && i < numbers; i++) t->x[i] = (double)x[i];
    free(x);
    double *ends = fdm_figure_range(f, budgets[0], budgets[BUDGETS - 1], 2, true);
    struct fdm_series *s = status == FDM_OK ? fdm_panel_add(f, p, FDM_SERIES_DASHED, "as many true samples", -1, ends, 2) : NULL;
    if (s) s->y[0] = s->y[1] = distance(t);
    return status;
}

fdm_status fdm_figure_nfe(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli, fdm_error *err) {
    static const char *const titles[] = {"1-D, 4000 samples", "2-D, 4000 samples, mean over directions"};
    fdm_status status = fdm_figure_start(out, "Distance to a known mixture against evaluations of its exact denoiser", 1, 2, err);
    for (int k = 0; k < 2 && status == FDM_OK; k++) {
        struct fdm_figure *f = *out;
        struct fdm_panel *p = fdm_figure_panel(f, k, titles[k], "evaluations (NFE)", k ? "" : "Wasserstein-1 distance");
        struct trial t;
        f->panel_width = 380, f->panel_height = 400;
        p->xlog = p->ylog = true, p->ymin = 1e-4, p->ymax = 5, p->legend = k == 1, p->legend_corner = 2;
        status = trial_new(&t, k ? &plane : &line, 4000, (uint64_t)o->seed, err);
        for (int way = 0; way < WAYS && status == FDM_OK; way++) status = measure(f, p, &t, (enum way)way, o, cli, err);
        if (status == FDM_OK) status = floor_line(f, p, &t, (uint64_t)o->seed + 1, err);
        trial_free(&t);
    }
    return status;
}

/* ---- reverse ------------------------------------------------------------------------------------------------ */

enum { BINS = 48 };
static const double reach = 1.75; /* of the histograms */

static void histogram(struct fdm_figure *f, struct fdm_panel *p, const struct trial *t, int color, const char *name) {
    double *middle = fdm_figure_range(f, -reach + reach / BINS, reach - reach / BINS, BINS, false);
    struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_BARS, name, color, middle, BINS);
    for (int i = 0; s && i < t->n; i++) {
        const double at = (t->x[i] + reach) / (2 * reach) * BINS;
        if (at >= 0 && at < BINS) s->y[(int)at] += BINS / (2 * reach) / t->n;
    }
}

static void density(struct fdm_figure *f, struct fdm_panel *p) {
    enum { N = 121 };
    double *x = fdm_figure_range(f, -reach, reach, N, false);
    struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_LINE, "", 7, x, N);
    for (int i = 0; s && i < N; i++) s->y[i] = exp(fdm_mixture_log_density(&line, &x[i], 0));
}

fdm_status fdm_figure_reverse(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli,
                              fdm_error *err) {
    static const enum way rows[] = {HEUN, HEUN_FDM2, SDE_PLAIN, SDE_MOMENTUM};
    static const char *const names[] = {"Heun", "Heun on s·x", "SDE", "SDE, momentum"};
    static const int columns[] = {9, 19, 57};
    struct trial t = {0};
    fdm_status status = fdm_figure_start(out, "20,000 samples of a mixture by four ways, and its density (line)", 4, 3, err);
    if (status == FDM_OK) status = trial_new(&t, &line, 20000, (uint64_t)o->seed, err);
    for (int i = 0; i < 12 && status == FDM_OK; i++) {
        struct fdm_figure *f = *out;
        const enum way way = rows[i / 3];
        char title[96];
        status = go(t.x, t.latents, t.n, t.m, way, steps_for(way, columns[i % 3]), o, cli, err);
        if (status != FDM_OK) break;
        snprintf(title, sizeof title, "%s, NFE %d: W₁ %.2g", names[i / 3],
                 steps_for(way, columns[i % 3]) * ways[way].evaluations + ways[way].more, distance(&t));
        struct fdm_panel *p = fdm_figure_panel(f, i, title, i / 3 == 3 ? "x" : "", "");
        f->panel_width = 250, f->panel_height = 140;
        p->xmin = -reach, p->xmax = reach, p->ymin = 0, p->ymax = 2;
        histogram(f, p, &t, ways[way].color, "");
        density(f, p);
    }
    trial_free(&t);
    return status;
}
