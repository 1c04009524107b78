/* trials.c - the mistakes that a diagnosis tries. */
#include "verify/trials.h"

#include <math.h>
#include <stdio.h>

#include "base/base.h"
#include "nn/graph.h"

enum {
    CONV = 1 << FDM_OP_CONV2D,
    LINEAR = 1 << FDM_OP_LINEAR,
    NORM = 1 << FDM_OP_GROUPNORM,
    ATTENTION = 1 << FDM_OP_ATTENTION,
    RESAMPLE = 1 << FDM_OP_RESAMPLE,
    CONCAT = 1 << FDM_OP_CONCAT,
    NOISE = 1 << FDM_OP_NOISE_EMBEDDING,
    SWAP = 1 << FDM_OP_SWAP_HALVES
};

static const double box[] = {1, 1}, triangle[] = {1, 3, 3, 1}, binomial[] = {1, 5, 10, 10, 5, 1};

static const struct fdm_trial layer_trials[] = {
    {.text = "eps of the normalisation is 1e-6, not 1e-5", .ops = NORM, .variant = {.eps = 1e-5}},
    {.text = "eps of the normalisation is 1e-6, not 1e-3", .ops = NORM, .variant = {.eps = 1e-3}},
    {.text = "eps of the normalisation is 1e-6, not 1e-8", .ops = NORM, .variant = {.eps = 1e-8}},
    {.text = "the variance is biased (divided by the count, not by count - 1)", .ops = NORM, .variant = {.unbiased = true}},
    {.text = "affine(emb) is added before norm1", .ops = NORM, .variant = {.no_add = true}},
    {.text = "SiLU is applied before it", .variant = {.no_silu = true}},
    {.text = "the bias is added", .ops = CONV | LINEAR | RESAMPLE, .variant = {.no_bias = true}},
    {.text = "the weight is [out, in], not transposed", .ops = CONV | LINEAR, .variant = {.kernel = FDM_KERNEL_TRANSPOSED}},
    {.text = "the kernel is not flipped (a cross-correlation)", .ops = CONV, .variant = {.kernel = FDM_KERNEL_FLIPPED}},
    {.text = "the kernel's axes are [ky, kx], not [kx, ky]", .ops = CONV, .variant = {.kernel = FDM_KERNEL_TURNED}},
    {.text = "the padding is zeros, not circular", .ops = CONV, .variant = {.padding = FDM_PAD_CIRCULAR}},
    {.text = "the padding is zeros, not reflected", .ops = CONV, .variant = {.padding = FDM_PAD_REFLECT}},
    {.text = "the padding is zeros, not replicated", .ops = CONV, .variant = {.padding = FDM_PAD_REPLICATE}},
    {.text = "the sum with the skip path is multiplied by sqrt(1/2)", .ops = CONV | RESAMPLE, .variant = {.scale = 1}},
    {.text = "the sum with the skip path is multiplied by sqrt(1/2), not 1/2", .ops = CONV | RESAMPLE, .variant = {.scale = 0.5}},
    {.text = "the skip path is added", .ops = CONV | RESAMPLE, .variant = {.no_residual = true}},
    {.text = "the labels are multiplied by sqrt(label_dim)", .ops = LINEAR, .variant = {.in_scale = 1}},
    {.text = "the noise embedding's halves are swapped to [sin, cos] before map_layer0", .ops = SWAP, .variant = {.no_swap = true}},
    {.text = "the noise embedding is [cos, sin], not [sin, cos]", .ops = NOISE, .variant = {.embedding = FDM_EMBEDDING_SIN_FIRST}},
    {.text = "the frequencies are 10000^(-i/(K/2-1)), not 10000^(-i/(K/2))", .ops = NOISE, .variant = {.embedding = FDM_EMBEDDING_HALF}},
    {.text = "the Fourier angles have the factor 2 pi", .ops = NOISE, .variant = {.embedding = FDM_EMBEDDING_NO_TWO_PI}},
    {.text = "the Fourier frequencies stay f32, not bf16", .ops = NOISE, .variant = {.embedding = FDM_EMBEDDING_BF16}},
    {.text = "the Fourier frequencies stay f32, not fp16", .ops = NOISE, .variant = {.embedding = FDM_EMBEDDING_FP16}},
    {.text = "the attention scores are divided by sqrt(C)", .ops = ATTENTION, .variant = {.logits = 0.5}},
    {.text = "the attention scores are divided by sqrt(C), not by C", .ops = ATTENTION, .variant = {.logits = -0.5}},
    {.text = "the softmax runs over keys, not over queries", .ops = ATTENTION, .variant = {.softmax_over_queries = true}},
    {.text = "the resampling filter is the model's, not [1,1]", .ops = RESAMPLE, .variant = {.taps = box, .tap_count = 2}},
    {.text = "the resampling filter is the model's, not [1,3,3,1]", .ops = RESAMPLE, .variant = {.taps = triangle, .tap_count = 4}},
    {.text = "the resampling filter is the model's, not [1,5,10,10,5,1]", .ops = RESAMPLE, .variant = {.taps = binomial, .tap_count = 6}},
    {.text = "upsampling has the factor 4 of its filter", .ops = RESAMPLE, .variant = {.gain = 0.25}},
    {.text = "the resampling filter's gain is not doubled", .ops = RESAMPLE, .variant = {.gain = 2}},
    {.text = "the resampling filter's gain is not 4 times its own", .ops = RESAMPLE, .variant = {.gain = 4}},
    {.text = "the skip is concatenated behind x, not before it", .ops = CONCAT, .variant = {.concat_swapped = true}},
    {.text = "it is computed from this model's weights, not from those of --other", .other_weights = true},
};

struct tried {
    const struct fdm_trial_model *model;
    void (*attempt)(void *user, struct fdm_trial *);
    void *user;
};

static void attempt(const struct tried *a, const struct fdm_trial *t) {
    struct fdm_trial copy = *t;
    a->attempt(a->user, &copy);
}

static void try_layers(const struct tried *a) {
    static const int groups[] = {1, 2, 4, 8, 16, 32, 64};
    static const char part[] = "qkv";
    struct fdm_trial t;
    for (size_t i = 0; i < FDM_ARRAY_LEN(layer_trials); i++) attempt(a, &layer_trials[i]);
    for (size_t i = 0; i < FDM_ARRAY_LEN(groups); i++) {
        t = (struct fdm_trial){.ops = NORM, .variant = {.groups = groups[i]}};
        snprintf(t.text, sizeof t.text, "the normalisation has min(32, C/4) groups, not %d", groups[i]);
        attempt(a, &t);
    }
    for (int order = 0; order < 12; order++) {
        const int *from = fdm_qkv_orders[order % 6];
        t = (struct fdm_trial){.ops = ATTENTION, .variant = {.qkv_order = order % 6, .qkv_blocks = order >= 6}};
        char seen[4] = "???";
        for (int k = 0; k < 3; k++) seen[from[k]] = part[k];
        if (order == 0) continue;
        snprintf(t.text, sizeof t.text, "channels 3j, 3j+1, 3j+2 of qkv are q, k, v of channel j, not %s%s",
                 order >= 6 ? "three blocks " : "", seen);
        attempt(a, &t);
    }
    t = (struct fdm_trial){.ops = LINEAR, .variant = {.in_scale = a->model->config->label_dim}};
    snprintf(t.text, sizeof t.text, "the labels are multiplied by sqrt(label_dim), not by label_dim");
    if (a->model->config->label_dim > 1) attempt(a, &t);
}

/* Coefficients of another framework, multiplier or constant; c_in first and alone, as that is the commonest. */
static void try_precond(const struct tried *a, const fdm_precond *p, const char *what) {
    static const struct {
        unsigned changes;
        const char *name;
    } parts[] = {{FDM_TRIAL_C_IN, "c_in"},
                 {FDM_TRIAL_C_NOISE, "c_noise"},
                 {FDM_TRIAL_C_SKIP, "c_skip"},
                 {FDM_TRIAL_C_OUT, "c_out"},
                 {FDM_TRIAL_ALL, "the preconditioning"}};
    for (size_t i = 0; i < FDM_ARRAY_LEN(parts); i++) {
        struct fdm_trial t = {.changes = parts[i].changes, .precond = *p};
        snprintf(t.text, sizeof t.text, "%s is that of %s with fdm_multiplier %g, not %s", parts[i].name,
                 fdm_precond_name(a->model->config->precond.kind), a->model->config->precond.fdm_multiplier, what);
        attempt(a, &t);
    }
}

static void try_preconds(const struct tried *a) {
    static const double multipliers[] = {1, 2, 0.5, 4};
    const fdm_precond *own = &a->model->config->precond;
    fdm_precond p;
    fdm_error err;
    char what[120];
    for (int kind = 0; kind < FDM_PRECOND_COUNT; kind++)
        for (size_t m = 0; m < FDM_ARRAY_LEN(multipliers); m++) {
            if (fdm_precond_init(&p, (fdm_precond_kind)kind, multipliers[m], &err) != FDM_OK) continue;
            if (m > 0 && !(fdm_precond_is_fdm((fdm_precond_kind)kind) && kind != FDM_PRECOND_FDM_VE)) continue;
            if (kind == (int)own->kind && multipliers[m] == own->fdm_multiplier && own->zeta == 1) continue;
            if (fdm_precond_is_fdm((fdm_precond_kind)kind))
                snprintf(what, sizeof what, "of %s with fdm_multiplier %g", fdm_precond_name((fdm_precond_kind)kind), multipliers[m]);
            else snprintf(what, sizeof what, "of %s", fdm_precond_name((fdm_precond_kind)kind));
            try_precond(a, &p, what);
        }
    static const double sigma_data[] = {1, 0.25};
    for (size_t i = 0; i < FDM_ARRAY_LEN(sigma_data); i++) {
        p = *own;
        p.sigma_data = sigma_data[i];
        snprintf(what, sizeof what, "with sigma_data %g", sigma_data[i]);
        try_precond(a, &p, what);
    }
    struct fdm_trial t = {.changes = FDM_TRIAL_C_IN, .precond = *own, .clamp_sigma = true};
    snprintf(t.text, sizeof t.text, "sigma (and so t') is not clamped to [%g, %g] in c_in", own->sigma_min, own->sigma_max);
    attempt(a, &t);
    t.changes = FDM_TRIAL_ALL;
    snprintf(t.text, sizeof t.text, "sigma is not clamped to [%g, %g]", own->sigma_min, own->sigma_max);
    attempt(a, &t);
    t = (struct fdm_trial){.changes = FDM_TRIAL_C_IN, .precond = *own, .unit_c_in = true, .text = "x is multiplied by c_in"};
    attempt(a, &t);
}

void fdm_trials(const struct fdm_trial_model *model, void (*f)(void *user, struct fdm_trial *), void *user) {
    const struct tried a = {model, f, user};
    struct fdm_trial t = {.no_labels = true, .text = "the class labels are given, not zeros"};
    try_layers(&a);
    try_preconds(&a);
    if (model->with_labels) attempt(&a, &t);
    t = (struct fdm_trial){.no_augment = true, .text = "the augmentation labels are given"};
    if (model->with_augment) attempt(&a, &t);
}
