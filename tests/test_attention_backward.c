/* test_attention_backward.c - the f32 gradient of attention against plain double loops and the published program's,
 * and bit for bit between instruction sets, thread counts and batches. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "golden.h"
#include "suite.h"
#include "nn/f32_layers.h"

/* Runs with scratch of exactly the size asked for, poisoned, into a map with a one pixel halo: on top of `before`
 * if there is one, else over poisoned memory. */
static struct fdm_map run(const struct fdm_map *qkv, const struct fdm_map *d_out, const struct fdm_map *before,
                          enum fdm_isa isa, int threads) {
    struct fdm_map d_qkv = f32_map(qkv->n, qkv->c, qkv->h, qkv->w, 1);
    struct fdm_exec exec = f32_exec(isa, threads);
    if (before) memcpy(d_qkv.data, before->data, f32_map_bytes(before));
    exec.scratch_bytes = fdm_f32_attention_backward_scratch(qkv->n, d_out->c, qkv->h, qkv->w, threads);
    exec.scratch = fdm_malloc_aligned(exec.scratch_bytes);
    ck_assert_ptr_nonnull(exec.scratch);
    memset(exec.scratch, 0xff, exec.scratch_bytes);
    fdm_f32_attention_backward(&exec, (struct fdm_map_target){&d_qkv, before != NULL}, d_out, qkv);
    fdm_free_aligned(exec.scratch);
    return d_qkv;
}

static double get(const struct fdm_map *m, int n, int c, int position) {
    return *f32_at(m, n, c, position / m->w, position % m->w);
}

/* Gradients of one sample in double, [position][3 * channels] like qkv, and the size of what was added up. */
struct truth {
    int positions, channels;
    double *gradient, *size, *w, *dw;
};

static void add(struct truth *t, int position, int channel, double value) {
    const size_t at = (size_t)position * 3 * t->channels + channel;
    t->gradient[at] += value, t->size[at] += fabs(value);
}

/* One query's part. */
static void query_truth(struct truth *t, const struct fdm_map *qkv, const struct fdm_map *d_out, int n, int query) {
    const double root = sqrt(t->channels);
    double sum = 0, mean = 0, max = -INFINITY, mean_size = 0;
    for (int k = 0; k < t->positions; k++) {
        t->w[k] = t->dw[k] = 0;
        for (int c = 0; c < t->channels; c++) {
            t->w[k] += get(qkv, n, 3 * c, query) * get(qkv, n, 3 * c + 1, k) / root;
            t->dw[k] += get(d_out, n, c, query) * get(qkv, n, 3 * c + 2, k);
        }
        max = fmax(max, t->w[k]);
    }
    for (int k = 0; k < t->positions; k++) sum += t->w[k] = exp(t->w[k] - max);
    for (int k = 0; k < t->positions; k++) {
        t->w[k] /= sum;
        mean += t->w[k] * t->dw[k], mean_size += t->w[k] * fabs(t->dw[k]);
    }
    for (int k = 0; k < t->positions; k++) {
        const double ds = t->w[k] * (t->dw[k] - mean), ds_size = t->w[k] * (fabs(t->dw[k]) + mean_size);
        for (int c = 0; c < t->channels; c++) {
            const double q = get(qkv, n, 3 * c, query) / root, key = get(qkv, n, 3 * c + 1, k) / root;
            add(t, query, 3 * c, ds * key), add(t, k, 3 * c + 1, ds * q);
            add(t, k, 3 * c + 2, t->w[k] * get(d_out, n, c, query));
            /* what cancels in ds does not cancel in its error */
            t->size[(size_t)query * 3 * t->channels + 3 * c] += ds_size * fabs(key);
            t->size[(size_t)k * 3 * t->channels + 3 * c + 1] += ds_size * fabs(q);
        }
    }
}

/* Tolerance: chains of 128 for scores, dw and results, and scores of size up to |q||k| in the exponent: 60
 * roundings of the absolute values added up (10 were seen).  Returns the worst error over the bound. */
static double check(const struct fdm_map *got, const struct fdm_map *qkv, const struct fdm_map *d_out,
                    const struct fdm_map *before) {
    struct truth t = {.positions = qkv->h * qkv->w, .channels = d_out->c};
    const size_t count = (size_t)t.positions * qkv->c;
    double worst = 0;
    for (int n = 0; n < qkv->n; n++) {
        t.gradient = calloc(count, sizeof(double)), t.size = calloc(count, sizeof(double));
        t.w = calloc((size_t)t.positions, sizeof(double)), t.dw = calloc((size_t)t.positions, sizeof(double));
        ck_assert(t.gradient && t.size && t.w && t.dw);
        for (int query = 0; query < t.positions; query++) query_truth(&t, qkv, d_out, n, query);
        for (int i = 0; i < (int)count; i++) {
            const int position = i / qkv->c, c = i % qkv->c;
            const double old = before ? get(before, n, c, position) : 0;
            const double error = fabs(get(got, n, c, position) - (old + t.gradient[i]));
            const double bound = 0x1p-24 * (60 * t.size[i] + fabs(old));
            ck_assert_msg(error <= bound, "n %d position %d channel %d: error %g > %g", n, position, c, error,
                          bound);
            if (bound > 0) worst = fmax(worst, error / bound);
        }
        free(t.gradient), free(t.size), free(t.w), free(t.dw);
    }
    f32_check_zeros(got, "d_qkv");
    return worst;
}

/* (C, H, W): one to many channel blocks, fewer positions than a vector, partial vectors, several strips of 128. */
static const int shapes[][3] = {{16, 8, 8},  {1, 1, 1},   {3, 2, 2},     {8, 3, 5},   {24, 4, 4},  {48, 7, 9},
                                {160, 5, 5}, {8, 16, 16}, {144, 13, 11}, {32, 1, 17}, {16, 9, 150}};

struct attention_case {
    struct fdm_map qkv, d_out, before;
};

static struct attention_case shape_case(uint64_t *state, size_t shape, int n) {
    const int c = shapes[shape][0], h = shapes[shape][1], w = shapes[shape][2];
    return (struct attention_case){f32_map_filled(state, n, 3 * c, h, w, (int)shape % 3, FILL_RANDOM),
                                   f32_map_filled(state, n, c, h, w, (int)shape % 2, FILL_RANDOM),
                                   f32_map_filled(state, n, 3 * c, h, w, 1, FILL_RANDOM)};
}

static void free_case(struct attention_case *c) {
    fdm_free_aligned(c->qkv.data), fdm_free_aligned(c->d_out.data), fdm_free_aligned(c->before.data);
}

START_TEST(against_loops) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    uint64_t state = 1;
    double worst = 0;
    for (size_t s = 0; s < FDM_ARRAY_LEN(shapes); s++) {
        struct attention_case c = shape_case(&state, s, s == 10 ? 1 : 2);
        for (int a = 0; a < count; a++) {
            const struct fdm_map *before = s % 2 ? &c.before : NULL;
            struct fdm_map d_qkv = run(&c.qkv, &c.d_out, before, isas[a], 2);
            worst = fmax(worst, check(&d_qkv, &c.qkv, &c.d_out, before));
            fdm_free_aligned(d_qkv.data);
        }
        free_case(&c);
    }
    printf("attention backward: worst error / bound %.3f\n", worst);
}
END_TEST

START_TEST(same_bits) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    uint64_t state = 2;
    for (size_t s = 0; s < FDM_ARRAY_LEN(shapes); s++) {
        struct attention_case c = shape_case(&state, s, s == 10 ? 2 : 3);
        struct fdm_map expected = run(&c.qkv, &c.d_out, NULL, isas[0], 1);
        for (int a = 0; a < count; a++) {
            for (int threads = 1; threads <= 4; threads++) {
                struct fdm_map got = run(&c.qkv, &c.d_out, NULL, isas[a], threads);
                ck_assert_msg(!memcmp(expected.data, got.data, f32_map_bytes(&got)), "shape %zu: %s, %d threads", s,
                              fdm_isa_name(isas[a]), threads);
                fdm_free_aligned(got.data);
            }
            for (int n = 0; n < c.qkv.n; n++) {
                struct fdm_map qkv = f32_sample(&c.qkv, n), d_out = f32_sample(&c.d_out, n);
                struct fdm_map got = run(&qkv, &d_out, NULL, isas[a], 3), same = f32_sample(&expected, n);
                ck_assert_msg(!memcmp(same.data, got.data, f32_map_bytes(&got)), "shape %zu: %s, sample %d alone",
                              s, fdm_isa_name(isas[a]), n);
                fdm_free_aligned(qkv.data), fdm_free_aligned(d_out.data), fdm_free_aligned(got.data);
                fdm_free_aligned(same.data);
            }
        }
        fdm_free_aligned(expected.data);
        free_case(&c);
    }
}
END_TEST

/* The published softmax's gradients gq, gk for a given gradient gw of the weights, 16 channels and 64 positions:
 * with 64 channels, v the unit matrix and d_out = gw, dL/dw is gw.  k/sqrt(64) then wants k twice as large. */
START_TEST(goldens) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    fdm_tensors set;
    golden_load(&set, "ops_layers.safetensors");
    const float *q = golden_f32(&set, "attn.", "q"), *k = golden_f32(&set, "attn.", "k");
    const float *gw = golden_f32(&set, "attn.", "gw");
    double *gq = golden_f64(&set, "attn.", "gq"), *gk = golden_f64(&set, "attn.", "gk");
    struct fdm_map qkv = f32_map(2, 192, 8, 8, 0), d_out = f32_map(2, 64, 8, 8, 0);
    memset(qkv.data, 0, f32_map_bytes(&qkv));
    for (int i = 0; i < 2 * 64 * 64; i++) {
        const int n = i / 4096, a = i / 64 % 64, b = i % 64;
        *f32_at(&d_out, n, b, a / 8, a % 8) = gw[i]; /* query a, channel = key b */
        if (a == b) *f32_at(&qkv, n, 3 * a + 2, a / 8, a % 8) = 1;
        if (a >= 16) continue;
        *f32_at(&qkv, n, 3 * a, b / 8, b % 8) = q[(n * 16 + a) * 64 + b];
        *f32_at(&qkv, n, 3 * a + 1, b / 8, b % 8) = 2 * k[(n * 16 + a) * 64 + b];
    }
    for (int isa = 0; isa < count; isa++) {
        struct fdm_map got = run(&qkv, &d_out, NULL, isas[isa], 2);
        static double got_q[2 * 16 * 64], got_k[2 * 16 * 64];
        for (int i = 0; i < 2 * 16 * 64; i++) {
            got_q[i] = get(&got, i / 1024, 3 * (i / 64 % 16), i % 64);
            got_k[i] = 2 * get(&got, i / 1024, 3 * (i / 64 % 16) + 1, i % 64);
        }
        const struct golden_error eq = golden_compare(got_q, gq, 2048), ek = golden_compare(got_k, gk, 2048);
        printf("goldens, %s: gq %.2g, gk %.2g of max\n", fdm_isa_name(isas[isa]), eq.max_scaled, ek.max_scaled);
        ck_assert(eq.max_scaled <= 1e-5 && ek.max_scaled <= 1e-5);
        fdm_free_aligned(got.data);
    }
    free(gq), free(gk), fdm_free_aligned(qkv.data), fdm_free_aligned(d_out.data);
    fdm_tensors_free(&set);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("attention_backward");
    TCase *tcase = tcase_create("f32");
    tcase_set_timeout(tcase, 600);
    tcase_add_test(tcase, against_loops);
    tcase_add_test(tcase, same_bits);
    tcase_add_test(tcase, goldens);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
