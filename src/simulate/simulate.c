/* simulate.c - momentum diffusion forward in time, on many particles. */
#include <math.h>

#include "base/base.h"
#include "base/threads.h"
#include "simulate/internal.h"

/* Particles of one piece of work: their state stays in the first-level cache for all steps. */
enum { PIECE = 1024 };

fdm_status fdm_simulate_setup(const struct fdm_kernels **kernels, int *threads, const char *isa, int wanted,
                              fdm_error *err) {
    enum fdm_isa id;
    const fdm_status status = fdm_isa_choose(isa, &id, err);
    if (status != FDM_OK) return status;
    *kernels = fdm_kernels_for(id);
    *threads = wanted > 0 ? wanted : fdm_max_threads();
    return FDM_OK;
}

struct fdm_particle_step fdm_step_f32(const fdm_step *s) {
    return (struct fdm_particle_step){(float)s->xx, (float)s->xv, (float)s->vx, (float)s->vv,
                                      (float)s->px, (float)s->pv, (float)s->qv};
}

static fdm_status check(const fdm_simulation *run, size_t n, fdm_error *err) {
    if (run->count < 1 || run->count > FDM_SIMULATE_MAX_STEPS)
        return fdm_fail(err, FDM_BAD_USAGE, "%d steps: need 1 to %d", run->count, (int)FDM_SIMULATE_MAX_STEPS);
    if (n > ((uint64_t)1 << 32) - run->first_particle)
        return fdm_fail(err, FDM_BAD_USAGE, "particles %u to %zu more: a stream has 2^32", run->first_particle, n);
    if (run->refine < 0) return fdm_fail(err, FDM_BAD_USAGE, "refine = %d: need 0 or more", run->refine);
    return FDM_OK;
}

/* Two normals a step if any step wants them. */
static int count_normals(const fdm_simulation *run) {
    for (int k = 0; k < run->count; k++)
        if (run->steps[k].qv != 0) return 2;
    return 1;
}

fdm_status fdm_simulate(float *x, float *v, size_t n, const fdm_simulation *run, fdm_error *err) {
    const struct fdm_kernels *kernels;
    int threads;
    fdm_status status = check(run, n, err);
    if (status == FDM_OK) status = fdm_simulate_setup(&kernels, &threads, run->isa, run->threads, err);
    if (status != FDM_OK) return status;
    struct fdm_particle_run work = {.count = (size_t)run->count,
                                    .normals = count_normals(run),
                                    .refine = run->refine > 1 ? (uint32_t)run->refine : 1,
                                    .key = {(uint32_t)run->seed, (uint32_t)(run->seed >> 32) ^ run->stream}};
    if (work.refine > 1 && work.normals == 2)
        return fdm_fail(err, FDM_BAD_USAGE, "refine = %d: the exact step is not a function of the Brownian path alone",
                        run->refine);
    struct fdm_particle_step *steps = fdm_malloc_aligned(work.count * sizeof *steps);
    if (!steps) return fdm_fail_oom(err, "steps", work.count * sizeof *steps);
    for (size_t k = 0; k < work.count; k++) steps[k] = fdm_step_f32(&run->steps[k]);
    work.steps = steps;
    const size_t pieces = n / PIECE + (n % PIECE != 0);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t piece = 0; piece < pieces; piece++) {
        const size_t from = piece * PIECE, count = n - from < PIECE ? n - from : PIECE;
        struct fdm_particle_run mine = work;
        mine.first = run->first_particle + (uint32_t)from;
        kernels->particles(x + from, v + from, &mine, count);
    }
    fdm_free_aligned(steps);
    return FDM_OK;
}

fdm_status fdm_simulate_start(float *x, float *v, size_t count, const fdm_mixture *m, double gamma0, uint64_t seed,
                              fdm_error *err) {
    fdm_status status = fdm_mixture_check(m, err);
    if (status == FDM_OK && !(gamma0 >= 0 && isfinite(gamma0)))
        status = fdm_fail(err, FDM_BAD_USAGE, "gamma0 = %g: need a variance", gamma0);
    if (status == FDM_OK && count > UINT32_MAX)
        status = fdm_fail(err, FDM_BAD_USAGE, "%zu particles: a stream has 2^32", count);
    if (status != FDM_OK) return status;
    const int dim = m->dim;
    for (size_t i = 0; i < count; i++) {
        double z[2 * FDM_MIXTURE_MAX_DIM], x0[FDM_MIXTURE_MAX_DIM];
        fdm_draw_normals(z, 2 * dim, seed, (uint32_t)i, 0, FDM_DRAW_START);
        fdm_mixture_draw(x0, m, fdm_draw_uniform(seed, (uint32_t)i, FDM_DRAW_CHOICE), z);
        for (int d = 0; d < dim; d++) {
            x[i * (size_t)dim + (size_t)d] = (float)x0[d];
            v[i * (size_t)dim + (size_t)d] = (float)(sqrt(gamma0) * z[dim + d]);
        }
    }
    return FDM_OK;
}
