/* classifier_train.c - trains the classifier.
 *
 * Every random choice is a function of the seed and of what it is for (statistics.h): the initial weights, which images are
 * held out, the order of an epoch, the shift of each image that is seen.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metric/classifier.h"
#include "metric/statistics.h"
#include "train/optimizer.h"

enum { HOLD_OUT = 10, SHIFT = 16 }; /* one image of so many; a shift is at most R/16 pixels */
enum { MAX_EPOCHS = 100000, MAX_BATCH = 4096 };

fdm_classifier_options fdm_classifier_defaults(void) {
    return (fdm_classifier_options){.epochs = 30, .batch = 64, .lr = 2e-3};
}

/* ---- Data -------------------------------------------------------------------------------------------------- */

struct examples {
    fdm_images images;
    int *classes;    /* (n) */
    int64_t *order;  /* (n): first those to train on, then the held-out ones */
    int64_t *epoch;  /* (trained): positions in order, shuffled for each epoch */
    int64_t trained; /* n less the held-out ones */
};

static void free_examples(struct examples *e) {
    fdm_images_free(&e->images);
    free(e->classes);
    free(e->order);
    free(e->epoch);
}

/* The class of each image, from its one-hot row. */
static fdm_status read_classes(int *classes, fdm_dataset *set, fdm_error *err) {
    const int dim = fdm_dataset_label_dim(set);
    float *row = malloc((size_t)dim * sizeof *row);
    if (!row) return fdm_fail_oom(err, "labels", (size_t)dim * sizeof *row);
    fdm_status status = FDM_OK;
    for (int64_t i = 0; i < fdm_dataset_count(set) && status == FDM_OK; i++) {
        int ones = 0, others = 0;
        status = fdm_dataset_label(set, i, row, err);
        for (int k = 0; k < dim && status == FDM_OK; k++) {
            if (row[k] == 1) ones++, classes[i] = k;
            else if (row[k] != 0) others++;
        }
        if (status == FDM_OK && (ones != 1 || others))
            status = fdm_fail(err, FDM_BAD_INPUT, "%s: its label is not a class; a classifier needs one class an image",
                              fdm_dataset_name(set, i));
    }
    free(row);
    return status;
}

static fdm_status read_examples(struct examples *e, fdm_dataset *set, uint64_t seed, fdm_error *err) {
    const int64_t n = fdm_dataset_count(set);
    if (fdm_dataset_label_dim(set) < 2)
        return fdm_fail(err, FDM_BAD_INPUT, "the data set has no classes to tell apart (dataset.json with labels)");
    e->classes = malloc((size_t)n * sizeof *e->classes);
    e->order = malloc((size_t)n * sizeof *e->order);
    e->epoch = malloc((size_t)n * sizeof *e->epoch);
    if (!e->classes || !e->order || !e->epoch) return fdm_fail_oom(err, "labels", (size_t)n * sizeof *e->order);
    fdm_status status = read_classes(e->classes, set, err);
    if (status == FDM_OK) status = fdm_images_read(&e->images, set, 0, 0, NULL, err);
    fdm_metric_shuffle(e->order, n, seed, FDM_STREAM_CLASSIFIER_HOLD_OUT, 0);
    e->trained = n - n / HOLD_OUT;
    return status;
}

/* x = image `index` shifted by (dy, dx); its edge goes on beyond it. */
static void shifted_input(double *x, const fdm_images *images, int64_t index, int dy, int dx, uint8_t *pixels) {
    const int r = images->resolution, c = images->channels;
    const uint8_t *from = images->pixels + (size_t)index * (size_t)c * (size_t)r * (size_t)r;
    for (int row = 0; row < c * r; row++) {
        const int y = fdm_max_int(0, fdm_min_int(r - 1, row % r + dy));
        for (int column = 0; column < r; column++)
            pixels[row * r + column] = from[(row / r * r + y) * r + fdm_max_int(0, fdm_min_int(r - 1, column + dx))];
    }
    fdm_classifier_input(x, pixels, (size_t)c * (size_t)r * (size_t)r);
}

/* ---- Updates ----------------------------------------------------------------------------------------------- */

/* A training run in memory. */
struct training {
    fdm_classifier *c;
    const fdm_classifier_options *options;
    struct examples examples;
    double *x;      /* (batch, C, R, R) */
    uint8_t *pixels; /* of one image */
    int *classes;   /* (batch) */
    void *gradient; /* in elements of the backend */
    float *grad, *m, *v, *ema; /* the optimiser's; it averages, too, which is left unused: ema is the parameters */
};

static void free_training(struct training *t) {
    free_examples(&t->examples);
    free(t->x);
    free(t->pixels);
    free(t->classes);
    free(t->gradient);
    free(t->grad);
    free(t->m);
    free(t->v);
    free(t->ema);
}

static fdm_status alloc_training(struct training *t, fdm_error *err) {
    const fdm_images *images = &t->examples.images;
    const size_t pixels = (size_t)images->channels * (size_t)images->resolution * (size_t)images->resolution;
    const size_t batch = (size_t)t->options->batch, total = t->c->total;
    t->x = malloc(batch * pixels * sizeof *t->x);
    t->pixels = malloc(pixels);
    t->classes = malloc(batch * sizeof *t->classes);
    t->gradient = malloc(total * sizeof(double));
    t->grad = malloc(total * sizeof *t->grad);
    t->m = calloc(total, sizeof *t->m);
    t->v = calloc(total, sizeof *t->v);
    t->ema = calloc(total, sizeof *t->ema);
    if (t->x && t->pixels && t->classes && t->gradient && t->grad && t->m && t->v && t->ema)
        return fdm_classifier_prepare(t->c, t->options->batch, true, err);
    return fdm_fail_oom(err, "classifier", batch * pixels * sizeof *t->x + total * (sizeof(double) + 4 * sizeof(float)));
}

/* Uniform in +-sqrt(6/(fan_in + fan_out)), as the diffusion networks start (fdm/init.h); norms 1, biases 0. */
static void init_parameters(fdm_classifier *c, uint64_t seed) {
    for (int i = 0; i < FDM_CLASSIFIER_PARAMETERS; i++) {
        const struct fdm_classifier_parameter *p = &c->parameter[i];
        const double taps = p->ndim == 4 ? 9 : 1, fans = taps * (double)(p->shape[0] + p->shape[1]);
        const bool norm = strstr(p->name, "norm.weight") != NULL;
        for (size_t j = 0; j < p->count; j++) {
            const double u = (double)fdm_metric_random(seed, FDM_STREAM_CLASSIFIER_INIT, (uint32_t)i, j, 1u << 24) / (1 << 24);
            c->values[p->offset + j] = p->ndim == 1 ? (norm ? 1.0f : 0.0f) : (float)((2 * u - 1) * sqrt(6 / fans));
        }
    }
    fdm_classifier_changed(c);
}

/* Image number `number` of the run: shuffles a new epoch where one begins. */
static int64_t image_of(struct training *t, int64_t number) {
    struct examples *e = &t->examples;
    const int64_t epoch = number / e->trained, place = number % e->trained;
    if (place == 0)
        fdm_metric_shuffle(e->epoch, e->trained, t->options->seed, FDM_STREAM_CLASSIFIER_ORDER, (uint32_t)epoch);
    return e->order[e->epoch[place]];
}

static void fill_batch(struct training *t, int64_t first, int n) {
    const fdm_images *images = &t->examples.images;
    const size_t pixels = (size_t)images->channels * (size_t)images->resolution * (size_t)images->resolution;
    const int most = images->resolution / SHIFT;
    for (int i = 0; i < n; i++) {
        const int64_t image = image_of(t, first + i);
        int shift[2];
        for (uint32_t k = 0; k < 2; k++)
            shift[k] = (int)fdm_metric_random(t->options->seed, FDM_STREAM_CLASSIFIER_SHIFT, k, (uint64_t)(first + i),
                                              2 * (uint64_t)most + 1) - most;
        t->classes[i] = t->examples.classes[image];
        shifted_input(t->x + (size_t)i * pixels, images, image, shift[0], shift[1], t->pixels);
    }
}

/* One update; returns the loss. */
static double update(struct training *t, int64_t step, int n, double lr) {
    fdm_classifier *c = t->c;
    const struct fdm_adam_options adam = {.lr = lr, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    const struct fdm_adam_arrays arrays = {c->values, t->m, t->v, t->ema, t->grad, c->total};
    fdm_classifier_forward(c, t->x, n);
    const double loss = fdm_classifier_backward(c, t->gradient, t->classes, n);
    for (size_t i = 0; i < c->total; i++)
        t->grad[i] = c->backend->dtype == FDM_F32 ? ((float *)t->gradient)[i] : (float)((double *)t->gradient)[i];
    fdm_adam_update(c->exec.kernels ? c->exec.kernels : fdm_kernels_for(FDM_ISA_ID_PORTABLE), c->exec.threads, &arrays, &adam,
                    step, 0);
    fdm_classifier_changed(c);
    return loss;
}

/* The batch that begins with image number *done of all. */
static fdm_status next_update(struct training *t, int64_t step, int64_t *done, int64_t total, fdm_error *err) {
    const fdm_classifier_options *o = t->options;
    const int n = (int)(total - *done < o->batch ? total - *done : o->batch);
    if (o->stop && o->stop(o->user)) return fdm_fail(err, FDM_INTERRUPTED, "interrupted");
    fill_batch(t, *done, n);
    const double loss = update(t, step, n, o->lr * (1 - (double)*done / (double)total));
    *done += n;
    if (!isfinite(loss)) return fdm_fail(err, FDM_BAD_USAGE, "the classifier's loss is not finite; try a smaller learning rate");
    if (o->progress) o->progress(o->user, *done, total, loss);
    return FDM_OK;
}

/* Every rank makes all updates.  They wait for each other after every epoch, so that a slow one is never far behind and what one
 * runs into ends all. */
static fdm_status train(struct training *t, const fdm_ranks *ranks, fdm_error *err) {
    const int64_t each = t->examples.trained, total = t->options->epochs * each;
    int64_t step = 1, done = 0;
    fdm_status status = FDM_OK;
    for (int64_t end = each; end <= total && status == FDM_OK; end += each) {
        const double begun = fdm_now();
        while (done < end && status == FDM_OK) status = next_update(t, step++, &done, total, err);
        status = fdm_metric_agree_after(ranks, status, fdm_now() - begun, err);
    }
    t->c->info.images = total;
    return status;
}

/* ---- Accuracy ---------------------------------------------------------------------------------------------- */

static int largest(const double *row, int n) {
    int best = 0;
    for (int k = 1; k < n; k++)
        if (row[k] > row[best]) best = k;
    return best;
}

/* Share of the held-out images whose class has the largest logit. */
static fdm_status find_accuracy(struct training *t, fdm_error *err) {
    const struct examples *e = &t->examples;
    const int64_t n = e->images.n - e->trained;
    const size_t bytes = (size_t)e->images.channels * (size_t)e->images.resolution * (size_t)e->images.resolution;
    const int classes = t->c->info.classes;
    fdm_images held = e->images;
    fdm_features features = {0};
    int64_t right = 0;
    t->c->info.accuracy = NAN;
    if (n == 0) return FDM_OK;
    held.n = n;
    held.pixels = malloc((size_t)n * bytes);
    double *logits = malloc((size_t)n * (size_t)classes * sizeof *logits);
    fdm_status status = held.pixels && logits ? FDM_OK : fdm_fail_oom(err, "held-out images", (size_t)n * bytes);
    for (int64_t i = 0; i < n && status == FDM_OK; i++)
        memcpy(held.pixels + (size_t)i * bytes, e->images.pixels + (size_t)e->order[e->trained + i] * bytes, bytes);
    if (status == FDM_OK) status = fdm_classifier_features(&features, logits, t->c, &held, err);
    for (int64_t i = 0; i < n && status == FDM_OK; i++)
        right += largest(logits + i * classes, classes) == e->classes[e->order[e->trained + i]];
    t->c->info.accuracy = (double)right / (double)n;
    fdm_features_free(&features);
    free(held.pixels);
    free(logits);
    return status;
}

static fdm_status check_options(const fdm_classifier_options *o, fdm_error *err) {
    if (o->epochs < 1 || o->epochs > MAX_EPOCHS)
        return fdm_fail(err, FDM_BAD_USAGE, "epochs: %d; 1 to %d are possible", o->epochs, MAX_EPOCHS);
    if (o->batch < 1 || o->batch > MAX_BATCH)
        return fdm_fail(err, FDM_BAD_USAGE, "batch: %d; 1 to %d are possible", o->batch, MAX_BATCH);
    if (!(o->lr > 0 && isfinite(o->lr))) return fdm_fail(err, FDM_BAD_USAGE, "lr: %g; it is positive and finite", o->lr);
    return FDM_OK;
}

fdm_status fdm_classifier_train(fdm_classifier **classifier, fdm_dataset *set, const fdm_classifier_options *options,
                                const fdm_run_options *run, fdm_error *err) {
    struct training t = {.options = options};
    const fdm_ranks *ranks = run ? run->ranks : NULL;
    double begun = fdm_now();
    const fdm_classifier_info info = {.channels = fdm_dataset_channels(set), .resolution = fdm_dataset_resolution(set),
                                      .classes = fdm_dataset_label_dim(set), .seed = options->seed};
    *classifier = NULL;
    fdm_status status = check_options(options, err);
    if (status == FDM_OK) status = read_examples(&t.examples, set, options->seed, err);
    if (status == FDM_OK) status = fdm_classifier_create(&t.c, &info, run, err);
    if (status == FDM_OK) status = alloc_training(&t, err);
    if (status == FDM_OK) init_parameters(t.c, options->seed);
    status = fdm_metric_agree_after(ranks, status, fdm_now() - begun, err);
    if (status == FDM_OK) status = train(&t, ranks, err);
    if (status == FDM_OK) {
        begun = fdm_now();
        status = find_accuracy(&t, err);
        status = fdm_metric_agree_after(ranks, status, fdm_now() - begun, err);
    }
    free_training(&t);
    if (status != FDM_OK) fdm_classifier_free(&t.c);
    *classifier = t.c;
    return status;
}
