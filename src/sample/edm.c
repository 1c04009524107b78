/* edm.c - the EDM sampler (Karras et al., arXiv:2206.00364, algorithm 2) as published, and plain Euler. */
#include "sample/internal.h"

#include <math.h>

/* gamma of the step that starts at noise level t. */
static double churn(const fdm_sample_options *opt, double t) {
    if (!(opt->S_min <= t && t <= opt->S_max)) return 0;
    return fmin(opt->S_churn / opt->num_steps, sqrt(2.0) - 1);
}

/* x_hat = x + sqrt(t_hat^2 - t^2) S_noise noise, in place.  The noise is drawn in every step: a generator that goes
 * on after a step with gamma = 0 must be where the published program's is. */
static fdm_status add_noise(double *x, double *noise, fdm_sample_run *run, int step, double t, double t_hat,
                            fdm_error *err) {
    if (run->noise == NULL) {
        if (t_hat == t) return FDM_OK;
        return fdm_fail(err, FDM_BAD_USAGE, "S_churn = %g needs a source of noise", run->opt->S_churn);
    }
    fdm_status status = run->noise->draw(run->noise->ctx, noise, step, run->net->n, run->per_sample, err);
    if (status != FDM_OK || t_hat == t) return status;
    double scale = sqrt(t_hat * t_hat - t * t) * run->opt->S_noise;
    for (size_t i = 0; i < run->numel; i++) x[i] = x[i] + scale * noise[i];
    return FDM_OK;
}

/* One step from t[step] to t[step + 1].  x holds the state before and after; D, slope, x_next are scratch. */
static fdm_status edm_step(double *x, double *D, double *slope, double *x_next, fdm_sample_run *run,
                           const double *t, int step, fdm_error *err) {
    const double t_hat = t[step] + churn(run->opt, t[step]) * t[step], t_next = t[step + 1];
    fdm_status status = add_noise(x, D, run, step, t[step], t_hat, err); /* D is free until the network's call */
    if (status == FDM_OK) status = fdm_sample_denoise(run, D, x, t_hat, err);
    if (status != FDM_OK) return status;
    for (size_t i = 0; i < run->numel; i++) {
        slope[i] = (x[i] - D[i]) / t_hat; /* dx/dt = (x - D(x; t)) / t */
        x_next[i] = x[i] + (t_next - t_hat) * slope[i];
    }
    if (run->opt->solver == FDM_SOLVER_EULER || t_next == 0) {
        for (size_t i = 0; i < run->numel; i++) x[i] = x_next[i];
        return FDM_OK;
    }
    status = fdm_sample_denoise(run, D, x_next, t_next, err);
    if (status != FDM_OK) return status;
    for (size_t i = 0; i < run->numel; i++) {
        double slope_next = (x_next[i] - D[i]) / t_next;
        x[i] = x[i] + (t_next - t_hat) * (0.5 * slope[i] + 0.5 * slope_next);
    }
    return FDM_OK;
}

fdm_status fdm_sample_edm(double *x, const float *latents, fdm_sample_run *run, fdm_error *err) {
    const int n = run->opt->num_steps;
    double *slab = NULL;
    double *t = fdm_malloc_aligned(((size_t)n + 1) * sizeof *t);
    fdm_status status = t ? FDM_OK : fdm_fail_oom(err, "noise levels", ((size_t)n + 1) * sizeof *t);
    if (status == FDM_OK) status = fdm_edm_grid(t, run->opt, run->net->sigma_min, run->net->sigma_max, err);
    if (status == FDM_OK) status = fdm_sample_buffers(&slab, run, 3, err);
    if (status != FDM_OK) goto done;
    for (size_t i = 0; i < run->numel; i++) x[i] = (double)latents[i] * t[0];
    for (int step = 0; step < n && status == FDM_OK; step++)
        status = edm_step(x, slab, slab + run->numel, slab + 2 * run->numel, run, t, step, err);
done:
    fdm_free_aligned(slab);
    fdm_free_aligned(t);
    return status;
}
