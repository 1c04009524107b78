/* graph.c - writing the list of steps, and planning the memory of its values. */
#include "nn/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

bool fdm_graph_reserve(struct fdm_graph *g, int capacity) {
    g->capacity = capacity;
    g->values = calloc((size_t)capacity, sizeof *g->values);
    g->modules = calloc((size_t)capacity, sizeof *g->modules);
    g->steps = calloc((size_t)capacity, sizeof *g->steps);
    if (g->values && g->modules && g->steps) return true;
    fdm_graph_free(g);
    return false;
}

void fdm_graph_free(struct fdm_graph *g) {
    for (int i = 0; g->modules && i < g->module_count; i++) {
        free(g->modules[i].filter);
        free(g->modules[i].raw_bias);
    }
    free(g->values);
    free(g->modules);
    free(g->steps);
    *g = (struct fdm_graph){0};
}

int fdm_graph_value(struct fdm_graph *g, int c, int h, int w) {
    g->values[g->value_count] = (struct fdm_value){.c = c, .h = h, .w = w, .last_step = -1};
    return g->value_count++;
}

int fdm_graph_module(struct fdm_graph *g, enum fdm_module_kind kind, const char *name, int out, int in, int k,
                     bool bias, bool resampling) {
    struct fdm_module *m = &g->modules[g->module_count];
    *m = (struct fdm_module){.kind = kind, .out = out, .in = in, .k = k, .bias = bias, .resampling = resampling};
    snprintf(m->name, sizeof m->name, "%s", name);
    return g->module_count++;
}

struct fdm_step *fdm_graph_step(struct fdm_graph *g, enum fdm_op op, int module, int in, int c, int h, int w) {
    struct fdm_step *s = &g->steps[g->step_count++];
    *s = (struct fdm_step){.op = op, .in = in, .in2 = -1, .residual = -1, .scale = 1, .module = module, .in_scale = 1};
    s->out = fdm_graph_value(g, c, h, w);
    return s;
}

static void name_after_module(const struct fdm_graph *g, struct fdm_step *s) {
    snprintf(s->name, sizeof s->name, "%s", g->modules[s->module].name);
}

struct fdm_step *fdm_graph_conv2d(struct fdm_graph *g, int module, int in) {
    const struct fdm_module *m = &g->modules[module];
    struct fdm_step *s = fdm_graph_step(g, FDM_OP_CONV2D, module, in, m->out, g->values[in].h, g->values[in].w);
    s->pad = m->k / 2;
    name_after_module(g, s);
    return s;
}

struct fdm_step *fdm_graph_resample(struct fdm_graph *g, int module, int in, bool up) {
    const struct fdm_value *v = &g->values[in];
    const int len = g->filter_len, pad = (len - 1) / 2;
    const int h = up ? (v->h - 1) * 2 - 2 * pad + len : (v->h + 2 * pad - len) / 2 + 1;
    const int w = up ? (v->w - 1) * 2 - 2 * pad + len : (v->w + 2 * pad - len) / 2 + 1;
    struct fdm_step *s = fdm_graph_step(g, FDM_OP_RESAMPLE, module, in, v->c, h, w);
    s->up = up;
    s->pad = pad;
    return s;
}

struct fdm_step *fdm_graph_groupnorm(struct fdm_graph *g, int module, int in, bool silu) {
    const struct fdm_value *v = &g->values[in];
    struct fdm_step *s = fdm_graph_step(g, FDM_OP_GROUPNORM, module, in, v->c, v->h, v->w);
    s->silu = silu;
    name_after_module(g, s);
    return s;
}

struct fdm_step *fdm_graph_linear(struct fdm_graph *g, int module, int in) {
    struct fdm_step *s = fdm_graph_step(g, FDM_OP_LINEAR, module, in, g->modules[module].out, 0, 0);
    name_after_module(g, s);
    return s;
}

double fdm_step_flops(const struct fdm_graph *g, const struct fdm_step *s) {
    const struct fdm_value *v = &g->values[s->out];
    const struct fdm_module none = {0}, *m = s->module >= 0 ? &g->modules[s->module] : &none;
    const double pixels = v->h ? (double)v->h * v->w : 1;
    switch (s->op) {
    case FDM_OP_CONV2D: return 2 * pixels * m->out * m->in * m->k * m->k;
    case FDM_OP_LINEAR: return 2.0 * m->out * m->in;
    case FDM_OP_ATTENTION: return 4 * pixels * pixels * v->c;
    case FDM_OP_RESAMPLE: return 2 * pixels * v->c * g->filter_len * g->filter_len;
    case FDM_OP_GROUPNORM: return 32 * pixels * v->c; /* three passes and an exponential */
    default: return pixels * v->c;
    }
}

int fdm_groupnorm_groups(int channels) { return fdm_min_int(32, channels / 4); }

/* --- planning --- */

static void mark_use(struct fdm_graph *g, int value, int step) {
    if (value >= 0) g->values[value].last_step = step;
}

/* Last readers, and the widest zero border that a convolution wants around its input. */
static void find_uses(struct fdm_graph *g) {
    for (int i = 0; i < g->step_count; i++) {
        const struct fdm_step *s = &g->steps[i];
        mark_use(g, s->out, i); /* an unread output lives through its own step */
        mark_use(g, s->in, i);
        mark_use(g, s->in2, i);
        mark_use(g, s->residual, i);
        if (s->op == FDM_OP_CONV2D) g->values[s->in].halo = fdm_max_int(g->values[s->in].halo, s->pad);
    }
    g->values[g->output].last_step = g->step_count;
}

static size_t value_bytes(const struct fdm_value *v, const struct fdm_backend *b, int n, int halo) {
    const size_t bytes = v->h ? b->map_bytes(n, v->c, v->h, v->w, halo)
                              : (size_t)n * (size_t)v->c * fdm_dtype_size(b->dtype);
    return fdm_round_up(bytes, 64);
}

/* First-fit placement: `live` is sorted by offset; a value takes the lowest gap that holds it. */
struct placement {
    size_t offset, bytes;
    int value;
};
struct placer {
    struct placement *live;
    int count;
    size_t high_water;
};

static size_t place(struct placer *p, int value, size_t bytes) {
    size_t offset = 0;
    int at = 0;
    for (; at < p->count; at++) {
        if (p->live[at].offset - offset >= bytes) break;
        offset = fdm_add_saturated(p->live[at].offset, p->live[at].bytes);
    }
    memmove(&p->live[at + 1], &p->live[at], (size_t)(p->count - at) * sizeof *p->live);
    p->live[at] = (struct placement){offset, bytes, value};
    p->count++;
    const size_t end = fdm_add_saturated(offset, bytes);
    if (end > p->high_water) p->high_water = end;
    return offset;
}

static void release_dead(struct placer *p, const struct fdm_graph *g, int step) {
    int kept = 0;
    for (int i = 0; i < p->count; i++)
        if (g->values[p->live[i].value].last_step > step) p->live[kept++] = p->live[i];
    p->count = kept;
}

bool fdm_step_has_raw(const struct fdm_step *s) {
    return s->name[0] && (s->silu || s->residual >= 0 || s->scale != 1 || (s->op == FDM_OP_LINEAR && s->in2 >= 0));
}

static size_t scratch_bytes(const struct fdm_graph *g, const struct fdm_step *s, const struct fdm_backend *b, int n,
                            int threads) {
    const struct fdm_value *out = &g->values[s->out];
    if (s->op == FDM_OP_ATTENTION) return b->attention_scratch(n, out->c, out->h, out->w, threads);
    if (s->op != FDM_OP_CONV2D) return 0;
    return b->conv2d_scratch(n, g->values[s->in].c, out->c, g->modules[s->module].k, out->h, out->w, threads);
}

fdm_status fdm_graph_plan(struct fdm_graph *g, struct fdm_plan *plan, const struct fdm_backend *backend, int n,
                          int threads, bool trace, fdm_error *err) {
    struct placer placer = {.live = malloc((size_t)g->value_count * sizeof *placer.live)};
    if (!placer.live) return fdm_fail_oom(err, "activation plan", (size_t)g->value_count * sizeof *placer.live);
    *plan = (struct fdm_plan){.n = n, .trace = trace};
    find_uses(g);

    const int inputs[] = {g->x, g->labels, g->augment};
    for (size_t i = 0; i < FDM_ARRAY_LEN(inputs); i++) {
        if (inputs[i] < 0) continue;
        struct fdm_value *v = &g->values[inputs[i]];
        v->offset = place(&placer, inputs[i], value_bytes(v, backend, n, v->halo));
    }
    size_t raw_bytes = 0;
    for (int i = 0; i < g->step_count; i++) {
        const struct fdm_step *s = &g->steps[i];
        struct fdm_value *out = &g->values[s->out];
        out->offset = place(&placer, s->out, value_bytes(out, backend, n, out->halo));
        if (trace && fdm_step_has_raw(s)) {
            const size_t bytes = value_bytes(out, backend, n, 0);
            if (bytes > raw_bytes) raw_bytes = bytes;
        }
        const size_t scratch = scratch_bytes(g, s, backend, n, threads);
        if (scratch > plan->scratch_bytes) plan->scratch_bytes = scratch;
        release_dead(&placer, g, i);
    }
    plan->raw_offset = placer.high_water;
    plan->arena_bytes = fdm_add_saturated(placer.high_water, raw_bytes);
    free(placer.live);
    return FDM_OK;
}
