/* run.h - one planned run of a network: forward, and for training the way back; internal. */
#ifndef FDM_NN_RUN_H
#define FDM_NN_RUN_H

#include "nn/parameters.h"
#include "nn/plan.h"

/* Everything that a step needs. */
struct fdm_run {
    const struct fdm_graph *g;
    struct fdm_plan *plan; /* its `offset` moves on with the run */
    const struct fdm_backend *backend;
    const struct fdm_exec *exec;
    char *arena; /* plan->arena_bytes */
    char *slab;  /* packed parameters */
    /* where parameters move, NULL elsewhere: the parameters, and room for one packed convolution, which is then not in
     * the slab */
    const struct fdm_parameters *list;
    const float *parameters;
    char *packed;
    /* what comes in */
    int n;                                       /* == plan->n */
    const double *x, *c_noise, *noise_embedding; /* (N, C, R, R), (N), (N, K) or NULL */
    const double *class_labels;                  /* or NULL: zeros, so that map_label's bias still acts */
    const double *augment_labels;                /* or NULL: map_augment is skipped */
    double dropout;                              /* probability; 0 outside training */
    const uint64_t *dropout_keys;                /* [N]; unused where dropout is 0 */
    fdm_trace_fn trace;
    bool keep_raw; /* as for a trace, fused steps leave their module's plain output at plan->raw_offset */
    void *trace_user;
    fdm_stop_fn stop;
    void *stop_user;
    void (*stepped)(void *user, int step); /* or NULL: called when a step of the backward pass is done */
    void *stepped_user;
    double *trace_buffer; /* the run's own: the largest traced output, as NCHW doubles, converted in place for f32 */
};

/* Runs the actions before the loss; `output` (N, C, R, R) receives F.  Errors: FDM_NO_RESOURCE, FDM_INTERRUPTED. */
fdm_status fdm_run_forward(struct fdm_run *r, double *output, fdm_error *err);

/* After fdm_run_forward on a plan with `backward`: from dL/dF to the gradient of every parameter, dense and in elements
 * of the backend's type at gradient[offset of the parameter].  Parameters that the loss does not reach keep what
 * `gradient` holds.  Errors: FDM_INTERRUPTED. */
fdm_status fdm_run_backward(struct fdm_run *r, const double *d_output, void *gradient, fdm_error *err);

/* The forward pass step by step, for who looks at values or changes them in between: begin, then each action in order.
 * Runs in arenas of their own may share a plan if they take each step in turn. */
void fdm_run_begin(struct fdm_run *r);

/* --- shared by the two directions --- */
void fdm_run_begin_action(struct fdm_run *r, int action);
void fdm_run_step_forward(struct fdm_run *r, const struct fdm_step *s, int action);
struct fdm_map fdm_run_map(const struct fdm_run *r, int value);
struct fdm_vec fdm_run_vec(const struct fdm_run *r, int value);
/* map_augment without augment labels: the step passes its residual on. */
bool fdm_run_skips(const struct fdm_run *r, const struct fdm_step *s);
/* Dropout of a step (by its index), or NULL. */
const struct fdm_dropout *fdm_run_dropout(const struct fdm_run *r, const struct fdm_step *s, struct fdm_dropout *d);
/* How many threads a step of so many operations per sample is worth. */
int fdm_run_threads(const struct fdm_run *r, double flops);

#endif
