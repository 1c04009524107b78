/* test_e2e.c - the command from seeds to pixels, against the images of the published generate script. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fdm/png.h"
#include "fdm/safetensors.h"
#include "golden.h"
#include "networks.h"
#include "suite.h"

static const char *const SNAPSHOT = FDM_TEST_GOLDEN_DIR "/run_ddpmpp_fdm_edm/network-snapshot-000000.safetensors";

static char folder[] = "/tmp/fdm-e2e-XXXXXX";

static const char *build_dir(void) {
    const char *dir = getenv("FDM_BUILD");
    return dir && *dir ? dir : "build";
}

/* Runs `fdm <arguments>` quietly; 0 if it succeeded (else the status of waitpid). */
static int fdm(const struct runner *r, const char *arguments) {
    char command[4096];
    snprintf(command, sizeof command, "'%s/fdm' %s %s%s%s -q", build_dir(), arguments,
             r->isa ? "--isa " : "--backend ", r->isa ? r->isa : r->backend, r->isa ? " --threads 2" : "");
    return system(command);
}

/* --- seeds to pixels --- */

struct image_case {
    const char *name, *options;
};
static const struct image_case image_cases[] = {
    {"edm", "--solver edm"},
    {"edm_class3", "--solver edm --class 3"},
    {"dpm", "--solver dpm"},
    {"dpm_class3", "--solver dpm --class 3"},
    {"edm_churn8", "--steps 8 --S_churn 40 --S_min 0.05 --S_max 50 --S_noise 1.003"},
};
enum { IMAGE_CASES = sizeof image_cases / sizeof image_cases[0] };

/* At most one grey level off in at most 0.1 % of the values. */
static void check_pixels(const struct runner *r, const struct image_case *c, const fdm_tensors *golden) {
    char name[64], path[256];
    snprintf(name, sizeof name, "images_u8_nhwc.%s", c->name);
    const fdm_tensor *truth = golden_get(golden, "", name);
    double *seeds = golden_f64(golden, "", "seeds");
    const size_t per_image = (size_t)(truth->shape[1] * truth->shape[2] * truth->shape[3]);
    size_t off = 0;
    for (int64_t i = 0; i < truth->shape[0]; i++) {
        fdm_image image = {0};
        fdm_error err = {0};
        snprintf(path, sizeof path, "%s/%06.0f.png", folder, seeds[i]);
        ck_assert_msg(fdm_png_read(&image, path, 0, &err) == FDM_OK, "%s", err.message);
        ck_assert_int_eq(image.height, truth->shape[1]);
        ck_assert_int_eq(image.width, truth->shape[2]);
        ck_assert_int_eq(image.channels, truth->shape[3]);
        const uint8_t *theirs = (const uint8_t *)truth->data + (size_t)i * per_image;
        for (size_t k = 0; k < per_image; k++) {
            const int difference = abs(image.pixels[k] - theirs[k]);
            ck_assert_msg(difference <= 1, "%s, %s: seed %g, value %zu is %d grey levels off", r->label, c->name, seeds[i], k,
                          difference);
            off += (size_t)difference;
        }
        fdm_image_free(&image);
    }
    const size_t total = (size_t)truth->shape[0] * per_image;
    ck_assert_msg(off * 1000 <= total, "%s, %s: %zu of %zu values are one level off", r->label, c->name, off, total);
    printf("%-12s %-9s %zu of %zu pixel values one level off", c->name, r->label, off, total);
    free(seeds);
}

static void check_states(const struct runner *r, const struct image_case *c, const fdm_tensors *golden) {
    char name[64], path[256];
    fdm_tensors states = {0};
    fdm_error err = {0};
    snprintf(path, sizeof path, "%s/states.safetensors", folder);
    ck_assert_msg(fdm_safetensors_read(&states, path, &err) == FDM_OK, "%s", err.message);
    snprintf(name, sizeof name, "x.%s", c->name);
    double *truth = golden_f64(golden, "", name), *got = golden_f64(&states, "", "x_final");
    const size_t count = (size_t)fdm_tensor_numel(golden_get(golden, "", name));
    /* 2e-5: f32 networks against the f64 network reach 2.3e-6 along a trajectory; latents differ in their last bit */
    const struct golden_error e = golden_compare(got, truth, count);
    ck_assert_msg(e.max_scaled <= 2e-5, "%s, %s: x_final is %.3g off", r->label, c->name, e.max_scaled);
    printf(", x_final %.2e of its maximum\n", e.max_scaled);
    double *latents = golden_f64(&states, "", "latents"), *theirs = golden_f64(golden, "", "latents");
    const struct golden_error l = golden_compare(latents, theirs, (size_t)fdm_tensor_numel(golden_get(golden, "", "latents")));
    ck_assert_msg(l.max_abs <= 2e-6, "latents are %.3g off", l.max_abs); /* PyTorch's vectorised log, sin and cos */
    free(truth);
    free(got);
    free(latents);
    free(theirs);
    fdm_tensors_free(&states);
}

START_TEST(seeds_to_pixels) {
    const struct image_case *c = &image_cases[_i];
    struct runner list[MAX_RUNNERS];
    fdm_tensors golden = {0};
    char arguments[2048];
    const int count = runners(list);
    golden_load(&golden, "e2e_run_ddpmpp_fdm_edm.safetensors");
    double *seeds = golden_f64(&golden, "", "seeds");
    for (int k = 0; k < count; k++) {
        snprintf(arguments, sizeof arguments,
                 "sample --model '%s' --outdir '%s' --seeds %.0f,%.0f,%.0f,%.0f --save-tensors '%s/states.safetensors' %s",
                 SNAPSHOT, folder, seeds[0], seeds[1], seeds[2], seeds[3], folder, c->options);
        ck_assert_int_eq(fdm(&list[k], arguments), 0);
        check_pixels(&list[k], c, &golden);
        check_states(&list[k], c, &golden);
    }
    free(seeds);
    fdm_tensors_free(&golden);
}
END_TEST

/* --- whole trajectories from recorded latents and noise --- */

struct trajectory_case {
    const char *file, *model, *options;
};
#define NET_EDM "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug.safetensors"
static const struct trajectory_case trajectories[] = {
    {"sampler_FDM_EDM_edm5.safetensors", NET_EDM, "--steps 5"},
    {"sampler_FDM_EDM_churn18.safetensors", NET_EDM, "--steps 18 --S_churn 40 --S_min 0.05 --S_max 50 --S_noise 1.003"},
    {"sampler_FDM_EDM_dpm2.safetensors", NET_EDM, "--solver dpm --steps 2"},
    {"sampler_FDM_EDM_dpm6.safetensors", NET_EDM, "--solver dpm --steps 6"},
    {"sampler_FDM_EDM_dpm7.safetensors", NET_EDM, "--solver dpm --steps 7"},
    {"sampler_FDM_VE_edm5.safetensors", "net_FDM_VEPrecond_ddpmpp_r16_m2.safetensors", "--steps 5"},
};
enum { TRAJECTORIES = sizeof trajectories / sizeof trajectories[0] };

static void check_tensor(const struct runner *r, const char *file, const fdm_tensors *golden, const fdm_tensors *states,
                         const char *theirs, const char *ours, double tolerance) {
    if (!golden_find(golden, "", theirs)) return;
    const fdm_tensor *t = golden_get(golden, "", theirs), *o = golden_get(states, "", ours);
    ck_assert_msg(fdm_tensor_numel(t) == fdm_tensor_numel(o), "%s: size of %s", file, ours);
    double *truth = golden_f64(golden, "", theirs), *got = golden_f64(states, "", ours);
    const struct golden_error e = golden_compare(got, truth, (size_t)fdm_tensor_numel(t));
    ck_assert_msg(e.max_scaled <= tolerance, "%s, %s: %s is %.3g off (bound %.3g)", file, r->label, ours, e.max_scaled, tolerance);
    printf("%s %s: %s %.2e\n", file, r->label, theirs, e.max_scaled);
    free(truth);
    free(got);
}

START_TEST(trajectory) {
    const struct trajectory_case *c = &trajectories[_i];
    struct runner list[MAX_RUNNERS];
    char path[256], arguments[2048];
    fdm_tensors golden = {0};
    snprintf(path, sizeof path, "%s/%s", FDM_TEST_GOLDEN_DIR, c->model);
    if (access(path, R_OK) != 0) {
        printf("SKIP: %s: the golden %s is not at hand (its arithmetic is replayed in test_sample)\n", c->file, c->model);
        return;
    }
    golden_load(&golden, c->file);
    const int count = runners(list);
    for (int k = 0; k < count; k++) {
#ifdef FDM_POISON /* a sanitizer build, where a step takes twenty times as long: each case with one runner */
        if (k != _i % count) continue;
#endif
        fdm_tensors states = {0};
        fdm_error err = {0};
        snprintf(arguments, sizeof arguments,
                 "sample --model '%s' --latents '%s/%s' --save-tensors '%s/states.safetensors' %s", path, FDM_TEST_GOLDEN_DIR,
                 c->file, folder, c->options);
        ck_assert_int_eq(fdm(&list[k], arguments), 0);
        snprintf(arguments, sizeof arguments, "%s/states.safetensors", folder);
        ck_assert_msg(fdm_safetensors_read(&states, arguments, &err) == FDM_OK, "%s", err.message);
        check_tensor(&list[k], c->file, &golden, &states, "call_sigma", "call_sigma", 1e-7); /* f32 in the dpm files */
        check_tensor(&list[k], c->file, &golden, &states, "t_steps", "t_steps", 1e-15);
        /* 2e-5: f32 networks are up to 2.3e-6 (relative L2) from the f64 network along a trajectory */
        check_tensor(&list[k], c->file, &golden, &states, "x_call", "x_call", 2e-5);
        check_tensor(&list[k], c->file, &golden, &states, "D_call", "D_call", 2e-5);
        check_tensor(&list[k], c->file, &golden, &states, "x_final", "x_final", 2e-5);
        if (!list[k].f32) check_tensor(&list[k], c->file, &golden, &states, "x_final_f64net", "x_final", 1e-9);
        fdm_tensors_free(&states);
    }
    fdm_tensors_free(&golden);
}
END_TEST

/* --- P1: the batch, the threads and the instruction set leave the states as they are --- */

static void read_file(const char *name, char **bytes, size_t *size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s is missing", path);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    *bytes = malloc(*size);
    ck_assert_uint_eq(fread(*bytes, 1, *size, f), *size);
    fclose(f);
}

START_TEST(same_bits) {
    static const char *const variants[] = {"--threads 1 --batch 5", "--threads 2 --batch 2", "--threads 4 --batch 1"};
    static const char *const solvers[] = {"--solver edm --S_churn 10", "--solver dpm", "--solver dpm2m", "--solver dpm3m",
                                          "--solver euler"};
    char command[2048], *base, *other;
    size_t base_size, size;
    struct runner list[MAX_RUNNERS];
    const int count = runners(list);
#ifdef FDM_POISON /* a sanitizer build tests the memory, the plain one the numbers */
    const size_t solver_count = 1;
#else
    const size_t solver_count = sizeof solvers / sizeof solvers[0];
#endif
    for (size_t s = 0; s < solver_count; s++) {
        for (int k = 1; k < count; k++)
            for (size_t v = 0; v < 3; v++) {
                const bool first = k == 1 && v == 0;
#ifdef FDM_POISON
                if (!first && v != (size_t)k % 3) continue;
#endif
                snprintf(command, sizeof command,
                         "'%s/fdm' sample -q --model '%s' --seeds 3,1,4,15,92 --steps 5 %s --isa %s %s --save-tensors '%s/%s'",
                         build_dir(), SNAPSHOT, solvers[s], list[k].isa, variants[v], folder,
                         first ? "base.safetensors" : "other.safetensors");
                ck_assert_int_eq(system(command), 0);
                if (first) continue;
                read_file("base.safetensors", &base, &base_size);
                read_file("other.safetensors", &other, &size);
                ck_assert_uint_eq(base_size, size);
                ck_assert_msg(memcmp(base, other, size) == 0, "%s on %s, %s: other bits than portable, %s", solvers[s],
                              list[k].isa, variants[v], variants[0]);
                free(base);
                free(other);
            }
    }
}
END_TEST

int main(void) {
    if (!mkdtemp(folder)) return EXIT_FAILURE;
    Suite *suite = suite_create("e2e");
    TCase *tests = tcase_create("e2e");
    tcase_set_timeout(tests, 600);
    tcase_add_loop_test(tests, seeds_to_pixels, 0, IMAGE_CASES);
    tcase_add_loop_test(tests, trajectory, 0, TRAJECTORIES);
    tcase_add_test(tests, same_bits);
    suite_add_tcase(suite, tests);
    const int failed = run_suite(suite);
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) return EXIT_FAILURE;
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
