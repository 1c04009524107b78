/* fdm.h - everything that the library offers; the parts can be included one by one.
 *
 * D(x; sigma) of a model file (x is all zeros here, one image of 3 x 16 x 16):
 *
 *     fdm_denoiser *net = NULL;
 *     fdm_error err;
 *     double x[3 * 16 * 16] = {0}, D[3 * 16 * 16], sigma = 1.5;
 *     fdm_denoise_args args = {.n = 1, .x = x, .sigma = &sigma};
 *     fdm_status status = fdm_denoiser_load(&net, "data/emoji16_fdm_edm.safetensors", NULL, &err);
 *     if (status == FDM_OK) status = fdm_denoise(net, D, &args, &err);
 *     if (status == FDM_OK) printf("D(0; %g) = %g ...\n", sigma, D[0]);
 *     else fprintf(stderr, "%s\n", err.message);
 *     fdm_denoiser_free(&net);
 *
 * sample.h has an example that samples images, safetensors.h one that reads tensors.
 */
#ifndef FDM_H
#define FDM_H

#include "fdm/augment.h"
#include "fdm/classifier.h"
#include "fdm/compare.h"
#include "fdm/config.h"
#include "fdm/data_order.h"
#include "fdm/dataset.h"
#include "fdm/denoiser.h"
#include "fdm/emulation.h"
#include "fdm/gradient.h"
#include "fdm/import.h"
#include "fdm/init.h"
#include "fdm/loss.h"
#include "fdm/metric.h"
#include "fdm/mixture.h"
#include "fdm/npz.h"
#include "fdm/pair_stats.h"
#include "fdm/png.h"
#include "fdm/precond.h"
#include "fdm/process.h"
#include "fdm/random.h"
#include "fdm/ranks.h"
#include "fdm/replay.h"
#include "fdm/safetensors.h"
#include "fdm/sample.h"
#include "fdm/simulate.h"
#include "fdm/status.h"
#include "fdm/tensor.h"
#include "fdm/tensorfile.h"
#include "fdm/train.h"
#include "fdm/train_schedule.h"
#include "fdm/train_stream.h"
#include "fdm/trainer.h"
#include "fdm/verify.h"
#include "fdm/version.h"

#endif
