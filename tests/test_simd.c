/* test_simd.c - choice of the instruction set, the vector type's own operations, and the array kernels: every tail
 * length, misalignment, page edge; correctly rounded where IEEE-754 says so; the same bits on every ISA.
 * (Elementary functions: test_vmath.c.  Normalisation, resampling: test_groupnorm.c, test_resample.c.) */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "guarded.h"
#include "splitmix.h"
#include "suite.h"
#include "simd/kernel_table.h"

/* ck_assert_msg notes each pass in a file, which takes minutes in the loops below. */
#define EXPECT(condition, ...)                                                                                     \
    do {                                                                                                           \
        if (!(condition)) ck_abort_msg(__VA_ARGS__);                                                               \
    } while (0)

enum { MAX_TAIL = 70 }; /* lengths 0 .. 70: every tail after 0 to 4 full vectors */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Bits equal, or both NaN: payloads are not promised. */
static bool same(float a, float b) {
    return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

/* ---- choice ------------------------------------------------------------------------------------------------ */

START_TEST(choice_by_name) {
    enum fdm_isa list[FDM_ISA_COUNT], isa;
    fdm_error err;
    const int count = f32_isas(list);
    ck_assert(count >= 1 && list[0] == FDM_ISA_ID_PORTABLE);
    ck_assert_int_eq(fdm_isa_best(), list[count - 1]);
    for (int i = 0; i < FDM_ISA_COUNT; i++) {
        const char *name = fdm_isa_name((enum fdm_isa)i);
        const fdm_status status = fdm_isa_choose(name, &isa, &err);
        if (!fdm_isa_available((enum fdm_isa)i)) { /* asking for what the CPU lacks is an error, not a crash */
            ck_assert_int_eq(status, FDM_BAD_USAGE);
            ck_assert_ptr_nonnull(strstr(err.message, name));
            continue;
        }
        ck_assert_int_eq(status, FDM_OK);
        ck_assert_int_eq(isa, i);
        /* the table that was asked for is the one compiled for that ISA */
        ck_assert_int_eq(fdm_kernels_for(isa)->isa, i);
        ck_assert_str_eq(fdm_kernels_for(isa)->isa_name, name);
    }
    ck_assert_ptr_null(fdm_kernels_for(FDM_ISA_COUNT));
    ck_assert(!fdm_isa_available(FDM_ISA_COUNT));
}
END_TEST

START_TEST(choice_by_environment) {
    enum fdm_isa isa = FDM_ISA_COUNT;
    fdm_error err;
    setenv("FDM_ISA", "portable", 1);
    ck_assert_int_eq(fdm_isa_choose(NULL, &isa, &err), FDM_OK);
    ck_assert_int_eq(isa, FDM_ISA_ID_PORTABLE);
    setenv("FDM_ISA", "neon\n", 1);
    ck_assert_int_eq(fdm_isa_choose(NULL, &isa, &err), FDM_BAD_USAGE);
    ck_assert_ptr_nonnull(strstr(err.message, "FDM_ISA"));
    ck_assert_ptr_null(strchr(err.message, '\n'));
    ck_assert_int_eq(fdm_isa_choose("AVX2", &isa, NULL), FDM_BAD_USAGE); /* names are exact; err may be NULL */
    ck_assert_int_eq(fdm_isa_choose("", &isa, &err), FDM_BAD_USAGE);
    setenv("FDM_ISA", "", 1);
    ck_assert_int_eq(fdm_isa_choose(NULL, &isa, &err), FDM_OK);
    ck_assert_int_eq(isa, fdm_isa_best());
    unsetenv("FDM_ISA");
    ck_assert_int_eq(fdm_isa_choose(NULL, &isa, &err), FDM_OK);
    ck_assert_int_eq(isa, fdm_isa_best());
}
END_TEST

/* ---- fma ---------------------------------------------------------------------------------------------------- */

/* Operands for a*b + c that a wrong emulation gets wrong: any bits, c near -a*b, sums half-way between two floats
 * but for a distant last bit, results around the smallest subnormals. */
static void draw_fma(float *a, float *b, float *c, uint64_t *state) {
    const uint64_t r = splitmix_next(state), s = splitmix_next(state);
    *a = float_of((uint32_t)r), *b = float_of((uint32_t)(r >> 32)), *c = float_of((uint32_t)s);
    const int kind = (int)(s >> 32) % 6;
    if (kind == 0) return;
    /* exponents from 2^-12 to 2^12, so that products stay in range */
    *a = float_of((bits_of(*a) & 0x807fffff) | (uint32_t)(115 + f32_below(state, 25)) << 23);
    *b = float_of((bits_of(*b) & 0x807fffff) | (uint32_t)(115 + f32_below(state, 25)) << 23);
    const float product = *a * *b;
    if (kind == 1) { /* cancellation, to a few ULP and exactly to the product's rounding error */
        *c = -float_of(bits_of(product) + (uint32_t)f32_below(state, 5) - 2);
    } else if (kind == 2) { /* c much larger: only the product's sign and position decide a tie */
        *a = ldexpf(*a, -f32_below(state, 60));
    } else if (kind == 3) { /* few bits: exact ties abound */
        *a = float_of(bits_of(*a) & 0xfff00000), *b = float_of(bits_of(*b) & 0xfff00000);
        *c = float_of((bits_of(ldexpf(*a * *b, f32_below(state, 50) - 25)) & 0xffffff00) |
                      (uint32_t)f32_below(state, 4));
    } else if (kind == 4) { /* subnormal sums */
        *a = ldexpf(*a, -80), *b = ldexpf(*b, -60 - f32_below(state, 20));
        *c = float_of(bits_of(*c) & 0x80ffffff);
    } else { /* 1 - k^2 2^-46 is half an ULP of c but for bits that even double loses, on both sides of the tie */
        const float k = 0x1p-23f * (float)(f32_below(state, 9) - 4);
        *a = 1 + k, *b = (f32_below(state, 2) ? 1 - k : 1 + k) * (f32_below(state, 2) ? 1.0f : -1.0f);
        *c = float_of((bits_of(*c) & 0x807fffff) | (uint32_t)(127 + 23 + f32_below(state, 4)) << 23);
    }
}

START_TEST(fma_is_rounded_once) {
    enum { N = 4096, ROUNDS = 250 }; /* 1 million operands an ISA */
    static float a[N], b[N], c[N], y[N];
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    uint64_t state = 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) draw_fma(&a[i], &b[i], &c[i], &state);
        for (int k = 0; k < count; k++) {
            fdm_kernels_for(list[k])->vfma(y, a, b, c, N);
            for (int i = 0; i < N; i++)
                EXPECT(same(y[i], fmaf(a[i], b[i], c[i])), "%s: fma(%a, %a, %a) = %a, not %a",
                       fdm_isa_name(list[k]), (double)a[i], (double)b[i], (double)c[i], (double)y[i],
                       (double)fmaf(a[i], b[i], c[i]));
        }
    }
}
END_TEST

START_TEST(fma_special_values) {
    /* clang-format off */
    static const float v[] = {
        0.0f, -0.0f, 1.0f, -1.0f, 0x1p-149f, -0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f, INFINITY,
        -INFINITY, NAN, 0x1.fffffep-127f, 0x1.000002p0f,
    };
    /* clang-format on */
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list), n = (int)FDM_ARRAY_LEN(v);
    for (int k = 0; k < count; k++)
        for (int i = 0; i < n * n * n; i++) {
            const float a = v[i / n / n], b = v[i / n % n], c = v[i % n];
            float y;
            fdm_kernels_for(list[k])->vfma(&y, &a, &b, &c, 1);
            EXPECT(same(y, fmaf(a, b, c)), "%s: fma(%a, %a, %a) = %a, not %a", fdm_isa_name(list[k]), (double)a,
                   (double)b, (double)c, (double)y, (double)fmaf(a, b, c));
        }
}
END_TEST

/* ---- array kernels: tails, alignment, page edges ---------------------------------------------------------- */

struct array_case {
    const char *name;
    void (*run)(const struct fdm_kernels *k, float *y, const float *a, const float *b, const float *c, size_t n);
    float (*expect)(const struct fdm_kernels *k, float a, float b, float c); /* element by element */
};

#define UNARY(f)                                                                                                   \
    static void run_##f(const struct fdm_kernels *k, float *y, const float *a, const float *b, const float *c,     \
                        size_t n) {                                                                                \
        (void)b, (void)c;                                                                                          \
        k->f(y, a, n);                                                                                             \
    }                                                                                                              \
    static float expect_##f(const struct fdm_kernels *k, float a, float b,                                         \
                            float c) { /* itself, in a full vector */                                              \
        float x[16], y[16];                                                                                        \
        (void)b, (void)c;                                                                                          \
        for (int i = 0; i < 16; i++) x[i] = a;                                                                     \
        k->f(y, x, 16);                                                                                            \
        return y[7];                                                                                               \
    }
UNARY(vexp)
UNARY(vlog)
UNARY(vsin)
UNARY(vcos)
UNARY(vsigmoid)
UNARY(vtanh)
UNARY(vsilu)

#define ARITHMETIC(f, call, formula)                                                                               \
    static void run_##f(const struct fdm_kernels *k, float *y, const float *a, const float *b, const float *c,     \
                        size_t n) {                                                                                \
        (void)b, (void)c;                                                                                          \
        k->call;                                                                                                   \
    }                                                                                                              \
    static float expect_##f(const struct fdm_kernels *k, float a, float b, float c) {                              \
        (void)k, (void)b, (void)c;                                                                                 \
        return formula;                                                                                            \
    }
ARITHMETIC(vfma, vfma(y, a, b, c, n), fmaf(a, b, c))
ARITHMETIC(vdiv, vdiv(y, a, b, n), a / b)
ARITHMETIC(vsqrt, vsqrt(y, a, n), sqrtf(a))
ARITHMETIC(scale, scale(y, a, 0.7f, n), a * 0.7f)
ARITHMETIC(add_scale, add_scale(y, a, b, 0.7f, n), (a + b) * 0.7f)

static const struct array_case array_cases[] = {
#define CASE(f)                                                                                                    \
    { #f, run_##f, expect_##f }
    CASE(vexp),  CASE(vlog), CASE(vsin), CASE(vcos),  CASE(vsigmoid), CASE(vtanh),
    CASE(vsilu), CASE(vfma), CASE(vdiv), CASE(vsqrt), CASE(scale),    CASE(add_scale),
};

/* y and x[3] are placed; x is filled here. */
static void check_array(const struct array_case *c, const struct fdm_kernels *k, const struct guarded *y,
                        struct guarded x[3], uint64_t *state) {
    const size_t n = y->count;
    for (int j = 0; j < 3; j++)
        for (size_t i = 0; i < n; i++) /* random bits, so all magnitudes, and some plain numbers */
            x[j].p[i] = f32_below(state, 2) ? float_of((uint32_t)splitmix_next(state)) : f32_value(state, FILL_RANDOM);
    c->run(k, y->p, x[0].p, x[1].p, x[2].p, n);
    for (size_t i = 0; i < n; i++) {
        const float want = c->expect(k, x[0].p[i], x[1].p[i], x[2].p[i]);
        EXPECT(same(y->p[i], want), "%s %s: n = %zu, element %zu: %a, not %a", k->isa_name, c->name, n, i,
               (double)y->p[i], (double)want);
    }
    c->run(k, x[0].p, x[0].p, x[1].p, x[2].p, n); /* in place */
    for (size_t i = 0; i < n; i++) EXPECT(same(y->p[i], x[0].p[i]), "%s %s in place", k->isa_name, c->name);
}

START_TEST(array_kernels) {
    const struct array_case *c = &array_cases[_i];
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    uint64_t state = (uint64_t)_i + 100;
    struct guarded y = guarded_new(MAX_TAIL), x[3];
    for (int j = 0; j < 3; j++) x[j] = guarded_new(MAX_TAIL);
    /* At a page's end, every n is another misalignment; at its beginning, the write behind it would show. */
    for (int i = 0; i < 2 * (MAX_TAIL + 1); i++)
        for (int k = 0; k < count; k++) {
            guarded_place(&y, (size_t)i / 2, i % 2);
            for (int j = 0; j < 3; j++) guarded_place(&x[j], (size_t)i / 2, i % 2);
            check_array(c, fdm_kernels_for(list[k]), &y, x, &state);
        }
    for (int j = 0; j < 3; j++) guarded_free(&x[j]);
    guarded_free(&y);
}
END_TEST

/* ---- sums and maxima -------------------------------------------------------------------------------------- */

/* The order that v16.h promises, in plain C. */
static float tree_sum(const float *x, size_t n) {
    float lane[16] = {0};
    for (size_t i = 0; i < n; i++) lane[i % 16] = lane[i % 16] + x[i];
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] = lane[i] + lane[i + half];
    return lane[0];
}

START_TEST(sum_and_max) {
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    uint64_t state = 7;
    struct guarded x = guarded_new(MAX_TAIL);
    for (int k = 0; k < count; k++)
        for (size_t n = 0; n <= MAX_TAIL; n++) {
            guarded_place(&x, n, 1);
            float sum, max, largest = -INFINITY;
            for (size_t i = 0; i < n; i++) {
                x.p[i] = ldexpf(f32_value(&state, FILL_RANDOM), f32_below(&state, 20) - 10) - 1500.0f;
                largest = x.p[i] > largest ? x.p[i] : largest; /* all negative: zeros must not win */
            }
            fdm_kernels_for(list[k])->sum(&sum, x.p, n);
            fdm_kernels_for(list[k])->max(&max, x.p, n);
            EXPECT(same(sum, tree_sum(x.p, n)), "%s: sum of %zu", fdm_isa_name(list[k]), n);
            EXPECT(same(max, largest), "%s: max of %zu", fdm_isa_name(list[k]), n);
        }
    guarded_free(&x);
}
END_TEST

/* ---- softmax ---------------------------------------------------------------------------------------------- */

/* Error of one element against f64: x - max and exp 1 + 1 ULP more, the sum of up to 300 positive terms in 16 lanes
 * (19 + 4 additions, half a unit each, worst), the division: below (2 + 12 + 1) units of 2^-24, plus what
 * rounding x - max makes of it, |x - max| 2^-24. */
static void check_softmax_row(const float *got, const float *row, int len, double *worst) {
    double max = (double)row[0], sum = 0;
    for (int i = 1; i < len; i++) max = fmax(max, (double)row[i]);
    for (int i = 0; i < len; i++) sum += exp((double)row[i] - max);
    for (int i = 0; i < len; i++) {
        const double distance = max - (double)row[i], want = exp(-distance) / sum;
        const double error = fabs((double)got[i] - want) / (want * 0x1p-24 * (15 + distance) + 0x1p-149);
        *worst = fmax(*worst, error);
        EXPECT(error <= 1.0, "softmax of %d: element %d: %a, not %a", len, i, (double)got[i], want);
    }
}

START_TEST(softmax) {
    enum { ROWS = 3, PAD = 5, MAX_LEN = 300, MAX_TOTAL = ROWS * (MAX_LEN + PAD) };
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    double worst = 0;
    uint64_t state = 11;
    float in[MAX_TOTAL], first[MAX_TOTAL];
    struct guarded y = guarded_new(MAX_TOTAL);
    for (int len = 1; len <= MAX_LEN; len += len < MAX_TAIL ? 1 : 23) {
        const size_t stride = (size_t)len + PAD, total = ROWS * stride - PAD;
        for (size_t i = 0; i < total; i++) in[i] = ldexpf(f32_value(&state, FILL_RANDOM), f32_below(&state, 7));
        for (int k = 0; k < count; k++) {
            guarded_place(&y, total, 1);
            memcpy(y.p, in, total * sizeof(float));
            fdm_kernels_for(list[k])->softmax_rows(y.p, ROWS, len, (ptrdiff_t)stride);
            for (int r = 0; r < ROWS; r++) {
                check_softmax_row(y.p + r * stride, in + r * stride, len, &worst);
                if (r + 1 < ROWS) /* what lies between the rows stays */
                    ck_assert_mem_eq(y.p + r * stride + len, in + r * stride + len, PAD * sizeof(float));
            }
            if (k == 0) memcpy(first, y.p, total * sizeof(float));
            ck_assert_mem_eq(first, y.p, total * sizeof(float));
        }
    }
    guarded_free(&y);
    printf("softmax: worst error %.2f of its bound\n", worst);
}
END_TEST

START_TEST(softmax_exact_and_special) {
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    for (int k = 0; k < count; k++) {
        const struct fdm_kernels *kernels = fdm_kernels_for(list[k]);
        float x[256];
        for (int len = 1; len <= 256; len *= 2) { /* equal scores: exactly 1/len */
            for (int i = 0; i < len; i++) x[i] = -1000.0f;
            kernels->softmax_rows(x, 1, len, len);
            for (int i = 0; i < len; i++) EXPECT(x[i] == 1.0f / (float)len, "%s", fdm_isa_name(list[k]));
        }
        float hot[3] = {-INFINITY, 5.0f, -200.0f}; /* masked; winner; underflow */
        kernels->softmax_rows(hot, 1, 3, 3);
        EXPECT(hot[0] == 0.0f && hot[1] == 1.0f && hot[2] == 0.0f, "%s", fdm_isa_name(list[k]));
        float nan[20] = {0};
        nan[17] = NAN;
        kernels->softmax_rows(nan, 1, 20, 20);
        for (int i = 0; i < 20; i++) EXPECT(isnan(nan[i]), "%s", fdm_isa_name(list[k]));
    }
}
END_TEST

/* ---- the rest --------------------------------------------------------------------------------------------- */

/* Angles are rounded products, then vcos and vsin to the bit; up to the 1e5 rad of a noise embedding and beyond. */
START_TEST(cosines_and_sines) {
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    uint64_t state = 5;
    struct guarded f = guarded_new(MAX_TAIL), cosine = guarded_new(MAX_TAIL), sine = guarded_new(MAX_TAIL);
    for (int k = 0; k < count; k++)
        for (size_t n = 0; n <= MAX_TAIL; n++) {
            const struct fdm_kernels *kernels = fdm_kernels_for(list[k]);
            guarded_place(&f, n, 1), guarded_place(&cosine, n, 1), guarded_place(&sine, n, 1);
            const float c = ldexpf(f32_value(&state, FILL_RANDOM), f32_below(&state, 20));
            for (size_t i = 0; i < n; i++) f.p[i] = ldexpf(f32_value(&state, FILL_RANDOM), f32_below(&state, 10));
            kernels->cos_sin(cosine.p, sine.p, c, f.p, n);
            for (size_t i = 0; i < n; i++) {
                const float angle = c * f.p[i];
                EXPECT(same(cosine.p[i], expect_vcos(kernels, angle, 0, 0)), "%s", fdm_isa_name(list[k]));
                EXPECT(same(sine.p[i], expect_vsin(kernels, angle, 0, 0)), "%s", fdm_isa_name(list[k]));
            }
        }
    guarded_free(&f), guarded_free(&cosine), guarded_free(&sine);
}
END_TEST

/* Both words of 32 x 32 bit products, against 64-bit integers. */
START_TEST(wide_products) {
    enum { N = 4096 };
    static const uint32_t edges[] = {0, 1, 2, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list), n_edges = (int)FDM_ARRAY_LEN(edges);
    static int32_t a[N], b[N], high[N], low[N];
    uint64_t state = 3;
    for (int i = 0; i < N; i++) {
        const uint64_t r = splitmix_next(&state);
        uint32_t pair[2] = {(uint32_t)r, (uint32_t)(r >> 32)};
        if (i < n_edges * n_edges) pair[0] = edges[i / n_edges], pair[1] = edges[i % n_edges];
        memcpy(&a[i], &pair[0], sizeof a[i]), memcpy(&b[i], &pair[1], sizeof b[i]);
    }
    for (int k = 0; k < count; k++) {
        fdm_kernels_for(list[k])->mul_wide(high, low, a, b, N);
        for (int i = 0; i < N; i++) {
            const uint64_t want = (uint64_t)(uint32_t)a[i] * (uint32_t)b[i];
            EXPECT((uint32_t)high[i] == want >> 32 && (uint32_t)low[i] == (uint32_t)want, "%s: %08x * %08x",
                   fdm_isa_name(list[k]), (uint32_t)a[i], (uint32_t)b[i]);
        }
    }
}
END_TEST

START_TEST(lanes_are_copied_and_added) {
    enum { PIXELS = 3 };
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    for (int k = 0; k < count; k++)
        for (int i = 0; i < 16 * 16 * 17; i++) {
            const int to = i / 17 / 16, from = i / 17 % 16, lanes = i % 17;
            if (to + lanes > 16 || from + lanes > 16) continue;
            float x[16 * PIXELS], y[16 * PIXELS];
            for (int j = 0; j < 16 * PIXELS; j++) x[j] = (float)j + 1, y[j] = -(float)j;
            fdm_kernels_for(list[k])->copy_lanes(y, x, to, from, lanes, PIXELS);
            for (int j = 0; j < 16 * PIXELS; j++) {
                const int lane = j % 16;
                const float want = lane >= to && lane < to + lanes ? (float)(j - to + from) + 1 : -(float)j;
                EXPECT(y[j] == want, "%s: lanes %d..%d to %d", fdm_isa_name(list[k]), from, from + lanes, to);
                y[j] = -(float)j;
            }
            fdm_kernels_for(list[k])->add_lanes(y, x, to, from, lanes, PIXELS);
            for (int j = 0; j < 16 * PIXELS; j++) {
                const int lane = j % 16;
                const float more = lane >= to && lane < to + lanes ? (float)(j - to + from) + 1 : 0;
                EXPECT(y[j] == more - (float)j, "%s: lanes %d..%d added", fdm_isa_name(list[k]), from, from + lanes);
            }
        }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("simd");
    TCase *tcase = tcase_create("simd");
    tcase_set_timeout(tcase, 300); /* not about speed: sanitizer builds on a loaded machine */
    tcase_add_test(tcase, choice_by_name);
    tcase_add_test(tcase, choice_by_environment);
    tcase_add_test(tcase, fma_is_rounded_once);
    tcase_add_test(tcase, fma_special_values);
    tcase_add_loop_test(tcase, array_kernels, 0, (int)FDM_ARRAY_LEN(array_cases));
    tcase_add_test(tcase, sum_and_max);
    tcase_add_test(tcase, softmax);
    tcase_add_test(tcase, softmax_exact_and_special);
    tcase_add_test(tcase, cosines_and_sines);
    tcase_add_test(tcase, wide_products);
    tcase_add_test(tcase, lanes_are_copied_and_added);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
