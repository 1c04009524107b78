/* bench_blis.c - BLIS as a contender of compare.py: C (m x n) = A (m x k) B (k x n), single precision, row-major.
 *
 *   bench_blis M N K        BLIS_NUM_THREADS says how many threads */
#include <cblas.h>

#include "bench/serve.h"

struct product {
    int m, n, k;
    float *a, *b, *c;
};

static void run(void *context) {
    struct product *p = context;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, p->m, p->n, p->k, 1.0f, p->a, p->k, p->b, p->n, 0.0f, p->c, p->n);
}

int main(int argc, char **argv) {
    struct product p = {.m = argc == 4 ? atoi(argv[1]) : 0, .n = argc == 4 ? atoi(argv[2]) : 0,
                        .k = argc == 4 ? atoi(argv[3]) : 0};
    if (p.m < 1 || p.n < 1 || p.k < 1) {
        fprintf(stderr, "usage: bench_blis M N K\n");
        return 2;
    }
    p.a = serve_floats((size_t)p.m * (size_t)p.k);
    p.b = serve_floats((size_t)p.k * (size_t)p.n);
    p.c = serve_floats((size_t)p.m * (size_t)p.n);
    serve("BLIS sgemm", run, &p);
    free(p.a);
    free(p.b);
    free(p.c);
    return 0;
}
