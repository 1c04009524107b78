/* perturb.c - data perturbed by given noise: FDM's kernel on a batch, and the oscillator's. */
#include "base/base.h"
#include "simulate/internal.h"

enum { PIECE = 1 << 14 };

static const fdm_perturb_options all_defaults = {0};

fdm_status fdm_perturb(float *x_t, const float *x0, const float *noise, const float *sigma, const float *s, int n,
                       size_t per_sample, const fdm_perturb_options *options, fdm_error *err) {
    const fdm_perturb_options *o = options ? options : &all_defaults;
    const struct fdm_kernels *kernels;
    int threads;
    size_t total;
    if (n < 0 || !fdm_mul_size(&total, (size_t)n, per_sample))
        return fdm_fail(err, FDM_BAD_USAGE, "a batch of %d samples of %zu numbers", n, per_sample);
    const fdm_status status = fdm_simulate_setup(&kernels, &threads, o->isa, o->threads, err);
    if (status != FDM_OK) return status;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)i * per_sample;
        kernels->perturb(x_t + at, x0 + at, noise + at, sigma[i], s[i], per_sample);
    }
    return FDM_OK;
}

fdm_status fdm_perturb_state(float *x, float *v, const float *x0, const float *v0, const float *noise_x,
                             const float *noise_v, const fdm_step *step, size_t n, const fdm_perturb_options *options,
                             fdm_error *err) {
    const fdm_perturb_options *o = options ? options : &all_defaults;
    const struct fdm_kernels *kernels;
    int threads;
    if (step->qv != 0 && !noise_v) return fdm_fail(err, FDM_BAD_USAGE, "this step needs normals for v, too");
    const fdm_status status = fdm_simulate_setup(&kernels, &threads, o->isa, o->threads, err);
    if (status != FDM_OK) return status;
    const struct fdm_particle_step narrow = fdm_step_f32(step);
    const size_t pieces = n / PIECE + (n % PIECE != 0);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t piece = 0; piece < pieces; piece++) {
        const size_t at = piece * PIECE, count = n - at < PIECE ? n - at : PIECE;
        kernels->perturb_state(x + at, v + at, x0 + at, v0 ? v0 + at : NULL, noise_x + at,
                               noise_v ? noise_v + at : NULL, &narrow, count);
    }
    return FDM_OK;
}
