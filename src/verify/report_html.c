/* report_html.c - a report as one HTML page: no scripts, nothing loaded from elsewhere (its own policy forbids both). */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/version.h"
#include "verify/report.h"

enum { MAX_ROWS = 2000, MAX_DETAILS = 40 };

static const char style[] =
    ":root{--bg:#fff;--fg:#1f2328;--soft:#57606a;--rule:#d0d7de;--tint:#f6f8fa;--pass:#1a7f37;--fail:#cf222e;"
    "--mistrusted:#9a6700;--skipped:#57606a;--line:#0969da;--bound:#8250df}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--soft:#8d96a0;--rule:#30363d;--tint:#161b22;"
    "--pass:#3fb950;--fail:#ff7b72;--mistrusted:#d29922;--skipped:#8d96a0;--line:#58a6ff;--bound:#bc8cff}}\n"
    "body{margin:0 auto;max-width:1280px;padding:20px;background:var(--bg);color:var(--fg);font:15px/1.45 system-ui,sans-serif}\n"
    "h1{font-size:22px;margin:0}h2{font-size:17px;margin:28px 0 8px;border-bottom:1px solid var(--rule);padding-bottom:4px}\n"
    "header{border-left:8px solid;padding:12px 18px;background:var(--tint)}header p{margin:6px 0 0}\n"
    ".soft{color:var(--soft)}bdi,td.name,.mono{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:13px;overflow-wrap:anywhere}\n"
    "header.pass{border-color:var(--pass)}header.fail{border-color:var(--fail)}header.mistrusted{border-color:var(--mistrusted)}\n"
    "b.pass{color:var(--pass)}b.fail{color:var(--fail)}b.mistrusted{color:var(--mistrusted)}b.skipped{color:var(--skipped)}\n"
    ".tiles{display:flex;gap:10px;margin:14px 0;flex-wrap:wrap}.tile{border:1px solid var(--rule);border-radius:6px;"
    "padding:8px 16px;min-width:90px}.tile b{display:block;font-size:22px}\n"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px}td,th{padding:3px 9px;text-align:right;"
    "border-bottom:1px solid var(--rule);white-space:nowrap}th{background:var(--tint);font-weight:600}\n"
    "td.name,td.text,th.text{text-align:left}td.text{white-space:normal;min-width:60px;max-width:420px}td.name{white-space:normal;min-width:300px;font-size:12px}\n"
    "td.worst{background:var(--tint);outline:2px solid var(--fail)}\n"
    "svg text{font-size:130px;fill:var(--fg);font-family:system-ui,sans-serif}svg.ulps text{font-size:120px}\n"
    "svg.profile{width:100%;height:auto}.grid{stroke:var(--rule);stroke-width:8}.line{fill:none;stroke-width:16}\n"
    ".s0{stroke:var(--line)}.s1{stroke:var(--line)}.s2{stroke:var(--soft)}.s3{stroke:var(--pass)}.line.dashed{stroke-dasharray:60 40;stroke:var(--bound)}\n"
    "circle.pass{fill:var(--pass)}circle.fail{fill:var(--fail)}circle.mistrusted{fill:var(--mistrusted)}circle.skipped{fill:var(--skipped)}\n"
    ".cross{fill:none;stroke:var(--fail);stroke-width:24}.cross.mistrusted{stroke:var(--mistrusted)}path.first{stroke:var(--fail);stroke-width:10;"
    "stroke-dasharray:20 30}text.first{fill:var(--fail)}.bar{fill:var(--line)}\n"
    ".figures{display:flex;gap:28px;flex-wrap:wrap;align-items:flex-start}figure{margin:8px 0}figcaption,.legend{color:var(--soft);"
    "font-size:13px;margin:4px 0}.map{background:var(--tint);outline:1px solid var(--rule)}.legend svg{width:150px;height:11px}"
    ".legend svg.box{width:11px}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;font-size:13px}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\n"
    "details{margin:6px 0}summary{cursor:pointer}\n";

static void put(struct fdm_text *out, const char *html) { fdm_text_add(out, html, strlen(html)); }

/* A name as itself, whatever direction its letters are written in. */
static void put_name(struct fdm_text *out, const char *name) {
    put(out, "<bdi>");
    fdm_report_escape(out, name);
    put(out, "</bdi>");
}

static void put_element(struct fdm_text *out, const char *tag, const char *class, const char *text) {
    if (class) fdm_text_printf(out, "<%s class=\"%s\">", tag, class);
    else fdm_text_printf(out, "<%s>", tag);
    fdm_report_escape(out, text);
    fdm_text_printf(out, "</%s>", tag);
}

static void put_number(struct fdm_text *out, double x, bool integer) {
    char number[32];
    fdm_report_number(number, x, integer);
    put(out, number);
}

static bool is_bad(const struct fdm_report_row *row) {
    return row->verdict == FDM_VERDICT_FAIL || row->verdict == FDM_VERDICT_MISTRUSTED;
}

/* ---- Head -------------------------------------------------------------------------------------------------- */

static const char *advice(enum fdm_report_verdict verdict) {
    switch (verdict) {
    case FDM_VERDICT_PASS: return "Nothing here needs attention.";
    case FDM_VERDICT_FAIL: return "Do not rely on these results until the rows marked FAIL are explained.";
    default: return "This check could not decide: it can neither clear nor blame these results.";
    }
}

static void put_tile(struct fdm_text *out, size_t n, const char *label, const char *class) {
    fdm_text_printf(out, "<div class=\"tile\"><b class=\"%s\">%zu</b>%s</div>", class, n, label);
}

static void put_tiles(struct fdm_text *out, const struct fdm_report *r) {
    put(out, "<div class=\"tiles\">");
    put_tile(out, r->row_count, "tensors", "");
    put_tile(out, fdm_report_count(r, FDM_VERDICT_PASS), "pass", "pass");
    put_tile(out, fdm_report_count(r, FDM_VERDICT_FAIL), "fail", "fail");
    if (fdm_report_count(r, FDM_VERDICT_MISTRUSTED))
        put_tile(out, fdm_report_count(r, FDM_VERDICT_MISTRUSTED), "mistrusted", "mistrusted");
    if (fdm_report_count(r, FDM_VERDICT_SKIPPED))
        put_tile(out, fdm_report_count(r, FDM_VERDICT_SKIPPED), "skipped", "skipped");
    put(out, "</div>\n");
}

static void put_header(struct fdm_text *out, const struct fdm_report *r) {
    const char *verdict = fdm_report_verdict_name(r->verdict);
    fdm_text_printf(out,
                    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width\"><title>%s: fdm %s</title>\n<style>\n",
                    verdict, r->tool);
    put(out, style);
    fdm_text_printf(out, "</style></head><body>\n<header class=\"%s\"><h1><b class=\"%s\">%s</b> &#8211; ", verdict,
                    verdict, r->verdict == FDM_VERDICT_PASS ? "PASS" : fdm_report_verdict_word(r->verdict));
    fdm_report_escape(out, r->headline ? r->headline : "");
    fdm_text_printf(out, "</h1><p>%s</p><p class=\"soft\">fdm %s: ", advice(r->verdict), r->tool);
    fdm_report_escape(out, r->title ? r->title : "");
    put(out, "</p></header>\n");
    put_tiles(out, r);
    if (r->first_bad) {
        put(out, "<p>First tensor that is bad by itself: ");
        put_name(out, r->first_bad);
        put(out, "</p>\n");
    }
    if (r->looks_like) {
        put(out, "<p>The errors look like those of ");
        put_element(out, "b", NULL, r->looks_like);
        put(out, ".</p>\n");
    }
    for (size_t n = 0; n < r->notes.count; n++) {
        put_element(out, "p", NULL, r->notes.items[n]);
        put(out, "\n");
    }
}

/* ---- One tensor -------------------------------------------------------------------------------------------- */

static void put_quantile_row(struct fdm_text *out, const char *what, const double *quantiles, double max) {
    fdm_text_printf(out, "<tr><th>%s</th>", what);
    for (int q = 0; q < FDM_QUANTILE_COUNT; q++) {
        put(out, "<td>");
        put_number(out, quantiles[q], false);
        put(out, "</td>");
    }
    put(out, "<td>");
    put_number(out, max, false);
    put(out, "</td></tr>\n");
}

static void put_quantiles(struct fdm_text *out, const fdm_pair_stats *s) {
    put(out, "<figure><table><tr><th></th>");
    for (int q = 0; q < FDM_QUANTILE_COUNT; q++) fdm_text_printf(out, "<th>%s</th>", fdm_quantile_name(q));
    put(out, "<th>max</th></tr>\n");
    put_quantile_row(out, "absolute", s->quantile_abs, s->max_abs);
    put_quantile_row(out, "relative", s->quantile_rel, s->max_rel);
    put(out, "</table><figcaption>quantiles of the error</figcaption></figure>\n");
}

static void put_patch_values(struct fdm_text *out, const struct fdm_report_row *row, const char *what,
                             const double *values) {
    const fdm_patch *p = row->patch;
    const int64_t width = row->ndim > 0 ? row->shape[row->ndim - 1] : 1, height = row->ndim > 1 ? row->shape[row->ndim - 2] : 1;
    const int64_t worst_row = p->index / width % height - p->row, worst_col = p->index % width - p->col;
    fdm_text_printf(out, "<figure><table class=\"mono\">");
    for (int r = 0; r < p->rows; r++) {
        put(out, "<tr>");
        for (int c = 0; c < p->cols; c++)
            fdm_text_printf(out, "<td%s>%.7g</td>", r == worst_row && c == worst_col ? " class=\"worst\"" : "",
                            values[r * p->cols + c]);
        put(out, "</tr>\n");
    }
    fdm_text_printf(out, "</table><figcaption>%s</figcaption></figure>\n", what);
}

static void put_patch(struct fdm_text *out, const struct fdm_report_row *row) {
    const fdm_patch *p = row->patch;
    if (!p || p->rows == 0 || row->ndim < 0) return;
    put(out, "<p>Around the worst element, ");
    fdm_report_index(out, row, p->index);
    fdm_text_printf(out, " (rows %" PRId64 "&#8211;%" PRId64 ", columns %" PRId64 "&#8211;%" PRId64 "):</p>\n<div class=\"figures\">\n",
                    p->row, p->row + p->rows - 1, p->col, p->col + p->cols - 1);
    put_patch_values(out, row, "expected", p->expected);
    put_patch_values(out, row, "found", p->found);
    if (p->with_truth) put_patch_values(out, row, "truth", p->truth);
    put(out, "</div>\n");
}

static void put_row_words(struct fdm_text *out, const struct fdm_report_row *row) {
    if (row->detail[0]) put_element(out, "p", NULL, row->detail);
    for (size_t n = 0; n < row->notes.count; n++) put_element(out, "p", NULL, row->notes.items[n]);
    if (row->formula) {
        put(out, "<p>Tolerance: ");
        put_element(out, "span", "mono", row->formula);
        put(out, "</p>");
    }
    put(out, "\n");
}

static void put_row_details(struct fdm_text *out, const struct fdm_report_row *row) {
    put_row_words(out, row);
    if (!row->stats) return;
    put(out, "<div class=\"figures\">\n");
    put_quantiles(out, row->stats);
    if (row->stats->ulp_dtype != FDM_DTYPE_COUNT) fdm_report_ulp_svg(out, row->stats);
    put(out, "</div>\n");
    put_patch(out, row);
}

static void put_worst(struct fdm_text *out, const struct fdm_report *r) {
    const struct fdm_report_row *row = NULL;
    for (size_t i = 0; i < r->row_count && r->map_name && !row; i++)
        if (strcmp(r->rows[i].name, r->map_name) == 0) row = &r->rows[i];
    if (!row || !r->map_count) return;
    put(out, "<h2>Where the error is: ");
    put_name(out, row->name);
    fdm_text_printf(out, " <span class=\"soft\">%s ", row->dtype ? row->dtype : "");
    fdm_report_shape(out, row);
    put(out, "</span></h2>\n<div class=\"figures\">\n");
    for (int m = 0; m < r->map_count; m++) fdm_report_heat_map_svg(out, &r->maps[m]);
    put(out, "</div>\n");
    put_row_details(out, row);
}

/* ---- Table ------------------------------------------------------------------------------------------------- */

static void put_table_row(struct fdm_text *out, const struct fdm_report *r, const struct fdm_report_row *row,
                          bool kinds) {
    const char *verdict = fdm_report_verdict_name(row->verdict);
    fdm_text_printf(out, "<tr><td class=\"name\">");
    put_name(out, row->name);
    fdm_text_printf(out, "</td><td class=\"text\"><b class=\"%s\">%s</b></td>", verdict,
                    fdm_report_verdict_word(row->verdict));
    put(out, "<td class=\"text\">");
    fdm_report_escape(out, row->detail);
    for (size_t n = 0; n < row->notes.count; n++) {
        if (n || row->detail[0]) put(out, "; ");
        fdm_report_escape(out, row->notes.items[n]);
    }
    put(out, "</td>");
    if (kinds) put_element(out, "td", NULL, row->kind ? row->kind : "");
    put(out, "<td>");
    fdm_report_shape(out, row);
    put(out, "</td>");
    for (size_t c = 0; c < r->column_count; c++) {
        if (!(r->columns[c].flags & FDM_SHOW_HTML)) continue;
        put(out, "<td>");
        put_number(out, row->values[c], (r->columns[c].flags & FDM_COLUMN_INTEGER) != 0);
        put(out, "</td>");
    }
    put(out, "</tr>\n");
}

static void put_table(struct fdm_text *out, const struct fdm_report *r) {
    bool kinds = false;
    for (size_t i = 0; i < r->row_count; i++) kinds = kinds || r->rows[i].kind;
    fdm_text_printf(out, "<h2>All tensors, the most severe first</h2>\n<div class=\"scroll\"><table>\n"
                         "<tr><th class=\"text\">tensor</th><th class=\"text\">verdict</th><th class=\"text\">why</th>%s<th>shape</th>", kinds ? "<th>kind</th>" : "");
    for (size_t c = 0; c < r->column_count; c++) {
        if (!(r->columns[c].flags & FDM_SHOW_HTML)) continue;
        put(out, "<th title=\"");
        fdm_report_escape(out, r->columns[c].help);
        put(out, "\">");
        fdm_report_escape(out, r->columns[c].label);
        put(out, "</th>");
    }
    put(out, "</tr>\n");
    for (size_t i = 0; i < r->row_count && i < MAX_ROWS; i++) put_table_row(out, r, &r->rows[i], kinds);
    put(out, "</table></div>\n");
    if (r->row_count > MAX_ROWS)
        fdm_text_printf(out, "<p class=\"soft\">%zu more are in the JSON report.</p>\n", r->row_count - MAX_ROWS);
}

static void put_details(struct fdm_text *out, const struct fdm_report *r) {
    size_t shown = 0;
    for (size_t i = 0; i < r->row_count && shown < MAX_DETAILS; i++) {
        const struct fdm_report_row *row = &r->rows[i];
        if (!is_bad(row) || !row->stats) continue;
        if (!shown++) put(out, "<h2>Details of what does not pass</h2>\n");
        put(out, "<details><summary>");
        put_name(out, row->name);
        put(out, "</summary>\n");
        put_row_details(out, row);
        put(out, "</details>\n");
    }
}

static void put_facts(struct fdm_text *out, const struct fdm_report *r) {
    put(out, "<h2>What was compared, and how</h2>\n<dl>\n");
    for (size_t i = 0; i < r->fact_count; i++) {
        put_element(out, "dt", NULL, r->facts[i].label);
        put(out, "<dd>");
        if (r->facts[i].text) put_name(out, r->facts[i].text);
        else put_number(out, r->facts[i].number, false);
        put(out, "</dd>\n");
    }
    for (size_t c = 0; c < r->column_count; c++) {
        if (!(r->columns[c].flags & FDM_SHOW_HTML)) continue;
        put_element(out, "dt", NULL, r->columns[c].label);
        put_element(out, "dd", NULL, r->columns[c].help);
        put(out, "\n");
    }
    fdm_text_printf(out, "</dl>\n<p class=\"soft\">fdm %s</p>\n</body></html>\n", FDM_VERSION);
}

fdm_status fdm_report_html(struct fdm_text *out, const struct fdm_report *r, fdm_error *err) {
    size_t *scratch;
    const size_t *order = fdm_report_by_order(&scratch, r);
    if (!order) return fdm_fail_oom(err, "HTML report", r->row_count * sizeof *order);
    put_header(out, r);
    if (r->series_count && r->row_count) {
        put_element(out, "h2", NULL, r->chart_title ? r->chart_title : "Error profile");
        put(out, "\n");
        fdm_report_profile_svg(out, r, order);
    }
    put_worst(out, r);
    put_table(out, r);
    put_details(out, r);
    put_facts(out, r);
    free(scratch);
    return out->failed ? fdm_fail_oom(err, "HTML report", out->length) : FDM_OK;
}
