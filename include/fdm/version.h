/* version.h - the version of this library. */
#ifndef FDM_VERSION_H
#define FDM_VERSION_H

#include "fdm/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FDM_VERSION "0.1.0" /* of the headers; the Makefile reads it from this line */

/* The version of the library that runs, "major.minor.patch": compare with FDM_VERSION to see whether headers
 * and library belong together. */
FDM_API const char *fdm_version(void);

#ifdef __cplusplus
}
#endif
#endif
