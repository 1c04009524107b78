/* image_grid.c - many images as one. */
#include "fdm/png.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"

enum { GAP = 2 };

/* Smallest c with c*c >= n. */
static int square_columns(int n) {
    int c = 1;
    while (c < n / c + (n % c != 0)) c++;
    return c;
}

static void place(uint8_t *out, size_t row_bytes, const uint8_t *image, const fdm_image *one, bool planar) {
    size_t c_step = planar ? (size_t)one->height * (size_t)one->width : 1;
    size_t x_step = planar ? 1 : (size_t)one->channels;
    for (int y = 0; y < one->height; y++) {
        uint8_t *o = out + (size_t)y * row_bytes;
        const uint8_t *i = image + (size_t)y * (size_t)one->width * x_step;
        for (int x = 0; x < one->width; x++)
            for (int c = 0; c < one->channels; c++) *o++ = i[(size_t)x * x_step + (size_t)c * c_step];
    }
}

fdm_status fdm_image_grid(fdm_image *grid, const uint8_t *images, int count, int channels, int height, int width,
                          bool planar, int columns, fdm_error *err) {
    memset(grid, 0, sizeof *grid);
    if (count < 1 || channels < 1 || channels > 4 || height < 1 || width < 1 || columns < 0)
        return fdm_fail(err, FDM_BAD_USAGE, "image grid of %d images, %d x %d x %d in %d columns", count, channels,
                        height, width, columns);
    if (columns == 0) columns = square_columns(count);
    columns = fdm_min_int(columns, count);
    int rows = (count - 1) / columns + 1;
    int64_t w = (int64_t)columns * width + (int64_t)(columns - 1) * GAP;
    int64_t h = (int64_t)rows * height + (int64_t)(rows - 1) * GAP;
    if (w > FDM_PNG_MAX_SIDE || h > FDM_PNG_MAX_SIDE || w * h * channels > FDM_PNG_MAX_BYTES)
        return fdm_fail(err, FDM_BAD_USAGE, "a grid of %d images is too large for one picture; use fewer", count);
    grid->pixels = calloc((size_t)(w * h * channels), 1);
    if (!grid->pixels) return fdm_fail_oom(err, "image grid", (size_t)(w * h * channels));
    grid->width = (int)w;
    grid->height = (int)h;
    grid->channels = channels;
    fdm_image one = {.width = width, .height = height, .channels = channels};
    size_t row_bytes = (size_t)w * (size_t)channels,
           image_bytes = (size_t)channels * (size_t)height * (size_t)width;
    for (int i = 0; i < count; i++) {
        size_t x = (size_t)(i % columns) * (size_t)(width + GAP),
               y = (size_t)(i / columns) * (size_t)(height + GAP);
        place(grid->pixels + y * row_bytes + x * (size_t)channels, row_bytes, images + (size_t)i * image_bytes,
              &one, planar);
    }
    return FDM_OK;
}

void fdm_image_free(fdm_image *image) {
    free(image->pixels);
    memset(image, 0, sizeof *image);
}
