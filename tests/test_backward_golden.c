/* test_backward_golden.c - gradients of every layer and block in golden/ops_layers.safetensors, on every backend.
 *
 * The goldens are PyTorch's f32 gradients of sum(out * gout).  The softmax's are reached through the whole attention;
 * the blocks are put together by hand from the backend's calls, forward and backward.
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

/* Of every map here: more than any convolution or its gradient reads beyond the border (k - 1, or pad 2). */
enum { HALO = 2 };

/* One golden case on one backend, with the worst of its comparisons. */
struct run {
    struct test_backend *b;
    const char *prefix; /* "block_attn." */
    double worst;
    int compared, failures;
};

/* Relative to the largest element of the gradient.  PyTorch's f32 rounding is in both figures: sums of up to 512
 * products of a few roundings each, and in blocks a chain of up to eight layers. */
static const double layer_tolerance = 2e-6, block_tolerance = 4e-6;

static void compare(struct run *r, const char *name, const double *got, size_t count) {
    double *golden = golden_f64(&ops, r->prefix, name);
    ck_assert_uint_eq(count, (size_t)fdm_tensor_numel(golden_get(&ops, r->prefix, name)));
    const struct golden_error e = golden_compare(got, golden, count);
    const double tolerance = strncmp(r->prefix, "block_", 6) == 0 ? block_tolerance : layer_tolerance;
    if (!(e.max_scaled <= tolerance)) { /* NaN too */
        printf("%s%s on %s: element %zu: got %.9g, published %.9g (max %.3g) FAIL\n", r->prefix, name, r->b->label,
               e.worst, got[e.worst], golden[e.worst], e.truth_max);
        r->failures++;
    }
    r->worst = fmax(r->worst, e.max_scaled);
    r->compared++;
    free(golden);
}

/* A parameter's gradient: dense elements of the backend's type. */
static void *gradient(struct run *r, const char *module, const char *parameter) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", module, parameter);
    const fdm_tensor *t = golden_find(&ops, r->prefix, name);
    return t ? test_alloc(r->b, (size_t)fdm_tensor_numel(t) * fdm_dtype_size(r->b->table->dtype)) : NULL;
}

static void compare_parameter(struct run *r, const char *module, const char *parameter, const void *got) {
    if (!got) return;
    char name[64];
    snprintf(name, sizeof name, "g_%s%s", module, parameter);
    const size_t count = (size_t)fdm_tensor_numel(golden_get(&ops, r->prefix, name));
    double *values = test_alloc(r->b, count * sizeof *values);
    const bool f32 = r->b->table->dtype == FDM_F32;
    for (size_t i = 0; i < count; i++) values[i] = f32 ? (double)((const float *)got)[i] : ((const double *)got)[i];
    compare(r, name, values, count);
}

static const float *parameter(struct run *r, const char *module, const char *name) {
    char full[64];
    snprintf(full, sizeof full, "%s%s", module, name);
    return golden_find(&ops, r->prefix, full) ? golden_f32(&ops, r->prefix, full) : NULL;
}
static int parameter_dim(struct run *r, const char *module, const char *name, int d) {
    char full[64];
    snprintf(full, sizeof full, "%s%s", module, name);
    return golden_dim(&ops, r->prefix, full, d);
}

static struct fdm_map golden_map(struct run *r, const char *name) {
    double *values = golden_f64(&ops, r->prefix, name);
    struct fdm_map m =
        test_map_of(r->b, values, golden_dim(&ops, r->prefix, name, 0), golden_dim(&ops, r->prefix, name, 1),
                    golden_dim(&ops, r->prefix, name, 2), golden_dim(&ops, r->prefix, name, 3), HALO);
    free(values);
    return m;
}
static struct fdm_map map(struct run *r, int n, int c, int h, int w) { return test_map(r->b, n, c, h, w, HALO); }
static struct fdm_map map_like(struct run *r, const struct fdm_map *m) { return map(r, m->n, m->c, m->h, m->w); }

static void compare_map(struct run *r, const char *name, const struct fdm_map *m) {
    compare(r, name, test_map_values(r->b, m), (size_t)(m->n * m->c * m->h * m->w));
}

/* ---- convolution modules --------------------------------------------------------------------------------- */

static const struct fdm_epilogue no_epilogue = {.scale = 1};
static const struct fdm_map_target unwanted = {NULL, false};
static struct fdm_map_target overwrite(struct fdm_map *m) { return (struct fdm_map_target){m, false}; }
static struct fdm_map_target accumulate(struct fdm_map *m) { return (struct fdm_map_target){m, true}; }

/* The order of a module: [resample] conv, or conv resample (fused down; the bias is added by the last). */
struct conv {
    const char *name; /* "conv0.", "" for a golden of its own */
    int k;            /* 0: resampling only */
    bool up, down, conv_first;
    int out_channels, conv_pad, sample_pad;
    struct fdm_map in, between; /* between the two; unset for a single one */
};

static struct conv conv_of(struct run *r, const char *name, const struct fdm_map *in, bool up, bool down, bool fused) {
    struct conv m = {.name = name, .up = up, .down = down, .in = *in, .out_channels = in->c};
    if (parameter(r, name, "weight")) {
        m.out_channels = parameter_dim(r, name, "weight", 0);
        m.k = parameter_dim(r, name, "weight", 2);
    }
    const int half = m.k / 2;
    m.conv_pad = half;
    if (!up && !down) return m;
    m.sample_pad = (parameter_dim(r, name, "resample_filter", 2) - 1) / 2;
    if (!fused) return m;
    m.conv_first = down;
    m.conv_pad = down ? half + m.sample_pad : fdm_max_int(half - m.sample_pad, 0);
    m.sample_pad = down ? 0 : fdm_max_int(m.sample_pad - half, 0);
    return m;
}

static struct fdm_map convolved(struct run *r, const struct conv *m, const struct fdm_map *in, bool bias,
                                const struct fdm_epilogue *e) {
    struct fdm_conv2d_args args = {.k = m->k, .pad = m->conv_pad, .epilogue = *e};
    args.weight = test_pack_conv2d(r->b, parameter(r, m->name, "weight"), bias ? parameter(r, m->name, "bias") : NULL,
                                   m->out_channels, in->c, m->k);
    const int grow = 2 * m->conv_pad - m->k + 1;
    struct fdm_map out = map(r, in->n, m->out_channels, in->h + grow, in->w + grow);
    test_conv2d(r->b, &out, in, &args);
    return out;
}

static struct fdm_map resampled(struct run *r, const struct conv *m, const struct fdm_map *in, bool bias) {
    const int len = parameter_dim(r, m->name, "resample_filter", 2), pad = m->sample_pad;
    struct fdm_resample_args args = {.up = m->up, .pad = pad, .len = len, .epilogue = no_epilogue};
    args.filter = parameter(r, m->name, "resample_filter");
    args.bias = bias ? parameter(r, m->name, "bias") : NULL;
    const int h = m->up ? (in->h - 1) * 2 - 2 * pad + len : (in->h + 2 * pad - len) / 2 + 1;
    const int w = m->up ? (in->w - 1) * 2 - 2 * pad + len : (in->w + 2 * pad - len) / 2 + 1;
    struct fdm_map out = map(r, in->n, in->c, h, w);
    r->b->table->resample(&r->b->exec, &out, in, &args);
    return out;
}

static struct fdm_map conv_forward(struct run *r, struct conv *m, const struct fdm_epilogue *e) {
    if (!m->up && !m->down) return convolved(r, m, &m->in, true, e);
    if (m->k == 0) return resampled(r, m, &m->in, false);
    if (m->conv_first) {
        m->between = convolved(r, m, &m->in, false, &no_epilogue);
        return resampled(r, m, &m->between, true);
    }
    m->between = resampled(r, m, &m->in, false);
    return convolved(r, m, &m->between, true, e);
}

static void convolved_backward(struct run *r, const struct conv *m, const struct fdm_map *d_out,
                               const struct fdm_map *in, double scale, bool bias, struct fdm_map_target d_in,
                               struct fdm_map_target d_residual) {
    struct fdm_conv2d_backward_args args = {.k = m->k, .pad = m->conv_pad, .scale = scale, .d_in = d_in};
    args.weight = parameter(r, m->name, "weight");
    args.d_residual = d_residual;
    args.d_weight = gradient(r, m->name, "weight");
    args.d_bias = bias ? gradient(r, m->name, "bias") : NULL;
    test_reserve(r->b, r->b->table->conv2d_backward_scratch(in->n, in->c, d_out->c, m->k, d_out->h, d_out->w,
                                                            r->b->exec.threads));
    r->b->table->conv2d_backward(&r->b->exec, d_out, in, &args);
    compare_parameter(r, m->name, "weight", args.d_weight);
    compare_parameter(r, m->name, "bias", args.d_bias);
}

static void resampled_backward(struct run *r, const struct conv *m, const struct fdm_map *d_out, bool bias,
                               struct fdm_map_target d_in) {
    struct fdm_resample_backward_args args = {.up = m->up, .pad = m->sample_pad, .scale = 1, .d_in = d_in};
    args.len = parameter_dim(r, m->name, "resample_filter", 2);
    args.filter = parameter(r, m->name, "resample_filter");
    args.d_bias = bias ? gradient(r, m->name, "bias") : NULL;
    test_reserve(r->b, r->b->table->resample_backward_scratch(d_out->n, d_out->c, d_out->h, d_out->w,
                                                              r->b->exec.threads));
    r->b->table->resample_backward(&r->b->exec, d_out, &args);
    compare_parameter(r, m->name, "bias", args.d_bias);
}

static void conv_backward(struct run *r, const struct conv *m, const struct fdm_map *d_out, double scale,
                          struct fdm_map_target d_in, struct fdm_map_target d_residual) {
    if (!m->up && !m->down) {
        convolved_backward(r, m, d_out, &m->in, scale, true, d_in, d_residual);
        return;
    }
    if (m->k == 0) {
        resampled_backward(r, m, d_out, false, d_in);
        return;
    }
    struct fdm_map d_between = map_like(r, &m->between);
    if (m->conv_first) {
        resampled_backward(r, m, d_out, true, overwrite(&d_between));
        convolved_backward(r, m, &d_between, &m->in, 1, false, d_in, unwanted);
    } else {
        convolved_backward(r, m, d_out, &m->between, 1, true, overwrite(&d_between), unwanted);
        resampled_backward(r, m, &d_between, false, d_in);
    }
}

static void run_conv(struct run *r) {
    const bool up = strstr(r->prefix, "_up_") != NULL, down = strstr(r->prefix, "_down_") != NULL;
    struct fdm_map x = golden_map(r, "x"), d_out = golden_map(r, "gout"), d_x = map_like(r, &x);
    struct conv m = conv_of(r, "", &x, up, down, strstr(r->prefix, "_fused") != NULL);
    conv_forward(r, &m, &no_epilogue);
    conv_backward(r, &m, &d_out, 1, overwrite(&d_x), unwanted);
    compare_map(r, "gx", &d_x);
}

/* ---- the others ------------------------------------------------------------------------------------------ */

struct norm {
    const char *name;
    struct fdm_map in;
    const struct fdm_vec *add;
    bool silu;
};

static struct fdm_groupnorm_args norm_args(struct run *r, const struct norm *m) {
    struct fdm_groupnorm_args args = {.groups = fdm_min_int(32, m->in.c / 4), .eps = 1e-6, .add = m->add};
    args.silu = m->silu;
    args.param =
        test_pack_groupnorm(r->b, parameter(r, m->name, "weight"), parameter(r, m->name, "bias"), m->in.c);
    return args;
}

static struct fdm_map norm_forward(struct run *r, const struct norm *m) {
    const struct fdm_groupnorm_args args = norm_args(r, m);
    struct fdm_map out = map_like(r, &m->in);
    r->b->table->groupnorm(&r->b->exec, &out, &m->in, &args);
    return out;
}

static void norm_backward(struct run *r, const struct norm *m, const struct fdm_map *d_out,
                          struct fdm_map_target d_in, struct fdm_vec *d_add) {
    struct fdm_groupnorm_backward_args args = {.forward = norm_args(r, m), .d_in = d_in, .d_add = {d_add, false}};
    args.d_weight = gradient(r, m->name, "weight"), args.d_bias = gradient(r, m->name, "bias");
    test_reserve(r->b, r->b->table->groupnorm_backward_scratch(m->in.n, m->in.c, m->in.h, m->in.w,
                                                               r->b->exec.threads));
    r->b->table->groupnorm_backward(&r->b->exec, d_out, &m->in, &args);
    compare_parameter(r, m->name, "weight", args.d_weight);
    compare_parameter(r, m->name, "bias", args.d_bias);
}

static void run_groupnorm(struct run *r) {
    struct fdm_map x = golden_map(r, "x"), d_out = golden_map(r, "gout"), d_x = map_like(r, &x);
    norm_backward(r, &(struct norm){.name = "", .in = x}, &d_out, overwrite(&d_x), NULL);
    compare_map(r, "gx", &d_x);
}

static struct fdm_vec golden_vec(struct run *r, const char *name) {
    double *values = golden_f64(&ops, r->prefix, name);
    struct fdm_vec v =
        test_vec_of(r->b, values, golden_dim(&ops, r->prefix, name, 0), golden_dim(&ops, r->prefix, name, 1));
    free(values);
    return v;
}

static struct fdm_vec linear_forward(struct run *r, const char *name, const struct fdm_vec *in) {
    const int out_features = parameter_dim(r, name, "weight", 0);
    struct fdm_linear_args args = {.in_scale = 1};
    args.weight =
        test_pack_linear(r->b, parameter(r, name, "weight"), parameter(r, name, "bias"), out_features, in->c);
    struct fdm_vec out = test_vec(r->b, in->n, out_features);
    r->b->table->linear(&r->b->exec, &out, in, &args);
    return out;
}

static void linear_backward(struct run *r, const char *name, const struct fdm_vec *d_out, const struct fdm_vec *in,
                            const char *golden) {
    struct fdm_vec d_in = test_vec(r->b, in->n, in->c);
    struct fdm_linear_backward_args args = {.in_scale = 1, .d_in = {&d_in, false}};
    args.weight = parameter(r, name, "weight"), args.bias = parameter(r, name, "bias");
    args.d_weight = gradient(r, name, "weight"), args.d_bias = gradient(r, name, "bias");
    test_reserve(r->b, r->b->table->linear_backward_scratch(in->n, in->c, d_out->c, r->b->exec.threads));
    r->b->table->linear_backward(&r->b->exec, d_out, in, &args);
    compare_parameter(r, name, "weight", args.d_weight);
    compare_parameter(r, name, "bias", args.d_bias);
    compare(r, golden, test_vec_values(r->b, &d_in), (size_t)(d_in.n * d_in.c));
}

static void run_linear(struct run *r) {
    struct fdm_vec x = golden_vec(r, "x"), d_out = golden_vec(r, "gout");
    linear_backward(r, "", &d_out, &x, "gx");
}

static void attention_backward(struct run *r, struct fdm_map_target d_qkv, const struct fdm_map *d_out,
                               const struct fdm_map *qkv) {
    test_reserve(r->b, r->b->table->attention_backward_scratch(d_out->n, d_out->c, d_out->h, d_out->w,
                                                               r->b->exec.threads));
    r->b->table->attention_backward(&r->b->exec, d_qkv, d_out, qkv);
}

/* The golden has the gradient gw of the weights w only.  With v[j,b] = 1 at b = first + j and 0 elsewhere, and
 * d_out[j,a] = gw[a, first + j], the weights' gradient is gw in those C columns and 0 in the others; the gradients of q
 * and k are linear in it, so L/C calls that accumulate give them all. */
static void run_attention(struct run *r) {
    const int n = golden_dim(&ops, r->prefix, "q", 0), c = golden_dim(&ops, r->prefix, "q", 1);
    const int l = golden_dim(&ops, r->prefix, "q", 2), side = (int)sqrt((double)l);
    double *q = golden_f64(&ops, r->prefix, "q"), *k = golden_f64(&ops, r->prefix, "k");
    double *gw = golden_f64(&ops, r->prefix, "gw");
    double *qkv = test_alloc(r->b, (size_t)(n * 3 * c * l) * sizeof *qkv);
    double *g = test_alloc(r->b, (size_t)(n * c * l) * sizeof *g);
    struct fdm_map d_qkv = map(r, n, 3 * c, side, side);
    for (int first = 0; first < l; first += c) {
        for (int plane = 0; plane < n * c; plane++)
            for (int a = 0; a < l; a++) {
                const int column = first + plane % c;
                qkv[(3 * plane + 0) * l + a] = q[plane * l + a];
                qkv[(3 * plane + 1) * l + a] = k[plane * l + a];
                qkv[(3 * plane + 2) * l + a] = a == column;
                g[plane * l + a] = gw[(plane / c * l + a) * l + column];
            }
        struct fdm_map in = test_map_of(r->b, qkv, n, 3 * c, side, side, HALO);
        struct fdm_map d_out = test_map_of(r->b, g, n, c, side, side, HALO);
        attention_backward(r, (struct fdm_map_target){&d_qkv, first > 0}, &d_out, &in);
    }
    const double *all = test_map_values(r->b, &d_qkv);
    for (int part = 0; part < 2; part++) {
        for (int plane = 0; plane < n * c; plane++)
            memcpy(g + plane * l, all + (3 * plane + part) * l, (size_t)l * sizeof *g);
        compare(r, part ? "gk" : "gq", g, (size_t)(n * c * l));
    }
    free(q);
    free(k);
    free(gw);
}

/* ---- blocks ---------------------------------------------------------------------------------------------- */

/* h = conv0(silu(norm0(x)));  h = conv1(silu(norm1(h + affine(emb))));  y = (h + skip(x)) q
 * with attention:  out = (proj(attend(qkv(norm2(y)))) + y) q,   q = sqrt(1/2) */
static void run_block(struct run *r) {
    const double q = sqrt(0.5);
    const bool up = strcmp(r->prefix, "block_up.") == 0, down = strcmp(r->prefix, "block_down.") == 0;
    const bool has_skip = parameter(r, "skip.", "weight") != NULL, attends = parameter(r, "qkv.", "weight") != NULL;
    struct fdm_map x = golden_map(r, "x"), d_out = golden_map(r, "gout"), d_x = map_like(r, &x);
    struct fdm_vec emb = golden_vec(r, "emb");

    const struct norm norm0 = {.name = "norm0.", .in = x, .silu = true};
    struct fdm_map n0 = norm_forward(r, &norm0);
    struct conv conv0 = conv_of(r, "conv0.", &n0, up, down, false);
    struct fdm_vec affine = linear_forward(r, "affine.", &emb);
    const struct norm norm1 = {
        .name = "norm1.", .in = conv_forward(r, &conv0, &no_epilogue), .add = &affine, .silu = true};
    struct fdm_map n1 = norm_forward(r, &norm1), skip_out = x;
    struct conv conv1 = conv_of(r, "conv1.", &n1, false, false, false), skip = {0};
    if (has_skip) {
        skip = conv_of(r, "skip.", &x, up, down, false);
        skip_out = conv_forward(r, &skip, &no_epilogue);
    }
    struct fdm_map y = conv_forward(r, &conv1, &(struct fdm_epilogue){.residual = &skip_out, .scale = q}), d_y = d_out;

    if (attends) {
        const struct norm norm2 = {.name = "norm2.", .in = y};
        struct fdm_map n2 = norm_forward(r, &norm2), attended = map_like(r, &y);
        struct conv to_qkv = conv_of(r, "qkv.", &n2, false, false, false);
        struct fdm_map qkv = conv_forward(r, &to_qkv, &no_epilogue), d_qkv = map_like(r, &qkv);
        test_attention(r->b, &attended, &qkv);
        struct conv proj = conv_of(r, "proj.", &attended, false, false, false);
        struct fdm_map d_attended = map_like(r, &y), d_n2 = map_like(r, &y);
        d_y = map_like(r, &y);
        conv_backward(r, &proj, &d_out, q, overwrite(&d_attended), overwrite(&d_y));
        attention_backward(r, overwrite(&d_qkv), &d_attended, &qkv);
        conv_backward(r, &to_qkv, &d_qkv, 1, overwrite(&d_n2), unwanted);
        norm_backward(r, &norm2, &d_n2, accumulate(&d_y), NULL);
    }

    struct fdm_map d_n1 = map_like(r, &n1), d_skip = map_like(r, &skip_out), d_h = map_like(r, &norm1.in);
    struct fdm_map d_n0 = map_like(r, &n0);
    struct fdm_vec d_affine = test_vec(r->b, affine.n, affine.c);
    conv_backward(r, &conv1, &d_y, q, overwrite(&d_n1), overwrite(has_skip ? &d_skip : &d_x));
    if (has_skip) conv_backward(r, &skip, &d_skip, 1, overwrite(&d_x), unwanted);
    norm_backward(r, &norm1, &d_n1, overwrite(&d_h), &d_affine);
    linear_backward(r, "affine.", &d_affine, &emb, "gemb");
    conv_backward(r, &conv0, &d_h, 1, overwrite(&d_n0), unwanted);
    norm_backward(r, &norm0, &d_n0, accumulate(&d_x), NULL);
    compare_map(r, "gx", &d_x);
}

/* ---- the table ------------------------------------------------------------------------------------------- */

static const struct golden_case {
    const char *prefix;
    void (*run)(struct run *);
    int gradients; /* compared in it */
} golden_cases[] = {
#define RESAMPLED(direction, filter)                                                                               \
    {"conv_" direction "_k0_" filter ".", run_conv, 1}, {"conv_" direction "_k1_" filter ".", run_conv, 3},        \
        {"conv_" direction "_k3_" filter ".", run_conv, 3}, {"conv_" direction "_k3_" filter "_fused.", run_conv, 3}
    {"conv_k1.", run_conv, 3},
    {"conv_k3.", run_conv, 3},
    RESAMPLED("up", "f11"),
    RESAMPLED("up", "f1331"),
    RESAMPLED("down", "f11"),
    RESAMPLED("down", "f1331"),
    {"gn_c8.", run_groupnorm, 3},
    {"gn_c24.", run_groupnorm, 3},
    {"gn_c128.", run_groupnorm, 3},
    {"gn_c160.", run_groupnorm, 3},
    {"gn_c512.", run_groupnorm, 3},
    {"linear.", run_linear, 3},
    {"attn.", run_attention, 2},
    {"block_plain.", run_block, 12},
    {"block_skip.", run_block, 14},
    {"block_up.", run_block, 14},
    {"block_down.", run_block, 14},
    {"block_attn.", run_block, 18},
};

static bool complete(const struct fdm_backend *t) {
    return t->conv2d_backward && t->resample_backward && t->groupnorm_backward && t->linear_backward &&
           t->attention_backward;
}

static bool run_case(const struct golden_case *c, struct test_backend *b) {
    struct run r = {.b = b, .prefix = c->prefix};
    c->run(&r);
    const bool pass = r.failures == 0 && r.compared == c->gradients;
    printf("%-26s %-10s %2d gradients, worst max/max|published| %.2e %s\n", c->prefix, b->label, r.compared, r.worst,
           pass ? "" : "FAIL");
    test_release(b);
    return pass;
}

/* One check per backend: the reference, then every ISA. */
START_TEST(golden_gradients) {
    struct test_backend b = test_backend_reference(2);
    if (_i > 0 && !test_backend_f32(&b, (enum fdm_isa)(_i - 1), 2)) return;
    if (!complete(b.table)) {
        printf("SKIP: %s: not every backward function is there yet\n", b.label);
        return;
    }
    int failures = 0;
    golden_load(&ops, "ops_layers.safetensors");
    for (size_t i = 0; i < FDM_ARRAY_LEN(golden_cases); i++) failures += !run_case(&golden_cases[i], &b);
    fdm_tensors_free(&ops);
    ck_assert_msg(failures == 0, "%d cases failed", failures);
}
END_TEST

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0); /* or the figures of a failing (forked) test die with it in a pipe */
    Suite *suite = suite_create("backward_golden");
    TCase *tcase = tcase_create("golden");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, golden_gradients, 0, 1 + FDM_ISA_COUNT);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
