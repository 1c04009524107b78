/* comm_trace.c - events of all ranks as one Chrome trace. */
#include "train/comm_trace.h"

#include <stdlib.h>

#include "base/base.h"
#include "io/atomic_file.h"
#include "nn/network.h"
#include "train/gradient.h"

enum { MOST_EVENTS = 1 << 16 };

struct event {
    int index, update;
    double begin, end;
};

struct lane {
    struct event *events; /* [room] */
    int64_t count, room;
};

struct fdm_comm_trace {
    const fdm_ranks *ranks;
    const struct fdm_graph *graph;
    double start;
    struct lane lanes[FDM_LANES];
    int update, most; /* that is under way, from 1 on; the last one that there is room for */
};

fdm_status fdm_comm_trace_create(struct fdm_comm_trace **trace, const fdm_ranks *ranks, fdm_gradient *g, int buckets,
                                 fdm_error *err) {
    fdm_status status = FDM_OK;
    struct fdm_comm_trace *t = *trace = calloc(1, sizeof *t);
    if (!t) return fdm_fail_oom(err, "trace", sizeof *t);
    t->ranks = ranks;
    t->graph = &fdm_gradient_network(g)->graph;
    const int events[FDM_LANES] = {t->graph->step_count, buckets}; /* of an update, at most */
    t->most = fdm_max_int(1, MOST_EVENTS / (events[FDM_LANE_BACKWARD] + events[FDM_LANE_MESSAGES]));
    for (int i = 0; i < FDM_LANES && status == FDM_OK; i++) {
        t->lanes[i].room = (int64_t)t->most * events[i];
        const size_t bytes = (size_t)t->lanes[i].room * sizeof(struct event);
        t->lanes[i].events = malloc(bytes);
        if (!t->lanes[i].events) status = fdm_fail_oom(err, "trace", bytes);
    }
    status = fdm_ranks_agree(ranks, status, NULL, err);
    t->start = fdm_now();
    if (status != FDM_OK) fdm_comm_trace_free(trace);
    return status;
}

void fdm_comm_trace_free(struct fdm_comm_trace **trace) {
    if (!*trace) return;
    for (int i = 0; i < FDM_LANES; i++) free((*trace)->lanes[i].events);
    free(*trace);
    *trace = NULL;
}

void fdm_comm_trace_update(struct fdm_comm_trace *t) {
    if (t) t->update++;
}

void fdm_comm_trace_add(struct fdm_comm_trace *t, enum fdm_comm_lane lane, int index, double begin, double end) {
    if (!t || t->update > t->most || t->lanes[lane].count == t->lanes[lane].room) return;
    t->lanes[lane].events[t->lanes[lane].count++] = (struct event){index, t->update, begin - t->start, end - t->start};
}

struct fdm_comm_trace_updates fdm_comm_trace_count(const struct fdm_comm_trace *t) {
    return (struct fdm_comm_trace_updates){fdm_min_int(t->update, t->most), t->update};
}

/* --- writing --- */

static fdm_status write_event(struct fdm_atomic_file *f, const struct fdm_graph *graph, int rank, int lane, const struct event *e,
                              fdm_error *err) {
    const struct fdm_step *s = lane == FDM_LANE_BACKWARD ? &graph->steps[e->index] : NULL;
    fdm_status status = fdm_atomic_printf(
        f, err, ",\n{\"ph\": \"X\", \"pid\": %d, \"tid\": %d, \"ts\": %.3f, \"dur\": %.3f, \"args\": {\"update\": %d}, ", rank, lane,
        1e6 * e->begin, 1e6 * (e->end - e->begin), e->update);
    if (status != FDM_OK) return status;
    if (s) return fdm_atomic_printf(f, err, "\"name\": \"%s\"}", s->module >= 0 ? graph->modules[s->module].name : "step");
    return fdm_atomic_printf(f, err, "\"name\": \"bucket %d\"}", e->index);
}

static fdm_status write_lane(struct fdm_atomic_file *f, const struct fdm_graph *graph, int rank, int lane,
                             const struct event *events, int64_t count, fdm_error *err) {
    static const char *const names[] = {"backward pass", "messages"};
    fdm_status status =
        fdm_atomic_printf(f, err, "%s{\"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"name\": \"thread_name\", \"args\": {\"name\": \"%s\"}}",
                          rank || lane ? ",\n" : "", rank, lane, names[lane]);
    for (int64_t i = 0; i < count && status == FDM_OK; i++) status = write_event(f, graph, rank, lane, &events[i], err);
    return status;
}

/* One lane of one rank: the count, then the events.  Rank 0 takes them in turn. */
static fdm_status pass_lane(const fdm_ranks *r, int rank, void *data, size_t bytes, fdm_error *err) {
    const fdm_exchange out = {.channel = FDM_CHANNEL_WORK, .to = 0, .send = data, .send_bytes = bytes};
    const fdm_exchange in = {.channel = FDM_CHANNEL_WORK, .from = rank, .receive = data, .receive_bytes = bytes};
    return r->exchange(r, r->rank ? &out : &in, err);
}

/* *written: what became of rank 0's file; the status: of the messages. */
static fdm_status collect(const struct fdm_comm_trace *t, struct fdm_atomic_file *f, struct event *room, fdm_status *written,
                          fdm_error *why, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (int rank = 0; rank < fdm_ranks_size(t->ranks) && status == FDM_OK; rank++) {
        for (int lane = 0; lane < FDM_LANES && status == FDM_OK; lane++) {
            const bool own = rank == fdm_ranks_rank(t->ranks), first = fdm_ranks_is_first(t->ranks);
            struct event *events = own ? t->lanes[lane].events : room;
            int64_t count = own ? t->lanes[lane].count : 0;
            if (!own && !first) continue;
            if (rank) status = pass_lane(t->ranks, rank, &count, sizeof count, err);
            if (rank && status == FDM_OK) status = pass_lane(t->ranks, rank, events, (size_t)count * sizeof *events, err);
            if (first && status == FDM_OK && *written == FDM_OK) *written = write_lane(f, t->graph, rank, lane, events, count, why);
        }
    }
    return status;
}

fdm_status fdm_comm_trace_write(const struct fdm_comm_trace *t, const char *path, fdm_error *err) {
    struct fdm_atomic_file f = {0};
    const bool first = fdm_ranks_is_first(t->ranks);
    const struct fdm_comm_trace_updates updates = fdm_comm_trace_count(t);
    const int64_t most = t->lanes[0].room > t->lanes[1].room ? t->lanes[0].room : t->lanes[1].room;
    struct event *room = first ? malloc((size_t)most * sizeof *room) : NULL;
    fdm_status mine = first && !room ? fdm_fail_oom(err, "trace", (size_t)most * sizeof *room) : FDM_OK;
    if (mine == FDM_OK && first) mine = fdm_atomic_open(&f, path, err);
    if (mine == FDM_OK && first) mine = fdm_atomic_printf(&f, err, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
    fdm_status status = fdm_ranks_agree(t->ranks, mine, NULL, err);
    if (status == FDM_OK) status = collect(t, &f, room, &mine, err, err);
    if (status == FDM_OK && mine == FDM_OK && first)
        mine = fdm_atomic_printf(&f, err, "\n], \"otherData\": {\"updates\": %d, \"updates_left_out\": %d}}\n", updates.kept,
                                 updates.all - updates.kept);
    if (status == FDM_OK && mine == FDM_OK && first) mine = fdm_atomic_commit(&f, err);
    else fdm_atomic_abort(&f);
    free(room);
    return status == FDM_OK ? fdm_ranks_agree(t->ranks, mine, NULL, err) : status;
}
