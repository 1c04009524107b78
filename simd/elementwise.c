/* elementwise.c - arithmetic over arrays, and sums and maxima of them. */
#include "simd/kernel_table.h"
#include "simd/v16.h"

void FDM_KERNEL(vfma)(float *y, const float *a, const float *b, const float *c, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_storeu(y + i, v16_fma(v16_loadu(a + i), v16_loadu(b + i), v16_loadu(c + i)));
    const int tail = (int)(n - i);
    if (tail > 0)
        v16_store_tail(y + i,
                       v16_fma(v16_load_tail(a + i, tail), v16_load_tail(b + i, tail), v16_load_tail(c + i, tail)),
                       tail);
}

void FDM_KERNEL(vdiv)(float *y, const float *a, const float *b, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_storeu(y + i, v16_div(v16_loadu(a + i), v16_loadu(b + i)));
    const int tail = (int)(n - i);
    if (tail > 0) v16_store_tail(y + i, v16_div(v16_load_tail(a + i, tail), v16_load_tail(b + i, tail)), tail);
}

void FDM_KERNEL(mul_wide)(int32_t *high, int32_t *low, const int32_t *a, const int32_t *b, size_t n) {
    for (size_t i = 0; i + 16 <= n; i += 16) {
        const v16i_wide product = v16i_mul_wide(v16i_loadu(a + i), v16i_loadu(b + i));
        v16i_storeu(high + i, product.high);
        v16i_storeu(low + i, product.low);
    }
}

void FDM_KERNEL(scale)(float *y, const float *x, float s, size_t n) {
    const v16 vs = v16_set1(s);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_storeu(y + i, v16_mul(v16_loadu(x + i), vs));
    const int tail = (int)(n - i);
    if (tail > 0) v16_store_tail(y + i, v16_mul(v16_load_tail(x + i, tail), vs), tail);
}

void FDM_KERNEL(scale_add)(float *y, const float *x, float s, size_t n) {
    const v16 vs = v16_set1(s);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        v16_storeu(y + i, v16_add(v16_loadu(y + i), v16_mul(v16_loadu(x + i), vs)));
    const int tail = (int)(n - i);
    if (tail > 0)
        v16_store_tail(y + i, v16_add(v16_load_tail(y + i, tail), v16_mul(v16_load_tail(x + i, tail), vs)), tail);
}

void FDM_KERNEL(plane_sum)(float sum[16], struct fdm_const_plane x, int h, int w) {
    v16 total = v16_zero();
    for (int y = 0; y < h; y++) {
        v16 line = v16_zero();
        for (int i = 0; i < w; i++) line = v16_add(line, v16_load(x.p + y * x.row + (ptrdiff_t)i * 16));
        total = v16_add(total, line);
    }
    v16_storeu(sum, total);
}

void FDM_KERNEL(add_scale)(float *y, const float *a, const float *b, float s, size_t n) {
    const v16 vs = v16_set1(s);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) v16_storeu(y + i, v16_mul(v16_add(v16_loadu(a + i), v16_loadu(b + i)), vs));
    const int tail = (int)(n - i);
    if (tail > 0)
        v16_store_tail(y + i, v16_mul(v16_add(v16_load_tail(a + i, tail), v16_load_tail(b + i, tail)), vs), tail);
}

void FDM_KERNEL(sum)(float *result, const float *x, size_t n) {
    v16 s = v16_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) s = v16_add(s, v16_loadu(x + i));
    if (i < n) s = v16_add(s, v16_load_tail(x + i, (int)(n - i)));
    *result = v16_hsum(s);
}

void FDM_KERNEL(max)(float *result, const float *x, size_t n) {
    v16 m = v16_set1(-__builtin_inff());
    size_t i = 0;
    for (; i + 16 <= n; i += 16) m = v16_max(m, v16_loadu(x + i));
    if (i < n) {
        /* the zeros of a tail load must not count */
        float last[16];
        for (size_t j = 0; j < 16; j++) last[j] = i + j < n ? x[i + j] : -__builtin_inff();
        m = v16_max(m, v16_loadu(last));
    }
    *result = v16_hmax(m);
}

void FDM_KERNEL(copy_lanes)(float *y, const float *x, int to, int from, int count, size_t n) {
    for (size_t i = 0; i < n; i++) v16_store_tail(y + 16 * i + to, v16_load_tail(x + 16 * i + from, count), count);
}

void FDM_KERNEL(add_lanes)(float *y, const float *x, int to, int from, int count, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float *at = y + 16 * i + to;
        v16_store_tail(at, v16_add(v16_load_tail(at, count), v16_load_tail(x + 16 * i + from, count)), count);
    }
}
