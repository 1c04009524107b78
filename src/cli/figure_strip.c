/* figure_strip.c - a picture diffused by the six frameworks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/process.h"
#include "fdm/dataset.h"
#include "fdm/png.h"
#include "fdm/precond.h"
#include "fdm/random.h"
#include "fdm/simulate.h"

enum { MOST = 1 << 20 }; /* pixels of the picture */

/* An RGB picture, (height, width, 3). */
struct picture {
    int width, height;
    float *x;        /* -1..1 */
    float *noise, *y; /* of the same shape */
};

static void picture_free(struct picture *p) {
    free(p->x);
    free(p->noise);
    free(p->y);
}

static fdm_status picture_new(struct picture *p, int width, int height, fdm_error *err) {
    const size_t n = 3 * (size_t)width * (size_t)height;
    if ((int64_t)width * height > MOST) return fdm_fail(err, FDM_BAD_INPUT, "--image: %d x %d pixels: too large for a strip", width, height);
    *p = (struct picture){width, height, malloc(n * sizeof(float)), malloc(n * sizeof(float)), malloc(n * sizeof(float))};
    return p->x && p->noise && p->y ? FDM_OK : fdm_fail_oom(err, "picture", 3 * n * sizeof(float));
}

static bool is_png(const char *path) {
    const size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".png") == 0;
}

static fdm_status read_png(struct picture *p, const char *path, fdm_error *err) {
    fdm_image image;
    fdm_status status = fdm_png_read(&image, path, 3, err);
    if (status == FDM_OK) status = picture_new(p, image.width, image.height, err);
    for (size_t i = 0; status == FDM_OK && i < 3 * (size_t)image.width * (size_t)image.height; i++)
        p->x[i] = (float)image.pixels[i] / 127.5f - 1;
    fdm_image_free(&image);
    return status;
}

/* Image `index` of a data set, planes to pixels. */
static fdm_status read_set(struct picture *p, const char *path, int64_t index, fdm_error *err) {
    fdm_dataset *set = NULL;
    fdm_status status = fdm_dataset_open(&set, path, NULL, err);
    if (status != FDM_OK) return status;
    const int side = fdm_dataset_resolution(set), channels = fdm_dataset_channels(set);
    const size_t area = (size_t)side * (size_t)side;
    uint8_t *pixels = malloc(area * (size_t)channels);
    if (!pixels) status = fdm_fail_oom(err, "picture", area * (size_t)channels);
    if (status == FDM_OK && index >= fdm_dataset_count(set))
        status = fdm_fail(err, FDM_BAD_USAGE, "--index %lld: %s has %lld images", (long long)index, path,
                          (long long)fdm_dataset_count(set));
    if (status == FDM_OK) status = fdm_dataset_image(set, index, pixels, err);
    if (status == FDM_OK) status = picture_new(p, side, side, err);
    for (size_t i = 0; status == FDM_OK && i < area; i++)
        for (size_t c = 0; c < 3; c++) p->x[3 * i + c] = (float)pixels[(channels == 3 ? c * area : 0) + i] / 127.5f - 1;
    free(pixels);
    fdm_dataset_free(&set);
    return status;
}

/* c_in (x0 + sigma eps) as pixels, clipped. */
static fdm_status show(struct fdm_figure *f, struct fdm_panel *panel, struct picture *p, const fdm_precond *precond, double sigma,
                       const struct fdm_cli *cli, fdm_error *err) {
    const size_t n = 3 * (size_t)p->width * (size_t)p->height;
    fdm_precond_coeffs c;
    fdm_precond_coeffs_f64(&c, precond, sigma);
    const float narrow = (float)sigma, scale = (float)c.c_in;
    const fdm_perturb_options how = {cli->threads, cli->isa};
    const fdm_status status = fdm_perturb(p->y, p->x, p->noise, &narrow, &scale, 1, n, &how, err);
    uint8_t *pixels = fdm_figure_pixels(f, n / 3);
    for (size_t i = 0; status == FDM_OK && pixels && i < n; i++)
        pixels[i] = (uint8_t)fmax(0, fmin(255, (double)p->y[i] * 127.5 + 127.5));
    panel->pixels = pixels, panel->width = p->width, panel->height = p->height;
    return status;
}

fdm_status fdm_figure_strip(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli, fdm_error *err) {
    static const fdm_precond_kind kinds[] = {FDM_PRECOND_VP,     FDM_PRECOND_FDM_VP, FDM_PRECOND_VE,
                                             FDM_PRECOND_FDM_VE, FDM_PRECOND_EDM,    FDM_PRECOND_FDM_EDM};
    static const char *const names[] = {"VP", "VP-FDM", "VE", "VE-FDM", "EDM", "EDM-FDM"};
    static const double sigmas[] = {0.1, 0.3, 1, 3, 10, 30, 50, 75};
    enum { ROWS = 6, COLUMNS = 8 };
    struct picture p = {0};
    if (!o->image)
        return fdm_fail(err, FDM_BAD_USAGE, "--figure strip needs --image, a PNG file or a data set such as data/emoji32.zip");
    if (!o->plot) return fdm_fail(err, FDM_BAD_USAGE, "--figure strip has no numbers to print; give --plot");
    fdm_status status = is_png(o->image) ? read_png(&p, o->image, err) : read_set(&p, o->image, o->index, err);
    if (status == FDM_OK)
        status = fdm_figure_start(out, "The network's input c_in · (x₀ + σε), one picture, one noise", ROWS, COLUMNS, err);
    if (status == FDM_OK) {
        fdm_rng rng;
        fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, (uint64_t)o->seed);
        fdm_rng_normal_f32(&rng, p.noise, 3 * (size_t)p.width * (size_t)p.height);
        (*out)->panel_width = 72, (*out)->panel_height = 72.0 * p.height / p.width, (*out)->zoom = 32 * ceil(64 / 32.0) / 72.0;
    }
    for (int i = 0; i < ROWS * COLUMNS && status == FDM_OK; i++) {
        char title[32] = "";
        fdm_precond precond;
        if (i < COLUMNS) snprintf(title, sizeof title, "σ = %g", sigmas[i]);
        status = fdm_precond_init(&precond, kinds[i / COLUMNS], o->fdm_multiplier, err);
        struct fdm_panel *panel = fdm_figure_panel(*out, i, title, "", names[i / COLUMNS]);
        if (status == FDM_OK) status = show(*out, panel, &p, &precond, sigmas[i % COLUMNS], cli, err);
    }
    picture_free(&p);
    return status;
}
