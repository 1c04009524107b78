/* manifold.c - the manifold of a set of features (Kynkaanniemi et al. 2019, equation 1): a point lies within it if for
 * some point of the set it is no further away than that point's k-th nearest neighbour among the others. */
#include <math.h>
#include <stdlib.h>

#include "base/threads.h"
#include "metric/statistics.h"

enum { MAX_K = 64 };

/* The square of the distance from row `at` to its k-th nearest other row. */
static double square_radius(const fdm_features *set, int64_t at, int k) {
    double nearest[MAX_K]; /* rising */
    const double *point = set->values + at * set->d;
    int found = 0;
    for (int64_t i = 0; i < set->n; i++) {
        if (i == at) continue;
        const double distance = fdm_square_distance(set->values + i * set->d, point, set->d);
        if (found == k && distance >= nearest[k - 1]) continue;
        int place = found < k ? found++ : k - 1;
        for (; place > 0 && nearest[place - 1] > distance; place--) nearest[place] = nearest[place - 1];
        nearest[place] = distance;
    }
    return nearest[k - 1];
}

static bool is_inside(const double *point, const fdm_features *set, const double *square_radii) {
    for (int64_t i = 0; i < set->n; i++)
        if (fdm_square_distance(point, set->values + i * set->d, set->d) <= square_radii[i]) return true;
    return false;
}

static fdm_status find_inside(uint8_t *inside, double *square_radii, const fdm_features *points, const fdm_features *set, int k,
                              int threads, const fdm_ranks *ranks, fdm_error *err) {
    const double begun = fdm_now();
    const fdm_ranks_share radii = fdm_ranks_share_of(ranks, set->n), mine = fdm_ranks_share_of(ranks, points->n);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = radii.first; i < radii.end; i++) square_radii[i] = square_radius(set, i, k);
    const double found_radii = fdm_now();
    fdm_status status = fdm_metric_agree_after(ranks, FDM_OK, found_radii - begun, err);
    if (status == FDM_OK) status = fdm_ranks_gather_all(ranks, square_radii, sizeof *square_radii, set->n, err);
    if (status != FDM_OK) return status;
#pragma omp parallel for schedule(static, 16) num_threads(threads)
    for (int64_t i = mine.first; i < mine.end; i++) inside[i] = is_inside(points->values + i * points->d, set, square_radii);
    status = fdm_metric_agree_after(ranks, FDM_OK, fdm_now() - found_radii, err);
    if (status != FDM_OK) return status;
    return fdm_ranks_gather_all(ranks, inside, sizeof *inside, points->n, err);
}

fdm_status fdm_manifold_contains(uint8_t *inside, const fdm_features *points, const fdm_features *set, int k, int threads,
                                 const fdm_ranks *ranks, fdm_error *err) {
    if (k < 1 || k > MAX_K) return fdm_fail(err, FDM_BAD_USAGE, "k: %d neighbours; 1 to %d are possible", k, MAX_K);
    fdm_status status = fdm_features_same_d(points->d, set->d, err);
    if (status == FDM_OK) status = fdm_features_check(points, 1, "points", err);
    if (status == FDM_OK) status = fdm_features_check(set, k + 1, "images of a manifold of nearest neighbours", err);
    if (status != FDM_OK) return status;
    double *square_radii = malloc((size_t)set->n * sizeof *square_radii);
    if (!square_radii) status = fdm_fail_oom(err, "manifold", (size_t)set->n * sizeof *square_radii);
    status = fdm_metric_agree(ranks, status, err);
    if (status == FDM_OK)
        status = find_inside(inside, square_radii, points, set, k, threads ? threads : fdm_max_threads(), ranks, err);
    free(square_radii);
    return status;
}
