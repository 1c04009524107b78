/* bench_layers.c - single layers of the CIFAR-10 networks, forward and backward, through the backend's table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "cli/bench.h"
#include "fdm/init.h"
#include "nn/network.h"

enum kind { CONV, NORM, ATTENTION, LINEAR };
struct spec {
    enum kind kind;
    int in, out, size, k;
};
static const struct spec specs[] = {
    {CONV, 128, 256, 32, 3}, {CONV, 256, 256, 32, 3}, {CONV, 512, 256, 32, 3}, {CONV, 256, 256, 16, 3},
    {CONV, 512, 256, 16, 3}, {CONV, 256, 256, 8, 3},  {CONV, 512, 512, 8, 3},  {CONV, 3, 128, 32, 3},
    {CONV, 128, 3, 32, 3},   {CONV, 256, 768, 16, 1}, {CONV, 512, 256, 32, 1}, {CONV, 512, 256, 8, 1},
    {NORM, 256, 256, 32, 1}, {NORM, 256, 256, 16, 1}, {ATTENTION, 768, 256, 16, 1}, {LINEAR, 512, 256, 1, 1},
};
enum { SPECS = FDM_ARRAY_LEN(specs), HALO = 1 };

struct layer {
    struct spec spec;
    struct bench_layers *all;
    float *weight;      /* dense, the bias (or norm's bias) behind it */
    void *packed;
    float *d_weight;    /* dense, d_bias behind it */
    struct fdm_map in, out, d_out, d_in;     /* data is shared between layers */
    struct fdm_vec in_v, out_v, d_out_v, d_in_v;
};

struct bench_layers {
    struct fdm_network net; /* small: lends its table and how to run it, as the options chose them */
    struct layer items[SPECS];
    float *x, *y, *dx, *dy; /* operands, as large as the largest layer wants */
    size_t operand_bytes;
};

/* ---- What to run -------------------------------------------------------------------------------------------------- */

static fdm_status conv_forward(void *state, fdm_error *err) {
    struct layer *l = state;
    const struct fdm_conv2d_args args = {.k = l->spec.k, .pad = l->spec.k / 2, .weight = l->packed, .epilogue = {.scale = 1}};
    (void)err;
    l->all->net.backend->conv2d(&l->all->net.exec, &l->out, &l->in, &args);
    return FDM_OK;
}

static void conv_backward(struct layer *l, struct fdm_map *d_in, float *d_weight) {
    const struct fdm_conv2d_backward_args args = {
        .k = l->spec.k, .pad = l->spec.k / 2, .scale = 1, .weight = l->weight, .d_in = {.map = d_in}, .d_weight = d_weight,
        .d_bias = d_weight ? d_weight + (size_t)l->spec.out * (size_t)l->spec.in * (size_t)(l->spec.k * l->spec.k) : NULL};
    l->all->net.backend->conv2d_backward(&l->all->net.exec, &l->d_out, &l->in, &args);
}
static fdm_status conv_d_in(void *state, fdm_error *err) {
    struct layer *l = state;
    (void)err;
    conv_backward(l, &l->d_in, NULL);
    return FDM_OK;
}
static fdm_status conv_d_weight(void *state, fdm_error *err) {
    struct layer *l = state;
    (void)err;
    conv_backward(l, NULL, l->d_weight);
    return FDM_OK;
}

static struct fdm_groupnorm_args norm_args(const struct layer *l) {
    return (struct fdm_groupnorm_args){
        .groups = fdm_groupnorm_groups(l->spec.in), .eps = 1e-6, .param = l->packed, .silu = true};
}
static fdm_status norm_forward(void *state, fdm_error *err) {
    struct layer *l = state;
    const struct fdm_groupnorm_args args = norm_args(l);
    (void)err;
    l->all->net.backend->groupnorm(&l->all->net.exec, &l->out, &l->in, &args);
    return FDM_OK;
}
static fdm_status norm_backward(void *state, fdm_error *err) {
    struct layer *l = state;
    const struct fdm_groupnorm_backward_args args = {
        .forward = norm_args(l), .d_in = {.map = &l->d_in}, .d_weight = l->d_weight, .d_bias = l->d_weight + l->spec.in};
    (void)err;
    l->all->net.backend->groupnorm_backward(&l->all->net.exec, &l->d_out, &l->in, &args);
    return FDM_OK;
}

static fdm_status attention_forward(void *state, fdm_error *err) {
    struct layer *l = state;
    (void)err;
    l->all->net.backend->attention(&l->all->net.exec, &l->out, &l->in);
    return FDM_OK;
}
static fdm_status attention_backward(void *state, fdm_error *err) {
    struct layer *l = state;
    (void)err;
    l->all->net.backend->attention_backward(&l->all->net.exec, (struct fdm_map_target){.map = &l->d_in}, &l->d_out, &l->in);
    return FDM_OK;
}

static fdm_status linear_forward(void *state, fdm_error *err) {
    struct layer *l = state;
    const struct fdm_linear_args args = {.weight = l->packed, .in_scale = 1};
    (void)err;
    l->all->net.backend->linear(&l->all->net.exec, &l->out_v, &l->in_v, &args);
    return FDM_OK;
}
static fdm_status linear_backward(void *state, fdm_error *err) {
    struct layer *l = state;
    const size_t weights = (size_t)l->spec.in * (size_t)l->spec.out;
    const struct fdm_linear_backward_args args = {
        .weight = l->weight, .bias = l->weight + weights, .in_scale = 1, .d_in = {.vec = &l->d_in_v},
        .d_weight = l->d_weight, .d_bias = l->d_weight + weights};
    (void)err;
    l->all->net.backend->linear_backward(&l->all->net.exec, &l->d_out_v, &l->in_v, &args);
    return FDM_OK;
}

/* ---- As cases ----------------------------------------------------------------------------------------------------- */

/* flops: of the direct algorithm; bytes: 0 where arithmetic is the limit. */
static void add(struct bench_cases *cases, const struct bench_setup *setup, struct layer *l, const char *name,
                const char *pass, fdm_status (*run)(void *, fdm_error *), double flops, double bytes) {
    char whole[96];
    snprintf(whole, sizeof whole, "%s %s", name, pass);
    if (setup->only && !strstr(whole, setup->only)) return;
    struct bench_case *c = bench_case_add(cases, BENCH_LAYERS, name, pass);
    if (!c) return;
    c->n = setup->batch;
    c->flops = flops;
    c->executed = flops;
    if (l->spec.kind == CONV)
        c->executed /= bench_conv_saving(&setup->run, l->spec.in, l->spec.out, l->spec.k, strcmp(pass, "d_weight") == 0);
    c->bytes = bytes;
    c->repeat = true;
    c->run = run;
    c->state = l;
}

static void add_layer(struct bench_cases *cases, const struct bench_setup *setup, struct layer *l) {
    const struct spec *s = &l->spec;
    const double n = setup->batch, pixels = (double)s->size * s->size, weights = (double)s->in * s->out * s->k * s->k;
    const double map = 4 * n * pixels * s->in; /* bytes of the input */
    char name[48];
    switch (s->kind) {
    case CONV:
        snprintf(name, sizeof name, "%dx%d %d->%d %dx%d", s->k, s->k, s->in, s->out, s->size, s->size);
        add(cases, setup, l, name, "forward", conv_forward, 2 * n * pixels * weights, 0);
        add(cases, setup, l, name, "d_in", conv_d_in, 2 * n * pixels * weights, 0);
        add(cases, setup, l, name, "d_weight", conv_d_weight, 2 * n * pixels * weights, 0);
        break;
    case NORM: /* a run of channels stays in the cache through all passes */
        snprintf(name, sizeof name, "norm+SiLU %d %dx%d", s->in, s->size, s->size);
        add(cases, setup, l, name, "forward", norm_forward, 0, 2 * map);
        add(cases, setup, l, name, "backward", norm_backward, 0, 3 * map);
        break;
    case ATTENTION: /* two products; backward: scores again, and one product for each of d_v, d_weights, d_q, d_k */
        snprintf(name, sizeof name, "attention %d %dx%d", s->out, s->size, s->size);
        add(cases, setup, l, name, "forward", attention_forward, 4 * n * pixels * pixels * s->out, 0);
        add(cases, setup, l, name, "backward", attention_backward, 10 * n * pixels * pixels * s->out, 0);
        break;
    case LINEAR:
        snprintf(name, sizeof name, "linear %d->%d", s->in, s->out);
        add(cases, setup, l, name, "forward", linear_forward, 0, 4 * (weights + n * (s->in + s->out)));
        add(cases, setup, l, name, "backward", linear_backward, 0, 4 * (2 * weights + 2 * n * (s->in + s->out)));
        break;
    }
}

/* ---- Memory ------------------------------------------------------------------------------------------------------- */

static void pattern(float *p, size_t count) {
    for (size_t i = 0; i < count; i++) p[i] = (float)(i % 251) * 0.01f - 1.2f;
}

static size_t weights_of(const struct spec *s) {
    return s->kind == ATTENTION ? 0 : s->kind == NORM ? (size_t)s->in : (size_t)s->in * (size_t)s->out * (size_t)(s->k * s->k);
}

static size_t packed_bytes(const struct fdm_backend *b, const struct spec *s) {
    switch (s->kind) {
    case CONV: return b->conv2d_packed_bytes(s->out, s->in, s->k);
    case LINEAR: return b->linear_packed_bytes(s->out, s->in);
    case NORM: return b->groupnorm_packed_bytes(s->in);
    default: return 64;
    }
}

static void pack(struct layer *l) {
    const struct fdm_backend *b = l->all->net.backend;
    const struct fdm_exec *e = &l->all->net.exec;
    const struct spec *s = &l->spec;
    const float *bias = l->weight + weights_of(s);
    if (s->kind == CONV) b->conv2d_pack(e, l->packed, l->weight, bias, s->out, s->in, s->k);
    if (s->kind == LINEAR) b->linear_pack(e, l->packed, l->weight, bias, s->out, s->in);
    if (s->kind == NORM) b->groupnorm_pack(e, l->packed, l->weight, bias, s->in);
}

static size_t scratch_bytes(const struct fdm_backend *b, const struct spec *s, int n, int threads) {
    size_t forward = 0, backward = 0;
    if (s->kind == CONV) {
        forward = b->conv2d_scratch(n, s->in, s->out, s->k, s->size, s->size, threads);
        backward = b->conv2d_backward_scratch(n, s->in, s->out, s->k, s->size, s->size, threads);
    } else if (s->kind == NORM) {
        backward = b->groupnorm_backward_scratch(n, s->in, s->size, s->size, threads);
    } else if (s->kind == ATTENTION) {
        forward = b->attention_scratch(n, s->out, s->size, s->size, threads);
        backward = b->attention_backward_scratch(n, s->out, s->size, s->size, threads);
    } else {
        backward = b->linear_backward_scratch(n, s->in, s->out, threads);
    }
    return forward > backward ? forward : backward;
}

static fdm_status make_layer(struct bench_layers *all, struct layer *l, const struct spec *s, fdm_error *err) {
    const size_t count = weights_of(s) + (size_t)(s->in > s->out ? s->in : s->out);
    const size_t packed = packed_bytes(all->net.backend, s);
    l->spec = *s;
    l->all = all;
    l->weight = fdm_malloc_aligned(count * sizeof(float));
    l->d_weight = fdm_malloc_aligned(count * sizeof(float));
    l->packed = fdm_malloc_aligned(packed);
    if (!l->weight || !l->d_weight || !l->packed) return fdm_fail_oom(err, "layer", packed);
    pattern(l->weight, count);
    pack(l);
    return FDM_OK;
}

static void place(struct layer *l, int n) {
    const struct bench_layers *all = l->all;
    const struct spec *s = &l->spec;
    l->in = (struct fdm_map){n, s->in, s->size, s->size, HALO, all->x};
    l->d_in = (struct fdm_map){n, s->in, s->size, s->size, HALO, all->dx};
    l->out = (struct fdm_map){n, s->out, s->size, s->size, HALO, all->y};
    l->d_out = (struct fdm_map){n, s->out, s->size, s->size, HALO, all->dy};
    l->in_v = (struct fdm_vec){n, s->in, all->x};
    l->d_in_v = (struct fdm_vec){n, s->in, all->dx};
    l->out_v = (struct fdm_vec){n, s->out, all->y};
    l->d_out_v = (struct fdm_vec){n, s->out, all->dy};
}

/* The borders of shared operands are not zero, as a layer may expect: its results are nonsense, its time is the same. */
static fdm_status make_operands(struct bench_layers *all, int n, fdm_error *err) {
    size_t scratch = 64;
    for (size_t i = 0; i < SPECS; i++) {
        const struct spec *s = &specs[i];
        const size_t in = all->net.backend->map_bytes(n, s->in, s->size, s->size, HALO);
        const size_t out = all->net.backend->map_bytes(n, s->out, s->size, s->size, HALO);
        const size_t need = scratch_bytes(all->net.backend, s, n, all->net.exec.threads);
        if (in > all->operand_bytes) all->operand_bytes = in;
        if (out > all->operand_bytes) all->operand_bytes = out;
        if (need > scratch) scratch = need;
    }
    float **operands[] = {&all->x, &all->y, &all->dx, &all->dy};
    for (size_t i = 0; i < FDM_ARRAY_LEN(operands); i++) {
        *operands[i] = fdm_malloc_aligned(all->operand_bytes);
        if (!*operands[i]) return fdm_fail_oom(err, "layers; try a smaller --batch", all->operand_bytes);
        pattern(*operands[i], all->operand_bytes / sizeof(float));
    }
    all->net.exec.scratch = fdm_malloc_aligned(scratch);
    all->net.exec.scratch_bytes = scratch;
    return all->net.exec.scratch ? FDM_OK : fdm_fail_oom(err, "scratch; try a smaller --batch", scratch);
}

/* ---- The group ---------------------------------------------------------------------------------------------------- */

static fdm_status make_network(struct fdm_network *net, const fdm_run_options *run, fdm_error *err) {
    static const char json[] = "{\"class_name\": \"FDM_EDMPrecond\", \"img_resolution\": 8, \"img_channels\": 3, "
                               "\"model_channels\": 16, \"channel_mult\": [1], \"num_blocks\": 1, \"attn_resolutions\": []}";
    fdm_tensors set = {0};
    fdm_config config;
    fdm_rng rng;
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, 1);
    fdm_status status = fdm_config_parse(&config, json, sizeof json - 1, NULL, "bench", err);
    if (status == FDM_OK) status = fdm_init_weights(&set, &config, &rng, err);
    if (status == FDM_OK) status = fdm_network_create(net, &config, &set, "bench", run, false, err);
    fdm_tensors_free(&set);
    return status;
}

fdm_status bench_layers_add(struct bench_layers **layers, struct bench_cases *cases, const struct bench_setup *setup,
                            fdm_error *err) {
    struct bench_layers *all = *layers = calloc(1, sizeof *all);
    if (!all) return fdm_fail_oom(err, "layers", sizeof *all);
    fdm_status status = make_network(&all->net, &setup->run, err);
    if (status == FDM_OK) status = make_operands(all, setup->batch, err);
    for (size_t i = 0; i < SPECS && status == FDM_OK; i++) {
        status = make_layer(all, &all->items[i], &specs[i], err);
        if (status != FDM_OK) break;
        place(&all->items[i], setup->batch);
        add_layer(cases, setup, &all->items[i]);
    }
    return status;
}

void bench_layers_free(struct bench_layers **layers) {
    struct bench_layers *all = *layers;
    if (!all) return;
    for (size_t i = 0; i < SPECS; i++) {
        fdm_free_aligned(all->items[i].weight);
        fdm_free_aligned(all->items[i].d_weight);
        fdm_free_aligned(all->items[i].packed);
    }
    fdm_free_aligned(all->x);
    fdm_free_aligned(all->y);
    fdm_free_aligned(all->dx);
    fdm_free_aligned(all->dy);
    fdm_network_free(&all->net); /* and the scratch */
    free(all);
    *layers = NULL;
}
