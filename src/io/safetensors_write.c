/* safetensors_write.c - writing .safetensors files, at once or piece by piece. */
#include "fdm/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "io/atomic_file.h"
#include "io/io.h"
#include "io/text.h"

struct fdm_safetensors_writer {
    fdm_tensors layout; /* names, types, shapes and metadata; the data pointers mean nothing */
    char *path;
    struct fdm_atomic_file file;
    bool begun;
    uint64_t *offset; /* of each tensor in the file */
    size_t *received; /* bytes put so far, per tensor */
};

static fdm_status check_unique(const fdm_tensors *set, const char *path, fdm_error *err) {
    const char **names = malloc((set->count + 1) * sizeof *names); /* set->items holds more than that */
    if (!names) return fdm_fail_oom(err, "tensor names", set->count * sizeof *names);
    for (size_t i = 0; i < set->count; i++) names[i] = set->items[i].name;
    const char *twice = fdm_find_duplicate(names, set->count);
    free(names);
    if (!twice) return FDM_OK;
    return fdm_fail(err, FDM_BAD_USAGE, "%s: two tensors are named \"%.200s\"", fdm_path_tail(path), twice);
}

fdm_status fdm_check_writable_set(const fdm_tensors *set, const char *path, fdm_error *err) {
    const char *shown = fdm_path_tail(path);
    for (size_t i = 0; i < set->count; i++) {
        const fdm_tensor *t = &set->items[i];
        int64_t numel;
        size_t nbytes;
        if (!fdm_utf8_valid(t->name))
            return fdm_fail(err, FDM_BAD_USAGE, "%s: the name of tensor %zu is not valid UTF-8", shown, i);
        if (!t->data || !fdm_shape_bytes(&numel, &nbytes, t->dtype, t->ndim, t->shape) || nbytes != t->nbytes)
            return fdm_fail(err, FDM_BAD_USAGE, "%s: tensor \"%.200s\" has no data or a shape that does not fit it",
                            shown, t->name);
    }
    return check_unique(set, path, err);
}

fdm_status fdm_safetensors_writer_new(fdm_safetensors_writer **out, const char *path, fdm_error *err) {
    fdm_safetensors_writer *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w || !(w->path = fdm_strdup(path))) {
        free(w);
        fdm_fail_oom(err, "safetensors writer", sizeof *w);
        return FDM_NO_RESOURCE;
    }
    *out = w;
    return FDM_OK;
}

fdm_status fdm_safetensors_writer_meta(fdm_safetensors_writer *w, const char *key, const char *value,
                                       fdm_error *err) {
    if (w->begun) return fdm_fail(err, FDM_BAD_USAGE, "%s: metadata after the header", fdm_path_tail(w->path));
    if (!fdm_utf8_valid(key) || !fdm_utf8_valid(value))
        return fdm_fail(err, FDM_BAD_USAGE, "%s: metadata is not valid UTF-8", fdm_path_tail(w->path));
    return fdm_tensors_set_meta(&w->layout, key, value, err);
}

fdm_status fdm_safetensors_writer_declare(fdm_safetensors_writer *w, const char *name, fdm_dtype dtype, int ndim,
                                          const int64_t *shape, fdm_error *err) {
    if (w->begun)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: tensor declared after the header", fdm_path_tail(w->path));
    if (strcmp(name, "__metadata__") == 0)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: no tensor can be named __metadata__", fdm_path_tail(w->path));
    return fdm_tensors_append(&w->layout, name, dtype, ndim, shape, w /* never read */, false, NULL, err);
}

static void put_tensor(struct fdm_text *json, const fdm_tensor *t, uint64_t begin) {
    fdm_text_json_string(json, t->name);
    fdm_text_printf(json, ":{\"dtype\":\"%s\",\"shape\":[", fdm_dtype_name(t->dtype));
    for (int d = 0; d < t->ndim; d++) fdm_text_printf(json, "%s%lld", d ? "," : "", (long long)t->shape[d]);
    unsigned long long first = begin, last = begin + t->nbytes;
    fdm_text_printf(json, "],\"data_offsets\":[%llu,%llu]}", first, last);
}

/* The JSON header; offset[i] relative to the data.  False if the sizes add up to more than a file can hold. */
static bool make_header(struct fdm_text *json, fdm_safetensors_writer *w, size_t *data_bytes) {
    const fdm_tensors *set = &w->layout;
    size_t at = 0;
    const char *comma = "";
    fdm_text_add(json, "{", 1);
    if (set->meta_count > 0) {
        fdm_text_printf(json, "\"__metadata__\":{");
        for (size_t i = 0; i < set->meta_count; i++) {
            if (i) fdm_text_add(json, ",", 1);
            fdm_text_json_string(json, set->meta_keys[i]);
            fdm_text_add(json, ":", 1);
            fdm_text_json_string(json, set->meta_values[i]);
        }
        fdm_text_add(json, "}", 1);
        comma = ",";
    }
    for (size_t i = 0; i < set->count; i++) {
        w->offset[i] = at;
        fdm_text_printf(json, "%s", comma);
        comma = ",";
        put_tensor(json, &set->items[i], at);
        if (!fdm_add_size(&at, at, set->items[i].nbytes) || at > PTRDIFF_MAX / 2) return false;
    }
    fdm_text_add(json, "}", 1);
    while (!json->failed && json->length % 8) fdm_text_add(json, " ", 1); /* so that the data is 8-byte aligned */
    *data_bytes = at;
    return true;
}

static fdm_status write_header(fdm_safetensors_writer *w, const struct fdm_text *json, size_t data_bytes,
                               fdm_error *err) {
    unsigned char length[8];
    if (json->length > 100000000)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: names and metadata exceed the format's 100 MB header",
                        fdm_path_tail(w->path));
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)json->length >> (8 * i));
    for (size_t i = 0; i < w->layout.count; i++) w->offset[i] += sizeof length + json->length;
    fdm_status status = fdm_atomic_open(&w->file, w->path, err);
    if (!status) status = fdm_atomic_reserve(&w->file, sizeof length + json->length + data_bytes, err);
    if (!status) status = fdm_atomic_write(&w->file, length, sizeof length, err);
    if (!status) status = fdm_atomic_write(&w->file, json->bytes, json->length, err);
    return status;
}

fdm_status fdm_safetensors_writer_begin(fdm_safetensors_writer *w, fdm_error *err) {
    struct fdm_text json = {0};
    size_t data_bytes = 0;
    if (w->begun) return fdm_fail(err, FDM_BAD_USAGE, "%s: begun twice", fdm_path_tail(w->path));
    fdm_status status = fdm_check_writable_set(&w->layout, w->path, err);
    if (status) return status;
    w->begun = true;
    w->offset = calloc(w->layout.count + 1, sizeof *w->offset);
    w->received = calloc(w->layout.count + 1, sizeof *w->received);
    if (!w->offset || !w->received) return fdm_fail_oom(err, "tensor offsets", w->layout.count * sizeof *w->offset);
    if (!make_header(&json, w, &data_bytes))
        status = fdm_fail(err, FDM_BAD_USAGE, "%s: more data than a file can hold", fdm_path_tail(w->path));
    else if (json.failed)
        status = fdm_fail_oom(err, "safetensors header", json.length);
    else
        status = write_header(w, &json, data_bytes, err);
    fdm_text_free(&json);
    return status;
}

static fdm_status put(fdm_safetensors_writer *w, size_t i, size_t offset, const void *data, size_t nbytes,
                      fdm_error *err) {
    const fdm_tensor *t = &w->layout.items[i];
    size_t room = t->nbytes - w->received[i];
    if (offset > t->nbytes || nbytes > t->nbytes - offset || nbytes > room)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: tensor \"%.200s\": bytes %zu..%zu do not fit its %zu",
                        fdm_path_tail(w->path), t->name, offset, offset + nbytes, t->nbytes);
    w->received[i] += nbytes;
    return nbytes ? fdm_atomic_write_at(&w->file, w->offset[i] + offset, data, nbytes, err) : FDM_OK;
}

fdm_status fdm_safetensors_writer_put(fdm_safetensors_writer *w, const char *name, size_t offset, const void *data,
                                      size_t nbytes, fdm_error *err) {
    const fdm_tensor *t = fdm_tensors_find(&w->layout, name);
    if (!t || !w->begun || !w->file.open)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: tensor \"%.200s\" was not declared, or the header is not written",
                        fdm_path_tail(w->path), name);
    return put(w, (size_t)(t - w->layout.items), offset, data, nbytes, err);
}

static fdm_status check_complete(const fdm_safetensors_writer *w, fdm_error *err) {
    if (!w->begun || !w->file.open)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: nothing was written", fdm_path_tail(w->path));
    for (size_t i = 0; i < w->layout.count; i++)
        if (w->received[i] != w->layout.items[i].nbytes)
            return fdm_fail(err, FDM_BAD_USAGE, "%s: tensor \"%.200s\" has %zu of its %zu bytes",
                            fdm_path_tail(w->path), w->layout.items[i].name, w->received[i],
                            w->layout.items[i].nbytes);
    return FDM_OK;
}

fdm_status fdm_safetensors_writer_commit(fdm_safetensors_writer **w, fdm_error *err) {
    fdm_status status = check_complete(*w, err);
    if (!status) status = fdm_atomic_commit(&(*w)->file, err);
    fdm_safetensors_writer_discard(w);
    return status;
}

void fdm_safetensors_writer_discard(fdm_safetensors_writer **w) {
    if (!*w) return;
    fdm_atomic_abort(&(*w)->file);
    fdm_tensors_free(&(*w)->layout);
    free((*w)->path);
    free((*w)->offset);
    free((*w)->received);
    free(*w);
    *w = NULL;
}

static fdm_status write_all(fdm_safetensors_writer *w, const fdm_tensors *set, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < set->meta_count && !status; i++) { /* keys are unique in a set: no search for each */
        const char *key = set->meta_keys[i], *value = set->meta_values[i];
        if (fdm_utf8_valid(key) && fdm_utf8_valid(value))
            status = fdm_tensors_append_meta(&w->layout, key, value, err);
        else
            status = fdm_fail(err, FDM_BAD_USAGE, "%s: metadata %zu is not valid UTF-8", fdm_path_tail(w->path), i);
    }
    for (size_t i = 0; i < set->count && !status; i++) {
        const fdm_tensor *t = &set->items[i];
        status = fdm_safetensors_writer_declare(w, t->name, t->dtype, t->ndim, t->shape, err);
    }
    if (!status) status = fdm_safetensors_writer_begin(w, err);
    for (size_t i = 0; i < set->count && !status; i++)
        status = put(w, i, 0, set->items[i].data, set->items[i].nbytes, err);
    return status;
}

fdm_status fdm_safetensors_write(const fdm_tensors *set, const char *path, fdm_error *err) {
    fdm_safetensors_writer *w;
    fdm_status status = fdm_check_writable_set(set, path, err);
    if (!status) status = fdm_safetensors_writer_new(&w, path, err);
    if (status) return status;
    status = write_all(w, set, err);
    if (!status) return fdm_safetensors_writer_commit(&w, err);
    fdm_safetensors_writer_discard(&w);
    return status;
}
