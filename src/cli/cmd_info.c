/* cmd_info.c - `fdm info FILE`: what a model or tensor file holds. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "cli/cli.h"
#include "cli/info_pickle.h"
#include "fdm/config.h"
#include "fdm/tensorfile.h"

struct info_options {
    bool json;
};

enum { MAX_SHOWN = 1000 }; /* characters of a pickle's value */

static const struct info_options defaults = {0};
static const struct fdm_option options[] = {
    FDM_OPTION_FLAG(struct info_options, json, "json", "write JSON"),
    FDM_OPTION_END,
};

static void print_model(const fdm_config *c, const fdm_config_size *size) {
    char *json = fdm_config_json(c);
    printf("model       %s, %d x %d x %d images\n", fdm_precond_class_name(c->precond.kind), c->img_channels,
           c->img_resolution, c->img_resolution);
    printf("sigma       %g to %g", c->precond.sigma_min, c->precond.sigma_max);
    if (fdm_precond_is_fdm(c->precond.kind)) printf(", fdm_multiplier %g", c->precond.fdm_multiplier);
    if (c->precond.zeta != 1) printf(", zeta %g", c->precond.zeta);
    printf("\nconditions  label_dim %d, augment_dim %d\n", c->label_dim, c->augment_dim);
    printf("parameters  %" PRId64 " in %" PRId64 " modules\n", size->parameters, size->modules);
    printf("forward     %.4g GFLOP per image\n", (double)size->flops * 1e-9);
    printf("config      %s\n\n", json ? json : "(out of memory)");
    free(json);
}

static void print_tensors(const fdm_tensors *set) {
    char shape[FDM_SHAPE_TEXT];
    printf("%-52s %-5s %-20s %12s\n", "tensor", "dtype", "shape", "bytes");
    for (size_t i = 0; i < set->count; i++) {
        const fdm_tensor *t = &set->items[i];
        fdm_shape_text(shape, sizeof shape, t->ndim, t->shape);
        printf("%-52s %-5s %-20s %12zu\n", t->name, fdm_dtype_name(t->dtype), shape, t->nbytes);
    }
}

/* Prints and releases one, as the part of a larger text; false: out of memory. */
static bool print_part(const char *before, json_t *json, const char *after) {
    char *text = json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    json_decref(json);
    if (text) printf("%s%s%s", before, text, after);
    free(text);
    return text != NULL;
}

static bool print_tensors_json(const fdm_tensors *set) {
    bool ok = true;
    printf(" \"tensors\": [");
    for (size_t i = 0; i < set->count && ok; i++) {
        const fdm_tensor *t = &set->items[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->ndim; d++) json_array_append_new(shape, json_integer(t->shape[d]));
        ok = print_part(i ? ",\n  " : "\n  ", json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "dtype", fdm_dtype_name(t->dtype),
                                                       "shape", shape, "bytes", (json_int_t)t->nbytes), "");
    }
    printf("\n ]\n");
    return ok;
}

static const char *shown(const struct fdm_published_value *v) { return v->json ? v->json : "\"(too long to show)\""; }

/* The values as they are: as trees those of a hostile file would take a hundred times as much memory. */
static bool print_pickle_json(const struct fdm_pickle_info *pickle) {
    bool ok = print_part(" \"kind\": ", json_string(pickle->kind), ",\n \"values\": {");
    for (size_t i = 0; i < pickle->values.count && ok; i++) {
        ok = print_part(i ? ",\n  " : "\n  ", json_string(pickle->values.items[i].name), ": ");
        printf("%s", shown(&pickle->values.items[i]));
    }
    printf("\n },\n");
    return ok;
}

/* `pickle` NULL: a tensor file.  Piece by piece: a file may hold very many tensors. */
static fdm_status print_json(const fdm_tensors *set, const fdm_config *config, const fdm_config_size *size,
                             const struct fdm_pickle_info *pickle, fdm_error *err) {
    bool ok = true;
    printf("{\n");
    if (pickle) ok = print_pickle_json(pickle);
    if (config && ok) {
        json_t *root = json_object();
        char *text = fdm_config_json(config);
        json_object_set_new(root, "config", text ? json_loads(text, 0, NULL) : NULL);
        json_object_set_new(root, "parameters", json_integer(size->parameters));
        json_object_set_new(root, "modules", json_integer(size->modules));
        json_object_set_new(root, "flops_per_image", json_integer(size->flops));
        json_object_set_new(root, "sigma_min", json_real(config->precond.sigma_min));
        json_object_set_new(root, "sigma_max", /* infinite for edm: JSON has no such number */
                            config->precond.sigma_max < 1e300 ? json_real(config->precond.sigma_max) : json_null());
        free(text);
        const char *key;
        json_t *value;
        json_object_foreach(root, key, value) {
            printf(" \"%s\"", key);
            ok = ok && print_part(": ", json_incref(value), ",\n");
        }
        json_decref(root);
    }
    if (ok) ok = print_tensors_json(set);
    printf("}\n");
    return ok ? FDM_OK : fdm_fail_oom(err, "JSON", 0);
}

static void print_values(const struct fdm_pickle_info *pickle) {
    printf("kind        %s\n", pickle->kind);
    for (size_t i = 0; i < pickle->values.count; i++) {
        const char *text = shown(&pickle->values.items[i]);
        printf("%-11s %.*s%s\n", pickle->values.items[i].name, MAX_SHOWN, text, strlen(text) <= MAX_SHOWN ? "" : " ...");
    }
}

/* Everything that is known, for people or as JSON. */
static fdm_status print(const fdm_tensors *set, const fdm_config *config, const struct fdm_pickle_info *pickle, bool json,
                        fdm_error *err) {
    fdm_config_size size = {0};
    const fdm_status status = config ? fdm_config_measure(&size, config, err) : FDM_OK;
    if (status != FDM_OK) return status;
    if (json) return print_json(set, config, &size, pickle, err);
    if (pickle) print_values(pickle);
    if (config) print_model(config, &size);
    print_tensors(set);
    return FDM_OK;
}

static fdm_status run_pickle(const char *path, bool json, fdm_error *err) {
    struct fdm_pickle_info pickle;
    fdm_status status = fdm_info_read_pickle(&pickle, path, err);
    if (status != FDM_OK) return status;
    status = print(&pickle.tensors, pickle.has_network ? &pickle.config : NULL, &pickle, json, err);
    fdm_info_free_pickle(&pickle);
    return status;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct info_options *o = values;
    const char *path = cli->args[0];
    fdm_tensors set = {0};
    fdm_config config;
    if (fdm_info_is_pickle(path)) return run_pickle(path, o->json, err);
    fdm_status status = fdm_tensorfile_read(&set, path, err);
    if (status != FDM_OK) return status;
    const bool model = fdm_tensors_meta(&set, "config") || fdm_tensors_meta(&set, "init_kwargs");
    if (model) status = fdm_config_from_tensors(&config, &set, path, err);
    if (status == FDM_OK) status = print(&set, model ? &config : NULL, NULL, o->json, err);
    fdm_tensors_free(&set);
    return status;
}

const struct fdm_command fdm_cmd_info = {
    .name = "info",
    .arguments = "FILE",
    .min_args = 1,
    .max_args = 1,
    .summary = "what a model, tensor file or pickle holds",
    .description = "Shows the configuration, the number of parameters and operations, and every tensor of a model file;\n"
                   "of a tensor file without a configuration, its tensors; of a pickle (.pkl, .pt) also the values that are no\n"
                   "tensors.  Nothing in a pickle is executed.",
    .examples = "  fdm info data/model.safetensors\n"
                "  fdm info model.safetensors --json | jq .parameters\n"
                "  fdm info network-snapshot-200000.pkl\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
