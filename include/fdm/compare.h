/* compare.h - two tensor sets or files, tensor by tensor: how far apart, and whether that is near enough.
 *
 * A is what is expected, B what is judged.  Their tensors are paired by name.  Elements a of A and b of B agree if
 *   - both are finite and |b - a| <= atol + rtol |a| + mtol max |a| (the largest finite magnitude in A's tensor),
 *     or at most `ulp` representable numbers apart, or
 *   - both are +infinity, or both are -infinity, or
 *   - both are NaN: what A lacks is never accepted in B, whatever the tolerances, nor the other way round.
 * With all tolerances zero they agree if they are numerically equal (-0 equals +0).
 *
 * A tensor passes if its shape and dtype are the same in both sets, nothing is nonfinite in one set only, and the rule
 * that was asked for holds:
 *   - every element agrees, but for the share `allow`; this is the rule if nothing else is asked for;
 *   - min_snr: the signal-to-noise ratio of B against A is that many dB at least (20 dB for each decimal digit);
 *   - by_truth: B's RMS error against a third set, the truth, is at most `ratio` times A's.
 * The comparison passes if every tensor of either set passes: one that only one set has fails, and so do two empty
 * sets.
 *
 * With a truth T, A and B are two approximations of it and their errors against T are measured, too.  An infinity or
 * NaN in A or B that T lacks fails.  T may have another dtype (usually F64) and more tensors, but every tensor of A
 * and B.
 */
#ifndef FDM_COMPARE_H
#define FDM_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/pair_stats.h"
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
    double allow;      /* share of a tensor's elements, below 1, that may disagree (but not by NaN or infinity) */
    double min_snr;    /* dB; 0: not asked for.  Without tolerances it is the only rule, else both must hold */
    bool by_truth;     /* judge by RMS error against the truth, not by the tolerances; needs a truth */
    double ratio;      /* with by_truth: B's error may be so many times A's; 0 means 1 */
    bool any_dtype;    /* another dtype is no failure */
    int threads;       /* 0: as many as OpenMP would use; the result does not depend on it */
} fdm_compare_options;

/* X(enumerator, name): what made a tensor fail, worst first, and what passed. */
#define FDM_COMPARE_OUTCOMES(X)                                      \
    X(FDM_COMPARE_MISSING, "missing")     /* in A or in T */         \
    X(FDM_COMPARE_EXTRA, "extra")         /* in B only */            \
    X(FDM_COMPARE_SHAPE, "shape")                                    \
    X(FDM_COMPARE_DTYPE, "dtype")                                    \
    X(FDM_COMPARE_NONFINITE, "nonfinite") /* NaN or infinity */      \
    X(FDM_COMPARE_DIFFERENT, "different") /* beyond the tolerance */ \
    X(FDM_COMPARE_NOISY, "noisy")         /* below min_snr */        \
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

/* The measurements of one name; NULL pointers where there was nothing to measure. */
typedef struct fdm_comparison_figures {
    fdm_pair_stats ab; /* B against A */
    fdm_pair_stats at; /* A against the truth, and B against it; cleared (NaN, -1) without a truth */
    fdm_pair_stats bt;
    fdm_patch patch;   /* around the worst element of ab, or of bt if judged by the truth; 0 rows if all are equal */
} fdm_comparison_figures;

/* One name.  Its figures are owned by the comparison. */
typedef struct fdm_comparison_item {
    char *name;
    size_t order;                /* position in A's file, after it those that only B has */
    fdm_compare_outcome outcome; /* FDM_COMPARE_PASS or why not */
    char detail[200];            /* one line for people: "shape [2,3], in B [3,2]"; "" if it passed */
    char hint[240];              /* what the figures make likely: "B is 2 times A"; or "" */
    fdm_dtype dtype_a, dtype_b;  /* FDM_DTYPE_COUNT where the set lacks the tensor */
    int ndim;
    int64_t shape[FDM_MAX_NDIM]; /* A's, or B's if A lacks it */
    int64_t mismatches;          /* elements that do not agree, nonfinite ones included */
    double rms_ratio, max_ratio; /* B's error against the truth over A's; 1 if both are zero, NaN without a truth */
    fdm_comparison_figures *figures; /* NULL: the tensors could not be compared */
} fdm_comparison_item;

typedef struct fdm_comparison {
    bool pass;
    bool with_truth;
    fdm_comparison_item *items; /* most severe first */
    size_t count;
    char note[400];             /* about the whole: a renaming that would pair more tensors; or "" */
    fdm_heat_map maps[FDM_HEAT_MAPS]; /* of items[map_item], the first that differs; B - A, or B - T if by_truth */
    int map_count;
    size_t map_item;
} fdm_comparison;

/* Compares the sets; truth may be NULL, options NULL means all zeros.  *result must be all zeros or freed; it is
 * filled whether the verdict is pass or fail.
 * Returns FDM_OK (pass) or FDM_MISMATCH (fail; err holds a summary).  Errors: FDM_BAD_USAGE for a negative or
 * non-finite option, or by_truth without a truth; FDM_NO_RESOURCE out of memory. */
FDM_API fdm_status fdm_compare(fdm_comparison *result, const fdm_tensors *a, const fdm_tensors *b,
                               const fdm_tensors *truth, const fdm_compare_options *options, fdm_error *err);

/* Which files, and which names in them.  Strings that are NULL ask for nothing. */
typedef struct fdm_compare_files_args {
    const char *a, *b, *truth; /* paths; truth may be NULL */
    const char *only;          /* names or patterns (*, ?, [...]) of A's names, separated by commas */
    /* Rules FROM=TO separated by commas; the first that matches renames a tensor of that file.  Each * in FROM stands
     * for any text, ? for one character; each * in TO for the text of the * in the same place: "trace.*=*". */
    const char *rename_a, *rename_b, *rename_truth;
    bool (*stop)(void *user); /* asked before each tensor; true ends with FDM_INTERRUPTED; or NULL */
    void *user;
} fdm_compare_files_args;

/* The same for files, one tensor at a time: memory is bounded by the largest tensor, not by the files.  The tensor of
 * an .npy file, which has no name of its own, pairs with the only one of the other file.
 * Further errors: FDM_BAD_USAGE (a rule without '=', two tensors renamed to one name), FDM_BAD_INPUT (a file). */
FDM_API fdm_status fdm_compare_files(fdm_comparison *result, const fdm_compare_files_args *files,
                                     const fdm_compare_options *options, fdm_error *err);

/* Frees what fdm_compare or fdm_compare_files filled in, and zeroes it. */
FDM_API void fdm_comparison_free(fdm_comparison *result);

#ifdef __cplusplus
}
#endif
#endif
