/* test_safetensors.c - round trips, the goldens, hostile files, failed writes, out of memory. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "fdm/safetensors.h"
#include "fdm/tensorfile.h"
#include "io/atomic_file.h"
#include "io/text.h"
#include "io_util.h"
#include "oom.h"

/* A file from a header text and some zero bytes of data, malloc'ed to its exact size. */
static unsigned char *make_file(size_t *size, const char *header, size_t data_bytes) {
    size_t n = strlen(header);
    *size = 8 + n + data_bytes;
    unsigned char *file = calloc(*size, 1);
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)((uint64_t)n >> (8 * i));
    memcpy(file + 8, header, n);
    return file;
}

/* From memory and from a file alike. */
static void check_bytes_refused(const unsigned char *bytes, size_t n, const char *mention) {
    fdm_tensors set;
    fdm_error err;
    const char *path = scratch("hostile.safetensors");
    unsigned char *exact = copy_bytes(bytes, n); /* so that ASan sees a read beyond the end */
    check_refused(fdm_safetensors_parse(&set, exact, n, "memory.st", &err), FDM_BAD_INPUT, &err, "memory.st");
    check_refused(FDM_BAD_INPUT, FDM_BAD_INPUT, &err, mention);
    ck_assert(set.count == 0 && set.items == NULL && set.mapping == NULL);
    free(exact);
    write_bytes(path, bytes, n);
    check_refused(fdm_safetensors_read(&set, path, &err), FDM_BAD_INPUT, &err, "hostile.safetensors");
    check_refused(FDM_BAD_INPUT, FDM_BAD_INPUT, &err, mention);
    ck_assert(set.count == 0 && set.items == NULL && set.mapping == NULL);
}

START_TEST(all_dtypes_survive_bit_for_bit) {
    fdm_tensors set = {0}, back;
    fdm_error err = {.status = FDM_OK};
    const char *path = scratch("all.safetensors");
    size_t n1, n2;
    fill_all_dtypes(&set, false);
    fdm_tensors_set_meta(&set, "config", "{\"a\": \"\\\"\xe2\x82\xac\x01\n\x7f\"}", NULL);
    fdm_tensors_set_meta(&set, "", "", NULL);
    ck_assert_msg(fdm_safetensors_write(&set, path, &err) == FDM_OK, "%s", err.message);
    ck_assert_msg(fdm_safetensors_read(&back, path, &err) == FDM_OK, "%s", err.message);
    check_same_tensors(&set, &back, true);
    for (size_t i = 0; i < set.count; i++) /* empties take no room, so even they keep their place */
        ck_assert_msg(strcmp(set.items[i].name, back.items[i].name) == 0 || set.items[i].nbytes == 0 ||
                          back.items[i].nbytes == 0,
                      "order");
    unsigned char *first = read_bytes(path, &n1);
    ck_assert_uint_eq((8 + first[0] + 256u * first[1] + 65536u * first[2]) % 8, 0); /* the data is 8-byte aligned */
    ck_assert_int_eq(fdm_safetensors_write(&set, path, &err), FDM_OK); /* over the file that `back` maps */
    unsigned char *second = read_bytes(path, &n2);
    ck_assert(n1 == n2 && memcmp(first, second, n1) == 0);
    check_same_tensors(&set, &back, true);
    free(first);
    free(second);
    fdm_tensors_free(&set);
    fdm_tensors_free(&back);
}
END_TEST

static void check_golden(const char *path) {
    fdm_tensors set, back;
    fdm_error err = {.status = FDM_OK};
    const char *copy = scratch("golden.safetensors");
    ck_assert_msg(fdm_tensorfile_read(&set, path, &err) == FDM_OK, "%s", err.message);
    ck_assert_uint_gt(set.count, 0);
    ck_assert_int_eq(fdm_safetensors_write(&set, copy, &err), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_read(&back, copy, &err), FDM_OK);
    check_same_tensors(&set, &back, true);
    fdm_tensors_free(&set);
    fdm_tensors_free(&back);
}

static int check_goldens_in(const char *directory) {
    int count = 0;
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[1024];
        struct stat st;
        size_t n = strlen(e->d_name);
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) count += check_goldens_in(path);
        if (n < 12 || strcmp(e->d_name + n - 12, ".safetensors") != 0) continue;
        check_golden(path);
        count++;
    }
    if (d) closedir(d);
    return count;
}

START_TEST(every_golden_is_read_and_kept) {
    int count = check_goldens_in(FDM_TEST_GOLDEN_DIR);
    printf("%d golden files read, written and read again\n", count);
    fflush(stdout);
    ck_assert_int_ge(count, 20);
}
END_TEST

#define ENTRY(dtype, shape, begin, end)                                                                            \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static const struct {
    const char *header;
    size_t data_bytes;
    const char *mention;
} hostile[] = {
    {"", 0, "does not start with '{'"},
    {" {}", 0, "does not start with '{'"},
    {"[]", 0, "does not start with '{'"},
    {"{", 0, "bad header"},
    {"{}x", 0, "bad header"},
    {"{}", 1, "belong to no tensor"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) ",}", 4, "bad header"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) ",\"a\":" ENTRY("F32", "[1]", 4, 8) "}", 8, "duplicate"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) ",\"\\u0061\":" ENTRY("F32", "[1]", 4, 8) "}", 8, "duplicate"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "duplicate"},
    {"{\"\xff\":" ENTRY("F32", "[1]", 0, 4) "}", 4, "bad header"},
    {"{\"\xc0\xaf\":" ENTRY("F32", "[1]", 0, 4) "}", 4, "bad header"},
    {"{\"\xed\xa0\x80\":" ENTRY("F32", "[1]", 0, 4) "}", 4, "bad header"},
    {"{\"a\\u0000b\":" ENTRY("F32", "[1]", 0, 4) "}", 4, "bad header"},
    {"{\"\\ud800\":" ENTRY("F32", "[1]", 0, 4) "}", 4, "bad header"},
    {"{\"a\":1}", 0, "\"a\""},
    {"{\"a\":null}", 0, "\"a\""},
    {"{\"a\":[]}", 0, "\"a\""},
    {"{\"a\":{}}", 0, NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, NULL},
    {"{\"a\":" ENTRY("F33", "[1]", 0, 4) "}", 4, "F33"},
    {"{\"a\":" ENTRY("f32", "[1]", 0, 4) "}", 4, "f32"},
    {"{\"a\":" ENTRY("F8_E4M3", "[4]", 0, 4) "}", 4, "F8_E4M3"},
    {"{\"a\":" ENTRY("", "[4]", 0, 4) "}", 4, "dtype"},
    {"{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "string"},
    {"{\"a\":" ENTRY("F32", "1", 0, 4) "}", 4, "array"},
    {"{\"a\":" ENTRY("F32", "[1.0]", 0, 4) "}", 4, "whole number"},
    {"{\"a\":" ENTRY("F32", "[\"1\"]", 0, 4) "}", 4, "whole number"},
    {"{\"a\":" ENTRY("F32", "[true]", 0, 4) "}", 4, "whole number"},
    {"{\"a\":" ENTRY("F32", "[[1]]", 0, 4) "}", 4, "whole number"},
    {"{\"a\":" ENTRY("F32", "[-1]", 0, 4) "}", 4, "negative"},
    {"{\"a\":" ENTRY("F32", "[-1,-1]", 0, 4) "}", 4, "negative"},
    {"{\"a\":" ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "more than 8"},
    {"{\"a\":" ENTRY("U8", "[4611686018427387904]", 0, 4) "}", 4, "need"},
    {"{\"a\":" ENTRY("F32", "[4611686018427387904]", 0, 0) "}", 0, "elements"},
    {"{\"a\":" ENTRY("F32", "[4294967296,4294967296]", 0, 0) "}", 0, "elements"},
    {"{\"a\":" ENTRY("U8", "[4294967296,4294967296]", 0, 0) "}", 0, "elements"},
    {"{\"a\":" ENTRY("U8", "[9223372036854775807,0,9223372036854775807]", 0, 0) "}", 0, "elements"},
    {"{\"a\":" ENTRY("U8", "[9223372036854775808]", 0, 0) "}", 0, "bad header"},
    {"{\"a\":" ENTRY("U8", "[99999999999999999999999999]", 0, 0) "}", 0, "bad header"},
    {"{\"a\":" ENTRY("U8", "[1e400]", 0, 0) "}", 0, "bad header"},
    {"{\"a\":" ENTRY("U8", "[NaN]", 0, 0) "}", 0, "bad header"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 3) "}", 3, "need 4 bytes"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 5) "}", 5, "need 4 bytes"},
    {"{\"a\":" ENTRY("F32", "[2]", 0, 4) "}", 4, "need 8 bytes"},
    {"{\"a\":" ENTRY("F64", "[1]", 0, 4) "}", 4, "need 8 bytes"},
    {"{\"a\":" ENTRY("F32", "[1]", 4, 0) "}", 4, "out of order"},
    {"{\"a\":" ENTRY("F32", "[1]", -4, 0) "}", 4, "out of order"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) "}", 3, "reach beyond"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) "}", 0, "reach beyond"},
    {"{\"a\":" ENTRY("F32", "[1]", 9223372036854775803, 9223372036854775807) "}", 4, "reach beyond"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) "}", 5, "belong to no tensor"},
    {"{\"a\":" ENTRY("F32", "[1]", 4, 8) "}", 8, "gap"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) ",\"b\":" ENTRY("F32", "[1]", 8, 12) "}", 12, "gap"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) ",\"b\":" ENTRY("F32", "[1]", 2, 6) "}", 6, "overlap"},
    {"{\"a\":" ENTRY("F32", "[1]", 0, 4) ",\"b\":" ENTRY("F32", "[1]", 0, 4) "}", 4, "overlap"},
    {"{\"a\":" ENTRY("F32", "[2]", 0, 8) ",\"b\":" ENTRY("F32", "[0]", 4, 4) "}", 8, "overlap"},
    {"{\"a\":" ENTRY("F32", "[0]", 4, 4) "}", 4, "gap"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}}", 4, NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":4}}", 4, NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":null}}", 4, NULL},
    {"{\"__metadata__\":[]}", 0, "__metadata__"},
    {"{\"__metadata__\":null}", 0, "__metadata__"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__"},
    {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "__metadata__"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "duplicate"},
    {"{\"a\":" ENTRY("U8", "[01]", 0, 1) "}", 1, "starts with 0"},
    {"{\"a\":" ENTRY("U8", "[1", 0, 1) "}", 1, "whole number"},
    {"{\"a\":" ENTRY("U8", "[1 2]", 0, 1) "}", 1, "']'"},
    {"{\"a\" " ENTRY("U8", "[1]", 0, 1) "}", 1, "':'"},
    {"{\"a\":" ENTRY("U8", "[1]", 0, 1) "]", 1, "'}'"},
    {"{\"a\\x\":1}", 0, "escape"},
    {"{\"a\\u12g4\":1}", 0, "escape"},
    {"{\"a\\u12", 0, "escape"},
    {"{\"a\\ud83d\\u0041\":1}", 0, "surrogate"},
    {"{\"a\\udc00\":1}", 0, "surrogate"},
    {"{\"a\tb\":1}", 0, "control"},
    {"{\"a", 0, "unfinished"},
    {"{\"a\\", 0, "unfinished"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate"},
    {"{\"line\\nbreak\\u001b[31m\":1}", 0, "line?break"},
};

START_TEST(hostile_header) {
    size_t n;
    unsigned char *file = make_file(&n, hostile[_i].header, hostile[_i].data_bytes);
    check_bytes_refused(file, n, hostile[_i].mention);
    free(file);
}
END_TEST

/* Messages stay one line of valid UTF-8: line separators and terminal controls beyond ASCII, a name that is cut off
 * within a character, whatever the alignment. */
START_TEST(hostile_names_in_messages) {
    static const char *const names[] = {"a\xc2\x85"
                                        "b",
                                        "a\xe2\x80\xa8"
                                        "b",
                                        "a\xe2\x80\xa9"
                                        "b",
                                        "a\xc2\x9b"
                                        "31mb"};
    for (int i = 0; i < 8; i++) {
        char name[1200] = "", header[1300];
        fdm_tensors set;
        fdm_error err;
        size_t n;
        if (i < 4) snprintf(name, sizeof name, "%s", names[i]);
        for (int k = 4; i >= 4 && k < i; k++) strcat(name, "x");
        for (int k = 0; i >= 4 && k < 250; k++) strcat(name, "\xf0\x9f\x98\x80");
        snprintf(header, sizeof header, "{\"%s\":1}", name);
        unsigned char *file = make_file(&n, header, 0);
        check_refused(fdm_safetensors_parse(&set, file, n, "name.st", &err), FDM_BAD_INPUT, &err,
                      i < 4    ? "a?"
                      : i == 4 ? NULL
                               : "?\""); /* 100 bytes are 25 whole ones */
        for (size_t f = 0; f < FDM_ARRAY_LEN(names); f++) ck_assert_ptr_null(strstr(err.message, names[f]));
        ck_assert(fdm_utf8_valid(err.message));
        free(file);
    }
}
END_TEST

START_TEST(hostile_header_length) {
    static const uint64_t lengths[] = {
        3, 9, 17, 100000001, (uint64_t)1 << 32, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7};
    unsigned char file[16] = {0};
    for (size_t i = 0; i < FDM_ARRAY_LEN(lengths); i++) {
        for (int b = 0; b < 8; b++) file[b] = (unsigned char)(lengths[i] >> (8 * b));
        memcpy(file + 8, "{}      ", 8);
        check_bytes_refused(file, 16, NULL);
    }
    memset(file, 0, sizeof file);
    for (size_t n = 0; n <= sizeof file; n++) check_bytes_refused(file, n, n == 0 ? "empty" : NULL);
}
END_TEST

/* Depth costs no stack, breadth no memory. */
START_TEST(hostile_json_shapes) {
    enum { N = 1 << 20 };
    char *deep = malloc(N + 8);
    fdm_tensors set;
    fdm_error err;
    size_t n;
    for (int kind = 0; kind < 3; kind++) {
        strcpy(deep, "{\"a\":");
        for (size_t i = 5; i < N; i++)
            deep[i] = kind == 0 ? '[' : kind == 1 ? "{\"a\":"[i % 5] : i == 5 ? '[' : "0,"[i % 2];
        deep[N] = '\0';
        unsigned char *file = make_file(&n, deep, 0);
        check_refused(fdm_safetensors_parse(&set, file, n, "deep.st", &err), FDM_BAD_INPUT, &err, NULL);
        free(file);
    }
    free(deep);
}
END_TEST

/* A small but complete file: two tensors, an empty one, metadata. */
static unsigned char *sample_file(size_t *n) {
    unsigned char *file =
        make_file(n,
                  "{\"__metadata__\":{\"k\":\"v\"},\"b\":" ENTRY("F32", "[2]", 4, 12) ",\"a\":" ENTRY(
                      "I16", "[2,1]", 0, 4) ",\"e\":" ENTRY("U8", "[0,3]", 12, 12) "}  ",
                  12);
    for (size_t i = 0; i < 12; i++) file[*n - 12 + i] = (unsigned char)(0xf7 + i);
    return file;
}

START_TEST(truncated_anywhere_or_longer) {
    size_t n;
    unsigned char *file = sample_file(&n);
    fdm_tensors set;
    fdm_error err = {.status = FDM_OK};
    ck_assert_msg(fdm_safetensors_parse(&set, file, n, "whole", &err) == FDM_OK, "%s", err.message);
    ck_assert_uint_eq(set.count, 3);
    ck_assert_str_eq(set.items[0].name, "a"); /* in the order of the data */
    ck_assert_str_eq(fdm_tensors_meta(&set, "k"), "v");
    fdm_tensors_free(&set);
    for (size_t cut = 0; cut < n; cut++) check_bytes_refused(file, cut, NULL);
    file = realloc(file, n + 1);
    file[n] = 0;
    check_bytes_refused(file, n + 1, "belong to no tensor");
    free(file);
}
END_TEST

START_TEST(every_byte_damaged) {
    size_t n;
    unsigned char *file = sample_file(&n);
    int refused = 0, accepted = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char old = file[i];
        for (int v = 0; v < 256; v++) {
            fdm_tensors set;
            fdm_error err = {.status = FDM_OK};
            file[i] = (unsigned char)v;
            fdm_status status = fdm_safetensors_parse(&set, file, n, "damaged", &err);
            if (status) check_refused(status, FDM_BAD_INPUT, &err, "damaged");
            for (size_t t = 0; t < set.count; t++) /* whatever was accepted is within the file */
                for (int64_t e = 0; e < fdm_tensor_numel(&set.items[t]); e++)
                    (void)fdm_tensor_get(&set.items[t], e);
            if (status)
                refused++;
            else
                accepted++;
            fdm_tensors_free(&set);
        }
        file[i] = old;
    }
    printf("one byte damaged: %d refused, %d still well-formed\n", refused, accepted);
    fflush(stdout);
    ck_assert_int_gt(refused, accepted);
    free(file);
}
END_TEST

START_TEST(misaligned_data_is_copied) {
    static const char *const headers[] = {
        "{\"a\":" ENTRY("F64", "[1]", 0, 8) "}", "{\"a\":" ENTRY("F64", "[1]", 0, 8) "} ",
        "{\"o\":" ENTRY("U8", "[1]", 0, 1) ",\"a\":" ENTRY("F64", "[1]", 1, 9) "}"};
    for (size_t h = 0; h < 3; h++) {
        for (size_t shift = 0; shift < 8; shift++) {
            fdm_tensors set;
            size_t n;
            double value = 0.1;
            unsigned char *file = make_file(&n, headers[h], h == 2 ? 9 : 8), *moved = malloc(n + shift);
            memcpy(file + n - 8, &value, 8);
            memcpy(moved + shift, file, n);
            ck_assert_int_eq(fdm_safetensors_parse(&set, moved + shift, n, "m", NULL), FDM_OK);
            const fdm_tensor *t = fdm_tensors_find(&set, "a");
            ck_assert_uint_eq((uintptr_t)t->data % 8, 0);
            ck_assert(fdm_tensor_get(t, 0) == value);
            ck_assert(t->owns_data == ((uintptr_t)(moved + shift + n - 8) % 8 != 0));
            fdm_tensors_free(&set);
            free(file);
            free(moved);
        }
    }
}
END_TEST

START_TEST(not_a_regular_file) {
    fdm_tensors set;
    fdm_error err;
    const char *fifo = scratch("fifo.safetensors"), *dir = scratch("dir.safetensors");
    check_refused(fdm_safetensors_read(&set, scratch("none.safetensors"), &err), FDM_BAD_INPUT, &err, "none.safe");
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    check_refused(fdm_safetensors_read(&set, dir, &err), FDM_BAD_INPUT, &err, "directory");
    rmdir(dir);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    check_refused(fdm_safetensors_read(&set, fifo, &err), FDM_BAD_INPUT, &err, "pipe"); /* and does not hang */
    remove(fifo);
    check_refused(fdm_safetensors_read(&set, "/dev/null", &err), FDM_BAD_INPUT, &err, "device");
}
END_TEST

START_TEST(bad_sets_are_not_written) {
    fdm_tensors set = {0};
    fdm_error err;
    const char *path = scratch("bad.safetensors");
    fdm_tensor *t;
    ck_assert_int_eq(fdm_tensors_add(&set, "x", FDM_F32, 0, NULL, &t, &err), FDM_OK);
    t->nbytes = 8;
    check_refused(fdm_safetensors_write(&set, path, &err), FDM_BAD_USAGE, &err, "bad.safetensors");
    t->nbytes = 4;
    t->name[0] = (char)0xff;
    check_refused(fdm_safetensors_write(&set, path, &err), FDM_BAD_USAGE, &err, "UTF-8");
    t->name[0] = 'y';
    ck_assert_int_eq(fdm_tensors_add(&set, "x", FDM_F32, 0, NULL, &t, &err), FDM_OK);
    t->name[0] = 'y'; /* behind the set's back */
    check_refused(fdm_safetensors_write(&set, path, &err), FDM_BAD_USAGE, &err, "two tensors");
    t->name[0] = 'x';
    ck_assert_int_eq(fdm_tensors_set_meta(&set, "k", "\xff", &err), FDM_OK);
    check_refused(fdm_safetensors_write(&set, path, &err), FDM_BAD_USAGE, &err, "UTF-8");
    fdm_tensors_free(&set);
    ck_assert_int_eq(fdm_tensors_add(&set, "__metadata__", FDM_F32, 0, NULL, &t, &err), FDM_OK);
    check_refused(fdm_safetensors_write(&set, path, &err), FDM_BAD_USAGE, &err, "__metadata__");
    fdm_tensors_free(&set);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(fdm_safetensors_write(&set, path, &err), FDM_OK); /* an empty set is fine */
    ck_assert_int_eq(fdm_safetensors_read(&set, path, &err), FDM_OK);
    ck_assert_uint_eq(set.count, 0);
    fdm_tensors_free(&set);
}
END_TEST

/* An old file at `path`, a write that must fail with FDM_NO_RESOURCE, and nothing changed. */
static void check_write_fails(const fdm_tensors *set, const char *path, const char *mention) {
    fdm_error err;
    int before = scratch_count_files();
    check_refused(fdm_safetensors_write(set, path, &err), FDM_NO_RESOURCE, &err, mention);
    ck_assert_int_eq(scratch_count_files(), before);
}

START_TEST(failed_writes_leave_the_old_file) {
    fdm_tensors set = {0};
    const int64_t shape[] = {1 << 20};
    const char *path = scratch("old.safetensors"), *link_path = scratch("link.safetensors"), *dir = scratch("d");
    struct rlimit limit, small = {.rlim_cur = 1 << 16, .rlim_max = RLIM_INFINITY};
    struct stat st;
    size_t n;
    ck_assert_int_eq(fdm_tensors_add(&set, "x", FDM_U8, 1, shape, NULL, NULL), FDM_OK);
    write_bytes(path, "old", 3);
    ck_assert_int_eq(chmod(path, 0640), 0);
    getrlimit(RLIMIT_FSIZE, &limit);
    small.rlim_max = limit.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0); /* stands in for a full disk */
    check_write_fails(&set, path, "free some space");
    setrlimit(RLIMIT_FSIZE, &limit);
    unsigned char *old = read_bytes(path, &n);
    ck_assert(n == 3 && memcmp(old, "old", 3) == 0);
    free(old);
    check_write_fails(&set, scratch("missing/x.safetensors"), "create its directory");
    check_write_fails(&set, "/dev/null", "not a regular file");
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    check_write_fails(&set, dir, "directory");
    rmdir(dir);
    check_write_fails(&set, scratch("x/"), NULL);
    check_write_fails(&set, "", NULL);
    ck_assert_int_eq(symlink("nowhere", link_path), 0);
    check_write_fails(&set, link_path, "link");
    remove(link_path);
    ck_assert_int_eq(symlink("old.safetensors", link_path), 0);
    ck_assert_int_eq(fdm_safetensors_write(&set, link_path, NULL), FDM_OK);
    ck_assert(lstat(link_path, &st) == 0 && S_ISLNK(st.st_mode)); /* the link stays, its target is replaced */
    ck_assert(stat(path, &st) == 0 && st.st_size > 1 << 20 && (st.st_mode & 0777) == 0640);
    fdm_tensors_free(&set);
}
END_TEST

START_TEST(long_names_fit_the_message) {
    fdm_tensors set;
    fdm_error err;
    char path[4000];
    memset(path, 'p', sizeof path);
    snprintf(path + 3000, 1000, "/tail.safetensors");
    check_refused(fdm_safetensors_read(&set, path, &err), FDM_BAD_INPUT, &err, "tail.safetensors: cannot open");
}
END_TEST

START_TEST(piecewise_writer) {
    fdm_safetensors_writer *w;
    fdm_error err = {.status = FDM_OK};
    fdm_tensors back;
    const char *path = scratch("pieces.safetensors");
    const int64_t shape[] = {3, 4};
    float x[12];
    for (int i = 0; i < 12; i++) x[i] = (float)i;
    ck_assert_int_eq(fdm_safetensors_writer_new(&w, path, &err), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_writer_meta(w, "k", "v", &err), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_writer_declare(w, "x", FDM_F32, 2, shape, &err), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_writer_declare(w, "s", FDM_F32, 0, NULL, &err), FDM_OK);
    check_refused(fdm_safetensors_writer_put(w, "x", 0, x, 4, &err), FDM_BAD_USAGE, &err, "pieces.safetensors");
    ck_assert_int_eq(fdm_safetensors_writer_begin(w, &err), FDM_OK);
    check_refused(fdm_safetensors_writer_declare(w, "z", FDM_F32, 2, shape, &err), FDM_BAD_USAGE, &err, "after");
    check_refused(fdm_safetensors_writer_put(w, "z", 0, x, 4, &err), FDM_BAD_USAGE, &err, "\"z\"");
    check_refused(fdm_safetensors_writer_put(w, "x", 44, x, 8, &err), FDM_BAD_USAGE, &err, "do not fit");
    check_refused(fdm_safetensors_writer_put(w, "x", SIZE_MAX, x, 8, &err), FDM_BAD_USAGE, &err, "do not fit");
    ck_assert_int_eq(fdm_safetensors_writer_put(w, "s", 0, x + 7, 4, &err), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_writer_put(w, "x", 20, x + 5, 28, &err), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_writer_put(w, "x", 0, x, 20, &err), FDM_OK);
    ck_assert_int_ne(access(path, F_OK), 0); /* not there before commit */
    ck_assert_int_eq(fdm_safetensors_writer_commit(&w, &err), FDM_OK);
    ck_assert_ptr_null(w);
    ck_assert_msg(fdm_safetensors_read(&back, path, &err) == FDM_OK, "%s", err.message);
    ck_assert(memcmp(fdm_tensors_find(&back, "x")->data, x, sizeof x) == 0);
    ck_assert(fdm_tensor_get(fdm_tensors_find(&back, "s"), 0) == 7);
    ck_assert_str_eq(fdm_tensors_meta(&back, "k"), "v");
    fdm_tensors_free(&back);
    remove(path);

    ck_assert_int_eq(fdm_safetensors_writer_new(&w, path, &err), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_writer_declare(w, "x", FDM_F32, 2, shape, &err), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_writer_begin(w, &err), FDM_OK);
    ck_assert_int_eq(fdm_safetensors_writer_put(w, "x", 0, x, 20, &err), FDM_OK);
    int files = scratch_count_files();
    check_refused(fdm_safetensors_writer_commit(&w, &err), FDM_BAD_USAGE, &err, "has 20 of its 48 bytes");
    ck_assert_int_eq(scratch_count_files(), files - 1); /* the temporary file is gone */
    ck_assert_int_ne(access(path, F_OK), 0);
    fdm_safetensors_writer_discard(&w);
}
END_TEST

START_TEST(atomic_text_output) {
    struct fdm_atomic_file f;
    const char *path = scratch("text");
    size_t n;
    ck_assert_int_eq(fdm_atomic_open(&f, path, NULL), FDM_OK);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(fdm_atomic_printf(&f, NULL, "%*d\n", i == 50 ? 2000 : 999, i), FDM_OK);
    ck_assert_int_eq(fdm_atomic_commit(&f, NULL), FDM_OK);
    unsigned char *text = read_bytes(path, &n);
    ck_assert_uint_eq(n, 99 * 1000 + 2001);
    ck_assert(memcmp(text + n - 3, "99\n", 3) == 0);
    free(text);
    fdm_atomic_abort(&f);
}
END_TEST

static int wrong_messages;

static bool oom_read(void *path) {
    fdm_tensors set;
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_safetensors_read(&set, path, &err);
    if (status && !is_refusal(status, FDM_NO_RESOURCE, &err, NULL)) wrong_messages++;
    if (status && (set.count || set.items || set.mapping)) wrong_messages++;
    fdm_tensors_free(&set);
    return status == FDM_OK;
}

struct job {
    const fdm_tensors *set;
    const char *path;
};

static bool oom_write(void *arg) {
    const struct job *job = arg;
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_safetensors_write(job->set, job->path, &err);
    if (status && !is_refusal(status, FDM_NO_RESOURCE, &err, NULL)) wrong_messages++;
    return status == FDM_OK;
}

START_TEST(out_of_memory) {
    fdm_tensors set;
    size_t n;
    char in[600], out[600];
    unsigned char *file = sample_file(&n);
    snprintf(in, sizeof in, "%s", scratch("oom.safetensors"));
    snprintf(out, sizeof out, "%s", scratch("oom-out.safetensors"));
    write_bytes(in, file, n);
    ck_assert_int_ge(oom_sweep("safetensors read", oom_read, in), 0);
    ck_assert_int_eq(fdm_safetensors_read(&set, in, NULL), FDM_OK);
    struct job job = {.set = &set, .path = out};
    int files = scratch_count_files();
    ck_assert_int_ge(oom_sweep("safetensors write", oom_write, &job), 0);
    ck_assert_int_eq(scratch_count_files(), files + 1); /* the output; no temporary file is left */
    ck_assert_int_eq(wrong_messages, 0);
    fdm_tensors_free(&set);
    free(file);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("safetensors");
    TCase *tc = tcase_create("safetensors");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, all_dtypes_survive_bit_for_bit);
    tcase_add_test(tc, every_golden_is_read_and_kept);
    tcase_add_loop_test(tc, hostile_header, 0, (int)FDM_ARRAY_LEN(hostile));
    tcase_add_test(tc, hostile_names_in_messages);
    tcase_add_test(tc, hostile_header_length);
    tcase_add_test(tc, hostile_json_shapes);
    tcase_add_test(tc, truncated_anywhere_or_longer);
    tcase_add_test(tc, every_byte_damaged);
    tcase_add_test(tc, misaligned_data_is_copied);
    tcase_add_test(tc, not_a_regular_file);
    tcase_add_test(tc, bad_sets_are_not_written);
    tcase_add_test(tc, failed_writes_leave_the_old_file);
    tcase_add_test(tc, long_names_fit_the_message);
    tcase_add_test(tc, piecewise_writer);
    tcase_add_test(tc, atomic_text_output);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
