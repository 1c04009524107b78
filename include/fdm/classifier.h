/* classifier.h - a small convolutional network that tells the classes of a data set apart; the measures of fdm/metric.h
 * take its last layer but one for features.
 *
 *     x    images, p/127.5 - 1                                                          (N, C, R, R)
 *     four stages:  x = silu(groupnorm(conv3x3(x))),  then while the side is above 4: mean over 2 x 2 pixels
 *                   channels 32, 64, 64, 64
 *     features      mean of x over all pixels                                           (N, 64)
 *     logits        linear(features)                                                    (N, classes)
 *
 * Trained by this program, with the layers and the optimiser of the diffusion networks: Adam on the cross entropy, learning
 * rate falling linearly to 0, each image shifted at random by up to R/16 pixels.  A tenth of the images is held out and
 * counts only for the accuracy that is reported.  Weights and features have the same bits on every instruction set and for
 * any number of threads, features for any batch; the numbers of a run depend on its seed alone.
 *
 *     fdm_classifier *c;
 *     fdm_classifier_options options = fdm_classifier_defaults();
 *     if (fdm_classifier_train(&c, set, &options, NULL, &err) == FDM_OK) fdm_classifier_save(c, "c.safetensors", &err);
 *     fdm_classifier_free(&c);
 */
#ifndef FDM_CLASSIFIER_H
#define FDM_CLASSIFIER_H

#include "fdm/denoiser.h"
#include "fdm/metric.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FDM_CLASSIFIER_FEATURES = 64, FDM_CLASSIFIER_MIN_RESOLUTION = 4, FDM_CLASSIFIER_MAX_RESOLUTION = 256 };

typedef struct fdm_classifier fdm_classifier;

typedef struct fdm_classifier_info {
    int channels, resolution, classes;
    int64_t parameters;
    int64_t images;        /* that it was trained on, repetitions counted */
    uint64_t seed;
    double accuracy;       /* share of the held-out images whose class it names; NaN if none were held out */
    uint64_t fingerprint;  /* of the weights: equal for equal weights, and hardly for others */
} fdm_classifier_info;

typedef struct fdm_classifier_options {
    int epochs; /* 30: how often each image is seen */
    int batch;  /* 64 */
    double lr;  /* 2e-3 */
    uint64_t seed;
    void (*progress)(void *user, int64_t images, int64_t total, double loss); /* after each update; or NULL */
    fdm_stop_fn stop;                                                         /* or NULL */
    void *user;                                                               /* of both */
} fdm_classifier_options;
FDM_API fdm_classifier_options fdm_classifier_defaults(void);

/* Trains on a data set that was opened with labels, one class an image.  Among ranks (run->ranks) all call it, and each trains
 * the same classifier, waiting for the others after every epoch.  *classifier is NULL on failure.
 * Errors: FDM_BAD_INPUT for a data set without classes, with fewer than 2 or with images of a side outside
 * FDM_CLASSIFIER_MIN_RESOLUTION .. MAX_RESOLUTION; FDM_BAD_USAGE for an option out of range; FDM_NO_RESOURCE;
 * FDM_INTERRUPTED. */
FDM_API fdm_status fdm_classifier_train(fdm_classifier **classifier, fdm_dataset *set, const fdm_classifier_options *options,
                                        const fdm_run_options *run, fdm_error *err);

/* A classifier is a safetensors file: stage0.conv.weight ... head.bias, metadata `classifier` = what fdm_classifier_info
 * holds, as JSON.  Errors: FDM_BAD_INPUT names the file and all tensors that are missing or misshapen; FDM_BAD_USAGE for a
 * backend that there is none of; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_classifier_load(fdm_classifier **classifier, const char *path, const fdm_run_options *run,
                                       fdm_error *err);
FDM_API fdm_status fdm_classifier_save(const fdm_classifier *classifier, const char *path, fdm_error *err);
/* Frees and sets *classifier to NULL. */
FDM_API void fdm_classifier_free(fdm_classifier **classifier);

FDM_API fdm_classifier_info fdm_classifier_describe(const fdm_classifier *classifier);

/* The features of images into an all-zero struct, and, unless logits is NULL, the logits (N, classes).
 * Errors: FDM_BAD_INPUT for images of another size; FDM_NO_RESOURCE. */
FDM_API fdm_status fdm_classifier_features(fdm_features *features, double *logits, fdm_classifier *classifier,
                                           const fdm_images *images, fdm_error *err);

#ifdef __cplusplus
}
#endif
#endif
