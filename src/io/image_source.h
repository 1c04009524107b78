/* image_source.h - images of any size with labels, from wherever they come: what `fdm dataset` reads; internal. */
#ifndef FDM_IO_IMAGE_SOURCE_H
#define FDM_IO_IMAGE_SOURCE_H

#include "fdm/png.h"
#include "io/entries.h"
#include "io/labels.h"
#include "io/originals.h"

struct fdm_image_source {
    size_t count;
    struct fdm_labels labels; /* classes or vectors, or neither */
    const char **class_names; /* (class_count), or NULL; the strings belong to the source */
    size_t class_count;
    struct fdm_entries entries;     /* of an archive or folder */
    struct fdm_originals originals; /* else */
    bool original;
    char **folders; /* what class_names points to, if they are folders' names */
};

/* An original of CIFAR-10 or MNIST (originals.h), else an archive or a folder of images (entries.h).  Without a
 * dataset.json the sub-folders of the first level are the classes, in the order of their names, if there are at
 * least two and every image lies in one.  `border`: 28x28 originals get a border (originals.h). Errors, after which
 * there is nothing to close: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_image_source_open(struct fdm_image_source *s, const char *path, bool border, fdm_error *err);
/* Image i, of any size and number of channels; free with fdm_image_free.  `label` names it for messages. */
fdm_status fdm_image_source_read(fdm_image *out, char label[FDM_ENTRY_LABEL], const struct fdm_image_source *s,
                                 size_t i, fdm_error *err);
void fdm_image_source_close(struct fdm_image_source *s);

#endif
