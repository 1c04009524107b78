/* suite.h - test helper: the end of a test program's main. */
#ifndef FDM_TESTS_SUITE_H
#define FDM_TESTS_SUITE_H

#include <check.h>

/* Runs the suite, as loudly as CK_VERBOSITY says, and frees it: what main returns. */
int run_suite(Suite *suite);

#endif
