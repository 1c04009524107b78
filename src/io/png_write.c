/* png_write.c - PNG files: the five row filters by hand, compression by zlib.
 *
 * Why not stb's writer: its compressor asserts (ends the process) when it runs out of memory, and compiled into the
 * library it would bring writable globals along.
 */
#include "fdm/png.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "io/atomic_file.h"
#include "io/image_file.h"
#include "io/io.h"

enum { FILTERS = 5, LEVEL = 6 };

static int paeth(int a, int b, int c) {
    int p = a + b - c, pa = abs(p - a), pb = abs(p - b), pc = abs(p - c);
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* Row `filter` of PNG section 9.2: each byte minus its prediction from a (left), b (above), c (above left).
 * Returns the sum of |out| as signed bytes, the usual guess at how well the row will compress. */
static long filter_row(uint8_t *out, const uint8_t *row, const uint8_t *above, size_t n, size_t pixel, int filter) {
    long sum = 0;
    for (size_t i = 0; i < n; i++) {
        int a = i >= pixel ? row[i - pixel] : 0, b = above ? above[i] : 0;
        int c = i >= pixel && above ? above[i - pixel] : 0;
        int prediction[FILTERS] = {0, a, b, (a + b) / 2, paeth(a, b, c)};
        out[i] = (uint8_t)(row[i] - prediction[filter]);
        sum += abs((int8_t)out[i]);
    }
    return sum;
}

/* Every row with the filter that makes it smallest, its number in front.  `rows` holds height * (1 + row_bytes),
 * `trial` one row. */
static void filter_image(uint8_t *rows, uint8_t *trial, const uint8_t *pixels, size_t height, size_t row_bytes,
                         size_t pixel) {
    for (size_t y = 0; y < height; y++, rows += 1 + row_bytes) {
        const uint8_t *row = pixels + y * row_bytes, *above = y ? row - row_bytes : NULL;
        long best = 0;
        for (int f = 0; f < FILTERS; f++) {
            long sum = filter_row(trial, row, above, row_bytes, pixel, f);
            if (f > 0 && sum >= best) continue;
            best = sum;
            rows[0] = (uint8_t)f;
            memcpy(rows + 1, trial, row_bytes);
        }
    }
}

static void put_big_endian(uint8_t *out, uint32_t v) {
    for (int i = 0; i < 4; i++) out[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Appends a chunk at `out`; returns its end. */
static uint8_t *put_chunk(uint8_t *out, const char *type, const uint8_t *data, size_t n) {
    put_big_endian(out, (uint32_t)n);
    memcpy(out + 4, type, 4);
    if (n) memcpy(out + 8, data, n);
    put_big_endian(out + 8 + n, (uint32_t)crc32(0, out + 4, (uInt)n + 4));
    return out + 12 + n;
}

/* The whole file around the compressed rows, in `file`, which has room for 57 bytes more than they have. */
static size_t assemble(uint8_t *file, const uint8_t *packed, size_t packed_bytes, int width, int height,
                       int channels) {
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const uint8_t color_type[5] = {0, 0, 4, 2, 6};
    uint8_t header[13] = {[8] = 8, [9] = color_type[channels]}, *end = file + sizeof signature;
    memcpy(file, signature, sizeof signature);
    put_big_endian(header, (uint32_t)width);
    put_big_endian(header + 4, (uint32_t)height);
    end = put_chunk(end, "IHDR", header, sizeof header);
    end = put_chunk(end, "IDAT", packed, packed_bytes);
    return (size_t)(put_chunk(end, "IEND", NULL, 0) - file);
}

fdm_status fdm_png_format(uint8_t **file, size_t *size, const uint8_t *pixels, int width, int height, int channels,
                          const char *label, fdm_error *err) {
    *file = NULL;
    if (width < 1 || height < 1 || width > FDM_PNG_MAX_SIDE || height > FDM_PNG_MAX_SIDE || channels < 1 ||
        channels > 4 || channels == 2 || (int64_t)width * height * channels > FDM_PNG_MAX_BYTES)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: cannot write a PNG of %d x %d pixels, %d channels", label, width,
                        height, channels);
    size_t row_bytes = (size_t)width * (size_t)channels, raw = (size_t)height * (1 + row_bytes);
    uLongf packed_bytes = compressBound((uLong)raw);
    uint8_t *rows = malloc(raw), *trial = malloc(row_bytes), *packed = malloc(packed_bytes);
    *file = malloc(packed_bytes + 57);
    fdm_status status = rows && trial && packed && *file ? FDM_OK : FDM_NO_RESOURCE;
    if (!status) {
        filter_image(rows, trial, pixels, (size_t)height, row_bytes, (size_t)channels);
        if (compress2(packed, &packed_bytes, rows, (uLong)raw, LEVEL) != Z_OK) status = FDM_NO_RESOURCE;
    }
    if (!status)
        *size = assemble(*file, packed, packed_bytes, width, height, channels);
    else {
        fdm_fail(err, status, "%s: out of memory (PNG of %d x %d pixels)", label, width, height);
        free(*file);
        *file = NULL;
    }
    free(rows);
    free(trial);
    free(packed);
    return status;
}

fdm_status fdm_png_write(const char *path, const uint8_t *pixels, int width, int height, int channels,
                         fdm_error *err) {
    uint8_t *file;
    size_t size = 0;
    fdm_status status = fdm_png_format(&file, &size, pixels, width, height, channels, fdm_path_tail(path), err);
    if (!status) status = fdm_atomic_write_file(path, file, size, err);
    free(file);
    return status;
}
