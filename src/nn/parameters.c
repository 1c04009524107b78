/* parameters.c - enumerates a network's parameters as the published module does. */
#include "nn/parameters.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

void fdm_parameters_free(struct fdm_parameters *p) {
    free(p->items);
    free(p->weight);
    free(p->bias);
    *p = (struct fdm_parameters){0};
}

static int append(struct fdm_parameters *p, const struct fdm_module *m, int module, bool is_bias) {
    struct fdm_parameter *item = &p->items[p->count];
    *item = (struct fdm_parameter){.module = module, .is_bias = is_bias, .offset = p->total};
    snprintf(item->name, sizeof item->name, "%s.%s", m->name, is_bias ? "bias" : "weight");
    const int64_t dims[] = {m->out, m->in, m->k, m->k};
    item->ndim = is_bias || m->kind == FDM_MODULE_GROUPNORM ? 1 : m->kind == FDM_MODULE_LINEAR ? 2 : 4;
    item->count = 1;
    for (int i = 0; i < item->ndim; i++) {
        item->shape[i] = dims[i];
        item->count *= (size_t)dims[i]; /* the configuration was checked: this fits */
    }
    p->total = fdm_add_saturated(p->total, item->count);
    return p->count++;
}

fdm_status fdm_parameters_list(struct fdm_parameters *p, const struct fdm_graph *g, fdm_error *err) {
    const size_t modules = (size_t)g->module_count;
    *p = (struct fdm_parameters){.items = calloc(2 * modules, sizeof *p->items),
                                 .weight = malloc(modules * sizeof *p->weight),
                                 .bias = malloc(modules * sizeof *p->bias)};
    if (!p->items || !p->weight || !p->bias) {
        fdm_parameters_free(p);
        return fdm_fail_oom(err, "parameter list", 2 * modules * sizeof *p->items);
    }
    for (int i = 0; i < g->module_count; i++) {
        const struct fdm_module *m = &g->modules[i];
        const bool weight = m->kind == FDM_MODULE_LINEAR || m->kind == FDM_MODULE_GROUPNORM ||
                            (m->kind == FDM_MODULE_CONV2D && m->k > 0);
        p->weight[i] = weight ? append(p, m, i, false) : -1;
        p->bias[i] = m->bias || m->kind == FDM_MODULE_GROUPNORM ? append(p, m, i, true) : -1;
    }
    return FDM_OK;
}
