/* tensor_stats.h - fdm_pair_measure with a tolerance for every element; internal. */
#ifndef FDM_VERIFY_TENSOR_STATS_H
#define FDM_VERIFY_TENSOR_STATS_H

#include <math.h>
#include <stdbool.h>

#include "fdm/pair_stats.h"

/* Elements agree if |d| <= atol + rtol |e| + mtol max |e|, or if they are at most `ulp` ULPs apart. */
struct fdm_pair_tolerance {
    double rtol, atol, mtol;
    int64_t ulp;
};

/* *mismatches (may be NULL): nonfinite elements and measured ones that do not agree. */
fdm_status fdm_pair_measure_within(fdm_pair_stats *stats, int64_t *mismatches,
                                   const struct fdm_pair_tolerance *tolerance, const fdm_tensor *expected,
                                   const fdm_tensor *found, int threads, fdm_error *err);

/* Figures of a pair that could not be measured: NaN, -1, 0. */
void fdm_pair_stats_clear(fdm_pair_stats *stats);

/* Both NaN, or both infinite with the same sign; they are not both finite. */
static inline bool fdm_same_nonfinite(double e, double f) {
    if (isnan(e) || isnan(f)) return isnan(e) && isnan(f);
    return isinf(e) && isinf(f) && signbit(e) == signbit(f);
}

bool fdm_same_shape(const fdm_tensor *a, const fdm_tensor *b);
/* Whether a dtype has infinities and NaN. */
bool fdm_dtype_is_float(fdm_dtype dtype);

#endif
