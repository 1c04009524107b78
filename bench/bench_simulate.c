/* bench_simulate.c - particle steps per second of the simulators, beside what the core could do.
 *
 *   bench_simulate [--isa X] [--threads N] [--rounds N]
 *
 * The roof: the machine's measured rate of FMAs (fma_chains, in the same round) divided by the vector operations of a
 * particle step, as counted in simd/philox.h, normal.h, vmath.h and particles.c: an operation of any kind is taken to cost
 * what an FMA costs.  Memory is no limit: a particle moves once in and out, 16 bytes for all its steps. */
#include "fdm/simulate.h"
#include "memory.h"
#include "simd/kernel_table.h"

enum { PARTICLES = 1 << 14, STEPS = 512 };
/* For 16 lanes: a Philox block 136, from it two pairs of normals 73 each; one step 8 (one normal) or 9 (two). */
static const double block_ops = 136 + 2 * 73, single_ops = 8, pair_ops = 9;

struct row {
    fdm_scheme scheme;
    const char *what;
};

/* Vector operations of 16 lanes per second, all threads. */
static double operations_per_second(const struct bench_options *o) {
    const struct fdm_kernels *kernels = fdm_kernels_for(o->isa);
    const double start = bench_seconds(o->threads);
    double total = 0;
#pragma omp parallel for num_threads(o->threads) reduction(+ : total)
    for (int t = 0; t < o->threads; t++) {
        double flops = 0;
        float x[16] = {0};
        kernels->fma_chains(&flops, x, 1 << 22);
        total += flops;
    }
    return total / 32 / (bench_seconds(o->threads) - start);
}

static void measure(const struct bench_options *o, const struct row *row, float *x, float *v) {
    static double rate[BENCH_MAX_ROUNDS], share[BENCH_MAX_ROUNDS];
    static double tau[STEPS + 1];
    static fdm_step steps[STEPS];
    const bool pairs = row->scheme == FDM_SCHEME_EXACT;
    const double ops = pairs ? block_ops / 2 + pair_ops : block_ops / 4 + single_ops;
    for (int k = 0; k <= STEPS; k++) tau[k] = 4.0 * k / STEPS;
    fdm_error err = {0};
    fdm_status status = fdm_scheme_steps(steps, tau, STEPS, row->scheme, 1, 2, &err);
    const fdm_simulation run = {.steps = steps, .count = STEPS, .seed = 1, .threads = o->threads, .isa = fdm_isa_name(o->isa)};
    for (int r = 0; r < o->rounds && status == FDM_OK; r++) {
        const double peak = operations_per_second(o), start = bench_seconds(o->threads);
        status = fdm_simulate(x, v, PARTICLES, &run, &err);
        rate[r] = (double)PARTICLES * STEPS / (bench_seconds(o->threads) - start);
        share[r] = rate[r] / (16 * peak / ops);
    }
    if (status != FDM_OK) fprintf(stderr, "%s\n", err.message), exit(status);
    const double median = bench_median(rate, o->rounds);
    printf("%-22s %8.2f million particle steps/s a thread   %4.2f of the roof (%.0f operations a step)\n", row->what,
           median * 1e-6 / o->threads, bench_median(share, o->rounds), ops);
}

int main(int argc, char **argv) {
    const struct bench_options o = bench_options_of(argc, argv);
    static const struct row rows[] = {{FDM_SCHEME_EULER, "Euler-Maruyama"}, {FDM_SCHEME_SPLIT, "symmetric splitting"},
                                      {FDM_SCHEME_EXACT, "exact transition"}};
    float *x = bench_fill(PARTICLES * sizeof(float), 0), *v = bench_fill(PARTICLES * sizeof(float), 1);
    for (size_t i = 0; i < FDM_ARRAY_LEN(rows); i++) measure(&o, &rows[i], x, v);
    fdm_free_aligned(x);
    fdm_free_aligned(v);
    return 0;
}
