/* json_scan.c - reading JSON text (RFC 8259) piece by piece. */
#include "io/json_scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/text.h"

static bool fail(struct fdm_json *j, const char *problem) {
    j->problem = problem;
    return false;
}

static void skip_space(struct fdm_json *j) {
    while (j->at < j->end && strchr(" \t\n\r", j->bytes[j->at]) && j->bytes[j->at]) j->at++;
}

bool fdm_json_take(struct fdm_json *j, char c) {
    skip_space(j);
    if (j->at >= j->end || j->bytes[j->at] != (unsigned char)c) return false;
    j->at++;
    return true;
}

bool fdm_json_expect(struct fdm_json *j, char c) {
    if (fdm_json_take(j, c)) return true;
    switch (c) {
    case '{': return fail(j, "an object is expected");
    case '[': return fail(j, "an array is expected");
    case '}': return fail(j, "',' or '}' is expected");
    case ']': return fail(j, "',' or ']' is expected");
    case ':': return fail(j, "':' is expected");
    default: return fail(j, "bad JSON");
    }
}

bool fdm_json_finished(struct fdm_json *j) {
    skip_space(j);
    return j->at == j->end || fail(j, "something follows the JSON object");
}

/* Four hexadecimal digits at p. */
static bool hex4(uint32_t *out, const unsigned char *p) {
    *out = 0;
    for (int i = 0; i < 4; i++) {
        int digit = p[i] >= '0' && p[i] <= '9'   ? p[i] - '0'
                    : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10
                    : p[i] >= 'A' && p[i] <= 'F' ? p[i] - 'A' + 10
                                                 : -1;
        if (digit < 0) return false;
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

static size_t put_utf8(char *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[more] | code >> (6 * more));
    for (int i = 1; i <= more; i++) out[i] = (char)(0x80 | (code >> (6 * (more - i)) & 0x3f));
    return (size_t)more + 1;
}

/* \uXXXX or a surrogate pair of two; `at` is behind the u. */
static bool take_unicode(struct fdm_json *j, char *out, size_t *n) {
    uint32_t code, low;
    if (j->end - j->at < 4 || !hex4(&code, j->bytes + j->at)) return fail(j, "bad \\u escape in a string");
    j->at += 4;
    if (code == 0) return fail(j, "NUL in a string");
    if (code >= 0xdc00 && code <= 0xdfff) return fail(j, "lone surrogate in a string");
    if (code >= 0xd800 && code <= 0xdbff) {
        const unsigned char *p = j->bytes + j->at;
        if (j->end - j->at < 6 || p[0] != '\\' || p[1] != 'u' || !hex4(&low, p + 2) || low < 0xdc00 || low > 0xdfff)
            return fail(j, "lone surrogate in a string");
        j->at += 6;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    *n += put_utf8(out + *n, code);
    return true;
}

static bool take_escape(struct fdm_json *j, char *out, size_t *n) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (j->at >= j->end) return fail(j, "unfinished string");
    unsigned char c = j->bytes[j->at++];
    if (c == 'u') return take_unicode(j, out, n);
    const char *found = c ? strchr(from, c) : NULL;
    if (!found) return fail(j, "bad escape in a string");
    out[(*n)++] = to[found - from];
    return true;
}

bool fdm_json_string(struct fdm_json *j, char *out, size_t *length) {
    size_t n = 0;
    if (!fdm_json_take(j, '"')) return fail(j, "a string is expected");
    size_t start = j->at;
    for (;;) {
        if (j->at >= j->end) return fail(j, "unfinished string");
        unsigned char c = j->bytes[j->at++];
        if (c == '"') break;
        if (c < 0x20) {
            j->at--;
            return fail(j, "control character in a string");
        }
        if (c != '\\')
            out[n++] = (char)c;
        else if (!take_escape(j, out, &n))
            return false;
    }
    out[n] = '\0';
    *length = n;
    if (fdm_utf8_valid(out)) return true;
    j->at = start;
    return fail(j, "string is not valid UTF-8");
}

bool fdm_json_integer(struct fdm_json *j, int64_t *out) {
    bool negative = fdm_json_take(j, '-'), fits = true; /* take skips white space */
    size_t start = j->at;
    int64_t value = 0;
    for (; j->at < j->end && j->bytes[j->at] >= '0' && j->bytes[j->at] <= '9'; j->at++) {
        int digit = j->bytes[j->at] - '0';
        fits = fits && !__builtin_mul_overflow(value, 10, &value) &&
               !__builtin_add_overflow(value, negative ? -digit : digit, &value);
    }
    if (j->at == start) return fail(j, "a whole number is expected");
    if (j->bytes[start] == '0' && j->at - start > 1) return fail(j, "a number starts with 0");
    if (j->at < j->end && strchr(".eE", j->bytes[j->at]) && j->bytes[j->at])
        return fail(j, "a whole number without fraction or exponent is expected");
    if (!fits) return fail(j, "a number is too large");
    *out = value;
    return true;
}

/* Length of the number at p (RFC 8259 section 6), 0 if there is none. */
static size_t number_length(const unsigned char *p, size_t room) {
    size_t n = room && p[0] == '-', digits = n;
    while (n < room && p[n] >= '0' && p[n] <= '9') n++;
    if (n == digits || (p[digits] == '0' && n - digits > 1)) return 0;
    if (n < room && p[n] == '.') {
        digits = ++n;
        while (n < room && p[n] >= '0' && p[n] <= '9') n++;
        if (n == digits) return 0;
    }
    if (n < room && (p[n] == 'e' || p[n] == 'E')) {
        n++;
        if (n < room && (p[n] == '+' || p[n] == '-')) n++;
        digits = n;
        while (n < room && p[n] >= '0' && p[n] <= '9') n++;
        if (n == digits) return 0;
    }
    return n;
}

bool fdm_json_number(struct fdm_json *j, double *out) {
    char text[128]; /* strtod needs an end; longer numbers are nobody's */
    skip_space(j);
    size_t n = number_length(j->bytes + j->at, j->end - j->at);
    if (n == 0) return fail(j, "a number is expected");
    if (n >= sizeof text) return fail(j, "a number of more than 127 characters");
    memcpy(text, j->bytes + j->at, n);
    text[n] = '\0';
    double value = strtod(text, NULL);
    if (!isfinite(value)) return fail(j, "a number is too large");
    j->at += n;
    *out = value;
    return true;
}

bool fdm_json_word(struct fdm_json *j, const char *word) {
    size_t n = strlen(word);
    skip_space(j);
    if (j->end - j->at < n || memcmp(j->bytes + j->at, word, n) != 0) return false;
    j->at += n;
    return true;
}

static bool skip_plain(struct fdm_json *j, char *scratch) {
    size_t length;
    double number;
    skip_space(j);
    if (j->at < j->end && j->bytes[j->at] == '"') return fdm_json_string(j, scratch, &length);
    if (fdm_json_word(j, "null") || fdm_json_word(j, "true") || fdm_json_word(j, "false")) return true;
    return fdm_json_number(j, &number) || fail(j, "a value is expected");
}

static bool skip_key(struct fdm_json *j, char *scratch) {
    size_t length;
    return fdm_json_string(j, scratch, &length) && fdm_json_expect(j, ':');
}

bool fdm_json_skip(struct fdm_json *j, char *scratch) {
    enum { DEPTH = 64 };
    char closing[DEPTH]; /* what ends the containers that are open */
    int depth = 0;
    for (;;) { /* a value starts here */
        bool object = fdm_json_take(j, '{'), array = !object && fdm_json_take(j, '[');
        if (object || array) {
            if (depth == DEPTH) return fail(j, "nested too deep");
            closing[depth] = object ? '}' : ']';
            if (!fdm_json_take(j, closing[depth])) {
                depth++;
                if (object && !skip_key(j, scratch)) return false;
                continue;
            }
        } else if (!skip_plain(j, scratch))
            return false;
        while (depth > 0 && fdm_json_take(j, closing[depth - 1])) depth--;
        if (depth == 0) return true;
        if (!fdm_json_take(j, ',')) return fdm_json_expect(j, closing[depth - 1]);
        if (closing[depth - 1] == '}' && !skip_key(j, scratch)) return false;
    }
}
