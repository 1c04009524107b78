/* momentum_sgd.c - the optimiser whose limit of small learning rates the oscillator is, and the way between the two. */
#include <math.h>

#include "fdm/process.h"

void fdm_momentum_sgd_step(double *x, double *d, const fdm_momentum_sgd *sgd, double xi) {
    *d = sgd->momentum * *d - sgd->rate * (*x - sgd->noise * xi);
    *x += *d;
}

fdm_momentum_sgd fdm_momentum_sgd_of(double zeta, double g, double dtau) {
    return (fdm_momentum_sgd){.rate = dtau * dtau, .momentum = 1 - 2 * zeta * dtau, .noise = g / sqrt(dtau)};
}

void fdm_momentum_sgd_limit(double *zeta, double *g, double *dtau, const fdm_momentum_sgd *sgd) {
    *dtau = sqrt(sgd->rate);
    *zeta = (1 - sgd->momentum) / (2 * *dtau);
    *g = sgd->noise * sqrt(*dtau);
}
