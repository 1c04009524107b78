/* pickle_machine.c - the memory and the stack of the machine that reads a pickle. */
#include "io/pickle_machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void fdm_pickle_complain(const struct fdm_pickle_machine *m, const char *format, ...) {
    char why[320];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    fdm_fail(m->err, FDM_BAD_INPUT, "%s: %s (byte %zu of the pickle)", m->label, why, m->op_at);
}
/* ---- Memory, within the budget ------------------------------------------------------------------------------ */

fdm_status fdm_pickle_charge(struct fdm_pickle_machine *m, size_t bytes) {
    const size_t block = fdm_memory_of_block(bytes);
    if (!fdm_memory_take(m->out->memory, block)) return fdm_pickle_bad(m, "needs more memory than a file of its size may; a bomb?");
    m->out->taken += block;
    return FDM_OK;
}

void fdm_pickle_give_back(struct fdm_pickle_machine *m, size_t bytes) {
    m->out->memory->left += fdm_memory_of_block(bytes);
    m->out->taken -= fdm_memory_of_block(bytes);
}

fdm_status fdm_pickle_no_memory(const struct fdm_pickle_machine *m) {
    return fdm_fail(m->err, FDM_NO_RESOURCE, "%s: out of memory (pickle)", m->label);
}

fdm_status fdm_pickle_reserve(struct fdm_pickle_machine *m, struct fdm_pickle_node *n, size_t count) {
    if (count <= n->capacity) return FDM_OK;
    const size_t capacity = count > 2 * n->capacity ? count : 2 * n->capacity;
    fdm_status status = fdm_pickle_charge(m, capacity * sizeof *n->items); /* counts are below the file's size */
    if (status) return status;
    struct fdm_pickle_value *items = realloc(n->items, capacity * sizeof *items);
    if (!items) return fdm_pickle_no_memory(m);
    if (n->items) fdm_pickle_give_back(m, n->capacity * sizeof *items); /* only now: realloc holds both */
    n->items = items;
    n->capacity = capacity;
    return FDM_OK;
}

void fdm_pickle_free_items(struct fdm_pickle_machine *m, struct fdm_pickle_node *n) {
    if (n->items) fdm_pickle_give_back(m, n->capacity * sizeof *n->items);
    free(n->items);
}

fdm_status fdm_pickle_append(struct fdm_pickle_machine *m, struct fdm_pickle_node *n, struct fdm_pickle_value v) {
    fdm_status status = fdm_pickle_reserve(m, n, n->count + 1);
    if (status) return status;
    if (fdm_pickle_has_node(&v) && v.node->depth >= n->depth) n->depth = v.node->depth + 1;
    if (n->depth > FDM_PICKLE_MAX_DEPTH && n != &m->stack && n != &m->memo)
        return fdm_pickle_bad(m, "nested more than %d deep", FDM_PICKLE_MAX_DEPTH);
    n->items[n->count++] = v;
    return FDM_OK;
}

fdm_status fdm_pickle_push(struct fdm_pickle_machine *m, struct fdm_pickle_value v) { return fdm_pickle_append(m, &m->stack, v); }

fdm_status fdm_pickle_new_node(struct fdm_pickle_machine *m, struct fdm_pickle_node **out, size_t capacity) {
    fdm_status status = fdm_pickle_charge(m, sizeof **out);
    if (status) return status;
    struct fdm_pickle_node *node = calloc(1, sizeof *node);
    if (!node) return fdm_pickle_no_memory(m);
    node->depth = 1;
    node->next = m->out->nodes;
    m->out->nodes = node;
    *out = node;
    return fdm_pickle_reserve(m, node, capacity);
}

/* ---- The stack and the file --------------------------------------------------------------------------------- */

size_t fdm_pickle_above_mark(const struct fdm_pickle_machine *m) {
    return m->stack.count - (m->mark_count ? m->marks[m->mark_count - 1] : 0);
}
struct fdm_pickle_value *fdm_pickle_from_top(struct fdm_pickle_machine *m, size_t n) {
    return &m->stack.items[m->stack.count - n];
}

bool fdm_pickle_take(struct fdm_pickle_machine *m, const unsigned char **p, uint64_t n) {
    if (n > m->size - m->at) return false;
    *p = m->bytes + m->at;
    m->at += (size_t)n;
    return true;
}

bool fdm_pickle_take_number(struct fdm_pickle_machine *m, uint64_t *out, int bytes) {
    const unsigned char *p;
    if (!fdm_pickle_take(m, &p, (uint64_t)bytes)) return false;
    *out = 0;
    for (int i = 0; i < bytes; i++) *out |= (uint64_t)p[i] << (8 * i);
    return true;
}

/* Appends the top n values to a node and takes them off the stack. */
static fdm_status move_down(struct fdm_pickle_machine *m, struct fdm_pickle_node *node, size_t n) {
    fdm_status status = FDM_OK;
    for (size_t i = n; i > 0 && !status; i--) status = fdm_pickle_append(m, node, *fdm_pickle_from_top(m, i));
    if (!status) m->stack.count -= n;
    return status;
}

fdm_status fdm_pickle_collect(struct fdm_pickle_machine *m, enum fdm_pickle_kind kind, size_t n) {
    struct fdm_pickle_node *node;
    if (n > fdm_pickle_above_mark(m)) return fdm_pickle_bad(m, "too few values");
    fdm_status status = fdm_pickle_new_node(m, &node, n);
    if (!status) status = move_down(m, node, n);
    return status ? status : fdm_pickle_push(m, (struct fdm_pickle_value){.kind = kind, .node = node});
}

/* An object's own list or dict, made when the first item comes. */
static fdm_status contents_of(struct fdm_pickle_machine *m, struct fdm_pickle_value *out, const struct fdm_pickle_value *object,
                              enum fdm_pickle_kind kind) {
    struct fdm_pickle_value *contents = &object->node->items[FDM_PICKLE_CONTENTS];
    if (contents->kind == FDM_PICKLE_NONE) {
        fdm_status status = fdm_pickle_new_node(m, &contents->node, 0);
        if (status) return status;
        contents->kind = kind;
        if (object->node->depth < 2) object->node->depth = 2;
    }
    *out = *contents;
    return FDM_OK;
}

fdm_status fdm_pickle_extend(struct fdm_pickle_machine *m, enum fdm_pickle_kind kind, size_t n) {
    if (n >= fdm_pickle_above_mark(m)) return fdm_pickle_bad(m, "too few values");
    struct fdm_pickle_value object = *fdm_pickle_from_top(m, n + 1), below = object;
    if (object.kind == FDM_PICKLE_OBJECT) {
        fdm_status status = contents_of(m, &below, &object, kind);
        if (status) return status;
    }
    if (below.kind != kind || (kind == FDM_PICKLE_DICT && n % 2)) return fdm_pickle_bad(m, "values for another container");
    fdm_status status = move_down(m, below.node, n);
    if (!status && below.node->depth >= object.node->depth && object.node != below.node)
        object.node->depth = below.node->depth + 1;
    return status;
}
