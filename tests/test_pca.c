/* test_pca.c - images into features: choosing and halving images, principal components against their definition, noise and
 * blur on the shipped emoji, statistics files. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fdm/metric.h"
#include "fdm/tensorfile.h"
#include "golden.h"
#include "io_util.h"
#include "suite.h"
#include "synthetic.h"

static void ok(fdm_status status, const fdm_error *err) { ck_assert_msg(status == FDM_OK, "%s", err->message); }

static size_t bytes_of(const fdm_images *x) {
    return (size_t)x->channels * (size_t)x->resolution * (size_t)x->resolution;
}

/* ---- Images ------------------------------------------------------------------------------------------------ */

static fdm_images read_set(const char *path, int64_t most, uint64_t seed) {
    fdm_dataset *set = NULL;
    fdm_images images = {0};
    fdm_error err = {0};
    ok(fdm_dataset_open(&set, path, NULL, &err), &err);
    ok(fdm_images_read(&images, set, most, seed, NULL, &err), &err);
    fdm_dataset_free(&set);
    return images;
}

START_TEST(chosen_images) {
    const fdm_images all = synthetic_noise(40, 3, 4, 1);
    const size_t bytes = bytes_of(&all);
    synthetic_zip(scratch("set.zip"), &all, 0);
    fdm_images read = read_set(scratch("set.zip"), 0, 5), some = read_set(scratch("set.zip"), 12, 5);
    fdm_images same = read_set(scratch("set.zip"), 12, 5), others = read_set(scratch("set.zip"), 12, 6);
    ck_assert(read.n == 40 && memcmp(read.pixels, all.pixels, 40 * bytes) == 0);
    ck_assert(some.n == 12 && memcmp(some.pixels, same.pixels, 12 * bytes) == 0);
    ck_assert(memcmp(some.pixels, others.pixels, 12 * bytes) != 0);
    int64_t at = 0; /* each chosen image is one of the set, in its order */
    for (int64_t i = 0; i < 12; i++, at++)
        while (at < 40 && memcmp(some.pixels + (size_t)i * bytes, all.pixels + (size_t)at * bytes, bytes) != 0) at++;
    ck_assert_int_le(at, 40);

    fdm_images a = {0}, b = {0}, single = {.pixels = all.pixels, .n = 1, .channels = 3, .resolution = 4};
    fdm_error err = {0};
    bool used[40] = {false};
    ok(fdm_images_split(&a, &b, &all, 9, &err), &err);
    ck_assert(a.n == 20 && b.n == 20);
    for (int64_t i = 0; i < 40; i++) { /* every image once */
        const uint8_t *image = (i < 20 ? a.pixels : b.pixels) + (size_t)(i % 20) * bytes;
        int64_t k = 0;
        while (k < 40 && memcmp(image, all.pixels + (size_t)k * bytes, bytes) != 0) k++;
        ck_assert(k < 40 && !used[k]);
        used[k] = true;
    }
    fdm_images none = {0}, none2 = {0};
    check_refused(fdm_images_split(&none, &none2, &single, 0, &err), FDM_BAD_INPUT, &err, "halved");
    fdm_images *const lists[] = {&read, &some, &same, &others, &a, &b};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) fdm_images_free(lists[i]);
    free(all.pixels);
}
END_TEST

/* ---- Components -------------------------------------------------------------------------------------------- */

/* C w = lambda w with the covariance C by its definition and lambda the variance of the feature; orthonormal; falling. */
static void check_components(int64_t n, int channels, int resolution) {
    fdm_images images = synthetic_stripes(n, channels, resolution, 3, 77);
    const int d = (int)bytes_of(&images), most = (int)(n - 1 < d ? n - 1 : d);
    fdm_pca pca = {0};
    fdm_features x = {0}, pixels = {calloc((size_t)n * (size_t)d, sizeof(double)), n, d};
    fdm_gaussian of_pixels = {0}, of_features = {0};
    fdm_error err = {0};
    double worst = 0, trace = 0, cross = 0;
    for (int64_t i = 0; i < n * d; i++) pixels.values[i] = images.pixels[i] / 127.5 - 1;
    ok(fdm_pca_fit(&pca, &images, d, 2, NULL, &err), &err);
    ck_assert_int_eq(pca.d, most);
    ok(fdm_pca_features(&x, &pca, &images, 2, &err), &err);
    ok(fdm_gaussian_fit(&of_pixels, &pixels, 1, &err), &err);
    ok(fdm_gaussian_fit(&of_features, &x, 1, &err), &err);
    for (int j = 0; j < d; j++) trace += of_pixels.sigma[j * (d + 1)];
    for (int k = 0; k < pca.d; k++) {
        const double *w = pca.components + (ptrdiff_t)k * d, lambda = of_features.sigma[k * (pca.d + 1)];
        double largest = 0;
        for (int i = 0; i < d; i++) {
            double row = 0;
            for (int j = 0; j < d; j++) row += of_pixels.sigma[i * d + j] * w[j];
            worst = fmax(worst, fabs(row - lambda * w[i]) / of_features.sigma[0]);
            largest = fabs(w[i]) > fabs(largest) ? w[i] : largest;
        }
        ck_assert(largest > 0);
        ck_assert(k == 0 || lambda <= of_features.sigma[(k - 1) * (pca.d + 1)] * (1 + 1e-9));
        for (int l = 0; l < pca.d; l++) {
            const double *v = pca.components + (ptrdiff_t)l * d;
            double dot = 0;
            for (int i = 0; i < d; i++) dot += v[i] * w[i];
            worst = fmax(worst, fabs(dot - (k == l)));
            if (k != l) cross = fmax(cross, fabs(of_features.sigma[k * pca.d + l]) / of_features.sigma[0]);
        }
        ck_assert_double_le(fabs(of_features.mu[k]), 1e-12);
    }
    /* all components keep all distances */
    double in_pixels = 0, in_features = 0, kept = 0;
    for (int j = 0; j < d; j++) in_pixels += pow(pixels.values[j] - pixels.values[d + j], 2);
    for (int k = 0; k < pca.d; k++) in_features += pow(x.values[k] - x.values[pca.d + k], 2);
    for (int k = 0; k < pca.d; k++) kept += of_features.sigma[k * (pca.d + 1)];
    printf("  %d images of %d pixels: eigenvectors within %.2g\n", (int)n, d, worst);
    ck_assert_double_le(worst, 1e-9);
    ck_assert_double_le(cross, 1e-9);
    ck_assert_double_eq_tol(in_features / in_pixels, 1, 1e-10);
    ck_assert_double_eq_tol(kept / trace, pca.explained, 1e-10);
    ck_assert_double_eq_tol(pca.explained, 1, 1e-9);
    fdm_pca_free(&pca);
    fdm_features_free(&x), fdm_features_free(&pixels);
    fdm_gaussian_free(&of_pixels), fdm_gaussian_free(&of_features);
    fdm_images_free(&images);
}

START_TEST(components) {
    check_components(30, 3, 6);  /* fewer images than pixels */
    check_components(150, 1, 8); /* more */
}
END_TEST

START_TEST(components_of_little) {
    fdm_images images = synthetic_noise(6, 1, 3, 4), one = images, other = synthetic_noise(6, 3, 3, 4);
    fdm_pca pca = {0}, same = {0};
    fdm_features x = {0};
    fdm_error err = {0};
    one.n = 1;
    ok(fdm_pca_fit(&pca, &images, 2, 1, NULL, &err), &err);
    ok(fdm_pca_fit(&same, &images, 2, 3, NULL, &err), &err);
    ck_assert(pca.d == 2 && pca.explained < 1 && fdm_pca_fingerprint(&pca) == fdm_pca_fingerprint(&same));
    check_refused(fdm_pca_features(&x, &pca, &other, 1, &err), FDM_BAD_INPUT, &err, "1 x 3 x 3");
    fdm_pca_free(&pca), fdm_pca_free(&same);
    check_refused(fdm_pca_fit(&pca, &one, 2, 1, NULL, &err), FDM_BAD_INPUT, &err, "2 or more");
    check_refused(fdm_pca_fit(&pca, &images, 0, 1, NULL, &err), FDM_BAD_USAGE, &err, "components: 0");
    memset(images.pixels, 7, 6 * 9);
    check_refused(fdm_pca_fit(&pca, &images, 2, 1, NULL, &err), FDM_BAD_INPUT, &err, "all equal");
    images.n = 1 << 24; /* refused before a pixel is read */
    check_refused(fdm_pca_fit(&pca, &images, 2, 1, NULL, &err), FDM_BAD_INPUT, &err, "--max-images");
    fdm_images_free(&images), fdm_images_free(&other);
}
END_TEST

/* ---- The shipped emoji: noise >> blurred >> another half of them ------------------------------------------- */

/* Each pixel the mean of itself and its three neighbours to the right and below. */
static fdm_images blurred(const fdm_images *from) {
    fdm_images to = *from;
    const int r = from->resolution;
    to.pixels = malloc((size_t)from->n * bytes_of(from));
    for (int64_t row = 0; row < from->n * from->channels * r; row++)
        for (int x = 0; x < r; x++) {
            const int64_t below = row % r == r - 1 ? row : row + 1;
            const int right = x == r - 1 ? x : x + 1;
            const uint8_t *a = from->pixels + row * r, *b = from->pixels + below * r;
            to.pixels[row * r + x] = (uint8_t)((a[x] + a[right] + b[x] + b[right]) / 4);
        }
    return to;
}

static fdm_metric_report measure(const fdm_pca *pca, const fdm_images *ref, const fdm_images *images) {
    fdm_features x = {0}, y = {0};
    fdm_error err = {0};
    fdm_metric_report report;
    fdm_metric_options options = fdm_metric_defaults();
    options.bootstrap = 40;
    ok(fdm_pca_features(&x, pca, ref, 0, &err), &err);
    ok(fdm_pca_features(&y, pca, images, 0, &err), &err);
    ok(fdm_metric_measure(&report, &(fdm_metric_side){.features = &x}, &(fdm_metric_side){.features = &y}, &options, &err), &err);
    fdm_features_free(&x), fdm_features_free(&y);
    return report;
}

START_TEST(emoji) {
    fdm_images all = read_set("data/emoji32.zip", 500, 1), half = {0}, other = {0};
    fdm_error err = {0};
    fdm_pca pca = {0};
    ok(fdm_images_split(&half, &other, &all, 2, &err), &err);
    fdm_images once = blurred(&other), soft = blurred(&once), noise = synthetic_noise(250, 3, 32, 3);
    ok(fdm_pca_fit(&pca, &half, 16, 0, NULL, &err), &err);
    const fdm_metric_report same = measure(&pca, &half, &half), split = measure(&pca, &half, &other);
    const fdm_metric_report worse = measure(&pca, &half, &soft), bad = measure(&pca, &half, &noise);
    printf("  emoji, Frechet distance: same %.2g, halves %.3g, blurred %.3g, noise %.3g; 16 components hold %.0f %%\n",
           same.frechet.value, split.frechet.value, worse.frechet.value, bad.frechet.value, 100 * pca.explained);
    ck_assert_double_le(same.frechet.value, 1e-9 * bad.frechet.value);
    ck_assert_double_gt(worse.frechet.value, split.frechet.value);
    ck_assert_double_gt(bad.frechet.value, 4 * worse.frechet.value);
    ck_assert_double_gt(bad.kernel.value, 4 * fabs(split.kernel.value));
    ck_assert_double_gt(split.precision.value, 0.5);
    ck_assert_double_eq(bad.recall.value, 0);
    fdm_pca_free(&pca);
    fdm_images *const lists[] = {&all, &half, &other, &once, &soft, &noise};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) fdm_images_free(lists[i]);
}
END_TEST

/* ---- Statistics files -------------------------------------------------------------------------------------- */

START_TEST(statistics_files) {
    static const char *const names[] = {"stats.npz", "stats.safetensors"};
    fdm_images images = synthetic_stripes(20, 1, 4, 2, 8);
    fdm_metric_stats stats = {0}, read = {0};
    fdm_error err = {0};
    ok(fdm_pca_fit(&stats.pca, &images, 5, 1, NULL, &err), &err);
    ok(fdm_pca_features(&stats.features, &stats.pca, &images, 1, &err), &err);
    ok(fdm_gaussian_fit(&stats.gaussian, &stats.features, 1, &err), &err);
    stats.fingerprint = fdm_pca_fingerprint(&stats.pca);
    for (int i = 0; i < 2; i++) {
        ok(fdm_metric_stats_write(&stats, scratch(names[i]), &err), &err);
        ok(fdm_metric_stats_read(&read, scratch(names[i]), true, &err), &err);
        ck_assert(read.gaussian.d == 5 && read.features.n == 20 && read.features.d == 5 && read.pca.d == 5);
        ck_assert(read.pca.channels == 1 && read.pca.resolution == 4 && read.pca.explained == stats.pca.explained);
        ck_assert(memcmp(read.gaussian.mu, stats.gaussian.mu, 5 * 8) == 0);
        ck_assert(memcmp(read.gaussian.sigma, stats.gaussian.sigma, 25 * 8) == 0);
        ck_assert(memcmp(read.features.values, stats.features.values, 100 * 8) == 0);
        ck_assert(read.fingerprint == stats.fingerprint && fdm_pca_fingerprint(&read.pca) == stats.fingerprint);
        fdm_metric_stats_free(&read);
    }
    fdm_metric_stats_free(&stats);
    fdm_images_free(&images);
}
END_TEST

/* One file of tensors (name, F64, shape) filled with a value. */
struct item {
    const char *name;
    int ndim;
    int64_t shape[4];
    double value;
};

static void refuse(const char *mention, const struct item *items, int count) {
    fdm_tensors set = {0};
    fdm_tensor *t;
    fdm_error err = {0};
    fdm_metric_stats stats = {0};
    for (int i = 0; i < count; i++) {
        ok(fdm_tensors_add(&set, items[i].name, FDM_F64, items[i].ndim, items[i].shape, &t, &err), &err);
        for (int64_t k = 0; k < fdm_tensor_numel(t); k++) ((double *)t->data)[k] = items[i].value;
    }
    ok(fdm_tensorfile_write(&set, scratch("bad.npz"), &err), &err);
    fdm_tensors_free(&set);
    check_refused(fdm_metric_stats_read(&stats, scratch("bad.npz"), false, &err), FDM_BAD_INPUT, &err, mention);
    ck_assert(strstr(err.message, "bad.npz") && stats.gaussian.d == 0 && !stats.features.values && !stats.pca.mean);
}

START_TEST(bad_statistics_files) {
    const struct item mu = {"mu", 1, {2}, 0}, sigma = {"sigma", 2, {2, 2}, 1};
    refuse("neither", (struct item[]){{"x", 1, {2}, 0}}, 1);
    refuse("no \"sigma\"", &mu, 1);
    refuse("\"mu\" has shape [2,2]", (struct item[]){{"mu", 2, {2, 2}, 0}, sigma}, 2);
    refuse("\"mu\" has shape [0]", (struct item[]){{"mu", 1, {0}, 0}, sigma}, 2);
    refuse("\"sigma\" has shape [2,3]; it must be [2,2]", (struct item[]){mu, {"sigma", 2, {2, 3}, 1}}, 2);
    refuse("\"sigma\": element 0 is not finite", (struct item[]){mu, {"sigma", 2, {2, 2}, NAN}}, 2);
    refuse("\"features\" has shape [5,3]", (struct item[]){mu, sigma, {"features", 2, {5, 3}, 0}}, 3);
    refuse("at least 2", (struct item[]){{"features", 2, {1, 3}, 0}}, 1);
    refuse("no square images", (struct item[]){mu, sigma, {"pca.components", 4, {2, 3, 2, 4}, 0}}, 3);
    refuse("no \"pca.mean\"", (struct item[]){mu, sigma, {"pca.components", 4, {2, 3, 2, 2}, 0}}, 3);
    refuse("\"pca.mean\" has shape [3,2,1]", (struct item[]){mu, sigma, {"pca.components", 4, {2, 3, 2, 2}, 0}, {"pca.mean", 3, {3, 2, 1}, 0}}, 4);
    refuse("fingerprint", (struct item[]){mu, sigma, {"fingerprint", 0, {0}, 0}}, 3);
}
END_TEST

int main(void) {
    fdm_gaussian unit = {1, (double[]){0}, (double[]){1}};
    double distance;
    const bool lapack = fdm_frechet_distance(&distance, &unit, &unit, NULL) == FDM_OK;
    scratch_begin();
    Suite *suite = suite_create("pca");
    TCase *tc = tcase_create("pca");
    tcase_add_test(tc, chosen_images);
    tcase_add_test(tc, bad_statistics_files);
    if (lapack) {
        tcase_add_test(tc, components);
        tcase_add_test(tc, components_of_little);
        tcase_add_test(tc, emoji);
        tcase_add_test(tc, statistics_files);
    }
    suite_add_tcase(suite, tc);
    if (!lapack) printf("SKIP: this build has no LAPACK: no components\n");
    const int failed = run_suite(suite);
    scratch_end();
    return failed != 0;
}
