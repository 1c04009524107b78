/* data_order.h - which image comes next, as published: numpy's legacy RandomState decides.
 *
 * A list of all image indices is shuffled once (RandomState(seed).shuffle), then walked round and round; after its
 * use, position i is swapped with position i - randint(window) (wrapping), window = half the list, rounded half to
 * even; below 2 there is no swapping.  With several replicas, all walk the same list and replica `rank` uses every
 * position p of the endless walk with p mod replicas = rank.
 *
 * The state is a plain struct with one owned array; fdm_data_order_save and _restore put it into a tensor file, so
 * that a killed run resumes in mid-stream:
 *     <prefix>mt        U32 [624]    Mersenne Twister state
 *     <prefix>position  I64 [4]      index of the next MT word, position of the walk, rank, replicas
 *     <prefix>order     I64 [count]  the list as it stands
 */
#ifndef FDM_DATA_ORDER_H
#define FDM_DATA_ORDER_H

#include <stdint.h>

#include "fdm/random.h"
#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fdm_data_order {
    fdm_mt19937 mt;
    int64_t count, window;
    int64_t position; /* of the endless walk */
    int rank, replicas;
    int64_t *order; /* [count], owned */
} fdm_data_order;

/* An order over `count` >= 1 images; one replica: rank 0, replicas 1.  Free with fdm_data_order_free.
 * Errors: FDM_BAD_USAGE (count < 1, rank outside [0, replicas)); FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_data_order_init(fdm_data_order *order, int64_t count, uint32_t seed, int rank, int replicas,
                                       fdm_error *err);
FDM_API void fdm_data_order_free(fdm_data_order *order);

/* The next image index of this replica, in [0, count). */
FDM_API int64_t fdm_data_order_next(fdm_data_order *order);

/* Appends the state to a set (copied).  Errors as fdm_tensors_add. */
FDM_API fdm_status fdm_data_order_save(fdm_tensors *set, const char *prefix, const fdm_data_order *order,
                                       fdm_error *err);
/* Makes the saved order again; `count` is what the data set has now, `where` names the source in messages.
 * Errors, *order untouched: FDM_BAD_INPUT (tensors missing, malformed, no permutation, or of another count). */
FDM_API fdm_status fdm_data_order_restore(fdm_data_order *order, const fdm_tensors *set, const char *prefix,
                                          int64_t count, const char *where, fdm_error *err);

/* Which images of `count` a data set limited to max_size keeps: the first max_size of the list shuffled by
 * RandomState(seed), in ascending order; all of them, unshuffled, if max_size >= count.  Writes
 * min(max_size, count) indices.  Errors: FDM_BAD_USAGE (max_size or count < 1); FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_data_order_subset(int64_t *indices, int64_t max_size, int64_t count, uint32_t seed,
                                         fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
