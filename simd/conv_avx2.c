/* conv_avx2.c - the micro-kernel for AVX2: 6 pixels x 1 vector of 16 outputs (two __m256), 12 accumulators.
 *
 * Of the 16 registers 12 accumulate, 2 hold weights and the rest the broadcast inputs: 8 loads feed 12 FMAs. */
#include "simd/conv.h"

#if defined(FDM_ISA_AVX2)
#include <immintrin.h>

#define FDM_CONV_TILE 6
#include "simd/conv_impl.h"

static void tile(float *acc_out, const float *x, const ptrdiff_t *pixel, const struct fdm_conv_chain *c) {
    __m256 acc[FDM_CONV_TILE][2];
    const float *w = c->weight;
    FDM_UNROLL
    for (int p = 0; p < FDM_CONV_TILE; p++) acc[p][0] = acc[p][1] = _mm256_setzero_ps();
    for (int s = 0; s < c->segments; s++) {
        const float *xp[FDM_CONV_TILE];
        FDM_UNROLL
        for (int p = 0; p < FDM_CONV_TILE; p++) {
            xp[p] = x + c->x_segment[s] + pixel[p];
            FDM_OPAQUE(xp[p]);
        }
        FDM_UNROLL
        for (int i = 0; i < CONV_L; i++, w += CONV_L) {
            __m256 low = _mm256_load_ps(w), high = _mm256_load_ps(w + 8);
            FDM_UNROLL
            for (int p = 0; p < FDM_CONV_TILE; p++) {
                __m256 xi = _mm256_set1_ps(xp[p][i]);
                acc[p][0] = _mm256_fmadd_ps(low, xi, acc[p][0]);
                acc[p][1] = _mm256_fmadd_ps(high, xi, acc[p][1]);
            }
        }
    }
    FDM_UNROLL
    for (int p = 0; p < FDM_CONV_TILE; p++) {
        _mm256_store_ps(acc_out + p * CONV_L, acc[p][0]);
        _mm256_store_ps(acc_out + p * CONV_L + 8, acc[p][1]);
    }
}

static void chain(const struct fdm_conv_chain *c) {
    conv_run_strip(c, tile);
}

const struct fdm_conv_kernels fdm_conv_kernels_avx2 = {"avx2", FDM_CONV_TILE, 1, chain};
#endif
