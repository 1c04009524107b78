/* data_order.c - numpy's shuffle, and the endless walk over the data set that it starts. */
#include "fdm/data_order.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"

enum { MT_WORDS = 624 };

/* ---- numpy's legacy RandomState: seeded with an integer it is init_genrand ---- */

static uint64_t next_word(fdm_mt19937 *mt, bool wide) {
    const uint64_t high = fdm_mt19937_next(mt);
    return wide ? high << 32 | fdm_mt19937_next(mt) : high;
}

/* An integer in [0, most]: words cut to the bits of `most` until one is in range.  0 draws nothing. */
static int64_t draw_up_to(fdm_mt19937 *mt, int64_t most) {
    if (most == 0) return 0;
    uint64_t mask = (uint64_t)most, value;
    for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
    do value = next_word(mt, most > UINT32_MAX) & mask;
    while (value > (uint64_t)most);
    return (int64_t)value;
}

static void swap(int64_t *list, int64_t i, int64_t j) {
    const int64_t held = list[i];
    list[i] = list[j];
    list[j] = held;
}

/* 0, 1, ..., count-1, shuffled from the last position down; NULL if out of memory. */
static int64_t *shuffled(fdm_mt19937 *mt, int64_t count) {
    size_t bytes;
    int64_t *list = fdm_mul_size(&bytes, (size_t)count, sizeof *list) ? malloc(bytes) : NULL;
    if (!list) return NULL;
    for (int64_t i = 0; i < count; i++) list[i] = i;
    for (int64_t i = count - 1; i > 0; i--) swap(list, i, draw_up_to(mt, i));
    return list;
}

/* ---- the walk ---- */

/* count / 2, a half rounded to even. */
static int64_t half_of(int64_t count) {
    const int64_t below = count / 2;
    return count % 2 == 0 ? below : below + below % 2;
}

static fdm_status check_replica(int rank, int replicas, fdm_error *err) {
    if (replicas >= 1 && rank >= 0 && rank < replicas) return FDM_OK;
    return fdm_fail(err, FDM_BAD_USAGE, "data order: rank %d of %d replicas", rank, replicas);
}

fdm_status fdm_data_order_init(fdm_data_order *order, int64_t count, uint32_t seed, int rank, int replicas,
                               fdm_error *err) {
    if (count < 1) return fdm_fail(err, FDM_BAD_USAGE, "data order: a data set of %" PRId64 " images", count);
    const fdm_status status = check_replica(rank, replicas, err);
    if (status != FDM_OK) return status;
    fdm_data_order o = {.count = count, .window = half_of(count), .rank = rank, .replicas = replicas};
    fdm_mt19937_seed(&o.mt, seed);
    o.order = shuffled(&o.mt, count);
    if (!o.order) return fdm_fail_oom(err, "data order", (size_t)count * sizeof *o.order);
    *order = o;
    return FDM_OK;
}

void fdm_data_order_free(fdm_data_order *order) {
    if (!order) return;
    free(order->order);
    *order = (fdm_data_order){0};
}

/* One position of the walk, whoever it belongs to. */
static int64_t advance(fdm_data_order *o) {
    const int64_t i = o->position++ % o->count, image = o->order[i];
    if (o->window >= 2) {
        const int64_t back = draw_up_to(&o->mt, o->window - 1);
        swap(o->order, i, (i - back + o->count) % o->count);
    }
    return image;
}

int64_t fdm_data_order_next(fdm_data_order *order) {
    while (order->position % order->replicas != order->rank) advance(order);
    return advance(order);
}

/* ---- saving ---- */

enum { NAME_MAX_BYTES = 256 };

static fdm_status add_copy(fdm_tensors *set, const char *prefix, const char *part, fdm_dtype dtype, int64_t count,
                           const void *data, fdm_error *err) {
    char name[NAME_MAX_BYTES];
    fdm_tensor *t;
    if ((size_t)snprintf(name, sizeof name, "%s%s", prefix, part) >= sizeof name)
        return fdm_fail(err, FDM_BAD_USAGE, "data order: the prefix '%.60s...' is too long", prefix);
    const fdm_status status = fdm_tensors_add(set, name, dtype, 1, &count, &t, err);
    if (status == FDM_OK) memcpy(t->data, data, t->nbytes);
    return status;
}

fdm_status fdm_data_order_save(fdm_tensors *set, const char *prefix, const fdm_data_order *order, fdm_error *err) {
    const int64_t position[] = {order->mt.next, order->position, order->rank, order->replicas};
    fdm_status status = add_copy(set, prefix, "mt", FDM_U32, MT_WORDS, order->mt.state, err);
    if (status == FDM_OK) status = add_copy(set, prefix, "position", FDM_I64, FDM_ARRAY_LEN(position), position, err);
    if (status == FDM_OK) status = add_copy(set, prefix, "order", FDM_I64, order->count, order->order, err);
    return status;
}

/* The data of "<prefix><part>" if it is a vector of that type and length; else an error. */
static fdm_status find_vector(const void **data, const fdm_tensors *set, const char *prefix, const char *part,
                              fdm_dtype dtype, int64_t count, const char *where, fdm_error *err) {
    char name[NAME_MAX_BYTES], has[FDM_SHAPE_TEXT];
    snprintf(name, sizeof name, "%s%s", prefix, part);
    const fdm_tensor *t = fdm_tensors_find(set, name);
    if (!t) return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s is missing", where, name);
    if (t->dtype == dtype && t->ndim == 1 && t->shape[0] == count) {
        *data = t->data;
        return FDM_OK;
    }
    fdm_shape_text(has, sizeof has, t->ndim, t->shape);
    return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s is %s%s instead of %s[%" PRId64 "]", where, name,
                    fdm_dtype_name(t->dtype), has, fdm_dtype_name(dtype), count);
}

/* A copy of the list, if it holds each of 0..count-1 once. */
static fdm_status copy_permutation(int64_t **copy, const int64_t *list, int64_t count, const char *prefix,
                                   const char *where, fdm_error *err) {
    int64_t *kept = malloc((size_t)count * sizeof *kept);
    unsigned char *seen = calloc((size_t)count, 1);
    fdm_status status = FDM_OK;
    if (!kept || !seen) status = fdm_fail_oom(err, "data order", (size_t)count * (sizeof *kept + 1));
    for (int64_t i = 0; status == FDM_OK && i < count; i++) {
        if (list[i] >= 0 && list[i] < count && !seen[list[i]]++)
            kept[i] = list[i];
        else
            status = fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %sorder: element %" PRId64 " is %" PRId64
                              ", out of range or there twice", where, prefix, i, list[i]);
    }
    free(seen);
    if (status == FDM_OK)
        *copy = kept;
    else
        free(kept);
    return status;
}

fdm_status fdm_data_order_restore(fdm_data_order *order, const fdm_tensors *set, const char *prefix, int64_t count,
                                  const char *where, fdm_error *err) {
    const void *words, *data, *list;
    if (count < 1) return fdm_fail(err, FDM_BAD_USAGE, "data order: a data set of %" PRId64 " images", count);
    fdm_status status = find_vector(&words, set, prefix, "mt", FDM_U32, MT_WORDS, where, err);
    if (status == FDM_OK) status = find_vector(&data, set, prefix, "position", FDM_I64, 4, where, err);
    if (status == FDM_OK) status = find_vector(&list, set, prefix, "order", FDM_I64, count, where, err);
    if (status != FDM_OK) return status;
    const int64_t *position = data;
    if (position[0] < 0 || position[0] > MT_WORDS || position[1] < 0 || position[2] < 0 || position[3] > INT32_MAX ||
        position[2] >= position[3])
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %sposition holds no position of a data order", where, prefix);
    fdm_data_order o = {.count = count,
                        .window = half_of(count),
                        .position = position[1],
                        .rank = (int)position[2],
                        .replicas = (int)position[3]};
    memcpy(o.mt.state, words, sizeof o.mt.state);
    o.mt.next = (int)position[0];
    status = copy_permutation(&o.order, list, count, prefix, where, err);
    if (status == FDM_OK) *order = o;
    return status;
}

/* ---- subset ---- */

static int ascending(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

fdm_status fdm_data_order_subset(int64_t *indices, int64_t max_size, int64_t count, uint32_t seed, fdm_error *err) {
    if (count < 1 || max_size < 1)
        return fdm_fail(err, FDM_BAD_USAGE, "at most %" PRId64 " of %" PRId64 " images: both must be positive",
                        max_size, count);
    if (max_size >= count) {
        for (int64_t i = 0; i < count; i++) indices[i] = i;
        return FDM_OK;
    }
    fdm_mt19937 mt;
    fdm_mt19937_seed(&mt, seed);
    int64_t *list = shuffled(&mt, count);
    if (!list) return fdm_fail_oom(err, "data order", (size_t)count * sizeof *list);
    qsort(list, (size_t)max_size, sizeof *list, ascending);
    memcpy(indices, list, (size_t)max_size * sizeof *list);
    free(list);
    return FDM_OK;
}
