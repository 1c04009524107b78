/* mixture.h - Gaussian mixtures: data whose denoiser, score and densities are known in closed form at every noise level,
 * under plain noise and under momentum diffusion.  What a sampler makes of them can be held against the truth.
 *
 *     p(x0) = sum_k w_k N(x0; mu_k, s_k^2 I),     x0 in R^dim
 *
 * with noise sigma:     p_sigma(x) = sum_k w_k N(x; mu_k, (s_k^2 + sigma^2) I),  gamma_k(x) = the share of k in it,
 *     denoiser          D(x; sigma) = E[x0 | x] = sum_k gamma_k (mu_k + s_k^2/(s_k^2 + sigma^2) (x - mu_k))
 *     score             grad ln p_sigma = (D - x)/sigma^2                                            (Tweedie)
 *
 * and for the state (x, v) of the oscillator at tau (process.h), started at x(0) = x0 and v(0) ~ N(0, gamma0):
 *     (x, v) | k ~ N(Phi (mu_k, 0)', Phi diag(s_k^2, gamma0) Phi' + Sigma),    for each coordinate alike.
 *
 * A mixture borrows its arrays; nothing to free.
 */
#ifndef FDM_MIXTURE_H
#define FDM_MIXTURE_H

#include <stddef.h>

#include "fdm/process.h"
#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FDM_MIXTURE_MAX = 64, FDM_MIXTURE_MAX_DIM = 4 };

typedef struct fdm_mixture {
    int count, dim;       /* components, 1..FDM_MIXTURE_MAX; 1..FDM_MIXTURE_MAX_DIM */
    const double *weight; /* (count), > 0, sum 1 */
    const double *mean;   /* (count, dim) */
    const double *std;    /* (count), >= 0 */
} fdm_mixture;

/* FDM_BAD_USAGE names what is wrong.  The functions below want a mixture that passes, and x: (dim). */
FDM_API fdm_status fdm_mixture_check(const fdm_mixture *m, fdm_error *err);

/* ln p_sigma(x); sigma >= 0 and, where some std is 0, > 0. */
FDM_API double fdm_mixture_log_density(const fdm_mixture *m, const double *x, double sigma);
/* D(x; sigma) and the score, (dim). */
FDM_API void fdm_mixture_denoise(double *D, const fdm_mixture *m, const double *x, double sigma);
FDM_API void fdm_mixture_score(double *score, const fdm_mixture *m, const double *x, double sigma);

/* The score of (x, v) with respect to v, and (unless NULL) E[x0 | x, v]; each (dim).  `o` is the oscillator at tau > 0 with
 * its noise, gamma0 the variance of v(0). */
FDM_API void fdm_mixture_state_score(double *score_v, double *D, const fdm_mixture *m, const double *x, const double *v,
                                     const fdm_oscillator *o, double gamma0);

/* A sample of x0 from a uniform number and `dim` standard normal ones. */
FDM_API void fdm_mixture_draw(double *x0, const fdm_mixture *m, double uniform, const double *normal);

/* ---- Distances ---- */

/* Along the unit vector `axis` (dim) the mixture is one of one dimension: its distribution function, and the quantiles
 * q[i] = F^-1((i + 1/2)/n). */
FDM_API double fdm_mixture_cdf(const fdm_mixture *m, const double *axis, double at);
FDM_API void fdm_mixture_quantiles(double *q, size_t n, const fdm_mixture *m, const double *axis);
/* Wasserstein-1 distance of n samples to the distribution of those quantiles: mean |x_(i) - q_i|, up to the grid of the
 * quantiles.  Sorts x. */
FDM_API double fdm_wasserstein(double *x, const double *q, size_t n);

#ifdef __cplusplus
}
#endif
#endif
