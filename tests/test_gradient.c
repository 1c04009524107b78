/* test_gradient.c - the gradient of the whole objective: published gradients, finite differences, same bits. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/gradient.h"
#include "fdm/loss.h"
#include "fdm/safetensors.h"
#include "golden.h"
#include "networks.h"
#include "splitmix.h"
#include "suite.h"

/* Relative to the largest element of each parameter's gradient.  f32 is held to the published f32 gradients that closely;
 * to the f64 ones in relative L2, where PyTorch's own f32 is up to 1.82e-5 off: the angles of a Fourier embedding reach
 * hundreds of radians, and the published program rounds them to f32 (so do we, in the same way). */
static const double TOLERANCE_F32 = 2e-5, TOLERANCE_F64 = 1e-10;
/* F(4x4, 3x3) rounds about five times as much in each 3x3 layer. */
static const double TOLERANCE_WINOGRAD4 = 1e-4;

static double tolerance_f32(const struct runner *r) {
    return r->conv && strcmp(r->conv, "winograd4") == 0 ? TOLERANCE_WINOGRAD4 : TOLERANCE_F32;
}

static fdm_gradient *open_model(const char *path, const struct runner *r, int threads, fdm_recompute recompute) {
    const fdm_run_options options = {.backend = r->backend, .isa = r->isa, .conv = r->conv, .threads = threads,
                                     .recompute = recompute};
    fdm_tensors set = {0};
    fdm_config config;
    fdm_error err = {0};
    fdm_gradient *g = NULL;
    ck_assert_msg(fdm_safetensors_read(&set, path, &err) == FDM_OK, "%s", err.message);
    ck_assert_msg(fdm_config_from_tensors(&config, &set, path, &err) == FDM_OK, "%s", err.message);
    ck_assert_msg(fdm_gradient_create(&g, &config, &set, path, &options, &err) == FDM_OK, "%s", err.message);
    fdm_tensors_free(&set);
    return g;
}

static void *compute(fdm_gradient *g, const fdm_gradient_args *args) {
    fdm_error err = {0};
    void *gradient = calloc(fdm_gradient_size(g), fdm_dtype_size(fdm_gradient_dtype(g)));
    ck_assert_msg(fdm_gradient_compute(g, gradient, args, &err) == FDM_OK, "%s", err.message);
    return gradient;
}

static double *as_doubles(const fdm_gradient *g, const void *gradient, fdm_parameter_info p) {
    double *values = malloc(p.count * sizeof *values);
    for (size_t i = 0; i < p.count; i++)
        values[i] = fdm_gradient_dtype(g) == FDM_F64 ? ((const double *)gradient)[p.offset + i]
                                                     : (double)((const float *)gradient)[p.offset + i];
    return values;
}

/* ---- the published gradients ---- */

static const char *const grad_goldens[] = {"grad_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors",
                                           "grad_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug.safetensors"};

static double relative_l2(const double *got, const double *truth, size_t count) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += (got[i] - truth[i]) * (got[i] - truth[i]);
        size += truth[i] * truth[i];
    }
    return sqrt(difference / size);
}

static void check_parameters(const fdm_tensors *set, const struct runner *r, const fdm_gradient *g, const void *gradient) {
    double worst = 0, worst_l2 = 0, theirs_l2 = 0;
    int with_truth = 0;
    for (int i = 0; i < fdm_gradient_parameter_count(g); i++) {
        const fdm_parameter_info p = fdm_gradient_parameter(g, i);
        double *published = golden_f64(set, "grad.", p.name), *got = as_doubles(g, gradient, p);
        ck_assert_uint_eq((size_t)fdm_tensor_numel(golden_get(set, "grad.", p.name)), p.count);
        const bool f64 = golden_find(set, "grad64.", p.name) != NULL;
        double *truth = f64 ? golden_f64(set, "grad64.", p.name) : NULL;
        const bool exact = f64 && !r->f32;
        const struct golden_error e = golden_compare(got, exact ? truth : published, p.count);
        ck_assert_msg(e.max_scaled <= (exact ? TOLERANCE_F64 : tolerance_f32(r)),
                      "%s: %s is %.3g of its largest element off (element %zu)", r->label, p.name, e.max_scaled, e.worst);
        if (f64) {
            const double ours = relative_l2(got, truth, p.count), theirs = relative_l2(published, truth, p.count);
            ck_assert_msg(ours <= tolerance_f32(r), "%s: %s is %.3g off the f64 gradient in L2", r->label, p.name, ours);
            worst_l2 = fmax(worst_l2, ours);
            theirs_l2 = fmax(theirs_l2, theirs);
            with_truth++;
        }
        worst = fmax(worst, e.max_scaled);
        free(truth);
        free(got);
        free(published);
    }
    printf("  %-9s %-9s worst %.2e of the largest element", r->label, r->conv ? r->conv : "", worst);
    if (with_truth) printf("; L2 to f64 %.2e, PyTorch f32 %.2e, %d parameters", worst_l2, theirs_l2, with_truth);
    printf("\n");
}

/* The loss weights in the backend's precision, limited as the published warm-up was at that call. */
static void weigh(double *weight, const double *sigma, int n, const fdm_tensors *set, const fdm_gradient *g) {
    fdm_loss loss;
    const fdm_dtype precision = fdm_gradient_dtype(g);
    const double limit = strtod(fdm_tensors_meta(set, "clamp_cur_before"), NULL);
    ck_assert_int_eq(fdm_loss_init(&loss, fdm_gradient_config(g)->precond.kind, NULL), FDM_OK);
    for (int i = 0; i < n; i++) weight[i] = fdm_loss_clamp(fdm_loss_weight(&loss, sigma[i], precision), limit, precision);
}

static void check_published(const char *golden, const struct runner *list, int count) {
    fdm_tensors set;
    golden_load(&set, golden);
    char path[256];
    snprintf(path, sizeof path, "%s/%s", FDM_TEST_GOLDEN_DIR, fdm_tensors_meta(&set, "weights_from"));
    double *y = golden_f64(&set, "", "y"), *sigma = golden_f64(&set, "", "sigma"), *noise = golden_f64(&set, "", "noise_unit");
    double *weight = golden_f64(&set, "", "weight"), *augment = golden_f64(&set, "", "augment_labels");
    const int n = golden_dim(&set, "", "y", 0);
    const size_t pixels = (size_t)fdm_tensor_numel(golden_get(&set, "", "y"));
    double *D = malloc(pixels * sizeof *D), *loss = malloc((size_t)n * sizeof *loss);
    printf("%s\n", golden);
    for (int k = 0; k < count; k++) {
        fdm_gradient *g = open_model(path, &list[k], 2, FDM_RECOMPUTE_OFF);
        weigh(weight, sigma, n, &set, g);
        const fdm_gradient_args args = {.n = n, .y = y, .sigma = sigma, .noise_unit = noise, .weight = weight,
                                        .augment_labels = augment, .scale = 1.0 / n, .D = D, .loss = loss};
        void *gradient = compute(g, &args);
        check_parameters(&set, &list[k], g, gradient);
        double *truth = golden_f64(&set, "", "D_yn"), *per_sample = golden_f64(&set, "", "loss_per_sample");
        ck_assert_double_le(golden_compare(D, truth, pixels).max_scaled, tolerance_f32(&list[k]) / 2);
        ck_assert_double_le(golden_compare(loss, per_sample, (size_t)n).max_rel, tolerance_f32(&list[k]) / 2);
        free(truth);
        free(per_sample);
        free(gradient);
        fdm_gradient_free(&g);
    }
    free(y);
    free(sigma);
    free(noise);
    free(weight);
    free(augment);
    free(D);
    free(loss);
    fdm_tensors_free(&set);
}

START_TEST(published_gradients) {
    struct runner list[MAX_RUNNERS];
    const int count = runners(list);
    check_published(grad_goldens[_i], list, count);
}
END_TEST

/* In each mode; the fastest instruction set stands for all: same_bits_in_modes. */
START_TEST(published_gradients_in_modes) {
    struct runner list[MAX_RUNNERS];
    const int count = runners_of_mode(list, (fdm_conv_mode)_i);
    for (int golden = 0; golden < 2; golden++) check_published(grad_goldens[golden], &list[count - 1], 1);
}
END_TEST

/* ---- random batches on any model ---- */

struct batch {
    int n;
    size_t pixels; /* of one sample */
    double *y, *noise, *sigma, *weight, *labels, *augment;
    uint64_t *keys;
    int label_dim, augment_dim;
};

static double *random_values(size_t count, double scale, uint64_t *state) {
    double *v = malloc((count ? count : 1) * sizeof *v);
    for (size_t i = 0; i < count; i++) v[i] = scale * splitmix_uniform(state);
    return v;
}

static struct batch make_batch(const fdm_config *c, int n, uint64_t seed) {
    struct batch b = {.n = n, .label_dim = c->label_dim, .augment_dim = c->augment_dim};
    uint64_t state = seed;
    b.pixels = (size_t)c->img_channels * (size_t)c->img_resolution * (size_t)c->img_resolution;
    b.y = random_values((size_t)n * b.pixels, 1, &state);
    b.noise = random_values((size_t)n * b.pixels, 2, &state);
    b.labels = random_values((size_t)(n * c->label_dim), 1, &state);
    b.augment = random_values((size_t)(n * c->augment_dim), 1, &state);
    b.sigma = malloc((size_t)n * sizeof *b.sigma);
    b.weight = malloc((size_t)n * sizeof *b.weight);
    b.keys = malloc((size_t)n * sizeof *b.keys);
    for (int i = 0; i < n; i++) {
        b.sigma[i] = (double)(float)(0.5 * exp(splitmix_uniform(&state)));
        b.weight[i] = (double)(float)(2 + splitmix_uniform(&state));
        b.keys[i] = (uint64_t)(int64_t)(splitmix_uniform(&state) * 0x1p60);
    }
    return b;
}

static void free_batch(struct batch *b) {
    free(b->y);
    free(b->noise);
    free(b->sigma);
    free(b->weight);
    free(b->labels);
    free(b->augment);
    free(b->keys);
}

/* Samples first .. first+n-1 of the batch. */
static fdm_gradient_args part(const struct batch *b, int first, int n, double dropout) {
    const size_t at = (size_t)first;
    return (fdm_gradient_args){.n = n,
                               .y = b->y + at * b->pixels,
                               .sigma = b->sigma + at,
                               .noise_unit = b->noise + at * b->pixels,
                               .weight = b->weight + at,
                               .class_labels = b->label_dim ? b->labels + at * (size_t)b->label_dim : NULL,
                               .augment_labels = b->augment_dim ? b->augment + at * (size_t)b->augment_dim : NULL,
                               .scale = 1.0 / b->n,
                               .dropout = dropout,
                               .dropout_keys = b->keys + at};
}

enum { MODELS = 21 }; /* goldens net_*, ours included */

/* ---- central differences of the whole loss, in f64 ---- */

static double total_loss(fdm_gradient *g, const struct batch *b, double dropout) {
    double *loss = malloc((size_t)b->n * sizeof *loss), sum = 0;
    fdm_gradient_args args = part(b, 0, b->n, dropout);
    args.loss = loss;
    fdm_gradient_values_changed(g);
    free(compute(g, &args));
    for (int i = 0; i < b->n; i++) sum += loss[i];
    free(loss);
    return sum * args.scale;
}

/* L(p + h d) - L(p - h d) over 2h; p and h d are short binary numbers, so that f32 parameters hold p +- h d exactly. */
static double slope(fdm_gradient *g, const struct batch *b, fdm_parameter_info p, const float *direction, float h) {
    float *values = fdm_gradient_values(g) + p.offset, *saved = malloc(p.count * sizeof *saved);
    double side[2];
    memcpy(saved, values, p.count * sizeof *saved);
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < p.count; i++) values[i] = saved[i] + (s ? -h : h) * direction[i];
        side[s] = total_loss(g, b, 0.25);
    }
    memcpy(values, saved, p.count * sizeof *saved);
    free(saved);
    return (side[0] - side[1]) / (2 * (double)h);
}

/* Parameters along a random direction of +-1; the two step sizes are extrapolated to zero.  Each costs five gradients in
 * f64: of every model one parameter in EVERY, beginning elsewhere in each, so that all kinds are met many times. */
#ifdef FDM_POISON /* a sanitizer build, ten times slower */
enum { EVERY = 81 };
#else
enum { EVERY = 9 };
#endif
START_TEST(finite_differences) {
    const struct runner reference = {"reference", "reference", NULL, false, NULL};
    struct model_files files;
    model_files_find(&files);
    ck_assert_uint_eq(files.count, MODELS);
    fdm_gradient *g = open_model(files.paths[_i], &reference, 1, FDM_RECOMPUTE_OFF);
    struct batch b = make_batch(fdm_gradient_config(g), 1, 77); /* sums over samples: same_bits */
    for (size_t i = 0; i < fdm_gradient_size(g); i++)
        fdm_gradient_values(g)[i] = (float)(nearbyint((double)fdm_gradient_values(g)[i] * 1024) / 1024);
    fdm_gradient_values_changed(g);
    const fdm_gradient_args args = part(&b, 0, b.n, 0.25);
    double *gradient = compute(g, &args), worst = 0;
    const char *worst_name = "";
    uint64_t state = 5;
    for (int i = (4 * _i) % EVERY; i < fdm_gradient_parameter_count(g); i += EVERY) {
        const fdm_parameter_info p = fdm_gradient_parameter(g, i);
        float *direction = malloc(p.count * sizeof *direction);
        double along = 0, size = 0;
        for (size_t k = 0; k < p.count; k++) {
            direction[k] = splitmix_uniform(&state) < 0 ? -1 : 1;
            along += gradient[p.offset + k] * (double)direction[k];
            size += fabs(gradient[p.offset + k]);
        }
        const float h = p.count > 256 ? 0x1p-13f : 0x1p-10f;
        const double coarse = slope(g, &b, p, direction, h), fine = slope(g, &b, p, direction, h / 2);
        const double estimate = (4 * fine - coarse) / 3, error = fabs(estimate - along) / (size / sqrt((double)p.count) + 1e-3);
        ck_assert_msg(error <= 2e-6, "%s: %s: gradient along a direction %.12g, differences %.12g", files.paths[_i], p.name,
                      along, estimate);
        if (error > worst) {
            worst = error;
            worst_name = p.name;
        }
        free(direction);
    }
    printf("%-66s differences: worst %.1e (%s)\n", files.paths[_i], worst, worst_name);
    free(gradient);
    free_batch(&b);
    fdm_gradient_free(&g);
    model_files_free(&files);
}
END_TEST

/* ---- f32 against f64, and the same bits however it is computed ---- */

enum { BATCH = 8 };

static void check_against_f64(const char *path, const struct batch *b, const float *gradient, const struct runner *r) {
    const struct runner reference = {"reference", "reference", NULL, false, NULL};
    fdm_gradient *g = open_model(path, &reference, 2, FDM_RECOMPUTE_OFF);
    const fdm_gradient_args args = part(b, 0, b->n, 0.25);
    double *truth = compute(g, &args), worst = 0;
    for (int i = 0; i < fdm_gradient_parameter_count(g); i++) {
        const fdm_parameter_info p = fdm_gradient_parameter(g, i);
        double largest = 0, off = 0;
        const bool qkv_bias = strstr(p.name, "qkv.bias") != NULL; /* entries of K: 0 in exact arithmetic */
        for (size_t k = 0; k < p.count; k++) largest = fmax(largest, fabs(truth[p.offset + k]));
        for (size_t k = 0; k < p.count; k++) {
            const double e = fabs((double)gradient[p.offset + k] - truth[p.offset + k]);
            if (!(e <= off)) off = e;
        }
        if (qkv_bias && largest < 1e-6) continue;
        ck_assert_msg(off <= 1e-4 * largest + 1e-9, "%s: %s: %s is %.3g off, largest element %.3g", path, r->label, p.name, off,
                      largest);
        if (largest > 1e-9) worst = fmax(worst, off / largest);
    }
    printf("%-66s %s against f64: %.1e of a parameter's largest element\n", path, r->label, worst);
    free(truth);
    fdm_gradient_free(&g);
}

static float *in_rounds(fdm_gradient *g, const struct batch *b, int size) {
    fdm_accumulator *rounds;
    fdm_error err = {0};
    ck_assert_int_eq(fdm_accumulator_create(&rounds, g, &err), FDM_OK);
    ck_assert_ptr_null(fdm_accumulator_sum(rounds));
    for (int i = 0; i < b->n; i += size) {
        const fdm_gradient_args args = part(b, i, i + size <= b->n ? size : b->n - i, 0.25);
        ck_assert_msg(fdm_accumulator_add(rounds, &args, &err) == FDM_OK, "%s", err.message);
    }
    float *sum = malloc(fdm_gradient_size(g) * sizeof *sum);
    memcpy(sum, fdm_accumulator_sum(rounds), fdm_gradient_size(g) * sizeof *sum);
    fdm_accumulator_free(&rounds);
    return sum;
}

/* The batch with `way` + 1 threads and recompute `way`, whole and in rounds of 1 << way: the bits of *first, which is
 * set if it is NULL. */
static void check_way(float **first, const char *path, const struct batch *b, const struct runner *r, int way) {
    fdm_gradient *g = open_model(path, r, way + 1, (fdm_recompute)way);
    const size_t bytes = fdm_gradient_size(g) * sizeof(float);
    const fdm_gradient_args args = part(b, 0, b->n, 0.25);
    float *gradient = compute(g, &args), *rounds = in_rounds(g, b, 1 << way);
    if (!*first) check_against_f64(path, b, *first = gradient, r);
    ck_assert_msg(memcmp(*first, gradient, bytes) == 0, "%s: %s, %d threads, recompute %d: other bits", path, r->label, way + 1,
                  way);
    ck_assert_msg(memcmp(*first, rounds, bytes) == 0, "%s: %s: %d rounds of %d: other bits", path, r->label, b->n >> way, 1 << way);
    if (gradient != *first) free(gradient);
    free(rounds);
    fdm_gradient_free(&g);
}

/* The fastest backend does every model in all three ways; the others, tens of times slower, every third model in one:
 * that their layers give the same bits is what test_backward shows.  Every fourth model has the whole batch. */
START_TEST(same_bits) {
    struct runner list[MAX_RUNNERS];
    const int fastest = runners(list) - 1; /* list[0] is the reference */
    struct model_files files;
    model_files_find(&files);
    ck_assert_uint_eq(files.count, MODELS);
    const char *path = files.paths[_i];
    fdm_gradient *g = open_model(path, &list[fastest], 1, FDM_RECOMPUTE_OFF);
    struct batch b = make_batch(fdm_gradient_config(g), _i % 4 == 0 ? BATCH : BATCH / 2, 99);
    float *first = NULL;
    fdm_gradient_free(&g);
    for (int way = 0; way < 3; way++) check_way(&first, path, &b, &list[fastest], way);
    for (int k = 1; k < fastest; k++)
        if (_i % 3 == k % 3) check_way(&first, path, &b, &list[k], _i / 3 % 3);
    free(first);
    free_batch(&b);
    model_files_free(&files);
}
END_TEST

/* The modes that are not the default: the first models whose layers they change, the fastest instruction set in all three
 * ways, the others with the first model. */
START_TEST(same_bits_in_modes) {
#ifdef FDM_POISON
    enum { CHANGED = 1 };
#else
    enum { CHANGED = 3 };
#endif
    struct runner list[MAX_RUNNERS];
    const int count = runners_of_mode(list, (fdm_conv_mode)_i);
    struct model_files files;
    int changed = 0;
    if (_i == FDM_CONV_DEFAULT) return; /* same_bits */
    model_files_find(&files);
    for (size_t i = 0; i < files.count && changed < CHANGED; i++) {
        fdm_tensors set = {0};
        fdm_error err = {0};
        ck_assert_msg(fdm_safetensors_read(&set, files.paths[i], &err) == FDM_OK, "%s", err.message);
        const bool counts = model_winograd_layers(&set) > 0;
        fdm_tensors_free(&set);
        if (!counts) continue;
        fdm_gradient *g = open_model(files.paths[i], &list[count - 1], 1, FDM_RECOMPUTE_OFF);
        struct batch b = make_batch(fdm_gradient_config(g), BATCH, 99);
        float *first = NULL;
        fdm_gradient_free(&g);
        for (int way = 0; way < 3; way++) check_way(&first, files.paths[i], &b, &list[count - 1], way);
        for (int k = 0; changed == 0 && k < count - 1; k++) check_way(&first, files.paths[i], &b, &list[k], 1);
        changed++;
        free(first);
        free_batch(&b);
    }
    ck_assert_int_eq(changed, CHANGED);
    model_files_free(&files);
}
END_TEST

START_TEST(recompute_saves_memory) {
    const struct runner portable = {"portable", "auto", "portable", true, NULL};
    size_t bytes[3];
    for (int way = 0; way < 3; way++) {
        fdm_gradient *g = open_model(FDM_TEST_GOLDEN_DIR "/net_FDM_VPPrecond_ddpmpp_r16_m2_lab_aug.safetensors", &portable, 1,
                                     (fdm_recompute)way);
        struct batch b = make_batch(fdm_gradient_config(g), 4, 1);
        const fdm_gradient_args args = part(&b, 0, 4, 0);
        free(compute(g, &args));
        bytes[way] = fdm_gradient_activation_bytes(g);
        free_batch(&b);
        fdm_gradient_free(&g);
    }
    printf("activations and scratch: %zu kB kept, %zu kB with norm, %zu kB with block\n", bytes[0] >> 10, bytes[1] >> 10,
           bytes[2] >> 10);
    ck_assert_uint_lt(bytes[1], bytes[0]);
    ck_assert_uint_lt(bytes[2], bytes[1]);
}
END_TEST

START_TEST(refusals) {
    const struct runner portable = {"portable", "auto", "portable", true, NULL};
    fdm_gradient *g = open_model(FDM_TEST_GOLDEN_DIR "/net_VPPrecond_ddpmpp_tiny_r16_lab.safetensors", &portable, 1,
                                 FDM_RECOMPUTE_OFF);
    struct batch b = make_batch(fdm_gradient_config(g), 1, 1);
    float *gradient = calloc(fdm_gradient_size(g), sizeof *gradient);
    fdm_error err = {0};
    fdm_gradient_args args = part(&b, 0, 1, 1.0);
    ck_assert_int_eq(fdm_gradient_compute(g, gradient, &args, &err), FDM_BAD_USAGE);
    args.dropout = NAN;
    ck_assert_int_eq(fdm_gradient_compute(g, gradient, &args, &err), FDM_BAD_USAGE);
    args.dropout = 0;
    args.n = 0;
    ck_assert_int_eq(fdm_gradient_compute(g, gradient, &args, &err), FDM_BAD_USAGE);
    args.n = 65537;
    ck_assert_int_eq(fdm_gradient_compute(g, gradient, &args, &err), FDM_BAD_USAGE);
    fdm_accumulator *rounds = NULL; /* a finished sum takes no more: the tree would lack its lower branches */
    args.n = 1;
    ck_assert_int_eq(fdm_accumulator_create(&rounds, g, &err), FDM_OK);
    ck_assert_ptr_null(fdm_accumulator_sum(rounds));
    for (int i = 0; i < 3; i++) ck_assert_int_eq(fdm_accumulator_add(rounds, &args, &err), FDM_OK);
    ck_assert_ptr_nonnull(fdm_accumulator_sum(rounds));
    ck_assert_int_eq(fdm_accumulator_add(rounds, &args, &err), FDM_BAD_USAGE);
    fdm_accumulator_reset(rounds);
    ck_assert_int_eq(fdm_accumulator_add(rounds, &args, &err), FDM_OK);
    fdm_accumulator_free(&rounds);
    free(gradient);
    free_batch(&b);
    fdm_gradient_free(&g);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gradient");
    TCase *tc = tcase_create("gradient");
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, published_gradients, 0, 2);
    tcase_add_loop_test(tc, published_gradients_in_modes, 0, FDM_CONV_MODES);
    tcase_add_loop_test(tc, same_bits, 0, MODELS);
    tcase_add_loop_test(tc, same_bits_in_modes, 0, FDM_CONV_MODES);
    tcase_add_loop_test(tc, finite_differences, 0, MODELS);
    tcase_add_test(tc, recompute_saves_memory);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
