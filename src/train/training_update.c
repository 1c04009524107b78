/* training_update.c - a batch: data in order, random numbers per image, rounds, losses, the update. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "train/training.h"

static void *array(size_t count, size_t size, fdm_status *status, fdm_error *err) {
    size_t bytes;
    if (*status != FDM_OK) return NULL;
    void *p = fdm_mul_size(&bytes, count ? count : 1, size) ? calloc(1, bytes) : NULL;
    if (!p) *status = fdm_fail_oom(err, "batch", count * size);
    return p;
}

static fdm_status allocate_batch(struct fdm_training *t, fdm_error *err) {
    struct fdm_training_batch *b = &t->batch;
    const size_t all = (size_t)t->s->batch, n = (size_t)(t->mine.end - t->mine.first), labels = n * (size_t)t->config.label_dim;
    fdm_status status = FDM_OK;
    b->pixels = array(n * t->pixels, 1, &status, err);
    b->labels = array(n * (size_t)fdm_dataset_label_dim(t->data), sizeof *b->labels, &status, err);
    b->indices = array(all, sizeof *b->indices, &status, err);
    b->draws = array(n, sizeof *b->draws, &status, err);
    b->augment_draws = array(n, sizeof *b->augment_draws, &status, err);
    b->y = array(n * t->pixels, sizeof *b->y, &status, err);
    b->noise = array(n * t->pixels, sizeof *b->noise, &status, err);
    b->augment_labels = array(n * FDM_AUGMENT_LABELS, sizeof *b->augment_labels, &status, err);
    b->sigma = array(n, sizeof *b->sigma, &status, err);
    b->class_labels = array(labels, sizeof *b->class_labels, &status, err);
    b->loss = array(all, sizeof *b->loss, &status, err);
    b->loss_square = array(all, sizeof *b->loss_square, &status, err);
    b->keys = array(n, sizeof *b->keys, &status, err);
    return status;
}

/* The next image of this rank; the order is the same everywhere, and the parts of the others are passed over. */
static int64_t next_index(void *user) {
    struct fdm_training *t = user;
    for (;;) {
        const int64_t in_batch = t->ahead.position % t->s->batch, image = fdm_data_order_next(&t->ahead);
        if (in_batch >= t->mine.first && in_batch < t->mine.end) return image;
    }
}

fdm_status fdm_training_open_batches(struct fdm_training *t, fdm_error *err) {
    const fdm_status status = allocate_batch(t, err);
    if (status != FDM_OK) return status;
    return fdm_loader_open(&t->loader, t->data, next_index, t, 2 * (t->mine.end - t->mine.first), err);
}

void fdm_training_close_batches(struct fdm_training *t) {
    struct fdm_training_batch *b = &t->batch;
    void *arrays[] = {b->pixels, b->labels, b->indices, b->draws, b->augment_draws, b->y, b->noise, b->augment_labels,
                      b->sigma, b->class_labels, b->loss, b->loss_square, b->keys};
    fdm_loader_close(&t->loader);
    for (size_t i = 0; i < FDM_ARRAY_LEN(arrays); i++) free(arrays[i]);
}

/* --- one update --- */

/* Random numbers, sigma, y and labels of sample i of this rank's. */
static void prepare_sample(struct fdm_training *t, int64_t i) {
    struct fdm_training_batch *b = &t->batch;
    const size_t at = (size_t)i * t->pixels, label_dim = (size_t)t->config.label_dim;
    const fdm_dtype precision = fdm_gradient_dtype(fdm_trainer_gradient(t->trainer));
    const uint64_t image = (uint64_t)(fdm_trainer_images(t->trainer) + t->mine.first + i);
    fdm_train_draws *d = &b->draws[i];
    fdm_train_stream_draw(d, b->noise + at, t->pixels, &t->loss, (uint64_t)t->s->seed, image);
    b->sigma[i] = fdm_loss_sigma(&t->loss, d->sigma_random, precision);
    b->keys[i] = d->dropout_key;
    b->augment_draws[i] = d->augment;
    for (size_t k = 0; k < t->pixels; k++) b->y[at + k] = (double)((float)b->pixels[at + k] / 127.5f - 1);
    const bool dropped = d->label_dropout < t->config.label_dropout;
    for (size_t k = 0; k < label_dim; k++)
        b->class_labels[(size_t)i * label_dim + k] = dropped ? 0 : (double)b->labels[(size_t)i * label_dim + k];
}

static fdm_status prepare_batch(struct fdm_training *t, fdm_error *err) {
    struct fdm_training_batch *b = &t->batch;
    const int64_t n = t->mine.end - t->mine.first;
    const fdm_status status = fdm_loader_next(t->loader, n, b->pixels, b->labels, b->indices, err);
    if (status != FDM_OK) return status;
#pragma omp parallel for schedule(static) num_threads(t->threads)
    for (int64_t i = 0; i < n; i++) prepare_sample(t, i);
    if (!(t->s->augment > 0)) return FDM_OK;
    return fdm_augment_batch(b->y, b->augment_labels, b->y, b->augment_draws, (int)n, t->config.img_channels,
                             t->config.img_resolution, t->s->augment, FDM_AUGMENT_PAD_IMAGE, t->threads, err);
}

/* Samples first .. first+round-1 of this rank's. */
static fdm_status train_round(struct fdm_training *t, int64_t first, fdm_error *err) {
    const struct fdm_training_batch *b = &t->batch;
    const size_t at = (size_t)first, in_batch = (size_t)t->mine.first + at, label_dim = (size_t)t->config.label_dim;
    const fdm_gradient_args args = {
        .n = t->round,
        .y = b->y + at * t->pixels,
        .sigma = b->sigma + at,
        .noise_unit = b->noise + at * t->pixels,
        .class_labels = label_dim ? b->class_labels + at * label_dim : NULL,
        .augment_labels = t->s->augment > 0 ? b->augment_labels + at * FDM_AUGMENT_LABELS : NULL,
        .dropout = t->config.dropout,
        .dropout_keys = b->keys + at,
        .loss = b->loss + in_batch,
        .loss_square = b->loss_square + in_batch,
    };
    return fdm_trainer_round(t->trainer, &args, NULL, err);
}

static void report_nonfinite(struct fdm_training *t, int64_t cleaned) {
    const struct fdm_training_batch *b = &t->batch;
    int64_t bad = 0, first = -1;
    if (++t->nonfinite > FDM_NONFINITE_SAID) return;
    for (int64_t i = 0; i < t->s->batch; i++) {
        if (isfinite(b->loss[i])) continue;
        if (first < 0) first = i;
        bad++;
    }
    if (bad)
        fdm_run_dir_say(&t->dir, "warning: update %" PRId64 " (image %" PRId64 " of the run): the loss of %" PRId64
                        " of %" PRId64 " images is not finite, first that of %s (image %" PRId64 " of the data)",
                        fdm_trainer_updates(t->trainer), fdm_trainer_images(t->trainer) - t->s->batch + first, bad, t->s->batch,
                        fdm_dataset_name(t->data, b->indices[first]), b->indices[first]);
    if (cleaned)
        fdm_run_dir_say(&t->dir, "warning: update %" PRId64 ": %" PRId64 " elements of the gradient were not finite; NaN became "
                        "0, infinity 1e5", fdm_trainer_updates(t->trainer), cleaned);
}

/* The losses of all samples to rank 0. */
static fdm_status gather_losses(const struct fdm_training *t, fdm_error *err) {
    const struct fdm_training_batch *b = &t->batch;
    const fdm_status status = fdm_ranks_gather(t->ranks, b->loss, sizeof *b->loss, t->s->batch, err);
    if (status != FDM_OK) return status;
    return fdm_ranks_gather(t->ranks, b->loss_square, sizeof *b->loss_square, t->s->batch, err);
}

/* Gradients of this rank's samples, the sum over all, and their losses: everything of an update that needs the other ranks, so
 * that one which is lost leaves either no trace of the update or, later, all of it.  Alone, a round that fails has begun it. */
static fdm_status make_gradient(struct fdm_training *t, fdm_error *err) {
    const int64_t n = t->mine.end - t->mine.first;
    fdm_status status = prepare_batch(t, err);
    const bool untouched = status != FDM_OK || t->ranks;
    for (int64_t first = 0; first < n && status == FDM_OK; first += t->round) status = train_round(t, first, err);
    unsigned stop = t->ranks && t->hooks.stop && t->hooks.stop(t->hooks.user);
    status = fdm_trainer_agree(t->trainer, status, &stop, err);
    if (status == FDM_OK && t->ranks) status = gather_losses(t, err);
    t->whole = status != FDM_OK && untouched;
    t->stop = stop != 0;
    return status;
}

/* On rank 0, in the order of the samples. */
static void count_losses(struct fdm_training *t, const fdm_update_report *report) {
    const struct fdm_training_batch *b = &t->batch;
    const int n = (int)t->s->batch;
    const double elements = (double)n * (double)t->pixels, sum = fdm_loss_total(b->loss, n);
    t->sums.count += elements;
    t->sums.sum += sum;
    t->sums.squares += fdm_loss_total(b->loss_square, n);
    if (!isfinite(sum) || report->cleaned) report_nonfinite(t, report->cleaned);
    if (t->hooks.progress) t->hooks.progress(t->hooks.user, fdm_trainer_images(t->trainer), t->total, sum / elements);
}

fdm_status fdm_training_update(struct fdm_training *t, fdm_error *err) {
    fdm_update_report report;
    fdm_status status = make_gradient(t, err);
    if (status == FDM_OK) status = fdm_trainer_update(t->trainer, &report, err);
    if (status != FDM_OK) return status;
    for (int64_t i = 0; i < t->s->batch; i++) t->batch.indices[i] = fdm_data_order_next(&t->order); /* of all ranks */
    if (fdm_ranks_is_first(t->ranks)) count_losses(t, &report);
    return FDM_OK;
}
