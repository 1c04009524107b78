/* rank_sum.c - buckets, and the thread that sums them. */
#include "train/rank_sum.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/base.h"
#include "train/rank_tree.h"

enum {
    LEAST_BUCKET = 1 << 12, /* elements: below, a message's latency is all there is */
    MOST_BUCKET = 1 << 20,  /* above, the last bucket, which nothing hides, takes longer than it saves */
    BUCKETS_WANTED = 16
};

struct fdm_rank_sum {
    struct fdm_rank_tree tree;
    fdm_accumulator *accumulator;
    struct fdm_comm_trace *trace;
    size_t total, bucket; /* elements; a multiple of 16 of them a bucket */
    int count;            /* buckets, number 0 the last and perhaps a shorter one */
    int *final_step;      /* [count] */
    double stepped_at;    /* when the latest step of the backward pass ended; the training thread's */
    struct fdm_rank_sum_times times;
    double *begun, *ended; /* [count], of this update */

    pthread_t thread;
    bool have_lock, have_changed, have_thread;
    pthread_mutex_t lock;   /* of what follows */
    pthread_cond_t changed; /* any of it */
    int ready, done;        /* buckets */
    bool stop;
    fdm_status failed;
    fdm_error error;
};

static void add_elements(void *user, void *left, const void *right, size_t count) {
    fdm_accumulator_add_elements(user, left, right, count);
}

/* --- the thread --- */

static fdm_status sum_bucket(struct fdm_rank_sum *s, int k, fdm_error *err) {
    const size_t first = (size_t)(s->count - 1 - k) * s->bucket;
    const size_t count = k ? s->bucket : s->total - first;
    s->begun[k] = fdm_now();
    char *sum = fdm_accumulator_finish(s->accumulator, first, count);
    const fdm_status status = fdm_rank_tree_sum(&s->tree, sum + first * s->tree.element, count, err);
    s->ended[k] = fdm_now();
    fdm_comm_trace_add(s->trace, FDM_LANE_MESSAGES, k, s->begun[k], s->ended[k]);
    return status;
}

static void *sum_buckets(void *argument) {
    struct fdm_rank_sum *s = argument;
    pthread_mutex_lock(&s->lock);
    while (!s->stop && !s->failed) {
        if (s->done == s->ready) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        const int k = s->done;
        pthread_mutex_unlock(&s->lock);
        fdm_error error;
        const fdm_status status = sum_bucket(s, k, &error);
        pthread_mutex_lock(&s->lock);
        if (status == FDM_OK) s->done++;
        else {
            s->failed = status;
            s->error = error;
        }
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* --- life --- */

/* A bucket changes until the last of the parameters in it does. */
static void find_final_steps(struct fdm_rank_sum *s, const fdm_gradient *g) {
    for (int k = 0; k < s->count; k++) s->final_step[k] = INT32_MAX;
    for (int i = 0; i < fdm_gradient_parameter_count(g); i++) {
        const fdm_parameter_info p = fdm_gradient_parameter(g, i);
        const int step = fdm_gradient_final_step(g, i);
        const int low = (int)(p.offset / s->bucket), high = (int)((p.offset + p.count - 1) / s->bucket);
        for (int b = low; b <= high; b++) {
            int *final = &s->final_step[s->count - 1 - b];
            *final = fdm_min_int(*final, step);
        }
    }
}

static size_t choose_bucket(size_t total) {
    const size_t wanted = fdm_round_up(total / BUCKETS_WANTED + 1, LEAST_BUCKET);
    return wanted < MOST_BUCKET ? wanted : MOST_BUCKET;
}

/* Signals are for the caller's threads. */
static int start_thread(struct fdm_rank_sum *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&s->thread, NULL, sum_buckets, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

static fdm_status prepare(struct fdm_rank_sum *s, const fdm_gradient *g, fdm_error *err) {
    const size_t count = (size_t)s->count, scratch = fdm_rank_tree_scratch(s->bucket) * s->tree.element;
    s->final_step = malloc(count * sizeof *s->final_step);
    s->begun = calloc(count, sizeof *s->begun);
    s->ended = calloc(count, sizeof *s->ended);
    s->tree.scratch = fdm_malloc_aligned(scratch);
    if (!s->final_step || !s->begun || !s->ended || !s->tree.scratch)
        return fdm_fail_oom(err, "sums over ranks", scratch);
    find_final_steps(s, g);
    const fdm_status status = fdm_accumulator_reserve(s->accumulator, err);
    if (status != FDM_OK) return status;
    s->have_lock = pthread_mutex_init(&s->lock, NULL) == 0;
    s->have_changed = pthread_cond_init(&s->changed, NULL) == 0;
    s->have_thread = s->have_lock && s->have_changed && start_thread(s) == 0;
    return s->have_thread ? FDM_OK
                          : fdm_fail(err, FDM_NO_RESOURCE, "cannot start a thread that sums over ranks; allow more processes");
}

fdm_status fdm_rank_sum_create(struct fdm_rank_sum **sum, const fdm_ranks *ranks, fdm_accumulator *accumulator,
                               const fdm_gradient *g, size_t bucket, fdm_error *err) {
    *sum = NULL;
    struct fdm_rank_sum *s = calloc(1, sizeof *s);
    if (!s) return fdm_fail_oom(err, "sums over ranks", sizeof *s);
    s->accumulator = accumulator;
    s->tree = (struct fdm_rank_tree){
        .ranks = ranks, .element = fdm_dtype_size(fdm_gradient_dtype(g)), .add = add_elements, .user = accumulator};
    s->total = fdm_gradient_size(g);
    s->bucket = bucket ? fdm_round_up(bucket, 16) : choose_bucket(s->total);
    s->count = (int)((s->total + s->bucket - 1) / s->bucket);
    const fdm_status status = prepare(s, g, err);
    if (status != FDM_OK) fdm_rank_sum_free(&s);
    *sum = s;
    return status;
}

void fdm_rank_sum_free(struct fdm_rank_sum **sum) {
    struct fdm_rank_sum *s = *sum;
    *sum = NULL;
    if (!s) return;
    if (s->have_thread) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    if (s->have_changed) pthread_cond_destroy(&s->changed);
    if (s->have_lock) pthread_mutex_destroy(&s->lock);
    fdm_free_aligned(s->tree.scratch);
    free(s->final_step);
    free(s->begun);
    free(s->ended);
    free(s);
}

int fdm_rank_sum_buckets(const struct fdm_rank_sum *s) { return s->count; }

void fdm_rank_sum_trace(struct fdm_rank_sum *s, struct fdm_comm_trace *trace) { s->trace = trace; }

/* --- an update --- */

static void stepped(void *user, int step) {
    struct fdm_rank_sum *s = user;
    const double begun = s->stepped_at;
    s->stepped_at = fdm_now();
    if (begun > 0) fdm_comm_trace_add(s->trace, FDM_LANE_BACKWARD, step, begun, s->stepped_at);
    pthread_mutex_lock(&s->lock);
    const int before = s->ready;
    while (s->ready < s->count && s->final_step[s->ready] >= step) s->ready++;
    if (s->ready > before) pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

struct fdm_gradient_watch fdm_rank_sum_watch(struct fdm_rank_sum *s) {
    s->stepped_at = 0;
    fdm_comm_trace_update(s->trace);
    return (struct fdm_gradient_watch){stepped, s};
}

static void count_times(struct fdm_rank_sum *s, double backward_ended, double finished) {
    for (int k = 0; k < s->count; k++) {
        const double end = s->ended[k] < backward_ended ? s->ended[k] : backward_ended;
        s->times.busy += s->ended[k] - s->begun[k];
        if (end > s->begun[k]) s->times.hidden += end - s->begun[k];
    }
    const int size = s->tree.ranks->size;
    s->times.exposed += finished - backward_ended;
    s->times.bytes += (int64_t)(2 * s->total / (size_t)size * (size_t)(size - 1) * s->tree.element);
    s->times.updates++;
}

fdm_status fdm_rank_sum_finish(struct fdm_rank_sum *s, fdm_error *err) {
    const double backward_ended = fdm_now();
    pthread_mutex_lock(&s->lock);
    s->ready = s->count;
    pthread_cond_broadcast(&s->changed);
    while (s->done < s->count && !s->failed) pthread_cond_wait(&s->changed, &s->lock);
    const fdm_status status = s->failed;
    if (status != FDM_OK && err) *err = s->error;
    if (status == FDM_OK) s->ready = s->done = 0;
    pthread_mutex_unlock(&s->lock);
    if (status == FDM_OK) count_times(s, backward_ended, fdm_now());
    return status;
}

struct fdm_rank_sum_times fdm_rank_sum_spent(const struct fdm_rank_sum *s) { return s->times; }
