/* groupnorm.c - group normalisation of the f32 backends, with the add before it, SiLU and dropout after it, and the
 * way back through all of them.
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
 *
 * Backward.  With dy = dL/dy, xhat = (v - mean) r, r = 1/sqrt(var + eps), means over the P pixels of a group's
 * channels:
 *
 *     d_bias = sum dy,   d_weight = sum dy xhat,
 *     dL/dx = r (weight dy - mean(weight dy) - xhat mean(weight dy xhat)),   d_add = sum dL/dx
 *
 * Statistics and y are computed again exactly as in the forward pass.  A first pass over a run makes dy (into scratch)
 * and its two sums, a few numbers in f64 follow, a second pass writes dL/dx as two FMAs.  d_add needs no pass: it
 * follows from the sums.
 */
#include <math.h>
#include <string.h>

#include "base/threads.h"
#include "nn/f32_layers.h"
#include "nn/f32_map.h"
#include "nn/f32_tree.h"
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

/* What the backward pass keeps of a channel: the mean of x + add, the sum of dy. */
struct channel {
    double mean, dy;
};

/* One run: blocks [block, end) of sample n. */
struct run {
    const struct fdm_exec *exec;
    const struct fdm_map *in;
    const struct fdm_groupnorm_args *args;
    int n, block, end;
    int group_channels;
    double mean[MAX_GROUPS], scale[MAX_GROUPS]; /* of the run's groups: mean of x + add, 1/sqrt(var + eps) */
    struct channel *channels; /* [C], of the sample, or NULL; its means are filled in */
};

/* How a call is cut into runs. */
struct cut {
    int group_channels, run_blocks, blocks, runs, units;
};

static struct cut cut_call(const struct fdm_map *in, const struct fdm_groupnorm_args *args) {
    struct cut c = {.group_channels = in->c / args->groups, .run_blocks = 1, .blocks = fdm_f32_blocks(in->c)};
    while (c.run_blocks * LANES % c.group_channels != 0) c.run_blocks++;
    c.runs = fdm_div_up(c.blocks, c.run_blocks);
    c.units = in->n * c.runs;
    return c;
}

static struct run run_of(const struct cut *c, int unit, const struct fdm_exec *exec, const struct fdm_map *in,
                         const struct fdm_groupnorm_args *args) {
    struct run r = {.exec = exec, .in = in, .args = args, .group_channels = c->group_channels};
    r.n = unit / c->runs;
    r.block = unit % c->runs * c->run_blocks;
    r.end = fdm_min_int(r.block + c->run_blocks, c->blocks);
    return r;
}

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
        for (int i = 0; i < lanes_of(r, b); i++) {
            const double mean = (double)x.p[i] + total(&s, i) / pixels + add_of(r, b * LANES + i);
            r->mean[group_of(r, b, i)] += mean;
            if (r->channels) r->channels[b * LANES + i].mean = mean;
        }
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

/* y = (x + shift) * scale + offset for the channels of a block. */
struct affine {
    float shift[LANES], shift_low[LANES], scale[LANES], offset[LANES];
};

static struct affine block_affine(const struct run *r, int block) {
    const float *weight = (const float *)r->args->param + block * LANES;
    const float *bias = weight + fdm_round_up((size_t)r->in->c, LANES);
    struct affine a = {.scale = {0}, .offset = {0}};
    block_shift(r, a.shift, a.shift_low, block);
    for (int i = 0; i < lanes_of(r, block); i++) {
        const double exact = (double)weight[i] * r->scale[group_of(r, block, i)];
        a.scale[i] = (float)exact;
        a.offset[i] = (float)((double)bias[i] + (double)a.shift_low[i] * exact);
    }
    return a;
}

/* Fills *d for a block and returns it; NULL if nothing is ever dropped. */
static const struct fdm_plane_dropout *block_dropout(struct fdm_plane_dropout *d, const struct run *r, int block) {
    const struct fdm_dropout *dropout = r->args->dropout;
    if (!dropout || dropout->p == 0) return NULL;
    const uint64_t key = dropout->keys[r->n];
    const double threshold = nearbyint(dropout->p * 0x1p32);
    d->key[0] = (uint32_t)key, d->key[1] = (uint32_t)(key >> 32);
    d->channel = dropout->layer << 16 | (uint32_t)(block * LANES);
    d->factor = (float)(1 / (1 - dropout->p));
    d->threshold = (uint32_t)fmin(threshold, 0xffffffff);
    if (threshold > 0xffffffff) d->factor = 0; /* p so near 1 that no word reaches it: nothing is kept */
    return d;
}

static void apply_block(const struct run *r, struct fdm_map *out, int block) {
    const struct affine affine = block_affine(r, block);
    struct fdm_plane_dropout dropout;
    struct fdm_gn_apply a = {.x = plane_of(r->in, r->n, block), .out = plane_to(out, r->n, block)};
    a.shift = affine.shift, a.scale = affine.scale, a.bias = affine.offset, a.silu = r->args->silu;
    a.dropout = block_dropout(&dropout, r, block);
    struct fdm_map *raw = r->args->raw;
    if (raw) a.raw = plane_to(raw, r->n, block);
    r->exec->kernels->gn_apply(&a, r->in->h, r->in->w);
    const ptrdiff_t plane = (ptrdiff_t)r->n * fdm_f32_blocks(r->in->c) + block;
    fdm_f32_zero_halo(out, plane);
    if (raw) fdm_f32_zero_halo(raw, plane);
}

void fdm_f32_groupnorm(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                       const struct fdm_groupnorm_args *args) {
    const struct cut cut = cut_call(in, args);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int u = 0; u < cut.units; u++) {
        struct run r = run_of(&cut, u, exec, in, args);
        find_means(&r);
        find_scales(&r);
        for (int b = r.block; b < r.end; b++) apply_block(&r, out, b);
    }
}

/* ---- Backward --------------------------------------------------------------------------------------------- */

/* The scratch: each sample's d_weight and d_bias, and its channels; for each thread the dy of a run, which is at most
 * all blocks of a sample. */
struct work {
    size_t padded;            /* channels padded to whole blocks */
    float *rows;              /* (N, 2, padded) */
    struct channel *channels; /* (N, padded) */
    float *dy;                /* (threads, blocks, H, W, 16) */
};

size_t fdm_f32_groupnorm_backward_scratch(int n, int c, int h, int w, int threads) {
    const size_t padded = fdm_round_up((size_t)c, LANES);
    size_t rows = sizeof(struct channel) + 2 * sizeof(float), planes = sizeof(float);
    const bool fits = fdm_mul_size(&rows, rows, padded) && fdm_mul_size(&rows, rows, (size_t)n) &&
                      fdm_mul_size(&planes, planes, padded) && fdm_mul_size(&planes, planes, (size_t)h) &&
                      fdm_mul_size(&planes, planes, (size_t)w) && fdm_mul_size(&planes, planes, (size_t)threads);
    return fits ? fdm_add_saturated(rows, planes) : SIZE_MAX;
}

static struct work divide_scratch(const struct fdm_exec *exec, const struct fdm_map *in) {
    struct work k = {.padded = fdm_round_up((size_t)in->c, LANES), .rows = exec->scratch};
    const size_t elements = (size_t)in->n * k.padded;
    k.channels = (struct channel *)(void *)(k.rows + 2 * elements);
    k.dy = (float *)(void *)(k.channels + elements);
    return k;
}

/* Of the run's groups: sums of weight dy and of weight dy xhat, then their means. */
struct group_sums {
    double dy[MAX_GROUPS], dot[MAX_GROUPS];
};

static bool needs_dy(const struct fdm_groupnorm_args *args) {
    return args->silu || (args->dropout && args->dropout->p > 0);
}

/* The first pass over a block: dy, and its sums to the sample's gradients, the channels and the groups. */
static void sum_block(struct group_sums *groups, const struct run *r, const struct work *k,
                      const struct fdm_map *d_out, struct fdm_plane dy, int block) {
    const struct affine affine = block_affine(r, block);
    const float *weight = (const float *)r->args->param + block * LANES;
    float *d_weight = k->rows + (size_t)r->n * 2 * k->padded + block * LANES, *d_bias = d_weight + k->padded;
    struct fdm_plane_dropout dropout;
    struct fdm_gn_backward b = {.x = plane_of(r->in, r->n, block), .d_out = plane_of(d_out, r->n, block)};
    b.shift = affine.shift, b.scale = affine.scale, b.bias = affine.offset, b.silu = r->args->silu;
    b.dropout = block_dropout(&dropout, r, block);
    if (needs_dy(r->args)) b.dy = dy;
    r->exec->kernels->gn_backward(&b, r->in->h, r->in->w);
    for (int i = 0; i < LANES; i++) {
        if (i >= lanes_of(r, block)) {
            d_weight[i] = d_bias[i] = 0;
            continue;
        }
        const int g = group_of(r, block, i);
        const double sum = (double)b.sum_hi[i] + (double)b.sum_lo[i];
        const double dot = (double)b.dot_hi[i] + (double)b.dot_lo[i] + (double)affine.shift_low[i] * sum;
        groups->dy[g] += (double)weight[i] * sum;
        groups->dot[g] += (double)weight[i] * (dot * r->scale[g]);
        d_weight[i] = (float)(dot * r->scale[g]);
        d_bias[i] = (float)sum;
        r->channels[block * LANES + i].dy = sum;
    }
}

/* Second pass: dL/dx = dy * (weight r) + ((x + shift) * x_scale + offset). */
static void gradient_block(const struct run *r, const struct group_sums *mean, const struct fdm_map_target *target,
                           struct fdm_const_plane dy, int block) {
    const struct affine affine = block_affine(r, block);
    float x_scale[LANES] = {0}, offset[LANES] = {0};
    for (int i = 0; i < lanes_of(r, block); i++) {
        const int g = group_of(r, block, i);
        const double exact = -mean->dot[g] * r->scale[g] * r->scale[g];
        x_scale[i] = (float)exact;
        offset[i] = (float)((double)affine.shift_low[i] * exact - mean->dy[g] * r->scale[g]);
    }
    struct fdm_gn_gradient a = {.x = plane_of(r->in, r->n, block), .dy = dy, .accumulate = target->accumulate};
    a.d_in = plane_to(target->map, r->n, block);
    a.shift = affine.shift, a.dy_scale = affine.scale, a.x_scale = x_scale, a.offset = offset;
    r->exec->kernels->gn_gradient(&a, r->in->h, r->in->w);
    if (!target->accumulate)
        fdm_f32_zero_halo(target->map, (ptrdiff_t)r->n * fdm_f32_blocks(r->in->c) + block);
}

/* The sum of dL/dx over a channel's pixels. */
static void add_gradients(const struct run *r, const struct group_sums *mean, const struct fdm_vec_target *d_add,
                          int block) {
    const double pixels = (double)r->in->h * r->in->w;
    const float *weight = (const float *)r->args->param + block * LANES;
    float *to = (float *)d_add->vec->data + (ptrdiff_t)r->n * r->in->c + block * LANES;
    for (int i = 0; i < lanes_of(r, block); i++) {
        const int g = group_of(r, block, i);
        const struct channel *c = &r->channels[block * LANES + i];
        const double xhat = pixels * (c->mean - r->mean[g]) * r->scale[g];
        const double sum = (double)weight[i] * c->dy - pixels * mean->dy[g] - xhat * mean->dot[g];
        const float gradient = (float)(r->scale[g] * sum);
        to[i] = d_add->accumulate ? to[i] + gradient : gradient;
    }
}

static void backward_run(struct run *r, const struct work *k, const struct fdm_map *d_out,
                         const struct fdm_groupnorm_backward_args *args) {
    const int h = r->in->h, w = r->in->w;
    const ptrdiff_t plane = (ptrdiff_t)h * w * LANES;
    float *dy = k->dy + fdm_thread_index() * fdm_f32_blocks(r->in->c) * plane;
    struct group_sums groups = {{0}, {0}};
    r->channels = k->channels + (size_t)r->n * k->padded;
    find_means(r);
    find_scales(r);
    for (int b = r->block; b < r->end; b++)
        sum_block(&groups, r, k, d_out, (struct fdm_plane){dy + (b - r->block) * plane, (ptrdiff_t)w * LANES}, b);
    for (int g = 0; g < MAX_GROUPS; g++) {
        const double count = (double)h * w * r->group_channels;
        groups.dy[g] /= count, groups.dot[g] /= count;
    }
    for (int b = r->block; b < r->end; b++) {
        struct fdm_const_plane from = {dy + (b - r->block) * plane, (ptrdiff_t)w * LANES};
        if (!needs_dy(r->args)) from = plane_of(d_out, r->n, b);
        if (args->d_in.map) gradient_block(r, &groups, &args->d_in, from, b);
        if (args->d_add.vec) add_gradients(r, &groups, &args->d_add, b);
    }
}

void fdm_f32_groupnorm_backward(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                                const struct fdm_groupnorm_backward_args *args) {
    const struct cut cut = cut_call(in, &args->forward);
    const struct work k = divide_scratch(exec, in);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int u = 0; u < cut.units; u++) {
        struct run r = run_of(&cut, u, exec, in, &args->forward);
        backward_run(&r, &k, d_out, args);
    }
    fdm_f32_sum_samples(exec, k.rows, in->n, 2 * k.padded);
    memcpy(args->d_weight, k.rows, (size_t)in->c * sizeof(float));
    memcpy(args->d_bias, k.rows + k.padded, (size_t)in->c * sizeof(float));
}
