/* schedule.c - noise clock, VP's noise level and FDM's perturbation kernel (SPEC 1, 2). */
#include "fdm/process.h"

#include <math.h>

double fdm_clock(double t, double beta_d, double beta_min) {
    return 0.5 * beta_d * (t * t) + beta_min * t;
}

double fdm_clock_between(double t0, double t1, double beta_d, double beta_min) {
    return (t1 - t0) * (0.5 * beta_d * (t0 + t1) + beta_min);
}

double fdm_clock_inverse(double b, double beta_d, double beta_min) {
    /* (sqrt(c^2 + 2 d b) - c)/d, multiplied out by the conjugate: nothing cancels for small b, and d may be 0. */
    if (b == 0) return 0;
    return 2 * b / (sqrt(beta_min * beta_min + 2 * beta_d * b) + beta_min);
}

double fdm_vp_sigma(double t, double beta_d, double beta_min) {
    return sqrt(expm1(fdm_clock(t, beta_d, beta_min)));
}

double fdm_vp_sigma_inv(double sigma, double beta_d, double beta_min) {
    return fdm_clock_inverse(log1p(sigma * sigma), beta_d, beta_min);
}

float fdm_vp_sigma_f32(float t, double beta_d, double beta_min) {
    float b = (float)(0.5 * beta_d) * (t * t) + (float)beta_min * t;
    return sqrtf((float)exp((double)b) - 1.0f);
}

double fdm_kernel_time(double sigma, double sigma_min, double sigma_max) {
    return (sigma - sigma_min) / (sigma_max - sigma_min);
}

double fdm_critical_mean(double tau) {
    return (1 + tau) * exp(-tau);
}

double fdm_kernel_scale(double sigma, double m, double sigma_min, double sigma_max, double beta_d,
                        double beta_min) {
    return fdm_critical_mean(m * fdm_clock(fdm_kernel_time(sigma, sigma_min, sigma_max), beta_d, beta_min));
}
