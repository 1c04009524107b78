/* test_layers.c - the forward pass of every layer in golden/ops_layers.safetensors, on every backend.
 *
 * Truth is the published program's f64 output, or, where the golden has none (blocks), our reference, which is
 * itself held to the published f32 output.  The f32 error of PyTorch is printed beside ours: promise P3 says
 * ours is no larger.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "base/base.h"
#include "golden.h"
#include "suite.h"

static fdm_tensors ops;

/* ---- layers put together from the backend's calls ------------------------------------------------------ */

/* A golden module "<prefix>weight", "<prefix>bias", "<prefix>resample_filter" as a convolution. */
struct conv_module {
    const char *prefix;
    int out_channels; /* of the module; = input channels for k = 0 */
    int k;            /* 0: resampling only */
    bool up, down, fused;
};

static struct conv_module conv_module(const char *prefix, int in_channels, bool up, bool down, bool fused) {
    struct conv_module m = {.prefix = prefix, .out_channels = in_channels, .up = up, .down = down, .fused = fused};
    if (golden_find(&ops, prefix, "weight")) {
        m.out_channels = golden_dim(&ops, prefix, "weight", 0);
        m.k = golden_dim(&ops, prefix, "weight", 2);
    }
    return m;
}

static const struct fdm_epilogue no_epilogue = {.scale = 1};

static struct fdm_map resampled(struct test_backend *b, const struct fdm_map *in, const struct conv_module *m,
                                int pad, const float *bias, const struct fdm_epilogue *e, int halo) {
    const int len = golden_dim(&ops, m->prefix, "resample_filter", 2);
    struct fdm_resample_args args = {.up = m->up, .pad = pad, .len = len, .bias = bias, .epilogue = *e};
    args.filter = golden_f32(&ops, m->prefix, "resample_filter");
    const int h = m->up ? (in->h - 1) * 2 - 2 * pad + len : (in->h + 2 * pad - len) / 2 + 1;
    const int w = m->up ? (in->w - 1) * 2 - 2 * pad + len : (in->w + 2 * pad - len) / 2 + 1;
    struct fdm_map out = test_map(b, in->n, in->c, h, w, halo);
    b->table->resample(&b->exec, &out, in, &args);
    return out;
}

static struct fdm_map convolved(struct test_backend *b, const struct fdm_map *in, const struct conv_module *m,
                                int pad, bool with_bias, const struct fdm_epilogue *e, int halo) {
    const float *bias = with_bias ? golden_f32(&ops, m->prefix, "bias") : NULL;
    struct fdm_conv2d_args args = {.k = m->k, .pad = pad, .epilogue = *e};
    args.weight = test_pack_conv2d(b, golden_f32(&ops, m->prefix, "weight"), bias, m->out_channels, in->c, m->k);
    struct fdm_map out =
        test_map(b, in->n, m->out_channels, in->h + 2 * pad - m->k + 1, in->w + 2 * pad - m->k + 1, halo);
    test_conv2d(b, &out, in, &args);
    return out;
}

/* SPEC 3 "Conv2d": plain, resampling before the convolution, and the fused order.  in.halo must be enough for
 * the convolution that reads it. */
static struct fdm_map conv2d_module(struct test_backend *b, const struct fdm_map *in, const struct conv_module *m,
                                    const struct fdm_epilogue *e, int halo) {
    if (!m->up && !m->down) return convolved(b, in, m, m->k / 2, true, e, halo);
    const int p = (golden_dim(&ops, m->prefix, "resample_filter", 2) - 1) / 2, half = m->k / 2;
    if (m->k == 0) return resampled(b, in, m, p, NULL, e, halo);
    if (m->fused && m->down) {
        struct fdm_map wide = convolved(b, in, m, half + p, false, &no_epilogue, 0);
        return resampled(b, &wide, m, 0, golden_f32(&ops, m->prefix, "bias"), e, halo);
    }
    const int up_pad = m->fused ? fdm_max_int(p - half, 0) : p;
    const int conv_pad = m->fused ? fdm_max_int(half - p, 0) : half;
    struct fdm_map sampled = resampled(b, in, m, up_pad, NULL, &no_epilogue, conv_pad);
    return convolved(b, &sampled, m, conv_pad, true, e, halo);
}

static struct fdm_map group_normed(struct test_backend *b, const struct fdm_map *in, const char *prefix,
                                   const struct fdm_vec *add, bool silu, int halo) {
    struct fdm_groupnorm_args args = {
        .groups = fdm_min_int(32, in->c / 4), .eps = 1e-6, .add = add, .silu = silu};
    const float *weight = golden_f32(&ops, prefix, "weight"), *bias = golden_f32(&ops, prefix, "bias");
    args.param = test_pack_groupnorm(b, weight, bias, in->c);
    struct fdm_map out = test_map(b, in->n, in->c, in->h, in->w, halo);
    b->table->groupnorm(&b->exec, &out, in, &args);
    return out;
}

static struct fdm_vec linear_module(struct test_backend *b, const struct fdm_vec *in, const char *prefix) {
    const int out_features = golden_dim(&ops, prefix, "weight", 0);
    struct fdm_linear_args args = {.in_scale = 1};
    args.weight = test_pack_linear(b, golden_f32(&ops, prefix, "weight"), golden_f32(&ops, prefix, "bias"),
                                   out_features, in->c);
    struct fdm_vec out = test_vec(b, in->n, out_features);
    b->table->linear(&b->exec, &out, in, &args);
    return out;
}

static struct fdm_map golden_map(struct test_backend *b, const char *prefix, const char *name, int halo) {
    double *values = golden_f64(&ops, prefix, name);
    struct fdm_map m = test_map_of(b, values, golden_dim(&ops, prefix, name, 0), golden_dim(&ops, prefix, name, 1),
                                   golden_dim(&ops, prefix, name, 2), golden_dim(&ops, prefix, name, 3), halo);
    free(values);
    return m;
}

static struct fdm_vec golden_vec(struct test_backend *b, const char *prefix, const char *name) {
    double *values = golden_f64(&ops, prefix, name);
    struct fdm_vec v =
        test_vec_of(b, values, golden_dim(&ops, prefix, name, 0), golden_dim(&ops, prefix, name, 1));
    free(values);
    return v;
}

/* ---- one function per kind of golden --------------------------------------------------------------------- */

struct outcome {
    const double *values; /* plain NCHW or rows; the backend's memory */
    int shape[4], ndim;
};

static struct outcome outcome_of_map(struct test_backend *b, const struct fdm_map *m) {
    return (struct outcome){test_map_values(b, m), {m->n, m->c, m->h, m->w}, 4};
}

static struct outcome outcome_of_vec(struct test_backend *b, const struct fdm_vec *v) {
    return (struct outcome){test_vec_values(b, v), {v->n, v->c}, 2};
}

static struct outcome run_conv(struct test_backend *b, const char *prefix) {
    const bool fused = strstr(prefix, "_fused") != NULL;
    /* The widest padding that a convolution here reads is 2: fused down, k = 3, filter [1,3,3,1]. */
    struct fdm_map x = golden_map(b, prefix, "x", 2);
    struct conv_module m =
        conv_module(prefix, x.c, strstr(prefix, "_up_") != NULL, strstr(prefix, "_down_") != NULL, fused);
    struct fdm_map out = conv2d_module(b, &x, &m, &no_epilogue, 1);
    return outcome_of_map(b, &out);
}

static struct outcome run_groupnorm(struct test_backend *b, const char *prefix) {
    struct fdm_map x = golden_map(b, prefix, "x", 0);
    struct fdm_map out = group_normed(b, &x, prefix, NULL, false, 1);
    return outcome_of_map(b, &out);
}

static struct outcome run_linear(struct test_backend *b, const char *prefix) {
    struct fdm_vec x = golden_vec(b, prefix, "x");
    struct fdm_vec out = linear_module(b, &x, prefix);
    return outcome_of_vec(b, &out);
}

/* The golden has the weights w (N, L, L) only.  With v[j,b] = 1 at b = first + j and 0 elsewhere, out[j,a] is
 * w[a, first + j] exactly, so L/C calls read all of w. */
static struct outcome run_attention(struct test_backend *b, const char *prefix) {
    const int n = golden_dim(&ops, prefix, "q", 0), c = golden_dim(&ops, prefix, "q", 1);
    const int l = golden_dim(&ops, prefix, "q", 2), side = (int)sqrt((double)l);
    ck_assert(side * side == l);
    double *q = golden_f64(&ops, prefix, "q"), *k = golden_f64(&ops, prefix, "k");
    double *qkv = test_alloc(b, (size_t)(n * 3 * c * l) * sizeof *qkv);
    double *w = test_alloc(b, (size_t)(n * l * l) * sizeof *w);
    for (int first = 0; first < l; first += c) {
        for (int plane = 0; plane < n * c; plane++)
            for (int a = 0; a < l; a++) {
                qkv[(3 * plane + 0) * l + a] = q[plane * l + a];
                qkv[(3 * plane + 1) * l + a] = k[plane * l + a];
                qkv[(3 * plane + 2) * l + a] = a == first + plane % c;
            }
        struct fdm_map in = test_map_of(b, qkv, n, 3 * c, side, side, 0);
        struct fdm_map out = test_map(b, n, c, side, side, 0);
        test_attention(b, &out, &in);
        const double *columns = test_map_values(b, &out);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < c && first + j < l; j++)
                for (int a = 0; a < l; a++) w[(i * l + a) * l + first + j] = columns[(i * c + j) * l + a];
    }
    free(q);
    free(k);
    return (struct outcome){w, {n, l, l}, 3};
}

/* SPEC 3 "UNetBlock" */
static struct outcome run_block(struct test_backend *b, const char *prefix) {
    const double q = sqrt(0.5);
    const bool up = strcmp(prefix, "block_up.") == 0, down = strcmp(prefix, "block_down.") == 0;
    char name[8][64];
    static const char *const parts[] = {"norm0.", "conv0.", "affine.", "norm1.",
                                        "conv1.", "skip.",  "norm2.",  "qkv."};
    for (size_t i = 0; i < 8; i++) snprintf(name[i], sizeof name[i], "%s%s", prefix, parts[i]);
    struct fdm_map x = golden_map(b, prefix, "x", 1);
    struct fdm_vec emb = golden_vec(b, prefix, "emb");

    struct conv_module conv0 = conv_module(name[1], x.c, up, down, false);
    struct fdm_map h = group_normed(b, &x, name[0], NULL, true, 1);
    h = conv2d_module(b, &h, &conv0, &no_epilogue, 0);
    struct fdm_vec affine = linear_module(b, &emb, name[2]);
    h = group_normed(b, &h, name[3], &affine, true, 1);
    struct fdm_map skip = x;
    if (golden_find(&ops, name[5], "weight")) {
        struct conv_module module = conv_module(name[5], x.c, up, down, false);
        skip = conv2d_module(b, &x, &module, &no_epilogue, 1);
    }
    struct conv_module conv1 = conv_module(name[4], h.c, false, false, false);
    struct fdm_map out = conv2d_module(b, &h, &conv1, &(struct fdm_epilogue){.residual = &skip, .scale = q}, 1);
    if (!golden_find(&ops, name[7], "weight")) return outcome_of_map(b, &out);

    char proj_name[64];
    snprintf(proj_name, sizeof proj_name, "%sproj.", prefix);
    struct conv_module qkv = conv_module(name[7], out.c, false, false, false);
    struct conv_module proj = conv_module(proj_name, out.c, false, false, false);
    struct fdm_map a = group_normed(b, &out, name[6], NULL, false, 0);
    a = conv2d_module(b, &a, &qkv, &no_epilogue, 0);
    struct fdm_map attended = test_map(b, out.n, out.c, out.h, out.w, 0);
    test_attention(b, &attended, &a);
    a = conv2d_module(b, &attended, &proj, &(struct fdm_epilogue){.residual = &out, .scale = q}, 1);
    return outcome_of_map(b, &a);
}

/* ---- the comparison -------------------------------------------------------------------------------------- */

/* Tolerances of the reference, relative to max|truth| of the tensor.
 * Against f64 goldens: both are f64, sums of at most a few hundred terms in different orders.
 * Against f32 goldens: what PyTorch's f32 may have lost in a block, two 3x3 convolutions of 144 terms and two
 * to three normalisations, about ten roundings of 6e-8 deep with some cancellation. */
static const double reference_tolerance = 1e-12, pytorch_tolerance = 3e-6;
/* The f32 backends, relative to max|truth|: the same depth of roundings. */
static const double f32_tolerance = 3e-6;
/* P3, RMS error over PyTorch's on the same tensor.  One tensor is one draw, and two equally good orders of
 * summation differ by chance:
 *   single layers: about 1/sqrt(2 * elements), 1 % for the thousands of elements here;
 *   blocks: errors share the statistics of a group, so they scatter more.  Over 300 random inputs of each block
 *     against PyTorch 1.13, the ratio's geometric mean was 0.96 to 0.98; over 400 of block_down, the smallest, the
 *     RMS error of one draw scattered by 10 % around its own mean, and PyTorch's is another such draw: 14 % for the
 *     ratio.  1.45 is the mean plus three times that.
 * The mean over all layers gets no allowance. */
static const double layer_rms_ratio = 1.02, block_rms_ratio = 1.45, mean_rms_ratio = 1.0;

struct layer {
    const char *prefix, *out, *out_f64; /* out_f64 NULL: the reference is the truth */
    struct outcome (*run)(struct test_backend *, const char *prefix);
};
static const struct layer layers[] = {
#define CONV(name) {name ".", "out", "out_f64", run_conv}
#define CONV_RESAMPLED(direction, filter)                                                                    \
    CONV("conv_" direction "_k0_" filter), CONV("conv_" direction "_k1_" filter),                            \
        CONV("conv_" direction "_k3_" filter), CONV("conv_" direction "_k3_" filter "_fused")
    CONV("conv_k1"),
    CONV("conv_k3"),
    CONV_RESAMPLED("up", "f11"),
    CONV_RESAMPLED("up", "f1331"),
    CONV_RESAMPLED("down", "f11"),
    CONV_RESAMPLED("down", "f1331"),
    {"gn_c8.", "out", "out_f64", run_groupnorm},
    {"gn_c24.", "out", "out_f64", run_groupnorm},
    {"gn_c128.", "out", "out_f64", run_groupnorm},
    {"gn_c160.", "out", "out_f64", run_groupnorm},
    {"gn_c512.", "out", "out_f64", run_groupnorm},
    {"linear.", "out", "out_f64", run_linear},
    {"attn.", "w", "w_f64", run_attention},
    {"block_plain.", "out", NULL, run_block},
    {"block_skip.", "out", NULL, run_block},
    {"block_up.", "out", NULL, run_block},
    {"block_down.", "out", NULL, run_block},
    {"block_attn.", "out", NULL, run_block},
};

/* Ratios of RMS errors of one backend, over the layers. */
struct tally {
    double log_sum;
    int count;
};

static bool check_reference(const struct layer *layer, const double *got, const double *pytorch, size_t count) {
    double *truth = golden_f64(&ops, layer->prefix, layer->out_f64 ? layer->out_f64 : layer->out);
    const struct golden_error e = golden_compare(got, truth, count);
    const double tolerance = layer->out_f64 ? reference_tolerance : pytorch_tolerance;
    const struct golden_error theirs = golden_compare(pytorch, layer->out_f64 ? truth : got, count);
    const bool pass = e.max_scaled <= tolerance; /* false for NaN */
    printf("%-26s reference  max/max|truth| %.2e                 PyTorch f32 %.2e %s\n", layer->prefix,
           e.max_scaled, theirs.max_scaled, pass ? "" : "FAIL");
    free(truth);
    return pass;
}

static bool check_f32(const struct layer *layer, const char *label, const double *got, const double *truth,
                      const double *pytorch, size_t count, struct tally *tally) {
    const struct golden_error ours = golden_compare(got, truth, count);
    const struct golden_error theirs = golden_compare(pytorch, truth, count);
    const double ratio = ours.rms > 0 ? ours.rms / theirs.rms : 0; /* infinite where PyTorch is exact, we are not */
    const double allowed = layer->run == run_block ? block_rms_ratio : layer_rms_ratio;
    const bool pass = ours.max_scaled <= f32_tolerance && ratio <= allowed;
    if (ours.rms > 0 && theirs.rms > 0) tally->log_sum += log(ratio), tally->count++;
    printf("%-26s %-10s max/max|truth| %.2e rms ratio %.3f PyTorch f32 %.2e %s\n", layer->prefix, label,
           ours.max_scaled, ratio, theirs.max_scaled, pass ? "" : "FAIL");
    return pass;
}

static const double *run_layer(const struct layer *layer, struct test_backend *b) {
    const struct outcome got = layer->run(b, layer->prefix);
    const fdm_tensor *golden = golden_get(&ops, layer->prefix, layer->out);
    ck_assert_msg(got.ndim == golden->ndim, "%s%s on %s: dimensions", layer->prefix, layer->out, b->label);
    for (int d = 0; d < got.ndim; d++)
        ck_assert_msg(got.shape[d] == golden->shape[d], "%s%s on %s: shape", layer->prefix, layer->out, b->label);
    return got.values;
}

/* All backends on one layer; false if one fails. */
static bool check_layer(const struct layer *layer, struct test_backend *backends, int count, struct tally *tally) {
    const size_t elements = (size_t)fdm_tensor_numel(golden_get(&ops, layer->prefix, layer->out));
    double *pytorch = golden_f64(&ops, layer->prefix, layer->out);
    const double *reference = run_layer(layer, &backends[0]);
    bool pass = check_reference(layer, reference, pytorch, elements);
    double *f64_golden = layer->out_f64 ? golden_f64(&ops, layer->prefix, layer->out_f64) : NULL;
    const double *first = NULL;
    for (int i = 1; i < count; i++) {
        const double *got = run_layer(layer, &backends[i]);
        pass &= check_f32(layer, backends[i].label, got, f64_golden ? f64_golden : reference, pytorch, elements,
                          &tally[i]);
        if (first && memcmp(first, got, elements * sizeof *got) != 0) { /* P1 */
            printf("%-26s %-10s bits differ from %s FAIL\n", layer->prefix, backends[i].label, backends[1].label);
            pass = false;
        }
        if (!first) first = got;
    }
    for (int i = 0; i < count; i++) test_release(&backends[i]);
    free(f64_golden);
    free(pytorch);
    return pass;
}

START_TEST(golden_layers) {
    struct test_backend backends[TEST_MAX_BACKENDS];
    struct tally tally[TEST_MAX_BACKENDS] = {{0}};
    const int count = test_backends(backends, 2);
    int failures = 0;
    golden_load(&ops, "ops_layers.safetensors");
    for (size_t i = 0; i < FDM_ARRAY_LEN(layers); i++)
        failures += !check_layer(&layers[i], backends, count, tally);
    for (int i = 1; i < count; i++) {
        const double mean = exp(tally[i].log_sum / tally[i].count);
        const bool pass = mean <= mean_rms_ratio;
        printf("%-26s %-10s geometric mean of the rms ratios to PyTorch %.3f %s\n", "all layers", backends[i].label,
               mean, pass ? "" : "FAIL");
        failures += !pass;
    }
    fdm_tensors_free(&ops);
    ck_assert_msg(failures == 0, "%d layers failed", failures);
}
END_TEST

/* ---- noise embedding ------------------------------------------------------------------------------------- */

/* The published f32 values stem from f32 angles, the reference's from exact ones.  Roundings of u = 2^-24 in the
 * published angle: positional, the exponent i/(half-1) (which the power magnifies ln 10000 = 9.2 times), 1/10000,
 * the power, the product: 12.2 u; Fourier, 2 pi, times freqs, times c_noise: 3 u.  The sine adds an ulp, 2 u.
 * The f32 backends round their angles as published, so only two sines' last bits remain: 2^-22. */
static void check_embedding(struct test_backend *b, const char *kind, const float *fourier,
                            const char *freqs_name) {
    const int n = golden_dim(&ops, "", "emb.c_noise", 0), k = golden_dim(&ops, "", kind, 1), half = k / 2;
    double *c_noise = golden_f64(&ops, "", "emb.c_noise"), *golden = golden_f64(&ops, "", kind);
    const float *freqs = golden_f32(&ops, "", freqs_name);
    const bool f32 = b->table->dtype == FDM_F32;
    void *packed = test_alloc(b, b->table->freqs_packed_bytes(half));
    b->table->freqs_pack(packed, fourier, half);
    struct fdm_vec out = test_vec(b, n, k), swapped = test_vec(b, n, k);
    b->table->noise_embedding(&b->exec, &out, c_noise, packed);
    b->table->swap_halves(&b->exec, &swapped, &out);
    const double *got = test_vec_values(b, &out), *got_swapped = test_vec_values(b, &swapped);
    double worst = 0, worst_ratio = 0;
    for (int i = 0; i < n * k; i++) {
        const int column = i % k;
        const double turns = fourier ? 6.283185307179586 : 1, roundings = fourier ? 3 : 12.2;
        const double angle = c_noise[i / k] * turns * (double)freqs[column % half];
        const double bound = f32 ? 0x1p-22 : roundings * 0x1p-24 * fabs(angle) + 0x1p-23;
        const double diff = fabs(got[i] - golden[i]);
        worst = fmax(worst, diff);
        worst_ratio = fmax(worst_ratio, diff / bound);
        ck_assert_msg(diff <= bound, "%s %s [%d]: got %.9g, published %.9g", b->label, kind, i, got[i], golden[i]);
        ck_assert(memcmp(&got_swapped[i - column + (column + half) % k], &got[i], sizeof *got) == 0);
    }
    printf("%-26s %-10s max abs to the published f32 %.2e, %.2f of its bound\n", kind, b->label, worst,
           worst_ratio);
    free(c_noise);
    free(golden);
}

START_TEST(golden_embeddings) {
    struct test_backend backends[TEST_MAX_BACKENDS];
    const int count = test_backends(backends, 1);
    golden_load(&ops, "ops_layers.safetensors");
    for (int i = 0; i < count; i++) {
        check_embedding(&backends[i], "emb.positional", NULL, "emb.positional_freqs");
        check_embedding(&backends[i], "emb.fourier", golden_f32(&ops, "", "emb.freqs"), "emb.freqs");
        test_release(&backends[i]);
    }
    fdm_tensors_free(&ops);
}
END_TEST

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0); /* or the figures of a failing (forked) test die with it in a pipe */
    Suite *suite = suite_create("layers");
    TCase *tcase = tcase_create("golden");
    tcase_set_timeout(tcase, 300); /* not about speed: sanitizer builds on a loaded machine */
    tcase_add_test(tcase, golden_layers);
    tcase_add_test(tcase, golden_embeddings);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
