/* io_util.h - files and refusals for the tests of src/io. */
#ifndef FDM_TESTS_IO_UTIL_H
#define FDM_TESTS_IO_UTIL_H

#include <check.h>
#include <stddef.h>

#include "fdm/status.h"
#include "fdm/tensor.h"

#ifndef FDM_TEST_GOLDEN_DIR
#define FDM_TEST_GOLDEN_DIR "tests/golden"
#endif

/* A scratch directory for the whole program: made before the tests, removed with all that is in it afterwards. */
void scratch_begin(void);
void scratch_end(void);
/* Runs a suite between the two: what main returns. */
int scratch_run(Suite *suite);
/* "<scratch>/name" in one of a few rotating static buffers. */
const char *scratch(const char *name);
int scratch_count_files(void);

void write_bytes(const char *path, const void *bytes, size_t n);
/* malloc'ed; exactly n bytes, so that ASan sees every overrun. */
unsigned char *read_bytes(const char *path, size_t *n);
void *copy_bytes(const void *bytes, size_t n);

/* The status is `expected`, the message one line that contains `mention` (NULL: anything). */
void check_refused(fdm_status got, fdm_status expected, const fdm_error *err, const char *mention);

/* The same as a value, without allocating: for bodies of oom_sweep. */
bool is_refusal(fdm_status got, fdm_status expected, const fdm_error *err, const char *mention);

/* Names, types, shapes, bytes and (if `meta`) metadata agree. */
void check_same_tensors(const fdm_tensors *a, const fdm_tensors *b, bool meta);

/* One tensor of every dtype (but BF16 if `numpy`), of 0 to 8 dimensions and with empty ones, with all kinds of
 * bits, NaN among them. */
void fill_all_dtypes(fdm_tensors *set, bool numpy);

#endif
