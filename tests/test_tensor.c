/* test_tensor.c - tensor sets: names, shapes, ownership, conversion to double, out of memory. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "io_util.h"
#include "oom.h"
#include "suite.h"

START_TEST(dtypes_have_names_and_sizes) {
#define CHECK_ROW(e, st, np, size)                                                                                 \
    ck_assert_str_eq(fdm_dtype_name(e), st);                                                                       \
    ck_assert_uint_eq(fdm_dtype_size(e), size);                                                                    \
    ck_assert_int_eq(fdm_dtype_from_name(st), e);
    FDM_DTYPES(CHECK_ROW)
#undef CHECK_ROW
    ck_assert_uint_eq(fdm_dtype_size(FDM_DTYPE_COUNT), 0);
    ck_assert_uint_eq(fdm_dtype_size((fdm_dtype)-1), 0);
    ck_assert_str_eq(fdm_dtype_name(FDM_DTYPE_COUNT), "?");
    ck_assert_int_eq(fdm_dtype_from_name("F8"), FDM_DTYPE_COUNT);
}
END_TEST

START_TEST(add_find_and_free) {
    fdm_tensors set = {0};
    fdm_error err;
    const int64_t shape[] = {2, 3};
    for (int i = 0; i < 100; i++) { /* beyond several growth steps */
        char name[16];
        fdm_tensor *t;
        snprintf(name, sizeof name, "t%d", i);
        ck_assert_int_eq(fdm_tensors_add(&set, name, FDM_F64, 2, shape, &t, &err), FDM_OK);
        ck_assert_uint_eq(t->nbytes, 48);
        ck_assert(t->owns_data);
        ck_assert_uint_eq((uintptr_t)t->data % 64, 0);
        for (int k = 0; k < 6; k++) ck_assert(((double *)t->data)[k] == 0);
        ck_assert_int_eq(fdm_tensor_numel(t), 6);
    }
    ck_assert_uint_eq(set.count, 100);
    ck_assert_ptr_eq(fdm_tensors_find(&set, "t42"), &set.items[42]);
    ck_assert_ptr_null(fdm_tensors_find(&set, "t100"));
    check_refused(fdm_tensors_add(&set, "t7", FDM_F32, 0, NULL, NULL, &err), FDM_BAD_USAGE, &err, "t7");
    fdm_tensors_free(&set);
    ck_assert_uint_eq(set.count, 0);
    fdm_tensors_free(&set); /* twice is fine */
    fdm_tensors_free(NULL);
}
END_TEST

START_TEST(scalars_empties_and_borrowed) {
    fdm_tensors set = {0};
    float data[4] = {1, 2, 3, 4};
    const int64_t two[] = {2, 2}, none[] = {3, 0, 5};
    fdm_tensor *t;
    ck_assert_int_eq(fdm_tensors_add(&set, "scalar", FDM_I32, 0, NULL, &t, NULL), FDM_OK);
    ck_assert_int_eq(fdm_tensor_numel(t), 1);
    ck_assert_int_eq(fdm_tensors_add(&set, "empty", FDM_F32, 3, none, &t, NULL), FDM_OK);
    ck_assert_int_eq(fdm_tensor_numel(t), 0);
    ck_assert_ptr_nonnull(t->data);
    ck_assert_int_eq(fdm_tensors_add_borrowed(&set, "mine", FDM_F32, 2, two, data, &t, NULL), FDM_OK);
    ck_assert_ptr_eq(t->data, data);
    ck_assert(!t->owns_data);
    ck_assert_int_eq(fdm_tensors_add_borrowed(&set, "null", FDM_F32, 2, two, NULL, &t, NULL), FDM_BAD_USAGE);
    fdm_tensors_free(&set);
    ck_assert(data[3] == 4);
}
END_TEST

START_TEST(bad_shapes_are_refused) {
    static const struct {
        fdm_dtype dtype;
        int ndim;
        int64_t shape[FDM_MAX_NDIM];
    } cases[] = {
        {FDM_F32, 1, {-1}},
        {FDM_F32, 9, {1}},
        {FDM_F32, -1, {1}},
        {FDM_U8, 2, {(int64_t)1 << 62, 4}},
        {FDM_F64, 1, {(int64_t)1 << 60}},                        /* 2^63 bytes */
        {FDM_U8, 3, {(int64_t)1 << 62, 0, (int64_t)1 << 62}},    /* partial products overflow */
        {FDM_U8, 4, {(int64_t)1 << 32, (int64_t)1 << 32, 1, 1}}, /* product 2^64 wraps to 0 */
        {FDM_DTYPE_COUNT, 1, {1}},
        {(fdm_dtype)-1, 1, {1}},
        {FDM_F32, 8, {256, 256, 256, 256, 256, 256, 256, 256}},
    };
    fdm_tensors set = {0};
    fdm_error err;
    for (size_t i = 0; i < FDM_ARRAY_LEN(cases); i++) {
        fdm_status status = fdm_tensors_add(&set, "x", cases[i].dtype, cases[i].ndim, cases[i].shape, NULL, &err);
        ck_assert_msg(status == FDM_BAD_USAGE, "case %zu: %d", i, status);
    }
    ck_assert_uint_eq(set.count, 0);
    check_refused(fdm_tensors_add(&set, NULL, FDM_F32, 0, NULL, NULL, &err), FDM_BAD_USAGE, &err, NULL);
    check_refused(fdm_tensors_add(&set, "x", FDM_F32, 1, NULL, NULL, &err), FDM_BAD_USAGE, &err, NULL);
    fdm_tensors_free(&set);
}
END_TEST

START_TEST(metadata) {
    fdm_tensors set = {0};
    fdm_error err;
    char key[16];
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "k%d", i);
        ck_assert_int_eq(fdm_tensors_set_meta(&set, key, "old", &err), FDM_OK);
        ck_assert_int_eq(fdm_tensors_set_meta(&set, key, key, &err), FDM_OK);
    }
    ck_assert_uint_eq(set.meta_count, 50);
    ck_assert_str_eq(fdm_tensors_meta(&set, "k17"), "k17");
    ck_assert_ptr_null(fdm_tensors_meta(&set, "k50"));
    ck_assert_int_eq(fdm_tensors_set_meta(&set, NULL, "x", &err), FDM_BAD_USAGE);
    fdm_tensors_free(&set);
}
END_TEST

/* binary16 by its definition, for all 65536 patterns: (-1)^s 2^(e-15) (1 + f/1024), or f 2^-24 when e is 0. */
static double half_value(unsigned h) {
    unsigned e = h >> 10 & 31, f = h & 1023;
    double v = e == 31 ? (f ? (double)NAN : (double)INFINITY) : e ? ldexp(1024.0 + f, (int)e - 25) : ldexp(f, -24);
    return h & 0x8000 ? -v : v;
}

START_TEST(f16_and_bf16_are_exact) {
    for (unsigned bits = 0; bits < 65536; bits++) {
        uint16_t h = (uint16_t)bits;
        fdm_tensor t = {.dtype = FDM_F16, .nbytes = 2, .data = &h};
        double got = fdm_tensor_get(&t, 0), want = half_value(bits);
        ck_assert_msg(isnan(want) ? isnan(got) : got == want && !signbit(got) == !signbit(want), "f16 %04x", bits);
        uint32_t wide = bits << 16;
        float f;
        memcpy(&f, &wide, 4);
        t.dtype = FDM_BF16;
        got = fdm_tensor_get(&t, 0);
        ck_assert_msg(isnan(f) ? isnan(got) : got == (double)f, "bf16 %04x", bits);
    }
}
END_TEST

START_TEST(every_dtype_as_double) {
    float f32 = -0.1f;
    double f64 = 0.1;
    int64_t i64 = -((int64_t)1 << 53);
    int32_t i32 = INT32_MIN;
    int16_t i16 = INT16_MIN;
    int8_t i8 = -128;
    uint64_t u64 = (uint64_t)1 << 63;
    uint32_t u32 = UINT32_MAX;
    uint16_t u16 = UINT16_MAX;
    uint8_t u8 = 255, truth = 2;
    struct {
        fdm_dtype dtype;
        void *data;
        double want;
    } cases[] = {
        {FDM_F32, &f32, (double)-0.1f}, {FDM_F64, &f64, 0.1}, {FDM_I64, &i64, -0x1p53}, {FDM_I32, &i32, -0x1p31},
        {FDM_I16, &i16, -0x1p15},       {FDM_I8, &i8, -128},  {FDM_U64, &u64, 0x1p63},  {FDM_U32, &u32, 0x1p32 - 1},
        {FDM_U16, &u16, 65535},         {FDM_U8, &u8, 255},   {FDM_BOOL, &truth, 1}};
    for (size_t i = 0; i < FDM_ARRAY_LEN(cases); i++) {
        fdm_tensor t = {.dtype = cases[i].dtype, .nbytes = fdm_dtype_size(cases[i].dtype), .data = cases[i].data};
        ck_assert_msg(fdm_tensor_get(&t, 0) == cases[i].want, "%s", fdm_dtype_name(cases[i].dtype));
    }
    fdm_tensor unknown = {.dtype = FDM_DTYPE_COUNT, .data = &u8};
    ck_assert(isnan(fdm_tensor_get(&unknown, 0)));
}
END_TEST

static bool build_set(void *arg) {
    fdm_tensors set = {0};
    fdm_error err = {.status = FDM_OK};
    const int64_t shape[] = {4};
    float data[4] = {0};
    fdm_status status = FDM_OK;
    for (int i = 0; i < 20 && !status; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        status = i % 2 ? fdm_tensors_add(&set, name, FDM_F32, 1, shape, NULL, &err)
                       : fdm_tensors_add_borrowed(&set, name, FDM_F32, 1, shape, data, NULL, &err);
        if (!status) status = fdm_tensors_set_meta(&set, name, "value", &err);
        if (!status) status = fdm_tensors_set_meta(&set, name, "another", &err);
    }
    if (status && !is_refusal(status, FDM_NO_RESOURCE, &err, "memory")) *(int *)arg += 1;
    fdm_tensors_free(&set);
    return status == FDM_OK;
}

START_TEST(out_of_memory) {
    int wrong_messages = 0;
    ck_assert_int_ge(oom_sweep("tensor set", build_set, &wrong_messages), 0);
    ck_assert_int_eq(wrong_messages, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tensor");
    TCase *tc = tcase_create("tensor");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, dtypes_have_names_and_sizes);
    tcase_add_test(tc, add_find_and_free);
    tcase_add_test(tc, scalars_empties_and_borrowed);
    tcase_add_test(tc, bad_shapes_are_refused);
    tcase_add_test(tc, metadata);
    tcase_add_test(tc, f16_and_bf16_are_exact);
    tcase_add_test(tc, every_dtype_as_double);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
