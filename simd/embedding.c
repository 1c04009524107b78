/* embedding.c - cosines and sines of c * freqs, the noise embedding. */
#include "simd/kernel_table.h"
#include "simd/vmath.h"

void FDM_KERNEL(cos_sin)(float *cos_out, float *sin_out, float c, const float *freqs, size_t n) {
    const v16 vc = v16_set1(c);
    for (size_t i = 0; i < n; i += 16) {
        const int count = n - i < 16 ? (int)(n - i) : 16;
        const struct v16_sincos r = v16_sincos(v16_mul(vc, v16_load_tail(freqs + i, count)));
        v16_store_tail(cos_out + i, r.cos, count);
        v16_store_tail(sin_out + i, r.sin, count);
    }
}
