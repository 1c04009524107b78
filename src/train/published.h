/* published.h - what the pickles of the published program hold; internal. */
#ifndef FDM_TRAIN_PUBLISHED_H
#define FDM_TRAIN_PUBLISHED_H

#include "fdm/config.h"
#include "io/torch_tensor.h"

enum fdm_published_kind { FDM_PUBLISHED_SNAPSHOT, FDM_PUBLISHED_STATE, FDM_PUBLISHED_NETWORK, FDM_PUBLISHED_OTHER };

struct fdm_published {
    struct fdm_torch_file file;
    enum fdm_published_kind kind;
    const struct fdm_pickle_value *network; /* the module: ema, net, or the object itself; NULL if there is none */
    fdm_config config;                      /* of it */
    size_t json_left; /* bytes of JSON that may still be made of its values */
};

/* Opens a file, and reads the network's configuration where there is a network.  Not moved while open.
 * Errors, after which there is nothing to close: FDM_BAD_INPUT (an unknown architecture is named), FDM_NO_RESOURCE. */
fdm_status fdm_published_open(struct fdm_published *p, const char *path, fdm_error *err);
/* A file in memory, which must outlive the result. */
fdm_status fdm_published_parse(struct fdm_published *p, const void *bytes, size_t size, const char *label, fdm_error *err);
void fdm_published_close(struct fdm_published *p);

/* Its tensors, named "<prefix><state_dict name>", checked against the configuration. */
fdm_status fdm_published_network(struct fdm_torch_list *list, struct fdm_published *p, const char *prefix, fdm_error *err);
/* Tensors "<prefix>...", names cut by it, against a configuration, as F32. */
fdm_status fdm_published_check(const struct fdm_torch_list *list, const fdm_config *config, size_t prefix_bytes,
                               const char *label, fdm_error *err);

/* Adam's moments of the list's parameters ("net.<name>"): appends adam_m.<name> and adam_v.<name>.  steps: malloc'd, one
 * for each parameter.  A state from before the first update has none: zeros. */
fdm_status fdm_published_moments(struct fdm_torch_list *list, float **steps, size_t *count, struct fdm_published *p, fdm_error *err);

/* A value of the top-level dict as JSON, NULL if there is none, or if it is too long or too costly: all values of a file share
 * 256 KB of text, because many may be the same one in other words.  malloc'd.  *failed: no memory. */
char *fdm_published_json(struct fdm_published *p, const struct fdm_pickle_value *v, bool *failed);

/* The first entries of the top-level dict but for the networks, each as JSON. */
struct fdm_published_value {
    char *name; /* UTF-8 */
    char *json; /* NULL: too long to show */
};
struct fdm_published_values {
    struct fdm_published_value *items;
    size_t count;
};
/* Errors, after which there is nothing to free: FDM_NO_RESOURCE. */
fdm_status fdm_published_values(struct fdm_published_values *out, struct fdm_published *p, fdm_error *err);
void fdm_published_values_free(struct fdm_published_values *values);

#endif
