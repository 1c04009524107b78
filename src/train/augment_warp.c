/* augment_warp.c - pad, upsample, sample along the affine map, downsample: one image, in f64.
 *
 * Inside, pixels are interleaved (row, column, channel): the filters run over contiguous memory, and a bilinear sample
 * reads all channels of a pixel at once.  The padded image is never made: its columns are copies of the image's
 * columns, its rows are upsampled rows of the image again.  And only the part of the upsampled image that the map can
 * reach is computed: each of its elements is a sum of its own, so what is left out changes nothing. */
#include "train/augment_warp.h"

#include <math.h>
#include <string.h>

enum {
    TAPS = 12,
    HALF_TAPS = 6,  /* taps of the upsampling filter that meet a pixel, not an inserted zero */
    PAD = 3,        /* pixels by which the sampled grid exceeds the image on each side */
    DOWN_OFFSET = 1 /* first sample that output pixel 0 uses: stride 2 * crop 3 - padding 5 */
};

/* The low-pass of the orthogonal wavelet sym6, rounded to f32 as published. */
static const float low_pass[TAPS] = {0.015404109327027373f, 0.0034907120842174702f, -0.11799011114819057f,
                                     -0.048311742585633f,   0.4910559419267466f,    0.787641141030194f,
                                     0.3379294217276218f,   -0.07263752278646252f,  -0.021060292512300564f,
                                     0.04472490177066578f,  0.0017677118642428036f, -0.007800708325034148f};

/* Positions first .. end - 1 of the upsampled image; those just outside (-1, size, size + 1) are allowed, and zero. */
struct range {
    int first, end;
};

static int length(struct range r) { return r.end - r.first; }

/* Sizes, and where the buffers lie in the scratch. */
struct warp {
    int channels, R;
    int grid;               /* 2 (R + 6): side of the sampled grid */
    int padded_w, padded_h; /* of the padded image */
    double A[2][2], b[2];   /* grid position (column, row) to upsampled position (x, y) */
    struct range x, y;      /* what the map reaches */
    double *rows;           /* [R][length(x)][channels]: image rows, upsampled along x */
    double *line;           /* [3][padded_w][channels] */
    double *up;             /* [length(y)][length(x)][channels] */
    double *sampled;        /* [grid][grid][channels] */
    double *down;           /* [grid][channels] */
};

/* Elements of the buffers; SIZE_MAX if they cannot be counted. */
static size_t buffer_elements(int channels, int R, fdm_augment_margin m) {
    const size_t c = (size_t)channels, r = (size_t)R, grid = 2 * (r + 2 * PAD);
    const size_t w = r + (size_t)m.x0 + (size_t)m.x1, h = r + (size_t)m.y0 + (size_t)m.y1;
    const size_t up_w = 2 * w + 3, up_h = 2 * h + 3; /* positions -1 .. size + 1 */
    const size_t areas = r * up_w + 3 * w + up_w * up_h + grid * grid + grid; /* R <= 4096: no overflow */
    size_t elements;
    return fdm_mul_size(&elements, areas, c) ? elements : SIZE_MAX;
}

size_t fdm_augment_scratch(int channels, int resolution, fdm_augment_margin margin) {
    size_t bytes;
    return fdm_mul_size(&bytes, buffer_elements(channels, resolution, margin), sizeof(double))
               ? fdm_round_up(bytes, 64)
               : SIZE_MAX;
}

/* From pixels around the image's centre to positions of grid and upsampled image, both counted from the middle of
 * their first sample: the upsampled image has two samples per pixel, and so has the grid. */
static void set_map(struct warp *w, const fdm_augment_map *map, fdm_augment_margin m) {
    const double shift[2] = {(m.x0 - m.x1) / 2.0, (m.y0 - m.y1) / 2.0};
    const double size[2] = {2.0 * w->padded_w, 2.0 * w->padded_h};
    const double middle = 0.5 - w->grid / 2.0; /* of grid sample 0, from the grid's centre */
    for (int i = 0; i < 2; i++) {
        w->A[i][0] = map->G[i][0];
        w->A[i][1] = map->G[i][1];
        /* upsampled samples lie half a sample to the left of the pixel grid's middle, hence the halves */
        const double half = 0.5 * (map->G[i][0] + map->G[i][1]) - 0.5;
        const double centre = 2 * (map->G[i][2] + shift[i]) + half + (size[i] - 1) / 2;
        w->b[i] = centre + middle * (map->G[i][0] + map->G[i][1]);
    }
}

/* v, or the nearest of -1 and `size`, where everything is zero; NaN becomes -1. */
static double clamp_position(double v, int size) {
    v = v > -1 ? v : -1;
    return v < size ? v : size;
}

/* Positions that coordinate `i` of the map takes on the grid, each with its right neighbour. */
static struct range reached(const struct warp *w, int i, int size) {
    const double last = w->grid - 1, dx = w->A[i][0] * last, dy = w->A[i][1] * last;
    const double low = w->b[i] + fmin(dx, 0) + fmin(dy, 0), high = w->b[i] + fmax(dx, 0) + fmax(dy, 0);
    /* a position more on each side for rounding */
    return (struct range){(int)floor(clamp_position(low - 1, size)), (int)floor(clamp_position(high + 1, size)) + 2};
}

/* Index of an image row or column at position k of the padded image, reflected at the edges and flipped. */
static int source(int k, int margin, int R, bool flip) {
    k -= margin;
    if (k < 0) k = -k;
    if (k >= R) k = 2 * (R - 1) - k;
    return flip ? R - 1 - k : k;
}

/* Upsampled position o = sum over j < 6 of up_tap(o, j) times pixel first_pixel(o) + j: the taps of the reversed
 * low-pass that meet a pixel and not one of the zeros between them. */
static int first_pixel(int o) { return o % 2 ? (o - 1) / 2 - 2 : o / 2 - 3; }
static double up_tap(int o, int j) { return low_pass[TAPS - 1 - (2 * j + o % 2)]; }

/* out[i] += tap * in[i] */
static void add_scaled(double *restrict out, const double *restrict in, double tap, int count) {
#pragma omp simd
    for (int i = 0; i < count; i++) out[i] += tap * in[i];
}

/* Padded pixels that exist among the six of position o. */
static struct range pixels_of(int o, int pixels) {
    const int first = first_pixel(o);
    return (struct range){fdm_max_int(first, 0), fdm_min_int(first + HALF_TAPS, pixels)};
}

/* Every second position of one upsampled row: phase 0 or 1, all pixels at once; out [padded_w][channels]. */
static void upsample_phase(double *out, const double *line, int pixels, int channels, int phase) {
    memset(out, 0, (size_t)pixels * (size_t)channels * sizeof *out);
    for (int j = 0; j < HALF_TAPS; j++) {
        const int shift = first_pixel(phase) + j; /* pixel m + shift goes to position 2 m + phase */
        const int from = fdm_max_int(0, -shift), to = fdm_min_int(pixels, pixels - shift);
        if (from < to)
            add_scaled(out + (size_t)from * (size_t)channels, line + (size_t)(from + shift) * (size_t)channels,
                       up_tap(phase, j), (to - from) * channels);
    }
}

/* One image row: flipped, padded, upsampled along x; out [length(x)][channels]. */
static void upsample_row(double *out, const struct warp *w, const double *image, int row, int margin, bool flip) {
    const int C = w->channels;
    const size_t plane = (size_t)w->R * (size_t)w->R, line_size = (size_t)w->padded_w * (size_t)C;
    double *line = w->line, *phases[2] = {line + line_size, line + 2 * line_size};
    for (int k = 0; k < w->padded_w; k++) {
        const double *pixel = image + (size_t)row * (size_t)w->R + (size_t)source(k, margin, w->R, flip);
        for (int c = 0; c < C; c++) line[(size_t)k * (size_t)C + (size_t)c] = pixel[(size_t)c * plane];
    }
    for (int phase = 0; phase < 2; phase++) upsample_phase(phases[phase], line, w->padded_w, C, phase);
    for (int o = w->x.first; o < w->x.end; o++, out += C) {
        const bool inside = o >= 0 && o < 2 * w->padded_w;
        for (int c = 0; c < C; c++) out[c] = inside ? phases[o % 2][(size_t)(o / 2) * (size_t)C + (size_t)c] : 0;
    }
}

/* up = the reachable part of the upsampled image. */
static void upsample(const struct warp *w, const double *image, const fdm_augment_map *map, fdm_augment_margin m) {
    const int count = length(w->x) * w->channels;
    for (int row = 0; row < w->R; row++)
        upsample_row(w->rows + (size_t)row * (size_t)count, w, image, row, m.x0, map->xflip);
    for (int o = w->y.first; o < w->y.end; o++) {
        double *out = w->up + (size_t)(o - w->y.first) * (size_t)count;
        memset(out, 0, (size_t)count * sizeof *out);
        if (o < 0 || o >= 2 * w->padded_h) continue;
        const struct range pixels = pixels_of(o, w->padded_h);
        for (int k = pixels.first; k < pixels.end; k++)
            add_scaled(out, w->rows + (size_t)source(k, m.y0, w->R, map->yflip) * (size_t)count,
                       up_tap(o, k - first_pixel(o)), count);
    }
}

/* sampled = bilinear samples of the upsampled image along the map, zero outside. */
static void sample(const struct warp *w) {
    const int C = w->channels;
    const size_t stride = (size_t)length(w->x) * (size_t)C;
    double *out = w->sampled;
    for (int i = 0; i < w->grid; i++) {
        for (int j = 0; j < w->grid; j++, out += C) {
            const double x = clamp_position(w->A[0][0] * j + w->A[0][1] * i + w->b[0], 2 * w->padded_w);
            const double y = clamp_position(w->A[1][0] * j + w->A[1][1] * i + w->b[1], 2 * w->padded_h);
            const int left = (int)(x + 1) - 1, top = (int)(y + 1) - 1; /* floor: x, y >= -1 */
            const double right = x - left, bottom = y - top;
            const double w00 = (1 - right) * (1 - bottom), w01 = right * (1 - bottom), w10 = (1 - right) * bottom,
                         w11 = right * bottom;
            const double *p = w->up + (size_t)(top - w->y.first) * stride + (size_t)(left - w->x.first) * (size_t)C;
            for (int c = 0; c < C; c++)
                out[c] = p[c] * w00 + p[c + C] * w01 + p[stride + (size_t)c] * w10 + p[stride + (size_t)(c + C)] * w11;
        }
    }
}

/* out = samples through the low-pass, every second kept, along y then x (published: x then y, the same sum). */
static void downsample(double *out, const struct warp *w) {
    const int C = w->channels, count = w->grid * C;
    const size_t plane = (size_t)w->R * (size_t)w->R;
    for (int row = 0; row < w->R; row++) {
        memset(w->down, 0, (size_t)count * sizeof *w->down);
        for (int j = 0; j < TAPS; j++)
            add_scaled(w->down, w->sampled + (size_t)(2 * row + DOWN_OFFSET + j) * (size_t)count, low_pass[j], count);
        for (int column = 0; column < w->R; column++) {
            for (int c = 0; c < C; c++) {
                const double *in = w->down + (size_t)(2 * column + DOWN_OFFSET) * (size_t)C + (size_t)c;
                double sum = 0;
                for (int j = 0; j < TAPS; j++) sum += low_pass[j] * in[(size_t)j * (size_t)C];
                out[(size_t)c * plane + (size_t)row * (size_t)w->R + (size_t)column] = sum;
            }
        }
    }
}

static void export_samples(double *warped, const struct warp *w) {
    const size_t samples = (size_t)w->grid * (size_t)w->grid;
    for (size_t i = 0; i < samples; i++)
        for (int c = 0; c < w->channels; c++)
            warped[(size_t)c * samples + i] = w->sampled[i * (size_t)w->channels + (size_t)c];
}

void fdm_augment_warp(double *out, double *warped, const double *image, const fdm_augment_map *map, int channels,
                      int resolution, fdm_augment_margin m, void *scratch) {
    struct warp w = {.channels = channels,
                     .R = resolution,
                     .grid = 2 * (resolution + 2 * PAD),
                     .padded_w = resolution + m.x0 + m.x1,
                     .padded_h = resolution + m.y0 + m.y1};
    const size_t C = (size_t)channels, grid = (size_t)w.grid;
    set_map(&w, map, m);
    w.x = reached(&w, 0, 2 * w.padded_w);
    w.y = reached(&w, 1, 2 * w.padded_h);
    w.rows = scratch;
    w.line = w.rows + (size_t)resolution * (size_t)length(w.x) * C;
    w.sampled = w.line + 3 * (size_t)w.padded_w * C;
    w.down = w.sampled + grid * grid * C;
    w.up = w.down + grid * C;
    upsample(&w, image, map, m);
    sample(&w);
    if (warped) export_samples(warped, &w);
    downsample(out, &w);
}
