/* gradient.c - the denoising objective and its gradient: preconditioning and loss around the network's way back. */
#include "fdm/gradient.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "nn/network.h"
#include "nn/weights.h"
#include "train/gradient.h"

struct fdm_gradient {
    struct fdm_network net;
    struct fdm_parameters list;
    float *values; /* [list.total] */
    fdm_recompute recompute;
    void *work; /* of fdm_gradient_compute, kept */
    size_t work_bytes;
};

/* --- life --- */

static fdm_status gather_values(struct fdm_gradient *g, const fdm_tensors *weights, fdm_error *err) {
    size_t bytes;
    if (!fdm_mul_size(&bytes, g->list.total, sizeof *g->values) || !(g->values = fdm_malloc_aligned(bytes)))
        return fdm_fail_oom(err, "parameters", bytes);
    for (int i = 0; i < g->list.count; i++) {
        const struct fdm_parameter *p = &g->list.items[i];
        memcpy(g->values + p->offset, fdm_tensors_find(weights, p->name)->data, p->count * sizeof *g->values);
    }
    return FDM_OK;
}

fdm_status fdm_gradient_create(fdm_gradient **gradient, const fdm_config *config, const fdm_tensors *weights,
                               const char *where, const fdm_run_options *options, fdm_error *err) {
    *gradient = NULL;
    fdm_gradient *g = calloc(1, sizeof *g);
    if (!g) return fdm_fail_oom(err, "gradient", sizeof *g);
    if (options) g->recompute = options->recompute;
    fdm_status status = fdm_network_create(&g->net, config, weights, where, options, true, err);
    if (status == FDM_OK) status = fdm_parameters_list(&g->list, &g->net.graph, err);
    if (status == FDM_OK) status = gather_values(g, weights, err);
    if (status != FDM_OK) fdm_gradient_free(&g);
    *gradient = g;
    return status;
}

void fdm_gradient_free(fdm_gradient **gradient) {
    fdm_gradient *g = *gradient;
    if (!g) return;
    fdm_network_free(&g->net);
    fdm_parameters_free(&g->list);
    fdm_free_aligned(g->values);
    free(g->work);
    free(g);
    *gradient = NULL;
}

const fdm_config *fdm_gradient_config(const fdm_gradient *g) { return &g->net.config; }
const char *fdm_gradient_backend_name(const fdm_gradient *g) { return g->net.backend_name; }
fdm_dtype fdm_gradient_dtype(const fdm_gradient *g) { return g->net.backend->dtype; }
size_t fdm_gradient_activation_bytes(const fdm_gradient *g) { return g->net.plan.arena_bytes + g->net.plan.scratch_bytes; }
int fdm_gradient_parameter_count(const fdm_gradient *g) { return g->list.count; }
size_t fdm_gradient_size(const fdm_gradient *g) { return g->list.total; }
float *fdm_gradient_values(fdm_gradient *g) { return g->values; }
struct fdm_network *fdm_gradient_network(fdm_gradient *g) { return &g->net; }

fdm_parameter_info fdm_gradient_parameter(const fdm_gradient *g, int index) {
    const struct fdm_parameter *p = &g->list.items[index];
    return (fdm_parameter_info){p->name, p->ndim, p->shape, p->offset, p->count};
}

int fdm_gradient_final_step(const fdm_gradient *g, int parameter) {
    const struct fdm_graph *graph = &g->net.graph;
    int step = 0;
    while (step < graph->step_count && graph->steps[step].module != g->list.items[parameter].module) step++;
    return step;
}

void fdm_gradient_values_changed(fdm_gradient *g) {
    fdm_weights_repack(g->net.slab, &g->net.graph, &g->list, g->values, g->net.backend, &g->net.exec);
}

fdm_status fdm_gradient_plan_bytes(const fdm_gradient *g, int n, fdm_dtype precision, fdm_recompute recompute, size_t *bytes,
                                   fdm_error *err) {
    const struct fdm_backend *backend = precision == FDM_F64 ? fdm_backend_reference() : fdm_backend_f32(FDM_CONV_DEFAULT);
    const struct fdm_plan_options options = {.n = n, .threads = 1, .backward = true, .recompute = recompute};
    struct fdm_plan plan;
    const fdm_status status = fdm_plan_make(&plan, &g->net.graph, backend, &options, err);
    if (status != FDM_OK) return status;
    *bytes = plan.arena_bytes;
    fdm_plan_free(&plan);
    return FDM_OK;
}

/* --- as a model file --- */

static fdm_status add_borrowed(fdm_tensors *set, const char *module, const char *part, int ndim, const int64_t *shape,
                               const float *data, fdm_error *err) {
    char name[FDM_NAME_MAX + 32];
    snprintf(name, sizeof name, "%s.%s", module, part);
    return fdm_tensors_append(set, name, FDM_F32, ndim, shape, (void *)(uintptr_t)data, false, NULL, err);
}

static fdm_status add_module(const fdm_gradient *g, int index, fdm_tensors *set, const float *values, fdm_error *err) {
    const struct fdm_module *m = &g->net.graph.modules[index];
    const int64_t taps = g->net.graph.filter_len, filter[] = {1, 1, taps, taps}, half = m->out / 2;
    const int parameters[] = {g->list.weight[index], g->list.bias[index]};
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < FDM_ARRAY_LEN(parameters) && status == FDM_OK; i++) {
        if (parameters[i] < 0) continue;
        const struct fdm_parameter *p = &g->list.items[parameters[i]];
        status = add_borrowed(set, m->name, p->is_bias ? "bias" : "weight", p->ndim, p->shape, values + p->offset, err);
    }
    if (status == FDM_OK && m->filter) status = add_borrowed(set, m->name, "resample_filter", 4, filter, m->filter, err);
    if (status == FDM_OK && m->freqs) status = add_borrowed(set, m->name, "freqs", 1, &half, m->freqs, err);
    return status;
}

fdm_status fdm_gradient_model(const fdm_gradient *g, fdm_tensors *set, const float *values, fdm_error *err) {
    char *json = fdm_config_json(&g->net.config);
    if (!json) return fdm_fail_oom(err, "configuration", 0);
    fdm_status status = fdm_tensors_set_meta(set, "config", json, err);
    for (int i = 0; i < g->net.graph.module_count && status == FDM_OK; i++) status = add_module(g, i, set, values, err);
    free(json);
    return status;
}

/* --- the objective --- */

/* Working memory of one call. */
struct objective {
    const fdm_gradient_args *args;
    bool f32;
    size_t pixels; /* C*R*R */
    fdm_precond_coeffs *coeffs;
    double *c_noise;        /* (N) */
    double *noisy, *scaled; /* (N, C, R, R): x = y + sigma e; c_in x, then dL/dF */
    double *F;              /* then D */
};

static void make_input(const struct objective *o, size_t i) {
    const fdm_gradient_args *a = o->args;
    const double *y = a->y + i * o->pixels, *e = a->noise_unit + i * o->pixels;
    double *noisy = o->noisy + i * o->pixels;
    for (size_t k = 0; k < o->pixels; k++) {
        if (o->f32) {
            const float noise = (float)e[k] * (float)a->sigma[i];
            noisy[k] = (double)((float)y[k] + noise);
        } else {
            noisy[k] = y[k] + e[k] * a->sigma[i];
        }
    }
    fdm_scale_input(o->scaled + i * o->pixels, noisy, o->coeffs[i].c_in, o->pixels, o->f32);
}

/* From D and y: the loss of one sample, summed in f64 in the order of the elements, and
 *   dL/dF = c_out * (scale * w) * 2 (D - y). */
static void differentiate_loss(const struct objective *o, size_t i) {
    const fdm_gradient_args *a = o->args;
    const double *y = a->y + i * o->pixels, *D = o->F + i * o->pixels;
    const float w32 = (float)a->weight[i], scale32 = (float)a->scale, c_out32 = (float)o->coeffs[i].c_out;
    double *d_F = o->scaled + i * o->pixels, loss = 0, squares = 0;
    for (size_t k = 0; k < o->pixels; k++) {
        if (o->f32) {
            const float difference = (float)D[k] - (float)y[k], square = difference * difference;
            const float element = w32 * square, d_D = (scale32 * w32) * (2 * difference);
            loss += (double)element;
            squares += (double)element * (double)element;
            d_F[k] = (double)(c_out32 * d_D);
        } else {
            const double difference = D[k] - y[k];
            const double element = a->weight[i] * difference * difference;
            loss += element;
            squares += element * element;
            d_F[k] = o->coeffs[i].c_out * (a->scale * a->weight[i] * 2 * difference);
        }
    }
    if (a->loss) a->loss[i] = loss;
    if (a->loss_square) a->loss_square[i] = squares;
}

static fdm_status run_objective(fdm_gradient *g, const struct objective *o, void *gradient,
                                const struct fdm_gradient_watch *watch, fdm_error *err) {
    const fdm_gradient_args *a = o->args;
    const size_t n = (size_t)a->n;
    for (size_t i = 0; i < n; i++) {
        (o->f32 ? fdm_precond_coeffs_f32 : fdm_precond_coeffs_f64)(&o->coeffs[i], &g->net.config.precond, a->sigma[i]);
        o->c_noise[i] = o->coeffs[i].c_noise;
        make_input(o, i);
    }
    struct fdm_run run = fdm_network_run(&g->net);
    run.list = &g->list;
    run.parameters = g->values;
    run.x = o->scaled;
    run.c_noise = o->c_noise;
    run.class_labels = a->class_labels;
    run.augment_labels = a->augment_labels;
    run.dropout = a->dropout;
    run.dropout_keys = a->dropout_keys;
    run.stop = a->stop;
    run.stop_user = a->stop_user;
    if (watch) run.stepped = watch->stepped, run.stepped_user = watch->user;
    const fdm_status status = fdm_run_forward(&run, o->F, err);
    if (status != FDM_OK) return status;
    for (size_t i = 0; i < n; i++) {
        double *F = o->F + i * o->pixels;
        fdm_combine_output(F, o->noisy + i * o->pixels, F, &o->coeffs[i], o->pixels, o->f32);
        differentiate_loss(o, i);
        if (a->D) memcpy(a->D + i * o->pixels, F, o->pixels * sizeof *F);
    }
    return fdm_run_backward(&run, o->scaled, gradient, err);
}

fdm_status fdm_gradient_compute_watched(fdm_gradient *g, void *gradient, const fdm_gradient_args *args,
                                        const struct fdm_gradient_watch *watch, fdm_error *err) {
    const struct fdm_plan_options plan = {
        .n = args->n, .threads = g->net.exec.threads, .backward = true, .recompute = g->recompute};
    if (!(args->dropout >= 0 && args->dropout < 1))
        return fdm_fail(err, FDM_BAD_USAGE, "dropout: %g is no probability from 0 to below 1", args->dropout);
    if (args->dropout > 0 && !args->dropout_keys)
        return fdm_fail(err, FDM_BAD_USAGE, "dropout: %g needs a key for every sample", args->dropout);
    fdm_status status = fdm_network_prepare(&g->net, &plan, err);
    if (status != FDM_OK) return status;
    const size_t n = (size_t)args->n, r = (size_t)g->net.config.img_resolution;
    struct objective o = {.args = args, .f32 = g->net.backend->dtype == FDM_F32};
    o.pixels = (size_t)g->net.config.img_channels * r * r;
    const size_t bytes = n * (sizeof *o.coeffs + (1 + 3 * o.pixels) * sizeof(double));
    o.coeffs = fdm_work(&g->work, &g->work_bytes, bytes);
    if (!o.coeffs) return fdm_fail_oom(err, "images", bytes);
    o.c_noise = (double *)(o.coeffs + n);
    o.noisy = o.c_noise + n;
    o.scaled = o.noisy + n * o.pixels;
    o.F = o.scaled + n * o.pixels;
    return run_objective(g, &o, gradient, watch, err);
}

fdm_status fdm_gradient_compute(fdm_gradient *g, void *gradient, const fdm_gradient_args *args, fdm_error *err) {
    return fdm_gradient_compute_watched(g, gradient, args, NULL, err);
}
