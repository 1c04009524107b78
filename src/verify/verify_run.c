/* verify_run.c - one pass: every sample through all lanes, every tensor of the dump measured where it arises. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "verify/verify_internal.h"

enum { IMAGES = 6 };

/* Buffers of a pass. */
struct pass {
    struct fdm_checks *c;
    struct fdm_teacher *t;
    double *seen; /* largest */
    double *images[IMAGES]; /* D of the lanes, the dump's c_in x */
    bool *reached; /* [values]: whether the network's inputs reach it with no tensor of the dump in between */
};

static void note_tolerance(struct fdm_check *check, const struct fdm_tolerance *tolerance, size_t count) {
    const double added = tolerance->rms * tolerance->rms * (double)count;
    if (added >= check->tolerance2 / 2) memcpy(check->formula, tolerance->formula, sizeof check->formula);
    check->tolerance2 += added;
}

/* ---- inputs of the network ---- */

static void check_network_input(struct pass *p, struct fdm_check *check, int n) {
    const struct fdm_lane *lanes = p->t->lanes;
    const bool noise = check->place == FDM_CHECK_C_NOISE;
    const size_t count = noise ? 1 : p->t->pixels;
    fdm_check_slice(p->seen, check, n, count);
    const struct fdm_sample_values v = {
        .seen = p->seen,
        .truth = noise ? &lanes[FDM_LANE_TRUTH].c_noise : lanes[FDM_LANE_TRUTH].x,
        .emulated = noise ? &lanes[FDM_LANE_EMULATED].c_noise : lanes[FDM_LANE_EMULATED].x,
        .nudged = noise ? &lanes[FDM_LANE_NUDGED].c_noise : lanes[FDM_LANE_NUDGED].x,
        .nudged_truth = noise ? &lanes[FDM_LANE_TRUTH].c_noise : lanes[FDM_LANE_TRUTH].x,
        .count = count,
    };
    fdm_tally_add(&check->local, &v);
    fdm_tally_add(&check->total, &v);
    double squares = 0;
    for (size_t i = 0; i < count; i++) squares += v.truth[i] * v.truth[i];
    /* bf16 and fp16 networks are fed a rounded input */
    const fdm_format storage = noise ? FDM_FORMAT_FP32 : fdm_storage_of(&p->t->emulated.emulation, FDM_LAYERS_CONV);
    const struct fdm_tolerance tolerance = fdm_tolerance_elementwise(sqrt(squares / (double)count), storage);
    note_tolerance(check, &tolerance, count);
}

/* ---- steps ---- */

static const double *output(struct pass *p, enum fdm_lane_id lane, const struct fdm_step *s, bool raw) {
    return raw ? fdm_teacher_raw(p->t, lane, s) : fdm_teacher_final(p->t, lane, s);
}

static void check_step(struct pass *p, struct fdm_check *check, const struct fdm_step *s, int n) {
    const size_t count = fdm_teacher_count(p->t, s);
    const bool raw = check->place == FDM_CHECK_RAW;
    struct fdm_sample_values v = {.seen = p->seen,
                                  .truth = output(p, FDM_LANE_FORCED_TRUTH, s, raw),
                                  .emulated = output(p, FDM_LANE_FORCED_EMULATED, s, raw),
                                  .nudged_truth = output(p, FDM_LANE_TRUTH, s, raw),
                                  .count = count};
    fdm_check_slice(p->seen, check, n, count);
    if (fdm_teacher_graph(p->t)->values[s->out].h) v.blank = output(p, FDM_LANE_BLANK, s, raw);
    if (p->reached[s->out]) v.nudged = output(p, FDM_LANE_NUDGED, s, raw);
    fdm_tally_add(&check->local, &v);
    const struct fdm_tolerance tolerance = fdm_tolerance_of(p->t, s, v.truth, count);
    v.truth = v.nudged_truth;
    v.emulated = output(p, FDM_LANE_EMULATED, s, raw);
    v.nudged = output(p, FDM_LANE_NUDGED, s, raw);
    fdm_tally_add(&check->total, &v);
    note_tolerance(check, &tolerance, count);
}

static struct fdm_check *check_of_step(struct fdm_checks *c, int step, enum fdm_check_place place) {
    for (size_t i = 0; i < c->count; i++)
        if (c->items[i].step == step && c->items[i].place == place) return &c->items[i];
    return NULL;
}

static bool reaches(const struct pass *p, const struct fdm_step *s) {
    const int operands[] = {s->in, s->in2, s->residual};
    bool reached = s->op == FDM_OP_NOISE_EMBEDDING;
    for (size_t k = 0; k < FDM_ARRAY_LEN(operands); k++) reached = reached || (operands[k] >= 0 && p->reached[operands[k]]);
    return reached;
}

/* Step i is done in all lanes: measures what the dump holds of it, which then takes its place in the forced lanes.  Values
 * that are not finite would hide everything after them: they stay out. */
static void visit_step(struct pass *p, int i, int n) {
    const struct fdm_step *s = &fdm_teacher_graph(p->t)->steps[i];
    const size_t count = fdm_teacher_count(p->t, s);
    p->reached[s->out] = reaches(p, s);
    for (size_t k = 0; k < p->c->count; k++) {
        struct fdm_check *check = &p->c->items[k];
        if (check->step == i && check->place != FDM_CHECK_NOTHING) check_step(p, check, s, n);
    }
    struct fdm_check *raw = check_of_step(p->c, i, FDM_CHECK_RAW), *final = check_of_step(p->c, i, FDM_CHECK_FINAL);
    struct fdm_check *pin = final ? final : raw;
    if (!pin || !p->t->forced) return;
    p->reached[s->out] = false;
    fdm_check_slice(p->seen, pin, n, count);
    for (size_t k = 0; k < count; k++)
        if (!isfinite(p->seen[k])) return;
    if (final) fdm_teacher_pin_final(p->t, s, p->seen);
    else fdm_teacher_pin_raw(p->t, s, p->seen);
}

/* ---- D = c_skip x + c_out F ---- */

static const double *image(struct pass *p, int slot, enum fdm_lane_id lane, const struct fdm_teacher_inputs *in) {
    const struct fdm_graph *g = fdm_teacher_graph(p->t);
    const double *F = fdm_teacher_final(p->t, lane, &g->steps[g->step_count - 1]);
    const bool f32 = lane == FDM_LANE_EMULATED || lane == FDM_LANE_FORCED_EMULATED || lane == FDM_LANE_NUDGED;
    fdm_precond_coeffs c;
    (f32 ? fdm_precond_coeffs_f32 : fdm_precond_coeffs_f64)(&c, &p->t->truth.config.precond, in->sigma);
    fdm_combine_output(p->images[slot], in->x, F, &c, p->t->pixels, f32);
    return p->images[slot];
}

static void check_out(struct pass *p, struct fdm_check *check, const struct fdm_teacher_inputs *in, int n) {
    struct fdm_sample_values v = {.seen = p->seen, .count = p->t->pixels};
    fdm_check_slice(p->seen, check, n, v.count);
    v.blank = image(p, 0, FDM_LANE_BLANK, in);
    v.truth = image(p, 1, FDM_LANE_FORCED_TRUTH, in);
    v.emulated = image(p, 2, FDM_LANE_FORCED_EMULATED, in);
    const struct fdm_graph *g = fdm_teacher_graph(p->t);
    if (p->reached[g->output]) {
        v.nudged = image(p, 3, FDM_LANE_NUDGED, in);
        v.nudged_truth = image(p, 5, FDM_LANE_TRUTH, in);
    }
    fdm_tally_add(&check->local, &v);
    v.truth = v.nudged_truth = image(p, 1, FDM_LANE_TRUTH, in);
    v.emulated = image(p, 2, FDM_LANE_EMULATED, in);
    v.nudged = image(p, 3, FDM_LANE_NUDGED, in);
    fdm_tally_add(&check->total, &v);
    /* the two terms may cancel: the bound goes with their sizes */
    fdm_precond_coeffs c;
    fdm_precond_coeffs_f64(&c, &p->t->truth.config.precond, in->sigma);
    double squares = 0;
    for (size_t i = 0; i < v.count; i++) squares += v.truth[i] * v.truth[i] + 2 * c.c_skip * in->x[i] * c.c_skip * in->x[i];
    const struct fdm_tolerance tolerance = fdm_tolerance_elementwise(sqrt(squares / (double)v.count), FDM_FORMAT_FP32);
    note_tolerance(check, &tolerance, v.count);
}

/* ---- the pass ---- */

struct fdm_teacher_inputs fdm_check_inputs(const struct fdm_checks *c, const fdm_config *config, int n, double *c_in_x,
                                           double *c_noise) {
    const size_t r = (size_t)config->img_resolution, pixels = (size_t)config->img_channels * r * r;
    struct fdm_teacher_inputs in = {.x = c->x + (size_t)n * pixels, .sigma = c->sigma[n]};
    if (c->class_labels) in.class_labels = c->class_labels + (size_t)n * (size_t)config->label_dim;
    if (c->augment_labels) in.augment_labels = c->augment_labels + (size_t)n * (size_t)config->augment_dim;
    for (size_t i = 0; i < c->count; i++) {
        const struct fdm_check *check = &c->items[i];
        bool finite = true;
        if (check->place == FDM_CHECK_C_IN_X) {
            fdm_check_slice(c_in_x, check, n, pixels);
            for (size_t k = 0; k < pixels && finite; k++) finite = isfinite(c_in_x[k]);
            if (finite) in.c_in_x = c_in_x;
        } else if (check->place == FDM_CHECK_C_NOISE) {
            fdm_check_slice(c_noise, check, n, 1);
            if (isfinite(*c_noise)) in.c_noise = c_noise;
        }
    }
    return in;
}

static fdm_status verify_sample(struct pass *p, const struct fdm_verify_run *run, int n, fdm_error *err) {
    double c_noise;
    const struct fdm_teacher_inputs in = fdm_check_inputs(p->c, run->config, n, p->images[4], &c_noise);
    fdm_teacher_begin(p->t, &in);
    p->reached[fdm_teacher_graph(p->t)->x] = true;
    for (size_t i = 0; i < p->c->count; i++) {
        const enum fdm_check_place place = p->c->items[i].place;
        if (place == FDM_CHECK_C_IN_X || place == FDM_CHECK_C_NOISE) check_network_input(p, &p->c->items[i], n);
    }
    for (int i = 0; i < fdm_teacher_graph(p->t)->step_count; i++) {
        if (run->options->stop && run->options->stop(run->options->stop_user)) return fdm_fail(err, FDM_INTERRUPTED, "interrupted");
        fdm_teacher_step(p->t, i);
        visit_step(p, i, n);
    }
    for (size_t i = 0; i < p->c->count; i++)
        if (p->c->items[i].place == FDM_CHECK_OUT) check_out(p, &p->c->items[i], &in, n);
    return FDM_OK;
}

static void forget_tallies(struct fdm_checks *c) {
    for (size_t i = 0; i < c->count; i++) {
        c->items[i].local = c->items[i].total = (struct fdm_tally){0};
        c->items[i].tolerance2 = 0;
        c->items[i].formula[0] = '\0';
    }
}

fdm_status fdm_verify_pass(struct fdm_checks *c, const struct fdm_verify_run *run, const fdm_emulation *emulation, fdm_error *err) {
    struct fdm_teacher teacher = {0};
    struct pass p = {.c = c, .t = &teacher};
    fdm_status status = fdm_teacher_create(&teacher, run->config, run->model, run->where, emulation, c->forced, &run->how, err);
    if (status == FDM_OK) {
        size_t bytes;
        if (!fdm_mul_size(&bytes, teacher.largest + IMAGES * teacher.pixels, sizeof *p.seen) || !(p.seen = malloc(bytes)))
            status = fdm_fail_oom(err, "images", teacher.largest);
    }
    if (status == FDM_OK && !(p.reached = calloc((size_t)fdm_teacher_graph(&teacher)->value_count, sizeof *p.reached)))
        status = fdm_fail_oom(err, "checks", 0);
    for (int i = 0; i < IMAGES && status == FDM_OK; i++) p.images[i] = p.seen + teacher.largest + (size_t)i * teacher.pixels;
    forget_tallies(c);
    for (int n = 0; n < c->n && status == FDM_OK; n++) status = verify_sample(&p, run, n, err);
    free(p.seen);
    free(p.reached);
    fdm_teacher_free(&teacher);
    return status;
}
