/* features.c - images and features as arrays: made, chosen, checked, freed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metric/statistics.h"

/* ---- Features ---------------------------------------------------------------------------------------------- */

static bool doubles(double **out, size_t rows, size_t columns) {
    size_t count, bytes;
    if (!fdm_mul_size(&count, rows, columns) || !fdm_mul_size(&bytes, count, sizeof **out)) return false;
    *out = malloc(bytes ? bytes : 1);
    return *out != NULL;
}

fdm_status fdm_features_alloc(fdm_features *x, int64_t n, int d, fdm_error *err) {
    *x = (fdm_features){.n = n, .d = d};
    return doubles(&x->values, (size_t)n, (size_t)d) ? FDM_OK : fdm_fail_oom(err, "features", (size_t)n * (size_t)d * 8);
}

fdm_status fdm_features_gather(fdm_features *features, int64_t n, const fdm_ranks *ranks, fdm_error *err) {
    const size_t row = (size_t)features->d * sizeof(double);
    fdm_features all = {0};
    if (!ranks) return FDM_OK;
    fdm_status status = fdm_features_alloc(&all, n, features->d, err);
    status = fdm_metric_agree(ranks, status, err);
    if (status == FDM_OK) {
        const int64_t first = fdm_ranks_share_of(ranks, n).first;
        memcpy(all.values + first * all.d, features->values, (size_t)features->n * row);
        status = fdm_ranks_gather_all(ranks, all.values, row, n, err);
    }
    fdm_features_free(status == FDM_OK ? features : &all);
    if (status == FDM_OK) *features = all;
    return status;
}

void fdm_features_free(fdm_features *features) {
    free(features->values);
    *features = (fdm_features){0};
}

fdm_status fdm_features_check(const fdm_features *x, int64_t least, const char *what, fdm_error *err) {
    if (x->n < least)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: %lld of them; at least %lld are needed", what, (long long)x->n,
                        (long long)least);
    for (int64_t i = 0; i < x->n * x->d; i++)
        if (!isfinite(x->values[i]))
            return fdm_fail(err, FDM_BAD_INPUT, "%s: feature %lld of image %lld is not finite", what,
                            (long long)(i % x->d), (long long)(i / x->d));
    return FDM_OK;
}

fdm_status fdm_features_same_d(int a, int b, fdm_error *err) {
    if (a == b) return FDM_OK;
    return fdm_fail(err, FDM_BAD_INPUT, "one side has %d features, the other %d: they are not of one feature space", a, b);
}

fdm_status fdm_gaussian_alloc(fdm_gaussian *g, int d, fdm_error *err) {
    *g = (fdm_gaussian){.d = d};
    if (doubles(&g->mu, (size_t)d, 1) && doubles(&g->sigma, (size_t)d, (size_t)d)) return FDM_OK;
    fdm_gaussian_free(g);
    return fdm_fail_oom(err, "covariance", (size_t)d * (size_t)d * 8);
}

void fdm_gaussian_free(fdm_gaussian *g) {
    free(g->mu);
    free(g->sigma);
    *g = (fdm_gaussian){0};
}

/* ---- Images ------------------------------------------------------------------------------------------------ */

static size_t image_bytes(const fdm_images *x) {
    return (size_t)x->channels * (size_t)x->resolution * (size_t)x->resolution;
}

fdm_images fdm_images_share(const fdm_images *images, const fdm_ranks *ranks) {
    const fdm_ranks_share mine = fdm_ranks_share_of(ranks, images->n);
    fdm_images share = *images;
    share.pixels += (size_t)mine.first * image_bytes(images);
    share.n = mine.end - mine.first;
    return share;
}

void fdm_images_free(fdm_images *images) {
    free(images->pixels);
    *images = (fdm_images){0};
}

static fdm_status alloc_images(fdm_images *x, int64_t n, int channels, int resolution, fdm_error *err) {
    size_t bytes;
    *x = (fdm_images){.n = n, .channels = channels, .resolution = resolution};
    if (!fdm_mul_size(&bytes, image_bytes(x), (size_t)n)) bytes = SIZE_MAX;
    x->pixels = bytes < SIZE_MAX ? malloc(bytes) : NULL;
    return x->pixels ? FDM_OK : fdm_fail_oom(err, "images; choose fewer with --max-images", bytes);
}

static int by_value(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* *order = a random permutation of 0 .. n-1, malloc'd. */
static fdm_status random_order(int64_t **order, int64_t n, uint64_t seed, enum fdm_metric_stream stream, fdm_error *err) {
    *order = malloc((size_t)n * sizeof **order);
    if (!*order) return fdm_fail_oom(err, "order of the images", (size_t)n * sizeof **order);
    fdm_metric_shuffle(*order, n, seed, stream, 0);
    return FDM_OK;
}

fdm_status fdm_images_read(fdm_images *images, fdm_dataset *set, int64_t max_images, uint64_t seed, const fdm_ranks *ranks,
                           fdm_error *err) {
    const int64_t all = fdm_dataset_count(set), n = max_images > 0 && max_images < all ? max_images : all;
    const fdm_ranks_share mine = fdm_ranks_share_of(ranks, n);
    const double begun = fdm_now();
    int64_t *chosen = NULL;
    fdm_status status = random_order(&chosen, all, seed, FDM_STREAM_SUBSET, err);
    if (status == FDM_OK) {
        qsort(chosen, (size_t)n, sizeof *chosen, by_value);
        status = alloc_images(images, n, fdm_dataset_channels(set), fdm_dataset_resolution(set), err);
    }
    for (int64_t i = mine.first; i < mine.end && status == FDM_OK; i++)
        status = fdm_dataset_image(set, chosen[i], images->pixels + (size_t)i * image_bytes(images), err);
    status = fdm_metric_agree_after(ranks, status, fdm_now() - begun, err);
    if (status == FDM_OK) status = fdm_ranks_gather_all(ranks, images->pixels, image_bytes(images), n, err);
    if (status != FDM_OK) fdm_images_free(images);
    free(chosen);
    return status;
}

fdm_status fdm_images_split(fdm_images *half, fdm_images *other, const fdm_images *images, uint64_t seed, fdm_error *err) {
    fdm_images *const to[2] = {half, other};
    const int64_t n = images->n / 2;
    int64_t *order = NULL;
    if (n < 1) return fdm_fail(err, FDM_BAD_INPUT, "%lld images cannot be halved", (long long)images->n);
    fdm_status status = random_order(&order, images->n, seed, FDM_STREAM_SPLIT, err);
    for (int h = 0; h < 2 && status == FDM_OK; h++) {
        status = alloc_images(to[h], n, images->channels, images->resolution, err);
        for (int64_t i = 0; i < n && status == FDM_OK; i++)
            memcpy(to[h]->pixels + (size_t)i * image_bytes(images),
                   images->pixels + (size_t)order[h * n + i] * image_bytes(images), image_bytes(images));
    }
    if (status != FDM_OK) fdm_images_free(half);
    free(order);
    return status;
}
