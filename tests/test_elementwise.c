/* test_elementwise.c - maps to and from plain doubles, sums, concatenations and embeddings of the f32 backends: all
 * of them exact or rounded once, so compared to the bit; halo and pad channels zero; the same on every instruction
 * set and any number of threads. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "suite.h"
#include "nn/f32_layers.h"

static const int channels[] = {1, 3, 13, 16, 17, 20, 32, 40, 48};
enum { CHANNELS = sizeof channels / sizeof channels[0] };

/* Calls check(exec) for every instruction set and 1, 2, 4 threads. */
static void on_every_exec(void (*check)(const struct fdm_exec *exec)) {
    enum fdm_isa list[FDM_ISA_COUNT];
    const int count = f32_isas(list);
    for (int i = 0; i < count; i++)
        for (int threads = 1; threads <= 4; threads *= 2) {
            const struct fdm_exec exec = f32_exec(list[i], threads);
            check(&exec);
        }
}

static size_t elements(const struct fdm_map *m) {
    return (size_t)m->n * (size_t)m->c * (size_t)m->h * (size_t)m->w;
}

static float get(const struct fdm_map *m, size_t i) {
    const size_t w = (size_t)m->w, h = (size_t)m->h, c = (size_t)m->c;
    return *f32_at(m, (int)(i / w / h / c), (int)(i / w / h % c), (int)(i / w % h), (int)(i % w));
}

/* ---- import, export
 * ----------------------------------------------------------------------------------------------- */

static void check_import_export(const struct fdm_exec *exec) {
    uint64_t state = 1;
    for (int i = 0; i < 3 * CHANNELS; i++) {
        struct fdm_map m = f32_map(2, channels[i / 3], 3, 5, i % 3);
        ck_assert_uint_eq(f32_map_bytes(&m), fdm_f32_map_bytes(2, channels[i / 3], 3, 5, i % 3));
        const size_t count = elements(&m);
        double *in = malloc(count * sizeof *in), *out = malloc(count * sizeof *out);
        ck_assert(in && out);
        for (size_t j = 0; j < count; j++) in[j] = (double)f32_value(&state, FILL_RANDOM) / 3; /* not a float */
        fdm_f32_map_import(exec, &m, in);
        f32_check_zeros(&m, "import");
        fdm_f32_map_export(exec, out, &m);
        for (size_t j = 0; j < count; j++)
            if (get(&m, j) != (float)in[j] || out[j] != (double)(float)in[j]) ck_abort_msg("element %zu", j);
        free(in), free(out);
        fdm_free_aligned(m.data);
    }
}

START_TEST(import_export) {
    on_every_exec(check_import_export);
}
END_TEST

START_TEST(absurd_sizes) {
    ck_assert_uint_eq(fdm_f32_map_bytes(2000000000, 2000000000, 2000000000, 2000000000, 1), SIZE_MAX);
    ck_assert_uint_eq(fdm_f32_map_bytes(1, 2147483647, 1, 1, 0), (size_t)134217728 * 64);
}
END_TEST

START_TEST(vectors) {
    const double in[6] = {1, 0.1, -2, 1e-50, 1e300, 0.3};
    float rows[6];
    double out[6];
    struct fdm_vec v = {2, 3, rows};
    fdm_f32_vec_import(&v, in);
    fdm_f32_vec_export(out, &v);
    for (int i = 0; i < 6; i++) ck_assert(rows[i] == (float)in[i] && out[i] == (double)rows[i]);
}
END_TEST

/* ---- add
 * ------------------------------------------------------------------------------------------------------------ */

static void check_add(const struct fdm_exec *exec) {
    uint64_t state = 2;
    for (int i = 0; i < 2 * CHANNELS; i++) {
        const int c = channels[i / 2];
        struct fdm_map a = f32_map_filled(&state, 2, c, 4, 3, 1, FILL_RANDOM), out = f32_map(2, c, 4, 3, 2);
        struct fdm_map b = f32_map_filled(&state, 2, c, 4, 3, 0, FILL_RANDOM);
        const double scale = sqrt(0.5);
        fdm_f32_add(exec, &out, &a, i % 2 ? &b : NULL, scale);
        f32_check_zeros(&out, "add");
        for (size_t j = 0; j < elements(&out); j++) {
            const float sum = i % 2 ? get(&a, j) + get(&b, j) : get(&a, j); /* two roundings, never an FMA */
            if (get(&out, j) != sum * (float)scale) ck_abort_msg("c %d element %zu", c, j);
        }
        fdm_free_aligned(a.data), fdm_free_aligned(b.data), fdm_free_aligned(out.data);
    }
}

START_TEST(add) {
    on_every_exec(check_add);
}
END_TEST

/* ---- concat
 * --------------------------------------------------------------------------------------------------------- */

static void check_concat_of(const struct fdm_exec *exec, int ca, int cb, uint64_t *state) {
    struct fdm_map a = f32_map_filled(state, 2, ca, 2, 3, 1, FILL_RANDOM), out = f32_map(2, ca + cb, 2, 3, 1);
    struct fdm_map b = f32_map_filled(state, 2, cb, 2, 3, 0, FILL_RANDOM);
    fdm_f32_concat(exec, &out, &a, &b);
    f32_check_zeros(&out, "concat");
    for (int i = 0; i < 2 * (ca + cb) * 6; i++) {
        const int x = i % 3, y = i / 3 % 2, c = i / 6 % (ca + cb), n = i / 6 / (ca + cb);
        const float want = c < ca ? *f32_at(&a, n, c, y, x) : *f32_at(&b, n, c - ca, y, x);
        if (*f32_at(&out, n, c, y, x) != want)
            ck_abort_msg("%d + %d channels: n %d c %d y %d x %d", ca, cb, n, c, y, x);
    }
    fdm_free_aligned(a.data), fdm_free_aligned(b.data), fdm_free_aligned(out.data);
}

static void check_concat(const struct fdm_exec *exec) {
    uint64_t state = 3;
    for (int i = 0; i < CHANNELS * CHANNELS; i++)
        check_concat_of(exec, channels[i / CHANNELS], channels[i % CHANNELS], &state);
}

START_TEST(concat) {
    on_every_exec(check_concat);
}
END_TEST

/* ---- embedding
 * ------------------------------------------------------------------------------------------------------ */

/* Angles rounded to f32, then cosine and sine to 1.5 ULP (simd/vmath.h), at most 1.5 * 2^-24 for values below 1. */
static void check_embedding(const struct fdm_exec *exec) {
    enum { N = 3, MAX_HALF = 20 };
    static const double c_noise[N] = {0.0, 998.25, -99999.0};
    for (int half = 2; half <= MAX_HALF; half++) {
        float freqs[MAX_HALF], out[N * 2 * MAX_HALF], swapped[N * 2 * MAX_HALF + 1];
        struct fdm_vec v = {N, 2 * half, out}, s = {N, 2 * half, swapped};
        ck_assert_uint_eq(fdm_f32_freqs_packed_bytes(half), (size_t)half * sizeof(float));
        fdm_f32_freqs_pack(freqs, NULL, half);
        ck_assert(freqs[0] == 1.0f && freqs[half - 1] == 0.0001f);
        fdm_f32_noise_embedding(exec, &v, c_noise, freqs);
        swapped[N * 2 * half] = 7;
        fdm_f32_swap_halves(exec, &s, &v);
        ck_assert(swapped[N * 2 * half] == 7);
        for (int i = 0; i < N * 2 * half; i++) {
            const int j = i % (2 * half), other = i - j + (j + half) % (2 * half);
            const float angle = (float)c_noise[i / half / 2] * freqs[j % half];
            const double want = j < half ? cos((double)angle) : sin((double)angle);
            if (!(fabs((double)out[i] - want) <= 1.5 * 0x1p-24)) ck_abort_msg("half %d element %d", half, i);
            if (swapped[other] != out[i]) ck_abort_msg("half %d element %d swapped", half, i);
        }
    }
}

START_TEST(embedding) {
    on_every_exec(check_embedding);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("elementwise");
    TCase *tcase = tcase_create("elementwise");
    tcase_set_timeout(tcase, 300); /* not about speed: sanitizer builds on a loaded machine */
    tcase_add_test(tcase, import_export);
    tcase_add_test(tcase, absurd_sizes);
    tcase_add_test(tcase, vectors);
    tcase_add_test(tcase, add);
    tcase_add_test(tcase, concat);
    tcase_add_test(tcase, embedding);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
