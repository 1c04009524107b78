/* cmd_bench.c - `fdm bench`: how fast layers, a network and its training are on this machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "cli/bench.h"
#include "cli/inputs.h"
#include "nn/winograd.h"

struct bench_options {
    bool layers, network, train, sample, json, serve;
    const char *model, *config, *only;
    int64_t batch, rounds, images, steps;
    int recompute;
    double dropout, augment;
};

enum { MAX_ROUNDS = 10000 };
static const double shortest = 0.01; /* seconds that a short case is called for */

static const char *const recompute_choices[] = {"off", "norm", "block", NULL};
static const struct bench_options defaults = {
    .batch = 8, .rounds = 9, .images = 64, .steps = 18, .dropout = -1, .augment = 0.12};
static const struct fdm_option options[] = {
    FDM_OPTION_FLAG(struct bench_options, layers, "layers", "single layers, forward and backward"),
    FDM_OPTION_FLAG(struct bench_options, network, "network", "the whole forward pass of a batch"),
    FDM_OPTION_FLAG(struct bench_options, train, "train", "a whole training step"),
    FDM_OPTION_FLAG(struct bench_options, sample, "sample", "images from noise, Heun's method (only if asked for)"),
    FDM_OPTION_STRING(struct bench_options, model, "model", "FILE", "model file (default: the CIFAR-10 network, initial weights)"),
    FDM_OPTION_STRING(struct bench_options, config, "config", "JSON", "changes to that default, such as {\"model_channels\": 64}"),
    FDM_OPTION_STRING(struct bench_options, only, "only", "TEXT", "layers with this in their name, such as \"3x3\" or \"8x8 d_in\""),
    FDM_OPTION_INT(struct bench_options, batch, "batch", 1, 4096, "N", "samples in a batch"),
    FDM_OPTION_INT(struct bench_options, rounds, "rounds", 1, MAX_ROUNDS, "N", "how often everything is timed"),
    FDM_OPTION_ENUM(struct bench_options, recompute, "recompute", recompute_choices, "training: what to compute twice"),
    FDM_OPTION_FLOAT(struct bench_options, dropout, "dropout", 0, 0.999, "P", "training: dropout (default: the model's)"),
    FDM_OPTION_FLOAT(struct bench_options, augment, "augment", 0, 1, "P", "training: probability of augmentation"),
    FDM_OPTION_INT(struct bench_options, images, "images", 1, 65536, "N", "sampling: images"),
    FDM_OPTION_INT(struct bench_options, steps, "steps", 2, 1000, "N", "sampling: steps; 2 N - 1 evaluations"),
    FDM_OPTION_FLAG(struct bench_options, json, "json", "write JSON"),
    FDM_OPTION_FLAG(struct bench_options, serve, "serve", "time one thing on request; for bench/compare.py"),
    FDM_OPTION_END,
};

/* Everything of one run of the command. */
struct bench {
    struct bench_setup setup;
    enum fdm_isa isa;
    struct bench_meter meter;
    struct bench_cases cases;
    struct bench_layers *layers;
    struct bench_network *network, *sample;
    struct bench_train *train;
    double *clocks; /* [4][rounds]: peak, peak of one thread, triad, triad of one thread */
    struct bench_sample *samples; /* [cases][rounds] */
};

struct bench_case *bench_case_add(struct bench_cases *cases, enum bench_group group, const char *name, const char *pass) {
    if (cases->count == BENCH_MAX_CASES) return NULL;
    struct bench_case *c = &cases->items[cases->count++];
    *c = (struct bench_case){.group = group, .pass = pass};
    snprintf(c->name, sizeof c->name, "%s", name);
    return c;
}

/* F(m x m, 3x3) makes m^2 outputs with (m + 2)^2 multiplications instead of 9 m^2. */
double bench_conv_saving(const fdm_run_options *run, int in, int out, int k, bool d_weight) {
    enum fdm_conv_mode mode = FDM_CONV_DEFAULT;
    if (run->conv && !fdm_conv_mode_find(&mode, run->conv)) return 1;
    if (mode == FDM_CONV_DIRECT || !fdm_winograd_suits(in, out, k)) return 1;
    return mode == FDM_CONV_WINOGRAD4 && !d_weight ? 144.0 / 36 : 36.0 / 16;
}

/* ---- Preparing ---------------------------------------------------------------------------------------------------- */

static fdm_status prepare(struct bench *b, const struct fdm_cli *cli, const struct bench_options *o, fdm_error *err) {
    const bool all = !o->layers && !o->network && !o->train && !o->sample;
    b->setup = (struct bench_setup){.run = fdm_cli_run_options(cli), .batch = (int)o->batch, .only = o->only,
                                    .model = o->model, .config = o->config, .images = o->images, .steps = o->steps,
                                    .dropout = o->dropout, .augment = o->augment};
    b->setup.run.recompute = (fdm_recompute)o->recompute;
    fdm_status status = fdm_isa_choose(cli->isa, &b->isa, err);
    b->meter = (struct bench_meter){.kernels = fdm_kernels_for(b->isa), .threads = cli->threads};
    if (status == FDM_OK && (all || o->layers)) status = bench_layers_add(&b->layers, &b->cases, &b->setup, err);
    if (status == FDM_OK && b->cases.count == 0 && o->only)
        status = fdm_fail(err, FDM_BAD_USAGE, "--only: no layer has \"%.40s\" in its name", o->only);
    if (status == FDM_OK && (all || o->network))
        status = bench_network_add(&b->network, &b->cases, &b->setup, BENCH_NETWORK, err);
    if (status == FDM_OK && o->sample) status = bench_network_add(&b->sample, &b->cases, &b->setup, BENCH_SAMPLE, err);
    if (status == FDM_OK && (all || o->train)) status = bench_train_add(&b->train, &b->cases, &b->setup, err);
    return status;
}

static void release(struct bench *b) {
    bench_layers_free(&b->layers);
    bench_network_free(&b->network);
    bench_network_free(&b->sample);
    bench_train_free(&b->train);
    bench_meter_free(&b->meter);
    free(b->clocks);
    free(b->samples);
}

/* ---- Rounds ------------------------------------------------------------------------------------------------------- */

/* Seconds of one call. */
static fdm_status time_case(struct bench_case *c, double *seconds, fdm_error *err) {
    const double start = bench_now();
    fdm_status status = FDM_OK;
    int calls = 0;
    do {
        status = c->run(c->state, err);
        calls++;
        *seconds = (bench_now() - start) / calls;
    } while (status == FDM_OK && c->repeat && *seconds * calls < shortest);
    if (status == FDM_OK && fdm_interrupted()) status = fdm_fail_interrupted(err);
    return status;
}

/* Each round begins with another case, so that none always follows the same one. */
static fdm_status run_round(struct bench *b, int round, int rounds, struct fdm_progress *progress, double *done,
                            fdm_error *err) {
    double *peak = b->clocks, *peak_one = peak + rounds, *triad = peak_one + rounds, *triad_one = triad + rounds;
    peak[round] = bench_peak(&b->meter, b->meter.threads);
    peak_one[round] = bench_peak(&b->meter, 1);
    triad[round] = bench_triad(&b->meter, b->meter.threads);
    triad_one[round] = bench_triad(&b->meter, 1);
    for (int i = 0; i < b->cases.count; i++) {
        struct bench_case *c = &b->cases.items[(i + round) % b->cases.count];
        struct bench_sample *s = &c->samples[c->count];
        s->triad = c->bytes > 0 ? bench_triad(&b->meter, b->meter.threads) : triad[round];
        s->peak = bench_peak(&b->meter, b->meter.threads);
        const fdm_status status = time_case(c, &s->seconds, err);
        if (status != FDM_OK) return status;
        const double after = bench_peak(&b->meter, b->meter.threads);
        if (after > s->peak) s->peak = after;
        c->count++;
        *done += c->flops * 1e-9;
        fdm_progress_update(progress, (int64_t)*done);
    }
    return FDM_OK;
}

static fdm_status measure(struct bench *b, const struct fdm_cli *cli, int rounds, fdm_error *err) {
    struct fdm_progress progress;
    double total = 0, done = 0, warm;
    fdm_status status = bench_meter_init(&b->meter, err);
    if (status != FDM_OK) return status;
    b->clocks = calloc(4 * (size_t)rounds, sizeof *b->clocks);
    b->samples = calloc((size_t)b->cases.count * (size_t)rounds, sizeof *b->samples);
    if (!b->clocks || !b->samples) return fdm_fail_oom(err, "rounds", (size_t)b->cases.count * (size_t)rounds);
    for (int i = 0; i < b->cases.count && status == FDM_OK; i++) {
        struct bench_case *c = &b->cases.items[i];
        c->samples = b->samples + (size_t)i * (size_t)rounds;
        total += c->flops * 1e-9 * rounds;
        if (c->group == BENCH_LAYERS) status = time_case(c, &warm, err); /* touches every page */
    }
    fdm_progress_start(&progress, cli, "benchmark", "GFLOP", (int64_t)total);
    for (int r = 0; r < rounds && status == FDM_OK; r++) {
        char note[sizeof progress.note];
        snprintf(note, sizeof note, "round %d of %d", r + 1, rounds);
        fdm_progress_note(&progress, note);
        status = run_round(b, r, rounds, &progress, &done, err);
    }
    fdm_progress_end(&progress, status == FDM_OK);
    return status;
}

static fdm_status report(const struct bench *b, bool json, int rounds, const double load[3], fdm_error *err) {
    const struct bench_result result = {.cases = &b->cases, .isa = fdm_isa_name(b->isa), .threads = b->meter.threads,
                                        .rounds = rounds, .peak = b->clocks, .peak_one = b->clocks + rounds,
                                        .triad = b->clocks + 2 * (ptrdiff_t)rounds,
                                        .triad_one = b->clocks + 3 * (ptrdiff_t)rounds, .load = {load[0], load[1], load[2]}};
    if (json) return bench_print_json(&result, err);
    bench_print_text(&result);
    return FDM_OK;
}

/* ---- Serving ------------------------------------------------------------------------------------------------------ */

/* A contender of bench/compare.py: stays alive, so that its memory is warm when its turn comes.
 *   -> ready NAME     <- run   -> SECONDS of one call     <- peak   -> GFLOP/s and GB/s of all threads
 *                     <- flops -> operations of one call  anything else ends */
static fdm_status serve(struct bench *b, fdm_error *err) {
    char line[64];
    struct bench_case *c = &b->cases.items[0];
    fdm_status status = FDM_OK;
    double seconds;
    if (b->cases.count != 1)
        return fdm_fail(err, FDM_BAD_USAGE, "--serve times one thing; this would be %d", b->cases.count);
    if (c->group == BENCH_LAYERS) status = time_case(c, &seconds, err);
    if (status == FDM_OK) printf("ready fdm %s\n", fdm_isa_name(b->isa));
    while (status == FDM_OK && fflush(stdout) == 0 && fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "run\n") == 0) {
            status = time_case(c, &seconds, err);
            if (status == FDM_OK) printf("%.9f\n", seconds);
        } else if (strcmp(line, "peak\n") == 0) {
            if (!b->meter.a) status = bench_meter_init(&b->meter, err); /* not before: its arrays would count as ours */
            if (status == FDM_OK) printf("%.3f %.3f\n", bench_peak(&b->meter, b->meter.threads), bench_triad(&b->meter, b->meter.threads));
        } else if (strcmp(line, "flops\n") == 0) {
            printf("%.0f\n", c->flops);
        } else {
            break;
        }
    }
    return status;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct bench_options *o = values;
    struct bench *b;
    double load[3] = {0};
    if (cli->backend == FDM_CLI_BACKEND_REFERENCE)
        return fdm_fail(err, FDM_BAD_USAGE, "--backend reference: the peaks measured here are those of f32");
    if (o->model && o->config)
        return fdm_fail(err, FDM_BAD_USAGE, "--model and --config: a model file has its configuration");
    if (getloadavg(load, 3) != 3) load[0] = load[1] = load[2] = 0;
    b = calloc(1, sizeof *b);
    if (!b) return fdm_fail_oom(err, "benchmark", sizeof *b);
    fdm_status status = prepare(b, cli, o, err);
    if (status == FDM_OK && o->serve) status = serve(b, err);
    else if (status == FDM_OK) {
        status = measure(b, cli, (int)o->rounds, err);
        if (status == FDM_OK) status = report(b, o->json, (int)o->rounds, load, err);
    }
    release(b);
    free(b);
    return status;
}

const struct fdm_command fdm_cmd_bench = {
    .name = "bench",
    .arguments = "",
    .summary = "how fast layers, a network and its training are on this machine",
    .description =
        "Times single layers, the forward pass of a batch and a training step; without --layers, --network, --train or\n"
        "--sample the first three.  They take turns round by round, and around each the peak of fused multiply-adds\n"
        "(and the bandwidth of memory) is measured, because shared machines change their speed from second to second:\n"
        "what counts is the median over the rounds of speed / peak.  Convolutions that multiply less than the direct\n"
        "algorithm are given both by what they execute and by what the direct one would have to.\n"
        "Whole steps come with images per second, memory, and the share of each kind of layer.\n"
        "bench/compare.py (make bench) compares with PyTorch, ONNX Runtime, oneDNN and BLIS.",
    .examples = "  fdm bench --layers --only 3x3 --batch 8 --threads 2\n"
                "  fdm bench --network --model data/emoji16_fdm_edm.safetensors --batch 64 --json\n"
                "  fdm bench --train --recompute norm --rounds 3\n"
                "  fdm bench --network --config '{\"model_channels\": 64, \"img_resolution\": 64}'\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
