/* optimizer.c - see optimizer.h; the arithmetic is simd/adam.c. */
#include "train/optimizer.h"

#include <math.h>

#include "simd/kernel_table.h"

static struct fdm_adam_step step_numbers(const struct fdm_adam_options *o, int64_t step, double ema_decay) {
    const double correction1 = 1 - pow(o->beta1, (double)step), correction2 = 1 - pow(o->beta2, (double)step);
    return (struct fdm_adam_step){.beta1 = (float)o->beta1,
                                  .one_minus_beta1 = (float)(1 - o->beta1),
                                  .beta2 = (float)o->beta2,
                                  .one_minus_beta2 = (float)(1 - o->beta2),
                                  .eps = (float)o->eps,
                                  .root_correction2 = (float)sqrt(correction2),
                                  .minus_rate = (float)-(o->lr / correction1),
                                  .decay = (float)ema_decay};
}

size_t fdm_adam_update(const struct fdm_kernels *kernels, int threads, const struct fdm_adam_arrays *arrays,
                       const struct fdm_adam_options *options, int64_t step, double ema_decay) {
    enum { CHUNK = 1 << 14 }; /* elements: a unit of work */
    const struct fdm_adam_step numbers = step_numbers(options, step, ema_decay);
    const struct fdm_adam_arrays a = *arrays;
    const size_t chunks = a.count / CHUNK + (a.count % CHUNK != 0);
    size_t cleaned = 0; /* an integer: the order of its sum does not matter */
#pragma omp parallel for num_threads(threads) schedule(static) /* an atomic count: clang's reductions add a global */
    for (size_t i = 0; i < chunks; i++) {
        const size_t at = i * CHUNK, n = a.count - at < CHUNK ? a.count - at : CHUNK;
        size_t here;
        kernels->adam(a.param + at, a.m + at, a.v + at, a.ema + at, a.grad + at, &numbers, &here, n);
        if (here) {
#pragma omp atomic
            cleaned += here;
        }
    }
    return cleaned;
}
