/* network.h - the network F on one backend: graph, packed weights, plan and memory as one object; internal.
 * The denoiser (denoiser.c) and the training gradient (gradient.c) are built on it. */
#ifndef FDM_NN_NETWORK_H
#define FDM_NN_NETWORK_H

#include "fdm/emulation.h"
#include "nn/run.h"

/* The table of layer functions and how to run them (without scratch; exec may point to *emulation, which is NULL where
 * nothing is emulated), and their name for people: "avx2 (f32)".
 * Errors: FDM_BAD_USAGE for what there is none of. */
enum { FDM_BACKEND_NAME = 32 };
fdm_status fdm_backend_choose(const struct fdm_backend **backend, struct fdm_exec *exec, fdm_emulation *emulation,
                              char backend_name[FDM_BACKEND_NAME], const fdm_run_options *options, fdm_error *err);

struct fdm_network {
    fdm_config config;
    const struct fdm_backend *backend;
    struct fdm_exec exec;
    fdm_emulation emulation; /* exec.settings of an emulated network */
    char backend_name[FDM_BACKEND_NAME];
    struct fdm_graph graph;
    char *slab;           /* packed parameters */
    char *packed;         /* a network that trains: one packed convolution, else NULL */
    struct fdm_plan plan; /* of the latest kind of run; plan.n == 0: none yet */
    char *arena;          /* plan.arena_bytes */
};

/* Into an all-zero struct; `trains`: for runs with parameters that move (run.h).  Released with fdm_network_free also on failure.  Errors: as fdm_denoiser_create. */
fdm_status fdm_network_create(struct fdm_network *net, const fdm_config *config, const fdm_tensors *weights,
                              const char *where, const fdm_run_options *options, bool trains, fdm_error *err);
void fdm_network_free(struct fdm_network *net);

/* Plan, arena and scratch for such runs; kept until another batch size or kind of run comes.
 * Errors: FDM_BAD_USAGE for n outside 1..65536; FDM_NO_RESOURCE. */
fdm_status fdm_network_prepare(struct fdm_network *net, const struct fdm_plan_options *options, fdm_error *err);

/* A run on what fdm_network_prepare laid out; the caller fills in the inputs. */
struct fdm_run fdm_network_run(struct fdm_network *net);

/* The network inside a denoiser: `fdm bench` puts clocks around its layer functions. */
struct fdm_network *fdm_denoiser_network(fdm_denoiser *denoiser);

/* What surrounds F in a denoiser: scaled = c_in x, and D = c_skip x + c_out F.  count elements of one sample; f32: every
 * operation rounded as the published program's (two roundings for the sum: no FMA). */
void fdm_scale_input(double *scaled, const double *x, double c_in, size_t count, bool f32);
void fdm_combine_output(double *D, const double *x, const double *F, const fdm_precond_coeffs *c, size_t count, bool f32);

#endif
