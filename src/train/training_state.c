/* training_state.c - a run's state as a file, and among ranks. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "fdm/safetensors.h"
#include "train/training.h"

static fdm_status add_counters(struct fdm_training *t, fdm_tensors *set, fdm_error *err) {
    const int64_t counters[] = {t->tick, t->tick_start}, two = 2, three = 3;
    fdm_tensor *tensor;
    fdm_status status = fdm_tensors_add(set, "run.counters", FDM_I64, 1, &two, &tensor, err);
    if (status == FDM_OK) memcpy(tensor->data, counters, sizeof counters);
    if (status == FDM_OK) status = fdm_tensors_add(set, "run.loss", FDM_F64, 1, &three, &tensor, err);
    if (status == FDM_OK) memcpy(tensor->data, &t->sums, sizeof t->sums);
    return status;
}

/* A checksum over names, types, shapes and elements of all tensors, as text. */
static void digest(char out[16], const fdm_tensors *set) {
    uLong crc = crc32_z(0, NULL, 0);
    for (size_t i = 0; i < set->count; i++) {
        const fdm_tensor *t = &set->items[i];
        const int64_t kind[] = {t->dtype, t->ndim};
        crc = crc32_z(crc, (const Bytef *)t->name, strlen(t->name));
        crc = crc32_z(crc, (const Bytef *)kind, sizeof kind);
        crc = crc32_z(crc, (const Bytef *)t->shape, (size_t)t->ndim * sizeof *t->shape);
        crc = crc32_z(crc, t->data, t->nbytes);
    }
    snprintf(out, 16, "%08lx", (unsigned long)crc);
}

static fdm_status check_digest(const fdm_tensors *set, const char *where, fdm_error *err) {
    const char *saved = fdm_tensors_meta(set, "crc32");
    char now_text[16];
    digest(now_text, set);
    if (!saved) return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata crc32 is missing; this is no training state", where);
    if (strcmp(saved, now_text) == 0) return FDM_OK;
    return fdm_fail(err, FDM_BAD_INPUT, "%s: damaged: its checksum is %s instead of %.16s", where, now_text, saved);
}

fdm_status fdm_training_save(struct fdm_training *t, fdm_error *err) {
    t->saved = fdm_training_now();
    fdm_tensors set = {0};
    char crc[16], *settings = fdm_train_settings_json(t->s);
    fdm_status status = settings ? FDM_OK : fdm_fail_oom(err, "settings", 0);
    if (status == FDM_OK) status = fdm_trainer_save(t->trainer, &set, err);
    if (status == FDM_OK) status = fdm_data_order_save(&set, "order.", &t->order, err);
    if (status == FDM_OK) status = add_counters(t, &set, err);
    if (status == FDM_OK) status = fdm_tensors_set_meta(&set, "settings", settings, err);
    if (status == FDM_OK) {
        digest(crc, &set);
        status = fdm_tensors_set_meta(&set, "crc32", crc, err);
    }
    if (status == FDM_OK) status = fdm_run_dir_save(&t->dir, &set, fdm_trainer_images(t->trainer), err);
    fdm_tensors_free(&set);
    free(settings);
    return status;
}

static fdm_status restore_counters(struct fdm_training *t, const fdm_tensors *set, const char *where, fdm_error *err) {
    const fdm_tensor *counters = fdm_tensors_find(set, "run.counters"), *loss = fdm_tensors_find(set, "run.loss");
    int64_t values[2];
    if (!counters || counters->dtype != FDM_I64 || counters->nbytes != sizeof values || !loss || loss->dtype != FDM_F64 ||
        loss->nbytes != sizeof t->sums)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: tensors run.counters and run.loss are missing or malformed", where);
    memcpy(values, counters->data, sizeof values);
    memcpy(&t->sums, loss->data, sizeof t->sums);
    if (values[0] < 0 || values[0] > INT64_MAX / 2 || values[1] < 0 || values[1] > fdm_trainer_images(t->trainer))
        return fdm_fail(err, FDM_BAD_INPUT, "%s: run.counters holds impossible numbers", where);
    t->tick = values[0];
    t->tick_start = values[1];
    fdm_run_dir_stats_cut(&t->dir, t->tick);
    return FDM_OK;
}

/* The network of the state must be the one that the settings ask for now. */
fdm_status fdm_training_check_network(const struct fdm_training *t, const char *where, fdm_error *err) {
    char *now_json = fdm_config_json(&t->config);
    char *saved_json = fdm_config_json(fdm_gradient_config(fdm_trainer_gradient(t->trainer)));
    fdm_status status = FDM_OK;
    if (!now_json || !saved_json) status = fdm_fail_oom(err, "configuration", 0);
    else if (strcmp(now_json, saved_json) != 0)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: the network of this state is not the one that settings and data ask for now; "
                          "has the data changed?", where);
    free(now_json);
    free(saved_json);
    return status;
}

/* So must everything that enters the weights. */
static fdm_status check_same_settings(const struct fdm_training *t, const fdm_tensors *set, const char *where, fdm_error *err) {
    const char *json = fdm_tensors_meta(set, "settings");
    fdm_train_settings saved, ours = *t->s;
    if (!json) return fdm_fail(err, FDM_BAD_INPUT, "%s: metadata settings is missing; this is no training state", where);
    fdm_status status = fdm_train_settings_parse(&saved, json, strlen(json), where, err);
    if (status != FDM_OK) return status;
    ours.data = saved.data;
    ours.duration = saved.duration;
    ours.tick = saved.tick;
    ours.snap = saved.snap;
    ours.dump = saved.dump;
    ours.image_snap = saved.image_snap;
    ours.image_count = saved.image_count;
    ours.image_steps = saved.image_steps;
    ours.save_minutes = saved.save_minutes;
    if (!ours.batch_gpu) ours.batch_gpu = saved.batch_gpu; /* resolved in the state, not yet in ours */
    char *a = fdm_train_settings_json(&saved), *b = fdm_train_settings_json(&ours);
    if (!a || !b) status = fdm_fail_oom(err, "settings", 0);
    else if (strcmp(a, b) != 0)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: was trained with other settings than training_options.json holds now; put them "
                          "back as they were, or start a run of its own with --transfer", where);
    fdm_train_settings_free(&saved);
    free(a);
    free(b);
    return status;
}

static fdm_status check_same_data(const struct fdm_training *t, const fdm_tensors *set, const char *where, fdm_error *err) {
    const fdm_tensor *order = fdm_tensors_find(set, "order.order");
    if (!order || order->ndim != 1 || order->shape[0] == fdm_dataset_count(t->data)) return FDM_OK; /* or malformed */
    return fdm_fail(err, FDM_BAD_INPUT, "%s: the data has changed: %s holds %" PRId64 " images, the run was on %" PRId64, where,
                    t->s->data, fdm_dataset_count(t->data), order->shape[0]);
}

/* *whole: the file is a training state; whatever is wrong then, an older one will not help. */
static fdm_status restore_state(struct fdm_training *t, const char *path, bool *whole, fdm_error *err) {
    const fdm_trainer_options options = fdm_training_options(t->s);
    fdm_tensors set = {0};
    *whole = false;
    fdm_status status = fdm_safetensors_read(&set, path, err);
    if (status == FDM_OK) status = check_digest(&set, path, err);
    if (status == FDM_OK) status = fdm_trainer_restore(&t->trainer, &set, path, &options, t->run, err);
    *whole = status == FDM_OK;
    if (status == FDM_OK) status = check_same_data(t, &set, path, err);
    if (status == FDM_OK) status = fdm_training_check_network(t, path, err);
    if (status == FDM_OK) status = check_same_settings(t, &set, path, err);
    if (status == FDM_OK)
        status = fdm_data_order_restore(&t->order, &set, "order.", fdm_dataset_count(t->data), path, err);
    if (status == FDM_OK)
        status = fdm_data_order_restore(&t->ahead, &set, "order.", fdm_dataset_count(t->data), path, err);
    if (status == FDM_OK) status = restore_counters(t, &set, path, err);
    if (status == FDM_OK && t->s->warmup_restart && t->s->warmup_ite > 0)
        status = fdm_warmup_init(fdm_trainer_warmup(t->trainer), t->s->warmup_ite, err);
    fdm_tensors_free(&set);
    if (status == FDM_OK) return FDM_OK;
    fdm_trainer_free(&t->trainer);
    fdm_data_order_free(&t->order);
    fdm_data_order_free(&t->ahead);
    return status;
}

/* The newest whole state; the beginning where there is none yet. */
fdm_status fdm_training_resume(struct fdm_training *t, fdm_error *err) {
    int64_t *states;
    int count, i;
    bool whole = false;
    fdm_error why = {0};
    fdm_status status = fdm_run_dir_states(&states, &count, &t->dir, err);
    if (status != FDM_OK) return status;
    for (i = 0; i < count; i++) {
        char path[FDM_RUN_PATH];
        status = fdm_run_dir_name(path, &t->dir, &why, "training-state-%09" PRId64 ".safetensors", states[i]);
        if (status == FDM_OK) status = restore_state(t, path, &whole, &why);
        if (status == FDM_OK) fdm_run_dir_say(&t->dir, "resuming from %s", path);
        if (status != FDM_BAD_INPUT || whole) break;
        fdm_run_dir_say(&t->dir, "not whole, trying an older one: %s", why.message);
    }
    for (int k = 0; k < i && status == FDM_OK && i < count; k++) fdm_run_dir_set_aside(&t->dir, states[k]);
    free(states);
    if (count && status != FDM_OK && (whole || status != FDM_BAD_INPUT)) return fdm_fail(err, status, "%s", why.message);
    if (count && status != FDM_OK)
        return fdm_fail(err, status, "%s: no whole training state, the oldest: %s", t->dir.path, why.message);
    if (count) return FDM_OK;
    fdm_run_dir_say(&t->dir, "no training state yet: starting from the beginning");
    fdm_run_dir_stats_cut(&t->dir, 0);
    return fdm_training_start_fresh(t, err);
}

/* --- among ranks --- */

/* What every rank must find in its data and settings. */
static fdm_status check_facts(const struct fdm_training *t, fdm_error *err) {
    const fdm_dataset_checksums sums = fdm_dataset_checksum(t->data);
    const fdm_ranks_fact facts[] = {
        {"the number of its images", fdm_dataset_count(t->data)},
        {"their resolution", t->config.img_resolution},
        {"their number of channels", t->config.img_channels},
        {"the number of classes", t->config.label_dim},
        {"the checksum of the images' names, sizes and contents", sums.images},
        {"the checksum of the labels", sums.labels},
        {"the number of the network's parameters", (int64_t)fdm_gradient_size(fdm_trainer_gradient(t->trainer))},
        {"--batch", t->s->batch},
        {"--batch-gpu", t->s->batch_gpu},
    };
    return fdm_ranks_check_same(t->ranks, t->s->data, facts, (int)FDM_ARRAY_LEN(facts), err);
}

static fdm_status spread_order(struct fdm_training *t, fdm_data_order *order, fdm_error *err) {
    fdm_status status = fdm_ranks_broadcast(t->ranks, &order->mt, sizeof order->mt, err);
    if (status == FDM_OK) status = fdm_ranks_broadcast(t->ranks, &order->position, sizeof order->position, err);
    if (status != FDM_OK) return status;
    return fdm_ranks_broadcast(t->ranks, order->order, (size_t)order->count * sizeof *order->order, err);
}

fdm_status fdm_training_spread(struct fdm_training *t, fdm_error *err) {
    if (!t->ranks) return FDM_OK;
    int64_t counters[] = {t->tick, t->tick_start};
    fdm_status status = check_facts(t, err);
    if (status == FDM_OK) status = fdm_ranks_broadcast(t->ranks, counters, sizeof counters, err);
    if (status == FDM_OK) status = spread_order(t, &t->order, err);
    if (status == FDM_OK) status = spread_order(t, &t->ahead, err);
    if (status == FDM_OK) status = fdm_trainer_share(t->trainer, t->ranks, t->s->batch_gpu, err);
    t->tick = counters[0];
    t->tick_start = counters[1];
    return status;
}

fdm_status fdm_training_check_weights(struct fdm_training *t, fdm_error *err) {
    if (!t->ranks) return FDM_OK;
    fdm_gradient *g = fdm_trainer_gradient(t->trainer);
    const size_t bytes = fdm_gradient_size(g) * sizeof(float);
    uLong mine = crc32_z(crc32_z(0, (const Bytef *)fdm_gradient_values(g), bytes), (const Bytef *)fdm_trainer_ema(t->trainer), bytes);
    uLong first = mine;
    fdm_status status = fdm_ranks_broadcast(t->ranks, &first, sizeof first, err);
    unsigned differ = status == FDM_OK && first != mine;
    if (differ)
        status = fdm_fail(err, FDM_NO_RESOURCE, "after %" PRId64 " images its weights are not those of rank 0: memory, processor "
                          "or network are faulty; go on from the newest state, on other machines", fdm_trainer_images(t->trainer));
    if (status == FDM_OK || differ) status = fdm_ranks_agree(t->ranks, status, &differ, err);
    t->whole = status != FDM_OK && !differ;
    return status;
}
