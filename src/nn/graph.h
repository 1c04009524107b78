/* graph.h - the network as a flat list of named steps over a table of values; internal.
 *
 * unet.c and block.c write the list once; plan.h lays out its memory and the order of work, run.h runs it on any backend.
 * What is a list can be traced, timed, checked step by step and (training) walked backwards.
 */
#ifndef FDM_NN_GRAPH_H
#define FDM_NN_GRAPH_H

#include "fdm/config.h"
#include "fdm/denoiser.h"
#include "nn/backend.h"

enum { FDM_NAME_MAX = 96 };

/* An activation of one sample: a feature map (c, h, w), or a vector (c) when h == 0. */
struct fdm_value {
    int c, h, w;
};

/* Parameters under one published module name. */
enum fdm_module_kind { FDM_MODULE_LINEAR, FDM_MODULE_CONV2D, FDM_MODULE_GROUPNORM, FDM_MODULE_NOISE };
struct fdm_module {
    enum fdm_module_kind kind;
    char name[FDM_NAME_MAX]; /* "model.enc.32x32_block0.conv0" */
    int out, in, k;          /* features or channels; groupnorm: out = channels */
    bool bias;               /* has a bias (linear, conv2d) */
    bool resampling;         /* has the buffer resample_filter */
    size_t packed;           /* offset of its packed parameters in the model's slab */
    float *filter;           /* [len][len] copy of resample_filter, or NULL */
    float *raw_bias;         /* copy of the bias where a resampling step adds it (fused variant), or NULL */
    float *freqs;            /* [out/2] copy of the buffer of a Fourier embedding, or NULL */
};

enum fdm_op {
    FDM_OP_NOISE_EMBEDDING,
    FDM_OP_SWAP_HALVES,
    FDM_OP_LINEAR,
    FDM_OP_CONV2D,
    FDM_OP_RESAMPLE,
    FDM_OP_GROUPNORM,
    FDM_OP_ATTENTION,
    FDM_OP_CONCAT
};

struct fdm_step {
    enum fdm_op op;
    int in, out;     /* value indices; in = -1 for the noise embedding */
    int in2;         /* concat: second operand; groupnorm: vector added per channel; linear: residual; or -1 */
    int residual;    /* conv2d, resample: epilogue residual value, or -1 */
    double scale;    /* epilogue scale; 1 for none */
    int module;      /* or -1 */
    int pad;         /* conv2d, resample */
    bool up;         /* resample */
    bool silu;       /* groupnorm, linear */
    bool dropout;    /* groupnorm: in training its output passes dropout */
    double in_scale; /* linear */
    int segment;     /* steps of one segment (a block) are recomputed together where memory is traded for time */
    char name[FDM_NAME_MAX];  /* module whose output this step completes, before epilogue and SiLU; "" for none */
    char block[FDM_NAME_MAX]; /* enclosing module that this step's final output completes; "" for none */
};

struct fdm_graph {
    int filter_len;
    int capacity; /* of each of the three arrays: reserved once, so that pointers into them stay valid */
    struct fdm_value *values;
    int value_count;
    struct fdm_module *modules;
    int module_count;
    struct fdm_step *steps;
    int step_count;
    int x, labels, augment, output; /* value indices; labels, augment: -1 if absent */
    int noise;                      /* value of module map_noise's output */
    int segment;                    /* of the steps that are written next */
};

/* Writes the U-Net of `config` (SPEC 3) into an empty graph.  Returns false if out of memory. */
bool fdm_unet_build(struct fdm_graph *graph, const fdm_config *config);
void fdm_graph_free(struct fdm_graph *graph);

/* --- writing: room for everything is reserved first, so nothing below can fail --- */
bool fdm_graph_reserve(struct fdm_graph *g, int capacity);
/* New value or module; returns its index. */
int fdm_graph_value(struct fdm_graph *g, int c, int h, int w);
int fdm_graph_module(struct fdm_graph *g, enum fdm_module_kind kind, const char *name, int out, int in, int k,
                     bool bias, bool resampling);
/* A step with all optional fields off, reading `in` and writing a new value (c, h, w). */
struct fdm_step *fdm_graph_step(struct fdm_graph *g, enum fdm_op op, int module, int in, int c, int h, int w);
/* conv2d with "same" padding; its output is named after its module. */
struct fdm_step *fdm_graph_conv2d(struct fdm_graph *g, int module, int in);
/* resampling by 2 with the filter of `module` and padding floor((len-1)/2). */
struct fdm_step *fdm_graph_resample(struct fdm_graph *g, int module, int in, bool up);
/* GroupNorm, then SiLU if asked. */
struct fdm_step *fdm_graph_groupnorm(struct fdm_graph *g, int module, int in, bool silu);
struct fdm_step *fdm_graph_linear(struct fdm_graph *g, int module, int in);
/* Whether something follows the named module's output within the same step (epilogue, residual, SiLU), so that
 * tracing needs the plain output on the side. */
bool fdm_step_has_raw(const struct fdm_step *s);
/* Floating-point operations of a step for one sample: 2 per multiply-add, a few per element elsewhere.  A double,
 * because a config may name a network (which nobody can run) with more than 2^63 of them. */
double fdm_step_flops(const struct fdm_graph *g, const struct fdm_step *s);
/* groups of GroupNorm(channels): min(32, channels/4). */
int fdm_groupnorm_groups(int channels);

/* One UNetBlock (block.c) reading map x and vector emb; returns the value of its output. */
struct fdm_block_spec {
    int in, out;
    bool up, down, attention;
};
int fdm_block_build(struct fdm_graph *g, const char *name, int x, int emb, const struct fdm_block_spec *spec);

#endif
