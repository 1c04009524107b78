/* bench_report.c - what `fdm bench` found, as text or JSON. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/bench.h"
#include "fdm/version.h"

enum { MAX_ROUNDS = 10000 };

/* The CPU's name as the system gives it. */
static void cpu_name(char *name, size_t size) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(name, size, "unknown CPU");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        snprintf(name, size, "%s", colon + 2);
        name[strcspn(name, "\n")] = '\0';
        break;
    }
    if (f) fclose(f);
}

/* ---- Figures of a case ---- */

struct figures {
    struct bench_spread seconds;
    struct bench_spread of_peak;  /* executed operations / peak of the same round, or bytes / triad; 1 is all of it */
    double speed;                 /* median GFLOP/s of executed operations, or GB/s */
};

/* `work` has room for the rounds. */
static struct figures figures_of(const struct bench_case *c, double *work) {
    struct figures f = {0};
    const double amount = (c->bytes > 0 ? c->bytes : c->executed) * 1e-9;
    for (int r = 0; r < c->count; r++) {
        const struct bench_sample *s = &c->samples[r];
        work[r] = amount / s->seconds / (c->bytes > 0 ? s->triad : s->peak);
    }
    f.of_peak = bench_spread_of(work, c->count);
    for (int r = 0; r < c->count; r++) work[r] = c->samples[r].seconds;
    f.seconds = bench_spread_of(work, c->count);
    f.speed = amount / f.seconds.median;
    return f;
}

static struct bench_spread spread_copy(const double *values, int count, double *work) {
    memcpy(work, values, (size_t)count * sizeof *work);
    return bench_spread_of(work, count);
}

/* ---- Text ---- */

static void print_profile(const struct bench_case *c, double peak) {
    double total = 0, named = 0;
    for (int r = 0; r < c->count; r++) total += c->samples[r].seconds;
    printf("  %-36s %6s %9s %7s %9s %8s\n", "where the time goes", "calls", "ms", "share", "GFLOP/s", "of peak");
    for (int k = 0; k < BENCH_KIND_COUNT; k++) {
        const double seconds = c->profile->kinds[k].seconds, flops = c->profile->kinds[k].flops;
        if (c->profile->kinds[k].calls == 0) continue;
        named += seconds;
        printf("  %-36s %6ld %9.2f %6.1f%%", bench_kind_name((enum bench_kind)k), c->profile->kinds[k].calls / c->count,
               1e3 * seconds / c->count, 100 * seconds / total);
        if (flops > 0) printf(" %9.1f %7.1f%%", flops / seconds * 1e-9, 100 * flops / seconds * 1e-9 / peak);
        putchar('\n');
    }
    if (c->executed < c->flops) printf("  (GFLOP/s of convolutions: what the direct algorithm would need)\n");
    printf("  %-36s %6s %9.2f %6.1f%%\n", "the rest", "", 1e3 * (total - named) / c->count, 100 * (total - named) / total);
}

static void print_layers(const struct bench_cases *cases, double *work) {
    const char *before = "";
    printf("\n%-22s %-9s %9s %16s %24s\n", "layer", "", "ms", "median speed", "of peak or triad (quartiles)");
    for (int i = 0; i < cases->count; i++) {
        const struct bench_case *c = &cases->items[i];
        if (c->group != BENCH_LAYERS) continue;
        const struct figures f = figures_of(c, work);
        printf("%-22s %-9s %9.3f %8.1f %-7s %6.1f%% (%.1f - %.1f)", strcmp(before, c->name) ? c->name : "", c->pass,
               1e3 * f.seconds.median, f.speed, c->bytes > 0 ? "GB/s" : "GFLOP/s", 100 * f.of_peak.median,
               100 * f.of_peak.q1, 100 * f.of_peak.q3);
        if (c->executed < c->flops)
            printf("  = %.1f GFLOP/s direct, %.0f%%", c->flops / f.seconds.median * 1e-9,
                   100 * f.of_peak.median * c->flops / c->executed);
        putchar('\n');
        before = c->name;
    }
}

static void print_whole(const struct bench_case *c, double peak, double *work) {
    const struct figures f = figures_of(c, work);
    printf("\n%s, %s, N = %d: %.4f s (quartiles %.4f - %.4f), %.2f images/s, %.1f GFLOP/s, %.1f%% of peak (%.1f - %.1f)",
           c->name, c->pass, c->n, f.seconds.median, f.seconds.q1, f.seconds.q3, c->n / f.seconds.median, f.speed,
           100 * f.of_peak.median, 100 * f.of_peak.q1, 100 * f.of_peak.q3);
    if (c->executed < c->flops) printf(" = %.1f GFLOP/s direct", c->flops / f.seconds.median * 1e-9);
    if (c->memory > 0) printf(", %.0f MB at most", c->memory * 1e-6);
    putchar('\n');
    if (c->profile) print_profile(c, peak);
}

void bench_print_text(const struct bench_result *r) {
    static double work[MAX_ROUNDS];
    char cpu[128];
    cpu_name(cpu, sizeof cpu);
    const struct bench_spread peak = spread_copy(r->peak, r->rounds, work), triad = spread_copy(r->triad, r->rounds, work);
    printf("fdm %s, %s, %d threads on %s, %d rounds, load average %.1f\n", fdm_version(), r->isa, r->threads, cpu, r->rounds,
           r->load[0]);
    printf("FMA peak      %7.1f GFLOP/s (quartiles %.1f - %.1f), one thread %.1f\n", peak.median, peak.q1, peak.q3,
           spread_copy(r->peak_one, r->rounds, work).median);
    printf("memory triad  %7.1f GB/s    (quartiles %.1f - %.1f), one thread %.1f\n", triad.median, triad.q1, triad.q3,
           spread_copy(r->triad_one, r->rounds, work).median);
    for (int i = 0; i < r->cases->count; i++)
        if (r->cases->items[i].group == BENCH_LAYERS) {
            print_layers(r->cases, work);
            break;
        }
    for (int i = 0; i < r->cases->count; i++)
        if (r->cases->items[i].group != BENCH_LAYERS) print_whole(&r->cases->items[i], peak.median, work);
}

/* ---- JSON ---- */

static json_t *spread_json(struct bench_spread s) {
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "median", s.median, "q1", s.q1, "q3", s.q3, "low", s.low, "high", s.high);
}

static json_t *profile_json(const struct bench_case *c) {
    json_t *list = json_array();
    for (int k = 0; k < BENCH_KIND_COUNT; k++) {
        if (c->profile->kinds[k].calls == 0) continue;
        json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f}", "kind", bench_kind_name((enum bench_kind)k), "calls",
                                              (double)c->profile->kinds[k].calls / c->count, "seconds",
                                              c->profile->kinds[k].seconds / c->count, "flops",
                                              c->profile->kinds[k].flops / c->count));
    }
    return list;
}

/* The shapes of a forward pass, for estimates (bench/roofline.py): operations of one sample, parameters. */
static json_t *steps_json(const struct fdm_graph *g) {
    static const char *const ops[] = {[FDM_OP_NOISE_EMBEDDING] = "embedding", [FDM_OP_SWAP_HALVES] = "embedding",
                                      [FDM_OP_LINEAR] = "linear",             [FDM_OP_CONV2D] = "conv2d",
                                      [FDM_OP_RESAMPLE] = "resample",         [FDM_OP_GROUPNORM] = "groupnorm",
                                      [FDM_OP_ATTENTION] = "attention",       [FDM_OP_CONCAT] = "concat"};
    json_t *list = json_array();
    for (int i = 0; i < g->step_count; i++) {
        const struct fdm_step *s = &g->steps[i];
        const struct fdm_value *out = &g->values[s->out], *in = s->in >= 0 ? &g->values[s->in] : out;
        const struct fdm_module *m = s->module >= 0 ? &g->modules[s->module] : NULL;
        const bool weighted = m && (s->op == FDM_OP_CONV2D || s->op == FDM_OP_LINEAR);
        const double weights = weighted ? (double)m->out * m->in * (m->k ? m->k * m->k : 1) : 0;
        json_array_append_new(list, json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f}", "op", ops[s->op], "k",
                                              weighted && s->op == FDM_OP_CONV2D ? m->k : 0, "in", in->c, "out", out->c,
                                              "in_size", in->h, "out_size", out->h, "flops", fdm_step_flops(g, s), "weights",
                                              weights));
    }
    return list;
}

static json_t *case_json(const struct bench_case *c, double *work) {
    const struct figures f = figures_of(c, work);
    json_t *times = json_array();
    for (int r = 0; r < c->count; r++) json_array_append_new(times, json_real(c->samples[r].seconds));
    json_t *o = json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:s, s:f, s:o, s:o, s:o}", "name", c->name, "pass", c->pass, "n",
                          c->n, "flops", c->flops, "executed_flops", c->executed, "bytes", c->bytes, "limit",
                          c->bytes > 0 ? "memory" : "arithmetic", "speed", f.speed, "of_limit", spread_json(f.of_peak),
                          "seconds", spread_json(f.seconds), "times", times);
    json_object_set_new(o, "direct_gflops", json_real(c->flops / f.seconds.median * 1e-9));
    json_object_set_new(o, "images_per_second", json_real(c->n / f.seconds.median));
    if (c->group != BENCH_LAYERS) json_object_set_new(o, "peak_bytes", json_real(c->memory));
    if (c->profile) json_object_set_new(o, "profile", profile_json(c));
    if (c->graph) json_object_set_new(o, "steps", steps_json(c->graph));
    return o;
}

static json_t *machine_json(const struct bench_result *r) {
    char cpu[128], date[32] = "";
    const time_t now = time(NULL);
    struct tm utc;
    cpu_name(cpu, sizeof cpu);
    if (gmtime_r(&now, &utc)) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_pack("{s:s, s:i, s:s, s:i, s:s, s:[f, f, f], s:s}", "cpu", cpu, "cores", (int)sysconf(_SC_NPROCESSORS_ONLN),
                     "isa", r->isa, "threads", r->threads, "date", date, "load_average", r->load[0], r->load[1], r->load[2],
                     "version", fdm_version());
}

fdm_status bench_print_json(const struct bench_result *r, fdm_error *err) {
    static const char *const groups[] = {
        [BENCH_LAYERS] = "layers", [BENCH_NETWORK] = "network", [BENCH_TRAIN] = "train", [BENCH_SAMPLE] = "sample"};
    static double work[MAX_ROUNDS];
    json_t *root = json_pack(
        "{s:o, s:i, s:{s:o, s:o}, s:{s:o, s:o}}", "machine", machine_json(r), "rounds", r->rounds, "peak_gflops", "all_threads",
        spread_json(spread_copy(r->peak, r->rounds, work)), "one_thread",
        spread_json(spread_copy(r->peak_one, r->rounds, work)), "triad_gbs", "all_threads",
        spread_json(spread_copy(r->triad, r->rounds, work)), "one_thread",
        spread_json(spread_copy(r->triad_one, r->rounds, work)));
    for (size_t g = 0; g < FDM_ARRAY_LEN(groups); g++) {
        json_t *list = json_array();
        for (int i = 0; i < r->cases->count; i++)
            if (r->cases->items[i].group == (enum bench_group)g) json_array_append_new(list, case_json(&r->cases->items[i], work));
        json_object_set_new(root, groups[g], list);
    }
    char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    json_decref(root);
    if (!text) return fdm_fail_oom(err, "JSON", 0);
    puts(text);
    free(text);
    return FDM_OK;
}
