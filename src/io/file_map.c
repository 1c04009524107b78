/* file_map.c - a regular file as read-only memory. */
#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *kind_of(mode_t mode) {
    if (S_ISDIR(mode)) return "a directory";
    if (S_ISFIFO(mode)) return "a pipe";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

static fdm_status map_fd(struct fdm_file_map *out, int fd, const char *path, fdm_error *err) {
    struct stat st;
    if (fstat(fd, &st)) return fdm_fail(err, FDM_BAD_INPUT, "%s: cannot examine: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: is %s; give a regular file", path, kind_of(st.st_mode));
    if ((uintmax_t)st.st_size > PTRDIFF_MAX)
        return fdm_fail(err, FDM_NO_RESOURCE, "%s: too large for this machine's address space", path);
    out->size = (size_t)st.st_size;
    out->bytes = (const unsigned char *)"";
    if (out->size == 0) return FDM_OK;
    void *p = mmap(NULL, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        fdm_status status = errno == ENODEV || errno == EACCES ? FDM_BAD_INPUT : FDM_NO_RESOURCE;
        return fdm_fail(err, status, "%s: cannot map %zu bytes: %s", path, out->size, strerror(errno));
    }
    out->mapping = p;
    out->bytes = p;
    return FDM_OK;
}

fdm_status fdm_file_map_open(struct fdm_file_map *out, const char *path, fdm_error *err) {
    memset(out, 0, sizeof *out);
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    path = fdm_path_tail(path);
    if (fd < 0) {
        bool ours = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
        return fdm_fail(err, ours ? FDM_NO_RESOURCE : FDM_BAD_INPUT, "%s: cannot open: %s", path, strerror(errno));
    }
    fdm_status status = map_fd(out, fd, path, err);
    close(fd);
    return status;
}

void fdm_file_map_close(struct fdm_file_map *map) {
    if (map->mapping) munmap(map->mapping, map->size);
    memset(map, 0, sizeof *map);
}
