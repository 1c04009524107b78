#include "cli/cli.h"
static const int none;
static fdm_status run(const struct fdm_cli *cli, const void *options, fdm_error *err) { (void)cli; (void)options; (void)err; return FDM_OK; }
const struct fdm_command fdm_cmd_compare = {.name = "compare", .arguments = "A B", .min_args = 2, .max_args = 2, .summary = "compares", .description = "...", .defaults=&none, .run = run};
