/* tensorfile.h - tensor files of any supported format, chosen by the file name's extension:
 * .safetensors (fdm/safetensors.h), .npz and .npy (fdm/npz.h).
 */
#ifndef FDM_TENSORFILE_H
#define FDM_TENSORFILE_H

#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads a file into an empty (all zero) set; free it with fdm_tensors_free.  Treat the data as READ-ONLY: it may be
 * the mapped file.  An .npy file gives one tensor, named after the file.
 * Errors, after which the set is empty: FDM_BAD_USAGE (no supported extension), FDM_BAD_INPUT, FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_tensorfile_read(fdm_tensors *set, const char *path, fdm_error *err);

/* Writes a set; the file appears whole or not at all.  .npy takes exactly one tensor; only .safetensors keeps
 * metadata and BF16.
 * Errors: FDM_BAD_USAGE (extension, or something that the format cannot hold), FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_tensorfile_write(const fdm_tensors *set, const char *path, fdm_error *err);

/* FDM_OK if `path` has a supported extension, else FDM_BAD_USAGE: lets a command refuse a bad --out before it
 * computes for an hour. */
FDM_API fdm_status fdm_tensorfile_check_name(const char *path, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
