/* conv_avx512.c - the micro-kernel for AVX-512: 8 pixels x 3 vectors in 24 accumulators.
 *
 * Of the 32 registers 24 accumulate, 3 hold weights and the rest the broadcast inputs: 11 loads feed 24 FMAs. */
#include "simd/conv.h"

#if defined(FDM_ISA_AVX512)
#include <immintrin.h>

#define FDM_CONV_TILE 8
#include "simd/conv_impl.h"

FDM_INLINE void tile(float *acc_out, const float *x, const ptrdiff_t *pixel, const struct fdm_conv_chain *c,
                     const int V) {
    __m512 acc[FDM_CONV_TILE][FDM_CONV_MAX_VECTORS];
    const float *w = c->weight;
    FDM_UNROLL
    for (int p = 0; p < FDM_CONV_TILE; p++) {
        FDM_UNROLL
        for (int v = 0; v < V; v++) acc[p][v] = _mm512_setzero_ps();
    }
    for (int s = 0; s < c->segments; s++) {
        const float *xp[FDM_CONV_TILE];
        FDM_UNROLL
        for (int p = 0; p < FDM_CONV_TILE; p++) {
            xp[p] = x + c->x_segment[s] + pixel[p];
            FDM_OPAQUE(xp[p]);
        }
        FDM_UNROLL
        for (int i = 0; i < CONV_L; i++, w += V * CONV_L) {
            __m512 wv[FDM_CONV_MAX_VECTORS];
            FDM_UNROLL
            for (int v = 0; v < V; v++) wv[v] = _mm512_load_ps(w + v * CONV_L);
            FDM_UNROLL
            for (int p = 0; p < FDM_CONV_TILE; p++) {
                __m512 xi = _mm512_set1_ps(xp[p][i]);
                FDM_UNROLL
                for (int v = 0; v < V; v++) acc[p][v] = _mm512_fmadd_ps(wv[v], xi, acc[p][v]);
            }
        }
    }
    FDM_UNROLL
    for (int p = 0; p < FDM_CONV_TILE; p++) {
        FDM_UNROLL
        for (int v = 0; v < V; v++) _mm512_store_ps(acc_out + (p * V + v) * CONV_L, acc[p][v]);
    }
}

static void tile_1(float *acc, const float *x, const ptrdiff_t *pixel, const struct fdm_conv_chain *c) {
    tile(acc, x, pixel, c, 1);
}
static void tile_2(float *acc, const float *x, const ptrdiff_t *pixel, const struct fdm_conv_chain *c) {
    tile(acc, x, pixel, c, 2);
}
static void tile_3(float *acc, const float *x, const ptrdiff_t *pixel, const struct fdm_conv_chain *c) {
    tile(acc, x, pixel, c, 3);
}

static void chain(const struct fdm_conv_chain *c) {
    static conv_tile_fn *const tiles[] = {tile_1, tile_2, tile_3};
    conv_run_strip(c, tiles[c->vectors - 1]);
}

const struct fdm_conv_kernels fdm_conv_kernels_avx512 = {"avx512", FDM_CONV_TILE, FDM_CONV_MAX_VECTORS, chain};
#endif
