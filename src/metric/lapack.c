/* lapack.c - LAPACK called as it is, without a C interface in between: Fortran passes everything by address, and the
 * lengths of character arguments behind all others.
 *
 * The library is opened when it is first needed and stays: to be linked with it would cost every command 27 ms, in which
 * OpenBLAS, which often stands for LAPACK, starts its threads.
 */
#include "metric/lapack.h"

#include <stdlib.h>
#include <string.h>

#ifndef FDM_NO_LAPACK
#include <dlfcn.h>

/* Eigenvalues il..iu, rising, of a symmetric matrix: relatively robust representations. */
typedef void dsyevr_fn(const char *job, const char *range, const char *uplo, const int *n, double *a, const int *lda,
                       const double *vl, const double *vu, const int *il, const int *iu, const double *tolerance, int *found,
                       double *w, double *z, const int *ldz, int *support, double *work, const int *lwork, int *iwork,
                       const int *liwork, int *info, size_t, size_t, size_t);
/* Singular values, falling: QR iteration. */
typedef void dgesvd_fn(const char *job_u, const char *job_vt, const int *m, const int *n, double *a, const int *lda, double *s,
                       double *u, const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *info,
                       size_t, size_t);

struct lapack {
    void *handle;
    dsyevr_fn *dsyevr;
    dgesvd_fn *dgesvd;
};

/* After the first time this takes a microsecond: closing does not unload (RTLD_NODELETE). */
static bool open_lapack(struct lapack *l) {
    static const char *const names[] = {"liblapack.so.3", "libopenblas.so.0", "liblapack.so"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(names); i++) {
        l->handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (!l->handle) continue;
        void *dsyevr = dlsym(l->handle, "dsyevr_"), *dgesvd = dlsym(l->handle, "dgesvd_");
        memcpy(&l->dsyevr, &dsyevr, sizeof dsyevr); /* C has no conversion from an object's pointer to a function's */
        memcpy(&l->dgesvd, &dgesvd, sizeof dgesvd);
        if (dsyevr && dgesvd) return true;
        dlclose(l->handle);
    }
    return false;
}

static void close_lapack(struct lapack *l) { dlclose(l->handle); }

static fdm_status no_lapack(fdm_error *err) {
    return fdm_fail(err, FDM_NO_RESOURCE,
                    "LAPACK, which computes eigenvalues, cannot be opened (liblapack.so.3); apt install liblapack3");
}

/* `info` of a routine that ended badly. */
static fdm_status refuse(const char *routine, int info, fdm_error *err) {
    return fdm_fail(err, FDM_BAD_INPUT, "LAPACK's %s gave up (info %d): is a number of the matrix not finite?", routine, info);
}

struct eigen {
    struct lapack lapack;
    double *w, *z, *work;
    int *support, *iwork;
};

/* One call: first only asks for the sizes of the work arrays (lwork -1). */
static int call_dsyevr(const struct eigen *e, double *a, int n, int count, int lwork, int liwork) {
    const int first = n - count + 1;
    const double unused = 0, tolerance = 0;
    int found, info;
    e->lapack.dsyevr("V", "I", "L", &n, a, &n, &unused, &unused, &first, &n, &tolerance, &found, e->w, e->z, &n,
                     e->support, e->work, &lwork, e->iwork, &liwork, &info, 1, 1, 1);
    return info;
}

fdm_status fdm_symmetric_eigen(double *values, double *vectors, double *a, int n, int count, fdm_error *err) {
    double work_size = 0;
    int iwork_size = 0;
    size_t bytes = (size_t)n * ((size_t)count + 1) * sizeof(double);
    struct eigen e = {.work = &work_size, .iwork = &iwork_size};
    if (!open_lapack(&e.lapack)) return no_lapack(err);
    int info = call_dsyevr(&e, a, n, count, -1, -1);
    const int lwork = (int)work_size;
    fdm_status status = info ? refuse("dsyevr", info, err) : FDM_OK;
    e.w = malloc((size_t)n * sizeof *e.w);
    e.z = malloc((size_t)n * (size_t)count * sizeof *e.z);
    e.work = malloc((size_t)lwork * sizeof *e.work);
    e.support = malloc(2 * (size_t)n * sizeof *e.support);
    e.iwork = malloc((size_t)iwork_size * sizeof *e.iwork);
    if (status == FDM_OK && (!e.w || !e.z || !e.work || !e.support || !e.iwork)) status = fdm_fail_oom(err, "eigenvectors", bytes);
    if (status == FDM_OK && (info = call_dsyevr(&e, a, n, count, lwork, iwork_size)) != 0)
        status = refuse("dsyevr", info, err);
    for (int i = 0; i < count && status == FDM_OK; i++) {
        const int from = count - 1 - i; /* rising there, falling here */
        values[i] = e.w[from];
        memcpy(vectors + (size_t)i * (size_t)n, e.z + (size_t)from * (size_t)n, (size_t)n * sizeof *vectors);
    }
    free(e.w);
    free(e.z);
    free(e.work);
    free(e.support);
    free(e.iwork);
    close_lapack(&e.lapack);
    return status;
}

fdm_status fdm_nuclear_norm(double *norm, double *a, int rows, int columns, fdm_error *err) {
    const int n = fdm_min_int(rows, columns), one = 1, query = -1;
    double size = 0, unused, *s = malloc((size_t)n * sizeof *s);
    struct lapack l;
    int info;
    if (!s) return fdm_fail_oom(err, "singular values", (size_t)n * sizeof *s);
    if (!open_lapack(&l)) {
        free(s);
        return no_lapack(err);
    }
    /* Fortran sees the transpose, whose singular values are the same. */
    l.dgesvd("N", "N", &columns, &rows, a, &columns, s, &unused, &one, &unused, &one, &size, &query, &info, 1, 1);
    const int lwork = (int)size;
    double *work = malloc((size_t)fdm_max_int(1, lwork) * sizeof *work);
    fdm_status status = work ? FDM_OK : fdm_fail_oom(err, "singular values", (size_t)lwork * sizeof *work);
    if (status == FDM_OK) {
        l.dgesvd("N", "N", &columns, &rows, a, &columns, s, &unused, &one, &unused, &one, work, &lwork, &info, 1, 1);
        if (info) status = refuse("dgesvd", info, err);
    }
    *norm = 0;
    for (int i = n - 1; i >= 0 && status == FDM_OK; i--) *norm += s[i]; /* the small ones first */
    free(work);
    free(s);
    close_lapack(&l);
    return status;
}

#else

static fdm_status no_lapack(fdm_error *err) {
    return fdm_fail(err, FDM_NO_RESOURCE,
                    "built without LAPACK (LAPACK=no), which computes eigenvalues: make again with liblapack3 installed");
}

fdm_status fdm_symmetric_eigen(double *values, double *vectors, double *a, int n, int count, fdm_error *err) {
    (void)values, (void)vectors, (void)a, (void)n, (void)count;
    return no_lapack(err);
}

fdm_status fdm_nuclear_norm(double *norm, double *a, int rows, int columns, fdm_error *err) {
    (void)norm, (void)a, (void)rows, (void)columns;
    return no_lapack(err);
}

#endif
