/* measure.h - distances of a dump's tensor and of an emulated one from the truth, gathered sample by sample; internal. */
#ifndef FDM_VERIFY_MEASURE_H
#define FDM_VERIFY_MEASURE_H

#include "fdm/verify.h"

struct fdm_tally {
    double seen2, emulated2, nudged2, product; /* sums of squares of errors, of products of the first two */
    double seen_max, emulated_max;
    double truth2, truth_sum, truth_max, blank2; /* of the truth; of its change when the network's input becomes zero */
    int64_t count, nonfinite, emulated_nonfinite, worst, max_ulp;
    double worst_seen, worst_truth;
    bool with_blank;
};

/* One sample's values; nudged (with the truth that it is held against) and blank may be NULL. */
struct fdm_sample_values {
    const double *seen, *truth, *emulated, *nudged, *nudged_truth, *blank;
    size_t count;
};
void fdm_tally_add(struct fdm_tally *y, const struct fdm_sample_values *v);

double fdm_tally_truth_rms(const struct fdm_tally *y);
/* Whether the truth has one value only. */
bool fdm_tally_constant(const struct fdm_tally *y);
/* floor: relative rounding error of storing a value, below which no expectation falls. */
fdm_verify_error fdm_tally_error(const struct fdm_tally *y, double floor);

#endif
