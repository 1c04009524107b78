/* internal.h - what the solvers share. */
#ifndef FDM_SAMPLE_INTERNAL_H
#define FDM_SAMPLE_INTERNAL_H

#include "base/base.h"
#include "fdm/sample.h"

/* One run of a solver. */
typedef struct fdm_sample_run {
    const fdm_denoise_fn *net;
    const fdm_noise_fn *noise;   /* or NULL */
    const fdm_sample_hook *hook; /* or NULL */
    const fdm_sample_options *opt;
    size_t per_sample, numel; /* c h w, n c h w */
    int call, calls;          /* made so far, in all */
} fdm_sample_run;

/* D = D(x; sigma), then the hook. */
fdm_status fdm_sample_denoise(fdm_sample_run *run, double *D, const double *x, double sigma, fdm_error *err);
/* `count` buffers of numel doubles in one allocation (fdm_free_aligned). */
fdm_status fdm_sample_buffers(double **slab, const fdm_sample_run *run, size_t count, fdm_error *err);

/* Each turns latents into x, both (n, c, h, w). */
fdm_status fdm_sample_edm(double *x, const float *latents, fdm_sample_run *run, fdm_error *err);
fdm_status fdm_sample_dpm(double *x, const float *latents, fdm_sample_run *run, fdm_error *err);
fdm_status fdm_sample_multistep(double *x, const float *latents, fdm_sample_run *run, fdm_error *err);

#endif
