/* torch_cpu.c - tensors from MT19937 as PyTorch's CPU generator makes them (SPEC 7). */
#include "random/internal.h"

#include <math.h>

enum { BLOCK = 16, HALF = BLOCK / 2 };

static uint64_t next_u64(fdm_rng *rng) {
    uint64_t high = fdm_mt19937_next(&rng->mt);
    return high << 32 | fdm_mt19937_next(&rng->mt);
}

static float uniform24(fdm_rng *rng) {
    return (float)(fdm_mt19937_next(&rng->mt) & 0xffffffu) * 0x1p-24f;
}

static double uniform53(fdm_rng *rng) {
    return (double)(next_u64(rng) & 0x1fffffffffffffu) * 0x1p-53;
}

void fdm_torch_cpu_uniform_f32(fdm_rng *rng, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = uniform24(rng);
}

void fdm_torch_cpu_uniform_f64(fdm_rng *rng, double *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = uniform53(rng);
}

void fdm_torch_cpu_randint(fdm_rng *rng, int64_t *out, size_t n, uint64_t bound) {
    for (size_t i = 0; i < n; i++) {
        uint64_t word = bound >= (uint64_t)1 << 32 ? next_u64(rng) : fdm_mt19937_next(&rng->mt);
        out[i] = (int64_t)(word % bound);
    }
}

/* One normal of the pairwise path (fewer than 16 elements). */
static double paired_normal(fdm_rng *rng) {
    if (rng->has_normal) {
        rng->has_normal = false;
        return rng->normal;
    }
    double u1 = uniform53(rng), u2 = uniform53(rng);
    double r = sqrt(-2 * log1p(-u2)), theta = FDM_TWO_PI * u1;
    rng->normal = r * sin(theta);
    rng->has_normal = true;
    return r * cos(theta);
}

/* Box-Muller in place on 16 uniforms, every step rounded to f32 as PyTorch's; the elementary functions are
 * evaluated in f64 and rounded, which is the nearest one can be to its several approximations of them. */
static void box_muller_f32(float d[BLOCK]) {
    for (int j = 0; j < HALF; j++) {
        float u1 = 1.0f - d[j];
        float r = sqrtf(-2.0f * (float)log((double)u1));
        float theta = (float)FDM_TWO_PI * d[j + HALF];
        d[j] = r * (float)cos((double)theta);
        d[j + HALF] = r * (float)sin((double)theta);
    }
}

static void box_muller_f64(double d[BLOCK]) {
    for (int j = 0; j < HALF; j++) {
        double r = sqrt(-2 * log(1 - d[j]));
        double theta = FDM_TWO_PI * d[j + HALF];
        d[j] = r * cos(theta);
        d[j + HALF] = r * sin(theta);
    }
}

void fdm_torch_cpu_normal_f32(fdm_rng *rng, float *out, size_t n) {
    if (n < BLOCK) {
        for (size_t i = 0; i < n; i++) out[i] = (float)paired_normal(rng);
        return;
    }
    fdm_torch_cpu_uniform_f32(rng, out, n);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK) box_muller_f32(out + i);
    if (n % BLOCK == 0) return;
    fdm_torch_cpu_uniform_f32(rng, out + n - BLOCK, BLOCK); /* the tail overwrites finished normals, as published */
    box_muller_f32(out + n - BLOCK);
}

void fdm_torch_cpu_normal_f64(fdm_rng *rng, double *out, size_t n) {
    if (n < BLOCK) {
        for (size_t i = 0; i < n; i++) out[i] = paired_normal(rng);
        return;
    }
    fdm_torch_cpu_uniform_f64(rng, out, n);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK) box_muller_f64(out + i);
    if (n % BLOCK == 0) return;
    fdm_torch_cpu_uniform_f64(rng, out + n - BLOCK, BLOCK);
    box_muller_f64(out + n - BLOCK);
}
