/* cmd_sheet.c - `fdm sheet`: pictures side by side in one, with a title, headings and labels. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/inputs.h"
#include "io/entries.h"
#include "io/image_file.h"
#include "io/image_sheet.h"
#include "io/io.h"

enum { MOST_PICTURES = 10000, MOST_IMAGES = 100000, MOST_SCALE = 64 };

struct sheet_options {
    const char *out, *title, *columns, *rows, *note;
    int64_t across, wide, first, scale; /* 0: the default of the help */
};

static const struct sheet_options defaults = {.scale = 2};
static const struct fdm_option options[] = {
    FDM_OPTION_STRING(struct sheet_options, out, "out", "FILE.png", "the picture to write; required"),
    FDM_OPTION_STRING(struct sheet_options, title, "title", "TEXT", "above everything; | begins a new line"),
    FDM_OPTION_STRING(struct sheet_options, columns, "columns", "LABELS", "headings of the columns, '5 steps|18 steps'"),
    FDM_OPTION_STRING(struct sheet_options, rows, "rows", "LABELS", "labels of the rows, 'faces|food'"),
    FDM_OPTION_STRING(struct sheet_options, note, "note", "TEXT", "in small letters below everything; | begins a new line"),
    FDM_OPTION_INT(struct sheet_options, across, "across", 1, MOST_PICTURES, "N",
                   "pictures to a row (default: one for each heading, or as many as leave a row for each label)"),
    FDM_OPTION_INT(struct sheet_options, wide, "wide", 1, MOST_IMAGES, "N",
                   "images to a row where a picture is a folder or an archive (default: about a square)"),
    FDM_OPTION_INT(struct sheet_options, first, "first", 1, MOST_IMAGES, "N", "only the first N of such images (default: all)"),
    FDM_OPTION_INT(struct sheet_options, scale, "scale", 1, MOST_SCALE, "N", "enlarge the pictures N times"),
    FDM_OPTION_END,
};

/* ---- Labels ------------------------------------------------------------------------------------------------ */

/* Text split at its bars. */
struct labels {
    char *text;
    const char **items;
    int count;
};

static fdm_status split(struct labels *l, const char *text, fdm_error *err) {
    if (!text) return FDM_OK;
    int count = 1;
    for (const char *c = text; *c; c++) count += *c == '|';
    l->text = fdm_strdup(text);
    l->items = calloc((size_t)count, sizeof *l->items);
    if (!l->text || !l->items) return fdm_fail_oom(err, "labels", strlen(text));
    for (char *part = l->text; part; l->count++) {
        char *bar = strchr(part, '|');
        if (bar) *bar = '\0';
        l->items[l->count] = part;
        part = bar ? bar + 1 : NULL;
    }
    return FDM_OK;
}

static void labels_free(struct labels *l) {
    free(l->text);
    free(l->items);
}

static struct fdm_sheet_lines lines_of(const struct labels *l) { return (struct fdm_sheet_lines){l->items, l->count}; }

/* ---- Pictures ---------------------------------------------------------------------------------------------- */

static fdm_status decode(fdm_image *out, const void *bytes, size_t size, const char *label, fdm_error *err) {
    fdm_status status = fdm_image_decode(out, bytes, size, label, err);
    if (status == FDM_OK) status = fdm_image_convert(out, 3, err);
    if (status != FDM_OK) fdm_image_free(out);
    return status;
}

static fdm_status read_file(fdm_image *out, const char *path, fdm_error *err) {
    struct fdm_file_map map;
    fdm_status status = fdm_file_map_open(&map, path, err);
    if (status != FDM_OK) return status;
    status = decode(out, map.bytes, map.size, fdm_path_tail(path), err);
    fdm_file_map_close(&map);
    return status;
}

static fdm_status read_entry(fdm_image *out, const struct fdm_entries *e, const struct fdm_entry *entry, const fdm_image *first,
                             fdm_error *err) {
    char label[FDM_ENTRY_LABEL];
    struct fdm_blob blob;
    fdm_status status = fdm_entries_read(&blob, e, entry, true, err);
    if (status != FDM_OK) return status;
    status = decode(out, blob.bytes, blob.size, fdm_entry_label(label, e, entry), err);
    fdm_blob_free(&blob);
    if (status == FDM_OK && (out->width != first->width || out->height != first->height))
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: %d x %d pixels, but the first image there has %d x %d; see fdm help dataset for one size",
                          label, out->width, out->height, first->width, first->height);
    return status;
}

static fdm_status read_set(struct fdm_sheet_cell *cell, const char *path, int64_t most, fdm_error *err) {
    struct fdm_entries e;
    fdm_status status = fdm_entries_open(&e, path, err);
    if (status != FDM_OK) return status;
    const size_t count = most && e.count > (size_t)most ? (size_t)most : e.count;
    if (count > MOST_IMAGES)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: %zu images are too many for one picture; give --first N", fdm_path_tail(path), count);
    else if (!(cell->images = calloc(count, sizeof *cell->images)))
        status = fdm_fail_oom(err, "images", count * sizeof *cell->images);
    for (size_t i = 0; i < count && status == FDM_OK; i++) {
        cell->count++; /* also of one that fails, so that it is freed */
        status = read_entry(&cell->images[i], &e, &e.items[i], &cell->images[0], err);
    }
    fdm_entries_close(&e);
    return status;
}

/* An archive shows by its first bytes, a PNG or JPEG is what is left. */
static bool is_archive(const char *path) {
    char start[4] = "";
    FILE *f = fopen(path, "rb");
    const bool archive = f && fread(start, 1, sizeof start, f) == sizeof start && memcmp(start, "PK", 2) == 0;
    if (f) fclose(f);
    return archive;
}

static fdm_status read_picture(struct fdm_sheet_cell *cell, const char *path, int64_t most, fdm_error *err) {
    struct stat st;
    if (stat(path, &st) == 0 && (S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && is_archive(path)))) return read_set(cell, path, most, err);
    if (!(cell->images = calloc(1, sizeof *cell->images))) return fdm_fail_oom(err, "image", sizeof *cell->images);
    cell->count = 1;
    return read_file(&cell->images[0], path, err);
}

/* ---- The sheet --------------------------------------------------------------------------------------------- */

static fdm_status check_options(const struct sheet_options *o, fdm_error *err) {
    if (!o->out) return fdm_fail(err, FDM_BAD_USAGE, "--out is required; see fdm help sheet");
    const char *dot = strrchr(o->out, '.');
    if (!dot || strcmp(dot, ".png") != 0) return fdm_fail(err, FDM_BAD_USAGE, "--out %s: the name must end in .png", o->out);
    return fdm_output_check(o->out, false, err);
}

/* How many pictures stand in a row, and whether the labels fit. */
static fdm_status arrange(struct fdm_sheet *s, const struct sheet_options *o, int count, fdm_error *err) {
    s->across = o->across           ? (int)o->across
                : s->columns.count ? s->columns.count
                : s->rows.count    ? fdm_div_up(count, s->rows.count)
                                   : count;
    const int rows = (count - 1) / s->across + 1;
    if (s->columns.count && s->columns.count != s->across)
        return fdm_fail(err, FDM_BAD_USAGE, "--columns has %d labels for %d columns", s->columns.count, s->across);
    if (s->rows.count && s->rows.count != rows)
        return fdm_fail(err, FDM_BAD_USAGE, "--rows has %d labels, but %d pictures, %d to a row, make %d rows", s->rows.count, count, s->across,
                        rows);
    return FDM_OK;
}

static fdm_status read_pictures(struct fdm_sheet *s, const struct fdm_cli *cli, int64_t first, fdm_error *err) {
    fdm_status status = FDM_OK;
    if (!(s->cells = calloc((size_t)cli->nargs, sizeof *s->cells))) return fdm_fail_oom(err, "pictures", (size_t)cli->nargs * sizeof *s->cells);
    s->count = cli->nargs;
    for (int i = 0; i < cli->nargs && status == FDM_OK; i++)
        status = fdm_interrupted() ? fdm_fail_interrupted(err) : read_picture(&s->cells[i], cli->args[i], first, err);
    return status;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct sheet_options *o = values;
    struct labels title = {0}, columns = {0}, rows = {0}, note = {0};
    struct fdm_sheet sheet = {.wide = (int)o->wide, .scale = (int)o->scale};
    fdm_image image = {0};
    fdm_status status = check_options(o, err);
    if (status == FDM_OK) status = split(&title, o->title, err);
    if (status == FDM_OK) status = split(&columns, o->columns, err);
    if (status == FDM_OK) status = split(&rows, o->rows, err);
    if (status == FDM_OK) status = split(&note, o->note, err);
    sheet.title = lines_of(&title), sheet.columns = lines_of(&columns), sheet.rows = lines_of(&rows), sheet.note = lines_of(&note);
    if (status == FDM_OK) status = arrange(&sheet, o, cli->nargs, err);
    if (status == FDM_OK) status = read_pictures(&sheet, cli, o->first, err);
    if (status == FDM_OK) status = fdm_sheet_draw(&image, &sheet, err);
    if (status == FDM_OK) status = fdm_png_write(o->out, image.pixels, image.width, image.height, image.channels, err);
    fdm_image_free(&image);
    fdm_sheet_free(&sheet);
    labels_free(&title), labels_free(&columns), labels_free(&rows), labels_free(&note);
    return status;
}

const struct fdm_command fdm_cmd_sheet = {
    .name = "sheet",
    .arguments = "PICTURE...",
    .min_args = 1,
    .max_args = MOST_PICTURES,
    .summary = "pictures side by side in one, with labels",
    .description = "Lays pictures out in rows and columns, enlarged but not smoothed, with a title, headings and labels drawn into the\n"
                   "picture.  A PICTURE is a PNG or JPEG file, or a folder or zip archive of them, all of one size, whose images are\n"
                   "shown as a block in the order of their names.  Transparency becomes white.  Letters are those of ASCII; any other\n"
                   "character becomes a box.",
    .examples = "  fdm sheet before.png after.png --columns 'before|after' --title 'A minute of training' --out training.png\n"
                "  fdm sheet out/{0,1,2} --rows 'faces|emotion|people' --wide 8 --out classes.png\n"
                "  fdm sheet edm5/ fdm5/ edm9/ fdm9/ --columns 'EDM|FDM' --rows '5 steps|9 steps' --out steps.png\n"
                "  fdm sheet data/emoji32.zip --first 60 --wide 10 --out emoji.png\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
