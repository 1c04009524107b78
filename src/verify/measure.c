/* measure.c - errors of a tensor, gathered over samples. */
#include "verify/measure.h"

#include <math.h>
#include <string.h>

/* f32 numbers between two values. */
static int64_t ulps_between(double a, double b) {
    const float f[2] = {(float)a, (float)b};
    int64_t place[2];
    for (int i = 0; i < 2; i++) {
        uint32_t bits;
        memcpy(&bits, &f[i], sizeof bits);
        place[i] = bits & 0x80000000u ? -(int64_t)(bits & 0x7fffffffu) : (int64_t)bits;
    }
    return place[0] > place[1] ? place[0] - place[1] : place[1] - place[0];
}

static void note_worst(struct fdm_tally *y, double error, int64_t at, double seen, double truth) {
    if (y->worst >= 0 && y->count + at > 0 && !(error > y->seen_max)) return;
    y->worst = at;
    y->worst_seen = seen;
    y->worst_truth = truth;
    y->seen_max = error;
}

void fdm_tally_add(struct fdm_tally *y, const struct fdm_sample_values *v) {
    if (y->count == 0) y->worst = -1;
    for (size_t i = 0; i < v->count; i++) {
        const double truth = v->truth[i], seen = v->seen[i], emulated = v->emulated[i] - truth;
        const double error = seen - truth;
        y->truth2 += truth * truth;
        y->truth_sum += truth;
        y->truth_max = fmax(y->truth_max, fabs(truth));
        if (v->blank) {
            y->blank2 += (v->blank[i] - truth) * (v->blank[i] - truth);
            y->with_blank = true;
        }
        if (isfinite(emulated)) {
            y->emulated2 += emulated * emulated;
            y->emulated_max = fmax(y->emulated_max, fabs(emulated));
        } else {
            y->emulated_nonfinite++;
        }
        if (v->nudged && isfinite(v->nudged[i])) {
            const double nudged = v->nudged[i] - v->nudged_truth[i];
            y->nudged2 += nudged * nudged;
            y->emulated_max = fmax(y->emulated_max, fabs(nudged));
        }
        if (!isfinite(seen)) {
            y->nonfinite++;
            note_worst(y, INFINITY, y->count + (int64_t)i, seen, truth);
            continue;
        }
        y->seen2 += error * error;
        if (isfinite(emulated)) y->product += error * emulated;
        note_worst(y, fabs(error), y->count + (int64_t)i, seen, truth);
        const int64_t ulps = ulps_between(seen, truth);
        if (ulps > y->max_ulp) y->max_ulp = ulps;
    }
    y->count += (int64_t)v->count;
}

static double root_mean(double squares, int64_t count) { return count ? sqrt(squares / (double)count) : 0; }

double fdm_tally_truth_rms(const struct fdm_tally *y) { return root_mean(y->truth2, y->count); }

bool fdm_tally_constant(const struct fdm_tally *y) {
    const double mean = y->count ? y->truth_sum / (double)y->count : 0;
    const double variance = y->count ? y->truth2 / (double)y->count - mean * mean : 0;
    return y->count > 1 && variance <= 1e-14 * (mean * mean); /* what f64 sums can tell */
}

static double ratio(double seen, double expected) {
    return seen == 0 ? 0 : expected > 0 ? seen / expected : INFINITY;
}

fdm_verify_error fdm_tally_error(const struct fdm_tally *y, double floor) {
    fdm_verify_error e = {.rms = root_mean(y->seen2, y->count), .max = y->seen_max};
    const double emulated = root_mean(fmax(y->emulated2, y->nudged2), y->count);
    e.expected_rms = fmax(emulated, floor * 0.3 * fdm_tally_truth_rms(y));
    e.expected_max = fmax(y->emulated_max, floor * y->truth_max);
    if (y->nonfinite) e.rms = e.max = INFINITY;
    e.rms_ratio = ratio(e.rms, e.expected_rms);
    e.max_ratio = ratio(e.max, e.expected_max);
    e.correlation = y->seen2 > 0 && y->emulated2 > 0 ? y->product / sqrt(y->seen2 * y->emulated2) : 0;
    return e;
}
