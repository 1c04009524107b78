/* conv2d.c - 2-D convolution, SPEC 3 "Conv2d":
 *
 *     out[n,o,y,x] = bias[o] + sum_{i,ky,kx} weight[o,i,ky,kx] * in[n,i,y+ky-pad,x+kx-pad]
 *
 * with zeros beyond the border, the bias added last, then the epilogue (raw, residual, scale).
 *
 * For a band of output rows the sum over (i,ky,kx) is the matrix product weight (O x I*k*k) times
 * columns (I*k*k x pixels), columns[(i,ky,kx)][(y,x)] = in[n,i,y+ky-pad,x+kx-pad] or 0.  The band's height
 * depends on the shape alone, so that no bit depends on the threads or on the batch.
 *
 * The backward pass uses the same columns: of `in` for the weights' gradient, of d_out for the data's.
 */
#include "reference/reference.h"

#include "nn/sample_tree.h"

#include <string.h>

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

/* ---- backward ---------------------------------------------------------------------------------------------- */

/* The parts of the scratch. */
struct backward_memory {
    size_t tree;     /* partial sums of d_weight over the samples: tree depth x (O, I, k, k) */
    size_t product;  /* d_weight of one band, or the transposed weight: (O, I, k, k) */
    size_t leaves;   /* of d_bias: (N, O) */
    size_t gradient; /* d_in of a sample before scale: (I, H', W') */
    size_t columns;  /* of a band of in, or of d_out */
}; /* in bytes */

/* At least what any band's columns need, planes of up to h x w. */
static size_t columns_bytes(int channels, int k, int h, int w) {
    const size_t row = fdm_ref_bytes(channels, k, k, w);
    size_t all;
    if (!fdm_mul_size(&all, row, (size_t)h)) all = SIZE_MAX;
    const size_t band = all < BAND_BYTES ? all : BAND_BYTES;
    return row > band ? row : band;
}

/* h, w of d_out.  The input has h - 2 pad + k - 1 rows, at most h + k - 1. */
static struct backward_memory backward_memory(int n, int in_channels, int out_channels, int k, int h, int w) {
    const int in_h = h + k - 1, in_w = w + k - 1;
    const size_t weights = fdm_ref_bytes(out_channels, in_channels, k, k);
    const size_t of_in = columns_bytes(in_channels, k, h, w), of_out = columns_bytes(out_channels, k, in_h, in_w);
    struct backward_memory m = {
        .product = weights,
        .leaves = fdm_ref_bytes(n, out_channels, 1, 1),
        .gradient = fdm_ref_bytes(in_channels, in_h, in_w, 1),
        .columns = of_in > of_out ? of_in : of_out,
    };
    if (!fdm_mul_size(&m.tree, weights, (size_t)fdm_tree_depth(n))) m.tree = SIZE_MAX;
    return m;
}

size_t fdm_ref_conv2d_backward_scratch(int n, int in_channels, int out_channels, int k, int h, int w, int threads) {
    (void)threads;
    const struct backward_memory m = backward_memory(n, in_channels, out_channels, k, h, w);
    const size_t weights = fdm_add_saturated(m.tree, m.product);
    return fdm_add_saturated(fdm_add_saturated(weights, m.leaves), fdm_add_saturated(m.gradient, m.columns));
}

struct backward {
    const struct fdm_exec *exec;
    const struct fdm_map *in, *d_out;
    const struct fdm_conv2d_backward_args *args;
    int depth;      /* I*k*k */
    size_t weights; /* O*I*k*k */
    double *tree, *product, *leaves, *gradient, *columns;
};

/* out[o,y,x] = sum_{i,ky,kx} weight[o,i,ky,kx] in[i,y+ky-pad,x+kx-pad]:  for a band of rows of sample n
 *     d_weight (O x I*k*k) += d_out (O x pixels) * columns of in, transposed (pixels x I*k*k) */
static void weight_gradient_band(const struct backward *b, double *d_weight, int n, int y0, int y1) {
    const int k = b->args->k, pad = b->args->pad, pixels = (y1 - y0) * b->d_out->w;
    const size_t first = (size_t)y0 * (size_t)b->d_out->w, depth = (size_t)b->depth;
#pragma omp parallel num_threads(b->exec->threads)
    {
#pragma omp for schedule(static)
        for (int d = 0; d < b->depth; d++)
            shift_plane(b->columns + (size_t)d * (size_t)pixels, fdm_ref_at(b->in, n, d / (k * k)), b->in->h, b->in->w,
                        d / k % k - pad, d % k - pad, y0, y1, b->d_out->w);
#pragma omp for schedule(dynamic)
        for (int o = 0; o < b->d_out->c; o += CHANNEL_SLICE) {
            const int channels = fdm_min_int(CHANNEL_SLICE, b->d_out->c - o);
            double *product = b->product + (size_t)o * depth;
            fdm_ref_matmul(product, depth, FDM_REF_ABT, fdm_ref_at(b->d_out, n, o) + first, fdm_ref_plane(b->d_out),
                           b->columns, (size_t)pixels, channels, b->depth, pixels);
            fdm_ref_deliver(d_weight + (size_t)o * depth, product, (size_t)channels * depth, b->args->scale, y0 > 0);
        }
    }
}

/* sum = d_weight of samples first..first+count-1 in the tree's order; further partial sums lie behind it. */
static void weight_gradient(const struct backward *b, double *sum, int first, int count) {
    if (count > 1) {
        const int left = fdm_ref_tree_left(count);
        weight_gradient(b, sum, first, left);
        weight_gradient(b, sum + b->weights, first + left, count - left);
        fdm_ref_add_gradients(b->exec, sum, sum + b->weights, b->weights);
        return;
    }
    const int rows = band_rows(b->in->c, b->args->k, b->d_out->h, b->d_out->w);
    for (int y = 0; y < b->d_out->h; y += rows)
        weight_gradient_band(b, sum, first, y, fdm_min_int(y + rows, b->d_out->h));
}

/* d_in[i,y,x] = sum_{o,ky,kx} weight[o,i,ky,kx] d_out[o,y+pad-ky,x+pad-kx]:  for a band of rows of sample n
 *     d_in (I x pixels) = transposed weight (I x O*k*k) * columns of d_out (O*k*k x pixels) */
static void data_gradient_band(const struct backward *b, const double *transposed, int n, int y0, int y1) {
    const int k = b->args->k, pad = b->args->pad, in_w = b->in->w, pixels = (y1 - y0) * in_w;
    const int depth = b->d_out->c * k * k;
    const size_t first = (size_t)y0 * (size_t)in_w, plane = fdm_ref_plane(b->in);
#pragma omp parallel num_threads(b->exec->threads)
    {
#pragma omp for schedule(static)
        for (int d = 0; d < depth; d++)
            shift_plane(b->columns + (size_t)d * (size_t)pixels, fdm_ref_at(b->d_out, n, d / (k * k)), b->d_out->h,
                        b->d_out->w, pad - d / k % k, pad - d % k, y0, y1, in_w);
#pragma omp for schedule(dynamic)
        for (int i = 0; i < b->in->c; i += CHANNEL_SLICE)
            fdm_ref_matmul(b->gradient + (size_t)i * plane + first, plane, FDM_REF_AB,
                           transposed + (size_t)i * (size_t)depth, (size_t)depth, b->columns, (size_t)pixels,
                           fdm_min_int(CHANNEL_SLICE, b->in->c - i), pixels, depth);
    }
}

/* transposed[i][(o,ky,kx)] = weight[o][(i,ky,kx)] */
static void transpose_weight(double *transposed, const float *weight, int out_channels, int in_channels, int k) {
    const size_t taps = (size_t)k * (size_t)k, out = (size_t)out_channels, in = (size_t)in_channels;
    for (size_t i = 0; i < in; i++)
        for (size_t o = 0; o < out; o++)
            for (size_t t = 0; t < taps; t++) *transposed++ = (double)weight[(o * in + i) * taps + t];
}

static void data_gradient(const struct backward *b) {
    const struct fdm_map_target target = b->args->d_in;
    const int rows = band_rows(b->d_out->c, b->args->k, b->in->h, b->in->w);
    transpose_weight(b->product, b->args->weight, b->d_out->c, b->in->c, b->args->k);
    for (int n = 0; n < b->in->n; n++) {
        for (int y = 0; y < b->in->h; y += rows)
            data_gradient_band(b, b->product, n, y, fdm_min_int(y + rows, b->in->h));
        fdm_ref_deliver(fdm_ref_at(target.map, n, 0), b->gradient, fdm_ref_sample(b->in), b->args->scale,
                        target.accumulate);
    }
}

/* out = (acc + bias[o] + residual) scale:   d_residual = scale d_out,   d_bias[o] = scale sum d_out[o,y,x] */
void fdm_ref_conv2d_backward(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                             const struct fdm_conv2d_backward_args *args) {
    const struct backward_memory m = backward_memory(in->n, in->c, d_out->c, args->k, d_out->h, d_out->w);
    struct backward b = {.exec = exec, .in = in, .d_out = d_out, .args = args, .depth = in->c * args->k * args->k};
    b.weights = m.product / sizeof(double);
    b.tree = exec->scratch;
    b.product = b.tree + m.tree / sizeof(double);
    b.leaves = b.product + b.weights;
    b.gradient = b.leaves + m.leaves / sizeof(double);
    b.columns = b.gradient + m.gradient / sizeof(double);
    weight_gradient(&b, b.tree, 0, in->n);
    memcpy(args->d_weight, b.tree, m.product);
    if (args->d_bias) fdm_ref_bias_gradient(args->d_bias, b.leaves, d_out, args->scale);
    if (args->d_in.map) data_gradient(&b);
    fdm_ref_deliver_map(exec, args->d_residual, d_out, args->scale);
}
