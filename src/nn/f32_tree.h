/* f32_tree.h - the sum over samples of sample_tree.h for rows of floats. */
#ifndef FDM_NN_F32_TREE_H
#define FDM_NN_F32_TREE_H

#include "nn/backend.h"
#include "nn/sample_tree.h"
#include "simd/kernel_table.h"

/* The last merges of a stack of `trees` partial sums, `size` floats each, left + right; returns how many trees remain.  After
 * leaf i was pushed: merges = fdm_tree_merges(i); at the end: trees - 1. */
static inline int fdm_f32_merge_trees(const struct fdm_exec *exec, float *stack, int trees, int merges, size_t size) {
    for (; merges > 0; merges--, trees--) {
        float *left = stack + size * (size_t)(trees - 2);
        exec->kernels->add_scale(left, left, left + size, 1.0f, size);
    }
    return trees;
}

/* rows (n, length): row 0 becomes the tree's sum of all rows; the others are used up.  The rows themselves hold the
 * partial sums: a tree's is in the row of its first sample. */
static inline void fdm_f32_sum_samples(const struct fdm_exec *exec, float *rows, int n, size_t length) {
    float *stack[8 * sizeof(int)]; /* at least fdm_tree_depth(n) */
    int top = 0;
    for (int i = 0; i < n; i++) {
        stack[top++] = rows + (size_t)i * length;
        for (int m = fdm_tree_merges(i); m > 0; m--, top--)
            exec->kernels->add_scale(stack[top - 2], stack[top - 2], stack[top - 1], 1.0f, length);
    }
    for (; top > 1; top--)
        exec->kernels->add_scale(stack[top - 2], stack[top - 2], stack[top - 1], 1.0f, length);
}

#endif
