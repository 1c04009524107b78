/* mixture.c - densities, denoisers and scores of Gaussian mixtures, in closed form. */
#include "fdm/mixture.h"

#include <math.h>
#include <stdlib.h>

#include "base/base.h"

static const double two_pi = 6.28318530717958647693;

fdm_status fdm_mixture_check(const fdm_mixture *m, fdm_error *err) {
    if (m->count < 1 || m->count > FDM_MIXTURE_MAX || m->dim < 1 || m->dim > FDM_MIXTURE_MAX_DIM)
        return fdm_fail(err, FDM_BAD_USAGE, "a mixture of %d components in %d dimensions: need 1 to %d in 1 to %d", m->count,
                        m->dim, FDM_MIXTURE_MAX, FDM_MIXTURE_MAX_DIM);
    double total = 0;
    for (int k = 0; k < m->count; k++) {
        total += m->weight[k];
        if (!(m->weight[k] > 0))
            return fdm_fail(err, FDM_BAD_USAGE, "weight %d of the mixture is %g: need more than 0", k, m->weight[k]);
        if (!(m->std[k] >= 0 && isfinite(m->std[k])))
            return fdm_fail(err, FDM_BAD_USAGE, "std %d of the mixture is %g: need 0 or more", k, m->std[k]);
        for (int d = 0; d < m->dim; d++)
            if (!isfinite(m->mean[k * m->dim + d]))
                return fdm_fail(err, FDM_BAD_USAGE, "mean %d of the mixture is not finite", k);
    }
    if (!(fabs(total - 1) <= 1e-9)) return fdm_fail(err, FDM_BAD_USAGE, "the mixture's weights add up to %.17g", total);
    return FDM_OK;
}

/* A sum of exponentials: e^top * sum. */
struct total {
    double top, sum;
};

/* share[k] e^power[k] of their sum, in place; nothing over- or underflows, however far out x is. */
static struct total normalise(double *share, const double *power, int count) {
    struct total all = {-INFINITY, 0};
    for (int k = 0; k < count; k++) all.top = fmax(all.top, power[k]);
    for (int k = 0; k < count; k++) {
        share[k] *= exp(power[k] - all.top);
        all.sum += share[k];
    }
    for (int k = 0; k < count; k++) share[k] /= all.sum;
    return all;
}

static double integer_power(double x, int n) {
    double y = x;
    while (--n > 0) y *= x;
    return y;
}

/* gamma_k(x) at noise level sigma; their sum before is p_sigma(x). */
static struct total shares(double *share, const fdm_mixture *m, const double *x, double sigma) {
    double power[FDM_MIXTURE_MAX];
    for (int k = 0; k < m->count; k++) {
        const double var = m->std[k] * m->std[k] + sigma * sigma;
        double square = 0;
        for (int d = 0; d < m->dim; d++) {
            const double off = x[d] - m->mean[k * m->dim + d];
            square += off * off;
        }
        share[k] = m->weight[k] * integer_power(1 / sqrt(two_pi * var), m->dim);
        power[k] = -0.5 * square / var;
    }
    return normalise(share, power, m->count);
}

double fdm_mixture_log_density(const fdm_mixture *m, const double *x, double sigma) {
    double share[FDM_MIXTURE_MAX];
    const struct total all = shares(share, m, x, sigma);
    return all.top + log(all.sum);
}

void fdm_mixture_denoise(double *D, const fdm_mixture *m, const double *x, double sigma) {
    double share[FDM_MIXTURE_MAX];
    shares(share, m, x, sigma);
    for (int d = 0; d < m->dim; d++) {
        double sum = 0;
        for (int k = 0; k < m->count; k++) {
            const double mean = m->mean[k * m->dim + d], own = m->std[k] * m->std[k];
            sum += share[k] * (mean + own / (own + sigma * sigma) * (x[d] - mean));
        }
        D[d] = sum;
    }
}

void fdm_mixture_score(double *score, const fdm_mixture *m, const double *x, double sigma) {
    double share[FDM_MIXTURE_MAX];
    shares(share, m, x, sigma);
    for (int d = 0; d < m->dim; d++) {
        double sum = 0;
        for (int k = 0; k < m->count; k++)
            sum += share[k] * (m->mean[k * m->dim + d] - x[d]) / (m->std[k] * m->std[k] + sigma * sigma);
        score[d] = sum;
    }
}

/* ---- The state (x, v) of the oscillator ---- */

/* One component's Gaussian of (x, v), of which every coordinate has its own mean and the same covariance. */
struct state_gaussian {
    double xx, xv, vv, det; /* covariance */
    double own;             /* s_k^2 */
};

static struct state_gaussian state_of(double std, const fdm_oscillator *o, double gamma0) {
    struct state_gaussian c = {.own = std * std};
    c.xx = o->cov_xx + c.own * o->mean_x * o->mean_x + gamma0 * o->h * o->h;
    c.xv = o->cov_xv - c.own * o->mean_x * o->h + gamma0 * o->h * o->dh;
    c.vv = o->cov_vv + c.own * o->h * o->h + gamma0 * o->dh * o->dh;
    c.det = c.xx * c.vv - c.xv * c.xv;
    return c;
}

void fdm_mixture_state_score(double *score_v, double *D, const fdm_mixture *m, const double *x, const double *v,
                             const fdm_oscillator *o, double gamma0) {
    struct state_gaussian c[FDM_MIXTURE_MAX];
    double share[FDM_MIXTURE_MAX], power[FDM_MIXTURE_MAX];
    for (int k = 0; k < m->count; k++) {
        c[k] = state_of(m->std[k], o, gamma0);
        double square = 0;
        for (int d = 0; d < m->dim; d++) {
            const double dx = x[d] - o->mean_x * m->mean[k * m->dim + d], dv = v[d] + o->h * m->mean[k * m->dim + d];
            square += (c[k].vv * dx * dx - 2 * c[k].xv * dx * dv + c[k].xx * dv * dv) / c[k].det;
        }
        share[k] = m->weight[k] * integer_power(1 / sqrt(c[k].det), m->dim);
        power[k] = -0.5 * square;
    }
    normalise(share, power, m->count);
    for (int d = 0; d < m->dim; d++) {
        double slope = 0, guess = 0;
        for (int k = 0; k < m->count; k++) {
            const double mean = m->mean[k * m->dim + d];
            const double dx = x[d] - o->mean_x * mean, dv = v[d] + o->h * mean;
            /* C^-1 (dx, dv) */
            const double ix = (c[k].vv * dx - c[k].xv * dv) / c[k].det, iv = (c[k].xx * dv - c[k].xv * dx) / c[k].det;
            slope -= share[k] * iv;
            guess += share[k] * (mean + c[k].own * (o->mean_x * ix - o->h * iv));
        }
        score_v[d] = slope;
        if (D) D[d] = guess;
    }
}

void fdm_mixture_draw(double *x0, const fdm_mixture *m, double uniform, const double *normal) {
    int k = 0;
    for (; k < m->count - 1 && uniform >= m->weight[k]; k++) uniform -= m->weight[k];
    for (int d = 0; d < m->dim; d++) x0[d] = m->mean[k * m->dim + d] + m->std[k] * normal[d];
}

/* ---- Distances ---- */

/* Component k along the axis. */
static double mean_along(const fdm_mixture *m, const double *axis, int k) {
    double sum = 0;
    for (int d = 0; d < m->dim; d++) sum += axis[d] * m->mean[k * m->dim + d];
    return sum;
}

double fdm_mixture_cdf(const fdm_mixture *m, const double *axis, double at) {
    double sum = 0;
    for (int k = 0; k < m->count; k++) {
        const double off = at - mean_along(m, axis, k);
        if (m->std[k] > 0)
            sum += m->weight[k] * 0.5 * erfc(-off / (m->std[k] * sqrt(2)));
        else
            sum += off >= 0 ? m->weight[k] : 0;
    }
    return sum;
}

void fdm_mixture_quantiles(double *q, size_t n, const fdm_mixture *m, const double *axis) {
    double low = INFINITY, high = -INFINITY;
    for (int k = 0; k < m->count; k++) {
        low = fmin(low, mean_along(m, axis, k) - 40 * m->std[k]);
        high = fmax(high, mean_along(m, axis, k) + 40 * m->std[k]);
    }
    /* Bisection, each quantile from the last one up: first double the reach, then halve. */
    double at = low;
    for (size_t i = 0; i < n; i++) {
        const double want = ((double)i + 0.5) / (double)n, tiny = 1e-12 * (high - low);
        double reach = i > 1 ? fmax(q[i - 1] - q[i - 2], tiny) : (high - low) / 64, from = at, to = at + reach;
        while (to < high && fdm_mixture_cdf(m, axis, to) < want) from = to, to += reach *= 2;
        while (to - from > tiny) {
            const double middle = 0.5 * (from + to);
            if (!(middle > from && middle < to)) break;
            if (fdm_mixture_cdf(m, axis, middle) < want)
                from = middle;
            else
                to = middle;
        }
        q[i] = at = 0.5 * (from + to);
    }
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double fdm_wasserstein(double *x, const double *q, size_t n) {
    double sum = 0;
    qsort(x, n, sizeof *x, by_size);
    for (size_t i = 0; i < n; i++) sum += fabs(x[i] - q[i]);
    return sum / (double)n;
}
