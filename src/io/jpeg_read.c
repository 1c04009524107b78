/* jpeg_read.c - JPEG files through stb, behind checks of our own.
 *
 * stb takes a truncated file for a whole one, decodes as many scans as there are, and leaves the pixels of
 * components and restart intervals that are missing uninitialised.  So the markers (ITU T.81, annex B) are walked
 * first: every segment inside the file, one supported frame, tables that are sound and there when a scan needs
 * them, every component in a first scan, the right number of restart markers, and an end.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <stb_image.h>

#include "io/image_file.h"

enum {
    SOF0 = 0xc0,
    SOF1 = 0xc1,
    SOF2 = 0xc2,
    DHT = 0xc4,
    JPG = 0xc8,
    DAC = 0xcc,
    RST0 = 0xd0,
    SOI = 0xd8,
    EOI = 0xd9,
    SOS = 0xda,
    DQT = 0xdb,
    DNL = 0xdc,
    DRI = 0xdd,
    MAX_SCANS = 100,      /* ten are usual; each may cost as much as a whole image */
    FREE_BYTES = 1 << 20, /* that a file may always decode to, ... */
    MAX_RATIO = 2048      /* ... and beyond them this many times its size */
};

struct component {
    int id, h, v;  /* sampling factors */
    int quantiser; /* number of its table */
    bool started;  /* a scan has given its first DC values */
};

struct jpeg {
    const char *label;
    const unsigned char *bytes;
    size_t size, at;
    int width, height, components, scans, h_max, v_max;
    bool progressive, ended;
    size_t interval; /* MCUs between restart markers; 0: none */
    struct component component[3];
    bool quantisers[4], codes[2][4]; /* tables defined so far; codes: of DC, of AC */
    fdm_error *err;
};

static void complain(const struct jpeg *j, size_t at, const char *format, ...) FDM_PRINTF(3, 4);
static void complain(const struct jpeg *j, size_t at, const char *format, ...) {
    char why[160];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    fdm_fail(j->err, FDM_BAD_INPUT, "%s: %s (byte %zu); not a usable JPEG", j->label, why, at);
}
/* A macro, so that compilers and analysers see that it never means success. */
#define bad(...) (complain(__VA_ARGS__), FDM_BAD_INPUT)

static int get16(const unsigned char *p) { return p[0] << 8 | p[1]; }

static fdm_status read_frame(struct jpeg *j, const unsigned char *p, size_t n, size_t at) {
    if (j->width) return bad(j, at, "second frame header");
    if (n < 6 || n != 6 + 3 * (size_t)p[5]) return bad(j, at, "frame header of %zu bytes", n);
    if (p[0] != 8) return bad(j, at, "%d bits a sample; 8 are supported", p[0]);
    if (p[5] != 1 && p[5] != 3) return bad(j, at, "%d colour components; save it as gray or RGB", p[5]);
    j->height = get16(p + 1);
    j->width = get16(p + 3);
    j->components = p[5];
    if (!j->width || !j->height || j->width > FDM_PNG_MAX_SIDE || j->height > FDM_PNG_MAX_SIDE)
        return bad(j, at, "%d x %d pixels; 1 to %d each way are supported", j->width, j->height, FDM_PNG_MAX_SIDE);
    size_t decoded = (size_t)j->width * (size_t)j->height * (size_t)j->components;
    if (decoded > FDM_PNG_MAX_BYTES || (decoded > FREE_BYTES && (decoded - FREE_BYTES) / MAX_RATIO > j->size))
        return bad(j, at, "%d x %d pixels are too many for a file of %zu bytes", j->width, j->height, j->size);
    j->h_max = j->v_max = 1;
    for (int i = 0; i < j->components; i++) {
        const struct component c = {
            .id = p[6 + 3 * i], .h = p[7 + 3 * i] >> 4, .v = p[7 + 3 * i] & 15, .quantiser = p[8 + 3 * i]};
        if (c.quantiser > 3) return bad(j, at, "quantisation table %d", c.quantiser);
        if (c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4) return bad(j, at, "sampling factors %d x %d", c.h, c.v);
        for (int k = 0; k < i; k++)
            if (j->component[k].id == c.id) return bad(j, at, "two components named %d", c.id);
        j->h_max = fdm_max_int(j->h_max, c.h);
        j->v_max = fdm_max_int(j->v_max, c.v);
        j->component[i] = c;
    }
    return FDM_OK;
}

static fdm_status read_quantisers(struct jpeg *j, const unsigned char *p, size_t n, size_t at) {
    while (n > 0) {
        size_t bytes = 1 + (p[0] >> 4 ? 128 : 64);
        if (p[0] >> 4 > 1 || (p[0] & 15) > 3 || n < bytes) return bad(j, at, "damaged quantisation table");
        j->quantisers[p[0] & 15] = true;
        p += bytes;
        n -= bytes;
    }
    return FDM_OK;
}

/* Huffman codes: how many of each length from 1 to 16, then their symbols.  stb writes beyond its tables if there
 * are too many, and stops the process if 256 of them are short; real files have at most 176. */
static fdm_status read_codes(struct jpeg *j, const unsigned char *p, size_t n, size_t at) {
    while (n > 0) {
        size_t count = 0, free_codes = 1; /* of the length at hand */
        if (n < 17 || p[0] >> 4 > 1 || (p[0] & 15) > 3) return bad(j, at, "damaged Huffman table");
        for (int length = 1; length <= 16; length++) {
            free_codes *= 2;
            if (p[length] > free_codes) return bad(j, at, "more Huffman codes of %d bits than there are", length);
            free_codes -= p[length];
            count += p[length];
        }
        if (count > 255 || n < 17 + count) return bad(j, at, "Huffman table of %zu codes", count);
        j->codes[p[0] >> 4][p[0] & 15] = true;
        p += 17 + count;
        n -= 17 + count;
    }
    return FDM_OK;
}

/* Minimum coded units of a scan: 8x8 blocks of its component, or of all components together. */
static size_t units_of_scan(const struct jpeg *j, const struct component *only) {
    int w = 8 * j->h_max, h = 8 * j->v_max;
    if (!only) return (size_t)fdm_div_up(j->width, w) * (size_t)fdm_div_up(j->height, h);
    return (size_t)fdm_div_up(fdm_div_up(j->width * only->h, j->h_max), 8) *
           (size_t)fdm_div_up(fdm_div_up(j->height * only->v, j->v_max), 8);
}

/* The entropy-coded data behind a scan header: up to a marker that is none of its restart markers. */
static fdm_status skip_scan_data(struct jpeg *j, size_t units, size_t at) {
    size_t restarts = 0, expected = j->interval && units ? (units - 1) / j->interval : 0;
    for (;; j->at++) {
        if (j->size - j->at < 2) return bad(j, j->size, "truncated");
        if (j->bytes[j->at] != 0xff) continue;
        int marker = j->bytes[j->at + 1];
        if (marker >= RST0 && marker <= RST0 + 7) {
            if (marker != RST0 + (int)(restarts++ % 8)) return bad(j, j->at, "restart markers out of order");
        } else if (marker != 0 && marker != 0xff)
            break;
    }
    if (restarts != expected) return bad(j, at, "%zu restart markers instead of %zu", restarts, expected);
    return FDM_OK;
}

static fdm_status read_scan(struct jpeg *j, const unsigned char *p, size_t n, size_t at) {
    const struct component *only = NULL;
    if (!j->width) return bad(j, at, "a scan before the frame header");
    if (n < 1 || p[0] < 1 || p[0] > j->components || n != 4 + 2 * (size_t)p[0])
        return bad(j, at, "scan header of %zu bytes", n);
    if (++j->scans > MAX_SCANS) return bad(j, at, "more than %d scans", MAX_SCANS);
    int first = p[1 + 2 * p[0]], refine = p[3 + 2 * p[0]] >> 4;
    for (int i = 0; i < p[0]; i++) {
        int c = 0;
        while (c < j->components && j->component[c].id != p[1 + 2 * i]) c++;
        if (c == j->components) return bad(j, at, "a scan of an unknown component");
        bool start = !j->progressive || (first == 0 && refine == 0);
        if (!start && !j->component[c].started) return bad(j, at, "a scan refines what no scan has given");
        int dc = p[2 + 2 * i] >> 4, ac = p[2 + 2 * i] & 15;
        bool needs_dc = !j->progressive || (first == 0 && refine == 0), needs_ac = !j->progressive || first > 0;
        if (dc > 3 || ac > 3 || (needs_dc && !j->codes[0][dc]) || (needs_ac && !j->codes[1][ac]))
            return bad(j, at, "a scan whose Huffman tables are missing");
        if (!j->quantisers[j->component[c].quantiser])
            return bad(j, at, "a scan whose quantisation table is missing");
        j->component[c].started = true;
        only = p[0] == 1 ? &j->component[c] : NULL;
    }
    return skip_scan_data(j, units_of_scan(j, only), at);
}

static fdm_status read_segment(struct jpeg *j, int marker, const unsigned char *p, size_t n, size_t at) {
    if (marker == SOS) return read_scan(j, p, n, at);
    if (marker == SOF0 || marker == SOF1 || marker == SOF2) {
        j->progressive = marker == SOF2;
        return read_frame(j, p, n, at);
    }
    if (marker == DQT) return read_quantisers(j, p, n, at);
    if (marker == DHT) return read_codes(j, p, n, at);
    if (marker == DRI) {
        if (n != 2) return bad(j, at, "restart interval of %zu bytes", n);
        j->interval = (size_t)get16(p);
    }
    if (marker == DNL || marker == DAC || (marker > SOF2 && marker <= 0xcf && marker != DHT && marker != JPG))
        return bad(j, at, "a kind of JPEG that is not supported; save it as baseline or progressive");
    return FDM_OK;
}

/* Until the frame header, or (`whole`) the end of the image. */
static fdm_status walk(struct jpeg *j, bool whole) {
    fdm_status status = FDM_OK;
    j->at = 2;
    while (!status && !j->ended && (whole || !j->width)) {
        while (j->size - j->at >= 2 && j->bytes[j->at] == 0xff && j->bytes[j->at + 1] == 0xff) j->at++;
        if (j->size - j->at < 2) return bad(j, j->size, "truncated");
        const size_t at = j->at;
        int marker = j->bytes[at + 1];
        if (j->bytes[at] != 0xff || marker < SOF0 || (marker >= RST0 && marker <= SOI))
            return bad(j, at, "no marker here");
        j->at += 2;
        if ((j->ended = marker == EOI)) break;
        if (j->size - j->at < 2) return bad(j, j->size, "truncated");
        size_t length = (size_t)get16(j->bytes + j->at);
        if (length < 2 || length > j->size - j->at) return bad(j, at, "segment of %zu bytes; truncated", length);
        j->at += length;
        status = read_segment(j, marker, j->bytes + at + 4, length - 2, at);
    }
    if (status || !whole) return status;
    for (int i = 0; i < j->components; i++)
        if (!j->component[i].started) return bad(j, j->at, "no scan of component %d", j->component[i].id);
    return j->width ? FDM_OK : bad(j, j->at, "no image");
}

bool fdm_is_jpeg(const void *bytes, size_t size) {
    const unsigned char *p = bytes;
    return size >= 3 && p[0] == 0xff && p[1] == SOI && p[2] == 0xff;
}

static fdm_status begin(struct jpeg *j) {
    if (!fdm_is_jpeg(j->bytes, j->size)) return bad(j, 0, "no JPEG signature");
    return j->size > INT_MAX ? bad(j, 0, "larger than 2 GiB") : FDM_OK;
}

fdm_status fdm_jpeg_probe(struct fdm_image_info *info, const void *bytes, size_t size, const char *label,
                          fdm_error *err) {
    struct jpeg j = {.label = label, .bytes = bytes, .size = size, .err = err};
    fdm_status status = begin(&j);
    if (!status) status = walk(&j, false);
    if (!status && !j.width) status = bad(&j, j.at, "no image");
    if (!status) *info = (struct fdm_image_info){j.width, j.height, j.components};
    return status;
}

fdm_status fdm_jpeg_parse(fdm_image *out, const void *bytes, size_t size, const char *label, fdm_error *err) {
    struct jpeg j = {.label = label, .bytes = bytes, .size = size, .err = err};
    int w = 0, h = 0, in_file = 0;
    memset(out, 0, sizeof *out);
    fdm_status status = begin(&j);
    if (!status) status = walk(&j, true);
    if (status) return status;
    out->pixels = stbi_load_from_memory(bytes, (int)size, &w, &h, &in_file, j.components);
    if (!out->pixels) {
        const char *why = stbi_failure_reason();
        bool memory = why && strcmp(why, "outofmem") == 0;
        return fdm_fail(err, memory ? FDM_NO_RESOURCE : FDM_BAD_INPUT, "%s: cannot decode JPEG: %s; damaged", label,
                        why ? why : "unknown reason");
    }
    out->width = w;
    out->height = h;
    out->channels = j.components;
    return FDM_OK;
}
