/* options.c - sorts a command line into typed, range-checked values. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"
#include "cli/cli.h"

static char fold(char c) { return c == '_' ? '-' : c; }

/* Compares name with the first `length` characters of text, '_' and '-' being the same. */
static bool same_name(const char *name, const char *text, size_t length) {
    size_t i;
    for (i = 0; i < length && name[i]; i++)
        if (fold(name[i]) != fold(text[i])) return false;
    return i == length && !name[i];
}

/* ---- Values ------------------------------------------------------------------------------------------------ */

/* All of text[0..length) as a decimal integer in [lo, hi]. */
static bool parse_int(int64_t *out, const char *text, size_t length, int64_t lo, int64_t hi) {
    size_t i = 0;
    bool negative = length && text[0] == '-';
    int64_t value = 0;
    if (length && (text[0] == '-' || text[0] == '+')) i = 1;
    if (i == length) return false;
    for (; i < length; i++) {
        if (!isdigit((unsigned char)text[i])) return false;
        int digit = text[i] - '0';
        if (__builtin_mul_overflow(value, (int64_t)10, &value)) return false;
        if (__builtin_add_overflow(value, negative ? -digit : digit, &value)) return false;
    }
    if (value < lo || value > hi) return false;
    *out = value;
    return true;
}

/* All of text[0..length) as a number in [lo, hi]; never NaN, and hexadecimal is refused. */
static bool parse_float(double *out, const char *text, size_t length, double lo, double hi) {
    char copy[64], *end;
    if (length == 0 || length >= sizeof copy) return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (isspace((unsigned char)copy[0]) || strpbrk(copy, "xXnN(")) {
        if (strcmp(copy, "inf") != 0 && strcmp(copy, "-inf") != 0) return false;
    }
    errno = 0;
    double value = strtod(copy, &end);
    if (end == copy || *end || (errno == ERANGE && isinf(value))) return false;
    if (!(value >= lo && value <= hi)) return false;
    *out = value;
    return true;
}

static fdm_status bad_value(const struct fdm_option *o, const char *text, fdm_error *err) {
    switch (o->type) {
    case FDM_TYPE_INT:
        return fdm_fail(err, FDM_BAD_USAGE, "--%s %s: wants an integer from %" PRId64 " to %" PRId64, o->name, text,
                        o->imin, o->imax);
    case FDM_TYPE_FLOAT:
        return fdm_fail(err, FDM_BAD_USAGE, "--%s %s: wants a number from %g to %g", o->name, text, o->fmin,
                        o->fmax);
    case FDM_TYPE_SIZE:
        return fdm_fail(err, FDM_BAD_USAGE, "--%s %s: wants WIDTHxHEIGHT, each from %" PRId64 " to %" PRId64,
                        o->name, text, o->imin, o->imax);
    case FDM_TYPE_INTLIST:
        return fdm_fail(err, FDM_BAD_USAGE,
                        "--%s %s: wants integers and ranges such as 0-63,70, each from %" PRId64 " to %" PRId64
                        ", at most %d of them",
                        o->name, text, o->imin, o->imax, FDM_LIST_MAX);
    default:
        return fdm_fail(err, FDM_BAD_USAGE, "--%s %s: wants numbers such as 0.1,1,10, each from %g to %g", o->name,
                        text, o->fmin, o->fmax);
    }
}

static bool parse_size(struct fdm_size *out, const char *text, int64_t lo, int64_t hi) {
    const char *x = strchr(text, 'x');
    return x && parse_int(&out->width, text, (size_t)(x - text), lo, hi) &&
           parse_int(&out->height, x + 1, strlen(x + 1), lo, hi);
}

/* "3" or "3-9"; a '-' after the first character separates, so that "-5--1" is a range too. */
static bool parse_range(int64_t *first, int64_t *last, const char *text, size_t length, int64_t lo, int64_t hi) {
    const char *dash = length > 1 ? memchr(text + 1, '-', length - 1) : NULL;
    size_t head = dash ? (size_t)(dash - text) : length;
    if (!parse_int(first, text, head, lo, hi)) return false;
    *last = *first;
    return (!dash || parse_int(last, dash + 1, length - head - 1, lo, hi)) && *last >= *first;
}

static fdm_status parse_intlist(const struct fdm_option *o, struct fdm_intlist *list, const char *text,
                                fdm_error *err) {
    /* Two passes over the same parts: count, then fill. */
    for (int pass = 0; pass < 2; pass++) {
        size_t count = 0;
        for (const char *part = text;;) {
            size_t length = strcspn(part, ",");
            int64_t first, last;
            if (!parse_range(&first, &last, part, length, o->imin, o->imax)) return bad_value(o, text, err);
            uint64_t extent = (uint64_t)last - (uint64_t)first;
            if (extent >= FDM_LIST_MAX || count + extent + 1 > FDM_LIST_MAX) return bad_value(o, text, err);
            for (uint64_t i = 0; pass == 1 && i <= extent; i++) list->items[count + i] = first + (int64_t)i;
            count += extent + 1;
            if (!part[length]) break;
            part += length + 1;
        }
        if (pass == 0) {
            list->items = malloc(count * sizeof *list->items);
            if (!list->items) return fdm_fail_oom(err, o->name, count * sizeof *list->items);
            list->count = count;
        }
    }
    return FDM_OK;
}

static fdm_status parse_floatlist(const struct fdm_option *o, struct fdm_floatlist *list, const char *text,
                                  fdm_error *err) {
    size_t count = 1, i = 0;
    for (const char *c = text; *c; c++) count += *c == ',';
    if (count > FDM_LIST_MAX) return bad_value(o, text, err);
    list->items = malloc(count * sizeof *list->items);
    if (!list->items) return fdm_fail_oom(err, o->name, count * sizeof *list->items);
    list->count = count;
    for (const char *part = text; i < count; i++) {
        size_t length = strcspn(part, ",");
        if (!parse_float(&list->items[i], part, length, o->fmin, o->fmax)) return bad_value(o, text, err);
        part += length + 1;
    }
    return FDM_OK;
}

static fdm_status parse_enum(const struct fdm_option *o, int *out, const char *text, fdm_error *err) {
    char all[256] = "";
    for (int i = 0; o->choices[i]; i++) {
        if (same_name(o->choices[i], text, strlen(text)) || strcasecmp(o->choices[i], text) == 0) {
            *out = i;
            return FDM_OK;
        }
        size_t used = strlen(all), more = strlen(o->choices[i]);
        if (used + more + 3 > sizeof all) continue;
        memcpy(all + used, i ? ", " : "", i ? 3 : 1);
        memcpy(all + strlen(all), o->choices[i], more + 1);
    }
    return fdm_fail(err, FDM_BAD_USAGE, "--%s %s: wants one of %s", o->name, text, all);
}

static fdm_status set_value(const struct fdm_option *o, void *values, const char *text, fdm_error *err) {
    void *field = (char *)values + o->offset;
    bool ok = true;
    if (o->type != FDM_TYPE_FLAG && !text[0])
        return fdm_fail(err, FDM_BAD_USAGE, "--%s: its value is empty", o->name);
    switch (o->type) {
    case FDM_TYPE_FLAG: *(bool *)field = true; break;
    case FDM_TYPE_INT: ok = parse_int(field, text, strlen(text), o->imin, o->imax); break;
    case FDM_TYPE_FLOAT: ok = parse_float(field, text, strlen(text), o->fmin, o->fmax); break;
    case FDM_TYPE_SIZE: ok = parse_size(field, text, o->imin, o->imax); break;
    case FDM_TYPE_STRING: *(const char **)field = text; break;
    case FDM_TYPE_ENUM: return parse_enum(o, field, text, err);
    case FDM_TYPE_INTLIST: return parse_intlist(o, field, text, err);
    case FDM_TYPE_FLOATLIST: return parse_floatlist(o, field, text, err);
    }
    return ok ? FDM_OK : bad_value(o, text, err);
}

void fdm_options_free(const struct fdm_option_group *group) {
    if (!group->options || !group->values) return;
    for (const struct fdm_option *o = group->options; o->name; o++) {
        void *field = (char *)group->values + o->offset;
        if (o->type == FDM_TYPE_INTLIST) {
            struct fdm_intlist *list = field;
            free(list->items);
            *list = (struct fdm_intlist){0};
        } else if (o->type == FDM_TYPE_FLOATLIST) {
            struct fdm_floatlist *list = field;
            free(list->items);
            *list = (struct fdm_floatlist){0};
        }
    }
}

/* ---- Names ------------------------------------------------------------------------------------------------- */

enum { MAX_NAME = 64 };

/* Edits (insert, delete, replace, swap neighbours) that turn a into b. */
static size_t edit_distance(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b), rows[3][MAX_NAME + 1] = {{0}};
    size_t *before = rows[0], *previous = rows[1], *row = rows[2];
    if (na > MAX_NAME || nb > MAX_NAME) return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++) previous[j] = j;
    for (size_t i = 1; i <= na; i++) {
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            bool same = fold(a[i - 1]) == fold(b[j - 1]);
            size_t best = previous[j - 1] + !same;
            if (previous[j] + 1 < best) best = previous[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]) &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
        size_t *free_row = before;
        before = previous;
        previous = row;
        row = free_row;
    }
    return previous[nb];
}

const char *fdm_nearest_name(const char *word, const char *const *candidates, size_t count) {
    const char *nearest = NULL;
    size_t limit = strlen(word) < 4 ? 1 : strlen(word) < 8 ? 2 : 3, best = limit + 1;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, candidates[i]);
        if (distance < best) {
            best = distance;
            nearest = candidates[i];
        }
    }
    return nearest;
}

/* ---- The command line -------------------------------------------------------------------------------------- */

struct parser {
    const struct fdm_option_group *groups;
    int ngroups;
    bool seen[8][FDM_MAX_OPTIONS]; /* by group and index */
    fdm_error *err;
};

/* The option of that long name (or letter, if name is NULL), and where it stands. */
static const struct fdm_option *find_option(const struct parser *p, const char *name, size_t length, char letter,
                                            int *group, int *index) {
    for (int g = 0; g < p->ngroups; g++) {
        const struct fdm_option *options = p->groups[g].options;
        for (int i = 0; options && options[i].name; i++) {
            if (name ? !same_name(options[i].name, name, length) : options[i].letter != letter) continue;
            *group = g;
            *index = i;
            return &options[i];
        }
    }
    return NULL;
}

static fdm_status unknown_option(const struct parser *p, const char *name, size_t length) {
    const char *names[8 * FDM_MAX_OPTIONS], *nearest = NULL;
    char word[MAX_NAME + 1] = "";
    size_t count = 0;
    for (int g = 0; g < p->ngroups; g++)
        for (const struct fdm_option *o = p->groups[g].options; o && o->name; o++) names[count++] = o->name;
    if (length <= MAX_NAME) {
        memcpy(word, name, length);
        word[length] = '\0';
        nearest = fdm_nearest_name(word, names, count);
    }
    int shown = (int)(length < 200 ? length : 200);
    if (nearest)
        return fdm_fail(p->err, FDM_BAD_USAGE, "unknown option --%.*s; did you mean --%s?", shown, name, nearest);
    return fdm_fail(p->err, FDM_BAD_USAGE, "unknown option --%.*s; --help lists the options", shown, name);
}

static fdm_status store(struct parser *p, int group, int index, const char *text) {
    const struct fdm_option_group *g = &p->groups[group];
    if (p->seen[group][index])
        return fdm_fail(p->err, FDM_BAD_USAGE, "--%s is given twice", g->options[index].name);
    p->seen[group][index] = true;
    if (g->given) g->given[index] = true;
    return set_value(&g->options[index], g->values, text, p->err);
}

/* argv[0] = "--name", "--name=value"; *used = how many arguments it took. */
static fdm_status parse_long(struct parser *p, int argc, char **argv, int *used) {
    const char *name = argv[0] + 2, *equals = strchr(name, '='), *text = equals ? equals + 1 : NULL;
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    int group, index;
    const struct fdm_option *o = find_option(p, name, length, 0, &group, &index);
    *used = 1;
    if (!o) return unknown_option(p, name, length);
    if (o->type == FDM_TYPE_FLAG && text) return fdm_fail(p->err, FDM_BAD_USAGE, "--%s takes no value", o->name);
    if (o->type != FDM_TYPE_FLAG && !text) {
        /* A value may begin with one dash (a negative number), but "--x --y" is a forgotten value. */
        if (argc < 2 || strncmp(argv[1], "--", 2) == 0)
            return fdm_fail(p->err, FDM_BAD_USAGE, "--%s needs a value (%s)", o->name,
                            o->value ? o->value : "a word");
        text = argv[1];
        *used = 2;
    }
    return store(p, group, index, text ? text : "");
}

/* "-q", "-qv": flags only. */
static fdm_status parse_letters(struct parser *p, const char *letters) {
    for (; *letters; letters++) {
        int group, index;
        if (!find_option(p, NULL, 0, *letters, &group, &index))
            return fdm_fail(p->err, FDM_BAD_USAGE, "unknown option -%c; --help lists the options", *letters);
        fdm_status status = store(p, group, index, "");
        if (status) return status;
    }
    return FDM_OK;
}

fdm_status fdm_options_parse(const struct fdm_option_group *groups, int ngroups, int argc, char **argv, char **args,
                             int *nargs, fdm_error *err) {
    struct parser p = {.groups = groups, .ngroups = ngroups, .err = err};
    bool only_arguments = false;
    *nargs = 0;
    for (int i = 0, used = 1; i < argc; i += used) {
        const char *a = argv[i];
        fdm_status status = FDM_OK;
        used = 1;
        if (only_arguments || a[0] != '-' || !a[1])
            args[(*nargs)++] = argv[i];
        else if (strcmp(a, "--") == 0)
            only_arguments = true;
        else if (a[1] == '-')
            status = parse_long(&p, argc - i, argv + i, &used);
        else
            status = parse_letters(&p, a + 1);
        if (status) return status;
    }
    return FDM_OK;
}
