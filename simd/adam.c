/* adam.c - one pass of clean-up, Adam and averaging over flat arrays (formulas: src/train/optimizer.h). */
#include "simd/kernel_table.h"
#include "simd/v16.h"

struct state {
    v16 param, m, v, ema, grad;
};

struct numbers {
    v16 beta1, one_minus_beta1, beta2, one_minus_beta2, eps, root_correction2, minus_rate, decay, one_minus_decay;
    int nearer_param; /* decay < 1/2 */
};

V16_FN struct numbers spread(const struct fdm_adam_step *s) {
    return (struct numbers){.beta1 = v16_set1(s->beta1),
                            .one_minus_beta1 = v16_set1(s->one_minus_beta1),
                            .beta2 = v16_set1(s->beta2),
                            .one_minus_beta2 = v16_set1(s->one_minus_beta2),
                            .eps = v16_set1(s->eps),
                            .root_correction2 = v16_set1(s->root_correction2),
                            .minus_rate = v16_set1(s->minus_rate),
                            .decay = v16_set1(s->decay),
                            .one_minus_decay = v16_set1(1.0f - s->decay),
                            .nearer_param = s->decay < 0.5f};
}

/* NaN -> 0, +-inf -> +-1e5; lanes of *count that were so go up by one. */
V16_FN v16 clean(v16 g, v16 *count) {
    const v16 infinity = v16_set1(__builtin_inff()), one = v16_set1(1.0f), large = v16_set1(1e5f);
    const v16m finite = v16_lt(v16_abs(g), infinity);
    *count = v16_add(*count, v16_select(finite, v16_zero(), one));
    const v16 limit = v16_select(v16_eq(g, infinity), large, v16_neg(large));
    return v16_select(finite, g, v16_select(v16_eq(g, g), limit, v16_zero()));
}

V16_FN void update(struct state *s, const struct numbers *k, v16 *count) {
    const v16 g = clean(s->grad, count);
    s->m = v16_fma(g, k->one_minus_beta1, v16_mul(s->m, k->beta1));
    s->v = v16_fma(v16_mul(k->one_minus_beta2, g), g, v16_mul(s->v, k->beta2));
    const v16 denominator = v16_add(v16_div(v16_sqrt(s->v), k->root_correction2), k->eps);
    s->param = v16_add(s->param, v16_div(v16_mul(k->minus_rate, s->m), denominator));
    const v16 way = v16_sub(s->ema, s->param);
    s->ema = k->nearer_param ? v16_fma(k->decay, way, s->param) : v16_fnma(way, k->one_minus_decay, s->ema);
}

/* Lane counters hold 2^24 at most: far more than a stretch of 16 x 2^20. */
enum { STRETCH = 1 << 24 };

V16_FN size_t adam_stretch(float *param, float *m, float *v, float *ema, const float *grad, const struct numbers *k,
                           size_t n) {
    v16 count = v16_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        struct state s = {v16_loadu(param + i), v16_loadu(m + i), v16_loadu(v + i), v16_loadu(ema + i),
                          v16_loadu(grad + i)};
        update(&s, k, &count);
        v16_storeu(param + i, s.param), v16_storeu(m + i, s.m), v16_storeu(v + i, s.v), v16_storeu(ema + i, s.ema);
    }
    const int tail = (int)(n - i);
    if (tail > 0) { /* the other lanes are zeros, with gradients of zero */
        struct state s = {v16_load_tail(param + i, tail), v16_load_tail(m + i, tail), v16_load_tail(v + i, tail),
                          v16_load_tail(ema + i, tail), v16_load_tail(grad + i, tail)};
        update(&s, k, &count);
        v16_store_tail(param + i, s.param, tail), v16_store_tail(m + i, s.m, tail);
        v16_store_tail(v + i, s.v, tail), v16_store_tail(ema + i, s.ema, tail);
    }
    float lanes[16];
    size_t sum = 0;
    v16_storeu(lanes, count);
    for (int lane = 0; lane < 16; lane++) sum += (size_t)lanes[lane];
    return sum;
}

void FDM_KERNEL(adam)(float *param, float *m, float *v, float *ema, const float *grad,
                      const struct fdm_adam_step *step, size_t *cleaned, size_t n) {
    const struct numbers k = spread(step);
    *cleaned = 0;
    for (size_t i = 0; i < n; i += STRETCH)
        *cleaned += adam_stretch(param + i, m + i, v + i, ema + i, grad + i, &k, n - i < STRETCH ? n - i : STRETCH);
}
