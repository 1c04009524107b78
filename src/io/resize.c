/* resize.c - images cut and scaled by a Lanczos filter. */
#include "io/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double lobes = 3;

static double lanczos(double t) {
    const double pi_t = 3.14159265358979323846 * t;
    if (t == 0) return 1;
    if (fabs(t) >= lobes) return 0;
    return lobes * sin(pi_t) * sin(pi_t / lobes) / (pi_t * pi_t);
}

/* Output i of an axis is the sum of weights[i * taps + k] * in[first[i] + k]. */
struct axis {
    int taps;
    int *first;
    double *weights;
};

static bool make_axis(struct axis *a, int in, int out) {
    const double ratio = (double)in / out, scale = ratio > 1 ? ratio : 1;
    const size_t count = (size_t)out;
    a->taps = fdm_min_int(in, (int)ceil(2 * lobes * scale) + 1);
    a->first = calloc(count, sizeof *a->first);
    a->weights = calloc(count * (size_t)a->taps, sizeof *a->weights);
    if (!a->first || !a->weights) return false;
    for (int i = 0; i < out; i++) {
        double centre = (i + 0.5) * ratio, sum = 0, *w = a->weights + (size_t)i * (size_t)a->taps;
        int first = (int)floor(centre - lobes * scale);
        a->first[i] = first = fdm_max_int(0, fdm_min_int(first, in - a->taps));
        for (int k = 0; k < a->taps; k++) sum += w[k] = lanczos((first + k + 0.5 - centre) / scale);
        for (int k = 0; k < a->taps; k++) w[k] /= sum;
    }
    return true;
}

static void free_axis(struct axis *a) {
    free(a->first);
    free(a->weights);
}

/* (height, width, channels) -> (height, out_width, channels) */
static void filter_rows(double *out, const fdm_image *in, struct fdm_rectangle from, int out_width,
                        const struct axis *a) {
    const size_t c = (size_t)in->channels, taps = (size_t)a->taps;
    for (int y = 0; y < from.height; y++) {
        const uint8_t *row = in->pixels + ((size_t)(from.y + y) * (size_t)in->width + (size_t)from.x) * c;
        for (int x = 0; x < out_width; x++)
            for (size_t i = 0; i < c; i++) {
                double sum = 0;
                for (size_t k = 0; k < taps; k++)
                    sum += a->weights[(size_t)x * taps + k] * row[((size_t)a->first[x] + k) * c + i];
                *out++ = sum;
            }
    }
}

static uint8_t to_byte(double v) { return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)lround(v); }

/* (rows, row) -> (out_rows, row) */
static void filter_columns(uint8_t *out, const double *in, size_t row, int out_rows, const struct axis *a) {
    const size_t taps = (size_t)a->taps;
    for (int y = 0; y < out_rows; y++)
        for (size_t x = 0; x < row; x++) {
            double sum = 0;
            for (size_t k = 0; k < taps; k++)
                sum += a->weights[(size_t)y * taps + k] * in[((size_t)a->first[y] + k) * row + x];
            *out++ = to_byte(sum);
        }
}

static fdm_status scale(fdm_image *out, const fdm_image *in, struct fdm_rectangle from, fdm_error *err) {
    struct axis across = {0}, down = {0};
    const size_t row = (size_t)out->width * (size_t)out->channels;
    double *half = calloc((size_t)from.height, row * sizeof *half);
    fdm_status status = FDM_OK;
    if (half && make_axis(&across, from.width, out->width) && make_axis(&down, from.height, out->height)) {
        filter_rows(half, in, from, out->width, &across);
        filter_columns(out->pixels, half, row, out->height, &down);
    } else
        status = fdm_fail_oom(err, "resized image", (size_t)from.height * row * sizeof *half);
    free_axis(&across);
    free_axis(&down);
    free(half);
    return status;
}

fdm_status fdm_image_resize(fdm_image *out, const fdm_image *in, struct fdm_rectangle from, int width, int height,
                            fdm_error *err) {
    const size_t c = (size_t)in->channels, bytes = (size_t)width * (size_t)height * c;
    fdm_status status = FDM_OK;
    *out = (fdm_image){.width = width, .height = height, .channels = in->channels, .pixels = malloc(bytes)};
    if (!out->pixels)
        status = fdm_fail_oom(err, "resized image", bytes);
    else if (width != from.width || height != from.height)
        status = scale(out, in, from, err);
    else
        for (int y = 0; y < height; y++)
            memcpy(out->pixels + (size_t)y * (size_t)width * c,
                   in->pixels + ((size_t)(from.y + y) * (size_t)in->width + (size_t)from.x) * c, (size_t)width * c);
    if (status) fdm_image_free(out);
    return status;
}
