/* report.c - building a report (report.h), and what its writers share. */
#include "verify/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"

static const struct {
    const char *name, *word;
} verdicts[FDM_VERDICT_COUNT] = {
#define VERDICT_ROW(e, name, word) [e] = {name, word},
    FDM_REPORT_VERDICTS(VERDICT_ROW)
#undef VERDICT_ROW
};

const char *fdm_report_verdict_name(enum fdm_report_verdict verdict) { return verdicts[verdict].name; }
const char *fdm_report_verdict_word(enum fdm_report_verdict verdict) { return verdicts[verdict].word; }

/* ---- Growing ----------------------------------------------------------------------------------------------- */

/* A zeroed element at the end of *items; NULL, and the report failed, if there is no memory. */
static void *append(struct fdm_report *r, void **items, size_t *count, size_t *capacity, size_t size) {
    size_t bytes, next = *capacity ? *capacity : 8;
    if (r->failed) return NULL;
    if (*count == *capacity) {
        void *p = NULL;
        if ((*capacity == 0 || fdm_mul_size(&next, next, 2)) && fdm_mul_size(&bytes, next, size))
            p = realloc(*items, bytes);
        if (!p) {
            r->failed = true;
            return NULL;
        }
        *items = p;
        *capacity = next;
    }
    void *element = (char *)*items + *count * size;
    ++*count;
    return memset(element, 0, size);
}

#define DEFINE_APPEND(T, list, n, room)                                                                             \
    static T *append_##list(struct fdm_report *r) {                                                                \
        void *items = r->list;                                                                                     \
        T *element = append(r, &items, &r->n, &r->room, sizeof(T));                                                \
        r->list = items;                                                                                           \
        return element;                                                                                            \
    }
DEFINE_APPEND(struct fdm_report_fact, facts, fact_count, fact_capacity)
DEFINE_APPEND(struct fdm_report_column, columns, column_count, column_capacity)
DEFINE_APPEND(struct fdm_report_row, rows, row_count, row_capacity)

static void append_text(struct fdm_report *r, struct fdm_report_texts *list, const char *text) {
    void *items = list->items;
    const char **slot = append(r, &items, &list->count, &list->capacity, sizeof *list->items);
    list->items = items;
    if (slot) *slot = text;
}

/* Takes over malloc'ed text. */
static const char *keep(struct fdm_report *r, char *text) {
    if (!text) {
        r->failed = true;
        return "";
    }
    const size_t before = r->pool.count;
    append_text(r, &r->pool, text);
    if (r->pool.count > before) return text;
    free(text);
    return "";
}

const char *fdm_report_text(struct fdm_report *r, const char *format, ...) {
    va_list args;
    char *text = NULL;
    va_start(args, format);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0) text = malloc((size_t)n + 1);
    if (text) {
        va_start(args, format);
        vsnprintf(text, (size_t)n + 1, format, args);
        va_end(args);
    }
    return keep(r, text);
}

/* ---- Parts ------------------------------------------------------------------------------------------------- */

void fdm_report_fact_text(struct fdm_report *r, const char *key, const char *label, const char *text) {
    struct fdm_report_fact *fact = append_facts(r);
    if (fact) *fact = (struct fdm_report_fact){key, label, keep(r, fdm_strdup(text)), NAN};
}

void fdm_report_fact_number(struct fdm_report *r, const char *key, const char *label, double number) {
    struct fdm_report_fact *fact = append_facts(r);
    if (fact) *fact = (struct fdm_report_fact){key, label, NULL, number};
}

int fdm_report_column(struct fdm_report *r, const char *key, const char *label, const char *help, unsigned flags) {
    struct fdm_report_column *column = append_columns(r);
    if (!column) return 0;
    *column = (struct fdm_report_column){key, label, help, flags};
    return (int)r->column_count - 1;
}

struct fdm_report_row *fdm_report_add_row(struct fdm_report *r, const char *name) {
    struct fdm_report_row *row = append_rows(r);
    if (!row) return NULL;
    *row = (struct fdm_report_row){.name = keep(r, fdm_strdup(name)),
                                   .verdict = FDM_VERDICT_PASS,
                                   .reason = "pass",
                                   .detail = "",
                                   .order = (int64_t)r->row_count - 1,
                                   .ndim = -1,
                                   .values = malloc((r->column_count + 1) * sizeof *row->values)};
    if (!row->values) {
        r->failed = true;
        return NULL;
    }
    for (size_t c = 0; c < r->column_count; c++) row->values[c] = NAN;
    return row;
}

void fdm_report_set(struct fdm_report_row *row, int column, double value) { row->values[column] = value; }

void fdm_report_note(struct fdm_report *r, const char *text) { append_text(r, &r->notes, keep(r, fdm_strdup(text))); }

void fdm_report_row_note(struct fdm_report *r, struct fdm_report_row *row, const char *text) {
    append_text(r, &row->notes, keep(r, fdm_strdup(text)));
}

void fdm_report_add_series(struct fdm_report *r, const char *label, int column, bool dashed) {
    if (r->series_count < (int)FDM_ARRAY_LEN(r->series))
        r->series[r->series_count++] = (struct fdm_report_series){label, column, dashed};
}

size_t fdm_report_count(const struct fdm_report *r, enum fdm_report_verdict verdict) {
    size_t n = 0;
    for (size_t i = 0; i < r->row_count; i++) n += r->rows[i].verdict == verdict;
    return n;
}

struct placed {
    int64_t order;
    size_t index;
};
static int by_order(const void *left, const void *right) {
    const struct placed *x = left, *y = right;
    if ((x->order < 0) != (y->order < 0)) return x->order < 0 ? 1 : -1;
    if (x->order != y->order) return x->order < y->order ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

const size_t *fdm_report_by_order(size_t **scratch, const struct fdm_report *r) {
    struct placed *placed = malloc((r->row_count + 1) * sizeof *placed);
    size_t *order = malloc((r->row_count + 1) * sizeof *order);
    if (placed && order) {
        for (size_t i = 0; i < r->row_count; i++) placed[i] = (struct placed){r->rows[i].order, i};
        if (r->row_count) qsort(placed, r->row_count, sizeof *placed, by_order);
        for (size_t i = 0; i < r->row_count; i++) order[i] = placed[i].index;
    } else {
        free(order);
        order = NULL;
    }
    free(placed);
    return *scratch = order;
}

void fdm_report_conclude(struct fdm_report *r) {
    const struct fdm_report_row *first = NULL;
    for (size_t i = 0; i < r->row_count; i++) {
        const struct fdm_report_row *row = &r->rows[i];
        if (row->verdict == FDM_VERDICT_FAIL && row->order >= 0 && (!first || row->order < first->order)) first = row;
    }
    if (!r->first_bad && first) r->first_bad = first->name;
    if (fdm_report_count(r, FDM_VERDICT_FAIL) || r->row_count == 0) r->verdict = FDM_VERDICT_FAIL;
    else if (fdm_report_count(r, FDM_VERDICT_MISTRUSTED) || fdm_report_count(r, FDM_VERDICT_SKIPPED) == r->row_count)
        r->verdict = FDM_VERDICT_MISTRUSTED;
    else r->verdict = FDM_VERDICT_PASS;
}

fdm_status fdm_report_check(const struct fdm_report *r, fdm_error *err) {
    return r->failed ? fdm_fail_oom(err, "report", 0) : FDM_OK;
}

void fdm_report_free(struct fdm_report *r) {
    for (size_t i = 0; i < r->row_count; i++) {
        free(r->rows[i].values);
        free((void *)r->rows[i].notes.items);
    }
    for (size_t i = 0; i < r->pool.count; i++) {
        union {
            const char *text;
            void *owned;
        } u = {r->pool.items[i]};
        free(u.owned);
    }
    free((void *)r->pool.items);
    free((void *)r->notes.items);
    free(r->facts);
    free(r->columns);
    free(r->rows);
    *r = (struct fdm_report){0};
}

/* ---- Text of files ----------------------------------------------------------------------------------------- */

/* Characters that a terminal or a browser obeys instead of showing: controls (C0, DEL, C1), marks that turn the
 * direction of writing, line and paragraph separators, byte order marks. */
static bool is_unruly(const unsigned char *p, int n) {
    if (n == 1) return p[0] < 0x20 || p[0] == 0x7f;
    if (n == 2) return p[0] == 0xc2 && p[1] < 0xa0;
    if (n == 3 && p[0] == 0xe2 && p[1] == 0x80) return p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae);
    if (n == 3 && p[0] == 0xe2 && p[1] == 0x81) return p[2] >= 0xa6 && p[2] <= 0xa9;
    return n == 3 && p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf;
}

static const char *entity(char c) {
    switch (c) {
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '&': return "&amp;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

static void put_text(struct fdm_text *out, const char *text, bool html) {
    const unsigned char *p = (const unsigned char *)text;
    while (*p) {
        const int n = fdm_utf8_sequence(p);
        const char *instead = n == 1 && html ? entity((char)*p) : NULL;
        if (n == 0 || is_unruly(p, n)) instead = html ? "\xef\xbf\xbd" : "?";
        if (instead) fdm_text_add(out, instead, strlen(instead));
        else fdm_text_add(out, (const char *)p, (size_t)n);
        p += n > 0 ? n : 1;
    }
}

void fdm_report_plain(struct fdm_text *out, const char *text) { put_text(out, text, false); }
void fdm_report_escape(struct fdm_text *out, const char *text) { put_text(out, text, true); }

void fdm_report_shape(struct fdm_text *out, const struct fdm_report_row *row) {
    char text[FDM_SHAPE_TEXT];
    if (row->ndim < 0 || (row->ndim > 0 && !row->shape)) return;
    fdm_shape_text(text, sizeof text, row->ndim, row->shape);
    fdm_text_add(out, text, strlen(text));
}

void fdm_report_number(char out[32], double x, bool integer) {
    if (isnan(x)) snprintf(out, 32, "-");
    else if (isinf(x)) snprintf(out, 32, x > 0 ? "inf" : "-inf");
    else if (integer && fabs(x) < 1e10) snprintf(out, 32, "%.0f", x);
    else snprintf(out, 32, "%.3g", x);
}

void fdm_report_index(struct fdm_text *out, const struct fdm_report_row *row, int64_t index) {
    char text[FDM_SHAPE_TEXT];
    fdm_index_text(text, sizeof text, row->ndim, row->shape, index);
    fdm_text_add(out, text, strlen(text));
}
