/* safetensors_read.c - a strict reader of .safetensors files; see fdm/safetensors.h for the layout. */
#include "fdm/safetensors.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "io/io.h"

enum {
    LENGTH_BYTES = 8,
    MAX_HEADER_BYTES = 100000000, /* the limit of the format's own reader */
    MAX_JSON_DEPTH = 3,           /* header { tensor { shape [ */
    MAX_JSON_ARRAY = 64           /* far above FDM_MAX_NDIM, whose own message names the tensor */
};

struct entry {
    const char *name; /* owned by the JSON tree */
    size_t begin, end; /* in the data section */
    size_t order;      /* in the header */
    fdm_dtype dtype;
    int ndim;
    int64_t shape[FDM_MAX_NDIM];
};

struct reading {
    fdm_tensors *set;
    const char *label;
    const unsigned char *bytes;
    size_t size, header_bytes, data_start;
    json_t *root;
    struct entry *entries;
    size_t count;
    fdm_error *err;
};

static fdm_status bad(const struct reading *r, const char *tensor, const char *format, ...) FDM_PRINTF(3, 4);
static fdm_status bad(const struct reading *r, const char *tensor, const char *format, ...) {
    char why[224];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (!tensor) return fdm_fail(r->err, FDM_BAD_INPUT, "%s: %s; not a usable safetensors file", r->label, why);
    return fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"%.100s\": %s", r->label, tensor, why);
}

static fdm_status read_header_length(struct reading *r) {
    uint64_t n = 0;
    if (r->size == 0) return bad(r, NULL, "empty file");
    if (r->size < LENGTH_BYTES)
        return bad(r, NULL, "%zu bytes, too short for the 8-byte header length at byte 0", r->size);
    for (int i = 0; i < LENGTH_BYTES; i++) n |= (uint64_t)r->bytes[i] << (8 * i);
    if (n > MAX_HEADER_BYTES)
        return bad(r, NULL, "header length %llu at byte 0 exceeds the limit of %d", (unsigned long long)n,
                   MAX_HEADER_BYTES);
    if (n > r->size - LENGTH_BYTES)
        return bad(r, NULL, "truncated: header ends at byte %llu, the file at byte %zu",
                   (unsigned long long)n + LENGTH_BYTES, r->size);
    r->header_bytes = (size_t)n;
    r->data_start = LENGTH_BYTES + r->header_bytes;
    return FDM_OK;
}

/* A look at the brackets before the JSON library builds its tree, which takes tens of bytes of memory per byte of
 * a header made of "[[],[],..." or of one endless array. */
static fdm_status check_nesting(const struct reading *r) {
    const unsigned char *p = r->bytes + LENGTH_BYTES;
    int depth = 0, commas[MAX_JSON_DEPTH + 1] = {0};
    bool array[MAX_JSON_DEPTH + 1] = {false}, string = false;
    if (r->header_bytes == 0 || p[0] != '{') return bad(r, NULL, "the JSON header at byte 8 does not start with '{'");
    for (size_t i = 0; i < r->header_bytes; i++) {
        unsigned char c = p[i];
        if (string) {
            if (c == '\\') i++;
            else if (c == '"') string = false;
        } else if (c == '"') {
            string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > MAX_JSON_DEPTH)
                return bad(r, NULL, "JSON nested deeper than %d at byte %zu", MAX_JSON_DEPTH, i + LENGTH_BYTES);
            array[depth] = c == '[';
            commas[depth] = 0;
        } else if (c == '}' || c == ']') {
            if (depth > 0) depth--;
        } else if (c == ',' && array[depth] && ++commas[depth] >= MAX_JSON_ARRAY) {
            return bad(r, NULL, "JSON array of more than %d entries at byte %zu", MAX_JSON_ARRAY, i + LENGTH_BYTES);
        }
    }
    return FDM_OK;
}

static fdm_status parse_json(struct reading *r) {
    json_error_t e;
    r->root = json_loadb((const char *)r->bytes + LENGTH_BYTES, r->header_bytes, JSON_REJECT_DUPLICATES, &e);
    if (r->root) return FDM_OK; /* an object, as it starts with '{' */
    if (json_error_code(&e) == json_error_out_of_memory)
        return fdm_fail(r->err, FDM_NO_RESOURCE, "%s: out of memory (%zu-byte header)", r->label, r->header_bytes);
    return bad(r, NULL, "bad JSON header at byte %zu: %.120s", (size_t)e.position + LENGTH_BYTES, e.text);
}

static fdm_status read_shape(const struct reading *r, struct entry *e, const json_t *shape) {
    if (!json_is_array(shape)) return bad(r, e->name, "\"shape\" is not an array");
    size_t ndim = json_array_size(shape);
    if (ndim > FDM_MAX_NDIM) return bad(r, e->name, "%zu dimensions; at most %d are supported", ndim, FDM_MAX_NDIM);
    e->ndim = (int)ndim;
    for (size_t i = 0; i < ndim; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d)) return bad(r, e->name, "dimension %zu is not an integer", i);
        e->shape[i] = json_integer_value(d);
        if (e->shape[i] < 0) return bad(r, e->name, "dimension %zu is %lld", i, (long long)e->shape[i]);
    }
    return FDM_OK;
}

static fdm_status read_offsets(const struct reading *r, struct entry *e, const json_t *offsets) {
    size_t data_size = r->size - r->data_start;
    const json_t *b = json_array_get(offsets, 0), *n = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(n))
        return bad(r, e->name, "\"data_offsets\" is not a pair of integers");
    long long begin = json_integer_value(b), end = json_integer_value(n);
    if (begin < 0 || end < begin) return bad(r, e->name, "data_offsets [%lld, %lld] are out of order", begin, end);
    if ((unsigned long long)end > data_size)
        return bad(r, e->name, "data_offsets [%lld, %lld] reach beyond the data (%zu bytes, from byte %zu); truncated?",
                   begin, end, data_size, r->data_start);
    e->begin = (size_t)begin;
    e->end = (size_t)end;
    return FDM_OK;
}

/* One member of the header: exactly dtype, shape and data_offsets, which agree on the size. */
static fdm_status read_entry(const struct reading *r, struct entry *e, const json_t *info) {
    int64_t numel;
    size_t nbytes;
    if (!json_is_object(info)) return bad(r, e->name, "its header entry is not an object");
    const json_t *dtype = json_object_get(info, "dtype"), *shape = json_object_get(info, "shape");
    const json_t *offsets = json_object_get(info, "data_offsets");
    if (!dtype || !shape || !offsets || json_object_size(info) != 3)
        return bad(r, e->name, "its header entry needs exactly \"dtype\", \"shape\" and \"data_offsets\"");
    if (!json_is_string(dtype)) return bad(r, e->name, "\"dtype\" is not a string");
    e->dtype = fdm_dtype_from_name(json_string_value(dtype));
    if (e->dtype == FDM_DTYPE_COUNT)
        return bad(r, e->name, "dtype \"%.20s\" is not supported (F64 F32 F16 BF16 I64..I8 U64..U8 BOOL are)",
                   json_string_value(dtype));
    fdm_status status = read_shape(r, e, shape);
    if (!status) status = read_offsets(r, e, offsets);
    if (status) return status;
    if (!fdm_shape_bytes(&numel, &nbytes, e->dtype, e->ndim, e->shape))
        return bad(r, e->name, "its shape has more elements than any memory holds");
    if (nbytes != e->end - e->begin)
        return bad(r, e->name, "shape and dtype need %zu bytes, data_offsets [%zu, %zu] give %zu", nbytes, e->begin,
                   e->end, e->end - e->begin);
    return FDM_OK;
}

static fdm_status read_metadata(const struct reading *r, const json_t *metadata) {
    const char *key;
    json_t *value;
    fdm_status status = FDM_OK;
    if (!json_is_object(metadata)) return bad(r, NULL, "__metadata__ is not an object");
    json_object_foreach ((json_t *)(uintptr_t)metadata, key, value) {
        if (!json_is_string(value)) return bad(r, NULL, "__metadata__ \"%.100s\" is not a string", key);
        status = fdm_tensors_append_meta(r->set, key, json_string_value(value), r->err);
        if (status) return status;
    }
    return FDM_OK;
}

static fdm_status read_entries(struct reading *r) {
    const char *key;
    json_t *value;
    fdm_status status = FDM_OK;
    size_t members = json_object_size(r->root), bytes;
    if (!fdm_mul_size(&bytes, members + 1, sizeof *r->entries) || !(r->entries = malloc(bytes)))
        return fdm_fail_oom(r->err, "tensor table", members * sizeof *r->entries);
    json_object_foreach (r->root, key, value) {
        if (strcmp(key, "__metadata__") == 0) {
            status = read_metadata(r, value);
        } else {
            struct entry *e = &r->entries[r->count];
            *e = (struct entry){.name = key, .order = r->count};
            status = read_entry(r, e, value);
            r->count++;
        }
        if (status) return status;
    }
    return FDM_OK;
}

/* By position; empty tensors before the one that starts at the same byte. */
static int by_position(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* The tensors must tile the data section: no gap, no overlap, nothing left over. */
static fdm_status check_tiling(const struct reading *r) {
    size_t covered = 0, data_size = r->size - r->data_start;
    qsort(r->entries, r->count, sizeof *r->entries, by_position);
    for (size_t i = 0; i < r->count; i++) {
        const struct entry *e = &r->entries[i];
        if (e->begin != covered)
            return bad(r, e->name, "data_offsets [%zu, %zu] %s (the data before it ends at %zu)", e->begin, e->end,
                       e->begin < covered ? "overlap another tensor" : "leave a gap", covered);
        covered = e->end;
    }
    if (covered != data_size)
        return bad(r, NULL, "%zu bytes from byte %zu on belong to no tensor", data_size - covered,
                   r->data_start + covered);
    return FDM_OK;
}

static fdm_status add_tensors(const struct reading *r) {
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < r->count && !status; i++) {
        const struct entry *e = &r->entries[i];
        const unsigned char *data = r->bytes + r->data_start + e->begin;
        bool aligned = (uintptr_t)data % fdm_dtype_size(e->dtype) == 0;
        fdm_tensor *t;
        status = fdm_tensors_append(r->set, e->name, e->dtype, e->ndim, e->shape,
                                    aligned ? (void *)(uintptr_t)data : NULL, false, &t, r->err);
        if (!status && !aligned) memcpy(t->data, data, t->nbytes);
    }
    return status;
}

fdm_status fdm_safetensors_parse(fdm_tensors *set, const void *bytes, size_t size, const char *label, fdm_error *err) {
    struct reading r = {.set = set, .label = label, .bytes = bytes, .size = size, .err = err};
    memset(set, 0, sizeof *set);
    fdm_status status = read_header_length(&r);
    if (!status) status = check_nesting(&r);
    if (!status) status = parse_json(&r);
    if (!status) status = read_entries(&r);
    if (!status) status = check_tiling(&r);
    if (!status) status = add_tensors(&r);
    free(r.entries);
    json_decref(r.root);
    if (status) fdm_tensors_free(set);
    return status;
}

fdm_status fdm_safetensors_read(fdm_tensors *set, const char *path, fdm_error *err) {
    struct fdm_file_map map;
    memset(set, 0, sizeof *set);
    fdm_status status = fdm_file_map_open(&map, path, err);
    if (status) return status;
    status = fdm_safetensors_parse(set, map.bytes, map.size, fdm_path_tail(path), err);
    if (status) {
        fdm_file_map_close(&map);
        return status;
    }
    set->mapping = map.mapping; /* unmapped by fdm_tensors_free */
    set->mapping_bytes = map.size;
    return FDM_OK;
}
