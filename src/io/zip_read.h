/* zip_read.h - a strict reader of zip archives in memory; internal.
 *
 * Members may be stored or deflated, sizes and counts beyond 32 bits are read from zip64 records.  Everything that
 * the archive says of itself twice must agree, and no two members may share bytes (which rules out the archives
 * that unpack to thousands of times their size by overlapping).  libzip is not used: it leaks and misreports when
 * memory runs out, and guesses names' encodings.
 */
#ifndef FDM_IO_ZIP_READ_H
#define FDM_IO_ZIP_READ_H

#include <zlib.h>

#include "base/base.h"

struct fdm_zip_member {
    const char *name; /* valid UTF-8, owned by the archive */
    size_t header;    /* position of the local header */
    size_t at;        /* position of the packed data */
    size_t packed, unpacked;
    uint32_t crc;
    bool deflated;
};

struct fdm_zip {
    const char *label; /* for messages; borrowed, as are the bytes */
    const unsigned char *bytes;
    size_t size;
    struct fdm_zip_member *members; /* in the order of the directory */
    size_t count;
    char *names;
};

/* Reads and checks the directory and every local header; unpacks nothing.  Errors, after which there is nothing to
 * close: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_zip_open(struct fdm_zip *zip, const void *bytes, size_t size, const char *label, fdm_error *err);
void fdm_zip_close(struct fdm_zip *zip);

/* One member as a stream of its unpacked bytes. */
struct fdm_zip_stream {
    const struct fdm_zip *zip;
    const struct fdm_zip_member *member;
    const unsigned char *next;
    size_t packed_left, unpacked_left;
    uint32_t crc;
    z_stream inflater;
    bool ended; /* the deflated data has come to its end */
};

/* open, read what is wanted, finish (all must have been read; compares the checksum), close in any case. */
fdm_status fdm_zip_stream_open(struct fdm_zip_stream *s, const struct fdm_zip *zip, size_t index, fdm_error *err);
/* Exactly n bytes. */
fdm_status fdm_zip_stream_read(struct fdm_zip_stream *s, void *out, size_t n, fdm_error *err);
fdm_status fdm_zip_stream_finish(struct fdm_zip_stream *s, fdm_error *err);
void fdm_zip_stream_close(struct fdm_zip_stream *s);

#endif
