/* elementwise.c - sums and concatenations of maps of the f32 backends, plane by plane, and the way back. */
#include <string.h>

#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "simd/kernel_table.h"

enum { LANES = FDM_F32_LANES };

/* Row y of plane p (over samples and channel blocks), behind the halo. */
static float *row_at(const struct fdm_map *m, ptrdiff_t p, int y) {
    return (float *)m->data + p * fdm_f32_plane(m) + fdm_f32_pixel(m, 0, y, 0);
}

void fdm_f32_add(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b,
                 double scale) {
    const int planes = out->n * fdm_f32_blocks(out->c);
    const size_t row = (size_t)out->w * LANES;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int p = 0; p < planes; p++) {
        for (int y = 0; y < out->h; y++) {
            if (b)
                exec->kernels->add_scale(row_at(out, p, y), row_at(a, p, y), row_at(b, p, y), (float)scale, row);
            else
                exec->kernels->scale(row_at(out, p, y), row_at(a, p, y), (float)scale, row);
        }
        fdm_f32_zero_halo(out, p);
    }
}

void fdm_f32_add_gradients(const struct fdm_exec *exec, void *left, const void *right, size_t count) {
    enum { PIECE = 4096 };
    const ptrdiff_t pieces = (ptrdiff_t)((count + PIECE - 1) / PIECE);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (ptrdiff_t i = 0; i < pieces; i++) {
        float *to = (float *)left + i * PIECE;
        const size_t most = count - (size_t)i * PIECE;
        exec->kernels->add_scale(to, to, (const float *)right + i * PIECE, 1, most < PIECE ? most : PIECE);
    }
}

/* lanes [to, to + count) of out's plane p = lanes [from, from + count) of m's plane q */
static void copy_lanes(const struct fdm_exec *exec, const struct fdm_map *out, ptrdiff_t p, int to,
                       const struct fdm_map *m, ptrdiff_t q, int from, int count) {
    for (int y = 0; y < out->h; y++) {
        if (count == LANES)
            memcpy(row_at(out, p, y), row_at(m, q, y), (size_t)out->w * LANES * sizeof(float));
        else
            exec->kernels->copy_lanes(row_at(out, p, y), row_at(m, q, y), to, from, count, (size_t)out->w);
    }
}

/* The same, added. */
static void add_lanes(const struct fdm_exec *exec, const struct fdm_map *out, ptrdiff_t p, int to,
                      const struct fdm_map *m, ptrdiff_t q, int from, int count) {
    for (int y = 0; y < out->h; y++) {
        float *row = row_at(out, p, y);
        if (count == LANES)
            exec->kernels->add_scale(row, row, row_at(m, q, y), 1.0f, (size_t)out->w * LANES);
        else
            exec->kernels->add_lanes(row, row_at(m, q, y), to, from, count, (size_t)out->w);
    }
}

/* Lanes from `lane` on of out's block `block`, sample n, which hold channels of b: from up to two blocks of b, as
 * a's last block need not be full. */
static void concat_b(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *b, int n, int block,
                     int lane, int a_channels) {
    const ptrdiff_t p = (ptrdiff_t)n * fdm_f32_blocks(out->c) + block;
    const int end = fdm_min_int(LANES, out->c - block * LANES);
    while (lane < end) {
        const int channel = block * LANES + lane - a_channels, from = channel % LANES;
        const int count = fdm_min_int(end - lane, LANES - from);
        copy_lanes(exec, out, p, lane, b, (ptrdiff_t)n * fdm_f32_blocks(b->c) + channel / LANES, from, count);
        lane += count;
    }
}

static void concat_plane(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a,
                         const struct fdm_map *b, int n, int block) {
    const int from_a = fdm_max_int(0, fdm_min_int(LANES, a->c - block * LANES));
    const ptrdiff_t p = (ptrdiff_t)n * fdm_f32_blocks(out->c) + block;
    if (out->c - block * LANES < LANES) /* pad channels */
        for (int y = 0; y < out->h; y++) memset(row_at(out, p, y), 0, (size_t)out->w * LANES * sizeof(float));
    if (from_a > 0) copy_lanes(exec, out, p, 0, a, (ptrdiff_t)n * fdm_f32_blocks(a->c) + block, 0, from_a);
    concat_b(exec, out, b, n, block, from_a, a->c);
    fdm_f32_zero_halo(out, p);
}

void fdm_f32_concat(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a,
                    const struct fdm_map *b) {
    const int blocks = fdm_f32_blocks(out->c), planes = out->n * blocks;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int p = 0; p < planes; p++) concat_plane(exec, out, a, b, p / blocks, p % blocks);
}

/* Target plane `block` of sample n: channels of d_out from `first` + 16 block on, which lie in up to two blocks. */
static void split_plane(const struct fdm_exec *exec, const struct fdm_map_target *target, const struct fdm_map *d_out,
                        int first, int n, int block) {
    const struct fdm_map *to = target->map;
    const ptrdiff_t p = (ptrdiff_t)n * fdm_f32_blocks(to->c) + block;
    const int lanes = fdm_min_int(LANES, to->c - block * LANES);
    if (lanes < LANES && !target->accumulate) /* pad channels */
        for (int y = 0; y < to->h; y++) memset(row_at(to, p, y), 0, (size_t)to->w * LANES * sizeof(float));
    for (int lane = 0, count; lane < lanes; lane += count) {
        const int channel = first + block * LANES + lane, from = channel % LANES;
        const ptrdiff_t q = (ptrdiff_t)n * fdm_f32_blocks(d_out->c) + channel / LANES;
        count = fdm_min_int(lanes - lane, LANES - from);
        if (target->accumulate)
            add_lanes(exec, to, p, lane, d_out, q, from, count);
        else
            copy_lanes(exec, to, p, lane, d_out, q, from, count);
    }
    if (!target->accumulate) fdm_f32_zero_halo(to, p);
}

void fdm_f32_concat_backward(const struct fdm_exec *exec, struct fdm_map_target d_a, struct fdm_map_target d_b,
                             const struct fdm_map *d_out) {
    const struct fdm_map_target targets[] = {d_a, d_b};
    const int a_channels = d_a.map ? d_a.map->c : d_b.map ? d_out->c - d_b.map->c : 0;
    for (int t = 0; t < 2; t++) {
        if (!targets[t].map) continue;
        const int blocks = fdm_f32_blocks(targets[t].map->c), planes = d_out->n * blocks;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
        for (int p = 0; p < planes; p++)
            split_plane(exec, &targets[t], d_out, t == 0 ? 0 : a_channels, p / blocks, p % blocks);
    }
}
