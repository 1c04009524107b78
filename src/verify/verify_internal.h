/* verify_internal.h - what the files of fdm_verify share; internal. */
#ifndef FDM_VERIFY_INTERNAL_H
#define FDM_VERIFY_INTERNAL_H

#include "verify/measure.h"
#include "verify/teacher.h"
#include "verify/tolerance.h"

/* What a tensor of the dump is compared with. */
enum fdm_check_place {
    FDM_CHECK_C_IN_X,
    FDM_CHECK_C_NOISE,
    FDM_CHECK_RAW,   /* a module's output, before what follows it within its step */
    FDM_CHECK_FINAL, /* a step's result: a block's output, F_x */
    FDM_CHECK_OUT,
    FDM_CHECK_NOTHING /* it has a problem */
};

struct fdm_check {
    const fdm_tensor *tensor;
    char module[FDM_NAME_MAX];
    enum fdm_check_place place;
    int step;          /* of RAW and FINAL */
    bool nhwc;         /* handed in another layout; read as if permuted */
    char problem[240]; /* why it cannot be right whatever it holds, or "" */
    struct fdm_tally local, total;
    double tolerance2; /* sum over elements */
    char formula[160];
};

/* A dump's inputs and what is checked, in the order of the computation. */
struct fdm_checks {
    const fdm_tensors *dump;
    const char *where;
    int n;                                              /* samples */
    double *x, *sigma, *class_labels, *augment_labels; /* (N, ...), labels NULL if absent or unused */
    struct fdm_check *items;
    size_t count, ignored;
    char ignored_names[160];
    bool forced; /* whether any upstream tensor is in the dump */
};

/* verify_dump.c: reads the inputs and binds the dump's tensors to steps.  Release with fdm_checks_free also on failure. */
fdm_status fdm_checks_bind(struct fdm_checks *c, const fdm_tensors *dump, const char *where, const struct fdm_graph *g,
                           const fdm_config *config, fdm_error *err);
void fdm_checks_free(struct fdm_checks *c);
/* Sample n of a checked tensor as NCHW doubles. */
void fdm_check_slice(double *to, const struct fdm_check *check, int n, size_t count);
/* A tensor of (N, ...) doubles, first dimension 1 repeated; *out NULL if there is none.  `trailing`: sizes of 1 at the end
 * do not count.  *n 0: taken from the tensor.  Errors: FDM_BAD_INPUT. */
struct fdm_expected {
    const char *name;
    int64_t shape[5]; /* [0] unused */
    int ndim;
    bool required, repeat, trailing, positive;
};
fdm_status fdm_dump_read(double **out, int64_t *n, const fdm_tensors *dump, const char *where, const struct fdm_expected *w,
                         fdm_error *err);

/* verify_run.c: one pass over all samples, filling the tallies. */
struct fdm_verify_run {
    const fdm_verify_options *options;
    const fdm_config *config;
    const fdm_tensors *model;
    const char *where;
    fdm_run_options how;
};
fdm_status fdm_verify_pass(struct fdm_checks *c, const struct fdm_verify_run *run, const fdm_emulation *emulation, fdm_error *err);
struct fdm_teacher_inputs fdm_check_inputs(const struct fdm_checks *c, const fdm_config *config, int n, double *c_in_x,
                                           double *c_noise);

/* verify_judge.c: from tallies to items and verdicts. */
fdm_status fdm_verify_judge(fdm_verify_report *report, const struct fdm_checks *c, const fdm_emulation *emulation, fdm_error *err);
/* Whether a check's local error stays within the limits. */
bool fdm_verify_within(const fdm_verify_item *item, const fdm_verify_report *limits);

/* diagnose.c: what the first bad tensor would match. */
fdm_status fdm_verify_diagnose(fdm_verify_report *report, struct fdm_checks *c, const struct fdm_verify_run *run, fdm_error *err);

/* verify_gradient.c: loss, D_yn and grad.* (adds items; FDM_OK also where they fail). */
fdm_status fdm_verify_gradients(fdm_verify_report *report, const fdm_tensors *dump, const char *dump_where,
                                const struct fdm_verify_run *run, fdm_error *err);
/* trajectory.c: x_call, D_call, x_final (adds steps and items). */
fdm_status fdm_verify_trajectory(fdm_verify_report *report, const fdm_tensors *dump, const char *dump_where,
                                 const struct fdm_verify_run *run, fdm_error *err);

/* Appends an item made from one tally; judged by ratio and tolerance (0: ratio alone). */
struct fdm_item_spec {
    const char *name, *module;
    const struct fdm_tally *local, *total;
    double floor, tolerance_rms;
    const char *formula, *problem;
    bool trusts_blank; /* whether the tally's blank error says something of this tensor */
};
fdm_status fdm_verify_add_item(fdm_verify_report *report, const struct fdm_item_spec *spec, fdm_error *err);

#endif
