/* train_stream.c - one random generator per training image. */
#include "fdm/train_stream.h"

#include "random/internal.h"

#define GOLDEN 0x9e3779b97f4a7c15u /* 2^64 / golden ratio, odd: SplitMix64's step */

static uint64_t mix(uint64_t z) {
    z ^= z >> 30;
    z *= 0xbf58476d1ce4e5b9u;
    z ^= z >> 27;
    z *= 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t fdm_train_stream_seed(uint64_t seed, uint64_t image) {
    return mix(mix(seed + GOLDEN) + (image + 1) * GOLDEN);
}

void fdm_train_stream_draw(fdm_train_draws *draws, double *noise, size_t count, const fdm_loss *loss, uint64_t seed,
                           uint64_t image) {
    const uint64_t own = fdm_train_stream_seed(seed, image);
    fdm_rng rng;
    float number;
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CUDA, own);
    (fdm_loss_wants_normal(loss) ? fdm_rng_normal_f32 : fdm_rng_uniform_f32)(&rng, &number, 1);
    draws->sigma_random = number;
    fdm_augment_draw(&draws->augment, &rng);
    fdm_torch_cuda_normal_f32_wide(&rng, noise, count);
    fdm_rng_uniform_f32(&rng, &number, 1);
    draws->label_dropout = number;
    draws->dropout_key = mix(own + GOLDEN);
}
