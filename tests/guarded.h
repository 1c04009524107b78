/* guarded.h - test helper: float arrays between pages that fault when touched. */
#ifndef FDM_TESTS_GUARDED_H
#define FDM_TESTS_GUARDED_H

#include <stddef.h>

/* Whole pages between two inaccessible ones; what the array does not fill holds a canary. */
struct guarded {
    float *p; /* the array, [count] */
    size_t count, bytes;
    void *mapping;
};

/* Room for arrays of up to `capacity` floats; p is the longest, at the end. */
struct guarded guarded_new(size_t capacity);
/* Puts an array of `count` floats right before the inaccessible page (at_end) or right behind the first one.  What
 * it held is lost.  Fails the running test if the last array's surroundings were written. */
void guarded_place(struct guarded *g, size_t count, int at_end);
/* Checks the canary a last time and frees. */
void guarded_free(struct guarded *g);

#endif
