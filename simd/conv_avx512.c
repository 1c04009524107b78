/* conv_avx512.c - the micro-kernel for AVX-512: 8 pixels x 3 vectors.
 *
 * Of the 32 registers 24 accumulate, 3 hold weights and the rest broadcast inputs: 11 loads feed 24 FMAs. */
#include "simd/conv.h"

#if defined(FDM_ISA_AVX512)
#define FDM_CONV_TILE 8
#define FDM_CONV_VECTORS 3
#include "simd/conv_impl.h"

static void strip_1(const struct fdm_conv_chain *c) {
    conv_strip(c, 1);
}
static void strip_2(const struct fdm_conv_chain *c) {
    conv_strip(c, 2);
}
static void strip_3(const struct fdm_conv_chain *c) {
    conv_strip(c, 3);
}

static void chain(const struct fdm_conv_chain *c) {
    static void (*const strips[])(const struct fdm_conv_chain *) = {strip_1, strip_2, strip_3};
    strips[c->vectors - 1](c);
}

static void rows_1(const struct fdm_conv_pixel_chain *c) { pixel_rows(c, 1); }
static void rows_2(const struct fdm_conv_pixel_chain *c) { pixel_rows(c, 2); }
static void rows_3(const struct fdm_conv_pixel_chain *c) { pixel_rows(c, 3); }

static void pixel_chain(const struct fdm_conv_pixel_chain *c) {
    static void (*const rows[])(const struct fdm_conv_pixel_chain *) = {rows_1, rows_2, rows_3};
    rows[c->vectors - 1](c);
}

const struct fdm_conv_kernels fdm_conv_kernels_avx512 = {"avx512", FDM_CONV_TILE, FDM_CONV_VECTORS, chain,
                                                         pixel_chain};
#endif
