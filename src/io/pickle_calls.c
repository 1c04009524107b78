/* pickle_calls.c - the names, calls and objects of a pickle: what they stand for, without calling anything. */
#include "io/pickle_machine.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *module, *name;
} constructors[] = {
    [FDM_PICKLE_INERT] = {"", ""},
#define CONSTRUCTOR_ROW(e, module, name) [FDM_PICKLE_##e] = {module, name},
    FDM_PICKLE_CONSTRUCTORS(CONSTRUCTOR_ROW)
#undef CONSTRUCTOR_ROW
};

/* Packages whose names may be stored and whose objects become records. */
static const char *const packages[] = {"torch", "torch_utils", "training", "dnnlib", "numpy", "collections", "argparse"};

/* ---- Names -------------------------------------------------------------------------------------------------- */

static bool starts_with(const struct fdm_pickle_value *v, const char *text) {
    const size_t n = strlen(text);
    return v->size >= n && memcmp(v->bytes, text, n) == 0;
}

/* Python 2's and NumPy 2's names of the same modules. */
static bool is_module(const struct fdm_pickle_value *v, const char *module) {
    static const char old[] = "numpy.core", now[] = "numpy._core";
    if (fdm_pickle_is(v, module)) return true;
    if (strcmp(module, "builtins") == 0) return fdm_pickle_is(v, "__builtin__");
    if (strncmp(module, old, sizeof old - 1) != 0 || !starts_with(v, now)) return false;
    const struct fdm_pickle_value rest = {.kind = FDM_PICKLE_TEXT, .bytes = v->bytes + sizeof now - 1, .size = v->size - (sizeof now - 1)};
    return fdm_pickle_is(&rest, module + sizeof old - 1);
}

static bool of_known_package(const struct fdm_pickle_value *module) {
    for (size_t i = 0; i < FDM_ARRAY_LEN(packages); i++) {
        const size_t n = strlen(packages[i]);
        if (starts_with(module, packages[i]) && (module->size == n || module->bytes[n] == '.')) return true;
    }
    return false;
}

static int shown(const struct fdm_pickle_value *v) { return v->size < 100 ? (int)v->size : 100; }

fdm_status fdm_pickle_make_name(struct fdm_pickle_machine *m) {
    if (fdm_pickle_above_mark(m) < 2) return fdm_pickle_bad(m, "too few values");
    const struct fdm_pickle_value *module = fdm_pickle_from_top(m, 2), *name = fdm_pickle_from_top(m, 1);
    if (!fdm_pickle_is_text(name) || !fdm_pickle_is_text(module)) return fdm_pickle_bad(m, "a name that is no text");
    enum fdm_pickle_constructor found = FDM_PICKLE_INERT;
    for (size_t i = 1; i < FDM_ARRAY_LEN(constructors) && !found; i++)
        if (fdm_pickle_is(name, constructors[i].name) && is_module(module, constructors[i].module))
            found = (enum fdm_pickle_constructor)i;
    if (!found && !of_known_package(module))
        return fdm_pickle_bad(m, "names %.*s.%.*s, which has no place in a network's file; nothing was executed", shown(module),
                              (const char *)module->bytes, shown(name), (const char *)name->bytes);
    fdm_status status = fdm_pickle_collect(m, FDM_PICKLE_NAME, 2);
    if (!status) fdm_pickle_from_top(m, 1)->constructor = found;
    return status;
}

fdm_status fdm_pickle_push_name(struct fdm_pickle_machine *m) {
    for (int lines = 0; lines < 2; lines++) {
        struct fdm_pickle_value v = {.kind = FDM_PICKLE_TEXT, .bytes = m->bytes + m->at};
        const unsigned char *end = memchr(v.bytes, '\n', m->size - m->at);
        if (!end) return fdm_pickle_bad(m, "a name is cut off");
        v.size = (size_t)(end - v.bytes);
        m->at += v.size + 1;
        fdm_status status = fdm_pickle_push(m, v);
        if (status) return status;
    }
    return fdm_pickle_make_name(m);
}

/* ---- Calls -------------------------------------------------------------------------------------------------- */

/* A latin-1 string, which is how protocol 2 keeps bytes: characters below 256, in UTF-8. */
static fdm_status decode_latin1(struct fdm_pickle_machine *m, struct fdm_pickle_value *out, const struct fdm_pickle_value *text) {
    fdm_status status = fdm_pickle_charge(m, sizeof(struct fdm_pickle_block) + text->size);
    if (status) return status;
    struct fdm_pickle_block *block = malloc(sizeof *block + text->size);
    if (!block) return fdm_pickle_no_memory(m);
    block->next = m->out->blocks;
    m->out->blocks = block;
    size_t n = 0;
    for (size_t i = 0; i < text->size; i++) {
        const unsigned char c = text->bytes[i];
        const bool pair = (c == 0xc2 || c == 0xc3) && i + 1 < text->size && (text->bytes[i + 1] & 0xc0) == 0x80;
        if (c >= 0x80 && !pair) return fdm_pickle_bad(m, "bytes written as text that is not latin-1");
        block->bytes[n++] = c < 0x80 ? c : (unsigned char)((c & 3) << 6 | (text->bytes[++i] & 0x3f));
    }
    *out = (struct fdm_pickle_value){.kind = FDM_PICKLE_BYTES, .bytes = block->bytes, .size = n};
    return FDM_OK;
}

/* OrderedDict(), or from a list of pairs. */
static fdm_status make_dict(struct fdm_pickle_machine *m, struct fdm_pickle_value *out, const struct fdm_pickle_value *pairs) {
    const size_t n = pairs ? pairs->node->count : 0;
    fdm_status status = fdm_pickle_new_node(m, &out->node, 2 * n);
    out->kind = FDM_PICKLE_DICT;
    for (size_t i = 0; i < n && !status; i++) {
        const struct fdm_pickle_value *key = fdm_pickle_item(&pairs->node->items[i], 0),
                                      *value = fdm_pickle_item(&pairs->node->items[i], 1);
        if (!key || !value) return fdm_pickle_bad(m, "a dict of something other than pairs");
        status = fdm_pickle_append(m, out->node, *key);
        if (!status) status = fdm_pickle_append(m, out->node, *value);
    }
    return status;
}

static fdm_status make_set(struct fdm_pickle_machine *m, struct fdm_pickle_value *out, const struct fdm_pickle_value *list) {
    const size_t n = list ? list->node->count : 0;
    fdm_status status = fdm_pickle_new_node(m, &out->node, n);
    out->kind = FDM_PICKLE_SET;
    for (size_t i = 0; i < n && !status; i++) status = fdm_pickle_append(m, out->node, list->node->items[i]);
    return status;
}

/* Constructors of plain data become the data.  *done: it was one of them. */
static fdm_status construct(struct fdm_pickle_machine *m, struct fdm_pickle_value *out, bool *done,
                            enum fdm_pickle_constructor constructor, const struct fdm_pickle_value *arguments) {
    const size_t n = arguments->node->count;
    const struct fdm_pickle_value *first = fdm_pickle_item(arguments, 0);
    const bool list = !n || (n == 1 && (first->kind == FDM_PICKLE_LIST || first->kind == FDM_PICKLE_TUPLE));
    *done = true;
    *out = (struct fdm_pickle_value){.kind = FDM_PICKLE_BYTES, .bytes = m->bytes};
    switch (constructor) {
    case FDM_PICKLE_ORDERED_DICT:
    case FDM_PICKLE_EASY_DICT: return list ? make_dict(m, out, first) : fdm_pickle_bad(m, "a dict of something strange");
    case FDM_PICKLE_BUILTIN_SET:
    case FDM_PICKLE_BUILTIN_FROZENSET: return list ? make_set(m, out, first) : fdm_pickle_bad(m, "a set of something strange");
    case FDM_PICKLE_BUILTIN_BYTES:
    case FDM_PICKLE_BUILTIN_BYTEARRAY:
        if (n > 1 || (n && first->kind != FDM_PICKLE_BYTES)) return fdm_pickle_bad(m, "bytes of something strange");
        if (n) *out = *first;
        return FDM_OK;
    case FDM_PICKLE_ENCODE:
        if (n != 2 || first->kind != FDM_PICKLE_TEXT || !fdm_pickle_is(first + 1, "latin1"))
            return fdm_pickle_bad(m, "text in an encoding other than latin1");
        return decode_latin1(m, out, first);
    default: *done = false; return FDM_OK;
    }
}

fdm_status fdm_pickle_reduce(struct fdm_pickle_machine *m) {
    struct fdm_pickle_value result;
    bool done;
    if (fdm_pickle_above_mark(m) < 2 || fdm_pickle_from_top(m, 2)->kind != FDM_PICKLE_NAME || fdm_pickle_from_top(m, 1)->kind != FDM_PICKLE_TUPLE)
        return fdm_pickle_bad(m, "a call of something strange");
    const struct fdm_pickle_value called = *fdm_pickle_from_top(m, 2), arguments = *fdm_pickle_from_top(m, 1);
    if (!called.constructor) {
        const struct fdm_pickle_value *name = called.node->items;
        return fdm_pickle_bad(m, "calls %.*s.%.*s, which is none of the known constructors; nothing was executed, save a state_dict",
                              shown(&name[0]), (const char *)name[0].bytes, shown(&name[1]), (const char *)name[1].bytes);
    }
    fdm_status status = construct(m, &result, &done, called.constructor, &arguments);
    if (status) return status;
    if (done) {
        m->stack.count -= 2;
        return fdm_pickle_push(m, result);
    }
    status = fdm_pickle_push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE}); /* the state */
    if (!status) status = fdm_pickle_collect(m, FDM_PICKLE_CALL, 3);
    if (!status) fdm_pickle_from_top(m, 1)->constructor = called.constructor;
    return status;
}

fdm_status fdm_pickle_new_object(struct fdm_pickle_machine *m) {
    if (fdm_pickle_above_mark(m) < 2 || fdm_pickle_from_top(m, 2)->kind != FDM_PICKLE_NAME || fdm_pickle_from_top(m, 1)->kind != FDM_PICKLE_TUPLE)
        return fdm_pickle_bad(m, "an object of something strange");
    const enum fdm_pickle_constructor constructor = fdm_pickle_from_top(m, 2)->constructor;
    if (constructor == FDM_PICKLE_ORDERED_DICT || constructor == FDM_PICKLE_EASY_DICT) return fdm_pickle_reduce(m);
    fdm_status status = fdm_pickle_push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE}); /* state and contents */
    if (!status) status = fdm_pickle_push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE});
    return status ? status : fdm_pickle_collect(m, FDM_PICKLE_OBJECT, 4);
}

fdm_status fdm_pickle_build(struct fdm_pickle_machine *m) {
    if (fdm_pickle_above_mark(m) < 2) return fdm_pickle_bad(m, "too few values");
    const struct fdm_pickle_value state = *fdm_pickle_from_top(m, 1), *object = fdm_pickle_from_top(m, 2);
    m->stack.count--;
    if (object->kind == FDM_PICKLE_DICT) return FDM_OK;
    if (object->kind != FDM_PICKLE_CALL && object->kind != FDM_PICKLE_OBJECT) return fdm_pickle_bad(m, "a state for a plain value");
    struct fdm_pickle_value *place = &object->node->items[FDM_PICKLE_STATE];
    if (place->kind != FDM_PICKLE_NONE) return fdm_pickle_bad(m, "a second state");
    *place = state;
    if (fdm_pickle_has_node(&state) && state.node->depth >= object->node->depth) object->node->depth = state.node->depth + 1;
    return object->node->depth > FDM_PICKLE_MAX_DEPTH ? fdm_pickle_bad(m, "nested more than %d deep", FDM_PICKLE_MAX_DEPTH) : FDM_OK;
}

/* The legacy streams of torch.save wrap the class of a module: ("module", class, file, source).  The class is all of it. */
static bool is_wrapped_class(const struct fdm_pickle_value *id) {
    const struct fdm_pickle_value *class = fdm_pickle_item(id, 1);
    return fdm_pickle_is(fdm_pickle_item(id, 0), "module") && class && class->kind == FDM_PICKLE_NAME;
}

fdm_status fdm_pickle_persistent(struct fdm_pickle_machine *m) {
    if (fdm_pickle_above_mark(m) > 0 && is_wrapped_class(fdm_pickle_from_top(m, 1))) {
        *fdm_pickle_from_top(m, 1) = *fdm_pickle_item(fdm_pickle_from_top(m, 1), 1);
        return FDM_OK;
    }
    fdm_status status = fdm_pickle_collect(m, FDM_PICKLE_PERSISTENT, 1);
    return status ? status : fdm_pickle_append(m, &m->out->ids, *fdm_pickle_from_top(m, 1));
}
