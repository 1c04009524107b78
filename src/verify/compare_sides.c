/* compare_sides.c - which tensors of a file take part in a comparison, and by which names they pair. */
#include "verify/compare_sides.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verify/rename.h"

/* Whether one of the comma-separated patterns matches. */
static fdm_status matches(bool *yes, const char *patterns, const char *name, fdm_error *err) {
    char *copy = fdm_strdup(patterns), *rest = NULL;
    if (!copy) return fdm_fail_oom(err, "patterns of names", strlen(patterns));
    *yes = false;
    for (char *p = strtok_r(copy, ",", &rest); p && !*yes; p = strtok_r(NULL, ",", &rest))
        *yes = fnmatch(p, name, 0) == 0;
    free(copy);
    return FDM_OK;
}

static fdm_status add_entry(struct fdm_compare_side *side, size_t index, const struct fdm_compare_choice *choice,
                            fdm_error *err) {
    const fdm_tensors *table = &side->source.table;
    char *name = NULL;
    bool wanted = true;
    fdm_status status = fdm_rename(&name, choice->rename, table->items[index].name, err);
    if (!status && choice->sole && table->count == 1) {
        free(name);
        name = fdm_strdup(choice->sole);
        if (!name) status = fdm_fail_oom(err, "name", strlen(choice->sole));
    }
    if (!status && choice->only) status = matches(&wanted, choice->only, name, err);
    if (!status && wanted) side->entries[side->count++] = (struct fdm_compare_entry){name, index};
    else free(name);
    return status;
}

static int by_name(const void *left, const void *right, void *entries) {
    const struct fdm_compare_entry *e = entries;
    const size_t *x = left, *y = right;
    return strcmp(e[*x].name, e[*y].name);
}

static fdm_status sort_names(struct fdm_compare_side *side, const struct fdm_compare_choice *choice, fdm_error *err) {
    for (size_t i = 0; i < side->count; i++) side->by_name[i] = i;
    if (side->count) qsort_r(side->by_name, side->count, sizeof *side->by_name, by_name, side->entries);
    for (size_t i = 1; i < side->count; i++) {
        const struct fdm_compare_entry *x = &side->entries[side->by_name[i - 1]], *y = &side->entries[side->by_name[i]];
        if (strcmp(x->name, y->name) == 0)
            return fdm_fail(err, FDM_BAD_USAGE, "%s: \"%.150s\" and \"%.150s\" are both renamed to \"%.150s\"",
                            choice->label, side->source.table.items[x->index].name,
                            side->source.table.items[y->index].name, x->name);
    }
    return FDM_OK;
}

fdm_status fdm_compare_side_choose(struct fdm_compare_side *side, const struct fdm_compare_choice *choice,
                                   fdm_error *err) {
    const size_t count = side->source.table.count;
    fdm_status status = fdm_rename_check(choice->rename, err); /* also where there is nothing to rename */
    if (status) return status;
    side->entries = calloc(count + 1, sizeof *side->entries);
    side->by_name = calloc(count + 1, sizeof *side->by_name);
    if (!side->entries || !side->by_name) return fdm_fail_oom(err, "list of tensors", count * sizeof *side->entries);
    for (size_t i = 0; i < count && !status; i++) status = add_entry(side, i, choice, err);
    return status ? status : sort_names(side, choice, err);
}

const struct fdm_compare_entry *fdm_compare_side_find(const struct fdm_compare_side *side, const char *name) {
    size_t low = 0, high = side->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct fdm_compare_entry *e = &side->entries[side->by_name[middle]];
        const int order = strcmp(name, e->name);
        if (order == 0) return e;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

void fdm_compare_side_close(struct fdm_compare_side *side) {
    for (size_t i = 0; i < side->count; i++) free(side->entries[i].name);
    free(side->entries);
    free(side->by_name);
    fdm_tensor_source_close(&side->source);
    memset(side, 0, sizeof *side);
}

/* ---- Names that nearly pair -------------------------------------------------------------------------------- */

/* Whether name = prefix.rest for some prefix, rest being the name of an entry of `other`; the prefix's length. */
static size_t prefix_length(const char *name, const struct fdm_compare_side *other) {
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.'))
        if (fdm_compare_side_find(other, dot + 1)) return (size_t)(dot - name);
    return 0;
}

/* How many names of `side` without a partner have one after losing the prefix that the first of them would lose. */
static size_t count_prefixed(const char **prefix, size_t *length, const struct fdm_compare_side *side,
                             const struct fdm_compare_side *other) {
    size_t n = 0;
    *prefix = NULL;
    for (size_t i = 0; i < side->count; i++) {
        const char *name = side->entries[i].name;
        if (fdm_compare_side_find(other, name)) continue;
        const size_t found = prefix_length(name, other);
        if (!found) continue;
        if (!*prefix) {
            *prefix = name;
            *length = found;
        }
        n += found == *length && memcmp(*prefix, name, found) == 0;
    }
    return n;
}

void fdm_compare_note_names(fdm_comparison *result, const struct fdm_compare_side *a,
                            const struct fdm_compare_side *b) {
    const char *prefix;
    size_t length = 0, n = count_prefixed(&prefix, &length, b, a);
    const char *option = "--rename", *whose = "B";
    if (!n) {
        n = count_prefixed(&prefix, &length, a, b);
        option = "--rename-a";
        whose = "A";
    }
    if (!n) return;
    snprintf(result->note, sizeof result->note,
             "%zu name%s of %s would pair without the prefix \"%.*s.\": try %s '%.*s.*=*'", n, n == 1 ? "" : "s", whose,
             (int)fdm_min_int((int)length, 100), prefix, option, (int)fdm_min_int((int)length, 100), prefix);
}
