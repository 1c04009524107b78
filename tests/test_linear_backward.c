/* test_linear_backward.c - the f32 gradients of a fully connected layer against plain double loops and the
 * published program's, and bit for bit between instruction sets, thread counts and splits of the batch. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "golden.h"
#include "gradient_trees.h"
#include "suite.h"
#include "nn/f32_layers.h"

#ifdef FDM_POISON /* a sanitizer build tests the memory, the plain one the numbers */
enum { CASES = 20 };
#else
enum { CASES = 80 };
#endif

struct linear_case {
    int n, in, out;
    bool silu, has_bias, accumulate;
    double in_scale;
    float *x, *weight, *bias, *d_out, *before_in, *before_residual;
    float *d_in, *d_residual, *d_weight, *d_bias;
};

static void add_targets(struct linear_case *c) {
    c->d_in = fdm_malloc_aligned((size_t)c->n * c->in * sizeof(float));
    c->d_residual = fdm_malloc_aligned((size_t)c->n * c->out * sizeof(float));
    c->d_weight = fdm_malloc_aligned((size_t)c->out * c->in * sizeof(float));
    c->d_bias = fdm_malloc_aligned((size_t)c->out * sizeof(float));
    ck_assert(c->d_in && c->d_residual && c->d_weight && c->d_bias);
}

static void fill_case(struct linear_case *c, uint64_t *state) {
    c->x = f32_array(state, (size_t)c->n * c->in, FILL_RANDOM);
    c->weight = f32_array(state, (size_t)c->out * c->in, FILL_RANDOM);
    c->bias = f32_array(state, (size_t)c->out, FILL_RANDOM);
    c->d_out = f32_array(state, (size_t)c->n * c->out, FILL_RANDOM);
    c->before_in = f32_array(state, (size_t)c->n * c->in, FILL_RANDOM);
    c->before_residual = f32_array(state, (size_t)c->n * c->out, FILL_RANDOM);
    add_targets(c);
}

static struct linear_case draw_case(uint64_t *state) {
    static const int features[] = {1, 3, 9, 10, 12, 16, 20, 33, 48, 100, 128, 129, 256, 512};
    static const int batches[] = {1, 2, 3, 4, 5, 8, 24, 25, 60};
    struct linear_case c = {
        .n = batches[f32_below(state, 9)], .silu = f32_below(state, 2), .has_bias = f32_below(state, 2)};
    c.in = features[f32_below(state, 14)], c.out = features[f32_below(state, 14)];
    c.accumulate = f32_below(state, 2);
    c.in_scale = f32_below(state, 2) ? 1 : sqrt(10);
    fill_case(&c, state);
    return c;
}

static void free_targets(struct linear_case *c) {
    fdm_free_aligned(c->d_in), fdm_free_aligned(c->d_residual), fdm_free_aligned(c->d_weight),
        fdm_free_aligned(c->d_bias);
}

static void free_case(struct linear_case *c) {
    fdm_free_aligned(c->x), fdm_free_aligned(c->weight), fdm_free_aligned(c->bias), fdm_free_aligned(c->d_out);
    fdm_free_aligned(c->before_in), fdm_free_aligned(c->before_residual);
    free_targets(c);
}

static void prepare(float *target, const float *before, size_t count, bool accumulate) {
    if (accumulate) {
        memcpy(target, before, count * sizeof *target);
    } else {
        memset(target, 0xff, count * sizeof *target);
    }
}

static void run_case(struct linear_case *c, enum fdm_isa isa, int threads) {
    struct fdm_exec exec = f32_exec(isa, threads);
    struct fdm_vec in = {c->n, c->in, c->x}, d_out = {c->n, c->out, c->d_out};
    struct fdm_vec d_in = {c->n, c->in, c->d_in}, d_residual = {c->n, c->out, c->d_residual};
    const struct fdm_linear_backward_args args = {.weight = c->weight,
                                                  .bias = c->has_bias ? c->bias : NULL,
                                                  .in_scale = c->in_scale,
                                                  .silu = c->silu,
                                                  .d_in = {&d_in, c->accumulate},
                                                  .d_residual = {&d_residual, c->accumulate},
                                                  .d_weight = c->d_weight,
                                                  .d_bias = c->has_bias ? c->d_bias : NULL};
    exec.scratch_bytes = fdm_f32_linear_backward_scratch(c->n, c->in, c->out, threads);
    exec.scratch = fdm_malloc_aligned(exec.scratch_bytes);
    ck_assert_ptr_nonnull(exec.scratch);
    memset(exec.scratch, 0xff, exec.scratch_bytes);
    memset(c->d_weight, 0xff, (size_t)c->out * c->in * sizeof(float));
    memset(c->d_bias, 0xff, (size_t)c->out * sizeof(float));
    prepare(c->d_in, c->before_in, (size_t)c->n * c->in, c->accumulate);
    prepare(c->d_residual, c->before_residual, (size_t)c->n * c->out, c->accumulate);
    fdm_f32_linear_backward(&exec, &d_out, &in, &args);
    fdm_free_aligned(exec.scratch);
}

/* d_pre[o] of sample n in double; *slack: how far f32 may be from it: sigmoid's 3 ULP, and the slope's change where
 * the pre-activation itself is off by its own bound (|silu''| <= 1/2). */
static double d_pre(const struct linear_case *c, int n, int o, double *slack) {
    const double d = c->d_out[n * c->out + o];
    double raw = c->has_bias ? c->bias[o] : 0, size = fabs(raw);
    if (!c->silu) return *slack = 0, d;
    for (int i = 0; i < c->in; i++) {
        const double product = (double)c->weight[o * c->in + i] * c->x[n * c->in + i] * c->in_scale;
        raw += product, size += fabs(product);
    }
    const double s = 1 / (1 + exp(-raw));
    *slack = fabs(d) * (0.5 * 132 * size + 8 * (1 + fabs(raw))) * 0x1p-24;
    return d * (s + raw * s * (1 - s));
}

static double judge(const char *what, int at, double got, double expected, double bound) {
    const double error = fabs(got - expected);
    ck_assert_msg(error <= bound, "%s[%d]: %g instead of %g, error %g > %g", what, at, got, expected, error, bound);
    return bound > 0 ? error / bound : 0;
}

/* Tolerances: d_in 128 roundings of a chain, its sums, scale and target; parameters the product and the tree (11).
 */
static double check_case(const struct linear_case *c) {
    const size_t pres = (size_t)c->n * c->out;
    double worst = 0, *pre = malloc(pres * sizeof *pre), *slack = malloc(pres * sizeof *slack);
    ck_assert(pre && slack);
    for (int i = 0; i < c->n * c->out; i++) pre[i] = d_pre(c, i / c->out, i % c->out, &slack[i]);
    for (int i = 0; i < c->n * c->in; i++) {
        double sum = 0, bound = 0;
        for (int o = 0; o < c->out; o++) {
            const int at = i / c->in * c->out + o;
            const double w = c->weight[o * c->in + i % c->in] * c->in_scale;
            sum += w * pre[at], bound += fabs(w) * (slack[at] + 140 * 0x1p-24 * fabs(pre[at]));
        }
        const double before = c->accumulate ? c->before_in[i] : 0;
        worst = fmax(worst, judge("d_in", i, c->d_in[i], before + sum, bound + 0x1p-24 * fabs(before)));
    }
    for (int i = 0; i < c->out * c->in; i++) {
        double sum = 0, bound = 0;
        for (int n = 0; n < c->n; n++) {
            const int at = n * c->out + i / c->in;
            const double x = c->x[n * c->in + i % c->in] * c->in_scale;
            sum += x * pre[at], bound += fabs(x) * (slack[at] + 11 * 0x1p-24 * fabs(pre[at]));
        }
        worst = fmax(worst, judge("d_weight", i, c->d_weight[i], sum, bound));
    }
    for (int o = 0; c->has_bias && o < c->out; o++) {
        double sum = 0, bound = 0;
        for (int n = 0; n < c->n; n++) {
            sum += pre[n * c->out + o];
            bound += slack[n * c->out + o] + 9 * 0x1p-24 * fabs(pre[n * c->out + o]);
        }
        worst = fmax(worst, judge("d_bias", o, c->d_bias[o], sum, bound));
    }
    for (int i = 0; i < c->n * c->out; i++) {
        ck_assert(c->d_residual[i] == (c->accumulate ? c->before_residual[i] + c->d_out[i] : c->d_out[i]));
    }
    free(pre), free(slack);
    return worst;
}

START_TEST(against_loops) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    double worst = 0;
    for (int i = 0; i < CASES; i++) {
        uint64_t state = 100 + (uint64_t)i;
        struct linear_case c = draw_case(&state);
        for (int a = 0; a < count; a++) {
            run_case(&c, isas[a], 1 + i % 3);
            worst = fmax(worst, check_case(&c));
        }
        free_case(&c);
    }
    printf("80 cases: worst error / a-priori bound %.3f\n", worst);
}
END_TEST

static void check_tree(struct linear_case *c, enum fdm_isa isa) {
    const size_t weights = (size_t)c->out * c->in;
    struct gradient_tree weight_tree = gradient_tree(c->n, weights),
                         bias_tree = gradient_tree(c->n, (size_t)c->out);
    for (int n = 0; n < c->n; n++) {
        struct linear_case one = *c;
        one.n = 1;
        one.x = c->x + (size_t)n * c->in, one.d_out = c->d_out + (size_t)n * c->out;
        one.before_in = c->before_in + (size_t)n * c->in,
        one.before_residual = c->before_residual + (size_t)n * c->out;
        add_targets(&one);
        run_case(&one, isa, 2);
        gradient_tree_push(&weight_tree, one.d_weight);
        gradient_tree_push(&bias_tree, one.d_bias);
        ck_assert(!memcmp(one.d_in, c->d_in + (size_t)n * c->in, (size_t)c->in * sizeof(float)));
        ck_assert(!memcmp(one.d_residual, c->d_residual + (size_t)n * c->out, (size_t)c->out * sizeof(float)));
        free_targets(&one);
    }
    ck_assert_msg(!memcmp(gradient_tree_result(&weight_tree), c->d_weight, weights * sizeof(float)),
                  "d_weight of %d samples is not their tree", c->n);
    ck_assert_msg(!c->has_bias ||
                      !memcmp(gradient_tree_result(&bias_tree), c->d_bias, (size_t)c->out * sizeof(float)),
                  "d_bias of %d samples is not their tree", c->n);
    gradient_tree_free(&weight_tree), gradient_tree_free(&bias_tree);
}

START_TEST(same_bits) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    for (int i = 0; i < CASES / 3; i++) {
        uint64_t state = 500 + (uint64_t)i;
        struct linear_case c = draw_case(&state), other = c;
        add_targets(&other);
        run_case(&c, isas[0], 1);
        for (int a = 0; a < count; a++) {
            for (int threads = 1; threads <= 3; threads++) {
                run_case(&other, isas[a], threads);
                ck_assert_msg(!memcmp(c.d_in, other.d_in, (size_t)c.n * c.in * sizeof(float)) &&
                                  !memcmp(c.d_weight, other.d_weight, (size_t)c.out * c.in * sizeof(float)) &&
                                  !memcmp(c.d_bias, other.d_bias, (size_t)c.out * sizeof(float)),
                              "case %d: %s, %d threads", i, fdm_isa_name(isas[a]), threads);
            }
            check_tree(&c, isas[a]);
        }
        free_targets(&other);
        free_case(&c);
    }
}
END_TEST

static double golden_distance(const fdm_tensors *set, const char *name, const float *got, size_t count) {
    double *truth = golden_f64(set, "linear.", name), *wide = malloc(count * sizeof *wide);
    ck_assert_ptr_nonnull(wide);
    for (size_t i = 0; i < count; i++) wide[i] = got[i];
    const struct golden_error e = golden_compare(wide, truth, count);
    free(truth), free(wide);
    ck_assert_msg(e.max_scaled <= 1e-5, "linear.%s: %g of max", name, e.max_scaled);
    return e.max_scaled;
}

START_TEST(goldens) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    fdm_tensors set;
    golden_load(&set, "ops_layers.safetensors");
    for (int a = 0; a < count; a++) {
        uint64_t state = 1;
        struct linear_case c = {.n = 3, .in = 12, .out = 9, .has_bias = true, .in_scale = 1};
        fill_case(&c, &state);
        memcpy(c.x, golden_f32(&set, "linear.", "x"), 36 * sizeof(float));
        memcpy(c.d_out, golden_f32(&set, "linear.", "gout"), 27 * sizeof(float));
        memcpy(c.weight, golden_f32(&set, "linear.", "weight"), 108 * sizeof(float));
        run_case(&c, isas[a], 2);
        const double worst =
            fmax(golden_distance(&set, "gx", c.d_in, 36), golden_distance(&set, "g_weight", c.d_weight, 108));
        printf("goldens, %s: %.2g of max\n", fdm_isa_name(isas[a]),
               fmax(worst, golden_distance(&set, "g_bias", c.d_bias, 9)));
        free_case(&c);
    }
    fdm_tensors_free(&set);
}
END_TEST

/* left + right, any length, any number of threads. */
START_TEST(adding_gradients) {
    static const size_t counts[] = {1, 15, 16, 4095, 4096, 4097, 20000};
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int isa_count = f32_isas(isas);
    uint64_t state = 9;
    for (size_t i = 0; i < FDM_ARRAY_LEN(counts); i++) {
        const size_t count = counts[i];
        float *left = f32_array(&state, count + 1, FILL_RANDOM), *right = f32_array(&state, count, FILL_RANDOM);
        float *got = fdm_malloc_aligned((count + 1) * sizeof *got);
        ck_assert_ptr_nonnull(got);
        for (int a = 0; a < isa_count; a++) {
            const struct fdm_exec exec = f32_exec(isas[a], 1 + (int)i % 3);
            memcpy(got, left, (count + 1) * sizeof *got);
            fdm_backend_f32(FDM_CONV_DEFAULT)->add_gradients(&exec, got, right, count);
            for (size_t j = 0; j < count; j++) ck_assert(got[j] == left[j] + right[j]);
            ck_assert(got[count] == left[count]);
        }
        fdm_free_aligned(left), fdm_free_aligned(right), fdm_free_aligned(got);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("linear_backward");
    TCase *tcase = tcase_create("f32");
    tcase_set_timeout(tcase, 600);
    tcase_add_test(tcase, against_loops);
    tcase_add_test(tcase, same_bits);
    tcase_add_test(tcase, goldens);
    tcase_add_test(tcase, adding_gradients);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
