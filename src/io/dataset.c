/* dataset.c - images of one size with labels, decoded when asked for and kept. */
#include "fdm/dataset.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io/entries.h"
#include "io/image_file.h"
#include "io/labels.h"

static const size_t default_cache = (size_t)1 << 30;

struct fdm_dataset {
    struct fdm_entries entries;
    struct fdm_labels labels;
    int resolution, channels;
    uint32_t checksum; /* of the images */
    bool xflip;
    pthread_mutex_t lock; /* of the cache */
    bool have_lock;
    uint8_t **cache; /* (entries.count): (C,R,R) of each image, NULL: not decoded yet, or no room */
    size_t cache_left;
};

static size_t image_bytes(const fdm_dataset *set) {
    return (size_t)set->channels * (size_t)set->resolution * (size_t)set->resolution;
}

/* ---- Opening ----------------------------------------------------------------------------------------------- */

/* What the set makes of one image's header; the first one decides for all. */
static fdm_status check_info(fdm_dataset *set, const struct fdm_image_info *info, const char *label,
                             fdm_error *err) {
    const char *first = set->entries.items[0].name;
    if (info->channels % 2 == 0)
        return fdm_fail(err, FDM_BAD_INPUT,
                        "%s: has transparency; `fdm dataset` makes a set in which it lies on white", label);
    if (info->width != info->height)
        return fdm_fail(
            err, FDM_BAD_INPUT,
            "%s: %d x %d pixels, not a square; `fdm dataset --resolution RxR --transform center-crop` makes "
            "squares",
            label, info->width, info->height);
    if (info->width > FDM_DATASET_MAX_RESOLUTION)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: %d x %d pixels; at most %d each way are supported", label,
                        info->width, info->height, FDM_DATASET_MAX_RESOLUTION);
    if (!set->resolution) {
        set->resolution = info->width;
        set->channels = info->channels;
    }
    if (info->width != set->resolution)
        return fdm_fail(
            err, FDM_BAD_INPUT,
            "%s: %d x %d pixels, but \"%.200s\" has %d x %d; `fdm dataset --resolution RxR` makes them equal",
            label, info->width, info->height, first, set->resolution, set->resolution);
    if (info->channels != set->channels)
        return fdm_fail(err, FDM_BAD_INPUT,
                        "%s: %s, but \"%.200s\" is %s; `fdm dataset --channels %d` makes them equal", label,
                        info->channels == 1 ? "gray" : "coloured", first, set->channels == 1 ? "gray" : "coloured",
                        fdm_max_int(info->channels, set->channels));
    return FDM_OK;
}

/* An image of a folder has no checksum that could be had without reading all of it. */
static void add_to_checksum(fdm_dataset *set, const struct fdm_entry *entry, size_t size) {
    const struct fdm_entries *e = &set->entries;
    const uint64_t facts[] = {size, e->root ? 0 : e->zip.members[entry->member].crc};
    const uLong crc = crc32_z(set->checksum, (const Bytef *)entry->name, strlen(entry->name) + 1);
    set->checksum = (uint32_t)crc32_z(crc, (const Bytef *)facts, sizeof facts);
}

static fdm_status check_images(fdm_dataset *set, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < set->entries.count && !status; i++) {
        const struct fdm_entry *entry = &set->entries.items[i];
        char label[FDM_ENTRY_LABEL];
        struct fdm_image_info info;
        struct fdm_blob blob;
        status = fdm_entries_read(&blob, &set->entries, entry, false, err);
        if (status) break;
        fdm_entry_label(label, &set->entries, entry);
        status = fdm_image_probe(&info, blob.bytes, blob.size, label, err);
        if (!status) status = check_info(set, &info, label, err);
        add_to_checksum(set, entry, blob.size);
        fdm_blob_free(&blob);
    }
    return status;
}

static fdm_status prepare(fdm_dataset *set, const fdm_dataset_options *options, fdm_error *err) {
    set->xflip = options->xflip;
    set->cache_left = options->cache_bytes ? options->cache_bytes : default_cache;
    fdm_status status = options->use_labels ? fdm_labels_read(&set->labels, &set->entries, err) : FDM_OK;
    if (!status) status = check_images(set, err);
    if (status) return status;
    if (!(set->cache = calloc(set->entries.count, sizeof *set->cache)))
        return fdm_fail_oom(err, "image cache", set->entries.count * sizeof *set->cache);
    if (pthread_mutex_init(&set->lock, NULL)) return fdm_fail(err, FDM_NO_RESOURCE, "no mutex to be had");
    set->have_lock = true;
    return FDM_OK;
}

/* path or, if that is NULL, the bytes. */
static fdm_status open_set(fdm_dataset **out, const char *path, const void *bytes, size_t size, const char *label,
                           const fdm_dataset_options *options, fdm_error *err) {
    static const fdm_dataset_options defaults = {0};
    fdm_dataset *set = calloc(1, sizeof *set);
    *out = NULL;
    if (!set) return fdm_fail_oom(err, "data set", sizeof *set);
    fdm_status status = path ? fdm_entries_open(&set->entries, path, err)
                             : fdm_entries_parse(&set->entries, bytes, size, label, err);
    if (!status) status = prepare(set, options ? options : &defaults, err);
    if (status)
        fdm_dataset_free(&set);
    else
        *out = set;
    return status;
}

fdm_status fdm_dataset_open(fdm_dataset **out, const char *path, const fdm_dataset_options *options,
                            fdm_error *err) {
    return open_set(out, path, NULL, 0, NULL, options, err);
}

fdm_status fdm_dataset_parse(fdm_dataset **out, const void *bytes, size_t size, const char *label,
                             const fdm_dataset_options *options, fdm_error *err) {
    return open_set(out, NULL, bytes, size, label, options, err);
}

void fdm_dataset_free(fdm_dataset **pointer) {
    fdm_dataset *set = *pointer;
    *pointer = NULL;
    if (!set) return;
    for (size_t i = 0; set->cache && i < set->entries.count; i++) free(set->cache[i]);
    free(set->cache);
    if (set->have_lock) pthread_mutex_destroy(&set->lock);
    fdm_labels_free(&set->labels);
    fdm_entries_close(&set->entries);
    free(set);
}

/* ---- What is asked of it ----------------------------------------------------------------------------------- */

int64_t fdm_dataset_count(const fdm_dataset *set) { return (int64_t)set->entries.count * (set->xflip ? 2 : 1); }
int fdm_dataset_resolution(const fdm_dataset *set) { return set->resolution; }
int fdm_dataset_channels(const fdm_dataset *set) { return set->channels; }
int fdm_dataset_label_dim(const fdm_dataset *set) { return set->labels.dim; }

fdm_dataset_checksums fdm_dataset_checksum(const fdm_dataset *set) {
    const struct fdm_labels *l = &set->labels;
    const size_t count = set->entries.count, dim = (size_t)l->dim;
    uLong labels = 0;
    if (l->classes) labels = crc32_z(labels, (const Bytef *)l->classes, count * sizeof *l->classes);
    if (l->vectors) labels = crc32_z(labels, (const Bytef *)l->vectors, count * dim * sizeof *l->vectors);
    return (fdm_dataset_checksums){set->checksum, (uint32_t)labels};
}

/* The position of the index among the entries; SIZE_MAX if there is none. */
static size_t entry_of(const fdm_dataset *set, int64_t index) {
    if (index < 0 || index >= fdm_dataset_count(set)) return SIZE_MAX;
    return (size_t)index % set->entries.count;
}

const char *fdm_dataset_name(const fdm_dataset *set, int64_t index) {
    size_t at = entry_of(set, index);
    return at == SIZE_MAX ? NULL : set->entries.items[at].name;
}

static fdm_status bad_index(const fdm_dataset *set, int64_t index, fdm_error *err) {
    return fdm_fail(err, FDM_BAD_USAGE, "%s: image %lld of a set of %lld", set->entries.label, (long long)index,
                    (long long)fdm_dataset_count(set));
}

fdm_status fdm_dataset_label(const fdm_dataset *set, int64_t index, float *label, fdm_error *err) {
    const struct fdm_labels *l = &set->labels;
    size_t at = entry_of(set, index), dim = (size_t)l->dim;
    if (at == SIZE_MAX) return bad_index(set, index, err);
    if (l->vectors) memcpy(label, l->vectors + at * dim, dim * sizeof *label);
    for (size_t i = 0; l->classes && i < dim; i++) label[i] = (size_t)l->classes[at] == i ? 1.0f : 0.0f;
    return FDM_OK;
}

/* (R,R,C) -> (C,R,R) */
static void to_planes(uint8_t *planes, const uint8_t *pixels, size_t count, size_t channels) {
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < channels; c++) planes[c * count + i] = *pixels++;
}

static fdm_status decode(uint8_t *pixels, fdm_dataset *set, size_t at, fdm_error *err) {
    const struct fdm_entry *entry = &set->entries.items[at];
    char label[FDM_ENTRY_LABEL];
    struct fdm_blob blob;
    struct fdm_image_info info;
    fdm_image image;
    fdm_status status = fdm_entries_read(&blob, &set->entries, entry, true, err);
    if (status) return status;
    fdm_entry_label(label, &set->entries, entry);
    status =
        fdm_image_probe(&info, blob.bytes, blob.size, label, err); /* again: a folder's file may be another now */
    if (!status) status = check_info(set, &info, label, err);
    if (!status) status = fdm_image_decode(&image, blob.bytes, blob.size, label, err);
    fdm_blob_free(&blob);
    if (status) return status;
    if (image.width == set->resolution && image.height == set->resolution && image.channels == set->channels)
        to_planes(pixels, image.pixels, (size_t)image.width * (size_t)image.height, (size_t)image.channels);
    else
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: decodes to something else than its header says; damaged", label);
    fdm_image_free(&image);
    return status;
}

static bool from_cache(uint8_t *pixels, fdm_dataset *set, size_t at) {
    pthread_mutex_lock(&set->lock);
    const uint8_t *kept = set->cache[at]; /* stays where it is until the set is freed */
    pthread_mutex_unlock(&set->lock);
    if (kept) memcpy(pixels, kept, image_bytes(set));
    return kept != NULL;
}

static void to_cache(fdm_dataset *set, const uint8_t *pixels, size_t at) {
    size_t bytes = image_bytes(set);
    pthread_mutex_lock(&set->lock);
    if (!set->cache[at] && set->cache_left >= bytes && (set->cache[at] = malloc(bytes))) {
        memcpy(set->cache[at], pixels, bytes);
        set->cache_left -= bytes;
    }
    pthread_mutex_unlock(&set->lock);
}

static void mirror(uint8_t *pixels, size_t rows, size_t width) {
    for (; rows > 0; rows--, pixels += width)
        for (size_t x = 0; x < width / 2; x++) {
            uint8_t left = pixels[x];
            pixels[x] = pixels[width - 1 - x];
            pixels[width - 1 - x] = left;
        }
}

fdm_status fdm_dataset_image(fdm_dataset *set, int64_t index, uint8_t *pixels, fdm_error *err) {
    size_t at = entry_of(set, index), side = (size_t)set->resolution;
    if (at == SIZE_MAX) return bad_index(set, index, err);
    if (!from_cache(pixels, set, at)) {
        fdm_status status = decode(pixels, set, at, err);
        if (status) return status;
        to_cache(set, pixels, at);
    }
    if ((size_t)index >= set->entries.count) mirror(pixels, (size_t)set->channels * side, side);
    return FDM_OK;
}
