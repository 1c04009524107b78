/* torch_tensor.c - a tensor or array in a pickle: where its elements lie, and a copy of them in order. */
#include "io/torch_tensor.h"

#include <string.h>

#include "base/tensor_set.h"

/* ---- Where the elements lie --------------------------------------------------------------------------------- */

struct request {
    struct fdm_torch_tensor *out;
    struct fdm_torch_file *f;
    const char *name;
    fdm_error *err;
};

static fdm_status bad(const struct request *r, const char *why) {
    return fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"%.200s\": %s; damaged", r->f->label, r->name, why);
}

/* Non-negative integers of a tuple (a torch.Size is one). */
static bool read_integers(int64_t *out, int *count, const struct fdm_pickle_value *v) {
    if (fdm_pickle_is_call(v, FDM_PICKLE_SIZE)) v = fdm_pickle_argument(v, FDM_PICKLE_SIZE, 0);
    if (!v || (v->kind != FDM_PICKLE_TUPLE && v->kind != FDM_PICKLE_LIST) || v->node->count > FDM_MAX_NDIM) return false;
    *count = (int)v->node->count;
    for (int i = 0; i < *count; i++) {
        const struct fdm_pickle_value *item = &v->node->items[i];
        if (item->kind != FDM_PICKLE_INT || item->number < 0) return false;
        out[i] = item->number;
    }
    return true;
}

/* Sizes, and whether the last element lies within `bytes` from `offset` elements on. */
static fdm_status place(const struct request *r, const unsigned char *data, size_t bytes, int64_t offset) {
    struct fdm_torch_tensor *t = r->out;
    const size_t size = fdm_dtype_size(t->dtype);
    size_t last = (size_t)offset, step;
    if (!fdm_shape_bytes(&t->numel, &t->nbytes, t->dtype, t->ndim, t->shape)) return bad(r, "its shape has more elements than any memory holds");
    t->data = data;
    if (t->numel == 0) return FDM_OK;
    for (int d = 0; d < t->ndim; d++)
        if (!fdm_mul_size(&step, (size_t)(t->shape[d] - 1), (size_t)t->stride[d]) || !fdm_add_size(&last, last, step))
            return bad(r, "its strides reach beyond any memory");
    if (last >= bytes / size)
        return fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"%.200s\": shape and strides reach element %zu of a storage of %zu; damaged",
                        r->f->label, r->name, last, bytes / size);
    t->data = data + (size_t)offset * size;
    return FDM_OK;
}

/* ---- PyTorch ------------------------------------------------------------------------------------------------ */

static const struct {
    const char *torch;
    const char *numpy;
    fdm_dtype dtype;
} types[] = {
    {"float32", "f4", FDM_F32}, {"float64", "f8", FDM_F64}, {"float16", "f2", FDM_F16}, {"bfloat16", "", FDM_BF16},
    {"int64", "i8", FDM_I64},   {"int32", "i4", FDM_I32},   {"int16", "i2", FDM_I16},   {"int8", "i1", FDM_I8},
    {"uint64", "u8", FDM_U64},  {"uint32", "u4", FDM_U32},  {"uint16", "u2", FDM_U16},  {"uint8", "u1", FDM_U8},
    {"bool", "b1", FDM_BOOL},
};

static fdm_dtype torch_dtype(const struct fdm_pickle_value *v) {
    for (size_t i = 0; i < FDM_ARRAY_LEN(types); i++)
        if (fdm_pickle_is_name(v, "torch", types[i].torch)) return types[i].dtype;
    return FDM_DTYPE_COUNT;
}

static fdm_status unsupported(const struct request *r, const char *what) {
    return fdm_fail(r->err, FDM_BAD_INPUT, "%s: tensor \"%.200s\": %s is not supported (real numbers of 1 to 8 bytes are); convert it",
                    r->f->label, r->name, what);
}

/* (storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata]) */
static fdm_status read_torch(const struct request *r, const struct fdm_pickle_value *arguments, bool v3) {
    struct fdm_torch_tensor *t = r->out;
    struct fdm_torch_elements elements;
    int strides;
    const struct fdm_pickle_value *offset = fdm_pickle_item(arguments, 1), *metadata = fdm_pickle_item(arguments, v3 ? 7 : 6);
    if (!offset || offset->kind != FDM_PICKLE_INT || offset->number < 0) return bad(r, "no offset into its storage");
    if (!read_integers(t->shape, &t->ndim, fdm_pickle_item(arguments, 2)) ||
        !read_integers(t->stride, &strides, fdm_pickle_item(arguments, 3)) || strides != t->ndim)
        return bad(r, "size and stride are not two equally long tuples of at most 8 non-negative numbers");
    if (metadata && metadata->kind != FDM_PICKLE_NONE && (metadata->kind != FDM_PICKLE_DICT || metadata->node->count))
        return unsupported(r, "a conjugate or negative view");
    fdm_status status = fdm_torch_elements(&elements, r->f, fdm_pickle_item(arguments, 0), r->err);
    if (status) return status;
    t->dtype = v3 ? torch_dtype(fdm_pickle_item(arguments, 6)) : elements.dtype;
    t->swapped = elements.swapped;
    if (t->dtype == FDM_DTYPE_COUNT) return unsupported(r, "its type (complex, quantised, or less than a byte)");
    if (v3 && elements.dtype != t->dtype && !elements.untyped) return bad(r, "of another type than its storage");
    return place(r, elements.data, elements.bytes, offset->number);
}

/* ---- NumPy -------------------------------------------------------------------------------------------------- */

/* dtype("f4", False, True) with the state (3, "<", ...). */
static bool read_numpy_type(struct fdm_torch_tensor *t, const struct fdm_pickle_value *v) {
    const struct fdm_pickle_value *code = fdm_pickle_argument(v, FDM_PICKLE_NUMPY_DTYPE, 0);
    const struct fdm_pickle_value *order = code ? fdm_pickle_item(&v->node->items[FDM_PICKLE_STATE], 1) : NULL;
    for (size_t i = 0; code && i < FDM_ARRAY_LEN(types); i++) {
        if (!types[i].numpy[0] || !fdm_pickle_is(code, types[i].numpy)) continue;
        t->dtype = types[i].dtype;
        t->swapped = fdm_pickle_is(order, ">");
        return true;
    }
    return false;
}

static void set_strides(struct fdm_torch_tensor *t, bool fortran) {
    size_t step = 1; /* of shapes too large for this, place() says so */
    for (int i = 0; i < t->ndim; i++) {
        const int d = fortran ? i : t->ndim - 1 - i;
        t->stride[d] = (int64_t)step;
        if (!fdm_mul_size(&step, step, t->shape[d] ? (size_t)t->shape[d] : 1) || step > INT64_MAX) step = INT64_MAX;
    }
}

static fdm_status read_numpy(const struct request *r, const struct fdm_pickle_value *type, const struct fdm_pickle_value *shape,
                             bool fortran, const struct fdm_pickle_value *data) {
    struct fdm_torch_tensor *t = r->out;
    if (!read_numpy_type(t, type)) return unsupported(r, "its NumPy type");
    if (!data || data->kind != FDM_PICKLE_BYTES) return bad(r, "an array without bytes");
    if (shape && !read_integers(t->shape, &t->ndim, shape)) return bad(r, "its shape is no tuple of at most 8 non-negative numbers");
    set_strides(t, fortran);
    fdm_status status = place(r, data->bytes, data->size, 0);
    if (!status && t->nbytes != data->size) status = bad(r, "its shape does not match its bytes");
    return status;
}

static bool is_true(const struct fdm_pickle_value *v) {
    return v && (v->kind == FDM_PICKLE_BOOL || v->kind == FDM_PICKLE_INT) && v->number != 0;
}

/* ---- Whatever it is ----------------------------------------------------------------------------------------- */

fdm_status fdm_torch_tensor(struct fdm_torch_tensor *out, bool *found, struct fdm_torch_file *f,
                            const struct fdm_pickle_value *v, const char *name, fdm_error *err) {
    const struct request r = {.out = out, .f = f, .name = name, .err = err};
    *out = (struct fdm_torch_tensor){.dtype = FDM_DTYPE_COUNT};
    *found = false;
    for (int depth = 0; fdm_pickle_is_call(v, FDM_PICKLE_PARAMETER) || fdm_pickle_is_call(v, FDM_PICKLE_PARAMETER_STATE); depth++) {
        v = fdm_pickle_item(&v->node->items[FDM_PICKLE_ARGUMENTS], 0);
        if (depth == 8) return bad(&r, "a parameter of a parameter of a parameter");
    }
    if (!v || v->kind != FDM_PICKLE_CALL) return FDM_OK;
    const struct fdm_pickle_value *arguments = &v->node->items[FDM_PICKLE_ARGUMENTS], *state = &v->node->items[FDM_PICKLE_STATE];
    *found = true;
    switch (v->constructor) {
    case FDM_PICKLE_TENSOR:
    case FDM_PICKLE_TENSOR_V2: return read_torch(&r, arguments, false);
    case FDM_PICKLE_TENSOR_V3: return read_torch(&r, arguments, true);
    case FDM_PICKLE_NUMPY_ARRAY:
        return read_numpy(&r, fdm_pickle_item(state, 2), fdm_pickle_item(state, 1), is_true(fdm_pickle_item(state, 3)), fdm_pickle_item(state, 4));
    case FDM_PICKLE_NUMPY_BUFFER:
        return read_numpy(&r, fdm_pickle_item(arguments, 1), fdm_pickle_item(arguments, 2), fdm_pickle_is(fdm_pickle_item(arguments, 3), "F"),
                          fdm_pickle_item(arguments, 0));
    case FDM_PICKLE_NUMPY_SCALAR: return read_numpy(&r, fdm_pickle_item(arguments, 0), NULL, false, fdm_pickle_item(arguments, 1));
    default: *found = false; return FDM_OK;
    }
}

/* ---- Copying ------------------------------------------------------------------------------------------------ */

fdm_dtype fdm_torch_plain_dtype(fdm_dtype dtype) {
    return dtype == FDM_F16 || dtype == FDM_BF16 || dtype == FDM_F64 ? FDM_F32 : dtype;
}

static bool is_row_major(const struct fdm_torch_tensor *t) {
    int64_t step = 1;
    for (int d = t->ndim - 1; d >= 0; d--) {
        if (t->shape[d] > 1 && t->stride[d] != step) return false;
        step *= t->shape[d]; /* at most numel */
    }
    return true;
}

bool fdm_torch_lies_plain(const struct fdm_torch_tensor *t, fdm_dtype to) {
    return t->dtype == to && (!t->swapped || fdm_dtype_size(to) == 1) && (t->numel == 0 || is_row_major(t)) &&
           (uintptr_t)t->data % fdm_dtype_size(to) == 0;
}

/* One element, native, perhaps as a float. */
static void copy_element(unsigned char *out, const unsigned char *p, const struct fdm_torch_tensor *t, size_t size, bool convert) {
    uint64_t aligned;
    unsigned char *bytes = (unsigned char *)&aligned;
    for (size_t i = 0; i < size; i++) bytes[i] = p[t->swapped ? size - 1 - i : i];
    if (convert) {
        const fdm_tensor one = {.dtype = t->dtype, .data = &aligned};
        const float value = (float)fdm_tensor_get(&one, 0);
        memcpy(out, &value, sizeof value);
    } else
        memcpy(out, bytes, size);
}

/* The rest of one row after the other. */
static void copy_rows(unsigned char *out, const struct fdm_torch_tensor *t, fdm_dtype to, int64_t first, int64_t count) {
    const size_t size = fdm_dtype_size(t->dtype), to_size = fdm_dtype_size(to);
    const int outer = t->ndim - 1; /* dimensions before the last */
    const int64_t row = t->shape[outer];
    int64_t index[FDM_MAX_NDIM] = {0}, column = first % row, rows = first / row;
    for (int d = outer - 1; d >= 0; rows /= t->shape[d], d--) index[d] = rows % t->shape[d];
    for (int64_t n; count > 0; count -= n, column = 0) {
        const unsigned char *p = t->data;
        n = row - column < count ? row - column : count;
        for (int d = 0; d < outer; d++) p += (size_t)index[d] * (size_t)t->stride[d] * size;
        for (int64_t i = column; i < column + n; i++, out += to_size)
            copy_element(out, p + (size_t)i * (size_t)t->stride[outer] * size, t, size, t->dtype != to);
        for (int d = outer - 1; d >= 0 && ++index[d] == t->shape[d]; d--) index[d] = 0;
    }
}

void fdm_torch_copy(void *out, const struct fdm_torch_tensor *t, fdm_dtype to, int64_t first, int64_t count) {
    const size_t size = fdm_dtype_size(t->dtype), to_size = fdm_dtype_size(to);
    unsigned char *bytes = out;
    if (count == 0) return;
    if (!is_row_major(t)) {
        copy_rows(bytes, t, to, first, count);
        return;
    }
    const unsigned char *p = t->data + (size_t)first * size;
    if (t->dtype == to && (!t->swapped || size == 1)) memcpy(bytes, p, (size_t)count * size);
    else
        for (int64_t i = 0; i < count; i++, bytes += to_size, p += size) copy_element(bytes, p, t, size, t->dtype != to);
}
