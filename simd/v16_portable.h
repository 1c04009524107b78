/* v16_portable.h - v16 in plain C: 16 floats, loops that compilers vectorise for whatever there is. */
#ifndef FDM_SIMD_V16_PORTABLE_H
#define FDM_SIMD_V16_PORTABLE_H

#include <string.h>

typedef struct {
    float v[16];
} v16;
typedef struct {
    int32_t v[16];
} v16i;
typedef struct {
    int32_t v[16];
} v16m; /* 0 or -1 */

#define V16_EACH for (int i = 0; i < 16; i++)

V16_FN v16 v16_set1(float x) {
    v16 r;
    V16_EACH r.v[i] = x;
    return r;
}

V16_FN v16 v16_zero(void) {
    return v16_set1(0.0f);
}

V16_FN v16 v16_loadu(const float *p) {
    v16 r;
    memcpy(r.v, p, sizeof r.v);
    return r;
}

V16_FN v16 v16_load(const float *p) {
    return v16_loadu(__builtin_assume_aligned(p, 64));
}

V16_FN v16 v16_load_tail(const float *p, int n) {
    v16 r;
    V16_EACH r.v[i] = i < n ? p[i] : 0.0f;
    return r;
}

V16_FN void v16_storeu(float *p, v16 a) {
    memcpy(p, a.v, sizeof a.v);
}
V16_FN void v16_store(float *p, v16 a) {
    v16_storeu(__builtin_assume_aligned(p, 64), a);
}

V16_FN void v16_store_tail(float *p, v16 a, int n) {
    for (int i = 0; i < n; i++) p[i] = a.v[i];
}

#define V16_PORTABLE_BINARY(name, type, expr)                                                                      \
    V16_FN type name(type a, type b) {                                                                             \
        type r;                                                                                                    \
        V16_EACH {                                                                                                 \
            const __typeof__(a.v[0]) x = a.v[i];                                                                   \
            const __typeof__(b.v[0]) y = b.v[i];                                                                   \
            r.v[i] = (expr);                                                                                       \
        }                                                                                                          \
        return r;                                                                                                  \
    }

V16_PORTABLE_BINARY(v16_add, v16, x + y)
V16_PORTABLE_BINARY(v16_sub, v16, x - y)
V16_PORTABLE_BINARY(v16_mul, v16, x *y)
V16_PORTABLE_BINARY(v16_div, v16, x / y)
V16_PORTABLE_BINARY(v16_min, v16, x < y ? x : y)
V16_PORTABLE_BINARY(v16_max, v16, x > y ? x : y)
/* through uint32_t: signed overflow must wrap */
V16_PORTABLE_BINARY(v16i_add, v16i, (int32_t)((uint32_t)x + (uint32_t)y))
V16_PORTABLE_BINARY(v16i_sub, v16i, (int32_t)((uint32_t)x - (uint32_t)y))
V16_PORTABLE_BINARY(v16i_and, v16i, x &y)
V16_PORTABLE_BINARY(v16i_or, v16i, x | y)
V16_PORTABLE_BINARY(v16i_xor, v16i, x ^ y)
#undef V16_PORTABLE_BINARY

V16_FN v16 v16_neg(v16 a) {
    v16 r;
    V16_EACH r.v[i] = -a.v[i];
    return r;
}

V16_FN v16 v16_sqrt(v16 a) {
    v16 r;
    V16_EACH r.v[i] = __builtin_sqrtf(a.v[i]);
    return r;
}

#if defined(__FP_FAST_FMAF)
V16_FN float v16_lane_fma(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}

V16_FN v16 v16_fma(v16 a, v16 b, v16 c) {
    v16 r;
    V16_EACH r.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
    return r;
}
#else
/* GCC up to 12 at least takes (double)(float)x for x in vectors of two lanes: it compares the vectors' precisions,
 * which count lanes.  A rounding to float that may be widened again must therefore be out of its sight. */
#if defined(__GNUC__) && !defined(__clang__)
#define V16_KEEP_ROUNDING(x) __asm__("" : "+m"(x))
#else
#define V16_KEEP_ROUNDING(x) ((void)0)
#endif

/* a*b + c rounded once, without FMA hardware.  a*b is exact in f64 (24 + 24 <= 53 bits).  s + e is the exact sum
 * (TwoSum); s is then rounded to odd - of the two doubles around the exact sum, the one with the odd last bit - and
 * f64 -> f32 of that cannot round twice, because 53 >= 24 + 2.  Where e is NaN (s infinite or NaN), s stands.
 * In integers and without a branch, because compilers vectorise that and not comparisons of doubles. */
V16_FN double v16_fma_to_odd(float a, float b, float c) {
    const double p = (double)a * (double)b, d = (double)c;
    const double s = p + d;
    const double t = s - p;
    const double e = (p - (s - t)) + (d - t);
    uint64_t sb, eb;
    memcpy(&sb, &s, sizeof sb);
    memcpy(&eb, &e, sizeof eb);
    const uint64_t magnitude = eb & 0x7fffffffffffffffu, infinity = 0x7ff0000000000000u;
    const uint64_t inexact = (-magnitude & (magnitude - infinity)) >> 63; /* 0 < magnitude < infinity */
    const uint64_t step = inexact & ~sb, toward_zero = (sb ^ eb) >> 63;
    sb += step - ((step & toward_zero) << 1);
    double odd;
    memcpy(&odd, &sb, sizeof odd);
    return odd;
}

/* One lane, for code that has no use for a whole vector. */
V16_FN float v16_lane_fma(float a, float b, float c) {
    float r = (float)v16_fma_to_odd(a, b, c);
    V16_KEEP_ROUNDING(r);
    return r;
}

V16_FN v16 v16_fma(v16 a, v16 b, v16 c) {
    v16 r;
    V16_EACH r.v[i] = (float)v16_fma_to_odd(a.v[i], b.v[i], c.v[i]);
    V16_KEEP_ROUNDING(r);
    return r;
}
#endif

V16_FN v16m v16_lt(v16 a, v16 b) {
    v16m r;
    V16_EACH r.v[i] = a.v[i] < b.v[i] ? -1 : 0;
    return r;
}

V16_FN v16m v16_eq(v16 a, v16 b) {
    v16m r;
    V16_EACH r.v[i] = a.v[i] == b.v[i] ? -1 : 0;
    return r;
}

V16_FN int v16m_any(v16m m) {
    int32_t any = 0;
    V16_EACH any |= m.v[i];
    return any != 0;
}

/* By bits: the signs of activations are random, and a branch on them costs more than all the rest. */
V16_FN v16 v16_select(v16m m, v16 a, v16 b) {
    int32_t x[16], y[16];
    memcpy(x, a.v, sizeof x);
    memcpy(y, b.v, sizeof y);
    V16_EACH x[i] = (x[i] & m.v[i]) | (y[i] & ~m.v[i]);
    memcpy(a.v, x, sizeof x);
    return a;
}

V16_FN float v16_hsum(v16 a) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) a.v[i] = a.v[i] + a.v[i + half];
    return a.v[0];
}

V16_FN float v16_hmax(v16 a) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
    return a.v[0];
}

V16_FN v16i v16_as_int(v16 a) {
    v16i r;
    memcpy(&r, &a, sizeof r);
    return r;
}

V16_FN v16 v16i_as_float(v16i a) {
    v16 r;
    memcpy(&r, &a, sizeof r);
    return r;
}

V16_FN v16i v16i_set1(int32_t x) {
    v16i r;
    V16_EACH r.v[i] = x;
    return r;
}

V16_FN v16i v16i_sll(v16i a, int n) {
    V16_EACH a.v[i] = (int32_t)((uint32_t)a.v[i] << n);
    return a;
}

V16_FN v16i v16i_srl(v16i a, int n) {
    V16_EACH a.v[i] = (int32_t)((uint32_t)a.v[i] >> n);
    return a;
}

V16_FN v16i v16i_sra(v16i a, int n) {
    V16_EACH a.v[i] = a.v[i] >> n;
    return a;
}

V16_FN v16m v16i_eq(v16i a, v16i b) {
    v16m r;
    V16_EACH r.v[i] = a.v[i] == b.v[i] ? -1 : 0;
    return r;
}

V16_FN v16m v16i_lt(v16i a, v16i b) {
    v16m r;
    V16_EACH r.v[i] = a.v[i] < b.v[i] ? -1 : 0;
    return r;
}

typedef struct {
    v16i high, low;
} v16i_wide;

V16_FN v16i_wide v16i_mul_wide(v16i a, v16i b) {
    v16i_wide r;
    V16_EACH {
        const uint64_t product = (uint64_t)(uint32_t)a.v[i] * (uint32_t)b.v[i];
        r.high.v[i] = (int32_t)(uint32_t)(product >> 32);
        r.low.v[i] = (int32_t)(uint32_t)product;
    }
    return r;
}

V16_FN v16 v16i_to_float(v16i a) {
    v16 r;
    V16_EACH r.v[i] = (float)a.v[i];
    return r;
}

V16_FN v16i v16i_loadu(const int32_t *p) {
    v16i r;
    memcpy(r.v, p, sizeof r.v);
    return r;
}

V16_FN void v16i_storeu(int32_t *p, v16i a) {
    memcpy(p, a.v, sizeof a.v);
}

#undef V16_EACH

#endif
