/* pickle.h - the data in a Python pickle, protocols 2 to 5; internal.
 *
 * Nothing is executed and nothing looked up.  A call of one of the constructors below becomes what it stands for or a
 * node that says so; an instance of a class becomes a node of its class, arguments and state, if the class belongs to
 * one of the packages whose objects such files hold.  Any other name ends the reading with an error that says it.
 *
 * All pickles of a file of n bytes together take at most n + FDM_PICKLE_FREE_BYTES bytes of memory (a struct fdm_memory).
 * They are nested at most FDM_PICKLE_MAX_DEPTH deep, and share what they name twice: reading takes time in proportion to n.
 * Whoever walks the result must limit the walk, because shared and cyclic nodes make it as long as they like.
 */
#ifndef FDM_IO_PICKLE_H
#define FDM_IO_PICKLE_H

#include "base/base.h"

/* What a pickle may call.  X(enumerator, module, name), modules as Python 3 and NumPy 1 call them. */
#define FDM_PICKLE_CONSTRUCTORS(X)                                            \
    X(ORDERED_DICT, "collections", "OrderedDict")                             \
    X(EASY_DICT, "dnnlib.util", "EasyDict")                                   \
    X(BUILTIN_SET, "builtins", "set")                                         \
    X(BUILTIN_FROZENSET, "builtins", "frozenset")                             \
    X(BUILTIN_BYTES, "builtins", "bytes")                                     \
    X(BUILTIN_BYTEARRAY, "builtins", "bytearray")                             \
    X(ENCODE, "_codecs", "encode")                                            \
    X(PERSISTENCE, "torch_utils.persistence", "_reconstruct_persistent_obj")  \
    X(TENSOR, "torch._utils", "_rebuild_tensor")                              \
    X(TENSOR_V2, "torch._utils", "_rebuild_tensor_v2")                        \
    X(TENSOR_V3, "torch._utils", "_rebuild_tensor_v3")                        \
    X(PARAMETER, "torch._utils", "_rebuild_parameter")                        \
    X(PARAMETER_STATE, "torch._utils", "_rebuild_parameter_with_state")       \
    X(STORAGE_BYTES, "torch.storage", "_load_from_bytes")                     \
    X(SIZE, "torch", "Size")                                                  \
    X(DEVICE, "torch", "device")                                              \
    X(NUMPY_ARRAY, "numpy.core.multiarray", "_reconstruct")                   \
    X(NUMPY_BUFFER, "numpy.core.numeric", "_frombuffer")                      \
    X(NUMPY_SCALAR, "numpy.core.multiarray", "scalar")                        \
    X(NUMPY_DTYPE, "numpy", "dtype")

enum fdm_pickle_constructor {
    FDM_PICKLE_INERT, /* a name that may be stored, and whose instances are records, but that is not called */
#define FDM_PICKLE_ENUM(e, module, name) FDM_PICKLE_##e,
    FDM_PICKLE_CONSTRUCTORS(FDM_PICKLE_ENUM)
#undef FDM_PICKLE_ENUM
};

enum fdm_pickle_kind {
    FDM_PICKLE_NONE,
    FDM_PICKLE_BOOL,      /* number: 0 or 1 */
    FDM_PICKLE_INT,       /* number */
    FDM_PICKLE_LONG,      /* bytes: an integer of more than 64 bits, two's complement, little-endian */
    FDM_PICKLE_FLOAT,     /* real */
    FDM_PICKLE_TEXT,      /* bytes: UTF-8, not checked */
    FDM_PICKLE_BYTES,     /* bytes: also Python 2's strings */
    FDM_PICKLE_NAME,      /* node: module, name (TEXT or BYTES); constructor */
    FDM_PICKLE_TUPLE,     /* node */
    FDM_PICKLE_LIST,      /* node */
    FDM_PICKLE_SET,       /* node */
    FDM_PICKLE_DICT,      /* node: key, value, key, value, ...; ordered and easy dicts, too */
    FDM_PICKLE_CALL,      /* node: name, arguments (TUPLE), state; constructor */
    FDM_PICKLE_OBJECT,    /* node: class (NAME), arguments (TUPLE), state, contents (a LIST or DICT, or NONE) */
    FDM_PICKLE_PERSISTENT /* node: the id, which whoever wrote the pickle gave a meaning */
};
/* Where the parts of CALL and OBJECT are. */
enum { FDM_PICKLE_CALLED, FDM_PICKLE_ARGUMENTS, FDM_PICKLE_STATE, FDM_PICKLE_CONTENTS };

struct fdm_pickle_node;
struct fdm_pickle_value {
    enum fdm_pickle_kind kind;
    enum fdm_pickle_constructor constructor;
    union {
        int64_t number;
        double real;
        const unsigned char *bytes; /* in the file, or decoded and owned by the pickle */
        struct fdm_pickle_node *node;
    };
    size_t size; /* of bytes */
};
struct fdm_pickle_node {
    struct fdm_pickle_value *items;
    size_t count, capacity;
    unsigned depth;               /* 1 + the depth of the deepest item, at the time it was added */
    struct fdm_pickle_node *next; /* of all nodes, for freeing */
};

/* What may still be allocated for a file. */
struct fdm_memory {
    size_t left;
};
#define FDM_PICKLE_FREE_BYTES ((size_t)16 << 20)
static inline struct fdm_memory fdm_memory_of_file(size_t bytes) {
    return (struct fdm_memory){fdm_add_saturated(bytes, FDM_PICKLE_FREE_BYTES)};
}
/* What a block takes: malloc keeps up to 16 bytes beside it. */
static inline size_t fdm_memory_of_block(size_t bytes) { return fdm_add_saturated(bytes, 16); }
/* False if it is more than is left. */
static inline bool fdm_memory_take(struct fdm_memory *m, size_t bytes) {
    if (bytes > m->left) return false;
    m->left -= bytes;
    return true;
}

struct fdm_pickle_block;
struct fdm_pickle {
    struct fdm_pickle_value top;
    int protocol;
    size_t bytes;               /* from the start to its STOP: what follows is not its own */
    struct fdm_pickle_node ids; /* all PERSISTENT values, in their order */
    struct fdm_pickle_node *nodes;
    struct fdm_pickle_block *blocks; /* of decoded bytes */
    struct fdm_memory *memory;       /* where it was taken from */
    size_t taken;
};

enum { FDM_PICKLE_MAX_DEPTH = 256 };

/* The bytes and `memory`, to which fdm_pickle_free returns what was taken, must outlive the result.  Nodes may contain themselves: do not recurse without a limit.
 * Errors, after which there is nothing to free: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_pickle_parse(struct fdm_pickle *pickle, const void *bytes, size_t size, struct fdm_memory *memory,
                            const char *label, fdm_error *err);
void fdm_pickle_free(struct fdm_pickle *pickle);

/* The value of a dict's text key, the last one as in Python; NULL if there is none or `dict` is no dict (or NULL). */
const struct fdm_pickle_value *fdm_pickle_get(const struct fdm_pickle_value *dict, const char *key);
/* Whether v is this text (or these bytes). */
bool fdm_pickle_is(const struct fdm_pickle_value *v, const char *text);
/* Item i of a tuple or list; NULL if v is neither (or NULL) or has fewer. */
const struct fdm_pickle_value *fdm_pickle_item(const struct fdm_pickle_value *v, size_t i);
/* Argument i of a CALL of that constructor; NULL if v is none (or NULL) or has fewer. */
const struct fdm_pickle_value *fdm_pickle_argument(const struct fdm_pickle_value *v,
                                                   enum fdm_pickle_constructor constructor, size_t i);
bool fdm_pickle_is_call(const struct fdm_pickle_value *v, enum fdm_pickle_constructor constructor);
/* Whether v is this name. */
bool fdm_pickle_is_name(const struct fdm_pickle_value *v, const char *module, const char *name);
/* A copy of text or bytes for free(); NULL if out of memory. */
char *fdm_pickle_string(const struct fdm_pickle_value *v);

#endif
