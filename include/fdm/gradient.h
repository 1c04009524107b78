/* gradient.h - the training objective and its gradient with respect to every parameter.
 *
 *     L = scale * sum_n w_n ||D(y_n + sigma_n e_n; sigma_n) - y_n||^2          (Karras et al. 2022, equations 7 and 8)
 *
 * by backpropagation through the preconditioning and the whole network, on any backend.  Sums over samples follow one
 * fixed binary tree over adjacent samples, so that gradients do not depend on the number of threads or the instruction
 * set, and a batch taken in rounds of a power of two samples gives the bits of the whole batch (fdm_accumulator).
 *
 *     fdm_gradient *g;
 *     fdm_gradient_create(&g, &config, &weights, "model.safetensors", NULL, &err);
 *     float *gradient = calloc(fdm_gradient_size(g), sizeof *gradient);       // f32 backends; double for the reference
 *     fdm_gradient_args args = {.n = 8, .y = y, .sigma = sigma, .noise_unit = e, .weight = w, .scale = 1.0 / 8};
 *     fdm_gradient_compute(g, gradient, &args, &err);
 *     for (int i = 0; i < fdm_gradient_parameter_count(g); i++) {
 *         fdm_parameter_info p = fdm_gradient_parameter(g, i);                // "model.map_layer0.weight" at p.offset
 *     }
 */
#ifndef FDM_GRADIENT_H
#define FDM_GRADIENT_H

#include "fdm/denoiser.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A denoiser whose parameters can be read, moved and differentiated by. */
typedef struct fdm_gradient fdm_gradient;

/* From tensors in memory (a model file's), which may be freed afterwards; `where` names them in messages; options NULL:
 * all zeros.  *gradient is NULL on failure.  Errors: as fdm_denoiser_create. */
FDM_API fdm_status fdm_gradient_create(fdm_gradient **gradient, const fdm_config *config, const fdm_tensors *weights,
                                       const char *where, const fdm_run_options *options, fdm_error *err);
/* Frees and sets *gradient to NULL. */
FDM_API void fdm_gradient_free(fdm_gradient **gradient);

FDM_API const fdm_config *fdm_gradient_config(const fdm_gradient *gradient);
FDM_API const char *fdm_gradient_backend_name(const fdm_gradient *gradient);
/* FDM_F32 or FDM_F64: the precision of the computation and the element type of gradients. */
FDM_API fdm_dtype fdm_gradient_dtype(const fdm_gradient *gradient);
/* Bytes of activations and scratch that the latest batch needed. */
FDM_API size_t fdm_gradient_activation_bytes(const fdm_gradient *gradient);
/* Bytes of activations that a batch of n needs in that precision (FDM_F32, or FDM_F64 for the reference) with that
 * recomputation; the same whatever backend this object is on, and for any number of threads.  Errors: FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_gradient_plan_bytes(const fdm_gradient *gradient, int n, fdm_dtype precision, fdm_recompute recompute,
                                           size_t *bytes, fdm_error *err);

/* Parameters lie one behind the other in a flat array, in the order of the published module. */
typedef struct fdm_parameter_info {
    const char *name; /* "model.enc.32x32_block0.conv0.weight" */
    int ndim;
    const int64_t *shape;
    size_t offset, count; /* elements of the flat array */
} fdm_parameter_info;
FDM_API int fdm_gradient_parameter_count(const fdm_gradient *gradient);
FDM_API fdm_parameter_info fdm_gradient_parameter(const fdm_gradient *gradient, int index);
/* Elements of the flat array: the number of trainable values. */
FDM_API size_t fdm_gradient_size(const fdm_gradient *gradient);

/* The flat array itself, owned by the object.  Whoever writes to it calls fdm_gradient_values_changed before the next
 * computation. */
FDM_API float *fdm_gradient_values(fdm_gradient *gradient);
FDM_API void fdm_gradient_values_changed(fdm_gradient *gradient);

/* A model file's tensors in the state_dict's order, buffers included, parameters taken from the flat array `values`
 * (borrowed: it must outlive the set), with the metadata `config`.  Errors: FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_gradient_model(const fdm_gradient *gradient, fdm_tensors *set, const float *values,
                                      fdm_error *err);

typedef struct fdm_gradient_args {
    int n;                        /* samples */
    const double *y;              /* (N, C, R, R): clean images */
    const double *sigma;          /* (N), each > 0 */
    const double *noise_unit;     /* (N, C, R, R): e ~ N(0, 1) */
    const double *weight;         /* (N): w, clamped already where a warm-up is on */
    const double *class_labels;   /* (N, label_dim) or NULL for zeros */
    const double *augment_labels; /* (N, augment_dim) or NULL: map_augment is skipped and gets no gradient */
    double scale;                 /* factor of L: loss_scaling / batch_total */
    double dropout;               /* probability in [0, 1); 0: none */
    const uint64_t *dropout_keys; /* (N): the mask of a sample is a function of its key; NULL where dropout is 0 */
    double *D;                    /* (N, C, R, R): receives the denoised images, or NULL */
    double *loss;                 /* (N): receives w ||D - y||^2 of each sample (not scaled), or NULL */
    double *loss_square;          /* (N): receives the sum of squares of that sample's w (D - y)^2, or NULL */
    fdm_stop_fn stop;             /* or NULL */
    void *stop_user;
} fdm_gradient_args;

/* dL/dparameter into `gradient` (fdm_gradient_size elements of fdm_gradient_dtype).  Elements of parameters that the
 * loss cannot reach are left as they are.  A loss that is not finite is no error: it gives gradients that are not
 * finite.  Errors: FDM_BAD_USAGE for n outside 1..65536, a dropout outside [0, 1) or without keys;
 * FDM_NO_RESOURCE; FDM_INTERRUPTED from stop. */
FDM_API fdm_status fdm_gradient_compute(fdm_gradient *g, void *gradient, const fdm_gradient_args *args, fdm_error *err);

/* Sums gradients of accumulation rounds along the tree: at most floor(log2 rounds) + 1 gradients in memory. */
typedef struct fdm_accumulator fdm_accumulator;
FDM_API fdm_status fdm_accumulator_create(fdm_accumulator **accumulator, fdm_gradient *g, fdm_error *err);
FDM_API void fdm_accumulator_free(fdm_accumulator **accumulator);
/* Forgets everything that was added. */
FDM_API void fdm_accumulator_reset(fdm_accumulator *accumulator);
/* Computes one round's gradient and adds it.  After an error the accumulator is as before.  Errors: FDM_BAD_USAGE after
 * fdm_accumulator_sum, until the next reset; as fdm_gradient_compute. */
FDM_API fdm_status fdm_accumulator_add(fdm_accumulator *accumulator, const fdm_gradient_args *args, fdm_error *err);
/* The sum of all rounds added since the last reset, owned by the accumulator; NULL if there are none. */
FDM_API void *fdm_accumulator_sum(fdm_accumulator *accumulator);

#ifdef __cplusplus
}
#endif
#endif
