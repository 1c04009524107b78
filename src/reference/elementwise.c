/* elementwise.c - conversion, concatenation, scaled sums, and the element formulas that the layers share. */
#include "reference/reference.h"

#include "base/philox.h"

#include <math.h>
#include <string.h>

size_t fdm_ref_bytes(int a, int b, int c, int d) {
    const int factors[4] = {a, b, c, d};
    size_t bytes = sizeof(double);
    for (int i = 0; i < 4; i++)
        if (factors[i] < 0 || !fdm_mul_size(&bytes, bytes, (size_t)factors[i])) return SIZE_MAX;
    return bytes;
}

size_t fdm_ref_map_bytes(int n, int c, int h, int w, int halo) {
    (void)halo; /* no border is kept */
    return fdm_ref_bytes(n, c, h, w);
}

double fdm_ref_silu(double x) { return x / (1.0 + exp(-x)); }

double fdm_ref_silu_slope(double x) {
    const double s = 1.0 / (1.0 + exp(-x));
    return s * (1.0 + x * (1.0 - s));
}

double fdm_ref_dropout(const struct fdm_dropout *dropout, double x, int n, int c, size_t pixel) {
    const uint32_t counter[4] = {(uint32_t)(pixel / 4), dropout->layer << 16 | (uint32_t)c, 0, 0};
    const uint32_t key[2] = {(uint32_t)dropout->keys[n], (uint32_t)(dropout->keys[n] >> 32)};
    uint32_t word[4];
    fdm_philox_block(word, counter, key);
    const bool keep = (double)word[pixel % 4] >= rint(dropout->p * 0x1p32);
    return keep ? x / (1.0 - dropout->p) : 0.0;
}

int fdm_ref_tree_left(int n) {
    int left = 1;
    while (left < n - left) left *= 2;
    return left;
}

double fdm_ref_tree_sum(const double *leaves, size_t stride, int n) {
    if (n == 1) return leaves[0];
    const int left = fdm_ref_tree_left(n);
    return fdm_ref_tree_sum(leaves, stride, left) +
           fdm_ref_tree_sum(leaves + (size_t)left * stride, stride, n - left);
}

void fdm_ref_deliver(double *target, const double *gradient, size_t count, double scale, bool accumulate) {
    for (size_t i = 0; i < count; i++) {
        const double value = gradient[i] * scale;
        target[i] = accumulate ? target[i] + value : value;
    }
}

void fdm_ref_deliver_map(const struct fdm_exec *exec, struct fdm_map_target target, const struct fdm_map *gradient,
                         double scale) {
    if (!target.map) return;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int n = 0; n < gradient->n; n++)
        fdm_ref_deliver(fdm_ref_at(target.map, n, 0), fdm_ref_at(gradient, n, 0), fdm_ref_sample(gradient), scale,
                        target.accumulate);
}

void fdm_ref_bias_gradient(double *d_bias, double *leaves, const struct fdm_map *d_out, double scale) {
    const size_t channels = (size_t)d_out->c, plane = fdm_ref_plane(d_out);
    const double *d = d_out->data;
    for (size_t leaf = 0; leaf < (size_t)d_out->n * channels; leaf++) {
        double sum = 0.0;
        for (size_t i = 0; i < plane; i++) sum += *d++;
        leaves[leaf] = scale * sum;
    }
    for (size_t c = 0; c < channels; c++) d_bias[c] = fdm_ref_tree_sum(leaves + c, channels, d_out->n);
}

void fdm_ref_epilogue(struct fdm_map *out, int n, int c, size_t first, size_t count, double bias,
                      const struct fdm_epilogue *e) {
    double *y = fdm_ref_at(out, n, c) + first;
    double *raw = e->raw ? fdm_ref_at(e->raw, n, c) + first : NULL;
    const double *residual = e->residual ? fdm_ref_at(e->residual, n, c) + first : NULL;
    for (size_t i = 0; i < count; i++) {
        double value = y[i] + bias;
        if (raw) raw[i] = value;
        if (residual) value += residual[i];
        y[i] = value * e->scale;
    }
}

/* The layout is plain NCHW already. */
void fdm_ref_map_import(const struct fdm_exec *exec, struct fdm_map *out, const double *nchw) {
    (void)exec;
    memcpy(out->data, nchw, (size_t)out->n * fdm_ref_sample(out) * sizeof(double));
}

void fdm_ref_map_export(const struct fdm_exec *exec, double *nchw, const struct fdm_map *in) {
    (void)exec;
    memcpy(nchw, in->data, (size_t)in->n * fdm_ref_sample(in) * sizeof(double));
}

void fdm_ref_vec_import(struct fdm_vec *out, const double *rows) {
    memcpy(out->data, rows, (size_t)out->n * (size_t)out->c * sizeof(double));
}

void fdm_ref_vec_export(double *rows, const struct fdm_vec *in) {
    memcpy(rows, in->data, (size_t)in->n * (size_t)in->c * sizeof(double));
}

/* out[n] = channels of a[n], then channels of b[n]   (SPEC 3, decoder) */
void fdm_ref_concat(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a,
                    const struct fdm_map *b) {
    (void)exec;
    for (int n = 0; n < out->n; n++) {
        memcpy(fdm_ref_at(out, n, 0), fdm_ref_at(a, n, 0), fdm_ref_sample(a) * sizeof(double));
        memcpy(fdm_ref_at(out, n, a->c), fdm_ref_at(b, n, 0), fdm_ref_sample(b) * sizeof(double));
    }
}

/* out = [a, b]:  d_a = the first channels of d_out, d_b = the others.  A target that is not wanted leaves its number of
 * channels to the other. */
void fdm_ref_concat_backward(const struct fdm_exec *exec, struct fdm_map_target d_a, struct fdm_map_target d_b,
                             const struct fdm_map *d_out) {
    (void)exec;
    for (int n = 0; n < d_out->n; n++) {
        if (d_a.map)
            fdm_ref_deliver(fdm_ref_at(d_a.map, n, 0), fdm_ref_at(d_out, n, 0), fdm_ref_sample(d_a.map), 1.0,
                            d_a.accumulate);
        if (d_b.map)
            fdm_ref_deliver(fdm_ref_at(d_b.map, n, 0), fdm_ref_at(d_out, n, d_out->c - d_b.map->c),
                            fdm_ref_sample(d_b.map), 1.0, d_b.accumulate);
    }
}

/* left = left + right */
void fdm_ref_add_gradients(const struct fdm_exec *exec, void *left, const void *right, size_t count) {
    double *sum = left;
    const double *more = right;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (size_t i = 0; i < count; i++) sum[i] += more[i];
}

/* out = (a + b) * scale, or a * scale */
void fdm_ref_add(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b,
                 double scale) {
    (void)exec;
    const size_t count = (size_t)out->n * fdm_ref_sample(out);
    double *y = out->data;
    const double *xa = a->data, *xb = b ? b->data : NULL;
    for (size_t i = 0; i < count; i++) y[i] = (xb ? xa[i] + xb[i] : xa[i]) * scale;
}
