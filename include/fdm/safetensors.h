/* safetensors.h - reading and writing .safetensors files.
 *
 * Layout: u64 little-endian header length; a JSON object {"name": {"dtype", "shape", "data_offsets": [begin, end]},
 * ..., "__metadata__": {"key": "value"}}; the data, in which the tensors lie without gaps or overlaps.
 *
 * The reader takes every file for hostile: whatever is not exactly this is refused with one line that names the
 * file, the tensor and the byte.  What the element bytes mean (NaN, a BOOL of 2) is the caller's business.
 *
 *     fdm_tensors set = {0};
 *     fdm_error err;
 *     if (fdm_safetensors_read(&set, "model.safetensors", &err)) fprintf(stderr, "%s\n", err.message);
 *     fdm_tensors_free(&set);
 */
#ifndef FDM_SAFETENSORS_H
#define FDM_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads a file into an empty (all zero) set, tensors in the order of their data.  The file is mapped, not copied:
 * tensor data is READ-ONLY (owns_data false) and lives until fdm_tensors_free; a tensor that the file leaves
 * misaligned for its type is copied into memory of its own.  The mapping is private to this process but shows the
 * file: do not let others shorten or overwrite the file in place meanwhile (lost pages raise SIGBUS).
 * Errors, after which the set is empty: FDM_BAD_INPUT (missing or malformed), FDM_NO_RESOURCE (out of memory). */
FDM_API fdm_status fdm_safetensors_read(fdm_tensors *set, const char *path, fdm_error *err);

/* The same for a file in memory, which must outlive the set: tensors point into it.  `label` names it in messages.
 */
FDM_API fdm_status fdm_safetensors_parse(fdm_tensors *set, const void *bytes, size_t size, const char *label,
                                         fdm_error *err);

/* Writes a set: tensors in the order of the set, metadata kept, header padded with spaces so that the data starts
 * at a multiple of 8.  The file appears whole or not at all.  Same set, same bytes.
 * Errors: FDM_BAD_USAGE (duplicate or non-UTF-8 name, shape and nbytes disagree), FDM_NO_RESOURCE (not writable,
 * disk full, out of memory); an old file of that name is then untouched. */
FDM_API fdm_status fdm_safetensors_write(const fdm_tensors *set, const char *path, fdm_error *err);

/* Writing what does not fit into memory at once: declare every tensor, begin, put the data in any order and in
 * any pieces, commit.  Each function but new and discard may fail as fdm_safetensors_write does; then discard. */
typedef struct fdm_safetensors_writer fdm_safetensors_writer;

/* A writer in *out, owned by the caller until commit or discard. */
FDM_API fdm_status fdm_safetensors_writer_new(fdm_safetensors_writer **out, const char *path, fdm_error *err);
FDM_API fdm_status fdm_safetensors_writer_meta(fdm_safetensors_writer *w, const char *key, const char *value,
                                               fdm_error *err);
FDM_API fdm_status fdm_safetensors_writer_declare(fdm_safetensors_writer *w, const char *name, fdm_dtype dtype,
                                                  int ndim, const int64_t *shape, fdm_error *err);
/* Writes the header; nothing can be declared afterwards.  Claims the disk space, so a full disk shows here. */
FDM_API fdm_status fdm_safetensors_writer_begin(fdm_safetensors_writer *w, fdm_error *err);
/* Bytes [offset, offset + nbytes) of a declared tensor.  Pieces must not overlap. */
FDM_API fdm_status fdm_safetensors_writer_put(fdm_safetensors_writer *w, const char *name, size_t offset,
                                              const void *data, size_t nbytes, fdm_error *err);
/* Puts the file in place and frees the writer (*w becomes NULL), also on failure.  Every declared tensor must have
 * received all its bytes: FDM_BAD_USAGE names the first that has not. */
FDM_API fdm_status fdm_safetensors_writer_commit(fdm_safetensors_writer **w, fdm_error *err);
/* Drops the output and frees the writer; NULL is fine. */
FDM_API void fdm_safetensors_writer_discard(fdm_safetensors_writer **w);

#ifdef __cplusplus
}
#endif
#endif
