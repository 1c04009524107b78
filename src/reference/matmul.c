/* matmul.c - the one matrix product of the reference: BLIS dgemm if the build has it, else three loops. */
#include "reference/reference.h"

#ifdef FDM_HAVE_BLIS
#include <cblas.h>

void fdm_ref_matmul(double *c, size_t ldc, enum fdm_ref_transpose transpose, const double *a, size_t lda,
                    const double *b, size_t ldb, int m, int n, int k) {
    cblas_dgemm(CblasRowMajor, transpose == FDM_REF_ATB ? CblasTrans : CblasNoTrans,
                transpose == FDM_REF_ABT ? CblasTrans : CblasNoTrans, m, n, k, 1.0, a, (int)lda, b,
                (int)ldb, 0.0, c, (int)ldc);
}

#else

/* c[i][j] = sum_p a[i][p] b[p][j].  The order i, p, j walks b and c along rows; with B transposed the
 * order i, j, p does. */
void fdm_ref_matmul(double *c, size_t ldc, enum fdm_ref_transpose transpose, const double *a, size_t lda,
                    const double *b, size_t ldb, int m, int n, int k) {
    const size_t rows = (size_t)m, columns = (size_t)n, depth = (size_t)k;
    for (size_t i = 0; i < rows; i++) {
        double *ci = c + i * ldc;
        for (size_t j = 0; j < columns; j++) ci[j] = 0.0;
        if (transpose == FDM_REF_ABT) {
            for (size_t j = 0; j < columns; j++)
                for (size_t p = 0; p < depth; p++) ci[j] += a[i * lda + p] * b[j * ldb + p];
            continue;
        }
        for (size_t p = 0; p < depth; p++) {
            const double aip = transpose == FDM_REF_ATB ? a[p * lda + i] : a[i * lda + p];
            for (size_t j = 0; j < columns; j++) ci[j] += aip * b[p * ldb + j];
        }
    }
}

#endif
