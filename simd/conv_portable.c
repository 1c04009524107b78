/* conv_portable.c - the micro-kernel in plain C: 4 pixels x 1 vector of 16 outputs.
 *
 * The bits must be those of the FMA instruction.  Where the target has one, the compiler emits it.  Where it has
 * not, the product is exact in double (24 + 24 bits <= 53), so the sum is rounded twice: to double, then to float.
 * The two roundings differ from one only if the first lands exactly on a midpoint of two floats, which is checked
 * for. */
#include <stdint.h>
#include <string.h>

#include "simd/conv.h"

#define FDM_CONV_TILE 4
#include "simd/conv_impl.h"

#if defined(__FP_FAST_FMAF)

static inline void fma_16(float *restrict acc, const float *restrict w, float x) {
    for (int l = 0; l < CONV_L; l++) acc[l] = __builtin_fmaf(w[l], x, acc[l]);
}

#else

/* a*b + c rounded once: the double sum is first rounded to odd (its last bit set if it is inexact), after which
 * rounding to float, which keeps at least two bits fewer, is the correct rounding of the exact value. */
static float fma_exact(float a, float b, float c) {
    double product = (double)a * b, addend = c, sum = product + addend;
    double back = sum - product, error = (product - (sum - back)) + (addend - back);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    bool inexact = error > 0 || error < 0; /* false for the NaN that infinities leave */
    if (inexact && !(bits & 1)) {
        bits += (error > 0) == (sum > 0) ? 1 : (uint64_t)-1;
        memcpy(&sum, &bits, sizeof sum);
    }
    return (float)sum;
}

static inline void fma_16(float *restrict acc, const float *restrict w, float x) {
    double sum[CONV_L];
    int64_t bits[CONV_L];
    int64_t suspect = 0;
    for (int l = 0; l < CONV_L; l++) sum[l] = (double)w[l] * x + acc[l];
    memcpy(bits, sum, sizeof bits);
    /* A midpoint ends in 1 and 28 zeros; below the smallest normal float (biased exponent 897) midpoints are
     * coarser, so all of that range but zero is suspect.  Both tests: the sign bit of a difference of small
     * numbers. */
    for (int l = 0; l < CONV_L; l++) {
        int64_t off_midpoint = (bits[l] & 0x1fffffff) ^ 0x10000000;
        int64_t magnitude = bits[l] & INT64_MAX;
        suspect |= (off_midpoint - 1) | ((magnitude - ((int64_t)897 << 52)) & -magnitude);
    }
    if (__builtin_expect(suspect < 0, 0)) {
        for (int l = 0; l < CONV_L; l++) acc[l] = fma_exact(w[l], x, acc[l]);
    } else {
        for (int l = 0; l < CONV_L; l++) acc[l] = (float)sum[l];
    }
}

#endif

static void tile(float *acc, const float *x, const ptrdiff_t *pixel, const struct fdm_conv_chain *c) {
    const float *w = c->weight;
    memset(acc, 0, FDM_CONV_TILE * CONV_L * sizeof *acc);
    for (int s = 0; s < c->segments; s++) {
        const float *xs = x + c->x_segment[s];
        for (int i = 0; i < CONV_L; i++, w += CONV_L) {
            for (int p = 0; p < FDM_CONV_TILE; p++) fma_16(acc + p * CONV_L, w, xs[pixel[p] + i]);
        }
    }
}

static void chain(const struct fdm_conv_chain *c) {
    conv_run_strip(c, tile);
}

const struct fdm_conv_kernels fdm_conv_kernels_portable = {"portable", FDM_CONV_TILE, 1, chain};
