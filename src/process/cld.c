/* cld.c - critically damped Langevin diffusion (Dockhorn, Vahdat, Kreis, arXiv:2112.07068) as this oscillator. */
#include <math.h>

#include "base/base.h"
#include "fdm/process.h"

fdm_cld fdm_cld_defaults(void) {
    return (fdm_cld){.inverse_mass = 4, .friction = 1, .beta = 4, .gamma = 0.04};
}

double fdm_cld_zeta(const fdm_cld *cld) {
    return 0.5 * cld->friction * sqrt(cld->inverse_mass);
}

double fdm_cld_clock(const fdm_cld *cld, double t) {
    return cld->beta * t * sqrt(cld->inverse_mass);
}

fdm_status fdm_cld_at(fdm_moments *out, const fdm_cld *cld, double t, fdm_error *err) {
    if (!(cld->inverse_mass > 0 && isfinite(cld->inverse_mass) && cld->gamma >= 0 && isfinite(cld->gamma)))
        return fdm_fail(err, FDM_BAD_USAGE, "CLD with 1/M = %g and gamma = %g: need a mass, and gamma of 0 or more",
                        cld->inverse_mass, cld->gamma);
    const double zeta = fdm_cld_zeta(cld), root = 1 / sqrt(cld->inverse_mass); /* v = sqrt(M) u */
    fdm_oscillator o;
    const fdm_status status = fdm_oscillator_at(&o, zeta, fdm_cld_clock(cld, t), 2 * sqrt(zeta), err);
    if (status != FDM_OK) return status;
    /* to the response's covariance comes what the initial spread gamma of u has become */
    *out = (fdm_moments){.mean_x = o.mean_x,
                         .mean_v = root * o.mean_v,
                         .cov_xx = o.cov_xx + cld->gamma * o.h * o.h,
                         .cov_xv = root * (o.cov_xv + cld->gamma * o.h * o.dh),
                         .cov_vv = root * root * (o.cov_vv + cld->gamma * o.dh * o.dh)};
    return FDM_OK;
}
