/* networks.c - test helper: whole models on every backend that this machine can run. */
#include "networks.h"

#include <check.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "fdm/safetensors.h"
#include "golden.h"
#include "nn/winograd.h"
#include "simd/kernels.h"

int runners(struct runner list[MAX_RUNNERS]) {
    static const struct runner f32[] = {{"portable", "auto", "portable", true, NULL},
                                        {"avx2", "auto", "avx2", true, NULL},
                                        {"avx512", "auto", "avx512", true, NULL}};
    int n = 0;
    list[n++] = (struct runner){"reference", "reference", NULL, false, NULL};
    for (int isa = 0; isa < FDM_ISA_COUNT; isa++) {
        if (fdm_isa_available((enum fdm_isa)isa)) list[n++] = f32[isa];
        else printf("SKIP: %s: this CPU cannot run it\n", f32[isa].label);
    }
    return n;
}

int runners_of_mode(struct runner list[MAX_RUNNERS], fdm_conv_mode mode) {
    const int count = runners(list) - 1;
    for (int k = 0; k < count; k++) {
        list[k] = list[k + 1];
        list[k].conv = fdm_conv_mode_name(mode);
    }
    return count;
}

void model_files_find(struct model_files *files) {
    glob_t g;
    const int found = glob(FDM_TEST_GOLDEN_DIR "/net_*.safetensors", 0, NULL, &g);
    ck_assert_msg(found == 0, "no golden networks in %s", FDM_TEST_GOLDEN_DIR);
    if (glob(FDM_TEST_GOLDEN_DIR "_extra/net_*.safetensors", GLOB_APPEND, NULL, &g) != 0)
        printf("SKIP: no extra goldens in %s_extra\n", FDM_TEST_GOLDEN_DIR);
    files->paths = malloc(g.gl_pathc * sizeof *files->paths);
    files->count = g.gl_pathc;
    for (size_t i = 0; i < g.gl_pathc; i++) files->paths[i] = fdm_strdup(g.gl_pathv[i]);
    globfree(&g);
}

void model_files_free(struct model_files *files) {
    for (size_t i = 0; i < files->count; i++) free(files->paths[i]);
    free(files->paths);
}

static double *doubles(const fdm_tensors *set, const char *name) {
    return golden_find(set, "", name) ? golden_f64(set, "", name) : NULL;
}

void model_case_open(struct model_case *c, const char *path) {
    fdm_error err = {0};
    *c = (struct model_case){.path = path};
    ck_assert_msg(fdm_safetensors_read(&c->set, path, &err) == FDM_OK, "%s", err.message);
    c->n = golden_dim(&c->set, "", "x", 0);
    c->channels = golden_dim(&c->set, "", "x", 1);
    c->resolution = golden_dim(&c->set, "", "x", 2);
    c->pixels = (size_t)c->n * (size_t)c->channels * (size_t)c->resolution * (size_t)c->resolution;
    c->x = golden_f64(&c->set, "", "x");
    c->sigma = golden_f64(&c->set, "", "sigma");
    c->class_labels = doubles(&c->set, "class_labels");
    c->augment_labels = doubles(&c->set, "augment_labels");
}

void model_case_close(struct model_case *c) {
    free(c->x);
    free(c->sigma);
    free(c->class_labels);
    free(c->augment_labels);
    fdm_tensors_free(&c->set);
}

int model_winograd_layers(const fdm_tensors *model) {
    int layers = 0;
    for (size_t i = 0; i < model->count; i++) {
        const fdm_tensor *t = &model->items[i];
        layers += t->ndim == 4 && t->shape[2] == t->shape[3] && strncmp(t->name, "model.", 6) == 0 &&
                  fdm_winograd_suits((int)t->shape[1], (int)t->shape[0], (int)t->shape[2]);
    }
    return layers;
}

fdm_denoiser *model_case_load(const struct model_case *c, const struct runner *r, int threads) {
    const fdm_run_options options = {.backend = r->backend, .isa = r->isa, .conv = r->conv, .threads = threads};
    fdm_error err = {0};
    fdm_denoiser *d = NULL;
    ck_assert_msg(fdm_denoiser_load(&d, c->path, &options, &err) == FDM_OK, "%s", err.message);
    /* asked for an instruction set: got that one */
    if (r->isa) ck_assert_msg(strncmp(fdm_denoiser_backend_name(d), r->isa, strlen(r->isa)) == 0, "%s ran instead of %s",
                              fdm_denoiser_backend_name(d), r->isa);
    return d;
}

struct denoised model_case_denoise(const struct model_case *c, fdm_denoiser *d, int first, int count,
                                   fdm_tensors *traces) {
    const fdm_config *config = fdm_denoiser_config(d);
    const size_t per_sample = c->pixels / (size_t)c->n, at = (size_t)first;
    const int n = count ? count : c->n - first;
    struct denoised r = {malloc((size_t)n * per_sample * sizeof(double)), malloc((size_t)n * per_sample * sizeof(double))};
    const fdm_denoise_args args = {
        .n = n,
        .x = c->x + at * per_sample,
        .sigma = c->sigma + first,
        .class_labels = c->class_labels ? c->class_labels + at * (size_t)config->label_dim : NULL,
        .augment_labels = c->augment_labels ? c->augment_labels + at * (size_t)config->augment_dim : NULL,
        .F = r.F,
        .trace = traces ? collect_trace : NULL,
        .trace_user = traces,
    };
    fdm_error err = {0};
    ck_assert_msg(fdm_denoise(d, r.D, &args, &err) == FDM_OK, "%s", err.message);
    return r;
}

void denoised_free(struct denoised *r) {
    free(r->D);
    free(r->F);
}

fdm_status collect_trace(void *user, const fdm_tensor *t, fdm_error *err) {
    fdm_tensor *copy;
    const fdm_status status = fdm_tensors_add(user, t->name, t->dtype, t->ndim, t->shape, &copy, err);
    if (status == FDM_OK) memcpy(copy->data, t->data, t->nbytes);
    return status;
}
