/* hints.c - what the way in which two tensors differ makes likely: another layout, a factor, a coarser format. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "verify/compare_sides.h"
#include "verify/tensor_stats.h"

static void add_hint(fdm_comparison_item *item, const char *format, ...) FDM_PRINTF(2, 3);
static void add_hint(fdm_comparison_item *item, const char *format, ...) {
    const size_t used = strlen(item->hint), size = sizeof item->hint;
    va_list args;
    if (used + 2 >= size) return;
    if (used) memcpy(item->hint + used, "; ", 3);
    va_start(args, format);
    vsnprintf(item->hint + used + (used ? 2 : 0), size - used - (used ? 2 : 0), format, args);
    va_end(args);
}

/* ---- Shapes ------------------------------------------------------------------------------------------------ */

static int compare_sizes(const void *x, const void *y) {
    const int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return a < b ? -1 : a > b;
}

static bool is_permutation(const fdm_tensor *a, const fdm_tensor *b) {
    int64_t x[FDM_MAX_NDIM] = {0}, y[FDM_MAX_NDIM] = {0};
    if (a->ndim != b->ndim) return false;
    memcpy(x, a->shape, sizeof x);
    memcpy(y, b->shape, sizeof y);
    qsort(x, (size_t)a->ndim, sizeof *x, compare_sizes);
    qsort(y, (size_t)a->ndim, sizeof *y, compare_sizes);
    return memcmp(x, y, (size_t)a->ndim * sizeof *x) == 0;
}

void fdm_compare_hint_shape(fdm_comparison_item *item, const fdm_tensor *a, const fdm_tensor *b) {
    const int64_t *x = a->shape, *y = b->shape;
    if (a->ndim == 4 && b->ndim == 4 && x[0] == y[0] && x[1] == y[3] && x[2] == y[1] && x[3] == y[2])
        add_hint(item, "B looks like NHWC where A is NCHW");
    else if (a->ndim == 4 && b->ndim == 4 && x[0] == y[0] && x[3] == y[1] && x[1] == y[2] && x[2] == y[3])
        add_hint(item, "B looks like NCHW where A is NHWC");
    else if (is_permutation(a, b))
        add_hint(item, "the dimensions are the same in another order: transposed?");
    else if (fdm_tensor_numel(a) == fdm_tensor_numel(b))
        add_hint(item, "as many elements: reshaped?");
}

/* ---- Layouts: is found, read in another order, near to expected? -------------------------------------------- */

/* Where index i along each dimension lies in `found`, in elements. */
struct reading {
    int64_t *block, *offset[FDM_MAX_NDIM]; /* (shape[d]), all in the block */
    int64_t stride[FDM_MAX_NDIM];
};

static void read_plainly(struct reading *r, const fdm_tensor *t, int d) {
    for (int64_t i = 0; i < t->shape[d]; i++) r->offset[d][i] = i * r->stride[d];
}

static bool reading_new(struct reading *r, const fdm_tensor *t) {
    size_t slots = 0, bytes;
    int64_t step = 1;
    for (int d = 0; d < t->ndim; d++) slots = fdm_add_saturated(slots, (size_t)t->shape[d]);
    if (!fdm_mul_size(&bytes, slots, sizeof(int64_t))) return false;
    int64_t *block = malloc(bytes ? bytes : 1);
    if (!block) return false;
    r->block = block;
    block += slots;
    for (int d = t->ndim - 1; d >= 0; d--) {
        r->offset[d] = block -= t->shape[d];
        r->stride[d] = step;
        step *= t->shape[d];
        read_plainly(r, t, d);
    }
    return true;
}

/* Whether the sum of squared differences stays below `limit`; gives up as soon as it does not. */
static bool is_nearer(const struct reading *r, const fdm_tensor *expected, const fdm_tensor *found, double limit) {
    int64_t index[FDM_MAX_NDIM] = {0};
    double sum = 0;
    for (int64_t i = 0, count = fdm_tensor_numel(expected); i < count; i++) {
        int64_t at = 0;
        for (int d = 0; d < expected->ndim; d++) at += r->offset[d][index[d]];
        const double apart = fdm_tensor_get(found, at) - fdm_tensor_get(expected, i);
        sum += apart * apart;
        if (!(sum <= limit)) return false; /* NaN, too */
        for (int d = expected->ndim - 1; d >= 0 && ++index[d] == expected->shape[d]; d--) index[d] = 0;
    }
    return true;
}

static bool swapped(struct reading *r, const fdm_tensor *e, const fdm_tensor *f, double limit, int p, int q) {
    if (e->shape[p] != e->shape[q] || e->shape[p] < 2) return false;
    for (int64_t i = 0; i < e->shape[p]; i++) {
        r->offset[p][i] = i * r->stride[q];
        r->offset[q][i] = i * r->stride[p];
    }
    const bool yes = is_nearer(r, e, f, limit);
    read_plainly(r, e, p);
    read_plainly(r, e, q);
    return yes;
}

static bool reversed(struct reading *r, const fdm_tensor *e, const fdm_tensor *f, double limit, int d) {
    const int64_t n = e->shape[d];
    if (n < 2) return false;
    for (int64_t i = 0; i < n; i++) r->offset[d][i] = (n - 1 - i) * r->stride[d];
    const bool yes = is_nearer(r, e, f, limit);
    read_plainly(r, e, d);
    return yes;
}

static bool halves_swapped(struct reading *r, const fdm_tensor *e, const fdm_tensor *f, double limit, int d) {
    const int64_t n = e->shape[d];
    if (n < 4 || n % 2) return false;
    for (int64_t i = 0; i < n; i++) r->offset[d][i] = (i + n / 2) % n * r->stride[d];
    const bool yes = is_nearer(r, e, f, limit);
    read_plainly(r, e, d);
    return yes;
}

/* The first reading that leaves less than a ten-thousandth of the squared error. */
static bool hint_layout(fdm_comparison_item *item, const fdm_pair_stats *s, const fdm_tensor *e, const fdm_tensor *f) {
    struct reading r;
    bool yes = false;
    const double limit = 1e-4 * s->rms * s->rms * (double)s->count;
    if (e->ndim == 0 || s->measured < s->count || !isfinite(limit) || !reading_new(&r, e)) return false;
    for (int q = 1; q < e->ndim && !yes; q++)
        for (int p = 0; p < q && !yes; p++)
            if ((yes = swapped(&r, e, f, limit, p, q)))
                add_hint(item, "B with dimensions %d and %d swapped is near to A: transposed?", p, q);
    for (int d = 0; d < e->ndim && !yes; d++) {
        if ((yes = halves_swapped(&r, e, f, limit, d)))
            add_hint(item, "B with its halves along dimension %d swapped is near to A: sine and cosine, shift and scale?", d);
        else if ((yes = reversed(&r, e, f, limit, d)))
            add_hint(item, "B with dimension %d reversed is near to A", d);
    }
    free(r.block);
    return yes;
}

/* ---- Values ------------------------------------------------------------------------------------------------ */

/* B = g A or B = A + c, but for a hundredth of the error. */
static bool hint_scale(fdm_comparison_item *item, const fdm_pair_stats *s) {
    const double relative = s->rms / s->rms_expected, apart = s->cosine_distance * (2 - s->cosine_distance);
    if (s->rms_found == 0 && s->rms_expected > 0) {
        add_hint(item, "B is all zeros");
        return true;
    }
    if (s->measured > 1 && apart <= 1e-4 * relative * relative) {
        add_hint(item, "B is A times %.6g", s->gain);
        return true;
    }
    if (s->measured > 1 && fabs(s->bias) >= 0.99995 * s->rms) {
        add_hint(item, "B is A plus %.6g", s->bias);
        return true;
    }
    return false;
}

static void hint_format(fdm_comparison_item *item, const fdm_pair_stats *s) {
    if (!fdm_dtype_is_float(item->dtype_b) || s->measured < 16 || s->bits_expected <= 11 || s->bits_found > 11) return;
    if (s->bits_found > 8)
        add_hint(item, "the values of B have %d significand bits, A's %d: tf32 or fp16?", s->bits_found, s->bits_expected);
    else
        add_hint(item, "the values of B have %d significand bits, A's %d: bf16?", s->bits_found, s->bits_expected);
}

fdm_status fdm_compare_hint(fdm_comparison_item *item, const fdm_tensor *expected, const fdm_tensor *found,
                            fdm_error *err) {
    const fdm_pair_stats *s = &item->figures->ab;
    char place[FDM_ERROR_PLACE_TEXT];
    if (!s->nonfinite && s->rms > 0 && !hint_scale(item, s)) hint_layout(item, s, expected, found);
    hint_format(item, s);
    fdm_status status = fdm_error_place(place, expected, found, err);
    if (!status && place[0]) add_hint(item, "%s", place);
    return status;
}
