/* dispatch.c - from an instruction set's name to its table of kernels. */
#include "simd/kernels.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "simd/kernel_table.h"

static const char *const isa_names[FDM_ISA_COUNT] = {
    [FDM_ISA_ID_PORTABLE] = "portable", [FDM_ISA_ID_AVX2] = "avx2", [FDM_ISA_ID_AVX512] = "avx512"};

const char *fdm_isa_name(enum fdm_isa isa) {
    return (unsigned)isa < FDM_ISA_COUNT ? isa_names[isa] : "?";
}

enum fdm_isa fdm_isa_best(void) {
    if (fdm_isa_available(FDM_ISA_ID_AVX512)) return FDM_ISA_ID_AVX512;
    if (fdm_isa_available(FDM_ISA_ID_AVX2)) return FDM_ISA_ID_AVX2;
    return FDM_ISA_ID_PORTABLE;
}

fdm_status fdm_isa_choose(const char *name, enum fdm_isa *isa, fdm_error *err) {
    const char *from = "--isa";
    if (!name) {
        name = getenv("FDM_ISA");
        from = "environment variable FDM_ISA";
        if (!name || !*name) {
            *isa = fdm_isa_best();
            return FDM_OK;
        }
    }
    for (int i = 0; i < FDM_ISA_COUNT; i++) {
        if (strcmp(name, isa_names[i]) != 0) continue;
        if (!fdm_isa_available((enum fdm_isa)i))
            return fdm_fail(err, FDM_BAD_USAGE,
                            "%s: this CPU or operating system cannot run %s; the widest it can is %s", from, name,
                            fdm_isa_name(fdm_isa_best()));
        *isa = (enum fdm_isa)i;
        return FDM_OK;
    }
    return fdm_fail(err, FDM_BAD_USAGE, "%s: unknown instruction set '%.40s'; use portable, avx2 or avx512", from,
                    name);
}

const struct fdm_kernels *fdm_kernels_for(enum fdm_isa isa) {
    switch (isa) {
    case FDM_ISA_ID_PORTABLE:
        return &fdm_kernels_portable;
    case FDM_ISA_ID_AVX2:
        return &fdm_kernels_avx2;
    case FDM_ISA_ID_AVX512:
        return &fdm_kernels_avx512;
    default:
        return NULL;
    }
}
