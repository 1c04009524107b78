/* init.c - initial weights in constructor order. */
#include "fdm/init.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "nn/graph.h"

/* What the functions below write to. */
struct init {
    fdm_tensors *set;
    const fdm_config *config;
    fdm_rng *rng;
    fdm_error *err;
};

/* Appends "<module>.<part>"; *data is its storage. */
static fdm_status add(const struct init *init, const struct fdm_module *m, const char *part, int ndim,
                      const int64_t *shape, fdm_tensor **t) {
    char name[FDM_NAME_MAX + 32];
    snprintf(name, sizeof name, "%s.%s", m->name, part);
    return fdm_tensors_add(init->set, name, FDM_F32, ndim, shape, t, init->err);
}

static bool ends_with(const char *name, const char *end) {
    const size_t a = strlen(name), b = strlen(end);
    return a >= b && strcmp(name + a - b, end) == 0;
}

static float gain_of(const char *module) {
    if (ends_with(module, ".conv1") || ends_with(module, ".proj") || ends_with(module, "_aux_conv")) return 1e-5f;
    return ends_with(module, ".qkv") ? (float)sqrt(0.2) : 1.0f;
}

/* t = (2 u - 1) bound * gain, every operation rounded to f32. */
static void draw_uniform(const struct init *init, fdm_tensor *t, float bound, float gain) {
    float *w = t->data;
    const size_t count = (size_t)fdm_tensor_numel(t);
    fdm_rng_uniform_f32(init->rng, w, count);
    for (size_t i = 0; i < count; i++) {
        const float centred = w[i] * 2.0f - 1.0f;
        w[i] = centred * bound * gain;
    }
}

static fdm_status init_layer(const struct init *init, const struct fdm_module *m) {
    const int64_t shape[] = {m->out, m->in, m->k, m->k};
    const bool conv = m->kind == FDM_MODULE_CONV2D;
    const double taps = conv ? (double)m->k * m->k : 1;
    fdm_tensor *t;
    if (conv && m->k == 0) return FDM_OK; /* resampling only */
    const float bound = (float)sqrt(6 / (m->in * taps + m->out * taps));
    fdm_status status = add(init, m, "weight", conv ? 4 : 2, shape, &t);
    if (status != FDM_OK) return status;
    draw_uniform(init, t, bound, gain_of(m->name));
    if (!m->bias) return FDM_OK;
    status = add(init, m, "bias", 1, shape, &t);
    if (status == FDM_OK) draw_uniform(init, t, bound, 0);
    return status;
}

static fdm_status init_groupnorm(const struct init *init, const struct fdm_module *m) {
    const int64_t channels = m->out;
    fdm_tensor *t;
    const fdm_status status = add(init, m, "weight", 1, &channels, &t);
    if (status != FDM_OK) return status;
    for (int64_t i = 0; i < channels; i++) ((float *)t->data)[i] = 1;
    return add(init, m, "bias", 1, &channels, &t);
}

static fdm_status init_noise(const struct init *init, const struct fdm_module *m) {
    const int64_t half = m->out / 2;
    fdm_tensor *t;
    if (init->config->embedding_type != FDM_EMBEDDING_FOURIER) return FDM_OK;
    const fdm_status status = add(init, m, "freqs", 1, &half, &t);
    if (status != FDM_OK) return status;
    float *freqs = t->data;
    fdm_rng_normal_f32(init->rng, freqs, (size_t)half);
    for (int64_t i = 0; i < half; i++) freqs[i] *= 16;
    return FDM_OK;
}

static fdm_status init_filter(const struct init *init, const struct fdm_module *m) {
    const int len = init->config->filter_len;
    const double *f = init->config->resample_filter;
    const int64_t shape[] = {1, 1, len, len};
    float sum = 0;
    fdm_tensor *t;
    const fdm_status status = add(init, m, "resample_filter", 4, shape, &t);
    if (status != FDM_OK) return status;
    for (int i = 0; i < len; i++) sum += (float)f[i];
    for (int i = 0; i < len; i++)
        for (int j = 0; j < len; j++) ((float *)t->data)[i * len + j] = (float)f[i] * (float)f[j] / (sum * sum);
    return FDM_OK;
}

static fdm_status init_module(const struct init *init, const struct fdm_module *m) {
    fdm_status status = FDM_OK;
    switch (m->kind) {
    case FDM_MODULE_LINEAR:
    case FDM_MODULE_CONV2D: status = init_layer(init, m); break;
    case FDM_MODULE_GROUPNORM: status = init_groupnorm(init, m); break;
    case FDM_MODULE_NOISE: status = init_noise(init, m); break;
    }
    return status == FDM_OK && m->resampling ? init_filter(init, m) : status;
}

static fdm_status add_config(fdm_tensors *set, const fdm_config *config, fdm_error *err) {
    char *json = fdm_config_json(config);
    if (!json) return fdm_fail_oom(err, "configuration", 4096);
    const fdm_status status = fdm_tensors_set_meta(set, "config", json, err);
    free(json);
    return status;
}

fdm_status fdm_init_weights(fdm_tensors *set, const fdm_config *config, fdm_rng *rng, fdm_error *err) {
    struct fdm_graph graph;
    if (!fdm_unet_build(&graph, config)) return fdm_fail_oom(err, "network", sizeof graph);
    const struct init init = {set, config, rng, err};
    fdm_status status = add_config(set, config, err);
    for (int i = 0; status == FDM_OK && i < graph.module_count; i++) status = init_module(&init, &graph.modules[i]);
    fdm_graph_free(&graph);
    if (status != FDM_OK) fdm_tensors_free(set);
    return status;
}

void fdm_init_seed_published(fdm_rng *rng, uint64_t seed) {
    fdm_mt19937 mt;
    fdm_mt19937_seed(&mt, (uint32_t)(seed & 0x7fffffffu));
    fdm_rng_seed(rng, FDM_RNG_TORCH_CPU, fdm_mt19937_next(&mt) & 0x7fffffffu);
    fdm_mt19937_next(&rng->mt);
    fdm_mt19937_next(&rng->mt);
}
