/* thread_ranks.c - messages between threads: a queue for each pair and channel. */
#include "thread_ranks.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"

enum { CHANNELS = 3 };

struct message {
    struct message *next;
    size_t bytes;
    char data[];
};

struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct message *queues[MAX_THREAD_RANKS * MAX_THREAD_RANKS * CHANNELS];
};

struct rank {
    fdm_ranks ranks;
    struct world *world;
    rank_main main;
    void *user;
    pthread_t thread;
};

static struct message **queue_of(struct world *w, int to, int from, fdm_rank_channel channel) {
    return &w->queues[(to * MAX_THREAD_RANKS + from) * CHANNELS + (int)channel];
}

static void put(struct world *w, int from, const fdm_exchange *what) {
    struct message *m = malloc(sizeof *m + what->send_bytes), **end = queue_of(w, what->to, from, what->channel);
    ck_assert_ptr_nonnull(m);
    m->next = NULL;
    m->bytes = what->send_bytes;
    memcpy(m->data, what->send, m->bytes);
    pthread_mutex_lock(&w->lock);
    while (*end) end = &(*end)->next;
    *end = m;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static fdm_status take(struct world *w, const fdm_ranks *r, const fdm_exchange *what, fdm_error *err) {
    struct message **queue = queue_of(w, r->rank, what->from, what->channel), *m;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)r->timeout;
    until.tv_nsec += (long)(1e9 * (r->timeout - (double)(time_t)r->timeout));
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    int code = 0;
    pthread_mutex_lock(&w->lock);
    while (!*queue && code != ETIMEDOUT)
        code = r->timeout > 0 ? pthread_cond_timedwait(&w->changed, &w->lock, &until) : pthread_cond_wait(&w->changed, &w->lock);
    if ((m = *queue)) *queue = m->next;
    pthread_mutex_unlock(&w->lock);
    if (!m) return fdm_fail(err, FDM_NO_RESOURCE, "rank %d does not answer", what->from);
    ck_assert_uint_eq(m->bytes, what->receive_bytes);
    memcpy(what->receive, m->data, m->bytes);
    free(m);
    return FDM_OK;
}

static fdm_status exchange(const fdm_ranks *ranks, const fdm_exchange *what, fdm_error *err) {
    struct world *w = ranks->user;
    if (what->send_bytes) put(w, ranks->rank, what);
    return what->receive_bytes ? take(w, ranks, what, err) : FDM_OK;
}

static void *run_rank(void *argument) {
    struct rank *r = argument;
    r->main(&r->ranks, r->user);
    return NULL;
}

static void free_messages(struct world *w) {
    for (int i = 0; i < MAX_THREAD_RANKS * MAX_THREAD_RANKS * CHANNELS; i++)
        for (struct message *m = w->queues[i], *next; m; m = next) {
            next = m->next;
            free(m);
        }
}

void run_thread_ranks(int size, double timeout, rank_main main, void *user) {
    struct world *w = calloc(1, sizeof *w);
    struct rank ranks[MAX_THREAD_RANKS];
    ck_assert_ptr_nonnull(w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    for (int i = 0; i < size; i++) {
        ranks[i] = (struct rank){
            .ranks = {.rank = i, .size = size, .timeout = timeout, .user = w, .exchange = exchange}, .world = w, .main = main, .user = user};
        ck_assert_int_eq(pthread_create(&ranks[i].thread, NULL, run_rank, &ranks[i]), 0);
    }
    for (int i = 0; i < size; i++) pthread_join(ranks[i].thread, NULL);
    free_messages(w);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w);
}
