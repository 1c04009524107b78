/* train_run.c - the training loop: data in order, random numbers per image, updates, ticks, snapshots, states. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "base/threads.h"
#include "fdm/augment.h"
#include "fdm/data_order.h"
#include "fdm/dataset.h"
#include "fdm/init.h"
#include "fdm/png.h"
#include "fdm/safetensors.h"
#include "fdm/train.h"
#include "fdm/train_stream.h"
#include "io/atomic_file.h"
#include "io/text.h"
#include "train/run_dir.h"
#include "train/train_run.h"

enum { ACTIVATION_BUDGET = 1 << 30 }; /* bytes; what an automatic batch_gpu may plan for */
enum { NONFINITE_SAID = 10 };         /* updates a tick whose loss or gradient is not finite that are named, the rest counted */

/* Loss elements since the last tick. */
struct loss_sums {
    double count, sum, squares;
};

/* The batch of an update. */
struct batch {
    uint8_t *pixels;          /* (N, C, R, R) */
    float *labels;            /* (N, label_dim) */
    int64_t *indices;         /* (N) */
    fdm_train_draws *draws;   /* (N) */
    fdm_augment_draws *augment_draws;
    double *y, *noise;        /* (N, C, R, R) */
    double *augment_labels;   /* (N, 9) */
    double *sigma, *class_labels, *loss, *loss_square;
    uint64_t *keys;
};

struct train_run {
    fdm_train_settings settings; /* as given, batch_gpu resolved; strings borrowed */
    const fdm_train_settings *s; /* = &settings */
    fdm_run_options how;         /* as given, convolutions as the settings say */
    const fdm_run_options *run;  /* = &how */
    const fdm_train_hooks *hooks;
    struct fdm_run_dir dir;
    fdm_config config;
    fdm_dataset *data;
    fdm_loader *loader;
    fdm_data_order order, ahead; /* what has been trained on; what the loader has asked for */
    fdm_trainer *trainer;
    fdm_loss loss;
    struct batch batch;
    int threads;
    int round;     /* samples of one */
    size_t pixels; /* of one image */
    int64_t total; /* images of the whole run */
    int64_t tick, tick_start; /* ticks so far; images when the last one ended */
    struct loss_sums sums;
    int64_t nonfinite; /* updates since the last tick whose loss or gradient was not finite */
    double started, tick_started, maintenance; /* seconds */
    double saved;                              /* when a state was last written, or tried */
    bool save_failed;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- what a run is made from --- */

static fdm_trainer_options trainer_options(const fdm_train_settings *s) {
    fdm_trainer_options o = fdm_trainer_defaults();
    o.batch = s->batch;
    o.lr = s->lr;
    o.lr_rampup_kimg = s->lr_rampup * 1000;
    o.ema_halflife_kimg = s->ema * 1000;
    o.loss_scaling = s->ls;
    o.warmup_ite = s->warmup_ite;
    return o;
}

static fdm_status open_data(struct train_run *t, fdm_error *err) {
    const fdm_dataset_options options = {.use_labels = t->s->cond != 0, .xflip = t->s->xflip != 0};
    fdm_status status = fdm_dataset_open(&t->data, t->s->data, &options, err);
    if (status != FDM_OK) return status;
    const int label_dim = fdm_dataset_label_dim(t->data);
    if (t->s->cond && label_dim == 0)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: --cond needs labels, and there is no dataset.json with labels", t->s->data);
    status = fdm_train_network(&t->config, t->s, fdm_dataset_resolution(t->data), fdm_dataset_channels(t->data), label_dim,
                               err);
    t->pixels = (size_t)t->config.img_channels * (size_t)t->config.img_resolution * (size_t)t->config.img_resolution;
    return status;
}

/* Replaces what the transfer model also has, in the same shape; says what it has not. */
static fdm_status transfer_weights(struct train_run *t, fdm_tensors *weights, fdm_error *err) {
    fdm_tensors source = {0};
    size_t taken = 0;
    fdm_status status = fdm_safetensors_read(&source, t->s->transfer, err);
    for (size_t i = 0; i < weights->count && status == FDM_OK; i++) {
        fdm_tensor *to = &weights->items[i];
        const fdm_tensor *from = fdm_tensors_find(&source, to->name);
        if (!from || from->dtype != FDM_F32 || from->nbytes != to->nbytes || from->ndim != to->ndim ||
            memcmp(from->shape, to->shape, (size_t)to->ndim * sizeof *to->shape) != 0) {
            fdm_run_dir_say(&t->dir, "transfer: %s starts fresh, the model has no such tensor", to->name);
            continue;
        }
        memcpy(to->data, from->data, to->nbytes);
        taken++;
    }
    fdm_tensors_free(&source);
    if (status == FDM_OK && taken == 0)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: no tensor fits this network", t->s->transfer);
    if (status == FDM_OK)
        fdm_run_dir_say(&t->dir, "transfer: %zu of %zu tensors from %s", taken, weights->count, t->s->transfer);
    return status;
}

static fdm_status start_order(struct train_run *t, fdm_error *err) {
    const uint32_t seed = (uint32_t)((uint64_t)t->s->seed % (1u << 31));
    const fdm_status status = fdm_data_order_init(&t->order, fdm_dataset_count(t->data), seed, 0, 1, err);
    return status != FDM_OK ? status : fdm_data_order_init(&t->ahead, fdm_dataset_count(t->data), seed, 0, 1, err);
}

static fdm_status start_fresh(struct train_run *t, fdm_error *err) {
    const fdm_trainer_options options = trainer_options(t->s);
    fdm_tensors weights = {0};
    fdm_rng rng;
    fdm_init_seed_published(&rng, (uint64_t)t->s->seed);
    fdm_status status = fdm_init_weights(&weights, &t->config, &rng, err);
    if (status == FDM_OK && t->s->transfer) status = transfer_weights(t, &weights, err);
    if (status == FDM_OK)
        status = fdm_trainer_create(&t->trainer, &t->config, &weights, t->s->transfer ? t->s->transfer : "initial weights",
                                    &options, t->run, err);
    fdm_tensors_free(&weights);
    return status == FDM_OK ? start_order(t, err) : status;
}

/* Rounds of so many samples: as asked for, or the largest divisor of the batch whose activations fit the budget in f32.  It
 * depends on the settings alone, never on this machine, --backend or --recompute, because a warm-up counts rounds; and the
 * choice is saved with them, so that a resumed run keeps it. */
static fdm_status choose_round(struct train_run *t, fdm_error *err) {
    const int64_t batch = t->s->batch;
    int64_t rounds = t->s->batch_gpu ? batch / t->s->batch_gpu : 1;
    for (; !t->s->batch_gpu && rounds < batch; rounds++) {
        size_t bytes;
        if (batch % rounds != 0) continue;
        const fdm_status status = fdm_gradient_plan_bytes(fdm_trainer_gradient(t->trainer), (int)(batch / rounds), FDM_F32,
                                                          FDM_RECOMPUTE_OFF, &bytes, err);
        if (status != FDM_OK) return status;
        if (bytes <= ACTIVATION_BUDGET) break;
    }
    t->settings.batch_gpu = batch / rounds;
    t->round = (int)(batch / rounds);
    return FDM_OK;
}

static void *array(size_t count, size_t size, fdm_status *status, fdm_error *err) {
    size_t bytes;
    if (*status != FDM_OK) return NULL;
    void *p = fdm_mul_size(&bytes, count ? count : 1, size) ? calloc(1, bytes) : NULL;
    if (!p) *status = fdm_fail_oom(err, "batch", count * size);
    return p;
}

static fdm_status allocate_batch(struct train_run *t, fdm_error *err) {
    struct batch *b = &t->batch;
    const size_t n = (size_t)t->s->batch, labels = n * (size_t)t->config.label_dim;
    fdm_status status = FDM_OK;
    b->pixels = array(n * t->pixels, 1, &status, err);
    b->labels = array(n * (size_t)fdm_dataset_label_dim(t->data), sizeof *b->labels, &status, err);
    b->indices = array(n, sizeof *b->indices, &status, err);
    b->draws = array(n, sizeof *b->draws, &status, err);
    b->augment_draws = array(n, sizeof *b->augment_draws, &status, err);
    b->y = array(n * t->pixels, sizeof *b->y, &status, err);
    b->noise = array(n * t->pixels, sizeof *b->noise, &status, err);
    b->augment_labels = array(n * FDM_AUGMENT_LABELS, sizeof *b->augment_labels, &status, err);
    b->sigma = array(n, sizeof *b->sigma, &status, err);
    b->class_labels = array(labels, sizeof *b->class_labels, &status, err);
    b->loss = array(n, sizeof *b->loss, &status, err);
    b->loss_square = array(n, sizeof *b->loss_square, &status, err);
    b->keys = array(n, sizeof *b->keys, &status, err);
    return status;
}

static void free_run(struct train_run *t) {
    struct batch *b = &t->batch;
    void *arrays[] = {b->pixels, b->labels, b->indices, b->draws, b->augment_draws, b->y, b->noise, b->augment_labels,
                      b->sigma, b->class_labels, b->loss, b->loss_square, b->keys};
    fdm_loader_close(&t->loader);
    for (size_t i = 0; i < FDM_ARRAY_LEN(arrays); i++) free(arrays[i]);
    fdm_trainer_free(&t->trainer);
    fdm_data_order_free(&t->order);
    fdm_data_order_free(&t->ahead);
    fdm_dataset_free(&t->data);
    fdm_run_dir_close(&t->dir);
}

/* --- state --- */

static fdm_status add_counters(struct train_run *t, fdm_tensors *set, fdm_error *err) {
    const int64_t counters[] = {t->tick, t->tick_start}, two = 2, three = 3;
    fdm_tensor *tensor;
    fdm_status status = fdm_tensors_add(set, "run.counters", FDM_I64, 1, &two, &tensor, err);
    if (status == FDM_OK) memcpy(tensor->data, counters, sizeof counters);
    if (status == FDM_OK) status = fdm_tensors_add(set, "run.loss", FDM_F64, 1, &three, &tensor, err);
    if (status == FDM_OK) memcpy(tensor->data, &t->sums, sizeof t->sums);
    return status;
}

/* A checksum over names, types, shapes and elements of all tensors, as text. */
static void digest(char out[16], const fdm_tensors *set) {
    uLong crc = crc32_z(0, NULL, 0);
    for (size_t i = 0; i < set->count; i++) {
        const fdm_tensor *t = &set->items[i];
        const int64_t kind[] = {t->dtype, t->ndim};
        crc = crc32_z(crc, (const Bytef *)t->name, strlen(t->name));
        crc = crc32_z(crc, (const Bytef *)kind, sizeof kind);
        crc = crc32_z(crc, (const Bytef *)t->shape, (size_t)t->ndim * sizeof *t->shape);
        crc = crc32_z(crc, t->data, t->nbytes);
    }
    snprintf(out, 16, "%08lx", (unsigned long)crc);
}

static fdm_status check_digest(const fdm_tensors *set, const char *where, fdm_error *err) {
    const char *saved = fdm_tensors_meta(set, "crc32");
    char now_text[16];
    digest(now_text, set);
    if (!saved) return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata crc32 is missing; this is no training state", where);
    if (strcmp(saved, now_text) == 0) return FDM_OK;
    return fdm_fail(err, FDM_BAD_INPUT, "%s: damaged: its checksum is %s instead of %.16s", where, now_text, saved);
}

static fdm_status save_state(struct train_run *t, fdm_error *err) {
    t->saved = now();
    fdm_tensors set = {0};
    char crc[16], *settings = fdm_train_settings_json(t->s);
    fdm_status status = settings ? FDM_OK : fdm_fail_oom(err, "settings", 0);
    if (status == FDM_OK) status = fdm_trainer_save(t->trainer, &set, err);
    if (status == FDM_OK) status = fdm_data_order_save(&set, "order.", &t->order, err);
    if (status == FDM_OK) status = add_counters(t, &set, err);
    if (status == FDM_OK) status = fdm_tensors_set_meta(&set, "settings", settings, err);
    if (status == FDM_OK) {
        digest(crc, &set);
        status = fdm_tensors_set_meta(&set, "crc32", crc, err);
    }
    if (status == FDM_OK) status = fdm_run_dir_save(&t->dir, &set, fdm_trainer_images(t->trainer), err);
    fdm_tensors_free(&set);
    free(settings);
    return status;
}

static fdm_status restore_counters(struct train_run *t, const fdm_tensors *set, const char *where, fdm_error *err) {
    const fdm_tensor *counters = fdm_tensors_find(set, "run.counters"), *loss = fdm_tensors_find(set, "run.loss");
    int64_t values[2];
    if (!counters || counters->dtype != FDM_I64 || counters->nbytes != sizeof values || !loss || loss->dtype != FDM_F64 ||
        loss->nbytes != sizeof t->sums)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensors run.counters and run.loss are missing or malformed", where);
    memcpy(values, counters->data, sizeof values);
    memcpy(&t->sums, loss->data, sizeof t->sums);
    if (values[0] < 0 || values[0] > INT64_MAX / 2 || values[1] < 0 || values[1] > fdm_trainer_images(t->trainer))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: run.counters holds impossible numbers", where);
    t->tick = values[0];
    t->tick_start = values[1];
    fdm_run_dir_stats_cut(&t->dir, t->tick);
    return FDM_OK;
}

/* The network of the state must be the one that the settings ask for now. */
static fdm_status check_same_network(const struct train_run *t, const char *where, fdm_error *err) {
    char *now_json = fdm_config_json(&t->config);
    char *saved_json = fdm_config_json(fdm_gradient_config(fdm_trainer_gradient(t->trainer)));
    fdm_status status = FDM_OK;
    if (!now_json || !saved_json) status = fdm_fail_oom(err, "configuration", 0);
    else if (strcmp(now_json, saved_json) != 0)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: the network of this state is not the one that settings and data ask for now; "
                          "has the data changed?", where);
    free(now_json);
    free(saved_json);
    return status;
}

/* So must everything that enters the weights. */
static fdm_status check_same_settings(const struct train_run *t, const fdm_tensors *set, const char *where, fdm_error *err) {
    const char *json = fdm_tensors_meta(set, "settings");
    fdm_train_settings saved, ours = *t->s;
    if (!json) return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata settings is missing; this is no training state", where);
    fdm_status status = fdm_train_settings_parse(&saved, json, strlen(json), where, err);
    if (status != FDM_OK) return status;
    ours.data = saved.data;
    ours.duration = saved.duration;
    ours.tick = saved.tick;
    ours.snap = saved.snap;
    ours.dump = saved.dump;
    ours.image_snap = saved.image_snap;
    ours.image_count = saved.image_count;
    ours.image_steps = saved.image_steps;
    ours.save_minutes = saved.save_minutes;
    if (!ours.batch_gpu) ours.batch_gpu = saved.batch_gpu; /* resolved in the state, not yet in ours */
    char *a = fdm_train_settings_json(&saved), *b = fdm_train_settings_json(&ours);
    if (!a || !b) status = fdm_fail_oom(err, "settings", 0);
    else if (strcmp(a, b) != 0)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: was trained with other settings than training_options.json holds now; put them "
                          "back as they were, or start a run of its own with --transfer", where);
    fdm_train_settings_free(&saved);
    free(a);
    free(b);
    return status;
}

static fdm_status check_same_data(const struct train_run *t, const fdm_tensors *set, const char *where, fdm_error *err) {
    const fdm_tensor *order = fdm_tensors_find(set, "order.order");
    if (!order || order->ndim != 1 || order->shape[0] == fdm_dataset_count(t->data)) return FDM_OK; /* or malformed */
    return fdm_fail(err, FDM_BAD_INPUT, "%s: the data has changed: %s holds %" PRId64 " images, the run was on %" PRId64, where,
                    t->s->data, fdm_dataset_count(t->data), order->shape[0]);
}

/* *whole: the file is a training state; whatever is wrong then, an older one will not help. */
static fdm_status restore_state(struct train_run *t, const char *path, bool *whole, fdm_error *err) {
    const fdm_trainer_options options = trainer_options(t->s);
    fdm_tensors set = {0};
    *whole = false;
    fdm_status status = fdm_safetensors_read(&set, path, err);
    if (status == FDM_OK) status = check_digest(&set, path, err);
    if (status == FDM_OK) status = fdm_trainer_restore(&t->trainer, &set, path, &options, t->run, err);
    *whole = status == FDM_OK;
    if (status == FDM_OK) status = check_same_data(t, &set, path, err);
    if (status == FDM_OK) status = check_same_network(t, path, err);
    if (status == FDM_OK) status = check_same_settings(t, &set, path, err);
    if (status == FDM_OK)
        status = fdm_data_order_restore(&t->order, &set, "order.", fdm_dataset_count(t->data), path, err);
    if (status == FDM_OK)
        status = fdm_data_order_restore(&t->ahead, &set, "order.", fdm_dataset_count(t->data), path, err);
    if (status == FDM_OK) status = restore_counters(t, &set, path, err);
    if (status == FDM_OK && t->s->warmup_restart && t->s->warmup_ite > 0)
        status = fdm_warmup_init(fdm_trainer_warmup(t->trainer), t->s->warmup_ite, err);
    fdm_tensors_free(&set);
    if (status == FDM_OK) return FDM_OK;
    fdm_trainer_free(&t->trainer);
    fdm_data_order_free(&t->order);
    fdm_data_order_free(&t->ahead);
    return status;
}

/* The newest whole state; the beginning where there is none yet. */
static fdm_status start_from_newest(struct train_run *t, fdm_error *err) {
    int64_t *states;
    int count, i;
    bool whole = false;
    fdm_error why = {0};
    fdm_status status = fdm_run_dir_states(&states, &count, &t->dir, err);
    if (status != FDM_OK) return status;
    for (i = 0; i < count; i++) {
        char path[FDM_RUN_PATH];
        status = fdm_run_dir_name(path, &t->dir, &why, "training-state-%09" PRId64 ".safetensors", states[i]);
        if (status == FDM_OK) status = restore_state(t, path, &whole, &why);
        if (status == FDM_OK) fdm_run_dir_say(&t->dir, "resuming from %s", path);
        if (status != FDM_BAD_INPUT || whole) break;
        fdm_run_dir_say(&t->dir, "not whole, trying an older one: %s", why.message);
    }
    for (int k = 0; k < i && status == FDM_OK && i < count; k++) fdm_run_dir_set_aside(&t->dir, states[k]);
    free(states);
    if (count && status != FDM_OK && (whole || status != FDM_BAD_INPUT)) return fdm_fail(err, status, "%s", why.message);
    if (count && status != FDM_OK)
        return fdm_fail(err, status, "%s: no whole training state, the oldest: %s", t->dir.path, why.message);
    if (count) return FDM_OK;
    fdm_run_dir_say(&t->dir, "no training state yet: starting from the beginning");
    fdm_run_dir_stats_cut(&t->dir, 0);
    return start_fresh(t, err);
}

/* --- one update --- */

static int64_t next_index(void *user) {
    return fdm_data_order_next(&((struct train_run *)user)->ahead);
}

/* Random numbers, sigma, y and labels of sample i. */
static void prepare_sample(struct train_run *t, int64_t i) {
    struct batch *b = &t->batch;
    const size_t at = (size_t)i * t->pixels, label_dim = (size_t)t->config.label_dim;
    const fdm_dtype precision = fdm_gradient_dtype(fdm_trainer_gradient(t->trainer));
    const uint64_t image = (uint64_t)(fdm_trainer_images(t->trainer) + i);
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

static fdm_status prepare_batch(struct train_run *t, fdm_error *err) {
    struct batch *b = &t->batch;
    const int64_t n = t->s->batch;
    const fdm_status status = fdm_loader_next(t->loader, n, b->pixels, b->labels, b->indices, err);
    if (status != FDM_OK) return status;
#pragma omp parallel for schedule(static) num_threads(t->threads)
    for (int64_t i = 0; i < n; i++) prepare_sample(t, i);
    if (!(t->s->augment > 0)) return FDM_OK;
    return fdm_augment_batch(b->y, b->augment_labels, b->y, b->augment_draws, (int)n, t->config.img_channels,
                             t->config.img_resolution, t->s->augment, FDM_AUGMENT_PAD_IMAGE, t->threads, err);
}

/* Samples first .. first+round-1 of the batch. */
static fdm_status train_round(struct train_run *t, int64_t first, fdm_error *err) {
    const struct batch *b = &t->batch;
    const size_t at = (size_t)first, label_dim = (size_t)t->config.label_dim;
    const fdm_gradient_args args = {
        .n = t->round,
        .y = b->y + at * t->pixels,
        .sigma = b->sigma + at,
        .noise_unit = b->noise + at * t->pixels,
        .class_labels = label_dim ? b->class_labels + at * label_dim : NULL,
        .augment_labels = t->s->augment > 0 ? b->augment_labels + at * FDM_AUGMENT_LABELS : NULL,
        .dropout = t->config.dropout,
        .dropout_keys = b->keys + at,
        .loss = b->loss + at,
        .loss_square = b->loss_square + at,
    };
    return fdm_trainer_round(t->trainer, &args, NULL, err);
}

static void report_nonfinite(struct train_run *t, int64_t cleaned) {
    const struct batch *b = &t->batch;
    int64_t bad = 0, first = -1;
    if (++t->nonfinite > NONFINITE_SAID) return;
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

/* A batch that cannot be had (a damaged image, say) ends the run, but what was trained until then is kept. */
static void save_before_failing(struct train_run *t) {
    fdm_error why = {0};
    const int64_t images = fdm_trainer_images(t->trainer);
    if (images == 0) return;
    if (save_state(t, &why) == FDM_OK) fdm_run_dir_say(&t->dir, "the run ends at %" PRId64 " images, saved", images);
    else fdm_run_dir_say(&t->dir, "warning: the training state was not written: %s", why.message);
}

static fdm_status train_update(struct train_run *t, fdm_error *err) {
    fdm_update_report report;
    fdm_status status = prepare_batch(t, err);
    if (status != FDM_OK) save_before_failing(t);
    for (int64_t first = 0; first < t->s->batch && status == FDM_OK; first += t->round) status = train_round(t, first, err);
    if (status == FDM_OK) status = fdm_trainer_update(t->trainer, &report, err);
    if (status != FDM_OK) return status;
    for (int64_t i = 0; i < t->s->batch; i++) (void)fdm_data_order_next(&t->order);
    const double sum = fdm_loss_total(t->batch.loss, (int)t->s->batch);
    const double elements = (double)t->s->batch * (double)t->pixels;
    t->sums.count += elements;
    t->sums.sum += sum;
    t->sums.squares += fdm_loss_total(t->batch.loss_square, (int)t->s->batch);
    if (!isfinite(sum) || report.cleaned) report_nonfinite(t, report.cleaned);
    if (t->hooks->progress) t->hooks->progress(t->hooks->user, fdm_trainer_images(t->trainer), t->total, sum / elements);
    return FDM_OK;
}

/* --- ticks --- */

static void put_stat(struct fdm_text *line, const char *name, double count, double mean, double std) {
    fdm_text_printf(line, "\"%s\": {\"num\": %.0f, ", name, count);
    if (isfinite(mean)) fdm_text_printf(line, "\"mean\": %.9g, ", mean);
    else fdm_text_printf(line, "\"mean\": null, ");
    if (isfinite(std)) fdm_text_printf(line, "\"std\": %.9g}, ", std);
    else fdm_text_printf(line, "\"std\": null}, ");
}

static double peak_memory_gb(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (double)usage.ru_maxrss / (1 << 20) : 0;
}

static void write_stats(struct train_run *t, double seconds, double kimg, double done_kimg) {
    struct fdm_text line = {0};
    const double mean = t->sums.sum / t->sums.count, variance = t->sums.squares / t->sums.count - mean * mean;
    fdm_text_printf(&line, "{");
    put_stat(&line, "Loss/loss", t->sums.count, mean, sqrt(variance > 0 ? variance : variance <= 0 ? 0 : NAN));
    put_stat(&line, "Progress/tick", 1, (double)t->tick, 0);
    put_stat(&line, "Progress/kimg", 1, kimg, 0);
    put_stat(&line, "Timing/total_sec", 1, now() - t->started, 0);
    put_stat(&line, "Timing/sec_per_tick", 1, seconds, 0);
    put_stat(&line, "Timing/sec_per_kimg", 1, done_kimg > 0 ? seconds / done_kimg : 0, 0);
    put_stat(&line, "Timing/maintenance_sec", 1, t->maintenance, 0);
    put_stat(&line, "Resources/cpu_mem_gb", 1, peak_memory_gb(), 0);
    fdm_text_printf(&line, "\"timestamp\": %.3f}\n", (double)time(NULL));
    if (line.failed || !fdm_run_dir_stats_add(&t->dir, line.bytes, line.length))
        fdm_run_dir_say(&t->dir, "warning: stats.jsonl cannot be written (is the disk full?)");
    fdm_text_free(&line);
}

static fdm_status write_snapshot(struct train_run *t, fdm_error *err) {
    fdm_tensors model = {0};
    char path[FDM_RUN_PATH];
    const int64_t kimg = fdm_trainer_images(t->trainer) / 1000;
    fdm_status status = fdm_trainer_model(t->trainer, &model, err);
    if (status == FDM_OK)
        status = fdm_run_dir_name(path, &t->dir, err, "network-snapshot-%06" PRId64 ".safetensors", kimg);
    if (status == FDM_OK) status = fdm_safetensors_write(&model, path, err);
    fdm_tensors_free(&model);
    return status;
}

static fdm_status write_fakes(struct train_run *t, fdm_error *err) {
    fdm_tensors model = {0};
    char path[FDM_RUN_PATH];
    const int64_t kimg = fdm_trainer_images(t->trainer) / 1000;
    if (!t->hooks->sample) return FDM_OK;
    fdm_status status = fdm_trainer_model(t->trainer, &model, err);
    if (status == FDM_OK) status = fdm_run_dir_name(path, &t->dir, err, "fakes%06" PRId64 ".png", kimg);
    if (status == FDM_OK)
        status = t->hooks->sample(t->hooks->user, &model, path, (int)t->s->image_count, (int)t->s->image_steps, err);
    fdm_tensors_free(&model);
    return status;
}

/* What cannot be written is said, and tried again at the next occasion; only the last state must be written. */
static void complain(struct train_run *t, const char *what, const fdm_error *why) {
    fdm_run_dir_say(&t->dir, "warning: %s was not written: %s; training goes on, earlier files are untouched", what,
                    why->message);
}

static bool due(int64_t tick, int64_t every) { return every > 0 && tick % every == 0; }

static fdm_status end_tick(struct train_run *t, bool done, fdm_error *err) {
    const int64_t images = fdm_trainer_images(t->trainer);
    const double begun = now(), seconds = begun - t->tick_started, kimg = (double)images / 1000;
    const double done_kimg = (double)(images - t->tick_start) / 1000;
    fdm_error why = {0};
    fdm_status status = FDM_OK;
    write_stats(t, seconds, kimg, done_kimg);
    if (t->nonfinite > NONFINITE_SAID)
        fdm_run_dir_say(&t->dir, "warning: %" PRId64 " more updates of this tick had losses or gradients that are not finite; a "
                        "lower --lr may help", t->nonfinite - NONFINITE_SAID);
    t->nonfinite = 0;
    fdm_run_dir_say(&t->dir, "tick %-5" PRId64 " kimg %-9.3f loss %-8.5f sec/tick %-7.1f sec/kimg %-8.3f maintenance %-5.1f "
                    "mem %.2f GB", t->tick, kimg, t->sums.sum / t->sums.count, seconds,
                    done_kimg > 0 ? seconds / done_kimg : 0, t->maintenance, peak_memory_gb());
    if ((due(t->tick, t->s->snap) || done) && write_snapshot(t, &why) != FDM_OK) {
        complain(t, "the snapshot", &why);
        if (done) status = fdm_fail(err, why.status, "the last snapshot was not written: %s", why.message);
    }
    if ((due(t->tick, t->s->image_snap) || (done && t->s->image_snap)) && write_fakes(t, &why) != FDM_OK)
        complain(t, "the picture of samples", &why);
    const bool wanted = done || t->save_failed || (due(t->tick, t->s->dump) && t->tick > 0);
    t->tick++;
    t->tick_start = images;
    t->sums = (struct loss_sums){0};
    if (wanted) {
        t->save_failed = save_state(t, &why) != FDM_OK;
        if (t->save_failed) complain(t, "the training state", &why);
        if (t->save_failed && done && status == FDM_OK)
            status = fdm_fail(err, why.status, "the last training state was not written: %s", why.message);
    }
    t->tick_started = now();
    t->maintenance = t->tick_started - begun;
    return status;
}

/* Saves where the run stands between ticks, on request. */
static fdm_status stop_here(struct train_run *t, fdm_error *err) {
    fdm_error why = {0};
    fdm_run_dir_say(&t->dir, "stopping at %" PRId64 " images, saving", fdm_trainer_images(t->trainer));
    if (save_state(t, &why) == FDM_OK)
        return fdm_fail(err, FDM_INTERRUPTED, "interrupted at %" PRId64 " images, saved; go on with --resume %s",
                        fdm_trainer_images(t->trainer), t->dir.path);
    return fdm_fail(err, why.status, "interrupted, and the training state was not written: %s", why.message);
}

/* A power cut should cost minutes, however long a tick is. */
static void save_between_ticks(struct train_run *t) {
    fdm_error why = {0};
    t->save_failed = save_state(t, &why) != FDM_OK;
    if (t->save_failed) complain(t, "the training state", &why);
}

static fdm_status train_loop(struct train_run *t, fdm_error *err) {
    const int64_t per_tick = (int64_t)(t->s->tick * 1000);
    t->started = t->tick_started = t->saved = now();
    if (fdm_trainer_images(t->trainer) >= t->total) {
        fdm_run_dir_say(&t->dir, "nothing to do: %" PRId64 " images are done", fdm_trainer_images(t->trainer));
        return write_snapshot(t, err); /* again: it may have been what the disk had no room for */
    }
    if (t->hooks->progress) t->hooks->progress(t->hooks->user, fdm_trainer_images(t->trainer), t->total, NAN);
    for (;;) {
        fdm_status status = train_update(t, err);
        const int64_t images = fdm_trainer_images(t->trainer);
        const bool done = images >= t->total;
        if (status == FDM_OK && (done || t->tick == 0 || images >= t->tick_start + per_tick)) status = end_tick(t, done, err);
        if (status != FDM_OK || done) return status;
        if (t->hooks->stop && t->hooks->stop(t->hooks->user)) return stop_here(t, err);
        if (t->s->save_minutes > 0 && now() - t->saved >= 60 * t->s->save_minutes) save_between_ticks(t);
    }
}

/* --- beginning --- */

/* Of the data set, once: a run that is resumed may have been killed before. */
static fdm_status write_reals(struct train_run *t, fdm_error *err) {
    char path[FDM_RUN_PATH];
    if (fdm_run_dir_name(path, &t->dir, err, "reals.png") != FDM_OK) return FDM_BAD_USAGE;
    if (access(path, F_OK) == 0) return FDM_OK;
    fdm_image grid = {0};
    const int64_t count = fdm_dataset_count(t->data);
    const int n = (int)(count < t->s->image_count ? count : t->s->image_count);
    uint8_t *pixels = malloc((size_t)n * t->pixels);
    fdm_status status = pixels ? FDM_OK : fdm_fail_oom(err, "picture", (size_t)n * t->pixels);
    for (int i = 0; i < n && status == FDM_OK; i++) /* spread over the set, so that every class shows */
        status = fdm_dataset_image(t->data, (int64_t)i * count / n, pixels + (size_t)i * t->pixels, err);
    if (status == FDM_OK)
        status = fdm_image_grid(&grid, pixels, n, t->config.img_channels, t->config.img_resolution, t->config.img_resolution,
                                true, 0, err);
    if (status == FDM_OK) status = fdm_png_write(path, grid.pixels, grid.width, grid.height, grid.channels, err);
    fdm_image_free(&grid);
    free(pixels);
    return status;
}

static void add_facts(struct fdm_text *text, const struct train_run *t) {
    fdm_text_printf(text, "  \"dataset_kwargs\": {\"path\": ");
    fdm_text_json_string(text, t->s->data);
    fdm_text_printf(text, ", \"use_labels\": %s, \"xflip\": %s, \"resolution\": %d, \"channels\": %d, \"label_dim\": %d, "
                    "\"images\": %" PRId64 "},\n", t->s->cond ? "true" : "false", t->s->xflip ? "true" : "false",
                    t->config.img_resolution, t->config.img_channels, t->config.label_dim, fdm_dataset_count(t->data));
    fdm_text_printf(text, "  \"optimizer_kwargs\": {\"class_name\": \"Adam\", \"lr\": %.17g, \"betas\": [0.9, 0.999], "
                    "\"eps\": 1e-8},\n", t->s->lr);
    fdm_text_printf(text, "  \"batch_size\": %" PRId64 ", \"batch_gpu\": %d, \"total_kimg\": %.17g, \"kimg_per_tick\": %.17g, "
                    "\"snapshot_ticks\": %" PRId64 ", \"state_dump_ticks\": %" PRId64 ",\n", t->s->batch, t->round,
                    t->s->duration * 1000, t->s->tick, t->s->snap, t->s->dump);
    fdm_text_printf(text, "  \"ema_halflife_kimg\": %.17g, \"lr_rampup_kimg\": %.17g, \"loss_scaling\": %.17g, \"seed\": %" PRId64
                    ",\n", t->s->ema * 1000, t->s->lr_rampup * 1000, t->s->ls, t->s->seed);
}

static fdm_status write_options(struct train_run *t, fdm_error *err) {
    char path[FDM_RUN_PATH];
    char *settings = fdm_train_settings_json(t->s), *network = fdm_config_json(&t->config);
    struct fdm_text text = {0};
    fdm_text_printf(&text, "{\n");
    add_facts(&text, t);
    fdm_text_printf(&text, "  \"network_kwargs\": %s,\n  \"settings\": %s\n}\n", network ? network : "", settings ? settings : "");
    fdm_status status = text.failed || !settings || !network ? fdm_fail_oom(err, "settings", 0) : FDM_OK;
    if (status == FDM_OK) status = fdm_run_dir_name(path, &t->dir, err, "training_options.json");
    if (status == FDM_OK) status = fdm_atomic_write_file(path, text.bytes, text.length, err);
    fdm_text_free(&text);
    free(settings);
    free(network);
    return status;
}

static void describe(struct fdm_text *text, const struct train_run *t) {
    const fdm_train_settings *s = t->s;
    size_t activations = 0;
    fdm_gradient *g = fdm_trainer_gradient(t->trainer);
    (void)fdm_gradient_plan_bytes(g, t->round, fdm_gradient_dtype(g), t->run->recompute,
                                  &activations, NULL);
    const double parameters = (double)fdm_gradient_size(g);
    int depth = 0;
    for (int64_t rounds = s->batch / t->round; rounds; rounds >>= 1) depth++;
    const double bytes = parameters * 4 * (5 + depth) + (double)activations;
    fdm_text_printf(text, "data         %s: %" PRId64 " images%s, %dx%d, %d channels, %d classes\n", s->data,
                    fdm_dataset_count(t->data), s->xflip ? " (mirrored ones included)" : "", t->config.img_resolution,
                    t->config.img_resolution, t->config.img_channels, t->config.label_dim);
    fdm_text_printf(text, "network      %s, %s, %.0f parameters; %s\n", fdm_precond_class_name((fdm_precond_kind)s->precond),
                    s->arch == FDM_ARCH_DDPMPP ? "ddpmpp" : "ncsnpp", parameters, fdm_gradient_backend_name(g));
    fdm_text_printf(text, "updates      %" PRId64 " of %" PRId64 " images in rounds of %d, to %g kimg\n",
                    (t->total + s->batch - 1) / s->batch, s->batch, t->round, s->duration * 1000);
    if (s->warmup_ite > 0)
        fdm_text_printf(text, "warm-up      %g loss calls, one a round: the first %.0f updates%s\n", s->warmup_ite,
                        ceil(s->warmup_ite * t->round / (double)s->batch),
                        fdm_precond_is_fdm(t->config.precond.kind) ? "" : "; the published program has none here");
    fdm_text_printf(text, "memory       about %.0f MB, %.0f of them activations", bytes / 1e6, (double)activations / 1e6);
}

static fdm_status check_duration(struct train_run *t, fdm_error *err) {
    const double images = t->s->duration * 1e6;
    t->total = (int64_t)(images + 0.5);
    if (t->total < 1 || t->s->tick * 1000 < 1)
        return fdm_fail(err, FDM_BAD_USAGE, "--duration is in millions of images, --tick in thousands; both need at least one "
                        "image");
    return FDM_OK;
}

static struct train_run make_run(const fdm_train_settings *s, const fdm_run_options *run, const fdm_train_hooks *hooks) {
    static const fdm_train_hooks none = {0};
    fdm_run_options how = run ? *run : (fdm_run_options){0};
    how.conv = fdm_conv_mode_name((fdm_conv_mode)s->conv);
    return (struct train_run){.settings = *s, .how = how, .hooks = hooks ? hooks : &none, .dir = {.stats = -1},
                              .threads = run && run->threads ? run->threads : fdm_max_threads()};
}

fdm_status fdm_train_describe(char **text, const fdm_train_settings *s, const fdm_run_options *run, fdm_error *err) {
    struct train_run t = make_run(s, run, NULL);
    struct fdm_text out = {0};
    t.s = &t.settings, t.run = &t.how;
    t.dir.hooks = t.hooks;
    *text = NULL;
    fdm_status status = fdm_train_check(s, err);
    if (status == FDM_OK) status = check_duration(&t, err);
    if (status == FDM_OK) status = open_data(&t, err);
    if (status == FDM_OK) status = start_fresh(&t, err);
    if (status == FDM_OK) status = choose_round(&t, err);
    if (status == FDM_OK) describe(&out, &t);
    free_run(&t);
    if (status == FDM_OK && out.failed) status = fdm_fail_oom(err, "description", 0);
    if (status == FDM_OK) *text = out.bytes;
    else fdm_text_free(&out);
    return status;
}

/* Everything up to the first update. */
static fdm_status prepare(struct train_run *t, const char *run_dir, bool resume, fdm_error *err) {
    fdm_status status = fdm_train_check(t->s, err);
    if (status == FDM_OK) status = check_duration(t, err);
    if (status == FDM_OK) status = open_data(t, err); /* bad data leaves no folder behind */
    if (status == FDM_OK) status = fdm_loss_init(&t->loss, t->config.precond.kind, err);
    if (status == FDM_OK) status = fdm_run_dir_open(&t->dir, run_dir, resume, t->hooks, err);
    if (status == FDM_OK) status = resume ? start_from_newest(t, err) : start_fresh(t, err);
    if (status == FDM_OK) status = choose_round(t, err);
    if (status == FDM_OK) status = allocate_batch(t, err);
    if (status == FDM_OK) status = write_options(t, err);
    if (status == FDM_OK) status = write_reals(t, err);
    if (status == FDM_OK) status = fdm_loader_open(&t->loader, t->data, next_index, t, 2 * t->s->batch, err);
    return status;
}

fdm_status fdm_train(const char *run_dir, const fdm_train_settings *settings, bool resume, const fdm_run_options *run,
                     const fdm_train_hooks *hooks, fdm_error *err) {
    struct train_run t = make_run(settings, run, hooks);
    struct fdm_text text = {0};
    t.s = &t.settings, t.run = &t.how;
    fdm_status status = prepare(&t, run_dir, resume, err);
    if (status == FDM_OK) {
        describe(&text, &t);
        fdm_run_dir_say(&t.dir, "run directory %s\n%s", run_dir, text.bytes ? text.bytes : "");
        fdm_text_free(&text);
        status = train_loop(&t, err);
    }
    free_run(&t);
    return status;
}

fdm_status fdm_train_adopt(const char *run_dir, const fdm_train_settings *settings, const fdm_tensors *state, const char *where,
                           const fdm_run_options *run, const fdm_train_hooks *hooks, fdm_error *err) {
    struct train_run t = make_run(settings, run, hooks);
    t.s = &t.settings, t.run = &t.how;
    const fdm_trainer_options options = trainer_options(t.s);
    fdm_status status = fdm_train_check(t.s, err);
    if (status == FDM_OK) status = check_duration(&t, err);
    if (status == FDM_OK) status = open_data(&t, err);
    if (status == FDM_OK) status = fdm_trainer_restore(&t.trainer, state, where, &options, t.run, err);
    if (status == FDM_OK) status = check_same_network(&t, where, err);
    if (status == FDM_OK) status = start_order(&t, err);
    if (status == FDM_OK) status = choose_round(&t, err);
    if (status == FDM_OK) status = fdm_run_dir_open(&t.dir, run_dir, false, t.hooks, err); /* a bad file leaves no folder behind */
    if (status == FDM_OK) status = write_options(&t, err);
    if (status == FDM_OK) t.tick_start = fdm_trainer_images(t.trainer);
    if (status == FDM_OK) status = save_state(&t, err);
    if (status == FDM_OK)
        fdm_run_dir_say(&t.dir, "imported %s: %" PRId64 " images, %" PRId64 " updates", where, fdm_trainer_images(t.trainer),
                        fdm_trainer_updates(t.trainer));
    free_run(&t);
    return status;
}
