/* conv_portable.c - the micro-kernel in plain C: 4 pixels x 1 vector of 16 outputs.
 *
 * Where the target has no fused multiply-add, v16_fma would work in double and round to odd, lane by lane.  Here
 * the accumulators stay in double (always holding a float), weights are widened once per tile, and rounding to odd
 * is left to the rare link that needs it: 3.3 times as fast, the same bits. */
#include <string.h>

#include "simd/conv.h"
#include "simd/v16.h"

#define FDM_CONV_TILE 4
#define FDM_CONV_VECTORS 1

#if !defined(__FP_FAST_FMAF)
#define FDM_CONV_OWN_ACCUMULATE

/* 16 lanes as 8 pairs, the vectors of GNU C that every 64-bit target can hold in registers. */
typedef double pair __attribute__((vector_size(16)));
typedef int64_t pair_bits __attribute__((vector_size(16)));
typedef float pair_f32 __attribute__((vector_size(8)));
enum { PAIRS = 8 };

static pair widen(const float *f) {
    pair_f32 narrow;
    memcpy(&narrow, f, sizeof narrow);
    return __builtin_convertvector(narrow, pair);
}

/* `rounded` is volatile because gcc 12 -O3 otherwise drops the rounding to float on the way from lane_fma's double to
 * acc's (seen in the assembly: no cvtpd2ps). */
static __attribute__((noinline)) void fma_exact(pair acc[PAIRS], const pair weight[PAIRS], double x) {
    for (int j = 0; j < PAIRS; j++) {
        for (int l = 0; l < 2; l++) {
            volatile float rounded = v16_lane_fma((float)weight[j][l], (float)x, (float)acc[j][l]);
            acc[j][l] = (double)rounded;
        }
    }
}

/* acc = weight * x + acc rounded to float.  The product is exact in double (24 + 24 bits <= 53), so the sum is
 * rounded twice, to double and to float, which matters only if the first rounding lands on a midpoint of two
 * floats: the low 29 bits are then 1 followed by zeros.  Below the smallest normal float (biased exponent 897)
 * midpoints are coarser, so all of that range but zero counts as suspect.  Both tests leave their answer in the
 * sign bit. */
V16_FN void fma_16(pair acc[PAIRS], const pair weight[PAIRS], double x) {
    pair sum[PAIRS];
    pair_bits suspect = {0};
    for (int j = 0; j < PAIRS; j++) {
        sum[j] = weight[j] * x + acc[j];
        const pair_bits bits = (pair_bits)sum[j], magnitude = bits & INT64_MAX;
        suspect |= ((bits & 0x1fffffff) ^ 0x10000000) - 1;
        suspect |= (magnitude - ((int64_t)897 << 52)) & -magnitude;
    }
    if (__builtin_expect((suspect[0] | suspect[1]) < 0, 0)) {
        fma_exact(acc, weight, x);
        return;
    }
    for (int j = 0; j < PAIRS; j++)
        acc[j] = __builtin_convertvector(__builtin_convertvector(sum[j], pair_f32), pair);
}

V16_FN void conv_accumulate(v16 result[FDM_CONV_TILE][FDM_CONV_VECTORS], const struct fdm_conv_chain *c,
                            const ptrdiff_t *x_pixel, const int V) {
    pair acc[FDM_CONV_TILE][PAIRS] = {{{0}}};
    const float *w = c->weight;
    (void)V; /* 1 */
    for (int s = 0; s < c->segments; s++) {
        const float *x = c->x + c->x_segment[s];
        for (int i = 0; i < V16_LANES; i++, w += V16_LANES) {
            pair weight[PAIRS];
            for (int j = 0; j < PAIRS; j++) weight[j] = widen(w + 2 * j);
            for (int p = 0; p < FDM_CONV_TILE; p++) fma_16(acc[p], weight, (double)x[x_pixel[p] + i]);
        }
    }
    for (int p = 0; p < FDM_CONV_TILE; p++) {
        for (int l = 0; l < V16_LANES; l++) result[p][0].v[l] = (float)acc[p][l / 2][l % 2];
    }
}

V16_FN void pixel_accumulate(v16 result[FDM_CONV_TILE][FDM_CONV_VECTORS], const struct fdm_conv_pixel_chain *c,
                             const ptrdiff_t *x_row, const ptrdiff_t x_step, const int V) {
    pair acc[FDM_CONV_TILE][PAIRS] = {{{0}}};
    (void)V; /* 1 */
    for (int line = 0; line < c->lines; line++) {
        const float *d = c->d + line * c->d_line, *x = c->x + line * c->x_line;
        for (int p = 0; p < c->width; p++, d += V16_LANES, x += x_step) {
            pair vector[PAIRS];
            for (int j = 0; j < PAIRS; j++) vector[j] = widen(d + 2 * j);
            for (int r = 0; r < FDM_CONV_TILE; r++) fma_16(acc[r], vector, (double)x[x_row[r]]);
        }
    }
    for (int r = 0; r < FDM_CONV_TILE; r++) {
        for (int l = 0; l < V16_LANES; l++) result[r][0].v[l] = (float)acc[r][l / 2][l % 2];
    }
}
#endif

#include "simd/conv_impl.h"

static void chain(const struct fdm_conv_chain *c) {
    conv_strip(c, 1);
}

static void pixel_chain(const struct fdm_conv_pixel_chain *c) { pixel_rows(c, 1); }

const struct fdm_conv_kernels fdm_conv_kernels_portable = {"portable", FDM_CONV_TILE, FDM_CONV_VECTORS, chain,
                                                           pixel_chain};
