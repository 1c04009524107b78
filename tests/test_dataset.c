/* test_dataset.c - data sets in archives and folders: against the published reader's output, labels, bad data,
 * reading ahead, out of memory. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/base.h"
#include "fdm/dataset.h"
#include "golden.h"
#include "io/image_file.h"
#include "io/originals.h"
#include "io/resize.h"
#include "io_util.h"
#include "oom.h"

/* ---- Archives of any kind ---------------------------------------------------------------------------------- */

struct archive {
    unsigned char bytes[1 << 18], central[1 << 14];
    size_t n, directory, count, last; /* last: where the last member's central header starts */
};

static void put(unsigned char *p, uint64_t v, int size) {
    for (int i = 0; i < size; i++) p[i] = (unsigned char)(v >> (8 * i));
}

/* One member: `packed` as it lies in the file, deflated or not. */
static void member_raw(struct archive *a, const char *name, const void *packed, size_t n, size_t unpacked,
                       uint32_t crc, int method, int flags) {
    size_t length = strlen(name);
    unsigned char *local = a->bytes + a->n, *central = a->central + a->directory;
    ck_assert_uint_le(a->n + n + length + 100, sizeof a->bytes);
    ck_assert_uint_le(a->directory + length + 100, sizeof a->central);
    memset(local, 0, 30);
    memset(central, 0, 46);
    put(local, 0x04034b50, 4);
    put(local + 4, 20, 2);
    put(local + 6, (uint64_t)flags, 2);
    put(local + 8, (uint64_t)method, 2);
    put(local + 14, crc, 4);
    put(local + 18, n, 4);
    put(local + 22, unpacked, 4);
    put(local + 26, length, 2);
    memcpy(local + 30, name, length);
    if (n) memcpy(local + 30 + length, packed, n);
    put(central, 0x02014b50, 4);
    memcpy(central + 6, local + 4, 26);
    put(central + 42, a->n, 4);
    memcpy(central + 46, name, length);
    a->last = a->directory;
    a->directory += 46 + length;
    a->n += 30 + length + n;
    a->count++;
}

static void member(struct archive *a, const char *name, const void *bytes, size_t n) {
    member_raw(a, name, bytes, n, n, (uint32_t)crc32(0, bytes, (uInt)n), 0, 0);
}

static void member_deflated(struct archive *a, const char *name, const void *bytes, size_t n) {
    static unsigned char packed[1 << 17];
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)bytes,
                  .avail_in = (uInt)n,
                  .next_out = packed,
                  .avail_out = sizeof packed};
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t packed_bytes = sizeof packed - z.avail_out;
    deflateEnd(&z);
    member_raw(a, name, packed, packed_bytes, n, (uint32_t)crc32(0, bytes, (uInt)n), 8, 0);
}

/* Where the last member's local header starts. */
static size_t get_header(const struct archive *a) {
    const unsigned char *p = a->central + a->last + 42;
    return (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16;
}

static void text(struct archive *a, const char *name, const char *s) { member(a, name, s, strlen(s)); }

/* The pixel that `picture` puts at (c, y, x) of image `seed`. */
static uint8_t pixel_of(int seed, int c, int y, int x) {
    return (uint8_t)(seed * 37 + c * 91 + y * 11 + x * 5 + x * y);
}

static uint8_t *png_of(size_t *n, int seed, int width, int height, int channels) {
    uint8_t *pixels = malloc((size_t)(width * height * channels)), *file, *p = pixels;
    fdm_error err;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++) *p++ = pixel_of(seed, c, y, x);
    ck_assert_int_eq(fdm_png_format(&file, n, pixels, width, height, channels, "test", &err), FDM_OK);
    free(pixels);
    return file;
}

static void picture(struct archive *a, const char *name, int seed, int width, int height, int channels) {
    size_t n;
    uint8_t *png = png_of(&n, seed, width, height, channels);
    member(a, name, png, n);
    free(png);
}

/* The finished archive, exactly its size, so that ASan sees every overrun; free(). */
static unsigned char *finished(const struct archive *a, size_t *n) {
    unsigned char end[22] = {0}, *copy;
    put(end, 0x06054b50, 4);
    put(end + 8, a->count, 2);
    put(end + 10, a->count, 2);
    put(end + 12, a->directory, 4);
    put(end + 16, a->n, 4);
    *n = a->n + a->directory + sizeof end;
    ck_assert_ptr_nonnull(copy = malloc(*n));
    memcpy(copy, a->bytes, a->n);
    memcpy(copy + a->n, a->central, a->directory);
    memcpy(copy + a->n + a->directory, end, sizeof end);
    return copy;
}

static struct archive *fresh(void) {
    static struct archive a;
    memset(&a, 0, sizeof a);
    return &a;
}

static const fdm_dataset_options labelled = {.use_labels = true};

/* Opens (if that works) and decodes every image; the first error. */
static fdm_status use_bytes(const void *bytes, size_t n, fdm_error *err) {
    fdm_dataset *set;
    fdm_status status = fdm_dataset_parse(&set, bytes, n, "set.zip", &labelled, err);
    if (status) return status;
    size_t side = (size_t)fdm_dataset_resolution(set);
    uint8_t *pixels = malloc((size_t)fdm_dataset_channels(set) * side * side);
    for (int64_t i = 0; i < fdm_dataset_count(set) && !status; i++) status = fdm_dataset_image(set, i, pixels, err);
    free(pixels);
    fdm_dataset_free(&set);
    return status;
}

static void check_archive_refused(const struct archive *a, const char *mention) {
    size_t n;
    unsigned char *bytes = finished(a, &n);
    fdm_error err = {.status = FDM_OK};
    fdm_status status = use_bytes(bytes, n, &err);
    check_refused(status, FDM_BAD_INPUT, &err, "set.zip");
    check_refused(status, FDM_BAD_INPUT, &err, mention);
    free(bytes);
}

static fdm_dataset *open_archive(const struct archive *a, unsigned char **bytes,
                                 const fdm_dataset_options *options) {
    size_t n;
    fdm_dataset *set;
    fdm_error err;
    *bytes = finished(a, &n);
    fdm_status status = fdm_dataset_parse(&set, *bytes, n, "set.zip", options, &err);
    ck_assert_msg(status == FDM_OK, "%s", err.message);
    return set;
}

/* ---- Against the published reader ------------------------------------------------------------------------- */

START_TEST(published_set) {
    fdm_tensors golden = {0};
    fdm_dataset *set;
    fdm_error err;
    fdm_dataset_options options = {.use_labels = true, .xflip = true};
    golden_load(&golden, "data_order.safetensors");
    const fdm_tensor *images = golden_get(&golden, "zip.", "images");
    const float *labels = golden_f32(&golden, "zip.", "labels");
    for (int cached = 0; cached < 2; cached++) {
        options.cache_bytes = cached ? 0 : 1;
        ck_assert_msg(fdm_dataset_open(&set, FDM_TEST_GOLDEN_DIR "/data_toy16.zip", &options, &err) == FDM_OK, "%s",
                      err.message);
        ck_assert_int_eq(fdm_dataset_count(set), images->shape[0]);
        ck_assert_int_eq(fdm_dataset_channels(set), images->shape[1]);
        ck_assert_int_eq(fdm_dataset_resolution(set), images->shape[2]);
        ck_assert_int_eq(fdm_dataset_label_dim(set), 10);
        int differing = 0;
        for (int round = 0; round < 2; round++) /* the second one from the cache, if there is one */
            for (int64_t i = 0; i < fdm_dataset_count(set); i++) {
                uint8_t pixels[3 * 16 * 16];
                float label[10];
                ck_assert_msg(fdm_dataset_image(set, i, pixels, &err) == FDM_OK, "%s", err.message);
                ck_assert_int_eq(fdm_dataset_label(set, i, label, &err), FDM_OK);
                differing += memcmp(pixels, (const uint8_t *)images->data + i * 768, 768) != 0;
                differing += memcmp(label, labels + i * 10, sizeof label) != 0;
            }
        printf("data_toy16.zip, %s: %d of 80 rows differ\n", cached ? "cached" : "not cached", differing);
        ck_assert_int_eq(differing, 0);
        uint8_t pixels[768];
        check_refused(fdm_dataset_image(set, 20, pixels, &err), FDM_BAD_USAGE, &err, "image 20 of a set of 20");
        check_refused(fdm_dataset_image(set, -1, pixels, &err), FDM_BAD_USAGE, &err, "image -1");
        ck_assert_ptr_null(fdm_dataset_name(set, 20));
        fdm_dataset_free(&set);
        ck_assert_ptr_null(set);
    }
    fdm_tensors_free(&golden);
}
END_TEST

static void check_image(fdm_dataset *set, int64_t index, int seed, bool mirrored) {
    int side = fdm_dataset_resolution(set), channels = fdm_dataset_channels(set);
    uint8_t *pixels = malloc((size_t)(side * side * channels));
    fdm_error err;
    ck_assert_msg(fdm_dataset_image(set, index, pixels, &err) == FDM_OK, "%s", err.message);
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < side; y++)
            for (int x = 0; x < side; x++)
                ck_assert_uint_eq(pixels[(c * side + y) * side + x],
                                  pixel_of(seed, c, y, mirrored ? side - 1 - x : x));
    free(pixels);
}

START_TEST(archives) {
    for (int channels = 1; channels <= 3; channels += 2) {
        struct archive *a = fresh();
        unsigned char *bytes;
        size_t n;
        uint8_t *png = png_of(&n, 3, 9, 9, channels);
        picture(a, "b/2.PNG", 2, 9, 9, channels);
        text(a, "README", "not an image");
        member(a, "b/", "", 0);
        text(a, "__MACOSX/b/._2.png", "resource fork");
        text(a, "b/.hidden.png", "hidden");
        member_deflated(a, "b/3.png", png, n);
        picture(a, "B/1.png", 1, 9, 9, channels);
        picture(a, "b/10.png", 4, 9, 9, channels);
        const fdm_dataset_options flipped = {.use_labels = true, .xflip = true};
        fdm_dataset *set = open_archive(a, &bytes, &flipped);
        static const int order[] = {1, 4, 2, 3};
        static const char *const names[] = {"B/1.png", "b/10.png", "b/2.PNG", "b/3.png"};
        ck_assert_int_eq(fdm_dataset_count(set), 8);
        ck_assert_int_eq(fdm_dataset_label_dim(set), 0);
        ck_assert_int_eq(fdm_dataset_label(set, 0, NULL, NULL), FDM_OK);
        for (int i = 0; i < 8; i++) {
            ck_assert_str_eq(fdm_dataset_name(set, i), names[i % 4]);
            check_image(set, i, order[i % 4], i >= 4);
        }
        fdm_dataset_free(&set);
        free(png);
        free(bytes);
    }
}
END_TEST

static void make_folder(const char *name) { ck_assert_int_eq(mkdir(scratch(name), 0777), 0); }

static void write_picture(const char *name, int seed, int side) {
    size_t n;
    uint8_t *png = png_of(&n, seed, side, side, 3);
    write_bytes(scratch(name), png, n);
    free(png);
}

START_TEST(folders) {
    fdm_dataset *set;
    fdm_error err;
    make_folder("f");
    make_folder("f/sub");
    make_folder("f/sub/deeper");
    make_folder("f/.git");
    write_picture("f/z.png", 0, 8);
    write_picture("f/sub/a.jpg", 1, 8); /* the kind shows in the bytes */
    write_picture("f/sub/deeper/a.png", 2, 8);
    write_picture("f/.git/a.png", 9, 8);
    write_bytes(scratch("f/notes.txt"), "x", 1);
    ck_assert_int_eq(symlink("../z.png", scratch("f/sub/link.png")), 0);
    static const int order[] = {1, 2, 0, 0};
    static const char json[] =
        "{\"classes\": [\"x\", {\"y\": [1.5e3, true, null, {}]}], \"labels\": [[\"z.png\", 2], "
        "[\"sub/a.jpg\", 0], [\"not there.png\", 77], [\"sub/deeper/a.png\", 0],\n"
        "[\"sub\\/link.png\", 1]]}";
    write_bytes(scratch("f/dataset.json"), json, strlen(json));
    ck_assert_msg(fdm_dataset_open(&set, scratch("f/"), &labelled, &err) == FDM_OK, "%s", err.message);
    ck_assert_int_eq(fdm_dataset_count(set), 4);
    ck_assert_int_eq(fdm_dataset_label_dim(set), 3);
    for (int i = 0; i < 4; i++) {
        static const int classes[] = {0, 0, 1, 2};
        float label[3];
        check_image(set, i, order[i], false);
        ck_assert_int_eq(fdm_dataset_label(set, i, label, &err), FDM_OK);
        for (int k = 0; k < 3; k++) ck_assert(label[k] == (k == classes[i] ? 1.0f : 0.0f));
    }
    /* A file that has changed since is an error, not a wrong image. */
    fdm_dataset_options no_cache = {.cache_bytes = 1};
    uint8_t pixels[192];
    fdm_dataset_free(&set);
    ck_assert_int_eq(fdm_dataset_open(&set, scratch("f"), &no_cache, &err), FDM_OK);
    ck_assert_int_eq(fdm_dataset_label_dim(set), 0);
    write_picture("f/z.png", 0, 9);
    check_refused(fdm_dataset_image(set, 3, pixels, &err), FDM_BAD_INPUT, &err, "entry \"z.png\"");
    ck_assert_int_eq(unlink(scratch("f/z.png")), 0);
    check_refused(fdm_dataset_image(set, 3, pixels, &err), FDM_BAD_INPUT, &err, "f/z.png: cannot open");
    fdm_dataset_free(&set);

    check_refused(fdm_dataset_open(&set, scratch("f"), &labelled, &err), FDM_BAD_INPUT, &err,
                  "f/sub/link.png: cannot open");
    ck_assert_ptr_null(set);
    unlink(scratch("f/sub/link.png"));
    ck_assert_int_eq(symlink("..", scratch("f/sub/loop")), 0);
    check_refused(fdm_dataset_open(&set, scratch("f"), NULL, &err), FDM_BAD_INPUT, &err,
                  "entry \"sub/loop\": a link to");
    unlink(scratch("f/sub/loop"));
    ck_assert_int_eq(symlink("self.png", scratch("f/self.png")), 0);
    check_refused(fdm_dataset_open(&set, scratch("f"), NULL, &err), FDM_BAD_INPUT, &err, "f/self.png: cannot open");
    unlink(scratch("f/self.png"));
    ck_assert_int_eq(mkfifo(scratch("f/pipe.png"), 0666), 0);
    check_refused(fdm_dataset_open(&set, scratch("f"), NULL, &err), FDM_BAD_INPUT, &err, "f/pipe.png: is a pipe");
    unlink(scratch("f/pipe.png"));
    write_picture("f/\xff.png", 0, 8);
    check_refused(fdm_dataset_open(&set, scratch("f"), NULL, &err), FDM_BAD_INPUT, &err, "not UTF-8");
    unlink(scratch("f/\xff.png"));
    if (geteuid() == 0)
        printf("SKIP: an unreadable folder: running as root\n");
    else {
        chmod(scratch("f/sub/deeper"), 0);
        check_refused(fdm_dataset_open(&set, scratch("f"), NULL, &err), FDM_BAD_INPUT, &err,
                      "f/sub/deeper: cannot open");
        chmod(scratch("f/sub/deeper"), 0777);
    }
    make_folder("empty");
    check_refused(fdm_dataset_open(&set, scratch("empty"), NULL, &err), FDM_BAD_INPUT, &err, "holds no images");
    check_refused(fdm_dataset_open(&set, scratch("nowhere"), NULL, &err), FDM_BAD_INPUT, &err,
                  "nowhere: cannot open");
    static const char *const gone[] = {"f/sub/deeper/a.png", "f/sub/deeper", "f/sub/a.jpg",    "f/sub",
                                       "f/.git/a.png",       "f/.git",       "f/dataset.json", "f/notes.txt"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(gone); i++) ck_assert_int_eq(remove(scratch(gone[i])), 0);
}
END_TEST

/* ---- Bad data ---------------------------------------------------------------------------------------------- */

/* An archive of a.png and b.png (4x4 RGB) and, if there is one, dataset.json. */
static struct archive *two_pictures(const char *json) {
    struct archive *a = fresh();
    picture(a, "a.png", 1, 4, 4, 3);
    picture(a, "b.png", 2, 4, 4, 3);
    if (json) text(a, "dataset.json", json);
    return a;
}

START_TEST(bad_labels) {
    static const struct {
        const char *json, *mention;
    } bad[] = {
        {"", "an object is expected"},
        {"[]", "an object is expected"},
        {"{}", "no \"labels\""},
        {"{\"label\": null}", "no \"labels\""},
        {"{\"labels\": null} x", "something follows"},
        {"{\"labels\": null, \"labels\": null}", "\"labels\" occurs twice"},
        {"{\"labels\": 5}", "an array is expected"},
        {"{\"labels\": []}", "no label for \"a.png\""},
        {"{\"labels\": [[\"a.png\", 0]]}", "no label for \"b.png\"; add one"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", -1]]}", "label of \"b.png\": a class below 0"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", 65536]]}", "label of \"b.png\": a class beyond 65535"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", 99999999999999999999]]}",
         "label of \"b.png\": a class from 0 on"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", 1.5]]}", "label of \"b.png\": a class from 0 on"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", 1e0]]}", "label of \"b.png\": a class from 0 on"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", \"1\"]]}", "label of \"b.png\": a class from 0 on"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", null]]}", "label of \"b.png\": a class from 0 on"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", NaN]]}", "label of \"b.png\": a class from 0 on"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", [1]]]}",
         "label of \"b.png\": a vector, where others have classes"},
        {"{\"labels\": [[\"a.png\", [1]], [\"b.png\", 0]]}",
         "label of \"b.png\": a class, where others have vectors"},
        {"{\"labels\": [[\"a.png\", [1]], [\"b.png\", [1, 2]]]}",
         "label of \"b.png\": its vector has another length"},
        {"{\"labels\": [[\"a.png\", []], [\"b.png\", []]]}", "label of \"a.png\": a number is expected"},
        {"{\"labels\": [[\"a.png\", [1e999]], [\"b.png\", [1]]]}", "label of \"a.png\": a number is too large"},
        {"{\"labels\": [[\"a.png\", [1e39]], [\"b.png\", [1]]]}",
         "label of \"a.png\": a number beyond the range of float"},
        {"{\"labels\": [[\"a.png\", [NaN]], [\"b.png\", [1]]]}", "label of \"a.png\": a number is expected"},
        {"{\"labels\": [[\"a.png\", [[[[1]]]]], [\"b.png\", [1]]]}", "label of \"a.png\": a number is expected"},
        {"{\"labels\": [[\"a.png\", 0], [\"a.png\", 0]]}", "label of \"a.png\": a second one"},
        {"{\"labels\": [[\"../a.png\", 0]]}", "label of \"../a.png\": the name leads out of the set"},
        {"{\"labels\": [[\"/a.png\", 0]]}", "label of \"/a.png\": the name leads out of the set"},
        {"{\"labels\": [[\"a.png\", 0, 1], [\"b.png\", 0]]}", "',' or ']' is expected"},
        {"{\"labels\": [[\"a.png\"], [\"b.png\", 0]]}", "bad JSON"},
        {"{\"labels\": [[1, 0]]}", "a string is expected"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", 0]], \"x\": [1, 2,]}", "a value is expected"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", 0]], \"x\": {\"y\" 2}}", "':' is expected"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", 0]], \"x\": [2}}", "',' or ']' is expected"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png\", 0]]", "',' or '}' is expected"},
        {"{\"labels\": [[\"a.png\", 0], [\"b.png", "unfinished string"},
    };
    for (size_t i = 0; i < FDM_ARRAY_LEN(bad); i++) {
        check_archive_refused(two_pictures(bad[i].json), "dataset.json");
        check_archive_refused(two_pictures(bad[i].json), bad[i].mention);
    }
    /* Nested too deep, where it would be a label and where it would be ignored. */
    static char deep[100000];
    memset(deep, '[', sizeof deep - 1);
    memcpy(deep, "{\"labels\": ", 11);
    check_archive_refused(two_pictures(deep), "a string is expected");
    memcpy(deep, "{\"x\": ", 6);
    memcpy(deep + 6, "[[[[[", 5);
    check_archive_refused(two_pictures(deep), "nested too deep");
}
END_TEST

START_TEST(label_vectors) {
    unsigned char *bytes;
    float label[2];
    fdm_error err;
    fdm_dataset *set = open_archive(two_pictures("{\"labels\": [[\"b.png\", [-2.5e1, 3]], [\"a.png\", [0.1, 1]]]}"),
                                    &bytes, &labelled);
    ck_assert_int_eq(fdm_dataset_label_dim(set), 2);
    ck_assert_int_eq(fdm_dataset_label(set, 1, label, &err), FDM_OK);
    ck_assert(label[0] == -25.0f && label[1] == 3.0f);
    ck_assert_int_eq(fdm_dataset_label(set, 0, label, &err), FDM_OK);
    ck_assert(label[0] == 0.1f && label[1] == 1.0f);
    check_refused(fdm_dataset_label(set, 2, label, &err), FDM_BAD_USAGE, &err, "image 2 of a set of 2");
    fdm_dataset_free(&set);
    free(bytes);
    set = open_archive(two_pictures("{\"labels\": garbage"), &bytes, NULL); /* not asked for: not read */
    ck_assert_int_eq(fdm_dataset_label_dim(set), 0);
    fdm_dataset_free(&set);
    free(bytes);
}
END_TEST

START_TEST(bad_names) {
    static const char *const names[] = {"../x.png", "/x.png", "a/../../x.png", "a/./x.png", "a//x.png", "a\\x.png",
                                        "..",       "/",      "../README"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(names); i++) {
        struct archive *a = two_pictures(NULL);
        char mention[64];
        picture(a, names[i], 3, 4, 4, 3);
        snprintf(mention, sizeof mention, "entry \"%s\": the name leads out", names[i]);
        check_archive_refused(a, mention);
    }
    struct archive *a = two_pictures(NULL);
    picture(a, "a.png", 3, 4, 4, 3);
    check_archive_refused(a, "entry \"a.png\" occurs twice");
    a = two_pictures("{\"labels\": null}");
    text(a, "dataset.json", "{\"labels\": null}");
    check_archive_refused(a, "dataset.json occurs twice");
    a = two_pictures(NULL);
    text(a, "c.webp", "RIFF");
    check_archive_refused(a, "entry \"c.webp\": neither PNG nor JPEG; convert it");
    a = fresh();
    text(a, "README", "nothing here");
    check_archive_refused(a, "holds no images");
    check_archive_refused(fresh(), "holds no images");
    a = two_pictures(NULL);
    picture(a, "\xff.png", 3, 4, 4, 3);
    check_archive_refused(a, "not UTF-8");
}
END_TEST

START_TEST(bad_images) {
    static const struct {
        int width, height, channels;
        const char *mention;
    } odd[] = {{5, 5, 3, "entry \"c.png\": 5 x 5 pixels, but \"a.png\" has 4 x 4"},
               {4, 5, 3, "entry \"c.png\": 4 x 5 pixels, not a square"},
               {4, 4, 1, "entry \"c.png\": gray, but \"a.png\" is coloured"},
               {4, 4, 4, "entry \"c.png\": has transparency"}};
    for (size_t i = 0; i < FDM_ARRAY_LEN(odd); i++) {
        struct archive *a = two_pictures(NULL);
        picture(a, "c.png", 3, odd[i].width, odd[i].height, odd[i].channels);
        check_archive_refused(a, odd[i].mention);
    }
    struct archive *a = fresh();
    size_t n;
    uint8_t *png = png_of(&n, 7, 4, 4, 3);
    memcpy(png + 16, "\0\0\x10\x01\0\0\x10\x01", 8); /* sizes are looked at first */
    member(a, "a.png", png, n);
    free(png);
    check_archive_refused(a, "entry \"a.png\": 4097 x 4097 pixels; at most 4096 each way");
    a = two_pictures(NULL);
    text(a, "c.png", "this is no image");
    check_archive_refused(a, "entry \"c.png\": neither a PNG nor a JPEG");
    a = two_pictures(NULL);
    member(a, "c.png", "", 0);
    check_archive_refused(a, "entry \"c.png\": neither a PNG nor a JPEG");
    /* Damaged anywhere: refused, and always by name. */
    png = png_of(&n, 7, 4, 4, 3);
    for (size_t i = 0; i < n; i++)
        for (int kind = 0; kind < 2; kind++) {
            a = two_pictures(NULL);
            png[i] ^= 0x10;
            member(a, "c.png", png, kind ? i : n); /* damaged; or cut off */
            png[i] ^= 0x10;
            check_archive_refused(a, "\"c.png\"");
        }
    free(png);
    /* Only the zip's checksum knows. */
    a = two_pictures(NULL);
    member_raw(a, "README", "x", 1, 1, 0, 0, 0);
    unsigned char *bytes;
    fdm_dataset *set = open_archive(a, &bytes, NULL); /* not an image: nobody's business */
    fdm_dataset_free(&set);
    free(bytes);
    png = png_of(&n, 7, 4, 4, 3);
    a = two_pictures(NULL);
    member_raw(a, "c.png", png, n, n, 12345, 0, 0);
    check_archive_refused(a, "member \"c.png\": checksum error");
    free(png);
}
END_TEST

START_TEST(bad_archives) {
    size_t n;
    uint8_t *png = png_of(&n, 7, 4, 4, 3), *zeros = calloc(3000000, 1);
    uint32_t crc = (uint32_t)crc32(0, png, (uInt)n);
    struct archive *a = two_pictures(NULL);
    member_raw(a, "c.png", png, n, n, crc, 0, 1);
    check_archive_refused(a, "member \"c.png\": is encrypted");
    a = two_pictures(NULL);
    member_raw(a, "c.png", png, n, n, crc, 12, 0);
    check_archive_refused(a, "member \"c.png\": compression method 12");
    a = two_pictures(NULL);
    member_raw(a, "c.png", png, n, n - 1, crc, 0, 0);
    check_archive_refused(a, "member \"c.png\": stored in two sizes");
    a = two_pictures(NULL);
    member_raw(a, "c.png", png, n, 1u << 30, crc, 8, 0);
    check_archive_refused(a, "member \"c.png\": claims to unpack from");
    a = two_pictures(NULL);
    member_raw(a, "c.png", png, n, 0xffffffffu, crc, 0, 0); /* speaks of a zip64 field that is not there */
    check_archive_refused(a, "member \"c.png\"");
    a = two_pictures(NULL);
    member_raw(a, "c.png", png, n, n + 1000, crc, 8, 0);
    check_archive_refused(a, "member \"c.png\"");
    /* Bombs within deflate's own limits. */
    a = two_pictures(NULL);
    member_deflated(a, "c.png", zeros, 3000000);
    check_archive_refused(a, "entry \"c.png\": 3000000 bytes are beyond the limit");
    a = two_pictures(NULL);
    memset(zeros, ' ', 3000000);
    member_deflated(a, "dataset.json", zeros, 3000000);
    check_archive_refused(a, "entry \"dataset.json\": 3000000 bytes are beyond the limit");
    /* Unpacks to more, and to less, than it says. */
    a = two_pictures(NULL);
    member_deflated(a, "c.png", png, n);
    put(a->central + a->last + 24, n - 1, 4);
    put(a->bytes + get_header(a) + 22, n - 1, 4);
    check_archive_refused(a, "member \"c.png\": does not unpack to just what it claims");
    a = two_pictures(NULL);
    member_deflated(a, "c.png", png, n);
    put(a->central + a->last + 24, n + 1, 4);
    put(a->bytes + get_header(a) + 22, n + 1, 4);
    check_archive_refused(a, "member \"c.png\": unpacks to less than it claims");
    /* Truncated anywhere. */
    unsigned char *bytes = finished(two_pictures(NULL), &n);
    for (size_t cut = 0; cut < n; cut++) {
        unsigned char *exact = copy_bytes(bytes, cut);
        fdm_error err = {.status = FDM_OK};
        check_refused(use_bytes(exact, cut, &err), FDM_BAD_INPUT, &err, "set.zip");
        free(exact);
    }
    free(bytes);
    free(png);
    free(zeros);
}
END_TEST

/* ---- JPEG -------------------------------------------------------------------------------------------------- */

START_TEST(jpegs) {
    static const struct {
        const char *file;
        int side, channels;
    } good[] = {{"baseline.jpg", 16, 3},
                {"progressive.jpg", 16, 3},
                {"gray.jpg", 16, 1},
                {"restart.jpg", 32, 3},
                {"odd.jpg", 17, 3}};
    fdm_error err = {.status = FDM_OK};
    fdm_image image;
    struct fdm_image_info info;
    char path[200];
    size_t n;
    int refused = 0, accepted = 0;
    for (size_t i = 0; i < FDM_ARRAY_LEN(good); i++) {
        snprintf(path, sizeof path, "tests/corpus/jpeg/%s", good[i].file);
        unsigned char *bytes = read_bytes(path, &n);
        ck_assert_msg(fdm_image_decode(&image, bytes, n, path, &err) == FDM_OK, "%s", err.message);
        ck_assert(image.width == good[i].side && image.height == good[i].side &&
                  image.channels == good[i].channels);
        ck_assert_int_eq(fdm_image_probe(&info, bytes, n, path, &err), FDM_OK);
        ck_assert(info.width == good[i].side && info.height == good[i].side && info.channels == good[i].channels);
        /* What was drawn: (16x, 16y, 128 in the disc or 30), as far as JPEG keeps it. */
        double worst = 0;
        for (int y = 0; y < good[i].side && good[i].channels == 3 && good[i].side == 16; y++)
            for (int x = 0; x < 16; x++) {
                double d = image.pixels[3 * (16 * y + x) + 1] - 16.0 * y;
                worst = d * d > worst * worst ? d : worst;
            }
        printf("%s: green at most %.0f of 255 off\n", good[i].file, worst);
        ck_assert(worst * worst < 60 * 60);
        fdm_image_free(&image);
        /* Cut off anywhere: refused.  A byte damaged: refused, or an image of some size. */
        for (size_t cut = 0; cut < n; cut++) {
            unsigned char *exact = copy_bytes(bytes, cut);
            check_refused(fdm_image_decode(&image, exact, cut, "cut.jpg", &err), FDM_BAD_INPUT, &err, "cut.jpg");
            ck_assert_ptr_null(image.pixels);
            memcpy(exact, bytes, cut);
            free(exact);
            exact = copy_bytes(bytes, n);
            exact[cut] ^= 0x55;
            fdm_status status = fdm_image_decode(&image, exact, n, "damaged.jpg", &err);
            if (status) check_refused(status, FDM_BAD_INPUT, &err, "damaged.jpg");
            *(status ? &refused : &accepted) += 1;
            fdm_image_free(&image);
            free(exact);
        }
        free(bytes);
    }
    printf("JPEG, one byte damaged: %d refused, %d accepted (the format has no checksum)\n", refused, accepted);
    unsigned char *cmyk = read_bytes("tests/corpus/jpeg/cmyk.jpg", &n);
    check_refused(fdm_image_decode(&image, cmyk, n, "cmyk.jpg", &err), FDM_BAD_INPUT, &err,
                  "4 colour components; save it as");
    free(cmyk);
}
END_TEST

/* Tables that stb would take as they are: written beyond their ends, or used without having been given. */
START_TEST(jpeg_tables) {
    size_t n, at = 0;
    fdm_error err;
    fdm_image image;
    unsigned char *bytes = read_bytes("tests/corpus/jpeg/gray.jpg", &n);
    while (bytes[at] != 0xff || bytes[at + 1] != 0xc4) at++; /* the first Huffman table */
    unsigned char *counts = bytes + at + 5, *quantiser = bytes;
    while (quantiser[0] != 0xff || quantiser[1] != 0xdb) quantiser++;
    counts[0] += 3;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err,
                  "more Huffman codes of 1 bits");
    counts[0] -= 3;
    unsigned char kept[16];
    memcpy(kept, counts, sizeof kept);
    memset(counts, 0, sizeof kept);
    counts[8] = counts[9] = 150;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err,
                  "Huffman table of 300 codes");
    memcpy(counts, kept, sizeof kept);
    counts[-1] = 0x21;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err, "damaged Huffman table");
    counts[-1] = 0x01;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err,
                  "Huffman tables are missing");
    counts[-1] = 0x00;
    quantiser[4] = 1;
    check_refused(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_BAD_INPUT, &err,
                  "quantisation table is missing");
    quantiser[4] = 0;
    ck_assert_int_eq(fdm_image_decode(&image, bytes, n, "t.jpg", &err), FDM_OK);
    fdm_image_free(&image);
    free(bytes);
}
END_TEST

/* ---- Originals --------------------------------------------------------------------------------------------- */

#define P(pickle) (pickle), sizeof(pickle) - 1
START_TEST(cifar_and_mnist) {
    static const char *const files[] = {"batch.pickle", "batch4.pickle"};
    fdm_error err = {.status = FDM_OK};
    char path[200];
    size_t n;
    for (int f = 0; f < 2; f++) {
        struct fdm_originals set = {.count = 0};
        snprintf(path, sizeof path, "tests/corpus/dataset/%s", files[f]);
        unsigned char *bytes = read_bytes(path, &n);
        ck_assert_msg(fdm_cifar_pickle_parse(&set, bytes, n, path, &err) == FDM_OK, "%s", err.message);
        ck_assert(set.count == 1 && set.height == 32 && set.width == 32 && set.channels == 3);
        ck_assert_int_eq(set.classes[0], f ? 0 : 6);
        for (int i = 0; i < 3072; i++) /* planes in the file, pixels here */
            ck_assert_uint_eq(set.pixels[(i % 1024) * 3 + i / 1024], (unsigned)(i * 7 + i / 32) % 256);
        ck_assert_int_eq(fdm_cifar_pickle_parse(&set, bytes, n, path, &err), FDM_OK); /* adds another one */
        ck_assert_uint_eq(set.count, 2);
        fdm_originals_free(&set);
        for (size_t cut = 0; cut < n; cut += cut < 200 || cut + 200 > n ? 1 : 37) {
            unsigned char *exact = copy_bytes(bytes, cut);
            check_refused(fdm_cifar_pickle_parse(&set, exact, cut, "cut", &err), FDM_BAD_INPUT, &err, "cut");
            free(exact);
            fdm_originals_free(&set);
        }
        free(bytes);
    }
    static const struct {
        const char *pickle;
        size_t n;
        const char *mention;
    } bad[] = {{P("\x80\x02"
                  "cos\nsystem\nU\x04"
                  "true\x85R."),
                "names os.system"}, /* refused before it could be called */
               {P("\x80\x02"
                  "cos\nsystem\n)\x81."),
                "names os.system"},
               {P("cos\nsystem\n(S'true'\ntR."), "no pickle of protocol 2 to 5"},
               {"\x80\x02}.", 4, "no \"data\""},
               {P("\x80\x02h\x05."), "a memo that was never written"},
               {P("\x80\x02]]ae."), "no mark"},
               {P("\x80\x02u."), "no mark"},
               {P("\x80\x02T\xff\xff\xff\x7f."), "a string is cut off"},
               {P("\x80\x02r\xff\xff\xff\xff."), "nothing to remember"},
               {P("\x80\x02Nr\xff\xff\xff\xff."), "a memo beyond what it can have written"},
               {P("\x80\x06N."), "protocol not 2 to 5"},
               {P("\x80\x02."), "not one value"},
               {P("\x80\x02]q\x00h\x00"
                  "a."),
                "no \"data\""}}; /* a list in itself */
    for (size_t i = 0; i < FDM_ARRAY_LEN(bad); i++) {
        struct fdm_originals set = {.count = 0};
        unsigned char *exact = copy_bytes(bad[i].pickle, bad[i].n);
        check_refused(fdm_cifar_pickle_parse(&set, exact, bad[i].n, "bad", &err), FDM_BAD_INPUT, &err,
                      bad[i].mention);
        free(exact);
        fdm_originals_free(&set);
    }
    static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 3, 9};
    unsigned char *idx = read_bytes("tests/corpus/dataset/digits.idx", &n);
    for (int border = 0; border < 2; border++) {
        struct fdm_originals set = {.count = 0};
        ck_assert_msg(fdm_mnist_parse(&set, idx, n, labels, sizeof labels, border, "m", &err) == FDM_OK, "%s",
                      err.message);
        const int side = border ? 32 : 28;
        ck_assert(set.count == 2 && set.height == side && set.width == side && set.channels == 1);
        ck_assert(set.classes[0] == 3 && set.classes[1] == 9);
        for (int i = 0; i < 2 * side * side; i++) {
            int y = i / side % side - 2 * border, x = i % side - 2 * border;
            bool inside = x >= 0 && x < 28 && y >= 0 && y < 28;
            ck_assert_uint_eq(set.pixels[i], inside ? (unsigned)(i / (side * side) * 784 + y * 28 + x) % 251 : 0);
        }
        fdm_originals_free(&set);
        check_refused(fdm_mnist_parse(&set, idx, n - 1, labels, sizeof labels, border, "m", &err), FDM_BAD_INPUT,
                      &err, "do not make");
        check_refused(fdm_mnist_parse(&set, idx, n, labels, sizeof labels - 1, border, "m", &err), FDM_BAD_INPUT,
                      &err, "labels");
        check_refused(fdm_mnist_parse(&set, idx, 15, labels, sizeof labels, border, "m", &err), FDM_BAD_INPUT, &err,
                      "no idx3");
        ck_assert_ptr_null(set.pixels);
    }
    free(idx);
}
END_TEST

START_TEST(resizing) {
    enum { W = 40, H = 24 };
    fdm_image in = {.width = W, .height = H, .channels = 3, .pixels = malloc((size_t)W * H * 3)}, out;
    fdm_error err;
    for (int i = 0; i < W * H * 3; i++)
        in.pixels[i] = (uint8_t)(i % 3 == 0 ? 5 * (i / 3 % W) : i % 3 == 1 ? 200 : 10 * (i / 3 / W));
    const struct fdm_rectangle all = {0, 0, W, H}, part = {8, 4, 16, 16};
    ck_assert_int_eq(fdm_image_resize(&out, &in, part, 16, 16, &err), FDM_OK); /* cut out, not filtered */
    for (int i = 0; i < 16 * 16; i++)
        ck_assert(memcmp(out.pixels + 3 * i, in.pixels + 3 * ((i / 16 + 4) * W + i % 16 + 8), 3) == 0);
    fdm_image_free(&out);
    static const int sizes[][2] = {{20, 12}, {10, 6}, {80, 48}, {7, 5}, {1, 1}, {40, 1}, {39, 24}};
    double worst = 0;
    for (size_t s = 0; s < FDM_ARRAY_LEN(sizes); s++) {
        const int w = sizes[s][0], h = sizes[s][1];
        ck_assert_int_eq(fdm_image_resize(&out, &in, all, w, h, &err), FDM_OK);
        ck_assert(out.width == w && out.height == h && out.channels == 3);
        for (int i = 0; i < w * h; i++) { /* a constant stays, a slope keeps its place, away from the edges */
            double x = (i % w + 0.5) * W / w - 0.5, d = out.pixels[3 * i] - 5 * x,
                   margin = 3.0 * (W > w ? (double)W / w : 1);
            ck_assert_uint_eq(out.pixels[3 * i + 1], 200);
            if (x > margin && x < W - 1 - margin && d * d > worst * worst) worst = d;
        }
        fdm_image_free(&out);
    }
    printf("resize: a slope is at most %.2f grey levels off\n", worst);
    ck_assert(worst * worst < 4);
    /* The finest pattern averages out: no aliasing. */
    for (int i = 0; i < W * H * 3; i++) in.pixels[i] = i / 3 % 2 ? 255 : 0;
    ck_assert_int_eq(fdm_image_resize(&out, &in, all, 10, 6, &err), FDM_OK);
    for (int i = 2; i < 8; i++) ck_assert(out.pixels[3 * i] > 125 && out.pixels[3 * i] < 131);
    fdm_image_free(&out);
    fdm_image_free(&in);
}
END_TEST

/* ---- Reading ahead ----------------------------------------------------------------------------------------- */

struct order {
    int64_t at, count, step, calls;
};

static int64_t next_of(void *user) {
    struct order *o = user;
    int64_t index = o->at;
    o->at = (o->at + o->step) % o->count;
    o->calls++;
    return index;
}

START_TEST(reading_ahead) {
    const fdm_dataset_options options = {.use_labels = true, .xflip = true, .cache_bytes = 4000};
    static const int64_t depths[] = {0, 1, 2, 7, 64};
    fdm_dataset *set;
    fdm_error err = {.status = FDM_OK};
    ck_assert_int_eq(fdm_dataset_open(&set, FDM_TEST_GOLDEN_DIR "/data_toy16.zip", &options, &err), FDM_OK);
    for (size_t d = 0; d < FDM_ARRAY_LEN(depths); d++) {
        struct order order = {.count = 20, .step = 7};
        fdm_loader *loader;
        ck_assert_msg(fdm_loader_open(&loader, set, next_of, &order, depths[d], &err) == FDM_OK, "%s", err.message);
        int64_t handed = 0;
        for (int64_t n = 0; n < 12; n++) {
            uint8_t pixels[12 * 768], expected[768];
            float labels[12 * 10], label[10];
            int64_t indices[12], pending[64];
            ck_assert_msg(fdm_loader_next(loader, n, pixels, n % 3 ? labels : NULL, indices, &err) == FDM_OK, "%s",
                          err.message);
            for (int64_t i = 0; i < n; i++, handed++) {
                ck_assert_int_eq(indices[i], handed * 7 % 20);
                ck_assert_int_eq(fdm_dataset_image(set, indices[i], expected, &err), FDM_OK);
                ck_assert(memcmp(pixels + i * 768, expected, 768) == 0);
                ck_assert_int_eq(fdm_dataset_label(set, indices[i], label, &err), FDM_OK);
                if (n % 3) ck_assert(memcmp(labels + i * 10, label, sizeof label) == 0);
            }
            ck_assert_int_eq(order.calls, handed + depths[d]);
            fdm_loader_pending(loader, pending);
            for (int64_t i = 0; i < depths[d]; i++) ck_assert_int_eq(pending[i], (handed + i) * 7 % 20);
        }
        fdm_loader_close(&loader);
        ck_assert_ptr_null(loader);
    }
    /* Closed at any moment, used or not. */
    for (int i = 0; i < 200; i++) {
        struct order order = {.count = 20, .step = 3};
        fdm_loader *loader;
        uint8_t pixels[768];
        ck_assert_int_eq(fdm_loader_open(&loader, set, next_of, &order, 1 + i % 16, &err), FDM_OK);
        for (int k = 0; k < i % 5; k++)
            ck_assert_int_eq(fdm_loader_next(loader, 1, pixels, NULL, NULL, &err), FDM_OK);
        fdm_loader_close(&loader);
    }
    struct order order = {.count = 1, .step = 0};
    fdm_loader *loader;
    check_refused(fdm_loader_open(&loader, set, next_of, &order, -1, &err), FDM_BAD_USAGE, &err, "-1 images");
    ck_assert_ptr_null(loader);
    fdm_dataset_free(&set);
}
END_TEST

START_TEST(errors_ahead) {
    struct archive *a = two_pictures(NULL);
    unsigned char *bytes;
    size_t n;
    uint8_t *png = png_of(&n, 7, 4, 4, 3), pixels[10 * 48];
    png[n - 20] ^= 1;
    member(a, "c.png", png, n);
    free(png);
    fdm_dataset *set = open_archive(a, &bytes, NULL);
    for (int64_t depth = 0; depth < 9; depth++) {
        struct order order = {.count = 3, .step = 1};
        fdm_loader *loader;
        fdm_error err = {.status = FDM_OK};
        int64_t indices[3];
        ck_assert_int_eq(fdm_loader_open(&loader, set, next_of, &order, depth, &err), FDM_OK);
        ck_assert_int_eq(fdm_loader_next(loader, 2, pixels, NULL, indices, &err),
                         FDM_OK); /* the good ones before it */
        ck_assert(indices[0] == 0 && indices[1] == 1);
        for (int again = 0; again < 2; again++) {
            err.status = FDM_OK;
            check_refused(fdm_loader_next(loader, 2, pixels, NULL, NULL, &err), FDM_BAD_INPUT, &err,
                          "set.zip: entry \"c.png\"");
        }
        ck_assert_int_eq(fdm_loader_next(loader, 1, pixels, NULL, NULL, NULL), FDM_BAD_INPUT);
        fdm_loader_close(&loader);
        order = (struct order){.at = 3, .count = 4};
        ck_assert_int_eq(fdm_loader_open(&loader, set, next_of, &order, depth, &err), FDM_OK);
        check_refused(fdm_loader_next(loader, 1, pixels, NULL, NULL, &err), FDM_BAD_USAGE, &err,
                      "image 3 of a set of 3");
        fdm_loader_close(&loader);
    }
    fdm_dataset_free(&set);
    free(bytes);
}
END_TEST

/* ---- Out of memory ----------------------------------------------------------------------------------------- */

struct oom_input {
    const unsigned char *bytes;
    size_t n;
    char folder[600];
    int wrong_messages;
};

static bool oom_body(void *argument) {
    struct oom_input *in = argument;
    const fdm_dataset_options options = {.use_labels = true, .xflip = true};
    fdm_dataset *set;
    fdm_loader *loader = NULL;
    fdm_error err = {.status = FDM_OK};
    uint8_t pixels[48];
    struct order order = {.count = 4, .step = 1};
    fdm_status status = in->bytes ? fdm_dataset_parse(&set, in->bytes, in->n, "oom.zip", &options, &err)
                                  : fdm_dataset_open(&set, in->folder, &options, &err);
    if (!status) status = fdm_loader_open(&loader, set, next_of, &order, 0, &err);
    for (int i = 0; i < 4 && !status; i++) status = fdm_loader_next(loader, 1, pixels, NULL, NULL, &err);
    if (status && !is_refusal(status, FDM_NO_RESOURCE, &err, NULL)) in->wrong_messages++;
    fdm_loader_close(&loader);
    fdm_dataset_free(&set);
    return status == FDM_OK;
}

START_TEST(out_of_memory) {
    struct archive *a = fresh();
    struct oom_input in = {.wrong_messages = 0};
    size_t n;
    uint8_t *png = png_of(&n, 2, 4, 4, 3);
    picture(a, "a.png", 1, 4, 4, 3);
    member_deflated(a, "b.png", png, n);
    text(a, "dataset.json", "{\"labels\": [[\"a.png\", [1, 2]], [\"b.png\", [3, 4]]]}");
    unsigned char *bytes = finished(a, &in.n);
    in.bytes = bytes;
    ck_assert_int_ge(oom_sweep("archive", oom_body, &in), 0);
    ck_assert_int_eq(in.wrong_messages, 0);
    make_folder("oom");
    write_bytes(scratch("oom/a.png"), png, n);
    write_bytes(scratch("oom/b.png"), png, n);
    in.bytes = NULL;
    snprintf(in.folder, sizeof in.folder, "%s", scratch("oom"));
    ck_assert_int_ge(oom_sweep("folder", oom_body, &in), 0);
    ck_assert_int_eq(in.wrong_messages, 0);
    remove(scratch("oom/a.png"));
    remove(scratch("oom/b.png"));
    free(png);
    free(bytes);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dataset");
    TCase *tc = tcase_create("dataset");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, published_set);
    tcase_add_test(tc, archives);
    tcase_add_test(tc, folders);
    tcase_add_test(tc, bad_labels);
    tcase_add_test(tc, label_vectors);
    tcase_add_test(tc, bad_names);
    tcase_add_test(tc, bad_images);
    tcase_add_test(tc, bad_archives);
    tcase_add_test(tc, jpegs);
    tcase_add_test(tc, jpeg_tables);
    tcase_add_test(tc, cifar_and_mnist);
    tcase_add_test(tc, resizing);
    tcase_add_test(tc, reading_ahead);
    tcase_add_test(tc, errors_ahead);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
