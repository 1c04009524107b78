/* verify_dump.c - what a dump holds: inputs, and results bound to the steps of the network. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "verify/verify_internal.h"

/* ---- inputs ---- */

static bool is_number(fdm_dtype d) { return d != FDM_BOOL && d < FDM_DTYPE_COUNT; }

/* The first dimension of a tensor that fits, 0 if it does not. */
static int64_t rows_of(const fdm_tensor *t, const struct fdm_expected *w, int64_t n) {
    int ndim = t->ndim;
    if (w->trailing)
        while (ndim > w->ndim && t->shape[ndim - 1] == 1) ndim--;
    if (w->trailing && ndim == 0 && w->ndim == 1) return 1;
    if (ndim != w->ndim) return 0;
    for (int i = 1; i < ndim; i++)
        if (t->shape[i] != w->shape[i]) return 0;
    return n == 0 || t->shape[0] == n || (w->repeat && t->shape[0] == 1) ? t->shape[0] : 0;
}

static fdm_status wrong_shape(const fdm_tensor *t, const struct fdm_expected *w, int64_t n, const char *where, fdm_error *err) {
    char has[FDM_SHAPE_TEXT], rest[FDM_SHAPE_TEXT] = "", first[32] = "N";
    size_t used = 0;
    fdm_shape_text(has, sizeof has, t->ndim, t->shape);
    if (n) snprintf(first, sizeof first, "%" PRId64, n);
    for (int i = 1; i < w->ndim && used < sizeof rest; i++)
        used += (size_t)snprintf(rest + used, sizeof rest - used, ",%" PRId64, w->shape[i]);
    const bool nhwc = t->ndim == 4 && w->ndim == 4 && t->shape[1] == w->shape[2] && t->shape[2] == w->shape[3] &&
                      t->shape[3] == w->shape[1] && w->shape[1] != w->shape[3];
    return fdm_fail(err, FDM_BAD_INPUT, "%.200s: tensor \"%s\" has shape %s; it must be [%s%s]%s", where, w->name, has, first, rest,
                    nhwc ? ": it is NHWC, permute(0,3,1,2) makes it NCHW" : "");
}

fdm_status fdm_dump_read(double **out, int64_t *n, const fdm_tensors *dump, const char *where, const struct fdm_expected *w,
                         fdm_error *err) {
    const fdm_tensor *t = fdm_tensors_find(dump, w->name);
    size_t bytes;
    *out = NULL;
    if (!t && !w->required) return FDM_OK;
    if (!t) return fdm_fail(err, FDM_BAD_INPUT, "%.200s: tensor \"%s\" is missing; the dump must hold its inputs", where, w->name);
    const int64_t rows = rows_of(t, w, *n);
    if (rows < 1) return wrong_shape(t, w, *n, where, err);
    if (!is_number(t->dtype))
        return fdm_fail(err, FDM_BAD_INPUT, "%.200s: tensor \"%s\" is %s; save it as F32", where, w->name, fdm_dtype_name(t->dtype));
    if (*n == 0) *n = rows;
    if (*n > 65536) return fdm_fail(err, FDM_BAD_INPUT, "%.200s: %" PRId64 " samples; at most 65536 can be verified at once", where, *n);
    const int64_t per_row = fdm_tensor_numel(t) / rows;
    if (!fdm_mul_size(&bytes, (size_t)per_row * sizeof **out, (size_t)*n) || !(*out = malloc(bytes ? bytes : 1)))
        return fdm_fail_oom(err, w->name, (size_t)per_row * sizeof **out);
    for (int64_t i = 0; i < *n * per_row; i++) {
        const double x = fdm_tensor_get(t, rows == *n ? i : i % per_row);
        (*out)[i] = x;
        if (isfinite((float)x) && !(w->positive && !((float)x > 0))) continue;
        return fdm_fail(err, FDM_BAD_INPUT, "%.200s: tensor \"%s\": element %" PRId64 " is %g; it must be %s", where, w->name, i, x,
                        w->positive ? "positive and finite" : "finite in f32");
    }
    return FDM_OK;
}

static fdm_status read_inputs(struct fdm_checks *c, const fdm_config *config, fdm_error *err) {
    const int64_t r = config->img_resolution;
    const struct fdm_expected x = {"x", {0, config->img_channels, r, r}, 4, .required = true};
    const struct fdm_expected sigma = {"sigma", {0}, 1, .required = true, .repeat = true, .trailing = true, .positive = true};
    const struct fdm_expected labels = {"class_labels", {0, config->label_dim}, 2, .repeat = true};
    const struct fdm_expected augment = {"augment_labels", {0, config->augment_dim}, 2, .repeat = true};
    int64_t n = 0;
    fdm_status status = fdm_dump_read(&c->x, &n, c->dump, c->where, &x, err);
    if (status == FDM_OK) status = fdm_dump_read(&c->sigma, &n, c->dump, c->where, &sigma, err);
    if (status == FDM_OK && config->label_dim) status = fdm_dump_read(&c->class_labels, &n, c->dump, c->where, &labels, err);
    if (status == FDM_OK && config->augment_dim)
        status = fdm_dump_read(&c->augment_labels, &n, c->dump, c->where, &augment, err);
    c->n = (int)n;
    return status;
}

/* ---- names ---- */

static const char *skip_prefix(const char *name, const char *prefix) {
    const size_t length = strlen(prefix);
    return strncmp(name, prefix, length) == 0 ? name + length : name;
}

/* "trace.module.enc.8x8_conv" -> "model.enc.8x8_conv": hooks may have been set on the network inside, on a wrapper
 * (DistributedDataParallel, torch.compile), or on the whole ("" is "self"). */
static void normalise(char out[FDM_NAME_MAX], const char *name) {
    const char *rest = name;
    for (const char *before = NULL; before != rest;) {
        before = rest;
        rest = skip_prefix(skip_prefix(rest, "module."), "_orig_mod.");
    }
    if (strcmp(rest, "") == 0 || strcmp(rest, "self") == 0) snprintf(out, FDM_NAME_MAX, "self");
    else if (strcmp(rest, "model") == 0 || strncmp(rest, "model.", 6) == 0) snprintf(out, FDM_NAME_MAX, "%.90s", rest);
    else snprintf(out, FDM_NAME_MAX, "model.%.84s", rest);
}

static bool is_trace(const char *name) { return strncmp(name, "trace.", 6) == 0 || strcmp(name, "trace") == 0; }

/* Inputs, and what other parts verify. */
static bool is_known(const char *name) {
    static const char *const known[] = {"x", "sigma", "class_labels", "augment_labels", "y", "noise_unit", "loss", "D_yn",
                                        "loss_per_sample", "weight", "x_call", "call_sigma", "D_call", "x_final", "x_cur",
                                        "t_steps", "latents", "noise"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(known); i++)
        if (strcmp(name, known[i]) == 0) return true;
    return strncmp(name, "grad.", 5) == 0 || strncmp(name, "model.", 6) == 0;
}

/* Where a module's output arises. */
static bool find_step(struct fdm_check *check, const struct fdm_graph *g) {
    for (int i = 0; i < g->step_count; i++) {
        const struct fdm_step *s = &g->steps[i];
        const bool own = s->name[0] && strcmp(s->name, check->module) == 0, block = s->block[0] && strcmp(s->block, check->module) == 0;
        if (!own && !block) continue;
        check->step = i;
        check->place = own && fdm_step_has_raw(s) ? FDM_CHECK_RAW : FDM_CHECK_FINAL;
        return true;
    }
    return false;
}

static int common_prefix(const char *a, const char *b) {
    int n = 0;
    while (a[n] && a[n] == b[n]) n++;
    return n;
}

static void explain_unknown(struct fdm_check *check, const struct fdm_graph *g) {
    const char *nearest = "";
    int longest = 0;
    for (int i = 0; i < g->step_count; i++) {
        const char *names[] = {g->steps[i].name, g->steps[i].block};
        for (size_t k = 0; k < 2; k++)
            if (common_prefix(names[k], check->module) > longest) {
                longest = common_prefix(names[k], check->module);
                nearest = names[k];
            }
    }
    check->place = FDM_CHECK_NOTHING;
    snprintf(check->problem, sizeof check->problem, "the model has no module of this name%s%s", longest > 6 ? "; near it is " : "",
             longest > 6 ? nearest : "");
}

/* ---- shapes ---- */

static void check_shape(struct fdm_check *check, const struct fdm_value *v, int n) {
    const fdm_tensor *t = check->tensor;
    char has[FDM_SHAPE_TEXT], wants[FDM_SHAPE_TEXT];
    const int64_t shape[] = {n, v->c, v->h, v->w};
    const int ndim = v->h ? 4 : v->c ? 2 : 1;
    bool same = t->ndim == ndim && (t->shape[0] == n || (!v->h && t->shape[0] == 1));
    for (int i = 1; i < ndim && same; i++) same = t->shape[i] == shape[i];
    if (same || (ndim == 1 && (fdm_tensor_numel(t) == n || fdm_tensor_numel(t) == 1))) return;
    check->nhwc = t->ndim == 4 && ndim == 4 && t->shape[0] == n && t->shape[1] == v->h && t->shape[2] == v->w && t->shape[3] == v->c;
    fdm_shape_text(has, sizeof has, t->ndim, t->shape);
    fdm_shape_text(wants, sizeof wants, ndim, shape);
    snprintf(check->problem, sizeof check->problem, "shape %.80s instead of %.80s%s", has, wants,
             check->nhwc ? ": NHWC handed as NCHW; permute(0,3,1,2) before saving" : "");
    if (!check->nhwc) check->place = FDM_CHECK_NOTHING;
}

static struct fdm_value value_of(const struct fdm_check *check, const struct fdm_graph *g) {
    if (check->place == FDM_CHECK_C_NOISE) return (struct fdm_value){0, 0, 0};
    if (check->place == FDM_CHECK_C_IN_X || check->place == FDM_CHECK_OUT) return g->values[g->x];
    return g->values[g->steps[check->step].out];
}

static void check_tensor(struct fdm_check *check, const struct fdm_graph *g, const struct fdm_checks *c) {
    if (check->place == FDM_CHECK_NOTHING || !check->tensor) return;
    const fdm_dtype dtype = check->tensor->dtype;
    const struct fdm_value v = value_of(check, g);
    if (dtype != FDM_F32 && dtype != FDM_F64 && dtype != FDM_F16 && dtype != FDM_BF16) {
        snprintf(check->problem, sizeof check->problem, "dtype %s holds no activations; save F32", fdm_dtype_name(dtype));
        check->place = FDM_CHECK_NOTHING;
    } else if (check->place != FDM_CHECK_C_IN_X && check->step >= 0 && g->augment >= 0 && g->steps[check->step].in == g->augment &&
               !c->augment_labels) {
        snprintf(check->problem, sizeof check->problem, "the dump has this output but no augment_labels");
        check->place = FDM_CHECK_NOTHING;
    } else {
        check_shape(check, &v, c->n);
    }
}

/* ---- binding ---- */

static bool bind(struct fdm_check *check, const fdm_tensor *t, const struct fdm_graph *g) {
    *check = (struct fdm_check){.tensor = t, .place = FDM_CHECK_NOTHING, .step = -1};
    if (is_trace(t->name)) {
        normalise(check->module, t->name[5] ? t->name + 6 : "");
        if (strcmp(check->module, "self") == 0) check->place = FDM_CHECK_OUT;
        else if (!find_step(check, g)) explain_unknown(check, g);
        return true;
    }
    if (strcmp(t->name, "out") == 0) {
        snprintf(check->module, sizeof check->module, "self");
        check->place = FDM_CHECK_OUT;
    } else if (strcmp(t->name, "F_x") == 0) {
        snprintf(check->module, sizeof check->module, "model");
        find_step(check, g);
    } else if (strcmp(t->name, "emb_noise") == 0) {
        snprintf(check->module, sizeof check->module, "model.map_noise");
        find_step(check, g);
    } else if (strcmp(t->name, "c_in_x") == 0) {
        snprintf(check->module, sizeof check->module, "c_in");
        check->place = FDM_CHECK_C_IN_X;
    } else if (strcmp(t->name, "c_noise") == 0) {
        snprintf(check->module, sizeof check->module, "c_noise");
        check->place = FDM_CHECK_C_NOISE;
    } else {
        return false;
    }
    return true;
}

/* c_in_x, c_noise, steps (raw before final), out, then what has a problem only. */
static int64_t rank(const struct fdm_check *c) {
    switch (c->place) {
    case FDM_CHECK_C_IN_X: return -2;
    case FDM_CHECK_C_NOISE: return -1;
    case FDM_CHECK_RAW: return 2 * (int64_t)c->step;
    case FDM_CHECK_FINAL: return 2 * (int64_t)c->step + 1;
    case FDM_CHECK_OUT: return INT32_MAX;
    default: return c->step >= 0 ? 2 * (int64_t)c->step : (int64_t)INT32_MAX + 1;
    }
}

static int by_rank(const void *left, const void *right) {
    const struct fdm_check *a = left, *b = right;
    const int64_t x = rank(a), y = rank(b);
    return x != y ? (x < y ? -1 : 1) : strcmp(a->tensor->name, b->tensor->name);
}

static void note_ignored(struct fdm_checks *c, const char *name) {
    const size_t used = strlen(c->ignored_names);
    c->ignored++;
    if (used + strlen(name) + 3 < sizeof c->ignored_names)
        snprintf(c->ignored_names + used, sizeof c->ignored_names - used, "%s%s", used ? ", " : "", name);
}

fdm_status fdm_checks_bind(struct fdm_checks *c, const fdm_tensors *dump, const char *where, const struct fdm_graph *g,
                           const fdm_config *config, fdm_error *err) {
    c->dump = dump;
    c->where = where;
    c->items = calloc(dump->count + 1, sizeof *c->items);
    if (!c->items) return fdm_fail_oom(err, "checks", (dump->count + 1) * sizeof *c->items);
    for (size_t i = 0; i < dump->count; i++) {
        const fdm_tensor *t = &dump->items[i];
        if (bind(&c->items[c->count], t, g)) c->count++;
        else if (!is_known(t->name)) note_ignored(c, t->name);
    }
    if (c->count == 0) return FDM_OK;
    const fdm_status status = read_inputs(c, config, err);
    if (status != FDM_OK) return status;
    for (size_t i = 0; i < c->count; i++) {
        check_tensor(&c->items[i], g, c);
        const enum fdm_check_place p = c->items[i].place;
        c->forced = c->forced || (p != FDM_CHECK_NOTHING && p != FDM_CHECK_OUT);
    }
    qsort(c->items, c->count, sizeof *c->items, by_rank);
    return FDM_OK;
}

void fdm_checks_free(struct fdm_checks *c) {
    free(c->x);
    free(c->sigma);
    free(c->class_labels);
    free(c->augment_labels);
    free(c->items);
    *c = (struct fdm_checks){0};
}

void fdm_check_slice(double *to, const struct fdm_check *check, int n, size_t count) {
    const fdm_tensor *t = check->tensor;
    const int64_t all = fdm_tensor_numel(t), first = all >= (int64_t)count * (n + 1) ? (int64_t)count * n : 0;
    if (!check->nhwc && t->dtype == FDM_F32) { /* the common case, without a call per element */
        const float *from = (const float *)t->data + first;
        for (size_t i = 0; i < count; i++) to[i] = (double)from[i];
        return;
    }
    if (!check->nhwc) {
        for (size_t i = 0; i < count; i++) to[i] = fdm_tensor_get(t, first + (int64_t)i);
        return;
    }
    const int64_t h = t->shape[1], w = t->shape[2], channels = t->shape[3];
    for (int64_t c = 0; c < channels; c++)
        for (int64_t p = 0; p < h * w; p++) *to++ = fdm_tensor_get(t, first + p * channels + c);
}
