/* test_init.c - initial weights from a seed, and the seed rule of the published loop. */
#include <check.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/denoiser.h"
#include "fdm/init.h"
#include "golden.h"
#include "io_util.h"
#include "oom.h"
#include "suite.h"

/* Counts and compares the tensors of `got` with those of `want` named "<prefix><name>"; only those that skip() lets
 * through.  Values equal, or as near as the last bit of a product of three f32 lets them be. */
struct comparison {
    int tensors;
    int64_t elements, unequal;
    double worst; /* relative to the largest magnitude of the tensor */
};

static void compare_tensor(struct comparison *c, const fdm_tensor *got, const fdm_tensor *want) {
    ck_assert_int_eq(want->dtype, FDM_F32);
    ck_assert_int_eq(got->ndim, want->ndim);
    for (int d = 0; d < got->ndim; d++) ck_assert_int_eq(got->shape[d], want->shape[d]);
    const int64_t n = fdm_tensor_numel(got);
    double largest = 0, error = 0;
    for (int64_t i = 0; i < n; i++) {
        const double a = fdm_tensor_get(got, i), b = fdm_tensor_get(want, i);
        ck_assert(isfinite(a));
        largest = fmax(largest, fabs(b));
        error = fmax(error, fabs(a - b));
        c->unequal += memcmp((const float *)got->data + i, (const float *)want->data + i, sizeof(float)) != 0;
    }
    if (largest > 0) error /= largest;
    ck_assert_msg(error <= 2e-7, "%s: off by %.3g of max", want->name, error);
    c->worst = fmax(c->worst, error);
    c->elements += n;
    c->tensors++;
}

static void parse_config(fdm_config *config, const fdm_tensors *set) {
    fdm_error err;
    ck_assert_msg(fdm_config_from_tensors(config, set, "golden", &err) == FDM_OK, "%s", err.message);
}

START_TEST(weights_of_a_seed) {
    fdm_tensors want, got = {0};
    fdm_config config;
    fdm_rng rng;
    fdm_error err;
    struct comparison c = {0};
    golden_load(&want, "init_FDM_EDMPrecond_ddpmpp_mc8.safetensors");
    parse_config(&config, &want);
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, strtoull(fdm_tensors_meta(&want, "torch_seed"), NULL, 10));
    ck_assert_msg(fdm_init_weights(&got, &config, &rng, &err) == FDM_OK, "%s", err.message);
    for (size_t i = 0; i < got.count; i++) compare_tensor(&c, &got.items[i], golden_get(&want, "", got.items[i].name));
    printf("  %d tensors, %" PRId64 " of %" PRId64 " values differ in bits (signs of zero too), worst %.2g of max\n",
           c.tensors, c.unequal, c.elements, c.worst);
    ck_assert_uint_eq(got.count + 1, want.count); /* and __rand_after__ */
    /* the generator stands where PyTorch's does */
    float after[4];
    fdm_rng_uniform_f32(&rng, after, 4);
    const float *golden_after = golden_f32(&want, "", "__rand_after__");
    for (int i = 0; i < 4; i++) ck_assert_float_eq(after[i], golden_after[i]);
    /* it is a model */
    fdm_denoiser *net = NULL;
    fdm_config again;
    parse_config(&again, &got);
    ck_assert_msg(fdm_denoiser_create(&net, &again, &got, "initial weights", NULL, &err) == FDM_OK, "%s", err.message);
    fdm_denoiser_free(&net);
    fdm_tensors_free(&got);
    fdm_tensors_free(&want);
}
END_TEST

static const struct recorded_run {
    const char *file;
    uint64_t torch_seed; /* of its initial weights, drawn apart from the loop's stream */
    uint64_t loop_seed;
} recorded_runs[] = {{"train_FDM_EDMPrecond_ddpmpp_mc8.safetensors", 201, 11},
                     {"train_VPPrecond_ddpmpp_mc8.safetensors", 203, 13}};

/* The initial parameters of the recorded runs, but for those that were drawn anew. */
START_TEST(weights_of_recorded_runs) {
    for (int r = 0; r < 2; r++) {
        fdm_tensors want, got = {0};
        fdm_config config;
        fdm_rng rng;
        fdm_error err;
        struct comparison c = {0};
        golden_load(&want, recorded_runs[r].file);
        parse_config(&config, &want);
        json_t *redrawn = json_loads(fdm_tensors_meta(&want, "rerandomised"), 0, NULL);
        ck_assert_ptr_nonnull(redrawn);
        fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, recorded_runs[r].torch_seed);
        ck_assert_int_eq(fdm_init_weights(&got, &config, &rng, &err), FDM_OK);
        for (size_t i = 0; i < got.count; i++)
            if (!json_object_get(redrawn, got.items[i].name))
                compare_tensor(&c, &got.items[i], golden_get(&want, "step0.param.", got.items[i].name));
        printf("  seed %" PRIu64 ": %d tensors, %" PRId64 " of %" PRId64 " values differ in bits, worst %.2g of max\n",
               recorded_runs[r].torch_seed, c.tensors, c.unequal, c.elements, c.worst);
        ck_assert_int_ge(c.tensors, 30);
        json_decref(redrawn);
        fdm_tensors_free(&got);
        fdm_tensors_free(&want);
    }
}
END_TEST

/* The next draw of the generator is this recorded tensor; normals within PyTorch's approximate sine and logarithm. */
static double check_next_draw(fdm_rng *rng, const fdm_tensor *t, const char *kind) {
    const size_t n = (size_t)fdm_tensor_numel(t);
    float *values = calloc(n, sizeof *values);
    int64_t *integers = calloc(n, sizeof *integers);
    const bool normal = strcmp(kind, "randn") == 0, integer = strcmp(kind, "randint") == 0;
    double worst = 0;
    ck_assert(values && integers);
    if (integer)
        fdm_rng_randint(rng, integers, n, 2);
    else
        (normal ? fdm_rng_normal_f32 : fdm_rng_uniform_f32)(rng, values, n);
    for (size_t i = 0; i < n; i++) {
        const double want = fdm_tensor_get(t, (int64_t)i), got = integer ? (double)integers[i] : (double)values[i];
        ck_assert_msg(fabs(got - want) <= (normal ? 2e-6 : 0), "%s[%zu]: drew %.9g, not %.9g", t->name, i, got, want);
        worst = fmax(worst, fabs(got - want));
    }
    free(values);
    free(integers);
    return worst;
}

/* From the loop's seed: the network's weights, then every draw of five updates in the published order, for the whole
 * batch as the recorded program drew them: sigma, augmentation, noise. */
START_TEST(published_loop_seed) {
    for (int r = 0; r < 2; r++) {
        fdm_tensors run, weights = {0};
        fdm_config config;
        fdm_rng rng, large;
        fdm_error err;
        double worst = 0;
        int draws = 0;
        golden_load(&run, recorded_runs[r].file);
        parse_config(&config, &run);
        fdm_init_seed_published(&rng, recorded_runs[r].loop_seed);
        fdm_init_seed_published(&large, recorded_runs[r].loop_seed + ((uint64_t)5 << 31)); /* modulo 2^31 */
        ck_assert(memcmp(&rng.mt, &large.mt, sizeof rng.mt) == 0);
        ck_assert_int_eq(fdm_init_weights(&weights, &config, &rng, &err), FDM_OK);
        for (int step = 1; step <= 5; step++) {
            char prefix[16], name[32];
            snprintf(prefix, sizeof prefix, "s%d.r1.", step);
            worst = fmax(worst, check_next_draw(&rng, golden_get(&run, prefix, "rnd"), r == 0 ? "randn" : "rand"));
            static const char *const kinds[] = {"rand", "randn", "randint"};
            for (int i = 0; i < 14; i++) {
                for (int k = 0; k < 3; k++) {
                    snprintf(name, sizeof name, "aug%02d.%s", i, kinds[k]);
                    const fdm_tensor *t = golden_find(&run, prefix, name);
                    if (!t) continue;
                    worst = fmax(worst, check_next_draw(&rng, t, kinds[k]));
                    draws++;
                }
            }
            worst = fmax(worst, check_next_draw(&rng, golden_get(&run, prefix, "noise_unit"), "randn"));
            draws += 2;
        }
        printf("  loop seed %" PRIu64 ": %d draws of 5 updates, uniforms exact, normals within %.2g\n",
               recorded_runs[r].loop_seed, draws, worst);
        ck_assert_int_eq(draws, r == 0 ? 5 * 16 : 5 * 2);
        fdm_tensors_free(&weights);
        fdm_tensors_free(&run);
    }
}
END_TEST

static void fourier_config(fdm_config *config) {
    const char json[] = "{\"class_name\": \"FDM_VEPrecond\", \"img_resolution\": 16, \"img_channels\": 3, "
                        "\"model_channels\": 8, \"channel_mult\": [1, 2], \"num_blocks\": 1, "
                        "\"embedding_type\": \"fourier\", "
                        "\"encoder_type\": \"residual\", \"decoder_type\": \"skip\", \"channel_mult_noise\": 2, "
                        "\"resample_filter\": [1, 3, 3, 1], \"label_dim\": 2}";
    fdm_error err;
    ck_assert_msg(fdm_config_parse(config, json, sizeof json - 1, NULL, "test", &err) == FDM_OK, "%s", err.message);
}

/* The other architecture: frequencies are the first thing drawn; filters, norms and gains as documented. */
START_TEST(fourier_and_gains) {
    fdm_config config;
    fdm_tensors got = {0};
    fdm_rng rng, first;
    fdm_error err;
    float freqs[8];
    fourier_config(&config);
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, 5);
    first = rng;
    fdm_rng_normal_f32(&first, freqs, 8);
    ck_assert_int_eq(fdm_init_weights(&got, &config, &rng, &err), FDM_OK);
    const float *drawn = golden_f32(&got, "", "model.map_noise.freqs");
    for (int i = 0; i < 8; i++) ck_assert_float_eq(drawn[i], freqs[i] * 16);
    const fdm_tensor *filter = golden_get(&got, "", "model.enc.8x8_aux_residual.resample_filter");
    const double row[] = {1, 3, 3, 1};
    for (int i = 0; i < 16; i++) ck_assert_double_eq(fdm_tensor_get(filter, i), row[i / 4] * row[i % 4] / 64);
    int tensors[4] = {0};
    for (size_t i = 0; i < got.count; i++) {
        const fdm_tensor *t = &got.items[i];
        const char *part = strrchr(t->name, '.');
        const bool norm = strstr(t->name, "norm") != NULL;
        double largest = 0;
        for (int64_t k = 0; k < fdm_tensor_numel(t); k++) largest = fmax(largest, fabs(fdm_tensor_get(t, k)));
        if (strcmp(part, ".bias") == 0) {
            ck_assert_double_eq(largest, 0);
            tensors[0]++;
        }
        if (strcmp(part, ".weight") != 0) continue;
        if (norm) {
            ck_assert_double_eq(largest, 1);
            tensors[1]++;
            continue;
        }
        const double taps = t->ndim == 4 ? (double)(t->shape[2] * t->shape[3]) : 1;
        double bound = sqrt(6 / ((double)(t->shape[0] + t->shape[1]) * taps));
        if (strstr(t->name, ".conv1.") || strstr(t->name, ".proj.") || strstr(t->name, "_aux_conv."))
            bound *= 1e-5, tensors[2]++;
        if (strstr(t->name, ".qkv.")) bound *= sqrt(0.2), tensors[3]++;
        ck_assert_msg(largest <= bound * 1.000001 && largest > bound * 0.8, "%s: largest %g, bound %g", t->name, largest,
                      bound);
    }
    for (int i = 0; i < 4; i++) ck_assert_int_gt(tensors[i], 1);
    fdm_tensors_free(&got);
}
END_TEST

static bool initialise(void *arg) {
    fdm_tensors set = {0};
    fdm_rng rng;
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, 1);
    const bool ok = fdm_init_weights(&set, arg, &rng, NULL) == FDM_OK;
    const bool empty = set.count == 0 && set.meta_count == 0;
    fdm_tensors_free(&set);
    return ok && !empty;
}

START_TEST(out_of_memory) {
    fdm_config config;
    fourier_config(&config);
    ck_assert_int_ge(oom_sweep("initial weights", initialise, &config), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("init");
    TCase *tc = tcase_create("init");
    tcase_add_test(tc, weights_of_a_seed);
    tcase_add_test(tc, weights_of_recorded_runs);
    tcase_add_test(tc, published_loop_seed);
    tcase_add_test(tc, fourier_and_gains);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
