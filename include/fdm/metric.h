/* metric.h - how far a set of images is from another: quality measures in feature spaces that are made here, with
 * nothing to download.
 *
 * Features x (N, d) of reference images and y (M, d) of the images to be judged come from fdm_pca (pixels) or from
 * fdm_classifier (fdm/classifier.h), or from anywhere else.  With mu, Sigma their means and covariances (denominator
 * N - 1):
 *
 *     Frechet distance   |mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))        Heusel et al. 2017 (FID)
 *     kernel distance    MMD^2, unbiased, of k(a, b) = (a.b/d + 1)^3 over features that are centred and scaled by the
 *                        reference to mean 0 and mean square 1; the mean over disjoint blocks
 *                                                                                   Binkowski et al. 2018 (KID)
 *     precision          share of the images within the reference's manifold: the union of the balls around each of
 *                        its features that reach to the k-th nearest other one       Kynkaanniemi et al. 2019
 *     recall             share of the reference within the images' manifold
 *
 * All statistics are f64, every sum in one order: the same for any number of threads, and of ranks (fdm/ranks.h), which like
 * threads divide outputs, never a sum.  Eigen- and singular values come from LAPACK, whose last digits depend on the library
 * installed (and with some on the CPU); a build without it refuses what needs them.
 *
 * Functions with `ranks` (NULL: one alone) are collective: all ranks call them with the same data, and get the same status.
 *
 * Frechet distances of N samples are too large by about a multiple of d^2/N: compare them at equal numbers of images.
 * The kernel distance has no such bias; its estimate may be slightly negative.
 *
 *     fdm_metric_side ref = {.features = &x}, images = {.features = &y};
 *     fdm_metric_options options = fdm_metric_defaults();
 *     fdm_metric_report report;
 *     if (fdm_metric_measure(&report, &ref, &images, &options, &err) == FDM_OK)
 *         printf("%g [%g, %g]\n", report.frechet.value, report.frechet.low, report.frechet.high);
 */
#ifndef FDM_METRIC_H
#define FDM_METRIC_H

#include <stdbool.h>
#include <stdint.h>

#include "fdm/dataset.h"
#include "fdm/ranks.h"
#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Images and features ----------------------------------------------------------------------------------- */

/* Images in memory, (N, C, R, R), 0..255. */
typedef struct fdm_images {
    uint8_t *pixels;
    int64_t n;
    int channels, resolution;
} fdm_images;

/* Decodes the images of a data set, or, where there are more than max_images > 0 of them, that many chosen at random by
 * the seed, in their order.  Each rank decodes a share; all get all.  Into an all-zero struct; free with fdm_images_free.
 * Errors: those of fdm_dataset_image; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_images_read(fdm_images *images, fdm_dataset *set, int64_t max_images, uint64_t seed,
                                   const fdm_ranks *ranks, fdm_error *err);
/* Two random halves: the images with their order shuffled by the seed, cut in the middle (an odd one is left out).
 * Errors: FDM_BAD_INPUT for fewer than 2 images; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_images_split(fdm_images *half, fdm_images *other, const fdm_images *images, uint64_t seed,
                                    fdm_error *err);
FDM_API void fdm_images_free(fdm_images *images);
/* A rank's share of them, to make features of: borrowed, not to be freed. */
FDM_API fdm_images fdm_images_share(const fdm_images *images, const fdm_ranks *ranks);

/* One row of d features an image, (N, d). */
typedef struct fdm_features {
    double *values; /* owned */
    int64_t n;
    int d;
} fdm_features;
FDM_API void fdm_features_free(fdm_features *features);
/* The rows of a rank's share of n images become those of all n.  Errors: FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_features_gather(fdm_features *features, int64_t n, const fdm_ranks *ranks, fdm_error *err);

/* Pixels in their principal components.  A pixel is p/127.5 - 1, a feature w.(pixels - mean), the w orthonormal:
 * distances are those of images, but for what the components leave out. */
typedef struct fdm_pca {
    int d;                 /* components: as many as asked for, or as there are with any variance */
    int channels, resolution;
    double *mean;          /* (C, R, R), of pixels in -1 .. 1 */
    double *components;    /* (d, C, R, R), by falling variance; the largest element of each is positive */
    double explained;      /* share of the total variance */
} fdm_pca;

enum { FDM_PCA_MAX_SIDE = 8192 }; /* of the matrix whose eigenvectors are needed */

/* The components of these images.  The covariance (or, for fewer images than pixels, the matrix of scalar products) is
 * summed in integers, so exact, each rank a share of it.  Rank 0 finds the eigenvectors, whatever the LAPACKs of the others; all
 * make components of them.  Into an all-zero struct; free with fdm_pca_free.
 * Errors: FDM_BAD_INPUT for fewer than 2 images, images that are all equal, or more than FDM_PCA_MAX_SIDE images of more
 * than FDM_PCA_MAX_SIDE pixels; FDM_NO_RESOURCE out of memory or without LAPACK. */
FDM_API fdm_status fdm_pca_fit(fdm_pca *pca, const fdm_images *images, int components, int threads, const fdm_ranks *ranks,
                               fdm_error *err);
/* Errors: FDM_BAD_INPUT for images of another size; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_pca_features(fdm_features *features, const fdm_pca *pca, const fdm_images *images, int threads,
                                    fdm_error *err);
FDM_API void fdm_pca_free(fdm_pca *pca);

/* ---- Single measures ---------------------------------------------------------------------------------------- */

typedef struct fdm_gaussian {
    int d;
    double *mu;    /* (d) */
    double *sigma; /* (d, d) */
} fdm_gaussian;

/* Mean and covariance (denominator N - 1) of all rows.  Into an all-zero struct; free with fdm_gaussian_free.
 * Errors: FDM_BAD_INPUT for fewer than 2 rows or a feature that is not finite; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_gaussian_fit(fdm_gaussian *g, const fdm_features *features, int threads, fdm_error *err);
FDM_API void fdm_gaussian_free(fdm_gaussian *g);

/* The trace of (S_a S_b)^(1/2) is the sum of the singular values of F_a^T F_b, S = F F^T; the factors end at the rank of the
 * covariance, so that one of less than full rank costs no digits.
 * Errors: FDM_BAD_INPUT for other dimensions, a number that is not finite, or a matrix that is no covariance;
 * FDM_NO_RESOURCE out of memory or without LAPACK. */
FDM_API fdm_status fdm_frechet_distance(double *distance, const fdm_gaussian *a, const fdm_gaussian *b, fdm_error *err);

/* The unbiased MMD^2 of each block of *block rows of either set, in an order shuffled by the seed, into values (malloc'd)
 * and *blocks; rows that fill no block are left out.  *block 0 becomes a twentieth of the smaller set, but 10 to 1000.
 * Errors: FDM_BAD_INPUT for other dimensions or sets smaller than a block; FDM_BAD_USAGE for block 1 or below 0;
 * FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_kernel_distance(double **values, int64_t *blocks, int64_t *block, const fdm_features *ref,
                                       const fdm_features *images, uint64_t seed, int threads, const fdm_ranks *ranks,
                                       fdm_error *err);

/* inside[i] = 1 if point i lies within the manifold (k-th nearest neighbours) of the set, else 0; its mean is precision,
 * or recall with the sets exchanged.  Errors: FDM_BAD_INPUT for other dimensions or a set of k or fewer;
 * FDM_BAD_USAGE for k outside 1..64; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_manifold_contains(uint8_t *inside, const fdm_features *points, const fdm_features *set, int k,
                                         int threads, const fdm_ranks *ranks, fdm_error *err);

/* ---- All of them, with intervals ---------------------------------------------------------------------------- */

/* A set: its features, or where they are not known its mean and covariance alone. */
typedef struct fdm_metric_side {
    const fdm_features *features; /* or NULL */
    const fdm_gaussian *gaussian; /* or NULL: that of the features */
} fdm_metric_side;

typedef struct fdm_metric_options {
    int k;             /* neighbours: 3 */
    int64_t block;     /* of the kernel distance; 0: automatic */
    int bootstrap;     /* resamplings: 200; 0: no intervals */
    double confidence; /* of the intervals: 0.95 */
    uint64_t seed;
    int threads; /* 0: as many as OpenMP would use */
    const fdm_ranks *ranks; /* NULL: one alone */
    bool (*stop)(void *user); /* asked now and then, by several threads: true ends the call; or NULL */
    void *stop_user;
} fdm_metric_options;
FDM_API fdm_metric_options fdm_metric_defaults(void);

/* The interval is the pivotal bootstrap interval around the value: with E* and q* the mean and the quantiles of the
 * resampled values, [value - (q*_high - E*), value - (q*_low - E*)].  It is for the expectation of the measure at these
 * numbers of images; `bias`, E* - value, estimates how far that is above the measure of infinitely many.  Numbers that
 * do not exist are NaN. */
typedef struct fdm_metric_estimate {
    double value, low, high;
    double bias, standard_error;
} fdm_metric_estimate;

typedef struct fdm_metric_report {
    int d;
    int64_t ref_count, image_count; /* 0: not known */
    int64_t block, blocks;
    fdm_metric_estimate frechet, kernel, precision, recall; /* the last three need features on both sides */
} fdm_metric_report;

/* Every measure that the sides allow.  For the Frechet distance the features of both sides are resampled; for the kernel
 * distance its blocks, the reference's mean and scale staying as they are; for precision and recall the images that are
 * counted, the manifolds staying as they are.  How often 95 % intervals held the expectation over other samples of both
 * sides (Gaussians, 100 to 1000 samples in 3 and 16 dimensions): Frechet distance 93 to 100 %, kernel distance 83 to 90 %,
 * precision and recall 40 to 90 %: theirs speak of these manifolds only.
 * Errors: those of the functions above; FDM_BAD_USAGE for an option out of range; FDM_INTERRUPTED. */
FDM_API fdm_status fdm_metric_measure(fdm_metric_report *report, const fdm_metric_side *ref, const fdm_metric_side *images,
                                      const fdm_metric_options *options, fdm_error *err);

/* ---- Statistics files -------------------------------------------------------------------------------------- */

/* What a tensor file (fdm/tensorfile.h) says of a set of images; what it does not say is all zeros.  Tensors, F64 when
 * written, any type when read:
 *     mu (d), sigma (d, d)       mean and covariance; made from the features where they are missing
 *     features (N, d)            the features themselves, which all measures but the Frechet distance need
 *     pca.mean (C, R, R), pca.components (d, C, R, R), pca.explained ()       the space of pixels
 *     fingerprint ()             U64: of the space; equal in files whose features can be compared, 0 if not known */
typedef struct fdm_metric_stats {
    fdm_gaussian gaussian;
    fdm_features features;
    fdm_pca pca;
    uint64_t fingerprint;
} fdm_metric_stats;

/* Of the components, for fdm_metric_stats. */
FDM_API uint64_t fdm_pca_fingerprint(const fdm_pca *pca);

/* Into an all-zero struct.  as_ref: mu_ref and sigma_ref, where the file has them, stand for mu and sigma, so that one file
 * can hold both sides.
 * Errors, after which it is all zeros: FDM_BAD_INPUT names the file and the tensor; FDM_BAD_USAGE for an unknown extension;
 * FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_metric_stats_read(fdm_metric_stats *stats, const char *path, bool as_ref, fdm_error *err);
/* Errors: as fdm_tensorfile_write. */
FDM_API fdm_status fdm_metric_stats_write(const fdm_metric_stats *stats, const char *path, fdm_error *err);
FDM_API void fdm_metric_stats_free(fdm_metric_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
