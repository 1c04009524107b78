/* loader.c - images decoded ahead by a thread, handed out in a given order.
 *
 * A ring of `depth` slots.  The caller's thread puts indices in and takes images out, the decoder works through
 * them in the same order; so a slot belongs to one side at a time, and the two counters say to which:
 *
 *     taken <= slot number < decoded              ready: the caller's
 *     decoded <= slot number < taken + depth      wanted: the decoder's
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/dataset.h"

struct fdm_loader {
    fdm_dataset *set;
    fdm_next_index_fn next;
    void *user;
    size_t depth, image_bytes;
    int64_t *indices; /* (depth) */
    uint8_t *pixels;  /* (depth, C, R, R) */

    pthread_t thread;
    bool have_lock, have_changed, have_thread;
    pthread_mutex_t lock;   /* of what follows */
    pthread_cond_t changed; /* any of it */
    uint64_t taken, decoded;
    bool stop;
    fdm_status failed; /* of slot number `decoded`; the decoder has ended */
    fdm_error error;
};

static void *decode_ahead(void *argument) {
    fdm_loader *l = argument;
    pthread_mutex_lock(&l->lock);
    while (!l->stop && !l->failed) {
        if (l->decoded == l->taken + l->depth) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        size_t slot = (size_t)(l->decoded % l->depth);
        pthread_mutex_unlock(&l->lock);
        fdm_error error = {.status = FDM_OK};
        fdm_status status = fdm_dataset_image(l->set, l->indices[slot], l->pixels + slot * l->image_bytes, &error);
        pthread_mutex_lock(&l->lock);
        if (status) {
            l->failed = status;
            l->error = error;
        } else
            l->decoded++;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Signals are for the caller's threads. */
static int start_thread(fdm_loader *l) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&l->thread, NULL, decode_ahead, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

static fdm_status prepare(fdm_loader *l, fdm_error *err) {
    size_t bytes;
    if (l->depth == 0) return FDM_OK;
    if (!fdm_mul_size(&bytes, l->depth, l->image_bytes) || l->depth > SIZE_MAX / sizeof *l->indices ||
        !(l->pixels = malloc(bytes)) || !(l->indices = malloc(l->depth * sizeof *l->indices)))
        return fdm_fail(err, FDM_NO_RESOURCE, "out of memory (%zu images decoded ahead)", l->depth);
    l->have_lock = pthread_mutex_init(&l->lock, NULL) == 0;
    l->have_changed = pthread_cond_init(&l->changed, NULL) == 0;
    for (size_t i = 0; i < l->depth; i++) l->indices[i] = l->next(l->user);
    l->have_thread = l->have_lock && l->have_changed && start_thread(l) == 0;
    if (!l->have_thread)
        return fdm_fail(err, FDM_NO_RESOURCE,
                        "cannot start a thread that decodes images ahead; allow more processes");
    return FDM_OK;
}

fdm_status fdm_loader_open(fdm_loader **out, fdm_dataset *set, fdm_next_index_fn next, void *user, int64_t depth,
                           fdm_error *err) {
    *out = NULL;
    if (depth < 0) return fdm_fail(err, FDM_BAD_USAGE, "%lld images to be decoded ahead", (long long)depth);
    fdm_loader *l = calloc(1, sizeof *l);
    if (!l) return fdm_fail_oom(err, "loader", sizeof *l);
    const size_t side = (size_t)fdm_dataset_resolution(set);
    l->set = set;
    l->next = next;
    l->user = user;
    l->depth = (size_t)depth;
    l->image_bytes = (size_t)fdm_dataset_channels(set) * side * side;
    fdm_status status = prepare(l, err);
    if (status)
        fdm_loader_close(&l);
    else
        *out = l;
    return status;
}

/* Waits for the image whose turn it is. */
static fdm_status wait_for_image(fdm_loader *l, fdm_error *err) {
    pthread_mutex_lock(&l->lock);
    while (l->taken == l->decoded && !l->failed) pthread_cond_wait(&l->changed, &l->lock);
    fdm_status status = l->taken == l->decoded ? l->failed : FDM_OK;
    pthread_mutex_unlock(&l->lock);
    if (status && err) *err = l->error; /* the decoder has ended: no longer written */
    return status;
}

static fdm_status take(fdm_loader *l, uint8_t *pixels, int64_t *index, fdm_error *err) {
    if (l->depth == 0) {
        if (l->failed) {
            if (err) *err = l->error;
            return l->failed;
        }
        *index = l->next(l->user);
        l->failed = fdm_dataset_image(l->set, *index, pixels, &l->error);
        if (l->failed && err) *err = l->error;
        return l->failed;
    }
    fdm_status status = wait_for_image(l, err);
    if (status) return status;
    size_t slot = (size_t)(l->taken % l->depth); /* ours until `taken` grows, which only we do */
    memcpy(pixels, l->pixels + slot * l->image_bytes, l->image_bytes);
    *index = l->indices[slot];
    l->indices[slot] = l->next(l->user);
    pthread_mutex_lock(&l->lock);
    l->taken++;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return FDM_OK;
}

fdm_status fdm_loader_next(fdm_loader *l, int64_t n, uint8_t *pixels, float *labels, int64_t *indices,
                           fdm_error *err) {
    const size_t dim = (size_t)fdm_dataset_label_dim(l->set);
    fdm_status status = FDM_OK;
    for (int64_t i = 0; i < n && !status; i++) {
        int64_t index = 0;
        status = take(l, pixels + (size_t)i * l->image_bytes, &index, err);
        if (!status && labels) status = fdm_dataset_label(l->set, index, labels + (size_t)i * dim, err);
        if (indices) indices[i] = index;
    }
    return status;
}

void fdm_loader_pending(const fdm_loader *l, int64_t *indices) {
    for (size_t i = 0; i < l->depth; i++) indices[i] = l->indices[(size_t)((l->taken + i) % l->depth)];
}

void fdm_loader_close(fdm_loader **pointer) {
    fdm_loader *l = *pointer;
    *pointer = NULL;
    if (!l) return;
    if (l->have_thread) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
    }
    if (l->have_changed) pthread_cond_destroy(&l->changed);
    if (l->have_lock) pthread_mutex_destroy(&l->lock);
    free(l->indices);
    free(l->pixels);
    free(l);
}
