/* comm_trace.h - when every rank did what: steps of the backward pass beside messages; internal. */
#ifndef FDM_TRAIN_COMM_TRACE_H
#define FDM_TRAIN_COMM_TRACE_H

#include "fdm/gradient.h"
#include "fdm/ranks.h"

enum fdm_comm_lane { FDM_LANE_BACKWARD, FDM_LANE_MESSAGES, FDM_LANES };

/* The events of as many whole updates from the first one on as are 65536 at most on a rank: both lanes of all ranks end with
 * the same update.  The two lanes may be written by two threads at once. */
struct fdm_comm_trace;

/* Collective: the clocks start together.  The gradient (borrowed until the trace is written) and the number of buckets say how
 * many events an update has.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_comm_trace_create(struct fdm_comm_trace **trace, const fdm_ranks *ranks, fdm_gradient *gradient, int buckets,
                                 fdm_error *err);
void fdm_comm_trace_free(struct fdm_comm_trace **trace);
/* The next update begins; no event of the last one may come any more.  NULL: nothing happens. */
void fdm_comm_trace_update(struct fdm_comm_trace *trace);
/* An event between two times of fdm_now.  index: the step of the network; the bucket.  NULL: nothing happens. */
void fdm_comm_trace_add(struct fdm_comm_trace *trace, enum fdm_comm_lane lane, int index, double begin, double end);

/* Updates so far: that are in the trace, of all. */
struct fdm_comm_trace_updates {
    int kept, all;
};
struct fdm_comm_trace_updates fdm_comm_trace_count(const struct fdm_comm_trace *trace);

/* Collective: rank 0 writes everybody's events to `path`, in the JSON that chrome://tracing and Perfetto read: a process a
 * rank, a thread a lane, args.update the update from 1 on; otherData says how many updates are in it and how many are not.
 * Errors: FDM_NO_RESOURCE. */
fdm_status fdm_comm_trace_write(const struct fdm_comm_trace *trace, const char *path, fdm_error *err);

#endif
