/* pair_blocks.h - two tensors of any dtypes, some elements at a time, as doubles and distances; internal. */
#ifndef FDM_VERIFY_PAIR_BLOCKS_H
#define FDM_VERIFY_PAIR_BLOCKS_H

#include <math.h>
#include <stdbool.h>

#include "base/base.h"
#include "fdm/tensor.h"

/* Two tensors of one shape: expected, found. */
struct fdm_pair {
    const fdm_tensor *e, *f;
    bool same_dtype, floats; /* floats: e's dtype */
    fdm_dtype ulp_dtype;     /* whose ULPs are counted; FDM_DTYPE_COUNT: there are none */
};
void fdm_pair_begin(struct fdm_pair *pair, const fdm_tensor *e, const fdm_tensor *f);

enum { FDM_PAIR_BLOCK = 1024, FDM_LEFT_OUT = -1 };

/* distance: |f - e|, exact for integers; infinite if only one is finite; FDM_LEFT_OUT for the same NaN or infinity.
 * relative: the same of |f - e| / |e|; FDM_LEFT_OUT where e = 0, too. */
struct fdm_pair_block {
    int n;
    double e[FDM_PAIR_BLOCK], f[FDM_PAIR_BLOCK], distance[FDM_PAIR_BLOCK], relative[FDM_PAIR_BLOCK];
    uint64_t ulps[FDM_PAIR_BLOCK]; /* only if asked for; 0 where there are none */
};
/* Elements [first, first + n), n <= FDM_PAIR_BLOCK. */
void fdm_pair_load(struct fdm_pair_block *b, const struct fdm_pair *pair, int64_t first, int n, bool want_ulps);

static inline bool fdm_is_measured(const struct fdm_pair_block *b, int i) { return isfinite(b->e[i]) && isfinite(b->f[i]); }

#endif
