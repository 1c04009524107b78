/* conv_impl.h - the micro-kernel itself, once, over the 16-lane vector type; conv_<isa>.c only chooses the tile.
 *
 * The including file defines FDM_CONV_TILE (pixels in a register tile) and FDM_CONV_VECTORS (most vectors in a
 * group) so that FDM_CONV_TILE x FDM_CONV_VECTORS accumulators, the weights and a broadcast input fit the
 * registers. */
#ifndef FDM_SIMD_CONV_IMPL_H
#define FDM_SIMD_CONV_IMPL_H

#include "simd/conv.h"
#include "simd/v16.h"

/* Full unrolling keeps accumulator arrays in registers; gcc and clang spell it differently.  The loop over a
 * segment's inputs is unrolled by 4 only: in full, clang 14 hoists the broadcasts and spills the accumulators. */
#if defined(__clang__)
#define FDM_UNROLL _Pragma("unroll")
#define FDM_UNROLL_4 _Pragma("unroll 4")
#else
#define FDM_UNROLL _Pragma("GCC unroll 16")
#define FDM_UNROLL_4 _Pragma("GCC unroll 4")
#endif

/* Bounds are literals, because clang gives up on arrays indexed by loops whose bounds become known by inlining. */
#define FDM_EACH_PIXEL(p) FDM_UNROLL for (int p = 0; p < FDM_CONV_TILE; p++)
#define FDM_EACH_VECTOR(v) FDM_UNROLL for (int v = 0; v < FDM_CONV_VECTORS; v++) if (v < V)

/* Makes the compiler forget how a pointer was computed, so that it keeps the tile's pointers in registers and
 * reaches the 16 inputs of a segment with constant displacements, instead of hoisting 16 x 8 sums into memory. */
#define FDM_OPAQUE(pointer) __asm__("" : "+r"(pointer))

enum { CONV_L = FDM_CONV_LANES };
_Static_assert(FDM_CONV_VECTORS <= FDM_CONV_MAX_VECTORS, "buffers are sized for FDM_CONV_MAX_VECTORS");

/* The epilogue for sums[tile][V][16] of pixels first .. first+count-1 of the strip. */
static void conv_finish(const struct fdm_conv_chain *c, const float *sums, int first, int count) {
    const struct fdm_conv_finish *f = c->finish;
    const int vectors = c->vectors;
    const v16 scale = v16_set1(f->scale);
    for (int v = 0; v < vectors; v++) {
        const v16 bias = f->bias ? v16_load(f->bias + v * CONV_L) : v16_zero();
        const int lanes = v == vectors - 1 ? f->lanes : CONV_L;
        for (int p = 0; p < count; p++) {
            const float *sum = sums + (p * vectors + v) * CONV_L;
            v16 value = v16_add(lanes < CONV_L ? v16_load_tail(sum, lanes) : v16_load(sum), bias);
            if (f->raw) v16_store(f->raw + f->raw_pixel[first + p] + v * f->raw_vector, value);
            if (f->residual) {
                value =
                    v16_add(value, v16_load(f->residual + f->residual_pixel[first + p] + v * f->residual_vector));
            }
            value = v16_mul(value, scale);
            float *out = c->sum + c->sum_pixel[first + p] + v * c->sum_vector;
            if (f->target) {
                out = f->target + f->target_pixel[first + p] + v * f->target_vector;
                value = v16_add(v16_load(out), value);
            }
            v16_store(out, value);
        }
    }
}

#if !defined(FDM_CONV_OWN_ACCUMULATE)
/* acc = the chains of FDM_CONV_TILE pixels and V vectors. */
V16_FN void conv_accumulate(v16 acc[FDM_CONV_TILE][FDM_CONV_VECTORS], const struct fdm_conv_chain *c,
                            const ptrdiff_t *x_pixel, const int V) {
    const float *w = c->weight;
    FDM_EACH_PIXEL(p) {
        FDM_EACH_VECTOR(v) acc[p][v] = v16_zero();
    }
    for (int s = 0; s < c->segments; s++) {
        const float *x[FDM_CONV_TILE];
        FDM_EACH_PIXEL(p) {
            x[p] = c->x + c->x_segment[s] + x_pixel[p];
            FDM_OPAQUE(x[p]);
        }
        FDM_UNROLL_4
        for (int i = 0; i < CONV_L; i++, w += V * CONV_L) {
            v16 weight[FDM_CONV_VECTORS];
            FDM_EACH_VECTOR(v) weight[v] = v16_load(w + v * CONV_L);
            FDM_EACH_PIXEL(p) {
                const v16 input = v16_set1(x[p][i]);
                FDM_EACH_VECTOR(v) acc[p][v] = v16_fma(weight[v], input, acc[p][v]);
            }
        }
    }
}

/* One pixel of FDM_CONV_TILE rows. */
V16_FN void pixel_step(v16 acc[FDM_CONV_TILE][FDM_CONV_VECTORS], const float *const x[FDM_CONV_TILE], ptrdiff_t at,
                       const float *d, ptrdiff_t d_vector, const int V) {
    v16 vector[FDM_CONV_VECTORS];
    FDM_EACH_VECTOR(v) vector[v] = v16_load(d + v * d_vector);
    FDM_EACH_PIXEL(r) {
        const v16 input = v16_set1(x[r][at]);
        FDM_EACH_VECTOR(v) acc[r][v] = v16_fma(vector[v], input, acc[r][v]);
    }
}

/* acc = the chains of FDM_CONV_TILE rows and V vectors over all the pixels of the call.  x_step is a constant where
 * it can be: two pixels then share their address arithmetic (with four, gcc runs out of registers). */
V16_FN void pixel_accumulate(v16 acc[FDM_CONV_TILE][FDM_CONV_VECTORS], const struct fdm_conv_pixel_chain *c,
                             const ptrdiff_t *x_row, const ptrdiff_t x_step, const int V) {
    const float *x[FDM_CONV_TILE];
    const int width = c->width;
    const ptrdiff_t d_vector = c->d_vector;
    FDM_EACH_PIXEL(r) {
        x[r] = c->x + x_row[r];
        FDM_OPAQUE(x[r]);
        FDM_EACH_VECTOR(v) acc[r][v] = v16_zero();
    }
    for (int line = 0; line < c->lines; line++) {
        const float *d = c->d + line * c->d_line;
        ptrdiff_t at = line * c->x_line;
        int p = 0;
        for (; p + 2 <= width; p += 2, at += 2 * x_step, d += 2 * CONV_L) {
            pixel_step(acc, x, at, d, d_vector, V);
            pixel_step(acc, x, at + x_step, d + CONV_L, d_vector, V);
        }
        if (p < width) pixel_step(acc, x, at, d, d_vector, V);
    }
}

#endif

/* One tile: pixels first .. first+count-1.  x_pixel and sum_pixel have FDM_CONV_TILE entries; in a short tile the
 * last pixel is repeated.  All running sums are read before any is written, so the repeats store the same value
 * again. */
V16_FN void conv_tile(const struct fdm_conv_chain *c, const ptrdiff_t *x_pixel, const ptrdiff_t *sum_pixel,
                      int first, int count, const int V) {
    v16 acc[FDM_CONV_TILE][FDM_CONV_VECTORS];
    conv_accumulate(acc, c, x_pixel, V);
    if (!c->first) {
        FDM_EACH_PIXEL(p) {
            FDM_EACH_VECTOR(v) {
                acc[p][v] = v16_add(v16_load(c->sum + sum_pixel[p] + v * c->sum_vector), acc[p][v]);
            }
        }
    }
    if (c->finish) {
        _Alignas(64) float sums[FDM_CONV_TILE * FDM_CONV_VECTORS * CONV_L];
        FDM_EACH_PIXEL(p) {
            FDM_EACH_VECTOR(v) v16_store(sums + (p * V + v) * CONV_L, acc[p][v]);
        }
        conv_finish(c, sums, first, count);
        return;
    }
    FDM_EACH_PIXEL(p) {
        FDM_EACH_VECTOR(v) v16_store(c->sum + sum_pixel[p] + v * c->sum_vector, acc[p][v]);
    }
}

/* The whole strip, tile by tile. */
V16_FN void conv_strip(const struct fdm_conv_chain *c, const int V) {
    int first = 0;
    const int lines = c->segments * CONV_L * V, share = lines * FDM_CONV_TILE / c->pixels + 1; /* of 64 bytes */
    for (int line = 0; first + FDM_CONV_TILE <= c->pixels; first += FDM_CONV_TILE) {
        if (c->next)
            for (int end = line + share; line < end; line++) __builtin_prefetch(c->next + (ptrdiff_t)line * CONV_L);
        conv_tile(c, c->x_pixel + first, c->sum_pixel + first, first, FDM_CONV_TILE, V);
    }
    if (first < c->pixels) {
        ptrdiff_t x_pixel[FDM_CONV_TILE], sum_pixel[FDM_CONV_TILE];
        for (int p = 0; p < FDM_CONV_TILE; p++) {
            int pixel = first + p < c->pixels ? first + p : c->pixels - 1;
            x_pixel[p] = c->x_pixel[pixel], sum_pixel[p] = c->sum_pixel[pixel];
        }
        conv_tile(c, x_pixel, sum_pixel, first, c->pixels - first, V);
    }
}

/* Rows first .. first+count-1; a short tile repeats its last row, as in conv_tile. */
V16_FN void pixel_tile(const struct fdm_conv_pixel_chain *c, const ptrdiff_t *x_row, int first, int count,
                       const int V) {
    v16 acc[FDM_CONV_TILE][FDM_CONV_VECTORS];
    float *sum[FDM_CONV_TILE];
    if (c->x_step == CONV_L) {
        pixel_accumulate(acc, c, x_row, CONV_L, V);
    } else {
        pixel_accumulate(acc, c, x_row, c->x_step, V);
    }
    FDM_EACH_PIXEL(r) sum[r] = c->sum + (first + (r < count ? r : count - 1)) * c->sum_row;
    if (!c->first) {
        FDM_EACH_PIXEL(r) { FDM_EACH_VECTOR(v) acc[r][v] = v16_add(v16_load(sum[r] + v * CONV_L), acc[r][v]); }
    }
    FDM_EACH_PIXEL(r) { FDM_EACH_VECTOR(v) v16_store(sum[r] + v * CONV_L, acc[r][v]); }
}

V16_FN void pixel_rows(const struct fdm_conv_pixel_chain *c, const int V) {
    int first = 0;
    for (; first + FDM_CONV_TILE <= c->rows; first += FDM_CONV_TILE) {
        pixel_tile(c, c->x_row + first, first, FDM_CONV_TILE, V);
    }
    if (first < c->rows) {
        ptrdiff_t x_row[FDM_CONV_TILE];
        for (int r = 0; r < FDM_CONV_TILE; r++) x_row[r] = c->x_row[first + r < c->rows ? first + r : c->rows - 1];
        pixel_tile(c, x_row, first, c->rows - first, V);
    }
}

#endif
