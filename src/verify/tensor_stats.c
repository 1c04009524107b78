/* tensor_stats.c - how far one tensor is from another (pair_stats.h says what is measured).
 *
 * The tensors are walked through up to five times in blocks that fit a cache:
 *   1. counts and extremes;
 *   2. sums, with values scaled by powers of two so that no square overflows or vanishes;
 *   3. the angle, which needs the norms;
 *   and in every walk one more digit of the quantiles: they are found by radix selection, 13 bits of the error at a time
 *   (a tensor of a single block is sorted instead).
 * Sums of one chunk are added in order, and chunks in order, whoever computed them; everything else is integers.
 */
#include "verify/tensor_stats.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "base/threads.h"

enum {
    BLOCK = 1024,
    CHUNK = 32 * BLOCK, /* elements whose sums one thread forms */
    DIGIT_BITS = 13,
    DIGITS = 1 << DIGIT_BITS,
    KEY_BITS = 63, /* of a non-negative double; their order is that of the numbers */
    LEVELS = 5,
    TARGETS = 2 * FDM_QUANTILE_COUNT /* quantiles of |d|, then of |d| / |e| */
};
static const double left_out = -1;

static const int64_t quantile_permille[FDM_QUANTILE_COUNT] = {
#define QUANTILE_PERMILLE(permille, name) permille,
    FDM_QUANTILES(QUANTILE_PERMILLE)
#undef QUANTILE_PERMILLE
};

double fdm_quantile_share(int i) { return (double)quantile_permille[i] / 1000; }

const char *fdm_quantile_name(int i) {
    static const char *const names[FDM_QUANTILE_COUNT] = {
#define QUANTILE_NAME(permille, name) name,
        FDM_QUANTILES(QUANTILE_NAME)
#undef QUANTILE_NAME
    };
    return names[i];
}

/* ---- Dtypes ------------------------------------------------------------------------------------------------ */

/* Significand bits (with the hidden one) and the exponent of the smallest normal number; 0 for integers. */
struct float_format {
    int digits, min_exponent;
};

static struct float_format format_of(fdm_dtype dtype) {
    switch (dtype) {
    case FDM_F64: return (struct float_format){53, -1022};
    case FDM_F32: return (struct float_format){24, -126};
    case FDM_F16: return (struct float_format){11, -14};
    case FDM_BF16: return (struct float_format){8, -126};
    default: return (struct float_format){0, 0};
    }
}

bool fdm_dtype_is_float(fdm_dtype dtype) { return format_of(dtype).digits > 0; }

bool fdm_same_shape(const fdm_tensor *a, const fdm_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

static fdm_dtype coarser(fdm_dtype x, fdm_dtype y) {
    if (x == y) return x;
    if (!fdm_dtype_is_float(x) || !fdm_dtype_is_float(y)) return FDM_DTYPE_COUNT;
    return format_of(x).digits < format_of(y).digits ? x : y;
}

/* ---- Blocks ------------------------------------------------------------------------------------------------ */

/* Some elements of both tensors.  distance: |d|, infinite if nonfinite, left_out; relative: the same of |d| / |e|. */
struct block {
    int n;
    double e[BLOCK], f[BLOCK], distance[BLOCK], relative[BLOCK];
    uint64_t ulps[BLOCK];
};

static void load_values(double *out, const fdm_tensor *t, int64_t first, int n) {
    if (t->dtype == FDM_F32) {
        const float *values = (const float *)t->data + first;
        for (int i = 0; i < n; i++) out[i] = (double)values[i];
    } else if (t->dtype == FDM_F64) {
        memcpy(out, (const double *)t->data + first, (size_t)n * sizeof *out);
    } else {
        for (int i = 0; i < n; i++) out[i] = fdm_tensor_get(t, first + i);
    }
}

/* The place of an element on the line of its dtype's numbers: neighbours are 1 apart, both zeros share place 0. */
static int64_t place_of_float(uint64_t bits, uint64_t sign) {
    return bits & sign ? -(int64_t)(bits & (sign - 1)) : (int64_t)bits;
}

#define FLOAT_PLACES(T)                                                                                            \
    for (int i = 0; i < n; i++) out[i] = place_of_float(((const T *)t->data)[first + i], (uint64_t)1 << (8 * sizeof(T) - 1))
static void load_places(int64_t *out, const fdm_tensor *t, int64_t first, int n) {
    switch (t->dtype) {
    case FDM_F64: FLOAT_PLACES(uint64_t); break;
    case FDM_F32: FLOAT_PLACES(uint32_t); break;
    case FDM_F16:
    case FDM_BF16: FLOAT_PLACES(uint16_t); break;
    case FDM_I64: memcpy(out, (const int64_t *)t->data + first, (size_t)n * sizeof *out); break;
    case FDM_U64: /* shifted into the range of signed numbers */
        for (int i = 0; i < n; i++) out[i] = (int64_t)(((const uint64_t *)t->data)[first + i] ^ (uint64_t)1 << 63);
        break;
    default: /* shorter integers are exact as doubles */
        for (int i = 0; i < n; i++) out[i] = (int64_t)fdm_tensor_get(t, first + i);
    }
}

static uint64_t place_distance(int64_t p, int64_t q) {
    return p > q ? (uint64_t)p - (uint64_t)q : (uint64_t)q - (uint64_t)p;
}

/* |d| in units in the last place of e. */
static uint64_t units_in_last_place(double e, double distance, struct float_format format) {
    int exponent;
    frexp(e, &exponent);
    exponent = fdm_max_int(exponent - 1, format.min_exponent) - (format.digits - 1);
    const double units = floor(ldexp(distance, -exponent) + 0.5);
    return units < 0x1p64 ? (uint64_t)units : UINT64_MAX;
}

struct pair {
    const fdm_tensor *e, *f;
    bool same_dtype, floats;
    struct float_format ulp_format;
};

static void load_ulps(struct block *b, const struct pair *pair, int64_t first) {
    int64_t e[BLOCK], f[BLOCK];
    load_places(e, pair->e, first, b->n);
    load_places(f, pair->f, first, b->n);
    for (int i = 0; i < b->n; i++) b->ulps[i] = place_distance(e[i], f[i]);
}

static void load_block(struct block *b, const struct pair *pair, int64_t first, int n, bool want_ulps) {
    const bool integers = pair->same_dtype && !pair->floats;
    b->n = n;
    load_values(b->e, pair->e, first, n);
    load_values(b->f, pair->f, first, n);
    if (integers || (want_ulps && pair->same_dtype)) load_ulps(b, pair, first);
    for (int i = 0; i < n; i++) {
        const double e = b->e[i], f = b->f[i];
        if (!isfinite(e) || !isfinite(f)) {
            b->distance[i] = b->relative[i] = fdm_same_nonfinite(e, f) ? left_out : (double)INFINITY;
            continue;
        }
        /* Exact even for 64-bit integers, which doubles would round. */
        const double distance = integers ? (double)b->ulps[i] : fabs(f - e);
        b->distance[i] = distance;
        b->relative[i] = e != 0 ? distance / fabs(e) : left_out;
        if (want_ulps && !pair->same_dtype)
            b->ulps[i] = pair->ulp_format.digits ? units_in_last_place(e, distance, pair->ulp_format) : 0;
    }
}

static bool is_measured(const struct block *b, int i) { return isfinite(b->e[i]) && isfinite(b->f[i]); }

/* ---- Walks ------------------------------------------------------------------------------------------------- */

/* What one chunk adds up to. */
struct partial {
    int64_t measured, nonfinite, nan_in_both, inf_in_both, ratios, mismatches;
    double scale_e, scale_f, max_abs, max_rel;
    uint64_t max_ulp, fraction_e, fraction_f; /* the fraction bits of all values, or-ed */
    int64_t worst;
    double badness, worst_e, worst_f;
    double ee, ff, dd, d, ef; /* sums of scaled values */
    double angle;             /* sum of (e/|e| - f/|f|)^2 */
};

/* What one thread counts. */
struct counts {
    int64_t ulp[FDM_ULP_BUCKETS];
    int64_t (*digit)[DIGITS]; /* (TARGETS); NULL: not needed */
};

/* One quantile on its way: the leading digits of its bits that are known, and its rank among the errors that share
 * them, from 1. */
struct target {
    uint64_t prefix;
    int64_t rank;
};

struct walk {
    struct pair pair;
    struct pair_tolerance_scaled {
        double rtol, slack;
        uint64_t ulp;
    } tolerance;
    int64_t count, chunks;
    bool want_ulps;     /* the blocks of this walk have them */
    int threads, level; /* level: how many digits of the quantiles are known */
    struct partial *partials; /* (chunks) */
    struct counts *counts;    /* (threads) */
    void *digits;             /* all theirs, or NULL */
    struct target targets[TARGETS];
    int exponent_e, exponent_f, exponent_d;
    double unit_e, unit_f, unit_d; /* powers of two that bring values below 1 */
    double norm_e, norm_f;         /* of the scaled tensors */
};

typedef void (*visit_fn)(const struct walk *w, struct partial *p, struct counts *c, const struct block *b,
                         int64_t first);

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

static void walk_chunk(const struct walk *w, visit_fn visit, int64_t chunk, struct counts *counts) {
    struct block block;
    const int64_t end = min_i64(w->count, (chunk + 1) * CHUNK);
    for (int64_t first = chunk * CHUNK; first < end; first += BLOCK) {
        load_block(&block, &w->pair, first, (int)min_i64(BLOCK, end - first), w->want_ulps);
        visit(w, &w->partials[chunk], counts, &block, first);
    }
}

/* Afterwards counts[0] has the counts of all threads. */
static void walk_all(struct walk *w, visit_fn visit) {
    for (int t = 0; t < w->threads; t++) {
        memset(w->counts[t].ulp, 0, sizeof w->counts[t].ulp);
        if (w->digits) memset(w->counts[t].digit, 0, TARGETS * sizeof *w->counts[t].digit);
    }
#pragma omp parallel for schedule(static) num_threads(w->threads) if (w->threads > 1)
    for (int64_t chunk = 0; chunk < w->chunks; chunk++)
        walk_chunk(w, visit, chunk, &w->counts[fdm_thread_index()]);
    for (int t = 1; t < w->threads; t++) {
        for (int k = 0; k < FDM_ULP_BUCKETS; k++) w->counts[0].ulp[k] += w->counts[t].ulp[k];
        for (int q = 0; q < TARGETS && w->digits; q++)
            for (int d = 0; d < DIGITS; d++) w->counts[0].digit[q][d] += w->counts[t].digit[q][d];
    }
}

/* ---- Quantiles --------------------------------------------------------------------------------------------- */

/* Level l looks at the bits [shift, shift + DIGIT_BITS); the last digit has fewer. */
static int digit_shift(int level) { return fdm_max_int(KEY_BITS - DIGIT_BITS * (level + 1), 0); }
static int digit_bits(int level) { return fdm_min_int(DIGIT_BITS, KEY_BITS - DIGIT_BITS * level); }

static uint64_t key_of(double error) {
    uint64_t bits;
    memcpy(&bits, &error, sizeof bits);
    return bits;
}

/* The first digit: all targets of a kind share the count. */
static void count_first_digits(struct counts *c, const struct block *b) {
    if (!c->digit) return;
    for (int i = 0; i < b->n; i++) {
        if (b->distance[i] >= 0) c->digit[0][key_of(b->distance[i]) >> digit_shift(0)]++;
        if (b->relative[i] >= 0) c->digit[FDM_QUANTILE_COUNT][key_of(b->relative[i]) >> digit_shift(0)]++;
    }
}

static void count_digits(const struct walk *w, struct counts *c, const struct block *b) {
    if (w->level >= LEVELS) return;
    const int shift = digit_shift(w->level), bits = digit_bits(w->level);
    for (int q = 0; q < TARGETS; q++) {
        const double *errors = q < FDM_QUANTILE_COUNT ? b->distance : b->relative;
        const uint64_t low = w->targets[q].prefix << bits << shift, span = (uint64_t)1 << bits << shift;
        int64_t *digit = c->digit[q];
        for (int i = 0; i < b->n; i++) {
            const uint64_t rest = key_of(errors[i]) - low; /* left_out has its sign bit set: far beyond any span */
            if (rest < span) digit[rest >> shift]++;
        }
    }
}

/* Extends every target by the digit that its rank falls into. */
static void choose_digits(struct walk *w) {
    if (w->level >= LEVELS) return;
    for (int q = 0; q < TARGETS; q++) {
        const int shared = q < FDM_QUANTILE_COUNT ? 0 : FDM_QUANTILE_COUNT;
        const int64_t *digit = w->counts[0].digit[w->level == 0 ? shared : q];
        struct target *t = &w->targets[q];
        uint64_t d = 0;
        while (d < DIGITS - 1 && digit[d] < t->rank) t->rank -= digit[d++];
        t->prefix = t->prefix << digit_bits(w->level) | d;
    }
    w->level++;
}

/* ceil(permille total / 1000), at least 1, without overflow. */
static int64_t rank_of(int q, int64_t total) {
    const int64_t permille = quantile_permille[q % FDM_QUANTILE_COUNT];
    const int64_t rank = total / 1000 * permille + (total % 1000 * permille + 999) / 1000;
    return rank > 1 ? rank : 1;
}

static void begin_quantiles(struct walk *w, int64_t errors, int64_t ratios) {
    for (int q = 0; q < TARGETS; q++)
        w->targets[q] = (struct target){.rank = rank_of(q, q < FDM_QUANTILE_COUNT ? errors : ratios)};
}

static double selected_quantile(const struct walk *w, int q, int64_t total) {
    double value;
    if (total == 0) return 0;
    memcpy(&value, &w->targets[q].prefix, sizeof value);
    return value;
}

static int by_size(const void *left, const void *right) {
    const double x = *(const double *)left, y = *(const double *)right;
    return x < y ? -1 : x > y;
}

/* Of a tensor of a single block; `total` errors are not left out. */
static void sort_quantiles(double *quantiles, double *errors, int n, int64_t total) {
    qsort(errors, (size_t)n, sizeof *errors, by_size);
    for (int q = 0; q < FDM_QUANTILE_COUNT; q++)
        quantiles[q] = total ? errors[n - total + rank_of(q, total) - 1] : 0;
}

static void fill_quantiles(fdm_pair_stats *s, const struct walk *w, int64_t errors, int64_t ratios) {
    if (!w->digits) {
        struct block b;
        load_block(&b, &w->pair, 0, (int)w->count, false);
        sort_quantiles(s->quantile_abs, b.distance, b.n, errors);
        sort_quantiles(s->quantile_rel, b.relative, b.n, ratios);
        return;
    }
    for (int q = 0; q < FDM_QUANTILE_COUNT; q++) {
        s->quantile_abs[q] = selected_quantile(w, q, errors);
        s->quantile_rel[q] = selected_quantile(w, FDM_QUANTILE_COUNT + q, ratios);
    }
}

/* ---- First walk: counts and extremes ----------------------------------------------------------------------- */

static int ulp_bucket(uint64_t ulps) { return ulps < 2 ? (int)ulps : 65 - __builtin_clzll(ulps - 1); }

uint64_t fdm_ulp_bucket_first(int bucket) { return bucket < 2 ? (uint64_t)bucket : ((uint64_t)1 << (bucket - 2)) + 1; }
uint64_t fdm_ulp_bucket_last(int bucket) {
    if (bucket == 0) return 0;
    return bucket < 65 ? (uint64_t)1 << (bucket - 1) : UINT64_MAX;
}

static uint64_t fraction_of(double value) { return key_of(value) & (((uint64_t)1 << 52) - 1); }

static void note_worst(struct partial *p, double badness, int64_t i, double e, double f) {
    if (badness <= p->badness) return;
    p->badness = badness;
    p->worst = i;
    p->worst_e = e;
    p->worst_f = f;
}

static void note_nonfinite(struct partial *p, const struct block *b, int i, int64_t first) {
    if (b->distance[i] < 0) {
        if (isnan(b->e[i])) p->nan_in_both++;
        else p->inf_in_both++;
        return;
    }
    p->nonfinite++;
    p->ratios++;
    note_worst(p, INFINITY, first + i, b->e[i], b->f[i]);
}

static void visit_extremes(const struct walk *w, struct partial *p, struct counts *c, const struct block *b,
                           int64_t first) {
    (void)w;
    for (int i = 0; i < b->n; i++) {
        const double e = b->e[i], f = b->f[i], distance = b->distance[i], relative = b->relative[i];
        if (isfinite(e)) {
            if (fabs(e) > p->scale_e) p->scale_e = fabs(e);
            p->fraction_e |= fraction_of(e);
        }
        if (isfinite(f)) {
            if (fabs(f) > p->scale_f) p->scale_f = fabs(f);
            p->fraction_f |= fraction_of(f);
        }
        if (!is_measured(b, i)) {
            note_nonfinite(p, b, i, first);
            continue;
        }
        p->measured++;
        p->ratios += relative >= 0;
        if (distance > p->max_abs) p->max_abs = distance;
        if (relative > p->max_rel) p->max_rel = relative;
        if (b->ulps[i] > p->max_ulp) p->max_ulp = b->ulps[i];
        c->ulp[ulp_bucket(b->ulps[i])]++;
        /* A difference that overflows is bad, but not as bad as a NaN before it. */
        note_worst(p, distance < DBL_MAX ? distance : DBL_MAX, first + i, e, f);
    }
    count_first_digits(c, b);
}

/* ---- Second walk: sums ------------------------------------------------------------------------------------- */

static bool agree(const struct walk *w, double e, double distance, uint64_t ulps) {
    if (isfinite(distance) && distance <= w->tolerance.slack + w->tolerance.rtol * fabs(e)) return true; /* not inf <= inf */
    return w->tolerance.ulp > 0 && ulps <= w->tolerance.ulp;
}

static void visit_sums(const struct walk *w, struct partial *p, struct counts *c, const struct block *b,
                       int64_t first) {
    (void)first;
    for (int i = 0; i < b->n; i++) {
        if (!is_measured(b, i)) continue;
        const double e = b->e[i] * w->unit_e, f = b->f[i] * w->unit_f, d = b->distance[i] * w->unit_d;
        p->ee += e * e;
        p->ff += f * f;
        p->ef += e * f;
        p->dd += d * d;
        p->d += b->f[i] < b->e[i] ? -d : d;
        if (!agree(w, b->e[i], b->distance[i], b->ulps[i])) p->mismatches++;
    }
    count_digits(w, c, b);
}

/* ---- Third walk: the angle; the others: quantiles only ----------------------------------------------------- */

static void visit_angle(const struct walk *w, struct partial *p, struct counts *c, const struct block *b,
                        int64_t first) {
    (void)first;
    for (int i = 0; i < b->n; i++) {
        if (!is_measured(b, i)) continue;
        const double apart = b->e[i] * w->unit_e / w->norm_e - b->f[i] * w->unit_f / w->norm_f;
        p->angle += apart * apart;
    }
    count_digits(w, c, b);
}

static void visit_quantiles(const struct walk *w, struct partial *p, struct counts *c, const struct block *b,
                            int64_t first) {
    (void)p;
    (void)first;
    count_digits(w, c, b);
}

/* ---- Together ---------------------------------------------------------------------------------------------- */

static struct partial total_of(const struct walk *w) {
    struct partial sum = {.worst = -1};
    for (int64_t i = 0; i < w->chunks; i++) {
        const struct partial *p = &w->partials[i];
        sum.measured += p->measured;
        sum.nonfinite += p->nonfinite;
        sum.nan_in_both += p->nan_in_both;
        sum.inf_in_both += p->inf_in_both;
        sum.ratios += p->ratios;
        sum.mismatches += p->mismatches;
        sum.scale_e = fmax(sum.scale_e, p->scale_e);
        sum.scale_f = fmax(sum.scale_f, p->scale_f);
        sum.max_abs = fmax(sum.max_abs, p->max_abs);
        sum.max_rel = fmax(sum.max_rel, p->max_rel);
        if (p->max_ulp > sum.max_ulp) sum.max_ulp = p->max_ulp;
        sum.fraction_e |= p->fraction_e;
        sum.fraction_f |= p->fraction_f;
        note_worst(&sum, p->badness, p->worst, p->worst_e, p->worst_f);
        sum.ee += p->ee;
        sum.ff += p->ff;
        sum.dd += p->dd;
        sum.d += p->d;
        sum.ef += p->ef;
        sum.angle += p->angle;
    }
    return sum;
}

/* The exponent k of scale in [2^(k-1), 2^k), kept so far from the ends that 2^-k is a normal number. */
static int exponent_of(double scale) {
    int exponent = 0;
    if (isfinite(scale)) frexp(scale, &exponent);
    return fdm_min_int(fdm_max_int(exponent, -1000), 1000);
}

static int significand_bits(uint64_t fraction, double scale) {
    if (fraction) return 53 - __builtin_ctzll(fraction);
    return scale > 0;
}

static void fill_extremes(fdm_pair_stats *s, const struct walk *w, const struct partial *total) {
    s->measured = total->measured;
    s->nonfinite = total->nonfinite;
    s->nan_in_both = total->nan_in_both;
    s->inf_in_both = total->inf_in_both;
    s->scale_expected = total->scale_e;
    s->scale_found = total->scale_f;
    s->max_abs = total->max_abs;
    s->max_rel = total->max_rel;
    s->worst = total->worst;
    s->worst_expected = total->worst_e;
    s->worst_found = total->worst_f;
    s->bits_expected = significand_bits(total->fraction_e, total->scale_e);
    s->bits_found = significand_bits(total->fraction_f, total->scale_f);
    if (s->ulp_dtype == FDM_DTYPE_COUNT) return;
    s->max_ulp = total->max_ulp > INT64_MAX ? INT64_MAX : (int64_t)total->max_ulp;
    memcpy(s->ulp_histogram, w->counts[0].ulp, sizeof s->ulp_histogram);
}

static double decibel(double signal, double noise) {
    if (noise == 0) return INFINITY;
    return signal == 0 ? -INFINITY : 20 * (log10(signal) - log10(noise));
}

static double root_mean(double squares, int64_t n, int exponent) {
    return n ? ldexp(sqrt(squares / (double)n), exponent) : 0;
}

static void fill_sums(fdm_pair_stats *s, const struct walk *w, const struct partial *total) {
    const int64_t n = total->measured;
    s->rms_expected = root_mean(total->ee, n, w->exponent_e);
    s->rms_found = root_mean(total->ff, n, w->exponent_f);
    s->rms = root_mean(total->dd, n, w->exponent_d);
    s->bias = n ? ldexp(total->d / (double)n, w->exponent_d) : 0;
    s->snr_db = decibel(s->rms_expected, s->rms);
    s->gain = total->ee > 0 ? ldexp(total->ef / total->ee, w->exponent_f - w->exponent_e) : NAN;
    if (total->ee > 0 && total->ff > 0) s->cosine_distance = total->angle / 2;
    else s->cosine_distance = total->ee > 0 || total->ff > 0 ? 1 : 0;
}

/* A NaN that only one side has leaves no figure that could pass for a good one. */
static void spoil(fdm_pair_stats *s) {
    s->max_abs = s->max_rel = s->rms = INFINITY;
    s->snr_db = -INFINITY;
    s->bias = s->cosine_distance = s->gain = NAN;
    if (s->ulp_dtype != FDM_DTYPE_COUNT) s->max_ulp = INT64_MAX;
}

static void prepare_sums(struct walk *w, const struct partial *total, const struct fdm_pair_tolerance *tolerance) {
    const struct fdm_pair_tolerance equal = {0}, *t = tolerance ? tolerance : &equal;
    w->tolerance.rtol = t->rtol;
    w->tolerance.slack = t->atol + t->mtol * total->scale_e;
    w->tolerance.ulp = w->pair.same_dtype || w->pair.ulp_format.digits ? (uint64_t)t->ulp : 0;
    w->exponent_e = exponent_of(total->scale_e);
    w->exponent_f = exponent_of(total->scale_f);
    w->exponent_d = exponent_of(total->max_abs);
    w->unit_e = ldexp(1, -w->exponent_e);
    w->unit_f = ldexp(1, -w->exponent_f);
    w->unit_d = ldexp(1, -w->exponent_d);
}

static void measure(fdm_pair_stats *s, int64_t *mismatches, struct walk *w,
                    const struct fdm_pair_tolerance *tolerance) {
    w->want_ulps = true;
    walk_all(w, visit_extremes);
    struct partial total = total_of(w);
    const int64_t errors = total.measured + total.nonfinite, ratios = total.ratios;
    const bool equal = total.max_abs == 0 && total.nonfinite == 0; /* then all quantiles are 0 */
    fill_extremes(s, w, &total);
    begin_quantiles(w, errors, ratios);
    if (equal || !w->digits) w->level = LEVELS;
    choose_digits(w);

    prepare_sums(w, &total, tolerance);
    walk_all(w, visit_sums);
    total = total_of(w);
    w->want_ulps = false;
    if (!equal) {
        choose_digits(w);
        w->norm_e = total.ee > 0 ? sqrt(total.ee) : 1;
        w->norm_f = total.ff > 0 ? sqrt(total.ff) : 1;
        walk_all(w, visit_angle);
        total = total_of(w);
        choose_digits(w);
    }
    while (w->level < LEVELS) {
        walk_all(w, visit_quantiles);
        choose_digits(w);
    }
    fill_sums(s, w, &total);
    if (mismatches) *mismatches = total.mismatches + total.nonfinite;
    for (int q = 0; q < FDM_QUANTILE_COUNT; q++) s->quantile_abs[q] = s->quantile_rel[q] = 0;
    if (!equal) fill_quantiles(s, w, errors, ratios);
    if (s->nonfinite) spoil(s);
}

void fdm_pair_stats_clear(fdm_pair_stats *s) {
    memset(s, 0, sizeof *s); /* the padding, too, so that equal figures are equal bytes */
    s->scale_expected = s->scale_found = s->rms_expected = s->rms_found = NAN;
    s->max_abs = s->max_rel = s->rms = s->bias = s->snr_db = s->cosine_distance = s->gain = NAN;
    s->worst_expected = s->worst_found = NAN;
    s->ulp_dtype = FDM_DTYPE_COUNT;
    s->max_ulp = s->worst = -1;
    for (int q = 0; q < FDM_QUANTILE_COUNT; q++) s->quantile_abs[q] = s->quantile_rel[q] = NAN;
}

static fdm_status allocate(struct walk *w, fdm_error *err) {
    const size_t threads = (size_t)w->threads, each = TARGETS * sizeof(int64_t[DIGITS]);
    const bool select = w->count > BLOCK;
    w->partials = calloc((size_t)w->chunks + 1, sizeof *w->partials);
    w->counts = calloc(threads, sizeof *w->counts);
    if (select) w->digits = malloc(threads * each);
    if (!w->partials || !w->counts || (select && !w->digits))
        return fdm_fail_oom(err, "tensor statistics", threads * each);
    for (int64_t i = 0; i < w->chunks; i++) w->partials[i].worst = -1;
    for (size_t t = 0; t < threads && select; t++)
        w->counts[t].digit = (int64_t(*)[DIGITS])((char *)w->digits + t * each);
    return FDM_OK;
}

fdm_status fdm_pair_measure_within(fdm_pair_stats *s, int64_t *mismatches,
                                   const struct fdm_pair_tolerance *tolerance, const fdm_tensor *expected,
                                   const fdm_tensor *found, int threads, fdm_error *err) {
    fdm_pair_stats_clear(s);
    if (!fdm_same_shape(expected, found)) {
        char left[FDM_SHAPE_TEXT], right[FDM_SHAPE_TEXT];
        fdm_shape_text(left, sizeof left, expected->ndim, expected->shape);
        fdm_shape_text(right, sizeof right, found->ndim, found->shape);
        return fdm_fail(err, FDM_BAD_USAGE, "tensors of shapes %s and %s cannot be measured", left, right);
    }
    const bool same = expected->dtype == found->dtype;
    s->ulp_dtype = coarser(expected->dtype, found->dtype);
    s->count = fdm_tensor_numel(expected);
    struct walk w = {.pair = {expected, found, same, fdm_dtype_is_float(expected->dtype), format_of(s->ulp_dtype)},
                     .count = s->count,
                     .chunks = s->count / CHUNK + (s->count % CHUNK != 0)};
    w.threads = (int)min_i64(threads > 0 ? threads : fdm_max_threads(), w.chunks > 0 ? w.chunks : 1);
    fdm_status status = allocate(&w, err);
    if (!status) measure(s, mismatches, &w, tolerance);
    free(w.partials);
    free(w.counts);
    free(w.digits);
    return status;
}

fdm_status fdm_pair_measure(fdm_pair_stats *stats, const fdm_tensor *expected, const fdm_tensor *found, int threads,
                            fdm_error *err) {
    return fdm_pair_measure_within(stats, NULL, NULL, expected, found, threads, err);
}
