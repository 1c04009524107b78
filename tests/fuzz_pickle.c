/* fuzz_pickle.c - pickles and torch.save files on arbitrary bytes (libFuzzer entry; see fuzz.mk): the graph, every tensor
 * in it by name, its elements as they are and as F32, and the whole as JSON. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_clock.h"
#include "io/torch_tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void pickle_check(fdm_status status, const fdm_error *err) {
    if (status && (!err->message[0] || strpbrk(err->message, "\n\r") || err->status != status)) abort();
}

/* Reads every element; what a copy holds must be what lies there. */
static void use_tensor(const struct fdm_torch_tensor *t) {
    const fdm_dtype types[] = {t->dtype, fdm_torch_plain_dtype(t->dtype)};
    for (int i = 0; i < 2; i++) {
        const size_t bytes = (size_t)t->numel * fdm_dtype_size(types[i]);
        void *copy = bytes <= 1 << 22 ? malloc(bytes + 1) : NULL;
        const int64_t cut = t->numel / 3; /* in two pieces */
        if (copy) fdm_torch_copy(copy, t, types[i], 0, cut);
        if (copy) fdm_torch_copy((char *)copy + (size_t)cut * fdm_dtype_size(types[i]), t, types[i], cut, t->numel - cut);
        if (copy && bytes && fdm_torch_lies_plain(t, types[i]) && memcmp(copy, t->data, bytes) != 0) abort();
        free(copy);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const clock_t start = clock();
    struct fdm_torch_file f;
    struct fdm_torch_list list = {0};
    struct fdm_text json = {0};
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_torch_parse(&f, data, size, "fuzz", &err);
    pickle_check(status, &err);
    fuzz_clock_check(start);
    if (status) return 0;
    status = fdm_torch_collect(&list, &f, &f.pickle.top, "", &err);
    pickle_check(status, &err);
    for (size_t i = 0; i < list.count && i < 256; i++) use_tensor(&list.items[i].tensor);
    (void)fdm_torch_json(&json, &f, &f.pickle.top, 1 << 16);
    fdm_text_free(&json);
    fdm_torch_list_free(&list);
    fdm_torch_close(&f);
    fuzz_clock_check(start);
    return 0;
}
