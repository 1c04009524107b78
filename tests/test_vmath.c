/* test_vmath.c - our exp, log, sin, cos, sigmoid, tanh, silu and sqrt against f64 libm, argument by argument.
 *
 * By default every 257th of the 2^32 floats and all neighbourhoods where something special happens; with
 * FDM_TEST_EXHAUSTIVE=1 every float (minutes).  On the same arguments, all instruction sets must give the same bits
 * (promise P1).  The bounds are those that simd/vmath.h promises.
 */
#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "simd/kernel_table.h"

static double sigmoid_f64(double x) {
    return 1.0 / (1.0 + exp(-x));
}
/* The limit at -inf, where the formula gives NaN. */
static double silu_f64(double x) {
    return x == -INFINITY ? -0.0 : x / (1.0 + exp(-x));
}

struct function {
    const char *name;
    double (*truth)(double);
    void (*const *kernel)(float *, const float *, size_t); /* in the portable table; others by offset */
    double bound;                                          /* ULP */
};

#define KERNEL_OF(member) &fdm_kernels_portable.member
static const struct function functions[] = {
    {"exp", exp, KERNEL_OF(vexp), 1.5},
    {"log", log, KERNEL_OF(vlog), 1.5},
    {"sin", sin, KERNEL_OF(vsin), 1.5},
    {"cos", cos, KERNEL_OF(vcos), 1.5},
    {"sigmoid", sigmoid_f64, KERNEL_OF(vsigmoid), 3.0},
    {"tanh", tanh, KERNEL_OF(vtanh), 2.0},
    {"silu", silu_f64, KERNEL_OF(vsilu), 3.5},
    {"sqrt", sqrt, KERNEL_OF(vsqrt), 0.5}, /* correctly rounded */
};

typedef void unary_kernel(float *, const float *, size_t);

static unary_kernel *kernel_for(const struct function *f, enum fdm_isa isa) {
    const size_t offset = (size_t)((const char *)f->kernel - (const char *)&fdm_kernels_portable);
    unary_kernel *kernel;
    memcpy(&kernel, (const char *)fdm_kernels_for(isa) + offset, sizeof kernel);
    return kernel;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Error in ULP of the f32 nearest to truth; infinity stands for 2^128, so that overflow is judged like any
 * other rounding.  HUGE_VAL for a NaN on one side only or a zero of the wrong sign. */
static double ulp_error(float got, double truth) {
    if (isnan(truth) || isnan(got)) return isnan(truth) && isnan(got) ? 0.0 : HUGE_VAL;
    if (isinf(truth)) return isinf(got) && (got > 0) == (truth > 0) ? 0.0 : HUGE_VAL;
    if (got == 0.0f && !signbit(got) != !signbit(truth)) return HUGE_VAL;
    const double g = isinf(got) ? copysign(0x1p128, (double)got) : (double)got;
    if (fabs(truth) > 0x1p128) return isinf(got) && (got > 0) == (truth > 0) ? 0.0 : HUGE_VAL;
    /* by the bits, as frexp and ldexp would take most of the test's time */
    uint64_t bits;
    memcpy(&bits, &truth, sizeof bits);
    const int64_t exponent = (int64_t)(bits >> 52 & 0x7ff) - 1023; /* 2^exponent <= |truth| */
    const int64_t ulp_exponent = exponent < -126 ? -149 : exponent - 23;
    double one_over_ulp;
    bits = (uint64_t)(1023 - ulp_exponent) << 52;
    memcpy(&one_over_ulp, &bits, sizeof one_over_ulp);
    return fabs(g - truth) * one_over_ulp;
}

struct worst {
    double ulp;
    uint32_t at;
    long different; /* arguments at which two instruction sets differ */
    uint32_t different_at;
};

static void merge_worst(struct worst *into, const struct worst *w) {
    if (w->ulp > into->ulp) into->ulp = w->ulp, into->at = w->at;
    if (w->different) into->different += w->different, into->different_at = w->different_at;
}

enum { BLOCK = 4096 };

/* Bits equal, or both NaN: the payload of a NaN is not promised (v16.h). */
static bool same(float a, float b) {
    return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

static void check_block(struct worst *w, const struct function *f, const float *x, int n) {
    float best[BLOCK], other[BLOCK];
    const enum fdm_isa best_isa = fdm_isa_best();
    kernel_for(f, best_isa)(best, x, (size_t)n);
    for (int i = 0; i < n; i++) {
        const double e = ulp_error(best[i], f->truth((double)x[i]));
        if (!(e <= w->ulp)) w->ulp = e, w->at = bits_of(x[i]);
    }
    for (int isa = 0; isa < FDM_ISA_COUNT; isa++) {
        if (isa == (int)best_isa || !fdm_isa_available((enum fdm_isa)isa)) continue;
        kernel_for(f, (enum fdm_isa)isa)(other, x, (size_t)n);
        for (int i = 0; i < n; i++)
            if (!same(best[i], other[i])) w->different++, w->different_at = bits_of(x[i]);
    }
}

/* All floats whose bits are a multiple of stride. */
static struct worst sweep(const struct function *f, uint64_t stride) {
    struct worst worst = {0};
    const int64_t count = (int64_t)((UINT64_C(1) << 32) / stride) + 1, blocks = (count + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t b = 0; b < blocks; b++) {
        float x[BLOCK];
        int n = 0;
        for (int i = 0; i < BLOCK; i++) {
            const uint64_t bits = (uint64_t)(b * BLOCK + i) * stride;
            if (bits >> 32 == 0) x[n++] = float_of((uint32_t)bits);
        }
        struct worst w = {0};
        check_block(&w, f, x, n);
#pragma omp critical
        merge_worst(&worst, &w);
    }
    return worst;
}

/* Up to 32 floats on both sides of each value where a formula changes, a result leaves the normal range, or the
 * relative error is delicate; both signs. */
static struct worst special_neighbourhoods(const struct function *f) {
    /* clang-format off */
    static const double centres[] = {
        0.0, 0x1p-149, 0x1p-126, 0x1p-24, 0x1p-12, 0.5, 0.625, 0.6931471805599453, 0.7071067811865476, 1.0,
        1.4142135623730951, 9.01, 17.3, 44.36, 86.64, 87.33654475, 88.02969193, 88.37626, 88.72283905, 89.0, 103.27893,
        103.972084, 104.0, 110.0, 127.0, 131072.0, 131073.0, 0x1p22, 0x1p23, 0x1p24, 0x1p31, 0x1p63, 0x1p100,
        0x1.fffffep127, INFINITY,
    };
    /* clang-format on */
    struct worst worst = {0};
    float x[2 * 65];
    for (size_t c = 0; c < FDM_ARRAY_LEN(centres); c++) {
        const uint32_t centre = bits_of((float)centres[c]);
        int n = 0;
        for (uint32_t i = 0; i < 65; i++) {
            const uint32_t bits = centre + i < 32 ? i : centre + i - 32; /* beyond inf: NaNs */
            x[n++] = float_of(bits & 0x7fffffff);
            x[n++] = float_of(bits | 0x80000000);
        }
        check_block(&worst, f, x, n);
    }
    /* multiples of pi/2, where sin and cos cancel most */
    for (int k = 1; k < 100000; k += 13) {
        for (uint32_t i = 0; i < 65; i++) {
            const uint32_t centre = bits_of((float)((k + (int)i / 5) * 1.5707963267948966));
            x[i] = float_of(centre + i % 5 - 2), x[65 + i] = -x[i];
        }
        check_block(&worst, f, x, 130);
    }
    return worst;
}

START_TEST(accuracy_and_same_bits) {
    const struct function *f = &functions[_i];
    const char *exhaustive = getenv("FDM_TEST_EXHAUSTIVE");
    const bool all = exhaustive && strcmp(exhaustive, "1") == 0;
    struct worst worst = special_neighbourhoods(f), swept = sweep(f, all ? 1 : 257);
    merge_worst(&worst, &swept);
    printf("%-8s max %.4f ULP (bound %.1f) at %a; %s\n", f->name, worst.ulp, f->bound, (double)float_of(worst.at),
           all ? "all 2^32 floats" : "every 257th float");
    ck_assert_msg(worst.ulp <= f->bound, "%s: %.4f ULP at %a", f->name, worst.ulp, (double)float_of(worst.at));
    ck_assert_msg(worst.different == 0, "%s: instruction sets differ at %ld arguments, one is %a (bits %08x)",
                  f->name, worst.different, (double)float_of(worst.different_at), worst.different_at);
}
END_TEST

/* The values that vmath.h promises at the edges, spelled out. */
START_TEST(special_values) {
    static const struct {
        int function;
        float x, y;
    } cases[] = {
        {0, 0.0f, 1.0f},         {0, -0.0f, 1.0f},          {0, INFINITY, INFINITY},   {0, -INFINITY, 0.0f},
        {0, 89.0f, INFINITY},    {0, -110.0f, 0.0f},        {0, 1e38f, INFINITY},      {0, -1e38f, 0.0f},
        {1, 1.0f, 0.0f},         {1, 0.0f, -INFINITY},      {1, -0.0f, -INFINITY},     {1, INFINITY, INFINITY},
        {1, -1.0f, NAN},         {1, -INFINITY, NAN},       {2, 0.0f, 0.0f},           {2, -0.0f, -0.0f},
        {2, INFINITY, NAN},      {2, -INFINITY, NAN},       {2, 0x1p-149f, 0x1p-149f}, {3, 0.0f, 1.0f},
        {3, -0.0f, 1.0f},        {3, INFINITY, NAN},        {3, -INFINITY, NAN},       {4, 0.0f, 0.5f},
        {4, INFINITY, 1.0f},     {4, -INFINITY, 0.0f},      {5, -0.0f, -0.0f},         {5, INFINITY, 1.0f},
        {5, -INFINITY, -1.0f},   {5, 0x1p-149f, 0x1p-149f}, {6, 0.0f, 0.0f},           {6, -0.0f, -0.0f},
        {6, INFINITY, INFINITY}, {6, -INFINITY, -0.0f},     {6, -1e38f, -0.0f},        {7, -0.0f, -0.0f},
        {7, -1.0f, NAN},         {7, INFINITY, INFINITY},
    };
    for (int isa = 0; isa < FDM_ISA_COUNT; isa++) {
        if (!fdm_isa_available((enum fdm_isa)isa)) {
            printf("SKIP: %s: this CPU lacks it\n", fdm_isa_name((enum fdm_isa)isa));
            continue;
        }
        for (size_t i = 0; i < FDM_ARRAY_LEN(cases); i++) {
            const struct function *f = &functions[cases[i].function];
            float y;
            kernel_for(f, (enum fdm_isa)isa)(&y, &cases[i].x, 1);
            ck_assert_msg(same(y, cases[i].y), "%s, %s(%a) = %a, not %a", fdm_isa_name((enum fdm_isa)isa), f->name,
                          (double)cases[i].x, (double)y, (double)cases[i].y);
        }
        for (size_t i = 0; i < FDM_ARRAY_LEN(functions); i++) {
            float y = 0, x = NAN;
            kernel_for(&functions[i], (enum fdm_isa)isa)(&y, &x, 1);
            ck_assert_msg(isnan(y), "%s(NaN) is not NaN", functions[i].name);
        }
    }
}
END_TEST

/* The judge itself must be able to find fault. */
START_TEST(ulp_error_finds_faults) {
    ck_assert(ulp_error(1.0f, 1.0) == 0.0);
    ck_assert(ulp_error(0x1.000002p0f, 1.0) == 1.0);
    ck_assert(ulp_error(0x1.000002p0f, 0x1.000001p0) == 0.5);
    ck_assert(ulp_error(0x1p-148f, 0x1p-149) == 1.0);
    ck_assert(ulp_error(INFINITY, 0x1.fffffep127) == 1.0);
    ck_assert(ulp_error(NAN, 1.0) == HUGE_VAL && ulp_error(1.0f, (double)NAN) == HUGE_VAL);
    ck_assert(ulp_error(INFINITY, -INFINITY) == HUGE_VAL && ulp_error(1.0f, INFINITY) == HUGE_VAL);
    ck_assert(ulp_error(0.0f, -0.0) == HUGE_VAL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vmath");
    TCase *tcase = tcase_create("vmath");
    tcase_set_timeout(tcase, 0); /* the exhaustive sweep takes as long as it takes */
    tcase_add_test(tcase, ulp_error_finds_faults);
    tcase_add_test(tcase, special_values);
    tcase_add_loop_test(tcase, accuracy_and_same_bits, 0, (int)FDM_ARRAY_LEN(functions));
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK); /* OpenMP threads do not survive a fork */
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
