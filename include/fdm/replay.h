/* replay.h - recorded updates of a training run, done again: the test of a whole training loop.
 *
 * A recording (safetensors) holds
 *   step0.param.<name>   the parameters and buffers at the start
 *   s<u>.r<k>.<tensor>   the inputs of loss call k = 1, 2, ... of update u = 1, 2, ...:
 *                        y, or images with the augmentation's draws augNN.<kind>  (n, C, R, R)
 *                        sigma, or rnd, the random number it comes from           (n) or (n, 1, 1, 1)
 *                        noise_unit (n, C, R, R), class_labels, augment_labels    where the network has them
 * and as JSON in its metadata: config; lr, betas, eps; loop {batch_size, lr_rampup_kimg, ema_halflife_kimg,
 * ema_rampup_ratio, loss_scaling, resume_kimg} (absent: published defaults); loss {warmup_ite}; augment {p};
 * num_accumulation_rounds.  Dropout and label dropout are off: a recording holds no masks.
 */
#ifndef FDM_REPLAY_H
#define FDM_REPLAY_H

#include "fdm/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called after each loss call with its plain loss (the sum over elements, not scaled); may be NULL. */
typedef void (*fdm_replay_fn)(void *user, int64_t update, int round, double loss);

/* Replays updates 1 .. `updates` of the recording `set` into an empty set: param.<name> and ema.<name> (copied), buffers
 * included.  Errors: FDM_BAD_INPUT naming the tensor or key of `where` that is missing or malformed, FDM_BAD_USAGE for
 * more updates than were recorded, FDM_NO_RESOURCE, FDM_INTERRUPTED from stop. */
FDM_API fdm_status fdm_replay(fdm_tensors *result, const fdm_tensors *set, const char *where, int64_t updates,
                              const fdm_run_options *run, fdm_replay_fn on_round, void *user, fdm_stop_fn stop,
                              fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
