/* image_sheet.h - a contact sheet: blocks of small pictures in a table with a title, headings and labels; internal.
 *
 *     title
 *              columns[0]   columns[1]
 *     rows[0]  cell 0       cell 1            a cell: images of one size, `wide` to a row, each enlarged `scale` times
 *     rows[1]  cell 2       cell 3
 *     note
 */
#ifndef FDM_IO_IMAGE_SHEET_H
#define FDM_IO_IMAGE_SHEET_H

#include "fdm/png.h"

struct fdm_sheet_cell {
    fdm_image *images; /* RGB, all of the first one's size; freed by fdm_sheet_free */
    int count;         /* 0: the place stays empty */
};

/* Lines of text, each NUL-terminated; count 0: none. */
struct fdm_sheet_lines {
    const char *const *items;
    int count;
};

struct fdm_sheet {
    struct fdm_sheet_lines title, columns, rows, note; /* columns, rows: none, or one for each */
    struct fdm_sheet_cell *cells; /* (count), row by row */
    int count;
    int across; /* cells to a row, >= 1 */
    int wide;   /* images to a row of a cell; 0: about a square */
    int scale;  /* pixels that a pixel becomes each way, >= 1 */
};

/* Draws the sheet as an RGB image; free it with fdm_image_free.
 * Errors, after which *out is all zeros: FDM_BAD_USAGE (images of several sizes in a cell, more labels than rows or columns,
 * a sheet beyond the limits of fdm/png.h), FDM_NO_RESOURCE. */
fdm_status fdm_sheet_draw(fdm_image *out, const struct fdm_sheet *sheet, fdm_error *err);
/* Frees the cells and their images; the lines are the caller's. */
void fdm_sheet_free(struct fdm_sheet *sheet);

#endif
