/* ranks.h - the processes ("ranks") that share one piece of work, and the few things they say to each other.
 *
 * The library knows no MPI: whoever has processes to offer fills a struct fdm_ranks with one function, `exchange`.  The
 * command does so over MPI (src/cli/ranks_mpi.c), the tests over threads.  NULL, everywhere, means a rank that is alone.
 *
 *     fdm_ranks_share mine = fdm_ranks_share_of(ranks, 1000);               // images mine.first .. mine.end-1 are ours
 *     fdm_status status = draw(pixels + mine.first * per, mine, err);
 *     status = fdm_ranks_agree(ranks, status, NULL, err);                   // all go on, or all fail with one message
 *     if (status == FDM_OK) status = fdm_ranks_gather(ranks, pixels, per, 1000, err);
 *     if (status == FDM_OK && fdm_ranks_is_first(ranks)) status = write(pixels, err);
 *     status = fdm_ranks_agree(ranks, status, NULL, err);
 *
 * The functions below are collective: every rank calls the same ones in the same order, from one thread, and a rank that
 * may have failed on the way calls fdm_ranks_agree first, so that nobody waits for it in vain.  They wait along binomial
 * trees: log2(size) messages deep.
 *
 * Errors of them all: FDM_NO_RESOURCE if a rank does not answer within `timeout`, or its connection is gone.  Then nothing
 * can be agreed on any more: say so and end all ranks.
 */
#ifndef FDM_RANKS_H
#define FDM_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Messages of different channels do not meet: one thread may use one while another thread uses the other. */
typedef enum fdm_rank_channel {
    FDM_CHANNEL_WORK,    /* of the functions below, agreement apart */
    FDM_CHANNEL_CONTROL, /* fdm_ranks_agree */
    FDM_CHANNEL_GRADIENT /* of the thread that sums gradients while the backward pass goes on (src/train/) */
} fdm_rank_channel;

/* Bytes out and in at the same time.  Between two ranks and on one channel they arrive in the order of sending, and with
 * the number of bytes that the receiver expects.  0 bytes: that half does not take place. */
typedef struct fdm_exchange {
    fdm_rank_channel channel;
    int to, from; /* ranks */
    const void *send;
    size_t send_bytes;
    void *receive;
    size_t receive_bytes;
} fdm_exchange;

typedef struct fdm_ranks {
    int rank, size;  /* 0 <= rank < size */
    double timeout;  /* seconds that an exchange may wait; 0: for ever */
    void *user;
    /* Returns when both halves are done.  From any thread, several at once on different channels. */
    fdm_status (*exchange)(const struct fdm_ranks *ranks, const fdm_exchange *what, fdm_error *err);
} fdm_ranks;

static inline int fdm_ranks_rank(const fdm_ranks *ranks) { return ranks ? ranks->rank : 0; }
static inline int fdm_ranks_size(const fdm_ranks *ranks) { return ranks ? ranks->size : 1; }
static inline bool fdm_ranks_is_first(const fdm_ranks *ranks) { return fdm_ranks_rank(ranks) == 0; }

/* Items first .. end-1. */
typedef struct fdm_ranks_share {
    int64_t first, end;
} fdm_ranks_share;
/* The share of `count` items of one rank; of this one.  Shares lie in the order of the ranks and differ by one item at
 * most. */
FDM_API fdm_ranks_share fdm_ranks_share_for(const fdm_ranks *ranks, int64_t count, int rank);
FDM_API fdm_ranks_share fdm_ranks_share_of(const fdm_ranks *ranks, int64_t count);

/* Brings statuses together: FDM_OK if all are; else, on every rank, the gravest one (an error before an interruption before
 * a mismatch; of the lowest rank among equals) with that rank's message, which gets "rank N: " in front if N is not 0.
 * `flags`, NULL or the caller's bits: receives the bits of all ranks. */
FDM_API fdm_status fdm_ranks_agree(const fdm_ranks *ranks, fdm_status mine, unsigned *flags, fdm_error *err);

/* The same after work that took this rank `seconds`: it waits so much longer, so that a rank that is steadily slower, up to
 * half as fast, does not count as lost however long the work is. */
FDM_API fdm_status fdm_ranks_agree_after(const fdm_ranks *ranks, fdm_status mine, double seconds, fdm_error *err);

/* Rank 0's bytes to every rank. */
FDM_API fdm_status fdm_ranks_broadcast(const fdm_ranks *ranks, void *data, size_t bytes, fdm_error *err);

/* Every rank's share (fdm_ranks_share_of) of the array data[count] of items of item_bytes to rank 0, which then has all of
 * it; the other ranks' arrays are as large, and hold what they held or what passed through. */
FDM_API fdm_status fdm_ranks_gather(const fdm_ranks *ranks, void *data, size_t item_bytes, int64_t count, fdm_error *err);
/* The same to every rank. */
FDM_API fdm_status fdm_ranks_gather_all(const fdm_ranks *ranks, void *data, size_t item_bytes, int64_t count, fdm_error *err);

/* A number that must be the same on every rank, such as a checksum of what each has read. */
typedef struct fdm_ranks_fact {
    const char *name; /* "the number of its images": how a message names it */
    int64_t value;
} fdm_ranks_fact;
/* Whether rank 0 has these values, too; `count` and the names are the same everywhere.
 * Errors, on every rank: FDM_BAD_INPUT "<where>: not what rank 0 has: <name> is <value> instead of <value>", of the first fact
 * that differs on the lowest rank where one does; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_ranks_check_same(const fdm_ranks *ranks, const char *where, const fdm_ranks_fact *facts, int count,
                                        fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
