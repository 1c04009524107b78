/* inputs.c - batches of network inputs out of tensor files. */
#include "cli/inputs.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "base/base.h"
#include "cli/cli.h"
#include "fdm/tensorfile.h"
#include "io/atomic_file.h"
#include "io/io.h"

fdm_run_options fdm_cli_run_options(const struct fdm_cli *cli) {
    return (fdm_run_options){.backend = fdm_cli_backend_names[cli->backend],
                             .isa = cli->isa,
                             .conv = cli->conv,
                             .threads = cli->threads};
}

/* first: what to show for the first dimension instead of a number, or NULL. */
static void shape_text(char text[128], int ndim, const int64_t *shape, const char *first) {
    size_t used = (size_t)snprintf(text, 128, "[");
    for (int i = 0; i < ndim && used < 100; i++)
        used += i || !first ? (size_t)snprintf(text + used, 128 - used, "%s%" PRId64, i ? "," : "", shape[i])
                            : (size_t)snprintf(text + used, 128 - used, "%s", first);
    snprintf(text + used, 128 - used, "]");
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

static fdm_status check_values(const double *values, int64_t count, const char *path, const struct fdm_wanted *w,
                               fdm_error *err) {
    for (int64_t i = 0; i < count; i++) {
        const bool finite = isfinite((float)values[i]);
        if (finite && !(w->positive && !((float)values[i] > 0))) continue;
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor \"%s\": element %" PRId64 " is %g; it must be %s", path, w->name, i,
                        values[i], w->positive ? "positive and finite" : "finite in f32");
    }
    return FDM_OK;
}

const char *fdm_input_name(const fdm_tensors *set, const char *path, const char *name) {
    const char *dot = strrchr(path, '.');
    const bool npy = dot && strcasecmp(dot, ".npy") == 0;
    return npy && set->count == 1 ? set->items[0].name : name;
}

fdm_status fdm_input_check_same(const fdm_ranks *ranks, const char *path, fdm_error *err) {
    struct fdm_file_map map;
    if (!ranks) return FDM_OK;
    fdm_status status = fdm_file_map_open(&map, path, err);
    fdm_ranks_fact facts[] = {{"its size", 0}, {"its checksum", 0}};
    if (status == FDM_OK) {
        facts[0].value = (int64_t)map.size;
        facts[1].value = (int64_t)crc32_z(0, map.bytes, map.size);
        fdm_file_map_close(&map);
    }
    status = fdm_ranks_agree(ranks, status, NULL, err);
    return status == FDM_OK ? fdm_ranks_check_same(ranks, path, facts, (int)FDM_ARRAY_LEN(facts), err) : status;
}

fdm_status fdm_output_check(const char *path, bool tensors, fdm_error *err) {
    struct fdm_atomic_file file;
    const char *dot = strrchr(path, '.');
    fdm_status status = tensors ? fdm_tensorfile_check_name(path, err) : FDM_OK;
    if (status == FDM_OK && tensors && dot && strcasecmp(dot, ".npy") == 0)
        status = fdm_fail(err, FDM_BAD_USAGE, "%s: several tensors do not fit one .npy file; write .npz or .safetensors", path);
    if (status == FDM_OK) status = fdm_atomic_open(&file, path, err);
    if (status == FDM_OK) fdm_atomic_abort(&file);
    return status;
}

fdm_status fdm_input_read(double **out, int64_t *n, const fdm_tensors *set, const char *path,
                          const struct fdm_wanted *w, fdm_error *err) {
    char has[128], wants[128];
    int64_t rows = 0, wanted[5];
    size_t bytes;
    *out = NULL;
    const fdm_tensor *t = fdm_tensors_find(set, w->name);
    memcpy(wanted, w->shape, sizeof wanted);
    wanted[0] = *n;
    shape_text(wants, w->ndim, wanted, *n ? NULL : "N");
    if (!t && !w->required) return FDM_OK;
    if (!t) return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor \"%s\" is missing; it must be %s", path, w->name, wants);
    if (!is_numeric(t->dtype))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor \"%s\" is %s; convert it to F32 or F64", path, w->name,
                        fdm_dtype_name(t->dtype));
    if (!fits(t, w, *n, &rows)) {
        shape_text(has, t->ndim, t->shape, NULL);
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor \"%s\" has shape %s; it must be %s", path, w->name, has, wants);
    }
    if (*n == 0) *n = rows;
    const int64_t count = fdm_tensor_numel(t), per_row = count / rows;
    if (!fdm_mul_size(&bytes, (size_t)per_row * sizeof **out, (size_t)*n) || !(*out = malloc(bytes ? bytes : 1)))
        return fdm_fail_oom(err, w->name, (size_t)count * sizeof **out);
    const int64_t total = *n * per_row;
    for (int64_t i = 0; i < total; i++) (*out)[i] = fdm_tensor_get(t, rows == *n ? i : i % per_row);
    return check_values(*out, total, path, w, err);
}
