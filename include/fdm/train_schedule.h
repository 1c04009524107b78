/* train_schedule.h - learning rate and averaging as functions of the images seen so far.
 *
 * `nimg` is the number of images BEFORE this batch, so the first update has learning rate 0 (with or without a ramp)
 * and, with an EMA ramp, decay 0. */
#ifndef FDM_TRAIN_SCHEDULE_H
#define FDM_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* lr min(nimg / (1000 rampup_kimg), 1); rampup_kimg >= 0. */
FDM_API double fdm_lr_at(double lr, double rampup_kimg, int64_t nimg);

/* The decay of one update of `batch` images, p_ema = p_net + decay (p_ema - p_net):
 *     decay = 0.5^(batch / h),   h = min(1000 halflife_kimg, rampup_ratio nimg) images
 * rampup_ratio is 0.05 as published; negative: no ramp. */
FDM_API double fdm_ema_decay_at(double halflife_kimg, double rampup_ratio, int64_t nimg, int64_t batch);

#ifdef __cplusplus
}
#endif
#endif
