/* conv2d.c - 2-D convolution, SPEC 3 "Conv2d":
 *
 *     out[n,o,y,x] = bias[o] + sum_{i,ky,kx} weight[o,i,ky,kx] * in[n,i,y+ky-pad,x+kx-pad]
 *
 * with zeros beyond the border, the bias added last, then the epilogue (raw, residual, scale).
 *
 * For a band of output rows the sum over (i,ky,kx) is the matrix product weight (O x I*k*k) times
 * columns (I*k*k x pixels), columns[(i,ky,kx)][(y,x)] = in[n,i,y+ky-pad,x+kx-pad] or 0.  The band's height
 * depends on the shape alone, so that no bit depends on the threads or on the batch.
 */
#include "reference/reference.h"

/* The columns of a band stay below this where one row allows it: they should stay in the outer caches. */
enum { BAND_BYTES = 4 << 20 };
/* Output channels of one matrix product: the unit of work of a thread. */
enum { CHANNEL_SLICE = 64 };

/* Output rows of a band. */
static int band_rows(int in_channels, int k, int out_h, int out_w) {
    const size_t row_bytes = fdm_ref_bytes(in_channels, k, k, out_w);
    const size_t rows = BAND_BYTES / (row_bytes ? row_bytes : 1);
    return rows < 1 ? 1 : rows < (size_t)out_h ? (int)rows : out_h;
}

size_t fdm_ref_conv2d_scratch(int n, int in_channels, int out_channels, int k, int out_h, int out_w, int threads) {
    (void)n, (void)out_channels, (void)threads;
    size_t bytes;
    if (!fdm_mul_size(&bytes, fdm_ref_bytes(in_channels, k, k, out_w),
                      (size_t)band_rows(in_channels, k, out_h, out_w)))
        return SIZE_MAX;
    return bytes;
}

/* Packed: the weights [out][in][k][k] as doubles, then the biases [out]. */
size_t fdm_ref_conv2d_packed_bytes(int out_channels, int in_channels, int k) {
    const size_t weights = fdm_ref_bytes(out_channels, in_channels, k, k);
    size_t bytes;
    return fdm_add_size(&bytes, weights, fdm_ref_bytes(out_channels, 1, 1, 1)) ? bytes : SIZE_MAX;
}

void fdm_ref_conv2d_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                         int out_channels, int in_channels, int k) {
    (void)exec;
    double *to = packed;
    const size_t weights = (size_t)out_channels * (size_t)in_channels * (size_t)k * (size_t)k;
    for (size_t i = 0; i < weights; i++) to[i] = (double)weight[i];
    for (int o = 0; o < out_channels; o++) to[weights + (size_t)o] = bias ? (double)bias[o] : 0.0;
}

/* One row of the columns matrix for output rows y0..y1-1: the input plane shifted by (dy, dx), zeros beyond. */
static void shift_plane(double *row, const double *plane, int h, int w, int dy, int dx, int y0, int y1, int out_w) {
    for (int y = y0; y < y1; y++) {
        const int from_y = y + dy;
        for (int x = 0; x < out_w; x++) {
            const int from_x = x + dx;
            const bool inside = from_y >= 0 && from_y < h && from_x >= 0 && from_x < w;
            *row++ = inside ? plane[(size_t)from_y * (size_t)w + (size_t)from_x] : 0.0;
        }
    }
}

/* Output rows y0..y1-1 of sample n. */
static void conv2d_band(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                        const struct fdm_conv2d_args *args, int n, int y0, int y1) {
    const int k = args->k, depth = in->c * k * k, pixels = (y1 - y0) * out->w;
    const size_t first = (size_t)y0 * (size_t)out->w;
    const double *weight = args->weight, *bias = weight + (size_t)out->c * (size_t)depth;
    double *columns = exec->scratch; /* (I*k*k, pixels) */
#pragma omp parallel num_threads(exec->threads)
    {
#pragma omp for schedule(static)
        for (int d = 0; d < depth; d++) {
            const int i = d / (k * k), ky = d / k % k, kx = d % k;
            shift_plane(columns + (size_t)d * (size_t)pixels, fdm_ref_at(in, n, i), in->h, in->w, ky - args->pad,
                        kx - args->pad, y0, y1, out->w);
        }
#pragma omp for schedule(dynamic)
        for (int o = 0; o < out->c; o += CHANNEL_SLICE) {
            const int channels = fdm_min_int(CHANNEL_SLICE, out->c - o);
            fdm_ref_matmul(fdm_ref_at(out, n, o) + first, fdm_ref_plane(out), FDM_REF_AB,
                           weight + (size_t)o * (size_t)depth, (size_t)depth, columns, (size_t)pixels, channels,
                           pixels, depth);
            for (int c = o; c < o + channels; c++)
                fdm_ref_epilogue(out, n, c, first, (size_t)pixels, bias[c], &args->epilogue);
        }
    }
}

void fdm_ref_conv2d(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                    const struct fdm_conv2d_args *args) {
    const int rows = band_rows(in->c, args->k, out->h, out->w);
    for (int n = 0; n < out->n; n++)
        for (int y = 0; y < out->h; y += rows)
            conv2d_band(exec, out, in, args, n, y, fdm_min_int(y + rows, out->h));
}
