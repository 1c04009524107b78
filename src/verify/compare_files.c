/* compare_files.c - comparisons of sets in memory, and of files one tensor at a time. */
#include <string.h>
#include <strings.h>

#include "fdm/compare.h"
#include "verify/compare_sides.h"

static void close_sides(struct fdm_compare_side sides[FDM_SIDES]) {
    for (int s = 0; s < FDM_SIDES; s++) fdm_compare_side_close(&sides[s]);
}

fdm_status fdm_compare(fdm_comparison *result, const fdm_tensors *a, const fdm_tensors *b, const fdm_tensors *truth,
                       const fdm_compare_options *options, fdm_error *err) {
    static const char *const labels[FDM_SIDES] = {"A", "B", "the truth"};
    const fdm_tensors *sets[FDM_SIDES] = {a, b, truth};
    struct fdm_compare_side sides[FDM_SIDES];
    fdm_status status = FDM_OK;
    memset(sides, 0, sizeof sides);
    *result = (fdm_comparison){0};
    for (int s = 0; s < FDM_SIDES && sets[s] && !status; s++) {
        const struct fdm_compare_choice all = {.label = labels[s]};
        fdm_tensor_source_borrow(&sides[s].source, sets[s]);
        status = fdm_compare_side_choose(&sides[s], &all, err);
    }
    if (!status)
        status = fdm_compare_sides(result, &sides[FDM_SIDE_A], &sides[FDM_SIDE_B],
                                   truth ? &sides[FDM_SIDE_TRUTH] : NULL, options, NULL, NULL, err);
    close_sides(sides);
    return status;
}

static bool is_npy(const char *path) {
    const size_t length = strlen(path);
    return length >= 4 && strcasecmp(path + length - 4, ".npy") == 0;
}

/* Opens side s; A's must be open before the others'. */
static fdm_status open_side(struct fdm_compare_side sides[FDM_SIDES], int s, const fdm_compare_files_args *files,
                            fdm_error *err) {
    const char *paths[FDM_SIDES] = {files->a, files->b, files->truth};
    const char *renames[FDM_SIDES] = {files->rename_a, files->rename_b, files->rename_truth};
    struct fdm_compare_choice choice = {.label = fdm_path_tail(paths[s]), .rename = renames[s]};
    const struct fdm_compare_side *a = &sides[FDM_SIDE_A];
    fdm_status status = fdm_tensor_source_open(&sides[s].source, paths[s], err);
    if (status) return status;
    if (s != FDM_SIDE_A && (is_npy(files->a) || is_npy(paths[s])) && a->count == 1 && sides[s].source.table.count == 1)
        choice.sole = a->entries[0].name;
    else if (s != FDM_SIDE_TRUTH) /* which may hold more than A and B */
        choice.only = files->only;
    return fdm_compare_side_choose(&sides[s], &choice, err);
}

fdm_status fdm_compare_files(fdm_comparison *result, const fdm_compare_files_args *files,
                             const fdm_compare_options *options, fdm_error *err) {
    struct fdm_compare_side sides[FDM_SIDES];
    const int count = files->truth ? FDM_SIDES : FDM_SIDE_TRUTH;
    fdm_status status = FDM_OK;
    memset(sides, 0, sizeof sides);
    *result = (fdm_comparison){0};
    for (int s = 0; s < count && !status; s++) {
        if (files->stop && files->stop(files->user)) status = fdm_fail(err, FDM_INTERRUPTED, "interrupted");
        else status = open_side(sides, s, files, err);
    }
    if (!status)
        status = fdm_compare_sides(result, &sides[FDM_SIDE_A], &sides[FDM_SIDE_B],
                                   files->truth ? &sides[FDM_SIDE_TRUTH] : NULL, options, files->stop, files->user, err);
    close_sides(sides);
    return status;
}
