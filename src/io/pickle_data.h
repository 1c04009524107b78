/* pickle_data.h - the data in a Python pickle, for the batches of CIFAR-10; internal.
 *
 * Nothing is executed and nothing looked up: a call or an object of a class becomes a node that says so.  Only the
 * operations of protocols 2 to 5 that such data needs are known; any other ends the reading with an error.
 */
#ifndef FDM_IO_PICKLE_DATA_H
#define FDM_IO_PICKLE_DATA_H

#include "base/base.h"

enum fdm_pickle_kind {
    FDM_PICKLE_NONE,
    FDM_PICKLE_INT,   /* number; booleans, too */
    FDM_PICKLE_TEXT,  /* bytes, in the file: strings of any sort */
    FDM_PICKLE_NAME,  /* bytes: "module\nname" or just the name */
    FDM_PICKLE_TUPLE, /* node */
    FDM_PICKLE_LIST,  /* node */
    FDM_PICKLE_DICT,  /* node: key, value, key, value, ... */
    FDM_PICKLE_CALL   /* node: what would be called, its arguments (a tuple), the state if there is one */
};

struct fdm_pickle_node;
struct fdm_pickle_value {
    enum fdm_pickle_kind kind;
    int64_t number;
    const unsigned char *bytes;
    size_t size;
    struct fdm_pickle_node *node;
};
struct fdm_pickle_node {
    struct fdm_pickle_value *items;
    size_t count, capacity;
    struct fdm_pickle_node *next; /* of all nodes, for freeing */
};
struct fdm_pickle {
    struct fdm_pickle_value top;
    struct fdm_pickle_node *nodes;
};

/* The bytes must outlive the result.  Nodes may contain themselves: do not recurse without a limit.
 * Errors, after which there is nothing to free: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_pickle_parse(struct fdm_pickle *pickle, const void *bytes, size_t size, const char *label,
                            fdm_error *err);
void fdm_pickle_free(struct fdm_pickle *pickle);

/* The value of a dict's text key; NULL if there is none or `dict` is no dict. */
const struct fdm_pickle_value *fdm_pickle_get(const struct fdm_pickle_value *dict, const char *key);

#endif
