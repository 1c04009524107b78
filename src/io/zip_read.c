/* zip_read.c - a strict reader of zip archives (PKWARE APPNOTE 6.3, section 4.3 and 4.5.3). */
#include "io/zip_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "io/text.h"

enum {
    END_BYTES = 22,     /* end of central directory, without its comment */
    LOCATOR_BYTES = 20, /* zip64 locator, just before it */
    END64_BYTES = 56,   /* zip64 end record, just before that */
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    FLAG_ENCRYPTED = 1 | 1 << 6 | 1 << 13,
    FLAG_SIZES_FOLLOW = 1 << 3, /* the local header knows no sizes; the directory does */
    STORED = 0,
    DEFLATED = 8,
    MAX_EXPANSION = 1032 /* of deflate */
};
#define SIG_END 0x06054b50u
#define SIG_LOCATOR 0x07064b50u
#define SIG_END64 0x06064b50u
#define SIG_CENTRAL 0x02014b50u
#define SIG_LOCAL 0x04034b50u
#define MAX32 0xffffffffu

/* Where the directory is. */
struct directory {
    size_t at, bytes, count;
};

static void complain(const struct fdm_zip *zip, const char *member, size_t at, fdm_error *err, const char *format,
                     ...) FDM_PRINTF(5, 6);
static void complain(const struct fdm_zip *zip, const char *member, size_t at, fdm_error *err, const char *format,
                     ...) {
    char why[160];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (!member)
        fdm_fail(err, FDM_BAD_INPUT, "%s: %s (byte %zu); not a usable zip archive", zip->label, why, at);
    else
        fdm_fail(err, FDM_BAD_INPUT, "%s: member \"%.100s\": %s (byte %zu); not a usable zip archive", zip->label,
                 member, why, at);
}
/* A macro, so that compilers and analysers see that it never means success. */
#define bad(...) (complain(__VA_ARGS__), FDM_BAD_INPUT)

static uint64_t get(const unsigned char *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* The end record is the last one whose comment reaches exactly to the end of the file. */
static bool find_end(size_t *at, const struct fdm_zip *zip) {
    if (zip->size < END_BYTES) return false;
    size_t first = zip->size > END_BYTES + 0xffff ? zip->size - END_BYTES - 0xffff : 0;
    for (size_t i = zip->size - END_BYTES + 1; i-- > first;) {
        if (get(zip->bytes + i, 4) != SIG_END || i + END_BYTES + get(zip->bytes + i + 20, 2) != zip->size) continue;
        *at = i;
        return true;
    }
    return false;
}

static fdm_status read_end64(struct directory *d, const struct fdm_zip *zip, size_t *end, fdm_error *err) {
    size_t locator = *end - LOCATOR_BYTES;
    uint64_t at = get(zip->bytes + locator + 8, 8);
    if (locator < END64_BYTES || at != locator - END64_BYTES || get(zip->bytes + at, 4) != SIG_END64 ||
        get(zip->bytes + at + 4, 8) != END64_BYTES - 12)
        return bad(zip, NULL, locator, err, "misplaced zip64 end record");
    const unsigned char *p = zip->bytes + at;
    if (get(p + 16, 4) || get(p + 20, 4) || get(p + 24, 8) != get(p + 32, 8))
        return bad(zip, NULL, (size_t)at, err, "part of a multi-volume archive");
    if (get(p + 32, 8) > SIZE_MAX || get(p + 40, 8) > SIZE_MAX || get(p + 48, 8) > SIZE_MAX)
        return bad(zip, NULL, (size_t)at, err, "impossible sizes in the zip64 end record");
    *d = (struct directory){
        .count = (size_t)get(p + 32, 8), .bytes = (size_t)get(p + 40, 8), .at = (size_t)get(p + 48, 8)};
    *end = (size_t)at;
    return FDM_OK;
}

static fdm_status read_end(struct directory *d, const struct fdm_zip *zip, fdm_error *err) {
    size_t end;
    if (zip->size == 0) return bad(zip, NULL, 0, err, "empty file");
    if (!find_end(&end, zip)) return bad(zip, NULL, zip->size, err, "no zip directory at the end; truncated?");
    const unsigned char *p = zip->bytes + end;
    if (end >= LOCATOR_BYTES && get(p - LOCATOR_BYTES, 4) == SIG_LOCATOR) {
        fdm_status status = read_end64(d, zip, &end, err);
        if (status) return status;
    } else {
        if (get(p + 4, 2) || get(p + 6, 2) || get(p + 8, 2) != get(p + 10, 2))
            return bad(zip, NULL, end, err, "part of a multi-volume archive");
        *d = (struct directory){.count = get(p + 10, 2), .bytes = get(p + 12, 4), .at = get(p + 16, 4)};
    }
    if (d->bytes > end || d->at != end - d->bytes)
        return bad(zip, NULL, end, err, "the directory (%zu bytes at %zu) does not end here", d->bytes, d->at);
    if (d->count > d->bytes / CENTRAL_BYTES)
        return bad(zip, NULL, end, err, "%zu members do not fit a directory of %zu bytes", d->count, d->bytes);
    return FDM_OK;
}

/* Replaces the values that a header could not hold (all ones) by those of its zip64 field, in their order. */
static bool read_zip64_field(uint64_t *const values[], int count, const unsigned char *extra, size_t extra_bytes) {
    size_t at = 0;
    bool needed = false;
    for (int i = 0; i < count; i++) needed = needed || *values[i] == MAX32;
    if (!needed) return true;
    while (extra_bytes - at >= 4) {
        size_t id = get(extra + at, 2), n = get(extra + at + 2, 2);
        at += 4;
        if (n > extra_bytes - at) return false;
        for (int i = 0; id == 1 && i < count; i++) {
            if (*values[i] != MAX32) continue;
            if (n < 8) return false;
            *values[i] = get(extra + at, 8);
            at += 8;
            n -= 8;
        }
        if (id == 1) return true;
        at += n;
    }
    return false;
}

/* The local header must say what the directory said. */
static fdm_status read_local(struct fdm_zip_member *m, const struct fdm_zip *zip, const unsigned char *central,
                             size_t limit, fdm_error *err) {
    const unsigned char *p = zip->bytes + m->header;
    size_t name_bytes = strlen(m->name);
    if (m->header > limit || limit - m->header < LOCAL_BYTES || get(p, 4) != SIG_LOCAL)
        return bad(zip, m->name, m->header, err, "no local header");
    size_t head = LOCAL_BYTES + get(p + 26, 2) + get(p + 28, 2), room = limit - m->header;
    if (head > room || get(p + 26, 2) != name_bytes || memcmp(p + LOCAL_BYTES, m->name, name_bytes) != 0)
        return bad(zip, m->name, m->header, err, "its local header has another name");
    if (get(p + 8, 2) != get(central + 10, 2) || get(p + 6, 2) != get(central + 8, 2))
        return bad(zip, m->name, m->header, err, "its local header has another method");
    uint64_t packed = get(p + 18, 4), unpacked = get(p + 22, 4);
    uint64_t *const sizes[] = {&unpacked, &packed};
    if (!(get(p + 6, 2) & FLAG_SIZES_FOLLOW)) {
        if (!read_zip64_field(sizes, 2, p + LOCAL_BYTES + name_bytes, get(p + 28, 2)) || packed != m->packed ||
            unpacked != m->unpacked || get(p + 14, 4) != m->crc)
            return bad(zip, m->name, m->header, err, "its local header has other sizes or another checksum");
    }
    if (m->packed > room - head) return bad(zip, m->name, m->header, err, "its data reaches into the directory");
    m->at = m->header + head;
    return FDM_OK;
}

/* Method, flags and sizes that make sense together. */
static fdm_status check_member(const struct fdm_zip *zip, const struct fdm_zip_member *m,
                               const unsigned char *central, fdm_error *err) {
    size_t at = (size_t)(central - zip->bytes);
    uint64_t method = get(central + 10, 2);
    if (get(central + 8, 2) & FLAG_ENCRYPTED) return bad(zip, m->name, at, err, "is encrypted");
    if (method != STORED && method != DEFLATED)
        return bad(zip, m->name, at, err, "compression method %d; stored and deflated are supported", (int)method);
    if (method == STORED && m->packed != m->unpacked) return bad(zip, m->name, at, err, "stored in two sizes");
    if (method == DEFLATED && m->unpacked / MAX_EXPANSION > m->packed)
        return bad(zip, m->name, at, err, "claims to unpack from %zu to %zu bytes (a zip bomb?)", m->packed,
                   m->unpacked);
    return FDM_OK;
}

/* One entry of the directory at `at`; *next is behind it, *names_used counts the name kept. */
static fdm_status read_central(struct fdm_zip *zip, struct fdm_zip_member *m, size_t at, const struct directory *d,
                               size_t *next, size_t *names_used, fdm_error *err) {
    const unsigned char *p = zip->bytes + at;
    size_t room = d->at + d->bytes - at;
    if (room < CENTRAL_BYTES || get(p, 4) != SIG_CENTRAL) return bad(zip, NULL, at, err, "no directory entry");
    size_t name_bytes = get(p + 28, 2), extra_bytes = get(p + 30, 2);
    size_t total = CENTRAL_BYTES + name_bytes + extra_bytes + get(p + 32, 2);
    if (total > room) return bad(zip, NULL, at, err, "a directory entry is cut off");
    char *name = zip->names + *names_used;
    memcpy(name, p + CENTRAL_BYTES, name_bytes);
    name[name_bytes] = '\0';
    *names_used += name_bytes + 1;
    *next = at + total;
    if (strlen(name) != name_bytes || !fdm_utf8_valid(name))
        return bad(zip, NULL, at, err, "a name is not UTF-8 text");
    uint64_t packed = get(p + 20, 4), unpacked = get(p + 24, 4), header = get(p + 42, 4);
    uint64_t *const wide[] = {&unpacked, &packed, &header};
    if (!read_zip64_field(wide, 3, p + CENTRAL_BYTES + name_bytes, extra_bytes))
        return bad(zip, name, at, err, "bad zip64 field");
    if (packed > zip->size || header > zip->size || unpacked > PTRDIFF_MAX)
        return bad(zip, name, at, err, "sizes or position beyond the file");
    *m = (struct fdm_zip_member){.name = name,
                                 .header = (size_t)header,
                                 .packed = (size_t)packed,
                                 .unpacked = (size_t)unpacked,
                                 .crc = (uint32_t)get(p + 16, 4),
                                 .deflated = get(p + 10, 2) == DEFLATED};
    fdm_status status = check_member(zip, m, p, err);
    return status ? status : read_local(m, zip, p, d->at, err);
}

struct span {
    size_t begin, end;
    const char *name;
};

static int by_position(const void *a, const void *b) {
    const struct span *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static fdm_status check_overlap(const struct fdm_zip *zip, fdm_error *err) {
    fdm_status status = FDM_OK;
    struct span *spans = malloc((zip->count + 1) * sizeof *spans); /* the members' own table is larger */
    if (!spans) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (%zu members)", zip->label, zip->count);
    for (size_t i = 0; i < zip->count; i++) {
        const struct fdm_zip_member *m = &zip->members[i];
        spans[i] = (struct span){m->header, m->at + m->packed, m->name};
    }
    qsort(spans, zip->count, sizeof *spans, by_position);
    for (size_t i = 1; i < zip->count && !status; i++)
        if (spans[i].begin < spans[i - 1].end)
            status = bad(zip, spans[i].name, spans[i].begin, err, "shares bytes with another member");
    free(spans);
    return status;
}

fdm_status fdm_zip_open(struct fdm_zip *zip, const void *bytes, size_t size, const char *label, fdm_error *err) {
    struct directory d = {0};
    *zip = (struct fdm_zip){.label = label, .bytes = bytes, .size = size};
    fdm_status status = read_end(&d, zip, err);
    if (status) return status;
    zip->members = calloc(d.count + 1, sizeof *zip->members); /* count is bounded by the file's size */
    zip->names = malloc(d.bytes + 1);                            /* a name and its NUL are shorter than its entry */
    if (!zip->members || !zip->names) {
        fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (%zu members)", label, d.count);
        status = FDM_NO_RESOURCE;
    }
    size_t at = d.at, names_used = 0;
    for (; zip->count < d.count && !status; zip->count++)
        status = read_central(zip, &zip->members[zip->count], at, &d, &at, &names_used, err);
    if (!status && at != d.at + d.bytes)
        status = bad(zip, NULL, at, err, "the directory holds more than its members");
    if (!status) status = check_overlap(zip, err);
    if (status) fdm_zip_close(zip);
    return status;
}

void fdm_zip_close(struct fdm_zip *zip) {
    free(zip->members);
    free(zip->names);
    zip->members = NULL;
    zip->names = NULL;
    zip->count = 0;
}

fdm_status fdm_zip_stream_open(struct fdm_zip_stream *s, const struct fdm_zip *zip, size_t index, fdm_error *err) {
    const struct fdm_zip_member *m = &zip->members[index];
    memset(s, 0, sizeof *s);
    s->zip = zip;
    s->member = m;
    s->next = zip->bytes + m->at;
    s->packed_left = m->packed;
    s->unpacked_left = m->unpacked;
    if (m->deflated && inflateInit2(&s->inflater, -MAX_WBITS) != Z_OK) {
        s->member = NULL;
        return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (inflate)", zip->label);
    }
    return FDM_OK;
}

/* Unpacks up to n bytes; *done says how many. */
static fdm_status inflate_some(struct fdm_zip_stream *s, unsigned char *out, size_t n, size_t *done,
                               fdm_error *err) {
    const size_t step = (size_t)1 << 30; /* zlib counts in unsigned int */
    uInt in = (uInt)(s->packed_left < step ? s->packed_left : step), room = (uInt)(n < step ? n : step);
    s->inflater.next_in = fdm_unconst(s->next);
    s->inflater.avail_in = in;
    s->inflater.next_out = out;
    s->inflater.avail_out = room;
    int code = inflate(&s->inflater, Z_NO_FLUSH);
    s->next += in - s->inflater.avail_in;
    s->packed_left -= in - s->inflater.avail_in;
    *done = room - s->inflater.avail_out;
    s->ended = code == Z_STREAM_END;
    if (code == Z_MEM_ERROR) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (inflate)", s->zip->label);
    if (code != Z_OK && code != Z_STREAM_END)
        return bad(s->zip, s->member->name, (size_t)(s->next - s->zip->bytes), err, "damaged compressed data");
    return FDM_OK;
}

fdm_status fdm_zip_stream_read(struct fdm_zip_stream *s, void *out, size_t n, fdm_error *err) {
    unsigned char *p = out;
    if (n > s->unpacked_left)
        return bad(s->zip, s->member->name, s->member->at, err, "%zu more bytes expected than it has", n);
    s->unpacked_left -= n;
    while (n > 0) {
        size_t done = n < (1u << 30) ? n : 1u << 30;
        if (!s->member->deflated) {
            memcpy(p, s->next, done);
            s->next += done;
            s->packed_left -= done;
        } else {
            if (s->ended) return bad(s->zip, s->member->name, s->member->at, err, "unpacks to less than it claims");
            fdm_status status = inflate_some(s, p, n, &done, err);
            if (status) return status;
        }
        s->crc = (uint32_t)crc32(s->crc, p, (uInt)done);
        p += done;
        n -= done;
    }
    return FDM_OK;
}

fdm_status fdm_zip_stream_finish(struct fdm_zip_stream *s, fdm_error *err) {
    unsigned char extra;
    size_t done = 0;
    const struct fdm_zip_member *m = s->member;
    if (m->deflated && !s->ended && s->unpacked_left == 0) {
        fdm_status status = inflate_some(s, &extra, 1, &done, err); /* the end mark may still be in the input */
        if (status) return status;
    }
    if (s->unpacked_left || done || s->packed_left || (m->deflated && !s->ended))
        return bad(s->zip, m->name, m->at, err, "does not unpack to just what it claims");
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* a fuzzer cannot guess checksums */
    if (s->crc != m->crc) return bad(s->zip, m->name, m->at, err, "checksum error; damaged");
#endif
    return FDM_OK;
}

void fdm_zip_stream_close(struct fdm_zip_stream *s) {
    if (s->member && s->member->deflated) inflateEnd(&s->inflater);
    memset(s, 0, sizeof *s);
}
