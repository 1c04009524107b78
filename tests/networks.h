/* networks.h - test helper: whole models on every backend that this machine can run. */
#ifndef FDM_TEST_NETWORKS_H
#define FDM_TEST_NETWORKS_H

#include <stdbool.h>

#include "fdm/denoiser.h"
#include "fdm/tensor.h"

/* A way to run a network. */
struct runner {
    const char *label, *backend, *isa;
    bool f32;
    const char *conv; /* name of an fdm_conv_mode; NULL: the default */
};
enum { MAX_RUNNERS = 4 };
/* The reference, then the f32 backend on every instruction set; prints a SKIP line for each that is lacking. */
int runners(struct runner list[MAX_RUNNERS]);
/* The f32 backend on every instruction set, in one convolution mode. */
int runners_of_mode(struct runner list[MAX_RUNNERS], fdm_conv_mode mode);

/* All model files among the goldens: the published program's, then those of our own PyTorch network. */
struct model_files {
    char **paths;
    size_t count;
};
void model_files_find(struct model_files *files);
void model_files_free(struct model_files *files);

/* A model file that is its own input file, as every golden net_* is. */
struct model_case {
    const char *path;
    fdm_tensors set;
    int n, channels, resolution;
    size_t pixels; /* of the batch */
    double *x, *sigma, *class_labels, *augment_labels; /* the last two NULL if the file has none */
};
void model_case_open(struct model_case *c, const char *path);
void model_case_close(struct model_case *c);
/* How many of a model's 3x3 convolutions the Winograd modes compute their way; where there is none, all modes are one. */
int model_winograd_layers(const fdm_tensors *model);
fdm_denoiser *model_case_load(const struct model_case *c, const struct runner *r, int threads);

/* D and F of the case's inputs (fresh arrays of c->pixels). */
struct denoised {
    double *D, *F;
};
/* D(x; sigma) with the case's labels; first and count choose samples (count 0: all). */
struct denoised model_case_denoise(const struct model_case *c, fdm_denoiser *d, int first, int count, fdm_tensors *traces);
void denoised_free(struct denoised *r);

/* fdm_trace_fn that copies every tensor into the fdm_tensors given as `user`. */
fdm_status collect_trace(void *user, const fdm_tensor *t, fdm_error *err);

#endif
