/* gradient_trees.h - test helper: gradients of single samples added up in the order that backend.h promises,
 * written out here as its definition by recursion instead of with src/nn/sample_tree.h.
 *
 * Of n leaves, the left tree is the largest power of two below n (n itself if it is one, split in halves). */
#ifndef FDM_TESTS_GRADIENT_TREES_H
#define FDM_TESTS_GRADIENT_TREES_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

struct gradient_tree {
    int n, pushed;
    size_t count;
    float *leaves; /* [n][count] */
};

static inline struct gradient_tree gradient_tree(int n, size_t count) {
    struct gradient_tree t = {.n = n, .count = count, .leaves = malloc((size_t)n * count * sizeof(float))};
    ck_assert_ptr_nonnull(t.leaves);
    return t;
}

static inline void gradient_tree_push(struct gradient_tree *t, const float *gradient) {
    ck_assert_int_lt(t->pushed, t->n);
    memcpy(t->leaves + (size_t)t->pushed++ * t->count, gradient, t->count * sizeof(float));
}

/* Leaf `first` becomes the sum of leaves first .. first+n-1. */
static inline void gradient_tree_sum(struct gradient_tree *t, int first, int n) {
    int left = 1;
    if (n == 1) return;
    while (2 * left < n) left *= 2;
    gradient_tree_sum(t, first, left);
    gradient_tree_sum(t, first + left, n - left);
    float *to = t->leaves + (size_t)first * t->count;
    const float *from = t->leaves + (size_t)(first + left) * t->count;
    for (size_t i = 0; i < t->count; i++) to[i] = to[i] + from[i];
}

static inline const float *gradient_tree_result(struct gradient_tree *t) {
    ck_assert_int_eq(t->pushed, t->n);
    gradient_tree_sum(t, 0, t->n);
    return t->leaves;
}

static inline void gradient_tree_free(struct gradient_tree *t) { free(t->leaves); }

#endif
