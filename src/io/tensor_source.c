/* tensor_source.c - a tensor file one tensor at a time. */
#include "io/tensor_source.h"

#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fdm/tensorfile.h"
#include "io/npz_read.h"

static bool is_archive(const char *path) {
    const size_t length = strlen(path);
    return length >= 4 && strcasecmp(path + length - 4, ".npz") == 0;
}

static fdm_status open_archive(struct fdm_tensor_source *s, const char *path, fdm_error *err) {
    fdm_status status = fdm_file_map_open(&s->map, path, err);
    if (status) return status;
    status = fdm_zip_open(&s->zip, s->map.bytes, s->map.size, fdm_path_tail(path), err);
    if (!status) {
        status = fdm_npz_describe(&s->table, &s->zip, err);
        if (status) fdm_zip_close(&s->zip);
    }
    if (status) fdm_file_map_close(&s->map);
    s->archive = status == FDM_OK;
    return status;
}

fdm_status fdm_tensor_source_open(struct fdm_tensor_source *s, const char *path, fdm_error *err) {
    memset(s, 0, sizeof *s);
    return is_archive(path) ? open_archive(s, path, err) : fdm_tensorfile_read(&s->table, path, err);
}

void fdm_tensor_source_borrow(struct fdm_tensor_source *s, const fdm_tensors *set) {
    memset(s, 0, sizeof *s);
    s->table = *set;
    s->borrowed = true;
}

void fdm_tensor_source_close(struct fdm_tensor_source *s) {
    if (s->archive) {
        fdm_zip_close(&s->zip);
        fdm_file_map_close(&s->map);
    }
    if (!s->borrowed) fdm_tensors_free(&s->table);
    memset(s, 0, sizeof *s);
}

/* Lets the kernel take back the pages that lie wholly within the data; they can be read again. */
static void drop_pages(const void *mapping, size_t mapping_bytes, const void *data, size_t nbytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t from = (size_t)((uintptr_t)data - (uintptr_t)mapping);
    if (!mapping || from > mapping_bytes || nbytes > mapping_bytes - from) return; /* a copy elsewhere */
    const size_t first = fdm_round_up(from, page), end = (from + nbytes) / page * page;
    if (first < end) (void)madvise((unsigned char *)fdm_unconst(mapping) + first, end - first, MADV_DONTNEED);
}

fdm_status fdm_tensor_source_load(fdm_tensor *t, const struct fdm_tensor_source *s, size_t index, fdm_error *err) {
    *t = s->table.items[index];
    t->owns_data = false;
    if (!s->archive) return FDM_OK;
    fdm_status status = fdm_npz_unpack(t, &s->zip, index, err);
    const struct fdm_zip_member *m = &s->zip.members[index];
    drop_pages(s->map.mapping, s->map.size, s->map.bytes + m->at, m->packed);
    if (status) fdm_tensor_source_unload(t, s);
    return status;
}

void fdm_tensor_source_unload(fdm_tensor *t, const struct fdm_tensor_source *s) {
    if (t->owns_data)
        fdm_free_aligned(t->data);
    else if (t->data && !s->borrowed)
        drop_pages(s->table.mapping, s->table.mapping_bytes, t->data, t->nbytes);
    memset(t, 0, sizeof *t);
}
