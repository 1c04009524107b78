/* groupnorm.c - the passes of group normalisation over one plane of 16 channels, one channel per lane.
 *
 * Sums are made to be as good as f64 ones at f32 speed: four partial sums over at most CHUNK pixels, whose total is
 * added with TwoSum, so that only the few additions inside a chunk leave an error.  The order depends on h and w
 * only.
 */
#include "simd/kernel_table.h"
#include "simd/philox.h"
#include "simd/vmath.h"

enum { CHUNK = 64 }; /* pixels; fixed by the numerics (P1), not a tuning parameter */

struct sums {
    v16 hi, lo;
};

/* What is added to every pixel. */
struct shift {
    v16 high, low;
};

/* hi + lo += x: hi the rounded sum, lo the collected rounding errors (Knuth's TwoSum). */
V16_FN struct sums two_sum(struct sums s, v16 x) {
    const v16 hi = v16_add(s.hi, x), t = v16_sub(hi, s.hi);
    const v16 error = v16_add(v16_sub(s.hi, v16_sub(hi, t)), v16_sub(x, t));
    return (struct sums){hi, v16_add(s.lo, error)};
}

/* What is summed: d = (x + shift.high) + shift.low, d^2, x, or e (x + shift.high). */
enum term { SHIFTED, SQUARE, PLAIN, PRODUCT };

V16_FN v16 accumulate(v16 sum, const float *x, const float *e, struct shift shift, enum term term) {
    if (term == PLAIN) return v16_add(sum, v16_load(x));
    v16 d = v16_add(v16_load(x), shift.high);
    if (term == PRODUCT) return v16_fma(v16_load(e), d, sum);
    d = v16_add(d, shift.low);
    return term == SQUARE ? v16_fma(d, d, sum) : v16_add(sum, d);
}

/* Sum over n <= CHUNK pixels; e only for PRODUCT. */
V16_FN v16 chunk_sum(const float *x, const float *e, int n, struct shift shift, enum term term) {
    v16 a = v16_zero(), b = v16_zero(), c = v16_zero(), d = v16_zero();
    int i = 0;
    for (; i + 4 <= n; i += 4, x += 64, e += 64) {
        a = accumulate(a, x, e, shift, term);
        b = accumulate(b, x + 16, e + 16, shift, term);
        c = accumulate(c, x + 32, e + 32, shift, term);
        d = accumulate(d, x + 48, e + 48, shift, term);
    }
    for (; i < n; i++, x += 16, e += 16) a = accumulate(a, x, e, shift, term);
    return v16_add(v16_add(a, b), v16_add(c, d));
}

/* total + the sum over a row of w pixels, chunk by chunk. */
V16_FN struct sums row_sum(struct sums total, const float *x, const float *e, int w, struct shift shift,
                           enum term term) {
    for (int i = 0; i < w; i += CHUNK) {
        const ptrdiff_t at = 16 * (ptrdiff_t)i;
        total = two_sum(total, chunk_sum(x + at, e + at, w - i < CHUNK ? w - i : CHUNK, shift, term));
    }
    return total;
}

V16_FN void plane_sum(struct fdm_gn_sum *s, struct fdm_const_plane x, enum term term, int h, int w) {
    const struct shift shift = {v16_loadu(s->shift), v16_loadu(s->shift_low)};
    struct sums total = {v16_zero(), v16_zero()};
    for (int y = 0; y < h; y++) total = row_sum(total, x.p + y * x.row, x.p + y * x.row, w, shift, term);
    v16_storeu(s->hi, total.hi);
    v16_storeu(s->lo, total.lo);
}

void FDM_KERNEL(gn_sum)(struct fdm_gn_sum *s, struct fdm_const_plane x, int h, int w) {
    plane_sum(s, x, SHIFTED, h, w);
}

void FDM_KERNEL(gn_sumsq)(struct fdm_gn_sum *s, struct fdm_const_plane x, int h, int w) {
    plane_sum(s, x, SQUARE, h, w);
}

/* ---- Dropout ---------------------------------------------------------------------------------------------- */

struct dropout {
    struct v16_philox philox;
    v16i threshold; /* its sign bit turned over: then a signed comparison is the unsigned one */
    v16 factor;
};

V16_FN struct dropout start_dropout(const struct fdm_plane_dropout *d) {
    static const int32_t lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const v16i channels = v16i_or(v16_set1_word(d->channel), v16i_loadu(lanes));
    return (struct dropout){v16_philox_start(d->key, channels), v16_set1_word(d->threshold ^ 0x80000000u),
                            v16_set1(d->factor)};
}

/* In place over a row of w pixels, whose first is pixel `pixel` of the plane.  The four words of a counter are four
 * adjacent pixels, which a row may begin or end amid. */
static void dropout_row(float *row, uint32_t pixel, int w, const struct dropout *d) {
    float *const end = row + 16 * (ptrdiff_t)w;
    while (row < end) {
        v16i word[4];
        v16_philox(word, &d->philox, pixel / 4);
        for (uint32_t i = pixel % 4; i < 4 && row < end; i++, row += 16) {
            const v16m drop = v16i_lt(v16i_xor(word[i], v16i_set1(INT32_MIN)), d->threshold);
            v16_store(row, v16_select(drop, v16_zero(), v16_mul(v16_load(row), d->factor)));
        }
        pixel = (pixel / 4 + 1) * 4;
    }
}

/* ---- Forward ---------------------------------------------------------------------------------------------- */

/* One loop for each of the four combinations; `silu` and `with_raw` are constants where it is inlined. */
V16_FN void apply_rows(const struct fdm_gn_apply *a, const struct dropout *dropout, int h, int w, int silu,
                       int with_raw) {
    const v16 shift = v16_loadu(a->shift), scale = v16_loadu(a->scale), bias = v16_loadu(a->bias);
    for (int y = 0; y < h; y++) {
        const float *x = a->x.p + y * a->x.row;
        float *out = a->out.p + y * a->out.row;
        float *raw = with_raw ? a->raw.p + y * a->raw.row : NULL;
        for (ptrdiff_t i = 0; i < 16 * (ptrdiff_t)w; i += 16) {
            const v16 v = v16_fma(v16_add(v16_load(x + i), shift), scale, bias);
            if (with_raw) v16_store(raw + i, v);
            v16_store(out + i, silu ? v16_silu(v) : v);
        }
        if (dropout) dropout_row(out, (uint32_t)y * (uint32_t)w, w, dropout);
    }
}

void FDM_KERNEL(gn_apply)(const struct fdm_gn_apply *a, int h, int w) {
    struct dropout storage;
    const struct dropout *dropout = NULL;
    if (a->dropout) storage = start_dropout(a->dropout), dropout = &storage;
    if (a->silu && a->raw.p)
        apply_rows(a, dropout, h, w, 1, 1);
    else if (a->silu)
        apply_rows(a, dropout, h, w, 1, 0);
    else
        apply_rows(a, dropout, h, w, 0, a->raw.p != NULL);
}

/* ---- Backward --------------------------------------------------------------------------------------------- */

/* dy = d_out * silu'(y), or d_out itself where only dropout follows. */
V16_FN void slope_row(float *dy, const float *d_out, const float *x, const struct fdm_gn_backward *b, int w) {
    const bool silu = b->silu;
    const v16 shift = v16_loadu(b->shift), scale = v16_loadu(b->scale), bias = v16_loadu(b->bias);
    for (ptrdiff_t i = 0; i < 16 * (ptrdiff_t)w; i += 16) {
        v16 slope = v16_load(d_out + i);
        if (silu) {
            const v16 y = v16_fma(v16_add(v16_load(x + i), shift), scale, bias);
            slope = v16_mul(slope, v16_silu_gradient(y));
        }
        v16_store(dy + i, slope);
    }
}

void FDM_KERNEL(gn_backward)(struct fdm_gn_backward *b, int h, int w) {
    const struct shift shift = {v16_loadu(b->shift), v16_zero()};
    struct sums sum = {v16_zero(), v16_zero()}, dot = sum;
    struct dropout dropout;
    if (b->dropout) dropout = start_dropout(b->dropout);
    for (int y = 0; y < h; y++) {
        const float *x = b->x.p + y * b->x.row, *d_out = b->d_out.p + y * b->d_out.row, *dy = d_out;
        if (b->dy.p) {
            float *row = b->dy.p + y * b->dy.row;
            slope_row(row, d_out, x, b, w);
            if (b->dropout) dropout_row(row, (uint32_t)y * (uint32_t)w, w, &dropout);
            dy = row;
        }
        sum = row_sum(sum, dy, dy, w, shift, PLAIN);
        dot = row_sum(dot, x, dy, w, shift, PRODUCT);
    }
    v16_storeu(b->sum_hi, sum.hi), v16_storeu(b->sum_lo, sum.lo);
    v16_storeu(b->dot_hi, dot.hi), v16_storeu(b->dot_lo, dot.lo);
}

void FDM_KERNEL(gn_gradient)(const struct fdm_gn_gradient *g, int h, int w) {
    const v16 shift = v16_loadu(g->shift), offset = v16_loadu(g->offset);
    const v16 x_scale = v16_loadu(g->x_scale), dy_scale = v16_loadu(g->dy_scale);
    const bool accumulate = g->accumulate;
    for (int y = 0; y < h; y++) {
        const float *x = g->x.p + y * g->x.row, *dy = g->dy.p + y * g->dy.row;
        float *to = g->d_in.p + y * g->d_in.row;
        for (ptrdiff_t i = 0; i < 16 * (ptrdiff_t)w; i += 16) {
            const v16 x_part = v16_fma(v16_add(v16_load(x + i), shift), x_scale, offset);
            const v16 gradient = v16_fma(v16_load(dy + i), dy_scale, x_part);
            v16_store(to + i, accumulate ? v16_add(v16_load(to + i), gradient) : gradient);
        }
    }
}
