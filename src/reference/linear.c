/* linear.c - fully connected layer (SPEC 3: map_layer0, map_layer1, map_label, map_augment, affine):
 *
 *     raw[n,o] = sum_i weight[o,i] * (in[n,i] * in_scale) + bias[o]
 *     out[n,o] = silu?(raw[n,o] + residual[n,o])
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
