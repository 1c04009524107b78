/* import.h - published snapshots and training states in, state_dicts out.
 *
 * The published program keeps networks as Python pickles (protocols 2 to 5): snapshots {ema, loss_fn, ...}, training states
 * {net, optimizer_state} and whatever else torch.save writes, as plain pickles, legacy streams or zips.  They are read as
 * data: nothing in them is executed or looked up, and a file takes no more memory than twice its size (and 32 MiB).
 *
 *     fdm_import_report report;
 *     fdm_status status = fdm_import("model.safetensors", "network-snapshot-200000.pkl", NULL, &report, &err);
 */
#ifndef FDM_IMPORT_H
#define FDM_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/config.h"
#include "fdm/status.h"
#include "fdm/train.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fdm_import_options {
    bool network;       /* of a training state the raw network alone, as a model file */
    const char *config; /* for a state_dict, which has none: the constructor arguments as JSON (fdm/config.h), or NULL */
} fdm_import_options;

typedef struct fdm_import_report {
    char source[128]; /* "network snapshot (pickle, protocol 4): averaged FDM_EDMPrecond" */
    size_t tensors, bytes;
    size_t converted;    /* tensors of a network that were not F32, and became it */
    char types[64];      /* theirs: "F16 BF16" */
} fdm_import_report;

/* What a file holds, and what becomes of it in `target`, a safetensors file (elements bit for bit but where converted):
 *     snapshot        the averaged network as a model file: constructor arguments in the metadata `config`, the loss's,
 *                     the augmentation's and the data set's as JSON in loss_fn, augment_pipe and dataset_kwargs
 *     training state  net.<name> (buffers included), adam_m.<parameter>, adam_v.<parameter>, and adam_step F32 (one for
 *                     each parameter); `config`, `param_groups`; with options->network as a snapshot, of the raw network
 *     network         as a snapshot
 *     anything else   all tensors and arrays in dicts, lists and objects, under "key.key", of whatever type; with
 *                     options->config a model file
 * A network's tensors must be those of its configuration.  `options` and `report` may be NULL.
 * Errors: FDM_BAD_INPUT (damaged, hostile, of an unknown architecture), FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_import(const char *target, const char *source, const fdm_import_options *options,
                              fdm_import_report *report, fdm_error *err);

/* A published run to go on with. */
typedef struct fdm_import_run {
    const char *state;    /* training-state-<kimg>.pt */
    const char *snapshot; /* network-snapshot-<kimg>.pkl, for the averages; NULL: the one beside the state */
    /* What the files do not say; negative: as training_options.json beside the state says, or as published. */
    int64_t batch, batch_gpu;
    double ema, lr, lr_rampup, ls, duration; /* in fdm_train_settings' units */
    int64_t seed;
    const char *data; /* archive or folder of images */
} fdm_import_run;
/* Makes `run_dir` with training_options.json and a training state, ready for fdm_train(resume): network, averages, moments,
 * Adam's steps and the weight warm-up go on where they were; the walk over the data starts afresh, as in a resumed
 * published run.  `run` and `hooks` as in fdm_train.  *images: where the run stands.
 * Errors: FDM_BAD_INPUT (files, or a network that fdm_train cannot make), FDM_BAD_USAGE, FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_import_training(const char *run_dir, const fdm_import_run *source, const fdm_run_options *run,
                                       const fdm_train_hooks *hooks, int64_t *images, fdm_error *err);

/* The tensors of `source` (.safetensors, .npz, .npy) as a state_dict that torch.load(weights_only=True) opens: a zip in the
 * layout of torch.save, elements stored at multiples of 64 bytes.  Same tensors, same bytes.
 * Errors: FDM_BAD_INPUT; FDM_BAD_USAGE (a name that is no UTF-8 or there twice); FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_export(const char *target, const char *source, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
