/* atomic_file.h - output files that appear whole or not at all; every writer of fdm goes through this.
 *
 * The bytes go to a temporary file in the target's directory (unique name, O_EXCL); commit syncs it, renames it
 * over the target and syncs the directory.  On any failure the temporary file is removed and an old target
 * stays as it was.  A symbolic link is followed, so that its target is what gets replaced; an existing file
 * passes its permissions on; devices, pipes and directories are refused.
 */
#ifndef FDM_IO_ATOMIC_FILE_H
#define FDM_IO_ATOMIC_FILE_H

#include <stdint.h>

#include "base/base.h"

enum { FDM_ATOMIC_BUFFER = 1 << 14 };

struct fdm_atomic_file {
    char *path;       /* for messages: as given (its end, if long) */
    char *target;     /* resolved path */
    const char *name; /* target's last component */
    char temp[48];
    int fd, dir;       /* dir is open for the directory's sync */
    bool open, failed; /* failed sticks: commit refuses */
    uint64_t position;
    size_t buffered;
    char buffer[FDM_ATOMIC_BUFFER];
};

/* All errors are FDM_NO_RESOURCE (output not writable, disk full, out of memory), one line with the path. */
fdm_status fdm_atomic_open(struct fdm_atomic_file *f, const char *path, fdm_error *err);
/* Claims disk space for the whole file where the file system can, so that a full disk shows at once. */
fdm_status fdm_atomic_reserve(struct fdm_atomic_file *f, uint64_t bytes, fdm_error *err);
/* Appends (buffered). */
fdm_status fdm_atomic_write(struct fdm_atomic_file *f, const void *bytes, size_t n, fdm_error *err);
fdm_status fdm_atomic_printf(struct fdm_atomic_file *f, fdm_error *err, const char *format, ...) FDM_PRINTF(3, 4);
/* Writes at an absolute offset without moving the append position. */
fdm_status fdm_atomic_write_at(struct fdm_atomic_file *f, uint64_t offset, const void *bytes, size_t n,
                               fdm_error *err);
/* Either way the file is closed and f released; after an error nothing has changed on disk. */
fdm_status fdm_atomic_commit(struct fdm_atomic_file *f, fdm_error *err);
/* Drops the output.  Harmless on a zeroed, committed or already dropped f. */
void fdm_atomic_abort(struct fdm_atomic_file *f);

/* The whole output at once. */
fdm_status fdm_atomic_write_file(const char *path, const void *bytes, size_t n, fdm_error *err);

#endif
