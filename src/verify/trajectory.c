/* trajectory.c - a sampler's states: what each step adds to the error, and how much the steps after it amplify that.
 *
 * From the recorded state before (and, for Heun's correction, the recorded Euler prediction) each state is computed again
 * in f64; the distance is the step's own error, to be compared with that of the same step on an emulated network.  The
 * growth of a step is how its f64 map stretches a small disturbance along the error that it was handed.  Own errors,
 * stretched by all steps after them, predict the distance from an all-f64 run:  p' = sqrt((growth p)^2 + local^2).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/denoiser.h"
#include "verify/verify_internal.h"

struct trajectory {
    fdm_verify_report *report;
    const fdm_tensors *dump;
    const struct fdm_verify_run *run;
    const char *where;
    int64_t calls, n;
    size_t numel; /* of a state, (N, C, R, R) */
    double *x, *sigma, *labels; /* (calls, N, C, R, R), (calls), (N, label_dim) or NULL */
    double *x_final, *x_cur;    /* or NULL */
    int64_t cur_count;
    bool heun, euler; /* else only D_call can be verified */
    fdm_denoiser *truth, *emulated;
    double *sigmas; /* (N) */
    double *slab, *D, *D_emulated, *D_before, *D_emulated_before, *next, *free_x, *free_D, *free_before, *error, *moved, *free_start, *moved_D,
        *D1;
};

enum { BUFFERS = 13 };

/* ---- reading ---- */

static fdm_status read_states(struct trajectory *t, fdm_error *err) {
    const fdm_config *c = t->run->config;
    const fdm_tensor *states = fdm_tensors_find(t->dump, "x_call");
    const int64_t r = c->img_resolution;
    if (states->ndim != 5)
        return fdm_fail(err, FDM_BAD_INPUT, "%.200s: tensor \"x_call\" must be [calls,N,%d,%d,%d]", t->where, c->img_channels,
                        c->img_resolution, c->img_resolution);
    t->n = states->shape[1];
    if (t->n < 1 || t->n > 65536)
        return fdm_fail(err, FDM_BAD_INPUT, "%.200s: tensor \"x_call\" holds %lld samples; 1 to 65536 are possible", t->where,
                        (long long)t->n);
    const struct fdm_expected x = {"x_call", {0, t->n, c->img_channels, r, r}, 5, .required = true};
    const struct fdm_expected sigma = {"call_sigma", {0}, 1, .required = true, .trailing = true, .positive = true};
    const struct fdm_expected final = {"x_final", {0, c->img_channels, r, r}, 4, .repeat = false};
    const struct fdm_expected cur = {"x_cur", {0, t->n, c->img_channels, r, r}, 5, .repeat = false};
    const struct fdm_expected labels = {"class_labels", {0, c->label_dim}, 2, .repeat = true};
    fdm_status status = fdm_dump_read(&t->x, &t->calls, t->dump, t->where, &x, err);
    if (status == FDM_OK) status = fdm_dump_read(&t->sigma, &t->calls, t->dump, t->where, &sigma, err);
    if (status == FDM_OK) status = fdm_dump_read(&t->x_final, &t->n, t->dump, t->where, &final, err);
    if (status == FDM_OK) status = fdm_dump_read(&t->x_cur, &t->cur_count, t->dump, t->where, &cur, err);
    if (status == FDM_OK && c->label_dim) status = fdm_dump_read(&t->labels, &t->n, t->dump, t->where, &labels, err);
    t->numel = (size_t)t->n * (size_t)c->img_channels * (size_t)r * (size_t)r;
    return status;
}

static int64_t grid_count(const struct trajectory *t) {
    const fdm_tensor *grid = fdm_tensors_find(t->dump, "t_steps");
    const int64_t count = grid ? fdm_tensor_numel(grid) : 0;
    return count && fdm_tensor_get(grid, count - 1) == 0 ? count : 0; /* the grids of other solvers do not end in 0 */
}

/* Heun calls twice at each inner level, Euler once; without the grid the repeated levels tell. */
static void find_solver(struct trajectory *t) {
    const int64_t grid = grid_count(t);
    int64_t repeated = 0;
    for (int64_t k = 1; k + 1 < t->calls; k += 2) repeated += t->sigma[k] == t->sigma[k + 1];
    t->heun = t->calls % 2 == 1 && (grid ? t->calls == 2 * grid - 3 : t->calls > 1 && repeated == t->calls / 2);
    t->euler = !t->heun && grid && t->calls == grid - 1;
}

static fdm_status prepare(struct trajectory *t, fdm_error *err) {
    fdm_run_options how = t->run->how;
    size_t bytes;
    how.backend = "reference";
    fdm_status status = fdm_denoiser_create(&t->truth, t->run->config, t->run->model, t->run->where, &how, err);
    how.emulation = &t->report->emulation;
    if (status == FDM_OK) status = fdm_denoiser_create(&t->emulated, t->run->config, t->run->model, t->run->where, &how, err);
    if (status != FDM_OK) return status;
    if (!fdm_mul_size(&bytes, t->numel, BUFFERS * sizeof(double)) || !(t->slab = malloc(bytes)) ||
        !(t->sigmas = malloc((size_t)t->n * sizeof *t->sigmas)))
        return fdm_fail_oom(err, "states", t->numel);
    double **buffers[BUFFERS] = {&t->D, &t->D_emulated, &t->D_before, &t->D_emulated_before, &t->next, &t->free_x,
                                 &t->free_D, &t->free_before, &t->error, &t->moved, &t->free_start, &t->moved_D,
                                 &t->D1};
    for (size_t i = 0; i < BUFFERS; i++) *buffers[i] = t->slab + i * t->numel;
    return FDM_OK;
}

static void release(struct trajectory *t) {
    fdm_denoiser_free(&t->truth);
    fdm_denoiser_free(&t->emulated);
    free(t->x);
    free(t->sigma);
    free(t->labels);
    free(t->x_final);
    free(t->x_cur);
    free(t->slab);
    free(t->sigmas);
}

/* ---- arithmetic ---- */

static fdm_status denoise(struct trajectory *t, fdm_denoiser *d, double *D, const double *x, double sigma, fdm_error *err) {
    for (int64_t i = 0; i < t->n; i++) t->sigmas[i] = sigma;
    const fdm_denoise_args args = {.n = (int)t->n, .x = x, .sigma = t->sigmas, .class_labels = t->labels,
                                   .stop = t->run->options->stop, .stop_user = t->run->options->stop_user};
    return fdm_denoise(d, D, &args, err);
}

static double rms(const double *a, const double *b, size_t count) {
    double squares = 0;
    for (size_t i = 0; i < count; i++) squares += (a[i] - (b ? b[i] : 0)) * (a[i] - (b ? b[i] : 0));
    return sqrt(squares / (double)count);
}

/* x + (to - from) (x - D)/from */
static void euler_step(double *next, const double *x, const double *D, double from, double to, size_t count) {
    for (size_t i = 0; i < count; i++) next[i] = x[i] + (to - from) * (x[i] - D[i]) / from;
}

/* x + (to - from) ((x - D)/from + (x' - D')/to)/2 */
static void heun_step(double *next, const double *x, const double *D, const double *x1, const double *D1, double from, double to,
                      size_t count) {
    for (size_t i = 0; i < count; i++) next[i] = x[i] + (to - from) * (0.5 * (x[i] - D[i]) / from + 0.5 * (x1[i] - D1[i]) / to);
}

/* ---- one transition: from the recorded states to the state that call k + 1 starts from ---- */

static bool is_correction(const struct trajectory *t, int64_t k) { return t->heun && k % 2 == 1; }
static double sigma_after(const struct trajectory *t, int64_t k) {
    return is_correction(t, k) ? t->sigma[k] : k + 1 < t->calls ? t->sigma[k + 1] : 0;
}
static const double *state(const struct trajectory *t, int64_t k) { return t->x + (size_t)k * t->numel; }

/* The recorded state after call k, before noise is added to it; NULL if unknown. */
static const double *recorded(const struct trajectory *t, int64_t k) {
    const bool step_ends = t->euler || is_correction(t, k) || k + 1 == t->calls;
    const int64_t step = t->euler ? k + 1 : k / 2 + 1;
    if (step_ends && t->x_cur && step < t->cur_count) return t->x_cur + (size_t)step * t->numel;
    if (k + 1 == t->calls) return t->x_final;
    return step_ends && t->sigma[k + 1] != sigma_after(t, k) && is_correction(t, k) ? NULL : state(t, k + 1);
}

static void advance(const struct trajectory *t, double *next, const double *x, const double *D, const double *before,
                    const double *D_before, int64_t k) {
    if (is_correction(t, k)) heun_step(next, before, D_before, x, D, t->sigma[k - 1], t->sigma[k], t->numel);
    else euler_step(next, x, D, t->sigma[k], sigma_after(t, k), t->numel);
}

/* The step's map stretches a disturbance of x by: along `direction`, or all over if that is zero. */
static fdm_status measure_growth(struct trajectory *t, fdm_verify_step *s, int64_t k, const double *direction, fdm_error *err) {
    const double *x = state(t, k), size = rms(direction, NULL, t->numel), small = 1e-5 * rms(x, NULL, t->numel);
    for (size_t i = 0; i < t->numel; i++)
        t->moved[i] = x[i] + (size > 0 ? small / size * direction[i] : i * 2654435761u >> 7 & 1 ? small : -small);
    const double disturbance = rms(t->moved, x, t->numel);
    fdm_status status = denoise(t, t->truth, t->moved_D, t->moved, t->sigma[k], err);
    if (status != FDM_OK) return status;
    /* the whole step of Heun's method, so that growths multiply from step to step */
    const double to = sigma_after(t, k);
    double *plain = t->next, *changed = t->error;
    euler_step(changed, t->moved, t->moved_D, t->sigma[k], to, t->numel);
    euler_step(plain, x, t->D, t->sigma[k], to, t->numel);
    if (t->heun && to > 0) {
        status = denoise(t, t->truth, t->D1, changed, to, err);
        if (status == FDM_OK) heun_step(changed, t->moved, t->moved_D, changed, t->D1, t->sigma[k], to, t->numel);
        if (status == FDM_OK) status = denoise(t, t->truth, t->D1, plain, to, err);
        if (status == FDM_OK) heun_step(plain, x, t->D, plain, t->D1, t->sigma[k], to, t->numel);
    }
    s->growth = rms(changed, plain, t->numel) / disturbance;
    return status;
}

/* The all-f64 run beside it: its state after call k in free_x. */
static fdm_status advance_free(struct trajectory *t, int64_t k, fdm_error *err) {
    const bool correction = is_correction(t, k);
    double *D = correction ? t->free_D : t->free_before; /* free_start, free_before: x and D before the prediction */
    const fdm_status status = denoise(t, t->truth, D, t->free_x, t->sigma[k], err);
    if (status != FDM_OK) return status;
    if (correction) {
        heun_step(t->free_x, t->free_start, t->free_before, t->free_x, D, t->sigma[k - 1], t->sigma[k], t->numel);
        return FDM_OK;
    }
    memcpy(t->free_start, t->free_x, t->numel * sizeof(double));
    euler_step(t->free_x, t->free_start, D, t->sigma[k], sigma_after(t, k), t->numel);
    return FDM_OK;
}

/* What churn added to the recorded state is added to that of the free run, too. */
static void add_recorded_noise(struct trajectory *t, int64_t k, const double *seen) {
    if (k + 1 == t->calls) return;
    for (size_t i = 0; i < t->numel; i++) t->free_x[i] += state(t, k + 1)[i] - seen[i];
}

static fdm_status add_step(fdm_verify_report *r, const fdm_verify_step *s, fdm_error *err) {
    fdm_verify_step *steps = realloc(r->steps, (r->step_count + 1) * sizeof *steps);
    if (!steps) return fdm_fail_oom(err, "report", (r->step_count + 1) * sizeof *steps);
    r->steps = steps;
    steps[r->step_count++] = *s;
    return FDM_OK;
}

static fdm_status check_call(struct trajectory *t, int64_t k, fdm_error *err) {
    const fdm_tensor *D = fdm_tensors_find(t->dump, "D_call");
    struct fdm_tally tally = {0};
    char name[32];
    if (!D || fdm_tensor_numel(D) != t->calls * (int64_t)t->numel) return FDM_OK;
    double *seen = t->next;
    for (size_t i = 0; i < t->numel; i++) seen[i] = fdm_tensor_get(D, k * (int64_t)t->numel + (int64_t)i);
    const struct fdm_sample_values v = {.seen = seen, .truth = t->D, .emulated = t->D_emulated, .count = t->numel};
    fdm_tally_add(&tally, &v);
    snprintf(name, sizeof name, "D_call[%lld]", (long long)k);
    const struct fdm_item_spec spec = {.name = name, .module = "self", .local = &tally, .total = &tally, .floor = 0x1p-23};
    return fdm_verify_add_item(t->report, &spec, err);
}

static fdm_status check_transition(struct trajectory *t, int64_t k, double *predicted, fdm_error *err) {
    const fdm_verify_report *r = t->report;
    const double *seen = recorded(t, k);
    fdm_verify_step s = {.call = (int)k, .sigma = t->sigma[k], .growth = NAN, .total = NAN, .predicted = NAN, .verdict = FDM_VERIFY_PASS};
    fdm_status status = FDM_OK;
    if (seen) {
        advance(t, t->next, state(t, k), t->D, k ? state(t, k - 1) : NULL, t->D_before, k);
        s.local = rms(seen, t->next, t->numel);
        advance(t, t->error, state(t, k), t->D_emulated, k ? state(t, k - 1) : NULL, t->D_emulated_before, k);
        s.expected = fmax(rms(t->error, t->next, t->numel), 0.3 * 0x1p-24 * rms(t->next, NULL, t->numel));
        for (size_t i = 0; i < t->numel; i++) t->error[i] = seen[i] - t->next[i];
        if (!(s.local <= r->rms_limit * s.expected)) s.verdict = FDM_VERIFY_FAIL;
        if (!is_correction(t, k)) { /* the map of the whole step, along what it was handed */
            double *direction = malloc(t->numel * sizeof *direction);
            if (!direction) return fdm_fail_oom(err, "states", t->numel);
            for (size_t i = 0; i < t->numel; i++) direction[i] = state(t, k)[i] - t->free_x[i];
            status = measure_growth(t, &s, k, direction, err);
            free(direction);
        }
    }
    if (status == FDM_OK && isfinite(*predicted)) status = advance_free(t, k, err);
    if (!seen) *predicted = NAN; /* noise that is not recorded ends the comparison with a free run */
    if (isfinite(*predicted)) {
        const bool ends = !t->heun || is_correction(t, k) || k + 1 == t->calls;
        if (!is_correction(t, k)) *predicted *= s.growth;
        if (ends) s.predicted = *predicted = sqrt(*predicted * *predicted + s.local * s.local);
        if (ends) s.total = rms(seen, t->free_x, t->numel);
        if (ends) add_recorded_noise(t, k, seen);
    }
    return status == FDM_OK && seen ? add_step(t->report, &s, err) : status;
}

static fdm_status follow(struct trajectory *t, fdm_error *err) {
    double predicted = 0;
    fdm_status status = FDM_OK;
    memcpy(t->free_x, t->x, t->numel * sizeof(double));
    for (int64_t k = 0; k < t->calls && status == FDM_OK; k++) {
        memcpy(t->D_before, t->D, t->numel * sizeof(double));
        memcpy(t->D_emulated_before, t->D_emulated, t->numel * sizeof(double));
        status = denoise(t, t->truth, t->D, state(t, k), t->sigma[k], err);
        if (status == FDM_OK) status = denoise(t, t->emulated, t->D_emulated, state(t, k), t->sigma[k], err);
        if (status == FDM_OK) status = check_call(t, k, err);
        if (status == FDM_OK && (t->heun || t->euler)) status = check_transition(t, k, &predicted, err);
    }
    return status;
}

fdm_status fdm_verify_trajectory(fdm_verify_report *report, const fdm_tensors *dump, const char *dump_where,
                                 const struct fdm_verify_run *run, fdm_error *err) {
    struct trajectory t = {.report = report, .dump = dump, .run = run, .where = dump_where};
    if (!fdm_tensors_find(dump, "x_call")) return FDM_OK;
    fdm_status status = read_states(&t, err);
    if (status == FDM_OK) status = prepare(&t, err);
    if (status == FDM_OK) {
        memset(t.slab, 0, BUFFERS * t.numel * sizeof(double));
        find_solver(&t);
        status = follow(&t, err);
    }
    release(&t);
    return status;
}
