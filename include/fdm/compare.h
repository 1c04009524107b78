/* compare.h - two tensor sets, tensor by tensor: how far apart, and whether that is near enough.
 *
 * A is what is expected, B what is judged.  Their tensors are paired by name.  Elements a of A and b of B agree if
 *   - both are finite and |b - a| <= atol + rtol |a| + mtol max |a| (the largest finite magnitude in A's tensor),
 *     or at most `ulp` representable numbers apart, or
 *   - both are +infinity, or both are -infinity, or
 *   - both are NaN: what A lacks is never accepted in B, whatever the tolerances, nor the other way round.
 * With all tolerances zero they agree if they are numerically equal (-0 equals +0).
 *
 * A tensor passes if its shape and dtype are the same in both sets and every element agrees.  The comparison passes
 * if every tensor of either set passes: one that only one set has fails, and so do two empty sets.
 *
 * With a third set, the truth T, A and B are two approximations of it and their errors against T are measured, too.
 * An infinity or NaN in A or B that T lacks fails.  If no tolerance is given, the truth replaces the rule above:
 * a tensor passes if B's RMS error is no larger than A's.  T may have another dtype (usually F64) and more tensors,
 * but every tensor of A and B.
 */
#ifndef FDM_COMPARE_H
#define FDM_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All zeros: numerically equal. */
typedef struct fdm_compare_options {
    double rtol, atol; /* >= 0 and finite */
    double mtol;       /* the same; fair where a value near 0 is a sum of large ones */
    int64_t ulp;       /* >= 0; for integers the difference itself */
    bool by_truth;     /* judge by RMS error against the truth, not by the tolerances; needs a truth */
} fdm_compare_options;

/* X(enumerator, name): what made a tensor fail, worst first, and what passed. */
#define FDM_COMPARE_OUTCOMES(X)                                      \
    X(FDM_COMPARE_MISSING, "missing")     /* in A or in T */         \
    X(FDM_COMPARE_EXTRA, "extra")         /* in B only */            \
    X(FDM_COMPARE_SHAPE, "shape")                                    \
    X(FDM_COMPARE_DTYPE, "dtype")                                    \
    X(FDM_COMPARE_NONFINITE, "nonfinite") /* NaN or infinity */      \
    X(FDM_COMPARE_DIFFERENT, "different") /* beyond the tolerance */ \
    X(FDM_COMPARE_WORSE, "worse")         /* than A, by the truth */ \
    X(FDM_COMPARE_PASS, "pass")

typedef enum fdm_compare_outcome {
#define FDM_COMPARE_ENUM(e, name) e,
    FDM_COMPARE_OUTCOMES(FDM_COMPARE_ENUM)
#undef FDM_COMPARE_ENUM
        FDM_COMPARE_OUTCOME_COUNT
} fdm_compare_outcome;
/* "missing", ..., "pass" */
FDM_API const char *fdm_compare_outcome_name(fdm_compare_outcome outcome);

/* The largest and the root of the mean squared error. */
typedef struct fdm_compare_error {
    double max, rms;
} fdm_compare_error;

/* One name.  Figures that do not exist (shapes differ, no truth) are NaN; elements that are NaN or infinite in both
 * sets are left out of them, and elements that are so in one set only make them infinite. */
typedef struct fdm_comparison_item {
    char *name;                  /* owned by the comparison */
    fdm_compare_outcome outcome; /* FDM_COMPARE_PASS or why not */
    char detail[160];            /* one line for people: "shape [2,3] against [3,2]"; "" if it passed */
    int64_t count;               /* elements compared; 0 if they could not be */
    int64_t mismatches;          /* elements that do not agree */
    int64_t nonfinite;           /* of these: NaN or infinite in one set, and not the same in the other */
    int64_t nan_in_both;         /* elements that agree because both are NaN */
    double scale;                /* max |a| over its finite elements */
    double max_abs;              /* max |b - a| */
    double max_rel;              /* max |b - a| / |a| over a != 0 */
    double rms;                  /* sqrt(mean (b - a)^2) */
    int64_t max_ulp;             /* representable numbers between a and b, at most INT64_MAX; -1 if dtypes differ */
    int64_t worst;               /* row-major index of the element farthest off, -1 if all are equal */
    double worst_a, worst_b;     /* its values */
    fdm_compare_error error_a, error_b; /* A and B against the truth */
    double rms_ratio, max_ratio; /* error_b / error_a; 1 if both are zero */
} fdm_comparison_item;

typedef struct fdm_comparison {
    bool pass;
    bool with_truth;
    fdm_comparison_item *items; /* most severe first */
    size_t count;
} fdm_comparison;

/* Compares the sets; truth may be NULL, options NULL means all zeros.  *result must be all zeros or freed; it is
 * filled whether the verdict is pass or fail.
 * Returns FDM_OK (pass) or FDM_MISMATCH (fail; err holds a summary).  Errors: FDM_BAD_USAGE for a negative or
 * non-finite tolerance, or by_truth without a truth; FDM_NO_RESOURCE out of memory. */
FDM_API fdm_status fdm_compare(fdm_comparison *result, const fdm_tensors *a, const fdm_tensors *b,
                               const fdm_tensors *truth, const fdm_compare_options *options, fdm_error *err);
/* Frees what fdm_compare filled in, and zeroes it. */
FDM_API void fdm_comparison_free(fdm_comparison *result);

#ifdef __cplusplus
}
#endif
#endif
