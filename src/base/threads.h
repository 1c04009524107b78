/* threads.h - what is asked of OpenMP beyond its pragmas; without OpenMP there is one thread. */
#ifndef FDM_THREADS_H
#define FDM_THREADS_H

#ifdef _OPENMP
#include <omp.h>
/* How many threads a parallel region would get: all cores, or OMP_NUM_THREADS. */
static inline int fdm_max_threads(void) { return omp_get_max_threads(); }
/* Which thread of the region runs this. */
static inline int fdm_thread_index(void) { return omp_get_thread_num(); }
#else
static inline int fdm_max_threads(void) { return 1; }
static inline int fdm_thread_index(void) { return 0; }
#endif

#endif
