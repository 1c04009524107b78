/* precond.c - names, constants and coefficients of the six preconditionings (SPEC 2). */
#include "fdm/precond.h"

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "fdm/process.h"

static const struct precond_names {
    const char *cli, *cls;
    bool is_fdm;
} precond_table[FDM_PRECOND_COUNT] = {
#define PRECOND_ROW(e, cli, cls, fdm) [e] = {cli, cls, fdm},
    FDM_PRECONDS(PRECOND_ROW)
#undef PRECOND_ROW
};

static bool is_kind(fdm_precond_kind kind) {
    return (unsigned)kind < FDM_PRECOND_COUNT;
}

const char *fdm_precond_name(fdm_precond_kind kind) {
    return is_kind(kind) ? precond_table[kind].cli : "?";
}

const char *fdm_precond_class_name(fdm_precond_kind kind) {
    return is_kind(kind) ? precond_table[kind].cls : "?";
}

bool fdm_precond_is_fdm(fdm_precond_kind kind) {
    return is_kind(kind) && precond_table[kind].is_fdm;
}

fdm_status fdm_precond_find(fdm_precond_kind *kind, const char *name, fdm_error *err) {
    if (name == NULL) return fdm_fail(err, FDM_BAD_USAGE, "no preconditioning given");
    const char *dot = strrchr(name, '.');
    const char *last = dot ? dot + 1 : name;
    for (int i = 0; i < FDM_PRECOND_COUNT; i++) {
        if (strcmp(name, precond_table[i].cli) != 0 && strcmp(last, precond_table[i].cls) != 0) continue;
        *kind = (fdm_precond_kind)i;
        return FDM_OK;
    }
    return fdm_fail(
        err, FDM_BAD_USAGE,
        "unknown preconditioning '%.80s': use vp, ve, edm, fdm_vp, fdm_ve, fdm_edm or a published class "
        "name such as FDM_EDMPrecond",
        name);
}

void fdm_precond_update_vp_range(fdm_precond *p) {
    p->sigma_min = fdm_vp_sigma_f32((float)p->epsilon_t, p->beta_d, p->beta_min);
    p->sigma_max = fdm_vp_sigma_f32(1.0f, p->beta_d, p->beta_min);
}

fdm_status fdm_precond_init(fdm_precond *out, fdm_precond_kind kind, double fdm_multiplier, fdm_error *err) {
    if (!is_kind(kind)) return fdm_fail(err, FDM_BAD_USAGE, "unknown preconditioning %d", (int)kind);
    fdm_precond p = {.kind = kind,
                     .sigma_data = 0.5,
                     .fdm_multiplier = fdm_multiplier,
                     .ve_multiplier = 1,
                     .zeta = 1,
                     .beta_d = FDM_BETA_D,
                     .beta_min = FDM_BETA_MIN,
                     .M = 1000,
                     .epsilon_t = 1e-5};
    switch (kind) {
    case FDM_PRECOND_VP:
    case FDM_PRECOND_FDM_VP:
        fdm_precond_update_vp_range(&p);
        break;
    case FDM_PRECOND_VE:
    case FDM_PRECOND_FDM_VE:
        p.sigma_min = 0.02;
        p.sigma_max = 100;
        break;
    case FDM_PRECOND_EDM:
        p.sigma_min = 0;
        p.sigma_max = INFINITY;
        break;
    default: /* FDM_PRECOND_FDM_EDM */
        p.sigma_min = 0.002;
        p.sigma_max = 80;
    }
    fdm_status status = fdm_precond_check(&p, err);
    if (status == FDM_OK) *out = p;
    return status;
}

fdm_status fdm_precond_check(const fdm_precond *p, fdm_error *err) {
    const char *bad = NULL;
    double value = 0;
    /* Written as !(good), so that NaN is bad. */
#define REQUIRE(field, good)                                                                                       \
    if (!bad && !(good)) bad = #field, value = p->field
    REQUIRE(fdm_multiplier, isfinite(p->fdm_multiplier) && p->fdm_multiplier > 0);
    REQUIRE(ve_multiplier, isfinite(p->ve_multiplier) && p->ve_multiplier > 0);
    REQUIRE(zeta, isfinite(p->zeta) && p->zeta >= 0);
    REQUIRE(sigma_data, isfinite(p->sigma_data) && p->sigma_data > 0);
    REQUIRE(beta_d, isfinite(p->beta_d) && p->beta_d > 0);
    REQUIRE(beta_min, isfinite(p->beta_min) && p->beta_min >= 0);
    REQUIRE(M, isfinite(p->M) && p->M >= 1);
    REQUIRE(epsilon_t, p->epsilon_t >= 0 && p->epsilon_t < 1);
    REQUIRE(sigma_min, isfinite(p->sigma_min) && p->sigma_min >= 0);
    REQUIRE(sigma_max, p->sigma_max > p->sigma_min && (isfinite(p->sigma_max) || !fdm_precond_is_fdm(p->kind)));
#undef REQUIRE
    if (!is_kind(p->kind)) return fdm_fail(err, FDM_BAD_USAGE, "unknown preconditioning %d", (int)p->kind);
    if (bad)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: %s = %g is out of range", fdm_precond_name(p->kind), bad, value);
    return FDM_OK;
}

/* The multiplier that s(sigma) uses: the published FDM_VEPrecond stores m but leaves it out of s. */
static double effective_multiplier(const fdm_precond *p) {
    return p->kind == FDM_PRECOND_FDM_VE ? p->ve_multiplier : p->fdm_multiplier;
}

/* ---- f32, as published: every line is a chain of single f32 operations in that order.  float arithmetic is
 * exact IEEE binary32 here (-ffp-contract=off, FLT_EVAL_METHOD 0); log and exp go through double. ---- */

static float log_f32(float x) {
    return (float)log((double)x);
}
static float exp_f32(float x) {
    return (float)exp((double)x);
}

static float kernel_scale_f32(const fdm_precond *p, float sigma) {
    float t = (sigma - (float)p->sigma_min) / (float)(p->sigma_max - p->sigma_min);
    float b = (float)(0.5 * p->beta_d) * (t * t) + (float)p->beta_min * t;
    float tau = (float)effective_multiplier(p) * b;
    if (p->zeta == 1) return (1.0f + tau) * exp_f32(-tau);
    return (float)fdm_damped_mean(p->zeta, (double)tau); /* not published: rounded once */
}

static float vp_sigma_inv_f32(const fdm_precond *p, float sigma) {
    float log_term = log_f32(1.0f + sigma * sigma);
    float root = sqrtf((float)(p->beta_min * p->beta_min) + (float)(2 * p->beta_d) * log_term);
    return (root - (float)p->beta_min) / (float)p->beta_d;
}

void fdm_precond_coeffs_f32(fdm_precond_coeffs *out, const fdm_precond *p, double sigma64) {
    const float sigma = (float)sigma64;
    const float square = sigma * sigma;
    float c_skip = 1, c_out = 0, c_in = 1, c_noise = 0;
    switch (p->kind) {
    case FDM_PRECOND_VP:
    case FDM_PRECOND_FDM_VP:
        c_out = -sigma;
        c_in = 1.0f / sqrtf(square + 1.0f);
        c_noise = (float)(p->M - 1) * vp_sigma_inv_f32(p, sigma);
        break;
    case FDM_PRECOND_VE:
    case FDM_PRECOND_FDM_VE:
        c_out = sigma;
        c_noise = log_f32(0.5f * sigma);
        break;
    default: { /* FDM_PRECOND_EDM, FDM_PRECOND_FDM_EDM */
        const float data_square = (float)(p->sigma_data * p->sigma_data);
        c_skip = data_square / (square + data_square);
        c_out = sigma * (float)p->sigma_data / sqrtf(square + data_square);
        c_in = 1.0f / sqrtf(data_square + square);
        c_noise = log_f32(sigma) / 4.0f;
    }
    }
    if (fdm_precond_is_fdm(p->kind)) c_in = kernel_scale_f32(p, sigma);
    *out = (fdm_precond_coeffs){c_skip, c_out, c_in, c_noise};
}

/* ---- f64: the truth ---- */

void fdm_precond_coeffs_f64(fdm_precond_coeffs *out, const fdm_precond *p, double sigma) {
    const double square = sigma * sigma;
    fdm_precond_coeffs c = {1, 0, fdm_precond_scale_f64(p, sigma), 0};
    switch (p->kind) {
    case FDM_PRECOND_VP:
    case FDM_PRECOND_FDM_VP:
        c.c_out = -sigma;
        c.c_noise = (p->M - 1) * fdm_vp_sigma_inv(sigma, p->beta_d, p->beta_min);
        break;
    case FDM_PRECOND_VE:
    case FDM_PRECOND_FDM_VE:
        c.c_out = sigma;
        c.c_noise = log(0.5 * sigma);
        break;
    default: { /* FDM_PRECOND_EDM, FDM_PRECOND_FDM_EDM */
        const double data_square = p->sigma_data * p->sigma_data;
        c.c_skip = data_square / (square + data_square);
        c.c_out = sigma * p->sigma_data / sqrt(square + data_square);
        c.c_noise = log(sigma) / 4;
    }
    }
    *out = c;
}

double fdm_precond_scale_f64(const fdm_precond *p, double sigma) {
    switch (p->kind) {
    case FDM_PRECOND_VP:
        return 1 / sqrt(sigma * sigma + 1);
    case FDM_PRECOND_VE:
        return 1;
    case FDM_PRECOND_EDM:
        return 1 / sqrt(p->sigma_data * p->sigma_data + sigma * sigma);
    default:
        return fdm_damped_mean(p->zeta, effective_multiplier(p) * fdm_clock(fdm_kernel_time(sigma, p->sigma_min, p->sigma_max),
                                                                            p->beta_d, p->beta_min));
    }
}
