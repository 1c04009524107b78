/* accumulator.c - the sum of the gradients of accumulation rounds, along the tree over samples. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "nn/network.h"
#include "nn/sample_tree.h"
#include "train/gradient.h"

enum { MAX_DEPTH = 32 };

struct fdm_accumulator {
    fdm_gradient *g;
    char *stack[MAX_DEPTH]; /* gradients, allocated when first needed */
    int top, rounds;
    bool summed; /* the tree is finished: nothing can be added to it */
};

fdm_status fdm_accumulator_create(fdm_accumulator **accumulator, fdm_gradient *g, fdm_error *err) {
    *accumulator = calloc(1, sizeof **accumulator);
    if (!*accumulator) return fdm_fail_oom(err, "accumulator", sizeof **accumulator);
    (*accumulator)->g = g;
    return FDM_OK;
}

void fdm_accumulator_free(fdm_accumulator **accumulator) {
    if (!*accumulator) return;
    for (int i = 0; i < MAX_DEPTH; i++) fdm_free_aligned((*accumulator)->stack[i]);
    free(*accumulator);
    *accumulator = NULL;
}

void fdm_accumulator_reset(fdm_accumulator *a) {
    a->top = a->rounds = 0;
    a->summed = false;
}

/* Elements first .. first+count-1 of tree `index` += those of the next one. */
static void merge(const fdm_accumulator *a, int index, size_t first, size_t count, int threads) {
    const struct fdm_network *net = fdm_gradient_network(a->g);
    const size_t at = first * fdm_dtype_size(net->backend->dtype);
    struct fdm_exec exec = net->exec;
    exec.threads = threads;
    net->backend->add_gradients(&exec, a->stack[index] + at, a->stack[index + 1] + at, count);
}

static void merge_top(fdm_accumulator *a) {
    a->top--;
    merge(a, a->top - 1, 0, fdm_gradient_size(a->g), fdm_gradient_network(a->g)->exec.threads);
}

/* The gradient at the top of the stack, a new one where the stack has not been as high before. */
static fdm_status reserve(fdm_accumulator *a, fdm_error *err) {
    size_t bytes;
    char **slot = &a->stack[a->top];
    if (*slot) return FDM_OK;
    if (!fdm_mul_size(&bytes, fdm_gradient_size(a->g), fdm_dtype_size(fdm_gradient_dtype(a->g))) ||
        !(*slot = fdm_malloc_aligned(bytes)))
        return fdm_fail_oom(err, "gradient", fdm_gradient_size(a->g));
    memset(*slot, 0, bytes); /* parameters that the loss cannot reach */
    return FDM_OK;
}

fdm_status fdm_accumulator_add(fdm_accumulator *a, const fdm_gradient_args *args, fdm_error *err) {
    if (a->summed) return fdm_fail(err, FDM_BAD_USAGE, "a round cannot be added after the sum was taken; reset first");
    fdm_status status = reserve(a, err);
    if (status == FDM_OK) status = fdm_gradient_compute(a->g, a->stack[a->top], args, err);
    if (status != FDM_OK) return status;
    a->top++;
    for (int m = fdm_tree_merges(a->rounds++); m > 0; m--) merge_top(a);
    return FDM_OK;
}

void *fdm_accumulator_sum(fdm_accumulator *a) {
    while (!a->summed && a->top > 1) merge_top(a);
    a->summed = a->top > 0;
    return a->top ? a->stack[0] : NULL;
}

/* --- piece by piece --- */

fdm_status fdm_accumulator_reserve(fdm_accumulator *a, fdm_error *err) { return a->top ? FDM_OK : reserve(a, err); }

fdm_status fdm_accumulator_add_last(fdm_accumulator *a, const fdm_gradient_args *args, const struct fdm_gradient_watch *watch,
                                    fdm_error *err) {
    if (a->summed) return fdm_fail(err, FDM_BAD_USAGE, "a round cannot be added after the sum was taken; reset first");
    const fdm_status status = reserve(a, err);
    if (status != FDM_OK) return status;
    a->summed = true; /* before the watcher's first call: it finds the new tree on the stack */
    return fdm_gradient_compute_watched(a->g, a->stack[a->top++], args, watch, err);
}

/* All merges that are left are those of the two top trees: the order of fdm_tree_merges and of the final ones alike. */
void *fdm_accumulator_finish(fdm_accumulator *a, size_t first, size_t count) {
    for (int i = a->top - 2; i >= 0; i--) merge(a, i, first, count, 1);
    return a->stack[0];
}

void fdm_accumulator_add_elements(const fdm_accumulator *a, void *left, const void *right, size_t count) {
    const struct fdm_network *net = fdm_gradient_network(a->g);
    struct fdm_exec exec = net->exec;
    exec.threads = 1;
    net->backend->add_gradients(&exec, left, right, count);
}
