/* cmd_export.c - `fdm export`: model files -> state_dicts that PyTorch opens. */
#include <string.h>
#include <strings.h>

#include "base/base.h"
#include "cli/cli.h"
#include "fdm/import.h"

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const char *dot = strrchr(cli->args[1], '.');
    (void)values;
    if (!dot || (strcasecmp(dot, ".pt") != 0 && strcasecmp(dot, ".pth") != 0))
        return fdm_fail(err, FDM_BAD_USAGE, "%s: DST is a file of PyTorch; name it *.pt or *.pth", cli->args[1]);
    return fdm_export(cli->args[1], cli->args[0], err);
}

const struct fdm_command fdm_cmd_export = {
    .name = "export",
    .arguments = "SRC DST.pt",
    .min_args = 2,
    .max_args = 2,
    .summary = "a model or tensor file as a state_dict for PyTorch",
    .description = "Writes the tensors of SRC (.safetensors, .npz, .npy) in the zip layout of torch.save, so that\n"
                   "torch.load(DST, weights_only=True) gives a state_dict: names and elements as they are.  The configuration has no\n"
                   "place there; fdm info SRC --json shows it.",
    .examples = "  fdm export model.safetensors model.pt\n",
    .run = run,
};
