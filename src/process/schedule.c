/* schedule.c - noise clock, VP's noise level and FDM's perturbation kernel (SPEC 1, 2). */
#include "fdm/process.h"

#include <math.h>

double fdm_clock(double t, double beta_d, double beta_min) {
    return 0.5 * beta_d * (t * t) + beta_min * t;
}

double fdm_vp_sigma(double t, double beta_d, double beta_min) {
    return sqrt(expm1(fdm_clock(t, beta_d, beta_min)));
}

double fdm_vp_sigma_inv(double sigma, double beta_d, double beta_min) {
    /* (sqrt(b^2 + c) - b)/d with c = 2 d L: multiplied out by the conjugate, c/(d (sqrt(b^2 + c) + b)), nothing
     * cancels for small sigma, and d may be 0. */
    double log_term = log1p(sigma * sigma);
    if (log_term == 0) return 0;
    return 2 * log_term / (sqrt(beta_min * beta_min + 2 * beta_d * log_term) + beta_min);
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
