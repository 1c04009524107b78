/* training.h - a training run at work, shared by the files that make it up; internal.
 *
 *     training_setup.c    data, network, first weights; what the run says of itself
 *     training_state.c    saving, restoring, and telling the other ranks
 *     training_update.c   a batch and its update
 *     training_tick.c     statistics, snapshots, pictures
 *     train_run.c         the loop around them
 *
 * Among ranks every one of them has a struct fdm_training and does all of this at the same time; rank 0 alone has the run
 * directory, writes and speaks.
 */
#ifndef FDM_TRAIN_TRAINING_H
#define FDM_TRAIN_TRAINING_H

#include "fdm/augment.h"
#include "fdm/data_order.h"
#include "fdm/dataset.h"
#include "fdm/train.h"
#include "fdm/train_stream.h"
#include "io/text.h"
#include "train/run_dir.h"
#include "train/trainer.h"

/* Loss elements since the last tick; rank 0's. */
struct fdm_loss_sums {
    double count, sum, squares;
};

/* The batch of an update, B samples, n of them this rank's. */
struct fdm_training_batch {
    uint8_t *pixels;          /* (n, C, R, R) */
    float *labels;            /* (n, label_dim) */
    int64_t *indices;         /* (n), later (B) */
    fdm_train_draws *draws;   /* (n) */
    fdm_augment_draws *augment_draws;
    double *y, *noise;        /* (n, C, R, R) */
    double *augment_labels;   /* (n, 9) */
    double *sigma, *class_labels;
    double *loss, *loss_square; /* (B): this rank's part, on rank 0 then all */
    uint64_t *keys;
};

struct fdm_training {
    fdm_train_settings settings; /* as given, batch_gpu resolved; strings borrowed */
    const fdm_train_settings *s; /* = &settings */
    fdm_run_options how;         /* as given, convolutions as the settings say */
    const fdm_run_options *run;  /* = &how */
    fdm_train_hooks hooks;       /* as given; of rank 0 alone those that speak */
    const fdm_ranks *ranks;      /* NULL alone */
    fdm_ranks_share mine;        /* samples of a batch */
    struct fdm_comm_trace *trace;
    struct fdm_run_dir dir;
    fdm_config config;
    fdm_dataset *data;
    fdm_loader *loader;
    fdm_data_order order, ahead; /* what has been trained on; what the loader has asked for */
    fdm_trainer *trainer;
    fdm_loss loss;
    struct fdm_training_batch batch;
    int threads;
    int round;     /* samples of one */
    size_t pixels; /* of one image */
    int64_t total; /* images of the whole run */
    int64_t tick, tick_start; /* ticks so far; images when the last one ended */
    struct fdm_loss_sums sums;
    int64_t nonfinite; /* updates since the last tick whose loss or gradient was not finite */
    double started, tick_started, maintenance; /* seconds */
    double saved;                              /* when a state was last written, or tried */
    bool save_failed, stop;
    bool whole; /* after an error: between updates all the same; rank 0 has a state to save that has been trained for */
};

enum { FDM_NONFINITE_SAID = 10 }; /* updates a tick whose loss or gradient is not finite that are named, the rest counted */

/* --- training_setup.c --- */
fdm_trainer_options fdm_training_options(const fdm_train_settings *s);
fdm_status fdm_training_open_data(struct fdm_training *t, fdm_error *err);
fdm_status fdm_training_start_order(struct fdm_training *t, fdm_error *err);
/* Weights from the seed; on rank 0 then those of settings->transfer. */
fdm_status fdm_training_start_fresh(struct fdm_training *t, fdm_error *err);
fdm_status fdm_training_choose_round(struct fdm_training *t, fdm_error *err);
fdm_status fdm_training_write_options(struct fdm_training *t, fdm_error *err);
fdm_status fdm_training_write_reals(struct fdm_training *t, fdm_error *err);
void fdm_training_describe(struct fdm_text *text, const struct fdm_training *t);
/* Where a rank sits: its node, its threads, the cores that it may use and those that the node has. */
struct fdm_seat {
    uint32_t host; /* CRC-32 of its name */
    int32_t threads, usable, cores;
};
/* What is wrong with the seats of the ranks on rank 0's node, a line; false if nothing is. */
bool fdm_seats_remark(char line[256], const struct fdm_seat *seats, int count);
/* Collective: rank 0 says it. */
fdm_status fdm_training_check_seats(struct fdm_training *t, fdm_error *err);

/* --- training_state.c --- */
fdm_status fdm_training_save(struct fdm_training *t, fdm_error *err);
fdm_status fdm_training_check_network(const struct fdm_training *t, const char *where, fdm_error *err);
/* The newest whole state; the beginning where there is none yet. */
fdm_status fdm_training_resume(struct fdm_training *t, fdm_error *err);
/* Collective: every rank gets where rank 0 starts, and its part of the batches.  Errors: FDM_BAD_INPUT if a rank sees other
 * data, FDM_BAD_USAGE for a batch that does not split. */
fdm_status fdm_training_spread(struct fdm_training *t, fdm_error *err);
/* Collective: every rank still holds rank 0's weights, to the bit.  Errors: FDM_NO_RESOURCE if one does not: a fault of its
 * memory, processor or network, for nothing else can tell them apart; or if a rank is gone, which leaves t->whole true. */
fdm_status fdm_training_check_weights(struct fdm_training *t, fdm_error *err);

/* --- training_update.c --- */
fdm_status fdm_training_open_batches(struct fdm_training *t, fdm_error *err);
void fdm_training_close_batches(struct fdm_training *t);
/* One update.  Sets t->stop if any rank is asked to stop, t->whole if it fails and has changed nothing. */
fdm_status fdm_training_update(struct fdm_training *t, fdm_error *err);

/* --- training_tick.c --- */
double fdm_training_now(void); /* seconds */
fdm_status fdm_training_write_snapshot(struct fdm_training *t, fdm_error *err);
/* `done`: the last one.  With t->whole, rank 0 alone: the others are gone, and the caller saves. */
fdm_status fdm_training_end_tick(struct fdm_training *t, bool done, fdm_error *err);
/* What cannot be written is said, and tried again at the next occasion; only the last state must be written. */
void fdm_training_complain(struct fdm_training *t, const char *what, const fdm_error *why);

#endif
