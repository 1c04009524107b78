/* trainer.h - what a training run may know of a trainer's inside; internal. */
#ifndef FDM_TRAIN_TRAINER_H
#define FDM_TRAIN_TRAINER_H

#include "fdm/trainer.h"
#include "train/rank_sum.h"

/* What sums its gradients over ranks; NULL alone. */
struct fdm_rank_sum *fdm_trainer_sums(fdm_trainer *trainer);

#endif
