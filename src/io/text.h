/* text.h - growing text, JSON strings, UTF-8. */
#ifndef FDM_IO_TEXT_H
#define FDM_IO_TEXT_H

#include "base/base.h"

/* Starts as all zeros.  Running out of memory sets `failed`, after which nothing more is added. */
struct fdm_text {
    char *bytes; /* NUL-terminated once something was added */
    size_t length, capacity;
    bool failed;
};

void fdm_text_add(struct fdm_text *t, const char *bytes, size_t n);
void fdm_text_printf(struct fdm_text *t, const char *format, ...) FDM_PRINTF(2, 3);
/* A quoted JSON string; the caller has checked that `s` is valid UTF-8. */
void fdm_text_json_string(struct fdm_text *t, const char *s);
void fdm_text_free(struct fdm_text *t);

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool fdm_utf8_valid(const char *s);

/* Sorts the pointers; a name that occurs twice, or NULL.  Comparing all pairs would let a hostile file with a
 * million names take hours. */
const char *fdm_find_duplicate(const char **names, size_t count);

#endif
