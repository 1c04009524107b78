/* cmd_denoise.c - `fdm denoise`: D(x; sigma) once, with every module's output if asked. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/inputs.h"
#include "fdm/denoiser.h"
#include "fdm/tensorfile.h"

struct denoise_options {
    const char *model, *in, *out;
    bool trace, inputs;
};

static const struct denoise_options defaults = {0};
static const struct fdm_option options[] = {
    FDM_OPTION_STRING(struct denoise_options, model, "model", "FILE", "model file (.safetensors); required"),
    FDM_OPTION_STRING(struct denoise_options, in, "in", "FILE", "tensors x and sigma; required"),
    FDM_OPTION_STRING(struct denoise_options, out, "out", "FILE", "where to write out and F_x; required"),
    FDM_OPTION_FLAG(struct denoise_options, trace, "trace", "write every module's output, too"),
    FDM_OPTION_FLAG(struct denoise_options, inputs, "inputs", "write x, sigma and the labels, too: a dump for fdm verify"),
    FDM_OPTION_END,
};

/* The input file's tensors as doubles. */
struct inputs {
    double *x, *sigma, *class_labels, *augment_labels;
    int64_t n;
};

static void free_inputs(struct inputs *in) {
    free(in->x);
    free(in->sigma);
    free(in->class_labels);
    free(in->augment_labels);
}

static fdm_status read_inputs(struct inputs *in, const char *path, const fdm_config *c, fdm_error *err) {
    fdm_tensors set = {0};
    const int64_t r = c->img_resolution;
    const struct fdm_wanted x = {"x", 4, {0, c->img_channels, r, r}, .required = true};
    const struct fdm_wanted sigma = {"sigma", 1, {0}, .required = true, .repeat = true, .trailing = true, .positive = true};
    const struct fdm_wanted labels = {"class_labels", 2, {0, c->label_dim}, .repeat = true};
    const struct fdm_wanted augment = {"augment_labels", 2, {0, c->augment_dim}, .repeat = true};
    fdm_status status = fdm_tensorfile_read(&set, path, err);
    if (status == FDM_OK) status = fdm_input_read(&in->x, &in->n, &set, path, &x, err);
    if (status == FDM_OK) status = fdm_input_read(&in->sigma, &in->n, &set, path, &sigma, err);
    /* A network without that conditioning ignores such labels, as the published program does. */
    if (status == FDM_OK && c->label_dim) status = fdm_input_read(&in->class_labels, &in->n, &set, path, &labels, err);
    if (status == FDM_OK && c->augment_dim)
        status = fdm_input_read(&in->augment_labels, &in->n, &set, path, &augment, err);
    if (status == FDM_OK && in->n > 65536)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: x has %lld samples; at most 65536 fit in one call", path, (long long)in->n);
    fdm_tensors_free(&set);
    return status;
}

/* Adds "trace.<name>" to the set. */
static fdm_status collect(void *user, const fdm_tensor *t, fdm_error *err) {
    char name[160];
    fdm_tensor *copy;
    snprintf(name, sizeof name, "trace.%s", t->name);
    const fdm_status status = fdm_tensors_add(user, name, t->dtype, t->ndim, t->shape, &copy, err);
    if (status == FDM_OK) memcpy(copy->data, t->data, t->nbytes);
    return fdm_interrupted() ? fdm_fail_interrupted(err) : status;
}

static fdm_status add_result(fdm_tensors *set, const char *name, const double *values, const fdm_denoiser *d, int64_t n,
                             fdm_error *err) {
    const fdm_config *c = fdm_denoiser_config(d);
    const int64_t shape[] = {n, c->img_channels, c->img_resolution, c->img_resolution};
    fdm_tensor *t;
    const fdm_status status = fdm_tensors_add(set, name, fdm_denoiser_dtype(d), 4, shape, &t, err);
    if (status != FDM_OK) return status;
    const size_t count = (size_t)fdm_tensor_numel(t);
    if (t->dtype == FDM_F64) memcpy(t->data, values, count * sizeof *values);
    else
        for (size_t i = 0; i < count; i++) ((float *)t->data)[i] = (float)values[i];
    return FDM_OK;
}

/* What the results came from, in f64, so that nothing is lost. */
static fdm_status add_inputs(fdm_tensors *set, const struct inputs *in, const fdm_config *c, fdm_error *err) {
    const struct {
        const char *name;
        double *values;
        int ndim;
        int64_t shape[4];
    } all[] = {{"x", in->x, 4, {in->n, c->img_channels, c->img_resolution, c->img_resolution}},
               {"sigma", in->sigma, 1, {in->n}},
               {"class_labels", in->class_labels, 2, {in->n, c->label_dim}},
               {"augment_labels", in->augment_labels, 2, {in->n, c->augment_dim}}};
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < FDM_ARRAY_LEN(all) && status == FDM_OK; i++)
        if (all[i].values) status = fdm_tensors_add_borrowed(set, all[i].name, FDM_F64, all[i].ndim, all[i].shape, all[i].values, NULL, err);
    return status;
}

/* Finite weights can still overflow f32: that is a result worth writing (and tracing), but not in silence. */
static void warn_nonfinite(const struct fdm_cli *cli, const double *D, size_t count) {
    size_t bad = 0;
    for (size_t i = 0; i < count; i++) bad += !isfinite((float)D[i]);
    if (bad && !cli->quiet) fprintf(stderr, "fdm denoise: warning: %zu of %zu elements of out are not finite\n", bad, count);
}

static fdm_status denoise(const struct fdm_cli *cli, const struct denoise_options *o, fdm_denoiser *d,
                          const struct inputs *in, fdm_error *err) {
    const fdm_config *c = fdm_denoiser_config(d);
    const size_t count = (size_t)in->n * (size_t)c->img_channels * (size_t)c->img_resolution * (size_t)c->img_resolution;
    fdm_tensors results = {0}, traces = {0};
    double *D = malloc(2 * count * sizeof *D);
    if (!D) return fdm_fail_oom(err, "images", 2 * count * sizeof *D);
    const fdm_denoise_args args = {.n = (int)in->n, .x = in->x, .sigma = in->sigma, .class_labels = in->class_labels,
                                   .augment_labels = in->augment_labels, .F = D + count,
                                   .trace = o->trace ? collect : NULL, .trace_user = &traces,
                                   .stop = fdm_stop_if_interrupted};
    fdm_status status = fdm_denoise(d, D, &args, err);
    if (status == FDM_OK) status = add_result(&results, "out", D, d, in->n, err);
    if (status == FDM_OK) status = add_result(&results, "F_x", D + count, d, in->n, err);
    if (status == FDM_OK && o->inputs) status = add_inputs(&results, in, c, err);
    for (size_t i = 0; i < traces.count && status == FDM_OK; i++) {
        const fdm_tensor *t = &traces.items[i];
        status = fdm_tensors_add_borrowed(&results, t->name, t->dtype, t->ndim, t->shape, t->data, NULL, err);
    }
    if (status == FDM_OK && fdm_interrupted()) status = fdm_fail_interrupted(err);
    if (status == FDM_OK) status = fdm_tensorfile_write(&results, o->out, err);
    if (status == FDM_OK) warn_nonfinite(cli, D, count);
    fdm_tensors_free(&results);
    fdm_tensors_free(&traces);
    free(D);
    return status;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct denoise_options *o = values;
    const fdm_run_options how = fdm_cli_run_options(cli);
    struct inputs in = {0};
    fdm_denoiser *d = NULL;
    if (!o->model || !o->in || !o->out)
        return fdm_fail(err, FDM_BAD_USAGE, "--model, --in and --out are required; see fdm help denoise");
    fdm_status status = fdm_output_check(o->out, true, err);
    if (status == FDM_OK) status = fdm_denoiser_load(&d, o->model, &how, err);
    if (status == FDM_OK) status = read_inputs(&in, o->in, fdm_denoiser_config(d), err);
    if (status == FDM_OK) status = denoise(cli, o, d, &in, err);
    if (status == FDM_OK && cli->verbose)
        fprintf(stderr, "denoised %lld samples on %s, %d threads\n", (long long)in.n, fdm_denoiser_backend_name(d),
                cli->threads);
    free_inputs(&in);
    fdm_denoiser_free(&d);
    return status;
}

const struct fdm_command fdm_cmd_denoise = {
    .name = "denoise",
    .arguments = "",
    .summary = "D(x; sigma) once, layer by layer if asked",
    .description =
        "Reads x (N,C,R,R) and sigma (N), optionally class_labels (N,label_dim) and augment_labels (N,augment_dim),\n"
        "and writes out = D(x; sigma) and F_x, the raw network output.  With --trace also every module's output under\n"
        "its published name (trace.model.enc.32x32_conv, ...), as it leaves the module.\n"
        "Tensor files are .safetensors, .npz or .npy.  --backend reference computes everything in f64.  With --backend tf32\n"
        "--trace --inputs the file is what a GPU in that precision would have dumped for fdm verify.",
    .examples = "  fdm denoise --model model.safetensors --in x.npz --out d.npz\n"
                "  fdm denoise --model model.safetensors --in x.npz --out truth.safetensors --trace --backend reference\n"
                "  fdm denoise --model model.safetensors --in x.npz --out like-a-gpu.npz --trace --inputs --backend tf32\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
