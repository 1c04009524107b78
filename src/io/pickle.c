/* pickle.c - the data in a Python pickle; a stack machine that only collects. */
#include "io/pickle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MARKS = 1 << 10 };

struct fdm_pickle_block {
    struct fdm_pickle_block *next;
    unsigned char bytes[];
};

struct machine {
    struct fdm_pickle *out;
    const char *label;
    const unsigned char *bytes;
    size_t size, at, op_at;
    size_t budget; /* bytes of memory that may still be taken */
    struct fdm_pickle_node stack, memo; /* only items, count, capacity */
    size_t marks[MAX_MARKS], mark_count;
    fdm_error *err;
};

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

static void complain(const struct machine *m, const char *format, ...) FDM_PRINTF(2, 3);
static void complain(const struct machine *m, const char *format, ...) {
    char why[320];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    fdm_fail(m->err, FDM_BAD_INPUT, "%s: %s (byte %zu of the pickle)", m->label, why, m->op_at);
}
/* A macro, so that compilers and analysers see that it never means success. */
#define bad(...) (complain(__VA_ARGS__), FDM_BAD_INPUT)

/* ---- Memory, within the budget ------------------------------------------------------------------------------ */

static fdm_status charge(struct machine *m, size_t bytes) {
    if (bytes > m->budget) return bad(m, "needs more memory than a pickle of its size may; a bomb?");
    m->budget -= bytes;
    return FDM_OK;
}

static fdm_status no_memory(const struct machine *m) {
    return fdm_fail(m->err, FDM_NO_RESOURCE, "%s: out of memory (pickle)", m->label);
}

/* Room for `count` items in all. */
static fdm_status reserve(struct machine *m, struct fdm_pickle_node *n, size_t count) {
    if (count <= n->capacity) return FDM_OK;
    const size_t capacity = count > 2 * n->capacity ? count : 2 * n->capacity;
    fdm_status status = charge(m, (capacity - n->capacity) * sizeof *n->items); /* counts are below the file's size */
    if (status) return status;
    struct fdm_pickle_value *items = realloc(n->items, capacity * sizeof *items);
    if (!items) return no_memory(m);
    n->items = items;
    n->capacity = capacity;
    return FDM_OK;
}

static bool has_node(const struct fdm_pickle_value *v) {
    return v->kind >= FDM_PICKLE_NAME;
}

static fdm_status append(struct machine *m, struct fdm_pickle_node *n, struct fdm_pickle_value v) {
    fdm_status status = reserve(m, n, n->count + 1);
    if (status) return status;
    if (has_node(&v) && v.node->depth >= n->depth) n->depth = v.node->depth + 1;
    if (n->depth > FDM_PICKLE_MAX_DEPTH && n != &m->stack && n != &m->memo)
        return bad(m, "nested more than %d deep", FDM_PICKLE_MAX_DEPTH);
    n->items[n->count++] = v;
    return FDM_OK;
}

static fdm_status push(struct machine *m, struct fdm_pickle_value v) { return append(m, &m->stack, v); }
static fdm_status push_int(struct machine *m, enum fdm_pickle_kind kind, int64_t number) {
    return push(m, (struct fdm_pickle_value){.kind = kind, .number = number});
}

static fdm_status new_node(struct machine *m, struct fdm_pickle_node **out, size_t capacity) {
    fdm_status status = charge(m, sizeof **out);
    if (status) return status;
    struct fdm_pickle_node *node = calloc(1, sizeof *node);
    if (!node) return no_memory(m);
    node->depth = 1;
    node->next = m->out->nodes;
    m->out->nodes = node;
    *out = node;
    return reserve(m, node, capacity);
}

/* ---- The stack and the file --------------------------------------------------------------------------------- */

/* Values on the stack that lie above the last mark. */
static size_t above_mark(const struct machine *m) {
    return m->stack.count - (m->mark_count ? m->marks[m->mark_count - 1] : 0);
}
static struct fdm_pickle_value *from_top(struct machine *m, size_t n) {
    return &m->stack.items[m->stack.count - n];
}

static bool take(struct machine *m, const unsigned char **p, uint64_t n) {
    if (n > m->size - m->at) return false;
    *p = m->bytes + m->at;
    m->at += (size_t)n;
    return true;
}

static bool take_number(struct machine *m, uint64_t *out, int bytes) {
    const unsigned char *p;
    if (!take(m, &p, (uint64_t)bytes)) return false;
    *out = 0;
    for (int i = 0; i < bytes; i++) *out |= (uint64_t)p[i] << (8 * i);
    return true;
}

/* Appends the top n values to a node and takes them off the stack. */
static fdm_status move_down(struct machine *m, struct fdm_pickle_node *node, size_t n) {
    fdm_status status = FDM_OK;
    for (size_t i = n; i > 0 && !status; i--) status = append(m, node, *from_top(m, i));
    if (!status) m->stack.count -= n;
    return status;
}

/* A container of the top n values, which it replaces. */
static fdm_status collect(struct machine *m, enum fdm_pickle_kind kind, size_t n) {
    struct fdm_pickle_node *node;
    if (n > above_mark(m)) return bad(m, "too few values");
    fdm_status status = new_node(m, &node, n);
    if (!status) status = move_down(m, node, n);
    return status ? status : push(m, (struct fdm_pickle_value){.kind = kind, .node = node});
}

/* An object's own list or dict, made when the first item comes. */
static fdm_status contents_of(struct machine *m, struct fdm_pickle_value *out, const struct fdm_pickle_value *object,
                              enum fdm_pickle_kind kind) {
    struct fdm_pickle_value *contents = &object->node->items[FDM_PICKLE_CONTENTS];
    if (contents->kind == FDM_PICKLE_NONE) {
        fdm_status status = new_node(m, &contents->node, 0);
        if (status) return status;
        contents->kind = kind;
        if (object->node->depth < 2) object->node->depth = 2;
    }
    *out = *contents;
    return FDM_OK;
}

/* Moves the top n values into the container of that kind below them. */
static fdm_status extend(struct machine *m, enum fdm_pickle_kind kind, size_t n) {
    if (n >= above_mark(m)) return bad(m, "too few values");
    struct fdm_pickle_value object = *from_top(m, n + 1), below = object;
    if (object.kind == FDM_PICKLE_OBJECT) {
        fdm_status status = contents_of(m, &below, &object, kind);
        if (status) return status;
    }
    if (below.kind != kind || (kind == FDM_PICKLE_DICT && n % 2)) return bad(m, "values for another container");
    fdm_status status = move_down(m, below.node, n);
    if (!status && below.node->depth >= object.node->depth && object.node != below.node)
        object.node->depth = below.node->depth + 1;
    return status;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

static fdm_status push_bytes(struct machine *m, enum fdm_pickle_kind kind, int length_bytes) {
    struct fdm_pickle_value v = {.kind = kind};
    uint64_t n;
    if (!take_number(m, &n, length_bytes) || !take(m, &v.bytes, n)) return bad(m, "a string is cut off");
    v.size = (size_t)n;
    return push(m, v);
}

static fdm_status push_long(struct machine *m) {
    struct fdm_pickle_value v = {.kind = FDM_PICKLE_LONG};
    uint64_t n, low = 0;
    if (!take_number(m, &n, 1) || !take(m, &v.bytes, n)) return bad(m, "a number is cut off");
    v.size = (size_t)n;
    if (n > 8) return push(m, v);
    for (size_t i = 0; i < v.size; i++) low |= (uint64_t)v.bytes[i] << (8 * i);
    if (n > 0 && n < 8 && v.bytes[n - 1] & 0x80) low |= UINT64_MAX << (8 * n);
    return push_int(m, FDM_PICKLE_INT, (int64_t)low);
}

static fdm_status push_number(struct machine *m, uint8_t op) {
    uint64_t n;
    if (!take_number(m, &n, op == 'K' ? 1 : op == 'M' ? 2 : 4)) return bad(m, "a number is cut off");
    if (op == 'J' && n >> 31) n |= UINT64_MAX << 32;
    return push_int(m, FDM_PICKLE_INT, (int64_t)n);
}

/* A double, the only number that a pickle holds in big-endian order. */
static fdm_status push_float(struct machine *m) {
    struct fdm_pickle_value v = {.kind = FDM_PICKLE_FLOAT};
    const unsigned char *p;
    uint64_t bits = 0;
    if (!take(m, &p, 8)) return bad(m, "a number is cut off");
    for (int i = 0; i < 8; i++) bits = bits << 8 | p[i];
    memcpy(&v.real, &bits, sizeof v.real);
    return push(m, v);
}

/* ---- Names -------------------------------------------------------------------------------------------------- */

static bool is_text(const struct fdm_pickle_value *v) { return v->kind == FDM_PICKLE_TEXT || v->kind == FDM_PICKLE_BYTES; }

static bool same_text(const struct fdm_pickle_value *v, const char *text, size_t n) {
    return is_text(v) && v->size == n && memcmp(v->bytes, text, n) == 0;
}

static bool starts_with(const struct fdm_pickle_value *v, const char *text) {
    const size_t n = strlen(text);
    return v->size >= n && memcmp(v->bytes, text, n) == 0;
}

/* Python 2's and NumPy 2's names of the same modules. */
static bool is_module(const struct fdm_pickle_value *v, const char *module) {
    static const char old[] = "numpy.core", now[] = "numpy._core";
    if (same_text(v, module, strlen(module))) return true;
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

/* Replaces module and name on the stack by the NAME, if that is one that such a pickle may hold. */
static fdm_status make_name(struct machine *m) {
    if (above_mark(m) < 2 || !is_text(from_top(m, 1)) || !is_text(from_top(m, 2))) return bad(m, "a name that is no text");
    const struct fdm_pickle_value *module = from_top(m, 2), *name = from_top(m, 1);
    enum fdm_pickle_constructor found = FDM_PICKLE_INERT;
    for (size_t i = 1; i < FDM_ARRAY_LEN(constructors) && !found; i++)
        if (fdm_pickle_is(name, constructors[i].name) && is_module(module, constructors[i].module))
            found = (enum fdm_pickle_constructor)i;
    if (!found && !of_known_package(module))
        return bad(m, "names %.*s.%.*s, which has no place in a network's file; nothing was executed", shown(module),
                   (const char *)module->bytes, shown(name), (const char *)name->bytes);
    fdm_status status = collect(m, FDM_PICKLE_NAME, 2);
    if (!status) from_top(m, 1)->constructor = found;
    return status;
}

/* GLOBAL: two lines. */
static fdm_status push_name(struct machine *m) {
    for (int lines = 0; lines < 2; lines++) {
        struct fdm_pickle_value v = {.kind = FDM_PICKLE_TEXT, .bytes = m->bytes + m->at};
        const unsigned char *end = memchr(v.bytes, '\n', m->size - m->at);
        if (!end) return bad(m, "a name is cut off");
        v.size = (size_t)(end - v.bytes);
        m->at += v.size + 1;
        fdm_status status = push(m, v);
        if (status) return status;
    }
    return make_name(m);
}

/* ---- Calls -------------------------------------------------------------------------------------------------- */

/* A latin-1 string, which is how protocol 2 keeps bytes: characters below 256, in UTF-8. */
static fdm_status decode_latin1(struct machine *m, struct fdm_pickle_value *out, const struct fdm_pickle_value *text) {
    fdm_status status = charge(m, sizeof(struct fdm_pickle_block) + text->size);
    if (status) return status;
    struct fdm_pickle_block *block = malloc(sizeof *block + text->size);
    if (!block) return no_memory(m);
    block->next = m->out->blocks;
    m->out->blocks = block;
    size_t n = 0;
    for (size_t i = 0; i < text->size; i++) {
        const unsigned char c = text->bytes[i];
        const bool pair = (c == 0xc2 || c == 0xc3) && i + 1 < text->size && (text->bytes[i + 1] & 0xc0) == 0x80;
        if (c >= 0x80 && !pair) return bad(m, "bytes written as text that is not latin-1");
        block->bytes[n++] = c < 0x80 ? c : (unsigned char)((c & 3) << 6 | (text->bytes[++i] & 0x3f));
    }
    *out = (struct fdm_pickle_value){.kind = FDM_PICKLE_BYTES, .bytes = block->bytes, .size = n};
    return FDM_OK;
}

/* OrderedDict(), or from a list of pairs. */
static fdm_status make_dict(struct machine *m, struct fdm_pickle_value *out, const struct fdm_pickle_value *pairs) {
    const size_t n = pairs ? pairs->node->count : 0;
    fdm_status status = new_node(m, &out->node, 2 * n);
    out->kind = FDM_PICKLE_DICT;
    for (size_t i = 0; i < n && !status; i++) {
        const struct fdm_pickle_value *key = fdm_pickle_item(&pairs->node->items[i], 0),
                                      *value = fdm_pickle_item(&pairs->node->items[i], 1);
        if (!key || !value) return bad(m, "a dict of something other than pairs");
        status = append(m, out->node, *key);
        if (!status) status = append(m, out->node, *value);
    }
    return status;
}

static fdm_status make_set(struct machine *m, struct fdm_pickle_value *out, const struct fdm_pickle_value *list) {
    const size_t n = list ? list->node->count : 0;
    fdm_status status = new_node(m, &out->node, n);
    out->kind = FDM_PICKLE_SET;
    for (size_t i = 0; i < n && !status; i++) status = append(m, out->node, list->node->items[i]);
    return status;
}

/* Constructors of plain data become the data.  *done: it was one of them. */
static fdm_status construct(struct machine *m, struct fdm_pickle_value *out, bool *done,
                            enum fdm_pickle_constructor constructor, const struct fdm_pickle_value *arguments) {
    const size_t n = arguments->node->count;
    const struct fdm_pickle_value *first = fdm_pickle_item(arguments, 0);
    const bool list = !n || (n == 1 && (first->kind == FDM_PICKLE_LIST || first->kind == FDM_PICKLE_TUPLE));
    *done = true;
    *out = (struct fdm_pickle_value){.kind = FDM_PICKLE_BYTES, .bytes = m->bytes};
    switch (constructor) {
    case FDM_PICKLE_ORDERED_DICT:
    case FDM_PICKLE_EASY_DICT: return list ? make_dict(m, out, first) : bad(m, "a dict of something strange");
    case FDM_PICKLE_BUILTIN_SET:
    case FDM_PICKLE_BUILTIN_FROZENSET: return list ? make_set(m, out, first) : bad(m, "a set of something strange");
    case FDM_PICKLE_BUILTIN_BYTES:
    case FDM_PICKLE_BUILTIN_BYTEARRAY:
        if (n > 1 || (n && first->kind != FDM_PICKLE_BYTES)) return bad(m, "bytes of something strange");
        if (n) *out = *first;
        return FDM_OK;
    case FDM_PICKLE_ENCODE:
        if (n != 2 || first->kind != FDM_PICKLE_TEXT || !fdm_pickle_is(first + 1, "latin1"))
            return bad(m, "text in an encoding other than latin1");
        return decode_latin1(m, out, first);
    default: *done = false; return FDM_OK;
    }
}

static fdm_status reduce(struct machine *m) {
    struct fdm_pickle_value result;
    bool done;
    if (above_mark(m) < 2 || from_top(m, 2)->kind != FDM_PICKLE_NAME || from_top(m, 1)->kind != FDM_PICKLE_TUPLE)
        return bad(m, "a call of something strange");
    const struct fdm_pickle_value called = *from_top(m, 2), arguments = *from_top(m, 1);
    if (!called.constructor) {
        const struct fdm_pickle_value *name = called.node->items;
        return bad(m, "calls %.*s.%.*s, which is none of the known constructors; nothing was executed, save a state_dict",
                   shown(&name[0]), (const char *)name[0].bytes, shown(&name[1]), (const char *)name[1].bytes);
    }
    fdm_status status = construct(m, &result, &done, called.constructor, &arguments);
    if (status) return status;
    if (done) {
        m->stack.count -= 2;
        return push(m, result);
    }
    status = push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE}); /* the state */
    if (!status) status = collect(m, FDM_PICKLE_CALL, 3);
    if (!status) from_top(m, 1)->constructor = called.constructor;
    return status;
}

/* NEWOBJ: class and arguments become a record. */
static fdm_status new_object(struct machine *m) {
    if (above_mark(m) < 2 || from_top(m, 2)->kind != FDM_PICKLE_NAME || from_top(m, 1)->kind != FDM_PICKLE_TUPLE)
        return bad(m, "an object of something strange");
    const enum fdm_pickle_constructor constructor = from_top(m, 2)->constructor;
    if (constructor == FDM_PICKLE_ORDERED_DICT || constructor == FDM_PICKLE_EASY_DICT) return reduce(m);
    fdm_status status = push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE}); /* state and contents */
    if (!status) status = push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE});
    return status ? status : collect(m, FDM_PICKLE_OBJECT, 4);
}

/* BUILD: the state of a call or an object; a dict's own attributes (a state_dict's _metadata) are left out. */
static fdm_status build(struct machine *m) {
    if (above_mark(m) < 2) return bad(m, "too few values");
    const struct fdm_pickle_value state = *from_top(m, 1), *object = from_top(m, 2);
    m->stack.count--;
    if (object->kind == FDM_PICKLE_DICT) return FDM_OK;
    if (object->kind != FDM_PICKLE_CALL && object->kind != FDM_PICKLE_OBJECT) return bad(m, "a state for a plain value");
    struct fdm_pickle_value *place = &object->node->items[FDM_PICKLE_STATE];
    if (place->kind != FDM_PICKLE_NONE) return bad(m, "a second state");
    *place = state;
    if (has_node(&state) && state.node->depth >= object->node->depth) object->node->depth = state.node->depth + 1;
    return object->node->depth > FDM_PICKLE_MAX_DEPTH ? bad(m, "nested more than %d deep", FDM_PICKLE_MAX_DEPTH) : FDM_OK;
}

/* The legacy streams of torch.save wrap the class of a module: ("module", class, file, source).  The class is all of it. */
static bool is_wrapped_class(const struct fdm_pickle_value *id) {
    const struct fdm_pickle_value *class = fdm_pickle_item(id, 1);
    return fdm_pickle_is(fdm_pickle_item(id, 0), "module") && class && class->kind == FDM_PICKLE_NAME;
}

static fdm_status persistent(struct machine *m) {
    if (above_mark(m) > 0 && is_wrapped_class(from_top(m, 1))) {
        *from_top(m, 1) = *fdm_pickle_item(from_top(m, 1), 1);
        return FDM_OK;
    }
    fdm_status status = collect(m, FDM_PICKLE_PERSISTENT, 1);
    return status ? status : append(m, &m->out->ids, *from_top(m, 1));
}

/* ---- Memo and marks ----------------------------------------------------------------------------------------- */

static fdm_status memo_put(struct machine *m, uint64_t index) {
    fdm_status status = FDM_OK;
    if (above_mark(m) < 1) return bad(m, "nothing to remember");
    if (index >= m->at) return bad(m, "a memo beyond what it can have written");
    if (index >= m->memo.count) status = reserve(m, &m->memo, (size_t)index + 1);
    while (m->memo.count <= index && !status) /* unused ones: not even None */
        m->memo.items[m->memo.count++] = (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE, .size = SIZE_MAX};
    if (!status) m->memo.items[index] = *from_top(m, 1);
    return status;
}

static fdm_status memo_get(struct machine *m, uint64_t index) {
    if (index >= m->memo.count || m->memo.items[index].size == SIZE_MAX) return bad(m, "a memo that was never written");
    return push(m, m->memo.items[index]);
}

static fdm_status memo_op(struct machine *m, uint8_t op) {
    uint64_t n;
    if (!take_number(m, &n, op == 'q' || op == 'h' ? 1 : 4)) return bad(m, "a memo number is cut off");
    return op == 'q' || op == 'r' ? memo_put(m, n) : memo_get(m, n);
}

static fdm_status mark(struct machine *m) {
    if (m->mark_count == MAX_MARKS) return bad(m, "nested more than %d deep", MAX_MARKS);
    m->marks[m->mark_count++] = m->stack.count;
    return FDM_OK;
}

/* What takes everything above the last mark. */
static fdm_status until_mark(struct machine *m, uint8_t op) {
    if (!m->mark_count) return bad(m, "no mark");
    const size_t n = above_mark(m);
    m->mark_count--;
    switch (op) {
    case 't': return collect(m, FDM_PICKLE_TUPLE, n);
    case 'e': return extend(m, FDM_PICKLE_LIST, n);
    case 'u': return extend(m, FDM_PICKLE_DICT, n);
    case 0x90: return extend(m, FDM_PICKLE_SET, n);
    case 0x91: return collect(m, FDM_PICKLE_SET, n);
    default: m->stack.count -= n; return FDM_OK; /* POP_MARK, of a tuple within itself */
    }
}

static fdm_status pop(struct machine *m) {
    if (above_mark(m) < 1) return bad(m, "too few values");
    m->stack.count--;
    return FDM_OK;
}

static fdm_status protocol(struct machine *m) {
    const unsigned char *p;
    if (!take(m, &p, 1) || *p < 2 || *p > 5) return bad(m, "protocol not 2 to 5");
    m->out->protocol = *p;
    return FDM_OK;
}

/* ---- The machine -------------------------------------------------------------------------------------------- */

static fdm_status step(struct machine *m, uint8_t op) {
    const unsigned char *skipped;
    switch (op) {
    case 0x80: return protocol(m);
    case 0x95: return take(m, &skipped, 8) ? FDM_OK : bad(m, "a frame is cut off");
    case '(': return mark(m);
    case ')': return collect(m, FDM_PICKLE_TUPLE, 0);
    case ']': return collect(m, FDM_PICKLE_LIST, 0);
    case '}': return collect(m, FDM_PICKLE_DICT, 0);
    case 0x8f: return collect(m, FDM_PICKLE_SET, 0);
    case 't':
    case 'e':
    case 'u':
    case '1':
    case 0x90:
    case 0x91: return until_mark(m, op);
    case '0': return pop(m);
    case 'a': return extend(m, FDM_PICKLE_LIST, 1);
    case 's': return extend(m, FDM_PICKLE_DICT, 2);
    case 0x85:
    case 0x86:
    case 0x87: return collect(m, FDM_PICKLE_TUPLE, op - 0x84u);
    case 'N': return push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE});
    case 0x88:
    case 0x89: return push_int(m, FDM_PICKLE_BOOL, op == 0x88);
    case 'K':
    case 'M':
    case 'J': return push_number(m, op);
    case 0x8a: return push_long(m);
    case 'G': return push_float(m);
    case 'U':
    case 'C': return push_bytes(m, FDM_PICKLE_BYTES, 1);
    case 'T':
    case 'B': return push_bytes(m, FDM_PICKLE_BYTES, 4);
    case 0x8e:
    case 0x96: return push_bytes(m, FDM_PICKLE_BYTES, 8);
    case 0x8c: return push_bytes(m, FDM_PICKLE_TEXT, 1);
    case 'X': return push_bytes(m, FDM_PICKLE_TEXT, 4);
    case 0x8d: return push_bytes(m, FDM_PICKLE_TEXT, 8);
    case 'q':
    case 'r':
    case 'h':
    case 'j': return memo_op(m, op);
    case 0x94: return memo_put(m, m->memo.count);
    case 'c': return push_name(m);
    case 0x93: return make_name(m);
    case 'R': return reduce(m);
    case 0x81: return new_object(m);
    case 'b': return build(m);
    case 'Q': return persistent(m);
    default: return bad(m, "operation 0x%02x, which plain data does not need", op);
    }
}

static fdm_status run(struct machine *m) {
    if (m->size < 2 || m->bytes[0] != 0x80) return bad(m, "no pickle of protocol 2 to 5: it does not start with one's mark");
    for (;;) {
        m->op_at = m->at;
        if (m->at == m->size) return bad(m, "truncated");
        uint8_t op = m->bytes[m->at++];
        if (op == '.') break;
        fdm_status status = step(m, op);
        if (status) return status;
    }
    if (m->stack.count != 1 || m->mark_count) return bad(m, "not one value in the end");
    m->out->top = m->stack.items[0];
    m->out->bytes = m->at;
    return FDM_OK;
}

fdm_status fdm_pickle_parse(struct fdm_pickle *pickle, const void *bytes, size_t size, const char *label,
                            fdm_error *err) {
    struct machine *m = calloc(1, sizeof *m);
    memset(pickle, 0, sizeof *pickle);
    if (!m) return fdm_fail_oom(err, "pickle", sizeof *m);
    m->out = pickle;
    m->label = label;
    m->bytes = bytes;
    m->size = size;
    m->budget = fdm_add_saturated(size, FDM_PICKLE_FREE_BYTES);
    m->err = err;
    fdm_status status = run(m);
    free(m->stack.items);
    free(m->memo.items);
    free(m);
    if (status) fdm_pickle_free(pickle);
    return status;
}

void fdm_pickle_free(struct fdm_pickle *pickle) {
    for (struct fdm_pickle_node *n = pickle->nodes, *next; n; n = next) {
        next = n->next;
        free(n->items);
        free(n);
    }
    for (struct fdm_pickle_block *b = pickle->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(pickle->ids.items);
    memset(pickle, 0, sizeof *pickle);
}

/* ---- Looking at the result ---------------------------------------------------------------------------------- */

bool fdm_pickle_is(const struct fdm_pickle_value *v, const char *text) {
    return v && same_text(v, text, strlen(text));
}

const struct fdm_pickle_value *fdm_pickle_get(const struct fdm_pickle_value *dict, const char *key) {
    if (!dict || dict->kind != FDM_PICKLE_DICT) return NULL;
    for (size_t i = dict->node->count / 2; i-- > 0;)
        if (fdm_pickle_is(&dict->node->items[2 * i], key)) return &dict->node->items[2 * i + 1];
    return NULL;
}

const struct fdm_pickle_value *fdm_pickle_item(const struct fdm_pickle_value *v, size_t i) {
    if (!v || (v->kind != FDM_PICKLE_TUPLE && v->kind != FDM_PICKLE_LIST) || i >= v->node->count) return NULL;
    return &v->node->items[i];
}

bool fdm_pickle_is_call(const struct fdm_pickle_value *v, enum fdm_pickle_constructor constructor) {
    return v && v->kind == FDM_PICKLE_CALL && v->constructor == constructor;
}

const struct fdm_pickle_value *fdm_pickle_argument(const struct fdm_pickle_value *v,
                                                   enum fdm_pickle_constructor constructor, size_t i) {
    return fdm_pickle_is_call(v, constructor) ? fdm_pickle_item(&v->node->items[FDM_PICKLE_ARGUMENTS], i) : NULL;
}

bool fdm_pickle_is_name(const struct fdm_pickle_value *v, const char *module, const char *name) {
    return v && v->kind == FDM_PICKLE_NAME && fdm_pickle_is(&v->node->items[0], module) &&
           fdm_pickle_is(&v->node->items[1], name);
}

char *fdm_pickle_string(const struct fdm_pickle_value *v) {
    char *copy = malloc(v->size + 1);
    if (!copy) return NULL;
    memcpy(copy, v->bytes, v->size);
    copy[v->size] = '\0';
    return copy;
}
