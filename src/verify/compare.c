/* compare.c - two tensor sets, tensor by tensor (compare.h has the rules). */
#include "fdm/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"

const char *fdm_compare_outcome_name(fdm_compare_outcome outcome) {
    switch (outcome) {
#define NAME_CASE(e, name)                                                                                         \
    case e: return name;
        FDM_COMPARE_OUTCOMES(NAME_CASE)
#undef NAME_CASE
    default: return "?";
    }
}

/* ---- Elements ---------------------------------------------------------------------------------------------- */

/* A place on the line of the dtype's representable numbers, so that neighbours are 1 apart: sign and magnitude.
 * -0 and +0 share place 0; floats order by their bits without the sign. */
struct place {
    bool negative;
    uint64_t magnitude;
};

static uint64_t load_bits(const fdm_tensor *t, int64_t i, size_t size) {
    uint64_t bits = 0; /* little-endian, so the low bytes come first */
    memcpy(&bits, (const unsigned char *)t->data + (size_t)i * size, size);
    return bits;
}

static struct place element_place(const fdm_tensor *t, int64_t i) {
    size_t size = fdm_dtype_size(t->dtype);
    uint64_t bits = load_bits(t, i, size), sign = (uint64_t)1 << (8 * size - 1);
    bool negative = (bits & sign) != 0;
    switch (t->dtype) {
    case FDM_F64:
    case FDM_F32:
    case FDM_F16:
    case FDM_BF16: return (struct place){negative, bits & (sign - 1)};
    case FDM_I64:
    case FDM_I32:
    case FDM_I16:
    case FDM_I8: /* two's complement: the magnitude of a negative number is sign - its low bits */
        return negative ? (struct place){true, sign - (bits & (sign - 1))} : (struct place){false, bits};
    default: return (struct place){false, bits};
    }
}

static uint64_t place_distance(struct place p, struct place q) {
    uint64_t sum;
    if (p.negative == q.negative)
        return p.magnitude > q.magnitude ? p.magnitude - q.magnitude : q.magnitude - p.magnitude;
    return __builtin_add_overflow(p.magnitude, q.magnitude, &sum) ? UINT64_MAX : sum;
}

/* Distance of the elements, exact even for 64-bit integers, which doubles would round. */
static double absolute_difference(const fdm_tensor *a, double va, double vb, uint64_t ulps) {
    switch (a->dtype) {
    case FDM_F64:
    case FDM_F32:
    case FDM_F16:
    case FDM_BF16: return fabs(vb - va);
    default: return (double)ulps;
    }
}

/* ---- One tensor -------------------------------------------------------------------------------------------- */

/* Running sums of one tensor's comparison. */
struct tally {
    double squares; /* sum of (b - a)^2, scaled by nothing: f64 holds the squares of all f32 differences */
    int64_t measured;
    double worst_badness;
    double slack; /* the tolerance that is the same for every element */
};

static double largest_magnitude(const fdm_tensor *t) {
    double largest = 0;
    for (int64_t i = 0, count = fdm_tensor_numel(t); i < count; i++) {
        double magnitude = fabs(fdm_tensor_get(t, i));
        if (isfinite(magnitude) && magnitude > largest) largest = magnitude;
    }
    return largest;
}

static void note_worst(fdm_comparison_item *item, struct tally *tally, double badness, int64_t i, double va,
                       double vb) {
    if (badness <= tally->worst_badness) return;
    tally->worst_badness = badness;
    item->worst = i;
    item->worst_a = va;
    item->worst_b = vb;
}

/* Both NaN, or both infinite with the same sign. */
static bool same_nonfinite(double va, double vb) {
    if (isnan(va) || isnan(vb)) return isnan(va) && isnan(vb);
    return isinf(va) && isinf(vb) && signbit(va) == signbit(vb);
}

static void compare_element(fdm_comparison_item *item, struct tally *tally, const fdm_compare_options *o,
                            const fdm_tensor *a, const fdm_tensor *b, int64_t i) {
    double va = fdm_tensor_get(a, i), vb = fdm_tensor_get(b, i);
    if (!isfinite(va) || !isfinite(vb)) {
        if (same_nonfinite(va, vb)) {
            item->nan_in_both += isnan(va) != 0;
            return;
        }
        item->nonfinite++;
        item->mismatches++;
        note_worst(item, tally, INFINITY, i, va, vb);
        return;
    }
    bool same_dtype = a->dtype == b->dtype;
    uint64_t ulps = same_dtype ? place_distance(element_place(a, i), element_place(b, i)) : 0;
    double difference = same_dtype ? absolute_difference(a, va, vb, ulps) : fabs(vb - va), magnitude = fabs(va);
    tally->squares += difference * difference;
    tally->measured++;
    if (difference > item->max_abs) item->max_abs = difference;
    if (magnitude > 0 && difference / magnitude > item->max_rel) item->max_rel = difference / magnitude;
    if (same_dtype && ulps > (uint64_t)item->max_ulp) item->max_ulp = ulps > INT64_MAX ? INT64_MAX : (int64_t)ulps;
    note_worst(item, tally, difference, i, va, vb);
    bool near = isfinite(difference) && difference <= tally->slack + o->rtol * magnitude; /* inf <= inf is no */
    if (!near && !(same_dtype && ulps <= (uint64_t)o->ulp)) item->mismatches++;
}

static void compare_elements(fdm_comparison_item *item, const fdm_compare_options *o, const fdm_tensor *a,
                             const fdm_tensor *b) {
    item->scale = largest_magnitude(a);
    struct tally tally = {.slack = o->atol + o->mtol * item->scale};
    item->count = fdm_tensor_numel(a);
    item->max_abs = item->max_rel = item->rms = 0;
    item->max_ulp = a->dtype == b->dtype ? 0 : -1;
    for (int64_t i = 0; i < item->count; i++) compare_element(item, &tally, o, a, b, i);
    if (tally.measured) item->rms = sqrt(tally.squares / (double)tally.measured);
    if (item->nonfinite) {
        item->max_abs = item->max_rel = item->rms = INFINITY;
        if (item->max_ulp >= 0) item->max_ulp = INT64_MAX;
    }
}

/* error(x against truth) over the elements where they are not the same infinity or NaN; infinite if x has one that
 * the truth lacks. */
static fdm_compare_error error_against(const fdm_tensor *x, const fdm_tensor *truth) {
    int64_t count = fdm_tensor_numel(x), measured = 0;
    double squares = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        double vx = fdm_tensor_get(x, i), vt = fdm_tensor_get(truth, i);
        if (!isfinite(vx) || !isfinite(vt)) {
            if (same_nonfinite(vx, vt)) continue;
            return (fdm_compare_error){INFINITY, INFINITY};
        }
        double difference = fabs(vx - vt);
        if (difference > largest) largest = difference;
        squares += difference * difference;
        measured++;
    }
    return (fdm_compare_error){largest, measured ? sqrt(squares / (double)measured) : 0};
}

static double ratio(double b, double a) {
    if (a == 0 && b == 0) return 1;
    return a == 0 ? INFINITY : b / a; /* NaN for two infinities: nothing can be said */
}

/* ---- Verdict ----------------------------------------------------------------------------------------------- */

static bool same_shape(const fdm_tensor *a, const fdm_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

static void describe_shapes(fdm_comparison_item *item, const fdm_tensor *a, const char *whose, const fdm_tensor *b) {
    char left[64], right[64];
    fdm_shape_text(left, sizeof left, a->ndim, a->shape);
    fdm_shape_text(right, sizeof right, b->ndim, b->shape);
    item->outcome = FDM_COMPARE_SHAPE;
    snprintf(item->detail, sizeof item->detail, "shape %s, %s %s", left, whose, right);
}

/* The element that is farthest off, as "a = 1, b = 1.5 at [0,3]". */
static void append_worst(fdm_comparison_item *item, const fdm_tensor *a) {
    size_t used = strlen(item->detail), size = sizeof item->detail;
    int64_t rest = item->worst, index[FDM_MAX_NDIM];
    if (item->worst < 0) return;
    for (int d = a->ndim - 1; d >= 0; d--) {
        index[d] = rest % a->shape[d];
        rest /= a->shape[d];
    }
    used += (size_t)snprintf(item->detail + used, size - used, "; at [");
    for (int d = 0; d < a->ndim && used < size; d++)
        used += (size_t)snprintf(item->detail + used, size - used, "%s%" PRId64, d ? "," : "", index[d]);
    if (used < size)
        snprintf(item->detail + used, size - used, "] expected %.9g, found %.9g", item->worst_a, item->worst_b);
}

static void judge(fdm_comparison_item *item, const fdm_compare_options *o, const fdm_tensor *a, const fdm_tensor *b,
                  const fdm_tensor *truth) {
    size_t size = sizeof item->detail;
    bool beyond = item->mismatches > 0;
    if (a->dtype != b->dtype) {
        item->outcome = FDM_COMPARE_DTYPE;
        snprintf(item->detail, size, "dtype %s, in B %s", fdm_dtype_name(a->dtype), fdm_dtype_name(b->dtype));
    } else if (item->nonfinite || (truth && !(isfinite(item->error_a.rms) && isfinite(item->error_b.rms)))) {
        item->outcome = FDM_COMPARE_NONFINITE;
        snprintf(item->detail, size, "NaN or infinite in %s only",
                 item->nonfinite ? "A or B" : "A and B but not in the truth, or in the truth");
        append_worst(item, a);
    } else if (o->by_truth) {
        /* Written so that a NaN ratio fails. */
        item->outcome = item->error_b.rms <= item->error_a.rms ? FDM_COMPARE_PASS : FDM_COMPARE_WORSE;
        if (item->outcome != FDM_COMPARE_PASS)
            snprintf(item->detail, size, "RMS error %.3g against the truth, A's is %.3g", item->error_b.rms,
                     item->error_a.rms);
    } else if (beyond) {
        item->outcome = FDM_COMPARE_DIFFERENT;
        snprintf(item->detail, size, "%" PRId64 " of %" PRId64 " beyond tolerance", item->mismatches, item->count);
        append_worst(item, a);
    } else {
        item->outcome = FDM_COMPARE_PASS;
    }
}

/* One name that A has.  b and t may be NULL. */
static void compare_pair(fdm_comparison_item *item, const fdm_compare_options *o, const fdm_tensor *a,
                         const fdm_tensor *b, bool with_truth, const fdm_tensor *t) {
    item->outcome = FDM_COMPARE_MISSING;
    if (!b) {
        snprintf(item->detail, sizeof item->detail, "B lacks it");
    } else if (with_truth && !t) {
        snprintf(item->detail, sizeof item->detail, "the truth lacks it");
    } else if (!same_shape(a, b)) {
        describe_shapes(item, a, "in B", b);
    } else if (t && !same_shape(a, t)) {
        describe_shapes(item, a, "in the truth", t);
    } else {
        compare_elements(item, o, a, b);
        if (t) {
            item->error_a = error_against(a, t);
            item->error_b = error_against(b, t);
            item->rms_ratio = ratio(item->error_b.rms, item->error_a.rms);
            item->max_ratio = ratio(item->error_b.max, item->error_a.max);
        }
        judge(item, o, a, b, t);
    }
}

static int by_severity(const void *left, const void *right) {
    const fdm_comparison_item *x = left, *y = right;
    if (x->outcome != y->outcome) return x->outcome < y->outcome ? -1 : 1;
    /* Relative to the tensor's own scale; a difference where A is all zero counts as infinite. */
    double bx = x->max_abs > 0 ? x->max_abs / x->scale : 0, by = y->max_abs > 0 ? y->max_abs / y->scale : 0;
    if (bx != by) return bx > by ? -1 : 1;
    return strcmp(x->name, y->name);
}

static fdm_comparison_item *add_item(fdm_comparison *result, const char *name) {
    fdm_comparison_item *item = &result->items[result->count];
    const fdm_compare_error none = {NAN, NAN};
    *item = (fdm_comparison_item){.scale = NAN,
                                  .max_abs = NAN,
                                  .max_rel = NAN,
                                  .rms = NAN,
                                  .max_ulp = -1,
                                  .worst = -1,
                                  .worst_a = NAN,
                                  .worst_b = NAN,
                                  .error_a = none,
                                  .error_b = none,
                                  .rms_ratio = NAN,
                                  .max_ratio = NAN};
    item->name = fdm_strdup(name);
    if (!item->name) return NULL;
    result->count++;
    return item;
}

static fdm_status fill(fdm_comparison *result, const fdm_tensors *a, const fdm_tensors *b, const fdm_tensors *truth,
                       const fdm_compare_options *o, fdm_error *err) {
    for (size_t i = 0; i < a->count; i++) {
        const char *name = a->items[i].name;
        fdm_comparison_item *item = add_item(result, name);
        if (!item) return fdm_fail_oom(err, "comparison", strlen(name));
        compare_pair(item, o, &a->items[i], fdm_tensors_find(b, name), truth != NULL,
                     truth ? fdm_tensors_find(truth, name) : NULL);
    }
    for (size_t i = 0; i < b->count; i++) {
        const char *name = b->items[i].name;
        if (fdm_tensors_find(a, name)) continue;
        fdm_comparison_item *item = add_item(result, name);
        if (!item) return fdm_fail_oom(err, "comparison", strlen(name));
        item->outcome = FDM_COMPARE_EXTRA;
        snprintf(item->detail, sizeof item->detail, "A lacks it");
    }
    return FDM_OK;
}

static fdm_status summarise(fdm_comparison *result, fdm_error *err) {
    size_t failed = 0;
    for (size_t i = 0; i < result->count; i++) failed += result->items[i].outcome != FDM_COMPARE_PASS;
    if (result->count == 0) return fdm_fail(err, FDM_MISMATCH, "nothing to compare: no tensors");
    if (failed) return fdm_fail(err, FDM_MISMATCH, "%zu of %zu tensors fail", failed, result->count);
    result->pass = true;
    return FDM_OK;
}

fdm_status fdm_compare(fdm_comparison *result, const fdm_tensors *a, const fdm_tensors *b, const fdm_tensors *truth,
                       const fdm_compare_options *options, fdm_error *err) {
    const fdm_compare_options equal = {0}, *o = options ? options : &equal;
    size_t slots, bytes;
    *result = (fdm_comparison){.with_truth = truth != NULL};
    if (!(o->rtol >= 0 && isfinite(o->rtol) && o->atol >= 0 && isfinite(o->atol) && o->mtol >= 0 &&
          isfinite(o->mtol) && o->ulp >= 0))
        return fdm_fail(err, FDM_BAD_USAGE, "tolerances must be finite and not negative");
    if (o->by_truth && !truth) return fdm_fail(err, FDM_BAD_USAGE, "judging by the truth needs a truth");
    if (!fdm_add_size(&slots, a->count, b->count) || !fdm_mul_size(&bytes, slots, sizeof *result->items))
        return fdm_fail_oom(err, "comparison", SIZE_MAX);
    result->items = malloc(bytes ? bytes : 1);
    if (!result->items) return fdm_fail_oom(err, "comparison", bytes);
    fdm_status status = fill(result, a, b, truth, o, err);
    if (status != FDM_OK) {
        fdm_comparison_free(result);
        return status;
    }
    qsort(result->items, result->count, sizeof *result->items, by_severity);
    return summarise(result, err);
}

void fdm_comparison_free(fdm_comparison *result) {
    for (size_t i = 0; i < result->count; i++) free(result->items[i].name);
    free(result->items);
    *result = (fdm_comparison){0};
}
