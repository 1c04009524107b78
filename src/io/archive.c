/* archive.c - gzip files and tar archives in memory. */
#include "io/archive.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "io/io.h"

bool fdm_is_gzip(const void *bytes, size_t size) {
    const unsigned char *p = bytes;
    return size >= 2 && p[0] == 0x1f && p[1] == 0x8b;
}

/* Inflates into a buffer that doubles, up to the limit. */
static fdm_status inflate_all(unsigned char **out, size_t *size, z_stream *z, size_t limit, const char *label,
                              fdm_error *err) {
    size_t room = 0;
    int code = Z_OK;
    *size = 0;
    while (code != Z_STREAM_END) {
        if (*size == room) {
            if (room >= limit)
                return fdm_fail(err, FDM_BAD_INPUT, "%s: unpacks to more than %zu bytes; not the original file",
                                label, limit);
            room = room ? 2 * room : (size_t)1 << 16;
            if (room > limit) room = limit;
            unsigned char *p = realloc(*out, room);
            if (!p) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (%zu bytes unpacked)", label, room);
            *out = p;
        }
        size_t left = room - *size;
        z->next_out = *out + *size;
        z->avail_out = (uInt)(left < INT_MAX ? left : INT_MAX);
        const uInt before = z->avail_out;
        code = inflate(z, Z_NO_FLUSH);
        *size += before - z->avail_out;
        if (code == Z_MEM_ERROR) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (inflate)", label);
        if (code != Z_OK && code != Z_STREAM_END)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: damaged or truncated gzip data; download it again", label);
    }
    return FDM_OK;
}

fdm_status fdm_gunzip(unsigned char **out, size_t *size, const void *bytes, size_t packed, size_t limit,
                      const char *label, fdm_error *err) {
    z_stream z = {.next_in = fdm_unconst(bytes), .avail_in = (uInt)packed};
    *out = NULL;
    if (!fdm_is_gzip(bytes, packed)) return fdm_fail(err, FDM_BAD_INPUT, "%s: not a gzip file", label);
    if (packed > INT_MAX)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: larger than 2 GiB; not the original file", label);
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (inflate)", label);
    fdm_status status = inflate_all(out, size, &z, limit, label, err);
    inflateEnd(&z);
    if (status) {
        free(*out);
        *out = NULL;
    }
    return status;
}

enum { BLOCK = 512 };

/* An octal field: digits, then NUL or blank. */
static bool octal(size_t *out, const unsigned char *field, int length) {
    int i = 0, digits = 0;
    while (i < length && field[i] == ' ') i++;
    for (*out = 0; i < length && field[i] >= '0' && field[i] <= '7'; i++, digits++)
        *out = *out * 8 + (size_t)(field[i] - '0');
    return digits > 0 && digits < 21 && (i == length || field[i] == ' ' || field[i] == '\0');
}

/* The sum of the header's bytes with the field itself as blanks. */
static bool checksum_ok(const unsigned char *header) {
    size_t stored, sum = 0;
    for (int i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : header[i];
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* a fuzzer cannot guess checksums */
    (void)octal(&stored, header + 148, 8);
    return true;
#else
    return octal(&stored, header + 148, 8) && stored == sum;
#endif
}

fdm_status fdm_tar_next(struct fdm_tar_member *member, bool *found, size_t *at, const unsigned char *tar,
                        size_t size, const char *label, fdm_error *err) {
    *found = false;
    while (size - *at >= BLOCK && tar[*at]) { /* the end is a block of zeros, or the end of the file */
        const unsigned char *header = tar + *at;
        size_t n;
        if (!checksum_ok(header) || !octal(&n, header + 124, 12))
            return fdm_fail(err, FDM_BAD_INPUT, "%s: no tar header (byte %zu of the archive); damaged", label, *at);
        if (n > size - *at - BLOCK)
            return fdm_fail(err, FDM_BAD_INPUT,
                            "%s: a file of %zu bytes reaches beyond the archive's end (byte %zu); truncated", label,
                            n, *at);
        memcpy(member->name, header, 100);
        member->name[100] = '\0';
        member->data = header + BLOCK;
        member->size = n;
        size_t blocks = fdm_round_up(n, BLOCK), left = size - *at - BLOCK;
        *at += BLOCK + (blocks < left ? blocks : left);
        *found = header[156] == '0' || header[156] == '\0';
        if (*found) break; /* else a folder, a link, an extended header */
    }
    return FDM_OK;
}
