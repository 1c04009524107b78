/* io.h - what the readers and writers of src/io share; internal. */
#ifndef FDM_IO_IO_H
#define FDM_IO_IO_H

#include "base/base.h"
#include "fdm/tensor.h"

/* The file as the start of a message: long paths keep their end, so that the reason still fits the line. */
static inline const char *fdm_path_tail(const char *path) {
    enum { MAX_SHOWN = 240 };
    size_t n = 0;
    while (path[n]) n++;
    return n > MAX_SHOWN ? path + (n - MAX_SHOWN) : path;
}

/* For interfaces without const: zlib's input, and tensors that lie in a read-only file. */
static inline void *fdm_unconst(const void *p) {
    union {
        const void *in;
        void *out;
    } u = {p};
    return u.out;
}

/* A regular file as read-only memory. */
struct fdm_file_map {
    const unsigned char *bytes; /* never NULL while open, even for an empty file */
    size_t size;
    void *mapping; /* for munmap; NULL for an empty file */
};

/* Maps a whole regular file; FIFOs, devices and directories are refused without blocking on them.  If another
 * process shortens the file while it is mapped, touching the lost pages raises SIGBUS: replace files by
 * rename, as every fdm writer does, never in place.
 * Errors: FDM_BAD_INPUT (missing, unreadable, not a regular file), FDM_NO_RESOURCE (no memory, no descriptor). */
fdm_status fdm_file_map_open(struct fdm_file_map *out, const char *path, fdm_error *err);
void fdm_file_map_close(struct fdm_file_map *map);

/* Makes a folder and all above it; one that is there already is fine.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_make_folders(const char *path, fdm_error *err);

/* Errors FDM_BAD_USAGE unless every tensor of the set has a name of valid UTF-8, unique in the set, a valid
 * shape that matches nbytes, and data.  Needs one sort, not a search per tensor. */
fdm_status fdm_check_writable_set(const fdm_tensors *set, const char *path, fdm_error *err);

#endif
