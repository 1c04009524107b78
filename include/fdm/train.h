/* train.h - a training run: settings, run directory, the loop.
 *
 * A run directory holds
 *     training_options.json                       the settings, and what followed from them
 *     log.txt                                     what was said, appended
 *     stats.jsonl                                 one line a tick, published field names: {"Loss/loss": {"num", "mean",
 *                                                 "std"}, "Progress/kimg": ..., "Timing/sec_per_kimg": ..., "timestamp"}
 *     network-snapshot-<kimg>.safetensors         the averaged network, a model file
 *     fakes<kimg>.png, reals.png                  samples of a snapshot from fixed seeds; images of the data set
 *     training-state-<images>.safetensors         everything; the newest two are kept
 *
 * A state is written to a temporary name, synced and renamed, so the newest file of that name is whole whatever
 * happens.  A run that is interrupted, killed or starved of disk and then resumed ends in the bits of a run that was
 * left alone.
 *
 * Order of the images: fdm/data_order.h.  Random numbers: fdm/train_stream.h, one generator per image, so that the
 * weights depend on settings and data alone: not on threads, ranks, the instruction set, or where the run was stopped; nor on
 * batch_gpu, if that is a power of two and no warm-up counts loss calls.  Augmentation
 * pads every image by its own margin (the published program by the batch's largest: the same but for rounding).
 */
#ifndef FDM_TRAIN_H
#define FDM_TRAIN_H

#include "fdm/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fdm_arch { FDM_ARCH_DDPMPP, FDM_ARCH_NCSNPP } fdm_arch;

/* Options of the published train command, in its units; a plain value but for the two strings. */
typedef struct fdm_train_settings {
    const char *data;        /* archive or folder of images */
    const char *transfer;    /* model file to start from, or NULL */
    int cond;                /* 1: class-conditional, labels of the data set */
    int xflip;               /* 1: mirrored images double the data */
    int arch;                /* fdm_arch */
    int precond;             /* fdm_precond_kind */
    double duration;         /* Mimg */
    int64_t batch, batch_gpu; /* images of an update; of a round, 0: automatic */
    int64_t cbase;           /* model_channels */
    int levels;
    int cres[FDM_MAX_LEVELS]; /* channel_mult */
    int64_t num_blocks;
    int attn_count;
    int attn_resolutions[FDM_MAX_ATTN];
    double lr, lr_rampup, ema; /* -, Mimg, Mimg (half-life) */
    double dropout, label_dropout, augment;
    double warmup_ite;       /* loss calls; 0: no warm-up */
    double fdm_multiplier;
    double ls;               /* loss scaling */
    double tick;             /* kimg */
    int64_t snap, dump, image_snap; /* ticks; 0: never */
    int64_t image_count, image_steps;
    double save_minutes;     /* a training state at least that often, whatever `dump` says; 0: by `dump` alone */
    int64_t seed;
    int conv;                /* fdm_conv_mode: it enters the bits, so it belongs to the run (fdm_run_options.conv is not read) */
    int warmup_restart;      /* 1: a resumed run's warm-up starts over, as published; not saved with the others */
} fdm_train_settings;

/* duration 200, batch 512, cbase 128, cres 2,2,2, 4 blocks, attention at 16, lr 1e-3, ramp 10, ema 0.5, dropout 0.13,
 * augment 0.12, multiplier 2, tick 50, snap 200, dump 500, as published; precond fdm_edm; 36 images of 9 steps; a state every 30 minutes. */
FDM_API fdm_train_settings fdm_train_defaults(void);
/* FDM_BAD_USAGE names the first setting that is out of its range. */
FDM_API fdm_status fdm_train_check(const fdm_train_settings *settings, fdm_error *err);

/* The settings as indented JSON (malloc'd; NULL if out of memory), and back.  fdm_train_settings_parse allocates the two
 * strings; release them with fdm_train_settings_free.  Absent keys keep their defaults (but conv: runs from
 * before there was a choice are direct); ranges are fdm_train_check's.
 * Errors: FDM_BAD_INPUT naming the key in `where`. */
FDM_API char *fdm_train_settings_json(const fdm_train_settings *settings);
FDM_API fdm_status fdm_train_settings_parse(fdm_train_settings *settings, const char *json, size_t bytes, const char *where,
                                            fdm_error *err);
FDM_API void fdm_train_settings_free(fdm_train_settings *settings);
/* The settings of a run directory.  Errors: FDM_BAD_INPUT. */
FDM_API fdm_status fdm_train_settings_read(fdm_train_settings *settings, const char *run_dir, fdm_error *err);

/* The network of these settings for images of that kind.  Errors: FDM_BAD_USAGE, FDM_BAD_INPUT. */
FDM_API fdm_status fdm_train_network(fdm_config *config, const fdm_train_settings *settings, int resolution, int channels,
                                     int label_dim, fdm_error *err);

/* How a run speaks to its caller; any member may be NULL. */
typedef struct fdm_train_hooks {
    void *user;
    /* a line worth keeping (also in log.txt), without newline */
    void (*say)(void *user, const char *line);
    /* at the start (loss NaN) and after every update; loss: mean over the elements of the latest batch */
    void (*progress)(void *user, int64_t images, int64_t total, double loss);
    /* a picture of the averaged network `model` (a model file's tensors) to `path`; `count` images of `steps` steps; among
     * ranks it is called on all of them at the same time, and rank 0 writes */
    fdm_status (*sample)(void *user, const fdm_tensors *model, const char *path, int count, int steps, fdm_error *err);
    /* true: finish the update, save, return FDM_INTERRUPTED */
    fdm_stop_fn stop;
    /* among ranks, a file for when messages and steps of the backward pass took place (Chrome's trace format), or NULL */
    const char *comm_trace;
} fdm_train_hooks;

/* What a run would do, for people: several lines, malloc'd, in *text.  Reads the data set.  Errors: as fdm_train. */
FDM_API fdm_status fdm_train_describe(char **text, const fdm_train_settings *settings, const fdm_run_options *run,
                                      fdm_error *err);

/* Among ranks (run->ranks) every rank calls this with the same settings; rank 0 alone has the run directory, the others
 * need the data only.  Each takes its part of every batch; all get the weights that one rank would get, to the bit, so a run
 * may go on with another number of ranks.  An error on any of them ends all, with one message (fdm_ranks_agree).
 *
 * Trains in `run_dir` (made if it is not there) until settings->duration.  `resume`: goes on from the newest whole state
 * there, from the beginning if there is none yet; otherwise a directory that already holds a run is refused.
 * Errors: FDM_BAD_USAGE, FDM_BAD_INPUT (data, transfer, states), FDM_NO_RESOURCE (memory; the last state could not be
 * written), FDM_INTERRUPTED after saving. */
FDM_API fdm_status fdm_train(const char *run_dir, const fdm_train_settings *settings, bool resume,
                             const fdm_run_options *run, const fdm_train_hooks *hooks, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
