/* trials.h - the mistakes that a diagnosis tries; internal. */
#ifndef FDM_VERIFY_TRIALS_H
#define FDM_VERIFY_TRIALS_H

#include "fdm/config.h"
#include "verify/variants.h"

enum { FDM_TRIAL_C_IN = 1, FDM_TRIAL_C_NOISE = 2, FDM_TRIAL_C_SKIP = 4, FDM_TRIAL_C_OUT = 8, FDM_TRIAL_ALL = 15 };

struct fdm_trial {
    char text[240]; /* "... matches the truth if <text>" */
    struct fdm_variant variant;
    fdm_precond precond;
    unsigned changes; /* which coefficients come from `precond` */
    unsigned ops;     /* bits of enum fdm_op that it concerns; 0: any */
    bool clamp_sigma, unit_c_in, zero_x, no_labels, no_augment, other_weights;
};

struct fdm_trial_model {
    const fdm_config *config;
    bool with_labels, with_augment; /* the dump's inputs */
};
/* Calls `attempt` with each. */
void fdm_trials(const struct fdm_trial_model *model, void (*attempt)(void *user, struct fdm_trial *), void *user);

#endif
