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
 * The clock's constants are beta_d = 19.9 and beta_min = 0.1 as published.
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

#ifdef __cplusplus
}
#endif
#endif
