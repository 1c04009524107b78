/* npz_read.h - an .npz archive array by array; internal.  fdm/npz.h reads all of it. */
#ifndef FDM_IO_NPZ_READ_H
#define FDM_IO_NPZ_READ_H

#include "fdm/tensor.h"
#include "io/zip_read.h"

/* Into an empty set: the names, dtypes and shapes of all arrays, in the order of the members; their data is NULL.
 * Errors, after which the set is empty: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_npz_describe(fdm_tensors *set, const struct fdm_zip *zip, fdm_error *err);

/* The data of member `index`, as described in *t, which owns it from now on (also after an error). */
fdm_status fdm_npz_unpack(fdm_tensor *t, const struct fdm_zip *zip, size_t index, fdm_error *err);

#endif
