/* npz_write.c - a set of tensors as an .npz archive. */
#include "fdm/npz.h"

#include <string.h>

#include "io/io.h"
#include "io/npy.h"
#include "io/zip_write.h"

static fdm_status add_member(struct fdm_zip_writer *z, const fdm_tensor *t, const char *path, fdm_error *err) {
    struct fdm_text header = {0}, name = {0};
    fdm_status status;
    fdm_text_printf(&name, "%s.npy", t->name);
    if (!fdm_npy_make_header(&header, t))
        status = fdm_fail(err, FDM_BAD_USAGE, "%s: tensor \"%.200s\" is %s, which NumPy lacks; write .safetensors",
                          fdm_path_tail(path), t->name, fdm_dtype_name(t->dtype));
    else if (header.failed || name.failed)
        status = fdm_fail_oom(err, "array header", header.length);
    else if (name.length > 0xffff)
        status = fdm_fail(err, FDM_BAD_USAGE, "%s: tensor name \"%.60s...\" is too long for a zip",
                          fdm_path_tail(path), t->name);
    else
        status = fdm_zip_add(z, name.bytes, header.bytes, header.length, t->data, t->nbytes, err);
    fdm_text_free(&header);
    fdm_text_free(&name);
    return status;
}

fdm_status fdm_npz_write(const fdm_tensors *set, const char *path, fdm_error *err) {
    struct fdm_zip_writer z;
    fdm_status status = fdm_check_writable_set(set, path, err);
    if (!status) status = fdm_zip_begin(&z, path, err);
    if (status) return status;
    for (size_t i = 0; i < set->count && !status; i++) status = add_member(&z, &set->items[i], path, err);
    if (!status) return fdm_zip_finish(&z, err);
    fdm_zip_abort(&z);
    return status;
}
