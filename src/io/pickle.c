/* pickle.c - the data in a Python pickle; a stack machine that only collects. */
#include "io/pickle_machine.h"

#include <stdlib.h>
#include <string.h>

/* ---- Values ------------------------------------------------------------------------------------------------- */

static fdm_status push_bytes(struct fdm_pickle_machine *m, enum fdm_pickle_kind kind, int length_bytes) {
    struct fdm_pickle_value v = {.kind = kind};
    uint64_t n;
    if (!fdm_pickle_take_number(m, &n, length_bytes) || !fdm_pickle_take(m, &v.bytes, n)) return fdm_pickle_bad(m, "a string is cut off");
    v.size = (size_t)n;
    return fdm_pickle_push(m, v);
}

static fdm_status push_int(struct fdm_pickle_machine *m, enum fdm_pickle_kind kind, int64_t number) {
    return fdm_pickle_push(m, (struct fdm_pickle_value){.kind = kind, .number = number});
}

static fdm_status push_long(struct fdm_pickle_machine *m) {
    struct fdm_pickle_value v = {.kind = FDM_PICKLE_LONG};
    uint64_t n, low = 0;
    if (!fdm_pickle_take_number(m, &n, 1) || !fdm_pickle_take(m, &v.bytes, n)) return fdm_pickle_bad(m, "a number is cut off");
    v.size = (size_t)n;
    if (n > 8) return fdm_pickle_push(m, v);
    for (size_t i = 0; i < v.size; i++) low |= (uint64_t)v.bytes[i] << (8 * i);
    if (n > 0 && n < 8 && v.bytes[n - 1] & 0x80) low |= UINT64_MAX << (8 * n);
    return push_int(m, FDM_PICKLE_INT, (int64_t)low);
}

static fdm_status push_number(struct fdm_pickle_machine *m, uint8_t op) {
    uint64_t n;
    if (!fdm_pickle_take_number(m, &n, op == 'K' ? 1 : op == 'M' ? 2 : 4)) return fdm_pickle_bad(m, "a number is cut off");
    if (op == 'J' && n >> 31) n |= UINT64_MAX << 32;
    return push_int(m, FDM_PICKLE_INT, (int64_t)n);
}

/* A double, the only number that a pickle holds in big-endian order. */
static fdm_status push_float(struct fdm_pickle_machine *m) {
    struct fdm_pickle_value v = {.kind = FDM_PICKLE_FLOAT};
    const unsigned char *p;
    uint64_t bits = 0;
    if (!fdm_pickle_take(m, &p, 8)) return fdm_pickle_bad(m, "a number is cut off");
    for (int i = 0; i < 8; i++) bits = bits << 8 | p[i];
    memcpy(&v.real, &bits, sizeof v.real);
    return fdm_pickle_push(m, v);
}

/* ---- Memo and marks ----------------------------------------------------------------------------------------- */

static fdm_status memo_put(struct fdm_pickle_machine *m, uint64_t index) {
    fdm_status status = FDM_OK;
    if (fdm_pickle_above_mark(m) < 1) return fdm_pickle_bad(m, "nothing to remember");
    if (index >= m->at) return fdm_pickle_bad(m, "a memo beyond what it can have written");
    if (index >= m->memo.count) status = fdm_pickle_reserve(m, &m->memo, (size_t)index + 1);
    while (m->memo.count <= index && !status) /* unused ones: not even None */
        m->memo.items[m->memo.count++] = (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE, .size = SIZE_MAX};
    if (!status) m->memo.items[index] = *fdm_pickle_from_top(m, 1);
    return status;
}

static fdm_status memo_get(struct fdm_pickle_machine *m, uint64_t index) {
    if (index >= m->memo.count || m->memo.items[index].size == SIZE_MAX) return fdm_pickle_bad(m, "a memo that was never written");
    return fdm_pickle_push(m, m->memo.items[index]);
}

static fdm_status memo_op(struct fdm_pickle_machine *m, uint8_t op) {
    uint64_t n;
    if (!fdm_pickle_take_number(m, &n, op == 'q' || op == 'h' ? 1 : 4)) return fdm_pickle_bad(m, "a memo number is cut off");
    return op == 'q' || op == 'r' ? memo_put(m, n) : memo_get(m, n);
}

static fdm_status mark(struct fdm_pickle_machine *m) {
    if (m->mark_count == FDM_PICKLE_MAX_MARKS) return fdm_pickle_bad(m, "nested more than %d deep", FDM_PICKLE_MAX_MARKS);
    m->marks[m->mark_count++] = m->stack.count;
    return FDM_OK;
}

/* What takes everything above the last mark. */
static fdm_status until_mark(struct fdm_pickle_machine *m, uint8_t op) {
    if (!m->mark_count) return fdm_pickle_bad(m, "no mark");
    const size_t n = fdm_pickle_above_mark(m);
    m->mark_count--;
    switch (op) {
    case 't': return fdm_pickle_collect(m, FDM_PICKLE_TUPLE, n);
    case 'e': return fdm_pickle_extend(m, FDM_PICKLE_LIST, n);
    case 'u': return fdm_pickle_extend(m, FDM_PICKLE_DICT, n);
    case 0x90: return fdm_pickle_extend(m, FDM_PICKLE_SET, n);
    case 0x91: return fdm_pickle_collect(m, FDM_PICKLE_SET, n);
    default: m->stack.count -= n; return FDM_OK; /* POP_MARK, of a tuple within itself */
    }
}

static fdm_status pop(struct fdm_pickle_machine *m) {
    if (fdm_pickle_above_mark(m) < 1) return fdm_pickle_bad(m, "too few values");
    m->stack.count--;
    return FDM_OK;
}

static fdm_status protocol(struct fdm_pickle_machine *m) {
    const unsigned char *p;
    if (!fdm_pickle_take(m, &p, 1) || *p < 2 || *p > 5) return fdm_pickle_bad(m, "protocol not 2 to 5");
    m->out->protocol = *p;
    return FDM_OK;
}

/* ---- The machine -------------------------------------------------------------------------------------------- */

static fdm_status step(struct fdm_pickle_machine *m, uint8_t op) {
    const unsigned char *skipped;
    switch (op) {
    case 0x80: return protocol(m);
    case 0x95: return fdm_pickle_take(m, &skipped, 8) ? FDM_OK : fdm_pickle_bad(m, "a frame is cut off");
    case '(': return mark(m);
    case ')': return fdm_pickle_collect(m, FDM_PICKLE_TUPLE, 0);
    case ']': return fdm_pickle_collect(m, FDM_PICKLE_LIST, 0);
    case '}': return fdm_pickle_collect(m, FDM_PICKLE_DICT, 0);
    case 0x8f: return fdm_pickle_collect(m, FDM_PICKLE_SET, 0);
    case 't':
    case 'e':
    case 'u':
    case '1':
    case 0x90:
    case 0x91: return until_mark(m, op);
    case '0': return pop(m);
    case 'a': return fdm_pickle_extend(m, FDM_PICKLE_LIST, 1);
    case 's': return fdm_pickle_extend(m, FDM_PICKLE_DICT, 2);
    case 0x85:
    case 0x86:
    case 0x87: return fdm_pickle_collect(m, FDM_PICKLE_TUPLE, op - 0x84u);
    case 'N': return fdm_pickle_push(m, (struct fdm_pickle_value){.kind = FDM_PICKLE_NONE});
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
    case 'c': return fdm_pickle_push_name(m);
    case 0x93: return fdm_pickle_make_name(m);
    case 'R': return fdm_pickle_reduce(m);
    case 0x81: return fdm_pickle_new_object(m);
    case 'b': return fdm_pickle_build(m);
    case 'Q': return fdm_pickle_persistent(m);
    default: return fdm_pickle_bad(m, "operation 0x%02x, which plain data does not need", op);
    }
}

static fdm_status run(struct fdm_pickle_machine *m) {
    if (m->size < 2 || m->bytes[0] != 0x80) return fdm_pickle_bad(m, "no pickle of protocol 2 to 5: it does not start with one's mark");
    for (;;) {
        m->op_at = m->at;
        if (m->at == m->size) return fdm_pickle_bad(m, "truncated");
        uint8_t op = m->bytes[m->at++];
        if (op == '.') break;
        fdm_status status = step(m, op);
        if (status) return status;
    }
    if (m->stack.count != 1 || m->mark_count) return fdm_pickle_bad(m, "not one value in the end");
    m->out->top = m->stack.items[0];
    m->out->bytes = m->at;
    return FDM_OK;
}

fdm_status fdm_pickle_parse(struct fdm_pickle *pickle, const void *bytes, size_t size, struct fdm_memory *memory,
                            const char *label, fdm_error *err) {
    struct fdm_pickle_machine *m = calloc(1, sizeof *m);
    memset(pickle, 0, sizeof *pickle);
    if (!m) return fdm_fail_oom(err, "pickle", sizeof *m);
    m->out = pickle;
    pickle->memory = memory;
    m->label = label;
    m->bytes = bytes;
    m->size = size;
    m->err = err;
    fdm_status status = run(m);
    fdm_pickle_free_items(m, &m->stack);
    fdm_pickle_free_items(m, &m->memo);
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
    if (pickle->memory) pickle->memory->left += pickle->taken;
    memset(pickle, 0, sizeof *pickle);
}
