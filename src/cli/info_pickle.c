/* info_pickle.c - what `fdm info` says of a pickle. */
#include "cli/info_pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "train/published.h"

static bool ends_in(const char *path, const char *const *extensions, size_t count) {
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < count; i++)
        if (strcasecmp(dot, extensions[i]) == 0) return true;
    return false;
}

bool fdm_info_is_pickle(const char *path) {
    static const char *const pickles[] = {".pkl", ".pt", ".pth", ".pickle"}, *const others[] = {".safetensors", ".npz", ".npy"};
    struct fdm_file_map map;
    if (ends_in(path, pickles, FDM_ARRAY_LEN(pickles))) return true;
    if (ends_in(path, others, FDM_ARRAY_LEN(others)) || fdm_file_map_open(&map, path, NULL) != FDM_OK) return false;
    const bool is = fdm_is_torch_file(map.bytes, map.size);
    fdm_file_map_close(&map);
    return is;
}

static fdm_status read_tensors(struct fdm_pickle_info *info, struct fdm_published *p, fdm_error *err) {
    static char nothing[1]; /* its data is not looked at */
    struct fdm_torch_list list = {0};
    fdm_status status = fdm_torch_collect(&list, &p->file, &p->file.pickle.top, "", err);
    for (size_t i = 0; i < list.count && status == FDM_OK; i++) {
        const struct fdm_torch_tensor *t = &list.items[i].tensor;
        status = fdm_tensors_append(&info->tensors, list.items[i].name, t->dtype, t->ndim, t->shape, nothing, false, NULL, err);
    }
    fdm_torch_list_free(&list);
    return status;
}

fdm_status fdm_info_read_pickle(struct fdm_pickle_info *info, const char *path, fdm_error *err) {
    static const char *const kinds[] = {"network snapshot", "training state", "network", "values"};
    struct fdm_published p;
    char layout[64];
    *info = (struct fdm_pickle_info){0};
    fdm_status status = fdm_published_open(&p, path, err);
    if (status != FDM_OK) return status;
    fdm_torch_describe(layout, &p.file);
    snprintf(info->kind, sizeof info->kind, "%s: %s", kinds[p.kind], layout);
    info->has_network = p.network != NULL;
    info->config = p.config;
    status = read_tensors(info, &p, err); /* first: it refuses what stands for too much */
    if (status == FDM_OK) status = fdm_published_values(&info->values, &p, err);
    fdm_published_close(&p);
    if (status != FDM_OK) fdm_info_free_pickle(info);
    return status;
}

void fdm_info_free_pickle(struct fdm_pickle_info *info) {
    fdm_tensors_free(&info->tensors);
    fdm_published_values_free(&info->values);
    *info = (struct fdm_pickle_info){0};
}
