/* winograd_bound.h - test helper: how much Winograd's F(m x m, 3x3) may round, from its interpolation points.
 *
 * A one-dimensional output is  y_i = sum over points p:  A_ip (sum over taps k: G_pk g_k)(sum over inputs j: B_pj d_j).
 * Its rounding errors are at most  roundings * 2^-24 * sum |A_ip| |G_pk| |g_k| |B_pj| |d_j|  <=  roundings * 2^-24 * a *
 * sum |g| * sum |d|,  a = max over i, k, j of sum over p |A_ip G_pk B_pj|; in two dimensions a^2.  The same trilinear form
 * bounds its two adjoints.  The matrices are made here from the points (Toom and Cook, after Lagrange), so that a slip in
 * simd/winograd.c cannot hide. */
#ifndef FDM_TESTS_WINOGRAD_BOUND_H
#define FDM_TESTS_WINOGRAD_BOUND_H

#include <math.h>

struct winograd_matrices {
    int m, size;
    double a[4][6], g[6][3], b[6][6]; /* A^T (m, size), G (size, 3), B^T (size, size) */
};

/* Coefficients of the product of (x - points[i]) over i != left_out. */
static inline void winograd_polynomial(double *c, const double *points, int count, int left_out) {
    int degree = 0;
    c[0] = 1;
    for (int i = 0; i < count; i++) {
        if (i == left_out) continue;
        c[++degree] = 0;
        for (int k = degree; k > 0; k--) c[k] = c[k - 1] - points[i] * c[k];
        c[0] *= -points[i];
    }
}

static inline struct winograd_matrices winograd_matrices(int m) {
    static const double points2[] = {0, 1, -1}, points4[] = {0, 1, -1, 0.5, -2};
    const double *points = m == 2 ? points2 : points4;
    struct winograd_matrices w = {.m = m, .size = m + 2};
    const int finite = w.size - 1;
    for (int p = 0; p < finite; p++) {
        double norm = 1;
        for (int q = 0; q < finite; q++) norm *= q == p ? 1 : points[p] - points[q];
        for (int i = 0; i < m; i++) w.a[i][p] = pow(points[p], i);
        for (int k = 0; k < 3; k++) w.g[p][k] = pow(points[p], k) / norm;
        winograd_polynomial(w.b[p], points, finite, p);
    }
    w.a[m - 1][finite] = 1, w.g[finite][2] = 1; /* the point at infinity */
    winograd_polynomial(w.b[finite], points, finite, -1);
    return w;
}

/* a^2 */
static inline double winograd_amplification(int m) {
    const struct winograd_matrices w = winograd_matrices(m);
    double largest = 0;
    for (int i = 0; i < m; i++)
        for (int k = 0; k < 3; k++)
            for (int j = 0; j < w.size; j++) {
                double sum = 0;
                for (int p = 0; p < w.size; p++) sum += fabs(w.a[i][p] * w.g[p][k] * w.b[p][j]);
                largest = fmax(largest, sum);
            }
    return largest * largest;
}

/* Roundings on the longest path beside the chains over channels: B^T d B (at most 3 a dimension), G g G^T (one), A^T M A
 * (at most 5 a dimension), bias and epilogue. */
enum { WINOGRAD_ROUNDINGS = 20 };

#endif
