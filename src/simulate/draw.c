/* draw.c - counter-based random numbers in f64, for starts and for reverse time. */
#include <math.h>

#include "base/philox.h"
#include "simulate/internal.h"

static void block(uint32_t word[4], uint64_t seed, const uint32_t counter[4]) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    fdm_philox_block(word, counter, key);
}

/* 53 bits. */
static double unit(uint32_t high, uint32_t low) {
    return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

void fdm_draw_normals(double *z, int count, uint64_t seed, uint32_t particle, uint32_t step, uint32_t purpose) {
    for (int k = 0; k < count; k += 2) {
        uint32_t word[4];
        block(word, seed, (const uint32_t[4]){step, particle, purpose, (uint32_t)k / 2});
        const double r = sqrt(-2 * log1p(-unit(word[0], word[1]))), angle = 6.28318530717958647693 * unit(word[2], word[3]);
        z[k] = r * cos(angle);
        if (k + 1 < count) z[k + 1] = r * sin(angle);
    }
}

double fdm_draw_uniform(uint64_t seed, uint32_t particle, uint32_t purpose) {
    uint32_t word[4];
    block(word, seed, (const uint32_t[4]){0, particle, purpose, 0});
    return unit(word[0], word[1]);
}
