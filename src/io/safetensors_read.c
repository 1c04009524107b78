/* safetensors_read.c - a strict reader of .safetensors files; see fdm/safetensors.h for the layout. */
#include "fdm/safetensors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "io/io.h"
#include "io/json_scan.h"
#include "io/text.h"

enum {
    LENGTH_BYTES = 8,
    MAX_HEADER_BYTES = 100000000 /* the limit of the format's own reader */
};

struct entry {
    const char *name;  /* in the reading's strings */
    size_t at;         /* of its name in the file, for messages */
    size_t begin, end; /* in the data section */
    fdm_dtype dtype;
    int ndim;
    int64_t shape[FDM_MAX_NDIM];
};

struct reading {
    fdm_tensors *set;
    const char *label;
    const unsigned char *bytes;
    size_t size, data_start;
    struct fdm_json json;
    char *strings; /* all decoded strings one after the other; together no longer than the header */
    size_t strings_used;
    struct entry *entries;
    size_t count, capacity;
    fdm_error *err;
};

static void complain(const struct reading *r, const char *tensor, size_t at, const char *format, ...)
    FDM_PRINTF(4, 5);
static void complain(const struct reading *r, const char *tensor, size_t at, const char *format, ...) {
    char why[200];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (!tensor)
        fdm_fail(r->err, FDM_BAD_INPUT, "%s: %s (byte %zu); not a usable safetensors file", r->label, why, at);
    else
        fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"%.100s\": %s (byte %zu); not a usable safetensors file",
                 r->label, tensor, why, at);
}
/* A macro, so that compilers and analysers see that it never means success. */
#define bad(...) (complain(__VA_ARGS__), FDM_BAD_INPUT)

static fdm_status bad_json(const struct reading *r, const char *tensor) {
    return bad(r, tensor, r->json.at, "bad header: %s", r->json.problem);
}

static fdm_status read_header_length(struct reading *r) {
    uint64_t n = 0;
    if (r->size == 0) return bad(r, NULL, 0, "empty file");
    if (r->size < LENGTH_BYTES) return bad(r, NULL, r->size, "truncated within the 8-byte header length");
    for (int i = 0; i < LENGTH_BYTES; i++) n |= (uint64_t)r->bytes[i] << (8 * i);
    if (n > MAX_HEADER_BYTES)
        return bad(r, NULL, 0, "header length %llu exceeds the limit of %d", (unsigned long long)n,
                   MAX_HEADER_BYTES);
    if (n > r->size - LENGTH_BYTES)
        return bad(r, NULL, r->size, "truncated: the header should end at byte %llu",
                   (unsigned long long)n + LENGTH_BYTES);
    r->data_start = LENGTH_BYTES + (size_t)n;
    r->json = (struct fdm_json){.bytes = r->bytes, .at = LENGTH_BYTES, .end = r->data_start};
    if (n == 0 || r->bytes[LENGTH_BYTES] != '{')
        return bad(r, NULL, LENGTH_BYTES, "the JSON header does not start with '{'");
    r->strings = malloc((size_t)n + 1);
    return r->strings
               ? FDM_OK
               : fdm_fail(r->err, FDM_NO_RESOURCE, "%s: out of memory (header of %zu bytes)", r->label, (size_t)n);
}

/* The next string, kept until the reading ends. */
static bool take_string(struct reading *r, const char **out) {
    size_t n;
    char *s = r->strings + r->strings_used;
    if (!fdm_json_string(&r->json, s, &n)) return false;
    r->strings_used += n + 1;
    *out = s;
    return true;
}

static fdm_status read_dtype(struct reading *r, struct entry *e) {
    const char *name;
    size_t at = r->json.at;
    if (!take_string(r, &name)) return bad_json(r, e->name);
    e->dtype = fdm_dtype_from_name(name);
    if (e->dtype != FDM_DTYPE_COUNT) return FDM_OK;
    return bad(r, e->name, at, "dtype \"%.20s\" is not supported (F64 F32 F16 BF16 I64..I8 U64..U8 BOOL are)",
               name);
}

static fdm_status read_shape(struct reading *r, struct entry *e) {
    if (!fdm_json_expect(&r->json, '[')) return bad_json(r, e->name);
    if (fdm_json_take(&r->json, ']')) return FDM_OK;
    do {
        size_t at = r->json.at;
        if (e->ndim == FDM_MAX_NDIM) return bad(r, e->name, at, "more than %d dimensions", FDM_MAX_NDIM);
        if (!fdm_json_integer(&r->json, &e->shape[e->ndim])) return bad_json(r, e->name);
        if (e->shape[e->ndim] < 0) return bad(r, e->name, at, "negative dimension");
        e->ndim++;
    } while (fdm_json_take(&r->json, ','));
    return fdm_json_expect(&r->json, ']') ? FDM_OK : bad_json(r, e->name);
}

static fdm_status read_offsets(struct reading *r, struct entry *e) {
    size_t at = r->json.at, data_bytes = r->size - r->data_start;
    int64_t begin, end;
    if (!fdm_json_expect(&r->json, '[') || !fdm_json_integer(&r->json, &begin)) return bad_json(r, e->name);
    if (!fdm_json_take(&r->json, ',')) return bad(r, e->name, at, "data_offsets is not a pair");
    if (!fdm_json_integer(&r->json, &end)) return bad_json(r, e->name);
    if (!fdm_json_take(&r->json, ']')) return bad(r, e->name, at, "data_offsets is not a pair");
    if (begin < 0 || end < begin)
        return bad(r, e->name, at, "data_offsets [%lld, %lld] are out of order", (long long)begin, (long long)end);
    if ((uint64_t)end > data_bytes)
        return bad(r, e->name, at,
                   "data_offsets [%lld, %lld] reach beyond the file's %zu bytes of data; truncated?",
                   (long long)begin, (long long)end, data_bytes);
    e->begin = (size_t)begin;
    e->end = (size_t)end;
    return FDM_OK;
}

static fdm_status check_entry(const struct reading *r, const struct entry *e) {
    int64_t numel;
    size_t nbytes;
    if (!fdm_shape_bytes(&numel, &nbytes, e->dtype, e->ndim, e->shape))
        return bad(r, e->name, e->at, "its shape has more elements than any memory holds");
    if (nbytes != e->end - e->begin)
        return bad(r, e->name, e->at, "shape and dtype need %zu bytes, data_offsets [%zu, %zu] give %zu", nbytes,
                   e->begin, e->end, e->end - e->begin);
    return FDM_OK;
}

/* The value of a tensor's member: exactly dtype, shape and data_offsets, which agree on the size. */
static fdm_status read_entry(struct reading *r, struct entry *e) {
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    fdm_status (*const read[])(struct reading *, struct entry *) = {read_dtype, read_shape, read_offsets};
    unsigned seen = 0;
    if (!fdm_json_expect(&r->json, '{')) return bad_json(r, e->name);
    do {
        const char *key;
        size_t at = r->json.at;
        int k = 0;
        if (seen == 0 && fdm_json_take(&r->json, '}')) return bad(r, e->name, at, "its entry is empty");
        if (!take_string(r, &key) || !fdm_json_expect(&r->json, ':')) return bad_json(r, e->name);
        while (k < 3 && strcmp(key, keys[k]) != 0) k++;
        if (k == 3) return bad(r, e->name, at, "unknown key \"%.40s\" in its entry", key);
        if (seen & 1u << k) return bad(r, e->name, at, "duplicate key \"%s\" in its entry", key);
        fdm_status status = read[k](r, e);
        if (status) return status;
        seen |= 1u << k;
    } while (fdm_json_take(&r->json, ','));
    if (!fdm_json_expect(&r->json, '}')) return bad_json(r, e->name);
    if (seen != 7) return bad(r, e->name, r->json.at, "its entry lacks dtype, shape or data_offsets");
    return check_entry(r, e);
}

static fdm_status read_metadata(struct reading *r) {
    if (!fdm_json_expect(&r->json, '{')) return bad_json(r, "__metadata__");
    if (fdm_json_take(&r->json, '}')) return FDM_OK;
    do {
        const char *key, *value;
        size_t kept = r->strings_used;
        if (!take_string(r, &key) || !fdm_json_expect(&r->json, ':') || !take_string(r, &value))
            return bad_json(r, "__metadata__");
        fdm_status status = fdm_tensors_append_meta(r->set, key, value, r->err);
        if (status) return status;
        r->strings_used = kept; /* the set has copies */
    } while (fdm_json_take(&r->json, ','));
    return fdm_json_expect(&r->json, '}') ? FDM_OK : bad_json(r, "__metadata__");
}

static fdm_status add_entry(struct reading *r, const char *name, size_t at) {
    if (r->count == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 64; /* bounded by the header's bytes */
        struct entry *grown = realloc(r->entries, capacity * sizeof *grown);
        if (!grown)
            return fdm_fail(r->err, FDM_NO_RESOURCE, "%s: out of memory (table of %zu tensors)", r->label,
                            capacity);
        r->entries = grown;
        r->capacity = capacity;
    }
    r->entries[r->count] = (struct entry){.name = name, .at = at};
    return read_entry(r, &r->entries[r->count++]);
}

static fdm_status read_header(struct reading *r) {
    bool metadata = false;
    if (!fdm_json_expect(&r->json, '{')) return bad_json(r, NULL);
    if (fdm_json_take(&r->json, '}')) return fdm_json_finished(&r->json) ? FDM_OK : bad_json(r, NULL);
    do {
        const char *name;
        size_t at = r->json.at;
        fdm_status status;
        if (!take_string(r, &name) || !fdm_json_expect(&r->json, ':')) return bad_json(r, NULL);
        if (strcmp(name, "__metadata__") != 0)
            status = add_entry(r, name, at);
        else if (metadata)
            status = bad(r, NULL, at, "duplicate __metadata__");
        else
            status = read_metadata(r);
        if (status) return status;
        metadata = metadata || strcmp(name, "__metadata__") == 0;
    } while (fdm_json_take(&r->json, ','));
    return fdm_json_expect(&r->json, '}') && fdm_json_finished(&r->json) ? FDM_OK : bad_json(r, NULL);
}

static int by_name(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static fdm_status check_duplicates(const struct reading *r) {
    size_t n = r->set->meta_count;
    /* Not even qsort(NULL, 0) is allowed. */
    if (r->count > 0) qsort(r->entries, r->count, sizeof *r->entries, by_name);
    for (size_t i = 1; i < r->count; i++)
        if (strcmp(r->entries[i - 1].name, r->entries[i].name) == 0)
            return bad(r, r->entries[i].name, r->entries[i].at, "duplicate name");
    if (n < 2) return FDM_OK;
    const char **keys = malloc(n * sizeof *keys); /* the set's own list is as large */
    if (!keys) return fdm_fail(r->err, FDM_NO_RESOURCE, "%s: out of memory (%zu metadata keys)", r->label, n);
    memcpy(keys, r->set->meta_keys, n * sizeof *keys);
    const char *twice = fdm_find_duplicate(keys, n);
    free(keys);
    return twice ? bad(r, "__metadata__", LENGTH_BYTES, "duplicate key \"%.40s\"", twice) : FDM_OK;
}

/* By position; empty tensors before the one that starts at the same byte. */
static int by_position(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The tensors must tile the data section: no gap, no overlap, nothing left over. */
static fdm_status check_tiling(const struct reading *r) {
    size_t covered = 0, data_size = r->size - r->data_start;
    if (r->count > 0) qsort(r->entries, r->count, sizeof *r->entries, by_position);
    for (size_t i = 0; i < r->count; i++) {
        const struct entry *e = &r->entries[i];
        if (e->begin != covered)
            return bad(r, e->name, e->at, "data_offsets [%zu, %zu] %s: the data before ends at %zu", e->begin,
                       e->end, e->begin < covered ? "overlap another tensor" : "leave a gap", covered);
        covered = e->end;
    }
    if (covered != data_size)
        return bad(r, NULL, r->data_start + covered, "the last %zu bytes belong to no tensor", data_size - covered);
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
                                    aligned ? fdm_unconst(data) : NULL, false, &t, r->err);
        if (!status && !aligned) memcpy(t->data, data, t->nbytes);
    }
    return status;
}

fdm_status fdm_safetensors_parse(fdm_tensors *set, const void *bytes, size_t size, const char *label,
                                 fdm_error *err) {
    struct reading r = {.set = set, .label = label, .bytes = bytes, .size = size, .err = err};
    memset(set, 0, sizeof *set);
    fdm_status status = read_header_length(&r);
    if (!status) status = read_header(&r);
    if (!status) status = check_duplicates(&r);
    if (!status) status = check_tiling(&r);
    if (!status) status = add_tensors(&r);
    free(r.entries);
    free(r.strings);
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
