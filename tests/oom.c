/* oom.c - allocation failure on demand; see oom.h. */
#include "oom.h"

#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ThreadSanitizer's run time allocates before code that it instruments can run: no replacements with it. */
#if defined __has_feature
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1 /* as gcc says it */
#endif
#endif

#if defined __GLIBC__ && !defined __SANITIZE_THREAD__

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* The sanitizers' allocators, where they are linked in. */
extern void *__interceptor_malloc(size_t) __attribute__((weak));
extern void *__interceptor_calloc(size_t, size_t) __attribute__((weak));
extern void *__interceptor_realloc(void *, size_t) __attribute__((weak));
extern void *__interceptor_memalign(size_t, size_t) __attribute__((weak));
extern void __interceptor_free(void *) __attribute__((weak));

void *memalign(size_t, size_t);

/* The build hides symbols by default, but the shared libraries must see these. */
#define REPLACES __attribute__((visibility("default")))

static atomic_bool armed, later;
static atomic_long countdown, failed, live;

/* The OpenMP runtimes, BLIS and OpenBLAS end the process when they get no memory, and offer no way to handle it: their own
 * allocations (a few kB per thread team; BLIS's packing buffers) never fail here. */
enum { SPARED = 8 };
static const char *spared_libraries[SPARED] = {"libgomp", "libomp", "libblis", "libblas", "liblapack", "libopenblas",
                                                 "ld-linux" /* dlopen keeps its message */};
enum { MAX_SPARED = 16 };
static struct { uintptr_t begin, end; } spared[MAX_SPARED];
static int spared_count;

static int note_spared(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    for (size_t i = 0; i < sizeof spared_libraries / sizeof spared_libraries[0]; i++) {
        if (!spared_libraries[i] || !strstr(info->dlpi_name, spared_libraries[i])) continue;
        for (int k = 0; k < info->dlpi_phnum && spared_count < MAX_SPARED; k++) {
            const ElfW(Phdr) *p = &info->dlpi_phdr[k];
            if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
            spared[spared_count].begin = info->dlpi_addr + p->p_vaddr;
            spared[spared_count++].end = info->dlpi_addr + p->p_vaddr + p->p_memsz;
        }
    }
    return 0;
}

/* Counts an allocation; true if it has to fail. */
static bool must_fail(const void *caller) {
    if (!atomic_load_explicit(&armed, memory_order_relaxed)) return false;
    for (int i = 0; i < spared_count; i++)
        if ((uintptr_t)caller >= spared[i].begin && (uintptr_t)caller < spared[i].end) return false;
    long left = atomic_fetch_sub(&countdown, 1);
    if (left > 0 || (left < 0 && !atomic_load(&later))) return false;
    atomic_fetch_add(&failed, 1);
    errno = ENOMEM;
    return true;
}

static void *counted(void *p) {
    if (p) atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

REPLACES void *malloc(size_t n) {
    if (must_fail(__builtin_return_address(0))) return NULL;
    return counted(__interceptor_malloc ? __interceptor_malloc(n) : __libc_malloc(n));
}

REPLACES void *calloc(size_t n, size_t size) {
    if (must_fail(__builtin_return_address(0))) return NULL;
    return counted(__interceptor_calloc ? __interceptor_calloc(n, size) : __libc_calloc(n, size));
}

REPLACES void *realloc(void *p, size_t n) {
    if (must_fail(__builtin_return_address(0))) return NULL;
    void *q = __interceptor_realloc ? __interceptor_realloc(p, n) : __libc_realloc(p, n);
    if (!p) return counted(q);
    if (n == 0 && !q) atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    return q;
}

static void *aligned(const void *caller, size_t alignment, size_t n) {
    if (must_fail(caller)) return NULL;
    return counted(__interceptor_memalign ? __interceptor_memalign(alignment, n) : __libc_memalign(alignment, n));
}

REPLACES void *memalign(size_t alignment, size_t n) {
    return aligned(__builtin_return_address(0), alignment, n);
}
REPLACES void *aligned_alloc(size_t alignment, size_t n) {
    return aligned(__builtin_return_address(0), alignment, n);
}

REPLACES int posix_memalign(void **out, size_t alignment, size_t n) {
    void *p = aligned(__builtin_return_address(0), alignment, n);
    if (p) *out = p;
    return p ? 0 : ENOMEM;
}

REPLACES void free(void *p) {
    if (p) atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    if (__interceptor_free)
        __interceptor_free(p);
    else
        __libc_free(p);
}

void oom_spare_jansson(void) {
    spared_libraries[SPARED - 1] = "libjansson";
    spared_count = 0;
}

static long live_blocks(void) {
    return atomic_load(&live);
}

bool oom_available(void) {
    return true;
}

void oom_arm(long k, bool and_later) {
    if (spared_count == 0) dl_iterate_phdr(note_spared, NULL);
    atomic_store(&countdown, k);
    atomic_store(&later, and_later);
    atomic_store(&failed, 0);
    atomic_store(&armed, true);
}

long oom_disarm(void) {
    atomic_store(&armed, false);
    return atomic_load(&failed);
}

#else

static long live_blocks(void) {
    return 0;
}
bool oom_available(void) {
    return false;
}
void oom_spare_jansson(void) {
}
void oom_arm(long k, bool and_later) {
    (void)k, (void)and_later;
}
long oom_disarm(void) {
    return 0;
}

#endif

/* Check ends a failing test without flushing. */
static long report(long result) {
    fflush(stdout);
    return result;
}

/* Threads that a library has just started allocate when they please: a leak is what comes again. */
enum { TRIES = 3 };

/* One pass over all allocations; their number, or -1. */
static long sweep(const char *what, bool (*body)(void *arg), void *arg, bool and_later) {
    for (long k = 0, tries = 1;; k++) {
        long before = live_blocks();
        oom_arm(k, and_later);
        bool ok = body(arg);
        long hit = oom_disarm(), leaked = live_blocks() - before;
        if (leaked && tries++ < TRIES) {
            k--;
            continue;
        }
        tries = 1;
        if (leaked) {
            printf("%s: %ld blocks leaked when allocation %ld failed (%s)\n", what, leaked, k, ok ? "ok" : "error");
            return report(-1);
        }
        if (hit == 0 && !ok) {
            printf("%s: failed although no allocation did (after %ld)\n", what, k);
            return report(-1);
        }
        if (hit == 0) return k;
    }
}

long oom_sweep(const char *what, bool (*body)(void *arg), void *arg) {
    if (!oom_available()) {
        printf("SKIP: %s: no allocation failure without glibc\n", what);
        return report(0);
    }
    if (!body(arg)) {
        printf("%s: fails even with memory\n", what);
        return report(-1);
    }
    long once = sweep(what, body, arg, false), all = once < 0 ? -1 : sweep(what, body, arg, true);
    if (once >= 0 && all >= 0)
        printf("%s: each of %ld allocations failed once and for good, no leak\n", what, once);
    return report(all < 0 ? -1 : once);
}
