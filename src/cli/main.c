/* main.c - finds the command, reads its options, runs it, turns the outcome into an exit code. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/threads.h"
#include "cli/cli.h"
#include "cli/ranks_mpi.h"
#include "fdm/version.h"
#include "simd/kernels.h"

enum { MAX_THREADS = 1024 };

#define COMMAND_POINTER(name) &fdm_cmd_##name,
static const struct fdm_command *const commands[] = {FDM_COMMANDS(COMMAND_POINTER)};
#undef COMMAND_POINTER

static const char *const isa_names[] = {"portable", "avx2", "avx512", NULL};
static const char *const conv_names[] = {"direct", "winograd2", "winograd4", NULL};
const char *const fdm_cli_backend_names[] = {"auto", "reference", "fp32", "tf32", "bf16", "fp16", NULL};

/* threads 0, isa and conv -1: chosen when the command runs. */
const struct fdm_common_options fdm_common_defaults = {.threads = 0, .isa = -1, .conv = -1, .backend = FDM_CLI_BACKEND_AUTO};
const struct fdm_option fdm_common_options[] = {
    FDM_OPTION_INT(struct fdm_common_options, threads, "threads", 1, MAX_THREADS, "N",
                   "how many threads; the results do not depend on it (default: all cores, or OMP_NUM_THREADS)"),
    FDM_OPTION_ENUM(struct fdm_common_options, isa, "isa", isa_names,
                    "which vector instructions; the results do not depend on it (default: FDM_ISA, or the widest)"),
    FDM_OPTION_ENUM(struct fdm_common_options, conv, "conv", conv_names,
                    "3x3 convolutions in f32: winograd2 (default) is as exact as direct, winograd4 five times less"),
    FDM_OPTION_ENUM(struct fdm_common_options, backend, "backend", fdm_cli_backend_names,
                    "auto: f32 by vectors; reference: f64, the truth; others: f32 rounded as on GPUs"),
    {.name = "quiet",
     .letter = 'q',
     .type = FDM_TYPE_FLAG,
     .offset = offsetof(struct fdm_common_options, quiet),
     .help = "no progress, no remarks"},
    {.name = "verbose",
     .letter = 'v',
     .type = FDM_TYPE_FLAG,
     .offset = offsetof(struct fdm_common_options, verbose),
     .help = "more remarks"},
    {.name = "help",
     .letter = 'h',
     .type = FDM_TYPE_FLAG,
     .offset = offsetof(struct fdm_common_options, help),
     .help = "this text"},
    FDM_OPTION_END};

static const struct fdm_command *find_command(const char *name) {
    for (size_t i = 0; i < FDM_ARRAY_LEN(commands); i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static fdm_status unknown_command(const char *name, fdm_error *err) {
    const char *names[FDM_ARRAY_LEN(commands)];
    for (size_t i = 0; i < FDM_ARRAY_LEN(commands); i++) names[i] = commands[i]->name;
    const char *nearest = fdm_nearest_name(name, names, FDM_ARRAY_LEN(commands));
    if (nearest) return fdm_fail(err, FDM_BAD_USAGE, "unknown command %.100s; did you mean fdm %s?", name, nearest);
    return fdm_fail(err, FDM_BAD_USAGE, "unknown command %.100s; fdm help lists the commands", name);
}

bool fdm_cli_given(const struct fdm_cli *cli, const char *option) {
    const struct fdm_option *options = cli->command->options;
    for (int i = 0; options && options[i].name; i++)
        if (strcmp(options[i].name, option) == 0) return cli->given[i];
    return false;
}

static fdm_status check_arguments(const struct fdm_command *c, int nargs, fdm_error *err) {
    if (nargs < c->min_args)
        return fdm_fail(err, FDM_BAD_USAGE, "wants %s; see fdm help %s", c->arguments, c->name);
    if (nargs > c->max_args)
        return fdm_fail(err, FDM_BAD_USAGE, "too many arguments%s%s; see fdm help %s",
                        c->arguments[0] ? ", wants " : "", c->arguments, c->name);
    return FDM_OK;
}

static fdm_status apply_common(struct fdm_cli *cli, const struct fdm_common_options *common, fdm_error *err) {
    enum fdm_isa isa;
    const bool first = fdm_ranks_is_first(cli->ranks);
    cli->quiet = common->quiet || !first;
    cli->verbose = common->verbose && first;
    cli->backend = common->backend;
    cli->isa = common->isa < 0 ? NULL : isa_names[common->isa];
    cli->conv = common->conv < 0 ? NULL : conv_names[common->conv];
    cli->threads = (int)common->threads;
    if (!cli->threads) cli->threads = fdm_min_int(fdm_max_int(fdm_max_threads(), 1), MAX_THREADS);
    return fdm_isa_choose(cli->isa, &isa, err); /* an ISA that this CPU lacks is an error of every command */
}

/* argv: what follows the command's name. */
static fdm_status run_command(const struct fdm_command *command, int argc, char **argv, struct fdm_world *world,
                              fdm_error *err) {
    struct fdm_cli cli = {.command = command, .world = world, .ranks = world->ranks.size > 1 ? &world->ranks : NULL};
    struct fdm_common_options common = fdm_common_defaults;
    size_t bytes = command->options_size;
    char **args = calloc((size_t)argc + 1, sizeof *args);
    void *values = calloc(1, bytes ? bytes : 1);
    struct fdm_option_group groups[] = {{command->options, values, cli.given}, {fdm_common_options, &common, NULL}};
    fdm_status status = FDM_OK;

    if (!args || !values) {
        status = fdm_fail_oom(err, "options", bytes);
        goto done;
    }
    if (bytes) memcpy(values, command->defaults, bytes);
    status = fdm_options_parse(groups, (int)FDM_ARRAY_LEN(groups), argc, argv, args, &cli.nargs, err);
    if (common.help) { /* whatever else is wrong: the help says how to put it right */
        status = FDM_OK;
        if (!world->silent) fdm_help_command(command);
        goto done;
    }
    cli.args = args;
    if (!status) status = check_arguments(command, cli.nargs, err);
    if (!status) status = apply_common(&cli, &common, err);
    if (!status) status = command->run(&cli, values, err);
done:
    fdm_options_free(&groups[0]);
    free(values);
    free(args);
    return status;
}

/* Several of these would each do all of the work, and write over each other's files. */
static fdm_status check_alone(const struct fdm_command *command, int launched, fdm_error *err) {
    if (launched <= 1) return FDM_OK;
    return fdm_fail(err, FDM_BAD_USAGE, "started as one of %d processes, but fdm %s does not share its work among them; start it "
                    "once (train, sample and metric do)", launched, command->name);
}

/* The same, on all ranks of a command that may run over several. */
static fdm_status run_over_ranks(const struct fdm_command *command, int argc, char **argv, struct fdm_world *world,
                                 fdm_error *err) {
    fdm_status status = command->over_ranks ? fdm_world_join(world, err) : check_alone(command, fdm_world_launched(world), err);
    if (status == FDM_OK) status = run_command(command, argc, argv, world, err);
    if (!world->broken) status = fdm_ranks_agree(&world->ranks, status, NULL, err);
    if (world->ranks.size > 1) fdm_ignore_signals(); /* a launcher may end all once the first of them has ended */
    return status;
}

static fdm_status help(int argc, char **argv, fdm_error *err) {
    if (argc == 0 || argv[0][0] == '-') {
        fdm_help_all(commands, FDM_ARRAY_LEN(commands));
        return FDM_OK;
    }
    const struct fdm_command *command = find_command(argv[0]);
    if (!command) return unknown_command(argv[0], err);
    fdm_help_command(command);
    return FDM_OK;
}

static void print_version(void) {
    char mpi[FDM_WORLD_LIBRARY];
    fdm_world_library(mpi);
    printf("fdm %s\n", fdm_version());
    fputs("vector instructions of this CPU:", stdout);
    for (int i = 0; i < FDM_ISA_COUNT; i++)
        if (fdm_isa_available((enum fdm_isa)i)) printf(" %s", fdm_isa_name((enum fdm_isa)i));
    printf("\nMPI: %s\n", mpi);
}

/* A closed stdin, stdout or stderr would hand its number to the next file opened, which would then receive our
 * messages.  The stand-in for stdout is not writable, so that lost output is still an error. */
static void reserve_standard_streams(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY) != fd)
            _exit(FDM_NO_RESOURCE);
}

/* By default idle OpenMP threads spin for milliseconds, which on a machine that others use, too, takes the very
 * core that the last busy thread needs: sampling got 15 times slower on two shared cores.  They should spin for
 * some microseconds, then sleep; the runtimes read this before main, hence the second start.  Results do not depend
 * on it. */
static void spin_briefly(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME"))
        return; /* or done before */
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0 && setenv("KMP_BLOCKTIME", "1", 1) == 0)
        execv("/proc/self/exe", argv);
    /* no /proc: go on as we are */
}

/* Where a thread cannot be created (ulimit -v, -u), the OpenMP runtime says so and calls exit(1), which would mean a
 * failed comparison here. */
static bool finished;
static void on_exit_of_others(void) {
    if (!finished) _exit(FDM_NO_RESOURCE);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : NULL;
    const struct fdm_command *command = NULL;
    struct fdm_world world = FDM_WORLD_ALONE;
    fdm_error err = {0};
    fdm_status status = FDM_OK;
    world.asked = fdm_stop_if_interrupted;

    reserve_standard_streams();
    spin_briefly(argv);
    atexit(on_exit_of_others);
    fdm_catch_signals();
    (void)fdm_world_launched(&world);
    if (!name || strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        status = world.silent ? FDM_OK : help(name ? argc - 2 : 0, argv + 2, &err);
    else if (strcmp(name, "--version") == 0) {
        if (!world.silent) print_version();
    }
    else if ((command = find_command(name)))
        status = run_over_ranks(command, argc - 2, argv + 2, &world, &err);
    else
        status = unknown_command(name, &err);

    if (status == FDM_OK || status == FDM_MISMATCH) {
        bool lost = ferror(stdout) != 0;
        if (fclose(stdout) != 0 || lost)
            status = fdm_fail(&err, FDM_NO_RESOURCE, "standard output could not be written");
    }
    fdm_world_await_first(&world);
    if (status != FDM_OK && err.message[0] && (!world.silent || world.broken))
        fprintf(stderr, "fdm%s%s: %s\n", command ? " " : "", command ? command->name : "", err.message);
    finished = true;
    fdm_world_leave(&world, status);
    return (int)status;
}
