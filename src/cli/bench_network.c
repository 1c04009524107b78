/* bench_network.c - a whole model: the forward pass of a batch, and images from noise. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "cli/bench.h"
#include "fdm/init.h"
#include "fdm/safetensors.h"
#include "fdm/sample.h"
#include "nn/network.h"

/* ---- Which model -------------------------------------------------------------------------------------------------- */

/* The published CIFAR-10 network (ddpmpp) under FDM's EDM preconditioning. */
static const char default_config[] =
    "{\"class_name\": \"FDM_EDMPrecond\", \"fdm_multiplier\": 2, \"img_resolution\": 32, \"img_channels\": 3,"
    " \"label_dim\": 0, \"augment_dim\": 9, \"model_channels\": 128, \"channel_mult\": [2, 2, 2], \"num_blocks\": 4,"
    " \"attn_resolutions\": [16], \"dropout\": 0.13}";

/* The default with the keys of `changes` replaced. */
static fdm_status parse_config(fdm_config *config, const char *changes, fdm_error *err) {
    json_t *base = json_loads(default_config, 0, NULL), *object = json_loads(changes ? changes : "{}", 0, NULL);
    fdm_status status = FDM_OK;
    char *text = NULL;
    if (!json_is_object(object))
        status = fdm_fail(err, FDM_BAD_USAGE, "--config: not a JSON object such as {\"model_channels\": 64}");
    else if (!base || json_object_update(base, object) != 0 || !(text = json_dumps(base, 0)))
        status = fdm_fail_oom(err, "configuration", 0);
    if (status == FDM_OK) status = fdm_config_parse(config, text, strlen(text), NULL, "--config", err);
    if (status == FDM_BAD_INPUT) status = FDM_BAD_USAGE; /* it came from the command line, not from a file */
    free(text);
    json_decref(base);
    json_decref(object);
    return status;
}

fdm_status bench_model_load(fdm_tensors *set, fdm_config *config, const struct bench_setup *setup, fdm_error *err) {
    fdm_status status;
    if (setup->model) {
        status = fdm_safetensors_read(set, setup->model, err);
        if (status == FDM_OK) status = fdm_config_from_tensors(config, set, setup->model, err);
    } else {
        fdm_rng rng;
        fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, 1);
        status = parse_config(config, setup->config, err);
        if (status == FDM_OK) status = fdm_init_weights(set, config, &rng, err);
    }
    return status;
}

/* ---- The batch ---------------------------------------------------------------------------------------------------- */

struct bench_network {
    fdm_denoiser *denoiser;
    int n;            /* of a batch */
    int64_t images;   /* of a sampling run */
    fdm_sample_options how;
    double *x, *sigma, *labels, *D; /* of a batch; labels NULL without classes */
    double *samples;  /* (N, C, R, R): what sampling makes */
    float *latents;   /* (images, C, R, R) */
    struct bench_profile profile;
};

static size_t pixels_of(const fdm_config *c) {
    return (size_t)c->img_channels * (size_t)c->img_resolution * (size_t)c->img_resolution;
}

/* Values like those of a sampler in the middle of its run: noise of the size of sigma, one class. */
static fdm_status make_batch(struct bench_network *b, fdm_error *err) {
    const fdm_config *c = fdm_denoiser_config(b->denoiser);
    const size_t n = (size_t)b->n, pixels = pixels_of(c), classes = (size_t)c->label_dim;
    fdm_rng rng;
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, 1);
    b->x = calloc(n * pixels, sizeof *b->x);
    b->D = calloc(n * pixels, sizeof *b->D);
    b->sigma = calloc(n, sizeof *b->sigma);
    b->labels = classes ? calloc(n * classes, sizeof *b->labels) : NULL;
    if (!b->x || !b->D || !b->sigma || (classes && !b->labels)) return fdm_fail_oom(err, "batch", n * pixels);
    fdm_rng_normal_f64(&rng, b->x, n * pixels);
    for (size_t i = 0; i < n; i++) {
        b->sigma[i] = 0.5 + 0.25 * (double)(i % 64);
        for (size_t j = 0; j < pixels; j++) b->x[i * pixels + j] *= b->sigma[i];
        if (classes) b->labels[i * classes + i % classes] = 1;
    }
    return FDM_OK;
}

static fdm_status forward(void *state, fdm_error *err) {
    struct bench_network *b = state;
    const fdm_denoise_args args = {
        .n = b->n, .x = b->x, .sigma = b->sigma, .class_labels = b->labels, .stop = fdm_stop_if_interrupted};
    bench_profile_into(&b->profile);
    const fdm_status status = fdm_denoise(b->denoiser, b->D, &args, err);
    bench_profile_into(NULL);
    return status;
}

/* ---- Sampling: batch by batch, pixels included -------------------------------------------------------------------- */

static fdm_status denoise_step(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err) {
    struct bench_network *b = ctx;
    for (int i = 0; i < n; i++) b->sigma[i] = sigma;
    const fdm_denoise_args args = {
        .n = n, .x = x, .sigma = b->sigma, .class_labels = b->labels, .stop = fdm_stop_if_interrupted};
    return fdm_denoise(b->denoiser, D, &args, err);
}

static fdm_status sample(void *state, fdm_error *err) {
    struct bench_network *b = state;
    const fdm_config *c = fdm_denoiser_config(b->denoiser);
    const size_t pixels = pixels_of(c);
    uint8_t *image = malloc(pixels);
    fdm_status status = image ? FDM_OK : fdm_fail_oom(err, "image", pixels);
    for (int64_t first = 0; first < b->images && status == FDM_OK; first += b->n) {
        const int n = (int)(b->images - first < b->n ? b->images - first : b->n);
        const fdm_denoise_fn net = {.call = denoise_step, .ctx = b, .sigma_min = c->precond.sigma_min,
                                    .sigma_max = c->precond.sigma_max, .n = n, .c = c->img_channels,
                                    .h = c->img_resolution, .w = c->img_resolution};
        status = fdm_sample(b->samples, NULL, b->latents + (size_t)first * pixels, &net, NULL, NULL, &b->how, err);
        for (int i = 0; i < n && status == FDM_OK; i++)
            fdm_pixels_from_x(image, b->samples + (size_t)i * pixels, c->img_channels, c->img_resolution, c->img_resolution);
    }
    free(image);
    return status;
}

static fdm_status make_latents(struct bench_network *b, const struct bench_setup *setup, fdm_error *err) {
    const size_t pixels = pixels_of(fdm_denoiser_config(b->denoiser)), count = (size_t)setup->images * pixels;
    fdm_rng rng;
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, 2);
    b->images = setup->images;
    b->how = fdm_sample_defaults();
    b->how.num_steps = (int)setup->steps;
    b->latents = malloc(count * sizeof *b->latents);
    b->samples = malloc((size_t)b->n * pixels * sizeof *b->samples);
    if (!b->latents || !b->samples) return fdm_fail_oom(err, "latents", count);
    fdm_rng_normal_f32(&rng, b->latents, count);
    return FDM_OK;
}

/* ---- The group ---------------------------------------------------------------------------------------------------- */

double bench_executed_share(const struct fdm_graph *g, const fdm_run_options *run, bool d_weight) {
    double direct = 0, executed = 0;
    for (int i = 0; i < g->step_count; i++) {
        const struct fdm_step *s = &g->steps[i];
        const double flops = fdm_step_flops(g, s);
        direct += flops;
        const struct fdm_module *m = s->op == FDM_OP_CONV2D ? &g->modules[s->module] : NULL;
        executed += m ? flops / bench_conv_saving(run, m->in, m->out, m->k, d_weight) : flops;
    }
    return direct > 0 ? executed / direct : 1;
}

/* As named in the published options. */
static const char *arch_name(const fdm_config *c) {
    return c->encoder_type == FDM_RESIDUAL ? "ncsnpp" : "ddpmpp";
}

static fdm_status add_case(struct bench_network *b, struct bench_cases *cases, const struct bench_setup *setup,
                           enum bench_group group, const struct bench_memory *before, fdm_error *err) {
    const fdm_config *c = fdm_denoiser_config(b->denoiser);
    fdm_config_size size;
    char name[48];
    fdm_status status = fdm_config_measure(&size, c, err);
    if (status != FDM_OK) return status;
    snprintf(name, sizeof name, "%s %dx%d, %.1f M", arch_name(c), c->img_resolution, c->img_resolution,
             (double)size.parameters * 1e-6);
    struct bench_case *k = bench_case_add(cases, group, name, group == BENCH_SAMPLE ? "sample" : "forward");
    if (!k) return fdm_fail(err, FDM_BAD_USAGE, "too many things to time at once");
    const double calls = group == BENCH_SAMPLE ? fdm_sample_nfe(&b->how) : 1;
    k->n = group == BENCH_SAMPLE ? (int)b->images : b->n;
    k->graph = &fdm_denoiser_network(b->denoiser)->graph;
    k->flops = (double)size.flops * k->n * calls;
    k->executed = k->flops * bench_executed_share(k->graph, &setup->run, false);
    k->state = b;
    k->run = group == BENCH_SAMPLE ? sample : forward;
    k->profile = group == BENCH_SAMPLE ? NULL : &b->profile;
    status = forward(b, err); /* plans, touches every page */
    b->profile = (struct bench_profile){0};
    k->memory = bench_memory().peak - before->now;
    return status;
}

fdm_status bench_network_add(struct bench_network **network, struct bench_cases *cases, const struct bench_setup *setup,
                             enum bench_group group, fdm_error *err) {
    struct bench_network *b = *network = calloc(1, sizeof *b);
    if (!b) return fdm_fail_oom(err, "network", sizeof *b);
    fdm_tensors set = {0};
    fdm_config config;
    bench_memory_reset();
    const struct bench_memory before = bench_memory();
    fdm_status status = bench_model_load(&set, &config, setup, err);
    if (status == FDM_OK)
        status = fdm_denoiser_create(&b->denoiser, &config, &set, setup->model ? setup->model : "bench", &setup->run, err);
    fdm_tensors_free(&set);
    if (status != FDM_OK) return status;
    bench_profile_attach(fdm_denoiser_network(b->denoiser));
    b->n = setup->batch;
    status = make_batch(b, err);
    if (status == FDM_OK && group == BENCH_SAMPLE) status = make_latents(b, setup, err);
    return status == FDM_OK ? add_case(b, cases, setup, group, &before, err) : status;
}

void bench_network_free(struct bench_network **network) {
    struct bench_network *b = *network;
    if (!b) return;
    fdm_denoiser_free(&b->denoiser);
    free(b->x);
    free(b->sigma);
    free(b->labels);
    free(b->D);
    free(b->samples);
    free(b->latents);
    free(b);
    *network = NULL;
}
