/* verify_judge.c - from measured errors to verdicts. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "verify/verify_internal.h"

const char *fdm_verdict_name(fdm_verdict verdict) {
    static const char *const names[FDM_VERIFY_VERDICT_COUNT] = {
#define VERDICT_NAME(e, name) [e] = name,
        FDM_VERIFY_VERDICTS(VERDICT_NAME)
#undef VERDICT_NAME
    };
    return (unsigned)verdict < FDM_VERIFY_VERDICT_COUNT ? names[verdict] : "?";
}

/* ---- one tensor ---- */

/* Few elements say little of how large errors are: the ratio of two RMS over n normal deviates varies that much. */
static double few(int64_t count) { return 1 + 16 / (double)(count ? count : 1); }

static double rms_bound(const fdm_verify_item *i, const fdm_verify_report *r) {
    return fmax(r->rms_limit * few(i->count) * i->local.expected_rms, i->tolerance_rms);
}

/* Written so that a NaN fails. */
bool fdm_verify_within(const fdm_verify_item *i, const fdm_verify_report *r) {
    const double max = fmax(r->max_limit * few(i->count) * i->local.expected_max, i->tolerance_max);
    return i->local.rms <= rms_bound(i, r) && i->local.max <= max;
}

static void explain_nonfinite(fdm_verify_item *item, const struct fdm_tally *y) {
    const char *why = y->emulated_nonfinite ? ": this overflows in the claimed precision, the emulation does, too"
                      : y->truth_max > 65504 ? ": the truth is beyond 65504, where fp16 ends"
                                             : "";
    snprintf(item->reason, sizeof item->reason, "%" PRId64 " values are NaN or infinite, the truth has none%s", y->nonfinite, why);
}

static void explain_error(fdm_verify_item *item, const fdm_verify_report *r) {
    const fdm_verify_error *e = &item->local;
    if (e->rms > rms_bound(item, r))
        snprintf(item->reason, sizeof item->reason, "RMS error %.3g is %.3g times what this precision explains (%.3g)", e->rms,
                 e->rms_ratio, e->expected_rms);
    else
        snprintf(item->reason, sizeof item->reason,
                 "largest error %.3g is %.3g times what this precision explains (%.3g); element %" PRId64 " is %.9g, truth %.9g",
                 e->max, e->max_ratio, e->expected_max, item->worst, item->worst_seen, item->worst_truth);
}

/* The share of a tensor that depends on the image must be so large that a tenth of it, treated wrongly, would show; and it
 * must be a share worth the name, or activations hardly vary from place to place, and what moves them about shows nothing.
 * (Not so of D at small noise levels, which is nearly x itself.) */
static bool hides_the_image(const fdm_verify_item *item, const fdm_verify_report *r, const struct fdm_tally *y) {
    const double share = sqrt(y->blank2 / (double)item->count);
    return share / 10 < rms_bound(item, r) || (strcmp(item->module, "self") != 0 && share < 1e-3 * item->scale);
}

static bool upstream_failed(const fdm_verify_report *r) {
    for (size_t i = 0; i < r->count; i++)
        if (r->items[i].verdict == FDM_VERIFY_FAIL) return true;
    return false;
}

static void judge(fdm_verify_item *item, const fdm_verify_report *r, const struct fdm_item_spec *spec) {
    const struct fdm_tally *y = spec->local;
    const bool drifted = item->total.rms > r->rms_limit * few(item->count) * item->total.expected_rms;
    if (spec->problem && spec->problem[0]) {
        item->verdict = FDM_VERIFY_FAIL;
        snprintf(item->reason, sizeof item->reason, "%s", spec->problem);
        if (item->count && fdm_verify_within(item, r)) {
            const size_t used = strlen(item->reason);
            snprintf(item->reason + used, sizeof item->reason - used, "; the values match the truth once permuted");
        }
    } else if (y->nonfinite) {
        item->verdict = FDM_VERIFY_FAIL;
        explain_nonfinite(item, y);
    } else if (!fdm_verify_within(item, r)) {
        item->verdict = FDM_VERIFY_FAIL;
        explain_error(item, r);
    } else if (drifted && upstream_failed(r)) {
        item->verdict = FDM_VERIFY_INHERITED;
        snprintf(item->reason, sizeof item->reason, "right for its inputs, which differ: %.3g times the expected error from the start",
                 item->total.rms_ratio);
    } else if (fdm_tally_constant(y)) {
        item->verdict = FDM_VERIFY_MISTRUSTED;
        snprintf(item->reason, sizeof item->reason, "the truth is the constant %.6g: little could go wrong here", y->worst_truth);
    } else if (item->blind) {
        item->verdict = FDM_VERIFY_MISTRUSTED;
        snprintf(item->reason, sizeof item->reason, "a zero network input would change it by %.3g only, of %.3g",
                 sqrt(y->blank2 / (double)y->count), item->scale);
    } else {
        item->verdict = FDM_VERIFY_PASS;
    }
}

fdm_status fdm_verify_add_item(fdm_verify_report *r, const struct fdm_item_spec *spec, fdm_error *err) {
    fdm_verify_item *items = realloc(r->items, (r->count + 1) * sizeof *items);
    if (!items) return fdm_fail_oom(err, "report", (r->count + 1) * sizeof *items);
    r->items = items;
    fdm_verify_item *item = &items[r->count];
    *item = (fdm_verify_item){.count = spec->local->count, .worst = spec->local->worst, .max_ulp = spec->local->max_ulp,
                              .worst_seen = spec->local->worst_seen, .worst_truth = spec->local->worst_truth,
                              .scale = fdm_tally_truth_rms(spec->local)};
    if (!item->count) item->worst = -1;
    item->local = fdm_tally_error(spec->local, spec->floor);
    item->total = fdm_tally_error(spec->total, spec->floor);
    item->tolerance_rms = r->safety * spec->tolerance_rms;
    item->tolerance_max = fdm_tolerance_max(item->tolerance_rms, item->count);
    snprintf(item->formula, sizeof item->formula, "%s", spec->formula ? spec->formula : "");
    item->name = fdm_strdup(spec->name);
    item->module = fdm_strdup(spec->module);
    if (!item->name || !item->module) {
        free(item->name);
        free(item->module);
        return fdm_fail_oom(err, "report", strlen(spec->name));
    }
    item->depends_on_image = spec->trusts_blank && spec->local->with_blank;
    item->blind = item->depends_on_image && hides_the_image(item, r, spec->local);
    judge(item, r, spec);
    r->count++;
    return FDM_OK;
}

/* ---- the dump's tensors ---- */

static fdm_layer_class class_of(const struct fdm_check *check) {
    const char *dot = strrchr(check->module, '.'), *part = dot ? dot + 1 : check->module;
    if (strstr(part, "norm")) return FDM_LAYERS_NORM;
    if (strncmp(part, "map_", 4) == 0 || strcmp(part, "affine") == 0) return FDM_LAYERS_LINEAR;
    return FDM_LAYERS_CONV;
}

static fdm_status add_check(fdm_verify_report *r, const struct fdm_check *check, const fdm_emulation *emulation, fdm_error *err) {
    char problem[240];
    const fdm_dtype dtype = check->tensor->dtype;
    const fdm_format storage = fdm_storage_of(emulation, class_of(check));
    const struct fdm_item_spec spec = {
        .name = check->tensor->name,
        .module = check->module,
        .local = &check->local,
        .total = &check->total,
        .floor = 0x1p-24,
        .tolerance_rms = check->local.count ? sqrt(check->tolerance2 / (double)check->local.count) : 0,
        .formula = check->formula,
        .problem = problem,
        .trusts_blank = check->place == FDM_CHECK_RAW || check->place == FDM_CHECK_FINAL || check->place == FDM_CHECK_OUT,
    };
    snprintf(problem, sizeof problem, "%s", check->problem);
    /* A tensor saved in half has lost what was to be judged. */
    if (!problem[0] && (dtype == FDM_F16 || dtype == FDM_BF16) && storage == FDM_FORMAT_FP32)
        snprintf(problem, sizeof problem, "dtype %s holds less than the claimed precision; save F32, or say --precision %s",
                 fdm_dtype_name(dtype), dtype == FDM_F16 ? "fp16" : "bf16");
    return fdm_verify_add_item(r, &spec, err);
}

fdm_status fdm_verify_judge(fdm_verify_report *report, const struct fdm_checks *c, const fdm_emulation *emulation, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < c->count && status == FDM_OK; i++) status = add_check(report, &c->items[i], emulation, err);
    return status;
}
