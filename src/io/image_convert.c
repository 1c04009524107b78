/* image_convert.c - gray and colour, with and without transparency. */
#include "io/image_file.h"

#include <stdlib.h>
#include <string.h>

/* Transparency onto white, then gray to RGB or back (ITU-R BT.601 luma, rounded). */
static void convert(uint8_t *out, const fdm_image *in, int channels) {
    const size_t pixels = (size_t)in->width * (size_t)in->height, step = (size_t)in->channels;
    const int colors = in->channels >= 3 ? 3 : 1;
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t *p = in->pixels + i * step;
        int v[3];
        for (int c = 0; c < 3; c++) {
            int alpha = in->channels % 2 ? 255 : p[step - 1];
            v[c] = (p[colors == 3 ? c : 0] * alpha + 255 * (255 - alpha) + 127) / 255;
        }
        if (channels == 1)
            *out++ = colors == 1 ? (uint8_t)v[0] : (uint8_t)((299 * v[0] + 587 * v[1] + 114 * v[2] + 500) / 1000);
        for (int c = 0; c < 3 && channels == 3; c++) *out++ = (uint8_t)v[c];
    }
}

fdm_status fdm_image_convert(fdm_image *image, int channels, fdm_error *err) {
    if (image->channels == channels) return FDM_OK;
    const size_t bytes = (size_t)image->width * (size_t)image->height * (size_t)channels;
    uint8_t *pixels = malloc(bytes);
    if (!pixels) return fdm_fail_oom(err, "converted image", bytes);
    convert(pixels, image, channels);
    free(image->pixels);
    image->pixels = pixels;
    image->channels = channels;
    return FDM_OK;
}
