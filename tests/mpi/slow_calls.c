/* slow_calls.c - preloaded by tests/test_mpi.sh: a disk that takes its time, and a launcher's end that does.
 *   FDM_SLOW_FSYNC      a file: while it is there, every fsync takes as many seconds as it says
 *   FDM_SLOW_FINALIZE   seconds that MPI_Finalize takes */
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int MPI_Finalize(void);
extern int PMPI_Finalize(void) __attribute__((weak)); /* absent in programs that are not over MPI */

/* To the end, whatever signals come. */
static void wait_for(double seconds) {
    struct timespec left = {.tv_sec = (time_t)seconds};
    while (nanosleep(&left, &left) != 0) continue;
}

int fsync(int fd) {
    const char *path = getenv("FDM_SLOW_FSYNC");
    FILE *file = path ? fopen(path, "r") : NULL;
    char text[16] = "";
    if (file && fgets(text, sizeof text, file)) wait_for(strtod(text, NULL));
    if (file) (void)fclose(file);
    return (int)syscall(SYS_fsync, fd);
}

int MPI_Finalize(void) {
    const char *seconds = getenv("FDM_SLOW_FINALIZE");
    if (seconds) wait_for(strtod(seconds, NULL));
    return PMPI_Finalize ? PMPI_Finalize() : 0;
}
