/* bench_onednn.c - oneDNN as a contender of compare.py: one convolution in the layout that it likes best.
 *
 *   bench_onednn K IN OUT SIZE N forward|d_in|d_weight        threads by OMP_NUM_THREADS
 *
 * Operands have the layouts that the primitive asks for, as in a network that keeps them between layers: no reorder is
 * timed. */
#include <oneapi/dnnl/dnnl.h>

#include "bench/serve.h"

enum pass { FORWARD, D_IN, D_WEIGHT };
static const char *const pass_names[] = {"forward", "d_in", "d_weight"};

struct convolution {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[4];
    int count;
};

static void check(dnnl_status_t status, const char *what) {
    if (status == dnnl_success) return;
    fprintf(stderr, "oneDNN: %s failed with status %d\n", what, (int)status);
    exit(4);
}

static void run(void *context) {
    struct convolution *c = context;
    check(dnnl_primitive_execute(c->primitive, c->stream, c->count, c->args), "the convolution");
    check(dnnl_stream_wait(c->stream), "waiting");
}

/* What differs between the versions of its interface. */
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t layout;

static dnnl_primitive_desc_t describe(struct convolution *c, enum pass pass, const dnnl_dims_t src, const dnnl_dims_t weights,
                                      const dnnl_dims_t dst, int pad) {
    const dnnl_dims_t strides = {1, 1}, dilates = {0, 0}, padding = {pad, pad};
    dnnl_memory_desc_t s, w, d;
    dnnl_primitive_desc_t forward, backward;
    check(dnnl_memory_desc_create_with_tag(&s, 4, src, dnnl_f32, dnnl_format_tag_any), "src");
    check(dnnl_memory_desc_create_with_tag(&w, 4, weights, dnnl_f32, dnnl_format_tag_any), "weights");
    check(dnnl_memory_desc_create_with_tag(&d, 4, dst, dnnl_f32, dnnl_format_tag_any), "dst");
    check(dnnl_convolution_forward_primitive_desc_create(&forward, c->engine, dnnl_forward_training, dnnl_convolution_direct,
                                                         s, w, NULL, d, strides, dilates, padding, padding, NULL),
          "the description");
    if (pass == FORWARD) return forward;
    if (pass == D_IN)
        check(dnnl_convolution_backward_data_primitive_desc_create(&backward, c->engine, dnnl_convolution_direct, s, w, d,
                                                                   strides, dilates, padding, padding, forward, NULL),
              "the description");
    else
        check(dnnl_convolution_backward_weights_primitive_desc_create(&backward, c->engine, dnnl_convolution_direct, s, w,
                                                                      NULL, d, strides, dilates, padding, padding, forward,
                                                                      NULL),
              "the description");
    return backward;
}
#else
typedef const dnnl_memory_desc_t *layout;

static dnnl_primitive_desc_t describe(struct convolution *c, enum pass pass, const dnnl_dims_t src, const dnnl_dims_t weights,
                                      const dnnl_dims_t dst, int pad) {
    const dnnl_dims_t strides = {1, 1}, padding = {pad, pad};
    dnnl_memory_desc_t s, w, d;
    dnnl_convolution_desc_t how;
    dnnl_primitive_desc_t forward, backward;
    check(dnnl_memory_desc_init_by_tag(&s, 4, src, dnnl_f32, dnnl_format_tag_any), "src");
    check(dnnl_memory_desc_init_by_tag(&w, 4, weights, dnnl_f32, dnnl_format_tag_any), "weights");
    check(dnnl_memory_desc_init_by_tag(&d, 4, dst, dnnl_f32, dnnl_format_tag_any), "dst");
    check(dnnl_convolution_forward_desc_init(&how, dnnl_forward_training, dnnl_convolution_direct, &s, &w, NULL, &d, strides,
                                             padding, padding),
          "the description");
    check(dnnl_primitive_desc_create(&forward, &how, NULL, c->engine, NULL), "the description");
    if (pass == FORWARD) return forward;
    if (pass == D_IN)
        check(dnnl_convolution_backward_data_desc_init(&how, dnnl_convolution_direct, &s, &w, &d, strides, padding, padding),
              "the description");
    else
        check(dnnl_convolution_backward_weights_desc_init(&how, dnnl_convolution_direct, &s, &w, NULL, &d, strides, padding,
                                                          padding),
              "the description");
    check(dnnl_primitive_desc_create(&backward, &how, NULL, c->engine, forward), "the description");
    return backward;
}
#endif

/* One operand in the primitive's own layout. */
static void add_operand(struct convolution *c, const_dnnl_primitive_desc_t d, dnnl_query_t what, int arg) {
    const layout m = dnnl_primitive_desc_query_md(d, what, 0);
    float *data = serve_floats(dnnl_memory_desc_get_size(m) / sizeof *data + 16);
    dnnl_memory_t memory;
    check(dnnl_memory_create(&memory, m, c->engine, data), "an operand");
    c->args[c->count++] = (dnnl_exec_arg_t){arg, memory};
}

int main(int argc, char **argv) {
    struct convolution c = {.count = 0};
    int v[5] = {0}, pass = -1;
    char name[96];
    for (int i = 0; i < 5 && i + 1 < argc; i++) v[i] = atoi(argv[i + 1]);
    for (int i = 0; i < 3 && argc == 7; i++)
        if (strcmp(argv[6], pass_names[i]) == 0) pass = i;
    if (pass < 0 || v[0] < 1 || v[1] < 1 || v[2] < 1 || v[3] < 1 || v[4] < 1) {
        fprintf(stderr, "usage: bench_onednn K IN OUT SIZE N forward|d_in|d_weight\n");
        return 2;
    }
    const dnnl_dims_t src = {v[4], v[1], v[3], v[3]}, weights = {v[2], v[1], v[0], v[0]}, dst = {v[4], v[2], v[3], v[3]};
    check(dnnl_engine_create(&c.engine, dnnl_cpu, 0), "the engine");
    check(dnnl_stream_create(&c.stream, c.engine, dnnl_stream_default_flags), "the stream");
    dnnl_primitive_desc_t d = describe(&c, (enum pass)pass, src, weights, dst, v[0] / 2);
    check(dnnl_primitive_create(&c.primitive, d), "the primitive");
    if (pass == FORWARD || pass == D_WEIGHT) add_operand(&c, d, dnnl_query_src_md, DNNL_ARG_SRC);
    if (pass == FORWARD || pass == D_IN) add_operand(&c, d, dnnl_query_weights_md, DNNL_ARG_WEIGHTS);
    if (pass == FORWARD) add_operand(&c, d, dnnl_query_dst_md, DNNL_ARG_DST);
    if (pass == D_IN) add_operand(&c, d, dnnl_query_diff_src_md, DNNL_ARG_DIFF_SRC);
    if (pass == D_WEIGHT) add_operand(&c, d, dnnl_query_diff_weights_md, DNNL_ARG_DIFF_WEIGHTS);
    if (pass != FORWARD) add_operand(&c, d, dnnl_query_diff_dst_md, DNNL_ARG_DIFF_DST);
    const dnnl_version_t *version = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d", version->major, version->minor);
    serve(name, run, &c);
    return 0; /* the process ends: nothing to give back */
}
