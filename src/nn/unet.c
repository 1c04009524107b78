/* unet.c - the whole network (SongUNet, SPEC 3) written as steps: embedding, encoder, decoder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "nn/graph.h"

/* State of the walk along the constructor. */
struct walk {
    struct fdm_graph *g;
    const fdm_config *config;
    int emb;  /* conditioning vector */
    int x;    /* running features */
    int aux;  /* running auxiliary image (encoder skip/residual, decoder skip), or -1 */
    int *skips, skip_count;
};

static int channels_of(const struct walk *w, int value) { return w->g->values[value].c; }

static bool attends(const fdm_config *c, int resolution) {
    for (int i = 0; i < c->attn_count; i++)
        if (c->attn_resolutions[i] == resolution) return true;
    return false;
}

/* "model.enc.32x32_block0": the part of the name after the resolution is a printf of `suffix` and `index`. */
static const char *level_name(char name[FDM_NAME_MAX], const char *side, int resolution, const char *suffix, int index) {
    if (index < 0)
        snprintf(name, FDM_NAME_MAX, "model.%s.%dx%d_%s", side, resolution, resolution, suffix);
    else
        snprintf(name, FDM_NAME_MAX, "model.%s.%dx%d_%s%d", side, resolution, resolution, suffix, index);
    return name;
}

static void block(struct walk *w, const char *name, int out, bool up, bool down, bool attention) {
    const struct fdm_block_spec spec = {
        .in = channels_of(w, w->x), .out = out, .up = up, .down = down, .attention = attention};
    w->x = fdm_block_build(w->g, name, w->x, w->emb, &spec);
    w->g->segment++;
}

/* emb = silu(map_layer1(silu(map_layer0(swap(map_noise(c_noise)) + map_label(...) + map_augment(...))))) */
static void build_embedding(struct walk *w) {
    struct fdm_graph *g = w->g;
    const fdm_config *c = w->config;
    const int noise_channels = c->model_channels * c->channel_mult_noise;
    const int emb_channels = c->model_channels * c->channel_mult_emb;

    /* Only the Fourier embedding has a buffer of its own (map_noise.freqs). */
    const int map_noise = fdm_graph_module(g, FDM_MODULE_NOISE, "model.map_noise", noise_channels, 0, 0, false, false);
    const int map_label = c->label_dim ? fdm_graph_module(g, FDM_MODULE_LINEAR, "model.map_label", noise_channels,
                                                          c->label_dim, 0, true, false) : -1;
    const int map_augment = c->augment_dim ? fdm_graph_module(g, FDM_MODULE_LINEAR, "model.map_augment", noise_channels,
                                                              c->augment_dim, 0, false, false) : -1;
    const int layer0 = fdm_graph_module(g, FDM_MODULE_LINEAR, "model.map_layer0", emb_channels, noise_channels, 0, true, false);
    const int layer1 = fdm_graph_module(g, FDM_MODULE_LINEAR, "model.map_layer1", emb_channels, emb_channels, 0, true, false);

    struct fdm_step *s = fdm_graph_step(g, FDM_OP_NOISE_EMBEDDING, map_noise, -1, noise_channels, 0, 0);
    snprintf(s->name, sizeof s->name, "model.map_noise");
    g->noise = s->out;
    int e = fdm_graph_step(g, FDM_OP_SWAP_HALVES, -1, s->out, noise_channels, 0, 0)->out;
    if (map_label >= 0) {
        g->labels = fdm_graph_value(g, c->label_dim, 0, 0);
        s = fdm_graph_linear(g, map_label, g->labels);
        s->in_scale = sqrt((double)c->label_dim);
        s->in2 = e;
        e = s->out;
    }
    if (map_augment >= 0) {
        g->augment = fdm_graph_value(g, c->augment_dim, 0, 0);
        s = fdm_graph_linear(g, map_augment, g->augment);
        s->in2 = e;
        e = s->out;
    }
    s = fdm_graph_linear(g, layer0, e);
    s->silu = true;
    s = fdm_graph_linear(g, layer1, s->out);
    s->silu = true;
    w->emb = s->out;
}

/* The auxiliary path into encoder level `resolution`: it replaces the newest skip (SPEC 3, Encoder). */
static void build_encoder_aux(struct walk *w, int resolution) {
    struct fdm_graph *g = w->g;
    char name[FDM_NAME_MAX];
    const int x_channels = channels_of(w, w->x), aux_channels = channels_of(w, w->aux);
    if (w->config->encoder_type == FDM_SKIP) {
        const int down = fdm_graph_module(g, FDM_MODULE_CONV2D, level_name(name, "enc", resolution, "aux_down", -1),
                                          aux_channels, aux_channels, 0, false, true);
        const int skip = fdm_graph_module(g, FDM_MODULE_CONV2D, level_name(name, "enc", resolution, "aux_skip", -1),
                                          x_channels, aux_channels, 1, true, false);
        struct fdm_step *s = fdm_graph_resample(g, down, w->aux, false);
        snprintf(s->name, sizeof s->name, "%s", g->modules[down].name);
        w->aux = s->out;
        s = fdm_graph_conv2d(g, skip, w->aux);
        s->residual = w->x;
        w->x = s->out;
    } else if (w->config->encoder_type == FDM_RESIDUAL) {
        /* fused: 3x3 convolution with padding 1 + p, then the filter without padding, then the bias */
        const int residual = fdm_graph_module(g, FDM_MODULE_CONV2D, level_name(name, "enc", resolution, "aux_residual", -1),
                                              x_channels, aux_channels, 3, true, true);
        struct fdm_step *s = fdm_graph_conv2d(g, residual, w->aux);
        const struct fdm_value *in = &g->values[w->aux];
        const int p = (g->filter_len - 1) / 2, wide = in->h + 2 * (1 + p) - 2;
        s->pad = 1 + p;
        s->name[0] = 0;
        g->values[s->out].h = g->values[s->out].w = wide;
        const int conv = s->out;
        s = fdm_graph_resample(g, residual, conv, false);
        s->pad = 0;
        g->values[s->out].h = g->values[s->out].w = (wide - g->filter_len) / 2 + 1;
        snprintf(s->name, sizeof s->name, "%s", g->modules[residual].name);
        s->residual = w->x;
        s->scale = sqrt(0.5);
        w->x = w->aux = s->out;
    } else {
        return;
    }
    w->skips[w->skip_count - 1] = w->x;
}

static void build_encoder(struct walk *w) {
    const fdm_config *c = w->config;
    char name[FDM_NAME_MAX];
    w->aux = w->g->x;
    for (int level = 0; level < c->levels; level++) {
        const int resolution = c->img_resolution >> level;
        if (level == 0) {
            const int conv = fdm_graph_module(w->g, FDM_MODULE_CONV2D, level_name(name, "enc", resolution, "conv", -1),
                                              c->model_channels, c->img_channels, 3, true, false);
            w->x = fdm_graph_conv2d(w->g, conv, w->g->x)->out;
            w->g->segment++;
            w->skips[w->skip_count++] = w->x;
        } else {
            block(w, level_name(name, "enc", resolution, "down", -1), channels_of(w, w->x), false, true, false);
            w->skips[w->skip_count++] = w->x;
            build_encoder_aux(w, resolution);
        }
        for (int i = 0; i < c->num_blocks; i++) {
            block(w, level_name(name, "enc", resolution, "block", i), c->model_channels * c->channel_mult[level], false,
                  false, attends(c, resolution));
            w->skips[w->skip_count++] = w->x;
        }
    }
}

/* aux = aux_conv(silu(aux_norm(x))) (+ aux_up(aux)): the image output of one decoder level. */
static void build_decoder_aux(struct walk *w, int level) {
    struct fdm_graph *g = w->g;
    const fdm_config *c = w->config;
    const int resolution = c->img_resolution >> level;
    char name[FDM_NAME_MAX];
    if (w->aux >= 0) {
        const int up = fdm_graph_module(g, FDM_MODULE_CONV2D, level_name(name, "dec", resolution, "aux_up", -1),
                                        c->img_channels, c->img_channels, 0, false, true);
        struct fdm_step *s = fdm_graph_resample(g, up, w->aux, true);
        snprintf(s->name, sizeof s->name, "%s", g->modules[up].name);
        w->aux = s->out;
    }
    const int norm = fdm_graph_module(g, FDM_MODULE_GROUPNORM, level_name(name, "dec", resolution, "aux_norm", -1),
                                      channels_of(w, w->x), 0, 0, true, false);
    const int conv = fdm_graph_module(g, FDM_MODULE_CONV2D, level_name(name, "dec", resolution, "aux_conv", -1),
                                      c->img_channels, channels_of(w, w->x), 3, true, false);
    const int h = fdm_graph_groupnorm(g, norm, w->x, true)->out;
    struct fdm_step *s = fdm_graph_conv2d(g, conv, h);
    s->residual = w->aux;
    w->aux = s->out;
}

static void build_decoder(struct walk *w) {
    const fdm_config *c = w->config;
    char name[FDM_NAME_MAX];
    w->aux = -1;
    for (int level = c->levels - 1; level >= 0; level--) {
        const int resolution = c->img_resolution >> level;
        if (level == c->levels - 1) {
            block(w, level_name(name, "dec", resolution, "in", 0), channels_of(w, w->x), false, false, true);
            block(w, level_name(name, "dec", resolution, "in", 1), channels_of(w, w->x), false, false, false);
        } else {
            block(w, level_name(name, "dec", resolution, "up", -1), channels_of(w, w->x), true, false, false);
        }
        for (int i = 0; i <= c->num_blocks; i++) {
            const int skip = w->skips[--w->skip_count]; // NOLINT(*-core.uninitialized.Assign): pushed as often
            const struct fdm_value *v = &w->g->values[skip];
            struct fdm_step *cat = fdm_graph_step(w->g, FDM_OP_CONCAT, -1, w->x, channels_of(w, w->x) + v->c, v->h, v->w);
            cat->in2 = skip;
            w->x = cat->out;
            block(w, level_name(name, "dec", resolution, "block", i), c->model_channels * c->channel_mult[level], false,
                  false, i == c->num_blocks && attends(c, resolution));
        }
        if (c->decoder_type == FDM_SKIP || level == 0) build_decoder_aux(w, level);
    }
    w->g->output = w->aux;
}

bool fdm_unet_build(struct fdm_graph *graph, const fdm_config *config) {
    struct walk w = {.g = graph, .config = config, .aux = -1};
    *graph = (struct fdm_graph){.filter_len = config->filter_len, .labels = -1, .augment = -1, .output = -1, .noise = -1};
    /* A block has at most 9 modules and 14 steps, a level 2*num_blocks + 3 blocks and a few auxiliary steps. */
    const int capacity = 32 + config->levels * (2 * config->num_blocks + 4) * 16;
    w.skips = malloc((size_t)config->levels * (size_t)(config->num_blocks + 1) * sizeof *w.skips);
    if (!w.skips || !fdm_graph_reserve(graph, capacity)) {
        free(w.skips);
        return false;
    }
    graph->x = fdm_graph_value(graph, config->img_channels, config->img_resolution, config->img_resolution);
    build_embedding(&w);
    graph->segment++;
    build_encoder(&w);
    build_decoder(&w);
    free(w.skips);
    struct fdm_step *last = &graph->steps[graph->step_count - 1];
    snprintf(last->block, sizeof last->block, "model");
    return true;
}
