/* inputs.c - batches of network inputs out of tensor files. */
#include "cli/inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "cli/cli.h"

fdm_run_options fdm_cli_run_options(const struct fdm_cli *cli) {
    return (fdm_run_options){.backend = cli->backend == FDM_CLI_BACKEND_REFERENCE ? "reference" : "auto",
                             .isa = cli->isa,
                             .threads = cli->threads};
}

/* "[N,3,32,32]", or with a number where n is known. */
static void wanted_text(char text[FDM_SHAPE_TEXT], const struct fdm_wanted *w, int64_t n) {
    int64_t shape[FDM_ARRAY_LEN(w->shape)];
    memcpy(shape, w->shape, sizeof shape);
    shape[0] = n;
    fdm_shape_text(text, FDM_SHAPE_TEXT, w->ndim, shape);
    if (n == 0) text[1] = 'N'; /* where "[0" stands */
}

static bool is_numeric(fdm_dtype d) { return d == FDM_F32 || d == FDM_F64 || d == FDM_I64 || d == FDM_I32 || d == FDM_U8; }

/* Whether t has the wanted shape; *rows is its first dimension. */
static bool fits(const fdm_tensor *t, const struct fdm_wanted *w, int64_t n, int64_t *rows) {
    int ndim = t->ndim;
    if (w->trailing)
        while (ndim > w->ndim && t->shape[ndim - 1] == 1) ndim--;
    if (w->trailing && w->repeat && ndim == 0) { /* a scalar is one row */
        *rows = 1;
        return w->ndim == 1;
    }
    if (ndim != w->ndim) return false;
    for (int i = 1; i < ndim; i++)
        if (t->shape[i] != w->shape[i]) return false;
    *rows = t->shape[0];
    return n == 0 ? *rows > 0 : *rows == n || (w->repeat && *rows == 1);
}

fdm_status fdm_input_read(double **out, int64_t *n, const fdm_tensors *set, const char *path,
                          const struct fdm_wanted *w, fdm_error *err) {
    char has[FDM_SHAPE_TEXT], wants[FDM_SHAPE_TEXT];
    int64_t rows = 0;
    size_t bytes;
    *out = NULL;
    const fdm_tensor *t = fdm_tensors_find(set, w->name);
    wanted_text(wants, w, *n);
    if (!t && !w->required) return FDM_OK;
    if (!t) return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor \"%s\" is missing; it must be %s", path, w->name, wants);
    if (!is_numeric(t->dtype))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor \"%s\" is %s; convert it to F32 or F64", path, w->name,
                        fdm_dtype_name(t->dtype));
    if (!fits(t, w, *n, &rows)) {
        fdm_shape_text(has, sizeof has, t->ndim, t->shape);
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor \"%s\" has shape %s; it must be %s", path, w->name, has, wants);
    }
    if (*n == 0) *n = rows;
    const int64_t count = fdm_tensor_numel(t), per_row = count / rows;
    if (!fdm_mul_size(&bytes, (size_t)per_row * sizeof **out, (size_t)*n) || !(*out = malloc(bytes ? bytes : 1)))
        return fdm_fail_oom(err, w->name, (size_t)count * sizeof **out);
    for (int64_t i = 0; i < *n * per_row; i++) (*out)[i] = fdm_tensor_get(t, rows == *n ? i : i % per_row);
    return FDM_OK;
}
