/* fuzz_clock.h - for fuzzers of parsers that promise time in proportion to their input: an input that takes long is a finding.
 * Measured as the process's own CPU time, so that a busy machine makes none. */
#ifndef FDM_TESTS_FUZZ_CLOCK_H
#define FDM_TESTS_FUZZ_CLOCK_H

#include <stdlib.h>
#include <time.h>

enum { FUZZ_CPU_SECONDS = 5 }; /* under ASan, where the limits of pickles let an input take 3 */

static inline void fuzz_clock_check(clock_t start) {
    if (clock() - start > FUZZ_CPU_SECONDS * (clock_t)CLOCKS_PER_SEC) abort();
}

#endif
