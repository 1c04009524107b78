/* resample.c - depthwise resampling by 2 of the f32 backends (SPEC 3 "Conv2d"; equations in backend.h).
 *
 * A unit of work is an output plane of 16 channels.  This file chooses the input rows and filter rows that meet an
 * output row; the kernel does the same for columns.
 *
 * Backward: the adjoint of resampling down with F is up with F (where the forward pass uses 4F), that of up with 4F is
 * down with 4F, with the same padding; the kernel is the forward one.  Input rows and columns that no output saw (the
 * last ones, where in + 2 pad - len is odd) get zeros by themselves.
 */
#include <string.h>

#include "base/threads.h"
#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "nn/f32_tree.h"
#include "simd/kernel_table.h"

enum { LANES = FDM_F32_LANES };

/* Fills the row-dependent fields of *r for output row y: filter rows i = first, first + step, ... < end, which are
 * exactly those whose input row iy lies within the input. */
static void choose_rows(struct fdm_resample_row *r, const float *filter, const float *plane, ptrdiff_t in_row,
                        int in_h, int y) {
    int first, end, step, iy;
    if (r->up) { /* iy = (y + pad - i)/2, descending */
        const int top = y + r->pad;
        first = fdm_max_int(top & 1, top - 2 * (in_h - 1));
        end = fdm_min_int(r->len, top + 1);
        step = 2;
        iy = (top - first) / 2;
        r->in_row = -in_row;
    } else { /* iy = 2y + i - pad, ascending */
        first = fdm_max_int(0, r->pad - 2 * y);
        end = fdm_min_int(r->len, in_h + r->pad - 2 * y);
        step = 1;
        iy = 2 * y + first - r->pad;
        r->in_row = in_row;
    }
    r->rows = end > first ? fdm_div_up(end - first, step) : 0;
    r->in = r->rows ? plane + iy * in_row : plane;
    r->filter = filter + (r->rows ? first * r->len : 0);
    r->filter_row = (ptrdiff_t)step * r->len;
}

static float *row_of(const struct fdm_map *m, int n, int block, int y) {
    return (float *)m->data + fdm_f32_pixel(m, n, y, 0) + block * fdm_f32_plane(m);
}

static void resample_plane(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                           const struct fdm_resample_args *args, const float *filter, int n, int block) {
    const struct fdm_epilogue *e = &args->epilogue;
    float bias[LANES] = {0};
    struct fdm_resample_row r = {.w = out->w, .in_w = in->w, .pad = args->pad, .len = args->len, .up = args->up};
    r.scale = (float)e->scale;
    if (args->bias) {
        memcpy(bias, args->bias + block * LANES, (size_t)fdm_min_int(LANES, in->c - block * LANES) * sizeof *bias);
        r.bias = bias;
    }
    for (int y = 0; y < out->h; y++) {
        choose_rows(&r, filter, row_of(in, n, block, 0), fdm_f32_row(in), in->h, y);
        r.out = row_of(out, n, block, y);
        r.raw = e->raw ? row_of(e->raw, n, block, y) : NULL;
        r.residual = e->residual ? row_of(e->residual, n, block, y) : NULL;
        exec->kernels->resample_row(&r);
    }
}

void fdm_f32_resample(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                      const struct fdm_resample_args *args) {
    float filter[FDM_MAX_FILTER * FDM_MAX_FILTER];
    for (int i = 0; i < args->len * args->len; i++)
        filter[i] = args->filter[i] * (args->up ? 4.0f : 1.0f); /* exact */
    const int blocks = fdm_f32_blocks(in->c), planes = in->n * blocks;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int p = 0; p < planes; p++) {
        resample_plane(exec, out, in, args, filter, p / blocks, p % blocks);
        fdm_f32_zero_halo(out, p);
        if (args->epilogue.raw) fdm_f32_zero_halo(args->epilogue.raw, p);
    }
}

/* ---- Backward --------------------------------------------------------------------------------------------- */

/* Most pixels in a row of d_in, for a row of w in d_out and pad <= len; for d_residual w. */
static size_t widest_row(int w) {
    return 2 * (size_t)w + FDM_MAX_FILTER;
}

/* Each sample's d_bias, channels padded to whole blocks; a row per thread. */
size_t fdm_f32_resample_backward_scratch(int n, int c, int h, int w, int threads) {
    (void)h;
    size_t sums = fdm_round_up((size_t)c, LANES) * sizeof(float), rows = LANES * sizeof(float);
    const bool fits = fdm_mul_size(&sums, sums, (size_t)n) && fdm_mul_size(&rows, rows, widest_row(w)) &&
                      fdm_mul_size(&rows, rows, (size_t)threads);
    return fits ? fdm_add_saturated(sums, rows) : SIZE_MAX;
}

/* The operands of one plane. */
struct backward {
    const struct fdm_exec *exec;
    const struct fdm_map *d_out;
    const struct fdm_resample_backward_args *args;
    const float *filter;
    float *sums; /* (N, padded channels) */
    float *row;  /* this thread's */
};

/* target (+)= the adjoint of d_out times scale; an accumulated row is made beside it first. */
static void adjoint_plane(const struct backward *k, int n, int block) {
    const struct fdm_resample_backward_args *args = k->args;
    const struct fdm_map *d_out = k->d_out, *d_in = args->d_in.map;
    struct fdm_resample_row r = {.w = d_in->w, .in_w = d_out->w, .pad = args->pad, .len = args->len};
    r.up = !args->up;
    r.scale = (float)args->scale;
    for (int y = 0; y < d_in->h; y++) {
        float *to = row_of(d_in, n, block, y);
        choose_rows(&r, k->filter, row_of(d_out, n, block, 0), fdm_f32_row(d_out), d_out->h, y);
        r.out = args->d_in.accumulate ? k->row : to;
        k->exec->kernels->resample_row(&r);
        if (args->d_in.accumulate)
            k->exec->kernels->add_scale(to, to, k->row, 1.0f, (size_t)d_in->w * LANES);
    }
}

/* target (+)= scale d_out */
static void residual_plane(const struct backward *k, int n, int block) {
    const struct fdm_map_target *target = &k->args->d_residual;
    const size_t length = (size_t)k->d_out->w * LANES;
    for (int y = 0; y < k->d_out->h; y++) {
        float *to = row_of(target->map, n, block, y), *row = target->accumulate ? k->row : to;
        k->exec->kernels->scale(row, row_of(k->d_out, n, block, y), (float)k->args->scale, length);
        if (target->accumulate) k->exec->kernels->add_scale(to, to, row, 1.0f, length);
    }
}

/* Sums over the pixels of a plane, times scale, into the sample's row. */
static void bias_plane(const struct backward *k, int plane) {
    const struct fdm_map *d_out = k->d_out;
    const int blocks = fdm_f32_blocks(d_out->c);
    struct fdm_gn_sum s = {.shift = {0}, .shift_low = {0}};
    const struct fdm_const_plane x = {row_of(d_out, plane / blocks, plane % blocks, 0), fdm_f32_row(d_out)};
    k->exec->kernels->gn_sum(&s, x, d_out->h, d_out->w);
    for (int i = 0; i < LANES; i++) {
        const double sum = (double)s.hi[i] + (double)s.lo[i];
        k->sums[(ptrdiff_t)plane * LANES + i] = (float)(sum * (double)(float)k->args->scale);
    }
}

void fdm_f32_resample_backward(const struct fdm_exec *exec, const struct fdm_map *d_out,
                               const struct fdm_resample_backward_args *args) {
    float filter[FDM_MAX_FILTER * FDM_MAX_FILTER];
    for (int i = 0; i < args->len * args->len; i++)
        filter[i] = args->filter[i] * (args->up ? 4.0f : 1.0f); /* exact */
    const int blocks = fdm_f32_blocks(d_out->c), planes = d_out->n * blocks;
    float *sums = exec->scratch, *rows = sums + (ptrdiff_t)planes * LANES;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int p = 0; p < planes; p++) {
        struct backward k = {exec, d_out, args, filter, sums, rows};
        k.row += (size_t)fdm_thread_index() * widest_row(d_out->w) * LANES;
        if (args->d_in.map) adjoint_plane(&k, p / blocks, p % blocks);
        if (args->d_residual.map) residual_plane(&k, p / blocks, p % blocks);
        if (args->d_in.map && !args->d_in.accumulate) fdm_f32_zero_halo(args->d_in.map, p);
        if (args->d_residual.map && !args->d_residual.accumulate) fdm_f32_zero_halo(args->d_residual.map, p);
        if (args->d_bias) bias_plane(&k, p);
    }
    if (!args->d_bias) return;
    fdm_f32_sum_samples(exec, sums, d_out->n, (size_t)blocks * LANES);
    memcpy(args->d_bias, sums, (size_t)d_out->c * sizeof(float));
}
