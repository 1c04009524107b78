/* grid.c - the noise levels that the solvers visit. */
#include "sample/internal.h"

#include <math.h>

fdm_status fdm_edm_grid(double *t, const fdm_sample_options *opt, double net_min, double net_max, fdm_error *err) {
    fdm_status status = fdm_sample_check(opt, err);
    if (status != FDM_OK) return status;
    const int n = opt->num_steps;
    const double low = fmax(opt->sigma_min, net_min), high = fmin(opt->sigma_max, net_max);
    if (!(low < high))
        return fdm_fail(err, FDM_BAD_USAGE,
                        "sigma_min = %g and sigma_max = %g leave nothing of the network's range %g to %g",
                        opt->sigma_min, opt->sigma_max, net_min, net_max);
    const double from = pow(high, 1 / opt->rho), to = pow(low, 1 / opt->rho);
    for (int i = 0; i < n; i++) t[i] = pow(from + (double)i / (n - 1) * (to - from), opt->rho);
    t[n] = 0;
    for (int i = 0; i < n; i++)
        if (!(isfinite(t[i]) && t[i] > t[i + 1]))
            return fdm_fail(err, FDM_BAD_USAGE,
                            "rho = %g with %d steps from %g to %g: the noise levels do not decrease in f64; use a "
                            "smaller rho or fewer steps",
                            opt->rho, n, high, low);
    return FDM_OK;
}

int fdm_dpm_step_count(int num_steps) {
    return (num_steps - 1) / 3 + 1;
}

void fdm_dpm_orders(int *orders, int num_steps) {
    const int n = num_steps - 1, count = fdm_dpm_step_count(num_steps);
    for (int i = 0; i < count; i++) orders[i] = 3;
    if (n % 3 == 0) {
        orders[count - 1] = 1;
        if (count > 1) orders[count - 2] = 2;
    } else {
        orders[count - 1] = n % 3;
    }
}

void fdm_dpm_grid(float *sigma, float sigma_max, float sigma_min, int n) {
    const float first = -(float)log((double)sigma_max), last = -(float)log((double)sigma_min);
    const float step = (last - first) / (float)n;
    for (int i = 0; i <= n; i++) {
        /* From both ends, so that both come out exact. */
        float lambda = i < (n + 1) / 2 ? fmaf(step, (float)i, first) : fmaf(-step, (float)(n - i), last);
        sigma[i] = (float)exp(-(double)lambda);
    }
}
