/* test_png.c - PNG round trips, other programs' kinds of PNG, hostile files, image grids, out of memory. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/base.h"
#include "fdm/png.h"
#include "io_util.h"
#include "oom.h"

/* A PNG under construction. */
struct png {
    unsigned char bytes[1 << 17];
    size_t n;
};

static void put32(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> (24 - 8 * i));
}

static void chunk(struct png *p, const char *type, const void *data, size_t n) {
    ck_assert_uint_le(p->n + n + 12, sizeof p->bytes);
    put32(p->bytes + p->n, (uint32_t)n);
    memcpy(p->bytes + p->n + 4, type, 4);
    if (n) memcpy(p->bytes + p->n + 8, data, n);
    put32(p->bytes + p->n + 8 + n, (uint32_t)crc32(0, p->bytes + p->n + 4, (uInt)n + 4));
    p->n += n + 12;
}

static void begin(struct png *p, uint32_t w, uint32_t h, int depth, int color, int interlaced) {
    unsigned char header[13] = {0};
    put32(header, w);
    put32(header + 4, h);
    header[8] = (unsigned char)depth;
    header[9] = (unsigned char)color;
    header[12] = (unsigned char)interlaced;
    memcpy(p->bytes, "\x89PNG\r\n\x1a\n", 8);
    p->n = 8;
    chunk(p, "IHDR", header, 13);
}

/* Rows with their filter bytes, compressed. */
static void data(struct png *p, const void *rows, size_t n) {
    unsigned char packed[1 << 16];
    uLongf bytes = sizeof packed;
    ck_assert_int_eq(compress2(packed, &bytes, rows, (uLong)n, 9), Z_OK);
    chunk(p, "IDAT", packed, bytes);
}

static void end(struct png *p) {
    chunk(p, "IEND", NULL, 0);
}

static fdm_status parse(fdm_image *out, const struct png *p, int channels, fdm_error *err) {
    unsigned char *exact = copy_bytes(p->bytes, p->n);
    fdm_status status = fdm_png_parse(out, exact, p->n, "memory.png", channels, err);
    free(exact);
    return status;
}

static void check_png_refused(const struct png *p, const char *mention) {
    fdm_image image;
    fdm_error err;
    check_refused(parse(&image, p, 0, &err), FDM_BAD_INPUT, &err, "memory.png");
    check_refused(FDM_BAD_INPUT, FDM_BAD_INPUT, &err, mention);
    ck_assert_ptr_null(image.pixels);
}

START_TEST(round_trip) {
    static const int sizes[][2] = {{1, 1}, {7, 5}, {32, 32}, {1, 300}, {300, 1}, {200, 100}};
    for (size_t s = 0; s < FDM_ARRAY_LEN(sizes); s++) {
        for (int c = 1; c <= 4; c++) {
            if (c == 2) continue;
            int w = sizes[s][0], h = sizes[s][1];
            size_t n = (size_t)(w * h * c), first, second;
            uint8_t *pixels = malloc(n);
            fdm_image back;
            fdm_error err = {.status = FDM_OK};
            const char *path = scratch("round.png");
            uint32_t state = 7;
            for (size_t i = 0; i < n; i++) /* half noise, half gradient: every filter gets its turn */
                pixels[i] = i < n / 2 ? (uint8_t)((state = state * 1664525u + 1013904223u) >> 24)
                                      : (uint8_t)(i / (size_t)c + i / (size_t)(w * c));
            ck_assert_msg(fdm_png_write(path, pixels, w, h, c, &err) == FDM_OK, "%s", err.message);
            ck_assert_msg(fdm_png_read(&back, path, 0, &err) == FDM_OK, "%s", err.message);
            ck_assert(back.width == w && back.height == h && back.channels == c);
            ck_assert(memcmp(back.pixels, pixels, n) == 0);
            unsigned char *a = read_bytes(path, &first);
            ck_assert_int_eq(fdm_png_write(path, pixels, w, h, c, &err), FDM_OK);
            unsigned char *b = read_bytes(path, &second);
            ck_assert(first == second && memcmp(a, b, first) == 0);
            free(a);
            free(b);
            fdm_image_free(&back);
            free(pixels);
        }
    }
}
END_TEST

START_TEST(conversion_of_channels) {
    static const uint8_t pixel[3] = {10, 10, 10};
    static struct png p;
    fdm_image image;
    fdm_error err = {.status = FDM_OK};
    unsigned char rows[] = {0, 10, 10, 10};
    begin(&p, 1, 1, 8, 2, 0);
    data(&p, rows, sizeof rows);
    end(&p);
    for (int c = 1; c <= 4; c++) {
        ck_assert_msg(parse(&image, &p, c, &err) == FDM_OK, "%s", err.message);
        ck_assert_int_eq(image.channels, c);
        ck_assert(memcmp(image.pixels, pixel, (size_t)(c % 2 ? c : c - 1)) ==
                  0); /* gray of equal parts is that part */
        if (c % 2 == 0) ck_assert_int_eq(image.pixels[c - 1], 255);
        fdm_image_free(&image);
    }
    check_refused(parse(&image, &p, 5, &err), FDM_BAD_USAGE, &err, "memory.png");
    check_refused(parse(&image, &p, -1, &err), FDM_BAD_USAGE, &err, "memory.png");
}
END_TEST

/* 16-bit, narrow, palette with transparency, interlaced, several IDATs, unknown ancillary chunks, trailing bytes.
 */
START_TEST(other_kinds) {
    static struct png p;
    fdm_image image;
    fdm_error err = {.status = FDM_OK};
    begin(&p, 2, 1, 16, 0, 0);
    chunk(&p, "tEXt", "a comment", 9);
    data(&p, "\0\x12\x34\xff\xff", 5);
    end(&p);
    memcpy(p.bytes + p.n, "trailing", 8);
    p.n += 8;
    ck_assert_msg(parse(&image, &p, 0, &err) == FDM_OK, "%s", err.message);
    ck_assert(image.channels == 1 && image.pixels[0] == 0x12 && image.pixels[1] == 0xff);
    fdm_image_free(&image);

    begin(&p, 3, 2, 1, 0, 0);
    data(&p, "\0\xa0\0\x40", 4);
    end(&p);
    ck_assert_msg(parse(&image, &p, 0, &err) == FDM_OK, "%s", err.message);
    ck_assert(memcmp(image.pixels, "\xff\0\xff\0\xff\0", 6) == 0);
    fdm_image_free(&image);

    begin(&p, 4, 1, 2, 3, 0); /* index 3 lies beyond the palette of three: black, whatever the memory held */
    chunk(&p, "PLTE", "\1\2\3\4\5\6\7\x8\x9", 9);
    chunk(&p, "tRNS", "\x80", 1);
    data(&p, "\0\x1b", 2);
    end(&p);
    for (int i = 0; i < 2; i++) {
        ck_assert_msg(parse(&image, &p, 0, &err) == FDM_OK, "%s", err.message);
        ck_assert(image.channels == 4 &&
                  memcmp(image.pixels, "\1\2\3\x80\4\5\6\xff\7\x8\x9\xff\0\0\0\xff", 16) == 0);
        fdm_image_free(&image);
    }

    unsigned char adam7[64] = {0};
    begin(&p, 3, 3, 8, 0, 1); /* passes 1, 4, 5, 6, 7 hold 1, 1, 2, 2, 3 pixels in rows of their own */
    memcpy(adam7, "\0\1\0\3\0\7\x9\0\2\0\x8\0\4\5\6", 15);
    data(&p, adam7, 15);
    end(&p);
    ck_assert_msg(parse(&image, &p, 0, &err) == FDM_OK, "%s", err.message);
    ck_assert(memcmp(image.pixels, "\1\2\3\4\5\6\7\x8\x9", 9) == 0);
    fdm_image_free(&image);
}
END_TEST

static unsigned char gray_row[] = {0, 1, 2, 3, 4};

START_TEST(hostile_headers) {
    static struct png p;
    static const struct {
        uint32_t w, h;
        int depth, color, interlaced;
    } cases[] = {{0, 1, 8, 0, 0},
                 {1, 0, 8, 0, 0},
                 {0x80000000u, 1, 8, 0, 0},
                 {UINT32_MAX, UINT32_MAX, 8, 0, 0},
                 {40000, 1, 8, 0, 0},
                 {1, 40000, 8, 0, 0},
                 {32768, 32768, 8, 0, 0},
                 {20000, 20000, 8, 2, 0},
                 {16384, 16384, 8, 3, 0},
                 {4, 1, 7, 0, 0},
                 {4, 1, 0, 0, 0},
                 {4, 1, 32, 0, 0},
                 {4, 1, 8, 1, 0},
                 {4, 1, 8, 5, 0},
                 {4, 1, 8, 7, 0},
                 {4, 1, 4, 2, 0},
                 {4, 1, 16, 3, 0},
                 {4, 1, 8, 255, 0},
                 {4, 1, 8, 0, 2}};
    for (size_t i = 0; i < FDM_ARRAY_LEN(cases); i++) {
        begin(&p, cases[i].w, cases[i].h, cases[i].depth, cases[i].color, cases[i].interlaced);
        data(&p, gray_row, sizeof gray_row);
        end(&p);
        check_png_refused(&p, NULL);
    }
}
END_TEST

START_TEST(hostile_chunks) {
    static struct png p;
    unsigned char rows[4096] = {0};
    begin(&p, 4, 1, 8, 0, 0);
    check_png_refused(&p, "truncated"); /* nothing but a header */
    end(&p);
    check_png_refused(&p, "incomplete");
    begin(&p, 4, 1, 8, 0, 0);
    data(&p, gray_row, 4);
    end(&p);
    check_png_refused(&p, "incomplete");
    begin(&p, 4, 1, 8, 0, 0);
    data(&p, rows, 6);
    end(&p);
    check_png_refused(&p, "more compressed data");
    begin(&p, 4, 1, 8, 0, 0);
    data(&p, rows, sizeof rows); /* a bomb in small */
    end(&p);
    check_png_refused(&p, "more compressed data");
    begin(&p, 4, 1, 8, 3, 0);
    data(&p, gray_row, 5);
    end(&p);
    check_png_refused(&p, "PLTE");
    begin(&p, 4, 1, 8, 3, 0);
    chunk(&p, "PLTE", rows, 769);
    check_png_refused(&p, "PLTE");
    begin(&p, 4, 1, 8, 3, 0);
    chunk(&p, "PLTE", rows, 4);
    check_png_refused(&p, "PLTE");
    begin(&p, 4, 1, 8, 0, 0);
    chunk(&p, "CgBI", rows, 4);
    check_png_refused(&p, "critical");
    begin(&p, 4, 1, 8, 0, 0);
    chunk(&p, "A\nB\x1b", rows, 4);
    check_png_refused(&p, "A?B?");
    begin(&p, 4, 1, 8, 0, 0);
    chunk(&p, "IHDR", p.bytes + 16, 13);
    check_png_refused(&p, "second IHDR");
    begin(&p, 4, 1, 8, 0, 0);
    chunk(&p, "IDAT", "not zlib", 8);
    check_png_refused(&p, "compressed");
    begin(&p, 4, 1, 8, 0, 0);
    memcpy(rows, "\5abcd", 5); /* filter 5 does not exist */
    data(&p, rows, 5);
    end(&p);
    check_png_refused(&p, "filter");
    begin(&p, 4, 1, 8, 0, 0);
    data(&p, gray_row, 5);
    end(&p);
    p.bytes[45] ^= 1; /* within IDAT */
    check_png_refused(&p, "checksum");
    begin(&p, 4, 1, 8, 0, 0);
    put32(p.bytes + 8, 0xfffffff0u); /* a chunk longer than the file */
    check_png_refused(&p, "truncated");
    p.n = 8;
    chunk(&p, "IDAT", gray_row, 5);
    check_png_refused(&p, "IHDR");
    p.n = 0;
    check_png_refused(&p, "signature");
    memcpy(p.bytes, "\xff\xd8\xff\xe0", 4); /* stb would take a JPEG */
    p.n = 100;
    check_png_refused(&p, "signature");
}
END_TEST

START_TEST(truncated_anywhere_or_damaged) {
    static struct png p, q;
    int refused = 0, accepted = 0;
    begin(&p, 4, 1, 8, 0, 0);
    data(&p, gray_row, 5);
    end(&p);
    for (size_t n = 0; n < p.n; n++) {
        q = p;
        q.n = n;
        check_png_refused(&q, NULL);
    }
    q = p;
    for (size_t i = 0; i < p.n; i++) {
        for (int v = 1; v < 256; v++) {
            fdm_image image;
            fdm_error err;
            q.bytes[i] = p.bytes[i] ^ (unsigned char)v;
            fdm_status status = parse(&image, &q, 0, &err);
            if (status) check_refused(status, FDM_BAD_INPUT, &err, "memory.png");
            if (status)
                refused++;
            else
                accepted++;
            fdm_image_free(&image);
        }
        q.bytes[i] = p.bytes[i];
    }
    printf("PNG, one byte damaged: %d refused, %d accepted\n", refused, accepted);
    fflush(stdout);
    ck_assert_int_eq(accepted, 0); /* every byte is under a checksum, or one itself */
}
END_TEST

START_TEST(bad_writes) {
    fdm_error err;
    uint8_t pixel[4] = {0};
    const char *path = scratch("bad.png");
    check_refused(fdm_png_write(path, pixel, 0, 1, 1, &err), FDM_BAD_USAGE, &err, "bad.png");
    check_refused(fdm_png_write(path, pixel, 1, -1, 1, &err), FDM_BAD_USAGE, &err, "bad.png");
    check_refused(fdm_png_write(path, pixel, 1, 1, 2, &err), FDM_BAD_USAGE, &err, "bad.png");
    check_refused(fdm_png_write(path, pixel, 1, 1, 5, &err), FDM_BAD_USAGE, &err, "bad.png");
    check_refused(fdm_png_write(path, pixel, 30000, 30000, 1, &err), FDM_BAD_USAGE, &err, "bad.png");
    check_refused(fdm_png_write(scratch("none/bad.png"), pixel, 1, 1, 1, &err), FDM_NO_RESOURCE, &err, "bad.png");
    fdm_image image;
    check_refused(fdm_png_read(&image, path, 0, &err), FDM_BAD_INPUT, &err, "bad.png");
}
END_TEST

START_TEST(grids) {
    enum { N = 5, C = 3, H = 2, W = 3 };
    uint8_t planar[N * C * H * W], packed[N * H * W * C];
    fdm_image a, b;
    fdm_error err;
    for (int n = 0; n < N; n++)
        for (int c = 0; c < C; c++)
            for (int y = 0; y < H; y++)
                for (int x = 0; x < W; x++) {
                    uint8_t v = (uint8_t)(1 + n * 50 + c * 10 + y * 3 + x);
                    planar[((n * C + c) * H + y) * W + x] = v;
                    packed[((n * H + y) * W + x) * C + c] = v;
                }
    ck_assert_int_eq(fdm_image_grid(&a, planar, N, C, H, W, true, 3, &err), FDM_OK);
    ck_assert_int_eq(fdm_image_grid(&b, packed, N, C, H, W, false, 3, &err), FDM_OK);
    ck_assert(a.width == 3 * W + 4 && a.height == 2 * H + 2 && a.channels == C);
    ck_assert(memcmp(a.pixels, b.pixels, (size_t)(a.width * a.height * C)) == 0);
    for (int y = 0; y < a.height; y++)
        for (int x = 0; x < a.width; x++)
            for (int c = 0; c < C; c++) {
                int column = x / (W + 2), row = y / (H + 2), ix = x % (W + 2), iy = y % (H + 2),
                    n = row * 3 + column;
                int want = ix >= W || iy >= H || n >= N ? 0 : 1 + n * 50 + c * 10 + iy * 3 + ix;
                ck_assert_int_eq(a.pixels[(y * a.width + x) * C + c], want);
            }
    fdm_image_free(&a);
    fdm_image_free(&b);
    static const int shapes[][3] = {{1, 1, 1}, {2, 2, 1}, {4, 2, 2}, {5, 3, 2}, {16, 4, 4}, {17, 5, 4}};
    for (size_t i = 0; i < FDM_ARRAY_LEN(shapes); i++) { /* about square by default */
        uint8_t dots[17] = {0};
        ck_assert_int_eq(fdm_image_grid(&a, dots, shapes[i][0], 1, 1, 1, true, 0, &err), FDM_OK);
        ck_assert(a.width == 3 * shapes[i][1] - 2 && a.height == 3 * shapes[i][2] - 2);
        fdm_image_free(&a);
    }
    check_refused(fdm_image_grid(&a, planar, 0, C, H, W, true, 3, &err), FDM_BAD_USAGE, &err, NULL);
    check_refused(fdm_image_grid(&a, planar, N, 5, H, W, true, 3, &err), FDM_BAD_USAGE, &err, NULL);
    check_refused(fdm_image_grid(&a, planar, N, C, H, W, true, -1, &err), FDM_BAD_USAGE, &err, NULL);
    check_refused(fdm_image_grid(&a, planar, 100000, 1, 1000, 1000, true, 0, &err), FDM_BAD_USAGE, &err, NULL);
    check_refused(fdm_image_grid(&a, planar, INT32_MAX, 1, INT32_MAX, INT32_MAX, true, 0, &err), FDM_BAD_USAGE,
                  &err, NULL);
}
END_TEST

static int wrong_messages;

static bool oom_body(void *path) {
    static const uint8_t pixels[2 * 3 * 4] = {1, 2, 3};
    fdm_error err = {.status = FDM_OK};
    fdm_image grid = {0}, back = {0};
    fdm_status status = fdm_image_grid(&grid, pixels, 2, 3, 2, 2, true, 2, &err);
    if (!status) status = fdm_png_write(path, grid.pixels, grid.width, grid.height, grid.channels, &err);
    if (!status) status = fdm_png_read(&back, path, 4, &err);
    if (status && !is_refusal(status, FDM_NO_RESOURCE, &err, NULL)) wrong_messages++;
    fdm_image_free(&grid);
    fdm_image_free(&back);
    return status == FDM_OK;
}

START_TEST(out_of_memory) {
    char path[600];
    snprintf(path, sizeof path, "%s", scratch("oom.png"));
    ck_assert_int_ge(oom_sweep("grid, PNG write and read", oom_body, path), 0);
    ck_assert_int_eq(wrong_messages, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("png");
    TCase *tc = tcase_create("png");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, round_trip);
    tcase_add_test(tc, conversion_of_channels);
    tcase_add_test(tc, other_kinds);
    tcase_add_test(tc, hostile_headers);
    tcase_add_test(tc, hostile_chunks);
    tcase_add_test(tc, truncated_anywhere_or_damaged);
    tcase_add_test(tc, bad_writes);
    tcase_add_test(tc, grids);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
