/* weights.c - checks a model's tensors against its configuration and packs them for a backend. */
#include "nn/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"

/* The list of everything wrong, in one line. */
struct findings {
    char text[3072];
    int count, hidden;
};

static void find(struct findings *f, const char *text) {
    const size_t used = strlen(f->text);
    if (used + strlen(text) + 3 > sizeof f->text) {
        f->hidden++;
        return;
    }
    snprintf(f->text + used, sizeof f->text - used, "%s%s", f->count ? ", " : "", text);
    f->count++;
}

/* The tensor "<module>.<part>" if it is F32 with this shape; otherwise NULL and a finding. */
static const float *expect(struct findings *f, const fdm_tensors *weights, const char *module, const char *part,
                           int ndim, const int64_t *shape) {
    char name[FDM_NAME_MAX + 32], has[FDM_SHAPE_TEXT], wants[FDM_SHAPE_TEXT], text[640];
    snprintf(name, sizeof name, "%s.%s", module, part);
    const fdm_tensor *t = fdm_tensors_find(weights, name);
    if (!t) {
        snprintf(text, sizeof text, "%s is missing", name);
        find(f, text);
        return NULL;
    }
    if (t->dtype == FDM_F32 && t->ndim == ndim && memcmp(t->shape, shape, (size_t)ndim * sizeof *shape) == 0)
        return t->data;
    fdm_shape_text(has, sizeof has, t->ndim, t->shape);
    fdm_shape_text(wants, sizeof wants, ndim, shape);
    snprintf(text, sizeof text, "%s is %s%s instead of F32%s", name, fdm_dtype_name(t->dtype), has, wants);
    find(f, text);
    return NULL;
}

/* Tensors of one module; NULL where it has none. */
struct module_tensors {
    const float *weight, *bias, *filter, *freqs;
};

static struct module_tensors expect_module(struct findings *f, const fdm_tensors *weights, const struct fdm_module *m,
                                           const fdm_config *config) {
    struct module_tensors t = {0};
    const int64_t matrix[] = {m->out, m->in, m->k, m->k};
    const int64_t filter[] = {1, 1, config->filter_len, config->filter_len};
    const int64_t half = m->out / 2;
    switch (m->kind) {
    case FDM_MODULE_LINEAR: t.weight = expect(f, weights, m->name, "weight", 2, matrix); break;
    case FDM_MODULE_CONV2D:
        if (m->k) t.weight = expect(f, weights, m->name, "weight", 4, matrix);
        break;
    case FDM_MODULE_GROUPNORM: t.weight = expect(f, weights, m->name, "weight", 1, matrix); break;
    case FDM_MODULE_NOISE:
        if (config->embedding_type == FDM_EMBEDDING_FOURIER) t.freqs = expect(f, weights, m->name, "freqs", 1, &half);
        break;
    }
    if (m->bias) t.bias = expect(f, weights, m->name, "bias", 1, matrix);
    if (m->resampling) t.filter = expect(f, weights, m->name, "resample_filter", 4, filter);
    return t;
}

enum { CHUNK = 65536 };

static int64_t count_nonfinite(const uint32_t *bits, int64_t count) {
    int64_t found = 0;
    for (int64_t j = 0; j < count; j++) found += (bits[j] & 0x7f800000u) == 0x7f800000u;
    return found;
}

static fdm_status check_finite(const fdm_tensors *weights, int threads, const char *where, fdm_error *err) {
    for (size_t i = 0; i < weights->count; i++) {
        const fdm_tensor *t = &weights->items[i];
        if (t->dtype != FDM_F32 || strncmp(t->name, "model.", 6) != 0) continue;
        const int64_t count = fdm_tensor_numel(t);
        const uint32_t *bits = t->data;
        int64_t bad = 0; /* an atomic count, not a reduction: clang's reductions add a global of another name */
#pragma omp parallel for num_threads(threads) schedule(static) if (count > CHUNK)
        for (int64_t first = 0; first < count; first += CHUNK) {
            const int64_t found = count_nonfinite(bits + first, count - first < CHUNK ? count - first : CHUNK);
            if (found) {
#pragma omp atomic
                bad += found;
            }
        }
        if (bad)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s holds %" PRId64 " values that are NaN or infinite; a model "
                            "must be finite", where, t->name, bad);
    }
    return FDM_OK;
}

/* A fused resampling step adds the bias after the filter; the convolution before it then has none. */
static bool bias_after_resampling(const struct fdm_graph *g, int module) {
    for (int i = 0; i < g->step_count; i++)
        if (g->steps[i].op == FDM_OP_RESAMPLE && g->steps[i].module == module && g->steps[i].name[0])
            return g->modules[module].bias;
    return false;
}

static size_t packed_bytes(const struct fdm_backend *b, const struct fdm_module *m) {
    switch (m->kind) {
    case FDM_MODULE_LINEAR: return b->linear_packed_bytes(m->out, m->in);
    case FDM_MODULE_CONV2D: return m->k ? b->conv2d_packed_bytes(m->out, m->in, m->k) : 0;
    case FDM_MODULE_GROUPNORM: return b->groupnorm_packed_bytes(m->out);
    case FDM_MODULE_NOISE: return b->freqs_packed_bytes(m->out / 2);
    }
    return 0;
}

/* Into *out, allocated the first time. */
static fdm_status copy_floats(float **out, const float *in, size_t count, const char *what, fdm_error *err) {
    if (!*out) *out = malloc(count * sizeof **out);
    if (!*out) return fdm_fail_oom(err, what, count * sizeof **out);
    memcpy(*out, in, count * sizeof **out);
    return FDM_OK;
}

/* What steps read beside the packed parameters. */
static fdm_status copy_buffers(struct fdm_graph *g, int index, const struct module_tensors *t, fdm_error *err) {
    struct fdm_module *m = &g->modules[index];
    const size_t taps = (size_t)g->filter_len * (size_t)g->filter_len;
    fdm_status status = FDM_OK;
    if (t->filter) status = copy_floats(&m->filter, t->filter, taps, "filter", err);
    if (status == FDM_OK && t->freqs) status = copy_floats(&m->freqs, t->freqs, (size_t)m->out / 2, "frequencies", err);
    if (status == FDM_OK && t->bias && m->kind == FDM_MODULE_CONV2D && bias_after_resampling(g, index))
        status = copy_floats(&m->raw_bias, t->bias, (size_t)m->out, "bias", err);
    return status;
}

static void pack_module(char *packed, const struct fdm_module *m, const float *weight, const float *bias,
                        const struct fdm_backend *b, const struct fdm_exec *exec) {
    switch (m->kind) {
    case FDM_MODULE_LINEAR: b->linear_pack(exec, packed, weight, bias, m->out, m->in); break;
    case FDM_MODULE_CONV2D:
        if (m->k) b->conv2d_pack(exec, packed, weight, m->raw_bias ? NULL : bias, m->out, m->in, m->k);
        break;
    case FDM_MODULE_GROUPNORM: b->groupnorm_pack(exec, packed, weight, bias, m->out); break;
    case FDM_MODULE_NOISE: b->freqs_pack(packed, m->freqs, m->out / 2); break;
    }
}

size_t fdm_weights_conv2d_bytes(const struct fdm_graph *g, const struct fdm_backend *backend) {
    size_t largest = 0;
    for (int i = 0; i < g->module_count; i++) {
        const size_t bytes = g->modules[i].kind == FDM_MODULE_CONV2D ? packed_bytes(backend, &g->modules[i]) : 0;
        if (bytes > largest) largest = bytes;
    }
    return largest;
}

void fdm_weights_pack_conv2d(void *packed, const struct fdm_graph *g, int index, const struct fdm_parameters *list,
                             const float *parameters, const struct fdm_backend *backend, const struct fdm_exec *exec) {
    const float *weight = list->weight[index] < 0 ? NULL : parameters + list->items[list->weight[index]].offset;
    const float *bias = list->bias[index] < 0 ? NULL : parameters + list->items[list->bias[index]].offset;
    pack_module(packed, &g->modules[index], weight, bias, backend, exec);
}

void fdm_weights_repack(char *slab, struct fdm_graph *g, const struct fdm_parameters *list, const float *parameters,
                        const struct fdm_backend *backend, const struct fdm_exec *exec) {
    for (int i = 0; i < g->module_count; i++) {
        const struct fdm_module *m = &g->modules[i];
        const float *weight = list->weight[i] < 0 ? NULL : parameters + list->items[list->weight[i]].offset;
        const float *bias = list->bias[i] < 0 ? NULL : parameters + list->items[list->bias[i]].offset;
        if (m->kind == FDM_MODULE_NOISE) continue;
        if (m->raw_bias && bias) memcpy(m->raw_bias, bias, (size_t)m->out * sizeof *bias);
        if (m->kind == FDM_MODULE_CONV2D) continue;
        pack_module(slab + m->packed, m, weight, bias, backend, exec);
    }
}

/* One line of all that is wrong. */
static fdm_status report(const struct findings *f, const fdm_tensors *weights, const char *where, fdm_error *err) {
    char more[48] = "";
    if (!f->count) return FDM_OK;
    if (fdm_tensors_find(weights, "trainer.counters"))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: is a training state, not a model; take a network-snapshot-*.safetensors of "
                        "the same run", where);
    if (f->hidden) snprintf(more, sizeof more, " ... and %d more", f->hidden);
    return fdm_fail(err, FDM_BAD_INPUT, "%s: the tensors do not fit the config: %s%s", where, f->text, more);
}

fdm_status fdm_weights_check(const fdm_tensors *weights, const fdm_config *config, const char *where, fdm_error *err) {
    struct findings findings = {.text = ""};
    struct fdm_graph g;
    if (!fdm_unet_build(&g, config)) return fdm_fail_oom(err, "network graph", 0);
    for (int i = 0; i < g.module_count; i++) (void)expect_module(&findings, weights, &g.modules[i], config);
    fdm_graph_free(&g);
    return report(&findings, weights, where, err);
}

fdm_status fdm_weights_pack(char **slab, struct fdm_graph *g, const fdm_tensors *weights, const fdm_config *config,
                            const struct fdm_backend *backend, const struct fdm_exec *exec, bool trains,
                            const char *where, fdm_error *err) {
    struct findings findings = {.text = ""};
    size_t bytes = 0;
    fdm_status status = FDM_OK;
    *slab = NULL;
    struct module_tensors *tensors = calloc((size_t)g->module_count, sizeof *tensors);
    if (!tensors) return fdm_fail_oom(err, "module table", (size_t)g->module_count * sizeof *tensors);
    for (int i = 0; i < g->module_count; i++) {
        tensors[i] = expect_module(&findings, weights, &g->modules[i], config);
        g->modules[i].packed = bytes;
        if (trains && g->modules[i].kind == FDM_MODULE_CONV2D) continue;
        bytes = fdm_add_saturated(bytes, fdm_round_up(packed_bytes(backend, &g->modules[i]), 64));
    }
    status = report(&findings, weights, where, err);
    if (status == FDM_OK) status = check_finite(weights, exec->threads, where, err);
    if (status == FDM_OK) {
        *slab = fdm_malloc_aligned(bytes);
        if (!*slab) status = fdm_fail_oom(err, "packed weights", bytes);
    }
    for (int i = 0; i < g->module_count && status == FDM_OK; i++) {
        status = copy_buffers(g, i, &tensors[i], err);
        if (status == FDM_OK && !(trains && g->modules[i].kind == FDM_MODULE_CONV2D))
            pack_module(*slab + g->modules[i].packed, &g->modules[i], tensors[i].weight, tensors[i].bias, backend, exec);
    }
    free(tensors);
    if (status != FDM_OK) {
        fdm_free_aligned(*slab);
        *slab = NULL;
    }
    return status;
}
