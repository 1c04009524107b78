/* normal.h - standard normal numbers in 16 lanes, counter-based: lane i's depend on its counter and the key alone.
 *
 * Box and Muller on the words of a Philox block: u = (word/2 + 1/2) 2^-31 in (0, 1], so |n| <= 6.7. */
#ifndef FDM_SIMD_NORMAL_H
#define FDM_SIMD_NORMAL_H

#include "simd/philox.h"
#include "simd/vmath.h"

V16_FN void v16_box_muller(v16 *a, v16 *b, v16i radius, v16i angle) {
    const v16 half = v16i_to_float(v16i_srl(radius, 1));
    const v16 u = v16_fma(half, v16_set1(0x1p-31f), v16_set1(0x1p-32f));
    const v16 r = v16_sqrt(v16_mul(v16_set1(-2.0f), v16_log(u)));
    const struct v16_sincos d = v16_sincos_turn(angle);
    *a = v16_mul(r, d.cos);
    *b = v16_mul(r, d.sin);
}

/* Four normals of every lane's counter {block, c1, 0, 0}. */
V16_FN void v16_normals(v16 z[4], const struct v16_philox *p, uint32_t block) {
    v16i word[4];
    v16_philox(word, p, block);
    v16_box_muller(&z[0], &z[1], word[0], word[1]);
    v16_box_muller(&z[2], &z[3], word[2], word[3]);
}

#endif
