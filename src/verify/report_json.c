/* report_json.c - a report as JSON; report.schema.json describes it. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "fdm/version.h"
#include "verify/report.h"

/* jansson's "*_new" functions take NULL, from an allocation that failed, for an error, which is kept in `lost`. */
struct writer {
    bool lost;
};

static void put(struct writer *w, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value) != 0) w->lost = true;
}
static void add(struct writer *w, json_t *list, json_t *value) {
    if (json_array_append_new(list, value) != 0) w->lost = true;
}

/* JSON has neither NaN nor infinity: null. */
static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }
static json_t *whole(double x) {
    if (!isfinite(x)) return json_null();
    return json_integer(fabs(x) < 0x1p63 ? (json_int_t)x : INT64_MAX);
}

/* Text of a file, made fit to print; NULL: null. */
static json_t *text(const char *s) {
    struct fdm_text clean = {0};
    if (!s) return json_null();
    for (const unsigned char *p = (const unsigned char *)s; *p;) { /* only what is no UTF-8 must go */
        const int n = fdm_utf8_sequence(p);
        fdm_text_add(&clean, n ? (const char *)p : "\xef\xbf\xbd", n ? (size_t)n : 3);
        p += n ? n : 1;
    }
    json_t *string = clean.failed ? NULL : json_string(clean.bytes ? clean.bytes : "");
    fdm_text_free(&clean);
    return string;
}

static json_t *texts(struct writer *w, const struct fdm_report_texts *list) {
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++) add(w, array, text(list->items[i]));
    return array;
}

/* ---- Statistics -------------------------------------------------------------------------------------------- */

static json_t *quantiles(struct writer *w, const double *values) {
    json_t *object = json_object();
    for (int q = 0; q < FDM_QUANTILE_COUNT; q++) put(w, object, fdm_quantile_name(q), real(values[q]));
    return object;
}

/* The buckets that are not empty. */
static json_t *histogram(struct writer *w, const fdm_pair_stats *s) {
    json_t *list = json_array();
    for (int k = 0; k < FDM_ULP_BUCKETS; k++) {
        if (!s->ulp_histogram[k]) continue;
        json_t *bucket = json_object();
        put(w, bucket, "from", whole((double)fdm_ulp_bucket_first(k)));
        put(w, bucket, "to", whole((double)fdm_ulp_bucket_last(k)));
        put(w, bucket, "count", json_integer(s->ulp_histogram[k]));
        add(w, list, bucket);
    }
    return list;
}

static json_t *matrix(struct writer *w, int rows, int cols, const double *values) {
    json_t *list = json_array();
    for (int r = 0; r < rows; r++) {
        json_t *row = json_array();
        for (int c = 0; c < cols; c++) add(w, row, real(values[r * cols + c]));
        add(w, list, row);
    }
    return list;
}

static json_t *index_json(struct writer *w, const struct fdm_report_row *row, int64_t index) {
    json_t *list = json_array();
    int64_t at[FDM_MAX_NDIM] = {0};
    fdm_unravel(at, row->ndim, row->shape, index);
    for (int d = 0; d < row->ndim; d++) add(w, list, json_integer(at[d]));
    return list;
}

static json_t *worst(struct writer *w, const struct fdm_report_row *row) {
    const fdm_pair_stats *s = row->stats;
    const fdm_patch *p = row->patch;
    if (s->worst < 0 || row->ndim < 0) return json_null();
    json_t *object = json_object();
    put(w, object, "index", index_json(w, row, s->worst));
    put(w, object, "expected", real(s->worst_expected));
    put(w, object, "found", real(s->worst_found));
    if (!p || p->rows == 0) return object;
    json_t *patch = json_object();
    put(w, patch, "row", json_integer(p->row));
    put(w, patch, "column", json_integer(p->col));
    put(w, patch, "expected", matrix(w, p->rows, p->cols, p->expected));
    put(w, patch, "found", matrix(w, p->rows, p->cols, p->found));
    if (p->with_truth) put(w, patch, "truth", matrix(w, p->rows, p->cols, p->truth));
    put(w, object, "neighbourhood", patch);
    return object;
}

static json_t *statistics(struct writer *w, const struct fdm_report_row *row) {
    const fdm_pair_stats *s = row->stats;
    json_t *object = json_object();
    put(w, object, "rms_expected", real(s->rms_expected));
    put(w, object, "rms_found", real(s->rms_found));
    put(w, object, "bits_expected", json_integer(s->bits_expected));
    put(w, object, "bits_found", json_integer(s->bits_found));
    put(w, object, "quantile_abs", quantiles(w, s->quantile_abs));
    put(w, object, "quantile_rel", quantiles(w, s->quantile_rel));
    put(w, object, "ulp_dtype", s->ulp_dtype == FDM_DTYPE_COUNT ? json_null() : json_string(fdm_dtype_name(s->ulp_dtype)));
    put(w, object, "ulp_histogram", histogram(w, s));
    put(w, object, "worst", worst(w, row));
    return object;
}

/* ---- Report ------------------------------------------------------------------------------------------------ */

static json_t *shape(struct writer *w, const struct fdm_report_row *row) {
    if (row->ndim < 0) return json_null();
    json_t *list = json_array();
    for (int d = 0; d < row->ndim; d++) add(w, list, json_integer(row->shape[d]));
    return list;
}

static json_t *row_json(struct writer *w, const struct fdm_report *r, const struct fdm_report_row *row) {
    json_t *object = json_object();
    put(w, object, "name", text(row->name));
    put(w, object, "verdict", json_string(fdm_report_verdict_name(row->verdict)));
    put(w, object, "reason", text(row->reason));
    put(w, object, "detail", text(row->detail));
    put(w, object, "notes", texts(w, &row->notes));
    put(w, object, "kind", text(row->kind));
    put(w, object, "order", row->order < 0 ? json_null() : json_integer(row->order));
    put(w, object, "dtype", text(row->dtype));
    put(w, object, "shape", shape(w, row));
    put(w, object, "formula", text(row->formula));
    for (size_t c = 0; c < r->column_count; c++) {
        const double x = row->values[c];
        put(w, object, r->columns[c].key, r->columns[c].flags & FDM_COLUMN_INTEGER ? whole(x) : real(x));
    }
    put(w, object, "statistics", row->stats ? statistics(w, row) : json_null());
    return object;
}

static json_t *facts(struct writer *w, const struct fdm_report *r) {
    json_t *object = json_object();
    for (size_t i = 0; i < r->fact_count; i++) {
        const struct fdm_report_fact *fact = &r->facts[i];
        put(w, object, fact->key, fact->text ? text(fact->text) : real(fact->number));
    }
    return object;
}

static json_t *columns(struct writer *w, const struct fdm_report *r) {
    json_t *object = json_object();
    for (size_t c = 0; c < r->column_count; c++) put(w, object, r->columns[c].key, text(r->columns[c].help));
    return object;
}

static json_t *report_json(struct writer *w, const struct fdm_report *r) {
    json_t *root = json_object(), *tensors = json_array();
    put(w, root, "format", json_integer(1));
    put(w, root, "tool", text(r->tool));
    put(w, root, "version", json_string(FDM_VERSION));
    put(w, root, "verdict", json_string(fdm_report_verdict_name(r->verdict)));
    put(w, root, "headline", text(r->headline));
    put(w, root, "first_bad", text(r->first_bad));
    put(w, root, "looks_like", text(r->looks_like));
    put(w, root, "notes", texts(w, &r->notes));
    put(w, root, "settings", facts(w, r));
    put(w, root, "columns", columns(w, r));
    for (size_t i = 0; i < r->row_count && !w->lost; i++) add(w, tensors, row_json(w, r, &r->rows[i]));
    put(w, root, "tensors", tensors);
    return root;
}

static int append(const char *bytes, size_t n, void *user) {
    struct fdm_text *out = user;
    fdm_text_add(out, bytes, n);
    return out->failed ? -1 : 0;
}

fdm_status fdm_report_json(struct fdm_text *out, const struct fdm_report *r, fdm_error *err) {
    struct writer w = {0};
    json_t *root = report_json(&w, r);
    const bool whole_written = root && !w.lost &&
                               json_dump_callback(root, append, out, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) == 0;
    json_decref(root);
    if (whole_written) fdm_text_add(out, "\n", 1);
    return whole_written && !out->failed ? FDM_OK : fdm_fail_oom(err, "JSON", 0);
}
