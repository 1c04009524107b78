/* train_schedule.c - see fdm/train_schedule.h. */
#include "fdm/train_schedule.h"

#include <math.h>

/* Stands for 0 images in a quotient. */
#define FEW_IMAGES 1e-8

double fdm_lr_at(double lr, double rampup_kimg, int64_t nimg) {
    const double ramp = (double)nimg / fmax(rampup_kimg * 1000, FEW_IMAGES);
    return lr * fmin(ramp, 1);
}

double fdm_ema_decay_at(double halflife_kimg, double rampup_ratio, int64_t nimg, int64_t batch) {
    double halflife = halflife_kimg * 1000;
    if (rampup_ratio >= 0) halflife = fmin(halflife, (double)nimg * rampup_ratio);
    return pow(0.5, (double)batch / fmax(halflife, FEW_IMAGES));
}
