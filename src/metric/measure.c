/* measure.c - every measure of two sets, with bootstrap intervals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "metric/statistics.h"

enum { MAX_BOOTSTRAP = 100000 };

fdm_metric_options fdm_metric_defaults(void) {
    return (fdm_metric_options){.k = 3, .bootstrap = 200, .confidence = 0.95};
}

/* ---- Intervals --------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The p-quantile of sorted numbers, linear between them. */
static double quantile(const double *sorted, int n, double p) {
    const double at = p * (n - 1);
    const int below = fdm_min_int((int)at, n - 1), above = fdm_min_int(below + 1, n - 1);
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

/* The pivotal interval from the resampled values, which get sorted.  `stretch`: deviations of the resampled values are
 * multiplied by it. */
static fdm_metric_estimate estimate_of(double value, double *resampled, int n, double confidence, double stretch) {
    fdm_metric_estimate e = {.value = value, .low = NAN, .high = NAN, .bias = NAN, .standard_error = NAN};
    double mean = 0, squares = 0;
    if (n < 2) return e;
    qsort(resampled, (size_t)n, sizeof *resampled, by_size);
    for (int i = 0; i < n; i++) mean += resampled[i];
    mean /= n;
    for (int i = 0; i < n; i++) squares += (resampled[i] - mean) * (resampled[i] - mean);
    const double tail = (1 - confidence) / 2;
    e.bias = mean - value;
    e.standard_error = stretch * sqrt(squares / (n - 1));
    e.low = value - stretch * (quantile(resampled, n, 1 - tail) - mean);
    e.high = value - stretch * (quantile(resampled, n, tail) - mean);
    return e;
}

/* What the measure cannot be lies outside of the interval, if there is one. */
static void limit(fdm_metric_estimate *e, double least, double most) {
    if (isnan(e->low)) return;
    e->low = fmax(e->low, least);
    e->high = fmin(e->high, most);
}

/* ---- Frechet distance -------------------------------------------------------------------------------------- */

/* What one thread needs for a resampling. */
struct resampling {
    fdm_gaussian g[2];
    int *weight;
    double *work;
};

static void free_resampling(struct resampling *r) {
    fdm_gaussian_free(&r->g[0]);
    fdm_gaussian_free(&r->g[1]);
    free(r->weight);
    free(r->work);
}

static fdm_status alloc_resampling(struct resampling *r, int d, int64_t rows, fdm_error *err) {
    fdm_status status = fdm_gaussian_alloc(&r->g[0], d, err);
    if (status == FDM_OK) status = fdm_gaussian_alloc(&r->g[1], d, err);
    r->weight = malloc((size_t)rows * sizeof *r->weight);
    r->work = malloc(fdm_frechet_work(d) * sizeof *r->work);
    if (status == FDM_OK && (!r->weight || !r->work))
        status = fdm_fail_oom(err, "bootstrap", fdm_frechet_work(d) * sizeof *r->work);
    return status;
}

/* weight[i] = how often row i is drawn, n draws in all */
static void draw_weights(int *weight, int64_t n, uint64_t seed, enum fdm_metric_stream stream, int draw) {
    memset(weight, 0, (size_t)n * sizeof *weight);
    for (int64_t i = 0; i < n; i++) weight[fdm_metric_random(seed, stream, (uint32_t)draw, (uint64_t)i, (uint64_t)n)]++;
}

struct frechet {
    const fdm_metric_side *side[2];
    const fdm_gaussian *gaussian[2];
    const fdm_metric_options *options;
};

static fdm_status resampled_frechet(double *distance, const struct frechet *f, struct resampling *r, int draw, fdm_error *err) {
    static const enum fdm_metric_stream streams[2] = {FDM_STREAM_BOOTSTRAP_REF, FDM_STREAM_BOOTSTRAP_IMAGES};
    const fdm_gaussian *g[2];
    for (int s = 0; s < 2; s++) {
        const fdm_features *x = f->side[s]->features;
        g[s] = x ? &r->g[s] : f->gaussian[s];
        if (!x) continue;
        draw_weights(r->weight, x->n, f->options->seed, streams[s], draw);
        fdm_weighted_gaussian(r->g[s].mu, r->g[s].sigma, x, r->weight, x->n, 1);
    }
    return fdm_frechet_checked(distance, g[0], g[1], r->work, err);
}

static bool stopped(const fdm_metric_options *o) { return o->stop && o->stop(o->stop_user); }

/* values[b] for every resampling b; the work of a resampling stays in one thread of one rank. */
static fdm_status bootstrap_frechet(double *values, const struct frechet *f, fdm_error *err) {
    const double begun = fdm_now();
    const fdm_ranks *ranks = f->options->ranks;
    const fdm_ranks_share mine = fdm_ranks_share_of(ranks, f->options->bootstrap);
    int failures = 0;
    int64_t rows = 1;
    fdm_status result = FDM_OK;
    for (int s = 0; s < 2; s++)
        if (f->side[s]->features && f->side[s]->features->n > rows) rows = f->side[s]->features->n;
#pragma omp parallel num_threads(f->options->threads)
    {
        struct resampling r = {0};
        fdm_error own = {0};
        fdm_status status = alloc_resampling(&r, f->gaussian[0]->d, rows, &own);
#pragma omp for schedule(static)
        for (int b = (int)mine.first; b < (int)mine.end; b++) {
            if (status == FDM_OK && stopped(f->options)) status = fdm_fail(&own, FDM_INTERRUPTED, "interrupted");
            if (status == FDM_OK) status = resampled_frechet(&values[b], f, &r, b, &own);
        }
        free_resampling(&r);
        if (status != FDM_OK) { /* the first that fails tells; not `critical`, whose lock is a global */
            int before;
#pragma omp atomic capture
            before = failures++;
            if (before == 0) {
                result = status;
                if (err) *err = own;
            }
        }
    }
    result = fdm_metric_agree_after(ranks, result, fdm_now() - begun, err);
    return result == FDM_OK ? fdm_ranks_gather_all(ranks, values, sizeof *values, f->options->bootstrap, err) : result;
}

static fdm_status measure_frechet(fdm_metric_estimate *e, const struct frechet *f, double *resampled, fdm_error *err) {
    const double begun = fdm_now();
    const bool sampled = f->side[0]->features || f->side[1]->features;
    double value;
    fdm_status status = fdm_frechet_distance(&value, f->gaussian[0], f->gaussian[1], err);
    status = fdm_metric_agree_after(f->options->ranks, status, fdm_now() - begun, err);
    if (status == FDM_OK && sampled && f->options->bootstrap) status = bootstrap_frechet(resampled, f, err);
    if (status != FDM_OK) return status;
    *e = estimate_of(value, resampled, sampled ? f->options->bootstrap : 0, f->options->confidence, 1);
    limit(e, 0, INFINITY);
    return FDM_OK;
}

/* ---- Means of independent values: the kernel distance's blocks, the counts of precision and recall -------- */

static double mean_of(const double *values, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += values[i];
    return sum / (double)n;
}

/* How much further the quantiles of Student's distribution lie out than the normal ones, for a mean of n values whose spread
 * is estimated from themselves: the first terms of the Cornish-Fisher series, z the normal quantile. */
static double student_stretch(int64_t n, double confidence) {
    const double nu = (double)(n - 1);
    double low = 0, high = 10; /* erfc(z/sqrt(2)) = 1 - confidence */
    for (int i = 0; i < 60; i++) {
        const double z = (low + high) / 2;
        if (erfc(z / sqrt(2)) > 1 - confidence) low = z;
        else high = z;
    }
    const double z2 = low * low;
    return 1 + (z2 + 1) / (4 * nu) + (5 * z2 * z2 + 16 * z2 + 3) / (96 * nu * nu);
}

static fdm_metric_estimate estimate_mean(const double *values, int64_t n, enum fdm_metric_stream stream,
                                         const fdm_metric_options *o, double *resampled) {
    const int draws = n > 1 ? o->bootstrap : 0; /* one value says nothing of its error */
    for (int b = 0; b < draws; b++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += values[fdm_metric_random(o->seed, stream, (uint32_t)b, (uint64_t)i, (uint64_t)n)];
        resampled[b] = sum / (double)n;
    }
    if (!draws) return estimate_of(mean_of(values, n), resampled, 0, o->confidence, 1);
    /* the resampled means of n values spread by sqrt((n - 1)/n) too little */
    const double stretch = sqrt((double)n / (double)(n - 1)) * student_stretch(n, o->confidence);
    fdm_metric_estimate e = estimate_of(mean_of(values, n), resampled, draws, o->confidence, stretch);
    e.standard_error /= student_stretch(n, o->confidence);
    return e;
}

static fdm_status measure_kernel(fdm_metric_report *report, const fdm_features *ref, const fdm_features *images,
                                 const fdm_metric_options *o, double *resampled, fdm_error *err) {
    double *values;
    report->block = o->block;
    const fdm_status status =
        fdm_kernel_distance(&values, &report->blocks, &report->block, ref, images, o->seed, o->threads, o->ranks, err);
    if (status == FDM_OK) report->kernel = estimate_mean(values, report->blocks, FDM_STREAM_BOOTSTRAP_KERNEL, o, resampled);
    free(values);
    return status;
}

static fdm_status measure_share(fdm_metric_estimate *e, const fdm_features *points, const fdm_features *set,
                                enum fdm_metric_stream stream, const fdm_metric_options *o, double *resampled, fdm_error *err) {
    uint8_t *inside = malloc((size_t)points->n);
    double *values = malloc((size_t)points->n * sizeof *values);
    fdm_status status = inside && values ? FDM_OK : fdm_fail_oom(err, "precision and recall", (size_t)points->n * 9);
    status = fdm_metric_agree(o->ranks, status, err);
    if (status == FDM_OK) status = fdm_manifold_contains(inside, points, set, o->k, o->threads, o->ranks, err);
    if (status == FDM_OK) {
        for (int64_t i = 0; i < points->n; i++) values[i] = inside[i];
        *e = estimate_mean(values, points->n, stream, o, resampled);
        limit(e, 0, 1);
    }
    free(inside);
    free(values);
    return status;
}

/* ---- All of them ------------------------------------------------------------------------------------------- */

static fdm_status check(const fdm_metric_side *ref, const fdm_metric_side *images, const fdm_metric_options *o, fdm_error *err) {
    if ((!ref->features && !ref->gaussian) || (!images->features && !images->gaussian))
        return fdm_fail(err, FDM_BAD_USAGE, "a side with neither features nor a mean and covariance");
    if (o->bootstrap < 0 || o->bootstrap == 1 || o->bootstrap > MAX_BOOTSTRAP)
        return fdm_fail(err, FDM_BAD_USAGE, "bootstrap: %d resamplings; 0, or 2 to %d are possible", o->bootstrap, MAX_BOOTSTRAP);
    if (!(o->confidence > 0 && o->confidence < 1))
        return fdm_fail(err, FDM_BAD_USAGE, "confidence: %g; it lies between 0 and 1", o->confidence);
    return FDM_OK;
}

static fdm_metric_estimate nothing(void) { return (fdm_metric_estimate){NAN, NAN, NAN, NAN, NAN}; }

/* All ranks, once one of them is told to stop. */
static fdm_status go_on(const fdm_metric_options *o, fdm_error *err) {
    return fdm_metric_agree(o->ranks, stopped(o) ? fdm_fail(err, FDM_INTERRUPTED, "interrupted") : FDM_OK, err);
}

static fdm_status measure_samples(fdm_metric_report *report, const fdm_features *ref, const fdm_features *images,
                                  const fdm_metric_options *o, double *resampled, fdm_error *err) {
    fdm_status status = go_on(o, err);
    if (status == FDM_OK) status = measure_kernel(report, ref, images, o, resampled, err);
    if (status == FDM_OK)
        status = measure_share(&report->precision, images, ref, FDM_STREAM_BOOTSTRAP_PRECISION, o, resampled, err);
    if (status == FDM_OK) status = go_on(o, err);
    if (status == FDM_OK)
        status = measure_share(&report->recall, ref, images, FDM_STREAM_BOOTSTRAP_RECALL, o, resampled, err);
    return status;
}

fdm_status fdm_metric_measure(fdm_metric_report *report, const fdm_metric_side *ref, const fdm_metric_side *images,
                              const fdm_metric_options *options, fdm_error *err) {
    const double begun = fdm_now();
    struct frechet f = {.side = {ref, images}, .options = options};
    fdm_metric_options o = *options;
    fdm_gaussian fitted[2] = {{0}};
    *report = (fdm_metric_report){.frechet = nothing(), .kernel = nothing(), .precision = nothing(), .recall = nothing()};
    o.threads = o.threads ? o.threads : fdm_max_threads();
    f.options = &o;
    fdm_status status = check(ref, images, &o, err);
    for (int s = 0; s < 2 && status == FDM_OK; s++) {
        f.gaussian[s] = f.side[s]->gaussian ? f.side[s]->gaussian : &fitted[s];
        if (!f.side[s]->gaussian) status = fdm_gaussian_fit(&fitted[s], f.side[s]->features, o.threads, err);
    }
    double *resampled = NULL;
    if (status == FDM_OK && !(resampled = malloc(((size_t)o.bootstrap + 1) * sizeof *resampled)))
        status = fdm_fail_oom(err, "bootstrap", ((size_t)o.bootstrap + 1) * sizeof *resampled);
    status = fdm_metric_agree_after(o.ranks, status, fdm_now() - begun, err); /* each of them found the covariances */
    if (status == FDM_OK) status = measure_frechet(&report->frechet, &f, resampled, err);
    if (status == FDM_OK) {
        report->d = f.gaussian[0]->d;
        report->ref_count = ref->features ? ref->features->n : 0;
        report->image_count = images->features ? images->features->n : 0;
    }
    if (status == FDM_OK && ref->features && images->features)
        status = measure_samples(report, ref->features, images->features, &o, resampled, err);
    free(resampled);
    fdm_gaussian_free(&fitted[0]);
    fdm_gaussian_free(&fitted[1]);
    return status;
}
