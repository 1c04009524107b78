/* figure.h - a figure as data: panels of curves, bands, points and pictures.  It can be drawn (figure_draw.c, where cairo
 * was there at build time) or printed as numbers.
 *
 *     struct fdm_figure *f = fdm_figure_new("Damping", 1, 1);
 *     struct fdm_panel *p = fdm_figure_panel(f, 0, "", "τ", "mean");
 *     double *x = fdm_figure_range(f, 0, 10, 100, false);
 *     struct fdm_series *s = fdm_panel_add(f, p, FDM_SERIES_LINE, "ζ = 1", 2, x, 100);
 *     for (int i = 0; s && i < 100; i++) s->y[i] = fdm_critical_mean(x[i]);
 *
 * Everything belongs to the figure.  A failed allocation makes the figure `failed` and returns NULL; who fills series stops
 * there, and fdm_figure_draw and _print report it.
 */
#ifndef FDM_CLI_FIGURE_H
#define FDM_CLI_FIGURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "fdm/status.h"

enum { FDM_FIGURE_PANELS = 64, FDM_PANEL_SERIES = 64, FDM_FIGURE_COLORS = 8 };

enum fdm_series_kind {
    FDM_SERIES_LINE,
    FDM_SERIES_DASHED,
    FDM_SERIES_FAINT,  /* a thin line, without a place in the legend */
    FDM_SERIES_BAND,   /* between low and high */
    FDM_SERIES_POINTS, /* joined markers; with low and high: error bars */
    FDM_SERIES_DOTS,   /* a cloud of small dots */
    FDM_SERIES_BARS,   /* a histogram: x the middles of bins of one width, y the heights */
    FDM_SERIES_ARROWS, /* from (x, y) to (low, high) */
    FDM_SERIES_CLOSED, /* a thin closed curve (contour lines, ellipses) */
    FDM_SERIES_TEXT,   /* the name, once, at (x[0], y[0]) */
};

struct fdm_series {
    enum fdm_series_kind kind;
    char name[64]; /* in the legend; "" leaves it out */
    int color;     /* 0..FDM_FIGURE_COLORS-1; negative: gray */
    size_t n;
    double *x, *y, *low, *high; /* (n) each; low and high may be NULL */
};

struct fdm_panel {
    char title[96], xlabel[64], ylabel[64];
    bool xlog, ylog, square, bare; /* square: same scale both ways; bare: no axes */
    double xmin, xmax, ymin, ymax; /* NaN: from the data */
    bool legend;
    int legend_corner; /* 0 upper right, 1 upper left, 2 lower left, 3 lower right */
    struct fdm_series series[FDM_PANEL_SERIES];
    int count;
    uint8_t *pixels; /* a picture instead: (height, width, 3) */
    int width, height;
};

struct fdm_figure {
    char title[160];
    int rows, columns;
    double panel_width, panel_height; /* points */
    double zoom;                      /* pixels per point in PNG files */
    struct fdm_panel panels[FDM_FIGURE_PANELS]; /* rows * columns of them are used */
    void **owned; /* what to free */
    size_t owned_count;
    bool failed; /* an allocation was; sticks */
};

/* NULL if out of memory. */
struct fdm_figure *fdm_figure_new(const char *title, int rows, int columns);
void fdm_figure_free(struct fdm_figure *figure);

/* Panel number i, row by row, with its texts set. */
struct fdm_panel *fdm_figure_panel(struct fdm_figure *figure, int i, const char *title, const char *xlabel,
                                   const char *ylabel);
/* n zeros that live as long as the figure; NULL (and the figure failed) if there is no memory. */
double *fdm_figure_numbers(struct fdm_figure *figure, size_t n);
/* n pixels of 3 bytes, likewise. */
uint8_t *fdm_figure_pixels(struct fdm_figure *figure, size_t n);
/* n numbers from `from` to `to`, even, or even in the logarithm. */
double *fdm_figure_range(struct fdm_figure *figure, double from, double to, size_t n, bool logarithmic);
/* A new series over x (n), which is shared, not copied; its y is n zeros.  NULL after a failure or if the panel is full. */
struct fdm_series *fdm_panel_add(struct fdm_figure *figure, struct fdm_panel *panel, enum fdm_series_kind kind,
                                 const char *name, int color, double *x, size_t n);
/* The same with low and high. */
struct fdm_series *fdm_panel_add_range(struct fdm_figure *figure, struct fdm_panel *panel, enum fdm_series_kind kind,
                                       const char *name, int color, double *x, size_t n);

/* All series as CSV (panel,series,x,y,low,high) or JSON on stdout; pictures are left out.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_figure_print(const struct fdm_figure *figure, bool json, fdm_error *err);
/* Writes FILE.svg or FILE.png.  Errors: FDM_BAD_USAGE (another ending), FDM_NO_RESOURCE (not writable, or this build has
 * no cairo). */
fdm_status fdm_figure_draw(const struct fdm_figure *figure, const char *path, fdm_error *err);
/* Checks the same without drawing. */
fdm_status fdm_figure_can_draw(const char *path, fdm_error *err);

#endif
