/* winograd_impl.h - the two-dimensional transforms of winograd.h from one-dimensional ones; included by winograd.c once
 * for each m with
 *     WINOGRAD_M, WINOGRAD_NAME(part)          m; winograd<m>_<part>
 *     INPUT_1D(to, from)                       to[m+2] = B^T from[m+2]
 *     INPUT_ROW(rows, at, r)                   line r of that for the vectors at rows[0..m+1] + at
 *     OUTPUT_1D(to, from), OUTPUT_MATRIX       to[m] = A^T from[m+2], and A^T itself
 *     WEIGHT_1D(to, from)                      to[m+2] = G from[3], in f64 */

enum { WINOGRAD_NAME(size) = WINOGRAD_M + 2 };
#define SIZE WINOGRAD_NAME(size)
#define M WINOGRAD_M

/* Row `row` of B^T along the columns of tiles side by side (which share columns where they overlap), then B^T along it. */
V16_FN void WINOGRAD_NAME(input_row)(const struct fdm_winograd_input *a, const int row) {
    const ptrdiff_t columns = (ptrdiff_t)M * a->tiles + 2;
    v16 from[SIZE], to[SIZE];
    for (ptrdiff_t x = 0; x < columns; x++) {
        v16 value = v16_zero();
        if (x < a->columns) value = INPUT_ROW(a->rows, x * V16_LANES, row);
        v16_store(a->line + x * V16_LANES, value);
    }
    for (ptrdiff_t t = 0; t < a->tiles; t++) {
        for (int c = 0; c < SIZE; c++) from[c] = v16_load(a->line + (t * M + c) * V16_LANES);
        INPUT_1D(to, from);
        for (int c = 0; c < SIZE; c++) v16_store(a->v + c * a->v_point + t * V16_LANES, to[c]);
    }
}

void FDM_KERNEL(WINOGRAD_NAME(input))(const struct fdm_winograd_input *a) {
    switch (a->row) { /* a version for each row, with its coefficients */
    case 0: WINOGRAD_NAME(input_row)(a, 0); break;
    case 1: WINOGRAD_NAME(input_row)(a, 1); break;
    case 2: WINOGRAD_NAME(input_row)(a, 2); break;
    case 3: WINOGRAD_NAME(input_row)(a, 3); break;
    case 4: WINOGRAD_NAME(input_row)(a, SIZE - 2); break;
    default: WINOGRAD_NAME(input_row)(a, SIZE - 1); break;
    }
}

/* The epilogue for the finished outputs of tile t. */
V16_FN void WINOGRAD_NAME(store)(const struct fdm_winograd_output *a, v16 y[M][M], ptrdiff_t t) {
    const v16 scale = v16_set1(a->scale), bias = a->bias ? v16_loadu(a->bias) : v16_zero();
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

V16_FN void WINOGRAD_NAME(output_row)(const struct fdm_winograd_output *a, const int row) {
    static const float coefficient[M][SIZE] = OUTPUT_MATRIX;
    const bool tail = row == SIZE - 1 && a->lanes < V16_LANES;
    for (ptrdiff_t t = 0; t < a->tiles; t++) {
        v16 from[SIZE], to[M], y[M][M];
        for (int c = 0; c < SIZE; c++) from[c] = v16_load(a->m + c * a->m_point + t * a->m_tile);
        OUTPUT_1D(to, from);
        for (int r = 0; r < M; r++) {
            const bool starts = row == (r > 0); /* row 0 is zero in all lines of A^T but the first */
            for (int c = 0; c < M; c++) {
                float *sum = a->y + (r * M + c) * a->y_point + t * V16_LANES;
                if (row == 0 && r > 0) continue;
                y[r][c] = starts ? to[c] : v16_load(sum);
                if (!starts && coefficient[r][row] != 0) y[r][c] = v16_fma(v16_set1(coefficient[r][row]), to[c], y[r][c]);
                if (row < SIZE - 1) v16_store(sum, y[r][c]);
                if (tail) {
                    v16_store(sum, y[r][c]);
                    y[r][c] = v16_load_tail(sum, a->lanes);
                }
            }
        }
        if (row == SIZE - 1) WINOGRAD_NAME(store)(a, y, t);
    }
}

void FDM_KERNEL(WINOGRAD_NAME(output))(const struct fdm_winograd_output *a) {
    switch (a->row) {
    case 0: WINOGRAD_NAME(output_row)(a, 0); break;
    case 1: WINOGRAD_NAME(output_row)(a, 1); break;
    case 2: WINOGRAD_NAME(output_row)(a, 2); break;
    case 3: WINOGRAD_NAME(output_row)(a, 3); break;
    case 4: WINOGRAD_NAME(output_row)(a, SIZE - 2); break;
    default: WINOGRAD_NAME(output_row)(a, SIZE - 1); break;
    }
}

/* g[tap][16 outputs], u[point] 16 outputs each, u_point floats apart. */
void FDM_KERNEL(WINOGRAD_NAME(weight))(float *u, ptrdiff_t u_point, const float *g) {
    for (int l = 0; l < V16_LANES; l += LANES_F64) {
        f64 half[SIZE][3], from[3], to[SIZE]; /* half: G g */
        for (int c = 0; c < 3; c++) {
            for (int r = 0; r < 3; r++) from[r] = f64_load(g + (r * 3 + c) * V16_LANES + l);
            WEIGHT_1D(to, from);
            for (int r = 0; r < SIZE; r++) half[r][c] = to[r];
        }
        for (int r = 0; r < SIZE; r++) {
            WEIGHT_1D(to, half[r]);
            for (int c = 0; c < SIZE; c++) f64_store(u + (r * SIZE + c) * u_point + l, to[c]);
        }
    }
}

#undef SIZE
#undef M
