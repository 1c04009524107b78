/* elementwise.c - conversion, concatenation, scaled sums, and the element formulas that the layers share. */
#include "reference/reference.h"

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

/* out = (a + b) * scale, or a * scale */
void fdm_ref_add(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b,
                 double scale) {
    (void)exec;
    const size_t count = (size_t)out->n * fdm_ref_sample(out);
    double *y = out->data;
    const double *xa = a->data, *xb = b ? b->data : NULL;
    for (size_t i = 0; i < count; i++) y[i] = (xb ? xa[i] + xb[i] : xa[i]) * scale;
}
