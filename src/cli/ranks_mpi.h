/* ranks_mpi.h - the ranks that mpirun or srun started this process among; internal to the command. */
#ifndef FDM_CLI_RANKS_MPI_H
#define FDM_CLI_RANKS_MPI_H

#include <pthread.h>

#include "fdm/ranks.h"

struct fdm_world {
    fdm_ranks ranks;      /* alone: rank 0 of 1, exchange NULL */
    pthread_mutex_t lock; /* of every call into MPI, and of what follows */
    bool (*asked)(void *); /* an fdm_stop_fn: whether this process is asked to stop; NULL: it never is */
    double hurry;         /* see fdm_world_set_patience */
    double longest;       /* seconds that an exchange has taken so far while there was a hurry */
    bool begun;           /* MPI_Init was called */
    bool broken;          /* a rank did not answer: nothing can be agreed on any more */
    int lost_rank;        /* which */
    fdm_error lost;       /* why */
    bool silent;          /* another rank says what is to be said */
};

/* How many processes a launcher says it has started, 1 where there is none, by the environment alone; sets world->silent on all
 * but the first. */
int fdm_world_launched(struct fdm_world *world);
/* Joins the ranks, where a launcher has set the environment for it; elsewhere costs nothing and is alone.  Initialise *world
 * with FDM_WORLD_ALONE.  Errors: FDM_BAD_USAGE (started as one of several by a launcher that this program does not
 * understand), FDM_NO_RESOURCE. */
#define FDM_WORLD_ALONE {.ranks = {.size = 1}, .lock = PTHREAD_MUTEX_INITIALIZER}
fdm_status fdm_world_join(struct fdm_world *world, fdm_error *err);
/* How long these ranks wait for each other from now on: `timeout` seconds (0: for ever).  hurry > 0 is for work that ranks do in
 * step and that rank 0 can save without them: once rank 0 is asked to stop it waits for `hurry` seconds only, or twice as long as
 * any exchange of such work has taken so far, from when it sees the wish.  (Who asks, such as a scheduler that has noticed a lost
 * node, kills soon after.)  No exchange may be under way. */
void fdm_world_set_patience(struct fdm_world *world, double timeout, double hurry);
/* On a rank of a broken world that is not the first: gives rank 0 two minutes to notice, to save and to end them all, unless it
 * is rank 0 that does not answer and that has not said why.  Returns when that has not happened. */
void fdm_world_await_first(struct fdm_world *world);
/* Leaves them when all are done; ends them all with the exit code `status` if the world is broken. */
void fdm_world_leave(struct fdm_world *world, fdm_status status);

/* "Open MPI v4.1.4" or the like; "none" in a build without MPI. */
enum { FDM_WORLD_LIBRARY = 64 };
void fdm_world_library(char out[FDM_WORLD_LIBRARY]);

#endif
