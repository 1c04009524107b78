/* elementwise.c - arithmetic over arrays, and sums and maxima of them. */
#include <string.h>

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

/* 4 x 4 at a time, in the GNU vectors that every target has. */
typedef float quad __attribute__((vector_size(16)));

V16_FN quad load_quad(const float *p) {
    quad q;
    memcpy(&q, p, sizeof q);
    return q;
}

static void transpose_quads(float *dst, ptrdiff_t dst_row, const float *src, ptrdiff_t src_row) {
    const quad a = load_quad(src), b = load_quad(src + src_row), c = load_quad(src + 2 * src_row),
               d = load_quad(src + 3 * src_row);
    const quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const quad out[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                         __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5),
                         __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++) memcpy(dst + i * dst_row, &out[i], sizeof out[i]);
}

void FDM_KERNEL(transpose)(float *dst, ptrdiff_t dst_row, const float *src, ptrdiff_t src_row, int rows,
                           int columns) {
    const int whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
    for (int c = 0; c < whole_columns; c += 4) {
        for (int r = 0; r < whole_rows; r += 4) {
            transpose_quads(dst + c * dst_row + r, dst_row, src + r * src_row + c, src_row);
        }
    }
    for (int c = 0; c < columns; c++) {
        for (int r = c < whole_columns ? whole_rows : 0; r < rows; r++) dst[c * dst_row + r] = src[r * src_row + c];
    }
}

void FDM_KERNEL(split_triplets)(float *a, float *b, float *c, const float *x, float divisor, size_t n) {
    for (size_t i = 0; i < n; i++) {
        a[i] = x[3 * i];
        b[i] = x[3 * i + 1] / divisor;
        c[i] = x[3 * i + 2];
    }
}

void FDM_KERNEL(merge_triplets)(float *x, const float *a, const float *b, const float *c, float divisor, size_t n) {
    for (size_t i = 0; i < n; i++) {
        x[3 * i] = a[i];
        x[3 * i + 1] = b[i] / divisor;
        x[3 * i + 2] = c[i];
    }
}
