/* test_reference_backward.c - the backward pass of the reference backend, by three witnesses:
 *   - central finite differences of L = sum(out * g), for every operand and parameter of every layer;
 *   - the gradients of the published program, golden/ops_layers.safetensors;
 *   - the contract: accumulating and absent targets, threads, the tree over samples. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "backward.h"
#include "base/base.h"
#include "fdm/random.h"
#include "golden.h"
#include "suite.h"
#include "nn/sample_tree.h"

/* ---- finite differences ---------------------------------------------------------------------------------- */

static const struct layer_case cases[] = {
#define CONV .kind = LAYER_CONV2D
    {CONV, .n = 2, .in = 1, .out = 1, .h = 1, .w = 1, .k = 1},
    {CONV, .n = 1, .in = 1, .out = 1, .h = 1, .w = 1, .k = 3, .pad = 1, .bias = true},
    {CONV, .n = 2, .in = 5, .out = 7, .h = 7, .w = 9, .k = 3, .pad = 1, .bias = true},
    {CONV, .n = 3, .in = 4, .out = 3, .h = 6, .w = 5, .k = 1, .bias = true, .extra = true, .scale = 0.7071067811865476},
    {CONV, .n = 2, .in = 3, .out = 6, .h = 5, .w = 6, .k = 3, .pad = 1, .bias = true, .extra = true, .scale = 0.75},
    {CONV, .n = 2, .in = 3, .out = 4, .h = 6, .w = 5, .k = 3, .pad = 0, .scale = 1.5},
    {CONV, .n = 2, .in = 3, .out = 4, .h = 4, .w = 5, .k = 3, .pad = 2, .bias = true},
    {CONV, .n = 1, .in = 2, .out = 4, .h = 4, .w = 4, .k = 3, .pad = 3, .bias = true},
    {CONV, .n = 1, .in = 3, .out = 4, .h = 3, .w = 3, .k = 1, .pad = 1, .bias = true},
    {CONV, .n = 1, .in = 66, .out = 70, .h = 3, .w = 2, .k = 3, .pad = 1, .bias = true},    /* slices of channels */
    {CONV, .n = 1, .in = 64, .out = 2, .h = 17, .w = 64, .k = 3, .pad = 1, .extra = true}, /* bands of `in` */
    {CONV, .n = 1, .in = 2, .out = 64, .h = 17, .w = 64, .k = 3, .pad = 1, .extra = true}, /* bands of d_out */
#define RESAMPLE .kind = LAYER_RESAMPLE
    {RESAMPLE, .n = 2, .in = 3, .h = 8, .w = 6, .len = 2, .pad = 0},
    {RESAMPLE, .n = 2, .in = 3, .h = 4, .w = 3, .len = 2, .pad = 0, .up = true, .bias = true},
    {RESAMPLE, .n = 2, .in = 3, .h = 8, .w = 6, .len = 4, .pad = 1, .extra = true, .scale = 0.75},
    {RESAMPLE, .n = 2, .in = 3, .h = 4, .w = 3, .len = 4, .pad = 1, .up = true, .extra = true, .scale = 0.75},
    {RESAMPLE, .n = 2, .in = 2, .h = 10, .w = 8, .len = 4, .pad = 0, .bias = true}, /* behind a fused convolution */
    {RESAMPLE, .n = 2, .in = 2, .h = 4, .w = 5, .len = 4, .pad = 0, .up = true, .bias = true},
    {RESAMPLE, .n = 1, .in = 2, .h = 7, .w = 9, .len = 2, .pad = 0, .bias = true}, /* a last row that nobody reads */
    {RESAMPLE, .n = 1, .in = 2, .h = 7, .w = 9, .len = 3, .pad = 1, .bias = true, .extra = true, .scale = 1.25},
    {RESAMPLE, .n = 1, .in = 2, .h = 5, .w = 4, .len = 3, .pad = 1, .up = true},
    {RESAMPLE, .n = 1, .in = 2, .h = 5, .w = 4, .len = 5, .pad = 2, .up = true},
#define NORM .kind = LAYER_GROUPNORM, .bias = true
    {NORM, .n = 2, .in = 8, .h = 3, .w = 2, .groups = 2},
    {NORM, .n = 2, .in = 24, .h = 3, .w = 5, .groups = 6, .silu = true},
    {NORM, .n = 2, .in = 8, .h = 4, .w = 4, .groups = 2, .extra = true},
    {NORM, .n = 3, .in = 20, .h = 3, .w = 3, .groups = 5, .extra = true, .silu = true},
    {NORM, .n = 3, .in = 12, .h = 5, .w = 3, .groups = 3, .extra = true, .silu = true, .dropout = 0.3},
    {NORM, .n = 1, .in = 40, .h = 2, .w = 3, .groups = 8, .dropout = 0.13}, /* 5 channels: across blocks of 16 */
    {NORM, .n = 1, .in = 24, .h = 4, .w = 3, .groups = 1, .silu = true},
    {NORM, .n = 2, .in = 160, .h = 3, .w = 2, .groups = 32, .silu = true},
#define LINEAR .kind = LAYER_LINEAR, .h = 1, .w = 1
    {LINEAR, .n = 3, .in = 12, .out = 9, .bias = true},
    {LINEAR, .n = 3, .in = 12, .out = 9},
    {LINEAR, .n = 2, .in = 10, .out = 17, .bias = true, .scale = 3.1622776601683795},
    {LINEAR, .n = 2, .in = 10, .out = 7, .bias = true, .silu = true, .scale = 0.5},
    {LINEAR, .n = 2, .in = 5, .out = 7, .silu = true},
    {LINEAR, .n = 4, .in = 9, .out = 6, .bias = true, .extra = true},
    {LINEAR, .n = 1, .in = 1, .out = 1, .bias = true},
#define ATTENTION .kind = LAYER_ATTENTION
    {ATTENTION, .n = 2, .in = 5, .h = 3, .w = 4},
    {ATTENTION, .n = 1, .in = 4, .h = 9, .w = 8}, /* two groups of queries in the forward pass */
    {ATTENTION, .n = 2, .in = 1, .h = 2, .w = 2},
    {ATTENTION, .n = 1, .in = 3, .h = 1, .w = 1},
#define CONCAT .kind = LAYER_CONCAT
    {CONCAT, .n = 2, .in = 3, .out = 5, .h = 3, .w = 2},
    {CONCAT, .n = 1, .in = 1, .out = 1, .h = 1, .w = 1},
};

/* A layer whose operands can be moved: the maps' memory is the values' memory, parameters are packed as doubles. */
struct problem {
    struct test_backend b;
    const struct layer_case *c;
    struct layer_values v;
    struct fdm_map in, extra, out;
    struct fdm_vec in_vec, extra_vec, out_vec;
    double *packed; /* weights, then biases */
    struct fdm_dropout dropout;
};

static struct fdm_map with_data(struct fdm_map shape, void *data) {
    shape.data = data;
    return shape;
}
static struct fdm_vec as_vec(const struct fdm_map *m) { return (struct fdm_vec){m->n, m->c, m->data}; }

static void *pack(struct problem *p) {
    const struct layer_values *v = &p->v;
    const struct layer_case *c = p->c;
    if (c->kind == LAYER_CONV2D) return test_pack_conv2d(&p->b, v->weight, v->bias, c->out, c->in, c->k);
    if (c->kind == LAYER_LINEAR) return test_pack_linear(&p->b, v->weight, v->bias, c->out, c->in);
    if (c->kind == LAYER_GROUPNORM) return test_pack_groupnorm(&p->b, v->weight, v->bias, c->in);
    return NULL;
}

static struct problem problem_of(const struct layer_case *c, uint64_t seed) {
    struct problem p = {.b = test_backend_reference(1), .c = c};
    p.v = layer_values_of(&p.b, c, seed);
    p.in = with_data(p.v.in, p.v.x);
    p.extra = with_data(p.v.extra, p.v.extra_x);
    p.out = with_data(p.v.out, test_alloc(&p.b, layer_all(&p.v.out) * sizeof(double)));
    p.in_vec = as_vec(&p.in), p.extra_vec = as_vec(&p.extra), p.out_vec = as_vec(&p.out);
    p.packed = pack(&p);
    p.dropout = (struct fdm_dropout){.p = c->dropout, .layer = 7, .keys = p.v.keys}; /* layer as in backward.c */
    return p;
}

static void forward(struct problem *p) {
    const struct layer_case *c = p->c;
    const struct fdm_backend *table = p->b.table;
    const struct fdm_exec *exec = &p->b.exec;
    const double scale = c->scale > 0 ? c->scale : 1;
    const struct fdm_epilogue epilogue = {.residual = c->extra ? &p->extra : NULL, .scale = scale};
    switch (c->kind) {
    case LAYER_CONV2D:
        table->conv2d(exec, &p->out, &p->in,
                      &(struct fdm_conv2d_args){.k = c->k, .pad = c->pad, .weight = p->packed, .epilogue = epilogue});
        break;
    case LAYER_RESAMPLE:
        table->resample(exec, &p->out, &p->in,
                        &(struct fdm_resample_args){.up = c->up,
                                                    .pad = c->pad,
                                                    .len = c->len,
                                                    .filter = p->v.filter,
                                                    .bias = p->v.bias,
                                                    .epilogue = epilogue});
        break;
    case LAYER_GROUPNORM:
        table->groupnorm(exec, &p->out, &p->in,
                         &(struct fdm_groupnorm_args){.groups = c->groups,
                                                      .eps = 1e-6,
                                                      .add = c->extra ? &p->extra_vec : NULL,
                                                      .param = p->packed,
                                                      .silu = c->silu,
                                                      .dropout = c->dropout > 0 ? &p->dropout : NULL});
        break;
    case LAYER_LINEAR:
        table->linear(exec, &p->out_vec, &p->in_vec,
                      &(struct fdm_linear_args){.weight = p->packed,
                                                .in_scale = scale,
                                                .residual = c->extra ? &p->extra_vec : NULL,
                                                .silu = c->silu});
        break;
    case LAYER_ATTENTION: table->attention(exec, &p->out, &p->in); break;
    default: table->concat(exec, &p->out, &p->in, &p->extra); break;
    }
}

static void reserve_forward(struct problem *p) {
    const struct layer_case *c = p->c;
    if (c->kind == LAYER_CONV2D)
        test_reserve(&p->b, p->b.table->conv2d_scratch(c->n, c->in, c->out, c->k, p->out.h, p->out.w, 1));
    if (c->kind == LAYER_ATTENTION)
        test_reserve(&p->b, p->b.table->attention_scratch(c->n, c->in, c->h, c->w, 1));
}

/* An operand's elements and their gradient; doubles, or floats that hold every step exactly. */
struct operand {
    const char *name;
    double *x;
    float *f;
    const double *gradient;
    size_t count;
};

/* L at x + t * direction, direction +1 or -1 per element by `seed`, or the unit vector `only` where that is < count. */
static double loss_along(struct problem *p, const struct operand *o, double t, uint64_t seed, size_t only) {
    const size_t first = only < o->count ? only : 0, end = only < o->count ? only + 1 : o->count;
    uint64_t state = seed;
    double *kept = malloc((end - first) * sizeof *kept);
    ck_assert_ptr_nonnull(kept);
    for (size_t i = first; i < end; i++) {
        const double sign = only < o->count || test_uniform(&state) >= 0 ? 1 : -1;
        kept[i - first] = o->x ? o->x[i] : (double)o->f[i];
        if (o->x) o->x[i] += sign * t;
        else o->f[i] += (float)(sign * t);
    }
    forward(p);
    long double loss = 0;
    const double *y = p->out.data;
    for (size_t i = 0; i < layer_all(&p->out); i++) loss += (long double)y[i] * p->v.d_out[i];
    for (size_t i = first; i < end; i++) {
        if (o->x) o->x[i] = kept[i - first];
        else o->f[i] = (float)kept[i - first];
    }
    free(kept);
    return (double)loss;
}

/* dL/dt at 0: central differences with steps h, h/2, h/4, extrapolated twice; what remains is of order h^6. */
static double slope_along(struct problem *p, const struct operand *o, uint64_t seed, size_t only) {
    const double h = 0x1p-7;
    double d[3];
    for (int i = 0; i < 3; i++) {
        const double t = h / (1 << i);
        d[i] = (loss_along(p, o, t, seed, only) - loss_along(p, o, -t, seed, only)) / (2 * t);
    }
    const double once[2] = {(4 * d[1] - d[0]) / 3, (4 * d[2] - d[1]) / 3};
    return (16 * once[1] - once[0]) / 15;
}

/* Truncation: some 1e-12 for the curved layers; rounding: 1.1e-16 of L (of order 10) over h/4.  Relative to the largest element; the
 * random direction, which sees every element, relative to the root of their sum of squares. */
static const double difference_tolerance = 2e-11;

static double check_operand(struct problem *p, const struct operand *o) {
    enum { SAMPLED = 48 };
    double largest = 0, squares = 0, along = 0, worst = 0;
    uint64_t state = 77;
    for (size_t i = 0; i < o->count; i++) {
        largest = fmax(largest, fabs(o->gradient[i]));
        squares += o->gradient[i] * o->gradient[i];
        along += test_uniform(&state) >= 0 ? o->gradient[i] : -o->gradient[i];
    }
    const size_t stride = o->count <= SAMPLED ? 1 : o->count / SAMPLED | 1;
    /* One position and one channel of attention: q and k have no influence. */
    const double unit = fmax(largest, 1e-3);
    for (size_t i = 0; i < o->count; i += stride) {
        const double slope = slope_along(p, o, 0, i), error = fabs(slope - o->gradient[i]) / unit;
        ck_assert_msg(error <= difference_tolerance, "%s[%zu]: gradient %.15g, slope %.15g", o->name, i, o->gradient[i],
                      slope);
        worst = fmax(worst, error);
    }
    const double slope = slope_along(p, o, 77, SIZE_MAX), error = fabs(slope - along) / fmax(sqrt(squares), 1e-3);
    ck_assert_msg(error <= difference_tolerance, "%s: along a random direction %.15g, slope %.15g", o->name, along,
                  slope);
    return fmax(worst, error);
}

START_TEST(gradients_are_slopes) {
    struct problem p = problem_of(&cases[_i], 1000 + (uint64_t)_i);
    const struct layer_gradients g = layer_backward(&p.b, p.c, &p.v, 0, p.c->n, TARGETS_OVERWRITE);
    const bool bias_is_f32 = p.c->kind == LAYER_RESAMPLE;
    const struct operand operands[] = {
        {"in", p.v.x, NULL, g.x, layer_all(&p.v.in)},
        {"extra", p.v.extra_x, NULL, g.extra, layer_all(&p.v.extra)},
        {"weight", p.packed, NULL, g.weight, p.v.weights},
        {"bias", bias_is_f32 || !p.packed ? NULL : p.packed + p.v.weights, bias_is_f32 ? p.v.bias : NULL, g.bias, p.v.biases},
    };
    reserve_forward(&p);
    char text[160];
    layer_describe(text, sizeof text, p.c);
    printf("%-62s", text);
    for (size_t i = 0; i < FDM_ARRAY_LEN(operands); i++)
        if (operands[i].gradient) printf(" %s %.1e", operands[i].name, check_operand(&p, &operands[i]));
    printf("\n");
    test_release(&p.b);
}
END_TEST

/* Finite differences would not see a mask that both passes share but that is not the contract's: the words of
 * backend.h, by another road; and about the right share is kept. */
START_TEST(dropout_mask_is_its_formula) {
    const struct layer_case c = {NORM, .n = 2, .in = 8, .h = 5, .w = 7, .groups = 2, .dropout = 0.3};
    struct problem p = problem_of(&c, 5), plain = problem_of(&c, 5);
    const struct layer_case without = {NORM, .n = 2, .in = 8, .h = 5, .w = 7, .groups = 2};
    plain.c = &without;
    forward(&p);
    forward(&plain);
    int kept = 0;
    for (int i = 0; i < 2 * 8 * 35; i++) {
        const int n = i / 280, channel = i / 35 % 8, pixel = i % 35;
        const uint64_t key = p.v.keys[n];
        uint32_t word[4];
        fdm_philox4x32_10(word, (uint32_t[]){(uint32_t)(pixel / 4), 7u << 16 | (uint32_t)channel, 0, 0},
                          (uint32_t[]){(uint32_t)key, (uint32_t)(key >> 32)});
        const bool keep = word[pixel % 4] >= 1288490189u; /* 0.3 * 2^32 = 1288490188.8 */
        const double y = ((double *)p.out.data)[i], x = ((double *)plain.out.data)[i];
        ck_assert_msg(keep ? fabs(y - x / 0.7) <= 1e-15 * fabs(y) : y == 0, "element %d: %.17g from %.17g", i, y, x);
        kept += keep;
    }
    printf("dropout 0.3 kept %d of %d\n", kept, 2 * 8 * 35);
    ck_assert(abs(kept - 392) < 44); /* four standard deviations */
    test_release(&p.b);
    test_release(&plain.b);
}
END_TEST

/* ---- contract -------------------------------------------------------------------------------------------- */

static void expect_same(const char *what, const double *a, const double *b, size_t count) {
    ck_assert_msg((a == NULL) == (b == NULL), "%s: one of two is absent", what);
    ck_assert_msg(!a || memcmp(a, b, count * sizeof *a) == 0, "%s: bits differ", what);
}

static void expect_same_gradients(const struct layer_values *v, const struct layer_gradients *a,
                                  const struct layer_gradients *b) {
    expect_same("d_in", a->x, b->x, layer_all(&v->in));
    expect_same("d_extra", a->extra, b->extra, layer_all(&v->extra));
    expect_same("d_weight", a->weight, b->weight, v->weights);
    expect_same("d_bias", a->bias, b->bias, v->biases);
}

START_TEST(targets_accumulate_or_are_absent) {
    const struct layer_case *c = &cases[_i];
    struct test_backend b = test_backend_reference(2);
    const struct layer_values v = layer_values_of(&b, c, 3000 + (uint64_t)_i);
    struct layer_gradients plain = layer_backward(&b, c, &v, 0, c->n, TARGETS_OVERWRITE);
    const struct layer_gradients more = layer_backward(&b, c, &v, 0, c->n, TARGETS_ACCUMULATE);
    const struct layer_gradients none = layer_backward(&b, c, &v, 0, c->n, TARGETS_NONE);
    ck_assert(!none.x && !none.extra);
    expect_same("d_weight without targets", plain.weight, none.weight, v.weights);
    expect_same("d_bias without targets", plain.bias, none.bias, v.biases);
    for (size_t i = 0; i < layer_all(&v.in); i++) plain.x[i] += v.before[i];
    for (size_t i = 0; plain.extra && i < layer_all(&v.extra); i++) plain.extra[i] += v.extra_before[i];
    expect_same_gradients(&v, &plain, &more);
    test_release(&b);
}
END_TEST

START_TEST(threads_change_no_bit) {
    const struct layer_case *c = &cases[_i];
    struct test_backend b = test_backend_reference(1);
    const struct layer_values v = layer_values_of(&b, c, 4000 + (uint64_t)_i);
    const struct layer_gradients one = layer_backward(&b, c, &v, 0, c->n, TARGETS_OVERWRITE);
    for (int threads = 2; threads <= 3; threads++) {
        b.exec.threads = threads;
        const struct layer_gradients more = layer_backward(&b, c, &v, 0, c->n, TARGETS_OVERWRITE);
        expect_same_gradients(&v, &one, &more);
    }
    test_release(&b);
}
END_TEST

/* The tree as sample_tree.h builds it, over the gradients of single samples. */
static double *tree_of_leaves(struct test_backend *b, double **leaves, int n, size_t count) {
    double *sum = test_alloc(b, count * sizeof *sum), stack[8];
    for (size_t at = 0; at < count; at++) {
        int top = 0;
        for (int i = 0; i < n; i++) {
            stack[top++] = leaves[i][at];
            for (int m = fdm_tree_merges(i); m > 0; m--, top--) stack[top - 2] += stack[top - 1];
        }
        for (; top > 1; top--) stack[top - 2] += stack[top - 1];
        sum[at] = stack[0];
    }
    return sum;
}

START_TEST(sums_over_samples_are_the_tree) {
    enum { MOST = 9 };
    struct layer_case c = cases[_i];
    c.n = MOST;
    struct test_backend b = test_backend_reference(2);
    const struct layer_values v = layer_values_of(&b, &c, 5000 + (uint64_t)_i);
    double *weight[MOST], *bias[MOST];
    struct layer_gradients single[MOST];
    for (int n = 0; n < MOST; n++) {
        single[n] = layer_backward(&b, &c, &v, n, 1, TARGETS_OVERWRITE);
        weight[n] = single[n].weight, bias[n] = single[n].bias;
    }
    const size_t in = layer_sample(&v.in), extra = layer_sample(&v.extra);
    for (int n = 1; n <= MOST; n++) {
        const struct layer_gradients all = layer_backward(&b, &c, &v, 0, n, TARGETS_OVERWRITE);
        if (all.weight) expect_same("d_weight", all.weight, tree_of_leaves(&b, weight, n, v.weights), v.weights);
        if (all.bias) expect_same("d_bias", all.bias, tree_of_leaves(&b, bias, n, v.biases), v.biases);
        for (int i = 0; i < n; i++) {
            expect_same("d_in of a sample", all.x + (size_t)i * in, single[i].x, in);
            if (all.extra) expect_same("d_extra of a sample", all.extra + (size_t)i * extra, single[i].extra, extra);
        }
    }
    test_release(&b);
}
END_TEST

START_TEST(gradients_are_added) {
    struct test_backend b = test_backend_reference(3);
    double *left = test_random(&b, 1001, 1), *right = test_random(&b, 1001, 2), *sum = test_random(&b, 1001, 1);
    for (int i = 0; i < 1001; i++) sum[i] += right[i];
    b.table->add_gradients(&b.exec, left, right, 1001);
    expect_same("left + right", left, sum, 1001);
    test_release(&b);
}
END_TEST

/* Sizes that no memory holds are answered by SIZE_MAX, not by a small wrapped number. */
START_TEST(absurd_sizes) {
    const struct fdm_backend *table = fdm_backend_reference();
    const int huge = 2000000000;
    ck_assert(table->conv2d_backward_scratch(1, huge, huge, 3, 1, 1, 1) == SIZE_MAX);
    ck_assert(table->conv2d_backward_scratch(1, huge, 1, 1, huge, huge, 1) == SIZE_MAX);
    ck_assert(table->attention_backward_scratch(1, 1, huge, huge, huge) == SIZE_MAX);
    ck_assert(table->groupnorm_backward_scratch(huge, huge, 1, 1, 1) == SIZE_MAX);
}
END_TEST

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0); /* or the figures of a failing (forked) test die with it in a pipe */
    Suite *suite = suite_create("reference_backward");
    TCase *tcase = tcase_create("slopes");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, gradients_are_slopes, 0, FDM_ARRAY_LEN(cases));
    tcase_add_test(tcase, dropout_mask_is_its_formula);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("contract");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, targets_accumulate_or_are_absent, 0, FDM_ARRAY_LEN(cases));
    tcase_add_loop_test(tcase, threads_change_no_bit, 0, FDM_ARRAY_LEN(cases));
    tcase_add_loop_test(tcase, sums_over_samples_are_the_tree, 0, FDM_ARRAY_LEN(cases));
    tcase_add_test(tcase, gradients_are_added);
    tcase_add_test(tcase, absurd_sizes);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
