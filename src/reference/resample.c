/* resample.c - depthwise resampling by 2 with the filter F, len x len (SPEC 3 "Conv2d"):
 *
 *     down: acc[y,x] = sum_{i,j} F[i,j] in[2y+i-pad, 2x+j-pad]                       convolution, stride 2
 *     up:   acc[y,x] = sum_{i,j} 4 F[i,j] in[(y+pad-i)/2, (x+pad-j)/2]               its transpose, times 4,
 *                      over the i, j for which the divisions are exact
 *
 * with zeros beyond the border; then the bias and the epilogue (raw, residual, scale); and the backward pass.
 */
#include "reference/reference.h"

static double pixel_or_zero(const double *plane, int h, int w, int y, int x) {
    const bool inside = y >= 0 && y < h && x >= 0 && x < w;
    return inside ? plane[(size_t)y * (size_t)w + (size_t)x] : 0.0;
}

/* What the two directions share with their gradients, each being the other's but for the 4:
 *     gather:   sum_{i,j} F[i,j] plane[2y+i-pad, 2x+j-pad]
 *     scatter:  sum_{i,j} F[i,j] plane[(y+pad-i)/2, (x+pad-j)/2]   over the exact divisions; the transpose of gather */
struct taps {
    const float *filter;
    int len, pad;
};

static double gather_at(const double *plane, int h, int w, const struct taps *t, int y, int x) {
    double sum = 0.0;
    for (int i = 0; i < t->len; i++)
        for (int j = 0; j < t->len; j++)
            sum += (double)t->filter[i * t->len + j] *
                   pixel_or_zero(plane, h, w, 2 * y + i - t->pad, 2 * x + j - t->pad);
    return sum;
}

static double scatter_at(const double *plane, int h, int w, const struct taps *t, int y, int x) {
    double sum = 0.0;
    for (int i = 0; i < t->len; i++)
        for (int j = 0; j < t->len; j++) {
            const int twice_y = y + t->pad - i, twice_x = x + t->pad - j;
            if (twice_y % 2 != 0 || twice_x % 2 != 0) continue;
            sum += (double)t->filter[i * t->len + j] * pixel_or_zero(plane, h, w, twice_y / 2, twice_x / 2);
        }
    return sum;
}

void fdm_ref_resample(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                      const struct fdm_resample_args *args) {
    const struct taps t = {args->filter, args->len, args->pad};
#pragma omp parallel for collapse(2) num_threads(exec->threads) schedule(static)
    for (int n = 0; n < out->n; n++)
        for (int c = 0; c < out->c; c++) {
            const double *from = fdm_ref_at(in, n, c);
            double *to = fdm_ref_at(out, n, c);
            for (int y = 0; y < out->h; y++)
                for (int x = 0; x < out->w; x++)
                    *to++ = args->up ? 4.0 * scatter_at(from, in->h, in->w, &t, y, x)
                                     : gather_at(from, in->h, in->w, &t, y, x);
            fdm_ref_epilogue(out, n, c, 0, fdm_ref_plane(out), args->bias ? (double)args->bias[c] : 0.0,
                             &args->epilogue);
        }
}

/* The leaves of d_bias, (N, C). */
size_t fdm_ref_resample_backward_scratch(int n, int c, int h, int w, int threads) {
    (void)h, (void)w, (void)threads;
    return fdm_ref_bytes(n, c, 1, 1);
}

/* out = scale (4 scatter(in) + ...):  d_in = scale 4 gather(d_out);   out = scale (gather(in) + ...):  d_in = scale
 * scatter(d_out). */
static void resample_d_in(const struct fdm_exec *exec, const struct fdm_map *d_out,
                          const struct fdm_resample_backward_args *args) {
    const struct taps t = {args->filter, args->len, args->pad};
    const struct fdm_map *d_in = args->d_in.map;
#pragma omp parallel for collapse(2) num_threads(exec->threads) schedule(static)
    for (int n = 0; n < d_in->n; n++)
        for (int c = 0; c < d_in->c; c++) {
            const double *from = fdm_ref_at(d_out, n, c);
            double *to = fdm_ref_at(d_in, n, c);
            for (int y = 0; y < d_in->h; y++)
                for (int x = 0; x < d_in->w; x++) {
                    const double d = args->up ? 4.0 * gather_at(from, d_out->h, d_out->w, &t, y, x)
                                              : scatter_at(from, d_out->h, d_out->w, &t, y, x);
                    fdm_ref_deliver(to++, &d, 1, args->scale, args->d_in.accumulate);
                }
        }
}

/* out = scale (acc + bias[c] + residual):   d_residual = scale d_out,   d_bias[c] = scale sum d_out[c,y,x]. */
void fdm_ref_resample_backward(const struct fdm_exec *exec, const struct fdm_map *d_out,
                               const struct fdm_resample_backward_args *args) {
    if (args->d_in.map) resample_d_in(exec, d_out, args);
    fdm_ref_deliver_map(exec, args->d_residual, d_out, args->scale);
    if (args->d_bias) fdm_ref_bias_gradient(args->d_bias, exec->scratch, d_out, args->scale);
}
