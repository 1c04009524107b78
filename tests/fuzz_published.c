/* fuzz_published.c - files of the published program on arbitrary bytes (libFuzzer entry; see fuzz.mk): what `fdm import` and
 * `fdm info` read from one - configuration, network, Adam's moments, values as JSON. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_clock.h"
#include "train/published.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool published_refused(fdm_status status, const fdm_error *err) {
    if (status && (!err->message[0] || strpbrk(err->message, "\n\r") || err->status != status)) abort();
    return status != FDM_OK;
}

static void read_network(struct fdm_published *p) {
    struct fdm_torch_list list = {0};
    float *steps = NULL;
    size_t count = 0;
    fdm_error err = {.status = FDM_OK};
    if (!published_refused(fdm_published_network(&list, p, "net.", &err), &err) && p->kind == FDM_PUBLISHED_STATE)
        (void)published_refused(fdm_published_moments(&list, &steps, &count, p, &err), &err);
    free(steps);
    fdm_torch_list_free(&list);
}

static void read_everything(struct fdm_published *p) {
    struct fdm_torch_list list = {0};
    struct fdm_published_values values;
    fdm_error err = {.status = FDM_OK};
    if (!published_refused(fdm_torch_collect(&list, &p->file, &p->file.pickle.top, "", &err), &err) &&
        !published_refused(fdm_published_values(&values, p, &err), &err)) {
        size_t bytes = 0;
        for (size_t i = 0; i < values.count; i++) bytes += values.items[i].json ? strlen(values.items[i].json) : 0;
        if (bytes > 4 * ((size_t)1 << 18)) abort(); /* far beyond what all values share */
        fdm_published_values_free(&values);
    }
    fdm_torch_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const clock_t start = clock();
    struct fdm_published p;
    fdm_error err = {.status = FDM_OK};
    if (!published_refused(fdm_published_parse(&p, data, size, "fuzz", &err), &err)) {
        if (p.network) read_network(&p);
        read_everything(&p);
        fdm_published_close(&p);
    }
    fuzz_clock_check(start);
    return 0;
}
