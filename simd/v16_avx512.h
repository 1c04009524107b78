/* v16_avx512.h - v16 as one 512-bit register (AVX-512 F, DQ, BW, VL). */
#ifndef FDM_SIMD_V16_AVX512_H
#define FDM_SIMD_V16_AVX512_H

#include <immintrin.h>

/* One line an operation. */
/* clang-format off */

typedef __m512 v16;
typedef __m512i v16i;
typedef __mmask16 v16m;

V16_FN v16 v16_zero(void) { return _mm512_setzero_ps(); }
V16_FN v16 v16_set1(float x) { return _mm512_set1_ps(x); }
V16_FN v16 v16_load(const float *p) { return _mm512_load_ps(p); }
V16_FN v16 v16_loadu(const float *p) { return _mm512_loadu_ps(p); }
V16_FN void v16_store(float *p, v16 a) { _mm512_store_ps(p, a); }
V16_FN void v16_storeu(float *p, v16 a) { _mm512_storeu_ps(p, a); }

V16_FN __mmask16 v16_tail_mask(int n) { return (__mmask16)((1u << n) - 1u); }
V16_FN v16 v16_load_tail(const float *p, int n) { return _mm512_maskz_loadu_ps(v16_tail_mask(n), p); }
V16_FN void v16_store_tail(float *p, v16 a, int n) { _mm512_mask_storeu_ps(p, v16_tail_mask(n), a); }

V16_FN v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
V16_FN v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
V16_FN v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
V16_FN v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
V16_FN v16 v16_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
V16_FN v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
V16_FN v16 v16_sqrt(v16 a) { return _mm512_sqrt_ps(a); }
V16_FN v16 v16_neg(v16 a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
V16_FN v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }

V16_FN v16m v16_lt(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
V16_FN v16m v16_eq(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
V16_FN int v16m_any(v16m m) { return m != 0; }
V16_FN v16 v16_select(v16m m, v16 a, v16 b) { return _mm512_mask_blend_ps(m, b, a); }

V16_FN float v16_hsum(v16 a) {
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

V16_FN float v16_hmax(v16 a) {
    const __m256 s8 = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_max_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

V16_FN v16i v16_as_int(v16 a) { return _mm512_castps_si512(a); }
V16_FN v16 v16i_as_float(v16i a) { return _mm512_castsi512_ps(a); }
V16_FN v16i v16i_set1(int32_t x) { return _mm512_set1_epi32(x); }
V16_FN v16i v16i_loadu(const int32_t *p) { return _mm512_loadu_si512(p); }
V16_FN void v16i_storeu(int32_t *p, v16i a) { _mm512_storeu_si512(p, a); }
V16_FN v16i v16i_add(v16i a, v16i b) { return _mm512_add_epi32(a, b); }
V16_FN v16i v16i_sub(v16i a, v16i b) { return _mm512_sub_epi32(a, b); }
V16_FN v16i v16i_and(v16i a, v16i b) { return _mm512_and_si512(a, b); }
V16_FN v16i v16i_or(v16i a, v16i b) { return _mm512_or_si512(a, b); }
V16_FN v16i v16i_xor(v16i a, v16i b) { return _mm512_xor_si512(a, b); }
V16_FN v16i v16i_sll(v16i a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
V16_FN v16i v16i_srl(v16i a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
V16_FN v16i v16i_sra(v16i a, int n) { return _mm512_sra_epi32(a, _mm_cvtsi32_si128(n)); }
V16_FN v16m v16i_eq(v16i a, v16i b) { return _mm512_cmpeq_epi32_mask(a, b); }
V16_FN v16m v16i_lt(v16i a, v16i b) { return _mm512_cmplt_epi32_mask(a, b); }

typedef struct { v16i high, low; } v16i_wide;

/* Even lanes in place, odd lanes from a shifted copy: vpmuludq takes the even ones. */
V16_FN v16i_wide v16i_mul_wide(v16i a, v16i b) {
    const __m512i even = _mm512_mul_epu32(a, b);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
    return (v16i_wide){_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd),
                       _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32))};
}

V16_FN v16 v16i_to_float(v16i a) { return _mm512_cvtepi32_ps(a); }

/* clang-format on */

#endif
