/* npy.c - NumPy's array format: header, byte order, Fortran order. */
#include "io/npy.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "fdm/npz.h"
#include "io/atomic_file.h"
#include "io/io.h"

static const char *const descrs[FDM_DTYPE_COUNT] = {
#define DESCR_ROW(e, st, np, size) [e] = np,
    FDM_DTYPES(DESCR_ROW)
#undef DESCR_ROW
};

/* A cursor in the header's dict literal. */
struct cursor {
    const unsigned char *bytes; /* of the array file, so that positions are file positions */
    size_t at, end;
    const char *label, *name;
    fdm_error *err;
};

static void complain(const struct cursor *c, const char *format, ...) FDM_PRINTF(2, 3);
static void complain(const struct cursor *c, const char *format, ...) {
    char why[160];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (!c->name)
        fdm_fail(c->err, FDM_BAD_INPUT, "%s: %s (array file, byte %zu)", c->label, why, c->at);
    else
        fdm_fail(c->err, FDM_BAD_INPUT, "%s: array \"%.100s\": %s (byte %zu of the array)", c->label, c->name, why,
                 c->at);
}
/* A macro, so that compilers and analysers see that it never means success. */
#define bad(...) (complain(__VA_ARGS__), FDM_BAD_INPUT)

fdm_status fdm_npy_header_end(size_t *end, const unsigned char *prefix, const char *label, const char *name,
                              fdm_error *err) {
    struct cursor c = {.label = label, .name = name, .err = err};
    if (memcmp(prefix, "\x93NUMPY", 6) != 0) return bad(&c, "does not start with NumPy's signature");
    c.at = 6;
    if (prefix[6] < 1 || prefix[6] > 3 || prefix[7] != 0)
        return bad(&c, "array format %d.%d; 1.0, 2.0 and 3.0 are supported", prefix[6], prefix[7]);
    c.at = 8;
    uint32_t length = prefix[8] | (uint32_t)prefix[9] << 8;
    if (prefix[6] >= 2) length |= (uint32_t)prefix[10] << 16 | (uint32_t)prefix[11] << 24;
    if (length > FDM_NPY_MAX_HEADER) return bad(&c, "header of %u bytes; at most %d", length, FDM_NPY_MAX_HEADER);
    *end = (prefix[6] == 1 ? 10u : 12u) + length;
    if (*end < FDM_NPY_PREFIX) return bad(&c, "header of %u bytes is too short", length);
    return FDM_OK;
}

static void skip_space(struct cursor *c) {
    while (c->at < c->end && (c->bytes[c->at] == ' ' || c->bytes[c->at] == '\n' || c->bytes[c->at] == '\t'))
        c->at++;
}

/* Takes `token` if it comes next. */
static bool take(struct cursor *c, const char *token) {
    size_t n = strlen(token);
    skip_space(c);
    if (c->end - c->at < n || memcmp(c->bytes + c->at, token, n) != 0) return false;
    c->at += n;
    return true;
}

/* 'text' or "text" without escapes, at most 15 characters. */
static bool take_string(struct cursor *c, char out[16]) {
    size_t n = 0;
    skip_space(c);
    if (c->at >= c->end || (c->bytes[c->at] != '\'' && c->bytes[c->at] != '"')) return false;
    unsigned char quote = c->bytes[c->at];
    while (c->at + 1 + n < c->end && c->bytes[c->at + 1 + n] != quote) {
        unsigned char byte = c->bytes[c->at + 1 + n];
        if (n >= 15 || byte < 0x20 || byte > 0x7e || byte == '\\') return false;
        out[n++] = (char)byte;
    }
    if (c->at + 1 + n >= c->end) return false;
    out[n] = '\0';
    c->at += n + 2;
    return true;
}

static fdm_status parse_descr(struct cursor *c, struct fdm_npy *out) {
    char descr[16];
    size_t start = c->at;
    if (!take_string(c, descr)) return bad(c, "the type is not a plain one (structured arrays are not supported)");
    for (int d = 0; d < FDM_DTYPE_COUNT; d++) {
        if (!descrs[d][0] || strcmp(descr + 1, descrs[d] + 1) != 0) continue;
        bool one_byte = fdm_dtype_size((fdm_dtype)d) == 1;
        if (descr[0] != '<' && descr[0] != '>' && !(descr[0] == '|' && one_byte)) break;
        out->dtype = (fdm_dtype)d;
        out->swapped = descr[0] == '>' && !one_byte;
        return FDM_OK;
    }
    c->at = start;
    return bad(c, "type '%s' is not supported (f2 f4 f8 i1..i8 u1..u8 b1 are); convert it with NumPy's astype",
               descr);
}

static fdm_status parse_bool(struct cursor *c, struct fdm_npy *out) {
    if (take(c, "True"))
        out->fortran = true;
    else if (take(c, "False"))
        out->fortran = false;
    else
        return bad(c, "fortran_order is neither True nor False");
    return FDM_OK;
}

static bool take_integer(struct cursor *c, int64_t *out) {
    int64_t value = 0;
    skip_space(c);
    size_t start = c->at;
    for (; c->at < c->end && c->bytes[c->at] >= '0' && c->bytes[c->at] <= '9'; c->at++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, c->bytes[c->at] - '0', &value))
            return false;
    if (c->at == start) return false;
    if (c->at < c->end && c->bytes[c->at] == 'L') c->at++; /* written by Python 2 */
    *out = value;
    return true;
}

/* (), (3,), (3, 4), (3, 4,): a Python tuple of non-negative integers. */
static fdm_status parse_shape(struct cursor *c, struct fdm_npy *out) {
    bool comma = false;
    if (!take(c, "(")) return bad(c, "the shape is not a tuple");
    while (!take(c, ")")) {
        if (out->ndim > 0 && !comma) return bad(c, "the shape needs a comma");
        if (out->ndim == FDM_MAX_NDIM) return bad(c, "more than %d dimensions", FDM_MAX_NDIM);
        if (!take_integer(c, &out->shape[out->ndim])) return bad(c, "bad dimension in the shape");
        out->ndim++;
        comma = take(c, ",");
    }
    if (out->ndim == 1 && !comma) return bad(c, "the shape is a number, not a tuple");
    return FDM_OK;
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } with the keys in any order, each once. */
static fdm_status parse_dict(struct cursor *c, struct fdm_npy *out) {
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    fdm_status (*const parse[])(struct cursor *, struct fdm_npy *) = {parse_descr, parse_bool, parse_shape};
    unsigned seen = 0;
    bool comma = true;
    if (!take(c, "{")) return bad(c, "the header is not a dictionary");
    while (!take(c, "}")) {
        char key[16];
        int k = 0;
        if (!comma || !take_string(c, key) || !take(c, ":")) return bad(c, "the header is not a plain dictionary");
        while (k < 3 && strcmp(key, keys[k]) != 0) k++;
        if (k == 3 || (seen & 1u << k)) return bad(c, "%s key '%s'", k == 3 ? "unknown" : "second", key);
        fdm_status status = parse[k](c, out);
        if (status) return status;
        seen |= 1u << k;
        comma = take(c, ",");
    }
    if (seen != 7) return bad(c, "the header lacks 'descr', 'fortran_order' or 'shape'");
    skip_space(c);
    return c->at == c->end ? FDM_OK : bad(c, "something follows the header's dictionary");
}

fdm_status fdm_npy_parse_header(struct fdm_npy *out, const unsigned char *bytes, size_t end, const char *label,
                                const char *name, fdm_error *err) {
    struct cursor c = {
        .bytes = bytes, .at = bytes[6] == 1 ? 10 : 12, .end = end, .label = label, .name = name, .err = err};
    int64_t numel;
    memset(out, 0, sizeof *out);
    fdm_status status = parse_dict(&c, out);
    if (status) return status;
    if (!fdm_shape_bytes(&numel, &out->nbytes, out->dtype, out->ndim, out->shape))
        return bad(&c, "the shape has more elements than any memory holds");
    return FDM_OK;
}

static void swap_bytes(unsigned char *p, size_t count, size_t size) {
    for (size_t i = 0; i < count; i++, p += size) {
        for (size_t a = 0, b = size - 1; a < b; a++, b--) {
            unsigned char t = p[a];
            p[a] = p[b];
            p[b] = t;
        }
    }
}

/* out[i_0, ..., i_last] (last index fastest) = in[...] (first index fastest). */
static void fortran_to_c(unsigned char *out, const unsigned char *in, const struct fdm_npy *npy, size_t size) {
    int64_t index[FDM_MAX_NDIM] = {0};
    size_t stride[FDM_MAX_NDIM] = {0}, from = 0, total = 1;
    for (int d = 0; d < npy->ndim; d++) {
        stride[d] = total;
        total *= (size_t)npy->shape[d];
    }
    for (size_t i = 0; i < total; i++) {
        memcpy(out + i * size, in + from * size, size);
        for (int d = npy->ndim - 1; d >= 0; d--) {
            from += stride[d];
            if (++index[d] < npy->shape[d]) break;
            from -= stride[d] * (size_t)index[d];
            index[d] = 0;
        }
    }
}

fdm_status fdm_npy_to_native(fdm_tensor *t, const struct fdm_npy *npy, fdm_error *err) {
    size_t size = fdm_dtype_size(t->dtype);
    if (npy->swapped) swap_bytes(t->data, t->nbytes / size, size);
    if (!npy->fortran || t->ndim < 2 || t->nbytes == 0) return FDM_OK;
    void *ordered = fdm_malloc_aligned(t->nbytes);
    if (!ordered)
        return fdm_fail(err, FDM_NO_RESOURCE, "out of memory (array \"%.200s\" from Fortran order, %zu bytes)",
                        t->name, t->nbytes);
    fortran_to_c(ordered, t->data, npy, size);
    fdm_free_aligned(t->data);
    t->data = ordered;
    return FDM_OK;
}

bool fdm_npy_make_header(struct fdm_text *out, const fdm_tensor *t) {
    if (fdm_dtype_size(t->dtype) == 0 || !descrs[t->dtype][0]) return false;
    size_t start = out->length;
    fdm_text_add(out, "\x93NUMPY\x01\x00\x00\x00", 10);
    fdm_text_printf(out, "{'descr': '%s', 'fortran_order': False, 'shape': (", descrs[t->dtype]);
    for (int d = 0; d < t->ndim; d++) fdm_text_printf(out, "%s%lld", d ? ", " : "", (long long)t->shape[d]);
    fdm_text_printf(out, "%s), }", t->ndim == 1 ? "," : "");
    while (!out->failed && (out->length - start) % 64 != 63) fdm_text_add(out, " ", 1);
    fdm_text_add(out, "\n", 1);
    if (out->failed) return true;
    size_t length = out->length - start - 10;
    out->bytes[start + 8] = (char)(length & 0xff);
    out->bytes[start + 9] = (char)(length >> 8);
    return true;
}

fdm_status fdm_npy_parse(fdm_tensors *set, const void *bytes, size_t size, const char *name, const char *label,
                         fdm_error *err) {
    struct cursor c = {.bytes = bytes, .at = size, .label = label, .err = err};
    struct fdm_npy npy = {0};
    size_t end = 0;
    fdm_tensor *t;
    memset(set, 0, sizeof *set);
    if (size < FDM_NPY_PREFIX) return bad(&c, "truncated: %zu bytes are too short for a header", size);
    fdm_status status = fdm_npy_header_end(&end, bytes, label, NULL, err);
    if (!status && end > size) status = bad(&c, "truncated: the header ends at byte %zu", end);
    if (!status) status = fdm_npy_parse_header(&npy, bytes, end, label, NULL, err);
    if (!status && npy.nbytes != size - end)
        status = bad(&c, "type and shape need %zu bytes of data, the file has %zu", npy.nbytes, size - end);
    if (status) return status;
    const unsigned char *data = c.bytes + end;
    bool as_is = !npy.swapped && !(npy.fortran && npy.ndim > 1) && (uintptr_t)data % fdm_dtype_size(npy.dtype) == 0;
    status = fdm_tensors_append(set, name, npy.dtype, npy.ndim, npy.shape, as_is ? fdm_unconst(data) : NULL, false,
                                &t, err);
    if (!status && !as_is) {
        memcpy(t->data, data, t->nbytes);
        status = fdm_npy_to_native(t, &npy, err);
    }
    if (status) fdm_tensors_free(set);
    return status;
}

/* File name without directories and extension. */
static char *stem(const char *path) {
    const char *slash = strrchr(path, '/');
    char *name = fdm_strdup(slash ? slash + 1 : path);
    char *dot = name ? strrchr(name, '.') : NULL;
    if (dot) *dot = '\0';
    return name;
}

fdm_status fdm_npy_read(fdm_tensors *set, const char *path, fdm_error *err) {
    struct fdm_file_map map;
    memset(set, 0, sizeof *set);
    char *name = stem(path);
    if (!name) return fdm_fail_oom(err, "array name", strlen(path));
    fdm_status status = fdm_file_map_open(&map, path, err);
    if (!status) {
        status = fdm_npy_parse(set, map.bytes, map.size, name, fdm_path_tail(path), err);
        if (status) fdm_file_map_close(&map);
        set->mapping = map.mapping; /* NULL after a failure */
        set->mapping_bytes = map.size;
    }
    free(name);
    return status;
}

fdm_status fdm_npy_write(const fdm_tensor *tensor, const char *path, fdm_error *err) {
    struct fdm_text header = {0};
    struct fdm_atomic_file file;
    fdm_tensors one = {.items = fdm_unconst(tensor), .count = 1, .capacity = 1};
    fdm_status status = fdm_check_writable_set(&one, path, err);
    if (status) return status;
    if (!fdm_npy_make_header(&header, tensor))
        return fdm_fail(err, FDM_BAD_USAGE, "%s: tensor \"%.200s\" is %s, which NumPy lacks; write .safetensors",
                        fdm_path_tail(path), tensor->name, fdm_dtype_name(tensor->dtype));
    status = header.failed ? fdm_fail_oom(err, "array header", 128) : fdm_atomic_open(&file, path, err);
    if (!status) {
        status = fdm_atomic_reserve(&file, header.length + tensor->nbytes, err);
        if (!status) status = fdm_atomic_write(&file, header.bytes, header.length, err);
        if (!status) status = fdm_atomic_write(&file, tensor->data, tensor->nbytes, err);
        if (!status)
            status = fdm_atomic_commit(&file, err);
        else
            fdm_atomic_abort(&file);
    }
    fdm_text_free(&header);
    return status;
}
