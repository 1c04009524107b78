/* test_groupnorm.c - group normalisation of the f32 backends against f64 loops, exact inputs, and bit for bit
 * between instruction sets, thread counts and batches.  (Goldens: test_layers.c.) */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "suite.h"
#include "nn/f32_layers.h"

/* What the input looks like: activations; a mean a thousand times the deviation; +-1 in equal numbers; constant. */
enum data { RANDOM, LARGE_MEAN, PLUS_MINUS, CONSTANT };

struct gn_case {
    int c, groups, h, w;
    enum data data;
    bool add, silu, raw;
};

static const struct gn_case cases[] = {
    /* channels per group 4, as in the network: whole and partly filled blocks */
    {4, 1, 1, 1, RANDOM, false, false, false},
    {8, 2, 3, 2, RANDOM, true, true, true},
    {12, 3, 5, 7, RANDOM, true, true, false},
    {20, 5, 4, 4, RANDOM, false, true, true},
    {36, 9, 6, 5, RANDOM, true, false, false},
    {128, 32, 16, 16, RANDOM, true, true, true},
    /* groups that straddle blocks: 5, 6, 7, 11, 20, 24 channels */
    {160, 32, 3, 5, RANDOM, true, true, true},
    {192, 32, 4, 4, RANDOM, true, true, false},
    {224, 32, 2, 3, RANDOM, false, true, false},
    {352, 32, 2, 2, RANDOM, true, true, true},
    {640, 32, 2, 2, RANDOM, true, false, true},
    {48, 2, 5, 3, RANDOM, false, false, false},
    {15, 3, 4, 3, RANDOM, true, true, true},
    {512, 32, 4, 4, RANDOM, true, true, false},
    /* rows longer than the chunk of 64 pixels, remainders modulo 4 */
    {16, 4, 3, 70, RANDOM, false, false, true},
    {8, 2, 2, 131, RANDOM, true, true, false},
    {16, 4, 8, 8, LARGE_MEAN, false, false, true},
    {160, 32, 8, 8, LARGE_MEAN, true, true, false},
    {16, 1, 2, 65, LARGE_MEAN, true, false, false},
    {32, 8, 4, 4, PLUS_MINUS, false, false, false},
    {160, 32, 2, 6, PLUS_MINUS, false, false, true},
    {32, 8, 9, 7, CONSTANT, false, false, true},
    {160, 32, 1, 3, CONSTANT, false, false, false},
};

enum { SAMPLES = 3 };

struct operands {
    struct fdm_map in;
    struct fdm_vec add;
    float *weight, *bias;
};

static float element(enum data data, uint64_t *state, int index) {
    if (data == PLUS_MINUS) return index % 2 ? -4.0f : 4.0f;
    if (data == CONSTANT) return 0.1f;
    return f32_value(state, FILL_RANDOM) + (data == LARGE_MEAN ? 1000.0f : 0.0f);
}

static struct operands draw_operands(const struct gn_case *t, uint64_t *state) {
    const enum fill fill = t->data == PLUS_MINUS ? FILL_EXACT : FILL_RANDOM;
    struct operands o = {
        f32_map_filled(state, SAMPLES, t->c, t->h, t->w, 1, FILL_EXACT), {SAMPLES, t->c, NULL}, 0, 0};
    for (int i = 0; i < SAMPLES * t->c * t->h * t->w; i++) {
        const int pixel = i % (t->h * t->w), c = i / (t->h * t->w) % t->c;
        *f32_at(&o.in, i / (t->c * t->h * t->w), c, pixel / t->w, pixel % t->w) = element(t->data, state, pixel);
    }
    o.add.data = f32_array(state, (size_t)(SAMPLES * t->c), fill);
    o.weight = f32_array(state, (size_t)t->c, fill);
    o.bias = f32_array(state, (size_t)t->c, fill);
    return o;
}

static void free_operands(struct operands *o) {
    fdm_free_aligned(o->in.data), fdm_free_aligned(o->add.data);
    fdm_free_aligned(o->weight), fdm_free_aligned(o->bias);
}

/* Exactness needs eps = 0: then +-4 has deviation 4. */
static double eps_of(const struct gn_case *t) {
    return t->data == PLUS_MINUS ? 0.0 : 1e-6;
}

struct results {
    struct fdm_map out, raw; /* halos of 1 and 2 */
};

static void free_results(struct results *r) {
    fdm_free_aligned(r->out.data);
    fdm_free_aligned(r->raw.data);
}

/* Rows first .. first + in->n - 1 of the added vectors. */
static struct results run(const struct gn_case *t, const struct operands *o, const struct fdm_map *in, int first,
                          enum fdm_isa isa, int threads) {
    const struct fdm_exec exec = f32_exec(isa, threads);
    struct results r = {f32_map(in->n, t->c, t->h, t->w, 1), f32_map(in->n, t->c, t->h, t->w, 2)};
    const struct fdm_vec add = {in->n, t->c, (float *)o->add.data + first * t->c};
    void *packed = fdm_malloc_aligned(fdm_f32_groupnorm_packed_bytes(t->c));
    ck_assert_ptr_nonnull(packed);
    fdm_f32_groupnorm_pack(&exec, packed, o->weight, o->bias, t->c);
    const struct fdm_groupnorm_args args = {.groups = t->groups,
                                            .eps = eps_of(t),
                                            .param = packed,
                                            .silu = t->silu,
                                            .add = t->add ? &add : NULL,
                                            .raw = t->raw ? &r.raw : NULL};
    fdm_f32_groupnorm(&exec, &r.out, in, &args);
    fdm_free_aligned(packed);
    f32_check_zeros(&r.out, "out");
    if (t->raw) f32_check_zeros(&r.raw, "raw");
    return r;
}

/* ---- truth ------------------------------------------------------------------------------------------------ */

struct group_truth {
    double mean, scale; /* 1/sqrt(var + eps) */
    double spread;      /* mean distance of a channel's pixels from its first, which the sums are built from */
};

static double value_at(const struct gn_case *t, const struct operands *o, int n, int c, int pixel) {
    const double x = (double)*f32_at(&o->in, n, c, pixel / t->w, pixel % t->w);
    return t->add ? x + (double)((float *)o->add.data)[n * t->c + c] : x;
}

static struct group_truth find_truth(const struct gn_case *t, const struct operands *o, int n, int group) {
    const int channels = t->c / t->groups, pixels = t->h * t->w;
    struct group_truth g = {0, 0, 0};
    double var = 0;
    for (int i = 0; i < channels * pixels; i++) {
        const int c = group * channels + i / pixels;
        g.mean += value_at(t, o, n, c, i % pixels);
        g.spread += fabs(value_at(t, o, n, c, i % pixels) - value_at(t, o, n, c, 0));
    }
    g.mean /= channels * pixels, g.spread /= channels * pixels;
    for (int i = 0; i < channels * pixels; i++) {
        const double d = value_at(t, o, n, group * channels + i / pixels, i % pixels) - g.mean;
        var += d * d;
    }
    g.scale = 1 / sqrt(var / (channels * pixels) + eps_of(t));
    return g;
}

/* Compares one element, before and after SiLU; returns the error over its bound.  In units of u = 2^-24: x + shift
 * and scale are rounded once (2 |y|), the variance is off by at most the 18 additions in a chunk and the squares
 * (20, so 10 in its root), the mean by 18 times what was added up; offset and the FMA are rounded once.  SiLU has
 * slope <= 1.1 and is off by 3.5 ULP <= 7 u of itself. */
static double check_element(const struct gn_case *t, const struct operands *o, const struct results *r, int n,
                            int c, int pixel) {
    const struct group_truth g = find_truth(t, o, n, c / (t->c / t->groups));
    const double weight = (double)o->weight[c], bias = (double)o->bias[c];
    const double y = (value_at(t, o, n, c, pixel) - g.mean) * g.scale * weight, want = y + bias;
    const double bound =
        0x1p-24 * (12 * fabs(y) + 18 * g.spread * g.scale * fabs(weight) + fabs(bias) + fabs(want)) + 0x1p-60;
    const double got = (double)*f32_at(&r->out, n, c, pixel / t->w, pixel % t->w);
    double error = 0;
    if (t->raw) error = fabs((double)*f32_at(&r->raw, n, c, pixel / t->w, pixel % t->w) - want) / bound;
    if (!t->silu) return fmax(error, fabs(got - want) / bound);
    const double silu = want / (1 + exp(-want));
    const double silu_error = fabs(got - silu) / (1.1 * bound + 7 * 0x1p-24 * fabs(silu));
    return silu_error <= error ? error : silu_error; /* keeps a NaN */
}

static void check_accuracy(const struct gn_case *t, const struct operands *o, const struct results *r) {
    double worst = 0;
    /* find_truth is slow and simple: a spread of elements is enough, every channel among them */
    for (int n = 0; n < SAMPLES; n++)
        for (int c = 0; c < t->c; c++)
            for (int i = 0; i < 3; i++) {
                const int pixel = (c * 7 + i * 31) % (t->h * t->w);
                const double error = check_element(t, o, r, n, c, pixel);
                if (!(error <= worst)) worst = error;
                if (!(error <= 1)) ck_abort_msg("n %d c %d pixel %d: error %.3g of its bound", n, c, pixel, error);
            }
    printf("groupnorm c %3d groups %2d %2dx%-3d%s%s%s: worst error %.3f of its bound\n", t->c, t->groups, t->h,
           t->w, t->add ? " add" : "", t->silu ? " silu" : "", t->data == LARGE_MEAN ? " large mean" : "", worst);
}

/* Exact by construction: +-4 normalises to +-1, a constant to 0. */
static void check_exact(const struct gn_case *t, const struct operands *o, const struct results *r) {
    for (int i = 0; i < SAMPLES * t->c * t->h * t->w; i++) {
        const int pixel = i % (t->h * t->w), c = i / (t->h * t->w) % t->c, n = i / (t->h * t->w * t->c);
        const float x = *f32_at(&o->in, n, c, pixel / t->w, pixel % t->w);
        const float want = t->data == CONSTANT ? o->bias[c] : x / 4 * o->weight[c] + o->bias[c];
        const float got = *f32_at(&r->out, n, c, pixel / t->w, pixel % t->w);
        if (!(got == want))
            ck_abort_msg("n %d c %d pixel %d: %a, not exactly %a", n, c, pixel, (double)got, (double)want);
    }
}

static void check_same(const struct gn_case *t, const struct results *a, const struct results *b,
                       const char *what) {
    ck_assert_msg(memcmp(a->out.data, b->out.data, f32_map_bytes(&a->out)) == 0, "%s: out differs", what);
    if (t->raw)
        ck_assert_msg(memcmp(a->raw.data, b->raw.data, f32_map_bytes(&a->raw)) == 0, "%s: raw differs", what);
}

/* Sample n run alone gives the bits that it has in the batch. */
static void check_alone(const struct gn_case *t, const struct operands *o, const struct results *batch, int n) {
    struct fdm_map in = f32_sample(&o->in, n);
    struct results part = {f32_sample(&batch->out, n), f32_sample(&batch->raw, n)};
    struct results alone = run(t, o, &in, n, fdm_isa_best(), 2);
    check_same(t, &part, &alone, "one sample alone");
    free_results(&part);
    free_results(&alone);
    fdm_free_aligned(in.data);
}

START_TEST(against_f64_and_each_other) {
    const struct gn_case *t = &cases[_i];
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    uint64_t state = (uint64_t)_i;
    struct operands o = draw_operands(t, &state);
    struct results first = run(t, &o, &o.in, 0, FDM_ISA_ID_PORTABLE, 1);
    check_accuracy(t, &o, &first);
    if (t->data == PLUS_MINUS || t->data == CONSTANT) check_exact(t, &o, &first);
    for (int k = 0; k < count; k++)
        for (int threads = 1; threads <= 4; threads *= 2) {
            struct results r = run(t, &o, &o.in, 0, list[k], threads);
            check_same(t, &first, &r, fdm_isa_name(list[k]));
            free_results(&r);
        }
    for (int n = 0; n < SAMPLES; n++) check_alone(t, &o, &first, n);
    free_results(&first);
    free_operands(&o);
}
END_TEST

/* A NaN spoils its own group of its own sample and nothing else, pad channels and halo included. */
START_TEST(nan_stays_in_its_group) {
    const struct gn_case t = {20, 5, 3, 3, RANDOM, true, true, true};
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    uint64_t state = 9;
    struct operands o = draw_operands(&t, &state);
    *f32_at(&o.in, 1, 17, 2, 1) = NAN; /* group 4: channels 16 .. 19 */
    for (int k = 0; k < count; k++) {
        struct results r = run(&t, &o, &o.in, 0, list[k], 2); /* checks the zeros */
        for (int i = 0; i < SAMPLES * t.c * 9; i++) {
            const int c = i / 9 % t.c, n = i / 9 / t.c;
            const bool is_nan = isnan(*f32_at(&r.out, n, c, i % 9 / 3, i % 3));
            if (is_nan != (n == 1 && c >= 16)) ck_abort_msg("%s: n %d c %d", fdm_isa_name(list[k]), n, c);
        }
        free_results(&r);
    }
    free_operands(&o);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("groupnorm");
    TCase *tcase = tcase_create("groupnorm");
    tcase_set_timeout(tcase, 300); /* not about speed: sanitizer builds on a loaded machine */
    tcase_add_loop_test(tcase, against_f64_and_each_other, 0, (int)FDM_ARRAY_LEN(cases));
    tcase_add_test(tcase, nan_stays_in_its_group);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
