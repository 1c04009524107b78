/* zip_write.h - writing zip archives of stored members, deterministically and without holding them; internal.
 *
 * libzip can only write through files and temporary files of its own; this streams into an fdm_atomic_file and
 * writes the same bytes every time (timestamps 1980-01-01).  Zip64 records appear where sizes need them.
 */
#ifndef FDM_IO_ZIP_WRITE_H
#define FDM_IO_ZIP_WRITE_H

#include "base/base.h"
#include "io/atomic_file.h"
#include "io/text.h"

struct fdm_zip_writer {
    struct fdm_atomic_file file;
    struct fdm_text central; /* the central directory so far */
    uint64_t at;             /* bytes written */
    uint64_t count;
    bool force_zip64; /* for tests: zip64 records everywhere */
    size_t alignment; /* of the members' data, by an extra field in the local headers; 0: none; at most 4096 */
};

/* Errors as fdm_atomic_open.  Afterwards finish or abort. */
fdm_status fdm_zip_begin(struct fdm_zip_writer *z, const char *path, fdm_error *err);
/* One member of the two blocks a then b.  The caller keeps names unique, valid UTF-8 and below 64 KiB. */
fdm_status fdm_zip_add(struct fdm_zip_writer *z, const char *name, const void *a, size_t a_bytes, const void *b,
                       size_t b_bytes, fdm_error *err);
/* Writes the directory and puts the file in place; z is released, also on failure. */
fdm_status fdm_zip_finish(struct fdm_zip_writer *z, fdm_error *err);
void fdm_zip_abort(struct fdm_zip_writer *z);

#endif
