/* parameters.h - the parameters of a network as one flat array, in the order of the published module; internal.
 *
 * The flat array is what the optimiser moves and a gradient is laid out like.  A module has a weight (absent for a
 * convolution that only resamples) and perhaps a bias; buffers (resample_filter, map_noise.freqs) are not parameters.
 */
#ifndef FDM_NN_PARAMETERS_H
#define FDM_NN_PARAMETERS_H

#include "nn/graph.h"

struct fdm_parameter {
    char name[FDM_NAME_MAX + 16]; /* "model.enc.32x32_block0.conv0.weight" */
    int module;
    bool is_bias;
    int ndim;
    int64_t shape[4];
    size_t offset, count; /* in elements of the flat array */
};

struct fdm_parameters {
    struct fdm_parameter *items;
    int count;
    size_t total; /* elements of the flat array; each parameter starts where the one before ends */
    int *weight, *bias; /* [module_count]: index of a module's parameter, or -1 */
};

/* Lists them; to be released with fdm_parameters_free.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_parameters_list(struct fdm_parameters *p, const struct fdm_graph *g, fdm_error *err);
void fdm_parameters_free(struct fdm_parameters *p);

#endif
