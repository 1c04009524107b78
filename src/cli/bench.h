/* bench.h - `fdm bench`: things to time, the rounds that time them, what comes out; internal.
 *
 * A case is one function call to time.  Cases take turns round by round, and around each call the FMA peak (and before it
 * the memory's triad) is measured, because the speed of a shared machine drifts by more than the differences of interest:
 * what counts is the median over rounds of speed / peak of the same round.
 *
 *   cmd_bench.c      options, rounds, serving         bench_layers.c    single layers, forward and backward
 *   bench_measure.c  clock, peak, triad, quartiles    bench_network.c   a model's forward pass, sampling
 *   bench_profile.c  where the time of a step goes    bench_train.c     a model's training step
 *   bench_report.c   text and JSON
 */
#ifndef FDM_CLI_BENCH_H
#define FDM_CLI_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "cli/cli.h"
#include "fdm/config.h"
#include "fdm/denoiser.h"
#include "nn/graph.h"
#include "simd/kernels.h"

/* ---- Measuring (bench_measure.c) --------------------------------------------------------------------------- */

/* Seconds of a steady clock. */
double bench_now(void);

struct bench_meter {
    const struct fdm_kernels *kernels;
    int threads;
    float *a, *b, *c; /* of the triad; [elements] each; NULL before bench_meter_init */
    size_t elements;
};
/* Kernels and threads are set: makes the triad's arrays, beyond the last-level cache, first touched by the threads that
 * will use them.  Errors: FDM_NO_RESOURCE. */
fdm_status bench_meter_init(struct bench_meter *m, fdm_error *err);
void bench_meter_free(struct bench_meter *m);
/* GFLOP/s of independent FMAs in registers, all of `threads` together: the best of a few short tries. */
double bench_peak(const struct bench_meter *m, int threads);
/* GB/s of a = (b + c) s, counted as three passes. */
double bench_triad(const struct bench_meter *m, int threads);

/* Quartiles by linear interpolation (as numpy's default) and the smallest and largest value; sorts `values`. */
struct bench_spread {
    double low, q1, median, q3, high;
};
struct bench_spread bench_spread_of(double *values, int count);

/* Resident memory: now, and its high-water mark since the process began or since bench_memory_reset. */
struct bench_memory {
    double now, peak; /* bytes; 0 if the system does not say */
};
struct bench_memory bench_memory(void);
void bench_memory_reset(void);

/* ---- Profile (bench_profile.c) ------------------------------------------------------------------------------ */

/* X(enumerator, name) */
#define BENCH_KINDS(X)                                     \
    X(CONV3_FORWARD, "3x3 convolution, forward")           \
    X(CONV3_INPUT, "3x3 convolution, d_in")                \
    X(CONV3_WEIGHT, "3x3 convolution, d_weight")           \
    X(CONV1_FORWARD, "1x1 convolution, forward")           \
    X(CONV1_INPUT, "1x1 convolution, d_in")                \
    X(CONV1_WEIGHT, "1x1 convolution, d_weight")           \
    X(NORM_FORWARD, "group norm, SiLU, dropout, forward")  \
    X(NORM_BACKWARD, "group norm, SiLU, dropout, backward") \
    X(ATTENTION_FORWARD, "attention, forward")             \
    X(ATTENTION_BACKWARD, "attention, backward")           \
    X(RESAMPLE_FORWARD, "resampling, forward")             \
    X(RESAMPLE_BACKWARD, "resampling, backward")           \
    X(LINEAR_FORWARD, "linear, forward")                   \
    X(LINEAR_BACKWARD, "linear, backward")                 \
    X(CONCAT_FORWARD, "concatenation, forward")            \
    X(CONCAT_BACKWARD, "concatenation, backward")          \
    X(IMPORT_EXPORT, "to and from the layout")             \
    X(PACKING, "packing of the weights")                   \
    X(UPDATE, "clean-up, Adam, averages")                  \
    X(DATA, "random numbers, augmentation")
enum bench_kind {
#define BENCH_KIND_ENUM(kind, name) BENCH_##kind,
    BENCH_KINDS(BENCH_KIND_ENUM)
#undef BENCH_KIND_ENUM
        BENCH_KIND_COUNT
};
const char *bench_kind_name(enum bench_kind kind);

/* Seconds, direct-algorithm operations and calls by kind of layer. */
struct bench_profile {
    struct {
        double seconds, flops;
        long calls;
    } kinds[BENCH_KIND_COUNT];
};

struct fdm_network; /* nn/network.h */
/* Gives the network a copy of its table of layer functions with a clock around each. */
void bench_profile_attach(struct fdm_network *net);
/* Adds time that was taken elsewhere. */
void bench_profile_add(struct bench_profile *profile, enum bench_kind kind, double seconds);
/* Where those clocks count from now on; NULL: nowhere. */
void bench_profile_into(struct bench_profile *profile);

/* ---- Cases ---------------------------------------------------------------------------------------------------- */

enum bench_group { BENCH_LAYERS, BENCH_NETWORK, BENCH_TRAIN, BENCH_SAMPLE };

struct bench_sample {
    double seconds;     /* of one call */
    double peak, triad; /* GFLOP/s right before or after, whichever is more; GB/s right before */
};

struct bench_case {
    enum bench_group group;
    char name[48];    /* "3x3 256->256 32x32" */
    const char *pass; /* "forward", "d_in", "d_weight", "backward", "step" */
    int n;            /* samples */
    double flops;     /* of the direct algorithm */
    double executed;  /* of the algorithm that runs (a Winograd convolution multiplies less) */
    double bytes;     /* that must move at least, where memory is the limit; else 0 */
    double memory;    /* bytes at its peak; 0: not measured */
    bool repeat;      /* short: call it for some milliseconds and take the mean */
    fdm_status (*run)(void *state, fdm_error *err);
    void *state;
    struct bench_profile *profile; /* or NULL */
    const struct fdm_graph *graph; /* of a whole network's forward pass, or NULL */
    struct bench_sample *samples;  /* [rounds] */
    int count;                     /* of samples */
};

enum { BENCH_MAX_CASES = 96 };
struct bench_cases {
    struct bench_case items[BENCH_MAX_CASES];
    int count;
};
/* The next free one, cleared, or NULL. */
struct bench_case *bench_case_add(struct bench_cases *cases, enum bench_group group, const char *name, const char *pass);

/* What all groups are made from. */
struct bench_setup {
    fdm_run_options run; /* of the library: threads, instruction set, recomputation */
    int batch;
    const char *only; /* a layer case counts if "name pass" contains this; NULL: all do */
    const char *model, *config; /* model file; or JSON that changes the default configuration; or NULL */
    int64_t images, steps; /* of sampling */
    double dropout, augment; /* of training */
};

/* How many times fewer multiplications the convolution mode of `run` needs than the direct algorithm, k x k; d_weight: for
 * the gradient of the weights. */
double bench_conv_saving(const fdm_run_options *run, int in, int out, int k, bool d_weight);

/* Operations that those options execute for one of the direct algorithm: of the forward pass (and the gradients of inputs),
 * or of the gradients of weights. */
double bench_executed_share(const struct fdm_graph *graph, const fdm_run_options *run, bool d_weight);

/* Each group adds its cases and keeps what they need until it is freed.  Errors: FDM_NO_RESOURCE, those of model files. */
struct bench_layers;
fdm_status bench_layers_add(struct bench_layers **layers, struct bench_cases *cases, const struct bench_setup *setup,
                            fdm_error *err);
void bench_layers_free(struct bench_layers **layers);

struct bench_network;
fdm_status bench_network_add(struct bench_network **network, struct bench_cases *cases, const struct bench_setup *setup,
                             enum bench_group group, fdm_error *err);
void bench_network_free(struct bench_network **network);

struct bench_train;
fdm_status bench_train_add(struct bench_train **train, struct bench_cases *cases, const struct bench_setup *setup,
                           fdm_error *err);
void bench_train_free(struct bench_train **train);

/* The tensors and configuration of the model that setup names; the published CIFAR-10 ddpmpp network with initial weights
 * if it names none.  Free with fdm_tensors_free.  Errors: those of model files. */
fdm_status bench_model_load(fdm_tensors *set, fdm_config *config, const struct bench_setup *setup, fdm_error *err);

/* ---- Report (bench_report.c) ---------------------------------------------------------------------------------- */

struct bench_result {
    const struct bench_cases *cases;
    const char *isa;
    int threads, rounds;
    double *peak, *peak_one, *triad, *triad_one; /* [rounds] */
    double load[3];                              /* load average at the start */
};
void bench_print_text(const struct bench_result *r);
/* Errors: FDM_NO_RESOURCE. */
fdm_status bench_print_json(const struct bench_result *r, fdm_error *err);

#endif
