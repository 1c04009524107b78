/* test_verify.c - right runs pass, wrong ones fail, and the report names the module and the reason. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/safetensors.h"
#include "golden.h"
#include "networks.h"
#include "suite.h"
#include "verify_dumps.h"

#ifdef FDM_POISON /* a sanitizer build: for memory errors a part is enough */
enum { NETWORKS = 2, PRECISIONS = 2, OWN = 1, EVERY_BUG = 4 };
#else
enum { NETWORKS = 1000, PRECISIONS = FDM_FORMAT_COUNT, OWN = 2, EVERY_BUG = 1 };
#endif

/* ---- helpers ---- */

static fdm_status verify(fdm_verify_report *r, const fdm_tensors *model, const fdm_tensors *dump, const fdm_verify_options *o) {
    fdm_verify_options options = o ? *o : (fdm_verify_options){0};
    fdm_error err = {0};
    options.threads = 1;
    *r = (fdm_verify_report){0};
    const fdm_status status = fdm_verify(r, model, "the model", dump, "the dump", &options, &err);
    ck_assert_msg(status == FDM_OK || status == FDM_MISMATCH, "%s", err.message);
    ck_assert((status == FDM_OK) == (r->verdict == FDM_VERIFY_PASS));
    ck_assert((status == FDM_OK) == (err.message[0] == '\0'));
    return status;
}

static const fdm_verify_item *item_of(const fdm_verify_report *r, const char *name) {
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->items[i].name, name) == 0) return &r->items[i];
    ck_abort_msg("%s is not in the report", name);
}

static void print_bad(const fdm_verify_report *r, const char *what) {
    for (size_t i = 0; i < r->count; i++) {
        const fdm_verify_item *t = &r->items[i];
        if (t->verdict == FDM_VERIFY_FAIL)
            printf("%s: %s: %s (RMS ratio %.3g, max ratio %.3g, tolerance %.3g, error %.3g)\n", what, t->name, t->reason,
                   t->local.rms_ratio, t->local.max_ratio, t->tolerance_rms, t->local.rms);
    }
    for (size_t i = 0; i < r->step_count; i++)
        if (r->steps[i].verdict == FDM_VERIFY_FAIL)
            printf("%s: call %d: %.3g, expected %.3g\n", what, r->steps[i].call, r->steps[i].local, r->steps[i].expected);
}

static void passes(const fdm_tensors *model, const fdm_tensors *dump, const fdm_verify_options *o, const char *what, size_t at_least) {
    fdm_verify_report r;
    verify(&r, model, dump, o);
    if (r.verdict != FDM_VERIFY_PASS) print_bad(&r, what);
    ck_assert_msg(r.verdict == FDM_VERIFY_PASS, "%s: %s, first bad %s: %s", what, fdm_verdict_name(r.verdict), r.first_bad, r.diagnosis);
    ck_assert_msg(r.count + r.step_count >= at_least, "%s: only %zu tensors", what, r.count + r.step_count);
    ck_assert(r.first_bad[0] == '\0' && r.diagnosis[0] == '\0' && !r.looks_like_other);
    fdm_verify_report_free(&r);
}

static void load(fdm_tensors *set, const char *name) {
    char file[160];
    snprintf(file, sizeof file, "%s.safetensors", name);
    golden_load(set, file);
}

/* ---- every f32 golden ---- */

START_TEST(golden_networks_pass) {
    struct model_files files;
    model_files_find(&files);
    for (size_t i = 0; i < files.count && i < NETWORKS; i++) {
        fdm_tensors model = {0};
        fdm_error err;
        ck_assert(fdm_safetensors_read(&model, files.paths[i], &err) == FDM_OK);
        passes(&model, &model, NULL, files.paths[i], 5); /* out, F_x, c_in_x, c_noise, emb_noise */
        fdm_tensors_free(&model);
    }
    ck_assert_uint_ge(files.count, 5);
    model_files_free(&files);
}
END_TEST

static void check_golden_pair(const char *dump_name, const char *model_name, size_t at_least, double clamp) {
    const fdm_verify_options o = {.clamp = clamp};
    fdm_tensors model = {0}, dump = {0};
    load(&model, model_name);
    load(&dump, dump_name);
    passes(&model, &dump, &o, dump_name, at_least);
    fdm_tensors_free(&model);
    fdm_tensors_free(&dump);
}

START_TEST(golden_traces_pass) {
    check_golden_pair("trace_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug", "net_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug", 87, 0);
    fdm_tensors model = {0}, dump = {0};
    fdm_error err;
    if (fdm_safetensors_read(&dump, FDM_TEST_GOLDEN_DIR "_extra/trace_skip_skip_f1331.safetensors", &err) == FDM_OK) {
        ck_assert(fdm_safetensors_read(&model, FDM_TEST_GOLDEN_DIR "_extra/net_skip_skip_f1331.safetensors", &err) == FDM_OK);
        passes(&model, &dump, NULL, "trace_skip_skip_f1331", 60);
        fdm_tensors_free(&model);
        fdm_tensors_free(&dump);
    }
}
END_TEST

START_TEST(golden_gradients_pass) {
    check_golden_pair("grad_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", 140, 0);
    check_golden_pair("grad_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug", "net_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug", 140, 5);
}
END_TEST

START_TEST(golden_trajectories_pass) {
    const char *edm = "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug";
    check_golden_pair("sampler_FDM_EDM_edm5", edm, 18, 0);
    printf("SKIP: sampler_FDM_VE_edm5: the weights that it was made with are not among the goldens\n");
    check_golden_pair("sampler_FDM_EDM_dpm2", edm, 2, 0);
    check_golden_pair("sampler_FDM_EDM_churn18", edm, 18, 0);
    check_golden_pair("sampler_FDM_EDM_dpm6", edm, 6, 0);
    check_golden_pair("sampler_FDM_EDM_dpm7", edm, 7, 0);
}
END_TEST

/* ---- our own backends, in every precision ---- */

static const char *const own[] = {"net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "net_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug",
                                  "net_VPPrecond_ddpmpp_tiny_r16_lab"};

START_TEST(each_precision_is_recognised) {
    for (size_t i = 0; i < OWN; i++) {
        fdm_tensors model = {0};
        load(&model, own[i]);
        for (int f = 0; f < PRECISIONS; f++) {
            const char *name = fdm_format_name((fdm_format)f);
            const fdm_verify_options right = {.emulation = fdm_emulation_of((fdm_format)f)};
            fdm_tensors dump = {0};
            fdm_verify_report r;
            make_dump(&dump, &(struct dump_spec){.model = &model, .backend = name, .bug = -1});
            passes(&model, &dump, &right, name, 50);
            if (f != FDM_FORMAT_FP32) { /* taken for fp32: fails, and the report says what it is */
                verify(&r, &model, &dump, NULL);
                ck_assert_msg(r.verdict == FDM_VERIFY_FAIL && r.looks_like_other && r.looks_like == (fdm_format)f, "%s %s: %s", own[i],
                              name, r.diagnosis);
                ck_assert(strstr(r.diagnosis, "not a bug") != NULL);
                fdm_verify_report_free(&r);
            }
            fdm_tensors_free(&dump);
        }
        fdm_tensors_free(&model);
    }
}
END_TEST

START_TEST(our_f32_backend_passes) {
    for (size_t i = 0; i < OWN; i++) {
        fdm_tensors model = {0}, dump = {0};
        load(&model, own[i]);
        make_dump(&dump, &(struct dump_spec){.model = &model, .backend = "auto", .bug = -1});
        passes(&model, &dump, NULL, own[i], 50);
        fdm_tensors_free(&dump);
        fdm_tensors_free(&model);
    }
}
END_TEST

/* ---- planted bugs ---- */

static void check_bug(int bug, const char *backend) {
    const struct planted *p = &planted_bugs[bug];
    fdm_tensors model = {0}, dump = {0}, raw = {0};
    fdm_verify_options o = {0};
    fdm_verify_report r;
    load(&model, p->golden);
    other_weights(&raw, &model);
    if (bug == BUG_STALE_EMA) o.other = &raw;
    make_dump(&dump, &(struct dump_spec){.model = &model, .backend = backend, .bug = bug, .size = 1e-3});
    verify(&r, &model, &dump, &o);
    printf("%-32s %-10s first bad: %-28s %s\n", p->what, fdm_verdict_name(r.verdict), r.first_bad, r.diagnosis);
    if (strcmp(r.first_bad, p->first) != 0) print_bad(&r, p->what);
    ck_assert_msg(r.verdict == FDM_VERIFY_FAIL, "%s went unseen", p->what);
    ck_assert_msg(!r.looks_like_other, "%s is taken for %s", p->what, fdm_format_name(r.looks_like));
    ck_assert_msg(strcmp(r.first_bad, p->first) == 0, "%s: the first bad is %s, reported %s", p->what, p->first, r.first_bad);
    ck_assert_msg(strstr(r.diagnosis, p->words) != NULL, "%s: \"%s\" is not in \"%s\"", p->what, p->words, r.diagnosis);
    fdm_verify_report_free(&r);
    fdm_tensors_free(&dump);
    fdm_tensors_free(&raw);
    fdm_tensors_free(&model);
}

START_TEST(every_planted_bug_is_found) {
    if (_i % EVERY_BUG == 0) check_bug(_i, "auto");
}
END_TEST

/* The smallest relative change of one layer that is found, in f32: printed, and held to a bound. */
START_TEST(detection_power) {
    fdm_tensors model = {0};
    load(&model, planted_bugs[BUG_RELATIVE].golden);
    for (int f = 0; f < PRECISIONS; f += EVERY_BUG) {
        const fdm_verify_options o = {.emulation = fdm_emulation_of((fdm_format)f), .no_diagnosis = true};
        double found = INFINITY;
        for (double size = 64 * fdm_format_unit((fdm_format)f); size > 1e-8; size /= 2) {
            fdm_tensors dump = {0};
            fdm_verify_report r;
            make_dump(&dump, &(struct dump_spec){.model = &model, .backend = fdm_format_name((fdm_format)f), .bug = BUG_RELATIVE, .size = size});
            const bool fails = verify(&r, &model, &dump, &o) == FDM_MISMATCH && strcmp(r.first_bad, planted_bugs[BUG_RELATIVE].first) == 0;
            fdm_verify_report_free(&r);
            fdm_tensors_free(&dump);
            if (!fails) break;
            found = size;
        }
        const double u = fdm_format_unit((fdm_format)f);
        printf("%s: a relative change of %.2g in one convolution is found (%.3g u)\n", fdm_format_name((fdm_format)f), found, found / u);
        ck_assert_msg(found <= 32 * u, "%s: only %g is found", fdm_format_name((fdm_format)f), found);
    }
    fdm_tensors_free(&model);
}
END_TEST

/* ---- what is wrong with the file itself ---- */

static fdm_tensor *tensor_of(fdm_tensors *set, const char *name) {
    fdm_tensor *t = fdm_tensors_find(set, name);
    ck_assert_msg(t != NULL, "%s", name);
    return t;
}

static void fails_with(const fdm_tensors *model, fdm_tensors *dump, const char *name, const char *first, const char *words) {
    fdm_verify_report r;
    ck_assert(verify(&r, model, dump, NULL) == FDM_MISMATCH);
    const fdm_verify_item *item = item_of(&r, name);
    ck_assert_msg(item->verdict == FDM_VERIFY_FAIL && strstr(item->reason, words), "%s: %s \"%s\"", name, fdm_verdict_name(item->verdict),
                  item->reason);
    ck_assert_str_eq(r.first_bad, first);
    fdm_verify_report_free(&r);
    fdm_tensors_free(dump);
}

START_TEST(wrong_files_are_told_apart) {
    const char *conv = "trace.model.enc.8x8_block0.conv0", *module = "model.enc.8x8_block0.conv0";
    fdm_tensors model = {0}, dump = {0};
    load(&model, own[0]);
    const struct dump_spec spec = {.model = &model, .backend = "auto", .bug = -1};

    make_dump(&dump, &spec); /* NaN, and infinity */
    ((float *)tensor_of(&dump, conv)->data)[7] = NAN;
    fails_with(&model, &dump, conv, module, "NaN");
    make_dump(&dump, &spec);
    ((float *)tensor_of(&dump, "out")->data)[0] = -INFINITY;
    fails_with(&model, &dump, "out", "self", "infinite");

    make_dump(&dump, &spec); /* a shape */
    tensor_of(&dump, conv)->shape[1] /= 2;
    tensor_of(&dump, conv)->shape[2] *= 2;
    fails_with(&model, &dump, conv, module, "shape");

    make_dump(&dump, &spec); /* NHWC, with its shape: the values are right once permuted */
    fdm_tensor *t = tensor_of(&dump, conv);
    const int64_t n = t->shape[0], c = t->shape[1], plane = t->shape[2] * t->shape[3];
    float *copy = malloc(t->nbytes);
    memcpy(copy, t->data, t->nbytes);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < plane; p++) ((float *)t->data)[(i * plane + p) * c + k] = copy[(i * c + k) * plane + p];
    const int64_t h = t->shape[2], w = t->shape[3];
    t->shape[1] = h, t->shape[2] = w, t->shape[3] = c;
    fails_with(&model, &dump, conv, module, "match the truth once permuted");

    make_dump(&dump, &spec); /* the same without: memory as it lies */
    t = tensor_of(&dump, conv);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < plane; p++) ((float *)t->data)[(i * plane + p) * c + k] = copy[(i * c + k) * plane + p];
    fdm_verify_report r;
    ck_assert(verify(&r, &model, &dump, NULL) == FDM_MISMATCH);
    ck_assert_msg(strstr(r.diagnosis, "NHWC") && strcmp(r.first_bad, module) == 0, "%s", r.diagnosis);
    fdm_verify_report_free(&r);
    fdm_tensors_free(&dump);
    free(copy);

    make_dump(&dump, &spec); /* a name */
    fdm_error err;
    const int64_t shape[] = {1, 2, 3, 4};
    ck_assert(fdm_tensors_add(&dump, "trace.model.enc.8x8_block0.conv7", FDM_F32, 4, shape, NULL, &err) == FDM_OK);
    fails_with(&model, &dump, "trace.model.enc.8x8_block0.conv7", "model.enc.8x8_block0.conv7", "no module");

    make_dump(&dump, &spec); /* a dtype */
    t = tensor_of(&dump, conv);
    t->dtype = FDM_I32;
    fails_with(&model, &dump, conv, module, "dtype");
    fdm_tensors_free(&model);
}
END_TEST

/* At sigma 80 FDM's network input has RMS 3e-6: errors of x and c_in cannot be seen, and the verdict says so. */
START_TEST(blind_tests_are_mistrusted) {
    fdm_tensors model = {0}, dump = {0};
    fdm_verify_report r;
    load(&model, own[0]);
    make_dump(&dump, &(struct dump_spec){.model = &model, .backend = "auto", .bug = -1, .sigma = 80});
    ck_assert(verify(&r, &model, &dump, NULL) == FDM_MISMATCH);
    ck_assert_msg(r.verdict == FDM_VERIFY_MISTRUSTED, "%s", fdm_verdict_name(r.verdict));
    ck_assert_msg(strstr(r.remark, "sigma between") != NULL, "%s", r.remark);
    ck_assert(item_of(&r, "F_x")->verdict == FDM_VERIFY_MISTRUSTED && item_of(&r, "F_x")->blind);
    fdm_verify_report_free(&r);
    fdm_tensors_free(&dump);
    fdm_tensors_free(&model);
}
END_TEST

/* Hooks on the network inside or on a wrapper give other prefixes; an in-place sum is told from a wrong layer. */
START_TEST(names_and_hooks) {
    fdm_tensors model = {0}, dump = {0}, renamed = {0};
    fdm_error err;
    fdm_verify_report r;
    load(&model, own[0]);
    make_dump(&dump, &(struct dump_spec){.model = &model, .backend = "auto", .bug = -1});
    for (size_t i = 0; i < dump.count; i++) {
        const fdm_tensor *t = &dump.items[i];
        char name[200];
        const bool inner = strncmp(t->name, "trace.model.", 12) == 0;
        snprintf(name, sizeof name, "%s%s", inner ? "trace.module.": "", inner ? t->name + 12 : t->name);
        ck_assert(fdm_tensors_add_borrowed(&renamed, name, t->dtype, t->ndim, t->shape, t->data, NULL, &err) == FDM_OK);
    }
    passes(&model, &renamed, NULL, "renamed", 50);
    const fdm_tensor *affine = tensor_of(&dump, "trace.model.enc.8x8_block0.affine");
    fdm_tensor *conv0 = tensor_of(&dump, "trace.model.enc.8x8_block0.conv0");
    const int64_t plane = conv0->shape[2] * conv0->shape[3];
    for (int64_t i = 0; i < fdm_tensor_numel(conv0); i++) ((float *)conv0->data)[i] += ((const float *)affine->data)[i / plane];
    ck_assert(verify(&r, &model, &dump, NULL) == FDM_MISMATCH);
    ck_assert_str_eq(r.first_bad, "model.enc.8x8_block0.conv0");
    printf("%s\n", r.diagnosis);
    fdm_verify_report_free(&r);
    fdm_tensors_free(&renamed);
    fdm_tensors_free(&dump);
    fdm_tensors_free(&model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("verify");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, golden_networks_pass);
    tcase_add_test(tcase, golden_traces_pass);
    tcase_add_test(tcase, golden_gradients_pass);
    tcase_add_test(tcase, golden_trajectories_pass);
    tcase_add_test(tcase, each_precision_is_recognised);
    tcase_add_test(tcase, our_f32_backend_passes);
    tcase_add_loop_test(tcase, every_planted_bug_is_found, 0, BUG_COUNT);
    tcase_add_test(tcase, detection_power);
    tcase_add_test(tcase, wrong_files_are_told_apart);
    tcase_add_test(tcase, blind_tests_are_mistrusted);
    tcase_add_test(tcase, names_and_hooks);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
