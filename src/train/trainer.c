/* trainer.c - one update of a training run, and its state as tensors. */
#include "fdm/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "base/threads.h"
#include "fdm/train_schedule.h"
#include "simd/kernels.h"
#include "train/optimizer.h"
#include "train/rank_tree.h"
#include "train/trainer.h"

enum { FLAT_ARRAYS = 3 };

struct fdm_trainer {
    fdm_trainer_options options;
    fdm_gradient *g;
    fdm_accumulator *rounds;
    fdm_loss loss;
    fdm_warmup warmup;
    const struct fdm_kernels *kernels; /* of the optimiser */
    int threads;
    float *ema, *m, *v; /* laid out like the values; one block of memory */
    int64_t images, updates;
    int64_t in_update; /* samples of the rounds so far */
    int64_t share;     /* samples of an update that are ours: the batch, but among ranks */
    /* among ranks, NULL and 0 elsewhere */
    const fdm_ranks *ranks;
    struct fdm_rank_sum *sums;
    int64_t first;  /* our first sample of a batch */
    int64_t group;  /* samples that count as one loss call */
};

fdm_trainer_options fdm_trainer_defaults(void) {
    return (fdm_trainer_options){.batch = 512, .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8,
                                 .lr_rampup_kimg = 10000, .ema_halflife_kimg = 500, .ema_rampup_ratio = 0.05,
                                 .loss_scaling = 1, .warmup_ite = 0};
}

fdm_status fdm_trainer_check(const fdm_trainer_options *o, fdm_error *err) {
    const struct {
        const char *name;
        double value;
        bool ok;
    } checks[] = {
        {"batch", (double)o->batch, o->batch >= 1 && o->batch <= 1 << 24},
        {"lr", o->lr, o->lr > 0 && isfinite(o->lr)},
        {"beta1", o->beta1, o->beta1 >= 0 && o->beta1 < 1},
        {"beta2", o->beta2, o->beta2 >= 0 && o->beta2 < 1},
        {"eps", o->eps, o->eps > 0 && isfinite(o->eps)},
        {"lr_rampup_kimg", o->lr_rampup_kimg, o->lr_rampup_kimg >= 0 && isfinite(o->lr_rampup_kimg)},
        {"ema_halflife_kimg", o->ema_halflife_kimg, o->ema_halflife_kimg >= 0 && isfinite(o->ema_halflife_kimg)},
        {"ema_rampup_ratio", o->ema_rampup_ratio, isfinite(o->ema_rampup_ratio)},
        {"loss_scaling", o->loss_scaling, o->loss_scaling > 0 && isfinite(o->loss_scaling)},
        {"warmup_ite", o->warmup_ite, o->warmup_ite >= 0 && isfinite(o->warmup_ite)},
    };
    for (size_t i = 0; i < FDM_ARRAY_LEN(checks); i++)
        if (!checks[i].ok)
            return fdm_fail(err, FDM_BAD_USAGE, "training option %s: %g is out of its range", checks[i].name, checks[i].value);
    return FDM_OK;
}

static fdm_status allocate(fdm_trainer *t, fdm_error *err) {
    const size_t count = fdm_gradient_size(t->g);
    size_t bytes;
    if (!fdm_mul_size(&bytes, fdm_round_up(count, 16), FLAT_ARRAYS * sizeof(float)) || !(t->ema = fdm_malloc_aligned(bytes)))
        return fdm_fail_oom(err, "optimiser", bytes);
    memset(t->ema, 0, bytes);
    t->m = t->ema + fdm_round_up(count, 16);
    t->v = t->m + fdm_round_up(count, 16);
    memcpy(t->ema, fdm_gradient_values(t->g), count * sizeof(float));
    return FDM_OK;
}

/* The optimiser's pass is in f32 on every backend, with the same bits on every instruction set. */
static fdm_status choose_kernels(fdm_trainer *t, const fdm_run_options *run, fdm_error *err) {
    enum fdm_isa isa;
    const fdm_status status = fdm_isa_choose(run ? run->isa : NULL, &isa, err);
    if (status != FDM_OK) return status;
    t->kernels = fdm_kernels_for(isa);
    t->threads = run && run->threads ? run->threads : fdm_max_threads();
    return FDM_OK;
}

fdm_status fdm_trainer_create(fdm_trainer **trainer, const fdm_config *config, const fdm_tensors *weights,
                              const char *where, const fdm_trainer_options *options, const fdm_run_options *run,
                              fdm_error *err) {
    *trainer = NULL;
    fdm_status status = fdm_trainer_check(options, err);
    if (status != FDM_OK) return status;
    fdm_trainer *t = calloc(1, sizeof *t);
    if (!t) return fdm_fail_oom(err, "trainer", sizeof *t);
    t->options = *options;
    t->share = options->batch;
    fdm_warmup_none(&t->warmup);
    status = fdm_loss_init(&t->loss, config->precond.kind, err);
    if (status == FDM_OK && options->warmup_ite > 0)
        status = fdm_warmup_init(&t->warmup, options->warmup_ite, err);
    if (status == FDM_OK) status = fdm_gradient_create(&t->g, config, weights, where, run, err);
    if (status == FDM_OK) status = choose_kernels(t, run, err);
    if (status == FDM_OK) status = fdm_accumulator_create(&t->rounds, t->g, err);
    if (status == FDM_OK) status = allocate(t, err);
    if (status != FDM_OK) fdm_trainer_free(&t);
    *trainer = t;
    return status;
}

void fdm_trainer_free(fdm_trainer **trainer) {
    fdm_trainer *t = *trainer;
    if (!t) return;
    fdm_rank_sum_free(&t->sums);
    fdm_accumulator_free(&t->rounds);
    fdm_gradient_free(&t->g);
    fdm_free_aligned(t->ema);
    free(t);
    *trainer = NULL;
}

int64_t fdm_trainer_images(const fdm_trainer *t) { return t->images; }
int64_t fdm_trainer_updates(const fdm_trainer *t) { return t->updates; }
const fdm_trainer_options *fdm_trainer_get_options(const fdm_trainer *t) { return &t->options; }
fdm_gradient *fdm_trainer_gradient(fdm_trainer *t) { return t->g; }
const float *fdm_trainer_ema(const fdm_trainer *t) { return t->ema; }
fdm_warmup *fdm_trainer_warmup(fdm_trainer *t) { return &t->warmup; }

struct fdm_rank_sum *fdm_trainer_sums(fdm_trainer *t) { return t->sums; }

/* --- among ranks --- */

/* Whether every rank's samples are one subtree of the tree that one rank builds over its rounds. */
static bool splits(int64_t batch, int64_t batch_gpu, int64_t ranks) {
    const int64_t share = batch / ranks;
    if (ranks == 1) return true;
    if (!fdm_is_power_of_two(ranks) || batch % ranks != 0) return false;
    return share % batch_gpu == 0 ? fdm_is_power_of_two(share / batch_gpu) : batch_gpu % share == 0 && fdm_is_power_of_two(share);
}

fdm_status fdm_trainer_check_ranks(int64_t batch, int64_t batch_gpu, int ranks, fdm_error *err) {
    char works[128] = "";
    if (splits(batch, batch_gpu, ranks)) return FDM_OK;
    for (int64_t p = 2; p <= batch && strlen(works) < 64; p *= 2)
        if (splits(batch, batch_gpu, p)) snprintf(works + strlen(works), 32, ", %" PRId64, p);
    return fdm_fail(err, FDM_BAD_USAGE, "--batch %" PRId64 " in rounds of %" PRId64 " cannot be shared by %d ranks with the same "
                    "bits: sums over samples follow a binary tree; 1%s of them can, and a batch that is a power of two goes by any "
                    "number that is one", batch, batch_gpu, ranks, works);
}

/* Rank 0's state to all. */
static fdm_status spread_state(fdm_trainer *t, const fdm_ranks *ranks, fdm_error *err) {
    const size_t count = fdm_gradient_size(t->g), flat = FLAT_ARRAYS * fdm_round_up(count, 16);
    int64_t counters[] = {t->images, t->updates};
    fdm_status status = fdm_ranks_broadcast(ranks, fdm_gradient_values(t->g), count * sizeof(float), err);
    if (status == FDM_OK) status = fdm_ranks_broadcast(ranks, t->ema, flat * sizeof(float), err);
    if (status == FDM_OK) status = fdm_ranks_broadcast(ranks, counters, sizeof counters, err);
    if (status == FDM_OK) status = fdm_ranks_broadcast(ranks, &t->warmup, sizeof t->warmup, err);
    t->images = counters[0];
    t->updates = counters[1];
    fdm_gradient_values_changed(t->g);
    return status;
}

fdm_status fdm_trainer_share(fdm_trainer *t, const fdm_ranks *ranks, int64_t batch_gpu, fdm_error *err) {
    const int size = fdm_ranks_size(ranks);
    if (size == 1) return FDM_OK;
    fdm_status status = fdm_trainer_check_ranks(t->options.batch, batch_gpu, size, err);
    if (status == FDM_OK) status = fdm_rank_sum_create(&t->sums, ranks, t->rounds, t->g, 0, err);
    status = fdm_ranks_agree(ranks, status, NULL, err);
    if (status == FDM_OK) status = spread_state(t, ranks, err);
    if (status != FDM_OK) return status;
    t->ranks = ranks;
    t->group = batch_gpu;
    t->share = t->options.batch / size;
    t->first = ranks->rank * t->share;
    return FDM_OK;
}

fdm_status fdm_trainer_agree(fdm_trainer *t, fdm_status mine, unsigned *flags, fdm_error *err) {
    if (!t->sums) return mine;
    fdm_error lost;
    fdm_status status = fdm_rank_sum_finish(t->sums, &lost);
    if (status == FDM_OK) status = fdm_ranks_agree(t->ranks, mine, flags, err);
    else if (mine == FDM_OK) (void)fdm_fail(err, status, "%s", lost.message);
    if (status == FDM_OK) return FDM_OK;
    fdm_accumulator_reset(t->rounds);
    t->in_update = 0;
    return status;
}

/* --- an update --- */

/* What limits the loss weights of the next round, and the warm-up after it.  Among ranks a round is a part of the
 * (first / group)-th call that one rank would make, and the warm-up moves on when the update ends. */
static double next_limit(const fdm_trainer *t, fdm_warmup *warmup) {
    *warmup = t->warmup;
    double limit = fdm_warmup_next(warmup);
    if (!t->sums) return limit;
    for (int64_t i = (t->first + t->in_update) / t->group; i > 0; i--) limit = fdm_warmup_next(warmup);
    *warmup = t->warmup;
    return limit;
}

/* The gradient of a round, added to those before it; the last one of an update among ranks is summed over them meanwhile. */
static fdm_status add_round(fdm_trainer *t, const fdm_gradient_args *args, fdm_error *err) {
    if (!t->sums || t->in_update + args->n < t->share) return fdm_accumulator_add(t->rounds, args, err);
    const struct fdm_gradient_watch watch = fdm_rank_sum_watch(t->sums);
    return fdm_accumulator_add_last(t->rounds, args, &watch, err);
}

fdm_status fdm_trainer_round(fdm_trainer *t, const fdm_gradient_args *args, double *weight, fdm_error *err) {
    const fdm_dtype precision = fdm_gradient_dtype(t->g);
    const int64_t first = t->first + t->in_update;
    if (args->n < 1 || args->n > t->share - t->in_update)
        return fdm_fail(err, FDM_BAD_USAGE, "a round of %d samples after %" PRId64 " does not fit a batch of %" PRId64, args->n,
                        t->in_update, t->share);
    if (t->sums && first / t->group != (first + args->n - 1) / t->group)
        return fdm_fail(err, FDM_BAD_USAGE, "a round of %d samples from %" PRId64 " on lies in several groups of %" PRId64,
                        args->n, first, t->group);
    double *own = weight ? NULL : malloc((size_t)args->n * sizeof *own), *lambda = weight ? weight : own;
    if (!lambda) return fdm_fail_oom(err, "loss weights", (size_t)args->n * sizeof *own);
    fdm_warmup warmup;
    const double limit = next_limit(t, &warmup);
    for (int i = 0; i < args->n; i++)
        lambda[i] = fdm_loss_clamp(fdm_loss_weight(&t->loss, args->sigma[i], precision), limit, precision);
    fdm_gradient_args call = *args;
    call.weight = lambda;
    call.scale = t->options.loss_scaling / (double)t->options.batch;
    const fdm_status status = add_round(t, &call, err);
    free(own);
    if (status != FDM_OK) return status;
    t->warmup = warmup;
    t->in_update += args->n;
    return FDM_OK;
}

/* The sum as floats; doubles (the reference's) are rounded in place: element i is read before byte 4i+3 is written over
 * byte 8i. */
static float *sum_as_floats(fdm_trainer *t) {
    char *sum = fdm_accumulator_sum(t->rounds);
    if (fdm_gradient_dtype(t->g) == FDM_F32) return (float *)(void *)sum;
    for (size_t i = 0; i < fdm_gradient_size(t->g); i++) {
        double d;
        memcpy(&d, sum + 8 * i, 8);
        const float f = (float)d;
        memcpy(sum + 4 * i, &f, 4);
    }
    return (float *)(void *)sum;
}

/* Ready for the next update.  sum_as_floats leaves floats where the reference reads doubles; parameters that the loss
 * cannot reach are never written again and must read as zero. */
static void forget_rounds(fdm_trainer *t) {
    if (fdm_gradient_dtype(t->g) == FDM_F64)
        memset(fdm_accumulator_sum(t->rounds), 0, fdm_gradient_size(t->g) * sizeof(double));
    fdm_accumulator_reset(t->rounds);
}

fdm_status fdm_trainer_update(fdm_trainer *t, fdm_update_report *report, fdm_error *err) {
    const fdm_trainer_options *o = &t->options;
    if (t->in_update != t->share)
        return fdm_fail(err, FDM_BAD_USAGE, "the rounds make %" PRId64 " of %" PRId64 " samples", t->in_update, t->share);
    const double lr = fdm_lr_at(o->lr, o->lr_rampup_kimg, t->images);
    const double decay = fdm_ema_decay_at(o->ema_halflife_kimg, o->ema_rampup_ratio, t->images, o->batch);
    const struct fdm_adam_options adam = {.lr = lr, .beta1 = o->beta1, .beta2 = o->beta2, .eps = o->eps};
    const struct fdm_adam_arrays arrays = {.param = fdm_gradient_values(t->g), .m = t->m, .v = t->v, .ema = t->ema,
                                           .grad = sum_as_floats(t), .count = fdm_gradient_size(t->g)};
    const size_t cleaned = fdm_adam_update(t->kernels, t->threads, &arrays, &adam, t->updates + 1, decay);
    fdm_gradient_values_changed(t->g);
    forget_rounds(t);
    for (int64_t i = 0; t->sums && i < o->batch / t->group; i++) (void)fdm_warmup_next(&t->warmup);
    t->in_update = 0;
    t->updates++;
    t->images += o->batch;
    if (report) *report = (fdm_update_report){lr, decay, (int64_t)cleaned};
    return FDM_OK;
}

/* --- state --- */

fdm_status fdm_trainer_model(const fdm_trainer *t, fdm_tensors *set, fdm_error *err) {
    return fdm_gradient_model(t->g, set, t->ema, err);
}

static fdm_status add_flat(const fdm_trainer *t, fdm_tensors *set, const char *prefix, const float *values, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (int i = 0; i < fdm_gradient_parameter_count(t->g) && status == FDM_OK; i++) {
        const fdm_parameter_info p = fdm_gradient_parameter(t->g, i);
        char name[192];
        snprintf(name, sizeof name, "%s%s", prefix, p.name);
        status = fdm_tensors_append(set, name, FDM_F32, p.ndim, p.shape, (void *)(uintptr_t)(values + p.offset), false, NULL,
                                    err);
    }
    return status;
}

fdm_status fdm_trainer_save(const fdm_trainer *t, fdm_tensors *set, fdm_error *err) {
    const int64_t two = 2;
    fdm_tensors net = {0};
    fdm_tensor *scalars;
    fdm_status status = fdm_gradient_model(t->g, &net, fdm_gradient_values(t->g), err);
    if (status == FDM_OK) status = fdm_tensors_set_meta(set, "config", fdm_tensors_meta(&net, "config"), err);
    for (size_t i = 0; i < net.count && status == FDM_OK; i++) {
        const fdm_tensor *p = &net.items[i];
        char name[192];
        snprintf(name, sizeof name, "net.%s", p->name);
        status = fdm_tensors_append(set, name, p->dtype, p->ndim, p->shape, p->data, false, NULL, err);
    }
    fdm_tensors_free(&net);
    if (status == FDM_OK) status = add_flat(t, set, "ema.", t->ema, err);
    if (status == FDM_OK) status = add_flat(t, set, "adam_m.", t->m, err);
    if (status == FDM_OK) status = add_flat(t, set, "adam_v.", t->v, err);
    if (status == FDM_OK) status = fdm_tensors_add(set, "trainer.counters", FDM_I64, 1, &two, &scalars, err);
    if (status == FDM_OK) memcpy(scalars->data, (int64_t[]){t->images, t->updates}, 16);
    if (status == FDM_OK) status = fdm_tensors_add(set, "trainer.warmup", FDM_F64, 1, &two, &scalars, err);
    if (status == FDM_OK) memcpy(scalars->data, (double[]){t->warmup.value, t->warmup.factor}, 16);
    return status;
}

/* The tensor of that name if it has this type and shape. */
static fdm_status find(const fdm_tensor **out, const fdm_tensors *set, const char *name, fdm_dtype dtype, int ndim,
                       const int64_t *shape, const char *where, fdm_error *err) {
    char has[FDM_SHAPE_TEXT], wants[FDM_SHAPE_TEXT];
    const fdm_tensor *t = *out = fdm_tensors_find(set, name);
    if (!t) return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s is missing; this is no training state", where, name);
    if (t->dtype == dtype && t->ndim == ndim && memcmp(t->shape, shape, (size_t)ndim * sizeof *shape) == 0) return FDM_OK;
    fdm_shape_text(has, sizeof has, t->ndim, t->shape);
    fdm_shape_text(wants, sizeof wants, ndim, shape);
    return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s is %s%s instead of %s%s", where, name, fdm_dtype_name(t->dtype), has,
                    fdm_dtype_name(dtype), wants);
}

static fdm_status restore_flat(fdm_trainer *t, float *values, const fdm_tensors *set, const char *prefix, const char *where,
                               fdm_error *err) {
    fdm_status status = FDM_OK;
    for (int i = 0; i < fdm_gradient_parameter_count(t->g) && status == FDM_OK; i++) {
        const fdm_parameter_info p = fdm_gradient_parameter(t->g, i);
        const fdm_tensor *saved;
        char name[192];
        snprintf(name, sizeof name, "%s%s", prefix, p.name);
        status = find(&saved, set, name, FDM_F32, p.ndim, p.shape, where, err);
        if (status == FDM_OK) memcpy(values + p.offset, saved->data, p.count * sizeof *values);
    }
    return status;
}

static fdm_status restore_counters(fdm_trainer *t, const fdm_tensors *set, const char *where, fdm_error *err) {
    const int64_t two = 2;
    int64_t counters[2];
    const fdm_tensor *saved, *warmup;
    fdm_status status = find(&saved, set, "trainer.counters", FDM_I64, 1, &two, where, err);
    if (status == FDM_OK) status = find(&warmup, set, "trainer.warmup", FDM_F64, 1, &two, where, err);
    if (status != FDM_OK) return status;
    memcpy(counters, saved->data, sizeof counters);
    memcpy(&t->warmup.value, warmup->data, sizeof(double));
    memcpy(&t->warmup.factor, (const char *)warmup->data + sizeof(double), sizeof(double));
    if (counters[0] < 0 || counters[1] < 0 || counters[0] > INT64_MAX / 2 || counters[1] > INT64_MAX / 2)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: trainer.counters holds %" PRId64 " images, %" PRId64 " updates", where,
                        counters[0], counters[1]);
    if (!(t->warmup.value > 0) || !(t->warmup.factor >= 1))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: trainer.warmup holds a limit of %g that grows by %g", where, t->warmup.value,
                        t->warmup.factor);
    t->images = counters[0];
    t->updates = counters[1];
    return FDM_OK;
}

/* The tensors net.<name> under their own names. */
static fdm_status saved_network(fdm_tensors *net, const fdm_tensors *set, fdm_error *err) {
    fdm_status status = FDM_OK;
    for (size_t i = 0; i < set->count && status == FDM_OK; i++) {
        const fdm_tensor *t = &set->items[i];
        if (strncmp(t->name, "net.", 4) == 0)
            status = fdm_tensors_append(net, t->name + 4, t->dtype, t->ndim, t->shape, t->data, false, NULL, err);
    }
    return status;
}

fdm_status fdm_trainer_restore(fdm_trainer **trainer, const fdm_tensors *set, const char *where,
                               const fdm_trainer_options *options, const fdm_run_options *run, fdm_error *err) {
    fdm_tensors net = {0};
    fdm_config config;
    *trainer = NULL;
    fdm_status status = fdm_config_from_tensors(&config, set, where, err);
    if (status == FDM_OK) status = saved_network(&net, set, err);
    if (status == FDM_OK) status = fdm_trainer_create(trainer, &config, &net, where, options, run, err);
    fdm_tensors_free(&net);
    fdm_trainer *t = *trainer;
    if (status == FDM_OK) status = restore_flat(t, t->ema, set, "ema.", where, err);
    if (status == FDM_OK) status = restore_flat(t, t->m, set, "adam_m.", where, err);
    if (status == FDM_OK) status = restore_flat(t, t->v, set, "adam_v.", where, err);
    if (status == FDM_OK) status = restore_counters(t, set, where, err);
    if (status != FDM_OK) fdm_trainer_free(trainer);
    return status;
}
