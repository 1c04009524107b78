/* denoiser.h - a model file as the denoiser D(x; sigma): preconditioning around the network F.
 *
 *   D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)                                            (SPEC 2)
 *
 * Arrays at this boundary are doubles, whatever the backend computes in: the f32 backends round x and sigma to
 * f32 on entry, as the published program does, and their results convert to double exactly.
 */
#ifndef FDM_DENOISER_H
#define FDM_DENOISER_H

#include <stdbool.h>

#include "fdm/config.h"
#include "fdm/emulation.h"
#include "fdm/ranks.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fdm_denoiser fdm_denoiser;

/* Memory against time, in training: which activations of the forward pass are computed again during the backward pass.
 * The choice changes no bit.  (README, "Training", has the measured factors for the CIFAR-10 network.) */
typedef enum fdm_recompute {
    FDM_RECOMPUTE_OFF,  /* everything is kept */
    FDM_RECOMPUTE_NORM, /* normalised, concatenated and resampled maps are made again from what they came from: cheap */
    FDM_RECOMPUTE_BLOCK /* only what passes between blocks is kept; each block runs forward once more */
} fdm_recompute;

/* How the f32 backends compute 3x3 convolutions with at least 16 channels on both sides; everything else is direct.  Each
 * mode gives the same bits on every instruction set, for any threads and batch; between modes results differ by rounding
 * (README, "Convolution modes").  The gradient of the weights is winograd2's in both Winograd modes. */
typedef enum fdm_conv_mode {
    FDM_CONV_DIRECT,
    FDM_CONV_WINOGRAD2, /* Winograd's F(2x2, 3x3): as exact as direct, 2.25 times fewer multiplications */
    FDM_CONV_WINOGRAD4, /* F(4x4, 3x3): 4 times fewer, about five times the rounding error */
    FDM_CONV_MODES,
    FDM_CONV_DEFAULT = FDM_CONV_WINOGRAD2
} fdm_conv_mode;
/* "direct", "winograd2", "winograd4"; "?" for what is no mode.  The other way: false if there is no such name. */
FDM_API const char *fdm_conv_mode_name(fdm_conv_mode mode);
FDM_API bool fdm_conv_mode_find(fdm_conv_mode *mode, const char *name);

/* How to compute.  All zeros is a good default. */
typedef struct fdm_run_options {
    const char *backend; /* "auto" or NULL: f32 on the best instruction set; "reference": f64; "fp32", "tf32", "bf16",
                          * "fp16": f32 with operands and results rounded as on a GPU (fdm/emulation.h) */
    const char *isa;     /* "portable", "avx2", "avx512"; NULL: the FDM_ISA environment variable, else the best */
    const char *conv;    /* name of an fdm_conv_mode; NULL: the default.  The reference takes no notice */
    int threads;         /* 0: as many as OpenMP would use */
    fdm_recompute recompute; /* fdm/gradient.h only */
    const fdm_ranks *ranks; /* of a training run (fdm/train.h, fdm/classifier.h): who takes part; NULL: it is done alone */
    const fdm_emulation *emulation; /* NULL, or which layers to compute in which format; takes the place of `backend` */
} fdm_run_options;

/* Loads a model file (CONTRACT 3: safetensors, weights under state_dict names, metadata `config`).  The file is
 * mapped, its weights packed once, and the mapping dropped.  `*denoiser` is NULL on failure.
 * Errors: FDM_BAD_INPUT names the file and the key or all tensors that are missing or misshapen; FDM_BAD_USAGE an
 * unknown backend or an instruction set that this CPU lacks; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_denoiser_load(fdm_denoiser **denoiser, const char *path, const fdm_run_options *options,
                                     fdm_error *err);
/* The same from tensors in memory, which may be freed afterwards.  `where` names them in messages. */
FDM_API fdm_status fdm_denoiser_create(fdm_denoiser **denoiser, const fdm_config *config,
                                       const fdm_tensors *weights, const char *where,
                                       const fdm_run_options *options, fdm_error *err);
/* Frees and sets *denoiser to NULL. */
FDM_API void fdm_denoiser_free(fdm_denoiser **denoiser);

FDM_API const fdm_config *fdm_denoiser_config(const fdm_denoiser *denoiser);
/* "reference (f64)", "avx512 (f32)", ... */
FDM_API const char *fdm_denoiser_backend_name(const fdm_denoiser *denoiser);
/* FDM_F32 or FDM_F64: the precision that D, F and traces are computed in. */
FDM_API fdm_dtype fdm_denoiser_dtype(const fdm_denoiser *denoiser);

/* Receives each module's output as the network runs; `t` (name "model.enc....", NCHW or (N, features), dtype of
 * the backend) is valid during the call only.  Anything but FDM_OK stops the run and is returned. */
typedef fdm_status (*fdm_trace_fn)(void *user, const fdm_tensor *t, fdm_error *err);

/* Asked before each step of the network: true ends the run with FDM_INTERRUPTED. */
typedef bool (*fdm_stop_fn)(void *user);

typedef struct fdm_denoise_args {
    int n;                       /* samples */
    const double *x;             /* (N, C, R, R) */
    const double *sigma;         /* (N), each > 0 and finite */
    const double *class_labels;  /* (N, label_dim), or NULL for zeros */
    const double *augment_labels;/* (N, augment_dim), or NULL: map_augment is skipped */
    double *F;                   /* (N, C, R, R): raw network output, or NULL */
    fdm_trace_fn trace;          /* or NULL */
    void *trace_user;
    fdm_stop_fn stop;            /* or NULL */
    void *stop_user;
} fdm_denoise_args;

/* D (N, C, R, R).  The result for a sample does not depend on the other samples, on the number of threads or on
 * the instruction set, to the bit.  Activation memory is planned per batch size and kept between calls; one
 * denoiser serves one caller at a time.
 * Errors: FDM_BAD_INPUT names the first element of x, sigma or labels that is not finite in f32 (sigma: not positive);
 * FDM_BAD_USAGE for n outside 1..65536; FDM_NO_RESOURCE; FDM_INTERRUPTED from stop; whatever trace returns. */
FDM_API fdm_status fdm_denoise(fdm_denoiser *denoiser, double *D, const fdm_denoise_args *args, fdm_error *err);

/* The network alone, F(x; c_noise): x is fed as it is (c_in applied by the caller).  noise_embedding (N, K), if
 * not NULL, replaces the output of module map_noise (to compare networks given the same embedding).  Values are not
 * checked: a NaN in gives NaN out.  Errors: as fdm_denoise but for FDM_BAD_INPUT. */
typedef struct fdm_network_args {
    int n;
    const double *x;               /* (N, C, R, R) */
    const double *c_noise;         /* (N); unused where noise_embedding is given */
    const double *noise_embedding; /* (N, K) or NULL */
    const double *class_labels, *augment_labels; /* as above */
    fdm_trace_fn trace;
    void *trace_user;
    fdm_stop_fn stop;
    void *stop_user;
} fdm_network_args;
FDM_API fdm_status fdm_network_forward(fdm_denoiser *denoiser, double *F, const fdm_network_args *args,
                                       fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
