/* verify_dumps.c - test helper: dumps, with bugs planted by wrapping the f32 layers or by changing weights, configuration
 * or inputs; none of it shares code with the diagnosis that must find them. */
#include "verify_dumps.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "nn/f32_map.h"
#include "nn/network.h"

const struct planted planted_bugs[BUG_COUNT] = {
#define BUG_ROW(e, what, golden, where, first, words) [e] = {what, golden, where, first, words},
    PLANTED_BUGS(BUG_ROW)
#undef BUG_ROW
};

/* ---- the wrapped backend ---- */

static struct {
    const struct fdm_backend *base;
    const struct fdm_network *net;
    int bug, call; /* call: of attention, concat, swap */
    double size;
    double *before; /* the second operand of the last concat */
    size_t before_count;
} plant;

static const struct planted *bug(void) { return &planted_bugs[plant.bug]; }

/* Whether packed parameters are those of the module where the bug is planted. */
static bool here(const void *packed) {
    for (int i = 0; i < plant.net->graph.module_count; i++)
        if (plant.net->slab + plant.net->graph.modules[i].packed == (const char *)packed)
            return strcmp(plant.net->graph.modules[i].name, bug()->where) == 0;
    return false;
}

static bool this_call(void) { return plant.call++ == atoi(bug()->where); }

static double *exported(const struct fdm_exec *exec, const struct fdm_map *m) {
    double *values = malloc((size_t)m->n * (size_t)m->c * (size_t)m->h * (size_t)m->w * sizeof *values);
    ck_assert_ptr_nonnull(values);
    plant.base->map_export(exec, values, m);
    return values;
}

static void bad_groupnorm(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in, const struct fdm_groupnorm_args *args) {
    struct fdm_groupnorm_args a = *args;
    const size_t bytes = plant.base->groupnorm_packed_bytes(in->c);
    float *param = malloc(bytes);
    memcpy(param, args->param, bytes);
    if (here(args->param)) {
        const double count = (double)in->h * in->w * in->c / args->groups;
        if (plant.bug == BUG_EPS) a.eps = 1e-5;
        if (plant.bug == BUG_GROUPS) a.groups /= 2;
        if (plant.bug == BUG_NO_AFFINE) a.add = NULL;
        if (plant.bug == BUG_NO_SILU) a.silu = false;
        for (int c = 0; plant.bug == BUG_UNBIASED && c < in->c; c++) param[c] *= (float)sqrt((count - 1) / count);
        a.param = param;
        /* without SiLU there is no room for the raw output: it is the output */
        if (plant.bug == BUG_NO_SILU && a.raw) {
            plant.base->groupnorm(exec, a.raw, in, &(struct fdm_groupnorm_args){a.groups, a.eps, a.add, a.param, false, NULL, NULL});
            a.raw = NULL;
        }
    }
    plant.base->groupnorm(exec, out, in, &a);
    free(param);
}

/* Writes the wrapped-around border into the halo, which is zero elsewhere and must be again. */
static void fill_halo(struct fdm_map *m, bool wrap) {
    for (int n = 0; n < m->n; n++)
        for (int b = 0; b < fdm_f32_blocks(m->c); b++)
            for (int y = -m->halo; y < m->h + m->halo; y++)
                for (int x = -m->halo; x < m->w + m->halo; x++) {
                    float *at = (float *)m->data + fdm_f32_pixel(m, n, y, x) + b * fdm_f32_plane(m);
                    const float *from = (float *)m->data + b * fdm_f32_plane(m) +
                                        fdm_f32_pixel(m, n, (y + m->h) % m->h, (x + m->w) % m->w);
                    if (y >= 0 && y < m->h && x >= 0 && x < m->w) continue;
                    for (int i = 0; i < FDM_F32_LANES; i++) at[i] = wrap ? from[i] : 0;
                }
}

/* The convolution in exported form with each sum rounded to fp16. */
static void half_sums(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in, const fdm_tensors *model) {
    char name[128];
    snprintf(name, sizeof name, "%s.weight", bug()->where);
    const float *w = fdm_tensors_find(model, name)->data;
    snprintf(name, sizeof name, "%s.bias", bug()->where);
    const float *bias = fdm_tensors_find(model, name)->data;
    double *x = exported(exec, in), *y = exported(exec, out);
    for (int n = 0; n < out->n; n++)
        for (int o = 0; o < out->c; o++)
            for (int p = 0; p < out->h * out->w; p++) {
                float sum = 0;
                for (int k = 0; k < in->c * 9; k++) {
                    const int i = k / 9, yy = p / out->w + k / 3 % 3 - 1, xx = p % out->w + k % 3 - 1;
                    if (yy < 0 || yy >= in->h || xx < 0 || xx >= in->w) continue;
                    const double v = x[((n * in->c + i) * in->h + yy) * in->w + xx];
                    sum = fdm_format_round(FDM_FORMAT_FP16, sum + w[(size_t)o * (size_t)in->c * 9 + (size_t)k] * (float)v);
                }
                y[(n * out->c + o) * out->h * out->w + p] = (double)(sum + bias[o]);
            }
    plant.base->map_import(exec, out, y);
    free(x);
    free(y);
}

static const fdm_tensors *plant_model;

static void bad_conv2d(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in, const struct fdm_conv2d_args *args) {
    struct fdm_conv2d_args a = *args;
    struct fdm_map input = *in;
    const bool planted = here(args->weight);
    if (planted && plant.bug == BUG_SKIP_SCALE) a.epilogue.scale = 1;
    if (planted && plant.bug == BUG_PADDING) fill_halo(&input, true);
    plant.base->conv2d(exec, out, in, &a);
    if (planted && plant.bug == BUG_PADDING) fill_halo(&input, false);
    if (!planted) return;
    if (plant.bug == BUG_HALF_SUMS) half_sums(exec, out, in, plant_model);
    if (plant.bug == BUG_OVERFLOW) ((float *)out->data)[fdm_f32_pixel(out, 0, 3, 4)] = INFINITY;
    if (plant.bug == BUG_RELATIVE) plant.base->add(exec, out, out, NULL, 1 + plant.size);
}

static void bad_linear(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in, const struct fdm_linear_args *args) {
    struct fdm_linear_args a = *args;
    if (plant.bug == BUG_LABEL_SCALE && here(args->weight)) a.in_scale = 1;
    plant.base->linear(exec, out, in, &a);
}

static void bad_resample(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in, const struct fdm_resample_args *args) {
    static const float box[16] = {0, 0, 0, 0, 0, .25f, .25f, 0, 0, .25f, .25f, 0, 0, 0, 0, 0}; /* [1,1] in the middle of four taps */
    struct fdm_resample_args a = *args;
    const bool first = plant.call == 0 && plant.bug == BUG_FILTER;
    if (first) {
        a.filter = box;
        plant.call++;
    }
    plant.base->resample(exec, out, in, &a);
}

/* softmax over the wrong axis, in exported form */
static void wrong_softmax(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *qkv) {
    const int l = out->h * out->w, c = out->c;
    double *in = exported(exec, qkv), *y = exported(exec, out), *w = malloc((size_t)l * (size_t)l * sizeof *w);
    for (int n = 0; n < out->n; n++) {
        const double *base = in + (size_t)n * 3 * (size_t)c * (size_t)l;
        for (int b = 0; b < l; b++) { /* column b: all queries of one key */
            double sum = 0;
            for (int a = 0; a < l; a++) {
                double s = 0;
                for (int j = 0; j < c; j++) s += base[3 * j * l + a] * base[(3 * j + 1) * l + b];
                sum += w[a * l + b] = exp(s / sqrt(c));
            }
            for (int a = 0; a < l; a++) w[a * l + b] /= sum;
        }
        for (int j = 0; j < c; j++)
            for (int a = 0; a < l; a++) {
                double sum = 0;
                for (int b = 0; b < l; b++) sum += w[a * l + b] * base[(3 * j + 2) * l + b];
                y[((size_t)n * (size_t)c + (size_t)j) * (size_t)l + (size_t)a] = sum;
            }
    }
    plant.base->map_import(exec, out, y);
    free(in);
    free(y);
    free(w);
}

static void bad_attention(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *qkv) {
    const bool attention = plant.bug == BUG_ATTENTION_SCALE || plant.bug == BUG_SOFTMAX_AXIS || plant.bug == BUG_QKV_ORDER;
    plant.base->attention(exec, out, qkv);
    if (!attention || !this_call()) return;
    if (plant.bug == BUG_SOFTMAX_AXIS) {
        wrong_softmax(exec, out, qkv);
        return;
    }
    struct fdm_map changed = *qkv;
    double *values = exported(exec, qkv);
    const size_t plane = (size_t)qkv->h * (size_t)qkv->w;
    changed.data = fdm_malloc_aligned(plant.base->map_bytes(qkv->n, qkv->c, qkv->h, qkv->w, qkv->halo));
    for (int n = 0; n < qkv->n; n++)
        for (int j = 0; j < out->c; j++) {
            double *q = values + ((size_t)n * (size_t)qkv->c + 3 * (size_t)j) * plane, *k = q + plane;
            for (size_t i = 0; i < plane; i++) {
                const double was = q[i];
                if (plant.bug == BUG_ATTENTION_SCALE) q[i] *= sqrt(out->c);
                else q[i] = k[i], k[i] = was;
            }
        }
    plant.base->map_import(exec, &changed, values);
    plant.base->attention(exec, out, &changed);
    fdm_free_aligned(changed.data);
    free(values);
}

static void bad_concat(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b) {
    const size_t count = (size_t)b->n * (size_t)b->c * (size_t)b->h * (size_t)b->w;
    double *values = exported(exec, b);
    plant.base->concat(exec, out, a, b);
    if (plant.bug == BUG_SKIP_INDEX && this_call()) {
        struct fdm_map wrong = *b;
        ck_assert_uint_eq(count, plant.before_count);
        wrong.data = fdm_malloc_aligned(plant.base->map_bytes(b->n, b->c, b->h, b->w, b->halo));
        plant.base->map_import(exec, &wrong, plant.before);
        plant.base->concat(exec, out, a, &wrong);
        fdm_free_aligned(wrong.data);
    }
    free(plant.before);
    plant.before = values;
    plant.before_count = count;
}

static void bad_swap(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in) {
    plant.base->swap_halves(exec, out, in);
    if (plant.bug == BUG_HALVES) memcpy(out->data, in->data, (size_t)in->n * (size_t)in->c * sizeof(float));
}

static struct fdm_backend wrapped(void) {
    struct fdm_backend table = *plant.base;
    table.groupnorm = bad_groupnorm;
    table.conv2d = bad_conv2d;
    table.linear = bad_linear;
    table.resample = bad_resample;
    table.attention = bad_attention;
    table.concat = bad_concat;
    table.swap_halves = bad_swap;
    return table;
}

/* ---- changed weights and configurations ---- */

void copy_tensors(fdm_tensors *to, const fdm_tensors *from) {
    fdm_error err = {0};
    for (size_t i = 0; i < from->count; i++) {
        const fdm_tensor *t = &from->items[i];
        fdm_tensor *copy;
        ck_assert_msg(fdm_tensors_add(to, t->name, t->dtype, t->ndim, t->shape, &copy, &err) == FDM_OK, "%s", err.message);
        memcpy(copy->data, t->data, t->nbytes);
    }
    for (size_t i = 0; i < from->meta_count; i++)
        ck_assert(fdm_tensors_set_meta(to, from->meta_keys[i], from->meta_values[i], &err) == FDM_OK);
}

void other_weights(fdm_tensors *to, const fdm_tensors *model) {
    copy_tensors(to, model);
    for (size_t i = 0; i < to->count; i++) {
        fdm_tensor *t = &to->items[i];
        const bool weight = strncmp(t->name, "model.", 6) == 0 && !strstr(t->name, "resample_filter") && !strstr(t->name, "freqs");
        for (int64_t k = 0; weight && k < fdm_tensor_numel(t); k++) ((float *)t->data)[k] *= 1 + 1e-3f * (float)sin((double)k);
    }
}

static float *parameter(fdm_tensors *model, const char *part, int64_t shape[4]) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", bug()->where, part);
    const fdm_tensor *t = fdm_tensors_find(model, name);
    ck_assert_msg(t != NULL, "%s", name);
    memcpy(shape, t->shape, 4 * sizeof *shape);
    return t->data;
}

static void change_weights(fdm_tensors *model, const fdm_tensors *original) {
    int64_t s[4];
    if (plant.bug == BUG_NO_BIAS) {
        float *bias = parameter(model, "bias", s);
        memset(bias, 0, (size_t)s[0] * sizeof *bias);
    } else if (plant.bug == BUG_TRANSPOSED) {
        float *w = parameter(model, "weight", s);
        ck_assert_int_eq(s[0], s[1]);
        for (int64_t i = 0; i < s[0]; i++)
            for (int64_t k = 0; k < i; k++) {
                const float was = w[i * s[0] + k];
                w[i * s[0] + k] = w[k * s[0] + i];
                w[k * s[0] + i] = was;
            }
    } else if (plant.bug == BUG_FLIPPED) {
        float *w = parameter(model, "weight", s);
        for (int64_t i = 0; i < s[0] * s[1]; i++)
            for (int t = 0; t < 4; t++) {
                const float was = w[i * 9 + t];
                w[i * 9 + t] = w[i * 9 + 8 - t];
                w[i * 9 + 8 - t] = was;
            }
    } else if (plant.bug == BUG_STALE_EMA) {
        fdm_tensors_free(model);
        other_weights(model, original);
    }
}

static void change_config(fdm_config *c) {
    fdm_error err;
    if (plant.bug == BUG_MULTIPLIER) c->precond.fdm_multiplier = 1;
    if (plant.bug == BUG_SIGMA_DATA) c->precond.sigma_data = 1;
    if (plant.bug == BUG_FRAMEWORK) { /* an EDM network but for its range and constants */
        fdm_precond edm;
        ck_assert(fdm_precond_init(&edm, FDM_PRECOND_EDM, 1, &err) == FDM_OK);
        c->precond = edm;
    }
}

/* ---- dumps ---- */

static fdm_status collect(void *user, const fdm_tensor *t, fdm_error *err) {
    char name[160];
    fdm_tensor *copy;
    snprintf(name, sizeof name, "trace.%s", t->name);
    const fdm_status status = fdm_tensors_add(user, name, t->dtype, t->ndim, t->shape, &copy, err);
    if (status == FDM_OK) memcpy(copy->data, t->data, t->nbytes);
    return status;
}

static double *add_input(fdm_tensors *dump, const fdm_tensors *model, const char *name) {
    const fdm_tensor *t = fdm_tensors_find(model, name);
    fdm_tensor *copy;
    fdm_error err = {0};
    if (!t) return NULL;
    ck_assert(fdm_tensors_add(dump, name, t->dtype, t->ndim, t->shape, &copy, &err) == FDM_OK);
    memcpy(copy->data, t->data, t->nbytes);
    double *values = malloc((size_t)fdm_tensor_numel(t) * sizeof *values);
    for (int64_t i = 0; i < fdm_tensor_numel(t); i++) values[i] = fdm_tensor_get(t, i);
    return values;
}

static void add_image(fdm_tensors *dump, const char *name, const double *values, const fdm_tensor *like) {
    fdm_tensor *t;
    fdm_error err = {0};
    ck_assert(fdm_tensors_add(dump, name, FDM_F32, like->ndim, like->shape, &t, &err) == FDM_OK);
    for (int64_t i = 0; i < fdm_tensor_numel(t); i++) ((float *)t->data)[i] = (float)values[i];
}

void make_dump(fdm_tensors *dump, const struct dump_spec *spec) {
    const fdm_run_options how = {.backend = spec->backend, .conv = "direct", .threads = 1};
    fdm_tensors weights = {0};
    fdm_config config;
    fdm_error err = {0};
    fdm_denoiser *d = NULL;
    plant.bug = spec->bug;
    plant.call = 0;
    plant.size = spec->size;
    plant_model = spec->model;
    copy_tensors(&weights, spec->model);
    ck_assert_msg(fdm_config_from_tensors(&config, &weights, "golden", &err) == FDM_OK, "%s", err.message);
    if (spec->bug >= 0) {
        change_weights(&weights, spec->model);
        change_config(&config);
    }
    ck_assert_msg(fdm_denoiser_create(&d, &config, &weights, "golden", &how, &err) == FDM_OK, "%s", err.message);
    struct fdm_network *net = fdm_denoiser_network(d);
    plant.base = net->backend;
    plant.net = net;
    const struct fdm_backend table = wrapped();
    if (spec->bug >= 0) net->backend = &table;
    double *x = add_input(dump, spec->model, "x"), *sigma = add_input(dump, spec->model, "sigma");
    double *labels = add_input(dump, spec->model, "class_labels"), *augment = add_input(dump, spec->model, "augment_labels");
    const fdm_tensor *images = fdm_tensors_find(dump, "x");
    const int n = (int)images->shape[0];
    float *dumped_sigma = fdm_tensors_find(dump, "sigma")->data;
    for (int i = 0; i < n; i++) {
        if (spec->sigma > 0) dumped_sigma[i] = (float)(sigma[i] = spec->sigma);
        if (spec->bug == BUG_CLAMPED) { /* the dump says 0.01 and 150, the program computes at 0.02 and 100 */
            dumped_sigma[i] = i % 2 ? 150.0f : 0.01f;
            sigma[i] = i % 2 ? 100 : (double)0.02f;
        }
    }
    const size_t pixels = (size_t)fdm_tensor_numel(images);
    double *D = malloc(2 * pixels * sizeof *D);
    const fdm_denoise_args args = {.n = n, .x = x, .sigma = sigma, .class_labels = labels, .augment_labels = augment,
                                   .F = D + pixels, .trace = collect, .trace_user = dump};
    ck_assert_msg(fdm_denoise(d, D, &args, &err) == FDM_OK, "%s", err.message);
    images = fdm_tensors_find(dump, "x");
    const fdm_tensor like = *images;
    add_image(dump, "F_x", D + pixels, &like);
    add_image(dump, "out", D, &like);
    net->backend = plant.base;
    free(plant.before);
    plant.before = NULL;
    free(D);
    free(x);
    free(sigma);
    free(labels);
    free(augment);
    fdm_denoiser_free(&d);
    fdm_tensors_free(&weights);
}
