/* cmd_dataset.c - `fdm dataset`: images from anywhere -> a zip of equal, square PNGs with labels. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/cli.h"
#include "fdm/dataset.h"
#include "io/image_file.h"
#include "io/image_source.h"
#include "io/resize.h"
#include "io/text.h"
#include "io/zip_write.h"

enum { SCALE, CENTER_CROP, CENTER_CROP_WIDE };
static const char *const transforms[] = {"scale", "center-crop", "center-crop-wide", NULL};

struct dataset_options {
    struct fdm_size resolution; /* 0x0: as they are */
    int transform;
    int64_t max_images, channels; /* 0: all; as the first image */
    struct fdm_intlist classes;
};

static const struct dataset_options defaults = {.transform = SCALE};
static const struct fdm_option options[] = {
    FDM_OPTION_SIZE(struct dataset_options, resolution, "resolution", 1, FDM_DATASET_MAX_RESOLUTION,
                    "size of the images in DST (default: as they are, all equal and square)"),
    FDM_OPTION_ENUM(struct dataset_options, transform, "transform", transforms,
                    "how an image gets that size; see above (default scale)"),
    FDM_OPTION_INT(struct dataset_options, max_images, "max-images", 1, INT64_MAX, "N",
                   "only the first N images (default: all)"),
    FDM_OPTION_INTLIST(struct dataset_options, classes, "classes", 0, FDM_DATASET_MAX_LABEL_DIM - 1, "LIST",
                       "only images of these classes, which become 0, 1, ... (default: all)"),
    FDM_OPTION_INT(struct dataset_options, channels, "channels", 1, 3, "1|3",
                   "gray or RGB (default: as the first image; another kind is an error)"),
    FDM_OPTION_END,
};

/* What becomes of the source: which images, and their classes. */
struct job {
    const struct fdm_cli *cli;
    const struct dataset_options *o;
    struct fdm_image_source source;
    size_t *images; /* (count) positions in the source */
    size_t count;
    int32_t new_class[FDM_DATASET_MAX_LABEL_DIM]; /* by the source's class; -1: left out */
    int width, height, channels;                  /* of the images in DST; 0: not known yet */
    char first[FDM_ENTRY_LABEL];                  /* label of the first image */
    struct fdm_text json;                         /* dataset.json so far */
};

static fdm_status check_options(const struct fdm_cli *cli, const struct dataset_options *o, fdm_error *err) {
    const char *dst = cli->args[1], *dot = strrchr(dst, '.');
    if (!dot || strcmp(dot, ".zip") != 0)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: DST is a zip archive; name it *.zip", dst);
    if (o->channels == 2) return fdm_fail(err, FDM_BAD_USAGE, "--channels 2: wants 1 (gray) or 3 (RGB)");
    if (o->transform != SCALE && !o->resolution.width)
        return fdm_fail(err, FDM_BAD_USAGE, "--transform %s needs --resolution", transforms[o->transform]);
    if (o->transform == CENTER_CROP_WIDE && o->resolution.height > o->resolution.width)
        return fdm_fail(err, FDM_BAD_USAGE, "--transform center-crop-wide makes wide pictures: WIDTH >= HEIGHT");
    if (o->transform != CENTER_CROP_WIDE && o->resolution.width != o->resolution.height)
        return fdm_fail(err, FDM_BAD_USAGE,
                        "--resolution %lldx%lld: networks take squares; give RxR, or use --transform "
                        "center-crop-wide",
                        (long long)o->resolution.width, (long long)o->resolution.height);
    return FDM_OK;
}

/* ---- Which images ------------------------------------------------------------------------------------------ */

static fdm_status map_classes(struct job *j, fdm_error *err) {
    const struct fdm_intlist *wanted = &j->o->classes;
    const struct fdm_labels *labels = &j->source.labels;
    for (int c = 0; c < FDM_DATASET_MAX_LABEL_DIM; c++) j->new_class[c] = wanted->count ? -1 : c;
    if (!wanted->count) return FDM_OK;
    if (!labels->classes)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: has no classes to choose from; leave --classes away",
                        j->cli->args[0]);
    for (size_t i = 0; i < wanted->count; i++) {
        const int64_t c = wanted->items[i];
        if (c >= labels->dim)
            return fdm_fail(err, FDM_BAD_USAGE, "--classes: %lld, but %s has classes 0 to %d", (long long)c,
                            j->cli->args[0], labels->dim - 1);
        if (j->new_class[c] >= 0) return fdm_fail(err, FDM_BAD_USAGE, "--classes: %lld occurs twice", (long long)c);
        j->new_class[c] = (int32_t)i;
    }
    return FDM_OK;
}

static fdm_status choose_images(struct job *j, fdm_error *err) {
    const struct fdm_labels *labels = &j->source.labels;
    const size_t most = j->o->max_images ? (size_t)j->o->max_images : SIZE_MAX;
    fdm_status status = map_classes(j, err);
    if (status) return status;
    if (!(j->images = malloc(j->source.count * sizeof *j->images)))
        return fdm_fail_oom(err, "list of images", j->source.count * sizeof *j->images);
    for (size_t i = 0; i < j->source.count && j->count < most; i++)
        if (!labels->classes || j->new_class[labels->classes[i]] >= 0) j->images[j->count++] = i;
    if (!j->count) return fdm_fail(err, FDM_BAD_INPUT, "%s: no image of the chosen classes", j->cli->args[0]);
    return FDM_OK;
}

/* ---- One image --------------------------------------------------------------------------------------------- */

static fdm_status convert_channels(struct job *j, fdm_image *image, const char *label, fdm_error *err) {
    const int colors = image->channels >= 3 ? 3 : 1;
    if (!j->channels) j->channels = j->o->channels ? (int)j->o->channels : colors;
    if (colors != j->channels && !j->o->channels)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: is %s, but %s is %s; give --channels 3 or --channels 1", label,
                        colors == 1 ? "gray" : "coloured", j->first, colors == 1 ? "coloured" : "gray");
    return fdm_image_convert(image, j->channels, err);
}

/* The largest part of the middle with the aspect ratio of width : height. */
static struct fdm_rectangle middle(const fdm_image *image, int width, int height) {
    int64_t w = (int64_t)image->height * width / height, h = (int64_t)image->width * height / width;
    if (w > image->width) w = image->width;
    if (h > image->height) h = image->height;
    if (w < 1) w = 1;
    if (h < 1) h = 1;
    return (struct fdm_rectangle){(image->width - (int)w) / 2, (image->height - (int)h) / 2, (int)w, (int)h};
}

/* Black above and below. */
static fdm_status make_square(fdm_image *image, fdm_error *err) {
    const size_t row = (size_t)image->width * (size_t)image->channels, rows = (size_t)image->height;
    uint8_t *pixels = calloc((size_t)image->width, row);
    if (!pixels) return fdm_fail_oom(err, "square image", (size_t)image->width * row);
    memcpy(pixels + ((size_t)image->width - rows) / 2 * row, image->pixels, rows * row);
    free(image->pixels);
    image->pixels = pixels;
    image->height = image->width;
    return FDM_OK;
}

static fdm_status transform(struct job *j, fdm_image *image, fdm_error *err) {
    const int w = (int)j->o->resolution.width, h = (int)j->o->resolution.height;
    const struct fdm_rectangle all = {0, 0, image->width, image->height};
    fdm_image scaled;
    if (!w) return FDM_OK;
    fdm_status status =
        fdm_image_resize(&scaled, image, j->o->transform == SCALE ? all : middle(image, w, h), w, h, err);
    if (status) return status;
    fdm_image_free(image);
    *image = scaled;
    return w == h ? FDM_OK : make_square(image, err);
}

static fdm_status check_size(struct job *j, const fdm_image *image, const char *label, fdm_error *err) {
    if (image->width != image->height)
        return fdm_fail(err, FDM_BAD_INPUT,
                        "%s: %d x %d pixels, not a square; give --resolution RxR, perhaps with "
                        "--transform center-crop",
                        label, image->width, image->height);
    if (image->width > FDM_DATASET_MAX_RESOLUTION)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: %d x %d pixels are more than %d each way; give --resolution RxR",
                        label, image->width, image->height, FDM_DATASET_MAX_RESOLUTION);
    if (!j->width) {
        j->width = image->width;
        j->height = image->height;
    }
    if (image->width != j->width)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: %d x %d pixels, but %s has %d x %d; give --resolution RxR", label,
                        image->width, image->height, j->first, j->width, j->height);
    return FDM_OK;
}

/* Its line in dataset.json. */
static void add_label(struct job *j, const char *name, size_t image) {
    const struct fdm_labels *l = &j->source.labels;
    if (!l->dim) return;
    fdm_text_printf(&j->json, "%s[\"%s\", ", j->json.length > 1 ? ",\n" : "", name);
    if (l->classes)
        fdm_text_printf(&j->json, "%d]", (int)j->new_class[l->classes[image]]);
    else
        for (int k = 0; k < l->dim; k++)
            fdm_text_printf(&j->json, "%s%.9g%s", k ? ", " : "[",
                            (double)l->vectors[image * (size_t)l->dim + (size_t)k], k == l->dim - 1 ? "]]" : "");
}

static fdm_status add_image(struct job *j, struct fdm_zip_writer *zip, size_t number, fdm_error *err) {
    char label[FDM_ENTRY_LABEL], name[64];
    fdm_image image;
    uint8_t *png = NULL;
    size_t bytes = 0;
    fdm_status status = fdm_image_source_read(&image, label, &j->source, j->images[number], err);
    if (status) return status;
    if (number == 0) memcpy(j->first, label, sizeof label);
    status = convert_channels(j, &image, label, err);
    if (!status) status = transform(j, &image, err);
    if (!status) status = check_size(j, &image, label, err);
    if (!status)
        status = fdm_png_format(&png, &bytes, image.pixels, image.width, image.height, image.channels, label, err);
    snprintf(name, sizeof name, "%05zu/img%08zu.png", number / 1000, number);
    if (!status) status = fdm_zip_add(zip, name, png, bytes, NULL, 0, err);
    add_label(j, name, j->images[number]);
    free(png);
    fdm_image_free(&image);
    return status;
}

/* ---- The archive ------------------------------------------------------------------------------------------- */

/* {"labels": [[name, class], ...], "classes": ["airplane", ...]} */
static fdm_status add_json(struct job *j, struct fdm_zip_writer *zip, fdm_error *err) {
    const struct fdm_image_source *s = &j->source;
    struct fdm_text text = {0};
    const size_t chosen = j->o->classes.count;
    fdm_text_printf(&text, "{\"labels\": ");
    if (s->labels.dim) {
        fdm_text_add(&text, j->json.bytes, j->json.length);
        fdm_text_printf(&text, "]");
    } else
        fdm_text_printf(&text, "null");
    for (size_t i = 0; s->class_names && i < (chosen ? chosen : s->class_count); i++) {
        fdm_text_printf(&text, i ? ", " : ",\n\"classes\": [");
        fdm_text_json_string(&text, s->class_names[chosen ? (size_t)j->o->classes.items[i] : i]);
    }
    fdm_text_printf(&text, s->class_names ? "]}\n" : "}\n");
    fdm_status status = text.failed || j->json.failed
                            ? fdm_fail_oom(err, "dataset.json", text.length)
                            : fdm_zip_add(zip, "dataset.json", text.bytes, text.length, NULL, 0, err);
    fdm_text_free(&text);
    return status;
}

static fdm_status write_zip(struct job *j, fdm_error *err) {
    struct fdm_zip_writer zip;
    struct fdm_progress progress;
    fdm_status status = fdm_zip_begin(&zip, j->cli->args[1], err);
    if (status) return status;
    fdm_text_printf(&j->json, "[");
    fdm_progress_start(&progress, j->cli, "dataset", "images", (int64_t)j->count);
    for (size_t i = 0; i < j->count && !status; i++) {
        status = fdm_interrupted() ? fdm_fail_interrupted(err) : add_image(j, &zip, i, err);
        fdm_progress_update(&progress, (int64_t)i + 1);
    }
    if (!status) status = add_json(j, &zip, err);
    fdm_progress_end(&progress, !status);
    if (!status) return fdm_zip_finish(&zip, err);
    fdm_zip_abort(&zip);
    return status;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    struct job *j = calloc(1, sizeof *j);
    if (!j) return fdm_fail_oom(err, "data set", sizeof *j);
    j->cli = cli;
    j->o = values;
    fdm_status status = check_options(cli, j->o, err);
    if (!status) status = fdm_image_source_open(&j->source, cli->args[0], j->o->resolution.width != 28, err);
    if (!status) status = choose_images(j, err);
    if (!status) status = write_zip(j, err);
    if (!status && !cli->quiet) {
        const struct fdm_labels *l = &j->source.labels;
        const int dim = j->o->classes.count ? (int)j->o->classes.count : l->dim;
        printf("%s: %zu images, %d x %d, %s", cli->args[1], j->count, j->width, j->height,
               j->channels == 1 ? "gray" : "RGB");
        if (dim)
            printf(l->classes ? ", %d classes\n" : ", labels of %d numbers\n", dim);
        else
            puts(", no labels");
    }
    fdm_image_source_close(&j->source);
    fdm_text_free(&j->json);
    free(j->images);
    free(j);
    return status;
}

const struct fdm_command fdm_cmd_dataset = {
    .name = "dataset",
    .arguments = "SRC DST.zip",
    .min_args = 2,
    .max_args = 2,
    .summary = "images from anywhere -> a zip archive for training",
    .description =
        "Writes a zip archive of equal, square PNGs, 00000/img00000000.png and so on, with their labels in "
        "dataset.json:\n"
        "the form that training reads fastest.  The same input gives the same bytes.  SRC is one of\n"
        "  a folder or a zip archive of PNG and JPEG files, sub-folders included, in the order of their names.\n"
        "      Classes are read from dataset.json, {\"labels\": [[\"a/1.png\", 0], ...]} or \"labels\": null.  "
        "Without that\n"
        "      file the sub-folders of the first level are the classes, in the order of their names, if there are "
        "two or\n"
        "      more and every image lies in one; else there are none.\n"
        "  cifar-10-python.tar.gz or cifar-10-binary.tar.gz as published, the folder that one unpacks to, or one\n"
        "      data_batch_N.bin.  The Python version's pickles are read as data; nothing in them is executed.\n"
        "  train-images-idx3-ubyte[.gz] of MNIST, train-labels-idx1-ubyte[.gz] beside it.  Its 28x28 images get a "
        "black\n"
        "      border of 2 pixels, which makes them 32x32; with --resolution 28x28 they stay as they are.\n"
        "Transparent images are put on white.  --transform says how images get the size of --resolution:\n"
        "  scale             the whole image, stretched if it is no square\n"
        "  center-crop       the largest square in the middle\n"
        "  center-crop-wide  the largest part of the middle with the ratio WIDTH:HEIGHT, black above and below\n"
        "Scaling is by a Lanczos filter of three lobes, widened when an image shrinks.",
    .examples = "  fdm dataset cifar-10-python.tar.gz cifar10.zip\n"
                "  fdm dataset train-images-idx3-ubyte.gz mnist32.zip\n"
                "  fdm dataset photos/ photos64.zip --resolution 64x64 --transform center-crop\n"
                "  fdm dataset data/emoji32.zip faces16.zip --resolution 16x16 --classes 0\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
