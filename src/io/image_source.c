/* image_source.c - images of any size with labels, from wherever they come. */
#include "io/image_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/dataset.h"
#include "io/image_file.h"

/* Length of the name's first folder; 0 if it lies in none. */
static size_t folder_length(const char *name) {
    const char *slash = strchr(name, '/');
    return slash ? (size_t)(slash - name) : 0;
}

/* Whether entry i begins another folder than the entry before: entries of one folder stand together. */
static bool begins_folder(const struct fdm_entries *e, size_t i) {
    const char *name = e->items[i].name;
    return i == 0 || strncmp(name, e->items[i - 1].name, folder_length(name) + 1) != 0;
}

/* Number of first-level folders; 0 if an image lies in none. */
static size_t count_folders(const struct fdm_entries *e) {
    size_t count = 0;
    for (size_t i = 0; i < e->count; i++) {
        if (folder_length(e->items[i].name) == 0) return 0;
        count += begins_folder(e, i);
    }
    return count;
}

static fdm_status classes_from_folders(struct fdm_image_source *s, fdm_error *err) {
    const struct fdm_entries *e = &s->entries;
    const size_t folders = count_folders(e);
    if (folders < 2) return FDM_OK;
    if (folders > FDM_DATASET_MAX_LABEL_DIM)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: %zu sub-folders; at most %d can be classes; write a dataset.json",
                        e->label, folders, FDM_DATASET_MAX_LABEL_DIM);
    s->labels.classes = malloc(e->count * sizeof *s->labels.classes);
    s->folders = calloc(folders, sizeof *s->folders);
    s->class_names = calloc(folders, sizeof *s->class_names);
    if (!s->labels.classes || !s->folders || !s->class_names)
        return fdm_fail_oom(err, "classes", e->count * sizeof(int32_t));
    for (size_t i = 0; i < e->count; i++) {
        const char *name = e->items[i].name;
        if (begins_folder(e, i)) {
            char *folder = fdm_strdup(name);
            if (!folder) return fdm_fail_oom(err, "class name", strlen(name));
            folder[folder_length(name)] = '\0';
            s->folders[s->class_count] = folder;
            s->class_names[s->class_count++] = folder;
        }
        s->labels.classes[i] = (int32_t)s->class_count - 1;
    }
    s->labels.dim = (int)folders;
    return FDM_OK;
}

static fdm_status open_original(struct fdm_image_source *s, const char *path, bool border, fdm_error *err) {
    s->original = true;
    fdm_status status = fdm_originals_read(&s->originals, path, border, err);
    if (status) return status;
    s->count = s->originals.count;
    s->class_count = 10;
    s->labels.dim = 10;
    s->labels.classes = malloc(s->count * sizeof *s->labels.classes);
    s->class_names = calloc(s->class_count, sizeof *s->class_names);
    s->entries.label = fdm_strdup(fdm_path_tail(path));
    if (!s->labels.classes || !s->class_names || !s->entries.label)
        return fdm_fail_oom(err, "classes", s->count * sizeof(int32_t));
    for (size_t i = 0; i < s->count; i++) s->labels.classes[i] = s->originals.classes[i];
    for (size_t i = 0; i < s->class_count; i++) s->class_names[i] = s->originals.class_names[i];
    return FDM_OK;
}

fdm_status fdm_image_source_open(struct fdm_image_source *s, const char *path, bool border, fdm_error *err) {
    fdm_status status;
    memset(s, 0, sizeof *s);
    if (fdm_originals_recognise(path))
        status = open_original(s, path, border, err);
    else {
        status = fdm_entries_open(&s->entries, path, err);
        if (!status) status = fdm_labels_read(&s->labels, &s->entries, err);
        s->count = s->entries.count;
        if (!status && !s->entries.json.name) status = classes_from_folders(s, err);
    }
    if (status) fdm_image_source_close(s);
    return status;
}

static fdm_status copy_original(fdm_image *out, const struct fdm_originals *o, size_t i, fdm_error *err) {
    const size_t bytes = (size_t)o->height * (size_t)o->width * (size_t)o->channels;
    *out = (fdm_image){.width = o->width, .height = o->height, .channels = o->channels, .pixels = malloc(bytes)};
    if (!out->pixels) {
        memset(out, 0, sizeof *out);
        return fdm_fail_oom(err, "image", bytes);
    }
    memcpy(out->pixels, o->pixels + i * bytes, bytes);
    return FDM_OK;
}

fdm_status fdm_image_source_read(fdm_image *out, char label[FDM_ENTRY_LABEL], const struct fdm_image_source *s,
                                 size_t i, fdm_error *err) {
    struct fdm_blob blob;
    memset(out, 0, sizeof *out);
    if (s->original) {
        snprintf(label, FDM_ENTRY_LABEL, "%s: image %zu", s->entries.label, i);
        return copy_original(out, &s->originals, i, err);
    }
    fdm_entry_label(label, &s->entries, &s->entries.items[i]);
    fdm_status status = fdm_entries_read(&blob, &s->entries, &s->entries.items[i], true, err);
    if (status) return status;
    status = fdm_image_decode(out, blob.bytes, blob.size, label, err);
    fdm_blob_free(&blob);
    return status;
}

void fdm_image_source_close(struct fdm_image_source *s) {
    for (size_t i = 0; s->folders && i < s->class_count; i++) free(s->folders[i]);
    free(s->folders);
    free(s->class_names);
    fdm_labels_free(&s->labels);
    fdm_originals_free(&s->originals);
    fdm_entries_close(&s->entries);
    memset(s, 0, sizeof *s);
}
