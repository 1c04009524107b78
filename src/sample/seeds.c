/* seeds.c - what is drawn for a sample: one generator per seed, so that an image depends on its seed alone (SPEC
 * 6). */
#include "sample/internal.h"

#include <string.h>

void fdm_sample_seed_rngs(fdm_rng *rngs, fdm_rng_kind kind, const uint64_t *seeds, int n) {
    for (int i = 0; i < n; i++) fdm_rng_seed(&rngs[i], kind, seeds[i] & 0xffffffffu);
}

void fdm_sample_draw_latents(float *latents, int64_t *labels, fdm_rng *rngs, int n, size_t per_sample,
                             int label_dim) {
    for (int i = 0; i < n; i++) {
        fdm_rng_normal_f32(&rngs[i], latents + (size_t)i * per_sample, per_sample);
        if (label_dim <= 0) continue;
        int64_t label;
        fdm_rng_randint(&rngs[i], &label, 1, (uint64_t)label_dim);
        if (labels) labels[i] = label;
    }
}

fdm_status fdm_noise_from_rngs(void *ctx, double *noise, int step, int n, size_t per_sample, fdm_error *err) {
    (void)step;
    (void)err;
    const fdm_noise_rngs *source = ctx;
    for (int i = 0; i < n; i++) fdm_rng_normal_f64(&source->rngs[i], noise + (size_t)i * per_sample, per_sample);
    return FDM_OK;
}

fdm_status fdm_noise_from_array(void *ctx, double *noise, int step, int n, size_t per_sample, fdm_error *err) {
    const fdm_noise_array *source = ctx;
    if (step >= source->steps)
        return fdm_fail(err, FDM_BAD_USAGE, "the noise has %d steps, the sampler needs more", source->steps);
    const size_t numel = (size_t)n * per_sample;
    memcpy(noise, source->noise + (size_t)step * numel, numel * sizeof *noise);
    return FDM_OK;
}
