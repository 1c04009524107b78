/* oscillator.c - the damped oscillator of SPEC 1: means and covariances at any damping, exactly.
 *
 * With the exponents of x'' + 2 zeta x' + x = 0 written so that nothing cancels or overflows,
 *     zeta >= 1:  r = sqrt(zeta^2 - 1), fast b = zeta + r, slow a = zeta - r = 1/b
 *                 h = e^(-a tau) (1 - e^(-2 r tau)) / (2 r),   h' = e^(-b tau) - a h,   mean = e^(-b tau) + b h
 *     zeta < 1:   omega = sqrt(1 - zeta^2)
 *                 h = e^(-zeta tau) sin(omega tau) / omega, h' = e^(-zeta tau) cos(omega tau) - zeta h,
 *                 mean = e^(-zeta tau) cos(omega tau) + zeta h
 * and h = tau e^(-tau) where r or omega is 0.  sin(x)/omega and expm1(x)/r keep full precision down to the smallest
 * r or omega above 0, so the three regimes join to the last bit without a series. */
#include "fdm/process.h"

#include <math.h>
#include <stdbool.h>

#include "base/base.h"

/* The roots of the characteristic equation. */
typedef struct roots {
    double zeta;
    bool over;         /* zeta >= 1 */
    double split;      /* r or omega */
    double slow, fast; /* over: a, b */
} roots;

static roots find_roots(double zeta) {
    roots k = {.zeta = zeta, .over = zeta >= 1};
    /* product of roots, not root of the product: zeta^2 may overflow, and zeta - 1 is exact near 1 */
    k.split = sqrt(fabs(zeta - 1)) * sqrt(zeta + 1);
    k.fast = zeta + k.split;
    k.slow = 1 / k.fast;
    return k;
}

/* h, its derivative, and the mean, at tau. */
typedef struct response {
    double h, dh, mean;
} response;

static response respond(const roots *k, double tau) {
    response y;
    if (k->over) {
        const double fast = exp(-k->fast * tau);
        const double lag = k->split > 0 ? -expm1(-2 * k->split * tau) / (2 * k->split) : tau;
        y.h = exp(-k->slow * tau) * lag;
        y.dh = fast - k->slow * y.h;
        y.mean = fast + k->fast * y.h;
    } else {
        const double decay = exp(-k->zeta * tau), angle = k->split * tau;
        y.h = decay * (sin(angle) / k->split);
        y.dh = decay * cos(angle) - k->zeta * y.h;
        y.mean = decay * cos(angle) + k->zeta * y.h;
    }
    return y;
}

/* The integrals of h^2 and h'^2 from 0 to tau. */
typedef struct integrals {
    double xx, vv;
} integrals;

/* Positive nodes and weights of Gauss-Legendre quadrature with 20 points on [-1, 1]. */
static const double gauss20[10][2] = {
    {0.076526521133497333755, 0.1527533871307258507},  {0.22778585114164507808, 0.14917298647260374679},
    {0.37370608871541956067, 0.14209610931838205133},  {0.510867001950827098, 0.1316886384491766269},
    {0.63605368072651502545, 0.11819453196151841731},  {0.74633190646015079261, 0.10193011981724043504},
    {0.83911697182221882339, 0.083276741576704748725}, {0.91223442825132590587, 0.06267204833410906357},
    {0.96397192727791379127, 0.040601429800386941331}, {0.99312859918509492479, 0.017614007139152118312},
};

static void add_interval(integrals *sum, const roots *k, double from, double to) {
    const double middle = 0.5 * (from + to), half = 0.5 * (to - from);
    integrals part = {0, 0};
    for (int i = 0; i < 10; i++) {
        for (int side = -1; side <= 1; side += 2) {
            const response y = respond(k, middle + side * half * gauss20[i][0]);
            part.xx += gauss20[i][1] * (y.h * y.h);
            part.vv += gauss20[i][1] * (y.dh * y.dh);
        }
    }
    sum->xx += half * part.xx;
    sum->vv += half * part.vv;
}

/* Where the closed forms below are small differences of large terms: quadrature of the squares, all of whose terms
 * are positive.  Intervals halve towards 0, so that each sees the fast root either resolved or decayed; on each,
 * the integrand turns by at most 8 radians or falls by powers that 20 points follow to the last bit. */
static integrals by_quadrature(const roots *k, double tau) {
    integrals sum = {0, 0};
    const double rate = k->over ? k->fast : 1;
    double to = tau;
    for (; rate * to > 2; to /= 2) add_interval(&sum, k, to / 2, to);
    add_interval(&sum, k, 0, to);
    return sum;
}

/* Light damping, several turns: h^2 = e^(-2 zeta t) (1 - cos 2 omega t) / (2 omega^2), integrated term by term with
 * z = -2 zeta + 2 i omega, |z|^2 = 4; then int h'^2 = h h' + zeta h^2 + int h^2 from h'' = -2 zeta h' - h. */
static integrals by_turns(const roots *k, double tau, const response *y) {
    const double decay = exp(-2 * k->zeta * tau), angle = 2 * k->split * tau;
    const double steady = k->zeta > 0 ? -expm1(-2 * k->zeta * tau) / (2 * k->zeta) : tau;
    /* Re((e^(z tau) - 1) conj(z)) / |z|^2 */
    const double turning = (-2 * k->zeta * (decay * cos(angle) - 1) + 2 * k->split * decay * sin(angle)) / 4;
    integrals sum;
    sum.xx = (steady - turning) / (2 * k->split * k->split);
    sum.vv = y->h * y->dh + k->zeta * y->h * y->h + sum.xx;
    return sum;
}

/* The stationary value minus what is left after tau: for a state (x, v) the remaining int x^2 and int v^2 are
 * quadratic forms in it (Lyapunov's equation), with 4 zeta int x^2 = (4 zeta^2 + 1) x^2 + 4 zeta x v + v^2, 4 zeta
 * int v^2 = x^2 + v^2. */
static integrals by_remainder(const roots *k, const response *y) {
    const double h = y->h, v = y->dh, bend = 2 * k->zeta * h + v; /* the first form is (2 zeta x + v)^2 + x^2 */
    integrals sum;
    sum.xx = (1 - (bend * bend + h * h)) / (4 * k->zeta);
    sum.vv = (1 - (h * h + v * v)) / (4 * k->zeta);
    return sum;
}

fdm_status fdm_oscillator_at(fdm_oscillator *out, double zeta, double tau, double g, fdm_error *err) {
    const struct {
        const char *name;
        double value;
    } inputs[] = {{"zeta", zeta}, {"tau", tau}, {"g", g}};
    for (size_t i = 0; i < FDM_ARRAY_LEN(inputs); i++)
        if (!(inputs[i].value >= 0 && isfinite(inputs[i].value)))
            return fdm_fail(err, FDM_BAD_USAGE, "%s = %g: need a number of 0 or more", inputs[i].name,
                            inputs[i].value);
    const roots k = find_roots(zeta);
    const response y = respond(&k, tau);
    integrals sum;
    if ((k.over ? k.slow : zeta) * tau >= 0.5)
        sum = by_remainder(&k, &y);
    else if (!k.over && tau >= 8) /* then zeta < 1/16 */
        sum = by_turns(&k, tau, &y);
    else
        sum = by_quadrature(&k, tau);
    *out = (fdm_oscillator){.mean_x = y.mean,
                            .mean_v = 0 - y.h, /* never -0 */
                            .h = y.h,
                            .dh = y.dh,
                            .cov_xx = g * g * sum.xx,
                            .cov_xv = 0.5 * (g * y.h) * (g * y.h),
                            .cov_vv = g * g * sum.vv};
    return FDM_OK;
}

double fdm_damped_mean(double zeta, double tau) {
    if (zeta == 1) return fdm_critical_mean(tau);
    const roots k = find_roots(zeta);
    return respond(&k, tau).mean;
}
