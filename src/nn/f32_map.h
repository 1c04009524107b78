/* f32_map.h - addresses in the activation layout of the f32 backends, nChw16c with a zero halo:
 * [N][ceil(C/16)][H + 2*halo][W + 2*halo][16].  All offsets count floats. */
#ifndef FDM_NN_F32_MAP_H
#define FDM_NN_F32_MAP_H

#include <string.h>

#include "base/base.h"
#include "nn/backend.h"

enum { FDM_F32_LANES = 16 };

static inline int fdm_f32_blocks(int channels) {
    return fdm_div_up(channels, FDM_F32_LANES);
}
/* one row, one plane (16 channels), one sample */
static inline ptrdiff_t fdm_f32_row(const struct fdm_map *m) {
    return (ptrdiff_t)(m->w + 2 * m->halo) * FDM_F32_LANES;
}
static inline ptrdiff_t fdm_f32_plane(const struct fdm_map *m) {
    return fdm_f32_row(m) * (m->h + 2 * m->halo);
}
static inline ptrdiff_t fdm_f32_sample(const struct fdm_map *m) {
    return fdm_f32_plane(m) * fdm_f32_blocks(m->c);
}
/* channel block 0 of pixel (y, x) of sample n; y and x may point into the halo */
static inline ptrdiff_t fdm_f32_pixel(const struct fdm_map *m, int n, int y, int x) {
    return n * fdm_f32_sample(m) + (y + m->halo) * fdm_f32_row(m) + (ptrdiff_t)(x + m->halo) * FDM_F32_LANES;
}

/* Zeroes the border around plane `index` (over samples and channel blocks). */
static inline void fdm_f32_zero_halo(const struct fdm_map *m, ptrdiff_t index) {
    float *plane = (float *)m->data + index * fdm_f32_plane(m);
    const ptrdiff_t row = fdm_f32_row(m), side = (ptrdiff_t)m->halo * FDM_F32_LANES;
    const size_t rows = (size_t)(m->halo * row) * sizeof(float);
    if (m->halo == 0) return;
    memset(plane, 0, rows);
    memset(plane + (m->h + m->halo) * row, 0, rows);
    for (int y = 0; y < m->h; y++) {
        float *line = plane + (y + m->halo) * row;
        memset(line, 0, (size_t)side * sizeof(float));
        memset(line + row - side, 0, (size_t)side * sizeof(float));
    }
}

#endif
