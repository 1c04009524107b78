/* golden.c - see golden.h */
#include "golden.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "fdm/safetensors.h"

void golden_load(fdm_tensors *set, const char *file) {
    char path[512];
    fdm_error err = {0};
    ck_assert((size_t)snprintf(path, sizeof path, "%s/%s", FDM_TEST_GOLDEN_DIR, file) < sizeof path);
    *set = (fdm_tensors){0};
    ck_assert_msg(fdm_safetensors_read(set, path, &err) == FDM_OK, "%s", err.message);
}

const fdm_tensor *golden_find(const fdm_tensors *set, const char *prefix, const char *name) {
    char full[256];
    ck_assert((size_t)snprintf(full, sizeof full, "%s%s", prefix, name) < sizeof full);
    return fdm_tensors_find(set, full);
}

const fdm_tensor *golden_get(const fdm_tensors *set, const char *prefix, const char *name) {
    const fdm_tensor *t = golden_find(set, prefix, name);
    ck_assert_msg(t != NULL, "no golden tensor %s%s", prefix, name);
    return t;
}

const float *golden_f32(const fdm_tensors *set, const char *prefix, const char *name) {
    const fdm_tensor *t = golden_get(set, prefix, name);
    ck_assert_msg(t->dtype == FDM_F32, "golden tensor %s%s is not F32", prefix, name);
    return t->data;
}

double *golden_f64(const fdm_tensors *set, const char *prefix, const char *name) {
    const fdm_tensor *t = golden_get(set, prefix, name);
    const int64_t count = fdm_tensor_numel(t);
    double *values = malloc(((size_t)count + 1) * sizeof *values);
    ck_assert(values != NULL);
    for (int64_t i = 0; i < count; i++) values[i] = fdm_tensor_get(t, i);
    return values;
}

int golden_dim(const fdm_tensors *set, const char *prefix, const char *name, int d) {
    const fdm_tensor *t = golden_get(set, prefix, name);
    ck_assert_msg(d < t->ndim, "golden tensor %s%s has %d dimensions", prefix, name, t->ndim);
    return (int)t->shape[d];
}

/* Both NaN, or the same infinity. */
static bool same_special(double a, double b) { return (isnan(a) && isnan(b)) || (isinf(a) && a == b); }

struct golden_error golden_compare(const double *got, const double *truth, size_t count) {
    struct golden_error e = {0};
    double sum_squares = 0;
    for (size_t i = 0; i < count; i++) {
        if (same_special(got[i], truth[i])) continue;
        if (!isfinite(got[i]) || !isfinite(truth[i])) {
            e.max_abs = e.max_rel = e.rms = e.max_scaled = INFINITY;
            e.worst = i;
            return e;
        }
        const double diff = fabs(got[i] - truth[i]), size = fabs(truth[i]);
        if (diff > e.max_abs) e.max_abs = diff, e.worst = i;
        if (diff > 0) e.max_rel = fmax(e.max_rel, diff / size); /* infinite where the truth is 0 */
        e.truth_max = fmax(e.truth_max, size);
        sum_squares += diff * diff;
    }
    e.rms = count ? sqrt(sum_squares / (double)count) : 0;
    e.max_scaled = e.max_abs > 0 ? e.max_abs / e.truth_max : 0;
    return e;
}
