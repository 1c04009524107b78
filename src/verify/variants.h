/* variants.h - the reference layers with one thing changed: what a program would compute that has that mistake; internal. */
#ifndef FDM_VERIFY_VARIANTS_H
#define FDM_VERIFY_VARIANTS_H

#include <stdbool.h>

#include "nn/backend.h"

enum fdm_padding { FDM_PAD_ZEROS, FDM_PAD_CIRCULAR, FDM_PAD_REFLECT, FDM_PAD_REPLICATE };
enum fdm_kernel_order { FDM_KERNEL_AS_IS, FDM_KERNEL_FLIPPED, FDM_KERNEL_TURNED, FDM_KERNEL_TRANSPOSED };
enum fdm_embedding_mistake { FDM_EMBEDDING_AS_IS, FDM_EMBEDDING_SIN_FIRST, FDM_EMBEDDING_HALF, FDM_EMBEDDING_NO_TWO_PI,
                             FDM_EMBEDDING_BF16, FDM_EMBEDDING_FP16 };

/* All zeros: nothing changed. */
struct fdm_variant {
    double eps;    /* instead of the norm's, or 0 */
    int groups;    /* likewise */
    bool unbiased; /* variance over count - 1 */
    bool no_add;   /* affine(emb) is not added before norm1 */
    bool no_silu, no_bias, no_residual, no_swap;
    enum fdm_padding padding;
    enum fdm_kernel_order kernel; /* flipped: convolution for correlation; turned: kx and ky exchanged; transposed: in and out */
    double scale;                 /* instead of sqrt(1/2) after + residual, or 0 */
    double in_scale;              /* instead of map_label's sqrt(label_dim), or 0 */
    double logits;                /* the scores q.k/sqrt(C) are multiplied by C to this power */
    bool softmax_over_queries;
    int qkv_order;   /* 0..5: which permutation of q, k, v the channels 3j, 3j+1, 3j+2 are taken for */
    bool qkv_blocks; /* q, k, v are taken for whole blocks of channels */
    const double *taps; /* of another resampling filter, not normalised, or NULL */
    int tap_count;
    double gain; /* of the resampling, or 0 */
    bool concat_swapped;
    const double *skip; /* what is concatenated instead, or NULL */
    enum fdm_embedding_mistake embedding;
    bool failed; /* set by a layer that found no memory */
};

/* A table like the reference's; exec->settings is the struct fdm_variant. */
struct fdm_backend fdm_variant_backend(void);
/* The six orders: fdm_qkv_orders[o][part] is where q, k, v are taken from. */
extern const int fdm_qkv_orders[6][3];

#endif
