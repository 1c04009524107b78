/* trainers.h - test helper: small trainers that see the same batches. */
#ifndef FDM_TEST_TRAINERS_H
#define FDM_TEST_TRAINERS_H

#include "fdm/trainer.h"
#include "networks.h"

enum { BATCH = 8 };

/* 3 x 8 x 8 images, 3 classes, 9 augmentation labels, dropout 0.2. */
fdm_config small_config(fdm_precond_kind kind);
/* Batches of BATCH; ramps that matter from the second update on. */
fdm_trainer_options small_options(void);
/* Of small_config(FDM_PRECOND_FDM_EDM), always from the same weights. */
fdm_trainer *make_trainer(const fdm_trainer_options *o, const struct runner *r, int threads);

struct train_batch {
    double y[BATCH * 192], noise[BATCH * 192], sigma[BATCH], labels[BATCH * 3], augment[BATCH * 9];
    uint64_t keys[BATCH];
};

/* The batch of that update. */
struct train_batch make_train_batch(int64_t update);
/* Its samples first .. first+n-1. */
fdm_gradient_args batch_part(const struct train_batch *b, int first, int n);

/* Every saved tensor has the same bits. */
void check_same_trainers(fdm_trainer *a, fdm_trainer *b, const char *what);

#endif
