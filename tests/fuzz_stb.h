/* fuzz_stb.h - stb instrumented, instead of the system's library, for fuzzers that decode images (see fuzz.mk). */
#ifdef FDM_FUZZ_OWN_STB
#if defined(__clang__)
#pragma clang diagnostic ignored "-Weverything"
#pragma clang attribute push(__attribute__((no_sanitize("undefined"))),                                            \
                             apply_to = function) /* its pointer arithmetic is loose */
#endif
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
