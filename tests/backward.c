/* backward.c - see backward.h */
#include "backward.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "f32_maps.h"
#include "splitmix.h"

const char *const layer_kind_name[LAYER_KINDS] = {"conv2d", "resample", "groupnorm", "linear", "attention", "concat"};

size_t layer_sample(const struct fdm_map *shape) { return (size_t)shape->c * (size_t)shape->h * (size_t)shape->w; }
size_t layer_all(const struct fdm_map *shape) { return (size_t)shape->n * layer_sample(shape); }

void layer_describe(char *text, size_t size, const struct layer_case *c) {
    snprintf(text, size, "%s n%d %d>%d %dx%d k%d p%d l%d%s%s%s%s g%d s%.3g d%.2g", layer_kind_name[c->kind], c->n, c->in,
             c->out, c->h, c->w, c->k, c->pad, c->len, c->up ? " up" : "", c->extra ? " extra" : "",
             c->bias ? " bias" : "", c->silu ? " silu" : "", c->groups, c->scale, c->dropout);
}

static double scale_of(const struct layer_case *c) { return c->scale > 0 ? c->scale : 1; }

static struct fdm_map shape(int n, int c, int h, int w) { return (struct fdm_map){.n = n, .c = c, .h = h, .w = w}; }

static void set_shapes(struct layer_values *v, const struct layer_case *c) {
    v->in = v->out = shape(c->n, c->in, c->h, c->w);
    v->out.c = c->kind == LAYER_CONV2D || c->kind == LAYER_LINEAR ? c->out : c->in;
    switch (c->kind) {
    case LAYER_CONV2D:
        v->out.h += 2 * c->pad - c->k + 1, v->out.w += 2 * c->pad - c->k + 1;
        v->weights = (size_t)(c->out * c->in * c->k * c->k);
        break;
    case LAYER_RESAMPLE:
        v->out.h = c->up ? (c->h - 1) * 2 - 2 * c->pad + c->len : (c->h + 2 * c->pad - c->len) / 2 + 1;
        v->out.w = c->up ? (c->w - 1) * 2 - 2 * c->pad + c->len : (c->w + 2 * c->pad - c->len) / 2 + 1;
        break;
    case LAYER_GROUPNORM: v->weights = (size_t)c->in; break;
    case LAYER_LINEAR: v->weights = (size_t)(c->out * c->in); break;
    case LAYER_ATTENTION: v->in.c = 3 * c->in; break;
    case LAYER_CONCAT: v->out.c = c->in + c->out; break;
    default: break;
    }
    v->biases = c->bias ? (size_t)v->out.c : 0;
    v->extra = v->out;
    if (c->kind == LAYER_GROUPNORM) v->extra = shape(c->n, c->in, 1, 1);
    if (c->kind == LAYER_CONCAT) v->extra.c = c->out;
}

static float *filter_of(struct test_backend *b, int len) {
    static const float taps[5][4] = {[2] = {1, 1}, [4] = {1, 3, 3, 1}};
    if (len != 2 && len != 4) return test_random_f32(b, (size_t)(len * len), 17);
    float *filter = test_alloc(b, (size_t)(len * len) * sizeof *filter);
    for (int i = 0; i < len * len; i++) filter[i] = taps[len][i / len] * taps[len][i % len] / (len == 2 ? 4.f : 64.f);
    return filter;
}

struct layer_values layer_values_of(struct test_backend *b, const struct layer_case *c, uint64_t seed) {
    struct layer_values v = {0};
    set_shapes(&v, c);
    v.x = test_random(b, layer_all(&v.in), seed + 1);
    v.d_out = test_random(b, layer_all(&v.out), seed + 2);
    v.before = test_random(b, layer_all(&v.in), seed + 3);
    if (c->kind == LAYER_ATTENTION)
        for (size_t i = 0; i < layer_all(&v.in); i++) v.x[i] *= 4; /* weights far from uniform */
    if (c->extra || c->kind == LAYER_CONCAT) {
        v.extra_x = test_random(b, layer_all(&v.extra), seed + 4);
        v.extra_before = test_random(b, layer_all(&v.extra), seed + 5);
    }
    if (v.weights) v.weight = test_random_f32(b, v.weights, seed + 6);
    if (v.biases) v.bias = test_random_f32(b, v.biases, seed + 7);
    if (c->kind == LAYER_RESAMPLE) v.filter = filter_of(b, c->len);
    v.keys = test_alloc(b, (size_t)c->n * sizeof *v.keys);
    for (int n = 0; n < c->n; n++) v.keys[n] = splitmix_next(&seed);
    return v;
}

bool layer_has_backward(const struct test_backend *b, enum layer_kind kind) {
    switch (kind) {
    case LAYER_CONV2D: return b->table->conv2d_backward != NULL;
    case LAYER_RESAMPLE: return b->table->resample_backward != NULL;
    case LAYER_GROUPNORM: return b->table->groupnorm_backward != NULL;
    case LAYER_LINEAR: return b->table->linear_backward != NULL;
    case LAYER_ATTENTION: return b->table->attention_backward != NULL;
    default: return b->table->concat_backward != NULL;
    }
}

/* ---- one call ------------------------------------------------------------------------------------------- */

struct call {
    struct test_backend *b;
    const struct layer_case *c;
    const struct layer_values *v;
    int first, count;
    bool accumulate;
    struct fdm_map maps[2]; /* targets: of in, of extra */
    struct fdm_vec vecs[2];
    void *weight, *bias; /* gradients in the backend's type */
};

/* Samples first.. of a tensor. */
static struct fdm_map map_of(const struct call *k, const struct fdm_map *s, const double *all, int halo) {
    return test_map_of(k->b, all + (size_t)k->first * layer_sample(s), k->count, s->c, s->h, s->w, halo);
}
static struct fdm_vec vec_of(const struct call *k, const struct fdm_map *s, const double *all) {
    return test_vec_of(k->b, all + (size_t)k->first * layer_sample(s), k->count, s->c);
}

/* Target i, with what it holds before if it accumulates, else unwritten; another halo in each case. */
static struct fdm_map_target map_target(struct call *k, int i, const struct fdm_map *s, const double *before,
                                        bool wanted) {
    if (!wanted || !before) return (struct fdm_map_target){NULL, false};
    k->maps[i] = k->accumulate ? map_of(k, s, before, 2) : test_map(k->b, k->count, s->c, s->h, s->w, 1);
    return (struct fdm_map_target){&k->maps[i], k->accumulate};
}
static struct fdm_vec_target vec_target(struct call *k, int i, const struct fdm_map *s, const double *before,
                                        bool wanted) {
    if (!wanted || !before) return (struct fdm_vec_target){NULL, false};
    k->vecs[i] = k->accumulate ? vec_of(k, s, before) : test_vec(k->b, k->count, s->c);
    return (struct fdm_vec_target){&k->vecs[i], k->accumulate};
}

static void call_conv2d(struct call *k, bool wanted) {
    const struct layer_case *c = k->c;
    const struct layer_values *v = k->v;
    struct fdm_map in = map_of(k, &v->in, v->x, c->pad);
    struct fdm_map d_out = map_of(k, &v->out, v->d_out, fdm_max_int(c->k - 1 - c->pad, 0));
    struct fdm_conv2d_backward_args args = {
        .k = c->k, .pad = c->pad, .scale = scale_of(c), .weight = v->weight, .d_weight = k->weight, .d_bias = k->bias};
    args.d_in = map_target(k, 0, &v->in, v->before, wanted);
    args.d_residual = map_target(k, 1, &v->extra, v->extra_before, wanted);
    test_reserve(k->b, k->b->table->conv2d_backward_scratch(k->count, c->in, c->out, c->k, v->out.h, v->out.w,
                                                            k->b->exec.threads));
    k->b->table->conv2d_backward(&k->b->exec, &d_out, &in, &args);
}

static void call_resample(struct call *k, bool wanted) {
    const struct layer_case *c = k->c;
    const struct layer_values *v = k->v;
    struct fdm_map d_out = map_of(k, &v->out, v->d_out, 1);
    struct fdm_resample_backward_args args = {.up = c->up, .pad = c->pad, .len = c->len, .filter = v->filter};
    args.scale = scale_of(c);
    args.d_bias = k->bias;
    args.d_in = map_target(k, 0, &v->in, v->before, wanted);
    args.d_residual = map_target(k, 1, &v->extra, v->extra_before, wanted);
    test_reserve(k->b, k->b->table->resample_backward_scratch(k->count, v->out.c, v->out.h, v->out.w,
                                                              k->b->exec.threads));
    k->b->table->resample_backward(&k->b->exec, &d_out, &args);
}

static void call_groupnorm(struct call *k, bool wanted) {
    const struct layer_case *c = k->c;
    const struct layer_values *v = k->v;
    struct fdm_map in = map_of(k, &v->in, v->x, 0), d_out = map_of(k, &v->out, v->d_out, 1);
    const struct fdm_dropout dropout = {.p = c->dropout, .layer = 7, .keys = v->keys + k->first};
    struct fdm_groupnorm_backward_args args = {.forward = {.groups = c->groups, .eps = 1e-6, .silu = c->silu}};
    args.forward.param = test_pack_groupnorm(k->b, v->weight, v->bias, c->in);
    struct fdm_vec add;
    if (v->extra_x) {
        add = vec_of(k, &v->extra, v->extra_x);
        args.forward.add = &add;
    }
    if (c->dropout > 0) args.forward.dropout = &dropout;
    args.d_in = map_target(k, 0, &v->in, v->before, wanted);
    args.d_add = vec_target(k, 1, &v->extra, v->extra_before, wanted);
    args.d_weight = k->weight, args.d_bias = k->bias;
    test_reserve(k->b, k->b->table->groupnorm_backward_scratch(k->count, c->in, c->h, c->w, k->b->exec.threads));
    k->b->table->groupnorm_backward(&k->b->exec, &d_out, &in, &args);
}

static void call_linear(struct call *k, bool wanted) {
    const struct layer_case *c = k->c;
    const struct layer_values *v = k->v;
    struct fdm_vec in = vec_of(k, &v->in, v->x), d_out = vec_of(k, &v->out, v->d_out);
    struct fdm_linear_backward_args args = {.weight = v->weight, .bias = v->bias, .silu = c->silu};
    args.in_scale = scale_of(c);
    args.d_in = vec_target(k, 0, &v->in, v->before, wanted);
    args.d_residual = vec_target(k, 1, &v->extra, v->extra_before, wanted);
    args.d_weight = k->weight, args.d_bias = k->bias;
    test_reserve(k->b, k->b->table->linear_backward_scratch(k->count, c->in, c->out, k->b->exec.threads));
    k->b->table->linear_backward(&k->b->exec, &d_out, &in, &args);
}

static void call_attention(struct call *k, bool wanted) {
    const struct layer_case *c = k->c;
    const struct layer_values *v = k->v;
    struct fdm_map qkv = map_of(k, &v->in, v->x, 0), d_out = map_of(k, &v->out, v->d_out, 0);
    struct fdm_map_target d_qkv = map_target(k, 0, &v->in, v->before, wanted);
    test_reserve(k->b, k->b->table->attention_backward_scratch(k->count, c->in, c->h, c->w, k->b->exec.threads));
    k->b->table->attention_backward(&k->b->exec, d_qkv, &d_out, &qkv);
}

static void call_concat(struct call *k, bool wanted) {
    const struct layer_values *v = k->v;
    struct fdm_map d_out = map_of(k, &v->out, v->d_out, 1);
    struct fdm_map_target d_a = map_target(k, 0, &v->in, v->before, wanted);
    k->b->table->concat_backward(&k->b->exec, d_a, map_target(k, 1, &v->extra, v->extra_before, wanted), &d_out);
}

/* ---- results -------------------------------------------------------------------------------------------- */

static double *target_values(struct call *k, int i) {
    if (k->vecs[i].data) return test_vec_values(k->b, &k->vecs[i]);
    if (!k->maps[i].data) return NULL;
    if (k->b->table->dtype == FDM_F32) f32_check_zeros(&k->maps[i], i ? "target of extra" : "target of in");
    return test_map_values(k->b, &k->maps[i]);
}

static double *parameter_values(struct call *k, const void *gradient, size_t count) {
    if (!gradient) return NULL;
    double *values = test_alloc(k->b, count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = k->b->table->dtype == FDM_F32 ? (double)((const float *)gradient)[i] : ((const double *)gradient)[i];
    return values;
}

struct layer_gradients layer_backward(struct test_backend *b, const struct layer_case *c, const struct layer_values *v,
                                      int first, int count, enum layer_targets targets) {
    static void (*const calls[LAYER_KINDS])(struct call *, bool wanted) = {
        call_conv2d, call_resample, call_groupnorm, call_linear, call_attention, call_concat};
    struct call k = {.b = b, .c = c, .v = v, .first = first, .count = count};
    k.accumulate = targets == TARGETS_ACCUMULATE;
    const size_t size = fdm_dtype_size(b->table->dtype);
    if (v->weights) k.weight = test_alloc(b, v->weights * size);
    if (v->biases) k.bias = test_alloc(b, v->biases * size);
    calls[c->kind](&k, targets != TARGETS_NONE);
    return (struct layer_gradients){.x = target_values(&k, 0),
                                    .extra = target_values(&k, 1),
                                    .weight = parameter_values(&k, k.weight, v->weights),
                                    .bias = parameter_values(&k, k.bias, v->biases)};
}
