/* vmath.h - elementary functions on v16, our own, so that every ISA returns the same bits.
 *
 * Written over the correctly rounded operations of v16.h only.  Errors are in units in the last place (ULP) of the
 * f32 result against f64 libm, the worst over all 2^32 arguments (tests/test_vmath.c, FDM_TEST_EXHAUSTIVE=1);
 * subnormal arguments and results are included, one ULP of a subnormal being 2^-149.
 *
 *   function  measured  promised   special values (NaN -> NaN everywhere)
 *   exp       1.013      1.5        +inf -> +inf, -inf -> 0; overflow -> +inf, underflow -> subnormals, then 0
 *   log       0.790      1.5        +-0 -> -inf, x < 0 -> NaN, +inf -> +inf
 *   sin       1.279      1.5        +-0 -> +-0, +-inf -> NaN; every finite argument is reduced accurately
 *   cos       1.283      1.5        +-inf -> NaN
 *   sigmoid   2.402      3.0        -inf -> 0, +inf -> 1
 *   tanh      1.333      2.0        +-0 -> +-0, +-inf -> +-1
 *   silu      3.394      3.5        +-0 -> +-0, -inf -> -0 (the limit), +inf -> +inf
 *   silu_gradient: at the function
 *
 * Polynomials: least maximum error, fitted for this file (Lawson's iteration on Chebyshev nodes), coefficients
 * rounded to f32 one after the other, the rest refitted.  Their own error is below 0.1 ULP (log, tanh) or 0.07
 * (others).
 */
#ifndef FDM_SIMD_VMATH_H
#define FDM_SIMD_VMATH_H

#include "simd/v16.h"

/* --- exp: x = n ln2 + r, |r| <= ln2/2;  e^x = e^r 2^n ------------------------------------------------------- */

/* e^x = p * s1 * s2, with s1 s2 = 2^n in two factors that are normal numbers even if 2^n is not. */
struct v16_exp_parts {
    v16 p, s1, s2;
};

/* |x| <= 105, or NaN. */
V16_FN struct v16_exp_parts v16_exp_split(v16 x) {
    /* Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum. */
    const v16 magic = v16_set1(0x1.8p23f);
    const v16 t = v16_fma(x, v16_set1(0x1.715476p+0f), magic);
    const v16i n = v16i_sub(v16_as_int(t), v16_as_int(magic));
    const v16 nf = v16_sub(t, magic);
    v16 r = v16_fnma(nf, v16_set1(0x1.62e43p-1f), x); /* exact: a multiple of 2^-24 below 1/2 */
    r = v16_fnma(nf, v16_set1(-0x1.05c61p-29f), r);
    v16 q = v16_set1(0x1.6a4d6p-10f);
    q = v16_fma(q, r, v16_set1(0x1.12398ep-7f));
    q = v16_fma(q, r, v16_set1(0x1.5558bp-5f));
    q = v16_fma(q, r, v16_set1(0x1.555492p-3f));
    q = v16_fma(q, r, v16_set1(0x1.fffffcp-2f));
    const v16 p = v16_add(v16_fma(v16_mul(r, r), q, r), v16_set1(1.0f));
    const v16i half = v16i_sra(n, 1), bias = v16i_set1(127);
    const v16i e1 = v16i_sll(v16i_add(half, bias), 23);
    const v16i e2 = v16i_sll(v16i_add(v16i_sub(n, half), bias), 23);
    return (struct v16_exp_parts){p, v16i_as_float(e1), v16i_as_float(e2)};
}

V16_FN v16 v16_exp(v16 x) {
    /* Beyond these bounds the result is 0 or inf; the argument order of min and max lets a NaN through. */
    x = v16_max(v16_set1(-104.0f), v16_min(v16_set1(89.0f), x));
    const struct v16_exp_parts e = v16_exp_split(x);
    return v16_mul(v16_mul(e.p, e.s1), e.s2);
}

/* --- log: x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2) ----------------------------------------------------- */

V16_FN v16 v16_log(v16 x) {
    const v16 zero = v16_zero(), tiny = v16_set1(0x1p-126f);
    const v16i sqrt_half = v16i_set1(0x3f3504f3);
    const v16m subnormal = v16_lt(x, tiny);
    const v16 scaled = v16_select(subnormal, v16_mul(x, v16_set1(0x1p23f)), x);
    const v16i i = v16i_sub(v16_as_int(scaled), sqrt_half);
    v16 k = v16i_to_float(v16i_sra(i, 23));
    k = v16_sub(k, v16_select(subnormal, v16_set1(23.0f), zero));
    const v16 m = v16i_as_float(v16i_add(v16i_and(i, v16i_set1(0x007fffff)), sqrt_half));
    const v16 f = v16_sub(m, v16_set1(1.0f)); /* exact */
    v16 q = v16_set1(-0x1.38d512p-4f);
    q = v16_fma(q, f, v16_set1(0x1.056a46p-3f));
    q = v16_fma(q, f, v16_set1(-0x1.0d85aep-3f));
    q = v16_fma(q, f, v16_set1(0x1.22d7d2p-3f));
    q = v16_fma(q, f, v16_set1(-0x1.54720ap-3f));
    q = v16_fma(q, f, v16_set1(0x1.99a026p-3f));
    q = v16_fma(q, f, v16_set1(-0x1.000228p-2f));
    q = v16_fma(q, f, v16_set1(0x1.555554p-2f));
    /* log(1+f) = f - f^2/2 + f^3 q; smallest terms first */
    v16 y = v16_mul(v16_mul(v16_mul(f, f), f), q);
    y = v16_fma(k, v16_set1(-0x1.05c61p-29f), y);
    y = v16_fma(v16_mul(v16_set1(-0.5f), f), f, y);
    y = v16_fma(k, v16_set1(0x1.62e43p-1f), v16_add(f, y));
    /* y is finite: add x where x is inf or NaN, put the poles in by hand */
    const v16 infinity = v16_set1(__builtin_inff());
    y = v16_select(v16_lt(v16_abs(x), infinity), y, v16_add(x, x));
    y = v16_select(v16_lt(x, zero), v16_set1(__builtin_nanf("")), y);
    return v16_select(v16_eq(x, zero), v16_neg(infinity), y);
}

/* --- sin, cos: |x| = q pi/2 + r + r_low, |r| <= pi/4 ------------------------------------------------------- */

/* Largest argument of the reduction in f32; beyond it r comes from v16_reduce_huge. */
#define V16_TRIG_SMALL 131072.0f

/* |x| 2/pi in integers: |x| = m 2^e with a 24-bit m, times the 96 bits of 2/pi that matter modulo 4 (Payne and
 * Hanek). Returns r + r_low, and q modulo 4 in *quadrant.  x > V16_TRIG_SMALL and finite, so e >= -6. */
static inline double v16_reduce_huge(int32_t *quadrant, float x) {
    /* binary digits of 2/pi after the point, 32 a word, after one word of zeros */
    static const uint32_t two_over_pi[] = {0x00000000, 0xa2f9836e, 0x4e441529, 0xfc2757d1,
                                           0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    const uint64_t m = (bits & 0x007fffff) | 0x00800000;
    const int e = (int)(bits >> 23) - 150;
    /* Digits of weight 2^(2-e) and above only add multiples of 4 to x 2/pi: skip them. */
    const int skip = e - 2 + 32, word = skip / 32, shift = skip % 32;
    uint64_t w[3];
    for (int i = 0; i < 3; i++) {
        const uint64_t two = (uint64_t)two_over_pi[word + i] << 32 | two_over_pi[word + i + 1];
        w[i] = (two << shift) >> 32;
    }
    /* m w modulo 2^96, its upper 64 bits: 2 of the quadrant, 62 of the fraction */
    const uint64_t low = m * w[2], middle = m * w[1] + (low >> 32);
    const uint64_t top = ((m * w[0] + (middle >> 32)) << 32) | (middle & 0xffffffff);
    const int64_t fraction = (int64_t)(top << 2); /* two's complement: -1/2 .. 1/2, the quadrant goes up for < 0 */
    *quadrant = (int32_t)((top >> 62) + (fraction < 0));
    return (double)fraction * (0x1.921fb54442d18p+0 * 0x1p-64);
}

/* Replaces the lanes for which V16_TRIG_SMALL < |x| < inf; for inf and NaN, r is NaN already. */
static inline void v16_fix_huge(float r[16], float r_low[16], int32_t q[16], const float ax[16]) {
    for (int i = 0; i < 16; i++) {
        if (!(ax[i] > V16_TRIG_SMALL && ax[i] <= 0x1.fffffep127f)) continue;
        const double exact = v16_reduce_huge(&q[i], ax[i]);
        r[i] = (float)exact;
        r_low[i] = (float)(exact - (double)r[i]);
    }
}

/* Of q only the value modulo 4 counts. */
struct v16_reduced {
    v16 r, r_low;
    v16i q;
};

V16_FN struct v16_reduced v16_reduce_angle(v16 ax) {
    const v16 magic = v16_set1(0x1.8p23f), t = v16_fma(ax, v16_set1(0x1.45f306p-1f), magic);
    const v16 n = v16_sub(t, magic);
    struct v16_reduced a = {.q = v16_as_int(t)}; /* the magic's own low bits are zeros */
    /* pi/2 = c1 + c2 + c3 (Cody and Waite).  ax - n c1 is exact: a multiple of 2^-24 below 1.  n c2 is p + p_low
     * exactly, and r1 - p is r2 + error exactly (TwoSum), so that r + r_low has only tiny errors. */
    const v16 c2 = v16_set1(-0x1.777a5cp-25f), c3 = v16_set1(-0x1.ee59dap-50f);
    const v16 r1 = v16_fnma(n, v16_set1(0x1.921fb6p+0f), ax);
    const v16 p = v16_mul(n, c2), p_low = v16_fma(n, c2, v16_neg(p));
    const v16 r2 = v16_sub(r1, p), z = v16_sub(r2, r1);
    const v16 error = v16_sub(v16_sub(r1, v16_sub(r2, z)), v16_add(p, z));
    const v16 rest = v16_sub(error, v16_fma(n, c3, p_low));
    a.r = v16_add(r2, rest);
    a.r_low = v16_sub(rest, v16_sub(a.r, r2));
    if (v16m_any(v16_lt(v16_set1(V16_TRIG_SMALL), ax))) {
        float r[16], low[16], x[16];
        int32_t q[16];
        v16_storeu(r, a.r);
        v16_storeu(low, a.r_low);
        v16_storeu(x, ax);
        v16i_storeu(q, a.q);
        v16_fix_huge(r, low, q, x);
        a = (struct v16_reduced){v16_loadu(r), v16_loadu(low), v16i_loadu(q)};
    }
    return a;
}

struct v16_sincos {
    v16 sin, cos;
};

/* Of r + r_low + q pi/2; the sign bits of sin_sign are flipped in the sine. */
V16_FN struct v16_sincos v16_sincos_reduced(struct v16_reduced a, v16i sin_sign) {
    const v16 r = a.r;
    const v16i q = a.q;
    /* sin(r + l) = sin r + l,  cos(r + l) = cos r - r l */
    const v16 z = v16_mul(r, r);
    v16 s = v16_fma(v16_set1(-0x1.99530ep-13f), z, v16_set1(0x1.110776p-7f));
    s = v16_fma(s, z, v16_set1(-0x1.555546p-3f));
    s = v16_add(v16_fma(v16_mul(r, z), s, a.r_low), r);
    v16 c = v16_fma(v16_set1(0x1.99e90ap-16f), z, v16_set1(-0x1.6c0c2ap-10f));
    c = v16_fma(c, z, v16_set1(0x1.55554ap-5f));
    /* the small terms first; 1 - z/2 in one rounding */
    c = v16_fma(v16_mul(z, z), c, v16_mul(v16_neg(r), a.r_low));
    c = v16_add(c, v16_fma(v16_set1(-0.5f), z, v16_set1(1.0f)));
    const v16i one = v16i_set1(1), two = v16i_set1(2);
    const v16m odd = v16i_eq(v16i_and(q, one), one);
    sin_sign = v16i_xor(v16i_sll(v16i_and(q, two), 30), sin_sign);
    const v16i cos_sign = v16i_sll(v16i_and(v16i_add(q, one), two), 30);
    const v16 sin = v16_select(odd, c, s), cos = v16_select(odd, s, c);
    return (struct v16_sincos){v16i_as_float(v16i_xor(v16_as_int(sin), sin_sign)),
                               v16i_as_float(v16i_xor(v16_as_int(cos), cos_sign))};
}

V16_FN struct v16_sincos v16_sincos(v16 x) {
    return v16_sincos_reduced(v16_reduce_angle(v16_abs(x)), v16_signbit(x));
}

/* Of 2 pi word/2^32, the word taken as unsigned: the upper two bits of word + 2^29 are the quadrant, the others the
 * angle from its middle, rounded to f32.  For random directions. */
V16_FN struct v16_sincos v16_sincos_turn(v16i word) {
    const v16i shifted = v16i_add(word, v16i_set1(0x20000000));
    const v16i from_middle = v16i_sub(v16i_and(shifted, v16i_set1(0x3fffffff)), v16i_set1(0x20000000));
    const v16 r = v16_mul(v16i_to_float(from_middle), v16_set1(0x1.921fb6p-30f)); /* pi/2 2^-30 */
    return v16_sincos_reduced((struct v16_reduced){r, v16_zero(), v16i_srl(shifted, 30)}, v16i_set1(0));
}

V16_FN v16 v16_sin(v16 x) {
    return v16_sincos(x).sin;
}
V16_FN v16 v16_cos(v16 x) {
    return v16_sincos(x).cos;
}

/* --- sigmoid, silu, tanh: through e = exp of a negative number, so that nothing overflows ------------------- */

/* 1/(1 + e^-x): with e = e^-|x|, 1/(1+e) for x >= 0 and e/(1+e) for x < 0. */
V16_FN v16 v16_sigmoid(v16 x) {
    const v16 one = v16_set1(1.0f);
    const v16 a = v16_max(v16_set1(-104.0f), v16_neg(v16_abs(x)));
    const struct v16_exp_parts s = v16_exp_split(a);
    const v16 e = v16_mul(v16_mul(s.p, s.s1), s.s2);
    return v16_div(v16_select(v16_lt(x, v16_zero()), e, one), v16_add(one, e));
}

/* x sigmoid(x) as one quotient.  For x < 0 the numerator x e is formed before e is scaled: e alone would already be
 * subnormal, with few bits, where x e is not. */
V16_FN v16 v16_silu(v16 x) {
    const v16 one = v16_set1(1.0f);
    const v16 a = v16_max(v16_set1(-110.0f), v16_neg(v16_abs(x)));
    const struct v16_exp_parts s = v16_exp_split(a);
    const v16 e = v16_mul(v16_mul(s.p, s.s1), s.s2);
    const v16 xe = v16_mul(v16_mul(v16_mul(a, s.p), s.s1), s.s2);
    return v16_div(v16_select(v16_lt(x, v16_zero()), xe, x), v16_add(one, e));
}

/* silu'(x) = s + x s (1 - s), s = sigmoid(x).  With r = 1/(1 + e), s and 1 - s are r and e r in the order of x's sign.
 * It has a zero (x = -1.278...), so the error is relative to |s| + |x| s (1 - s): below 2^-21.5.  Beyond +-104, where
 * nothing changes any more, x is held there: 1 for +inf, 0 (-1e-43) for -inf. */
V16_FN v16 v16_silu_gradient(v16 x) {
    const v16 one = v16_set1(1.0f);
    x = v16_max(v16_set1(-104.0f), v16_min(v16_set1(104.0f), x));
    const struct v16_exp_parts parts = v16_exp_split(v16_neg(v16_abs(x)));
    const v16 e = v16_mul(v16_mul(parts.p, parts.s1), parts.s2);
    const v16 r = v16_div(one, v16_add(one, e)), er = v16_mul(e, r);
    const v16 s = v16_select(v16_lt(x, v16_zero()), er, r);
    return v16_fma(x, v16_mul(r, er), s);
}

/* |x| < 0.625: odd polynomial, else 1 - 2/(e^(2|x|) + 1). */
V16_FN v16 v16_tanh(v16 x) {
    const v16 one = v16_set1(1.0f), two = v16_set1(2.0f), a = v16_abs(x);
    const v16 z = v16_mul(a, a);
    v16 p = v16_set1(-0x1.75619ap-8f);
    p = v16_fma(p, z, v16_set1(0x1.5207b8p-6f));
    p = v16_fma(p, z, v16_set1(-0x1.b83738p-5f));
    p = v16_fma(p, z, v16_set1(0x1.1106fcp-3f));
    p = v16_fma(p, z, v16_set1(-0x1.555532p-2f));
    p = v16_fma(v16_mul(z, a), p, a);
    const struct v16_exp_parts s = v16_exp_split(v16_min(v16_set1(40.0f), v16_add(a, a)));
    const v16 e = v16_mul(v16_mul(s.p, s.s1), s.s2);
    const v16 y = v16_sub(one, v16_div(two, v16_add(e, one)));
    const v16 magnitude = v16_select(v16_lt(a, v16_set1(0.625f)), p, y);
    return v16i_as_float(v16i_or(v16_as_int(magnitude), v16_signbit(x)));
}

#endif
