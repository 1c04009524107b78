/* trainers.c - small trainers, and batches for them from a generator of their own. */
#include "trainers.h"
#include "splitmix.h"

#include <check.h>
#include <math.h>
#include <string.h>

#include "fdm/init.h"

fdm_config small_config(fdm_precond_kind kind) {
    fdm_config c;
    ck_assert_int_eq(fdm_config_init(&c, kind, NULL), FDM_OK);
    c.img_resolution = 8;
    c.img_channels = 3;
    c.label_dim = 3;
    c.augment_dim = 9;
    c.model_channels = 8;
    c.levels = 2;
    c.channel_mult[0] = 1;
    c.channel_mult[1] = 2;
    c.num_blocks = 1;
    c.attn_count = 1;
    c.attn_resolutions[0] = 4;
    c.dropout = 0.2;
    return c;
}

fdm_trainer_options small_options(void) {
    fdm_trainer_options o = fdm_trainer_defaults();
    o.batch = BATCH;
    o.lr_rampup_kimg = 0.01;
    o.ema_halflife_kimg = 0.03;
    return o;
}

fdm_trainer *make_trainer(const fdm_trainer_options *o, const struct runner *r, int threads) {
    const fdm_run_options run = {.backend = r->backend, .isa = r->isa, .threads = threads};
    const fdm_config c = small_config(FDM_PRECOND_FDM_EDM);
    fdm_tensors weights = {0};
    fdm_trainer *t = NULL;
    fdm_error err = {0};
    fdm_rng rng;
    fdm_init_seed_published(&rng, 5);
    ck_assert_msg(fdm_init_weights(&weights, &c, &rng, &err) == FDM_OK, "%s", err.message);
    ck_assert_msg(fdm_trainer_create(&t, &c, &weights, "weights", o, &run, &err) == FDM_OK, "%s", err.message);
    fdm_tensors_free(&weights);
    return t;
}

/* ---- batches ---- */

struct train_batch make_train_batch(int64_t update) {
    struct train_batch b = {0};
    uint64_t state = (uint64_t)update * 1000 + 7;
    for (int i = 0; i < BATCH * 192; i++) b.y[i] = splitmix_uniform(&state);
    for (int i = 0; i < BATCH * 192; i++) b.noise[i] = 2 * splitmix_uniform(&state);
    for (int i = 0; i < BATCH * 9; i++) b.augment[i] = splitmix_uniform(&state);
    for (int i = 0; i < BATCH; i++) {
        b.sigma[i] = (double)(float)(0.5 * exp(splitmix_uniform(&state)));
        b.labels[3 * i + (i + (int)update) % 3] = 1;
        b.keys[i] = (uint64_t)(update * BATCH + i);
    }
    return b;
}

fdm_gradient_args batch_part(const struct train_batch *b, int first, int n) {
    return (fdm_gradient_args){.n = n, .y = b->y + 192 * first, .sigma = b->sigma + first, .noise_unit = b->noise + 192 * first,
                               .class_labels = b->labels + 3 * first, .augment_labels = b->augment + 9 * first, .dropout = 0.2,
                               .dropout_keys = b->keys + first};
}

void check_same_trainers(fdm_trainer *a, fdm_trainer *b, const char *what) {
    fdm_tensors sa = {0}, sb = {0};
    ck_assert_int_eq(fdm_trainer_save(a, &sa, NULL), FDM_OK);
    ck_assert_int_eq(fdm_trainer_save(b, &sb, NULL), FDM_OK);
    ck_assert_uint_eq(sa.count, sb.count);
    for (size_t i = 0; i < sa.count; i++) {
        ck_assert_str_eq(sa.items[i].name, sb.items[i].name);
        ck_assert_msg(memcmp(sa.items[i].data, sb.items[i].data, sa.items[i].nbytes) == 0, "%s: other bits in %s", what,
                      sa.items[i].name);
    }
    fdm_tensors_free(&sa);
    fdm_tensors_free(&sb);
}
