/* image_file.c - PNG or JPEG: what a file holds, and its pixels. */
#include "io/image_file.h"

#include <string.h>

static uint32_t big_endian(const unsigned char *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* The header, and whether a tRNS chunk before the image data adds an alpha channel.  Anything that is wrong beyond
 * that is for fdm_png_parse to say. */
static fdm_status probe_png(struct fdm_image_info *info, const unsigned char *p, size_t size, const char *label,
                            fdm_error *err) {
    static const unsigned char start[16] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n',
                                            0,    0,   0,   13,  'I',  'H',  'D',  'R'};
    if (size < 33 || memcmp(p, start, sizeof start) != 0)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: neither a PNG nor a JPEG file; damaged?", label);
    uint32_t width = big_endian(p + 16), height = big_endian(p + 20);
    int color = p[25];
    if (width == 0 || height == 0 || width > FDM_PNG_MAX_SIDE || height > FDM_PNG_MAX_SIDE)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: %u x %u pixels; 1 to %d each way are supported", label, width,
                        height, FDM_PNG_MAX_SIDE);
    *info = (struct fdm_image_info){(int)width, (int)height, color == 0 ? 1 : color == 4 ? 2 : color == 6 ? 4 : 3};
    for (size_t at = 33; size - at >= 12;) {
        uint32_t length = big_endian(p + at);
        if (length > size - at - 12 || memcmp(p + at + 4, "IDAT", 4) == 0) break;
        if (memcmp(p + at + 4, "tRNS", 4) == 0 && info->channels % 2) info->channels++;
        at += 12 + (size_t)length;
    }
    return FDM_OK;
}

fdm_status fdm_image_probe(struct fdm_image_info *info, const void *bytes, size_t size, const char *label,
                           fdm_error *err) {
    if (fdm_is_jpeg(bytes, size)) return fdm_jpeg_probe(info, bytes, size, label, err);
    return probe_png(info, bytes, size, label, err);
}

fdm_status fdm_image_decode(fdm_image *out, const void *bytes, size_t size, const char *label, fdm_error *err) {
    if (fdm_is_jpeg(bytes, size)) return fdm_jpeg_parse(out, bytes, size, label, err);
    return fdm_png_parse(out, bytes, size, label, 0, err);
}
