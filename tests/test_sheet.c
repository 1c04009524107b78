/* test_sheet.c - letters that are all there and all different, and sheets whose pictures lie where they should. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "io/image_file.h"
#include "io/image_sheet.h"
#include "io/lettering.h"
#include "io_util.h"
#include "oom.h"

enum { SIDE = 40 };
static const struct fdm_lettering letters = {12, 1.5, {10, 20, 30}};

static fdm_image blank(int width, int height) {
    fdm_image image = {width, height, 3, malloc(3 * (size_t)width * (size_t)height)};
    memset(image.pixels, 255, 3 * (size_t)width * (size_t)height);
    return image;
}

/* Pixels that are not white within a rectangle; x1 and y1 lie outside. */
static int ink(const fdm_image *image, int x0, int y0, int x1, int y1) {
    int count = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            const uint8_t *p = image->pixels + 3 * (y * image->width + x);
            count += p[0] != 255 || p[1] != 255 || p[2] != 255;
        }
    return count;
}

/* ---- Letters ----------------------------------------------------------------------------------------------- */

START_TEST(every_character_is_drawn_and_unlike_the_others) {
    static fdm_image drawn[128];
    for (int c = ' '; c < 127; c++) {
        const char text[] = {(char)c, 0};
        drawn[c] = blank(SIDE, SIDE);
        fdm_lettering_draw(&drawn[c], &letters, 10, 25, text);
        const int total = ink(&drawn[c], 0, 0, SIDE, SIDE), right = 10 + (int)ceil(fdm_lettering_width(&letters, text));
        if (c == ' ')
            ck_assert_int_eq(total, 0);
        else
            ck_assert_msg(total >= 3, "'%c' has %d pixels", c, total);
        /* one pixel more on both sides: curves swing out by a hair */
        ck_assert_msg(ink(&drawn[c], 9, 12, right + 1, 31) == total, "'%c' leaves its box", c);
        for (int other = ' '; other < c; other++)
            ck_assert_msg(memcmp(drawn[c].pixels, drawn[other].pixels, 3 * SIDE * SIDE) != 0, "'%c' looks like '%c'", c, other);
    }
    for (int c = ' '; c < 127; c++) fdm_image_free(&drawn[c]);
}
END_TEST

START_TEST(other_characters_are_boxes) {
    static const char *const texts[] = {"\x01", "\x7f", "\xc3\xa9", "\xe2\x86\x92", "\xf0\x9f\x98\x80", "\xff"};
    fdm_image box = blank(SIDE, SIDE);
    fdm_lettering_draw(&box, &letters, 10, 25, "\t");
    ck_assert_int_gt(ink(&box, 0, 0, SIDE, SIDE), 20);
    for (size_t i = 0; i < FDM_ARRAY_LEN(texts); i++) {
        fdm_image image = blank(SIDE, SIDE);
        fdm_lettering_draw(&image, &letters, 10, 25, texts[i]);
        ck_assert_mem_eq(image.pixels, box.pixels, 3 * SIDE * SIDE);
        ck_assert_double_eq(fdm_lettering_width(&letters, texts[i]), fdm_lettering_width(&letters, "\t"));
        fdm_image_free(&image);
    }
    fdm_image_free(&box);
}
END_TEST

/* Beyond every edge, in an image of just its size, so that a sanitizer sees a stray pixel. */
START_TEST(letters_are_cut_at_the_edges) {
    static const double places[][2] = {{-5, 5}, {15, 5}, {5, -3}, {5, 25}, {-1e9, 5}, {1e9, 5}, {5, 1e9}, {5, -1e9}};
    for (size_t i = 0; i < FDM_ARRAY_LEN(places); i++) {
        fdm_image image = blank(20, 10);
        fdm_lettering_draw(&image, &letters, places[i][0], places[i][1], "gQ|@");
        fdm_image_free(&image);
    }
    fdm_image image = blank(20, 10);
    fdm_lettering_draw(&image, &letters, -8, 8, "HH"); /* the first one's right bar and the second one's left one */
    ck_assert_int_gt(ink(&image, 0, 0, 20, 10), 0);
    fdm_image_free(&image);
}
END_TEST

START_TEST(width_grows_with_every_character) {
    ck_assert_double_eq(fdm_lettering_width(&letters, ""), 0);
    double last = 0;
    char text[64] = "";
    for (int i = 0; i < 60; i++) {
        text[i] = (char)('!' + i);
        const double width = fdm_lettering_width(&letters, text);
        ck_assert_double_gt(width, last);
        last = width;
    }
    ck_assert_double_eq_tol(fdm_lettering_width(&letters, "mm"), 2 * fdm_lettering_width(&letters, "m") + 4 - 1.5, 1e-12);
}
END_TEST

/* ---- Sheets ------------------------------------------------------------------------------------------------ */

/* Cells of `images` images of w x h pixels, pixel k of image i of cell c in the color (c, i, k), which is not white. */
static struct fdm_sheet make(int count, int across, int images, int w, int h, int scale) {
    struct fdm_sheet s = {.cells = calloc((size_t)count, sizeof *s.cells), .count = count, .across = across, .scale = scale};
    for (int c = 0; c < count; c++) {
        s.cells[c] = (struct fdm_sheet_cell){calloc((size_t)images, sizeof(fdm_image)), images};
        for (int i = 0; i < images; i++) {
            fdm_image *image = &s.cells[c].images[i];
            *image = blank(w, h);
            for (int k = 0; k < w * h; k++) memcpy(image->pixels + 3 * k, (uint8_t[]){(uint8_t)c, (uint8_t)i, (uint8_t)k}, 3);
        }
    }
    return s;
}

static const uint8_t *at(const fdm_image *image, int x, int y) { return image->pixels + 3 * (y * image->width + x); }

START_TEST(pictures_lie_in_rows_and_columns) {
    struct fdm_sheet s = make(5, 3, 4, 3, 2, 2); /* each cell 2 x 2 images of 6 x 4 pixels, 2 apart: 14 x 10 */
    fdm_image sheet;
    ck_assert_int_eq(fdm_sheet_draw(&sheet, &s, NULL), FDM_OK);
    ck_assert_int_eq(sheet.width, 12 + 3 * 14 + 2 * 10 + 12);
    ck_assert_int_eq(sheet.height, 12 + 2 * 10 + 6 + 12);
    for (int c = 0; c < 5; c++)
        for (int i = 0; i < 4; i++)
            for (int y = 0; y < 4; y++)
                for (int x = 0; x < 6; x++) {
                    const uint8_t expected[] = {(uint8_t)c, (uint8_t)i, (uint8_t)(x / 2 + y / 2 * 3)};
                    ck_assert_mem_eq(at(&sheet, 12 + c % 3 * 24 + i % 2 * 8 + x, 12 + c / 3 * 16 + i / 2 * 6 + y), expected, 3);
                }
    ck_assert_int_eq(ink(&sheet, 0, 0, sheet.width, sheet.height), 5 * 4 * 6 * 4); /* and nothing else */
    fdm_image_free(&sheet);
    fdm_sheet_free(&s);
}
END_TEST

START_TEST(labels_stand_beside_the_pictures) {
    static const char *const title[] = {"A title of", "two lines"}, *const columns[] = {"one", "a heading wider than its pictures"};
    static const char *const rows[] = {"first", "second"}, *const note[] = {"note"};
    struct fdm_sheet s = make(4, 2, 1, 30, 20, 1);
    fdm_image plain, sheet;
    ck_assert_int_eq(fdm_sheet_draw(&plain, &s, NULL), FDM_OK);
    s.title = (struct fdm_sheet_lines){title, 2}, s.columns = (struct fdm_sheet_lines){columns, 2};
    s.rows = (struct fdm_sheet_lines){rows, 2}, s.note = (struct fdm_sheet_lines){note, 1};
    ck_assert_int_eq(fdm_sheet_draw(&sheet, &s, NULL), FDM_OK);
    ck_assert_int_gt(sheet.width, plain.width + 60);
    ck_assert_int_gt(sheet.height, plain.height + 60);
    int left = 0, top = 0; /* of the first cell, which begins with (0, 0, 0) */
    for (int i = 0; i < sheet.width * sheet.height && !left; i++)
        if (!memcmp(sheet.pixels + 3 * i, "\0\0\0\0\0\1", 6)) left = i % sheet.width, top = i / sheet.width;
    ck_assert_int_gt(left, 40);
    ck_assert_int_gt(top, 60);
    ck_assert_int_gt(ink(&sheet, 12, 12, sheet.width - 12, 34), 50);          /* title */
    ck_assert_int_gt(ink(&sheet, 12, 34, sheet.width - 12, top - 18), 50);    /* its second line */
    ck_assert_int_gt(ink(&sheet, left, top - 18, left + 30, top), 10);        /* first heading */
    ck_assert_int_gt(ink(&sheet, left + 40, top - 18, sheet.width, top), 100); /* second */
    ck_assert_int_gt(ink(&sheet, 0, top, left, top + 20), 20);                /* first row's label */
    ck_assert_int_gt(ink(&sheet, 0, top + 26, left, top + 46), 20);           /* second */
    ck_assert_int_gt(ink(&sheet, 0, top + 46, sheet.width, sheet.height), 10); /* note */
    ck_assert_int_eq(ink(&sheet, 0, 0, 12, sheet.height) + ink(&sheet, sheet.width - 10, 0, sheet.width, sheet.height) +
                         ink(&sheet, 0, 0, sheet.width, 8) + ink(&sheet, 0, sheet.height - 4, sheet.width, sheet.height),
                     0); /* the margins are clean */
    fdm_image_free(&plain);
    fdm_image_free(&sheet);
    fdm_sheet_free(&s);
}
END_TEST

static void refuse(struct fdm_sheet s, const char *mention) {
    fdm_image out;
    fdm_error err;
    check_refused(fdm_sheet_draw(&out, &s, &err), FDM_BAD_USAGE, &err, mention);
    ck_assert_ptr_null(out.pixels);
}

START_TEST(impossible_sheets_are_refused) {
    static const char *const labels[] = {"a", "b", "c"};
    struct fdm_sheet s = make(2, 2, 2, 4, 4, 1), t = s;
    t.across = 0, refuse(t, "0 across");
    t = s, t.scale = 0, refuse(t, "enlarged 0 times");
    t = s, t.scale = 1 << 30, refuse(t, "enlarged");
    t = s, t.scale = 1 << 14, refuse(t, "use fewer or smaller");
    t = s, t.across = 1 << 14, refuse(t, "use fewer or smaller"); /* all gaps */
    t = s, t.columns = (struct fdm_sheet_lines){labels, 3}, refuse(t, "3 labels for 2 columns");
    t = s, t.rows = (struct fdm_sheet_lines){labels, 2}, refuse(t, "2 labels for 1 rows");
    fdm_image_free(&s.cells[1].images[1]);
    s.cells[1].images[1] = blank(4, 5);
    refuse(s, "4 x 5 pixels");
    fdm_sheet_free(&s);
}
END_TEST

static bool draw_small(void *user) {
    fdm_image out;
    const bool ok = fdm_sheet_draw(&out, user, NULL) == FDM_OK;
    fdm_image_free(&out);
    return ok;
}

static bool convert_one(void *user) {
    (void)user;
    fdm_image image = {1, 1, 4, malloc(4)};
    if (!image.pixels) return false;
    memset(image.pixels, 0, 4);
    const bool ok = fdm_image_convert(&image, 3, NULL) == FDM_OK;
    fdm_image_free(&image);
    return ok;
}

START_TEST(memory_may_run_out) {
    struct fdm_sheet s = make(2, 2, 2, 4, 4, 1);
    ck_assert_int_ge(oom_sweep("sheet", draw_small, &s), 0);
    ck_assert_int_ge(oom_sweep("convert", convert_one, NULL), 0);
    fdm_sheet_free(&s);
}
END_TEST

START_TEST(transparency_becomes_white) {
    static const uint8_t clear[] = {0, 0, 0, 0}, half[] = {200, 0, 100, 128}, gray[] = {50, 255};
    const struct {
        const uint8_t *pixel;
        int channels;
        uint8_t expected[3];
    } cases[] = {{clear, 4, {255, 255, 255}}, {half, 4, {227, 127, 177}}, {gray, 2, {50, 50, 50}}, {gray, 1, {50, 50, 50}}};
    for (size_t i = 0; i < FDM_ARRAY_LEN(cases); i++) {
        fdm_image image = {1, 1, cases[i].channels, copy_bytes(cases[i].pixel, (size_t)cases[i].channels)};
        ck_assert_int_eq(fdm_image_convert(&image, 3, NULL), FDM_OK);
        ck_assert_int_eq(image.channels, 3);
        ck_assert_mem_eq(image.pixels, cases[i].expected, 3);
        fdm_image_free(&image);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sheet");
    TCase *letters_case = tcase_create("letters"), *sheets = tcase_create("sheets");
    tcase_add_test(letters_case, every_character_is_drawn_and_unlike_the_others);
    tcase_add_test(letters_case, other_characters_are_boxes);
    tcase_add_test(letters_case, letters_are_cut_at_the_edges);
    tcase_add_test(letters_case, width_grows_with_every_character);
    tcase_add_test(sheets, pictures_lie_in_rows_and_columns);
    tcase_add_test(sheets, labels_stand_beside_the_pictures);
    tcase_add_test(sheets, impossible_sheets_are_refused);
    tcase_add_test(sheets, transparency_becomes_white);
    tcase_add_test(sheets, memory_may_run_out);
    suite_add_tcase(suite, letters_case);
    suite_add_tcase(suite, sheets);
    return scratch_run(suite);
}
