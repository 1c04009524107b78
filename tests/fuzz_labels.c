/* fuzz_labels.c - dataset.json on arbitrary bytes (libFuzzer entry; see fuzz.mk). */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/labels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char names[2][8] = {"a.png", "b/c.png"}, set[] = "fuzz";
    struct fdm_entry items[2] = {{.name = names[0]}, {.name = names[1]}};
    const struct fdm_entries entries = {.label = set, .items = items, .count = 2};
    struct fdm_labels l;
    volatile float sum = 0;
    fdm_error err = {.status = FDM_OK};
    const fdm_status status = fdm_labels_parse(&l, data, size, &entries, &err);
    if (status && (!err.message[0] || strpbrk(err.message, "\n\r") || err.status != status || l.classes || l.vectors)) abort();
    for (int i = 0; l.classes && i < 2; i++) sum = sum + (float)l.classes[i];
    for (int i = 0; l.vectors && i < 2 * l.dim; i++) sum = sum + l.vectors[i];
    fdm_labels_free(&l);
    return 0;
}
