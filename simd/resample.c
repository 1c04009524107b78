/* resample.c - one row of depthwise resampling by 2; each vector holds the 16 channels of a pixel. */
#include "base/base.h"
#include "simd/kernel_table.h"
#include "simd/v16.h"

/* The chain of output pixel x: taps j = first, first + step, ... < end of every row. */
V16_FN v16 pixel_sum(const struct fdm_resample_row *r, int x) {
    int first, end, step;
    if (r->up) { /* ix = (x + pad - j)/2 within the input */
        const int top = x + r->pad;
        first = fdm_max_int(top & 1, top - 2 * (r->in_w - 1)); /* both have the parity of top */
        end = fdm_min_int(r->len, top + 1);
        step = 2;
    } else { /* ix = 2x + j - pad within the input */
        first = fdm_max_int(0, r->pad - 2 * x);
        end = fdm_min_int(r->len, r->in_w + r->pad - 2 * x);
        step = 1;
    }
    v16 sum = v16_zero();
    for (int t = 0; t < r->rows; t++) {
        const float *in = r->in + t * r->in_row;
        for (int j = first; j < end; j += step) {
            const int ix = r->up ? (x + r->pad - j) / 2 : 2 * x + j - r->pad;
            sum = v16_fma(v16_set1(r->filter[t * r->filter_row + j]), v16_load(in + 16 * (ptrdiff_t)ix), sum);
        }
    }
    return sum;
}

void FDM_KERNEL(resample_row)(const struct fdm_resample_row *r) {
    const v16 scale = v16_set1(r->scale);
    for (int x = 0; x < r->w; x++) {
        v16 v = pixel_sum(r, x);
        if (r->bias) v = v16_add(v, v16_loadu(r->bias));
        if (r->raw) v16_store(r->raw + 16 * (ptrdiff_t)x, v);
        if (r->residual) v = v16_add(v, v16_load(r->residual + 16 * (ptrdiff_t)x));
        v16_store(r->out + 16 * (ptrdiff_t)x, v16_mul(v, scale));
    }
}
