/* fdm.h - everything that the library offers; the parts can be included one by one.
 *
 * Read two files and say how far apart their tensors are:
 *
 *     fdm_tensors a = {0}, b = {0};
 *     fdm_error err;
 *     if (fdm_tensorfile_read(&a, "a.safetensors", &err) || fdm_tensorfile_read(&b, "b.safetensors", &err))
 *         return fprintf(stderr, "%s\n", err.message), (int)err.status;
 *     fdm_comparison result = {0};
 *     fdm_status status = fdm_compare(&result, &a, &b, NULL, &(fdm_compare_options){.rtol = 1e-5}, &err);
 *     for (size_t i = 0; i < result.count; i++)
 *         printf("%-40s max abs %g\n", result.items[i].name, result.items[i].max_abs);
 *     fdm_comparison_free(&result), fdm_tensors_free(&a), fdm_tensors_free(&b);
 */
#ifndef FDM_H
#define FDM_H

#include "fdm/compare.h"
#include "fdm/config.h"
#include "fdm/denoiser.h"
#include "fdm/npz.h"
#include "fdm/png.h"
#include "fdm/precond.h"
#include "fdm/process.h"
#include "fdm/random.h"
#include "fdm/safetensors.h"
#include "fdm/sample.h"
#include "fdm/status.h"
#include "fdm/tensor.h"
#include "fdm/tensorfile.h"
#include "fdm/version.h"

#endif
