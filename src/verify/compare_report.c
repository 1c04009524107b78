/* compare_report.c - a comparison as a report. */
#include "verify/compare_report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* X(field, key, label, help, flags, value): what is shown of every tensor; s is B against A, i the item. */
#define SHOW_INTEGER(where) ((where) | FDM_COLUMN_INTEGER)
#define COMPARE_COLUMNS(X)                                                                                          \
    X(max_abs, "max abs", "max |b - a|", FDM_SHOW_ALL, s->max_abs)                                                  \
    X(max_rel, "max rel", "max |b - a| / |a| where a is not 0", FDM_SHOW_ALL, s->max_rel)                           \
    X(rms, "RMS", "root of the mean squared difference", FDM_SHOW_ALL, s->rms)                                      \
    X(relative_rms, "RMS / A", "RMS of the difference over RMS of A", FDM_SHOW_JSON, relative(s))                   \
    X(snr_db, "SNR dB", "20 log10(RMS of A / RMS of the difference)", FDM_SHOW_ALL, s->snr_db)                      \
    X(max_ulp, "max ULP", "representable numbers between a and b", SHOW_INTEGER(FDM_SHOW_ALL), count_or_none(s->max_ulp)) \
    X(median_abs, "median abs", "half of the differences are no larger", FDM_SHOW_HTML, s->quantile_abs[0])         \
    X(cosine_distance, "1 - cos", "1 - cosine of the angle between A and B", FDM_SHOW_HTML, s->cosine_distance)     \
    X(gain, "gain", "the g for which g A is nearest to B", FDM_SHOW_JSON, s->gain)                                  \
    X(bias, "bias", "mean difference", FDM_SHOW_JSON, s->bias)                                                      \
    X(scale, "max |a|", "largest finite magnitude in A", FDM_SHOW_JSON, s->scale_expected)                          \
    X(count, "elements", "elements compared", SHOW_INTEGER(FDM_SHOW_HTML), (double)s->count)                        \
    X(mismatches, "beyond", "elements beyond the tolerance", SHOW_INTEGER(FDM_SHOW_HTML), (double)i->mismatches)    \
    X(nonfinite, "nonfinite", "NaN or infinite in A or B only", SHOW_INTEGER(FDM_SHOW_JSON), (double)s->nonfinite)  \
    X(nan_in_both, "NaN in both", "elements that agree because both are NaN", SHOW_INTEGER(FDM_SHOW_JSON),          \
      (double)s->nan_in_both)                                                                                       \
    X(worst, "worst", "row-major index of the largest difference", SHOW_INTEGER(FDM_SHOW_JSON), count_or_none(s->worst))

/* The same with a truth. */
#define TRUTH_COLUMNS(X)                                                                                            \
    X(rms_ratio, "RMS ratio", "RMS error of B over A's, both against the truth", FDM_SHOW_ALL, i->rms_ratio)        \
    X(max_ratio, "max ratio", "largest error of B over A's", FDM_SHOW_ALL, i->max_ratio)                            \
    X(error_a, "error of A", "RMS error of A over RMS of the truth", FDM_SHOW_HTML, relative(&i->figures->at))      \
    X(error_b, "error of B", "RMS error of B over RMS of the truth", FDM_SHOW_HTML, relative(&i->figures->bt))      \
    X(ulp_b, "ULP of B", "largest error of B against the truth in ULPs of B", SHOW_INTEGER(FDM_SHOW_JSON),          \
      count_or_none(i->figures->bt.max_ulp))

static double relative(const fdm_pair_stats *s) {
    return s->rms == 0 ? 0 : s->rms / s->rms_expected;
}
static double count_or_none(int64_t n) { return n < 0 || n == INT64_MAX ? NAN : (double)n; }

enum columns {
#define COLUMN_ENUM(field, label, help, flags, value) COLUMN_##field,
    COMPARE_COLUMNS(COLUMN_ENUM) TRUTH_COLUMNS(COLUMN_ENUM)
#undef COLUMN_ENUM
};

static void add_columns(struct fdm_report *r, bool with_truth) {
#define ADD_COLUMN(field, label, help, flags, value) \
    fdm_report_column(r, #field, label, help, (flags) & (with_truth || COLUMN_##field < COLUMN_rms_ratio ? ~0u : ~(unsigned)FDM_SHOW_ALL));
    COMPARE_COLUMNS(ADD_COLUMN)
    TRUTH_COLUMNS(ADD_COLUMN)
#undef ADD_COLUMN
}

static void set_values(struct fdm_report_row *row, const fdm_comparison_item *i, bool with_truth) {
    const fdm_pair_stats *s = &i->figures->ab;
#define SET_VALUE(field, label, help, flags, value) fdm_report_set(row, COLUMN_##field, value);
    COMPARE_COLUMNS(SET_VALUE)
    if (with_truth) {
        TRUTH_COLUMNS(SET_VALUE)
    }
#undef SET_VALUE
}

static void add_row(struct fdm_report *r, const fdm_comparison_item *item, bool with_truth) {
    struct fdm_report_row *row = fdm_report_add_row(r, item->name);
    if (!row) return;
    row->verdict = item->outcome == FDM_COMPARE_PASS ? FDM_VERDICT_PASS : FDM_VERDICT_FAIL;
    row->reason = fdm_compare_outcome_name(item->outcome);
    row->detail = item->detail;
    row->order = (int64_t)item->order;
    row->dtype = fdm_dtype_name(item->dtype_a < FDM_DTYPE_COUNT ? item->dtype_a : item->dtype_b);
    row->ndim = item->ndim;
    row->shape = item->shape;
    if (item->hint[0]) fdm_report_row_note(r, row, item->hint);
    if (!item->figures) return;
    set_values(row, item, with_truth);
    row->stats = &item->figures->ab;
    row->patch = &item->figures->patch;
    if (item->figures->ab.nan_in_both)
        fdm_report_row_note(r, row, fdm_report_text(r, "%" PRId64 " NaN in both", item->figures->ab.nan_in_both));
}

/* ---- In words ---------------------------------------------------------------------------------------------- */

static const char *const failures[FDM_COMPARE_PASS] = {
    [FDM_COMPARE_MISSING] = "missing",
    [FDM_COMPARE_EXTRA] = "in B only",
    [FDM_COMPARE_SHAPE] = "of another shape",
    [FDM_COMPARE_DTYPE] = "of another dtype",
    [FDM_COMPARE_NONFINITE] = "with NaN or infinity",
    [FDM_COMPARE_DIFFERENT] = "beyond the tolerance",
    [FDM_COMPARE_NOISY] = "too noisy",
    [FDM_COMPARE_WORSE] = "farther from the truth than allowed",
};

/* "2 missing, 1 with NaN or infinity" */
static const char *failures_text(struct fdm_report *r, const fdm_comparison *c) {
    const char *text = "";
    for (int outcome = 0; outcome < FDM_COMPARE_PASS; outcome++) {
        size_t n = 0;
        for (size_t i = 0; i < c->count; i++) n += c->items[i].outcome == (fdm_compare_outcome)outcome;
        if (n)
            text = fdm_report_text(r, "%s%s%zu %s", text, text[0] ? ", " : "", n, failures[outcome]);
    }
    return text;
}

static const char *rule_text(struct fdm_report *r, const fdm_compare_options *o) {
    const char *text = "";
    if (o->by_truth && o->ratio > 0)
        return fdm_report_text(r, "RMS error of B against the truth <= %g x that of A", o->ratio);
    if (o->by_truth) return "RMS error of B against the truth <= that of A";
    if (o->min_snr > 0) text = fdm_report_text(r, "SNR >= %g dB", o->min_snr);
    if (o->atol > 0 || o->rtol > 0 || o->mtol > 0)
        text = fdm_report_text(r, "%s%s|b - a| <= %g + %g |a| + %g max |a|", text, text[0] ? ", and " : "", o->atol,
                               o->rtol, o->mtol);
    if (o->ulp > 0) text = fdm_report_text(r, "%s%sat most %" PRId64 " ULP", text, text[0] ? ", or " : "", o->ulp);
    if (o->allow > 0) text = fdm_report_text(r, "%s%sbut for the share %g", text[0] ? text : "equal", text[0] ? ", " : " ", o->allow);
    return text[0] ? text : "equal numbers";
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void add_words(struct fdm_report *r, const fdm_comparison *c, const fdm_compare_options *o) {
    const size_t failed = fdm_report_count(r, FDM_VERDICT_FAIL);
    if (c->count == 0)
        r->headline = "There was nothing to compare: no tensors.";
    else if (!failed)
        r->headline = o->by_truth
                          ? fdm_report_text(r, "B is as close to the truth as it must be in all %zu tensors.", c->count)
                          : fdm_report_text(r, "All %zu tensors agree.", c->count);
    else
        r->headline = fdm_report_text(r, "%zu of %zu tensors %s: %s.", failed, c->count, failed == 1 ? "fails" : "fail",
                                      failures_text(r, c));
    if (r->first_bad && failed > 1)
        fdm_report_note(r, fdm_report_text(r, "First in the order of the file: %s. Most severe: %s.", r->first_bad,
                                           r->rows[0].name));
    if (c->note[0]) fdm_report_note(r, c->note);
}

static void add_facts(struct fdm_report *r, const fdm_compare_files_args *files, const fdm_compare_options *o) {
    fdm_report_fact_text(r, "a", "A, expected", files->a);
    fdm_report_fact_text(r, "b", "B, found", files->b);
    if (files->truth) fdm_report_fact_text(r, "truth", "truth", files->truth);
    if (files->only) fdm_report_fact_text(r, "only", "only", files->only);
    if (files->rename_a) fdm_report_fact_text(r, "rename_a", "renamed in A", files->rename_a);
    if (files->rename_b) fdm_report_fact_text(r, "rename", "renamed in B", files->rename_b);
    if (files->rename_truth) fdm_report_fact_text(r, "rename_truth", "renamed in the truth", files->rename_truth);
    fdm_report_fact_text(r, "rule", "passes if", rule_text(r, o));
}

fdm_status fdm_compare_report(struct fdm_report *r, const fdm_comparison *c, const fdm_compare_files_args *files,
                              const fdm_compare_options *o, fdm_error *err) {
    r->tool = "compare";
    r->title = fdm_report_text(r, "%s against %s", base_name(files->b), base_name(files->a));
    add_columns(r, c->with_truth);
    add_facts(r, files, o);
    for (size_t i = 0; i < c->count && !r->failed; i++) add_row(r, &c->items[i], c->with_truth);
    fdm_report_conclude(r);
    add_words(r, c, o);
    r->chart_title = c->with_truth ? "Error against the truth, tensor by tensor" : "Difference, tensor by tensor";
    r->chart_unit = c->with_truth ? "RMS error / RMS of the truth" : "RMS of B - A / RMS of A";
    if (c->with_truth) {
        fdm_report_add_series(r, "A", COLUMN_error_a, true);
        fdm_report_add_series(r, "B", COLUMN_error_b, false);
    } else {
        fdm_report_add_series(r, "B", COLUMN_relative_rms, false);
    }
    r->maps = c->maps;
    r->map_count = c->map_count;
    r->map_name = c->map_count ? c->items[c->map_item].name : NULL;
    return fdm_report_check(r, err);
}
