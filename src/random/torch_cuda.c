/* torch_cuda.c - tensors from Philox4x32-10 as PyTorch's CUDA generator makes them (SPEC 7).
 *
 * A launch has `grid` blocks of 256 threads, T = 256 grid in all.  Thread i owns the Philox stream with
 * counter {offset/4 + round, i}; each round yields one block of four words, made into `per_block` values, value k
 * of round q going to element i + (q per_block + k) T.  After the call the generator's offset moves on by
 * four words for each round. */
#include "random/internal.h"

#include <math.h>
#include <string.h>

#include "base/philox.h"

enum { BLOCK_THREADS = 256 };

typedef struct launch {
    uint64_t seed, first_block; /* first_block: offset / 4 at the start of the call */
    size_t threads, rounds;
} launch;

static launch begin_launch(fdm_rng *rng, size_t n, size_t per_block) {
    size_t blocks_per_sm = rng->threads_per_sm >= BLOCK_THREADS ? (size_t)rng->threads_per_sm / BLOCK_THREADS : 1;
    size_t most = (rng->sm_count > 0 ? (size_t)rng->sm_count : 1) * blocks_per_sm;
    size_t grid = n / BLOCK_THREADS + (n % BLOCK_THREADS != 0);
    if (grid > most) grid = most;
    launch l = {rng->seed, rng->offset / 4, grid * BLOCK_THREADS, 0};
    if (n > 0) l.rounds = (n - 1) / (l.threads * per_block) + 1;
    rng->offset += 4 * (uint64_t)l.rounds;
    return l;
}

static void philox_words(uint32_t words[4], const launch *l, size_t thread, size_t round) {
    uint64_t block = l->first_block + round;
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)thread,
                                 (uint32_t)((uint64_t)thread >> 32)};
    const uint32_t key[2] = {(uint32_t)l->seed, (uint32_t)(l->seed >> 32)};
    fdm_philox_block(words, counter, key);
}

/* Turns four words into the values of one round of one thread; `bound` is randint's. */
typedef void make_values(void *values, const uint32_t words[4], uint64_t bound);

/* The launch described at the top; `size` is the bytes per element of out. */
static void fill(fdm_rng *rng, void *out, size_t n, size_t per_block, size_t size, make_values *make,
                 uint64_t bound) {
    launch l = begin_launch(rng, n, per_block);
    for (size_t round = 0; round < l.rounds; round++) {
        size_t base = round * per_block * l.threads;
        for (size_t thread = 0; thread < l.threads && base + thread < n; thread++) {
            uint32_t words[4];
            union {
                unsigned char bytes[4 * sizeof(uint64_t)];
                double align;
            } values;
            philox_words(words, &l, thread, round);
            make(values.bytes, words, bound);
            for (size_t k = 0; k < per_block; k++) {
                size_t element = base + thread + k * l.threads;
                if (element < n) memcpy((char *)out + element * size, values.bytes + k * size, size);
            }
        }
    }
}

/* u in (0, 1] as cuRAND: never 0, so that ln u exists. */
static float unit_f32(uint32_t x) {
    return (float)x * 0x1p-32f + 0x1p-33f;
}

static double unit_f64(uint32_t low, uint32_t high) {
    uint64_t bits = (uint64_t)low ^ (uint64_t)high << 21;
    return (double)bits * 0x1p-53 + 0x1p-54;
}

static void normals_f64(void *values, const uint32_t words[4], uint64_t unused) {
    (void)unused;
    double *out = values;
    double r = sqrt(-2 * log(unit_f64(words[0], words[1])));
    double v = FDM_TWO_PI * unit_f64(words[2], words[3]);
    out[0] = r * sin(v);
    out[1] = r * cos(v);
}

static void uniforms_f32(void *values, const uint32_t words[4], uint64_t unused) {
    (void)unused;
    for (int k = 0; k < 4; k++) {
        float u = unit_f32(words[k]);
        ((float *)values)[k] = u == 1.0f ? 0.0f : u; /* (0, 1] to [0, 1) */
    }
}

static void uniforms_f64(void *values, const uint32_t words[4], uint64_t unused) {
    (void)unused;
    for (int k = 0; k < 2; k++) {
        double u = unit_f64(words[2 * k], words[2 * k + 1]);
        ((double *)values)[k] = u == 1.0 ? 0.0 : u;
    }
}

static void integers_32(void *values, const uint32_t words[4], uint64_t bound) {
    for (int k = 0; k < 4; k++) ((int64_t *)values)[k] = (int64_t)(words[k] % bound);
}

static void integers_64(void *values, const uint32_t words[4], uint64_t bound) {
    for (int k = 0; k < 2; k++) {
        uint64_t word = (uint64_t)words[2 * k] << 32 | words[2 * k + 1];
        ((int64_t *)values)[k] = (int64_t)(word % bound);
    }
}

/* One of the two normals of a pair of words: sine first. */
static float box_muller_f32(uint32_t x, uint32_t y, bool second) {
    const float scale = (float)(FDM_TWO_PI * 0x1p-32), shift = (float)(FDM_TWO_PI * 0x1p-33);
    float r = sqrtf(-2.0f * (float)log((double)unit_f32(x)));
    double v = fmaf((float)y, scale, shift);
    return r * (float)(second ? cos(v) : sin(v));
}

enum { LANES = 64 };

/* philox_words of LANES threads from `thread` on, side by side so that the compiler vectorises them. */
static void philox_lanes(uint32_t words[4][LANES], const launch *l, size_t thread, size_t round) {
    uint32_t *c0 = words[0], *c1 = words[1], *c2 = words[2], *c3 = words[3];
    uint32_t k0 = (uint32_t)l->seed, k1 = (uint32_t)(l->seed >> 32);
    for (size_t i = 0; i < LANES; i++) {
        c0[i] = (uint32_t)(l->first_block + round);
        c1[i] = (uint32_t)((l->first_block + round) >> 32);
        c2[i] = (uint32_t)(thread + i);
        c3[i] = (uint32_t)((uint64_t)(thread + i) >> 32);
    }
    for (int step = 0; step < 10; step++) {
#pragma omp simd
        for (size_t i = 0; i < LANES; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = (uint32_t)p1;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* A launch as in fill, many threads side by side, and only those of a round's four values that the tensor takes (one,
 * for up to 221,184 elements): training spends its random numbers here.  Into `narrow` or, widened, into `wide`. */
static void fill_normals_f32(fdm_rng *rng, float *narrow, double *wide, size_t n) {
    launch l = begin_launch(rng, n, 4);
    uint32_t words[4][LANES];
    for (size_t round = 0; round < l.rounds; round++) {
        size_t base = round * 4 * l.threads;
        for (size_t first = 0; first < l.threads && base + first < n; first += LANES) { /* threads: a multiple of 256 */
            philox_lanes(words, &l, first, round);
            for (size_t k = 0; k < 4; k++) {
                size_t element = base + k * l.threads + first;
                for (size_t i = 0; i < LANES && element < n; i++, element++) {
                    float value = box_muller_f32(words[k & 2][i], words[(k & 2) + 1][i], k & 1);
                    if (narrow)
                        narrow[element] = value;
                    else
                        wide[element] = value;
                }
            }
        }
    }
}

void fdm_torch_cuda_normal_f32(fdm_rng *rng, float *out, size_t n) {
    fill_normals_f32(rng, out, NULL, n);
}

void fdm_torch_cuda_normal_f32_wide(fdm_rng *rng, double *out, size_t n) {
    fill_normals_f32(rng, NULL, out, n);
}

void fdm_torch_cuda_normal_f64(fdm_rng *rng, double *out, size_t n) {
    fill(rng, out, n, 2, sizeof *out, normals_f64, 0);
}

void fdm_torch_cuda_uniform_f32(fdm_rng *rng, float *out, size_t n) {
    fill(rng, out, n, 4, sizeof *out, uniforms_f32, 0);
}

void fdm_torch_cuda_uniform_f64(fdm_rng *rng, double *out, size_t n) {
    fill(rng, out, n, 2, sizeof *out, uniforms_f64, 0);
}

void fdm_torch_cuda_randint(fdm_rng *rng, int64_t *out, size_t n, uint64_t bound) {
    bool wide = bound >= (uint64_t)1 << 32;
    fill(rng, out, n, wide ? 2 : 4, sizeof *out, wide ? integers_64 : integers_32, bound);
}
