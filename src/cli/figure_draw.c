/* figure_draw.c - figures as SVG and PNG, with cairo where the build found it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/figure.h"
#include "io/atomic_file.h"

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static fdm_status check_name(const char *path, fdm_error *err) {
    if (ends_with(path, ".svg") || ends_with(path, ".png")) return FDM_OK;
    return fdm_fail(err, FDM_BAD_USAGE, "--plot %s: the name must end in .svg or .png", path);
}

#ifndef FDM_HAVE_CAIRO

fdm_status fdm_figure_can_draw(const char *path, fdm_error *err) {
    const fdm_status status = check_name(path, err);
    if (status != FDM_OK) return status;
    return fdm_fail(err, FDM_NO_RESOURCE,
                    "--plot %s: this build draws nothing, because cairo was missing (on Debian or Ubuntu: apt install "
                    "libcairo2-dev, then build again); without --plot the figure's numbers are printed",
                    path);
}

fdm_status fdm_figure_draw(const struct fdm_figure *figure, const char *path, fdm_error *err) {
    (void)figure;
    return fdm_figure_can_draw(path, err);
}

#else

#include <cairo-svg.h>
#include <cairo.h>

enum { MARGIN_LEFT = 48, MARGIN_RIGHT = 12, MARGIN_TOP = 24, MARGIN_BOTTOM = 38, TITLE = 26, MAX_TICKS = 32 };
static const double small_text = 9.5, label_text = 10.5, title_text = 11.5;

/* Told apart by brightness, too. */
static const double palette[FDM_FIGURE_COLORS][3] = {{0.11, 0.36, 0.56}, {0.83, 0.37, 0.17}, {0.18, 0.53, 0.34}, {0.50, 0.33, 0.63},
                                                     {0.82, 0.62, 0.13}, {0.15, 0.62, 0.65}, {0.74, 0.27, 0.46}, {0.20, 0.20, 0.20}};

/* Where a panel's data lies on the page. */
struct view {
    cairo_t *cr;
    const struct fdm_panel *p;
    double left, top, width, height;
    double xmin, xmax, ymin, ymax; /* of the data, or of its logarithm */
};

static void set_color(cairo_t *cr, int color, double alpha) {
    if (color < 0)
        cairo_set_source_rgba(cr, 0.55, 0.55, 0.55, alpha);
    else
        cairo_set_source_rgba(cr, palette[color % FDM_FIGURE_COLORS][0], palette[color % FDM_FIGURE_COLORS][1],
                              palette[color % FDM_FIGURE_COLORS][2], alpha);
}

static double across(const struct view *v, double x) {
    return v->left + v->width * ((v->p->xlog ? log10(x) : x) - v->xmin) / (v->xmax - v->xmin);
}
static double down(const struct view *v, double y) {
    return v->top + v->height * (v->ymax - (v->p->ylog ? log10(y) : y)) / (v->ymax - v->ymin);
}

/* ---- Ranges ------------------------------------------------------------------------------------------------ */

static void widen(double *low, double *high, const double *values, size_t n, bool logarithmic) {
    for (size_t i = 0; values && i < n; i++) {
        const double x = logarithmic ? log10(values[i]) : values[i];
        if (!isfinite(x)) continue;
        *low = fmin(*low, x), *high = fmax(*high, x);
    }
}

/* Given limits stand; the others come from the data with some air. */
static void settle(double *low, double *high, double given_low, double given_high, bool logarithmic) {
    if (!(*low <= *high)) *low = 0, *high = 1;
    const double air = 0.04 * (*high > *low ? *high - *low : 1);
    *low = isnan(given_low) ? *low - air : logarithmic ? log10(given_low) : given_low;
    *high = isnan(given_high) ? *high + air : logarithmic ? log10(given_high) : given_high;
}

static void find_ranges(struct view *v) {
    const struct fdm_panel *p = v->p;
    v->xmin = v->ymin = INFINITY, v->xmax = v->ymax = -INFINITY;
    for (int k = 0; k < p->count; k++) {
        const struct fdm_series *s = &p->series[k];
        const bool arrows = s->kind == FDM_SERIES_ARROWS;
        widen(&v->xmin, &v->xmax, s->x, s->n, p->xlog);
        if (s->kind != FDM_SERIES_BAND) widen(&v->ymin, &v->ymax, s->y, s->n, p->ylog);
        widen(arrows ? &v->xmin : &v->ymin, arrows ? &v->xmax : &v->ymax, s->low, s->n, p->ylog);
        widen(&v->ymin, &v->ymax, s->high, s->n, p->ylog);
        if (s->kind == FDM_SERIES_BARS) v->ymin = fmin(v->ymin, 0);
    }
    settle(&v->xmin, &v->xmax, p->xmin, p->xmax, p->xlog);
    settle(&v->ymin, &v->ymax, p->ymin, p->ymax, p->ylog);
    if (p->square) { /* the same length for a unit both ways */
        const double per_x = v->width / (v->xmax - v->xmin), per_y = v->height / (v->ymax - v->ymin);
        double *low = per_x > per_y ? &v->xmin : &v->ymin, *high = per_x > per_y ? &v->xmax : &v->ymax;
        const double grow = (*high - *low) * (fmax(per_x, per_y) / fmin(per_x, per_y) - 1) / 2;
        *low -= grow, *high += grow;
    }
}

/* ---- Text -------------------------------------------------------------------------------------------------- */

/* align: 0 left, 0.5 middle, 1 right of the text at x. */
static void put_text(cairo_t *cr, double x, double y, double align, double size, const char *text) {
    cairo_text_extents_t box;
    cairo_set_font_size(cr, size);
    cairo_text_extents(cr, text, &box);
    cairo_move_to(cr, x - align * box.x_advance, y);
    cairo_show_text(cr, text);
}

static void set_font(cairo_t *cr, bool bold) {
    cairo_select_font_face(cr, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL, bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
}

/* 10 to an integer power, with a raised exponent. */
static void power_label(char *out, size_t size, int exponent) {
    static const char *const digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    char plain[16];
    if (exponent == 0 || exponent == 1 || exponent == 2) {
        snprintf(out, size, "%d", exponent == 0 ? 1 : exponent == 1 ? 10 : 100);
        return;
    }
    snprintf(plain, sizeof plain, "%d", abs(exponent));
    snprintf(out, size, "10%s", exponent < 0 ? "⁻" : "");
    for (const char *c = plain; *c; c++) strncat(out, digits[*c - '0'], size - strlen(out) - 1);
}

/* ---- Axes -------------------------------------------------------------------------------------------------- */

struct ticks {
    double at[MAX_TICKS]; /* in data (or logarithms) */
    char label[MAX_TICKS][24];
    int count;
};

/* A step of 1, 2 or 5 times a power of ten that gives about `wanted` ticks. */
static double nice_step(double range, int wanted) {
    const double raw = range / wanted, unit = pow(10, floor(log10(raw))), lead = raw / unit;
    return unit * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

static void find_ticks(struct ticks *t, double low, double high, bool logarithmic, int wanted) {
    t->count = 0;
    const double step = logarithmic ? fmax(1, ceil((high - low) / wanted)) : nice_step(high - low, wanted);
    for (double k = ceil(low / step - 1e-9); k * step <= high + 1e-9 * step && t->count < MAX_TICKS; k++) {
        t->at[t->count] = k * step;
        if (logarithmic)
            power_label(t->label[t->count], sizeof t->label[0], (int)lround(k * step));
        else
            snprintf(t->label[t->count], sizeof t->label[0], "%s%.6g", k < 0 ? "−" : "", fabs(k * step));
        t->count++;
    }
}

static void draw_grid(const struct view *v, const struct ticks *x, const struct ticks *y) {
    cairo_t *cr = v->cr;
    cairo_set_line_width(cr, 0.5);
    cairo_set_source_rgb(cr, 0.90, 0.90, 0.90);
    for (int i = 0; i < x->count; i++) {
        const double at = v->left + v->width * (x->at[i] - v->xmin) / (v->xmax - v->xmin);
        cairo_move_to(cr, at, v->top);
        cairo_line_to(cr, at, v->top + v->height);
    }
    for (int i = 0; i < y->count; i++) {
        const double at = v->top + v->height * (v->ymax - y->at[i]) / (v->ymax - v->ymin);
        cairo_move_to(cr, v->left, at);
        cairo_line_to(cr, v->left + v->width, at);
    }
    cairo_stroke(cr);
}

static void draw_labels(const struct view *v, const struct ticks *x, const struct ticks *y) {
    cairo_t *cr = v->cr;
    const double bottom = v->top + v->height;
    cairo_set_source_rgb(cr, 0.25, 0.25, 0.25);
    set_font(cr, false);
    for (int i = 0; i < x->count; i++)
        put_text(cr, v->left + v->width * (x->at[i] - v->xmin) / (v->xmax - v->xmin), bottom + 13, 0.5, small_text, x->label[i]);
    for (int i = 0; i < y->count; i++)
        put_text(cr, v->left - 5, v->top + v->height * (v->ymax - y->at[i]) / (v->ymax - v->ymin) + 3.3, 1, small_text, y->label[i]);
    put_text(cr, v->left + v->width / 2, bottom + 28, 0.5, label_text, v->p->xlabel);
    cairo_save(cr);
    cairo_translate(cr, v->left - 36, v->top + v->height / 2);
    cairo_rotate(cr, -M_PI / 2);
    put_text(cr, 0, 0, 0.5, label_text, v->p->ylabel);
    cairo_restore(cr);
}

static void draw_frame(const struct view *v) {
    cairo_set_source_rgb(v->cr, 0.35, 0.35, 0.35);
    cairo_set_line_width(v->cr, 0.8);
    cairo_move_to(v->cr, v->left, v->top);
    cairo_line_to(v->cr, v->left, v->top + v->height);
    cairo_line_to(v->cr, v->left + v->width, v->top + v->height);
    cairo_stroke(v->cr);
}

/* ---- Series ------------------------------------------------------------------------------------------------ */

static void trace(const struct view *v, const struct fdm_series *s) {
    bool pen_down = false;
    for (size_t i = 0; i < s->n; i++) {
        const double x = across(v, s->x[i]), y = down(v, s->y[i]);
        if (!isfinite(x) || !isfinite(y)) {
            pen_down = false;
            continue;
        }
        if (pen_down)
            cairo_line_to(v->cr, x, y);
        else
            cairo_move_to(v->cr, x, y);
        pen_down = true;
    }
}

static void draw_line(const struct view *v, const struct fdm_series *s) {
    static const double dash[] = {4, 3};
    const bool faint = s->kind == FDM_SERIES_FAINT, closed = s->kind == FDM_SERIES_CLOSED;
    set_color(v->cr, s->color, faint ? 0.35 : closed ? 0.8 : 1);
    cairo_set_line_width(v->cr, faint || closed ? 0.8 : 1.5);
    if (s->kind == FDM_SERIES_DASHED) cairo_set_dash(v->cr, dash, 2, 0);
    trace(v, s);
    if (closed) cairo_close_path(v->cr);
    cairo_stroke(v->cr);
    cairo_set_dash(v->cr, NULL, 0, 0);
}

static void draw_band(const struct view *v, const struct fdm_series *s) {
    for (size_t i = 0; i < s->n; i++) cairo_line_to(v->cr, across(v, s->x[i]), down(v, s->high[i]));
    for (size_t i = s->n; i-- > 0;) cairo_line_to(v->cr, across(v, s->x[i]), down(v, s->low[i]));
    cairo_close_path(v->cr);
    set_color(v->cr, s->color, 0.18);
    cairo_fill(v->cr);
}

static void draw_points(const struct view *v, const struct fdm_series *s) {
    set_color(v->cr, s->color, 1);
    cairo_set_line_width(v->cr, 1.3);
    trace(v, s);
    cairo_stroke(v->cr);
    for (size_t i = 0; i < s->n; i++) {
        const double x = across(v, s->x[i]), y = down(v, s->y[i]);
        if (!isfinite(x) || !isfinite(y)) continue;
        cairo_new_sub_path(v->cr);
        cairo_arc(v->cr, x, y, 2.4, 0, 2 * M_PI);
    }
    cairo_fill(v->cr);
    for (size_t i = 0; s->low && i < s->n; i++) {
        const double x = across(v, s->x[i]);
        if (!isfinite(down(v, s->low[i]))) continue;
        cairo_move_to(v->cr, x, down(v, s->low[i]));
        cairo_line_to(v->cr, x, down(v, s->high[i]));
    }
    cairo_stroke(v->cr);
}

static void draw_dots(const struct view *v, const struct fdm_series *s) {
    const double side = 1.34; /* points; two pixels where a point has one and a half, so that PNG files stay small */
    set_color(v->cr, s->color, 1);
    cairo_set_antialias(v->cr, CAIRO_ANTIALIAS_NONE);
    for (size_t i = 0; i < s->n; i++)
        cairo_rectangle(v->cr, across(v, s->x[i]) - side / 2, down(v, s->y[i]) - side / 2, side, side);
    cairo_fill(v->cr);
    cairo_set_antialias(v->cr, CAIRO_ANTIALIAS_DEFAULT);
}

static void draw_bars(const struct view *v, const struct fdm_series *s) {
    const double half = s->n > 1 ? 0.5 * (s->x[1] - s->x[0]) : 0.5, base = down(v, 0);
    set_color(v->cr, s->color, 0.45);
    for (size_t i = 0; i < s->n; i++) {
        const double left = across(v, s->x[i] - half), right = across(v, s->x[i] + half), top = down(v, s->y[i]);
        cairo_rectangle(v->cr, left, top, right - left, base - top);
    }
    cairo_fill(v->cr);
}

/* All shafts, then all heads: two paths keep an SVG small. */
static void draw_arrows(const struct view *v, const struct fdm_series *s) {
    set_color(v->cr, s->color, 0.75);
    cairo_set_line_width(v->cr, 0.7);
    for (size_t i = 0; i < s->n; i++) {
        cairo_move_to(v->cr, across(v, s->x[i]), down(v, s->y[i]));
        cairo_line_to(v->cr, across(v, s->low[i]), down(v, s->high[i]));
    }
    cairo_stroke(v->cr);
    for (size_t i = 0; i < s->n; i++) {
        const double tx = across(v, s->low[i]), ty = down(v, s->high[i]), head = 3;
        const double angle = atan2(ty - down(v, s->y[i]), tx - across(v, s->x[i]));
        cairo_move_to(v->cr, tx, ty);
        cairo_line_to(v->cr, tx - head * cos(angle - 0.45), ty - head * sin(angle - 0.45));
        cairo_line_to(v->cr, tx - head * cos(angle + 0.45), ty - head * sin(angle + 0.45));
        cairo_close_path(v->cr);
    }
    cairo_fill(v->cr);
}

static void draw_series(const struct view *v, const struct fdm_series *s) {
    switch (s->kind) {
    case FDM_SERIES_BAND:
        draw_band(v, s);
        break;
    case FDM_SERIES_POINTS:
        draw_points(v, s);
        break;
    case FDM_SERIES_DOTS:
        draw_dots(v, s);
        break;
    case FDM_SERIES_BARS:
        draw_bars(v, s);
        break;
    case FDM_SERIES_ARROWS:
        draw_arrows(v, s);
        break;
    case FDM_SERIES_TEXT:
        set_color(v->cr, s->color, 1);
        put_text(v->cr, across(v, s->x[0]), down(v, s->y[0]), 0, small_text, s->name);
        break;
    default:
        draw_line(v, s);
    }
}

/* ---- Legend ------------------------------------------------------------------------------------------------ */

static bool in_legend(const struct fdm_series *s) {
    return s->name[0] && s->kind != FDM_SERIES_TEXT && s->kind != FDM_SERIES_FAINT && s->kind != FDM_SERIES_CLOSED;
}

static void draw_sample(const struct view *v, const struct fdm_series *s, double x, double y) {
    static const double dash[] = {4, 3};
    const bool area = s->kind == FDM_SERIES_BAND || s->kind == FDM_SERIES_BARS;
    set_color(v->cr, s->color, area ? 0.35 : 1);
    if (area) {
        cairo_rectangle(v->cr, x, y - 6, 18, 6);
        cairo_fill(v->cr);
        return;
    }
    if (s->kind == FDM_SERIES_POINTS || s->kind == FDM_SERIES_DOTS) {
        cairo_arc(v->cr, x + 9, y - 3.2, s->kind == FDM_SERIES_DOTS ? 1.5 : 2.4, 0, 2 * M_PI);
        cairo_fill(v->cr);
        if (s->kind == FDM_SERIES_DOTS) return;
    }
    cairo_set_line_width(v->cr, s->kind == FDM_SERIES_POINTS ? 1.3 : 1.7);
    if (s->kind == FDM_SERIES_DASHED) cairo_set_dash(v->cr, dash, 2, 0);
    cairo_move_to(v->cr, x, y - 3.2);
    cairo_line_to(v->cr, x + 18, y - 3.2);
    cairo_stroke(v->cr);
    cairo_set_dash(v->cr, NULL, 0, 0);
}

static void draw_legend(const struct view *v) {
    const double line = 13.5;
    double widest = 0;
    int entries = 0;
    cairo_text_extents_t box;
    set_font(v->cr, false);
    cairo_set_font_size(v->cr, small_text);
    for (int k = 0; k < v->p->count; k++) {
        if (!in_legend(&v->p->series[k])) continue;
        cairo_text_extents(v->cr, v->p->series[k].name, &box);
        widest = fmax(widest, box.x_advance), entries++;
    }
    if (!entries) return;
    const double width = widest + 34, height = entries * line + 6;
    const int corner = v->p->legend_corner;
    const double x = corner == 0 || corner == 3 ? v->left + v->width - width - 4 : v->left + 6;
    const double y = corner < 2 ? v->top + 4 : v->top + v->height - height - 6;
    cairo_set_source_rgba(v->cr, 1, 1, 1, 0.85);
    cairo_rectangle(v->cr, x, y, width, height);
    cairo_fill(v->cr);
    double at = y + 12;
    for (int k = 0; k < v->p->count; k++) {
        if (!in_legend(&v->p->series[k])) continue;
        draw_sample(v, &v->p->series[k], x + 5, at);
        cairo_set_source_rgb(v->cr, 0.15, 0.15, 0.15);
        put_text(v->cr, x + 28, at, 0, small_text, v->p->series[k].name);
        at += line;
    }
}

/* ---- Panels ------------------------------------------------------------------------------------------------ */

static void draw_picture(const struct view *v) {
    const struct fdm_panel *p = v->p;
    cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, p->width, p->height);
    if (cairo_surface_status(image) == CAIRO_STATUS_SUCCESS) {
        uint8_t *data = cairo_image_surface_get_data(image);
        const int stride = cairo_image_surface_get_stride(image);
        for (int y = 0; y < p->height; y++) {
            for (int x = 0; x < p->width; x++) {
                const uint8_t *c = p->pixels + 3 * ((size_t)y * (size_t)p->width + (size_t)x);
                const uint32_t word = (uint32_t)c[0] << 16 | (uint32_t)c[1] << 8 | c[2];
                memcpy(data + (ptrdiff_t)y * stride + (ptrdiff_t)x * 4, &word, sizeof word);
            }
        }
        cairo_surface_mark_dirty(image);
        cairo_save(v->cr);
        cairo_translate(v->cr, v->left, v->top);
        cairo_scale(v->cr, v->width / p->width, v->height / p->height);
        cairo_set_source_surface(v->cr, image, 0, 0);
        cairo_pattern_set_filter(cairo_get_source(v->cr), CAIRO_FILTER_NEAREST);
        cairo_paint(v->cr);
        cairo_restore(v->cr);
    }
    cairo_surface_destroy(image);
}

static void draw_panel(struct view *v) {
    const struct fdm_panel *p = v->p;
    struct ticks x, y;
    find_ranges(v);
    if (!p->bare) {
        find_ticks(&x, v->xmin, v->xmax, p->xlog, (int)(v->width / 50));
        find_ticks(&y, v->ymin, v->ymax, p->ylog, (int)(v->height / 34));
        draw_grid(v, &x, &y);
    }
    cairo_save(v->cr);
    cairo_rectangle(v->cr, v->left, v->top - 1, v->width + 1, v->height + 1);
    cairo_clip(v->cr);
    cairo_set_line_join(v->cr, CAIRO_LINE_JOIN_ROUND);
    set_font(v->cr, false);
    for (int k = 0; k < p->count; k++) draw_series(v, &p->series[k]);
    cairo_restore(v->cr);
    if (!p->bare) {
        draw_frame(v);
        draw_labels(v, &x, &y);
    }
    if (p->legend) draw_legend(v);
}

/* Bare panels and pictures stand close together, labelled at the edges of the figure. */
static bool is_tight(const struct fdm_figure *f) { return f->panels[0].bare || f->panels[0].pixels; }

static void draw_all(cairo_t *cr, const struct fdm_figure *f, double title) {
    const bool tight = is_tight(f);
    const double top = tight ? 18 : MARGIN_TOP, left = tight ? 78 : MARGIN_LEFT;
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_paint(cr);
    cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
    set_font(cr, true);
    put_text(cr, 10, 18, 0, title_text + 0.5, f->title);
    for (int i = 0; i < f->rows * f->columns; i++) {
        const int row = i / f->columns, column = i % f->columns;
        struct view v = {.cr = cr, .p = &f->panels[i]};
        if (tight) {
            v.left = left + column * (f->panel_width + 3), v.top = title + top + row * (f->panel_height + 3);
            v.width = f->panel_width, v.height = f->panel_height;
        } else {
            v.left = column * f->panel_width + left, v.top = title + row * f->panel_height + top;
            v.width = f->panel_width - MARGIN_LEFT - MARGIN_RIGHT, v.height = f->panel_height - MARGIN_TOP - MARGIN_BOTTOM;
        }
        if (v.p->pixels)
            draw_picture(&v);
        else
            draw_panel(&v);
        cairo_set_source_rgb(cr, 0.15, 0.15, 0.15);
        set_font(cr, !tight);
        put_text(cr, v.left + (tight ? v.width / 2 : 0), v.top - 7 + (tight ? 2 : 0), tight ? 0.5 : 0, tight ? small_text : label_text,
                 v.p->title);
        set_font(cr, false);
        if (tight) put_text(cr, left - 8, v.top + v.height / 2 + 4, 1, label_text, column == 0 ? v.p->ylabel : "");
    }
}

/* ---- Files ------------------------------------------------------------------------------------------------- */

struct buffer {
    unsigned char *bytes;
    size_t size, room;
};

static cairo_status_t append(void *user, const unsigned char *bytes, unsigned int n) {
    struct buffer *b = user;
    if (b->size + n > b->room) {
        const size_t room = 2 * (b->size + n);
        unsigned char *more = realloc(b->bytes, room);
        if (!more) return CAIRO_STATUS_NO_MEMORY;
        b->bytes = more, b->room = room;
    }
    memcpy(b->bytes + b->size, bytes, n);
    b->size += n;
    return CAIRO_STATUS_SUCCESS;
}

/* The page in memory. */
static cairo_status_t render(struct buffer *out, const struct fdm_figure *f, bool svg) {
    const bool tight = is_tight(f);
    const double title = f->title[0] ? TITLE : 0;
    const double width = tight ? 78 + f->columns * (f->panel_width + 3) + 8 : f->columns * f->panel_width + 8;
    const double height = title + (tight ? 18 + f->rows * (f->panel_height + 3) + 8 : f->rows * f->panel_height + 4);
    cairo_surface_t *surface =
        svg ? cairo_svg_surface_create_for_stream(append, out, width, height)
            : cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)ceil(width * f->zoom), (int)ceil(height * f->zoom));
    cairo_t *cr = cairo_create(surface);
    if (!svg) cairo_scale(cr, f->zoom, f->zoom);
    draw_all(cr, f, title);
    cairo_status_t status = cairo_status(cr);
    cairo_destroy(cr);
    if (status == CAIRO_STATUS_SUCCESS && !svg) status = cairo_surface_write_to_png_stream(surface, append, out);
    cairo_surface_finish(surface);
    if (status == CAIRO_STATUS_SUCCESS) status = cairo_surface_status(surface);
    cairo_surface_destroy(surface);
    return status;
}

fdm_status fdm_figure_can_draw(const char *path, fdm_error *err) { return check_name(path, err); }

fdm_status fdm_figure_draw(const struct fdm_figure *f, const char *path, fdm_error *err) {
    struct buffer out = {0};
    fdm_status status = check_name(path, err);
    if (status == FDM_OK && f->failed) status = fdm_fail_oom(err, "figure", 0);
    if (status == FDM_OK) {
        const cairo_status_t drawn = render(&out, f, ends_with(path, ".svg"));
        if (drawn != CAIRO_STATUS_SUCCESS)
            status = fdm_fail(err, FDM_NO_RESOURCE, "%s: cairo says: %s", path, cairo_status_to_string(drawn));
    }
    if (status == FDM_OK) status = fdm_atomic_write_file(path, out.bytes, out.size, err);
    free(out.bytes);
    return status;
}

#endif
