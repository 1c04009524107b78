/* v16.h - the one vector type of every kernel: 16 lanes of f32.
 *
 * A kernel is written once over v16 and compiled three times; exactly one of FDM_ISA_PORTABLE, FDM_ISA_AVX2,
 * FDM_ISA_AVX512 is defined.  CONTRACT of the type, the basis of promise P1 (same bits everywhere):
 *
 *   - Lane i of a result depends on lane i of the operands only, and is the correctly rounded (to nearest, even)
 *     IEEE-754 f32 result, subnormals included: add sub mul div sqrt, and fma with ONE rounding on every ISA.
 *     No estimate instruction (rcp, rsqrt) is ever used.  The sign and payload of a NaN are not promised.
 *   - v16_min(a, b) = a < b ? a : b  and  v16_max(a, b) = a > b ? a : b: the second operand if one is a NaN.
 *   - v16_hsum adds lane i to lane i+8, then +4, +2, +1: the fixed tree 16 -> 8 -> 4 -> 2 -> 1.
 *   - Comparisons are ordered (false for a NaN).  A mask v16m lane is all or nothing.
 *   - v16_load / v16_store want 64-byte alignment; v16_loadu / v16_storeu any; v16_load_tail(p, n) reads p[0..n)
 *     only and zeroes the other lanes, v16_store_tail(p, v, n) writes p[0..n) only, 0 <= n <= 16: nothing
 *     beyond is touched, so a tail may end at the edge of a page.
 *
 *   v16   zero set1 load loadu load_tail store storeu store_tail add sub mul div sqrt fma fnma min max abs select
 *         lt eq hsum hmax as_int
 *   v16i  set1 loadu storeu add sub and or xor sll srl sra eq lt to_float as_float     (32-bit two's complement)
 *         mul_wide: the 64-bit product of two lanes taken as unsigned, its words as v16i_wide {high, low}
 *   v16m  any
 */
#ifndef FDM_SIMD_V16_H
#define FDM_SIMD_V16_H

#include <stddef.h>
#include <stdint.h>

enum { V16_LANES = 16 };

/* Under a sanitizer, inlining every lane operation with its checks takes a compiler minutes: leave it the choice.
 */
#ifdef FDM_POISON
#define V16_FN static inline __attribute__((unused))
#else
#define V16_FN static inline __attribute__((always_inline))
#endif

#if defined(FDM_ISA_PORTABLE)
#define V16_ISA portable
#include "simd/v16_portable.h"
#elif defined(FDM_ISA_AVX2)
#define V16_ISA avx2
#include "simd/v16_avx2.h"
#elif defined(FDM_ISA_AVX512)
#define V16_ISA avx512
#include "simd/v16_avx512.h"
#else
#error "v16.h: define FDM_ISA_PORTABLE, FDM_ISA_AVX2 or FDM_ISA_AVX512"
#endif

/* FDM_KERNEL(name) is fdm_name_portable, fdm_name_avx2 or fdm_name_avx512. */
#define V16_PASTE(name, isa) fdm_##name##_##isa
#define V16_PASTE2(name, isa) V16_PASTE(name, isa)
#define FDM_KERNEL(name) V16_PASTE2(name, V16_ISA)

/* c - a*b with one rounding. */
V16_FN v16 v16_fnma(v16 a, v16 b, v16 c) { return v16_fma(v16_neg(a), b, c); }

V16_FN v16 v16_abs(v16 a) { return v16i_as_float(v16i_and(v16_as_int(a), v16i_set1(0x7fffffff))); }

/* The sign bit of each lane, the other bits zero. */
V16_FN v16i v16_signbit(v16 a) { return v16i_and(v16_as_int(a), v16i_set1(INT32_MIN)); }

#endif
