/* peak.c - as many fused multiply-adds as a core can do with this instruction set: what "per cent of the peak" means. */
#include "simd/kernel_table.h"
#include "simd/v16.h"

/* Independent chains that stay in registers: enough to hide the latency of an FMA on two ports.  With AVX2 a v16 is two of
 * the 16 registers, and two more hold the constants. */
#if defined(FDM_ISA_AVX512)
enum { CHAINS = 16 };
#else
enum { CHAINS = 6 };
#endif

void FDM_KERNEL(fma_chains)(double *flops, float *x, size_t n) {
    const v16 scale = v16_set1(0.999f), shift = v16_set1(0.001f);
    v16 a[CHAINS];
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) a[i] = v16_add(v16_loadu(x), v16_set1((float)i));
    for (size_t k = 0; k < n; k++) {
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) a[i] = v16_fma(a[i], scale, shift);
    }
    v16 sum = a[0];
#pragma GCC unroll 16
    for (int i = 1; i < CHAINS; i++) sum = v16_add(sum, a[i]);
    v16_storeu(x, sum); /* or nothing would be left of it */
    *flops = 2.0 * V16_LANES * CHAINS * (double)n;
}
