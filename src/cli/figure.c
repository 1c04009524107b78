/* figure.c - figures as data: building and printing them. */
#include "cli/figure.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

static void copy_text(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from); }

struct fdm_figure *fdm_figure_new(const char *title, int rows, int columns) {
    struct fdm_figure *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    copy_text(f->title, sizeof f->title, title);
    f->rows = rows, f->columns = columns;
    f->panel_width = 300, f->panel_height = 220, f->zoom = 2;
    for (size_t i = 0; i < FDM_ARRAY_LEN(f->panels); i++)
        f->panels[i].xmin = f->panels[i].xmax = f->panels[i].ymin = f->panels[i].ymax = NAN;
    return f;
}

void fdm_figure_free(struct fdm_figure *f) {
    if (!f) return;
    for (size_t i = 0; i < f->owned_count; i++) free(f->owned[i]);
    free(f->owned);
    free(f);
}

struct fdm_panel *fdm_figure_panel(struct fdm_figure *f, int i, const char *title, const char *xlabel, const char *ylabel) {
    struct fdm_panel *p = &f->panels[i];
    copy_text(p->title, sizeof p->title, title);
    copy_text(p->xlabel, sizeof p->xlabel, xlabel);
    copy_text(p->ylabel, sizeof p->ylabel, ylabel);
    return p;
}

/* n items of zeros, owned by the figure. */
static void *own(struct fdm_figure *f, size_t n, size_t size) {
    void **more = realloc(f->owned, (f->owned_count + 1) * sizeof *more);
    void *fresh = more ? calloc(n ? n : 1, size) : NULL;
    if (more) f->owned = more;
    if (!fresh) {
        f->failed = true;
        return NULL;
    }
    f->owned[f->owned_count++] = fresh;
    return fresh;
}

double *fdm_figure_numbers(struct fdm_figure *f, size_t n) { return own(f, n, sizeof(double)); }
uint8_t *fdm_figure_pixels(struct fdm_figure *f, size_t n) { return own(f, n, 3); }

double *fdm_figure_range(struct fdm_figure *f, double from, double to, size_t n, bool logarithmic) {
    double *x = fdm_figure_numbers(f, n);
    for (size_t i = 0; x && i < n; i++) {
        const double part = n > 1 ? (double)i / (double)(n - 1) : 0;
        x[i] = logarithmic ? from * pow(to / from, part) : from + part * (to - from);
    }
    return x;
}

struct fdm_series *fdm_panel_add(struct fdm_figure *f, struct fdm_panel *p, enum fdm_series_kind kind, const char *name,
                                 int color, double *x, size_t n) {
    double *y = x ? fdm_figure_numbers(f, n) : NULL;
    if (!y || p->count == FDM_PANEL_SERIES) {
        f->failed = true;
        return NULL;
    }
    struct fdm_series *s = &p->series[p->count++];
    *s = (struct fdm_series){.kind = kind, .color = color, .n = n, .x = x, .y = y};
    copy_text(s->name, sizeof s->name, name);
    return s;
}

struct fdm_series *fdm_panel_add_range(struct fdm_figure *f, struct fdm_panel *p, enum fdm_series_kind kind,
                                       const char *name, int color, double *x, size_t n) {
    double *low = fdm_figure_numbers(f, n), *high = fdm_figure_numbers(f, n);
    struct fdm_series *s = low && high ? fdm_panel_add(f, p, kind, name, color, x, n) : NULL;
    if (s) s->low = low, s->high = high;
    return s;
}

/* ---- Numbers ----------------------------------------------------------------------------------------------- */

static void print_csv(const struct fdm_figure *f) {
    puts("panel,series,x,y,low,high");
    for (int i = 0; i < f->rows * f->columns; i++) {
        for (int k = 0; k < f->panels[i].count; k++) {
            const struct fdm_series *s = &f->panels[i].series[k];
            for (size_t j = 0; j < s->n; j++) {
                printf("\"%s\",\"%s\",%.17g,%.17g,", f->panels[i].title, s->name, s->x[j], s->y[j]);
                if (s->low)
                    printf("%.17g,%.17g\n", s->low[j], s->high[j]);
                else
                    puts(",");
            }
        }
    }
}

static json_t *list(const double *numbers, size_t n) {
    json_t *array = json_array();
    for (size_t i = 0; numbers && i < n; i++)
        json_array_append_new(array, isfinite(numbers[i]) ? json_real(numbers[i]) : json_null());
    return array;
}

static json_t *panel_json(const struct fdm_panel *p) {
    json_t *all = json_array();
    for (int k = 0; k < p->count; k++) {
        const struct fdm_series *s = &p->series[k];
        json_t *one = json_pack("{s:s, s:o, s:o}", "name", s->name, "x", list(s->x, s->n), "y", list(s->y, s->n));
        if (one && s->low) {
            json_object_set_new(one, "low", list(s->low, s->n));
            json_object_set_new(one, "high", list(s->high, s->n));
        }
        json_array_append_new(all, one);
    }
    return json_pack("{s:s, s:s, s:s, s:o}", "title", p->title, "x", p->xlabel, "y", p->ylabel, "series", all);
}

static fdm_status print_json(const struct fdm_figure *f, fdm_error *err) {
    json_t *panels = json_array();
    for (int i = 0; i < f->rows * f->columns; i++) json_array_append_new(panels, panel_json(&f->panels[i]));
    json_t *root = json_pack("{s:s, s:o}", "title", f->title, "panels", panels);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    if (!text) return fdm_fail_oom(err, "JSON", 0);
    puts(text);
    free(text);
    return FDM_OK;
}

fdm_status fdm_figure_print(const struct fdm_figure *f, bool json, fdm_error *err) {
    if (f->failed) return fdm_fail_oom(err, "figure", 0);
    if (json) return print_json(f, err);
    print_csv(f);
    return FDM_OK;
}
