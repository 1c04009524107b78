/* reverse.c - from noise back to a Gaussian mixture, whose scores are exact: momentum diffusion and plain diffusion as
 * stochastic equations run backward, by the same symmetric splitting (for CLD: "SSCS", arXiv:2112.07068, section 3.3). */
#include <math.h>

#include "base/base.h"
#include "base/threads.h"
#include "simulate/internal.h"

/* One step, from `late` down by h: everything about it that no particle changes. */
struct reverse_step {
    double h;
    fdm_step half;         /* with momentum: the oscillator over h/2 */
    fdm_oscillator middle; /* and at the step's middle */
    double keep, spread;   /* without: e^(-h/2), sqrt(1 - e^(-h)) */
    double scale, sigma;   /* at the middle: x = scale (x0 + sigma eps) */
};

struct reverse {
    const fdm_mixture *m;
    const fdm_reverse *options;
    struct reverse_step *steps; /* (num_steps) */
    struct reverse_step last;   /* at tau_min: for the final guess */
};

/* x = e^-tau (x0 + sigma eps) with sigma^2 = e^(2 tau) - 1. */
static void plain_kernel(struct reverse_step *s, double tau) {
    s->scale = exp(-tau);
    s->sigma = sqrt(expm1(2 * tau));
}

static fdm_status prepare_step(struct reverse_step *s, const fdm_reverse *o, double late, double early, fdm_error *err) {
    const double g = 2 * sqrt(o->zeta), middle = 0.5 * (late + early);
    s->h = late - early;
    s->keep = exp(-0.5 * s->h);
    s->spread = sqrt(-expm1(-s->h));
    plain_kernel(s, middle);
    if (!o->momentum) return FDM_OK;
    const fdm_status status = fdm_scheme_step(&s->half, FDM_SCHEME_EXACT, o->zeta, g, 0.5 * s->h, err);
    return status == FDM_OK ? fdm_oscillator_at(&s->middle, o->zeta, middle, g, err) : status;
}

/* tau_0 = tau_end > ... > tau_N = tau_min. */
static double grid(const fdm_reverse *o, int i) {
    if (i == o->num_steps) return o->tau_min;
    const double from = pow(o->tau_end, 1 / o->rho), to = pow(o->tau_min, 1 / o->rho);
    return pow(from + (double)i / o->num_steps * (to - from), o->rho);
}

static fdm_status prepare(struct reverse *r, fdm_error *err) {
    const fdm_reverse *o = r->options;
    fdm_status status = FDM_OK;
    for (int i = 0; i < o->num_steps && status == FDM_OK; i++)
        status = prepare_step(&r->steps[i], o, grid(o, i), grid(o, i + 1), err);
    if (status == FDM_OK) status = prepare_step(&r->last, o, o->tau_min, o->tau_min, err);
    return status;
}

/* ---- With momentum: dx = -v ds, dv = (x + 2 zeta v + g^2 score_v) ds + g dW, s running against tau ---- */

/* With the stationary score -v in place of score_v this is the oscillator itself after v -> -v. */
static void momentum_half(double *x, double *v, const fdm_step *s, const double *z, int dim) {
    for (int d = 0; d < dim; d++) {
        const double was_x = x[d], was_v = -v[d];
        x[d] += s->xx * was_x + s->xv * was_v + s->px * z[2 * d];
        v[d] = -(was_v + s->vx * was_x + s->vv * was_v + s->pv * z[2 * d] + s->qv * z[2 * d + 1]);
    }
}

static void momentum_particle(double *x, const struct reverse *r, uint32_t number) {
    const fdm_reverse *o = r->options;
    const int dim = r->m->dim;
    double z[4 * FDM_MIXTURE_MAX_DIM], v[FDM_MIXTURE_MAX_DIM], score[FDM_MIXTURE_MAX_DIM];
    fdm_draw_normals(z, 2 * dim, o->seed, number, 0, FDM_DRAW_START);
    for (int d = 0; d < dim; d++) x[d] = z[2 * d], v[d] = z[2 * d + 1];
    for (int i = 0; i < o->num_steps; i++) {
        const struct reverse_step *s = &r->steps[i];
        fdm_draw_normals(z, 4 * dim, o->seed, number, (uint32_t)i, FDM_DRAW_REVERSE);
        momentum_half(x, v, &s->half, z, dim);
        fdm_mixture_state_score(score, NULL, r->m, x, v, &s->middle, o->gamma0);
        for (int d = 0; d < dim; d++) v[d] += 4 * o->zeta * s->h * (score[d] + v[d]);
        momentum_half(x, v, &s->half, z + 2 * dim, dim);
    }
    double guess[FDM_MIXTURE_MAX_DIM];
    fdm_mixture_state_score(score, guess, r->m, x, v, &r->last.middle, o->gamma0);
    for (int d = 0; d < dim; d++) x[d] = guess[d];
}

/* ---- Without: dx = (x + 2 score) ds + sqrt(2) dW ---- */

static void plain_particle(double *x, const struct reverse *r, uint32_t number) {
    const fdm_reverse *o = r->options;
    const int dim = r->m->dim;
    double z[2 * FDM_MIXTURE_MAX_DIM], hat[FDM_MIXTURE_MAX_DIM], score[FDM_MIXTURE_MAX_DIM];
    fdm_draw_normals(x, dim, o->seed, number, 0, FDM_DRAW_START);
    for (int i = 0; i < o->num_steps; i++) {
        const struct reverse_step *s = &r->steps[i];
        fdm_draw_normals(z, 2 * dim, o->seed, number, (uint32_t)i, FDM_DRAW_REVERSE);
        for (int d = 0; d < dim; d++) {
            x[d] = s->keep * x[d] + s->spread * z[d];
            hat[d] = x[d] / s->scale;
        }
        fdm_mixture_score(score, r->m, hat, s->sigma);
        for (int d = 0; d < dim; d++) {
            x[d] += 2 * s->h * (score[d] / s->scale + x[d]);
            x[d] = s->keep * x[d] + s->spread * z[dim + d];
        }
    }
    for (int d = 0; d < dim; d++) hat[d] = x[d] / r->last.scale;
    fdm_mixture_denoise(x, r->m, hat, r->last.sigma);
}

static fdm_status check(const fdm_reverse *o, const fdm_mixture *m, size_t n, fdm_error *err) {
    const fdm_status status = fdm_mixture_check(m, err);
    if (status != FDM_OK) return status;
    if (o->num_steps < 1 || o->num_steps > FDM_MAX_STEPS)
        return fdm_fail(err, FDM_BAD_USAGE, "%d steps: need 1 to %d", o->num_steps, (int)FDM_MAX_STEPS);
    if (!(o->tau_min > 0 && o->tau_min < o->tau_end && isfinite(o->tau_end) && o->rho > 0))
        return fdm_fail(err, FDM_BAD_USAGE, "tau from %g to %g, rho %g: need 0 < tau_min < tau_end, rho > 0", o->tau_min,
                        o->tau_end, o->rho);
    if (o->momentum && !(o->zeta > 0 && isfinite(o->zeta) && o->gamma0 >= 0 && isfinite(o->gamma0)))
        return fdm_fail(err, FDM_BAD_USAGE, "zeta = %g, gamma0 = %g: need zeta > 0, gamma0 >= 0", o->zeta, o->gamma0);
    if (n > UINT32_MAX) return fdm_fail(err, FDM_BAD_USAGE, "%zu samples: a stream has 2^32", n);
    return FDM_OK;
}

static void run_particles(double *x, size_t n, const struct reverse *r, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        double *mine = x + i * (size_t)r->m->dim;
        if (r->options->momentum)
            momentum_particle(mine, r, (uint32_t)i);
        else
            plain_particle(mine, r, (uint32_t)i);
    }
}

fdm_status fdm_reverse_sample(double *x, size_t n, const fdm_mixture *m, const fdm_reverse *options, fdm_error *err) {
    struct reverse r = {.m = m, .options = options};
    fdm_status status = check(options, m, n, err);
    if (status != FDM_OK) return status;
    const size_t bytes = (size_t)options->num_steps * sizeof *r.steps;
    r.steps = fdm_malloc_aligned(bytes);
    if (!r.steps) return fdm_fail_oom(err, "steps", bytes);
    status = prepare(&r, err);
    if (status == FDM_OK) run_particles(x, n, &r, options->threads > 0 ? options->threads : fdm_max_threads());
    fdm_free_aligned(r.steps);
    return status;
}
