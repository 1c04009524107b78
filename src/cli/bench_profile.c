/* bench_profile.c - where the time of a step goes: the table of layer functions with a clock around each call. */
#include "cli/bench.h"
#include "nn/network.h"

/* A table of functions has no room for a context, so there is one set of clocks for the process. */
static const struct fdm_backend *inner; /* the functions that do the work */
static struct fdm_backend table;        /* the same with clocks */
static struct bench_profile *sink;

const char *bench_kind_name(enum bench_kind kind) {
    static const char *const names[BENCH_KIND_COUNT] = {
#define BENCH_KIND_NAME(kind, name) name,
        BENCH_KINDS(BENCH_KIND_NAME)
#undef BENCH_KIND_NAME
    };
    return names[kind];
}

void bench_profile_add(struct bench_profile *profile, enum bench_kind kind, double seconds) {
    profile->kinds[kind].seconds += seconds;
    profile->kinds[kind].calls++;
}

static void count(enum bench_kind kind, double start, double flops) {
    if (!sink) return;
    bench_profile_add(sink, kind, bench_now() - start);
    sink->kinds[kind].flops += flops;
}

static double conv_flops(const struct fdm_map *out, const struct fdm_map *in, int k) {
    return 2.0 * out->n * out->h * out->w * k * k * out->c * in->c;
}

static void timed_conv2d(const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *in,
                         const struct fdm_conv2d_args *a) {
    const double start = bench_now();
    inner->conv2d(e, out, in, a);
    count(a->k == 1 ? BENCH_CONV1_FORWARD : BENCH_CONV3_FORWARD, start, conv_flops(out, in, a->k));
}

/* In two calls, one per gradient: what one leaves out the other gives. */
static void timed_conv2d_backward(const struct fdm_exec *e, const struct fdm_map *d_out, const struct fdm_map *in,
                                  const struct fdm_conv2d_backward_args *a) {
    struct fdm_conv2d_backward_args data = *a, weights = *a;
    const double flops = conv_flops(d_out, in, a->k);
    data.d_weight = data.d_bias = NULL;
    weights.d_in.map = weights.d_residual.map = NULL;
    double start = bench_now();
    if (a->d_in.map || a->d_residual.map) {
        inner->conv2d_backward(e, d_out, in, &data);
        count(a->k == 1 ? BENCH_CONV1_INPUT : BENCH_CONV3_INPUT, start, a->d_in.map ? flops : 0);
    }
    start = bench_now();
    inner->conv2d_backward(e, d_out, in, &weights);
    count(a->k == 1 ? BENCH_CONV1_WEIGHT : BENCH_CONV3_WEIGHT, start, flops);
}

/* Scores and weighted sum; backward: both again and the gradients of four operands. */
static void timed_attention(const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *qkv) {
    const double start = bench_now(), pixels = (double)out->h * out->w;
    inner->attention(e, out, qkv);
    count(BENCH_ATTENTION_FORWARD, start, 4 * pixels * pixels * out->c * out->n);
}
static void timed_attention_backward(const struct fdm_exec *e, struct fdm_map_target d_qkv, const struct fdm_map *d_out,
                                     const struct fdm_map *qkv) {
    const double start = bench_now(), pixels = (double)d_out->h * d_out->w;
    inner->attention_backward(e, d_qkv, d_out, qkv);
    count(BENCH_ATTENTION_BACKWARD, start, 10 * pixels * pixels * d_out->c * d_out->n);
}

#define TIMED(kind, name, parameters, arguments)  \
    static void timed_##name parameters {         \
        const double start = bench_now();         \
        inner->name arguments;                    \
        count(BENCH_##kind, start, 0);            \
    }
TIMED(NORM_FORWARD, groupnorm,
      (const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *in, const struct fdm_groupnorm_args *a),
      (e, out, in, a))
TIMED(NORM_BACKWARD, groupnorm_backward,
      (const struct fdm_exec *e, const struct fdm_map *d_out, const struct fdm_map *in,
       const struct fdm_groupnorm_backward_args *a),
      (e, d_out, in, a))
TIMED(RESAMPLE_FORWARD, resample,
      (const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *in, const struct fdm_resample_args *a),
      (e, out, in, a))
TIMED(RESAMPLE_BACKWARD, resample_backward,
      (const struct fdm_exec *e, const struct fdm_map *d_out, const struct fdm_resample_backward_args *a), (e, d_out, a))
TIMED(LINEAR_FORWARD, linear,
      (const struct fdm_exec *e, struct fdm_vec *out, const struct fdm_vec *in, const struct fdm_linear_args *a),
      (e, out, in, a))
TIMED(LINEAR_BACKWARD, linear_backward,
      (const struct fdm_exec *e, const struct fdm_vec *d_out, const struct fdm_vec *in,
       const struct fdm_linear_backward_args *a),
      (e, d_out, in, a))
TIMED(CONCAT_FORWARD, concat,
      (const struct fdm_exec *e, struct fdm_map *out, const struct fdm_map *a, const struct fdm_map *b), (e, out, a, b))
TIMED(CONCAT_BACKWARD, concat_backward,
      (const struct fdm_exec *e, struct fdm_map_target d_a, struct fdm_map_target d_b, const struct fdm_map *d_out),
      (e, d_a, d_b, d_out))
TIMED(IMPORT_EXPORT, map_import, (const struct fdm_exec *e, struct fdm_map *out, const double *nchw), (e, out, nchw))
TIMED(IMPORT_EXPORT, map_export, (const struct fdm_exec *e, double *nchw, const struct fdm_map *in), (e, nchw, in))
TIMED(PACKING, conv2d_pack,
      (const struct fdm_exec *e, void *packed, const float *weight, const float *bias, int out, int in, int k),
      (e, packed, weight, bias, out, in, k))
TIMED(PACKING, linear_pack,
      (const struct fdm_exec *e, void *packed, const float *weight, const float *bias, int out, int in),
      (e, packed, weight, bias, out, in))

void bench_profile_attach(struct fdm_network *net) {
    if (net->backend == &table) return;
    inner = net->backend; /* all networks of a process are on one backend */
    table = *inner;
    table.conv2d = timed_conv2d;
    table.conv2d_backward = timed_conv2d_backward;
    table.groupnorm = timed_groupnorm;
    table.groupnorm_backward = timed_groupnorm_backward;
    table.attention = timed_attention;
    table.attention_backward = timed_attention_backward;
    table.resample = timed_resample;
    table.resample_backward = timed_resample_backward;
    table.linear = timed_linear;
    table.linear_backward = timed_linear_backward;
    table.concat = timed_concat;
    table.concat_backward = timed_concat_backward;
    table.map_import = timed_map_import;
    table.map_export = timed_map_export;
    table.conv2d_pack = timed_conv2d_pack;
    table.linear_pack = timed_linear_pack;
    net->backend = &table;
}

void bench_profile_into(struct bench_profile *profile) { sink = profile; }
