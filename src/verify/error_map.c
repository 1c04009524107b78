/* error_map.c - where two tensors differ: the numbers around one element, heat maps, the place in words. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "verify/tensor_stats.h"

/* d of one element: 0 if left out, infinite if nonfinite. */
static double difference(const fdm_tensor *expected, const fdm_tensor *found, int64_t i) {
    const double e = fdm_tensor_get(expected, i), f = fdm_tensor_get(found, i);
    if (isfinite(e) && isfinite(f)) return f - e;
    return fdm_same_nonfinite(e, f) ? 0 : INFINITY;
}

/* ---- Patch ------------------------------------------------------------------------------------------------- */

/* A window of at most FDM_PATCH_SIDE indices of [0, n) with `at` near its middle. */
static int window(int64_t *first, int64_t n, int64_t at) {
    const int size = n < FDM_PATCH_SIDE ? (int)n : FDM_PATCH_SIDE;
    *first = at - size / 2;
    if (*first < 0) *first = 0;
    if (*first > n - size) *first = n - size;
    return size;
}

void fdm_patch_take(fdm_patch *p, const fdm_tensor *expected, const fdm_tensor *found, const fdm_tensor *truth,
                    int64_t index) {
    const int ndim = expected->ndim;
    const int64_t width = ndim > 0 ? expected->shape[ndim - 1] : 1, height = ndim > 1 ? expected->shape[ndim - 2] : 1;
    *p = (fdm_patch){.index = index, .with_truth = truth != NULL};
    p->cols = window(&p->col, width, index % width);
    p->rows = window(&p->row, height, index / width % height);
    const int64_t plane = index - index % width - index / width % height * width;
    for (int r = 0; r < p->rows; r++)
        for (int c = 0; c < p->cols; c++) {
            const int64_t i = plane + (p->row + r) * width + p->col + c;
            p->expected[r * p->cols + c] = fdm_tensor_get(expected, i);
            p->found[r * p->cols + c] = fdm_tensor_get(found, i);
            if (truth) p->truth[r * p->cols + c] = fdm_tensor_get(truth, i);
        }
}

/* ---- Heat maps --------------------------------------------------------------------------------------------- */

/* Which elements a map shows: dimension `row` downwards and `col` across (-1: none); the others are summed over, or
 * stay at the index of the worst element. */
struct view {
    int row, col;
    bool others_fixed;
};

/* Adds up d^2 and counts; walks over the index space with an odometer. */
static void fill_cells(fdm_heat_map *map, double *counts, const struct view *v, const fdm_tensor *expected,
                       const fdm_tensor *found, const int64_t at[FDM_MAX_NDIM]) {
    const int ndim = expected->ndim;
    int64_t index[FDM_MAX_NDIM] = {0}, stride[FDM_MAX_NDIM], i = 0, step = 1;
    bool fixed[FDM_MAX_NDIM];
    for (int d = ndim - 1; d >= 0; d--) {
        stride[d] = step;
        step *= expected->shape[d];
        fixed[d] = v->others_fixed && d != v->row && d != v->col;
        if (fixed[d]) i += at[d] * stride[d];
    }
    for (int d = 0; d >= 0;) {
        const int64_t r = v->row < 0 ? 0 : index[v->row] * map->rows / map->row_count;
        const int64_t c = v->col < 0 ? 0 : index[v->col] * map->cols / map->col_count;
        const double apart = difference(expected, found, i);
        map->cells[r * map->cols + c] += apart * apart;
        counts[r * map->cols + c]++;
        for (d = ndim - 1; d >= 0; d--) { /* the next index; d < 0 after the last */
            if (fixed[d]) continue;
            i += stride[d];
            if (++index[d] < expected->shape[d]) break;
            i -= index[d] * stride[d];
            index[d] = 0;
        }
    }
}

static int shrunk(int64_t n) { return n < FDM_HEAT_MAP_SIDE ? (int)n : FDM_HEAT_MAP_SIDE; }

static fdm_status make_map(fdm_heat_map *map, const struct view *v, const fdm_tensor *expected,
                           const fdm_tensor *found, int64_t worst, fdm_error *err) {
    int64_t at[FDM_MAX_NDIM];
    fdm_unravel(at, expected->ndim, expected->shape, worst);
    map->row_count = v->row < 0 ? 1 : expected->shape[v->row];
    map->col_count = v->col < 0 ? 1 : expected->shape[v->col];
    map->rows = shrunk(map->row_count);
    map->cols = shrunk(map->col_count);
    const size_t cells = (size_t)map->rows * (size_t)map->cols;
    map->cells = calloc(cells, sizeof *map->cells);
    double *counts = calloc(cells, sizeof *counts);
    if (!map->cells || !counts) {
        free(map->cells);
        free(counts);
        *map = (fdm_heat_map){0};
        return fdm_fail_oom(err, "heat map", cells * sizeof *counts);
    }
    fill_cells(map, counts, v, expected, found, at);
    for (size_t c = 0; c < cells; c++) map->cells[c] = counts[c] > 0 ? sqrt(map->cells[c] / counts[c]) : 0;
    free(counts);
    return FDM_OK;
}

/* "dimensions 2 and 3 at [0,17]": the leading indices are the worst element's. */
static void title_plane(fdm_heat_map *map, const fdm_tensor *t, int64_t worst) {
    int64_t at[FDM_MAX_NDIM];
    size_t used, size = sizeof map->title;
    fdm_unravel(at, t->ndim, t->shape, worst);
    if (t->ndim == 1) {
        snprintf(map->title, size, "along the only dimension");
        return;
    }
    used = (size_t)snprintf(map->title, size, "dimension %d down, %d across", t->ndim - 2, t->ndim - 1);
    for (int d = 0; d < t->ndim - 2 && used < size; d++)
        used += (size_t)snprintf(map->title + used, size - used, "%s%" PRId64 "%s", d ? "," : ", at [", at[d],
                                 d == t->ndim - 3 ? "]" : "");
}

fdm_status fdm_heat_maps_make(fdm_heat_map maps[FDM_HEAT_MAPS], int *count, const fdm_tensor *expected,
                              const fdm_tensor *found, int64_t worst, fdm_error *err) {
    const int ndim = expected->ndim;
    *count = 0;
    memset(maps, 0, FDM_HEAT_MAPS * sizeof *maps);
    if (ndim == 0 || worst < 0 || fdm_tensor_numel(expected) == 0) return FDM_OK;
    const struct view plane = {ndim > 1 ? ndim - 2 : -1, ndim - 1, true}, overview = {0, 1, false};
    fdm_status status = make_map(&maps[0], &plane, expected, found, worst, err);
    if (status) return status;
    title_plane(&maps[0], expected, worst);
    *count = 1;
    if (ndim < 3 || (expected->shape[0] == 1 && expected->shape[1] == 1)) return FDM_OK;
    status = make_map(&maps[1], &overview, expected, found, worst, err);
    if (status) {
        fdm_heat_maps_free(maps);
        *count = 0;
        return status;
    }
    snprintf(maps[1].title, sizeof maps[1].title, "dimension 0 down, 1 across, RMS over the rest");
    *count = 2;
    return FDM_OK;
}

void fdm_heat_maps_free(fdm_heat_map maps[FDM_HEAT_MAPS]) {
    for (int i = 0; i < FDM_HEAT_MAPS; i++) free(maps[i].cells);
    memset(maps, 0, FDM_HEAT_MAPS * sizeof *maps);
}

/* ---- The place in words ------------------------------------------------------------------------------------ */

/* The squared error by index along each dimension, and in the outermost ring of the last two. */
struct places {
    double *along[FDM_MAX_NDIM]; /* (shape[d]), in one block at along[0] */
    double total, edge;
    bool nonfinite;
};

static fdm_status places_new(struct places *p, const fdm_tensor *t, fdm_error *err) {
    size_t slots = 0, bytes;
    for (int d = 0; d < t->ndim; d++) slots = fdm_add_saturated(slots, (size_t)t->shape[d]);
    if (!fdm_mul_size(&bytes, slots, sizeof(double))) return fdm_fail_oom(err, "error by index", SIZE_MAX);
    double *block = calloc(slots, sizeof *block);
    if (!block) return fdm_fail_oom(err, "error by index", bytes);
    p->along[0] = block;
    for (int d = 1; d < t->ndim; d++) p->along[d] = p->along[d - 1] + t->shape[d - 1];
    return FDM_OK;
}

static bool at_edge(const fdm_tensor *t, const int64_t *index) {
    for (int d = t->ndim - 2; d < t->ndim; d++)
        if (index[d] == 0 || index[d] == t->shape[d] - 1) return true;
    return false;
}

/* With anything nonfinite only that counts: each such element as 1. */
static void add_up(struct places *p, const fdm_tensor *expected, const fdm_tensor *found) {
    const int ndim = expected->ndim;
    int64_t index[FDM_MAX_NDIM] = {0};
    for (int64_t i = 0, count = fdm_tensor_numel(expected); i < count; i++) {
        const double apart = difference(expected, found, i);
        const double weight = p->nonfinite ? isinf(apart) != 0 : apart * apart;
        if (weight > 0) {
            p->total += weight;
            for (int d = 0; d < ndim; d++) p->along[d][index[d]] += weight;
            if (ndim > 2 && at_edge(expected, index)) p->edge += weight;
        }
        for (int d = ndim - 1; d >= 0 && ++index[d] == expected->shape[d]; d--) index[d] = 0;
    }
}

static bool has_nonfinite(const fdm_tensor *expected, const fdm_tensor *found) {
    for (int64_t i = 0, count = fdm_tensor_numel(expected); i < count; i++)
        if (isinf(difference(expected, found, i))) return true;
    return false;
}

/* The range along dimension d without the outer half per cent of the error on either side. */
static void range_along(int64_t *first, int64_t *last, const struct places *p, const fdm_tensor *t, int d) {
    double before = 0, after = 0;
    *first = 0;
    *last = t->shape[d] - 1;
    while (*first < *last && (before += p->along[d][*first]) <= 0.005 * p->total) ++*first;
    while (*last > *first && (after += p->along[d][*last]) <= 0.005 * p->total) --*last;
}

static void put_range(char *text, const struct places *p, const fdm_tensor *t) {
    const char *what = p->nonfinite ? "of NaN and infinities" : "of the squared error";
    size_t used = 0;
    for (int d = 0; d < t->ndim && used < FDM_ERROR_PLACE_TEXT; d++) {
        int64_t first, last;
        range_along(&first, &last, p, t, d);
        if (t->shape[d] < 2 || last - first + 1 > t->shape[d] / 2) continue;
        char range[48];
        if (first == last) snprintf(range, sizeof range, "%" PRId64, first);
        else snprintf(range, sizeof range, "%" PRId64 "-%" PRId64, first, last);
        used += (size_t)snprintf(text + used, FDM_ERROR_PLACE_TEXT - used, "%s%s of %" PRId64 " along dimension %d",
                                 used ? ", " : "at index ", range, t->shape[d], d);
    }
    if (used && used < FDM_ERROR_PLACE_TEXT)
        snprintf(text + used, FDM_ERROR_PLACE_TEXT - used, ": 99 %% %s", what);
}

/* Padding and border handling show in the outermost ring. */
static void put_edge(char *text, const struct places *p, const fdm_tensor *t) {
    if (t->ndim < 3 || text[0]) return;
    const double h = (double)t->shape[t->ndim - 2], w = (double)t->shape[t->ndim - 1];
    const double share = p->edge / p->total, area = h > 2 && w > 2 ? 1 - (h - 2) * (w - 2) / (h * w) : 1;
    if (share >= 0.9 && area <= 0.76)
        snprintf(text, FDM_ERROR_PLACE_TEXT, "at the edge of the last two dimensions: %.0f %% of the squared error "
                 "in %.0f %% of the elements (padding?)", 100 * share, 100 * area);
}

fdm_status fdm_error_place(char text[FDM_ERROR_PLACE_TEXT], const fdm_tensor *expected, const fdm_tensor *found,
                           fdm_error *err) {
    struct places p = {0};
    text[0] = '\0';
    if (expected->ndim == 0 || fdm_tensor_numel(expected) < 2) return FDM_OK;
    fdm_status status = places_new(&p, expected, err);
    if (status) return status;
    p.nonfinite = has_nonfinite(expected, found);
    add_up(&p, expected, found);
    if (p.total > 0 && isfinite(p.total)) {
        put_range(text, &p, expected);
        put_edge(text, &p, expected);
    }
    free(p.along[0]);
    return FDM_OK;
}
