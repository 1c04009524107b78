/* random.c - one interface over PyTorch's two generators. */
#include "random/internal.h"

#include <string.h>

#include "base/base.h"

static const char *const kind_names[FDM_RNG_KIND_COUNT] = {
#define KIND_NAME(e, name) [e] = name,
    FDM_RNG_KINDS(KIND_NAME)
#undef KIND_NAME
};

const char *fdm_rng_kind_name(fdm_rng_kind kind) {
    return (unsigned)kind < FDM_RNG_KIND_COUNT ? kind_names[kind] : "?";
}

fdm_status fdm_rng_kind_find(fdm_rng_kind *kind, const char *name, fdm_error *err) {
    for (int i = 0; i < FDM_RNG_KIND_COUNT; i++) {
        if (name == NULL || strcmp(name, kind_names[i]) != 0) continue;
        *kind = (fdm_rng_kind)i;
        return FDM_OK;
    }
    return fdm_fail(err, FDM_BAD_USAGE, "unknown random generator '%.80s': use torch-cpu or torch-cuda",
                    name ? name : "");
}

void fdm_rng_seed(fdm_rng *rng, fdm_rng_kind kind, uint64_t seed) {
    *rng = (fdm_rng){.kind = kind, .seed = seed, .sm_count = 108, .threads_per_sm = 2048};
    fdm_mt19937_seed(&rng->mt, (uint32_t)seed);
}

static bool is_cuda(const fdm_rng *rng) {
    return rng->kind == FDM_RNG_TORCH_CUDA;
}

void fdm_rng_normal_f32(fdm_rng *rng, float *out, size_t n) {
    (is_cuda(rng) ? fdm_torch_cuda_normal_f32 : fdm_torch_cpu_normal_f32)(rng, out, n);
}

void fdm_rng_normal_f64(fdm_rng *rng, double *out, size_t n) {
    (is_cuda(rng) ? fdm_torch_cuda_normal_f64 : fdm_torch_cpu_normal_f64)(rng, out, n);
}

void fdm_rng_uniform_f32(fdm_rng *rng, float *out, size_t n) {
    (is_cuda(rng) ? fdm_torch_cuda_uniform_f32 : fdm_torch_cpu_uniform_f32)(rng, out, n);
}

void fdm_rng_uniform_f64(fdm_rng *rng, double *out, size_t n) {
    (is_cuda(rng) ? fdm_torch_cuda_uniform_f64 : fdm_torch_cpu_uniform_f64)(rng, out, n);
}

void fdm_rng_randint(fdm_rng *rng, int64_t *out, size_t n, uint64_t bound) {
    if (bound == 0) bound = 1;
    (is_cuda(rng) ? fdm_torch_cuda_randint : fdm_torch_cpu_randint)(rng, out, n, bound);
}
