/* sample.h - from noise to images: ODE and SDE solvers over any denoiser D(x; sigma)  (SPEC 6).
 *
 *   edm    Heun's method on the EDM noise grid, with optional churn; the published default.  2N - 1 calls of D.
 *   euler  the same loop without Heun's correction.  N calls.
 *   dpm    DPM-Solver++ singlestep, orders up to 3, uniform in lambda = -ln sigma, then D at sigma_min.  N calls.
 *   dpm2m, dpm3m   DPM-Solver++ multistep of order 2 and 3 on the same kind of grid.  N calls.
 *
 * with N = num_steps >= 2.  The state x is f64, as published; D computes in whatever precision it has.
 * The published program applies its DPM option to the first batch only and silently samples the others with
 * the EDM sampler; here a solver is used for every batch.
 *
 * Nothing here knows of networks: a denoiser is a function pointer.  Example, a Gaussian data distribution:
 *
 *     static fdm_status gauss(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err)
 *     {
 *         double var = *(double *)ctx;
 *         for (int i = 0; i < n * 3 * 32 * 32; i++) D[i] = x[i] * var / (var + sigma * sigma);
 *         return FDM_OK;
 *     }
 *     ...
 *     double var = 0.25, x[3 * 32 * 32];
 *     float latent[3 * 32 * 32];
 *     uint8_t pixels[32 * 32 * 3];
 *     uint64_t seed = 42;
 *     fdm_rng rng;
 *     fdm_denoise_fn net = {gauss, &var, 0, INFINITY, 1, 3, 32, 32};
 *     fdm_noise_rngs noise_rngs = {&rng};
 *     fdm_noise_fn noise = {fdm_noise_from_rngs, &noise_rngs};
 *     fdm_sample_options opt = fdm_sample_defaults();
 *     fdm_sample_seed_rngs(&rng, FDM_RNG_TORCH_CPU, &seed, 1);
 *     fdm_sample_draw_latents(latent, NULL, &rng, 1, 3 * 32 * 32, 0);
 *     fdm_status status = fdm_sample(x, NULL, latent, &net, &noise, NULL, &opt, &err);
 *     if (status == FDM_OK) fdm_pixels_from_x(pixels, x, 3, 32, 32);
 */
#ifndef FDM_SAMPLE_H
#define FDM_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "fdm/random.h"
#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator, command-line name) */
#define FDM_SOLVERS(X)                                                                                             \
    X(FDM_SOLVER_EDM, "edm")                                                                                       \
    X(FDM_SOLVER_EULER, "euler")                                                                                   \
    X(FDM_SOLVER_DPM, "dpm")                                                                                       \
    X(FDM_SOLVER_DPM2M, "dpm2m")                                                                                   \
    X(FDM_SOLVER_DPM3M, "dpm3m")

typedef enum fdm_solver {
#define FDM_SOLVER_ENUM(e, name) e,
    FDM_SOLVERS(FDM_SOLVER_ENUM)
#undef FDM_SOLVER_ENUM
        FDM_SOLVER_COUNT
} fdm_solver;

/* "edm", ...; "?" otherwise. */
FDM_API const char *fdm_solver_name(fdm_solver solver);
/* FDM_BAD_USAGE, *solver untouched, for another name. */
FDM_API fdm_status fdm_solver_find(fdm_solver *solver, const char *name, fdm_error *err);

enum { FDM_MAX_STEPS = 1000000 };

/* The options of the published command, same names and defaults. */
typedef struct fdm_sample_options {
    fdm_solver solver;           /* edm */
    int num_steps;               /* 18; 2..FDM_MAX_STEPS (the published program divides by N - 1) */
    double sigma_min, sigma_max; /* 0.002, 80; edm and euler clip them to the network's range, dpm* do not */
    double rho;                  /* 7: grid exponent of edm and euler, > 0 */
    double S_churn; /* 0: strength of the stochasticity of edm and euler; gamma = min(S_churn/N, sqrt(2) - 1) */
    double S_min, S_max; /* 0, infinity: gamma = 0 outside this range of sigma */
    double S_noise;      /* 1: inflation of the added noise */
} fdm_sample_options;

FDM_API fdm_sample_options fdm_sample_defaults(void);
/* FDM_BAD_USAGE names the first option that is NaN, out of range or in conflict with another. */
FDM_API fdm_status fdm_sample_check(const fdm_sample_options *opt, fdm_error *err);
/* Calls of D that these (valid) options make. */
FDM_API int fdm_sample_nfe(const fdm_sample_options *opt);

/* ---- What the sampler calls ---- */

/* A denoiser: D = D(x; sigma) for n samples at one sigma; x, D: (n, c, h, w) f64, not overlapping, sigma > 0.
 * A status other than FDM_OK ends the sampling with that status. */
typedef struct fdm_denoise_fn {
    fdm_status (*call)(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err);
    void *ctx;
    double sigma_min, sigma_max; /* the network's range (fdm_precond's), e.g. 0 and infinity */
    int n, c, h, w;              /* samples in this run, channels, height, width; all > 0 */
} fdm_denoise_fn;

/* A source of standard normal noise for edm and euler: fills noise (n, per_sample) for step 0, 1, ...
 * Called once in every step, even where gamma = 0, as published. */
typedef struct fdm_noise_fn {
    fdm_status (*draw)(void *ctx, double *noise, int step, int n, size_t per_sample, fdm_error *err);
    void *ctx;
} fdm_noise_fn;

/* What happened: one call of D. */
typedef struct fdm_sample_event {
    int call, calls; /* this call, from 0, of how many */
    double sigma;    /* its noise level */
    const double *x; /* its input (n, c, h, w) */
    const double *D; /* its output (n, c, h, w) */
} fdm_sample_event;

/* Called after each call of D: progress, recording, cancelling (return FDM_INTERRUPTED; err is filled in if the
 * hook leaves it empty). */
typedef struct fdm_sample_hook {
    fdm_status (*call)(void *ctx, const fdm_sample_event *event, fdm_error *err);
    void *ctx;
} fdm_sample_hook;

/* ---- Sampling ---- */

/* Samples net->n images.
 * x: (n, c, h, w) f64, the result, about [-1, 1].  nfe: calls of D made, or NULL.  latents: (n, c, h, w) f32
 * standard normal.  noise may be NULL where no step has gamma > 0; hook may be NULL.  A sample's result
 * does not depend on the others in its batch if D's and the noise source's do not.
 * Errors: FDM_BAD_USAGE for options (fdm_sample_check, or an empty range after clipping, or a missing noise
 * source); FDM_NO_RESOURCE; FDM_INTERRUPTED from the hook; whatever the callbacks return. */
FDM_API fdm_status fdm_sample(double *x, int *nfe, const float *latents, const fdm_denoise_fn *net,
                              const fdm_noise_fn *noise, const fdm_sample_hook *hook, const fdm_sample_options *opt,
                              fdm_error *err);

/* The noise grid of edm and euler, N + 1 values in t, the last 0:
 *   t_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho
 * with the range clipped to [net_min, net_max].  FDM_BAD_USAGE as for fdm_sample, or if the grid does not decrease.
 */
FDM_API fdm_status fdm_edm_grid(double *t, const fdm_sample_options *opt, double net_min, double net_max,
                                fdm_error *err);

/* Outer steps K of singlestep DPM-Solver++ for N = num_steps >= 2: n = N - 1 calls of D and K = n/3 + 1 steps. */
FDM_API int fdm_dpm_step_count(int num_steps);
/* Their orders, K values: as many threes as fit, then what is left of n (n = 0 mod 3: 3..3,2,1; 1: 3..3,1;
 * 2: 3..3,2). */
FDM_API void fdm_dpm_orders(int *orders, int num_steps);
/* n + 1 noise levels in f32, uniform in lambda = -ln sigma from sigma_max to sigma_min, both included up to
 * rounding: the published time steps (n = K outer, n = order inner).  lambda_i = fma(i, step, lambda_0) in the
 * first half and fma(i - n, step, lambda_n) in the second, which is PyTorch's linspace on a GPU; its CPU version
 * differs in the last bit of lambda for n >= 15. */
FDM_API void fdm_dpm_grid(float *sigma, float sigma_max, float sigma_min, int n);

/* ---- Seeds: an image depends on its seed alone ---- */

/* rngs[i] seeded with seeds[i] mod 2^32, n of each. */
FDM_API void fdm_sample_seed_rngs(fdm_rng *rngs, fdm_rng_kind kind, const uint64_t *seeds, int n);
/* From each generator in turn: latents (n, per_sample) f32, then, if label_dim > 0, one class in [0, label_dim)
 * into labels (n).  labels may be NULL: the class is drawn all the same (an explicit class replaces it later, as
 * published, without moving the stream). */
FDM_API void fdm_sample_draw_latents(float *latents, int64_t *labels, fdm_rng *rngs, int n, size_t per_sample,
                                     int label_dim);

/* Noise sources: sample i's step noise from rngs[i], or recorded noise[step][i] of `steps` steps. */
typedef struct fdm_noise_rngs {
    fdm_rng *rngs; /* n of them, borrowed */
} fdm_noise_rngs;
typedef struct fdm_noise_array {
    const double *noise; /* (steps, n, per_sample), borrowed */
    int steps;
} fdm_noise_array;
FDM_API fdm_status fdm_noise_from_rngs(void *ctx, double *noise, int step, int n, size_t per_sample,
                                       fdm_error *err);
FDM_API fdm_status fdm_noise_from_array(void *ctx, double *noise, int step, int n, size_t per_sample,
                                        fdm_error *err);

/* ---- Pixels ---- */

/* hwc: (h, w, c) u8 from x: (c, h, w) f64: clip(x * 127.5 + 128, 0, 255), truncated; NaN becomes 0. */
FDM_API void fdm_pixels_from_x(uint8_t *hwc, const double *x, int c, int h, int w);

#ifdef __cplusplus
}
#endif
#endif
