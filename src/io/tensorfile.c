/* tensorfile.c - the format of a tensor file by its extension. */
#include "fdm/tensorfile.h"

#include <string.h>
#include <strings.h>

#include "fdm/npz.h"
#include "fdm/safetensors.h"
#include "io/io.h"

enum format { SAFETENSORS, NPZ, NPY, UNKNOWN };

static enum format format_of(const char *path) {
    static const char *const extensions[] = {[SAFETENSORS] = ".safetensors", [NPZ] = ".npz", [NPY] = ".npy"};
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    int f = 0;
    while (dot && f < UNKNOWN && strcasecmp(dot, extensions[f]) != 0) f++;
    return dot ? (enum format)f : UNKNOWN;
}

static fdm_status unknown(const char *path, fdm_error *err) {
    return fdm_fail(err, FDM_BAD_USAGE, "%s: unknown kind of tensor file; name it .safetensors, .npz or .npy",
                    fdm_path_tail(path));
}

fdm_status fdm_tensorfile_check_name(const char *path, fdm_error *err) {
    return format_of(path) == UNKNOWN ? unknown(path, err) : FDM_OK;
}

fdm_status fdm_tensorfile_read(fdm_tensors *set, const char *path, fdm_error *err) {
    memset(set, 0, sizeof *set);
    switch (format_of(path)) {
    case SAFETENSORS:
        return fdm_safetensors_read(set, path, err);
    case NPZ:
        return fdm_npz_read(set, path, err);
    case NPY:
        return fdm_npy_read(set, path, err);
    case UNKNOWN:
        break;
    }
    return unknown(path, err);
}

fdm_status fdm_tensorfile_write(const fdm_tensors *set, const char *path, fdm_error *err) {
    switch (format_of(path)) {
    case SAFETENSORS:
        return fdm_safetensors_write(set, path, err);
    case NPZ:
        return fdm_npz_write(set, path, err);
    case NPY:
        if (set->count == 1) return fdm_npy_write(&set->items[0], path, err);
        return fdm_fail(err, FDM_BAD_USAGE, "%s: %zu tensors do not fit one .npy file; write .npz or .safetensors",
                        fdm_path_tail(path), set->count);
    case UNKNOWN:
        break;
    }
    return unknown(path, err);
}
