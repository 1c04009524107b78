/* test_model.c - model files that are wrong: each ends in one line that names what, and in the right status. */
#include <check.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/config.h"
#include "golden.h"
#include "networks.h"
#include "suite.h"

static const char *const MODEL = FDM_TEST_GOLDEN_DIR "/net_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug.safetensors";

static void assert_one_line(const fdm_error *err, const char *expected_part) {
    ck_assert_msg(err->message[0] != 0, "no message");
    ck_assert_msg(strchr(err->message, '\n') == NULL, "more than one line: %s", err->message);
    ck_assert_msg(strstr(err->message, expected_part) != NULL, "\"%s\" does not mention \"%s\"", err->message, expected_part);
}

/* --- configurations --- */

static fdm_status parse(fdm_config *c, const char *json, fdm_error *err) {
    *err = (fdm_error){0};
    return fdm_config_parse(c, json, strlen(json), NULL, "a.safetensors", err);
}

#define IMAGE "\"img_resolution\":16,\"img_channels\":3"
#define EDM "{\"class_name\":\"EDMPrecond\"," IMAGE

START_TEST(config_defaults) {
    fdm_config c;
    fdm_error err;
    ck_assert_int_eq(parse(&c, EDM "}", &err), FDM_OK);
    ck_assert_int_eq(c.model_channels, 128);
    ck_assert_int_eq(c.levels, 4);
    ck_assert_int_eq(c.channel_mult[0], 1);
    ck_assert_int_eq(c.channel_mult[3], 2);
    ck_assert_int_eq(c.num_blocks, 4);
    ck_assert_int_eq(c.attn_count, 1);
    ck_assert_int_eq(c.attn_resolutions[0], 16);
    ck_assert_double_eq(c.dropout, 0.10);
    ck_assert_int_eq(c.encoder_type, FDM_STANDARD);
    ck_assert_int_eq(c.filter_len, 2);
    ck_assert_double_eq(c.precond.fdm_multiplier, 1.0);
    /* the class's module path, unknown keys and Python's None are no trouble */
    ck_assert_int_eq(parse(&c, "{\"class_name\":\"training.networks.FDM_VPPrecond\"," IMAGE
                               ",\"fdm_multiplier\":2.0,\"use_fp16\":true,\"surprise\":[1],\"num_blocks\":null}", &err), FDM_OK);
    ck_assert_int_eq(c.precond.kind, FDM_PRECOND_FDM_VP);
    ck_assert_double_eq(c.precond.fdm_multiplier, 2.0);
    ck_assert_int_eq(c.num_blocks, 4);
}
END_TEST

/* The damping of FDM's kernel: written where it is not the published 1, for the classes that have it, and read back. */
START_TEST(config_zeta) {
    fdm_config c;
    fdm_error err = {0};
    ck_assert_int_eq(parse(&c, "{\"class_name\":\"FDM_EDMPrecond\"," IMAGE "}", &err), FDM_OK);
    ck_assert_double_eq(c.precond.zeta, 1);
    char *json = fdm_config_json(&c);
    ck_assert_ptr_null(strstr(json, "zeta"));
    free(json);
    ck_assert_int_eq(parse(&c, "{\"class_name\":\"FDM_EDMPrecond\"," IMAGE ",\"zeta\":0.1}", &err), FDM_OK);
    json = fdm_config_json(&c);
    ck_assert_int_eq(parse(&c, json, &err), FDM_OK);
    ck_assert_double_eq(c.precond.zeta, 0.1);
    free(json);
    ck_assert_int_eq(parse(&c, "{\"class_name\":\"EDMPrecond\"," IMAGE ",\"zeta\":0.1}", &err), FDM_OK);
    ck_assert_double_eq(c.precond.zeta, 1); /* no key of this class */
    ck_assert_int_eq(parse(&c, "{\"class_name\":\"FDM_EDMPrecond\"," IMAGE ",\"zeta\":-0.1}", &err), FDM_BAD_INPUT);
    ck_assert_ptr_nonnull(strstr(err.message, "zeta = -0.1"));
}
END_TEST

START_TEST(config_round_trip) {
    struct model_files files;
    model_files_find(&files);
    for (size_t i = 0; i < files.count; i++) {
        struct model_case m;
        fdm_config a, b;
        fdm_error err = {0};
        model_case_open(&m, files.paths[i]);
        ck_assert_int_eq(fdm_config_from_tensors(&a, &m.set, m.path, &err), FDM_OK);
        char *json = fdm_config_json(&a);
        ck_assert_msg(parse(&b, json, &err) == FDM_OK, "%s", err.message);
        char *again = fdm_config_json(&b);
        ck_assert_str_eq(json, again);
        free(json);
        free(again);
        model_case_close(&m);
    }
    model_files_free(&files);
}
END_TEST

START_TEST(config_errors) {
    static const struct {
        const char *json, *mentions;
    } bad[] = {
        {"", "not valid JSON"},
        {"[]", "JSON object"},
        {"{\"a\":1,\"a\":2}", "not valid JSON"},
        {"{" IMAGE "}", "class_name"},
        {"{\"class_name\":7," IMAGE "}", "class_name"},
        {"{\"class_name\":\"NoPrecond\"," IMAGE "}", "NoPrecond"},
        {"{\"class_name\":\"EDMPrecond\"}", "img_resolution"},
        {EDM ",\"model_type\":\"DhariwalUNet\"}", "model_type"},
        {EDM ",\"model_channels\":0}", "model_channels"},
        {EDM ",\"model_channels\":-8}", "model_channels"},
        {EDM ",\"model_channels\":1000000000}", "model_channels"},
        {EDM ",\"model_channels\":99999999999999999999}", "JSON"},
        {EDM ",\"model_channels\":16.5}", "model_channels"},
        {EDM ",\"model_channels\":\"16\"}", "model_channels"},
        {EDM ",\"model_channels\":65536,\"channel_mult\":[2]}", "65536 channels"},
        {EDM ",\"model_channels\":3}", "noise embedding"},
        {EDM ",\"model_channels\":36,\"channel_mult\":[1,5]}", "groups"},
        {EDM ",\"channel_mult\":[]}", "channel_mult"},
        {EDM ",\"channel_mult\":2}", "channel_mult"},
        {EDM ",\"channel_mult\":[1,0]}", "channel_mult"},
        {EDM ",\"channel_mult\":[1,1,1,1,1,1]}", "not divisible"},
        {EDM ",\"channel_mult\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", "channel_mult"},
        {"{\"class_name\":\"EDMPrecond\",\"img_resolution\":18,\"img_channels\":3,\"channel_mult\":[1,1,1]}", "not divisible"},
        {"{\"class_name\":\"EDMPrecond\",\"img_resolution\":1000000,\"img_channels\":3}", "img_resolution"},
        {"{\"class_name\":\"EDMPrecond\",\"img_resolution\":16,\"img_channels\":0}", "img_channels"},
        {EDM ",\"num_blocks\":0}", "num_blocks"},
        {EDM ",\"num_blocks\":1000000000}", "num_blocks"},
        {EDM ",\"label_dim\":-1}", "label_dim"},
        {EDM ",\"attn_resolutions\":[16,\"8\"]}", "attn_resolutions"},
        {EDM ",\"embedding_type\":\"cosine\"}", "embedding_type"},
        {EDM ",\"decoder_type\":\"residual\"}", "decoder_type"},
        {EDM ",\"resample_filter\":[]}", "resample_filter"},
        {EDM ",\"resample_filter\":[1,-1]}", "resample_filter"},
        {EDM ",\"resample_filter\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", "resample_filter"},
        {EDM ",\"resample_filter\":[1,2,1]}", "must be even"},
        {EDM ",\"dropout\":1.5}", "dropout"},
        {EDM ",\"sigma_data\":-1}", "sigma_data"},
        {EDM ",\"model_channels\":\"\xff\xfe\"}", "JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        fdm_config c;
        fdm_error err;
        ck_assert_msg(parse(&c, bad[i].json, &err) == FDM_BAD_INPUT, "%s was accepted", bad[i].json);
        assert_one_line(&err, bad[i].mentions);
        assert_one_line(&err, "a.safetensors");
    }
}
END_TEST

/* --- tensors that do not fit --- */

static fdm_status create(struct model_case *m, fdm_error *err) {
    fdm_config c;
    fdm_denoiser *d = NULL;
    *err = (fdm_error){0};
    ck_assert_int_eq(fdm_config_from_tensors(&c, &m->set, m->path, err), FDM_OK);
    const fdm_status status = fdm_denoiser_create(&d, &c, &m->set, m->path, NULL, err);
    ck_assert((d != NULL) == (status == FDM_OK));
    fdm_denoiser_free(&d);
    return status;
}

START_TEST(tensors_that_do_not_fit) {
    struct model_case m;
    fdm_error err;
    model_case_open(&m, MODEL);
    ck_assert_int_eq(create(&m, &err), FDM_OK);

    fdm_tensor *conv = fdm_tensors_find(&m.set, "model.enc.16x16_conv.weight");
    fdm_tensor *bias = fdm_tensors_find(&m.set, "model.enc.16x16_conv.bias");
    fdm_tensor *freqs = fdm_tensors_find(&m.set, "model.map_noise.freqs");
    fdm_tensor *filter = fdm_tensors_find(&m.set, "model.enc.8x8_down.conv0.resample_filter");
    ck_assert(conv && bias && freqs && filter);
    conv->name[0] = 'M';
    freqs->name[0] = 'M';
    ck_assert_int_eq(create(&m, &err), FDM_BAD_INPUT); /* all of them are named */
    assert_one_line(&err, "model.enc.16x16_conv.weight is missing");
    assert_one_line(&err, "model.map_noise.freqs is missing");
    conv->name[0] = 'm';
    freqs->name[0] = 'm';

    conv->shape[0]--;
    filter->shape[3] = 2;
    ck_assert_int_eq(create(&m, &err), FDM_BAD_INPUT);
    assert_one_line(&err, "model.enc.16x16_conv.weight is F32[7,3,3,3] instead of F32[8,3,3,3]");
    assert_one_line(&err, "resample_filter");
    conv->shape[0]++;
    filter->shape[3] = 4;

    bias->dtype = FDM_F64;
    ck_assert_int_eq(create(&m, &err), FDM_BAD_INPUT);
    assert_one_line(&err, "model.enc.16x16_conv.bias is F64[8] instead of F32[8]");
    bias->dtype = FDM_F32;

    /* the file is mapped read-only: spoil a copy */
    float values[8];
    memcpy(values, bias->data, sizeof values);
    void *const mapped = bias->data;
    const bool owned = bias->owns_data;
    bias->data = values;
    bias->owns_data = false;
    static const uint32_t bad_bits[] = {0x7fc00000u, 0x7f800000u, 0xff800000u, 0x7f800001u};
    for (size_t i = 0; i < 4; i++) {
        memcpy(&values[i], &bad_bits[i], 4);
        ck_assert_int_eq(create(&m, &err), FDM_BAD_INPUT);
        assert_one_line(&err, "model.enc.16x16_conv.bias");
        values[i] = 0;
    }
    ck_assert_int_eq(create(&m, &err), FDM_OK);
    bias->data = mapped;
    bias->owns_data = owned;
    model_case_close(&m);
}
END_TEST

START_TEST(how_to_run) {
    static const struct {
        fdm_run_options options;
        const char *mentions;
    } bad[] = {
        {{.backend = "gpu"}, "gpu"},
        {{.isa = "avx1024"}, "avx1024"},
        {{.threads = -1}, "threads"},
        {{.threads = 1 << 20}, "threads"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        fdm_error err = {0};
        fdm_denoiser *d = NULL;
        ck_assert_int_eq(fdm_denoiser_load(&d, MODEL, &bad[i].options, &err), FDM_BAD_USAGE);
        ck_assert_ptr_null(d);
        assert_one_line(&err, bad[i].mentions);
    }
    fdm_error err = {0};
    fdm_denoiser *d = NULL;
    ck_assert_int_eq(fdm_denoiser_load(&d, "no/such/file.safetensors", NULL, &err), FDM_BAD_INPUT);
    assert_one_line(&err, "no/such/file.safetensors");
    ck_assert_int_eq(fdm_denoiser_load(&d, FDM_TEST_GOLDEN_DIR "/rng_cpu.safetensors", NULL, &err), FDM_BAD_INPUT);
    assert_one_line(&err, "not a model file");
}
END_TEST

/* --- inputs that are wrong --- */

START_TEST(inputs_that_are_wrong) {
    struct model_case m;
    fdm_error err = {0};
    model_case_open(&m, MODEL);
    struct runner list[MAX_RUNNERS];
    runners(list);
    fdm_denoiser *d = model_case_load(&m, &list[0], 1);
    double *D = malloc(m.pixels * sizeof *D);
    fdm_denoise_args args = {.n = m.n, .x = m.x, .sigma = m.sigma, .augment_labels = m.augment_labels};
    static const double bad_sigma[] = {0, -1, (double)NAN, (double)INFINITY, 1e300, 1e-300};
    for (size_t i = 0; i < sizeof bad_sigma / sizeof bad_sigma[0]; i++) {
        const double kept = m.sigma[1];
        m.sigma[1] = bad_sigma[i];
        ck_assert_int_eq(fdm_denoise(d, D, &args, &err), FDM_BAD_INPUT);
        assert_one_line(&err, "sigma: element 1");
        m.sigma[1] = kept;
    }
    m.x[5] = (double)NAN;
    ck_assert_int_eq(fdm_denoise(d, D, &args, &err), FDM_BAD_INPUT);
    assert_one_line(&err, "x: element 5");
    m.x[5] = 0;
    m.augment_labels[2] = (double)INFINITY;
    ck_assert_int_eq(fdm_denoise(d, D, &args, &err), FDM_BAD_INPUT);
    assert_one_line(&err, "augment_labels: element 2");
    m.augment_labels[2] = 0;
    args.n = 0;
    ck_assert_int_eq(fdm_denoise(d, D, &args, &err), FDM_BAD_USAGE);
    args.n = m.n;
    ck_assert_int_eq(fdm_denoise(d, D, &args, &err), FDM_OK); /* and it still works */
    free(D);
    fdm_denoiser_free(&d);
    model_case_close(&m);
}
END_TEST

START_TEST(model_sizes) {
    fdm_config c;
    fdm_config_size size;
    fdm_error err;
    /* The published CIFAR-10 model has 55.7 M parameters; a forward pass takes 42.04 GFLOP per image in convolutions
     * and linear layers, and 4 L^2 C in each attention over L positions: five at 16x16, one at 8x8, C = 256. */
    const double attention = 4.0 * 256 * (5 * 256.0 * 256 + 64.0 * 64) * 1e-9;
    ck_assert_int_eq(parse(&c, "{\"class_name\":\"EDMPrecond\",\"img_resolution\":32,\"img_channels\":3,"
                               "\"channel_mult\":[2,2,2],\"augment_dim\":9}", &err), FDM_OK);
    ck_assert_int_eq(fdm_config_measure(&size, &c, &err), FDM_OK);
    printf("CIFAR-10 ddpmpp: %lld parameters, %.3f GFLOP per image\n", (long long)size.parameters, (double)size.flops * 1e-9);
    ck_assert_int_eq(size.parameters, 55733891);
    ck_assert_double_eq_tol((double)size.flops * 1e-9, 42.04 + attention, 0.005); /* as it was rounded */
    /* A file may name a network whose count of operations no integer holds. */
    ck_assert_int_eq(parse(&c, "{\"class_name\":\"EDMPrecond\",\"img_resolution\":4096,\"img_channels\":3,\"num_blocks\":64,"
                               "\"model_channels\":32768,\"channel_mult\":[1],\"channel_mult_emb\":1,"
                               "\"attn_resolutions\":[4096]}", &err), FDM_OK);
    ck_assert_int_eq(fdm_config_measure(&size, &c, &err), FDM_OK);
    ck_assert_int_eq(size.flops, INT64_MAX);
}
END_TEST

/* fdm_config_check is public: a config that a program fills in by itself must not get past it, or crash it. */
START_TEST(config_by_hand) {
    fdm_config good, c;
    fdm_error err;
    ck_assert_int_eq(parse(&good, "{\"class_name\":\"EDMPrecond\",\"img_resolution\":32,\"img_channels\":3}", &err), FDM_OK);
    int *const fields[] = {&c.img_resolution, &c.img_channels, &c.model_channels, &c.levels, &c.channel_mult[0],
                           &c.channel_mult_emb, &c.channel_mult_noise, &c.num_blocks, &c.filter_len};
    static const int bad[] = {0, -1, INT_MIN, INT_MAX};
    for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++)
        for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++) {
            c = good;
            *fields[f] = bad[b];
            ck_assert_msg(fdm_config_check(&c, "here", &err) == FDM_BAD_INPUT, "field %zu = %d is accepted", f, bad[b]);
            assert_one_line(&err, "here: config");
        }
    c = good;
    c.decoder_type = FDM_RESIDUAL;
    ck_assert_int_eq(fdm_config_check(&c, "here", &err), FDM_BAD_INPUT);
    ck_assert_int_eq(fdm_config_check(&good, "here", &err), FDM_OK);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model");
    TCase *tests = tcase_create("model");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, config_defaults);
    tcase_add_test(tests, config_zeta);
    tcase_add_test(tests, config_round_trip);
    tcase_add_test(tests, config_errors);
    tcase_add_test(tests, config_by_hand);
    tcase_add_test(tests, tensors_that_do_not_fit);
    tcase_add_test(tests, how_to_run);
    tcase_add_test(tests, inputs_that_are_wrong);
    tcase_add_test(tests, model_sizes);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
