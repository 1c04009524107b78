/* pair_blocks.c - two tensors of any dtypes, some elements at a time, as doubles and distances. */
#include "verify/pair_blocks.h"

#include <math.h>
#include <string.h>

#include "verify/tensor_stats.h"

/* ---- Dtypes ------------------------------------------------------------------------------------------------ */

/* Significand bits (with the hidden one) and the exponent of the smallest normal number; 0 for integers. */
struct float_format {
    int digits, min_exponent;
};

static struct float_format format_of(fdm_dtype dtype) {
    switch (dtype) {
    case FDM_F64: return (struct float_format){53, -1022};
    case FDM_F32: return (struct float_format){24, -126};
    case FDM_F16: return (struct float_format){11, -14};
    case FDM_BF16: return (struct float_format){8, -126};
    default: return (struct float_format){0, 0};
    }
}

bool fdm_dtype_is_float(fdm_dtype dtype) { return format_of(dtype).digits > 0; }

bool fdm_same_shape(const fdm_tensor *a, const fdm_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

static fdm_dtype coarser(fdm_dtype x, fdm_dtype y) {
    if (x == y) return x;
    if (!fdm_dtype_is_float(x) || !fdm_dtype_is_float(y)) return FDM_DTYPE_COUNT;
    return format_of(x).digits < format_of(y).digits ? x : y;
}

/* ---- Blocks ------------------------------------------------------------------------------------------------ */

static void load_values(double *out, const fdm_tensor *t, int64_t first, int n) {
    if (t->dtype == FDM_F32) {
        const float *values = (const float *)t->data + first;
        for (int i = 0; i < n; i++) out[i] = (double)values[i];
    } else if (t->dtype == FDM_F64) {
        memcpy(out, (const double *)t->data + first, (size_t)n * sizeof *out);
    } else {
        for (int i = 0; i < n; i++) out[i] = fdm_tensor_get(t, first + i);
    }
}

/* The place of an element on the line of its dtype's numbers: neighbours are 1 apart, both zeros share place 0. */
static int64_t place_of_float(uint64_t bits, uint64_t sign) {
    return bits & sign ? -(int64_t)(bits & (sign - 1)) : (int64_t)bits;
}

#define FLOAT_PLACES(T)                                                                                            \
    for (int i = 0; i < n; i++) out[i] = place_of_float(((const T *)t->data)[first + i], (uint64_t)1 << (8 * sizeof(T) - 1))
static void load_places(int64_t *out, const fdm_tensor *t, int64_t first, int n) {
    switch (t->dtype) {
    case FDM_F64: FLOAT_PLACES(uint64_t); break;
    case FDM_F32: FLOAT_PLACES(uint32_t); break;
    case FDM_F16:
    case FDM_BF16: FLOAT_PLACES(uint16_t); break;
    case FDM_I64: memcpy(out, (const int64_t *)t->data + first, (size_t)n * sizeof *out); break;
    case FDM_U64: /* shifted into the range of signed numbers */
        for (int i = 0; i < n; i++) out[i] = (int64_t)(((const uint64_t *)t->data)[first + i] ^ (uint64_t)1 << 63);
        break;
    default: /* shorter integers are exact as doubles */
        for (int i = 0; i < n; i++) out[i] = (int64_t)fdm_tensor_get(t, first + i);
    }
}

static uint64_t place_distance(int64_t p, int64_t q) {
    return p > q ? (uint64_t)p - (uint64_t)q : (uint64_t)q - (uint64_t)p;
}

/* |d| in units in the last place of e. */
static uint64_t units_in_last_place(double e, double distance, struct float_format format) {
    int exponent;
    frexp(e, &exponent);
    exponent = fdm_max_int(exponent - 1, format.min_exponent) - (format.digits - 1);
    const double units = floor(ldexp(distance, -exponent) + 0.5);
    return units < 0x1p64 ? (uint64_t)units : UINT64_MAX;
}

static void load_ulps(struct fdm_pair_block *b, const struct fdm_pair *pair, int64_t first) {
    int64_t e[FDM_PAIR_BLOCK], f[FDM_PAIR_BLOCK];
    load_places(e, pair->e, first, b->n);
    load_places(f, pair->f, first, b->n);
    for (int i = 0; i < b->n; i++) b->ulps[i] = place_distance(e[i], f[i]);
}

void fdm_pair_load(struct fdm_pair_block *b, const struct fdm_pair *pair, int64_t first, int n, bool want_ulps) {
    const bool integers = pair->same_dtype && !pair->floats;
    const struct float_format format = format_of(pair->ulp_dtype);
    b->n = n;
    load_values(b->e, pair->e, first, n);
    load_values(b->f, pair->f, first, n);
    if (integers || (want_ulps && pair->same_dtype)) load_ulps(b, pair, first);
    for (int i = 0; i < n; i++) {
        const double e = b->e[i], f = b->f[i];
        if (!isfinite(e) || !isfinite(f)) {
            b->distance[i] = b->relative[i] = fdm_same_nonfinite(e, f) ? (double)FDM_LEFT_OUT : (double)INFINITY;
            continue;
        }
        /* Exact even for 64-bit integers, which doubles would round. */
        const double distance = integers ? (double)b->ulps[i] : fabs(f - e);
        b->distance[i] = distance;
        b->relative[i] = e != 0 ? distance / fabs(e) : (double)FDM_LEFT_OUT;
        if (want_ulps && !pair->same_dtype)
            b->ulps[i] = format.digits ? units_in_last_place(e, distance, format) : 0;
    }
}

void fdm_pair_begin(struct fdm_pair *pair, const fdm_tensor *e, const fdm_tensor *f) {
    *pair = (struct fdm_pair){.e = e,
                              .f = f,
                              .same_dtype = e->dtype == f->dtype,
                              .floats = fdm_dtype_is_float(e->dtype),
                              .ulp_dtype = coarser(e->dtype, f->dtype)};
}
