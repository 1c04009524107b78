/* test_train_oom.c - gradients, updates and a whole small training run in which each allocation fails in turn: nothing
 * leaks, nothing crashes, every failure is one line. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fdm/init.h"
#include "fdm/train.h"
#include "fdm/trainer.h"
#include "io_util.h"
#include "oom.h"

struct job {
    const char *backend;
    fdm_config config;
    fdm_tensors weights;
    fdm_train_settings settings;
    char run[256];
    bool resume;
    char problem[400]; /* the first failure that was not told as one; asserting would allocate */
};

static fdm_config tiny_config(void) {
    fdm_config c;
    ck_assert_int_eq(fdm_config_init(&c, FDM_PRECOND_FDM_EDM, NULL), FDM_OK);
    c.img_resolution = 4;
    c.img_channels = 1;
    c.label_dim = 2;
    c.augment_dim = 9;
    c.model_channels = 4;
    c.levels = 2;
    c.channel_mult[0] = c.channel_mult[1] = 1;
    c.num_blocks = 1;
    c.attn_count = 1;
    c.attn_resolutions[0] = 2;
    return c;
}

/* Out of memory, and said so; jansson alone takes a failed allocation for bad text. */
static bool told(struct job *j, fdm_status status, const fdm_error *err) {
    const bool jansson = status == FDM_BAD_INPUT && (strstr(err->message, "JSON") || strstr(err->message, "config"));
    if (status == FDM_OK) return true;
    if (!j->problem[0] && ((status != FDM_NO_RESOURCE && !jansson) || !err->message[0] || strchr(err->message, '\n')))
        snprintf(j->problem, sizeof j->problem, "status %d: %.300s", status, err->message);
    return false;
}

static const double y[32] = {0.5, -0.5, 1}, noise[32] = {1, -2, 0.25}, sigma[2] = {0.5, 2}, weight[2] = {1, 2},
                    labels[4] = {1, 0, 0, 1}, augment[18] = {0.5};
static const uint64_t keys[2] = {1, 2};

static fdm_gradient_args sample(int i) {
    return (fdm_gradient_args){.n = 1, .y = y + 16 * i, .sigma = sigma + i, .noise_unit = noise + 16 * i, .weight = weight + i,
                               .class_labels = labels + 2 * i, .augment_labels = augment + 9 * i, .scale = 1, .dropout = 0.1,
                               .dropout_keys = keys + i};
}

static bool gradient(void *arg) {
    struct job *j = arg;
    const fdm_run_options run = {.backend = j->backend, .threads = 1};
    fdm_gradient *g = NULL;
    fdm_accumulator *a = NULL;
    fdm_tensors model = {0};
    fdm_error err = {0};
    fdm_status status = fdm_gradient_create(&g, &j->config, &j->weights, "weights", &run, &err);
    if (status == FDM_OK) status = fdm_accumulator_create(&a, g, &err);
    for (int i = 0; i < 2 && status == FDM_OK; i++) {
        const fdm_gradient_args args = sample(i);
        status = fdm_accumulator_add(a, &args, &err);
    }
    if (status == FDM_OK) status = fdm_gradient_model(g, &model, fdm_gradient_values(g), &err);
    fdm_tensors_free(&model);
    if (a) fdm_accumulator_free(&a);
    fdm_gradient_free(&g);
    return told(j, status, &err);
}

static bool update(void *arg) {
    struct job *j = arg;
    const fdm_run_options run = {.backend = j->backend, .threads = 1};
    fdm_trainer_options options = fdm_trainer_defaults();
    fdm_trainer *t = NULL, *again = NULL;
    fdm_tensors state = {0}, model = {0};
    fdm_error err = {0};
    options.batch = 2;
    fdm_status status = fdm_trainer_create(&t, &j->config, &j->weights, "weights", &options, &run, &err);
    for (int i = 0; i < 2 && status == FDM_OK; i++) {
        const fdm_gradient_args args = sample(i);
        status = fdm_trainer_round(t, &args, NULL, &err);
    }
    if (status == FDM_OK) status = fdm_trainer_update(t, NULL, &err);
    if (status == FDM_OK) status = fdm_trainer_model(t, &model, &err);
    if (status == FDM_OK) status = fdm_trainer_save(t, &state, &err);
    if (status == FDM_OK) status = fdm_trainer_restore(&again, &state, "state", &options, &run, &err);
    fdm_tensors_free(&model);
    fdm_tensors_free(&state);
    fdm_trainer_free(&again);
    fdm_trainer_free(&t);
    return told(j, status, &err);
}

static const char *const run_files[] = {"log.txt", "stats.jsonl", "training_options.json", "reals.png",
                                        "network-snapshot-000000.safetensors", "training-state-000000002.safetensors"};

static void clear(const struct job *j) {
    char path[400];
    for (size_t i = 0; i < sizeof run_files / sizeof run_files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", j->run, run_files[i]);
        (void)unlink(path);
    }
    (void)rmdir(j->run);
}

static bool train(void *arg) {
    struct job *j = arg;
    const fdm_run_options run = {.threads = 1};
    fdm_error err = {0};
    const fdm_status status = fdm_train(j->run, &j->settings, j->resume, &run, NULL, &err);
    if (!j->resume) clear(j);
    return told(j, status, &err);
}

static bool describe(void *arg) {
    struct job *j = arg;
    char *text;
    fdm_error err = {0};
    const fdm_status status = fdm_train_describe(&text, &j->settings, NULL, &err);
    free(text);
    return told(j, status, &err);
}

static struct job make_job(const char *backend) {
    struct job j = {.backend = backend, .config = tiny_config(), .settings = fdm_train_defaults()};
    fdm_rng rng;
    fdm_init_seed_published(&rng, 1);
    ck_assert_int_eq(fdm_init_weights(&j.weights, &j.config, &rng, NULL), FDM_OK);
    j.settings.data = FDM_TEST_GOLDEN_DIR "/data_toy16.zip";
    j.settings.cond = 1;
    j.settings.cbase = 4;
    j.settings.levels = 1;
    j.settings.cres[0] = 1;
    j.settings.num_blocks = 1;
    j.settings.attn_count = 0;
    j.settings.batch = 2;
    j.settings.duration = 2e-6;
    snprintf(j.run, sizeof j.run, "%s", scratch("run"));
    return j;
}

static void sweep(const char *what, bool (*body)(void *), struct job *j) {
    const long allocations = oom_sweep(what, body, j);
    ck_assert_msg(!j->problem[0], "%s: %s", what, j->problem);
    ck_assert_msg(allocations >= 0, "%s: see above", what);
    clear(j);
    fdm_tensors_free(&j->weights);
    ck_assert_int_eq(scratch_count_files(), 0);
}

START_TEST(gradient_f32) {
    struct job j = make_job("auto");
    sweep("gradient, f32", gradient, &j);
}
END_TEST
START_TEST(gradient_reference) {
    struct job j = make_job("reference");
    sweep("gradient, reference", gradient, &j);
}
END_TEST
START_TEST(update_f32) {
    struct job j = make_job("auto");
    oom_spare_jansson(); /* each check is a process of its own */
    sweep("update, f32", update, &j);
}
END_TEST
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif

static void no_threads_under_asan(void) {
    printf("SKIP: fdm_train without memory: AddressSanitizer ends a program whose threads find none as they start\n");
    (void)train;
}

START_TEST(whole_run) {
#ifdef UNDER_ASAN
    no_threads_under_asan();
#else
    (void)no_threads_under_asan;
    struct job j = make_job("auto");
    sweep("fdm_train", train, &j);
#endif
}
END_TEST
START_TEST(resumed_run) {
#ifdef UNDER_ASAN
    no_threads_under_asan();
#else
    struct job j = make_job("auto");
    ck_assert_int_eq(fdm_train(j.run, &j.settings, false, NULL, NULL, NULL), FDM_OK);
    j.resume = true;
    oom_spare_jansson();
    sweep("fdm_train, resumed", train, &j);
#endif
}
END_TEST
START_TEST(description) {
    struct job j = make_job("auto");
    sweep("fdm_train_describe", describe, &j);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("train_oom");
    TCase *tests = tcase_create("train_oom");
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, gradient_f32);
    tcase_add_test(tests, gradient_reference);
    tcase_add_test(tests, update_f32);
    tcase_add_test(tests, whole_run);
    tcase_add_test(tests, resumed_run);
    tcase_add_test(tests, description);
    suite_add_tcase(suite, tests);
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1); /* where syncing costs nothing */
    return scratch_run(suite);
}
