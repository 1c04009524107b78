/* precond.h - the six preconditionings of the network F:
 *
 *     D(x; sigma) = c_skip * x + c_out * F(c_in * x; c_noise)                                     (SPEC 2)
 *
 * D is the denoiser; F the raw network.  The four coefficients depend on sigma alone, so a sample's
 * coefficients never depend on the batch it is in.
 *
 *     kind     c_skip         c_out          c_in           c_noise           range of sigma
 *     vp       1              -sigma         1/sqrt(q + 1)  999 t(sigma)      sigma(1e-5) .. sigma(1)
 *     ve       1              sigma          1              ln(sigma/2)       0.02 .. 100
 *     edm      d/(q + d)      sigma sd/r     1/r            ln(sigma)/4       0 .. infinity
 *     fdm_vp   as vp          as vp          s(sigma)       as vp             as vp
 *     fdm_ve   as ve          as ve          s(sigma), m=1  as ve             as ve
 *     fdm_edm  as edm         as edm         s(sigma)       as edm            0.002 .. 80
 *
 * with q = sigma^2, sd = sigma_data = 0.5, d = sd^2, r = sqrt(q + d), VP's t(sigma) the inverse of its sigma(t),
 * and FDM's perturbation kernel (paper arXiv:2306.06991; SPEC 1, fdm/process.h)
 *
 *     t'(sigma) = (sigma - sigma_min) / (sigma_max - sigma_min)      not clamped
 *     s(sigma)  = (1 + m B(t')) exp(-m B(t')),   B(t) = beta_min t + beta_d t^2 / 2
 *
 * the mean of an oscillator with critical damping, zeta = 1.  For experiments zeta may be another: s(sigma) is then
 * mu_zeta(m B(t')), fdm_damped_mean of fdm/process.h.  What changes with s is c_in alone.  D sees x0 + sigma eps, not
 * x_t, so the c_skip and c_out that keep F's target at unit variance, and lambda = 1/c_out^2, are functions of sigma
 * whatever s is; and nothing divides by s.  So s may vanish or be negative, as it does for zeta < 1: where it is 0, F sees
 * the noise level alone, and D is the best guess from c_skip x.  (An input of unit variance would want EDM's c_in, which
 * FDM gives up for s.)
 */
#ifndef FDM_PRECOND_H
#define FDM_PRECOND_H

#include <stdbool.h>

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator, command-line name, published class name, has FDM's kernel in c_in) */
#define FDM_PRECONDS(X)                                                                                            \
    X(FDM_PRECOND_VP, "vp", "VPPrecond", false)                                                                    \
    X(FDM_PRECOND_VE, "ve", "VEPrecond", false)                                                                    \
    X(FDM_PRECOND_EDM, "edm", "EDMPrecond", false)                                                                 \
    X(FDM_PRECOND_FDM_VP, "fdm_vp", "FDM_VPPrecond", true)                                                         \
    X(FDM_PRECOND_FDM_VE, "fdm_ve", "FDM_VEPrecond", true)                                                         \
    X(FDM_PRECOND_FDM_EDM, "fdm_edm", "FDM_EDMPrecond", true)

typedef enum fdm_precond_kind {
#define FDM_PRECOND_ENUM(e, cli, cls, fdm) e,
    FDM_PRECONDS(FDM_PRECOND_ENUM)
#undef FDM_PRECOND_ENUM
        FDM_PRECOND_COUNT
} fdm_precond_kind;

/* A preconditioning with its constants; a plain value, nothing to free.  After fdm_precond_init a caller
 * may overwrite single fields with the constructor arguments of a model file. */
typedef struct fdm_precond {
    fdm_precond_kind kind;
    double sigma_min, sigma_max; /* the range t' maps to [0, 1]; also the network's sampling range */
    double sigma_data;           /* edm, fdm_edm: standard deviation of the images, 0.5 */
    double fdm_multiplier;       /* m of s(sigma); fdm_ve ignores it, as published, */
    double ve_multiplier;        /* and has this one: 1 as published; the paper's formula has m */
    double zeta;                 /* damping of FDM's kernel, >= 0: 1, critical, as published */
    double beta_d, beta_min;     /* the clock B(t): 19.9, 0.1 */
    double M;                    /* vp, fdm_vp: number of discrete steps, 1000; c_noise = (M-1) sigma^-1 */
    double epsilon_t;            /* vp, fdm_vp: smallest t, 1e-5 */
} fdm_precond;

typedef struct fdm_precond_coeffs {
    double c_skip, c_out, c_in, c_noise;
} fdm_precond_coeffs;

/* "vp", ... and "VPPrecond", ...; "?" for a value that is not a kind. */
FDM_API const char *fdm_precond_name(fdm_precond_kind kind);
FDM_API const char *fdm_precond_class_name(fdm_precond_kind kind);
/* Finds a kind by either of its names; a class name may carry module names ("training.networks.EDMPrecond").
 * FDM_BAD_USAGE, *kind untouched, if there is none. */
FDM_API fdm_status fdm_precond_find(fdm_precond_kind *kind, const char *name, fdm_error *err);
/* True for fdm_vp, fdm_ve and fdm_edm. */
FDM_API bool fdm_precond_is_fdm(fdm_precond_kind kind);

/* Published constants of that kind.  fdm_multiplier: m > 0 (the published class defaults to 1.0, its train
 * command to 2.0).  VP's sigma_min and sigma_max are the f32-computed 0.0009765625 and
 * 152.16697692871094.  Errors: FDM_BAD_USAGE for an unknown kind or m that is not finite and positive. */
FDM_API fdm_status fdm_precond_init(fdm_precond *out, fdm_precond_kind kind, double fdm_multiplier, fdm_error *err);

/* VP's sigma_min = sigma(epsilon_t) and sigma_max = sigma(1) from beta_d, beta_min and epsilon_t in the
 * precision of the published constructor (f32); call after changing those three. */
FDM_API void fdm_precond_update_vp_range(fdm_precond *p);

/* Checks the constants (finite, ranges ordered, sigma_data > 0 where used, ...): FDM_BAD_USAGE names the field. */
FDM_API fdm_status fdm_precond_check(const fdm_precond *p, fdm_error *err);

/* The coefficients as the published f32 program has them: sigma is cast to f32, every single operation is
 * rounded to f32 in the published order, constants are cast to f32 where they meet a tensor.  Every result
 * is exactly representable in f32.  Elementary functions are evaluated in f64 and rounded, i.e. correctly
 * rounded but for rare halfway cases; PyTorch's own are within 1 ulp of that, so results may differ
 * from PyTorch's by few ulp (tests/test_precond.c prints how often). */
FDM_API void fdm_precond_coeffs_f32(fdm_precond_coeffs *out, const fdm_precond *p, double sigma);
/* The same formulas in f64 throughout: the truth that the reference backend uses. */
FDM_API void fdm_precond_coeffs_f64(fdm_precond_coeffs *out, const fdm_precond *p, double sigma);

/* s(sigma) alone, with the kind's own m (1 for fdm_ve) and zeta for FDM kinds; the scale c_in of x otherwise. */
FDM_API double fdm_precond_scale_f64(const fdm_precond *p, double sigma);

#ifdef __cplusplus
}
#endif
#endif
