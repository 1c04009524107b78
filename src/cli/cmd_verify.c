/* cmd_verify.c - `fdm verify`: a run on other hardware against the truth. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/inputs.h"
#include "fdm/safetensors.h"
#include "fdm/tensorfile.h"
#include "fdm/verify.h"
#include "io/atomic_file.h"

struct verify_options {
    const char *model, *dump, *layers, *other, *html;
    int precision;
    double rms_limit, max_limit, safety, clamp;
    bool json, all, no_diagnosis;
};

static const char *const precisions[] = {"fp32", "tf32", "bf16", "fp16", NULL};
static const struct verify_options defaults = {.rms_limit = FDM_VERIFY_RMS_LIMIT, .max_limit = FDM_VERIFY_MAX_LIMIT, .safety = 1,
                                               .clamp = INFINITY};
static const struct fdm_option options[] = {
    FDM_OPTION_STRING(struct verify_options, model, "model", "FILE", "model file (.safetensors); required"),
    FDM_OPTION_STRING(struct verify_options, dump, "dump", "FILE", "what the other program computed; required"),
    FDM_OPTION_ENUM(struct verify_options, precision, "precision", precisions,
                    "what it computed in; tf32: only convolutions, as PyTorch does by default"),
    FDM_OPTION_STRING(struct verify_options, layers, "layers", "LIST",
                      "other formats for classes of layers: conv, linear, attention, norm (linear=tf32,norm=fp32)"),
    FDM_OPTION_FLOAT(struct verify_options, rms_limit, "rms-limit", 1, 1e9, "X", "RMS error allowed, in units of the emulated one"),
    FDM_OPTION_FLOAT(struct verify_options, max_limit, "max-limit", 1, 1e9, "X", "largest error allowed, likewise"),
    FDM_OPTION_FLOAT(struct verify_options, safety, "safety", 1e-9, 1e9, "X", "factor of the rounding bounds (-v shows them)"),
    FDM_OPTION_FLOAT(struct verify_options, clamp, "clamp", 1e-30, INFINITY, "C", "limit of the loss weight (loss, grad.*): min(lambda, C)"),
    FDM_OPTION_STRING(struct verify_options, other, "other", "FILE", "the same model's other weights (raw beside averaged), to try"),
    FDM_OPTION_FLAG(struct verify_options, no_diagnosis, "no-diagnosis", "say where it fails, do not look for the reason"),
    FDM_OPTION_FLAG(struct verify_options, all, "all", "list every tensor, not only those that do not pass"),
    FDM_OPTION_FLAG(struct verify_options, json, "json", "write JSON instead of the table"),
    FDM_OPTION_STRING(struct verify_options, html, "html", "FILE", "write a report as one self-contained web page"),
    FDM_OPTION_END,
};

/* ---- Table ------------------------------------------------------------------------------------------------- */

static const char *mark(fdm_verdict v) {
    static const char *const marks[FDM_VERIFY_VERDICT_COUNT] = {"FAIL", "(in)", "????", "pass"};
    return marks[v];
}

/* Names come from the file: nothing in them may move the cursor. */
static void print_name(const char *prefix, const char *name, int width, const char *suffix) {
    int printed = 0;
    fputs(prefix, stdout);
    for (; name[printed]; printed++) putchar((unsigned char)name[printed] < 32 || name[printed] == 127 ? '?' : name[printed]);
    printf("%*s%s", printed < width ? width - printed : 0, "", suffix);
}

static void print_item(const fdm_verify_item *i, int width, bool formula) {
    printf("%s  ", mark(i->verdict));
    print_name("", i->name, width, "");
    printf(" %9.3g %9.3g %9.3g %9.3g %9.3g %9.3g %9" PRId64, i->local.rms, i->local.expected_rms, i->tolerance_rms,
           i->local.rms_ratio, i->local.max_ratio, i->total.rms_ratio, i->max_ulp);
    if (i->reason[0]) printf("  %s", i->reason);
    putchar('\n');
    if (formula && i->formula[0]) printf("      tolerance %.3g = %s\n", i->tolerance_rms, i->formula);
}

static void print_items(const fdm_verify_report *r, bool all, bool formula) {
    int width = 6, shown = 0;
    for (size_t i = 0; i < r->count; i++) {
        const bool wanted = all || r->items[i].verdict != FDM_VERIFY_PASS;
        shown += wanted;
        if (wanted) width = fdm_max_int(width, fdm_min_int((int)strlen(r->items[i].name), 60));
    }
    if (!shown) return;
    printf("      %-*s %9s %9s %9s %9s %9s %9s %9s\n", width, "tensor", "error", "expected", "tolerance", "RMS ratio", "max ratio",
           "in total", "max ULP");
    for (size_t i = 0; i < r->count; i++)
        if (all || r->items[i].verdict != FDM_VERIFY_PASS) print_item(&r->items[i], width, formula);
}

static void print_figure(double x) {
    if (isnan(x)) printf(" %10s", "-");
    else printf(" %10.3g", x);
}

static void print_steps(const fdm_verify_report *r) {
    if (!r->step_count) return;
    printf("      %4s %10s %10s %10s %10s %10s %10s\n", "call", "sigma", "error", "expected", "growth", "in total", "predicted");
    for (size_t i = 0; i < r->step_count; i++) {
        const fdm_verify_step *s = &r->steps[i];
        const double figures[] = {s->local, s->expected, s->growth, s->total, s->predicted};
        printf("%s  %4d %10.4g", mark(s->verdict), s->call, s->sigma);
        for (size_t k = 0; k < FDM_ARRAY_LEN(figures); k++) print_figure(figures[k]);
        putchar('\n');
    }
}

static void print_report(const fdm_verify_report *r, const struct verify_options *o, const struct fdm_cli *cli) {
    size_t passed = 0;
    for (size_t i = 0; i < r->count; i++) passed += r->items[i].verdict == FDM_VERIFY_PASS;
    for (size_t i = 0; i < r->step_count; i++) passed += r->steps[i].verdict == FDM_VERIFY_PASS;
    print_items(r, o->all || cli->verbose, cli->verbose);
    print_steps(r);
    if (!cli->quiet)
        printf("rule: an error may be %.3g times (RMS) and %.3g times (maximum) that of %s, or within %.3g times the rounding bound\n",
               r->rms_limit, r->max_limit, precisions[o->precision], r->safety);
    if (r->remark[0] && !cli->quiet) print_name("note: ", r->remark, 0, "\n");
    if (r->first_bad[0]) print_name("first bad: ", r->first_bad, 0, "\n");
    if (r->diagnosis[0]) print_name("reason: ", r->diagnosis, 0, "\n");
    printf("%s: %zu of %zu tensors are within the limits of %s\n", fdm_verdict_name(r->verdict), passed, r->count + r->step_count,
           precisions[o->precision]);
}

/* ---- Command ----------------------------------------------------------------------------------------------- */

static fdm_status write_page(const fdm_verify_report *r, const struct verify_options *o, fdm_error *err) {
    char title[600];
    snprintf(title, sizeof title, "%.200s against %.200s as %s", o->dump, o->model, precisions[o->precision]);
    char *page = fdm_verify_report_html(r, title);
    const fdm_status status = page ? fdm_atomic_write_file(o->html, page, strlen(page), err) : fdm_fail_oom(err, "HTML", 0);
    free(page);
    return status;
}

static fdm_status print(const fdm_verify_report *r, const struct verify_options *o, const struct fdm_cli *cli, fdm_error *err) {
    const fdm_status status = o->html ? write_page(r, o, err) : FDM_OK;
    if (status != FDM_OK) return status;
    if (!o->json) {
        print_report(r, o, cli);
        return FDM_OK;
    }
    char *text = fdm_verify_report_json(r);
    if (!text) return fdm_fail_oom(err, "JSON", 0);
    puts(text);
    free(text);
    return FDM_OK;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct verify_options *o = values;
    fdm_tensors model = {0}, dump = {0}, other = {0};
    fdm_verify_report report = {0};
    if (!o->model || !o->dump) return fdm_fail(err, FDM_BAD_USAGE, "--model and --dump are required; see fdm help verify");
    fdm_verify_options how = {.emulation = fdm_emulation_of((fdm_format)o->precision), .rms_limit = o->rms_limit,
                              .max_limit = o->max_limit, .safety = o->safety, .no_diagnosis = o->no_diagnosis,
                              .clamp = isfinite(o->clamp) ? o->clamp : 0, .threads = cli->threads, .isa = cli->isa,
                              .stop = fdm_stop_if_interrupted};
    fdm_status status = o->html ? fdm_output_check(o->html, false, err) : FDM_OK;
    if (status == FDM_OK && o->layers) status = fdm_emulation_set(&how.emulation, o->layers, err);
    if (status == FDM_OK) status = fdm_safetensors_read(&model, o->model, err);
    if (status == FDM_OK) status = fdm_tensorfile_read(&dump, o->dump, err);
    if (status == FDM_OK && o->other) {
        status = fdm_safetensors_read(&other, o->other, err);
        how.other = &other;
    }
    if (status == FDM_OK) status = fdm_verify(&report, &model, o->model, &dump, o->dump, &how, err);
    if (status == FDM_OK || status == FDM_MISMATCH) {
        const fdm_status printed = print(&report, o, cli, err);
        if (printed != FDM_OK) status = printed;
    }
    fdm_verify_report_free(&report);
    fdm_tensors_free(&model);
    fdm_tensors_free(&dump);
    fdm_tensors_free(&other);
    return status;
}

const struct fdm_command fdm_cmd_verify = {
    .name = "verify",
    .arguments = "",
    .summary = "a GPU's run against the truth, module by module",
    .description =
        "Computes in f64 what a dump (.safetensors, .npz) holds, from its inputs x and sigma [class_labels, augment_labels]:\n"
        "  out, F_x, c_in_x, c_noise, trace.<module>      any of them\n"
        "or from y, sigma, noise_unit [weight]: loss, D_yn, grad.<parameter>\n"
        "or the sampler states x_call, call_sigma [D_call, x_final, class_labels].\n"
        "The README has 20 lines of PyTorch that write such a dump.\n"
        "\n"
        "Each tensor is judged by its distance from the truth in units of that of the same computation emulated in the\n"
        "claimed --precision, given the dump's own tensors just upstream, so that the first bad module is named and not\n"
        "all that follow it.  FAIL: out of bounds.  (in): right for its inputs, which are wrong.  ????: within the limits,\n"
        "but so would a wrong result be.  Then the reason is looked for: another precision, another layout, scale, order.\n"
        "\n"
        "error, expected, tolerance: RMS distances from the truth of the dump, of the emulation, and the rounding bound;\n"
        "in total: ratio to the emulation where both start from x and sigma alone.",
    .examples = "  fdm verify --model model.safetensors --dump gpu.npz --precision tf32\n"
                "  fdm verify --model model.safetensors --dump gpu.npz --precision bf16 --layers norm=fp32 --all\n"
                "  fdm verify --model model.safetensors --dump gradients.npz --clamp 5 --json\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
