/* test_metric_ranks.c - quality measures and the classifier over ranks, which are threads here: the bits of one rank, what fails
 * on one rank fails on all, and a slow one is waited for. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "fdm/classifier.h"
#include "fdm/metric.h"
#include "io_util.h"
#include "metric/statistics.h"
#include "synthetic.h"
#include "thread_ranks.h"

enum { N = 41, M = 53, D = 5, IMAGES = 30, COMPONENTS = 4 };
static const int sizes[] = {2, 3, 5};

static void ok(fdm_status status, const fdm_error *err) { ck_assert_msg(status == FDM_OK, "%s", err->message); }

/* Everything that a rank finds. */
struct found {
    fdm_status status;
    fdm_metric_report report;
    double features[IMAGES * COMPONENTS];
    double explained;
};

static void check_same(const struct found *a, const struct found *b) {
    ck_assert_mem_eq(&a->report.frechet, &b->report.frechet, sizeof a->report.frechet);
    ck_assert_mem_eq(&a->report.kernel, &b->report.kernel, sizeof a->report.kernel);
    ck_assert_mem_eq(&a->report.precision, &b->report.precision, sizeof a->report.precision);
    ck_assert_mem_eq(&a->report.recall, &b->report.recall, sizeof a->report.recall);
    ck_assert_mem_eq(a->features, b->features, sizeof a->features);
    ck_assert_mem_eq(&a->explained, &b->explained, sizeof a->explained);
    ck_assert(a->report.d == b->report.d && a->report.blocks == b->report.blocks);
}

struct work {
    fdm_features ref, images;
    struct found found[MAX_THREAD_RANKS];
    int stops; /* the rank that is told to stop, or -1 */
};

static void make_features(fdm_features *x, int64_t n, uint64_t seed) {
    ck_assert_int_eq(fdm_features_alloc(x, n, D, NULL), FDM_OK);
    for (int64_t i = 0; i < n * D; i++)
        x->values[i] = (double)fdm_metric_random(seed, FDM_STREAM_SUBSET, 0, (uint64_t)i, 1 << 20) / (1 << 20);
}

static bool stop_now(void *user) { return *(const bool *)user; }

static void measure(const fdm_ranks *ranks, void *user) {
    struct work *w = user;
    struct found *f = &w->found[fdm_ranks_rank(ranks)];
    bool stopped = fdm_ranks_rank(ranks) == w->stops;
    fdm_metric_options o = fdm_metric_defaults();
    const fdm_metric_side ref = {.features = &w->ref}, images = {.features = &w->images};
    o.bootstrap = 9;
    o.threads = 2;
    o.ranks = ranks;
    o.stop = stop_now;
    o.stop_user = &stopped;
    f->status = fdm_metric_measure(&f->report, &ref, &images, &o, NULL);
}

/* The components of images, and their features in those. */
static void project(struct found *f, const fdm_images *images, const fdm_ranks *ranks) {
    fdm_pca pca = {0};
    fdm_features features = {0};
    fdm_error err;
    ok(fdm_pca_fit(&pca, images, COMPONENTS, 1, ranks, &err), &err);
    const fdm_images share = fdm_images_share(images, ranks);
    ok(fdm_pca_features(&features, &pca, &share, 1, &err), &err);
    ok(fdm_features_gather(&features, IMAGES, ranks, &err), &err);
    ck_assert_int_eq(features.n, IMAGES);
    memcpy(f->features, features.values, sizeof f->features);
    f->explained = pca.explained;
    fdm_features_free(&features);
    fdm_pca_free(&pca);
}

static void read_and_project(const fdm_ranks *ranks, void *user) {
    struct work *w = user;
    fdm_dataset *set;
    fdm_images images = {0};
    fdm_error err;
    ok(fdm_dataset_open(&set, "data/emoji32.zip", &(fdm_dataset_options){.cache_bytes = 1}, &err), &err);
    ok(fdm_images_read(&images, set, IMAGES, 3, ranks, &err), &err);
    project(&w->found[fdm_ranks_rank(ranks)], &images, ranks);
    fdm_images_free(&images);
    fdm_dataset_free(&set);
}

/* Fewer pixels than images, and an odd number of them: the other way to the components. */
static void project_few_pixels(const fdm_ranks *ranks, void *user) {
    struct work *w = user;
    fdm_images images = synthetic_stripes(IMAGES, 3, 3, 2, 1);
    project(&w->found[fdm_ranks_rank(ranks)], &images, ranks);
    fdm_images_free(&images);
}

/* `main` on every number of ranks finds what it finds alone. */
static void same_on_all_ranks(rank_main main) {
    struct work *alone = calloc(1, sizeof *alone), *shared = calloc(1, sizeof *shared);
    ck_assert(alone && shared);
    make_features(&alone->ref, N, 1);
    make_features(&alone->images, M, 2);
    alone->stops = -1;
    main(NULL, alone);
    ck_assert_int_eq(alone->found[0].status, FDM_OK);
    for (size_t i = 0; i < FDM_ARRAY_LEN(sizes); i++) {
        *shared = (struct work){.ref = alone->ref, .images = alone->images, .stops = -1};
        run_thread_ranks(sizes[i], 60, main, shared);
        for (int r = 0; r < sizes[i]; r++) {
            ck_assert_int_eq(shared->found[r].status, FDM_OK);
            check_same(&shared->found[r], &alone->found[0]);
        }
    }
    fdm_features_free(&alone->ref);
    fdm_features_free(&alone->images);
    free(alone);
    free(shared);
}

START_TEST(measures_are_the_same_bits) {
    same_on_all_ranks(measure);
}
END_TEST

START_TEST(images_and_features_are_the_same_bits) {
    same_on_all_ranks(read_and_project);
}
END_TEST

START_TEST(components_of_few_pixels_are_the_same_bits) {
    same_on_all_ranks(project_few_pixels);
}
END_TEST

/* ---- The classifier ---- */

enum { EPOCHS = 8 };

struct course {
    char data[300];
    int slow, stops; /* ranks, or -1 */
    fdm_status status[MAX_THREAD_RANKS];
    uint64_t fingerprint[MAX_THREAD_RANKS];
};

struct pupil {
    const struct course *course;
    int rank, updates;
};

static void be_slow(void *user, int64_t images, int64_t total, double loss) {
    struct pupil *p = user;
    const struct timespec pause = {.tv_nsec = 80000000};
    (void)images, (void)total, (void)loss;
    p->updates++;
    if (p->rank == p->course->slow) (void)nanosleep(&pause, NULL);
}

static bool stop_soon(void *user) {
    const struct pupil *p = user;
    return p->rank == p->course->stops && p->updates == 4;
}

static void learn(const fdm_ranks *ranks, void *user) {
    struct course *course = user;
    struct pupil p = {course, fdm_ranks_rank(ranks), 0};
    const fdm_run_options run = {.threads = 1, .ranks = ranks};
    fdm_classifier_options o = fdm_classifier_defaults();
    fdm_classifier *c;
    fdm_dataset *set;
    fdm_error err;
    o.epochs = EPOCHS;
    o.batch = 9;
    o.progress = be_slow;
    o.stop = stop_soon;
    o.user = &p;
    ok(fdm_dataset_open(&set, course->data, &(fdm_dataset_options){.use_labels = true, .cache_bytes = 1}, &err), &err);
    course->status[p.rank] = fdm_classifier_train(&c, set, &o, &run, &err);
    ck_assert(!c == (course->status[p.rank] != FDM_OK));
    course->status[p.rank] = fdm_ranks_agree(ranks, course->status[p.rank], NULL, &err);
    if (c) course->fingerprint[p.rank] = fdm_classifier_describe(c).fingerprint;
    ck_assert_int_le(p.updates, course->stops < 0 ? 3 * EPOCHS : 6); /* of 3 an epoch: it ends with the one it was stopped in */
    fdm_classifier_free(&c);
    fdm_dataset_free(&set);
}

/* A rank that is slower in every update is further behind at the end than anyone is patient, but not after an epoch. */
START_TEST(a_slow_rank_is_waited_for) {
    struct course alone = {.slow = -1, .stops = -1}, shared;
    const fdm_images images = synthetic_stripes(27, 3, 8, 3, 1);
    snprintf(alone.data, sizeof alone.data, "%s", scratch("classes.zip"));
    synthetic_zip(alone.data, &images, 3);
    shared = alone;
    shared.slow = 1;
    learn(NULL, &alone);
    run_thread_ranks(3, 1.2, learn, &shared);
    for (int r = 0; r < 3; r++) {
        ck_assert_int_eq(shared.status[r], FDM_OK);
        ck_assert(shared.fingerprint[r] == alone.fingerprint[0]);
    }
    shared.slow = -1;
    shared.stops = 2;
    run_thread_ranks(3, 60, learn, &shared);
    for (int r = 0; r < 3; r++) ck_assert_int_eq(shared.status[r], FDM_INTERRUPTED);
    free(images.pixels);
}
END_TEST

START_TEST(one_that_stops_stops_all) {
    struct work *w = calloc(1, sizeof *w);
    ck_assert(w != NULL);
    make_features(&w->ref, N, 1);
    make_features(&w->images, M, 2);
    w->stops = 1;
    run_thread_ranks(3, 60, measure, w);
    for (int r = 0; r < 3; r++) ck_assert_int_eq(w->found[r].status, FDM_INTERRUPTED);
    fdm_features_free(&w->ref);
    fdm_features_free(&w->images);
    free(w);
}
END_TEST

START_TEST(without_lapack) { printf("SKIP: this build has no LAPACK: no measures over ranks\n"); }
END_TEST

int main(void) {
    fdm_gaussian unit = {1, (double[]){0}, (double[]){1}};
    double distance;
    const bool lapack = fdm_frechet_distance(&distance, &unit, &unit, NULL) == FDM_OK;
    Suite *suite = suite_create("metric over ranks");
    TCase *tc = tcase_create("metric");
    tcase_add_test(tc, a_slow_rank_is_waited_for);
    if (!lapack) tcase_add_test(tc, without_lapack);
    if (lapack) {
        tcase_add_test(tc, measures_are_the_same_bits);
        tcase_add_test(tc, images_and_features_are_the_same_bits);
        tcase_add_test(tc, components_of_few_pixels_are_the_same_bits);
        tcase_add_test(tc, one_that_stops_stops_all);
    }
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
