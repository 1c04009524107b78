/* test_conv2d.c - the f32 convolution in each of its modes against plain double loops, and bit for bit between
 * instruction sets, thread counts and batches; the micro-kernel's fused multiply-add on awkward numbers. */
#include <check.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "nn/f32_layers.h"
#include "nn/winograd.h"
#include "simd/conv.h"
#include "splitmix.h"
#include "suite.h"
#include "winograd_bound.h"

/* A sanitizer makes the kernels twenty times slower; the plain build tests the numbers, that one the memory. */
#ifdef FDM_POISON
enum { CASES = 24, SAME_BITS_CASES = 8 };
#else
enum { CASES = 80, SAME_BITS_CASES = 30 };
#endif

/* One convolution with everything around it. */
struct conv_case {
    fdm_conv_mode mode;
    int n, in_c, out_c, h, w, k, pad;
    bool has_bias, has_residual, has_raw;
    double scale;
    enum fill fill;
    struct fdm_map in, out, raw, residual;
    float *weight, *bias;
};

static int pick(uint64_t *state, const int *from, int count) {
    return from[f32_below(state, count)];
}

/* A shape drawn from the lists that found bugs elsewhere: single and odd channels, partial vectors, groups of 1 to
 * 3 vectors, chains shorter and longer than a block, maps smaller than a tile, every halo. */
static struct conv_case draw_case(uint64_t *state, enum fill fill, fdm_conv_mode mode) {
    static const int channels[] = {1, 3, 8, 16, 24, 32, 48, 64, 80, 112, 160, 272};
    static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17}, kernels[] = {1, 1, 3, 3, 3, 5};
    struct conv_case c = {.fill = fill, .mode = mode};
    do {
        c.n = 1 + f32_below(state, 3);
        c.in_c = pick(state, channels, (int)FDM_ARRAY_LEN(channels));
        c.out_c = pick(state, channels, (int)FDM_ARRAY_LEN(channels));
        c.h = pick(state, sizes, (int)FDM_ARRAY_LEN(sizes));
        c.w = pick(state, sizes, (int)FDM_ARRAY_LEN(sizes));
        c.k = pick(state, kernels, (int)FDM_ARRAY_LEN(kernels));
        c.pad = f32_below(state, 3);
    } while (c.h + 2 * c.pad < c.k || c.w + 2 * c.pad < c.k ||
             (mode != FDM_CONV_DIRECT && !fdm_winograd_suits(c.in_c, c.out_c, c.k)) ||
             (double)c.n * c.in_c * c.out_c * (c.h + 2 * c.pad) * (c.w + 2 * c.pad) * c.k * c.k >
                 (mode == FDM_CONV_DIRECT ? 1.5e6 : 5e6));
    int out_h = c.h + 2 * c.pad - c.k + 1, out_w = c.w + 2 * c.pad - c.k + 1;
    c.has_bias = f32_below(state, 2), c.has_residual = f32_below(state, 2), c.has_raw = f32_below(state, 2);
    c.scale = f32_below(state, 2) ? 1 : fill == FILL_EXACT ? 0.5 : sqrt(0.5);
    c.in = f32_map_filled(state, c.n, c.in_c, c.h, c.w, c.pad + f32_below(state, 2), fill);
    c.residual = f32_map_filled(state, c.n, c.out_c, out_h, out_w, f32_below(state, 3), fill);
    c.out = f32_map(c.n, c.out_c, out_h, out_w, f32_below(state, 3));
    c.raw = f32_map(c.n, c.out_c, out_h, out_w, f32_below(state, 3));
    c.weight = f32_array(state, (size_t)c.out_c * c.in_c * c.k * c.k, fill);
    c.bias = f32_array(state, (size_t)c.out_c, fill);
    return c;
}

static void free_case(struct conv_case *c) {
    fdm_free_aligned(c->in.data), fdm_free_aligned(c->out.data), fdm_free_aligned(c->raw.data);
    fdm_free_aligned(c->residual.data), fdm_free_aligned(c->weight), fdm_free_aligned(c->bias);
}

/* Runs the case into c->out and c->raw, whose memory is poisoned first, as is the scratch: exactly what was asked for. */
static void run_case(struct conv_case *c, enum fdm_isa isa, int threads) {
    struct fdm_exec exec = f32_exec(isa, threads);
    struct fdm_conv2d_args args = {.k = c->k, .pad = c->pad, .epilogue = {.scale = c->scale}};
    const struct fdm_backend *table = fdm_backend_f32(c->mode);
    void *packed = fdm_malloc_aligned(table->conv2d_packed_bytes(c->out_c, c->in_c, c->k));
    exec.scratch_bytes = table->conv2d_scratch(c->n, c->in_c, c->out_c, c->k, c->out.h, c->out.w, threads);
    exec.scratch = f32_scratch(exec.scratch_bytes);
    ck_assert_ptr_nonnull(packed);
    table->conv2d_pack(&exec, packed, c->weight, c->has_bias ? c->bias : NULL, c->out_c, c->in_c, c->k);
    memset(c->out.data, 0xff, f32_map_bytes(&c->out));
    memset(c->raw.data, 0xff, f32_map_bytes(&c->raw));
    args.weight = packed;
    if (c->has_residual) args.epilogue.residual = &c->residual;
    if (c->has_raw) args.epilogue.raw = &c->raw;
    table->conv2d(&exec, &c->out, &c->in, &args);
    fdm_free_aligned(packed), f32_scratch_free(exec.scratch, exec.scratch_bytes);
}

/* The sum of products in double, and of their absolute values, with the bias. */
static void reference_sum(const struct conv_case *c, int n, int o, int y, int x, double *sum, double *magnitude) {
    *sum = c->has_bias ? c->bias[o] : 0;
    *magnitude = fabs(*sum);
    for (int i = 0; i < c->in_c; i++) {
        for (int ky = 0; ky < c->k; ky++) {
            for (int kx = 0; kx < c->k; kx++) {
                int iy = y + ky - c->pad, ix = x + kx - c->pad;
                if (iy < 0 || iy >= c->h || ix < 0 || ix >= c->w) continue;
                double product = (double)c->weight[((o * c->in_c + i) * c->k + ky) * c->k + kx];
                product *= *f32_at(&c->in, n, i, iy, ix);
                *sum += product;
                *magnitude += fabs(product);
            }
        }
    }
}

/* Sum over the inputs of |weights| times |tile| for the tile that holds output pixel (y, x): see winograd_bound.h. */
static double tile_magnitude(const struct conv_case *c, int n, int o, int y, int x) {
    const int m = c->mode == FDM_CONV_WINOGRAD2 ? 2 : 4;
    double sum = 0;
    for (int i = 0; i < c->in_c; i++) {
        double taps = 0, tile = 0;
        for (int t = 0; t < 9; t++) taps += fabs((double)c->weight[(o * c->in_c + i) * 9 + t]);
        for (int t = 0; t < (m + 2) * (m + 2); t++) {
            const int iy = y / m * m - c->pad + t / (m + 2), ix = x / m * m - c->pad + t % (m + 2);
            if (iy >= 0 && iy < c->h && ix >= 0 && ix < c->w) tile += fabs((double)*f32_at(&c->in, n, i, iy, ix));
        }
        sum += taps * tile;
    }
    return winograd_amplification(m) * sum;
}

/* Roundings on the longest path: a chain, the block sums, the bias. */
static double roundings(const struct conv_case *c) {
    if (c->mode == FDM_CONV_WINOGRAD2) return 32 + (c->in_c + 31) / 32 + WINOGRAD_ROUNDINGS;
    if (c->mode == FDM_CONV_WINOGRAD4) return 64 + (c->in_c + 63) / 64 + WINOGRAD_ROUNDINGS;
    int chain = c->k == 1 ? 128 : 16 * c->k * c->k, blocks = (c->in_c + 15) / 16;
    return chain + (c->k == 1 ? (blocks + 7) / 8 : blocks) + 1;
}

/* Compares out and raw with the reference.  Tolerance: the a-priori bound of recursive summation, roundings * 2^-24
 * * sum |w x|, plus 3 roundings of the epilogue; for exact data zero.  Returns the worst error over the bound. */
static double check_case(const struct conv_case *c) {
    double worst = 0;
    for (int i = 0; i < c->n * c->out_c * c->out.h * c->out.w; i++) {
        int x = i % c->out.w, y = i / c->out.w % c->out.h, o = i / (c->out.w * c->out.h) % c->out_c;
        int n = i / (c->out.w * c->out.h * c->out_c);
        double sum, magnitude, residual = c->has_residual ? *f32_at(&c->residual, n, o, y, x) : 0;
        reference_sum(c, n, o, y, x, &sum, &magnitude);
        const bool exact = c->fill == FILL_EXACT && c->mode != FDM_CONV_WINOGRAD4; /* whose weights have thirds */
        if (c->mode != FDM_CONV_DIRECT && !exact) magnitude = tile_magnitude(c, n, o, y, x);
        double bound = exact ? 0 : roundings(c) * 0x1p-24 * magnitude;
        double final_bound = exact ? 0 : bound + 3 * 0x1p-24 * (magnitude + fabs(residual));
        double error = fabs(*f32_at(&c->out, n, o, y, x) - (sum + residual) * c->scale);
        if (!(error <= final_bound)) /* ck_assert_msg would note each pass in a file */
            ck_abort_msg("out n %d o %d y %d x %d: error %g > %g", n, o, y, x, error, final_bound);
        if (c->has_raw) {
            double raw_error = fabs(*f32_at(&c->raw, n, o, y, x) - sum);
            if (!(raw_error <= bound)) ck_abort_msg("raw n %d o %d y %d x %d: error %g > %g", n, o, y, x, raw_error, bound);
        }
        if (final_bound > 0) worst = fmax(worst, error / final_bound);
    }
    f32_check_zeros(&c->out, "out");
    if (c->has_raw) f32_check_zeros(&c->raw, "raw");
    return worst;
}

static void against_loops(enum fill fill, fdm_conv_mode mode, int cases, uint64_t seed) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas);
    double worst = 0;
    for (int i = 0; i < cases; i++) {
        uint64_t state = seed + (uint64_t)i;
        struct conv_case c = draw_case(&state, fill, mode);
        for (int a = 0; a < count; a++) {
            run_case(&c, isas[a], 1 + i % 3);
            worst = fmax(worst, check_case(&c));
        }
        free_case(&c);
    }
    printf("conv2d %s, %s: %d shapes, worst error / a-priori bound %.3f\n", fdm_conv_mode_name(mode),
           fill == FILL_EXACT ? "exact" : "random", cases, worst);
}

START_TEST(random_shapes) {
    const fdm_conv_mode mode = (fdm_conv_mode)_i;
    against_loops(FILL_RANDOM, mode, mode == FDM_CONV_DIRECT ? CASES : CASES / 3, 1000);
}
END_TEST

START_TEST(exact_shapes) {
    const fdm_conv_mode mode = (fdm_conv_mode)_i;
    against_loops(FILL_EXACT, mode, mode == FDM_CONV_DIRECT ? CASES : CASES / 3, 2000);
}
END_TEST

/* Same bits for every instruction set and thread count, and for a sample alone. */
START_TEST(same_bits) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas);
    const fdm_conv_mode mode = (fdm_conv_mode)_i;
    const uint64_t cases = mode == FDM_CONV_DIRECT ? SAME_BITS_CASES : SAME_BITS_CASES / 2;
    for (uint64_t seed = 3000; seed < 3000 + cases; seed++) {
        uint64_t state = seed;
        struct conv_case c = draw_case(&state, FILL_RANDOM, mode);
        run_case(&c, isas[0], 1);
        struct conv_case first = c;
        first.out = f32_map(c.n, c.out_c, c.out.h, c.out.w, c.out.halo);
        first.raw = f32_map(c.n, c.out_c, c.raw.h, c.raw.w, c.raw.halo);
        memcpy(first.out.data, c.out.data, f32_map_bytes(&c.out));
        memcpy(first.raw.data, c.raw.data, f32_map_bytes(&c.raw));
        for (int a = 0; a < count; a++) {
            for (int threads = 1; threads <= 4; threads++) {
                run_case(&c, isas[a], threads);
                ck_assert_msg(!memcmp(first.out.data, c.out.data, f32_map_bytes(&c.out)) &&
                                  !memcmp(first.raw.data, c.raw.data, f32_map_bytes(&c.raw)),
                              "seed %d: %s with %d threads differs from portable", (int)seed, fdm_isa_name(isas[a]),
                              threads);
            }
            for (int n = 0; n < c.n; n++) {
                struct conv_case one = c;
                one.n = 1;
                one.in = f32_sample(&c.in, n), one.residual = f32_sample(&c.residual, n);
                one.out = f32_sample(&c.out, n), one.raw = f32_sample(&c.raw, n);
                run_case(&one, isas[a], 2);
                size_t bytes = f32_map_bytes(&one.out);
                ck_assert_msg(!memcmp((char *)first.out.data + n * bytes, one.out.data, bytes),
                              "seed %d: %s, sample %d alone differs", (int)seed, fdm_isa_name(isas[a]), n);
                fdm_free_aligned(one.in.data), fdm_free_aligned(one.residual.data);
                fdm_free_aligned(one.out.data), fdm_free_aligned(one.raw.data);
            }
        }
        fdm_free_aligned(first.out.data), fdm_free_aligned(first.raw.data);
        free_case(&c);
    }
}
END_TEST

/* How the work is cut into strips and parts depends on the threads and the batch: more threads than tiles, few tiles and
 * many outputs, one long line, many samples, strips of every length. */
START_TEST(same_bits_however_cut) {
    static const struct { int n, in_c, out_c, h, w; } shapes[] = {
        {1, 16, 272, 1, 1}, {1, 48, 130, 2, 3}, {64, 17, 40, 2, 2}, {3, 40, 80, 9, 11}, {1, 20, 33, 3, 131}, {1, 64, 24, 33, 3}};
#ifdef FDM_POISON
    static const int threads[] = {3};
#else
    static const int threads[] = {2, 3, 5, 7, 16};
#endif
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    for (size_t s = 0; s < FDM_ARRAY_LEN(shapes); s++) {
        uint64_t state = 6000 + s;
        struct conv_case c = {.mode = (fdm_conv_mode)_i, .n = shapes[s].n, .in_c = shapes[s].in_c, .out_c = shapes[s].out_c,
                              .h = shapes[s].h, .w = shapes[s].w, .k = 3, .pad = 1, .has_bias = true, .has_residual = true,
                              .has_raw = true, .scale = sqrt(0.5), .fill = FILL_RANDOM};
        c.in = f32_map_filled(&state, c.n, c.in_c, c.h, c.w, 1, FILL_RANDOM);
        c.residual = f32_map_filled(&state, c.n, c.out_c, c.h, c.w, 0, FILL_RANDOM);
        c.out = f32_map(c.n, c.out_c, c.h, c.w, 1), c.raw = f32_map(c.n, c.out_c, c.h, c.w, 0);
        c.weight = f32_array(&state, (size_t)c.out_c * c.in_c * 9, FILL_RANDOM);
        c.bias = f32_array(&state, (size_t)c.out_c, FILL_RANDOM);
        run_case(&c, isas[0], 1);
        check_case(&c);
        struct fdm_map first = f32_map(c.n, c.out_c, c.h, c.w, 1), raw = f32_map(c.n, c.out_c, c.h, c.w, 0);
        memcpy(first.data, c.out.data, f32_map_bytes(&first)), memcpy(raw.data, c.raw.data, f32_map_bytes(&raw));
        for (int a = 0; a < count; a++)
            for (size_t t = 0; t < FDM_ARRAY_LEN(threads); t++) {
                run_case(&c, isas[a], threads[t]);
                ck_assert_msg(!memcmp(first.data, c.out.data, f32_map_bytes(&first)) &&
                                  !memcmp(raw.data, c.raw.data, f32_map_bytes(&raw)),
                              "shape %zu: %s, %d threads", s, fdm_isa_name(isas[a]), threads[t]);
            }
        fdm_free_aligned(first.data), fdm_free_aligned(raw.data);
        free_case(&c);
    }
}
END_TEST

/* A NaN or infinity must reach the outputs that depend on it and nothing else: no halo, no pad channel. */
START_TEST(nan_stays_inside) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas);
    uint64_t state = 4000;
    for (int a = 0; a < count; a++) {
        struct conv_case c = {.n = 1, .in_c = 5, .out_c = 7, .h = 6, .w = 6, .k = 3, .pad = 1, .scale = 1};
        c.in = f32_map_filled(&state, 1, 5, 6, 6, 1, FILL_RANDOM);
        c.residual = f32_map_filled(&state, 1, 7, 6, 6, 0, FILL_RANDOM);
        c.out = f32_map(1, 7, 6, 6, 1), c.raw = f32_map(1, 7, 6, 6, 0);
        c.weight = f32_array(&state, 7 * 5 * 9, FILL_RANDOM), c.bias = f32_array(&state, 7, FILL_RANDOM);
        *f32_at(&c.in, 0, 2, 1, 1) = a % 2 ? INFINITY : NAN;
        run_case(&c, isas[a], 1);
        f32_check_zeros(&c.out, "out");
        for (int i = 0; i < 7 * 36; i++) {
            int y = i / 6 % 6, x = i % 6;
            bool touched = y <= 2 && x <= 2;
            ck_assert(touched == !isfinite(*f32_at(&c.out, 0, i / 36, y, x)));
        }
        free_case(&c);
    }
}
END_TEST

/* Winograd: within the tiles that read it. */
START_TEST(nan_stays_inside_tiles) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas);
    uint64_t state = 4500;
    const int m = _i == FDM_CONV_WINOGRAD2 ? 2 : 4;
    for (int a = 0; a < count; a++) {
        struct conv_case c = {.mode = (fdm_conv_mode)_i, .n = 1, .in_c = 21, .out_c = 19, .h = 11, .w = 13, .k = 3, .pad = 1,
                              .scale = 1};
        c.in = f32_map_filled(&state, 1, 21, 11, 13, 1, FILL_RANDOM);
        c.residual = f32_map_filled(&state, 1, 19, 11, 13, 0, FILL_RANDOM);
        c.out = f32_map(1, 19, 11, 13, 1), c.raw = f32_map(1, 19, 11, 13, 0);
        c.weight = f32_array(&state, 19 * 21 * 9, FILL_RANDOM), c.bias = f32_array(&state, 19, FILL_RANDOM);
        *f32_at(&c.in, 0, 20, 5, 6) = a % 2 ? INFINITY : NAN;
        run_case(&c, isas[a], 1);
        f32_check_zeros(&c.out, "out");
        for (int i = 0; i < 19 * 11 * 13; i++) {
            const int y = i / 13 % 11, x = i % 13, top = y / m * m - 1, left = x / m * m - 1;
            const bool reads = top <= 5 && 5 < top + m + 2 && left <= 6 && 6 < left + m + 2;
            const bool depends = abs(y - 5) <= 1 && abs(x - 6) <= 1, finite = isfinite(*f32_at(&c.out, 0, i / 143, y, x));
            ck_assert_msg(finite ? !depends : reads, "%s, y %d x %d", fdm_isa_name(isas[a]), y, x);
        }
        free_case(&c);
    }
}
END_TEST

/* A few hundred KB for each thread, whatever the batch and the size of the maps. */
START_TEST(fixed_workspace) {
    const struct fdm_backend *table = fdm_backend_f32((fdm_conv_mode)_i);
    const size_t one = table->conv2d_scratch(1, 256, 256, 3, 8, 8, 1);
    ck_assert(one > 0 && one < 2 << 20);
    ck_assert(table->conv2d_scratch(64, 256, 256, 3, 64, 64, 1) == one);
    ck_assert(table->conv2d_scratch(8, 256, 256, 3, 32, 32, 4) == 4 * one);
    ck_assert(table->conv2d_scratch(8, INT_MAX, INT_MAX, 3, 32, 32, 1024) == SIZE_MAX ||
              table->conv2d_scratch(8, INT_MAX, INT_MAX, 3, 32, 32, 1024) > (size_t)1 << 36);
    ck_assert(table->conv2d_packed_bytes(INT_MAX, INT_MAX, 3) == SIZE_MAX);
}
END_TEST

/* Floats of every size and sign, many with few significant bits, so that midpoints, subnormal and overflowing sums
 * and exact cancellations occur all the time. */
static float awkward(uint64_t *state) {
    uint32_t bits = (uint32_t)splitmix_next(state);
    int kind = f32_below(state, 8);
    if (kind == 0) bits &= 0xff800000u;                        /* a power of two, inf, zero */
    if (kind <= 3) bits &= 0xffff8000u << f32_below(state, 8); /* few bits */
    if (kind >= 2 && kind <= 6) bits = (bits & 0x807fffffu) | (uint32_t)(127 + f32_below(state, 50) - 25) << 23;
    if (kind == 7) bits = (bits & 0x807fffffu) | (uint32_t)f32_below(state, 90) << 23; /* products near zero */
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Chains of 16 links against fmaf of the C library, which rounds correctly. */
START_TEST(fused_multiply_add) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    int count = f32_isas(isas), subnormal = 0;
    uint64_t state = 5000;
    _Alignas(64) float x[16], weight[256], sum[16];
    const ptrdiff_t zero = 0;
    for (int round = 0; round < 20000; round++) {
        /* every fourth round: products around the smallest floats, so that the whole chain is subnormal */
        for (int i = 0; i < 16; i++) x[i] = round % 4 ? awkward(&state) : 0x1p-60f * f32_value(&state, FILL_RANDOM);
        for (int i = 0; i < 256; i++) {
            weight[i] = round % 4 ? awkward(&state) : 0x1p-76f * f32_value(&state, (enum fill)(round / 4 % 2));
        }
        for (int a = 0; a < count; a++) {
            struct fdm_conv_chain chain = {
                .x = x, .x_pixel = &zero, .x_segment = &zero, .weight = weight, .sum = sum};
            chain.sum_pixel = &zero, chain.segments = chain.pixels = chain.vectors = 1, chain.first = true;
            fdm_conv_kernels_for(isas[a])->chain(&chain);
            for (int l = 0; l < 16; l++) {
                float expected = 0;
                for (int i = 0; i < 16; i++) expected = fmaf(weight[i * 16 + l], x[i], expected);
                bool same = isnan(expected) ? isnan(sum[l]) : !memcmp(&expected, &sum[l], sizeof expected);
                ck_assert_msg(same, "%s: %a, fmaf gives %a (round %d lane %d)", fdm_isa_name(isas[a]),
                              (double)sum[l], (double)expected, round, l);
                subnormal += a == 0 && expected != 0 && fabsf(expected) < FLT_MIN;
            }
        }
    }
    printf("fused multiply-add: 320000 chains, %d subnormal results\n", subnormal);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("conv2d");
    TCase *tcase = tcase_create("f32");
    tcase_set_timeout(tcase, 600);
    tcase_add_loop_test(tcase, random_shapes, 0, FDM_CONV_MODES);
    tcase_add_loop_test(tcase, exact_shapes, 0, FDM_CONV_MODES);
    tcase_add_loop_test(tcase, same_bits, 0, FDM_CONV_MODES);
    tcase_add_loop_test(tcase, same_bits_however_cut, 0, FDM_CONV_MODES);
    tcase_add_test(tcase, nan_stays_inside);
    tcase_add_loop_test(tcase, nan_stays_inside_tiles, FDM_CONV_WINOGRAD2, FDM_CONV_MODES);
    tcase_add_loop_test(tcase, fixed_workspace, FDM_CONV_WINOGRAD2, FDM_CONV_MODES);
    tcase_add_test(tcase, fused_multiply_add);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
