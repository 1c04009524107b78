/* test_corpus.c - the fuzzers' seeds, and thousands of simple mutations of them, through the fuzzers' entry points:
 * a regression test that every compiler and every machine can run.  A crash ends the test program. */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io_util.h"

#define LLVMFuzzerTestOneInput fuzz_config
#include "fuzz_config.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_dataset
#include "fuzz_dataset.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_jpeg
#include "fuzz_jpeg.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_labels
#include "fuzz_labels.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_npz
#include "fuzz_npz.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_png
#include "fuzz_png.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_pickle
#include "fuzz_pickle.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_published
#include "fuzz_published.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_safetensors
#include "fuzz_safetensors.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_zip
#include "fuzz_zip.c"
#include "suite.h"
#undef LLVMFuzzerTestOneInput

enum { MUTATIONS = 300 }; /* per seed */

static uint32_t next_random(uint32_t *state) {
    return *state = *state * 1664525u + 1013904223u;
}

/* A copy with a few bytes changed, or cut short, or with a piece copied elsewhere; exactly its size, for ASan. */
static uint8_t *mutate(size_t *n, const uint8_t *seed, size_t seed_bytes, uint32_t *state) {
    static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '[', ',', '9', '-'};
    *n = next_random(state) >> 29 ? seed_bytes : next_random(state) % (seed_bytes + 1);
    uint8_t *copy = copy_bytes(seed, *n);
    for (uint32_t changes = 1 + (next_random(state) >> 30); changes > 0 && *n > 0; changes--) {
        size_t at = (next_random(state) >> 8) % *n, from = (next_random(state) >> 8) % *n;
        uint32_t kind = next_random(state) >> 30;
        if (kind == 0)
            copy[at] ^= (uint8_t)(1u << (next_random(state) >> 29));
        else if (kind == 1)
            copy[at] = telling[(next_random(state) >> 8) % sizeof telling];
        else if (kind == 2)
            copy[at] = (uint8_t)(next_random(state) >> 24);
        else
            memmove(copy + at, copy + from, *n - (at > from ? at : from));
    }
    return copy;
}

static void run_corpus(const char *name, int (*entry)(const uint8_t *data, size_t size)) {
    char directory[256], path[1024];
    uint32_t state = 20240501;
    int seeds = 0;
    snprintf(directory, sizeof directory, "tests/corpus/%s", name);
    DIR *d = opendir(directory);
    ck_assert_msg(d != NULL, "no seeds in %s; run from the top of the source tree", directory);
    for (struct dirent *e; (e = readdir(d));) {
        size_t seed_bytes, n;
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        unsigned char *seed = read_bytes(path, &seed_bytes);
        entry(seed, seed_bytes);
        for (int i = 0; i < MUTATIONS; i++) {
            uint8_t *mutant = mutate(&n, seed, seed_bytes, &state);
            entry(mutant, n);
            free(mutant);
        }
        free(seed);
        seeds++;
    }
    closedir(d);
    printf("%s: %d seeds, %d mutations of each\n", name, seeds, MUTATIONS);
    fflush(stdout);
    ck_assert_int_gt(seeds, 2);
}

START_TEST(config) {
    run_corpus("config", fuzz_config);
}
END_TEST
START_TEST(dataset) {
    run_corpus("dataset", fuzz_dataset);
}
END_TEST
START_TEST(jpeg) {
    run_corpus("jpeg", fuzz_jpeg);
}
END_TEST
START_TEST(labels) {
    run_corpus("labels", fuzz_labels);
}
END_TEST
START_TEST(npz) {
    run_corpus("npz", fuzz_npz);
}
END_TEST
START_TEST(png) {
    run_corpus("png", fuzz_png);
}
END_TEST
START_TEST(pickle) {
    run_corpus("pickle", fuzz_pickle);
}
END_TEST
START_TEST(published) {
    run_corpus("published", fuzz_published);
}
END_TEST
START_TEST(safetensors) {
    run_corpus("safetensors", fuzz_safetensors);
}
END_TEST
START_TEST(zip) {
    run_corpus("zip", fuzz_zip);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("corpus");
    TCase *tc = tcase_create("corpus");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, config);
    tcase_add_test(tc, dataset);
    tcase_add_test(tc, jpeg);
    tcase_add_test(tc, labels);
    tcase_add_test(tc, npz);
    tcase_add_test(tc, png);
    tcase_add_test(tc, pickle);
    tcase_add_test(tc, published);
    tcase_add_test(tc, safetensors);
    tcase_add_test(tc, zip);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
