/* config.h - constructor arguments of a preconditioned network, as published snapshots name them.
 *
 * A model file carries them as JSON in its metadata key `config`:
 *   {"class_name": "FDM_EDMPrecond", "img_resolution": 32, "img_channels": 3, "model_channels": 128, ...}
 * Missing keys take the published defaults (SPEC 3); unknown keys are ignored.
 */
#ifndef FDM_CONFIG_H
#define FDM_CONFIG_H

#include <stdint.h>

#include "fdm/precond.h"
#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FDM_MAX_LEVELS = 16, FDM_MAX_ATTN = 16, FDM_MAX_TAPS = 16 };

typedef enum fdm_embedding_type { FDM_EMBEDDING_POSITIONAL, FDM_EMBEDDING_FOURIER } fdm_embedding_type;
typedef enum fdm_skip_type { FDM_STANDARD, FDM_SKIP, FDM_RESIDUAL } fdm_skip_type; /* encoder and decoder type */

typedef struct fdm_config {
    fdm_precond precond; /* class_name, fdm_multiplier, sigma_data, ... */
    int img_resolution;  /* R: images are (C, R, R) */
    int img_channels;    /* C */
    int label_dim;       /* 0 = unconditional */
    int augment_dim;     /* 0 = no augmentation conditioning */
    int model_channels;  /* M */
    int levels;          /* length of channel_mult */
    int channel_mult[FDM_MAX_LEVELS];
    int channel_mult_emb;   /* E = M * channel_mult_emb */
    int channel_mult_noise; /* K = M * channel_mult_noise */
    int num_blocks;
    int attn_count;
    int attn_resolutions[FDM_MAX_ATTN];
    double dropout, label_dropout; /* training only */
    fdm_embedding_type embedding_type;
    fdm_skip_type encoder_type; /* standard, skip or residual */
    fdm_skip_type decoder_type; /* standard or skip */
    int filter_len;
    double resample_filter[FDM_MAX_TAPS]; /* 1-D; the 2-D filter is its outer product, normalised */
} fdm_config;

/* Published defaults of a class; img_resolution and img_channels stay 0 and must be set.
 * Errors: FDM_BAD_USAGE for an unknown kind. */
FDM_API fdm_status fdm_config_init(fdm_config *config, fdm_precond_kind kind, fdm_error *err);

/* Parses the JSON text (`bytes` long, UTF-8) and checks the result with fdm_config_check.
 * class_name, when not NULL, is used if the JSON names no class.  `where` names the source in messages.
 * Errors: FDM_BAD_INPUT naming the key, its value and what is accepted. */
FDM_API fdm_status fdm_config_parse(fdm_config *config, const char *json, size_t bytes, const char *class_name,
                                    const char *where, fdm_error *err);

/* The configuration of a model file: metadata key `config`, or `init_kwargs` with `class_name` as in tensors taken
 * from a published snapshot.  Errors as fdm_config_parse, and FDM_BAD_INPUT if the set is no model. */
FDM_API fdm_status fdm_config_from_tensors(fdm_config *config, const fdm_tensors *set, const char *where,
                                           fdm_error *err);

/* Size of the network: parameters (buffers excluded), modules that have any, and floating-point operations of one
 * forward pass for one image (2 per multiply-add; convolutions, linear layers and attention; at most INT64_MAX). */
typedef struct fdm_config_size {
    int64_t parameters, modules, flops;
} fdm_config_size;
/* The config must have passed fdm_config_check.  Errors: FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_config_measure(fdm_config_size *size, const fdm_config *config, fdm_error *err);

/* Whether such a network can exist: every level divides the resolution, every channel count its groups,
 * sizes within limits (R <= 4096, channels <= 65536).  Errors: FDM_BAD_INPUT naming the key; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_config_check(const fdm_config *config, const char *where, fdm_error *err);

/* The configuration as one line of JSON that fdm_config_parse reads back; malloc'd, NULL if out of memory. */
FDM_API char *fdm_config_json(const fdm_config *config);

#ifdef __cplusplus
}
#endif
#endif
