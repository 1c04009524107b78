/* rank_sum.h - a gradient summed over ranks while the backward pass that makes it goes on; internal.
 *
 * The flat gradient is cut into buckets, from its end, which the backward pass finishes first.  When the last step that
 * writes into a bucket is done, a thread of its own finishes the sum over this rank's rounds there, then sums it over the
 * ranks (rank_tree.h).  All ranks take the buckets in the same order.
 */
#ifndef FDM_TRAIN_RANK_SUM_H
#define FDM_TRAIN_RANK_SUM_H

#include "train/comm_trace.h"
#include "train/gradient.h"

struct fdm_rank_sum;

/* Elements of a bucket; 0: chosen.  The sum is that of `accumulator`, whose memory it reserves.
 * Errors: FDM_NO_RESOURCE. */
fdm_status fdm_rank_sum_create(struct fdm_rank_sum **sum, const fdm_ranks *ranks, fdm_accumulator *accumulator,
                               const fdm_gradient *gradient, size_t bucket, fdm_error *err);
/* Waits for the bucket that is under way. */
void fdm_rank_sum_free(struct fdm_rank_sum **sum);
int fdm_rank_sum_buckets(const struct fdm_rank_sum *sum);
void fdm_rank_sum_trace(struct fdm_rank_sum *sum, struct fdm_comm_trace *trace); /* NULL: none */

/* For the accumulator's last round. */
struct fdm_gradient_watch fdm_rank_sum_watch(struct fdm_rank_sum *sum);

/* Waits until every bucket is summed.  A rank whose backward pass failed calls it as well, so that the others get their
 * messages; what it sends does not matter then, but fdm_ranks_agree must follow.  Errors: as an exchange; every later call
 * fails, too. */
fdm_status fdm_rank_sum_finish(struct fdm_rank_sum *sum, fdm_error *err);

/* Of all updates so far.  Messages count from when their bucket is ready to when it is summed. */
struct fdm_rank_sum_times {
    double busy;    /* seconds of messages */
    double hidden;  /* seconds of them while the backward pass still went on */
    double exposed; /* seconds that fdm_rank_sum_finish waited */
    int64_t bytes;  /* sent */
    int64_t updates;
};
struct fdm_rank_sum_times fdm_rank_sum_spent(const struct fdm_rank_sum *sum);

#endif
