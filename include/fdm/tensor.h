/* tensor.h - named tensors in memory: what a .safetensors or .npz file holds.
 *
 * A tensor is a dense, row-major, little-endian array with a name.  A set keeps its tensors in insertion
 * order, their names unique, plus string metadata (safetensors' __metadata__).
 */
#ifndef FDM_TENSOR_H
#define FDM_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator, safetensors name, numpy descr (little-endian), bytes per element) */
#define FDM_DTYPES(X)           \
    X(FDM_F32, "F32", "<f4", 4) \
    X(FDM_F64, "F64", "<f8", 8) \
    X(FDM_F16, "F16", "<f2", 2) \
    X(FDM_BF16, "BF16", "", 2)  \
    X(FDM_I64, "I64", "<i8", 8) \
    X(FDM_I32, "I32", "<i4", 4) \
    X(FDM_I16, "I16", "<i2", 2) \
    X(FDM_I8, "I8", "|i1", 1)   \
    X(FDM_U64, "U64", "<u8", 8) \
    X(FDM_U32, "U32", "<u4", 4) \
    X(FDM_U16, "U16", "<u2", 2) \
    X(FDM_U8, "U8", "|u1", 1)   \
    X(FDM_BOOL, "BOOL", "|b1", 1)

typedef enum fdm_dtype {
#define FDM_DTYPE_ENUM(e, st, np, size) e,
    FDM_DTYPES(FDM_DTYPE_ENUM)
#undef FDM_DTYPE_ENUM
        FDM_DTYPE_COUNT
} fdm_dtype;

enum { FDM_MAX_NDIM = 8 };

typedef struct fdm_tensor {
    char *name;                  /* owned by the set */
    fdm_dtype dtype;
    int ndim;                    /* 0..FDM_MAX_NDIM; 0 is a scalar with one element */
    int64_t shape[FDM_MAX_NDIM]; /* each >= 0 */
    size_t nbytes;               /* product of shape times element size */
    void *data;                  /* nbytes bytes, aligned for the element type */
    bool owns_data;              /* freed with the set; false: points into the set's file mapping or is borrowed */
} fdm_tensor;

typedef struct fdm_tensors {
    fdm_tensor *items;
    size_t count, capacity;
    char **meta_keys, **meta_values; /* string metadata, owned */
    size_t meta_count, meta_capacity;
    void *mapping; /* a memory-mapped file that tensors may point into, or NULL */
    size_t mapping_bytes;
} fdm_tensors;

/* Bytes per element (4 for FDM_F32, ...), 0 for an unknown dtype. */
FDM_API size_t fdm_dtype_size(fdm_dtype dtype);
/* safetensors' name of a dtype: "F32", ...; "?" if unknown. */
FDM_API const char *fdm_dtype_name(fdm_dtype dtype);

/* An empty set is all zeros: fdm_tensors set = {0}.  Frees everything it owns (the mapping too) and zeroes it. */
FDM_API void fdm_tensors_free(fdm_tensors *set);

/* The tensor of that name, or NULL. */
FDM_API fdm_tensor *fdm_tensors_find(const fdm_tensors *set, const char *name);

/* Metadata value of that key, or NULL. */
FDM_API const char *fdm_tensors_meta(const fdm_tensors *set, const char *key);
/* Sets or replaces it; key and value are copied.  Errors: FDM_BAD_USAGE for NULL; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_tensors_set_meta(fdm_tensors *set, const char *key, const char *value, fdm_error *err);

/* Appends a tensor with its own zeroed storage and returns it in *out (valid until the next append).
 * Errors: FDM_BAD_USAGE for a duplicate name, a bad shape or size overflow; FDM_NO_RESOURCE out of memory. */
FDM_API fdm_status fdm_tensors_add(fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim,
                                   const int64_t *shape, fdm_tensor **out, fdm_error *err);
/* The same with the caller's data, which must outlive the set; nothing is copied. */
FDM_API fdm_status fdm_tensors_add_borrowed(fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim,
                                            const int64_t *shape, void *data, fdm_tensor **out, fdm_error *err);

/* Number of elements (the product of the shape; 1 for a scalar). */
FDM_API int64_t fdm_tensor_numel(const fdm_tensor *t);
/* Element i (row-major) as a double; every dtype is converted exactly but 64-bit integers above 2^53. */
FDM_API double fdm_tensor_get(const fdm_tensor *t, int64_t i);

#ifdef __cplusplus
}
#endif
#endif
