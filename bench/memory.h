/* memory.h - for benchmarks of what memory limits: the triad a = b + s c (3 arrays, beyond the caches) to compare with,
 * and what every such benchmark needs. */
#ifndef FDM_BENCH_MEMORY_H
#define FDM_BENCH_MEMORY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "simd/kernels.h"

enum { BENCH_MAX_ROUNDS = 1000 };
static const size_t bench_triad_elements = (size_t)1 << 24;

/* With one thread its CPU time, which leaves out the slices that a busy machine gives to others. */
static inline double bench_seconds(int threads) {
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline float *bench_fill(size_t bytes, int zero) {
    float *p = fdm_malloc_aligned(bytes);
    if (!p) exit(FDM_NO_RESOURCE);
    for (size_t i = 0; i < bytes / sizeof(float); i++) p[i] = zero ? 0 : (float)(i % 251) * 0.01f - 1.2f;
    return p;
}

/* GB/s of the triad, counted as three passes. */
static inline double bench_triad(int threads) {
    static float *a;
    const size_t n = bench_triad_elements;
    if (!a) a = bench_fill(3 * n * sizeof *a, 0);
    float *b = a + n, *c = b + n;
    const double start = bench_seconds(threads);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) a[i] = b[i] + 0.5f * c[i];
    return 3.0 * (double)(n * sizeof *a) / (bench_seconds(threads) - start) * 1e-9;
}

static inline int bench_compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static inline double bench_median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, bench_compare);
    return values[count / 2];
}

/* The value of an option, or its default. */
static inline const char *bench_option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

struct bench_options {
    int threads, rounds;
    enum fdm_isa isa;
};

/* --isa X --threads N --rounds N */
static inline struct bench_options bench_options_of(int argc, char **argv) {
    struct bench_options o = {.threads = atoi(bench_option(argc, argv, "--threads", "2"))};
    fdm_error err = {0};
    const fdm_status status = fdm_isa_choose(bench_option(argc, argv, "--isa", NULL), &o.isa, &err);
    if (status != FDM_OK) fprintf(stderr, "%s\n", err.message), exit(status);
    o.rounds = atoi(bench_option(argc, argv, "--rounds", "15"));
    o.rounds = o.rounds < 1 ? 1 : o.rounds > BENCH_MAX_ROUNDS ? BENCH_MAX_ROUNDS : o.rounds;
    if (o.threads < 1) o.threads = 1;
    printf("isa %s, %d threads, %d rounds\n", fdm_isa_name(o.isa), o.threads, o.rounds);
    return o;
}

/* One call of run(context) per round beside a triad; prints the median time, its bandwidth for the `bytes` that must
 * move, and the median over rounds of that over the triad's. */
static inline void bench_against_triad(const struct bench_options *o, const char *name, double bytes,
                                       void (*run)(void *), void *context) {
    static double ms[BENCH_MAX_ROUNDS], speed[BENCH_MAX_ROUNDS], ratio[BENCH_MAX_ROUNDS];
    run(context);
    for (int r = 0; r < o->rounds; r++) {
        const double triad = bench_triad(o->threads), start = bench_seconds(o->threads);
        run(context);
        ms[r] = 1e3 * (bench_seconds(o->threads) - start);
        speed[r] = bytes / ms[r] * 1e-6;
        ratio[r] = speed[r] / triad;
    }
    printf("%-44s %8.2f ms %7.1f GB/s   %4.2f of the triad\n", name, bench_median(ms, o->rounds),
           bench_median(speed, o->rounds), bench_median(ratio, o->rounds));
}

#endif
