/* dpm_solver.c - DPM-Solver++ singlestep, data prediction, orders 1 to 3 (Lu et al., arXiv:2211.01095) as the
 * published program runs it: sigma as time, alpha = 1, lambda = -ln sigma (SPEC 6).
 *
 * The exact solution over a step from s to t, h = lambda_t - lambda_s, is
 *     x_t = (sigma_t/sigma_s) x_s + sigma_t int_{lambda_s}^{lambda_t} e^lambda D(lambda) dlambda;
 * order k replaces D by a Taylor polynomial of degree k - 1 whose derivatives come from D at inner points
 * lambda_s + r1 h, lambda_s + r2 h.  Levels, lambdas and coefficients are f32 as published, x and D f64. */
#include "sample/internal.h"

#include <math.h>

static float log_snr(float sigma) {
    return -(float)log((double)sigma);
}
static float sigma_of(float lambda) {
    return (float)exp(-(double)lambda);
}
static float expm1_f32(float x) {
    return (float)expm1((double)x);
}

/* out = a x + b D + c (D1 - D), term by term in the published order. */
static void combine(double *out, const fdm_sample_run *run, const double *x, double a, const double *D, double b,
                    const double *D1, double c) {
    for (size_t i = 0; i < run->numel; i++) {
        double y = a * x[i] + b * D[i];
        out[i] = D1 ? y + c * (D1[i] - D[i]) : y;
    }
}

/* Scratch of a step: denoised at s and at an inner point, and the inner point. */
typedef struct dpm_scratch {
    double *D, *D_inner, *x_inner;
} dpm_scratch;

/* One step of `order` from sigma_s to sigma_t, x in place. */
static fdm_status dpm_step(double *x, const dpm_scratch *b, fdm_sample_run *run, int order, float sigma_s,
                           float sigma_t, fdm_error *err) {
    float inner[4]; /* the inner grid: order + 1 levels uniform in lambda, taken there and back through sigma */
    fdm_dpm_grid(inner, sigma_s, sigma_t, order);
    const float inner_first = log_snr(inner[0]), inner_h = log_snr(inner[order]) - inner_first;
    const float lambda_s = log_snr(sigma_s), h = log_snr(sigma_t) - lambda_s, phi1 = expm1_f32(-h);
    if (!(h > 0 && inner_h > 0))
        return fdm_fail(err, FDM_BAD_USAGE,
                        "steps = %d: too many from sigma %g to %g, neighbouring levels agree in f32",
                        run->opt->num_steps, run->opt->sigma_max, run->opt->sigma_min);

    fdm_status status = fdm_sample_denoise(run, b->D, x, sigma_s, err);
    if (status != FDM_OK) return status;
    if (order == 1) {
        combine(x, run, x, sigma_t / sigma_s, b->D, -phi1, NULL, 0);
        return FDM_OK;
    }
    const float r1 = (log_snr(inner[1]) - inner_first) / inner_h;
    const float sigma_1 = sigma_of(lambda_s + r1 * h);
    combine(b->x_inner, run, x, sigma_1 / sigma_s, b->D, -expm1_f32(-r1 * h), NULL, 0);
    status = fdm_sample_denoise(run, b->D_inner, b->x_inner, sigma_1, err);
    if (status != FDM_OK) return status;
    if (order == 2) {
        combine(x, run, x, sigma_t / sigma_s, b->D, -phi1, b->D_inner, -(0.5f / r1 * phi1));
        return FDM_OK;
    }
    const float r2 = (log_snr(inner[2]) - inner_first) / inner_h;
    const float sigma_2 = sigma_of(lambda_s + r2 * h), phi12 = expm1_f32(-r2 * h);
    const float phi22 = phi12 / (r2 * h) + 1.0f;
    combine(b->x_inner, run, x, sigma_2 / sigma_s, b->D, -phi12, b->D_inner, r2 / r1 * phi22);
    status = fdm_sample_denoise(run, b->D_inner, b->x_inner, sigma_2, err);
    if (status != FDM_OK) return status;
    combine(x, run, x, sigma_t / sigma_s, b->D, -phi1, b->D_inner, 1.0f / r2 * (phi1 / h + 1.0f));
    return FDM_OK;
}

fdm_status fdm_sample_dpm(double *x, const float *latents, fdm_sample_run *run, fdm_error *err) {
    const fdm_sample_options *opt = run->opt;
    const int count = fdm_dpm_step_count(opt->num_steps);
    const size_t grid_bytes = ((size_t)count + 1) * sizeof(float), order_bytes = (size_t)count * sizeof(int);
    double *slab = NULL;
    float *t = fdm_malloc_aligned(grid_bytes);
    int *orders = fdm_malloc_aligned(order_bytes);
    fdm_status status = t && orders ? FDM_OK : fdm_fail_oom(err, "noise levels", grid_bytes + order_bytes);
    if (status == FDM_OK) status = fdm_sample_buffers(&slab, run, 3, err);
    if (status != FDM_OK) goto done;
    const dpm_scratch scratch = {slab, slab + run->numel, slab + 2 * run->numel};
    fdm_dpm_orders(orders, opt->num_steps);
    fdm_dpm_grid(t, (float)opt->sigma_max, (float)opt->sigma_min, count);
    for (size_t i = 0; i < run->numel; i++) x[i] = (double)latents[i] * opt->sigma_max;
    for (int i = 0; i < count && status == FDM_OK; i++)
        status = dpm_step(x, &scratch, run, orders[i], t[i], t[i + 1], err);
    if (status == FDM_OK) status = fdm_sample_denoise(run, slab, x, (float)opt->sigma_min, err);
    for (size_t i = 0; i < run->numel && status == FDM_OK; i++) x[i] = slab[i]; /* "denoise to zero" */
done:
    fdm_free_aligned(slab);
    fdm_free_aligned(orders);
    fdm_free_aligned(t);
    return status;
}
