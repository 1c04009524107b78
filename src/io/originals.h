/* originals.h - CIFAR-10 and MNIST as their authors publish them; internal. */
#ifndef FDM_IO_ORIGINALS_H
#define FDM_IO_ORIGINALS_H

#include "base/base.h"

struct fdm_originals {
    const char *const *class_names; /* (10), static */
    int height, width, channels;
    size_t count;
    uint8_t *pixels;  /* (count, height, width, channels) */
    uint8_t *classes; /* (count), 0..9 */
};

/* Whether the path looks like one, by its name: *.tar.gz, *.tgz, *.bin, *images-idx3-ubyte*, or a folder that holds
 * data_batch_1 or data_batch_1.bin. */
bool fdm_originals_recognise(const char *path);

/* The training images, in their order:
 *   cifar-10-python.tar.gz, cifar-10-binary.tar.gz, or a folder with what they hold   data_batch_1 to data_batch_5
 *   data_batch_1.bin                                                                  that one
 *   train-images-idx3-ubyte, also .gz, with train-labels-idx1-ubyte beside it         MNIST and sets in its form;
 *                                              28 x 28 become 32 x 32 with a black border, if `border` is true
 * The pickles of the Python version are read as data; nothing of them is executed.
 * Errors, after which there is nothing to free: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_originals_read(struct fdm_originals *set, const char *path, bool border, fdm_error *err);
void fdm_originals_free(struct fdm_originals *set);

/* One CIFAR-10 batch as a pickle, and MNIST's two files unpacked, from memory: for fuzzing and tests.  They add to
 * *set (all zeros at first), which is to be freed whatever the result. */
fdm_status fdm_cifar_pickle_parse(struct fdm_originals *set, const void *bytes, size_t size, const char *label,
                                  fdm_error *err);
fdm_status fdm_mnist_parse(struct fdm_originals *set, const void *images, size_t image_bytes, const void *labels,
                           size_t label_bytes, bool border, const char *label, fdm_error *err);

#endif
