/* profile.h - where the time of a training step goes: the f32 table of layer functions with a clock around each call.
 *
 * bench_train is linked with --wrap=fdm_backend_f32, so that the library gets this table from __wrap_fdm_backend_f32; the
 * library itself knows nothing of it.  One thread only: then a call's CPU time is the layer's, however busy the machine. */
#ifndef FDM_BENCH_PROFILE_H
#define FDM_BENCH_PROFILE_H

#include <stdio.h>
#include <time.h>

#include "nn/backend.h"

enum profile_kind {
    CONV3_FORWARD, CONV3_INPUT, CONV3_WEIGHT, CONV1_FORWARD, CONV1_INPUT, CONV1_WEIGHT, NORM_FORWARD, NORM_BACKWARD,
    ATTENTION_FORWARD, ATTENTION_BACKWARD, RESAMPLE_FORWARD, RESAMPLE_BACKWARD, LINEAR_FORWARD, LINEAR_BACKWARD,
    CONCAT_FORWARD, CONCAT_BACKWARD, PACKING, PROFILE_KINDS
};
static const char *const profile_names[PROFILE_KINDS] = {
    "3x3 convolution, forward", "3x3, gradient of the input", "3x3, gradient of the weights", "1x1 convolution, forward",
    "1x1, gradient of the input", "1x1, gradient of the weights", "group norm (SiLU, dropout), forward",
    "group norm, backward", "attention, forward", "attention, backward", "resampling, forward", "resampling, backward",
    "linear, forward", "linear, backward", "concatenation, forward", "concatenation, backward", "packing of the weights"};

static struct profile_entry {
    double seconds, flops;
    long calls;
} profile[PROFILE_KINDS];
static const struct fdm_backend *profile_real; /* NULL: no profile is wanted */
static struct fdm_backend profile_table;

const struct fdm_backend *__real_fdm_backend_f32(void);
const struct fdm_backend *__wrap_fdm_backend_f32(void);
const struct fdm_backend *__wrap_fdm_backend_f32(void) { return profile_real ? &profile_table : __real_fdm_backend_f32(); }

static inline double profile_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void profile_add(enum profile_kind kind, double start, double flops) {
    profile[kind].seconds += profile_clock() - start;
    profile[kind].flops += flops;
    profile[kind].calls++;
}

static inline double profile_conv_flops(const struct fdm_map *out, const struct fdm_map *in, int k) {
    return 2.0 * out->n * out->h * out->w * k * k * out->c * in->c;
}

static inline void profile_conv2d(const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *in,
                                  const struct fdm_conv2d_args *a) {
    const double start = profile_clock();
    profile_real->conv2d(e, out, in, a);
    profile_add(a->k == 1 ? CONV1_FORWARD : CONV3_FORWARD, start, profile_conv_flops(out, in, a->k));
}

/* In two calls, one per gradient: what one leaves out the other gives. */
static inline void profile_conv2d_backward(const struct fdm_exec *e, const struct fdm_map *d_out, const struct fdm_map *in,
                                           const struct fdm_conv2d_backward_args *a) {
    struct fdm_conv2d_backward_args data = *a, weights = *a;
    const double flops = profile_conv_flops(d_out, in, a->k);
    data.d_weight = data.d_bias = NULL;
    weights.d_in.map = weights.d_residual.map = NULL;
    double start = profile_clock();
    profile_real->conv2d_backward(e, d_out, in, &data);
    profile_add(a->k == 1 ? CONV1_INPUT : CONV3_INPUT, start, a->d_in.map ? flops : 0);
    start = profile_clock();
    profile_real->conv2d_backward(e, d_out, in, &weights);
    profile_add(a->k == 1 ? CONV1_WEIGHT : CONV3_WEIGHT, start, flops);
}

#define PROFILE_CALL(kind, name, parameters, arguments)                                                               \
    static inline void profile_##name parameters {                                                                    \
        const double start = profile_clock();                                                                         \
        profile_real->name arguments;                                                                                 \
        profile_add(kind, start, 0);                                                                                  \
    }
PROFILE_CALL(NORM_FORWARD, groupnorm, (const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *in,
             const struct fdm_groupnorm_args *a), (e, out, in, a))
PROFILE_CALL(NORM_BACKWARD, groupnorm_backward, (const struct fdm_exec *e, const struct fdm_map *d_out,
             const struct fdm_map *in, const struct fdm_groupnorm_backward_args *a), (e, d_out, in, a))
PROFILE_CALL(ATTENTION_FORWARD, attention, (const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *qkv),
             (e, out, qkv))
PROFILE_CALL(ATTENTION_BACKWARD, attention_backward, (const struct fdm_exec *e, struct fdm_map_target d_qkv,
             const struct fdm_map *d_out, const struct fdm_map *qkv), (e, d_qkv, d_out, qkv))
PROFILE_CALL(RESAMPLE_FORWARD, resample, (const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *in,
             const struct fdm_resample_args *a), (e, out, in, a))
PROFILE_CALL(RESAMPLE_BACKWARD, resample_backward, (const struct fdm_exec *e, const struct fdm_map *d_out,
             const struct fdm_resample_backward_args *a), (e, d_out, a))
PROFILE_CALL(LINEAR_FORWARD, linear, (const struct fdm_exec *e, struct fdm_vec *out, const struct fdm_vec *in,
             const struct fdm_linear_args *a), (e, out, in, a))
PROFILE_CALL(LINEAR_BACKWARD, linear_backward, (const struct fdm_exec *e, const struct fdm_vec *d_out,
             const struct fdm_vec *in, const struct fdm_linear_backward_args *a), (e, d_out, in, a))
PROFILE_CALL(CONCAT_FORWARD, concat, (const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *a,
             const struct fdm_map *b), (e, out, a, b))
PROFILE_CALL(CONCAT_BACKWARD, concat_backward, (const struct fdm_exec *e, struct fdm_map_target d_a,
             struct fdm_map_target d_b, const struct fdm_map *d_out), (e, d_a, d_b, d_out))
PROFILE_CALL(PACKING, conv2d_pack, (const struct fdm_exec *e, void *packed, const float *weight, const float *bias, int out,
             int in, int k), (e, packed, weight, bias, out, in, k))
PROFILE_CALL(PACKING, linear_pack, (const struct fdm_exec *e, void *packed, const float *weight, const float *bias, int out,
             int in), (e, packed, weight, bias, out, in))

/* Before the model is loaded. */
static inline void profile_start(void) {
    profile_real = __real_fdm_backend_f32();
    profile_table = *profile_real;
    profile_table.conv2d = profile_conv2d;
    profile_table.conv2d_backward = profile_conv2d_backward;
    profile_table.groupnorm = profile_groupnorm;
    profile_table.groupnorm_backward = profile_groupnorm_backward;
    profile_table.attention = profile_attention;
    profile_table.attention_backward = profile_attention_backward;
    profile_table.resample = profile_resample;
    profile_table.resample_backward = profile_resample_backward;
    profile_table.linear = profile_linear;
    profile_table.linear_backward = profile_linear_backward;
    profile_table.concat = profile_concat;
    profile_table.concat_backward = profile_concat_backward;
    profile_table.conv2d_pack = profile_conv2d_pack;
    profile_table.linear_pack = profile_linear_pack;
}

static inline void profile_reset(void) {
    for (int i = 0; i < PROFILE_KINDS; i++) profile[i] = (struct profile_entry){0, 0, 0};
}

/* A markdown table per step, of `total` CPU seconds of all steps; what no row holds is named `rest`. */
static inline void profile_print(int steps, double total, double rest_update) {
    double rest = total - rest_update;
    printf("| | calls | CPU s | share | GFLOP/s |\n|---|---|---|---|---|\n");
    for (int i = 0; i < PROFILE_KINDS; i++) {
        const struct profile_entry *p = &profile[i];
        printf("| %s | %ld | %.3f | %.1f %% |", profile_names[i], p->calls / steps, p->seconds / steps,
               100 * p->seconds / total);
        if (p->flops > 0)
            printf(" %.1f (%.0f GFLOP) |\n", p->flops / p->seconds * 1e-9, p->flops / steps * 1e-9);
        else
            printf(" |\n");
        if (i != PACKING) rest -= p->seconds;
    }
    printf("| update without packing | 1 | %.3f | %.1f %% | |\n", (rest_update - profile[PACKING].seconds) / steps,
           100 * (rest_update - profile[PACKING].seconds) / total);
    printf("| random numbers, augmentation, loss, the rest | | %.3f | %.1f %% | |\n", rest / steps, 100 * rest / total);
    printf("| **step** | | %.3f | | |\n", total / steps);
}

#endif
