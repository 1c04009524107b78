/* torch_write.c - tensors as a file of torch.save, in the zip layout. */
#include "io/torch_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/io.h"
#include "io/text.h"
#include "io/zip_write.h"

enum { ALIGNMENT = 64 };

/* How torch names a type: its storage's class, or, for those without one, the type that an untyped storage has. */
static const struct {
    const char *storage, *type;
} names[FDM_DTYPE_COUNT] = {
    [FDM_F32] = {"FloatStorage", NULL}, [FDM_F64] = {"DoubleStorage", NULL}, [FDM_F16] = {"HalfStorage", NULL},
    [FDM_BF16] = {"BFloat16Storage", NULL}, [FDM_I64] = {"LongStorage", NULL}, [FDM_I32] = {"IntStorage", NULL},
    [FDM_I16] = {"ShortStorage", NULL}, [FDM_I8] = {"CharStorage", NULL}, [FDM_U8] = {"ByteStorage", NULL},
    [FDM_BOOL] = {"BoolStorage", NULL}, [FDM_U64] = {NULL, "uint64"}, [FDM_U32] = {NULL, "uint32"}, [FDM_U16] = {NULL, "uint16"},
};

/* ---- Pickle operations -------------------------------------------------------------------------------------- */

static void put_little_endian(struct fdm_text *p, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) {
        const char byte = (char)(value >> (8 * i) & 0xff);
        fdm_text_add(p, &byte, 1);
    }
}

static void put_string(struct fdm_text *p, const char *s) {
    fdm_text_add(p, "X", 1); /* BINUNICODE */
    put_little_endian(p, strlen(s), 4);
    fdm_text_add(p, s, strlen(s));
}

static void put_integer(struct fdm_text *p, int64_t value) {
    if (value <= INT32_MAX) {
        fdm_text_add(p, "J", 1); /* BININT */
        put_little_endian(p, (uint64_t)value, 4);
    } else {
        fdm_text_add(p, "\x8a\x08", 2); /* LONG1 */
        put_little_endian(p, (uint64_t)value, 8);
    }
}

static void put_sizes(struct fdm_text *p, const fdm_tensor *t, bool strides) {
    fdm_text_add(p, "(", 1);
    for (int d = 0; d < t->ndim; d++) {
        int64_t value = strides ? 1 : t->shape[d];
        for (int k = d + 1; strides && k < t->ndim; k++) value *= t->shape[k] > 1 ? t->shape[k] : 1;
        put_integer(p, value);
    }
    fdm_text_add(p, "t", 1);
}

static void put_global(struct fdm_text *p, const char *module, const char *name) { fdm_text_printf(p, "c%s\n%s\n", module, name); }

/* An empty OrderedDict. */
static void put_dict(struct fdm_text *p) {
    put_global(p, "collections", "OrderedDict");
    fdm_text_add(p, ")R", 2);
}

/* _rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict()), or _v3 with the type. */
static void put_tensor(struct fdm_text *p, const fdm_tensor *t, size_t key) {
    char number[24];
    const char *storage = names[t->dtype].storage, *type = names[t->dtype].type;
    snprintf(number, sizeof number, "%zu", key);
    put_global(p, "torch._utils", type ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
    fdm_text_add(p, "((", 2);
    put_string(p, "storage");
    if (type) put_global(p, "torch.storage", "UntypedStorage");
    else put_global(p, "torch", storage);
    put_string(p, number);
    put_string(p, "cpu");
    put_integer(p, type ? (int64_t)t->nbytes : fdm_tensor_numel(t));
    fdm_text_add(p, "tQ", 2); /* TUPLE, BINPERSID */
    put_integer(p, 0);
    put_sizes(p, t, false);
    put_sizes(p, t, true);
    fdm_text_add(p, "\x89", 1);
    put_dict(p);
    if (type) put_global(p, "torch", type);
    fdm_text_add(p, "tR", 2);
}

static void put_object(struct fdm_text *p, const fdm_tensors *set) {
    fdm_text_add(p, "\x80\x02", 2);
    put_dict(p);
    fdm_text_add(p, "(", 1);
    for (size_t i = 0; i < set->count; i++) {
        put_string(p, set->items[i].name);
        put_tensor(p, &set->items[i], i);
    }
    fdm_text_add(p, "u.", 2); /* SETITEMS, STOP */
}

/* ---- Members ------------------------------------------------------------------------------------------------ */

static fdm_status add_members(struct fdm_zip_writer *z, const fdm_tensors *set, const struct fdm_text *object, fdm_error *err) {
    char name[48];
    fdm_status status = fdm_zip_add(z, "archive/data.pkl", object->bytes, object->length, "", 0, err);
    if (!status) status = fdm_zip_add(z, "archive/byteorder", "little", 6, "", 0, err);
    for (size_t i = 0; i < set->count && !status; i++) {
        snprintf(name, sizeof name, "archive/data/%zu", i);
        status = fdm_zip_add(z, name, set->items[i].data, set->items[i].nbytes, "", 0, err);
    }
    return status ? status : fdm_zip_add(z, "archive/version", "3\n", 2, "", 0, err);
}

fdm_status fdm_torch_write(const fdm_tensors *set, const char *path, fdm_error *err) {
    struct fdm_zip_writer z;
    struct fdm_text object = {0};
    fdm_status status = fdm_check_writable_set(set, path, err);
    if (status) return status;
    put_object(&object, set);
    status = object.failed ? fdm_fail_oom(err, "pickle", object.length) : fdm_zip_begin(&z, path, err);
    if (!status) {
        z.alignment = ALIGNMENT;
        status = add_members(&z, set, &object, err);
        if (!status) status = fdm_zip_finish(&z, err);
        else fdm_zip_abort(&z);
    }
    fdm_text_free(&object);
    return status;
}
