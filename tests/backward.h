/* backward.h - test helper: one layer's operands as plain doubles, and its backward call on any backend.
 *
 * A case is a layer with options; its values are random numbers that f32 holds exactly.  A layer's operands are
 * called the same whatever the layer:
 *   in      the input (attention: qkv; concat: a)
 *   extra   the second operand: residual (conv2d, resample, linear), add (groupnorm), b (concat)
 */
#ifndef FDM_TEST_BACKWARD_H
#define FDM_TEST_BACKWARD_H

#include "backends.h"

enum layer_kind {
    LAYER_CONV2D,
    LAYER_RESAMPLE,
    LAYER_GROUPNORM,
    LAYER_LINEAR,
    LAYER_ATTENTION,
    LAYER_CONCAT,
    LAYER_KINDS
};
extern const char *const layer_kind_name[LAYER_KINDS];

struct layer_case {
    enum layer_kind kind;
    int n, in, out, h, w; /* channels in and out (conv2d, linear); attention: in = C; concat: a has in, b has out */
    int k, pad;           /* conv2d; pad also resample */
    int len;              /* resample: filter [1,1] for 2, [1,3,3,1] for 4, else without symmetry */
    bool up;
    int groups;
    bool extra, bias, silu;
    double scale;   /* of the epilogue, or linear's in_scale; 0: 1 */
    double dropout; /* groupnorm */
};

/* n samples, C-ordered; NULL where the layer has no such operand. */
struct layer_values {
    struct fdm_map in, extra, out; /* shapes for n samples, halo and data unset; (N, C) operands have h = w = 1 */
    double *x, *extra_x, *d_out;
    double *before, *extra_before; /* what an accumulating target holds already */
    float *weight, *bias, *filter;
    size_t weights, biases; /* counts */
    uint64_t *keys;         /* of the dropout */
};

enum layer_targets { TARGETS_OVERWRITE, TARGETS_ACCUMULATE, TARGETS_NONE };

/* NULL where there is no such operand, or it was not wanted. */
struct layer_gradients {
    double *x, *extra, *weight, *bias;
};

/* Elements of one sample of a shape, and of all. */
size_t layer_sample(const struct fdm_map *shape);
size_t layer_all(const struct fdm_map *shape);
/* "conv2d n2 5->7 7x9 k3 pad1 ..." */
void layer_describe(char *text, size_t size, const struct layer_case *);
/* Memory belongs to b. */
struct layer_values layer_values_of(struct test_backend *b, const struct layer_case *, uint64_t seed);
/* false: the backend has no such function yet. */
bool layer_has_backward(const struct test_backend *b, enum layer_kind);
/* The backward call for samples first..first+count-1, scratch as asked for; f32: also checks that the targets' halos
 * and pad channels are zero.  The gradients belong to b; those of data have count samples. */
struct layer_gradients layer_backward(struct test_backend *b, const struct layer_case *, const struct layer_values *,
                                      int first, int count, enum layer_targets);

#endif
