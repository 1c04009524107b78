/* png.h - 8-bit images: PNG files, and many images laid out as one. */
#ifndef FDM_PNG_H
#define FDM_PNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    FDM_PNG_MAX_SIDE = 1 << 15, /* pixels */
    FDM_PNG_MAX_BYTES = 1 << 28 /* width * height * channels */
};

/* 8-bit samples, (height, width, channels); channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA. */
typedef struct fdm_image {
    int width, height, channels;
    uint8_t *pixels; /* owned */
} fdm_image;

/* Frees the pixels and zeroes the struct; an all-zero image is fine. */
FDM_API void fdm_image_free(fdm_image *image);

/* Writes pixels of shape (height, width, channels), channels 1, 3 or 4.  The file appears whole or not at all.
 * Errors: FDM_BAD_USAGE (size or channels), FDM_NO_RESOURCE (not writable, disk full, out of memory). */
FDM_API fdm_status fdm_png_write(const char *path, const uint8_t *pixels, int width, int height, int channels,
                                 fdm_error *err);

/* Reads a PNG of any kind as 8-bit samples: 16-bit ones lose their low byte, palettes are expanded.  `channels`:
 * 0 as in the file, 1..4 to convert.  Free with fdm_image_free.
 * Everything is checked before decoding: checksums, chunk order, sizes (FDM_PNG_MAX_SIDE, FDM_PNG_MAX_BYTES), and
 * that the compressed data unpacks to just the image.
 * Errors, after which *out is all zeros: FDM_BAD_INPUT, FDM_NO_RESOURCE, FDM_BAD_USAGE (channels). */
FDM_API fdm_status fdm_png_read(fdm_image *out, const char *path, int channels, fdm_error *err);
/* The same from memory.  `label` names it in messages. */
FDM_API fdm_status fdm_png_parse(fdm_image *out, const void *bytes, size_t size, const char *label, int channels,
                                 fdm_error *err);

/* Lays `count` images of one size out row by row, `columns` to a row (0: about a square), with a black gap of two
 * pixels between neighbours and none around; missing places stay black.  `images` is (count, channels, height,
 * width) if `planar`, else (count, height, width, channels).  The grid is allocated in *grid; free with
 * fdm_image_free. Errors: FDM_BAD_USAGE (a size below 1, a grid beyond the limits above), FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_image_grid(fdm_image *grid, const uint8_t *images, int count, int channels, int height,
                                  int width, bool planar, int columns, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
