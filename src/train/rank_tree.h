/* rank_tree.h - one array summed over ranks along the binary tree over samples, on every rank the same bits; internal.
 *
 * Rank r of P (a power of two) holds the sum of the samples r B/P .. (r+1) B/P - 1, a whole subtree of the tree over the
 * batch (nn/sample_tree.h).  What is left of that tree are its upper log2 P levels, which join neighbours first:
 *
 *     ((g0 + g1) + (g2 + g3)) + ((g4 + g5) + (g6 + g7))
 *
 * Recursive halving does them: at level m = 1, 2, 4, ... rank r and its neighbour r ^ m cut what they hold in two, keep
 * one half each, and add the other's part to it.  After the last level each rank has 1/P of the sum; then the levels are
 * walked back and the pieces exchanged.  2 (P-1)/P of the array go out of and into every rank, however many there are,
 * and no element is ever added in another order than on one rank (a pair's sum does not depend on which side adds it).
 */
#ifndef FDM_TRAIN_RANK_TREE_H
#define FDM_TRAIN_RANK_TREE_H

#include "fdm/ranks.h"

struct fdm_rank_tree {
    const fdm_ranks *ranks; /* their number is a power of two */
    size_t element;         /* bytes */
    void (*add)(void *user, void *left, const void *right, size_t count); /* left += right */
    void *user;
    void *scratch; /* fdm_rank_tree_scratch of the longest array, in elements */
};

static inline bool fdm_is_power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

/* Elements of scratch for an array of `count`. */
size_t fdm_rank_tree_scratch(size_t count);
/* Collective, on FDM_CHANNEL_GRADIENT: data[count] of every rank becomes the sum.  Errors: as an exchange. */
fdm_status fdm_rank_tree_sum(const struct fdm_rank_tree *tree, void *data, size_t count, fdm_error *err);

#endif
