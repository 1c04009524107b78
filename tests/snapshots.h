/* snapshots.h - model files as pickles of the published program, without Python. */
#ifndef FDM_TESTS_SNAPSHOTS_H
#define FDM_TESTS_SNAPSHOTS_H

#include <jansson.h>

#include "attacks.h"
#include "fdm/tensor.h"

/* {"ema": network}: the tensors of the set whose names begin with "model.", in nested modules as persistence keeps them, each
 * in a legacy stream of its own; `config` (class_name and the other constructor arguments) says what the outermost is. */
void put_snapshot(struct bytes *b, const fdm_tensors *set, const json_t *config);
/* A parameter as torch keeps one in a plain pickle. */
void put_parameter(struct bytes *b, const fdm_tensor *t);

#endif
