/* bench_train.c - a whole training step of a model: random numbers, augmentation, loss, backward pass, Adam, averages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/bench.h"
#include "fdm/augment.h"
#include "fdm/loss.h"
#include "fdm/train_stream.h"
#include "fdm/trainer.h"
#include "nn/network.h"
#include "train/gradient.h"

enum { SEED = 1 };

struct bench_train {
    fdm_trainer *trainer;
    fdm_loss loss;
    int n, threads, channels, resolution;
    size_t pixels; /* of one image, all channels */
    double dropout, augment;
    uint64_t images;                                  /* so far */
    double *data, *y, *noise, *sigma, *losses;        /* (N, C, R, R) three times, (N) twice: one block of memory */
    double *labels, *augment_labels;                  /* NULL where the network takes none */
    uint64_t *keys;
    fdm_augment_draws *draws;
    struct bench_profile profile;
};

static fdm_status make_batch(struct bench_train *t, const fdm_config *c, fdm_error *err) {
    const size_t n = (size_t)t->n, classes = (size_t)c->label_dim;
    t->channels = c->img_channels;
    t->resolution = c->img_resolution;
    t->pixels = (size_t)t->channels * (size_t)t->resolution * (size_t)t->resolution;
    t->data = calloc(n * (3 * t->pixels + 2), sizeof *t->data);
    t->labels = classes ? calloc(n * classes, sizeof *t->labels) : NULL;
    t->augment_labels = c->augment_dim == FDM_AUGMENT_LABELS ? calloc(n * FDM_AUGMENT_LABELS, sizeof(double)) : NULL;
    t->keys = calloc(n, sizeof *t->keys);
    t->draws = calloc(n, sizeof *t->draws);
    if (!t->data || (classes && !t->labels) || (c->augment_dim == FDM_AUGMENT_LABELS && !t->augment_labels) || !t->keys ||
        !t->draws)
        return fdm_fail_oom(err, "batch", n * 3 * t->pixels * sizeof *t->data);
    t->y = t->data + n * t->pixels;
    t->noise = t->y + n * t->pixels;
    t->sigma = t->noise + n * t->pixels;
    t->losses = t->sigma + n;
    uint32_t state = 1;
    for (size_t i = 0; i < n * t->pixels; i++) {
        state = state * 1664525u + 1013904223u;
        t->data[i] = (double)(state >> 24) / 127.5 - 1;
    }
    for (size_t i = 0; i < n && classes; i++) t->labels[i * classes + i % classes] = 1;
    return FDM_OK;
}

static void draw(struct bench_train *t) {
    for (int i = 0; i < t->n; i++) {
        fdm_train_draws d;
        fdm_train_stream_draw(&d, t->noise + (size_t)i * t->pixels, t->pixels, &t->loss, SEED, t->images++);
        t->sigma[i] = fdm_loss_sigma(&t->loss, d.sigma_random, FDM_F32);
        t->keys[i] = d.dropout_key;
        t->draws[i] = d.augment;
    }
}

static fdm_status step(void *state, fdm_error *err) {
    struct bench_train *t = state;
    fdm_status status = FDM_OK;
    double clock = bench_now();
    bench_profile_into(&t->profile);
    draw(t);
    if (t->augment > 0)
        status = fdm_augment_batch(t->y, t->augment_labels, t->data, t->draws, t->n, t->channels, t->resolution, t->augment,
                                   FDM_AUGMENT_PAD_BATCH, t->threads, err);
    else
        memcpy(t->y, t->data, (size_t)t->n * t->pixels * sizeof *t->y);
    bench_profile_add(&t->profile, BENCH_DATA, bench_now() - clock);
    const fdm_gradient_args args = {.n = t->n, .y = t->y, .sigma = t->sigma, .noise_unit = t->noise,
                                    .class_labels = t->labels, .augment_labels = t->augment_labels, .dropout = t->dropout,
                                    .dropout_keys = t->keys, .loss = t->losses, .stop = fdm_stop_if_interrupted};
    if (status == FDM_OK) status = fdm_trainer_round(t->trainer, &args, NULL, err);
    clock = bench_now();
    const double packing = t->profile.kinds[BENCH_PACKING].seconds; /* happens inside, and is counted there */
    if (status == FDM_OK) status = fdm_trainer_update(t->trainer, NULL, err);
    bench_profile_add(&t->profile, BENCH_UPDATE,
                      bench_now() - clock - (t->profile.kinds[BENCH_PACKING].seconds - packing));
    bench_profile_into(NULL);
    return status;
}

static fdm_status make_trainer(struct bench_train *t, fdm_config *config, const struct bench_setup *setup, fdm_error *err) {
    fdm_tensors set = {0};
    fdm_trainer_options options = fdm_trainer_defaults();
    options.batch = t->n;
    fdm_status status = bench_model_load(&set, config, setup, err);
    if (status == FDM_OK) status = fdm_loss_init(&t->loss, config->precond.kind, err);
    if (status == FDM_OK)
        status = fdm_trainer_create(&t->trainer, config, &set, setup->model ? setup->model : "bench", &options, &setup->run,
                                    err);
    fdm_tensors_free(&set);
    return status;
}

/* Backward is twice forward, for the gradients of inputs and weights; recomputation is not counted. */
static fdm_status add_case(struct bench_train *t, struct bench_cases *cases, const fdm_config *config,
                           const struct bench_setup *setup, const struct bench_memory *before, fdm_error *err) {
    static const char *const kept[] = {"recompute off", "recompute norm", "recompute block"};
    fdm_config_size size;
    fdm_status status = fdm_config_measure(&size, config, err);
    if (status != FDM_OK) return status;
    struct bench_case *k = bench_case_add(cases, BENCH_TRAIN, kept[setup->run.recompute], "step");
    if (!k) return fdm_fail(err, FDM_BAD_USAGE, "too many things to time at once");
    k->n = t->n;
    const struct fdm_graph *graph = &fdm_gradient_network(fdm_trainer_gradient(t->trainer))->graph;
    const double forward = (double)size.flops * t->n;
    k->flops = 3 * forward;
    k->executed = forward * (2 * bench_executed_share(graph, &setup->run, false) + bench_executed_share(graph, &setup->run, true));
    k->run = step;
    k->state = t;
    k->profile = &t->profile;
    status = step(t, err); /* plans, touches every page */
    t->profile = (struct bench_profile){0};
    k->memory = bench_memory().peak - before->now;
    return status;
}

fdm_status bench_train_add(struct bench_train **train, struct bench_cases *cases, const struct bench_setup *setup,
                           fdm_error *err) {
    struct bench_train *t = *train = calloc(1, sizeof *t);
    if (!t) return fdm_fail_oom(err, "training", sizeof *t);
    fdm_config config;
    t->n = setup->batch;
    t->threads = setup->run.threads;
    t->augment = setup->augment;
    bench_memory_reset();
    const struct bench_memory before = bench_memory();
    fdm_status status = make_trainer(t, &config, setup, err);
    if (status != FDM_OK) return status;
    t->dropout = setup->dropout >= 0 ? setup->dropout : config.dropout;
    bench_profile_attach(fdm_gradient_network(fdm_trainer_gradient(t->trainer)));
    status = make_batch(t, &config, err);
    return status == FDM_OK ? add_case(t, cases, &config, setup, &before, err) : status;
}

void bench_train_free(struct bench_train **train) {
    struct bench_train *t = *train;
    if (!t) return;
    fdm_trainer_free(&t->trainer);
    free(t->data);
    free(t->labels);
    free(t->augment_labels);
    free(t->keys);
    free(t->draws);
    free(t);
    *train = NULL;
}
