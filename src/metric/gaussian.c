/* gaussian.c - mean and covariance, and the Frechet distance between two Gaussians.
 *
 *     d^2 = |mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2)
 *
 * With S = F F^T, S_a S_b has the eigenvalues of F_b^T S_a F_b = M^T M, M = F_a^T F_b, so the trace of its root is the sum of
 * the singular values of M.  F is a Cholesky factor, pivoted by the largest diagonal element left: it ends at the rank of S,
 * when only rounding is left (4 d eps of the largest), whose roots, 1e-8, would be noise in the sum.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "metric/lapack.h"
#include "metric/statistics.h"

enum { MAX_D = 1 << 14 };

double fdm_square_distance(const double *a, const double *b, int d) {
    double sum[4] = {0};
    int i = 0;
    for (; i + 4 <= d; i += 4)
        for (int k = 0; k < 4; k++) sum[k] += (a[i + k] - b[i + k]) * (a[i + k] - b[i + k]);
    for (; i < d; i++) sum[0] += (a[i] - b[i]) * (a[i] - b[i]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

double fdm_dot(const double *a, const double *b, int d) {
    double sum[4] = {0};
    int i = 0;
    for (; i + 4 <= d; i += 4)
        for (int k = 0; k < 4; k++) sum[k] += a[i + k] * b[i + k];
    for (; i < d; i++) sum[0] += a[i] * b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* ---- Mean and covariance ----------------------------------------------------------------------------------- */

static void weighted_mean(double *mu, const fdm_features *x, const int *weight, int64_t total) {
    for (int j = 0; j < x->d; j++) mu[j] = 0;
    for (int64_t n = 0; n < x->n; n++) {
        const double w = weight ? weight[n] : 1, *row = x->values + n * x->d;
        for (int j = 0; j < x->d; j++) mu[j] += w * row[j];
    }
    for (int j = 0; j < x->d; j++) mu[j] /= (double)total;
}

/* sigma[i][j] for the rows i of [first, last) and j >= i, not yet divided. */
static void covariance_rows(double *sigma, const double *mu, const fdm_features *x, const int *weight, int first, int last) {
    const int d = x->d;
    for (int i = first; i < last; i++)
        for (int j = i; j < d; j++) sigma[(size_t)i * (size_t)d + (size_t)j] = 0;
    for (int64_t n = 0; n < x->n; n++) {
        const double w = weight ? weight[n] : 1, *row = x->values + n * d;
        if (w == 0) continue;
        for (int i = first; i < last; i++) {
            const double factor = w * (row[i] - mu[i]);
            double *to = sigma + (size_t)i * (size_t)d;
#pragma omp simd
            for (int j = i; j < d; j++) to[j] += factor * (row[j] - mu[j]);
        }
    }
}

void fdm_weighted_gaussian(double *mu, double *sigma, const fdm_features *x, const int *weight, int64_t total, int threads) {
    enum { ROWS = 16 }; /* of sigma at a time */
    const size_t d = (size_t)x->d;
    weighted_mean(mu, x, weight, total);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
    for (int i = 0; i < x->d; i += ROWS) covariance_rows(sigma, mu, x, weight, i, fdm_min_int(i + ROWS, x->d));
    for (size_t i = 0; i < d; i++)
        for (size_t j = i; j < d; j++) {
            sigma[i * d + j] /= (double)(total - 1);
            sigma[j * d + i] = sigma[i * d + j];
        }
}

fdm_status fdm_gaussian_fit(fdm_gaussian *g, const fdm_features *features, int threads, fdm_error *err) {
    fdm_status status = fdm_features_check(features, 2, "features", err);
    if (status == FDM_OK && (features->d < 1 || features->d > MAX_D))
        status = fdm_fail(err, FDM_BAD_INPUT, "%d features; covariances are made of 1 to %d", features->d, MAX_D);
    if (status == FDM_OK) status = fdm_gaussian_alloc(g, features->d, err);
    if (status == FDM_OK)
        fdm_weighted_gaussian(g->mu, g->sigma, features, NULL, features->n, threads ? threads : fdm_max_threads());
    return status;
}

/* ---- Frechet distance -------------------------------------------------------------------------------------- */

static double trace(const fdm_gaussian *g) {
    double sum = 0;
    for (int i = 0; i < g->d; i++) sum += g->sigma[(size_t)i * ((size_t)g->d + 1)];
    return sum;
}

static double largest_element(const fdm_gaussian *g) {
    double largest = 0;
    for (size_t i = 0; i < (size_t)g->d * (size_t)g->d; i++) largest = fmax(largest, fabs(g->sigma[i]));
    return largest;
}

static fdm_status check(const fdm_gaussian *g, fdm_error *err) {
    const size_t d = (size_t)g->d;
    const double tolerance = 1e-6 * largest_element(g);
    for (size_t i = 0; i < d; i++)
        if (!isfinite(g->mu[i])) return fdm_fail(err, FDM_BAD_INPUT, "mu: element %zu is not finite", i);
    for (size_t i = 0; i < d * d; i++)
        if (!isfinite(g->sigma[i])) return fdm_fail(err, FDM_BAD_INPUT, "sigma: element %zu is not finite", i);
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < i; j++)
            if (fabs(g->sigma[i * d + j] - g->sigma[j * d + i]) > tolerance)
                return fdm_fail(err, FDM_BAD_INPUT, "sigma: elements [%zu,%zu] and [%zu,%zu] differ: no covariance", i, j, j, i);
    return FDM_OK;
}

size_t fdm_frechet_work(int d) { return 3 * (size_t)d * (size_t)d; }

/* left -= row^T row */
static void subtract_square(double *left, const double *row, int d) {
    for (int i = 0; i < d; i++) {
        double *to = left + (size_t)i * (size_t)d;
#pragma omp simd
        for (int j = 0; j < d; j++) to[j] -= row[i] * row[j];
    }
}

static int largest_diagonal(const double *left, int d) {
    int at = 0;
    for (int i = 1; i < d; i++)
        if (left[(size_t)i * ((size_t)d + 1)] > left[(size_t)at * ((size_t)d + 1)]) at = i;
    return at;
}

/* factor (rank, d), S = factor^T factor; left: (d, d) of work. */
static fdm_status root_factor(double *factor, int *rank, const fdm_gaussian *g, double *left, fdm_error *err) {
    const size_t d = (size_t)g->d;
    const double scale = largest_element(g), rounding = 4 * g->d * DBL_EPSILON * scale;
    memcpy(left, g->sigma, d * d * sizeof *left);
    for (*rank = 0; *rank < g->d; ++*rank) {
        const size_t at = (size_t)largest_diagonal(left, g->d);
        const double pivot = left[at * (d + 1)];
        double *row = factor + (size_t)*rank * d;
        if (!(pivot > rounding)) break;
        for (size_t j = 0; j < d; j++) row[j] = left[at * d + j] / sqrt(pivot);
        subtract_square(left, row, g->d);
    }
    for (size_t i = 0; i < d * d; i++)
        if (fabs(left[i]) > 1e-6 * scale)
            return fdm_fail(err, FDM_BAD_INPUT, "sigma: is not positive semi-definite (%g beside %g in row %zu): no covariance",
                            left[i], scale, i / d);
    return FDM_OK;
}

/* tr (S_a S_b)^(1/2) */
static fdm_status root_trace(double *result, const fdm_gaussian *a, const fdm_gaussian *b, double *work, fdm_error *err) {
    const int d = a->d;
    const size_t square = (size_t)d * (size_t)d;
    double *factor_a = work, *factor_b = work + square, *m = work + 2 * square;
    int rank_a, rank_b;
    *result = 0;
    fdm_status status = root_factor(factor_a, &rank_a, a, m, err);
    if (status == FDM_OK) status = root_factor(factor_b, &rank_b, b, m, err);
    if (status != FDM_OK || rank_a == 0 || rank_b == 0) return status;
    for (int i = 0; i < rank_a; i++)
        for (int j = 0; j < rank_b; j++)
            m[(size_t)i * (size_t)rank_b + (size_t)j] =
                fdm_dot(factor_a + (size_t)i * (size_t)d, factor_b + (size_t)j * (size_t)d, d);
    return fdm_nuclear_norm(result, m, rank_a, rank_b, err);
}

fdm_status fdm_frechet_checked(double *distance, const fdm_gaussian *a, const fdm_gaussian *b, double *work, fdm_error *err) {
    double root;
    const fdm_status status = root_trace(&root, a, b, work, err);
    if (status != FDM_OK) return status;
    /* of the very sum that is 0 for equal Gaussians rounding may leave less */
    *distance = fdm_square_distance(a->mu, b->mu, a->d) + fmax(0, trace(a) + trace(b) - 2 * root);
    return FDM_OK;
}

fdm_status fdm_frechet_distance(double *distance, const fdm_gaussian *a, const fdm_gaussian *b, fdm_error *err) {
    fdm_status status = fdm_features_same_d(a->d, b->d, err);
    if (status == FDM_OK) status = check(a, err);
    if (status == FDM_OK) status = check(b, err);
    if (status != FDM_OK) return status;
    const size_t bytes = fdm_frechet_work(a->d) * sizeof(double);
    double *work = calloc(1, bytes); /* zeros for the analyser, which does not follow sizes */
    if (!work) return fdm_fail_oom(err, "Frechet distance", bytes);
    status = fdm_frechet_checked(distance, a, b, work, err);
    free(work);
    return status;
}
