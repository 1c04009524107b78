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
