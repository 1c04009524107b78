/* plan.c - lists the work of a run, finds the lifetimes of values and gradients on that list, and places them. */
#include "nn/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"

void fdm_plan_free(struct fdm_plan *plan) {
    free(plan->actions);
    free(plan->lives);
    free(plan->halo);
    free(plan->offset);
    *plan = (struct fdm_plan){0};
}

/* --- what the list is made from --- */

struct planner {
    struct fdm_plan *plan;
    const struct fdm_graph *g;
    bool *needs_gradient; /* [value_count] */
    bool *kept;           /* [value_count]: stays in memory from the forward to the backward pass */
    int *life;            /* [2 * value_count]: latest life of each buffer, or -1 */
};

static bool has_parameters(const struct fdm_graph *g, const struct fdm_step *s) {
    const struct fdm_module *m = s->module >= 0 ? &g->modules[s->module] : NULL;
    return m && m->kind != FDM_MODULE_NOISE && (m->kind != FDM_MODULE_CONV2D || m->k > 0);
}

bool *fdm_plan_needs_gradient(const struct fdm_graph *g) {
    bool *needs = calloc((size_t)g->value_count, sizeof *needs);
    for (int i = 0; needs && i < g->step_count; i++) {
        const struct fdm_step *s = &g->steps[i];
        needs[s->out] = has_parameters(g, s) || (s->in >= 0 && needs[s->in]) || (s->in2 >= 0 && needs[s->in2]) ||
                        (s->residual >= 0 && needs[s->residual]);
    }
    return needs;
}

static void keep_if_read_elsewhere(struct planner *p, const int *segment_of, int value, int segment) {
    if (value >= 0 && segment_of[value] != segment) p->kept[value] = true;
}

/* Which values outlive the forward pass. */
static fdm_status choose_kept(struct planner *p, fdm_error *err) {
    const struct fdm_graph *g = p->g;
    int *segment_of = malloc((size_t)g->value_count * sizeof *segment_of);
    if (!segment_of) return fdm_fail_oom(err, "activation plan", (size_t)g->value_count * sizeof *segment_of);
    for (int v = 0; v < g->value_count; v++) {
        segment_of[v] = -1; /* an input */
        p->kept[v] = p->plan->recompute != FDM_RECOMPUTE_BLOCK;
    }
    for (int i = 0; i < g->step_count; i++) {
        const struct fdm_step *s = &g->steps[i];
        segment_of[s->out] = s->segment;
        const bool cheap = s->op == FDM_OP_GROUPNORM || s->op == FDM_OP_CONCAT || s->op == FDM_OP_RESAMPLE;
        if (p->plan->recompute == FDM_RECOMPUTE_NORM && cheap) p->kept[s->out] = false;
    }
    for (int i = 0; i < g->step_count && p->plan->recompute == FDM_RECOMPUTE_BLOCK; i++) {
        const struct fdm_step *s = &g->steps[i];
        keep_if_read_elsewhere(p, segment_of, s->in, s->segment);
        keep_if_read_elsewhere(p, segment_of, s->in2, s->segment);
        keep_if_read_elsewhere(p, segment_of, s->residual, s->segment);
    }
    free(segment_of);
    return FDM_OK;
}

/* --- writing the list --- */

static void begin_life(struct planner *p, int buffer, int action) {
    struct fdm_plan *plan = p->plan;
    p->life[buffer] = plan->life_count;
    plan->lives[plan->life_count++] = (struct fdm_life){.buffer = buffer, .first = action, .last = action};
}

static void use(struct planner *p, int buffer, int action) { p->plan->lives[p->life[buffer]].last = action; }

static void use_value(struct planner *p, int value, int action) {
    if (value >= 0) use(p, value, action);
}

static void append_forward(struct planner *p, int step) {
    const struct fdm_step *s = &p->g->steps[step];
    const int action = p->plan->action_count++;
    p->plan->actions[action] = (struct fdm_action){.pass = FDM_PASS_FORWARD, .step = step};
    begin_life(p, s->out, action);
    use_value(p, s->in, action);
    use_value(p, s->in2, action);
    use_value(p, s->residual, action);
}

/* Whether the backward pass finds the value in memory: kept, or computed again already. */
static bool is_present(const struct planner *p, int value) {
    return p->kept[value] || p->plan->lives[p->life[value]].first >= p->plan->forward_count;
}

/* Computes everything again that is missing for `value`, in the order of the steps: what it depends on without
 * crossing a kept value.  Steps are listed in the order of their dependencies, so one sweep marks and one emits. */
static void bring_back(struct planner *p, int value, bool *wanted) {
    const struct fdm_graph *g = p->g;
    if (value < 0 || is_present(p, value)) return;
    memset(wanted, 0, (size_t)g->value_count * sizeof *wanted);
    wanted[value] = true;
    for (int i = g->step_count - 1; i >= 0; i--) {
        const struct fdm_step *s = &g->steps[i];
        const int operands[] = {s->in, s->in2, s->residual};
        if (!wanted[s->out]) continue;
        for (size_t k = 0; k < FDM_ARRAY_LEN(operands); k++)
            if (operands[k] >= 0 && !is_present(p, operands[k])) wanted[operands[k]] = true;
    }
    for (int i = 0; i < g->step_count; i++)
        if (wanted[g->steps[i].out]) append_forward(p, i);
}

/* The gradient of an operand: begun by the first action that adds to it, complete when its producer comes. */
static enum fdm_gradient_use target(struct planner *p, int value, int action) {
    if (value < 0 || !p->needs_gradient[value]) return FDM_GRADIENT_UNWANTED;
    const int buffer = p->g->value_count + value;
    if (p->life[buffer] < 0) {
        begin_life(p, buffer, action);
        return FDM_GRADIENT_OVERWRITE;
    }
    use(p, buffer, action);
    return FDM_GRADIENT_ADD;
}

static void append_backward(struct planner *p, int step, bool *wanted) {
    const struct fdm_step *s = &p->g->steps[step];
    const int d_out = p->g->value_count + s->out;
    if (!p->needs_gradient[s->out] || p->life[d_out] < 0) return;
    const bool reads_in = s->op != FDM_OP_RESAMPLE && s->op != FDM_OP_CONCAT, reads_in2 = s->op == FDM_OP_GROUPNORM;
    if (reads_in) bring_back(p, s->in, wanted);
    if (reads_in2) bring_back(p, s->in2, wanted);
    const int action = p->plan->action_count++;
    struct fdm_action *a = &p->plan->actions[action];
    *a = (struct fdm_action){.pass = FDM_PASS_BACKWARD, .step = step};
    if (reads_in) use_value(p, s->in, action);
    if (reads_in2) use_value(p, s->in2, action);
    use(p, d_out, action);
    a->gradient[FDM_OPERAND_IN] = target(p, s->in, action);
    a->gradient[FDM_OPERAND_IN2] = target(p, s->in2, action);
    a->gradient[FDM_OPERAND_RESIDUAL] = target(p, s->residual, action);
}

static fdm_status list_actions(struct planner *p, fdm_error *err) {
    const struct fdm_graph *g = p->g;
    struct fdm_plan *plan = p->plan;
    const int inputs[] = {g->x, g->labels, g->augment};
    bool *wanted = malloc((size_t)g->value_count * sizeof *wanted);
    if (!wanted) return fdm_fail_oom(err, "activation plan", (size_t)g->value_count * sizeof *wanted);
    for (size_t i = 0; i < FDM_ARRAY_LEN(inputs); i++)
        if (inputs[i] >= 0) begin_life(p, inputs[i], -1);
    for (int i = 0; i < g->step_count; i++) append_forward(p, i);
    plan->forward_count = plan->action_count;
    use(p, g->output, plan->forward_count - 1);
    if (plan->backward) {
        begin_life(p, g->value_count + g->output, plan->forward_count);
        for (int i = g->step_count - 1; i >= 0; i--) append_backward(p, i, wanted);
    }
    free(wanted);
    return FDM_OK;
}

/* --- placing --- */

static void find_halos(struct fdm_plan *plan, const struct fdm_graph *g) {
    for (int i = 0; i < g->step_count; i++) {
        const struct fdm_step *s = &g->steps[i];
        if (s->op != FDM_OP_CONV2D) continue;
        plan->halo[s->in] = fdm_max_int(plan->halo[s->in], s->pad);
        plan->halo[g->value_count + s->out] = fdm_max_int(0, g->modules[s->module].k - 1 - s->pad);
    }
}

static size_t value_bytes(const struct fdm_value *v, const struct fdm_backend *b, int n, int halo) {
    const size_t bytes = v->h ? b->map_bytes(n, v->c, v->h, v->w, halo)
                              : (size_t)n * (size_t)v->c * fdm_dtype_size(b->dtype);
    return fdm_round_up(bytes, 64);
}

/* First-fit placement: `live` is sorted by offset; a life takes the lowest gap that holds it. */
struct placement {
    size_t offset, bytes;
    int last;
};
struct placer {
    struct placement *live;
    int count;
    size_t high_water;
};

static size_t place(struct placer *p, int last, size_t bytes) {
    size_t offset = 0;
    int at = 0;
    for (; at < p->count; at++) {
        if (p->live[at].offset - offset >= bytes) break;
        offset = fdm_add_saturated(p->live[at].offset, p->live[at].bytes);
    }
    memmove(&p->live[at + 1], &p->live[at], (size_t)(p->count - at) * sizeof *p->live);
    p->live[at] = (struct placement){offset, bytes, last};
    p->count++;
    const size_t end = fdm_add_saturated(offset, bytes);
    if (end > p->high_water) p->high_water = end;
    return offset;
}

/* What is not read from action `now` on gives its place back. */
static void release_dead(struct placer *p, int now) {
    int kept = 0;
    for (int i = 0; i < p->count; i++)
        if (p->live[i].last >= now) p->live[kept++] = p->live[i];
    p->count = kept;
}

static fdm_status place_lives(struct fdm_plan *plan, const struct fdm_graph *g, const struct fdm_backend *b,
                              fdm_error *err) {
    struct placer placer = {.live = malloc((size_t)plan->life_count * sizeof *placer.live)};
    if (!placer.live) return fdm_fail_oom(err, "activation plan", (size_t)plan->life_count * sizeof *placer.live);
    for (int i = 0; i < plan->life_count; i++) {
        struct fdm_life *life = &plan->lives[i];
        release_dead(&placer, life->first);
        life->offset = place(&placer, life->last, value_bytes(&g->values[life->buffer % g->value_count], b, plan->n,
                                                              plan->halo[life->buffer]));
    }
    plan->arena_bytes = placer.high_water;
    free(placer.live);
    return FDM_OK;
}

/* --- scratch --- */

static size_t forward_scratch(const struct fdm_graph *g, const struct fdm_step *s, const struct fdm_backend *b, int n,
                              int threads) {
    const struct fdm_value *out = &g->values[s->out], *in = s->in >= 0 ? &g->values[s->in] : out;
    if (s->op == FDM_OP_ATTENTION) return b->attention_scratch(n, out->c, out->h, out->w, threads);
    if (s->op == FDM_OP_LINEAR || s->op == FDM_OP_RESAMPLE || s->op == FDM_OP_GROUPNORM)
        return b->operand_scratch ? b->operand_scratch(n, in->c, fdm_max_int(in->h, 1), fdm_max_int(in->w, 1)) : 0;
    if (s->op != FDM_OP_CONV2D) return 0;
    return b->conv2d_scratch(n, g->values[s->in].c, out->c, g->modules[s->module].k, out->h, out->w, threads);
}

static size_t backward_scratch(const struct fdm_graph *g, const struct fdm_step *s, const struct fdm_backend *b, int n,
                               int threads) {
    const struct fdm_value *out = &g->values[s->out];
    switch (s->op) {
    case FDM_OP_ATTENTION: return b->attention_backward_scratch(n, out->c, out->h, out->w, threads);
    case FDM_OP_GROUPNORM: return b->groupnorm_backward_scratch(n, out->c, out->h, out->w, threads);
    case FDM_OP_RESAMPLE: return b->resample_backward_scratch(n, out->c, out->h, out->w, threads);
    case FDM_OP_LINEAR: return b->linear_backward_scratch(n, g->values[s->in].c, out->c, threads);
    case FDM_OP_CONV2D:
        return b->conv2d_backward_scratch(n, g->values[s->in].c, out->c, g->modules[s->module].k, out->h, out->w,
                                          threads);
    default: return 0;
    }
}

static void find_scratch(struct fdm_plan *plan, const struct fdm_graph *g, const struct fdm_backend *b, int threads) {
    for (int i = 0; i < g->step_count; i++) {
        const size_t forward = forward_scratch(g, &g->steps[i], b, plan->n, threads);
        const size_t backward = plan->backward ? backward_scratch(g, &g->steps[i], b, plan->n, threads) : 0;
        if (forward > plan->scratch_bytes) plan->scratch_bytes = forward;
        if (backward > plan->scratch_bytes) plan->scratch_bytes = backward;
    }
}

/* Room for one traced output behind everything else. */
static void add_trace_room(struct fdm_plan *plan, const struct fdm_graph *g, const struct fdm_backend *b) {
    size_t raw_bytes = 0;
    for (int i = 0; i < g->step_count; i++) {
        const struct fdm_step *s = &g->steps[i];
        if (!fdm_step_has_raw(s)) continue;
        const size_t bytes = value_bytes(&g->values[s->out], b, plan->n, 0);
        if (bytes > raw_bytes) raw_bytes = bytes;
    }
    plan->raw_offset = plan->arena_bytes;
    plan->arena_bytes = fdm_add_saturated(plan->arena_bytes, raw_bytes);
}

static fdm_status make(struct planner *p, const struct fdm_backend *backend, int threads, fdm_error *err) {
    struct fdm_plan *plan = p->plan;
    fdm_status status = choose_kept(p, err);
    if (status == FDM_OK) status = list_actions(p, err);
    if (status != FDM_OK) return status;
    find_halos(plan, p->g);
    status = place_lives(plan, p->g, backend, err);
    if (status != FDM_OK) return status;
    find_scratch(plan, p->g, backend, threads);
    if (plan->trace) add_trace_room(plan, p->g, backend);
    return FDM_OK;
}

fdm_status fdm_plan_make(struct fdm_plan *plan, const struct fdm_graph *g, const struct fdm_backend *backend,
                         const struct fdm_plan_options *options, fdm_error *err) {
    const size_t steps = (size_t)g->step_count, values = (size_t)g->value_count;
    *plan = (struct fdm_plan){
        .n = options->n, .trace = options->trace, .backward = options->backward, .recompute = options->recompute};
    plan->actions = calloc(3 * steps, sizeof *plan->actions); /* forward, again, backward */
    plan->lives = calloc(3 * values, sizeof *plan->lives);    /* value, value again, gradient */
    plan->halo = calloc(2 * values, sizeof *plan->halo);
    plan->offset = calloc(2 * values, sizeof *plan->offset);
    struct planner p = {.plan = plan, .g = g, .needs_gradient = fdm_plan_needs_gradient(g)};
    p.kept = calloc(values, sizeof *p.kept);
    p.life = malloc(2 * values * sizeof *p.life);
    fdm_status status = FDM_OK;
    if (!plan->actions || !plan->lives || !plan->halo || !plan->offset || !p.needs_gradient || !p.kept || !p.life)
        status = fdm_fail_oom(err, "activation plan", 3 * values * sizeof *plan->lives);
    for (size_t i = 0; i < 2 * values && status == FDM_OK; i++) p.life[i] = -1;
    if (status == FDM_OK) status = make(&p, backend, options->threads, err);
    free(p.needs_gradient);
    free(p.kept);
    free(p.life);
    if (status != FDM_OK) fdm_plan_free(plan);
    return status;
}
