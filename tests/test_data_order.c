/* test_data_order.c - index streams of the published sampler, subsets, saving and restoring, the order of recorded
 * runs. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/data_order.h"
#include "golden.h"
#include "io_util.h"
#include "oom.h"
#include "suite.h"

static fdm_data_order order_of(int64_t count, uint32_t seed, int rank, int replicas) {
    fdm_data_order order;
    fdm_error err;
    ck_assert_msg(fdm_data_order_init(&order, count, seed, rank, replicas, &err) == FDM_OK, "%s", err.message);
    return order;
}

START_TEST(published_streams) {
    fdm_tensors set;
    int streams = 0;
    golden_load(&set, "data_order.safetensors");
    for (size_t i = 0; i < set.count; i++) {
        const fdm_tensor *t = &set.items[i];
        int64_t count;
        uint32_t seed;
        int rank, replicas;
        if (sscanf(t->name, "infinite.n%" SCNd64 ".seed%" SCNu32 ".rank%dof%d", &count, &seed, &rank, &replicas) != 4)
            continue;
        fdm_data_order order = order_of(count, seed, rank, replicas);
        for (int64_t k = 0; k < fdm_tensor_numel(t); k++) {
            const int64_t got = fdm_data_order_next(&order), want = ((const int64_t *)t->data)[k];
            ck_assert_msg(got == want, "%s[%" PRId64 "] is %" PRId64 ", not %" PRId64, t->name, k, got, want);
        }
        fdm_data_order_free(&order);
        streams++;
    }
    printf("  %d streams exact\n", streams);
    ck_assert_int_eq(streams, 45);
    fdm_tensors_free(&set);
}
END_TEST

/* Half the list, and halves to even, as numpy rounds. */
START_TEST(windows) {
    static const int64_t half[] = {0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6, 6, 6};
    for (int64_t count = 1; count <= 13; count++) {
        fdm_data_order order = order_of(count, 1, 0, 1);
        ck_assert_int_eq(order.window, half[count - 1]);
        fdm_data_order_free(&order);
    }
}
END_TEST

START_TEST(published_subsets) {
    fdm_tensors set;
    fdm_error err;
    int subsets = 0;
    golden_load(&set, "data_order.safetensors");
    for (size_t i = 0; i < set.count; i++) {
        const fdm_tensor *t = &set.items[i];
        int64_t count, max_size, got[1001];
        uint32_t seed;
        if (sscanf(t->name, "max_size.n%" SCNd64 ".max%" SCNd64 ".seed%" SCNu32, &count, &max_size, &seed) != 3)
            continue;
        ck_assert_int_le(count, 1001);
        ck_assert_int_eq(fdm_tensor_numel(t), max_size);
        ck_assert_int_eq(fdm_data_order_subset(got, max_size, count, seed, &err), FDM_OK);
        for (int64_t k = 0; k < max_size; k++) ck_assert_int_eq(got[k], ((const int64_t *)t->data)[k]);
        subsets++;
    }
    ck_assert_int_eq(subsets, 3);
    int64_t all[7];
    ck_assert_int_eq(fdm_data_order_subset(all, 9, 7, 1, &err), FDM_OK);
    for (int i = 0; i < 7; i++) ck_assert_int_eq(all[i], i);
    check_refused(fdm_data_order_subset(all, 0, 7, 1, &err), FDM_BAD_USAGE, &err, "positive");
    check_refused(fdm_data_order_subset(all, 3, 0, 1, &err), FDM_BAD_USAGE, &err, "positive");
    fdm_tensors_free(&set);
}
END_TEST

/* The images of the recorded updates are those that the loop's seed puts in order; bytes b as b/127.5 - 1 in f32. */
START_TEST(order_of_recorded_runs) {
    static const struct {
        const char *file;
        uint32_t seed;
    } runs[] = {{"train_FDM_EDMPrecond_ddpmpp_mc8.safetensors", 11}, {"train_VPPrecond_ddpmpp_mc8.safetensors", 13}};
    enum { IMAGE = 3 * 16 * 16, LABELS = 10 };
    fdm_tensors data, run;
    golden_load(&data, "data_order.safetensors");
    const fdm_tensor *images = golden_get(&data, "zip.", "images");
    const float *labels = golden_f32(&data, "zip.", "labels");
    for (int r = 0; r < 2; r++) {
        golden_load(&run, runs[r].file);
        fdm_data_order order = order_of(10, runs[r].seed, 0, 1);
        for (int step = 1; step <= 5; step++) {
            char prefix[16];
            snprintf(prefix, sizeof prefix, "s%d.r1.", step);
            const float *want = golden_f32(&run, prefix, "images"), *classes = golden_f32(&run, prefix, "class_labels");
            for (int n = 0; n < 4; n++) {
                const int64_t index = fdm_data_order_next(&order);
                const unsigned char *bytes = (const unsigned char *)images->data + index * IMAGE;
                for (int i = 0; i < IMAGE; i++) {
                    const float value = (float)bytes[i] / 127.5f - 1.0f;
                    ck_assert_msg(value == want[n * IMAGE + i], "%s: update %d, image %d is not number %" PRId64,
                                  runs[r].file, step, n, index);
                }
                ck_assert(memcmp(classes + (size_t)n * LABELS, labels + index * LABELS, LABELS * sizeof *labels) == 0);
            }
        }
        fdm_data_order_free(&order);
        fdm_tensors_free(&run);
    }
    fdm_tensors_free(&data);
}
END_TEST

START_TEST(resumes_mid_stream) {
    for (int replicas = 1; replicas <= 3; replicas++) {
        fdm_data_order a = order_of(101, 7, replicas - 1, replicas), b;
        fdm_tensors set = {0};
        fdm_error err;
        for (int k = 0; k < 333; k++) fdm_data_order_next(&a);
        ck_assert_int_eq(fdm_data_order_save(&set, "data.", &a, &err), FDM_OK);
        ck_assert_int_eq(fdm_data_order_restore(&b, &set, "data.", 101, "state", &err), FDM_OK);
        fdm_tensors_free(&set);
        for (int k = 0; k < 1000; k++) ck_assert_int_eq(fdm_data_order_next(&a), fdm_data_order_next(&b));
        fdm_data_order_free(&a);
        fdm_data_order_free(&b);
    }
}
END_TEST

/* A saved state with one thing wrong. */
static void refuse_changed(const char *tensor, int64_t element, int64_t value, const char *mention) {
    fdm_data_order a = order_of(12, 3, 0, 1), b = {.count = 77};
    fdm_tensors set = {0};
    fdm_error err;
    ck_assert_int_eq(fdm_data_order_save(&set, "data.", &a, &err), FDM_OK);
    fdm_tensor *t = fdm_tensors_find(&set, tensor);
    if (element >= 0)
        ((int64_t *)t->data)[element] = value;
    else
        t->name[0] = '?';
    check_refused(fdm_data_order_restore(&b, &set, "data.", value == -77 ? 13 : 12, "state.safetensors", &err),
                  FDM_BAD_INPUT, &err, mention);
    ck_assert_ptr_nonnull(strstr(err.message, "state.safetensors"));
    ck_assert_int_eq(b.count, 77); /* untouched */
    fdm_data_order_free(&a);
    fdm_tensors_free(&set);
}

START_TEST(hostile_states) {
    refuse_changed("data.mt", -1, 0, "data.mt is missing");
    refuse_changed("data.position", -1, 0, "data.position is missing");
    refuse_changed("data.order", -1, 0, "data.order is missing");
    refuse_changed("data.position", 0, 625, "data.position");
    refuse_changed("data.position", 0, -1, "data.position");
    refuse_changed("data.position", 1, -1, "data.position");
    refuse_changed("data.position", 2, 1, "data.position");
    refuse_changed("data.position", 3, INT64_MAX, "data.position");
    refuse_changed("data.position", 3, 0, "data.position");
    refuse_changed("data.order", 4, 12, "element 4 is 12");
    refuse_changed("data.order", 4, INT64_MIN, "data.order");
    refuse_changed("data.order", 0, -77, "I64[12] instead of I64[13]");
    fdm_data_order order;
    fdm_error err;
    check_refused(fdm_data_order_init(&order, 0, 1, 0, 1, &err), FDM_BAD_USAGE, &err, "0 images");
    check_refused(fdm_data_order_init(&order, INT64_MIN, 1, 0, 1, &err), FDM_BAD_USAGE, &err, "images");
    check_refused(fdm_data_order_init(&order, 5, 1, 2, 2, &err), FDM_BAD_USAGE, &err, "rank 2 of 2");
    check_refused(fdm_data_order_init(&order, INT64_MAX, 1, 0, 1, &err), FDM_NO_RESOURCE, &err, "out of memory");
}
END_TEST

static bool save_and_restore(void *arg) {
    (void)arg;
    fdm_data_order a, b;
    fdm_tensors set = {0};
    int64_t subset[5];
    if (fdm_data_order_init(&a, 50, 1, 0, 1, NULL) != FDM_OK) return false;
    bool ok = fdm_data_order_save(&set, "x.", &a, NULL) == FDM_OK;
    if (ok && fdm_data_order_restore(&b, &set, "x.", 50, "memory", NULL) == FDM_OK)
        fdm_data_order_free(&b);
    else
        ok = false;
    ok = ok && fdm_data_order_subset(subset, 5, 50, 1, NULL) == FDM_OK;
    fdm_tensors_free(&set);
    fdm_data_order_free(&a);
    return ok;
}

START_TEST(out_of_memory) {
    ck_assert_int_ge(oom_sweep("data order", save_and_restore, NULL), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("data_order");
    TCase *tc = tcase_create("data_order");
    tcase_add_test(tc, published_streams);
    tcase_add_test(tc, windows);
    tcase_add_test(tc, published_subsets);
    tcase_add_test(tc, order_of_recorded_runs);
    tcase_add_test(tc, resumes_mid_stream);
    tcase_add_test(tc, hostile_states);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
