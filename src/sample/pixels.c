/* pixels.c - from the sampler's state to bytes. */
#include "sample/internal.h"

static uint8_t pixel(double x) {
    double v = x * 127.5 + 128;
    if (!(v > 0)) return 0; /* NaN too */
    return v >= 255 ? 255 : (uint8_t)v;
}

void fdm_pixels_from_x(uint8_t *hwc, const double *x, int c, int h, int w) {
    const size_t plane = (size_t)h * (size_t)w;
    for (int k = 0; k < c; k++)
        for (size_t i = 0; i < plane; i++) hwc[i * (size_t)c + (size_t)k] = pixel(x[(size_t)k * plane + i]);
}
