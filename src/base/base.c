/* base.c - failure messages, aligned memory, checked size arithmetic. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

double fdm_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int fdm_utf8_sequence(const unsigned char *p) {
    int n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0; /* overlong; surrogate */
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0; /* overlong; > U+10FFFF */
    return n;
}

/* What would end the line or steer a terminal: C0 and C1 control characters, DEL, U+2028 and U+2029. */
static bool is_control(const unsigned char *p) {
    return p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0) ||
           (p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9));
}

/* One line of valid UTF-8, whatever names of hostile files it quotes, even cut off within a character. */
static void make_one_line(char *s) {
    unsigned char *p = (unsigned char *)s;
    while (*p) {
        int n = fdm_utf8_sequence(p);
        bool strange = n == 0 || is_control(p);
        for (int i = n ? n : 1; i > 0; i--, p++)
            if (strange) *p = '?';
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

/* Large blocks lie on pages of 2 MB where the system gives them when asked: the kernels walk many streams at once, more
 * than the translation buffers hold pages of 4 KB.  (bench/LOG.md; only a hint, so a failure changes nothing.) */
enum { HUGE_PAGE = 2 << 20, HUGE_PAGE_WORTH = 4 << 20 };
static void advise_huge_pages(void *p, size_t bytes) {
#ifdef MADV_HUGEPAGE
    if (p) (void)madvise(p, bytes, MADV_HUGEPAGE);
#else
    (void)p, (void)bytes;
#endif
}

void *fdm_malloc_aligned(size_t bytes) {
    size_t rounded;
    if (!fdm_add_size(&rounded, bytes ? bytes : 1, 63)) return NULL;
    rounded &= ~(size_t)63;
    void *p;
    if (rounded >= HUGE_PAGE_WORTH) {
        if (!fdm_add_size(&rounded, rounded, HUGE_PAGE - 1)) return NULL;
        rounded &= ~(size_t)(HUGE_PAGE - 1);
        p = aligned_alloc(HUGE_PAGE, rounded);
        advise_huge_pages(p, rounded);
    } else {
        p = aligned_alloc(64, rounded);
    }
#ifdef FDM_POISON
    if (p) memset(p, 0xA5, rounded);
#endif
    return p;
}

void *fdm_work(void **work, size_t *have, size_t bytes) {
    if (*work && *have >= bytes) return *work;
    void *larger = malloc(bytes);
    if (!larger) return NULL;
    free(*work);
    *work = larger;
    *have = bytes;
    return larger;
}

void fdm_free_aligned(void *p) {
    free(p);
}

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
