/* groupnorm.c - group normalisation (SPEC 3 "GroupNorm"), over the pixels and the adjacent channels of a group:
 *
 *     v = in[n,c,:] + add[n,c],   mean = E v,   var = E (v - mean)^2   (biased)
 *     raw = (v - mean) / sqrt(var + eps) * weight[c] + bias[c],   out = silu?(raw)
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
