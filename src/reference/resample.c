/* resample.c - depthwise resampling by 2 with the filter F, len x len (SPEC 3 "Conv2d"):
 *
 *     down: acc[y,x] = sum_{i,j} F[i,j] in[2y+i-pad, 2x+j-pad]                       convolution, stride 2
 *     up:   acc[y,x] = sum_{i,j} 4 F[i,j] in[(y+pad-i)/2, (x+pad-j)/2]               its transpose, times 4,
 *                      over the i, j for which the divisions are exact
 *
 * with zeros beyond the border; then the bias and the epilogue (raw, residual, scale).
 */
#include "reference/reference.h"

static double pixel_or_zero(const double *plane, int h, int w, int y, int x) {
    const bool inside = y >= 0 && y < h && x >= 0 && x < w;
    return inside ? plane[(size_t)y * (size_t)w + (size_t)x] : 0.0;
}

static double down_at(const double *plane, int h, int w, const struct fdm_resample_args *args, int y, int x) {
    double sum = 0.0;
    for (int i = 0; i < args->len; i++)
        for (int j = 0; j < args->len; j++)
            sum += (double)args->filter[i * args->len + j] *
                   pixel_or_zero(plane, h, w, 2 * y + i - args->pad, 2 * x + j - args->pad);
    return sum;
}

static double up_at(const double *plane, int h, int w, const struct fdm_resample_args *args, int y, int x) {
    double sum = 0.0;
    for (int i = 0; i < args->len; i++)
        for (int j = 0; j < args->len; j++) {
            const int twice_y = y + args->pad - i, twice_x = x + args->pad - j;
            if (twice_y % 2 != 0 || twice_x % 2 != 0) continue;
            sum += 4.0 * (double)args->filter[i * args->len + j] *
                   pixel_or_zero(plane, h, w, twice_y / 2, twice_x / 2);
        }
    return sum;
}

void fdm_ref_resample(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                      const struct fdm_resample_args *args) {
#pragma omp parallel for collapse(2) num_threads(exec->threads) schedule(static)
    for (int n = 0; n < out->n; n++)
        for (int c = 0; c < out->c; c++) {
            const double *from = fdm_ref_at(in, n, c);
            double *to = fdm_ref_at(out, n, c);
            for (int y = 0; y < out->h; y++)
                for (int x = 0; x < out->w; x++)
                    to[(size_t)y * (size_t)out->w + (size_t)x] =
                        args->up ? up_at(from, in->h, in->w, args, y, x) : down_at(from, in->h, in->w, args, y, x);
            fdm_ref_epilogue(out, n, c, 0, fdm_ref_plane(out), args->bias ? (double)args->bias[c] : 0.0,
                             &args->epilogue);
        }
}
