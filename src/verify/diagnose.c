/* diagnose.c - what the first bad tensor would match: mistakes are tried, one at a time.
 *
 * The part of the network between the bad tensor and the dump's tensors upstream is computed again in f64 with one thing
 * changed (variants.h, or other inputs or weights), for the sample that is furthest off.  Where the result meets the dump's
 * tensor as closely as rounding explains, that is the finding; of several, the closest.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/precond.h"
#include "verify/trials.h"
#include "verify/verify_internal.h"

struct doctor {
    fdm_verify_report *report;
    const struct fdm_checks *c;
    const struct fdm_verify_run *how;
    const struct fdm_check *check; /* the bad one */
    const fdm_verify_item *item;
    struct fdm_network net, other;
    int target, n; /* step; sample */
    size_t count, largest;
    bool *needed; /* [steps]: computed or read, for the target's sake */
    unsigned ops; /* of the steps that are computed */
    double *seen, *work, *x, *buffer; /* largest each; buffer: for pinned values and the prediction */
    double *recorded_x;               /* the dump's c_in_x */
    double recorded_c_noise, bad_rms, best_rms;
    bool has_x, has_c_noise, best_c_in;
    struct fdm_teacher_inputs in;
};

/* ---- the part of the network ---- */

static const struct fdm_check *pinned(const struct doctor *d, int step, enum fdm_check_place place) {
    for (size_t i = 0; i < d->c->count; i++)
        if (d->c->items[i].step == step && d->c->items[i].place == place) return &d->c->items[i];
    return NULL;
}

/* What of a step's operands is read, going back from the target. */
static void find_needed(struct doctor *d) {
    const struct fdm_graph *g = &d->net.graph;
    bool *wanted = calloc((size_t)g->value_count, sizeof *wanted); /* NULL: everything is computed */
    if (wanted) wanted[g->steps[d->target].out] = true;
    for (int i = d->target; i >= 0; i--) {
        const struct fdm_step *s = &g->steps[i];
        if (wanted && !wanted[s->out]) continue;
        const bool target = i == d->target && d->check->place != FDM_CHECK_OUT;
        const bool final = !target && pinned(d, i, FDM_CHECK_FINAL), raw = !target && pinned(d, i, FDM_CHECK_RAW);
        const int operands[] = {raw ? -1 : s->in, raw && s->op == FDM_OP_GROUPNORM ? -1 : s->in2, s->residual};
        d->needed[i] = true;
        if (!final && !raw) d->ops |= 1u << s->op;
        for (size_t k = 0; wanted && !final && k < FDM_ARRAY_LEN(operands); k++)
            if (operands[k] >= 0) wanted[operands[k]] = true;
    }
    free(wanted);
}

static double silu(double x) { return x / (1 + exp(-x)); }

/* A step whose raw output the dump holds: residual, scale, SiLU follow. */
static void write_raw(struct doctor *d, struct fdm_lane *lane, const struct fdm_step *s, const struct fdm_variant *v) {
    const int residual = s->op == FDM_OP_LINEAR ? s->in2 : s->op == FDM_OP_GROUPNORM ? -1 : s->residual;
    const double *add = residual >= 0 ? (const double *)(const void *)(lane->arena + lane->run.plan->offset[residual]) : NULL;
    const size_t count = (size_t)d->net.graph.values[s->out].c *
                         (size_t)(d->net.graph.values[s->out].h ? d->net.graph.values[s->out].h * d->net.graph.values[s->out].w : 1);
    const double scale = v->scale > 0 && add ? v->scale : s->scale;
    for (size_t i = 0; i < count; i++) {
        double y = d->work[i] + (add && !v->no_residual ? add[i] : 0);
        if (s->op != FDM_OP_LINEAR && s->op != FDM_OP_GROUPNORM) y *= scale;
        d->work[i] = s->silu && !v->no_silu ? silu(y) : y;
    }
    fdm_lane_write(lane, s->out, d->work);
}

static size_t count_of(const struct doctor *d, const struct fdm_step *s) {
    const struct fdm_value *v = &d->net.graph.values[s->out];
    return (size_t)v->c * (size_t)(v->h ? v->h * v->w : 1);
}

static void take_step(struct doctor *d, struct fdm_lane *lane, int i, const struct fdm_variant *v) {
    const struct fdm_step *s = &d->net.graph.steps[i];
    const bool target = i == d->target && d->check->place != FDM_CHECK_OUT;
    const struct fdm_check *final = target ? NULL : pinned(d, i, FDM_CHECK_FINAL);
    const struct fdm_check *raw = target ? NULL : pinned(d, i, FDM_CHECK_RAW);
    fdm_run_begin_action(&lane->run, i);
    if (!d->needed[i]) return;
    if (!final && !raw) {
        fdm_run_step_forward(&lane->run, s, i);
        return;
    }
    fdm_check_slice(d->work, final ? final : raw, d->n, count_of(d, s));
    if (final) fdm_lane_write(lane, s->out, d->work);
    else write_raw(d, lane, s, v);
}

/* ---- one trial ---- */

static void coefficients(const struct doctor *d, const struct fdm_trial *t, fdm_precond_coeffs *c) {
    fdm_precond_coeffs other;
    double sigma = d->in.sigma;
    fdm_precond_coeffs_f64(c, &d->how->config->precond, sigma);
    if (!t->changes) return;
    if (t->clamp_sigma) sigma = fmin(fmax(sigma, t->precond.sigma_min), t->precond.sigma_max);
    fdm_precond_coeffs_f64(&other, &t->precond, sigma);
    if (t->unit_c_in) other.c_in = 1;
    if (t->changes & FDM_TRIAL_C_IN) c->c_in = other.c_in;
    if (t->changes & FDM_TRIAL_C_NOISE) c->c_noise = other.c_noise;
    if (t->changes & FDM_TRIAL_C_SKIP) c->c_skip = other.c_skip;
    if (t->changes & FDM_TRIAL_C_OUT) c->c_out = other.c_out;
}

/* The bad tensor as it would be; NULL if there was no memory for it. */
static const double *predict(struct doctor *d, struct fdm_trial *t) {
    const bool other = t->other_weights;
    struct fdm_network *net = other ? &d->other : &d->net;
    const struct fdm_backend table = fdm_variant_backend();
    struct fdm_exec exec = net->exec;
    struct fdm_lane lane = {.net = net, .arena = net->arena, .x = d->x};
    fdm_precond_coeffs c;
    coefficients(d, t, &c);
    exec.settings = &t->variant;
    lane.run = fdm_network_run(net);
    lane.run.backend = &table;
    lane.run.exec = &exec;
    lane.run.keep_raw = true;
    lane.run.x = d->x;
    lane.c_noise = d->has_c_noise && !(t->changes & FDM_TRIAL_C_NOISE) ? d->recorded_c_noise : c.c_noise;
    lane.run.c_noise = &lane.c_noise;
    lane.run.class_labels = t->no_labels ? NULL : d->in.class_labels;
    lane.run.augment_labels = t->no_augment ? NULL : d->in.augment_labels;
    const size_t pixels = (size_t)net->graph.values[net->graph.x].c * (size_t)net->graph.values[net->graph.x].h *
                          (size_t)net->graph.values[net->graph.x].w;
    for (size_t i = 0; i < pixels; i++)
        d->x[i] = d->has_x && !(t->changes & FDM_TRIAL_C_IN) ? d->recorded_x[i] : t->zero_x ? 0 : c.c_in * d->in.x[i];
    if (d->check->place == FDM_CHECK_C_IN_X) {
        for (size_t i = 0; i < pixels; i++) d->buffer[i] = c.c_in * d->in.x[i];
        return d->buffer;
    }
    if (d->check->place == FDM_CHECK_C_NOISE) {
        *d->buffer = c.c_noise;
        return d->buffer;
    }
    fdm_run_begin(&lane.run);
    for (int i = 0; i <= d->target; i++) take_step(d, &lane, i, &t->variant);
    const struct fdm_step *s = &net->graph.steps[d->target];
    const double *final = (const double *)(const void *)(lane.arena + net->plan.offset[s->out]);
    const double *raw = (const double *)(const void *)(lane.arena + net->plan.raw_offset);
    if (d->check->place == FDM_CHECK_OUT) fdm_combine_output(d->buffer, d->in.x, final, &c, pixels, false);
    else memcpy(d->buffer, d->check->place == FDM_CHECK_RAW && fdm_step_has_raw(s) ? raw : final, d->count * sizeof *d->buffer);
    return t->variant.failed ? NULL : d->buffer;
}

static double distance(const double *a, const double *b, size_t count) {
    double squares = 0;
    for (size_t i = 0; i < count; i++) squares += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(squares / (double)count);
}

/* Keeps the finding if the prediction meets the dump's tensor, as close as rounding explains and much closer than the
 * truth, and closer than what was found before. */
static void consider(struct doctor *d, double rms, const char *text, bool c_in) {
    const fdm_verify_report *r = d->report;
    const double bound = 2 * fmax(r->rms_limit * d->item->local.expected_rms, d->item->tolerance_rms);
    if (!(rms <= bound && rms < 0.2 * d->bad_rms && rms < 0.9 * d->best_rms)) return;
    d->best_rms = rms;
    d->best_c_in = c_in;
    snprintf(d->report->diagnosis, sizeof d->report->diagnosis, "%.95s matches the truth if %.240s", d->item->name, text);
}

static void try_one(void *user, struct fdm_trial *t) {
    struct doctor *d = user;
    if (t->ops && !(t->ops & d->ops)) return;
    if (t->other_weights && !d->other.arena) return;
    if (d->how->options->stop && d->how->options->stop(d->how->options->stop_user)) return;
    const double *y = predict(d, t);
    if (y) consider(d, distance(y, d->seen, d->count), t->text, t->changes == FDM_TRIAL_C_IN);
}

/* ---- what else could have happened to the right values ---- */

static void consider_scaled(struct doctor *d, const double *truth) {
    double product = 0, squares = 0;
    char text[120];
    for (size_t i = 0; i < d->count; i++) {
        product += truth[i] * d->seen[i];
        squares += truth[i] * truth[i];
    }
    const double factor = squares > 0 ? product / squares : 1;
    for (size_t i = 0; i < d->count; i++) d->work[i] = factor * truth[i];
    snprintf(text, sizeof text, "it is multiplied by %.6g", 1 / factor);
    consider(d, distance(d->work, d->seen, d->count), text, false);
}

static void consider_layouts(struct doctor *d, const double *truth) {
    const struct fdm_value *v = &d->net.graph.values[d->net.graph.steps[d->target].out];
    const size_t plane = (size_t)v->h * (size_t)v->w, channels = (size_t)v->c;
    if (!v->h) return;
    for (size_t c = 0; c < channels; c++)
        for (size_t p = 0; p < plane; p++) d->work[p * channels + c] = truth[c * plane + p];
    consider(d, distance(d->work, d->seen, d->count), "its memory is read as NHWC (a channels_last tensor saved as it lies)", false);
    if (v->h != v->w) return;
    for (size_t c = 0; c < channels; c++)
        for (size_t p = 0; p < plane; p++) d->work[c * plane + p % (size_t)v->w * (size_t)v->w + p / (size_t)v->w] = truth[c * plane + p];
    consider(d, distance(d->work, d->seen, d->count), "its rows and columns are exchanged", false);
}

/* The published program adds to conv0's, conv1's and proj's outputs in place: a hook that does not copy sees the sum. */
static void consider_hook(struct doctor *d, const double *truth) {
    const struct fdm_graph *g = &d->net.graph;
    const struct fdm_step *s = &g->steps[d->target];
    const char *text = "the hook copies it: the caller has added to it in place (save output.detach().clone())";
    const struct fdm_check *add = NULL;
    if (d->check->place != FDM_CHECK_RAW && d->check->place != FDM_CHECK_FINAL) return;
    for (int i = 0; i < g->step_count && s->residual < 0; i++) /* conv0: affine(emb), which norm1's step adds */
        if (g->steps[i].op == FDM_OP_GROUPNORM && g->steps[i].in == s->out && g->steps[i].in2 >= 0)
            for (int k = 0; k < g->step_count; k++)
                if (g->steps[k].out == g->steps[i].in2) add = pinned(d, k, FDM_CHECK_FINAL);
    if (add) {
        const size_t plane = (size_t)g->values[s->out].h * (size_t)g->values[s->out].w, channels = (size_t)g->values[s->out].c;
        fdm_check_slice(d->work, add, d->n, channels);
        double *sum = d->x; /* free here: as large as the largest value */
        for (size_t i = 0; i < d->count; i++) sum[i] = truth[i] + d->work[i / plane];
        consider(d, distance(sum, d->seen, d->count), text, false);
    }
    if (s->residual >= 0 && d->check->place == FDM_CHECK_RAW) {
        const double *residual = (const double *)(const void *)(d->net.arena + d->net.plan.offset[s->residual]);
        for (size_t i = 0; i < d->count; i++) d->work[i] = truth[i] + residual[i];
        consider(d, distance(d->work, d->seen, d->count), text, false);
    }
    if (s->silu) {
        for (size_t i = 0; i < d->count; i++) d->work[i] = silu(truth[i]);
        consider(d, distance(d->work, d->seen, d->count), "it is taken before SiLU", false);
    }
}

/* The first convolution is linear in c_in: the factor that fits best. */
static void consider_any_c_in(struct doctor *d, const double *truth) {
    const struct fdm_graph *g = &d->net.graph;
    const struct fdm_step *s = &g->steps[d->target];
    struct fdm_trial blank = {.zero_x = true};
    fdm_precond_coeffs c;
    double product = 0, squares = 0;
    char text[160];
    if (d->has_x || s->op != FDM_OP_CONV2D || s->in != g->x || d->check->place == FDM_CHECK_OUT) return;
    memcpy(d->work, truth, d->count * sizeof *d->work);
    const double *zero = predict(d, &blank);
    if (!zero) return;
    for (size_t i = 0; i < d->count; i++) {
        const double share = d->work[i] - zero[i];
        product += share * (d->seen[i] - zero[i]);
        squares += share * share;
    }
    const double factor = squares > 0 ? product / squares : 1;
    for (size_t i = 0; i < d->count; i++) d->work[i] = zero[i] + factor * (d->work[i] - zero[i]);
    fdm_precond_coeffs_f64(&c, &d->how->config->precond, d->in.sigma);
    snprintf(text, sizeof text, "c_in at sigma %g is %.6g; this model's is %.6g", d->in.sigma, factor * c.c_in, c.c_in);
    consider(d, distance(d->work, d->seen, d->count), text, true);
}

/* Another output of the same shape is concatenated. */
static void try_skips(struct doctor *d) {
    const struct fdm_graph *g = &d->net.graph;
    if (!(d->ops & 1u << FDM_OP_CONCAT)) return;
    double *skip = malloc(d->largest * sizeof *skip);
    for (size_t i = 0; i < d->c->count && skip; i++) {
        const struct fdm_check *source = &d->c->items[i];
        struct fdm_trial t = {.ops = 1u << FDM_OP_CONCAT};
        if (source->place != FDM_CHECK_FINAL || source->step >= d->target) continue;
        const struct fdm_value *have = &g->values[g->steps[source->step].out];
        bool same = false;
        for (int k = 0; k <= d->target; k++)
            if (g->steps[k].op == FDM_OP_CONCAT && d->needed[k] && !pinned(d, k, FDM_CHECK_FINAL)) {
                const struct fdm_value *want = &g->values[g->steps[k].in2];
                same = want->c == have->c && want->h == have->h && want->w == have->w;
            }
        if (!same) continue;
        fdm_check_slice(skip, source, d->n, count_of(d, &g->steps[source->step]));
        t.variant.skip = skip;
        snprintf(t.text, sizeof t.text, "the output of %s is concatenated in place of this level's skip", source->module);
        try_one(d, &t);
    }
    free(skip);
}

/* ---- the whole ---- */

static fdm_status prepare(struct doctor *d, fdm_error *err) {
    fdm_run_options how = d->how->how;
    how.backend = "reference";
    fdm_status status = fdm_network_create(&d->net, d->how->config, d->how->model, d->how->where, &how, false, err);
    const struct fdm_plan_options plan = {.n = 1, .threads = d->net.exec.threads, .trace = true};
    if (status == FDM_OK) status = fdm_network_prepare(&d->net, &plan, err);
    if (status == FDM_OK && d->how->options->other) {
        status = fdm_network_create(&d->other, d->how->config, d->how->options->other, "the other weights", &how, false, err);
        if (status == FDM_OK) status = fdm_network_prepare(&d->other, &plan, err);
    }
    if (status != FDM_OK) return status;
    const struct fdm_graph *g = &d->net.graph;
    for (int i = 0; i < g->value_count; i++) {
        const size_t count = (size_t)g->values[i].c * (size_t)(g->values[i].h ? g->values[i].h * g->values[i].w : 1);
        if (count > d->largest) d->largest = count;
    }
    double **buffers[] = {&d->seen, &d->work, &d->x, &d->buffer, &d->recorded_x};
    for (size_t i = 0; i < FDM_ARRAY_LEN(buffers); i++)
        if (!(*buffers[i] = malloc(d->largest * sizeof(double)))) return fdm_fail_oom(err, "diagnosis", d->largest * sizeof(double));
    d->needed = calloc((size_t)g->step_count, sizeof *d->needed);
    return d->needed ? FDM_OK : fdm_fail_oom(err, "diagnosis", 0);
}

/* For the report's pictures. */
static void keep_values(struct doctor *d, const double *truth) {
    const struct fdm_graph *g = &d->net.graph;
    const enum fdm_check_place place = d->check->place;
    const struct fdm_value *v = &g->values[place == FDM_CHECK_RAW || place == FDM_CHECK_FINAL ? g->steps[d->target].out : g->x];
    fdm_verify_worst *w = &d->report->bad;
    if (place == FDM_CHECK_C_NOISE) return;
    w->seen = malloc(d->count * sizeof *w->seen);
    w->truth = malloc(d->count * sizeof *w->truth);
    if (!w->seen || !w->truth) { /* a page without pictures */
        free(w->seen);
        free(w->truth);
        w->seen = NULL, w->truth = NULL;
        return;
    }
    for (size_t i = 0; i < d->count; i++) w->seen[i] = (float)d->seen[i];
    memcpy(w->truth, truth, d->count * sizeof *truth);
    snprintf(w->name, sizeof w->name, "%.110s", d->item->name);
    w->ndim = v->h ? 4 : 2;
    const int64_t shape[] = {1, v->c, v->h, v->w};
    memcpy(w->shape, shape, sizeof shape);
}

static void examine(struct doctor *d) {
    const struct fdm_graph *g = &d->net.graph;
    const struct fdm_check *check = d->check;
    struct fdm_trial none = {.text = ""};
    d->target = check->place == FDM_CHECK_OUT ? g->step_count - 1 : check->step >= 0 ? check->step : 0;
    d->count = check->place == FDM_CHECK_C_NOISE ? 1
               : check->place == FDM_CHECK_RAW || check->place == FDM_CHECK_FINAL
                   ? count_of(d, &g->steps[d->target])
                   : (size_t)g->values[g->x].c * (size_t)g->values[g->x].h * (size_t)g->values[g->x].w;
    d->n = d->item->worst > 0 ? (int)((size_t)d->item->worst / d->count) : 0;
    d->in = fdm_check_inputs(d->c, d->how->config, d->n, d->recorded_x, &d->recorded_c_noise);
    d->has_x = d->in.c_in_x && check->place != FDM_CHECK_C_IN_X;
    d->has_c_noise = d->in.c_noise && check->place != FDM_CHECK_C_NOISE;
    fdm_check_slice(d->seen, check, d->n, d->count);
    find_needed(d);
    const double *truth = predict(d, &none);
    if (!truth) return;
    d->bad_rms = d->best_rms = distance(truth, d->seen, d->count);
    keep_values(d, truth);
    const struct fdm_trial_model model = {d->how->config, d->in.class_labels != NULL, d->in.augment_labels != NULL};
    fdm_trials(&model, try_one, d);
    try_skips(d);
    double *copy = malloc(d->count * sizeof *copy);
    truth = predict(d, &none);
    if (copy && truth) {
        memcpy(copy, truth, d->count * sizeof *copy);
        const bool step = check->place == FDM_CHECK_RAW || check->place == FDM_CHECK_FINAL;
        if (step) consider_hook(d, copy);
        if (step) consider_layouts(d, copy);
        /* a factor can be fitted to much: only where nothing has a name */
        if (step && d->best_rms == d->bad_rms) consider_any_c_in(d, copy);
        if (d->best_rms == d->bad_rms) consider_scaled(d, copy);
    }
    free(copy);
}

/* What is seen at its values; a shape, a name or a NaN needs no trial. */
static const fdm_verify_item *first_by_value(const fdm_verify_report *r, const struct fdm_checks *c, const struct fdm_check **check) {
    for (size_t i = 0; i < r->count && i < c->count; i++) {
        const fdm_verify_item *item = &r->items[i];
        if (item->verdict != FDM_VERIFY_FAIL) continue;
        *check = &c->items[i];
        return item->count && isfinite(item->local.rms) && !c->items[i].problem[0] ? item : NULL;
    }
    return NULL;
}

fdm_status fdm_verify_diagnose(fdm_verify_report *report, struct fdm_checks *c, const struct fdm_verify_run *run, fdm_error *err) {
    struct doctor d = {.report = report, .c = c, .how = run};
    d.item = first_by_value(report, c, &d.check);
    if (!d.item) return FDM_OK;
    const fdm_status status = prepare(&d, err);
    if (status == FDM_OK) examine(&d);
    if (d.best_c_in) snprintf(report->first_bad, sizeof report->first_bad, "c_in");
    fdm_network_free(&d.net);
    fdm_network_free(&d.other);
    free(d.seen);
    free(d.work);
    free(d.x);
    free(d.buffer);
    free(d.recorded_x);
    free(d.needed);
    return status;
}
