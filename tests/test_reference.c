/* test_reference.c - properties of the reference backend that need no golden: the formulas of backend.h written
 * out as plain loops at odd shapes, algebraic identities, and the promise that neither the threads nor the batch
 * change a bit. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "base/base.h"
#include "golden.h"
#include "suite.h"

/* Sums of at most a few thousand products of numbers below 1 in two orders: the roundings of f64, 1.1e-16 each,
 * stay far below this; a wrong index, sign or factor is many orders above.  (Convolutions and resamplings come out
 * exactly equal: their products of two 24-bit numbers, and the sums, fit into f64.) */
static const double tolerance = 1e-13;

static const struct fdm_epilogue no_epilogue = {.scale = 1};

static size_t elements(const struct fdm_map *m) {
    return (size_t)m->n * (size_t)m->c * (size_t)m->h * (size_t)m->w;
}

static void expect_close(const char *what, const double *got, const double *truth, size_t count) {
    const struct golden_error e = golden_compare(got, truth, count);
    printf("%-58s max/max|truth| %.2e\n", what, e.max_scaled);
    ck_assert_msg(e.max_scaled <= tolerance, "%s: element %zu: got %.17g, expected %.17g", what, e.worst,
                  got[e.worst], truth[e.worst]);
}

static void expect_same_bits(const char *what, const double *a, const double *b, size_t count) {
    ck_assert_msg(memcmp(a, b, count * sizeof *a) == 0, "%s: bits differ", what);
}

static struct fdm_map random_map(struct test_backend *b, int n, int c, int h, int w, uint64_t seed) {
    const struct fdm_map shape = {.n = n, .c = c, .h = h, .w = w};
    return test_map_of(b, test_random(b, elements(&shape), seed), n, c, h, w, 0);
}

static double dot(const struct fdm_map *a, const struct fdm_map *b) {
    const double *x = a->data, *y = b->data;
    double sum = 0;
    for (size_t i = 0; i < elements(a); i++) sum += x[i] * y[i];
    return sum;
}

static double at(const struct fdm_map *m, int n, int c, int y, int x) {
    if (y < 0 || y >= m->h || x < 0 || x >= m->w) return 0;
    return ((const double *)m->data)[(((size_t)n * (size_t)m->c + (size_t)c) * (size_t)m->h + (size_t)y) *
                                         (size_t)m->w +
                                     (size_t)x];
}

/* ---- convolution ----------------------------------------------------------------------------------------- */

struct conv_shape {
    int n, in, out, h, w, k, pad;
};
static const struct conv_shape conv_shapes[] = {
    {1, 1, 1, 1, 1, 1, 0},   {1, 1, 1, 1, 1, 3, 1}, {2, 5, 7, 7, 9, 3, 1},    {2, 3, 70, 5, 4, 3, 1},
    {1, 130, 3, 4, 6, 1, 0}, {3, 4, 6, 6, 5, 3, 0}, {1, 6, 65, 6, 7, 3, 2},   {1, 64, 66, 17, 64, 3, 1}, /* bands */
    {2, 5, 7, 9, 11, 5, 2},  {1, 3, 4, 3, 3, 1, 1}, {1, 2, 3, 1, 13, 3, 1},
};

/* The formula of backend.h, element by element. */
static double *conv_by_formula(struct test_backend *b, const struct fdm_map *in, const struct fdm_map *out,
                               const float *weight, const float *bias, int k, int pad) {
    double *y = test_alloc(b, elements(out) * sizeof *y), *next = y;
    for (int n = 0; n < out->n; n++)
        for (int o = 0; o < out->c; o++)
            for (int i = 0; i < out->h * out->w; i++) {
                const float *w = weight + (size_t)o * (size_t)(in->c * k * k);
                double sum = 0;
                for (int d = 0; d < in->c * k * k; d++) {
                    const int y_in = i / out->w + d / k % k - pad, x_in = i % out->w + d % k - pad;
                    sum += (double)w[d] * at(in, n, d / (k * k), y_in, x_in);
                }
                *next++ = sum + (double)bias[o];
            }
    return y;
}

START_TEST(conv2d_is_its_formula) {
    const struct conv_shape s = conv_shapes[_i];
    struct test_backend b = test_backend_reference(2);
    struct fdm_map in = random_map(&b, s.n, s.in, s.h, s.w, 1);
    struct fdm_map out = test_map(&b, s.n, s.out, s.h + 2 * s.pad - s.k + 1, s.w + 2 * s.pad - s.k + 1, 0);
    struct fdm_map raw = test_map(&b, out.n, out.c, out.h, out.w, 0);
    struct fdm_map residual = random_map(&b, out.n, out.c, out.h, out.w, 2);
    const float *weight = test_random_f32(&b, (size_t)(s.out * s.in * s.k * s.k), 3);
    const float *bias = test_random_f32(&b, (size_t)s.out, 4);
    struct fdm_conv2d_args args = {.k = s.k, .pad = s.pad, .epilogue = no_epilogue};
    args.weight = test_pack_conv2d(&b, weight, bias, s.out, s.in, s.k);
    double *truth = conv_by_formula(&b, &in, &out, weight, bias, s.k, s.pad);
    char what[96];
    snprintf(what, sizeof what, "conv2d n%d %d->%d %dx%d k%d pad%d", s.n, s.in, s.out, s.h, s.w, s.k, s.pad);
    test_conv2d(&b, &out, &in, &args);
    expect_close(what, out.data, truth, elements(&out));

    args.epilogue = (struct fdm_epilogue){.residual = &residual, .scale = 0.75, .raw = &raw};
    double *plain = test_map_values(&b, &out);
    test_conv2d(&b, &out, &in, &args);
    expect_same_bits("raw is the value without epilogue", raw.data, plain, elements(&out));
    for (size_t i = 0; i < elements(&out); i++) plain[i] = (plain[i] + ((double *)residual.data)[i]) * 0.75;
    expect_same_bits("(raw + residual) * scale", out.data, plain, elements(&out));
    test_release(&b);
}
END_TEST

/* conv(a x + c y) = a conv(x) + c conv(y) without bias. */
START_TEST(conv2d_is_linear) {
    struct test_backend b = test_backend_reference(2);
    struct fdm_map x = random_map(&b, 2, 9, 8, 6, 11), y = random_map(&b, 2, 9, 8, 6, 12);
    struct fdm_map z = test_map(&b, 2, 9, 8, 6, 0), out[3];
    for (size_t i = 0; i < elements(&z); i++)
        ((double *)z.data)[i] = 0.3 * ((double *)x.data)[i] - 1.7 * ((double *)y.data)[i];
    struct fdm_conv2d_args args = {.k = 3, .pad = 1, .epilogue = no_epilogue};
    args.weight = test_pack_conv2d(&b, test_random_f32(&b, 5 * 9 * 9, 13), NULL, 5, 9, 3);
    const struct fdm_map *in[3] = {&x, &y, &z};
    for (int i = 0; i < 3; i++) {
        out[i] = test_map(&b, 2, 5, 8, 6, 0);
        test_conv2d(&b, &out[i], in[i], &args);
    }
    double *sum = test_map_values(&b, &out[0]);
    for (size_t i = 0; i < elements(&out[0]); i++) sum[i] = 0.3 * sum[i] - 1.7 * ((double *)out[1].data)[i];
    expect_close("conv2d is linear", out[2].data, sum, elements(&out[2]));
    test_release(&b);
}
END_TEST

/* A kernel with a single 1 at (o, i = o, ky, kx) shifts by (ky - 1, kx - 1), exactly. */
START_TEST(conv2d_delta_kernel_shifts) {
    struct test_backend b = test_backend_reference(1);
    const int ky = _i / 3, kx = _i % 3, c = 4;
    float *weight = test_alloc(&b, (size_t)(c * c * 9) * sizeof *weight);
    for (int i = 0; i < c * c * 9; i++) weight[i] = i / 9 / c == i / 9 % c && i % 9 == ky * 3 + kx;
    struct fdm_map in = random_map(&b, 2, c, 5, 7, 21), out = test_map(&b, 2, c, 5, 7, 0);
    struct fdm_conv2d_args args = {.k = 3, .pad = 1, .epilogue = no_epilogue};
    args.weight = test_pack_conv2d(&b, weight, NULL, c, c, 3);
    test_conv2d(&b, &out, &in, &args);
    for (int n = 0; n < 2; n++)
        for (int i = 0; i < c * 35; i++) {
            const int y = i / 7 % 5, x = i % 7;
            ck_assert(at(&out, n, i / 35, y, x) == at(&in, n, i / 35, y + ky - 1, x + kx - 1));
        }
    test_release(&b);
}
END_TEST

/* ---- resampling ------------------------------------------------------------------------------------------ */

static const float f11[] = {0.25f, 0.25f, 0.25f, 0.25f};
static const float f1331[] = {1 / 64.f, 3 / 64.f, 3 / 64.f, 1 / 64.f, 3 / 64.f, 9 / 64.f, 9 / 64.f, 3 / 64.f,
                              3 / 64.f, 9 / 64.f, 9 / 64.f, 3 / 64.f, 1 / 64.f, 3 / 64.f, 3 / 64.f, 1 / 64.f};
/* No symmetry that would hide a flip or a transposition. */
static const float lopsided[] = {0.5f, -0.25f, 0.125f, 1.f, 0.75f, -2.f, 0.0625f, 3.f, -1.5f};
static const struct filter {
    const char *name;
    const float *f;
    int len, pad;
} filters[] = {{"[1,1]", f11, 2, 0}, {"[1,3,3,1]", f1331, 4, 1}, {"lopsided 3x3", lopsided, 3, 1},
               {"lopsided 3x3, no padding", lopsided, 3, 0}};

static struct fdm_map resample(struct test_backend *b, const struct fdm_map *in, const struct filter *f, bool up) {
    struct fdm_resample_args args = {.up = up, .pad = f->pad, .len = f->len, .filter = f->f};
    args.epilogue = no_epilogue;
    const int h = up ? (in->h - 1) * 2 - 2 * f->pad + f->len : (in->h + 2 * f->pad - f->len) / 2 + 1;
    const int w = up ? (in->w - 1) * 2 - 2 * f->pad + f->len : (in->w + 2 * f->pad - f->len) / 2 + 1;
    struct fdm_map out = test_map(b, in->n, in->c, h, w, 0);
    b->table->resample(&b->exec, &out, in, &args);
    return out;
}

/* <down x, y> = <x, up y> / 4 whenever up y has the size of x. */
START_TEST(resampling_up_is_the_transpose_of_down) {
    struct test_backend b = test_backend_reference(2);
    const struct filter *f = &filters[_i];
    struct fdm_map y = random_map(&b, 2, 3, 4, 5, 31);
    struct fdm_map up_y = resample(&b, &y, f, true);
    struct fdm_map x = random_map(&b, 2, 3, up_y.h, up_y.w, 32);
    struct fdm_map down_x = resample(&b, &x, f, false);
    ck_assert_int_eq(down_x.h, y.h);
    ck_assert_int_eq(down_x.w, y.w);
    const double left = dot(&down_x, &y), right = dot(&x, &up_y) / 4;
    ck_assert_msg(fabs(left - right) <= tolerance * fabs(left), "%s: %.17g and %.17g", f->name, left, right);
    printf("resampling %-47s <Ax,y> - <x,A'y> %.2e\n", f->name, left - right);
    test_release(&b);
}
END_TEST

/* The formula of backend.h for down; with the transpose above this settles up too. */
START_TEST(resampling_down_is_its_formula) {
    struct test_backend b = test_backend_reference(1);
    const struct filter *f = &filters[_i];
    struct fdm_map in = random_map(&b, 1, 2, 9, 6, 33), out = resample(&b, &in, f, false);
    double *truth = test_map_values(&b, &out);
    for (int i = 0; i < 2 * out.h * out.w; i++) {
        const int c = i / (out.h * out.w), y = i / out.w % out.h, x = i % out.w;
        truth[i] = 0;
        for (int t = 0; t < f->len * f->len; t++)
            truth[i] += (double)f->f[t] * at(&in, 0, c, 2 * y + t / f->len - f->pad, 2 * x + t % f->len - f->pad);
    }
    expect_close("resampling down, formula", out.data, truth, elements(&out));
    test_release(&b);
}
END_TEST

/* The model's filters sum to 1, so constants survive, exactly (dyadic weights), away from the zero border. */
START_TEST(resampling_keeps_constants) {
    struct test_backend b = test_backend_reference(1);
    const struct filter *f = &filters[_i];
    struct fdm_map in = test_map(&b, 1, 2, 10, 12, 0);
    for (size_t i = 0; i < elements(&in); i++) ((double *)in.data)[i] = 1.375;
    for (int up = 0; up < 2; up++) {
        struct fdm_map out = resample(&b, &in, f, up);
        ck_assert_int_eq(out.h, up ? 20 : 5);
        for (int y = 1; y < out.h - 1; y++)
            for (int x = 1; x < out.w - 1; x++) ck_assert(at(&out, 0, 1, y, x) == 1.375);
    }
    test_release(&b);
}
END_TEST

/* ---- group normalisation --------------------------------------------------------------------------------- */

/* With weight 1 and bias 0 every group has mean 0 and variance var/(var+eps), even on top of a mean of 1e6. */
START_TEST(groupnorm_output_is_standardised) {
    struct test_backend b = test_backend_reference(2);
    const int c = 24, groups = 6, count = c / groups * 35;
    struct fdm_map in = random_map(&b, 2, c, 5, 7, 41), out = test_map(&b, 2, c, 5, 7, 0);
    for (size_t i = 0; i < elements(&in); i++) ((double *)in.data)[i] += 1e6;
    float ones[24];
    for (int i = 0; i < c; i++) ones[i] = 1;
    struct fdm_groupnorm_args args = {.groups = groups, .eps = 1e-6};
    args.param = test_pack_groupnorm(&b, ones, NULL, c);
    b.table->groupnorm(&b.exec, &out, &in, &args);
    for (int g = 0; g < 2 * groups; g++) {
        const double *x = (double *)in.data + g * count, *y = (double *)out.data + g * count;
        double mean_x = 0, mean = 0, var_x = 0, square = 0;
        for (int i = 0; i < count; i++) mean_x += (x[i] - 1e6) / count, mean += y[i] / count;
        for (int i = 0; i < count; i++) {
            var_x += (x[i] - 1e6 - mean_x) * (x[i] - 1e6 - mean_x) / count;
            square += y[i] * y[i] / count;
        }
        /* The inputs are rounded to 1e6 * 1.1e-16 of values below 1; their mean to as much. */
        ck_assert_msg(fabs(mean) <= 1e-9 && fabs(square - var_x / (var_x + 1e-6)) <= 1e-9, "group %d: %.3g %.3g", g,
                      mean, square);
    }
    test_release(&b);
}
END_TEST

/* add and silu and raw: the same as adding first and applying silu afterwards. */
START_TEST(groupnorm_options) {
    struct test_backend b = test_backend_reference(2);
    const int c = 8;
    struct fdm_map in = random_map(&b, 2, c, 3, 5, 42), shifted = test_map(&b, 2, c, 3, 5, 0);
    struct fdm_map out = test_map(&b, 2, c, 3, 5, 0), raw = out, plain = out;
    raw.data = test_alloc(&b, elements(&out) * sizeof(double));
    plain.data = test_alloc(&b, elements(&out) * sizeof(double));
    struct fdm_vec add = test_vec_of(&b, test_random(&b, (size_t)(2 * c), 43), 2, c);
    for (size_t i = 0; i < elements(&in); i++)
        ((double *)shifted.data)[i] = ((double *)in.data)[i] + ((double *)add.data)[i / 15];
    struct fdm_groupnorm_args args = {.groups = 2, .eps = 1e-6};
    args.param = test_pack_groupnorm(&b, test_random_f32(&b, c, 44), test_random_f32(&b, c, 45), c);
    b.table->groupnorm(&b.exec, &plain, &shifted, &args);
    args.add = &add, args.silu = true, args.raw = &raw;
    b.table->groupnorm(&b.exec, &out, &in, &args);
    expect_close("groupnorm raw with add", raw.data, plain.data, elements(&out));
    double *silu = plain.data;
    for (size_t i = 0; i < elements(&out); i++) silu[i] *= 1 / (1 + exp(-silu[i]));
    expect_close("groupnorm with silu", out.data, silu, elements(&out));
    test_release(&b);
}
END_TEST

/* ---- attention, linear, embedding, elementwise ------------------------------------------------------------ */

/* out[j,a] = sum_b softmax_b(q[:,a].k[:,b] / sqrt(C)) v[j,b], element by element; L = 99 is no multiple of a
 * group of queries. */
START_TEST(attention_is_its_formula) {
    struct test_backend b = test_backend_reference(2);
    const int n = 2, c = 5, h = 9, w = 11, l = h * w;
    struct fdm_map qkv = random_map(&b, n, 3 * c, h, w, 51), out = test_map(&b, n, c, h, w, 0);
    for (size_t i = 0; i < elements(&qkv); i++) ((double *)qkv.data)[i] *= 4; /* weights far from uniform */
    test_attention(&b, &out, &qkv);
    double *truth = test_map_values(&b, &out);
    for (int row = 0; row < n * l; row++) {
        const double *q = (double *)qkv.data + row / l * 3 * c * l, *k = q + l, *v = q + 2 * l;
        double sum = 0, weighted[5] = {0};
        for (int position = 0; position < l; position++) {
            double logit = 0;
            for (int j = 0; j < c; j++) logit += q[3 * j * l + row % l] * k[3 * j * l + position];
            const double e = exp(logit / sqrt((double)c));
            sum += e;
            for (int j = 0; j < c; j++) weighted[j] += e * v[3 * j * l + position];
        }
        for (int j = 0; j < c; j++) truth[(row / l * c + j) * l + row % l] = weighted[j] / sum;
    }
    expect_close("attention, formula", out.data, truth, elements(&out));
    test_release(&b);
}
END_TEST

/* Equal keys: every output is the mean of v.  Logits of 1e5 must not overflow. */
START_TEST(attention_of_equal_keys_is_the_mean) {
    struct test_backend b = test_backend_reference(2);
    const int c = 4, l = 64;
    struct fdm_map qkv = random_map(&b, 1, 3 * c, 8, 8, 52), out = test_map(&b, 1, c, 8, 8, 0);
    double *x = qkv.data, *truth = test_map_values(&b, &out);
    for (int j = 0; j < c; j++) {
        double mean = 0;
        for (int a = 0; a < l; a++) {
            x[3 * j * l + a] *= 1e5;
            x[(3 * j + 1) * l + a] = 1 + j;
            mean += x[(3 * j + 2) * l + a] / l;
        }
        for (int a = 0; a < l; a++) truth[j * l + a] = mean;
    }
    test_attention(&b, &out, &qkv);
    expect_close("attention, equal keys", out.data, truth, elements(&out));
    test_release(&b);
}
END_TEST

START_TEST(linear_is_its_formula) {
    struct test_backend b = test_backend_reference(2);
    const int n = 3, in_features = 13, out_features = 7;
    const float *weight = test_random_f32(&b, (size_t)(in_features * out_features), 61);
    const float *bias = test_random_f32(&b, (size_t)out_features, 62);
    const double *x = test_random(&b, (size_t)(n * in_features), 63);
    const double *r = test_random(&b, (size_t)(n * out_features), 64);
    struct fdm_vec in = test_vec_of(&b, x, n, in_features), residual = test_vec_of(&b, r, n, out_features);
    struct fdm_vec out = test_vec(&b, n, out_features), raw = test_vec(&b, n, out_features);
    struct fdm_linear_args args = {.in_scale = sqrt(10.0), .residual = &residual, .silu = true, .raw = &raw};
    args.weight = test_pack_linear(&b, weight, bias, out_features, in_features);
    b.table->linear(&b.exec, &out, &in, &args);
    double want_raw[21], want[21];
    for (int i = 0; i < n * out_features; i++) {
        want_raw[i] = bias[i % out_features];
        for (int j = 0; j < in_features; j++)
            want_raw[i] += (double)weight[i % out_features * in_features + j] *
                           x[i / out_features * in_features + j] * sqrt(10.0);
        want[i] = (want_raw[i] + r[i]) / (1 + exp(-want_raw[i] - r[i]));
    }
    expect_close("linear raw", raw.data, want_raw, FDM_ARRAY_LEN(want));
    expect_close("linear with residual and silu", out.data, want, FDM_ARRAY_LEN(want));
    test_release(&b);
}
END_TEST

START_TEST(embedding_is_its_formula) {
    struct test_backend b = test_backend_reference(1);
    const int half = 9, n = 2;
    const double c_noise[] = {-1.25, 731.5};
    const float *fourier = test_random_f32(&b, (size_t)half, 71);
    for (int kind = 0; kind < 2; kind++) {
        void *freqs = test_alloc(&b, b.table->freqs_packed_bytes(half));
        b.table->freqs_pack(freqs, kind ? fourier : NULL, half);
        struct fdm_vec out = test_vec(&b, n, 2 * half);
        b.table->noise_embedding(&b.exec, &out, c_noise, freqs);
        double want[36];
        for (int i = 0; i < n * half; i++) {
            const int j = i % half;
            const long double f = kind ? 2 * acosl(-1) * fourier[j] : expl(-j * logl(10000) / (half - 1));
            want[i / half * 2 * half + j] = (double)cosl(c_noise[i / half] * f);
            want[i / half * 2 * half + half + j] = (double)sinl(c_noise[i / half] * f);
        }
        /* An angle up to 4600 carries a rounding of up to 4.5e-13. */
        const struct golden_error e = golden_compare(out.data, want, FDM_ARRAY_LEN(want));
        printf("%-58s max abs %.2e\n", kind ? "embedding fourier" : "embedding positional", e.max_abs);
        ck_assert(e.max_abs <= 1e-12);
    }
    test_release(&b);
}
END_TEST

START_TEST(elementwise_layers) {
    struct test_backend b = test_backend_reference(1);
    struct fdm_map x = random_map(&b, 2, 3, 4, 5, 81), y = random_map(&b, 2, 2, 4, 5, 82);
    struct fdm_map z = random_map(&b, 2, 3, 4, 5, 83);
    struct fdm_map both = test_map(&b, 2, 5, 4, 5, 0), sum = test_map(&b, 2, 3, 4, 5, 0);
    b.table->concat(&b.exec, &both, &x, &y);
    for (int n = 0; n < 2; n++)
        for (int c = 0; c < 5; c++)
            for (int i = 0; i < 20; i++)
                ck_assert(at(&both, n, c, i / 5, i % 5) ==
                          (c < 3 ? at(&x, n, c, i / 5, i % 5) : at(&y, n, c - 3, i / 5, i % 5)));
    b.table->add(&b.exec, &sum, &x, &z, 0.7);
    for (size_t i = 0; i < elements(&x); i++)
        ck_assert(((double *)sum.data)[i] == (((double *)x.data)[i] + ((double *)z.data)[i]) * 0.7);
    b.table->add(&b.exec, &sum, &x, NULL, 0.7);
    for (size_t i = 0; i < elements(&x); i++) ck_assert(((double *)sum.data)[i] == ((double *)x.data)[i] * 0.7);
    test_release(&b);
}
END_TEST

/* ---- promises -------------------------------------------------------------------------------------------- */

/* conv2d (several bands and channel slices) and attention for all samples of `all`, with that many threads. */
static void run_heavy(double *conv_out, double *attention_out, const double *samples, int n, int threads) {
    struct test_backend b = test_backend_reference(threads);
    struct fdm_map in = test_map_of(&b, samples, n, 129, 20, 28, 0);
    struct fdm_map conv = test_map(&b, n, 70, 20, 28, 0), attention = test_map(&b, n, 43, 20, 28, 0);
    struct fdm_conv2d_args args = {.k = 3, .pad = 1, .epilogue = no_epilogue};
    args.weight = test_pack_conv2d(&b, test_random_f32(&b, 70 * 129 * 9, 91), NULL, 70, 129, 3);
    test_conv2d(&b, &conv, &in, &args);
    test_attention(&b, &attention, &in);
    memcpy(conv_out, conv.data, elements(&conv) * sizeof(double));
    memcpy(attention_out, attention.data, elements(&attention) * sizeof(double));
    test_release(&b);
}

START_TEST(neither_threads_nor_batch_change_a_bit) {
    enum { N = 2, IN = 129 * 560, CONV = 70 * 560, ATTENTION = 43 * 560 };
    static double conv[3][N * CONV], attention[3][N * ATTENTION];
    struct test_backend b = test_backend_reference(1);
    const double *samples = test_random(&b, N * IN, 90);
    run_heavy(conv[0], attention[0], samples, N, 1);
    for (int threads = 2; threads <= 4; threads++) {
        run_heavy(conv[1], attention[1], samples, N, threads);
        expect_same_bits("conv2d by threads", conv[0], conv[1], N * CONV);
        expect_same_bits("attention by threads", attention[0], attention[1], N * ATTENTION);
    }
    for (int n = 0; n < N; n++) {
        run_heavy(conv[2], attention[2], samples + n * IN, 1, 2);
        expect_same_bits("conv2d of one sample", conv[0] + n * CONV, conv[2], CONV);
        expect_same_bits("attention of one sample", attention[0] + n * ATTENTION, attention[2], ATTENTION);
    }
    test_release(&b);
}
END_TEST

/* NaN in one sample reaches its outputs and no other sample's. */
START_TEST(nan_stays_visible_and_in_its_sample) {
    struct test_backend b = test_backend_reference(2);
    struct fdm_map in = random_map(&b, 2, 12, 4, 4, 95), out[3];
    ((double *)in.data)[5 * 16 + 6] = NAN;
    float *weight = test_random_f32(&b, 12 * 12 * 9, 96);
    struct fdm_conv2d_args conv = {.k = 3, .pad = 1, .epilogue = no_epilogue};
    conv.weight = test_pack_conv2d(&b, weight, NULL, 12, 12, 3);
    struct fdm_groupnorm_args norm = {.groups = 3, .eps = 1e-6, .silu = true};
    norm.param = test_pack_groupnorm(&b, weight, weight, 12);
    for (int i = 0; i < 3; i++) out[i] = test_map(&b, 2, i == 2 ? 4 : 12, 4, 4, 0);
    test_conv2d(&b, &out[0], &in, &conv);
    b.table->groupnorm(&b.exec, &out[1], &in, &norm);
    test_attention(&b, &out[2], &in);
    for (int i = 0; i < 3; i++) {
        size_t nans = 0;
        const double *y = out[i].data;
        for (size_t j = 0; j < elements(&out[i]); j++) {
            nans += isnan(y[j]) != 0;
            ck_assert(j < elements(&out[i]) / 2 || isfinite(y[j]));
        }
        ck_assert_uint_gt(nans, 0);
    }
    test_release(&b);
}
END_TEST

/* The comparison that all of this rests on: what the truth lacks is infinitely wrong, what it has is not. */
START_TEST(comparison_fails_on_nan) {
    const double truth[] = {1, -2, NAN, INFINITY}, specials[] = {NAN, INFINITY, -INFINITY};
    ck_assert(golden_compare(truth, truth, 4).max_scaled == 0);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 3; j++) {
            double got[] = {1, -2, NAN, INFINITY};
            got[i] = specials[j];
            const bool same = (i == 2 && j == 0) || (i == 3 && j == 1);
            ck_assert(isinf(golden_compare(got, truth, 4).max_scaled) == !same);
        }
    const double got[] = {1, -2.5, NAN, INFINITY};
    ck_assert(golden_compare(got, truth, 4).max_scaled == 0.25);
    ck_assert(golden_compare(truth, (const double[]){0, -2, NAN, INFINITY}, 4).max_rel == INFINITY);
}
END_TEST

/* Sizes that no memory holds are answered by SIZE_MAX, not by a small wrapped number. */
START_TEST(absurd_sizes) {
    const struct fdm_backend *table = fdm_backend_reference();
    const int huge = 2000000000;
    ck_assert(table->map_bytes(huge, huge, huge, huge, 0) == SIZE_MAX);
    ck_assert(table->conv2d_packed_bytes(huge, huge, huge) == SIZE_MAX);
    ck_assert(table->conv2d_scratch(1, huge, 1, huge, huge, huge, 1) == SIZE_MAX);
    ck_assert(table->attention_scratch(1, 1, huge, huge, huge) == SIZE_MAX);
    ck_assert(table->map_bytes(2, 3, 4, 5, 7) == 2 * 3 * 4 * 5 * sizeof(double));
}
END_TEST

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0); /* or the figures of a failing (forked) test die with it in a pipe */
    Suite *suite = suite_create("reference");
    TCase *tcase = tcase_create("properties");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, conv2d_is_its_formula, 0, FDM_ARRAY_LEN(conv_shapes));
    tcase_add_test(tcase, conv2d_is_linear);
    tcase_add_loop_test(tcase, conv2d_delta_kernel_shifts, 0, 9);
    tcase_add_loop_test(tcase, resampling_up_is_the_transpose_of_down, 0, FDM_ARRAY_LEN(filters));
    tcase_add_loop_test(tcase, resampling_down_is_its_formula, 0, FDM_ARRAY_LEN(filters));
    tcase_add_loop_test(tcase, resampling_keeps_constants, 0, 2); /* the model's two filters */
    tcase_add_test(tcase, groupnorm_output_is_standardised);
    tcase_add_test(tcase, groupnorm_options);
    tcase_add_test(tcase, attention_is_its_formula);
    tcase_add_test(tcase, attention_of_equal_keys_is_the_mean);
    tcase_add_test(tcase, linear_is_its_formula);
    tcase_add_test(tcase, embedding_is_its_formula);
    tcase_add_test(tcase, elementwise_layers);
    tcase_add_test(tcase, neither_threads_nor_batch_change_a_bit);
    tcase_add_test(tcase, nan_stays_visible_and_in_its_sample);
    tcase_add_test(tcase, comparison_fails_on_nan);
    tcase_add_test(tcase, absurd_sizes);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
