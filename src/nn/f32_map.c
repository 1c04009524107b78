/* f32_map.c - size of a map of the f32 backends, and its way from and to plain NCHW doubles. */
#include "nn/f32_map.h"

#include <string.h>

#include "nn/f32_layers.h"

enum { LANES = FDM_F32_LANES };

size_t fdm_f32_map_bytes(int n, int c, int h, int w, int halo) {
    size_t bytes = LANES * sizeof(float);
    const size_t blocks = fdm_round_up((size_t)c, LANES) / LANES; /* fdm_f32_blocks overflows for the largest c */
    const bool fits = fdm_mul_size(&bytes, bytes, (size_t)n) && fdm_mul_size(&bytes, bytes, blocks) &&
                      fdm_mul_size(&bytes, bytes, (size_t)h + 2 * (size_t)halo) &&
                      fdm_mul_size(&bytes, bytes, (size_t)w + 2 * (size_t)halo);
    return fits ? bytes : SIZE_MAX; /* more than any allocation gives */
}

/* Pixel (0, 0) of plane p (over samples and channel blocks). */
static float *plane_at(const struct fdm_map *m, int p) {
    return (float *)m->data + p * fdm_f32_plane(m) + fdm_f32_pixel(m, 0, 0, 0);
}

void fdm_f32_map_import(const struct fdm_exec *exec, struct fdm_map *out, const double *nchw) {
    const int blocks = fdm_f32_blocks(out->c), planes = out->n * blocks;
    const ptrdiff_t pixels = (ptrdiff_t)out->h * out->w;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int p = 0; p < planes; p++) {
        const int first = p % blocks * LANES, lanes = fdm_min_int(LANES, out->c - first);
        const double *from = nchw + ((ptrdiff_t)(p / blocks) * out->c + first) * pixels;
        float *to = plane_at(out, p);
        for (int y = 0; y < out->h; y++)
            for (int x = 0; x < out->w; x++)
                for (int i = 0; i < LANES; i++)
                    to[y * fdm_f32_row(out) + (ptrdiff_t)x * LANES + i] =
                        i < lanes ? (float)from[i * pixels + (ptrdiff_t)y * out->w + x] : 0.0f;
        fdm_f32_zero_halo(out, p);
    }
}

void fdm_f32_map_export(const struct fdm_exec *exec, double *nchw, const struct fdm_map *in) {
    const int blocks = fdm_f32_blocks(in->c), planes = in->n * blocks;
    const ptrdiff_t pixels = (ptrdiff_t)in->h * in->w;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int p = 0; p < planes; p++) {
        const int first = p % blocks * LANES, lanes = fdm_min_int(LANES, in->c - first);
        double *to = nchw + ((ptrdiff_t)(p / blocks) * in->c + first) * pixels;
        const float *from = plane_at(in, p);
        for (int i = 0; i < lanes; i++)
            for (int y = 0; y < in->h; y++)
                for (int x = 0; x < in->w; x++)
                    to[i * pixels + (ptrdiff_t)y * in->w + x] =
                        (double)from[y * fdm_f32_row(in) + (ptrdiff_t)x * LANES + i];
    }
}

void fdm_f32_vec_import(struct fdm_vec *out, const double *rows) {
    float *to = out->data;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)out->n * out->c; i++) to[i] = (float)rows[i];
}

void fdm_f32_vec_export(double *rows, const struct fdm_vec *in) {
    const float *from = in->data;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)in->n * in->c; i++) rows[i] = (double)from[i];
}
