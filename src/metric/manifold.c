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

static void find_inside(uint8_t *inside, double *square_radii, const fdm_features *points, const fdm_features *set, int k,
                        int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < set->n; i++) square_radii[i] = square_radius(set, i, k);
#pragma omp parallel for schedule(static, 16) num_threads(threads)
    for (int64_t i = 0; i < points->n; i++) inside[i] = is_inside(points->values + i * points->d, set, square_radii);
}

fdm_status fdm_manifold_contains(uint8_t *inside, const fdm_features *points, const fdm_features *set, int k, int threads,
                                 fdm_error *err) {
    if (k < 1 || k > MAX_K) return fdm_fail(err, FDM_BAD_USAGE, "k: %d neighbours; 1 to %d are possible", k, MAX_K);
    fdm_status status = fdm_features_same_d(points->d, set->d, err);
    if (status == FDM_OK) status = fdm_features_check(points, 1, "points", err);
    if (status == FDM_OK) status = fdm_features_check(set, k + 1, "images of a manifold of nearest neighbours", err);
    if (status != FDM_OK) return status;
    double *square_radii = malloc((size_t)set->n * sizeof *square_radii);
    if (!square_radii) return fdm_fail_oom(err, "manifold", (size_t)set->n * sizeof *square_radii);
    find_inside(inside, square_radii, points, set, k, threads ? threads : fdm_max_threads());
    free(square_radii);
    return FDM_OK;
}
