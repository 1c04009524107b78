/* info_pickle.h - what `fdm info` says of a pickle; internal. */
#ifndef FDM_CLI_INFO_PICKLE_H
#define FDM_CLI_INFO_PICKLE_H

#include "fdm/config.h"
#include "fdm/tensor.h"
#include "train/published.h"

/* A pickle's contents in the form of a tensor file: names, types and shapes, whose data must not be read. */
struct fdm_pickle_info {
    bool has_network;
    fdm_config config;
    fdm_tensors tensors;
    char kind[128];  /* "network snapshot: pickle, protocol 4" */
    struct fdm_published_values values; /* what is no network */
};

/* Whether the file is one of Python's by its extension, or by its first bytes if the extension says nothing. */
bool fdm_info_is_pickle(const char *path);
/* Errors, after which there is nothing to free: FDM_BAD_INPUT, FDM_NO_RESOURCE. */
fdm_status fdm_info_read_pickle(struct fdm_pickle_info *info, const char *path, fdm_error *err);
void fdm_info_free_pickle(struct fdm_pickle_info *info);

#endif
