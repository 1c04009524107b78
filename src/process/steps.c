/* steps.c - moving (x, v) by dtau: the discretisations of the oscillator as linear maps with Gaussian noise, and what a
 * step makes of mean and covariance. */
#include <math.h>

#include "base/base.h"
#include "fdm/process.h"

static const char *const scheme_names[FDM_SCHEME_COUNT] = {
#define SCHEME_NAME(e, name, weak, strong) [e] = name,
    FDM_SCHEMES(SCHEME_NAME)
#undef SCHEME_NAME
};

const char *fdm_scheme_name(fdm_scheme scheme) {
    return (unsigned)scheme < FDM_SCHEME_COUNT ? scheme_names[scheme] : "?";
}

/* x += v h,  v += -(x + 2 zeta v) h + g sqrt(h) n */
static fdm_step euler_step(double zeta, double g, double h) {
    return (fdm_step){.xv = h, .vx = -h, .vv = -2 * zeta * h, .pv = g * sqrt(h)};
}

/* The same v, then x += v h with the new v. */
static fdm_step sgd_step(double zeta, double g, double h) {
    fdm_step s = euler_step(zeta, g, h);
    s.xx = h * s.vx;
    s.xv = h + h * s.vv;
    s.px = h * s.pv;
    return s;
}

/* R F R: R the turn of x' = v, v' = -x by h/2, F: v <- e v + spread n with e = exp(-2 zeta h).  With s = sin(h/2), c =
 * cos(h/2):  R F R - 1 = (e - 1) (s, c)' (-s, c) + (R R - 1). */
static fdm_step split_step(double zeta, double g, double h) {
    const double s = sin(0.5 * h), c = cos(0.5 * h), loss = expm1(-2 * zeta * h);
    const double spread = g * (zeta > 0 ? sqrt(-expm1(-4 * zeta * h) / (4 * zeta)) : sqrt(h));
    return (fdm_step){.xx = -s * s * (2 + loss),
                      .xv = s * c * (2 + loss),
                      .vx = -s * c * (2 + loss),
                      .vv = c * c * loss - 2 * s * s,
                      .px = s * spread,
                      .pv = c * spread};
}

/* The mean map [[mean, h], [-h, h']] and a Cholesky factor of the covariance.  The correlation of x and v is sqrt(3)/2 for
 * small steps and less later, so the difference below keeps its digits. */
static fdm_status exact_step(fdm_step *out, double zeta, double g, double h, fdm_error *err) {
    fdm_oscillator o;
    const fdm_status status = fdm_oscillator_at(&o, zeta, h, g, err);
    if (status != FDM_OK) return status;
    *out = (fdm_step){.xx = o.mean_x - 1, .xv = o.h, .vx = -o.h, .vv = o.dh - 1, .px = sqrt(o.cov_xx)};
    if (out->px > 0) out->pv = o.cov_xv / out->px;
    out->qv = sqrt(fmax(o.cov_vv - out->pv * out->pv, 0));
    return FDM_OK;
}

fdm_status fdm_scheme_step(fdm_step *out, fdm_scheme scheme, double zeta, double g, double dtau, fdm_error *err) {
    if (!(zeta >= 0 && g >= 0 && dtau >= 0 && isfinite(zeta) && isfinite(g) && isfinite(dtau)))
        return fdm_fail(err, FDM_BAD_USAGE, "zeta = %g, g = %g, dtau = %g: need numbers of 0 or more", zeta, g, dtau);
    switch (scheme) {
    case FDM_SCHEME_EULER:
        *out = euler_step(zeta, g, dtau);
        return FDM_OK;
    case FDM_SCHEME_SGD:
        *out = sgd_step(zeta, g, dtau);
        return FDM_OK;
    case FDM_SCHEME_SPLIT:
        *out = split_step(zeta, g, dtau);
        return FDM_OK;
    case FDM_SCHEME_EXACT:
        return exact_step(out, zeta, g, dtau, err);
    default:
        return fdm_fail(err, FDM_BAD_USAGE, "unknown scheme %d", (int)scheme);
    }
}

fdm_status fdm_scheme_steps(fdm_step *out, const double *tau, int count, fdm_scheme scheme, double zeta, double g,
                            fdm_error *err) {
    fdm_status status = FDM_OK;
    for (int k = 0; k < count && status == FDM_OK; k++) {
        if (k > 0 && tau[k + 1] - tau[k] == tau[k] - tau[k - 1]) /* an even grid: once is enough */
            out[k] = out[k - 1];
        else
            status = fdm_scheme_step(&out[k], scheme, zeta, g, tau[k + 1] - tau[k], err);
    }
    return status;
}

void fdm_moments_advance(fdm_moments *m, const fdm_step *s) {
    const double a = 1 + s->xx, b = s->xv, c = s->vx, d = 1 + s->vv;
    const fdm_moments old = *m;
    m->mean_x = a * old.mean_x + b * old.mean_v;
    m->mean_v = c * old.mean_x + d * old.mean_v;
    m->cov_xx = a * a * old.cov_xx + 2 * a * b * old.cov_xv + b * b * old.cov_vv + s->px * s->px;
    m->cov_xv = a * c * old.cov_xx + (a * d + b * c) * old.cov_xv + b * d * old.cov_vv + s->px * s->pv;
    m->cov_vv = c * c * old.cov_xx + 2 * c * d * old.cov_xv + d * d * old.cov_vv + s->pv * s->pv + s->qv * s->qv;
}
