/* emulation.h - the number formats of GPUs, and networks computed as a GPU would in them.
 *
 *   fp32   binary32, as the f32 backends compute
 *   tf32   1+8+10 bits: what tensor cores take of an f32 operand; products and sums stay in f32, and so do results
 *   bf16   1+8+7 bits: operands and results of layers
 *   fp16   binary16: operands and results of layers
 *
 * Each class of layers has a format of its own, because PyTorch has a switch for each: cudnn.allow_tf32 is true unless
 * switched off (convolutions), cuda.matmul.allow_tf32 is not (linear layers, attention).  In bf16 and fp16 the result of
 * every single operation of the published program is rounded (convolution, then + skip, then * sqrt(1/2), ...).
 */
#ifndef FDM_EMULATION_H
#define FDM_EMULATION_H

#include <stdbool.h>
#include <stdint.h>

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator, name, significant bits with the leading one, smallest normal exponent, largest finite value) */
#define FDM_FORMATS(X)                                        \
    X(FDM_FORMAT_FP32, "fp32", 24, -126, 0x1.fffffep+127)     \
    X(FDM_FORMAT_TF32, "tf32", 11, -126, 0x1.ffcp+127)        \
    X(FDM_FORMAT_BF16, "bf16", 8, -126, 0x1.fep+127)          \
    X(FDM_FORMAT_FP16, "fp16", 11, -14, 65504.0)

typedef enum fdm_format {
#define FDM_FORMAT_ENUM(e, name, bits, emin, max) e,
    FDM_FORMATS(FDM_FORMAT_ENUM)
#undef FDM_FORMAT_ENUM
        FDM_FORMAT_COUNT
} fdm_format;

/* "fp32", ...; "?" for what is no format.  The other way: false if there is no such name. */
FDM_API const char *fdm_format_name(fdm_format format);
FDM_API bool fdm_format_find(fdm_format *format, const char *name);
/* Unit roundoff u: half the distance from 1 to the next number (2^-24, 2^-11, 2^-8, 2^-11). */
FDM_API double fdm_format_unit(fdm_format format);

/* The nearest number of the format, ties to the even one; subnormals kept, beyond the largest finite value by half a
 * unit or more: infinity; NaN stays NaN.  The result is exact in f32. */
FDM_API float fdm_format_round(fdm_format format, float x);
/* The same as bits of the format (binary16, bfloat16). */
FDM_API uint16_t fdm_float_to_f16(float x);
FDM_API uint16_t fdm_float_to_bf16(float x);
FDM_API float fdm_float_from_f16(uint16_t bits);
FDM_API float fdm_float_from_bf16(uint16_t bits);

/* X(enumerator, name): classes of layers that a format is chosen for. */
#define FDM_LAYER_CLASSES(X)                                                                    \
    X(FDM_LAYERS_CONV, "conv")           /* convolutions, resampling, and the sums after them */ \
    X(FDM_LAYERS_LINEAR, "linear")       /* map_* and affine */                                  \
    X(FDM_LAYERS_ATTENTION, "attention") /* scores and weighted sums */                          \
    X(FDM_LAYERS_NORM, "norm")           /* group normalisation and SiLU */

typedef enum fdm_layer_class {
#define FDM_LAYERS_ENUM(e, name) e,
    FDM_LAYER_CLASSES(FDM_LAYERS_ENUM)
#undef FDM_LAYERS_ENUM
        FDM_LAYER_CLASS_COUNT
} fdm_layer_class;
FDM_API const char *fdm_layer_class_name(fdm_layer_class layers);

/* What to compute in which format.  All zeros: everything in fp32. */
typedef struct fdm_emulation {
    fdm_format format[FDM_LAYER_CLASS_COUNT];
} fdm_emulation;

/* fp32, bf16, fp16: every class; tf32: convolutions only, PyTorch's default since GPUs have TF32. */
FDM_API fdm_emulation fdm_emulation_of(fdm_format format);
/* Overrides classes by a list such as "linear=tf32,attention=tf32".
 * Errors: FDM_BAD_USAGE names the part that is not class=format. */
FDM_API fdm_status fdm_emulation_set(fdm_emulation *emulation, const char *list, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
