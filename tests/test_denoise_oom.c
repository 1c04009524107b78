/* test_denoise_oom.c - a small `denoise` in which each allocation fails in turn: nothing leaks, nothing crashes; and a
 * second one of the same size, which allocates nothing. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/tensorfile.h"
#include "networks.h"
#include "oom.h"
#include "suite.h"

/* The smallest golden network. */
static const char *const MODEL = "tests/golden_extra/net_gray.safetensors";

struct job {
    const struct model_case *c;
    struct runner how;
    bool trace;
    char problem[256]; /* the first failure that was not told as one; asserting would allocate */
};

/* Load, denoise, write: what the command does. */
static bool denoise(void *arg) {
    struct job *j = arg;
    const fdm_run_options options = {.backend = j->how.backend, .isa = j->how.isa, .threads = 1};
    fdm_denoiser *d = NULL;
    fdm_tensors traces = {0}, results = {0};
    fdm_error err = {0};
    double *D = malloc(j->c->pixels * sizeof *D);
    const int64_t shape[] = {1, j->c->channels, j->c->resolution, j->c->resolution};
    const fdm_denoise_args args = {
        .n = 1,
        .x = j->c->x,
        .sigma = j->c->sigma,
        .class_labels = j->c->class_labels,
        .augment_labels = j->c->augment_labels,
        .trace = j->trace ? collect_trace : NULL,
        .trace_user = &traces,
    };
    bool ok = D && fdm_denoiser_load(&d, j->c->path, &options, &err) == FDM_OK && fdm_denoise(d, D, &args, &err) == FDM_OK;
    ok = ok && fdm_tensors_add_borrowed(&results, "out", FDM_F64, 4, shape, D, NULL, &err) == FDM_OK;
    ok = ok && fdm_tensorfile_write(&results, "/dev/shm/fdm-test-oom.safetensors", &err) == FDM_OK;
    /* Every failure says so in one line, as what it is; jansson alone takes a failed allocation for a bad token. */
    const bool jansson = strstr(err.message, "config is not valid JSON") != NULL;
    if (!ok && D && !j->problem[0] && (!err.message[0] || (err.status != FDM_NO_RESOURCE && !jansson)))
        snprintf(j->problem, sizeof j->problem, "status %d: %.200s", err.status, err.message);
    fdm_tensors_free(&results);
    fdm_tensors_free(&traces);
    fdm_denoiser_free(&d);
    free(D);
    return ok;
}

static void sweep(const char *what, const char *backend, const char *isa, bool trace) {
    struct model_case c;
    model_case_open(&c, MODEL);
    c.n = 1; /* one sample will do */
    struct job j = {&c, {what, backend, isa, true, NULL}, trace, ""};
    const long allocations = oom_sweep(what, denoise, &j);
    ck_assert_msg(!j.problem[0], "%s: %s", what, j.problem);
    ck_assert_msg(allocations >= 0, "%s: see above", what);
    model_case_close(&c);
}

START_TEST(denoise_f32) { sweep("denoise, f32", "auto", NULL, false); }
END_TEST
START_TEST(denoise_f32_traced) { sweep("denoise --trace, f32", "auto", "portable", true); }
END_TEST
START_TEST(denoise_reference) { sweep("denoise, reference", "reference", NULL, false); }
END_TEST

/* No memory is asked for after the first run: with every allocation failing the second gives the same bits. */
START_TEST(second_run_allocates_nothing) {
    static const char *const ways[][2] = {{"auto", "direct"}, {"auto", "winograd2"}, {"auto", "winograd4"}, {"reference", NULL}};
    const fdm_run_options options = {.backend = ways[_i][0], .conv = ways[_i][1], .threads = 2};
    struct model_case c;
    fdm_denoiser *d = NULL;
    fdm_error err = {0};
    if (!oom_available()) {
        printf("SKIP: allocations cannot be counted here\n");
        return;
    }
    model_case_open(&c, "tests/golden/net_EDMPrecond_ncsnpp_r16.safetensors");
    double *D = calloc(2 * c.pixels, sizeof *D);
    const fdm_denoise_args args = {.n = c.n, .x = c.x, .sigma = c.sigma, .class_labels = c.class_labels,
                                   .augment_labels = c.augment_labels};
    ck_assert(D && fdm_denoiser_load(&d, c.path, &options, &err) == FDM_OK && fdm_denoise(d, D, &args, &err) == FDM_OK);
    oom_arm(0, true);
    const fdm_status status = fdm_denoise(d, D + c.pixels, &args, &err);
    const long failed = oom_disarm();
    ck_assert_msg(status == FDM_OK && failed == 0, "%ld allocations: %s", failed, err.message);
    ck_assert(memcmp(D, D + c.pixels, c.pixels * sizeof *D) == 0);
    fdm_denoiser_free(&d);
    free(D);
    model_case_close(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("denoise_oom");
    TCase *tests = tcase_create("denoise_oom");
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, denoise_f32);
    tcase_add_test(tests, denoise_f32_traced);
    tcase_add_test(tests, denoise_reference);
    tcase_add_loop_test(tests, second_run_allocates_nothing, 0, 4);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
