/* network.c - one network on one backend: create, plan, run. */
#include "nn/network.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/threads.h"
#include "nn/backend_emulated.h"
#include "nn/weights.h"
#include "simd/kernels.h"

enum { MAX_THREADS = 1024, MAX_BATCH = 65536 };

fdm_status fdm_backend_choose(const struct fdm_backend **backend, struct fdm_exec *exec, fdm_emulation *emulation,
                              char backend_name[FDM_BACKEND_NAME], const fdm_run_options *options, fdm_error *err) {
    const char *name = options && options->backend ? options->backend : "auto";
    const fdm_emulation *given = options ? options->emulation : NULL;
    const int threads = options ? options->threads : 0;
    if (threads < 0 || threads > MAX_THREADS)
        return fdm_fail(err, FDM_BAD_USAGE, "threads: %d is not a number from 0 (automatic) to %d", threads, MAX_THREADS);
    exec->threads = threads ? threads : fdm_max_threads();
    if (strcmp(name, "reference") == 0 && !given) {
        *backend = fdm_backend_reference();
        snprintf(backend_name, FDM_BACKEND_NAME, "reference (f64)");
        return FDM_OK;
    }
    fdm_format format = FDM_FORMAT_FP32;
    const bool emulated = given || fdm_format_find(&format, name);
    if (!emulated && strcmp(name, "auto") != 0)
        return fdm_fail(err, FDM_BAD_USAGE, "backend: \"%s\" is unknown; use auto, reference, fp32, tf32, bf16 or fp16", name);
    if (emulated && !emulation)
        return fdm_fail(err, FDM_BAD_USAGE, "backend: only diffusion networks are computed in emulated formats; use auto or reference");
    enum fdm_isa isa;
    fdm_conv_mode conv = FDM_CONV_DEFAULT;
    const fdm_status status = fdm_isa_choose(options ? options->isa : NULL, &isa, err);
    if (status != FDM_OK) return status;
    if (options && options->conv && !fdm_conv_mode_find(&conv, options->conv))
        return fdm_fail(err, FDM_BAD_USAGE, "conv: \"%s\" is unknown; use direct, winograd2 or winograd4", options->conv);
    *backend = fdm_backend_f32(conv);
    exec->kernels = fdm_kernels_for(isa);
    exec->conv = fdm_conv_kernels_for(isa);
    snprintf(backend_name, FDM_BACKEND_NAME, "%s (f32)", fdm_isa_name(isa));
    if (emulated) {
        *emulation = given ? *given : fdm_emulation_of(format);
        exec->settings = emulation;
        *backend = fdm_backend_emulated();
        snprintf(backend_name, FDM_BACKEND_NAME, "%s (emulated)", fdm_format_name(emulation->format[FDM_LAYERS_CONV]));
    }
    return FDM_OK;
}

fdm_status fdm_network_create(struct fdm_network *net, const fdm_config *config, const fdm_tensors *weights,
                              const char *where, const fdm_run_options *options, bool trains, fdm_error *err) {
    fdm_status status = fdm_config_check(config, where, err);
    if (status != FDM_OK) return status;
    net->config = *config;
    status = fdm_backend_choose(&net->backend, &net->exec, &net->emulation, net->backend_name, options, err);
    if (status == FDM_OK && !fdm_unet_build(&net->graph, config)) status = fdm_fail_oom(err, "network graph", 0);
    if (status == FDM_OK)
        status = fdm_weights_pack(&net->slab, &net->graph, weights, config, net->backend, &net->exec, trains, where, err);
    if (status == FDM_OK && trains) {
        const size_t bytes = fdm_weights_conv2d_bytes(&net->graph, net->backend);
        net->packed = fdm_malloc_aligned(bytes);
        if (!net->packed) status = fdm_fail_oom(err, "packed weights", bytes);
    }
    return status;
}

static void drop_plan(struct fdm_network *net) {
    fdm_free_aligned(net->arena);
    fdm_free_aligned(net->exec.scratch);
    net->arena = NULL;
    net->exec.scratch = NULL;
    fdm_plan_free(&net->plan);
}

void fdm_network_free(struct fdm_network *net) {
    drop_plan(net);
    fdm_graph_free(&net->graph);
    fdm_free_aligned(net->slab);
    fdm_free_aligned(net->packed);
    *net = (struct fdm_network){0};
}

/* Writes to every page before the first step does, all threads in turn: where memory belongs to sockets (NUMA), a page
 * lies with the thread that first writes to it, and activations, which every thread reads, are best spread evenly.  (A
 * thread's scratch is first written by that thread, a packed weight by the thread that packs it.) */
static void spread_pages(char *memory, size_t bytes, int threads) {
    enum { PAGE = 4096, STRETCH = 2 << 20 }; /* a stretch may be one huge page */
    const ptrdiff_t stretches = (ptrdiff_t)(bytes / STRETCH);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
    for (ptrdiff_t s = 0; s < stretches; s++)
        for (size_t at = 0; at < STRETCH; at += PAGE) memory[(size_t)s * STRETCH + at] = 0;
}

fdm_status fdm_network_prepare(struct fdm_network *net, const struct fdm_plan_options *options, fdm_error *err) {
    const struct fdm_plan *now = &net->plan;
    struct fdm_plan plan;
    if (options->n < 1 || options->n > MAX_BATCH)
        return fdm_fail(err, FDM_BAD_USAGE, "batch of %d samples; 1 to %d are possible", options->n, MAX_BATCH);
    if (now->n == options->n && now->trace == options->trace && now->backward == options->backward &&
        now->recompute == options->recompute)
        return FDM_OK;
    drop_plan(net);
    const fdm_status status = fdm_plan_make(&plan, &net->graph, net->backend, options, err);
    if (status != FDM_OK) return status;
    net->plan = plan;
    net->arena = fdm_malloc_aligned(plan.arena_bytes);
    if (!net->arena) {
        drop_plan(net);
        return fdm_fail_oom(err, "activations; try a smaller batch", plan.arena_bytes);
    }
    spread_pages(net->arena, plan.arena_bytes, net->exec.threads);
    net->exec.scratch = fdm_malloc_aligned(plan.scratch_bytes);
    if (!net->exec.scratch) {
        drop_plan(net);
        return fdm_fail_oom(err, "scratch; try a smaller batch", plan.scratch_bytes);
    }
    net->exec.scratch_bytes = plan.scratch_bytes;
    return FDM_OK;
}

struct fdm_run fdm_network_run(struct fdm_network *net) {
    return (struct fdm_run){.g = &net->graph,
                            .plan = &net->plan,
                            .backend = net->backend,
                            .exec = &net->exec,
                            .arena = net->arena,
                            .slab = net->slab,
                            .packed = net->packed,
                            .n = net->plan.n};
}

void fdm_scale_input(double *scaled, const double *x, double c_in, size_t count, bool f32) {
    for (size_t i = 0; i < count; i++) scaled[i] = f32 ? (double)((float)c_in * (float)x[i]) : c_in * x[i];
}

void fdm_combine_output(double *D, const double *x, const double *F, const fdm_precond_coeffs *c, size_t count, bool f32) {
    for (size_t i = 0; i < count; i++) {
        if (f32) {
            const float skip = (float)c->c_skip * (float)x[i], out = (float)c->c_out * (float)F[i];
            D[i] = (double)(skip + out);
        } else {
            D[i] = c->c_skip * x[i] + c->c_out * F[i];
        }
    }
}

