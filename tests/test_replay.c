/* test_replay.c - recorded updates of the published training loop, done again; and recordings that are broken. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/replay.h"
#include "golden.h"
#include "io_util.h"
#include "networks.h"
#include "suite.h"

static const char EDM[] = "train_FDM_EDMPrecond_ddpmpp_mc8.safetensors", VP[] = "train_VPPrecond_ddpmpp_mc8.safetensors";
enum { UPDATES = 5 };
static const double TOLERANCE = 1e-5; /* absolute, on parameters and their averages */

/* ---- recordings in memory ---- */

static void add_meta(fdm_tensors *set, const char *key, const char *value) {
    ck_assert_int_eq(fdm_tensors_set_meta(set, key, value, NULL), FDM_OK);
}

static void add_borrowed(fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim, const int64_t *shape, void *data) {
    fdm_error err = {0};
    ck_assert_msg(fdm_tensors_add_borrowed(set, name, dtype, ndim, shape, data, NULL, &err) == FDM_OK, "%s", err.message);
}

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* All but the tensors whose names end like one of `dropped` (NULL-terminated). */
static fdm_tensors without(const fdm_tensors *from, const char *const *dropped) {
    fdm_tensors set = {0};
    for (size_t i = 0; i < from->meta_count; i++) add_meta(&set, from->meta_keys[i], from->meta_values[i]);
    for (size_t i = 0; i < from->count; i++) {
        const fdm_tensor *t = &from->items[i];
        bool keep = true;
        for (const char *const *d = dropped; *d; d++) keep = keep && !ends_with(t->name, *d);
        if (keep) add_borrowed(&set, t->name, t->dtype, t->ndim, t->shape, t->data);
    }
    return set;
}
static const char *const nothing[] = {NULL};

/* The inputs s<u>.r1.* cut into rounds of `size` samples. */
static fdm_tensors in_rounds(const fdm_tensors *from, int size) {
    const char *const inputs[] = {".r1.y", ".r1.images", ".r1.sigma", ".r1.rnd", ".r1.noise_unit", ".r1.class_labels",
                                  ".r1.loss", NULL};
    fdm_tensors set = without(from, inputs);
    const int rounds = golden_dim(from, "s1.r1.", "y", 0) / size;
    char text[16];
    snprintf(text, sizeof text, "%d", rounds);
    add_meta(&set, "num_accumulation_rounds", text);
    for (size_t i = 0; i < from->count; i++) {
        const fdm_tensor *t = &from->items[i];
        int update;
        char part[64], name[96];
        if (sscanf(t->name, "s%d.r1.%63s", &update, part) != 2 || strcmp(part, "loss") == 0) continue;
        const size_t bytes = t->nbytes / (size_t)rounds;
        int64_t shape[FDM_MAX_NDIM];
        memcpy(shape, t->shape, sizeof shape);
        shape[0] = size;
        for (int k = 0; k < rounds; k++) {
            snprintf(name, sizeof name, "s%d.r%d.%s", update, k + 1, part);
            add_borrowed(&set, name, t->dtype, t->ndim, shape, (char *)t->data + (size_t)k * bytes);
        }
    }
    return set;
}

/* ---- the published updates ---- */

struct losses {
    const fdm_tensors *set;
    double worst; /* relative */
    int calls;
};

static void on_round(void *user, int64_t update, int round, double loss) {
    struct losses *l = user;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "s%d.r%d.", (int)update, round);
    const double published = fdm_tensor_get(golden_get(l->set, prefix, "loss"), 0), off = fabs(loss - published) / published;
    if (!(off <= l->worst)) l->worst = off;
    l->calls++;
}

static fdm_tensors replay(const fdm_tensors *set, int64_t updates, const struct runner *r, int threads, struct losses *losses) {
    const fdm_run_options options = {.backend = r->backend, .isa = r->isa, .threads = threads};
    fdm_tensors result = {0};
    fdm_error err = {0};
    const fdm_status status =
        fdm_replay(&result, set, "recording", updates, &options, losses ? on_round : NULL, losses, NULL, &err);
    ck_assert_msg(status == FDM_OK, "%s: %s", r->label, err.message);
    return result;
}

/* The largest difference to step<update>.<kind>.*; the K entries of qkv.bias, which no loss determines, are left out. */
static double worst_difference(const fdm_tensors *result, const fdm_tensors *set, int64_t update, const char *kind, int *count,
                               const char **name) {
    char prefix[32];
    double worst = 0;
    snprintf(prefix, sizeof prefix, "step%d.", (int)update);
    const size_t start = strlen(prefix);
    for (size_t i = 0; i < set->count; i++) {
        const fdm_tensor *truth = &set->items[i];
        if (strncmp(truth->name, prefix, start) != 0 || strncmp(truth->name + start, kind, strlen(kind)) != 0) continue;
        const fdm_tensor *got = fdm_tensors_find(result, truth->name + start);
        ck_assert_msg(got && got->nbytes == truth->nbytes && got->dtype == truth->dtype, "%s is missing", truth->name + start);
        const bool qkv_bias = ends_with(truth->name, "qkv.bias");
        for (int64_t k = 0; k < fdm_tensor_numel(truth); k++) {
            double off = fabs(fdm_tensor_get(got, k) - fdm_tensor_get(truth, k));
            if (isnan(off)) off = INFINITY;
            if (off <= worst || (qkv_bias && k % 3 == 1)) continue;
            worst = off;
            *name = truth->name;
        }
        ++*count;
    }
    return worst;
}

static void check_published(const fdm_tensors *set, const fdm_tensors *recording, const char *what, const struct runner *r) {
    static const int64_t after[] = {1, UPDATES};
    static const char *const kinds[] = {"param.", "ema."};
    for (size_t a = 0; a < 2; a++) {
        struct losses losses = {.set = set};
        fdm_tensors result = replay(recording, after[a], r, 2, &losses);
        ck_assert_int_eq(losses.calls, after[a]);
        ck_assert_msg(losses.worst <= 1e-5, "%s: the losses are %.2g off", r->label, losses.worst);
        for (size_t k = 0; k < 2; k++) {
            const char *name = "";
            int count = 0;
            const double worst = worst_difference(&result, set, after[a], kinds[k], &count, &name);
            printf("%-16s %-9s %d updates, %d x %-6s worst %.2e (%s), losses %.1e\n", what, r->label, (int)after[a], count,
                   kinds[k], worst, name, losses.worst);
            ck_assert_int_ge(count, 144);
            ck_assert_msg(worst <= TOLERANCE, "%s: %s is %.3g off", r->label, name, worst);
        }
        fdm_tensors_free(&result);
    }
}

static void published(const char *file, const char *const *dropped, const char *what) {
    struct runner list[MAX_RUNNERS];
    const int count = runners(list);
    fdm_tensors set;
    golden_load(&set, file);
    fdm_tensors recording = without(&set, dropped);
    ck_assert(recording.count < set.count || !dropped[0]);
    for (int k = 0; k < count; k++) check_published(&set, &recording, what, &list[k]);
    fdm_tensors_free(&recording);
    fdm_tensors_free(&set);
}

static const char *const recorded_ends[] = {".y", ".augment_labels", ".sigma", NULL};
START_TEST(published_edm) { published(EDM, nothing, "fdm_edm"); }
END_TEST
START_TEST(published_vp) { published(VP, nothing, "vp"); }
END_TEST
START_TEST(from_images_and_draws_edm) { published(EDM, recorded_ends, "fdm_edm, images"); }
END_TEST
START_TEST(from_images_and_draws_vp) { published(VP, recorded_ends, "vp, images"); }
END_TEST

/* ---- same bits ---- */

static void check_same(const fdm_tensors *a, const fdm_tensors *b, const char *what) {
    ck_assert_uint_eq(a->count, b->count);
    ck_assert_uint_gt(a->count, 288);
    for (size_t i = 0; i < a->count; i++) {
        ck_assert_str_eq(a->items[i].name, b->items[i].name);
        ck_assert_uint_eq(a->items[i].nbytes, b->items[i].nbytes);
        ck_assert_msg(memcmp(a->items[i].data, b->items[i].data, a->items[i].nbytes) == 0, "%s: other bits in %s", what,
                      a->items[i].name);
    }
}

START_TEST(rounds_give_the_bits_of_the_batch) {
    struct runner list[MAX_RUNNERS];
    const int count = runners(list);
    fdm_tensors set, f32 = {0};
    golden_load(&set, VP); /* no warm-up: the number of calls does not matter */
    for (int k = 0; k < count; k++) {
        fdm_tensors whole = replay(&set, UPDATES, &list[k], 1, NULL);
        for (int size = 1; size <= 2; size++) {
#ifdef FDM_POISON /* a sanitizer build tests the memory, the plain one the numbers */
            if (size != 1 + k % 2) continue;
#endif
            fdm_tensors recording = in_rounds(&set, size), result;
            char what[64];
            snprintf(what, sizeof what, "%s, rounds of %d", list[k].label, size);
            result = replay(&recording, UPDATES, &list[k], 1 + size, NULL);
            check_same(&whole, &result, what);
            fdm_tensors_free(&result);
            fdm_tensors_free(&recording);
        }
        if (list[k].f32 && f32.count) check_same(&f32, &whole, list[k].label);
        if (list[k].f32 && !f32.count) f32 = whole;
        else fdm_tensors_free(&whole);
    }
    fdm_tensors_free(&f32);
    fdm_tensors_free(&set);
}
END_TEST

/* ---- recordings that are broken ---- */

enum kind { DROP, META, NO_META, VALUE, SHAPE, TYPE };
struct harm {
    enum kind kind;
    const char *name;    /* tensor (DROP: end of names), or key */
    const char *text;    /* META: value; DROP: another end, or NULL */
    double value;        /* VALUE: put into the last element */
    int64_t shape[4];    /* SHAPE: dimensions until 0 */
    const char *mention; /* what the message says */
};

static const struct harm harms[] = {
    {.kind = DROP, .name = "s1.r1.y", .text = "s1.r1.images", .mention = "tensor s1.r1.y"},
    {.kind = DROP, .name = "s1.r1.sigma", .text = "s1.r1.rnd", .mention = "tensor s1.r1.sigma"},
    {.kind = DROP, .name = "s1.r1.y", .text = "s1.r1.aug03.rand", .mention = "s1.r1.aug03.rand"},
    {.kind = DROP, .name = "step0.param.model.map_layer0.weight", .mention = "model.map_layer0.weight"},
    {.kind = SHAPE, .name = "s1.r1.y", .shape = {4, 3, 16, 15}, .mention = "tensor s1.r1.y"},
    {.kind = SHAPE, .name = "s1.r1.y", .shape = {3, 3, 16, 16}, .mention = "tensor s1.r1."},
    {.kind = SHAPE, .name = "s1.r1.sigma", .shape = {3}, .mention = "tensor s1.r1.sigma"},
    {.kind = SHAPE, .name = "s1.r1.noise_unit", .shape = {4}, .mention = "tensor s1.r1.noise_unit"},
    {.kind = SHAPE, .name = "s1.r1.class_labels", .shape = {4, 9}, .mention = "tensor s1.r1.class_labels"},
    {.kind = SHAPE, .name = "s1.r1.augment_labels", .shape = {2, 9}, .mention = "tensor s1.r1."},
    {.kind = SHAPE, .name = "step0.param.model.map_layer0.weight", .shape = {8, 32}, .mention = "model.map_layer0.weight"},
    {.kind = TYPE, .name = "s1.r1.y", .mention = "tensor s1.r1.y"},
    {.kind = TYPE, .name = "s1.r1.sigma", .mention = "tensor s1.r1.sigma"},
    {.kind = TYPE, .name = "step0.param.model.map_layer0.weight", .mention = "model.map_layer0.weight"},
    {.kind = VALUE, .name = "s1.r1.sigma", .value = -1, .mention = "tensor s1.r1.sigma: element 3 is -1"},
    {.kind = VALUE, .name = "s1.r1.sigma", .value = 0, .mention = "tensor s1.r1.sigma: element 3 is 0"},
    {.kind = VALUE, .name = "s1.r1.sigma", .value = (double)NAN, .mention = "tensor s1.r1.sigma: element 3 is"},
    {.kind = VALUE, .name = "s1.r1.sigma", .value = (double)INFINITY, .mention = "tensor s1.r1.sigma: element 3 is inf"},
    {.kind = VALUE, .name = "s1.r1.y", .value = (double)NAN, .mention = "tensor s1.r1.y: element 3071 is"},
    {.kind = VALUE, .name = "s1.r1.noise_unit", .value = -(double)INFINITY, .mention = "tensor s1.r1.noise_unit: element 3071"},
    {.kind = VALUE, .name = "s1.r1.class_labels", .value = (double)NAN, .mention = "tensor s1.r1.class_labels: element 39"},
    {.kind = VALUE, .name = "s1.r1.augment_labels", .value = (double)NAN, .mention = "tensor s1.r1.augment_labels: element 35"},
    {.kind = VALUE, .name = "step0.param.model.map_layer0.weight", .value = (double)NAN, .mention = "map_layer0.weight"},
    {.kind = NO_META, .name = "config", .mention = "recording: "},
    {.kind = META, .name = "config", .text = "{", .mention = "config"},
    {.kind = META, .name = "config", .text = "[]", .mention = "recording: "},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 4", .mention = "metadata loop"},
    {.kind = META, .name = "loop", .text = "5", .mention = "metadata loop"},
    {.kind = META, .name = "loop", .text = "{}", .mention = "batch_size of 512"}, /* the published default */
    {.kind = META, .name = "loop", .text = "{\"batch_size\": \"4\"}", .mention = "batch_size"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 4, \"batch_size\": 4}", .mention = "metadata loop"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 0}", .mention = "batch_size"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": -4}", .mention = "batch_size"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 4.5}", .mention = "batch_size"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 3}", .mention = "batch_size"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 8}", .mention = "batch_size"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 1e300}", .mention = "batch_size"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 4, \"resume_kimg\": 3}", .mention = "resume_kimg"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 4, \"loss_scaling\": 0}", .mention = "loss_scaling"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 4, \"loss_scaling\": null}", .mention = "loss_scaling"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 4, \"ema_halflife_kimg\": -1}", .mention = "ema_halflife_kimg"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 4, \"ema_rampup_ratio\": []}", .mention = "ema_rampup_ratio"},
    {.kind = META, .name = "loop", .text = "{\"batch_size\": 4, \"lr_rampup_kimg\": -1}", .mention = "lr_rampup_kimg"},
    {.kind = META, .name = "lr", .text = "-0.001", .mention = "lr"},
    {.kind = META, .name = "lr", .text = "\"x\"", .mention = "lr"},
    {.kind = META, .name = "lr", .text = "1e-3e", .mention = "metadata lr"},
    {.kind = META, .name = "eps", .text = "0", .mention = "eps"},
    {.kind = META, .name = "betas", .text = "[0.9]", .mention = "betas"},
    {.kind = META, .name = "betas", .text = "[0.9, 1.5]", .mention = "beta2"},
    {.kind = META, .name = "betas", .text = "0.9", .mention = "betas"},
    {.kind = META, .name = "loss", .text = "[1]", .mention = "metadata loss"},
    {.kind = META, .name = "loss", .text = "{\"warmup_ite\": -3}", .mention = "warmup_ite"},
    {.kind = META, .name = "loss", .text = "{\"warmup_ite\": \"3\"}", .mention = "warmup_ite"},
    {.kind = META, .name = "augment", .text = "{\"p\": 2}", .mention = "metadata augment"},
    {.kind = META, .name = "augment", .text = "\"p\"", .mention = "metadata augment"},
    {.kind = META, .name = "num_accumulation_rounds", .text = "0", .mention = "num_accumulation_rounds"},
    {.kind = META, .name = "num_accumulation_rounds", .text = "1.5", .mention = "num_accumulation_rounds"},
    {.kind = META, .name = "num_accumulation_rounds", .text = "1e18", .mention = "num_accumulation_rounds"},
    {.kind = META, .name = "num_accumulation_rounds", .text = "\"2\"", .mention = "num_accumulation_rounds"},
    {.kind = META, .name = "num_accumulation_rounds", .text = "2", .mention = "s1.r1.noise_unit"},
};

/* The recording with one tensor of its own storage. */
static void own(fdm_tensors *set, const fdm_tensors *from, const struct harm *h) {
    const fdm_tensor *t = fdm_tensors_find(from, h->name);
    fdm_tensor *copy;
    int64_t shape[FDM_MAX_NDIM];
    int ndim = t->ndim;
    memcpy(shape, t->shape, sizeof shape);
    if (h->kind == SHAPE)
        for (ndim = 0; ndim < 4 && h->shape[ndim]; ndim++) shape[ndim] = h->shape[ndim];
    ck_assert_int_eq(fdm_tensors_add(set, h->name, h->kind == TYPE ? FDM_I32 : FDM_F32, ndim, shape, &copy, NULL), FDM_OK);
    memcpy(copy->data, t->data, copy->nbytes < t->nbytes ? copy->nbytes : t->nbytes);
    if (h->kind == VALUE) ((float *)copy->data)[fdm_tensor_numel(copy) - 1] = (float)h->value;
}

START_TEST(broken_recordings) {
    const fdm_run_options options = {.threads = 1};
    fdm_tensors set;
    golden_load(&set, EDM);
    for (size_t i = 0; i < sizeof harms / sizeof harms[0]; i++) {
        const struct harm *h = &harms[i];
        const char *const dropped[] = {h->kind == META || h->kind == NO_META ? NULL : h->name, h->text, NULL};
        fdm_tensors recording = without(&set, dropped), result = {0};
        fdm_error err = {0};
        if (h->kind == META) add_meta(&recording, h->name, h->text);
        if (h->kind == NO_META) snprintf(recording.meta_keys[0], 7, "%s", "none");
        if (h->kind == NO_META) ck_assert_ptr_null(fdm_tensors_meta(&recording, h->name));
        if (h->kind >= VALUE) own(&recording, &set, h);
        const fdm_status status = fdm_replay(&result, &recording, "recording", 1, &options, NULL, NULL, NULL, &err);
        ck_assert_msg(status == FDM_BAD_INPUT, "%s %s: status %d: %s", h->name, h->text ? h->text : "", status, err.message);
        check_refused(status, FDM_BAD_INPUT, &err, h->mention);
        check_refused(status, FDM_BAD_INPUT, &err, "recording: ");
        fdm_tensors_free(&result);
        fdm_tensors_free(&recording);
    }
    printf("%zu broken recordings refused\n", sizeof harms / sizeof harms[0]);
    fdm_tensors_free(&set);
}
END_TEST

/* The third update has a weight of 1 / 0.18^2, which a warm-up would limit. */
START_TEST(plain_frameworks_have_no_warm_up) {
    const fdm_run_options options = {.threads = 1};
    fdm_tensors set, published = {0}, with_warm_up = {0};
    fdm_error err;
    golden_load(&set, VP);
    fdm_tensors recording = without(&set, nothing);
    add_meta(&recording, "loss", "{\"class_name\": \"training.loss.VPLoss\", \"warmup_ite\": 1e6}"); /* a limit of 5 */
    ck_assert_int_eq(fdm_replay(&published, &set, VP, 3, &options, NULL, NULL, NULL, &err), FDM_OK);
    ck_assert_int_eq(fdm_replay(&with_warm_up, &recording, VP, 3, &options, NULL, NULL, NULL, &err), FDM_OK);
    check_same_tensors(&published, &with_warm_up, false);
    fdm_tensors_free(&published);
    fdm_tensors_free(&with_warm_up);
    fdm_tensors_free(&recording);
    fdm_tensors_free(&set);
}
END_TEST

static bool always(void *unused) {
    (void)unused;
    return true;
}

START_TEST(refusals) {
    static const int64_t counts[] = {-1, 0, UPDATES + 1, INT64_MAX};
    const fdm_run_options options = {.threads = 1};
    fdm_tensors set, result = {0};
    fdm_error err = {0};
    golden_load(&set, VP);
    for (size_t i = 0; i < 4; i++)
        check_refused(fdm_replay(&result, &set, "recording", counts[i], &options, NULL, NULL, NULL, &err), FDM_BAD_USAGE, &err,
                      "holds 5 updates");
    const char *const last[] = {"s5.r1.noise_unit", NULL};
    fdm_tensors four = without(&set, last);
    check_refused(fdm_replay(&result, &four, "recording", UPDATES, &options, NULL, NULL, NULL, &err), FDM_BAD_USAGE, &err,
                  "holds 4 updates");
    fdm_tensors_free(&four);
    check_refused(fdm_replay(&result, &set, "recording", 1, &options, NULL, NULL, always, &err), FDM_INTERRUPTED, &err, NULL);
    fdm_tensors_free(&result);
    fdm_tensors_free(&set);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("replay");
    TCase *tc = tcase_create("replay");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, published_edm);
    tcase_add_test(tc, published_vp);
    tcase_add_test(tc, from_images_and_draws_edm);
    tcase_add_test(tc, from_images_and_draws_vp);
    tcase_add_test(tc, rounds_give_the_bits_of_the_batch);
    tcase_add_test(tc, plain_frameworks_have_no_warm_up);
    tcase_add_test(tc, broken_recordings);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
