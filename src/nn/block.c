/* block.c - UNetBlock (SPEC 3): the residual block of the network, with optional resampling and attention. */
#include <math.h>
#include <stdio.h>

#include "nn/graph.h"

static int declare(struct fdm_graph *g, const char *block, const char *part, enum fdm_module_kind kind, int out,
                   int in, int k, bool resampling) {
    char name[FDM_NAME_MAX];
    snprintf(name, sizeof name, "%s.%s", block, part);
    return fdm_graph_module(g, kind, name, out, in, k, true, resampling);
}

/* x = (proj(attention(qkv(norm2(x)))) + x) * sqrt(1/2) */
static struct fdm_step *attention(struct fdm_graph *g, const int modules[3], int x, int channels, double scale) {
    int norm = fdm_graph_groupnorm(g, modules[0], x, false)->out;
    int qkv = fdm_graph_conv2d(g, modules[1], norm)->out;
    const struct fdm_value *v = &g->values[x];
    int a = fdm_graph_step(g, FDM_OP_ATTENTION, -1, qkv, channels, v->h, v->w)->out;
    struct fdm_step *proj = fdm_graph_conv2d(g, modules[2], a);
    proj->residual = x;
    proj->scale = scale;
    return proj;
}

int fdm_block_build(struct fdm_graph *g, const char *name, int x, int emb, const struct fdm_block_spec *spec) {
    const double skip_scale = sqrt(0.5);
    const int in = spec->in, out = spec->out;
    const bool resampling = spec->up || spec->down;
    const bool project = in != out || resampling; /* otherwise the skip path is the identity */

    /* Declared in the order of the published constructor, so that parameters enumerate alike. */
    const int norm0 = declare(g, name, "norm0", FDM_MODULE_GROUPNORM, in, 0, 0, false);
    const int conv0 = declare(g, name, "conv0", FDM_MODULE_CONV2D, out, in, 3, resampling);
    const int affine = declare(g, name, "affine", FDM_MODULE_LINEAR, out, g->values[emb].c, 0, false);
    const int norm1 = declare(g, name, "norm1", FDM_MODULE_GROUPNORM, out, 0, 0, false);
    const int conv1 = declare(g, name, "conv1", FDM_MODULE_CONV2D, out, out, 3, false);
    const int skip = project ? declare(g, name, "skip", FDM_MODULE_CONV2D, out, in, 1, resampling) : -1;
    int attn[3] = {-1, -1, -1};
    if (spec->attention) {
        attn[0] = declare(g, name, "norm2", FDM_MODULE_GROUPNORM, out, 0, 0, false);
        attn[1] = declare(g, name, "qkv", FDM_MODULE_CONV2D, 3 * out, out, 1, false);
        attn[2] = declare(g, name, "proj", FDM_MODULE_CONV2D, out, out, 1, false);
    }

    /* h = conv1(silu(norm1(conv0(silu(norm0(x))) + affine(emb)))) */
    int h = fdm_graph_groupnorm(g, norm0, x, true)->out;
    if (resampling) h = fdm_graph_resample(g, conv0, h, spec->up)->out;
    h = fdm_graph_conv2d(g, conv0, h)->out;
    const int shift = fdm_graph_linear(g, affine, emb)->out;
    struct fdm_step *norm = fdm_graph_groupnorm(g, norm1, h, true);
    norm->in2 = shift;
    norm->dropout = true;
    h = norm->out;

    int identity = x;
    if (resampling) identity = fdm_graph_resample(g, skip, identity, spec->up)->out;
    if (project) identity = fdm_graph_conv2d(g, skip, identity)->out;

    /* x = (h + skip(x)) * sqrt(1/2) */
    struct fdm_step *last = fdm_graph_conv2d(g, conv1, h);
    last->residual = identity;
    last->scale = skip_scale;
    if (spec->attention) last = attention(g, attn, last->out, out, skip_scale);
    snprintf(last->block, sizeof last->block, "%s", name);
    return last->out;
}
