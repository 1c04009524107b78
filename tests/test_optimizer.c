/* test_optimizer.c - Adam with clean-up and averaging: to the bit a scalar transcription of the formulas in optimizer.h,
 * near their f64 version, and PyTorch's own results; NaN and infinity, tails, alignment, instruction sets, threads. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "guarded.h"
#include "suite.h"
#include "simd/kernel_table.h"
#include "train/optimizer.h"

static const struct fdm_adam_options published = {1e-3, 0.9, 0.999, 1e-8};

enum { PARAM, M, V, EMA, GRAD, ARRAYS };

struct arrays {
    float *p[ARRAYS];
    size_t count;
};

static struct fdm_adam_arrays view(const struct arrays *a) {
    return (struct fdm_adam_arrays){a->p[PARAM], a->p[M], a->p[V], a->p[EMA], a->p[GRAD], a->count};
}

static float value(uint64_t *state) { return ldexpf(f32_value(state, FILL_RANDOM), f32_below(state, 12) - 8); }

static void draw(struct arrays *a, uint64_t *state) {
    for (int j = 0; j < ARRAYS; j++)
        for (size_t i = 0; i < a->count; i++) a->p[j][i] = j == V ? fabsf(value(state)) * 0.01f : value(state);
}

static struct arrays arrays_new(size_t count) {
    struct arrays a = {.count = count};
    for (int j = 0; j < ARRAYS; j++) ck_assert_ptr_nonnull(a.p[j] = malloc(count * sizeof(float)));
    return a;
}

static struct arrays arrays_copy(const struct arrays *from) {
    struct arrays a = arrays_new(from->count);
    for (int j = 0; j < ARRAYS; j++) memcpy(a.p[j], from->p[j], from->count * sizeof(float));
    return a;
}

static void arrays_free(struct arrays *a) {
    for (int j = 0; j < ARRAYS; j++) free(a->p[j]);
}

/* ---- the formulas, one element ---------------------------------------------------------------------------- */

static bool clean_f32(float *g) {
    if (isfinite(*g)) return false;
    *g = isnan(*g) ? 0.0f : *g > 0 ? 1e5f : -1e5f;
    return true;
}

static bool scalar_f32(float x[ARRAYS], const struct fdm_adam_options *o, int step, double decay) {
    float g = x[GRAD];
    const bool bad = clean_f32(&g);
    const float root = (float)sqrt(1 - pow(o->beta2, step)), rate = (float)(o->lr / (1 - pow(o->beta1, step)));
    const float d = (float)decay, first = (float)(1 - o->beta1), second = (float)(1 - o->beta2);
    const float old_m = x[M] * (float)o->beta1, old_v = x[V] * (float)o->beta2, scaled = second * g;
    x[M] = fmaf(g, first, old_m);
    x[V] = fmaf(scaled, g, old_v);
    const float denominator = sqrtf(x[V]) / root + (float)o->eps, step_up = rate * x[M];
    x[PARAM] = x[PARAM] - step_up / denominator;
    const float way = x[EMA] - x[PARAM];
    x[EMA] = d < 0.5f ? fmaf(d, way, x[PARAM]) : fmaf(-way, 1.0f - d, x[EMA]);
    return bad;
}

static void scalar_f64(double x[ARRAYS], const struct fdm_adam_options *o, int step, double decay) {
    const double g = x[GRAD];
    x[M] = o->beta1 * x[M] + (1 - o->beta1) * g;
    x[V] = o->beta2 * x[V] + (1 - o->beta2) * g * g;
    const double m = x[M] / (1 - pow(o->beta1, step)), v = x[V] / (1 - pow(o->beta2, step));
    x[PARAM] -= o->lr * m / (sqrt(v) + o->eps);
    x[EMA] = decay * x[EMA] + (1 - decay) * x[PARAM];
}

/* Checks `after` against the transcription on `before`; returns how many gradients it cleaned. */
static size_t check_bits(const struct arrays *after, const struct arrays *before, const struct fdm_adam_options *o,
                         int step, double decay, const char *what) {
    size_t cleaned = 0;
    for (size_t i = 0; i < before->count; i++) {
        float x[ARRAYS];
        for (int j = 0; j < ARRAYS; j++) x[j] = before->p[j][i];
        cleaned += scalar_f32(x, o, step, decay);
        for (int j = 0; j < ARRAYS; j++)
            if (memcmp(&x[j], &after->p[j][i], sizeof(float)) != 0)
                ck_abort_msg("%s, n %zu: element %zu of array %d: %a, not %a", what, before->count, i, j,
                             (double)after->p[j][i], (double)x[j]);
    }
    return cleaned;
}

/* ---- tests ------------------------------------------------------------------------------------------------ */

/* Every tail, at both edges of a page; a share of the gradients is not finite. */
START_TEST(tails_and_clean_up) {
    enum { MAX_TAIL = 50 };
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    static const double decays[] = {0, 0.3, 0.5, 0.999, 1};
    uint64_t state = 1;
    struct guarded g[ARRAYS];
    for (int j = 0; j < ARRAYS; j++) g[j] = guarded_new(MAX_TAIL);
    size_t total = 0;
    for (int i = 0; i < 2 * (MAX_TAIL + 1) * count; i++) {
        const size_t n = (size_t)(i / 2 / count);
        const enum fdm_isa isa = list[i / 2 % count];
        struct arrays a = {.count = n};
        for (int j = 0; j < ARRAYS; j++) guarded_place(&g[j], n, i % 2), a.p[j] = g[j].p;
        draw(&a, &state);
        for (size_t e = 0; e < n; e++)
            if (f32_below(&state, 3) == 0) {
                const float special[] = {NAN, INFINITY, -INFINITY, -NAN, 0.0f, -0.0f, 0x1p-149f, 0x1.fffffep127f};
                a.p[GRAD][e] = special[f32_below(&state, 6)]; /* the large ones make v infinite: left out */
            }
        struct arrays before = arrays_copy(&a);
        const struct fdm_adam_arrays arrays = view(&a);
        const double decay = decays[i % 5];
        const size_t cleaned = fdm_adam_update(fdm_kernels_for(isa), 1, &arrays, &published, 1 + i % 7, decay);
        ck_assert_uint_eq(cleaned, check_bits(&a, &before, &published, 1 + i % 7, decay, fdm_isa_name(isa)));
        total += cleaned;
        arrays_free(&before);
    }
    ck_assert_uint_gt(total, 100);
    for (int j = 0; j < ARRAYS; j++) guarded_free(&g[j]);
}
END_TEST

/* Several units of work: the same bits for every instruction set and thread count, and for the transcription. */
START_TEST(same_everywhere) {
    enum { COUNT = 3 * (1 << 14) + 777, STEPS = 3 };
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    uint64_t state = 2;
    struct arrays start = arrays_new(COUNT);
    draw(&start, &state);
    for (int i = 0; i < COUNT; i += 1000) start.p[GRAD][i] = i % 2000 ? NAN : -INFINITY;
    for (int k = 0; k < count * 3; k++) {
        struct arrays a = arrays_copy(&start);
        for (int step = 1; step <= STEPS; step++) {
            struct arrays before = arrays_copy(&a);
            const struct fdm_adam_arrays arrays = view(&a);
            const struct fdm_adam_options o = {1e-3 * step, 0.9, 0.999, 1e-8};
            const size_t cleaned = fdm_adam_update(fdm_kernels_for(list[k / 3]), 1 + k % 3, &arrays, &o, step, 0.9995);
            ck_assert_uint_eq(cleaned, (COUNT + 999) / 1000);
            ck_assert_uint_eq(cleaned, check_bits(&a, &before, &o, step, 0.9995, fdm_isa_name(list[k / 3])));
            arrays_free(&before);
        }
        arrays_free(&a);
    }
    arrays_free(&start);
}
END_TEST

/* Twenty steps from m = v = 0 against f64.  m and v are chains of 20 roundings, param and ema gain one rounding of
 * themselves and a few of the update a step: with the errors at random far below 1e-6 of the largest element. */
START_TEST(against_f64) {
    enum { COUNT = 1000, STEPS = 20 };
    uint64_t state = 3;
    struct arrays a = arrays_new(COUNT);
    draw(&a, &state);
    static double x[COUNT][ARRAYS];
    for (int i = 0; i < COUNT; i++) {
        a.p[M][i] = a.p[V][i] = 0, a.p[EMA][i] = a.p[PARAM][i];
        for (int j = 0; j < ARRAYS; j++) x[i][j] = (double)a.p[j][i];
    }
    for (int step = 1; step <= STEPS; step++) {
        for (int i = 0; i < COUNT; i++) x[i][GRAD] = (double)(a.p[GRAD][i] = value(&state));
        const struct fdm_adam_arrays arrays = view(&a);
        ck_assert_uint_eq(fdm_adam_update(fdm_kernels_for(fdm_isa_best()), 2, &arrays, &published, step, 0.98), 0);
        for (int i = 0; i < COUNT; i++) scalar_f64(x[i], &published, step, 0.98);
    }
    for (int j = 0; j < GRAD; j++) {
        double error = 0, largest = 0;
        for (int i = 0; i < COUNT; i++) {
            const double e = fabs((double)a.p[j][i] - x[i][j]);
            if (!(e <= error)) error = e;
            largest = fmax(largest, fabs(x[i][j]));
        }
        static const char *const names[] = {"param", "m", "v", "ema"};
        printf("adam, %d steps: %s off by %.1e of the largest\n", STEPS, names[j], error / largest);
        ck_assert(error <= 1e-6 * largest);
    }
    arrays_free(&a);
}
END_TEST

/* Three steps made with torch.optim.Adam and torch.lerp of PyTorch 1.13 on a CPU with AVX2 (published options; decays
 * 0.3, 0.9, 0.9995): equal to the bit. */
/* clang-format off */
static const float torch_param[8] = {0x1.9b4700p-1f, 0x1.660f0cp-3f, 0x1.6c744cp-4f, -0x1.3a3940p-1f, 0x1.7a539ep-5f, -0x1.5e463cp+0f, 0x1.599850p-2f, 0x1.02d87ep+0f};
static const float torch_grad[3][8] = {{-0x1.25ecbcp-3f, 0x1.905b26p-4f, 0x1.aba9d0p-5f, 0x1.fb0cfap-4f, -0x1.62279ep-4f, 0x1.e9d144p-6f, 0x1.576c86p-5f, -0x1.05aaaap-7f},
{0x1.7b7538p-4f, 0x1.4e19fep-4f, 0x1.95a8aap-5f, -0x1.0d378ap-6f, -0x1.15b17ep-4f, -0x1.b1cf76p-4f, 0x1.3241aep-4f, 0x1.87713ap-6f},
{-0x1.413fdep-5f, 0x1.f1cb74p-7f, -0x1.e4db6ep-4f, 0x1.b5bf90p-5f, -0x1.292b62p-3f, -0x1.01caa6p-4f, 0x1.f9fcc6p-7f, -0x1.964e9ep-6f}};
static const float torch_after[4][8] = {{0x1.9c0166p-1f, 0x1.60446ep-3f, 0x1.64dd66p-4f, -0x1.3b5c3ep-1f, 0x1.928adcp-5f, -0x1.5e387cp+0f, 0x1.56b1a4p-2f, 0x1.030542p+0f},
{-0x1.d86ee2p-8f, 0x1.12e1b4p-6f, -0x1.9d247cp-9f, 0x1.c73588p-7f, -0x1.c4738ap-6f, -0x1.b739f0p-7f, 0x1.7e5f70p-7f, -0x1.fff2ecp-11f},
{0x1.0142acp-15f, 0x1.135940p-16f, 0x1.41d154p-16f, 0x1.350484p-16f, 0x1.15b99ep-15f, 0x1.0d6cc4p-16f, 0x1.fc80bcp-18f, 0x1.4f3e12p-20f},
{0x1.9ba8d0p-1f, 0x1.645bd2p-3f, 0x1.690d9ep-4f, -0x1.3aa072p-1f, 0x1.811fa6p-5f, -0x1.5e728cp+0f, 0x1.58bf14p-2f, 0x1.03051ap+0f}};
/* clang-format on */

START_TEST(pytorch_bits) {
    static const double decays[3] = {0.3, 0.9, 0.9995};
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    for (int k = 0; k < count; k++) {
        struct arrays a = arrays_new(8);
        for (int i = 0; i < 8; i++) a.p[PARAM][i] = a.p[EMA][i] = torch_param[i], a.p[M][i] = a.p[V][i] = 0;
        for (int step = 1; step <= 3; step++) {
            memcpy(a.p[GRAD], torch_grad[step - 1], sizeof torch_grad[0]);
            const struct fdm_adam_arrays arrays = view(&a);
            fdm_adam_update(fdm_kernels_for(list[k]), 1, &arrays, &published, step, decays[step - 1]);
        }
        for (int j = 0; j < GRAD; j++)
            for (int i = 0; i < 8; i++)
                ck_assert_msg(a.p[j][i] == torch_after[j][i], "%s: array %d, %d: %a, not %a", fdm_isa_name(list[k]), j,
                              i, (double)a.p[j][i], (double)torch_after[j][i]);
        arrays_free(&a);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("optimizer");
    TCase *tcase = tcase_create("optimizer");
    tcase_set_timeout(tcase, 300); /* not about speed: sanitizer builds on a loaded machine */
    tcase_add_test(tcase, tails_and_clean_up);
    tcase_add_test(tcase, same_everywhere);
    tcase_add_test(tcase, against_f64);
    tcase_add_test(tcase, pytorch_bits);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
