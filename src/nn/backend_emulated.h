/* backend_emulated.h - the f32 layers with operands and results rounded as on a GPU; internal. */
#ifndef FDM_NN_BACKEND_EMULATED_H
#define FDM_NN_BACKEND_EMULATED_H

#include "fdm/emulation.h"
#include "nn/backend.h"

/* The table; every call's exec->settings is a const fdm_emulation. */
const struct fdm_backend *fdm_backend_emulated(void);

#endif
