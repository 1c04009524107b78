/* image_sheet.c - measures the table, then pastes pictures and letters into it. */
#include "io/image_sheet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "io/lettering.h"

enum {
    MARGIN = 12,    /* around the whole */
    IMAGE_GAP = 2,  /* between the images of a cell */
    COLUMN_GAP = 10, ROW_GAP = 6,
    LABEL_GAP = 10, /* between the rows' labels and the cells */
    PAPER = 255
};

static const struct fdm_lettering title_letters = {11, 1.9, {20, 20, 20}}, label_letters = {9, 1.4, {40, 40, 40}},
                                  note_letters = {7.5, 1.15, {110, 110, 110}};

/* From one base line to the next; a base line lies `rise` below the top of its line. */
static int line_height(const struct fdm_lettering *how) { return (int)ceil(2 * how->capital); }
static int rise(const struct fdm_lettering *how) { return (int)ceil(1.35 * how->capital); }

/* All lengths in pixels, 64 bits wide: what a hostile size would overflow is found at the end. */
struct layout {
    int rows;
    int64_t *widths, *heights; /* (across), (rows) of the cells */
    int64_t label_width;       /* of the rows' labels, with their gap */
    int64_t left, top;         /* of the first cell */
    int64_t width, height;     /* of the sheet */
};

static int64_t text_width(const struct fdm_lettering *how, const struct fdm_sheet_lines *lines) {
    double width = 0;
    for (int i = 0; i < lines->count; i++) width = fmax(width, fdm_lettering_width(how, lines->items[i]));
    return (int64_t)ceil(width);
}

static int images_across(const struct fdm_sheet *s, const struct fdm_sheet_cell *cell) {
    int wide = s->wide;
    if (wide == 0)
        do wide++;
        while (wide < cell->count / wide + (cell->count % wide != 0));
    return fdm_min_int(wide, cell->count);
}

static int64_t extent(int count, int side, int scale) { return (int64_t)count * side * scale + (int64_t)(count - 1) * IMAGE_GAP; }

static int64_t cell_width(const struct fdm_sheet *s, const struct fdm_sheet_cell *cell) {
    return cell->count ? extent(images_across(s, cell), cell->images[0].width, s->scale) : 0;
}
static int64_t cell_height(const struct fdm_sheet *s, const struct fdm_sheet_cell *cell) {
    return cell->count ? extent(fdm_div_up(cell->count, images_across(s, cell)), cell->images[0].height, s->scale) : 0;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static void measure_cells(struct layout *l, const struct fdm_sheet *s) {
    for (int i = 0; i < s->columns.count; i++)
        l->widths[i] = (int64_t)ceil(fdm_lettering_width(&label_letters, s->columns.items[i]));
    for (int i = 0; i < s->count; i++) {
        int64_t *width = &l->widths[i % s->across], *height = &l->heights[i / s->across];
        *width = larger(*width, cell_width(s, &s->cells[i]));
        *height = larger(*height, cell_height(s, &s->cells[i]));
    }
    if (s->rows.count)
        for (int i = 0; i < l->rows; i++) l->heights[i] = larger(l->heights[i], line_height(&label_letters));
}

static void measure(struct layout *l, const struct fdm_sheet *s) {
    measure_cells(l, s);
    l->label_width = s->rows.count ? text_width(&label_letters, &s->rows) + LABEL_GAP : 0;
    l->left = MARGIN + l->label_width;
    l->top = MARGIN + (int64_t)s->title.count * line_height(&title_letters) + (s->columns.count ? line_height(&label_letters) : 0);
    l->width = l->left + (int64_t)(s->across - 1) * COLUMN_GAP;
    for (int i = 0; i < s->across; i++) l->width += l->widths[i];
    l->height = l->top + (int64_t)(l->rows - 1) * ROW_GAP;
    for (int i = 0; i < l->rows; i++) l->height += l->heights[i];
    l->width = larger(l->width, MARGIN + larger(text_width(&title_letters, &s->title), text_width(&note_letters, &s->note)));
    l->width += MARGIN;
    l->height += MARGIN + (int64_t)s->note.count * line_height(&note_letters);
}

/* ---- Drawing ----------------------------------------------------------------------------------------------- */

static void paste(fdm_image *out, int64_t x, int64_t y, const fdm_image *image, int scale) {
    for (int64_t row = 0; row < (int64_t)image->height * scale; row++) {
        const uint8_t *from = image->pixels + 3 * (size_t)(row / scale) * (size_t)image->width;
        uint8_t *to = out->pixels + 3 * ((size_t)(y + row) * (size_t)out->width + (size_t)x);
        for (int64_t column = 0; column < (int64_t)image->width * scale; column++, to += 3) memcpy(to, from + 3 * (column / scale), 3);
    }
}

static void draw_cell(fdm_image *out, int64_t x, int64_t y, const struct fdm_sheet *s, const struct fdm_sheet_cell *cell) {
    for (int i = 0; i < cell->count; i++) {
        const int wide = images_across(s, cell);
        const int64_t dx = (int64_t)(i % wide) * (cell->images[i].width * s->scale + IMAGE_GAP);
        const int64_t dy = (int64_t)(i / wide) * (cell->images[i].height * s->scale + IMAGE_GAP);
        paste(out, x + dx, y + dy, &cell->images[i], s->scale);
    }
}

static void draw_lines(fdm_image *out, const struct fdm_lettering *how, double x, double top, const struct fdm_sheet_lines *lines) {
    for (int i = 0; i < lines->count; i++)
        fdm_lettering_draw(out, how, x, top + (double)i * line_height(how) + rise(how), lines->items[i]);
}

static void draw(fdm_image *out, const struct fdm_sheet *s, const struct layout *l) {
    int64_t x = l->left, y = l->top;
    draw_lines(out, &title_letters, MARGIN, MARGIN - 4, &s->title);
    for (int c = 0; c < s->across; x += l->widths[c++] + COLUMN_GAP) {
        if (c >= s->columns.count) continue;
        const double width = fdm_lettering_width(&label_letters, s->columns.items[c]);
        fdm_lettering_draw(out, &label_letters, (double)x + 0.5 * ((double)l->widths[c] - width), (double)l->top - 6, s->columns.items[c]);
    }
    for (int r = 0; r < l->rows; y += l->heights[r++] + ROW_GAP) {
        x = l->left;
        for (int c = 0; c < s->across; x += l->widths[c++] + COLUMN_GAP)
            if (r * s->across + c < s->count) draw_cell(out, x, y, s, &s->cells[r * s->across + c]);
        if (r < s->rows.count)
            fdm_lettering_draw(out, &label_letters, MARGIN, (double)y + 0.5 * ((double)l->heights[r] + label_letters.capital), s->rows.items[r]);
    }
    draw_lines(out, &note_letters, MARGIN, (double)y - ROW_GAP + 4, &s->note);
}

static fdm_status check(const struct fdm_sheet *s, int rows, fdm_error *err) {
    if (s->count < 1 || s->across < 1 || s->wide < 0 || s->scale < 1 || s->scale > FDM_PNG_MAX_SIDE)
        return fdm_fail(err, FDM_BAD_USAGE, "a sheet of %d pictures, %d across, enlarged %d times", s->count, s->across, s->scale);
    if (s->columns.count > s->across || s->rows.count > rows)
        return fdm_fail(err, FDM_BAD_USAGE, "%d labels for %d %s of pictures", s->columns.count > s->across ? s->columns.count : s->rows.count,
                        s->columns.count > s->across ? s->across : rows, s->columns.count > s->across ? "columns" : "rows");
    for (int i = 0; i < s->count; i++)
        for (int k = 0; k < s->cells[i].count; k++) {
            const fdm_image *first = &s->cells[i].images[0], *image = &s->cells[i].images[k];
            if (image->width != first->width || image->height != first->height)
                return fdm_fail(err, FDM_BAD_USAGE, "picture %d: its image %d has %d x %d pixels, the first one %d x %d", i, k, image->width,
                                image->height, first->width, first->height);
        }
    return FDM_OK;
}

fdm_status fdm_sheet_draw(fdm_image *out, const struct fdm_sheet *s, fdm_error *err) {
    memset(out, 0, sizeof *out);
    const int rows = s->across > 0 && s->count > 0 ? (s->count - 1) / s->across + 1 : 0;
    fdm_status status = check(s, rows, err);
    if (status != FDM_OK) return status;
    int64_t *lengths = calloc((size_t)s->across + (size_t)rows, sizeof *lengths);
    if (!lengths) return fdm_fail_oom(err, "sheet", ((size_t)s->across + (size_t)rows) * sizeof *lengths);
    struct layout l = {.rows = rows, .widths = lengths, .heights = lengths + s->across};
    measure(&l, s);
    if (l.width > FDM_PNG_MAX_SIDE || l.height > FDM_PNG_MAX_SIDE || 3 * l.width * l.height > FDM_PNG_MAX_BYTES)
        status = fdm_fail(err, FDM_BAD_USAGE, "the sheet would have %lld x %lld pixels; use fewer or smaller pictures", (long long)l.width,
                          (long long)l.height);
    else if (!(out->pixels = malloc((size_t)(3 * l.width * l.height))))
        status = fdm_fail_oom(err, "sheet", (size_t)(3 * l.width * l.height));
    else {
        out->width = (int)l.width, out->height = (int)l.height, out->channels = 3;
        memset(out->pixels, PAPER, (size_t)(3 * l.width * l.height));
        draw(out, s, &l);
    }
    free(lengths);
    return status;
}

void fdm_sheet_free(struct fdm_sheet *s) {
    for (int i = 0; s->cells && i < s->count; i++) {
        for (int k = 0; k < s->cells[i].count; k++) fdm_image_free(&s->cells[i].images[k]);
        free(s->cells[i].images);
    }
    free(s->cells);
    s->cells = NULL;
    s->count = 0;
}
