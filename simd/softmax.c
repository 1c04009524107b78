/* softmax.c - rows of attention weights: e^(x - max) / sum of them. */
#include "simd/kernel_table.h"
#include "simd/vmath.h"

/* x[0..len) = e^(x - max); returns their sum: lane j adds elements j, j+16, ... in order, then the fixed tree. */
static float exp_and_sum(float *x, int len, float max) {
    const v16 vmax = v16_set1(max);
    v16 sum = v16_zero();
    int i = 0;
    for (; i + 16 <= len; i += 16) {
        const v16 e = v16_exp(v16_sub(v16_loadu(x + i), vmax));
        v16_storeu(x + i, e);
        sum = v16_add(sum, e);
    }
    if (i < len) {
        const int tail = len - i;
        v16_store_tail(x + i, v16_exp(v16_sub(v16_load_tail(x + i, tail), vmax)), tail);
        sum = v16_add(sum, v16_load_tail(x + i, tail)); /* again, for zeros beyond the end */
    }
    return v16_hsum(sum);
}

void FDM_KERNEL(softmax_rows)(float *rows, int n_rows, int len, ptrdiff_t stride) {
    for (int r = 0; r < n_rows; r++) {
        float *x = rows + r * stride, max;
        FDM_KERNEL(max)(&max, x, (size_t)len);
        const v16 sum = v16_set1(exp_and_sum(x, len, max));
        int i = 0;
        for (; i + 16 <= len; i += 16) v16_storeu(x + i, v16_div(v16_loadu(x + i), sum));
        if (i < len) v16_store_tail(x + i, v16_div(v16_load_tail(x + i, len - i), sum), len - i);
    }
}

static float dot(const float *a, const float *b, int len) {
    v16 sum = v16_zero();
    int i = 0;
    for (; i + 16 <= len; i += 16) sum = v16_fma(v16_loadu(a + i), v16_loadu(b + i), sum);
    if (i < len) sum = v16_fma(v16_load_tail(a + i, len - i), v16_load_tail(b + i, len - i), sum);
    return v16_hsum(sum);
}

void FDM_KERNEL(softmax_backward)(float *d, const float *p, int n_rows, int len, ptrdiff_t stride) {
    for (int r = 0; r < n_rows; r++, d += stride, p += stride) {
        const v16 mean = v16_set1(dot(d, p, len));
        int i = 0;
        for (; i + 16 <= len; i += 16)
            v16_storeu(d + i, v16_mul(v16_loadu(p + i), v16_sub(v16_loadu(d + i), mean)));
        const int tail = len - i;
        if (tail > 0)
            v16_store_tail(d + i, v16_mul(v16_load_tail(p + i, tail), v16_sub(v16_load_tail(d + i, tail), mean)),
                           tail);
    }
}
