/* loss.c - noise level, weight, warm-up and gradient of the training objective. */
#include "fdm/loss.h"

#include <math.h>

#include "base/base.h"
#include "fdm/process.h"
#include "nn/sample_tree.h"

#define WARMUP_FIRST 5.0
#define WARMUP_LAST 500.0

fdm_status fdm_loss_init(fdm_loss *loss, fdm_precond_kind kind, fdm_error *err) {
    if ((unsigned)kind >= FDM_PRECOND_COUNT)
        return fdm_fail(err, FDM_BAD_USAGE, "no loss for preconditioning %d", (int)kind);
    *loss = (fdm_loss){.kind = kind,
                       .beta_d = FDM_BETA_D,
                       .beta_min = FDM_BETA_MIN,
                       .epsilon_t = 1e-5,
                       .sigma_min = 0.02,
                       .sigma_max = 100,
                       .P_mean = -1.2,
                       .P_std = 1.2,
                       .sigma_data = 0.5};
    return FDM_OK;
}

static bool is_vp(const fdm_loss *l) { return l->kind == FDM_PRECOND_VP || l->kind == FDM_PRECOND_FDM_VP; }
static bool is_ve(const fdm_loss *l) { return l->kind == FDM_PRECOND_VE || l->kind == FDM_PRECOND_FDM_VE; }

bool fdm_loss_wants_normal(const fdm_loss *loss) { return !is_vp(loss) && !is_ve(loss); }

/* f32: chains of single operations, each rounded; constants are rounded where they meet a tensor. */
static float sigma_f32(const fdm_loss *l, float random) {
    if (is_vp(l)) return fdm_vp_sigma_f32(random * (float)(l->epsilon_t - 1) + 1.0f, l->beta_d, l->beta_min);
    if (is_ve(l)) {
        const float ratio = (float)(l->sigma_max / l->sigma_min);
        return (float)pow((double)ratio, (double)random) * (float)l->sigma_min;
    }
    const float log_sigma = random * (float)l->P_std + (float)l->P_mean;
    return (float)exp((double)log_sigma);
}

static double sigma_f64(const fdm_loss *l, double random) {
    if (is_vp(l)) return fdm_vp_sigma(1 + random * (l->epsilon_t - 1), l->beta_d, l->beta_min);
    if (is_ve(l)) return l->sigma_min * pow(l->sigma_max / l->sigma_min, random);
    return exp(l->P_mean + l->P_std * random);
}

double fdm_loss_sigma(const fdm_loss *loss, double random, fdm_dtype precision) {
    return precision == FDM_F32 ? (double)sigma_f32(loss, (float)random) : sigma_f64(loss, random);
}

static float weight_f32(const fdm_loss *l, float sigma) {
    if (!fdm_loss_wants_normal(l)) return 1.0f / (sigma * sigma);
    const float product = sigma * (float)l->sigma_data;
    return (sigma * sigma + (float)(l->sigma_data * l->sigma_data)) / (product * product);
}

double fdm_loss_weight(const fdm_loss *loss, double sigma, fdm_dtype precision) {
    if (precision == FDM_F32) return weight_f32(loss, (float)sigma);
    if (!fdm_loss_wants_normal(loss)) return 1 / (sigma * sigma);
    const double product = sigma * loss->sigma_data;
    return (sigma * sigma + loss->sigma_data * loss->sigma_data) / (product * product);
}

fdm_status fdm_warmup_init(fdm_warmup *warmup, double warmup_ite, fdm_error *err) {
    /* 100^(1/W) by logarithms, as published: for W = 10 a power would end in another bit, and clamp a call less */
    const double factor = exp((log(WARMUP_LAST) - log(WARMUP_FIRST)) / warmup_ite);
    if (!(warmup_ite > 0) || !isfinite(warmup_ite) || !isfinite(factor))
        return fdm_fail(err, FDM_BAD_USAGE, "warmup_ite = %g: use a positive number of loss calls", warmup_ite);
    *warmup = (fdm_warmup){WARMUP_FIRST, factor};
    return FDM_OK;
}

void fdm_warmup_none(fdm_warmup *warmup) { *warmup = (fdm_warmup){INFINITY, 1}; }

double fdm_warmup_next(fdm_warmup *warmup) {
    if (!(warmup->value < WARMUP_LAST)) return INFINITY;
    const double limit = warmup->value;
    warmup->value *= warmup->factor;
    return limit;
}

double fdm_loss_clamp(double weight, double limit, fdm_dtype precision) {
    if (precision == FDM_F32) limit = (double)(float)limit;
    return weight > limit ? limit : weight; /* a NaN weight stays NaN */
}

double fdm_loss_total(const double *per_sample, int n) {
    double stack[32] = {0}; /* fdm_tree_depth of any int */
    int top = 0;
    for (int i = 0; i < n; i++) {
        stack[top++] = per_sample[i];
        for (int m = fdm_tree_merges(i); m > 0; m--, top--) stack[top - 2] += stack[top - 1];
    }
    for (; top > 1; top--) stack[top - 2] += stack[top - 1];
    return stack[0];
}
