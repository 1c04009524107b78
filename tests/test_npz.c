/* test_npz.c - .npy and .npz: round trips, NumPy's variants, hostile files, out of memory. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include "base/base.h"
#include "fdm/npz.h"
#include "fdm/tensorfile.h"
#include "io/zip_write.h"
#include "io_util.h"
#include "oom.h"

/* An array file: version 1, 2 or 3, header text as given (a newline is added), then data. */
static unsigned char *make_npy(size_t *n, int version, const char *header, const void *data, size_t data_bytes) {
    size_t text = strlen(header) + 1, start = version == 1 ? 10 : 12;
    unsigned char *file = calloc(start + text + data_bytes, 1);
    ck_assert_ptr_nonnull(file);
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (unsigned char)version;
    for (size_t i = 0; i < start - 8; i++) file[8 + i] = (unsigned char)(text >> (8 * i));
    memcpy(file + start, header, text - 1);
    file[start + text - 1] = '\n';
    if (data) memcpy(file + start + text, data, data_bytes);
    *n = start + text + data_bytes;
    return file;
}

/* An archive made by libzip, so that the reader is not only tested against our own writer. */
struct member {
    const char *name;
    const void *bytes;
    size_t n;
    zip_int32_t method;
};

static void make_zip(const char *path, const struct member *members, int count) {
    remove(path);
    zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    ck_assert_ptr_nonnull(z);
    for (int i = 0; i < count; i++) {
        zip_int64_t at = zip_file_add(z, members[i].name, zip_source_buffer(z, members[i].bytes, members[i].n, 0),
                                      ZIP_FL_ENC_UTF_8);
        ck_assert(at >= 0);
        ck_assert_int_eq(zip_set_file_compression(z, (zip_uint64_t)at, members[i].method, 0), 0);
    }
    ck_assert_int_eq(zip_close(z), 0);
}

static void check_npz_refused(const unsigned char *bytes, size_t n, const char *mention) {
    fdm_tensors set;
    fdm_error err;
    const char *path = scratch("hostile.npz");
    unsigned char *exact = copy_bytes(bytes, n);
    check_refused(fdm_npz_parse(&set, exact, n, "memory.npz", &err), FDM_BAD_INPUT, &err, "memory.npz");
    check_refused(FDM_BAD_INPUT, FDM_BAD_INPUT, &err, mention);
    ck_assert(set.count == 0 && set.items == NULL);
    free(exact);
    write_bytes(path, bytes, n);
    check_refused(fdm_npz_read(&set, path, &err), FDM_BAD_INPUT, &err, "hostile.npz");
    ck_assert(set.count == 0 && set.items == NULL);
}

START_TEST(npz_survives_bit_for_bit) {
    fdm_tensors set = {0}, back;
    fdm_error err = {.status = FDM_OK};
    const char *path = scratch("all.npz");
    size_t n1, n2;
    fill_all_dtypes(&set, true);
    ck_assert_msg(fdm_tensorfile_write(&set, path, &err) == FDM_OK, "%s", err.message);
    ck_assert_msg(fdm_tensorfile_read(&back, path, &err) == FDM_OK, "%s", err.message);
    check_same_tensors(&set, &back, false);
    for (size_t i = 0; i < set.count; i++) ck_assert_str_eq(set.items[i].name, back.items[i].name);
    fdm_tensors_free(&back);
    unsigned char *first = read_bytes(path, &n1);
    ck_assert_int_eq(fdm_npz_write(&set, path, &err), FDM_OK);
    unsigned char *second = read_bytes(path, &n2);
    ck_assert(n1 == n2 && memcmp(first, second, n1) == 0);
    free(first);
    free(second);
    fdm_tensors_free(&set);
}
END_TEST

START_TEST(npy_survives_bit_for_bit) {
    fdm_tensors set = {0}, back;
    fdm_error err = {.status = FDM_OK};
    fill_all_dtypes(&set, true);
    for (size_t i = 0; i < set.count; i++) {
        fdm_tensors one = {.items = &set.items[i], .count = 1};
        const char *path = scratch("one.name.npy");
        ck_assert_msg(fdm_tensorfile_write(&one, path, &err) == FDM_OK, "%s", err.message);
        ck_assert_msg(fdm_tensorfile_read(&back, path, &err) == FDM_OK, "%s", err.message);
        ck_assert_uint_eq(back.count, 1);
        ck_assert_str_eq(back.items[0].name, "one.name");
        free(back.items[0].name);
        back.items[0].name = fdm_strdup(set.items[i].name);
        check_same_tensors(&one, &back, false);
        ck_assert(!back.items[0].owns_data); /* mapped */
        fdm_tensors_free(&back);
    }
    fdm_tensors_free(&set);
}
END_TEST

START_TEST(zip64_records_are_written_and_read) {
    struct fdm_zip_writer z;
    fdm_error err = {.status = FDM_OK};
    fdm_tensors set;
    const char *path = scratch("zip64.npz");
    size_t n;
    float value = 1.5f;
    unsigned char *npy = make_npy(&n, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", &value, 4);
    ck_assert_int_eq(fdm_zip_begin(&z, path, &err), FDM_OK);
    z.force_zip64 = true;
    ck_assert_int_eq(fdm_zip_add(&z, "a.npy", npy, 20, npy + 20, n - 20, &err), FDM_OK);
    ck_assert_int_eq(fdm_zip_add(&z, "\xc3\xa9.npy", npy, n, NULL, 0, &err), FDM_OK);
    ck_assert_int_eq(fdm_zip_finish(&z, &err), FDM_OK);
    ck_assert_msg(fdm_npz_read(&set, path, &err) == FDM_OK, "%s", err.message);
    ck_assert_uint_eq(set.count, 2);
    ck_assert(fdm_tensor_get(fdm_tensors_find(&set, "\xc3\xa9"), 0) == 1.5);
    fdm_tensors_free(&set);
    free(npy);
}
END_TEST

/* More members than the plain end record can count: the zip64 one must take over without being forced. */
START_TEST(seventy_thousand_members) {
    struct fdm_zip_writer z;
    fdm_error err = {.status = FDM_OK};
    fdm_tensors set;
    const char *path = scratch("many.npz");
    size_t n;
    unsigned char *npy = make_npy(&n, 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }", "x", 1);
    ck_assert_int_eq(fdm_zip_begin(&z, path, &err), FDM_OK);
    for (int i = 0; i < 70000; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.npy", i);
        ck_assert_int_eq(fdm_zip_add(&z, name, npy, n, NULL, 0, &err), FDM_OK);
    }
    ck_assert_int_eq(fdm_zip_finish(&z, &err), FDM_OK);
    ck_assert_msg(fdm_npz_read(&set, path, &err) == FDM_OK, "%s", err.message);
    ck_assert_uint_eq(set.count, 70000);
    fdm_tensors_free(&set);
    free(npy);
}
END_TEST

/* What NumPy writes, and may write: versions, byte orders, index orders, spacing, key order. */
START_TEST(numpy_variants) {
    static const struct {
        int version;
        const char *header, *data;
        size_t n;
        double want[6];
    } cases[] = {
        {1, "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }", "\1\0\2\0\3\0", 6, {1, 2, 3}},
        {2, "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }", "\1\0\2\0\3\0", 6, {1, 2, 3}},
        {3, "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }", "\1\0\2\0\3\0", 6, {1, 2, 3}},
        {1, "{'descr': '>i2', 'fortran_order': False, 'shape': (3,), }", "\0\1\0\2\0\3", 6, {1, 2, 3}},
        {1, "{'descr': '>f8', 'fortran_order': True, 'shape': (1,), }", "\x3f\xf8\0\0\0\0\0\0", 8, {1.5}},
        {1, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", "\0\1\2\3\4\5", 6, {0, 2, 4, 1, 3, 5}},
        {1, "{'descr': '|u1', 'fortran_order': True, 'shape': (3, 2), }", "\0\1\2\3\4\5", 6, {0, 3, 1, 4, 2, 5}},
        {1, "{'descr': '|u1', 'fortran_order': True, 'shape': (1, 2, 3), }", "\0\1\2\3\4\5", 6, {0, 2, 4, 1, 3, 5}},
        {1, "{'descr': '|u1', 'fortran_order': True, 'shape': (3, 1, 2), }", "\0\1\2\3\4\5", 6, {0, 3, 1, 4, 2, 5}},
        {1, "{'descr': '|u1', 'fortran_order': True, 'shape': (6,), }", "\0\1\2\3\4\5", 6, {0, 1, 2, 3, 4, 5}},
        {1, "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 1), }", "\0\1\0\2", 4, {1, 2}},
        {1, "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 2), }", "\0\1\0\2\0\3\0\4", 8, {1, 3, 2, 4}},
        {1, "  { \"shape\" :(2,1,),'fortran_order':False , 'descr':\"<i1\"}   ", "\377\1", 2, {-1, 1}},
        {1, "{'descr': '|b1', 'fortran_order': False, 'shape': (2L, 1L), }", "\0\1", 2, {0, 1}},
        {1, "{'descr': '<f2', 'fortran_order': False, 'shape': (), }", "\0\x3c", 2, {1}},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 5), }", "", 0, {0}},
        {1, "{'descr': '<f4', 'fortran_order': True, 'shape': (5, 0, 3), }", "", 0, {0}},
        {1, "{'descr': '<f4', 'fortran_order': False, 'shape': ( ), }", "\0\0\x80\x3f", 4, {1}},
    };
    for (size_t i = 0; i < FDM_ARRAY_LEN(cases); i++) {
        fdm_tensors set;
        fdm_error err = {.status = FDM_OK};
        size_t n;
        const char *zip = scratch("variant.npz");
        unsigned char *file = make_npy(&n, cases[i].version, cases[i].header, cases[i].data, cases[i].n);
        fdm_status status = fdm_npy_parse(&set, file, n, "v", "variant", &err);
        ck_assert_msg(status == FDM_OK, "case %zu: %s", i, err.message);
        for (int64_t e = 0; e < fdm_tensor_numel(&set.items[0]); e++)
            ck_assert_msg(fdm_tensor_get(&set.items[0], e) == cases[i].want[e], "case %zu, element %d", i, (int)e);
        struct member member = {"v.npy", file, n, i % 2 ? ZIP_CM_DEFLATE : ZIP_CM_STORE};
        fdm_tensors from_zip;
        make_zip(zip, &member, 1);
        status = fdm_npz_read(&from_zip, zip, &err);
        ck_assert_msg(status == FDM_OK, "case %zu: %s", i, err.message);
        check_same_tensors(&set, &from_zip, false);
        fdm_tensors_free(&from_zip);
        fdm_tensors_free(&set);
        free(file);
    }
}
END_TEST

#define DICT(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"
#define F4(shape) DICT("'<f4'", "False", shape)

static const struct {
    const char *header;
    size_t n;
    const char *mention;
} bad_headers[] = {
    {DICT("'<f5'", "False", "(1,)"), 5, "<f5"},
    {DICT("'<c8'", "False", "(1,)"), 8, "<c8"},
    {DICT("'|O'", "False", "(1,)"), 8, "|O"},
    {DICT("'<U4'", "False", "(1,)"), 16, "<U4"},
    {DICT("'|S4'", "False", "(1,)"), 4, "|S4"},
    {DICT("'=f4'", "False", "(1,)"), 4, "=f4"},
    {DICT("'|f4'", "False", "(1,)"), 4, "|f4"},
    {DICT("'f4'", "False", "(1,)"), 4, "f4"},
    {DICT("''", "False", "(1,)"), 4, "not supported"},
    {DICT("'<'", "False", "(1,)"), 4, "not supported"},
    {DICT("[('a', '<f4')]", "False", "(1,)"), 4, "structured"},
    {DICT("'<f4", "False", "(1,)"), 4, NULL},
    {DICT("'<f4'", "0", "(1,)"), 4, "True nor False"},
    {DICT("'<f4'", "False", "1"), 4, "tuple"},
    {DICT("'<f4'", "False", "(1)"), 4, "tuple"},
    {DICT("'<f4'", "False", "[1,]"), 4, "tuple"},
    {DICT("'<f4'", "False", "(1, 1"), 4, NULL},
    {DICT("'<f4'", "False", "(1 1)"), 4, "comma"},
    {DICT("'<f4'", "False", "(-1,)"), 4, "dimension"},
    {DICT("'<f4'", "False", "(1.0,)"), 4, NULL},
    {DICT("'<f4'", "False", "(,)"), 4, "dimension"},
    {DICT("'<f4'", "False", "(1,,1)"), 4, "dimension"},
    {DICT("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), 4, "more than 8"},
    {DICT("'<f4'", "False", "(99999999999999999999,)"), 4, "dimension"},
    {DICT("'<f4'", "False", "(4611686018427387904,)"), 0, "elements"},
    {DICT("'|u1'", "False", "(4294967296, 4294967296)"), 0, "elements"},
    {DICT("'|u1'", "False", "(9223372036854775807, 0, 3)"), 0, "elements"},
    {F4("(2,)"), 4, "need 8 bytes"},
    {F4("(1,)"), 8, "need 4 bytes"},
    {F4("()"), 0, "need 4 bytes"},
    {"{'descr': '<f4', 'fortran_order': False}", 4, "lacks"},
    {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4, "second"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 4, "unknown key"},
    {"{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}", 4, "plain"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", 4, "follows"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)", 4, "plain"},
    {"", 4, NULL},
    {"{}", 4, NULL},
    {"__import__('os').system('true')", 4, "dictionary"},
    {"{'de\\x73cr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4, "plain"},
};

START_TEST(hostile_array_header) {
    size_t n;
    fdm_tensors set;
    fdm_error err;
    const char *zip = scratch("bad.npz"), *path = scratch("bad.npy");
    unsigned char *file = make_npy(&n, 1 + _i % 3, bad_headers[_i].header, NULL, bad_headers[_i].n);
    check_refused(fdm_npy_parse(&set, file, n, "x", "memory.npy", &err), FDM_BAD_INPUT, &err, "memory.npy");
    check_refused(FDM_BAD_INPUT, FDM_BAD_INPUT, &err, bad_headers[_i].mention);
    write_bytes(path, file, n);
    check_refused(fdm_npy_read(&set, path, &err), FDM_BAD_INPUT, &err, "bad.npy");
    ck_assert(set.count == 0 && set.mapping == NULL);
    struct member member = {"x.npy", file, n, _i % 2 ? ZIP_CM_DEFLATE : ZIP_CM_STORE};
    make_zip(zip, &member, 1);
    check_refused(fdm_npz_read(&set, zip, &err), FDM_BAD_INPUT, &err, "bad.npz");
    check_refused(FDM_BAD_INPUT, FDM_BAD_INPUT, &err, "\"x.npy\"");
    free(file);
}
END_TEST

START_TEST(npy_truncated_anywhere_or_damaged) {
    size_t n;
    fdm_tensors set;
    fdm_error err;
    int refused = 0, accepted = 0;
    unsigned char *file = make_npy(&n, 1, F4("(2,)"), "\0\0\x80\x3f\0\0\xc0\x7f", 8);
    for (size_t cut = 0; cut < n; cut++) {
        unsigned char *part = copy_bytes(file, cut);
        check_refused(fdm_npy_parse(&set, part, cut, "x", "cut.npy", &err), FDM_BAD_INPUT, &err, "cut.npy");
        free(part);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char old = file[i];
        for (int v = 0; v < 256; v++) {
            file[i] = (unsigned char)v;
            fdm_status status = fdm_npy_parse(&set, file, n, "x", "damaged.npy", &err);
            if (status) check_refused(status, FDM_BAD_INPUT, &err, "damaged.npy");
            if (status)
                refused++;
            else
                accepted++;
            fdm_tensors_free(&set);
        }
        file[i] = old;
    }
    printf(".npy, one byte damaged: %d refused, %d still well-formed\n", refused, accepted);
    fflush(stdout);
    ck_assert_int_gt(refused, accepted);
    free(file);
}
END_TEST

/* Two members, one deflated: for truncation and damage. */
static unsigned char *sample_zip(size_t *n) {
    size_t a_bytes, b_bytes;
    float data[64] = {1, 2, 3};
    const char *path = scratch("sample.npz");
    unsigned char *a = make_npy(&a_bytes, 1, F4("(64,)"), data, sizeof data);
    unsigned char *b = make_npy(&b_bytes, 1, DICT("'<i8'", "True", "(2, 2)"), data, 32);
    struct member members[] = {{"a.npy", a, a_bytes, ZIP_CM_DEFLATE}, {"b.npy", b, b_bytes, ZIP_CM_STORE}};
    make_zip(path, members, 2);
    free(a);
    free(b);
    return read_bytes(path, n);
}

START_TEST(npz_truncated_anywhere) {
    size_t n;
    unsigned char *file = sample_zip(&n);
    fdm_tensors set;
    fdm_error err = {.status = FDM_OK};
    ck_assert_msg(fdm_npz_parse(&set, file, n, "whole", &err) == FDM_OK, "%s", err.message);
    fdm_tensors_free(&set);
    for (size_t cut = 0; cut < n; cut++) check_npz_refused(file, cut, NULL);
    free(file);
}
END_TEST

/* A changed byte is noticed, or it is one that does not matter to the tensors (timestamps, attributes). */
START_TEST(npz_every_byte_damaged) {
    size_t n;
    unsigned char *file = sample_zip(&n);
    fdm_tensors whole, set;
    fdm_error err;
    int refused = 0, harmless = 0, renamed = 0;
    unsigned char *copy = copy_bytes(file, n); /* `whole` must not see the damage */
    ck_assert_int_eq(fdm_npz_parse(&whole, copy, n, "whole", NULL), FDM_OK);
    for (size_t i = 0; i < n; i++) {
        unsigned char old = file[i];
        for (int v = 1; v < 256; v += i % 2 ? 2 : 17) {
            file[i] = (unsigned char)(old ^ v);
            fdm_status status = fdm_npz_parse(&set, file, n, "damaged.npz", &err);
            if (status) {
                check_refused(status, FDM_BAD_INPUT, &err, "damaged.npz");
                refused++;
                continue;
            }
            bool same_names = set.count == 2 && fdm_tensors_find(&set, "a") && fdm_tensors_find(&set, "b");
            if (same_names) check_same_tensors(&whole, &set, false);
            if (same_names)
                harmless++;
            else
                renamed++;
            fdm_tensors_free(&set);
        }
        file[i] = old;
    }
    printf(".npz, one byte damaged: %d refused, %d with the same tensors, %d with other names or members\n",
           refused, harmless, renamed);
    fflush(stdout);
    ck_assert_int_gt(refused, harmless);
    fdm_tensors_free(&whole);
    free(copy);
    free(file);
}
END_TEST

START_TEST(checksum_errors) {
    size_t n;
    unsigned char *file = sample_zip(&n);
    file[n / 2 > 300 ? 300 : n / 2] ^= 1; /* within the data */
    check_npz_refused(file, n, NULL);
    free(file);
    struct fdm_zip_writer z;
    const char *path = scratch("crc.npz");
    unsigned char *npy = make_npy(&n, 1, F4("(1,)"), "\0\0\0\0", 4);
    ck_assert_int_eq(fdm_zip_begin(&z, path, NULL), FDM_OK);
    ck_assert_int_eq(fdm_zip_add(&z, "x.npy", npy, n, NULL, 0, NULL), FDM_OK);
    ck_assert_int_eq(fdm_zip_finish(&z, NULL), FDM_OK);
    unsigned char *zip = read_bytes(path, &n);
    zip[30 + 5 + 64 + 7] ^= 1; /* local header, name, array header: a data byte */
    check_npz_refused(zip, n, "checksum");
    free(zip);
    free(npy);
}
END_TEST

START_TEST(hostile_archives) {
    size_t n, size;
    const char *path = scratch("h.npz");
    unsigned char *npy = make_npy(&n, 1, F4("(1,)"), "\0\0\0\0", 4), *file;
    struct {
        struct member members[2];
        int count;
        const char *mention;
    } cases[] = {
        {{{"a.npy", npy, n, ZIP_CM_STORE}, {"a", npy, n, ZIP_CM_STORE}}, 2, "occurs twice"},
        {{{"readme.txt", "hello, this is text", 19, ZIP_CM_STORE}}, 1, "signature"},
        {{{"short", "hi", 2, ZIP_CM_STORE}}, 1, "no array"},
        {{{"folder/", "", 0, ZIP_CM_STORE}}, 1, "no array"},
        {{{"a.npy", npy, n, ZIP_CM_BZIP2}}, 1, "method"},
        {{{"../../etc/x.npy", npy, n - 1, ZIP_CM_STORE}}, 1, "../../etc/x"},
    };
    for (size_t i = 0; i < FDM_ARRAY_LEN(cases); i++) {
        make_zip(path, cases[i].members, cases[i].count);
        file = read_bytes(path, &size);
        check_npz_refused(file, size, cases[i].mention);
        free(file);
    }
    static const char *const names[][2] = {
        {"a\nb\x1b[31m.npy", "a?b?"}, {"\xff.npy", "UTF-8"}, {"\xc0\x80", "UTF-8"}};
    for (size_t i = 0; i < FDM_ARRAY_LEN(names); i++) { /* which libzip would not write */
        struct fdm_zip_writer z;
        ck_assert_int_eq(fdm_zip_begin(&z, path, NULL), FDM_OK);
        ck_assert_int_eq(fdm_zip_add(&z, names[i][0], npy, n - 1, NULL, 0, NULL), FDM_OK);
        ck_assert_int_eq(fdm_zip_finish(&z, NULL), FDM_OK);
        file = read_bytes(path, &size);
        check_npz_refused(file, size, names[i][1]);
        free(file);
    }
    check_npz_refused((const unsigned char *)"", 0, "empty");
    check_npz_refused((const unsigned char *)"PK\5\6", 4, NULL);
    check_npz_refused(npy, n, NULL);
    free(npy);
}
END_TEST

/* An archive of no members is a set of no tensors, as NumPy has it. */
START_TEST(empty_archive) {
    fdm_tensors set = {0};
    const char *path = scratch("empty.npz");
    ck_assert_int_eq(fdm_npz_write(&set, path, NULL), FDM_OK);
    ck_assert_int_eq(fdm_npz_read(&set, path, NULL), FDM_OK);
    ck_assert_uint_eq(set.count, 0);
}
END_TEST

static void patch32(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> (8 * i));
}

/* All local and central headers, found by their signatures, claim to unpack to `bytes`; their number. */
static int claim_size(unsigned char *zip, size_t n, uint32_t bytes) {
    int found = 0;
    for (size_t i = 0; i + 30 < n; i++) {
        bool local = memcmp(zip + i, "PK\3\4", 4) == 0, central = memcmp(zip + i, "PK\1\2", 4) == 0;
        if (local || central) patch32(zip + i + (local ? 22 : 24), bytes);
        found += local || central;
    }
    return found;
}

/* A member that claims gigabytes, deflated from nothing: refused before memory is asked for. */
START_TEST(bombs) {
    size_t n, zip_bytes;
    const char *path = scratch("bomb.npz");
    unsigned char *npy = make_npy(&n, 1, DICT("'|u1'", "False", "(3000000000,)"), NULL, 100000);
    struct member member = {"x.npy", npy, n, ZIP_CM_DEFLATE};
    make_zip(path, &member, 1);
    unsigned char *zip = read_bytes(path, &zip_bytes);
    check_npz_refused(zip, zip_bytes, "need 3000000000 bytes");
    /* Now the zip claims the size, too: both headers, found by their signatures. */
    ck_assert_int_eq(claim_size(zip, zip_bytes, 3000000070), 2);
    check_npz_refused(zip, zip_bytes, "bomb");
    free(zip);
    free(npy);
    /* Two members whose claims are possible one by one, but too much together. */
    n = 1100000;
    npy = malloc(n);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) npy[i] = (unsigned char)((state = state * 1664525u + 1013904223u) >> 24);
    struct member members[] = {{"a.npy", npy, n, ZIP_CM_DEFLATE}, {"b.npy", npy, n, ZIP_CM_DEFLATE}};
    make_zip(path, members, 2);
    zip = read_bytes(path, &zip_bytes);
    ck_assert_int_eq(claim_size(zip, zip_bytes, 1000000000), 4);
    check_npz_refused(zip, zip_bytes, "bomb");
    ck_assert_int_eq(claim_size(zip, zip_bytes, 2000000000), 4);
    check_npz_refused(zip, zip_bytes, "bomb");
    free(zip);
    free(npy);
}
END_TEST

START_TEST(unsuitable_files_and_names) {
    fdm_tensors set = {0};
    fdm_error err;
    ck_assert_int_eq(fdm_tensors_add(&set, "half", FDM_BF16, 0, NULL, NULL, NULL), FDM_OK);
    check_refused(fdm_tensorfile_write(&set, scratch("x.npz"), &err), FDM_BAD_USAGE, &err, "BF16");
    check_refused(fdm_tensorfile_write(&set, scratch("x.npy"), &err), FDM_BAD_USAGE, &err, "BF16");
    check_refused(fdm_tensorfile_write(&set, scratch("x.pt"), &err), FDM_BAD_USAGE, &err,
                  ".safetensors, .npz or .npy");
    check_refused(fdm_tensorfile_write(&set, scratch("a.npz/x"), &err), FDM_BAD_USAGE, &err, ".safetensors");
    ck_assert_int_eq(fdm_tensors_add(&set, "full", FDM_F32, 0, NULL, NULL, NULL), FDM_OK);
    check_refused(fdm_tensorfile_write(&set, scratch("x.npy"), &err), FDM_BAD_USAGE, &err, "2 tensors");
    ck_assert_int_eq(fdm_tensorfile_write(&set, scratch("X.SAFETENSORS"), &err), FDM_OK);
    ck_assert_int_eq(fdm_tensorfile_check_name("a.npz", &err), FDM_OK);
    check_refused(fdm_tensorfile_check_name("npz", &err), FDM_BAD_USAGE, &err, "npz");
    fdm_tensors_free(&set);
    check_refused(fdm_tensorfile_read(&set, "x.bin", &err), FDM_BAD_USAGE, &err, "x.bin");
    check_refused(fdm_tensorfile_read(&set, scratch("none.npz"), &err), FDM_BAD_INPUT, &err, "none.npz");
    check_refused(fdm_tensorfile_read(&set, scratch("none.npy"), &err), FDM_BAD_INPUT, &err, "none.npy");
}
END_TEST

static int wrong_messages;

struct job {
    fdm_tensors *set;
    const char *path;
};

static bool oom_read(void *path) {
    fdm_tensors set;
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_tensorfile_read(&set, path, &err);
    if (status && !is_refusal(status, FDM_NO_RESOURCE, &err, NULL)) wrong_messages++;
    if (status && (set.count || set.items || set.mapping)) wrong_messages++;
    fdm_tensors_free(&set);
    return status == FDM_OK;
}

static bool oom_write(void *arg) {
    struct job *job = arg;
    fdm_error err = {.status = FDM_OK};
    fdm_status status = fdm_tensorfile_write(job->set, job->path, &err);
    if (status && !is_refusal(status, FDM_NO_RESOURCE, &err, NULL)) wrong_messages++;
    return status == FDM_OK;
}

START_TEST(out_of_memory) {
    size_t n;
    char zip[600], npy[600], out[600];
    fdm_tensors set;
    snprintf(zip, sizeof zip, "%s", scratch("oom.npz"));
    snprintf(npy, sizeof npy, "%s", scratch("oom.npy"));
    snprintf(out, sizeof out, "%s", scratch("oom-out.npz"));
    unsigned char *file = sample_zip(&n);
    write_bytes(zip, file, n);
    free(file);
    ck_assert_int_ge(oom_sweep("npz read", oom_read, zip), 0);
    ck_assert_int_eq(fdm_npz_read(&set, zip, NULL), FDM_OK);
    ck_assert_int_ge(oom_sweep("npz write", oom_write, &(struct job){.set = &set, .path = out}), 0);
    fdm_tensors_free(&set);
    file = make_npy(&n, 1, DICT("'>i2'", "True", "(2, 2)"), "\0\1\0\2\0\3\0\4", 8);
    write_bytes(npy, file, n);
    free(file);
    ck_assert_int_ge(oom_sweep("npy read", oom_read, npy), 0);
    ck_assert_int_eq(fdm_npy_read(&set, npy, NULL), FDM_OK);
    snprintf(out, sizeof out, "%s", scratch("oom-out.npy"));
    ck_assert_int_ge(oom_sweep("npy write", oom_write, &(struct job){.set = &set, .path = out}), 0);
    fdm_tensors_free(&set);
    ck_assert_int_eq(wrong_messages, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("npz");
    TCase *tc = tcase_create("npz");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, npz_survives_bit_for_bit);
    tcase_add_test(tc, npy_survives_bit_for_bit);
    tcase_add_test(tc, zip64_records_are_written_and_read);
    tcase_add_test(tc, seventy_thousand_members);
    tcase_add_test(tc, numpy_variants);
    tcase_add_loop_test(tc, hostile_array_header, 0, (int)FDM_ARRAY_LEN(bad_headers));
    tcase_add_test(tc, npy_truncated_anywhere_or_damaged);
    tcase_add_test(tc, npz_truncated_anywhere);
    tcase_add_test(tc, npz_every_byte_damaged);
    tcase_add_test(tc, checksum_errors);
    tcase_add_test(tc, hostile_archives);
    tcase_add_test(tc, empty_archive);
    tcase_add_test(tc, bombs);
    tcase_add_test(tc, unsuitable_files_and_names);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
