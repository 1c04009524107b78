/* status.h - how every fdm function reports failure.
 *
 * The library never prints, exits or aborts.  A function that can fail returns an fdm_status and, if the
 * caller passes a non-NULL fdm_error, one line that a person can act on: what, where (file, byte, tensor
 * or option), and what to do.  The numeric values are the exit codes of the `fdm` command.
 */
#ifndef FDM_STATUS_H
#define FDM_STATUS_H

#if defined(__GNUC__)
#define FDM_API __attribute__((visibility("default")))
#else
#define FDM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fdm_status {
    FDM_OK = 0,
    FDM_MISMATCH = 1,      /* a comparison ran and failed */
    FDM_BAD_USAGE = 2,     /* an option, argument or environment variable is wrong */
    FDM_BAD_INPUT = 3,     /* an input file is missing, malformed or does not fit */
    FDM_NO_RESOURCE = 4,   /* out of memory, disk full, output not writable */
    FDM_INTERRUPTED = 130  /* the caller asked to stop */
} fdm_status;

typedef struct fdm_error {
    fdm_status status;
    char message[4096]; /* one line, no trailing newline; long lists of names are cut with "..." */
} fdm_error;

#ifdef __cplusplus
}
#endif
#endif
