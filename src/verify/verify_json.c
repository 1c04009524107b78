/* verify_json.c - a report as JSON (README, "Verifying a GPU", has the schema). */
#include <jansson.h>
#include <math.h>

#include "fdm/verify.h"

/* JSON has neither NaN nor infinity: null. */
static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }
static json_t *text(const char *s) {
    json_t *string = s && s[0] ? json_string(s) : json_null();
    return string ? string : json_string("(not UTF-8)");
}

static json_t *item_json(const fdm_verify_item *i) {
    return json_pack(
        "{s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o}", "name",
        text(i->name), "module", text(i->module), "verdict", fdm_verdict_name(i->verdict), "reason", text(i->reason), "rms_ratio",
        real(i->local.rms_ratio), "max_ratio", real(i->local.max_ratio), "max_abs", real(i->local.max), "max_ulp",
        (json_int_t)i->max_ulp, "rms", real(i->local.rms), "expected_rms", real(i->local.expected_rms), "expected_max",
        real(i->local.expected_max), "total_rms_ratio", real(i->total.rms_ratio), "total_max_ratio", real(i->total.max_ratio),
        "correlation", real(i->local.correlation), "tolerance_rms", real(i->tolerance_rms), "tolerance_max",
        real(i->tolerance_max), "scale", real(i->scale), "count", (json_int_t)i->count, "worst", (json_int_t)i->worst, "formula",
        text(i->formula), "blind", json_boolean(i->blind));
}

static json_t *step_json(const fdm_verify_step *s) {
    return json_pack("{s:i, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "call", s->call, "sigma", real(s->sigma), "verdict",
                     fdm_verdict_name(s->verdict), "local", real(s->local), "expected", real(s->expected), "growth",
                     real(s->growth), "total", real(s->total), "predicted", real(s->predicted));
}

static json_t *emulation_json(const fdm_emulation *e) {
    json_t *o = json_object();
    for (int i = 0; i < FDM_LAYER_CLASS_COUNT; i++)
        json_object_set_new(o, fdm_layer_class_name((fdm_layer_class)i), json_string(fdm_format_name(e->format[i])));
    return o;
}

char *fdm_verify_report_json(const fdm_verify_report *r) {
    json_t *items = json_array(), *steps = json_array();
    bool complete = items && steps;
    for (size_t i = 0; i < r->count && complete; i++) complete = json_array_append_new(items, item_json(&r->items[i])) == 0;
    for (size_t i = 0; i < r->step_count && complete; i++) complete = json_array_append_new(steps, step_json(&r->steps[i])) == 0;
    json_t *root = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f, s:o, s:o}", "verdict", fdm_verdict_name(r->verdict),
                             "first_bad", text(r->first_bad), "looks_like",
                             text(r->looks_like_other ? fdm_format_name(r->looks_like) : NULL), "diagnosis", text(r->diagnosis),
                             "remark", text(r->remark), "precision", emulation_json(&r->emulation), "rms_limit", r->rms_limit,
                             "max_limit", r->max_limit, "safety", r->safety, "tensors", items, "steps", steps);
    char *out = root && complete ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    return out;
}
