/* tolerance.h - how far rounding alone may take a step's result, from its reduction length and measured magnitudes;
 * internal. */
#ifndef FDM_VERIFY_TOLERANCE_H
#define FDM_VERIFY_TOLERANCE_H

#include "verify/teacher.h"

/* RMS bound of the error that a step adds to its result, and the formula with its numbers.
 *
 * A sum of K products of independent signs grows like sqrt(k) s, s = rms(w) rms(x), and each of its K additions rounds to
 * a relative u: in one chain that is about u s K / 2, in any other order less.  Operands rounded to u_op move each product
 * by sqrt(2) u_op.  The result is stored with u_out:
 *
 *   convolution, linear   (sqrt(2) u_op + sqrt(K) u) sqrt(K) rms(w) rms(x) + u_out rms(y)
 *   group normalisation   (6 u (1 + rms(v)/deviation) + 2 u_out) rms(y)       v = x + add; its mean cancels
 *   noise embedding       (|c - c64|/|c| + 4 u) rms(a) + u                    angles a = c f
 *   all others            (3 u + 2 u_out) rms(y)                              a few additions
 *
 * with u = 2^-24. */
struct fdm_tolerance {
    double rms;
    char formula[160];
};

/* Of the latest step in the forced truth lane; y: its result (raw or final) of `count` elements. */
struct fdm_tolerance fdm_tolerance_of(const struct fdm_teacher *t, const struct fdm_step *s, const double *y, size_t count);
/* Of a sum of a few products: D = c_skip x + c_out F, or c_in x. */
struct fdm_tolerance fdm_tolerance_elementwise(double rms, fdm_format storage);
/* From an RMS to a maximum over `count` elements whose magnitudes vary. */
double fdm_tolerance_max(double rms, int64_t count);

/* The format that a class of layers stores results in. */
fdm_format fdm_storage_of(const fdm_emulation *e, fdm_layer_class layers);
fdm_layer_class fdm_step_class(const struct fdm_step *s);

#endif
