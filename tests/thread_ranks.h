/* thread_ranks.h - test helper: ranks that are threads of this process, for tests without MPI. */
#ifndef FDM_TEST_THREAD_RANKS_H
#define FDM_TEST_THREAD_RANKS_H

#include "fdm/ranks.h"

enum { MAX_THREAD_RANKS = 8 };

/* What a rank does; `user` is the same for all. */
typedef void (*rank_main)(const fdm_ranks *ranks, void *user);

/* Runs `size` ranks to their ends.  timeout as in struct fdm_ranks. */
void run_thread_ranks(int size, double timeout, rank_main main, void *user);

#endif
