/* kernel_table.c - this build's table of kernels. */
#include "simd/kernel_table.h"

#include "simd/v16.h"

#if defined(FDM_ISA_PORTABLE)
#define THIS_ISA FDM_ISA_ID_PORTABLE
#define THIS_TABLE fdm_kernels_portable
#elif defined(FDM_ISA_AVX2)
#define THIS_ISA FDM_ISA_ID_AVX2
#define THIS_TABLE fdm_kernels_avx2
#else
#define THIS_ISA FDM_ISA_ID_AVX512
#define THIS_TABLE fdm_kernels_avx512
#endif

#define STRING2(x) #x
#define STRING(x) STRING2(x)

/* clang-format off */
const struct fdm_kernels THIS_TABLE = {
    .isa = THIS_ISA,
    .isa_name = STRING(V16_ISA),
#define TABLE_ENTRY(name, params) .name = FDM_KERNEL(name),
    FDM_KERNELS(TABLE_ENTRY)
#undef TABLE_ENTRY
};
