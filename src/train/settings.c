/* settings.c - the settings of a training run: defaults, checks, JSON, and the network they ask for. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "fdm/denoiser.h"
#include "fdm/train.h"
#include "io/io.h"
#include "io/text.h"

static const char *const arch_names[] = {"ddpmpp", "ncsnpp"};

/* Every number among the settings, its JSON key and range.  X(field, lowest, highest) */
#define FLOAT_SETTINGS(X)          \
    X(duration, 1e-9, 1e9)         \
    X(lr, 1e-12, 1e3)              \
    X(lr_rampup, 0, 1e9)           \
    X(ema, 0, 1e9)                 \
    X(dropout, 0, 0.999)           \
    X(label_dropout, 0, 1)         \
    X(augment, 0, 1)               \
    X(warmup_ite, 0, 1e12)         \
    X(fdm_multiplier, 1e-6, 1e6)   \
    X(zeta, 0, 1e6)                \
    X(ls, 1e-12, 1e12)             \
    X(tick, 1e-6, 1e9)             \
    X(save_minutes, 0, 1e6)
#define INT_SETTINGS(X)            \
    X(batch, 1, 65536)             \
    X(batch_gpu, 0, 65536)         \
    X(cbase, 1, 4096)              \
    X(num_blocks, 1, 64)           \
    X(snap, 0, 1000000000)         \
    X(dump, 0, 1000000000)         \
    X(image_snap, 0, 1000000000)   \
    X(image_count, 1, 4096)        \
    X(image_steps, 2, 1000)        \
    X(seed, 0, INT64_MAX)
#define BOOL_SETTINGS(X) X(cond) X(xflip)

fdm_train_settings fdm_train_defaults(void) {
    return (fdm_train_settings){.arch = FDM_ARCH_DDPMPP, .precond = FDM_PRECOND_FDM_EDM, .duration = 200, .batch = 512,
                                .cbase = 128, .levels = 3, .cres = {2, 2, 2}, .num_blocks = 4, .attn_count = 1,
                                .attn_resolutions = {16}, .lr = 1e-3, .lr_rampup = 10, .ema = 0.5, .dropout = 0.13,
                                .augment = 0.12, .fdm_multiplier = 2, .zeta = 1, .ls = 1, .tick = 50, .snap = 200, .dump = 500,
                                .image_snap = 200, .image_count = 36, .image_steps = 9, .save_minutes = 30,
                                .conv = FDM_CONV_DEFAULT};
}

fdm_status fdm_train_check(const fdm_train_settings *s, fdm_error *err) {
#define CHECK_FLOAT(field, lo, hi)                                                                              \
    if (!(s->field >= (lo) && s->field <= (hi)))                                                                \
        return fdm_fail(err, FDM_BAD_USAGE, "--%s %g: wants a number from %g to %g", #field, s->field,          \
                        (double)(lo), (double)(hi));
#define CHECK_INT(field, lo, hi)                                                                                \
    if (s->field < (lo) || s->field > (hi))                                                                     \
        return fdm_fail(err, FDM_BAD_USAGE, "--%s %" PRId64 ": wants an integer from %" PRId64 " to %" PRId64,  \
                        #field, s->field, (int64_t)(lo), (int64_t)(hi));
    FLOAT_SETTINGS(CHECK_FLOAT)
    INT_SETTINGS(CHECK_INT)
    if (s->arch < 0 || s->arch >= (int)FDM_ARRAY_LEN(arch_names))
        return fdm_fail(err, FDM_BAD_USAGE, "--arch: there is no architecture %d", s->arch);
    fdm_precond_kind kind;
    if (fdm_precond_find(&kind, fdm_precond_name((fdm_precond_kind)s->precond), NULL) != FDM_OK)
        return fdm_fail(err, FDM_BAD_USAGE, "--precond: there is no framework %d", s->precond);
    if (s->conv < 0 || s->conv >= FDM_CONV_MODES)
        return fdm_fail(err, FDM_BAD_USAGE, "--conv: there is no mode %d", s->conv);
    if (!s->data) return fdm_fail(err, FDM_BAD_USAGE, "--data is required: an archive or folder of images");
    if (!fdm_utf8_valid(s->data) || (s->transfer && !fdm_utf8_valid(s->transfer)))
        return fdm_fail(err, FDM_BAD_USAGE, "--data and --transfer must be valid UTF-8: they are written to JSON");
    if (s->levels < 1 || s->levels > FDM_MAX_LEVELS)
        return fdm_fail(err, FDM_BAD_USAGE, "--cres: wants 1 to %d numbers", FDM_MAX_LEVELS);
    if (s->attn_count < 0 || s->attn_count > FDM_MAX_ATTN)
        return fdm_fail(err, FDM_BAD_USAGE, "--attn_resolutions: wants at most %d numbers", FDM_MAX_ATTN);
    if (s->batch_gpu && s->batch % s->batch_gpu != 0)
        return fdm_fail(err, FDM_BAD_USAGE, "--batch %" PRId64 " is no multiple of --batch-gpu %" PRId64, s->batch, s->batch_gpu);
    if (s->zeta != 1 && !fdm_precond_is_fdm((fdm_precond_kind)s->precond))
        return fdm_fail(err, FDM_BAD_USAGE, "--zeta belongs to the fdm_* frameworks; leave it out with --precond %s",
                        fdm_precond_name((fdm_precond_kind)s->precond));
    if (s->label_dropout > 0 && !s->cond)
        return fdm_fail(err, FDM_BAD_USAGE, "--label_dropout drops the labels of --cond 1; give both or neither");
    return FDM_OK;
}

/* --- JSON --- */

static json_t *int_array(const int *values, int count) {
    json_t *array = json_array();
    for (int i = 0; array && i < count; i++)
        if (json_array_append_new(array, json_integer(values[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

char *fdm_train_settings_json(const fdm_train_settings *s) {
    json_t *o = json_object();
    int bad = !o;
#define PUT_FLOAT(field, lo, hi) bad |= json_object_set_new(o, #field, json_real(s->field));
#define PUT_INT(field, lo, hi) bad |= json_object_set_new(o, #field, json_integer(s->field));
#define PUT_BOOL(field) bad |= json_object_set_new(o, #field, json_boolean(s->field));
    bad |= json_object_set_new(o, "data", s->data ? json_string(s->data) : json_null());
    bad |= json_object_set_new(o, "transfer", s->transfer ? json_string(s->transfer) : json_null());
    bad |= json_object_set_new(o, "arch", json_string(arch_names[s->arch]));
    bad |= json_object_set_new(o, "precond", json_string(fdm_precond_name((fdm_precond_kind)s->precond)));
    bad |= json_object_set_new(o, "conv", json_string(fdm_conv_mode_name((fdm_conv_mode)s->conv)));
    BOOL_SETTINGS(PUT_BOOL)
    INT_SETTINGS(PUT_INT)
    FLOAT_SETTINGS(PUT_FLOAT)
    bad |= json_object_set_new(o, "cres", int_array(s->cres, s->levels));
    bad |= json_object_set_new(o, "attn_resolutions", int_array(s->attn_resolutions, s->attn_count));
    char *text = bad ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(o);
    return text;
}

/* One key of the settings' object. */
struct reader {
    const json_t *object;
    const char *where;
    fdm_error *err;
    fdm_status status;
};

static void bad_key(struct reader *r, const char *key, const char *wants) {
    if (r->status == FDM_OK) r->status = fdm_fail(r->err, FDM_BAD_INPUT, "%s: \"%s\" must be %s", r->where, key, wants);
}

static void read_string(struct reader *r, const char *key, const char **out) {
    const json_t *item = json_object_get(r->object, key);
    if (!item || json_is_null(item)) return;
    if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item) || !json_string_length(item)) {
        bad_key(r, key, "a string");
        return;
    }
    char *copy = fdm_strdup(json_string_value(item));
    if (!copy) r->status = fdm_fail_oom(r->err, "settings", json_string_length(item));
    *out = copy;
}

static void read_arch(struct reader *r, int *out) {
    const char *text = json_string_value(json_object_get(r->object, "arch"));
    for (size_t i = 0; text && i < FDM_ARRAY_LEN(arch_names); i++)
        if (strcmp(text, arch_names[i]) == 0) {
            *out = (int)i;
            return;
        }
    if (json_object_get(r->object, "arch")) bad_key(r, "arch", "\"ddpmpp\" or \"ncsnpp\"");
}

static void read_precond(struct reader *r, int *out) {
    fdm_precond_kind kind;
    const json_t *item = json_object_get(r->object, "precond");
    if (!item) return;
    if (json_is_string(item) && fdm_precond_find(&kind, json_string_value(item), NULL) == FDM_OK) *out = (int)kind;
    else bad_key(r, "precond", "a framework such as \"fdm_edm\"");
}

static void read_conv(struct reader *r, int *out) {
    fdm_conv_mode mode = FDM_CONV_DIRECT; /* runs from before there was a choice */
    const json_t *item = json_object_get(r->object, "conv");
    if (item && !(json_is_string(item) && fdm_conv_mode_find(&mode, json_string_value(item))))
        bad_key(r, "conv", "\"direct\", \"winograd2\" or \"winograd4\"");
    *out = (int)mode;
}

static void read_int_array(struct reader *r, const char *key, int *values, int *count, int most) {
    const json_t *array = json_object_get(r->object, key);
    if (!array) return;
    const size_t size = json_array_size(array);
    if (!json_is_array(array) || size > (size_t)most) {
        bad_key(r, key, "a short list of integers");
        return;
    }
    for (size_t i = 0; i < size; i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0 || json_integer_value(item) > 65536) {
            bad_key(r, key, "a list of integers from 0 to 65536");
            return;
        }
        values[i] = (int)json_integer_value(item);
    }
    *count = (int)size;
}

static void read_numbers(struct reader *r, fdm_train_settings *s) {
    const json_t *item;
#define READ_FLOAT(field, lo, hi)                                                                                      \
    if ((item = json_object_get(r->object, #field))) {                                                                 \
        if (json_is_number(item)) s->field = json_number_value(item);                                                  \
        else bad_key(r, #field, "a number");                                                                           \
    }
#define READ_INT(field, lo, hi)                                                                                        \
    if ((item = json_object_get(r->object, #field))) {                                                                 \
        if (json_is_integer(item)) s->field = json_integer_value(item);                                                \
        else bad_key(r, #field, "an integer");                                                                         \
    }
#define READ_BOOL(field)                                                                                               \
    if ((item = json_object_get(r->object, #field))) {                                                                 \
        if (json_is_boolean(item)) s->field = json_is_true(item);                                                      \
        else bad_key(r, #field, "true or false");                                                                      \
    }
    FLOAT_SETTINGS(READ_FLOAT)
    INT_SETTINGS(READ_INT)
    BOOL_SETTINGS(READ_BOOL)
}

fdm_status fdm_train_settings_parse(fdm_train_settings *s, const char *json, size_t bytes, const char *where,
                                    fdm_error *err) {
    json_error_t why;
    *s = fdm_train_defaults();
    json_t *root = bytes <= 1 << 20 ? json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &why) : NULL;
    if (!root)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: no JSON of settings: %s", where, bytes <= 1 << 20 ? why.text : "too long");
    const json_t *inner = json_object_get(root, "settings");
    struct reader r = {.object = inner ? inner : root, .where = where, .err = err, .status = FDM_OK};
    if (!json_is_object(r.object)) r.status = fdm_fail(err, FDM_BAD_INPUT, "%s: holds no object of settings", where);
    if (r.status == FDM_OK) read_string(&r, "data", &s->data);
    if (r.status == FDM_OK) read_string(&r, "transfer", &s->transfer);
    if (r.status == FDM_OK) read_arch(&r, &s->arch);
    if (r.status == FDM_OK) read_precond(&r, &s->precond);
    if (r.status == FDM_OK) read_conv(&r, &s->conv);
    if (r.status == FDM_OK) read_int_array(&r, "cres", s->cres, &s->levels, FDM_MAX_LEVELS);
    if (r.status == FDM_OK) read_int_array(&r, "attn_resolutions", s->attn_resolutions, &s->attn_count, FDM_MAX_ATTN);
    if (r.status == FDM_OK) read_numbers(&r, s);
    json_decref(root);
    if (r.status != FDM_OK) fdm_train_settings_free(s);
    return r.status;
}

void fdm_train_settings_free(fdm_train_settings *s) {
    free((char *)(uintptr_t)s->data);
    free((char *)(uintptr_t)s->transfer);
    s->data = s->transfer = NULL;
}

fdm_status fdm_train_settings_read(fdm_train_settings *s, const char *run_dir, fdm_error *err) {
    char path[4096];
    struct fdm_file_map map;
    if ((size_t)snprintf(path, sizeof path, "%s/training_options.json", run_dir) >= sizeof path)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: the path is too long", run_dir);
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: is no run directory: there is no training_options.json", run_dir);
    fdm_status status = fdm_file_map_open(&map, path, err);
    if (status != FDM_OK) return status;
    status = fdm_train_settings_parse(s, (const char *)map.bytes, map.size, path, err);
    fdm_file_map_close(&map);
    return status;
}

/* --- the network --- */

fdm_status fdm_train_network(fdm_config *c, const fdm_train_settings *s, int resolution, int channels, int label_dim,
                             fdm_error *err) {
    fdm_status status = fdm_config_init(c, (fdm_precond_kind)s->precond, err);
    if (status == FDM_OK)
        status = fdm_precond_init(&c->precond, (fdm_precond_kind)s->precond, s->fdm_multiplier, err);
    if (status != FDM_OK) return status;
    c->precond.zeta = s->zeta;
    const bool ncsnpp = s->arch == FDM_ARCH_NCSNPP;
    c->img_resolution = resolution;
    c->img_channels = channels;
    c->label_dim = s->cond ? label_dim : 0;
    c->augment_dim = s->augment > 0 ? 9 : 0;
    c->model_channels = (int)s->cbase;
    c->levels = s->levels;
    memcpy(c->channel_mult, s->cres, sizeof c->channel_mult);
    c->num_blocks = (int)s->num_blocks;
    c->attn_count = s->attn_count;
    memcpy(c->attn_resolutions, s->attn_resolutions, sizeof c->attn_resolutions);
    c->dropout = s->dropout;
    c->label_dropout = s->label_dropout;
    c->embedding_type = ncsnpp ? FDM_EMBEDDING_FOURIER : FDM_EMBEDDING_POSITIONAL;
    c->encoder_type = ncsnpp ? FDM_RESIDUAL : FDM_STANDARD;
    c->decoder_type = FDM_STANDARD;
    c->channel_mult_noise = ncsnpp ? 2 : 1;
    const double filter[2][4] = {{1, 1}, {1, 3, 3, 1}};
    c->filter_len = ncsnpp ? 4 : 2;
    memcpy(c->resample_filter, filter[ncsnpp], (size_t)c->filter_len * sizeof(double));
    return fdm_config_check(c, "these settings", err);
}
