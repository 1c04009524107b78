/* verify.h - a run on other hardware against the truth, module by module.
 *
 * A dump holds what a program computed: inputs x, sigma [class_labels, augment_labels] and any of
 *   out = D(x; sigma),  F_x (raw network output),  c_in_x, c_noise (what the network was fed),
 *   trace.<module> (every module's output under its published name, before its caller adds to it in place),
 * or y, sigma, noise_unit with loss and grad.<parameter>, or sampler states x_call with call_sigma [D_call, x_final].
 *
 * Everything is computed again in f64 (the truth) and in the precision P that the other program claims (emulation.h), each
 * tensor twice: from the dump's inputs alone, and from the dump's own tensors just upstream ("teacher forcing"), so that
 * an inherited error is told from a local one.  The local error decides:
 *
 *   error(dump) <= max(limit * error(emulated P), tolerance)        both as RMS and as maximum
 *
 * where errors are distances from the truth and the tolerance is a probabilistic rounding bound with measured magnitudes
 * (each item has its formula).  A tensor that even a wrong program would get right is MISTRUSTED: the truth is constant,
 * or the network's input could be zero and the result would stay within the limits.
 */
#ifndef FDM_VERIFY_H
#define FDM_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fdm/config.h"
#include "fdm/denoiser.h"
#include "fdm/emulation.h"
#include "fdm/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator, name), worst first */
#define FDM_VERIFY_VERDICTS(X)                                                                                  \
    X(FDM_VERIFY_FAIL, "fail")                                                                          \
    X(FDM_VERIFY_INHERITED, "inherited")   /* right for its inputs, which are wrong */                  \
    X(FDM_VERIFY_MISTRUSTED, "mistrusted") /* within the limits, but so would be a wrong program's */ \
    X(FDM_VERIFY_PASS, "pass")

typedef enum fdm_verdict {
#define FDM_VERIFY_ENUM(e, name) e,
    FDM_VERIFY_VERDICTS(FDM_VERIFY_ENUM)
#undef FDM_VERIFY_ENUM
        FDM_VERIFY_VERDICT_COUNT
} fdm_verdict;
FDM_API const char *fdm_verdict_name(fdm_verdict verdict);

/* Errors of one tensor against one truth. */
typedef struct fdm_verify_error {
    double rms, max;                   /* of the dump's tensor */
    double expected_rms, expected_max; /* of the emulated one, at least what storing the truth costs */
    double rms_ratio, max_ratio;       /* the first over the second; infinite for a NaN that the truth lacks */
    double correlation; /* of the two errors: near 1 where the other program rounds the same operands the same way */
} fdm_verify_error;

/* One tensor of the dump, in the order of the computation. */
typedef struct fdm_verify_item {
    char *name;   /* as in the dump; owned by the report */
    char *module; /* the published module name that it is the output of: "model.enc.16x16_conv"; owned */
    fdm_verdict verdict;
    char reason[240]; /* one line; "" for pass */
    int64_t count;    /* elements judged; 0 if none could be */
    int64_t worst;    /* row-major index of the largest local error, -1: none */
    double worst_seen, worst_truth;
    int64_t max_ulp; /* f32 numbers between the dump and the truth, locally */
    double scale;    /* RMS of the truth */
    fdm_verify_error local, total; /* from the tensors upstream; from the dump's inputs alone */
    double tolerance_rms, tolerance_max; /* rounding bound of the local error */
    char formula[160];                   /* "u sqrt(K) ... = 1.2e-7 ..." */
    bool depends_on_image; /* rather than on the noise level and labels alone */
    bool blind;            /* but so little that a mistake in it would not show */
} fdm_verify_item;

/* One call of the network in a sampler's run. */
typedef struct fdm_verify_step {
    int call;
    double sigma;
    double local, expected;  /* RMS of this state minus the f64 step from the dump's own state before; of an emulated step */
    double growth;           /* RMS factor by which this step's f64 map amplifies the local error that came before it */
    double total, predicted; /* RMS distance from the all-f64 run; what errors of that size, amplified, add up to */
    fdm_verdict verdict;
} fdm_verify_step;

/* The first tensor whose values are out of bounds, one sample: for pictures. */
typedef struct fdm_verify_worst {
    char name[120]; /* "" and NULLs: there is none, or no diagnosis was made */
    int ndim;
    int64_t shape[4];
    float *seen;   /* owned */
    double *truth; /* owned */
} fdm_verify_worst;

typedef struct fdm_verify_report {
    fdm_verdict verdict;  /* fail, mistrusted or pass */
    char first_bad[96];   /* first module whose own error is out of bounds, "c_in", or "" */
    char diagnosis[400];  /* "... matches the truth if ...", or "" */
    char remark[400];     /* what the user should know: noise levels that show nothing, tensors ignored, ... */
    bool looks_like_other;
    fdm_format looks_like; /* if so: the dump fits this format and not the claimed one */
    fdm_emulation emulation;
    double rms_limit, max_limit, safety;
    fdm_verify_item *items;
    size_t count;
    fdm_verify_step *steps;
    size_t step_count;
    fdm_verify_worst bad;
    size_t ignored; /* tensors of the dump that are neither inputs nor known results */
} fdm_verify_report;

/* All zeros is a good default. */
typedef struct fdm_verify_options {
    fdm_emulation emulation;
    double rms_limit, max_limit; /* 0: FDM_VERIFY_RMS_LIMIT, FDM_VERIFY_MAX_LIMIT */
    double safety;               /* factor of the tolerances; 0: 1 */
    const fdm_tensors *other;    /* the same model's other weights (raw beside averaged), tried in a diagnosis; or NULL */
    bool no_diagnosis;           /* only say where, not why */
    double clamp;                /* loss weight limit of loss and grad.*; 0: none */
    int threads;                 /* as in fdm_run_options */
    const char *isa;
    fdm_stop_fn stop;
    void *stop_user;
} fdm_verify_options;

/* Calibrated on PyTorch's CPU code, on our own backends and on emulated ones (README, "Verifying a GPU"). */
#define FDM_VERIFY_RMS_LIMIT 3.0
#define FDM_VERIFY_MAX_LIMIT 6.0

/* Verifies a dump against a model (its tensors; `where` and `dump_where` name the two in messages).  *report must be all
 * zeros or freed; it is filled whenever the verdict could be found.
 * Returns FDM_OK (pass) or FDM_MISMATCH (fail, mistrusted; err holds a summary).  Errors: FDM_BAD_INPUT names the tensor of
 * the model or the dump that is missing or unusable; FDM_BAD_USAGE; FDM_NO_RESOURCE; FDM_INTERRUPTED from stop. */
FDM_API fdm_status fdm_verify(fdm_verify_report *report, const fdm_tensors *model, const char *where,
                              const fdm_tensors *dump, const char *dump_where, const fdm_verify_options *options,
                              fdm_error *err);
FDM_API void fdm_verify_report_free(fdm_verify_report *report);
/* The report as JSON text (README has the schema); malloc'd, NULL if out of memory. */
FDM_API char *fdm_verify_report_json(const fdm_verify_report *report);
/* The same as one self-contained HTML page. */
FDM_API char *fdm_verify_report_html(const fdm_verify_report *report, const char *title);

#ifdef __cplusplus
}
#endif
#endif
