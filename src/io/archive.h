/* archive.h - gzip files and tar archives in memory; internal. */
#ifndef FDM_IO_ARCHIVE_H
#define FDM_IO_ARCHIVE_H

#include "base/base.h"

/* Unpacks a gzip file (RFC 1952), checksum checked, to at most `limit` bytes: *size bytes at *out, for free().
 * Errors, after which *out is NULL: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_gunzip(unsigned char **out, size_t *size, const void *bytes, size_t packed, size_t limit,
                      const char *label, fdm_error *err);
bool fdm_is_gzip(const void *bytes, size_t size);

/* One regular file of a tar archive (POSIX ustar, GNU); the data lies in the archive. */
struct fdm_tar_member {
    char name[101]; /* the last 100 characters of the path at most: enough to know a file by its last part */
    const unsigned char *data;
    size_t size;
};
/* The next one from *at on (0 at first); *found is false at the end.  Errors: FDM_BAD_INPUT. */
fdm_status fdm_tar_next(struct fdm_tar_member *member, bool *found, size_t *at, const unsigned char *tar,
                        size_t size, const char *label, fdm_error *err);

#endif
