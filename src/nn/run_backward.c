/* run_backward.c - the way back: from dL/dF to the gradient of every parameter, step by step. */
#include <string.h>

#include "base/base.h"
#include "nn/run.h"

/* One backward action with what its kind-specific part needs. */
struct back {
    struct fdm_run *r;
    const struct fdm_step *s;
    const struct fdm_action *a;
    char *gradient;
    struct fdm_map maps[FDM_OPERANDS]; /* gradients of the operands */
    struct fdm_vec vecs[FDM_OPERANDS];
};

static int operand_value(const struct fdm_step *s, int operand) {
    return operand == FDM_OPERAND_IN ? s->in : operand == FDM_OPERAND_IN2 ? s->in2 : s->residual;
}

static struct fdm_map gradient_map(const struct fdm_run *r, int value) {
    const struct fdm_value *v = &r->g->values[value];
    const int buffer = r->g->value_count + value;
    return (struct fdm_map){r->n, v->c, v->h, v->w, r->plan->halo[buffer], r->arena + r->plan->offset[buffer]};
}

static struct fdm_vec gradient_vec(const struct fdm_run *r, int value) {
    return (struct fdm_vec){r->n, r->g->values[value].c, r->arena + r->plan->offset[r->g->value_count + value]};
}

static struct fdm_map_target map_target(struct back *b, int operand) {
    const enum fdm_gradient_use use = b->a->gradient[operand];
    if (use == FDM_GRADIENT_UNWANTED) return (struct fdm_map_target){NULL, false};
    b->maps[operand] = gradient_map(b->r, operand_value(b->s, operand));
    return (struct fdm_map_target){&b->maps[operand], use == FDM_GRADIENT_ADD};
}

static struct fdm_vec_target vec_target(struct back *b, int operand) {
    const enum fdm_gradient_use use = b->a->gradient[operand];
    if (use == FDM_GRADIENT_UNWANTED) return (struct fdm_vec_target){NULL, false};
    b->vecs[operand] = gradient_vec(b->r, operand_value(b->s, operand));
    return (struct fdm_vec_target){&b->vecs[operand], use == FDM_GRADIENT_ADD};
}

static const struct fdm_module *module_of(const struct back *b) { return &b->r->g->modules[b->s->module]; }

static const float *value_of(const struct back *b, int parameter) {
    return parameter < 0 ? NULL : b->r->parameters + b->r->list->items[parameter].offset;
}
static void *gradient_of(const struct back *b, int parameter) {
    if (parameter < 0) return NULL;
    return b->gradient + b->r->list->items[parameter].offset * fdm_dtype_size(b->r->backend->dtype);
}
static int weight_of(const struct back *b) { return b->r->list->weight[b->s->module]; }
/* The bias that this step adds, or -1: of a fused convolution the resampling step adds it. */
static int bias_of(const struct back *b) {
    const bool adds = b->s->op != FDM_OP_RESAMPLE ? !module_of(b)->raw_bias : module_of(b)->raw_bias != NULL && b->s->name[0];
    return adds ? b->r->list->bias[b->s->module] : -1;
}

/* --- one function per kind of step --- */

static void back_linear(struct back *b, const struct fdm_exec *exec) {
    const struct fdm_run *r = b->r;
    const struct fdm_vec in = fdm_run_vec(r, b->s->in), d_out = gradient_vec(r, b->s->out);
    const struct fdm_linear_backward_args args = {
        .weight = value_of(b, weight_of(b)),
        .bias = value_of(b, bias_of(b)),
        .in_scale = b->s->in_scale,
        .silu = b->s->silu,
        .d_in = vec_target(b, FDM_OPERAND_IN),
        .d_residual = vec_target(b, FDM_OPERAND_IN2),
        .d_weight = gradient_of(b, weight_of(b)),
        .d_bias = gradient_of(b, bias_of(b)),
    };
    if (!fdm_run_skips(r, b->s)) {
        r->backend->linear_backward(exec, &d_out, &in, &args);
        return;
    }
    /* map_augment without labels has no part in the loss; its residual never needs a gradient but for map_label's sake */
    if (args.d_weight) memset(args.d_weight, 0, b->r->list->items[weight_of(b)].count * fdm_dtype_size(r->backend->dtype));
    if (args.d_residual.vec)
        memcpy(args.d_residual.vec->data, d_out.data, (size_t)r->n * (size_t)d_out.c * fdm_dtype_size(r->backend->dtype));
}

static void back_conv2d(struct back *b, const struct fdm_exec *exec) {
    const struct fdm_run *r = b->r;
    const struct fdm_map in = fdm_run_map(r, b->s->in), d_out = gradient_map(r, b->s->out);
    const struct fdm_conv2d_backward_args args = {
        .k = module_of(b)->k,
        .pad = b->s->pad,
        .scale = b->s->scale,
        .weight = value_of(b, weight_of(b)),
        .d_in = map_target(b, FDM_OPERAND_IN),
        .d_residual = map_target(b, FDM_OPERAND_RESIDUAL),
        .d_weight = gradient_of(b, weight_of(b)),
        .d_bias = gradient_of(b, bias_of(b)),
    };
    r->backend->conv2d_backward(exec, &d_out, &in, &args);
}

static void back_resample(struct back *b, const struct fdm_exec *exec) {
    const struct fdm_run *r = b->r;
    const struct fdm_map d_out = gradient_map(r, b->s->out);
    const struct fdm_resample_backward_args args = {
        .up = b->s->up,
        .pad = b->s->pad,
        .len = r->g->filter_len,
        .filter = module_of(b)->filter,
        .scale = b->s->scale,
        .d_in = map_target(b, FDM_OPERAND_IN),
        .d_residual = map_target(b, FDM_OPERAND_RESIDUAL),
        .d_bias = gradient_of(b, bias_of(b)),
    };
    r->backend->resample_backward(exec, &d_out, &args);
}

static void back_groupnorm(struct back *b, const struct fdm_exec *exec) {
    const struct fdm_run *r = b->r;
    const struct fdm_map in = fdm_run_map(r, b->s->in), d_out = gradient_map(r, b->s->out);
    struct fdm_vec add = {0};
    struct fdm_dropout dropout;
    if (b->s->in2 >= 0) add = fdm_run_vec(r, b->s->in2);
    const struct fdm_groupnorm_backward_args args = {
        .forward = {.groups = fdm_groupnorm_groups(in.c),
                    .eps = 1e-6,
                    .add = b->s->in2 >= 0 ? &add : NULL,
                    .param = r->slab + module_of(b)->packed,
                    .silu = b->s->silu,
                    .dropout = fdm_run_dropout(r, b->s, &dropout)},
        .d_in = map_target(b, FDM_OPERAND_IN),
        .d_add = vec_target(b, FDM_OPERAND_IN2),
        .d_weight = gradient_of(b, weight_of(b)),
        .d_bias = gradient_of(b, bias_of(b)),
    };
    r->backend->groupnorm_backward(exec, &d_out, &in, &args);
}

static void back_attention(struct back *b, const struct fdm_exec *exec) {
    const struct fdm_map qkv = fdm_run_map(b->r, b->s->in), d_out = gradient_map(b->r, b->s->out);
    b->r->backend->attention_backward(exec, map_target(b, FDM_OPERAND_IN), &d_out, &qkv);
}

static void back_concat(struct back *b, const struct fdm_exec *exec) {
    const struct fdm_map d_out = gradient_map(b->r, b->s->out);
    const struct fdm_map_target d_a = map_target(b, FDM_OPERAND_IN), d_b = map_target(b, FDM_OPERAND_IN2);
    b->r->backend->concat_backward(exec, d_a, d_b, &d_out);
}

static void back_step(struct back *b) {
    struct fdm_exec exec = *b->r->exec;
    exec.threads = fdm_run_threads(b->r, 2 * fdm_step_flops(b->r->g, b->s));
    switch (b->s->op) {
    case FDM_OP_LINEAR: back_linear(b, &exec); break;
    case FDM_OP_CONV2D: back_conv2d(b, &exec); break;
    case FDM_OP_RESAMPLE: back_resample(b, &exec); break;
    case FDM_OP_GROUPNORM: back_groupnorm(b, &exec); break;
    case FDM_OP_ATTENTION: back_attention(b, &exec); break;
    case FDM_OP_CONCAT: back_concat(b, &exec); break;
    case FDM_OP_NOISE_EMBEDDING: /* no parameters before it: never asked for a gradient */
    case FDM_OP_SWAP_HALVES: break;
    }
}

fdm_status fdm_run_backward(struct fdm_run *r, const double *d_output, void *gradient, fdm_error *err) {
    const struct fdm_plan *plan = r->plan;
    fdm_run_begin_action(r, plan->forward_count);
    struct fdm_map d_F = gradient_map(r, r->g->output);
    r->backend->map_import(r->exec, &d_F, d_output);
    for (int i = plan->forward_count; i < plan->action_count; i++) {
        const struct fdm_action *a = &plan->actions[i];
        if (r->stop && r->stop(r->stop_user)) return fdm_fail(err, FDM_INTERRUPTED, "interrupted");
        if (a->pass == FDM_PASS_FORWARD) {
            fdm_run_step_forward(r, &r->g->steps[a->step], i);
            continue;
        }
        fdm_run_begin_action(r, i);
        struct back b = {
            .r = r, .s = &r->g->steps[a->step], .a = a, .gradient = gradient};
        back_step(&b);
        if (r->stepped) r->stepped(r->stepped_user, a->step);
    }
    return FDM_OK;
}
