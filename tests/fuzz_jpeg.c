/* fuzz_jpeg.c - the JPEG reader on arbitrary bytes (libFuzzer entry; see fuzz.mk). */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/image_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fdm_image image;
    struct fdm_image_info info;
    volatile unsigned sum = 0;
    fdm_error err = {.status = FDM_OK};
    const fdm_status status = fdm_image_decode(&image, data, size, "fuzz", &err);
    if (status && (!err.message[0] || strpbrk(err.message, "\n\r") || err.status != status || image.pixels)) abort();
    if (!status && (fdm_image_probe(&info, data, size, "fuzz", &err) || info.width != image.width ||
                    info.height != image.height || info.channels != image.channels))
        abort();
    const size_t n = (size_t)image.width * (size_t)image.height * (size_t)image.channels;
    for (size_t i = 0; i < n; i++) sum = sum + image.pixels[i];
    fdm_image_free(&image);
    return 0;
}

#include "fuzz_stb.h"
