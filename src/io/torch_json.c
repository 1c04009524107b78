/* torch_json.c - values of a pickle as JSON text. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "io/torch_tensor.h"

enum { MAX_DEPTH = 64, MAX_WORK = 1 << 20, TEXT_UNIT = 16 /* bytes that cost as much as an entry */ };

bool fdm_torch_spend(struct fdm_torch_file *f, size_t work) {
    f->work = fdm_add_saturated(f->work, work);
    return f->work <= MAX_WORK;
}

struct writing {
    struct fdm_text *out;
    struct fdm_torch_file *f;
    size_t most;
    int depth;
};

static bool write_value(struct writing *w, const struct fdm_pickle_value *v);

/* Text that JSON cannot hold becomes a question mark. */
static bool write_text(struct writing *w, const struct fdm_pickle_value *v) {
    if (v->size > w->most || !fdm_torch_spend(w->f, v->size / TEXT_UNIT)) return false;
    char *copy = fdm_pickle_string(v);
    if (!copy) w->out->failed = true;
    else fdm_text_json_string(w->out, strlen(copy) == v->size && fdm_utf8_valid(copy) ? copy : "?");
    free(copy);
    return true;
}

static void write_number(struct writing *w, double x) {
    if (!isfinite(x)) fdm_text_printf(w->out, "null");
    else if (x == floor(x) && fabs(x) < 1e15) fdm_text_printf(w->out, "%.1f", x); /* 2.0 stays a float */
    else fdm_text_printf(w->out, "%.17g", x);
}

static bool write_list(struct writing *w, const struct fdm_pickle_node *n) {
    bool ok = true;
    fdm_text_printf(w->out, "[");
    for (size_t i = 0; i < n->count && ok; i++) {
        if (i) fdm_text_printf(w->out, ", ");
        ok = write_value(w, &n->items[i]);
    }
    fdm_text_printf(w->out, "]");
    return ok;
}

static bool is_constructor_record(const struct fdm_pickle_value *key) {
    static const char prefix[] = "_init_";
    return key->kind == FDM_PICKLE_TEXT && key->size >= sizeof prefix - 1 && memcmp(key->bytes, prefix, sizeof prefix - 1) == 0;
}

static bool write_dict(struct writing *w, const struct fdm_pickle_node *n, bool attributes) {
    bool ok = true, first = true;
    fdm_text_printf(w->out, "{");
    for (size_t i = 0; i + 1 < n->count && ok; i += 2) {
        const struct fdm_pickle_value *key = &n->items[i];
        if (!fdm_torch_spend(w->f, 1)) return false;
        if (attributes && is_constructor_record(key)) continue;
        if (!first) fdm_text_printf(w->out, ", ");
        first = false;
        if (key->kind == FDM_PICKLE_TEXT || key->kind == FDM_PICKLE_BYTES) ok = write_text(w, key);
        else if (key->kind == FDM_PICKLE_INT) fdm_text_printf(w->out, "\"%" PRId64 "\"", key->number);
        else fdm_text_printf(w->out, "\"?\"");
        fdm_text_printf(w->out, ": ");
        ok = ok && write_value(w, &n->items[i + 1]);
    }
    fdm_text_printf(w->out, "}");
    return ok;
}

static bool write_tensor(struct writing *w, const struct fdm_torch_tensor *t, bool scalar) {
    char shape[FDM_SHAPE_TEXT];
    double value;
    if (scalar) {
        uint64_t bits = 0;
        fdm_torch_copy(&bits, t, t->dtype, 0, 1);
        const fdm_tensor one = {.dtype = t->dtype, .data = &bits};
        value = fdm_tensor_get(&one, 0);
        write_number(w, value);
        return true;
    }
    fdm_shape_text(shape, sizeof shape, t->ndim, t->shape);
    fdm_text_printf(w->out, "\"%s%s\"", fdm_dtype_name(t->dtype), shape);
    return true;
}

/* Names, devices, sizes, tensors, objects. */
static bool write_object(struct writing *w, const struct fdm_pickle_value *v) {
    struct fdm_torch_tensor tensor;
    bool found;
    if (!fdm_torch_spend(w->f, fdm_torch_entries(v))) return false;
    const struct fdm_pickle_value *attributes = fdm_torch_attributes(v), *size = fdm_pickle_argument(v, FDM_PICKLE_SIZE, 0),
                                  *device = fdm_pickle_argument(v, FDM_PICKLE_DEVICE, 0);
    if (attributes) return write_dict(w, attributes->node, true);
    if (size) return write_value(w, size);
    if (device) return write_value(w, device);
    if (v->kind == FDM_PICKLE_NAME) return write_text(w, &v->node->items[1]);
    if (fdm_torch_tensor(&tensor, &found, w->f, v, "value", NULL) != FDM_OK) return false; /* it may have cost much: no second try */
    if (found) return write_tensor(w, &tensor, fdm_pickle_is_call(v, FDM_PICKLE_NUMPY_SCALAR));
    fdm_text_printf(w->out, "null");
    return true;
}

static bool write_value(struct writing *w, const struct fdm_pickle_value *v) {
    bool ok = true;
    if (w->out->failed || w->out->length > w->most || !fdm_torch_spend(w->f, 1) || ++w->depth > MAX_DEPTH) return false;
    switch (v->kind) {
    case FDM_PICKLE_BOOL: fdm_text_printf(w->out, v->number ? "true" : "false"); break;
    case FDM_PICKLE_INT: fdm_text_printf(w->out, "%" PRId64, v->number); break;
    case FDM_PICKLE_FLOAT: write_number(w, v->real); break;
    case FDM_PICKLE_TEXT:
    case FDM_PICKLE_BYTES: ok = write_text(w, v); break;
    case FDM_PICKLE_TUPLE:
    case FDM_PICKLE_LIST:
    case FDM_PICKLE_SET: ok = write_list(w, v->node); break;
    case FDM_PICKLE_DICT: ok = write_dict(w, v->node, false); break;
    case FDM_PICKLE_NAME:
    case FDM_PICKLE_CALL:
    case FDM_PICKLE_OBJECT: ok = write_object(w, v); break;
    case FDM_PICKLE_NONE:
    case FDM_PICKLE_LONG:
    case FDM_PICKLE_PERSISTENT: fdm_text_printf(w->out, "null"); break;
    }
    w->depth--;
    return ok && w->out->length <= w->most;
}

bool fdm_torch_json(struct fdm_text *out, struct fdm_torch_file *f, const struct fdm_pickle_value *v, size_t most) {
    struct writing w = {.out = out, .f = f, .most = fdm_add_saturated(out->length, most)};
    return write_value(&w, v);
}
