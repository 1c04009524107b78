/* dataset.h - labelled images for training: a zip archive or a folder of PNG and JPEG files.
 *
 * The images are the files *.png, *.jpg, *.jpeg (in any case) of the archive or of the folder and its sub-folders,
 * in the byte order of their names.  They must be of one size, square, and gray (C = 1) or RGB (C = 3); 16-bit
 * samples lose their low byte, palettes are expanded; transparency is refused (`fdm dataset` puts such images on
 * white). A file dataset.json at the top may hold labels:
 *
 *     {"labels": [["00000/img00000000.png", 3], ...]}              a class each: one-hot, label_dim = largest + 1
 *     {"labels": [["00000/img00000000.png", [0.5, 0, 1]], ...]}    a vector each, all of one length
 *     {"labels": null}                                             none
 *
 * Every image needs one then; labels of files that are not there are ignored, as are other keys.  Hidden files and
 * the folder __MACOSX are left out, other files are ignored, but for images of other formats, which are an error.
 * Zip members may be stored or deflated; nothing is ever written or unpacked to a disk.  Symbolic links to files
 * are followed, links to folders are an error.
 *
 *     fdm_dataset *set = NULL;
 *     fdm_dataset_options options = {.use_labels = true, .xflip = true};
 *     fdm_status status = fdm_dataset_open(&set, "data/emoji32.zip", &options, &err);
 *     if (status == FDM_OK) status = fdm_dataset_image(set, 7, pixels, &err);
 *     fdm_dataset_free(&set);
 */
#ifndef FDM_DATASET_H
#define FDM_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    FDM_DATASET_MAX_RESOLUTION = 4096,  /* pixels each way */
    FDM_DATASET_MAX_LABEL_DIM = 1 << 16 /* classes, or elements of a label vector */
};

typedef struct fdm_dataset fdm_dataset;

typedef struct fdm_dataset_options {
    bool use_labels;    /* read dataset.json; else label_dim is 0 */
    bool xflip;         /* twice as many images: index n + i is image i mirrored left to right */
    size_t cache_bytes; /* decoded images to keep in memory; 0: 1 GiB; 1: none */
} fdm_dataset_options;

/* Reads names, labels and the header of every image (kind, size, channels), no pixels.  `options` may be NULL: all
 * zeros.  Errors, after which *out is NULL, one line with the file and the entry: FDM_BAD_INPUT, FDM_NO_RESOURCE.
 */
FDM_API fdm_status fdm_dataset_open(fdm_dataset **out, const char *path, const fdm_dataset_options *options,
                                    fdm_error *err);
/* The same from an archive in memory, which must stay there; `label` names it in messages. */
FDM_API fdm_status fdm_dataset_parse(fdm_dataset **out, const void *bytes, size_t size, const char *label,
                                     const fdm_dataset_options *options, fdm_error *err);
/* Frees it and sets the pointer to NULL. */
FDM_API void fdm_dataset_free(fdm_dataset **set);

/* Number of images, mirrored ones included; at least 1. */
FDM_API int64_t fdm_dataset_count(const fdm_dataset *set);
FDM_API int fdm_dataset_resolution(const fdm_dataset *set); /* R */
FDM_API int fdm_dataset_channels(const fdm_dataset *set);   /* C: 1 or 3 */
FDM_API int fdm_dataset_label_dim(const fdm_dataset *set);  /* 0 without labels */
/* The entry's name; NULL if there is no such index. */
FDM_API const char *fdm_dataset_name(const fdm_dataset *set, int64_t index);

/* CRC-32 of what was read when it was opened: of the images' names and sizes, in an archive of their own checksums, too; and of
 * the labels, 0 without any.  Sets whose checksums differ are not the same; a folder's images are not looked into. */
typedef struct fdm_dataset_checksums {
    uint32_t images, labels;
} fdm_dataset_checksums;
FDM_API fdm_dataset_checksums fdm_dataset_checksum(const fdm_dataset *set);

/* Pixels of one image, (C,R,R), 0..255.  May be called from several threads at once.
 * Errors: FDM_BAD_INPUT (the entry is damaged, or has changed since), FDM_NO_RESOURCE, FDM_BAD_USAGE (index). */
FDM_API fdm_status fdm_dataset_image(fdm_dataset *set, int64_t index, uint8_t *pixels, fdm_error *err);
/* Its label, (label_dim): a row of zeros and a one, or the vector.  Errors: FDM_BAD_USAGE (index). */
FDM_API fdm_status fdm_dataset_label(const fdm_dataset *set, int64_t index, float *label, fdm_error *err);

/* ---- Reading ahead ----------------------------------------------------------------------------------------- */

/* Hands out images in an order that the caller gives, while a thread of its own decodes the next ones.  What comes
 * out depends on the indices alone, never on timing.  One caller thread at a time. */
typedef struct fdm_loader fdm_loader;

/* The index that follows; called by fdm_loader_open and fdm_loader_next on the caller's own thread, `depth` images
 * ahead of what has been handed out. */
typedef int64_t (*fdm_next_index_fn)(void *user);

/* `depth`: how many images are decoded ahead (memory: depth * C * R * R bytes); 0: none, without a thread.  Asks
 * for the first `depth` indices.  The data set must outlive the loader. Errors, after which *out is NULL:
 * FDM_NO_RESOURCE, FDM_BAD_USAGE. */
FDM_API fdm_status fdm_loader_open(fdm_loader **out, fdm_dataset *set, fdm_next_index_fn next, void *user,
                                   int64_t depth, fdm_error *err);
/* The next n images: pixels (n,C,R,R), labels (n,label_dim) and their indices (n); labels and indices may be NULL.
 * Errors: those of fdm_dataset_image, for the image whose turn it was; every later call fails in the same way. */
FDM_API fdm_status fdm_loader_next(fdm_loader *loader, int64_t n, uint8_t *pixels, float *labels, int64_t *indices,
                                   fdm_error *err);
/* The indices that were asked for and not yet handed out, in order: always `depth` of them.  Together with the
 * state of whatever stands behind `next` they are the state of the order, for saving it. */
FDM_API void fdm_loader_pending(const fdm_loader *loader, int64_t *indices);
/* Stops the thread, at any time (waits for the image it is at), and sets the pointer to NULL. */
FDM_API void fdm_loader_close(fdm_loader **loader);

#ifdef __cplusplus
}
#endif
#endif
