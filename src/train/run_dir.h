/* run_dir.h - the files of a run directory; internal. */
#ifndef FDM_TRAIN_RUN_DIR_H
#define FDM_TRAIN_RUN_DIR_H

#include <stdint.h>
#include <stdio.h>

#include "fdm/tensor.h"
#include "fdm/train.h"

enum { FDM_RUN_PATH = 4096 };

struct fdm_run_dir {
    char path[FDM_RUN_PATH];
    FILE *log;       /* append; its lock is the run's */
    int stats;       /* stats.jsonl; append */
    bool log_failed; /* a full disk is said once */
    const fdm_train_hooks *hooks;
};

/* Makes the directory where it is missing, locks it against a second run, opens log.txt and stats.jsonl, removes what
 * killed processes left half-written.
 * resume false: refuses a directory that holds a run.  Errors: FDM_BAD_USAGE, FDM_NO_RESOURCE. */
fdm_status fdm_run_dir_open(struct fdm_run_dir *dir, const char *path, bool resume, const fdm_train_hooks *hooks,
                            fdm_error *err);
void fdm_run_dir_close(struct fdm_run_dir *dir);

/* One line to the hook and to log.txt. */
void fdm_run_dir_say(struct fdm_run_dir *dir, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* <path>/<formatted name>.  Errors: FDM_BAD_USAGE if it is too long. */
fdm_status fdm_run_dir_name(char out[FDM_RUN_PATH], const struct fdm_run_dir *dir, fdm_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Writes a state as training-state-<images>.safetensors, then removes all but the newest two. */
fdm_status fdm_run_dir_save(struct fdm_run_dir *dir, const fdm_tensors *state, int64_t images, fdm_error *err);
/* Image counts of the states, newest first (malloc'd), and their number. */
fdm_status fdm_run_dir_states(int64_t **images, int *count, const struct fdm_run_dir *dir, fdm_error *err);

/* Puts a state that is not whole out of the way: its name gets the end ".damaged". */
void fdm_run_dir_set_aside(struct fdm_run_dir *dir, int64_t images);

/* Appends to stats.jsonl, all or nothing; false if it cannot. */
bool fdm_run_dir_stats_add(struct fdm_run_dir *dir, const char *bytes, size_t count);
/* Cuts stats.jsonl back to its first lines of ticks below `tick`: the later ones will be made again. */
void fdm_run_dir_stats_cut(struct fdm_run_dir *dir, int64_t tick);

#endif
