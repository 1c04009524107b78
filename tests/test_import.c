/* test_import.c - pickles and torch.save files: published ones bit for bit, everything that a pickle may hold, hostile
 * ones, files cut off anywhere, out of memory; state_dicts written and read back. */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attacks.h"
#include "base/base.h"
#include "fdm/denoiser.h"
#include "fdm/import.h"
#include "fdm/npz.h"
#include "fdm/safetensors.h"
#include "io/torch_tensor.h"
#include "io/torch_write.h"
#include "io_util.h"
#include "oom.h"
#include "snapshots.h"
#include "train/published.h"

#define STATE "tests/pickles/state/"
#define RUN FDM_TEST_GOLDEN_DIR "/run_ddpmpp_fdm_edm/"

static const char *const fixtures[] = {"plain2.pkl", "plain4.pkl", "legacy2.pt", "legacy5.pt", "zip2.pt", "zip5.pt"};
enum { FIXTURES = 6 };

static const char *fixture(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "tests/pickles/%s", name);
    return path;
}

static void import_ok(const char *target, const char *source, const fdm_import_options *o, fdm_import_report *r) {
    fdm_error err = {.status = FDM_OK};
    ck_assert_msg(fdm_import(target, source, o, r, &err) == FDM_OK, "%s", err.message);
}

/* The same tensors, whatever their order. */
static void check_same_file(const char *path, const char *expected, const char *prefix) {
    fdm_tensors got, want;
    fdm_error err;
    size_t seen = 0;
    ck_assert_msg(fdm_safetensors_read(&got, path, &err) == FDM_OK, "%s", err.message);
    ck_assert_msg(fdm_safetensors_read(&want, expected, &err) == FDM_OK, "%s", err.message);
    for (size_t i = 0; i < want.count; i++) {
        const fdm_tensor *w = &want.items[i];
        if (strncmp(w->name, prefix, strlen(prefix)) != 0) continue;
        const fdm_tensor *g = fdm_tensors_find(&got, w->name + strlen(prefix));
        ck_assert_msg(g != NULL, "%s is missing in %s", w->name, path);
        ck_assert_msg(g->dtype == w->dtype && g->ndim == w->ndim && memcmp(g->shape, w->shape, (size_t)w->ndim * 8) == 0, "%s", w->name);
        ck_assert_msg(g->nbytes == w->nbytes && memcmp(g->data, w->data, w->nbytes) == 0, "%s differs", w->name);
        seen++;
    }
    ck_assert_uint_eq(seen, got.count);
    ck_assert_uint_gt(seen, 0);
    fdm_tensors_free(&got);
    fdm_tensors_free(&want);
}

static size_t buffer_count(const fdm_tensors *set) {
    size_t n = 0;
    for (size_t i = 0; i < set->count; i++) n += strstr(set->items[i].name, "resample_filter") || strstr(set->items[i].name, "freqs");
    return n;
}

/* ---- Published files ---------------------------------------------------------------------------------------- */

START_TEST(published_snapshot) {
    fdm_import_report r;
    fdm_tensors got, want;
    const char *path = scratch("model.safetensors");
    import_ok(path, RUN "snapshot-nosrc.pkl", NULL, &r);
    ck_assert_str_eq(r.source, "network snapshot (pickle, protocol 4): FDM_EDMPrecond");
    ck_assert_uint_eq(r.converted, 0);
    check_same_file(path, RUN "network-snapshot-000000.safetensors", "");
    ck_assert_int_eq(fdm_safetensors_read(&got, path, NULL), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_read(&want, RUN "network-snapshot-000000.safetensors", NULL), FDM_OK);
    static const char *const keys[] = {"loss_fn", "augment_pipe", "dataset_kwargs"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(keys); i++) { /* the same values, however written */
        json_t *a = json_loads(fdm_tensors_meta(&got, keys[i]), 0, NULL), *b = json_loads(fdm_tensors_meta(&want, keys[i]), 0, NULL);
        json_object_del(b, "clamp_cur"); /* the file beside it was made when the loss had moved on */
        if (i == 0) ck_assert(json_real_value(json_object_get(a, "clamp_cur")) == 5.0);
        json_object_del(a, "clamp_cur");
        ck_assert_msg(a && b && json_equal(a, b), "%s: %s and %s", keys[i], fdm_tensors_meta(&got, keys[i]), fdm_tensors_meta(&want, keys[i]));
        json_decref(a);
        json_decref(b);
    }
    ck_assert_str_eq(fdm_tensors_meta(&got, "loss_fn_class"), "\"EDMLoss\"");
    fdm_config a, b; /* the configuration of the constructor arguments that the file beside it has */
    ck_assert_int_eq(fdm_config_from_tensors(&a, &got, "got", NULL), FDM_OK);
    ck_assert_int_eq(fdm_config_from_tensors(&b, &want, "want", NULL), FDM_OK);
    char *x = fdm_config_json(&a), *y = fdm_config_json(&b);
    ck_assert_str_eq(x, y);
    free(x);
    free(y);
    fdm_tensors_free(&got);
    fdm_tensors_free(&want);
    fdm_denoiser *net = NULL; /* it is a model file */
    ck_assert_int_eq(fdm_denoiser_load(&net, path, NULL, NULL), FDM_OK);
    fdm_denoiser_free(&net);
}
END_TEST

/* The published state is of the run's beginning: the raw network is what is averaged in the snapshot, and Adam has not begun. */
START_TEST(published_training_state) {
    fdm_import_report r;
    fdm_tensors state;
    fdm_denoiser *denoiser = NULL;
    size_t zeros = 0;
    const char *path = scratch("state.safetensors"), *net = scratch("net.safetensors");
    import_ok(net, RUN "training-state-nosrc.pt", &(fdm_import_options){.network = true}, NULL);
    check_same_file(net, RUN "network-snapshot-000000.safetensors", "");
    ck_assert_int_eq(fdm_denoiser_load(&denoiser, net, NULL, NULL), FDM_OK);
    fdm_denoiser_free(&denoiser);
    import_ok(path, RUN "training-state-nosrc.pt", NULL, &r);
    ck_assert_str_eq(r.source, "training state (zip of torch.save, protocol 2): FDM_EDMPrecond");
    ck_assert_int_eq(fdm_safetensors_read(&state, path, NULL), FDM_OK);
    ck_assert_uint_eq(state.count, 149 + 145 + 145 + 1); /* as README.txt of the golden files lists them */
    for (size_t i = 0; i < state.count; i++) {
        const fdm_tensor *t = &state.items[i];
        if (strncmp(t->name, "adam_", 5) != 0) continue;
        for (int64_t k = 0; k < fdm_tensor_numel(t); k++) ck_assert(((const float *)t->data)[k] == 0);
        zeros++;
    }
    ck_assert_uint_eq(zeros, 145 + 145 + 1);
    fdm_tensors_free(&state);
}
END_TEST

/* A run that had made 3 updates of 4 images, written by PyTorch as the published program does (tests/make_pickles.py). */
START_TEST(run_to_go_on_with) {
    static const char *const prefixes[] = {"net.", "adam_m.", "adam_v."};
    const char *path = scratch("state.safetensors"), *run_dir = scratch("run"), *files[] = {"training_options.json", "log.txt", "stats.jsonl",
                                                                                            "training-state-000000012.safetensors"};
    fdm_tensors run, state, ema;
    fdm_error err;
    int64_t images = 0;
    size_t seen = 0;
    import_ok(path, STATE "training-state-000000.pt", NULL, NULL);
    check_same_file(path, STATE "state.safetensors", "");
    import_ok(scratch("ema.safetensors"), STATE "network-snapshot-000000.pkl", NULL, NULL);
    const fdm_import_run source = {.state = STATE "training-state-000000.pt", .data = FDM_TEST_GOLDEN_DIR "/data_toy16.zip", .batch = 4,
                                   .batch_gpu = -1, .ema = -1, .lr = -1, .lr_rampup = -1, .ls = -1, .duration = -1, .seed = -1};
    ck_assert_msg(fdm_import_training(run_dir, &source, NULL, NULL, &images, &err) == FDM_OK, "%s", err.message);
    ck_assert_int_eq(images, 12);
    char file[700];
    snprintf(file, sizeof file, "%s/%s", run_dir, files[3]);
    ck_assert_msg(fdm_safetensors_read(&run, file, &err) == FDM_OK, "%s", err.message);
    ck_assert_int_eq(fdm_safetensors_read(&state, path, NULL), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_read(&ema, scratch("ema.safetensors"), NULL), FDM_OK);
    for (size_t i = 0; i < run.count; i++) { /* networks, averages, moments: the published bits */
        const fdm_tensor *t = &run.items[i], *want = NULL;
        for (size_t k = 0; k < FDM_ARRAY_LEN(prefixes); k++)
            if (strncmp(t->name, prefixes[k], strlen(prefixes[k])) == 0) want = fdm_tensors_find(&state, t->name);
        if (strncmp(t->name, "ema.", 4) == 0) want = fdm_tensors_find(&ema, t->name + 4);
        if (!want) continue;
        ck_assert_msg(want->nbytes == t->nbytes && memcmp(want->data, t->data, t->nbytes) == 0, "%s", t->name);
        seen++;
    }
    ck_assert_uint_eq(seen, state.count - 1 + ema.count - buffer_count(&ema)); /* but adam_step and averaged buffers */
    const int64_t *counters = fdm_tensors_find(&run, "trainer.counters")->data;
    const double *warmup = fdm_tensors_find(&run, "trainer.warmup")->data;
    ck_assert(counters[0] == 12 && counters[1] == 3 && warmup[0] == 5.0 && warmup[1] == 1.5);
    fdm_tensors_free(&run);
    fdm_tensors_free(&state);
    fdm_tensors_free(&ema);
    for (size_t i = 0; i < FDM_ARRAY_LEN(files); i++) {
        snprintf(file, sizeof file, "%s/%s", run_dir, files[i]);
        ck_assert_int_eq(remove(file), 0);
    }
}
END_TEST

/* The network of a model file through a pickle: tensors, and the configuration but for its class. */
static void check_as_snapshot(const char *model, fdm_precond_kind kind) {
    struct bytes b = {0};
    fdm_tensors want, got;
    fdm_config expected, config;
    const char *source = scratch("snapshot.pkl"), *target = scratch("snapshot.safetensors"), *class = fdm_precond_class_name(kind);
    ck_assert_int_eq(fdm_safetensors_read(&want, model, NULL), FDM_OK);
    json_t *json = json_loads(fdm_tensors_meta(&want, "config"), 0, NULL);
    json_object_set_new(json, "class_name", json_string(class));
    char *text = json_dumps(json, 0);
    ck_assert_int_eq(fdm_config_parse(&expected, text, strlen(text), NULL, model, NULL), FDM_OK);
    put_snapshot(&b, &want, json);
    write_bytes(source, b.p, b.n);
    import_ok(target, source, NULL, NULL);
    ck_assert_int_eq(fdm_safetensors_read(&got, target, NULL), FDM_OK);
    for (size_t i = 0; i < got.count; i++) {
        const fdm_tensor *g = &got.items[i], *w = fdm_tensors_find(&want, g->name);
        ck_assert_msg(w && w->ndim == g->ndim && memcmp(w->shape, g->shape, (size_t)g->ndim * 8) == 0, "%s", g->name);
        ck_assert_msg(memcmp(w->data, g->data, g->nbytes) == 0, "%s of %s as %s", g->name, model, class);
    }
    ck_assert_int_eq(fdm_config_from_tensors(&config, &got, "got", NULL), FDM_OK);
    ck_assert_int_eq(config.precond.kind, kind);
    char *x = fdm_config_json(&config), *y = fdm_config_json(&expected);
    ck_assert_str_eq(x, y);
    free(x);
    free(y);
    free(text);
    free(b.p);
    json_decref(json);
    fdm_tensors_free(&got);
    fdm_tensors_free(&want);
}

/* The golden networks, each of its own class, and one network of all six. */
START_TEST(every_preconditioning) {
    static const char *const models[] = {"net_EDMPrecond_ncsnpp_r16", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug",
                                         "net_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug", "net_FDM_VPPrecond_ddpmpp_r16_m2_lab_aug",
                                         "net_VPPrecond_ddpmpp_tiny_r16_lab"};
    static const fdm_precond_kind kinds[] = {FDM_PRECOND_EDM, FDM_PRECOND_FDM_EDM, FDM_PRECOND_FDM_VE, FDM_PRECOND_FDM_VP, FDM_PRECOND_VP,
                                             FDM_PRECOND_VE};
    char path[512];
    for (size_t i = 0; i < FDM_ARRAY_LEN(models); i++) {
        snprintf(path, sizeof path, "%s/%s.safetensors", FDM_TEST_GOLDEN_DIR, models[i]);
        check_as_snapshot(path, kinds[i]);
    }
    for (size_t i = 0; i < FDM_ARRAY_LEN(kinds); i++) check_as_snapshot(FDM_TEST_GOLDEN_DIR "_extra/net_gray.safetensors", kinds[i]);
}
END_TEST

/* ---- Everything that a pickle may hold ---------------------------------------------------------------------- */

START_TEST(every_kind_of_value) {
    for (int i = 0; i < FIXTURES; i++) {
        fdm_import_report r;
        const char *path = scratch("contents.safetensors");
        import_ok(path, fixture(fixtures[i]), NULL, &r);
        ck_assert_uint_eq(r.converted, 0); /* no network: types as they are */
        check_same_file(path, "tests/pickles/contents.safetensors", "");
    }
}
END_TEST

START_TEST(values_as_json) {
    for (int i = 0; i < FIXTURES; i++) {
        struct fdm_torch_file f;
        struct fdm_text text = {0};
        fdm_error err;
        ck_assert_msg(fdm_torch_open(&f, fixture(fixtures[i]), &err) == FDM_OK, "%s", err.message);
        ck_assert(fdm_torch_json(&text, &f, fdm_pickle_get(&f.pickle.top, "other"), 10000));
        json_t *got = json_loads(text.bytes, 0, NULL);
        json_t *want = json_loads("{\"set\": [1, 2], \"frozen\": [3], \"none\": null, \"size\": [1, 2], \"device\": \"cuda\", \"dtype\": \"float16\","
                                  " \"bytes\": \"?\", \"empty\": \"\", \"array\": \"abc\", \"big\": null, \"minus\": -1099511627776, \"real\": 0.5,"
                                  " \"text\": \"caf\\u00e9\"}", 0, NULL);
        ck_assert(want != NULL);
        ck_assert_msg(got && json_equal(got, want), "%s: %s", fixtures[i], text.bytes);
        json_decref(got);
        json_decref(want);
        fdm_text_free(&text);
        ck_assert(fdm_torch_json(&text, &f, fdm_pickle_get(&f.pickle.top, "number"), 100));
        ck_assert_str_eq(text.bytes, "1.25");
        fdm_text_free(&text);
        ck_assert(!fdm_torch_json(&text, &f, &f.pickle.top, 100)); /* longer than that */
        fdm_text_free(&text);
        fdm_torch_close(&f);
    }
}
END_TEST

/* A network's file in another precision: half, bfloat16 and double become what they are in F32. */
START_TEST(conversion) {
    static const fdm_dtype types[] = {FDM_F16, FDM_BF16, FDM_F64};
    fdm_tensors model, other = {0}, got;
    fdm_error err;
    ck_assert_int_eq(fdm_safetensors_read(&model, RUN "network-snapshot-000000.safetensors", &err), FDM_OK);
    for (size_t i = 0; i < model.count; i++) { /* a third of each type, of values that all of them hold */
        fdm_tensor *t;
        const fdm_tensor *m = &model.items[i];
        ck_assert_int_eq(fdm_tensors_add(&other, m->name, types[i % 3], m->ndim, m->shape, &t, NULL), FDM_OK);
        for (int64_t k = 0; k < fdm_tensor_numel(t); k++) {
            const double value = (double)(k % 17) - 8; /* small integers */
            const float f = (float)value;
            uint32_t bits;
            memcpy(&bits, &f, 4);
            const uint32_t half = bits == 0 ? 0 : (bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 127 + 15) << 10) | (bits >> 13 & 0x3ff);
            if (t->dtype == FDM_F64) ((double *)t->data)[k] = value;
            else ((uint16_t *)t->data)[k] = (uint16_t)(t->dtype == FDM_BF16 ? bits >> 16 : half);
        }
    }
    const char *path = scratch("mixed.pt"), *target = scratch("mixed.safetensors");
    char *config = fdm_strdup(fdm_tensors_meta(&model, "init_kwargs"));
    ck_assert_int_eq(fdm_torch_write(&other, path, NULL), FDM_OK);
    fdm_import_report r;
    check_refused(fdm_import(target, path, &(fdm_import_options){.config = config}, &r, &err), FDM_BAD_INPUT, &err, "class_name");
    json_t *json = json_loads(config, 0, NULL);
    json_object_set_new(json, "class_name", json_string("FDM_EDMPrecond"));
    free(config);
    config = json_dumps(json, 0);
    json_decref(json);
    import_ok(target, path, &(fdm_import_options){.config = config}, &r);
    free(config);
    ck_assert_uint_eq(r.converted, model.count);
    ck_assert_str_eq(r.types, "F16 BF16 F64");
    ck_assert_int_eq(fdm_safetensors_read(&got, target, NULL), FDM_OK);
    ck_assert_uint_eq(got.count, model.count);
    for (size_t i = 0; i < got.count; i++) {
        ck_assert_int_eq(got.items[i].dtype, FDM_F32);
        for (int64_t k = 0; k < fdm_tensor_numel(&got.items[i]); k++)
            ck_assert(((const float *)got.items[i].data)[k] == (float)(k % 17) - 8);
    }
    fdm_tensors_free(&got);
    fdm_tensors_free(&other);
    fdm_tensors_free(&model);
}
END_TEST

/* ---- State_dicts written here ------------------------------------------------------------------------------- */

START_TEST(export_and_back) {
    fdm_tensors set = {0};
    fdm_error err;
    const char *from = scratch("all.safetensors"), *path = scratch("all.pt"), *again = scratch("again.safetensors");
    fill_all_dtypes(&set, false);
    ck_assert_int_eq(fdm_safetensors_write(&set, from, NULL), FDM_OK);
    ck_assert_msg(fdm_export(path, from, &err) == FDM_OK, "%s", err.message);
    import_ok(again, path, NULL, NULL);
    check_same_file(again, from, "");
    struct fdm_torch_file f; /* every storage aligned, every element as it lies */
    ck_assert_int_eq(fdm_torch_open(&f, path, NULL), FDM_OK);
    ck_assert_uint_eq(f.storage_count, set.count);
    for (size_t i = 0; i < f.storage_count; i++) ck_assert_uint_eq((uintptr_t)f.storages[i].data % 64, 0);
    fdm_torch_close(&f);
    fdm_tensors_free(&set);
    check_refused(fdm_export(path, "nowhere.safetensors", &err), FDM_BAD_INPUT, &err, "nowhere");
}
END_TEST

/* ---- Hostile files ------------------------------------------------------------------------------------------ */

static int attack_count;

static void try_attack(void *user, const char *name, const char *mention, const unsigned char *bytes, size_t n) {
    const char *source = scratch("attack.pkl"), *target = scratch("attack.safetensors");
    struct stat st;
    fdm_error err = {.status = FDM_OK};
    (void)user;
    write_bytes(source, bytes, n);
    const fdm_status status = fdm_import(target, source, NULL, NULL, &err);
    ck_assert_msg(status == FDM_BAD_INPUT, "%s: status %d, %s", name, status, status ? err.message : "accepted");
    ck_assert_msg(strstr(err.message, mention) != NULL, "%s: \"%s\" says nothing of \"%s\"", name, err.message, mention);
    ck_assert_msg(strstr(err.message, "attack.pkl") != NULL && strchr(err.message, '\n') == NULL, "%s: %s", name, err.message);
    ck_assert_msg(stat(target, &st) != 0, "%s left a file", name);
    attack_count++;
}

START_TEST(attacks) {
    attacks_each(try_attack, NULL);
    printf("%d attacks\n", attack_count);
    ck_assert_int_ge(attack_count, 60);
}
END_TEST

/* Twenty parameters with one state of 100000 entries among which Adam's are searched: looked at six million times. */
START_TEST(one_state_for_all_parameters) {
    static const float zero[4];
    const fdm_tensor element = {.dtype = FDM_F32, .ndim = 1, .shape = {4}, .nbytes = 16, .data = (void *)(uintptr_t)zero};
    struct bytes b = {0};
    PUT(&b, "\x80\x02}");
    put_text(&b, "optimizer_state");
    PUT(&b, "}(");
    put_text(&b, "param_groups");
    PUT(&b, "]}");
    put_text(&b, "params");
    PUT(&b, "](");
    for (int i = 0; i < 20; i++) put_long(&b, i);
    PUT(&b, "esa");
    put_text(&b, "state");
    PUT(&b, "}(K\0}(");
    put_text(&b, "exp_avg");
    put_parameter(&b, &element);
    PUT(&b, "q\x01");
    put_text(&b, "exp_avg_sq");
    PUT(&b, "h\x01");
    put_text(&b, "step");
    PUT(&b, "K\x02u");
    for (int part = 0; part < 100; part++) {
        PUT(&b, "(");
        for (int i = 0; i < 1000; i++) PUT(&b, "K\x01N");
        PUT(&b, "u");
    }
    PUT(&b, "q\x02");
    for (int i = 1; i < 20; i++) {
        PUT(&b, "K");
        put_u8(&b, i);
        PUT(&b, "h\x02");
    }
    PUT(&b, "uus.");
    struct fdm_published p;
    struct fdm_torch_list list = {0};
    struct fdm_torch_tensor t = {.dtype = FDM_F32, .data = (const unsigned char *)zero, .ndim = 1, .shape = {4}, .stride = {1}, .numel = 4, .nbytes = 16};
    fdm_error err = {.status = FDM_OK};
    float *steps = NULL;
    size_t count;
    ck_assert_msg(fdm_published_parse(&p, b.p, b.n, "memory", &err) == FDM_OK, "%s", err.message);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "net.p%d", i);
        ck_assert_int_eq(fdm_torch_add(&list, &p.file, name, &t, true, NULL), FDM_OK);
    }
    check_refused(fdm_published_moments(&list, &steps, &count, &p, &err), FDM_BAD_INPUT, &err, "stands for more than");
    free(steps);
    fdm_torch_list_free(&list);
    fdm_published_close(&p);
    free(b.p);
}
END_TEST

/* All tensors of a file in memory, copied; FDM_OK or a refusal. */
static fdm_status read_all(const unsigned char *bytes, size_t n, fdm_error *err) {
    struct fdm_torch_file f;
    struct fdm_torch_list list = {0};
    unsigned char *exact = copy_bytes(bytes, n);
    fdm_status status = fdm_torch_parse(&f, exact, n, "memory", err);
    if (!status) {
        status = fdm_torch_collect(&list, &f, &f.pickle.top, "", err);
        fdm_torch_list_free(&list);
        fdm_torch_close(&f);
    }
    free(exact);
    return status;
}

START_TEST(cut_off_anywhere) {
    for (int i = 0; i < FIXTURES; i++) {
        size_t n;
        fdm_error err = {.status = FDM_OK};
        unsigned char *bytes = read_bytes(fixture(fixtures[i]), &n);
        ck_assert_int_eq(read_all(bytes, n, &err), FDM_OK);
        for (size_t cut = 0; cut < n; cut += cut < 300 || n - cut < 300 ? 1 : 13)
            check_refused(read_all(bytes, cut, &err), FDM_BAD_INPUT, &err, "memory");
        free(bytes);
    }
}
END_TEST

/* Big-endian storages, and members at any alignment. */
START_TEST(byte_order_and_alignment) {
    for (int pad = 0; pad < 4; pad++)
        for (int big = 0; big < 2; big++) {
            struct bytes object = {0}, floats = {0}, order = {0}, file = {0};
            static const char name[] = "a/padding_";
            PUT(&object, "\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" "0X\x03\0\0\0"
                         "cpuK\x02tQK\0K\x02\x85K\x01\x85\x89NtRs.");
            const float values[] = {1.5f, -2.0f};
            for (int i = 0; i < 2; i++) {
                unsigned char b[4];
                memcpy(b, &values[i], 4);
                for (int k = 0; k < 4; k++) put_u8(&floats, b[big ? 3 - k : k]);
            }
            if (big) PUT(&order, "big");
            else PUT(&order, "little");
            char padded[32];
            snprintf(padded, sizeof padded, "%.*s", (int)sizeof name - 1 - pad, name);
            struct zip_part parts[] = {{.name = "a/data.pkl", .data = object}, {.name = padded}, {.name = "a/data/0", .data = floats},
                                       {.name = "a/byteorder", .data = order}};
            make_zip(&file, parts, 4);
            const char *source = scratch("order.pt"), *target = scratch("order.safetensors");
            fdm_tensors set;
            write_bytes(source, file.p, file.n);
            import_ok(target, source, NULL, NULL);
            ck_assert_int_eq(fdm_safetensors_read(&set, target, NULL), FDM_OK);
            ck_assert(set.count == 1 && set.items[0].nbytes == 8 && memcmp(set.items[0].data, values, 8) == 0);
            fdm_tensors_free(&set);
            for (int i = 0; i < 4; i++) free(parts[i].data.p);
            free(file.p);
        }
}
END_TEST

/* mu and sigma as the published program keeps them. */
START_TEST(statistics_of_inception) {
    fdm_tensors set = {0}, got;
    fdm_tensor *mu, *sigma;
    const int64_t n = 64, shape[] = {n, n};
    const char *path = scratch("stats.npz");
    ck_assert_int_eq(fdm_tensors_add(&set, "mu", FDM_F64, 1, &n, &mu, NULL), FDM_OK);
    for (int64_t i = 0; i < n; i++) ((double *)mu->data)[i] = 1.0 / (double)(i + 1);
    ck_assert_int_eq(fdm_tensors_add(&set, "sigma", FDM_F64, 2, shape, &sigma, NULL), FDM_OK);
    for (int64_t i = 0; i < n * n; i++) ((double *)sigma->data)[i] = (double)(i * 7 % 64);
    ck_assert_int_eq(fdm_npz_write(&set, path, NULL), FDM_OK);
    ck_assert_int_eq(fdm_npz_read(&got, path, NULL), FDM_OK);
    check_same_tensors(&set, &got, false);
    fdm_tensors_free(&set);
    fdm_tensors_free(&got);
}
END_TEST

/* ---- Out of memory ------------------------------------------------------------------------------------------ */

struct import_job {
    const char *source, *target;
};

static bool wrong_refusal;

static bool import_once(void *arg) {
    const struct import_job *job = arg;
    fdm_error err = {.status = FDM_OK};
    const fdm_status status = fdm_import(job->target, job->source, NULL, NULL, &err);
    if (status != FDM_OK && !is_refusal(status, FDM_NO_RESOURCE, &err, NULL)) wrong_refusal = true;
    return status == FDM_OK;
}

START_TEST(out_of_memory) {
    static const char *const files[] = {"plain2.pkl", "plain5.pkl", "legacy.pt", "zip_strided.pt", "zip_module.pt"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(files); i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/corpus/pickle/%s", files[i]);
        struct import_job job = {path, scratch("oom.safetensors")};
        ck_assert_int_gt(oom_sweep(files[i], import_once, &job), -1);
    }
    ck_assert(!wrong_refusal);
}
END_TEST

/* ---- For tests/test_import_cli.sh ------------------------------------------------------------------------------- */

static const char *attack_folder;

static void write_attack(void *user, const char *name, const char *mention, const unsigned char *bytes, size_t n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.pkl", attack_folder, name);
    write_bytes(path, bytes, n);
    fprintf(user, "%s\t%s\n", name, mention);
}

START_TEST(write_attacks) {
    char path[1024];
    snprintf(path, sizeof path, "%s/list", attack_folder);
    FILE *list = fopen(path, "w");
    ck_assert_ptr_nonnull(list);
    attacks_each(write_attack, list);
    ck_assert_int_eq(fclose(list), 0);
}
END_TEST

/* ---- For the shell tests: a command under limits ---------------------------------------------------------------- */

/* Runs it with at most 5 seconds of CPU time and 1 GB of addresses, in a sanitizer build (whose own addresses are terabytes)
 * 20 seconds alone; writes its peak memory in kB to a file, returns its exit code, 128 + N if signal N ended it. */
static int run_limited(const char *peak_file, char **command) {
    const char *sanitize = getenv("SANITIZE");
    const bool slow = sanitize && *sanitize;
    const struct rlimit cpu = {slow ? 20 : 5, slow ? 21 : 6}, memory = {(rlim_t)1 << 30, (rlim_t)1 << 30};
    struct rusage usage;
    int code;
    const pid_t child = fork();
    if (child == 0) {
        if (setrlimit(RLIMIT_CPU, &cpu) == 0 && (slow || setrlimit(RLIMIT_AS, &memory) == 0)) execv(command[0], command);
        _exit(126);
    }
    FILE *file = fopen(peak_file, "w");
    if (child < 0 || !file || wait4(child, &code, 0, &usage) != child) return 126;
    fprintf(file, "%ld\n", usage.ru_maxrss);
    if (fclose(file)) return 126;
    return WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
}

static void add_tests(TCase *tc) {
    tcase_add_test(tc, published_snapshot);
    tcase_add_test(tc, published_training_state);
    tcase_add_test(tc, run_to_go_on_with);
    tcase_add_test(tc, every_preconditioning);
    tcase_add_test(tc, every_kind_of_value);
    tcase_add_test(tc, values_as_json);
    tcase_add_test(tc, conversion);
    tcase_add_test(tc, export_and_back);
    tcase_add_test(tc, attacks);
    tcase_add_test(tc, one_state_for_all_parameters);
    tcase_add_test(tc, cut_off_anywhere);
    tcase_add_test(tc, byte_order_and_alignment);
    tcase_add_test(tc, statistics_of_inception);
    tcase_add_test(tc, out_of_memory);
}

/* test_import --write DIR: only the attacks as files, and DIR/list with their names and mentions.
 * test_import --limited PEAK-FILE COMMAND...: see run_limited(). */
int main(int argc, char **argv) {
    if (argc > 3 && strcmp(argv[1], "--limited") == 0) return run_limited(argv[2], argv + 3);
    const bool write = argc == 3 && strcmp(argv[1], "--write") == 0;
    attack_folder = write ? argv[2] : NULL;
    Suite *suite = suite_create("import");
    TCase *tc = tcase_create("import");
    tcase_set_timeout(tc, 300);
    if (write) tcase_add_test(tc, write_attacks);
    else add_tests(tc);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
