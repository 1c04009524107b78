/* bench_mpi.c - a gradient summed over ranks along the tree (src/train/rank_tree.c, one message after the other, nothing
 * hidden) against MPI_Allreduce of the same floats, from 1 kB to the 223 MB of the CIFAR-10 network.
 *
 *   mpirun -n 4 bench_mpi [ROUNDS [FLOATS]]      FLOATS: of that many numbers alone, such as a network has parameters
 *
 * Both in turn; medians over rounds of the slowest rank's time, and of the ratio within a round.  Last column: whether
 * MPI_Allreduce gave the bits of the tree.  Markdown on stdout. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/ranks_mpi.h"
#include "train/rank_tree.h"

enum { MOST_ROUNDS = 1001 };

static void add_floats(void *user, void *left, const void *right, size_t count) {
    float *restrict to = left;
    const float *restrict from = right;
    (void)user;
    for (size_t i = 0; i < count; i++) to[i] += from[i];
}

/* Gradient-like numbers: signs, seven decades. */
static void fill(float *values, size_t count, int rank) {
    uint32_t state = 12345u + 977u * (uint32_t)rank;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = ((float)(state >> 9) - 4194304.0f) * 1e-9f / (float)(1u << (state & 15));
    }
}

struct job {
    struct fdm_rank_tree tree;
    float *values;
    size_t count;
};

static void by_tree(const struct job *j) {
    fdm_error err;
    if (fdm_rank_tree_sum(&j->tree, j->values, j->count, &err) == FDM_OK) return;
    fprintf(stderr, "bench_mpi: %s\n", err.message);
    MPI_Abort(MPI_COMM_WORLD, FDM_NO_RESOURCE);
}
static void by_allreduce(const struct job *j) {
    MPI_Allreduce(MPI_IN_PLACE, j->values, (int)j->count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

/* Seconds of the slowest rank. */
static double timed(void (*sum)(const struct job *), const struct job *j) {
    double mine, slowest;
    fill(j->values, j->count, j->tree.ranks->rank);
    MPI_Barrier(MPI_COMM_WORLD);
    const double begun = fdm_now();
    sum(j);
    mine = fdm_now() - begun;
    MPI_Allreduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return slowest;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[count / 2];
}

static void compare(const struct job *j, float *kept, int rounds) {
    static double tree[MOST_ROUNDS], allreduce[MOST_ROUNDS], ratio[MOST_ROUNDS];
    int same, everywhere;
    for (int i = -1; i < rounds; i++) { /* the first one touches memory and makes connections */
        const double a = timed(by_tree, j);
        memcpy(kept, j->values, j->count * sizeof *kept);
        const double b = timed(by_allreduce, j);
        if (i >= 0) tree[i] = a, allreduce[i] = b, ratio[i] = a / b;
    }
    same = memcmp(kept, j->values, j->count * sizeof *kept) == 0;
    MPI_Allreduce(&same, &everywhere, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (j->tree.ranks->rank) return;
    printf("| %.4g kB | %.3f | %.3f | %.2f | %s |\n", (double)j->count * 4 / 1000, 1e3 * median(tree, rounds),
           1e3 * median(allreduce, rounds), median(ratio, rounds), everywhere ? "yes" : "no");
    (void)fflush(stdout);
}

int main(int argc, char **argv) {
    static const size_t usual[] = {250, 2500, 25000, 250000, 1048576, 2500000, 25000000, 55700000};
    struct fdm_world world = FDM_WORLD_ALONE;
    fdm_error err;
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 21;
    const size_t own = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 0, *counts = own ? &own : usual;
    const size_t sizes = own ? 1 : FDM_ARRAY_LEN(usual);
    if (rounds < 1 || rounds > MOST_ROUNDS) rounds = 21;
    if (fdm_world_join(&world, &err) != FDM_OK || !fdm_is_power_of_two(world.ranks.size) || world.ranks.size < 2) {
        fprintf(stderr, "bench_mpi: start it by mpirun -n 2, 4, 8, ...\n");
        return FDM_BAD_USAGE;
    }
    const size_t most = counts[sizes - 1];
    float *values = fdm_malloc_aligned(most * sizeof *values), *kept = fdm_malloc_aligned(most * sizeof *kept);
    float *scratch = fdm_malloc_aligned(fdm_rank_tree_scratch(most) * sizeof *scratch);
    if (!values || !kept || !scratch) MPI_Abort(MPI_COMM_WORLD, FDM_NO_RESOURCE);
    if (!world.ranks.rank) {
        char library[FDM_WORLD_LIBRARY];
        fdm_world_library(library);
        printf("%s, %d ranks, medians of %d rounds\n\n| message | tree, ms | MPI_Allreduce, ms | ratio | the same bits |\n"
               "|---|---|---|---|---|\n", library, world.ranks.size, rounds);
    }
    for (size_t i = 0; i < sizes; i++) {
        const struct job j = {{&world.ranks, sizeof(float), add_floats, NULL, scratch}, values, counts[i]};
        compare(&j, kept, counts[i] > 10000000 && rounds > 7 ? 7 : rounds);
    }
    if (!world.ranks.rank) putchar('\n');
    fdm_free_aligned(values);
    fdm_free_aligned(kept);
    fdm_free_aligned(scratch);
    fdm_world_leave(&world, FDM_OK);
    return 0;
}
