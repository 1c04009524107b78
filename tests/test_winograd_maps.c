/* test_winograd_maps.c - the linear maps of simd/winograd.h one by one, on every instruction set, against the matrices that
 * follow from the interpolation points (winograd_bound.h): to the bit on small integers, whose every sum is exact; within
 * roundings * 2^-24 * |L| |x| |L^T| on random numbers; what must not be read is NaN or a page that faults. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "guarded.h"
#include "simd/kernel_table.h"
#include "suite.h"
#include "winograd_bound.h"

/* ck_assert_msg notes each pass in a file, which takes minutes in the loops below. */
#define EXPECT(condition, ...)                                                                                     \
    do {                                                                                                           \
        if (!(condition)) ck_abort_msg(__VA_ARGS__);                                                               \
    } while (0)

enum { LANES = 16, MAX_SIZE = FDM_WINOGRAD_MAX_SIZE };
#ifdef FDM_POISON
enum { ROUNDS = 4 };
#else
enum { ROUNDS = 25 };
#endif

/* ---- matrices in double ---- */

struct matrix {
    int rows, columns;
    double at[MAX_SIZE][MAX_SIZE];
};

static struct matrix transposed(const struct matrix *a) {
    struct matrix t = {.rows = a->columns, .columns = a->rows};
    for (int i = 0; i < a->rows; i++)
        for (int j = 0; j < a->columns; j++) t.at[j][i] = a->at[i][j];
    return t;
}

/* L X L^T and, for the bound, |L| |X| |L|^T. */
static struct matrix sandwich(const struct matrix *l, const struct matrix *x, struct matrix *size) {
    struct matrix y = {.rows = l->rows, .columns = l->rows};
    *size = y;
    for (int i = 0; i < l->rows; i++)
        for (int j = 0; j < l->rows; j++)
            for (int p = 0; p < l->columns; p++)
                for (int q = 0; q < l->columns; q++) {
                    const double term = l->at[i][p] * x->at[p][q] * l->at[j][q];
                    y.at[i][j] += term;
                    size->at[i][j] += fabs(term);
                }
    return y;
}

/* A^T, G and B^T as the kernels have them: those of the points, but a point's rows may be negated in two of the three. */
struct maps {
    int m, size;
    struct matrix a, g, b; /* a: A^T (m, size); g: G (size, 3); b: B^T (size, size) */
};

static const struct fdm_kernels *portable(void) { return fdm_kernels_for(FDM_ISA_ID_PORTABLE); }

static void run_input(const struct fdm_kernels *k, int m, const struct fdm_winograd_input *a) {
    (m == 2 ? k->winograd2_input : k->winograd4_input)(a);
}
static void run_output(const struct fdm_kernels *k, int m, const struct fdm_winograd_output *a) {
    (m == 2 ? k->winograd2_output : k->winograd4_output)(a);
}
static void run_weight(const struct fdm_kernels *k, int m, float *u, ptrdiff_t point, const float *g) {
    (m == 2 ? k->winograd2_weight : k->winograd4_weight)(u, point, g);
}

/* The sign of point p in B^T: of its row's last coefficient but one in the tile's first column ... of the product with row 1,
 * whose sign is +.  Measured with one 1 in the tile; everything else is then compared. */
static double sign_in_input(const struct matrix *b, int m, int p) {
    _Alignas(64) float zero[MAX_SIZE * LANES] = {0}, one[MAX_SIZE * LANES] = {0}, v[MAX_SIZE * LANES], line[MAX_SIZE * LANES];
    int y = 0, x = 0;
    while (b->at[p][y] == 0) y++;
    while (b->at[1][x] == 0) x++;
    one[x * LANES] = 1;
    struct fdm_winograd_input in = {.v = v, .v_point = LANES, .row = p, .columns = m + 2, .tiles = 1, .line = line};
    for (int r = 0; r < m + 2; r++) in.rows[r] = r == y ? one : zero;
    run_input(portable(), m, &in);
    return (double)v[1 * LANES] * b->at[p][y] * b->at[1][x] < 0 ? -1 : 1;
}

static double sign_in_weight(const struct matrix *g, int m, int p) {
    _Alignas(64) float taps[9 * LANES] = {0}, u[MAX_SIZE * MAX_SIZE * LANES];
    const int k = g->at[p][0] != 0 ? 0 : 2;
    taps[(k * 3 + 0) * LANES] = 1;
    run_weight(portable(), m, u, LANES, taps);
    return (double)u[(p * (m + 2) + 1) * LANES] * g->at[p][k] * g->at[1][0] < 0 ? -1 : 1;
}

static struct maps maps_of(int m) {
    const struct winograd_matrices w = winograd_matrices(m);
    struct maps maps = {.m = m, .size = m + 2, .a = {.rows = m, .columns = m + 2}, .g = {.rows = m + 2, .columns = 3},
                        .b = {.rows = m + 2, .columns = m + 2}};
    for (int i = 0; i < m; i++) memcpy(maps.a.at[i], w.a[i], sizeof w.a[i]);
    for (int p = 0; p < maps.size; p++) {
        memcpy(maps.g.at[p], w.g[p], sizeof w.g[p]);
        memcpy(maps.b.at[p], w.b[p], sizeof w.b[p]);
    }
    for (int p = 0; p < maps.size; p++) {
        const double b = sign_in_input(&maps.b, m, p), g = sign_in_weight(&maps.g, m, p);
        for (int i = 0; i < maps.size; i++) maps.b.at[p][i] *= b;
        for (int i = 0; i < 3; i++) maps.g.at[p][i] *= g;
        for (int i = 0; i < m; i++) maps.a.at[i][p] *= b * g; /* so that the three cancel */
    }
    return maps;
}

/* ---- comparing ---- */

static double worst; /* error over bound, of the running test */

/* exact: equality; else roundings * 2^-24 * size, and one rounding more for the products of roundings. */
static void judge(const char *what, enum fdm_isa isa, double got, double want, double size, enum fill fill, int roundings) {
    const double bound = fill == FILL_EXACT ? 0 : (roundings + 0x1p-10) * 0x1p-24 * size, error = fabs(got - want);
    EXPECT(error <= bound, "%s, %s: %.9g instead of %.9g, error %.3g > %.3g", what, fdm_isa_name(isa), got, want, error, bound);
    if (bound > 0) worst = fmax(worst, error / bound);
}

/* A buffer between pages that fault, all NaN. */
static struct guarded nans(size_t count) {
    struct guarded g = guarded_new(count + 1024);
    guarded_place(&g, count, 1);
    memset(g.p, 0xff, count * sizeof(float));
    return g;
}

/* Equal bits, or both NaN, whose sign and payload v16.h does not promise. */
static bool same_values(const float *a, const float *b, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0 && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

/* Equal bits between instruction sets: the first one's result is kept. */
static void same_bits(float **first, const struct guarded *g, const char *what, enum fdm_isa isa) {
    if (!*first) {
        *first = malloc(g->count * sizeof(float));
        ck_assert_ptr_nonnull(*first);
        memcpy(*first, g->p, g->count * sizeof(float));
    }
    EXPECT(same_values(*first, g->p, g->count), "%s: %s gives other bits than portable", what, fdm_isa_name(isa));
}

static const int fill_count = 2;

/* ---- V = B^T d B ---- */

/* `tiles` tiles side by side of which `columns` columns exist; the first `missing` rows are a row of zeros, as above a map.
 * Lane `nan` of one input is NaN and must not be seen in other lanes. */
static void check_input(const struct maps *w, enum fdm_isa isa, int tiles, int columns, int missing, enum fill fill,
                        uint64_t seed, float **first) {
    const int m = w->m, size = w->size, wide = m * tiles + 2;
    const ptrdiff_t point = tiles * LANES + LANES;
    const int nan = (int)(seed % 20), width = columns < wide ? columns : wide;
    const struct fdm_kernels *kernels = fdm_kernels_for(isa);
    struct guarded rows[MAX_SIZE], line = nans((size_t)wide * LANES), v = nans((size_t)((size - 1) * point + tiles * LANES));
    struct fdm_winograd_input in = {.v = v.p, .v_point = point, .columns = columns, .tiles = tiles, .line = line.p};
    uint64_t state = seed;
    for (int r = 0; r < size; r++) {
        rows[r] = nans((size_t)width * LANES);
        for (int i = 0; i < width * LANES; i++) rows[r].p[i] = r < missing ? 0 : f32_value(&state, fill);
        if (nan < LANES && r == missing) rows[r].p[nan] = NAN;
        in.rows[r] = rows[r].p;
    }
    for (in.row = 0; in.row < size; in.row++) {
        memset(v.p, 0xff, v.count * sizeof(float));
        memset(line.p, 0xff, line.count * sizeof(float));
        run_input(kernels, m, &in);
        same_bits(&first[in.row], &v, "input", isa);
        for (int t = 0; t < tiles; t++)
            for (int l = 0; l < LANES; l++) {
                struct matrix d = {.rows = size, .columns = size}, bound;
                for (int y = 0; y < size; y++)
                    for (int x = 0; x < size; x++)
                        d.at[y][x] = t * m + x < width ? (double)rows[y].p[(t * m + x) * LANES + l] : 0;
                const struct matrix want = sandwich(&w->b, &d, &bound);
                for (int c = 0; l != nan && c < size; c++)
                    judge("input", isa, (double)v.p[c * point + t * LANES + l], want.at[in.row][c], bound.at[in.row][c], fill,
                          m == 2 ? 2 : 6);
            }
        for (int c = 0; c + 1 < size; c++) /* between the points */
            for (int i = 0; i < LANES; i++) EXPECT(isnan(v.p[c * point + tiles * LANES + i]), "input wrote past a point");
    }
    for (int r = 0; r < size; r++) guarded_free(&rows[r]);
    guarded_free(&line), guarded_free(&v);
}

static void input_case(const struct maps *w, int tiles, int columns, int missing, enum fill fill, uint64_t seed) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    float *first[MAX_SIZE] = {0};
    for (int i = 0; i < count; i++) check_input(w, isas[i], tiles, columns, missing, fill, seed, first);
    for (int r = 0; r < MAX_SIZE; r++) free(first[r]);
}

START_TEST(input) {
    const struct maps w = maps_of(_i);
    for (int fill = 0; fill < fill_count; fill++)
        for (int tiles = 1; tiles <= 24; tiles = 3 * tiles - (tiles > 1)) { /* 1 3 8 23 */
            const int wide = _i * tiles + 2;
            for (int columns = 1; columns <= wide + 2; columns += tiles < 8 ? 1 : wide / 4)
                input_case(&w, tiles, columns, columns % w.size, (enum fill)fill, (uint64_t)(columns + 100 * tiles));
        }
    printf("input, m = %d: worst error / bound %.3f\n", _i, worst);
}
END_TEST

/* ---- Y = A^T M A and the epilogue ---- */

struct output_case {
    int tiles, lanes;
    enum fill fill;
    bool bias, residual, raw, accumulate;
    float scale;
    uint64_t seed;
};

/* Tiles lie in a plane in any order: here backwards, with a column of 16 lanes between them that nobody may touch. */
static size_t plane_row(const struct output_case *c, int m) { return (size_t)c->tiles * (m + 1) * LANES; }

static void check_output(const struct maps *w, const struct output_case *c, enum fdm_isa isa, float **first) {
    enum { MAX_TILES = 8, VECTORS = 2 };
    const int m = w->m, size = w->size, tiles = c->tiles;
    const ptrdiff_t row = (ptrdiff_t)plane_row(c, m), m_tile = VECTORS * LANES, m_point = tiles * m_tile + LANES;
    const ptrdiff_t y_point = (tiles + 1) * LANES;
    const struct fdm_kernels *kernels = fdm_kernels_for(isa);
    struct guarded out = nans((size_t)(m * row)), raw = nans((size_t)(m * row)), residual = nans((size_t)(m * row));
    struct guarded products = nans((size_t)((size - 1) * m_point + (tiles - 1) * m_tile + LANES));
    struct guarded y = nans((size_t)((m * m - 1) * y_point + tiles * LANES)), before = nans(out.count);
    _Alignas(64) float bias[LANES] = {0};
    double all[MAX_SIZE][MAX_SIZE][MAX_TILES][LANES];
    ptrdiff_t place[MAX_TILES];
    uint8_t rows[MAX_TILES], columns[MAX_TILES];
    uint64_t state = c->seed;
    ck_assert_int_le(tiles, MAX_TILES);
    for (int l = 0; l < c->lanes; l++) bias[l] = f32_value(&state, c->fill);
    for (int t = 0; t < tiles; t++) {
        place[t] = (ptrdiff_t)(tiles - 1 - t) * (m + 1) * LANES;
        rows[t] = (uint8_t)(1 + f32_below(&state, m)), columns[t] = (uint8_t)(1 + f32_below(&state, m));
        for (int r = 0; r < rows[t]; r++)
            for (int x = 0; x < columns[t]; x++)
                for (int l = 0; l < LANES; l++) { /* what does not exist stays NaN; pad channels are zero */
                    const ptrdiff_t at = place[t] + r * row + x * LANES + l;
                    residual.p[at] = l < c->lanes ? f32_value(&state, c->fill) : 0;
                    if (c->accumulate) before.p[at] = l < c->lanes ? f32_value(&state, c->fill) : 0;
                }
    }
    memcpy(out.p, before.p, out.count * sizeof(float));
    struct fdm_winograd_output o = {.m = products.p, .y = y.p, .m_point = m_point, .m_tile = m_tile, .y_point = y_point,
                                    .tiles = tiles};
    for (o.row = 0; o.row < size; o.row++) {
        for (int p = 0; p < size; p++)
            for (int t = 0; t < tiles; t++)
                for (int l = 0; l < LANES; l++) {
                    /* pad lanes hold anything: they must become zero all the same */
                    const float value = l < c->lanes ? f32_value(&state, c->fill) : NAN;
                    products.p[p * m_point + t * m_tile + l] = value;
                    all[o.row][p][t][l] = (double)value;
                }
        if (o.row == size - 1) {
            o.lanes = c->lanes, o.rows = rows, o.columns = columns, o.bias = c->bias ? bias : NULL, o.scale = c->scale;
            o.accumulate = c->accumulate;
            o.out = (struct fdm_winograd_place){out.p, place, row};
            if (c->raw) o.raw = (struct fdm_winograd_place){raw.p, place, row};
            if (c->residual) o.residual = (struct fdm_winograd_place){residual.p, place, row};
        }
        run_output(kernels, m, &o);
    }
    same_bits(&first[0], &out, "output", isa);
    same_bits(&first[1], &raw, "raw", isa);
    size_t written = 0, present = 0;
    for (int t = 0; t < tiles; t++)
        for (int l = 0; l < LANES; l++) {
            struct matrix products_of = {.rows = size, .columns = size}, bound;
            for (int p = 0; l < c->lanes && p < size * size; p++) products_of.at[p / size][p % size] = all[p / size][p % size][t][l];
            const struct matrix want = sandwich(&w->a, &products_of, &bound);
            for (int r = 0; r < rows[t]; r++)
                for (int x = 0; x < columns[t]; x++) {
                    const ptrdiff_t at = place[t] + r * row + x * LANES + l;
                    const double with_bias = want.at[r][x] + (c->bias ? (double)bias[l] : 0);
                    const double sized = bound.at[r][x] + fabs((double)bias[l]);
                    const double sum = with_bias + (c->residual ? (double)residual.p[at] : 0), old = (double)before.p[at];
                    const double final = sum * (double)c->scale + (c->accumulate ? old : 0);
                    const int roundings = m == 2 ? 5 : 10; /* 2 + 3, 4 + 5, and the bias */
                    written++;
                    if (c->raw) judge("raw", isa, (double)raw.p[at], with_bias, sized, c->fill, roundings + 1);
                    judge("output", isa, (double)out.p[at], final,
                          (sized + fabs((double)residual.p[at])) + (c->accumulate ? fabs(old) : 0), c->fill, roundings + 4);
                }
        }
    for (size_t i = 0; i < out.count; i++) present += !isnan(out.p[i]);
    EXPECT(present == written, "output, %s: %zu values written, %zu exist", fdm_isa_name(isa), present, written);
    present = 0;
    for (size_t i = 0; i < raw.count; i++) present += !isnan(raw.p[i]);
    EXPECT(present == (c->raw ? written : 0), "raw, %s: %zu values written", fdm_isa_name(isa), present);
    guarded_free(&out), guarded_free(&raw), guarded_free(&residual), guarded_free(&products), guarded_free(&y);
    guarded_free(&before);
}

START_TEST(output) {
    static const int lanes[] = {16, 1, 15, 7, 16, 8};
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    const struct maps w = maps_of(_i);
    for (int fill = 0; fill < fill_count; fill++)
        for (int round = 0; round < 2 * ROUNDS; round++) {
            uint64_t state = (uint64_t)round;
            struct output_case c = {.tiles = 1 + f32_below(&state, 7), .lanes = lanes[round % 6], .fill = (enum fill)fill};
            float *first[2] = {0};
            c.bias = f32_below(&state, 2), c.residual = f32_below(&state, 2), c.raw = f32_below(&state, 2);
            c.accumulate = f32_below(&state, 2), c.seed = state;
            c.scale = f32_below(&state, 2) ? 1 : fill == FILL_EXACT ? 0.5f : 0.70710678f;
            for (int i = 0; i < count; i++) check_output(&w, &c, isas[i], first);
            free(first[0]), free(first[1]);
        }
    printf("output, m = %d: worst error / bound %.3f\n", _i, worst);
}
END_TEST

/* ---- U = G g G^T: in f64, rounded once ---- */

START_TEST(weight) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    const struct maps w = maps_of(_i);
    const int size = w.size;
    const ptrdiff_t point = 3 * LANES;
    struct guarded g = nans(9 * LANES), u = nans((size_t)((size * size - 1) * point + LANES));
    for (int round = 0; round < 4 * ROUNDS; round++) {
        const enum fill fill = round % 2 ? FILL_EXACT : FILL_RANDOM;
        const int exponent = round % 8 < 2 ? 0 : round % 8 < 4 ? -60 : round % 8 < 6 ? 60 : -140; /* the last: subnormal */
        uint64_t state = (uint64_t)round;
        float *first = NULL;
        for (int i = 0; i < 9 * LANES; i++) g.p[i] = ldexpf(f32_value(&state, fill), exponent);
        for (int i = 0; i < count; i++) {
            memset(u.p, 0xff, u.count * sizeof(float));
            run_weight(fdm_kernels_for(isas[i]), _i, u.p, point, g.p);
            same_bits(&first, &u, "weight", isas[i]);
            for (int l = 0; l < LANES; l++) {
                struct matrix taps = {.rows = 3, .columns = 3}, bound;
                for (int t = 0; t < 9; t++) taps.at[t / 3][t % 3] = (double)g.p[t * LANES + l];
                const struct matrix want = sandwich(&w.g, &taps, &bound);
                for (int p = 0; p < size * size; p++) {
                    /* half a unit in the last place (2^-150 in the subnormal range), and eight roundings of f64 */
                    const double exact = want.at[p / size][p % size], got = (double)u.p[p * point + l];
                    const double half_ulp = fmax(0x1p-24 * fabs(exact), 0x1p-150) + 0x1p-50 * bound.at[p / size][p % size];
                    const bool is_exact = _i == 2 && fill == FILL_EXACT && exponent != -140;
                    EXPECT(fabs(got - exact) <= (is_exact ? 0 : half_ulp), "weight, %s, point %d: %a instead of %a",
                           fdm_isa_name(isas[i]), p, got, exact);
                }
            }
            for (int p = 0; p + 1 < size * size; p++)
                for (int k = LANES; k < point; k++) EXPECT(isnan(u.p[p * point + k]), "weight wrote past a point");
        }
        free(first);
    }
    guarded_free(&g), guarded_free(&u);
}
END_TEST

/* ---- the adjoints of m = 2: A dY A^T and G^T dU G ---- */

static void check_spread(const struct maps *w, enum fdm_isa isa, int tiles, int lines, int columns, enum fill fill,
                         uint64_t seed, float **first) {
    const struct matrix a = transposed(&w->a);
    const int width = columns < 2 * tiles ? columns : 2 * tiles;
    const ptrdiff_t point = tiles * LANES + LANES, d_line = width * LANES;
    struct guarded d = nans((size_t)(width * (lines > 1 ? 2 : 1) * LANES)), v = nans((size_t)(3 * point + tiles * LANES));
    uint64_t state = seed;
    for (size_t i = 0; i < d.count; i++) d.p[i] = f32_value(&state, fill);
    struct fdm_winograd_spread s = {.m = v.p, .m_point = point, .tiles = tiles, .d_out = d.p, .d_line = d_line, .lines = lines,
                                    .columns = columns};
    for (s.row = 0; s.row < 4; s.row++) {
        memset(v.p, 0xff, v.count * sizeof(float));
        fdm_kernels_for(isa)->winograd2_spread(&s);
        same_bits(&first[s.row], &v, "spread", isa);
        for (int t = 0; t < tiles; t++)
            for (int l = 0; l < LANES; l++) {
                struct matrix tile = {.rows = 2, .columns = 2}, bound;
                for (int y = 0; y < 2 && y < lines; y++)
                    for (int x = 0; x < 2 && 2 * t + x < width; x++)
                        tile.at[y][x] = (double)d.p[y * d_line + (2 * t + x) * LANES + l];
                const struct matrix want = sandwich(&a, &tile, &bound);
                for (int c = 0; c < 4; c++)
                    judge("spread", isa, (double)v.p[c * point + t * LANES + l], want.at[s.row][c], bound.at[s.row][c], fill, 2);
            }
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < LANES; i++) EXPECT(isnan(v.p[c * point + tiles * LANES + i]), "spread wrote past a point");
    }
    guarded_free(&d), guarded_free(&v);
}

START_TEST(spread) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    const struct maps w = maps_of(2);
    for (int fill = 0; fill < fill_count; fill++)
        for (int tiles = 1; tiles <= 13; tiles += 4)
            for (int columns = 1; columns <= 2 * tiles + 2; columns++)
                for (int lines = 1; lines <= 3; lines++) {
                    float *first[4] = {0};
                    for (int i = 0; i < count; i++)
                        check_spread(&w, isas[i], tiles, lines, columns, (enum fill)fill, (uint64_t)(100 * tiles + columns), first);
                    for (int r = 0; r < 4; r++) free(first[r]);
                }
    printf("spread: worst error / bound %.3f\n", worst);
}
END_TEST

/* All rows of dU, [row][point of it][channel][vector][16], into dg; both guarded. */
static void run_gather(const struct fdm_kernels *kernels, float *dg, const float *u, ptrdiff_t row, ptrdiff_t point,
                       int channels, int vectors, float scale) {
    struct fdm_winograd_gather a = {.dg = dg, .u_point = point, .channels = channels, .vectors = vectors, .scale = scale};
    for (a.row = 0; a.row < 4; a.row++) {
        a.u = u + a.row * row;
        kernels->winograd2_gather(&a);
    }
}

static void check_gather(const struct maps *w, enum fdm_isa isa, int channels, int vectors, enum fill fill, float scale,
                         uint64_t seed, float **first) {
    const struct matrix g = transposed(&w->g);
    const ptrdiff_t one = (ptrdiff_t)channels * vectors * LANES, point = one + 3 * LANES, row = 4 * point;
    struct guarded dg = nans((size_t)(one * 9)), u = nans((size_t)(15 * point + one));
    uint64_t state = seed;
    for (int p = 0; p < 16; p++)
        for (ptrdiff_t i = 0; i < one; i++) u.p[p * point + i] = f32_value(&state, fill);
    run_gather(fdm_kernels_for(isa), dg.p, u.p, row, point, channels, vectors, scale);
    same_bits(first, &dg, "gather", isa);
    for (ptrdiff_t i = 0; i < one; i++) {
        struct matrix points = {.rows = 4, .columns = 4}, bound;
        for (int p = 0; p < 16; p++) points.at[p / 4][p % 4] = (double)u.p[p * point + i];
        const struct matrix want = sandwich(&g, &points, &bound);
        const ptrdiff_t vector = (ptrdiff_t)vectors * LANES, channel = i / vector, rest = i % vector;
        for (int tap = 0; tap < 9; tap++)
            judge("gather", isa, (double)dg.p[(channel * 9 + tap) * vector + rest], want.at[tap / 3][tap % 3] * (double)scale,
                  bound.at[tap / 3][tap % 3] * (double)scale, fill, 5); /* 2 along, 2 across, the scale */
    }
    guarded_free(&dg), guarded_free(&u);
}

START_TEST(gather) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    const struct maps w = maps_of(2);
    for (int fill = 0; fill < fill_count; fill++)
        for (int channels = 1; channels <= 16; channels += 5)
            for (int vectors = 1; vectors <= 4; vectors++)
                for (int scaled = 0; scaled < 2; scaled++) {
                    const float scale = !scaled ? 1 : fill == FILL_EXACT ? 0.25f : 0.70710678f;
                    float *first = NULL;
                    for (int i = 0; i < count; i++)
                        check_gather(&w, isas[i], channels, vectors, (enum fill)fill, scale, (uint64_t)(channels * 7 + vectors), &first);
                    free(first);
                }
    printf("gather: worst error / bound %.3f\n", worst);
}
END_TEST

/* <A dY A^T, M> = <dY, A^T M A> and <G g G^T, U> = <g, G^T U G>, exactly, lane by lane, kernel against kernel. */
START_TEST(adjoints) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas);
    static const uint8_t whole[] = {2};
    static const ptrdiff_t here[] = {0};
    _Alignas(64) float dy[4][LANES], m[16][LANES], y[4][LANES], sums[4][LANES], spread_of[16][LANES];
    _Alignas(64) float g[9][LANES], u[16][LANES], weights[16][LANES], dg[9][LANES];
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < count; i++) {
            const struct fdm_kernels *k = fdm_kernels_for(isas[i]);
            uint64_t state = (uint64_t)round;
            for (int l = 0; l < LANES; l++) {
                for (int p = 0; p < 4; p++) dy[p][l] = f32_value(&state, FILL_EXACT);
                for (int p = 0; p < 16; p++) m[p][l] = f32_value(&state, FILL_EXACT), u[p][l] = f32_value(&state, FILL_EXACT);
                for (int p = 0; p < 9; p++) g[p][l] = f32_value(&state, FILL_EXACT);
            }
            struct fdm_winograd_output o = {.y = sums[0], .m_point = LANES, .m_tile = LANES, .y_point = LANES, .tiles = 1, .lanes = LANES,
                                            .rows = whole, .columns = whole, .scale = 1, .out = {y[0], here, 2 * LANES}};
            struct fdm_winograd_spread s = {.m_point = LANES, .tiles = 1, .d_out = dy[0], .d_line = 2 * LANES, .lines = 2, .columns = 2};
            for (int row = 0; row < 4; row++) {
                o.m = m[4 * row], o.row = row, s.m = spread_of[4 * row], s.row = row;
                k->winograd2_output(&o);
                k->winograd2_spread(&s);
            }
            k->winograd2_weight(weights[0], LANES, g[0]);
            run_gather(k, dg[0], u[0], 4 * LANES, LANES, 1, 1, 1);
            for (int l = 0; l < LANES; l++) {
                double at_points = 0, at_pixels = 0, at_products = 0, at_taps = 0;
                for (int p = 0; p < 16; p++) at_points += (double)spread_of[p][l] * (double)m[p][l];
                for (int p = 0; p < 4; p++) at_pixels += (double)dy[p][l] * (double)y[p][l];
                for (int p = 0; p < 16; p++) at_products += (double)weights[p][l] * (double)u[p][l];
                for (int p = 0; p < 9; p++) at_taps += (double)g[p][l] * (double)dg[p][l];
                EXPECT(at_points == at_pixels, "%s: <A dY A^T, M> = %g, <dY, A^T M A> = %g", fdm_isa_name(isas[i]), at_points, at_pixels);
                EXPECT(at_products == at_taps, "%s: <G g G^T, U> = %g, <g, G^T U G> = %g", fdm_isa_name(isas[i]), at_products, at_taps);
            }
        }
}
END_TEST

/* ---- all three: one tile is a correlation, lane by lane ---- */

START_TEST(one_tile_correlates) {
    enum fdm_isa isas[FDM_ISA_COUNT];
    const int count = f32_isas(isas), m = _i, size = m + 2;
    const uint8_t whole[] = {(uint8_t)m};
    static const ptrdiff_t here[] = {0};
    _Alignas(64) float d[MAX_SIZE][MAX_SIZE * LANES], g[9 * LANES], v[MAX_SIZE * LANES], u[MAX_SIZE * MAX_SIZE * LANES];
    _Alignas(64) float line[MAX_SIZE * LANES], sums[16 * LANES], y[16 * LANES];
    for (int round = 0; round < 4 * ROUNDS; round++)
        for (int i = 0; i < count; i++) {
            const struct fdm_kernels *k = fdm_kernels_for(isas[i]);
            const enum fill fill = round % 2 ? FILL_EXACT : FILL_RANDOM;
            uint64_t state = (uint64_t)round;
            for (int p = 0; p < size * size * LANES; p++) d[p / LANES / size][p % (size * LANES)] = f32_value(&state, fill);
            for (int p = 0; p < 9 * LANES; p++) g[p] = f32_value(&state, fill);
            struct fdm_winograd_input in = {.v = v, .v_point = LANES, .columns = size, .tiles = 1, .line = line};
            struct fdm_winograd_output o = {.m = v, .y = sums, .m_point = LANES, .m_tile = LANES, .y_point = LANES, .tiles = 1,
                                            .lanes = LANES, .rows = whole, .columns = whole, .scale = 1, .out = {y, here, m * LANES}};
            for (int r = 0; r < size; r++) in.rows[r] = d[r];
            run_weight(k, m, u, LANES, g);
            for (int row = 0; row < size; row++) {
                in.row = o.row = row;
                run_input(k, m, &in);
                for (int p = 0; p < size * LANES; p++) v[p] *= u[row * size * LANES + p];
                run_output(k, m, &o);
            }
            for (int p = 0; p < m * m * LANES; p++) {
                const int l = p % LANES, at = p / LANES % m, down = p / LANES / m;
                double want = 0, taps = 0, tile = 0;
                for (int t = 0; t < 9; t++) {
                    want += (double)g[t * LANES + l] * (double)d[down + t / 3][(at + t % 3) * LANES + l];
                    taps += fabs((double)g[t * LANES + l]);
                }
                for (int t = 0; t < size * size; t++) tile += fabs((double)d[t / size][t % size * LANES + l]);
                judge("tile", isas[i], (double)y[p], want, winograd_amplification(m) * taps * tile,
                      m == 2 ? fill : FILL_RANDOM, WINOGRAD_ROUNDINGS);
            }
        }
    printf("one tile, m = %d: worst error / bound %.4f\n", m, worst);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("winograd_maps");
    TCase *tests = tcase_create("maps");
    tcase_set_timeout(tests, 600);
    for (int m = 2; m <= 4; m += 2) {
        tcase_add_loop_test(tests, input, m, m + 1);
        tcase_add_loop_test(tests, output, m, m + 1);
        tcase_add_loop_test(tests, weight, m, m + 1);
        tcase_add_loop_test(tests, one_tile_correlates, m, m + 1);
    }
    tcase_add_test(tests, spread);
    tcase_add_test(tests, gather);
    tcase_add_test(tests, adjoints);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
