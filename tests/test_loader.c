/* test_loader.c - images read ahead: their order, errors, memory that runs out. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archives.h"
#include "base/base.h"
#include "fdm/dataset.h"
#include "io_util.h"
#include "oom.h"

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
    struct archive *a = archive_of_two(NULL);
    unsigned char *bytes;
    size_t n;
    uint8_t *png = picture_png(&n, 7, 4, 4, 3), pixels[10 * 48];
    png[n - 20] ^= 1;
    archive_member(a, "c.png", png, n);
    free(png);
    fdm_dataset *set = archive_open(a, &bytes, NULL);
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
    struct archive *a = archive_fresh();
    struct oom_input in = {.wrong_messages = 0};
    size_t n;
    uint8_t *png = picture_png(&n, 2, 4, 4, 3);
    archive_picture(a, "a.png", 1, 4, 4, 3);
    archive_member_deflated(a, "b.png", png, n);
    archive_text(a, "dataset.json", "{\"labels\": [[\"a.png\", [1, 2]], [\"b.png\", [3, 4]]]}");
    unsigned char *bytes = archive_finished(a, &in.n);
    in.bytes = bytes;
    ck_assert_int_ge(oom_sweep("archive", oom_body, &in), 0);
    ck_assert_int_eq(in.wrong_messages, 0);
    ck_assert_int_eq(mkdir(scratch("oom"), 0777), 0);
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
    Suite *suite = suite_create("loader");
    TCase *tc = tcase_create("loader");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, reading_ahead);
    tcase_add_test(tc, errors_ahead);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
