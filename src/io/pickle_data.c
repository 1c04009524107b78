/* pickle_data.c - the data in a Python pickle; a stack machine that only collects. */
#include "io/pickle_data.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STACK = 1 << 20, MAX_MARKS = 1 << 10, MAX_NODES = 1 << 20 };

struct machine {
    struct fdm_pickle *out;
    const char *label;
    const unsigned char *bytes;
    size_t size, at, op_at;
    struct fdm_pickle_node stack, memo; /* only items, count, capacity */
    size_t marks[MAX_MARKS], mark_count, node_count;
    fdm_error *err;
};

static fdm_status bad(const struct machine *m, const char *why) {
    return fdm_fail(m->err, FDM_BAD_INPUT, "%s: %s (byte %zu of the pickle); not an original CIFAR-10 batch",
                    m->label, why, m->op_at);
}

static fdm_status append(const struct machine *m, struct fdm_pickle_node *n, struct fdm_pickle_value v) {
    if (n->count == MAX_STACK) return bad(m, "too many values");
    if (n->count == n->capacity) {
        size_t capacity = n->capacity ? 2 * n->capacity : 8;
        struct fdm_pickle_value *items = realloc(n->items, capacity * sizeof *items);
        if (!items) return fdm_fail(m->err, FDM_NO_RESOURCE, "%s: out of memory (pickle)", m->label);
        n->items = items;
        n->capacity = capacity;
    }
    n->items[n->count++] = v;
    return FDM_OK;
}

static fdm_status push(struct machine *m, struct fdm_pickle_value v) { return append(m, &m->stack, v); }
static fdm_status push_int(struct machine *m, int64_t number) {
    return push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_INT, .number = number});
}

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

/* A container of the top `n` values, which it replaces. */
static fdm_status collect(struct machine *m, enum fdm_pickle_kind kind, size_t n) {
    if (n > above_mark(m)) return bad(m, "too few values");
    if (++m->node_count > MAX_NODES) return bad(m, "too many containers");
    struct fdm_pickle_node *node = calloc(1, sizeof *node);
    if (!node) return fdm_fail(m->err, FDM_NO_RESOURCE, "%s: out of memory (pickle)", m->label);
    node->next = m->out->nodes;
    m->out->nodes = node;
    for (size_t i = n; i > 0; i--) {
        fdm_status status = append(m, node, *from_top(m, i));
        if (status) return status;
    }
    m->stack.count -= n;
    return push(m, (struct fdm_pickle_value){.kind = kind, .node = node});
}

/* Moves the top n values into the container of that kind below them. */
static fdm_status extend(struct machine *m, enum fdm_pickle_kind kind, size_t n) {
    if (n >= above_mark(m)) return bad(m, "too few values");
    const struct fdm_pickle_value *below = from_top(m, n + 1);
    if (below->kind != kind || (kind == FDM_PICKLE_DICT && n % 2)) return bad(m, "values for another container");
    struct fdm_pickle_node *node = below->node;
    for (size_t i = n; i > 0; i--) {
        fdm_status status = append(m, node, *from_top(m, i));
        if (status) return status;
    }
    m->stack.count -= n;
    return FDM_OK;
}

static fdm_status push_text(struct machine *m, int length_bytes) {
    struct fdm_pickle_value v = {.kind = FDM_PICKLE_TEXT};
    uint64_t n;
    if (!take_number(m, &n, length_bytes) || !take(m, &v.bytes, n)) return bad(m, "a string is cut off");
    v.size = (size_t)n;
    return push(m, v);
}

/* GLOBAL: two lines. */
static fdm_status push_name(struct machine *m) {
    struct fdm_pickle_value v = {.kind = FDM_PICKLE_NAME, .bytes = m->bytes + m->at};
    for (int lines = 0; lines < 2; m->at++) {
        if (m->at == m->size) return bad(m, "a name is cut off");
        lines += m->bytes[m->at] == '\n';
    }
    v.size = (size_t)(m->bytes + m->at - 1 - v.bytes);
    return push(m, v);
}

/* STACK_GLOBAL: module and name as strings; the name alone is kept. */
static fdm_status name_from_stack(struct machine *m) {
    if (above_mark(m) < 2 || from_top(m, 1)->kind != FDM_PICKLE_TEXT) return bad(m, "a name that is no text");
    struct fdm_pickle_value name = *from_top(m, 1);
    name.kind = FDM_PICKLE_NAME;
    m->stack.count--;
    *from_top(m, 1) = name;
    return FDM_OK;
}

static fdm_status memo_put(struct machine *m, uint64_t index) {
    fdm_status status = FDM_OK;
    if (above_mark(m) < 1) return bad(m, "nothing to remember");
    if (index >= MAX_STACK) return bad(m, "a memo beyond the limit");
    while (m->memo.count <= index && !status) status = append(m, &m->memo, (struct fdm_pickle_value){0});
    if (!status) m->memo.items[index] = *from_top(m, 1);
    return status;
}

static fdm_status memo_get(struct machine *m, uint64_t index) {
    if (index >= m->memo.count) return bad(m, "a memo that was never written");
    return push(m, m->memo.items[index]);
}

static fdm_status reduce(struct machine *m) {
    if (above_mark(m) < 2 || from_top(m, 2)->kind != FDM_PICKLE_NAME || from_top(m, 1)->kind != FDM_PICKLE_TUPLE)
        return bad(m, "a call of something strange");
    return collect(m, FDM_PICKLE_CALL, 2);
}

static fdm_status until_mark(struct machine *m, uint8_t op) {
    if (!m->mark_count) return bad(m, "no mark");
    size_t n = above_mark(m);
    m->mark_count--;
    return op == 't' ? collect(m, FDM_PICKLE_TUPLE, n)
                     : extend(m, op == 'e' ? FDM_PICKLE_LIST : FDM_PICKLE_DICT, n);
}

static fdm_status number_op(struct machine *m, uint8_t op) {
    uint64_t n, length = 8;
    if (op == 0x8a && (!take_number(m, &length, 1) || length > 8)) return bad(m, "a number of more than 8 bytes");
    int bytes = op == 'K' ? 1 : op == 'M' ? 2 : op == 'J' ? 4 : (int)length;
    if (!take_number(m, &n, bytes)) return bad(m, "a number is cut off");
    bool is_signed = (op == 'J' || op == 0x8a) && bytes > 0 && bytes < 8;
    if (is_signed && n >> (8 * bytes - 1) & 1) n |= UINT64_MAX << (8 * bytes);
    return push_int(m, (int64_t)n);
}

static fdm_status memo_op(struct machine *m, uint8_t op) {
    uint64_t n;
    if (!take_number(m, &n, op == 'q' || op == 'h' ? 1 : 4)) return bad(m, "a memo number is cut off");
    return op == 'q' || op == 'r' ? memo_put(m, n) : memo_get(m, n);
}

static fdm_status step(struct machine *m, uint8_t op) {
    const unsigned char *skipped;
    switch (op) {
    case 0x80:
        return take(m, &skipped, 1) && *skipped >= 2 && *skipped <= 5 ? FDM_OK : bad(m, "protocol not 2 to 5");
    case 0x95: return take(m, &skipped, 8) ? FDM_OK : bad(m, "a frame is cut off");
    case '(':
        if (m->mark_count == MAX_MARKS) return bad(m, "too many marks");
        m->marks[m->mark_count++] = m->stack.count;
        return FDM_OK;
    case ')': return collect(m, FDM_PICKLE_TUPLE, 0);
    case ']': return collect(m, FDM_PICKLE_LIST, 0);
    case '}': return collect(m, FDM_PICKLE_DICT, 0);
    case 't':
    case 'e':
    case 'u': return until_mark(m, op);
    case 'a': return extend(m, FDM_PICKLE_LIST, 1);
    case 's': return extend(m, FDM_PICKLE_DICT, 2);
    case 0x85:
    case 0x86:
    case 0x87: return collect(m, FDM_PICKLE_TUPLE, op - 0x84u);
    case 'N': return push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE});
    case 0x88:
    case 0x89: return push_int(m, op == 0x88);
    case 'K':
    case 'M':
    case 'J':
    case 0x8a: return number_op(m, op);
    case 'U':
    case 'C':
    case 0x8c: return push_text(m, 1);
    case 'T':
    case 'B':
    case 'X': return push_text(m, 4);
    case 0x8e:
    case 0x8d: return push_text(m, 8);
    case 'q':
    case 'r':
    case 'h':
    case 'j': return memo_op(m, op);
    case 0x94: return memo_put(m, m->memo.count);
    case 'c': return push_name(m);
    case 0x93: return name_from_stack(m);
    case 'R': return reduce(m);
    case 'b': return extend(m, FDM_PICKLE_CALL, 1);
    default: return bad(m, "an operation that plain data does not need");
    }
}

static fdm_status run(struct machine *m) {
    for (;;) {
        m->op_at = m->at;
        if (m->at == m->size) return bad(m, "truncated");
        uint8_t op = m->bytes[m->at++];
        if (op == '.') break;
        fdm_status status = step(m, op);
        if (status) return status;
    }
    if (m->stack.count != 1) return bad(m, "not one value in the end");
    m->out->top = m->stack.items[0];
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
    memset(pickle, 0, sizeof *pickle);
}

const struct fdm_pickle_value *fdm_pickle_get(const struct fdm_pickle_value *dict, const char *key) {
    if (!dict || dict->kind != FDM_PICKLE_DICT) return NULL;
    for (size_t i = 0; i + 1 < dict->node->count; i += 2) {
        const struct fdm_pickle_value *k = &dict->node->items[i];
        if (k->kind == FDM_PICKLE_TEXT && k->size == strlen(key) && memcmp(k->bytes, key, k->size) == 0)
            return k + 1;
    }
    return NULL;
}
