/* guarded.c - see guarded.h */
#include "guarded.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANARY = 0x5c };

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

static char *inner(const struct guarded *g) {
    return (char *)g->mapping + page_size();
}

static size_t inner_bytes(const struct guarded *g) {
    return g->bytes - 2 * page_size();
}

static void place(struct guarded *g, size_t count, int at_end) {
    memset(inner(g), CANARY, inner_bytes(g));
    g->count = count;
    g->p = (float *)(void *)(at_end ? inner(g) + inner_bytes(g) - count * sizeof(float) : inner(g));
}

struct guarded guarded_new(size_t capacity) {
    const size_t page = page_size(), bytes = (capacity * sizeof(float) + page - 1) / page * page;
    struct guarded g = {.bytes = bytes + 2 * page};
    g.mapping = mmap(NULL, g.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_msg(g.mapping != MAP_FAILED, "mmap of %zu bytes", g.bytes);
    ck_assert(mprotect(g.mapping, page, PROT_NONE) == 0 && mprotect(inner(&g) + bytes, page, PROT_NONE) == 0);
    place(&g, capacity, 1);
    return g;
}

static void check(const struct guarded *g) {
    const char *own = (const char *)g->p, *own_end = (const char *)(g->p + g->count);
    for (const char *c = inner(g); c < inner(g) + inner_bytes(g); c++)
        if (!((c >= own && c < own_end) || *c == CANARY)) /* ck_assert_msg would write a file for each byte */
            ck_abort_msg("byte %td of an array of %zu floats was written", c - own, g->count);
}

void guarded_place(struct guarded *g, size_t count, int at_end) {
    check(g);
    place(g, count, at_end);
}

void guarded_free(struct guarded *g) {
    check(g);
    munmap(g->mapping, g->bytes);
    *g = (struct guarded){0};
}
