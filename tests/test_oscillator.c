/* test_oscillator.c - means, covariances and impulse response against 60-digit values (tests/process/oscillator.py). */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/process.h"
#include "suite.h"

enum { COLUMNS = 6, LINE = 4096 };
static const char *const names[COLUMNS] = {"mean_x", "h", "dh", "cov_xx", "cov_xv", "cov_vv"};

/* The numbers of a line; how many. */
static int numbers(double *out, int most, char *line) {
    int count = 0;
    for (char *at = line, *end; count < most; at = end + (*end == ',')) {
        out[count] = strtod(at, &end);
        if (end == at) break;
        count++;
        if (*end != ',') break;
    }
    return count;
}

/* Relative error over the condition number, which must stay below 1e-14; absolute for 0 and below 1e-290, where doubles
 * end. */
static double over_condition(double got, double want, double condition) {
    return fabs(got - want) / (condition * (want == 0 ? 1 : fmax(fabs(want), 1e-290)));
}

START_TEST(sixty_digits) {
    FILE *file = fopen("tests/process/oscillator.csv", "r");
    ck_assert_msg(file != NULL, "tests/process/oscillator.csv: run from the top of the repository");
    char line[LINE];
    double worst[COLUMNS] = {0};
    int rows = 0;
    ck_assert_ptr_nonnull(fgets(line, sizeof line, file));
    while (fgets(line, sizeof line, file)) {
        double row[2 + 2 * COLUMNS];
        ck_assert_int_eq(numbers(row, 2 + 2 * COLUMNS, line), 2 + 2 * COLUMNS);
        fdm_oscillator o;
        ck_assert_int_eq(fdm_oscillator_at(&o, row[0], row[1], 1, NULL), FDM_OK);
        const double got[COLUMNS] = {o.mean_x, o.h, o.dh, o.cov_xx, o.cov_xv, o.cov_vv};
        for (int k = 0; k < COLUMNS; k++) {
            const double error = over_condition(got[k], row[2 + k], row[2 + COLUMNS + k]);
            if (!(error <= worst[k])) worst[k] = error;
            if (!(error <= 1e-14))
                ck_abort_msg("zeta %.17g, tau %g: %s = %.17g, want %.17g (condition %g)", row[0], row[1], names[k], got[k],
                             row[2 + k], row[2 + COLUMNS + k]);
        }
        ck_assert(o.mean_v == -o.h);
        rows++;
    }
    fclose(file);
    ck_assert_int_ge(rows, 300);
    printf("  %d states, worst error / condition:", rows);
    for (int k = 0; k < COLUMNS; k++) printf(" %s %.2g", names[k], worst[k]);
    putchar('\n');
}
END_TEST

/* Neighbouring dampings give neighbouring values right across zeta = 1. */
START_TEST(regimes_join) {
    static const double taus[] = {1e-6, 0.1, 1, 4, 20};
    for (int t = 0; t < 5; t++) {
        fdm_oscillator before, at, after;
        fdm_oscillator_at(&before, nextafter(1, 0), taus[t], 2, NULL);
        fdm_oscillator_at(&at, 1, taus[t], 2, NULL);
        fdm_oscillator_at(&after, nextafter(1, 2), taus[t], 2, NULL);
        const double pairs[][3] = {{before.mean_x, at.mean_x, after.mean_x},
                                   {before.h, at.h, after.h},
                                   {before.cov_xx, at.cov_xx, after.cov_xx},
                                   {before.cov_vv, at.cov_vv, after.cov_vv}};
        for (int k = 0; k < 4; k++) {
            const double bound = 2e-15 * (1 + taus[t]) * pairs[k][1];
            ck_assert(fabs(pairs[k][0] - pairs[k][1]) <= bound && fabs(pairs[k][2] - pairs[k][1]) <= bound);
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("oscillator");
    TCase *tc = tcase_create("oscillator");
    tcase_add_test(tc, sixty_digits);
    tcase_add_test(tc, regimes_join);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
