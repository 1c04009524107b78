/* test_train_stream.c - the per-image random streams of our own training runs. */
#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/train_stream.h"
#include "suite.h"

enum { PIXELS = 3 * 32 * 32 };

static fdm_loss loss_of(fdm_precond_kind kind) {
    fdm_loss loss;
    ck_assert_int_eq(fdm_loss_init(&loss, kind, NULL), FDM_OK);
    return loss;
}

/* splitmix64's published outputs from state 0.  The state of seed s is the first output from state s, so seed -g, whose first output is mix(0) = 0, starts from 0. */
START_TEST(seeds_are_splitmix64) {
    static const uint64_t known[] = {0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u, 0x06c45d188009454fu,
                                     0xf88bb8a8724c81ecu};
    const uint64_t zero_state = -(uint64_t)0x9e3779b97f4a7c15u;
    for (uint64_t i = 0; i < 4; i++) ck_assert_uint_eq(fdm_train_stream_seed(zero_state, i), known[i]);
}
END_TEST

static int by_value(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* No two images of a run share a seed or a dropout key, nor do neighbouring runs. */
START_TEST(seeds_differ) {
    enum { RUNS = 8, IMAGES = 2000, ALL = 2 * RUNS * IMAGES };
    uint64_t *seeds = calloc(ALL, sizeof *seeds);
    ck_assert_ptr_nonnull(seeds);
    const fdm_loss loss = loss_of(FDM_PRECOND_EDM);
    for (uint64_t i = 0; i < ALL / 2; i++) {
        fdm_train_draws draws;
        double noise[1];
        fdm_train_stream_draw(&draws, noise, 1, &loss, i / IMAGES, i % IMAGES);
        seeds[2 * i] = fdm_train_stream_seed(i / IMAGES, i % IMAGES);
        seeds[2 * i + 1] = draws.dropout_key;
    }
    qsort(seeds, ALL, sizeof *seeds, by_value);
    for (int i = 1; i < ALL; i++) ck_assert_uint_ne(seeds[i - 1], seeds[i]);
    free(seeds);
}
END_TEST

/* An image's draws are those calls on its own generator, in the published order, whatever was drawn before. */
START_TEST(one_image_alone) {
    static double noise[PIXELS], other[PIXELS];
    static float want[PIXELS];
    const fdm_precond_kind kinds[] = {FDM_PRECOND_FDM_EDM, FDM_PRECOND_FDM_VP};
    for (int k = 0; k < 2; k++) {
        const fdm_loss loss = loss_of(kinds[k]);
        fdm_train_draws a, b;
        fdm_augment_draws augment;
        fdm_rng rng;
        float number;
        memset(&a, 0, sizeof a); /* padding too, so that memcmp below compares values */
        memset(&b, 0, sizeof b);
        fdm_train_stream_draw(&a, noise, PIXELS, &loss, 42, 1000);
        fdm_train_stream_draw(&b, other, PIXELS, &loss, 42, 999);
        ck_assert(memcmp(noise, other, sizeof noise) != 0);
        ck_assert(a.sigma_random != b.sigma_random);
        fdm_train_stream_draw(&b, other, PIXELS, &loss, 42, 1000);
        ck_assert(memcmp(noise, other, sizeof noise) == 0);
        ck_assert(memcmp(&a, &b, sizeof a) == 0);

        fdm_rng_seed(&rng, FDM_RNG_TORCH_CUDA, fdm_train_stream_seed(42, 1000));
        (k == 0 ? fdm_rng_normal_f32 : fdm_rng_uniform_f32)(&rng, &number, 1);
        ck_assert_double_eq(a.sigma_random, (double)number);
        fdm_augment_draw(&augment, &rng);
        ck_assert(memcmp(&augment, &a.augment, sizeof augment) == 0);
        fdm_rng_normal_f32(&rng, want, PIXELS);
        for (int i = 0; i < PIXELS; i++) ck_assert_double_eq(noise[i], (double)want[i]);
        fdm_rng_uniform_f32(&rng, &number, 1);
        ck_assert_double_eq(a.label_dropout, (double)number);
    }
}
END_TEST

/* Across images the numbers are N(0, 1) and U[0, 1): means and variances of many images' draws, 5 standard errors. */
START_TEST(distribution) {
    enum { IMAGES = 20000 };
    const fdm_loss loss = loss_of(FDM_PRECOND_EDM);
    double sums[4][2] = {{0}};
    for (uint64_t i = 0; i < IMAGES; i++) {
        fdm_train_draws d;
        double noise[2];
        fdm_train_stream_draw(&d, noise, 2, &loss, 1, i);
        const double values[4] = {d.sigma_random, noise[0], noise[1], sqrt(12) * (d.label_dropout - 0.5)};
        for (int k = 0; k < 4; k++) sums[k][0] += values[k], sums[k][1] += values[k] * values[k];
    }
    for (int k = 0; k < 4; k++) {
        const double mean = sums[k][0] / IMAGES, variance = sums[k][1] / IMAGES - mean * mean;
        ck_assert_msg(fabs(mean) < 5 / sqrt(IMAGES), "mean %d: %g", k, mean);
        ck_assert_msg(fabs(variance - 1) < 5 * sqrt(2.0 / IMAGES), "variance %d: %g", k, variance);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("train_stream");
    TCase *tc = tcase_create("train_stream");
    tcase_add_test(tc, seeds_are_splitmix64);
    tcase_add_test(tc, seeds_differ);
    tcase_add_test(tc, one_image_alone);
    tcase_add_test(tc, distribution);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
