/* classifier.h - the classifier from inside: its layers, their parameters, one batch forward and backward; internal. */
#ifndef FDM_METRIC_CLASSIFIER_H
#define FDM_METRIC_CLASSIFIER_H

#include "fdm/classifier.h"
#include "nn/backend.h"

enum {
    FDM_CLASSIFIER_STAGES = 4,
    FDM_CLASSIFIER_PARAMETERS = 4 * FDM_CLASSIFIER_STAGES + 2, /* weight and bias of convolutions, norms and the head */
    FDM_CLASSIFIER_BATCH = 64                                  /* images that features are computed of at a time */
};

/* One stage: in -> out channels on side x side pixels, halved behind it or not. */
struct fdm_classifier_stage {
    int in, out, side;
    bool halved;
};

struct fdm_classifier_parameter {
    char name[32]; /* "stage0.conv.weight" */
    int ndim;
    int64_t shape[4];
    size_t offset, count; /* elements of the flat array */
};

/* Maps and vectors of a batch.  The gradient of a map is called d_ and lives in a buffer of its own; without training there
 * are none. */
struct fdm_classifier_buffers {
    int n;                                        /* 0: none yet */
    struct fdm_map x[FDM_CLASSIFIER_STAGES + 1];  /* input of stage s; the last: output of the last stage */
    struct fdm_map conv[FDM_CLASSIFIER_STAGES];   /* output of the convolution */
    struct fdm_map act[FDM_CLASSIFIER_STAGES];    /* after norm and SiLU, where it is halved next; else x[s + 1] */
    struct fdm_map mean;                          /* (N, 64, 1, 1): the features */
    struct fdm_map d_x[FDM_CLASSIFIER_STAGES + 1], d_conv[FDM_CLASSIFIER_STAGES], d_act[FDM_CLASSIFIER_STAGES], d_mean;
    struct fdm_vec features, logits, d_features, d_logits;
    char *memory; /* of all of them */
    char *scratch;
};

struct fdm_classifier {
    fdm_classifier_info info;
    struct fdm_classifier_stage stage[FDM_CLASSIFIER_STAGES];
    struct fdm_classifier_parameter parameter[FDM_CLASSIFIER_PARAMETERS];
    size_t total; /* elements of the flat array */
    float *values; /* the parameters, one behind the other */
    const struct fdm_backend *backend;
    struct fdm_exec exec;
    char *packed; /* of the parameters, at packed_at[index of the weight] */
    size_t packed_at[FDM_CLASSIFIER_PARAMETERS];
    struct fdm_classifier_buffers buffers;
};

/* Layers for images of info.channels, resolution and classes, parameters all zero.  Errors: as fdm_classifier_load. */
fdm_status fdm_classifier_create(fdm_classifier **classifier, const fdm_classifier_info *info, const fdm_run_options *run,
                                 fdm_error *err);
/* To be called when the parameters have moved: packs them. */
void fdm_classifier_changed(fdm_classifier *c);
/* Buffers for batches of up to n images, forward alone or for training.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_classifier_prepare(fdm_classifier *c, int n, bool trains, fdm_error *err);

/* Both on the buffers as prepared, for n images at most that many; x: (n, C, R, R). */
void fdm_classifier_forward(fdm_classifier *c, const double *x, int n);
/* After it: softmax, then the gradient of the mean cross entropy of the classes (n) with respect to every parameter, dense
 * and in elements of the backend's type, into gradient.  Returns the mean cross entropy. */
double fdm_classifier_backward(fdm_classifier *c, void *gradient, const int *classes, int n);

/* x = p/127.5 - 1 of one image. */
void fdm_classifier_input(double *x, const uint8_t *pixels, size_t count);

#endif
