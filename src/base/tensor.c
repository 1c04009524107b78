/* tensor.c - named tensors and their metadata in memory. */
#include "base/tensor_set.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[FDM_DTYPE_COUNT] = {
#define DTYPE_ROW(e, st, np, size) [e] = {st, size},
    FDM_DTYPES(DTYPE_ROW)
#undef DTYPE_ROW
};

static bool is_dtype(fdm_dtype dtype) {
    return (unsigned)dtype < FDM_DTYPE_COUNT;
}

size_t fdm_dtype_size(fdm_dtype dtype) {
    return is_dtype(dtype) ? dtypes[dtype].size : 0;
}

const char *fdm_dtype_name(fdm_dtype dtype) {
    return is_dtype(dtype) ? dtypes[dtype].name : "?";
}

fdm_dtype fdm_dtype_from_name(const char *name) {
    int d = 0;
    while (d < FDM_DTYPE_COUNT && strcmp(dtypes[d].name, name) != 0) d++;
    return (fdm_dtype)d;
}

bool fdm_shape_bytes(int64_t *numel, size_t *nbytes, fdm_dtype dtype, int ndim, const int64_t *shape) {
    size_t size = fdm_dtype_size(dtype), nonzero = size; /* bytes, as if every zero dimension were a one */
    bool empty = false;
    if (size == 0 || ndim < 0 || ndim > FDM_MAX_NDIM) return false;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0 || (uint64_t)shape[i] > PTRDIFF_MAX) return false;
        if (shape[i] == 0)
            empty = true;
        else if (!fdm_mul_size(&nonzero, nonzero, (size_t)shape[i]) || nonzero > PTRDIFF_MAX)
            return false;
    }
    *nbytes = empty ? 0 : nonzero;
    *numel = (int64_t)(*nbytes / size);
    return true;
}

void fdm_shape_text(char *text, size_t size, int ndim, const int64_t *shape) {
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < ndim && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i ? "," : "", shape[i]);
    if (used < size) snprintf(text + used, size - used, "]");
}

void fdm_unravel(int64_t index[FDM_MAX_NDIM], int ndim, const int64_t *shape, int64_t i) {
    for (int d = ndim - 1; d >= 0; d--) {
        index[d] = i % shape[d];
        i /= shape[d];
    }
}

void fdm_index_text(char *text, size_t size, int ndim, const int64_t *shape, int64_t i) {
    int64_t index[FDM_MAX_NDIM] = {0};
    fdm_unravel(index, ndim, shape, i);
    fdm_shape_text(text, size, ndim, index);
}

void fdm_tensors_free(fdm_tensors *set) {
    if (!set) return;
    for (size_t i = 0; i < set->count; i++) {
        free(set->items[i].name);
        if (set->items[i].owns_data) fdm_free_aligned(set->items[i].data);
    }
    for (size_t i = 0; i < set->meta_count; i++) {
        free(set->meta_keys[i]);
        free(set->meta_values[i]);
    }
    free(set->items);
    free(set->meta_keys);
    free(set->meta_values);
    if (set->mapping) munmap(set->mapping, set->mapping_bytes);
    memset(set, 0, sizeof *set);
}

fdm_tensor *fdm_tensors_find(const fdm_tensors *set, const char *name) {
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->items[i].name, name) == 0) return &set->items[i];
    return NULL;
}

/* Index of a metadata key, or meta_count. */
static size_t find_meta(const fdm_tensors *set, const char *key) {
    size_t i = 0;
    while (i < set->meta_count && strcmp(set->meta_keys[i], key) != 0) i++;
    return i;
}

const char *fdm_tensors_meta(const fdm_tensors *set, const char *key) {
    size_t i = find_meta(set, key);
    return i < set->meta_count ? set->meta_values[i] : NULL;
}

/* Doubles an array's capacity; the array and its capacity are untouched on failure. */
static bool grow(void **array, size_t *capacity, size_t element) {
    size_t bytes, next = *capacity ? *capacity : 8;
    if (*capacity && !fdm_mul_size(&next, next, 2)) return false;
    if (!fdm_mul_size(&bytes, next, element)) return false;
    void *p = realloc(*array, bytes);
    if (!p) return false;
    *array = p;
    *capacity = next;
    return true;
}

static bool grow_meta(fdm_tensors *set) {
    size_t capacity = set->meta_capacity, same = capacity;
    void *keys = set->meta_keys, *values = set->meta_values;
    bool ok = grow(&keys, &capacity, sizeof *set->meta_keys);
    set->meta_keys = keys;
    if (ok) ok = grow(&values, &same, sizeof *set->meta_values);
    set->meta_values = values;
    if (ok) set->meta_capacity = capacity;
    return ok;
}

fdm_status fdm_tensors_append_meta(fdm_tensors *set, const char *key, const char *value, fdm_error *err) {
    if (set->meta_count == set->meta_capacity && !grow_meta(set)) return fdm_fail_oom(err, "metadata list", 0);
    char *k = fdm_strdup(key), *v = fdm_strdup(value);
    if (!k || !v) {
        free(k);
        free(v);
        return fdm_fail_oom(err, "metadata", strlen(key) + strlen(value));
    }
    set->meta_keys[set->meta_count] = k;
    set->meta_values[set->meta_count++] = v;
    return FDM_OK;
}

fdm_status fdm_tensors_set_meta(fdm_tensors *set, const char *key, const char *value, fdm_error *err) {
    if (!set || !key || !value) return fdm_fail(err, FDM_BAD_USAGE, "metadata needs a set, a key and a value");
    size_t i = find_meta(set, key);
    if (i == set->meta_count) return fdm_tensors_append_meta(set, key, value, err);
    char *copy = fdm_strdup(value);
    if (!copy) return fdm_fail_oom(err, "metadata", strlen(value));
    free(set->meta_values[i]);
    set->meta_values[i] = copy;
    return FDM_OK;
}

fdm_status fdm_tensors_append(fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim, const int64_t *shape,
                              void *data, bool zero, fdm_tensor **out, fdm_error *err) {
    fdm_tensor t = {.dtype = dtype, .ndim = ndim, .data = data, .owns_data = !data};
    int64_t numel;
    if (!set || !name || (ndim > 0 && !shape))
        return fdm_fail(err, FDM_BAD_USAGE, "a tensor needs a name and a shape");
    if (!fdm_shape_bytes(&numel, &t.nbytes, dtype, ndim, shape))
        return fdm_fail(err, FDM_BAD_USAGE, "tensor \"%.200s\": unknown dtype, bad shape or too many elements",
                        name);
    if (ndim > 0) memcpy(t.shape, shape, (size_t)ndim * sizeof *shape);
    if (set->count == set->capacity) {
        void *items = set->items;
        if (!grow(&items, &set->capacity, sizeof *set->items)) return fdm_fail_oom(err, "tensor list", 0);
        set->items = items;
    }
    t.name = fdm_strdup(name);
    if (t.owns_data) t.data = fdm_malloc_aligned(t.nbytes);
    if (!t.name || !t.data) {
        free(t.name);
        if (t.owns_data) fdm_free_aligned(t.data);
        return fdm_fail(err, FDM_NO_RESOURCE, "out of memory (tensor \"%.200s\", %zu bytes)", name, t.nbytes);
    }
    if (t.owns_data && zero) memset(t.data, 0, t.nbytes);
    set->items[set->count] = t;
    if (out) *out = &set->items[set->count];
    set->count++;
    return FDM_OK;
}

static fdm_status check_new_name(const fdm_tensors *set, const char *name, fdm_error *err) {
    if (set && name && fdm_tensors_find(set, name))
        return fdm_fail(err, FDM_BAD_USAGE, "there is already a tensor \"%.200s\"", name);
    return FDM_OK;
}

fdm_status fdm_tensors_add(fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim, const int64_t *shape,
                           fdm_tensor **out, fdm_error *err) {
    fdm_status status = check_new_name(set, name, err);
    return status ? status : fdm_tensors_append(set, name, dtype, ndim, shape, NULL, true, out, err);
}

fdm_status fdm_tensors_add_borrowed(fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim,
                                    const int64_t *shape, void *data, fdm_tensor **out, fdm_error *err) {
    fdm_status status = check_new_name(set, name, err);
    if (!status && !data)
        status = fdm_fail(err, FDM_BAD_USAGE, "borrowed tensor \"%.200s\" has no data", name ? name : "");
    return status ? status : fdm_tensors_append(set, name, dtype, ndim, shape, data, false, out, err);
}

int64_t fdm_tensor_numel(const fdm_tensor *t) {
    size_t size = fdm_dtype_size(t->dtype);
    return size ? (int64_t)(t->nbytes / size) : 0;
}

static double from_f32_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* binary16: sign, 5-bit exponent (bias 15), 10-bit fraction; subnormals are fraction * 2^-24. */
static double from_f16_bits(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    if (exponent == 31) return from_f32_bits(sign | 0x7f800000u | fraction << 13); /* infinities, NaN payloads */
    if (exponent) return from_f32_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
    double tiny = (double)fraction * 0x1p-24;
    return sign ? -tiny : tiny;
}

double fdm_tensor_get(const fdm_tensor *t, int64_t i) {
    switch (t->dtype) {
    case FDM_F32:
        return ((const float *)t->data)[i];
    case FDM_F64:
        return ((const double *)t->data)[i];
    case FDM_F16:
        return from_f16_bits(((const uint16_t *)t->data)[i]);
    case FDM_BF16:
        return from_f32_bits((uint32_t)((const uint16_t *)t->data)[i] << 16);
    case FDM_I64:
        return (double)((const int64_t *)t->data)[i];
    case FDM_I32:
        return ((const int32_t *)t->data)[i];
    case FDM_I16:
        return ((const int16_t *)t->data)[i];
    case FDM_I8:
        return ((const int8_t *)t->data)[i];
    case FDM_U64:
        return (double)((const uint64_t *)t->data)[i];
    case FDM_U32:
        return ((const uint32_t *)t->data)[i];
    case FDM_U16:
        return ((const uint16_t *)t->data)[i];
    case FDM_U8:
        return ((const uint8_t *)t->data)[i];
    case FDM_BOOL:
        return ((const uint8_t *)t->data)[i] != 0;
    case FDM_DTYPE_COUNT:
        break;
    }
    return (double)NAN;
}
