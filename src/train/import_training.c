/* import_training.c - a published training state and its snapshot as a run of our own. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/tensor_set.h"
#include "fdm/import.h"
#include "train/published.h"
#include "train/train_run.h"

enum { PATH_BYTES = 4096 };

struct adoption {
    const fdm_import_run *source;
    const fdm_train_hooks *hooks;
    struct fdm_published state, snapshot;
    struct fdm_torch_list list; /* net., adam_m., adam_v., ema. */
    float *steps;
    size_t step_count;
    fdm_train_settings settings;
    fdm_warmup warmup;
    int64_t images, updates;
    fdm_error *err;
};

/* ---- The files ---------------------------------------------------------------------------------------------- */

/* The last number in the file's name: thousands of images; -1 if there is none. */
static int64_t kimg_of(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *end = name + strlen(name);
    int64_t value = 0;
    while (end > name && (end[-1] < '0' || end[-1] > '9')) end--;
    const char *begin = end;
    while (begin > name && begin[-1] >= '0' && begin[-1] <= '9') begin--;
    if (begin == end || end - begin > 12) return -1;
    while (begin < end) value = value * 10 + (*begin++ - '0');
    return value;
}

/* "dir/training-state-000123.pt" -> "dir/<name>", or with a number "dir/<name>000123<extension>". */
static bool beside(char out[PATH_BYTES], const char *state, const char *name, const char *extension) {
    static const char prefix[] = "training-state-";
    const char *slash = strrchr(state, '/'), *file = slash ? slash + 1 : state;
    int digits = 0;
    if (extension) {
        if (strncmp(file, prefix, sizeof prefix - 1) != 0) return false;
        while (file[sizeof prefix - 1 + (size_t)digits] >= '0' && file[sizeof prefix - 1 + (size_t)digits] <= '9') digits++;
    }
    const int n = snprintf(out, PATH_BYTES, "%.*s%s%.*s%s", (int)(file - state), state, name, digits, file + (extension ? sizeof prefix - 1 : 0),
                           extension ? extension : "");
    return n >= 0 && n < PATH_BYTES;
}

static fdm_status open_state(struct adoption *a) {
    fdm_status status = fdm_published_open(&a->state, a->source->state, a->err);
    if (!status && a->state.kind != FDM_PUBLISHED_STATE)
        return fdm_fail(a->err, FDM_BAD_INPUT, "%s: is no training state (net and optimizer_state); only one can be gone on with",
                        a->state.file.label);
    if (!status) status = fdm_published_network(&a->list, &a->state, "net.", a->err);
    return status ? status : fdm_published_moments(&a->list, &a->steps, &a->step_count, &a->state, a->err);
}

static fdm_status check_same_config(const struct adoption *a) {
    char *one = fdm_config_json(&a->state.config), *two = fdm_config_json(&a->snapshot.config);
    fdm_status status = !one || !two ? fdm_fail_oom(a->err, "configuration", 0) : FDM_OK;
    if (!status && strcmp(one, two) != 0)
        status = fdm_fail(a->err, FDM_BAD_INPUT, "%s: holds another network than %s; take the snapshot of the same run", a->snapshot.file.label,
                          a->state.file.label);
    free(one);
    free(two);
    return status;
}

static fdm_status open_snapshot(struct adoption *a) {
    char found[PATH_BYTES];
    const char *path = a->source->snapshot;
    if (!path && beside(found, a->source->state, "network-snapshot-", ".pkl") && access(found, R_OK) == 0) path = found;
    if (!path)
        return fdm_fail(a->err, FDM_BAD_INPUT, "%s: the averaged network is not in a training state, and there is no network-snapshot-*.pkl of the "
                        "same number beside it; give --snapshot", a->state.file.label);
    fdm_status status = fdm_published_open(&a->snapshot, path, a->err);
    if (!status && a->snapshot.kind != FDM_PUBLISHED_SNAPSHOT)
        return fdm_fail(a->err, FDM_BAD_INPUT, "%s: is no network snapshot", a->snapshot.file.label);
    if (!status) status = check_same_config(a);
    return status ? status : fdm_torch_collect(&a->list, &a->snapshot.file, a->snapshot.network, "ema.", a->err);
}

/* ---- Settings ----------------------------------------------------------------------------------------------- */

/* A number among a dict's values, NumPy's too; `otherwise` if it is none. */
static double number(struct fdm_published *p, const struct fdm_pickle_value *dict, const char *key, double otherwise) {
    const struct fdm_pickle_value *v = fdm_pickle_get(dict, key);
    struct fdm_torch_tensor t;
    bool found = false;
    if (!v) return otherwise;
    if (v->kind == FDM_PICKLE_FLOAT) return v->real;
    if (v->kind == FDM_PICKLE_INT || v->kind == FDM_PICKLE_BOOL) return (double)v->number;
    if (fdm_torch_tensor(&t, &found, &p->file, v, key, NULL) != FDM_OK || !found || t.numel != 1) return otherwise;
    uint64_t bits = 0;
    fdm_torch_copy(&bits, &t, t.dtype, 0, 1);
    const fdm_tensor one = {.dtype = t.dtype, .data = &bits};
    return fdm_tensor_get(&one, 0);
}

static void settings_of_network(fdm_train_settings *s, const fdm_config *c) {
    s->precond = (int)c->precond.kind;
    s->fdm_multiplier = fdm_precond_is_fdm(c->precond.kind) ? c->precond.fdm_multiplier : s->fdm_multiplier;
    s->zeta = c->precond.zeta;
    s->arch = c->embedding_type == FDM_EMBEDDING_FOURIER ? FDM_ARCH_NCSNPP : FDM_ARCH_DDPMPP;
    s->cbase = c->model_channels;
    s->levels = c->levels;
    memcpy(s->cres, c->channel_mult, sizeof s->cres);
    s->num_blocks = c->num_blocks;
    s->attn_count = c->attn_count;
    memcpy(s->attn_resolutions, c->attn_resolutions, sizeof s->attn_resolutions);
    s->dropout = c->dropout;
    s->label_dropout = c->label_dropout;
    s->cond = c->label_dim > 0;
    s->augment = c->augment_dim > 0 ? s->augment : 0;
}

/* What the snapshot says of loss, augmentation and data. */
static void settings_of_snapshot(struct adoption *a) {
    struct fdm_published *p = &a->snapshot;
    const struct fdm_pickle_value *top = &p->file.pickle.top, *loss = fdm_torch_attributes(fdm_pickle_get(top, "loss_fn"));
    const struct fdm_pickle_value *augment = fdm_torch_attributes(fdm_pickle_get(top, "augment_pipe"));
    fdm_train_settings *s = &a->settings;
    s->warmup_ite = fdm_precond_is_fdm(a->state.config.precond.kind) ? number(p, loss, "warmup_ite", 0) : 0;
    fdm_warmup_none(&a->warmup);
    if (s->warmup_ite > 0) a->warmup = (fdm_warmup){number(p, loss, "clamp_cur", NAN), number(p, loss, "warmup_step", NAN)};
    if (a->state.config.augment_dim > 0) s->augment = number(p, augment, "p", s->augment);
    s->xflip = number(p, fdm_pickle_get(top, "dataset_kwargs"), "xflip", 0) != 0;
}

static double number_at(const json_t *o, const char *key, double otherwise) {
    const json_t *item = json_object_get(o, key);
    return json_is_number(item) ? json_number_value(item) : otherwise;
}

static int64_t integer_at(const json_t *o, const char *key, int64_t otherwise) {
    const double value = number_at(o, key, (double)otherwise);
    return value >= 0 && value <= 0x1p53 ? (int64_t)value : otherwise;
}

/* training_options.json beside the state, if it is there: how the run was told to train.  False: no learning rate there. */
static bool settings_of_options(struct adoption *a) {
    char path[PATH_BYTES];
    fdm_train_settings *s = &a->settings;
    json_t *o = beside(path, a->source->state, "training_options.json", NULL) ? json_load_file(path, 0, NULL) : NULL;
    const json_t *optimizer = json_object_get(o, "optimizer_kwargs");
    const bool has_lr = json_is_number(json_object_get(optimizer, "lr"));
    s->batch = integer_at(o, "batch_size", s->batch);
    s->batch_gpu = integer_at(o, "batch_gpu", s->batch_gpu);
    s->duration = number_at(o, "total_kimg", s->duration * 1000) / 1000;
    s->ema = number_at(o, "ema_halflife_kimg", s->ema * 1000) / 1000;
    s->lr_rampup = number_at(o, "lr_rampup_kimg", s->lr_rampup * 1000) / 1000;
    s->ls = number_at(o, "loss_scaling", s->ls);
    s->lr = number_at(optimizer, "lr", s->lr);
    s->tick = number_at(o, "kimg_per_tick", s->tick);
    s->seed = integer_at(o, "seed", s->seed);
    json_decref(o);
    return has_lr;
}

static void settings_of_caller(fdm_train_settings *s, const fdm_import_run *o) {
    s->data = o->data;
    if (o->batch >= 0) s->batch = o->batch;
    if (o->batch_gpu >= 0) s->batch_gpu = o->batch_gpu;
    if (o->ema >= 0) s->ema = o->ema;
    if (o->lr >= 0) s->lr = o->lr;
    if (o->lr_rampup >= 0) s->lr_rampup = o->lr_rampup;
    if (o->ls >= 0) s->ls = o->ls;
    if (o->duration >= 0) s->duration = o->duration;
    if (o->seed >= 0) s->seed = o->seed;
}

/* The rate that the optimiser last used is the run's own once the ramp is over. */
static void take_last_rate(struct adoption *a) {
    const struct fdm_pickle_value *groups = fdm_pickle_get(fdm_pickle_get(&a->state.file.pickle.top, "optimizer_state"), "param_groups");
    if ((double)a->images > a->settings.lr_rampup * 1e6) a->settings.lr = number(&a->state, fdm_pickle_item(groups, 0), "lr", a->settings.lr);
}

/* Adam counts updates, the file's name thousands of images. */
static fdm_status count_images(struct adoption *a) {
    const int64_t kimg = kimg_of(a->source->state), batch = a->settings.batch;
    for (size_t i = 1; i < a->step_count; i++)
        if (a->steps[i] != a->steps[0])
            return fdm_fail(a->err, FDM_BAD_INPUT, "%s: Adam has counted %g updates of one parameter and %g of another", a->state.file.label,
                            (double)a->steps[0], (double)a->steps[i]);
    a->updates = a->step_count ? (int64_t)a->steps[0] : 0;
    a->images = a->updates * batch;
    if (kimg >= 0 && a->images / 1000 != kimg) a->images = kimg * 1000; /* the published program's own count when it resumes */
    return FDM_OK;
}

static fdm_status make_settings(struct adoption *a) {
    a->settings = fdm_train_defaults();
    a->settings.seed = 0;
    settings_of_network(&a->settings, &a->state.config);
    settings_of_snapshot(a);
    const bool has_lr = settings_of_options(a);
    settings_of_caller(&a->settings, a->source);
    fdm_status status = fdm_train_check(&a->settings, a->err);
    if (!status) status = count_images(a);
    if (!status && !has_lr && a->source->lr < 0) take_last_rate(a);
    return status;
}

/* ---- The state ---------------------------------------------------------------------------------------------- */

static fdm_status add_tensor(fdm_tensors *set, const struct fdm_torch_named *n, fdm_error *err) {
    const bool as_is = fdm_torch_lies_plain(&n->tensor, FDM_F32);
    fdm_tensor *t;
    union {
        const void *in;
        void *out; /* the set does not write to it */
    } data = {n->tensor.data};
    fdm_status status = fdm_tensors_append(set, n->name, FDM_F32, n->tensor.ndim, n->tensor.shape, as_is ? data.out : NULL, false, &t, err);
    if (!status && !as_is) fdm_torch_copy(t->data, &n->tensor, FDM_F32, 0, n->tensor.numel);
    return status;
}

static fdm_status add_scalars(fdm_tensors *set, const struct adoption *a) {
    const int64_t two = 2;
    fdm_tensor *t;
    char *config = fdm_config_json(&a->state.config);
    fdm_status status = config ? fdm_tensors_set_meta(set, "config", config, a->err) : fdm_fail_oom(a->err, "configuration", 0);
    free(config);
    if (!status) status = fdm_tensors_append(set, "trainer.counters", FDM_I64, 1, &two, NULL, true, &t, a->err);
    if (!status) memcpy(t->data, (int64_t[]){a->images, a->updates}, 16);
    if (!status) status = fdm_tensors_append(set, "trainer.warmup", FDM_F64, 1, &two, NULL, true, &t, a->err);
    if (!status) memcpy(t->data, (double[]){a->warmup.value, a->warmup.factor}, 16);
    return status;
}

static fdm_status adopt(struct adoption *a, const char *run_dir, const fdm_run_options *run) {
    fdm_tensors set = {0};
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < a->list.count && !status; i++) {
        if (fdm_torch_plain_dtype(a->list.items[i].tensor.dtype) != FDM_F32)
            status = fdm_fail(a->err, FDM_BAD_INPUT, "%s: tensor \"%.200s\" is %s; networks are of real numbers", a->state.file.label,
                              a->list.items[i].name, fdm_dtype_name(a->list.items[i].tensor.dtype));
        else status = add_tensor(&set, &a->list.items[i], a->err);
    }
    if (!status) status = add_scalars(&set, a);
    if (!status) status = fdm_train_adopt(run_dir, &a->settings, &set, a->state.file.label, run, a->hooks, a->err);
    fdm_tensors_free(&set);
    return status;
}

fdm_status fdm_import_training(const char *run_dir, const fdm_import_run *source, const fdm_run_options *run,
                               const fdm_train_hooks *hooks, int64_t *images, fdm_error *err) {
    struct adoption a = {.source = source, .hooks = hooks, .err = err};
    fdm_status status = open_state(&a);
    if (!status) status = open_snapshot(&a);
    if (!status) status = make_settings(&a);
    if (!status) status = adopt(&a, run_dir, run);
    if (!status && images) *images = a.images;
    free(a.steps);
    fdm_torch_list_free(&a.list);
    fdm_published_close(&a.snapshot);
    fdm_published_close(&a.state);
    return status;
}
