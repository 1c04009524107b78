/* test_emulation.c - rounding to GPU formats is exact everywhere, and emulated layers round what they should. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/emulation.h"
#include "golden.h"
#include "networks.h"
#include "suite.h"

#ifdef FDM_POISON /* a sanitizer build: for memory errors a part is enough */
enum { STRIDE = 101, NETWORKS = 2 };
#else
enum { STRIDE = 1, NETWORKS = 6 };
#endif

static uint32_t bits_of(float x) {
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static float float_of(uint32_t b) {
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* ---- an oracle of another kind: in f64, by scaling to whole numbers and rint (ties to even) ---- */

static const struct {
    int bits, emin;
    double max;
} formats[] = {
#define ROW(e, name, bits, emin, max) {bits, emin, max},
    FDM_FORMATS(ROW)
#undef ROW
};

static float oracle(fdm_format f, float x) {
    int exponent;
    if (isnan(x) || isinf(x) || x == 0) return x;
    frexp((double)x, &exponent); /* |x| in [2^(exponent-1), 2^exponent) */
    const int smallest = formats[f].emin + 1;
    const double unit = ldexp(1, (exponent < smallest ? smallest : exponent) - formats[f].bits);
    const double rounded = rint((double)x / unit) * unit;
    if (fabs(rounded) > formats[f].max) return x < 0 ? -INFINITY : INFINITY;
    return rounded == 0 ? copysignf(0.0f, x) : (float)rounded;
}

static bool same(float a, float b) { return isnan(a) ? isnan(b) : bits_of(a) == bits_of(b); }

static void check_one(fdm_format f, uint32_t bits) {
    const float x = float_of(bits), got = fdm_format_round(f, x);
    if (same(got, oracle(f, x))) return; /* each of Check's assertions is a system call: these are millions */
    ck_abort_msg("%s(%a) = %a, should be %a", fdm_format_name(f), (double)x, (double)got, (double)oracle(f, x));
}

/* Rounding is monotonic, so it is right everywhere if it is right at every number of the format, at every midpoint
 * between neighbours, and one f32 number to either side of both.  All of these have few bits: stepping through f32 by half
 * a unit of the format meets each one. */
static void check_breakpoints(fdm_format f) {
    const int drop = 24 - formats[f].bits;
    const uint32_t half = drop > 0 ? (uint32_t)1 << (drop - 1) : 1 << 12;
    for (uint64_t at = 0; at <= 0xffffffffu; at += (uint64_t)half * STRIDE)
        for (int side = -1; side <= 1; side++) {
            if (side < 0 && at == 0) continue;
            check_one(f, (uint32_t)at + (uint32_t)side);
        }
}

/* fp16's subnormals are coarser than its significand: their midpoints are odd multiples of 2^-25. */
static void check_fp16_subnormals(void) {
    for (int i = 0; i <= 4096; i++) {
        const float x = (float)i * 0x1p-25f;
        for (int side = -1; side <= 1; side++) {
            if (i == 0 && side < 0) continue;
            check_one(FDM_FORMAT_FP16, bits_of(x) + (uint32_t)side);
            check_one(FDM_FORMAT_FP16, (bits_of(x) + (uint32_t)side) | 0x80000000u);
        }
    }
}

START_TEST(every_breakpoint_of_every_format) {
    for (int f = 0; f < FDM_FORMAT_COUNT; f++) check_breakpoints((fdm_format)f);
    check_fp16_subnormals();
}
END_TEST

START_TEST(rounding_is_monotonic) {
    const char *exhaustive = getenv("FDM_TEST_EXHAUSTIVE");
    const uint32_t step = exhaustive && strcmp(exhaustive, "1") == 0 ? 1 : 977 * STRIDE;
    for (int f = 0; f < FDM_FORMAT_COUNT; f++) {
        float before = 0;
        for (uint64_t at = 0; at <= 0x7f800000u; at += step) {
            const float x = fdm_format_round((fdm_format)f, float_of((uint32_t)at));
            if (!(x >= before)) ck_abort_msg("%s(%a)", fdm_format_name((fdm_format)f), (double)float_of((uint32_t)at));
            if (step == 1) check_one((fdm_format)f, (uint32_t)at);
            before = x;
        }
    }
}
END_TEST

START_TEST(bits_of_all_65536_halves) {
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t h = (uint16_t)i;
        const float f16 = fdm_float_from_f16(h), bf16 = fdm_float_from_bf16(h);
        /* the tensor reader has conversions of its own */
        fdm_tensor t = {.dtype = FDM_F16, .nbytes = 2, .data = (void *)(uintptr_t)&h};
        ck_assert(same(f16, (float)fdm_tensor_get(&t, 0)));
        t.dtype = FDM_BF16;
        ck_assert(same(bf16, (float)fdm_tensor_get(&t, 0)));
        if (isnan(f16)) ck_assert(isnan(fdm_float_from_f16(fdm_float_to_f16(f16))));
        else ck_assert_uint_eq(fdm_float_to_f16(f16), h);
        if (isnan(bf16)) ck_assert(isnan(fdm_float_from_bf16(fdm_float_to_bf16(bf16))));
        else ck_assert_uint_eq(fdm_float_to_bf16(bf16), h);
        if (!isnan(f16)) ck_assert(same(fdm_format_round(FDM_FORMAT_FP16, f16), f16));
    }
}
END_TEST

START_TEST(nan_stays_nan_and_overflow_is_infinite) {
    for (int f = 0; f < FDM_FORMAT_COUNT; f++) {
        ck_assert(isnan(fdm_format_round((fdm_format)f, NAN)));
        ck_assert(isnan(fdm_format_round((fdm_format)f, float_of(0x7f800001u)))); /* its payload lies in the dropped bits */
        ck_assert(isinf(fdm_format_round((fdm_format)f, INFINITY)));
    }
    ck_assert(fdm_format_round(FDM_FORMAT_FP16, 65519.996f) == 65504.0f && isinf(fdm_format_round(FDM_FORMAT_FP16, 65520.0f)));
    ck_assert(isinf(fdm_format_round(FDM_FORMAT_BF16, 3.4e38f)) && isinf(fdm_format_round(FDM_FORMAT_TF32, 0x1.fffffep127f)));
    ck_assert(fdm_format_round(FDM_FORMAT_FP16, 0x1p-25f) == 0 && fdm_format_round(FDM_FORMAT_FP16, 0x1.000002p-25f) == 0x1p-24f);
}
END_TEST

START_TEST(lists_of_classes) {
    fdm_emulation e = fdm_emulation_of(FDM_FORMAT_TF32);
    fdm_error err = {0};
    ck_assert(e.format[FDM_LAYERS_CONV] == FDM_FORMAT_TF32 && e.format[FDM_LAYERS_LINEAR] == FDM_FORMAT_FP32);
    ck_assert(fdm_emulation_set(&e, "linear=tf32,norm=bf16", &err) == FDM_OK);
    ck_assert(e.format[FDM_LAYERS_LINEAR] == FDM_FORMAT_TF32 && e.format[FDM_LAYERS_NORM] == FDM_FORMAT_BF16);
    const char *wrong[] = {"", "linear", "linear=", "=tf32", "linear=fp8", "lin=tf32", "linear=tf32,", "conv=tf32;norm=bf16"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const fdm_emulation before = e;
        ck_assert(fdm_emulation_set(&e, wrong[i], &err) == FDM_BAD_USAGE);
        ck_assert(memcmp(&before, &e, sizeof e) == 0);
    }
}
END_TEST

/* ---- networks ---- */

static fdm_tensors traces_of(const struct model_case *c, const char *backend) {
    const struct runner r = {backend, backend, NULL, true, "direct"};
    fdm_denoiser *d = model_case_load(c, &r, 1);
    fdm_tensors traces = {0};
    struct denoised out = model_case_denoise(c, d, 0, 1, &traces);
    denoised_free(&out);
    fdm_denoiser_free(&d);
    return traces;
}

static bool all_representable(const fdm_tensor *t, fdm_format f) {
    for (int64_t i = 0; i < fdm_tensor_numel(t); i++) {
        const float x = (float)fdm_tensor_get(t, i);
        if (!same(x, fdm_format_round(f, x))) return false;
    }
    return true;
}

static bool differs(const fdm_tensor *a, const fdm_tensor *b) { return memcmp(a->data, b->data, a->nbytes) != 0; }

/* fp32 is the f32 backend with direct convolutions, to the bit; bf16 and fp16 store what they store; tf32 rounds operands
 * only, and those of convolutions only. */
START_TEST(networks_in_every_format) {
    struct model_case c;
    model_case_open(&c, FDM_TEST_GOLDEN_DIR "/net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors");
    fdm_tensors f32 = traces_of(&c, "auto"), fp32 = traces_of(&c, "fp32"), tf32 = traces_of(&c, "tf32");
    fdm_tensors bf16 = traces_of(&c, "bf16"), fp16 = traces_of(&c, "fp16");
    ck_assert_uint_gt(f32.count, 40);
    for (size_t i = 0; i < f32.count; i++) {
        const fdm_tensor *t = &f32.items[i];
        const char *name = t->name;
        ck_assert_msg(!differs(t, fdm_tensors_find(&fp32, name)), "%s in fp32", name);
        if (strcmp(name, "self") == 0) continue;
        if (strcmp(name, "model.map_noise") == 0) continue; /* angles are f32 everywhere */
        ck_assert_msg(all_representable(fdm_tensors_find(&bf16, name), FDM_FORMAT_BF16), "%s in bf16", name);
        ck_assert_msg(all_representable(fdm_tensors_find(&fp16, name), FDM_FORMAT_FP16), "%s in fp16", name);
        const bool linear = strstr(name, "map_") || strstr(name, "affine");
        ck_assert_msg(differs(t, fdm_tensors_find(&tf32, name)) != linear, "%s in tf32", name);
    }
    fdm_tensors *sets[] = {&f32, &fp32, &tf32, &bf16, &fp16};
    for (size_t i = 0; i < 5; i++) fdm_tensors_free(sets[i]);
    model_case_close(&c);
}
END_TEST

/* The error grows with the unit roundoff, in every network among the goldens; whatever the threads. */
START_TEST(errors_are_as_large_as_the_format_says) {
    struct model_files files;
    model_files_find(&files);
    for (size_t i = 0; i < files.count && i < NETWORKS; i++) {
        struct model_case c;
        double rms[4];
        model_case_open(&c, files.paths[i]);
        const struct runner reference = {"reference", "reference", NULL, false, NULL};
        fdm_denoiser *d = model_case_load(&c, &reference, 1);
        struct denoised truth = model_case_denoise(&c, d, 0, 0, NULL);
        fdm_denoiser_free(&d);
        for (int f = 0; f < 4; f++) {
            const char *name = fdm_format_name((fdm_format)f);
            const struct runner r = {name, name, NULL, true, NULL};
            d = model_case_load(&c, &r, i == 0 ? 2 : 1);
            struct denoised out = model_case_denoise(&c, d, 0, 0, NULL);
            rms[f] = golden_compare(out.F, truth.F, c.pixels).rms;
            denoised_free(&out);
            fdm_denoiser_free(&d);
        }
        /* bf16 has 8 times fp16's roundoff; tf32 has fp16's, but for convolutions' operands only */
        ck_assert_msg(rms[FDM_FORMAT_TF32] > 3 * rms[FDM_FORMAT_FP32], "%s: tf32 %g, fp32 %g", files.paths[i], rms[1], rms[0]);
        ck_assert_msg(rms[FDM_FORMAT_TF32] < 1.5 * rms[FDM_FORMAT_FP16], "%s: tf32 %g, fp16 %g", files.paths[i], rms[1], rms[3]);
        ck_assert_msg(rms[FDM_FORMAT_BF16] > 3 * rms[FDM_FORMAT_FP16] && rms[FDM_FORMAT_BF16] < 20 * rms[FDM_FORMAT_FP16],
                      "%s: bf16 %g, fp16 %g", files.paths[i], rms[2], rms[3]);
        denoised_free(&truth);
        model_case_close(&c);
    }
    model_files_free(&files);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("emulation");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, every_breakpoint_of_every_format);
    tcase_add_test(tcase, rounding_is_monotonic);
    tcase_add_test(tcase, bits_of_all_65536_halves);
    tcase_add_test(tcase, nan_stays_nan_and_overflow_is_infinite);
    tcase_add_test(tcase, lists_of_classes);
    tcase_add_test(tcase, networks_in_every_format);
    tcase_add_test(tcase, errors_are_as_large_as_the_format_says);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
