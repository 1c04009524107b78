/* attacks.h - hostile pickles and torch.save files, and a small kit to make such files. */
#ifndef FDM_TESTS_ATTACKS_H
#define FDM_TESTS_ATTACKS_H

#include <stddef.h>
#include <stdint.h>

/* Calls `take` with every attack: its name, what the refusal must mention, and its bytes. */
typedef void (*attack_fn)(void *user, const char *name, const char *mention, const unsigned char *bytes, size_t n);
void attacks_each(attack_fn take, void *user);

/* ---- The kit ---- */

struct bytes {
    unsigned char *p;
    size_t n, room;
};
void put(struct bytes *b, const void *bytes, size_t n);
#define PUT(b, literal) put((b), (literal), sizeof(literal) - 1)
void put_le(struct bytes *b, uint64_t value, int bytes);
void put_u8(struct bytes *b, int value);
/* BINUNICODE, LONG1 of 8 bytes, GLOBAL. */
void put_text(struct bytes *b, const char *s);
void put_long(struct bytes *b, int64_t value);
void put_name(struct bytes *b, const char *module, const char *name);

/* The persistent id of a storage; the three pickles that begin a legacy stream of torch.save (version 1001). */
void put_storage(struct bytes *b, const char *class, const char *key, int64_t numel);
void put_preamble(struct bytes *b, int version);
/* A persistent object as the published program pickles it, open in its state; a tensor whose storage is a stream within, open after it. */
void put_module_head(struct bytes *b, const char *class);
void put_stream_tensor(struct bytes *b, const struct bytes *stream);

/* A stored (or claimed to be otherwise) member of a zip, and what the headers say of it. */
struct zip_part {
    const char *name;
    struct bytes data;
    int method;       /* 0 stored, 8 deflated */
    uint64_t claimed; /* unpacked size; 0: what it is */
    size_t header;    /* where its local header is, filled in */
    int zip64_lie;    /* 1: 32-bit sizes are all ones and the zip64 field says `claimed` */
    int bad_crc;
    int same_header;  /* 1: the directory points to the local header of the part before */
};
void make_zip(struct bytes *out, struct zip_part *parts, int count);

#endif
