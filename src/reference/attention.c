/* attention.c - self-attention over the L = H*W positions of a sample, one head of C channels (SPEC 3 "UNetBlock"):
 *
 *     q[j] = qkv[3j],  k[j] = qkv[3j+1],  v[j] = qkv[3j+2]                      each (C, L)
 *     w[a,b] = softmax over b of  sum_j q[j,a] k[j,b] / sqrt(C)                       (L, L)
 *     out[j,a] = sum_b w[a,b] v[j,b]                                                  (C, L)
 *
 * Queries are taken in fixed groups of rows a, each group on its own, so that the memory is bounded and no
 * bit depends on the threads.
 */
#include "reference/reference.h"

#include <math.h>

enum { QUERY_GROUP = 64 };

/* One group of rows of w per thread. */
size_t fdm_ref_attention_scratch(int n, int c, int h, int w, int threads) {
    (void)n, (void)c;
    return fdm_ref_bytes(threads, QUERY_GROUP, h, w);
}

/* s[b] = e^(s[b]/divisor - m) / sum of the same, m the maximum, so that nothing overflows. */
static void softmax_scaled(double *s, size_t count, double divisor) {
    double largest = -INFINITY, sum = 0.0;
    for (size_t b = 0; b < count; b++) {
        s[b] /= divisor;
        if (s[b] > largest) largest = s[b];
    }
    for (size_t b = 0; b < count; b++) {
        s[b] = exp(s[b] - largest);
        sum += s[b];
    }
    for (size_t b = 0; b < count; b++) s[b] /= sum;
}

/* Queries first..first+count-1 of sample n; w has room for count rows of L. */
static void attend(struct fdm_map *out, const struct fdm_map *qkv, double *w, int n, int first, int count) {
    const int positions = qkv->h * qkv->w;
    const size_t l = (size_t)positions, stride = 3 * l; /* from channel j of q, k or v to channel j+1 */
    const double *q = fdm_ref_at(qkv, n, 0), *k = q + l, *v = q + 2 * l;
    fdm_ref_matmul(w, l, FDM_REF_ATB, q + first, stride, k, stride, count, positions, out->c);
    for (size_t a = 0; a < (size_t)count; a++) softmax_scaled(w + a * l, l, sqrt((double)out->c));
    fdm_ref_matmul(fdm_ref_at(out, n, 0) + first, l, FDM_REF_ABT, v, stride, w, l, out->c, count, positions);
}

void fdm_ref_attention(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *qkv) {
    const int positions = qkv->h * qkv->w;
    const size_t w_elements = (size_t)QUERY_GROUP * (size_t)positions;
    const int groups = fdm_div_up(positions, QUERY_GROUP), jobs = qkv->n * groups;
    /* Thread t takes jobs t, t + threads, ..., with the t-th part of the scratch. */
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int t = 0; t < exec->threads; t++)
        for (int job = t; job < jobs; job += exec->threads) {
            const int n = job / groups, first = job % groups * QUERY_GROUP;
            attend(out, qkv, (double *)exec->scratch + (size_t)t * w_elements, n, first,
                   fdm_min_int(QUERY_GROUP, positions - first));
        }
}

/* Backward, one sample at a time, with whole (L, L) matrices. */

/* Per thread: w and d_s, (L, L) each, and one of d_q, d_k, d_v, (C, L). */
static size_t backward_elements(int c, int h, int w) {
    const size_t l = (size_t)h * (size_t)w;
    return l * (2 * l + (size_t)c);
}
size_t fdm_ref_attention_backward_scratch(int n, int c, int h, int w, int threads) {
    (void)n;
    size_t matrix, bytes;
    const size_t vectors = fdm_ref_bytes(threads, c, h, w), one = fdm_ref_bytes(threads, 2, h, w);
    if (!fdm_mul_size(&matrix, one, (size_t)h) || !fdm_mul_size(&matrix, matrix, (size_t)w)) return SIZE_MAX;
    return fdm_add_size(&bytes, matrix, vectors) ? bytes : SIZE_MAX;
}

/* d (C, L) to the part 0 (q), 1 (k) or 2 (v) of every triple of channels. */
static void deliver_part(struct fdm_map_target d_qkv, const double *d, int n, int channels, int part, double scale) {
    const size_t l = fdm_ref_plane(d_qkv.map);
    for (int j = 0; j < channels; j++)
        fdm_ref_deliver(fdm_ref_at(d_qkv.map, n, 3 * j + part), d + (size_t)j * l, l, scale, d_qkv.accumulate);
}

/* out[j,a] = sum_b w[a,b] v[j,b]:      d_v[j,b] = sum_a d_out[j,a] w[a,b],   d_w[a,b] = sum_j d_out[j,a] v[j,b]
 * w[a,:] = softmax(s[a,:]):            d_s[a,b] = w[a,b] (d_w[a,b] - sum_b' w[a,b'] d_w[a,b'])
 * s[a,b] = sum_j q[j,a] k[j,b] / sqrt(C):   d_q[j,a] = sum_b k[j,b] d_s[a,b] / sqrt(C)
 *                                           d_k[j,b] = sum_a q[j,a] d_s[a,b] / sqrt(C) */
static void attention_backward_sample(struct fdm_map_target d_qkv, const struct fdm_map *d_out,
                                      const struct fdm_map *qkv, double *scratch, int n) {
    const int channels = d_out->c, positions = qkv->h * qkv->w;
    const size_t l = (size_t)positions, stride = 3 * l;
    const double root = sqrt((double)channels);
    const double *q = fdm_ref_at(qkv, n, 0), *k = q + l, *v = q + 2 * l, *d = fdm_ref_at(d_out, n, 0);
    double *w = scratch, *d_s = w + l * l, *part = d_s + l * l;
    fdm_ref_matmul(w, l, FDM_REF_ATB, q, stride, k, stride, positions, positions, channels);
    for (size_t a = 0; a < l; a++) softmax_scaled(w + a * l, l, root);

    fdm_ref_matmul(part, l, FDM_REF_AB, d, l, w, l, channels, positions, positions);
    deliver_part(d_qkv, part, n, channels, 2, 1.0);

    fdm_ref_matmul(d_s, l, FDM_REF_ATB, d, l, v, stride, positions, positions, channels); /* d_w so far */
    for (size_t a = 0; a < l; a++) {
        double mean = 0.0; /* of d_w under the weights w */
        for (size_t b = 0; b < l; b++) mean += w[a * l + b] * d_s[a * l + b];
        for (size_t b = 0; b < l; b++) d_s[a * l + b] = w[a * l + b] * (d_s[a * l + b] - mean);
    }
    fdm_ref_matmul(part, l, FDM_REF_ABT, k, stride, d_s, l, channels, positions, positions);
    deliver_part(d_qkv, part, n, channels, 0, 1.0 / root);
    fdm_ref_matmul(part, l, FDM_REF_AB, q, stride, d_s, l, channels, positions, positions);
    deliver_part(d_qkv, part, n, channels, 1, 1.0 / root);
}

void fdm_ref_attention_backward(const struct fdm_exec *exec, struct fdm_map_target d_qkv, const struct fdm_map *d_out,
                                const struct fdm_map *qkv) {
    if (!d_qkv.map) return;
    const size_t elements = backward_elements(d_out->c, d_out->h, d_out->w);
    /* Thread t takes samples t, t + threads, ..., with the t-th part of the scratch. */
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int t = 0; t < exec->threads; t++)
        for (int n = t; n < d_out->n; n += exec->threads)
            attention_backward_sample(d_qkv, d_out, qkv, (double *)exec->scratch + (size_t)t * elements, n);
}
