/* npz_read.c - an .npz archive into a set of tensors. */
#include "fdm/npz.h"

#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "io/io.h"
#include "io/npy.h"
#include "io/npz_read.h"

/* All sizes before anything is unpacked. */
static fdm_status check_sizes(const struct fdm_zip *zip, fdm_error *err) {
    size_t left;
    if (!fdm_mul_size(&left, zip->size, FDM_NPZ_MAX_RATIO) || !fdm_add_size(&left, left, FDM_NPZ_FREE_BYTES))
        left = SIZE_MAX;
    for (size_t i = 0; i < zip->count; i++) {
        const struct fdm_zip_member *m = &zip->members[i];
        if (m->unpacked < FDM_NPY_PREFIX)
            return fdm_fail(err, FDM_BAD_INPUT,
                            "%s: member \"%.100s\" (byte %zu): %zu bytes are no array; remove it", zip->label,
                            m->name, m->header, m->unpacked);
        if (m->unpacked > left)
            return fdm_fail(
                err, FDM_BAD_INPUT,
                "%s: member \"%.100s\" (byte %zu): unpacking goes beyond the limit for a file of %zu bytes "
                "(a zip bomb?)",
                zip->label, m->name, m->header, zip->size);
        left -= m->unpacked;
    }
    return FDM_OK;
}

/* The array header of a member; *end is where the data starts. */
static fdm_status read_header(struct fdm_zip_stream *s, struct fdm_npy *npy, size_t *end, fdm_error *err) {
    unsigned char prefix[FDM_NPY_PREFIX];
    const char *label = s->zip->label;
    const struct fdm_zip_member *m = s->member;
    fdm_status status = fdm_zip_stream_read(s, prefix, sizeof prefix, err);
    if (!status) status = fdm_npy_header_end(end, prefix, label, m->name, err);
    if (!status && *end > m->unpacked)
        status =
            fdm_fail(err, FDM_BAD_INPUT, "%s: array \"%.100s\": truncated: its header should end at byte %zu of it",
                     label, m->name, *end);
    if (status) return status;
    unsigned char *header = malloc(*end);
    if (!header) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (array header)", label);
    memcpy(header, prefix, sizeof prefix);
    status = fdm_zip_stream_read(s, header + sizeof prefix, *end - sizeof prefix, err);
    if (!status) status = fdm_npy_parse_header(npy, header, *end, label, m->name, err);
    free(header);
    if (!status && npy->nbytes != m->unpacked - *end)
        status = fdm_fail(err, FDM_BAD_INPUT,
                          "%s: array \"%.100s\": type and shape need %zu bytes of data, the member has %zu", label,
                          m->name, npy->nbytes, m->unpacked - *end);
    return status;
}

/* The tensor's name, dtype and shape; no data yet. */
static fdm_status append(fdm_tensors *set, const char *member, const struct fdm_npy *npy, fdm_error *err) {
    static const unsigned char nowhere[1];
    fdm_tensor *t;
    char *name = fdm_strdup(member);
    if (!name) {
        fdm_fail_oom(err, "array name", strlen(member));
        return FDM_NO_RESOURCE;
    }
    size_t n = strlen(name);
    if (n >= 4 && strcmp(name + n - 4, ".npy") == 0) name[n - 4] = '\0';
    fdm_status status = fdm_tensors_append(set, name, npy->dtype, npy->ndim, npy->shape, fdm_unconst(nowhere), false,
                                           &t, err);
    if (!status) t->data = NULL;
    free(name);
    return status;
}

static fdm_status describe_member(fdm_tensors *set, const struct fdm_zip *zip, size_t index, fdm_error *err) {
    struct fdm_zip_stream s;
    struct fdm_npy npy = {0};
    size_t end = 0;
    fdm_status status = fdm_zip_stream_open(&s, zip, index, err);
    if (!status) status = read_header(&s, &npy, &end, err);
    if (!status) status = append(set, zip->members[index].name, &npy, err);
    fdm_zip_stream_close(&s);
    return status;
}

/* The data of a member whose header has been read. */
static fdm_status unpack(fdm_tensor *t, struct fdm_zip_stream *s, const struct fdm_npy *npy, fdm_error *err) {
    t->data = fdm_malloc_aligned(npy->nbytes);
    if (!t->data)
        return fdm_fail(err, FDM_NO_RESOURCE, "out of memory (tensor \"%.200s\", %zu bytes)", t->name, npy->nbytes);
    t->owns_data = true;
    fdm_status status = fdm_zip_stream_read(s, t->data, npy->nbytes, err);
    if (!status) status = fdm_zip_stream_finish(s, err);
    return status ? status : fdm_npy_to_native(t, npy, err);
}

fdm_status fdm_npz_unpack(fdm_tensor *t, const struct fdm_zip *zip, size_t index, fdm_error *err) {
    struct fdm_zip_stream s;
    struct fdm_npy npy = {0};
    size_t end = 0;
    fdm_status status = fdm_zip_stream_open(&s, zip, index, err);
    if (!status) status = read_header(&s, &npy, &end, err);
    if (!status && npy.nbytes != t->nbytes)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: array \"%.100s\" changed while it was read", zip->label, t->name);
    if (!status) status = unpack(t, &s, &npy, err);
    fdm_zip_stream_close(&s);
    return status;
}

/* "a" and "a.npy" would become one tensor, so this looks at the tensors' names. */
static fdm_status check_duplicates(const fdm_tensors *set, const char *label, fdm_error *err) {
    const char **names = malloc((set->count + 1) * sizeof *names);
    if (!names) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (%zu names)", label, set->count);
    for (size_t i = 0; i < set->count; i++) names[i] = set->items[i].name;
    const char *twice = fdm_find_duplicate(names, set->count);
    free(names);
    return twice ? fdm_fail(err, FDM_BAD_INPUT, "%s: array \"%.100s\" occurs twice", label, twice) : FDM_OK;
}

fdm_status fdm_npz_describe(fdm_tensors *set, const struct fdm_zip *zip, fdm_error *err) {
    fdm_status status = check_sizes(zip, err);
    for (size_t i = 0; i < zip->count && !status; i++) status = describe_member(set, zip, i, err);
    if (!status) status = check_duplicates(set, zip->label, err);
    if (status) fdm_tensors_free(set);
    return status;
}

fdm_status fdm_npz_parse(fdm_tensors *set, const void *bytes, size_t size, const char *label, fdm_error *err) {
    struct fdm_zip zip;
    memset(set, 0, sizeof *set);
    fdm_status status = fdm_zip_open(&zip, bytes, size, label, err);
    if (status) return status;
    status = fdm_npz_describe(set, &zip, err);
    for (size_t i = 0; i < set->count && !status; i++) status = fdm_npz_unpack(&set->items[i], &zip, i, err);
    fdm_zip_close(&zip);
    if (status) fdm_tensors_free(set);
    return status;
}

fdm_status fdm_npz_read(fdm_tensors *set, const char *path, fdm_error *err) {
    struct fdm_file_map map;
    memset(set, 0, sizeof *set);
    fdm_status status = fdm_file_map_open(&map, path, err);
    if (status) return status;
    status = fdm_npz_parse(set, map.bytes, map.size, fdm_path_tail(path), err);
    fdm_file_map_close(&map);
    return status;
}
