/* groupnorm.c - group normalisation of the f32 backends, with the add before it and the SiLU after it.
 *
 *     v = x + add,  y = (v - mean) / sqrt(var + eps) * weight + bias        (SPEC 3 "GroupNorm")
 *
 * per element as  d = x + shift,  y = fma(d, scale, offset)  with, per channel and rounded once from f64,
 *     shift = add - mean,   scale = weight / sqrt(var + eps),
 *     offset = bias + (what rounding shift dropped) * scale
 *
 * so that neither the mean nor add costs accuracy.  Channel sums come from the kernel as hi + lo; the few numbers
 * of a group are then combined in f64, channel by channel: the same operations on every ISA.
 *
 * A unit of work is the shortest run of channel blocks that cuts no group: lcm(channels per group, 16) channels, at
 * most 16 groups.  All its passes run in one thread, over data that stays in its cache.
 */
#include <math.h>
#include <string.h>

#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "simd/kernel_table.h"

enum { LANES = FDM_F32_LANES, MAX_GROUPS = 16 };

/* Packed: weights, then biases, each padded with zeros to whole blocks. */
size_t fdm_f32_groupnorm_packed_bytes(int channels) {
    return 2 * sizeof(float) * fdm_round_up((size_t)channels, LANES);
}

void fdm_f32_groupnorm_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                            int channels) {
    (void)exec;
    const size_t padded = fdm_round_up((size_t)channels, LANES);
    float *to = packed;
    memset(to, 0, fdm_f32_groupnorm_packed_bytes(channels));
    memcpy(to, weight, (size_t)channels * sizeof *to);
    if (bias) memcpy(to + padded, bias, (size_t)channels * sizeof *to);
}

/* One run: blocks [block, end) of sample n. */
struct run {
    const struct fdm_exec *exec;
    const struct fdm_map *in;
    struct fdm_map *out;
    const struct fdm_groupnorm_args *args;
    int n, block, end;
    int group_channels;
    double mean[MAX_GROUPS], scale[MAX_GROUPS]; /* of the run's groups: mean of x + add, 1/sqrt(var + eps) */
};

/* Group, counted within the run, of lane `lane` of a block; its channel is block * 16 + lane. */
static int group_of(const struct run *r, int block, int lane) {
    return ((block - r->block) * LANES + lane) / r->group_channels;
}

static int lanes_of(const struct run *r, int block) {
    return fdm_min_int(LANES, r->in->c - block * LANES);
}

static struct fdm_const_plane plane_of(const struct fdm_map *m, int n, int block) {
    return (struct fdm_const_plane){(const float *)m->data + fdm_f32_pixel(m, n, 0, 0) + block * fdm_f32_plane(m),
                                    fdm_f32_row(m)};
}

static struct fdm_plane plane_to(struct fdm_map *m, int n, int block) {
    return (struct fdm_plane){(float *)m->data + fdm_f32_pixel(m, n, 0, 0) + block * fdm_f32_plane(m),
                              fdm_f32_row(m)};
}

static double add_of(const struct run *r, int channel) {
    const struct fdm_vec *add = r->args->add;
    return add ? (double)((const float *)add->data)[(ptrdiff_t)r->n * add->c + channel] : 0.0;
}

/* add - mean of a block's channels, rounded, and what rounding dropped. */
static void block_shift(const struct run *r, float shift[LANES], float low[LANES], int block) {
    for (int i = 0; i < LANES; i++) {
        const bool pad = i >= lanes_of(r, block);
        const double exact = pad ? 0.0 : add_of(r, block * LANES + i) - r->mean[group_of(r, block, i)];
        shift[i] = (float)exact;
        low[i] = (float)(exact - (double)shift[i]);
    }
}

static double total(const struct fdm_gn_sum *s, int lane) {
    return (double)s->hi[lane] + (double)s->lo[lane];
}

/* Each channel is summed as differences from its first pixel: small numbers where the mean is large, and a constant
 * plane has exactly itself for a mean. */
static void find_means(struct run *r) {
    const double pixels = (double)r->in->h * r->in->w;
    memset(r->mean, 0, sizeof r->mean);
    for (int b = r->block; b < r->end; b++) {
        const struct fdm_const_plane x = plane_of(r->in, r->n, b);
        struct fdm_gn_sum s;
        for (int i = 0; i < LANES; i++) s.shift[i] = -x.p[i], s.shift_low[i] = 0;
        r->exec->kernels->gn_sum(&s, x, r->in->h, r->in->w);
        for (int i = 0; i < lanes_of(r, b); i++)
            r->mean[group_of(r, b, i)] += (double)x.p[i] + total(&s, i) / pixels + add_of(r, b * LANES + i);
    }
    for (int g = 0; g < MAX_GROUPS; g++) r->mean[g] /= r->group_channels;
}

static void find_scales(struct run *r) {
    const double count = (double)r->in->h * r->in->w * r->group_channels;
    memset(r->scale, 0, sizeof r->scale);
    for (int b = r->block; b < r->end; b++) {
        struct fdm_gn_sum s;
        block_shift(r, s.shift, s.shift_low, b);
        r->exec->kernels->gn_sumsq(&s, plane_of(r->in, r->n, b), r->in->h, r->in->w);
        for (int i = 0; i < lanes_of(r, b); i++) r->scale[group_of(r, b, i)] += total(&s, i);
    }
    for (int g = 0; g < MAX_GROUPS; g++) r->scale[g] = 1.0 / sqrt(r->scale[g] / count + r->args->eps);
}

static void apply_block(const struct run *r, int block) {
    const float *weight = (const float *)r->args->param + block * LANES;
    const float *bias = weight + fdm_round_up((size_t)r->in->c, LANES);
    float shift[LANES], shift_low[LANES], scale[LANES] = {0}, offset[LANES] = {0};
    block_shift(r, shift, shift_low, block);
    for (int i = 0; i < lanes_of(r, block); i++) {
        const double exact = (double)weight[i] * r->scale[group_of(r, block, i)];
        scale[i] = (float)exact;
        offset[i] = (float)((double)bias[i] + (double)shift_low[i] * exact);
    }
    struct fdm_gn_apply a = {.x = plane_of(r->in, r->n, block), .out = plane_to(r->out, r->n, block)};
    a.shift = shift, a.scale = scale, a.bias = offset, a.silu = r->args->silu;
    struct fdm_map *raw = r->args->raw;
    if (raw) a.raw = plane_to(raw, r->n, block);
    r->exec->kernels->gn_apply(&a, r->in->h, r->in->w);
    const ptrdiff_t plane = (ptrdiff_t)r->n * fdm_f32_blocks(r->in->c) + block;
    fdm_f32_zero_halo(r->out, plane);
    if (raw) fdm_f32_zero_halo(raw, plane);
}

void fdm_f32_groupnorm(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                       const struct fdm_groupnorm_args *args) {
    const int group_channels = in->c / args->groups, blocks = fdm_f32_blocks(in->c);
    int run_blocks = 1;
    while (run_blocks * LANES % group_channels != 0) run_blocks++;
    const int runs = fdm_div_up(blocks, run_blocks), units = in->n * runs;
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int u = 0; u < units; u++) {
        struct run r = {.exec = exec, .in = in, .out = out, .args = args, .group_channels = group_channels};
        r.n = u / runs;
        r.block = u % runs * run_blocks;
        r.end = fdm_min_int(r.block + run_blocks, blocks);
        find_means(&r);
        find_scales(&r);
        for (int b = r.block; b < r.end; b++) apply_block(&r, b);
    }
}
