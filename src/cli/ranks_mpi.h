/* ranks_mpi.h - the ranks that mpirun or srun started this process among; internal to the command. */
#ifndef FDM_CLI_RANKS_MPI_H
#define FDM_CLI_RANKS_MPI_H

#include <pthread.h>

#include "fdm/ranks.h"

struct fdm_world {
    fdm_ranks ranks;      /* alone: rank 0 of 1, exchange NULL */
    pthread_mutex_t lock; /* of every call into MPI, and of what follows */
    double hurry;         /* seconds that an exchange of rank 0 may wait once it is asked to stop; 0: as long as before */
    bool begun;           /* MPI_Init was called */
    bool broken;          /* a rank did not answer: nothing can be agreed on any more */
    fdm_error lost;       /* why */
    bool silent;          /* another rank says what is to be said */
};

/* Joins the ranks, where a launcher has set the environment for it; elsewhere costs nothing and is alone.  Initialise *world
 * with FDM_WORLD_ALONE.  Errors: FDM_BAD_USAGE (started as one of several by a launcher that this program does not
 * understand), FDM_NO_RESOURCE. */
#define FDM_WORLD_ALONE {.ranks = {.size = 1}, .lock = PTHREAD_MUTEX_INITIALIZER}
fdm_status fdm_world_join(struct fdm_world *world, fdm_error *err);
/* Leaves them when all are done; ends them all with the exit code `status` if the world is broken. */
void fdm_world_leave(struct fdm_world *world, fdm_status status);

/* Whose ranks they are. */
static inline struct fdm_world *fdm_world_of(const fdm_ranks *ranks) { return ranks->user; }

/* "Open MPI v4.1.4" or the like; "none" in a build without MPI. */
enum { FDM_WORLD_LIBRARY = 64 };
void fdm_world_library(char out[FDM_WORLD_LIBRARY]);

#endif
