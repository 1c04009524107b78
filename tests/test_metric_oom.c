/* test_metric_oom.c - measures, components, statistics files and the classifier, in which each allocation fails in turn:
 * nothing leaks, nothing crashes, every failure is one line. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fdm/classifier.h"
#include "fdm/metric.h"
#include "io_util.h"
#include "oom.h"
#include "suite.h"
#include "synthetic.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

struct job {
    fdm_images images;
    fdm_features x;
    char zip[512], stats[512], classifier[512];
    char problem[400]; /* the first failure that was not told as one; asserting would allocate */
};

/* Out of memory, and said so; jansson alone takes a failed allocation for bad text. */
static bool told(struct job *j, fdm_status status, const fdm_error *err) {
    const bool jansson = status == FDM_BAD_INPUT && (strstr(err->message, "JSON") || strstr(err->message, "json") ||
                                                     strstr(err->message, "metadata"));
    if (status == FDM_OK) return true;
    if (!j->problem[0] && ((status != FDM_NO_RESOURCE && !jansson) || !err->message[0] || strchr(err->message, '\n')))
        snprintf(j->problem, sizeof j->problem, "status %d: %.300s", status, err->message);
    return false;
}

static bool measures(void *arg) {
    struct job *j = arg;
    const fdm_metric_side side = {.features = &j->x};
    fdm_metric_options options = fdm_metric_defaults();
    fdm_metric_report report;
    fdm_error err = {0};
    options.bootstrap = 3;
    options.threads = 1;
    return told(j, fdm_metric_measure(&report, &side, &side, &options, &err), &err);
}

static bool components(void *arg) {
    struct job *j = arg;
    fdm_metric_stats stats = {0}, read = {0};
    fdm_images half = {0}, other = {0};
    fdm_error err = {0};
    fdm_status status = fdm_images_split(&half, &other, &j->images, 1, &err);
    if (status == FDM_OK) status = fdm_pca_fit(&stats.pca, &half, 3, 1, NULL, &err);
    if (status == FDM_OK) status = fdm_pca_features(&stats.features, &stats.pca, &other, 1, &err);
    if (status == FDM_OK) status = fdm_gaussian_fit(&stats.gaussian, &stats.features, 1, &err);
    if (status == FDM_OK) status = fdm_metric_stats_write(&stats, j->stats, &err);
    if (status == FDM_OK) status = fdm_metric_stats_read(&read, j->stats, true, &err);
    fdm_images_free(&half);
    fdm_images_free(&other);
    fdm_metric_stats_free(&stats);
    fdm_metric_stats_free(&read);
    return told(j, status, &err);
}

static bool classifier(void *arg) {
    struct job *j = arg;
    const fdm_run_options run = {.threads = 1};
    fdm_classifier_options options = fdm_classifier_defaults();
    fdm_classifier *c = NULL, *read = NULL;
    fdm_dataset *set = NULL;
    fdm_features x = {0};
    fdm_error err = {0};
    options.epochs = 1;
    options.batch = 8;
    fdm_status status = fdm_dataset_open(&set, j->zip, &(fdm_dataset_options){.use_labels = true, .cache_bytes = 1}, &err);
    if (status == FDM_OK) status = fdm_classifier_train(&c, set, &options, &run, &err);
    if (status == FDM_OK) status = fdm_classifier_save(c, j->classifier, &err);
    if (status == FDM_OK) status = fdm_classifier_load(&read, j->classifier, &run, &err);
    if (status == FDM_OK) status = fdm_classifier_features(&x, NULL, read, &j->images, &err);
    fdm_features_free(&x);
    fdm_classifier_free(&c);
    fdm_classifier_free(&read);
    fdm_dataset_free(&set);
    return told(j, status, &err);
}

START_TEST(every_allocation) {
    struct job j = {.images = synthetic_stripes(12, 1, 4, 2, 1), .x = synthetic_normal(12, 3, 1)};
    fdm_gaussian g = {0};
    snprintf(j.zip, sizeof j.zip, "%s", scratch("set.zip"));
    snprintf(j.stats, sizeof j.stats, "%s", scratch("stats.npz"));
    snprintf(j.classifier, sizeof j.classifier, "%s", scratch("c.safetensors"));
    synthetic_zip(j.zip, &j.images, 2);
    oom_spare_jansson();
    ck_assert_int_eq(fdm_gaussian_fit(&g, &j.x, 1, NULL), FDM_OK);
    double distance;
    if (fdm_frechet_distance(&distance, &g, &g, NULL) == FDM_OK) {
        ck_assert_int_ge(oom_sweep("measures", measures, &j), 0);
        ck_assert_int_ge(oom_sweep("components, statistics file", components, &j), 0);
    } else {
        printf("SKIP: this build has no LAPACK: no measures\n");
    }
    if (UNDER_ASAN) /* a dynamic schedule after a failed allocation; ASan ends the program for asking */
        printf("SKIP: classifier without memory: LLVM's OpenMP runtime then asks for nearly 2^64 bytes\n");
    else
        ck_assert_int_ge(oom_sweep("classifier", classifier, &j), 0);
    ck_assert_msg(!j.problem[0], "%s", j.problem);
    fdm_gaussian_free(&g);
    fdm_images_free(&j.images);
    fdm_features_free(&j.x);
}
END_TEST

/* LAPACK, which is opened later, is to start no threads: they allocate when they please, and ASan ends the program if
 * there is no memory for one that begins. */
static void keep_lapack_single(void) {
    static const char *const threads[] = {"BLIS_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"};
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) setenv(threads[i], "1", 1);
}

int main(void) {
    keep_lapack_single();
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1); /* where syncing costs nothing */
    scratch_begin();
    Suite *suite = suite_create("metric_oom");
    TCase *tc = tcase_create("metric_oom");
    tcase_add_test(tc, every_allocation);
    suite_add_tcase(suite, tc);
    const int failed = run_suite(suite);
    scratch_end();
    return failed != 0;
}
