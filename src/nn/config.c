/* config.c - constructor arguments of a network: published defaults, JSON, and what can exist. */
#include "fdm/config.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "nn/graph.h"

/* Limits: large enough for any published model, small enough that size arithmetic in 64 bits cannot overflow. */
enum { MAX_RESOLUTION = 4096, MAX_IMAGE_CHANNELS = 64, MAX_CHANNELS = 65536, MAX_BLOCKS = 64, MAX_LABELS = 1 << 20 };

static const char *const embedding_names[] = {"positional", "fourier"};
static const char *const skip_names[] = {"standard", "skip", "residual"};

fdm_status fdm_config_init(fdm_config *config, fdm_precond_kind kind, fdm_error *err) {
    *config = (fdm_config){
        .model_channels = 128,
        .levels = 4,
        .channel_mult = {1, 2, 2, 2},
        .channel_mult_emb = 4,
        .channel_mult_noise = 1,
        .num_blocks = 4,
        .attn_count = 1,
        .attn_resolutions = {16},
        .dropout = 0.10,
        .filter_len = 2,
        .resample_filter = {1, 1},
    };
    return fdm_precond_init(&config->precond, kind, 1.0, err);
}

/* --- JSON --- */

struct reader {
    json_t *root;
    const char *where;
    fdm_error *err;
    fdm_status status;
};

static void complain(struct reader *r, const char *key, const char *wanted) {
    if (r->status != FDM_OK) return;
    char *value = json_dumps(json_object_get(r->root, key), JSON_ENCODE_ANY | JSON_COMPACT);
    r->status = fdm_fail(r->err, FDM_BAD_INPUT, "%s: config key \"%s\" is %.80s; it must be %s", r->where, key,
                         value ? value : "unprintable", wanted);
    free(value);
}

/* Present and not null: Python's None stands for the default. */
static json_t *lookup(const struct reader *r, const char *key) {
    json_t *v = json_object_get(r->root, key);
    return json_is_null(v) ? NULL : v;
}

/* A JSON number that is an integer in [lo, hi]; Python may have written 2 as 2.0. */
static bool as_int(const json_t *v, int lo, int hi, int *out) {
    double d;
    if (json_is_integer(v)) d = (double)json_integer_value(v);
    else if (json_is_real(v)) d = json_real_value(v);
    else return false;
    if (!(d >= lo && d <= hi) || d != floor(d)) return false;
    *out = (int)d;
    return true;
}

static void read_int(struct reader *r, const char *key, int lo, int hi, int *out) {
    json_t *v = lookup(r, key);
    char wanted[64];
    if (!v || as_int(v, lo, hi, out)) return;
    snprintf(wanted, sizeof wanted, "an integer from %d to %d", lo, hi);
    complain(r, key, wanted);
}

static void read_real(struct reader *r, const char *key, double *out) {
    json_t *v = lookup(r, key);
    if (!v) return;
    if (!json_is_number(v) || !isfinite(json_number_value(v))) complain(r, key, "a finite number");
    else *out = json_number_value(v);
}

static void read_int_list(struct reader *r, const char *key, int min_count, int max_count, int lo, int hi, int *count,
                          int *out) {
    json_t *v = lookup(r, key);
    char wanted[96];
    if (!v) return;
    snprintf(wanted, sizeof wanted, "a list of %d to %d integers from %d to %d", min_count, max_count, lo, hi);
    const size_t n = json_array_size(v);
    if (!json_is_array(v) || n < (size_t)min_count || n > (size_t)max_count) {
        complain(r, key, wanted);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (!as_int(json_array_get(v, i), lo, hi, &out[i])) complain(r, key, wanted);
    *count = (int)n;
}

static void read_filter(struct reader *r, fdm_config *c) {
    const char *key = "resample_filter", *wanted = "a list of 1 to 16 finite numbers whose sum is not 0";
    json_t *v = lookup(r, key);
    double sum = 0;
    if (!v) return;
    const size_t n = json_array_size(v);
    if (!json_is_array(v) || n < 1 || n > FDM_MAX_TAPS) {
        complain(r, key, wanted);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *tap = json_array_get(v, i);
        if (!json_is_number(tap)) complain(r, key, wanted);
        c->resample_filter[i] = json_number_value(tap);
        sum += c->resample_filter[i];
    }
    if (!isfinite(sum) || sum == 0) complain(r, key, wanted);
    c->filter_len = (int)n;
}

static void read_choice(struct reader *r, const char *key, const char *const *names, int count, int *out) {
    json_t *v = lookup(r, key);
    char wanted[96] = "one of";
    if (!v) return;
    for (int i = 0; i < count; i++) {
        if (json_is_string(v) && strcmp(json_string_value(v), names[i]) == 0) {
            *out = i;
            return;
        }
        snprintf(wanted + strlen(wanted), sizeof wanted - strlen(wanted), " \"%s\"", names[i]);
    }
    complain(r, key, wanted);
}

static void read_network(struct reader *r, fdm_config *c) {
    int choice;
    read_int(r, "img_resolution", 1, MAX_RESOLUTION, &c->img_resolution);
    read_int(r, "img_channels", 1, MAX_IMAGE_CHANNELS, &c->img_channels);
    read_int(r, "label_dim", 0, MAX_LABELS, &c->label_dim);
    read_int(r, "augment_dim", 0, MAX_LABELS, &c->augment_dim);
    read_int(r, "model_channels", 1, MAX_CHANNELS, &c->model_channels);
    read_int_list(r, "channel_mult", 1, FDM_MAX_LEVELS, 1, MAX_CHANNELS, &c->levels, c->channel_mult);
    read_int(r, "channel_mult_emb", 1, MAX_CHANNELS, &c->channel_mult_emb);
    read_int(r, "channel_mult_noise", 1, MAX_CHANNELS, &c->channel_mult_noise);
    read_int(r, "num_blocks", 1, MAX_BLOCKS, &c->num_blocks);
    read_int_list(r, "attn_resolutions", 0, FDM_MAX_ATTN, 0, MAX_RESOLUTION, &c->attn_count, c->attn_resolutions);
    read_real(r, "dropout", &c->dropout);
    read_real(r, "label_dropout", &c->label_dropout);
    read_filter(r, c);
    choice = (int)c->embedding_type;
    read_choice(r, "embedding_type", embedding_names, 2, &choice);
    c->embedding_type = (fdm_embedding_type)choice;
    choice = (int)c->encoder_type;
    read_choice(r, "encoder_type", skip_names, 3, &choice);
    c->encoder_type = (fdm_skip_type)choice;
    choice = (int)c->decoder_type;
    read_choice(r, "decoder_type", skip_names, 2, &choice);
    c->decoder_type = (fdm_skip_type)choice;
    const char *const model_types[] = {"SongUNet"};
    read_choice(r, "model_type", model_types, 1, &choice);
}

/* The constructor arguments of the preconditioning itself; each class knows some of them. */
static void read_precond(struct reader *r, fdm_precond *p) {
    const bool vp = p->kind == FDM_PRECOND_VP || p->kind == FDM_PRECOND_FDM_VP;
    const bool edm = p->kind == FDM_PRECOND_EDM || p->kind == FDM_PRECOND_FDM_EDM;
    read_real(r, "fdm_multiplier", &p->fdm_multiplier);
    if (p->kind == FDM_PRECOND_FDM_VE) read_real(r, "ve_multiplier", &p->ve_multiplier);
    if (fdm_precond_is_fdm(p->kind)) read_real(r, "zeta", &p->zeta);
    if (vp) {
        read_real(r, "beta_d", &p->beta_d);
        read_real(r, "beta_min", &p->beta_min);
        read_real(r, "M", &p->M);
        read_real(r, "epsilon_t", &p->epsilon_t);
        if (r->status == FDM_OK) fdm_precond_update_vp_range(p);
    } else {
        read_real(r, "sigma_min", &p->sigma_min);
        read_real(r, "sigma_max", &p->sigma_max);
    }
    if (edm) read_real(r, "sigma_data", &p->sigma_data);
}

/* jansson drops a character of a string where an allocation fails, and goes on.  Reading twice shows that: a key
 * must not be ignored, and a multiplier not forgotten, because memory was short for a moment. */
static json_t *load_json(const char *json, size_t bytes, const char *where, fdm_error *err) {
    json_error_t syntax;
    json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, NULL);
    json_t *again = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &syntax);
    const bool same = root && again && json_equal(root, again);
    const bool invalid = !root && !again && syntax.line >= 0;
    json_decref(again);
    if (same) return root;
    json_decref(root);
    if (invalid)
        fdm_fail(err, FDM_BAD_INPUT, "%s: config is not valid JSON (line %d, column %d: %.120s)", where, syntax.line,
                 syntax.column, syntax.text);
    else
        fdm_fail_oom(err, "config", bytes);
    return NULL;
}

fdm_status fdm_config_parse(fdm_config *config, const char *json, size_t bytes, const char *class_name,
                            const char *where, fdm_error *err) {
    fdm_precond_kind kind;
    fdm_error inner = {0}, local = {0};
    if (!err) err = &local;
    struct reader r = {.where = where, .err = err};
    r.root = load_json(json, bytes, where, err);
    if (!r.root) return err->status;
    if (!json_is_object(r.root)) {
        r.status = fdm_fail(err, FDM_BAD_INPUT, "%s: config must be a JSON object", where);
        goto done;
    }
    const json_t *named = lookup(&r, "class_name");
    if (named && !json_is_string(named)) complain(&r, "class_name", "a string");
    if (json_is_string(named)) class_name = json_string_value(named);
    if (r.status == FDM_OK && !class_name)
        r.status = fdm_fail(err, FDM_BAD_INPUT, "%s: config names no class_name (such as \"EDMPrecond\")", where);
    if (r.status == FDM_OK && fdm_precond_find(&kind, class_name, &inner) != FDM_OK)
        r.status = fdm_fail(err, FDM_BAD_INPUT, "%s: config: %s", where, inner.message);
    if (r.status == FDM_OK) r.status = fdm_config_init(config, kind, err);
    if (r.status == FDM_OK) {
        read_network(&r, config);
        read_precond(&r, &config->precond);
    }
    if (r.status == FDM_OK) r.status = fdm_config_check(config, where, err);
done:
    json_decref(r.root);
    return r.status;
}

fdm_status fdm_config_from_tensors(fdm_config *config, const fdm_tensors *set, const char *where, fdm_error *err) {
    const char *json = fdm_tensors_meta(set, "config");
    if (!json) json = fdm_tensors_meta(set, "init_kwargs");
    if (!json) return fdm_fail(err, FDM_BAD_INPUT, "%s: not a model file: its metadata has no \"config\"", where);
    return fdm_config_parse(config, json, strlen(json), fdm_tensors_meta(set, "class_name"), where, err);
}

/* --- what can exist, and how large it is --- */

fdm_status fdm_config_measure(fdm_config_size *size, const fdm_config *config, fdm_error *err) {
    struct fdm_graph g;
    *size = (fdm_config_size){0};
    if (!fdm_unet_build(&g, config)) return fdm_fail_oom(err, "network graph", 0);
    for (int i = 0; i < g.module_count; i++) {
        const struct fdm_module *m = &g.modules[i];
        int64_t weights = 0; /* per output */
        if (m->kind == FDM_MODULE_LINEAR) weights = m->in;
        if (m->kind == FDM_MODULE_CONV2D) weights = (int64_t)m->in * m->k * m->k;
        if (m->kind == FDM_MODULE_GROUPNORM) weights = 1;
        size->parameters += m->out * (weights + m->bias);
        size->modules++;
    }
    double flops = 0;
    for (int i = 0; i < g.step_count; i++) {
        const struct fdm_step *s = &g.steps[i];
        if (s->op == FDM_OP_CONV2D || s->op == FDM_OP_LINEAR || s->op == FDM_OP_ATTENTION) flops += fdm_step_flops(&g, s);
    }
    size->flops = flops < 0x1p63 ? (int64_t)flops : INT64_MAX;
    fdm_graph_free(&g);
    return FDM_OK;
}

static bool same_size(const struct fdm_graph *g, int a, int b) {
    return b < 0 || (g->values[a].h == g->values[b].h && g->values[a].w == g->values[b].w);
}

/* Every GroupNorm of the network, over concatenations too, must divide into its groups, and resampling must lead
 * back to the sizes of the skips (an odd filter does not: up gives 2H - 1). */
static fdm_status check_graph(const fdm_config *c, const char *where, fdm_error *err) {
    struct fdm_graph g;
    fdm_status status = FDM_OK;
    if (!fdm_unet_build(&g, c)) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (network graph)", where);
    for (int i = 0; i < g.module_count && status == FDM_OK; i++) {
        const struct fdm_module *m = &g.modules[i];
        const int groups = fdm_groupnorm_groups(m->out);
        if (m->kind == FDM_MODULE_GROUPNORM && (groups < 1 || m->out % groups))
            status = fdm_fail(err, FDM_BAD_INPUT, "%s: config: %s has %d channels, which do not divide into %d groups; "
                              "choose other model_channels or channel_mult (multiples of 32 always work)", where,
                              m->name, m->out, groups);
    }
    for (int i = 0; i < g.step_count && status == FDM_OK; i++) {
        const struct fdm_step *s = &g.steps[i];
        if ((s->op == FDM_OP_CONCAT && !same_size(&g, s->in, s->in2)) || !same_size(&g, s->out, s->residual))
            status = fdm_fail(err, FDM_BAD_INPUT, "%s: config: a resample_filter of %d taps does not lead back to the "
                              "same resolution; its length must be even", where, c->filter_len);
    }
    fdm_graph_free(&g);
    return status;
}

static fdm_status check_widths(const fdm_config *c, const char *where, fdm_error *err) {
    int widest = c->channel_mult_noise > c->channel_mult_emb ? c->channel_mult_noise : c->channel_mult_emb;
    for (int i = 0; i < c->levels; i++) widest = fdm_max_int(widest, 2 * c->channel_mult[i]); /* concatenated; check_ranges: no overflow */
    if ((int64_t)c->model_channels * widest > MAX_CHANNELS)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: config: model_channels %d times a multiplier gives more than %d channels",
                        where, c->model_channels, MAX_CHANNELS);
    const int noise_channels = c->model_channels * c->channel_mult_noise;
    if (noise_channels % 2 || noise_channels < 4)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: config: model_channels x channel_mult_noise is %d; the noise embedding "
                        "needs an even number of at least 4", where, noise_channels);
    return FDM_OK;
}

/* The same limits as for JSON, for configs that a caller has filled in: everything below computes with them. */
static fdm_status check_ranges(const fdm_config *c, const char *where, fdm_error *err) {
    const struct {
        const char *name;
        int value, lo, hi;
    } rows[] = {
        {"img_resolution", c->img_resolution, 1, MAX_RESOLUTION},
        {"img_channels", c->img_channels, 1, MAX_IMAGE_CHANNELS},
        {"label_dim", c->label_dim, 0, MAX_LABELS},
        {"augment_dim", c->augment_dim, 0, MAX_LABELS},
        {"model_channels", c->model_channels, 1, MAX_CHANNELS},
        {"number of levels in channel_mult", c->levels, 1, FDM_MAX_LEVELS},
        {"channel_mult_emb", c->channel_mult_emb, 1, MAX_CHANNELS},
        {"channel_mult_noise", c->channel_mult_noise, 1, MAX_CHANNELS},
        {"num_blocks", c->num_blocks, 1, MAX_BLOCKS},
        {"number of attn_resolutions", c->attn_count, 0, FDM_MAX_ATTN},
        {"embedding_type", (int)c->embedding_type, FDM_EMBEDDING_POSITIONAL, FDM_EMBEDDING_FOURIER},
        {"encoder_type", (int)c->encoder_type, FDM_STANDARD, FDM_RESIDUAL},
        {"decoder_type", (int)c->decoder_type, FDM_STANDARD, FDM_SKIP},
        {"length of resample_filter", c->filter_len, 1, FDM_MAX_TAPS},
    };
    if (c->img_resolution < 1 || c->img_channels < 1)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: config lacks img_resolution or img_channels", where);
    for (size_t i = 0; i < FDM_ARRAY_LEN(rows); i++)
        if (rows[i].value < rows[i].lo || rows[i].value > rows[i].hi)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: config: %s is %d; %d to %d are possible", where, rows[i].name,
                            rows[i].value, rows[i].lo, rows[i].hi);
    for (int i = 0; i < c->levels; i++)
        if (c->channel_mult[i] < 1 || c->channel_mult[i] > MAX_CHANNELS)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: config: channel_mult[%d] is %d; 1 to %d are possible", where, i,
                            c->channel_mult[i], MAX_CHANNELS);
    return FDM_OK;
}

fdm_status fdm_config_check(const fdm_config *c, const char *where, fdm_error *err) {
    fdm_error inner = {0};
    if (check_ranges(c, where, err) != FDM_OK) return FDM_BAD_INPUT;
    const int coarsest = 1 << (c->levels - 1);
    if (c->img_resolution % coarsest)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: config: img_resolution %d is not divisible by %d (%d levels in "
                        "channel_mult)", where, c->img_resolution, coarsest, c->levels);
    if (!(c->dropout >= 0 && c->dropout < 1) || !(c->label_dropout >= 0 && c->label_dropout <= 1))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: config: dropout %g or label_dropout %g is not a probability", where,
                        c->dropout, c->label_dropout);
    if (fdm_precond_check(&c->precond, &inner) != FDM_OK)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: config: %s", where, inner.message);
    if (check_widths(c, where, err) != FDM_OK) return FDM_BAD_INPUT;
    return check_graph(c, where, err);
}

char *fdm_config_json(const fdm_config *c) {
    const fdm_precond *p = &c->precond;
    const bool vp = p->kind == FDM_PRECOND_VP || p->kind == FDM_PRECOND_FDM_VP;
    const bool edm = p->kind == FDM_PRECOND_EDM || p->kind == FDM_PRECOND_FDM_EDM;
    char *text = NULL;
    json_t *mult = json_array(), *attn = json_array(), *filter = json_array();
    for (int i = 0; i < c->levels; i++) json_array_append_new(mult, json_integer(c->channel_mult[i]));
    for (int i = 0; i < c->attn_count; i++) json_array_append_new(attn, json_integer(c->attn_resolutions[i]));
    for (int i = 0; i < c->filter_len; i++) json_array_append_new(filter, json_real(c->resample_filter[i]));
    json_t *root = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:o, s:i, s:i, s:i, s:o, s:f, s:f, s:s, s:s, s:s, s:o}",
                             "class_name", fdm_precond_class_name(p->kind), "model_type", "SongUNet",
                             "img_resolution", c->img_resolution, "img_channels", c->img_channels,
                             "label_dim", c->label_dim, "augment_dim", c->augment_dim,
                             "model_channels", c->model_channels, "channel_mult", mult,
                             "channel_mult_emb", c->channel_mult_emb, "channel_mult_noise", c->channel_mult_noise,
                             "num_blocks", c->num_blocks, "attn_resolutions", attn,
                             "dropout", c->dropout, "label_dropout", c->label_dropout,
                             "embedding_type", embedding_names[c->embedding_type],
                             "encoder_type", skip_names[c->encoder_type],
                             "decoder_type", skip_names[c->decoder_type], "resample_filter", filter);
    if (!root) return NULL;
    bool ok = true;
    if (fdm_precond_is_fdm(p->kind))
        ok = ok && !json_object_set_new(root, "fdm_multiplier", json_real(p->fdm_multiplier));
    if (p->ve_multiplier != 1) ok = ok && !json_object_set_new(root, "ve_multiplier", json_real(p->ve_multiplier));
    if (fdm_precond_is_fdm(p->kind) && p->zeta != 1) ok = ok && !json_object_set_new(root, "zeta", json_real(p->zeta));
    if (edm) ok = ok && !json_object_set_new(root, "sigma_data", json_real(p->sigma_data));
    if (vp) {
        ok = ok && !json_object_set_new(root, "beta_d", json_real(p->beta_d));
        ok = ok && !json_object_set_new(root, "beta_min", json_real(p->beta_min));
        ok = ok && !json_object_set_new(root, "M", json_real(p->M));
        ok = ok && !json_object_set_new(root, "epsilon_t", json_real(p->epsilon_t));
    } else if (isfinite(p->sigma_max)) {
        ok = ok && !json_object_set_new(root, "sigma_min", json_real(p->sigma_min));
        ok = ok && !json_object_set_new(root, "sigma_max", json_real(p->sigma_max));
    }
    if (ok) text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(root);
    return text;
}
