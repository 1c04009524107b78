/* help.c - what `fdm help` prints, made from the tables that the parser uses. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "cli/cli.h"

void fdm_help_all(const struct fdm_command *const *commands, size_t count) {
    puts("fdm - the CPU ground truth of the Fast Diffusion Model\n"
         "\n"
         "usage: fdm <command> [options]\n"
         "       fdm help <command>     what it does, its options, examples\n"
         "       fdm --version\n"
         "\n"
         "commands:");
    for (size_t i = 0; i < count; i++) printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
}

/* " (default 18)", unless the text speaks of it; a default outside the option's range means "none". */
static void print_default(const struct fdm_option *o, const void *defaults) {
    if (strstr(o->help, "(default")) return;
    const void *field = (const char *)defaults + o->offset;
    if (o->type == FDM_TYPE_INT) {
        int64_t value = *(const int64_t *)field;
        if (value >= o->imin && value <= o->imax) printf(" (default %" PRId64 ")", value);
    } else if (o->type == FDM_TYPE_FLOAT) {
        double value = *(const double *)field;
        if (value >= o->fmin && value <= o->fmax) printf(" (default %g)", value);
    } else if (o->type == FDM_TYPE_STRING) {
        const char *value = *(const char *const *)field;
        if (value) printf(" (default %s)", value);
    } else if (o->type == FDM_TYPE_ENUM) {
        int value = *(const int *)field;
        if (value >= 0) printf(" (default %s)", o->choices[value]);
    }
}

static void format_usage(char *out, size_t size, const struct fdm_option *o) {
    int n = o->letter ? snprintf(out, size, "-%c, --%s", o->letter, o->name) : snprintf(out, size, "--%s", o->name);
    if (o->value && n > 0 && (size_t)n < size) snprintf(out + n, size - (size_t)n, " %s", o->value);
    for (int i = 0; o->choices && o->choices[i]; i++) {
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%s%s", i ? "|" : " ", o->choices[i]);
    }
}

static void print_options(const char *title, const struct fdm_option *options, const void *defaults) {
    enum { COLUMN = 26 };
    if (!options || !options->name) return;
    printf("\n%s:\n", title);
    for (const struct fdm_option *o = options; o->name; o++) {
        char usage[160];
        format_usage(usage, sizeof usage, o);
        if (strlen(usage) <= COLUMN)
            printf("  %-*s ", COLUMN, usage);
        else
            printf("  %s\n  %*s ", usage, COLUMN, "");
        fputs(o->help, stdout);
        print_default(o, defaults);
        putchar('\n');
    }
}

void fdm_help_command(const struct fdm_command *c) {
    printf("usage: fdm %s%s%s [options]\n\n%s\n", c->name, c->arguments[0] ? " " : "", c->arguments,
           c->description);
    print_options("options", c->options, c->defaults);
    print_options("common options", fdm_common_options, &fdm_common_defaults);
    if (c->examples) printf("\nexamples:\n%s", c->examples);
    puts("\nexit codes: 0 done or passed, 1 comparison failed, 2 bad usage, 3 bad input file, 4 out of resources,\n"
         "            130 interrupted");
}
