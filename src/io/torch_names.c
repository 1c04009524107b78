/* torch_names.c - the tensors below a value, under the names that a state_dict gives them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/text.h"
#include "io/torch_tensor.h"

enum { MAX_NAME = 1024, MAX_DEPTH = 64, MAX_VISITS = 1 << 20, FREE_BYTES = 64 << 20, MAX_REPEATS = 8 };

/* ---- Objects ------------------------------------------------------------------------------------------------ */

const struct fdm_pickle_value *fdm_torch_attributes(const struct fdm_pickle_value *v) {
    const struct fdm_pickle_value *state = NULL;
    if (fdm_pickle_is_call(v, FDM_PICKLE_PERSISTENCE)) state = fdm_pickle_get(fdm_pickle_argument(v, FDM_PICKLE_PERSISTENCE, 0), "state");
    else if (v && v->kind == FDM_PICKLE_OBJECT) state = &v->node->items[FDM_PICKLE_STATE];
    if (state && state->kind == FDM_PICKLE_TUPLE) state = fdm_pickle_item(state, 0); /* attributes, slots */
    return state && state->kind == FDM_PICKLE_DICT ? state : NULL;
}

const struct fdm_pickle_value *fdm_torch_class(const struct fdm_pickle_value *v) {
    const struct fdm_pickle_value *name = NULL;
    if (fdm_pickle_is_call(v, FDM_PICKLE_PERSISTENCE)) name = fdm_pickle_get(fdm_pickle_argument(v, FDM_PICKLE_PERSISTENCE, 0), "class_name");
    else if (v && v->kind == FDM_PICKLE_OBJECT) name = &v->node->items[FDM_PICKLE_CALLED].node->items[1];
    return name && (name->kind == FDM_PICKLE_TEXT || name->kind == FDM_PICKLE_BYTES) ? name : NULL;
}

bool fdm_torch_is_module(const struct fdm_pickle_value *v) {
    const struct fdm_pickle_value *attributes = fdm_torch_attributes(v);
    const struct fdm_pickle_value *parameters = fdm_pickle_get(attributes, "_parameters"), *modules = fdm_pickle_get(attributes, "_modules");
    return parameters && parameters->kind == FDM_PICKLE_DICT && modules && modules->kind == FDM_PICKLE_DICT;
}

size_t fdm_torch_entries(const struct fdm_pickle_value *v) {
    const struct fdm_pickle_value *meta = fdm_pickle_argument(v, FDM_PICKLE_PERSISTENCE, 0), *attributes = fdm_torch_attributes(v);
    return (meta && meta->kind == FDM_PICKLE_DICT ? meta->node->count : 0) + (attributes ? attributes->node->count : 0);
}

/* ---- The list ----------------------------------------------------------------------------------------------- */

/* What a tensor takes until it is written: its entries in the lists, which grow by doubling; its name in them and, escaped, in
 * the header of the file that it goes to. */
static size_t memory_of_tensor(const char *name) { return 2 * sizeof(struct fdm_torch_named) + 2 * sizeof(fdm_tensor) + 64 + 8 * strlen(name); }

fdm_status fdm_torch_add(struct fdm_torch_list *list, struct fdm_torch_file *f, const char *name,
                         const struct fdm_torch_tensor *tensor, bool parameter, fdm_error *err) {
    const size_t bytes = (size_t)tensor->numel * fdm_dtype_size(fdm_torch_plain_dtype(tensor->dtype));
    const size_t most = f->size > (SIZE_MAX - FREE_BYTES) / MAX_REPEATS ? SIZE_MAX : MAX_REPEATS * f->size + FREE_BYTES;
    if (list->count == FDM_TORCH_MAX_TENSORS)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: more than %d tensors; a bomb?", f->label, FDM_TORCH_MAX_TENSORS);
    if (bytes > most || list->bytes > most - bytes)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor \"%.200s\": tensors of more than %d times the file's bytes; a bomb?", f->label, name,
                        MAX_REPEATS);
    fdm_status status = fdm_torch_charge(f, memory_of_tensor(name), err);
    if (status) return status;
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 64;
        struct fdm_torch_named *items = realloc(list->items, capacity * sizeof *items);
        if (!items) return fdm_fail_oom(err, "list of tensors", capacity * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    char *copy = fdm_strdup(name);
    if (!copy) return fdm_fail_oom(err, "tensor name", strlen(name));
    list->items[list->count++] = (struct fdm_torch_named){copy, *tensor, parameter};
    list->bytes += bytes;
    return FDM_OK;
}

fdm_status fdm_torch_count(struct fdm_torch_list *list, const struct fdm_torch_file *f, size_t n, fdm_error *err) {
    list->visited = fdm_add_saturated(list->visited, n);
    if (list->visited > MAX_VISITS)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: stands for more than %d values (references to references?); a bomb?", f->label, MAX_VISITS);
    return FDM_OK;
}

void fdm_torch_list_free(struct fdm_torch_list *list) {
    for (size_t i = 0; i < list->count; i++) free(list->items[i].name);
    free(list->items);
    *list = (struct fdm_torch_list){0};
}

/* ---- The walk ----------------------------------------------------------------------------------------------- */

struct walk {
    struct fdm_torch_list *list;
    struct fdm_torch_file *f;
    int depth;
    bool in_parameters;
    char name[MAX_NAME + 1]; /* of the value at hand */
    size_t length;
    fdm_error *err;
};

static fdm_status visit(struct walk *w, const struct fdm_pickle_value *v);

static fdm_status count_visits(struct walk *w, size_t n) { return fdm_torch_count(w->list, w->f, n, w->err); }

/* Appends ".part"; false if it is no name. */
static bool append_part(struct walk *w, const char *part, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)part[i] < 0x20 || part[i] == 0x7f) return false;
    if (n > MAX_NAME - 1 - w->length) return false;
    if (w->length && w->name[w->length - 1] != '.') w->name[w->length++] = '.';
    memcpy(w->name + w->length, part, n);
    w->length += n;
    w->name[w->length] = '\0';
    return fdm_utf8_valid(w->name);
}

/* The value of a key: text, bytes or a whole number; of other keys nothing is wanted. */
static fdm_status visit_item(struct walk *w, const struct fdm_pickle_value *key, const struct fdm_pickle_value *v) {
    char number[24];
    const size_t length = w->length;
    fdm_status status = count_visits(w, 1);
    if (status) return status;
    if (key->kind == FDM_PICKLE_INT) {
        const int n = snprintf(number, sizeof number, "%" PRId64, key->number);
        if (!append_part(w, number, (size_t)n)) status = FDM_BAD_INPUT;
    } else if (key->kind == FDM_PICKLE_TEXT || key->kind == FDM_PICKLE_BYTES) {
        if (!append_part(w, (const char *)key->bytes, key->size)) status = FDM_BAD_INPUT;
    } else
        return FDM_OK;
    if (status) fdm_fail(w->err, status, "%s: below \"%.200s\": a name that is longer than %d bytes, no UTF-8 or not printable; damaged", w->f->label, w->name, MAX_NAME);
    else status = visit(w, v);
    w->length = length;
    w->name[length] = '\0';
    return status;
}

static fdm_status visit_dict(struct walk *w, const struct fdm_pickle_value *dict) {
    fdm_status status = FDM_OK;
    for (size_t i = 0; i + 1 < dict->node->count && !status; i += 2) status = visit_item(w, &dict->node->items[i], &dict->node->items[i + 1]);
    return status;
}

static fdm_status visit_list(struct walk *w, const struct fdm_pickle_value *list) {
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < list->node->count && !status; i++) {
        const struct fdm_pickle_value key = {.kind = FDM_PICKLE_INT, .number = (int64_t)i};
        status = visit_item(w, &key, &list->node->items[i]);
    }
    return status;
}

static bool holds(const struct fdm_pickle_value *set, const struct fdm_pickle_value *key) {
    if (!set || set->kind != FDM_PICKLE_SET || key->kind != FDM_PICKLE_TEXT) return false;
    for (size_t i = 0; i < set->node->count; i++) {
        const struct fdm_pickle_value *v = &set->node->items[i];
        if (v->kind == FDM_PICKLE_TEXT && v->size == key->size && memcmp(v->bytes, key->bytes, v->size) == 0) return true;
    }
    return false;
}

/* As Module.state_dict does. */
static fdm_status visit_module(struct walk *w, const struct fdm_pickle_value *attributes) {
    const struct fdm_pickle_value *buffers = fdm_pickle_get(attributes, "_buffers"),
                                  *unsaved = fdm_pickle_get(attributes, "_non_persistent_buffers_set");
    w->in_parameters = true;
    fdm_status status = visit_dict(w, fdm_pickle_get(attributes, "_parameters"));
    w->in_parameters = false;
    for (size_t i = 0; buffers && buffers->kind == FDM_PICKLE_DICT && i + 1 < buffers->node->count && !status; i += 2) {
        if (!holds(unsaved, &buffers->node->items[i])) status = visit_item(w, &buffers->node->items[i], &buffers->node->items[i + 1]);
        if (!status && unsaved) status = count_visits(w, unsaved->kind == FDM_PICKLE_SET ? unsaved->node->count : 0); /* what holds() has looked at */
    }
    return status ? status : visit_dict(w, fdm_pickle_get(attributes, "_modules"));
}

static fdm_status visit_inside(struct walk *w, const struct fdm_pickle_value *v) {
    const struct fdm_pickle_value *attributes = fdm_torch_attributes(v);
    fdm_status status = count_visits(w, fdm_torch_entries(v));
    if (status) return status;
    if (attributes) return fdm_torch_is_module(v) ? visit_module(w, attributes) : visit_dict(w, attributes);
    if (v->kind == FDM_PICKLE_DICT) return visit_dict(w, v);
    return v->kind == FDM_PICKLE_LIST || v->kind == FDM_PICKLE_TUPLE ? visit_list(w, v) : FDM_OK;
}

static fdm_status visit(struct walk *w, const struct fdm_pickle_value *v) {
    struct fdm_torch_tensor tensor;
    bool found;
    fdm_status status = fdm_torch_tensor(&tensor, &found, w->f, v, w->name, w->err);
    if (status) return status;
    if (found) return fdm_torch_add(w->list, w->f, w->length ? w->name : "tensor", &tensor, w->in_parameters, w->err);
    if (w->in_parameters && v->kind != FDM_PICKLE_NONE)
        return fdm_fail(w->err, FDM_BAD_INPUT, "%s: parameter \"%.200s\" is no tensor of a known kind", w->f->label, w->name);
    if (w->depth == MAX_DEPTH)
        return fdm_fail(w->err, FDM_BAD_INPUT, "%s: \"%.200s...\" is nested more than %d deep; within itself?", w->f->label, w->name, MAX_DEPTH);
    w->depth++;
    status = visit_inside(w, v);
    w->depth--;
    return status;
}

fdm_status fdm_torch_collect(struct fdm_torch_list *list, struct fdm_torch_file *f, const struct fdm_pickle_value *v,
                             const char *prefix, fdm_error *err) {
    struct walk w = {.list = list, .f = f, .err = err, .length = strlen(prefix)};
    if (w.length > MAX_NAME / 2) return fdm_fail(err, FDM_BAD_USAGE, "a prefix of more than %d bytes", MAX_NAME / 2);
    memcpy(w.name, prefix, w.length + 1);
    return visit(&w, v);
}
