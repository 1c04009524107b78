/* fuzz_config.c - the model configuration (JSON) on arbitrary bytes (libFuzzer entry; see fuzz.mk). */
#include "fdm/config.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fdm_config config, again;
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_config_parse(&config, (const char *)data, size, "EDMPrecond", "fuzz", &err);
    if (status) {
        if (!err.message[0] || strpbrk(err.message, "\n\r") || err.status != status) abort();
        return 0;
    }
    fdm_config_size measured;
    if (fdm_config_measure(&measured, &config, &err) || measured.parameters < 1 || measured.flops < 1) abort();
    char *json = fdm_config_json(&config); /* what was accepted survives a round trip */
    if (!json || fdm_config_parse(&again, json, strlen(json), NULL, "again", &err)) abort();
    free(json);
    return 0;
}
