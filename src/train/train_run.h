/* train_run.h - what a training run offers beside fdm/train.h; internal. */
#ifndef FDM_TRAIN_TRAIN_RUN_H
#define FDM_TRAIN_TRAIN_RUN_H

#include "fdm/train.h"

/* Makes a run directory whose newest training state is `state` (as fdm_trainer_save writes it: networks, moments,
 * counters, warm-up; no order of the data, which starts afresh), so that fdm_train goes on from there.  The network must be
 * the one that settings and data ask for.  Errors: as fdm_train. */
fdm_status fdm_train_adopt(const char *run_dir, const fdm_train_settings *settings, const fdm_tensors *state, const char *where,
                           const fdm_run_options *run, const fdm_train_hooks *hooks, fdm_error *err);

#endif
