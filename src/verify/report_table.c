/* report_table.c - a report as text for a terminal. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "verify/report.h"

enum { NAME_WIDTH = 60, NUMBER_WIDTH = 10, BAR_WIDTH = 40, DETAILED_ROWS = 8 };

static bool is_bad(const struct fdm_report_row *row) {
    return row->verdict == FDM_VERDICT_FAIL || row->verdict == FDM_VERDICT_MISTRUSTED;
}

/* How many characters a name takes: UTF-8 continuation bytes take none. */
static int width_of(const char *text) {
    int width = 0;
    for (; *text; text++) width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void put_padded(struct fdm_text *out, const char *text, int width) {
    fdm_report_plain(out, text);
    for (int w = width_of(text); w < width; w++) fdm_text_add(out, " ", 1);
}

struct layout {
    int word, name; /* widths of the first two columns */
};

static struct layout lay_out(const struct fdm_report *r, const struct fdm_report_table_style *style) {
    struct layout l = {4, 6};
    for (size_t i = 0; i < r->row_count; i++) {
        const struct fdm_report_row *row = &r->rows[i];
        if (style->only_bad && !is_bad(row)) continue;
        l.word = fdm_max_int(l.word, (int)strlen(fdm_report_verdict_word(row->verdict)));
        l.name = fdm_max_int(l.name, fdm_min_int(width_of(row->name), NAME_WIDTH));
    }
    return l;
}

static void put_head(struct fdm_text *out, const struct fdm_report *r, struct layout l) {
    fdm_text_printf(out, "%*s  ", l.word, "");
    put_padded(out, "tensor", l.name);
    for (size_t c = 0; c < r->column_count; c++)
        if (r->columns[c].flags & FDM_SHOW_TABLE) fdm_text_printf(out, " %*s", NUMBER_WIDTH, r->columns[c].label);
    fdm_text_printf(out, "\n");
}

static void put_row(struct fdm_text *out, const struct fdm_report *r, const struct fdm_report_row *row,
                    struct layout l) {
    char number[32];
    fdm_text_printf(out, "%-*s  ", l.word, fdm_report_verdict_word(row->verdict));
    put_padded(out, row->name, l.name);
    for (size_t c = 0; c < r->column_count; c++) {
        if (!(r->columns[c].flags & FDM_SHOW_TABLE)) continue;
        fdm_report_number(number, row->values[c], (r->columns[c].flags & FDM_COLUMN_INTEGER) != 0);
        fdm_text_printf(out, " %*s", NUMBER_WIDTH, number);
    }
    if (row->detail[0]) {
        fdm_text_printf(out, "  ");
        fdm_report_plain(out, row->detail);
    }
    for (size_t n = 0; n < row->notes.count; n++) {
        fdm_text_printf(out, "%s", row->detail[0] || n ? "; " : "  ");
        fdm_report_plain(out, row->notes.items[n]);
    }
    fdm_text_printf(out, "\n");
}

/* ---- Details ----------------------------------------------------------------------------------------------- */

static void put_quantiles(struct fdm_text *out, const char *what, const double *quantiles, double max) {
    fdm_text_printf(out, "  %-10s", what);
    for (int q = 0; q < FDM_QUANTILE_COUNT; q++)
        fdm_text_printf(out, "  %s %.3g", fdm_quantile_name(q), quantiles[q]);
    fdm_text_printf(out, "  max %.3g\n", max);
}

static void put_histogram(struct fdm_text *out, const fdm_pair_stats *s) {
    int64_t most = 0;
    if (s->ulp_dtype == FDM_DTYPE_COUNT) return;
    for (int k = 0; k < FDM_ULP_BUCKETS; k++) most = s->ulp_histogram[k] > most ? s->ulp_histogram[k] : most;
    fdm_text_printf(out, "  ULP (%s)    elements\n", fdm_dtype_name(s->ulp_dtype));
    for (int k = 0; k < FDM_ULP_BUCKETS; k++) {
        const int64_t n = s->ulp_histogram[k];
        if (!n) continue;
        char range[48];
        const uint64_t first = fdm_ulp_bucket_first(k), last = fdm_ulp_bucket_last(k);
        if (first == last) snprintf(range, sizeof range, "%" PRIu64, first);
        else if (last < 100000) snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, first, last);
        else snprintf(range, sizeof range, "to 2^%d", k - 1);
        const int bar = (int)((double)n / (double)most * BAR_WIDTH + 0.5);
        fdm_text_printf(out, "  %11s %11" PRId64 " %.*s\n", range, n, bar, "########################################");
    }
}

static void put_values(struct fdm_text *out, const char *what, const fdm_patch *p, const double *values) {
    for (int r = 0; r < p->rows; r++) {
        fdm_text_printf(out, "  %-9s", r == 0 ? what : "");
        for (int c = 0; c < p->cols; c++) fdm_text_printf(out, " %13.7g", values[r * p->cols + c]);
        fdm_text_printf(out, "\n");
    }
}

static void put_patch(struct fdm_text *out, const struct fdm_report_row *row) {
    const fdm_patch *p = row->patch;
    if (!p || p->rows == 0) return;
    fdm_text_printf(out, "  around ");
    fdm_report_index(out, row, p->index);
    fdm_text_printf(out, ": rows %" PRId64 " to %" PRId64 ", columns %" PRId64 " to %" PRId64 "\n", p->row,
                    p->row + p->rows - 1, p->col, p->col + p->cols - 1);
    put_values(out, "expected", p, p->expected);
    put_values(out, "found", p, p->found);
    if (p->with_truth) put_values(out, "truth", p, p->truth);
}

static void put_details(struct fdm_text *out, const struct fdm_report_row *row) {
    const fdm_pair_stats *s = row->stats;
    fdm_text_printf(out, "\n");
    fdm_report_plain(out, row->name);
    fdm_text_printf(out, "  %s ", row->dtype ? row->dtype : "");
    fdm_report_shape(out, row);
    fdm_text_printf(out, "\n");
    if (row->formula) {
        fdm_text_printf(out, "  tolerance ");
        fdm_report_plain(out, row->formula);
        fdm_text_printf(out, "\n");
    }
    if (!s) return;
    put_quantiles(out, "absolute", s->quantile_abs, s->max_abs);
    put_quantiles(out, "relative", s->quantile_rel, s->max_rel);
    fdm_text_printf(out, "  RMS %.3g of %.3g  SNR %.1f dB  1 - cos %.3g  gain %.9g  bias %.3g\n", s->rms,
                    s->rms_expected, s->snr_db, s->cosine_distance, s->gain, s->bias);
    put_histogram(out, s);
    put_patch(out, row);
}

/* ---- Together ---------------------------------------------------------------------------------------------- */

fdm_status fdm_report_table(struct fdm_text *out, const struct fdm_report *r,
                            const struct fdm_report_table_style *style, fdm_error *err) {
    const struct layout l = lay_out(r, style);
    const size_t bad = fdm_report_count(r, FDM_VERDICT_FAIL) + fdm_report_count(r, FDM_VERDICT_MISTRUSTED);
    fdm_text_add(out, "", 0);
    if (bad || !style->only_bad) put_head(out, r, l);
    for (size_t i = 0; i < r->row_count; i++)
        if (!style->only_bad || is_bad(&r->rows[i])) put_row(out, r, &r->rows[i], l);
    for (size_t i = 0, shown = 0; i < r->row_count && shown < DETAILED_ROWS && style->details; i++) {
        if (!is_bad(&r->rows[i])) continue;
        put_details(out, &r->rows[i]);
        shown++;
    }
    if (style->details && bad > DETAILED_ROWS)
        fdm_text_printf(out, "\n(details of %d more: --json, --html)\n", (int)(bad - DETAILED_ROWS));
    if (!style->only_bad || bad)
        for (size_t n = 0; n < r->notes.count; n++) {
            fdm_text_printf(out, "%s", n == 0 && style->details ? "\n" : "");
            fdm_report_plain(out, r->notes.items[n]);
            fdm_text_printf(out, "\n");
        }
    if (!style->only_bad)
        fdm_text_printf(out, "%s: %zu of %zu tensors %s\n", fdm_report_verdict_name(r->verdict),
                        fdm_report_count(r, FDM_VERDICT_PASS), r->row_count,
                        strcmp(r->tool, "compare") == 0 ? "agree" : "pass");
    return out->failed ? fdm_fail_oom(err, "table", out->length) : FDM_OK;
}
