/* fuzz_png.c - the PNG reader on arbitrary bytes (libFuzzer entry; see fuzz.mk).  The number of channels asked for
 * comes from the length of the input, so that files need no extra byte. */
#include "fdm/png.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fdm_image image;
    fdm_error err = {.status = FDM_OK};
    volatile unsigned sum = 0;
    fdm_status status = fdm_png_parse(&image, data, size, "fuzz", (int)(size % 5), &err);
    if (status && (!err.message[0] || strpbrk(err.message, "\n\r") || err.status != status || image.pixels))
        abort();
    size_t n = (size_t)image.width * (size_t)image.height * (size_t)image.channels;
    for (size_t i = 0; i < n; i++) sum = sum + image.pixels[i];
    fdm_image_free(&image);
    return 0;
}

#include "fuzz_stb.h"
