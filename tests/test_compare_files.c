/* test_compare_files.c - fdm_compare_files: renaming, choosing, hints, streaming. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fdm/compare.h"
#include "fdm/safetensors.h"
#include "fdm/tensorfile.h"
#include "io/tensor_source.h"
#include "io_util.h"
#include "oom.h"
#include "verify/rename.h"

/* ---- Helpers ----------------------------------------------------------------------------------------------- */

static double value_at(int64_t i) { return sin((double)i) + 1.5; }

static fdm_tensor *add(fdm_tensors *set, const char *name, int ndim, const int64_t *shape) {
    fdm_tensor *t;
    fdm_error err;
    ck_assert_int_eq(fdm_tensors_add(set, name, FDM_F32, ndim, shape, &t, &err), FDM_OK);
    for (int64_t i = 0; i < fdm_tensor_numel(t); i++) ((float *)t->data)[i] = (float)value_at(i);
    return t;
}

/* A file of vectors with these names, separated by spaces. */
static const char *named(const char *file, const char *names) {
    const int64_t shape[] = {3};
    fdm_tensors set = {0};
    fdm_error err;
    char copy[200], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", names);
    for (char *name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) add(&set, name, 1, shape);
    const char *path = scratch(file);
    ck_assert_msg(fdm_tensorfile_write(&set, path, &err) == FDM_OK, "%s", err.message);
    fdm_tensors_free(&set);
    return path;
}

static fdm_status compare(fdm_comparison *result, const fdm_compare_files_args *files, fdm_error *err) {
    memset(result, 0, sizeof *result);
    return fdm_compare_files(result, files, NULL, err);
}

/* ---- Renaming ---------------------------------------------------------------------------------------------- */

START_TEST(rules_rename) {
    const struct {
        const char *rules, *name, *want; /* NULL: refused */
    } cases[] = {
        {NULL, "x", "x"},
        {"", "x", "x"},
        {"x=y", "x", "y"},
        {"x=y", "xx", "xx"},
        {"trace.*=*", "trace.model.enc", "model.enc"},
        {"*=trace.*", "model.enc", "trace.model.enc"},
        {"*.weight=*", "a.b.weight", "a.b"},
        {"a*b*c=*-*", "a1b2c", "1-2"},
        {"a*b*c=*-*", "abbc", "-b"},
        {"a*c=*", "acbc", "cb"},
        {"block?=level?", "block3", "level?"},
        {"x=y,x=z", "x", "y"},
        {"q=r,*x=*y", "xx", "xy"},
        {"x=", "x", ""},
        {"*=x", "anything", "x"},
        {"**=*", "abc", ""}, /* the first star takes as little as possible */
        {"x", "x", NULL},
        {"x=y,z", "q", NULL},
        {"x=*", "x", NULL},
        {"**********=x", "x", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fdm_error err = {0};
        char *out;
        const bool well_formed = fdm_rename_check(cases[i].rules, &err) == FDM_OK;
        ck_assert_msg(well_formed == (cases[i].want != NULL), "%s", cases[i].rules);
        if (!well_formed) {
            check_refused(err.status, FDM_BAD_USAGE, &err, "renaming rule");
            continue;
        }
        ck_assert_int_eq(fdm_rename(&out, cases[i].rules, cases[i].name, &err), FDM_OK);
        ck_assert_msg(strcmp(out, cases[i].want) == 0, "%s of %s: %s", cases[i].rules, cases[i].name, out);
        free(out);
    }
}
END_TEST

START_TEST(renamed_tensors_pair) {
    const char *a = named("a.safetensors", "out model.enc model.dec"), *b = named("b.npz", "out trace.model.enc trace.model.dec");
    fdm_compare_files_args files = {.a = a, .b = b};
    fdm_comparison result;
    fdm_error err;
    ck_assert_int_eq(compare(&result, &files, &err), FDM_MISMATCH);
    ck_assert_uint_eq(result.count, 5);
    ck_assert_str_eq(result.note, "2 names of B would pair without the prefix \"trace.\": try --rename 'trace.*=*'");
    fdm_comparison_free(&result);
    files.rename_b = "trace.*=*";
    ck_assert_int_eq(compare(&result, &files, &err), FDM_OK);
    ck_assert(result.count == 3 && result.pass && result.note[0] == '\0');
    fdm_comparison_free(&result);
    files.rename_b = NULL;
    files.rename_a = "model.*=trace.model.*";
    ck_assert_int_eq(compare(&result, &files, &err), FDM_OK);
    fdm_comparison_free(&result);
    files.truth = a;
    ck_assert_int_eq(compare(&result, &files, &err), FDM_MISMATCH); /* the truth's names are as they were */
    fdm_comparison_free(&result);
    files.rename_truth = files.rename_a;
    ck_assert_int_eq(compare(&result, &files, &err), FDM_OK);
    ck_assert(result.items[0].rms_ratio == 1);
    fdm_comparison_free(&result);
    files.rename_a = "*=x";
    check_refused(compare(&result, &files, &err), FDM_BAD_USAGE, &err, "both renamed to \"x\"");
    ck_assert_ptr_null(result.items);
    files = (fdm_compare_files_args){.a = b, .b = a, .only = "trace.*"};
    ck_assert_int_eq(compare(&result, &files, &err), FDM_MISMATCH);
    ck_assert(result.count == 2 && result.items[0].outcome == FDM_COMPARE_MISSING);
    fdm_comparison_free(&result);
}
END_TEST

/* ---- Hints ------------------------------------------------------------------------------------------------- */

enum { SIDE = 6, COUNT = 2 * 4 * SIDE * SIDE };

/* Compares an image batch with what `change` makes of it; its hint must have `mention`. */
static void check_hint(void (*change)(float *f, const float *e), const char *mention) {
    const int64_t shape[] = {2, 4, SIDE, SIDE};
    fdm_tensors a = {0}, b = {0};
    fdm_comparison result = {0};
    fdm_error err;
    const fdm_tensor *ta = add(&a, "x", 4, shape), *tb = add(&b, "x", 4, shape);
    change(tb->data, ta->data);
    ck_assert_int_eq(fdm_compare(&result, &a, &b, NULL, NULL, &err), FDM_MISMATCH);
    if (mention) ck_assert_msg(strstr(result.items[0].hint, mention) != NULL, "\"%s\", not \"%s\"", result.items[0].hint, mention);
    else ck_assert_str_eq(result.items[0].hint, "");
    fdm_comparison_free(&result);
    fdm_tensors_free(&a);
    fdm_tensors_free(&b);
}

static void doubled(float *f, const float *e) { for (int i = 0; i < COUNT; i++) f[i] = 2 * e[i]; }
static void negated(float *f, const float *e) { for (int i = 0; i < COUNT; i++) f[i] = -e[i]; }
static void shifted(float *f, const float *e) { for (int i = 0; i < COUNT; i++) f[i] = e[i] + 0.5f; }
static void zeroed(float *f, const float *e) { (void)e; memset(f, 0, COUNT * sizeof *f); }
static void transposed(float *f, const float *e) {
    for (int i = 0; i < COUNT; i++) f[i] = e[i / (SIDE * SIDE) * SIDE * SIDE + i % SIDE * SIDE + i / SIDE % SIDE];
}
static void mirrored(float *f, const float *e) { for (int i = 0; i < COUNT; i++) f[i] = e[i / SIDE * SIDE + SIDE - 1 - i % SIDE]; }
static void halved(float *f, const float *e) {
    const int channel = SIDE * SIDE;
    for (int i = 0; i < COUNT; i++) f[i] = e[i / (4 * channel) * 4 * channel + (i / channel + 2) % 4 * channel + i % channel];
}
static void rounded(float *f, const float *e) {
    for (int i = 0; i < COUNT; i++) {
        uint32_t bits;
        memcpy(&bits, &e[i], 4);
        bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
        memcpy(&f[i], &bits, 4);
    }
}
static void noisy(float *f, const float *e) { for (int i = 0; i < COUNT; i++) f[i] = e[i] * (1 + 1e-3f * (float)cos(7.0 * i)); }
static void one_channel(float *f, const float *e) { for (int i = 0; i < COUNT; i++) f[i] = e[i] + (i / (SIDE * SIDE) % 4 == 2) * 0.1f * (float)cos(i); }

START_TEST(hints_say_what_it_looks_like) {
    check_hint(doubled, "B is A times 2");
    check_hint(negated, "B is A times -1");
    check_hint(shifted, "B is A plus 0.5");
    check_hint(zeroed, "B is all zeros");
    check_hint(transposed, "dimensions 2 and 3 swapped");
    check_hint(mirrored, "dimension 3 reversed");
    check_hint(halved, "halves along dimension 1 swapped");
    check_hint(rounded, "8 significand bits, A's 24: bf16?");
    check_hint(one_channel, "at index 2 of 4 along dimension 1");
    check_hint(noisy, NULL);
}
END_TEST

START_TEST(hints_of_shapes) {
    const struct {
        int ndim_a, ndim_b;
        int64_t a[4], b[4];
        const char *want;
    } cases[] = {
        {4, 4, {2, 3, 8, 9}, {2, 8, 9, 3}, "B looks like NHWC where A is NCHW"},
        {4, 4, {2, 8, 9, 3}, {2, 3, 8, 9}, "B looks like NCHW where A is NHWC"},
        {2, 2, {3, 5}, {5, 3}, "transposed?"},
        {2, 1, {3, 5}, {15}, "reshaped?"},
        {2, 2, {3, 5}, {3, 6}, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fdm_tensors a = {0}, b = {0};
        fdm_comparison result = {0};
        fdm_error err;
        add(&a, "x", cases[i].ndim_a, cases[i].a);
        add(&b, "x", cases[i].ndim_b, cases[i].b);
        ck_assert_int_eq(fdm_compare(&result, &a, &b, NULL, NULL, &err), FDM_MISMATCH);
        ck_assert_msg(strstr(result.items[0].hint, cases[i].want) != NULL, "%s", result.items[0].hint);
        if (!cases[i].want[0]) ck_assert_str_eq(result.items[0].hint, "");
        fdm_comparison_free(&result);
        fdm_tensors_free(&a);
        fdm_tensors_free(&b);
    }
}
END_TEST

/* ---- Rules ------------------------------------------------------------------------------------------------- */

static fdm_compare_outcome judged(const fdm_compare_options *o, float factor, bool nan, fdm_dtype dtype) {
    const int64_t shape[] = {100};
    fdm_tensors a = {0}, b = {0};
    fdm_comparison result = {0};
    fdm_tensor *tb;
    fdm_error err;
    const fdm_tensor *ta = add(&a, "x", 1, shape);
    ck_assert_int_eq(fdm_tensors_add(&b, "x", dtype, 1, shape, &tb, &err), FDM_OK);
    for (int i = 0; i < 100; i++) {
        const float x = ((float *)ta->data)[i] * (i < 10 ? factor : 1);
        if (dtype == FDM_F64) ((double *)tb->data)[i] = (double)x;
        else ((float *)tb->data)[i] = x;
    }
    if (nan) ((float *)tb->data)[99] = NAN;
    fdm_compare(&result, &a, &b, NULL, o, &err);
    const fdm_compare_outcome outcome = result.items[0].outcome;
    fdm_comparison_free(&result);
    fdm_tensors_free(&a);
    fdm_tensors_free(&b);
    return outcome;
}

START_TEST(rules_beyond_tolerances) {
    const fdm_compare_options tenth = {.allow = 0.1}, less = {.allow = 0.0999}, loose = {.min_snr = 20}, strict = {.min_snr = 80},
                              both = {.min_snr = 20, .atol = 1e-9}, any = {.any_dtype = true}, any_strict = {.any_dtype = true, .min_snr = 200};
    ck_assert_int_eq(judged(&tenth, 1.001f, false, FDM_F32), FDM_COMPARE_PASS); /* 10 of 100 are off */
    ck_assert_int_eq(judged(&less, 1.001f, false, FDM_F32), FDM_COMPARE_DIFFERENT);
    ck_assert_int_eq(judged(&tenth, 1, true, FDM_F32), FDM_COMPARE_NONFINITE); /* a NaN is never allowed */
    ck_assert_int_eq(judged(&loose, 1.001f, false, FDM_F32), FDM_COMPARE_PASS); /* about 70 dB */
    ck_assert_int_eq(judged(&strict, 1.001f, false, FDM_F32), FDM_COMPARE_NOISY);
    ck_assert_int_eq(judged(&both, 1.001f, false, FDM_F32), FDM_COMPARE_DIFFERENT);
    ck_assert_int_eq(judged(&loose, 1, true, FDM_F32), FDM_COMPARE_NONFINITE);
    ck_assert_int_eq(judged(&any, 1, false, FDM_F64), FDM_COMPARE_PASS);
    ck_assert_int_eq(judged(&any, 1.001f, false, FDM_F64), FDM_COMPARE_DIFFERENT);
    ck_assert_int_eq(judged(&any_strict, 1.001f, false, FDM_F64), FDM_COMPARE_NOISY);
    ck_assert_int_eq(judged(NULL, 1, false, FDM_F64), FDM_COMPARE_DTYPE);
}
END_TEST

/* ---- Streaming --------------------------------------------------------------------------------------------- */

START_TEST(a_source_gives_what_the_file_holds) {
    const char *const files[] = {"all.safetensors", "all.npz"};
    for (int f = 0; f < 2; f++) {
        fdm_tensors set = {0}, loaded = {0};
        struct fdm_tensor_source source;
        fdm_error err;
        fill_all_dtypes(&set, true);
        ck_assert_int_eq(fdm_tensorfile_write(&set, scratch(files[f]), &err), FDM_OK);
        ck_assert_int_eq(fdm_tensor_source_open(&source, scratch(files[f]), &err), FDM_OK);
        for (size_t i = 0; i < source.table.count; i++) {
            fdm_tensor t, *copy;
            ck_assert_int_eq(fdm_tensor_source_load(&t, &source, i, &err), FDM_OK);
            ck_assert_int_eq(fdm_tensors_add(&loaded, t.name, t.dtype, t.ndim, t.shape, &copy, &err), FDM_OK);
            if (t.nbytes) memcpy(copy->data, t.data, t.nbytes);
            fdm_tensor_source_unload(&t, &source);
            fdm_tensor_source_unload(&t, &source); /* twice is fine */
        }
        fdm_tensor_source_close(&source);
        check_same_tensors(&set, &loaded, false);
        fdm_tensors_free(&set);
        fdm_tensors_free(&loaded);
    }
}
END_TEST

START_TEST(a_damaged_member_shows_when_it_is_read) {
    const char *a = named("whole.npz", "x y");
    size_t n;
    fdm_error err;
    fdm_comparison result;
    unsigned char *bytes = read_bytes(a, &n);
    float last = (float)value_at(2);
    unsigned char *at = memmem(bytes, n, &last, sizeof last);
    ck_assert_ptr_nonnull(at);
    at[0] ^= 1;
    const char *b = scratch("damaged.npz");
    write_bytes(b, bytes, n);
    free(bytes);
    const fdm_compare_files_args files = {.a = a, .b = b};
    check_refused(compare(&result, &files, &err), FDM_BAD_INPUT, &err, "damaged.npz");
    ck_assert_ptr_null(result.items);
}
END_TEST

static bool stop_at_second(void *user) { return ++*(int *)user > 4; } /* each file is asked for, too */
START_TEST(it_stops_when_asked) {
    const char *a = named("stop.safetensors", "a b c d e f g");
    int asked = 0;
    fdm_comparison result;
    fdm_error err;
    const fdm_compare_files_args files = {.a = a, .b = a, .stop = stop_at_second, .user = &asked};
    ck_assert_int_eq(compare(&result, &files, &err), FDM_INTERRUPTED);
    ck_assert(asked == 5 && result.items == NULL);
}
END_TEST

enum { MEGABYTES = 4, TENSORS = 12 };

/* The same tensors in either format. */
static void write_large(const char *path, bool archive) {
    fdm_tensors set = {0};
    fdm_error err;
    const int64_t shape[] = {MEGABYTES << 18};
    char *block = malloc(1 << 20);
    for (int k = 0; k < 1 << 20; k++) block[k] = (char)(0x30 + k % 7);
    for (int i = 0; i < TENSORS && archive; i++) { /* views of one tensor: the set itself stays small */
        char name[16];
        fdm_tensor *first = set.count ? &set.items[0] : NULL, *t;
        snprintf(name, sizeof name, "t%d", i);
        if (first) ck_assert_int_eq(fdm_tensors_add_borrowed(&set, name, FDM_F32, 1, shape, first->data, &t, &err), FDM_OK);
        else
            for (size_t m = 0; m < MEGABYTES; m++) {
                if (m == 0) t = add(&set, name, 1, shape);
                memcpy((char *)t->data + (m << 20), block, 1 << 20);
            }
    }
    if (archive) ck_assert_int_eq(fdm_tensorfile_write(&set, path, &err), FDM_OK);
    fdm_tensors_free(&set);
    if (archive) {
        free(block);
        return;
    }
    fdm_safetensors_writer *w;
    char name[16];
    ck_assert_int_eq(fdm_safetensors_writer_new(&w, path, &err), FDM_OK);
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "t%d", i);
        ck_assert_int_eq(fdm_safetensors_writer_declare(w, name, FDM_F32, 1, shape, &err), FDM_OK);
    }
    ck_assert_int_eq(fdm_safetensors_writer_begin(w, &err), FDM_OK);
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "t%d", i);
        for (size_t m = 0; m < MEGABYTES; m++)
            ck_assert_int_eq(fdm_safetensors_writer_put(w, name, m << 20, block, 1 << 20, &err), FDM_OK);
    }
    free(block);
    ck_assert_int_eq(fdm_safetensors_writer_commit(&w, &err), FDM_OK);
}

/* Peak memory of `fdm compare a b`, in MiB. */
static double peak_of(const char *a, const char *b) {
    const char *build = getenv("FDM_BUILD");
    char program[400];
    int status;
    struct rusage usage;
    snprintf(program, sizeof program, "%s/fdm", build ? build : "build");
    const pid_t child = fork();
    if (child == 0) {
        execl(program, program, "compare", "-q", "--threads", "2", a, b, (char *)NULL);
        _exit(127);
    }
    ck_assert_int_eq(wait4(child, &status, 0, &usage), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "fdm compare: status %d", status);
    return (double)usage.ru_maxrss / 1024;
}

START_TEST(memory_is_bounded_by_the_largest_tensor) {
#ifdef FDM_POISON
    const bool sanitizer = true;
#else
    const bool sanitizer = false;
#endif
    if (sanitizer) {
        printf("SKIP: peak memory: not under a sanitizer\n");
        return;
    }
    char flat[400], zipped[400];
    snprintf(flat, sizeof flat, "%s", scratch("large.safetensors"));
    snprintf(zipped, sizeof zipped, "%s", scratch("large.npz"));
    write_large(flat, false);
    write_large(zipped, true);
    /* Two tensors, the tables of the statistics and the program itself, where the files have 48 MB each. */
    const double limit = 2 * MEGABYTES + 20, mapped = peak_of(flat, flat), unpacked = peak_of(zipped, flat);
    printf("peak memory: %.0f MB for two safetensors of %d MB, %.0f MB for an npz against one\n", mapped, MEGABYTES * TENSORS, unpacked);
    ck_assert_msg(mapped < limit && unpacked < limit, "%.0f and %.0f MB", mapped, unpacked);
    unlink(flat);
    unlink(zipped);
}
END_TEST

static bool compare_two(void *arg) {
    const fdm_compare_files_args *files = arg;
    const fdm_compare_options one_thread = {.threads = 1};
    fdm_comparison result = {0};
    fdm_error err;
    const fdm_status status = fdm_compare_files(&result, files, &one_thread, &err);
    fdm_comparison_free(&result);
    return status == FDM_OK || status == FDM_MISMATCH;
}

START_TEST(every_allocation_may_fail) {
    char a[400], b[400];
    snprintf(a, sizeof a, "%s", named("oom.npz", "p.x y z"));
    snprintf(b, sizeof b, "%s", named("oom.safetensors", "x y w"));
    fdm_compare_files_args files = {.a = a, .b = b, .truth = b, .only = "x,y,z", .rename_a = "p.*=*"};
    ck_assert_int_ge(oom_sweep("files", compare_two, &files), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("compare_files");
    TCase *names = tcase_create("names"), *rules = tcase_create("rules"), *streaming = tcase_create("streaming");
    tcase_add_test(names, rules_rename);
    tcase_add_test(names, renamed_tensors_pair);
    tcase_add_test(rules, hints_say_what_it_looks_like);
    tcase_add_test(rules, hints_of_shapes);
    tcase_add_test(rules, rules_beyond_tolerances);
    tcase_add_test(streaming, a_source_gives_what_the_file_holds);
    tcase_add_test(streaming, a_damaged_member_shows_when_it_is_read);
    tcase_add_test(streaming, it_stops_when_asked);
    tcase_add_test(streaming, memory_is_bounded_by_the_largest_tensor);
    tcase_add_test(streaming, every_allocation_may_fail);
    suite_add_tcase(suite, names);
    suite_add_tcase(suite, rules);
    suite_add_tcase(suite, streaming);
    return scratch_run(suite);
}
