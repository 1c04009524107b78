/* sample.c - runs a solver: checks, calls of the denoiser, scratch memory. */
#include "sample/internal.h"

#include <math.h>

fdm_status fdm_sample_denoise(fdm_sample_run *run, double *D, const double *x, double sigma, fdm_error *err) {
    fdm_status status = run->net->call(run->net->ctx, run->net->n, D, x, sigma, err);
    if (status != FDM_OK) return status;
    fdm_sample_event event = {run->call++, run->calls, sigma, x, D};
    if (run->hook == NULL) return FDM_OK;
    fdm_error own = {0};
    status = run->hook->call(run->hook->ctx, &event, &own);
    if (status == FDM_OK) return FDM_OK;
    if (own.message[0] != 0) return fdm_fail(err, status, "%s", own.message);
    return fdm_fail(err, status, "sampling stopped after call %d of %d", run->call, run->calls);
}

fdm_status fdm_sample_buffers(double **slab, const fdm_sample_run *run, size_t count, fdm_error *err) {
    size_t bytes;
    if (!fdm_mul_size(&bytes, run->numel, count * sizeof(double)))
        return fdm_fail(err, FDM_NO_RESOURCE, "a batch of %d samples is too large", run->net->n);
    *slab = fdm_malloc_aligned(bytes);
    return *slab ? FDM_OK : fdm_fail_oom(err, "sampler state", bytes);
}

/* n c h w, checked. */
static fdm_status count_elements(fdm_sample_run *run, fdm_error *err) {
    const fdm_denoise_fn *net = run->net;
    if (net->n < 1 || net->c < 1 || net->h < 1 || net->w < 1)
        return fdm_fail(err, FDM_BAD_USAGE, "cannot sample a batch of shape [%d, %d, %d, %d]", net->n, net->c,
                        net->h, net->w);
    size_t plane;
    if (fdm_mul_size(&plane, (size_t)net->h, (size_t)net->w) &&
        fdm_mul_size(&run->per_sample, plane, (size_t)net->c) &&
        fdm_mul_size(&run->numel, run->per_sample, (size_t)net->n))
        return FDM_OK;
    return fdm_fail(err, FDM_NO_RESOURCE, "a batch of shape [%d, %d, %d, %d] is too large", net->n, net->c, net->h,
                    net->w);
}

fdm_status fdm_sample(double *x, int *nfe, const float *latents, const fdm_denoise_fn *net,
                      const fdm_noise_fn *noise, const fdm_sample_hook *hook, const fdm_sample_options *opt,
                      fdm_error *err) {
    if (nfe) *nfe = 0;
    fdm_status status = fdm_sample_check(opt, err);
    if (status != FDM_OK) return status;
    fdm_sample_run run = {.net = net, .noise = noise, .hook = hook, .opt = opt, .calls = fdm_sample_nfe(opt)};
    status = count_elements(&run, err);
    if (status != FDM_OK) return status;
    switch (opt->solver) {
    case FDM_SOLVER_DPM:
        status = fdm_sample_dpm(x, latents, &run, err);
        break;
    case FDM_SOLVER_DPM2M:
    case FDM_SOLVER_DPM3M:
        status = fdm_sample_multistep(x, latents, &run, err);
        break;
    default: /* FDM_SOLVER_EDM, FDM_SOLVER_EULER */
        status = fdm_sample_edm(x, latents, &run, err);
    }
    if (nfe) *nfe = run.call;
    return status;
}
