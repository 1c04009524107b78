/* cmd_import.c - `fdm import`: published pickles -> model files, training states, runs to go on with. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/inputs.h"
#include "fdm/import.h"
#include "io/io.h"

struct import_options {
    bool network;
    const char *config;
    fdm_import_run run; /* state is the command's argument */
};

static const struct import_options defaults = {
    .run = {.batch = -1, .batch_gpu = -1, .ema = -1, .lr = -1, .lr_rampup = -1, .ls = -1, .duration = -1, .seed = -1}};
#define T struct import_options
static const struct fdm_option options[] = {
    FDM_OPTION_FLAG(T, network, "network", "of a training state only the raw network, as a model file"),
    FDM_OPTION_STRING(T, config, "config", "FILE", "constructor arguments (JSON) for a state_dict, which has none"),
    FDM_OPTION_STRING(T, run.data, "data", "PATH", "images to go on training with: DST becomes a run directory"),
    FDM_OPTION_STRING(T, run.snapshot, "snapshot", "FILE", "with --data: the averages (default: network-snapshot-N.pkl beside SRC)"),
    FDM_OPTION_INT(T, run.batch, "batch", 1, 65536, "N", "with --data: images of an update (default: as the run says, or 512)"),
    FDM_OPTION_INT(T, run.batch_gpu, "batch-gpu", 1, 65536, "N", "with --data: images of a round (default: as the run says)"),
    FDM_OPTION_FLOAT(T, run.lr, "lr", 1e-12, 1e3, "X", "with --data: learning rate (default: as the run says)"),
    FDM_OPTION_FLOAT(T, run.lr_rampup, "lr_rampup", 0, 1e9, "MIMG", "with --data: its ramp (default: as the run says, or 10)"),
    FDM_OPTION_FLOAT(T, run.ema, "ema", 0, 1e9, "MIMG", "with --data: half-life of the averages (default: as the run says, or 0.5)"),
    FDM_OPTION_FLOAT(T, run.ls, "ls", 1e-12, 1e12, "X", "with --data: loss scaling (default: as the run says)"),
    FDM_OPTION_FLOAT(T, run.duration, "duration", 1e-9, 1e9, "MIMG", "with --data: length of the run (default: as the run says, or 200)"),
    FDM_OPTION_INT(T, run.seed, "seed", 0, INT64_MAX, "N", "with --data: random seed (default: as the run says, or 0)"),
    FDM_OPTION_END,
};
#undef T

static void say(void *user, const char *line) {
    const struct fdm_cli *cli = user;
    if (!cli->quiet) puts(line);
}

static fdm_status import_run(const struct fdm_cli *cli, const struct import_options *o, fdm_error *err) {
    const fdm_run_options how = fdm_cli_run_options(cli);
    const fdm_train_hooks hooks = {.user = (void *)(uintptr_t)cli, .say = say};
    fdm_import_run source = o->run;
    int64_t images = 0;
    source.state = cli->args[0];
    const fdm_status status = fdm_import_training(cli->args[1], &source, &how, &hooks, &images, err);
    if (status == FDM_OK && !cli->quiet) printf("go on with: fdm train --resume %s\n", cli->args[1]);
    return status;
}

/* Options of one use given with the other. */
static fdm_status check_options(const struct fdm_cli *cli, const struct import_options *o, fdm_error *err) {
    static const char *const of_runs[] = {"snapshot", "batch", "batch-gpu", "lr", "lr_rampup", "ema", "ls", "duration", "seed"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(of_runs); i++)
        if (!o->run.data && fdm_cli_given(cli, of_runs[i]))
            return fdm_fail(err, FDM_BAD_USAGE, "--%s needs --data, the images to go on training with", of_runs[i]);
    if (o->run.data && (o->network || o->config))
        return fdm_fail(err, FDM_BAD_USAGE, "--%s makes a file, --data a run directory; give one of them", o->network ? "network" : "config");
    const char *dot = strrchr(cli->args[1], '.');
    if (!o->run.data && (!dot || strcasecmp(dot, ".safetensors") != 0))
        return fdm_fail(err, FDM_BAD_USAGE, "%s: DST is a safetensors file; name it *.safetensors", cli->args[1]);
    return FDM_OK;
}

static fdm_status read_config(char **text, const char *path, fdm_error *err) {
    struct fdm_file_map map;
    fdm_status status = fdm_file_map_open(&map, path, err);
    if (status != FDM_OK) return status;
    if (!(*text = malloc(map.size + 1))) status = fdm_fail_oom(err, "configuration", map.size);
    else {
        memcpy(*text, map.bytes, map.size);
        (*text)[map.size] = '\0';
    }
    fdm_file_map_close(&map);
    return status;
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct import_options *o = values;
    fdm_import_report report;
    char *config = NULL;
    fdm_status status = check_options(cli, o, err);
    if (status == FDM_OK && o->run.data) return import_run(cli, o, err);
    if (status == FDM_OK && o->config) status = read_config(&config, o->config, err);
    const fdm_import_options how = {.network = o->network, .config = config};
    if (status == FDM_OK) status = fdm_import(cli->args[1], cli->args[0], &how, &report, err);
    free(config);
    if (status != FDM_OK || cli->quiet) return status;
    printf("%s -> %zu tensors, %zu bytes\n", report.source, report.tensors, report.bytes);
    if (report.converted) printf("note: %zu tensors of %s became F32\n", report.converted, report.types);
    return FDM_OK;
}

const struct fdm_command fdm_cmd_import = {
    .name = "import",
    .arguments = "SRC DST",
    .min_args = 2,
    .max_args = 2,
    .summary = "published pickles (.pkl, .pt) into model files; executes nothing",
    .description =
        "Reads a Python pickle as data: nothing in it is executed.  SRC is what the published program or torch.save wrote\n"
        "(protocols 2 to 5, plain, legacy or zip), DST a safetensors file:\n"
        "  network-snapshot-*.pkl  the averaged network, a model file for every other command\n"
        "  training-state-*.pt     net.NAME, adam_m.NAME, adam_v.NAME, adam_step; with --network the network alone\n"
        "  any other               the tensors in its dicts, lists and modules; with --config a model file\n"
        "With --data DST is a run directory that fdm train --resume goes on with: network, averages, moments, Adam's count and\n"
        "the weight warm-up are those of the published run; what its files do not say comes from training_options.json beside\n"
        "SRC or from the options here; the walk over the data starts afresh, as when the published program resumes.\n"
        "Half, bfloat16 and double become F32 in networks.  fdm info SRC shows what is inside.",
    .examples = "  fdm import network-snapshot-200000.pkl model.safetensors\n"
                "  fdm import training-state-200000.pt net.safetensors --network\n"
                "  fdm import 00000-run/training-state-010000.pt runs/continued --data cifar10.zip\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
