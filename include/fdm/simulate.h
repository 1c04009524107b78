/* simulate.h - momentum diffusion on many particles, forward and backward in time.
 *
 * Forward: any scheme of process.h over particles in f32, vectorised, with counter-based random numbers: what happens to a
 * particle depends on the seed, the stream and its number, not on threads, instruction set or the others' number.
 *
 *     double tau[65];                       // 64 steps along the clock, to tau = 4
 *     fdm_step steps[64];
 *     for (int k = 0; k <= 64; k++) tau[k] = k / 16.0;
 *     fdm_status status = fdm_scheme_steps(steps, tau, 64, FDM_SCHEME_SPLIT, 1, 2, &err);
 *     fdm_simulation run = {.steps = steps, .count = 64, .seed = 1};
 *     if (status == FDM_OK) status = fdm_simulate(x, v, n, &run, &err);      // x, v: n floats each, moved in place
 *
 * Backward: from the end of the process to data, for Gaussian mixtures (mixture.h), whose scores are exact.
 */
#ifndef FDM_SIMULATE_H
#define FDM_SIMULATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/mixture.h"
#include "fdm/process.h"
#include "fdm/sample.h"
#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FDM_SIMULATE_MAX_STEPS = 1 << 24 };

typedef struct fdm_simulation {
    const fdm_step *steps; /* (count), borrowed; rounded to f32 */
    int count;             /* 1..FDM_SIMULATE_MAX_STEPS */
    int refine; /* 0 or 1: one normal a step.  R: the Brownian path has R intervals in each step (schemes of one normal),
                   so that count steps with refine R and count R steps follow the same path: strong errors are differences */
    uint64_t seed;
    uint32_t stream;         /* another stream is independent: for going on with the same particles, count up */
    uint32_t first_particle; /* number of particle 0; first_particle + n <= 2^32 */
    int threads;             /* 0: as many as OpenMP would use */
    const char *isa;         /* NULL: FDM_ISA, else the best */
} fdm_simulation;

/* Moves n particles x, v (n) by all steps, in place.  Errors: FDM_BAD_USAGE, FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_simulate(float *x, float *v, size_t n, const fdm_simulation *run, fdm_error *err);

/* x, v (count, dim) drawn from a mixture, v with variance gamma0 (0: at rest); stream and numbers as above. */
FDM_API fdm_status fdm_simulate_start(float *x, float *v, size_t count, const fdm_mixture *m, double gamma0, uint64_t seed,
                                      fdm_error *err);

/* ---- Data perturbed by given noise, in f32 ---- */

typedef struct fdm_perturb_options {
    int threads;     /* 0: as many as OpenMP would use */
    const char *isa; /* NULL: FDM_ISA, else the best */
} fdm_perturb_options;

/* FDM's kernel on a batch: x_t = (x0 + sigma noise) s, all arrays (n, per_sample), sigma and s one a sample (n), s being
 * fdm_kernel_scale(sigma) or any framework's c_in.  Rounded as the published training loop is: noise sigma, sum, product. */
FDM_API fdm_status fdm_perturb(float *x_t, const float *x0, const float *noise, const float *sigma, const float *s, int n,
                               size_t per_sample, const fdm_perturb_options *options, fdm_error *err);
/* The oscillator's on n numbers: one step from x0 and v0 (NULL: at rest) with given normals; noise_v may be NULL if
 * step->qv is 0. */
FDM_API fdm_status fdm_perturb_state(float *x, float *v, const float *x0, const float *v0, const float *noise_x,
                                     const float *noise_v, const fdm_step *step, size_t n,
                                     const fdm_perturb_options *options, fdm_error *err);

/* ---- Reverse time ---- */

/* A mixture as a denoiser for fdm_sample: n samples of shape (1, 1, dim).  `m` is borrowed. */
FDM_API fdm_denoise_fn fdm_mixture_denoiser(const fdm_mixture *m, int n);

/* Heun's method on the probability-flow ODE in FDM's scaled variable x_t = s(sigma) (x0 + sigma eps),
 *     dx_t/dsigma = (s'/s) x_t + (x_t - s D(x_t/s; sigma))/sigma,
 * on the grid of fdm_edm_grid: what the EDM sampler would be if it stepped x_t instead of x_t/s.  (The published sampler
 * does not: it steps x_t/s, where s cancels but for what the network sees.)  m = 0: s = 1, the EDM sampler itself.
 * x (n, dim) f64, latents f32, 2N - 1 calls of D.  Errors: as fdm_sample. */
typedef struct fdm_scaled_heun {
    int num_steps;                            /* N >= 2 */
    double sigma_min, sigma_max, rho;         /* the grid */
    double m, t_sigma_min, t_sigma_max;       /* s(sigma): multiplier, and the range that t' maps to [0, 1] */
} fdm_scaled_heun;
FDM_API fdm_status fdm_sample_scaled_heun(double *x, const float *latents, const fdm_denoise_fn *net,
                                          const fdm_scaled_heun *options, fdm_error *err);

/* The diffusion run backward as an SDE with the exact score, from the stationary distribution at tau_end to tau_min, then
 * E[x0 | state].  Symmetric splitting: half a step of the process that is exact for Gaussian data of unit variance, a full
 * step of what the score differs from its, half a step.  Without momentum it is dx = -x dtau + sqrt(2) dW, time-reversed;
 * with momentum the oscillator of damping zeta and g = 2 sqrt(zeta). */
typedef struct fdm_reverse {
    bool momentum;
    double zeta;    /* > 0 */
    double gamma0;  /* variance of v(0), > 0 (CLD: 0.04) or 0: the score of a process started at rest */
    double tau_min, tau_end; /* 0 < tau_min < tau_end */
    int num_steps;           /* N >= 1, tau falling by the power `rho` as sigma does in fdm_edm_grid; N + 1 scores */
    double rho;
    uint64_t seed;
    int threads;
} fdm_reverse;
/* x (n, dim): samples of x0.  Errors: FDM_BAD_USAGE, FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_reverse_sample(double *x, size_t n, const fdm_mixture *m, const fdm_reverse *options,
                                      fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
