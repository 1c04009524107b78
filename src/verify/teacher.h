/* teacher.h - one network run step by step in several lanes side by side; internal.
 *
 * All lanes take each step in turn, so that memory is bounded by what one run needs, times the lanes.  A lane is truth
 * (f64) or emulated (f32 in the formats of a GPU), and free (from the inputs alone) or forced: after each step, what the
 * dump holds of its output takes the place of what was computed.
 */
#ifndef FDM_VERIFY_TEACHER_H
#define FDM_VERIFY_TEACHER_H

#include "fdm/emulation.h"
#include "nn/network.h"

enum fdm_lane_id {
    FDM_LANE_TRUTH,
    FDM_LANE_FORCED_TRUTH,
    FDM_LANE_EMULATED,
    FDM_LANE_FORCED_EMULATED,
    FDM_LANE_NUDGED, /* emulated, its inputs moved by an ulp: rounding errors by another draw */
    FDM_LANE_BLANK,  /* truth of a zero input */
    FDM_LANES
};

struct fdm_lane {
    struct fdm_network *net;
    struct fdm_run run;
    char *arena;
    const fdm_emulation *emulation; /* NULL: f64 */
    double *values[2]; /* exported final and raw output of the latest step (emulated lanes) */
    double *x, c_noise; /* inputs (C, R, R) */
};

struct fdm_teacher {
    struct fdm_network truth, emulated;
    struct fdm_lane lanes[FDM_LANES];
    bool forced; /* whether the forced lanes run at all */
    size_t pixels, largest; /* elements of x; of the largest value */
    double *work; /* largest */
};

/* One sample's inputs. */
struct fdm_teacher_inputs {
    const double *x; /* (C, R, R) */
    double sigma;
    const double *class_labels, *augment_labels; /* or NULL */
    const double *c_in_x;                        /* the dump's, for the forced lanes; or NULL */
    const double *c_noise;                       /* one value; or NULL */
};

/* Into an all-zero struct; release with fdm_teacher_free also on failure.  Errors: as fdm_denoiser_create. */
fdm_status fdm_teacher_create(struct fdm_teacher *t, const fdm_config *config, const fdm_tensors *weights, const char *where,
                              const fdm_emulation *emulation, bool forced, const fdm_run_options *options, fdm_error *err);
void fdm_teacher_free(struct fdm_teacher *t);

static inline const struct fdm_graph *fdm_teacher_graph(const struct fdm_teacher *t) { return &t->truth.graph; }
/* Elements of a step's output, one sample. */
size_t fdm_teacher_count(const struct fdm_teacher *t, const struct fdm_step *s);

void fdm_teacher_begin(struct fdm_teacher *t, const struct fdm_teacher_inputs *in);
/* Takes step `index` in every lane. */
void fdm_teacher_step(struct fdm_teacher *t, int index);
/* The latest step's output in a lane: final, or as it left the module; NCHW, valid until the next step. */
const double *fdm_teacher_final(struct fdm_teacher *t, enum fdm_lane_id lane, const struct fdm_step *s);
const double *fdm_teacher_raw(struct fdm_teacher *t, enum fdm_lane_id lane, const struct fdm_step *s);
/* A value that a step reads (truth lanes). */
const double *fdm_teacher_input(const struct fdm_teacher *t, enum fdm_lane_id lane, int value);

/* The dump's tensor takes the place of the latest step's final output in the forced lanes; or of its raw output, and
 * what follows it within the step is computed from that. */
void fdm_teacher_pin_final(struct fdm_teacher *t, const struct fdm_step *s, const double *values);
void fdm_teacher_pin_raw(struct fdm_teacher *t, const struct fdm_step *s, const double *values);
/* The same for one lane. */
void fdm_lane_write(struct fdm_lane *lane, int value, const double *values);

#endif
