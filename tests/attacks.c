/* attacks.c - hostile pickles and torch.save files. */
#include "attacks.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* ---- The kit ------------------------------------------------------------------------------------------------ */

void put(struct bytes *b, const void *bytes, size_t n) {
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n);
        b->p = realloc(b->p, b->room);
        ck_assert_ptr_nonnull(b->p);
    }
    if (n) memcpy(b->p + b->n, bytes, n);
    b->n += n;
}

void put_u8(struct bytes *b, int value) {
    const unsigned char byte = (unsigned char)value;
    put(b, &byte, 1);
}

void put_le(struct bytes *b, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) put_u8(b, (int)(value >> (8 * i) & 0xff));
}

void put_text(struct bytes *b, const char *s) {
    PUT(b, "X");
    put_le(b, strlen(s), 4);
    put(b, s, strlen(s));
}

void put_long(struct bytes *b, int64_t value) {
    PUT(b, "\x8a\x08");
    put_le(b, (uint64_t)value, 8);
}

void put_name(struct bytes *b, const char *module, const char *name) {
    PUT(b, "c");
    put(b, module, strlen(module));
    PUT(b, "\n");
    put(b, name, strlen(name));
    PUT(b, "\n");
}

static void put_header(struct bytes *out, const struct zip_part *m, uint32_t crc, int central) {
    const uint64_t unpacked = m->claimed ? m->claimed : m->data.n;
    const int zip64 = m->zip64_lie;
    put_le(out, central ? 0x02014b50 : 0x04034b50, 4);
    if (central) put_le(out, 45, 2);
    put_le(out, 45, 2);
    put_le(out, 0, 2);
    put_le(out, (uint64_t)m->method, 2);
    put_le(out, 0x210000, 4);
    put_le(out, crc, 4);
    put_le(out, zip64 ? 0xffffffff : m->data.n, 4);
    put_le(out, zip64 ? 0xffffffff : unpacked, 4);
    put_le(out, strlen(m->name), 2);
    put_le(out, zip64 ? 20 : 0, 2);
    if (central) {
        put_le(out, 0, 6); /* comment, disk, attributes */
        put_le(out, 0, 4);
        put_le(out, m->header, 4);
    }
    put(out, m->name, strlen(m->name));
    if (!zip64) return;
    put_le(out, 1, 2);
    put_le(out, 16, 2);
    put_le(out, unpacked, 8);
    put_le(out, m->method ? m->data.n : unpacked, 8);
}

void make_zip(struct bytes *out, struct zip_part *parts, int count) {
    for (int i = 0; i < count; i++) {
        const uint32_t crc = (uint32_t)crc32(0, parts[i].data.p, (uInt)parts[i].data.n) ^ (parts[i].bad_crc ? 1u : 0u);
        parts[i].header = out->n;
        put_header(out, &parts[i], crc, 0);
        put(out, parts[i].data.p, parts[i].data.n);
    }
    const size_t directory = out->n;
    for (int i = 0; i < count; i++) {
        const uint32_t crc = (uint32_t)crc32(0, parts[i].data.p, (uInt)parts[i].data.n) ^ (parts[i].bad_crc ? 1u : 0u);
        if (parts[i].same_header) parts[i].header = parts[i - 1].header;
        put_header(out, &parts[i], crc, 1);
    }
    const size_t bytes = out->n - directory;
    PUT(out, "PK\5\6\0\0\0\0");
    put_le(out, (uint64_t)count, 2);
    put_le(out, (uint64_t)count, 2);
    put_le(out, bytes, 4);
    put_le(out, directory, 4);
    put_le(out, 0, 2);
}

/* ---- Pieces of torch ---------------------------------------------------------------------------------------- */

struct attempt {
    attack_fn take;
    void *user;
};

static void done(const struct attempt *a, const char *name, const char *mention, struct bytes *b) {
    a->take(a->user, name, mention, b->p, b->n);
    free(b->p);
    *b = (struct bytes){0};
}

void put_storage(struct bytes *b, const char *class, const char *key, int64_t numel) {
    PUT(b, "(");
    put_text(b, "storage");
    put_name(b, "torch", class);
    put_text(b, key);
    put_text(b, "cpu");
    put_long(b, numel);
    PUT(b, "tQ");
}

/* _rebuild_tensor_v2 of one dimension more than `more` ones. */
static void put_tensor(struct bytes *b, const char *class, int64_t numel, int64_t offset, int64_t size, int64_t stride) {
    put_name(b, "torch._utils", "_rebuild_tensor_v2");
    PUT(b, "(");
    put_storage(b, class, "0", numel);
    put_long(b, offset);
    put_long(b, size);
    PUT(b, "\x85");
    put_long(b, stride);
    PUT(b, "\x85\x89");
    put_name(b, "collections", "OrderedDict");
    PUT(b, ")RtR");
}

/* {"w": tensor} */
static void put_object(struct bytes *b, const char *class, int64_t numel, int64_t offset, int64_t size, int64_t stride) {
    PUT(b, "\x80\x02}");
    put_text(b, "w");
    put_tensor(b, class, numel, offset, size, stride);
    PUT(b, "s.");
}

static struct bytes copy_of(const char *text, size_t n) {
    struct bytes b = {0};
    put(&b, text, n);
    return b;
}

static const char sixteen[] = "\0\0\0\0\0\0\x80?\0\0\0@\0\0@@"; /* 0, 1, 2, 3 as floats */

/* A zip of this object and a storage of 16 bytes. */
static void zip_of(struct bytes *out, struct bytes *object) {
    struct zip_part parts[] = {{.name = "a/data.pkl", .data = *object}, {.name = "a/data/0", .data = copy_of(sixteen, 16)},
                               {.name = "a/version", .data = copy_of("3\n", 2)}};
    make_zip(out, parts, 3);
    for (int i = 0; i < 3; i++) free(parts[i].data.p);
    *object = (struct bytes){0};
}

static void tensor_attack(const struct attempt *a, const char *name, const char *mention, const char *class, int64_t numel, int64_t offset,
                          int64_t size, int64_t stride) {
    struct bytes object = {0}, file = {0};
    put_object(&object, class, numel, offset, size, stride);
    zip_of(&file, &object);
    done(a, name, mention, &file);
}

/* ---- Pickles ------------------------------------------------------------------------------------------------ */

static void calls(const struct attempt *a) {
    struct bytes b = {0};
    PUT(&b, "\x80\x02" "cos\nsystem\nX\x04\0\0\0true\x85R.");
    done(a, "os_system", "names os.system", &b);
    PUT(&b, "\x80\x02" "cposix\nsystem\nX\x04\0\0\0true\x85R.");
    done(a, "posix_system", "names posix.system", &b);
    PUT(&b, "\x80\x02" "c__builtin__\neval\nX\x02\0\0\0" "42\x85R.");
    done(a, "eval", "names __builtin__.eval", &b);
    PUT(&b, "\x80\x04\x8c\x08" "builtins\x8c\x04" "exec\x93\x8c\x01x\x85R.");
    done(a, "exec_by_stack_global", "names builtins.exec", &b);
    PUT(&b, "\x80\x02}X\x03\0\0\0emac__builtin__\ngetattr\nX\x01\0\0\0a\x85Rs.");
    done(a, "getattr_within_a_snapshot", "names __builtin__.getattr", &b);
    PUT(&b, "\x80\x02" "ctorch.hub\nload\nX\x04\0\0\0" "evil\x85R.");
    done(a, "call_within_torch", "calls torch.hub.load", &b);
    PUT(&b, "\x80\x02" "csubprocess\nPopen\n)\x81}b.");
    done(a, "object_of_subprocess", "names subprocess.Popen", &b);
    PUT(&b, "\x80\x02" "cnumpy\nload\nX\x06\0\0\0" "/x.npy\x85R.");
    done(a, "call_within_numpy", "calls numpy.load", &b);
    PUT(&b, "\x80\x02" "ccollections\nOrderedDict\nK\x01R.");
    done(a, "call_without_a_tuple", "a call of something strange", &b);
    PUT(&b, "\x80\x02}" "X\x01\0\0\0aX\x01\0\0\0b\x85R.");
    done(a, "call_of_a_string", "a call of something strange", &b);
    PUT(&b, "\x80\x02(ios\nsystem\n.");
    done(a, "inst", "operation 0x69", &b);
    PUT(&b, "\x80\x02\x82\x01.");
    done(a, "extension", "operation 0x82", &b);
    PUT(&b, "\x80\x05\x97.");
    done(a, "buffer_from_elsewhere", "operation 0x97", &b);
    PUT(&b, "cos\nsystem\n(S'true'\ntR.");
    done(a, "protocol_0", "no pickle of protocol 2 to 5", &b);
    PUT(&b, "\x80\x06N.");
    done(a, "protocol_6", "protocol not 2 to 5", &b);
}

static void bombs(const struct attempt *a) {
    struct bytes b = {0};
    PUT(&b, "\x80\x02Nr\xff\xff\xff\xff.");
    done(a, "memo_of_4_billion", "a memo beyond what it can have written", &b);
    PUT(&b, "\x80\x02]");
    for (int i = 0; i < 100000; i++) PUT(&b, "]");
    for (int i = 0; i < 100000; i++) PUT(&b, "a");
    PUT(&b, ".");
    done(a, "deep_lists", "nested more than 256 deep", &b);
    PUT(&b, "\x80\x02");
    for (int i = 0; i < 100000; i++) PUT(&b, "(");
    PUT(&b, ".");
    done(a, "deep_marks", "nested more than", &b);
    PUT(&b, "\x80\x02");
    for (int i = 0; i < 1000000; i++) PUT(&b, "\x86");
    PUT(&b, ".");
    done(a, "tuples_of_nothing", "too few values", &b);
    PUT(&b, "\x80\x02");
    for (int i = 0; i < 2000000; i++) PUT(&b, "}");
    PUT(&b, ".");
    done(a, "two_million_dicts", "needs more memory", &b);
    PUT(&b, "\x80\x02]q\x01" "0"); /* level n + 1 is ten times level n: the last stands for 10^12 values */
    for (int level = 1; level <= 12; level++) {
        PUT(&b, "](");
        for (int i = 0; i < 10; i++) {
            PUT(&b, "h");
            put_u8(&b, level);
        }
        PUT(&b, "eq");
        put_u8(&b, level + 1);
        if (level < 12) PUT(&b, "0");
    }
    PUT(&b, ".");
    done(a, "billion_laughs", "values (references to references?)", &b);
    PUT(&b, "\x80\x02]q\x01h\x01" "a.");
    done(a, "list_within_itself", "within itself?", &b);
    PUT(&b, "\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\xff.");
    done(a, "bytes_of_2_64", "a string is cut off", &b);
    PUT(&b, "\x80\x02T\xff\xff\xff\xff.");
    done(a, "string_of_minus_1", "a string is cut off", &b);
    PUT(&b, "\x80\x02" "c_codecs\nencode\nX\x03\0\0\0\xe2\x82\xacX\x06\0\0\0latin1\x86R.");
    done(a, "bytes_that_are_not_latin1", "not latin-1", &b);
    PUT(&b, "\x80\x02\x8a\xff" "123.");
    done(a, "long_cut_off", "a number is cut off", &b);
}

static void machine(const struct attempt *a) {
    struct bytes b = {0};
    PUT(&b, "\x80\x02h\x05.");
    done(a, "memo_never_written", "a memo that was never written", &b);
    PUT(&b, "\x80\x02u.");
    done(a, "items_without_mark", "no mark", &b);
    PUT(&b, "\x80\x02" "0.");
    done(a, "pop_of_nothing", "too few values", &b);
    PUT(&b, "\x80\x02Nb.");
    done(a, "state_of_nothing", "too few values", &b);
    PUT(&b, "\x80\x02](NNb.");
    done(a, "state_of_none", "a state for a plain value", &b);
    PUT(&b, "\x80\x02](K\x01u.");
    done(a, "odd_dict", "values for another container", &b);
    PUT(&b, "\x80\x02.");
    done(a, "nothing", "not one value", &b);
    PUT(&b, "\x80\x02NN.");
    done(a, "two_values", "not one value", &b);
    PUT(&b, "\x80\x02N.garbage");
    done(a, "garbage_behind", "7 bytes after the end", &b);
    PUT(&b, "\x80\x02}.");
    done(a, "empty_dict", "holds no network and no tensors", &b);
    PUT(&b, "\x80");
    done(a, "one_byte", "no pickle", &b);
    done(a, "empty", "no pickle", &b);
    PUT(&b, "\x80\x02X\x07\0\0\0storageQ.");
    done(a, "persistent_id_in_a_plain_pickle", "holds no network", &b);
}

/* ---- Tensors ------------------------------------------------------------------------------------------------ */

static void tensors(const struct attempt *a) {
    const int64_t large = (int64_t)1 << 40, huge = INT64_MAX;
    tensor_attack(a, "negative_size", "non-negative", "FloatStorage", 4, 0, -1, 1);
    tensor_attack(a, "negative_stride", "non-negative", "FloatStorage", 4, 3, 4, -1);
    tensor_attack(a, "negative_offset", "no offset", "FloatStorage", 4, -1, 4, 1);
    tensor_attack(a, "negative_count", "a storage of -4 elements", "FloatStorage", -4, 0, 4, 1);
    tensor_attack(a, "count_beyond_storage", "16 bytes instead of 32", "FloatStorage", 8, 0, 4, 1);
    tensor_attack(a, "count_overflow", "a storage of", "DoubleStorage", huge, 0, 4, 1);
    tensor_attack(a, "size_beyond_storage", "reach element 4 of a storage of 4", "FloatStorage", 4, 0, 5, 1);
    tensor_attack(a, "offset_beyond_storage", "reach element 4 of a storage of 4", "FloatStorage", 4, 1, 4, 1);
    tensor_attack(a, "stride_beyond_storage", "reach element 6 of a storage of 4", "FloatStorage", 4, 0, 4, 2);
    tensor_attack(a, "stride_overflow", "strides reach beyond any memory", "FloatStorage", 4, 0, 4, huge);
    tensor_attack(a, "size_overflow", "more elements than any memory", "FloatStorage", 4, 0, huge, 0);
    tensor_attack(a, "one_element_a_trillion_times", "a bomb?", "FloatStorage", 4, 0, large, 0);
    tensor_attack(a, "double_of_float_bytes", "16 bytes instead of 32", "DoubleStorage", 4, 0, 4, 1);
    tensor_attack(a, "complex", "is not supported", "ComplexFloatStorage", 2, 0, 2, 1);
    tensor_attack(a, "unknown_storage", "unknown class", "EvilStorage", 4, 0, 4, 1);
}

static void graphs(const struct attempt *a) {
    struct bytes object = {0}, file = {0};
    PUT(&object, "\x80\x02}("); /* the same name twice */
    for (int i = 0; i < 2; i++) {
        put_text(&object, "w");
        put_tensor(&object, "FloatStorage", 4, 0, 4, 1);
    }
    PUT(&object, "u.");
    zip_of(&file, &object);
    done(a, "same_name_twice", "two tensors are named \"w\"", &file);

    PUT(&object, "\x80\x02]("); /* one tensor 30000 times */
    put_tensor(&object, "FloatStorage", 4, 0, 4, 1);
    PUT(&object, "q\x01");
    for (int i = 0; i < 30000; i++) PUT(&object, "h\x01");
    PUT(&object, "e.");
    zip_of(&file, &object);
    done(a, "tensor_30000_times", "more than 20000 tensors", &file);

    PUT(&object, "\x80\x02}"); /* nine dimensions */
    put_text(&object, "w");
    put_name(&object, "torch._utils", "_rebuild_tensor_v2");
    PUT(&object, "(");
    put_storage(&object, "FloatStorage", "0", 4);
    PUT(&object, "K\0(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t\x89NtRs.");
    zip_of(&file, &object);
    done(a, "nine_dimensions", "at most 8", &file);

    PUT(&object, "\x80\x02}");
    put_text(&object, "w");
    put_name(&object, "torch._utils", "_rebuild_tensor_v2");
    PUT(&object, "(");
    put_storage(&object, "FloatStorage", "7", 4);
    PUT(&object, "K\0K\x04\x85K\x01\x85\x89NtRs.");
    zip_of(&file, &object);
    done(a, "storage_missing", "storage \"7\" is missing", &file);

    PUT(&object, "\x80\x02}");
    put_text(&object, "w");
    put_name(&object, "torch._utils", "_rebuild_tensor_v2");
    PUT(&object, "(K\0K\0K\x04\x85K\x01\x85\x89NtRs.");
    zip_of(&file, &object);
    done(a, "storage_that_is_a_number", "a tensor without a storage", &file);

    PUT(&object, "\x80\x02}"); /* an array whose bytes are fewer than its shape says */
    put_text(&object, "w");
    PUT(&object, "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01" "b\x87R(K\x01K\x05\x85"
                 "cnumpy\ndtype\nX\x02\0\0\0f4K\0K\x01\x87R(K\x03X\x01\0\0\0<NNNtb\x89U\x04" "abcdtbs.");
    done(a, "array_of_too_few_bytes", "reach element 4 of a storage of 1", &object);

    PUT(&object, "\x80\x02}"); /* a parameter of a parameter of ... */
    put_text(&object, "w");
    for (int i = 0; i < 20; i++) put_name(&object, "torch._utils", "_rebuild_parameter");
    PUT(&object, "N");
    for (int i = 0; i < 20; i++) PUT(&object, "\x85R");
    PUT(&object, "s.");
    done(a, "parameter_of_parameters", "a parameter of a parameter", &object);
}

/* ---- Archives ----------------------------------------------------------------------------------------------- */

/* Three parts of which the caller changes some. */
static void begin_parts(struct zip_part parts[3]) {
    struct bytes object = {0};
    put_object(&object, "FloatStorage", 4, 0, 4, 1);
    parts[0] = (struct zip_part){.name = "a/data.pkl", .data = object};
    parts[1] = (struct zip_part){.name = "a/data/0", .data = copy_of(sixteen, 16)};
    parts[2] = (struct zip_part){.name = "a/version", .data = copy_of("3\n", 2)};
}

static void end_parts(const struct attempt *a, const char *name, const char *mention, struct zip_part parts[3]) {
    struct bytes file = {0};
    make_zip(&file, parts, 3);
    for (int i = 0; i < 3; i++) free(parts[i].data.p);
    done(a, name, mention, &file);
}

static void archives(const struct attempt *a) {
    struct zip_part parts[3];
    struct bytes file = {0};
    begin_parts(parts);
    parts[2].name = "a/data/0";
    end_parts(a, "member_twice", "is there twice", parts);
    begin_parts(parts);
    parts[2].name = "b/data.pkl";
    end_parts(a, "two_objects", "two data.pkl", parts);
    begin_parts(parts);
    parts[0].name = "a/other.pkl";
    end_parts(a, "no_object", "a zip without data.pkl", parts);
    begin_parts(parts);
    parts[2].name = "a/constants.pkl";
    end_parts(a, "torchscript", "a TorchScript archive", parts);
    begin_parts(parts);
    parts[2].name = "a/byteorder";
    end_parts(a, "byte_order", "neither little nor big", parts);
    begin_parts(parts);
    parts[1].bad_crc = 1;
    end_parts(a, "checksum", "checksum error", parts);
    begin_parts(parts);
    parts[0].method = 8;
    end_parts(a, "deflated", "is compressed", parts);
    begin_parts(parts);
    parts[1].method = 8;
    parts[1].claimed = (uint64_t)1 << 40;
    parts[1].zip64_lie = 1;
    end_parts(a, "zip_bomb", "a zip bomb?", parts);
    begin_parts(parts);
    parts[1].claimed = (uint64_t)1 << 40;
    parts[1].zip64_lie = 1;
    end_parts(a, "zip64_size_beyond_the_file", "beyond the file", parts);
    begin_parts(parts);
    parts[1].claimed = 17;
    parts[1].zip64_lie = 1;
    end_parts(a, "zip64_size_one_too_large", "shares bytes with another member", parts);
    begin_parts(parts);
    parts[2].name = "a/data/0";
    parts[2].same_header = 1;
    end_parts(a, "members_that_overlap", "usable zip", parts);
    begin_parts(parts);
    make_zip(&file, parts, 3);
    for (int i = 0; i < 3; i++) free(parts[i].data.p);
    file.n -= 30;
    done(a, "zip_cut_off", "truncated?", &file);
}

/* ---- Legacy streams ----------------------------------------------------------------------------------------- */

void put_module_head(struct bytes *b, const char *class) {
    put_name(b, "torch_utils.persistence", "_reconstruct_persistent_obj");
    PUT(b, "}(");
    put_text(b, "class_name");
    put_text(b, class);
    put_text(b, "module_src");
    put_text(b, "import os; os.system('true')");
    put_text(b, "state");
    PUT(b, "}(");
}

void put_stream_tensor(struct bytes *b, const struct bytes *stream) {
    put_name(b, "torch._utils", "_rebuild_tensor_v2");
    PUT(b, "(");
    put_name(b, "torch.storage", "_load_from_bytes");
    PUT(b, "B");
    put_le(b, stream->n, 4);
    put(b, stream->p, stream->n);
}

void put_preamble(struct bytes *b, int version) {
    PUT(b, "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02M");
    put_le(b, (uint64_t)version, 2);
    PUT(b, ".\x80\x02}.");
}

static void legacy_attack(const struct attempt *a, const char *name, const char *mention, int version, int keys, int64_t count, size_t bytes,
                          int nested) {
    struct bytes b = {0}, outer = {0};
    put_preamble(&b, version);
    if (nested) {
        PUT(&b, "\x80\x02");
        put_storage(&b, "FloatStorage", "0", 4);
        PUT(&b, ".");
    } else
        put_object(&b, "FloatStorage", 4, 0, 4, 1);
    PUT(&b, "\x80\x02](");
    for (int i = 0; i < keys; i++) put_text(&b, "0");
    PUT(&b, "e.");
    put_le(&b, (uint64_t)count, 8);
    put(&b, sixteen, bytes);
    if (!nested) {
        done(a, name, mention, &b);
        return;
    }
    PUT(&outer, "\x80\x03}");
    put_text(&outer, "w");
    put_name(&outer, "torch._utils", "_rebuild_tensor_v2");
    PUT(&outer, "(");
    put_name(&outer, "torch.storage", "_load_from_bytes");
    PUT(&outer, "B");
    put_le(&outer, b.n, 4);
    put(&outer, b.p, b.n);
    PUT(&outer, "\x85RK\0K\x04\x85K\x01\x85\x89NtRs.");
    free(b.p);
    done(a, name, mention, &outer);
}

static void streams(const struct attempt *a) {
    struct bytes b = {0};
    legacy_attack(a, "stream_version", "another version", 1002, 1, 4, 16, 0);
    legacy_attack(a, "stream_key_twice", "does not match the object", 1001, 2, 4, 16, 0);
    legacy_attack(a, "stream_without_key", "does not match the object", 1001, 0, 4, 16, 0);
    legacy_attack(a, "stream_count", "has 5 elements in one place and 4 in another", 1001, 1, 5, 16, 0);
    legacy_attack(a, "stream_negative_count", "has -1 elements", 1001, 1, -1, 16, 0);
    legacy_attack(a, "stream_cut_off", "truncated within a storage", 1001, 1, 4, 15, 0);
    legacy_attack(a, "nested_stream_version", "another version", 7, 1, 4, 16, 1);
    legacy_attack(a, "nested_stream_count", "in one place", 1001, 1, INT64_MAX, 16, 1);
    legacy_attack(a, "nested_stream_cut_off", "truncated within a storage", 1001, 1, 4, 8, 1);
    PUT(&b, "\x80\x03}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\nC\x05hello\x85RK\0K\x04\x85K\x01\x85\x89NtRs.");
    done(a, "nested_stream_of_nonsense", "no pickle of protocol 2 to 5", &b);
    put_preamble(&b, 1001);
    PUT(&b, "\x80\x02" "cos\nsystem\nX\x04\0\0\0true\x85R.");
    done(a, "stream_with_os_system", "names os.system", &b);
}

/* ---- Little files that ask for much work or memory ---------------------------------------------------------- */

static void put_repeated(struct bytes *b, const char *ops, size_t n, int count) {
    for (int i = 0; i < count; i++) put(b, ops, n);
}

/* A tensor whose storage is a nested stream: `work` times an empty tuple that is dropped, then the storage, or none. */
static void put_nested_tensor(struct bytes *b, int work, int good, int keys_work) {
    struct bytes inner = {0};
    put_preamble(&inner, 1001);
    PUT(&inner, "\x80\x02");
    put_repeated(&inner, "N0", 2, work);
    if (good) put_storage(&inner, "FloatStorage", "0", 4);
    else PUT(&inner, "N0");
    PUT(&inner, ".\x80\x02");
    put_repeated(&inner, ")0", 2, keys_work);
    PUT(&inner, "]");
    put_text(&inner, "0");
    PUT(&inner, "a.");
    put_le(&inner, 4, 8);
    put(&inner, sixteen, 16);
    put_stream_tensor(b, &inner);
    PUT(b, "\x85RK\0K\x04\x85K\x01\x85\x89NtR");
    free(inner.p);
}

/* {"k0": s, "k1": s, ...} with s = {v, v, ...} of the value on the stack, which only the JSON of `fdm info` looks into: sets
 * hold no tensors. */
static void end_with_sets(struct bytes *b, int count) {
    PUT(b, "q\x01" "0\x8f(");
    put_repeated(b, "h\x01", 2, count);
    PUT(b, "\x90q\x03" "0}(");
    for (int i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%d", i);
        put_text(b, key);
        PUT(b, "h\x03");
    }
    PUT(b, "u.");
}

static void work(const struct attempt *a) {
    struct bytes b = {0};
    PUT(&b, "\x80\x02}q\x01" "0]("); /* as JSON 3 MB, as jansson's trees thousands of times the file */
    put_repeated(&b, "h\x01", 2, 65500);
    PUT(&b, "eq\x02" "0}(");
    for (int i = 0; i < 12; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%d", i);
        put_text(&b, key);
        PUT(&b, "h\x02");
    }
    PUT(&b, "u.");
    done(a, "twelve_times_the_same_list", "holds no network", &b);

    PUT(&b, "\x80\x04");
    put_nested_tensor(&b, 50000, 0, 0);
    end_with_sets(&b, 40000);
    done(a, "damaged_stream_40000_times", "holds no network", &b);

    PUT(&b, "\x80\x04](");
    put_nested_tensor(&b, 50000, 1, 0);
    PUT(&b, "q\x01");
    put_repeated(&b, "h\x01", 2, 18000);
    PUT(&b, "e.");
    done(a, "good_stream_18000_times", "over and over", &b);

    PUT(&b, "\x80\x04"); /* attributes that JSON leaves out */
    put_name(&b, "torch.nn", "Module");
    PUT(&b, ")\x81}(");
    put_text(&b, "_init_");
    PUT(&b, "q\x02N");
    put_repeated(&b, "h\x02N", 3, 40000);
    PUT(&b, "ub");
    end_with_sets(&b, 60000);
    done(a, "records_of_a_constructor", "holds no network", &b);

    PUT(&b, "\x80\x04"); /* "state" lies behind all of these */
    put_name(&b, "torch_utils.persistence", "_reconstruct_persistent_obj");
    PUT(&b, "}(");
    put_text(&b, "state");
    PUT(&b, "}");
    put_text(&b, "x");
    PUT(&b, "q\x02N");
    put_repeated(&b, "h\x02N", 3, 100000);
    PUT(&b, "u\x85R");
    end_with_sets(&b, 60000);
    done(a, "object_of_100000_entries", "holds no network", &b);

    PUT(&b, "\x80\x04\x8d"); /* text that becomes one question mark */
    put_le(&b, 100001, 8);
    put_repeated(&b, "x", 1, 100000);
    PUT(&b, "\xff");
    end_with_sets(&b, 50000);
    done(a, "long_text_50000_times", "holds no network", &b);

    PUT(&b, "\x80\x04}("); /* a nested one beside the outer one, each as large as may be */
    put_text(&b, "w");
    put_nested_tensor(&b, 0, 1, 400000);
    PUT(&b, "u");
    put_repeated(&b, ")0", 2, 400000);
    PUT(&b, ".");
    done(a, "two_pickles_at_once", "needs more memory than a file", &b);

    PUT(&b, "\x80\x04}(");
    PUT(&b, "\x8d");
    put_le(&b, 1000, 8);
    put_repeated(&b, "a", 1, 1000);
    PUT(&b, "](");
    put_nested_tensor(&b, 0, 1, 0);
    PUT(&b, "q\x01");
    put_repeated(&b, "h\x01", 2, 19000);
    PUT(&b, "eu.");
    done(a, "19000_names_of_a_kilobyte", "needs more memory", &b);

    PUT(&b, "\x80\x04}X\x02\0\0\0a\n");
    put_nested_tensor(&b, 0, 1, 0);
    PUT(&b, "s.");
    done(a, "name_of_two_lines", "not printable", &b);
}

/* ---- Networks ----------------------------------------------------------------------------------------------- */

/* A module as the published program keeps it. */
static void put_module(struct bytes *b, const char *class, const char *model_class, const char *kwargs) {
    put_module_head(b, class);
    put_text(b, "_parameters");
    PUT(b, "}");
    put_text(b, "_buffers");
    PUT(b, "}");
    put_text(b, "_modules");
    PUT(b, "}");
    if (model_class) {
        put_text(b, "model");
        put_module(b, model_class, NULL, NULL);
        PUT(b, "s");
    }
    if (kwargs) {
        put_text(b, "_init_kwargs");
        PUT(b, "}");
        put_text(b, "img_resolution");
        put_text(b, kwargs);
        PUT(b, "s");
    }
    PUT(b, "uu\x85R");
}

static void network_attack(const struct attempt *a, const char *name, const char *mention, const char *class, const char *model,
                           const char *kwargs) {
    struct bytes b = {0};
    PUT(&b, "\x80\x02}");
    put_text(&b, "ema");
    put_module(&b, class, model, kwargs);
    PUT(&b, "s.");
    done(a, name, mention, &b);
}

static void networks(const struct attempt *a) {
    struct bytes b = {0};
    network_attack(a, "unknown_architecture", "DhariwalUNet", "EDMPrecond", "DhariwalUNet", "32");
    network_attack(a, "unknown_class", "unknown preconditioning 'iDDPMPrecond'", "iDDPMPrecond", "SongUNet", "32");
    network_attack(a, "no_arguments", "constructor arguments", "EDMPrecond", "SongUNet", NULL);
    network_attack(a, "arguments_that_are_text", "img_resolution", "EDMPrecond", "SongUNet", "\"}, {\"");
    PUT(&b, "\x80\x02}"); /* a module that is its own sub-module */
    put_text(&b, "w");
    put_name(&b, "torch.nn", "Module");
    PUT(&b, ")\x81q\x01}(");
    put_text(&b, "_parameters");
    PUT(&b, "}");
    put_text(&b, "_modules");
    PUT(&b, "}");
    put_text(&b, "m");
    PUT(&b, "h\x01subs.");
    done(a, "module_within_itself", "within itself?", &b);
}

void attacks_each(attack_fn take, void *user) {
    const struct attempt a = {take, user};
    calls(&a);
    bombs(&a);
    machine(&a);
    tensors(&a);
    graphs(&a);
    archives(&a);
    streams(&a);
    work(&a);
    networks(&a);
}
