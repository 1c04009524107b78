/* kernel.c - the kernel distance: the unbiased MMD^2 of the kernel k(a, b) = (a.b/d + 1)^3, block by block.
 *
 *     MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)
 *
 * in features shifted and scaled so that the reference has mean 0 and mean square 1: then the kernel, which weighs means,
 * covariances and third moments, knows no units.  Blocks share no image, so their values are independent.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "metric/statistics.h"

enum { BLOCKS = 20, LEAST = 10, MOST = 1000 }; /* automatic size of a block: a twentieth, within these */

static int64_t automatic_block(int64_t n) {
    int64_t block = n / BLOCKS;
    if (block > MOST) block = MOST;
    if (block < LEAST) block = n < LEAST ? n : LEAST;
    return block < 2 ? 2 : block;
}

/* What turns the reference into mean 0 and mean square 1. */
struct units {
    double *mu; /* (d), zeros at first */
    double scale;
};

static void find_units(struct units *u, const fdm_features *ref) {
    double sum = 0;
    for (int64_t i = 0; i < ref->n; i++)
        for (int j = 0; j < ref->d; j++) u->mu[j] += ref->values[i * ref->d + j];
    for (int j = 0; j < ref->d; j++) u->mu[j] /= (double)ref->n;
    for (int64_t i = 0; i < ref->n; i++) sum += fdm_square_distance(ref->values + i * ref->d, u->mu, ref->d);
    u->scale = sum > 0 ? sqrt((double)ref->n * ref->d / sum) : 1;
}

/* to (count, d) = the features order[0 .. count) in those units */
static void gather(double *to, const fdm_features *x, const int64_t *order, int64_t count, const struct units *u) {
    for (int64_t i = 0; i < count; i++)
        for (int j = 0; j < x->d; j++) to[i * x->d + j] = (x->values[order[i] * x->d + j] - u->mu[j]) * u->scale;
}

static double kernel(const double *a, const double *b, int d) {
    const double v = fdm_dot(a, b, d) / d + 1;
    return v * v * v;
}

/* sum over i, j of k(x_i, y_j); over i < j only where x is y, twice */
static double kernel_sum(const double *x, const double *y, int64_t count, int d) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double row = 0;
        for (int64_t j = x == y ? i + 1 : 0; j < count; j++) row += kernel(x + i * d, y + j * d, d);
        sum += x == y ? 2 * row : row;
    }
    return sum;
}

static double block_value(const double *x, const double *y, int64_t b, int d) {
    const double pairs = (double)b * (double)(b - 1), all = (double)b * (double)b;
    return kernel_sum(x, x, b, d) / pairs + kernel_sum(y, y, b, d) / pairs - 2 * kernel_sum(x, y, b, d) / all;
}

/* The arrays of a call, in one piece of memory. */
struct work {
    struct units units;
    double *rows; /* (threads, 2, block, d) */
    int64_t *order_ref, *order_images;
};

static fdm_status alloc_work(struct work *w, const fdm_features *ref, const fdm_features *images, int64_t block, int threads,
                             fdm_error *err) {
    size_t rows;
    *w = (struct work){0};
    if (!fdm_mul_size(&rows, 2 * (size_t)block * (size_t)threads, (size_t)ref->d * sizeof(double)))
        return fdm_fail_oom(err, "kernel distance", SIZE_MAX);
    w->units.mu = calloc((size_t)ref->d, sizeof(double));
    w->rows = malloc(rows);
    w->order_ref = malloc((size_t)ref->n * sizeof(int64_t));
    w->order_images = malloc((size_t)images->n * sizeof(int64_t));
    return w->units.mu && w->rows && w->order_ref && w->order_images ? FDM_OK : fdm_fail_oom(err, "kernel distance", rows);
}

static void free_work(struct work *w) {
    free(w->units.mu);
    free(w->rows);
    free(w->order_ref);
    free(w->order_images);
}

static fdm_status check(const fdm_features *ref, const fdm_features *images, int64_t block, fdm_error *err) {
    fdm_status status = fdm_features_same_d(ref->d, images->d, err);
    if (status == FDM_OK && (block == 1 || block < 0))
        status = fdm_fail(err, FDM_BAD_USAGE, "block: %lld; at least 2 images make a block", (long long)block);
    const int64_t least = block ? block : 2;
    if (status == FDM_OK) status = fdm_features_check(ref, least, "reference", err);
    if (status == FDM_OK) status = fdm_features_check(images, least, "images", err);
    return status;
}

fdm_status fdm_kernel_distance(double **values, int64_t *blocks, int64_t *block_size, const fdm_features *ref,
                               const fdm_features *images, uint64_t seed, int threads, const fdm_ranks *ranks,
                               fdm_error *err) {
    struct work w;
    *values = NULL;
    fdm_status status = check(ref, images, *block_size, err);
    if (status != FDM_OK) return status;
    const int64_t n = ref->n < images->n ? ref->n : images->n, block = *block_size ? *block_size : automatic_block(n);
    *block_size = block;
    *blocks = n / block;
    threads = fdm_min_int(threads ? threads : fdm_max_threads(), (int)(*blocks < 1024 ? *blocks : 1024));
    status = alloc_work(&w, ref, images, block, threads, err);
    if (status == FDM_OK && !(*values = malloc((size_t)*blocks * sizeof **values)))
        status = fdm_fail_oom(err, "kernel distance", (size_t)*blocks * sizeof **values);
    status = fdm_metric_agree(ranks, status, err);
    if (status == FDM_OK) {
        const double begun = fdm_now();
        const fdm_ranks_share mine = fdm_ranks_share_of(ranks, *blocks);
        find_units(&w.units, ref);
        fdm_metric_shuffle(w.order_ref, ref->n, seed, FDM_STREAM_BLOCK_REF, 0);
        fdm_metric_shuffle(w.order_images, images->n, seed, FDM_STREAM_BLOCK_IMAGES, 0);
        const size_t size = (size_t)block * (size_t)ref->d;
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
        for (int64_t k = mine.first; k < mine.end; k++) {
            double *x = w.rows + 2 * size * (size_t)fdm_thread_index(), *y = x + size;
            gather(x, ref, w.order_ref + k * block, block, &w.units);
            gather(y, images, w.order_images + k * block, block, &w.units);
            (*values)[k] = block_value(x, y, block, ref->d);
        }
        status = fdm_metric_agree_after(ranks, FDM_OK, fdm_now() - begun, err);
    }
    if (status == FDM_OK) status = fdm_ranks_gather_all(ranks, *values, sizeof **values, *blocks, err);
    free_work(&w);
    return status;
}
