/* fuzz_dataset.c - the containers that data sets come in, on arbitrary bytes (libFuzzer entry; see fuzz.mk).  How the
 * input begins says what it is: an archive of images, a CIFAR-10 batch, a gzip file with a tar archive, or MNIST
 * images.  What is in them has fuzzers of its own: png, jpeg, labels. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/dataset.h"
#include "io/archive.h"
#include "io/originals.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(fdm_status status, const fdm_error *err) {
    if (status && (!err->message[0] || strpbrk(err->message, "\n\r") || err->status != status)) abort();
}

static volatile unsigned fuzz_dataset_sum;

static void use(const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) fuzz_dataset_sum = fuzz_dataset_sum + p[i];
}

static void archive(const uint8_t *data, size_t size) {
    const fdm_dataset_options options = {.use_labels = true, .xflip = size % 2};
    fdm_dataset *set;
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_dataset_parse(&set, data, size, "fuzz", &options, &err);
    check(status, &err);
    if (status) {
        if (set) abort();
        return;
    }
    const size_t r = (size_t)fdm_dataset_resolution(set), c = (size_t)fdm_dataset_channels(set),
                 dim = (size_t)fdm_dataset_label_dim(set);
    uint8_t *pixels = malloc(r * r * c);
    float *label = malloc((dim + 1) * sizeof *label);
    for (int64_t i = 0; i < fdm_dataset_count(set) && i < 16 && pixels && label; i++) {
        status = fdm_dataset_image(set, i, pixels, &err);
        check(status, &err);
        if (!status) use(pixels, r * r * c);
        if (fdm_dataset_label(set, i, label, &err)) abort();
        use(label, dim * sizeof *label);
    }
    free(pixels);
    free(label);
    fdm_dataset_free(&set);
}

static void originals(const uint8_t *data, size_t size) {
    struct fdm_originals set = {.count = 0};
    fdm_error err = {.status = FDM_OK};
    static const uint8_t two[] = {0, 0, 8, 1, 0, 0, 0, 2, 3, 9};
    if (data[0] == 0x80)
        check(fdm_cifar_pickle_parse(&set, data, size, "fuzz", &err), &err);
    else
        check(fdm_mnist_parse(&set, data, size, two, sizeof two, size % 2, "fuzz", &err), &err);
    use(set.pixels, set.count * (size_t)set.height * (size_t)set.width * (size_t)set.channels);
    fdm_originals_free(&set);
}

static void tarball(const uint8_t *data, size_t size) {
    unsigned char *tar;
    size_t bytes = 0, at = 0;
    struct fdm_tar_member member;
    bool found = true;
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_gunzip(&tar, &bytes, data, size, 1 << 22, "fuzz", &err);
    check(status, &err);
    while (!status && found) {
        status = fdm_tar_next(&member, &found, &at, tar, bytes, "fuzz", &err);
        check(status, &err);
        if (!status && found) use(member.data, member.size);
    }
    free(tar);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (data[0] == 0x80 || data[0] == 0)
        originals(data, size);
    else if (fdm_is_gzip(data, size))
        tarball(data, size);
    else
        archive(data, size);
    return 0;
}

#include "fuzz_stb.h"
