/* augment_warp.h - the resampling chain of the augmentation for one image; internal. */
#ifndef FDM_TRAIN_AUGMENT_WARP_H
#define FDM_TRAIN_AUGMENT_WARP_H

#include "base/base.h"
#include "fdm/augment.h"

/* Bytes of scratch for any image of this size and margin; SIZE_MAX on overflow. */
size_t fdm_augment_scratch(int channels, int resolution, fdm_augment_margin margin);
/* out (channels, R, R) = image (the same), flipped and warped; out may be image.  `warped`, if not NULL, receives the
 * bilinear samples before the last low-pass, (channels, 2(R+6), 2(R+6)). */
void fdm_augment_warp(double *out, double *warped, const double *image, const fdm_augment_map *map, int channels,
                      int resolution, fdm_augment_margin margin, void *scratch);

#endif
