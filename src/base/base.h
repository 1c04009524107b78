/* base.h - internal helpers that every part may use.  Knows nothing of diffusion. */
#ifndef FDM_BASE_H
#define FDM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/status.h"

#define FDM_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define FDM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Writes the message (control characters replaced by '?', so that it stays one line) and returns `status`.
 * `err` may be NULL. */
fdm_status fdm_fail(fdm_error *err, fdm_status status, const char *format, ...) FDM_PRINTF(3, 4);
/* FDM_NO_RESOURCE with "out of memory (<what>, <bytes> bytes)". */
fdm_status fdm_fail_oom(fdm_error *err, const char *what, size_t bytes);

#ifdef __clang_analyzer__ /* it cannot see into base.c: tell it that the status comes back */
#define fdm_fail(err, status, ...) ((void)fdm_fail(err, status, __VA_ARGS__), (status))
#define fdm_fail_oom(err, what, bytes) ((void)fdm_fail_oom(err, what, bytes), FDM_NO_RESOURCE)
#endif

/* 64-byte aligned memory, released with fdm_free_aligned; NULL if there is none.  Filled with 0xA5 in
 * builds with FDM_POISON, so that reads of fresh memory show. */
void *fdm_malloc_aligned(size_t bytes);
void fdm_free_aligned(void *p);
/* *work as at least `bytes` of malloc's memory whose contents may be lost; *have: its size now.  NULL (and *work as it
 * was) if there is none.  For buffers that an object keeps from call to call. */
void *fdm_work(void **work, size_t *have, size_t bytes);
/* strdup that goes through malloc, NULL if out of memory. */
char *fdm_strdup(const char *s);

/* Seconds, of a clock that is never set back. */
double fdm_now(void);

/* Length of the valid UTF-8 sequence (RFC 3629: not overlong, no surrogate, at most U+10FFFF) at p in
 * NUL-terminated text; 0 if there is none. */
int fdm_utf8_sequence(const unsigned char *p);

/* *out = a*b or a+b; false (and *out untouched) on overflow. */
bool fdm_mul_size(size_t *out, size_t a, size_t b);
bool fdm_add_size(size_t *out, size_t a, size_t b);

static inline int fdm_div_up(int a, int b) { return (a + b - 1) / b; }
static inline int fdm_min_int(int a, int b) { return a < b ? a : b; }
static inline int fdm_max_int(int a, int b) { return a > b ? a : b; }
/* The next multiple of `multiple`; SIZE_MAX, which no allocation grants, stays what it is where there is none, so that
 * an overflow found by whoever computed `a` is not lost. */
static inline size_t fdm_round_up(size_t a, size_t multiple) {
    return a > SIZE_MAX - (multiple - 1) ? SIZE_MAX : (a + multiple - 1) / multiple * multiple;
}
/* a + b, SIZE_MAX on overflow. */
static inline size_t fdm_add_saturated(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

#endif
