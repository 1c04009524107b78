/* classifier_file.c - a classifier as a safetensors file. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/safetensors.h"
#include "metric/classifier.h"

#define META_KEY "classifier"

/* ---- Writing ----------------------------------------------------------------------------------------------- */

static char *describe(const fdm_classifier_info *i) {
    json_t *accuracy = isfinite(i->accuracy) ? json_real(i->accuracy) : json_null();
    json_t *json = json_pack("{s:i, s:i, s:i, s:I, s:I, s:o}", "channels", i->channels, "resolution", i->resolution, "classes",
                             i->classes, "images", (json_int_t)i->images, "seed", (json_int_t)i->seed, "accuracy", accuracy);
    char *text = json ? json_dumps(json, JSON_REAL_PRECISION(17)) : NULL;
    json_decref(json);
    return text;
}

fdm_status fdm_classifier_save(const fdm_classifier *classifier, const char *path, fdm_error *err) {
    fdm_tensors set = {0};
    fdm_tensor *added;
    char *text = describe(&classifier->info);
    fdm_status status = text ? fdm_tensors_set_meta(&set, META_KEY, text, err) : fdm_fail_oom(err, "JSON", 0);
    for (int i = 0; i < FDM_CLASSIFIER_PARAMETERS && status == FDM_OK; i++) {
        const struct fdm_classifier_parameter *p = &classifier->parameter[i];
        status = fdm_tensors_add_borrowed(&set, p->name, FDM_F32, p->ndim, p->shape, classifier->values + p->offset, &added, err);
    }
    if (status == FDM_OK) status = fdm_safetensors_write(&set, path, err);
    fdm_tensors_free(&set);
    free(text);
    return status;
}

/* ---- Reading ----------------------------------------------------------------------------------------------- */

/* A whole number of the JSON from `least` to `most`. */
static fdm_status read_integer(int64_t *out, const json_t *json, const char *key, int64_t least, int64_t most, const char *path,
                               fdm_error *err) {
    const json_t *value = json_object_get(json, key);
    if (!json_is_integer(value) || json_integer_value(value) < least || json_integer_value(value) > most)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata " META_KEY ": \"%s\" is missing or no integer from %" PRId64 " to %" PRId64,
                        path, key, least, most);
    *out = json_integer_value(value);
    return FDM_OK;
}

static fdm_status read_info(fdm_classifier_info *info, const fdm_tensors *set, const char *path, fdm_error *err) {
    const char *text = fdm_tensors_meta(set, META_KEY);
    int64_t channels = 0, resolution = 0, classes = 0, images = 0, seed = 0;
    if (!text) return fdm_fail(err, FDM_BAD_INPUT, "%s: has no metadata \"" META_KEY "\": not made by fdm metric --train-classifier", path);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(json)) {
        json_decref(json);
        return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata " META_KEY " is not a JSON object", path);
    }
    fdm_status status = read_integer(&channels, json, "channels", 1, 3, path, err);
    if (status == FDM_OK)
        status = read_integer(&resolution, json, "resolution", FDM_CLASSIFIER_MIN_RESOLUTION, FDM_CLASSIFIER_MAX_RESOLUTION, path, err);
    if (status == FDM_OK) status = read_integer(&classes, json, "classes", 2, FDM_DATASET_MAX_LABEL_DIM, path, err);
    if (status == FDM_OK) status = read_integer(&images, json, "images", 0, INT64_MAX, path, err);
    if (status == FDM_OK) status = read_integer(&seed, json, "seed", INT64_MIN, INT64_MAX, path, err);
    const json_t *accuracy = json_object_get(json, "accuracy");
    *info = (fdm_classifier_info){.channels = (int)channels, .resolution = (int)resolution, .classes = (int)classes,
                                  .images = images, .seed = (uint64_t)seed,
                                  .accuracy = json_is_number(accuracy) ? json_number_value(accuracy) : NAN};
    json_decref(json);
    return status;
}

/* Whether the tensor is there, of that shape, in f32 and finite. */
static bool fits(const fdm_tensor *t, const struct fdm_classifier_parameter *p) {
    if (!t || t->dtype != FDM_F32 || t->ndim != p->ndim) return false;
    for (int i = 0; i < p->ndim; i++)
        if (t->shape[i] != p->shape[i]) return false;
    for (size_t i = 0; i < p->count; i++)
        if (!isfinite(((const float *)t->data)[i])) return false;
    return true;
}

static fdm_status copy_parameters(fdm_classifier *c, const fdm_tensors *set, const char *path, fdm_error *err) {
    char bad[1024] = "";
    for (int i = 0; i < FDM_CLASSIFIER_PARAMETERS; i++) {
        const struct fdm_classifier_parameter *p = &c->parameter[i];
        const fdm_tensor *t = fdm_tensors_find(set, p->name);
        const size_t used = strlen(bad);
        if (fits(t, p))
            memcpy(c->values + p->offset, t->data, p->count * sizeof *c->values);
        else
            snprintf(bad + used, sizeof bad - used, "%s%s", used ? ", " : "", p->name);
    }
    if (bad[0]) return fdm_fail(err, FDM_BAD_INPUT, "%s: missing, misshapen, not F32 or not finite: %s", path, bad);
    fdm_classifier_changed(c);
    return FDM_OK;
}

fdm_status fdm_classifier_load(fdm_classifier **classifier, const char *path, const fdm_run_options *run, fdm_error *err) {
    fdm_tensors set = {0};
    fdm_classifier_info info;
    *classifier = NULL;
    fdm_status status = fdm_safetensors_read(&set, path, err);
    if (status == FDM_OK) status = read_info(&info, &set, path, err);
    if (status == FDM_OK) status = fdm_classifier_create(classifier, &info, run, err);
    if (status == FDM_OK) status = copy_parameters(*classifier, &set, path, err);
    if (status != FDM_OK) fdm_classifier_free(classifier);
    fdm_tensors_free(&set);
    return status;
}
