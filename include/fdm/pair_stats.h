/* pair_stats.h - how far one tensor is from another: all that a report says about two tensors of one shape, in
 * figures, as the numbers around the worst place, and as pictures.
 *
 * E is what is expected (another program's result, or the truth), F what was found.  e and f are elements of the same
 * index, d = f - e.  The elements of a pair are of three kinds:
 *   - measured: e and f are finite;
 *   - left out: both are NaN, or both the same infinity (they agree, and there is no distance to speak of);
 *   - nonfinite: anything else; d counts as infinite, so that no figure makes such an element look good.
 *
 * The data is walked through several times, so that this takes half a megabyte for each thread and 5 bytes for every
 * thousand elements.  All figures are the same to the bit for any number of threads.
 */
#ifndef FDM_PAIR_STATS_H
#define FDM_PAIR_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(per mille, name): the quantiles of the error.  The q-quantile is the smallest error that at least the share q of
 * the elements does not exceed; it is exact. */
#define FDM_QUANTILES(X) \
    X(500, "p50")        \
    X(900, "p90")        \
    X(990, "p99")        \
    X(999, "p99.9")
enum { FDM_QUANTILE_COUNT = 4 };

/* Bucket 0: no ULP apart; 1: one; k: more than 2^(k-2), at most 2^(k-1). */
enum { FDM_ULP_BUCKETS = 66 };

/* ULPs: how many representable numbers of the dtype lie between e and f; for integers their distance.  Floats of two
 * dtypes: |d| in units in the last place of e in the coarser of the two, rounded to the nearest whole number; against
 * an f64 truth 0 therefore means "as good as this dtype can be".  An integer and a float have none. */
typedef struct fdm_pair_stats {
    int64_t count;     /* elements */
    int64_t measured;  /* both finite */
    int64_t nonfinite; /* NaN or infinite in one, and not the same in the other */
    int64_t nan_in_both, inf_in_both;
    double scale_expected, scale_found; /* max |e|, max |f| over finite elements */
    double rms_expected, rms_found;     /* sqrt(mean e^2) over measured elements */

    /* Infinite if anything is nonfinite. */
    double max_abs; /* max |d| */
    double max_rel; /* max |d| / |e| over e != 0 */
    double rms;     /* sqrt(mean d^2) */
    double quantile_abs[FDM_QUANTILE_COUNT]; /* of |d|, nonfinite elements included */
    double quantile_rel[FDM_QUANTILE_COUNT]; /* of |d| / |e| over e != 0, nonfinite elements included */

    /* NaN if anything is nonfinite (snr_db: -infinity). */
    double bias;            /* mean d */
    double snr_db;          /* 20 log10(rms_expected / rms); infinite if all are equal */
    double cosine_distance; /* 1 - cos(angle between E and F), without cancellation; 1 if one of them is all zero */
    double gain;            /* the g for which g E is nearest to F: 2 for F = 2 E, which a correlation cannot see */

    fdm_dtype ulp_dtype;    /* what the ULPs are of; FDM_DTYPE_COUNT: there are none */
    int64_t max_ulp;        /* at most INT64_MAX, which it also is if anything is nonfinite; -1: there are none */
    int64_t ulp_histogram[FDM_ULP_BUCKETS]; /* of measured elements */

    int64_t worst; /* row-major index of the first nonfinite element, or of the first with the largest |d|; -1: none */
    double worst_expected, worst_found;

    /* Significand bits that the finite values use, 1 to 53: 24 for f32, 11 for tf32 and f16, 8 for bf16; 0 if all are
     * zero.  A tensor that says F32 and uses 8 has been through bf16. */
    int bits_expected, bits_found;
} fdm_pair_stats;

/* Measures found against expected, on at most `threads` threads (0: as many as OpenMP would use).
 * Errors: FDM_BAD_USAGE if the shapes differ; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_pair_measure(fdm_pair_stats *stats, const fdm_tensor *expected, const fdm_tensor *found,
                                    int threads, fdm_error *err);

/* The distances that bucket k of a ULP histogram counts, first to last. */
FDM_API uint64_t fdm_ulp_bucket_first(int bucket);
FDM_API uint64_t fdm_ulp_bucket_last(int bucket);
/* 0.5, 0.9, ... and "p50", "p90", ...; i < FDM_QUANTILE_COUNT. */
FDM_API double fdm_quantile_share(int i);
FDM_API const char *fdm_quantile_name(int i);

/* ---- Where the error is ------------------------------------------------------------------------------------- */

/* The numbers around one element, along the last two dimensions. */
enum { FDM_PATCH_SIDE = 5, FDM_PATCH_CELLS = FDM_PATCH_SIDE * FDM_PATCH_SIDE };
typedef struct fdm_patch {
    int rows, cols;   /* 1 to FDM_PATCH_SIDE: fewer at small tensors; 1 row for one dimension */
    int64_t row, col; /* the indices of the first */
    int64_t index;    /* row-major, of the element in question */
    bool with_truth;
    double expected[FDM_PATCH_CELLS], found[FDM_PATCH_CELLS], truth[FDM_PATCH_CELLS]; /* (rows, cols) */
} fdm_patch;
/* Around element `index` of tensors of one shape with at least one element; truth may be NULL. */
FDM_API void fdm_patch_take(fdm_patch *patch, const fdm_tensor *expected, const fdm_tensor *found,
                            const fdm_tensor *truth, int64_t index);

/* Error as a picture: the RMS of d in each cell, infinite where something is nonfinite. */
enum { FDM_HEAT_MAP_SIDE = 64, FDM_HEAT_MAPS = 2 };
typedef struct fdm_heat_map {
    char title[120];
    int rows, cols; /* at most FDM_HEAT_MAP_SIDE; a cell stands for several elements if a dimension is longer */
    int64_t row_count, col_count; /* indices along them */
    double *cells;  /* (rows, cols), owned */
} fdm_heat_map;
/* Up to FDM_HEAT_MAPS of them: the last two dimensions through element `worst` (image, or one row for a vector), and
 * for three or more dimensions the first two, RMS over the rest (samples x channels, or outputs x inputs).
 * The maps must be all zeros or freed.  Errors: FDM_NO_RESOURCE, with nothing to free. */
FDM_API fdm_status fdm_heat_maps_make(fdm_heat_map maps[FDM_HEAT_MAPS], int *count, const fdm_tensor *expected,
                                      const fdm_tensor *found, int64_t worst, fdm_error *err);
FDM_API void fdm_heat_maps_free(fdm_heat_map maps[FDM_HEAT_MAPS]);

/* In words, if most of the squared error (or of what is nonfinite) lies in a part of the tensor: "99 % of the error in
 * index 64-127 of 192 along dimension 1", "97 % of the error at the edge of the last two dimensions"; else "". */
enum { FDM_ERROR_PLACE_TEXT = 160 };
FDM_API fdm_status fdm_error_place(char text[FDM_ERROR_PLACE_TEXT], const fdm_tensor *expected,
                                   const fdm_tensor *found, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
