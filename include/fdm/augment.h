/* augment.h - the published augmentation pipe: flips, scaling, rotation, anisotropic scaling, translation.
 *
 * Non-leaky: the network is told what was done through 9 augment labels.  Six transformations, each drawn per image
 * as a value and a mask; the value counts where its mask u < p, else it is 0 (x-flip: always):
 *     x-flip w in {0,1};  y-flip w in {0,1};  scale w ~ N(0,1), s = 2^(0.2 w);  rotation w ~ U(-pi, pi);
 *     anisotropic scale w ~ N(0,1), a = 2^(0.2 w), along r ~ U(-pi, pi), r where its own mask u < 1/2;
 *     shift (w_x, w_y) ~ N(0,1), one mask, t = 0.125 R w
 * Flips permute pixels.  The rest is one affine map, here from output to input:
 *     G = S(1/s, 1/s) Rot(w) Rot(-r) S(1/a, a) Rot(r) T(-t_x, -t_y)
 * applied by resampling: reflect-pad by a margin, upsample by 2 with a 12-tap wavelet low-pass, sample bilinearly
 * along G, downsample by 2 with the same low-pass.  The chain runs even where G is the identity.
 *
 * Labels are computed in f32 as published.  Geometry and pixels are f64: one result for every backend, within 1e-14
 * of the published program run in f64, and as close to its f32 result as that is to the truth (3e-6).
 */
#ifndef FDM_AUGMENT_H
#define FDM_AUGMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "fdm/random.h"
#include "fdm/status.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FDM_AUGMENT_LABELS = 9 };

/* The random numbers of one image, in the order in which they are drawn; <name>_u are masks, in [0, 1).
 * X(field, number of the draw, its kind, components) */
#define FDM_AUGMENT_DRAWS(X)                                                                                       \
    X(xflip, 0, "randint", 1)                                                                                      \
    X(xflip_u, 1, "rand", 1)                                                                                       \
    X(yflip, 2, "randint", 1)                                                                                      \
    X(yflip_u, 3, "rand", 1)                                                                                       \
    X(scale, 4, "randn", 1)                                                                                        \
    X(scale_u, 5, "rand", 1)                                                                                       \
    X(rotation, 6, "rand", 1) /* u of the angle (2u - 1) pi */                                                     \
    X(rotation_u, 7, "rand", 1)                                                                                    \
    X(aniso, 8, "randn", 1)                                                                                        \
    X(direction, 9, "rand", 1) /* u of the angle (2u - 1) pi */                                                    \
    X(aniso_u, 10, "rand", 1)                                                                                      \
    X(direction_u, 11, "rand", 1)                                                                                  \
    X(shift, 12, "randn", 2) /* x, y */                                                                            \
    X(shift_u, 13, "rand", 1)

typedef struct fdm_augment_draws {
#define FDM_AUGMENT_FIELD(field, number, kind, components) float field[components];
    FDM_AUGMENT_DRAWS(FDM_AUGMENT_FIELD)
#undef FDM_AUGMENT_FIELD
} fdm_augment_draws;

/* Draws for a batch of one image. */
FDM_API void fdm_augment_draw(fdm_augment_draws *draws, fdm_rng *rng);

/* Recorded draws of a batch of n >= 1: tensors <prefix>00.randint [n,1,1,1], 01.rand [n,1,1,1], 02.randint, 03.rand,
 * 04.randn [n], ..., 12.randn [2,n], 13.rand [1,n]; randint I64, the others F32.  `where` names their source.
 * Errors: FDM_BAD_INPUT naming the tensor that is missing, misshapen, or holds what such a draw cannot (a flip that
 * is neither 0 nor 1, a uniform outside [0, 1), a normal that is not finite or beyond 64). */
FDM_API fdm_status fdm_augment_draws_from_tensors(fdm_augment_draws *draws, int n, const fdm_tensors *set,
                                                  const char *prefix, const char *where, fdm_error *err);

/* The labels of one image: x-flip, y-flip, scale w, cos w - 1, sin w, w cos r, w sin r, w_x, w_y; every operation in
 * f32.  p: the augmentation probability, 0.12 as published. */
FDM_API void fdm_augment_labels(double labels[FDM_AUGMENT_LABELS], const fdm_augment_draws *draws, double p);

/* What is done to one image: flips, then out(position) = in(G position), in pixels from the image's centre. */
typedef struct fdm_augment_map {
    bool xflip, yflip;
    double G[2][3];
} fdm_augment_map;
FDM_API void fdm_augment_map_of(fdm_augment_map *map, const fdm_augment_draws *draws, double p, int resolution);

/* Pixels of reflect padding that a batch of n images needs: left, top, right, bottom, each at most resolution - 1. */
typedef struct fdm_augment_margin {
    int x0, y0, x1, y1;
} fdm_augment_margin;
FDM_API fdm_augment_margin fdm_augment_margin_of(const fdm_augment_map *maps, int n, int resolution);

typedef enum fdm_augment_padding {
    FDM_AUGMENT_PAD_BATCH, /* one margin for the batch, as published: an image depends (at its edges) on the others */
    FDM_AUGMENT_PAD_IMAGE  /* each image its own: the same bits however a batch is split */
} fdm_augment_padding;

/* out = images (n, channels, resolution, resolution), augmented; out may be images.  labels (n, 9) or NULL.
 * `threads` >= 1 work on different images; the result does not depend on their number.
 * Errors: FDM_NO_RESOURCE; then out may be partly written. */
FDM_API fdm_status fdm_augment_batch(double *out, double *labels, const double *images, const fdm_augment_draws *draws,
                                     int n, int channels, int resolution, double p, fdm_augment_padding padding,
                                     int threads, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
