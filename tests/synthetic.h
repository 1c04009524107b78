/* synthetic.h - test helper: features and images with known statistics. */
#ifndef FDM_TEST_SYNTHETIC_H
#define FDM_TEST_SYNTHETIC_H

#include "fdm/metric.h"

/* (n, d) numbers N(0, 1) of a generator of that seed; free with fdm_features_free. */
fdm_features synthetic_normal(int64_t n, int d, uint64_t seed);
/* Each feature j times scale, plus shift. */
void synthetic_affine(fdm_features *x, double scale, double shift);
/* Gray or colour images of uniform noise. */
fdm_images synthetic_noise(int64_t n, int channels, int resolution, uint64_t seed);
/* Images of `classes` kinds that are easy to tell apart (a bright stripe somewhere, noise everywhere), image i of class
 * i % classes. */
fdm_images synthetic_stripes(int64_t n, int channels, int resolution, int classes, uint64_t seed);
/* The images as a zip archive with labels i % classes (0: without). */
void synthetic_zip(const char *path, const fdm_images *images, int classes);

#endif
