/* compare_sides.h - the files or sets of a comparison, with the names by which their tensors pair; internal. */
#ifndef FDM_VERIFY_COMPARE_SIDES_H
#define FDM_VERIFY_COMPARE_SIDES_H

#include "fdm/compare.h"
#include "io/tensor_source.h"

enum { FDM_SIDE_A, FDM_SIDE_B, FDM_SIDE_TRUTH, FDM_SIDES };

struct fdm_compare_entry {
    char *name;   /* owned: as renamed */
    size_t index; /* in the source */
};

struct fdm_compare_side {
    struct fdm_tensor_source source;
    struct fdm_compare_entry *entries; /* the chosen ones, in the order of the source */
    size_t count;
    size_t *by_name; /* (count) indices of entries, sorted by name */
};

/* Which tensors of a source take part, and as what. */
struct fdm_compare_choice {
    const char *label;  /* the file or "A", for messages */
    const char *only;   /* patterns or NULL */
    const char *rename; /* rules or NULL */
    const char *sole;   /* a name for the only tensor of a source, or NULL */
};

/* Fills in the entries of a side whose source is open.  Errors, after which it may be closed: FDM_BAD_USAGE (a bad rule,
 * two tensors with one name), FDM_NO_RESOURCE. */
fdm_status fdm_compare_side_choose(struct fdm_compare_side *side, const struct fdm_compare_choice *choice,
                                   fdm_error *err);
/* The entry of that name, or NULL. */
const struct fdm_compare_entry *fdm_compare_side_find(const struct fdm_compare_side *side, const char *name);
/* A zeroed one is fine. */
void fdm_compare_side_close(struct fdm_compare_side *side);

/* The comparison of compare.h; truth may be NULL, stop too. */
fdm_status fdm_compare_sides(fdm_comparison *result, const struct fdm_compare_side *a,
                             const struct fdm_compare_side *b, const struct fdm_compare_side *truth,
                             const fdm_compare_options *options, bool (*stop)(void *user), void *user, fdm_error *err);

/* item->hint from its figures and the tensors (found differs from expected, the shapes are the same). */
fdm_status fdm_compare_hint(fdm_comparison_item *item, const fdm_tensor *expected, const fdm_tensor *found,
                            fdm_error *err);
/* item->hint for two shapes that differ. */
void fdm_compare_hint_shape(fdm_comparison_item *item, const fdm_tensor *a, const fdm_tensor *b);
/* result->note: whether a prefix keeps names from pairing. */
void fdm_compare_note_names(fdm_comparison *result, const struct fdm_compare_side *a,
                            const struct fdm_compare_side *b);

#endif
