/* denoiser.c - the preconditioned network as one object: load, plan, run. */
#include "fdm/denoiser.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/threads.h"
#include "fdm/safetensors.h"
#include "nn/weights.h"
#include "simd/kernels.h"

enum { MAX_THREADS = 1024, MAX_BATCH = 65536 };

struct fdm_denoiser {
    fdm_config config;
    const struct fdm_backend *backend;
    struct fdm_exec exec;
    char backend_name[32];
    struct fdm_graph graph;
    char *slab;             /* packed parameters */
    struct fdm_plan plan;   /* of the latest batch size; plan.n == 0: none yet */
    char *arena;            /* plan.arena_bytes */
};

/* --- choosing how to compute --- */

static fdm_status choose_backend(fdm_denoiser *d, const fdm_run_options *options, fdm_error *err) {
    const char *name = options && options->backend ? options->backend : "auto";
    const int threads = options ? options->threads : 0;
    if (threads < 0 || threads > MAX_THREADS)
        return fdm_fail(err, FDM_BAD_USAGE, "threads: %d is not a number from 0 (automatic) to %d", threads, MAX_THREADS);
    d->exec.threads = threads ? threads : fdm_max_threads();
    if (strcmp(name, "reference") == 0) {
        d->backend = fdm_backend_reference();
        snprintf(d->backend_name, sizeof d->backend_name, "reference (f64)");
        return FDM_OK;
    }
    if (strcmp(name, "auto") != 0)
        return fdm_fail(err, FDM_BAD_USAGE, "backend: \"%s\" is unknown; use auto or reference", name);
    enum fdm_isa isa;
    const fdm_status status = fdm_isa_choose(options ? options->isa : NULL, &isa, err);
    if (status != FDM_OK) return status;
    d->backend = fdm_backend_f32();
    d->exec.kernels = fdm_kernels_for(isa);
    d->exec.conv = fdm_conv_kernels_for(isa);
    snprintf(d->backend_name, sizeof d->backend_name, "%s (f32)", fdm_isa_name(isa));
    return FDM_OK;
}

/* --- life --- */

fdm_status fdm_denoiser_create(fdm_denoiser **denoiser, const fdm_config *config, const fdm_tensors *weights,
                               const char *where, const fdm_run_options *options, fdm_error *err) {
    *denoiser = NULL;
    fdm_status status = fdm_config_check(config, where, err);
    if (status != FDM_OK) return status;
    fdm_denoiser *d = calloc(1, sizeof *d);
    if (!d) return fdm_fail_oom(err, "denoiser", sizeof *d);
    d->config = *config;
    status = choose_backend(d, options, err);
    if (status == FDM_OK && !fdm_unet_build(&d->graph, config)) status = fdm_fail_oom(err, "network graph", 0);
    if (status == FDM_OK)
        status = fdm_weights_pack(&d->slab, &d->graph, weights, config, d->backend, &d->exec, where, err);
    if (status != FDM_OK) fdm_denoiser_free(&d);
    *denoiser = d;
    return status;
}

fdm_status fdm_denoiser_load(fdm_denoiser **denoiser, const char *path, const fdm_run_options *options,
                             fdm_error *err) {
    fdm_tensors set = {0};
    fdm_config config;
    *denoiser = NULL;
    fdm_status status = fdm_safetensors_read(&set, path, err);
    if (status == FDM_OK) status = fdm_config_from_tensors(&config, &set, path, err);
    if (status == FDM_OK) status = fdm_denoiser_create(denoiser, &config, &set, path, options, err);
    fdm_tensors_free(&set);
    return status;
}

static void drop_plan(fdm_denoiser *d) {
    fdm_free_aligned(d->arena);
    fdm_free_aligned(d->exec.scratch);
    d->arena = NULL;
    d->exec.scratch = NULL;
    d->plan = (struct fdm_plan){0};
}

void fdm_denoiser_free(fdm_denoiser **denoiser) {
    fdm_denoiser *d = *denoiser;
    if (!d) return;
    drop_plan(d);
    fdm_graph_free(&d->graph);
    fdm_free_aligned(d->slab);
    free(d);
    *denoiser = NULL;
}

const fdm_config *fdm_denoiser_config(const fdm_denoiser *denoiser) { return &denoiser->config; }
const char *fdm_denoiser_backend_name(const fdm_denoiser *denoiser) { return denoiser->backend_name; }
fdm_dtype fdm_denoiser_dtype(const fdm_denoiser *denoiser) { return denoiser->backend->dtype; }

/* --- running --- */

/* Arena and scratch for this batch; kept until another batch size or kind of run comes. */
static fdm_status prepare(fdm_denoiser *d, int n, bool trace, fdm_error *err) {
    struct fdm_plan plan;
    if (n < 1 || n > MAX_BATCH)
        return fdm_fail(err, FDM_BAD_USAGE, "batch of %d samples; 1 to %d are possible", n, MAX_BATCH);
    if (d->plan.n == n && d->plan.trace == trace) return FDM_OK;
    drop_plan(d);
    const fdm_status status = fdm_graph_plan(&d->graph, &plan, d->backend, n, d->exec.threads, trace, err);
    if (status != FDM_OK) return status;
    d->arena = fdm_malloc_aligned(plan.arena_bytes);
    if (!d->arena) return fdm_fail_oom(err, "activations; try a smaller batch", plan.arena_bytes);
    d->exec.scratch = fdm_malloc_aligned(plan.scratch_bytes);
    if (!d->exec.scratch) {
        drop_plan(d);
        return fdm_fail_oom(err, "attention scratch; try a smaller batch", plan.scratch_bytes);
    }
    d->exec.scratch_bytes = plan.scratch_bytes;
    d->plan = plan;
    return FDM_OK;
}

fdm_status fdm_network_forward(fdm_denoiser *d, double *F, const fdm_network_args *args, fdm_error *err) {
    const fdm_status status = prepare(d, args->n, args->trace != NULL, err);
    if (status != FDM_OK) return status;
    const struct fdm_graph_inputs inputs = {
        .x = args->x,
        .c_noise = args->c_noise,
        .noise_embedding = args->noise_embedding,
        .class_labels = args->class_labels,
        .augment_labels = args->augment_labels,
        .trace = args->trace,
        .trace_user = args->trace_user,
        .stop = args->stop,
        .stop_user = args->stop_user,
    };
    return fdm_graph_run(&d->graph, &d->plan, d->backend, &d->exec, d->arena, d->slab, F, &inputs, err);
}

static fdm_status check_inputs(const fdm_denoiser *d, const fdm_denoise_args *a, size_t pixels, fdm_error *err) {
    const struct {
        const char *name;
        const double *values;
        size_t count;
    } inputs[] = {{"x", a->x, (size_t)a->n * pixels},
                  {"class_labels", a->class_labels, (size_t)a->n * (size_t)d->config.label_dim},
                  {"augment_labels", a->augment_labels, (size_t)a->n * (size_t)d->config.augment_dim}};
    for (size_t k = 0; k < FDM_ARRAY_LEN(inputs); k++)
        for (size_t i = 0; inputs[k].values && i < inputs[k].count; i++)
            if (!isfinite((float)inputs[k].values[i]))
                return fdm_fail(err, FDM_BAD_INPUT, "%s: element %zu is %g; inputs must be finite in f32", inputs[k].name, i,
                                inputs[k].values[i]);
    for (int i = 0; i < a->n; i++)
        if (!(a->sigma[i] > 0) || !isfinite((float)a->sigma[i]) || (float)a->sigma[i] <= 0)
            return fdm_fail(err, FDM_BAD_INPUT, "sigma: element %d is %g; noise levels must be positive and finite", i,
                            a->sigma[i]);
    return FDM_OK;
}

/* One traced tensor for the preconditioned network itself, under the name "self". */
static fdm_status emit_self(const fdm_denoiser *d, const fdm_denoise_args *a, const double *D, size_t count,
                            fdm_error *err) {
    char name[] = "self";
    fdm_tensor t = {.name = name, .dtype = d->backend->dtype, .ndim = 4, .nbytes = count * 8, .data = (void *)(uintptr_t)D,
                    .shape = {a->n, d->config.img_channels, d->config.img_resolution, d->config.img_resolution}};
    if (t.dtype == FDM_F64) return a->trace(a->trace_user, &t, err);
    float *rounded = malloc(count * sizeof *rounded);
    if (!rounded) return fdm_fail_oom(err, "trace", count * sizeof *rounded);
    for (size_t i = 0; i < count; i++) rounded[i] = (float)D[i];
    t.data = rounded;
    t.nbytes = count * sizeof *rounded;
    const fdm_status status = a->trace(a->trace_user, &t, err);
    free(rounded);
    return status;
}

/* f32: every operation rounded as the published program's (two roundings for the sum: no FMA). */
static void scale_input(double *out, const double *x, double c_in, size_t count, bool f32) {
    for (size_t i = 0; i < count; i++) out[i] = f32 ? (double)((float)c_in * (float)x[i]) : c_in * x[i];
}

static void combine(double *D, const double *x, const double *F, const fdm_precond_coeffs *c, size_t count, bool f32) {
    for (size_t i = 0; i < count; i++) {
        if (f32) {
            const float skip = (float)c->c_skip * (float)x[i], out = (float)c->c_out * (float)F[i];
            D[i] = (double)(skip + out);
        } else {
            D[i] = c->c_skip * x[i] + c->c_out * F[i];
        }
    }
}

fdm_status fdm_denoise(fdm_denoiser *d, double *D, const fdm_denoise_args *args, fdm_error *err) {
    if (args->n < 1 || args->n > MAX_BATCH)
        return fdm_fail(err, FDM_BAD_USAGE, "batch of %d samples; 1 to %d are possible", args->n, MAX_BATCH);
    const size_t n = (size_t)args->n, r = (size_t)d->config.img_resolution;
    const size_t pixels = (size_t)d->config.img_channels * r * r;
    const bool f32 = d->backend->dtype == FDM_F32;
    fdm_status status = check_inputs(d, args, pixels, err);
    if (status != FDM_OK) return status;

    const size_t bytes = n * (sizeof(fdm_precond_coeffs) + (1 + pixels + (args->F ? 0 : pixels)) * sizeof(double));
    fdm_precond_coeffs *coeffs = malloc(bytes); /* then c_noise (N), c_in x (N, C, R, R), F if the caller has none */
    if (!coeffs) return fdm_fail_oom(err, "denoiser", bytes);
    double *c_noise = (double *)(coeffs + n), *scaled = c_noise + n, *F = args->F ? args->F : scaled + n * pixels;
    for (size_t i = 0; i < n; i++) {
        (f32 ? fdm_precond_coeffs_f32 : fdm_precond_coeffs_f64)(&coeffs[i], &d->config.precond, args->sigma[i]);
        c_noise[i] = coeffs[i].c_noise;
        scale_input(scaled + i * pixels, args->x + i * pixels, coeffs[i].c_in, pixels, f32);
    }
    const fdm_network_args network = {
        .n = args->n,
        .x = scaled,
        .c_noise = c_noise,
        .class_labels = args->class_labels,
        .augment_labels = args->augment_labels,
        .trace = args->trace,
        .trace_user = args->trace_user,
        .stop = args->stop,
        .stop_user = args->stop_user,
    };
    status = fdm_network_forward(d, F, &network, err);
    for (size_t i = 0; i < n && status == FDM_OK; i++)
        combine(D + i * pixels, args->x + i * pixels, F + i * pixels, &coeffs[i], pixels, f32);
    if (status == FDM_OK && args->trace) status = emit_self(d, args, D, n * pixels, err);
    free(coeffs);
    return status;
}
