/* cmd_replay.c - `fdm replay`: recorded training updates, done again. */
#include <inttypes.h>
#include <stdio.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/inputs.h"
#include "fdm/replay.h"
#include "fdm/tensorfile.h"

struct replay_options {
    const char *in, *out;
    int64_t updates;
    int recompute;
};

static const char *const recompute_choices[] = {"off", "norm", "block", NULL};
static const struct replay_options defaults = {.updates = 1};
static const struct fdm_option options[] = {
    FDM_OPTION_STRING(struct replay_options, in, "in", "FILE", "the recording (.safetensors); required"),
    FDM_OPTION_STRING(struct replay_options, out, "out", "FILE", "where to write the parameters; required"),
    FDM_OPTION_INT(struct replay_options, updates, "updates", 1, 1000000, "N", "how many updates to do"),
    FDM_OPTION_ENUM(struct replay_options, recompute, "recompute", recompute_choices,
                    "what to compute twice to save memory: off, norm or block"),
    FDM_OPTION_END,
};

static void print_round(void *user, int64_t update, int round, double loss) {
    const struct fdm_cli *cli = user;
    if (!cli->quiet) printf("update %" PRId64 ", round %d: loss %.9g\n", update, round, loss);
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct replay_options *o = values;
    fdm_run_options how = fdm_cli_run_options(cli);
    fdm_tensors set = {0}, result = {0};
    how.recompute = (fdm_recompute)o->recompute;
    if (!o->in || !o->out) return fdm_fail(err, FDM_BAD_USAGE, "--in and --out are required; see fdm help replay");
    fdm_status status = fdm_output_check(o->out, true, err);
    if (status == FDM_OK) status = fdm_tensorfile_read(&set, o->in, err);
    if (status == FDM_OK)
        status = fdm_replay(&result, &set, o->in, o->updates, &how, print_round, (void *)(uintptr_t)cli,
                            fdm_stop_if_interrupted, err);
    if (status == FDM_OK) status = fdm_tensorfile_write(&result, o->out, err);
    fdm_tensors_free(&result);
    fdm_tensors_free(&set);
    return status;
}

const struct fdm_command fdm_cmd_replay = {
    .name = "replay",
    .arguments = "",
    .summary = "recorded training updates, done again",
    .description =
        "Reads a recording of training updates - initial parameters step0.param.NAME, and for each update u and\n"
        "accumulation round k the inputs of the loss call: su.rk.y (or images and the draws augNN of the augmentation),\n"
        "sigma (or rnd), noise_unit, class_labels, augment_labels; settings in the metadata - and does the first N\n"
        "updates: loss, gradients, Adam, EMA.  Writes param.NAME and ema.NAME, to be compared with the recording's own.\n"
        "Prints the loss (sum over elements, not scaled) of every call.  Dropout is off.  With --backend reference losses and\n"
        "gradients are f64; parameters, moments and averages are f32 as in any training.",
    .examples = "  fdm replay --in recording.safetensors --out mine.safetensors --updates 5\n"
                "  fdm replay --in recording.safetensors --out truth.safetensors --updates 5 --backend reference\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .run = run,
};
