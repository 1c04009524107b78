/* torch_tensor.h - the tensors and arrays in a pickle, and their names; internal. */
#ifndef FDM_IO_TORCH_TENSOR_H
#define FDM_IO_TORCH_TENSOR_H

#include "io/text.h"
#include "io/torch_file.h"

/* Where the elements of a tensor lie: element (i, j, ...) at data + (i stride[0] + j stride[1] + ...) dtype size. */
struct fdm_torch_tensor {
    fdm_dtype dtype;
    bool swapped; /* big-endian */
    const unsigned char *data;
    int ndim;
    int64_t shape[FDM_MAX_NDIM], stride[FDM_MAX_NDIM];
    int64_t numel;
    size_t nbytes; /* of all elements, each once */
};

/* What v stands for: a tensor, a parameter, a NumPy array or scalar.  *found is false if it is none of them.  Every
 * element lies within its storage.  `name` is for messages.  Errors: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_torch_tensor(struct fdm_torch_tensor *out, bool *found, struct fdm_torch_file *f,
                            const struct fdm_pickle_value *v, const char *name, fdm_error *err);

/* F32 for the other floating-point types, else the type itself: what a model file holds. */
fdm_dtype fdm_torch_plain_dtype(fdm_dtype dtype);
/* Elements first .. first+count-1 in row-major order, in native byte order, as they are or (F16, BF16, F64) as F32, rounded
 * to nearest. */
void fdm_torch_copy(void *out, const struct fdm_torch_tensor *t, fdm_dtype to, int64_t first, int64_t count);
/* Whether the elements already lie so: row-major, native, aligned, of that type. */
bool fdm_torch_lies_plain(const struct fdm_torch_tensor *t, fdm_dtype to);

/* Tensors by name. */
struct fdm_torch_named {
    char *name;
    struct fdm_torch_tensor tensor;
    bool parameter; /* of a module, not a buffer */
};
struct fdm_torch_list {
    struct fdm_torch_named *items;
    size_t count, capacity;
    size_t bytes;   /* of all their elements as F32 or what they are */
    size_t visited; /* values looked at */
};
enum { FDM_TORCH_MAX_TENSORS = 20000 };

/* Appends the tensors below v: those of a module under their state_dict names (parameters, then buffers but for the
 * non-persistent ones, then sub-modules), those of dicts, lists and tuples under "key.key"; anything else is passed
 * over.  Names begin with `prefix`.  Errors: FDM_BAD_INPUT (more tensors, or more bytes of them, than such a file may
 * stand for); FDM_NO_RESOURCE. */
fdm_status fdm_torch_collect(struct fdm_torch_list *list, struct fdm_torch_file *f, const struct fdm_pickle_value *v,
                             const char *prefix, fdm_error *err);
/* The list must not outlive the file: what it takes is counted there. */
fdm_status fdm_torch_add(struct fdm_torch_list *list, struct fdm_torch_file *f, const char *name,
                         const struct fdm_torch_tensor *tensor, bool parameter, fdm_error *err);
/* Counts n more values that were looked at.  Errors: FDM_BAD_INPUT (more than such a file may stand for). */
fdm_status fdm_torch_count(struct fdm_torch_list *list, const struct fdm_torch_file *f, size_t n, fdm_error *err);
void fdm_torch_list_free(struct fdm_torch_list *list);

/* A value as JSON: numbers (NumPy's scalars, too), strings, lists, dicts; objects by their attributes but for those of
 * their constructor (_init_...); a tensor as "F32[3,4]"; infinities, NaN and anything else as null.  False if it would
 * be longer than `most` bytes, is nested more than 64 deep, holds a damaged tensor, or if the file's values have cost more
 * than fdm_torch_spend allows; out->failed as ever. */
bool fdm_torch_json(struct fdm_text *out, struct fdm_torch_file *f, const struct fdm_pickle_value *v, size_t most);

/* Counts work that makes no output of its own: entries looked at.  False once it is more for this file than the values of a
 * real one can cost: shared values would let a small file ask for hours of it. */
bool fdm_torch_spend(struct fdm_torch_file *f, size_t work);
/* Entries that looking for an object's attributes and class may look at. */
size_t fdm_torch_entries(const struct fdm_pickle_value *v);

/* The attributes of a module, or of any object with some: a dict; NULL if v is no object. */
const struct fdm_pickle_value *fdm_torch_attributes(const struct fdm_pickle_value *v);
/* The name of its class, without module (TEXT or BYTES); NULL if v is no object. */
const struct fdm_pickle_value *fdm_torch_class(const struct fdm_pickle_value *v);
bool fdm_torch_is_module(const struct fdm_pickle_value *v);

#endif
