/* ranks_mpi.c - struct fdm_ranks over MPI: point-to-point messages with a deadline. */
#include "cli/ranks_mpi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"

/* --- what launchers leave in the environment --- */

/* Open MPI's mpirun, MPICH's and Slurm's PMI, PMIx. */
static const char *const rank_variables[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"};
static const char *const size_variables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};

static int number_of(const char *const *names, size_t count, int otherwise) {
    for (size_t i = 0; i < count; i++) {
        const char *value = getenv(names[i]);
        if (value && value[0] >= '0' && value[0] <= '9') return (int)strtol(value, NULL, 10);
    }
    return otherwise;
}

static int launched_rank(void) { return number_of(rank_variables, FDM_ARRAY_LEN(rank_variables), -1); }

/* A step of srun that was given no MPI has several tasks that know nothing of each other. */
static int launched_size(void) {
    static const char *const slurm[] = {"SLURM_STEP_NUM_TASKS"};
    const int size = number_of(size_variables, FDM_ARRAY_LEN(size_variables), 0);
    return size ? size : number_of(slurm, 1, 1);
}

static int launched_task(void) {
    static const char *const slurm[] = {"SLURM_PROCID"};
    const int rank = launched_rank();
    return rank >= 0 ? rank : number_of(slurm, 1, 0);
}

int fdm_world_launched(struct fdm_world *w) {
    w->silent = launched_task() > 0;
    return launched_size();
}

#ifdef FDM_HAVE_MPI
#include <mpi.h>

enum {
    CHUNK = 1 << 30,                  /* bytes; MPI counts in int */
    NOTICE = FDM_CHANNEL_GRADIENT + 1 /* tag of an empty message: rank 0 has lost another one and ends the run */
};
static const double default_timeout = 300; /* seconds */
static const double grace = 120;           /* seconds for rank 0 to write a state of gigabytes to a slow disk */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Between two looks.  What is quick is found at once; after that other threads and ranks may need this core, which a sleep
 * leaves to them.  It is not a yield, which would give a thread that computes here a time slice of milliseconds: the end of a
 * sleep takes the core back.  (Two ranks with a core each: 84 ms of waiting an update became 18.) */
static void pause_after(double waited) {
    static const double quick = 5e-5, long_wait = 2e-2; /* seconds */
    const struct timespec t = {.tv_nsec = waited < long_wait ? 20000 : 200000};
    if (waited >= quick) (void)nanosleep(&t, NULL);
}

/* From rank 0 to all, so that who waits for it knows that it is busy, not gone.  Nobody waits for what becomes of it. */
static void give_notice(const struct fdm_world *w) {
    for (int to = 1; to < w->ranks.size && w->ranks.rank == 0; to++) {
        MPI_Request request = MPI_REQUEST_NULL;
        if (to != w->lost_rank && MPI_Isend(NULL, 0, MPI_BYTE, to, NOTICE, MPI_COMM_WORLD, &request) == MPI_SUCCESS)
            (void)MPI_Request_free(&request);
    }
}

/* Lock held. */
static void lose(struct fdm_world *w, int code, int peer, double waited) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    w->broken = true;
    w->lost_rank = peer;
    give_notice(w);
    if (code == MPI_SUCCESS) {
        (void)fdm_fail(&w->lost, FDM_NO_RESOURCE, "rank %d waits for rank %d of %d, which has not answered for %.0f s: it hangs, "
                       "or its node is gone; see --rank-timeout", w->ranks.rank, peer, w->ranks.size, waited);
        return;
    }
    (void)MPI_Error_string(code, text, &length);
    (void)fdm_fail(&w->lost, FDM_NO_RESOURCE, "rank %d has lost its connection to rank %d of %d: %s", w->ranks.rank, peer,
                   w->ranks.size, text);
}

/* What every message of a broken world ends in. */
static fdm_status lost(const struct fdm_world *w, fdm_error *err) { return fdm_fail(err, w->lost.status, "%s", w->lost.message); }

/* Both halves of a message, at most CHUNK bytes each. */
struct halves {
    MPI_Request requests[2]; /* receiving, sending */
    int peers[2];
};

static int post(struct halves *h, const fdm_exchange *what, size_t at) {
    int code = MPI_SUCCESS;
    *h = (struct halves){{MPI_REQUEST_NULL, MPI_REQUEST_NULL}, {what->from, what->to}};
    if (at < what->receive_bytes) {
        const size_t n = what->receive_bytes - at;
        code = MPI_Irecv((char *)what->receive + at, n < CHUNK ? (int)n : CHUNK, MPI_BYTE, what->from, (int)what->channel,
                         MPI_COMM_WORLD, &h->requests[0]);
    }
    if (code == MPI_SUCCESS && at < what->send_bytes) {
        const size_t n = what->send_bytes - at;
        code = MPI_Isend((const char *)what->send + at, n < CHUNK ? (int)n : CHUNK, MPI_BYTE, what->to, (int)what->channel,
                         MPI_COMM_WORLD, &h->requests[1]);
    }
    return code;
}

struct wait {
    double begun, asked; /* when; asked: when it was first seen that this rank should stop, or 0 */
};

/* Whether that was long enough.  Rank 0 is the first to lose patience: it has a state to save, and one message is enough. */
static bool impatient(const struct fdm_world *w, struct wait *wait, double timeout, double time) {
    const int rank = w->ranks.rank;
    if (timeout > 0 && time - wait->begun > (rank ? 1.25 * timeout + 1 + 0.1 * rank : timeout)) return true;
    if (rank || !(w->hurry > 0) || !w->asked || !w->asked(NULL)) return false;
    if (!(wait->asked > 0)) wait->asked = time;
    const double enough = 2 * w->longest; /* a rank that is merely behind is not lost */
    return time - wait->asked > (enough > w->hurry ? enough : w->hurry);
}

static fdm_status wait_for(struct fdm_world *w, struct halves *h, double timeout, fdm_error *err) {
    struct wait wait = {.begun = now()};
    for (;;) {
        int done[2] = {0}, code = MPI_SUCCESS;
        const double time = now(), waited = time - wait.begun;
        pthread_mutex_lock(&w->lock);
        for (int i = 0; i < 2 && code == MPI_SUCCESS; i++) code = MPI_Test(&h->requests[i], &done[i], MPI_STATUS_IGNORE);
        const bool all = done[0] && done[1];
        if (!w->broken && (code != MPI_SUCCESS || (!all && impatient(w, &wait, timeout, time))))
            lose(w, code, h->peers[done[0] ? 1 : 0], waited);
        if (all && w->hurry > 0 && waited > w->longest) w->longest = waited;
        const fdm_status status = w->broken ? lost(w, err) : FDM_OK;
        pthread_mutex_unlock(&w->lock);
        if (status != FDM_OK || all) return status;
        pause_after(waited);
    }
}

static fdm_status exchange(const fdm_ranks *ranks, const fdm_exchange *what, fdm_error *err) {
    struct fdm_world *w = ranks->user;
    const size_t most = what->send_bytes > what->receive_bytes ? what->send_bytes : what->receive_bytes;
    fdm_status status = FDM_OK;
    for (size_t at = 0; at < most && status == FDM_OK; at += CHUNK) {
        struct halves h;
        pthread_mutex_lock(&w->lock);
        const int code = w->broken ? MPI_SUCCESS : post(&h, what, at);
        if (code != MPI_SUCCESS) lose(w, code, what->send_bytes ? what->to : what->from, 0);
        if (w->broken) status = lost(w, err);
        pthread_mutex_unlock(&w->lock);
        if (status == FDM_OK) status = wait_for(w, &h, ranks->timeout, err);
    }
    return status;
}

void fdm_world_library(char out[FDM_WORLD_LIBRARY]) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length;
    (void)MPI_Get_library_version(text, &length);
    text[strcspn(text, "\n,")] = '\0';
    for (char *c = text; *c; c++)
        if (*c == '\t') *c = ' ';
    snprintf(out, FDM_WORLD_LIBRARY, "%.*s", FDM_WORLD_LIBRARY - 1, text);
}

/* launched: how many processes there should be. */
static fdm_status check_launcher(const struct fdm_world *w, int launched, fdm_error *err) {
    char library[FDM_WORLD_LIBRARY];
    if (w->ranks.size > 1 || launched <= 1) return FDM_OK;
    fdm_world_library(library);
    return fdm_fail(err, FDM_BAD_USAGE, "started as one of %d processes, but they do not find each other: this program is built "
                    "with %s; use its mpirun, or srun --mpi=pmix or pmi2 as that MPI wants", launched, library);
}

fdm_status fdm_world_join(struct fdm_world *w, fdm_error *err) {
    int level = 0;
    fdm_status status = FDM_OK;
    const int launched = fdm_world_launched(w);
    if (launched_rank() < 0) return check_launcher(w, launched, err);
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
        return fdm_fail(err, FDM_NO_RESOURCE, "MPI does not start");
    w->begun = true;
    (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &w->ranks.rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &w->ranks.size);
    w->ranks.user = w;
    w->ranks.exchange = exchange;
    w->ranks.timeout = default_timeout;
    if (level < MPI_THREAD_SERIALIZED && w->ranks.size > 1)
        status = fdm_fail(err, FDM_NO_RESOURCE, "this MPI cannot be used by several threads (MPI_THREAD_SERIALIZED)");
    if (status == FDM_OK) status = check_launcher(w, launched, err);
    if (w->ranks.size > 1) w->silent = w->ranks.rank > 0;
    return status;
}

void fdm_world_set_patience(struct fdm_world *w, double timeout, double hurry) {
    pthread_mutex_lock(&w->lock);
    w->ranks.timeout = timeout;
    w->hurry = hurry;
    pthread_mutex_unlock(&w->lock);
}

void fdm_world_await_first(struct fdm_world *w) {
    const double begun = now();
    const struct timespec tenth = {.tv_nsec = 100000000};
    int noticed = w->lost_rank > 0; /* a rank that waits for another one may be ahead of rank 0 in noticing */
    while (w->broken && w->ranks.rank && now() - begun < (noticed ? grace : 1)) {
        pthread_mutex_lock(&w->lock);
        if (!noticed) (void)MPI_Iprobe(0, NOTICE, MPI_COMM_WORLD, &noticed, MPI_STATUS_IGNORE);
        pthread_mutex_unlock(&w->lock);
        (void)nanosleep(&tenth, NULL);
    }
}

void fdm_world_leave(struct fdm_world *w, fdm_status status) {
    if (!w->begun) return;
    if (w->broken) (void)MPI_Abort(MPI_COMM_WORLD, (int)status);
    (void)MPI_Finalize();
}

#else

fdm_status fdm_world_join(struct fdm_world *w, fdm_error *err) {
    const int size = fdm_world_launched(w);
    if (size <= 1) return FDM_OK;
    return fdm_fail(err, FDM_BAD_USAGE, "started as one of %d processes, but this program is built without MPI: make MPI=1 (apt "
                    "install libopenmpi-dev or libmpich-dev)", size);
}

void fdm_world_set_patience(struct fdm_world *w, double timeout, double hurry) {
    w->ranks.timeout = timeout;
    w->hurry = hurry;
}

void fdm_world_await_first(struct fdm_world *w) { (void)w; }

void fdm_world_leave(struct fdm_world *w, fdm_status status) {
    (void)w;
    (void)status;
}

void fdm_world_library(char out[FDM_WORLD_LIBRARY]) { snprintf(out, FDM_WORLD_LIBRARY, "none"); }

#endif
