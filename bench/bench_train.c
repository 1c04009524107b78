/* bench_train.c - one contender of bench_train.py: whole training steps of a model file, timed on request.
 *
 *   bench_train MODEL [--n 8] [--threads 2] [--isa ISA] [--recompute off|norm|block] [--dropout 0.13] [--augment 0.12]
 *                     [--profile STEPS]
 *
 * Prints `ready NAME LOAD_SECONDS` once it has loaded the model and made one step, then for each line `run` on stdin
 *   SECONDS DRAW AUGMENT GRADIENT UPDATE
 * of one step and of its parts: the images' random numbers; augmentation of the batch; forward and backward; clean-up
 * of the gradient, Adam and the averages.  Staying alive keeps weights and pages warm, so that the rounds of several
 * contenders can alternate.
 *
 * With --profile: makes so many steps on one thread instead and prints the CPU time of every kind of layer (profile.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/memory.h"
#include "bench/profile.h"
#include "fdm/augment.h"
#include "fdm/loss.h"
#include "fdm/safetensors.h"
#include "fdm/train_stream.h"
#include "fdm/trainer.h"

enum { PARTS = 4, SEED = 1 };

struct training {
    fdm_trainer *trainer;
    fdm_loss loss;
    int n, threads, channels, resolution;
    size_t pixels; /* of one image, all channels */
    double dropout, augment;
    uint64_t images; /* so far */
    double *data, *y, *noise, *sigma, *labels, *losses;
    double *augment_labels; /* NULL where the network takes none */
    uint64_t *keys;
    fdm_augment_draws *draws;
};

static clockid_t which_clock = CLOCK_MONOTONIC;

static double now(void) {
    struct timespec t;
    clock_gettime(which_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int say(const fdm_error *err) {
    fprintf(stderr, "bench_train: %s\n", err->message);
    return 0;
}

/* Random numbers of the next n images, with sigmas, dropout keys and noise made of them. */
static void draw(struct training *t) {
    for (int i = 0; i < t->n; i++) {
        fdm_train_draws d;
        fdm_train_stream_draw(&d, t->noise + (size_t)i * t->pixels, t->pixels, &t->loss, SEED, t->images++);
        t->sigma[i] = fdm_loss_sigma(&t->loss, d.sigma_random, FDM_F32);
        t->keys[i] = d.dropout_key;
        t->draws[i] = d.augment;
    }
}

static fdm_status augment(struct training *t, fdm_error *err) {
    if (t->augment > 0)
        return fdm_augment_batch(t->y, t->augment_labels, t->data, t->draws, t->n, t->channels, t->resolution, t->augment,
                                 FDM_AUGMENT_PAD_BATCH, t->threads, err);
    memcpy(t->y, t->data, (size_t)t->n * t->pixels * sizeof *t->y);
    return FDM_OK;
}

static int step(struct training *t, double seconds[PARTS]) {
    fdm_error err = {0};
    double clock[PARTS + 1];
    clock[0] = now();
    draw(t);
    clock[1] = now();
    fdm_status status = augment(t, &err);
    clock[2] = now();
    const fdm_gradient_args args = {.n = t->n, .y = t->y, .sigma = t->sigma, .noise_unit = t->noise,
                                    .class_labels = t->labels, .augment_labels = t->augment_labels,
                                    .dropout = t->dropout, .dropout_keys = t->keys, .loss = t->losses};
    if (status == FDM_OK) status = fdm_trainer_round(t->trainer, &args, NULL, &err);
    clock[3] = now();
    if (status == FDM_OK) status = fdm_trainer_update(t->trainer, NULL, &err);
    clock[4] = now();
    for (int i = 0; i < PARTS; i++) seconds[i] = clock[i + 1] - clock[i];
    return status == FDM_OK ? 1 : say(&err);
}

static int serve(struct training *t) {
    char line[64];
    double s[PARTS];
    while (fgets(line, sizeof line, stdin) && !strcmp(line, "run\n")) {
        if (!step(t, s)) return 0;
        printf("%.6f %.6f %.6f %.6f %.6f\n", s[0] + s[1] + s[2] + s[3], s[0], s[1], s[2], s[3]);
        fflush(stdout);
    }
    return 1;
}

static int print_profile(struct training *t, int steps) {
    double s[PARTS], total = 0, update = 0;
    profile_reset();
    for (int i = 0; i < steps; i++) {
        if (!step(t, s)) return 0;
        total += s[0] + s[1] + s[2] + s[3];
        update += s[3];
    }
    profile_print(steps, total, update);
    return 1;
}

static double *doubles(size_t count) { return calloc(count ? count : 1, sizeof(double)); }

/* Buffers of a batch, with images of random pixels and one class each. */
static int make_batch(struct training *t, const fdm_config *c) {
    const size_t n = (size_t)t->n, classes = (size_t)c->label_dim;
    t->channels = c->img_channels, t->resolution = c->img_resolution;
    t->pixels = (size_t)t->channels * (size_t)t->resolution * (size_t)t->resolution;
    t->data = doubles(n * t->pixels);
    t->y = doubles(n * t->pixels);
    t->noise = doubles(n * t->pixels);
    t->sigma = doubles(n);
    t->losses = doubles(n);
    t->labels = classes ? doubles(n * classes) : NULL;
    t->augment_labels = c->augment_dim == FDM_AUGMENT_LABELS ? doubles(n * FDM_AUGMENT_LABELS) : NULL;
    t->keys = calloc(n, sizeof *t->keys);
    t->draws = calloc(n, sizeof *t->draws);
    if (!t->data || !t->y || !t->noise || !t->sigma || !t->losses || !t->keys || !t->draws) return 0;
    unsigned state = 1;
    for (size_t i = 0; i < n * t->pixels; i++) {
        state = state * 1664525u + 1013904223u;
        t->data[i] = (double)(state >> 24) / 127.5 - 1;
    }
    for (size_t i = 0; t->labels && i < n; i++) t->labels[i * classes + i % classes] = 1;
    return 1;
}

static void free_training(struct training *t) {
    fdm_trainer_free(&t->trainer);
    free(t->data);
    free(t->y);
    free(t->noise);
    free(t->sigma);
    free(t->losses);
    free(t->labels);
    free(t->augment_labels);
    free(t->keys);
    free(t->draws);
}

static int load(struct training *t, const char *path, const fdm_run_options *run) {
    fdm_tensors set = {0};
    fdm_config config;
    fdm_error err = {0};
    fdm_trainer_options options = fdm_trainer_defaults();
    options.batch = t->n;
    fdm_status status = fdm_safetensors_read(&set, path, &err);
    if (status == FDM_OK) status = fdm_config_from_tensors(&config, &set, path, &err);
    if (status == FDM_OK) status = fdm_loss_init(&t->loss, config.precond.kind, &err);
    if (status == FDM_OK) status = fdm_trainer_create(&t->trainer, &config, &set, path, &options, run, &err);
    fdm_tensors_free(&set);
    if (status != FDM_OK) return say(&err);
    return make_batch(t, &config) ? 1 : (fprintf(stderr, "bench_train: out of memory\n"), 0);
}

static fdm_recompute recompute_of(const char *name) {
    return !strcmp(name, "block") ? FDM_RECOMPUTE_BLOCK : !strcmp(name, "norm") ? FDM_RECOMPUTE_NORM : FDM_RECOMPUTE_OFF;
}

int main(int argc, char **argv) {
    struct training t = {.n = atoi(bench_option(argc, argv, "--n", "8")),
                         .threads = atoi(bench_option(argc, argv, "--threads", "2")),
                         .dropout = atof(bench_option(argc, argv, "--dropout", "0.13")),
                         .augment = atof(bench_option(argc, argv, "--augment", "0.12"))};
    const char *recompute = bench_option(argc, argv, "--recompute", "off");
    const int profiled = atoi(bench_option(argc, argv, "--profile", "0"));
    if (profiled > 0) {
        t.threads = 1;
        which_clock = CLOCK_THREAD_CPUTIME_ID;
        profile_start();
    }
    if (argc < 2 || argv[1][0] == '-' || t.n < 1 || t.n > 4096 || t.threads < 1) {
        fprintf(stderr, "usage: bench_train MODEL [--n N] [--threads N] [--isa ISA] [--recompute off|norm|block] "
                        "[--dropout P] [--augment P] [--profile STEPS]\n");
        return 2;
    }
    const fdm_run_options run = {.isa = bench_option(argc, argv, "--isa", NULL),
                                 .threads = t.threads,
                                 .recompute = recompute_of(recompute)};
    double seconds[PARTS];
    const double start = now();
    int ok = load(&t, argv[1], &run);
    const double loaded = now() - start;
    ok = ok && step(&t, seconds);
    if (ok) {
        printf("ready fdm %s, recompute %s %.6f\n", fdm_gradient_backend_name(fdm_trainer_gradient(t.trainer)), recompute, loaded);
        fflush(stdout);
        ok = profiled > 0 ? print_profile(&t, profiled) : serve(&t);
    }
    free_training(&t);
    return ok ? 0 : 1;
}
