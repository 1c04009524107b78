/* test_compare.c - the rules of compare.h, above all that nothing bad passes. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/compare.h"
#include "splitmix.h"
#include "suite.h"

/* ---- Helpers ----------------------------------------------------------------------------------------------- */

static void add(fdm_tensors *set, const char *name, fdm_dtype dtype, int64_t n, const void *values) {
    fdm_tensor *t;
    fdm_error err;
    ck_assert_int_eq(fdm_tensors_add(set, name, dtype, 1, &n, &t, &err), FDM_OK);
    if (n) memcpy(t->data, values, t->nbytes);
}

/* An item that outlives its comparison, until the next one is kept. */
static fdm_comparison_item keep(const fdm_comparison_item *item) {
    static fdm_comparison_figures figures;
    fdm_comparison_item kept = *item;
    kept.name = NULL;
    if (item->figures) {
        figures = *item->figures;
        kept.figures = &figures;
    }
    return kept;
}

/* Compares two tensors "x" and hands out the only item; returns the verdict. */
static bool compare_values(fdm_comparison_item *item, fdm_dtype dtype, int64_t n, const void *a, const void *b,
                           const fdm_compare_options *options) {
    fdm_tensors sa = {0}, sb = {0};
    fdm_comparison result = {0};
    fdm_error err = {0};
    add(&sa, "x", dtype, n, a);
    add(&sb, "x", dtype, n, b);
    fdm_status status = fdm_compare(&result, &sa, &sb, NULL, options, &err);
    ck_assert(status == (result.pass ? FDM_OK : FDM_MISMATCH));
    ck_assert_uint_eq(result.count, 1);
    bool pass = result.pass;
    ck_assert(pass == (result.items[0].outcome == FDM_COMPARE_PASS));
    ck_assert(pass == (result.items[0].detail[0] == '\0'));
    if (item) *item = keep(&result.items[0]);
    fdm_comparison_free(&result);
    fdm_tensors_free(&sa);
    fdm_tensors_free(&sb);
    return pass;
}

static bool compare_floats(fdm_comparison_item *item, float a, float b, const fdm_compare_options *options) {
    return compare_values(item, FDM_F32, 1, &a, &b, options);
}
static bool compare_doubles(fdm_comparison_item *item, double a, double b, const fdm_compare_options *options) {
    return compare_values(item, FDM_F64, 1, &a, &b, options);
}

/* The widest tolerances that there are. */
static const fdm_compare_options lax = {.rtol = 1e300, .atol = 1e300, .mtol = 1e300, .ulp = INT64_MAX};

/* ---- Values ------------------------------------------------------------------------------------------------ */

START_TEST(equal_values_pass) {
    const float values[] = {0.0f, -0.0f, 1.5f, -1e-45f, 3e38f, INFINITY, -INFINITY};
    fdm_comparison_item item;
    ck_assert(compare_values(&item, FDM_F32, 7, values, values, NULL));
    ck_assert_int_eq(item.figures->ab.count, 7);
    ck_assert(item.figures->ab.max_abs == 0 && item.figures->ab.max_rel == 0 && item.figures->ab.rms == 0 && item.figures->ab.max_ulp == 0);
    ck_assert_int_eq(item.figures->ab.worst, -1);
    ck_assert(item.figures->ab.scale_expected == (double)3e38f);
    ck_assert(isnan(item.rms_ratio) && isnan(item.max_ratio));
}
END_TEST

START_TEST(a_nan_that_one_side_lacks_fails_at_any_tolerance) {
    fdm_comparison_item item;
    ck_assert(!compare_floats(&item, 1.0f, NAN, &lax));
    ck_assert_int_eq(item.outcome, FDM_COMPARE_NONFINITE);
    ck_assert_int_eq(item.figures->ab.nonfinite, 1);
    ck_assert(isinf(item.figures->ab.max_abs) && item.figures->ab.max_ulp == INT64_MAX);
    ck_assert(!compare_floats(&item, NAN, 1.0f, &lax));
    ck_assert(!compare_doubles(&item, 0.0, NAN, &lax));
    ck_assert(!compare_doubles(&item, NAN, INFINITY, &lax));
    const uint16_t half[] = {0x3c00, 0x7e00}, bf16[] = {0x3f80, 0x7fc0}; /* 1 and NaN */
    ck_assert(!compare_values(&item, FDM_F16, 1, &half[0], &half[1], &lax));
    ck_assert(!compare_values(&item, FDM_BF16, 1, &bf16[0], &bf16[1], &lax));
}
END_TEST

START_TEST(a_nan_that_both_have_agrees_and_is_counted) {
    const float a[] = {1, NAN, 3}, b[] = {1, -NAN, 3}, moved[] = {NAN, 2, 3};
    fdm_comparison_item item;
    ck_assert(compare_values(&item, FDM_F32, 3, a, b, NULL));
    ck_assert_int_eq(item.figures->ab.nan_in_both, 1);
    ck_assert(item.figures->ab.max_abs == 0);
    ck_assert(!compare_values(&item, FDM_F32, 3, a, moved, &lax)); /* the same number of them, elsewhere */
    ck_assert_int_eq(item.figures->ab.nonfinite, 2);
}
END_TEST

START_TEST(an_infinity_must_be_the_same_infinity) {
    fdm_comparison_item item;
    ck_assert(compare_floats(&item, INFINITY, INFINITY, NULL));
    ck_assert(!compare_floats(&item, INFINITY, -INFINITY, &lax));
    ck_assert(!compare_floats(&item, INFINITY, 3e38f, &lax)); /* rtol * infinity would accept it */
    ck_assert(!compare_floats(&item, 3e38f, INFINITY, &lax));
    ck_assert(!compare_floats(&item, INFINITY, 0, &lax));
    ck_assert_int_eq(item.outcome, FDM_COMPARE_NONFINITE);
}
END_TEST

START_TEST(a_difference_that_overflows_is_no_agreement) {
    const fdm_compare_options wide = {.rtol = 1e300, .atol = 1e300, .mtol = 1e300};
    fdm_comparison_item item;
    ck_assert(!compare_doubles(&item, 1.7e308, -1.7e308, &wide));
    ck_assert_int_eq(item.outcome, FDM_COMPARE_DIFFERENT);
}
END_TEST

START_TEST(the_zeros_are_equal) {
    fdm_comparison_item item;
    ck_assert(compare_floats(&item, 0.0f, -0.0f, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, 0);
    ck_assert(compare_doubles(&item, -0.0, 0.0, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, 0);
}
END_TEST

START_TEST(ulps_are_steps_of_nextafter) {
    fdm_comparison_item item;
    const float starts[] = {0.0f, 1.0f, -1.0f, 1e-45f, -1e-45f, 0x1p-126f, 1e30f, -2.0f};
    for (size_t i = 0; i < FDM_ARRAY_LEN(starts); i++) {
        float moved = starts[i];
        for (int step = 1; step <= 5; step++) { /* across zero from 1e-45, across a power of two from 1 */
            moved = nextafterf(moved, -INFINITY);
            ck_assert(!compare_floats(&item, starts[i], moved, NULL));
            ck_assert_int_eq(item.figures->ab.max_ulp, step);
            const fdm_compare_options enough = {.ulp = step}, less = {.ulp = step - 1};
            ck_assert(compare_floats(&item, starts[i], moved, &enough));
            ck_assert(!compare_floats(&item, moved, starts[i], &less));
        }
    }
    double moved = 5e-324;
    for (int step = 1; step <= 3; step++) moved = nextafter(moved, -1);
    ck_assert(!compare_doubles(&item, 5e-324, moved, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, 3);
}
END_TEST

START_TEST(ulps_across_zero_add_up) {
    fdm_comparison_item item;
    ck_assert(!compare_floats(&item, 1e-45f, -1e-45f, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, 2);
    ck_assert(!compare_floats(&item, 1.0f, -1.0f, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, 2 * (int64_t)0x3f800000);
    ck_assert(!compare_doubles(&item, 1.7e308, -1.7e308, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, INT64_MAX); /* more than fits: saturates, does not wrap */
}
END_TEST

START_TEST(short_floats_count_in_their_own_steps) {
    fdm_comparison_item item;
    const uint16_t one[] = {0x3c00}, next[] = {0x3c01}, below_zero[] = {0x8001}, above_zero[] = {0x0001};
    ck_assert(!compare_values(&item, FDM_F16, 1, one, next, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, 1);
    ck_assert(item.figures->ab.max_abs == 0x1p-10);
    ck_assert(!compare_values(&item, FDM_BF16, 1, below_zero, above_zero, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, 2);
}
END_TEST

START_TEST(integers_are_compared_exactly) {
    fdm_comparison_item item;
    const int64_t big[] = {INT64_MAX}, big_less_one[] = {INT64_MAX - 1}, low[] = {INT64_MIN};
    const uint64_t high[] = {UINT64_MAX}, high_less_one[] = {UINT64_MAX - 1};
    ck_assert(!compare_values(&item, FDM_I64, 1, big, big_less_one, NULL)); /* the same number as doubles */
    ck_assert(item.figures->ab.max_abs == 1);
    ck_assert(!compare_values(&item, FDM_U64, 1, high, high_less_one, NULL));
    ck_assert(item.figures->ab.max_abs == 1);
    ck_assert(!compare_values(&item, FDM_I64, 1, big, low, NULL));
    ck_assert(item.figures->ab.max_abs == 0x1p64 && item.figures->ab.max_ulp == INT64_MAX);
    const int8_t a[] = {-128, -1, 5}, b[] = {127, 1, 5};
    ck_assert(!compare_values(&item, FDM_I8, 3, a, b, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, 255);
    ck_assert_int_eq(item.mismatches, 2);
    const uint8_t dark[] = {0, 200}, bright[] = {255, 201};
    ck_assert(!compare_values(&item, FDM_U8, 2, dark, bright, NULL));
    ck_assert_int_eq(item.figures->ab.max_ulp, 255);
}
END_TEST

START_TEST(tolerances_are_inclusive_and_relative_to_a) {
    const fdm_compare_options absolute = {.atol = 0.5}, relative = {.rtol = 0.25};
    ck_assert(compare_doubles(NULL, 1.0, 1.5, &absolute));
    ck_assert(!compare_doubles(NULL, 1.0, nextafter(1.5, 2), &absolute));
    ck_assert(compare_doubles(NULL, 4.0, 5.0, &relative));
    ck_assert(compare_doubles(NULL, -4.0, -3.0, &relative));
    ck_assert(!compare_doubles(NULL, 3.0, 4.0, &relative)); /* 1 <= 0.25 * 4, but a is 3 */
    ck_assert(!compare_doubles(NULL, 0.0, 1e-300, &relative));
    const fdm_compare_options both = {.atol = 1, .rtol = 0.5};
    ck_assert(compare_doubles(NULL, 2.0, 4.0, &both));
    ck_assert(!compare_doubles(NULL, 2.0, 4.0 + 1e-9, &both));
    const double a[] = {-8, 0, INFINITY}, near[] = {-8, 2, INFINITY}, far[] = {-8, 2.5, INFINITY};
    const fdm_compare_options share = {.mtol = 0.25}; /* of 8: an infinity is no scale */
    ck_assert(compare_values(NULL, FDM_F64, 3, a, near, &share));
    ck_assert(!compare_values(NULL, FDM_F64, 3, a, far, &share));
    ck_assert(!compare_doubles(NULL, 0, 1e-300, &share));
}
END_TEST

START_TEST(figures) {
    const double a[] = {1, 2, 0, -4}, b[] = {1, 2.5, 0.1, -7};
    fdm_comparison_item item;
    ck_assert(!compare_values(&item, FDM_F64, 4, a, b, NULL));
    ck_assert_int_eq(item.mismatches, 3);
    ck_assert(item.figures->ab.max_abs == 3);
    ck_assert(item.figures->ab.max_rel == 0.75); /* where a = 0 there is none */
    ck_assert(item.figures->ab.scale_expected == 4);
    ck_assert_double_eq_tol(item.figures->ab.rms, sqrt((0.25 + 0.01 + 9) / 4), 1e-15); /* a few roundings of numbers near 1 */
    ck_assert_int_eq(item.figures->ab.worst, 3);
    ck_assert(item.figures->ab.worst_expected == -4 && item.figures->ab.worst_found == -7);
    ck_assert_ptr_nonnull(strstr(item.detail, "[3]"));
}
END_TEST

START_TEST(random_bits_fail_exactly_when_they_differ) {
    uint64_t state = 20240607;
    for (int round = 0; round < 20000; round++) {
        uint32_t bits[2];
        float values[2];
        for (int i = 0; i < 2; i++) {
            const uint64_t z = splitmix_next(&state);
            bits[i] = (uint32_t)(z >> 33) ^ (uint32_t)(z << 7);
        }
        if (round % 2) bits[1] = bits[0] + (uint32_t)(round % 3);
        memcpy(values, bits, sizeof values);
        bool nan0 = isnan(values[0]), nan1 = isnan(values[1]);
        bool equal = nan0 || nan1 ? nan0 && nan1 : !(values[0] < values[1]) && !(values[0] > values[1]);
        fdm_comparison_item item;
        ck_assert_msg(compare_floats(&item, values[0], values[1], NULL) == equal, "round %d: %08x %08x", round,
                      bits[0], bits[1]);
    }
}
END_TEST

/* ---- Sets -------------------------------------------------------------------------------------------------- */

START_TEST(names_must_be_the_same) {
    const float one = 1;
    fdm_tensors a = {0}, b = {0};
    fdm_comparison result = {0};
    fdm_error err;
    add(&a, "both", FDM_F32, 1, &one);
    add(&a, "gone", FDM_F32, 1, &one);
    add(&b, "new", FDM_F32, 1, &one);
    add(&b, "both", FDM_F32, 1, &one);
    ck_assert_int_eq(fdm_compare(&result, &a, &b, NULL, &lax, &err), FDM_MISMATCH);
    ck_assert_uint_eq(result.count, 3);
    ck_assert_str_eq(result.items[0].name, "gone");
    ck_assert_int_eq(result.items[0].outcome, FDM_COMPARE_MISSING);
    ck_assert_str_eq(result.items[1].name, "new");
    ck_assert_int_eq(result.items[1].outcome, FDM_COMPARE_EXTRA);
    ck_assert_int_eq(result.items[2].outcome, FDM_COMPARE_PASS);
    fdm_comparison_free(&result);
    fdm_tensors_free(&b);
    add(&b, "both", FDM_F32, 1, &one);
    ck_assert_int_eq(fdm_compare(&result, &b, &a, NULL, NULL, &err), FDM_MISMATCH); /* only an extra one */
    fdm_comparison_free(&result);
    fdm_tensors_free(&a);
    fdm_tensors_free(&b);
    ck_assert_int_eq(fdm_compare(&result, &a, &b, NULL, NULL, &err), FDM_MISMATCH); /* nothing against nothing */
    ck_assert(!result.pass);
    fdm_comparison_free(&result);
}
END_TEST

static fdm_compare_outcome compare_shapes(int na, const int64_t *sa, fdm_dtype da, int nb, const int64_t *sb,
                                          fdm_dtype db) {
    fdm_tensors a = {0}, b = {0};
    fdm_comparison result = {0};
    fdm_tensor *t;
    fdm_error err;
    ck_assert_int_eq(fdm_tensors_add(&a, "x", da, na, sa, &t, &err), FDM_OK);
    ck_assert_int_eq(fdm_tensors_add(&b, "x", db, nb, sb, &t, &err), FDM_OK);
    fdm_compare(&result, &a, &b, NULL, &lax, &err);
    fdm_compare_outcome outcome = result.items[0].outcome;
    fdm_comparison_free(&result);
    fdm_tensors_free(&a);
    fdm_tensors_free(&b);
    return outcome;
}

START_TEST(shape_and_dtype_must_be_the_same) {
    const int64_t s23[] = {2, 3}, s32[] = {3, 2}, s6[] = {6}, s231[] = {2, 3, 1}, s0[] = {0};
    ck_assert_int_eq(compare_shapes(2, s23, FDM_F32, 2, s23, FDM_F32), FDM_COMPARE_PASS);
    ck_assert_int_eq(compare_shapes(2, s23, FDM_F32, 2, s32, FDM_F32), FDM_COMPARE_SHAPE);
    ck_assert_int_eq(compare_shapes(2, s23, FDM_F32, 1, s6, FDM_F32), FDM_COMPARE_SHAPE);
    ck_assert_int_eq(compare_shapes(2, s23, FDM_F32, 3, s231, FDM_F32), FDM_COMPARE_SHAPE);
    ck_assert_int_eq(compare_shapes(2, s23, FDM_F32, 2, s23, FDM_F64), FDM_COMPARE_DTYPE);
    ck_assert_int_eq(compare_shapes(2, s23, FDM_F16, 2, s23, FDM_BF16), FDM_COMPARE_DTYPE);
    ck_assert_int_eq(compare_shapes(2, s23, FDM_I32, 2, s23, FDM_U32), FDM_COMPARE_DTYPE);
    ck_assert_int_eq(compare_shapes(1, s0, FDM_F32, 1, s0, FDM_F32), FDM_COMPARE_PASS);
    ck_assert_int_eq(compare_shapes(0, s0, FDM_F32, 1, s0, FDM_F32),
                     FDM_COMPARE_SHAPE); /* a scalar has an element */
}
END_TEST

START_TEST(the_worst_comes_first) {
    const float base[] = {100, 1}, far[] = {100, 2}, near[] = {100, 1.5f}, nan[] = {100, NAN};
    fdm_tensors a = {0}, b = {0};
    fdm_comparison result = {0};
    fdm_error err;
    const char *names[] = {"fine", "near", "far", "nan"};
    const void *values[] = {base, near, far, nan};
    for (int i = 0; i < 4; i++) {
        add(&a, names[i], FDM_F32, 2, base);
        add(&b, names[i], FDM_F32, 2, values[i]);
    }
    ck_assert_int_eq(fdm_compare(&result, &a, &b, NULL, NULL, &err), FDM_MISMATCH);
    for (size_t i = 0; i < 4; i++) ck_assert_str_eq(result.items[i].name, names[3 - i]);
    ck_assert_ptr_nonnull(strstr(err.message, "3 of 4"));
    fdm_comparison_free(&result);
    fdm_tensors_free(&a);
    fdm_tensors_free(&b);
}
END_TEST

/* ---- Truth ------------------------------------------------------------------------------------------------- */

static fdm_comparison_item against_truth(fdm_status *status, const float *a, const float *b, const double *truth,
                                         int64_t n, const fdm_compare_options *options) {
    fdm_tensors sa = {0}, sb = {0}, st = {0};
    fdm_comparison result = {0};
    fdm_error err;
    const double more = 0;
    add(&sa, "x", FDM_F32, n, a);
    add(&sb, "x", FDM_F32, n, b);
    add(&st, "more", FDM_F64, 1, &more); /* the truth may hold more */
    if (truth) add(&st, "x", FDM_F64, n, truth);
    *status = fdm_compare(&result, &sa, &sb, &st, options, &err);
    ck_assert_uint_eq(result.count, 1);
    fdm_comparison_item item = keep(&result.items[0]);
    fdm_comparison_free(&result);
    fdm_tensors_free(&sa);
    fdm_tensors_free(&sb);
    fdm_tensors_free(&st);
    return item;
}

START_TEST(the_truth_judges_by_rms_error) {
    const float a[] = {1.5f, 2}, closer[] = {1.25f, 2}, farther[] = {1, 3};
    const double truth[] = {1, 2};
    const fdm_compare_options by_truth = {.by_truth = true};
    fdm_status status;
    fdm_comparison_item item = against_truth(&status, a, closer, truth, 2, &by_truth);
    ck_assert_int_eq(status, FDM_OK);
    ck_assert(item.rms_ratio == 0.5 && item.max_ratio == 0.5);
    item = against_truth(&status, a, farther, truth, 2, &by_truth);
    ck_assert_int_eq(status, FDM_MISMATCH);
    ck_assert_int_eq(item.outcome, FDM_COMPARE_WORSE);
    ck_assert(item.rms_ratio == 2);
    item = against_truth(&status, a, a, truth, 2, &by_truth);
    ck_assert(status == FDM_OK && item.rms_ratio == 1);
    const float exact[] = {1, 2};
    item = against_truth(&status, exact, exact, truth, 2, &by_truth); /* 0/0: equally good */
    ck_assert(status == FDM_OK && item.rms_ratio == 1);
    item = against_truth(&status, exact, a, truth, 2, &by_truth);
    ck_assert(status == FDM_MISMATCH && isinf(item.rms_ratio));
    item = against_truth(&status, a, closer, truth, 2, NULL); /* tolerances decide, the ratio is information */
    ck_assert(status == FDM_MISMATCH && item.rms_ratio == 0.5);
}
END_TEST

START_TEST(what_the_truth_lacks_fails) {
    const float fine[] = {1, 2}, nan[] = {1, NAN}, infinite[] = {1, INFINITY};
    const double truth[] = {1, 2}, nan_truth[] = {1, NAN};
    const fdm_compare_options by_truth = {.by_truth = true};
    fdm_status status;
    ck_assert_int_eq(against_truth(&status, fine, nan, truth, 2, &by_truth).outcome, FDM_COMPARE_NONFINITE);
    ck_assert_int_eq(against_truth(&status, nan, fine, truth, 2, &by_truth).outcome, FDM_COMPARE_NONFINITE);
    ck_assert_int_eq(against_truth(&status, nan, nan, truth, 2, &lax).outcome, FDM_COMPARE_NONFINITE);
    ck_assert_int_eq(against_truth(&status, infinite, infinite, truth, 2, &lax).outcome, FDM_COMPARE_NONFINITE);
    ck_assert_int_eq(against_truth(&status, fine, fine, nan_truth, 2, &by_truth).outcome, FDM_COMPARE_NONFINITE);
    ck_assert_int_eq(against_truth(&status, nan, nan, nan_truth, 2, &by_truth).outcome, FDM_COMPARE_PASS);
    ck_assert_int_eq(against_truth(&status, fine, fine, NULL, 2, &lax).outcome, FDM_COMPARE_MISSING);
}
END_TEST

START_TEST(bad_options_are_refused) {
    const fdm_compare_options bad[] = {{.rtol = -1},      {.rtol = NAN}, {.rtol = INFINITY},
                                       {.atol = -1e-300}, {.atol = NAN}, {.mtol = -1},
                                       {.mtol = NAN},     {.ulp = -1},   {.by_truth = true},
                                       {.allow = 1},      {.allow = -1}, {.min_snr = NAN},
                                       {.ratio = -1}};
    fdm_tensors empty = {0};
    for (size_t i = 0; i < FDM_ARRAY_LEN(bad); i++) {
        fdm_comparison result = {0};
        fdm_error err = {0};
        ck_assert_int_eq(fdm_compare(&result, &empty, &empty, NULL, &bad[i], &err), FDM_BAD_USAGE);
        ck_assert(err.message[0] != '\0' && result.items == NULL);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("compare");
    TCase *values = tcase_create("values"), *sets = tcase_create("sets"), *truth = tcase_create("truth");
    tcase_add_test(values, equal_values_pass);
    tcase_add_test(values, a_nan_that_one_side_lacks_fails_at_any_tolerance);
    tcase_add_test(values, a_nan_that_both_have_agrees_and_is_counted);
    tcase_add_test(values, an_infinity_must_be_the_same_infinity);
    tcase_add_test(values, a_difference_that_overflows_is_no_agreement);
    tcase_add_test(values, the_zeros_are_equal);
    tcase_add_test(values, ulps_are_steps_of_nextafter);
    tcase_add_test(values, ulps_across_zero_add_up);
    tcase_add_test(values, short_floats_count_in_their_own_steps);
    tcase_add_test(values, integers_are_compared_exactly);
    tcase_add_test(values, tolerances_are_inclusive_and_relative_to_a);
    tcase_add_test(values, figures);
    tcase_add_test(values, random_bits_fail_exactly_when_they_differ);
    tcase_add_test(sets, names_must_be_the_same);
    tcase_add_test(sets, shape_and_dtype_must_be_the_same);
    tcase_add_test(sets, the_worst_comes_first);
    tcase_add_test(sets, bad_options_are_refused);
    tcase_add_test(truth, the_truth_judges_by_rms_error);
    tcase_add_test(truth, what_the_truth_lacks_fails);
    suite_add_tcase(suite, values);
    suite_add_tcase(suite, sets);
    suite_add_tcase(suite, truth);
    return run_suite(suite);
}
