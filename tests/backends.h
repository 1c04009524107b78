/* backends.h - test helper: the backends that this machine can run, and layers called on plain NCHW doubles.
 *
 * Memory from test_alloc and everything below belongs to the test_backend; test_release frees it all and fails
 * the test if a byte behind any block was written.  Failures of the helper itself abort the test.
 */
#ifndef FDM_TEST_BACKENDS_H
#define FDM_TEST_BACKENDS_H

#include <stddef.h>
#include <stdint.h>

#include "nn/backend.h"
#include "simd/kernels.h"

struct test_backend {
    const char *label; /* "reference", "portable", "avx2", "avx512" */
    const struct fdm_backend *table;
    struct fdm_exec exec;
    void **blocks; /* test_alloc's, each followed by a canary */
    size_t *block_bytes, block_count;
};
enum { TEST_MAX_BACKENDS = 4 };

/* Fills list with the reference first, then the f32 backend on every ISA that this machine has, all with that
 * many threads; prints a SKIP line for each that it lacks.  Returns their number. */
int test_backends(struct test_backend list[TEST_MAX_BACKENDS], int threads);
/* The reference alone. */
struct test_backend test_backend_reference(int threads);
/* The f32 backend on one ISA; false, with a SKIP line, if this machine lacks it. */
bool test_backend_f32(struct test_backend *, enum fdm_isa, int threads);
/* Frees and checks all blocks and the scratch; the backend can be used again. */
void test_release(struct test_backend *);

/* 64-byte aligned, filled with 0xA5 (so that what a layer fails to write shows). */
void *test_alloc(struct test_backend *, size_t bytes);
/* Makes exec.scratch at least that large (and fills it with 0xA5). */
void test_reserve(struct test_backend *, size_t bytes);

/* Fresh maps and vectors: unwritten, or with the values given as plain NCHW. */
struct fdm_map test_map(struct test_backend *, int n, int c, int h, int w, int halo);
struct fdm_map test_map_of(struct test_backend *, const double *nchw, int n, int c, int h, int w, int halo);
struct fdm_vec test_vec(struct test_backend *, int n, int c);
struct fdm_vec test_vec_of(struct test_backend *, const double *rows, int n, int c);
/* Their values; n*c*h*w, or n*c. */
double *test_map_values(struct test_backend *, const struct fdm_map *);
double *test_vec_values(struct test_backend *, const struct fdm_vec *);

/* Packed parameters. */
void *test_pack_conv2d(struct test_backend *, const float *weight, const float *bias, int out_channels,
                       int in_channels, int k);
void *test_pack_linear(struct test_backend *, const float *weight, const float *bias, int out_features,
                       int in_features);
void *test_pack_groupnorm(struct test_backend *, const float *weight, const float *bias, int channels);

/* conv2d and attention with the scratch that they ask for. */
void test_conv2d(struct test_backend *, struct fdm_map *out, const struct fdm_map *in,
                 const struct fdm_conv2d_args *);
void test_attention(struct test_backend *, struct fdm_map *out, const struct fdm_map *qkv);

/* Pseudo-random numbers that f32 holds exactly, uniform in [-1, 1): the same for the same seed everywhere. */
double test_uniform(uint64_t *state);
double *test_random(struct test_backend *, size_t count, uint64_t seed);
float *test_random_f32(struct test_backend *, size_t count, uint64_t seed);

#endif
