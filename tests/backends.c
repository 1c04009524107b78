/* backends.c - see backends.h */
#include "backends.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

enum { CANARY_BYTES = 64, CANARY = 0x5C, FRESH = 0xA5 };

struct test_backend test_backend_reference(int threads) {
    struct test_backend b = {.label = "reference", .table = fdm_backend_reference(), .exec = {.threads = threads}};
    return b;
}

bool test_backend_f32(struct test_backend *b, enum fdm_isa isa, int threads) {
    if (!fdm_isa_available(isa)) {
        printf("SKIP: backend %s: this machine cannot run it\n", fdm_isa_name(isa));
        return false;
    }
    *b = (struct test_backend){.label = fdm_isa_name(isa), .table = fdm_backend_f32(FDM_CONV_DEFAULT)};
    b->exec = (struct fdm_exec){
        .threads = threads, .kernels = fdm_kernels_for(isa), .conv = fdm_conv_kernels_for(isa)};
    return true;
}

static int f32_backends(struct test_backend *list, int threads) {
    int count = 0;
    for (int i = 0; i < FDM_ISA_COUNT; i++) count += test_backend_f32(&list[count], (enum fdm_isa)i, threads);
    return count;
}

int test_backends(struct test_backend list[TEST_MAX_BACKENDS], int threads) {
    list[0] = test_backend_reference(threads);
    return 1 + f32_backends(list + 1, threads);
}

void *test_alloc(struct test_backend *b, size_t bytes) {
    ck_assert_msg(bytes < SIZE_MAX / 2, "%s: absurd size %zu", b->label, bytes);
    unsigned char *p = fdm_malloc_aligned(bytes + CANARY_BYTES);
    b->blocks = realloc(b->blocks, (b->block_count + 1) * sizeof *b->blocks);
    b->block_bytes = realloc(b->block_bytes, (b->block_count + 1) * sizeof *b->block_bytes);
    ck_assert_msg(p && b->blocks && b->block_bytes, "out of memory, %zu bytes", bytes);
    memset(p, FRESH, bytes);
    memset(p + bytes, CANARY, CANARY_BYTES);
    b->blocks[b->block_count] = p;
    b->block_bytes[b->block_count++] = bytes;
    return p;
}

void test_release(struct test_backend *b) {
    for (size_t i = 0; i < b->block_count; i++) {
        const unsigned char *canary = (unsigned char *)b->blocks[i] + b->block_bytes[i];
        for (int j = 0; j < CANARY_BYTES; j++)
            ck_assert_msg(canary[j] == CANARY, "%s: byte %d behind a block of %zu was written", b->label, j,
                          b->block_bytes[i]);
        fdm_free_aligned(b->blocks[i]);
    }
    free(b->blocks);
    free(b->block_bytes);
    b->blocks = NULL;
    b->block_bytes = NULL;
    b->block_count = 0;
    b->exec.scratch = NULL; /* was a block */
    b->exec.scratch_bytes = 0;
}

/* A block of exactly that size each time, so that the canary is where the layer's own claim ends. */
void test_reserve(struct test_backend *b, size_t bytes) {
    b->exec.scratch = test_alloc(b, bytes);
    b->exec.scratch_bytes = bytes;
}

struct fdm_map test_map(struct test_backend *b, int n, int c, int h, int w, int halo) {
    struct fdm_map m = {.n = n, .c = c, .h = h, .w = w, .halo = halo};
    m.data = test_alloc(b, b->table->map_bytes(n, c, h, w, halo));
    return m;
}

struct fdm_map test_map_of(struct test_backend *b, const double *nchw, int n, int c, int h, int w, int halo) {
    struct fdm_map m = test_map(b, n, c, h, w, halo);
    b->table->map_import(&b->exec, &m, nchw);
    return m;
}

struct fdm_vec test_vec(struct test_backend *b, int n, int c) {
    struct fdm_vec v = {.n = n, .c = c};
    v.data = test_alloc(b, (size_t)n * (size_t)c * fdm_dtype_size(b->table->dtype));
    return v;
}

struct fdm_vec test_vec_of(struct test_backend *b, const double *rows, int n, int c) {
    struct fdm_vec v = test_vec(b, n, c);
    b->table->vec_import(&v, rows);
    return v;
}

double *test_map_values(struct test_backend *b, const struct fdm_map *m) {
    double *nchw = test_alloc(b, (size_t)m->n * (size_t)m->c * (size_t)m->h * (size_t)m->w * sizeof *nchw);
    b->table->map_export(&b->exec, nchw, m);
    return nchw;
}

double *test_vec_values(struct test_backend *b, const struct fdm_vec *v) {
    double *rows = test_alloc(b, (size_t)v->n * (size_t)v->c * sizeof *rows);
    b->table->vec_export(rows, v);
    return rows;
}

void *test_pack_conv2d(struct test_backend *b, const float *weight, const float *bias, int out_channels,
                       int in_channels, int k) {
    void *packed = test_alloc(b, b->table->conv2d_packed_bytes(out_channels, in_channels, k));
    b->table->conv2d_pack(&b->exec, packed, weight, bias, out_channels, in_channels, k);
    return packed;
}

void *test_pack_linear(struct test_backend *b, const float *weight, const float *bias, int out_features,
                       int in_features) {
    void *packed = test_alloc(b, b->table->linear_packed_bytes(out_features, in_features));
    b->table->linear_pack(&b->exec, packed, weight, bias, out_features, in_features);
    return packed;
}

void *test_pack_groupnorm(struct test_backend *b, const float *weight, const float *bias, int channels) {
    void *packed = test_alloc(b, b->table->groupnorm_packed_bytes(channels));
    b->table->groupnorm_pack(&b->exec, packed, weight, bias, channels);
    return packed;
}

void test_conv2d(struct test_backend *b, struct fdm_map *out, const struct fdm_map *in,
                 const struct fdm_conv2d_args *args) {
    test_reserve(b, b->table->conv2d_scratch(in->n, in->c, out->c, args->k, out->h, out->w, b->exec.threads));
    b->table->conv2d(&b->exec, out, in, args);
}

void test_attention(struct test_backend *b, struct fdm_map *out, const struct fdm_map *qkv) {
    test_reserve(b, b->table->attention_scratch(out->n, out->c, out->h, out->w, b->exec.threads));
    b->table->attention(&b->exec, out, qkv);
}

/* SplitMix64's output function; the top 24 bits make the number. */
double test_uniform(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return ((double)(z >> 40) - 8388608.0) / 8388608.0;
}

double *test_random(struct test_backend *b, size_t count, uint64_t seed) {
    double *x = test_alloc(b, count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = test_uniform(&seed);
    return x;
}

float *test_random_f32(struct test_backend *b, size_t count, uint64_t seed) {
    float *x = test_alloc(b, count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = (float)test_uniform(&seed);
    return x;
}
