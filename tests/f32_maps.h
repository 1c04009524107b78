/* f32_maps.h - test helper: activation maps of the f32 backends, random numbers, the instruction sets to test. */
#ifndef FDM_TESTS_F32_MAPS_H
#define FDM_TESTS_F32_MAPS_H

#include <stdint.h>

#include "nn/backend.h"
#include "simd/kernels.h"

/* The kinds of test data.  RANDOM: uniform in [-1, 1) plus 0.5 (activations have a mean).  EXACT: integers from -4
 * to 4, so that every sum is exact and must be met to the bit. */
enum fill { FILL_RANDOM, FILL_EXACT };

/* Instruction sets this machine runs, in *list; says visibly which are skipped.  Returns how many. */
int f32_isas(enum fdm_isa list[FDM_ISA_COUNT]);
struct fdm_exec f32_exec(enum fdm_isa isa, int threads);

int f32_below(uint64_t *state, int n); /* 0 .. n-1 */
float f32_value(uint64_t *state, enum fill fill);
float *f32_array(uint64_t *state, size_t count, enum fill fill); /* release with fdm_free_aligned */

/* A map whose memory is all NaN; one whose elements are `fill` and whose halo and pad channels are zero.
 * data is released with fdm_free_aligned. */
struct fdm_map f32_map(int n, int c, int h, int w, int halo);
struct fdm_map f32_map_filled(uint64_t *state, int n, int c, int h, int w, int halo, enum fill fill);
size_t f32_map_bytes(const struct fdm_map *m);
float *f32_at(const struct fdm_map *m, int n, int c, int y, int x);
/* Fails the running test unless halo and pad channels are zero. */
void f32_check_zeros(const struct fdm_map *m, const char *what);
/* Scratch of exactly that size, all NaN, with a canary behind it; freeing fails the running test if the canary changed. */
void *f32_scratch(size_t bytes);
void f32_scratch_free(void *scratch, size_t bytes);
/* A copy of one sample. */
struct fdm_map f32_sample(const struct fdm_map *m, int n);

#endif
