/* internal.h - what the simulators share. */
#ifndef FDM_SIMULATE_INTERNAL_H
#define FDM_SIMULATE_INTERNAL_H

#include "fdm/simulate.h"
#include "simd/kernel_table.h"

/* What the third word of a Philox counter says the numbers are for; the vectorised steps have 0. */
enum { FDM_DRAW_STEPS, FDM_DRAW_START, FDM_DRAW_CHOICE, FDM_DRAW_REVERSE };

/* `count` standard normal numbers in f64 of that particle, step and purpose, whatever else is drawn. */
void fdm_draw_normals(double *z, int count, uint64_t seed, uint32_t particle, uint32_t step, uint32_t purpose);
/* One uniform number in [0, 1). */
double fdm_draw_uniform(uint64_t seed, uint32_t particle, uint32_t purpose);

/* The kernels of isa (NULL: FDM_ISA or the best), and threads (0: all). */
fdm_status fdm_simulate_setup(const struct fdm_kernels **kernels, int *threads, const char *isa, int wanted,
                              fdm_error *err);
struct fdm_particle_step fdm_step_f32(const fdm_step *step);

#endif
