/* cmd_process.c - `fdm process`: the kernel and the oscillator as tables, and figures of the method. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "cli/process.h"
#include "fdm/precond.h"
#include "fdm/process.h"

#define FIGURE_NAME(name, text) #name,
static const char *const figure_names[] = {FDM_FIGURES(FIGURE_NAME) NULL};
#undef FIGURE_NAME
#define FIGURE_BUILD(name, text) fdm_figure_##name,
static fdm_figure_build *const builders[] = {FDM_FIGURES(FIGURE_BUILD)};
#undef FIGURE_BUILD
#define PRECOND_NAME(e, name, cls, fdm) name,
static const char *const precond_names[] = {FDM_PRECONDS(PRECOND_NAME) NULL};
#undef PRECOND_NAME

/* figure -1: none was asked for. */
static const struct process_options defaults = {
    .precond = FDM_PRECOND_FDM_EDM, .figure = -1, .fdm_multiplier = 2, .ve_multiplier = 1, .zeta = 1, .index = 0, .seed = 1};
static const struct fdm_option options[] = {
    FDM_OPTION_ENUM(struct process_options, precond, "precond", precond_names, "whose kernel"),
    FDM_OPTION_FLOAT(struct process_options, fdm_multiplier, "fdm_multiplier", 1e-6, 1e6, "M", "m of FDM's clock m B(t)"),
    FDM_OPTION_FLOAT(struct process_options, ve_multiplier, "ve_multiplier", 1e-6, 1e6, "M",
                     "m of fdm_ve, for which the published program takes 1 whatever --fdm_multiplier says"),
    FDM_OPTION_FLOATLIST(struct process_options, sigma, "sigma", 0, 1e100, "LIST",
                         "print the kernel and the preconditioning at these noise levels: 0.1,1,10"),
    FDM_OPTION_FLOAT(struct process_options, zeta, "zeta", 0, 1e100, "Z", "damping of the oscillator, and of a kernel's s; 1 is critical, FDM's"),
    FDM_OPTION_FLOATLIST(struct process_options, tau, "tau", 0, 1e100, "LIST",
                         "print mean and covariance of the oscillator at these readings of the clock"),
    FDM_OPTION_ENUM(struct process_options, figure, "figure", figure_names, "a figure, drawn with --plot, else as numbers"),
    FDM_OPTION_STRING(struct process_options, plot, "plot", "FILE",
                      "draw to FILE.svg or FILE.png: the figure, or the table as curves (default figure: scale)"),
    FDM_OPTION_STRING(struct process_options, image, "image", "FILE", "strip: a PNG, or a data set (zip, folder)"),
    FDM_OPTION_INT(struct process_options, index, "index", 0, INT64_MAX, "N", "strip: which image of the data set"),
    FDM_OPTION_INT(struct process_options, seed, "seed", 0, INT64_MAX, "N", "of the figures' random numbers"),
    FDM_OPTION_FLAG(struct process_options, json, "json", "write JSON"),
    FDM_OPTION_END,
};

/* ---- Tables ------------------------------------------------------------------------------------------------- */

enum { MAX_COLUMNS = 8 };
static const char *const kernel_columns[MAX_COLUMNS] = {"sigma", "t", "B", "s", "c_skip", "c_out", "c_in", "c_noise"};
static const char *const oscillator_columns[MAX_COLUMNS] = {"tau", "mean_x", "mean_v", "cov_xx", "cov_xv", "cov_vv", "h"};

struct table {
    const char *const *names;
    int columns;
    size_t rows;
    double *cells; /* (rows, columns) */
};

/* VE and EDM have no clock: their t and B are NaN (null in JSON), s is c_in for the three without FDM. */
static void kernel_row(double *row, const fdm_precond *p, double sigma) {
    fdm_precond_coeffs c;
    fdm_precond_coeffs_f64(&c, p, sigma);
    double t = NAN;
    if (fdm_precond_is_fdm(p->kind)) t = fdm_kernel_time(sigma, p->sigma_min, p->sigma_max);
    if (p->kind == FDM_PRECOND_VP) t = fdm_vp_sigma_inv(sigma, p->beta_d, p->beta_min);
    const double cells[] = {sigma,    t,       fdm_clock(t, p->beta_d, p->beta_min), fdm_precond_scale_f64(p, sigma),
                            c.c_skip, c.c_out, c.c_in,                               c.c_noise};
    for (size_t i = 0; i < FDM_ARRAY_LEN(cells); i++) row[i] = cells[i];
}

static fdm_status oscillator_row(double *row, double zeta, double tau, fdm_error *err) {
    fdm_oscillator o;
    const fdm_status status = fdm_oscillator_at(&o, zeta, tau, 2 * sqrt(zeta), err);
    if (status != FDM_OK) return status;
    const double cells[] = {tau, o.mean_x, o.mean_v, o.cov_xx, o.cov_xv, o.cov_vv, o.h};
    for (size_t i = 0; i < FDM_ARRAY_LEN(cells); i++) row[i] = cells[i];
    return FDM_OK;
}

static fdm_status make_table(struct table *t, const struct process_options *o, fdm_error *err) {
    const struct fdm_floatlist *at = o->sigma.count ? &o->sigma : &o->tau;
    *t = (struct table){.names = o->sigma.count ? kernel_columns : oscillator_columns, .columns = o->sigma.count ? 8 : 7,
                        .rows = at->count};
    fdm_precond p;
    fdm_status status = fdm_precond_init(&p, (fdm_precond_kind)o->precond, o->fdm_multiplier, err);
    if (status != FDM_OK) return status;
    p.ve_multiplier = o->ve_multiplier;
    p.zeta = o->zeta;
    t->cells = calloc(t->rows * (size_t)t->columns, sizeof *t->cells);
    if (!t->cells) return fdm_fail_oom(err, "table", t->rows * (size_t)t->columns * sizeof *t->cells);
    for (size_t i = 0; i < t->rows && status == FDM_OK; i++) {
        double *row = t->cells + i * (size_t)t->columns;
        if (o->sigma.count)
            kernel_row(row, &p, at->items[i]);
        else
            status = oscillator_row(row, o->zeta, at->items[i], err);
    }
    return status;
}

static void print_csv(const struct table *t) {
    for (int c = 0; c < t->columns; c++) printf("%s%s", c ? "," : "", t->names[c]);
    putchar('\n');
    for (size_t i = 0; i < t->rows; i++) {
        for (int c = 0; c < t->columns; c++) {
            const double cell = t->cells[i * (size_t)t->columns + (size_t)c];
            if (isnan(cell))
                printf("%snan", c ? "," : "");
            else
                printf("%s%.17g", c ? "," : "", cell);
        }
        putchar('\n');
    }
}

static fdm_status print_json(const struct table *t, const struct process_options *o, fdm_error *err) {
    json_t *rows = json_array();
    bool complete = rows != NULL;
    for (size_t i = 0; i < t->rows && complete; i++) {
        json_t *row = json_object();
        for (int c = 0; c < t->columns && complete; c++) {
            const double cell = t->cells[i * (size_t)t->columns + (size_t)c];
            complete = json_object_set_new(row, t->names[c], isfinite(cell) ? json_real(cell) : json_null()) == 0;
        }
        complete = json_array_append_new(rows, row) == 0 && complete;
    }
    json_t *root = o->sigma.count ? json_pack("{s:s, s:f, s:f, s:o}", "precond", precond_names[o->precond], "fdm_multiplier",
                                              o->fdm_multiplier, "zeta", o->zeta, "rows", rows)
                                  : json_pack("{s:f, s:f, s:o}", "zeta", o->zeta, "g", 2 * sqrt(o->zeta), "rows", rows);
    char *text = root && complete ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    if (!text) return fdm_fail_oom(err, "JSON", 0);
    puts(text);
    free(text);
    return FDM_OK;
}

/* The table's columns as curves over its first. */
static fdm_status plot_table(struct fdm_figure **out, const struct table *t, const struct process_options *o, fdm_error *err) {
    const bool kernel = o->sigma.count > 0;
    char title[96];
    if (kernel)
        snprintf(title, sizeof title, "Kernel of %s, m = %g, ζ = %g", precond_names[o->precond], o->fdm_multiplier, o->zeta);
    else
        snprintf(title, sizeof title, "Oscillator, damping ζ = %g", o->zeta);
    fdm_status status = fdm_figure_start(out, title, 1, 1, err);
    if (status != FDM_OK) return status;
    struct fdm_figure *f = *out;
    struct fdm_panel *p = fdm_figure_panel(f, 0, "", kernel ? "σ" : "τ", "");
    f->panel_width = 460, f->panel_height = 300;
    p->legend = true, p->xlog = kernel;
    double *x = fdm_figure_numbers(f, t->rows);
    for (size_t i = 0; x && i < t->rows; i++) x[i] = t->cells[i * (size_t)t->columns];
    for (int c = kernel ? 3 : 1; c < t->columns - kernel; c++) { /* s, c_skip, c_out, c_in; or all */
        struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_POINTS, t->names[c], c - 1, x, t->rows);
        for (size_t i = 0; s && i < t->rows; i++) s->y[i] = t->cells[i * (size_t)t->columns + (size_t)c];
    }
    return FDM_OK;
}

static fdm_status run_table(const struct process_options *o, fdm_error *err) {
    struct table table = {0};
    struct fdm_figure *figure = NULL;
    fdm_status status = make_table(&table, o, err);
    if (status == FDM_OK && o->plot) status = plot_table(&figure, &table, o, err);
    if (status == FDM_OK && o->plot) status = fdm_figure_draw(figure, o->plot, err);
    if (status == FDM_OK && o->json) status = print_json(&table, o, err);
    else if (status == FDM_OK) print_csv(&table);
    fdm_figure_free(figure);
    free(table.cells);
    return status;
}

/* ---- Figures ------------------------------------------------------------------------------------------------ */

fdm_status fdm_figure_start(struct fdm_figure **out, const char *title, int rows, int columns, fdm_error *err) {
    *out = fdm_figure_new(title, rows, columns);
    return *out ? FDM_OK : fdm_fail_oom(err, "figure", sizeof **out);
}

static fdm_status run_figure(const struct fdm_cli *cli, const struct process_options *o, fdm_error *err) {
    struct fdm_figure *figure = NULL;
    fdm_status status = builders[o->figure < 0 ? 0 : o->figure](&figure, o, cli, err);
    if (status == FDM_OK && o->plot)
        status = fdm_figure_draw(figure, o->plot, err);
    else if (status == FDM_OK)
        status = fdm_figure_print(figure, o->json, err);
    fdm_figure_free(figure);
    return status;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct process_options *o = values;
    const bool table = o->sigma.count || o->tau.count;
    if (o->sigma.count && o->tau.count)
        return fdm_fail(err, FDM_BAD_USAGE, "--sigma and --tau ask for two different tables; give one");
    if (table && o->figure >= 0)
        return fdm_fail(err, FDM_BAD_USAGE, "--figure goes without --sigma and --tau; --plot alone draws their table");
    if (!table && o->figure < 0 && !o->plot)
        return fdm_fail(err, FDM_BAD_USAGE, "nothing asked for: give --sigma, --tau, --figure or --plot; see fdm help process");
    const fdm_status status = o->plot ? fdm_figure_can_draw(o->plot, err) : FDM_OK;
    if (status != FDM_OK) return status;
    return table ? run_table(o, err) : run_figure(cli, o, err);
}

#define FIGURE_LINE(name, text) "  " #name ": " text "\n"
const struct fdm_command fdm_cmd_process = {
    .name = "process",
    .arguments = "",
    .summary = "the diffusion process as numbers and pictures",
    .description =
        "--sigma: a table of sigma, t, B, s, c_skip, c_out, c_in, c_noise of a framework's kernel x_t = s (x0 + sigma eps),\n"
        "t being the kernel's time and B its clock (NaN where the framework has none).\n"
        "--tau: a table of the damped oscillator dx = v dtau, dv = -(x + 2 zeta v) dtau + g dW from x = 1 at rest, with\n"
        "g = 2 sqrt(zeta): mean_x, mean_v, cov_xx, cov_xv, cov_vv, and the impulse response h.  17 digits, all in f64.\n"
        "--figure: pictures of the method (--plot), or the numbers in them:\n" FDM_FIGURES(FIGURE_LINE)
        "src/process/README.md goes through the method in ten steps.",
    .examples = "  fdm process --precond fdm_edm --fdm_multiplier 2 --sigma 0.002,0.5,80\n"
                "  fdm process --zeta 0.5 --tau 0.1,1,10 --json\n"
                "  fdm process --figure phase --plot phase.svg\n"
                "  fdm process --figure strip --image data/emoji32.zip --index 12 --plot strip.png\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
