/* report.h - what `fdm compare` and `fdm verify` found, as data, and its writers: terminal, JSON, HTML; internal.
 *
 * A report has a verdict, a headline that needs no jargon, facts (what was compared, with which settings), columns that
 * the command chooses, and one row for each tensor.  It owns all its text; running out of memory sets `failed`, after
 * which nothing more is added and fdm_report_check says so, so that building one needs no checks in between:
 *
 *     struct fdm_report r = {.tool = "verify"};
 *     int rms = fdm_report_column(&r, "rms_ratio", "RMS ratio", "error / error of emulated bf16", FDM_SHOW_ALL);
 *     fdm_report_fact_text(&r, "model", "model", path);
 *     struct fdm_report_row *row = fdm_report_add_row(&r, name);       // columns first, then rows
 *     if (row) fdm_report_set(row, rms, 1.3);
 *     if (row) row->detail = fdm_report_text(&r, "local error %.3g, bound %.3g", local, bound);
 *     fdm_report_conclude(&r);                                         // the verdict from those of the rows
 *     status = fdm_report_check(&r, err);
 *     if (!status) status = fdm_report_html(&text, &r, err);
 *     fdm_report_free(&r);
 *
 * Strings in the fields are either literals or come from fdm_report_text; pointers to statistics, patches, shapes and
 * maps are borrowed and must outlive the report.
 */
#ifndef FDM_VERIFY_REPORT_H
#define FDM_VERIFY_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "fdm/pair_stats.h"
#include "io/text.h"

/* X(enumerator, JSON name, word in tables) */
#define FDM_REPORT_VERDICTS(X)                               \
    X(FDM_VERDICT_FAIL, "fail", "FAIL")                      \
    X(FDM_VERDICT_MISTRUSTED, "mistrusted", "MISTRUSTED")    \
    X(FDM_VERDICT_PASS, "pass", "pass")                      \
    X(FDM_VERDICT_SKIPPED, "skipped", "skipped")

enum fdm_report_verdict {
#define FDM_VERDICT_ENUM(e, name, word) e,
    FDM_REPORT_VERDICTS(FDM_VERDICT_ENUM)
#undef FDM_VERDICT_ENUM
        FDM_VERDICT_COUNT
};
const char *fdm_report_verdict_name(enum fdm_report_verdict verdict); /* "fail" */
const char *fdm_report_verdict_word(enum fdm_report_verdict verdict); /* "FAIL" */

/* Where a column is shown; JSON has them all. */
enum { FDM_SHOW_JSON = 0, FDM_SHOW_TABLE = 1, FDM_SHOW_HTML = 2, FDM_SHOW_ALL = 3, FDM_COLUMN_INTEGER = 4 };

struct fdm_report_column {
    const char *key;   /* JSON member: "max_abs"; none of those that every row has (report_json.c) */
    const char *label; /* head of the table: "max abs" */
    const char *help;  /* what it is, in a few words */
    unsigned flags;    /* FDM_SHOW_* | FDM_COLUMN_INTEGER */
};

struct fdm_report_fact {
    const char *key, *label;
    const char *text; /* NULL: a number, which is null in JSON if it is NaN */
    double number;
};

struct fdm_report_texts {
    const char **items;
    size_t count, capacity;
};

struct fdm_report_row {
    const char *name;
    const char *kind;    /* "conv", "parameter", ..., or NULL */
    enum fdm_report_verdict verdict;
    const char *reason;  /* one word for programs: "shape", "nonfinite", "pass" */
    const char *detail;  /* one line for people, or "" */
    const char *formula; /* how the tolerance came about, or NULL */
    struct fdm_report_texts notes;
    int64_t order;       /* place in the network or file: the chart's axis; < 0: not in the chart */
    double *values;      /* (columns), NaN: none */
    const char *dtype;   /* "F32", or NULL */
    int ndim;            /* -1: unknown */
    const int64_t *shape;
    const fdm_pair_stats *stats; /* or NULL */
    const fdm_patch *patch;      /* or NULL; shown only with stats */
};

/* A line of the chart: one column over the rows in their order. */
struct fdm_report_series {
    const char *label;
    int column;
    bool dashed; /* a bound rather than a measurement */
};

struct fdm_report {
    const char *tool;     /* "compare" */
    const char *title;    /* "found.npz against expected.npz" */
    const char *headline; /* "3 of 212 tensors are beyond the tolerance." */
    enum fdm_report_verdict verdict;
    const char *first_bad;  /* name of the first row that is bad by itself, in the order of the network; or NULL */
    const char *looks_like; /* "tf32", ...; or NULL */
    struct fdm_report_texts notes;

    struct fdm_report_fact *facts;
    size_t fact_count, fact_capacity;
    struct fdm_report_column *columns;
    size_t column_count, column_capacity;
    struct fdm_report_row *rows; /* in the order in which to show them: the most severe first */
    size_t row_count, row_capacity;

    const char *chart_title, *chart_unit;
    struct fdm_report_series series[4];
    int series_count; /* 0: no chart */

    const fdm_heat_map *maps;
    int map_count;
    const char *map_name; /* of the tensor */

    struct fdm_report_texts pool; /* owned strings */
    bool failed;
};

/* A string that the report owns; "" if there is no memory. */
const char *fdm_report_text(struct fdm_report *r, const char *format, ...) FDM_PRINTF(2, 3);
void fdm_report_fact_text(struct fdm_report *r, const char *key, const char *label, const char *text); /* copied */
void fdm_report_fact_number(struct fdm_report *r, const char *key, const char *label, double number);
/* Its index; there must be no rows yet. */
int fdm_report_column(struct fdm_report *r, const char *key, const char *label, const char *help, unsigned flags);
/* A new row: name copied, all values NaN, verdict pass, ndim -1.  NULL if there is no memory; valid until the next. */
struct fdm_report_row *fdm_report_add_row(struct fdm_report *r, const char *name);
void fdm_report_set(struct fdm_report_row *row, int column, double value);
void fdm_report_note(struct fdm_report *r, const char *text);                                /* copied */
void fdm_report_row_note(struct fdm_report *r, struct fdm_report_row *row, const char *text); /* copied */
void fdm_report_add_series(struct fdm_report *r, const char *label, int column, bool dashed);
/* How many rows have that verdict. */
size_t fdm_report_count(const struct fdm_report *r, enum fdm_report_verdict verdict);
/* The rows' indices in their order (report's memory), those without one last; NULL if there is no memory. */
const size_t *fdm_report_by_order(size_t **scratch, const struct fdm_report *r);
/* verdict = fail if a row fails or there is none, else mistrusted if a row is or all are skipped, else pass; and
 * first_bad, if not set: the failed row with the lowest order. */
void fdm_report_conclude(struct fdm_report *r);
/* FDM_NO_RESOURCE if something was lost. */
fdm_status fdm_report_check(const struct fdm_report *r, fdm_error *err);
void fdm_report_free(struct fdm_report *r);

/* ---- Writers: they append to `out`; errors: FDM_NO_RESOURCE --------------------------------------------------- */

struct fdm_report_table_style {
    bool only_bad; /* rows that do not pass; nothing at all if all do */
    bool details;  /* quantiles, ULP histogram and neighbourhood of the worst few rows that do not pass */
};
fdm_status fdm_report_table(struct fdm_text *out, const struct fdm_report *r,
                            const struct fdm_report_table_style *style, fdm_error *err);
/* One JSON object as report.schema.json describes it; NaN and infinities are null. */
fdm_status fdm_report_json(struct fdm_text *out, const struct fdm_report *r, fdm_error *err);
/* One page without scripts, fonts or images from elsewhere; every text of a file is escaped. */
fdm_status fdm_report_html(struct fdm_text *out, const struct fdm_report *r, fdm_error *err);

/* ---- For the writers ------------------------------------------------------------------------------------------ */

/* Appends text that may hold anything: control characters, direction marks and invalid UTF-8 become `?` (U+FFFD in
 * HTML, where also <, >, &, " and ' are escaped). */
void fdm_report_plain(struct fdm_text *out, const char *text);
void fdm_report_escape(struct fdm_text *out, const char *text);
/* "[2,3]", "" if the shape is unknown. */
void fdm_report_shape(struct fdm_text *out, const struct fdm_report_row *row);
/* A number in at most ten characters: "1.234e-05", "inf", "-" for NaN. */
void fdm_report_number(char out[32], double x, bool integer);
/* "[0,3,17]" of the element with that row-major index. */
void fdm_report_index(struct fdm_text *out, const struct fdm_report_row *row, int64_t index);

/* report_chart.c: the error profile and the heat maps as SVG. */
void fdm_report_profile_svg(struct fdm_text *out, const struct fdm_report *r, const size_t *order);
void fdm_report_heat_map_svg(struct fdm_text *out, const fdm_heat_map *map);
void fdm_report_ulp_svg(struct fdm_text *out, const fdm_pair_stats *stats);

#endif
