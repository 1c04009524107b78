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

struct guarded guarded_new(size_t count, int at_end) {
    const size_t page = page_size(), inner = (count * sizeof(float) + page - 1) / page * page;
    struct guarded g = {.count = count, .bytes = inner + 2 * page};
    g.mapping = mmap(NULL, g.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_msg(g.mapping != MAP_FAILED, "mmap of %zu bytes", g.bytes);
    char *first = (char *)g.mapping + page;
    memset(first, CANARY, inner);
    ck_assert(mprotect(g.mapping, page, PROT_NONE) == 0 && mprotect(first + inner, page, PROT_NONE) == 0);
    g.p = (float *)(void *)(at_end ? first + inner - count * sizeof(float) : first);
    return g;
}

void guarded_free(struct guarded *g) {
    const size_t page = page_size();
    const char *first = (const char *)g->mapping + page, *end = (const char *)g->mapping + g->bytes - page;
    const char *own = (const char *)g->p, *own_end = (const char *)(g->p + g->count);
    for (const char *c = first; c < end; c++)
        ck_assert_msg((c >= own && c < own_end) || *c == CANARY, "byte %td beside an array was written", c - own);
    munmap(g->mapping, g->bytes);
    g->p = NULL;
}
