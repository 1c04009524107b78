/* groupnorm.c - the passes of group normalisation over one plane of 16 channels, one channel per lane.
 *
 * Sums are made to be as good as f64 ones at f32 speed: four partial sums over at most CHUNK pixels, whose total is
 * added with TwoSum, so that only the few additions inside a chunk leave an error.  The order depends on h and w
 * only.
 */
#include "simd/kernel_table.h"
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

V16_FN v16 accumulate(v16 sum, const float *p, struct shift shift, int square) {
    const v16 d = v16_add(v16_add(v16_load(p), shift.high), shift.low);
    return square ? v16_fma(d, d, sum) : v16_add(sum, d);
}

/* Sum over n <= CHUNK pixels of x + shift, or of its square. */
V16_FN v16 chunk_sum(const float *p, int n, struct shift shift, int square) {
    v16 a = v16_zero(), b = v16_zero(), c = v16_zero(), d = v16_zero();
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        a = accumulate(a, p + 16 * i, shift, square);
        b = accumulate(b, p + 16 * i + 16, shift, square);
        c = accumulate(c, p + 16 * i + 32, shift, square);
        d = accumulate(d, p + 16 * i + 48, shift, square);
    }
    for (; i < n; i++) a = accumulate(a, p + 16 * i, shift, square);
    return v16_add(v16_add(a, b), v16_add(c, d));
}

V16_FN void plane_sum(struct fdm_gn_sum *s, struct fdm_const_plane x, int square, int h, int w) {
    const struct shift shift = {v16_loadu(s->shift), v16_loadu(s->shift_low)};
    struct sums total = {v16_zero(), v16_zero()};
    for (int y = 0; y < h; y++) {
        const float *row = x.p + y * x.row;
        for (int i = 0; i < w; i += CHUNK)
            total =
                two_sum(total, chunk_sum(row + 16 * (ptrdiff_t)i, w - i < CHUNK ? w - i : CHUNK, shift, square));
    }
    v16_storeu(s->hi, total.hi);
    v16_storeu(s->lo, total.lo);
}

void FDM_KERNEL(gn_sum)(struct fdm_gn_sum *s, struct fdm_const_plane x, int h, int w) {
    plane_sum(s, x, 0, h, w);
}

void FDM_KERNEL(gn_sumsq)(struct fdm_gn_sum *s, struct fdm_const_plane x, int h, int w) {
    plane_sum(s, x, 1, h, w);
}

/* One loop for each of the four combinations; `silu` and `with_raw` are constants where it is inlined. */
V16_FN void apply_rows(const struct fdm_gn_apply *a, int h, int w, int silu, int with_raw) {
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
    }
}

void FDM_KERNEL(gn_apply)(const struct fdm_gn_apply *a, int h, int w) {
    if (a->silu && a->raw.p)
        apply_rows(a, h, w, 1, 1);
    else if (a->silu)
        apply_rows(a, h, w, 1, 0);
    else
        apply_rows(a, h, w, 0, a->raw.p != NULL);
}
