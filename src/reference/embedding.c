/* embedding.c - noise embedding (SPEC 3 "Embedding"), K = 2*half values of
 *
 *     out[n] = [cos a, sin a],  a_i = c_noise[n] * f_i
 *     positional: f_i = 10000^(-i/(half-1))      Fourier: f_i = 2 pi * freqs_i
 */
#include "reference/reference.h"

#include <math.h>

size_t fdm_ref_freqs_packed_bytes(int half) { return fdm_ref_bytes(half, 1, 1, 1); }

void fdm_ref_freqs_pack(void *packed, const float *fourier, int half) {
    double *f = packed;
    const double two_pi = 6.283185307179586476925286766559;
    const double last = half > 1 ? half - 1 : 1; /* half = 1: only f_0 = 1 */
    for (int i = 0; i < half; i++) f[i] = fourier ? two_pi * (double)fourier[i] : pow(10000.0, -i / last);
}

void fdm_ref_noise_embedding(const struct fdm_exec *exec, struct fdm_vec *out, const double *c_noise,
                             const void *freqs) {
    (void)exec;
    const size_t half = (size_t)out->c / 2;
    const double *f = freqs;
    for (size_t n = 0; n < (size_t)out->n; n++) {
        double *row = (double *)out->data + n * (size_t)out->c;
        for (size_t i = 0; i < half; i++) {
            row[i] = cos(c_noise[n] * f[i]);
            row[half + i] = sin(c_noise[n] * f[i]);
        }
    }
}

/* out = [second half of in, first half of in] */
void fdm_ref_swap_halves(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in) {
    (void)exec;
    const size_t half = (size_t)in->c / 2;
    for (size_t n = 0; n < (size_t)in->n; n++) {
        const double *x = (const double *)in->data + n * (size_t)in->c;
        double *y = (double *)out->data + n * (size_t)in->c;
        for (size_t i = 0; i < half; i++) {
            y[i] = x[half + i];
            y[half + i] = x[i];
        }
    }
}
