/* png_write.c - PNG files through stb, with zlib as its compressor.
 *
 * stb's own compressor asserts when it runs out of memory; its hook lets zlib do that part, which reports it (and
 * packs better).  So the header is compiled here instead of linking libstb's copy.
 */
#include "fdm/png.h"

#include <stdlib.h>
#include <zlib.h>

#include "io/atomic_file.h"
#include "io/io.h"

/* stb's contract: memory for free(), its length in *packed_bytes; NULL on failure. */
static unsigned char *deflate_for_stb(unsigned char *bytes, int n, int *packed_bytes, int quality) {
    uLongf packed = compressBound((uLong)n);
    unsigned char *out = malloc(packed);
    if (!out) return NULL;
    if (compress2(out, &packed, bytes, (uLong)n, quality) != Z_OK) {
        free(out);
        return NULL;
    }
    *packed_bytes = (int)packed;
    return out;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBIW_ZLIB_COMPRESS deflate_for_stb
#include <stb_image_write.h>
#pragma GCC diagnostic pop

fdm_status fdm_png_write(const char *path, const uint8_t *pixels, int width, int height, int channels,
                         fdm_error *err) {
    if (width < 1 || height < 1 || width > FDM_PNG_MAX_SIDE || height > FDM_PNG_MAX_SIDE || channels < 1 ||
        channels > 4 || channels == 2 || (int64_t)width * height * channels > FDM_PNG_MAX_BYTES)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: cannot write a PNG of %d x %d pixels, %d channels",
                        fdm_path_tail(path), width, height, channels);
    int bytes = 0;
    unsigned char *png = stbi_write_png_to_mem(pixels, 0, width, height, channels, &bytes);
    if (!png)
        return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (PNG of %d x %d pixels)", fdm_path_tail(path), width,
                        height);
    fdm_status status = fdm_atomic_write_file(path, png, (size_t)bytes, err);
    free(png);
    return status;
}
