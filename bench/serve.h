/* serve.h - the C side of contenders.py: `ready NAME`, then for each line `run` the seconds of one run. */
#ifndef FDM_BENCH_SERVE_H
#define FDM_BENCH_SERVE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline double serve_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Calls run(context) for at least 10 ms, as `fdm bench` does with single layers, and gives the mean. */
static inline void serve(const char *name, void (*run)(void *), void *context) {
    char line[64];
    run(context);
    printf("ready %s\n", name);
    while (fflush(stdout) == 0 && fgets(line, sizeof line, stdin) && strcmp(line, "run\n") == 0) {
        const double start = serve_now();
        double seconds;
        int calls = 0;
        do {
            run(context);
            calls++;
            seconds = serve_now() - start;
        } while (seconds < 0.01);
        printf("%.9f\n", seconds / calls);
    }
}

/* Aligned floats of moderate size. */
static inline float *serve_floats(size_t count) {
    float *p = aligned_alloc(64, (count * sizeof *p + 63) / 64 * 64);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(4);
    }
    for (size_t i = 0; i < count; i++) p[i] = (float)(i % 251) * 0.01f - 1.2f;
    return p;
}

#endif
