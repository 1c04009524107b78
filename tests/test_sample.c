/* test_sample.c - the samplers without a network: grids and orders, recorded runs replayed with the recorded D,
 * order of convergence on a Gaussian, independence of samples, wrong options. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/sample.h"
#include "golden.h"
#include "suite.h"

static void note(double *worst, double error) {
    if (!(error <= *worst)) *worst = error;
}

static double relative(double got, double want) {
    return fabs(got - want) / (want != 0 ? fabs(want) : 1);
}

static fdm_sample_options options(fdm_solver solver, int steps) {
    fdm_sample_options opt = fdm_sample_defaults();
    opt.solver = solver;
    opt.num_steps = steps;
    return opt;
}

/* --- grids --- */

/* grid<i> of kernel_timesteps; from its metadata `grids`. */
static const struct grid_row {
    int steps;
    double rho, sigma_min, sigma_max, net_min, net_max;
} grid_rows[] = {
    {18, 7, 0.002, 80, 0, INFINITY},
    {5, 7, 0.002, 80, 0.002, 80},
    {40, 7, 0.002, 80, 0.0009765625, 152.16697692871094},
    {18, 7, 0.002, 80, 0.02, 100},
    {256, 7, 0.002, 80, 0, INFINITY},
    {18, 5, 0.01, 50, 0, INFINITY},
    {10, 1, 0.002, 80, 0, INFINITY},
    {13, 3.5, 0.03, 200, 0.02, 100},
    {2, 7, 0.002, 80, 0, INFINITY},
};
enum { GRIDS = sizeof grid_rows / sizeof *grid_rows };

/* D(x) = x / 2 rounded to f32, the goldens' stand-in for a network. */
static fdm_status half(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err) {
    (void)ctx, (void)sigma, (void)err;
    for (int i = 0; i < n; i++) D[i] = (float)(x[i] / 2);
    return FDM_OK;
}

START_TEST(edm_grid) {
    const struct grid_row *row = &grid_rows[_i];
    fdm_tensors set;
    fdm_error err = {0};
    char prefix[16];
    golden_load(&set, "kernel_timesteps.safetensors");
    snprintf(prefix, sizeof prefix, "grid%d.", _i);
    fdm_sample_options opt = options(FDM_SOLVER_EDM, row->steps);
    opt.rho = row->rho, opt.sigma_min = row->sigma_min, opt.sigma_max = row->sigma_max;
    double *want = golden_f64(&set, prefix, "t_steps"), *x_out = golden_f64(&set, prefix, "x_out");
    double *t = calloc((size_t)row->steps + 1, sizeof *t), worst = 0;
    ck_assert_int_eq(golden_dim(&set, prefix, "t_steps", 0), row->steps + 1);
    ck_assert_msg(fdm_edm_grid(t, &opt, row->net_min, row->net_max, &err) == FDM_OK, "%s", err.message);
    for (int i = 0; i <= row->steps; i++) note(&worst, relative(t[i], want[i]));

    const fdm_denoise_fn net = {half, NULL, row->net_min, row->net_max, 1, 1, 1, 1};
    const float one = 1;
    double x;
    int nfe;
    ck_assert_int_eq(fdm_sample(&x, &nfe, &one, &net, NULL, NULL, &opt, &err), FDM_OK);
    printf("  grid %d: levels within %.2g, result for D = x/2 within %.2g\n", _i, worst, relative(x, *x_out));
    ck_assert_int_eq(nfe, 2 * row->steps - 1);
    /* two pow() of 1 ulp each, the inner one's error times rho <= 7 */
    ck_assert(worst <= 16 * 0x1p-53 * 7);
    /* the state follows the grid, D's rounding to f32 may fall the other way here and there: 2^-24 of the last D's
     */
    ck_assert(relative(x, *x_out) <= 1e-7);
    free(t), free(want), free(x_out);
    fdm_tensors_free(&set);
}
END_TEST

START_TEST(dpm_grid_and_orders) {
    static const int steps[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 24, 49};
    fdm_tensors set;
    golden_load(&set, "kernel_timesteps.safetensors");
    double worst = 0;
    int exact = 0, count = 0;
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "dpm%d.", steps[k]);
        const int outer =
            fdm_dpm_step_count(steps[k] + 1); /* the published N - 1 calls, plus the last at sigma_min */
        ck_assert_int_eq(outer, golden_dim(&set, prefix, "orders", 0));
        int orders[20], sum = 0;
        float t[21];
        fdm_dpm_orders(orders, steps[k] + 1);
        fdm_dpm_grid(t, 80, 0.002f, outer);
        const int64_t *want = golden_get(&set, prefix, "orders")->data;
        for (int i = 0; i < outer; i++) {
            ck_assert_int_eq(orders[i], (int)want[i]);
            sum += orders[i];
        }
        ck_assert_int_eq(sum, steps[k]);
        const float *want_t = golden_f32(&set, prefix, "t_outer");
        for (int i = 0; i <= outer; i++) {
            note(&worst, relative(t[i], want_t[i]));
            exact += t[i] == want_t[i];
            count++;
        }
    }
    printf("  outer levels: %d of %d exact, worst %.2g\n", exact, count, worst);
    /* lambda <= 6.2 may differ by 1 ulp = 4.8e-7 where PyTorch's CPU linspace runs in vectors (18 levels and more);
     * exp adds one, 1.2e-7 */
    ck_assert(worst <= 6.1e-7);
    ck_assert_int_ge(exact, count - 18);
    fdm_tensors_free(&set);
}
END_TEST

/* --- recorded runs --- */

/* Plays back the recorded outputs and holds each call's input against the recorded one. */
struct replay {
    const double *sigma, *x, *D; /* (calls), (calls, numel), (calls, numel) */
    int calls, next;
    size_t numel;
    double in_sigma, in_x; /* worst relative: of sigma; of x, against max |x| of that call */
};

static fdm_status play(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err) {
    (void)n, (void)err;
    struct replay *r = ctx;
    ck_assert_int_lt(r->next, r->calls);
    const size_t at = (size_t)r->next * r->numel;
    note(&r->in_sigma, relative(sigma, r->sigma[r->next]));
    note(&r->in_x, golden_compare(x, r->x + at, r->numel).max_scaled);
    memcpy(D, r->D + at, r->numel * sizeof *D);
    r->next++;
    return FDM_OK;
}

/* The file churn18 has no D_call, but every state around each call: solve the sampler's two formulas for D.  D is
 * an f32, so that rounding makes it exact. */
static double *recover_D(const struct replay *r, const double *x_cur, const double *t, int steps) {
    double *D = malloc((size_t)r->calls * r->numel * sizeof *D);
    ck_assert_ptr_nonnull(D);
    for (int i = 0, k = 0; i < steps; i++, k += 2) {
        const double t_hat = r->sigma[k], dt = t[i + 1] - t_hat;
        for (size_t e = 0; e < r->numel; e++) {
            const double *x = r->x + (size_t)k * r->numel + e, after = x_cur[(size_t)(i + 1) * r->numel + e];
            double *out = D + (size_t)k * r->numel + e;
            double euler = i < steps - 1 ? x[r->numel] : after, slope = (euler - x[0]) / dt;
            out[0] = (float)(x[0] - slope * t_hat);
            if (i == steps - 1) continue;
            double slope_next = 2 * (after - x[0]) / dt - (x[0] - out[0]) / t_hat;
            out[r->numel] = (float)(euler - slope_next * t[i + 1]);
        }
    }
    return D;
}

static const struct recorded {
    const char *file;
    fdm_solver solver;
    int steps;
    double net_min, net_max, churn[4]; /* S_churn, S_min, S_max, S_noise */
} recorded[] = {
    {"sampler_FDM_EDM_edm5", FDM_SOLVER_EDM, 5, 0.002, 80, {0, 0, INFINITY, 1}},
    {"sampler_FDM_VE_edm5", FDM_SOLVER_EDM, 5, 0.02, 100, {0, 0, INFINITY, 1}},
    {"sampler_FDM_EDM_churn18", FDM_SOLVER_EDM, 18, 0.002, 80, {40, 0.05, 50, 1.003}},
    {"sampler_FDM_EDM_dpm2", FDM_SOLVER_DPM, 2, 0.002, 80, {0, 0, INFINITY, 1}},
    {"sampler_FDM_EDM_dpm6", FDM_SOLVER_DPM, 6, 0.002, 80, {0, 0, INFINITY, 1}},
    {"sampler_FDM_EDM_dpm7", FDM_SOLVER_DPM, 7, 0.002, 80, {0, 0, INFINITY, 1}},
};
enum { RECORDED = sizeof recorded / sizeof *recorded };

START_TEST(replay_recorded) {
    const struct recorded *row = &recorded[_i];
    fdm_tensors set;
    fdm_error err = {0};
    char file[96];
    snprintf(file, sizeof file, "%s.safetensors", row->file);
    golden_load(&set, file);
    const fdm_tensor *x_call = golden_get(&set, "", "x_call");
    const int n = (int)x_call->shape[1], calls = (int)x_call->shape[0];
    double *x_recorded = golden_f64(&set, "", "x_call"), *sigma = golden_f64(&set, "", "call_sigma");
    double *final = golden_f64(&set, "", "x_final");
    struct replay r = {.sigma = sigma, .x = x_recorded, .calls = calls};
    r.numel = (size_t)(fdm_tensor_numel(x_call) / calls);

    fdm_sample_options opt = options(row->solver, row->steps);
    opt.S_churn = row->churn[0], opt.S_min = row->churn[1], opt.S_max = row->churn[2], opt.S_noise = row->churn[3];
    double *D = NULL, *noise_values = NULL;
    if (golden_find(&set, "", "D_call")) {
        D = golden_f64(&set, "", "D_call");
    } else {
        double *t = golden_f64(&set, "", "t_steps"), *x_cur = golden_f64(&set, "", "x_cur");
        D = recover_D(&r, x_cur, t, row->steps);
        free(t), free(x_cur);
    }
    r.D = D;
    fdm_noise_array array = {NULL, row->steps};
    const fdm_noise_fn noise = {fdm_noise_from_array, &array};
    if (golden_find(&set, "", "noise")) array.noise = noise_values = golden_f64(&set, "", "noise");
    const fdm_denoise_fn net = {play,
                                &r,
                                row->net_min,
                                row->net_max,
                                n,
                                (int)x_call->shape[2],
                                (int)x_call->shape[3],
                                (int)x_call->shape[4]};
    double *x = calloc(r.numel, sizeof *x);
    int nfe = 0;
    fdm_status status =
        fdm_sample(x, &nfe, golden_f32(&set, "", "latents"), &net, array.noise ? &noise : NULL, NULL, &opt, &err);
    ck_assert_msg(status == FDM_OK, "%s", err.message);
    ck_assert_int_eq(nfe, calls);
    ck_assert_int_eq(nfe, fdm_sample_nfe(&opt));
    double end = golden_compare(x, final, r.numel).max_scaled;
    printf("  %s: sigma within %.2g, x of every call %.2g, result %.2g\n", row->file, r.in_sigma, r.in_x, end);
    /* Given D, the state is f64 arithmetic in the published order.  EDM levels as in edm_grid; DPM levels are f32
     * and come out exact; even the last, 0.002f, is not the last of its grid. */
    ck_assert(r.in_sigma <= (row->solver == FDM_SOLVER_DPM ? 0 : 1e-14));
    ck_assert(r.in_x <= 1e-12 && end <= 1e-12);

    const uint8_t *pixels = golden_get(&set, "", "images_u8")->data; /* (n, c, h, w) */
    uint8_t *hwc = malloc(r.numel);
    const size_t plane = (size_t)net.h * (size_t)net.w, image = plane * (size_t)net.c;
    for (int s = 0; s < n; s++) {
        fdm_pixels_from_x(hwc, final + (size_t)s * image, net.c, net.h, net.w);
        for (size_t p = 0; p < image; p++)
            ck_assert_uint_eq(hwc[p % plane * (size_t)net.c + p / plane], pixels[(size_t)s * image + p]);
    }
    free(hwc), free(x), free(D), free(noise_values), free(x_recorded), free(sigma), free(final);
    fdm_tensors_free(&set);
}
END_TEST

/* Seed 7 of the churned run: its latents and its 18 noises come from one generator. */
START_TEST(seed_gives_latents_and_noise) {
    fdm_tensors set;
    golden_load(&set, "sampler_FDM_EDM_churn18.safetensors");
    const fdm_tensor *latents_t = golden_get(&set, "", "latents"), *noise_t = golden_get(&set, "", "noise");
    const size_t per = (size_t)fdm_tensor_numel(latents_t);
    float *latents = malloc(per * sizeof *latents);
    double *noise = malloc(per * sizeof *noise), worst = 0, worst64 = 0;
    fdm_rng rng;
    const uint64_t seed = 7;
    fdm_sample_seed_rngs(&rng, FDM_RNG_TORCH_CPU, &seed, 1);
    fdm_sample_draw_latents(latents, NULL, &rng, 1, per, 0);
    for (size_t i = 0; i < per; i++) note(&worst, fabs(latents[i] - fdm_tensor_get(latents_t, (int64_t)i)));
    fdm_noise_rngs source = {&rng};
    for (int step = 0; step < 18; step++) {
        ck_assert_int_eq(fdm_noise_from_rngs(&source, noise, step, 1, per, NULL), FDM_OK);
        for (size_t i = 0; i < per; i++)
            note(&worst64, fabs(noise[i] - fdm_tensor_get(noise_t, step * (int64_t)per + (int64_t)i)));
    }
    printf("  latents within %.2g, noise within %.2g\n", worst, worst64);
    ck_assert(worst <= 2e-6 && worst64 <= 1e-13); /* test_random.c gives the reasons */
    free(latents), free(noise);
    fdm_tensors_free(&set);
}
END_TEST

/* --- convergence --- */

static fdm_status gauss(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err) {
    (void)err;
    const double variance = *(const double *)ctx;
    for (int i = 0; i < n; i++) D[i] = x[i] * variance / (variance + sigma * sigma);
    return FDM_OK;
}

/* Error at the end for data N(0, variance): x(sigma) is proportional to sqrt(variance + sigma^2), and every solver
 * ends with D at sigma_min (edm and euler by an Euler step to 0, which is the same). */
static double gauss_error(fdm_solver solver, int steps, double sigma_max) {
    double variance = 0.25, x;
    fdm_sample_options opt = options(solver, steps);
    opt.sigma_min = 0.1, opt.sigma_max = sigma_max;
    fdm_error err = {0};
    const float latent = 1;
    const fdm_denoise_fn net = {gauss, &variance, 0, INFINITY, 1, 1, 1, 1};
    ck_assert_msg(fdm_sample(&x, NULL, &latent, &net, NULL, NULL, &opt, &err) == FDM_OK, "%s", err.message);
    double end = variance + opt.sigma_min * opt.sigma_min, start = variance + opt.sigma_max * opt.sigma_max;
    double exact = opt.sigma_max * sqrt(end / start) * variance / end;
    return fabs(x - exact) / exact;
}

START_TEST(order_of_convergence) {
    static const struct {
        fdm_solver solver;
        /* dpm: multiples of 3, so that the last step is of order 2, whose single local error h^3 leaves the whole
         * at order 3; few steps, since its levels are f32 (1e-7). */
        int coarse, fine;
        double
            sigma_max; /* dpm3m: large, where D hardly changes, so that its first step of order 1 does not count */
        double order;
    } rows[] = {{FDM_SOLVER_EULER, 200, 400, 5, 1},
                {FDM_SOLVER_EDM, 200, 400, 5, 2},
                {FDM_SOLVER_DPM, 48, 96, 5, 3},
                {FDM_SOLVER_DPM2M, 200, 400, 5, 2},
                {FDM_SOLVER_DPM3M, 200, 400, 1000, 3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double a = gauss_error(rows[i].solver, rows[i].coarse, rows[i].sigma_max);
        const double b = gauss_error(rows[i].solver, rows[i].fine, rows[i].sigma_max);
        double order = log(a / b) / log((double)rows[i].fine / rows[i].coarse);
        printf("  %-5s %d steps: %.3g, %d steps: %.3g, order %.2f\n", fdm_solver_name(rows[i].solver),
               rows[i].coarse, a, rows[i].fine, b, order);
        fflush(stdout); /* Check forks: what is buffered is lost where an assertion fails */
        ck_assert(fabs(order - rows[i].order) <= 0.35); /* far from the next integer either way */
        ck_assert(gauss_error(rows[i].solver, 18, 80) < 0.3);
    }
}
END_TEST

/* All samples' noise from one generator. */
static fdm_status draw_all(void *ctx, double *noise, int step, int n, size_t per_sample, fdm_error *err) {
    (void)step, (void)err;
    fdm_rng_normal_f64(ctx, noise, (size_t)n * per_sample);
    return FDM_OK;
}

/* Churn adds noise and takes it away again: N(0, variance) stays what it is, over 4000 samples. */
START_TEST(churn_keeps_the_distribution) {
    enum { N = 4000 };
    double variance = 0.25, *x = malloc(N * sizeof *x), mean = 0, square = 0;
    float *latents = malloc(N * sizeof *latents);
    ck_assert(x && latents);
    fdm_rng rng;
    fdm_error err = {0};
    fdm_rng_seed(&rng, FDM_RNG_TORCH_CPU, 3);
    fdm_rng_normal_f32(&rng, latents, N);
    const fdm_noise_fn noise = {draw_all, &rng};
    const fdm_denoise_fn net = {gauss, &variance, 0, INFINITY, N, 1, 1, 1};
    fdm_sample_options opt = options(FDM_SOLVER_EDM, 64);
    opt.S_churn = 20;
    ck_assert_msg(fdm_sample(x, NULL, latents, &net, &noise, NULL, &opt, &err) == FDM_OK, "%s", err.message);
    for (int i = 0; i < N; i++) mean += x[i] / N, square += x[i] * x[i] / N;
    printf("  churned: mean %.3g, variance %.4g of %.4g\n", mean, square, variance);
    /* 5 standard deviations of the sample mean (0.5/sqrt N) and of the mean square (sqrt(2/N) relative) */
    ck_assert(fabs(mean) <= 5 * 0.5 / sqrt(N));
    ck_assert(fabs(square / variance - 1) <= 5 * sqrt(2.0 / N));
    free(x), free(latents);
}
END_TEST

/* --- batches --- */

enum { C = 3, R = 5, PER = C * R * R, BATCH = 4 };

/* A nonlinear denoiser that mixes the pixels of one sample. */
static fdm_status mixing(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err) {
    (void)ctx, (void)err;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < PER; k++)
            D[i * PER + k] = (float)tanh((x[i * PER + k] + x[i * PER + (k + 7) % PER]) / (1 + sigma * sigma));
    return FDM_OK;
}

static void run_batch(double *x, const uint64_t *seeds, int n, const fdm_sample_options *opt) {
    fdm_rng rngs[BATCH];
    float latents[BATCH * PER];
    int64_t labels[BATCH];
    fdm_error err = {0};
    fdm_noise_rngs source = {rngs};
    const fdm_noise_fn noise = {fdm_noise_from_rngs, &source};
    const fdm_denoise_fn net = {mixing, NULL, 0, INFINITY, n, C, R, R};
    fdm_sample_seed_rngs(rngs, FDM_RNG_TORCH_CPU, seeds, n);
    fdm_sample_draw_latents(latents, labels, rngs, n, PER, 10);
    ck_assert_msg(fdm_sample(x, NULL, latents, &net, &noise, NULL, opt, &err) == FDM_OK, "%s", err.message);
}

START_TEST(sample_depends_on_its_seed_alone) {
    static const uint64_t seeds[BATCH] = {5, 0, 4294967296u + 9, 77};
    double together[BATCH * PER], alone[PER], other[PER];
    fdm_sample_options opt = options((fdm_solver)_i, 7);
    opt.S_churn = 4;
    run_batch(together, seeds, BATCH, &opt);
    for (int i = 0; i < BATCH; i++) {
        run_batch(alone, &seeds[i], 1, &opt);
        ck_assert_mem_eq(alone, together + i * PER, sizeof alone);
    }
    const uint64_t nine = 9;
    run_batch(other, &nine, 1, &opt); /* modulo 2^32 */
    ck_assert_mem_eq(other, together + 2 * PER, sizeof other);
    ck_assert_mem_ne(together, together + PER, sizeof other);
}
END_TEST

/* A class that is drawn but not wanted is drawn all the same. */
START_TEST(unwanted_label_moves_the_stream) {
    const uint64_t seed = 1;
    fdm_rng a, b;
    float latents[PER];
    int64_t label;
    fdm_sample_seed_rngs(&a, FDM_RNG_TORCH_CPU, &seed, 1);
    b = a;
    fdm_sample_draw_latents(latents, NULL, &a, 1, PER, 10);
    fdm_sample_draw_latents(latents, &label, &b, 1, PER, 10);
    ck_assert_uint_eq(fdm_mt19937_next(&a.mt), fdm_mt19937_next(&b.mt));
}
END_TEST

/* Philox would take all 64 bits of a seed. */
START_TEST(seeds_are_taken_modulo_2_32) {
    static const uint64_t seeds[] = {9, 4294967296u + 9};
    fdm_rng rngs[2];
    float latents[2 * PER];
    for (int kind = 0; kind < FDM_RNG_KIND_COUNT; kind++) {
        fdm_sample_seed_rngs(rngs, (fdm_rng_kind)kind, seeds, 2);
        fdm_sample_draw_latents(latents, NULL, rngs, 2, PER, 0);
        ck_assert_mem_eq(latents, latents + PER, PER * sizeof *latents);
    }
}
END_TEST

/* --- hook, errors --- */

struct watcher {
    int events, stop_after;
    double last_sigma;
};

static fdm_status watch(void *ctx, const fdm_sample_event *event, fdm_error *err) {
    (void)err;
    struct watcher *w = ctx;
    ck_assert_int_eq(event->call, w->events);
    ck_assert_double_eq(event->D[0], (float)(event->x[0] / 2));
    ck_assert_double_gt(event->sigma, 0);
    w->last_sigma = event->sigma;
    return ++w->events == w->stop_after ? FDM_INTERRUPTED : FDM_OK;
}

START_TEST(hook_sees_and_stops) {
    const fdm_denoise_fn net = {half, NULL, 0, INFINITY, 1, 1, 1, 1};
    const float one = 1;
    double x;
    int nfe;
    fdm_error err = {0};
    fdm_sample_options opt = options((fdm_solver)_i, 6);
    struct watcher all = {0}, some = {.stop_after = 3};
    const fdm_sample_hook hook_all = {watch, &all}, hook_some = {watch, &some};
    ck_assert_int_eq(fdm_sample(&x, &nfe, &one, &net, NULL, &hook_all, &opt, &err), FDM_OK);
    ck_assert_int_eq(all.events, fdm_sample_nfe(&opt));
    ck_assert_int_eq(nfe, all.events);
    ck_assert(fabs(all.last_sigma - 0.002) <= 1e-9); /* every solver's last call, f32 for dpm */
    ck_assert_int_eq(fdm_sample(&x, &nfe, &one, &net, NULL, &hook_some, &opt, &err), FDM_INTERRUPTED);
    ck_assert_int_eq(nfe, 3);
    ck_assert_int_eq(err.status, FDM_INTERRUPTED);
    ck_assert_msg(strstr(err.message, "3 of") != NULL, "%s", err.message);
}
END_TEST

static fdm_status broken(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err) {
    (void)ctx, (void)n, (void)D, (void)x, (void)sigma;
    *err = (fdm_error){FDM_NO_RESOURCE, "broken"};
    return FDM_NO_RESOURCE;
}

START_TEST(callback_errors_come_through) {
    const fdm_denoise_fn bad = {broken, NULL, 0, INFINITY, 1, 1, 1, 1},
                         good = {half, NULL, 0, INFINITY, 1, 1, 1, 1};
    const float one = 1;
    const double zeros[2] = {0};
    double x;
    fdm_error err = {0};
    fdm_sample_options opt = options((fdm_solver)_i, 6);
    ck_assert_int_eq(fdm_sample(&x, NULL, &one, &bad, NULL, NULL, &opt, &err), FDM_NO_RESOURCE);
    ck_assert_str_eq(err.message, "broken");
    if (opt.solver != FDM_SOLVER_EDM && opt.solver != FDM_SOLVER_EULER) return;
    opt.S_churn = 1;
    ck_assert_int_eq(fdm_sample(&x, NULL, &one, &good, NULL, NULL, &opt, &err), FDM_BAD_USAGE);
    ck_assert_msg(strstr(err.message, "noise") != NULL, "%s", err.message);
    fdm_noise_array two_steps = {zeros, 2};
    const fdm_noise_fn noise = {fdm_noise_from_array, &two_steps};
    ck_assert_int_eq(fdm_sample(&x, NULL, &one, &good, &noise, NULL, &opt, &err), FDM_BAD_USAGE);
    ck_assert_msg(strstr(err.message, "2 steps") != NULL, "%s", err.message);
}
END_TEST

START_TEST(bad_options) {
    const fdm_denoise_fn net = {half, NULL, 0, INFINITY, 1, 1, 1, 1};
    const float one = 1;
    double x;
    fdm_error err = {0};
#define REFUSED(what, change)                                                                                      \
    do {                                                                                                           \
        fdm_sample_options opt = fdm_sample_defaults();                                                            \
        opt.change;                                                                                                \
        ck_assert_msg(fdm_sample(&x, NULL, &one, &net, NULL, NULL, &opt, &err) == FDM_BAD_USAGE, #change);         \
        ck_assert_msg(strstr(err.message, what) != NULL, "%s: %s", #change, err.message);                          \
    } while (0)
    REFUSED("steps", num_steps = 1);
    REFUSED("steps", num_steps = 0);
    REFUSED("steps", num_steps = -3);
    REFUSED("steps", num_steps = 2000000000);
    REFUSED("solver", solver = (fdm_solver)7);
    REFUSED("sigma_min", sigma_min = 0);
    REFUSED("sigma_min", sigma_min = NAN);
    REFUSED("sigma_max", sigma_min = 80);
    REFUSED("sigma_max", sigma_max = INFINITY);
    REFUSED("sigma_max", sigma_max = NAN);
    REFUSED("sigma_max", sigma_max = -80);
    REFUSED("rho", rho = 0);
    REFUSED("rho", rho = -7);
    REFUSED("rho", rho = NAN);
    REFUSED("rho", rho = 1e300); /* all levels coincide */
    REFUSED("S_churn", S_churn = -1);
    REFUSED("S_churn", S_churn = NAN);
    REFUSED("S_churn", S_churn = INFINITY);
    REFUSED("S_min", S_min = -1);
    REFUSED("S_min", S_min = NAN);
    REFUSED("S_max", S_max = -1);
    REFUSED("S_max", S_max = NAN);
    REFUSED("S_noise", S_noise = -1);
    REFUSED("S_noise", S_noise = NAN);
#undef REFUSED
    fdm_sample_options opt = fdm_sample_defaults();
    fdm_denoise_fn narrow = net;
    narrow.sigma_min = 100, narrow.sigma_max = 200; /* nothing is left after clipping */
    ck_assert_int_eq(fdm_sample(&x, NULL, &one, &narrow, NULL, NULL, &opt, &err), FDM_BAD_USAGE);
    opt.solver = FDM_SOLVER_DPM;
    opt.sigma_min = 79.99999, opt.num_steps = 1000; /* levels that f32 cannot tell apart */
    ck_assert_int_eq(fdm_sample(&x, NULL, &one, &net, NULL, NULL, &opt, &err), FDM_BAD_USAGE);
    opt = fdm_sample_defaults();
    fdm_denoise_fn empty = net;
    empty.n = 0;
    ck_assert_int_eq(fdm_sample(&x, NULL, &one, &empty, NULL, NULL, &opt, &err), FDM_BAD_USAGE);
    empty.n = empty.c = empty.h = empty.w = 2000000000;
    ck_assert_int_eq(fdm_sample(&x, NULL, &one, &empty, NULL, NULL, &opt, &err), FDM_NO_RESOURCE);
    fdm_solver solver;
    ck_assert_int_eq(fdm_solver_find(&solver, "heun", &err), FDM_BAD_USAGE);
    ck_assert_int_eq(fdm_solver_find(&solver, NULL, &err), FDM_BAD_USAGE);
    for (int i = 0; i < FDM_SOLVER_COUNT; i++) {
        ck_assert_int_eq(fdm_solver_find(&solver, fdm_solver_name((fdm_solver)i), &err), FDM_OK);
        ck_assert_int_eq(solver, i);
    }
}
END_TEST

START_TEST(pixels) {
    /* one pixel of each: black, white, grey, beyond both ends, not numbers, just below a step */
    const double x[] = {-1, 1, 0, -1.5, 2, NAN, -INFINITY, INFINITY, -128.0 / 127.5, 126.9999 / 127.5};
    const uint8_t want[] = {0, 255, 128, 0, 255, 0, 0, 255, 0, 254};
    uint8_t got[10];
    fdm_pixels_from_x(got, x, 1, 2, 5);
    for (int i = 0; i < 10; i++) ck_assert_uint_eq(got[i], want[i]);
    const double chw[] = {-1, -1, 0, 0, 1, 1}; /* 3 channels of 1 x 2: interleaved */
    const uint8_t hwc[] = {0, 128, 255, 0, 128, 255};
    fdm_pixels_from_x(got, chw, 3, 1, 2);
    ck_assert_mem_eq(got, hwc, 6);
}
END_TEST

START_TEST(pixels_of_the_published_runs) {
    static const char *const runs[] = {"edm", "edm_class3", "dpm", "dpm_class3", "edm_churn8"};
    fdm_tensors set;
    golden_load(&set, "e2e_run_ddpmpp_fdm_edm.safetensors");
    for (int k = 0; k < 5; k++) {
        double *x = golden_f64(&set, "x.", runs[k]);
        const fdm_tensor *t = golden_get(&set, "images_u8_nhwc.", runs[k]);
        uint8_t got[16 * 16 * 3];
        for (int i = 0; i < 4; i++) {
            fdm_pixels_from_x(got, x + i * 768, 3, 16, 16);
            ck_assert_mem_eq(got, (const uint8_t *)t->data + i * 768, 768);
        }
        free(x);
    }
    fdm_tensors_free(&set);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sample");
    TCase *tc = tcase_create("sample");
    tcase_add_loop_test(tc, edm_grid, 0, GRIDS);
    tcase_add_test(tc, dpm_grid_and_orders);
    tcase_add_loop_test(tc, replay_recorded, 0, RECORDED);
    tcase_add_test(tc, seed_gives_latents_and_noise);
    tcase_add_test(tc, order_of_convergence);
    tcase_add_test(tc, churn_keeps_the_distribution);
    tcase_add_loop_test(tc, sample_depends_on_its_seed_alone, 0, FDM_SOLVER_COUNT);
    tcase_add_test(tc, unwanted_label_moves_the_stream);
    tcase_add_test(tc, seeds_are_taken_modulo_2_32);
    tcase_add_loop_test(tc, hook_sees_and_stops, 0, FDM_SOLVER_COUNT);
    tcase_add_loop_test(tc, callback_errors_come_through, 0, FDM_SOLVER_COUNT);
    tcase_add_test(tc, bad_options);
    tcase_add_test(tc, pixels);
    tcase_add_test(tc, pixels_of_the_published_runs);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
