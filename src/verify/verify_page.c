/* verify_page.c - a report as one HTML page, by way of the writers that `fdm compare` shares. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/pair_stats.h"
#include "fdm/verify.h"
#include "verify/report.h"

struct columns {
    int rms, expected, tolerance, rms_ratio, max_ratio, total, ulp;
};

static enum fdm_report_verdict verdict_of(fdm_verdict v) {
    switch (v) {
    case FDM_VERIFY_PASS: return FDM_VERDICT_PASS;
    case FDM_VERIFY_MISTRUSTED: return FDM_VERDICT_MISTRUSTED;
    case FDM_VERIFY_INHERITED: return FDM_VERDICT_SKIPPED;
    default: return FDM_VERDICT_FAIL;
    }
}

static struct columns add_columns(struct fdm_report *page) {
    return (struct columns){
        .rms = fdm_report_column(page, "rms", "error", "RMS distance from the truth, given the tensors upstream", FDM_SHOW_ALL),
        .expected = fdm_report_column(page, "expected_rms", "expected", "the same of the emulated precision", FDM_SHOW_ALL),
        .tolerance = fdm_report_column(page, "tolerance_rms", "tolerance", "rounding bound of this layer", FDM_SHOW_ALL),
        .rms_ratio = fdm_report_column(page, "rms_ratio", "RMS ratio", "error to expected error", FDM_SHOW_ALL),
        .max_ratio = fdm_report_column(page, "max_ratio", "max ratio", "the same of the largest errors", FDM_SHOW_ALL),
        .total = fdm_report_column(page, "total_rms_ratio", "in total", "RMS ratio from the inputs alone", FDM_SHOW_ALL),
        .ulp = fdm_report_column(page, "max_ulp", "max ULP", "f32 numbers from the truth", FDM_SHOW_ALL | FDM_COLUMN_INTEGER),
    };
}

static void add_item(struct fdm_report *page, const struct columns *c, const fdm_verify_item *item, size_t order) {
    struct fdm_report_row *row = fdm_report_add_row(page, item->name);
    if (!row) return;
    row->verdict = verdict_of(item->verdict);
    row->reason = fdm_verdict_name(item->verdict);
    row->detail = fdm_report_text(page, "%s", item->reason);
    row->formula = item->formula[0] ? fdm_report_text(page, "%s", item->formula) : NULL;
    row->order = (int64_t)order;
    fdm_report_set(row, c->rms, item->local.rms);
    fdm_report_set(row, c->expected, item->local.expected_rms);
    fdm_report_set(row, c->tolerance, item->tolerance_rms);
    fdm_report_set(row, c->rms_ratio, item->local.rms_ratio);
    fdm_report_set(row, c->max_ratio, item->local.max_ratio);
    fdm_report_set(row, c->total, item->total.rms_ratio);
    fdm_report_set(row, c->ulp, (double)item->max_ulp);
}

/* Rows: the worst verdicts first, each group in the order of the network. */
static void add_items(struct fdm_report *page, const fdm_verify_report *r) {
    const struct columns c = add_columns(page);
    for (int verdict = 0; verdict < FDM_VERIFY_VERDICT_COUNT; verdict++)
        for (size_t i = 0; i < r->count; i++)
            if ((int)r->items[i].verdict == verdict) add_item(page, &c, &r->items[i], i);
    page->chart_title = "Error of each module, in the order of the network";
    page->chart_unit = "RMS distance from the truth";
    fdm_report_add_series(page, "error", c.rms, false);
    fdm_report_add_series(page, "expected of this precision", c.expected, true);
}

static const char *headline(struct fdm_report *page, const fdm_verify_report *r) {
    if (r->verdict == FDM_VERIFY_PASS) return "Every tensor is as close to the truth as this precision can be expected to be.";
    if (r->verdict == FDM_VERIFY_MISTRUSTED) return "Nothing differs, but this dump could not show a wrong network input.";
    if (r->looks_like_other) return "The run is right for another precision than the one it was checked for.";
    return fdm_report_text(page, "The run goes wrong at %s.", r->first_bad[0] ? r->first_bad : "one of its tensors");
}

static void add_facts(struct fdm_report *page, const fdm_verify_report *r) {
    for (int i = 0; i < FDM_LAYER_CLASS_COUNT; i++) {
        const char *name = fdm_layer_class_name((fdm_layer_class)i);
        fdm_report_fact_text(page, name, name, fdm_format_name(r->emulation.format[i]));
    }
    fdm_report_fact_number(page, "rms_limit", "RMS error allowed, in units of the expected", r->rms_limit);
    fdm_report_fact_number(page, "max_limit", "largest error allowed, likewise", r->max_limit);
    fdm_report_fact_number(page, "safety", "factor of the rounding bounds", r->safety);
}

static void add_steps(struct fdm_report *page, const fdm_verify_report *r) {
    for (size_t i = 0; i < r->step_count; i++) {
        const fdm_verify_step *s = &r->steps[i];
        fdm_report_note(page, fdm_report_text(page, "Call %d at sigma %.4g: this step is off by %.3g (expected %.3g), stretches what it is handed "
                                              "by %.3g; the state is %.3g from an all-f64 run (predicted %.3g). %s", s->call, s->sigma, s->local,
                                              s->expected, s->growth, s->total, s->predicted, fdm_verdict_name(s->verdict)));
    }
}

/* Statistics and pictures of the first bad tensor. */
static fdm_status add_worst(struct fdm_report *page, const fdm_verify_report *r, fdm_pair_stats *stats, fdm_patch *patch,
                            fdm_heat_map *maps, fdm_error *err) {
    if (!r->bad.seen) return FDM_OK;
    fdm_tensor seen = {.dtype = FDM_F32, .ndim = r->bad.ndim, .data = r->bad.seen}, truth = {.dtype = FDM_F64, .ndim = r->bad.ndim, .data = r->bad.truth};
    int64_t count = 1;
    for (int i = 0; i < r->bad.ndim; i++) count *= seen.shape[i] = truth.shape[i] = r->bad.shape[i];
    seen.nbytes = (size_t)count * sizeof(float);
    truth.nbytes = (size_t)count * sizeof(double);
    fdm_status status = fdm_pair_measure(stats, &truth, &seen, 1, err);
    if (status == FDM_OK && stats->worst >= 0) fdm_patch_take(patch, &truth, &seen, NULL, stats->worst);
    if (status == FDM_OK && stats->worst >= 0) status = fdm_heat_maps_make(maps, &page->map_count, &truth, &seen, stats->worst, err);
    for (size_t i = 0; i < page->row_count && status == FDM_OK; i++) {
        struct fdm_report_row *row = &page->rows[i];
        if (strcmp(row->name, r->bad.name) != 0) continue;
        row->ndim = r->bad.ndim;
        row->shape = r->bad.shape;
        row->dtype = "F32";
        row->stats = stats;
        if (stats->worst >= 0) row->patch = patch;
    }
    page->maps = maps;
    page->map_name = r->bad.name;
    return status;
}

char *fdm_verify_report_html(const fdm_verify_report *r, const char *title) {
    struct fdm_report page = {.tool = "verify"};
    struct fdm_text text = {0};
    fdm_pair_stats stats;
    fdm_patch patch;
    fdm_heat_map maps[FDM_HEAT_MAPS];
    fdm_error err;
    memset(maps, 0, sizeof maps);
    page.title = fdm_report_text(&page, "%s", title);
    add_facts(&page, r);
    add_items(&page, r);
    add_steps(&page, r);
    page.headline = headline(&page, r);
    page.verdict = verdict_of(r->verdict);
    page.first_bad = r->first_bad[0] ? fdm_report_text(&page, "%s", r->first_bad) : NULL;
    page.looks_like = r->looks_like_other ? fdm_format_name(r->looks_like) : NULL;
    if (r->diagnosis[0]) fdm_report_note(&page, r->diagnosis);
    if (r->remark[0]) fdm_report_note(&page, r->remark);
    fdm_status status = add_worst(&page, r, &stats, &patch, maps, &err);
    if (status == FDM_OK) status = fdm_report_check(&page, &err);
    if (status == FDM_OK) status = fdm_report_html(&text, &page, &err);
    fdm_heat_maps_free(maps);
    fdm_report_free(&page);
    if (status == FDM_OK && !text.failed) return text.bytes;
    fdm_text_free(&text);
    return NULL;
}
