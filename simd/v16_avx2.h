/* v16_avx2.h - v16 as two 256-bit registers (AVX2 + FMA). */
#ifndef FDM_SIMD_V16_AVX2_H
#define FDM_SIMD_V16_AVX2_H

#include <immintrin.h>

/* One line an operation. */
/* clang-format off */

typedef struct { __m256 lo, hi; } v16;   /* lanes 0..7, 8..15 */
typedef struct { __m256i lo, hi; } v16i;
typedef struct { __m256 lo, hi; } v16m;  /* all bits of a lane set or clear */

V16_FN v16 v16_pair(__m256 lo, __m256 hi) { return (v16){lo, hi}; }
V16_FN v16i v16i_pair(__m256i lo, __m256i hi) { return (v16i){lo, hi}; }

V16_FN v16 v16_zero(void) { return v16_pair(_mm256_setzero_ps(), _mm256_setzero_ps()); }

V16_FN v16 v16_set1(float x) {
    const __m256 v = _mm256_set1_ps(x);
    return v16_pair(v, v);
}

V16_FN v16 v16_load(const float *p) { return v16_pair(_mm256_load_ps(p), _mm256_load_ps(p + 8)); }
V16_FN v16 v16_loadu(const float *p) { return v16_pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }

V16_FN void v16_store(float *p, v16 a) {
    _mm256_store_ps(p, a.lo);
    _mm256_store_ps(p + 8, a.hi);
}

V16_FN void v16_storeu(float *p, v16 a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

/* Lane i of the mask is set for first + i < n. */
V16_FN __m256i v16_tail_mask(int n, int first) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n - first), lane);
}

V16_FN v16 v16_load_tail(const float *p, int n) {
    return v16_pair(_mm256_maskload_ps(p, v16_tail_mask(n, 0)), _mm256_maskload_ps(p + 8, v16_tail_mask(n, 8)));
}

V16_FN void v16_store_tail(float *p, v16 a, int n) {
    _mm256_maskstore_ps(p, v16_tail_mask(n, 0), a.lo);
    _mm256_maskstore_ps(p + 8, v16_tail_mask(n, 8), a.hi);
}

V16_FN v16 v16_add(v16 a, v16 b) { return v16_pair(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)); }
V16_FN v16 v16_sub(v16 a, v16 b) { return v16_pair(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)); }
V16_FN v16 v16_mul(v16 a, v16 b) { return v16_pair(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)); }
V16_FN v16 v16_div(v16 a, v16 b) { return v16_pair(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)); }
V16_FN v16 v16_min(v16 a, v16 b) { return v16_pair(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)); }
V16_FN v16 v16_max(v16 a, v16 b) { return v16_pair(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)); }
V16_FN v16 v16_sqrt(v16 a) { return v16_pair(_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)); }

V16_FN v16 v16_neg(v16 a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return v16_pair(_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign));
}

V16_FN v16 v16_fma(v16 a, v16 b, v16 c) {
    return v16_pair(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}

V16_FN v16m v16_lt(v16 a, v16 b) {
    return (v16m){_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}

V16_FN v16m v16_eq(v16 a, v16 b) {
    return (v16m){_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ)};
}

V16_FN int v16m_any(v16m m) { return _mm256_movemask_ps(_mm256_or_ps(m.lo, m.hi)) != 0; }

V16_FN v16 v16_select(v16m m, v16 a, v16 b) {
    return v16_pair(_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi));
}

V16_FN float v16_hsum(v16 a) {
    const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

V16_FN float v16_hmax(v16 a) {
    const __m256 s8 = _mm256_max_ps(a.lo, a.hi);
    const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_max_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

V16_FN v16i v16_as_int(v16 a) { return v16i_pair(_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)); }
V16_FN v16 v16i_as_float(v16i a) { return v16_pair(_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)); }

V16_FN v16i v16i_set1(int32_t x) {
    const __m256i v = _mm256_set1_epi32(x);
    return v16i_pair(v, v);
}

V16_FN v16i v16i_loadu(const int32_t *p) {
    return v16i_pair(_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8)));
}

V16_FN void v16i_storeu(int32_t *p, v16i a) {
    _mm256_storeu_si256((__m256i *)p, a.lo);
    _mm256_storeu_si256((__m256i *)(p + 8), a.hi);
}

V16_FN v16i v16i_add(v16i a, v16i b) {
    return v16i_pair(_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi));
}

V16_FN v16i v16i_sub(v16i a, v16i b) {
    return v16i_pair(_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi));
}

V16_FN v16i v16i_and(v16i a, v16i b) {
    return v16i_pair(_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi));
}

V16_FN v16i v16i_or(v16i a, v16i b) {
    return v16i_pair(_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi));
}

V16_FN v16i v16i_xor(v16i a, v16i b) {
    return v16i_pair(_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi));
}

V16_FN v16i v16i_sll(v16i a, int n) {
    const __m128i count = _mm_cvtsi32_si128(n);
    return v16i_pair(_mm256_sll_epi32(a.lo, count), _mm256_sll_epi32(a.hi, count));
}

V16_FN v16i v16i_srl(v16i a, int n) {
    const __m128i count = _mm_cvtsi32_si128(n);
    return v16i_pair(_mm256_srl_epi32(a.lo, count), _mm256_srl_epi32(a.hi, count));
}

V16_FN v16i v16i_sra(v16i a, int n) {
    const __m128i count = _mm_cvtsi32_si128(n);
    return v16i_pair(_mm256_sra_epi32(a.lo, count), _mm256_sra_epi32(a.hi, count));
}

V16_FN v16m v16i_eq(v16i a, v16i b) {
    return (v16m){_mm256_castsi256_ps(_mm256_cmpeq_epi32(a.lo, b.lo)),
                  _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.hi, b.hi))};
}

V16_FN v16m v16i_lt(v16i a, v16i b) {
    return (v16m){_mm256_castsi256_ps(_mm256_cmpgt_epi32(b.lo, a.lo)),
                  _mm256_castsi256_ps(_mm256_cmpgt_epi32(b.hi, a.hi))};
}

typedef struct { v16i high, low; } v16i_wide;

/* Even lanes in place, odd lanes from a shifted copy: vpmuludq takes the even ones. */
V16_FN void v16_mul_wide8(__m256i *high, __m256i *low, __m256i a, __m256i b) {
    const __m256i even = _mm256_mul_epu32(a, b);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

V16_FN v16i_wide v16i_mul_wide(v16i a, v16i b) {
    v16i_wide r;
    v16_mul_wide8(&r.high.lo, &r.low.lo, a.lo, b.lo);
    v16_mul_wide8(&r.high.hi, &r.low.hi, a.hi, b.hi);
    return r;
}

V16_FN v16 v16i_to_float(v16i a) { return v16_pair(_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)); }

/* clang-format on */

#endif
