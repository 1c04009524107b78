/* mt19937.c - the Mersenne Twister, 32-bit (Matsumoto and Nishimura, ACM TOMACS 8(1), 1998). */
#include "fdm/random.h"

enum { MT_N = 624, MT_M = 397 };

void fdm_mt19937_seed(fdm_mt19937 *mt, uint32_t seed) {
    uint32_t word = seed;
    for (int i = 0; i < MT_N; i++) {
        mt->state[i] = word;
        word = 1812433253u * (word ^ (word >> 30)) + (uint32_t)i + 1;
    }
    mt->next = MT_N;
}

/* The recurrence x[k+n] = x[k+m] xor (upper bit of x[k] | lower 31 bits of x[k+1]) A, for all n words. */
static void refill(fdm_mt19937 *mt) {
    uint32_t *x = mt->state;
    for (int k = 0; k < MT_N; k++) {
        uint32_t joined = (x[k] & 0x80000000u) | (x[(k + 1) % MT_N] & 0x7fffffffu);
        x[k] = x[(k + MT_M) % MT_N] ^ (joined >> 1) ^ (joined & 1 ? 0x9908b0dfu : 0);
    }
    mt->next = 0;
}

uint32_t fdm_mt19937_next(fdm_mt19937 *mt) {
    if (mt->next >= MT_N) refill(mt);
    uint32_t y = mt->state[mt->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}
