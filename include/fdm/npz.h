/* npz.h - reading and writing NumPy's .npy (one array) and .npz (a zip of .npy members).
 *
 * Read: format versions 1, 2 and 3; little- and big-endian; C and Fortran order (both are converted: a tensor in
 * memory is row-major and little-endian); stored and deflated members, zip64.  Refused with one line: structured,
 * string, complex and object arrays (nothing is ever unpickled), encrypted or otherwise compressed members,
 * duplicate names, checksum errors, members whose size is not what their header says.
 *
 * Against decompression bombs the members of a file may unpack to at most
 * FDM_NPZ_FREE_BYTES + FDM_NPZ_MAX_RATIO * (bytes of the file).
 */
#ifndef FDM_NPZ_H
#define FDM_NPZ_H

#include <stddef.h>

#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FDM_NPZ_FREE_BYTES ((size_t)1 << 30)
#define FDM_NPZ_MAX_RATIO 64

/* Reads an archive into an empty (all zero) set, in the order of the archive; names lose their ".npy".  Every
 * tensor owns its data.
 * Errors, after which the set is empty: FDM_BAD_INPUT (missing or malformed), FDM_NO_RESOURCE (out of memory). */
FDM_API fdm_status fdm_npz_read(fdm_tensors *set, const char *path, fdm_error *err);
/* The same for an archive in memory, which may go afterwards.  `label` names it in messages. */
FDM_API fdm_status fdm_npz_parse(fdm_tensors *set, const void *bytes, size_t size, const char *label,
                                 fdm_error *err);

/* Writes a set as stored (uncompressed) members with fixed timestamps: same set, same bytes.  Metadata has no
 * place in the format and is left out.  The file appears whole or not at all.
 * Errors: FDM_BAD_USAGE (a BF16 tensor, for which NumPy has no type; a bad or duplicate name), FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_npz_write(const fdm_tensors *set, const char *path, fdm_error *err);

/* One array; the tensor is named after the file without directories and ".npy".  Data in native layout is mapped,
 * READ-ONLY and not copied (see fdm_safetensors_read). */
FDM_API fdm_status fdm_npy_read(fdm_tensors *set, const char *path, fdm_error *err);
/* The same for a file in memory, which must outlive the set. */
FDM_API fdm_status fdm_npy_parse(fdm_tensors *set, const void *bytes, size_t size, const char *name,
                                 const char *label, fdm_error *err);
/* The file appears whole or not at all.  Errors: as fdm_npz_write. */
FDM_API fdm_status fdm_npy_write(const fdm_tensor *tensor, const char *path, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
