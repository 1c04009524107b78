/* optimizer.h - Adam (Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015) with gradient clean-up
 * before it and an exponential moving average of the parameters after it, in one pass over memory; internal.
 *
 * Step t = 1, 2, ... on every element of five arrays of the same length:
 *
 *     g     = NaN -> 0, +inf -> 1e5, -inf -> -1e5, else grad
 *     m     = beta1 m + (1 - beta1) g                   first moment
 *     v     = beta2 v + (1 - beta2) g^2                 second moment
 *     param = param - lr/(1 - beta1^t) * m / (sqrt(v)/sqrt(1 - beta2^t) + eps)
 *     ema   = lerp(param, ema, decay) = decay ema + (1 - decay) param
 *
 * Rounding, f32 throughout, chosen to be that of PyTorch on a CPU (1.13, equal to the bit where measured): numbers of
 * the step in f64, then rounded to f32;
 *
 *     m = fma(g, 1 - beta1, beta1 m),   v = fma((1 - beta2) g, g, beta2 v),
 *     param = param + ((-lr/(1 - beta1^t)) m) / (sqrt(v)/sqrt(1 - beta2^t) + eps),
 *     ema = decay < 1/2:  fma(decay, ema - param, param),  else  fma(-(ema - param), 1 - decay, ema)
 *
 * so that one element's result depends on nothing but that element: the same for every instruction set, thread count
 * and division of the arrays.
 */
#ifndef FDM_TRAIN_OPTIMIZER_H
#define FDM_TRAIN_OPTIMIZER_H

#include <stddef.h>
#include <stdint.h>

#include "simd/kernels.h"

struct fdm_adam_options {
    double lr;           /* of this step */
    double beta1, beta2; /* in [0, 1); published: 0.9, 0.999 */
    double eps;          /* published: 1e-8 */
};

/* The caller's arrays, `count` elements each (0 is allowed); none overlaps another; any alignment. */
struct fdm_adam_arrays {
    float *param, *m, *v, *ema; /* updated; m and v zero before step 1 */
    const float *grad;
    size_t count;
};

/* Makes step number `step` (>= 1) with `threads` >= 1; ema_decay in [0, 1].  Returns how many gradients were NaN or
 * infinite.  Cannot fail. */
size_t fdm_adam_update(const struct fdm_kernels *kernels, int threads, const struct fdm_adam_arrays *arrays,
                       const struct fdm_adam_options *options, int64_t step, double ema_decay);

#endif
