/* compare.c - two tensor sets, tensor by tensor (compare.h has the rules). */
#include "fdm/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "verify/compare_sides.h"
#include "verify/tensor_stats.h"

const char *fdm_compare_outcome_name(fdm_compare_outcome outcome) {
    switch (outcome) {
#define NAME_CASE(e, name)                                                                                         \
    case e: return name;
        FDM_COMPARE_OUTCOMES(NAME_CASE)
#undef NAME_CASE
    default: return "?";
    }
}

/* ---- Verdict ----------------------------------------------------------------------------------------------- */

static bool has_tolerance(const fdm_compare_options *o) {
    return o->rtol > 0 || o->atol > 0 || o->mtol > 0 || o->ulp > 0 || o->allow > 0;
}

static void say(fdm_comparison_item *item, fdm_compare_outcome outcome, const char *format, ...) FDM_PRINTF(3, 4);
static void say(fdm_comparison_item *item, fdm_compare_outcome outcome, const char *format, ...) {
    va_list args;
    item->outcome = outcome;
    va_start(args, format);
    vsnprintf(item->detail, sizeof item->detail, format, args);
    va_end(args);
}

static void describe_shapes(fdm_comparison_item *item, const fdm_tensor *a, const char *whose, const fdm_tensor *b) {
    char left[64], right[64];
    fdm_shape_text(left, sizeof left, a->ndim, a->shape);
    fdm_shape_text(right, sizeof right, b->ndim, b->shape);
    say(item, FDM_COMPARE_SHAPE, "shape %s, %s %s", left, whose, right);
}

/* The element that is farthest off, as "; at [0,3] expected 1, found 1.5". */
static void append_worst(fdm_comparison_item *item) {
    const fdm_pair_stats *s = &item->figures->ab;
    const size_t used = strlen(item->detail);
    char index[FDM_SHAPE_TEXT];
    if (s->worst < 0) return;
    fdm_index_text(index, sizeof index, item->ndim, item->shape, s->worst);
    snprintf(item->detail + used, sizeof item->detail - used, "; at %s expected %.9g, found %.9g", index,
             s->worst_expected, s->worst_found);
}

static void judge_by_truth(fdm_comparison_item *item, const fdm_compare_options *o) {
    const double a = item->figures->at.rms, b = item->figures->bt.rms, ratio = o->ratio > 0 ? o->ratio : 1;
    if (b <= ratio * a) return; /* written so that a NaN fails */
    if (ratio > 1 || ratio < 1)
        say(item, FDM_COMPARE_WORSE, "RMS error %.3g against the truth, A's is %.3g; allowed %g times that", b, a, ratio);
    else
        say(item, FDM_COMPARE_WORSE, "RMS error %.3g against the truth, A's is %.3g", b, a);
}

/* The tensors have one shape. */
static void judge(fdm_comparison_item *item, const fdm_compare_options *o, bool with_truth) {
    const fdm_comparison_figures *f = item->figures;
    const bool snr_only = o->min_snr > 0 && !has_tolerance(o);
    item->outcome = FDM_COMPARE_PASS;
    if (item->dtype_a != item->dtype_b && !o->any_dtype) {
        say(item, FDM_COMPARE_DTYPE, "dtype %s, in B %s", fdm_dtype_name(item->dtype_a), fdm_dtype_name(item->dtype_b));
    } else if (f->ab.nonfinite) {
        say(item, FDM_COMPARE_NONFINITE, "NaN or infinite in A or B only");
        append_worst(item);
    } else if (with_truth && (f->at.nonfinite || f->bt.nonfinite)) {
        say(item, FDM_COMPARE_NONFINITE, "NaN or infinite in A and B but not in the truth, or in the truth only");
    } else if (o->by_truth) {
        judge_by_truth(item, o);
    } else if (!snr_only && (double)item->mismatches > o->allow * (double)f->ab.count) {
        say(item, FDM_COMPARE_DIFFERENT, "%" PRId64 " of %" PRId64 " beyond tolerance", item->mismatches, f->ab.count);
        append_worst(item);
    } else if (o->min_snr > 0 && !(f->ab.snr_db >= o->min_snr)) {
        say(item, FDM_COMPARE_NOISY, "signal-to-noise ratio %.1f dB, wanted %g dB", f->ab.snr_db, o->min_snr);
        append_worst(item);
    }
}

/* ---- One name ---------------------------------------------------------------------------------------------- */

static double ratio(double b, double a) {
    if (a == 0 && b == 0) return 1;
    return a == 0 ? INFINITY : b / a; /* NaN for two infinities: nothing can be said */
}

/* A, B and the truth (its name NULL: there is none), loaded. */
struct trio {
    fdm_tensor a, b, t;
};

static fdm_status measure(fdm_comparison_item *item, const fdm_compare_options *o, const struct trio *x,
                          fdm_error *err) {
    const struct fdm_pair_tolerance tolerance = {o->rtol, o->atol, o->mtol, o->ulp};
    fdm_comparison_figures *f = item->figures;
    fdm_status status = fdm_pair_measure_within(&f->ab, &item->mismatches, &tolerance, &x->a, &x->b, o->threads, err);
    if (status || !x->t.name) return status;
    status = fdm_pair_measure(&f->at, &x->t, &x->a, o->threads, err);
    if (!status) status = fdm_pair_measure(&f->bt, &x->t, &x->b, o->threads, err);
    item->rms_ratio = ratio(f->bt.rms, f->at.rms);
    item->max_ratio = ratio(f->bt.max_abs, f->at.max_abs);
    return status;
}

static fdm_status compare_trio(fdm_comparison_item *item, const fdm_compare_options *o, const struct trio *x,
                               fdm_error *err) {
    const bool with_truth = x->t.name != NULL;
    item->figures = malloc(sizeof *item->figures);
    if (!item->figures) return fdm_fail_oom(err, "comparison", sizeof *item->figures);
    fdm_comparison_figures *f = item->figures;
    fdm_pair_stats_clear(&f->ab);
    fdm_pair_stats_clear(&f->at);
    fdm_pair_stats_clear(&f->bt);
    f->patch = (fdm_patch){0};
    fdm_status status = measure(item, o, x, err);
    if (status) return status;
    judge(item, o, with_truth);
    const int64_t worst = o->by_truth && f->bt.worst >= 0 ? f->bt.worst : f->ab.worst;
    if (worst >= 0) fdm_patch_take(&f->patch, &x->a, &x->b, with_truth ? &x->t : NULL, worst);
    const bool odd = item->outcome != FDM_COMPARE_PASS && item->outcome != FDM_COMPARE_DTYPE;
    return odd && f->ab.worst >= 0 ? fdm_compare_hint(item, &x->a, &x->b, err) : FDM_OK;
}

/* What is compared with what. */
struct comparing {
    const struct fdm_compare_side *a, *b, *truth;
    const fdm_compare_options *options;
    bool (*stop)(void *user);
    void *user;
};

static fdm_status load_trio(struct trio *x, const struct comparing *c, size_t a, size_t b, size_t t, fdm_error *err) {
    *x = (struct trio){0};
    fdm_status status = fdm_tensor_source_load(&x->a, &c->a->source, a, err);
    if (!status) status = fdm_tensor_source_load(&x->b, &c->b->source, b, err);
    if (!status && c->truth) status = fdm_tensor_source_load(&x->t, &c->truth->source, t, err);
    return status;
}

static void unload_trio(struct trio *x, const struct comparing *c) {
    fdm_tensor_source_unload(&x->a, &c->a->source);
    fdm_tensor_source_unload(&x->b, &c->b->source);
    if (c->truth) fdm_tensor_source_unload(&x->t, &c->truth->source);
}

/* A name that A has. */
static fdm_status compare_entry(fdm_comparison_item *item, const struct comparing *c,
                                const struct fdm_compare_entry *ea, fdm_error *err) {
    const struct fdm_compare_entry *eb = fdm_compare_side_find(c->b, ea->name);
    const struct fdm_compare_entry *et = c->truth ? fdm_compare_side_find(c->truth, ea->name) : NULL;
    const fdm_tensor *a = &c->a->source.table.items[ea->index];
    const fdm_tensor *b = eb ? &c->b->source.table.items[eb->index] : NULL;
    const fdm_tensor *t = et ? &c->truth->source.table.items[et->index] : NULL;
    if (b) item->dtype_b = b->dtype;
    if (!b) {
        say(item, FDM_COMPARE_MISSING, "B lacks it");
    } else if (c->truth && !t) {
        say(item, FDM_COMPARE_MISSING, "the truth lacks it");
    } else if (!fdm_same_shape(a, b)) {
        describe_shapes(item, a, "in B", b);
        fdm_compare_hint_shape(item, a, b);
    } else if (t && !fdm_same_shape(a, t)) {
        describe_shapes(item, a, "in the truth", t);
    } else {
        struct trio x;
        fdm_status status = load_trio(&x, c, ea->index, eb->index, et ? et->index : 0, err);
        if (!status) status = compare_trio(item, c->options, &x, err);
        unload_trio(&x, c);
        return status;
    }
    return FDM_OK;
}

/* ---- All names --------------------------------------------------------------------------------------------- */

static int by_severity(const void *left, const void *right) {
    const fdm_comparison_item *x = left, *y = right;
    if (x->outcome != y->outcome) return x->outcome < y->outcome ? -1 : 1;
    /* Relative to the tensor's own scale; a difference where A is all zero counts as infinite. */
    const fdm_pair_stats *sx = x->figures ? &x->figures->ab : NULL, *sy = y->figures ? &y->figures->ab : NULL;
    const double bx = sx && sx->max_abs > 0 ? sx->max_abs / sx->scale_expected : 0;
    const double by = sy && sy->max_abs > 0 ? sy->max_abs / sy->scale_expected : 0;
    if (bx > by || by > bx) return bx > by ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static fdm_comparison_item *add_item(fdm_comparison *result, const char *name, const fdm_tensor *t) {
    fdm_comparison_item *item = &result->items[result->count];
    *item = (fdm_comparison_item){.order = result->count,
                                  .dtype_a = FDM_DTYPE_COUNT,
                                  .dtype_b = FDM_DTYPE_COUNT,
                                  .ndim = t->ndim,
                                  .rms_ratio = NAN,
                                  .max_ratio = NAN};
    memcpy(item->shape, t->shape, sizeof item->shape);
    item->name = fdm_strdup(name);
    if (!item->name) return NULL;
    result->count++;
    return item;
}

static fdm_status fill(fdm_comparison *result, const struct comparing *c, fdm_error *err) {
    for (size_t i = 0; i < c->a->count; i++) {
        const struct fdm_compare_entry *e = &c->a->entries[i];
        const fdm_tensor *t = &c->a->source.table.items[e->index];
        if (c->stop && c->stop(c->user)) return fdm_fail(err, FDM_INTERRUPTED, "interrupted");
        fdm_comparison_item *item = add_item(result, e->name, t);
        if (!item) return fdm_fail_oom(err, "comparison", strlen(e->name));
        item->dtype_a = t->dtype;
        fdm_status status = compare_entry(item, c, e, err);
        if (status) return status;
    }
    for (size_t i = 0; i < c->b->count; i++) {
        const struct fdm_compare_entry *e = &c->b->entries[i];
        const fdm_tensor *t = &c->b->source.table.items[e->index];
        if (fdm_compare_side_find(c->a, e->name)) continue;
        fdm_comparison_item *item = add_item(result, e->name, t);
        if (!item) return fdm_fail_oom(err, "comparison", strlen(e->name));
        item->dtype_b = t->dtype;
        say(item, FDM_COMPARE_EXTRA, "A lacks it");
    }
    return FDM_OK;
}

/* Heat maps of the most severe item that was measured and differs. */
static fdm_status draw_worst(fdm_comparison *result, const struct comparing *c, fdm_error *err) {
    const fdm_comparison_item *item = NULL;
    for (size_t i = 0; i < result->count && !item; i++)
        if (result->items[i].figures && result->items[i].figures->patch.rows > 0) item = &result->items[i];
    if (!item) return FDM_OK;
    const fdm_comparison_figures *f = item->figures;
    const struct fdm_compare_entry *et = c->truth ? fdm_compare_side_find(c->truth, item->name) : NULL;
    const bool by_truth = c->options->by_truth && f->bt.worst >= 0;
    struct trio x;
    fdm_status status = load_trio(&x, c, fdm_compare_side_find(c->a, item->name)->index,
                                  fdm_compare_side_find(c->b, item->name)->index, et ? et->index : 0, err);
    if (!status)
        status = fdm_heat_maps_make(result->maps, &result->map_count, by_truth ? &x.t : &x.a, &x.b,
                                    by_truth ? f->bt.worst : f->ab.worst, err);
    unload_trio(&x, c);
    result->map_item = (size_t)(item - result->items);
    return status;
}

static fdm_status summarise(fdm_comparison *result, fdm_error *err) {
    size_t failed = 0;
    for (size_t i = 0; i < result->count; i++) failed += result->items[i].outcome != FDM_COMPARE_PASS;
    if (result->count == 0) return fdm_fail(err, FDM_MISMATCH, "nothing to compare: no tensors");
    if (failed) return fdm_fail(err, FDM_MISMATCH, "%zu of %zu tensors fail", failed, result->count);
    result->pass = true;
    return FDM_OK;
}

static bool is_tolerance(double x) { return x >= 0 && isfinite(x); }

static fdm_status check_options(const fdm_compare_options *o, bool with_truth, fdm_error *err) {
    if (!(is_tolerance(o->rtol) && is_tolerance(o->atol) && is_tolerance(o->mtol) && o->ulp >= 0))
        return fdm_fail(err, FDM_BAD_USAGE, "tolerances must be finite and not negative");
    if (!(is_tolerance(o->min_snr) && is_tolerance(o->ratio) && o->allow >= 0 && o->allow < 1))
        return fdm_fail(err, FDM_BAD_USAGE, "min_snr and ratio must be finite and not negative, allow below 1");
    if (o->by_truth && !with_truth) return fdm_fail(err, FDM_BAD_USAGE, "judging by the truth needs a truth");
    return FDM_OK;
}

fdm_status fdm_compare_sides(fdm_comparison *result, const struct fdm_compare_side *a,
                             const struct fdm_compare_side *b, const struct fdm_compare_side *truth,
                             const fdm_compare_options *options, bool (*stop)(void *user), void *user,
                             fdm_error *err) {
    const fdm_compare_options equal = {0};
    const struct comparing c = {a, b, truth, options ? options : &equal, stop, user};
    size_t slots, bytes;
    *result = (fdm_comparison){.with_truth = truth != NULL};
    fdm_status status = check_options(c.options, truth != NULL, err);
    if (status) return status;
    if (!fdm_add_size(&slots, a->count, b->count) || !fdm_mul_size(&bytes, slots, sizeof *result->items))
        return fdm_fail_oom(err, "comparison", SIZE_MAX);
    result->items = malloc(bytes ? bytes : 1);
    if (!result->items) return fdm_fail_oom(err, "comparison", bytes);
    status = fill(result, &c, err);
    if (!status) {
        if (result->count) qsort(result->items, result->count, sizeof *result->items, by_severity);
        fdm_compare_note_names(result, a, b);
        status = draw_worst(result, &c, err);
    }
    if (status) {
        fdm_comparison_free(result);
        return status;
    }
    return summarise(result, err);
}

void fdm_comparison_free(fdm_comparison *result) {
    for (size_t i = 0; i < result->count; i++) {
        free(result->items[i].name);
        free(result->items[i].figures);
    }
    free(result->items);
    fdm_heat_maps_free(result->maps);
    *result = (fdm_comparison){0};
}
