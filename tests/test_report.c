/* test_report.c - reports as table, JSON and HTML: complete, well-formed, and harmless whatever a file calls its
 * tensors. */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/compare.h"
#include "oom.h"
#include "schema.h"
#include "suite.h"
#include "verify/compare_report.h"

/* ---- Helpers ----------------------------------------------------------------------------------------------- */

/* What no file should call its tensors: markup, attributes, styles, terminal escapes, right-to-left marks. */
static const char *const hostile[] = {
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'onclick='alert(1)", "</title></style></svg><b>",
    "&lt;b&gt;", "\x1b[2J\x1b]0;title\x07", "\xe2\x80\xaegnp.exe", "\xc2\x9b;31m", "a\tb\nc", "%s%n%d", "]]>", "-->",
};
enum { HOSTILE = sizeof hostile / sizeof hostile[0] };

static void add(fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim, const int64_t *shape, double value) {
    fdm_tensor *t;
    fdm_error err;
    ck_assert_int_eq(fdm_tensors_add(set, name, dtype, ndim, shape, &t, &err), FDM_OK);
    for (int64_t i = 0; i < fdm_tensor_numel(t); i++) {
        const double x = value + 0.25 * (double)(i % 7);
        if (dtype == FDM_F64) ((double *)t->data)[i] = x;
        else ((float *)t->data)[i] = (float)x;
    }
}

struct example {
    fdm_tensors a, b, truth;
    fdm_comparison comparison;
    struct fdm_report report;
};

/* Tensors of every outcome, many of them with hostile names. */
static void fill_example(struct example *x, int names) {
    const int64_t image[] = {1, 3, 4, 5}, vector[] = {9}, other[] = {1, 4, 5, 3};
    for (int i = 0; i < names; i++) {
        add(&x->a, hostile[i], FDM_F32, 4, image, 1);
        add(&x->b, hostile[i], FDM_F32, 4, image, i % 3 == 0 ? 1.5 : 1);
        add(&x->truth, hostile[i], FDM_F64, 4, image, 1);
    }
    add(&x->a, "shape", FDM_F32, 4, image, 1);
    add(&x->b, "shape", FDM_F32, 4, other, 1);
    add(&x->truth, "shape", FDM_F64, 4, image, 1);
    add(&x->a, "gone", FDM_F32, 1, vector, 1);
    add(&x->b, "new", FDM_F32, 1, vector, 1);
    add(&x->a, "nan", FDM_F32, 1, vector, 1);
    add(&x->b, "nan", FDM_F32, 1, vector, NAN);
    add(&x->truth, "nan", FDM_F64, 1, vector, 1);
    add(&x->a, "scalar", FDM_F32, 0, vector, 1);
    add(&x->b, "scalar", FDM_F32, 0, vector, 2);
    add(&x->truth, "scalar", FDM_F64, 0, vector, 1.25);
}

static bool report_example(struct example *x, bool with_truth, fdm_error *err) {
    const fdm_compare_options o = {.by_truth = with_truth, .threads = 1};
    const fdm_compare_files_args files = {.a = "dir/<a>.npz", .b = "dir/b\x1b[0m.npz", .truth = with_truth ? "t.npz" : NULL};
    const fdm_status status = fdm_compare(&x->comparison, &x->a, &x->b, with_truth ? &x->truth : NULL, &o, err);
    return (status == FDM_OK || status == FDM_MISMATCH) && fdm_compare_report(&x->report, &x->comparison, &files, &o, err) == FDM_OK;
}

static void free_report(struct example *x) {
    fdm_report_free(&x->report);
    fdm_comparison_free(&x->comparison);
}
static void free_example(struct example *x) {
    free_report(x);
    fdm_tensors_free(&x->a);
    fdm_tensors_free(&x->b);
    fdm_tensors_free(&x->truth);
}

/* A report as `fdm verify` makes it: other columns, kinds, formulas, verdicts. */
static void fill_verify_report(struct fdm_report *r) {
    r->tool = "verify";
    r->title = "dump.npz against <model>";
    r->headline = "One module is wrong.";
    r->looks_like = "tf32";
    const int ratio = fdm_report_column(r, "rms_ratio", "RMS ratio", "error / that of emulated tf32", FDM_SHOW_ALL);
    fdm_report_column(r, "max_ratio", "max ratio", "the same of the maximum", FDM_SHOW_ALL);
    fdm_report_column(r, "max_abs", "max abs", "largest error", FDM_SHOW_ALL);
    fdm_report_column(r, "max_ulp", "max ULP", "the same in ULPs", FDM_SHOW_ALL | FDM_COLUMN_INTEGER);
    const int local = fdm_report_column(r, "local_rms", "local RMS", "error with the dump's own inputs", FDM_SHOW_ALL);
    fdm_report_fact_number(r, "sigma", "sigma", 80);
    fdm_report_add_series(r, "dump", local, false);
    fdm_report_add_series(r, "bound", ratio, true);
    fdm_report_note(r, "at sigma = 80 the input is <noise>");
    for (int i = 0; i < 5; i++) {
        struct fdm_report_row *row = fdm_report_add_row(r, fdm_report_text(r, "trace.module%d", i));
        ck_assert_ptr_nonnull(row);
        row->kind = "conv";
        row->verdict = i == 3 ? FDM_VERDICT_FAIL : i == 1 ? FDM_VERDICT_MISTRUSTED : i == 0 ? FDM_VERDICT_SKIPPED : FDM_VERDICT_PASS;
        row->reason = fdm_report_verdict_name(row->verdict);
        row->order = 4 - i;
        row->formula = "3.2e-07 = 4 sqrt(K) u |x| |w|, K = 1152";
        if (i != 0) fdm_report_set(row, local, i == 2 ? 0 : i * 1e-7);
        fdm_report_row_note(r, row, "inherited error & none of its own");
    }
    fdm_report_conclude(r);
}

static char *written(fdm_status (*write)(struct fdm_text *, const struct fdm_report *, fdm_error *), const struct fdm_report *r) {
    struct fdm_text text = {0};
    fdm_error err;
    ck_assert_int_eq(write(&text, r, &err), FDM_OK);
    return text.bytes;
}

/* ---- JSON -------------------------------------------------------------------------------------------------- */

static json_t *parsed(char *text) {
    json_error_t e;
    json_t *json = json_loads(text, 0, &e);
    ck_assert_msg(json != NULL, "line %d: %s", e.line, e.text);
    free(text);
    return json;
}

static json_t *load_schema(void) {
    json_error_t e;
    json_t *schema = json_load_file("src/verify/report.schema.json", 0, &e);
    ck_assert_msg(schema != NULL, "report.schema.json: line %d: %s", e.line, e.text);
    return schema;
}

START_TEST(json_is_as_the_schema_says) {
    json_t *schema = load_schema();
    char why[400];
    for (int with_truth = 0; with_truth < 2; with_truth++) {
        struct example x = {0};
        fdm_error err;
        fill_example(&x, HOSTILE);
        ck_assert(report_example(&x, with_truth, &err));
        json_t *json = parsed(written(fdm_report_json, &x.report));
        ck_assert_msg(schema_accepts(schema, json, why, sizeof why), "%s", why);
        const json_t *tensors = json_object_get(json, "tensors"), *member;
        ck_assert_uint_eq(json_array_size(tensors), HOSTILE + 5);
        ck_assert_str_eq(json_string_value(json_object_get(json, "verdict")), "fail");
        for (size_t i = 0; i < json_array_size(tensors); i++) { /* names come back as they were */
            const json_t *t = json_array_get(tensors, i);
            ck_assert_str_eq(json_string_value(json_object_get(t, "name")), x.comparison.items[i].name);
            if (strcmp(x.comparison.items[i].name, "nan") == 0) ck_assert(json_is_null(json_object_get(t, "max_abs")));
            member = json_object_get(t, "rms_ratio");
            if (!with_truth) ck_assert(json_is_null(member));
        }
        json_decref(json);
        free_example(&x);
    }
    struct fdm_report r = {0};
    fill_verify_report(&r);
    json_t *json = parsed(written(fdm_report_json, &r));
    ck_assert_msg(schema_accepts(schema, json, why, sizeof why), "%s", why);
    ck_assert_str_eq(json_string_value(json_object_get(json, "first_bad")), "trace.module3");
    /* The validator can say no. */
    json_object_set_new(json, "verdict", json_string("maybe"));
    ck_assert(!schema_accepts(schema, json, why, sizeof why));
    json_object_set_new(json, "verdict", json_string("fail"));
    json_object_set_new(json_array_get(json_object_get(json, "tensors"), 0), "max_abs", json_string("0"));
    ck_assert(!schema_accepts(schema, json, why, sizeof why));
    ck_assert_ptr_nonnull(strstr(why, "max_abs"));
    json_object_del(json, "tensors");
    ck_assert(!schema_accepts(schema, json, why, sizeof why));
    json_decref(json);
    json_decref(schema);
    fdm_report_free(&r);
}
END_TEST

START_TEST(text_that_is_no_utf8_is_replaced) {
    struct fdm_report r = {.tool = "compare"};
    fdm_report_column(&r, "max_abs", "max abs", "x", FDM_SHOW_ALL);
    ck_assert_ptr_nonnull(fdm_report_add_row(&r, "a\xff\xc0\x80z"));
    json_t *json = parsed(written(fdm_report_json, &r));
    const json_t *row = json_array_get(json_object_get(json, "tensors"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(row, "name")), "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz");
    json_decref(json);
    char *page = written(fdm_report_html, &r);
    ck_assert_ptr_nonnull(strstr(page, "<bdi>a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz</bdi>"));
    free(page);
    fdm_report_free(&r);
}
END_TEST

/* ---- HTML -------------------------------------------------------------------------------------------------- */

/* Every tag is closed in order, attributes are quoted; only what the writer uses may be there. */
static void check_markup(const char *page) {
    char stack[64][16];
    int depth = 0;
    const char *p = strstr(page, "<html");
    ck_assert_ptr_nonnull(p);
    for (p = strchr(p, '<'); p; p = strchr(p, '<')) {
        char tag[16];
        const bool closing = p[1] == '/';
        int n = 0;
        const char *end = p + 1 + closing;
        while (n < 15 && ((*end >= 'a' && *end <= 'z') || (*end >= '0' && *end <= '9'))) tag[n++] = *end++;
        tag[n] = '\0';
        ck_assert_msg(n > 0, "no tag: %.40s", p);
        while (*end && *end != '>') { /* attributes: name="value" */
            ck_assert_msg(*end != '<' && *end != '\'', "%.60s", p);
            if (*end == '"') end = strchr(end + 1, '"');
            ck_assert_ptr_nonnull(end);
            end++;
        }
        ck_assert(*end == '>');
        if (closing) ck_assert_msg(depth > 0 && strcmp(stack[--depth], tag) == 0, "</%s> closes <%s>", tag, stack[depth]);
        else if (end[-1] != '/' && strcmp(tag, "meta") != 0) {
            ck_assert_int_lt(depth, 64);
            strcpy(stack[depth++], tag);
        }
        p = end;
    }
    ck_assert_int_eq(depth, 0);
}

static void check_harmless(const char *page) {
    const char *const never[] = {"<script", "<img", "<iframe", "<link", "<object", "onerror=\"", "onclick=\"", "javascript:", "http:",
                                 "https:", "url(", "@import", "src=\"", "href", "\x1b", "\xc2\x9b", "\xe2\x80\xae", "<b>'", "onclick='"};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        ck_assert_msg(!strstr(page, never[i]), "the page has %s", never[i]);
    ck_assert_ptr_nonnull(strstr(page, "Content-Security-Policy\" content=\"default-src 'none'"));
}

START_TEST(html_is_whole_and_harmless) {
    for (int with_truth = 0; with_truth < 2; with_truth++) {
        struct example x = {0};
        fdm_error err;
        fill_example(&x, HOSTILE);
        ck_assert(report_example(&x, with_truth, &err));
        char *page = written(fdm_report_html, &x.report);
        check_markup(page);
        check_harmless(page);
        ck_assert_ptr_nonnull(strstr(page, "&lt;script&gt;alert(1)&lt;/script&gt;"));
        ck_assert_ptr_nonnull(strstr(page, ">FAIL</b> &#8211; "));
        ck_assert_ptr_nonnull(strstr(page, "class=\"profile\""));
        ck_assert_ptr_nonnull(strstr(page, "class=\"map\""));
        ck_assert_ptr_nonnull(strstr(page, "NaN or infinite</p>"));
        free(page);
        free_example(&x);
    }
    struct fdm_report r = {0};
    fill_verify_report(&r);
    char *page = written(fdm_report_html, &r);
    check_markup(page);
    check_harmless(page);
    const char *const wanted[] = {"MISTRUSTED", "first: trace.module3", "inherited error &amp; none", "local RMS", "tf32", "&lt;noise&gt;"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) ck_assert_msg(strstr(page, wanted[i]) != NULL, "%s", wanted[i]);
    free(page);
    fdm_report_free(&r);
    struct fdm_report empty = {.tool = "compare"};
    fdm_report_conclude(&empty);
    ck_assert_int_eq(empty.verdict, FDM_VERDICT_FAIL); /* nothing compared is no success */
    page = written(fdm_report_html, &empty);
    check_markup(page);
    free(page);
    fdm_report_free(&empty);
}
END_TEST

/* ---- Table and verdict ------------------------------------------------------------------------------------- */

static char *table(const struct fdm_report *r, bool only_bad, bool details) {
    const struct fdm_report_table_style style = {only_bad, details};
    struct fdm_text text = {0};
    fdm_error err;
    ck_assert_int_eq(fdm_report_table(&text, r, &style, &err), FDM_OK);
    return text.bytes;
}

START_TEST(a_terminal_is_not_obeyed_to_names) {
    struct example x = {0};
    fdm_error err;
    fill_example(&x, HOSTILE);
    ck_assert(report_example(&x, false, &err));
    for (int details = 0; details < 2; details++) {
        char *text = table(&x.report, false, details);
        ck_assert(!strchr(text, 0x1b) && !strchr(text, '\t') && !strstr(text, "\xc2\x9b") && !strstr(text, "\xe2\x80\xae"));
        ck_assert_ptr_nonnull(strstr(text, "fail: "));
        ck_assert(details == (strstr(text, "ULP (F32)") != NULL) && details == (strstr(text, "around [") != NULL));
        free(text);
    }
    free_example(&x);
}
END_TEST

START_TEST(quiet_tables_are_silent_if_all_is_well) {
    struct fdm_report r = {.tool = "verify"};
    const int column = fdm_report_column(&r, "max_abs", "max abs", "x", FDM_SHOW_ALL);
    fdm_report_set(fdm_report_add_row(&r, "fine"), column, 0.5);
    fdm_report_note(&r, "a note");
    fdm_report_conclude(&r);
    char *text = table(&r, true, false);
    ck_assert_str_eq(text, "");
    free(text);
    text = table(&r, false, false);
    ck_assert_str_eq(text, "      tensor    max abs\npass  fine          0.5\na note\npass: 1 of 1 tensors pass\n");
    free(text);
    fdm_report_free(&r);
}
END_TEST

START_TEST(the_verdict_follows_from_the_rows) {
    const struct {
        enum fdm_report_verdict rows[3], want;
    } cases[] = {
        {{FDM_VERDICT_PASS, FDM_VERDICT_PASS, FDM_VERDICT_PASS}, FDM_VERDICT_PASS},
        {{FDM_VERDICT_PASS, FDM_VERDICT_SKIPPED, FDM_VERDICT_PASS}, FDM_VERDICT_PASS},
        {{FDM_VERDICT_SKIPPED, FDM_VERDICT_SKIPPED, FDM_VERDICT_SKIPPED}, FDM_VERDICT_MISTRUSTED},
        {{FDM_VERDICT_PASS, FDM_VERDICT_MISTRUSTED, FDM_VERDICT_PASS}, FDM_VERDICT_MISTRUSTED},
        {{FDM_VERDICT_MISTRUSTED, FDM_VERDICT_FAIL, FDM_VERDICT_PASS}, FDM_VERDICT_FAIL},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct fdm_report r = {.tool = "verify"};
        for (int i = 0; i < 3; i++) fdm_report_add_row(&r, "row")->verdict = cases[k].rows[i];
        fdm_report_conclude(&r);
        ck_assert_int_eq(r.verdict, cases[k].want);
        ck_assert((r.first_bad != NULL) == (r.verdict == FDM_VERDICT_FAIL));
        fdm_report_free(&r);
    }
}
END_TEST

static bool write_all(void *arg) {
    struct example *x = arg;
    const struct fdm_report_table_style style = {.details = true};
    struct fdm_text text = {0};
    fdm_error err;
    bool ok = report_example(x, true, &err);
    if (ok) ok = fdm_report_table(&text, &x->report, &style, &err) == FDM_OK;
    if (ok) ok = fdm_report_html(&text, &x->report, &err) == FDM_OK;
    if (ok) ok = fdm_report_json(&text, &x->report, &err) == FDM_OK;
    fdm_text_free(&text);
    free_report(x);
    return ok;
}

START_TEST(every_allocation_may_fail) {
    struct example x = {0};
    fill_example(&x, 1);
    ck_assert_int_ge(oom_sweep("report", write_all, &x), 0);
    free_example(&x);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("report");
    TCase *writers = tcase_create("writers");
    tcase_add_test(writers, json_is_as_the_schema_says);
    tcase_add_test(writers, text_that_is_no_utf8_is_replaced);
    tcase_add_test(writers, html_is_whole_and_harmless);
    tcase_add_test(writers, a_terminal_is_not_obeyed_to_names);
    tcase_add_test(writers, quiet_tables_are_silent_if_all_is_well);
    tcase_add_test(writers, the_verdict_follows_from_the_rows);
    tcase_add_test(writers, every_allocation_may_fail);
    suite_add_tcase(suite, writers);
    return run_suite(suite);
}
