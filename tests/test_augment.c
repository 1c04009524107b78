/* test_augment.c - the augmentation pipe against recorded runs, its invariants, and recorded draws of hostile files. */
#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/augment.h"
#include "golden.h"
#include "io_util.h"
#include "oom.h"
#include "suite.h"
#include "train/augment_warp.h"

/* Two f64 programs differ by rounding; the taps' sums stay below 2. */
#define TOL_F64 1e-13
/* The published f32 result is up to 2.8e-6 from its own f64 result (positions of up to 100 samples rounded to f32). */
#define TOL_F32 3e-6
#define TOL_WARPED 4e-6
/* f32 products of a handful of rotations. */
#define TOL_THETA 3e-7
/* cos and sin in the last bit. */
#define TOL_LABELS 1.2e-7

struct recorded {
    fdm_tensors set;
    int n, channels, R;
    double p;
    double *images;
    fdm_augment_draws *draws;
};

static void load(struct recorded *r, const char *file) {
    fdm_error err;
    golden_load(&r->set, file);
    r->n = golden_dim(&r->set, "", "images", 0);
    r->channels = golden_dim(&r->set, "", "images", 1);
    r->R = golden_dim(&r->set, "", "images", 2);
    r->p = strtod(fdm_tensors_meta(&r->set, "p"), NULL);
    r->images = golden_f64(&r->set, "", "images");
    r->draws = calloc((size_t)r->n, sizeof *r->draws);
    ck_assert_ptr_nonnull(r->draws);
    ck_assert_msg(fdm_augment_draws_from_tensors(r->draws, r->n, &r->set, "draw", file, &err) == FDM_OK, "%s",
                  err.message);
}

static void unload(struct recorded *r) {
    free(r->images);
    free(r->draws);
    fdm_tensors_free(&r->set);
}

static double compare(const fdm_tensors *set, const char *name, const double *got, size_t count, double tolerance) {
    double *want = golden_f64(set, "", name);
    ck_assert_int_eq(fdm_tensor_numel(golden_get(set, "", name)), (int64_t)count);
    const struct golden_error e = golden_compare(got, want, count);
    ck_assert_msg(e.max_abs <= tolerance, "%s: off by %.3g at %zu", name, e.max_abs, e.worst);
    free(want);
    return e.max_abs;
}

/* theta: G as the published program hands it over, between normalised grids of the output and the padded image. */
static double check_theta(const struct recorded *r, const fdm_augment_map *maps, fdm_augment_margin m) {
    double *theta = calloc((size_t)r->n, 6 * sizeof *theta);
    const double grid = 2 * (r->R + 6), size[2] = {2 * (r->R + m.x0 + m.x1), 2 * (r->R + m.y0 + m.y1)};
    const double shift[2] = {(m.x0 - m.x1) / 2.0, (m.y0 - m.y1) / 2.0};
    ck_assert_ptr_nonnull(theta);
    for (int n = 0; n < r->n; n++) {
        for (int i = 0; i < 2; i++) {
            const double *row = maps[n].G[i];
            theta[n * 6 + i * 3] = row[0] * grid / size[i];
            theta[n * 6 + i * 3 + 1] = row[1] * grid / size[i];
            theta[n * 6 + i * 3 + 2] = (2 * (row[2] + shift[i]) + 0.5 * (row[0] + row[1]) - 0.5) * 2 / size[i];
        }
    }
    const double error = compare(&r->set, "theta", theta, (size_t)r->n * 6, TOL_THETA);
    free(theta);
    return error;
}

static double check_warped(const struct recorded *r, const fdm_augment_map *maps, fdm_augment_margin m) {
    const size_t image = (size_t)r->channels * (size_t)r->R * (size_t)r->R, grid = 2 * ((size_t)r->R + 6);
    const size_t samples = (size_t)r->channels * grid * grid;
    if (!golden_find(&r->set, "", "warped")) return NAN; /* not recorded */
    double *warped = calloc((size_t)r->n * samples, sizeof *warped), *out = calloc(image, sizeof *out);
    void *scratch = malloc(fdm_augment_scratch(r->channels, r->R, m));
    ck_assert(warped && out && scratch);
    for (int n = 0; n < r->n; n++)
        fdm_augment_warp(out, warped + (size_t)n * samples, r->images + (size_t)n * image, &maps[n], r->channels, r->R,
                         m, scratch);
    const double error = compare(&r->set, "warped", warped, (size_t)r->n * samples, TOL_WARPED);
    free(warped);
    free(out);
    free(scratch);
    return error;
}

START_TEST(recorded_batches) {
    static const char *const files[] = {"augment_r16_p012.safetensors", "augment_r16_p10.safetensors",
                                        "augment_r16_p10_gray_n1.safetensors", "augment_r32_p012.safetensors"};
    struct recorded r;
    fdm_error err;
    load(&r, files[_i]);
    const size_t count = (size_t)r.n * (size_t)r.channels * (size_t)r.R * (size_t)r.R;
    double *out = calloc(count, sizeof *out), *labels = calloc((size_t)r.n, 9 * sizeof *labels);
    fdm_augment_map *maps = calloc((size_t)r.n, sizeof *maps);
    ck_assert(out && labels && maps);
    for (int n = 0; n < r.n; n++) fdm_augment_map_of(&maps[n], &r.draws[n], r.p, r.R);
    const fdm_augment_margin m = fdm_augment_margin_of(maps, r.n, r.R);
    const int64_t *pad = golden_get(&r.set, "", "pad")->data; /* left, right, top, bottom */
    ck_assert(m.x0 == pad[0] && m.x1 == pad[1] && m.y0 == pad[2] && m.y1 == pad[3]);
    const double theta = check_theta(&r, maps, m), warped = check_warped(&r, maps, m);
    ck_assert_int_eq(fdm_augment_batch(out, labels, r.images, r.draws, r.n, r.channels, r.R, r.p, FDM_AUGMENT_PAD_BATCH,
                                       2, &err), FDM_OK);
    const double label = compare(&r.set, "labels", labels, (size_t)r.n * 9, TOL_LABELS);
    const double f64 = compare(&r.set, "out_f64", out, count, TOL_F64);
    const double f32 = compare(&r.set, "out", out, count, TOL_F32);
    printf("  %s: labels %.2g, theta %.2g, warped %.2g, out %.2g of f64, %.2g of f32\n", files[_i], label, theta,
           warped, f64, f32);
    for (int n = 0; n < 9 * r.n; n++) ck_assert_double_eq(labels[n], (double)(float)labels[n]);
    free(out), free(labels), free(maps);
    unload(&r);
}
END_TEST

/* The augmented images and labels of five recorded updates. */
START_TEST(recorded_updates) {
    enum { N = 4, C = 3, R = 16 };
    fdm_tensors run;
    fdm_error err;
    double worst[2] = {0};
    golden_load(&run, "train_FDM_EDMPrecond_ddpmpp_mc8.safetensors");
    for (int step = 1; step <= 5; step++) {
        char prefix[16], draws_prefix[24], name[32];
        fdm_augment_draws draws[N];
        double labels[N * 9], out[N * C * R * R];
        snprintf(prefix, sizeof prefix, "s%d.r1.", step);
        snprintf(draws_prefix, sizeof draws_prefix, "%saug", prefix);
        ck_assert_int_eq(fdm_augment_draws_from_tensors(draws, N, &run, draws_prefix, "run", &err), FDM_OK);
        double *images = golden_f64(&run, prefix, "images");
        ck_assert_int_eq(fdm_augment_batch(out, labels, images, draws, N, C, R, 0.12, FDM_AUGMENT_PAD_BATCH, 1, &err),
                         FDM_OK);
        snprintf(name, sizeof name, "%sy", prefix);
        worst[0] = fmax(worst[0], compare(&run, name, out, N * C * R * R, TOL_F32));
        snprintf(name, sizeof name, "%saugment_labels", prefix);
        worst[1] = fmax(worst[1], compare(&run, name, labels, N * 9, TOL_LABELS));
        free(images);
    }
    printf("  5 recorded updates: images within %.2g, labels within %.2g\n", worst[0], worst[1]);
    fdm_tensors_free(&run);
}
END_TEST

static double *random_images(size_t count) {
    double *images = calloc(count, sizeof *images);
    fdm_rng rng;
    ck_assert_ptr_nonnull(images);
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, 9);
    fdm_rng_uniform_f64(&rng, images, count);
    for (size_t i = 0; i < count; i++) images[i] = 2 * images[i] - 1;
    return images;
}

static void draw_all(fdm_augment_draws *draws, int n, uint64_t seed) {
    fdm_rng rng;
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CUDA, seed);
    for (int i = 0; i < n; i++) fdm_augment_draw(&draws[i], &rng);
}

static void run(double *out, double *labels, const double *images, const fdm_augment_draws *draws, int n, int channels,
                int R, double p, fdm_augment_padding padding, int threads) {
    fdm_error err;
    ck_assert_msg(fdm_augment_batch(out, labels, images, draws, n, channels, R, p, padding, threads, &err) == FDM_OK,
                  "%s", err.message);
}

/* 1-D chain of the identity, written out: up by 2, shifted samples of the padded row, down by 2; plain loops. */
static void low_pass_row(double *out, const double *in, int R, int stride) {
    static const double taps[12] = {0.015404109327027373,  0.0034907120842174702, -0.11799011114819057,
                                    -0.048311742585633,    0.4910559419267466,    0.787641141030194,
                                    0.3379294217276218,    -0.07263752278646252,  -0.021060292512300564,
                                    0.04472490177066578,   0.0017677118642428036, -0.007800708325034148};
    double up[2 * (64 + 12)], row[64 + 12];
    const int padded = R + 12;
    for (int k = 0; k < padded; k++) {
        int i = k - 6;
        if (i < 0) i = -i;
        if (i >= R) i = 2 * (R - 1) - i;
        row[k] = in[i * stride];
    }
    for (int o = 0; o < 2 * padded; o++) {
        up[o] = 0;
        for (int j = 0; j < 12; j++) {
            const int z = o + j - 6; /* position among pixels and zeros */
            if (z >= 0 && z % 2 == 0 && z / 2 < padded) up[o] += (double)(float)taps[11 - j] * row[z / 2];
        }
    }
    for (int m = 0; m < R; m++) { /* identity: grid sample i is upsampled position i + 6; crop 3, padding 5 */
        out[m * stride] = 0;
        for (int j = 0; j < 12; j++) out[m * stride] += (double)(float)taps[j] * up[2 * (m + 3) + j - 5 + 6];
    }
}

/* With every mask off: labels are zero and the image has only passed the low-pass, up and down along both axes; the
 * taps are those of an orthogonal wavelet, so that gives the image back, up to their rounding to f32. */
START_TEST(identity_is_the_low_pass) {
    enum { R = 24, C = 2, COUNT = C * R * R };
    double *images = random_images(COUNT), out[COUNT], want[COUNT], labels[9], between[COUNT];
    fdm_augment_draws draws = {.yflip = {1},       .yflip_u = {0.9f},   .scale = {2},        .scale_u = {0.9f},
                               .rotation = {0.3f}, .rotation_u = {0.9f}, .aniso = {1},       .aniso_u = {0.9f},
                               .direction = {0.4f}, .direction_u = {0.9f}, .shift = {1, 2},  .shift_u = {0.9f}};
    run(out, labels, images, &draws, 1, C, R, 0.12, FDM_AUGMENT_PAD_BATCH, 1);
    for (int i = 0; i < 9; i++) ck_assert_double_eq(labels[i], 0);
    for (int c = 0; c < C; c++) {
        for (int y = 0; y < R; y++) low_pass_row(between + c * R * R + y * R, images + c * R * R + y * R, R, 1);
        for (int x = 0; x < R; x++) low_pass_row(want + c * R * R + x, between + c * R * R + x, R, R);
    }
    const struct golden_error e = golden_compare(out, want, COUNT);
    double change = 0;
    for (int i = 0; i < COUNT; i++) change = fmax(change, fabs(out[i] - images[i]));
    printf("  identity: %.2g from plain loops, at most %.2g from the image\n", e.max_abs, change);
    ck_assert(e.max_abs <= TOL_F64);
    ck_assert(change < 1e-6);
    /* the x-flip alone mirrors it, to the bit */
    double flipped[COUNT];
    draws.xflip[0] = 1;
    draws.xflip_u[0] = 0.999f;
    for (int i = 0; i < COUNT; i++) between[i] = images[i / R * R + (R - 1 - i % R)];
    run(flipped, labels, images, &draws, 1, C, R, 0.12, FDM_AUGMENT_PAD_BATCH, 1);
    ck_assert_double_eq(labels[0], 1);
    draws.xflip[0] = 0;
    run(want, labels, between, &draws, 1, C, R, 0.12, FDM_AUGMENT_PAD_BATCH, 1);
    ck_assert(memcmp(flipped, want, sizeof want) == 0);
    /* and the y-flip */
    draws.yflip_u[0] = 0.05f;
    for (int i = 0; i < COUNT; i++) between[i] = images[i / (R * R) * R * R + (R - 1 - i / R % R) * R + i % R];
    run(flipped, labels, images, &draws, 1, C, R, 0.12, FDM_AUGMENT_PAD_BATCH, 1);
    ck_assert_double_eq(labels[1], 1);
    draws.yflip_u[0] = 0.5f;
    run(want, labels, between, &draws, 1, C, R, 0.12, FDM_AUGMENT_PAD_BATCH, 1);
    ck_assert(memcmp(flipped, want, sizeof want) == 0);
    free(images);
}
END_TEST

/* Threads change no bit, nor does working in place; with margins of their own, neither do the other images. */
START_TEST(same_bits) {
    enum { N = 9, C = 3, R = 20, IMAGE = C * R * R };
    double *images = random_images(N * IMAGE), *a = calloc(N * IMAGE, sizeof *a), *b = calloc(N * IMAGE, sizeof *b);
    double labels[N * 9], alone[9], largest = 0;
    fdm_augment_draws draws[N];
    ck_assert(a && b);
    draw_all(draws, N, 4);
    for (int padding = 0; padding < 2; padding++) {
        run(a, labels, images, draws, N, C, R, 0.5, (fdm_augment_padding)padding, 1);
        run(b, NULL, images, draws, N, C, R, 0.5, (fdm_augment_padding)padding, 4);
        ck_assert(memcmp(a, b, N * IMAGE * sizeof *a) == 0);
        memcpy(b, images, N * IMAGE * sizeof *b);
        run(b, NULL, b, draws, N, C, R, 0.5, (fdm_augment_padding)padding, 2);
        ck_assert(memcmp(a, b, N * IMAGE * sizeof *a) == 0);
    }
    for (int n = 0; n < N; n++) {
        run(b, alone, images + n * IMAGE, draws + n, 1, C, R, 0.5, FDM_AUGMENT_PAD_IMAGE, 1);
        ck_assert(memcmp(a + n * IMAGE, b, IMAGE * sizeof *a) == 0);
        ck_assert(memcmp(labels + n * 9, alone, sizeof alone) == 0);
    }
    run(b, NULL, images, draws, N, C, R, 0.5, FDM_AUGMENT_PAD_BATCH, 1);
    for (int i = 0; i < N * IMAGE; i++) largest = fmax(largest, fabs(a[i] - b[i]));
    printf("  own margins against the batch's: up to %.2g apart\n", largest);
    free(images), free(a), free(b);
}
END_TEST

/* Sizes and maps at the limits: one pixel, everything magnified or shrunk or moved away; nothing is read outside (the
 * sanitizer build watches), and the result is finite. */
START_TEST(extremes) {
    static const float normals[] = {-64, -7, 0, 7, 64};
    for (int R = 1; R <= 9; R += 2) {
        const size_t count = (size_t)(R * R);
        double *image = random_images(count), *out = calloc(count, sizeof *out);
        ck_assert_ptr_nonnull(out);
        for (int i = 0; i < 125; i++) {
            const fdm_augment_draws draws = {.scale = {normals[i % 5]},
                                             .aniso = {normals[i / 5 % 5]},
                                             .shift = {normals[i / 25], normals[i % 5]},
                                             .rotation = {0.77f},
                                             .direction = {0.1f}};
            run(out, NULL, image, &draws, 1, 1, R, 1, FDM_AUGMENT_PAD_BATCH, 1);
            for (size_t k = 0; k < count; k++) ck_assert(isfinite(out[k]));
        }
        free(image), free(out);
    }
}
END_TEST

/* One image's draws follow the generator's calls in the published order, which is the order of the fields. */
START_TEST(order_of_draws) {
    static const char kinds[] = "iuiunuuunuuunnu"; /* integer, uniform, normal; the shift's two normals are one call */
    fdm_augment_draws draws;
    fdm_rng rng, again;
    float values[15];
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CUDA, 3); /* each call moves this kind on, whatever its size */
    again = rng;
    fdm_augment_draw(&draws, &rng);
    for (int i = 0; kinds[i]; i++) {
        int64_t integer;
        const bool pair = i == 12;
        if (kinds[i] == 'i') {
            fdm_rng_randint(&again, &integer, 1, 2);
            values[i] = (float)integer;
        } else if (kinds[i] == 'u') {
            fdm_rng_uniform_f32(&again, values + i, 1);
        } else {
            fdm_rng_normal_f32(&again, values + i, pair ? 2 : 1);
        }
        i += pair;
    }
    ck_assert_uint_eq(sizeof values, sizeof draws);
    ck_assert(memcmp(values, &draws, sizeof draws) == 0);
    ck_assert_uint_eq(rng.offset, again.offset);
    ck_assert_uint_eq(rng.offset, 4 * 14);
}
END_TEST

/* A copy of the recorded draws of `file`, to be spoilt. */
static void copy_draws(fdm_tensors *copy, const struct recorded *r) {
    for (size_t i = 0; i < r->set.count; i++) {
        const fdm_tensor *t = &r->set.items[i];
        fdm_tensor *own;
        if (strncmp(t->name, "draw", 4) != 0) continue;
        ck_assert_int_eq(fdm_tensors_add(copy, t->name, t->dtype, t->ndim, t->shape, &own, NULL), FDM_OK);
        memcpy(own->data, t->data, t->nbytes);
    }
}

START_TEST(hostile_draws) {
    struct recorded r;
    fdm_error err;
    load(&r, "augment_r16_p012.safetensors");
    int refused = 0;
    for (size_t i = 0; i < 14; i++) {
        for (int wrong = 0; wrong < 6; wrong++) {
            fdm_tensors set = {0};
            copy_draws(&set, &r);
            fdm_tensor *t = &set.items[i];
            char name[64];
            snprintf(name, sizeof name, "%s", t->name);
            const bool integer = t->dtype == FDM_I64;
            if (wrong == 0) t->name[0] = '?';
            if (wrong == 1) t->dtype = integer ? FDM_U64 : FDM_I32;
            if (wrong == 2) t->shape[t->ndim - 1]++;
            if (wrong == 3) t->shape[t->ndim++] = 1;
            if (wrong == 4 && integer) ((int64_t *)t->data)[3] = 2;
            if (wrong == 4 && !integer) ((float *)t->data)[3] = NAN;
            if (wrong == 5 && integer) ((int64_t *)t->data)[0] = -1;
            if (wrong == 5 && !integer) ((float *)t->data)[0] = strstr(name, "randn") ? INFINITY : 1;
            check_refused(fdm_augment_draws_from_tensors(r.draws, 4, &set, "draw", "run.safetensors", &err),
                          FDM_BAD_INPUT, &err, name);
            ck_assert_ptr_nonnull(strstr(err.message, "run.safetensors"));
            refused++;
            fdm_tensors_free(&set);
        }
    }
    printf("  %d hostile files refused\n", refused);
    check_refused(fdm_augment_draws_from_tensors(r.draws, 3, &r.set, "draw", "run", &err), FDM_BAD_INPUT, &err,
                  "draw00");
    check_refused(fdm_augment_draws_from_tensors(r.draws, 0, &r.set, "draw", "run", &err), FDM_BAD_USAGE, &err,
                  "0 images");
    char longer[400];
    memset(longer, 'x', sizeof longer);
    longer[399] = 0;
    check_refused(fdm_augment_draws_from_tensors(r.draws, 4, &r.set, longer, "run", &err), FDM_BAD_USAGE, &err,
                  "too long");
    unload(&r);
}
END_TEST

static bool augment_once(void *arg) {
    double image[64] = {0}, out[64];
    (void)arg;
    fdm_augment_draws draws = {0};
    return fdm_augment_batch(out, NULL, image, &draws, 1, 1, 8, 0.12, FDM_AUGMENT_PAD_BATCH, 1, NULL) == FDM_OK;
}

START_TEST(out_of_memory) {
    enum { N = 64 };
    fdm_augment_draws draws[N] = {0};
    fdm_error err;
    double nothing;
    ck_assert_int_ge(oom_sweep("augmentation", augment_once, NULL), 0);
    check_refused(fdm_augment_batch(&nothing, NULL, &nothing, draws, N, INT32_MAX, 4096, 0.12, FDM_AUGMENT_PAD_BATCH, N,
                                    &err),
                  FDM_NO_RESOURCE, &err, "augmentation"); /* more bytes than can be counted */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("augment");
    TCase *tc = tcase_create("augment");
    tcase_add_loop_test(tc, recorded_batches, 0, 4);
    tcase_add_test(tc, recorded_updates);
    tcase_add_test(tc, identity_is_the_low_pass);
    tcase_add_test(tc, same_bits);
    tcase_add_test(tc, extremes);
    tcase_add_test(tc, order_of_draws);
    tcase_add_test(tc, hostile_draws);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
