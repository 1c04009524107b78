/* sample_tree.h - the one order in which anything is summed over samples; internal.
 *
 * A binary tree over adjacent samples, built as they come, like a binary counter: sample i is pushed as a tree of one
 * leaf; while the top two trees have the same number of leaves they are added, left + right.  At the end the remaining
 * trees are added from the right: left + (sum of all right of it).  For 5 samples: ((0+1)+(2+3)) + 4.
 *
 * The gradient of a batch of 8 is therefore the same to the bit whether it is computed at once, as 2 rounds of 4 or as
 * 8 of 1; generally for rounds whose size is a power of two, whatever their number.  Partial sums in flight: at most
 * fdm_tree_depth(n).
 */
#ifndef FDM_NN_SAMPLE_TREE_H
#define FDM_NN_SAMPLE_TREE_H

/* Additions left + right that follow once leaf `index` (counted from 0) has been pushed: the trailing ones of index. */
static inline int fdm_tree_merges(int index) {
    int merges = 0;
    for (; index & 1; index >>= 1) merges++;
    return merges;
}
/* Trees that remain after n leaves: the ones of n.  The final additions are that many less one. */
static inline int fdm_tree_remaining(int n) {
    int trees = 0;
    for (; n; n &= n - 1) trees++;
    return trees;
}
/* Most trees that exist at any time while n leaves are pushed (the newest leaf included): floor(log2 n) + 1. */
static inline int fdm_tree_depth(int n) {
    int depth = 0;
    for (; n; n >>= 1) depth++;
    return depth;
}

/* Usage, with `stack` of fdm_tree_depth(n) accumulators:
 *
 *     int top = 0;
 *     for (int i = 0; i < n; i++) {
 *         stack[top++] = leaf(i);
 *         for (int m = fdm_tree_merges(i); m > 0; m--, top--) stack[top - 2] += stack[top - 1];
 *     }
 *     for (; top > 1; top--) stack[top - 2] += stack[top - 1];      // result in stack[0]
 *
 * (While leaf i is computed the stack holds the ones of i trees; depth includes the new leaf.) */

#endif
