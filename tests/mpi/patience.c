/* patience.c - two ranks over MPI of which the second is late, and at last silent (tests/test_mpi.sh): for how long rank 0
 * waits for it once it is asked to stop.  Ends with exit code 4 if that is as cli/ranks_mpi.h says. */
#include <stdio.h>
#include <time.h>

#include "cli/ranks_mpi.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double asked_from; /* a function that is asked without an argument has no other way to know */
static bool asked(void *unused) {
    (void)unused;
    return now() > asked_from;
}

/* Rank 1 answers after so many seconds, rank 0 is asked to stop after so many. */
static fdm_status answer_after(const fdm_ranks *r, double late, double asked_after, fdm_error *err) {
    const double begun = now();
    char byte = 0;
    const fdm_exchange what = {.channel = FDM_CHANNEL_WORK, .to = 1 - r->rank, .from = 1 - r->rank, .send = &byte,
                               .send_bytes = 1, .receive = &byte, .receive_bytes = 1};
    asked_from = begun + asked_after;
    while (r->rank && now() < begun + late) {
        const struct timespec t = {.tv_nsec = 1000000};
        (void)nanosleep(&t, NULL);
    }
    return r->exchange(r, &what, err);
}

int main(void) {
    struct fdm_world world = FDM_WORLD_ALONE;
    const char *failed = NULL;
    fdm_error err = {0};
    world.asked = asked;
    if (fdm_world_join(&world, &err) != FDM_OK || world.ranks.size != 2) return 1;
    const fdm_ranks *r = &world.ranks;
    fdm_world_set_patience(&world, 60, 0);
    if (answer_after(r, 0.4, 0, &err) != FDM_OK) failed = "without hurry: lost";
    fdm_world_set_patience(&world, 60, 0.1);
    if (!failed && answer_after(r, 0.7, 60, &err) != FDM_OK) failed = "not asked: lost";
    if (!failed && answer_after(r, 1.75, 0.7, &err) != FDM_OK) failed = "late, but not twice as late as before: lost";
    if (!failed && r->rank == 0 && answer_after(r, 0, 0, &err) == FDM_OK) failed = "silent: answers";
    if (!failed && r->rank == 0 && (!world.broken || world.lost_rank != 1)) failed = "silent: not known as lost";
    if (r->rank == 0) printf("%s\n", failed ? failed : err.message);
    (void)fflush(stdout);
    while (r->rank) { /* silent; rank 0 ends it */
        const struct timespec t = {.tv_sec = 1};
        (void)nanosleep(&t, NULL);
    }
    fdm_world_leave(&world, failed ? FDM_MISMATCH : FDM_NO_RESOURCE);
    return failed ? 1 : 4;
}
