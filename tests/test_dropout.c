/* test_dropout.c - dropout behind group norm of the f32 backends: the mask is the formula of backend.h, element by
 * element, whatever the batch, the threads and the instruction set; it keeps the share it should. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "splitmix.h"
#include "suite.h"
#include "fdm/random.h"
#include "nn/f32_layers.h"

struct drop_case {
    int n, c, groups, h, w;
    bool silu, raw;
    double p;
    uint32_t layer;
};

static const struct drop_case cases[] = {
    {3, 16, 4, 4, 4, true, false, 0.13, 0},
    {2, 20, 5, 3, 3, true, true, 0.5, 1}, /* rows that end amid a counter */
    {2, 160, 32, 5, 7, true, false, 0.1, 65535},
    {1, 8, 2, 1, 1, false, false, 0.25, 3},
    {2, 12, 3, 2, 6, false, true, 0.9, 9},
    {3, 36, 9, 3, 70, true, false, 0.13, 17},
    {2, 64, 16, 8, 8, true, false, 1e-3, 40000},
    {1, 16, 4, 8, 8, true, false, 1 - 0x1p-40, 2}, /* p 2^32 rounds to 2^32: nothing is kept */
    {1, 16, 4, 8, 8, true, true, 0x1p-40, 2},      /* ... to 0: nothing is dropped */
};

struct results {
    struct fdm_map out, raw;
};

static void free_results(struct results *r) {
    fdm_free_aligned(r->out.data);
    fdm_free_aligned(r->raw.data);
}

static struct results run(const struct drop_case *t, const struct fdm_map *in, const struct fdm_dropout *dropout,
                          enum fdm_isa isa, int threads) {
    const struct fdm_exec exec = f32_exec(isa, threads);
    struct results r = {f32_map(in->n, t->c, t->h, t->w, 1), f32_map(in->n, t->c, t->h, t->w, 2)};
    void *packed = fdm_malloc_aligned(fdm_f32_groupnorm_packed_bytes(t->c));
    float *weight = malloc((size_t)t->c * sizeof *weight), *bias = malloc((size_t)t->c * sizeof *bias);
    ck_assert(packed && weight && bias);
    for (int c = 0; c < t->c; c++) weight[c] = 1 + 0.01f * (float)c, bias[c] = 0.3f - 0.02f * (float)c;
    fdm_f32_groupnorm_pack(&exec, packed, weight, bias, t->c);
    const struct fdm_groupnorm_args args = {.groups = t->groups,
                                            .eps = 1e-6,
                                            .param = packed,
                                            .silu = t->silu,
                                            .raw = t->raw ? &r.raw : NULL,
                                            .dropout = dropout};
    fdm_f32_groupnorm(&exec, &r.out, in, &args);
    free(weight), free(bias), fdm_free_aligned(packed);
    f32_check_zeros(&r.out, "out");
    if (!t->raw) memset(r.raw.data, 0, f32_map_bytes(&r.raw));
    return r;
}

static bool keeps(const struct drop_case *t, uint64_t key, int c, int pixel) {
    const uint32_t counter[4] = {(uint32_t)pixel / 4, t->layer << 16 | (uint32_t)c, 0, 0};
    const uint32_t words[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    uint32_t out[4];
    fdm_philox4x32_10(out, counter, words);
    return (double)out[pixel % 4] >= rint(t->p * 0x1p32);
}

/* Every element: +0 or the undropped one times the factor, rounded once; raw is not touched. */
static void check_mask(const struct drop_case *t, const struct results *dropped, const struct results *plain,
                       const uint64_t *keys) {
    const float factor = (float)(1 / (1 - t->p));
    for (int i = 0; i < t->n * t->c * t->h * t->w; i++) {
        const int pixel = i % (t->h * t->w), c = i / (t->h * t->w) % t->c, n = i / (t->h * t->w * t->c);
        const int y = pixel / t->w, x = pixel % t->w;
        const float before = *f32_at(&plain->out, n, c, y, x), got = *f32_at(&dropped->out, n, c, y, x);
        const float want = keeps(t, keys[n], c, pixel) ? before * factor : 0;
        if (memcmp(&got, &want, sizeof got) != 0)
            ck_abort_msg("n %d c %d pixel %d: %a, not %a", n, c, pixel, (double)got, (double)want);
    }
    ck_assert_mem_eq(dropped->raw.data, plain->raw.data, f32_map_bytes(&plain->raw));
}

START_TEST(mask_is_the_formula) {
    const struct drop_case *t = &cases[_i];
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    uint64_t state = (uint64_t)_i + 1, keys[3];
    for (int n = 0; n < 3; n++) keys[n] = splitmix_next(&state);
    const struct fdm_dropout dropout = {t->p, t->layer, keys};
    struct fdm_map in = f32_map_filled(&state, t->n, t->c, t->h, t->w, 0, FILL_RANDOM);
    struct results plain = run(t, &in, NULL, FDM_ISA_ID_PORTABLE, 1);
    for (int k = 0; k < count; k++)
        for (int threads = 1; threads <= 3; threads++) {
            struct results r = run(t, &in, &dropout, list[k], threads);
            check_mask(t, &r, &plain, keys);
            free_results(&r);
        }
    /* the last sample alone, with its key */
    struct fdm_map last = f32_sample(&in, t->n - 1), batch;
    const struct fdm_dropout last_dropout = {t->p, t->layer, keys + t->n - 1};
    struct results whole = run(t, &in, &dropout, fdm_isa_best(), 2);
    struct results alone = run(t, &last, &last_dropout, fdm_isa_best(), 2);
    batch = f32_sample(&whole.out, t->n - 1);
    ck_assert_mem_eq(batch.data, alone.out.data, f32_map_bytes(&batch));
    fdm_free_aligned(last.data), fdm_free_aligned(batch.data), fdm_free_aligned(in.data);
    free_results(&plain), free_results(&whole), free_results(&alone);
}
END_TEST

START_TEST(zero_probability_is_the_identity) {
    const struct drop_case t = {2, 20, 5, 5, 7, true, true, 0, 4};
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    const uint64_t keys[2] = {1, 2};
    const struct fdm_dropout dropout = {0, 4, keys};
    uint64_t state = 8;
    struct fdm_map in = f32_map_filled(&state, t.n, t.c, t.h, t.w, 1, FILL_RANDOM);
    for (int k = 0; k < count; k++) {
        struct results plain = run(&t, &in, NULL, list[k], 2), r = run(&t, &in, &dropout, list[k], 2);
        ck_assert_mem_eq(plain.out.data, r.out.data, f32_map_bytes(&r.out));
        free_results(&plain), free_results(&r);
    }
    fdm_free_aligned(in.data);
}
END_TEST

/* The share of kept elements, within four standard deviations of a binomial; of each of the four words, too. */
START_TEST(keep_rate) {
    static const double ps[] = {0.1, 0.13, 0.5, 0.9};
    const struct drop_case t = {4, 128, 32, 16, 16, false, false, ps[_i], 5};
    uint64_t state = 77, keys[4];
    for (int n = 0; n < 4; n++) keys[n] = splitmix_next(&state);
    const struct fdm_dropout dropout = {t.p, t.layer, keys};
    struct fdm_map in = f32_map_filled(&state, t.n, t.c, t.h, t.w, 0, FILL_RANDOM);
    struct results r = run(&t, &in, &dropout, fdm_isa_best(), 2);
    const int count = t.n * t.c * t.h * t.w;
    int kept[4] = {0}, all = 0;
    for (int i = 0; i < count; i++) {
        const int pixel = i % 256;
        const bool keep = *f32_at(&r.out, i / 256 / t.c, i / 256 % t.c, pixel / t.w, pixel % t.w) != 0;
        kept[pixel % 4] += keep, all += keep;
    }
    const double sigma = sqrt(count * t.p * (1 - t.p)), off = (all - count * (1 - t.p)) / sigma;
    printf("dropout p %.2f: kept %d of %d, %.2f sigma from the mean\n", t.p, all, count, off);
    ck_assert(fabs(off) <= 4);
    for (int j = 0; j < 4; j++) ck_assert(fabs(kept[j] - count / 4.0 * (1 - t.p)) <= 4 * sigma / 2);
    free_results(&r);
    fdm_free_aligned(in.data);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dropout");
    TCase *tcase = tcase_create("dropout");
    tcase_set_timeout(tcase, 300); /* not about speed: sanitizer builds on a loaded machine */
    tcase_add_loop_test(tcase, mask_is_the_formula, 0, (int)FDM_ARRAY_LEN(cases));
    tcase_add_test(tcase, zero_probability_is_the_identity);
    tcase_add_loop_test(tcase, keep_rate, 0, 4);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
