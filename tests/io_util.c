/* io_util.c - files and refusals for the tests of src/io. */
#include "io_util.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "suite.h"

static char directory[256];

void scratch_begin(void) {
    const char *base = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/fdm-test-XXXXXX", base && strlen(base) < 200 ? base : P_tmpdir);
    if (!mkdtemp(directory)) {
        perror(directory);
        exit(1);
    }
}

/* Calls `each` (may be NULL) with every entry; the number of entries. */
static int for_each_file(int (*each)(const char *path)) {
    int count = 0;
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[600];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        if (each) each(path);
        count++;
    }
    if (d) closedir(d);
    return count;
}

int scratch_count_files(void) {
    return for_each_file(NULL);
}

void scratch_end(void) {
    for_each_file(remove);
    rmdir(directory);
}

const char *scratch(const char *name) {
    static char buffers[8][600];
    static unsigned next;
    char *b = buffers[next++ % 8];
    snprintf(b, sizeof buffers[0], "%s/%s", directory, name);
    return b;
}

void write_bytes(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f != NULL, "cannot write %s", path);
    ck_assert_uint_eq(n ? fwrite(bytes, 1, n, f) : 0, n);
    ck_assert_int_eq(fclose(f), 0);
}

void *copy_bytes(const void *bytes, size_t n) {
    void *copy = malloc(n);
    ck_assert(copy != NULL || n == 0);
    if (n) memcpy(copy, bytes, n);
    return copy;
}

unsigned char *read_bytes(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "cannot read %s", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*n ? *n : 1);
    ck_assert_uint_eq(fread(bytes, 1, *n, f), *n);
    fclose(f);
    return bytes;
}

bool is_refusal(fdm_status got, fdm_status expected, const fdm_error *err, const char *mention) {
    return got == expected && err->status == expected && err->message[0] && !strpbrk(err->message, "\n\r") &&
           (!mention || strstr(err->message, mention));
}

void check_refused(fdm_status got, fdm_status expected, const fdm_error *err, const char *mention) {
    ck_assert_msg(got == expected, "status %d instead of %d: %s", got, expected, err->message);
    ck_assert_int_eq(err->status, expected);
    ck_assert_msg(err->message[0] != '\0', "no message");
    ck_assert_msg(strpbrk(err->message, "\n\r") == NULL, "more than one line: %s", err->message);
    ck_assert_msg(!mention || strstr(err->message, mention), "\"%s\" does not mention \"%s\"", err->message,
                  mention);
}

void check_same_tensors(const fdm_tensors *a, const fdm_tensors *b, bool meta) {
    ck_assert_uint_eq(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const fdm_tensor *s = &a->items[i], *t = fdm_tensors_find(b, s->name);
        ck_assert_msg(t != NULL, "%s is missing", s->name);
        ck_assert_int_eq(s->dtype, t->dtype);
        ck_assert_int_eq(s->ndim, t->ndim);
        for (int d = 0; d < s->ndim; d++) ck_assert_int_eq(s->shape[d], t->shape[d]);
        ck_assert_uint_eq(s->nbytes, t->nbytes);
        ck_assert_msg(s->nbytes == 0 || memcmp(s->data, t->data, s->nbytes) == 0, "%s: bytes differ", s->name);
        ck_assert_uint_eq((uintptr_t)t->data % fdm_dtype_size(t->dtype), 0);
    }
    if (!meta) return;
    ck_assert_uint_eq(a->meta_count, b->meta_count);
    for (size_t i = 0; i < a->meta_count; i++) {
        const char *value = fdm_tensors_meta(b, a->meta_keys[i]);
        ck_assert_msg(value && strcmp(value, a->meta_values[i]) == 0, "metadata %s differs", a->meta_keys[i]);
    }
}

void fill_all_dtypes(fdm_tensors *set, bool numpy) {
    static const struct {
        int ndim;
        int64_t shape[FDM_MAX_NDIM];
    } shapes[] = {{0, {0}},
                  {1, {7}},
                  {2, {3, 5}},
                  {3, {2, 0, 4}},
                  {4, {2, 3, 1, 2}},
                  {1, {0}},
                  {8, {1, 2, 1, 3, 1, 2, 1, 2}}};
    uint32_t state = 12345;
    for (int d = 0; d < FDM_DTYPE_COUNT; d++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            char name[64];
            fdm_tensor *t;
            if (numpy && d == FDM_BF16) continue;
            snprintf(name, sizeof name, "%s.t%zu \xc3\xa9\"\\/", fdm_dtype_name((fdm_dtype)d), s);
            fdm_status status = fdm_tensors_add(set, name, (fdm_dtype)d, shapes[s].ndim, shapes[s].shape, &t, NULL);
            ck_assert_int_eq(status, FDM_OK);
            for (size_t i = 0; i < t->nbytes; i++) {
                state = state * 1664525u + 1013904223u;
                ((unsigned char *)t->data)[i] = state >> 29 == 0 ? 0xff : (unsigned char)(state >> 24);
            }
        }
    }
}

int scratch_run(Suite *suite) {
    scratch_begin();
    const int failed = run_suite(suite);
    scratch_end();
    return failed;
}
