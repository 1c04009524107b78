/* embedding.c - the noise embedding (SPEC 3 "Embedding"): [cos a, sin a], a = c_noise * freqs, in f32. */
#include <math.h>
#include <string.h>

#include "nn/f32_layers.h"
#include "simd/kernel_table.h"

/* Packed: the frequencies as f32, with Fourier's 2 pi multiplied in. */
size_t fdm_f32_freqs_packed_bytes(int half) {
    return (size_t)half * sizeof(float);
}

/* Rounded step by step as the published program does, in f32: the exponent i / (half - 1), then 0.0001^exponent;
 * 2 pi, then its product with the buffer. */
void fdm_f32_freqs_pack(void *packed, const float *fourier, int half) {
    float *freqs = packed;
    for (int i = 0; i < half; i++) {
        if (fourier) {
            freqs[i] = (float)6.283185307179586 * fourier[i];
        } else {
            const float exponent = (float)i / (float)(half - 1);
            freqs[i] = (float)pow((double)0.0001f, (double)exponent);
        }
    }
}

void fdm_f32_noise_embedding(const struct fdm_exec *exec, struct fdm_vec *out, const double *c_noise,
                             const void *freqs) {
    const int half = out->c / 2;
    for (int n = 0; n < out->n; n++) {
        float *row = (float *)out->data + (ptrdiff_t)n * out->c;
        exec->kernels->cos_sin(row, row + half, (float)c_noise[n], freqs, (size_t)half);
    }
}

void fdm_f32_swap_halves(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in) {
    (void)exec;
    const size_t half = (size_t)in->c / 2;
    for (int n = 0; n < in->n; n++) {
        const float *from = (const float *)in->data + (ptrdiff_t)n * in->c;
        float *to = (float *)out->data + (ptrdiff_t)n * out->c;
        memcpy(to, from + half, half * sizeof *to);
        memcpy(to + half, from, half * sizeof *to);
    }
}
