/* folder.c - making folders. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/io.h"

fdm_status fdm_make_folders(const char *path, fdm_error *err) {
    struct stat st;
    char *part = fdm_strdup(path);
    if (!part) return fdm_fail_oom(err, "path", strlen(path));
    for (char *slash = path[0] ? strchr(part + 1, '/') : NULL; slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(part, 0777); /* the last one shows what went wrong */
        *slash = '/';
    }
    const int made = mkdir(part, 0777), why = errno;
    free(part);
    if (made != 0 && why != EEXIST)
        return fdm_fail(err, FDM_NO_RESOURCE, "%s: cannot make the folder: %s", fdm_path_tail(path), strerror(why));
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return fdm_fail(err, FDM_NO_RESOURCE, "%s: cannot make the folder: a file is in its place", fdm_path_tail(path));
    return FDM_OK;
}
