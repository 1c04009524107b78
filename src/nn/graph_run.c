/* graph_run.c - runs the steps of a planned graph on a backend, and hands traced outputs out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "nn/graph.h"

/* One run: everything that a step needs. */
struct run {
    const struct fdm_graph *g;
    const struct fdm_plan *plan;
    const struct fdm_backend *backend;
    const struct fdm_exec *exec;
    char *arena;
    const char *slab;
    const struct fdm_graph_inputs *inputs;
    double *trace_buffer; /* the largest traced output, as NCHW doubles, converted in place for f32 */
};

static struct fdm_map map_at(const struct run *r, int value) {
    const struct fdm_value *v = &r->g->values[value];
    return (struct fdm_map){r->plan->n, v->c, v->h, v->w, v->halo, r->arena + v->offset};
}

static struct fdm_vec vec_at(const struct run *r, int value) {
    const struct fdm_value *v = &r->g->values[value];
    return (struct fdm_vec){r->plan->n, v->c, r->arena + v->offset};
}

static const struct fdm_module *module_of(const struct run *r, const struct fdm_step *s) {
    return &r->g->modules[s->module];
}

static bool wants_raw(const struct run *r, const struct fdm_step *s) {
    return r->inputs->trace && fdm_step_has_raw(s);
}

/* map_augment without augment labels: the step passes its residual on. */
static bool is_skipped(const struct run *r, const struct fdm_step *s) {
    return s->in >= 0 && s->in == r->g->augment && !r->inputs->augment_labels;
}

static size_t vec_bytes(const struct run *r, const struct fdm_vec *v) {
    return (size_t)v->n * (size_t)v->c * fdm_dtype_size(r->backend->dtype);
}

static struct fdm_map raw_map(const struct run *r, const struct fdm_step *s) {
    struct fdm_map m = map_at(r, s->out);
    m.halo = 0;
    m.data = r->arena + r->plan->raw_offset;
    return m;
}

static struct fdm_vec raw_vec(const struct run *r, const struct fdm_step *s) {
    struct fdm_vec v = vec_at(r, s->out);
    v.data = r->arena + r->plan->raw_offset;
    return v;
}

/* --- one function per kind of step --- */

static void run_linear(const struct run *r, const struct fdm_step *s) {
    const struct fdm_vec in = vec_at(r, s->in);
    struct fdm_vec out = vec_at(r, s->out), raw = raw_vec(r, s), residual = {0};
    if (s->in2 >= 0) residual = vec_at(r, s->in2);
    if (is_skipped(r, s)) {
        memcpy(out.data, residual.data, vec_bytes(r, &out)); // NOLINT(*-core.NonNullParamChecker): skipped means residual
        return;
    }
    const struct fdm_linear_args args = {
        .weight = r->slab + module_of(r, s)->packed,
        .in_scale = s->in_scale,
        .residual = s->in2 >= 0 ? &residual : NULL,
        .silu = s->silu,
        .raw = wants_raw(r, s) ? &raw : NULL,
    };
    r->backend->linear(r->exec, &out, &in, &args);
}

static void run_conv2d(const struct run *r, const struct fdm_step *s) {
    const struct fdm_map in = map_at(r, s->in);
    struct fdm_map out = map_at(r, s->out), raw = raw_map(r, s), residual = {0};
    if (s->residual >= 0) residual = map_at(r, s->residual);
    const struct fdm_conv2d_args args = {
        .k = module_of(r, s)->k,
        .pad = s->pad,
        .weight = r->slab + module_of(r, s)->packed,
        .epilogue = {s->residual >= 0 ? &residual : NULL, s->scale, wants_raw(r, s) ? &raw : NULL},
    };
    r->backend->conv2d(r->exec, &out, &in, &args);
}

static void run_resample(const struct run *r, const struct fdm_step *s) {
    const struct fdm_map in = map_at(r, s->in);
    const struct fdm_module *m = module_of(r, s);
    struct fdm_map out = map_at(r, s->out), raw = raw_map(r, s), residual = {0};
    if (s->residual >= 0) residual = map_at(r, s->residual);
    const struct fdm_resample_args args = {
        .up = s->up,
        .pad = s->pad,
        .len = r->g->filter_len,
        .filter = m->filter,
        .bias = m->raw_bias,
        .epilogue = {s->residual >= 0 ? &residual : NULL, s->scale, wants_raw(r, s) ? &raw : NULL},
    };
    r->backend->resample(r->exec, &out, &in, &args);
}

static void run_groupnorm(const struct run *r, const struct fdm_step *s) {
    const struct fdm_map in = map_at(r, s->in);
    struct fdm_map out = map_at(r, s->out), raw = raw_map(r, s);
    struct fdm_vec add = {0};
    if (s->in2 >= 0) add = vec_at(r, s->in2);
    const struct fdm_groupnorm_args args = {
        .groups = fdm_groupnorm_groups(in.c),
        .eps = 1e-6,
        .add = s->in2 >= 0 ? &add : NULL,
        .param = r->slab + module_of(r, s)->packed,
        .silu = s->silu,
        .raw = wants_raw(r, s) ? &raw : NULL,
    };
    r->backend->groupnorm(r->exec, &out, &in, &args);
}

static void run_noise_embedding(const struct run *r, const struct fdm_step *s) {
    struct fdm_vec out = vec_at(r, s->out);
    if (r->inputs->noise_embedding)
        r->backend->vec_import(&out, r->inputs->noise_embedding);
    else
        r->backend->noise_embedding(r->exec, &out, r->inputs->c_noise, r->slab + module_of(r, s)->packed);
}

static void run_on_maps(const struct run *r, const struct fdm_step *s) {
    const struct fdm_map in = map_at(r, s->in);
    struct fdm_map out = map_at(r, s->out), in2 = {0};
    if (s->in2 >= 0) in2 = map_at(r, s->in2);
    if (s->op == FDM_OP_ATTENTION) r->backend->attention(r->exec, &out, &in);
    if (s->op == FDM_OP_CONCAT) r->backend->concat(r->exec, &out, &in, &in2);
    if (s->op == FDM_OP_ADD) r->backend->add(r->exec, &out, &in, s->in2 >= 0 ? &in2 : NULL, s->scale);
}

/* Waking a second thread costs microseconds, more on a busy machine; a step must be worth it.  (The number of
 * threads changes no bits.) */
static int step_threads(const struct run *r, const struct fdm_step *s) {
    const double flops_per_thread = 1 << 20; /* about 10 microseconds of a core */
    const double worth = fdm_step_flops(r->g, s) * r->plan->n / flops_per_thread;
    return worth >= r->exec->threads ? r->exec->threads : worth > 1 ? (int)worth : 1;
}

static void run_step(const struct run *whole, const struct fdm_step *s) {
    struct fdm_exec exec = *whole->exec;
    struct run with_threads = *whole;
    const struct run *r = &with_threads;
    exec.threads = step_threads(whole, s);
    with_threads.exec = &exec;
    switch (s->op) {
    case FDM_OP_NOISE_EMBEDDING: run_noise_embedding(r, s); break;
    case FDM_OP_SWAP_HALVES: {
        const struct fdm_vec in = vec_at(r, s->in);
        struct fdm_vec out = vec_at(r, s->out);
        r->backend->swap_halves(r->exec, &out, &in);
        break;
    }
    case FDM_OP_LINEAR: run_linear(r, s); break;
    case FDM_OP_CONV2D: run_conv2d(r, s); break;
    case FDM_OP_RESAMPLE: run_resample(r, s); break;
    case FDM_OP_GROUPNORM: run_groupnorm(r, s); break;
    case FDM_OP_ATTENTION:
    case FDM_OP_CONCAT:
    case FDM_OP_ADD: run_on_maps(r, s); break;
    }
}

/* --- tracing --- */

static fdm_status emit(const struct run *r, char *name, const struct fdm_value *v, void *data, int halo,
                       fdm_error *err) {
    const int n = r->plan->n;
    fdm_tensor t = {.name = name, .dtype = r->backend->dtype, .ndim = v->h ? 4 : 2, .shape = {n, v->c, v->h, v->w},
                    .data = r->trace_buffer};
    if (v->h) {
        const struct fdm_map m = {n, v->c, v->h, v->w, halo, data};
        r->backend->map_export(r->exec, r->trace_buffer, &m);
    } else {
        const struct fdm_vec vec = {n, v->c, data};
        r->backend->vec_export(r->trace_buffer, &vec);
    }
    const size_t count = (size_t)n * (size_t)v->c * (size_t)(v->h ? v->h * v->w : 1);
    if (t.dtype == FDM_F32) /* in place: element i is read before byte 4i+3 is written over byte 8i */
        for (size_t i = 0; i < count; i++) {
            const float f = (float)r->trace_buffer[i];
            memcpy((char *)r->trace_buffer + 4 * i, &f, 4);
        }
    t.nbytes = count * fdm_dtype_size(t.dtype);
    return r->inputs->trace(r->inputs->trace_user, &t, err);
}

static fdm_status emit_step(const struct run *r, const struct fdm_step *s, fdm_error *err) {
    const struct fdm_value *out = &r->g->values[s->out];
    char name[FDM_NAME_MAX];
    fdm_status status = FDM_OK;
    if (s->name[0]) {
        memcpy(name, s->name, sizeof name);
        if (wants_raw(r, s))
            status = emit(r, name, out, r->arena + r->plan->raw_offset, 0, err);
        else
            status = emit(r, name, out, r->arena + out->offset, out->halo, err);
    }
    if (status == FDM_OK && s->block[0]) {
        memcpy(name, s->block, sizeof name);
        status = emit(r, name, out, r->arena + out->offset, out->halo, err);
    }
    return status;
}

static fdm_status alloc_trace_buffer(struct run *r, fdm_error *err) {
    size_t largest = 0;
    for (int i = 0; i < r->g->step_count; i++) {
        const struct fdm_value *v = &r->g->values[r->g->steps[i].out];
        const size_t count = (size_t)v->c * (size_t)(v->h ? v->h * v->w : 1);
        if (count > largest) largest = count;
    }
    const size_t bytes = largest * (size_t)r->plan->n * sizeof(double);
    r->trace_buffer = malloc(bytes);
    return r->trace_buffer ? FDM_OK : fdm_fail_oom(err, "trace", bytes);
}

static void import_inputs(const struct run *r) {
    struct fdm_map x = map_at(r, r->g->x);
    r->backend->map_import(r->exec, &x, r->inputs->x);
    if (r->g->labels >= 0) {
        struct fdm_vec labels = vec_at(r, r->g->labels);
        if (r->inputs->class_labels)
            r->backend->vec_import(&labels, r->inputs->class_labels);
        else
            memset(labels.data, 0, vec_bytes(r, &labels));
    }
    if (r->g->augment >= 0 && r->inputs->augment_labels) {
        struct fdm_vec augment = vec_at(r, r->g->augment);
        r->backend->vec_import(&augment, r->inputs->augment_labels);
    }
}

fdm_status fdm_graph_run(const struct fdm_graph *g, const struct fdm_plan *plan, const struct fdm_backend *backend,
                         const struct fdm_exec *exec, char *arena, const char *slab, double *output,
                         const struct fdm_graph_inputs *inputs, fdm_error *err) {
    struct run r = {g, plan, backend, exec, arena, slab, inputs, NULL};
    fdm_status status = FDM_OK;
    if (inputs->trace) status = alloc_trace_buffer(&r, err);
    if (status != FDM_OK) return status;
    import_inputs(&r);
    for (int i = 0; i < g->step_count && status == FDM_OK; i++) {
        if (inputs->stop && inputs->stop(inputs->stop_user)) {
            status = fdm_fail(err, FDM_INTERRUPTED, "interrupted");
            break;
        }
        run_step(&r, &g->steps[i]);
        if (inputs->trace && !is_skipped(&r, &g->steps[i])) status = emit_step(&r, &g->steps[i], err);
    }
    if (status == FDM_OK) {
        const struct fdm_map out = map_at(&r, g->output);
        backend->map_export(exec, output, &out);
    }
    free(r.trace_buffer);
    return status;
}
