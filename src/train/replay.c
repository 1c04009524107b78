/* replay.c - recorded updates of a training run, done again. */
#include "fdm/replay.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "fdm/augment.h"

struct replay {
    const fdm_tensors *set;
    const char *where;
    fdm_config config;
    fdm_trainer_options options;
    double augment_p, resume_kimg;
    int rounds;
    fdm_dtype precision;
    fdm_loss loss;
    fdm_stop_fn stop;
};

/* --- the recording's settings --- */

/* Metadata `key` as JSON, to be released even after an error; NULL without one if it is absent. */
static fdm_status meta_json(json_t **out, const struct replay *r, const char *key, fdm_error *err) {
    json_error_t why;
    const char *text = fdm_tensors_meta(r->set, key);
    *out = NULL;
    if (!text) return FDM_OK;
    if (strlen(text) > 1 << 20) return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata %s is too long", r->where, key);
    *out = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
    if (!*out) return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata %s is no JSON: %s", r->where, key, why.text);
    return FDM_OK;
}

/* The same for an object. */
static fdm_status meta_object(json_t **out, const struct replay *r, const char *key, fdm_error *err) {
    const fdm_status status = meta_json(out, r, key, err);
    if (status != FDM_OK || !*out || json_is_object(*out) || json_is_null(*out)) return status;
    return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata %s is no JSON object", r->where, key);
}

/* *value = object[key] if it is there; null gives `null_value`. */
static fdm_status number(double *value, const json_t *object, const char *what, const char *key, double null_value,
                         const struct replay *r, fdm_error *err) {
    const json_t *item = json_object_get(object, key);
    if (!item) return FDM_OK;
    if (json_is_null(item) && !isnan(null_value)) {
        *value = null_value;
        return FDM_OK;
    }
    if (!json_is_number(item))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata %s: %s is no number", r->where, what, key);
    *value = json_number_value(item);
    return FDM_OK;
}

static fdm_status read_loop(struct replay *r, fdm_error *err) {
    json_t *loop = NULL;
    double batch = (double)r->options.batch;
    fdm_status status = meta_object(&loop, r, "loop", err);
    if (status == FDM_OK) status = number(&batch, loop, "loop", "batch_size", NAN, r, err);
    if (status == FDM_OK) status = number(&r->options.lr_rampup_kimg, loop, "loop", "lr_rampup_kimg", NAN, r, err);
    if (status == FDM_OK) status = number(&r->options.ema_halflife_kimg, loop, "loop", "ema_halflife_kimg", NAN, r, err);
    if (status == FDM_OK) status = number(&r->options.ema_rampup_ratio, loop, "loop", "ema_rampup_ratio", -1, r, err);
    if (status == FDM_OK) status = number(&r->options.loss_scaling, loop, "loop", "loss_scaling", NAN, r, err);
    if (status == FDM_OK) status = number(&r->resume_kimg, loop, "loop", "resume_kimg", NAN, r, err);
    json_decref(loop);
    if (status == FDM_OK && (!(batch >= 1 && batch <= 65536) || batch != floor(batch) || r->resume_kimg != 0))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata loop: batch_size %g, resume_kimg %g; a recording starts at image 0 "
                        "with 1 to 65536 images a batch", r->where, batch, r->resume_kimg);
    if (status == FDM_OK) r->options.batch = (int64_t)batch;
    return status;
}

static fdm_status read_optimizer(struct replay *r, fdm_error *err) {
    json_t *lr = NULL, *eps = NULL, *betas = NULL;
    fdm_status status = meta_json(&lr, r, "lr", err);
    if (status == FDM_OK) status = meta_json(&eps, r, "eps", err);
    if (status == FDM_OK) status = meta_json(&betas, r, "betas", err);
    const json_t *beta1 = json_array_get(betas, 0), *beta2 = json_array_get(betas, 1);
    const bool ok = (!lr || json_is_number(lr)) && (!eps || json_is_number(eps)) &&
                    (!betas || (json_array_size(betas) == 2 && json_is_number(beta1) && json_is_number(beta2)));
    if (status == FDM_OK && !ok)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: metadata lr and eps must be numbers, betas two numbers", r->where);
    if (status == FDM_OK && lr) r->options.lr = json_number_value(lr);
    if (status == FDM_OK && eps) r->options.eps = json_number_value(eps);
    if (status == FDM_OK && betas) {
        r->options.beta1 = json_number_value(beta1);
        r->options.beta2 = json_number_value(beta2);
    }
    json_decref(lr);
    json_decref(eps);
    json_decref(betas);
    return status;
}

static fdm_status read_settings(struct replay *r, fdm_error *err) {
    json_t *loss = NULL, *augment = NULL, *rounds = NULL;
    double number_of_rounds = 1;
    fdm_error why = {0};
    r->options = fdm_trainer_defaults();
    r->augment_p = 0.12;
    fdm_status status = fdm_config_from_tensors(&r->config, r->set, r->where, err);
    if (status == FDM_OK) status = fdm_loss_init(&r->loss, r->config.precond.kind, err);
    if (status == FDM_OK) status = read_loop(r, err);
    if (status == FDM_OK) status = read_optimizer(r, err);
    if (status == FDM_OK) status = meta_object(&loss, r, "loss", err);
    if (status == FDM_OK) status = number(&r->options.warmup_ite, loss, "loss", "warmup_ite", 0, r, err);
    /* The published loss has no warm-up for the other frameworks, whatever its W is; one that is negative is still refused. */
    if (r->options.warmup_ite > 0 && !fdm_precond_is_fdm(r->config.precond.kind)) r->options.warmup_ite = 0;
    if (status == FDM_OK) status = meta_object(&augment, r, "augment", err);
    if (status == FDM_OK) status = number(&r->augment_p, augment, "augment", "p", NAN, r, err);
    if (status == FDM_OK) status = meta_json(&rounds, r, "num_accumulation_rounds", err);
    if (status == FDM_OK && rounds) number_of_rounds = json_is_number(rounds) ? json_number_value(rounds) : 0;
    if (status == FDM_OK &&
        (!(number_of_rounds >= 1 && number_of_rounds <= 65536) || number_of_rounds != floor(number_of_rounds)))
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: metadata num_accumulation_rounds is no integer from 1 to 65536", r->where);
    if (status == FDM_OK && !(r->augment_p >= 0 && r->augment_p <= 1))
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: metadata augment: p %g is no probability", r->where, r->augment_p);
    if (status == FDM_OK && fdm_trainer_check(&r->options, &why) != FDM_OK)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: metadata: %.256s", r->where, why.message);
    if (status == FDM_OK) r->rounds = (int)number_of_rounds;
    json_decref(loss);
    json_decref(augment);
    json_decref(rounds);
    return status;
}

/* --- the inputs of one loss call --- */

struct call {
    int n;
    double *y, *sigma, *noise_unit, *class_labels, *augment_labels;
};

static void free_call(struct call *c) {
    free(c->y);
    free(c->sigma);
    free(c->noise_unit);
    free(c->class_labels);
    free(c->augment_labels);
}

/* Tensor <prefix><name> of n rows of `row` elements, as doubles; *n == 0: finds out n.  NULL if it is absent. */
static fdm_status read_rows(double **out, int *n, const struct replay *r, const char *prefix, const char *name, size_t row,
                            fdm_error *err) {
    char full[96];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const fdm_tensor *t = fdm_tensors_find(r->set, full);
    *out = NULL;
    if (!t) return FDM_OK;
    const int64_t count = fdm_tensor_numel(t);
    if ((t->dtype != FDM_F32 && t->dtype != FDM_F64) || t->ndim < 1 || t->shape[0] < 1 || t->shape[0] > 65536 ||
        (*n && t->shape[0] != *n) || (uint64_t)count != (uint64_t)t->shape[0] * row)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s does not hold %s%d rows of %zu floating-point numbers", r->where,
                        full, *n ? "" : "at least ", *n ? *n : 1, row);
    if (!(*out = calloc((size_t)count, sizeof **out))) return fdm_fail_oom(err, full, (size_t)count * sizeof **out);
    *n = (int)t->shape[0];
    for (int64_t i = 0; i < count; i++) {
        (*out)[i] = fdm_tensor_get(t, i);
        if (!isfinite((*out)[i]))
            return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s: element %" PRId64 " is %g", r->where, full, i, (*out)[i]);
    }
    return FDM_OK;
}

static fdm_status missing(const struct replay *r, const char *prefix, const char *names, fdm_error *err) {
    return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s%s is missing", r->where, prefix, names);
}

/* y and its labels from the images and the recorded draws of the augmentation. */
static fdm_status augment(struct call *c, const struct replay *r, const char *prefix, fdm_error *err) {
    char draws_prefix[80];
    const int channels = r->config.img_channels, resolution = r->config.img_resolution;
    const size_t pixels = (size_t)channels * (size_t)resolution * (size_t)resolution;
    fdm_status status = read_rows(&c->y, &c->n, r, prefix, "images", pixels, err);
    if (status == FDM_OK && !c->y) return missing(r, prefix, "y (or images)", err);
    snprintf(draws_prefix, sizeof draws_prefix, "%saug", prefix);
    char first[96];
    snprintf(first, sizeof first, "%s00.randint", draws_prefix);
    if (status != FDM_OK || !fdm_tensors_find(r->set, first)) return status; /* no augmentation in this run */
    fdm_augment_draws *draws = malloc((size_t)c->n * sizeof *draws);
    if (!draws) return fdm_fail_oom(err, "augmentation", (size_t)c->n * sizeof *draws);
    status = fdm_augment_draws_from_tensors(draws, c->n, r->set, draws_prefix, r->where, err);
    double *labels = status == FDM_OK ? malloc((size_t)c->n * FDM_AUGMENT_LABELS * sizeof *labels) : NULL;
    if (status == FDM_OK && !labels) status = fdm_fail_oom(err, "augmentation", (size_t)c->n * sizeof *draws);
    if (status == FDM_OK)
        status = fdm_augment_batch(c->y, labels, c->y, draws, c->n, channels, resolution, r->augment_p,
                                   FDM_AUGMENT_PAD_BATCH, 1, err);
    free(draws);
    if (status == FDM_OK && r->config.augment_dim == FDM_AUGMENT_LABELS && !c->augment_labels) c->augment_labels = labels;
    else free(labels);
    return status;
}

static fdm_status read_call(struct call *c, const struct replay *r, int64_t update, int round, fdm_error *err) {
    char prefix[64];
    const size_t side = (size_t)r->config.img_resolution, pixels = (size_t)r->config.img_channels * side * side;
    snprintf(prefix, sizeof prefix, "s%" PRId64 ".r%d.", update, round);
    fdm_status status = read_rows(&c->y, &c->n, r, prefix, "y", pixels, err);
    if (status == FDM_OK && r->config.augment_dim)
        status = read_rows(&c->augment_labels, &c->n, r, prefix, "augment_labels", (size_t)r->config.augment_dim, err);
    if (status == FDM_OK && !c->y) status = augment(c, r, prefix, err);
    if (status == FDM_OK) status = read_rows(&c->sigma, &c->n, r, prefix, "sigma", 1, err);
    if (status == FDM_OK && !c->sigma) {
        status = read_rows(&c->sigma, &c->n, r, prefix, "rnd", 1, err);
        if (status == FDM_OK && !c->sigma) return missing(r, prefix, "sigma (or rnd)", err);
        for (int i = 0; i < c->n && status == FDM_OK; i++) c->sigma[i] = fdm_loss_sigma(&r->loss, c->sigma[i], FDM_F32);
    }
    for (int i = 0; i < c->n && status == FDM_OK; i++)
        if (!(c->sigma[i] > 0) || !isfinite(c->sigma[i]))
            return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %ssigma: element %d is %g; noise levels must be positive", r->where,
                            prefix, i, c->sigma[i]);
    if (status == FDM_OK) status = read_rows(&c->noise_unit, &c->n, r, prefix, "noise_unit", pixels, err);
    if (status == FDM_OK && !c->noise_unit) return missing(r, prefix, "noise_unit", err);
    if (status == FDM_OK && r->config.label_dim)
        status = read_rows(&c->class_labels, &c->n, r, prefix, "class_labels", (size_t)r->config.label_dim, err);
    return status;
}

/* --- the updates --- */

/* After `done` samples: whether the next `n` are part of this batch, and all of it if this is the last round. */
static fdm_status check_round(const struct replay *r, int64_t update, int round, int64_t done, int n, fdm_error *err) {
    const int64_t batch = r->options.batch, with = done + n;
    if (with < batch ? round < r->rounds : with == batch && round == r->rounds) return FDM_OK;
    return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor s%" PRId64 ".r%d.noise_unit: %d samples after %" PRId64 " in round %d of %d "
                    "do not fit a batch_size of %" PRId64, r->where, update, round, n, done, round, r->rounds, batch);
}

/* *done: samples of this update so far. */
static fdm_status one_round(fdm_trainer *t, const struct replay *r, int64_t update, int round, int64_t *done, double *loss,
                            fdm_error *err) {
    struct call c = {0};
    fdm_status status = read_call(&c, r, update, round, err);
    if (status == FDM_OK) status = check_round(r, update, round, *done, c.n, err);
    *done += c.n;
    double *losses = status == FDM_OK ? malloc((size_t)c.n * sizeof *losses) : NULL;
    if (status == FDM_OK && !losses) status = fdm_fail_oom(err, "losses", (size_t)c.n * sizeof *losses);
    const fdm_gradient_args args = {.n = c.n, .y = c.y, .sigma = c.sigma, .noise_unit = c.noise_unit,
                                    .class_labels = c.class_labels, .augment_labels = c.augment_labels, .loss = losses,
                                    .stop = r->stop};
    if (status == FDM_OK) status = fdm_trainer_round(t, &args, NULL, err);
    if (status == FDM_OK) *loss = fdm_loss_total(losses, c.n);
    free(losses);
    free_call(&c);
    return status;
}

static fdm_status check_recorded(const struct replay *r, int64_t updates, fdm_error *err) {
    int64_t recorded = 0;
    char name[64];
    for (;; recorded++) {
        snprintf(name, sizeof name, "s%" PRId64 ".r1.noise_unit", recorded + 1);
        if (!fdm_tensors_find(r->set, name)) break;
    }
    if (updates >= 1 && updates <= recorded) return FDM_OK;
    return fdm_fail(err, FDM_BAD_USAGE, "%s: holds %" PRId64 " updates, not %" PRId64, r->where, recorded, updates);
}

/* Copies a model's tensors into the result. */
static fdm_status copy_model(fdm_tensors *result, const char *prefix, fdm_trainer *t, const float *values, fdm_error *err) {
    fdm_tensors model = {0};
    fdm_status status = fdm_gradient_model(fdm_trainer_gradient(t), &model, values, err);
    if (status == FDM_OK) status = fdm_tensors_set_meta(result, "config", fdm_tensors_meta(&model, "config"), err);
    for (size_t i = 0; i < model.count && status == FDM_OK; i++) {
        const fdm_tensor *p = &model.items[i];
        fdm_tensor *copy;
        char name[192];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        status = fdm_tensors_add(result, name, p->dtype, p->ndim, p->shape, &copy, err);
        if (status == FDM_OK) memcpy(copy->data, p->data, p->nbytes);
    }
    fdm_tensors_free(&model);
    return status;
}

static fdm_status initial_weights(fdm_tensors *weights, const fdm_tensors *set, fdm_error *err) {
    static const char prefix[] = "step0.param.";
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < set->count && status == FDM_OK; i++) {
        const fdm_tensor *t = &set->items[i];
        if (strncmp(t->name, prefix, sizeof prefix - 1) == 0)
            status = fdm_tensors_append(weights, t->name + sizeof prefix - 1, t->dtype, t->ndim, t->shape, t->data, false,
                                        NULL, err);
    }
    return status;
}

fdm_status fdm_replay(fdm_tensors *result, const fdm_tensors *set, const char *where, int64_t updates,
                      const fdm_run_options *run, fdm_replay_fn on_round, void *user, fdm_stop_fn stop, fdm_error *err) {
    struct replay r = {.set = set, .where = where, .stop = stop};
    fdm_tensors weights = {0};
    fdm_trainer *t = NULL;
    double loss = 0;
    fdm_status status = read_settings(&r, err);
    if (status == FDM_OK) status = check_recorded(&r, updates, err);
    if (status == FDM_OK) status = initial_weights(&weights, set, err);
    if (status == FDM_OK) status = fdm_trainer_create(&t, &r.config, &weights, where, &r.options, run, err);
    fdm_tensors_free(&weights);
    for (int64_t u = 1; u <= updates && status == FDM_OK; u++) {
        int64_t done = 0;
        for (int k = 1; k <= r.rounds && status == FDM_OK; k++) {
            status = one_round(t, &r, u, k, &done, &loss, err);
            if (status == FDM_OK && on_round) on_round(user, u, k, loss);
        }
        if (status == FDM_OK) status = fdm_trainer_update(t, NULL, err);
    }
    if (status == FDM_OK) status = copy_model(result, "param.", t, fdm_gradient_values(fdm_trainer_gradient(t)), err);
    if (status == FDM_OK) status = copy_model(result, "ema.", t, fdm_trainer_ema(t), err);
    fdm_trainer_free(&t);
    return status;
}
