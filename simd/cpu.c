/* cpu.c - what this CPU and operating system can run: CPUID for the instructions, XGETBV for the registers that
 * the operating system saves.  Both must agree, or the first wide instruction would fault or lose data. */
#include "simd/kernels.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* Bits of XCR0, the register state that the operating system saves at a context switch. */
enum {
    XCR0_SSE_YMM = 0x06, /* xmm, upper halves of ymm */
    XCR0_ZMM = 0xe0      /* opmask, upper halves of zmm0-15, zmm16-31 */
};

/* XCR0; only valid if CPUID says OSXSAVE.  As bytes so that no -mxsave is needed. */
static unsigned read_xcr0(void) {
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    (void)hi;
    return lo;
}

static bool cpu_has(enum fdm_isa isa) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    const unsigned fma_avx_osxsave = bit_FMA | bit_AVX | bit_OSXSAVE;
    if ((c & fma_avx_osxsave) != fma_avx_osxsave) return false;
    const unsigned xcr0 = read_xcr0();
    if ((xcr0 & XCR0_SSE_YMM) != XCR0_SSE_YMM) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return false;
    if (isa == FDM_ISA_ID_AVX2) return true;
    const unsigned avx512 = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    return (b & avx512) == avx512 && (xcr0 & XCR0_ZMM) == XCR0_ZMM;
}
#else
static bool cpu_has(enum fdm_isa isa) {
    (void)isa;
    return false;
}
#endif

bool fdm_isa_available(enum fdm_isa isa) {
    if (isa == FDM_ISA_ID_PORTABLE) return true;
#if defined(FDM_AVX512_EMULATED) /* make emulate-avx512: those kernels are AVX2 code */
    if (isa == FDM_ISA_ID_AVX512) isa = FDM_ISA_ID_AVX2;
#endif
    if (isa != FDM_ISA_ID_AVX2 && isa != FDM_ISA_ID_AVX512) return false;
    return cpu_has(isa);
}
