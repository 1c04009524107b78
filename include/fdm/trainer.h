/* trainer.h - one training run in memory: parameters, their averages, the optimiser's moments, and one update.
 *
 * An update is any number of accumulation rounds, each a loss call on some of the batch's samples, then
 *     lr      = lr0 min(nimg / ramp, 1)                                      nimg: images before this batch
 *     g       = sum of the rounds' gradients; NaN -> 0, +inf -> 1e5, -inf -> -1e5
 *     p       by Adam (Kingma and Ba 2015, algorithm 1)
 *     p_ema   = p + decay (p_ema - p),   decay = 0.5^(batch / half-life)     (Karras et al. 2024, section 3, "traditional")
 *     nimg   += batch
 * The loss of a round is L = sum_n lambda_n ||D(y_n + sigma_n e_n) - y_n||^2 loss_scaling / batch, with lambda limited by
 * FDM's warm-up, which moves on with every loss call.
 *
 * Parameters, averages and moments are f32 on every backend: with the reference backend loss and gradients are f64, and a
 * gradient is rounded once, before the optimiser.
 *
 * Several ranks (fdm/ranks.h) may share every batch: each has a trainer of its own and takes its part of the samples, and the
 * gradients are summed along the same tree, so that all of them make the updates that one rank would make, to the bit.
 *
 * Same bits for any number of threads, any instruction set, and for a batch in rounds of any power of two samples
 * (where no warm-up makes the number of calls matter).  fdm_trainer_save writes everything; fdm_trainer_restore goes on
 * as if nothing had happened, to the bit.
 */
#ifndef FDM_TRAINER_H
#define FDM_TRAINER_H

#include "fdm/gradient.h"
#include "fdm/loss.h"
#include "fdm/ranks.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fdm_trainer_options {
    int64_t batch;             /* samples of an update, over all its rounds */
    double lr, beta1, beta2, eps;
    double lr_rampup_kimg;     /* 0: none */
    double ema_halflife_kimg;
    double ema_rampup_ratio;   /* 0.05; negative: no ramp */
    double loss_scaling;
    double warmup_ite;         /* loss calls of the weight warm-up, published for fdm_* alone; 0: none */
} fdm_trainer_options;
/* Published defaults: batch 512, lr 1e-3, betas 0.9 and 0.999, eps 1e-8, ramp 10000, half-life 500, ratio 0.05, scaling 1,
 * no warm-up. */
FDM_API fdm_trainer_options fdm_trainer_defaults(void);
/* FDM_BAD_USAGE names the first option that is out of its range. */
FDM_API fdm_status fdm_trainer_check(const fdm_trainer_options *options, fdm_error *err);

typedef struct fdm_trainer fdm_trainer;

/* Starts from a model's tensors (fdm_init_weights, or a model file to fine-tune); they may be freed afterwards.
 * Errors: FDM_BAD_USAGE for an option out of its range; as fdm_denoiser_create. */
FDM_API fdm_status fdm_trainer_create(fdm_trainer **trainer, const fdm_config *config, const fdm_tensors *weights,
                                      const char *where, const fdm_trainer_options *options, const fdm_run_options *run,
                                      fdm_error *err);
/* Frees and sets *trainer to NULL. */
FDM_API void fdm_trainer_free(fdm_trainer **trainer);

FDM_API int64_t fdm_trainer_images(const fdm_trainer *trainer);  /* nimg */
FDM_API int64_t fdm_trainer_updates(const fdm_trainer *trainer); /* Adam's step count */
FDM_API const fdm_trainer_options *fdm_trainer_get_options(const fdm_trainer *trainer);
FDM_API fdm_gradient *fdm_trainer_gradient(fdm_trainer *trainer); /* names, values, sizes; belongs to the trainer */
FDM_API const float *fdm_trainer_ema(const fdm_trainer *trainer); /* averaged parameters, laid out like the values */
/* The warm-up's state; write it to start elsewhere than at the beginning. */
FDM_API fdm_warmup *fdm_trainer_warmup(fdm_trainer *trainer);

/* Whether `batch` samples in rounds of `batch_gpu` can be shared by so many ranks without changing a bit: both the number of
 * ranks and of whole rounds (of samples, where a rank gets less than one round) on each must be powers of two.
 * Errors: FDM_BAD_USAGE names what would work. */
FDM_API fdm_status fdm_trainer_check_ranks(int64_t batch, int64_t batch_gpu, int ranks, fdm_error *err);
/* Collective: all trainers get the state of rank 0's, and from now on this one makes samples rank B/P .. (rank + 1) B/P - 1 of
 * every batch, in rounds of at most min(batch_gpu, B/P).  The warm-up moves on once for each batch_gpu samples of the batch,
 * whoever makes them.  Network and options must be the same on all.  Call it once, before the first round; `ranks` must
 * outlive the trainer.
 * Errors: as fdm_trainer_check_ranks; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_trainer_share(fdm_trainer *trainer, const fdm_ranks *ranks, int64_t batch_gpu, fdm_error *err);
/* Among ranks, after the rounds and before fdm_trainer_update: waits for the sum of all gradients, then brings statuses and
 * flags together (fdm_ranks_agree).  A rank that failed on the way comes here, too, with that status in `mine`.  After an
 * error, on all ranks, the trainer is as before the first round of this update.  Alone: returns `mine`. */
FDM_API fdm_status fdm_trainer_agree(fdm_trainer *trainer, fdm_status mine, unsigned *flags, fdm_error *err);

/* One loss call.  Of `args` n, y, sigma, noise_unit, labels, dropout and stop are read, D and loss are given out;
 * weight and scale are the trainer's own (weight may be NULL; else it receives lambda, (N)).
 * Errors: FDM_BAD_USAGE if the update's rounds exceed the batch; as fdm_gradient_compute.  After an error the update is
 * as before the call, warm-up included. */
FDM_API fdm_status fdm_trainer_round(fdm_trainer *trainer, const fdm_gradient_args *args, double *weight, fdm_error *err);

typedef struct fdm_update_report {
    double lr, ema_decay;
    int64_t cleaned; /* elements of the gradient that were NaN or infinite */
} fdm_update_report;
/* Ends the update.  `report` may be NULL.  Errors: FDM_BAD_USAGE if the rounds do not make up the batch. */
FDM_API fdm_status fdm_trainer_update(fdm_trainer *trainer, fdm_update_report *report, fdm_error *err);

/* The averaged network as a model file's tensors, borrowed from the trainer. */
FDM_API fdm_status fdm_trainer_model(const fdm_trainer *trainer, fdm_tensors *set, fdm_error *err);

/* Everything that fdm_trainer_restore needs, between updates: tensors net.<name> (buffers included), ema.<param>,
 * adam_m.<param>, adam_v.<param> (borrowed), trainer.counters I64 [2] {images, updates}, trainer.warmup F64 [2], and the
 * metadata `config` and `trainer` (the options).  Others may add tensors of their own.  Errors: as fdm_tensors_add. */
FDM_API fdm_status fdm_trainer_save(const fdm_trainer *trainer, fdm_tensors *set, fdm_error *err);
/* A trainer from such a set.  `options` replaces the saved ones (they are checked, not compared).
 * Errors: FDM_BAD_INPUT naming what is missing or malformed. */
FDM_API fdm_status fdm_trainer_restore(fdm_trainer **trainer, const fdm_tensors *set, const char *where,
                                       const fdm_trainer_options *options, const fdm_run_options *run, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
