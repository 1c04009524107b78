/* winograd_impl.h - the two-dimensional transforms of winograd.h from one-dimensional ones; included by winograd.c once
 * for each m with
 *     WINOGRAD_M, WINOGRAD_NAME(part)          m; winograd<m>_<part>
 *     INPUT_1D(to, from)                       to[m+2] = B^T from[m+2]
 *     OUTPUT_1D(to, from)                      to[m] = A^T from[m+2]
 *     WEIGHT_1D(to, from)                      to[m+2] = G from[3], in doubles */

enum { WINOGRAD_NAME(size) = WINOGRAD_M + 2 };
#define SIZE WINOGRAD_NAME(size)
#define M WINOGRAD_M

/* B^T along the columns of a row of tiles (which share the columns where they overlap), then along its rows. */
void FDM_KERNEL(WINOGRAD_NAME(input))(const struct fdm_winograd_input *a) {
    const ptrdiff_t columns = (ptrdiff_t)M * a->tiles + 2, line = columns * V16_LANES;
    v16 from[SIZE], to[SIZE];
    for (ptrdiff_t x = 0; x < columns; x++) {
        for (int r = 0; r < SIZE; r++) from[r] = x < a->columns ? v16_load(a->rows[r] + x * V16_LANES) : v16_zero();
        INPUT_1D(to, from);
        for (int r = 0; r < SIZE; r++) v16_store(a->lines + r * line + x * V16_LANES, to[r]);
    }
    for (ptrdiff_t t = 0; t < a->tiles; t++) {
        for (int r = 0; r < SIZE; r++) {
            const float *in = a->lines + r * line + t * M * V16_LANES;
            float *v = a->v + r * SIZE * a->v_point + t * V16_LANES;
            for (int c = 0; c < SIZE; c++) from[c] = v16_load(in + (ptrdiff_t)c * V16_LANES);
            INPUT_1D(to, from);
            for (int c = 0; c < SIZE; c++) v16_store(v + c * a->v_point, to[c]);
        }
    }
}

V16_FN void WINOGRAD_NAME(products)(v16 y[M][M], const struct fdm_winograd_output *a, ptrdiff_t t) {
    const float *m = a->m + t * a->m_tile;
    v16 half[M][SIZE], from[SIZE], to[M]; /* half: A^T M */
    for (int c = 0; c < SIZE; c++) {
        for (int r = 0; r < SIZE; r++) {
            const float *point = m + (r * SIZE + c) * a->m_point;
            from[r] = a->lanes < V16_LANES ? v16_load_tail(point, a->lanes) : v16_load(point);
        }
        OUTPUT_1D(to, from);
        for (int r = 0; r < M; r++) half[r][c] = to[r];
    }
    for (int r = 0; r < M; r++) OUTPUT_1D(y[r], half[r]);
}

void FDM_KERNEL(WINOGRAD_NAME(output))(const struct fdm_winograd_output *a) {
    const v16 scale = v16_set1(a->scale), bias = a->bias ? v16_loadu(a->bias) : v16_zero();
    for (ptrdiff_t t = 0; t < a->tiles; t++) {
        v16 y[M][M];
        WINOGRAD_NAME(products)(y, a, t);
        for (int r = 0; r < a->rows[t]; r++) {
            for (int c = 0; c < a->columns[t]; c++) {
                const ptrdiff_t at = (ptrdiff_t)c * V16_LANES;
                v16 value = v16_add(y[r][c], bias);
                if (a->raw.p) v16_store(a->raw.p + a->raw.tile[t] + r * a->raw.row + at, value);
                if (a->residual.p)
                    value = v16_add(value, v16_load(a->residual.p + a->residual.tile[t] + r * a->residual.row + at));
                value = v16_mul(value, scale);
                float *out = a->out.p + a->out.tile[t] + r * a->out.row + at;
                v16_store(out, a->accumulate ? v16_add(v16_load(out), value) : value);
            }
        }
    }
}

/* g[tap][16 outputs], u[point] 16 outputs each, u_point floats apart. */
void FDM_KERNEL(WINOGRAD_NAME(weight))(float *u, ptrdiff_t u_point, const float *g) {
    for (int l = 0; l < V16_LANES; l++) {
        double half[SIZE][3], from[3], to[SIZE]; /* half: G g */
        for (int c = 0; c < 3; c++) {
            for (int r = 0; r < 3; r++) from[r] = (double)g[(r * 3 + c) * V16_LANES + l];
            WEIGHT_1D(to, from);
            for (int r = 0; r < SIZE; r++) half[r][c] = to[r];
        }
        for (int r = 0; r < SIZE; r++) {
            WEIGHT_1D(to, half[r]);
            for (int c = 0; c < SIZE; c++) u[(r * SIZE + c) * u_point + l] = (float)to[c];
        }
    }
}

#undef SIZE
#undef M
