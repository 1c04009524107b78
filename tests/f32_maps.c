/* f32_maps.c - see f32_maps.h.  Addresses are computed here on their own, not with src/nn/f32_map.h. */
#include "f32_maps.h"
#include "splitmix.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

int f32_isas(enum fdm_isa list[FDM_ISA_COUNT]) {
    static bool said;
    int count = 0;
    for (int isa = 0; isa < FDM_ISA_COUNT; isa++) {
        if (fdm_isa_available((enum fdm_isa)isa)) {
            list[count++] = (enum fdm_isa)isa;
        } else if (!said) {
            printf("SKIP: this machine lacks %s\n", fdm_isa_name((enum fdm_isa)isa));
        }
    }
    said = true;
    return count;
}

struct fdm_exec f32_exec(enum fdm_isa isa, int threads) {
    struct fdm_exec exec = {.threads = threads, .kernels = fdm_kernels_for(isa), .conv = fdm_conv_kernels_for(isa)};
    return exec;
}

int f32_below(uint64_t *state, int n) {
    return (int)(splitmix_next(state) % (uint64_t)n);
}

float f32_value(uint64_t *state, enum fill fill) {
    if (fill == FILL_EXACT) return (float)(f32_below(state, 9) - 4);
    return (float)(splitmix_next(state) >> 40) * 0x1p-23f - 0.5f;
}

float *f32_array(uint64_t *state, size_t count, enum fill fill) {
    float *a = fdm_malloc_aligned(count * sizeof *a);
    ck_assert_ptr_nonnull(a);
    for (size_t i = 0; i < count; i++) a[i] = f32_value(state, fill);
    return a;
}

static size_t planes(const struct fdm_map *m) {
    return (size_t)m->n * ((m->c + 15) / 16);
}

size_t f32_map_bytes(const struct fdm_map *m) {
    return planes(m) * (size_t)(m->h + 2 * m->halo) * (size_t)(m->w + 2 * m->halo) * 16 * sizeof(float);
}

struct fdm_map f32_map(int n, int c, int h, int w, int halo) {
    struct fdm_map m = {n, c, h, w, halo, NULL};
    m.data = fdm_malloc_aligned(f32_map_bytes(&m));
    ck_assert_ptr_nonnull(m.data);
    memset(m.data, 0xff, f32_map_bytes(&m));
    return m;
}

float *f32_at(const struct fdm_map *m, int n, int c, int y, int x) {
    size_t index = (size_t)n * ((m->c + 15) / 16) + c / 16;
    index = index * (size_t)(m->h + 2 * m->halo) + (size_t)(y + m->halo);
    index = index * (size_t)(m->w + 2 * m->halo) + (size_t)(x + m->halo);
    return (float *)m->data + index * 16 + c % 16;
}

struct fdm_map f32_map_filled(uint64_t *state, int n, int c, int h, int w, int halo, enum fill fill) {
    struct fdm_map m = f32_map(n, c, h, w, halo);
    memset(m.data, 0, f32_map_bytes(&m));
    for (int i = 0; i < n * c * h * w; i++) {
        *f32_at(&m, i / (c * h * w), i / (h * w) % c, i / w % h, i % w) = f32_value(state, fill);
    }
    return m;
}

void f32_check_zeros(const struct fdm_map *m, const char *what) {
    for (int n = 0; n < m->n; n++) {
        for (int c = 0; c < (m->c + 15) / 16 * 16; c++) {
            for (int y = -m->halo; y < m->h + m->halo; y++) {
                for (int x = -m->halo; x < m->w + m->halo; x++) {
                    bool inside = c < m->c && y >= 0 && y < m->h && x >= 0 && x < m->w;
                    if (inside) continue;
                    if (!(*f32_at(m, n, c, y, x) == 0)) /* ck_assert_msg would note each pass in a file */
                        ck_abort_msg("%s: n %d c %d y %d x %d should be zero", what, n, c, y, x);
                }
            }
        }
    }
}

enum { CANARY = 4096 };

void *f32_scratch(size_t bytes) {
    unsigned char *scratch = fdm_malloc_aligned(bytes + CANARY);
    ck_assert_ptr_nonnull(scratch);
    return memset(scratch, 0xff, bytes + CANARY);
}

void f32_scratch_free(void *scratch, size_t bytes) {
    const unsigned char *canary = (const unsigned char *)scratch + bytes;
    for (int i = 0; i < CANARY; i++)
        if (canary[i] != 0xff) ck_abort_msg("byte %d behind a scratch of %zu bytes was written", i, bytes);
    fdm_free_aligned(scratch);
}

struct fdm_map f32_sample(const struct fdm_map *m, int n) {
    struct fdm_map one = f32_map(1, m->c, m->h, m->w, m->halo);
    size_t bytes = f32_map_bytes(&one);
    memcpy(one.data, (const char *)m->data + n * bytes, bytes);
    return one;
}
