/* pickle_machine.h - the machine that reads a pickle: its stack, and the operations on names and objects; of pickle*.c alone.
 *
 * Every function that returns a status fails with FDM_BAD_INPUT (a message that names the operation's place) or FDM_NO_RESOURCE.
 */
#ifndef FDM_IO_PICKLE_MACHINE_H
#define FDM_IO_PICKLE_MACHINE_H

#include "io/pickle.h"

enum { FDM_PICKLE_MAX_MARKS = 1 << 10 };

struct fdm_pickle_block {
    struct fdm_pickle_block *next;
    unsigned char bytes[];
};

struct fdm_pickle_machine {
    struct fdm_pickle *out;
    const char *label;
    const unsigned char *bytes;
    size_t size, at, op_at;
    struct fdm_pickle_node stack, memo; /* only items, count, capacity */
    size_t marks[FDM_PICKLE_MAX_MARKS], mark_count;
    fdm_error *err;
};

void fdm_pickle_complain(const struct fdm_pickle_machine *m, const char *format, ...) FDM_PRINTF(2, 3);
/* FDM_BAD_INPUT with a message.  A macro, so that compilers and analysers see that it never means success. */
#define fdm_pickle_bad(...) (fdm_pickle_complain(__VA_ARGS__), FDM_BAD_INPUT)

static inline bool fdm_pickle_has_node(const struct fdm_pickle_value *v) { return v->kind >= FDM_PICKLE_NAME; }
static inline bool fdm_pickle_is_text(const struct fdm_pickle_value *v) {
    return v->kind == FDM_PICKLE_TEXT || v->kind == FDM_PICKLE_BYTES;
}

/* ---- Memory, within the budget: pickle_machine.c ------------------------------------------------------------- */

/* Before a block of that size is allocated; and after one was freed. */
fdm_status fdm_pickle_charge(struct fdm_pickle_machine *m, size_t bytes);
void fdm_pickle_give_back(struct fdm_pickle_machine *m, size_t bytes);
/* Frees the items alone. */
void fdm_pickle_free_items(struct fdm_pickle_machine *m, struct fdm_pickle_node *n);
fdm_status fdm_pickle_no_memory(const struct fdm_pickle_machine *m);
/* Room for `count` items in all. */
fdm_status fdm_pickle_reserve(struct fdm_pickle_machine *m, struct fdm_pickle_node *n, size_t count);
fdm_status fdm_pickle_append(struct fdm_pickle_machine *m, struct fdm_pickle_node *n, struct fdm_pickle_value v);
/* An empty node of the pickle, with room for `capacity` items. */
fdm_status fdm_pickle_new_node(struct fdm_pickle_machine *m, struct fdm_pickle_node **out, size_t capacity);

/* ---- The stack and the file: pickle_machine.c ---------------------------------------------------------------- */

fdm_status fdm_pickle_push(struct fdm_pickle_machine *m, struct fdm_pickle_value v);
/* Values on the stack that lie above the last mark. */
size_t fdm_pickle_above_mark(const struct fdm_pickle_machine *m);
/* The n-th value from the top, from 1; the caller has looked that there is one. */
struct fdm_pickle_value *fdm_pickle_from_top(struct fdm_pickle_machine *m, size_t n);
/* The next n bytes of the file; false if there are fewer. */
bool fdm_pickle_take(struct fdm_pickle_machine *m, const unsigned char **p, uint64_t n);
/* A little-endian number of 1 to 8 bytes. */
bool fdm_pickle_take_number(struct fdm_pickle_machine *m, uint64_t *out, int bytes);
/* A container of the top n values, which it replaces. */
fdm_status fdm_pickle_collect(struct fdm_pickle_machine *m, enum fdm_pickle_kind kind, size_t n);
/* Moves the top n values into the container of that kind below them. */
fdm_status fdm_pickle_extend(struct fdm_pickle_machine *m, enum fdm_pickle_kind kind, size_t n);

/* ---- Operations on names and objects: pickle_calls.c --------------------------------------------------------- */

/* STACK_GLOBAL: replaces module and name on the stack by the NAME, if that is one that such a pickle may hold. */
fdm_status fdm_pickle_make_name(struct fdm_pickle_machine *m);
/* GLOBAL: two lines. */
fdm_status fdm_pickle_push_name(struct fdm_pickle_machine *m);
/* REDUCE: a call becomes the plain data that it stands for, or a CALL. */
fdm_status fdm_pickle_reduce(struct fdm_pickle_machine *m);
/* NEWOBJ: class and arguments become a record. */
fdm_status fdm_pickle_new_object(struct fdm_pickle_machine *m);
/* BUILD: the state of a call or an object; a dict's own attributes (a state_dict's _metadata) are left out. */
fdm_status fdm_pickle_build(struct fdm_pickle_machine *m);
/* BINPERSID */
fdm_status fdm_pickle_persistent(struct fdm_pickle_machine *m);

#endif
