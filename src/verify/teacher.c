/* teacher.c - the lanes: truth and emulated networks, free and forced, in lockstep. */
#include "verify/teacher.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/precond.h"

static size_t value_count(const struct fdm_value *v) { return (size_t)v->c * (size_t)(v->h ? v->h * v->w : 1); }

size_t fdm_teacher_count(const struct fdm_teacher *t, const struct fdm_step *s) {
    return value_count(&fdm_teacher_graph(t)->values[s->out]);
}

/* ---- life ---- */

static bool is_emulated(enum fdm_lane_id id) {
    return id == FDM_LANE_EMULATED || id == FDM_LANE_FORCED_EMULATED || id == FDM_LANE_NUDGED;
}

static bool is_forced(enum fdm_lane_id id) { return id == FDM_LANE_FORCED_TRUTH || id == FDM_LANE_FORCED_EMULATED; }

static fdm_status open_lane(struct fdm_teacher *t, enum fdm_lane_id id, fdm_error *err) {
    struct fdm_lane *lane = &t->lanes[id];
    lane->net = is_emulated(id) ? &t->emulated : &t->truth;
    lane->emulation = is_emulated(id) ? &t->emulated.emulation : NULL;
    lane->arena = fdm_malloc_aligned(lane->net->plan.arena_bytes);
    lane->x = malloc(t->pixels * sizeof *lane->x);
    bool ok = lane->arena && lane->x;
    for (int i = 0; i < 2 && lane->emulation; i++) {
        lane->values[i] = malloc(t->largest * sizeof(double));
        ok = ok && lane->values[i];
    }
    if (!ok) return fdm_fail_oom(err, "activations", lane->net->plan.arena_bytes);
    lane->run = fdm_network_run(lane->net);
    lane->run.arena = lane->arena;
    lane->run.keep_raw = true;
    lane->run.x = lane->x;
    lane->run.c_noise = &lane->c_noise;
    return FDM_OK;
}

fdm_status fdm_teacher_create(struct fdm_teacher *t, const fdm_config *config, const fdm_tensors *weights, const char *where,
                              const fdm_emulation *emulation, bool forced, const fdm_run_options *options, fdm_error *err) {
    fdm_run_options reference = *options, emulated = *options;
    reference.backend = "reference";
    reference.emulation = NULL;
    emulated.emulation = emulation;
    t->forced = forced;
    fdm_status status = fdm_network_create(&t->truth, config, weights, where, &reference, false, err);
    if (status == FDM_OK) status = fdm_network_create(&t->emulated, config, weights, where, &emulated, false, err);
    if (status != FDM_OK) return status;
    const struct fdm_plan_options plan = {.n = 1, .threads = t->truth.exec.threads, .trace = true};
    status = fdm_network_prepare(&t->truth, &plan, err);
    if (status == FDM_OK) status = fdm_network_prepare(&t->emulated, &plan, err);
    const struct fdm_graph *g = fdm_teacher_graph(t);
    t->pixels = value_count(&g->values[g->x]);
    for (int i = 0; i < g->value_count; i++)
        if (value_count(&g->values[i]) > t->largest) t->largest = value_count(&g->values[i]);
    for (int id = 0; id < FDM_LANES && status == FDM_OK; id++)
        if (forced || !is_forced((enum fdm_lane_id)id)) status = open_lane(t, (enum fdm_lane_id)id, err);
    if (status == FDM_OK && !(t->work = malloc(t->largest * sizeof *t->work)))
        status = fdm_fail_oom(err, "activations", t->largest * sizeof *t->work);
    return status;
}

void fdm_teacher_free(struct fdm_teacher *t) {
    for (int id = 0; id < FDM_LANES; id++) {
        fdm_free_aligned(t->lanes[id].arena);
        free(t->lanes[id].x);
        free(t->lanes[id].values[0]);
        free(t->lanes[id].values[1]);
    }
    free(t->work);
    fdm_network_free(&t->truth);
    fdm_network_free(&t->emulated);
    *t = (struct fdm_teacher){0};
}

/* ---- running ---- */

static void begin_lane(struct fdm_teacher *t, enum fdm_lane_id id, const struct fdm_teacher_inputs *in) {
    struct fdm_lane *lane = &t->lanes[id];
    fdm_precond_coeffs c;
    if (!lane->arena) return;
    const bool f32 = lane->emulation != NULL;
    (f32 ? fdm_precond_coeffs_f32 : fdm_precond_coeffs_f64)(&c, &t->truth.config.precond, in->sigma);
    if (id == FDM_LANE_NUDGED) {
        c.c_in = (double)nextafterf((float)c.c_in, INFINITY);
        c.c_noise = (double)nextafterf(nextafterf((float)c.c_noise, INFINITY), INFINITY);
    }
    if (id == FDM_LANE_BLANK) c.c_in = 0;
    fdm_scale_input(lane->x, in->x, c.c_in, t->pixels, f32);
    lane->c_noise = c.c_noise;
    if (is_forced(id) && in->c_in_x) memcpy(lane->x, in->c_in_x, t->pixels * sizeof *lane->x);
    if (is_forced(id) && in->c_noise) lane->c_noise = *in->c_noise;
    lane->run.class_labels = in->class_labels;
    lane->run.augment_labels = in->augment_labels;
    fdm_run_begin(&lane->run);
}

void fdm_teacher_begin(struct fdm_teacher *t, const struct fdm_teacher_inputs *in) {
    for (int id = 0; id < FDM_LANES; id++) begin_lane(t, (enum fdm_lane_id)id, in);
}

void fdm_teacher_step(struct fdm_teacher *t, int index) {
    for (int id = 0; id < FDM_LANES; id++) {
        struct fdm_lane *lane = &t->lanes[id];
        if (lane->arena) fdm_run_step_forward(&lane->run, &fdm_teacher_graph(t)->steps[index], index);
    }
}

/* ---- looking and changing ---- */

static const double *exported(struct fdm_lane *lane, const struct fdm_value *v, const void *data, int halo, double *to) {
    if (!lane->emulation) return data; /* the reference keeps plain NCHW doubles */
    if (v->h) {
        const struct fdm_map m = {1, v->c, v->h, v->w, halo, (void *)(uintptr_t)data};
        lane->run.backend->map_export(lane->run.exec, to, &m);
    } else {
        const struct fdm_vec vec = {1, v->c, (void *)(uintptr_t)data};
        lane->run.backend->vec_export(to, &vec);
    }
    return to;
}

static const double *value_of(struct fdm_lane *lane, int value, double *to) {
    const struct fdm_plan *plan = lane->run.plan;
    return exported(lane, &lane->run.g->values[value], lane->arena + plan->offset[value], plan->halo[value], to);
}

/* Without forced lanes the free ones are the same. */
static struct fdm_lane *lane_of(struct fdm_teacher *t, enum fdm_lane_id id) {
    if (!t->forced && id == FDM_LANE_FORCED_TRUTH) id = FDM_LANE_TRUTH;
    if (!t->forced && id == FDM_LANE_FORCED_EMULATED) id = FDM_LANE_EMULATED;
    return &t->lanes[id];
}

const double *fdm_teacher_final(struct fdm_teacher *t, enum fdm_lane_id id, const struct fdm_step *s) {
    struct fdm_lane *lane = lane_of(t, id);
    return value_of(lane, s->out, lane->values[0]);
}

const double *fdm_teacher_raw(struct fdm_teacher *t, enum fdm_lane_id id, const struct fdm_step *s) {
    struct fdm_lane *lane = lane_of(t, id);
    if (!fdm_step_has_raw(s)) return value_of(lane, s->out, lane->values[1]);
    return exported(lane, &lane->run.g->values[s->out], lane->arena + lane->run.plan->raw_offset, 0, lane->values[1]);
}

const double *fdm_teacher_input(const struct fdm_teacher *t, enum fdm_lane_id id, int value) {
    const struct fdm_lane *lane = &t->lanes[!t->forced && id == FDM_LANE_FORCED_TRUTH ? FDM_LANE_TRUTH : id];
    return (const double *)(const void *)(lane->arena + lane->run.plan->offset[value]);
}

void fdm_lane_write(struct fdm_lane *lane, int value, const double *values) {
    const struct fdm_value *v = &lane->run.g->values[value];
    if (v->h) {
        struct fdm_map m = fdm_run_map(&lane->run, value);
        lane->run.backend->map_import(lane->run.exec, &m, values);
    } else {
        struct fdm_vec vec = fdm_run_vec(&lane->run, value);
        lane->run.backend->vec_import(&vec, values);
    }
}

void fdm_teacher_pin_final(struct fdm_teacher *t, const struct fdm_step *s, const double *values) {
    fdm_lane_write(&t->lanes[FDM_LANE_FORCED_TRUTH], s->out, values);
    fdm_lane_write(&t->lanes[FDM_LANE_FORCED_EMULATED], s->out, values);
}

/* A result of the lane's arithmetic: f64 as it is, else rounded to f32 or to the format that such layers are stored in. */
static double rounded(const struct fdm_lane *lane, fdm_layer_class layers, double x) {
    if (!lane->emulation) return x;
    const fdm_format f = lane->emulation->format[layers];
    return (double)(f == FDM_FORMAT_BF16 || f == FDM_FORMAT_FP16 ? fdm_format_round(f, (float)x) : (float)x);
}

static double silu(double x) { return x / (1 + exp(-x)); }

/* What follows the module within its step: residual, scale, SiLU. */
static void pin_raw(struct fdm_teacher *t, struct fdm_lane *lane, const struct fdm_step *s, const double *raw) {
    const size_t count = fdm_teacher_count(t, s);
    const int residual = s->op == FDM_OP_LINEAR ? s->in2 : s->op == FDM_OP_GROUPNORM ? -1 : s->residual;
    const fdm_layer_class layers = s->op == FDM_OP_LINEAR      ? FDM_LAYERS_LINEAR
                                   : s->op == FDM_OP_GROUPNORM ? FDM_LAYERS_NORM
                                                               : FDM_LAYERS_CONV;
    const double scale = lane->emulation ? (double)(float)s->scale : s->scale;
    const double *add = residual >= 0 ? value_of(lane, residual, lane->values[0]) : NULL;
    for (size_t i = 0; i < count; i++) {
        double y = raw[i];
        if (add) y = rounded(lane, layers, y + add[i]);
        if (s->scale != 1) y = rounded(lane, layers, y * scale);
        if (s->silu) y = rounded(lane, layers, silu(y));
        t->work[i] = y;
    }
    fdm_lane_write(lane, s->out, t->work);
}

void fdm_teacher_pin_raw(struct fdm_teacher *t, const struct fdm_step *s, const double *values) {
    pin_raw(t, &t->lanes[FDM_LANE_FORCED_TRUTH], s, values);
    pin_raw(t, &t->lanes[FDM_LANE_FORCED_EMULATED], s, values);
}
