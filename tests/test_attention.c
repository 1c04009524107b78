/* test_attention.c - the f32 attention against plain double loops, the published softmax weights, and bit for bit
 * between instruction sets, thread counts and batches. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "suite.h"
#include "nn/f32_layers.h"

/* Runs with scratch of exactly the size asked for, poisoned; returns a map with a one pixel halo. */
static struct fdm_map run(const struct fdm_map *qkv, enum fdm_isa isa, int threads) {
    struct fdm_map out = f32_map(qkv->n, qkv->c / 3, qkv->h, qkv->w, 1);
    struct fdm_exec exec = f32_exec(isa, threads);
    exec.scratch_bytes = fdm_f32_attention_scratch(out.n, out.c, out.h, out.w, threads);
    exec.scratch = fdm_malloc_aligned(exec.scratch_bytes);
    ck_assert_ptr_nonnull(exec.scratch);
    memset(exec.scratch, 0xff, exec.scratch_bytes);
    fdm_f32_attention(&exec, &out, qkv);
    fdm_free_aligned(exec.scratch);
    return out;
}

static double get(const struct fdm_map *m, int n, int c, int position) {
    return *f32_at(m, n, c, position / m->w, position % m->w);
}

/* w[k] = softmax_k(q . k / sqrt(C)) for one query; also the largest sum |q k| / sqrt(C). */
static double reference_weights(double *w, const struct fdm_map *qkv, int n, int query) {
    int positions = qkv->h * qkv->w, channels = qkv->c / 3;
    double max = -INFINITY, sum = 0, worst_magnitude = 0;
    for (int k = 0; k < positions; k++) {
        double magnitude = 0;
        w[k] = 0;
        for (int c = 0; c < channels; c++) {
            double product = get(qkv, n, 3 * c, query) * get(qkv, n, 3 * c + 1, k) / sqrt(channels);
            w[k] += product;
            magnitude += fabs(product);
        }
        max = fmax(max, w[k]);
        worst_magnitude = fmax(worst_magnitude, magnitude);
    }
    for (int k = 0; k < positions; k++) sum += w[k] = exp(w[k] - max);
    for (int k = 0; k < positions; k++) w[k] /= sum;
    return worst_magnitude;
}

/* Tolerance: a score is wrong by at most (128 + blocks + 1) roundings of sum |q k|, which changes a weight by twice
 * that relatively; the softmax itself adds 8 ULP and a rounding per addition of its tree (16); the weighted sum has
 * chains of 128.  All relative to sum w |v|. */
static double check(const struct fdm_map *out, const struct fdm_map *qkv) {
    int positions = qkv->h * qkv->w, channels = qkv->c / 3;
    double worst = 0, *w = malloc((size_t)positions * sizeof *w);
    ck_assert_ptr_nonnull(w);
    for (int i = 0; i < out->n * positions; i++) {
        double magnitude = reference_weights(w, qkv, i / positions, i % positions);
        for (int c = 0; c < channels; c++) {
            double expected = 0, size = 0;
            for (int k = 0; k < positions; k++) {
                double v = get(qkv, i / positions, 3 * c + 2, k);
                expected += w[k] * v;
                size += w[k] * fabs(v);
            }
            double bound = ((2 * 132 * magnitude) + 24 + 136) * 0x1p-24 * size;
            double error = fabs(get(out, i / positions, c, i % positions) - expected);
            ck_assert_msg(error <= bound, "n %d position %d channel %d: error %g > %g", i / positions,
                          i % positions, c, error, bound);
            worst = fmax(worst, error / bound);
        }
    }
    free(w);
    f32_check_zeros(out, "out");
    return worst;
}

/* (C, H, W): one to many channels blocks, fewer positions than a vector, partial vectors, several strips. */
static const int shapes[][3] = {{16, 8, 8}, {1, 1, 1},   {3, 2, 2},   {8, 3, 5},     {24, 4, 4},
                                {48, 7, 9}, {160, 5, 5}, {8, 16, 16}, {144, 13, 11}, {32, 1, 17}};

static struct fdm_map shape_map(uint64_t *state, size_t shape, int n) {
    return f32_map_filled(state, n, 3 * shapes[shape][0], shapes[shape][1], shapes[shape][2], (int)shape % 3,
                          FILL_RANDOM);
}

START_TEST(against_loops) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas);
    uint64_t state = 1;
    double worst = 0;
    for (size_t s = 0; s < FDM_ARRAY_LEN(shapes); s++) {
        struct fdm_map qkv = shape_map(&state, s, 2);
        for (int a = 0; a < count; a++) {
            struct fdm_map out = run(&qkv, isas[a], 2);
            worst = fmax(worst, check(&out, &qkv));
            fdm_free_aligned(out.data);
        }
        fdm_free_aligned(qkv.data);
    }
    printf("attention: worst error / a-priori bound %.3f\n", worst);
}
END_TEST

START_TEST(same_bits) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas);
    uint64_t state = 2;
    for (size_t s = 0; s < FDM_ARRAY_LEN(shapes); s++) {
        struct fdm_map qkv = shape_map(&state, s, 3), expected = run(&qkv, isas[0], 1);
        for (int a = 0; a < count; a++) {
            for (int threads = 1; threads <= 4; threads++) {
                struct fdm_map out = run(&qkv, isas[a], threads);
                ck_assert_msg(!memcmp(expected.data, out.data, f32_map_bytes(&out)), "shape %zu: %s, %d threads", s,
                              fdm_isa_name(isas[a]), threads);
                fdm_free_aligned(out.data);
            }
            for (int n = 0; n < qkv.n; n++) {
                struct fdm_map one = f32_sample(&qkv, n), out = run(&one, isas[a], 3),
                               same = f32_sample(&expected, n);
                ck_assert_msg(!memcmp(same.data, out.data, f32_map_bytes(&out)), "shape %zu: %s, sample %d alone",
                              s, fdm_isa_name(isas[a]), n);
                fdm_free_aligned(one.data), fdm_free_aligned(out.data), fdm_free_aligned(same.data);
            }
        }
        fdm_free_aligned(qkv.data), fdm_free_aligned(expected.data);
    }
}
END_TEST

/* With equal keys every weight is 1/positions, exactly if that is a power of two, and integers average exactly. */
START_TEST(exact_average) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas);
    uint64_t state = 3;
    struct fdm_map qkv = f32_map_filled(&state, 2, 48, 8, 8, 0, FILL_EXACT);
    for (int i = 0; i < 2 * 16 * 64; i++) *f32_at(&qkv, i / 1024, i / 64 % 16 * 3 + 1, i / 8 % 8, i % 8) = 1;
    for (int a = 0; a < count; a++) {
        struct fdm_map out = run(&qkv, isas[a], 2);
        for (int i = 0; i < 2 * 16 * 64; i++) {
            double sum = 0;
            for (int k = 0; k < 64; k++) sum += get(&qkv, i / 1024, i / 64 % 16 * 3 + 2, k);
            ck_assert(get(&out, i / 1024, i / 64 % 16, i % 64) == sum / 64);
        }
        fdm_free_aligned(out.data);
    }
    fdm_free_aligned(qkv.data);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("attention");
    TCase *tcase = tcase_create("f32");
    tcase_set_timeout(tcase, 600);
    tcase_add_test(tcase, against_loops);
    tcase_add_test(tcase, same_bits);
    tcase_add_test(tcase, exact_average);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
