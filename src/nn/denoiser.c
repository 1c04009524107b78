/* denoiser.c - the preconditioned network as one object: load, plan, run. */
#include "fdm/denoiser.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/safetensors.h"
#include "nn/network.h"

enum { MAX_BATCH = 65536 };

struct fdm_denoiser {
    struct fdm_network net;
    void *work; /* of fdm_denoise, kept so that a second run of the same size allocates nothing */
    size_t work_bytes;
};

/* --- life --- */

fdm_status fdm_denoiser_create(fdm_denoiser **denoiser, const fdm_config *config, const fdm_tensors *weights,
                               const char *where, const fdm_run_options *options, fdm_error *err) {
    *denoiser = NULL;
    fdm_denoiser *d = calloc(1, sizeof *d);
    if (!d) return fdm_fail_oom(err, "denoiser", sizeof *d);
    const fdm_status status = fdm_network_create(&d->net, config, weights, where, options, false, err);
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

void fdm_denoiser_free(fdm_denoiser **denoiser) {
    fdm_denoiser *d = *denoiser;
    if (!d) return;
    fdm_network_free(&d->net);
    free(d->work);
    free(d);
    *denoiser = NULL;
}

const fdm_config *fdm_denoiser_config(const fdm_denoiser *denoiser) { return &denoiser->net.config; }
const char *fdm_denoiser_backend_name(const fdm_denoiser *denoiser) { return denoiser->net.backend_name; }
fdm_dtype fdm_denoiser_dtype(const fdm_denoiser *denoiser) { return denoiser->net.backend->dtype; }
struct fdm_network *fdm_denoiser_network(fdm_denoiser *denoiser) { return &denoiser->net; }

/* --- running --- */

fdm_status fdm_network_forward(fdm_denoiser *d, double *F, const fdm_network_args *args, fdm_error *err) {
    const struct fdm_plan_options plan = {.n = args->n, .threads = d->net.exec.threads, .trace = args->trace != NULL};
    const fdm_status status = fdm_network_prepare(&d->net, &plan, err);
    if (status != FDM_OK) return status;
    struct fdm_run run = fdm_network_run(&d->net);
    run.x = args->x;
    run.c_noise = args->c_noise;
    run.noise_embedding = args->noise_embedding;
    run.class_labels = args->class_labels;
    run.augment_labels = args->augment_labels;
    run.trace = args->trace;
    run.trace_user = args->trace_user;
    run.stop = args->stop;
    run.stop_user = args->stop_user;
    return fdm_run_forward(&run, F, err);
}

static fdm_status check_inputs(const fdm_denoiser *d, const fdm_denoise_args *a, size_t pixels, fdm_error *err) {
    const struct {
        const char *name;
        const double *values;
        size_t count;
    } inputs[] = {{"x", a->x, (size_t)a->n * pixels},
                  {"class_labels", a->class_labels, (size_t)a->n * (size_t)d->net.config.label_dim},
                  {"augment_labels", a->augment_labels, (size_t)a->n * (size_t)d->net.config.augment_dim}};
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
    fdm_tensor t = {.name = name, .dtype = d->net.backend->dtype, .ndim = 4, .nbytes = count * 8, .data = (void *)(uintptr_t)D,
                    .shape = {a->n, d->net.config.img_channels, d->net.config.img_resolution, d->net.config.img_resolution}};
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

fdm_status fdm_denoise(fdm_denoiser *d, double *D, const fdm_denoise_args *args, fdm_error *err) {
    if (args->n < 1 || args->n > MAX_BATCH)
        return fdm_fail(err, FDM_BAD_USAGE, "batch of %d samples; 1 to %d are possible", args->n, MAX_BATCH);
    const size_t n = (size_t)args->n, r = (size_t)d->net.config.img_resolution;
    const size_t pixels = (size_t)d->net.config.img_channels * r * r;
    const bool f32 = d->net.backend->dtype == FDM_F32;
    fdm_status status = check_inputs(d, args, pixels, err);
    if (status != FDM_OK) return status;

    const size_t bytes = n * (sizeof(fdm_precond_coeffs) + (1 + pixels + (args->F ? 0 : pixels)) * sizeof(double));
    fdm_precond_coeffs *coeffs = fdm_work(&d->work, &d->work_bytes, bytes);
    if (!coeffs) return fdm_fail_oom(err, "denoiser", bytes);
    /* then c_noise (N), c_in x (N, C, R, R), F if the caller has none */
    double *c_noise = (double *)(coeffs + n), *scaled = c_noise + n, *F = args->F ? args->F : scaled + n * pixels;
    for (size_t i = 0; i < n; i++) {
        (f32 ? fdm_precond_coeffs_f32 : fdm_precond_coeffs_f64)(&coeffs[i], &d->net.config.precond, args->sigma[i]);
        c_noise[i] = coeffs[i].c_noise;
        fdm_scale_input(scaled + i * pixels, args->x + i * pixels, coeffs[i].c_in, pixels, f32);
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
        fdm_combine_output(D + i * pixels, args->x + i * pixels, F + i * pixels, &coeffs[i], pixels, f32);
    if (status == FDM_OK && args->trace) status = emit_self(d, args, D, n * pixels, err);
    return status;
}
