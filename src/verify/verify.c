/* verify.c - a dump against the truth: passes, the whole verdict, and what else the dump looks like. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/precond.h"
#include "verify/verify_internal.h"

void fdm_verify_report_free(fdm_verify_report *r) {
    for (size_t i = 0; i < r->count; i++) {
        free(r->items[i].name);
        free(r->items[i].module);
    }
    free(r->items);
    free(r->steps);
    free(r->bad.seen);
    free(r->bad.truth);
    *r = (fdm_verify_report){0};
}

static void start_report(fdm_verify_report *r, const fdm_verify_options *o, const fdm_emulation *emulation) {
    *r = (fdm_verify_report){.emulation = *emulation};
    r->rms_limit = o->rms_limit > 0 ? o->rms_limit : FDM_VERIFY_RMS_LIMIT;
    r->max_limit = o->max_limit > 0 ? o->max_limit : FDM_VERIFY_MAX_LIMIT;
    r->safety = o->safety > 0 ? o->safety : 1;
}

static size_t count_of(const fdm_verify_report *r, fdm_verdict verdict) {
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++) n += r->items[i].verdict == verdict;
    for (size_t i = 0; i < r->step_count; i++) n += r->steps[i].verdict == verdict;
    return n;
}

/* ---- what else it looks like ---- */

/* Whether the errors under a candidate format, for tensors whose expectation it raises, are as large as expected and depend
 * on the same roundings: the mean correlation, 0 if not.  (Operands that are rounded alike err alike; cut off instead of rounded, against each other.  A bug's
 * errors have nothing to do with either.) */
static double fit(const fdm_verify_report *claimed, const fdm_verify_report *candidate) {
    double logs = 0, correlation = 0;
    size_t sensitive = 0;
    for (size_t i = 0; i < candidate->count; i++) {
        const fdm_verify_item *item = &candidate->items[i];
        if (item->verdict == FDM_VERIFY_FAIL) return 0;
        if (!(item->local.expected_rms > 3 * claimed->items[i].local.expected_rms)) continue;
        if (!(item->local.rms > 0)) return 0;
        sensitive++;
        logs += log(item->local.rms_ratio);
        correlation += item->local.correlation;
    }
    const double typical = sensitive ? exp(logs / (double)sensitive) : 0;
    return typical > 0.4 && typical < 2.5 ? fabs(correlation) / (double)sensitive : 0;
}

static const struct {
    fdm_format format;
    const char *classes; /* overrides, or NULL */
} candidates[] = {
    {FDM_FORMAT_TF32, NULL},
    {FDM_FORMAT_TF32, "linear=tf32,attention=tf32"},
    {FDM_FORMAT_BF16, NULL},
    {FDM_FORMAT_BF16, "norm=fp32"},   /* autocast */
    {FDM_FORMAT_BF16, "linear=fp32"}, /* the published program's way to compute in half */
    {FDM_FORMAT_FP16, NULL},
    {FDM_FORMAT_FP16, "norm=fp32"},
    {FDM_FORMAT_FP16, "linear=fp32"},
};

/* Another precision shows in every layer: where most are right it need not be looked for. */
static bool may_be_other(const fdm_verify_report *r) {
    size_t bad = 0, good = 0;
    for (size_t i = 0; i < r->count; i++) {
        if (!r->items[i].depends_on_image) continue;
        bad += r->items[i].verdict == FDM_VERIFY_FAIL;
        good += r->items[i].verdict != FDM_VERIFY_FAIL;
    }
    return bad * 2 >= good || r->count < 4;
}

static void say_other(fdm_verify_report *r, size_t candidate) {
    const char *name = fdm_format_name(candidates[candidate].format), *classes = candidates[candidate].classes;
    r->looks_like_other = true;
    r->looks_like = candidates[candidate].format;
    snprintf(r->diagnosis, sizeof r->diagnosis, "this is %s, not a bug: every tensor is within the limits of --precision %s%s%s", name, name,
             classes ? " --layers " : "", classes ? classes : "");
}

static fdm_status find_other_precision(fdm_verify_report *r, struct fdm_checks *c, const struct fdm_verify_run *run, fdm_error *err) {
    fdm_status status = FDM_OK;
    double best = 0.2; /* of nothing in common: 0, give or take */
    for (size_t k = 0; k < FDM_ARRAY_LEN(candidates) && status == FDM_OK && may_be_other(r) && best < 0.95; k++) {
        fdm_emulation e = fdm_emulation_of(candidates[k].format);
        fdm_verify_report candidate;
        if (candidates[k].classes) status = fdm_emulation_set(&e, candidates[k].classes, err);
        if (status != FDM_OK || memcmp(&e, &r->emulation, sizeof e) == 0) continue;
        start_report(&candidate, run->options, &e);
        status = fdm_verify_pass(c, run, &e, err);
        if (status == FDM_OK) status = fdm_verify_judge(&candidate, c, &e, err);
        const double correlation = status == FDM_OK ? fit(r, &candidate) : 0;
        if (correlation > best) {
            best = correlation;
            say_other(r, k);
        }
        fdm_verify_report_free(&candidate);
    }
    return status;
}

/* ---- the whole ---- */

static double input_rms(const struct fdm_checks *c, const fdm_config *config, int n) {
    const size_t r = (size_t)config->img_resolution, pixels = (size_t)config->img_channels * r * r;
    fdm_precond_coeffs k;
    double squares = 0;
    fdm_precond_coeffs_f64(&k, &config->precond, c->sigma[n]);
    for (size_t i = 0; i < pixels; i++) squares += c->x[(size_t)n * pixels + i] * c->x[(size_t)n * pixels + i];
    return k.c_in * sqrt(squares / (double)pixels);
}

/* Says which noise levels show little. */
static void remark_inputs(fdm_verify_report *r, const struct fdm_checks *c, const fdm_config *config) {
    size_t used = strlen(r->remark), faint = 0;
    for (int n = 0; n < c->n; n++) {
        const double rms = input_rms(c, config, n);
        if (!(rms < 1e-2) || used >= sizeof r->remark || faint++ > 2) continue;
        used += (size_t)snprintf(r->remark + used, sizeof r->remark - used, "%sat sigma %g the network input has RMS %.2g", used ? "; " : "",
                                 c->sigma[n], rms);
    }
    if (faint && used < sizeof r->remark)
        snprintf(r->remark + used, sizeof r->remark - used, ": errors hide there, dump sigma between 0.05 and 5 as well");
}

static void remark(fdm_verify_report *r, const char *format, const char *text) {
    const size_t used = strlen(r->remark);
    if (used + 3 < sizeof r->remark) {
        if (used) snprintf(r->remark + used, sizeof r->remark - used, "; ");
        snprintf(r->remark + strlen(r->remark), sizeof r->remark - strlen(r->remark), format, text);
    }
}

static void find_first_bad(fdm_verify_report *r) {
    for (size_t i = 0; i < r->count && !r->first_bad[0]; i++)
        if (r->items[i].verdict == FDM_VERIFY_FAIL) snprintf(r->first_bad, sizeof r->first_bad, "%s", r->items[i].module);
}

/* Mistrusted where the image shows in less than half of the tensors, or not in the result. */
static bool nothing_shown(const fdm_verify_report *r) {
    size_t shown = 0, hidden = 0;
    for (size_t i = 0; i < r->count; i++) {
        const fdm_verify_item *item = &r->items[i];
        const bool result = strcmp(item->module, "self") == 0 || strcmp(item->module, "model") == 0;
        if (item->verdict == FDM_VERIFY_MISTRUSTED && result) return true;
        shown += item->verdict == FDM_VERIFY_PASS && item->depends_on_image;
        hidden += item->verdict == FDM_VERIFY_MISTRUSTED;
    }
    return hidden > shown;
}

static fdm_status conclude(fdm_verify_report *r, fdm_error *err) {
    const size_t failed = count_of(r, FDM_VERIFY_FAIL);
    if (r->count + r->step_count == 0)
        return fdm_fail(err, FDM_BAD_INPUT, "the dump holds nothing to verify: no out, F_x, trace.*, grad.* or x_call");
    if (failed) {
        r->verdict = FDM_VERIFY_FAIL;
        return fdm_fail(err, FDM_MISMATCH, "%zu of %zu tensors fail%s%s", failed, r->count + r->step_count,
                        r->first_bad[0] ? ", the first is that of " : "", r->first_bad);
    }
    if (nothing_shown(r)) {
        r->verdict = FDM_VERIFY_MISTRUSTED;
        return fdm_fail(err, FDM_MISMATCH, "mistrusted: nothing differs, but this dump could not show an error of the network's input");
    }
    r->verdict = FDM_VERIFY_PASS;
    return FDM_OK;
}

/* The network's tensors. */
static fdm_status verify_network(fdm_verify_report *r, const fdm_tensors *dump, const char *dump_where,
                                 const struct fdm_verify_run *run, fdm_error *err) {
    struct fdm_checks c = {0};
    struct fdm_graph g;
    if (!fdm_unet_build(&g, run->config)) return fdm_fail_oom(err, "network graph", 0);
    fdm_status status = fdm_checks_bind(&c, dump, dump_where, &g, run->config, err);
    r->ignored = c.ignored;
    if (status == FDM_OK && c.count) {
        status = fdm_verify_pass(&c, run, &r->emulation, err);
        if (status == FDM_OK) status = fdm_verify_judge(r, &c, &r->emulation, err);
        find_first_bad(r);
        remark_inputs(r, &c, run->config);
        const bool failed = count_of(r, FDM_VERIFY_FAIL) > 0;
        if (status == FDM_OK && failed && !run->options->no_diagnosis) status = find_other_precision(r, &c, run, err);
        if (status == FDM_OK && failed && !run->options->no_diagnosis && !r->looks_like_other)
            status = fdm_verify_diagnose(r, &c, run, err);
        if (run->config->label_dim && !c.class_labels) remark(r, "no class_labels: taken as zeros%s", "");
    }
    if (c.ignored_names[0]) remark(r, "not looked at: %s", c.ignored_names);
    fdm_checks_free(&c);
    fdm_graph_free(&g);
    return status;
}

fdm_status fdm_verify(fdm_verify_report *report, const fdm_tensors *model, const char *where, const fdm_tensors *dump,
                      const char *dump_where, const fdm_verify_options *options, fdm_error *err) {
    static const fdm_verify_options none = {0};
    fdm_config config;
    struct fdm_verify_run run = {.options = options ? options : &none, .config = &config, .model = model, .where = where};
    run.how = (fdm_run_options){.threads = run.options->threads, .isa = run.options->isa};
    start_report(report, run.options, &run.options->emulation);
    fdm_status status = fdm_config_from_tensors(&config, model, where, err);
    if (status == FDM_OK) status = verify_network(report, dump, dump_where, &run, err);
    if (status == FDM_OK) status = fdm_verify_gradients(report, dump, dump_where, &run, err);
    if (status == FDM_OK) status = fdm_verify_trajectory(report, dump, dump_where, &run, err);
    find_first_bad(report);
    if (status == FDM_OK) return conclude(report, err);
    fdm_verify_report_free(report);
    return status;
}
