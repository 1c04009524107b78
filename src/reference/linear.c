/* linear.c - fully connected layer (SPEC 3: map_layer0, map_layer1, map_label, map_augment, affine):
 *
 *     raw[n,o] = sum_i weight[o,i] * (in[n,i] * in_scale) + bias[o]
 *     out[n,o] = silu?(raw[n,o] + residual[n,o])
 *
 * and its backward pass.
 */
#include "reference/reference.h"

/* Packed: the weights [out][in] as doubles, then the biases [out]. */
size_t fdm_ref_linear_packed_bytes(int out_features, int in_features) {
    const size_t weights = fdm_ref_bytes(out_features, in_features, 1, 1);
    size_t bytes;
    return fdm_add_size(&bytes, weights, fdm_ref_bytes(out_features, 1, 1, 1)) ? bytes : SIZE_MAX;
}

void fdm_ref_linear_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                         int out_features, int in_features) {
    (void)exec;
    double *to = packed;
    const size_t weights = (size_t)out_features * (size_t)in_features;
    for (size_t i = 0; i < weights; i++) to[i] = (double)weight[i];
    for (int o = 0; o < out_features; o++) to[weights + (size_t)o] = bias ? (double)bias[o] : 0.0;
}

void fdm_ref_linear(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in,
                    const struct fdm_linear_args *args) {
    const size_t in_features = (size_t)in->c, out_features = (size_t)out->c;
    const double *weight = args->weight, *bias = weight + out_features * in_features, *x = in->data;
    const double *residual = args->residual ? args->residual->data : NULL;
    double *y = out->data, *raw = args->raw ? args->raw->data : NULL;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (size_t o = 0; o < out_features; o++)
        for (size_t n = 0; n < (size_t)out->n; n++) {
            double sum = 0.0;
            for (size_t i = 0; i < in_features; i++)
                sum += weight[o * in_features + i] * (x[n * in_features + i] * args->in_scale);
            sum += bias[o];
            const size_t at = n * out_features + o;
            if (raw) raw[at] = sum;
            if (residual) sum += residual[at];
            y[at] = args->silu ? fdm_ref_silu(sum) : sum;
        }
}

/* d_raw (N, O) */
size_t fdm_ref_linear_backward_scratch(int n, int in_features, int out_features, int threads) {
    (void)in_features, (void)threads;
    return fdm_ref_bytes(n, out_features, 1, 1);
}

/* out = raw + residual: d_raw = d_out;   out = silu(raw): d_raw = d_out silu'(raw), raw computed again. */
static void linear_d_raw(double *d_raw, const struct fdm_exec *exec, const struct fdm_vec *d_out,
                         const struct fdm_vec *in, const struct fdm_linear_backward_args *args) {
    const size_t in_features = (size_t)in->c, out_features = (size_t)d_out->c;
    const double *d = d_out->data, *x = in->data;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (size_t o = 0; o < out_features; o++)
        for (size_t n = 0; n < (size_t)in->n; n++) {
            const size_t at = n * out_features + o;
            d_raw[at] = d[at];
            if (!args->silu) continue;
            double raw = 0.0;
            for (size_t i = 0; i < in_features; i++)
                raw += (double)args->weight[o * in_features + i] * (x[n * in_features + i] * args->in_scale);
            if (args->bias) raw += (double)args->bias[o];
            d_raw[at] *= fdm_ref_silu_slope(raw);
        }
}

/* raw[n,o] = sum_i weight[o,i] (in[n,i] in_scale):   d_in[n,i] = in_scale sum_o weight[o,i] d_raw[n,o] */
static void linear_d_in(const struct fdm_exec *exec, const double *d_raw, size_t out_features,
                        const struct fdm_linear_backward_args *args) {
    const struct fdm_vec *d_in = args->d_in.vec;
    const size_t in_features = (size_t)d_in->c, count = (size_t)d_in->n * in_features;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (size_t at = 0; at < count; at++) {
        const size_t n = at / in_features, i = at % in_features;
        double sum = 0.0;
        for (size_t o = 0; o < out_features; o++)
            sum += (double)args->weight[o * in_features + i] * d_raw[n * out_features + o];
        fdm_ref_deliver((double *)d_in->data + at, &sum, 1, args->in_scale, args->d_in.accumulate);
    }
}

/* sum over n samples, in the tree's order, of a[n * a_stride] * (b[n * b_stride] * scale) */
static double tree_sum_of_products(const double *a, size_t a_stride, const double *b, size_t b_stride, double scale,
                                   int n) {
    if (n == 1) return *a * (*b * scale);
    const int left = fdm_ref_tree_left(n);
    return tree_sum_of_products(a, a_stride, b, b_stride, scale, left) +
           tree_sum_of_products(a + (size_t)left * a_stride, a_stride, b + (size_t)left * b_stride, b_stride, scale,
                                n - left);
}

/* d_weight[o,i] = sum_n d_raw[n,o] (in[n,i] in_scale),   d_bias[o] = sum_n d_raw[n,o],   d_residual = d_raw */
void fdm_ref_linear_backward(const struct fdm_exec *exec, const struct fdm_vec *d_out, const struct fdm_vec *in,
                             const struct fdm_linear_backward_args *args) {
    const size_t in_features = (size_t)in->c, out_features = (size_t)d_out->c;
    const double *x = in->data;
    double *d_raw = exec->scratch, *d_weight = args->d_weight, *d_bias = args->d_bias;
    linear_d_raw(d_raw, exec, d_out, in, args);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (size_t o = 0; o < out_features; o++) {
        for (size_t i = 0; i < in_features; i++)
            d_weight[o * in_features + i] =
                tree_sum_of_products(d_raw + o, out_features, x + i, in_features, args->in_scale, in->n);
        if (d_bias) d_bias[o] = fdm_ref_tree_sum(d_raw + o, out_features, in->n);
    }
    if (args->d_in.vec) linear_d_in(exec, d_raw, out_features, args);
    if (args->d_residual.vec)
        fdm_ref_deliver(args->d_residual.vec->data, d_raw, (size_t)in->n * out_features, 1.0,
                        args->d_residual.accumulate);
}
