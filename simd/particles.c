/* particles.c - many independent copies of the oscillator's state (x, v), moved by random steps; and data perturbed by
 * given noise. */
#include "simd/kernel_table.h"
#include "simd/normal.h"

struct state {
    v16 x, v;
};

/* Not inlined: copies of it in every loop below made the portable build take minutes to compile, and run no faster. */
static __attribute__((noinline)) void draw(v16 z[4], const struct v16_philox *p, uint32_t block) {
    v16_normals(z, p, block);
}

/* `kick` is the noise of v.  The mean map is kept less the identity: adding x last rounds once at x's size, however small
 * the step. */
V16_FN struct state move(struct state s, const struct fdm_particle_step *c, v16 n1, v16 kick) {
    const v16 dx = v16_fma(v16_set1(c->xx), s.x, v16_fma(v16_set1(c->xv), s.v, v16_mul(v16_set1(c->px), n1)));
    const v16 dv = v16_fma(v16_set1(c->vx), s.x, v16_fma(v16_set1(c->vv), s.v, kick));
    return (struct state){v16_add(s.x, dx), v16_add(s.v, dv)};
}

V16_FN struct state move_single(struct state s, const struct fdm_particle_step *c, v16 n1) {
    return move(s, c, n1, v16_mul(v16_set1(c->pv), n1));
}

V16_FN struct state move_pair(struct state s, const struct fdm_particle_step *c, v16 n1, v16 n2) {
    return move(s, c, n1, v16_fma(v16_set1(c->pv), n1, v16_mul(v16_set1(c->qv), n2)));
}

/* Two normals a step: a block moves by two steps. */
V16_FN struct state run_pairs(struct state s, const struct fdm_particle_run *run, const struct v16_philox *p) {
    v16 z[4];
    size_t k = 0;
    uint32_t block = 0;
    for (; k + 2 <= run->count; k += 2) {
        draw(z, p, block++);
        s = move_pair(s, run->steps + k, z[0], z[1]);
        s = move_pair(s, run->steps + k + 1, z[2], z[3]);
    }
    if (k < run->count) {
        draw(z, p, block);
        s = move_pair(s, run->steps + k, z[0], z[1]);
    }
    return s;
}

/* One normal a step: four steps. */
V16_FN struct state run_singles(struct state s, const struct fdm_particle_run *run, const struct v16_philox *p) {
    v16 z[4];
    size_t k = 0;
    uint32_t block = 0;
    for (; k + 4 <= run->count; k += 4) {
        draw(z, p, block++);
        for (size_t i = 0; i < 4; i++) s = move_single(s, run->steps + k + i, z[i]);
    }
    if (k < run->count) draw(z, p, block);
    for (size_t i = 0; k + i < run->count; i++) s = move_single(s, run->steps + k + i, z[i]);
    return s;
}

/* A step takes the Brownian path's increment over `refine` intervals, so that runs of different step sizes follow the
 * same path. */
V16_FN struct state run_refined(struct state s, const struct fdm_particle_run *run, const struct v16_philox *p) {
    const v16 scale = v16_div(v16_set1(1.0f), v16_sqrt(v16_set1((float)run->refine)));
    v16 z[4];
    uint32_t block = 0;
    int used = 4;
    for (size_t k = 0; k < run->count; k++) {
        v16 sum = v16_zero();
        for (uint32_t i = 0; i < run->refine; i++) {
            if (used == 4) {
                draw(z, p, block++);
                used = 0;
            }
            sum = v16_add(sum, z[used++]);
        }
        s = move_single(s, run->steps + k, v16_mul(sum, scale));
    }
    return s;
}

static const int32_t lane_numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* The generators of particles number .. number + 15. */
V16_FN struct v16_philox generators(const uint32_t key[2], uint32_t number) {
    return v16_philox_start(key, v16i_add(v16i_loadu(lane_numbers), v16_set1_word(number)));
}

V16_FN struct state run_all(struct state s, const struct fdm_particle_run *run, uint32_t number) {
    const struct v16_philox p = generators(run->key, number);
    if (run->normals == 2) return run_pairs(s, run, &p);
    return run->refine > 1 ? run_refined(s, run, &p) : run_singles(s, run, &p);
}

void FDM_KERNEL(particles)(float *x, float *v, const struct fdm_particle_run *run, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        const int lanes = n - i < 16 ? (int)(n - i) : 16;
        const struct state start = {v16_load_tail(x + i, lanes), v16_load_tail(v + i, lanes)};
        const struct state end = run_all(start, run, run->first + (uint32_t)i);
        v16_store_tail(x + i, end.x, lanes);
        v16_store_tail(v + i, end.v, lanes);
    }
}

void FDM_KERNEL(normals)(float *z, const uint32_t key[2], uint32_t first, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        const int lanes = n - i < 16 ? (int)(n - i) : 16;
        const struct v16_philox p = generators(key, first + (uint32_t)i);
        v16 four[4];
        draw(four, &p, 0);
        for (size_t k = 0; k < 4; k++) v16_store_tail(z + k * n + i, four[k], lanes);
    }
}

void FDM_KERNEL(perturb)(float *y, const float *x, const float *noise, float sigma, float s, size_t n) {
    const v16 by = v16_set1(sigma), scale = v16_set1(s);
    for (size_t i = 0; i < n; i += 16) {
        const int lanes = n - i < 16 ? (int)(n - i) : 16;
        const v16 noisy = v16_add(v16_load_tail(x + i, lanes), v16_mul(v16_load_tail(noise + i, lanes), by));
        v16_store_tail(y + i, v16_mul(noisy, scale), lanes);
    }
}

V16_FN v16 load_or_zero(const float *p, size_t i, int lanes) {
    return p ? v16_load_tail(p + i, lanes) : v16_zero();
}

void FDM_KERNEL(perturb_state)(float *x, float *v, const float *x0, const float *v0, const float *n1, const float *n2,
                               const struct fdm_particle_step *step, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        const int lanes = n - i < 16 ? (int)(n - i) : 16;
        const struct state start = {v16_load_tail(x0 + i, lanes), load_or_zero(v0, i, lanes)};
        const struct state end =
            move_pair(start, step, v16_load_tail(n1 + i, lanes), load_or_zero(n2, i, lanes));
        v16_store_tail(x + i, end.x, lanes);
        v16_store_tail(v + i, end.v, lanes);
    }
}
