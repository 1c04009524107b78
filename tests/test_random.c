/* test_random.c - PyTorch's random streams: words, uniforms and integers exact, normals within rounding. */
#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/random.h"
#include "fdm/sample.h"
#include "golden.h"
#include "suite.h"

/* Against PyTorch's AVX2 log, sin and cos in f32: the last bit of each, times |normal| up to 5 (goldens' README: up
 * to 1.2e-6).  Absolute. */
#define TOL_F32 2e-6
/* f64 libm against f64 libm: a few units of 2^-53 = 1.1e-16 in r, theta (times theta = 6) and sin; relative to
 * 1, the size of a normal: near a zero of sin or cos the error in theta stays absolute. */
#define TOL_F64 1e-14

static const uint64_t seeds[] = {0, 1, 2, 42, 123456, 4294967295u};
enum { SEEDS = sizeof seeds / sizeof *seeds };

static double worst_f32, worst_f64;

static void note(double *worst, double error) {
    if (!(error <= *worst)) *worst = error;
}

/* One draw from `rng` as a golden names it ("randn", "randn64", "rand", "randint10"), compared with t. */
static void check_draw(fdm_rng *rng, const char *kind, const fdm_tensor *t) {
    const size_t n = (size_t)fdm_tensor_numel(t);
    float *f = calloc(n, sizeof *f);
    double *d = calloc(n, sizeof *d);
    int64_t *k = calloc(n, sizeof *k);
    ck_assert(f && d && k);
    const bool f64 = t->dtype == FDM_F64;
    if (strncmp(kind, "randint", 7) == 0) {
        uint64_t bound = strcmp(kind, "randint_2e31") == 0 ? (uint64_t)1 << 31 : strtoull(kind + 7, NULL, 10);
        fdm_rng_randint(rng, k, n, bound);
        for (size_t i = 0; i < n; i++) ck_assert_int_eq(k[i], ((const int64_t *)t->data)[i]);
    } else if (strncmp(kind, "randn", 5) == 0) {
        if (f64)
            fdm_rng_normal_f64(rng, d, n);
        else
            fdm_rng_normal_f32(rng, f, n);
        for (size_t i = 0; i < n; i++) {
            double want = fdm_tensor_get(t, (int64_t)i), got = f64 ? d[i] : f[i];
            double error = fabs(got - want) / (f64 ? fmax(fabs(want), 1) : 1);
            note(f64 ? &worst_f64 : &worst_f32, error);
            ck_assert_msg(error <= (f64 ? TOL_F64 : TOL_F32), "%s[%zu] = %.17g, want %.17g", t->name, i, got, want);
        }
    } else {
        ck_assert_msg(strcmp(kind, "rand") == 0, "unknown draw %s", kind);
        if (f64)
            fdm_rng_uniform_f64(rng, d, n);
        else
            fdm_rng_uniform_f32(rng, f, n);
        for (size_t i = 0; i < n; i++) ck_assert_double_eq(f64 ? d[i] : f[i], fdm_tensor_get(t, (int64_t)i));
    }
    free(f);
    free(d);
    free(k);
}

START_TEST(mt19937_words) {
    fdm_tensors set;
    fdm_mt19937 mt;
    char name[64];
    golden_load(&set, "rng_mt19937_words.safetensors");
    for (int s = 0; s < SEEDS; s++) {
        snprintf(name, sizeof name, "s%" PRIu64 ".mt_words", seeds[s]);
        const fdm_tensor *t = golden_get(&set, name, "");
        ck_assert_int_gt(fdm_tensor_numel(t), 624); /* beyond the first refill */
        fdm_mt19937_seed(&mt, (uint32_t)seeds[s]);
        for (int64_t i = 0; i < fdm_tensor_numel(t); i++)
            ck_assert_int_eq((int64_t)fdm_mt19937_next(&mt), ((const int64_t *)t->data)[i]);
    }
    fdm_tensors_free(&set);
}
END_TEST

/* Tensors s<seed>.<kind>_<size>[_f32|_f64]: each from a fresh generator. */
START_TEST(torch_cpu_single_draws) {
    fdm_tensors set;
    int drawn = 0;
    golden_load(&set, "rng_cpu.safetensors");
    for (size_t i = 0; i < set.count; i++) {
        const fdm_tensor *t = &set.items[i];
        uint64_t seed;
        char what[64], *end;
        if (sscanf(t->name, "s%" SCNu64 ".%63s", &seed, what) != 2 || strncmp(what, "stream", 6) == 0) continue;
        end = strstr(what, "_2e31") ? strstr(what, "_2e31") + 5 : strchr(what, '_');
        ck_assert_ptr_nonnull(end);
        *end = 0;
        fdm_rng rng;
        fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, seed);
        check_draw(&rng, what, t);
        drawn++;
    }
    printf("  %d draws: normals within %.2g (f32, absolute), %.2g (f64)\n", drawn, worst_f32, worst_f64);
    ck_assert_int_ge(drawn, 6 * 20);
    fdm_tensors_free(&set);
}
END_TEST

/* Tensors s<seed>.streamNN.<kind>_<n>: successive calls on one generator (cached normals, tails, mixed types). */
START_TEST(torch_cpu_streams) {
    fdm_tensors set;
    golden_load(&set, "rng_cpu.safetensors");
    for (int s = 0; s < SEEDS; s++) {
        fdm_rng rng;
        int drawn = 0;
        fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, seeds[s]);
        for (int k = 0; k < 100; k++) {
            char prefix[64], kind[64];
            const fdm_tensor *t = NULL;
            snprintf(prefix, sizeof prefix, "s%" PRIu64 ".stream%02d.", seeds[s], k);
            for (size_t i = 0; i < set.count && t == NULL; i++)
                if (strncmp(set.items[i].name, prefix, strlen(prefix)) == 0) t = &set.items[i];
            if (t == NULL) break;
            snprintf(kind, sizeof kind, "%s", t->name + strlen(prefix));
            *strrchr(kind, '_') = 0;
            check_draw(&rng, kind, t);
            drawn++;
        }
        ck_assert_int_ge(drawn, 10);
    }
    printf("  streams: normals within %.2g (f32, absolute), %.2g (f64)\n", worst_f32, worst_f64);
    fdm_tensors_free(&set);
}
END_TEST

/* The published program's generators, one per seed: latents, labels, then step noise. */
START_TEST(stacked_order) {
    fdm_tensors set;
    golden_load(&set, "rng_cpu.safetensors");
    const int64_t *seed = golden_get(&set, "stacked.", "seeds")->data;
    const int64_t *want_labels = golden_get(&set, "stacked.", "labels")->data;
    const int n = golden_dim(&set, "stacked.", "seeds", 0);
    const fdm_tensor *latents_t = golden_get(&set, "stacked.", "latents_f32");
    const size_t numel = (size_t)fdm_tensor_numel(latents_t), per = numel / (size_t)n;
    fdm_rng *rngs = calloc((size_t)n, sizeof *rngs);
    float *latents = calloc(numel, sizeof *latents);
    double *noise = calloc(numel, sizeof *noise);
    int64_t *labels = calloc((size_t)n, sizeof *labels);
    uint64_t *wrapped = calloc((size_t)n, sizeof *wrapped);
    ck_assert(rngs && latents && noise && labels && wrapped);
    for (int i = 0; i < n; i++) wrapped[i] = (uint64_t)seed[i] + ((uint64_t)i << 32); /* reduced mod 2^32 */
    fdm_sample_seed_rngs(rngs, FDM_RNG_TORCH_CPU, wrapped, n);
    fdm_sample_draw_latents(latents, labels, rngs, n, per, 10); /* 10 classes: golden's README */
    double worst = 0;
    for (size_t i = 0; i < numel; i++)
        note(&worst, fabs((double)latents[i] - fdm_tensor_get(latents_t, (int64_t)i)));
    ck_assert_msg(worst <= TOL_F32, "latents: %g", worst);
    for (int i = 0; i < n; i++) ck_assert_int_eq(labels[i], want_labels[i]);
    fdm_noise_rngs source = {rngs};
    for (int step = 0; step < 2; step++) {
        char name[32];
        snprintf(name, sizeof name, "randn_like%d_f64", step);
        const fdm_tensor *t = golden_get(&set, "stacked.", name);
        ck_assert_int_eq(fdm_noise_from_rngs(&source, noise, step, n, per, NULL), FDM_OK);
        for (size_t i = 0; i < numel; i++) {
            double want = fdm_tensor_get(t, (int64_t)i);
            ck_assert(fabs(noise[i] - want) <= TOL_F64 * fmax(fabs(want), 1));
        }
    }
    free(rngs), free(latents), free(noise), free(labels), free(wrapped);
    fdm_tensors_free(&set);
}
END_TEST

START_TEST(stacked_big_seeds) {
    fdm_tensors set;
    golden_load(&set, "rng_cpu.safetensors");
    const int64_t *seed = golden_get(&set, "stacked_big.", "seeds")->data;
    const fdm_tensor *t = golden_get(&set, "stacked_big.", "randn");
    for (int i = 0; i < 3; i++) {
        uint64_t s = (uint64_t)seed[i];
        float z[16];
        fdm_rng rng;
        fdm_sample_seed_rngs(&rng, FDM_RNG_TORCH_CPU, &s, 1);
        fdm_rng_normal_f32(&rng, z, 16);
        for (int k = 0; k < 16; k++) ck_assert(fabs((double)z[k] - fdm_tensor_get(t, 16 * i + k)) <= TOL_F32);
    }
    fdm_tensors_free(&set);
}
END_TEST

/* Known answers of Random123's distribution (kat_vectors) for philox4x32-10. */
START_TEST(philox_known_answers) {
    static const uint32_t rows[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        fdm_philox4x32_10(out, rows[i], rows[i] + 4);
        for (int k = 0; k < 4; k++) ck_assert_uint_eq(out[k], rows[i][6 + k]);
    }
}
END_TEST

START_TEST(torch_cuda_seed_0) {
    /* SPEC 7.  The GPU's fast sine and cosine are good to about 2^-21 times r < 6. */
    static const double want[4] = {-0.92466259, -0.42534415, -2.6438457, 0.14518388};
    float z[3 * 32 * 32];
    double worst = 0;
    fdm_rng rng;
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CUDA, 0);
    fdm_rng_normal_f32(&rng, z, 3 * 32 * 32);
    for (int i = 0; i < 4; i++) note(&worst, fabs(z[i] - want[i]));
    printf("  torch-cuda, seed 0: within %.2g\n", worst);
    ck_assert(worst <= 5e-6);
}
END_TEST

/* The launch rule: which thread makes which element, and where the next call starts. */
START_TEST(torch_cuda_launch) {
    enum { N = 5000 };
    static float big[N], small[N], again[N];
    fdm_rng a, b;
    fdm_rng_seed(&a, FDM_RNG_TORCH_CUDA, 42);
    a.sm_count = 1;
    a.threads_per_sm = 512; /* 512 threads: 5000 elements take three rounds of four values */
    b = a;
    fdm_rng_normal_f32(&a, big, N);
    ck_assert_uint_eq(a.offset, 12);
    fdm_rng_normal_f32(&b, small, 2048); /* one round of all four values: the same elements */
    ck_assert_uint_eq(b.offset, 4);
    ck_assert_mem_eq(big, small, 2048 * sizeof *big);
    fdm_rng_normal_f32(&b, again, 2048); /* a second call continues where the second round does */
    ck_assert_mem_eq(big + 2048, again, 2048 * sizeof *big);
    fdm_rng_normal_f32(&b, again, 0); /* nothing drawn, nothing moved */
    ck_assert_uint_eq(b.offset, 8);
    double d[3];
    fdm_rng_normal_f64(&b, d, 3);
    ck_assert_uint_eq(b.offset, 12);
}
END_TEST

/* Moments of every kind of draw: a wrong transform of right words shows here even where no stream is at hand. */
START_TEST(moments) {
    enum { N = 100000 };
    double *d = malloc(N * sizeof *d);
    float *f = malloc(N * sizeof *f);
    int64_t *k = malloc(N * sizeof *k);
    ck_assert(d && f && k);
    fdm_rng rng;
    fdm_rng_seed(&rng, (fdm_rng_kind)_i, 7);
    double sums[5][2] = {{0}};
    fdm_rng_normal_f64(&rng, d, N);
    for (int i = 0; i < N; i++) sums[0][0] += d[i], sums[0][1] += d[i] * d[i];
    fdm_rng_normal_f32(&rng, f, N);
    for (int i = 0; i < N; i++) sums[1][0] += f[i], sums[1][1] += (double)f[i] * f[i];
    fdm_rng_uniform_f64(&rng, d, N);
    for (int i = 0; i < N; i++) {
        ck_assert(d[i] >= 0 && d[i] < 1);
        double z = (d[i] - 0.5) * sqrt(12);
        sums[2][0] += z, sums[2][1] += z * z;
    }
    fdm_rng_uniform_f32(&rng, f, N);
    for (int i = 0; i < N; i++) {
        ck_assert(f[i] >= 0 && f[i] < 1);
        double z = (f[i] - 0.5) * sqrt(12);
        sums[3][0] += z, sums[3][1] += z * z;
    }
    fdm_rng_randint(&rng, k, N, 1000);
    for (int i = 0; i < N; i++) {
        ck_assert(k[i] >= 0 && k[i] < 1000);
        double z = ((double)k[i] - 499.5) / sqrt((1e6 - 1) / 12);
        sums[4][0] += z, sums[4][1] += z * z;
    }
    /* mean 0 and variance 1 within 5 standard deviations of a sample of N (variance of z^2 is at most 2) */
    for (int i = 0; i < 5; i++) {
        ck_assert_msg(fabs(sums[i][0] / N) <= 5 / sqrt(N), "draw %d: mean %g", i, sums[i][0] / N);
        ck_assert_msg(fabs(sums[i][1] / N - 1) <= 5 * sqrt(2.0 / N), "draw %d: variance %g", i, sums[i][1] / N);
    }
    fdm_rng_randint(&rng, k, 100, (uint64_t)1 << 40);
    int64_t top = 0;
    for (int i = 0; i < 100; i++) top = k[i] > top ? k[i] : top;
    ck_assert(top > (int64_t)1 << 32 && top < (int64_t)1 << 40);
    fdm_rng_randint(&rng, k, 4, 0); /* defined: as bound 1 */
    ck_assert_int_eq(k[0] | k[1] | k[2] | k[3], 0);
    free(d), free(f), free(k);
}
END_TEST

START_TEST(kinds) {
    fdm_rng_kind kind;
    fdm_error err = {0};
    for (int i = 0; i < FDM_RNG_KIND_COUNT; i++) {
        ck_assert_int_eq(fdm_rng_kind_find(&kind, fdm_rng_kind_name((fdm_rng_kind)i), &err), FDM_OK);
        ck_assert_int_eq(kind, i);
    }
    ck_assert_int_eq(fdm_rng_kind_find(&kind, "mt19937", &err), FDM_BAD_USAGE);
    ck_assert_int_eq(fdm_rng_kind_find(&kind, NULL, NULL), FDM_BAD_USAGE);
    ck_assert_ptr_nonnull(strstr(err.message, "torch-cuda"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("random");
    TCase *tc = tcase_create("random");
    tcase_add_test(tc, mt19937_words);
    tcase_add_test(tc, torch_cpu_single_draws);
    tcase_add_test(tc, torch_cpu_streams);
    tcase_add_test(tc, stacked_order);
    tcase_add_test(tc, stacked_big_seeds);
    tcase_add_test(tc, philox_known_answers);
    tcase_add_test(tc, torch_cuda_seed_0);
    tcase_add_test(tc, torch_cuda_launch);
    tcase_add_loop_test(tc, moments, 0, FDM_RNG_KIND_COUNT);
    tcase_add_test(tc, kinds);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
