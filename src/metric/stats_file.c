/* stats_file.c - what is known of a set of images, as a tensor file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "fdm/tensorfile.h"
#include "metric/statistics.h"

void fdm_metric_stats_free(fdm_metric_stats *stats) {
    fdm_gaussian_free(&stats->gaussian);
    fdm_features_free(&stats->features);
    fdm_pca_free(&stats->pca);
    stats->fingerprint = 0;
}

uint64_t fdm_pca_fingerprint(const fdm_pca *pca) {
    const size_t pixels = (size_t)pca->channels * (size_t)pca->resolution * (size_t)pca->resolution;
    return fdm_fingerprint(pca->components, (size_t)pca->d * pixels * sizeof *pca->components);
}

/* ---- Reading ----------------------------------------------------------------------------------------------- */

struct reader {
    const fdm_tensors *set;
    const char *path;
    fdm_error *err;
};

/* The tensor as doubles, malloc'd, of that shape; a wanted size of 0 is any but 0, and is filled in.  *out stays NULL if there
 * is no such tensor. */
static fdm_status read_doubles(double **out, int64_t *shape, int ndim, const char *name, const struct reader *r) {
    enum { MOST = 1 << 24 }; /* of a dimension that becomes an int */
    char has[FDM_SHAPE_TEXT], wants[FDM_SHAPE_TEXT];
    const fdm_tensor *t = fdm_tensors_find(r->set, name);
    if (!t) return FDM_OK;
    bool fits = t->ndim == ndim;
    for (int i = 0; i < ndim && fits; i++) fits = shape[i] ? t->shape[i] == shape[i] : t->shape[i] > 0 && t->shape[i] < MOST;
    if (!fits) {
        fdm_shape_text(has, sizeof has, t->ndim, t->shape);
        fdm_shape_text(wants, sizeof wants, ndim, shape);
        return fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"%s\" has shape %s; it must be %s (0: any)", r->path, name, has, wants);
    }
    const int64_t count = fdm_tensor_numel(t);
    for (int i = 0; i < ndim; i++) shape[i] = t->shape[i];
    *out = (uint64_t)count <= SIZE_MAX / sizeof **out ? malloc((size_t)count * sizeof **out) : NULL;
    if (!*out) return fdm_fail_oom(r->err, name, t->nbytes);
    for (int64_t i = 0; i < count; i++) {
        (*out)[i] = fdm_tensor_get(t, i);
        if (!isfinite((*out)[i]))
            return fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"%s\": element %lld is not finite", r->path, name, (long long)i);
    }
    return FDM_OK;
}

static fdm_status read_gaussian(fdm_gaussian *g, bool as_ref, const struct reader *r) {
    const bool ref = as_ref && fdm_tensors_find(r->set, "mu_ref");
    const char *mu = ref ? "mu_ref" : "mu", *sigma = ref ? "sigma_ref" : "sigma";
    int64_t shape[2] = {0, 0};
    fdm_status status = read_doubles(&g->mu, shape, 1, mu, r);
    if (status != FDM_OK || !g->mu) return status;
    shape[1] = shape[0];
    g->d = (int)shape[0];
    status = read_doubles(&g->sigma, shape, 2, sigma, r);
    if (status == FDM_OK && !g->sigma)
        status = fdm_fail(r->err, FDM_BAD_INPUT, "%s: has \"%s\" but no \"%s\"", r->path, mu, sigma);
    return status;
}

static fdm_status read_features(fdm_metric_stats *s, const struct reader *r) {
    int64_t shape[2] = {0, s->gaussian.d};
    fdm_status status = read_doubles(&s->features.values, shape, 2, "features", r);
    if (status != FDM_OK || !s->features.values) return status;
    if (shape[0] < 2) return fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"features\" has one row; at least 2 are needed", r->path);
    s->features.n = shape[0];
    s->features.d = (int)shape[1];
    return s->gaussian.mu ? FDM_OK : fdm_gaussian_fit(&s->gaussian, &s->features, 0, r->err);
}

static fdm_status read_pca(fdm_metric_stats *s, const struct reader *r) {
    int64_t shape[4] = {s->gaussian.d, 0, 0, 0};
    double *explained = NULL;
    fdm_status status = read_doubles(&s->pca.components, shape, 4, "pca.components", r);
    if (status != FDM_OK || !s->pca.components) return status;
    if ((shape[1] != 1 && shape[1] != 3) || shape[2] != shape[3] || shape[2] > FDM_DATASET_MAX_RESOLUTION)
        return fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"pca.components\": its components are no square images", r->path);
    s->pca.d = (int)shape[0];
    s->pca.channels = (int)shape[1];
    s->pca.resolution = (int)shape[2];
    status = read_doubles(&s->pca.mean, shape + 1, 3, "pca.mean", r);
    if (status == FDM_OK && !s->pca.mean)
        status = fdm_fail(r->err, FDM_BAD_INPUT, "%s: has \"pca.components\" but no \"pca.mean\"", r->path);
    if (status == FDM_OK) status = read_doubles(&explained, shape, 0, "pca.explained", r);
    s->pca.explained = status == FDM_OK && explained ? explained[0] : NAN;
    free(explained);
    return status;
}

static fdm_status read_fingerprint(fdm_metric_stats *s, const struct reader *r) {
    const fdm_tensor *t = fdm_tensors_find(r->set, "fingerprint");
    if (!t) return FDM_OK;
    if (t->dtype != FDM_U64 || fdm_tensor_numel(t) != 1)
        return fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"fingerprint\" is not one U64", r->path);
    memcpy(&s->fingerprint, t->data, sizeof s->fingerprint);
    return FDM_OK;
}

fdm_status fdm_metric_stats_read(fdm_metric_stats *stats, const char *path, bool as_ref, fdm_error *err) {
    fdm_tensors set = {0};
    const struct reader r = {&set, path, err};
    fdm_status status = fdm_tensorfile_read(&set, path, err);
    if (status == FDM_OK) status = read_gaussian(&stats->gaussian, as_ref, &r);
    if (status == FDM_OK) status = read_features(stats, &r);
    if (status == FDM_OK && !stats->gaussian.mu)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: has neither \"mu\" and \"sigma\" nor \"features\"", path);
    if (status == FDM_OK) status = read_pca(stats, &r);
    if (status == FDM_OK) status = read_fingerprint(stats, &r);
    if (status != FDM_OK) fdm_metric_stats_free(stats);
    fdm_tensors_free(&set);
    return status;
}

/* ---- Writing ----------------------------------------------------------------------------------------------- */

fdm_status fdm_metric_stats_write(const fdm_metric_stats *s, const char *path, fdm_error *err) {
    const int64_t d = s->gaussian.d, r = s->pca.resolution, c = s->pca.channels;
    const struct {
        const char *name;
        fdm_dtype dtype;
        int ndim;
        int64_t shape[4];
        const void *data;
    } tensors[] = {{"mu", FDM_F64, 1, {d}, s->gaussian.mu},
                   {"sigma", FDM_F64, 2, {d, d}, s->gaussian.sigma},
                   {"features", FDM_F64, 2, {s->features.n, d}, s->features.values},
                   {"pca.mean", FDM_F64, 3, {c, r, r}, s->pca.mean},
                   {"pca.components", FDM_F64, 4, {d, c, r, r}, s->pca.components},
                   {"pca.explained", FDM_F64, 0, {0}, s->pca.components ? &s->pca.explained : NULL},
                   {"fingerprint", FDM_U64, 0, {0}, s->fingerprint ? &s->fingerprint : NULL}};
    fdm_tensors set = {0};
    fdm_tensor *added;
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < FDM_ARRAY_LEN(tensors) && status == FDM_OK; i++)
        if (tensors[i].data)
            status = fdm_tensors_add_borrowed(&set, tensors[i].name, tensors[i].dtype, tensors[i].ndim, tensors[i].shape,
                                              (void *)(uintptr_t)tensors[i].data, &added, err);
    if (status == FDM_OK) status = fdm_tensorfile_write(&set, path, err);
    fdm_tensors_free(&set);
    return status;
}
