/* graph.c - writing the list of steps. */
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
        free(g->modules[i].freqs);
    }
    free(g->values);
    free(g->modules);
    free(g->steps);
    *g = (struct fdm_graph){0};
}

int fdm_graph_value(struct fdm_graph *g, int c, int h, int w) {
    g->values[g->value_count] = (struct fdm_value){c, h, w};
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
    *s = (struct fdm_step){.op = op, .in = in, .in2 = -1, .residual = -1, .scale = 1, .module = module, .in_scale = 1,
                            .segment = g->segment};
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

bool fdm_step_has_raw(const struct fdm_step *s) {
    return s->name[0] && (s->silu || s->residual >= 0 || s->scale != 1 || (s->op == FDM_OP_LINEAR && s->in2 >= 0));
}
