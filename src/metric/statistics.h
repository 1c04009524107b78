/* statistics.h - what the measures and their bootstrap share; internal.
 *
 * All sums here run over samples in their order: threads and ranks divide outputs, never a sum.
 */
#ifndef FDM_METRIC_STATISTICS_H
#define FDM_METRIC_STATISTICS_H

#include "base/base.h"
#include "fdm/metric.h"

/* fdm_ranks_agree_after, in a form that shows what is true of it: it makes no failure good. */
static inline fdm_status fdm_metric_agree_after(const fdm_ranks *ranks, fdm_status mine, double seconds, fdm_error *err) {
    const fdm_status all = fdm_ranks_agree_after(ranks, mine, seconds, err);
    return all == FDM_OK ? mine : all;
}
static inline fdm_status fdm_metric_agree(const fdm_ranks *ranks, fdm_status mine, fdm_error *err) {
    return fdm_metric_agree_after(ranks, mine, 0, err);
}

/* Mean and covariance of rows that count `weight` times each (NULL: once), total >= 2 rows in all, into mu (d) and
 * sigma (d, d). */
void fdm_weighted_gaussian(double *mu, double *sigma, const fdm_features *x, const int *weight, int64_t total, int threads);

/* The Frechet distance of Gaussians that are known to be some; `work`: fdm_frechet_work(d) doubles. */
size_t fdm_frechet_work(int d);
fdm_status fdm_frechet_checked(double *distance, const fdm_gaussian *a, const fdm_gaussian *b, double *work, fdm_error *err);

/* |a - b|^2 and a.b, each in four chains of additions. */
double fdm_square_distance(const double *a, const double *b, int d);
double fdm_dot(const double *a, const double *b, int d);

/* Errors FDM_BAD_INPUT unless every element is finite and there are at least `least` rows; `what` names them. */
fdm_status fdm_features_check(const fdm_features *x, int64_t least, const char *what, fdm_error *err);
/* Errors FDM_BAD_INPUT unless both have the same number of columns. */
fdm_status fdm_features_same_d(int a, int b, fdm_error *err);

/* A fresh (n, d) in an all-zero struct.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_features_alloc(fdm_features *x, int64_t n, int d, fdm_error *err);
fdm_status fdm_gaussian_alloc(fdm_gaussian *g, int d, fdm_error *err);

/* FNV-1a of bytes. */
uint64_t fdm_fingerprint(const void *bytes, size_t count);

/* ---- Random choices: Philox, so that every number depends on its place alone ---- */

/* What a number is for: the high half of the counter. */
enum fdm_metric_stream {
    FDM_STREAM_SUBSET = 1,
    FDM_STREAM_SPLIT,
    FDM_STREAM_BLOCK_REF,
    FDM_STREAM_BLOCK_IMAGES,
    FDM_STREAM_BOOTSTRAP_REF,
    FDM_STREAM_BOOTSTRAP_IMAGES,
    FDM_STREAM_BOOTSTRAP_KERNEL,
    FDM_STREAM_BOOTSTRAP_PRECISION,
    FDM_STREAM_BOOTSTRAP_RECALL,
    FDM_STREAM_CLASSIFIER_INIT,
    FDM_STREAM_CLASSIFIER_HOLD_OUT,
    FDM_STREAM_CLASSIFIER_ORDER,
    FDM_STREAM_CLASSIFIER_SHIFT
};
/* Number `index` of draw `draw` of a stream, below `bound` (1 .. 2^32; its bias is at most bound/2^64). */
uint64_t fdm_metric_random(uint64_t seed, enum fdm_metric_stream stream, uint32_t draw, uint64_t index, uint64_t bound);
/* order (n) = a random permutation of 0 .. n-1. */
void fdm_metric_shuffle(int64_t *order, int64_t n, uint64_t seed, enum fdm_metric_stream stream, uint32_t draw);

#endif
