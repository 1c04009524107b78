/* options.c - solver names, published defaults, and what is wrong with given options. */
#include "sample/internal.h"

#include <math.h>
#include <string.h>

static const char *const solver_names[FDM_SOLVER_COUNT] = {
#define SOLVER_NAME(e, name) [e] = name,
    FDM_SOLVERS(SOLVER_NAME)
#undef SOLVER_NAME
};

const char *fdm_solver_name(fdm_solver solver) {
    return (unsigned)solver < FDM_SOLVER_COUNT ? solver_names[solver] : "?";
}

fdm_status fdm_solver_find(fdm_solver *solver, const char *name, fdm_error *err) {
    for (int i = 0; i < FDM_SOLVER_COUNT; i++) {
        if (name == NULL || strcmp(name, solver_names[i]) != 0) continue;
        *solver = (fdm_solver)i;
        return FDM_OK;
    }
    return fdm_fail(err, FDM_BAD_USAGE, "unknown solver '%.80s': use edm, euler, dpm, dpm2m or dpm3m",
                    name ? name : "");
}

fdm_sample_options fdm_sample_defaults(void) {
    return (fdm_sample_options){.solver = FDM_SOLVER_EDM,
                                .num_steps = 18,
                                .sigma_min = 0.002,
                                .sigma_max = 80,
                                .rho = 7,
                                .S_churn = 0,
                                .S_min = 0,
                                .S_max = INFINITY,
                                .S_noise = 1};
}

fdm_status fdm_sample_check(const fdm_sample_options *opt, fdm_error *err) {
    if ((unsigned)opt->solver >= FDM_SOLVER_COUNT)
        return fdm_fail(err, FDM_BAD_USAGE, "unknown solver %d", (int)opt->solver);
    if (opt->num_steps < 2 || opt->num_steps > FDM_MAX_STEPS)
        return fdm_fail(err, FDM_BAD_USAGE, "steps = %d: need at least 2 and at most %d", opt->num_steps,
                        FDM_MAX_STEPS);
    const struct {
        const char *name, *need;
        double value;
        bool good; /* false for NaN: every comparison below fails on it */
    } rows[] = {
        {"sigma_min", "a positive number", opt->sigma_min, opt->sigma_min > 0 && isfinite(opt->sigma_min)},
        {"sigma_max", "a number above sigma_min", opt->sigma_max,
         opt->sigma_max > opt->sigma_min && isfinite(opt->sigma_max)},
        {"rho", "a positive number", opt->rho, opt->rho > 0 && isfinite(opt->rho)},
        {"S_churn", "a number of 0 or more", opt->S_churn, opt->S_churn >= 0 && isfinite(opt->S_churn)},
        {"S_min", "a number of 0 or more", opt->S_min, opt->S_min >= 0},
        {"S_max", "a number not below S_min", opt->S_max, opt->S_max >= opt->S_min},
        {"S_noise", "a number of 0 or more", opt->S_noise, opt->S_noise >= 0 && isfinite(opt->S_noise)},
    };
    for (size_t i = 0; i < FDM_ARRAY_LEN(rows); i++)
        if (!rows[i].good)
            return fdm_fail(err, FDM_BAD_USAGE, "%s = %g: need %s", rows[i].name, rows[i].value, rows[i].need);
    return FDM_OK;
}

int fdm_sample_nfe(const fdm_sample_options *opt) {
    return opt->solver == FDM_SOLVER_EDM ? 2 * opt->num_steps - 1 : opt->num_steps;
}
