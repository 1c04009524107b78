/* kernels.h - run-time choice of the instruction set, and the table of hand-vectorised kernels.
 *
 * Every kernel is written once over the 16-lane vector type v16 (v16.h) and compiled three times; only the
 * convolution / matrix-product micro-kernels (conv.h) have a file per ISA.  All three builds give the same bits.
 */
#ifndef FDM_SIMD_KERNELS_H
#define FDM_SIMD_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "fdm/status.h"

enum fdm_isa { FDM_ISA_ID_PORTABLE, FDM_ISA_ID_AVX2, FDM_ISA_ID_AVX512, FDM_ISA_COUNT };

/* "portable", "avx2", "avx512" */
const char *fdm_isa_name(enum fdm_isa isa);
/* CPUID and XGETBV: whether this CPU and operating system can run that build. */
bool fdm_isa_available(enum fdm_isa isa);
/* The widest available. */
enum fdm_isa fdm_isa_best(void);
/* name (or NULL: the FDM_ISA environment variable, and if that is unset or empty the best) -> *isa.
 * Errors: FDM_BAD_USAGE for an unknown name or one that this CPU lacks. */
fdm_status fdm_isa_choose(const char *name, enum fdm_isa *isa, fdm_error *err);

struct fdm_kernels;      /* element-wise, normalisation, resampling...: simd/kernel_table.h */
struct fdm_conv_kernels; /* micro-kernels: simd/conv.h */
const struct fdm_kernels *fdm_kernels_for(enum fdm_isa isa);
const struct fdm_conv_kernels *fdm_conv_kernels_for(enum fdm_isa isa);

#endif
