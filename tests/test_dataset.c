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
static void member_raw(struct archive *a, const char *name, const void *packed, size_t n, size_t unpacked, uint32_t crc,
                       int method, int flags) {
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
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)bytes, .avail_in = (uInt)n, .next_out = packed, .avail_out = sizeof packed};
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t packed_bytes = sizeof packed - z.avail_out;
    deflateEnd(&z);
    member_raw(a, name, packed, packed_bytes, n, (uint32_t)crc32(0, bytes, (uInt)n), 8, 0);
}

static void text(struct archive *a, const char *name, const char *s) { member(a, name, s, strlen(s)); }

/* The pixel that `picture` puts at (c, y, x) of image `seed`. */
static uint8_t pixel_of(int seed, int c, int y, int x) { return (uint8_t)(seed * 37 + c * 91 + y * 11 + x * 5 + x * y); }

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

__attribute__((unused)) static void check_archive_refused(const struct archive *a, const char *mention) {
    size_t n;
    unsigned char *bytes = finished(a, &n);
    fdm_error err = {.status = FDM_OK};
    fdm_status status = use_bytes(bytes, n, &err);
    check_refused(status, FDM_BAD_INPUT, &err, "set.zip");
    check_refused(status, FDM_BAD_INPUT, &err, mention);
    free(bytes);
}

static fdm_dataset *open_archive(const struct archive *a, unsigned char **bytes, const fdm_dataset_options *options) {
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
                ck_assert_uint_eq(pixels[(c * side + y) * side + x], pixel_of(seed, c, y, mirrored ? side - 1 - x : x));
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
    static const char json[] = "{\"classes\": [\"x\", {\"y\": [1.5e3, true, null, {}]}], \"labels\": [[\"z.png\", 2], "
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

    check_refused(fdm_dataset_open(&set, scratch("f"), &labelled, &err), FDM_BAD_INPUT, &err, "f/sub/link.png: cannot open");
    ck_assert_ptr_null(set);
    unlink(scratch("f/sub/link.png"));
    ck_assert_int_eq(symlink("..", scratch("f/sub/loop")), 0);
    check_refused(fdm_dataset_open(&set, scratch("f"), NULL, &err), FDM_BAD_INPUT, &err, "entry \"sub/loop\": a link to");
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
        check_refused(fdm_dataset_open(&set, scratch("f"), NULL, &err), FDM_BAD_INPUT, &err, "f/sub/deeper: cannot open");
        chmod(scratch("f/sub/deeper"), 0777);
    }
    make_folder("empty");
    check_refused(fdm_dataset_open(&set, scratch("empty"), NULL, &err), FDM_BAD_INPUT, &err, "holds no images");
    check_refused(fdm_dataset_open(&set, scratch("nowhere"), NULL, &err), FDM_BAD_INPUT, &err, "nowhere: cannot open");
    static const char *const gone[] = {"f/sub/deeper/a.png", "f/sub/deeper", "f/sub/a.jpg",     "f/sub",
                                       "f/.git/a.png",       "f/.git",       "f/dataset.json", "f/notes.txt"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(gone); i++) ck_assert_int_eq(remove(scratch(gone[i])), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dataset");
    TCase *tc = tcase_create("dataset");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, published_set);
    tcase_add_test(tc, archives);
    tcase_add_test(tc, folders);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    scratch_begin();
    srunner_run_all(runner, CK_NORMAL);
    scratch_end();
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures != 0;
}
