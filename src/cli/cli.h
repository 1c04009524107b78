/* cli.h - the frame that every sub-command of `fdm` stands in: options, help, progress, interruption.
 *
 * A command is one file, cmd_<name>.c, which defines `const struct fdm_command fdm_cmd_<name>` and is listed in
 * FDM_COMMANDS below.  Its options are a table bound to the fields of a struct of its own:
 *
 *     struct halve_options { const char *in; int64_t steps; double rho; bool json; };
 *     static const struct halve_options defaults = {.steps = 18, .rho = 7};
 *     static const struct fdm_option options[] = {
 *         FDM_OPTION_STRING(struct halve_options, in, "in", "FILE", "what to read"),
 *         FDM_OPTION_INT(struct halve_options, steps, "steps", 2, 100000, "N", "number of steps"),
 *         FDM_OPTION_FLOAT(struct halve_options, rho, "rho", 1e-3, 1e3, "X", "exponent of the grid"),
 *         FDM_OPTION_FLAG(struct halve_options, json, "json", "write JSON"),
 *         FDM_OPTION_END};
 *     static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
 *         const struct halve_options *o = values;
 *         ...
 *     }
 *     const struct fdm_command fdm_cmd_halve = {
 *         .name = "halve", .arguments = "FILE", .min_args = 1, .max_args = 1, .summary = "halves a file",
 *         .options = options, .defaults = &defaults, .options_size = sizeof defaults, .run = run,
 *         .description = "...", .examples = "  fdm halve a.npy --steps 4\n"};
 *
 * run returns a status, which becomes the exit code, and describes a failure in err; main prints it as
 * "fdm halve: <message>" on stderr.  Results go to stdout by printf; main checks that they could be written.
 */
#ifndef FDM_CLI_H
#define FDM_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/ranks.h"

/* Every command, in the order of the help. */
#define FDM_COMMANDS(X) \
    X(info)             \
    X(denoise)          \
    X(train)            \
    X(grad)             \
    X(replay)           \
    X(sample)           \
    X(dataset)          \
    X(import)           \
    X(export)           \
    X(compare)          \
    X(verify)           \
    X(metric)           \
    X(sheet)            \
    X(process)          \
    X(bench)

/* ---- Options (options.c) ---------------------------------------------------------------------------------- */

enum fdm_option_type {
    FDM_TYPE_FLAG,      /* bool */
    FDM_TYPE_INT,       /* int64_t in [imin, imax] */
    FDM_TYPE_FLOAT,     /* double in [fmin, fmax]; never NaN; "inf" where fmax is infinite */
    FDM_TYPE_SIZE,      /* struct fdm_size, "WxH" */
    FDM_TYPE_STRING,    /* const char *, points into argv; empty is refused */
    FDM_TYPE_ENUM,      /* int, index into choices */
    FDM_TYPE_INTLIST,   /* struct fdm_intlist, "0-63,70", each in [imin, imax] */
    FDM_TYPE_FLOATLIST, /* struct fdm_floatlist, "0.1,1,10", each in [fmin, fmax] */
};

struct fdm_size {
    int64_t width, height;
};
struct fdm_intlist {
    int64_t *items; /* freed by main */
    size_t count;
};
struct fdm_floatlist {
    double *items; /* freed by main */
    size_t count;
};
enum { FDM_LIST_MAX = 10000000 }; /* items of a list: refuses "0-9223372036854775807" */

struct fdm_option {
    const char *name; /* without dashes, as help shows it; '_' and '-' are the same; NULL ends the table */
    char letter;      /* also -<letter>, or 0; flags only */
    enum fdm_option_type type;
    size_t offset; /* of the value in the command's struct */
    int64_t imin, imax;
    double fmin, fmax;
    const char *const *choices; /* NULL-terminated */
    const char *value;          /* how help names the value: "FILE" */
    const char *help;
};

/* offsetof that compiles only if the field has the type. */
#define FDM_OFFSET(S, field, T) _Generic(((S *)0)->field, T: offsetof(S, field))
#define FDM_OPTION_FLAG(S, field, long_name, text) \
    {.name = (long_name), .type = FDM_TYPE_FLAG, .offset = FDM_OFFSET(S, field, bool), .help = (text)}
#define FDM_OPTION_INT(S, field, long_name, lo, hi, value_name, text)                                 \
    {.name = (long_name), .type = FDM_TYPE_INT, .offset = FDM_OFFSET(S, field, int64_t), .imin = (lo), \
     .imax = (hi), .value = (value_name), .help = (text)}
#define FDM_OPTION_FLOAT(S, field, long_name, lo, hi, value_name, text)                                \
    {.name = (long_name), .type = FDM_TYPE_FLOAT, .offset = FDM_OFFSET(S, field, double), .fmin = (lo), \
     .fmax = (hi), .value = (value_name), .help = (text)}
#define FDM_OPTION_SIZE(S, field, long_name, lo, hi, text)                                                         \
    {.name = (long_name), .type = FDM_TYPE_SIZE, .offset = FDM_OFFSET(S, field, struct fdm_size), .imin = (lo), \
     .imax = (hi), .value = "WxH", .help = (text)}
#define FDM_OPTION_STRING(S, field, long_name, value_name, text)                                   \
    {.name = (long_name), .type = FDM_TYPE_STRING, .offset = FDM_OFFSET(S, field, const char *), \
     .value = (value_name), .help = (text)}
#define FDM_OPTION_ENUM(S, field, long_name, choice_list, text)                                                \
    {.name = (long_name), .type = FDM_TYPE_ENUM, .offset = FDM_OFFSET(S, field, int), .choices = (choice_list), \
     .help = (text)}
#define FDM_OPTION_INTLIST(S, field, long_name, lo, hi, value_name, text)                                       \
    {.name = (long_name), .type = FDM_TYPE_INTLIST, .offset = FDM_OFFSET(S, field, struct fdm_intlist),          \
     .imin = (lo), .imax = (hi), .value = (value_name), .help = (text)}
#define FDM_OPTION_FLOATLIST(S, field, long_name, lo, hi, value_name, text)                                    \
    {.name = (long_name), .type = FDM_TYPE_FLOATLIST, .offset = FDM_OFFSET(S, field, struct fdm_floatlist), \
     .fmin = (lo), .fmax = (hi), .value = (value_name), .help = (text)}
/* Of commands over ranks, which hand it to fdm_world_set_patience (cli/ranks_mpi.h). */
#define FDM_OPTION_RANK_TIMEOUT(S, field)                      \
    FDM_OPTION_FLOAT(S, field, "rank-timeout", 0, 1e6, "SEC", \
                     "among MPI ranks: how long one may be waited for; 0: for ever")
#define FDM_OPTION_END {.name = NULL}

enum { FDM_MAX_OPTIONS = 96 }; /* of one command */

/* ---- Commands (main.c, help.c) ---------------------------------------------------------------------------- */

enum { FDM_CLI_BACKEND_AUTO, FDM_CLI_BACKEND_REFERENCE }; /* then the emulated formats */
extern const char *const fdm_cli_backend_names[]; /* by that number, as in fdm_run_options; NULL-terminated */

/* What every command has: its arguments and the common options. */
struct fdm_cli {
    const struct fdm_command *command;
    char **args; /* positional arguments */
    int nargs;
    int threads;     /* --threads, >= 1; by default all that OpenMP would use */
    const char *isa; /* --isa, checked against this CPU; NULL: FDM_ISA or the best */
    const char *conv; /* --conv; NULL: the default */
    int backend;     /* FDM_CLI_BACKEND_* */
    bool quiet, verbose; /* of several ranks all but the first are quiet */
    const fdm_ranks *ranks; /* of a command with `over_ranks`: who shares its work; NULL: it is alone */
    struct fdm_world *world; /* whose ranks they are; never NULL */
    bool given[FDM_MAX_OPTIONS]; /* by index in the option table; see fdm_cli_given */
};

struct fdm_command {
    const char *name;
    const char *arguments; /* "A B", or "" */
    int min_args, max_args;
    const char *summary;     /* one line of the command table */
    const char *description; /* paragraphs below the synopsis */
    const char *examples;    /* lines, each indented by two spaces */
    const struct fdm_option *options;
    const void *defaults; /* struct that options write to, before they do */
    size_t options_size;
    bool over_ranks; /* mpirun may start several: run is then called on every rank, and main makes them agree on its status */
    fdm_status (*run)(const struct fdm_cli *cli, const void *options, fdm_error *err);
};

#define FDM_DECLARE_COMMAND(name) extern const struct fdm_command fdm_cmd_##name;
FDM_COMMANDS(FDM_DECLARE_COMMAND)
#undef FDM_DECLARE_COMMAND

enum { FDM_RANK_TIMEOUT = 300 }; /* default of --rank-timeout */

/* Whether the user gave that option of the command, or the value is its default. */
bool fdm_cli_given(const struct fdm_cli *cli, const char *option);

/* --quiet, --verbose, --threads, --isa, --conv, --backend, --help: the options of every command. */
struct fdm_common_options {
    bool help, quiet, verbose;
    int64_t threads;
    int isa, conv, backend;
};
extern const struct fdm_option fdm_common_options[];
extern const struct fdm_common_options fdm_common_defaults;

/* One option table and the struct it fills; given may be NULL. */
struct fdm_option_group {
    const struct fdm_option *options; /* NULL: no options */
    void *values;
    bool *given; /* [FDM_MAX_OPTIONS] or NULL */
};

/* Sorts argv (without program and command name) into option values and positional arguments (args has room for
 * argc pointers).  Frees nothing: call fdm_options_free on every group whatever the result.
 * Errors: FDM_BAD_USAGE; FDM_NO_RESOURCE. */
fdm_status fdm_options_parse(const struct fdm_option_group *groups, int ngroups, int argc, char **argv, char **args,
                             int *nargs, fdm_error *err);
void fdm_options_free(const struct fdm_option_group *group);
/* The candidate closest to word (nameable by a slip of the fingers), or NULL.  '_' and '-' are the same. */
const char *fdm_nearest_name(const char *word, const char *const *candidates, size_t count);

/* Help on stdout: all commands; one command. */
void fdm_help_all(const struct fdm_command *const *commands, size_t count);
void fdm_help_command(const struct fdm_command *command);

/* ---- Progress and interruption (progress.c) ---------------------------------------------------------------- */

/* A line on stderr: live with bar, rate and ETA on a terminal, a plain line every few seconds elsewhere, nothing
 * with --quiet. */
struct fdm_progress {
    const char *what, *unit; /* "sampling", "images" */
    char note[48];           /* "loss 0.123", at the end of the line */
    int64_t skipped;         /* done before this process began: not counted in the rate */
    int64_t total, done;
    double start, shown; /* seconds */
    bool quiet, terminal;
};
void fdm_progress_start(struct fdm_progress *p, const struct fdm_cli *cli, const char *what, const char *unit,
                        int64_t total);
void fdm_progress_update(struct fdm_progress *p, int64_t done);
/* What the next line says beside the numbers. */
void fdm_progress_note(struct fdm_progress *p, const char *note);
/* Clears a live line, so that something else can be printed; the next update shows it again. */
void fdm_progress_pause(struct fdm_progress *p);
/* Ends the line and, if the work is done (not failed or interrupted), says how long it took. */
void fdm_progress_end(struct fdm_progress *p, bool done);
double fdm_cli_now(void); /* seconds, of a clock that is never set back */

/* SIGINT, SIGTERM and SIGUSR1 set a flag; a second one kills.  Long work polls fdm_interrupted, and returns
 * fdm_fail_interrupted soon after it turns true. */
void fdm_catch_signals(void);
bool fdm_interrupted(void);
bool fdm_stop_if_interrupted(void *unused); /* an fdm_stop_fn */
fdm_status fdm_fail_interrupted(fdm_error *err);
/* From now on none of them does anything: the work is done, and its exit code is to be the last word. */
void fdm_ignore_signals(void);

#endif
