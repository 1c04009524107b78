/* compare_report.h - a comparison as a report; internal. */
#ifndef FDM_VERIFY_COMPARE_REPORT_H
#define FDM_VERIFY_COMPARE_REPORT_H

#include "fdm/compare.h"
#include "verify/report.h"

/* Into an all-zero report, which borrows from the comparison; free it with fdm_report_free in any case.
 * Errors: FDM_NO_RESOURCE. */
fdm_status fdm_compare_report(struct fdm_report *report, const fdm_comparison *comparison,
                              const fdm_compare_files_args *files, const fdm_compare_options *options,
                              fdm_error *err);

#endif
