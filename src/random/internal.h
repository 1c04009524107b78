/* internal.h - the two generators behind fdm/random.h. */
#ifndef FDM_RANDOM_INTERNAL_H
#define FDM_RANDOM_INTERNAL_H

#include "fdm/random.h"

#define FDM_TWO_PI 6.28318530717958647692528676655900577

void fdm_torch_cpu_normal_f32(fdm_rng *rng, float *out, size_t n);
void fdm_torch_cpu_normal_f64(fdm_rng *rng, double *out, size_t n);
void fdm_torch_cpu_uniform_f32(fdm_rng *rng, float *out, size_t n);
void fdm_torch_cpu_uniform_f64(fdm_rng *rng, double *out, size_t n);
void fdm_torch_cpu_randint(fdm_rng *rng, int64_t *out, size_t n, uint64_t bound);

void fdm_torch_cuda_normal_f32(fdm_rng *rng, float *out, size_t n);
/* The same values as doubles. */
void fdm_torch_cuda_normal_f32_wide(fdm_rng *rng, double *out, size_t n);
void fdm_torch_cuda_normal_f64(fdm_rng *rng, double *out, size_t n);
void fdm_torch_cuda_uniform_f32(fdm_rng *rng, float *out, size_t n);
void fdm_torch_cuda_uniform_f64(fdm_rng *rng, double *out, size_t n);
void fdm_torch_cuda_randint(fdm_rng *rng, int64_t *out, size_t n, uint64_t bound);

#endif
