/* comm_trace.h - when every rank did what: steps of the backward pass beside messages; internal. */
#ifndef FDM_TRAIN_COMM_TRACE_H
#define FDM_TRAIN_COMM_TRACE_H

#include "fdm/gradient.h"
#include "fdm/ranks.h"

enum fdm_comm_lane { FDM_LANE_BACKWARD, FDM_LANE_MESSAGES, FDM_LANES };

struct fdm_comm_trace; /* the first 65536 events of this rank; the two lanes may be written by two threads at once */

/* Collective: the clocks start together.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_comm_trace_create(struct fdm_comm_trace **trace, const fdm_ranks *ranks, fdm_error *err);
void fdm_comm_trace_free(struct fdm_comm_trace **trace);
/* An event between two times of fdm_comm_now.  index: the step of the network; the bucket.  NULL: nothing happens. */
void fdm_comm_trace_add(struct fdm_comm_trace *trace, enum fdm_comm_lane lane, int index, double begin, double end);
double fdm_comm_now(void); /* seconds */

/* Collective: rank 0 writes everybody's events to `path`, in the JSON that chrome://tracing and Perfetto read: a process a
 * rank, a thread a lane.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_comm_trace_write(const struct fdm_comm_trace *trace, const fdm_gradient *gradient, const char *path,
                                fdm_error *err);

#endif
