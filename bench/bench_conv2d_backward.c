/* bench_conv2d_backward.c - speed of the convolution's gradients on the layers of the CIFAR-10 DDPM++ network: of
 * the input (packing of the weights included) and of weights and bias.
 *
 *   bench_conv2d_backward [--isa X] [--threads N] [--rounds N] [--n BATCH] [--layer INDEX]
 *
 * A shared machine changes speed from second to second, so every round measures the FMA peak just before the layer,
 * and what counts is the median over the rounds of layer / peak. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "nn/f32_layers.h"
#include "simd/conv.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

struct layer {
    int in_c, out_c, size, k;
};
static const struct layer layers[] = {
    {128, 128, 32, 3}, {256, 256, 32, 3}, {512, 256, 32, 3}, {256, 256, 16, 3}, {512, 256, 16, 3}, {256, 256, 8, 3},
    {512, 512, 8, 3},  {512, 256, 4, 3},  {3, 128, 32, 3},   {256, 3, 32, 3},   {256, 768, 16, 1}, {512, 256, 8, 1},
};
enum { MAX_ROUNDS = 1000 };

/* With one thread its CPU time, which leaves out the slices that a busy machine gives to others. */
static double seconds(int threads) {
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Independent FMA chains, enough to hide the latency; returns floating-point operations. */
#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double fma_loop_avx512(long count) {
    __m512 a[16], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) a[i] = _mm512_set1_ps((float)i);
    for (long n = 0; n < count; n++) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            a[i] = _mm512_fmadd_ps(a[i], x, y);
            __asm__ volatile("" : "+v"(a[i]));
        }
    }
    return (double)count * 16 * 16 * 2;
}
__attribute__((target("avx2,fma"))) static double fma_loop_avx2(long count) {
    __m256 a[12], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) a[i] = _mm256_set1_ps((float)i);
    for (long n = 0; n < count; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) {
            a[i] = _mm256_fmadd_ps(a[i], x, y);
            __asm__ volatile("" : "+x"(a[i]));
        }
    }
    return (double)count * 12 * 8 * 2;
}
#endif

/* Portable has no peak of its own: it is given against one multiply and add per loop step. */
static double fma_loop_portable(long count) {
    volatile float sink;
    float a[16] = {0};
    for (long n = 0; n < count; n++) {
        for (int i = 0; i < 16; i++) a[i] = a[i] * 0.999f + 0.001f;
        __asm__ volatile("" : : "r"(a) : "memory");
    }
    sink = a[0];
    (void)sink;
    return (double)count * 16 * 2;
}

static double fma_loop(enum fdm_isa isa, long count) {
#if defined(__x86_64__)
    if (isa == FDM_ISA_ID_AVX512) return fma_loop_avx512(count);
    if (isa == FDM_ISA_ID_AVX2) return fma_loop_avx2(count);
#endif
    (void)isa;
    return fma_loop_portable(count);
}

/* GFLOP/s of all threads together. */
static double measure_peak(enum fdm_isa isa, int threads) {
    double flops = 0, start = seconds(threads);
#pragma omp parallel num_threads(threads) reduction(+ : flops)
    flops = fma_loop(isa, 400000);
    return flops / (seconds(threads) - start) * 1e-9;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2];
}

static void *fill(size_t bytes, int zero) {
    float *p = fdm_malloc_aligned(bytes);
    if (!p) exit(FDM_NO_RESOURCE);
    for (size_t i = 0; i < bytes / sizeof(float); i++) p[i] = zero ? 0 : (float)(i % 251) * 0.01f - 1.2f;
    return p;
}

/* Repeats the layer until it has run for a few milliseconds; GFLOP/s. */
static double measure_layer(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                            const struct fdm_conv2d_backward_args *args, double flops) {
    double start = seconds(exec->threads), end;
    int runs = 0;
    do {
        fdm_f32_conv2d_backward(exec, d_out, in, args);
        runs++;
        end = seconds(exec->threads);
    } while (end - start < 0.008);
    return flops * runs / (end - start) * 1e-9;
}

enum gradient { INPUT, INPUT_ADDED, WEIGHTS, GRADIENTS };
static const char *const gradient_names[GRADIENTS] = {"d_in", "d_in +=", "d_weight"};

static void bench_layer(const struct fdm_exec *exec, enum fdm_isa isa, const struct layer *l, int n, int rounds) {
    static double ratio[GRADIENTS][MAX_ROUNDS], speed[GRADIENTS][MAX_ROUNDS], peaks[MAX_ROUNDS];
    struct fdm_map in = {n, l->in_c, l->size, l->size, 1, NULL}, d_out = {n, l->out_c, l->size, l->size, 1, NULL};
    struct fdm_map d_in = in;
    const size_t weights = (size_t)l->out_c * l->in_c * l->k * l->k;
    const double flops = 2.0 * (double)weights * n * l->size * l->size;
    const size_t in_bytes = fdm_f32_map_bytes(n, l->in_c, l->size, l->size, 1);
    float *weight = fill(weights * sizeof *weight, 0), *d_weight = fill(weights * sizeof *weight, 0);
    float *d_bias = fill((size_t)l->out_c * sizeof *d_bias, 0);
    struct fdm_exec with_scratch = *exec;
    with_scratch.scratch =
        fill(fdm_f32_conv2d_backward_scratch(n, l->in_c, l->out_c, l->k, l->size, l->size, exec->threads), 1);
    in.data = fill(in_bytes, 0), d_in.data = fill(in_bytes, 1);
    d_out.data = fill(fdm_f32_map_bytes(n, l->out_c, l->size, l->size, 1), 0);
    struct fdm_conv2d_backward_args args[GRADIENTS];
    for (int g = 0; g < GRADIENTS; g++) {
        args[g] = (struct fdm_conv2d_backward_args){.k = l->k, .pad = l->k / 2, .scale = 1, .weight = weight};
        if (g == WEIGHTS) args[g].d_weight = d_weight, args[g].d_bias = d_bias;
        if (g != WEIGHTS) args[g].d_in = (struct fdm_map_target){&d_in, g == INPUT_ADDED};
        fdm_f32_conv2d_backward(&with_scratch, &d_out, &in, &args[g]);
    }
    for (int r = 0; r < rounds; r++) {
        for (int g = 0; g < GRADIENTS; g++) {
            const double before = measure_peak(isa, exec->threads);
            speed[g][r] = measure_layer(&with_scratch, &d_out, &in, &args[g], flops);
            const double after = measure_peak(isa, exec->threads);
            peaks[r] = before > after ? before : after;
            ratio[g][r] = speed[g][r] / peaks[r];
        }
    }
    printf("%dx%d %3d->%3d %2dx%-2d N=%d  peak %5.1f ", l->k, l->k, l->in_c, l->out_c, l->size, l->size, n,
           median(peaks, rounds));
    for (int g = 0; g < GRADIENTS; g++) {
        const double middle = median(ratio[g], rounds); /* sorts */
        printf(" | %s %5.1f GFLOP/s %4.1f %%, best %4.1f", gradient_names[g], median(speed[g], rounds),
               100 * middle, 100 * ratio[g][rounds - 1]);
    }
    printf("\n");
    fdm_free_aligned(weight), fdm_free_aligned(d_weight), fdm_free_aligned(d_bias), fdm_free_aligned(in.data);
    fdm_free_aligned(d_in.data), fdm_free_aligned(d_out.data), fdm_free_aligned(with_scratch.scratch);
}

/* The value of an option, or its default. */
static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++) {
        if (!strcmp(argv[i], name)) return argv[i + 1];
    }
    return otherwise;
}

int main(int argc, char **argv) {
    fdm_error err = {0};
    enum fdm_isa isa;
    int rounds = atoi(option(argc, argv, "--rounds", "25")), n = atoi(option(argc, argv, "--n", "8"));
    int only = atoi(option(argc, argv, "--layer", "-1"));
    struct fdm_exec exec = {.threads = atoi(option(argc, argv, "--threads", "2"))};
    fdm_status status = fdm_isa_choose(option(argc, argv, "--isa", NULL), &isa, &err);
    if (status != FDM_OK) {
        fprintf(stderr, "bench_conv2d_backward: %s\n", err.message);
        return status;
    }
    exec.conv = fdm_conv_kernels_for(isa);
    exec.kernels = fdm_kernels_for(isa);
    rounds = rounds < 1 ? 1 : rounds > MAX_ROUNDS ? MAX_ROUNDS : rounds;
    printf("isa %s, %d threads, %d rounds\n", fdm_isa_name(isa), exec.threads, rounds);
    for (int i = 0; i < (int)FDM_ARRAY_LEN(layers); i++) {
        if (only < 0 || i == only) bench_layer(&exec, isa, &layers[i], n, rounds);
    }
    return 0;
}
