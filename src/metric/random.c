/* random.c - the random choices of the measures, every number a function of seed, purpose and place; fingerprints. */
#include "base/philox.h"
#include "metric/statistics.h"

uint64_t fdm_metric_random(uint64_t seed, enum fdm_metric_stream stream, uint32_t draw, uint64_t index, uint64_t bound) {
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), draw, (uint32_t)stream};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t word[4];
    fdm_philox_block(word, counter, key);
    /* floor(u bound) of a uniform u with 64 bits, the product in two halves: bound has at most 33 bits */
    const uint64_t low = (uint64_t)word[0] * bound >> 32;
    return ((uint64_t)word[1] * bound + low) >> 32;
}

void fdm_metric_shuffle(int64_t *order, int64_t n, uint64_t seed, enum fdm_metric_stream stream, uint32_t draw) {
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) { /* Fisher and Yates */
        const int64_t j = (int64_t)fdm_metric_random(seed, stream, draw, (uint64_t)i, (uint64_t)i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

uint64_t fdm_fingerprint(const void *bytes, size_t count) {
    const unsigned char *p = bytes;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}
