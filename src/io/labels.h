/* labels.h - dataset.json: a class or a vector for every image; internal. */
#ifndef FDM_IO_LABELS_H
#define FDM_IO_LABELS_H

#include "base/base.h"
#include "io/entries.h"

struct fdm_labels {
    int dim;          /* classes or elements; 0: no labels */
    int32_t *classes; /* (count), or NULL */
    float *vectors;   /* (count, dim), or NULL */
};

/* The labels of the images of `e` from the text of dataset.json; all zeros if it says null.  Errors, after which
 * there is nothing to free: FDM_BAD_INPUT, with the byte or the entry; FDM_NO_RESOURCE. */
fdm_status fdm_labels_parse(struct fdm_labels *labels, const void *text, size_t size, const struct fdm_entries *e,
                            fdm_error *err);
/* From the set's own dataset.json; all zeros if it has none. */
fdm_status fdm_labels_read(struct fdm_labels *labels, const struct fdm_entries *e, fdm_error *err);
void fdm_labels_free(struct fdm_labels *labels);

#endif
