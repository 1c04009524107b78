/* bench_measure.c - clock, FMA peak, memory bandwidth, quartiles, memory. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "base/threads.h"
#include "cli/bench.h"
#include "simd/kernel_table.h"

double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Peak and bandwidth ---- */

/* Elements of one array: at least 64 MB, and the last-level cache as the system knows it. */
static size_t triad_elements(void) {
    const size_t floor_bytes = (size_t)64 << 20, limit_bytes = (size_t)1 << 30;
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t bytes = cache > 0 && (size_t)cache > floor_bytes ? (size_t)cache : floor_bytes;
    if (bytes > limit_bytes) bytes = limit_bytes;
    return bytes / sizeof(float) / 1024 * 1024;
}

/* Each thread's share, in whole lines of 1024 elements. */
static void share(size_t *first, size_t *count, size_t elements, int thread, int threads) {
    const size_t lines = elements / 1024, t = (size_t)thread, all = (size_t)threads;
    *first = lines * t / all * 1024;
    *count = lines * (t + 1) / all * 1024 - *first;
}

fdm_status bench_meter_init(struct bench_meter *m, fdm_error *err) {
    const int threads = m->threads;
    m->elements = triad_elements();
    const size_t bytes = 3 * m->elements * sizeof(float);
    m->a = fdm_malloc_aligned(bytes);
    if (!m->a) return fdm_fail_oom(err, "memory benchmark", bytes);
    m->b = m->a + m->elements;
    m->c = m->b + m->elements;
#pragma omp parallel num_threads(threads)
    {
        size_t first, count;
        share(&first, &count, m->elements, fdm_thread_index(), threads);
        memset(m->a + first, 0, count * sizeof(float));
        memset(m->b + first, 0, count * sizeof(float));
        memset(m->c + first, 0, count * sizeof(float));
    }
    return FDM_OK;
}

void bench_meter_free(struct bench_meter *m) {
    fdm_free_aligned(m->a);
    *m = (struct bench_meter){0};
}

double bench_triad(const struct bench_meter *m, int threads) {
    const double start = bench_now();
#pragma omp parallel num_threads(threads)
    {
        size_t first, count;
        share(&first, &count, m->elements, fdm_thread_index(), threads);
        m->kernels->add_scale(m->a + first, m->b + first, m->c + first, 0.5f, count);
    }
    return 3.0 * (double)(m->elements * sizeof(float)) / (bench_now() - start) * 1e-9;
}

/* One try: GFLOP/s. */
static double chains(const struct bench_meter *m, int threads) {
    const size_t steps = m->kernels->isa == FDM_ISA_ID_PORTABLE ? 2000 : 200000; /* some milliseconds: portable emulates FMA */
    double flops = 0;
    const double start = bench_now();
#pragma omp parallel num_threads(threads)
    {
        float x[16] = {0};
        double mine;
        m->kernels->fma_chains(&mine, x, steps);
#pragma omp atomic
        flops += mine;
    }
    return flops / (bench_now() - start) * 1e-9;
}

double bench_peak(const struct bench_meter *m, int threads) {
    double best = 0;
    for (int i = 0; i < 3; i++) {
        const double speed = chains(m, threads);
        if (speed > best) best = speed;
    }
    return best;
}

/* ---- Numbers ---- */

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, int count, double q) {
    const double at = q * (count - 1);
    const int low = (int)at, high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}

struct bench_spread bench_spread_of(double *values, int count) {
    if (count < 1) return (struct bench_spread){0};
    qsort(values, (size_t)count, sizeof *values, compare);
    return (struct bench_spread){values[0], quantile(values, count, 0.25), quantile(values, count, 0.5),
                                 quantile(values, count, 0.75), values[count - 1]};
}

/* ---- Memory ---- */

struct bench_memory bench_memory(void) {
    struct bench_memory m = {0};
    char line[128];
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmRSS:", 6) == 0) m.now = 1024 * strtod(line + 6, NULL);
        if (strncmp(line, "VmHWM:", 6) == 0) m.peak = 1024 * strtod(line + 6, NULL);
    }
    if (f) fclose(f);
    return m;
}

void bench_memory_reset(void) {
    FILE *f = fopen("/proc/self/clear_refs", "w"); /* where that is forbidden the old mark stays */
    if (!f) return;
    fputs("5\n", f);
    fclose(f);
}
