/* tolerance.c - rounding bounds with measured magnitudes (tolerance.h has the formulas). */
#include "verify/tolerance.h"

#include <math.h>
#include <stdio.h>

#include "base/base.h"
#include "fdm/precond.h"

static const double unit = 0x1p-24; /* of f32 */

static double rms_of(const double *x, size_t count) {
    double squares = 0;
    for (size_t i = 0; i < count; i++) squares += x[i] * x[i];
    return count ? sqrt(squares / (double)count) : 0;
}

fdm_layer_class fdm_step_class(const struct fdm_step *s) {
    switch (s->op) {
    case FDM_OP_LINEAR: return FDM_LAYERS_LINEAR;
    case FDM_OP_GROUPNORM: return FDM_LAYERS_NORM;
    case FDM_OP_ATTENTION: return FDM_LAYERS_ATTENTION;
    default: return FDM_LAYERS_CONV;
    }
}

fdm_format fdm_storage_of(const fdm_emulation *e, fdm_layer_class layers) {
    const fdm_format f = e->format[layers];
    return f == FDM_FORMAT_TF32 ? FDM_FORMAT_FP32 : f;
}

static size_t value_count(const struct fdm_value *v) { return (size_t)v->c * (size_t)(v->h ? v->h * v->w : 1); }

/* (sqrt(2) u_op + sqrt(K) u) sqrt(K) rms(w) rms(x) + u_out rms(y) */
static void product_bound(struct fdm_tolerance *tolerance, const struct fdm_teacher *t, const struct fdm_step *s, double y) {
    const struct fdm_graph *g = fdm_teacher_graph(t);
    const struct fdm_module *m = &g->modules[s->module];
    const int taps = s->op == FDM_OP_CONV2D ? m->k * m->k : 1;
    const double K = (double)m->in * taps;
    const fdm_emulation *e = &t->emulated.emulation;
    const fdm_format f = e->format[fdm_step_class(s)];
    const double u_op = f == FDM_FORMAT_FP32 ? 0 : fdm_format_unit(f);
    const double u_out = fdm_format_unit(fdm_storage_of(e, fdm_step_class(s)));
    const double *weight = (const double *)(const void *)(t->truth.slab + m->packed);
    const double w = rms_of(weight, (size_t)m->out * (size_t)m->in * (size_t)taps);
    const double x = rms_of(fdm_teacher_input(t, FDM_LANE_FORCED_TRUTH, s->in), value_count(&g->values[s->in])) * s->in_scale;
    tolerance->rms = (sqrt(2) * u_op + sqrt(K) * unit) * sqrt(K) * w * x + u_out * y;
    snprintf(tolerance->formula, sizeof tolerance->formula,
             "(1.41 u_op + sqrt(K) u) sqrt(K) rms(w) rms(x) + u_out rms(y): u_op %.3g, K %.0f, u %.3g, w %.3g, x %.3g, u_out "
             "%.3g, y %.3g", u_op, K, unit, w, x, u_out, y);
}

/* The largest rms(v)/deviation of a group, v = x + add. */
static double offset_of_groups(const struct fdm_teacher *t, const struct fdm_step *s) {
    const struct fdm_value *in = &fdm_teacher_graph(t)->values[s->in];
    const double *x = fdm_teacher_input(t, FDM_LANE_FORCED_TRUTH, s->in);
    const double *add = s->in2 >= 0 ? fdm_teacher_input(t, FDM_LANE_FORCED_TRUTH, s->in2) : NULL;
    const int groups = fdm_groupnorm_groups(in->c), size = in->c / groups;
    const size_t plane = (size_t)in->h * (size_t)in->w;
    double largest = 0;
    for (int g = 0; g < groups; g++) {
        double sum = 0, squares = 0;
        for (int c = g * size; c < (g + 1) * size; c++)
            for (size_t i = 0; i < plane; i++) {
                const double v = x[(size_t)c * plane + i] + (add ? add[c] : 0);
                sum += v;
                squares += v * v;
            }
        const double count = (double)size * (double)plane, mean = sum / count;
        largest = fmax(largest, sqrt(squares / count) / sqrt(fmax(squares / count - mean * mean, 0) + 1e-6));
    }
    return largest;
}

static void norm_bound(struct fdm_tolerance *tolerance, const struct fdm_teacher *t, const struct fdm_step *s, double y) {
    const double u_out = fdm_format_unit(fdm_storage_of(&t->emulated.emulation, FDM_LAYERS_NORM));
    const double offset = offset_of_groups(t, s), u = s->in2 >= 0 ? unit + u_out / 6 : unit; /* x + add is stored, too */
    tolerance->rms = (6 * u * (1 + offset) + 2 * u_out) * y;
    snprintf(tolerance->formula, sizeof tolerance->formula,
             "(6 u (1 + rms(v)/deviation) + 2 u_out) rms(y): u %.3g, v/deviation %.3g, u_out %.3g, y %.3g", u, offset, u_out, y);
}

static void embedding_bound(struct fdm_tolerance *tolerance, const struct fdm_teacher *t, const struct fdm_step *s) {
    const struct fdm_module *m = &fdm_teacher_graph(t)->modules[s->module];
    const double c = t->lanes[FDM_LANE_TRUTH].c_noise, c32 = t->lanes[FDM_LANE_EMULATED].c_noise;
    const double relative = c != 0 ? fabs(c32 - c) / fabs(c) : 0;
    const double a = fabs(c) * rms_of((const double *)(const void *)(t->truth.slab + m->packed), (size_t)m->out / 2);
    tolerance->rms = (relative + 4 * unit) * a + unit;
    snprintf(tolerance->formula, sizeof tolerance->formula, "(|c - c64|/|c| + 4 u) rms(a) + u: c %.6g, |c - c64|/|c| %.3g, u %.3g, a %.3g",
             c, relative, unit, a);
}

struct fdm_tolerance fdm_tolerance_elementwise(double y, fdm_format storage) {
    struct fdm_tolerance tolerance;
    const double u_out = fdm_format_unit(storage);
    tolerance.rms = (3 * unit + 2 * u_out) * y;
    snprintf(tolerance.formula, sizeof tolerance.formula, "(3 u + 2 u_out) rms(y): u %.3g, u_out %.3g, y %.3g", unit, u_out, y);
    return tolerance;
}

struct fdm_tolerance fdm_tolerance_of(const struct fdm_teacher *t, const struct fdm_step *s, const double *y, size_t count) {
    struct fdm_tolerance tolerance = {0};
    const double rms = rms_of(y, count);
    switch (s->op) {
    case FDM_OP_CONV2D:
    case FDM_OP_LINEAR: product_bound(&tolerance, t, s, rms); break;
    case FDM_OP_GROUPNORM: norm_bound(&tolerance, t, s, rms); break;
    case FDM_OP_NOISE_EMBEDDING: embedding_bound(&tolerance, t, s); break;
    default: tolerance = fdm_tolerance_elementwise(rms, fdm_storage_of(&t->emulated.emulation, fdm_step_class(s)));
    }
    return tolerance;
}

/* The largest of n normal deviates is near sqrt(2 ln n); twice that, as magnitudes differ from place to place. */
double fdm_tolerance_max(double rms, int64_t count) { return rms * (2 + 2 * sqrt(2 * log((double)count + 1))); }
