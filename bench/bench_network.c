/* bench_network.c - one contender of bench_network.py: the forward pass of a model file, timed on request.
 *
 *   bench_network MODEL N THREADS
 *
 * Prints `ready NAME LOAD_SECONDS` once it has loaded the model and run once, then for each line `run` on stdin
 * the seconds of one forward pass of N samples.  Staying alive keeps weights and pages warm, so that the rounds of
 * several contenders can alternate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fdm/denoiser.h"

struct inputs {
    double *x, *sigma, *class_labels, *augment_labels, *D;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double *doubles(size_t count) { return calloc(count ? count : 1, sizeof(double)); }

static void free_inputs(struct inputs *in) {
    free(in->x);
    free(in->sigma);
    free(in->class_labels);
    free(in->augment_labels);
    free(in->D);
}

/* Values like those of a sampler in the middle of its run: noise of the size of sigma, one class, no augmentation. */
static int make_inputs(struct inputs *in, const fdm_config *c, size_t n) {
    size_t image = (size_t)c->img_channels * (size_t)c->img_resolution * (size_t)c->img_resolution;
    size_t labels = (size_t)c->label_dim, augment = (size_t)c->augment_dim;
    in->x = doubles(n * image);
    in->sigma = doubles(n);
    in->class_labels = doubles(n * labels);
    in->augment_labels = doubles(n * augment);
    in->D = doubles(n * image);
    if (!in->x || !in->sigma || !in->class_labels || !in->augment_labels || !in->D) return 0;
    unsigned state = 1;
    for (size_t i = 0; i < n; i++) {
        in->sigma[i] = 0.5 + 0.25 * (double)i;
        for (size_t j = 0; j < image; j++) {
            state = state * 1664525u + 1013904223u;
            in->x[i * image + j] = in->sigma[i] * ((double)state / 2147483648.0 - 1.0);
        }
        if (labels) in->class_labels[i * labels + i % labels] = 1.0;
    }
    return 1;
}

static int forward(fdm_denoiser *denoiser, const struct inputs *in, int n) {
    const fdm_config *c = fdm_denoiser_config(denoiser);
    fdm_denoise_args args = {.n = n, .x = in->x, .sigma = in->sigma};
    if (c->label_dim) args.class_labels = in->class_labels;
    if (c->augment_dim) args.augment_labels = in->augment_labels;
    fdm_error err = {0};
    if (fdm_denoise(denoiser, in->D, &args, &err) == FDM_OK) return 1;
    fprintf(stderr, "bench_network: %s\n", err.message);
    return 0;
}

static int serve(fdm_denoiser *denoiser, const struct inputs *in, int n) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "run\n") != 0) break;
        double start = now();
        if (!forward(denoiser, in, n)) return 0;
        printf("%.6f\n", now() - start);
        fflush(stdout);
    }
    return 1;
}

int main(int argc, char **argv) {
    int n = argc > 2 ? atoi(argv[2]) : 0, threads = argc > 3 ? atoi(argv[3]) : 0;
    if (argc != 4 || n < 1 || n > 4096 || threads < 0) {
        fprintf(stderr, "usage: bench_network MODEL N THREADS   (then one line `run` per forward pass on stdin)\n");
        return 2;
    }
    fdm_run_options options = {.threads = threads};
    fdm_denoiser *denoiser = NULL;
    fdm_error err = {0};
    struct inputs in = {0};
    double start = now();
    int ok = fdm_denoiser_load(&denoiser, argv[1], &options, &err) == FDM_OK;
    double load = now() - start;
    if (!ok) fprintf(stderr, "bench_network: %s\n", err.message);
    ok = ok && make_inputs(&in, fdm_denoiser_config(denoiser), (size_t)n) && forward(denoiser, &in, n);
    if (ok) {
        printf("ready fdm %s %.6f\n", fdm_denoiser_backend_name(denoiser), load);
        fflush(stdout);
        ok = serve(denoiser, &in, n);
    }
    free_inputs(&in);
    fdm_denoiser_free(&denoiser);
    return ok ? 0 : 1;
}
