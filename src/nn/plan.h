/* plan.h - the order of work and the place of every tensor, fixed before the first step runs; internal.
 *
 * A plan is a list of actions: every step forward; for training then the steps backward in reverse order, and, where
 * activations were given up to save memory, steps forward again right before they are needed.  Values and their
 * gradients get places in one arena by their lifetimes on that list.
 */
#ifndef FDM_NN_PLAN_H
#define FDM_NN_PLAN_H

#include "nn/graph.h"

enum { FDM_OPERAND_IN, FDM_OPERAND_IN2, FDM_OPERAND_RESIDUAL, FDM_OPERANDS };

enum fdm_pass { FDM_PASS_FORWARD, FDM_PASS_BACKWARD };

/* What a backward action does with the gradient of an operand. */
enum fdm_gradient_use { FDM_GRADIENT_UNWANTED, FDM_GRADIENT_OVERWRITE, FDM_GRADIENT_ADD };

struct fdm_action {
    enum fdm_pass pass;
    int step;
    enum fdm_gradient_use gradient[FDM_OPERANDS]; /* backward */
};

/* A buffer holds value v (index v) or its gradient (index value_count + v).  A life is a span of actions during which
 * it has a place; a value that is computed again has several. */
struct fdm_life {
    int buffer, first, last; /* actions, inclusive; the loss lies between forward_count-1 and forward_count */
    size_t offset;           /* in the arena */
};

struct fdm_plan {
    int n; /* samples; 0: no plan */
    bool trace, backward;
    fdm_recompute recompute;
    struct fdm_action *actions;
    int action_count, forward_count; /* all; those before the loss */
    struct fdm_life *lives;          /* sorted by first */
    int life_count;
    int *halo;                         /* [2 * value_count]: zero border of each buffer */
    size_t *offset;                    /* [2 * value_count]: where each buffer lies now, kept up by the run */
    int next_life;                     /* the first that has not begun yet, kept up by the run */
    size_t arena_bytes, scratch_bytes; /* for a batch of n */
    size_t raw_offset;                 /* where traced raw outputs go */
};

struct fdm_plan_options {
    int n, threads;
    bool trace;              /* room for the raw outputs of fused steps; not together with backward */
    bool backward;           /* plan a training step */
    fdm_recompute recompute; /* what is not kept for the backward pass */
};

/* Fills an all-zero plan, to be released with fdm_plan_free.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_plan_make(struct fdm_plan *plan, const struct fdm_graph *g, const struct fdm_backend *backend,
                         const struct fdm_plan_options *options, fdm_error *err);
void fdm_plan_free(struct fdm_plan *plan);

/* Whether the loss reaches parameters through that value. */
bool *fdm_plan_needs_gradient(const struct fdm_graph *g);

#endif
