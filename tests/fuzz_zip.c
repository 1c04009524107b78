/* fuzz_zip.c - the zip reader on arbitrary bytes (libFuzzer entry; see fuzz.mk). */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/zip_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void zip_check(fdm_status status, const fdm_error *err) {
    if (status && (!err->message[0] || strpbrk(err->message, "\n\r") || err->status != status)) abort();
}

/* Unpacks a member in pieces of odd sizes. */
static void unpack(const struct fdm_zip *zip, size_t index) {
    unsigned char piece[1000];
    struct fdm_zip_stream s;
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_zip_stream_open(&s, zip, index, &err);
    for (size_t left = zip->members[index].unpacked, n; !status && left > 0; left -= n) {
        n = left < sizeof piece ? left : sizeof piece;
        status = fdm_zip_stream_read(&s, piece, n, &err);
    }
    if (!status) status = fdm_zip_stream_finish(&s, &err);
    zip_check(status, &err);
    fdm_zip_stream_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fdm_zip zip;
    fdm_error err = {.status = FDM_OK};
    const fdm_status status = fdm_zip_open(&zip, data, size, "fuzz", &err);
    zip_check(status, &err);
    if (status) {
        if (zip.members || zip.names) abort();
        return 0;
    }
    for (size_t i = 0; i < zip.count && i < 64; i++) unpack(&zip, i);
    fdm_zip_close(&zip);
    return 0;
}
