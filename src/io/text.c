/* text.c - growing text, JSON strings, UTF-8. */
#include "io/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(struct fdm_text *t, size_t n) {
    size_t need, next = t->capacity ? t->capacity : 256;
    if (t->failed || !fdm_add_size(&need, t->length, n) || !fdm_add_size(&need, need, 1))
        return !(t->failed = true);
    if (need <= t->capacity) return true;
    while (next < need)
        if (!fdm_mul_size(&next, next, 2)) return !(t->failed = true);
    char *p = realloc(t->bytes, next);
    if (!p) return !(t->failed = true);
    t->bytes = p;
    t->capacity = next;
    return true;
}

void fdm_text_add(struct fdm_text *t, const char *bytes, size_t n) {
    if (!make_room(t, n)) return;
    memcpy(t->bytes + t->length, bytes, n);
    t->length += n;
    t->bytes[t->length] = '\0';
}

void fdm_text_printf(struct fdm_text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n < 0)
        t->failed = true;
    else if (make_room(t, (size_t)n)) {
        vsnprintf(t->bytes + t->length, (size_t)n + 1, format, again);
        t->length += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void fdm_text_json_string(struct fdm_text *t, const char *s) {
    fdm_text_add(t, "\"", 1);
    while (*s) {
        size_t plain = 0;
        while ((unsigned char)s[plain] >= 0x20 && s[plain] != '"' && s[plain] != '\\' && s[plain] != 0x7f) plain++;
        fdm_text_add(t, s, plain);
        s += plain;
        if (*s == '"' || *s == '\\')
            fdm_text_printf(t, "\\%c", *s++);
        else if (*s)
            fdm_text_printf(t, "\\u%04x", (unsigned char)*s++);
    }
    fdm_text_add(t, "\"", 1);
}

void fdm_text_free(struct fdm_text *t) {
    free(t->bytes);
    memset(t, 0, sizeof *t);
}

bool fdm_utf8_valid(const char *s) {
    const unsigned char *p = (const unsigned char *)s;
    while (*p) {
        int n = fdm_utf8_sequence(p);
        if (n == 0) return false;
        p += n;
    }
    return true;
}

static int by_text(const void *a, const void *b) {
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

const char *fdm_find_duplicate(const char **names, size_t count) {
    qsort(names, count, sizeof *names, by_text);
    for (size_t i = 1; i < count; i++)
        if (strcmp(names[i - 1], names[i]) == 0) return names[i];
    return NULL;
}
