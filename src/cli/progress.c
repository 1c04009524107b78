/* progress.c - the progress line, and the wish to stop. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/cli.h"

/* ---- Interruption ------------------------------------------------------------------------------------------ */

/* A signal handler has no other way to reach the program. */
static volatile sig_atomic_t stop_requested;

static void on_signal(int number) {
    if (stop_requested) { /* asked before: let the default action end us */
        signal(number, SIG_DFL);
        raise(number);
    }
    stop_requested = 1;
}

static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1}; /* the last: what mpirun and srun pass on without killing */

void fdm_catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < FDM_ARRAY_LEN(numbers); i++) {
        struct sigaction old;
        /* Started with the signal ignored (a background job): leave it so. */
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away is a write error, exit code 4 */
    signal(SIGXFSZ, SIG_IGN); /* so is a file larger than ulimit -f */
}

void fdm_ignore_signals(void) {
    for (size_t i = 0; i < FDM_ARRAY_LEN(numbers); i++) signal(numbers[i], SIG_IGN);
}

bool fdm_interrupted(void) { return stop_requested != 0; }
bool fdm_stop_if_interrupted(void *unused) {
    (void)unused;
    return fdm_interrupted();
}

fdm_status fdm_fail_interrupted(fdm_error *err) { return fdm_fail(err, FDM_INTERRUPTED, "interrupted"); }

/* ---- Progress ---------------------------------------------------------------------------------------------- */

enum { BAR = 24 };
static const double terminal_period = 0.1, plain_period = 5; /* seconds between lines */

double fdm_cli_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void format_seconds(char *out, size_t size, double seconds) {
    int64_t s = seconds < 1e9 ? (int64_t)(seconds + 0.5) : 1000000000;
    if (s >= 3600)
        snprintf(out, size, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
    else
        snprintf(out, size, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

/* "sampling [####....] 12/64 images, 3.4/s, ETA 0:15" */
static void format_line(char *out, size_t size, const struct fdm_progress *p, double elapsed) {
    char bar[BAR + 4] = "", rate[64] = "";
    if (p->terminal && p->total > 0) {
        int filled = (int)((double)p->done / (double)p->total * BAR);
        bar[0] = ' ';
        bar[1] = '[';
        for (int i = 0; i < BAR; i++) bar[i + 2] = i < filled ? '#' : '.';
        bar[BAR + 2] = ']';
        bar[BAR + 3] = '\0';
    }
    if (p->done > p->skipped && elapsed > 0) {
        double speed = (double)(p->done - p->skipped) / elapsed;
        char eta[32];
        format_seconds(eta, sizeof eta, (double)(p->total - p->done) / speed);
        if (speed >= 1)
            snprintf(rate, sizeof rate, ", %.3g/s, ETA %s", speed, eta);
        else
            snprintf(rate, sizeof rate, ", %.3g s each, ETA %s", 1 / speed, eta);
    }
    snprintf(out, size, "%s%s %" PRId64 "/%" PRId64 " %s%s%s%s", p->what, bar, p->done, p->total, p->unit, rate,
             p->note[0] ? ", " : "", p->note);
}

static void show(struct fdm_progress *p, double time) {
    char line[256];
    format_line(line, sizeof line, p, time - p->start);
    p->shown = time;
    if (!p->terminal) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    struct winsize window;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
    fprintf(stderr, "\r\033[K%.*s", columns - 1, line); /* a line that wraps could not be taken back */
    fflush(stderr);
}

void fdm_progress_start(struct fdm_progress *p, const struct fdm_cli *cli, const char *what, const char *unit,
                        int64_t total) {
    double time = fdm_cli_now();
    *p = (struct fdm_progress){.what = what,
                               .unit = unit,
                               .total = total,
                               .start = time,
                               .shown = time,
                               .quiet = cli->quiet,
                               .terminal = isatty(STDERR_FILENO) == 1};
    if (!p->quiet && p->terminal) show(p, time);
}

void fdm_progress_update(struct fdm_progress *p, int64_t done) {
    double time = fdm_cli_now();
    p->done = done;
    if (!p->quiet && time - p->shown >= (p->terminal ? terminal_period : plain_period)) show(p, time);
}

void fdm_progress_note(struct fdm_progress *p, const char *note) { snprintf(p->note, sizeof p->note, "%s", note); }

void fdm_progress_pause(struct fdm_progress *p) {
    if (!p->quiet && p->terminal) fputs("\r\033[K", stderr);
}

void fdm_progress_end(struct fdm_progress *p, bool done) {
    if (p->quiet) return;
    if (p->terminal) fputs("\r\033[K", stderr);
    if (!done) return; /* an error follows, and it is one line */
    double elapsed = fdm_cli_now() - p->start;
    fprintf(stderr, "%s: %" PRId64 " %s in %.2f s", p->what, p->done - p->skipped, p->unit, elapsed);
    if (p->done > p->skipped && elapsed > 0) fprintf(stderr, " (%.3g/s)", (double)(p->done - p->skipped) / elapsed);
    fputc('\n', stderr);
}
