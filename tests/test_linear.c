/* test_linear.c - the f32 fully connected layer against plain double loops, and bit for bit between instruction
 * sets, thread counts and batches. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "suite.h"
#include "nn/f32_layers.h"

struct linear_case {
    int n, in_c, out_c;
    bool has_bias, has_residual, has_raw, silu;
    double in_scale;
    enum fill fill;
    float *in, *out, *raw, *residual, *weight, *bias; /* out and raw with a guard element behind */
};

static struct linear_case draw_case(uint64_t *state, enum fill fill) {
    static const int features[] = {1, 3, 9, 10, 12, 16, 24, 48, 50, 112, 128, 129, 160, 272};
    static const int samples[] = {1, 2, 3, 7, 8, 25, 31};
    struct linear_case c = {.fill = fill};
    c.n = samples[f32_below(state, (int)FDM_ARRAY_LEN(samples))];
    c.in_c = features[f32_below(state, (int)FDM_ARRAY_LEN(features))];
    c.out_c = features[f32_below(state, (int)FDM_ARRAY_LEN(features))];
    c.has_bias = f32_below(state, 2), c.has_residual = f32_below(state, 2), c.has_raw = f32_below(state, 2);
    c.silu = fill == FILL_RANDOM && f32_below(state, 2);
    c.in_scale = f32_below(state, 2) ? 1 : fill == FILL_EXACT ? 2 : sqrt(10);
    c.in = f32_array(state, (size_t)c.n * c.in_c, fill);
    c.out = f32_array(state, (size_t)c.n * c.out_c + 1, fill);
    c.raw = f32_array(state, (size_t)c.n * c.out_c + 1, fill);
    c.residual = f32_array(state, (size_t)c.n * c.out_c, fill);
    c.weight = f32_array(state, (size_t)c.out_c * c.in_c, fill);
    c.bias = f32_array(state, (size_t)c.out_c, fill);
    return c;
}

static void free_case(struct linear_case *c) {
    fdm_free_aligned(c->in), fdm_free_aligned(c->out), fdm_free_aligned(c->raw);
    fdm_free_aligned(c->residual), fdm_free_aligned(c->weight), fdm_free_aligned(c->bias);
}

/* Rows first .. first+n-1, into the same rows of c->out and c->raw. */
static void run_rows(struct linear_case *c, enum fdm_isa isa, int threads, int first, int n) {
    struct fdm_exec exec = f32_exec(isa, threads);
    size_t skip = (size_t)first * c->out_c, bytes = (size_t)n * c->out_c * sizeof(float);
    struct fdm_vec in = {n, c->in_c, c->in + (size_t)first * c->in_c}, out = {n, c->out_c, c->out + skip};
    struct fdm_vec raw = {n, c->out_c, c->raw + skip}, residual = {n, c->out_c, c->residual + skip};
    struct fdm_linear_args args = {.in_scale = c->in_scale, .silu = c->silu};
    void *packed = fdm_malloc_aligned(fdm_f32_linear_packed_bytes(c->out_c, c->in_c));
    ck_assert_ptr_nonnull(packed);
    fdm_f32_linear_pack(&exec, packed, c->weight, c->has_bias ? c->bias : NULL, c->out_c, c->in_c);
    memset(out.data, 0xff, bytes);
    memset(raw.data, 0xff, bytes);
    c->out[(size_t)c->n * c->out_c] = c->raw[(size_t)c->n * c->out_c] = 12345;
    args.weight = packed;
    if (c->has_residual) args.residual = &residual;
    if (c->has_raw) args.raw = &raw;
    fdm_f32_linear(&exec, &out, &in, &args);
    ck_assert_msg(c->out[(size_t)c->n * c->out_c] == 12345, "wrote past the end of out");
    ck_assert_msg(c->raw[(size_t)c->n * c->out_c] == 12345, "wrote past the end of raw");
    fdm_free_aligned(packed);
}

/* Tolerance: a chain of 128, the block sums, bias, input scale and residual are each one rounding of at most
 * 2^-24 of sum |w x|; SiLU (slope at most 1.1) adds 4 ULP of its result.  Exact data: none. */
static double check_case(const struct linear_case *c) {
    double worst = 0;
    for (int i = 0; i < c->n * c->out_c; i++) {
        int o = i % c->out_c;
        double sum = c->has_bias ? c->bias[o] : 0, magnitude = fabs(sum);
        for (int k = 0; k < c->in_c; k++) {
            double product = (double)c->weight[(size_t)o * c->in_c + k] * (double)c->in[i / c->out_c * c->in_c + k];
            sum += product * c->in_scale;
            magnitude += fabs(product * c->in_scale);
        }
        double bound = c->fill == FILL_EXACT ? 0 : (128 + 4 + 2) * 0x1p-24 * magnitude;
        if (c->has_raw) ck_assert(fabs(c->raw[i] - sum) <= bound);
        if (c->has_residual) sum += c->residual[i], magnitude += fabs(c->residual[i]);
        if (c->fill != FILL_EXACT) bound += 0x1p-24 * magnitude;
        double expected = c->silu ? sum / (1 + exp(-sum)) : sum, error = fabs(c->out[i] - expected);
        if (c->silu) bound = 1.1 * bound + 4 * 0x1p-23 * fabs(expected);
        ck_assert_msg(error <= bound, "n %d o %d: error %g > %g", i / c->out_c, o, error, bound);
        if (bound > 0) worst = fmax(worst, error / bound);
    }
    return worst;
}

static void against_loops(enum fill fill, int cases, uint64_t seed) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas);
    double worst = 0;
    for (int i = 0; i < cases; i++) {
        uint64_t state = seed + (uint64_t)i;
        struct linear_case c = draw_case(&state, fill);
        for (int a = 0; a < count; a++) {
            run_rows(&c, isas[a], 1 + i % 3, 0, c.n);
            worst = fmax(worst, check_case(&c));
        }
        free_case(&c);
    }
    printf("linear %s: %d shapes, worst error / a-priori bound %.3f\n", fill == FILL_EXACT ? "exact" : "random",
           cases, worst);
}

START_TEST(random_shapes) {
    against_loops(FILL_RANDOM, 60, 1000);
}
END_TEST

START_TEST(exact_shapes) {
    against_loops(FILL_EXACT, 60, 2000);
}
END_TEST

START_TEST(same_bits) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas);
    for (uint64_t seed = 3000; seed < 3030; seed++) {
        uint64_t state = seed;
        struct linear_case c = draw_case(&state, FILL_RANDOM);
        size_t bytes = (size_t)c.n * c.out_c * sizeof(float);
        run_rows(&c, isas[0], 1, 0, c.n);
        float *expected = fdm_malloc_aligned(bytes);
        ck_assert_ptr_nonnull(expected);
        memcpy(expected, c.out, bytes);
        for (int a = 0; a < count; a++) {
            for (int threads = 1; threads <= 4; threads++) {
                run_rows(&c, isas[a], threads, 0, c.n);
                ck_assert_msg(!memcmp(expected, c.out, bytes), "seed %d: %s with %d threads differs", (int)seed,
                              fdm_isa_name(isas[a]), threads);
            }
            for (int n = 0; n < c.n; n++) run_rows(&c, isas[a], 2, n, 1);
            ck_assert_msg(!memcmp(expected, c.out, bytes), "seed %d: %s, samples one by one differ", (int)seed,
                          fdm_isa_name(isas[a]));
        }
        fdm_free_aligned(expected);
        free_case(&c);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("linear");
    TCase *tcase = tcase_create("f32");
    tcase_set_timeout(tcase, 600);
    tcase_add_test(tcase, random_shapes);
    tcase_add_test(tcase, exact_shapes);
    tcase_add_test(tcase, same_bits);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
