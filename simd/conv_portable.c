/* conv_portable.c - the micro-kernel in plain C: 4 pixels x 1 vector of 16 outputs. */
#include "simd/conv.h"

#define FDM_CONV_TILE 4
#define FDM_CONV_VECTORS 1
#include "simd/conv_impl.h"

static void chain(const struct fdm_conv_chain *c) {
    conv_strip(c, 1);
}

const struct fdm_conv_kernels fdm_conv_kernels_portable = {"portable", FDM_CONV_TILE, FDM_CONV_VECTORS, chain};
