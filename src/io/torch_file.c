/* torch_file.c - pickles and torch.save files; see torch_file.h for the layouts. */
#include "io/torch_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/text.h"

enum { LEGACY_VERSION = 1001, SHOWN = 60, REREAD_FREE_BYTES = 8 << 20, REREAD_REPEATS = 2 };
static const unsigned char legacy_magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

static fdm_status bad(const char *label, const char *why, fdm_error *err) {
    return fdm_fail(err, FDM_BAD_INPUT, "%s: %s; damaged, or not a file of torch.save", label, why);
}

fdm_status fdm_torch_charge(struct fdm_torch_file *f, size_t bytes, fdm_error *err) {
    if (fdm_memory_take(f->memory, bytes)) return FDM_OK;
    return fdm_fail(err, FDM_BAD_INPUT, "%s: needs more memory than a file of its size may; a bomb?", f->label);
}

/* Directory and storages: returned when the file is closed. */
static fdm_status charge_table(struct fdm_torch_file *f, size_t bytes, fdm_error *err) {
    fdm_status status = fdm_torch_charge(f, bytes, err);
    if (!status) f->tables += bytes;
    return status;
}

/* ---- Storages by their keys --------------------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b) {
    const struct fdm_torch_storage *x = a, *y = b;
    const size_t n = x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes;
    const int order = n ? memcmp(x->key, y->key, n) : 0;
    return order ? order : x->key_bytes < y->key_bytes ? -1 : x->key_bytes > y->key_bytes;
}

static fdm_status sort_storages(struct fdm_torch_file *f, fdm_error *err) {
    if (f->storage_count) qsort(f->storages, f->storage_count, sizeof *f->storages, compare_keys);
    for (size_t i = 1; i < f->storage_count; i++)
        if (compare_keys(&f->storages[i - 1], &f->storages[i]) == 0)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: storage \"%.*s\" is there twice", f->label, SHOWN, (const char *)f->storages[i].key);
    return FDM_OK;
}

static struct fdm_torch_storage *find_storage(const struct fdm_torch_file *f, const struct fdm_pickle_value *key) {
    const struct fdm_torch_storage wanted = {.key = key->bytes, .key_bytes = key->size};
    return f->storage_count ? bsearch(&wanted, f->storages, f->storage_count, sizeof *f->storages, compare_keys) : NULL;
}

/* ---- Persistent ids ----------------------------------------------------------------------------------------- */

static const struct {
    const char *name; /* of the class, without "Storage" */
    fdm_dtype dtype;
    size_t size;
} storage_classes[] = {
    {"Float", FDM_F32, 4}, {"Double", FDM_F64, 8}, {"Half", FDM_F16, 2},   {"BFloat16", FDM_BF16, 2}, {"Long", FDM_I64, 8},
    {"Int", FDM_I32, 4},   {"Short", FDM_I16, 2},  {"Char", FDM_I8, 1},    {"Byte", FDM_U8, 1},       {"Bool", FDM_BOOL, 1},
    {"Untyped", FDM_U8, 1}, {"ComplexFloat", FDM_DTYPE_COUNT, 8}, {"ComplexDouble", FDM_DTYPE_COUNT, 16},
    {"QUInt8", FDM_DTYPE_COUNT, 1}, {"QInt8", FDM_DTYPE_COUNT, 1}, {"QInt32", FDM_DTYPE_COUNT, 4},
};

/* What a persistent id says. */
struct storage_id {
    const struct fdm_pickle_value *key;
    fdm_dtype dtype;
    bool untyped;
    size_t element, bytes;
};

static bool read_class(struct storage_id *id, const struct fdm_pickle_value *name) {
    const char suffix[] = "Storage";
    if (!name || name->kind != FDM_PICKLE_NAME) return false;
    const struct fdm_pickle_value *module = &name->node->items[0], *cls = &name->node->items[1];
    if (!fdm_pickle_is(module, "torch") && !fdm_pickle_is(module, "torch.storage") && !fdm_pickle_is(module, "torch.cuda"))
        return false;
    for (size_t i = 0; i < FDM_ARRAY_LEN(storage_classes); i++) {
        const size_t n = strlen(storage_classes[i].name);
        if (cls->size != n + sizeof suffix - 1 || memcmp(cls->bytes, storage_classes[i].name, n) != 0 ||
            memcmp(cls->bytes + n, suffix, sizeof suffix - 1) != 0)
            continue;
        id->dtype = storage_classes[i].dtype;
        id->element = storage_classes[i].size;
        id->untyped = strcmp(storage_classes[i].name, "Untyped") == 0;
        return true;
    }
    return false;
}

static fdm_status read_id(struct storage_id *id, const char *label, const struct fdm_pickle_value *v, fdm_error *err) {
    const struct fdm_pickle_value *tuple = &v->node->items[0], *count = fdm_pickle_item(tuple, 4), *view = fdm_pickle_item(tuple, 5);
    *id = (struct storage_id){.key = fdm_pickle_item(tuple, 2)};
    if (!fdm_pickle_is(fdm_pickle_item(tuple, 0), "storage") || !count || count->kind != FDM_PICKLE_INT || id->key->kind != FDM_PICKLE_TEXT)
        return bad(label, "a persistent id that is no storage", err);
    if (!read_class(id, fdm_pickle_item(tuple, 1))) return bad(label, "a storage of an unknown class", err);
    if (view && view->kind != FDM_PICKLE_NONE)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: a storage is a view of another, as in files from before 2017; save it again with a newer torch",
                        label);
    if (count->number < 0 || !fdm_mul_size(&id->bytes, (size_t)count->number, id->element))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: a storage of %" PRId64 " elements; damaged", label, count->number);
    return FDM_OK;
}

/* ---- The zip layout ----------------------------------------------------------------------------------------- */

/* The directory with its names, the storages and what sorting them takes; the directory itself is bounded by the file's bytes. */
static fdm_status charge_members(struct fdm_torch_file *f, fdm_error *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < f->zip.count; i++)
        bytes += sizeof *f->zip.members + strlen(f->zip.members[i].name) + 1 + sizeof *f->storages + sizeof(char *);
    return charge_table(f, bytes, err);
}

static fdm_status check_members(const struct fdm_torch_file *f, fdm_error *err) {
    const char **names = malloc((f->zip.count + 1) * sizeof *names);
    if (!names) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (%zu members)", f->label, f->zip.count);
    for (size_t i = 0; i < f->zip.count; i++) names[i] = f->zip.members[i].name;
    const char *twice = fdm_find_duplicate(names, f->zip.count);
    free(names);
    if (twice) return fdm_fail(err, FDM_BAD_INPUT, "%s: member \"%.100s\" is there twice; damaged", f->label, twice);
    for (size_t i = 0; i < f->zip.count; i++)
        if (f->zip.members[i].deflated)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: member \"%.100s\" is compressed, which torch.save never does; store it instead "
                            "(zip -0)", f->label, f->zip.members[i].name);
    return FDM_OK;
}

/* The name of a member below the top folder `top`, or NULL. */
static const char *below(const struct fdm_zip_member *m, const char *top, size_t top_bytes) {
    return strncmp(m->name, top, top_bytes) == 0 && m->name[top_bytes] == '/' ? m->name + top_bytes + 1 : NULL;
}

/* The one member TOP/data.pkl. */
static fdm_status find_object(const struct fdm_zip_member **object, size_t *top_bytes, const struct fdm_torch_file *f, fdm_error *err) {
    *object = NULL;
    for (size_t i = 0; i < f->zip.count; i++) {
        const char *slash = strchr(f->zip.members[i].name, '/');
        if (!slash || strcmp(slash, "/data.pkl") != 0) continue;
        if (*object) return bad(f->label, "a zip with two data.pkl", err);
        *top_bytes = (size_t)(slash - f->zip.members[i].name);
        *object = &f->zip.members[i];
    }
    return *object ? FDM_OK : bad(f->label, "a zip without data.pkl", err);
}

static fdm_status check_crc(const struct fdm_torch_file *f, size_t member, fdm_error *err) {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* a fuzzer cannot guess checksums */
    (void)f, (void)member, (void)err;
#else
    const struct fdm_zip_member *m = &f->zip.members[member];
    if (crc32_z(0, f->zip.bytes + m->at, m->packed) != m->crc)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: member \"%.100s\": checksum error; damaged, copy the file again", f->label, m->name);
#endif
    return FDM_OK;
}

/* Storages TOP/data/KEY, and the mark TOP/byteorder. */
static fdm_status read_members(struct fdm_torch_file *f, const char *top, size_t top_bytes, fdm_error *err) {
    f->storages = calloc(f->zip.count, sizeof *f->storages);
    if (!f->storages) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (%zu storages)", f->label, f->zip.count);
    for (size_t i = 0; i < f->zip.count; i++) {
        const struct fdm_zip_member *m = &f->zip.members[i];
        const char *name = below(m, top, top_bytes);
        const unsigned char *data = f->zip.bytes + m->at;
        if (!name) continue;
        if (strncmp(name, "data/", 5) == 0)
            f->storages[f->storage_count++] = (struct fdm_torch_storage){
                .key = (const unsigned char *)name + 5, .key_bytes = strlen(name + 5), .data = data, .bytes = m->packed, .member = i};
        if (strcmp(name, "constants.pkl") == 0)
            return fdm_fail(err, FDM_BAD_INPUT, "%s: a TorchScript archive, which is a program; save the network's state_dict", f->label);
        if (strcmp(name, "byteorder") != 0) continue;
        f->swapped = m->packed == 3 && memcmp(data, "big", 3) == 0;
        if (!f->swapped && !(m->packed == 6 && memcmp(data, "little", 6) == 0))
            return bad(f->label, "member \"byteorder\" says neither little nor big", err);
    }
    return sort_storages(f, err);
}

static fdm_status parse_zip(struct fdm_torch_file *f, const void *bytes, size_t size, fdm_error *err) {
    const struct fdm_zip_member *object;
    size_t top_bytes = 0;
    f->layout = FDM_TORCH_ZIP;
    fdm_status status = fdm_zip_open(&f->zip, bytes, size, f->label, err);
    if (!status) status = charge_members(f, err);
    if (!status) status = check_members(f, err);
    if (!status) status = find_object(&object, &top_bytes, f, err);
    if (status) return status;
    status = check_crc(f, (size_t)(object - f->zip.members), err);
    if (!status) status = read_members(f, object->name, top_bytes, err);
    if (!status) status = fdm_pickle_parse(&f->pickle, f->zip.bytes + object->at, object->packed, f->memory, f->label, err);
    if (!status && f->pickle.bytes != object->packed) status = bad(f->label, "more than one pickle in data.pkl", err);
    return status;
}

/* ---- The legacy layout -------------------------------------------------------------------------------------- */

/* A pickle of one number. */
static bool is_magic(const struct fdm_pickle_value *v) {
    return v->kind == FDM_PICKLE_LONG && v->size == sizeof legacy_magic && memcmp(v->bytes, legacy_magic, v->size) == 0;
}

static bool starts_legacy(const unsigned char *bytes, size_t size) {
    size_t at = 2; /* "\x80" protocol, perhaps a frame, then the number */
    if (size < 2 || bytes[0] != 0x80) return false;
    if (at < size && bytes[at] == 0x95) at += 9;
    return at < size && size - at >= 2 + sizeof legacy_magic && bytes[at] == 0x8a && bytes[at + 1] == sizeof legacy_magic &&
           memcmp(bytes + at + 2, legacy_magic, sizeof legacy_magic) == 0;
}

struct cursor {
    const unsigned char *bytes;
    size_t size, at;
    struct fdm_memory *memory;
    const char *label;
    fdm_error *err;
};

static fdm_status next_pickle(struct fdm_pickle *p, struct cursor *c) {
    fdm_status status = fdm_pickle_parse(p, c->bytes + c->at, c->size - c->at, c->memory, c->label, c->err);
    if (!status) c->at += p->bytes;
    return status;
}

/* Magic number, version, and what the system was (storages are little-endian whatever it says). */
static fdm_status read_preamble(struct cursor *c) {
    struct fdm_pickle p;
    fdm_status status = FDM_OK;
    for (int i = 0; i < 3 && !status; i++) {
        status = next_pickle(&p, c);
        if (status) return status;
        if (i == 0 && !is_magic(&p.top)) status = bad(c->label, "not the magic number of torch.save", c->err);
        if (i == 1 && (p.top.kind != FDM_PICKLE_INT || p.top.number != LEGACY_VERSION))
            status = bad(c->label, "another version of torch.save's stream than 1001", c->err);
        if (i == 2 && p.top.kind != FDM_PICKLE_DICT) status = bad(c->label, "no description of the system", c->err);
        fdm_pickle_free(&p);
    }
    return status;
}

/* The storages that the object names, each with the bytes that it says they have. */
static fdm_status list_ids(struct fdm_torch_file *f, fdm_error *err) {
    const struct fdm_pickle_node *ids = &f->pickle.ids;
    struct storage_id id;
    fdm_status status = charge_table(f, fdm_memory_of_block((ids->count + 1) * sizeof *f->storages), err);
    if (status) return status;
    f->storages = calloc(ids->count + 1, sizeof *f->storages);
    if (!f->storages) return fdm_fail(err, FDM_NO_RESOURCE, "%s: out of memory (%zu storages)", f->label, ids->count);
    for (size_t i = 0; i < ids->count; i++) {
        status = read_id(&id, f->label, &ids->items[i], err);
        if (status) return status;
        f->storages[i] = (struct fdm_torch_storage){.key = id.key->bytes, .key_bytes = id.key->size, .bytes = id.bytes, .element = id.element};
    }
    if (ids->count) qsort(f->storages, ids->count, sizeof *f->storages, compare_keys);
    for (size_t i = 0; i < ids->count; i++) { /* each once */
        struct fdm_torch_storage *last = f->storage_count ? &f->storages[f->storage_count - 1] : NULL;
        if (!last || compare_keys(last, &f->storages[i]) != 0) f->storages[f->storage_count++] = f->storages[i];
        else if (last->bytes != f->storages[i].bytes || last->element != f->storages[i].element)
            return bad(f->label, "one storage with two sizes", err);
    }
    return FDM_OK;
}

/* Count and elements of the storage of that key. */
static fdm_status read_storage(struct fdm_torch_file *f, struct cursor *c, const struct fdm_pickle_value *key) {
    struct fdm_torch_storage *s = key->kind == FDM_PICKLE_TEXT ? find_storage(f, key) : NULL;
    uint64_t count = 0;
    if (!s || s->data) return bad(c->label, s ? "a storage is there twice" : "a storage that no tensor uses", c->err);
    if (c->size - c->at < 8) return bad(c->label, "truncated before a storage", c->err);
    for (int i = 0; i < 8; i++) count |= (uint64_t)c->bytes[c->at + (size_t)i] << (8 * i);
    c->at += 8;
    if (count != s->bytes / s->element)
        return fdm_fail(c->err, FDM_BAD_INPUT, "%s: storage \"%.*s\" has %" PRId64 " elements in one place and %zu in another; damaged",
                        c->label, (int)(s->key_bytes < SHOWN ? s->key_bytes : SHOWN), (const char *)s->key, (int64_t)count,
                        s->bytes / s->element);
    if (s->bytes > c->size - c->at) return bad(c->label, "truncated within a storage", c->err);
    s->data = c->bytes + c->at;
    s->checked = true;
    c->at += s->bytes;
    return FDM_OK;
}

static fdm_status read_storages(struct fdm_torch_file *f, struct cursor *c) {
    struct fdm_pickle keys;
    fdm_status status = next_pickle(&keys, c);
    if (status) return status;
    if (keys.top.kind != FDM_PICKLE_LIST || keys.top.node->count != f->storage_count)
        status = bad(c->label, "the list of storages does not match the object", c->err);
    for (size_t i = 0; !status && i < f->storage_count; i++) status = read_storage(f, c, &keys.top.node->items[i]);
    if (!status && c->at != c->size) status = bad(c->label, "bytes after the last storage", c->err);
    fdm_pickle_free(&keys);
    return status;
}

static fdm_status parse_legacy(struct fdm_torch_file *f, const void *bytes, size_t size, fdm_error *err) {
    struct cursor c = {.bytes = bytes, .size = size, .memory = f->memory, .label = f->label, .err = err};
    f->layout = FDM_TORCH_LEGACY;
    fdm_status status = read_preamble(&c);
    if (!status) status = next_pickle(&f->pickle, &c);
    if (!status) status = list_ids(f, err);
    return status ? status : read_storages(f, &c);
}

/* ---- The elements of a storage value ------------------------------------------------------------------------ */

/* Before n bytes are read for a tensor, whatever will come of it. */
static fdm_status count_reread(struct fdm_torch_file *f, size_t n, fdm_error *err) {
    if (f->reread / REREAD_REPEATS > fdm_add_saturated(f->size, REREAD_FREE_BYTES))
        return bad(f->label, "refers to the same storages over and over; a bomb?", err);
    f->reread = fdm_add_saturated(f->reread, n);
    return FDM_OK;
}

static fdm_status by_id(struct fdm_torch_elements *out, struct fdm_torch_file *f, const struct fdm_pickle_value *v, fdm_error *err) {
    struct storage_id id;
    fdm_status status = read_id(&id, f->label, v, err);
    if (status) return status;
    struct fdm_torch_storage *s = find_storage(f, id.key);
    if (!s)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: storage \"%.*s\" is missing; truncated or damaged", f->label,
                        (int)(id.key->size < SHOWN ? id.key->size : SHOWN), (const char *)id.key->bytes);
    if (s->bytes < id.bytes)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: storage \"%.*s\" has %zu bytes instead of %zu; damaged", f->label,
                        (int)(s->key_bytes < SHOWN ? s->key_bytes : SHOWN), (const char *)s->key, s->bytes, id.bytes);
    if (!s->checked) {
        status = count_reread(f, s->bytes, err);
        if (!status) status = check_crc(f, s->member, err);
        if (status) return status;
        s->checked = true;
    }
    *out = (struct fdm_torch_elements){s->data, id.bytes, id.dtype, id.untyped, f->swapped};
    return FDM_OK;
}

/* A legacy stream whose object is a storage. */
static fdm_status nested(struct fdm_torch_elements *out, struct fdm_torch_file *f, const struct fdm_pickle_value *bytes, fdm_error *err) {
    struct fdm_torch_file inner = {.memory = f->memory};
    const char *label = f->label;
    if (!bytes || bytes->kind != FDM_PICKLE_BYTES) return bad(label, "a storage of no bytes", err);
    fdm_status status = count_reread(f, bytes->size, err);
    if (!status && !(inner.label = fdm_strdup(label))) status = fdm_fail_oom(err, "label", strlen(label));
    if (!status) status = parse_legacy(&inner, bytes->bytes, bytes->size, err);
    if (!status && inner.pickle.top.kind != FDM_PICKLE_PERSISTENT) status = bad(label, "a nested stream that is no storage", err);
    if (!status) status = by_id(out, &inner, &inner.pickle.top, err);
    if (!status) f->reread -= out->bytes; /* elements are not parsed */
    fdm_torch_close(&inner);
    return status;
}

fdm_status fdm_torch_elements(struct fdm_torch_elements *out, struct fdm_torch_file *f, const struct fdm_pickle_value *storage,
                              fdm_error *err) {
    if (storage && storage->kind == FDM_PICKLE_PERSISTENT) return by_id(out, f, storage, err);
    if (fdm_pickle_is_call(storage, FDM_PICKLE_STORAGE_BYTES))
        return nested(out, f, fdm_pickle_argument(storage, FDM_PICKLE_STORAGE_BYTES, 0), err);
    return bad(f->label, "a tensor without a storage", err);
}

/* ---- Opening ------------------------------------------------------------------------------------------------ */

static bool is_zip(const unsigned char *bytes, size_t size) { return size >= 4 && memcmp(bytes, "PK\3\4", 4) == 0; }

bool fdm_is_torch_file(const void *bytes, size_t size) {
    const unsigned char *p = bytes;
    return is_zip(p, size) || (size >= 2 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5);
}

static fdm_status parse_plain(struct fdm_torch_file *f, const void *bytes, size_t size, fdm_error *err) {
    fdm_status status = fdm_pickle_parse(&f->pickle, bytes, size, f->memory, f->label, err);
    if (!status && f->pickle.bytes != size)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: %zu bytes after the end of the pickle; damaged, or several files in one", f->label,
                        size - f->pickle.bytes);
    return status;
}

fdm_status fdm_torch_parse(struct fdm_torch_file *f, const void *bytes, size_t size, const char *label, fdm_error *err) {
    *f = (struct fdm_torch_file){.size = size, .own = fdm_memory_of_file(size)};
    f->memory = &f->own;
    if (!(f->label = fdm_strdup(label))) return fdm_fail_oom(err, "label", strlen(label));
    fdm_status status = is_zip(bytes, size)          ? parse_zip(f, bytes, size, err)
                        : starts_legacy(bytes, size) ? parse_legacy(f, bytes, size, err)
                                                     : parse_plain(f, bytes, size, err);
    if (status) fdm_torch_close(f);
    return status;
}

fdm_status fdm_torch_open(struct fdm_torch_file *f, const char *path, fdm_error *err) {
    struct fdm_file_map map;
    *f = (struct fdm_torch_file){0};
    fdm_status status = fdm_file_map_open(&map, path, err);
    if (status) return status;
    status = fdm_torch_parse(f, map.bytes, map.size, fdm_path_tail(path), err);
    if (status) fdm_file_map_close(&map);
    f->map = map;
    return status;
}

void fdm_torch_close(struct fdm_torch_file *f) {
    fdm_pickle_free(&f->pickle);
    fdm_zip_close(&f->zip);
    fdm_file_map_close(&f->map);
    if (f->memory) f->memory->left += f->tables;
    free(f->storages);
    free(f->label);
    *f = (struct fdm_torch_file){0};
}

void fdm_torch_describe(char out[64], const struct fdm_torch_file *f) {
    static const char *const names[] = {"pickle", "legacy stream of torch.save", "zip of torch.save"};
    snprintf(out, 64, "%s, protocol %d", names[f->layout], f->pickle.protocol);
}
