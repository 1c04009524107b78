/* test_trainer.c - updates of a training run: saved and resumed, in rounds, with NaN among the images; settings. */
#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/init.h"
#include "fdm/safetensors.h"
#include "fdm/train.h"
#include "fdm/trainer.h"
#include "io_util.h"
#include "trainers.h"

static const struct runner portable = {"portable", "auto", "portable", true, NULL}, best = {"best", "auto", NULL, true, NULL},
                           reference = {"reference", "reference", NULL, false, NULL};

static fdm_update_report one_update(fdm_trainer *t, const struct train_batch *b, int size) {
    fdm_update_report report = {0};
    fdm_error err = {0};
    for (int first = 0; first < BATCH; first += size) {
        const fdm_gradient_args args = batch_part(b, first, size);
        ck_assert_msg(fdm_trainer_round(t, &args, NULL, &err) == FDM_OK, "%s", err.message);
    }
    ck_assert_msg(fdm_trainer_update(t, &report, &err) == FDM_OK, "%s", err.message);
    return report;
}

/* Updates number fdm_trainer_updates() .. last-1 of the same endless sequence of batches. */
static void train_to(fdm_trainer *t, int64_t last, int size) {
    while (fdm_trainer_updates(t) < last) {
        const struct train_batch b = make_train_batch(fdm_trainer_updates(t));
        (void)one_update(t, &b, size);
    }
}

/* ---- updates ---- */

START_TEST(updates_count) {
    const fdm_trainer_options o = small_options();
    fdm_trainer *t = make_trainer(&o, &best, 1);
    const size_t count = fdm_gradient_size(fdm_trainer_gradient(t)), bytes = count * sizeof(float);
    const float *values = fdm_gradient_values(fdm_trainer_gradient(t)), *ema = fdm_trainer_ema(t);
    float *first = malloc(bytes);
    memcpy(first, values, bytes);
    ck_assert_int_eq(memcmp(values, ema, bytes), 0);
    struct train_batch b = make_train_batch(0);
    fdm_update_report r = one_update(t, &b, BATCH);
    ck_assert_double_eq(r.lr, 0); /* before the first image the ramp is at 0 */
    for (size_t i = 0; i < count; i++) ck_assert_float_eq(values[i], first[i]); /* of value: -0 becomes 0 */
    ck_assert_int_eq(fdm_trainer_images(t), BATCH);
    ck_assert_int_eq(fdm_trainer_updates(t), 1);
    b = make_train_batch(1);
    r = one_update(t, &b, BATCH);
    ck_assert_double_eq_tol(r.lr, 1e-3 * BATCH / 10, 1e-12);
    ck_assert_int_eq(r.cleaned, 0);
    ck_assert_int_ne(memcmp(values, first, bytes), 0);
    ck_assert_int_ne(memcmp(values, ema, bytes), 0);
    ck_assert_int_eq(fdm_trainer_images(t), 2 * BATCH);
    fdm_trainer_free(&t);
    ck_assert_ptr_null(t);
    free(first);
}
END_TEST

START_TEST(same_bits_however_it_is_done) {
    struct runner list[MAX_RUNNERS];
    const int count = runners(list);
    const fdm_trainer_options o = small_options();
    for (int start = 0; start < 2; start++) { /* the reference with itself, every f32 backend with the others */
        fdm_trainer *first = NULL;
        for (int k = start; k < (start ? count : 1); k++)
            for (int size = 1; size <= BATCH; size *= 2) {
                char what[64];
                fdm_trainer *t = make_trainer(&o, &list[k], 1 + size % 3);
                snprintf(what, sizeof what, "%s, rounds of %d", list[k].label, size);
                train_to(t, 3, size);
                if (first) check_same_trainers(first, t, what);
                if (first) fdm_trainer_free(&t);
                else first = t;
            }
        fdm_trainer_free(&first);
    }
}
END_TEST

static bool always(void *unused) {
    (void)unused;
    return true;
}

START_TEST(rounds_that_do_not_fit) {
    fdm_trainer_options o = small_options();
    o.warmup_ite = 5;
    fdm_trainer *t = make_trainer(&o, &best, 1), *plain = make_trainer(&o, &best, 1);
    const struct train_batch b = make_train_batch(0);
    double weight[BATCH];
    fdm_error err = {0};
    fdm_gradient_args args = batch_part(&b, 0, BATCH);
    check_refused(fdm_trainer_update(t, NULL, &err), FDM_BAD_USAGE, &err, "the rounds make 0 of 8");
    args.n = BATCH + 1;
    check_refused(fdm_trainer_round(t, &args, weight, &err), FDM_BAD_USAGE, &err, "does not fit a batch of 8");
    args.n = 0;
    check_refused(fdm_trainer_round(t, &args, weight, &err), FDM_BAD_USAGE, &err, "does not fit a batch of 8");
    args.n = 4;
    ck_assert_int_eq(fdm_trainer_round(t, &args, weight, &err), FDM_OK);
    ck_assert_double_eq(fmax(fmax(weight[0], weight[1]), fmax(weight[2], weight[3])), 5); /* the warm-up's first limit */
    args = batch_part(&b, 4, 4);
    args.n = 5;
    check_refused(fdm_trainer_round(t, &args, weight, &err), FDM_BAD_USAGE, &err, "5 samples after 4");
    check_refused(fdm_trainer_update(t, NULL, &err), FDM_BAD_USAGE, &err, "the rounds make 4 of 8");
    /* Refused, stopped: the update and the warm-up are as before. */
    const double limit = fdm_trainer_warmup(t)->value;
    args.n = 4;
    args.stop = always;
    check_refused(fdm_trainer_round(t, &args, weight, &err), FDM_INTERRUPTED, &err, NULL);
    args.stop = NULL;
    args.dropout = 2;
    check_refused(fdm_trainer_round(t, &args, weight, &err), FDM_BAD_USAGE, &err, "dropout");
    args.dropout = 0.2;
    args.dropout_keys = NULL;
    check_refused(fdm_trainer_round(t, &args, weight, &err), FDM_BAD_USAGE, &err, "key");
    ck_assert_double_eq(fdm_trainer_warmup(t)->value, limit);
    args = batch_part(&b, 4, 4);
    ck_assert_int_eq(fdm_trainer_round(t, &args, weight, &err), FDM_OK);
    ck_assert_int_eq(fdm_trainer_update(t, NULL, &err), FDM_OK);
    (void)one_update(plain, &b, 4);
    check_same_trainers(plain, t, "after refusals");
    ck_assert_double_gt(fdm_trainer_warmup(t)->value, limit);
    fdm_trainer_free(&plain);
    fdm_trainer_free(&t);
}
END_TEST

START_TEST(nan_is_cleaned) {
    const struct runner *list[] = {&reference, &best, &portable};
    for (size_t k = 0; k < 3; k++) {
        const fdm_trainer_options o = small_options();
        fdm_trainer *t = make_trainer(&o, list[k], 2);
        train_to(t, 2, BATCH);
        struct train_batch b = make_train_batch(2);
        b.y[192 * 3 + 5] = (double)NAN;
        b.noise[192 * 6] = (double)INFINITY;
        const fdm_update_report r = one_update(t, &b, 4);
        const size_t count = fdm_gradient_size(fdm_trainer_gradient(t));
        printf("NaN and infinity among the images, %s: %" PRId64 " of %zu elements of the gradient cleaned\n", list[k]->label,
               r.cleaned, count);
        ck_assert_int_gt(r.cleaned, (int64_t)count / 2);
        train_to(t, 4, BATCH);
        const float *values = fdm_gradient_values(fdm_trainer_gradient(t)), *ema = fdm_trainer_ema(t);
        for (size_t i = 0; i < count; i++)
            ck_assert_msg(isfinite(values[i]) && isfinite(ema[i]), "element %zu is %g, averaged %g", i, (double)values[i],
                          (double)ema[i]);
        fdm_trainer_free(&t);
    }
}
END_TEST

/* A parameter without a gradient stays where it is, in every update. */
START_TEST(unreached_parameters_stay) {
    const struct runner *list[] = {&reference, &best};
    for (size_t k = 0; k < 2; k++) {
        fdm_trainer_options o = small_options();
        o.loss_scaling = 1e12; /* large gradients: whatever is left of them in memory shows */
        fdm_trainer *t = make_trainer(&o, list[k], 1);
        fdm_gradient *g = fdm_trainer_gradient(t);
        fdm_parameter_info p = {0};
        for (int i = 0; i < fdm_gradient_parameter_count(g); i++)
            if (strstr(fdm_gradient_parameter(g, i).name, "map_augment")) p = fdm_gradient_parameter(g, i);
        ck_assert_uint_gt(p.count, 0);
        float *before = copy_bytes(fdm_gradient_values(g) + p.offset, p.count * sizeof *before);
        for (int64_t u = 0; u < 4; u++) {
            const struct train_batch b = make_train_batch(u);
            for (int first = 0; first < BATCH; first += 4) {
                fdm_gradient_args args = batch_part(&b, first, 4);
                args.augment_labels = NULL;
                ck_assert_int_eq(fdm_trainer_round(t, &args, NULL, NULL), FDM_OK);
            }
            ck_assert_int_eq(fdm_trainer_update(t, NULL, NULL), FDM_OK);
        }
        ck_assert_msg(memcmp(before, fdm_gradient_values(g) + p.offset, p.count * sizeof *before) == 0, "%s: %s has moved",
                      list[k]->label, p.name);
        free(before);
        fdm_trainer_free(&t);
    }
}
END_TEST

/* ---- state ---- */

START_TEST(saved_and_restored) {
    struct runner list[MAX_RUNNERS];
    const int count = runners(list);
    fdm_trainer_options o = small_options();
    o.warmup_ite = 6;
    for (int k = 0; k < count; k++) {
        const fdm_run_options run = {.backend = list[k].backend, .isa = list[k].isa, .threads = 2};
        fdm_trainer *whole = make_trainer(&o, &list[k], 1), *stopped = make_trainer(&o, &list[k], 1), *resumed;
        fdm_tensors state = {0}, file = {0};
        fdm_error err = {0};
        train_to(whole, 5, 4);
        train_to(stopped, 2, 4);
        ck_assert_int_eq(fdm_trainer_save(stopped, &state, &err), FDM_OK);
        const char *path = scratch("state.safetensors");
        ck_assert_msg(fdm_safetensors_write(&state, path, &err) == FDM_OK, "%s", err.message);
        fdm_tensors_free(&state);
        ck_assert_msg(fdm_safetensors_read(&file, path, &err) == FDM_OK, "%s", err.message);
        ck_assert_msg(fdm_trainer_restore(&resumed, &file, path, &o, &run, &err) == FDM_OK, "%s", err.message);
        fdm_tensors_free(&file);
        check_same_trainers(stopped, resumed, "restored");
        ck_assert_double_eq(fdm_trainer_warmup(stopped)->value, fdm_trainer_warmup(resumed)->value);
        train_to(resumed, 5, 4);
        check_same_trainers(whole, resumed, list[k].label);
        ck_assert_int_eq(fdm_trainer_images(resumed), 5 * BATCH);
        fdm_trainer_free(&whole);
        fdm_trainer_free(&stopped);
        fdm_trainer_free(&resumed);
    }
}
END_TEST

enum kind { DROP, SHORTER, TYPE, FIRST, META };
static const struct {
    enum kind kind;
    const char *name;
    double value; /* FIRST */
    const char *text, *mention;
} harms[] = {
    {DROP, "net.model.map_layer0.weight", 0, NULL, "model.map_layer0.weight"},
    {DROP, "ema.model.map_layer0.weight", 0, NULL, "tensor ema.model.map_layer0.weight is missing"},
    {DROP, "adam_m.model.map_layer0.weight", 0, NULL, "tensor adam_m.model.map_layer0.weight is missing"},
    {DROP, "adam_v.model.dec.8x8_aux_conv.bias", 0, NULL, "tensor adam_v.model.dec.8x8_aux_conv.bias is missing"},
    {DROP, "trainer.counters", 0, NULL, "tensor trainer.counters is missing"},
    {DROP, "trainer.warmup", 0, NULL, "tensor trainer.warmup is missing"},
    {SHORTER, "net.model.map_layer0.weight", 0, NULL, "model.map_layer0.weight"},
    {SHORTER, "ema.model.map_layer0.weight", 0, NULL, "tensor ema.model.map_layer0.weight is F32"},
    {SHORTER, "adam_v.model.map_layer0.bias", 0, NULL, "tensor adam_v.model.map_layer0.bias is F32"},
    {SHORTER, "trainer.counters", 0, NULL, "tensor trainer.counters is I64[1] instead of I64[2]"},
    {TYPE, "ema.model.map_layer0.weight", 0, NULL, "tensor ema.model.map_layer0.weight is I32"},
    {TYPE, "trainer.warmup", 0, NULL, "tensor trainer.warmup is I32"},
    {FIRST, "trainer.counters", -1, NULL, "trainer.counters"},
    {FIRST, "trainer.warmup", 0, NULL, "trainer.warmup"},
    {FIRST, "trainer.warmup", (double)NAN, NULL, "trainer.warmup"},
    {FIRST, "net.model.map_layer0.weight", (double)NAN, NULL, "model.map_layer0.weight"},
    {META, "config", 0, "{", "config"},
    {META, "config", 0, "{}", "state"},
};

START_TEST(malformed_states) {
    const fdm_trainer_options o = small_options();
    const fdm_run_options run = {.threads = 1};
    fdm_trainer *t = make_trainer(&o, &best, 1), *restored;
    fdm_tensors state = {0};
    ck_assert_int_eq(fdm_trainer_save(t, &state, NULL), FDM_OK);
    for (size_t i = 0; i < sizeof harms / sizeof harms[0]; i++) {
        fdm_tensors set = {0};
        fdm_error err = {0};
        bool found = harms[i].kind == META;
        ck_assert_int_eq(fdm_tensors_set_meta(&set, "config", fdm_tensors_meta(&state, "config"), NULL), FDM_OK);
        if (harms[i].kind == META) ck_assert_int_eq(fdm_tensors_set_meta(&set, harms[i].name, harms[i].text, NULL), FDM_OK);
        for (size_t k = 0; k < state.count; k++) {
            const fdm_tensor *from = &state.items[k];
            fdm_tensor *to;
            int64_t shape[FDM_MAX_NDIM];
            const bool this = strcmp(from->name, harms[i].name) == 0;
            found = found || this;
            if (this && harms[i].kind == DROP) continue;
            memcpy(shape, from->shape, sizeof shape);
            if (this && harms[i].kind == SHORTER) shape[0]--;
            const fdm_dtype dtype = this && harms[i].kind == TYPE ? FDM_I32 : from->dtype;
            ck_assert_int_eq(fdm_tensors_add(&set, from->name, dtype, from->ndim, shape, &to, NULL), FDM_OK);
            memcpy(to->data, from->data, to->nbytes < from->nbytes ? to->nbytes : from->nbytes);
            if (!this || harms[i].kind != FIRST) continue;
            if (dtype == FDM_I64) *(int64_t *)to->data = (int64_t)harms[i].value;
            if (dtype == FDM_F32) *(float *)to->data = (float)harms[i].value;
            if (dtype == FDM_F64) *(double *)to->data = harms[i].value;
        }
        ck_assert_msg(found, "no tensor %s", harms[i].name);
        const fdm_status status = fdm_trainer_restore(&restored, &set, "state", &o, &run, &err);
        check_refused(status, FDM_BAD_INPUT, &err, harms[i].mention);
        ck_assert_ptr_null(restored);
        fdm_tensors_free(&set);
    }
    fdm_tensors_free(&state);
    fdm_trainer_free(&t);
}
END_TEST

/* ---- options ---- */

START_TEST(trainer_options) {
    static const struct {
        const char *name;
        size_t offset;
        double bad[4]; /* those after the first 12345 are not tried */
    } checks[] = {
        {"lr", offsetof(fdm_trainer_options, lr), {0, -1, (double)NAN, (double)INFINITY}},
        {"beta1", offsetof(fdm_trainer_options, beta1), {-0.1, 1, (double)NAN, 12345}},
        {"beta2", offsetof(fdm_trainer_options, beta2), {-0.1, 1, (double)NAN, 12345}},
        {"eps", offsetof(fdm_trainer_options, eps), {0, -1, (double)NAN, (double)INFINITY}},
        {"lr_rampup_kimg", offsetof(fdm_trainer_options, lr_rampup_kimg), {-1, (double)NAN, (double)INFINITY, 12345}},
        {"ema_halflife_kimg", offsetof(fdm_trainer_options, ema_halflife_kimg), {-1, (double)NAN, (double)INFINITY, 12345}},
        {"ema_rampup_ratio", offsetof(fdm_trainer_options, ema_rampup_ratio), {(double)NAN, (double)INFINITY, 12345, 0}},
        {"loss_scaling", offsetof(fdm_trainer_options, loss_scaling), {0, -1, (double)NAN, (double)INFINITY}},
        {"warmup_ite", offsetof(fdm_trainer_options, warmup_ite), {-1, (double)NAN, (double)INFINITY, 12345}},
    };
    const int64_t bad_batches[] = {0, -1, INT64_MAX, INT64_MIN};
    const fdm_config c = small_config(FDM_PRECOND_FDM_EDM);
    const fdm_tensors none = {0};
    fdm_trainer *t;
    fdm_error err = {0};
    fdm_trainer_options o = fdm_trainer_defaults();
    ck_assert_int_eq(fdm_trainer_check(&o, &err), FDM_OK);
    for (size_t i = 0; i < 4; i++) {
        o.batch = bad_batches[i];
        check_refused(fdm_trainer_check(&o, &err), FDM_BAD_USAGE, &err, "option batch:");
    }
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        for (size_t k = 0; k < 4 && checks[i].bad[k] != 12345; k++) {
            char mention[64];
            snprintf(mention, sizeof mention, "option %s:", checks[i].name);
            o = fdm_trainer_defaults();
            memcpy((char *)&o + checks[i].offset, &checks[i].bad[k], sizeof(double));
            check_refused(fdm_trainer_check(&o, &err), FDM_BAD_USAGE, &err, mention);
            check_refused(fdm_trainer_create(&t, &c, &none, "x", &o, NULL, &err), FDM_BAD_USAGE, &err, mention);
            ck_assert_ptr_null(t);
        }
}
END_TEST

/* Settings to JSON and back; and what fdm_train_check and fdm_train_network refuse. */
START_TEST(settings) {
    fdm_train_settings s = fdm_train_defaults(), back;
    fdm_error err = {0};
    ck_assert_int_eq(s.batch, 512);
    ck_assert_double_eq(s.duration, 200);
    check_refused(fdm_train_check(&s, &err), FDM_BAD_USAGE, &err, "--data is required");
    s.data = "x.zip";
    s.transfer = "a \"quoted\" \\ name";
    s.lr = 0.1 + 0.2;
    s.seed = INT64_MAX;
    s.attn_count = 0;
    ck_assert_msg(fdm_train_check(&s, &err) == FDM_OK, "%s", err.message);
    char *json = fdm_train_settings_json(&s);
    ck_assert_msg(fdm_train_settings_parse(&back, json, strlen(json), "here", &err) == FDM_OK, "%s", err.message);
    char *again = fdm_train_settings_json(&back);
    ck_assert_str_eq(json, again);
    ck_assert_double_eq(back.lr, s.lr);
    fdm_train_settings_free(&back);
    free(json);
    free(again);
#define REFUSED(field, value, mention)                                         \
    do {                                                                       \
        fdm_train_settings bad = s;                                            \
        bad.field = value;                                                     \
        check_refused(fdm_train_check(&bad, &err), FDM_BAD_USAGE, &err, mention); \
    } while (0)
    REFUSED(lr, 0, "--lr");
    REFUSED(lr, (double)NAN, "--lr");
    REFUSED(dropout, 1, "--dropout");
    REFUSED(augment, 1.5, "--augment");
    REFUSED(batch, 0, "--batch");
    REFUSED(batch_gpu, 100, "no multiple");
    REFUSED(levels, 0, "--cres");
    REFUSED(levels, FDM_MAX_LEVELS + 1, "--cres");
    REFUSED(attn_count, -1, "--attn_resolutions");
    REFUSED(arch, 2, "--arch");
    REFUSED(arch, -1, "--arch");
    REFUSED(precond, 99, "--precond");
    REFUSED(precond, -1, "--precond");
    REFUSED(seed, -1, "--seed");
    REFUSED(data, "\xff", "UTF-8");
#undef REFUSED
    fdm_config c;
    ck_assert_msg(fdm_train_network(&c, &s, 32, 3, 10, &err) == FDM_OK, "%s", err.message);
    ck_assert_int_eq(c.label_dim, 0); /* cond 0 */
    ck_assert_int_ne(fdm_train_network(&c, &s, 30, 3, 10, &err), FDM_OK); /* 30 cannot be halved twice */
    ck_assert_int_ne(fdm_train_network(&c, &s, 0, 3, 10, &err), FDM_OK);
    s.cbase = 3;
    ck_assert_int_ne(fdm_train_network(&c, &s, 32, 3, 10, &err), FDM_OK);
}
END_TEST

START_TEST(train_without_hooks) {
    fdm_train_settings s = fdm_train_defaults();
    fdm_error err = {0};
    check_refused(fdm_train(scratch("run"), &s, false, NULL, NULL, &err), FDM_BAD_USAGE, &err, "--data");
    s.data = FDM_TEST_GOLDEN_DIR "/data_toy16.zip";
    s.cbase = 4;
    s.levels = 1;
    s.cres[0] = 1;
    s.num_blocks = 1;
    s.attn_count = 0;
    s.batch = 4;
    s.duration = 8e-6;
    s.snap = s.image_snap = s.dump = 1;
    s.tick = 1e-3;
    char *run = copy_bytes(scratch("run"), strlen(scratch("run")) + 1), path[700];
    ck_assert_msg(fdm_train(run, &s, false, NULL, NULL, &err) == FDM_OK, "%s", err.message);
    check_refused(fdm_train(run, &s, false, NULL, NULL, &err), FDM_BAD_USAGE, &err, "holds a training run");
    ck_assert_msg(fdm_train(run, &s, true, NULL, NULL, &err) == FDM_OK, "%s", err.message);
    static const char *const files[] = {"log.txt", "stats.jsonl", "training_options.json", "reals.png",
                                        "network-snapshot-000000.safetensors", "training-state-000000004.safetensors",
                                        "training-state-000000008.safetensors"};
    for (size_t i = 0; i < 7; i++) {
        snprintf(path, sizeof path, "%s/%s", run, files[i]);
        ck_assert_msg(remove(path) == 0 || i == 5, "%s is missing", path);
    }
    ck_assert_msg(remove(run) == 0, "%s: more files than expected", run);
    free(run);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer");
    TCase *tc = tcase_create("trainer");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, updates_count);
    tcase_add_test(tc, same_bits_however_it_is_done);
    tcase_add_test(tc, rounds_that_do_not_fit);
    tcase_add_test(tc, nan_is_cleaned);
    tcase_add_test(tc, unreached_parameters_stay);
    tcase_add_test(tc, saved_and_restored);
    tcase_add_test(tc, malformed_states);
    tcase_add_test(tc, trainer_options);
    tcase_add_test(tc, settings);
    tcase_add_test(tc, train_without_hooks);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
