/* conv_impl.h - what the three builds of the micro-kernel share: everything but the hot loop.
 *
 * The including file defines FDM_CONV_TILE (pixels in a register tile) and passes its hot loops to
 * conv_run_strip.  Plain C: additions and multiplications round alike however the compiler vectorises them. */
#ifndef FDM_SIMD_CONV_IMPL_H
#define FDM_SIMD_CONV_IMPL_H

#include "simd/conv.h"

/* Full unrolling keeps accumulator arrays in registers; gcc and clang spell it differently. */
#if defined(__clang__)
#define FDM_UNROLL _Pragma("unroll")
#else
#define FDM_UNROLL _Pragma("GCC unroll 16")
#endif
#define FDM_INLINE static inline __attribute__((always_inline))

/* Makes the compiler forget how a pointer was computed, so that it keeps the tile's pointers in registers and
 * reaches the 16 inputs of a segment with constant displacements, instead of hoisting 16 x 8 sums into memory. */
#define FDM_OPAQUE(pointer) __asm__("" : "+r"(pointer))

enum { CONV_L = FDM_CONV_LANES };

/* Computes the chains of one tile into acc[FDM_CONV_TILE][vectors][16]; pixel has FDM_CONV_TILE entries. */
typedef void conv_tile_fn(float *acc, const float *x, const ptrdiff_t *pixel, const struct fdm_conv_chain *c);

/* The epilogue of one vector of one pixel; value is its sum. */
static inline void conv_finish(float *restrict value, const struct fdm_conv_finish *f, int pixel, int vector,
                               int vectors) {
    if (f->bias) {
        for (int l = 0; l < CONV_L; l++) value[l] += f->bias[vector * CONV_L + l];
    }
    if (vector == vectors - 1) {
        for (int l = f->lanes; l < CONV_L; l++) value[l] = 0;
    }
    if (f->raw) {
        float *raw = f->raw + f->raw_pixel[pixel] + vector * f->raw_vector;
        for (int l = 0; l < CONV_L; l++) raw[l] = value[l];
    }
    if (f->residual) {
        const float *residual = f->residual + f->residual_pixel[pixel] + vector * f->residual_vector;
        for (int l = 0; l < CONV_L; l++) value[l] += residual[l];
    }
    if (f->scale != 1) {
        for (int l = 0; l < CONV_L; l++) value[l] *= f->scale;
    }
}

/* sum (+)= acc for pixels first .. first+count-1 of the strip, and the epilogue after the last chain. */
static inline void conv_store_tile(const struct fdm_conv_chain *c, const float *acc, int first, int count) {
    for (int p = 0; p < count; p++) {
        for (int v = 0; v < c->vectors; v++, acc += CONV_L) {
            float value[CONV_L];
            float *sum = c->sum + c->sum_pixel[first + p] + v * c->sum_vector;
            if (c->first) {
                for (int l = 0; l < CONV_L; l++) value[l] = acc[l];
            } else {
                for (int l = 0; l < CONV_L; l++) value[l] = sum[l] + acc[l];
            }
            if (c->finish) conv_finish(value, c->finish, first + p, v, c->vectors);
            for (int l = 0; l < CONV_L; l++) sum[l] = value[l];
        }
    }
}

/* Walks the strip tile by tile.  The last tile may be short: its missing pixels repeat the last one and are not
 * stored, so that there is one tile shape per group size. */
FDM_INLINE void conv_run_strip(const struct fdm_conv_chain *c, conv_tile_fn *tile) {
    _Alignas(64) float acc[FDM_CONV_TILE * FDM_CONV_MAX_VECTORS * CONV_L];
    ptrdiff_t pixel[FDM_CONV_TILE];
    for (int first = 0; first < c->pixels; first += FDM_CONV_TILE) {
        int count = c->pixels - first < FDM_CONV_TILE ? c->pixels - first : FDM_CONV_TILE;
        for (int p = 0; p < FDM_CONV_TILE; p++) pixel[p] = c->x_pixel[first + (p < count ? p : count - 1)];
        tile(acc, c->x, pixel, c);
        conv_store_tile(c, acc, first, count);
    }
}

#endif
