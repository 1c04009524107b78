/* fuzz_npz.c - the .npy and .npz readers on arbitrary bytes (libFuzzer entry; see fuzz.mk). */
#include "fdm/npz.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fdm_tensors set;
    fdm_error err = {.status = FDM_OK};
    volatile double sum = 0;
    bool npy = size > 0 && data[0] == 0x93;
    fdm_status status =
        npy ? fdm_npy_parse(&set, data, size, "x", "fuzz", &err) : fdm_npz_parse(&set, data, size, "fuzz", &err);
    if (status && (!err.message[0] || strpbrk(err.message, "\n\r") || err.status != status || set.items)) abort();
    for (size_t i = 0; i < set.count; i++) {
        const fdm_tensor *t = &set.items[i];
        if ((uintptr_t)t->data % fdm_dtype_size(t->dtype) || fdm_tensors_find(&set, t->name) != t) abort();
        for (int64_t e = 0; e < fdm_tensor_numel(t); e++) sum = sum + fdm_tensor_get(t, e);
    }
    fdm_tensors_free(&set);
    return 0;
}
