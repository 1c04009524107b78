/* archives.c - see archives.h. */
#include "archives.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "io/image_file.h"

void archive_put(unsigned char *p, uint64_t v, int size) {
    for (int i = 0; i < size; i++) p[i] = (unsigned char)(v >> (8 * i));
}

/* One member: `packed` as it lies in the file, deflated or not. */
void archive_member_raw(struct archive *a, const char *name, const void *packed, size_t n, size_t unpacked,
                       uint32_t crc, int method, int flags) {
    size_t length = strlen(name);
    unsigned char *local = a->bytes + a->n, *central = a->central + a->directory;
    ck_assert_uint_le(a->n + n + length + 100, sizeof a->bytes);
    ck_assert_uint_le(a->directory + length + 100, sizeof a->central);
    memset(local, 0, 30);
    memset(central, 0, 46);
    archive_put(local, 0x04034b50, 4);
    archive_put(local + 4, 20, 2);
    archive_put(local + 6, (uint64_t)flags, 2);
    archive_put(local + 8, (uint64_t)method, 2);
    archive_put(local + 14, crc, 4);
    archive_put(local + 18, n, 4);
    archive_put(local + 22, unpacked, 4);
    archive_put(local + 26, length, 2);
    memcpy(local + 30, name, length);
    if (n) memcpy(local + 30 + length, packed, n);
    archive_put(central, 0x02014b50, 4);
    memcpy(central + 6, local + 4, 26);
    archive_put(central + 42, a->n, 4);
    memcpy(central + 46, name, length);
    a->last = a->directory;
    a->directory += 46 + length;
    a->n += 30 + length + n;
    a->count++;
}

void archive_member(struct archive *a, const char *name, const void *bytes, size_t n) {
    archive_member_raw(a, name, bytes, n, n, (uint32_t)crc32(0, bytes, (uInt)n), 0, 0);
}

void archive_member_deflated(struct archive *a, const char *name, const void *bytes, size_t n) {
    static unsigned char packed[1 << 17];
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)bytes,
                  .avail_in = (uInt)n,
                  .next_out = packed,
                  .avail_out = sizeof packed};
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t packed_bytes = sizeof packed - z.avail_out;
    deflateEnd(&z);
    archive_member_raw(a, name, packed, packed_bytes, n, (uint32_t)crc32(0, bytes, (uInt)n), 8, 0);
}

/* Where the last member's local header starts. */
size_t archive_last_header(const struct archive *a) {
    const unsigned char *p = a->central + a->last + 42;
    return (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16;
}

void archive_text(struct archive *a, const char *name, const char *s) { archive_member(a, name, s, strlen(s)); }

/* The pixel that `archive_picture` puts at (c, y, x) of image `seed`. */
uint8_t picture_pixel(int seed, int c, int y, int x) {
    return (uint8_t)(seed * 37 + c * 91 + y * 11 + x * 5 + x * y);
}

uint8_t *picture_png(size_t *n, int seed, int width, int height, int channels) {
    uint8_t *pixels = malloc((size_t)(width * height * channels)), *file, *p = pixels;
    fdm_error err;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++) *p++ = picture_pixel(seed, c, y, x);
    ck_assert_int_eq(fdm_png_format(&file, n, pixels, width, height, channels, "test", &err), FDM_OK);
    free(pixels);
    return file;
}

void archive_picture(struct archive *a, const char *name, int seed, int width, int height, int channels) {
    size_t n;
    uint8_t *png = picture_png(&n, seed, width, height, channels);
    archive_member(a, name, png, n);
    free(png);
}

/* The finished archive, exactly its size, so that ASan sees every overrun; free(). */
unsigned char *archive_finished(const struct archive *a, size_t *n) {
    unsigned char end[22] = {0}, *copy;
    archive_put(end, 0x06054b50, 4);
    archive_put(end + 8, a->count, 2);
    archive_put(end + 10, a->count, 2);
    archive_put(end + 12, a->directory, 4);
    archive_put(end + 16, a->n, 4);
    *n = a->n + a->directory + sizeof end;
    ck_assert_ptr_nonnull(copy = malloc(*n));
    memcpy(copy, a->bytes, a->n);
    memcpy(copy + a->n, a->central, a->directory);
    memcpy(copy + a->n + a->directory, end, sizeof end);
    return copy;
}

struct archive *archive_fresh(void) {
    static struct archive a;
    memset(&a, 0, sizeof a);
    return &a;
}

fdm_dataset *archive_open(const struct archive *a, unsigned char **bytes,
                                 const fdm_dataset_options *options) {
    size_t n;
    fdm_dataset *set;
    fdm_error err;
    *bytes = archive_finished(a, &n);
    fdm_status status = fdm_dataset_parse(&set, *bytes, n, "set.zip", options, &err);
    ck_assert_msg(status == FDM_OK, "%s", err.message);
    return set;
}

struct archive *archive_of_two(const char *json) {
    struct archive *a = archive_fresh();
    archive_picture(a, "a.png", 1, 4, 4, 3);
    archive_picture(a, "b.png", 2, 4, 4, 3);
    if (json) archive_text(a, "dataset.json", json);
    return a;
}
