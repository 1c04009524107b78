/* npy.h - the header of NumPy's array format; internal.
 *
 *     "\x93NUMPY" major minor | header length (u16; u32 from version 2 on) | Python dict literal | data
 */
#ifndef FDM_IO_NPY_H
#define FDM_IO_NPY_H

#include "base/base.h"
#include "fdm/tensor.h"
#include "io/text.h"

enum {
    FDM_NPY_PREFIX = 12,         /* bytes that fdm_npy_header_end wants; every .npy file has more */
    FDM_NPY_MAX_HEADER = 1 << 16 /* plenty for FDM_MAX_NDIM dimensions */
};

struct fdm_npy {
    fdm_dtype dtype;
    bool swapped, fortran; /* big-endian data; first index fastest */
    int ndim;
    int64_t shape[FDM_MAX_NDIM];
    size_t nbytes;
};

/* Where the data starts, from the first FDM_NPY_PREFIX bytes.  `label` and `name` (may be NULL) are for messages.
 */
fdm_status fdm_npy_header_end(size_t *end, const unsigned char *prefix, const char *label, const char *name,
                              fdm_error *err);
/* Understands the header, whose bytes [0, end) lie at `bytes`. */
fdm_status fdm_npy_parse_header(struct fdm_npy *out, const unsigned char *bytes, size_t end, const char *label,
                                const char *name, fdm_error *err);
/* Brings raw data just read into an owned tensor into native layout. */
fdm_status fdm_npy_to_native(fdm_tensor *t, const struct fdm_npy *npy, fdm_error *err);

/* Appends the header of version 1.0 for a tensor, padded so that the data starts at a multiple of 64.  False if
 * NumPy has no such type. */
bool fdm_npy_make_header(struct fdm_text *out, const fdm_tensor *t);

#endif
