/* augment.c - draws, labels and affine maps of the augmentation; augment_warp.c moves the pixels. */
#include "fdm/augment.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/tensor_set.h"
#include "base/threads.h"
#include "train/augment_warp.h"

#define PI 3.14159265358979323846
#define XFLIP_STRENGTH 1e8 /* p times this: always */
#define SCALE_STD 0.2
#define ANISO_STD 0.2
#define ANISO_ROTATE_P 0.5
#define SHIFT_STD 0.125
enum { MARGIN_EXTRA = 6 }; /* pixels around the image that the low-pass reaches */

/* ---- draws ---- */

static const struct draw {
    const char *kind;
    int components;
    size_t offset; /* of the field */
} draw_table[] = {
#define DRAW_ROW(field, number, kind, components) [number] = {kind, components, offsetof(fdm_augment_draws, field)},
    FDM_AUGMENT_DRAWS(DRAW_ROW)
#undef DRAW_ROW
};
enum { DRAWS = FDM_ARRAY_LEN(draw_table) };

static float *field_of(fdm_augment_draws *draws, const struct draw *d) {
    return (float *)((char *)draws + d->offset);
}

void fdm_augment_draw(fdm_augment_draws *draws, fdm_rng *rng) {
    for (int i = 0; i < DRAWS; i++) {
        const struct draw *d = &draw_table[i];
        float *out = field_of(draws, d);
        int64_t flip;
        if (strcmp(d->kind, "randn") == 0) {
            fdm_rng_normal_f32(rng, out, (size_t)d->components);
        } else if (strcmp(d->kind, "rand") == 0) {
            fdm_rng_uniform_f32(rng, out, 1);
        } else {
            fdm_rng_randint(rng, &flip, 1, 2);
            *out = (float)flip;
        }
    }
}

/* The shape of recorded draw i of a batch of n. */
static int recorded_shape(int64_t shape[4], int i, int n) {
    const int64_t flips[] = {n, 1, 1, 1}, pairs[] = {draw_table[i].components, n};
    if (i >= 4 && i < 12) {
        shape[0] = n;
        return 1;
    }
    memcpy(shape, i < 4 ? flips : pairs, i < 4 ? sizeof flips : sizeof pairs);
    return i < 4 ? 4 : 2;
}

enum { LARGEST_NORMAL = 64 }; /* 2^(0.2 * 64) is still a scale; a true draw is below 7 */

static bool plausible(double value, const char *kind) {
    if (strcmp(kind, "rand") == 0) return value >= 0 && value < 1;
    if (strcmp(kind, "randn") == 0) return fabs(value) <= LARGEST_NORMAL; /* a NaN is not */
    return value == 0 || value == 1;
}

static fdm_status load_draw(fdm_augment_draws *draws, int n, int i, const fdm_tensors *set, const char *prefix,
                            const char *where, fdm_error *err) {
    const struct draw *d = &draw_table[i];
    const fdm_dtype dtype = strcmp(d->kind, "randint") == 0 ? FDM_I64 : FDM_F32;
    char name[256], has[FDM_SHAPE_TEXT], wants[FDM_SHAPE_TEXT];
    int64_t shape[4];
    const int ndim = recorded_shape(shape, i, n);
    if ((size_t)snprintf(name, sizeof name, "%s%02d.%s", prefix, i, d->kind) >= sizeof name)
        return fdm_fail(err, FDM_BAD_USAGE, "%s: the name of draw %d is too long", where, i);
    const fdm_tensor *t = fdm_tensors_find(set, name);
    if (!t) return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s is missing", where, name);
    if (t->dtype != dtype || t->ndim != ndim || memcmp(t->shape, shape, (size_t)ndim * sizeof *shape) != 0) {
        fdm_shape_text(has, sizeof has, t->ndim, t->shape);
        fdm_shape_text(wants, sizeof wants, ndim, shape);
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s is %s%s instead of %s%s", where, name,
                        fdm_dtype_name(t->dtype), has, fdm_dtype_name(dtype), wants);
    }
    for (int64_t k = 0; k < fdm_tensor_numel(t); k++) {
        const double value = fdm_tensor_get(t, k);
        if (!plausible(value, d->kind))
            return fdm_fail(err, FDM_BAD_INPUT, "%s: tensor %s: element %" PRId64 " is %g, which no %s draws", where,
                            name, k, value, d->kind);
        field_of(&draws[k % n], d)[k / n] = (float)value;
    }
    return FDM_OK;
}

fdm_status fdm_augment_draws_from_tensors(fdm_augment_draws *draws, int n, const fdm_tensors *set, const char *prefix,
                                          const char *where, fdm_error *err) {
    fdm_status status = FDM_OK;
    if (n < 1) return fdm_fail(err, FDM_BAD_USAGE, "%s: augmentation draws of %d images", where, n);
    for (int i = 0; status == FDM_OK && i < DRAWS; i++) status = load_draw(draws, n, i, set, prefix, where, err);
    return status;
}

/* ---- values after masking ---- */

struct values {
    bool xflip, yflip;
    float scale, aniso, shift_x, shift_y;
    float rotation_u, direction_u; /* of the angles; 1/2, the angle 0, where masked out */
};

static float masked(float value, float u, double p, float otherwise) { return u < (float)p ? value : otherwise; }

static struct values values_of(const fdm_augment_draws *d, double p) {
    return (struct values){
        .xflip = masked(*d->xflip, *d->xflip_u, p * XFLIP_STRENGTH, 0) != 0,
        .yflip = masked(*d->yflip, *d->yflip_u, p, 0) != 0,
        .scale = masked(*d->scale, *d->scale_u, p, 0),
        .rotation_u = masked(*d->rotation, *d->rotation_u, p, 0.5f),
        .aniso = masked(*d->aniso, *d->aniso_u, p, 0),
        .direction_u = masked(*d->direction, *d->direction_u, ANISO_ROTATE_P, 0.5f),
        .shift_x = masked(d->shift[0], *d->shift_u, p, 0),
        .shift_y = masked(d->shift[1], *d->shift_u, p, 0),
    };
}

static float cos_f32(float x) { return (float)cos((double)x); }
static float sin_f32(float x) { return (float)sin((double)x); }

void fdm_augment_labels(double labels[FDM_AUGMENT_LABELS], const fdm_augment_draws *draws, double p) {
    const struct values v = values_of(draws, p);
    const float w = (v.rotation_u * 2.0f - 1.0f) * (float)PI, r = (v.direction_u * 2.0f - 1.0f) * (float)PI;
    const float values[FDM_AUGMENT_LABELS] = {v.xflip,
                                              v.yflip,
                                              v.scale,
                                              cos_f32(w) - 1.0f,
                                              sin_f32(w),
                                              v.aniso * cos_f32(r),
                                              v.aniso * sin_f32(r),
                                              v.shift_x,
                                              v.shift_y};
    for (int i = 0; i < FDM_AUGMENT_LABELS; i++) labels[i] = values[i];
}

/* ---- the inverse map ---- */

struct matrix2 {
    double a, b, c, d; /* rows (a, b), (c, d) */
};

static struct matrix2 times(struct matrix2 x, struct matrix2 y) {
    return (struct matrix2){x.a * y.a + x.b * y.c, x.a * y.b + x.b * y.d, x.c * y.a + x.d * y.c,
                            x.c * y.b + x.d * y.d};
}
static struct matrix2 scaling(double x, double y) { return (struct matrix2){x, 0, 0, y}; }
static struct matrix2 rotation(double angle) {
    return (struct matrix2){cos(angle), -sin(angle), sin(angle), cos(angle)};
}

void fdm_augment_map_of(fdm_augment_map *map, const fdm_augment_draws *draws, double p, int resolution) {
    const struct values v = values_of(draws, p);
    const double s = exp2(SCALE_STD * v.scale), a = exp2(ANISO_STD * v.aniso);
    const double w = (2.0 * v.rotation_u - 1) * PI, r = (2.0 * v.direction_u - 1) * PI;
    const double x = -SHIFT_STD * resolution * v.shift_x, y = -SHIFT_STD * resolution * v.shift_y;
    struct matrix2 m = times(scaling(1 / s, 1 / s), rotation(w));
    m = times(times(times(m, rotation(-r)), scaling(1 / a, a)), rotation(r));
    *map = (fdm_augment_map){v.xflip, v.yflip, {{m.a, m.b, m.a * x + m.b * y}, {m.c, m.d, m.c * x + m.d * y}}};
}

/* The farthest that any image's corners (+-c, +-c) are mapped along direction (dx, dy). */
static double reach(const fdm_augment_map *maps, int n, double c, double dx, double dy) {
    double farthest = -INFINITY;
    for (int i = 0; i < n; i++) {
        for (int corner = 0; corner < 4; corner++) {
            const double x = corner & 1 ? c : -c, y = corner & 2 ? c : -c;
            const double(*G)[3] = maps[i].G;
            farthest = fmax(farthest, dx * (G[0][0] * x + G[0][1] * y + G[0][2]) +
                                          dy * (G[1][0] * x + G[1][1] * y + G[1][2]));
        }
    }
    return farthest;
}

static int margin_from(double farthest, double c, int resolution) {
    const double margin = farthest + (MARGIN_EXTRA - c);
    return (int)ceil(fmin(fmax(margin, 0), resolution - 1));
}

fdm_augment_margin fdm_augment_margin_of(const fdm_augment_map *maps, int n, int resolution) {
    const double c = (resolution - 1) / 2.0;
    return (fdm_augment_margin){
        .x0 = margin_from(reach(maps, n, c, -1, 0), c, resolution),
        .y0 = margin_from(reach(maps, n, c, 0, -1), c, resolution),
        .x1 = margin_from(reach(maps, n, c, 1, 0), c, resolution),
        .y1 = margin_from(reach(maps, n, c, 0, 1), c, resolution),
    };
}

/* ---- a batch ---- */

static int larger(int a, int b) { return fdm_max_int(a, b); }

static fdm_augment_margin widest(const fdm_augment_margin *margins, int n) {
    fdm_augment_margin all = {0};
    for (int i = 0; i < n; i++) {
        const fdm_augment_margin *m = &margins[i];
        all = (fdm_augment_margin){larger(all.x0, m->x0), larger(all.y0, m->y0), larger(all.x1, m->x1),
                                   larger(all.y1, m->y1)};
    }
    return all;
}

/* Everything about a batch but its pixels; one allocation. */
struct plan {
    fdm_augment_map *maps;       /* [n] */
    fdm_augment_margin *margins; /* [n] */
    size_t scratch;              /* bytes for one thread */
    char *slab;                  /* [threads][scratch] */
    void *memory;
};

static fdm_status make_plan(struct plan *plan, const fdm_augment_draws *draws, int n, int channels, int resolution,
                            double p, fdm_augment_padding padding, int threads, fdm_error *err) {
    size_t bytes;
    if (!fdm_mul_size(&bytes, (size_t)n, sizeof *plan->maps + sizeof *plan->margins) ||
        !(plan->memory = fdm_malloc_aligned(bytes)))
        return fdm_fail_oom(err, "augmentation", bytes);
    plan->maps = plan->memory;
    plan->margins = (fdm_augment_margin *)(plan->maps + n);
    for (int i = 0; i < n; i++) {
        fdm_augment_map_of(&plan->maps[i], &draws[i], p, resolution);
        plan->margins[i] = fdm_augment_margin_of(&plan->maps[i], 1, resolution);
    }
    const fdm_augment_margin all = widest(plan->margins, n);
    for (int i = 0; i < n && padding == FDM_AUGMENT_PAD_BATCH; i++) plan->margins[i] = all;
    plan->scratch = fdm_augment_scratch(channels, resolution, all);
    if (!fdm_mul_size(&bytes, plan->scratch, (size_t)threads) || !(plan->slab = fdm_malloc_aligned(bytes)))
        return fdm_fail_oom(err, "augmentation", plan->scratch);
    return FDM_OK;
}

fdm_status fdm_augment_batch(double *out, double *labels, const double *images, const fdm_augment_draws *draws, int n,
                             int channels, int resolution, double p, fdm_augment_padding padding, int threads,
                             fdm_error *err) {
    const size_t size = (size_t)channels * (size_t)resolution * (size_t)resolution;
    struct plan plan = {0};
    if (n < 1) return FDM_OK;
    threads = fdm_max_int(1, fdm_min_int(threads, n));
    const fdm_status status = make_plan(&plan, draws, n, channels, resolution, p, padding, threads, err);
    if (status == FDM_OK) {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
        for (int i = 0; i < n; i++) {
            if (labels) fdm_augment_labels(labels + (size_t)i * FDM_AUGMENT_LABELS, &draws[i], p);
            fdm_augment_warp(out + (size_t)i * size, NULL, images + (size_t)i * size, &plan.maps[i], channels,
                             resolution, plan.margins[i], plan.slab + (size_t)fdm_thread_index() * plan.scratch);
        }
    }
    fdm_free_aligned(plan.slab);
    fdm_free_aligned(plan.memory);
    return status;
}
