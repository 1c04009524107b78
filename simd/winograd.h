/* winograd.h - the linear maps of Winograd's minimal filtering F(m x m, 3x3) over vectors of 16 channels.
 *
 * A 3x3 correlation of m x m outputs reads a tile d of (m+2) x (m+2) inputs and is computed (Lavin and Gray,
 * arXiv:1509.09308) as
 *
 *     Y = A^T [ (G g G^T) .* (B^T d B) ] A                 .*: point by point, summed over input channels
 *
 * so that (m+2)^2 products replace 9 m^2.  The sums over channels are matrix products, one for each of the (m+2)^2
 * points, and run on the micro-kernel of conv.h; here is what surrounds them:
 *
 *     winograd<m>_input    a row of V = B^T d B, of adjacent tiles and 16 input channels
 *     winograd<m>_output   what a row of products adds to Y = A^T M A, of tiles and 16 output channels; after the last
 *                          row the epilogue
 *     winograd<m>_weight   U = G g G^T      in f64, rounded once
 *     winograd2_spread     a row of A dY A^T, adjoint of output: gradient of the products
 *     winograd2_gather     what a row adds to G^T dU G, adjoint of weight: gradient of the weights
 *
 * The (m+2) x (m+2) points are taken row by row, so that a row's share of V fits the second-level cache.
 *
 * m = 2: points 0, 1, -1, infinity: additions only.  m = 4: 0, 1, -1, 1/2, -2, infinity, whose largest coefficient is 8
 * (the usual 0, +-1, +-2 has larger ones and a third more error); exact powers of two and FMAs.
 *
 * Numerics (CONTRACT.md P1): every operation is one of v16's or an IEEE double operation in the order written, lane by
 * lane, so all instruction sets give the same bits.  The chains over channels are the caller's: 32 channels for m = 2,
 * 64 for m = 4 (FDM_WINOGRAD*_CHAIN). */
#ifndef FDM_SIMD_WINOGRAD_H
#define FDM_SIMD_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FDM_WINOGRAD2_CHAIN = 2, /* blocks of 16 channels in a chain of FMAs */
    FDM_WINOGRAD4_CHAIN = 4,
    FDM_WINOGRAD_CHAIN_TILES = 64, /* tiles in a chain of the gradient of the weights */
    FDM_WINOGRAD_MAX_SIZE = 6      /* m + 2 */
};

/* Row `row` of V of `tiles` tiles side by side: point c of it and tile t at v + c*v_point + 16*t. */
struct fdm_winograd_input {
    float *v;
    ptrdiff_t v_point;
    const float *rows[FDM_WINOGRAD_MAX_SIZE]; /* the m+2 rows of the tiles, from the first tile's first column on */
    int row;
    int columns; /* of those rows that exist; what lies further right is zero */
    int tiles;
    float *line; /* [m*tiles + 2][16], scratch */
};

/* Where the outputs of tiles lie: row y, column x of tile t at p + tile[t] + y*row + 16*x; p NULL: nowhere. */
struct fdm_winograd_place {
    float *p;
    const ptrdiff_t *tile;
    ptrdiff_t row;
};

/* y[r][c] (+)= A^T[r][row] * (products of that row, times A)[c], over the rows in order.  After the last one
 *     raw = y + bias;  out = (raw + residual) * scale, each rounded by itself; with accumulate out is added to what is
 * there, one more rounding.  Of tile t only the first rows[t] x columns[t] outputs exist. */
struct fdm_winograd_output {
    const float *m; /* products: point c of tile t at m + c*m_point + t*m_tile */
    float *y;       /* [m][m], y_point floats apart: of tile t at y + (r*m + c)*y_point + 16*t */
    ptrdiff_t m_point, m_tile, y_point;
    int row, tiles;
    /* read with the last row only */
    int lanes; /* < 16: the others become zero */
    const uint8_t *rows, *columns;
    const float *bias; /* [16] or NULL */
    float scale;
    bool accumulate;
    struct fdm_winograd_place out, raw, residual; /* residual is only read */
};

/* Row `row` of A dY A^T: point c of tile t at m + c*m_point + 16*t; outputs that do not exist count as zero. */
struct fdm_winograd_spread {
    float *m;
    ptrdiff_t m_point;
    int row, tiles;
    const float *d_out; /* line y, column x of tile t at d_out + 32*t + y*d_line + 16*x */
    ptrdiff_t d_line;
    int lines, columns; /* that exist: lines of the tiles, columns of all tiles together */
};

/* What row `row` of dU adds to dg = G^T dU G, over the rows in order; with the last one dg is multiplied by scale.
 * Channel i, vector v of outputs: point c of dU at u + c*u_point + (i*vectors + v)*16, tap j of dg at
 * dg + ((i*9 + j)*vectors + v)*16. */
struct fdm_winograd_gather {
    float *dg;
    const float *u;
    ptrdiff_t u_point;
    int row, channels, vectors;
    float scale;
};

#endif
