/* guarded.h - test helper: float arrays between pages that fault when touched. */
#ifndef FDM_TESTS_GUARDED_H
#define FDM_TESTS_GUARDED_H

#include <stddef.h>

/* An inaccessible page lies right behind the last float (at_end), or right before the first.  The rest of the
 * pages in between is filled with a canary. */
struct guarded {
    float *p; /* [count] */
    size_t count, bytes;
    void *mapping;
};
struct guarded guarded_new(size_t count, int at_end);
/* Fails the running test if the canary was overwritten; frees. */
void guarded_free(struct guarded *g);

#endif
