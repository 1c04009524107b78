/* f32_map.h - addresses in the activation layout of the f32 backends, nChw16c with a zero halo:
 * [N][ceil(C/16)][H + 2*halo][W + 2*halo][16].  All offsets count floats. */
#ifndef FDM_NN_F32_MAP_H
#define FDM_NN_F32_MAP_H

#include "base/base.h"
#include "nn/backend.h"

enum { FDM_F32_LANES = 16 };

static inline int fdm_f32_blocks(int channels) { return fdm_div_up(channels, FDM_F32_LANES); }
/* one row, one plane (16 channels), one sample */
static inline ptrdiff_t fdm_f32_row(const struct fdm_map *m) { return (ptrdiff_t)(m->w + 2 * m->halo) * FDM_F32_LANES; }
static inline ptrdiff_t fdm_f32_plane(const struct fdm_map *m) { return fdm_f32_row(m) * (m->h + 2 * m->halo); }
static inline ptrdiff_t fdm_f32_sample(const struct fdm_map *m) { return fdm_f32_plane(m) * fdm_f32_blocks(m->c); }
/* channel block 0 of pixel (y, x) of sample n; y and x may point into the halo */
static inline ptrdiff_t fdm_f32_pixel(const struct fdm_map *m, int n, int y, int x) {
    return n * fdm_f32_sample(m) + (y + m->halo) * fdm_f32_row(m) + (ptrdiff_t)(x + m->halo) * FDM_F32_LANES;
}

#endif
