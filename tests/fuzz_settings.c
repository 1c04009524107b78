/* fuzz_settings.c - training_options.json on arbitrary bytes (libFuzzer entry; see fuzz.mk). */
#include "fdm/train.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fdm_train_settings settings, again;
    fdm_config config;
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_train_settings_parse(&settings, (const char *)data, size, "fuzz", &err);
    if (status) {
        if (!err.message[0] || strpbrk(err.message, "\n\r") || err.status != status) abort();
        return 0;
    }
    if (fdm_train_check(&settings, &err) == FDM_OK) {
        (void)fdm_train_network(&config, &settings, 32, 3, 10, &err); /* may be refused, must not crash */
        char *json = fdm_train_settings_json(&settings);              /* what was accepted survives a round trip */
        if (!json || fdm_train_settings_parse(&again, json, strlen(json), "again", &err)) abort();
        char *second = fdm_train_settings_json(&again);
        if (!second || strcmp(json, second) != 0) abort();
        free(second);
        free(json);
        fdm_train_settings_free(&again);
    }
    fdm_train_settings_free(&settings);
    return 0;
}
