/* winograd.c - the transforms of winograd.h: the one-dimensional maps of each m, and the adjoints of m = 2. */
#include "simd/winograd.h"

#include <string.h>

#include "simd/kernel_table.h"
#include "simd/v16.h"

/* ---- some lanes in double precision, as many as fit a register: GNU C's vectors, whose operations are IEEE's ---- */

#if defined(FDM_ISA_AVX512)
enum { LANES_F64 = 8 };
#elif defined(FDM_ISA_AVX2)
enum { LANES_F64 = 4 };
#else
enum { LANES_F64 = 2 };
#endif
typedef double f64 __attribute__((vector_size(LANES_F64 * sizeof(double))));
typedef float f64_as_f32 __attribute__((vector_size(LANES_F64 * sizeof(float))));

V16_FN f64 f64_load(const float *p) {
    f64_as_f32 narrow;
    memcpy(&narrow, p, sizeof narrow);
    return __builtin_convertvector(narrow, f64);
}

V16_FN void f64_store(float *p, f64 x) {
    const f64_as_f32 narrow = __builtin_convertvector(x, f64_as_f32);
    memcpy(p, &narrow, sizeof narrow);
}

/* ---- F(2x2, 3x3): points 0, 1, -1, infinity ---- */

/*       1  0 -1  0
 * B^T = 0  1  1  0
 *       0 -1  1  0
 *       0  1  0 -1 */
V16_FN void input2(v16 to[4], const v16 d[4]) {
    to[0] = v16_sub(d[0], d[2]);
    to[1] = v16_add(d[1], d[2]);
    to[2] = v16_sub(d[2], d[1]);
    to[3] = v16_sub(d[1], d[3]);
}

V16_FN v16 input2_row(const float *const *d, ptrdiff_t at, const int r) {
    static const int plus[] = {0, 1, 2, 1}, other[] = {2, 2, 1, 3};
    const v16 a = v16_load(d[plus[r]] + at), b = v16_load(d[other[r]] + at);
    return r == 1 ? v16_add(a, b) : v16_sub(a, b);
}

/* A^T = 1 1  1  0
 *       0 1 -1 -1 */
V16_FN void output2(v16 to[2], const v16 m[4]) {
    to[0] = v16_add(v16_add(m[0], m[1]), m[2]);
    to[1] = v16_sub(v16_sub(m[1], m[2]), m[3]);
}

/* G = 1, (1 1 1)/2, (1 -1 1)/2, 1 */
V16_FN void weight2(f64 to[4], const f64 g[3]) {
    const f64 even = g[0] + g[2];
    to[0] = g[0];
    to[1] = 0.5 * (even + g[1]);
    to[2] = 0.5 * (even - g[1]);
    to[3] = g[2];
}

#define WINOGRAD_M 2
#define WINOGRAD_NAME(part) winograd2_##part
#define INPUT_1D input2
#define INPUT_ROW input2_row
#define OUTPUT_1D output2
#define OUTPUT_MATRIX {{1, 1, 1, 0}, {0, 1, -1, -1}}
#define WEIGHT_1D weight2
#include "simd/winograd_impl.h"
#undef WINOGRAD_M
#undef WINOGRAD_NAME
#undef INPUT_1D
#undef INPUT_ROW
#undef OUTPUT_1D
#undef OUTPUT_MATRIX
#undef WEIGHT_1D

/* ---- F(4x4, 3x3): points 0, 1, -1, 1/2, -2, infinity ---- */

/*        1  -3/2  -2   3/2  1  0
 *        0   -1   1/2  5/2  1  0        a = d3 - d1, b = d4 - d2:
 * B^T =  0    1  -5/2  1/2  1  0        row 3 = b + 2 a, row 4 = b - a/2
 *        0   -2   -1    2   1  0
 *        0   1/2  -1  -1/2  1  0
 *        0    1  -3/2  -2  3/2 1 */
V16_FN void input4(v16 to[6], const v16 d[6]) {
    const v16 a = v16_sub(d[3], d[1]), b = v16_sub(d[4], d[2]);
    const v16 half = v16_set1(0.5f), three_halves = v16_set1(1.5f), two = v16_set1(2), five_halves = v16_set1(2.5f);
    to[0] = v16_fma(three_halves, a, v16_fnma(two, d[2], v16_add(d[0], d[4])));
    to[1] = v16_fma(five_halves, d[3], v16_fma(half, d[2], v16_sub(d[4], d[1])));
    to[2] = v16_fnma(five_halves, d[2], v16_fma(half, d[3], v16_add(d[4], d[1])));
    to[3] = v16_fma(two, a, b);
    to[4] = v16_fnma(half, a, b);
    to[5] = v16_fma(three_halves, b, v16_fnma(two, d[3], v16_add(d[1], d[5])));
}

/* What is not used for line r is not loaded: r is a constant. */
V16_FN v16 input4_row(const float *const *d, ptrdiff_t at, const int r) {
    v16 from[6], to[6];
    for (int i = 0; i < 6; i++) from[i] = v16_load(d[i] + at);
    input4(to, from);
    return to[r];
}

/*       1 1  1   1   1  0
 * A^T = 0 1 -1  1/2 -2  0
 *       0 1  1  1/4  4  0
 *       0 1 -1  1/8 -8  1 */
V16_FN void output4(v16 to[4], const v16 m[6]) {
    const v16 sum = v16_add(m[1], m[2]), difference = v16_sub(m[1], m[2]);
    to[0] = v16_add(v16_add(m[0], sum), v16_add(m[3], m[4]));
    to[1] = v16_fnma(v16_set1(2), m[4], v16_fma(v16_set1(0.5f), m[3], difference));
    to[2] = v16_fma(v16_set1(4), m[4], v16_fma(v16_set1(0.25f), m[3], sum));
    to[3] = v16_add(v16_fnma(v16_set1(8), m[4], v16_fma(v16_set1(0.125f), m[3], difference)), m[5]);
}

/* G = 1, (1 1 1)/3, (-1 1 -1)/3, -(16 8 4)/15, (1 -2 4)/15, 1 */
V16_FN void weight4(f64 to[6], const f64 g[3]) {
    const double third = 1.0 / 3, fifteenth = 1.0 / 15;
    const f64 even = g[0] + g[2];
    to[0] = g[0];
    to[1] = third * (even + g[1]);
    to[2] = third * (g[1] - even);
    to[3] = -fifteenth * (16 * g[0] + 8 * g[1] + 4 * g[2]);
    to[4] = fifteenth * (g[0] - 2 * g[1] + 4 * g[2]);
    to[5] = g[2];
}

#define WINOGRAD_M 4
#define WINOGRAD_NAME(part) winograd4_##part
#define INPUT_1D input4
#define INPUT_ROW input4_row
#define OUTPUT_1D output4
#define OUTPUT_MATRIX {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 0.5f, -2, 0}, {0, 1, 1, 0.25f, 4, 0}, {0, 1, -1, 0.125f, -8, 1}}
#define WEIGHT_1D weight4
#include "simd/winograd_impl.h"

/* ---- adjoints of F(2x2, 3x3), for the gradient of the weights ---- */

/* A = 1 0, 1 1, 1 -1, 0 -1 */
V16_FN void spread2(v16 to[4], v16 y0, v16 y1) {
    to[0] = y0;
    to[1] = v16_add(y0, y1);
    to[2] = v16_sub(y0, y1);
    to[3] = v16_neg(y1);
}

V16_FN v16 spread2_row(v16 y0, v16 y1, int row) {
    return row == 0 ? y0 : row == 1 ? v16_add(y0, y1) : row == 2 ? v16_sub(y0, y1) : v16_neg(y1);
}

void FDM_KERNEL(winograd2_spread)(const struct fdm_winograd_spread *a) {
    for (ptrdiff_t t = 0; t < a->tiles; t++) {
        v16 half[2], to[4]; /* half: a row of A dY */
        for (int c = 0; c < 2; c++) {
            const float *d = a->d_out + (2 * t + c) * V16_LANES;
            const bool exists = 2 * t + c < a->columns;
            const v16 y0 = exists ? v16_load(d) : v16_zero();
            const v16 y1 = exists && a->lines > 1 ? v16_load(d + a->d_line) : v16_zero();
            half[c] = spread2_row(y0, y1, a->row);
        }
        spread2(to, half[0], half[1]);
        for (int c = 0; c < 4; c++) v16_store(a->m + c * a->m_point + t * V16_LANES, to[c]);
    }
}

/* G^T: (u0 + (u1 + u2)/2, (u1 - u2)/2, (u1 + u2)/2 + u3) */
V16_FN void gather2(v16 to[3], const v16 u[4]) {
    const v16 half = v16_set1(0.5f), even = v16_mul(half, v16_add(u[1], u[2]));
    to[0] = v16_add(u[0], even);
    to[1] = v16_mul(half, v16_sub(u[1], u[2]));
    to[2] = v16_add(even, u[3]);
}

/* The same for a row of dU at a time: tap (0..2, c) of dg from what row `row` gives, to[c]. */
V16_FN void gather2_add(float *dg, ptrdiff_t tap, v16 value, int row, v16 scale) {
    const v16 half = v16_mul(v16_set1(0.5f), value);
    float *dg0 = dg, *dg1 = dg + 3 * tap, *dg2 = dg + 6 * tap;
    switch (row) {
    case 0: v16_store(dg0, value); break;
    case 1:
        v16_store(dg0, v16_add(v16_load(dg0), half));
        v16_store(dg1, half);
        v16_store(dg2, half);
        break;
    case 2:
        v16_store(dg0, v16_mul(v16_add(v16_load(dg0), half), scale));
        v16_store(dg1, v16_mul(v16_sub(v16_load(dg1), half), scale));
        v16_store(dg2, v16_add(v16_load(dg2), half));
        break;
    default: v16_store(dg2, v16_mul(v16_add(v16_load(dg2), value), scale)); break;
    }
}

void FDM_KERNEL(winograd2_gather)(const struct fdm_winograd_gather *a) {
    const ptrdiff_t tap = (ptrdiff_t)a->vectors * V16_LANES;
    const v16 scale = v16_set1(a->scale);
    for (ptrdiff_t i = 0; i < a->channels; i++) {
        for (ptrdiff_t v = 0; v < a->vectors; v++) {
            v16 from[4], to[3];
            for (int c = 0; c < 4; c++) from[c] = v16_load(a->u + c * a->u_point + i * tap + v * V16_LANES);
            gather2(to, from);
            for (int c = 0; c < 3; c++)
                gather2_add(a->dg + (i * 9 + c) * tap + v * V16_LANES, tap, to[c], a->row, scale);
        }
    }
}
