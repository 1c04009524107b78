/* version.c - which library runs. */
#include "fdm/version.h"

const char *fdm_version(void) { return FDM_VERSION; }
