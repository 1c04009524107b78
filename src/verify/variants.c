/* variants.c - the reference layers with one thing changed.  Maps are dense (N, C, H, W) doubles, as the reference's. */
#include "verify/variants.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/emulation.h"

const int fdm_qkv_orders[6][3] = {{0, 1, 2}, {1, 0, 2}, {0, 2, 1}, {2, 1, 0}, {1, 2, 0}, {2, 0, 1}};

static struct fdm_variant *variant_of(const struct fdm_exec *exec) { return (struct fdm_variant *)(uintptr_t)exec->settings; }

static double *plane_of(const struct fdm_map *m, int n, int c) {
    return (double *)m->data + ((size_t)n * (size_t)m->c + (size_t)c) * (size_t)m->h * (size_t)m->w;
}

static void *temporary(const struct fdm_exec *exec, size_t count) {
    void *p = malloc((count ? count : 1) * sizeof(double));
    if (!p) variant_of(exec)->failed = true;
    return p;
}

/* ---- convolution ---- */

/* weights (O, I, k, k), then biases (O), as the reference packs them */
static void change_weights(double *to, const double *from, int out, int in, int k, const struct fdm_variant *v) {
    const size_t taps = (size_t)k * (size_t)k, weights = (size_t)out * (size_t)in * taps;
    for (int o = 0; o < out; o++)
        for (int i = 0; i < in; i++)
            for (int y = 0; y < k; y++)
                for (int x = 0; x < k; x++) {
                    const bool transposed = v->kernel == FDM_KERNEL_TRANSPOSED && out == in;
                    const size_t pair = (size_t)(transposed ? i : o) * (size_t)in + (size_t)(transposed ? o : i);
                    const int tap = v->kernel == FDM_KERNEL_FLIPPED  ? (k - 1 - y) * k + k - 1 - x
                                    : v->kernel == FDM_KERNEL_TURNED ? x * k + y
                                                                     : y * k + x;
                    *to++ = from[pair * taps + (size_t)tap];
                }
    for (int o = 0; o < out; o++) *to++ = v->no_bias ? 0 : from[weights + (size_t)o];
}

static int source(enum fdm_padding padding, int at, int size) {
    if (at >= 0 && at < size) return at;
    if (padding == FDM_PAD_CIRCULAR) return (at % size + size) % size;
    if (padding == FDM_PAD_REPLICATE || size == 1) return at < 0 ? 0 : size - 1;
    const int reflected = at < 0 ? -at : 2 * (size - 1) - at;
    return fdm_max_int(0, fdm_min_int(reflected, size - 1));
}

static void pad_map(struct fdm_map *to, const struct fdm_map *from, int pad, enum fdm_padding padding) {
    double *out = to->data;
    for (int n = 0; n < from->n; n++)
        for (int c = 0; c < from->c; c++)
            for (int y = -pad; y < from->h + pad; y++)
                for (int x = -pad; x < from->w + pad; x++)
                    *out++ = plane_of(from, n, c)[source(padding, y, from->h) * from->w + source(padding, x, from->w)];
}

static void conv2d(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in, const struct fdm_conv2d_args *args) {
    struct fdm_variant *v = variant_of(exec);
    struct fdm_conv2d_args changed = *args;
    struct fdm_map padded = *in;
    double *weights = NULL, *pixels = NULL;
    if (v->no_bias || v->kernel) {
        const size_t count = (size_t)out->c * ((size_t)in->c * (size_t)args->k * (size_t)args->k + 1);
        weights = temporary(exec, count);
        if (!weights) return;
        change_weights(weights, args->weight, out->c, in->c, args->k, v);
        changed.weight = weights;
    }
    if (v->padding && args->pad) {
        padded.h += 2 * args->pad;
        padded.w += 2 * args->pad;
        padded.data = pixels = temporary(exec, (size_t)in->n * (size_t)in->c * (size_t)padded.h * (size_t)padded.w);
        if (pixels) pad_map(&padded, in, args->pad, v->padding);
        changed.pad = 0;
    }
    if (v->no_residual) changed.epilogue.residual = NULL;
    if (v->scale > 0 && args->epilogue.residual) changed.epilogue.scale = v->scale;
    if (padded.data) fdm_backend_reference()->conv2d(exec, out, &padded, &changed);
    free(weights);
    free(pixels);
}

/* ---- linear ---- */

static void linear(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in, const struct fdm_linear_args *args) {
    struct fdm_variant *v = variant_of(exec);
    struct fdm_linear_args changed = *args;
    double *weights = NULL;
    if (v->no_bias || v->kernel == FDM_KERNEL_TRANSPOSED) {
        weights = temporary(exec, (size_t)out->c * ((size_t)in->c + 1));
        if (!weights) return;
        change_weights(weights, args->weight, out->c, in->c, 1, v);
        changed.weight = weights;
    }
    if (v->in_scale > 0 && args->in_scale != 1) changed.in_scale = v->in_scale;
    if (v->no_silu) changed.silu = false;
    fdm_backend_reference()->linear(exec, out, in, &changed);
    free(weights);
}

/* ---- normalisation ---- */

struct norm {
    const struct fdm_map *in;
    const struct fdm_groupnorm_args *args;
    const struct fdm_variant *v;
    int n, first, end; /* channels of the group */
};

static double before(const struct norm *g, int c, size_t i) {
    const bool add = g->args->add && !g->v->no_add;
    return plane_of(g->in, g->n, c)[i] + (add ? ((const double *)g->args->add->data)[(size_t)g->n * (size_t)g->in->c + (size_t)c] : 0);
}

static void normalise_group(struct fdm_map *out, const struct norm *g) {
    const size_t plane = (size_t)g->in->h * (size_t)g->in->w;
    const double count = (double)plane * (g->end - g->first), *weight = g->args->param, *bias = weight + g->in->c;
    const double eps = g->v->eps > 0 ? g->v->eps : g->args->eps;
    double sum = 0, squares = 0;
    for (int c = g->first; c < g->end; c++)
        for (size_t i = 0; i < plane; i++) sum += before(g, c, i);
    for (int c = g->first; c < g->end; c++)
        for (size_t i = 0; i < plane; i++) squares += (before(g, c, i) - sum / count) * (before(g, c, i) - sum / count);
    const double deviation = sqrt(squares / (g->v->unbiased && count > 1 ? count - 1 : count) + eps);
    for (int c = g->first; c < g->end; c++)
        for (size_t i = 0; i < plane; i++) {
            const double y = (before(g, c, i) - sum / count) / deviation * weight[c] + bias[c];
            if (g->args->raw) plane_of(g->args->raw, g->n, c)[i] = y;
            plane_of(out, g->n, c)[i] = g->args->silu && !g->v->no_silu ? y / (1 + exp(-y)) : y;
        }
}

static void groupnorm(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in, const struct fdm_groupnorm_args *args) {
    const struct fdm_variant *v = variant_of(exec);
    const int groups = v->groups > 0 && in->c % v->groups == 0 ? v->groups : args->groups, size = in->c / groups;
    for (int n = 0; n < in->n; n++)
        for (int i = 0; i < groups; i++) normalise_group(out, &(struct norm){in, args, v, n, i * size, (i + 1) * size});
}

/* ---- attention ---- */

static const double *part_of(const struct fdm_map *qkv, int n, int channels, int j, int part, const struct fdm_variant *v) {
    const int from = fdm_qkv_orders[v->qkv_order][part];
    return plane_of(qkv, n, v->qkv_blocks ? from * channels + j : 3 * j + from);
}

/* w[a, b], a query, b key */
static void weigh(double *w, const struct fdm_map *qkv, int n, int channels, const struct fdm_variant *v) {
    const size_t l = (size_t)qkv->h * (size_t)qkv->w;
    const double factor = pow((double)channels, v->logits) / sqrt((double)channels);
    memset(w, 0, l * l * sizeof *w);
    for (int j = 0; j < channels; j++) {
        const double *q = part_of(qkv, n, channels, j, 0, v), *k = part_of(qkv, n, channels, j, 1, v);
        for (size_t a = 0; a < l; a++)
            for (size_t b = 0; b < l; b++) w[a * l + b] += factor * q[a] * k[b]; // NOLINT(*-core.uninitialized.Assign): set to zero above
    }
    const size_t step = v->softmax_over_queries ? l : 1, row = v->softmax_over_queries ? 1 : l;
    for (size_t a = 0; a < l; a++) {
        double largest = -INFINITY, sum = 0, *x = w + a * row;
        for (size_t b = 0; b < l; b++) largest = fmax(largest, x[b * step]); // NOLINT(*-core.CallAndMessage): as above
        for (size_t b = 0; b < l; b++) sum += x[b * step] = exp(x[b * step] - largest);
        for (size_t b = 0; b < l; b++) x[b * step] /= sum;
    }
}

static void attention(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *qkv) {
    const struct fdm_variant *v = variant_of(exec);
    const size_t l = (size_t)qkv->h * (size_t)qkv->w;
    double *w = temporary(exec, l * l);
    for (int n = 0; n < out->n && w; n++) {
        weigh(w, qkv, n, out->c, v);
        for (int j = 0; j < out->c; j++) {
            const double *value = part_of(qkv, n, out->c, j, 2, v);
            for (size_t a = 0; a < l; a++) {
                double sum = 0;
                for (size_t b = 0; b < l; b++) sum += w[a * l + b] * value[b];
                plane_of(out, n, j)[a] = sum;
            }
        }
    }
    free(w);
}

/* ---- the rest ---- */

static void resample(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *in, const struct fdm_resample_args *args) {
    const struct fdm_variant *v = variant_of(exec);
    struct fdm_resample_args changed = *args;
    float filter[FDM_MAX_FILTER * FDM_MAX_FILTER];
    const double gain = v->gain > 0 ? v->gain : 1;
    if (v->taps && args->pad == (args->len - 1) / 2) {
        double sum = 0;
        for (int i = 0; i < v->tap_count; i++) sum += v->taps[i];
        changed.len = v->tap_count;
        changed.pad = (v->tap_count - 1) / 2;
        for (int i = 0; i < v->tap_count * v->tap_count; i++)
            filter[i] = (float)(gain * v->taps[i / v->tap_count] * v->taps[i % v->tap_count] / (sum * sum));
    } else {
        for (int i = 0; i < args->len * args->len; i++) filter[i] = (float)(gain * (double)args->filter[i]);
    }
    changed.filter = filter;
    if (v->no_bias) changed.bias = NULL;
    if (v->no_residual) changed.epilogue.residual = NULL;
    if (v->scale > 0 && args->epilogue.residual) changed.epilogue.scale = v->scale;
    fdm_backend_reference()->resample(exec, out, in, &changed);
}

static void concat(const struct fdm_exec *exec, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b) {
    const struct fdm_variant *v = variant_of(exec);
    struct fdm_map skip = *b;
    if (v->skip) skip.data = (void *)(uintptr_t)v->skip;
    if (v->concat_swapped) fdm_backend_reference()->concat(exec, out, &skip, a);
    else fdm_backend_reference()->concat(exec, out, a, &skip);
}

static void swap_halves(const struct fdm_exec *exec, struct fdm_vec *out, const struct fdm_vec *in) {
    if (variant_of(exec)->no_swap) memcpy(out->data, in->data, (size_t)in->n * (size_t)in->c * sizeof(double));
    else fdm_backend_reference()->swap_halves(exec, out, in);
}

static void noise_embedding(const struct fdm_exec *exec, struct fdm_vec *out, const double *c_noise, const void *freqs) {
    const struct fdm_variant *v = variant_of(exec);
    const size_t half = (size_t)out->c / 2;
    const double two_pi = 6.283185307179586;
    for (size_t n = 0; n < (size_t)out->n; n++)
        for (size_t i = 0; i < half; i++) {
            double f = ((const double *)freqs)[i], *row = (double *)out->data + n * (size_t)out->c;
            if (v->embedding == FDM_EMBEDDING_HALF) f = pow(10000.0, -(double)i / (double)half);
            if (v->embedding == FDM_EMBEDDING_NO_TWO_PI) f /= two_pi;
            if (v->embedding == FDM_EMBEDDING_BF16) f = two_pi * (double)fdm_format_round(FDM_FORMAT_BF16, (float)(f / two_pi));
            if (v->embedding == FDM_EMBEDDING_FP16) f = two_pi * (double)fdm_format_round(FDM_FORMAT_FP16, (float)(f / two_pi));
            const bool sin_first = v->embedding == FDM_EMBEDDING_SIN_FIRST;
            row[sin_first ? half + i : i] = cos(c_noise[n] * f);
            row[sin_first ? i : half + i] = sin(c_noise[n] * f);
        }
}

struct fdm_backend fdm_variant_backend(void) {
    struct fdm_backend table = *fdm_backend_reference();
    table.conv2d = conv2d;
    table.linear = linear;
    table.groupnorm = groupnorm;
    table.attention = attention;
    table.resample = resample;
    table.concat = concat;
    table.swap_halves = swap_halves;
    table.noise_embedding = noise_embedding;
    return table;
}
