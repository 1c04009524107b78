/* run_forward.c - runs the steps of a planned network on a backend, and hands traced outputs out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "nn/run.h"
#include "nn/weights.h"

struct fdm_map fdm_run_map(const struct fdm_run *r, int value) {
    const struct fdm_value *v = &r->g->values[value];
    return (struct fdm_map){r->n, v->c, v->h, v->w, r->plan->halo[value], r->arena + r->plan->offset[value]};
}

struct fdm_vec fdm_run_vec(const struct fdm_run *r, int value) {
    return (struct fdm_vec){r->n, r->g->values[value].c, r->arena + r->plan->offset[value]};
}

void fdm_run_begin_action(struct fdm_run *r, int action) {
    struct fdm_plan *plan = r->plan;
    while (plan->next_life < plan->life_count && plan->lives[plan->next_life].first <= action) {
        const struct fdm_life *life = &plan->lives[plan->next_life++];
        plan->offset[life->buffer] = life->offset;
    }
}

static const struct fdm_module *module_of(const struct fdm_run *r, const struct fdm_step *s) {
    return &r->g->modules[s->module];
}

static bool wants_raw(const struct fdm_run *r, const struct fdm_step *s) {
    return (r->trace || r->keep_raw) && fdm_step_has_raw(s);
}

bool fdm_run_skips(const struct fdm_run *r, const struct fdm_step *s) {
    return s->in >= 0 && s->in == r->g->augment && !r->augment_labels;
}

const struct fdm_dropout *fdm_run_dropout(const struct fdm_run *r, const struct fdm_step *s, struct fdm_dropout *d) {
    if (!s->dropout || r->dropout == 0) return NULL;
    *d = (struct fdm_dropout){r->dropout, (uint32_t)(s - r->g->steps), r->dropout_keys};
    return d;
}

static size_t vec_bytes(const struct fdm_run *r, const struct fdm_vec *v) {
    return (size_t)v->n * (size_t)v->c * fdm_dtype_size(r->backend->dtype);
}

static struct fdm_map raw_map(const struct fdm_run *r, const struct fdm_step *s) {
    struct fdm_map m = fdm_run_map(r, s->out);
    m.halo = 0;
    m.data = r->arena + r->plan->raw_offset;
    return m;
}

static struct fdm_vec raw_vec(const struct fdm_run *r, const struct fdm_step *s) {
    struct fdm_vec v = fdm_run_vec(r, s->out);
    v.data = r->arena + r->plan->raw_offset;
    return v;
}

/* --- one function per kind of step --- */

static void run_linear(const struct fdm_run *r, const struct fdm_step *s) {
    const struct fdm_vec in = fdm_run_vec(r, s->in);
    struct fdm_vec out = fdm_run_vec(r, s->out), raw = raw_vec(r, s), residual = {0};
    if (s->in2 >= 0) residual = fdm_run_vec(r, s->in2);
    if (fdm_run_skips(r, s)) {
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

static void run_conv2d(const struct fdm_run *r, const struct fdm_step *s) {
    const struct fdm_map in = fdm_run_map(r, s->in);
    struct fdm_map out = fdm_run_map(r, s->out), raw = raw_map(r, s), residual = {0};
    if (s->residual >= 0) residual = fdm_run_map(r, s->residual);
    if (r->packed)
        fdm_weights_pack_conv2d(r->packed, r->g, s->module, r->list, r->parameters, r->backend, r->exec);
    const struct fdm_conv2d_args args = {
        .k = module_of(r, s)->k,
        .pad = s->pad,
        .weight = r->packed ? r->packed : r->slab + module_of(r, s)->packed,
        .epilogue = {s->residual >= 0 ? &residual : NULL, s->scale, wants_raw(r, s) ? &raw : NULL},
    };
    r->backend->conv2d(r->exec, &out, &in, &args);
}

static void run_resample(const struct fdm_run *r, const struct fdm_step *s) {
    const struct fdm_map in = fdm_run_map(r, s->in);
    const struct fdm_module *m = module_of(r, s);
    struct fdm_map out = fdm_run_map(r, s->out), raw = raw_map(r, s), residual = {0};
    if (s->residual >= 0) residual = fdm_run_map(r, s->residual);
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

static void run_groupnorm(const struct fdm_run *r, const struct fdm_step *s) {
    const struct fdm_map in = fdm_run_map(r, s->in);
    struct fdm_map out = fdm_run_map(r, s->out), raw = raw_map(r, s);
    struct fdm_vec add = {0};
    struct fdm_dropout dropout;
    if (s->in2 >= 0) add = fdm_run_vec(r, s->in2);
    const struct fdm_groupnorm_args args = {
        .groups = fdm_groupnorm_groups(in.c),
        .eps = 1e-6,
        .add = s->in2 >= 0 ? &add : NULL,
        .param = r->slab + module_of(r, s)->packed,
        .silu = s->silu,
        .raw = wants_raw(r, s) ? &raw : NULL,
        .dropout = fdm_run_dropout(r, s, &dropout),
    };
    r->backend->groupnorm(r->exec, &out, &in, &args);
}

static void run_noise_embedding(const struct fdm_run *r, const struct fdm_step *s) {
    struct fdm_vec out = fdm_run_vec(r, s->out);
    if (r->noise_embedding)
        r->backend->vec_import(&out, r->noise_embedding);
    else
        r->backend->noise_embedding(r->exec, &out, r->c_noise, r->slab + module_of(r, s)->packed);
}

static void run_on_maps(const struct fdm_run *r, const struct fdm_step *s) {
    const struct fdm_map in = fdm_run_map(r, s->in);
    struct fdm_map out = fdm_run_map(r, s->out), in2 = {0};
    if (s->in2 >= 0) in2 = fdm_run_map(r, s->in2);
    if (s->op == FDM_OP_ATTENTION) r->backend->attention(r->exec, &out, &in);
    if (s->op == FDM_OP_CONCAT) r->backend->concat(r->exec, &out, &in, &in2);
}

/* Waking a second thread costs microseconds, more on a busy machine; a step must be worth it.  (The number of
 * threads changes no bits.) */
int fdm_run_threads(const struct fdm_run *r, double flops) {
    const double flops_per_thread = 1 << 20; /* about 10 microseconds of a core */
    const double worth = flops * r->n / flops_per_thread;
    return worth >= r->exec->threads ? r->exec->threads : worth > 1 ? (int)worth : 1;
}

void fdm_run_step_forward(struct fdm_run *whole, const struct fdm_step *s, int action) {
    struct fdm_exec exec = *whole->exec;
    struct fdm_run with_threads;
    const struct fdm_run *r = &with_threads;
    fdm_run_begin_action(whole, action);
    exec.threads = fdm_run_threads(whole, fdm_step_flops(whole->g, s));
    with_threads = *whole;
    with_threads.exec = &exec;
    switch (s->op) {
    case FDM_OP_NOISE_EMBEDDING: run_noise_embedding(r, s); break;
    case FDM_OP_SWAP_HALVES: {
        const struct fdm_vec in = fdm_run_vec(r, s->in);
        struct fdm_vec out = fdm_run_vec(r, s->out);
        r->backend->swap_halves(r->exec, &out, &in);
        break;
    }
    case FDM_OP_LINEAR: run_linear(r, s); break;
    case FDM_OP_CONV2D: run_conv2d(r, s); break;
    case FDM_OP_RESAMPLE: run_resample(r, s); break;
    case FDM_OP_GROUPNORM: run_groupnorm(r, s); break;
    case FDM_OP_ATTENTION:
    case FDM_OP_CONCAT: run_on_maps(r, s); break;
    }
}

/* --- tracing --- */

static fdm_status emit(const struct fdm_run *r, char *name, const struct fdm_value *v, void *data, int halo,
                       fdm_error *err) {
    const int n = r->n;
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
    return r->trace(r->trace_user, &t, err);
}

static fdm_status emit_step(const struct fdm_run *r, const struct fdm_step *s, fdm_error *err) {
    const struct fdm_value *out = &r->g->values[s->out];
    char name[FDM_NAME_MAX];
    fdm_status status = FDM_OK;
    if (s->name[0]) {
        memcpy(name, s->name, sizeof name);
        if (wants_raw(r, s))
            status = emit(r, name, out, r->arena + r->plan->raw_offset, 0, err);
        else
            status = emit(r, name, out, r->arena + r->plan->offset[s->out], r->plan->halo[s->out], err);
    }
    if (status == FDM_OK && s->block[0]) {
        memcpy(name, s->block, sizeof name);
        status = emit(r, name, out, r->arena + r->plan->offset[s->out], r->plan->halo[s->out], err);
    }
    return status;
}

static fdm_status alloc_trace_buffer(struct fdm_run *r, fdm_error *err) {
    size_t largest = 0;
    for (int i = 0; i < r->g->step_count; i++) {
        const struct fdm_value *v = &r->g->values[r->g->steps[i].out];
        const size_t count = (size_t)v->c * (size_t)(v->h ? v->h * v->w : 1);
        if (count > largest) largest = count;
    }
    const size_t bytes = largest * (size_t)r->n * sizeof(double);
    r->trace_buffer = malloc(bytes);
    return r->trace_buffer ? FDM_OK : fdm_fail_oom(err, "trace", bytes);
}

static void import_inputs(const struct fdm_run *r) {
    struct fdm_map x = fdm_run_map(r, r->g->x);
    r->backend->map_import(r->exec, &x, r->x);
    if (r->g->labels >= 0) {
        struct fdm_vec labels = fdm_run_vec(r, r->g->labels);
        if (r->class_labels)
            r->backend->vec_import(&labels, r->class_labels);
        else
            memset(labels.data, 0, vec_bytes(r, &labels));
    }
    if (r->g->augment >= 0 && r->augment_labels) {
        struct fdm_vec augment = fdm_run_vec(r, r->g->augment);
        r->backend->vec_import(&augment, r->augment_labels);
    }
}

void fdm_run_begin(struct fdm_run *r) {
    r->plan->next_life = 0;
    fdm_run_begin_action(r, -1);
    import_inputs(r);
}

fdm_status fdm_run_forward(struct fdm_run *r, double *output, fdm_error *err) {
    const struct fdm_graph *g = r->g;
    fdm_status status = r->trace ? alloc_trace_buffer(r, err) : FDM_OK;
    if (status != FDM_OK) return status;
    fdm_run_begin(r);
    for (int i = 0; i < r->plan->forward_count && status == FDM_OK; i++) {
        const struct fdm_step *s = &g->steps[r->plan->actions[i].step];
        if (r->stop && r->stop(r->stop_user)) {
            status = fdm_fail(err, FDM_INTERRUPTED, "interrupted");
            break;
        }
        fdm_run_step_forward(r, s, i);
        if (r->trace && !fdm_run_skips(r, s)) status = emit_step(r, s, err);
    }
    if (status == FDM_OK) {
        const struct fdm_map out = fdm_run_map(r, g->output);
        r->backend->map_export(r->exec, output, &out);
    }
    free(r->trace_buffer);
    r->trace_buffer = NULL;
    return status;
}
