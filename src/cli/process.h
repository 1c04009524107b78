/* process.h - what the files of `fdm process` share: its options, and the figures it can make. */
#ifndef FDM_CLI_PROCESS_H
#define FDM_CLI_PROCESS_H

#include "cli/cli.h"
#include "cli/figure.h"

struct process_options {
    int precond, figure;
    double fdm_multiplier, ve_multiplier, zeta;
    struct fdm_floatlist sigma, tau;
    const char *plot, *image;
    int64_t index, seed;
    bool json;
};

/* X(name, what it shows) */
#define FDM_FIGURES(X)                                                                                                \
    X(scale, "the scale s(t) under damping 0.2 to 3, beside VP's")                                                    \
    X(moments, "mean paths, bands of a standard deviation and sample paths in the three regimes")                     \
    X(phase, "phase portraits (x, v): the drift, mean paths, spreading ellipses")                                     \
    X(clouds, "particles of a 2-D mixture in time: VP, critical and light damping")                                   \
    X(strip, "a picture (--image) diffused by VP, VE, EDM and their FDM versions, as the network sees it")            \
    X(descent, "SGD against momentum SGD on the objective whose optimisation diffusion is")                           \
    X(orders, "weak and strong errors of the simulators against the step, with error bars")                           \
    X(reverse, "what samplers make of a 1-D mixture with few evaluations, beside its density")                        \
    X(nfe, "distance to the target against the number of evaluations, EDM, FDM and momentum")

/* Each makes its figure; *out is the caller's, also after an error (NULL or for fdm_figure_free). */
typedef fdm_status fdm_figure_build(struct fdm_figure **out, const struct process_options *o, const struct fdm_cli *cli,
                                    fdm_error *err);
#define FDM_DECLARE_FIGURE(name, text) fdm_figure_build fdm_figure_##name;
FDM_FIGURES(FDM_DECLARE_FIGURE)
#undef FDM_DECLARE_FIGURE

/* *out = a figure of rows x columns panels.  Errors: FDM_NO_RESOURCE. */
fdm_status fdm_figure_start(struct fdm_figure **out, const char *title, int rows, int columns, fdm_error *err);

#endif
