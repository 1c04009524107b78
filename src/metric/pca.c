/* pca.c - principal components of images.
 *
 * Pixels are integers below 256, so the sums of their products are exact whatever the order, and so are the centred ones:
 * with N images of D pixels p,
 *     D <= N:  N (N - 1) Cov_ij       = N sum_n p_ni p_nj - s_i s_j                       (D, D), s_i = sum_n p_ni
 *     N < D:   N^2 (X X^T)_ab         = N^2 G_ab - N g_a - N g_b + g                      (N, N), G the scalar products,
 *                                                                                          g_a its row sums, g their sum
 * where X are the centred images; an eigenvector u of X X^T is the component X^T u, normalised.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "metric/lapack.h"
#include "metric/statistics.h"

static const double half_range = 127.5; /* of a pixel: -1 .. 1 */

void fdm_pca_free(fdm_pca *pca) {
    free(pca->mean);
    free(pca->components);
    *pca = (fdm_pca){0};
}

static int pixel_count(int channels, int resolution) { return channels * resolution * resolution; }

/* ---- The matrix -------------------------------------------------------------------------------------------- */

/* Scalar products of integers: sums of 2^14 products fit into 32 bits, those of all into 64. */
static int64_t integer_dot(const int16_t *a, const int16_t *b, int64_t length) {
    enum { CHUNK = 1 << 14 };
    int64_t sum = 0;
    for (int64_t at = 0; at < length; at += CHUNK) {
        const int count = (int)(length - at < CHUNK ? length - at : CHUNK);
        int32_t part = 0;
#pragma omp simd reduction(+ : part)
        for (int i = 0; i < count; i++) part += (int32_t)a[at + i] * b[at + i];
        sum += part;
    }
    return sum;
}

/* What the matrix is made of: `side` rows of `length` numbers, images or, transposed, pixels. */
struct table {
    int16_t *rows;
    int side;
    int64_t length;
    bool transposed;
};

static fdm_status make_table(struct table *t, const fdm_images *images, fdm_error *err) {
    const int64_t n = images->n, d = pixel_count(images->channels, images->resolution);
    const int64_t side = n < d ? n : d, most = 10000000; /* centred sums of more would not fit into 64 bits */
    size_t bytes;
    *t = (struct table){.side = (int)side, .length = n < d ? d : n, .transposed = d <= n};
    if (side > FDM_PCA_MAX_SIDE || n > most)
        return fdm_fail(err, FDM_BAD_INPUT,
                        "%lld images of %lld pixels: components are found of at most %d images or pixels; choose fewer with "
                        "--max-images, or make smaller ones with fdm dataset --resolution",
                        (long long)n, (long long)d, FDM_PCA_MAX_SIDE);
    if (!fdm_mul_size(&bytes, (size_t)n, (size_t)d * sizeof(int16_t)) || !(t->rows = malloc(bytes)))
        return fdm_fail_oom(err, "pixels; choose fewer images with --max-images", (size_t)n * (size_t)d);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++) t->rows[t->transposed ? j * n + i : i * d + j] = images->pixels[i * d + j];
    return FDM_OK;
}

/* Of products (side, side) the rows of a share: row i with the side/2 rows after it, cyclically.  So every pair is in the row of
 * one of the two (halfway round in both), and all rows cost the same. */
static void some_products(int64_t *products, const struct table *t, fdm_ranks_share share, int threads) {
    const int64_t side = t->side;
#pragma omp parallel for schedule(static, 8) num_threads(threads)
    for (int64_t i = share.first; i < share.end; i++)
        for (int64_t k = 0; k <= side / 2; k++) {
            const int64_t j = (i + k) % side;
            products[i * side + j] = integer_dot(t->rows + i * t->length, t->rows + j * t->length, t->length);
        }
}

static void mirror(int64_t *products, int64_t side) {
    for (int64_t i = 0; i < side; i++)
        for (int64_t k = 1; k <= side / 2; k++) {
            const int64_t j = (i + k) % side;
            products[j * side + i] = products[i * side + j];
        }
}

static int64_t row_sum(const int16_t *row, int64_t length) {
    int64_t sum = 0;
    for (int64_t i = 0; i < length; i++) sum += row[i];
    return sum;
}

/* The matrix centred, in place, in units of variance of pixels in -1 .. 1: the covariance, or X X^T/(N - 1). */
static void centre(int64_t *products, int64_t *sums, const struct table *t, int64_t n) {
    const int64_t side = t->side;
    const double unit = half_range * half_range * (double)n * (double)(n - 1) * (t->transposed ? 1 : (double)n);
    double *matrix = (double *)products; /* element by element, from integers to doubles of the same size */
    int64_t total = 0;
    for (int64_t i = 0; i < side; i++) {
        sums[i] = 0;
        if (t->transposed)
            sums[i] = row_sum(t->rows + i * t->length, t->length);
        else
            for (int64_t j = 0; j < side; j++) sums[i] += products[i * side + j];
        total += sums[i];
    }
    for (int64_t i = 0; i < side; i++)
        for (int64_t j = 0; j < side; j++) {
            int64_t exact;
            memcpy(&exact, &matrix[i * side + j], sizeof exact);
            exact = t->transposed ? n * exact - sums[i] * sums[j] : n * n * exact - n * sums[i] - n * sums[j] + total;
            matrix[i * side + j] = (double)exact / unit;
        }
}

/* ---- Components -------------------------------------------------------------------------------------------- */

/* Mean of each pixel, in -1 .. 1. */
static void find_mean(fdm_pca *pca, const fdm_images *images) {
    const int d = pixel_count(pca->channels, pca->resolution);
    for (int j = 0; j < d; j++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < images->n; i++) sum += images->pixels[i * d + j];
        pca->mean[j] = (double)sum / (double)images->n / half_range - 1;
    }
}

/* w = X^T u, normalised.  The elements of u sum up to 0, so any constant may stand for the mean. */
static void component_from_images(double *w, const double *u, const fdm_images *images) {
    const int d = pixel_count(images->channels, images->resolution);
    double square = 0;
    for (int j = 0; j < d; j++) w[j] = 0;
    for (int64_t i = 0; i < images->n; i++) {
        const uint8_t *pixels = images->pixels + i * d;
#pragma omp simd
        for (int j = 0; j < d; j++) w[j] += u[i] * (pixels[j] - half_range);
    }
    for (int j = 0; j < d; j++) square += w[j] * w[j];
    for (int j = 0; j < d; j++) w[j] /= sqrt(square);
}

static void make_largest_positive(double *w, int d) {
    int largest = 0;
    for (int j = 1; j < d; j++)
        if (fabs(w[j]) > fabs(w[largest])) largest = j;
    for (int j = 0; w[largest] < 0 && j < d; j++) w[j] = j == largest ? w[j] : -w[j];
    w[largest] = fabs(w[largest]);
}

struct pca_work {
    struct table table;
    int64_t *products, *sums;
    double *values, *vectors;
};

static fdm_status alloc_pca(fdm_pca *pca, struct pca_work *w, int most, fdm_error *err) {
    const size_t side = (size_t)w->table.side, d = (size_t)pixel_count(pca->channels, pca->resolution);
    w->products = calloc(side * side, sizeof *w->products); /* whole rows are sent, which are half empty */
    w->sums = malloc(side * sizeof *w->sums);
    w->values = malloc((size_t)most * sizeof *w->values);
    w->vectors = malloc((size_t)most * side * sizeof *w->vectors);
    pca->mean = malloc(d * sizeof *pca->mean);
    pca->components = malloc((size_t)most * d * sizeof *pca->components);
    if (w->products && w->sums && w->values && w->vectors && pca->mean && pca->components) return FDM_OK;
    return fdm_fail_oom(err, "principal components", side * side * sizeof *w->products);
}

/* All products on rank 0. */
static fdm_status find_products(struct pca_work *w, int threads, const fdm_ranks *ranks, fdm_error *err) {
    const int64_t side = w->table.side;
    const double begun = fdm_now();
    some_products(w->products, &w->table, fdm_ranks_share_of(ranks, side), threads);
    const fdm_status status = fdm_metric_agree_after(ranks, FDM_OK, fdm_now() - begun, err);
    return status == FDM_OK ? fdm_ranks_gather(ranks, w->products, (size_t)side * sizeof *w->products, side, err) : status;
}

/* What follows from the eigenvectors; they and their number are rank 0's. */
struct spectrum {
    double explained;
    int64_t d;
};

static fdm_status find_vectors(struct spectrum *found, struct pca_work *w, int64_t n, int most, fdm_error *err) {
    const int side = w->table.side;
    double *matrix = (double *)w->products, total = 0, kept = 0;
    mirror(w->products, side);
    centre(w->products, w->sums, &w->table, n);
    for (int i = 0; i < side; i++) total += matrix[(size_t)i * ((size_t)side + 1)];
    if (!(total > 0)) return fdm_fail(err, FDM_BAD_INPUT, "the images are all equal: they have no components");
    const fdm_status status = fdm_symmetric_eigen(w->values, w->vectors, matrix, side, most, err);
    if (status != FDM_OK) return status;
    for (; found->d < most && w->values[found->d] > 16 * side * DBL_EPSILON * w->values[0]; found->d++)
        kept += w->values[found->d];
    found->explained = fmin(1, kept / total);
    return FDM_OK;
}

/* How long rank 0 may need for that: 4/3 side^3 multiplications and additions, and 2 side^2 for every vector, on the slowest
 * LAPACK there is. */
static double eigen_seconds(int side, int most) {
    const double each_second = 1e8, square = (double)side * side;
    return square * (4.0 / 3 * side + 2.0 * most) / each_second;
}

/* Rank 0's eigenvectors on all: those of another LAPACK would differ in their last digits. */
static fdm_status share_vectors(fdm_pca *pca, struct pca_work *w, int64_t n, int most, const fdm_ranks *ranks, fdm_error *err) {
    struct spectrum found = {0};
    fdm_status status = fdm_ranks_is_first(ranks) ? find_vectors(&found, w, n, most, err) : FDM_OK;
    status = fdm_metric_agree_after(ranks, status, eigen_seconds(w->table.side, most), err);
    if (status == FDM_OK) status = fdm_ranks_broadcast(ranks, &found, sizeof found, err);
    if (status != FDM_OK) return status;
    pca->explained = found.explained;
    pca->d = (int)found.d;
    return fdm_ranks_broadcast(ranks, w->vectors, (size_t)pca->d * (size_t)w->table.side * sizeof *w->vectors, err);
}

/* Every rank makes a share of the components; all get all. */
static fdm_status find_components(fdm_pca *pca, const struct pca_work *w, const fdm_images *images, int threads,
                                  const fdm_ranks *ranks, fdm_error *err) {
    const size_t d = (size_t)pixel_count(pca->channels, pca->resolution), side = (size_t)w->table.side;
    const fdm_ranks_share mine = fdm_ranks_share_of(ranks, pca->d);
    const double begun = fdm_now();
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t k = mine.first; k < mine.end; k++) {
        double *to = pca->components + (size_t)k * d;
        const double *from = w->vectors + (size_t)k * side;
        if (w->table.transposed)
            memcpy(to, from, d * sizeof *to);
        else
            component_from_images(to, from, images);
        make_largest_positive(to, (int)d);
    }
    find_mean(pca, images);
    const fdm_status status = fdm_metric_agree_after(ranks, FDM_OK, fdm_now() - begun, err);
    return status == FDM_OK ? fdm_ranks_gather_all(ranks, pca->components, d * sizeof *pca->components, pca->d, err) : status;
}

fdm_status fdm_pca_fit(fdm_pca *pca, const fdm_images *images, int components, int threads, const fdm_ranks *ranks,
                       fdm_error *err) {
    struct pca_work w = {0};
    const double begun = fdm_now();
    *pca = (fdm_pca){.channels = images->channels, .resolution = images->resolution};
    if (images->n < 2)
        return fdm_fail(err, FDM_BAD_INPUT, "%lld image: principal components need 2 or more", (long long)images->n);
    if (components < 1) return fdm_fail(err, FDM_BAD_USAGE, "components: %d; at least 1", components);
    threads = threads ? threads : fdm_max_threads();
    fdm_status status = make_table(&w.table, images, err);
    const int most = fdm_min_int(components, w.table.side);
    if (status == FDM_OK) status = alloc_pca(pca, &w, most, err);
    status = fdm_metric_agree_after(ranks, status, fdm_now() - begun, err);
    if (status == FDM_OK) status = find_products(&w, threads, ranks, err);
    if (status == FDM_OK) status = share_vectors(pca, &w, images->n, most, ranks, err);
    if (status == FDM_OK) status = find_components(pca, &w, images, threads, ranks, err);
    if (status != FDM_OK) fdm_pca_free(pca);
    free(w.table.rows);
    free(w.products);
    free(w.sums);
    free(w.values);
    free(w.vectors);
    return status;
}

/* ---- Features ---------------------------------------------------------------------------------------------- */

static void project(double *features, double *x, const fdm_pca *pca, const uint8_t *pixels) {
    const int d = pixel_count(pca->channels, pca->resolution);
    for (int j = 0; j < d; j++) x[j] = pixels[j] / half_range - 1 - pca->mean[j];
    for (int k = 0; k < pca->d; k++) features[k] = fdm_dot(pca->components + (size_t)k * (size_t)d, x, d);
}

fdm_status fdm_pca_features(fdm_features *features, const fdm_pca *pca, const fdm_images *images, int threads, fdm_error *err) {
    const size_t d = (size_t)pixel_count(pca->channels, pca->resolution);
    threads = threads ? threads : fdm_max_threads();
    if (images->channels != pca->channels || images->resolution != pca->resolution)
        return fdm_fail(err, FDM_BAD_INPUT, "images of %d x %d x %d against a reference of %d x %d x %d (channels, pixels)",
                        images->channels, images->resolution, images->resolution, pca->channels, pca->resolution,
                        pca->resolution);
    double *rows = malloc((size_t)threads * d * sizeof *rows);
    if (!rows) return fdm_fail_oom(err, "features", (size_t)threads * d * sizeof *rows);
    const fdm_status status = fdm_features_alloc(features, images->n, pca->d, err);
    if (status == FDM_OK) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t i = 0; i < images->n; i++)
            project(features->values + i * pca->d, rows + (size_t)fdm_thread_index() * d, pca, images->pixels + (size_t)i * d);
    }
    free(rows);
    return status;
}
