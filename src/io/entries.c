/* entries.c - the image files of a zip archive or a folder, in the order of their names. */
#include "io/entries.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "io/text.h"

enum {
    MAX_DEPTH = 32,       /* of folders */
    MAX_BYTES = 1 << 28,  /* of one file */
    FREE_BYTES = 1 << 20, /* that a member may always unpack to, ... */
    MAX_RATIO = 200       /* ... and beyond them this many times its packed size: images hardly pack at all */
};
static const char json_name[] = "dataset.json";

const char *fdm_entry_label(char out[FDM_ENTRY_LABEL], const struct fdm_entries *e, const struct fdm_entry *entry) {
    snprintf(out, FDM_ENTRY_LABEL, "%s: entry \"%.200s\"", e->label, entry->name);
    return out;
}

bool fdm_entry_name_ok(const char *name) {
    if (!*name || strchr(name, '\\')) return false;
    for (const char *part = name;;) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.')) return false;
        if (!part[n]) return true;
        part += n + 1;
    }
}

static bool has_extension(const char *name, const char *const *list) {
    const char *dot = strrchr(name, '.');
    for (; dot && *list; list++)
        if (strcasecmp(dot + 1, *list) == 0) return true;
    return false;
}

/* Hidden, or what a Mac adds to an archive. */
static bool left_out(const char *name) {
    const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;
    return last[0] == '.' || strncmp(name, "__MACOSX/", 9) == 0;
}

/* Takes a file into the list if it is an image or dataset.json. */
static fdm_status add(struct fdm_entries *e, const char *name, size_t member, fdm_error *err) {
    static const char *const ours[] = {"png", "jpg", "jpeg", NULL};
    static const char *const others[] = {"bmp", "gif",  "tif", "tiff", "webp", "ppm", "pgm",
                                         "jp2", "avif", "tga", "heic", "psd",  NULL};
    bool json = strcmp(name, json_name) == 0;
    struct fdm_entry entry = {.member = member};
    if (left_out(name)) return FDM_OK;
    if (has_extension(name, others))
        return fdm_fail(err, FDM_BAD_INPUT,
                        "%s: entry \"%.200s\": neither PNG nor JPEG; convert it or take it away", e->label, name);
    if (!json && !has_extension(name, ours)) return FDM_OK;
    if (json && e->json.name) return fdm_fail(err, FDM_BAD_INPUT, "%s: %s occurs twice", e->label, json_name);
    if (!(entry.name = fdm_strdup(name))) return fdm_fail_oom(err, "file name", strlen(name));
    if (json) {
        e->json = entry;
        return FDM_OK;
    }
    if (e->count == e->capacity) {
        size_t capacity = e->capacity ? 2 * e->capacity : 256;
        struct fdm_entry *items = realloc(e->items, capacity * sizeof *items);
        if (!items) {
            free(entry.name);
            return fdm_fail_oom(err, "list of files", capacity * sizeof *items);
        }
        e->items = items;
        e->capacity = capacity;
    }
    e->items[e->count++] = entry;
    return FDM_OK;
}

static int by_name(const void *a, const void *b) {
    const struct fdm_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static fdm_status sort_and_check(struct fdm_entries *e, fdm_error *err) {
    if (e->count == 0)
        return fdm_fail(err, FDM_BAD_INPUT,
                        "%s: holds no images; give a zip archive or a folder of PNG or JPEG files", e->label);
    qsort(e->items, e->count, sizeof *e->items, by_name);
    for (size_t i = 1; i < e->count; i++)
        if (strcmp(e->items[i - 1].name, e->items[i].name) == 0)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: entry \"%.200s\" occurs twice; keep one of them", e->label,
                            e->items[i].name);
    return FDM_OK;
}

/* ---- Archives ---------------------------------------------------------------------------------------------- */

static fdm_status list_members(struct fdm_entries *e, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < e->zip.count && !status; i++) {
        const struct fdm_zip_member *m = &e->zip.members[i];
        char *end = strrchr(m->name, '/');
        if (end && end > m->name && !end[1] && m->unpacked == 0) continue; /* a folder: names no file */
        if (!fdm_entry_name_ok(m->name))
            return fdm_fail(
                err, FDM_BAD_INPUT,
                "%s: entry \"%.200s\": the name leads out of the archive; make it a plain relative path", e->label,
                m->name);
        status = add(e, m->name, i, err);
    }
    return status;
}

static fdm_status open_zip(struct fdm_entries *e, const void *bytes, size_t size, fdm_error *err) {
    fdm_status status = fdm_zip_open(&e->zip, bytes, size, e->label, err);
    if (!status) status = list_members(e, err);
    return status ? status : sort_and_check(e, err);
}

/* ---- Folders ----------------------------------------------------------------------------------------------- */

struct walk {
    struct fdm_entries *e;
    struct fdm_text path; /* of the folder or file at hand, from the root on */
    int depth;
    fdm_error *err;
};

static const char *inner_name(const struct walk *w) { return w->path.bytes + strlen(w->e->root) + 1; }

static fdm_status walk_folder(struct walk *w);

/* w->path is a file, a folder, or anything else. */
static fdm_status visit(struct walk *w) {
    struct stat st, target;
    const char *label = w->e->label, *name = inner_name(w);
    if (lstat(w->path.bytes, &st))
        return fdm_fail(w->err, FDM_BAD_INPUT, "%s: entry \"%.200s\": cannot examine: %s", label, name,
                        strerror(errno));
    if (S_ISDIR(st.st_mode)) return walk_folder(w);
    if (S_ISLNK(st.st_mode) && stat(w->path.bytes, &target) == 0 && S_ISDIR(target.st_mode))
        return fdm_fail(
            w->err, FDM_BAD_INPUT,
            "%s: entry \"%.200s\": a link to a folder, which is not followed; put the folder itself here", label,
            name);
    if (!fdm_utf8_valid(name))
        return fdm_fail(w->err, FDM_BAD_INPUT, "%s: entry \"%.200s\": the name is not UTF-8 text; rename it", label,
                        name);
    return add(w->e, name, 0, w->err);
}

static fdm_status walk_folder(struct walk *w) {
    fdm_status status = FDM_OK;
    const size_t length = w->path.length;
    if (++w->depth > MAX_DEPTH)
        return fdm_fail(w->err, FDM_BAD_INPUT, "%s: folders are nested deeper than %d", w->e->label, MAX_DEPTH);
    DIR *d = opendir(w->path.bytes);
    if (!d) {
        bool ours = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
        return fdm_fail(w->err, ours ? FDM_NO_RESOURCE : FDM_BAD_INPUT, "%s: cannot open the folder: %s",
                        fdm_path_tail(w->path.bytes), strerror(errno));
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(d);
        if (!entry && errno)
            status = fdm_fail(w->err, FDM_BAD_INPUT, "%s: cannot list the folder: %s", fdm_path_tail(w->path.bytes),
                              strerror(errno));
        if (!entry || status) break;
        if (entry->d_name[0] == '.') continue;
        fdm_text_add(&w->path, "/", 1);
        fdm_text_add(&w->path, entry->d_name, strlen(entry->d_name));
        status = w->path.failed ? fdm_fail_oom(w->err, "file name", w->path.length) : visit(w);
        if (status) break;
        w->path.length = length;
        w->path.bytes[length] = '\0';
    }
    closedir(d);
    w->depth--;
    return status;
}

static fdm_status open_folder(struct fdm_entries *e, const char *path, fdm_error *err) {
    struct walk w = {.e = e, .err = err};
    size_t n = strlen(path);
    if (!(e->root = fdm_strdup(path))) return fdm_fail_oom(err, "folder", n);
    while (n > 1 && e->root[n - 1] == '/') e->root[--n] = '\0';
    fdm_text_add(&w.path, e->root, n);
    fdm_status status = w.path.failed ? fdm_fail_oom(err, "folder", n) : walk_folder(&w);
    fdm_text_free(&w.path);
    return status ? status : sort_and_check(e, err);
}

/* ---- Opening and reading ----------------------------------------------------------------------------------- */

fdm_status fdm_entries_open(struct fdm_entries *e, const char *path, fdm_error *err) {
    struct stat st;
    memset(e, 0, sizeof *e);
    if (!(e->label = fdm_strdup(fdm_path_tail(path)))) return fdm_fail_oom(err, "file name", strlen(path));
    fdm_status status;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        status = open_folder(e, path, err);
    else if (!(status = fdm_file_map_open(&e->map, path, err)))
        status = open_zip(e, e->map.bytes, e->map.size, err);
    if (status) fdm_entries_close(e);
    return status;
}

fdm_status fdm_entries_parse(struct fdm_entries *e, const void *bytes, size_t size, const char *label,
                             fdm_error *err) {
    memset(e, 0, sizeof *e);
    if (!(e->label = fdm_strdup(label))) return fdm_fail_oom(err, "file name", strlen(label));
    fdm_status status = open_zip(e, bytes, size, err);
    if (status) fdm_entries_close(e);
    return status;
}

void fdm_entries_close(struct fdm_entries *e) {
    fdm_zip_close(&e->zip);
    fdm_file_map_close(&e->map);
    for (size_t i = 0; i < e->count; i++) free(e->items[i].name);
    free(e->items);
    free(e->json.name);
    free(e->root);
    free(e->label);
    memset(e, 0, sizeof *e);
}

static fdm_status too_large(const struct fdm_entries *e, const struct fdm_entry *entry, size_t bytes,
                            fdm_error *err) {
    char label[FDM_ENTRY_LABEL];
    return fdm_fail(err, FDM_BAD_INPUT,
                    "%s: %zu bytes are beyond the limit for its packed size (a zip bomb?); remove it",
                    fdm_entry_label(label, e, entry), bytes);
}

static fdm_status read_member(struct fdm_blob *blob, const struct fdm_entries *e, const struct fdm_entry *entry,
                              bool checked, fdm_error *err) {
    const struct fdm_zip_member *m = &e->zip.members[entry->member];
    struct fdm_zip_stream s;
    blob->size = m->unpacked;
    if (m->unpacked > MAX_BYTES || (m->unpacked > FREE_BYTES && (m->unpacked - FREE_BYTES) / MAX_RATIO > m->packed))
        return too_large(e, entry, m->unpacked, err);
    if (!m->deflated && !checked) {
        blob->bytes = e->zip.bytes + m->at;
        return FDM_OK;
    }
    unsigned char *p = malloc(m->unpacked + 1);
    if (!p) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (%zu bytes)", e->label, m->unpacked);
    fdm_status status = fdm_zip_stream_open(&s, &e->zip, entry->member, err);
    if (!status) status = fdm_zip_stream_read(&s, p, m->unpacked, err);
    if (!status) status = fdm_zip_stream_finish(&s, err);
    fdm_zip_stream_close(&s);
    blob->owned = p;
    blob->bytes = p;
    if (status) fdm_blob_free(blob);
    return status;
}

static fdm_status read_file(struct fdm_blob *blob, const struct fdm_entries *e, const struct fdm_entry *entry,
                            fdm_error *err) {
    size_t bytes = strlen(e->root) + strlen(entry->name) + 2;
    char *path = malloc(bytes);
    if (!path) return fdm_fail_oom(err, "file name", bytes);
    snprintf(path, bytes, "%s/%s", e->root, entry->name);
    fdm_status status = fdm_file_map_open(&blob->map, path, err);
    free(path);
    if (status) return status;
    blob->bytes = blob->map.bytes;
    blob->size = blob->map.size;
    if (blob->size <= MAX_BYTES) return FDM_OK;
    fdm_blob_free(blob);
    return fdm_fail(err, FDM_BAD_INPUT, "%s/%.200s: larger than %d bytes; remove it", e->label, entry->name,
                    MAX_BYTES);
}

fdm_status fdm_entries_read(struct fdm_blob *blob, const struct fdm_entries *e, const struct fdm_entry *entry,
                            bool checked, fdm_error *err) {
    memset(blob, 0, sizeof *blob);
    return e->root ? read_file(blob, e, entry, err) : read_member(blob, e, entry, checked, err);
}

void fdm_blob_free(struct fdm_blob *blob) {
    free(blob->owned);
    fdm_file_map_close(&blob->map);
    memset(blob, 0, sizeof *blob);
}

size_t fdm_entries_find(const struct fdm_entries *e, const char *name) {
    const struct fdm_entry key = {.name = fdm_unconst(name)};
    const struct fdm_entry *found = bsearch(&key, e->items, e->count, sizeof key, by_name);
    return found ? (size_t)(found - e->items) : SIZE_MAX;
}
