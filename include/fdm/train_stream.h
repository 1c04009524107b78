/* train_stream.h - the random numbers of our own training runs: one generator per image.
 *
 * Image number i of a run with seed s (i counts the images of the whole run, in the order of training) has a torch-cuda
 * generator of its own, so its numbers depend on (s, i) alone: any split of a batch into rounds, threads or ranks, and
 * any restart, gives the same bits.  The seed of that generator is output number i of a SplitMix64 generator (Steele,
 * Lea and Flood, OOPSLA 2014) that starts from the first output of one seeded with s:
 *     mix(z) = z ^= z >> 30, z *= bf58476d1ce4e5b9, z ^= z >> 27, z *= 94d049bb133111eb, z ^= z >> 31
 *     seed   = mix(mix(s + g) + (i + 1) g),   g = 9e3779b97f4a7c15;      dropout key = mix(seed + g)
 * Draws follow the published order, each as a call for a batch of one: sigma's number, augmentation, noise; then the
 * uniform of label dropout.  All of them are always drawn, so that switching augmentation off changes nothing else.
 */
#ifndef FDM_TRAIN_STREAM_H
#define FDM_TRAIN_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "fdm/augment.h"
#include "fdm/loss.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fdm_train_draws {
    double sigma_random;       /* for fdm_loss_sigma: U[0, 1) or N(0, 1) as the loss wants */
    fdm_augment_draws augment;
    double label_dropout;      /* U[0, 1): labels are dropped where it is below the probability */
    uint64_t dropout_key;      /* of this image's dropout masks */
} fdm_train_draws;

/* The draws of image `image` of run `seed`, and its noise, N(0, 1), `count` f32 values in CHW order. */
FDM_API void fdm_train_stream_draw(fdm_train_draws *draws, double *noise, size_t count, const fdm_loss *loss,
                                   uint64_t seed, uint64_t image);
/* The seed of that image's generator. */
FDM_API uint64_t fdm_train_stream_seed(uint64_t seed, uint64_t image);

#ifdef __cplusplus
}
#endif
#endif
