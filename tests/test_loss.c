/* test_loss.c - noise levels, weights and warm-up of the objective, and the schedules of a run. */
#include <check.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/loss.h"
#include "fdm/train_schedule.h"
#include "golden.h"
#include "io_util.h"
#include "oom.h"
#include "suite.h"

/* PyTorch's f32 exp, pow and log are within an ulp of correctly rounded ones; sigma enters a weight squared. */
#define TOL_F32 4e-7

static fdm_loss loss_of(fdm_precond_kind kind) {
    fdm_loss loss;
    fdm_error err;
    ck_assert_msg(fdm_loss_init(&loss, kind, &err) == FDM_OK, "%s", err.message);
    return loss;
}

/* Worst relative error of sigma from `random`, and of the weight of the golden's sigma. */
static void check_sigmas(const fdm_loss *loss, const fdm_tensor *random, const fdm_tensor *sigma,
                         const fdm_tensor *weight, double limit, double worst[2]) {
    for (int64_t i = 0; i < fdm_tensor_numel(random); i++) {
        const double r = fdm_tensor_get(random, i), s = fdm_tensor_get(sigma, i);
        const double got = fdm_loss_sigma(loss, r, FDM_F32), error = fabs(got - s) / s;
        ck_assert_msg(error <= TOL_F32, "%s: sigma of %.9g is %.9g, not %.9g", sigma->name, r, got, s);
        ck_assert_double_eq(got, (double)(float)got);
        worst[0] = fmax(worst[0], error);
        /* the truth is as near as f32 lets it be: VP subtracts 1 from exp(B), half an ulp of which is 6e-8 */
        const bool vp = loss->kind == FDM_PRECOND_VP || loss->kind == FDM_PRECOND_FDM_VP;
        ck_assert_double_eq_tol(fdm_loss_sigma(loss, r, FDM_F64) / got, 1, 2e-6 + (vp ? 1.2e-7 / (s * s) : 0));
        if (!weight) continue;
        const double w = fdm_tensor_get(weight, i);
        const double clamped = fdm_loss_clamp(fdm_loss_weight(loss, s, FDM_F32), limit, FDM_F32);
        const double weight_error = fabs(clamped - w) / w;
        ck_assert_msg(weight_error <= TOL_F32, "%s: weight of %.9g is %.9g, not %.9g", weight->name, s, clamped, w);
        ck_assert_double_eq_tol(fdm_loss_weight(loss, s, FDM_F64) / fdm_loss_weight(loss, s, FDM_F32), 1, 1e-6);
        worst[1] = fmax(worst[1], weight_error);
    }
}

START_TEST(sigmas_and_weights) {
    static const struct {
        const char *name, *random;
        fdm_precond_kind kinds[2];
    } cases[] = {{"VP", "rand", {FDM_PRECOND_VP, FDM_PRECOND_FDM_VP}},
                 {"VE", "rand", {FDM_PRECOND_VE, FDM_PRECOND_FDM_VE}},
                 {"EDM", "randn", {FDM_PRECOND_EDM, FDM_PRECOND_FDM_EDM}}};
    fdm_tensors set;
    char name[64];
    golden_load(&set, "kernel_values.safetensors");
    for (int c = 0; c < 3; c++) {
        double worst[2] = {0};
        const fdm_tensor *random = golden_get(&set, "loss.", cases[c].random);
        snprintf(name, sizeof name, "loss.%s_", cases[c].name);
        for (int k = 0; k < 2; k++) {
            const fdm_loss loss = loss_of(cases[c].kinds[k]);
            ck_assert_int_eq(fdm_loss_wants_normal(&loss), c == 2);
            check_sigmas(&loss, random, golden_get(&set, name, "sigma"), golden_get(&set, name, "weight"), INFINITY,
                         worst);
        }
        printf("  %s: sigma within %.2g, weight within %.2g (relative)\n", cases[c].name, worst[0], worst[1]);
    }
    fdm_tensors_free(&set);
}
END_TEST

/* The recorded loss calls: sigma from rnd, and the weight clamped by the warm-up where one is recorded. */
START_TEST(recorded_calls) {
    static const struct {
        const char *file;
        fdm_precond_kind kind;
        double clamp;
    } grads[] = {{"grad_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors", FDM_PRECOND_FDM_EDM, 12.5},
                 {"grad_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug.safetensors", FDM_PRECOND_FDM_VE, 5.0}};
    static const struct {
        const char *file;
        fdm_precond_kind kind;
    } runs[] = {{"train_FDM_EDMPrecond_ddpmpp_mc8.safetensors", FDM_PRECOND_FDM_EDM},
                {"train_VPPrecond_ddpmpp_mc8.safetensors", FDM_PRECOND_VP}};
    double worst[2] = {0};
    fdm_tensors set;
    for (int i = 0; i < 2; i++) {
        const fdm_loss loss = loss_of(grads[i].kind);
        golden_load(&set, grads[i].file);
        check_sigmas(&loss, golden_get(&set, "", "rnd"), golden_get(&set, "", "sigma"), golden_get(&set, "", "weight"),
                     grads[i].clamp, worst);
        fdm_tensors_free(&set);
    }
    for (int i = 0; i < 2; i++) {
        const fdm_loss loss = loss_of(runs[i].kind);
        golden_load(&set, runs[i].file);
        for (int step = 1; step <= 5; step++) {
            char prefix[16];
            snprintf(prefix, sizeof prefix, "s%d.r1.", step);
            check_sigmas(&loss, golden_get(&set, prefix, "rnd"), golden_get(&set, prefix, "sigma"), NULL, INFINITY,
                         worst);
        }
        fdm_tensors_free(&set);
    }
    printf("  recorded calls: sigma within %.2g, clamped weight within %.2g (relative)\n", worst[0], worst[1]);
}
END_TEST

START_TEST(warmup_call_by_call) {
    static const char *const lengths[] = {"3", "10", "200", "400", "2500", "100000", "0.5"};
    fdm_tensors set;
    fdm_error err;
    double worst = 0;
    golden_load(&set, "kernel_warmup.safetensors");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char prefix[64];
        fdm_warmup warmup;
        snprintf(prefix, sizeof prefix, "warmup_%s.", lengths[i]);
        ck_assert_int_eq(fdm_warmup_init(&warmup, strtod(lengths[i], NULL), &err), FDM_OK);
        const fdm_tensor *clamps = golden_get(&set, prefix, "clamps_first5000");
        const int64_t calls = (int64_t)fdm_tensor_get(golden_get(&set, prefix, "number_of_clamped_calls"), 0);
        ck_assert_double_eq_tol(warmup.factor / fdm_tensor_get(golden_get(&set, prefix, "step"), 0), 1, 1e-15);
        for (int64_t k = 0; k < calls; k++) {
            const double limit = fdm_warmup_next(&warmup);
            ck_assert_msg(limit < 500, "W = %s: call %" PRId64 " is not clamped", lengths[i], k);
            if (k >= fdm_tensor_numel(clamps)) continue;
            const double want = fdm_tensor_get(clamps, k), error = fabs(limit - want) / want;
            ck_assert_msg(error <= 1e-12, "W = %s: call %" PRId64 ": %.17g, not %.17g", lengths[i], k, limit, want);
            worst = fmax(worst, error);
        }
        const double last = fdm_tensor_get(golden_get(&set, prefix, "final_clamp_cur"), 0);
        ck_assert_double_eq_tol(warmup.value / last, 1, 1e-12);
        for (int k = 0; k < 3; k++) ck_assert(isinf(fdm_warmup_next(&warmup)));
        ck_assert_double_eq_tol(warmup.value / last, 1, 1e-12); /* and it stands still */
    }
    printf("  warm-up: %zu lengths, clamped calls exact, limits within %.2g\n", sizeof lengths / sizeof *lengths,
           worst);
    fdm_tensors_free(&set);
}
END_TEST

START_TEST(warmup_state_and_refusals) {
    fdm_warmup a, b;
    fdm_error err;
    ck_assert_int_eq(fdm_warmup_init(&a, 200, &err), FDM_OK);
    for (int k = 0; k < 77; k++) fdm_warmup_next(&a);
    b = a; /* saved and restored: both fields */
    for (int k = 0; k < 200; k++) {
        const double x = fdm_warmup_next(&a), y = fdm_warmup_next(&b);
        ck_assert(memcmp(&x, &y, sizeof x) == 0);
    }
    const double bad[] = {0, -1, NAN, INFINITY, 1e-9};
    for (int i = 0; i < 5; i++) check_refused(fdm_warmup_init(&a, bad[i], &err), FDM_BAD_USAGE, &err, "warmup_ite");
    fdm_warmup_none(&a);
    ck_assert(isinf(fdm_warmup_next(&a)) && isinf(fdm_warmup_next(&a)));
    ck_assert_double_eq(fdm_loss_clamp(7, 5, FDM_F64), 5);
    ck_assert_double_eq(fdm_loss_clamp(3, 5, FDM_F64), 3);
    ck_assert_double_eq(fdm_loss_clamp(7, 5.1164649614037705, FDM_F32), (double)5.1164649614037705f);
    ck_assert(isnan(fdm_loss_clamp(NAN, 5, FDM_F32)));
    fdm_loss loss;
    check_refused(fdm_loss_init(&loss, FDM_PRECOND_COUNT, &err), FDM_BAD_USAGE, &err, "6");
}
END_TEST

/* Rounds of a power of two, summed alike, give the bits of the whole batch; the tree is the documented one. */
START_TEST(totals) {
    double losses[13], rounds[4];
    for (int i = 0; i < 13; i++) losses[i] = 1 / (3.0 + i);
    ck_assert_double_eq(fdm_loss_total(losses, 0), 0);
    ck_assert_double_eq(fdm_loss_total(losses, 1), losses[0]);
    const double five = ((losses[0] + losses[1]) + (losses[2] + losses[3])) + losses[4];
    ck_assert_double_eq(fdm_loss_total(losses, 5), five);
    for (int i = 0; i < 4; i++) rounds[i] = fdm_loss_total(losses + 4 * i, i < 3 ? 4 : 1);
    ck_assert_double_eq(fdm_loss_total(rounds, 4), fdm_loss_total(losses, 13));
}
END_TEST

static json_t *json_meta(const fdm_tensors *set, const char *key) {
    const char *text = fdm_tensors_meta(set, key);
    ck_assert_msg(text != NULL, "no metadata %s", key);
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    ck_assert_ptr_nonnull(json);
    return json;
}

/* A number of the `loop` object; `otherwise` where it is missing, -1 (no ramp) where it is null. */
static double loop_number(const json_t *loop, const char *key, double otherwise) {
    const json_t *value = json_object_get(loop, key);
    if (!value) return otherwise;
    return json_is_null(value) ? -1 : json_number_value(value);
}

START_TEST(schedules) {
    static const char *const files[] = {"train_FDM_EDMPrecond_ddpmpp_mc8.safetensors",
                                        "train_VPPrecond_ddpmpp_mc8.safetensors"};
    double worst = 0;
    for (int f = 0; f < 2; f++) {
        fdm_tensors set;
        golden_load(&set, files[f]);
        json_t *loop = json_meta(&set, "loop"), *lrs = json_meta(&set, "per_step_lr");
        json_t *decays = json_meta(&set, "per_step_ema_beta"), *lr0 = json_meta(&set, "lr");
        const int64_t batch = json_integer_value(json_object_get(loop, "batch_size"));
        ck_assert_uint_eq(json_array_size(lrs), 5);
        for (size_t i = 0; i < 5; i++) {
            const int64_t nimg = (int64_t)i * batch;
            const double lr = fdm_lr_at(json_number_value(lr0), loop_number(loop, "lr_rampup_kimg", 10000), nimg);
            const double decay = fdm_ema_decay_at(loop_number(loop, "ema_halflife_kimg", 500),
                                                  loop_number(loop, "ema_rampup_ratio", 0.05), nimg, batch);
            const double want_lr = strtod(json_string_value(json_array_get(lrs, i)), NULL);
            const double want_decay = strtod(json_string_value(json_array_get(decays, i)), NULL);
            ck_assert(fabs(lr - want_lr) <= 1e-15 * want_lr);
            ck_assert_double_eq_tol(decay, want_decay, 1e-15);
            worst = fmax(worst, fmax(fabs(lr - want_lr), fabs(decay - want_decay)));
        }
        json_decref(loop), json_decref(lrs), json_decref(decays), json_decref(lr0);
        fdm_tensors_free(&set);
    }
    printf("  schedules: learning rate and decay within %.2g\n", worst);
    ck_assert_double_eq(fdm_lr_at(1e-3, 10000, 5000000), 5e-4);
    ck_assert_double_eq(fdm_lr_at(1e-3, 10000, 100000000), 1e-3);
    ck_assert_double_eq(fdm_ema_decay_at(500, 0.05, 20000000, 512), pow(0.5, 512.0 / 500000));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("loss");
    TCase *tc = tcase_create("loss");
    tcase_add_test(tc, sigmas_and_weights);
    tcase_add_test(tc, recorded_calls);
    tcase_add_test(tc, warmup_call_by_call);
    tcase_add_test(tc, warmup_state_and_refusals);
    tcase_add_test(tc, totals);
    tcase_add_test(tc, schedules);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
