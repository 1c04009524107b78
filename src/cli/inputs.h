/* inputs.h - batches of network inputs out of tensor files, shared by denoise and sample. */
#ifndef FDM_CLI_INPUTS_H
#define FDM_CLI_INPUTS_H

#include "fdm/config.h"
#include "fdm/denoiser.h"
#include "fdm/tensor.h"

/* A tensor that a file should hold. */
struct fdm_wanted {
    const char *name;
    int ndim;
    int64_t shape[5]; /* shape[0] is not used: fdm_input_read's n */
    bool required;
    bool repeat;   /* a first dimension of 1 stands for n equal rows */
    bool trailing; /* trailing dimensions of 1 are ignored: (n, 1, 1, 1) for (n); a scalar for repeat */
};
/* The tensor's elements as doubles in *out (malloc'd; NULL on failure, and if the tensor is absent and not required).
 * *n is the first dimension that it must have; 0: whatever it has, at least 1, which is returned in *n.
 * Errors: FDM_BAD_INPUT naming the file, the tensor, its shape and the wanted one; FDM_NO_RESOURCE. */
fdm_status fdm_input_read(double **out, int64_t *n, const fdm_tensors *set, const char *path,
                          const struct fdm_wanted *wanted, fdm_error *err);

/* "auto" etc. from the common options. */
struct fdm_cli;
fdm_run_options fdm_cli_run_options(const struct fdm_cli *cli);

#endif
