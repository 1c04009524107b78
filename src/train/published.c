/* published.c - what the pickles of the published program hold: networks with their constructor arguments, Adam's state. */
#include "train/published.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "nn/weights.h"

enum { MAX_ARGUMENTS = 1 << 14, MAX_JSON = 1 << 18, MAX_VALUE = 1 << 17, MAX_VALUES = 500, SHOWN = 80 };

/* ---- Configuration ------------------------------------------------------------------------------------------ */

/* The constructor's arguments as one JSON object: those given by position first, then those given by name. */
static bool arguments_json(struct fdm_text *out, struct fdm_published *p, const struct fdm_pickle_value *attributes) {
    static const char *const positions[] = {"img_resolution", "img_channels", "label_dim", "use_fp16"};
    const struct fdm_pickle_value *args = fdm_pickle_get(attributes, "_init_args"), *kwargs = fdm_pickle_get(attributes, "_init_kwargs");
    struct fdm_text named = {0};
    const struct fdm_pickle_value *arg;
    bool ok = kwargs && kwargs->kind == FDM_PICKLE_DICT && fdm_torch_json(&named, &p->file, kwargs, MAX_ARGUMENTS);
    fdm_text_printf(out, "{");
    for (size_t i = 0; ok && (arg = fdm_pickle_item(args, i)); i++) {
        if (i == FDM_ARRAY_LEN(positions)) {
            ok = false;
            break;
        }
        fdm_text_printf(out, "\"%s\": ", positions[i]);
        ok = fdm_torch_json(out, &p->file, arg, MAX_ARGUMENTS);
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

static fdm_status begin(struct fdm_published *p, fdm_error *err) {
    p->json_left = MAX_JSON;
    classify(p);
    fdm_status status = p->network ? read_config(p, err) : FDM_OK;
    if (status) fdm_published_close(p);
    return status;
}

fdm_status fdm_published_open(struct fdm_published *p, const char *path, fdm_error *err) {
    memset(p, 0, sizeof *p);
    fdm_status status = fdm_torch_open(&p->file, path, err);
    return status ? status : begin(p, err);
}

fdm_status fdm_published_parse(struct fdm_published *p, const void *bytes, size_t size, const char *label, fdm_error *err) {
    memset(p, 0, sizeof *p);
    fdm_status status = fdm_torch_parse(&p->file, bytes, size, label, err);
    return status ? status : begin(p, err);
}

void fdm_published_close(struct fdm_published *p) {
    fdm_torch_close(&p->file);
    memset(p, 0, sizeof *p);
}

/* ---- Other values ------------------------------------------------------------------------------------------- */

char *fdm_published_json(struct fdm_published *p, const struct fdm_pickle_value *v, bool *failed) {
    struct fdm_text out = {0};
    *failed = false;
    if (!v) return NULL;
    const bool ok = fdm_torch_json(&out, &p->file, v, p->json_left < MAX_VALUE ? p->json_left : MAX_VALUE);
    *failed = out.failed;
    p->json_left -= out.length < p->json_left ? out.length : p->json_left; /* also for nothing: it was work */
    if (ok && !out.failed) return out.bytes;
    fdm_text_free(&out);
    return NULL;
}

static bool is_shown(struct fdm_published *p, const struct fdm_pickle_value *key, const struct fdm_pickle_value *v) {
    return key->kind == FDM_PICKLE_TEXT && key->size <= MAX_ARGUMENTS && fdm_torch_spend(&p->file, fdm_torch_entries(v) + key->size) &&
           !fdm_torch_is_module(v);
}

fdm_status fdm_published_values(struct fdm_published_values *out, struct fdm_published *p, fdm_error *err) {
    const struct fdm_pickle_value *top = &p->file.pickle.top;
    const size_t entries = top->kind == FDM_PICKLE_DICT ? top->node->count / 2 : 0, n = entries < MAX_VALUES ? entries : MAX_VALUES;
    bool failed = false;
    *out = (struct fdm_published_values){calloc(n + 1, sizeof *out->items), 0};
    if (!out->items) return fdm_fail_oom(err, "values", n * sizeof *out->items);
    for (size_t i = 0; i < n && !failed; i++) {
        const struct fdm_pickle_value *key = &top->node->items[2 * i], *v = key + 1;
        if (!is_shown(p, key, v)) continue;
        struct fdm_published_value *item = &out->items[out->count];
        item->name = fdm_pickle_string(key);
        if (!item->name) failed = true;
        else if (strlen(item->name) != key->size || !fdm_utf8_valid(item->name)) free(item->name); /* no name */
        else {
            out->count++;
            item->json = fdm_published_json(p, v, &failed);
        }
    }
    if (failed) fdm_published_values_free(out);
    return failed ? fdm_fail_oom(err, "values", n) : FDM_OK;
}

void fdm_published_values_free(struct fdm_published_values *values) {
    for (size_t i = 0; i < values->count; i++) {
        free(values->items[i].name);
        free(values->items[i].json);
    }
    free(values->items);
    *values = (struct fdm_published_values){0};
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

/* The state of the parameter of that number, NULL if there is none; they nearly always come in order, parameter `i` first.
 * *looks: entries that this and looking into the state look at. */
static const struct fdm_pickle_value *find_state(size_t *looks, const struct fdm_pickle_value *states, size_t i,
                                                 const struct fdm_pickle_value *number) {
    const struct fdm_pickle_node *n = states->node;
    const struct fdm_pickle_value *state = NULL;
    size_t k = 0;
    for (; number && number->kind == FDM_PICKLE_INT && k < n->count / 2 && !state; k++) {
        const size_t at = 2 * ((i + k) % (n->count / 2));
        if (n->items[at].kind == FDM_PICKLE_INT && n->items[at].number == number->number) state = &n->items[at + 1];
    }
    *looks = k + (state && state->kind == FDM_PICKLE_DICT ? state->node->count : 0);
    return state;
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
    size_t looks;
    const struct fdm_pickle_value *state = find_state(&looks, states, k, number);
    fdm_status status = fdm_torch_count(list, &p->file, looks, err);
    if (!status) status = moment(list, p, "adam_m.", index, fdm_pickle_get(state, "exp_avg"), err);
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
