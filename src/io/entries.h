/* entries.h - the image files of a zip archive or a folder, in the order of their names; internal. */
#ifndef FDM_IO_ENTRIES_H
#define FDM_IO_ENTRIES_H

#include "base/base.h"
#include "io/io.h"
#include "io/zip_read.h"

struct fdm_entry {
    char *name;    /* "00000/img00000000.png", relative and without "..", valid UTF-8 */
    size_t member; /* of the archive */
};

struct fdm_entries {
    char *label; /* for messages: the path's end */
    char *root;  /* the folder's path; NULL: an archive */
    struct fdm_entry *items;
    size_t count, capacity;
    struct fdm_entry json; /* dataset.json; name NULL: none */
    struct fdm_file_map map;
    struct fdm_zip zip;
};

/* Finds the images and dataset.json.  Not moved while open: the archive points into itself.
 * Errors, after which there is nothing to close: FDM_BAD_INPUT (also: no image at all), FDM_NO_RESOURCE. */
fdm_status fdm_entries_open(struct fdm_entries *e, const char *path, fdm_error *err);
/* An archive in memory, borrowed. */
fdm_status fdm_entries_parse(struct fdm_entries *e, const void *bytes, size_t size, const char *label,
                             fdm_error *err);
void fdm_entries_close(struct fdm_entries *e);

/* The bytes of one entry. */
struct fdm_blob {
    const unsigned char *bytes;
    size_t size;
    void *owned;
    struct fdm_file_map map;
};
/* Errors, after which there is nothing to free: FDM_BAD_INPUT (damaged, too large), FDM_NO_RESOURCE.  With
 * `checked` false a stored member's checksum is not computed, for a look at its first bytes. */
fdm_status fdm_entries_read(struct fdm_blob *blob, const struct fdm_entries *e, const struct fdm_entry *entry,
                            bool checked, fdm_error *err);
void fdm_blob_free(struct fdm_blob *blob);

enum { FDM_ENTRY_LABEL = 512 };
/* `toy.zip: entry "a.png"`, for the start of a message. */
const char *fdm_entry_label(char out[FDM_ENTRY_LABEL], const struct fdm_entries *e, const struct fdm_entry *entry);
/* The position of an image's name, or SIZE_MAX. */
size_t fdm_entries_find(const struct fdm_entries *e, const char *name);
/* Whether a name stays inside: not absolute, no empty, "." or ".." part, no backslash. */
bool fdm_entry_name_ok(const char *name);

#endif
