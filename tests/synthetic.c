/* synthetic.c - see synthetic.h */
#include "synthetic.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/random.h"
#include "io/image_file.h"
#include "io/zip_write.h"

fdm_features synthetic_normal(int64_t n, int d, uint64_t seed) {
    fdm_features x = {malloc((size_t)n * (size_t)d * sizeof(double)), n, d};
    fdm_rng rng;
    ck_assert_ptr_nonnull(x.values);
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, seed);
    fdm_rng_normal_f64(&rng, x.values, (size_t)n * (size_t)d);
    return x;
}

void synthetic_affine(fdm_features *x, double scale, double shift) {
    for (int64_t i = 0; i < x->n * x->d; i++) x->values[i] = x->values[i] * scale + shift;
}

static size_t image_bytes(const fdm_images *x) {
    return (size_t)x->channels * (size_t)x->resolution * (size_t)x->resolution;
}

fdm_images synthetic_noise(int64_t n, int channels, int resolution, uint64_t seed) {
    fdm_images x = {.n = n, .channels = channels, .resolution = resolution};
    const size_t count = (size_t)n * image_bytes(&x);
    int64_t *values = malloc(count * sizeof *values);
    fdm_rng rng;
    x.pixels = malloc(count);
    ck_assert(x.pixels != NULL && values != NULL);
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, seed);
    fdm_rng_randint(&rng, values, count, 256);
    for (size_t i = 0; i < count; i++) x.pixels[i] = (uint8_t)values[i];
    free(values);
    return x;
}

fdm_images synthetic_stripes(int64_t n, int channels, int resolution, int classes, uint64_t seed) {
    fdm_images x = synthetic_noise(n, channels, resolution, seed);
    const size_t bytes = image_bytes(&x);
    for (int64_t i = 0; i < n; i++)
        for (size_t p = 0; p < bytes; p++) {
            const int column = (int)(p % (size_t)resolution), stripe = (int)(i % classes) * resolution / classes;
            uint8_t *pixel = &x.pixels[(size_t)i * bytes + p];
            *pixel = (uint8_t)(*pixel / 4 + (column == stripe ? 180 : 0));
        }
    return x;
}

void synthetic_zip(const char *path, const fdm_images *images, int classes) {
    const size_t side = (size_t)images->resolution, plane = side * side, channels = (size_t)images->channels;
    struct fdm_zip_writer zip;
    fdm_error err = {0};
    char *json = malloc(64 + 32 * (size_t)images->n), name[32];
    uint8_t *interleaved = malloc(plane * channels), *png;
    size_t used = (size_t)sprintf(json, "{\"labels\": %s", classes ? "[" : "null");
    ck_assert_msg(fdm_zip_begin(&zip, path, &err) == FDM_OK, "%s", err.message);
    for (int64_t i = 0; i < images->n; i++) {
        const uint8_t *from = images->pixels + (size_t)i * plane * channels;
        size_t bytes;
        for (size_t p = 0; p < plane * channels; p++) interleaved[p % plane * channels + p / plane] = from[p];
        snprintf(name, sizeof name, "%06d.png", (int)i);
        ck_assert_int_eq(fdm_png_format(&png, &bytes, interleaved, (int)side, (int)side, (int)channels, name, &err), FDM_OK);
        ck_assert_int_eq(fdm_zip_add(&zip, name, png, bytes, NULL, 0, &err), FDM_OK);
        if (classes) used += (size_t)sprintf(json + used, "%s[\"%s\",%d]", i ? "," : "", name, (int)(i % classes));
        free(png);
    }
    used += (size_t)sprintf(json + used, classes ? "]}" : "}");
    ck_assert_int_eq(fdm_zip_add(&zip, "dataset.json", json, used, NULL, 0, &err), FDM_OK);
    ck_assert_int_eq(fdm_zip_finish(&zip, &err), FDM_OK);
    free(interleaved);
    free(json);
}
