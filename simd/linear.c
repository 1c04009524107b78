/* linear.c - the activation of fully connected layers, backward. */
#include "simd/kernel_table.h"
#include "simd/vmath.h"

V16_FN v16 silu_backward(v16 d, v16 x) { return v16_mul(d, v16_silu_gradient(x)); }

void FDM_KERNEL(silu_backward)(float *y, const float *d, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_storeu(y + i, silu_backward(v16_loadu(d + i), v16_loadu(x + i)));
    const int tail = (int)(n - i);
    if (tail > 0)
        v16_store_tail(y + i, silu_backward(v16_load_tail(d + i, tail), v16_load_tail(x + i, tail)), tail);
}
