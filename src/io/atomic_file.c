/* atomic_file.c - output files that appear whole or not at all. */
#include "io/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/io.h"

static fdm_status fail_errno(struct fdm_atomic_file *f, const char *what, int code, fdm_error *err) {
    const char *advice = "";
    f->failed = true;
    if (code == ENOSPC || code == EDQUOT || code == EFBIG)
        advice = "; free some space or write elsewhere";
    else if (code == ENOENT)
        advice = "; create its directory first";
    else if (code == EACCES || code == EROFS || code == EPERM)
        advice = "; choose a place you may write to";
    fdm_fail(err, FDM_NO_RESOURCE, "%s: cannot %s: %s%s", f->path, what, strerror(code), advice);
    return FDM_NO_RESOURCE;
}

/* The file to replace: `path`, or what it points to if it is a symbolic link. */
static char *resolve(const char *path) {
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) return realpath(path, NULL);
    return fdm_strdup(path);
}

static int open_directory(const struct fdm_atomic_file *f) {
    if (f->name == f->target) return open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->name == f->target + 1) return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->target[f->name - f->target - 1] = '\0'; /* cuts at the last slash; only the name is used from here on */
    return open(f->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static uint64_t random_word(int attempt) {
    uint64_t word;
    struct timespec now;
    if (getrandom(&word, sizeof word, GRND_NONBLOCK) == sizeof word) return word;
    clock_gettime(CLOCK_REALTIME, &now); /* O_EXCL does the safety; this only has to differ mostly */
    return ((uint64_t)now.tv_sec << 32) ^ ((uint64_t)now.tv_nsec << 8) ^ ((uint64_t)getpid() << 40) ^
           (uint64_t)attempt;
}

static bool create_temp(struct fdm_atomic_file *f) {
    for (int attempt = 0; attempt < 100; attempt++) {
        snprintf(f->temp, sizeof f->temp, ".fdm-%016llx.tmp", (unsigned long long)random_word(attempt));
        f->fd = openat(f->dir, f->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (f->fd >= 0) return true;
        if (errno != EEXIST) return false;
    }
    return false;
}

static void release(struct fdm_atomic_file *f) {
    if (f->fd >= 0) close(f->fd);
    if (f->dir >= 0) close(f->dir);
    free(f->path);
    free(f->target);
    memset(f, 0, sizeof *f);
    f->fd = f->dir = -1;
}

/* Finds the directory, refuses targets that rename must not replace, creates the temporary file. */
static fdm_status prepare(struct fdm_atomic_file *f, const char *path, fdm_error *err) {
    struct stat st;
    if (!(f->target = resolve(path))) return fail_errno(f, "follow link", errno, err);
    char *slash = strrchr(f->target, '/');
    f->name = slash ? slash + 1 : f->target;
    if (!*f->name || !strcmp(f->name, ".") || !strcmp(f->name, ".."))
        return fdm_fail(err, FDM_NO_RESOURCE, "%s: cannot write: names a directory; give a file name", f->path);
    if ((f->dir = open_directory(f)) < 0) return fail_errno(f, "write", errno, err);
    bool exists = fstatat(f->dir, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (exists && !S_ISREG(st.st_mode))
        return fdm_fail(err, FDM_NO_RESOURCE, "%s: cannot write: exists and is %s; choose another name", f->path,
                        S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    if (exists && faccessat(f->dir, f->name, W_OK, 0)) return fail_errno(f, "replace", errno, err);
    if (!create_temp(f)) return fail_errno(f, "write", errno, err);
    f->open = true;
    if (exists && fchmod(f->fd, st.st_mode & 0777)) return fail_errno(f, "set permissions", errno, err);
    return FDM_OK;
}

fdm_status fdm_atomic_open(struct fdm_atomic_file *f, const char *path, fdm_error *err) {
    memset(f, 0, sizeof *f);
    f->fd = f->dir = -1;
    f->path = fdm_strdup(fdm_path_tail(path));
    fdm_status status = FDM_NO_RESOURCE;
    if (f->path)
        status = prepare(f, path, err);
    else
        fdm_fail_oom(err, "output path", strlen(path));
    if (status) fdm_atomic_abort(f);
    return status;
}

fdm_status fdm_atomic_reserve(struct fdm_atomic_file *f, uint64_t bytes, fdm_error *err) {
    if (bytes > INT64_MAX) return fail_errno(f, "reserve space", EFBIG, err);
    if (bytes == 0 || fallocate(f->fd, 0, 0, (off_t)bytes) == 0) return FDM_OK;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) return fail_errno(f, "reserve space", errno, err);
    return FDM_OK; /* not supported here: writing will tell */
}

static fdm_status write_through(struct fdm_atomic_file *f, uint64_t offset, const char *p, size_t n,
                                fdm_error *err) {
    enum { CHUNK = 1 << 30 }; /* Linux moves at most 2 GiB a call */
    while (n > 0) {
        ssize_t done = pwrite(f->fd, p, n < CHUNK ? n : CHUNK, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return fail_errno(f, "write", done < 0 ? errno : ENOSPC, err);
        p += done;
        offset += (uint64_t)done;
        n -= (size_t)done;
    }
    return FDM_OK;
}

static fdm_status flush(struct fdm_atomic_file *f, fdm_error *err) {
    size_t n = f->buffered;
    f->buffered = 0;
    f->position += n;
    return write_through(f, f->position - n, f->buffer, n, err);
}

fdm_status fdm_atomic_write(struct fdm_atomic_file *f, const void *bytes, size_t n, fdm_error *err) {
    fdm_status status = FDM_OK;
    if (n > FDM_ATOMIC_BUFFER - f->buffered) status = flush(f, err);
    if (status || n == 0) return status;
    if (n >= FDM_ATOMIC_BUFFER) {
        f->position += n;
        return write_through(f, f->position - n, bytes, n, err);
    }
    memcpy(f->buffer + f->buffered, bytes, n);
    f->buffered += n;
    return FDM_OK;
}

fdm_status fdm_atomic_printf(struct fdm_atomic_file *f, fdm_error *err, const char *format, ...) {
    char line[512], *text = line;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(line, sizeof line, format, args);
    if (n >= (int)sizeof line && (text = malloc((size_t)n + 1))) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    fdm_status status =
        n < 0 || !text ? fdm_fail_oom(err, "output line", 0) : fdm_atomic_write(f, text, (size_t)n, err);
    if (status) f->failed = true;
    if (text != line) free(text);
    return status;
}

fdm_status fdm_atomic_write_at(struct fdm_atomic_file *f, uint64_t offset, const void *bytes, size_t n,
                               fdm_error *err) {
    fdm_status status = flush(f, err);
    return status ? status : write_through(f, offset, bytes, n, err);
}

/* Some file systems cannot sync a directory; that is no reason to fail. */
static bool sync_directory(int dir) {
    return fsync(dir) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS || errno == EBADF;
}

fdm_status fdm_atomic_commit(struct fdm_atomic_file *f, fdm_error *err) {
    if (!f->open) return fdm_fail(err, FDM_BAD_USAGE, "output file committed twice");
    fdm_status status =
        f->failed ? fdm_fail(err, FDM_NO_RESOURCE, "%s: an earlier write failed", f->path) : flush(f, err);
    if (!status && fsync(f->fd)) status = fail_errno(f, "sync", errno, err);
    if (!status) {
        int fd = f->fd;
        f->fd = -1;
        if (close(fd)) status = fail_errno(f, "close", errno, err);
    }
    if (!status && renameat(f->dir, f->temp, f->dir, f->name))
        status = fail_errno(f, "rename into place", errno, err);
    if (status) {
        fdm_atomic_abort(f);
        return status;
    }
    if (!sync_directory(f->dir)) status = fail_errno(f, "sync the directory of", errno, err);
    release(f);
    return status;
}

void fdm_atomic_abort(struct fdm_atomic_file *f) {
    if (f->open) unlinkat(f->dir, f->temp, 0);
    if (f->path) release(f);
}

fdm_status fdm_atomic_write_file(const char *path, const void *bytes, size_t n, fdm_error *err) {
    struct fdm_atomic_file f;
    fdm_status status = fdm_atomic_open(&f, path, err);
    if (status) return status;
    status = fdm_atomic_write(&f, bytes, n, err);
    if (!status) return fdm_atomic_commit(&f, err);
    fdm_atomic_abort(&f);
    return status;
}
