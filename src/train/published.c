/* published.c - what the pickles of the published program hold: networks with their constructor arguments, Adam's state. */
#include "train/published.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "nn/weights.h"

enum { MAX_JSON = 1 << 18, SHOWN = 80 };

/* ---- Configuration ------------------------------------------------------------------------------------------ */

/* The constructor's arguments as one JSON object: those given by position first, then those given by name. */
static bool arguments_json(struct fdm_text *out, struct fdm_published *p, const struct fdm_pickle_value *attributes) {
    static const char *const positions[] = {"img_resolution", "img_channels", "label_dim", "use_fp16"};
    const struct fdm_pickle_value *args = fdm_pickle_get(attributes, "_init_args"), *kwargs = fdm_pickle_get(attributes, "_init_kwargs");
    struct fdm_text named = {0};
    const struct fdm_pickle_value *arg;
    bool ok = kwargs && kwargs->kind == FDM_PICKLE_DICT && fdm_torch_json(&named, &p->file, kwargs, MAX_JSON);
    fdm_text_printf(out, "{");
    for (size_t i = 0; ok && (arg = fdm_pickle_item(args, i)); i++) {
        if (i == FDM_ARRAY_LEN(positions)) {
            ok = false;
            break;
        }
        fdm_text_printf(out, "\"%s\": ", positions[i]);
        ok = fdm_torch_json(out, &p->file, arg, MAX_JSON);
        if (ok && kwargs->node->count) fdm_text_printf(out, ", ");
        else if (ok && fdm_pickle_item(args, i + 1)) fdm_text_printf(out, ", ");
    }
    if (ok && !named.failed && named.length) fdm_text_add(out, named.bytes + 1, named.length - 1); /* without its "{" */
    out->failed = out->failed || named.failed;
    fdm_text_free(&named);
    return ok;
}

static fdm_status read_config(struct fdm_published *p, fdm_error *err) {
    const char *label = p->file.label;
    const struct fdm_pickle_value *attributes = fdm_torch_attributes(p->network), *class = fdm_torch_class(p->network);
    const struct fdm_pickle_value *model = fdm_torch_class(fdm_pickle_get(fdm_pickle_get(attributes, "_modules"), "model"));
    struct fdm_text json = {0};
    if (!class) return fdm_fail(err, FDM_BAD_INPUT, "%s: the network names no class; damaged", label);
    if (model && !fdm_pickle_is(model, "SongUNet"))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: the network is a %.*s in a %.*s; the only architecture known here is SongUNet", label,
                        (int)(model->size < SHOWN ? model->size : SHOWN), (const char *)model->bytes,
                        (int)(class->size < SHOWN ? class->size : SHOWN), (const char *)class->bytes);
    char *name = fdm_pickle_string(class);
    const bool ok = arguments_json(&json, p, attributes);
    fdm_status status = !name || json.failed ? fdm_fail_oom(err, "configuration", json.length) : FDM_OK;
    if (!status && !ok)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: the constructor arguments (_init_kwargs) of %.*s are missing or strange; only pickles of "
                          "the published program have them, for others give a state_dict and --config", label, SHOWN, name);
    if (!status) status = fdm_config_parse(&p->config, json.bytes, json.length, name, label, err);
    fdm_text_free(&json);
    free(name);
    return status;
}

/* ---- Opening ------------------------------------------------------------------------------------------------ */

/* A module that keeps its constructor's arguments, as the published program's do. */
static bool is_published(const struct fdm_pickle_value *v) { return fdm_pickle_is_call(v, FDM_PICKLE_PERSISTENCE) && fdm_torch_is_module(v); }

static void classify(struct fdm_published *p) {
    const struct fdm_pickle_value *top = &p->file.pickle.top, *ema = fdm_pickle_get(top, "ema"), *net = fdm_pickle_get(top, "net");
    p->kind = FDM_PUBLISHED_OTHER;
    p->network = NULL;
    if (is_published(ema)) {
        p->kind = FDM_PUBLISHED_SNAPSHOT;
        p->network = ema;
    } else if (is_published(net)) {
        p->kind = fdm_pickle_get(top, "optimizer_state") ? FDM_PUBLISHED_STATE : FDM_PUBLISHED_SNAPSHOT;
        p->network = net;
    } else if (is_published(top)) {
        p->kind = FDM_PUBLISHED_NETWORK;
        p->network = top;
    }
}

fdm_status fdm_published_open(struct fdm_published *p, const char *path, fdm_error *err) {
    memset(p, 0, sizeof *p);
    fdm_status status = fdm_torch_open(&p->file, path, err);
    if (status) return status;
    classify(p);
    if (p->network) status = read_config(p, err);
    if (status) fdm_published_close(p);
    return status;
}

void fdm_published_close(struct fdm_published *p) {
    fdm_torch_close(&p->file);
    memset(p, 0, sizeof *p);
}

char *fdm_published_json(struct fdm_published *p, const struct fdm_pickle_value *v, bool *failed) {
    struct fdm_text out = {0};
    *failed = false;
    if (!v) return NULL;
    const bool ok = fdm_torch_json(&out, &p->file, v, MAX_JSON);
    *failed = out.failed;
    if (ok && !out.failed) return out.bytes;
    fdm_text_free(&out);
    return NULL;
}

/* ---- The network -------------------------------------------------------------------------------------------- */

fdm_status fdm_published_check(const struct fdm_torch_list *list, const fdm_config *config, size_t prefix_bytes,
                               const char *label, fdm_error *err) {
    fdm_tensors set = {0};
    fdm_status status = FDM_OK;
    char nothing = 0;
    for (size_t i = 0; i < list->count && !status; i++) {
        const struct fdm_torch_tensor *t = &list->items[i].tensor;
        status = fdm_tensors_append(&set, list->items[i].name + prefix_bytes, fdm_torch_plain_dtype(t->dtype), t->ndim, t->shape,
                                    &nothing, false, NULL, err);
    }
    if (!status) status = fdm_weights_check(&set, config, label, err);
    fdm_tensors_free(&set);
    return status;
}

fdm_status fdm_published_network(struct fdm_torch_list *list, struct fdm_published *p, const char *prefix, fdm_error *err) {
    fdm_status status = fdm_torch_collect(list, &p->file, p->network, prefix, err);
    return status ? status : fdm_published_check(list, &p->config, strlen(prefix), p->file.label, err);
}

/* ---- Adam --------------------------------------------------------------------------------------------------- */

/* The state of the parameter of that number; they nearly always come in order, parameter `i` first. */
static const struct fdm_pickle_value *find_state(struct fdm_torch_list *list, const struct fdm_pickle_value *states, size_t i,
                                                 const struct fdm_pickle_value *number) {
    enum { MAX_LOOKS = 1 << 24 };
    const struct fdm_pickle_node *n = states->node;
    for (size_t k = 0; k < n->count / 2 && list->visited < MAX_LOOKS; k++, list->visited++) {
        const size_t at = 2 * ((i + k) % (n->count / 2));
        if (n->items[at].kind == FDM_PICKLE_INT && n->items[at].number == number->number) return &n->items[at + 1];
    }
    return NULL;
}

static fdm_status moment(struct fdm_torch_list *list, struct fdm_published *p, const char *prefix, size_t index,
                         const struct fdm_pickle_value *v, fdm_error *err) {
    char name[1200];
    struct fdm_torch_tensor t;
    bool found = false;
    const struct fdm_torch_tensor *parameter = &list->items[index].tensor;
    snprintf(name, sizeof name, "%s%s", prefix, list->items[index].name + 4);
    fdm_status status = fdm_torch_tensor(&t, &found, &p->file, v, name, err);
    if (status) return status;
    if (!found || t.ndim != parameter->ndim || memcmp(t.shape, parameter->shape, (size_t)t.ndim * sizeof *t.shape) != 0)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: optimizer_state has no %.200s of the parameter's shape; not a state of Adam", p->file.label, name);
    return fdm_torch_add(list, &p->file, name, &t, false, err);
}

/* Before its first update Adam has no state: moments and count are zero. */
static fdm_status no_moments(struct fdm_torch_list *list, struct fdm_published *p, size_t index, fdm_error *err) {
    static const float zero = 0; /* an element that has every index */
    static const char *const prefixes[] = {"adam_m.", "adam_v."};
    fdm_status status = FDM_OK;
    for (int i = 0; i < 2 && !status; i++) {
        struct fdm_torch_tensor t = list->items[index].tensor;
        char name[1200];
        snprintf(name, sizeof name, "%s%s", prefixes[i], list->items[index].name + 4);
        t.dtype = FDM_F32;
        t.data = (const unsigned char *)&zero;
        memset(t.stride, 0, sizeof t.stride);
        status = fdm_torch_add(list, &p->file, name, &t, false, err);
    }
    return status;
}

/* A tensor of one element, or a number. */
static bool read_step(float *out, struct fdm_published *p, const struct fdm_pickle_value *v) {
    struct fdm_torch_tensor t;
    bool found = false;
    if (v && v->kind == FDM_PICKLE_INT) *out = (float)v->number;
    else if (fdm_torch_tensor(&t, &found, &p->file, v, "step", NULL) != FDM_OK || !found || t.numel != 1 ||
             fdm_torch_plain_dtype(t.dtype) != FDM_F32)
        return false;
    else fdm_torch_copy(out, &t, FDM_F32, 0, 1);
    return *out >= 0 && *out <= 16777216.0f; /* where F32 stops counting */
}

static fdm_status one_parameter(struct fdm_torch_list *list, float *step, struct fdm_published *p, size_t index, size_t k,
                                const struct fdm_pickle_value *states, const struct fdm_pickle_value *number, fdm_error *err) {
    if (states->node->count == 0) return no_moments(list, p, index, err);
    const struct fdm_pickle_value *state = number && number->kind == FDM_PICKLE_INT ? find_state(list, states, k, number) : NULL;
    fdm_status status = moment(list, p, "adam_m.", index, fdm_pickle_get(state, "exp_avg"), err);
    if (!status) status = moment(list, p, "adam_v.", index, fdm_pickle_get(state, "exp_avg_sq"), err);
    if (!status && !read_step(step, p, fdm_pickle_get(state, "step")))
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: optimizer_state has no step count of %.200s; not a state of Adam", p->file.label,
                          list->items[index].name + 4);
    return status;
}

fdm_status fdm_published_moments(struct fdm_torch_list *list, float **steps, size_t *count, struct fdm_published *p, fdm_error *err) {
    const struct fdm_pickle_value *optimizer = fdm_pickle_get(&p->file.pickle.top, "optimizer_state");
    const struct fdm_pickle_value *states = fdm_pickle_get(optimizer, "state"), *groups = fdm_pickle_get(optimizer, "param_groups");
    const struct fdm_pickle_value *numbers = fdm_pickle_get(fdm_pickle_item(groups, 0), "params");
    const size_t tensors = list->count;
    fdm_status status = FDM_OK;
    *steps = NULL;
    *count = 0;
    if (!states || states->kind != FDM_PICKLE_DICT || !fdm_pickle_item(numbers, 0) || fdm_pickle_item(groups, 1))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: optimizer_state is not that of one group of parameters", p->file.label);
    *steps = calloc(tensors ? tensors : 1, sizeof **steps);
    if (!*steps) return fdm_fail_oom(err, "step counts", tensors * sizeof **steps);
    for (size_t i = 0; i < tensors && !status; i++) {
        if (!list->items[i].parameter) continue;
        status = one_parameter(list, &(*steps)[*count], p, i, *count, states, fdm_pickle_item(numbers, *count), err);
        ++*count;
    }
    if (!status && fdm_pickle_item(numbers, *count))
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: optimizer_state is of more parameters than the network has", p->file.label);
    return status;
}
