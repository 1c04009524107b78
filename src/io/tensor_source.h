/* tensor_source.h - a tensor file one tensor at a time, so that memory is bounded by the largest; internal.
 *
 *     struct fdm_tensor_source source;
 *     fdm_status status = fdm_tensor_source_open(&source, "dump.npz", &err);
 *     for (size_t i = 0; i < source.table.count && !status; i++) {
 *         fdm_tensor t;
 *         status = fdm_tensor_source_load(&t, &source, i, &err);
 *         if (!status) use(&t);
 *         fdm_tensor_source_unload(&t, &source);
 *     }
 *     fdm_tensor_source_close(&source);
 */
#ifndef FDM_IO_TENSOR_SOURCE_H
#define FDM_IO_TENSOR_SOURCE_H

#include "fdm/tensor.h"
#include "io/io.h"
#include "io/zip_read.h"

struct fdm_tensor_source {
    /* Names, dtypes, shapes, metadata in the order of the file; look at data only through load. */
    fdm_tensors table;
    bool borrowed; /* the table is another's */
    bool archive;  /* .npz: zip and map are open */
    struct fdm_zip zip;
    struct fdm_file_map map;
};

/* Not moved while open (an archive points into itself).  Errors, after which there is nothing to close: as
 * fdm_tensorfile_read, though a damaged member of an archive may show only when it is loaded. */
fdm_status fdm_tensor_source_open(struct fdm_tensor_source *s, const char *path, fdm_error *err);
/* The same interface for a set in memory, which must outlive it. */
void fdm_tensor_source_borrow(struct fdm_tensor_source *s, const fdm_tensors *set);
/* Closes one that is open, or all zeros. */
void fdm_tensor_source_close(struct fdm_tensor_source *s);

/* *t = a view of tensor `index`: READ-ONLY data, name owned by the source.  Valid until unload, which must come before
 * close.  After an error *t is all zeros.  Errors: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_tensor_source_load(fdm_tensor *t, const struct fdm_tensor_source *s, size_t index, fdm_error *err);
/* Gives the memory back, that of a mapped file too, and zeroes *t; a zeroed one is fine. */
void fdm_tensor_source_unload(fdm_tensor *t, const struct fdm_tensor_source *s);

#endif
