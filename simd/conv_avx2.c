/* conv_avx2.c - the micro-kernel for AVX2: 6 pixels x 1 vector of 16 outputs, which is two registers.
 *
 * Of the 16 registers 12 accumulate, 2 hold weights and the rest broadcast inputs: 8 loads feed 12 FMAs. */
#include "simd/conv.h"

#if defined(FDM_ISA_AVX2)
#define FDM_CONV_TILE 6
#define FDM_CONV_VECTORS 1
#include "simd/conv_impl.h"

static void chain(const struct fdm_conv_chain *c) {
    conv_strip(c, 1);
}
static void pixel_chain(const struct fdm_conv_pixel_chain *c) { pixel_rows(c, 1); }

const struct fdm_conv_kernels fdm_conv_kernels_avx2 = {"avx2", FDM_CONV_TILE, FDM_CONV_VECTORS, chain, pixel_chain};
#endif
