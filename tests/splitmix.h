/* splitmix.h - test helper: random numbers that are the same everywhere. */
#ifndef FDM_TESTS_SPLITMIX_H
#define FDM_TESTS_SPLITMIX_H

#include <stdint.h>

/* SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the next 64 bits. */
static inline uint64_t splitmix_next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [-1, 1), with 24 bits, which f32 holds. */
static inline double splitmix_uniform(uint64_t *state) { return (double)(splitmix_next(state) >> 40) * 0x1p-23 - 1; }

#endif
