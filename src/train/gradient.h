/* gradient.h - what the rest of the program may know of an fdm_gradient's inside; internal. */
#ifndef FDM_TRAIN_GRADIENT_H
#define FDM_TRAIN_GRADIENT_H

#include "fdm/gradient.h"

struct fdm_network; /* nn/network.h */

/* The network inside: `fdm bench` puts clocks around its layer functions. */
struct fdm_network *fdm_gradient_network(fdm_gradient *gradient);

#endif
