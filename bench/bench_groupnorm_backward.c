/* bench_groupnorm_backward.c - group norm with SiLU and its way back on 256 channels of 32 x 32, N = 8, against the
 * memory triad.
 *
 *   bench_groupnorm_backward [--isa X] [--threads N] [--rounds N]
 *
 * Bytes counted are those that must move: forward x in and out, backward x, d_out and d_in (accumulating: twice). */
#include "memory.h"
#include "nn/f32_layers.h"

enum { N = 8, C = 256, SIZE = 32 };

struct work {
    struct fdm_exec exec;
    struct fdm_map x, d_out, out;
    struct fdm_groupnorm_args forward;
    bool accumulate;
    float d_weight[C], d_bias[C];
};

static void forward(void *context) {
    struct work *w = context;
    fdm_f32_groupnorm(&w->exec, &w->out, &w->x, &w->forward);
}

static void backward(void *context) {
    struct work *w = context;
    const struct fdm_groupnorm_backward_args args = {.forward = w->forward,
                                                     .d_in = {&w->out, w->accumulate},
                                                     .d_weight = w->d_weight,
                                                     .d_bias = w->d_bias};
    fdm_f32_groupnorm_backward(&w->exec, &w->d_out, &w->x, &args);
}

static struct fdm_map new_map(void) {
    return (struct fdm_map){N, C, SIZE, SIZE, 1, bench_fill(fdm_f32_map_bytes(N, C, SIZE, SIZE, 1), 0)};
}

int main(int argc, char **argv) {
    static struct work w;
    const struct bench_options o = bench_options_of(argc, argv);
    w.exec = (struct fdm_exec){.threads = o.threads, .kernels = fdm_kernels_for(o.isa)};
    w.exec.scratch = bench_fill(fdm_f32_groupnorm_backward_scratch(N, C, SIZE, SIZE, o.threads), 1);
    w.x = new_map(), w.d_out = new_map(), w.out = new_map();
    void *param = bench_fill(fdm_f32_groupnorm_packed_bytes(C), 0);
    const uint64_t keys[N] = {1, 2, 3, 4, 5, 6, 7, 8};
    const struct fdm_dropout dropout = {0.13, 3, keys};
    w.forward = (struct fdm_groupnorm_args){.groups = 32, .eps = 1e-6, .param = param};
    const double map = (double)N * C * SIZE * SIZE * sizeof(float);
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"norm", "norm silu", "norm silu dropout"};
        char name[64];
        w.forward.silu = i > 0, w.forward.dropout = i > 1 ? &dropout : NULL;
        snprintf(name, sizeof name, "%s forward", names[i]);
        bench_against_triad(&o, name, 2 * map, forward, &w);
        w.accumulate = false;
        snprintf(name, sizeof name, "%s backward", names[i]);
        bench_against_triad(&o, name, 3 * map, backward, &w);
        w.accumulate = true;
        snprintf(name, sizeof name, "%s backward, accumulating", names[i]);
        bench_against_triad(&o, name, 4 * map, backward, &w);
    }
    fdm_free_aligned(w.exec.scratch), fdm_free_aligned(w.x.data), fdm_free_aligned(w.d_out.data);
    fdm_free_aligned(w.out.data), fdm_free_aligned(param);
    return 0;
}
