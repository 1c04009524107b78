/* test_dataset.c - data sets in archives and folders: against the published reader's output, labels, bad data. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "archives.h"
#include "base/base.h"
#include "fdm/dataset.h"
#include "golden.h"
#include "io/image_file.h"
#include "io_util.h"

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
    unsigned char *bytes = archive_finished(a, &n);
    fdm_error err = {.status = FDM_OK};
    fdm_status status = use_bytes(bytes, n, &err);
    check_refused(status, FDM_BAD_INPUT, &err, "set.zip");
    check_refused(status, FDM_BAD_INPUT, &err, mention);
    free(bytes);
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
                                  picture_pixel(seed, c, y, mirrored ? side - 1 - x : x));
    free(pixels);
}

START_TEST(archives) {
    for (int channels = 1; channels <= 3; channels += 2) {
        struct archive *a = archive_fresh();
        unsigned char *bytes;
        size_t n;
        uint8_t *png = picture_png(&n, 3, 9, 9, channels);
        archive_picture(a, "b/2.PNG", 2, 9, 9, channels);
        archive_text(a, "README", "not an image");
        archive_member(a, "b/", "", 0);
        archive_text(a, "__MACOSX/b/._2.png", "resource fork");
        archive_text(a, "b/.hidden.png", "hidden");
        archive_member_deflated(a, "b/3.png", png, n);
        archive_picture(a, "B/1.png", 1, 9, 9, channels);
        archive_picture(a, "b/10.png", 4, 9, 9, channels);
        const fdm_dataset_options flipped = {.use_labels = true, .xflip = true};
        fdm_dataset *set = archive_open(a, &bytes, &flipped);
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
    uint8_t *png = picture_png(&n, seed, side, side, 3);
    write_bytes(scratch(name), png, n);
    free(png);
}

/* Of two images, one of them under that name and from that seed, and their labels. */
static fdm_dataset_checksums checksum_of(const char *name, int seed, const char *json, bool use_labels) {
    struct archive *a = archive_fresh();
    unsigned char *bytes;
    archive_picture(a, "a.png", 1, 8, 8, 3);
    archive_picture(a, name, seed, 8, 8, 3);
    archive_text(a, "dataset.json", json);
    fdm_dataset *set = archive_open(a, &bytes, &(fdm_dataset_options){.use_labels = use_labels});
    const fdm_dataset_checksums sums = fdm_dataset_checksum(set);
    fdm_dataset_free(&set);
    free(bytes);
    return sums;
}

START_TEST(checksums) {
    static const char classes[] = "{\"labels\": [[\"a.png\", 0], [\"b.png\", 1]]}", others[] = "{\"labels\": [[\"a.png\", 1], [\"b.png\", 0]]}";
    static const char vectors[] = "{\"labels\": [[\"a.png\", [0, 1]], [\"b.png\", [1, 0]]]}";
    const fdm_dataset_checksums first = checksum_of("b.png", 2, classes, true), none = checksum_of("b.png", 2, classes, false);
    const fdm_dataset_checksums again = checksum_of("b.png", 2, classes, true), order = checksum_of("b.png", 2, others, true);
    ck_assert(again.images == first.images && again.labels == first.labels);
    ck_assert(none.images == first.images && none.labels == 0);
    ck_assert(order.images == first.images && order.labels != first.labels);
    ck_assert(checksum_of("b.png", 2, vectors, true).labels != first.labels);
    ck_assert(checksum_of("b.png", 3, classes, true).images != first.images); /* of the same size: nothing is compressed */
    ck_assert(checksum_of("c.png", 2, classes, false).images != first.images);
}
END_TEST

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
        check_archive_refused(archive_of_two(bad[i].json), "dataset.json");
        check_archive_refused(archive_of_two(bad[i].json), bad[i].mention);
    }
    /* Nested too deep, where it would be a label and where it would be ignored. */
    static char deep[100000];
    memset(deep, '[', sizeof deep - 1);
    memcpy(deep, "{\"labels\": ", 11);
    check_archive_refused(archive_of_two(deep), "a string is expected");
    memcpy(deep, "{\"x\": ", 6);
    memcpy(deep + 6, "[[[[[", 5);
    check_archive_refused(archive_of_two(deep), "nested too deep");
}
END_TEST

START_TEST(label_vectors) {
    unsigned char *bytes;
    float label[2];
    fdm_error err;
    fdm_dataset *set = archive_open(archive_of_two("{\"labels\": [[\"b.png\", [-2.5e1, 3]], [\"a.png\", [0.1, 1]]]}"),
                                    &bytes, &labelled);
    ck_assert_int_eq(fdm_dataset_label_dim(set), 2);
    ck_assert_int_eq(fdm_dataset_label(set, 1, label, &err), FDM_OK);
    ck_assert(label[0] == -25.0f && label[1] == 3.0f);
    ck_assert_int_eq(fdm_dataset_label(set, 0, label, &err), FDM_OK);
    ck_assert(label[0] == 0.1f && label[1] == 1.0f);
    check_refused(fdm_dataset_label(set, 2, label, &err), FDM_BAD_USAGE, &err, "image 2 of a set of 2");
    fdm_dataset_free(&set);
    free(bytes);
    set = archive_open(archive_of_two("{\"labels\": garbage"), &bytes, NULL); /* not asked for: not read */
    ck_assert_int_eq(fdm_dataset_label_dim(set), 0);
    fdm_dataset_free(&set);
    free(bytes);
}
END_TEST

START_TEST(bad_names) {
    static const char *const names[] = {"../x.png", "/x.png", "a/../../x.png", "a/./x.png", "a//x.png", "a\\x.png",
                                        "..",       "/",      "../README"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(names); i++) {
        struct archive *a = archive_of_two(NULL);
        char mention[64];
        archive_picture(a, names[i], 3, 4, 4, 3);
        snprintf(mention, sizeof mention, "entry \"%s\": the name leads out", names[i]);
        check_archive_refused(a, mention);
    }
    struct archive *a = archive_of_two(NULL);
    archive_picture(a, "a.png", 3, 4, 4, 3);
    check_archive_refused(a, "entry \"a.png\" occurs twice");
    a = archive_of_two("{\"labels\": null}");
    archive_text(a, "dataset.json", "{\"labels\": null}");
    check_archive_refused(a, "dataset.json occurs twice");
    a = archive_of_two(NULL);
    archive_text(a, "c.webp", "RIFF");
    check_archive_refused(a, "entry \"c.webp\": neither PNG nor JPEG; convert it");
    a = archive_fresh();
    archive_text(a, "README", "nothing here");
    check_archive_refused(a, "holds no images");
    check_archive_refused(archive_fresh(), "holds no images");
    a = archive_of_two(NULL);
    archive_picture(a, "\xff.png", 3, 4, 4, 3);
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
        struct archive *a = archive_of_two(NULL);
        archive_picture(a, "c.png", 3, odd[i].width, odd[i].height, odd[i].channels);
        check_archive_refused(a, odd[i].mention);
    }
    struct archive *a = archive_fresh();
    size_t n;
    uint8_t *png = picture_png(&n, 7, 4, 4, 3);
    memcpy(png + 16, "\0\0\x10\x01\0\0\x10\x01", 8); /* sizes are looked at first */
    archive_member(a, "a.png", png, n);
    free(png);
    check_archive_refused(a, "entry \"a.png\": 4097 x 4097 pixels; at most 4096 each way");
    a = archive_of_two(NULL);
    archive_text(a, "c.png", "this is no image");
    check_archive_refused(a, "entry \"c.png\": neither a PNG nor a JPEG");
    a = archive_of_two(NULL);
    archive_member(a, "c.png", "", 0);
    check_archive_refused(a, "entry \"c.png\": neither a PNG nor a JPEG");
    /* Damaged anywhere: refused, and always by name. */
    png = picture_png(&n, 7, 4, 4, 3);
    for (size_t i = 0; i < n; i++)
        for (int kind = 0; kind < 2; kind++) {
            a = archive_of_two(NULL);
            png[i] ^= 0x10;
            archive_member(a, "c.png", png, kind ? i : n); /* damaged; or cut off */
            png[i] ^= 0x10;
            check_archive_refused(a, "\"c.png\"");
        }
    free(png);
    /* Only the zip's checksum knows. */
    a = archive_of_two(NULL);
    archive_member_raw(a, "README", "x", 1, 1, 0, 0, 0);
    unsigned char *bytes;
    fdm_dataset *set = archive_open(a, &bytes, NULL); /* not an image: nobody's business */
    fdm_dataset_free(&set);
    free(bytes);
    png = picture_png(&n, 7, 4, 4, 3);
    a = archive_of_two(NULL);
    archive_member_raw(a, "c.png", png, n, n, 12345, 0, 0);
    check_archive_refused(a, "member \"c.png\": checksum error");
    free(png);
}
END_TEST

START_TEST(bad_archives) {
    size_t n;
    uint8_t *png = picture_png(&n, 7, 4, 4, 3), *zeros = calloc(3000000, 1);
    uint32_t crc = (uint32_t)crc32(0, png, (uInt)n);
    struct archive *a = archive_of_two(NULL);
    archive_member_raw(a, "c.png", png, n, n, crc, 0, 1);
    check_archive_refused(a, "member \"c.png\": is encrypted");
    a = archive_of_two(NULL);
    archive_member_raw(a, "c.png", png, n, n, crc, 12, 0);
    check_archive_refused(a, "member \"c.png\": compression method 12");
    a = archive_of_two(NULL);
    archive_member_raw(a, "c.png", png, n, n - 1, crc, 0, 0);
    check_archive_refused(a, "member \"c.png\": stored in two sizes");
    a = archive_of_two(NULL);
    archive_member_raw(a, "c.png", png, n, 1u << 30, crc, 8, 0);
    check_archive_refused(a, "member \"c.png\": claims to unpack from");
    a = archive_of_two(NULL);
    archive_member_raw(a, "c.png", png, n, 0xffffffffu, crc, 0, 0); /* speaks of a zip64 field that is not there */
    check_archive_refused(a, "member \"c.png\"");
    a = archive_of_two(NULL);
    archive_member_raw(a, "c.png", png, n, n + 1000, crc, 8, 0);
    check_archive_refused(a, "member \"c.png\"");
    /* Bombs within deflate's own limits. */
    a = archive_of_two(NULL);
    archive_member_deflated(a, "c.png", zeros, 3000000);
    check_archive_refused(a, "entry \"c.png\": 3000000 bytes are beyond the limit");
    a = archive_of_two(NULL);
    memset(zeros, ' ', 3000000);
    archive_member_deflated(a, "dataset.json", zeros, 3000000);
    check_archive_refused(a, "entry \"dataset.json\": 3000000 bytes are beyond the limit");
    /* Unpacks to more, and to less, than it says. */
    a = archive_of_two(NULL);
    archive_member_deflated(a, "c.png", png, n);
    archive_put(a->central + a->last + 24, n - 1, 4);
    archive_put(a->bytes + archive_last_header(a) + 22, n - 1, 4);
    check_archive_refused(a, "member \"c.png\": does not unpack to just what it claims");
    a = archive_of_two(NULL);
    archive_member_deflated(a, "c.png", png, n);
    archive_put(a->central + a->last + 24, n + 1, 4);
    archive_put(a->bytes + archive_last_header(a) + 22, n + 1, 4);
    check_archive_refused(a, "member \"c.png\": unpacks to less than it claims");
    /* Truncated anywhere. */
    unsigned char *bytes = archive_finished(archive_of_two(NULL), &n);
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

int main(void) {
    Suite *suite = suite_create("dataset");
    TCase *tc = tcase_create("dataset");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, published_set);
    tcase_add_test(tc, archives);
    tcase_add_test(tc, checksums);
    tcase_add_test(tc, folders);
    tcase_add_test(tc, bad_labels);
    tcase_add_test(tc, label_vectors);
    tcase_add_test(tc, bad_names);
    tcase_add_test(tc, bad_images);
    tcase_add_test(tc, bad_archives);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
