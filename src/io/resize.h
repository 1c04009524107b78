/* resize.h - images cut and scaled; internal. */
#ifndef FDM_IO_RESIZE_H
#define FDM_IO_RESIZE_H

#include "base/base.h"
#include "fdm/png.h"

struct fdm_rectangle {
    int x, y, width, height;
};

/* The part `from` of `in` scaled to width x height, with as many channels.  Separable Lanczos filter of three
 * lobes,
 *
 *     L(t) = sinc(t) sinc(t/3),  |t| < 3,     out[i] = sum_k in[k] L((k + 1/2 - c) / s) / sum_k L(...),
 *     c = (i + 1/2) n_in / n_out,  s = max(n_in / n_out, 1),
 *
 * so that making an image smaller averages over all of it (no aliasing), and what lies beyond the edges counts not
 * at all.  Computed in f64, x then y, rounded and clipped to 0..255 once at the end.  A size that stays is a plain
 * copy. Free with fdm_image_free.  Errors, after which *out is all zeros: FDM_NO_RESOURCE. */
fdm_status fdm_image_resize(fdm_image *out, const fdm_image *in, struct fdm_rectangle from, int width, int height,
                            fdm_error *err);

#endif
