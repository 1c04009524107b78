/* torch_file.h - pickles and torch.save files as graphs of values, and the storages that their tensors lie in; internal.
 *
 * Three layouts, told apart by their first bytes:
 *     plain    one pickle; tensors carry their storages as nested legacy streams of bytes (published snapshots)
 *     legacy   pickles of a magic number, 1001, the system, the object and the storages' keys, then for each key
 *              the count (i64) and the elements, little-endian                      (torch.save before 1.6)
 *     zip      stored members TOP/data.pkl, TOP/data/KEY, perhaps TOP/byteorder     (torch.save since 1.6)
 * In the last two a storage is the persistent id ("storage", class, key, device, count).
 */
#ifndef FDM_IO_TORCH_FILE_H
#define FDM_IO_TORCH_FILE_H

#include "base/base.h"
#include "fdm/tensor.h"
#include "io/io.h"
#include "io/pickle.h"
#include "io/zip_read.h"

enum fdm_torch_layout { FDM_TORCH_PLAIN, FDM_TORCH_LEGACY, FDM_TORCH_ZIP };

/* The elements that tensors share. */
struct fdm_torch_storage {
    const unsigned char *key; /* in the file; not NUL-terminated */
    size_t key_bytes;
    const unsigned char *data; /* in the file, or in bytes that the pickle owns */
    size_t bytes;
    size_t element; /* bytes of one (legacy) */
    size_t member;  /* of the zip */
    bool checked;   /* its checksum has been compared */
};

struct fdm_torch_file {
    char *label; /* for messages */
    enum fdm_torch_layout layout;
    struct fdm_pickle pickle; /* pickle.top is the object */
    struct fdm_torch_storage *storages; /* sorted by key; none in a plain pickle */
    size_t storage_count;
    bool swapped; /* storages are big-endian */
    struct fdm_zip zip;
    struct fdm_file_map map;
    size_t size;         /* bytes of the file */
    struct fdm_memory own, *memory; /* what may still be allocated for it; a nested stream takes from the outer file's */
    size_t tables;       /* bytes taken for directory and storages */
    size_t reread;       /* bytes parsed or summed up for tensors' sake: a tensor may be referred to many times */
    size_t work;         /* see fdm_torch_spend */
};

/* Not moved while open.  Errors, after which there is nothing to close: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_torch_open(struct fdm_torch_file *f, const char *path, fdm_error *err);
/* A file in memory, which must outlive the result. */
fdm_status fdm_torch_parse(struct fdm_torch_file *f, const void *bytes, size_t size, const char *label, fdm_error *err);
void fdm_torch_close(struct fdm_torch_file *f);
/* Before something is allocated for its tensors.  Errors: FDM_BAD_INPUT (more than is left for a file of that size). */
fdm_status fdm_torch_charge(struct fdm_torch_file *f, size_t bytes, fdm_error *err);
/* "pickle, protocol 4", "zip of torch.save, protocol 2". */
void fdm_torch_describe(char out[64], const struct fdm_torch_file *f);

/* Whether these are the first bytes of one of the layouts. */
bool fdm_is_torch_file(const void *bytes, size_t size);

/* The elements of a storage value: a persistent id, or a call of torch.storage._load_from_bytes.  *dtype is what its
 * class says; FDM_DTYPE_COUNT for one that a tensor here cannot have.  Errors: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
struct fdm_torch_elements {
    const unsigned char *data;
    size_t bytes;
    fdm_dtype dtype;
    bool untyped; /* the tensor says what type it is */
    bool swapped;
};
fdm_status fdm_torch_elements(struct fdm_torch_elements *out, struct fdm_torch_file *f, const struct fdm_pickle_value *storage,
                              fdm_error *err);

#endif
