/* comm_trace.c - events of all ranks as one Chrome trace. */
#include "train/comm_trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/base.h"
#include "io/atomic_file.h"
#include "nn/network.h"
#include "train/gradient.h"

enum { MOST_EVENTS = 1 << 16 };

struct event {
    int64_t index;
    double begin, end;
};

struct lane {
    struct event *events; /* [MOST_EVENTS / FDM_LANES] */
    int64_t count;
};

struct fdm_comm_trace {
    const fdm_ranks *ranks;
    double start;
    struct lane lanes[FDM_LANES];
};

double fdm_comm_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

fdm_status fdm_comm_trace_create(struct fdm_comm_trace **trace, const fdm_ranks *ranks, fdm_error *err) {
    fdm_status status = FDM_OK;
    struct fdm_comm_trace *t = *trace = calloc(1, sizeof *t);
    if (!t) return fdm_fail_oom(err, "trace", sizeof *t);
    t->ranks = ranks;
    for (int i = 0; i < FDM_LANES && status == FDM_OK; i++) {
        t->lanes[i].events = malloc(MOST_EVENTS / FDM_LANES * sizeof(struct event));
        if (!t->lanes[i].events) status = fdm_fail_oom(err, "trace", MOST_EVENTS * sizeof(struct event));
    }
    status = fdm_ranks_agree(ranks, status, NULL, err);
    t->start = fdm_comm_now();
    if (status != FDM_OK) fdm_comm_trace_free(trace);
    return status;
}

void fdm_comm_trace_free(struct fdm_comm_trace **trace) {
    if (!*trace) return;
    for (int i = 0; i < FDM_LANES; i++) free((*trace)->lanes[i].events);
    free(*trace);
    *trace = NULL;
}

void fdm_comm_trace_add(struct fdm_comm_trace *t, enum fdm_comm_lane lane, int index, double begin, double end) {
    if (!t || t->lanes[lane].count == MOST_EVENTS / FDM_LANES) return;
    t->lanes[lane].events[t->lanes[lane].count++] = (struct event){index, begin - t->start, end - t->start};
}

/* --- writing --- */

static fdm_status write_event(struct fdm_atomic_file *f, const fdm_gradient *g, int rank, int lane, const struct event *e,
                              fdm_error *err) {
    const struct fdm_graph *graph = &fdm_gradient_network((fdm_gradient *)(uintptr_t)g)->graph;
    const struct fdm_step *s = lane == FDM_LANE_BACKWARD && e->index < graph->step_count ? &graph->steps[e->index] : NULL;
    fdm_status status = fdm_atomic_printf(f, err, ",\n{\"ph\": \"X\", \"pid\": %d, \"tid\": %d, \"ts\": %.3f, \"dur\": %.3f, ", rank,
                                          lane, 1e6 * e->begin, 1e6 * (e->end - e->begin));
    if (status != FDM_OK) return status;
    if (s) return fdm_atomic_printf(f, err, "\"name\": \"%s\"}", s->module >= 0 ? graph->modules[s->module].name : "step");
    return fdm_atomic_printf(f, err, "\"name\": \"bucket %" PRId64 "\"}", e->index);
}

static fdm_status write_lane(struct fdm_atomic_file *f, const fdm_gradient *g, int rank, int lane, const struct event *events,
                             int64_t count, fdm_error *err) {
    static const char *const names[] = {"backward pass", "messages"};
    fdm_status status =
        fdm_atomic_printf(f, err, "%s{\"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"name\": \"thread_name\", \"args\": {\"name\": \"%s\"}}",
                          rank || lane ? ",\n" : "", rank, lane, names[lane]);
    for (int64_t i = 0; i < count && status == FDM_OK; i++) status = write_event(f, g, rank, lane, &events[i], err);
    return status;
}

/* One lane of one rank: the count, then the events.  Rank 0 takes them in turn. */
static fdm_status pass_lane(const fdm_ranks *r, int rank, void *data, size_t bytes, fdm_error *err) {
    const fdm_exchange out = {.channel = FDM_CHANNEL_WORK, .to = 0, .send = data, .send_bytes = bytes};
    const fdm_exchange in = {.channel = FDM_CHANNEL_WORK, .from = rank, .receive = data, .receive_bytes = bytes};
    return r->exchange(r, r->rank ? &out : &in, err);
}

/* *written: what became of rank 0's file; the status: of the messages. */
static fdm_status collect(const struct fdm_comm_trace *t, struct fdm_atomic_file *f, struct event *room, const fdm_gradient *g,
                          fdm_status *written, fdm_error *why, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (int rank = 0; rank < fdm_ranks_size(t->ranks) && status == FDM_OK; rank++) {
        for (int lane = 0; lane < FDM_LANES && status == FDM_OK; lane++) {
            const bool own = rank == fdm_ranks_rank(t->ranks), first = fdm_ranks_is_first(t->ranks);
            struct event *events = own ? t->lanes[lane].events : room;
            int64_t count = own ? t->lanes[lane].count : 0;
            if (!own && !first) continue;
            if (rank) status = pass_lane(t->ranks, rank, &count, sizeof count, err);
            if (rank && status == FDM_OK) status = pass_lane(t->ranks, rank, events, (size_t)count * sizeof *events, err);
            if (first && status == FDM_OK && *written == FDM_OK) *written = write_lane(f, g, rank, lane, events, count, why);
        }
    }
    return status;
}

fdm_status fdm_comm_trace_write(const struct fdm_comm_trace *t, const fdm_gradient *g, const char *path, fdm_error *err) {
    struct fdm_atomic_file f = {0};
    const bool first = fdm_ranks_is_first(t->ranks);
    struct event *room = first ? malloc(MOST_EVENTS / FDM_LANES * sizeof *room) : NULL;
    fdm_status mine = first && !room ? fdm_fail_oom(err, "trace", MOST_EVENTS * sizeof *room) : FDM_OK;
    if (mine == FDM_OK && first) mine = fdm_atomic_open(&f, path, err);
    if (mine == FDM_OK && first) mine = fdm_atomic_printf(&f, err, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
    fdm_status status = fdm_ranks_agree(t->ranks, mine, NULL, err);
    if (status == FDM_OK) status = collect(t, &f, room, g, &mine, err, err);
    if (status == FDM_OK && mine == FDM_OK && first) mine = fdm_atomic_printf(&f, err, "\n]}\n");
    if (status == FDM_OK && mine == FDM_OK && first) mine = fdm_atomic_commit(&f, err);
    else fdm_atomic_abort(&f);
    free(room);
    return status == FDM_OK ? fdm_ranks_agree(t->ranks, mine, NULL, err) : status;
}
