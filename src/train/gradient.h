/* gradient.h - what the rest of the program may know of an fdm_gradient's and an fdm_accumulator's inside; internal. */
#ifndef FDM_TRAIN_GRADIENT_H
#define FDM_TRAIN_GRADIENT_H

#include "fdm/gradient.h"

struct fdm_network; /* nn/network.h */

/* The network inside: `fdm bench` puts clocks around its layer functions. */
struct fdm_network *fdm_gradient_network(fdm_gradient *gradient);

/* Who wants to see the backward pass go by: it takes the steps of the network's graph from the last to the first. */
struct fdm_gradient_watch {
    void (*stepped)(void *user, int step); /* that step is done */
    void *user;
};
/* fdm_gradient_compute with a watch, or NULL. */
fdm_status fdm_gradient_compute_watched(fdm_gradient *g, void *gradient, const fdm_gradient_args *args,
                                        const struct fdm_gradient_watch *watch, fdm_error *err);
/* The step of the backward pass after which that parameter's gradient does not change any more. */
int fdm_gradient_final_step(const fdm_gradient *g, int parameter);

/* --- a sum that is finished piece by piece, while its last round's backward pass goes on (accumulator.c) --- */

/* Memory for the sum, so that there is one whatever happens.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_accumulator_reserve(fdm_accumulator *accumulator, fdm_error *err);
/* The last round.  Whoever watches it finishes every element by fdm_accumulator_finish, once and after its final step; then
 * fdm_accumulator_sum is the sum.  After an error only a reset helps. */
fdm_status fdm_accumulator_add_last(fdm_accumulator *accumulator, const fdm_gradient_args *args,
                                    const struct fdm_gradient_watch *watch, fdm_error *err);
/* Adds elements first .. first+count-1 of all rounds up, along the tree and on the calling thread alone, and returns where
 * the sum's element 0 is.  Reserve first. */
void *fdm_accumulator_finish(fdm_accumulator *accumulator, size_t first, size_t count);
/* left += right, elements of the gradient's type, on the calling thread alone. */
void fdm_accumulator_add_elements(const fdm_accumulator *accumulator, void *left, const void *right, size_t count);

#endif
