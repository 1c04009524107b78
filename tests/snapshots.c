/* snapshots.c - model files as pickles of the published program. */
#include "snapshots.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_shape(struct bytes *b, const fdm_tensor *t, int strides) {
    PUT(b, "(");
    for (int d = 0; d < t->ndim; d++) {
        int64_t value = strides ? 1 : t->shape[d];
        for (int k = d + 1; strides && k < t->ndim; k++) value *= t->shape[k];
        put_long(b, value);
    }
    PUT(b, "t");
}

void put_parameter(struct bytes *b, const fdm_tensor *t) {
    struct bytes stream = {0};
    ck_assert_int_eq(t->dtype, FDM_F32);
    put_preamble(&stream, 1001);
    PUT(&stream, "\x80\x02");
    put_storage(&stream, "FloatStorage", "0", fdm_tensor_numel(t));
    PUT(&stream, ".\x80\x02](");
    put_text(&stream, "0");
    PUT(&stream, "e.");
    put_le(&stream, (uint64_t)fdm_tensor_numel(t), 8);
    put(&stream, t->data, t->nbytes);
    put_stream_tensor(b, &stream);
    PUT(b, "\x85RK\0");
    put_shape(b, t, 0);
    put_shape(b, t, 1);
    PUT(b, "\x89");
    put_name(b, "collections", "OrderedDict");
    PUT(b, ")RtR");
    free(stream.p);
}

static void put_json(struct bytes *b, const json_t *v) {
    const char *key;
    json_t *item;
    size_t i;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        PUT(b, "}(");
        json_object_foreach((json_t *)(uintptr_t)v, key, item) {
            put_text(b, key);
            put_json(b, item);
        }
        PUT(b, "u");
        break;
    case JSON_ARRAY:
        PUT(b, "](");
        json_array_foreach(v, i, item) put_json(b, item);
        PUT(b, "e");
        break;
    case JSON_STRING: put_text(b, json_string_value(v)); break;
    case JSON_INTEGER: put_long(b, json_integer_value(v)); break;
    case JSON_REAL: {
        const double x = json_real_value(v);
        uint64_t bits;
        memcpy(&bits, &x, sizeof bits);
        PUT(b, "G");
        for (int k = 7; k >= 0; k--) put_u8(b, (int)(bits >> (8 * k) & 0xff));
        break;
    }
    case JSON_TRUE: PUT(b, "\x88"); break;
    case JSON_FALSE: PUT(b, "\x89"); break;
    case JSON_NULL: PUT(b, "N"); break;
    }
}

/* The part of a tensor's name below a module, NULL if it is not below it. */
static const char *below(const fdm_tensor *t, const char *module) {
    const size_t n = strlen(module);
    return strncmp(t->name, module, n) == 0 ? t->name + n : NULL;
}

/* The tensors that are the module's own; the outermost has none, but its file may hold others. */
static void put_leaves(struct bytes *b, const fdm_tensors *set, const char *module, int buffers) {
    PUT(b, "}(");
    for (size_t i = 0; i < set->count && *module; i++) {
        const char *name = below(&set->items[i], module);
        if (!name || strchr(name, '.') || (strcmp(name, "resample_filter") == 0 || strcmp(name, "freqs") == 0) != buffers) continue;
        put_text(b, name);
        put_parameter(b, &set->items[i]);
    }
    PUT(b, "u");
}

/* Whether a tensor before this one is below the same child. */
static int seen(const fdm_tensors *set, size_t i, const char *child) {
    for (size_t k = 0; k < i; k++)
        if (below(&set->items[k], child)) return 1;
    return 0;
}

static void put_module(struct bytes *b, const fdm_tensors *set, const char *module, const char *class, const json_t *kwargs) {
    put_module_head(b, class);
    put_text(b, "_parameters");
    put_leaves(b, set, module, 0);
    put_text(b, "_buffers");
    put_leaves(b, set, module, 1);
    put_text(b, "_modules");
    PUT(b, "}(");
    for (size_t i = 0; i < set->count; i++) {
        char child[600], name[256];
        const char *rest = below(&set->items[i], module), *dot = rest ? strchr(rest, '.') : NULL;
        if (!dot || (!*module && strncmp(rest, "model.", 6) != 0)) continue;
        snprintf(name, sizeof name, "%.*s", (int)(dot - rest), rest);
        snprintf(child, sizeof child, "%.300s%s.", module, name);
        if (seen(set, i, child)) continue;
        put_text(b, name);
        put_module(b, set, child, *module ? "Layer" : "SongUNet", NULL);
    }
    PUT(b, "u");
    if (kwargs) {
        put_text(b, "_init_args");
        PUT(b, ")");
        put_text(b, "_init_kwargs");
        put_json(b, kwargs);
    }
    PUT(b, "uu\x85R");
}

void put_snapshot(struct bytes *b, const fdm_tensors *set, const json_t *config) {
    json_t *kwargs = json_copy((json_t *)(uintptr_t)config);
    json_object_del(kwargs, "class_name");
    PUT(b, "\x80\x03}");
    put_text(b, "ema");
    put_module(b, set, "", json_string_value(json_object_get(config, "class_name")), kwargs);
    PUT(b, "s.");
    json_decref(kwargs);
}
