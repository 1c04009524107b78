/* zip_write.c - zip archives of stored members (PKWARE APPNOTE 6.3: sections 4.3.7, 4.3.12, 4.3.14-16, 4.5.3). */
#include "io/zip_write.h"

#include <string.h>
#include <zlib.h>

enum {
    VERSION_PLAIN = 20,
    VERSION_ZIP64 = 45,
    FLAG_UTF8 = 1 << 11,
    DOS_DATE = 1 << 5 | 1, /* 1980-01-01, the first day a zip can name */
    ZIP64_ID = 1,
    PADDING_ID = 'F' | 'B' << 8, /* torch.save's */
    LOCAL_BYTES = 30
};
#define MAX32 0xffffffffu
#define MAX16 0xffffu

struct record {
    unsigned char bytes[96];
    size_t length;
};

static void put(struct record *r, uint64_t value, int size) {
    for (int i = 0; i < size; i++) r->bytes[r->length++] = (unsigned char)(value >> (8 * i));
}

static uint32_t crc_of(uint32_t crc, const unsigned char *p, size_t n) {
    for (size_t step; n > 0; p += step, n -= step) {
        step = n < (1u << 30) ? n : 1u << 30; /* zlib counts in unsigned int */
        crc = (uint32_t)crc32(crc, p, (uInt)step);
    }
    return crc;
}

/* The fields that a member's local and central header share. */
static void put_common(struct record *r, uint16_t flags, bool zip64, uint32_t crc, uint64_t size,
                       size_t name_length, size_t extra) {
    put(r, zip64 ? VERSION_ZIP64 : VERSION_PLAIN, 2);
    put(r, flags, 2);
    put(r, 0, 2); /* stored */
    put(r, 0, 2); /* time */
    put(r, DOS_DATE, 2);
    put(r, crc, 4);
    put(r, zip64 ? MAX32 : size, 4); /* compressed */
    put(r, zip64 ? MAX32 : size, 4);
    put(r, name_length, 2);
    put(r, extra, 2);
}

static void add_central(struct fdm_zip_writer *z, const char *name, uint16_t flags, bool zip64, uint32_t crc,
                        uint64_t size, uint64_t offset) {
    struct record r = {.length = 0};
    put(&r, 0x02014b50, 4);
    put(&r, 3 << 8 | VERSION_ZIP64, 2); /* made by: Unix */
    put_common(&r, flags, zip64, crc, size, strlen(name), zip64 ? 4 + 24 : 0);
    put(&r, 0, 2);                       /* comment */
    put(&r, 0, 2);                       /* disk */
    put(&r, 0, 2);                       /* internal attributes */
    put(&r, (uint64_t)0100644 << 16, 4); /* a regular file, rw-r--r-- */
    put(&r, zip64 ? MAX32 : offset, 4);
    fdm_text_add(&z->central, (const char *)r.bytes, r.length);
    fdm_text_add(&z->central, name, strlen(name));
    if (!zip64) return;
    r.length = 0;
    put(&r, ZIP64_ID, 2);
    put(&r, 24, 2);
    put(&r, size, 8);
    put(&r, size, 8);
    put(&r, offset, 8);
    fdm_text_add(&z->central, (const char *)r.bytes, r.length);
}

fdm_status fdm_zip_begin(struct fdm_zip_writer *z, const char *path, fdm_error *err) {
    memset(z, 0, sizeof *z);
    return fdm_atomic_open(&z->file, path, err);
}

static bool is_ascii(const char *s) {
    while (*s && (unsigned char)*s < 0x80) s++;
    return *s == '\0';
}

/* Bytes of the extra field that moves data from `at` on to the next multiple of the alignment; 0 for none. */
static size_t padding(const struct fdm_zip_writer *z, uint64_t at) {
    return z->alignment ? 4 + (size_t)((z->alignment - (at + 4) % z->alignment) % z->alignment) : 0;
}

static fdm_status write_padding(struct fdm_zip_writer *z, size_t bytes, fdm_error *err) {
    struct record r = {.length = 0};
    static const char zeros[64] = {0};
    fdm_status status;
    if (!bytes) return FDM_OK;
    put(&r, PADDING_ID, 2);
    put(&r, bytes - 4, 2);
    status = fdm_atomic_write(&z->file, r.bytes, r.length, err);
    for (size_t left = bytes - 4, n; left && !status; left -= n) {
        n = left < sizeof zeros ? left : sizeof zeros;
        status = fdm_atomic_write(&z->file, zeros, n, err);
    }
    return status;
}

fdm_status fdm_zip_add(struct fdm_zip_writer *z, const char *name, const void *a, size_t a_bytes, const void *b,
                       size_t b_bytes, fdm_error *err) {
    struct record r = {.length = 0};
    uint64_t size = (uint64_t)a_bytes + b_bytes, offset = z->at;
    uint32_t crc = crc_of(crc_of(0, a, a_bytes), b, b_bytes);
    uint16_t flags = is_ascii(name) ? 0 : FLAG_UTF8;
    bool zip64 = z->force_zip64 || size >= MAX32 || offset >= MAX32;
    const size_t zip64_bytes = zip64 ? 4 + 16 : 0, pad = padding(z, offset + LOCAL_BYTES + strlen(name) + zip64_bytes);
    put(&r, 0x04034b50, 4);
    put_common(&r, flags, zip64, crc, size, strlen(name), zip64_bytes + pad);
    fdm_status status = fdm_atomic_write(&z->file, r.bytes, r.length, err);
    z->at += r.length + strlen(name) + zip64_bytes + pad + size;
    if (!status) status = fdm_atomic_write(&z->file, name, strlen(name), err);
    if (!status && zip64) {
        r.length = 0;
        put(&r, ZIP64_ID, 2);
        put(&r, 16, 2);
        put(&r, size, 8);
        put(&r, size, 8);
        status = fdm_atomic_write(&z->file, r.bytes, r.length, err);
    }
    if (!status) status = write_padding(z, pad, err);
    if (!status) status = fdm_atomic_write(&z->file, a, a_bytes, err);
    if (!status) status = fdm_atomic_write(&z->file, b, b_bytes, err);
    add_central(z, name, flags, zip64, crc, size, offset);
    z->count++;
    if (!status && z->central.failed) status = fdm_fail_oom(err, "zip directory", z->central.length);
    return status;
}

/* Zip64 end record and its locator, where the plain end record's fields are too small. */
static void put_zip64_end(struct record *r, const struct fdm_zip_writer *z) {
    put(r, 0x06064b50, 4);
    put(r, 44, 8); /* size of the rest of this record */
    put(r, 3 << 8 | VERSION_ZIP64, 2);
    put(r, VERSION_ZIP64, 2);
    put(r, 0, 4);
    put(r, 0, 4);
    put(r, z->count, 8);
    put(r, z->count, 8);
    put(r, z->central.length, 8);
    put(r, z->at, 8);
    put(r, 0x07064b50, 4);
    put(r, 0, 4);
    put(r, z->at + z->central.length, 8);
    put(r, 1, 4);
}

fdm_status fdm_zip_finish(struct fdm_zip_writer *z, fdm_error *err) {
    struct record end64 = {.length = 0}, end = {.length = 0};
    bool zip64 = z->force_zip64 || z->count >= MAX16 || z->at >= MAX32 || z->central.length >= MAX32;
    if (zip64) put_zip64_end(&end64, z);
    put(&end, 0x06054b50, 4);
    put(&end, 0, 2);
    put(&end, 0, 2);
    put(&end, zip64 ? MAX16 : z->count, 2);
    put(&end, zip64 ? MAX16 : z->count, 2);
    put(&end, zip64 ? MAX32 : z->central.length, 4);
    put(&end, zip64 ? MAX32 : z->at, 4);
    put(&end, 0, 2);
    fdm_status status = fdm_atomic_write(&z->file, z->central.bytes, z->central.length, err);
    if (!status) status = fdm_atomic_write(&z->file, end64.bytes, end64.length, err);
    if (!status) status = fdm_atomic_write(&z->file, end.bytes, end.length, err);
    if (!status) status = fdm_atomic_commit(&z->file, err);
    fdm_zip_abort(z);
    return status;
}

void fdm_zip_abort(struct fdm_zip_writer *z) {
    fdm_atomic_abort(&z->file);
    fdm_text_free(&z->central);
}
