/* test_classifier.c - the classifier: gradients by finite differences, f32 beside f64, same bits whatever the instruction
 * set, threads and batch, what it learns, its file, refusals. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/classifier.h"
#include "fdm/safetensors.h"
#include "golden.h"
#include "io_util.h"
#include "metric/classifier.h"
#include "networks.h"
#include "suite.h"
#include "synthetic.h"

static void ok(fdm_status status, const fdm_error *err) { ck_assert_msg(status == FDM_OK, "%s", err->message); }

/* ---- Gradients --------------------------------------------------------------------------------------------- */

enum { N = 3, CLASSES = 3 };
static const int classes[N] = {0, 2, 1};

/* A classifier with parameters at random, prepared to train, and its input. */
static fdm_classifier *random_classifier(int channels, int resolution, const fdm_run_options *run, double **x) {
    const fdm_classifier_info info = {.channels = channels, .resolution = resolution, .classes = CLASSES};
    const fdm_images images = synthetic_noise(N, channels, resolution, 5);
    const size_t pixels = (size_t)N * (size_t)channels * (size_t)resolution * (size_t)resolution;
    fdm_classifier *c;
    fdm_error err = {0};
    ok(fdm_classifier_create(&c, &info, run, &err), &err);
    fdm_features random = synthetic_normal((int64_t)c->total, 1, 12);
    for (int i = 0; i < FDM_CLASSIFIER_PARAMETERS; i++)
        for (size_t j = 0; j < c->parameter[i].count; j++) {
            const struct fdm_classifier_parameter *p = &c->parameter[i];
            const double spread = p->ndim == 4 ? 1 / sqrt(9.0 * (double)p->shape[1]) : 0.3;
            c->values[p->offset + j] = (float)((strstr(p->name, "norm.weight") ? 1 : 0) + spread * random.values[p->offset + j]);
        }
    fdm_classifier_changed(c);
    ok(fdm_classifier_prepare(c, N, true, &err), &err);
    *x = malloc(pixels * sizeof **x);
    fdm_classifier_input(*x, images.pixels, pixels);
    fdm_features_free(&random);
    free(images.pixels);
    return c;
}

static double loss_at(fdm_classifier *c, const double *x, size_t index, float value, void *gradient) {
    const float kept = c->values[index];
    c->values[index] = value;
    fdm_classifier_changed(c);
    fdm_classifier_forward(c, x, N);
    const double loss = fdm_classifier_backward(c, gradient, classes, N);
    c->values[index] = kept;
    fdm_classifier_changed(c);
    return loss;
}

START_TEST(finite_differences) {
    static const int sizes[2][2] = {{3, 9}, {1, 4}}; /* channels, resolution: halved with a rest; never halved */
    for (int k = 0; k < 2; k++) {
        const fdm_run_options run = {.backend = "reference", .threads = 1};
        double *x, worst = 0, largest = 0;
        fdm_classifier *c = random_classifier(sizes[k][0], sizes[k][1], &run, &x);
        double *gradient = malloc(c->total * sizeof *gradient), *unused = malloc(c->total * sizeof *unused);
        loss_at(c, x, 0, c->values[0], gradient);
        for (int i = 0; i < FDM_CLASSIFIER_PARAMETERS; i++) {
            const struct fdm_classifier_parameter *p = &c->parameter[i];
            for (size_t j = 0; j < p->count; j += p->count / 2 + 1) { /* two of each */
                const size_t at = p->offset + j;
                const float up = c->values[at] + 0x1p-10f, down = c->values[at] - 0x1p-10f;
                const double slope = (loss_at(c, x, at, up, unused) - loss_at(c, x, at, down, unused)) / (double)(up - down);
                worst = fmax(worst, fabs(slope - gradient[at]));
                largest = fmax(largest, fabs(gradient[at]));
            }
        }
        printf("  %d x %d: differences within %.2g of gradients up to %.2g\n", sizes[k][1], sizes[k][1], worst, largest);
        ck_assert_double_le(worst, 2e-5 * largest);
        free(gradient), free(unused), free(x);
        fdm_classifier_free(&c);
    }
}
END_TEST

START_TEST(f32_gradients) { /* near the reference's, and the same bits on all instruction sets, with 1 and 3 threads */
    struct runner list[MAX_RUNNERS];
    const int count = runners(list);
    double *truth = NULL;
    float *first = NULL;
    for (int k = 0; k < 2 * count; k++) {
        const struct runner *r = &list[k / 2];
        const fdm_run_options run = {.backend = r->backend, .isa = r->isa, .threads = k % 2 ? 3 : 1};
        double *x;
        fdm_classifier *c = random_classifier(3, 16, &run, &x);
        void *gradient = malloc(c->total * sizeof(double));
        loss_at(c, x, 0, c->values[0], gradient);
        if (!r->f32 && !truth) {
            truth = gradient;
        } else if (r->f32 && !first) {
            double *wide = malloc(c->total * sizeof *wide);
            for (size_t i = 0; i < c->total; i++) wide[i] = (double)((float *)gradient)[i];
            const struct golden_error e = golden_compare(wide, truth, c->total);
            printf("  f32 gradients within %.2g of the largest\n", e.max_scaled);
            ck_assert_double_le(e.max_scaled, 1e-5);
            free(wide);
            first = gradient;
        } else {
            if (r->f32) ck_assert_msg(memcmp(first, gradient, c->total * sizeof *first) == 0, "%s: other bits", r->label);
            free(gradient);
        }
        free(x);
        fdm_classifier_free(&c);
    }
    free(truth), free(first);
}
END_TEST

/* ---- Training ---------------------------------------------------------------------------------------------- */

static fdm_classifier *train(const char *path, int epochs, uint64_t seed, const fdm_run_options *run) {
    fdm_classifier_options options = fdm_classifier_defaults();
    fdm_dataset *set = NULL;
    fdm_classifier *c;
    fdm_error err = {0};
    options.epochs = epochs;
    options.batch = 12;
    options.seed = seed;
    ok(fdm_dataset_open(&set, path, &(fdm_dataset_options){.use_labels = true}, &err), &err);
    ok(fdm_classifier_train(&c, set, &options, run, &err), &err);
    fdm_dataset_free(&set);
    return c;
}

START_TEST(same_training_everywhere) {
    struct runner list[MAX_RUNNERS];
    const int count = runners(list);
    const fdm_images images = synthetic_stripes(29, 3, 16, 3, 1), small = synthetic_stripes(67, 3, 16, 3, 2);
    uint64_t fingerprint = 0;
    fdm_features first = {0};
    synthetic_zip(scratch("train.zip"), &images, 3);
    for (int k = 1; k < 2 * count; k++) {
        const struct runner *r = &list[k / 2];
        const fdm_run_options run = {.isa = r->isa, .threads = k % 2 ? 3 : 1};
        fdm_features x = {0};
        fdm_error err = {0};
        if (!r->f32) continue;
        fdm_classifier *c = train(scratch("train.zip"), 1, 7, &run);
        ok(fdm_classifier_features(&x, NULL, c, &small, &err), &err);
        if (!fingerprint) fingerprint = fdm_classifier_describe(c).fingerprint, first = x, x.values = NULL;
        ck_assert_msg(fdm_classifier_describe(c).fingerprint == fingerprint, "%s, %d threads: other weights", r->label, run.threads);
        if (x.values) ck_assert(memcmp(x.values, first.values, 67 * FDM_CLASSIFIER_FEATURES * sizeof(double)) == 0);
        fdm_features_free(&x);
        fdm_classifier_free(&c);
    }
    fdm_classifier *c = train(scratch("train.zip"), 1, 7, NULL);
    for (int64_t i = 0; i < 67; i += 33) { /* and the batch does not matter */
        const fdm_images one = {small.pixels + (size_t)i * 3 * 16 * 16, 1, 3, 16};
        fdm_features x = {0};
        fdm_error err = {0};
        ok(fdm_classifier_features(&x, NULL, c, &one, &err), &err);
        ck_assert(memcmp(x.values, first.values + i * FDM_CLASSIFIER_FEATURES, FDM_CLASSIFIER_FEATURES * sizeof(double)) == 0);
        fdm_features_free(&x);
    }
    fdm_features_free(&first);
    fdm_classifier_free(&c);
    free(images.pixels), free(small.pixels);
}
END_TEST

START_TEST(learns_and_is_kept) {
    const fdm_images images = synthetic_stripes(120, 1, 8, 4, 3);
    fdm_features before = {0}, after = {0};
    fdm_error err = {0};
    synthetic_zip(scratch("stripes.zip"), &images, 4);
    fdm_classifier *c = train(scratch("stripes.zip"), 12, 1, NULL), *read = NULL;
    const fdm_classifier_info info = fdm_classifier_describe(c);
    printf("  %lld parameters, %lld images seen, accuracy %.3g\n", (long long)info.parameters, (long long)info.images, info.accuracy);
    ck_assert(info.images == 12 * 108 && info.classes == 4 && info.channels == 1 && info.resolution == 8);
    ck_assert_double_ge(info.accuracy, 0.9);
    ok(fdm_classifier_save(c, scratch("c.safetensors"), &err), &err);
    ok(fdm_classifier_load(&read, scratch("c.safetensors"), NULL, &err), &err);
    const fdm_classifier_info again = fdm_classifier_describe(read);
    ck_assert(again.fingerprint == info.fingerprint && again.accuracy == info.accuracy && again.images == info.images);
    ck_assert(again.seed == 1 && again.parameters == info.parameters);
    ok(fdm_classifier_features(&before, NULL, c, &images, &err), &err);
    ok(fdm_classifier_features(&after, NULL, read, &images, &err), &err);
    ck_assert(memcmp(before.values, after.values, 120 * FDM_CLASSIFIER_FEATURES * sizeof(double)) == 0);
    fdm_features_free(&before), fdm_features_free(&after);
    fdm_classifier_free(&c), fdm_classifier_free(&read);
    free(images.pixels);
}
END_TEST

/* ---- Refusals ---------------------------------------------------------------------------------------------- */

static bool stop_now(void *unused) {
    (void)unused;
    return true;
}

static void refuse_training(const char *path, const fdm_classifier_options *o, fdm_status status, const char *mention) {
    fdm_dataset *set = NULL;
    fdm_classifier *c = (fdm_classifier *)1;
    fdm_error err = {0};
    ok(fdm_dataset_open(&set, path, &(fdm_dataset_options){.use_labels = true}, &err), &err);
    check_refused(fdm_classifier_train(&c, set, o, NULL, &err), status, &err, mention);
    ck_assert_ptr_null(c);
    fdm_dataset_free(&set);
}

START_TEST(no_training) {
    const fdm_images images = synthetic_noise(8, 1, 4, 1), tiny = synthetic_noise(8, 1, 3, 1);
    fdm_classifier_options o = fdm_classifier_defaults();
    synthetic_zip(scratch("plain.zip"), &images, 0);
    synthetic_zip(scratch("one.zip"), &images, 1);
    synthetic_zip(scratch("two.zip"), &images, 2);
    synthetic_zip(scratch("tiny.zip"), &tiny, 2);
    refuse_training(scratch("plain.zip"), &o, FDM_BAD_INPUT, "no classes");
    refuse_training(scratch("one.zip"), &o, FDM_BAD_INPUT, "no classes");
    refuse_training(scratch("tiny.zip"), &o, FDM_BAD_INPUT, "3 x 3 pixels");
    o.stop = stop_now;
    refuse_training(scratch("two.zip"), &o, FDM_INTERRUPTED, NULL);
    o.epochs = 0;
    refuse_training(scratch("two.zip"), &o, FDM_BAD_USAGE, "epochs");
    o = fdm_classifier_defaults(), o.batch = 0;
    refuse_training(scratch("two.zip"), &o, FDM_BAD_USAGE, "batch");
    o = fdm_classifier_defaults(), o.lr = NAN;
    refuse_training(scratch("two.zip"), &o, FDM_BAD_USAGE, "lr");
    free(images.pixels), free(tiny.pixels);
}
END_TEST

/* The file with one tensor or the metadata changed. */
static void refuse_file(const char *mention, const char *drop, const char *spoil, const char *meta) {
    fdm_tensors set = {0}, changed = {0};
    fdm_tensor *added;
    fdm_error err = {0};
    fdm_classifier *c = (fdm_classifier *)1;
    ok(fdm_safetensors_read(&set, scratch("good.safetensors"), &err), &err);
    for (size_t i = 0; i < set.count; i++) {
        const fdm_tensor *t = &set.items[i];
        if (drop && strcmp(t->name, drop) == 0) continue;
        ok(fdm_tensors_add(&changed, t->name, t->dtype, t->ndim, t->shape, &added, &err), &err);
        memcpy(added->data, t->data, t->nbytes);
        if (spoil && strcmp(t->name, spoil) == 0) ((float *)added->data)[0] = NAN;
    }
    if (!meta) meta = fdm_tensors_meta(&set, "classifier");
    if (meta[0]) ok(fdm_tensors_set_meta(&changed, "classifier", meta, &err), &err);
    ok(fdm_safetensors_write(&changed, scratch("bad.safetensors"), &err), &err);
    fdm_tensors_free(&changed), fdm_tensors_free(&set);
    check_refused(fdm_classifier_load(&c, scratch("bad.safetensors"), NULL, &err), FDM_BAD_INPUT, &err, mention);
    ck_assert_ptr_null(c);
}

START_TEST(bad_files) {
    const fdm_classifier_info info = {.channels = 1, .resolution = 4, .classes = 2};
    const fdm_images other = synthetic_noise(2, 3, 4, 1);
    fdm_classifier *c;
    fdm_features x = {0};
    fdm_error err = {0};
    ok(fdm_classifier_create(&c, &info, NULL, &err), &err);
    ok(fdm_classifier_save(c, scratch("good.safetensors"), &err), &err);
    check_refused(fdm_classifier_features(&x, NULL, c, &other, &err), FDM_BAD_INPUT, &err, "3 x 4 x 4 for a classifier of 1");
    fdm_classifier_free(&c);
    ok(fdm_classifier_load(&c, scratch("good.safetensors"), NULL, &err), &err);
    fdm_classifier_free(&c);
    refuse_file("stage2.norm.bias", "stage2.norm.bias", NULL, NULL);
    refuse_file("head.weight", NULL, "head.weight", NULL);
    refuse_file("--train-classifier", NULL, NULL, "");
    refuse_file("not a JSON object", NULL, NULL, "[1]");
    refuse_file("not a JSON object", NULL, NULL, "{");
    refuse_file("\"channels\"", NULL, NULL, "{}");
    refuse_file("2 channels", NULL, NULL, "{\"channels\":2,\"resolution\":4,\"classes\":2,\"images\":0,\"seed\":0}");
    refuse_file("\"resolution\"", NULL, NULL, "{\"channels\":1,\"resolution\":100000,\"classes\":2,\"images\":0,\"seed\":0}");
    refuse_file("\"classes\"", NULL, NULL, "{\"channels\":1,\"resolution\":4,\"classes\":1e9,\"images\":0,\"seed\":0}");
    refuse_file("head.weight, head.bias", NULL, NULL, "{\"channels\":1,\"resolution\":4,\"classes\":65536,\"images\":0,\"seed\":0}");
    check_refused(fdm_classifier_load(&c, scratch("good.safetensors"), &(fdm_run_options){.backend = "magic"}, &err),
                  FDM_BAD_USAGE, &err, "magic");
    check_refused(fdm_classifier_load(&c, scratch("nowhere.safetensors"), NULL, &err), FDM_BAD_INPUT, &err, "nowhere");
    free(other.pixels);
}
END_TEST

int main(void) {
    scratch_begin();
    Suite *suite = suite_create("classifier");
    TCase *tc = tcase_create("classifier");
    tcase_add_test(tc, finite_differences);
    tcase_add_test(tc, f32_gradients);
    tcase_add_test(tc, same_training_everywhere);
    tcase_add_test(tc, learns_and_is_kept);
    tcase_add_test(tc, no_training);
    tcase_add_test(tc, bad_files);
    suite_add_tcase(suite, tc);
    const int failed = run_suite(suite);
    scratch_end();
    return failed != 0;
}
