/* cmd_compare.c - `fdm compare A B`: two tensor files, tensor by tensor. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/inputs.h"
#include "fdm/compare.h"
#include "io/atomic_file.h"
#include "verify/compare_report.h"

struct compare_options {
    double rtol, atol, mtol, allow, snr, ratio;
    int64_t ulp;
    const char *truth, *only, *rename, *rename_a, *rename_truth, *html;
    bool json, any_dtype;
};

static const struct compare_options defaults = {.ratio = 1};
static const struct fdm_option options[] = {
    FDM_OPTION_FLOAT(struct compare_options, rtol, "rtol", 0, 1e300, "X",
                     "accept |b - a| <= X |a|; tolerances add up"),
    FDM_OPTION_FLOAT(struct compare_options, atol, "atol", 0, 1e300, "X", "accept |b - a| <= X"),
    FDM_OPTION_FLOAT(struct compare_options, mtol, "mtol", 0, 1e300, "X",
                     "accept |b - a| <= X max |a|, a share of the tensor's largest value"),
    FDM_OPTION_INT(struct compare_options, ulp, "ulp", 0, INT64_MAX, "N",
                   "accept a and b at most N representable numbers apart"),
    FDM_OPTION_FLOAT(struct compare_options, allow, "allow", 0, 0.999999, "X",
                     "let the share X of a tensor's elements be beyond the tolerances (but not NaN)"),
    FDM_OPTION_FLOAT(struct compare_options, snr, "snr", 0, 1e6, "DB",
                     "want a signal-to-noise ratio of DB decibels (20 a digit); alone or beside tolerances"),
    FDM_OPTION_STRING(struct compare_options, truth, "truth", "FILE",
                      "measure the errors of A and B against these tensors, too (usually f64)"),
    FDM_OPTION_FLOAT(struct compare_options, ratio, "ratio", 0, 1e300, "X",
                     "with --truth and no tolerance: B's RMS error may be X times A's"),
    FDM_OPTION_STRING(struct compare_options, only, "only", "NAMES",
                      "compare only these tensors: names or patterns, separated by commas (out,trace.*)"),
    FDM_OPTION_STRING(struct compare_options, rename, "rename", "RULES",
                      "rename tensors of B: FROM=TO,..., where * is any text ('module.*=trace.*')"),
    FDM_OPTION_STRING(struct compare_options, rename_a, "rename-a", "RULES", "the same for A"),
    FDM_OPTION_STRING(struct compare_options, rename_truth, "rename-truth", "RULES", "the same for the truth"),
    FDM_OPTION_FLAG(struct compare_options, any_dtype, "any-dtype",
                    "compare values of different dtypes instead of failing"),
    FDM_OPTION_FLAG(struct compare_options, json, "json", "write JSON instead of the table"),
    FDM_OPTION_STRING(struct compare_options, html, "html", "FILE", "write a report as one self-contained web page"),
    FDM_OPTION_END,
};

static fdm_status write_html(const struct fdm_report *report, const char *path, fdm_error *err) {
    struct fdm_text page = {0};
    fdm_status status = fdm_report_html(&page, report, err);
    if (!status) status = fdm_atomic_write_file(path, page.bytes, page.length, err);
    fdm_text_free(&page);
    return status;
}

static fdm_status print_report(const struct fdm_report *report, const struct fdm_cli *cli,
                               const struct compare_options *o, fdm_error *err) {
    const struct fdm_report_table_style style = {.only_bad = cli->quiet, .details = cli->verbose};
    struct fdm_text text = {0};
    fdm_status status = o->json ? fdm_report_json(&text, report, err) : fdm_report_table(&text, report, &style, err);
    if (!status) fwrite(text.bytes, 1, text.length, stdout); /* main looks whether that worked */
    fdm_text_free(&text);
    if (!status && o->html) status = write_html(report, o->html, err);
    return status;
}

static fdm_compare_options rules_of(const struct fdm_cli *cli, const struct compare_options *o) {
    static const char *const tolerances[] = {"rtol", "atol", "mtol", "ulp", "allow", "snr"};
    bool tolerance = false;
    for (size_t i = 0; i < FDM_ARRAY_LEN(tolerances); i++) tolerance = tolerance || fdm_cli_given(cli, tolerances[i]);
    return (fdm_compare_options){.rtol = o->rtol,
                                 .atol = o->atol,
                                 .mtol = o->mtol,
                                 .ulp = o->ulp,
                                 .allow = o->allow,
                                 .min_snr = o->snr,
                                 .by_truth = o->truth && !tolerance,
                                 .ratio = fdm_cli_given(cli, "ratio") ? o->ratio : 0,
                                 .any_dtype = o->any_dtype,
                                 .threads = cli->threads};
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct compare_options *o = values;
    const fdm_compare_options rules = rules_of(cli, o);
    const fdm_compare_files_args files = {.a = cli->args[0],
                                          .b = cli->args[1],
                                          .truth = o->truth,
                                          .only = o->only,
                                          .rename_a = o->rename_a,
                                          .rename_b = o->rename,
                                          .rename_truth = o->rename_truth,
                                          .stop = fdm_stop_if_interrupted};
    fdm_comparison result = {0};
    struct fdm_report report = {0};
    fdm_error trouble;
    if (fdm_cli_given(cli, "ratio") && !rules.by_truth)
        return fdm_fail(err, FDM_BAD_USAGE, "--ratio needs --truth and no tolerance: it compares errors against the truth");
    if (!o->truth && o->rename_truth) return fdm_fail(err, FDM_BAD_USAGE, "--rename-truth needs --truth");
    if (o->html) {
        fdm_status writable = fdm_output_check(o->html, false, err);
        if (writable) return writable;
    }
    fdm_status status = fdm_compare_files(&result, &files, &rules, err);
    if (status == FDM_OK || status == FDM_MISMATCH) {
        fdm_status told = fdm_compare_report(&report, &result, &files, &rules, &trouble);
        if (!told) told = print_report(&report, cli, o, &trouble);
        if (told) {
            status = told;
            *err = trouble;
        }
    }
    fdm_report_free(&report);
    fdm_comparison_free(&result);
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
        "The table is sorted, the worst tensor first; max rel is max |b - a| / |a|, SNR is 20 log10(RMS of a / RMS\n"
        "of b - a). -q shows failures only; -v adds quantiles of the error, a histogram of ULPs and the numbers\n"
        "around the worst element. Where it can, the table says what the error looks like: a factor, swapped\n"
        "dimensions, bf16 values, one channel, the border. --json and --html have all of it.\n"
        "\n"
        "The files are read tensor by tensor; memory is bounded by the largest one.",
    .examples = "  fdm compare expected.safetensors found.safetensors\n"
                "  fdm compare expected.npz found.safetensors --mtol 1e-5 --only out,F_x\n"
                "  fdm compare ours.safetensors pytorch.npz --rename '*=trace.*' --snr 60 --html report.html\n"
                "  fdm compare pytorch.safetensors ours.safetensors --truth f64.safetensors --json\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
