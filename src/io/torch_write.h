/* torch_write.h - tensors as a file of torch.save; internal. */
#ifndef FDM_IO_TORCH_WRITE_H
#define FDM_IO_TORCH_WRITE_H

#include "base/base.h"
#include "fdm/tensor.h"

/* A set as an OrderedDict of tensors in the zip layout (torch_file.h), with nothing in its pickle but what
 * torch.load(weights_only=True) allows.  U16, U32 and U64 need torch 2.3 or later to be read.  The file appears whole
 * or not at all; same set, same bytes.  Errors: FDM_BAD_USAGE (names as in fdm_safetensors_write), FDM_NO_RESOURCE. */
fdm_status fdm_torch_write(const fdm_tensors *set, const char *path, fdm_error *err);

#endif
