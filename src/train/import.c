/* import.c - published files into safetensors files. */
#include "fdm/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/tensor_set.h"
#include "fdm/safetensors.h"
#include "fdm/tensorfile.h"
#include "io/torch_write.h"
#include "train/published.h"

enum { MAX_META = 8, PIECE = 1 << 17 /* elements */ };

/* What will be written. */
struct import {
    struct fdm_published source;
    struct fdm_torch_list list;
    bool network; /* its tensors become F32 */
    struct {
        const char *key;
        char *text; /* owned */
    } meta[MAX_META];
    int meta_count;
    float *steps; /* owned; adam_step */
    size_t step_count;
    void *piece;  /* owned; room for PIECE elements of any type */
    fdm_error *err;
};

/* ---- Metadata ----------------------------------------------------------------------------------------------- */

static void add_meta(struct import *m, const char *key, char *text) {
    if (!text) return;
    m->meta[m->meta_count].key = key;
    m->meta[m->meta_count++].text = text;
}

static fdm_status add_json(struct import *m, const char *key, const struct fdm_pickle_value *v) {
    bool failed;
    add_meta(m, key, fdm_published_json(&m->source, v, &failed));
    return failed ? fdm_fail_oom(m->err, key, 0) : FDM_OK;
}

static fdm_status add_config(struct import *m, const fdm_config *config) {
    char *json = fdm_config_json(config);
    if (!json) return fdm_fail_oom(m->err, "configuration", 0);
    add_meta(m, "config", json);
    return FDM_OK;
}

/* What a snapshot says beside its network. */
static fdm_status add_companions(struct import *m) {
    const struct fdm_pickle_value *top = &m->source.file.pickle.top, *loss = fdm_pickle_get(top, "loss_fn");
    const struct fdm_pickle_value *class = fdm_torch_class(loss);
    fdm_status status = add_json(m, "loss_fn_class", class);
    if (!status) status = add_json(m, "loss_fn", loss);
    if (!status) status = add_json(m, "augment_pipe", fdm_pickle_get(top, "augment_pipe"));
    return status ? status : add_json(m, "dataset_kwargs", fdm_pickle_get(top, "dataset_kwargs"));
}

/* ---- What a file becomes ------------------------------------------------------------------------------------ */

static fdm_status gather_network(struct import *m) {
    m->network = true;
    fdm_status status = fdm_published_network(&m->list, &m->source, "", m->err);
    if (!status) status = add_config(m, &m->source.config);
    return status ? status : add_companions(m);
}

static fdm_status gather_state(struct import *m) {
    const struct fdm_pickle_value *optimizer = fdm_pickle_get(&m->source.file.pickle.top, "optimizer_state");
    m->network = true;
    fdm_status status = fdm_published_network(&m->list, &m->source, "net.", m->err);
    if (!status) status = fdm_published_moments(&m->list, &m->steps, &m->step_count, &m->source, m->err);
    if (status) return status;
    const struct fdm_torch_tensor steps = {.dtype = FDM_F32, .data = (const unsigned char *)m->steps, .ndim = 1, .shape = {(int64_t)m->step_count},
                                           .stride = {1}, .numel = (int64_t)m->step_count, .nbytes = m->step_count * sizeof(float)};
    status = fdm_torch_add(&m->list, &m->source.file, "adam_step", &steps, false, m->err);
    if (!status) status = add_config(m, &m->source.config);
    return status ? status : add_json(m, "param_groups", fdm_pickle_get(optimizer, "param_groups"));
}

static fdm_status gather_other(struct import *m, const char *config_json) {
    fdm_config config;
    const char *label = m->source.file.label;
    fdm_status status = fdm_torch_collect(&m->list, &m->source.file, &m->source.file.pickle.top, "", m->err);
    if (!status && !m->list.count)
        status = fdm_fail(m->err, FDM_BAD_INPUT, "%s: holds no network and no tensors", label);
    if (status || !config_json) return status;
    m->network = true;
    status = fdm_config_parse(&config, config_json, strlen(config_json), NULL, "--config", m->err);
    if (!status) status = fdm_published_check(&m->list, &config, 0, label, m->err);
    return status ? status : add_config(m, &config);
}

static fdm_status gather(struct import *m, const fdm_import_options *o) {
    if (o->config && m->source.kind != FDM_PUBLISHED_OTHER)
        return fdm_fail(m->err, FDM_BAD_USAGE, "%s: has a configuration of its own; leave --config away", m->source.file.label);
    switch (m->source.kind) {
    case FDM_PUBLISHED_STATE: return o->network ? gather_network(m) : gather_state(m);
    case FDM_PUBLISHED_SNAPSHOT:
    case FDM_PUBLISHED_NETWORK: return gather_network(m);
    case FDM_PUBLISHED_OTHER: break;
    }
    return gather_other(m, o->config);
}

static fdm_status check_names(const struct import *m) {
    const char **names = malloc((m->list.count + 1) * sizeof *names);
    if (!names) return fdm_fail_oom(m->err, "tensor names", m->list.count * sizeof *names);
    bool reserved = false;
    for (size_t i = 0; i < m->list.count; i++) {
        names[i] = m->list.items[i].name;
        reserved = reserved || strcmp(names[i], "__metadata__") == 0;
    }
    const char *twice = fdm_find_duplicate(names, m->list.count);
    free(names);
    if (reserved) return fdm_fail(m->err, FDM_BAD_INPUT, "%s: a tensor is named __metadata__, which safetensors reserves", m->source.file.label);
    return twice ? fdm_fail(m->err, FDM_BAD_INPUT, "%s: two tensors are named \"%.200s\"", m->source.file.label, twice) : FDM_OK;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static fdm_dtype written_as(const struct import *m, const struct fdm_torch_tensor *t) {
    return m->network ? fdm_torch_plain_dtype(t->dtype) : t->dtype;
}

/* What does not lie as it must is copied piece by piece. */
static fdm_status put(fdm_safetensors_writer *w, const struct import *m, const struct fdm_torch_named *n) {
    const fdm_dtype to = written_as(m, &n->tensor);
    const size_t bytes = (size_t)n->tensor.numel * fdm_dtype_size(to);
    if (bytes == 0) return FDM_OK;
    if (fdm_torch_lies_plain(&n->tensor, to)) return fdm_safetensors_writer_put(w, n->name, 0, n->tensor.data, bytes, m->err);
    const size_t size = fdm_dtype_size(to);
    fdm_status status = FDM_OK;
    for (int64_t first = 0, count; first < n->tensor.numel && !status; first += count) {
        count = n->tensor.numel - first < PIECE ? n->tensor.numel - first : PIECE;
        fdm_torch_copy(m->piece, &n->tensor, to, first, count);
        status = fdm_safetensors_writer_put(w, n->name, (size_t)first * size, m->piece, (size_t)count * size, m->err);
    }
    return status;
}

static fdm_status write_all(fdm_safetensors_writer *w, const struct import *m) {
    fdm_status status = FDM_OK;
    for (int i = 0; i < m->meta_count && !status; i++) status = fdm_safetensors_writer_meta(w, m->meta[i].key, m->meta[i].text, m->err);
    for (size_t i = 0; i < m->list.count && !status; i++) {
        const struct fdm_torch_named *n = &m->list.items[i];
        status = fdm_safetensors_writer_declare(w, n->name, written_as(m, &n->tensor), n->tensor.ndim, n->tensor.shape, m->err);
    }
    if (!status) status = fdm_safetensors_writer_begin(w, m->err);
    for (size_t i = 0; i < m->list.count && !status; i++) status = put(w, m, &m->list.items[i]);
    return status;
}

static void fill_report(fdm_import_report *r, const struct import *m) {
    static const char *const kinds[] = {"network snapshot", "training state", "network", "tensors"};
    char layout[64];
    bool seen[FDM_DTYPE_COUNT] = {false};
    *r = (fdm_import_report){.tensors = m->list.count};
    fdm_torch_describe(layout, &m->source.file);
    snprintf(r->source, sizeof r->source, "%s (%s)%s%s", kinds[m->source.kind], layout, m->source.network ? ": " : "",
             m->source.network ? fdm_precond_class_name(m->source.config.precond.kind) : "");
    for (size_t i = 0; i < m->list.count; i++) {
        const struct fdm_torch_tensor *t = &m->list.items[i].tensor;
        const fdm_dtype to = written_as(m, t);
        r->bytes += (size_t)t->numel * fdm_dtype_size(to);
        if (to == t->dtype) continue;
        r->converted++;
        const size_t used = strlen(r->types);
        if (!seen[t->dtype]) snprintf(r->types + used, sizeof r->types - used, "%s%s", used ? " " : "", fdm_dtype_name(t->dtype));
        seen[t->dtype] = true;
    }
}

static fdm_status write_target(const char *target, const struct import *m) {
    fdm_safetensors_writer *w;
    fdm_status status = fdm_safetensors_writer_new(&w, target, m->err);
    if (!status) status = write_all(w, m);
    if (!status) return fdm_safetensors_writer_commit(&w, m->err);
    fdm_safetensors_writer_discard(&w);
    return status;
}

fdm_status fdm_import(const char *target, const char *source, const fdm_import_options *options, fdm_import_report *report,
                      fdm_error *err) {
    static const fdm_import_options none = {0};
    struct import m = {.err = err};
    fdm_status status = fdm_published_open(&m.source, source, err);
    if (status) return status;
    if (!(m.piece = malloc(PIECE * sizeof(double)))) status = fdm_fail_oom(err, "piece of a tensor", PIECE * sizeof(double));
    if (!status) status = gather(&m, options ? options : &none);
    if (!status) status = check_names(&m);
    if (!status && report) fill_report(report, &m);
    if (!status) status = write_target(target, &m);
    for (int i = 0; i < m.meta_count; i++) free(m.meta[i].text);
    free(m.steps);
    free(m.piece);
    fdm_torch_list_free(&m.list);
    fdm_published_close(&m.source);
    return status;
}

fdm_status fdm_export(const char *target, const char *source, fdm_error *err) {
    fdm_tensors set = {0};
    fdm_status status = fdm_tensorfile_read(&set, source, err);
    if (!status) status = fdm_torch_write(&set, target, err);
    fdm_tensors_free(&set);
    return status;
}
