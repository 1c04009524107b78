/* loss.h - the training objective: what a batch is perturbed with, and what its error is worth.
 *
 *     L = sum over elements of lambda(sigma) (D(y + n; sigma) - y)^2,     n = sigma * N(0, I)
 *
 *     framework     sigma from one random number per image            lambda(sigma)
 *     vp, fdm_vp    sigma(1 + u (epsilon_t - 1)), u ~ U[0, 1)         1 / sigma^2        VP's sigma(t): fdm/process.h
 *     ve, fdm_ve    sigma_min (sigma_max / sigma_min)^u               1 / sigma^2
 *     edm, fdm_edm  exp(P_mean + P_std w), w ~ N(0, 1)                (sigma^2 + sd^2) / (sigma sd)^2
 *
 * Weight warm-up: lambda <- min(lambda, c) with a limit c that grows from loss call to loss call.  The published program has
 * it for fdm_* alone; it is defined for every framework, so it can be tried by itself.
 *
 * `precision` is FDM_F32 or FDM_F64 (the dtype of a backend): every operation rounded to f32 in the published order,
 * elementary functions evaluated in f64 and rounded once; or everything in f64, the truth.  Values are doubles either
 * way; those of FDM_F32 are representable in f32.
 *
 * What a loss call of n images needs beyond them (fdm/gradient.h computes it, fdm/train_stream.h draws r):
 *
 *     double limit = fdm_warmup_next(&warmup);                                  // once per loss call
 *     for (int i = 0; i < n; i++) {
 *         sigma[i] = fdm_loss_sigma(&loss, r[i], precision);
 *         weight[i] = fdm_loss_clamp(fdm_loss_weight(&loss, sigma[i], precision), limit, precision);
 *     }
 *     ...                                                                       // fdm_gradient_compute: losses[i]
 *     total = fdm_loss_total(losses, n);
 */
#ifndef FDM_LOSS_H
#define FDM_LOSS_H

#include <stdbool.h>

#include "fdm/precond.h"
#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The published constants of a framework's loss; a plain value.  They are the loss's own: a model's sigma_data or
 * sigma range does not change them, as published. */
typedef struct fdm_loss {
    fdm_precond_kind kind;
    double beta_d, beta_min, epsilon_t; /* vp: 19.9, 0.1, 1e-5 */
    double sigma_min, sigma_max;        /* ve: 0.02, 100 */
    double P_mean, P_std, sigma_data;   /* edm: -1.2, 1.2, 0.5 */
} fdm_loss;

/* Errors: FDM_BAD_USAGE for an unknown kind. */
FDM_API fdm_status fdm_loss_init(fdm_loss *loss, fdm_precond_kind kind, fdm_error *err);

/* Whether sigma's random number is N(0, 1) (edm, fdm_edm) rather than U[0, 1). */
FDM_API bool fdm_loss_wants_normal(const fdm_loss *loss);
/* sigma of that random number, and lambda(sigma). */
FDM_API double fdm_loss_sigma(const fdm_loss *loss, double random, fdm_dtype precision);
FDM_API double fdm_loss_weight(const fdm_loss *loss, double sigma, fdm_dtype precision);

/* Weight warm-up over W = warmup_ite loss calls: c starts at 5; a call with c < 500 is limited to c and multiplies c
 * by exp((ln 500 - ln 5) / W) = 100^(1/W).  Rounding decides which call is the last (W = 200 limits 201).  Both fields
 * are the whole state: save them to resume where a run stopped (the published program starts over at 5 instead). */
typedef struct fdm_warmup {
    double value, factor;
} fdm_warmup;

/* W > 0, whole or not.  Errors: FDM_BAD_USAGE if it is not positive and finite, or 100^(1/W) overflows. */
FDM_API fdm_status fdm_warmup_init(fdm_warmup *warmup, double warmup_ite, fdm_error *err);
/* No warm-up: no call is limited. */
FDM_API void fdm_warmup_none(fdm_warmup *warmup);
/* The limit of this loss call, INFINITY once c >= 500; moves on to the next call. */
FDM_API double fdm_warmup_next(fdm_warmup *warmup);
/* min(weight, limit). */
FDM_API double fdm_loss_clamp(double weight, double limit, fdm_dtype precision);

/* The sum over n >= 0 samples in the fixed binary tree of every sum over samples: adjacent samples first, so rounds of
 * a power of two, summed and then added alike, give the same bits. */
FDM_API double fdm_loss_total(const double *per_sample, int n);

#ifdef __cplusplus
}
#endif
#endif
