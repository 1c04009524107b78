/* figures_forward.c - pictures of the process forward in time: scale, moments, phase portraits, particle clouds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/process.h"
#include "fdm/simulate.h"

static const double damping[] = {0.2, 0.5, 1, 1.5, 3};
static const int damping_color[] = {3, 0, 1, 2, 4};

static double mean_at(double zeta, double tau) {
    fdm_oscillator o = {.mean_x = NAN};
    fdm_oscillator_at(&o, zeta, tau, 0, NULL);
    return o.mean_x;
}

/* Reading of the published clock at t. */
static double published_clock(double t) { return fdm_clock(t, FDM_BETA_D, FDM_BETA_MIN); }

/* ---- scale -------------------------------------------------------------------------------------------------- */

fdm_status fdm_figure_scale(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli, fdm_error *err) {
    enum { N = 300 };
    (void)cli;
    fdm_status status = fdm_figure_start(out, "What is left of the data: the mean of momentum diffusion", 1, 2, err);
    if (status != FDM_OK) return status;
    struct fdm_figure *f = *out;
    char xlabel[64];
    snprintf(xlabel, sizeof xlabel, "t,  clock τ = %g B(t)", o->fdm_multiplier);
    struct fdm_panel *in_time = fdm_figure_panel(f, 0, "In time", xlabel, "s(t)");
    struct fdm_panel *decay = fdm_figure_panel(f, 1, "Critical: the fastest without swinging", "τ", "|mean|");
    double *t = fdm_figure_range(f, 0, 1, N, false), *tau = fdm_figure_range(f, 0, 12, N, false);
    f->panel_width = 330, f->panel_height = 250;
    in_time->legend = true, in_time->xmin = 0, in_time->xmax = 1;
    decay->ylog = true, decay->ymin = 1e-5, decay->ymax = 1, decay->xmin = 0, decay->xmax = 12;
    for (size_t k = 0; k < FDM_ARRAY_LEN(damping); k++) {
        char name[64];
        snprintf(name, sizeof name, "ζ = %g%s", damping[k], damping[k] == 1 ? " (FDM)" : "");
        struct fdm_series *a = fdm_panel_add(f, in_time, FDM_SERIES_LINE, name, damping_color[k], t, N);
        struct fdm_series *b = fdm_panel_add(f, decay, FDM_SERIES_LINE, name, damping_color[k], tau, N);
        for (int i = 0; a && b && i < N; i++) {
            a->y[i] = mean_at(damping[k], o->fdm_multiplier * published_clock(t[i]));
            b->y[i] = fabs(mean_at(damping[k], tau[i]));
        }
    }
    struct fdm_series *vp = fdm_panel_add(f, in_time, FDM_SERIES_DASHED, "VP", 7, t, N);
    for (int i = 0; vp && i < N; i++) vp->y[i] = exp(-0.5 * published_clock(t[i]));
    return FDM_OK;
}

/* ---- moments ------------------------------------------------------------------------------------------------ */

enum { PATHS = 6, INSTANTS = 161 };

/* Exact steps over equal pieces of the clock, one call a step: what passes between shows. */
static fdm_status sample_paths(struct fdm_figure *f, struct fdm_panel *p, const struct process_options *o, double zeta,
                               double x0, double *tau, int color, fdm_error *err) {
    float x[PATHS], v[PATHS] = {0};
    fdm_step step;
    struct fdm_series *path[PATHS];
    fdm_status status = fdm_scheme_step(&step, FDM_SCHEME_EXACT, zeta, 2 * sqrt(zeta), tau ? tau[1] : 0, err);
    for (int i = 0; i < PATHS; i++) {
        path[i] = fdm_panel_add(f, p, FDM_SERIES_FAINT, "", color, tau, INSTANTS);
        x[i] = (float)x0;
    }
    for (int k = 0; k < INSTANTS && status == FDM_OK; k++) {
        for (int i = 0; i < PATHS; i++)
            if (path[i]) path[i]->y[k] = (double)x[i];
        const fdm_simulation run = {.steps = &step, .count = 1, .seed = (uint64_t)o->seed, .stream = (uint32_t)k, .threads = 1};
        status = fdm_simulate(x, v, PATHS, &run, err);
    }
    return status;
}

fdm_status fdm_figure_moments(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli,
                              fdm_error *err) {
    static const double zetas[] = {0.2, 1, 3};
    static const char *const titles[] = {"Light damping, ζ = 0.2", "Critical damping, ζ = 1", "Heavy damping, ζ = 3"};
    const double x0 = 4;
    (void)cli;
    fdm_status status = fdm_figure_start(out, "From x = 4 at rest to N(0, 1): mean, one standard deviation, six paths", 1, 3, err);
    for (int k = 0; k < 3 && status == FDM_OK; k++) {
        struct fdm_figure *f = *out;
        struct fdm_panel *p = fdm_figure_panel(f, k, titles[k], "τ", k ? "" : "x");
        double *tau = fdm_figure_range(f, 0, 12, INSTANTS, false);
        p->ymin = -5, p->ymax = 5, p->xmin = 0, p->xmax = 12;
        struct fdm_series *band = fdm_panel_add_range(f, p, FDM_SERIES_BAND, "", k == 0 ? 3 : k == 1 ? 1 : 4, tau, INSTANTS);
        struct fdm_series *mean = fdm_panel_add(f, p, FDM_SERIES_LINE, "", k == 0 ? 3 : k == 1 ? 1 : 4, tau, INSTANTS);
        for (int i = 0; band && mean && i < INSTANTS; i++) {
            fdm_oscillator at = {0};
            status = fdm_oscillator_at(&at, zetas[k], tau[i], 2 * sqrt(zetas[k]), err);
            mean->y[i] = x0 * at.mean_x;
            band->low[i] = mean->y[i] - sqrt(at.cov_xx), band->high[i] = mean->y[i] + sqrt(at.cov_xx);
        }
        if (status == FDM_OK) status = sample_paths(f, p, o, zetas[k], x0, tau, -1, err);
    }
    return status;
}

/* ---- phase -------------------------------------------------------------------------------------------------- */

/* The drift (v, -x - 2 zeta v) on a lattice, arrows of one length. */
static void drift_arrows(struct fdm_figure *f, struct fdm_panel *p, double zeta, double reach) {
    enum { SIDE = 9 };
    double *x = fdm_figure_numbers(f, (size_t)SIDE * SIDE);
    struct fdm_series *s = fdm_panel_add_range(f, p, FDM_SERIES_ARROWS, "", -1, x, (size_t)SIDE * SIDE);
    const double gap = 2 * reach / (SIDE - 1);
    for (int i = 0; s && i < SIDE * SIDE; i++) {
        const int column = i % SIDE, row = i / SIDE;
        const double at_x = -reach + gap * column, at_v = -reach + gap * row;
        const double dx = at_v, dv = -at_x - 2 * zeta * at_v, length = hypot(dx, dv), unit = length > 0 ? 0.55 * gap / length : 0;
        x[i] = at_x - 0.5 * unit * dx, s->y[i] = at_v - 0.5 * unit * dv;
        s->low[i] = at_x + 0.5 * unit * dx, s->high[i] = at_v + 0.5 * unit * dv;
    }
}

/* The mean path from (x0, v0). */
static fdm_status mean_path(struct fdm_figure *f, struct fdm_panel *p, double zeta, double x0, double v0, int color,
                            fdm_error *err) {
    enum { N = 100 };
    double *x = fdm_figure_numbers(f, N);
    struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_LINE, "", color, x, N);
    fdm_status status = FDM_OK;
    for (int i = 0; s && i < N && status == FDM_OK; i++) {
        fdm_oscillator at = {0};
        status = fdm_oscillator_at(&at, zeta, 20.0 * i / N * i / N, 0, err);
        x[i] = at.mean_x * x0 + at.h * v0, s->y[i] = at.mean_v * x0 + at.dh * v0;
    }
    return status;
}

/* One standard deviation around the mean from (x0, 0), at tau. */
static fdm_status ellipse(struct fdm_figure *f, struct fdm_panel *p, double zeta, double x0, double tau, fdm_error *err) {
    enum { N = 72 };
    double *x = fdm_figure_numbers(f, N);
    struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_CLOSED, "", 1, x, N);
    fdm_oscillator at = {0};
    const fdm_status status = fdm_oscillator_at(&at, zeta, tau, 2 * sqrt(zeta), err);
    const double a = sqrt(at.cov_xx), b = a > 0 ? at.cov_xv / a : 0, c = sqrt(fmax(at.cov_vv - b * b, 0));
    for (int i = 0; s && i < N; i++) {
        const double u = cos(2 * M_PI * i / N), w = sin(2 * M_PI * i / N);
        x[i] = at.mean_x * x0 + a * u, s->y[i] = at.mean_v * x0 + b * u + c * w;
    }
    return status;
}

fdm_status fdm_figure_phase(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli,
                            fdm_error *err) {
    static const double zetas[] = {0.2, 1, 3}, instants[] = {0.35, 1, 2, 4, 40};
    static const double starts[][2] = {{4, 0}, {-4, 0}, {-1.5, 4}, {1.5, -4}, {-4, 3}, {4, -3}};
    static const char *const titles[] = {"ζ = 0.2", "ζ = 1", "ζ = 3"};
    (void)o, (void)cli;
    fdm_status status = fdm_figure_start(
        out, "Phase portraits: drift, mean paths, and one standard deviation around x = 4 at τ = 0.35, 1, 2, 4, 40", 1, 3, err);
    for (int k = 0; k < 3 && status == FDM_OK; k++) {
        struct fdm_figure *f = *out;
        struct fdm_panel *p = fdm_figure_panel(f, k, titles[k], "x", k ? "" : "v");
        f->panel_width = 280, f->panel_height = 280;
        p->square = true, p->xmin = p->ymin = -4.8, p->xmax = p->ymax = 4.8;
        drift_arrows(f, p, zetas[k], 4.5);
        for (int i = 0; i < 6 && status == FDM_OK; i++)
            status = mean_path(f, p, zetas[k], starts[i][0], starts[i][1], i ? 0 : 1, err);
        for (int i = 0; i < 5 && status == FDM_OK; i++) status = ellipse(f, p, zetas[k], 4, instants[i], err);
    }
    return status;
}

/* ---- clouds ------------------------------------------------------------------------------------------------- */

enum { EACH = 200, CLUSTERS = 8, CROWD = EACH * CLUSTERS };

/* Eight clusters on a circle; a particle keeps its cluster's colour. */
static fdm_status start_clouds(float *x, float *v, const struct process_options *o, fdm_error *err) {
    static const double all[1] = {1}, width[1] = {0.13};
    fdm_status status = FDM_OK;
    for (int k = 0; k < CLUSTERS && status == FDM_OK; k++) {
        const double center[2] = {2.2 * cos(2 * M_PI * k / CLUSTERS), 2.2 * sin(2 * M_PI * k / CLUSTERS)};
        const fdm_mixture cluster = {1, 2, all, center, width};
        const size_t at = (size_t)k * EACH * 2;
        status = fdm_simulate_start(x + at, v + at, EACH, &cluster, 0, (uint64_t)o->seed + (uint64_t)k, err);
    }
    return status;
}

/* Over dB of the clock: VP's dx = -x dB/2 + dW, which has no velocity; or the oscillator over m dB. */
static fdm_status cloud_step(fdm_step *step, double zeta, double m, double db, fdm_error *err) {
    if (zeta > 0) return fdm_scheme_step(step, FDM_SCHEME_EXACT, zeta, 2 * sqrt(zeta), m * db, err);
    *step = (fdm_step){.xx = expm1(-0.5 * db), .px = sqrt(-expm1(-db))};
    return FDM_OK;
}

static void show_cloud(struct fdm_figure *f, struct fdm_panel *p, const float *x) {
    p->bare = true, p->xmin = p->ymin = -3.4, p->xmax = p->ymax = 3.4;
    for (int k = 0; k < CLUSTERS; k++) {
        double *across = fdm_figure_numbers(f, EACH);
        struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_DOTS, "", k, across, EACH);
        for (int i = 0; s && i < EACH; i++) {
            const size_t at = 2 * ((size_t)k * EACH + (size_t)i);
            across[i] = (double)x[at], s->y[i] = (double)x[at + 1];
        }
    }
}

fdm_status fdm_figure_clouds(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli,
                             fdm_error *err) {
    static const double times[] = {0, 0.15, 0.25, 0.35, 0.5, 0.7}, zetas[] = {0, 1, 0.2};
    static const char *const rows[] = {"VP", "FDM, ζ = 1", "ζ = 0.2"};
    enum { COLUMNS = 6 };
    fdm_status status = fdm_figure_start(out, "Particles of a mixture of eight in time, on one clock (m = 2 with momentum)", 3, COLUMNS, err);
    float *x = calloc((size_t)CROWD * 2, sizeof *x), *v = calloc((size_t)CROWD * 2, sizeof *v);
    if (status == FDM_OK && !(x && v)) status = fdm_fail_oom(err, "particles", (size_t)CROWD * 4 * sizeof *x);
    for (int row = 0; row < 3 && status == FDM_OK; row++) {
        struct fdm_figure *f = *out;
        f->panel_width = f->panel_height = 112, f->zoom = 1.5;
        status = start_clouds(x, v, o, err);
        for (int k = 0; k < COLUMNS && status == FDM_OK; k++) {
            char title[32] = "";
            fdm_step step;
            if (row == 0) snprintf(title, sizeof title, "t = %g", times[k]);
            if (k > 0) {
                const double db = fdm_clock_between(times[k - 1], times[k], FDM_BETA_D, FDM_BETA_MIN);
                status = cloud_step(&step, zetas[row], 2, db, err);
            }
            const fdm_simulation run = {.steps = &step, .count = 1, .seed = (uint64_t)o->seed, .stream = (uint32_t)k,
                                        .threads = cli->threads, .isa = cli->isa};
            if (k > 0 && status == FDM_OK) status = fdm_simulate(x, v, (size_t)CROWD * 2, &run, err);
            if (status == FDM_OK) show_cloud(f, fdm_figure_panel(f, row * COLUMNS + k, title, "", rows[row]), x);
        }
    }
    free(x);
    free(v);
    return status;
}
