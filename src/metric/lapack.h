/* lapack.h - the two decompositions that the measures need, through LAPACK; internal.
 *
 * Matrices are row-major and dense.  Results depend on the LAPACK installed in their last digits.
 */
#ifndef FDM_METRIC_LAPACK_H
#define FDM_METRIC_LAPACK_H

#include "base/base.h"

/* The `count` largest eigenvalues of a symmetric matrix (n, n), falling, and their orthonormal eigenvectors, (count, n);
 * `a` is used up.  n and count at least 1.
 * Errors: FDM_NO_RESOURCE out of memory or in a build without LAPACK; FDM_BAD_INPUT if there is no convergence (a number
 * that is not finite). */
fdm_status fdm_symmetric_eigen(double *values, double *vectors, double *a, int n, int count, fdm_error *err);

/* The sum of the singular values of a matrix (rows, columns), which is used up.  Errors: as above. */
fdm_status fdm_nuclear_norm(double *norm, double *a, int rows, int columns, fdm_error *err);

#endif
