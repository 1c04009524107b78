/* linear.c - the activation of fully connected layers, backward. */
#include "simd/kernel_table.h"
#include "simd/vmath.h"

/* d silu'(x) = d (s + x s (1 - s)), s = sigmoid(x). */
V16_FN v16 silu_backward(v16 d, v16 x) {
    const v16 s = v16_sigmoid(x);
    const v16 slope = v16_fma(v16_mul(x, s), v16_sub(v16_set1(1.0f), s), s);
    return v16_mul(d, slope);
}

void FDM_KERNEL(silu_backward)(float *y, const float *d, const float *x, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_storeu(y + i, silu_backward(v16_loadu(d + i), v16_loadu(x + i)));
    const int tail = (int)(n - i);
    if (tail > 0) v16_store_tail(y + i, silu_backward(v16_load_tail(d + i, tail), v16_load_tail(x + i, tail)), tail);
}
