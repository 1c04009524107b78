/* bench_ranks.c - how long a message between ranks takes, sent and received at the same time, as the sums of gradients send it
 * (struct fdm_ranks over MPI): for bench/cluster_model.py --network FILE.
 *
 *   mpirun -n 2 bench_ranks >messages.json      ranks exchange with rank ^ 1; with an option --far with rank ^ (size / 2) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "cli/ranks_mpi.h"

enum { SMALLEST = 64, LARGEST = 4 << 20, GROUP = 8, FEWEST = 3, MOST = 51 };
static const double enough = 0.3; /* seconds for a size */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of a message, the median over groups of them: within a group a rank that starts late finds the first answer waiting and has
 * to wait for the next.  Rank 0 says how many groups. */
static fdm_status time_size(const fdm_ranks *r, int peer, char *memory, size_t bytes, double *median, fdm_error *err) {
    const fdm_exchange what = {.channel = FDM_CHANNEL_GRADIENT, .to = peer, .from = peer, .send = memory, .send_bytes = bytes,
                               .receive = memory + LARGEST, .receive_bytes = bytes};
    double times[MOST];
    int count = FEWEST;
    fdm_status status = FDM_OK;
    for (int i = 0; i < count && status == FDM_OK; i++) {
        const double start = now();
        for (int k = 0; k < GROUP && status == FDM_OK; k++) status = r->exchange(r, &what, err);
        times[i] = (now() - start) / GROUP;
        if (i > 0) continue;
        count = fdm_min_int(MOST, (int)(FEWEST + enough / times[0] / GROUP));
        if (status == FDM_OK) status = fdm_ranks_broadcast(r, &count, sizeof count, err);
    }
    qsort(times, (size_t)count, sizeof *times, by_size);
    *median = times[count / 2];
    return status;
}

static fdm_status measure(const fdm_ranks *r, bool far, fdm_error *err) {
    const int peer = far ? r->rank ^ (r->size / 2) : r->rank ^ 1;
    char *memory = calloc(2, LARGEST);
    fdm_status status = FDM_OK;
    if (r->size < 2 || (r->size & (r->size - 1))) status = fdm_fail(err, FDM_BAD_USAGE, "%d ranks; a power of two, 2 at least", r->size);
    else if (!memory) status = fdm_fail_oom(err, "messages", 2 * (size_t)LARGEST);
    status = fdm_ranks_agree(r, status, NULL, err);
    if (status == FDM_OK && r->rank == 0) printf("{\"ranks\": %d, \"messages\": [", r->size);
    for (size_t bytes = SMALLEST; bytes <= LARGEST && status == FDM_OK; bytes *= 2) {
        double median;
        status = time_size(r, peer, memory, bytes, &median, err);
        if (status == FDM_OK && r->rank == 0) printf("%s[%zu, %.9f]", bytes > SMALLEST ? ", " : "", bytes, median);
    }
    if (status == FDM_OK && r->rank == 0) puts("]}");
    free(memory);
    return status;
}

int main(int argc, char **argv) {
    struct fdm_world world = FDM_WORLD_ALONE;
    fdm_error err = {0};
    fdm_status status = fdm_world_join(&world, &err);
    if (status == FDM_OK) status = measure(&world.ranks, argc > 1 && strcmp(argv[1], "--far") == 0, &err);
    if (status != FDM_OK && !world.silent) fprintf(stderr, "bench_ranks: %s\n", err.message);
    fdm_world_leave(&world, status);
    return (int)status;
}
