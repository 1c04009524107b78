/* philox.h - Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC11) in 16 lanes: the generator of dropout masks.
 *
 * Lane i is fdm_philox4x32_10 (fdm/random.h) of counter {c0, c1[i], 0, 0} with one key for all lanes.
 *
 * c0 is the same in every lane and the last two words are zero, so of the first three rounds' six products only one
 * depends on both c0 and the lane.  Those that depend on the key and c1 alone are made once for many c0
 * (v16_philox_start), those of c0 alone are plain integers.
 */
#ifndef FDM_SIMD_PHILOX_H
#define FDM_SIMD_PHILOX_H

#include "simd/v16.h"

#define V16_PHILOX_M0 0xD2511F53u
#define V16_PHILOX_M1 0xCD9E8D57u

struct v16_philox {
    uint32_t key0[10], key1[10]; /* of every round */
    v16i_wide second;            /* M0 (c1 ^ key0[0]): a product of the second round */
};

V16_FN v16i v16_set1_word(uint32_t x) {
    int32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return v16i_set1(bits);
}

V16_FN struct v16_philox v16_philox_start(const uint32_t key[2], v16i c1) {
    struct v16_philox p;
    for (uint32_t round = 0; round < 10; round++) { /* Weyl sequences */
        p.key0[round] = key[0] + round * 0x9E3779B9u;
        p.key1[round] = key[1] + round * 0xBB67AE85u;
    }
    p.second = v16i_mul_wide(v16_set1_word(V16_PHILOX_M0), v16i_xor(c1, v16_set1_word(key[0])));
    return p;
}

V16_FN void v16_philox(v16i word[4], const struct v16_philox *p, uint32_t c0) {
    /* round 0: words 0 and 1 become c1 ^ key0 and 0, words 2 and 3 numbers */
    const uint64_t first = (uint64_t)V16_PHILOX_M0 * c0;
    const uint32_t two = (uint32_t)(first >> 32) ^ p->key1[0], three = (uint32_t)first;
    /* round 1 */
    const uint64_t third = (uint64_t)V16_PHILOX_M1 * two;
    const uint32_t zero = (uint32_t)(third >> 32) ^ p->key0[1], one = (uint32_t)third;
    v16i w2 = v16i_xor(p->second.high, v16_set1_word(three ^ p->key1[1])), w3 = p->second.low;
    /* round 2 */
    const uint64_t fourth = (uint64_t)V16_PHILOX_M0 * zero;
    const v16i_wide last = v16i_mul_wide(v16_set1_word(V16_PHILOX_M1), w2);
    v16i w0 = v16i_xor(last.high, v16_set1_word(one ^ p->key0[2])), w1 = last.low;
    w2 = v16i_xor(w3, v16_set1_word((uint32_t)(fourth >> 32) ^ p->key1[2]));
    w3 = v16_set1_word((uint32_t)fourth);
    for (int round = 3; round < 10; round++) {
        const v16i_wide p0 = v16i_mul_wide(v16_set1_word(V16_PHILOX_M0), w0);
        const v16i_wide p1 = v16i_mul_wide(v16_set1_word(V16_PHILOX_M1), w2);
        w0 = v16i_xor(v16i_xor(p1.high, w1), v16_set1_word(p->key0[round]));
        w1 = p1.low;
        w2 = v16i_xor(v16i_xor(p0.high, w3), v16_set1_word(p->key1[round]));
        w3 = p0.low;
    }
    word[0] = w0, word[1] = w1, word[2] = w2, word[3] = w3;
}

#endif
