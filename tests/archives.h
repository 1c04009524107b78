/* archives.h - test helper: zip archives of any kind, broken ones too, and pictures whose pixels are known. */
#ifndef FDM_TESTS_ARCHIVES_H
#define FDM_TESTS_ARCHIVES_H

#include <stddef.h>
#include <stdint.h>

#include "fdm/dataset.h"

struct archive {
    unsigned char bytes[1 << 18], central[1 << 14];
    size_t n, directory, count, last; /* last: where the last member's central header starts */
};

struct archive *archive_fresh(void); /* an empty one; there is only one at a time */
void archive_member(struct archive *a, const char *name, const void *bytes, size_t n);
void archive_member_deflated(struct archive *a, const char *name, const void *bytes, size_t n);
/* `packed` as it lies in the file, with these claims about it. */
void archive_member_raw(struct archive *a, const char *name, const void *packed, size_t n, size_t unpacked, uint32_t crc,
                        int method, int flags);
void archive_text(struct archive *a, const char *name, const char *s);
void archive_picture(struct archive *a, const char *name, int seed, int width, int height, int channels);
/* One of a.png and b.png (4x4 RGB) and, if there is one, dataset.json. */
struct archive *archive_of_two(const char *json);
size_t archive_last_header(const struct archive *a); /* where the last member's local header starts */
void archive_put(unsigned char *p, uint64_t v, int size); /* little-endian */
/* The finished archive, exactly its size, so that ASan sees every overrun; free(). */
unsigned char *archive_finished(const struct archive *a, size_t *n);
/* The data set in it; *bytes, which it reads from, is freed after it. */
fdm_dataset *archive_open(const struct archive *a, unsigned char **bytes, const fdm_dataset_options *options);

/* The pixel of archive_picture at (c, y, x) of image `seed`; the picture as a PNG, free(). */
uint8_t picture_pixel(int seed, int c, int y, int x);
uint8_t *picture_png(size_t *n, int seed, int width, int height, int channels);

#endif
