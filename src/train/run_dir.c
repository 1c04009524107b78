/* run_dir.c - the files of a run directory. */
#include "train/run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "fdm/safetensors.h"
#include "io/io.h"

enum { KEPT_STATES = 2 };
static const char state_prefix[] = "training-state-", state_suffix[] = ".safetensors";

fdm_status fdm_run_dir_name(char out[FDM_RUN_PATH], const struct fdm_run_dir *dir, fdm_error *err, const char *format, ...) {
    va_list args;
    const size_t used = (size_t)snprintf(out, FDM_RUN_PATH, "%s/", dir->path);
    va_start(args, format);
    const int more = used < FDM_RUN_PATH ? vsnprintf(out + used, FDM_RUN_PATH - used, format, args) : -1;
    va_end(args);
    if (more < 0 || used + (size_t)more >= FDM_RUN_PATH)
        return fdm_fail(err, FDM_BAD_USAGE, "the path of the run directory is too long: %s", dir->path);
    return FDM_OK;
}

static fdm_status open_append(int *out, const struct fdm_run_dir *dir, const char *name, fdm_error *err) {
    char path[FDM_RUN_PATH];
    const fdm_status status = fdm_run_dir_name(path, dir, err, "%s", name);
    if (status != FDM_OK) return status;
    *out = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
    return *out >= 0 ? FDM_OK : fdm_fail(err, FDM_NO_RESOURCE, "%s: cannot write: %s", path, strerror(errno));
}

static fdm_status open_log(struct fdm_run_dir *dir, fdm_error *err) {
    int file;
    const fdm_status status = open_append(&file, dir, "log.txt", err);
    if (status != FDM_OK) return status;
    dir->log = fdopen(file, "a");
    if (dir->log) return FDM_OK;
    (void)close(file);
    return fdm_fail_oom(err, "log", 0);
}

/* Some file systems know no locks; that is no reason not to train. */
static fdm_status lock(const struct fdm_run_dir *dir, fdm_error *err) {
    if (flock(fileno(dir->log), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return FDM_OK;
    return fdm_fail(err, FDM_NO_RESOURCE, "%s: another process is training in this folder", dir->path);
}

/* The temporary files of writes that were killed (io/atomic_file.c). */
static void remove_half_written(const struct fdm_run_dir *dir) {
    static const char prefix[] = ".fdm-", suffix[] = ".tmp";
    DIR *folder = opendir(dir->path);
    for (const struct dirent *entry; folder && (entry = readdir(folder));) {
        const char *name = entry->d_name;
        if (strncmp(name, prefix, sizeof prefix - 1) != 0) continue;
        const size_t digits = strspn(name + sizeof prefix - 1, "0123456789abcdef");
        if (digits == 16 && strcmp(name + sizeof prefix - 1 + digits, suffix) == 0) (void)unlinkat(dirfd(folder), name, 0);
    }
    if (folder) (void)closedir(folder);
}

fdm_status fdm_run_dir_open(struct fdm_run_dir *dir, const char *path, bool resume, const fdm_train_hooks *hooks,
                            fdm_error *err) {
    char options[FDM_RUN_PATH];
    *dir = (struct fdm_run_dir){.hooks = hooks, .stats = -1};
    if ((size_t)snprintf(dir->path, sizeof dir->path, "%s", path) >= sizeof dir->path)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: the path is too long", path);
    fdm_status status = fdm_make_folders(path, err);
    if (status == FDM_OK) status = fdm_run_dir_name(options, dir, err, "training_options.json");
    if (status == FDM_OK && !resume && access(options, F_OK) == 0)
        status = fdm_fail(err, FDM_BAD_USAGE, "%s: holds a training run; go on with --resume %s, or choose another --outdir",
                          path, path);
    if (status == FDM_OK) status = open_log(dir, err);
    if (status == FDM_OK) status = lock(dir, err);
    if (status == FDM_OK) status = open_append(&dir->stats, dir, "stats.jsonl", err);
    if (status == FDM_OK) remove_half_written(dir);
    else fdm_run_dir_close(dir);
    return status;
}

void fdm_run_dir_close(struct fdm_run_dir *dir) {
    if (dir->log) (void)fclose(dir->log);
    if (dir->stats >= 0) (void)close(dir->stats);
    dir->log = NULL;
    dir->stats = -1;
}

void fdm_run_dir_say(struct fdm_run_dir *dir, const char *format, ...) {
    char line[4608];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (dir->hooks && dir->hooks->say) dir->hooks->say(dir->hooks->user, line);
    if (!dir->log) return;
    if (fprintf(dir->log, "%s\n", line) >= 0 && fflush(dir->log) == 0) return;
    clearerr(dir->log);
    if (!dir->log_failed && dir->hooks && dir->hooks->say)
        dir->hooks->say(dir->hooks->user, "log.txt cannot be written (is the disk full?)");
    dir->log_failed = true;
}

/* --- states --- */

/* The image count in a state's file name, or -1. */
static int64_t state_images(const char *name) {
    const size_t prefix = sizeof state_prefix - 1;
    int64_t images = 0;
    if (strncmp(name, state_prefix, prefix) != 0) return -1;
    const char *digits = name + prefix;
    const size_t count = strspn(digits, "0123456789");
    if (count < 9 || count > 18 || strcmp(digits + count, state_suffix) != 0) return -1;
    for (size_t i = 0; i < count; i++) images = images * 10 + (digits[i] - '0');
    return images;
}

static int newest_first(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

fdm_status fdm_run_dir_states(int64_t **images, int *count, const struct fdm_run_dir *dir, fdm_error *err) {
    int64_t *found = NULL;
    size_t used = 0, room = 0;
    *images = NULL;
    *count = 0;
    DIR *folder = opendir(dir->path);
    if (!folder) return fdm_fail(err, FDM_NO_RESOURCE, "%s: cannot read the folder: %s", dir->path, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(folder));) {
        const int64_t at = state_images(entry->d_name);
        if (at < 0) continue;
        if (used == room) {
            room = 2 * room + 8;
            int64_t *more = realloc(found, room * sizeof *found);
            if (!more) {
                free(found);
                (void)closedir(folder);
                return fdm_fail_oom(err, "list of states", room * sizeof *found);
            }
            found = more;
        }
        found[used++] = at;
    }
    (void)closedir(folder);
    if (used) qsort(found, used, sizeof *found, newest_first);
    *images = found;
    *count = (int)used;
    return FDM_OK;
}

static void remove_old_states(const struct fdm_run_dir *dir) {
    int64_t *images;
    int count;
    char path[FDM_RUN_PATH];
    if (fdm_run_dir_states(&images, &count, dir, NULL) != FDM_OK) return;
    for (int i = KEPT_STATES; i < count; i++)
        if (fdm_run_dir_name(path, dir, NULL, "%s%09" PRId64 "%s", state_prefix, images[i], state_suffix) == FDM_OK)
            (void)unlink(path);
    free(images);
}

void fdm_run_dir_set_aside(struct fdm_run_dir *dir, int64_t images) {
    char path[FDM_RUN_PATH], aside[FDM_RUN_PATH];
    if (fdm_run_dir_name(path, dir, NULL, "%s%09" PRId64 "%s", state_prefix, images, state_suffix) == FDM_OK &&
        fdm_run_dir_name(aside, dir, NULL, "%s%09" PRId64 "%s.damaged", state_prefix, images, state_suffix) == FDM_OK &&
        rename(path, aside) != 0)
        fdm_run_dir_say(dir, "%s cannot be renamed: %s", path, strerror(errno));
}

fdm_status fdm_run_dir_save(struct fdm_run_dir *dir, const fdm_tensors *state, int64_t images, fdm_error *err) {
    char path[FDM_RUN_PATH];
    fdm_status status = fdm_run_dir_name(path, dir, err, "%s%09" PRId64 "%s", state_prefix, images, state_suffix);
    if (status == FDM_OK) status = fdm_safetensors_write(state, path, err);
    if (status == FDM_OK) remove_old_states(dir);
    return status;
}

/* --- stats.jsonl --- */

static void truncate_stats(struct fdm_run_dir *dir, int64_t length) {
    if (ftruncate(dir->stats, (off_t)length) != 0)
        fdm_run_dir_say(dir, "stats.jsonl cannot be cut back: %s", strerror(errno));
}

bool fdm_run_dir_stats_add(struct fdm_run_dir *dir, const char *bytes, size_t count) {
    struct stat before;
    size_t done = 0;
    if (fstat(dir->stats, &before) != 0) return false;
    while (done < count) {
        const ssize_t n = write(dir->stats, bytes + done, count - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    if (done == count) return true;
    if (done) truncate_stats(dir, (int64_t)before.st_size); /* half a line would spoil the next one */
    return false;
}

/* The tick of a line of stats.jsonl, or INT64_MAX. */
static int64_t tick_of(const char *line) {
    static const char key[] = "\"Progress/tick\": {\"num\": 1, \"mean\": ";
    const char *at = strstr(line, key);
    char *end;
    if (!at) return INT64_MAX;
    at += sizeof key - 1;
    const double tick = strtod(at, &end);
    return end > at && tick >= 0 && tick < 0x1p53 ? (int64_t)tick : INT64_MAX;
}

void fdm_run_dir_stats_cut(struct fdm_run_dir *dir, int64_t tick) {
    char path[FDM_RUN_PATH], *line = NULL;
    size_t room = 0;
    int64_t keep = 0;
    ssize_t length;
    FILE *file = fdm_run_dir_name(path, dir, NULL, "stats.jsonl") == FDM_OK ? fopen(path, "re") : NULL;
    while (file && (length = getline(&line, &room, file)) > 0 && line[length - 1] == '\n' && tick_of(line) < tick)
        keep += length;
    free(line);
    if (file) (void)fclose(file);
    if (file) truncate_stats(dir, keep);
}
