/* scaled_heun.c - Heun's method on the probability-flow ODE of x_t = s(sigma) (x0 + sigma eps): what FDM's scale does to a
 * sampler that steps x_t itself; and mixtures as denoisers. */
#include <math.h>

#include "base/base.h"
#include "fdm/simulate.h"

static fdm_status denoise(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err) {
    const fdm_mixture *m = ctx;
    (void)err;
#pragma omp parallel for schedule(static) if (n >= 1024)
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)i * (size_t)m->dim;
        fdm_mixture_denoise(D + at, m, x + at, sigma);
    }
    return FDM_OK;
}

fdm_denoise_fn fdm_mixture_denoiser(const fdm_mixture *m, int n) {
    union { /* only read through ctx */
        const void *in;
        void *out;
    } ctx = {m};
    return (fdm_denoise_fn){denoise, ctx.out, 0, INFINITY, n, 1, 1, m->dim};
}

struct scale {
    double s, slope; /* s(sigma) and s'/s */
};

/* s = (1 + tau) e^-tau with tau = m B(t'), t' linear in sigma: s'/s = -tau/(1 + tau) dtau/dsigma. */
static struct scale scale_at(const fdm_scaled_heun *o, double sigma) {
    if (o->m == 0) return (struct scale){1, 0};
    const double range = o->t_sigma_max - o->t_sigma_min, t = fdm_kernel_time(sigma, o->t_sigma_min, o->t_sigma_max);
    const double tau = o->m * fdm_clock(t, FDM_BETA_D, FDM_BETA_MIN);
    const double rate = o->m * (FDM_BETA_MIN + FDM_BETA_D * t) / range;
    return (struct scale){fdm_critical_mean(tau), -tau / (1 + tau) * rate};
}

/* slope = dx_t/dsigma; hat is scratch for x_t/s. */
static fdm_status slope_at(double *slope, double *hat, const double *x, size_t count, const fdm_denoise_fn *net,
                           const fdm_scaled_heun *o, double sigma, fdm_error *err) {
    const struct scale k = scale_at(o, sigma);
    for (size_t i = 0; i < count; i++) hat[i] = x[i] / k.s;
    const fdm_status status = net->call(net->ctx, net->n, slope, hat, sigma, err);
    if (status != FDM_OK) return status;
    for (size_t i = 0; i < count; i++) slope[i] = k.slope * x[i] + (x[i] - k.s * slope[i]) / sigma;
    return FDM_OK;
}

/* From sigma to next; the last step, to 0, is Euler's. */
static fdm_status heun_step(double *x, double *work, size_t count, const fdm_denoise_fn *net, const fdm_scaled_heun *o,
                            double sigma, double next, fdm_error *err) {
    double *first = work, *second = work + count, *tried = work + 2 * count, *hat = work + 3 * count;
    fdm_status status = slope_at(first, hat, x, count, net, o, sigma, err);
    if (status != FDM_OK) return status;
    for (size_t i = 0; i < count; i++) tried[i] = x[i] + (next - sigma) * first[i];
    if (next > 0) status = slope_at(second, hat, tried, count, net, o, next, err);
    for (size_t i = 0; i < count && status == FDM_OK; i++)
        x[i] = next > 0 ? x[i] + (next - sigma) * (0.5 * first[i] + 0.5 * second[i]) : tried[i];
    return status;
}

fdm_status fdm_sample_scaled_heun(double *x, const float *latents, const fdm_denoise_fn *net, const fdm_scaled_heun *o,
                                  fdm_error *err) {
    fdm_sample_options grid = fdm_sample_defaults();
    grid.num_steps = o->num_steps, grid.sigma_min = o->sigma_min, grid.sigma_max = o->sigma_max, grid.rho = o->rho;
    fdm_status status = fdm_sample_check(&grid, err);
    if (status != FDM_OK) return status;
    if (!(o->m >= 0 && isfinite(o->m) && (o->m == 0 || o->t_sigma_min < o->t_sigma_max)))
        return fdm_fail(err, FDM_BAD_USAGE, "m = %g on sigma from %g to %g: need m >= 0 and a range", o->m, o->t_sigma_min,
                        o->t_sigma_max);
    const size_t count = (size_t)net->n * (size_t)net->c * (size_t)net->h * (size_t)net->w;
    const size_t numbers = 4 * count + (size_t)o->num_steps + 1;
    double *work = fdm_malloc_aligned(numbers * sizeof *work), *sigma = work ? work + 4 * count : NULL;
    if (!work) return fdm_fail_oom(err, "sampler state", numbers * sizeof *work);
    status = fdm_edm_grid(sigma, &grid, net->sigma_min, net->sigma_max, err);
    for (size_t i = 0; i < count && status == FDM_OK; i++) x[i] = scale_at(o, sigma[0]).s * sigma[0] * (double)latents[i];
    for (int i = 0; i < o->num_steps && status == FDM_OK; i++)
        status = heun_step(x, work, count, net, o, sigma[i], sigma[i + 1], err);
    const double end = scale_at(o, 0).s; /* t' of sigma = 0 is a little below 0 */
    for (size_t i = 0; i < count && status == FDM_OK; i++) x[i] /= end;
    fdm_free_aligned(work);
    return status;
}
