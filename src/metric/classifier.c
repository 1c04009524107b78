/* classifier.c - the classifier's layers on a backend: create, buffers, forward, backward, features. */
#include "metric/classifier.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metric/statistics.h"
#include "nn/network.h"
#include "simd/kernel_table.h"

enum {
    STAGES = FDM_CLASSIFIER_STAGES,
    PARAMETERS = FDM_CLASSIFIER_PARAMETERS,
    FEATURES = FDM_CLASSIFIER_FEATURES,
    CHANNELS_PER_GROUP = 4,
    LEAST_SIDE = 4, /* pixels that are not halved any more */
};

/* Indices of the parameters of stage s, and of the head. */
enum { CONV_WEIGHT, CONV_BIAS, NORM_WEIGHT, NORM_BIAS, OF_STAGE, HEAD_WEIGHT = STAGES * OF_STAGE, HEAD_BIAS };

/* ---- Life -------------------------------------------------------------------------------------------------- */

static void list_stages(struct fdm_classifier *c) {
    static const int channels[STAGES] = {32, 64, 64, FEATURES};
    int in = c->info.channels, side = c->info.resolution;
    for (int s = 0; s < STAGES; s++) {
        c->stage[s] = (struct fdm_classifier_stage){in, channels[s], side, side > LEAST_SIDE};
        in = channels[s];
        if (c->stage[s].halved) side /= 2;
    }
}

/* Side of the maps that the features are means of. */
static int last_side(const struct fdm_classifier *c) {
    const struct fdm_classifier_stage *last = &c->stage[STAGES - 1];
    return last->halved ? last->side / 2 : last->side;
}

static void list_parameter(struct fdm_classifier *c, int index, const char *owner, int number, const char *part, int ndim,
                           int out, int in) {
    struct fdm_classifier_parameter *p = &c->parameter[index];
    *p = (struct fdm_classifier_parameter){.ndim = ndim, .shape = {out, in, 3, 3}, .offset = c->total, .count = 1};
    if (number >= 0)
        snprintf(p->name, sizeof p->name, "stage%d.%s.%s", number, owner, part);
    else
        snprintf(p->name, sizeof p->name, "%s.%s", owner, part);
    for (int i = 0; i < ndim; i++) p->count *= (size_t)p->shape[i];
    c->total += p->count;
}

static void list_parameters(struct fdm_classifier *c) {
    for (int s = 0; s < STAGES; s++) {
        const int first = s * OF_STAGE, out = c->stage[s].out;
        list_parameter(c, first + CONV_WEIGHT, "conv", s, "weight", 4, out, c->stage[s].in);
        list_parameter(c, first + CONV_BIAS, "conv", s, "bias", 1, out, 0);
        list_parameter(c, first + NORM_WEIGHT, "norm", s, "weight", 1, out, 0);
        list_parameter(c, first + NORM_BIAS, "norm", s, "bias", 1, out, 0);
    }
    list_parameter(c, HEAD_WEIGHT, "head", -1, "weight", 2, c->info.classes, FEATURES);
    list_parameter(c, HEAD_BIAS, "head", -1, "bias", 1, c->info.classes, 0);
    c->info.parameters = (int64_t)c->total;
}

/* Places in the packed memory, whose size is returned. */
static size_t list_packed(struct fdm_classifier *c) {
    size_t bytes = 0;
    for (int s = 0; s < STAGES; s++) {
        const struct fdm_classifier_stage *stage = &c->stage[s];
        c->packed_at[s * OF_STAGE + CONV_WEIGHT] = bytes;
        bytes += fdm_round_up(c->backend->conv2d_packed_bytes(stage->out, stage->in, 3), 64);
        c->packed_at[s * OF_STAGE + NORM_WEIGHT] = bytes;
        bytes += fdm_round_up(c->backend->groupnorm_packed_bytes(stage->out), 64);
    }
    c->packed_at[HEAD_WEIGHT] = bytes;
    return bytes + fdm_round_up(c->backend->linear_packed_bytes(c->info.classes, FEATURES), 64);
}

static fdm_status check_info(const fdm_classifier_info *info, fdm_error *err) {
    const int least = FDM_CLASSIFIER_MIN_RESOLUTION, most = FDM_CLASSIFIER_MAX_RESOLUTION;
    if (info->resolution < least || info->resolution > most)
        return fdm_fail(err, FDM_BAD_INPUT, "images of %d x %d pixels: the classifier takes %d to %d; see fdm dataset --resolution",
                        info->resolution, info->resolution, least, most);
    if (info->channels != 1 && info->channels != 3)
        return fdm_fail(err, FDM_BAD_INPUT, "images of %d channels: the classifier takes 1 or 3", info->channels);
    if (info->classes < 2 || info->classes > FDM_DATASET_MAX_LABEL_DIM)
        return fdm_fail(err, FDM_BAD_INPUT, "%d classes: the classifier takes 2 to %d", info->classes, FDM_DATASET_MAX_LABEL_DIM);
    return FDM_OK;
}

fdm_status fdm_classifier_create(fdm_classifier **classifier, const fdm_classifier_info *info, const fdm_run_options *run,
                                 fdm_error *err) {
    char name[FDM_BACKEND_NAME];
    *classifier = NULL;
    fdm_status status = check_info(info, err);
    if (status != FDM_OK) return status;
    fdm_classifier *c = calloc(1, sizeof *c);
    if (!c) return fdm_fail_oom(err, "classifier", sizeof *c);
    c->info = *info;
    list_stages(c);
    list_parameters(c);
    status = fdm_backend_choose(&c->backend, &c->exec, NULL, name, run, err);
    if (status == FDM_OK) {
        const size_t packed = list_packed(c);
        c->values = calloc(c->total, sizeof *c->values);
        c->packed = fdm_malloc_aligned(packed);
        if (!c->values || !c->packed) status = fdm_fail_oom(err, "classifier", packed);
    }
    if (status != FDM_OK) fdm_classifier_free(&c);
    *classifier = c;
    return status;
}

static void free_buffers(struct fdm_classifier_buffers *b) {
    fdm_free_aligned(b->memory);
    fdm_free_aligned(b->scratch);
    *b = (struct fdm_classifier_buffers){0};
}

void fdm_classifier_free(fdm_classifier **classifier) {
    fdm_classifier *c = *classifier;
    if (!c) return;
    free_buffers(&c->buffers);
    free(c->values);
    fdm_free_aligned(c->packed);
    free(c);
    *classifier = NULL;
}

fdm_classifier_info fdm_classifier_describe(const fdm_classifier *classifier) {
    fdm_classifier_info info = classifier->info;
    info.fingerprint = fdm_fingerprint(classifier->values, classifier->total * sizeof *classifier->values);
    return info;
}

static float *value_at(const struct fdm_classifier *c, int index) { return c->values + c->parameter[index].offset; }

void fdm_classifier_changed(fdm_classifier *c) {
    for (int s = 0; s < STAGES; s++) {
        const int first = s * OF_STAGE;
        c->backend->conv2d_pack(&c->exec, c->packed + c->packed_at[first + CONV_WEIGHT], value_at(c, first + CONV_WEIGHT),
                                value_at(c, first + CONV_BIAS), c->stage[s].out, c->stage[s].in, 3);
        c->backend->groupnorm_pack(&c->exec, c->packed + c->packed_at[first + NORM_WEIGHT], value_at(c, first + NORM_WEIGHT),
                                   value_at(c, first + NORM_BIAS), c->stage[s].out);
    }
    c->backend->linear_pack(&c->exec, c->packed + c->packed_at[HEAD_WEIGHT], value_at(c, HEAD_WEIGHT), value_at(c, HEAD_BIAS),
                            c->info.classes, FEATURES);
}

/* ---- Buffers ----------------------------------------------------------------------------------------------- */

/* Memory that is dealt out piece by piece; a first round without any finds its size. */
struct deal {
    const struct fdm_backend *backend;
    char *memory;
    size_t used;
    int n;
};

static void *take(struct deal *d, size_t bytes) {
    void *piece = d->memory ? d->memory + d->used : NULL;
    d->used = fdm_round_up(fdm_add_saturated(d->used, bytes), 64);
    return piece;
}

static struct fdm_map take_map(struct deal *d, int channels, int side, int halo) {
    return (struct fdm_map){d->n, channels, side, side, halo, take(d, d->backend->map_bytes(d->n, channels, side, side, halo))};
}

static struct fdm_vec take_vec(struct deal *d, int count) {
    const size_t size = fdm_dtype_size(d->backend->dtype);
    return (struct fdm_vec){d->n, count, take(d, (size_t)d->n * (size_t)count * size)};
}

/* A convolution reads one pixel beyond its input, and its way back one beyond its output's gradient. */
static void deal_out(struct fdm_classifier_buffers *b, const struct fdm_classifier *c, struct deal *d, bool trains) {
    for (int s = 0; s < STAGES; s++) {
        const struct fdm_classifier_stage *stage = &c->stage[s];
        const int next = stage->halved ? stage->side / 2 : stage->side;
        if (s == 0) b->x[s] = take_map(d, stage->in, stage->side, 1);
        b->conv[s] = take_map(d, stage->out, stage->side, 0);
        b->x[s + 1] = take_map(d, stage->out, next, 1);
        b->act[s] = stage->halved ? take_map(d, stage->out, stage->side, 0) : b->x[s + 1];
        if (!trains) continue;
        b->d_conv[s] = take_map(d, stage->out, stage->side, 1);
        b->d_x[s + 1] = take_map(d, stage->out, next, 0);
        b->d_act[s] = stage->halved ? take_map(d, stage->out, stage->side, 0) : b->d_x[s + 1];
    }
    b->mean = take_map(d, FEATURES, 1, 0);
    b->logits = take_vec(d, c->info.classes);
    /* one pixel of 64 channels without a halo lies in memory like a vector of 64, in either layout */
    b->features = (struct fdm_vec){d->n, FEATURES, b->mean.data};
    if (!trains) return;
    b->d_mean = take_map(d, FEATURES, 1, 0);
    b->d_features = (struct fdm_vec){d->n, FEATURES, b->d_mean.data};
    b->d_logits = take_vec(d, c->info.classes);
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t scratch_bytes(const struct fdm_classifier *c, int n, bool trains) {
    const struct fdm_backend *k = c->backend;
    const int threads = c->exec.threads;
    size_t bytes = 64;
    for (int s = 0; s < STAGES; s++) {
        const struct fdm_classifier_stage *g = &c->stage[s];
        bytes = larger(bytes, k->conv2d_scratch(n, g->in, g->out, 3, g->side, g->side, threads));
        if (!trains) continue;
        bytes = larger(bytes, k->conv2d_backward_scratch(n, g->in, g->out, 3, g->side, g->side, threads));
        bytes = larger(bytes, k->groupnorm_backward_scratch(n, g->out, g->side, g->side, threads));
        bytes = larger(bytes, k->resample_backward_scratch(n, g->out, g->side / 2, g->side / 2, threads));
    }
    if (trains) bytes = larger(bytes, k->linear_backward_scratch(n, FEATURES, c->info.classes, threads));
    return bytes;
}

fdm_status fdm_classifier_prepare(fdm_classifier *c, int n, bool trains, fdm_error *err) {
    struct fdm_classifier_buffers *b = &c->buffers;
    struct deal deal = {.backend = c->backend, .n = n};
    if (b->n >= n && (b->d_logits.data || !trains)) return FDM_OK;
    free_buffers(b);
    deal_out(b, c, &deal, trains);
    const size_t bytes = deal.used, scratch = scratch_bytes(c, n, trains);
    deal.memory = fdm_malloc_aligned(bytes);
    deal.used = 0;
    *b = (struct fdm_classifier_buffers){.n = n, .memory = deal.memory, .scratch = fdm_malloc_aligned(scratch)};
    if (!b->memory || !b->scratch) {
        free_buffers(b);
        return fdm_fail_oom(err, "classifier", fdm_add_saturated(bytes, scratch));
    }
    deal_out(b, c, &deal, trains);
    c->exec.scratch = b->scratch;
    c->exec.scratch_bytes = scratch;
    return FDM_OK;
}

/* ---- Forward ----------------------------------------------------------------------------------------------- */

void fdm_classifier_input(double *x, const uint8_t *pixels, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = pixels[i] / 127.5 - 1;
}

/* The first n samples of a buffer. */
static struct fdm_map first_of(const struct fdm_map *m, int n) {
    struct fdm_map view = *m;
    view.n = n;
    return view;
}
static struct fdm_vec first_rows(const struct fdm_vec *v, int n) { return (struct fdm_vec){n, v->c, v->data}; }

static const float quarter[4] = {0.25f, 0.25f, 0.25f, 0.25f};

/* The filter of a mean over side x side pixels. */
static void mean_filter(float filter[FDM_MAX_FILTER * FDM_MAX_FILTER], int side) {
    for (int i = 0; i < side * side; i++) filter[i] = 1.0f / (float)(side * side);
}

static struct fdm_groupnorm_args norm_args(const struct fdm_classifier *c, int s) {
    return (struct fdm_groupnorm_args){.groups = c->stage[s].out / CHANNELS_PER_GROUP, .eps = 1e-6,
                                       .param = c->packed + c->packed_at[s * OF_STAGE + NORM_WEIGHT], .silu = true};
}

static void forward_stage(struct fdm_classifier *c, int s, int n) {
    const struct fdm_conv2d_args conv = {.k = 3, .pad = 1, .weight = c->packed + c->packed_at[s * OF_STAGE + CONV_WEIGHT],
                                         .epilogue = {.scale = 1}};
    const struct fdm_groupnorm_args norm = norm_args(c, s);
    const struct fdm_resample_args halve = {.len = 2, .filter = quarter, .epilogue = {.scale = 1}};
    struct fdm_classifier_buffers *b = &c->buffers;
    struct fdm_map in = first_of(&b->x[s], n), out = first_of(&b->conv[s], n), act = first_of(&b->act[s], n);
    struct fdm_map next = first_of(&b->x[s + 1], n);
    c->backend->conv2d(&c->exec, &out, &in, &conv);
    c->backend->groupnorm(&c->exec, &act, &out, &norm);
    if (c->stage[s].halved) c->backend->resample(&c->exec, &next, &act, &halve);
}

void fdm_classifier_forward(fdm_classifier *c, const double *x, int n) {
    float filter[FDM_MAX_FILTER * FDM_MAX_FILTER];
    struct fdm_classifier_buffers *b = &c->buffers;
    const struct fdm_resample_args pool = {.len = last_side(c), .filter = filter, .epilogue = {.scale = 1}};
    const struct fdm_linear_args head = {.weight = c->packed + c->packed_at[HEAD_WEIGHT], .in_scale = 1};
    struct fdm_map in = first_of(&b->x[0], n), last = first_of(&b->x[STAGES], n), mean = first_of(&b->mean, n);
    struct fdm_vec features = first_rows(&b->features, n), logits = first_rows(&b->logits, n);
    mean_filter(filter, pool.len);
    c->backend->map_import(&c->exec, &in, x);
    for (int s = 0; s < STAGES; s++) forward_stage(c, s, n);
    c->backend->resample(&c->exec, &mean, &last, &pool);
    c->backend->linear(&c->exec, &logits, &features, &head);
}

/* ---- Backward ---------------------------------------------------------------------------------------------- */

/* d_logits = (p - 1{class})/n, p = softmax(logits); returns the mean of -log p[class]. */
static double loss_f32(const struct fdm_classifier *c, float *d, const float *logits, const int *classes, int n) {
    const int k = c->info.classes;
    double loss = 0;
    memcpy(d, logits, (size_t)n * (size_t)k * sizeof *d);
    c->exec.kernels->softmax_rows(d, n, k, k);
    for (int i = 0; i < n; i++) {
        float *row = d + (ptrdiff_t)i * k;
        loss -= log(fmax((double)row[classes[i]], 1e-45));
        row[classes[i]] -= 1;
        for (int j = 0; j < k; j++) row[j] *= 1 / (float)n;
    }
    return loss / n;
}

static double loss_f64(const struct fdm_classifier *c, double *d, const double *logits, const int *classes, int n) {
    const int k = c->info.classes;
    double loss = 0;
    for (int i = 0; i < n; i++) {
        const double *from = logits + (ptrdiff_t)i * k;
        double *row = d + (ptrdiff_t)i * k, most = from[0], sum = 0;
        for (int j = 1; j < k; j++) most = fmax(most, from[j]);
        for (int j = 0; j < k; j++) sum += row[j] = exp(from[j] - most);
        loss += log(sum) - (from[classes[i]] - most);
        for (int j = 0; j < k; j++) row[j] = (row[j] / sum - (j == classes[i])) / n;
    }
    return loss / n;
}

static void backward_stage(struct fdm_classifier *c, int s, int n, char *const gradient[]) {
    struct fdm_classifier_buffers *b = &c->buffers;
    struct fdm_map in = first_of(&b->x[s], n), conv = first_of(&b->conv[s], n), d_in = first_of(&b->d_x[s], n);
    struct fdm_map d_next = first_of(&b->d_x[s + 1], n), d_act = first_of(&b->d_act[s], n), d_conv = first_of(&b->d_conv[s], n);
    const int first = s * OF_STAGE;
    const struct fdm_resample_backward_args halve = {.len = 2, .filter = quarter, .scale = 1, .d_in = {.map = &d_act}};
    const struct fdm_groupnorm_backward_args norm = {.forward = norm_args(c, s), .d_in = {.map = &d_conv},
                                                     .d_weight = gradient[first + NORM_WEIGHT],
                                                     .d_bias = gradient[first + NORM_BIAS]};
    const struct fdm_conv2d_backward_args args = {.k = 3, .pad = 1, .scale = 1, .weight = value_at(c, first + CONV_WEIGHT),
                                                  .d_in = {.map = s > 0 ? &d_in : NULL}, /* nobody asks for that of the image */
                                                  .d_weight = gradient[first + CONV_WEIGHT],
                                                  .d_bias = gradient[first + CONV_BIAS]};
    if (c->stage[s].halved) c->backend->resample_backward(&c->exec, &d_next, &halve);
    c->backend->groupnorm_backward(&c->exec, &d_act, &conv, &norm);
    c->backend->conv2d_backward(&c->exec, &d_conv, &in, &args);
}

double fdm_classifier_backward(fdm_classifier *c, void *gradient, const int *classes, int n) {
    float filter[FDM_MAX_FILTER * FDM_MAX_FILTER];
    char *at[PARAMETERS];
    struct fdm_classifier_buffers *b = &c->buffers;
    struct fdm_vec d_logits = first_rows(&b->d_logits, n), d_features = first_rows(&b->d_features, n);
    struct fdm_vec features = first_rows(&b->features, n);
    struct fdm_map d_mean = first_of(&b->d_mean, n), d_last = first_of(&b->d_x[STAGES], n);
    const bool f32 = c->backend->dtype == FDM_F32;
    for (int i = 0; i < PARAMETERS; i++)
        at[i] = (char *)gradient + c->parameter[i].offset * fdm_dtype_size(c->backend->dtype);
    const struct fdm_linear_backward_args head = {.weight = value_at(c, HEAD_WEIGHT), .bias = value_at(c, HEAD_BIAS),
                                                  .in_scale = 1, .d_in = {.vec = &d_features}, .d_weight = at[HEAD_WEIGHT],
                                                  .d_bias = at[HEAD_BIAS]};
    const struct fdm_resample_backward_args pool = {.len = last_side(c), .filter = filter, .scale = 1, .d_in = {.map = &d_last}};
    const double loss = f32 ? loss_f32(c, d_logits.data, b->logits.data, classes, n)
                            : loss_f64(c, d_logits.data, b->logits.data, classes, n);
    mean_filter(filter, pool.len);
    c->backend->linear_backward(&c->exec, &d_logits, &features, &head);
    c->backend->resample_backward(&c->exec, &d_mean, &pool);
    for (int s = STAGES - 1; s >= 0; s--) backward_stage(c, s, n, at);
    return loss;
}

/* ---- Features ---------------------------------------------------------------------------------------------- */

static fdm_status check_size(const fdm_classifier *c, const fdm_images *images, fdm_error *err) {
    if (images->channels == c->info.channels && images->resolution == c->info.resolution) return FDM_OK;
    return fdm_fail(err, FDM_BAD_INPUT, "images of %d x %d x %d for a classifier of %d x %d x %d (channels, pixels)",
                    images->channels, images->resolution, images->resolution, c->info.channels, c->info.resolution,
                    c->info.resolution);
}

fdm_status fdm_classifier_features(fdm_features *features, double *logits, fdm_classifier *c, const fdm_images *images,
                                   fdm_error *err) {
    const size_t pixels = (size_t)images->channels * (size_t)images->resolution * (size_t)images->resolution;
    double *x = NULL;
    fdm_status status = check_size(c, images, err);
    if (status == FDM_OK) status = fdm_classifier_prepare(c, FDM_CLASSIFIER_BATCH, false, err);
    if (status == FDM_OK && !(x = malloc(FDM_CLASSIFIER_BATCH * pixels * sizeof *x)))
        status = fdm_fail_oom(err, "images", FDM_CLASSIFIER_BATCH * pixels * sizeof *x);
    if (status == FDM_OK) status = fdm_features_alloc(features, images->n, FEATURES, err);
    for (int64_t i = 0; i < images->n && status == FDM_OK; i += FDM_CLASSIFIER_BATCH) {
        const int n = (int)(images->n - i < FDM_CLASSIFIER_BATCH ? images->n - i : FDM_CLASSIFIER_BATCH);
        const struct fdm_vec rows = first_rows(&c->buffers.features, n), scores = first_rows(&c->buffers.logits, n);
        fdm_classifier_input(x, images->pixels + (size_t)i * pixels, (size_t)n * pixels);
        fdm_classifier_forward(c, x, n);
        c->backend->vec_export(features->values + i * FEATURES, &rows);
        if (logits) c->backend->vec_export(logits + i * c->info.classes, &scores);
    }
    free(x);
    return status;
}
