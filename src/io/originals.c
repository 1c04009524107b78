/* originals.c - CIFAR-10 and MNIST as their authors publish them. */
#include "io/originals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/archive.h"
#include "io/io.h"
#include "io/pickle.h"

enum {
    BATCHES = 5,
    CIFAR_SIDE = 32,
    CIFAR_BYTES = 3 * CIFAR_SIDE * CIFAR_SIDE,
    MNIST_SIDE = 28,
    MNIST_BORDER = 2,
    MAX_SIDE = 1024, /* of images in MNIST's form */
    CLASSES = 10
};
static const size_t max_unpacked = (size_t)1 << 29; /* CIFAR-10 has 186 MB */

static const char *const cifar_names[CLASSES] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                                 "dog",      "frog",       "horse", "ship", "truck"};
static const char *const digit_names[CLASSES] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

/* Room for n more images. */
static fdm_status grow(struct fdm_originals *set, size_t n, const char *label, fdm_error *err) {
    const size_t image = (size_t)set->height * (size_t)set->width * (size_t)set->channels;
    size_t count, bytes;
    if (!fdm_add_size(&count, set->count, n) || !fdm_mul_size(&bytes, count, image)) count = bytes = SIZE_MAX;
    uint8_t *pixels = bytes ? realloc(set->pixels, bytes) : NULL;
    if (pixels) set->pixels = pixels;
    uint8_t *classes = pixels ? realloc(set->classes, count) : NULL;
    if (!classes) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (%zu images)", label, count);
    set->classes = classes;
    return FDM_OK;
}

/* ---- CIFAR-10 ---------------------------------------------------------------------------------------------- */

static void add_cifar(struct fdm_originals *set, int class, const unsigned char *planes) {
    const size_t plane = CIFAR_SIDE * CIFAR_SIDE;
    uint8_t *out = set->pixels + set->count * CIFAR_BYTES;
    set->classes[set->count++] = (uint8_t) class;
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++) *out++ = planes[c * plane + i];
}

static fdm_status begin_cifar(struct fdm_originals *set, size_t n, const char *label, fdm_error *err) {
    set->class_names = cifar_names;
    set->height = set->width = CIFAR_SIDE;
    set->channels = 3;
    return grow(set, n, label, err);
}

/* Records of a class byte and three planes. */
static fdm_status add_binary(struct fdm_originals *set, const unsigned char *p, size_t size, const char *label,
                             fdm_error *err) {
    const size_t record = 1 + CIFAR_BYTES, n = size / record;
    if (n == 0 || size % record)
        return fdm_fail(err, FDM_BAD_INPUT,
                        "%s: %zu bytes are no whole number of CIFAR-10 records (%zu each); download it again",
                        label, size, record);
    fdm_status status = begin_cifar(set, n, label, err);
    for (size_t i = 0; i < n && !status; i++, p += record) {
        if (*p >= CLASSES)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: class %d of image %zu; CIFAR-10 has classes 0 to 9", label, *p,
                            i);
        add_cifar(set, *p, p + 1);
    }
    return status;
}

/* numpy's pickled array: _reconstruct(...) with the state (version, (n, 3072), dtype("u1"), False, bytes). */
static bool array_of_images(const struct fdm_pickle_value *v, size_t *count, const unsigned char **planes) {
    if (!fdm_pickle_is_call(v, FDM_PICKLE_NUMPY_ARRAY)) return false;
    const struct fdm_pickle_value *state = &v->node->items[FDM_PICKLE_STATE], *shape = fdm_pickle_item(state, 1),
                                  *fortran = fdm_pickle_item(state, 3), *data = fdm_pickle_item(state, 4),
                                  *rows = fdm_pickle_item(shape, 0), *columns = fdm_pickle_item(shape, 1);
    if (!data || !columns || fdm_pickle_item(shape, 2) || (fortran->kind != FDM_PICKLE_BOOL && fortran->kind != FDM_PICKLE_INT) ||
        fortran->number || data->kind != FDM_PICKLE_BYTES)
        return false;
    if (!fdm_pickle_is(fdm_pickle_argument(fdm_pickle_item(state, 2), FDM_PICKLE_NUMPY_DTYPE, 0), "u1")) return false;
    if (rows->kind != FDM_PICKLE_INT || columns->kind != FDM_PICKLE_INT || columns->number != CIFAR_BYTES ||
        rows->number < 1 || data->size / CIFAR_BYTES != (uint64_t)rows->number || data->size % CIFAR_BYTES)
        return false;
    *count = (size_t)rows->number;
    *planes = data->bytes;
    return true;
}

static fdm_status add_pickled(struct fdm_originals *set, const struct fdm_pickle *p, const char *label,
                              fdm_error *err) {
    const struct fdm_pickle_value *labels = fdm_pickle_get(&p->top, "labels");
    const unsigned char *planes;
    size_t n;
    if (!array_of_images(fdm_pickle_get(&p->top, "data"), &n, &planes))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: no \"data\" of bytes (N, 3072); not an original CIFAR-10 batch",
                        label);
    if (!labels || labels->kind != FDM_PICKLE_LIST || labels->node->count != n)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: no \"labels\" for its %zu images; not an original CIFAR-10 batch",
                        label, n);
    fdm_status status = begin_cifar(set, n, label, err);
    for (size_t i = 0; i < n && !status; i++, planes += CIFAR_BYTES) {
        const struct fdm_pickle_value *class = &labels->node->items[i];
        if (class->kind != FDM_PICKLE_INT || class->number < 0 || class->number >= CLASSES)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: label of image %zu; CIFAR-10 has classes 0 to 9", label, i);
        add_cifar(set, (int)class->number, planes);
    }
    return status;
}

fdm_status fdm_cifar_pickle_parse(struct fdm_originals *set, const void *bytes, size_t size, const char *label,
                                  fdm_error *err) {
    struct fdm_pickle pickle;
    struct fdm_memory memory = fdm_memory_of_file(size);
    fdm_status status = fdm_pickle_parse(&pickle, bytes, size, &memory, label, err);
    if (status) return status;
    status = add_pickled(set, &pickle, label, err);
    fdm_pickle_free(&pickle);
    return status;
}

/* "data_batch_3" or "data_batch_3.bin" -> 2, anything else -1. */
static int batch_of(const char *path, bool *binary) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (strncmp(name, "data_batch_", 11) != 0 || name[11] < '1' || name[11] > '0' + BATCHES) return -1;
    *binary = strcmp(name + 12, ".bin") == 0;
    return *binary || !name[12] ? name[11] - '1' : -1;
}

static fdm_status add_batch(struct fdm_originals *set, const unsigned char *p, size_t size, bool binary,
                            const char *label, fdm_error *err) {
    return binary ? add_binary(set, p, size, label, err) : fdm_cifar_pickle_parse(set, p, size, label, err);
}

static fdm_status read_tar(struct fdm_originals *set, const unsigned char *tar, size_t size, const char *label,
                           fdm_error *err) {
    struct fdm_tar_member batches[BATCHES] = {{.data = NULL}}, member;
    bool found = true, binary[BATCHES] = {false};
    fdm_status status = FDM_OK;
    for (size_t at = 0; !status && found;) {
        bool is_binary = false;
        status = fdm_tar_next(&member, &found, &at, tar, size, label, err);
        int b = !status && found ? batch_of(member.name, &is_binary) : -1;
        if (b < 0) continue;
        if (batches[b].data)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: two files data_batch_%d; download it again", label, b + 1);
        batches[b] = member;
        binary[b] = is_binary;
    }
    for (int b = 0; b < BATCHES && !status; b++) {
        char inner[400];
        if (!batches[b].data)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: no data_batch_%d in it; give the original CIFAR-10 archive",
                            label, b + 1);
        snprintf(inner, sizeof inner, "%.250s: %.100s", label, batches[b].name);
        status = add_batch(set, batches[b].data, batches[b].size, binary[b], inner, err);
    }
    return status;
}

/* ---- MNIST ------------------------------------------------------------------------------------------------- */

static uint32_t big_endian(const unsigned char *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

fdm_status fdm_mnist_parse(struct fdm_originals *set, const void *images, size_t image_bytes, const void *labels,
                           size_t label_bytes, bool border, const char *label, fdm_error *err) {
    const unsigned char *p = images, *l = labels;
    if (image_bytes < 16 || big_endian(p) != 0x803 || label_bytes < 8 || big_endian(l) != 0x801)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: no idx3 images with idx1 labels; download both files again",
                        label);
    const size_t n = big_endian(p + 4), h = big_endian(p + 8), w = big_endian(p + 12);
    if (n == 0 || h == 0 || w == 0 || h > MAX_SIDE || w > MAX_SIDE || (image_bytes - 16) / (h * w) != n ||
        (image_bytes - 16) % (h * w))
        return fdm_fail(err, FDM_BAD_INPUT,
                        "%s: %zu images of %zu x %zu pixels do not make %zu bytes; download it again", label, n, w,
                        h, image_bytes);
    if (big_endian(l + 4) != n || label_bytes - 8 != n)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: %zu images, but %zu labels; the two files do not belong together",
                        label, n, label_bytes - 8);
    const size_t around = border && h == MNIST_SIDE && w == MNIST_SIDE ? MNIST_BORDER : 0, width = w + 2 * around;
    set->class_names = digit_names;
    set->height = (int)(h + 2 * around);
    set->width = (int)width;
    set->channels = 1;
    fdm_status status = grow(set, n, label, err);
    if (status) return status;
    memset(set->pixels, 0, n * (size_t)set->height * width);
    for (size_t i = 0; i < n; i++) {
        if (l[8 + i] >= CLASSES)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: label %d of image %zu; 0 to 9 are expected", label, l[8 + i],
                            i);
        for (size_t y = 0; y < h; y++)
            memcpy(set->pixels + (i * (size_t)set->height + y + around) * width + around, p + 16 + (i * h + y) * w,
                   w);
        set->classes[set->count++] = l[8 + i];
    }
    return FDM_OK;
}

/* ---- Files ------------------------------------------------------------------------------------------------- */

static bool ends_in(const char *path, const char *end) {
    size_t n = strlen(path), k = strlen(end);
    return n >= k && strcmp(path + n - k, end) == 0;
}

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Whether folder/data_batch_<n> or, if `binary`, folder/data_batch_<n>.bin is there; its path in `out`. */
static bool batch_in_folder(char *out, size_t size, const char *folder, int n, bool binary) {
    struct stat st;
    int length = snprintf(out, size, "%s/data_batch_%d%s", folder, n, binary ? ".bin" : "");
    return length > 0 && (size_t)length < size && stat(out, &st) == 0 && S_ISREG(st.st_mode);
}

/* The images' part of MNIST's file name, which the labels' file name has another for; NULL if it has none. */
static const char *mnist_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return strstr(slash ? slash : path, "images-idx3");
}

bool fdm_originals_recognise(const char *path) {
    char batch[4096];
    if (is_folder(path))
        return batch_in_folder(batch, sizeof batch, path, 1, false) ||
               batch_in_folder(batch, sizeof batch, path, 1, true);
    return ends_in(path, ".tar.gz") || ends_in(path, ".tgz") || ends_in(path, ".bin") || mnist_part(path);
}

/* A file's bytes, unpacked if it is a gzip file. */
struct contents {
    struct fdm_file_map map;
    unsigned char *unpacked;
    const unsigned char *bytes;
    size_t size;
};

static fdm_status open_contents(struct contents *c, const char *path, fdm_error *err) {
    *c = (struct contents){.size = 0};
    fdm_status status = fdm_file_map_open(&c->map, path, err);
    if (status) return status;
    c->bytes = c->map.bytes;
    c->size = c->map.size;
    if (!fdm_is_gzip(c->bytes, c->size)) return FDM_OK;
    status = fdm_gunzip(&c->unpacked, &c->size, c->map.bytes, c->map.size, max_unpacked, fdm_path_tail(path), err);
    c->bytes = c->unpacked;
    if (status) fdm_file_map_close(&c->map);
    return status;
}

static void close_contents(struct contents *c) {
    free(c->unpacked);
    fdm_file_map_close(&c->map);
}

static fdm_status read_mnist(struct fdm_originals *set, const char *path, bool border, fdm_error *err) {
    static const char labels_part[] = "labels-idx1"; /* as long as "images-idx3" */
    struct contents images, labels;
    char *label_path = fdm_strdup(path);
    if (!label_path) return fdm_fail_oom(err, "file name", strlen(path));
    memcpy(label_path + (mnist_part(path) - path), labels_part, sizeof labels_part - 1);
    fdm_status status = open_contents(&images, path, err);
    if (!status) {
        status = open_contents(&labels, label_path, err);
        if (!status) {
            status = fdm_mnist_parse(set, images.bytes, images.size, labels.bytes, labels.size, border,
                                     fdm_path_tail(path), err);
            close_contents(&labels);
        }
        close_contents(&images);
    }
    free(label_path);
    return status;
}

static fdm_status read_file(struct fdm_originals *set, const char *path, bool tar, bool binary, fdm_error *err) {
    struct contents c;
    fdm_status status = open_contents(&c, path, err);
    if (status) return status;
    if (tar)
        status = read_tar(set, c.bytes, c.size, fdm_path_tail(path), err);
    else
        status = add_batch(set, c.bytes, c.size, binary, fdm_path_tail(path), err);
    close_contents(&c);
    return status;
}

static fdm_status read_folder(struct fdm_originals *set, const char *path, fdm_error *err) {
    char batch[4096];
    fdm_status status = FDM_OK;
    for (int n = 1; n <= BATCHES && !status; n++) {
        bool binary = batch_in_folder(batch, sizeof batch, path, n, true);
        if (!binary && !batch_in_folder(batch, sizeof batch, path, n, false))
            return fdm_fail(err, FDM_BAD_INPUT,
                            "%s: no data_batch_%d, which CIFAR-10 has; unpack the original again",
                            fdm_path_tail(path), n);
        status = read_file(set, batch, false, binary, err);
    }
    return status;
}

fdm_status fdm_originals_read(struct fdm_originals *set, const char *path, bool border, fdm_error *err) {
    fdm_status status;
    memset(set, 0, sizeof *set);
    if (is_folder(path))
        status = read_folder(set, path, err);
    else if (mnist_part(path))
        status = read_mnist(set, path, border, err);
    else
        status = read_file(set, path, !ends_in(path, ".bin"), true, err);
    if (status) fdm_originals_free(set);
    return status;
}

void fdm_originals_free(struct fdm_originals *set) {
    free(set->pixels);
    free(set->classes);
    memset(set, 0, sizeof *set);
}
