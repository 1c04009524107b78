/* report_chart.c - the pictures of an HTML report, as SVG.  Coordinates are whole tenths of a pixel, so that no decimal
 * point depends on the locale. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "verify/report.h"

/* ---- Error profile ----------------------------------------------------------------------------------------- */

enum {
    WIDTH = 9600,
    HEIGHT = 3000,
    LEFT = 800,
    RIGHT = 150,
    TOP = 200,    /* above the scale: room for what is infinite or could not be compared */
    BOTTOM = 550, /* below it: "exact", and the axis */
    EXACT = HEIGHT - 400,
    BEYOND = 110,
    MAX_POINTS = 2000 /* more: only every n-th of those that pass */
};

/* The decades that the scale spans. */
struct scale {
    int low, high;
};

static bool is_bad(const struct fdm_report_row *row) {
    return row->verdict == FDM_VERDICT_FAIL || row->verdict == FDM_VERDICT_MISTRUSTED;
}

static struct scale find_scale(const struct fdm_report *r) {
    double low = INFINITY, high = 0;
    for (size_t i = 0; i < r->row_count; i++)
        for (int s = 0; s < r->series_count; s++) {
            const double x = r->rows[i].values[r->series[s].column];
            if (!isfinite(x) || !(x > 0)) continue;
            low = fmin(low, x);
            high = fmax(high, x);
        }
    if (!(high > 0)) return (struct scale){-8, 0};
    struct scale scale = {(int)floor(log10(low)), (int)ceil(log10(high))};
    if (scale.low < scale.high - 60) scale.low = scale.high - 60;
    if (scale.low >= scale.high) scale.low = scale.high - 1;
    return scale;
}

static int y_of(struct scale scale, double x) {
    if (x == 0) return EXACT;
    if (!isfinite(x)) return BEYOND;
    const double share = (log10(x) - scale.low) / (scale.high - scale.low);
    return (int)(HEIGHT - BOTTOM - fmin(fmax(share, 0), 1) * (HEIGHT - BOTTOM - TOP));
}

static int x_of(size_t place, size_t count) {
    return count < 2 ? (LEFT + WIDTH - RIGHT) / 2
                     : LEFT + 100 + (int)((double)place / (double)(count - 1) * (WIDTH - RIGHT - LEFT - 200));
}

static void put_axes(struct fdm_text *out, const struct fdm_report *r, struct scale scale, bool exact, bool beyond) {
    const int step = (scale.high - scale.low + 7) / 8;
    for (int decade = scale.low; decade <= scale.high; decade += step) {
        const int y = HEIGHT - BOTTOM - (decade - scale.low) * (HEIGHT - BOTTOM - TOP) / (scale.high - scale.low);
        fdm_text_printf(out, "<path class=\"grid\" d=\"M%d %dH%d\"/><text x=\"%d\" y=\"%d\" text-anchor=\"end\">1e%d</text>\n",
                        LEFT, y, WIDTH - RIGHT, LEFT - 60, y + 45, decade);
    }
    if (exact)
        fdm_text_printf(out, "<path class=\"grid\" d=\"M%d %dH%d\"/><text x=\"%d\" y=\"%d\" text-anchor=\"end\">exact</text>\n",
                        LEFT, EXACT, WIDTH - RIGHT, LEFT - 60, EXACT + 45);
    if (beyond)
        fdm_text_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">no number</text>\n", LEFT - 60, BEYOND + 45);
    fdm_text_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">tensors in the order of the %s</text>\n",
                    (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 60, strcmp(r->tool, "compare") == 0 ? "file" : "network");
    fdm_text_printf(out, "<text transform=\"translate(130 %d) rotate(-90)\" text-anchor=\"middle\">", (HEIGHT - BOTTOM + TOP) / 2);
    fdm_report_escape(out, r->chart_unit ? r->chart_unit : "error");
    fdm_text_printf(out, "</text>\n");
}

/* Lines break where there is no number. */
static void put_line(struct fdm_text *out, const struct fdm_report *r, const size_t *order, size_t count, int series,
                     struct scale scale) {
    bool pen_down = false;
    fdm_text_printf(out, "<path class=\"line s%d%s\" d=\"", series, r->series[series].dashed ? " dashed" : "");
    for (size_t i = 0; i < count; i++) {
        const double x = r->rows[order[i]].values[r->series[series].column];
        if (!isnan(x)) fdm_text_printf(out, "%s%d %d", pen_down ? "L" : "M", x_of(i, count), y_of(scale, x));
        pen_down = !isnan(x);
    }
    fdm_text_printf(out, "\"/>\n");
}

/* A point, with the name and the number as its tool tip; a cross where there is no number. */
static void put_point(struct fdm_text *out, const struct fdm_report_row *row, double value, int x, int y, int radius) {
    char number[32];
    const char *class = fdm_report_verdict_name(row->verdict);
    fdm_report_number(number, value, false);
    if (isfinite(value))
        fdm_text_printf(out, "<circle class=\"%s\" cx=\"%d\" cy=\"%d\" r=\"%d\"><title>", class, x, y, radius);
    else
        fdm_text_printf(out, "<path class=\"%s cross\" d=\"M%d %dl100 100m0 -100l-100 100\"><title>", class, x - 50, y - 50);
    fdm_report_escape(out, row->name);
    fdm_text_printf(out, ": %s (%s)</title></%s>\n", isnan(value) ? row->reason : number,
                    fdm_report_verdict_word(row->verdict), isfinite(value) ? "circle" : "path");
}

static void put_points(struct fdm_text *out, const struct fdm_report *r, const size_t *order, size_t count,
                       struct scale scale) {
    const size_t step = count / MAX_POINTS + 1;
    const int radius = count > 400 ? 24 : 38;
    for (int s = r->series_count - 1; s >= 0; s--) {
        if (r->series[s].dashed) continue;
        for (size_t i = 0; i < count; i++) {
            const struct fdm_report_row *row = &r->rows[order[i]];
            const double value = row->values[r->series[s].column];
            if (i % step && !is_bad(row)) continue;
            if (!isnan(value) || is_bad(row)) put_point(out, row, value, x_of(i, count), y_of(scale, value), radius);
        }
    }
}

static void put_legend(struct fdm_text *out, const struct fdm_report *r) {
    int x = LEFT + 150;
    if (r->series_count < 2) return;
    for (int s = 0; s < r->series_count; s++) {
        fdm_text_printf(out, "<path class=\"line s%d%s\" d=\"M%d %dh300\"/><text x=\"%d\" y=\"%d\">", s,
                        r->series[s].dashed ? " dashed" : "", x, TOP - 90, x + 350, TOP - 45);
        fdm_report_escape(out, r->series[s].label);
        fdm_text_printf(out, "</text>\n");
        x += 650 + 65 * (int)strlen(r->series[s].label);
    }
}

/* A line at the first bad tensor, with its name. */
static void put_first_bad(struct fdm_text *out, const struct fdm_report *r, const size_t *order, size_t count) {
    for (size_t i = 0; r->first_bad && i < count; i++) {
        if (strcmp(r->rows[order[i]].name, r->first_bad) != 0) continue;
        const int x = x_of(i, count);
        const bool left = x < (LEFT + WIDTH) / 2;
        fdm_text_printf(out, "<path class=\"first\" d=\"M%d %dV%d\"/><text class=\"first\" x=\"%d\" y=\"%d\" text-anchor=\"%s\">first: ",
                        x, TOP - 40, HEIGHT - 300, left ? x + 60 : x - 60, HEIGHT - 220, left ? "start" : "end");
        fdm_report_escape(out, r->first_bad);
        fdm_text_printf(out, "</text>\n");
        return;
    }
}

void fdm_report_profile_svg(struct fdm_text *out, const struct fdm_report *r, const size_t *order) {
    size_t count = 0;
    bool exact = false, beyond = false;
    for (size_t i = 0; i < r->row_count; i++) {
        const struct fdm_report_row *row = &r->rows[i];
        if (row->order < 0) continue;
        count++;
        for (int s = 0; s < r->series_count; s++) {
            const double x = row->values[r->series[s].column];
            exact = exact || x == 0;
            beyond = beyond || isinf(x) || (isnan(x) && is_bad(row));
        }
    }
    const struct scale scale = find_scale(r);
    fdm_text_printf(out, "<svg class=\"profile\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"error profile\">\n", WIDTH, HEIGHT);
    put_axes(out, r, scale, exact, beyond);
    put_legend(out, r);
    put_first_bad(out, r, order, count);
    for (int s = 0; s < r->series_count; s++) put_line(out, r, order, count, s, scale);
    put_points(out, r, order, count, scale);
    fdm_text_printf(out, "</svg>\n");
}

/* ---- Heat map ---------------------------------------------------------------------------------------------- */

enum { LEVELS = 24, DECADES = 4 };

/* From pale yellow by orange and red to dark red. */
static void color_of(char out[8], int level) {
    static const int stops[5][3] = {{255, 247, 214}, {254, 204, 92}, {253, 141, 60}, {215, 38, 30}, {100, 0, 40}};
    const double t = 4.0 * level / (LEVELS - 1);
    const int k = fdm_min_int((int)t, 3);
    int c[3];
    for (int i = 0; i < 3; i++) c[i] = (int)(stops[k][i] + (t - k) * (stops[k + 1][i] - stops[k][i]) + 0.5);
    snprintf(out, 8, "#%02x%02x%02x", (unsigned)c[0] & 255, (unsigned)c[1] & 255, (unsigned)c[2] & 255);
}

/* -1: no error; LEVELS: infinite. */
static int level_of(double cell, double most) {
    if (!isfinite(cell)) return LEVELS;
    if (!(cell > 0)) return -1;
    const double t = 1 + log10(cell / most) / DECADES;
    return (int)(fmin(fmax(t, 0), 1) * (LEVELS - 1) + 0.5);
}

static void put_legend_of_map(struct fdm_text *out, double most, bool infinite) {
    char color[8], low[32], high[32];
    fdm_report_number(low, most / pow(10, DECADES), false);
    fdm_report_number(high, most, false);
    fdm_text_printf(out, "<p class=\"legend\">&#8804; %s <svg viewBox=\"0 0 %d 1\" preserveAspectRatio=\"none\">", low, LEVELS);
    for (int l = 0; l < LEVELS; l++) {
        color_of(color, l);
        fdm_text_printf(out, "<path fill=\"%s\" d=\"M%d 0h1v1h-1z\"/>", color, l);
    }
    fdm_text_printf(out, "</svg> %s%s</p>\n", high,
                    infinite ? " <svg viewBox=\"0 0 1 1\" class=\"box\"><path fill=\"#0a6\" d=\"M0 0h1v1h-1z\"/></svg> NaN or infinite" : "");
}

void fdm_report_heat_map_svg(struct fdm_text *out, const fdm_heat_map *map) {
    double most = 0;
    bool infinite = false;
    char color[8];
    for (int c = 0; c < map->rows * map->cols; c++) {
        if (isfinite(map->cells[c])) most = fmax(most, map->cells[c]);
        else infinite = true;
    }
    const int pixels = fdm_max_int(fdm_min_int(fdm_min_int(448 / map->cols, 320 / map->rows), 32), 4);
    fdm_text_printf(out, "<figure><svg class=\"map\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" shape-rendering=\"crispEdges\">\n",
                    map->cols, map->rows, map->cols * pixels, map->rows * pixels);
    for (int l = 0; l <= LEVELS; l++) { /* one path a colour keeps the page small */
        bool any = false;
        if (l < LEVELS) color_of(color, l);
        for (int c = 0; c < map->rows * map->cols; c++) {
            if (level_of(map->cells[c], most) != l) continue;
            if (!any) fdm_text_printf(out, "<path fill=\"%s\" d=\"", l < LEVELS ? color : "#0a6");
            fdm_text_printf(out, "M%d %dh1v1h-1z", c % map->cols, c / map->cols);
            any = true;
        }
        if (any) fdm_text_printf(out, "\"/>\n");
    }
    fdm_text_printf(out, "</svg><figcaption>");
    fdm_report_escape(out, map->title);
    fdm_text_printf(out, " (%" PRId64 " &#215; %" PRId64 ")</figcaption>\n", map->row_count, map->col_count);
    put_legend_of_map(out, most, infinite);
    fdm_text_printf(out, "</figure>\n");
}

/* ---- ULP histogram ----------------------------------------------------------------------------------------- */

static void put_label(struct fdm_text *out, int x, int y, const char *format, ...) FDM_PRINTF(4, 5);
static void put_label(struct fdm_text *out, int x, int y, const char *format, ...) {
    char text[40];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fdm_text_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>", x, y, text);
}

void fdm_report_ulp_svg(struct fdm_text *out, const fdm_pair_stats *s) {
    enum { BAR = 440, TALL = 1100, LABEL = 230, HEAD = 130 };
    int low = FDM_ULP_BUCKETS, high = -1;
    int64_t most = 0;
    for (int k = 0; k < FDM_ULP_BUCKETS; k++) {
        if (!s->ulp_histogram[k]) continue;
        low = fdm_min_int(low, k);
        high = k;
        if (s->ulp_histogram[k] > most) most = s->ulp_histogram[k];
    }
    if (high < 0) return;
    const int bars = high - low + 1;
    fdm_text_printf(out, "<figure><svg class=\"ulps\" viewBox=\"0 0 %d %d\" width=\"%d\">\n", bars * BAR, HEAD + TALL + LABEL,
                    bars * BAR / 10);
    for (int k = low; k <= high; k++) {
        const int64_t n = s->ulp_histogram[k];
        const int tall = n ? fdm_max_int((int)((double)n / (double)most * TALL), 15) : 0, x = (k - low) * BAR;
        char share[32];
        snprintf(share, sizeof share, "%d", (int)(100 * (double)n / (double)s->measured + 0.5));
        fdm_text_printf(out, "<path class=\"bar\" d=\"M%d %dh%dv%dh-%dz\"><title>%" PRId64 "</title></path>", x + 30,
                        HEAD + TALL - tall, BAR - 60, tall, BAR - 60, n);
        if ((double)n >= 0.005 * (double)s->measured) put_label(out, x + BAR / 2, HEAD + TALL - tall - 30, "%s%%", share);
        if (k < 3) put_label(out, x + BAR / 2, HEAD + TALL + 130, "%d", k);
        else if (k < 11) put_label(out, x + BAR / 2, HEAD + TALL + 130, "&#8804;%d", 1 << (k - 1));
        else if (k % 2 || bars < 4) put_label(out, x + BAR / 2, HEAD + TALL + 130, "&#8804;2^%d", k - 1);
    }
    fdm_text_printf(out, "</svg><figcaption>elements by distance in ULPs of %s</figcaption></figure>\n", fdm_dtype_name(s->ulp_dtype));
}
