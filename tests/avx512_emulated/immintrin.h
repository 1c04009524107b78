/* immintrin.h - AVX-512 intrinsics for a machine without AVX-512: what `make emulate-avx512` compiles the avx512
 * kernels against, with no more than -mavx2 -mfma.
 *
 * Most come from SIMDe (Debian: libsimde-dev), which makes each of two 256-bit halves; the rest is here, because
 * SIMDe 0.7.4 lacks it or because it is more forgiving than the instruction: aligned loads and stores trap on an
 * address that is not a multiple of 64, as the instruction would.  What this cannot show is what a compiler makes
 * of the real build: its own vectorisation, registers, speed. */
#ifndef FDM_AVX512_EMULATED_IMMINTRIN_H
#define FDM_AVX512_EMULATED_IMMINTRIN_H

#include_next <immintrin.h>
#include <stdint.h>
#include <string.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wundef"
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop

#if !defined(SIMDE_X86_AVX2_NATIVE) || !defined(SIMDE_X86_FMA_NATIVE) || defined(SIMDE_X86_AVX512F_NATIVE)
#error "the emulation of AVX-512 wants -mavx2 -mfma, and no more"
#endif

#define FDM_EMULATED static inline __attribute__((always_inline, unused))

FDM_EMULATED void emulated_aligned(const void *p) {
    if ((uintptr_t)p % 64 != 0) __builtin_trap();
}
FDM_EMULATED __m512 emulated_load_ps(const void *p) {
    emulated_aligned(p);
    return simde_mm512_loadu_ps(p);
}
FDM_EMULATED void emulated_store_ps(void *p, __m512 a) {
    emulated_aligned(p);
    simde_mm512_storeu_ps(p, a);
}
/* Only lanes whose bit is set touch memory. */
FDM_EMULATED __m512 emulated_maskz_loadu_ps(__mmask16 mask, const void *p) {
    float lanes[16] = {0};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy(&lanes[i], (const float *)p + i, sizeof *lanes);
    return simde_mm512_loadu_ps(lanes);
}
FDM_EMULATED void emulated_mask_storeu_ps(void *p, __mmask16 mask, __m512 a) {
    float lanes[16];
    simde_mm512_storeu_ps(lanes, a);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy((float *)p + i, &lanes[i], sizeof *lanes);
}
FDM_EMULATED __m256 emulated_extractf32x8_ps(__m512 a, int half) {
    float lanes[16];
    simde_mm512_storeu_ps(lanes, a);
    return _mm256_loadu_ps(lanes + 8 * half);
}
FDM_EMULATED __m512i emulated_sra_epi32(__m512i a, __m128i count) {
    __m256i half[2];
    memcpy(half, &a, sizeof half);
    for (int i = 0; i < 2; i++) half[i] = _mm256_sra_epi32(half[i], count);
    memcpy(&a, half, sizeof a);
    return a;
}
FDM_EMULATED __mmask16 emulated_cmplt_epi32_mask(__m512i a, __m512i b) {
    return simde_mm512_cmpgt_epi32_mask(b, a);
}
FDM_EMULATED __m512 emulated_cvtepi32_ps(__m512i a) {
    __m256i half[2];
    memcpy(half, &a, sizeof half);
    float lanes[16];
    for (int i = 0; i < 2; i++) _mm256_storeu_ps(lanes + 8 * i, _mm256_cvtepi32_ps(half[i]));
    return simde_mm512_loadu_ps(lanes);
}

#undef _mm512_load_ps
#undef _mm512_store_ps
#define _mm512_load_ps(p) emulated_load_ps(p)
#define _mm512_store_ps(p, a) emulated_store_ps(p, a)
#define _mm512_maskz_loadu_ps(mask, p) emulated_maskz_loadu_ps(mask, p)
#define _mm512_mask_storeu_ps(p, mask, a) emulated_mask_storeu_ps(p, mask, a)
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(a, half) emulated_extractf32x8_ps(a, half)
#define _mm512_sra_epi32(a, count) emulated_sra_epi32(a, count)
#undef _mm512_cmplt_epi32_mask
#define _mm512_cmplt_epi32_mask(a, b) emulated_cmplt_epi32_mask(a, b)
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(a) emulated_cvtepi32_ps(a)

#endif
