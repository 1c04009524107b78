/* oom.h - allocation failure on demand.
 *
 * Linking oom.o replaces malloc and its relatives, for the C library and every shared library too.  A sweep runs a
 * piece of code once per allocation it makes, failing the first, then the second, ... until none is left to fail:
 * first only that one, then that one and all later ones.  After every run the number of live blocks must be what it
 * was before: a leak check that works in every build.  Under ASan the real allocator is ASan's.
 * The allocations of the OpenMP runtime and of BLIS are spared: those libraries end the process themselves.
 *
 * The body must not call ck_assert: Check itself allocates, and ends the program when it cannot.
 *
 *     static bool read_it(void *arg) {             // true if it succeeded; must release all it took
 *         fdm_tensors set = {0};
 *         bool ok = fdm_safetensors_read(&set, arg, NULL) == FDM_OK;
 *         fdm_tensors_free(&set);
 *         return ok;
 *     }
 *     ck_assert_int_gt(oom_sweep("read", read_it, "x.safetensors"), 0);
 */
#ifndef FDM_TESTS_OOM_H
#define FDM_TESTS_OOM_H

#include <stdbool.h>

/* Runs `body` as described; the first run, without failures, warms up caches and must succeed.  Prints what was
 * done and returns the number of allocations of a complete run, 0 if allocation failure cannot be injected here
 * (prints SKIP), or -1 after printing what went wrong (a leak, or failure without a failed allocation). */
long oom_sweep(const char *what, bool (*body)(void *arg), void *arg);

/* From now on in this process: allocations of libjansson are spared, too.  Its reader of strings goes on without the
 * character for which it got no memory; if that was the closing quote, it writes beyond its buffer (2.14). */
void oom_spare_jansson(void);

/* By hand: fail allocation number `k` (from 0) from now on, and all later ones if `and_later`. */
bool oom_available(void);
void oom_arm(long k, bool and_later);
/* Stops; the number of allocations that were made to fail. */
long oom_disarm(void);

#endif
