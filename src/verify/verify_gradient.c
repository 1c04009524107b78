/* verify_gradient.c - a training step's loss and gradients. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/gradient.h"
#include "fdm/loss.h"
#include "verify/verify_internal.h"

/* What one network makes of the step. */
struct outcome {
    double *D, *losses; /* (N, C, R, R), (N) */
    char *gradient;     /* flat, in elements of `dtype` */
    fdm_dtype dtype;
    double loss;
};

struct step_inputs {
    int64_t n;
    double *y, *sigma, *noise_unit, *class_labels, *augment_labels, *weight;
};

static void free_inputs(struct step_inputs *in) {
    free(in->y);
    free(in->sigma);
    free(in->noise_unit);
    free(in->class_labels);
    free(in->augment_labels);
    free(in->weight);
}

static void free_outcome(struct outcome *o) {
    free(o->D);
    free(o->losses);
    free(o->gradient);
}

static fdm_status read_inputs(struct step_inputs *in, const fdm_tensors *dump, const char *where, const fdm_config *c, fdm_error *err) {
    const int64_t r = c->img_resolution;
    const struct fdm_expected wanted[] = {
        {"y", {0, c->img_channels, r, r}, 4, .required = true},
        {"sigma", {0}, 1, .required = true, .repeat = true, .trailing = true, .positive = true},
        {"noise_unit", {0, c->img_channels, r, r}, 4, .required = true},
        {"weight", {0}, 1, .repeat = true, .trailing = true, .positive = true},
        {"class_labels", {0, c->label_dim}, 2, .repeat = true},
        {"augment_labels", {0, c->augment_dim}, 2, .repeat = true},
    };
    double **targets[] = {&in->y, &in->sigma, &in->noise_unit, &in->weight, &in->class_labels, &in->augment_labels};
    const bool unused[] = {false, false, false, false, c->label_dim == 0, c->augment_dim == 0};
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < FDM_ARRAY_LEN(wanted) && status == FDM_OK; i++)
        if (!unused[i]) status = fdm_dump_read(targets[i], &in->n, dump, where, &wanted[i], err);
    return status;
}

/* The recorded weights, unless a limit is given: a warm-up's is easily unknown to who made the dump. */
static fdm_status weigh(double *weights, const struct step_inputs *in, const struct fdm_verify_run *run, fdm_dtype precision, fdm_error *err) {
    fdm_loss loss;
    const fdm_status status = fdm_loss_init(&loss, run->config->precond.kind, err);
    const double clamp = run->options->clamp > 0 ? run->options->clamp : INFINITY;
    for (int64_t i = 0; i < in->n && status == FDM_OK; i++)
        weights[i] = in->weight && !(run->options->clamp > 0)
                         ? in->weight[i]
                         : fdm_loss_clamp(fdm_loss_weight(&loss, in->sigma[i], precision), clamp, precision);
    return status;
}

static fdm_status compute(struct outcome *o, fdm_gradient *g, const struct step_inputs *in, const struct fdm_verify_run *run, fdm_error *err) {
    const size_t n = (size_t)in->n, r = (size_t)run->config->img_resolution, pixels = (size_t)run->config->img_channels * r * r;
    o->dtype = fdm_gradient_dtype(g);
    o->D = malloc(n * pixels * sizeof *o->D);
    o->losses = malloc(2 * n * sizeof *o->losses); /* then the weights */
    o->gradient = calloc(fdm_gradient_size(g), fdm_dtype_size(o->dtype));
    if (!o->D || !o->losses || !o->gradient) return fdm_fail_oom(err, "gradient", fdm_gradient_size(g));
    fdm_status status = weigh(o->losses + n, in, run, o->dtype, err);
    const fdm_gradient_args args = {.n = (int)in->n, .y = in->y, .sigma = in->sigma, .noise_unit = in->noise_unit,
                                    .weight = o->losses + n, .class_labels = in->class_labels,
                                    .augment_labels = in->augment_labels, .scale = 1.0 / (double)in->n, .D = o->D,
                                    .loss = o->losses, .stop = run->options->stop, .stop_user = run->options->stop_user};
    if (status == FDM_OK) status = fdm_gradient_compute(g, o->gradient, &args, err);
    if (status == FDM_OK) o->loss = fdm_loss_total(o->losses, (int)in->n) / (double)in->n;
    return status;
}

static double element(const struct outcome *o, size_t i) {
    return o->dtype == FDM_F64 ? ((const double *)(const void *)o->gradient)[i] : (double)((const float *)(const void *)o->gradient)[i];
}

/* ---- comparing ---- */

struct comparison {
    fdm_verify_report *report;
    const fdm_tensors *dump;
    const struct outcome *truth, *emulated;
};

/* Values of one tensor; a wrong shape is a problem, nothing is compared then. */
static fdm_status add(struct comparison *c, const char *name, const char *module, const struct fdm_sample_values *v, const char *problem,
                      fdm_error *err) {
    struct fdm_tally tally = {0};
    if (v->count) fdm_tally_add(&tally, v);
    const struct fdm_item_spec spec = {.name = name, .module = module, .local = &tally, .total = &tally, .floor = 0x1p-23,
                                       .problem = problem};
    return fdm_verify_add_item(c->report, &spec, err);
}

static fdm_status compare_values(struct comparison *c, const char *name, const char *module, const double *truth,
                                 const double *emulated, size_t count, fdm_error *err) {
    const fdm_tensor *t = fdm_tensors_find(c->dump, name);
    struct fdm_sample_values v = {.truth = truth, .emulated = emulated};
    if (!t) return FDM_OK;
    double *seen = malloc((count ? count : 1) * sizeof *seen);
    if (!seen) return fdm_fail_oom(err, name, count * sizeof *seen);
    v.seen = seen;
    if (fdm_tensor_numel(t) == (int64_t)count) {
        v.count = count;
        for (size_t i = 0; i < count; i++) seen[i] = fdm_tensor_get(t, (int64_t)i);
    }
    const fdm_status status = add(c, name, module, &v, v.count ? NULL : "has another number of elements than the model's", err);
    free(seen);
    return status;
}

static bool transposed(const fdm_tensor *t, const fdm_parameter_info *p) {
    return t->ndim == 2 && p->ndim == 2 && t->shape[0] == p->shape[1] && t->shape[1] == p->shape[0];
}

static fdm_status compare_gradient(struct comparison *c, const fdm_parameter_info *p, fdm_error *err) {
    char name[FDM_NAME_MAX + 32], module[FDM_NAME_MAX + 16], problem[240] = "";
    snprintf(name, sizeof name, "grad.%s", p->name);
    const fdm_tensor *t = fdm_tensors_find(c->dump, name);
    if (!t) return FDM_OK;
    snprintf(module, sizeof module, "%s", p->name);
    char *dot = strrchr(module, '.');
    if (dot) *dot = '\0';
    const bool same = t->ndim == p->ndim && memcmp(t->shape, p->shape, (size_t)p->ndim * sizeof *p->shape) == 0;
    if (!same) snprintf(problem, sizeof problem, "another shape than the parameter's%s", transposed(t, p) ? ": transposed" : "");
    double *values = malloc(3 * p->count * sizeof *values);
    if (!values) return fdm_fail_oom(err, name, 3 * p->count * sizeof *values);
    const struct fdm_sample_values v = {.seen = values, .truth = values + p->count, .emulated = values + 2 * p->count,
                                        .count = same ? p->count : 0};
    for (size_t i = 0; i < v.count; i++) {
        values[i] = fdm_tensor_get(t, (int64_t)i);
        values[p->count + i] = element(c->truth, p->offset + i);
        values[2 * p->count + i] = element(c->emulated, p->offset + i);
    }
    const fdm_status status = add(c, name, module, &v, problem, err);
    free(values);
    return status;
}

/* The way back meets the last module first. */
static fdm_status compare_all(struct comparison *c, const fdm_gradient *g, const struct step_inputs *in, fdm_error *err) {
    const fdm_config *config = fdm_gradient_config(g);
    const size_t r = (size_t)config->img_resolution, pixels = (size_t)in->n * (size_t)config->img_channels * r * r;
    fdm_status status = compare_values(c, "D_yn", "self", c->truth->D, c->emulated->D, pixels, err);
    if (status == FDM_OK)
        status = compare_values(c, "loss_per_sample", "loss", c->truth->losses, c->emulated->losses, (size_t)in->n, err);
    if (status == FDM_OK) status = compare_values(c, "loss", "loss", &c->truth->loss, &c->emulated->loss, 1, err);
    for (int i = fdm_gradient_parameter_count(g) - 1; i >= 0 && status == FDM_OK; i--) {
        const fdm_parameter_info p = fdm_gradient_parameter(g, i);
        status = compare_gradient(c, &p, err);
    }
    return status;
}

static bool is_parameter(const fdm_gradient *g, const char *name) {
    for (int i = 0; i < fdm_gradient_parameter_count(g); i++)
        if (strcmp(fdm_gradient_parameter(g, i).name, name) == 0) return true;
    return false;
}

static fdm_status report_unknown(struct comparison *c, const fdm_gradient *g, fdm_error *err) {
    const struct fdm_sample_values none = {.count = 0};
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < c->dump->count && status == FDM_OK; i++) {
        const char *name = c->dump->items[i].name;
        if (strncmp(name, "grad.", 5) == 0 && !is_parameter(g, name + 5))
            status = add(c, name, name + 5, &none, "the model has no parameter of this name", err);
    }
    return status;
}

/* ---- both networks ---- */

static fdm_status run_network(fdm_gradient **g, struct outcome *o, const struct fdm_verify_run *run, const fdm_emulation *emulation,
                              const struct step_inputs *in, fdm_error *err) {
    fdm_run_options how = run->how;
    how.backend = "reference";
    how.emulation = emulation;
    how.recompute = FDM_RECOMPUTE_NORM;
    const fdm_status status = fdm_gradient_create(g, run->config, run->model, run->where, &how, err);
    return status == FDM_OK ? compute(o, *g, in, run, err) : status;
}

static bool has_gradients(const fdm_tensors *dump) {
    for (size_t i = 0; i < dump->count; i++)
        if (strncmp(dump->items[i].name, "grad.", 5) == 0) return true;
    return fdm_tensors_find(dump, "loss") || fdm_tensors_find(dump, "D_yn") || fdm_tensors_find(dump, "loss_per_sample");
}

fdm_status fdm_verify_gradients(fdm_verify_report *report, const fdm_tensors *dump, const char *dump_where,
                                const struct fdm_verify_run *run, fdm_error *err) {
    struct step_inputs in = {0};
    struct outcome truth = {0}, emulated = {0};
    fdm_gradient *g = NULL;
    struct comparison c = {report, dump, &truth, &emulated};
    if (!has_gradients(dump)) return FDM_OK;
    fdm_status status = read_inputs(&in, dump, dump_where, run->config, err);
    if (status == FDM_OK) status = run_network(&g, &truth, run, NULL, &in, err);
    fdm_gradient_free(&g); /* before the second: a network's weights are large */
    if (status == FDM_OK) status = run_network(&g, &emulated, run, &report->emulation, &in, err);
    if (status == FDM_OK) status = compare_all(&c, g, &in, err);
    if (status == FDM_OK) status = report_unknown(&c, g, err);
    fdm_gradient_free(&g);
    free_outcome(&truth);
    free_outcome(&emulated);
    free_inputs(&in);
    return status;
}
