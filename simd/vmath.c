/* vmath.c - vmath.h over arrays. */
#include "simd/kernel_table.h"
#include "simd/vmath.h"

#define UNARY_KERNEL(name, function)                                                                               \
    void FDM_KERNEL(name)(float *y, const float *x, size_t n) {                                                    \
        size_t i = 0;                                                                                              \
        for (; i + 16 <= n; i += 16) v16_storeu(y + i, function(v16_loadu(x + i)));                                \
        if (i < n) v16_store_tail(y + i, function(v16_load_tail(x + i, (int)(n - i))), (int)(n - i));              \
    }

UNARY_KERNEL(vexp, v16_exp)
UNARY_KERNEL(vlog, v16_log)
UNARY_KERNEL(vsin, v16_sin)
UNARY_KERNEL(vcos, v16_cos)
UNARY_KERNEL(vsigmoid, v16_sigmoid)
UNARY_KERNEL(vtanh, v16_tanh)
UNARY_KERNEL(vsilu, v16_silu)
UNARY_KERNEL(vsilu_gradient, v16_silu_gradient)
UNARY_KERNEL(vsqrt, v16_sqrt)
