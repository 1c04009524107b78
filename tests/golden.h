/* golden.h - test helper: tensors made with the published program, and comparisons that NaN cannot pass.
 * Failures of the helper itself (a missing file or tensor) abort the test. */
#ifndef FDM_TEST_GOLDEN_H
#define FDM_TEST_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/tensor.h"

#ifndef FDM_TEST_GOLDEN_DIR
#define FDM_TEST_GOLDEN_DIR "tests/golden" /* tests run from the top folder */
#endif

/* Reads FDM_TEST_GOLDEN_DIR/<file>; free with fdm_tensors_free. */
void golden_load(fdm_tensors *set, const char *file);
/* The tensor "<prefix><name>", which must be there; golden_find gives NULL if it is not. */
const fdm_tensor *golden_get(const fdm_tensors *set, const char *prefix, const char *name);
const fdm_tensor *golden_find(const fdm_tensors *set, const char *prefix, const char *name);
/* Its elements as floats (it must be F32; belongs to the set), or as fresh doubles (caller frees). */
const float *golden_f32(const fdm_tensors *set, const char *prefix, const char *name);
double *golden_f64(const fdm_tensors *set, const char *prefix, const char *name);
/* Size of its dimension d. */
int golden_dim(const fdm_tensors *set, const char *prefix, const char *name, int d);

/* How far `got` is from `truth`.  A NaN or infinity that the truth lacks makes every figure infinite. */
struct golden_error {
    double max_abs;    /* max |got - truth| */
    double max_rel;    /* max |got - truth| / |truth|, element by element (0 where both are 0) */
    double rms;        /* root of the mean square of got - truth */
    double truth_max;  /* max |truth| over its finite elements */
    double max_scaled; /* max_abs / truth_max; what "relative" means for a tensor with zeros in it */
    size_t worst;      /* index of max_abs, or of the first non-finite value */
};
struct golden_error golden_compare(const double *got, const double *truth, size_t count);

#endif
