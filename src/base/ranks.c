/* ranks.c - sharing, agreeing, telling and gathering, along binomial trees of point-to-point messages. */
#include "fdm/ranks.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

fdm_ranks_share fdm_ranks_share_for(const fdm_ranks *ranks, int64_t count, int rank) {
    const int64_t size = fdm_ranks_size(ranks), each = count / size, more = count % size; /* the first `more` have one more */
    const int64_t first = rank * each + (rank < more ? rank : more);
    return (fdm_ranks_share){first, first + each + (rank < more)};
}

fdm_ranks_share fdm_ranks_share_of(const fdm_ranks *ranks, int64_t count) {
    return fdm_ranks_share_for(ranks, count, fdm_ranks_rank(ranks));
}

/* --- binomial trees: rank r's parent is r without its lowest set bit, its children are r + 1, r + 2, r + 4, ... below that
 * bit; the subtree of the child r + m is the ranks r + m .. r + 2m - 1 --- */

static fdm_status send(const fdm_ranks *r, fdm_rank_channel channel, int to, const void *data, size_t bytes, fdm_error *err) {
    const fdm_exchange what = {.channel = channel, .to = to, .send = data, .send_bytes = bytes};
    return r->exchange(r, &what, err);
}

static fdm_status receive(const fdm_ranks *r, fdm_rank_channel channel, int from, void *data, size_t bytes, fdm_error *err) {
    const fdm_exchange what = {.channel = channel, .from = from, .receive = data, .receive_bytes = bytes};
    return r->exchange(r, &what, err);
}

static fdm_status tell(const fdm_ranks *r, fdm_rank_channel channel, void *data, size_t bytes, fdm_error *err) {
    fdm_status status = FDM_OK;
    int m = 1;
    while (m < r->size && !(r->rank & m)) m *= 2;
    if (r->rank) status = receive(r, channel, r->rank - m, data, bytes, err);
    for (m /= 2; m > 0 && status == FDM_OK; m /= 2)
        if (r->rank + m < r->size) status = send(r, channel, r->rank + m, data, bytes, err);
    return status;
}

fdm_status fdm_ranks_broadcast(const fdm_ranks *ranks, void *data, size_t bytes, fdm_error *err) {
    return fdm_ranks_size(ranks) > 1 ? tell(ranks, FDM_CHANNEL_WORK, data, bytes, err) : FDM_OK;
}

fdm_status fdm_ranks_gather(const fdm_ranks *ranks, void *data, size_t item_bytes, int64_t count, fdm_error *err) {
    const int size = fdm_ranks_size(ranks), rank = fdm_ranks_rank(ranks);
    fdm_status status = FDM_OK;
    for (int m = 1; m < size && status == FDM_OK; m *= 2) {
        const bool leaf = rank & m;
        const int low = leaf ? rank : rank + m, high = fdm_min_int(low + m, size) - 1; /* whose shares move */
        if (low >= size) continue;
        const int64_t first = fdm_ranks_share_for(ranks, count, low).first, end = fdm_ranks_share_for(ranks, count, high).end;
        char *at = (char *)data + (size_t)first * item_bytes;
        const size_t bytes = (size_t)(end - first) * item_bytes;
        if (leaf) return send(ranks, FDM_CHANNEL_WORK, rank - m, at, bytes, err);
        status = receive(ranks, FDM_CHANNEL_WORK, low, at, bytes, err);
    }
    return status;
}

fdm_status fdm_ranks_gather_all(const fdm_ranks *ranks, void *data, size_t item_bytes, int64_t count, fdm_error *err) {
    const fdm_status status = fdm_ranks_gather(ranks, data, item_bytes, count, err);
    return status == FDM_OK ? fdm_ranks_broadcast(ranks, data, item_bytes * (size_t)count, err) : status;
}

/* --- agreeing --- */

struct vote {
    int32_t status, rank;
    uint32_t flags;
};

static int gravity(int32_t status) {
    return status == FDM_OK ? 0 : status == FDM_MISMATCH ? 1 : status == FDM_INTERRUPTED ? 2 : 3;
}

static fdm_status collect_votes(const fdm_ranks *r, struct vote *v, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (int m = 1; m < r->size && status == FDM_OK; m *= 2) {
        struct vote other;
        if (r->rank & m) return send(r, FDM_CHANNEL_CONTROL, r->rank - m, v, sizeof *v, err);
        if (r->rank + m >= r->size) continue;
        status = receive(r, FDM_CHANNEL_CONTROL, r->rank + m, &other, sizeof other, err);
        if (status != FDM_OK) break;
        const uint32_t flags = v->flags | other.flags;
        if (gravity(other.status) > gravity(v->status)) *v = other; /* ranks come in order: the lowest stays */
        v->flags = flags;
    }
    return status;
}

/* The message of rank `from` to all. */
static fdm_status spread_message(const fdm_ranks *r, char *message, size_t size, int from, fdm_error *err) {
    fdm_status status = FDM_OK;
    if (from && r->rank == from) status = send(r, FDM_CHANNEL_CONTROL, 0, message, size, err);
    if (from && r->rank == 0) status = receive(r, FDM_CHANNEL_CONTROL, from, message, size, err);
    return status == FDM_OK ? tell(r, FDM_CHANNEL_CONTROL, message, size, err) : status;
}

fdm_status fdm_ranks_agree_after(const fdm_ranks *ranks, fdm_status mine, double seconds, fdm_error *err) {
    if (fdm_ranks_size(ranks) == 1) return mine;
    fdm_ranks patient = *ranks;
    if (patient.timeout > 0) patient.timeout += seconds;
    return fdm_ranks_agree(&patient, mine, NULL, err);
}

fdm_status fdm_ranks_agree(const fdm_ranks *ranks, fdm_status mine, unsigned *flags, fdm_error *err) {
    struct vote v = {.status = mine, .rank = fdm_ranks_rank(ranks), .flags = flags ? *flags : 0};
    char message[sizeof err->message] = "";
    fdm_error lost;
    if (fdm_ranks_size(ranks) == 1) return mine;
    if (mine != FDM_OK && err) snprintf(message, sizeof message, "%s", err->message);
    fdm_status status = collect_votes(ranks, &v, &lost);
    if (status == FDM_OK) status = tell(ranks, FDM_CHANNEL_CONTROL, &v, sizeof v, &lost);
    if (status == FDM_OK && v.status != FDM_OK) status = spread_message(ranks, message, sizeof message, v.rank, &lost);
    if (status != FDM_OK) /* what this rank has to say for itself may be why */
        return mine != FDM_OK ? mine : fdm_fail(err, status, "%s", lost.message);
    if (flags) *flags = v.flags;
    message[sizeof message - 1] = '\0';
    if (v.status == FDM_OK) return FDM_OK;
    if (v.rank == 0) return fdm_fail(err, (fdm_status)v.status, "%s", message);
    return fdm_fail(err, (fdm_status)v.status, "rank %d: %s", v.rank, message);
}

/* --- comparing --- */

fdm_status fdm_ranks_check_same(const fdm_ranks *ranks, const char *where, const fdm_ranks_fact *facts, int count,
                                fdm_error *err) {
    fdm_status differ = FDM_OK;
    for (int i = 0; i < count; i++) {
        int64_t first = facts[i].value;
        const fdm_status status = fdm_ranks_broadcast(ranks, &first, sizeof first, err);
        if (status != FDM_OK) return status;
        if (differ == FDM_OK && first != facts[i].value)
            differ = fdm_fail(err, FDM_BAD_INPUT, "%s: not what rank 0 has: %s is %" PRId64 " instead of %" PRId64, where,
                              facts[i].name, facts[i].value, first);
    }
    return fdm_ranks_agree(ranks, differ, NULL, err);
}
