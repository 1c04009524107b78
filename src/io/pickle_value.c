/* pickle_value.c - looking at what was read from a pickle. */
#include "io/pickle_machine.h"

#include <stdlib.h>
#include <string.h>

bool fdm_pickle_is(const struct fdm_pickle_value *v, const char *text) {
    const size_t n = strlen(text);
    return v && fdm_pickle_is_text(v) && v->size == n && memcmp(v->bytes, text, n) == 0;
}

const struct fdm_pickle_value *fdm_pickle_get(const struct fdm_pickle_value *dict, const char *key) {
    if (!dict || dict->kind != FDM_PICKLE_DICT) return NULL;
    for (size_t i = dict->node->count / 2; i-- > 0;)
        if (fdm_pickle_is(&dict->node->items[2 * i], key)) return &dict->node->items[2 * i + 1];
    return NULL;
}

const struct fdm_pickle_value *fdm_pickle_item(const struct fdm_pickle_value *v, size_t i) {
    if (!v || (v->kind != FDM_PICKLE_TUPLE && v->kind != FDM_PICKLE_LIST) || i >= v->node->count) return NULL;
    return &v->node->items[i];
}

bool fdm_pickle_is_call(const struct fdm_pickle_value *v, enum fdm_pickle_constructor constructor) {
    return v && v->kind == FDM_PICKLE_CALL && v->constructor == constructor;
}

const struct fdm_pickle_value *fdm_pickle_argument(const struct fdm_pickle_value *v,
                                                   enum fdm_pickle_constructor constructor, size_t i) {
    return fdm_pickle_is_call(v, constructor) ? fdm_pickle_item(&v->node->items[FDM_PICKLE_ARGUMENTS], i) : NULL;
}

bool fdm_pickle_is_name(const struct fdm_pickle_value *v, const char *module, const char *name) {
    return v && v->kind == FDM_PICKLE_NAME && fdm_pickle_is(&v->node->items[0], module) &&
           fdm_pickle_is(&v->node->items[1], name);
}

char *fdm_pickle_string(const struct fdm_pickle_value *v) {
    char *copy = malloc(v->size + 1);
    if (!copy) return NULL;
    memcpy(copy, v->bytes, v->size);
    copy[v->size] = '\0';
    return copy;
}
