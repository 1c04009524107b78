/* random.h - the random streams of PyTorch, so that a seed here is the published program's seed (SPEC 7).
 *
 *   torch-cpu   MT19937 (Matsumoto and Nishimura 1998), as torch.Generator('cpu').
 *   torch-cuda  Philox4x32-10 (Salmon et al. 2011), as torch.Generator('cuda'); the order of the numbers in
 *               a tensor depends on the launch grid, i.e. on the GPU, once a tensor has more elements than
 *               the GPU has threads.
 *
 * How far each is verified (tests/test_random.c, against goldens made with PyTorch 1.13 on a CPU):
 *   torch-cpu   raw words, uniforms and integers exact; f64 normals 1e-14 relative; f32 normals within 2e-6
 *               (PyTorch's AVX2 sine, cosine and logarithm are approximations, ours are rounded from f64).
 *   torch-cuda  Philox's known answers, exact; the first four f32 normals of seed 0, 5e-6 (the GPU's fast
 *               sine and cosine are no better).  Uniforms, integers and f64 normals follow cuRAND's
 *               documented conversions and PyTorch's launch rule, but no PyTorch GPU stream of them was at
 *               hand: best effort.
 *
 * A generator is a plain value: copy it to fork a stream, nothing to free.  One call draws one tensor: the
 * streams are defined per call, so drawing 32 numbers is not drawing 16 twice.
 *
 *     fdm_rng rng;
 *     float latent[3 * 32 * 32];
 *     fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, 42);
 *     fdm_rng_normal_f32(&rng, latent, 3 * 32 * 32);         // torch.randn([3, 32, 32]) after manual_seed(42)
 */
#ifndef FDM_RANDOM_H
#define FDM_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator, command-line name) */
#define FDM_RNG_KINDS(X)                                                                                           \
    X(FDM_RNG_TORCH_CPU, "torch-cpu")                                                                              \
    X(FDM_RNG_TORCH_CUDA, "torch-cuda")

typedef enum fdm_rng_kind {
#define FDM_RNG_ENUM(e, name) e,
    FDM_RNG_KINDS(FDM_RNG_ENUM)
#undef FDM_RNG_ENUM
        FDM_RNG_KIND_COUNT
} fdm_rng_kind;

/* "torch-cpu", "torch-cuda"; "?" otherwise. */
FDM_API const char *fdm_rng_kind_name(fdm_rng_kind kind);
/* FDM_BAD_USAGE, *kind untouched, for another name. */
FDM_API fdm_status fdm_rng_kind_find(fdm_rng_kind *kind, const char *name, fdm_error *err);

/* ---- The two engines ---- */

typedef struct fdm_mt19937 {
    uint32_t state[624];
    int next; /* index of the next word, 624: the state is used up */
} fdm_mt19937;

/* init_genrand(seed). */
FDM_API void fdm_mt19937_seed(fdm_mt19937 *mt, uint32_t seed);
/* The next tempered 32-bit word. */
FDM_API uint32_t fdm_mt19937_next(fdm_mt19937 *mt);

/* One block of Philox4x32 with 10 rounds: out = philox(counter, key). */
FDM_API void fdm_philox4x32_10(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* ---- PyTorch's generators ---- */

typedef struct fdm_rng {
    fdm_rng_kind kind;
    /* torch-cpu */
    fdm_mt19937 mt;
    bool has_normal; /* the second normal of a pair waits in `normal` (calls with fewer than 16 normals) */
    double normal;
    /* torch-cuda */
    uint64_t seed;      /* Philox key */
    uint64_t offset;    /* in 32-bit words of each thread's stream; a multiple of 4 */
    int sm_count;       /* streaming multiprocessors of the GPU, 108 (A100) after seeding */
    int threads_per_sm; /* resident threads of one, 2048 after seeding */
} fdm_rng;

/* As torch.Generator(device).manual_seed(seed).  MT19937 takes the low 32 bits of the seed, Philox all 64;
 * the samplers reduce their seeds modulo 2^32 first (SPEC 6).  Forgets a cached normal.  For torch-cuda the
 * grid of an A100 is set; overwrite sm_count and threads_per_sm (both > 0) for another GPU: that matters only for
 * tensors of more than sm_count * threads_per_sm elements (221,184 there). */
FDM_API void fdm_rng_seed(fdm_rng *rng, fdm_rng_kind kind, uint64_t seed);

/* Each call fills out[0..n-1] as one PyTorch call on an n-element tensor would; n = 0 draws nothing. */

/* torch.randn(n), f32 or f64.
 * torch-cpu, n >= 16: n uniforms, then for each block of 16 (j < 8) Box-Muller with u1 = 1 - d[j], u2 = d[j+8]:
 *   r = sqrt(-2 ln u1), theta = 2 pi u2, d[j] = r cos theta, d[j+8] = r sin theta; if 16 does not divide n,
 *   the last 16 are drawn and transformed again.  f32 runs in f32 on 24-bit uniforms, f64 on 53-bit ones.
 * torch-cpu, n < 16: pairs in f64 from 53-bit uniforms u1, u2: r = sqrt(-2 ln(1 - u2)), theta = 2 pi u1; r cos
 *   theta now, r sin theta kept in the generator for the next such draw (of either type).
 * torch-cuda: thread i of G = 256 * grid gets 4 f32 (or 2 f64) normals per Philox block; value k of a block
 *   goes to element i + k G. */
FDM_API void fdm_rng_normal_f32(fdm_rng *rng, float *out, size_t n);
FDM_API void fdm_rng_normal_f64(fdm_rng *rng, double *out, size_t n);

/* torch.rand(n) in [0, 1).  torch-cpu: the low 24 bits of a word times 2^-24; f64: low 53 bits of two words,
 * the first one high, times 2^-53.  torch-cuda: word * 2^-32 + 2^-33, where 1 becomes 0. */
FDM_API void fdm_rng_uniform_f32(fdm_rng *rng, float *out, size_t n);
FDM_API void fdm_rng_uniform_f64(fdm_rng *rng, double *out, size_t n);

/* torch.randint(bound, [n]): integers in [0, bound), word mod bound; bound > 0 (0 is taken as 1), and bounds of
 * 2^32 and more take two words, the first one high. */
FDM_API void fdm_rng_randint(fdm_rng *rng, int64_t *out, size_t n, uint64_t bound);

#ifdef __cplusplus
}
#endif
#endif
