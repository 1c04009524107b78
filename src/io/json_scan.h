/* json_scan.h - reading JSON text piece by piece, without building a tree; internal.
 *
 * For headers of hostile files: no recursion, no allocation, every failure with its byte.  (A JSON library builds a
 * tree many times the size of the text, and jansson's scanner misreads strings when it runs out of memory.)
 */
#ifndef FDM_IO_JSON_SCAN_H
#define FDM_IO_JSON_SCAN_H

#include "base/base.h"

struct fdm_json {
    const unsigned char *bytes;
    size_t at, end;      /* next byte, one past the last */
    const char *problem; /* why the last call returned false; `at` is where */
};

/* Skips white space; true and one further if `c` comes next.  Sets no problem: for looking ahead. */
bool fdm_json_take(struct fdm_json *j, char c);
/* The same as an obligation. */
bool fdm_json_expect(struct fdm_json *j, char c);
/* A string, decoded and NUL-terminated into `out`, which has room for the rest of the text (out + end - at;
 * decoding never lengthens).  *length without the NUL.  Refused: control characters, invalid UTF-8, lone
 * surrogates, NUL. */
bool fdm_json_string(struct fdm_json *j, char *out, size_t *length);
/* A whole number within int64_t; neither fraction nor exponent. */
bool fdm_json_integer(struct fdm_json *j, int64_t *out);
/* A finite number; one that a double cannot hold is refused. */
bool fdm_json_number(struct fdm_json *j, double *out);
/* The word null, true or false, if it comes next: for looking ahead, as fdm_json_take. */
bool fdm_json_word(struct fdm_json *j, const char *word);
/* Any value, nested at most 64 deep.  Nesting, strings, numbers and words are checked, `scratch` as in
 * fdm_json_string. */
bool fdm_json_skip(struct fdm_json *j, char *scratch);
/* Nothing but white space follows. */
bool fdm_json_finished(struct fdm_json *j);

#endif
