/* cmd_grad.c - `fdm grad`: the training loss of given images, noise levels and noise, and its gradient. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/inputs.h"
#include "fdm/gradient.h"
#include "fdm/loss.h"
#include "fdm/safetensors.h"
#include "fdm/tensorfile.h"

struct grad_options {
    const char *model, *in, *out;
    double clamp;
    int recompute;
};

static const char *const recompute_choices[] = {"off", "norm", "block", NULL};
static const struct grad_options defaults = {.clamp = INFINITY};
static const struct fdm_option options[] = {
    FDM_OPTION_STRING(struct grad_options, model, "model", "FILE", "model file (.safetensors); required"),
    FDM_OPTION_STRING(struct grad_options, in, "in", "FILE", "tensors y, sigma and noise_unit; required"),
    FDM_OPTION_STRING(struct grad_options, out, "out", "FILE", "where to write loss, D_yn and gradients; required"),
    FDM_OPTION_FLOAT(struct grad_options, clamp, "clamp", 1e-30, INFINITY, "C", "limit of the loss weight: min(lambda, C)"),
    FDM_OPTION_ENUM(struct grad_options, recompute, "recompute", recompute_choices,
                    "what to compute twice to save memory: off, norm or block"),
    FDM_OPTION_END,
};

struct inputs {
    double *y, *sigma, *noise_unit, *class_labels, *augment_labels;
    int64_t n;
};

static void free_inputs(struct inputs *in) {
    free(in->y);
    free(in->sigma);
    free(in->noise_unit);
    free(in->class_labels);
    free(in->augment_labels);
}

static fdm_status read_inputs(struct inputs *in, const char *path, const fdm_config *c, fdm_error *err) {
    fdm_tensors set = {0};
    const int64_t r = c->img_resolution;
    const struct fdm_wanted y = {"y", 4, {0, c->img_channels, r, r}, .required = true};
    const struct fdm_wanted sigma = {"sigma", 1, {0}, .required = true, .repeat = true, .trailing = true, .positive = true};
    const struct fdm_wanted noise = {"noise_unit", 4, {0, c->img_channels, r, r}, .required = true};
    const struct fdm_wanted labels = {"class_labels", 2, {0, c->label_dim}, .repeat = true};
    const struct fdm_wanted augment = {"augment_labels", 2, {0, c->augment_dim}, .repeat = true};
    fdm_status status = fdm_tensorfile_read(&set, path, err);
    if (status == FDM_OK) status = fdm_input_read(&in->y, &in->n, &set, path, &y, err);
    if (status == FDM_OK) status = fdm_input_read(&in->sigma, &in->n, &set, path, &sigma, err);
    if (status == FDM_OK) status = fdm_input_read(&in->noise_unit, &in->n, &set, path, &noise, err);
    if (status == FDM_OK && c->label_dim) status = fdm_input_read(&in->class_labels, &in->n, &set, path, &labels, err);
    if (status == FDM_OK && c->augment_dim)
        status = fdm_input_read(&in->augment_labels, &in->n, &set, path, &augment, err);
    if (status == FDM_OK && in->n > 65536)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: y has %lld samples; at most 65536 fit in one call", path, (long long)in->n);
    fdm_tensors_free(&set);
    return status;
}

/* A tensor of the backend's type from doubles. */
static fdm_status add_values(fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim, const int64_t *shape,
                             const double *values, fdm_error *err) {
    fdm_tensor *t;
    const fdm_status status = fdm_tensors_add(set, name, dtype, ndim, shape, &t, err);
    if (status != FDM_OK) return status;
    const size_t count = (size_t)fdm_tensor_numel(t);
    if (dtype == FDM_F64) memcpy(t->data, values, count * sizeof *values);
    else
        for (size_t i = 0; i < count; i++) ((float *)t->data)[i] = (float)values[i];
    return FDM_OK;
}

static fdm_status add_gradients(fdm_tensors *set, const fdm_gradient *g, char *gradient, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (int i = 0; i < fdm_gradient_parameter_count(g) && status == FDM_OK; i++) {
        const fdm_parameter_info p = fdm_gradient_parameter(g, i);
        char name[160];
        snprintf(name, sizeof name, "grad.%s", p.name);
        status = fdm_tensors_add_borrowed(set, name, fdm_gradient_dtype(g), p.ndim, p.shape,
                                          gradient + p.offset * fdm_dtype_size(fdm_gradient_dtype(g)), NULL, err);
    }
    return status;
}

/* The loss weights, and what becomes of each; written out because the warm-up's limit is easily misjudged. */
static fdm_status weigh(double *weights, const struct inputs *in, const fdm_gradient *g, double clamp, fdm_error *err) {
    fdm_loss loss;
    const fdm_status status = fdm_loss_init(&loss, fdm_gradient_config(g)->precond.kind, err);
    const fdm_dtype precision = fdm_gradient_dtype(g);
    for (int64_t i = 0; i < in->n && status == FDM_OK; i++)
        weights[i] = fdm_loss_clamp(fdm_loss_weight(&loss, in->sigma[i], precision), clamp, precision);
    return status;
}

static fdm_status grad(const struct fdm_cli *cli, const struct grad_options *o, fdm_gradient *g, const struct inputs *in,
                       fdm_error *err) {
    const fdm_config *c = fdm_gradient_config(g);
    const fdm_dtype dtype = fdm_gradient_dtype(g);
    const int64_t n = in->n, shape[] = {n, c->img_channels, c->img_resolution, c->img_resolution};
    const size_t pixels = (size_t)(shape[1] * shape[2] * shape[3]);
    fdm_tensors results = {0};
    double *D = malloc((size_t)n * (pixels + 2) * sizeof *D); /* then weights, losses */
    char *gradient = calloc(fdm_gradient_size(g), fdm_dtype_size(dtype));
    fdm_status status = FDM_OK;
    if (!D || !gradient) status = fdm_fail_oom(err, "gradient", fdm_gradient_size(g));
    double *weights = D ? D + (size_t)n * pixels : NULL, *losses = weights ? weights + n : NULL;
    if (status == FDM_OK) status = weigh(weights, in, g, o->clamp, err);
    const fdm_gradient_args args = {.n = (int)n, .y = in->y, .sigma = in->sigma, .noise_unit = in->noise_unit,
                                    .weight = weights, .class_labels = in->class_labels,
                                    .augment_labels = in->augment_labels, .scale = 1.0 / (double)n, .D = D, .loss = losses,
                                    .stop = fdm_stop_if_interrupted};
    if (status == FDM_OK) status = fdm_gradient_compute(g, gradient, &args, err);
    if (status == FDM_OK) {
        const double loss = fdm_loss_total(losses, (int)n) / (double)n;
        status = add_values(&results, "loss", dtype, 0, NULL, &loss, err);
        if (status == FDM_OK && !isfinite(loss) && !cli->quiet)
            fprintf(stderr, "fdm grad: warning: the loss is %g\n", loss);
    }
    if (status == FDM_OK) status = add_values(&results, "loss_per_sample", dtype, 1, &n, losses, err);
    if (status == FDM_OK) status = add_values(&results, "weight", dtype, 1, &n, weights, err);
    if (status == FDM_OK) status = add_values(&results, "D_yn", dtype, 4, shape, D, err);
    if (status == FDM_OK) status = add_gradients(&results, g, gradient, err);
    if (status == FDM_OK && fdm_interrupted()) status = fdm_fail_interrupted(err);
    if (status == FDM_OK) status = fdm_tensorfile_write(&results, o->out, err);
    fdm_tensors_free(&results);
    free(D);
    free(gradient);
    return status;
}

static fdm_status load(fdm_gradient **g, const char *path, const fdm_run_options *how, fdm_error *err) {
    fdm_tensors set = {0};
    fdm_config config;
    fdm_status status = fdm_safetensors_read(&set, path, err);
    if (status == FDM_OK) status = fdm_config_from_tensors(&config, &set, path, err);
    if (status == FDM_OK) status = fdm_gradient_create(g, &config, &set, path, how, err);
    fdm_tensors_free(&set);
    return status;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct grad_options *o = values;
    fdm_run_options how = fdm_cli_run_options(cli);
    struct inputs in = {0};
    fdm_gradient *g = NULL;
    how.recompute = (fdm_recompute)o->recompute;
    if (!o->model || !o->in || !o->out)
        return fdm_fail(err, FDM_BAD_USAGE, "--model, --in and --out are required; see fdm help grad");
    fdm_status status = fdm_output_check(o->out, true, err);
    if (status == FDM_OK) status = load(&g, o->model, &how, err);
    if (status == FDM_OK) status = read_inputs(&in, o->in, fdm_gradient_config(g), err);
    if (status == FDM_OK) status = grad(cli, o, g, &in, err);
    if (status == FDM_OK && cli->verbose)
        fprintf(stderr, "gradient of %zu parameters over %lld samples on %s, %zu MB of activations\n", fdm_gradient_size(g),
                (long long)in.n, fdm_gradient_backend_name(g), fdm_gradient_activation_bytes(g) >> 20);
    free_inputs(&in);
    fdm_gradient_free(&g);
    return status;
}

const struct fdm_command fdm_cmd_grad = {
    .name = "grad",
    .arguments = "",
    .summary = "training loss and its gradient for given images and noise",
    .description =
        "Reads y (N,C,R,R), sigma (N) and noise_unit (N,C,R,R), optionally class_labels and augment_labels, and writes\n"
        "  loss       sum over all elements of min(lambda(sigma), C) (D(y + sigma noise_unit; sigma) - y)^2, divided by N\n"
        "  D_yn       the denoised images          loss_per_sample, weight   (N)\n"
        "  grad.NAME  dloss/dNAME for every parameter, as loss.backward() leaves it in PyTorch's NAME.grad\n"
        "lambda is the loss weight of the model's framework; --clamp is the warm-up's limit C.  Dropout is off.\n"
        "Tensor files are .safetensors, .npz or .npy.  --backend reference computes everything in f64.",
    .examples = "  fdm grad --model model.safetensors --in batch.npz --out gradients.safetensors\n"
                "  fdm grad --model model.safetensors --in batch.npz --out truth.safetensors --backend reference --clamp 5\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
