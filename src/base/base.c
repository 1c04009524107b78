/* base.c - failure messages, aligned memory, checked size arithmetic. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void make_one_line(char *s) {
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == 0x7f) *s = '?';
    }
}

/* Names in parentheses: base.h makes them macros for the analyser. */
fdm_status(fdm_fail)(fdm_error *err, fdm_status status, const char *format, ...) {
    if (err) {
        va_list args;
        err->status = status;
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        make_one_line(err->message);
    }
    return status;
}

fdm_status(fdm_fail_oom)(fdm_error *err, const char *what, size_t bytes) {
    return fdm_fail(err, FDM_NO_RESOURCE, "out of memory (%s, %zu bytes)", what, bytes);
}

void *fdm_malloc_aligned(size_t bytes) {
    size_t rounded;
    if (!fdm_add_size(&rounded, bytes ? bytes : 1, 63)) return NULL;
    rounded &= ~(size_t)63;
    void *p = aligned_alloc(64, rounded);
#ifdef FDM_POISON
    if (p) memset(p, 0xA5, rounded);
#endif
    return p;
}

void fdm_free_aligned(void *p) { free(p); }

char *fdm_strdup(const char *s) {
    size_t bytes = strlen(s) + 1;
    char *copy = malloc(bytes);
    if (copy) memcpy(copy, s, bytes);
    return copy;
}

bool fdm_mul_size(size_t *out, size_t a, size_t b) {
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    *out = product;
    return true;
}

bool fdm_add_size(size_t *out, size_t a, size_t b) {
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum)) return false;
    *out = sum;
    return true;
}
