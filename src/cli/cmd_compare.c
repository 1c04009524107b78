/* cmd_compare.c - `fdm compare A B`: two tensor files, tensor by tensor. */
#include <fnmatch.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/cli.h"
#include "fdm/compare.h"
#include "fdm/tensorfile.h"

struct compare_options {
    double rtol, atol, mtol;
    int64_t ulp;
    const char *truth, *only;
    bool json;
};

static const struct compare_options defaults = {0};
static const struct fdm_option options[] = {
    FDM_OPTION_FLOAT(struct compare_options, rtol, "rtol", 0, 1e300, "X",
                     "accept |b - a| <= X |a|; tolerances add up"),
    FDM_OPTION_FLOAT(struct compare_options, atol, "atol", 0, 1e300, "X", "accept |b - a| <= X"),
    FDM_OPTION_FLOAT(struct compare_options, mtol, "mtol", 0, 1e300, "X",
                     "accept |b - a| <= X max |a|, a share of the tensor's largest value"),
    FDM_OPTION_INT(struct compare_options, ulp, "ulp", 0, INT64_MAX, "N",
                   "accept a and b at most N representable numbers apart"),
    FDM_OPTION_STRING(struct compare_options, truth, "truth", "FILE",
                      "measure the errors of A and B against these tensors, too (usually f64)"),
    FDM_OPTION_STRING(struct compare_options, only, "only", "NAMES",
                      "compare only these tensors: names or patterns, separated by commas (out,trace.*)"),
    FDM_OPTION_FLAG(struct compare_options, json, "json", "write JSON"),
    FDM_OPTION_END,
};

/* ---- Reading ----------------------------------------------------------------------------------------------- */

/* Whether one of the comma-separated patterns matches. */
static fdm_status matches(bool *yes, const char *patterns, const char *name, fdm_error *err) {
    char *copy = fdm_strdup(patterns), *rest = NULL;
    if (!copy) return fdm_fail_oom(err, "--only", strlen(patterns));
    *yes = false;
    for (char *p = strtok_r(copy, ",", &rest); p && !*yes; p = strtok_r(NULL, ",", &rest))
        *yes = fnmatch(p, name, 0) == 0;
    free(copy);
    return FDM_OK;
}

static bool is_npy(const char *path) {
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, ".npy") == 0;
}

/* view = the chosen tensors of set, borrowed from it; `name`, if any, for the only one. */
static fdm_status choose(fdm_tensors *view, const fdm_tensors *set, const char *patterns, const char *name,
                         fdm_error *err) {
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < set->count && status == FDM_OK; i++) {
        const fdm_tensor *t = &set->items[i];
        fdm_tensor *added;
        bool wanted = true;
        if (patterns) status = matches(&wanted, patterns, t->name, err);
        if (status == FDM_OK && wanted)
            status = fdm_tensors_add_borrowed(view, name ? name : t->name, t->dtype, t->ndim, t->shape, t->data,
                                              &added, err);
    }
    return status;
}

/* ---- Table ------------------------------------------------------------------------------------------------- */

static void print_number(int width, double x) {
    if (isnan(x))
        printf(" %*s", width, "-");
    else
        printf(" %*.3g", width, x);
}

static void print_item(const fdm_comparison_item *item, bool with_truth, int width) {
    bool pass = item->outcome == FDM_COMPARE_PASS;
    printf("%-4s  %-*s", pass ? "pass" : "FAIL", width, item->name);
    print_number(10, item->max_abs);
    print_number(10, item->max_rel);
    print_number(10, item->rms);
    if (item->max_ulp < 0)
        printf(" %10s", "-");
    else if (item->max_ulp > 9999999999)
        printf(" %10.3g", (double)item->max_ulp);
    else
        printf(" %10" PRId64, item->max_ulp);
    if (with_truth) {
        print_number(10, item->rms_ratio);
        print_number(10, item->max_ratio);
    }
    if (item->nan_in_both) printf("  %" PRId64 " NaN in both", item->nan_in_both);
    printf("%s%s\n", pass ? "" : "  ", item->detail);
}

static void print_table(const fdm_comparison *result, bool only_failures) {
    size_t failed = 0;
    int width = 6;
    for (size_t i = 0; i < result->count; i++) {
        bool pass = result->items[i].outcome == FDM_COMPARE_PASS;
        failed += !pass;
        if (!pass || !only_failures)
            width = fdm_max_int(width, fdm_min_int((int)strlen(result->items[i].name), 60));
    }
    if (failed || !only_failures) {
        printf("      %-*s %10s %10s %10s %10s", width, "tensor", "max abs", "max rel", "RMS", "max ULP");
        if (result->with_truth) printf(" %10s %10s", "RMS ratio", "max ratio");
        putchar('\n');
    }
    for (size_t i = 0; i < result->count; i++)
        if (!only_failures || result->items[i].outcome != FDM_COMPARE_PASS)
            print_item(&result->items[i], result->with_truth, width);
    if (!only_failures)
        printf("%s: %zu of %zu tensors agree\n", result->pass ? "pass" : "fail", result->count - failed,
               result->count);
}

/* ---- JSON -------------------------------------------------------------------------------------------------- */

/* JSON has neither NaN nor infinity: null. */
static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }
static json_t *text(const char *s) {
    json_t *string = s ? json_string(s) : json_null();
    return string ? string : json_string("(not UTF-8)");
}

static json_t *item_json(const fdm_comparison_item *item) {
    bool pass = item->outcome == FDM_COMPARE_PASS;
    json_t *ulp = item->max_ulp < 0 || item->nonfinite ? json_null() : json_integer(item->max_ulp);
    json_t *worst = item->worst < 0 ? json_null() : json_integer(item->worst);
    return json_pack(
        "{s:o, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
        text(item->name), "verdict", pass ? "pass" : "fail", "reason", fdm_compare_outcome_name(item->outcome),
        "detail", item->detail, "count", (json_int_t)item->count, "mismatches", (json_int_t)item->mismatches,
        "nonfinite", (json_int_t)item->nonfinite, "nan_in_both", (json_int_t)item->nan_in_both, "scale",
        real(item->scale), "max_abs", real(item->max_abs), "max_rel", real(item->max_rel), "rms", real(item->rms),
        "max_ulp", ulp, "worst", worst, "rms_ratio", real(item->rms_ratio), "max_ratio", real(item->max_ratio));
}

static fdm_status print_json(const fdm_comparison *result, const struct fdm_cli *cli,
                             const struct compare_options *o, fdm_error *err) {
    json_t *list = json_array();
    bool complete = list != NULL;
    for (size_t i = 0; i < result->count && complete; i++)
        complete = json_array_append_new(list, item_json(&result->items[i])) == 0;
    json_t *root =
        json_pack("{s:s, s:o, s:o, s:o, s:f, s:f, s:f, s:I, s:o}", "verdict", result->pass ? "pass" : "fail", "a",
                  text(cli->args[0]), "b", text(cli->args[1]), "truth", text(o->truth), "rtol", o->rtol, "atol",
                  o->atol, "mtol", o->mtol, "ulp", (json_int_t)o->ulp, "tensors", list);
    char *out = root && complete ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    if (!out) return fdm_fail_oom(err, "JSON", 0);
    puts(out);
    free(out);
    return FDM_OK;
}

/* ---- Command ----------------------------------------------------------------------------------------------- */

/* Three files: A, B and the truth, as read and as chosen by --only. */
struct sets {
    fdm_tensors read[3], chosen[3];
};

static fdm_status read_sets(struct sets *sets, const struct fdm_cli *cli, const struct compare_options *o,
                            fdm_error *err) {
    const char *paths[3] = {cli->args[0], cli->args[1], o->truth};
    for (int i = 0; i < 3 && paths[i]; i++) {
        fdm_status status = fdm_tensorfile_read(&sets->read[i], paths[i], err);
        /* An .npy file knows no names: its tensor pairs with the only one of A. */
        const fdm_tensors *a = &sets->chosen[0];
        bool nameless =
            i > 0 && (is_npy(paths[0]) || is_npy(paths[i])) && a->count == 1 && sets->read[i].count == 1;
        /* The truth may hold more than A and B. */
        if (status == FDM_OK)
            status = choose(&sets->chosen[i], &sets->read[i], i == 2 || nameless ? NULL : o->only,
                            nameless ? a->items[0].name : NULL, err);
        if (status != FDM_OK) return status;
        if (fdm_interrupted()) return fdm_fail_interrupted(err);
    }
    return FDM_OK;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct compare_options *o = values;
    struct sets sets = {0};
    fdm_comparison result = {0};
    bool tolerance = fdm_cli_given(cli, "rtol") || fdm_cli_given(cli, "atol") || fdm_cli_given(cli, "mtol") ||
                     fdm_cli_given(cli, "ulp");
    fdm_compare_options how = {
        .rtol = o->rtol, .atol = o->atol, .mtol = o->mtol, .ulp = o->ulp, .by_truth = o->truth && !tolerance};

    fdm_status status = read_sets(&sets, cli, o, err);
    if (status == FDM_OK)
        status =
            fdm_compare(&result, &sets.chosen[0], &sets.chosen[1], o->truth ? &sets.chosen[2] : NULL, &how, err);
    if (status == FDM_OK || status == FDM_MISMATCH) {
        fdm_status printed = FDM_OK;
        if (o->json)
            printed = print_json(&result, cli, o, err);
        else
            print_table(&result, cli->quiet);
        if (printed != FDM_OK) status = printed;
    }
    fdm_comparison_free(&result);
    for (int i = 0; i < 3; i++) {
        fdm_tensors_free(&sets.chosen[i]);
        fdm_tensors_free(&sets.read[i]);
    }
    return status;
}

const struct fdm_command fdm_cmd_compare = {
    .name = "compare",
    .arguments = "A B",
    .min_args = 2,
    .max_args = 2,
    .summary = "two tensor files, tensor by tensor",
    .description =
        "Pairs the tensors of two files (.safetensors, .npz, .npy) by name; A is what is expected, B is judged.\n"
        "Two elements agree if |b - a| <= atol + rtol |a| + mtol max |a|, or if they are at most --ulp "
        "representable\n"
        "numbers apart; without these options, if they are equal. A NaN or an infinity that only one of them has\n"
        "fails at any tolerance; so do another shape or dtype, and a tensor that only one file has.\n"
        "\n"
        "With --truth the errors of A and B against a third file are measured, too, and their ratio B/A is shown\n"
        "(RMS and maximum). If no tolerance is given, a tensor then passes if B's RMS error is no larger than "
        "A's.\n"
        "\n"
        "The table is sorted, the worst tensor first; max rel is max |b - a| / |a|. -q shows failures only.",
    .examples = "  fdm compare expected.safetensors found.safetensors\n"
                "  fdm compare expected.npz found.safetensors --mtol 1e-5 --only out,F_x\n"
                "  fdm compare pytorch.safetensors ours.safetensors --truth f64.safetensors --json\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
