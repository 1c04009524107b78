/* tensor_set.h - building a tensor set from inside the library (file readers); the public side is fdm/tensor.h. */
#ifndef FDM_BASE_TENSOR_SET_H
#define FDM_BASE_TENSOR_SET_H

#include "base/base.h"
#include "fdm/tensor.h"

/* Number of elements and bytes of a shape.  False if ndim is outside 0..FDM_MAX_NDIM, a dimension is negative,
 * or the product of the non-zero dimensions (so that no partial product can overflow either) times the element
 * size exceeds PTRDIFF_MAX. */
bool fdm_shape_bytes(int64_t *numel, size_t *nbytes, fdm_dtype dtype, int ndim, const int64_t *shape);

/* "[256,128,3,3]", for messages; cut off if `size` is too small. */
enum { FDM_SHAPE_TEXT = 192 }; /* holds any shape */
void fdm_shape_text(char *text, size_t size, int ndim, const int64_t *shape);

/* The indices of row-major element i of a shape without zeros; and as "[0,3,17]". */
void fdm_unravel(int64_t index[FDM_MAX_NDIM], int ndim, const int64_t *shape, int64_t i);
void fdm_index_text(char *text, size_t size, int ndim, const int64_t *shape, int64_t i);

/* The dtype of that safetensors name; FDM_DTYPE_COUNT if there is none. */
fdm_dtype fdm_dtype_from_name(const char *name);

/* As fdm_tensors_add, but without looking for a duplicate name: for readers that have ruled duplicates out in
 * one pass, because a linear search per tensor would be quadratic for a hostile file with a million names.
 * data NULL: fresh storage owned by the set, zeroed if `zero`; else `data` is stored and not owned. */
fdm_status fdm_tensors_append(fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim, const int64_t *shape,
                              void *data, bool zero, fdm_tensor **out, fdm_error *err);
/* The same for metadata. */
fdm_status fdm_tensors_append_meta(fdm_tensors *set, const char *key, const char *value, fdm_error *err);

#endif
