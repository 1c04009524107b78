/* resample.c - depthwise resampling by 2 of the f32 backends (SPEC 3 "Conv2d"; equations in backend.h).
 *
 * A unit of work is an output plane of 16 channels.  This file chooses the input rows and filter rows that meet an
 * output row; the kernel does the same for columns.
 */
#include <string.h>

#include "nn/f32_layers.h"
#include "nn/f32_map.h"
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
