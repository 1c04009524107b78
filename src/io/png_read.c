/* png_read.c - PNG files through stb, behind checks of our own.
 *
 * stb ignores checksums, unpacks as much as the compressed data asks for, and leaves palette entries that a file
 * uses but does not define uninitialised.  So the chunks are walked first, the data is unpacked once by zlib
 * without being kept, and short palettes are filled up; stb then decodes a file that is known to be sane.
 */
#include "fdm/png.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <stb_image.h>

#include "io/io.h"

enum { SIGNATURE = 8, CHUNK_OVERHEAD = 12, PALETTE = 3 };

struct png {
    const char *label;
    const unsigned char *bytes;
    size_t size;
    uint32_t width, height;
    int depth, color, samples; /* bits per sample, colour type, samples per pixel in the file */
    bool interlaced;
    size_t end;     /* after IEND */
    size_t palette; /* position of the PLTE chunk, 0 if none */
    size_t palette_bytes;
    size_t raw_bytes; /* unpacked image data, filter bytes included */
    size_t unpacked;  /* so far */
    z_stream inflater;
    bool have_data, data_done;
    fdm_error *err;
};

static void complain(const struct png *p, size_t at, const char *format, ...) FDM_PRINTF(3, 4);
static void complain(const struct png *p, size_t at, const char *format, ...) {
    char why[160];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    fdm_fail(p->err, FDM_BAD_INPUT, "%s: %s (byte %zu); not a usable PNG", p->label, why, at);
}
/* A macro, so that compilers and analysers see that it never means success. */
#define bad(...) (complain(__VA_ARGS__), FDM_BAD_INPUT)

static uint32_t big_endian(const unsigned char *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Bytes of `rows` rows of `columns` pixels, each row with its filter byte. */
static size_t packed_rows(const struct png *p, size_t columns, size_t rows) {
    if (columns == 0 || rows == 0) return 0;
    return rows * (1 + (columns * (size_t)(p->samples * p->depth) + 7) / 8);
}

/* The image's unpacked size; interlaced (Adam7) files hold seven reduced images. */
static size_t unpacked_size(const struct png *p) {
    static const unsigned char x0[] = {0, 4, 0, 2, 0, 1, 0}, y0[] = {0, 0, 4, 0, 2, 0, 1};
    static const unsigned char dx[] = {8, 8, 4, 4, 2, 2, 1}, dy[] = {8, 8, 8, 4, 4, 2, 2};
    size_t total = 0;
    if (!p->interlaced) return packed_rows(p, p->width, p->height);
    for (int i = 0; i < 7; i++)
        total += packed_rows(p, ((size_t)p->width + dx[i] - 1 - x0[i]) / dx[i],
                             ((size_t)p->height + dy[i] - 1 - y0[i]) / dy[i]);
    return total;
}

static fdm_status read_header(struct png *p, const unsigned char *d, uint32_t length, size_t at) {
    static const signed char samples[] = {1, -1, 3, 1, 2, -1, 4};
    if (p->width) return bad(p, at, "second IHDR");
    if (length != 13) return bad(p, at, "IHDR of %u bytes", length);
    p->width = big_endian(d);
    p->height = big_endian(d + 4);
    p->depth = d[8];
    p->color = d[9];
    p->samples = p->color <= 6 ? samples[p->color] : -1;
    p->interlaced = d[12] == 1;
    if (p->width == 0 || p->height == 0 || p->width > FDM_PNG_MAX_SIDE || p->height > FDM_PNG_MAX_SIDE)
        return bad(p, at, "%u x %u pixels; 1 to %d each way are supported", p->width, p->height, FDM_PNG_MAX_SIDE);
    bool narrow = p->depth == 1 || p->depth == 2 || p->depth == 4;
    if (p->samples < 0 || !(p->depth == 8 || (p->depth == 16 && p->color != PALETTE) ||
                            (narrow && (p->color == 0 || p->color == PALETTE))))
        return bad(p, at, "colour type %d with %d bits", p->color, p->depth);
    if (d[10] != 0 || d[11] != 0 || d[12] > 1) return bad(p, at, "unknown compression, filter or interlace method");
    size_t decoded = (size_t)p->width * p->height * (p->color == PALETTE ? 4u : (size_t)p->samples);
    if (decoded > FDM_PNG_MAX_BYTES) return bad(p, at, "%u x %u pixels are too many", p->width, p->height);
    p->raw_bytes = unpacked_size(p);
    return FDM_OK;
}

/* Unpacks the next piece of image data to count its bytes and check its checksum; nothing is kept. */
static fdm_status read_data(struct png *p, const unsigned char *d, uint32_t length, size_t at) {
    unsigned char scratch[4096];
    p->have_data = true;
    p->inflater.next_in = fdm_unconst(d);
    p->inflater.avail_in = length;
    while (!p->data_done && p->inflater.avail_in > 0) {
        p->inflater.next_out = scratch;
        p->inflater.avail_out = sizeof scratch;
        int code = inflate(&p->inflater, Z_NO_FLUSH);
        p->unpacked += sizeof scratch - p->inflater.avail_out;
        if (code == Z_MEM_ERROR) return fdm_fail(p->err, FDM_NO_RESOURCE, "%s: out of memory (inflate)", p->label);
        if (code != Z_OK && code != Z_STREAM_END) return bad(p, at, "damaged compressed data");
        if (p->unpacked > p->raw_bytes) return bad(p, at, "more compressed data than the image holds");
        p->data_done = code == Z_STREAM_END;
    }
    return FDM_OK;
}

static fdm_status read_palette(struct png *p, uint32_t length, size_t at) {
    if (p->palette || p->have_data) return bad(p, at, "misplaced PLTE");
    if (length == 0 || length % 3 || length > 768) return bad(p, at, "PLTE of %u bytes", length);
    p->palette = at;
    p->palette_bytes = length;
    return FDM_OK;
}

static fdm_status read_chunk(struct png *p, size_t at, uint32_t length) {
    const unsigned char *type = p->bytes + at + 4, *data = type + 4;
    if (!p->width && memcmp(type, "IHDR", 4) != 0) return bad(p, at, "does not start with IHDR");
    if (memcmp(type, "IHDR", 4) == 0) return read_header(p, data, length, at);
    if (memcmp(type, "PLTE", 4) == 0) return read_palette(p, length, at);
    if (memcmp(type, "IDAT", 4) == 0) {
        if (p->color == PALETTE && !p->palette) return bad(p, at, "no PLTE before the image data");
        return read_data(p, data, length, at);
    }
    if (memcmp(type, "IEND", 4) == 0) {
        if (!p->data_done || p->unpacked != p->raw_bytes) return bad(p, at, "the image data is incomplete");
        p->end = at + CHUNK_OVERHEAD + length;
        return FDM_OK;
    }
    if (!(type[0] & 0x20)) return bad(p, at, "unknown critical chunk %.4s", (const char *)type);
    return FDM_OK;
}

static bool checksum_ok(const unsigned char *type, uint32_t length) {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    (void)type, (void)length; /* a fuzzer cannot guess checksums */
    return true;
#else
    return crc32(0, type, (uInt)length + 4) == big_endian(type + 4 + length);
#endif
}

static fdm_status walk_chunks(struct png *p) {
    static const unsigned char signature[SIGNATURE] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (p->size < SIGNATURE || memcmp(p->bytes, signature, SIGNATURE) != 0) return bad(p, 0, "no PNG signature");
    for (size_t at = SIGNATURE; !p->end;) {
        if (p->size - at < CHUNK_OVERHEAD) return bad(p, at, "truncated");
        uint32_t length = big_endian(p->bytes + at);
        if (length > p->size - at - CHUNK_OVERHEAD) return bad(p, at, "chunk of %u bytes; truncated", length);
        if (!checksum_ok(p->bytes + at + 4, length)) return bad(p, at, "checksum error in a chunk");
        fdm_status status = read_chunk(p, at, length);
        if (status) return status;
        at += CHUNK_OVERHEAD + length;
    }
    return FDM_OK;
}

/* The file with its palette filled up to 256 black entries; NULL if out of memory. */
static unsigned char *fill_palette(const struct png *p, size_t *size) {
    size_t head = p->palette, rest = p->palette + 8 + p->palette_bytes, fill = 768 - p->palette_bytes;
    unsigned char *copy = calloc(p->end + fill, 1);
    if (!copy) return NULL;
    memcpy(copy, p->bytes, rest);
    copy[head + 2] = 768 >> 8;
    copy[head + 3] = 768 & 0xff;
    memcpy(copy + rest + fill, p->bytes + rest, p->end - rest);
    *size = p->end + fill;
    return copy;
}

static fdm_status decode(fdm_image *out, const struct png *p, int channels) {
    unsigned char *filled = NULL;
    const unsigned char *bytes = p->bytes;
    size_t size = p->end;
    int w = 0, h = 0, in_file = 0;
    if (p->color == PALETTE && p->palette_bytes < 768) {
        if (!(filled = fill_palette(p, &size))) return fdm_fail_oom(p->err, "PNG", p->end);
        bytes = filled;
    }
    out->pixels = size > INT_MAX ? NULL : stbi_load_from_memory(bytes, (int)size, &w, &h, &in_file, channels);
    free(filled);
    if (!out->pixels) {
        const char *why = size > INT_MAX ? "larger than 2 GiB" : stbi_failure_reason();
        bool memory = why && strcmp(why, "outofmem") == 0;
        return fdm_fail(p->err, memory ? FDM_NO_RESOURCE : FDM_BAD_INPUT, "%s: cannot decode PNG: %s", p->label,
                        why ? why : "unknown reason");
    }
    out->width = w;
    out->height = h;
    out->channels = channels ? channels : in_file;
    return FDM_OK;
}

fdm_status fdm_png_parse(fdm_image *out, const void *bytes, size_t size, const char *label, int channels,
                         fdm_error *err) {
    struct png p = {.label = label, .bytes = bytes, .size = size, .err = err};
    memset(out, 0, sizeof *out);
    if (channels < 0 || channels > 4)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: %d channels asked for", label, channels);
    if (inflateInit(&p.inflater) != Z_OK)
        return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (inflate)", label);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    inflateValidate(&p.inflater, 0); /* as in checksum_ok */
#endif
    fdm_status status = walk_chunks(&p);
    inflateEnd(&p.inflater);
    return status ? status : decode(out, &p, channels);
}

fdm_status fdm_png_read(fdm_image *out, const char *path, int channels, fdm_error *err) {
    struct fdm_file_map map;
    memset(out, 0, sizeof *out);
    fdm_status status = fdm_file_map_open(&map, path, err);
    if (status) return status;
    status = fdm_png_parse(out, map.bytes, map.size, fdm_path_tail(path), channels, err);
    fdm_file_map_close(&map);
    return status;
}
