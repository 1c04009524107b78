/* bench_optimizer.c - Adam with clean-up and averaging (one pass, 9 x 4 bytes an element) on 16 M parameters, against the
 * memory triad.
 *
 *   bench_optimizer [--isa X] [--threads N] [--rounds N] */
#include "memory.h"
#include "train/optimizer.h"

struct work {
    const struct fdm_kernels *kernels;
    int threads;
    struct fdm_adam_arrays arrays;
    int64_t step;
};

static void update(void *context) {
    struct work *w = context;
    const struct fdm_adam_options options = {1e-3, 0.9, 0.999, 1e-8};
    fdm_adam_update(w->kernels, w->threads, &w->arrays, &options, ++w->step, 0.9995);
}

int main(int argc, char **argv) {
    const struct bench_options o = bench_options_of(argc, argv);
    const size_t count = (size_t)1 << 24;
    float *p[5];
    for (int j = 0; j < 5; j++) p[j] = bench_fill(count * sizeof(float), j == 2);
    struct work w = {fdm_kernels_for(o.isa), o.threads, {p[0], p[1], p[2], p[3], p[4], count}, 0};
    bench_against_triad(&o, "adam, 16.8 M parameters", 9.0 * (double)(count * sizeof(float)), update, &w);
    for (int j = 0; j < 5; j++) fdm_free_aligned(p[j]);
    return 0;
}
