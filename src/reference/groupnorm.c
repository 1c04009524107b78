/* groupnorm.c - group normalisation (SPEC 3 "GroupNorm"), over the pixels and the adjacent channels of a group:
 *
 *     v = in[n,c,:] + add[n,c],   mean = E v,   var = E (v - mean)^2   (biased)
 *     raw = (v - mean) / sqrt(var + eps) * weight[c] + bias[c],   out = dropout?(silu?(raw))
 *
 * and its backward pass, from the statistics computed again; below x^ = (v - mean) / sqrt(var + eps).
 */
#include "reference/reference.h"

#include <math.h>

/* Packed: the weights [c] as doubles, then the biases [c]. */
size_t fdm_ref_groupnorm_packed_bytes(int channels) { return fdm_ref_bytes(2, channels, 1, 1); }

void fdm_ref_groupnorm_pack(const struct fdm_exec *exec, void *packed, const float *weight, const float *bias,
                            int channels) {
    (void)exec;
    double *to = packed;
    for (int c = 0; c < channels; c++) {
        to[c] = (double)weight[c];
        to[channels + c] = bias ? (double)bias[c] : 0.0;
    }
}

struct moments {
    double mean, var;
};

/* Two passes, so that a large mean takes nothing from the variance. */
static struct moments group_moments(const struct fdm_map *in, const double *add, int n, int c0, int c1) {
    const size_t plane = fdm_ref_plane(in);
    const double count = (double)(c1 - c0) * (double)plane;
    struct moments m = {0.0, 0.0};
    for (int c = c0; c < c1; c++) {
        const double *x = fdm_ref_at(in, n, c), shift = add ? add[c] : 0.0;
        for (size_t i = 0; i < plane; i++) m.mean += x[i] + shift;
    }
    m.mean /= count;
    for (int c = c0; c < c1; c++) {
        const double *x = fdm_ref_at(in, n, c), shift = add ? add[c] : 0.0;
        for (size_t i = 0; i < plane; i++) {
            const double centred = x[i] + shift - m.mean;
            m.var += centred * centred;
        }
    }
    m.var /= count;
    return m;
}

static void normalise_group(struct fdm_map *out, const struct fdm_map *in, const struct fdm_groupnorm_args *args,
                            int n, int c0, int c1) {
    const double *weight = args->param, *bias = weight + in->c;
    const double *add = args->add ? (const double *)args->add->data + (size_t)n * (size_t)in->c : NULL;
    const struct moments m = group_moments(in, add, n, c0, c1);
    const double deviation = sqrt(m.var + args->eps);
    for (int c = c0; c < c1; c++) {
        const double *x = fdm_ref_at(in, n, c), shift = add ? add[c] : 0.0;
        double *y = fdm_ref_at(out, n, c), *raw = args->raw ? fdm_ref_at(args->raw, n, c) : NULL;
        for (size_t i = 0; i < fdm_ref_plane(in); i++) {
            const double value = (x[i] + shift - m.mean) / deviation * weight[c] + bias[c];
            if (raw) raw[i] = value;
            y[i] = args->silu ? fdm_ref_silu(value) : value;
            if (args->dropout) y[i] = fdm_ref_dropout(args->dropout, y[i], n, c, i);
        }
    }
}

void fdm_ref_groupnorm(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in,
                       const struct fdm_groupnorm_args *args) {
    const int size = in->c / args->groups; /* channels of a group */
#pragma omp parallel for collapse(2) num_threads(exec->threads) schedule(static)
    for (int n = 0; n < in->n; n++)
        for (int g = 0; g < args->groups; g++) normalise_group(out, in, args, n, g * size, (g + 1) * size);
}

/* Per sample the leaves of the sums over samples: d_weight [c], then d_bias [c]. */
size_t fdm_ref_groupnorm_backward_scratch(int n, int c, int h, int w, int threads) {
    (void)h, (void)w, (void)threads;
    return fdm_ref_bytes(n, 2, c, 1);
}

/* One group of channels c0..c1-1 of sample n, in the backward pass. */
struct group {
    const struct fdm_map *in, *d_out;
    const struct fdm_groupnorm_args *forward;
    int n, c0, c1;
    const double *add; /* [c] or NULL */
    double mean, deviation;
};

/* x^ and d_raw of one element:  out = dropout(silu(raw)),  raw = x^ weight + bias. */
static double normalised(const struct group *g, int c, size_t i) {
    return (fdm_ref_at(g->in, g->n, c)[i] + (g->add ? g->add[c] : 0.0) - g->mean) / g->deviation;
}
static double d_raw_at(const struct group *g, int c, size_t i) {
    const double *weight = g->forward->param, *bias = weight + g->in->c;
    double d = fdm_ref_at(g->d_out, g->n, c)[i];
    if (g->forward->dropout) d = fdm_ref_dropout(g->forward->dropout, d, g->n, c, i); /* linear, the same mask */
    if (g->forward->silu) d *= fdm_ref_silu_slope(normalised(g, c, i) * weight[c] + bias[c]);
    return d;
}

/* raw = x^ weight[c] + bias[c]:   d_weight[c] = sum d_raw x^,   d_bias[c] = sum d_raw   over the pixels.
 * x^ = (v - mean) / deviation, where mean and deviation move with every v of the group's m elements:
 *     d_x^ = d_raw weight[c]
 *     d_v  = (d_x^ - sum(d_x^) / m - x^ sum(d_x^ x^) / m) / deviation
 * v = in + add[c]:   d_in = d_v,   d_add[c] = sum d_v   over the pixels. */
static void group_backward(const struct group *g, const struct fdm_groupnorm_backward_args *args, double *d_weight,
                           double *d_bias) {
    const double *weight = g->forward->param;
    const size_t plane = fdm_ref_plane(g->in);
    const double count = (double)(g->c1 - g->c0) * (double)plane;
    double sum = 0.0, sum_x = 0.0; /* of d_x^ and of d_x^ x^ over the group */
    for (int c = g->c0; c < g->c1; c++) {
        d_weight[c] = d_bias[c] = 0.0;
        for (size_t i = 0; i < plane; i++) {
            const double d_raw = d_raw_at(g, c, i);
            d_weight[c] += d_raw * normalised(g, c, i);
            d_bias[c] += d_raw;
        }
        sum += weight[c] * d_bias[c];
        sum_x += weight[c] * d_weight[c];
    }
    if (!args->d_in.map && !args->d_add.vec) return;
    for (int c = g->c0; c < g->c1; c++) {
        double d_add = 0.0;
        for (size_t i = 0; i < plane; i++) {
            const double d_x = d_raw_at(g, c, i) * weight[c];
            const double d_v = (d_x - sum / count - normalised(g, c, i) * (sum_x / count)) / g->deviation;
            if (args->d_in.map)
                fdm_ref_deliver(fdm_ref_at(args->d_in.map, g->n, c) + i, &d_v, 1, 1.0, args->d_in.accumulate);
            d_add += d_v;
        }
        if (args->d_add.vec)
            fdm_ref_deliver((double *)args->d_add.vec->data + (size_t)g->n * (size_t)g->in->c + (size_t)c, &d_add, 1,
                            1.0, args->d_add.accumulate);
    }
}

void fdm_ref_groupnorm_backward(const struct fdm_exec *exec, const struct fdm_map *d_out, const struct fdm_map *in,
                                const struct fdm_groupnorm_backward_args *args) {
    const struct fdm_groupnorm_args *forward = &args->forward;
    const size_t channels = (size_t)in->c;
    const int size = in->c / forward->groups;
    double *leaves = exec->scratch, *d_weight = args->d_weight, *d_bias = args->d_bias;
#pragma omp parallel for collapse(2) num_threads(exec->threads) schedule(static)
    for (int n = 0; n < in->n; n++)
        for (int i = 0; i < forward->groups; i++) {
            struct group g = {in, d_out, forward, n, i * size, (i + 1) * size, NULL, 0.0, 0.0};
            if (forward->add) g.add = (const double *)forward->add->data + (size_t)n * channels;
            const struct moments m = group_moments(in, g.add, n, g.c0, g.c1);
            g.mean = m.mean;
            g.deviation = sqrt(m.var + forward->eps);
            double *leaf = leaves + (size_t)n * 2 * channels;
            group_backward(&g, args, leaf, leaf + channels);
        }
    for (size_t c = 0; c < channels; c++) {
        d_weight[c] = fdm_ref_tree_sum(leaves + c, 2 * channels, in->n);
        d_bias[c] = fdm_ref_tree_sum(leaves + channels + c, 2 * channels, in->n);
    }
}
