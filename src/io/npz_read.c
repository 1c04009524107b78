/* npz_read.c - an .npz archive into a set of tensors, through libzip. */
#include "fdm/npz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "base/tensor_set.h"
#include "io/io.h"
#include "io/npy.h"

struct reading {
    fdm_tensors *set;
    const char *label;
    zip_t *zip;
    size_t file_bytes;
    size_t packed_left;   /* members' compressed bytes must fit into the file together: no shared data */
    size_t unpacked_left; /* budget against decompression bombs */
    fdm_error *err;
};

static fdm_status bad(const struct reading *r, const char *member, const char *format, ...) FDM_PRINTF(3, 4);
static fdm_status bad(const struct reading *r, const char *member, const char *format, ...) {
    char why[192];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (!member) return fdm_fail(r->err, FDM_BAD_INPUT, "%s: %s; not a usable npz file", r->label, why);
    return fdm_fail(r->err, FDM_BAD_INPUT, "%s: member \"%.100s\": %s", r->label, member, why);
}

static fdm_status zip_failure(const struct reading *r, const char *member, const zip_error_t *e) {
    int code = zip_error_code_zip(e);
    if (code == ZIP_ER_MEMORY) return fdm_fail(r->err, FDM_NO_RESOURCE, "%s: out of memory (zip archive)", r->label);
    /* zip_error_strerror would allocate into the error; the cases a person meets have words of their own. */
    switch (code) {
    case ZIP_ER_NOZIP: return bad(r, member, "no zip directory at the end; truncated or another format");
    case ZIP_ER_INCONS: return bad(r, member, "inconsistent zip directory (zip error %d); damaged", code);
    case ZIP_ER_CRC: return bad(r, member, "checksum error; damaged");
    case ZIP_ER_ZLIB:
    case ZIP_ER_COMPRESSED_DATA: return bad(r, member, "damaged compressed data");
    case ZIP_ER_EOF: return bad(r, member, "truncated");
    default: return bad(r, member, "zip error %d", code);
    }
}

/* Reads exactly n bytes of a member. */
static fdm_status read_exactly(const struct reading *r, zip_file_t *f, const char *member, void *out, size_t n) {
    unsigned char *p = out;
    while (n > 0) {
        zip_int64_t got = zip_fread(f, p, n < (1u << 30) ? n : 1u << 30);
        if (got < 0) return zip_failure(r, member, zip_file_get_error(f));
        if (got == 0) return bad(r, member, "truncated: %zu bytes missing", n);
        p += got;
        n -= (size_t)got;
    }
    return FDM_OK;
}

/* At the end libzip compares the checksum. */
static fdm_status expect_end(const struct reading *r, zip_file_t *f, const char *member) {
    char extra;
    zip_int64_t got = zip_fread(f, &extra, 1);
    if (got < 0) return zip_failure(r, member, zip_file_get_error(f));
    return got == 0 ? FDM_OK : bad(r, member, "unpacks to more than its header says");
}

/* Size and method before anything is unpacked. */
static fdm_status check_member(struct reading *r, const zip_stat_t *st) {
    const zip_uint64_t need = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    if ((st->valid & need) != need) return bad(r, NULL, "a member without name, size or method");
    if ((st->valid & ZIP_STAT_ENCRYPTION_METHOD) && st->encryption_method != ZIP_EM_NONE)
        return bad(r, st->name, "is encrypted");
    if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE)
        return bad(r, st->name, "compression method %d; stored and deflated are supported", st->comp_method);
    if (st->comp_size > r->packed_left)
        return bad(r, st->name, "claims %llu packed bytes of a %zu-byte file", (unsigned long long)st->comp_size,
                   r->file_bytes);
    if (st->comp_method == ZIP_CM_STORE && st->comp_size != st->size) return bad(r, st->name, "stored size differs");
    if (st->size > r->unpacked_left)
        return bad(r, st->name, "unpacks to %llu bytes, beyond the limit for a file of %zu (a zip bomb?)",
                   (unsigned long long)st->size, r->file_bytes);
    if (st->size < FDM_NPY_PREFIX) return bad(r, st->name, "%d bytes are no array; remove it", (int)st->size);
    r->packed_left -= (size_t)st->comp_size;
    r->unpacked_left -= (size_t)st->size;
    return FDM_OK;
}

static char *tensor_name(const char *member) {
    char *name = fdm_strdup(member);
    size_t n = name ? strlen(name) : 0;
    if (n >= 4 && strcmp(name + n - 4, ".npy") == 0) name[n - 4] = '\0';
    return name;
}

/* The array header of a member; *end is where the data starts. */
static fdm_status read_header(const struct reading *r, zip_file_t *f, const zip_stat_t *st, struct fdm_npy *npy,
                              size_t *end) {
    unsigned char prefix[FDM_NPY_PREFIX];
    fdm_status status = read_exactly(r, f, st->name, prefix, sizeof prefix);
    if (!status) status = fdm_npy_header_end(end, prefix, r->label, st->name, r->err);
    if (!status && *end > st->size) status = bad(r, st->name, "truncated: its header ends at byte %zu", *end);
    if (status) return status;
    unsigned char *header = malloc(*end);
    if (!header) return fdm_fail_oom(r->err, "array header", *end);
    memcpy(header, prefix, sizeof prefix);
    status = read_exactly(r, f, st->name, header + sizeof prefix, *end - sizeof prefix);
    if (!status) status = fdm_npy_parse_header(npy, header, *end, r->label, st->name, r->err);
    free(header);
    if (!status && npy->nbytes != st->size - *end)
        status = bad(r, st->name, "type and shape need %zu bytes of data, the member has %llu", npy->nbytes,
                     (unsigned long long)(st->size - *end));
    return status;
}

static fdm_status read_open_member(const struct reading *r, zip_file_t *f, const zip_stat_t *st) {
    struct fdm_npy npy;
    size_t end;
    fdm_tensor *t;
    fdm_status status = read_header(r, f, st, &npy, &end);
    if (status) return status;
    char *name = tensor_name(st->name);
    if (!name) return fdm_fail_oom(r->err, "array name", strlen(st->name));
    status = fdm_tensors_append(r->set, name, npy.dtype, npy.ndim, npy.shape, NULL, false, &t, r->err);
    free(name);
    if (!status) status = read_exactly(r, f, st->name, t->data, t->nbytes);
    if (!status) status = expect_end(r, f, st->name);
    if (!status) status = fdm_npy_to_native(t, &npy, r->err);
    return status;
}

static fdm_status read_member(struct reading *r, zip_uint64_t index) {
    zip_stat_t st;
    zip_stat_init(&st);
    if (zip_stat_index(r->zip, index, 0, &st)) return zip_failure(r, NULL, zip_get_error(r->zip));
    fdm_status status = check_member(r, &st);
    if (status) return status;
    if (!fdm_utf8_valid(st.name)) return bad(r, NULL, "a member name that is not UTF-8");
    zip_file_t *f = zip_fopen_index(r->zip, index, 0);
    if (!f) return zip_failure(r, st.name, zip_get_error(r->zip));
    status = read_open_member(r, f, &st);
    zip_fclose(f);
    return status;
}

static int by_name(const void *a, const void *b) {
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static fdm_status check_duplicates(const struct reading *r) {
    size_t n = r->set->count;
    fdm_status status = FDM_OK;
    const char **names = malloc((n + 1) * sizeof *names); /* the set's items are larger */
    if (!names) return fdm_fail_oom(r->err, "array names", n * sizeof *names);
    for (size_t i = 0; i < n; i++) names[i] = r->set->items[i].name;
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 1; i < n && !status; i++)
        if (strcmp(names[i - 1], names[i]) == 0) status = bad(r, names[i], "occurs twice");
    free(names);
    return status;
}

static fdm_status read_members(struct reading *r) {
    fdm_status status = FDM_OK;
    zip_int64_t count = zip_get_num_entries(r->zip, 0);
    for (zip_int64_t i = 0; i < count && !status; i++) status = read_member(r, (zip_uint64_t)i);
    return status ? status : check_duplicates(r);
}

/* The archive in memory as libzip sees it. */
static fdm_status open_zip(struct reading *r, const void *bytes, size_t size) {
    zip_error_t e;
    fdm_status status = FDM_OK;
    zip_error_init(&e);
    zip_source_t *source = zip_source_buffer_create(bytes, size, 0, &e);
    r->zip = source ? zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &e) : NULL;
    if (!r->zip) {
        status = zip_failure(r, NULL, &e);
        if (source) zip_source_free(source);
    }
    zip_error_fini(&e);
    return status;
}

fdm_status fdm_npz_parse(fdm_tensors *set, const void *bytes, size_t size, const char *label, fdm_error *err) {
    struct reading r = {.set = set, .label = label, .file_bytes = size, .packed_left = size, .err = err};
    memset(set, 0, sizeof *set);
    if (!fdm_mul_size(&r.unpacked_left, size, FDM_NPZ_MAX_RATIO) ||
        !fdm_add_size(&r.unpacked_left, r.unpacked_left, FDM_NPZ_FREE_BYTES))
        r.unpacked_left = SIZE_MAX;
    if (size == 0) return bad(&r, NULL, "empty file");
    fdm_status status = open_zip(&r, bytes, size);
    if (status) return status;
    status = read_members(&r);
    zip_discard(r.zip);
    if (status) fdm_tensors_free(set);
    return status;
}

fdm_status fdm_npz_read(fdm_tensors *set, const char *path, fdm_error *err) {
    struct fdm_file_map map;
    memset(set, 0, sizeof *set);
    fdm_status status = fdm_file_map_open(&map, path, err);
    if (status) return status;
    status = fdm_npz_parse(set, map.bytes, map.size, fdm_path_tail(path), err);
    fdm_file_map_close(&map);
    return status;
}
