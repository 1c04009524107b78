/* cmd_sample.c - `fdm sample`: images from seeds, or from given latents. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/inputs.h"
#include "cli/ranks_mpi.h"
#include "fdm/denoiser.h"
#include "fdm/png.h"
#include "fdm/sample.h"
#include "fdm/tensorfile.h"
#include "io/io.h"

struct sample_options {
    const char *model, *outdir, *grid, *latents, *save_tensors;
    struct fdm_intlist seeds, classes;
    int64_t steps, batch;
    int solver, rng;
    double sigma_min, sigma_max, rho, S_churn, S_min, S_max, S_noise, rank_timeout;
    bool subdirs;
};

#define NAME(e, name) name,
static const char *const solver_names[] = {FDM_SOLVERS(NAME) NULL};
static const char *const rng_names[] = {FDM_RNG_KINDS(NAME) NULL};
#undef NAME

static const struct sample_options defaults = {.steps = 18, .batch = 64, .sigma_min = 0.002, .sigma_max = 80, .rho = 7,
                                               .S_max = INFINITY, .S_noise = 1, .rank_timeout = FDM_RANK_TIMEOUT};
static const struct fdm_option options[] = {
    FDM_OPTION_STRING(struct sample_options, model, "model", "FILE", "model file (.safetensors); required"),
    FDM_OPTION_STRING(struct sample_options, outdir, "outdir", "DIR", "where the PNG images go, made if missing"),
    FDM_OPTION_INTLIST(struct sample_options, seeds, "seeds", 0, INT64_MAX, "LIST", "one image per seed, such as 0-63,100 (default 0-63)"),
    FDM_OPTION_INT(struct sample_options, steps, "steps", 2, FDM_MAX_STEPS, "N", "steps of the noise grid (default 18)"),
    FDM_OPTION_ENUM(struct sample_options, solver, "solver", solver_names, "edm: Heun; dpm: DPM-Solver++ singlestep; dpm2m, dpm3m: multistep"),
    FDM_OPTION_FLOAT(struct sample_options, sigma_min, "sigma_min", 1e-12, 1e12, "X", "lowest noise level (default 0.002)"),
    FDM_OPTION_FLOAT(struct sample_options, sigma_max, "sigma_max", 1e-12, 1e12, "X", "highest noise level (default 80)"),
    FDM_OPTION_FLOAT(struct sample_options, rho, "rho", 1e-6, 1e6, "X", "exponent of the noise grid (default 7)"),
    FDM_OPTION_FLOAT(struct sample_options, S_churn, "S_churn", 0, 1e12, "X", "stochasticity strength (default 0)"),
    FDM_OPTION_FLOAT(struct sample_options, S_min, "S_min", 0, 1e12, "X", "stochasticity from this noise level (default 0)"),
    FDM_OPTION_FLOAT(struct sample_options, S_max, "S_max", 0, INFINITY, "X", "stochasticity up to this noise level (default inf)"),
    FDM_OPTION_FLOAT(struct sample_options, S_noise, "S_noise", 0, 1e12, "X", "inflation of the added noise (default 1)"),
    FDM_OPTION_INTLIST(struct sample_options, classes, "class", 0, 1048575, "LIST",
                       "this class for all (default: drawn per seed); several: every seed with each, in folders"),
    FDM_OPTION_INT(struct sample_options, batch, "batch", 1, 65536, "N", "images at a time (default 64); changes no bits"),
    FDM_OPTION_FLAG(struct sample_options, subdirs, "subdirs", "one folder per thousand seeds"),
    FDM_OPTION_STRING(struct sample_options, grid, "grid", "FILE.png", "all images in one picture"),
    FDM_OPTION_ENUM(struct sample_options, rng, "rng", rng_names, "whose random numbers a seed stands for"),
    FDM_OPTION_STRING(struct sample_options, latents, "latents", "FILE", "tensors latents (N,C,R,R) [noise (steps,N,C,R,R)] [class_labels] instead of seeds"),
    FDM_OPTION_STRING(struct sample_options, save_tensors, "save-tensors", "FILE", "x_final, t_steps, x_call, D_call, call_sigma ... as tensors"),
    FDM_OPTION_RANK_TIMEOUT(struct sample_options, rank_timeout),
    FDM_OPTION_END,
};

/* One whole run: everything that is n samples long. */
struct job {
    const struct sample_options *o;
    const fdm_ranks *ranks; /* each has a share of the samples, and of everything n samples long fills its share only */
    fdm_sample_options how;
    fdm_denoiser *denoiser;
    const fdm_config *config;
    int64_t n;
    size_t per_sample; /* C * R * R */
    uint64_t *seeds;   /* (N), or NULL with given latents */
    int64_t per_class; /* how many seeds: N, or N / classes */
    bool keep;         /* all images stay in memory, for --grid or --save-tensors; else those of one batch do */
    int64_t rows;      /* N or, if they do not stay, the batch */
    float *latents;    /* (rows, C, R, R), filled batch by batch from the seeds; or given, (N, C, R, R) */
    double *noise;     /* (steps, N, C, R, R) given with the latents, or NULL */
    double *labels;    /* (N, label_dim), or NULL */
    double *x;         /* (rows, C, R, R): results */
    uint8_t *pixels;   /* (rows, R, R, C) */
    fdm_tensors record; /* --save-tensors */
    struct fdm_progress progress;
    int64_t done; /* evaluations of D, counted per image */
    int first, count; /* the batch that runs now */
    double began;     /* when it did */
    double patience;  /* seconds that a batch may take another rank, silence apart */
    bool idle_ranks;  /* there are fewer samples than ranks, and rank 0 has not said yet what to expect */
    double *sigma;    /* (batch) one noise level repeated */
};

static void job_free(struct job *j) {
    fdm_denoiser_free(&j->denoiser);
    fdm_tensors_free(&j->record);
    free(j->seeds);
    free(j->latents);
    free(j->noise);
    free(j->labels);
    free(j->x);
    free(j->pixels);
    free(j->sigma);
}

/* --- inputs --- */

static void *allocate(size_t count, size_t size, const char *what, fdm_error *err, fdm_status *status) {
    void *p = NULL;
    size_t bytes;
    if (*status != FDM_OK) return NULL;
    if (!fdm_mul_size(&bytes, count, size) || !(p = malloc(bytes ? bytes : 1))) *status = fdm_fail_oom(err, what, count);
    return p;
}

/* Where the data of an image starts in a buffer of `rows` images. */
static size_t place(const struct job *j, int64_t image, bool all) {
    return (size_t)(all ? image : image - j->first) * j->per_sample;
}
static float *latents_of(const struct job *j, int64_t image) {
    return j->latents + place(j, image, j->keep || j->o->latents);
}

static fdm_status read_noise(struct job *j, const fdm_tensors *set, fdm_error *err) {
    const fdm_config *c = j->config;
    const int64_t r = c->img_resolution;
    const struct fdm_wanted noise = {"noise", 5, {0, j->n, c->img_channels, r, r}, .required = true};
    int64_t steps = j->how.num_steps;
    if (j->how.solver != FDM_SOLVER_EDM && j->how.solver != FDM_SOLVER_EULER) return FDM_OK; /* the others use none */
    if (j->how.S_churn > 0 || fdm_tensors_find(set, "noise"))
        return fdm_input_read(&j->noise, &steps, set, j->o->latents, &noise, err);
    return FDM_OK;
}

static fdm_status read_latents(struct job *j, fdm_error *err) {
    const fdm_config *c = j->config;
    const int64_t r = c->img_resolution;
    const char *path = j->o->latents;
    fdm_tensors set = {0};
    double *latents = NULL;
    fdm_status status = fdm_tensorfile_read(&set, path, err);
    const struct fdm_wanted wanted = {fdm_input_name(&set, path, "latents"), 4, {0, c->img_channels, r, r}, .required = true};
    const struct fdm_wanted labels = {"class_labels", 2, {0, c->label_dim}, .repeat = true};
    if (status == FDM_OK) status = fdm_input_read(&latents, &j->n, &set, path, &wanted, err);
    if (status == FDM_OK && c->label_dim) status = fdm_input_read(&j->labels, &j->n, &set, path, &labels, err);
    if (status == FDM_OK) status = read_noise(j, &set, err);
    const size_t count = (size_t)j->n * j->per_sample;
    j->latents = allocate(count, sizeof *j->latents, "latents", err, &status);
    for (size_t i = 0; i < count && status == FDM_OK; i++) j->latents[i] = (float)latents[i];
    free(latents);
    fdm_tensors_free(&set);
    return status;
}

/* With several classes all seeds come again for each: image i has seed i % count, class i / count. */
static fdm_status take_seeds(struct job *j, fdm_error *err) {
    const struct fdm_intlist *list = &j->o->seeds;
    fdm_status status = FDM_OK;
    j->per_class = list->count ? (int64_t)list->count : 64;
    j->n = j->per_class * (int64_t)(j->o->classes.count > 1 ? j->o->classes.count : 1);
    if (j->n > FDM_LIST_MAX)
        return fdm_fail(err, FDM_BAD_USAGE, "--seeds, --class: %lld seeds for each of %zu classes are more than %d images", (long long)j->per_class,
                        j->o->classes.count, FDM_LIST_MAX);
    j->seeds = allocate((size_t)j->n, sizeof *j->seeds, "seeds", err, &status);
    j->rows = j->keep || j->n < j->o->batch ? j->n : j->o->batch;
    j->latents = allocate((size_t)j->rows * j->per_sample, sizeof *j->latents, "latents", err, &status);
    for (int64_t i = 0; i < j->n && status == FDM_OK; i++) {
        const int64_t k = i % j->per_class;
        j->seeds[i] = (uint64_t)(list->count ? list->items[k] : k);
    }
    return status;
}

static int64_t class_of(const struct job *j, int64_t image) {
    const struct fdm_intlist *classes = &j->o->classes;
    return classes->items[classes->count > 1 ? image / j->per_class : 0];
}

static fdm_status prepare(struct job *j, fdm_error *err) {
    const struct sample_options *o = j->o;
    const fdm_config *c = j->config;
    const size_t label_dim = (size_t)c->label_dim;
    j->per_sample = (size_t)c->img_channels * (size_t)c->img_resolution * (size_t)c->img_resolution;
    for (size_t k = 0; k < o->classes.count; k++)
        if (o->classes.items[k] >= c->label_dim)
            return fdm_fail(err, FDM_BAD_USAGE, "--class %lld: the model has %d classes", (long long)o->classes.items[k], c->label_dim);
    fdm_status status = o->latents ? read_latents(j, err) : take_seeds(j, err);
    const size_t n = (size_t)j->n;
    if (status == FDM_OK && label_dim && !j->labels) {
        j->labels = allocate(n, label_dim * sizeof *j->labels, "class labels", err, &status);
        if (j->labels) memset(j->labels, 0, n * label_dim * sizeof *j->labels);
    }
    for (size_t i = 0; status == FDM_OK && o->classes.count && i < n; i++) {
        memset(j->labels + i * label_dim, 0, label_dim * sizeof *j->labels);
        j->labels[i * label_dim + (size_t)class_of(j, (int64_t)i)] = 1;
    }
    j->rows = j->keep || j->n < o->batch ? j->n : o->batch;
    j->x = allocate((size_t)j->rows, j->per_sample * sizeof *j->x, "images", err, &status);
    j->pixels = allocate((size_t)j->rows, j->per_sample, "pixels", err, &status);
    j->sigma = allocate((size_t)o->batch, sizeof *j->sigma, "noise levels", err, &status);
    return status;
}

/* --- recording (--save-tensors) --- */

static fdm_status add_record(struct job *j, const char *name, fdm_dtype dtype, int64_t calls, fdm_error *err) {
    const int64_t r = j->config->img_resolution;
    const int64_t per_call[] = {calls, j->n, j->config->img_channels, r, r};
    return fdm_tensors_add(&j->record, name, dtype, calls ? 5 : 4, calls ? per_call : per_call + 1, NULL, err);
}

static fdm_status add_vector(struct job *j, const char *name, const double *values, int64_t count, fdm_error *err) {
    fdm_tensor *t;
    const fdm_status status = fdm_tensors_add(&j->record, name, FDM_F64, 1, &count, &t, err);
    if (status == FDM_OK && values) memcpy(t->data, values, (size_t)count * sizeof *values);
    return status;
}

/* t_steps: the grid of edm and euler (N + 1 levels, the last 0), or the outer steps of the DPM solvers. */
static fdm_status record_grid(struct job *j, fdm_error *err) {
    const int steps = j->how.num_steps;
    const fdm_precond *p = &j->config->precond;
    fdm_status status = FDM_OK;
    int64_t count = steps + 1;
    double *t = allocate((size_t)count, sizeof *t, "noise grid", err, &status);
    float *f = allocate((size_t)count, sizeof *f, "noise grid", err, &status);
    if (status == FDM_OK && (j->how.solver == FDM_SOLVER_EDM || j->how.solver == FDM_SOLVER_EULER)) {
        status = fdm_edm_grid(t, &j->how, p->sigma_min, p->sigma_max, err);
    } else if (status == FDM_OK) {
        const int intervals = j->how.solver == FDM_SOLVER_DPM ? fdm_dpm_step_count(steps) : steps - 1;
        fdm_dpm_grid(f, (float)j->how.sigma_max, (float)j->how.sigma_min, intervals);
        count = intervals + 1;
        for (int i = 0; i <= intervals; i++) t[i] = (double)f[i];
    }
    if (status == FDM_OK) status = add_vector(j, "t_steps", t, count, err);
    free(t);
    free(f);
    return status;
}

static fdm_status start_record(struct job *j, fdm_error *err) {
    const int64_t calls = fdm_sample_nfe(&j->how);
    fdm_status status = record_grid(j, err);
    if (status == FDM_OK) status = add_vector(j, "call_sigma", NULL, calls, err);
    if (status == FDM_OK) status = add_record(j, "x_call", FDM_F64, calls, err);
    if (status == FDM_OK) status = add_record(j, "D_call", fdm_denoiser_dtype(j->denoiser), calls, err);
    if (status == FDM_OK) status = add_record(j, "x_final", FDM_F64, 0, err);
    if (status == FDM_OK) status = add_record(j, "latents", FDM_F32, 0, err);
    if (status == FDM_OK && j->labels) {
        const int64_t shape[] = {j->n, j->config->label_dim};
        status = fdm_tensors_add(&j->record, "class_labels", FDM_F32, 2, shape, NULL, err);
    }
    return status;
}

static void record_call(struct job *j, const fdm_sample_event *e) {
    const size_t count = (size_t)j->count * j->per_sample;
    const size_t at = ((size_t)e->call * (size_t)j->n + (size_t)j->first) * j->per_sample;
    const fdm_tensor *D = fdm_tensors_find(&j->record, "D_call");
    ((double *)fdm_tensors_find(&j->record, "call_sigma")->data)[e->call] = e->sigma;
    memcpy((double *)fdm_tensors_find(&j->record, "x_call")->data + at, e->x, count * sizeof(double));
    for (size_t i = 0; i < count; i++) {
        if (D->dtype == FDM_F64) ((double *)D->data)[at + i] = e->D[i];
        else ((float *)D->data)[at + i] = (float)e->D[i];
    }
}

static fdm_status write_record(struct job *j, fdm_error *err) {
    const size_t count = (size_t)j->n * j->per_sample;
    memcpy(fdm_tensors_find(&j->record, "x_final")->data, j->x, count * sizeof(double));
    memcpy(fdm_tensors_find(&j->record, "latents")->data, j->latents, count * sizeof(float));
    const fdm_tensor *labels = fdm_tensors_find(&j->record, "class_labels");
    for (int64_t i = 0; labels && i < fdm_tensor_numel(labels); i++) ((float *)labels->data)[i] = (float)j->labels[i];
    return fdm_tensorfile_write(&j->record, j->o->save_tensors, err);
}

/* --- sampling --- */

static fdm_status call_denoiser(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err) {
    struct job *j = ctx;
    for (int i = 0; i < n; i++) j->sigma[i] = sigma;
    const fdm_denoise_args args = {
        .n = n,
        .x = x,
        .sigma = j->sigma,
        .class_labels = j->labels ? j->labels + (size_t)j->first * (size_t)j->config->label_dim : NULL,
        .stop = fdm_stop_if_interrupted,
    };
    const fdm_status status = fdm_denoise(j->denoiser, D, &args, err);
    const size_t count = status == FDM_OK ? (size_t)n * j->per_sample : 0;
    for (size_t i = 0; i < count; i++)
        if (!isfinite((float)D[i]))
            return fdm_fail(err, FDM_BAD_INPUT, "%s: the output at sigma %g is %g (image %zu); these weights overflow, try "
                            "--backend reference", j->o->model, sigma, D[i], (size_t)j->first + i / j->per_sample);
    return status;
}

/* Collective, once, among ranks that have not all a sample: those without can tell from nothing else how long to wait.  Rank 0
 * knows after its first evaluation. */
static fdm_status expect_batch(struct job *j, fdm_error *err) {
    double seconds = (fdm_cli_now() - j->began) * (double)fdm_sample_nfe(&j->how);
    if (!j->idle_ranks) return FDM_OK;
    j->idle_ranks = false;
    const fdm_status status = fdm_ranks_broadcast(j->ranks, &seconds, sizeof seconds, err);
    if (status == FDM_OK && seconds > j->patience) j->patience = seconds;
    return status;
}

static fdm_status on_call(void *ctx, const fdm_sample_event *event, fdm_error *err) {
    struct job *j = ctx;
    if (fdm_interrupted()) return fdm_fail_interrupted(err);
    const fdm_status status = expect_batch(j, err);
    if (status != FDM_OK) return status;
    if (j->o->save_tensors) record_call(j, event);
    j->done += j->count;
    fdm_progress_update(&j->progress, j->done);
    return FDM_OK;
}

/* A run with its own noise array: the steps of a batch lie apart in the (steps, N, C, R, R) file. */
static fdm_status draw_given(void *ctx, double *noise, int step, int n, size_t per_sample, fdm_error *err) {
    const struct job *j = ctx;
    (void)err;
    const size_t at = ((size_t)step * (size_t)j->n + (size_t)j->first) * per_sample;
    memcpy(noise, j->noise + at, (size_t)n * per_sample * sizeof *noise);
    return FDM_OK;
}

/* Latents and labels of the batch from its seeds; leaves the generators where the step noise begins. */
static void draw_batch(struct job *j, fdm_rng *rngs) {
    const int label_dim = j->config->label_dim;
    fdm_sample_seed_rngs(rngs, (fdm_rng_kind)j->o->rng, j->seeds + j->first, j->count);
    for (int i = 0; i < j->count; i++) {
        const size_t at = (size_t)(j->first + i);
        int64_t label = 0;
        fdm_sample_draw_latents(latents_of(j, j->first + i), &label, &rngs[i], 1, j->per_sample, label_dim);
        if (label_dim && !j->o->classes.count) j->labels[at * (size_t)label_dim + (size_t)label] = 1;
    }
}

static fdm_status sample_batch(struct job *j, fdm_error *err) {
    const fdm_config *c = j->config;
    fdm_status status = FDM_OK;
    fdm_rng *rngs = NULL;
    if (j->seeds) {
        rngs = allocate((size_t)j->count, sizeof *rngs, "random generators", err, &status);
        if (status != FDM_OK) return status;
        draw_batch(j, rngs);
    }
    fdm_noise_rngs source = {rngs};
    const fdm_noise_fn from_rngs = {fdm_noise_from_rngs, &source}, given = {draw_given, j};
    const fdm_noise_fn *noise = rngs ? &from_rngs : j->noise ? &given : NULL;
    const fdm_denoise_fn net = {call_denoiser, j, c->precond.sigma_min, c->precond.sigma_max, j->count, c->img_channels,
                                c->img_resolution, c->img_resolution};
    const fdm_sample_hook hook = {on_call, j};
    const size_t at = place(j, j->first, j->keep);
    status = fdm_sample(j->x + at, NULL, latents_of(j, j->first), &net, noise, &hook, &j->how, err);
    for (int i = 0; i < j->count && status == FDM_OK; i++) {
        const size_t image = at + (size_t)i * j->per_sample;
        fdm_pixels_from_x(j->pixels + image, j->x + image, c->img_channels, c->img_resolution, c->img_resolution);
    }
    free(rngs);
    return status;
}

/* --- outputs --- */

/* Before the work begins: can everything be written?  Images by every rank, the rest by the first. */
static fdm_status check_outputs(const struct job *j, fdm_error *err) {
    const struct sample_options *o = j->o;
    const bool first = fdm_ranks_is_first(j->ranks);
    fdm_status status = o->outdir ? fdm_make_folders(o->outdir, err) : FDM_OK;
    if (status == FDM_OK && o->outdir && access(o->outdir, W_OK | X_OK) != 0)
        status = fdm_fail(err, FDM_NO_RESOURCE, "%s: cannot write here: %s", o->outdir, strerror(errno));
    if (status == FDM_OK && first && o->grid) status = fdm_output_check(o->grid, false, err);
    if (status == FDM_OK && first && o->save_tensors) status = fdm_output_check(o->save_tensors, true, err);
    return status;
}

/* outdir/000123.png; outdir/3/000123.png of class 3, if there are several; outdir/000000/000123.png with --subdirs; without
 * seeds the index in the file of latents. */
static fdm_status write_image(const struct job *j, int64_t index, fdm_error *err) {
    char path[4096];
    const unsigned long long name = j->seeds ? j->seeds[index] : (unsigned long long)index;
    const int r = j->config->img_resolution;
    const bool classes = j->o->classes.count > 1;
    int used = snprintf(path, sizeof path, "%s", j->o->outdir);
    if (classes && used < (int)sizeof path)
        used += snprintf(path + used, sizeof path - (size_t)used, "/%lld", (long long)class_of(j, index));
    if (j->o->subdirs && used < (int)sizeof path)
        used += snprintf(path + used, sizeof path - (size_t)used, "/%06llu", name - name % 1000);
    const fdm_status status = (classes || j->o->subdirs) && used < (int)sizeof path ? fdm_make_folders(path, err) : FDM_OK;
    if (status != FDM_OK) return status;
    if (used < (int)sizeof path) used += snprintf(path + used, sizeof path - (size_t)used, "/%06llu.png", name);
    if (used >= (int)sizeof path) return fdm_fail(err, FDM_BAD_USAGE, "--outdir: the path is too long");
    return fdm_png_write(path, j->pixels + place(j, index, j->keep), r, r, j->config->img_channels, err);
}

static fdm_status run_batch(struct job *j, fdm_error *err) {
    fdm_status status = j->count ? sample_batch(j, err) : FDM_OK;
    for (int i = 0; i < j->count && status == FDM_OK && j->o->outdir; i++) status = write_image(j, j->first + i, err);
    return status;
}

/* This rank's share; as many batches on every rank, the last of them perhaps an empty one.  After each the ranks agree, so that
 * what one of them runs into soon ends all.  They wait for each other as long as the longest batch took and the time that silence
 * is allowed. */
static fdm_status run_batches(struct job *j, fdm_error *err) {
    const fdm_ranks_share mine = fdm_ranks_share_of(j->ranks, j->n), largest = fdm_ranks_share_for(j->ranks, j->n, 0);
    fdm_status status = FDM_OK;
    j->idle_ranks = j->n < fdm_ranks_size(j->ranks);
    for (int64_t done = 0; done < largest.end && status == FDM_OK; done += j->o->batch) {
        const int64_t left = mine.end - mine.first - done;
        fdm_error lost;
        j->began = fdm_cli_now();
        j->first = (int)(mine.first + done);
        j->count = (int)(left < 0 ? 0 : left < j->o->batch ? left : j->o->batch);
        status = run_batch(j, err);
        const fdm_status told = expect_batch(j, &lost); /* those without a sample, and whoever failed before an evaluation */
        if (status == FDM_OK && told != FDM_OK) status = fdm_fail(err, told, "%s", lost.message);
        if (fdm_cli_now() - j->began > j->patience) j->patience = fdm_cli_now() - j->began;
        status = fdm_ranks_agree_after(j->ranks, status, j->patience, err);
    }
    return status;
}

/* What the first rank writes, from all of them. */
static fdm_status gather_outputs(struct job *j, fdm_error *err) {
    const size_t per = j->per_sample;
    fdm_status status = FDM_OK;
    if (j->o->grid) status = fdm_ranks_gather(j->ranks, j->pixels, per, j->n, err);
    if (status != FDM_OK || !j->o->save_tensors) return status;
    status = fdm_ranks_gather(j->ranks, j->x, per * sizeof *j->x, j->n, err);
    if (status == FDM_OK) status = fdm_ranks_gather(j->ranks, j->latents, per * sizeof *j->latents, j->n, err);
    if (status == FDM_OK && j->labels)
        status = fdm_ranks_gather(j->ranks, j->labels, (size_t)j->config->label_dim * sizeof *j->labels, j->n, err);
    const fdm_tensor *const recorded[] = {fdm_tensors_find(&j->record, "x_call"), fdm_tensors_find(&j->record, "D_call")};
    for (size_t k = 0; k < FDM_ARRAY_LEN(recorded); k++) { /* (calls, N, C, R, R) */
        const size_t item = per * fdm_dtype_size(recorded[k]->dtype);
        for (int64_t call = 0; call < recorded[k]->shape[0] && status == FDM_OK; call++)
            status = fdm_ranks_gather(j->ranks, (char *)recorded[k]->data + (size_t)(call * j->n) * item, item, j->n, err);
    }
    return status;
}

static fdm_status write_outputs(struct job *j, fdm_error *err) {
    const int r = j->config->img_resolution;
    const int columns = j->o->classes.count > 1 ? (int)j->per_class : 0; /* a row per class, or about a square */
    fdm_image grid = {0};
    fdm_status status = FDM_OK;
    if (j->o->grid) {
        status = fdm_image_grid(&grid, j->pixels, (int)j->n, j->config->img_channels, r, r, false,
                                columns, err);
        if (status == FDM_OK)
            status = fdm_png_write(j->o->grid, grid.pixels, grid.width, grid.height, grid.channels, err);
        fdm_image_free(&grid);
    }
    if (status == FDM_OK && j->o->save_tensors) status = write_record(j, err);
    return status;
}

static fdm_sample_options solver_options(const struct sample_options *o) {
    return (fdm_sample_options){(fdm_solver)o->solver, (int)o->steps, o->sigma_min, o->sigma_max, o->rho,
                                o->S_churn, o->S_min, o->S_max, o->S_noise};
}

static fdm_status check_options(const struct fdm_cli *cli, const struct sample_options *o, fdm_error *err) {
    if (!o->model) return fdm_fail(err, FDM_BAD_USAGE, "--model is required; see fdm help sample");
    if (!o->outdir && !o->grid && !o->save_tensors)
        return fdm_fail(err, FDM_BAD_USAGE, "nothing to write: give --outdir, --grid or --save-tensors");
    if (o->latents && fdm_cli_given(cli, "seeds"))
        return fdm_fail(err, FDM_BAD_USAGE, "--latents and --seeds exclude each other");
    if (o->latents && o->classes.count > 1) return fdm_fail(err, FDM_BAD_USAGE, "--latents takes one --class, or class_labels in its file");
    return FDM_OK;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct sample_options *o = values;
    const fdm_run_options how = fdm_cli_run_options(cli);
    struct job j = {.o = o, .how = solver_options(o), .keep = o->grid || o->save_tensors, .ranks = cli->ranks};
    fdm_world_set_patience(cli->world, o->rank_timeout, 0);
    fdm_status status = check_options(cli, o, err);
    if (status == FDM_OK) status = fdm_sample_check(&j.how, err);
    if (status == FDM_OK) status = fdm_denoiser_load(&j.denoiser, o->model, &how, err);
    if (status == FDM_OK) {
        j.config = fdm_denoiser_config(j.denoiser);
        status = prepare(&j, err);
    }
    if (status == FDM_OK) status = check_outputs(&j, err); /* bad input leaves no folder behind */
    if (status == FDM_OK && o->save_tensors) status = start_record(&j, err);
    status = fdm_ranks_agree(j.ranks, status, NULL, err);
    if (status == FDM_OK) status = fdm_input_check_same(j.ranks, o->model, err);
    if (status == FDM_OK && o->latents) status = fdm_input_check_same(j.ranks, o->latents, err);
    if (status == FDM_OK) {
        fdm_progress_start(&j.progress, cli, "sampling", j.ranks ? "evaluations on each rank" : "evaluations",
                           fdm_ranks_share_for(j.ranks, j.n, 0).end * fdm_sample_nfe(&j.how));
        status = run_batches(&j, err);
        fdm_progress_end(&j.progress, status == FDM_OK);
    }
    if (status == FDM_OK) status = gather_outputs(&j, err);
    if (status == FDM_OK && fdm_ranks_is_first(j.ranks)) status = write_outputs(&j, err);
    if (status == FDM_OK && cli->verbose)
        fprintf(stderr, "%lld images, %d network evaluations each, on %s\n", (long long)j.n, fdm_sample_nfe(&j.how),
                fdm_denoiser_backend_name(j.denoiser));
    job_free(&j);
    return status;
}

const struct fdm_command fdm_cmd_sample = {
    .name = "sample",
    .arguments = "",
    .summary = "images from seeds",
    .description =
        "Samples one image per seed.  An image depends on its seed, the model and the solver's options alone: not on\n"
        "the batch, the threads or the instruction set.  The seeds are those of the published generate script: torch-cpu\n"
        "gives its images when it runs on the CPU, torch-cuda those of a GPU.  The published script uses its DPM solver\n"
        "for the first batch only and the EDM sampler for the rest; here the solver asked for makes every image.\n"
        "--latents takes the noise from a file instead, for instance from a GPU run.\n"
        "Over several machines (mpirun -n 4 fdm sample ..., see data/recipes/) each rank makes a share of the images, the same ones to\n"
        "the bit, and writes their PNGs to --outdir, which all must see; the first rank writes --grid and --save-tensors.",
    .examples = "  fdm sample --model model.safetensors --outdir out --seeds 0-63 --grid out/grid.png\n"
                "  fdm sample --model model.safetensors --outdir out --solver dpm --steps 10 --class 3\n"
                "  fdm sample --model model.safetensors --outdir out --class 0-9 --seeds 0-7 --grid out/classes.png\n"
                "  fdm sample --model model.safetensors --latents z.npz --save-tensors states.safetensors\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .over_ranks = true,
    .run = run,
};
