/* multistep.c - DPM-Solver++ multistep 2M and 3M (Lu et al., arXiv:2211.01095), all in f64.
 *
 * As in dpm_solver.c, but D's derivatives in lambda come from earlier steps: with D0 at s, D1 and D2 one and
 * two steps before, divided differences f01, f12, f012 give the polynomial through them in u = lambda - lambda_s,
 *     D(u) = D0 + (f01 + h1 f012) u + f012 u^2,         f012 = 0 for 2M,
 * and the integrals of e^u u^k over the step are exact:
 *     x_t = (sigma_t/sigma_s) x - phi1 D0 + h phi2 (f01 + h1 f012) - 2 h^2 phi3 f012,
 *     phi1 = e^-h - 1,  phi2 = phi1/h + 1,  phi3 = phi2/h - 1/2.
 * (The program of the paper's authors has -h^2 phi3 f012, half the integral, and with that is of second order only;
 * tests/test_sample.c measures third order for this form.) */
#include "sample/internal.h"

#include <math.h>
#include <string.h>

/* The last three denoised images, newest first, and the steps in lambda between them. */
typedef struct history {
    double *D[3];
    double h[2]; /* lambda(D[0]) - lambda(D[1]), lambda(D[1]) - lambda(D[2]) */
    int count;
} history;

static void push(history *past) {
    double *oldest = past->D[2];
    past->D[2] = past->D[1];
    past->D[1] = past->D[0];
    past->D[0] = oldest;
    past->h[1] = past->h[0];
    past->count = fdm_min_int(past->count + 1, 3);
}

static void advance(double *x, const fdm_sample_run *run, const history *past, int order, double ratio, double h) {
    const double phi1 = expm1(-h), phi2 = phi1 / h + 1, phi3 = phi2 / h - 0.5;
    const double *D0 = past->D[0], *D1 = past->D[1], *D2 = past->D[2];
    for (size_t i = 0; i < run->numel; i++) {
        double y = ratio * x[i] - phi1 * D0[i];
        if (order >= 2) {
            double f01 = (D0[i] - D1[i]) / past->h[0], slope = f01;
            if (order >= 3) {
                double f12 = (D1[i] - D2[i]) / past->h[1];
                double f012 = (f01 - f12) / (past->h[0] + past->h[1]);
                slope = f01 + past->h[0] * f012;
                y -= 2 * h * h * phi3 * f012;
            }
            y += h * phi2 * slope;
        }
        x[i] = y;
    }
}

fdm_status fdm_sample_multistep(double *x, const float *latents, fdm_sample_run *run, fdm_error *err) {
    const fdm_sample_options *opt = run->opt;
    const int steps = opt->num_steps - 1, most = opt->solver == FDM_SOLVER_DPM3M ? 3 : 2;
    const double first = -log(opt->sigma_max), last = -log(opt->sigma_min), h = (last - first) / steps;
    if (!(h > 0 && first + h > first && last - h < last))
        return fdm_fail(err, FDM_BAD_USAGE, "steps = %d: too many from sigma %g to %g", opt->num_steps,
                        opt->sigma_max, opt->sigma_min);
    double *slab = NULL;
    fdm_status status = fdm_sample_buffers(&slab, run, 3, err);
    if (status != FDM_OK) return status;
    history past = {{slab, slab + run->numel, slab + 2 * run->numel}, {h, h}, 0};
    for (size_t i = 0; i < run->numel; i++) x[i] = (double)latents[i] * opt->sigma_max;
    for (int i = 0; i <= steps && status == FDM_OK; i++) {
        double sigma = i < steps ? exp(-(first + i * h)) : opt->sigma_min;
        push(&past);
        status = fdm_sample_denoise(run, past.D[0], x, i == 0 ? opt->sigma_max : sigma, err);
        if (status != FDM_OK) break;
        if (i == steps)
            memcpy(x, past.D[0], run->numel * sizeof *x); /* "denoise to zero", as the singlestep solver */
        else
            advance(x, run, &past, fdm_min_int(past.count, most), exp(-h), h);
    }
    fdm_free_aligned(slab);
    return status;
}
