/* image_file.h - PNG and JPEG files in memory: what they hold, and their pixels; internal. */
#ifndef FDM_IO_IMAGE_FILE_H
#define FDM_IO_IMAGE_FILE_H

#include "base/base.h"
#include "fdm/png.h"

struct fdm_image_info {
    int width, height;
    int channels; /* as decoded: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA */
};

/* Looks at the headers alone: what lies behind them may still be damaged.  The kind shows in the first bytes, not
 * in the file's name.  Errors: FDM_BAD_INPUT. */
fdm_status fdm_image_probe(struct fdm_image_info *info, const void *bytes, size_t size, const char *label,
                           fdm_error *err);
/* Decodes with as many channels as the file has; see fdm_png_parse.  A JPEG must be baseline or progressive, gray
 * or of three components, and complete.  Errors, after which *out is all zeros: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_image_decode(fdm_image *out, const void *bytes, size_t size, const char *label, fdm_error *err);

/* To gray (1 channel) or RGB (3) from any of the four: transparency onto white, luma of ITU-R BT.601.  Errors, after which
 * the image is as before: FDM_NO_RESOURCE. */
fdm_status fdm_image_convert(fdm_image *image, int channels, fdm_error *err);

/* The PNG file that fdm_png_write writes, in memory: *size bytes at *file, for free().  Errors, after which *file
 * is NULL: FDM_BAD_USAGE (size or channels), FDM_NO_RESOURCE. */
fdm_status fdm_png_format(uint8_t **file, size_t *size, const uint8_t *pixels, int width, int height, int channels,
                          const char *label, fdm_error *err);

/* Probe and decode files known to be JPEG (jpeg_read.c). */
bool fdm_is_jpeg(const void *bytes, size_t size);
fdm_status fdm_jpeg_probe(struct fdm_image_info *info, const void *bytes, size_t size, const char *label,
                          fdm_error *err);
fdm_status fdm_jpeg_parse(fdm_image *out, const void *bytes, size_t size, const char *label, fdm_error *err);

#endif
