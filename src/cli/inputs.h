/* inputs.h - batches of network inputs out of tensor files, shared by denoise and sample. */
#ifndef FDM_CLI_INPUTS_H
#define FDM_CLI_INPUTS_H

#include "fdm/config.h"
#include "fdm/denoiser.h"
#include "fdm/tensor.h"

/* Elements of the tensor `name` as doubles (malloc'd), which must have the shape (n, dims...).  Where n_free is
 * true, the first dimension may be anything and is returned in *n.  One row is repeated to n rows if `repeat`.
 * `required` false: *out is NULL if there is no such tensor.
 * Errors: FDM_BAD_INPUT naming the file, the tensor, and its shape and the wanted one or the bad element. */
struct fdm_wanted {
    const char *name;
    int ndim;
    int64_t shape[5]; /* shape[0] is n, or 0 where n is to be found out */
    bool required;
    bool repeat;   /* a first dimension of 1 stands for n equal rows */
    bool trailing; /* trailing dimensions of 1 are ignored: (n, 1, 1, 1) for (n); a scalar for repeat */
    bool positive; /* each element > 0; all elements of any tensor must be finite in f32 */
};
fdm_status fdm_input_read(double **out, int64_t *n, const fdm_tensors *set, const char *path,
                          const struct fdm_wanted *wanted, fdm_error *err);

/* `name`, or the name of the only tensor of an .npy file, which cannot choose it. */
const char *fdm_input_name(const fdm_tensors *set, const char *path, const char *name);

/* Collective: whether every rank of `ranks` (NULL: alone, and nothing is read) sees the same bytes in that file.
 * Errors, on every rank: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_input_check_same(const fdm_ranks *ranks, const char *path, fdm_error *err);

/* Whether the file could be written now, so that hours of work do not end in a wrong path: FDM_BAD_USAGE for a
 * tensor file (`tensors`) of unknown kind or .npy, which holds one tensor only; FDM_NO_RESOURCE. */
fdm_status fdm_output_check(const char *path, bool tensors, fdm_error *err);

/* "auto" etc. from the common options. */
struct fdm_cli;
fdm_run_options fdm_cli_run_options(const struct fdm_cli *cli);

#endif
