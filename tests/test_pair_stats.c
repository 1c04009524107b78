/* test_pair_stats.c - the figures of pair_stats.h against a plain second computation, and where the error is. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/pair_stats.h"
#include "oom.h"
#include "splitmix.h"
#include "suite.h"

/* ---- Helpers ----------------------------------------------------------------------------------------------- */

static uint64_t random_state = 20260711;
static uint64_t random_bits(void) { return splitmix_next(&random_state); }
static double uniform(void) { return (double)(random_bits() >> 11) * 0x1p-53; }

static fdm_tensor vector(fdm_dtype dtype, int64_t n, void *data) {
    return (fdm_tensor){.name = NULL, .dtype = dtype, .ndim = 1, .shape = {n},
                        .nbytes = (size_t)n * fdm_dtype_size(dtype), .data = data};
}

static fdm_pair_stats measured(const fdm_tensor *e, const fdm_tensor *f, int threads) {
    fdm_pair_stats s;
    fdm_error err;
    ck_assert_int_eq(fdm_pair_measure(&s, e, f, threads, &err), FDM_OK);
    return s;
}
static fdm_pair_stats doubles(int64_t n, double *e, double *f) {
    const fdm_tensor te = vector(FDM_F64, n, e), tf = vector(FDM_F64, n, f);
    return measured(&te, &tf, 0);
}

static int by_size(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

/* Relative agreement of two sums of n terms: each order of adding is off by n epsilon at most. */
static void check_near(double got, double want, double n, const char *what) {
    ck_assert_msg(fabs(got - want) <= 4e-16 * n * fabs(want), "%s: %.17g, want %.17g", what, got, want);
}

/* ---- Figures ----------------------------------------------------------------------------------------------- */

/* All figures of finite doubles, computed the plain way. */
static void check_plainly(int64_t n, const double *e, const double *f, const fdm_pair_stats *s) {
    double *distance = malloc((size_t)(n + 1) * sizeof *distance), *ratio = malloc((size_t)(n + 1) * sizeof *ratio);
    double ee = 0, ff = 0, dd = 0, d = 0, ef = 0, most = 0;
    int64_t ratios = 0, worst = -1;
    for (int64_t i = 0; i < n; i++) {
        distance[i] = fabs(f[i] - e[i]);
        if (e[i] != 0) ratio[ratios++] = distance[i] / fabs(e[i]);
        if (distance[i] > most) {
            most = distance[i];
            worst = i;
        }
        ee += e[i] * e[i];
        ff += f[i] * f[i];
        ef += e[i] * f[i];
        dd += distance[i] * distance[i];
        d += f[i] - e[i];
    }
    qsort(distance, (size_t)n, sizeof *distance, by_size);
    qsort(ratio, (size_t)ratios, sizeof *ratio, by_size);
    ck_assert(s->count == n && s->measured == n && s->nonfinite == 0);
    ck_assert(s->max_abs == most && s->worst == worst && s->max_rel == ratio[ratios - 1]);
    for (int q = 0; q < FDM_QUANTILE_COUNT; q++) {
        const double share = fdm_quantile_share(q);
        int64_t rank = 0, rank_rel = 0; /* the smallest with rank >= share n */
        while ((double)rank < share * (double)n) rank++;
        while ((double)rank_rel < share * (double)ratios) rank_rel++;
        ck_assert_msg(s->quantile_abs[q] == distance[rank - 1], "%s of %d: %.17g, want %.17g", fdm_quantile_name(q), (int)n,
                      s->quantile_abs[q], distance[rank - 1]);
        ck_assert_msg(s->quantile_rel[q] == ratio[rank_rel - 1], "relative %s of %d", fdm_quantile_name(q), (int)n);
    }
    const double count = (double)n;
    check_near(s->rms_expected, sqrt(ee / count), count, "rms_expected");
    check_near(s->rms_found, sqrt(ff / count), count, "rms_found");
    check_near(s->rms, sqrt(dd / count), count, "rms");
    check_near(s->gain, ef / ee, count, "gain");
    check_near(s->snr_db, 10 * log10(ee / dd), count, "snr_db");
    ck_assert_double_eq_tol(s->bias, d / count, 4e-16 * count * s->rms);
    ck_assert_double_eq_tol(s->cosine_distance, 1 - ef / sqrt(ee) / sqrt(ff), 1e-13); /* the plain way cancels */
    free(distance);
    free(ratio);
}

START_TEST(figures_are_those_of_a_plain_computation) {
    /* Around the sizes of a block (1024) and a chunk (32768). */
    const int64_t sizes[] = {1, 2, 3, 10, 999, 1000, 1001, 1023, 1024, 1025, 2049, 32767, 32768, 32769, 100003};
    for (size_t k = 0; k < FDM_ARRAY_LEN(sizes); k++) {
        const int64_t n = sizes[k];
        double *e = malloc((size_t)n * sizeof *e), *f = malloc((size_t)n * sizeof *f);
        for (int64_t i = 0; i < n; i++) {
            e[i] = i % 17 == 5 ? 0 : (uniform() - 0.5) * exp(20 * uniform());
            /* Errors over many decades, some equal to each other, some zero. */
            f[i] = e[i] + (i % 5 == 4 ? 0 : i % 7 == 0 ? 0.125 : (uniform() - 0.4) * exp(-30 * uniform()));
        }
        e[0] = 3;
        f[0] = 3.5;
        const fdm_pair_stats s = doubles(n, e, f);
        check_plainly(n, e, f, &s);
        free(e);
        free(f);
    }
}
END_TEST

START_TEST(figures_do_not_depend_on_threads) {
    enum { N = 300001 };
    float *e = malloc(N * sizeof *e), *f = malloc(N * sizeof *f);
    for (int i = 0; i < N; i++) {
        e[i] = (float)(uniform() - 0.5);
        f[i] = e[i] * (float)(1 + 1e-6 * (uniform() - 0.5));
    }
    f[123456] = NAN;
    const fdm_tensor te = vector(FDM_F32, N, e), tf = vector(FDM_F32, N, f);
    for (int round = 0; round < 2; round++) {
        const fdm_pair_stats one = measured(&te, &tf, 1);
        for (int threads = 2; threads <= 4; threads++) { /* libomp leaks larger teams */
            const fdm_pair_stats many = measured(&te, &tf, threads);
            ck_assert_msg(memcmp(&one, &many, sizeof one) == 0, "%d threads", threads);
        }
        ck_assert_int_eq(one.nonfinite, round == 0);
        ck_assert(round == 0 ? isinf(one.rms) && one.worst == 123456 : one.rms > 0 && one.rms < 1e-6);
        f[123456] = e[123456];
    }
    free(e);
    free(f);
}
END_TEST

START_TEST(squares_neither_overflow_nor_vanish) {
    double e[] = {3e-300, -4e-300}, f[] = {3e-300, -4e-300 + 1e-310};
    fdm_pair_stats s = doubles(2, e, f);
    ck_assert_double_eq_tol(s.rms_expected / 1e-300, sqrt(12.5), 1e-12);
    ck_assert(s.rms > 0 && s.rms <= s.max_abs && s.snr_db > 100);
    double big_e[] = {3e300, 4e300}, big_f[] = {3e300, 4e300 + 1e290};
    s = doubles(2, big_e, big_f);
    ck_assert(isfinite(s.rms_expected) && isfinite(s.rms) && s.rms > 7e289 && s.cosine_distance > 0 && s.cosine_distance < 1e-20);
    double tiny_e[] = {5e-324}, tiny_f[] = {1e-323};
    s = doubles(1, tiny_e, tiny_f);
    ck_assert(s.max_ulp == 1 && s.max_abs == 5e-324 && s.max_rel == 1 && s.rms == 5e-324);
}
END_TEST

START_TEST(a_factor_that_a_correlation_cannot_see) {
    double e[] = {1, -2, 3, 4}, f[] = {2, -4, 6, 8}, opposite[] = {-1, 2, -3, -4}, zero[4] = {0};
    fdm_pair_stats s = doubles(4, e, f);
    ck_assert(s.gain == 2 && s.cosine_distance < 1e-30 && s.snr_db < 1e-9 && s.snr_db > -1e-9);
    s = doubles(4, e, opposite);
    ck_assert(s.gain == -1);
    ck_assert_double_eq_tol(s.cosine_distance, 2, 4e-15);
    s = doubles(4, e, zero);
    ck_assert(s.gain == 0 && s.cosine_distance == 1 && s.rms_found == 0);
    s = doubles(4, zero, e);
    ck_assert(isnan(s.gain) && s.cosine_distance == 1 && isinf(s.snr_db) && s.snr_db < 0);
    s = doubles(4, zero, zero);
    ck_assert(s.cosine_distance == 0 && isinf(s.snr_db) && s.snr_db > 0 && s.worst == -1 && s.bits_expected == 0);
}
END_TEST

START_TEST(what_only_one_side_has_spoils_every_figure) {
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 6; k++) {
        double e[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, f[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
        (k < 3 ? e : f)[3] = bad[k % 3];
        const fdm_pair_stats s = doubles(10, e, f);
        ck_assert(s.nonfinite == 1 && s.measured == 9 && s.worst == 3);
        ck_assert(isinf(s.max_abs) && isinf(s.max_rel) && isinf(s.rms) && s.max_ulp == INT64_MAX);
        ck_assert(isnan(s.bias) && isnan(s.cosine_distance) && isnan(s.gain) && isinf(s.snr_db) && s.snr_db < 0);
        ck_assert(s.quantile_abs[0] == 0 && s.quantile_abs[1] == 0 && isinf(s.quantile_abs[2]) && isinf(s.quantile_rel[3]));
    }
    double e[] = {NAN, INFINITY, -INFINITY, 2}, f[] = {NAN, INFINITY, -INFINITY, 2}; /* the same on both sides */
    const fdm_pair_stats s = doubles(4, e, f);
    ck_assert(s.nonfinite == 0 && s.nan_in_both == 1 && s.inf_in_both == 2 && s.measured == 1 && s.rms == 0);
}
END_TEST

/* ---- ULPs -------------------------------------------------------------------------------------------------- */

START_TEST(buckets_tile_the_distances) {
    ck_assert(fdm_ulp_bucket_first(0) == 0 && fdm_ulp_bucket_last(0) == 0);
    for (int k = 1; k < FDM_ULP_BUCKETS; k++) {
        ck_assert(fdm_ulp_bucket_first(k) == fdm_ulp_bucket_last(k - 1) + 1);
        ck_assert(fdm_ulp_bucket_last(k) >= fdm_ulp_bucket_first(k));
    }
    ck_assert(fdm_ulp_bucket_last(FDM_ULP_BUCKETS - 1) == UINT64_MAX);
}
END_TEST

START_TEST(the_histogram_counts_distances) {
    enum { STEPS = 20 };
    float e[STEPS], f[STEPS];
    int64_t want[FDM_ULP_BUCKETS] = {0};
    for (int i = 0; i < STEPS; i++) {
        const uint32_t one = 0x3f800000, bits = one + (uint32_t)i;
        memcpy(&e[i], &one, 4);
        memcpy(&f[i], &bits, 4);
        int k = 0;
        while ((uint64_t)i > fdm_ulp_bucket_last(k)) k++;
        want[k]++;
    }
    const fdm_tensor te = vector(FDM_F32, STEPS, e), tf = vector(FDM_F32, STEPS, f);
    const fdm_pair_stats s = measured(&te, &tf, 0);
    ck_assert(s.ulp_dtype == FDM_F32 && s.max_ulp == STEPS - 1);
    ck_assert(memcmp(want, s.ulp_histogram, sizeof want) == 0);
    ck_assert(want[0] == 1 && want[1] == 1 && want[2] == 1 && want[3] == 2 && want[4] == 4 && want[5] == 8 && want[6] == 3);
}
END_TEST

START_TEST(against_a_finer_truth_ulps_are_of_the_coarser_dtype) {
    double truth[] = {1, 1, 1, 1, 0x1p-149, 0x1.8p-140, 1e-30};
    float found[] = {1, 1 + 0x1p-23f, 1 - 0x1p-24f, 1 + 0x1p-20f, 0x1p-148f, 0x1.8p-140f, 1e-30f};
    const int64_t want[] = {0, 1, 1, 8, 1, 0, 0}; /* half a ULP rounds up; below 1 f32 steps are halved */
    for (int i = 0; i < 7; i++) {
        const fdm_tensor te = vector(FDM_F64, 1, &truth[i]), tf = vector(FDM_F32, 1, &found[i]);
        const fdm_pair_stats s = measured(&te, &tf, 0);
        ck_assert_msg(s.max_ulp == want[i] && s.ulp_dtype == FDM_F32, "%d: %d", i, (int)s.max_ulp);
    }
    uint16_t half = 0x3c01, bf16 = 0x3f81; /* 1 + 2^-10, 1 + 2^-7 */
    float one = 1;
    const fdm_tensor t1 = vector(FDM_F32, 1, &one), th = vector(FDM_F16, 1, &half), tb = vector(FDM_BF16, 1, &bf16);
    fdm_pair_stats s = measured(&t1, &th, 0);
    ck_assert(s.ulp_dtype == FDM_F16 && s.max_ulp == 1);
    s = measured(&t1, &tb, 0);
    ck_assert(s.ulp_dtype == FDM_BF16 && s.max_ulp == 1);
    s = measured(&th, &tb, 0);
    ck_assert(s.ulp_dtype == FDM_BF16 && s.max_ulp == 1); /* 7/8 of a bf16 step */
    int32_t integer = 1;
    const fdm_tensor ti = vector(FDM_I32, 1, &integer);
    s = measured(&t1, &ti, 0);
    ck_assert(s.ulp_dtype == FDM_DTYPE_COUNT && s.max_ulp == -1 && s.max_abs == 0);
}
END_TEST

START_TEST(significand_bits_tell_the_format) {
    enum { N = 100 };
    float full[N], tf32[N], bf16[N], ones[N];
    for (int i = 0; i < N; i++) {
        full[i] = (float)(uniform() + 0.1);
        uint32_t bits;
        memcpy(&bits, &full[i], 4);
        const uint32_t short_bits = bits & 0xffffe000u, shorter = bits & 0xffff0000u;
        memcpy(&tf32[i], &short_bits, 4);
        memcpy(&bf16[i], &shorter, 4);
        ones[i] = (float)(i % 3) - 1;
    }
    const fdm_tensor t = vector(FDM_F32, N, full), t19 = vector(FDM_F32, N, tf32), t16 = vector(FDM_F32, N, bf16),
                     t1 = vector(FDM_F32, N, ones);
    ck_assert(measured(&t, &t19, 0).bits_expected == 24 && measured(&t, &t19, 0).bits_found == 11);
    ck_assert(measured(&t, &t16, 0).bits_found == 8 && measured(&t, &t1, 0).bits_found == 1);
}
END_TEST

/* ---- Places ------------------------------------------------------------------------------------------------ */

enum { SIZE = 2 * 8 * 6 * 6 };
static fdm_tensor image(double *data) {
    return (fdm_tensor){.dtype = FDM_F64, .ndim = 4, .shape = {2, 8, 6, 6}, .nbytes = SIZE * sizeof *data, .data = data};
}

static void check_place(double *e, double *f, const char *mention) {
    const fdm_tensor te = image(e), tf = image(f);
    char text[FDM_ERROR_PLACE_TEXT];
    fdm_error err;
    ck_assert_int_eq(fdm_error_place(text, &te, &tf, &err), FDM_OK);
    if (mention) ck_assert_msg(strstr(text, mention) != NULL, "\"%s\", not \"%s\"", text, mention);
    else ck_assert_str_eq(text, "");
}

START_TEST(the_place_of_the_error_in_words) {
    double e[SIZE], f[SIZE];
    for (int i = 0; i < SIZE; i++) f[i] = e[i] = uniform();
    check_place(e, f, NULL);
    for (int i = 0; i < SIZE; i++) f[i] = e[i] + 1e-3 * (uniform() - 0.5);
    check_place(e, f, NULL); /* everywhere */
    for (int i = 0; i < SIZE; i++) f[i] = e[i] + (i / 36 % 8 == 3);
    check_place(e, f, "at index 3 of 8 along dimension 1: 99 % of the squared error");
    for (int i = 0; i < SIZE; i++) f[i] = e[i] + (i / 36 % 8 >= 4 && i / 288 == 1) * uniform();
    check_place(e, f, "at index 1 of 2 along dimension 0, 4-7 of 8 along dimension 1");
    for (int i = 0; i < SIZE; i++) {
        const int r = i / 6 % 6, c = i % 6;
        f[i] = e[i] + (r == 0 || r == 5 || c == 0 || c == 5);
    }
    check_place(e, f, "at the edge of the last two dimensions: 100 % of the squared error in 56 % of the elements");
    for (int i = 0; i < SIZE; i++) f[i] = i / 36 % 8 == 7 ? NAN : e[i] + uniform();
    check_place(e, f, "at index 7 of 8 along dimension 1: 99 % of NaN and infinities");
}
END_TEST

START_TEST(the_patch_is_around_the_element) {
    double e[SIZE], f[SIZE];
    for (int i = 0; i < SIZE; i++) {
        e[i] = i;
        f[i] = -i;
    }
    const fdm_tensor te = image(e), tf = image(f);
    fdm_patch p;
    for (int i = 0; i < SIZE; i++) {
        fdm_patch_take(&p, &te, &tf, i % 2 ? &te : NULL, i);
        const int r = i / 6 % 6, c = i % 6;
        ck_assert(p.rows == 5 && p.cols == 5 && p.index == i && p.with_truth == (i % 2 == 1));
        ck_assert(r >= p.row && r < p.row + 5 && c >= p.col && c < p.col + 5 && p.row >= 0 && p.row <= 1 && p.col >= 0 && p.col <= 1);
        const int cell = (int)((r - p.row) * 5 + c - p.col);
        ck_assert(p.expected[cell] == i && p.found[cell] == -i);
        if (i % 2) ck_assert(p.truth[cell] == i);
    }
    const fdm_tensor few = vector(FDM_F64, 3, e), scalar = {.dtype = FDM_F64, .ndim = 0, .nbytes = 8, .data = e + 7};
    fdm_patch_take(&p, &few, &few, NULL, 2);
    ck_assert(p.rows == 1 && p.cols == 3 && p.expected[2] == 2);
    fdm_patch_take(&p, &scalar, &scalar, NULL, 0);
    ck_assert(p.rows == 1 && p.cols == 1 && p.expected[0] == 7);
}
END_TEST

START_TEST(heat_maps_show_where) {
    double e[SIZE] = {0}, f[SIZE] = {0};
    const int worst = (1 * 8 + 5) * 36 + 4 * 6 + 2; /* [1,5,4,2] */
    f[worst] = 6;
    f[0] = NAN;
    const fdm_tensor te = image(e), tf = image(f);
    fdm_heat_map maps[FDM_HEAT_MAPS] = {0};
    fdm_error err;
    int count;
    ck_assert_int_eq(fdm_heat_maps_make(maps, &count, &te, &tf, worst, &err), FDM_OK);
    ck_assert(count == 2 && maps[0].rows == 6 && maps[0].cols == 6 && maps[1].rows == 2 && maps[1].cols == 8);
    for (int c = 0; c < 36; c++) ck_assert(maps[0].cells[c] == (c == 4 * 6 + 2 ? 6 : 0));
    for (int c = 1; c < 16; c++) ck_assert(maps[1].cells[c] == (c == 8 + 5 ? 1 : 0)); /* sqrt(36 / 36) */
    ck_assert(isinf(maps[1].cells[0]));
    ck_assert_str_eq(maps[0].title, "dimension 2 down, 3 across, at [1,5]");
    fdm_heat_maps_free(maps);
    double long_e[1000] = {0}, long_f[1000] = {0};
    long_f[999] = 1;
    const fdm_tensor le = vector(FDM_F64, 1000, long_e), lf = vector(FDM_F64, 1000, long_f);
    ck_assert_int_eq(fdm_heat_maps_make(maps, &count, &le, &lf, 999, &err), FDM_OK);
    ck_assert(count == 1 && maps[0].rows == 1 && maps[0].cols == FDM_HEAT_MAP_SIDE && maps[0].col_count == 1000);
    ck_assert(maps[0].cells[FDM_HEAT_MAP_SIDE - 1] > 0 && maps[0].cells[FDM_HEAT_MAP_SIDE - 2] == 0);
    fdm_heat_maps_free(maps);
}
END_TEST

START_TEST(other_shapes_are_refused) {
    double e[6] = {0};
    fdm_tensor te = vector(FDM_F64, 6, e), tf = vector(FDM_F64, 5, e);
    fdm_pair_stats s;
    fdm_error err;
    ck_assert_int_eq(fdm_pair_measure(&s, &te, &tf, 0, &err), FDM_BAD_USAGE);
    ck_assert_ptr_nonnull(strstr(err.message, "[6]"));
    ck_assert(isnan(s.rms) && s.max_ulp == -1); /* nothing that looks like a measurement */
    const fdm_pair_stats none = doubles(0, e, e);
    ck_assert(none.count == 0 && none.rms == 0 && none.worst == -1 && none.quantile_abs[0] == 0);
}
END_TEST

static bool measure_all(void *arg) {
    enum { N = 40000 };
    float *values = arg;
    fdm_tensor e = vector(FDM_F32, N, values), f = vector(FDM_F32, N, values + 1);
    char text[FDM_ERROR_PLACE_TEXT];
    fdm_heat_map maps[FDM_HEAT_MAPS];
    fdm_pair_stats s;
    fdm_error err;
    int count;
    bool ok = fdm_pair_measure(&s, &e, &f, 1, &err) == FDM_OK;
    if (ok) ok = fdm_error_place(text, &e, &f, &err) == FDM_OK;
    if (ok) ok = fdm_heat_maps_make(maps, &count, &e, &f, 7, &err) == FDM_OK;
    if (ok) fdm_heat_maps_free(maps);
    return ok;
}

START_TEST(every_allocation_may_fail) {
    float *values = malloc(40001 * sizeof *values);
    for (int i = 0; i <= 40000; i++) values[i] = (float)uniform();
    ck_assert_int_ge(oom_sweep("statistics", measure_all, values), 0);
    free(values);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pair_stats");
    TCase *figures = tcase_create("figures"), *ulps = tcase_create("ulps"), *places = tcase_create("places");
    tcase_add_test(figures, figures_are_those_of_a_plain_computation);
    tcase_add_test(figures, figures_do_not_depend_on_threads);
    tcase_add_test(figures, squares_neither_overflow_nor_vanish);
    tcase_add_test(figures, a_factor_that_a_correlation_cannot_see);
    tcase_add_test(figures, what_only_one_side_has_spoils_every_figure);
    tcase_add_test(figures, other_shapes_are_refused);
    tcase_add_test(figures, every_allocation_may_fail);
    tcase_add_test(ulps, buckets_tile_the_distances);
    tcase_add_test(ulps, the_histogram_counts_distances);
    tcase_add_test(ulps, against_a_finer_truth_ulps_are_of_the_coarser_dtype);
    tcase_add_test(ulps, significand_bits_tell_the_format);
    tcase_add_test(places, the_place_of_the_error_in_words);
    tcase_add_test(places, the_patch_is_around_the_element);
    tcase_add_test(places, heat_maps_show_where);
    suite_add_tcase(suite, figures);
    suite_add_tcase(suite, ulps);
    suite_add_tcase(suite, places);
    return run_suite(suite);
}
