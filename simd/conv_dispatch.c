/* conv_dispatch.c - the micro-kernel table of an instruction set; compiled once. */
#include "simd/conv.h"

const struct fdm_conv_kernels *fdm_conv_kernels_for(enum fdm_isa isa) {
    switch (isa) {
#if defined(__x86_64__)
    case FDM_ISA_ID_AVX512:
        return &fdm_conv_kernels_avx512;
    case FDM_ISA_ID_AVX2:
        return &fdm_conv_kernels_avx2;
#endif
    default:
        return &fdm_conv_kernels_portable;
    }
}
