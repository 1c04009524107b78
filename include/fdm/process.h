/* process.h - the diffusion process in plain numbers, all in double.
 *
 * Momentum SGD on the diffusion objective, in the limit of small steps, is a damped oscillator in the
 * clock tau = m B(t) (paper arXiv:2306.06991; SPEC 1):
 *
 *     dx = v dtau,   dv = -(x + 2 zeta v) dtau + g dW,   x(0) = x0, v(0) = 0
 *
 * FDM uses the critically damped mean as the scale s of its perturbation kernel
 *
 *     x_t = s(sigma) (x0 + sigma eps),   s(sigma) = (1 + m B(t')) exp(-m B(t')),
 *     t'(sigma) = (sigma - sigma_min) / (sigma_max - sigma_min).
 *
 * The clock's constants are beta_d = 19.9 and beta_min = 0.1 as published.  In time t the same equation runs at the
 * rate m beta(t), beta = dB/dt: a step from t0 to t1 is a step of dtau = m (B(t1) - B(t0)), whatever beta does between.
 *
 * src/process/README.md goes from momentum SGD to this kernel in ten steps; simulate.h moves millions of particles.
 */
#ifndef FDM_PROCESS_H
#define FDM_PROCESS_H

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The published constants of the clock. */
#define FDM_BETA_D 19.9
#define FDM_BETA_MIN 0.1

/* The clock B(t) = beta_min t + beta_d t^2 / 2.  Any real t. */
FDM_API double fdm_clock(double t, double beta_d, double beta_min);

/* B(t1) - B(t0) = (t1 - t0) (beta_min + beta_d (t0 + t1)/2), without the cancellation of two readings. */
FDM_API double fdm_clock_between(double t0, double t1, double beta_d, double beta_min);
/* The t >= 0 at which the clock reads b >= 0; beta_d or beta_min may be 0, not both. */
FDM_API double fdm_clock_inverse(double b, double beta_d, double beta_min);

/* VP's noise level sigma(t) = sqrt(exp(B(t)) - 1) and its inverse
 * t = (sqrt(beta_min^2 + 2 beta_d ln(1 + sigma^2)) - beta_min) / beta_d, both in forms without
 * cancellation near 0 (SPEC 2).  t >= 0, sigma >= 0. */
FDM_API double fdm_vp_sigma(double t, double beta_d, double beta_min);
FDM_API double fdm_vp_sigma_inv(double sigma, double beta_d, double beta_min);
/* sigma(t) as the published f32 program computes it, each step rounded to f32 (exp correctly rounded). */
FDM_API float fdm_vp_sigma_f32(float t, double beta_d, double beta_min);

/* FDM's time t'(sigma), linear in sigma and not clamped, and the scale s(sigma) = (1 + m B) exp(-m B). */
FDM_API double fdm_kernel_time(double sigma, double sigma_min, double sigma_max);
FDM_API double fdm_kernel_scale(double sigma, double m, double sigma_min, double sigma_max, double beta_d,
                                double beta_min);

/* The critically damped mean mu_1(tau) = (1 + tau) exp(-tau). */
FDM_API double fdm_critical_mean(double tau);
/* The mean mu_zeta(tau) at damping zeta >= 0, any real tau: cos(tau) without damping, fdm_critical_mean to the bit for
 * zeta = 1.  Below 1 it has zeros and changes its sign; from 1 on it is positive. */
FDM_API double fdm_damped_mean(double zeta, double tau);

/* The state of the oscillator at tau, started at x0 = 1, v0 = 0 without spread (SPEC 1's table). */
typedef struct fdm_oscillator {
    double mean_x; /* mu_zeta(tau): E[x] */
    double mean_v; /* d mean_x / dtau = -h(tau): E[v] */
    double h;      /* impulse response: what a unit kick of v at 0 leaves in x at tau */
    double dh;     /* dh/dtau */
    double cov_xx; /* g^2 integral_0^tau h^2 */
    double cov_xv; /* g^2 h(tau)^2 / 2 */
    double cov_vv; /* g^2 integral_0^tau h'^2 */
} fdm_oscillator;

/* Evaluates the oscillator of damping zeta >= 0 at tau >= 0 with noise strength g >= 0; g = 2 sqrt(zeta)
 * gives unit stationary variance of x.  Full relative accuracy near tau = 0 (no cancellation), across
 * zeta = 1 (the three regimes join smoothly) and for large tau (no overflow).
 * Errors: FDM_BAD_USAGE for zeta, tau or g out of range or not finite. */
FDM_API fdm_status fdm_oscillator_at(fdm_oscillator *out, double zeta, double tau, double g, fdm_error *err);

/* ---- Steps: how to move (x, v) by dtau ---- */

/* The ways to do it; all are linear maps plus Gaussian noise.  X(enumerator, name, weak order, strong order), 0: exact.
 *   euler   Euler-Maruyama: both right-hand sides at the step's beginning.
 *   sgd     v first, then x with the new v (semi-implicit): momentum SGD itself, see fdm_momentum_sgd below.
 *   split   symmetric splitting: half a turn of the undamped oscillator, friction and noise exactly, half a turn.
 *   exact   the transition density: any dtau, no error. */
#define FDM_SCHEMES(X)                                                                                             \
    X(FDM_SCHEME_EULER, "euler", 1, 1)                                                                             \
    X(FDM_SCHEME_SGD, "sgd", 1, 1)                                                                                 \
    X(FDM_SCHEME_SPLIT, "split", 2, 1)                                                                             \
    X(FDM_SCHEME_EXACT, "exact", 0, 0)

typedef enum fdm_scheme {
#define FDM_SCHEME_ENUM(e, name, weak, strong) e,
    FDM_SCHEMES(FDM_SCHEME_ENUM)
#undef FDM_SCHEME_ENUM
        FDM_SCHEME_COUNT
} fdm_scheme;

/* "euler", ...; "?" otherwise. */
FDM_API const char *fdm_scheme_name(fdm_scheme scheme);

/* One step: with standard normal n1, n2
 *     x += xx x + xv v + px n1,      v += vx x + vv v + pv n1 + qv n2
 * The mean map is kept less the identity, so that small steps keep their digits in f32, too. */
typedef struct fdm_step {
    double xx, xv, vx, vv;
    double px, pv, qv; /* qv = 0 for all but exact: one normal a step */
} fdm_step;

/* The step of that scheme over dtau >= 0.  Errors: FDM_BAD_USAGE for an unknown scheme, or zeta, dtau or g out of range. */
FDM_API fdm_status fdm_scheme_step(fdm_step *out, fdm_scheme scheme, double zeta, double g, double dtau,
                                   fdm_error *err);
/* `count` steps along readings tau[0..count] of the clock, which must not decrease: for a time-varying beta, m B(t_k). */
FDM_API fdm_status fdm_scheme_steps(fdm_step *out, const double *tau, int count, fdm_scheme scheme, double zeta,
                                    double g, fdm_error *err);

/* Mean and covariance of (x, v). */
typedef struct fdm_moments {
    double mean_x, mean_v, cov_xx, cov_xv, cov_vv;
} fdm_moments;
/* What one step makes of them: M m, and M C M' + noise.  Exact, for any scheme. */
FDM_API void fdm_moments_advance(fdm_moments *moments, const fdm_step *step);

/* ---- Momentum SGD, whose limit the oscillator is ---- */

/* SGD's view of diffusion (paper, section 3): the objective f(x) = E |x - c xi|^2 / 2, xi ~ N(0, 1), has the noisy gradient
 * x - c xi.  With momentum ("heavy ball"):
 *     d <- mu d - eta (x - c xi),      x <- x + d                                       (mu = 0: plain SGD)
 * For v = d / h with h = sqrt(eta) this is the scheme sgd with dtau = h, 2 zeta h = 1 - mu, g = c sqrt(h): small steps of
 * the oscillator, k iterations being tau = k sqrt(eta). */
typedef struct fdm_momentum_sgd {
    double rate;     /* eta > 0 */
    double momentum; /* mu */
    double noise;    /* c >= 0 */
} fdm_momentum_sgd;
/* x and the last displacement d after one more iteration. */
FDM_API void fdm_momentum_sgd_step(double *x, double *d, const fdm_momentum_sgd *sgd, double xi);
/* The SGD whose step is dtau of the oscillator (zeta, g), and the oscillator that an SGD follows. */
FDM_API fdm_momentum_sgd fdm_momentum_sgd_of(double zeta, double g, double dtau);
FDM_API void fdm_momentum_sgd_limit(double *zeta, double *g, double *dtau, const fdm_momentum_sgd *sgd);

/* ---- Critically damped Langevin diffusion, for comparison ---- */

/* CLD (arXiv:2112.07068):  dx = v beta dt/M,  dv = -x beta dt - Gamma v beta dt/M + sqrt(2 Gamma beta) dW, with initial
 * velocities v ~ N(0, gamma M).  With u = v/sqrt(M) and tau = beta t/sqrt(M) it is the oscillator with 2 zeta =
 * Gamma/sqrt(M) and g = 2 sqrt(zeta): FDM's process but for gamma. */
typedef struct fdm_cld {
    double inverse_mass; /* 1/M = 4 */
    double friction;     /* Gamma = 1: critical, Gamma^2 = 4 M */
    double beta;         /* 4 */
    double gamma;        /* 0.04 */
} fdm_cld;
FDM_API fdm_cld fdm_cld_defaults(void);
FDM_API double fdm_cld_zeta(const fdm_cld *cld);
/* tau at time t. */
FDM_API double fdm_cld_clock(const fdm_cld *cld, double t);
/* Mean and covariance in CLD's own units at time t, for x(0) = 1.  Errors: FDM_BAD_USAGE. */
FDM_API fdm_status fdm_cld_at(fdm_moments *out, const fdm_cld *cld, double t, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
