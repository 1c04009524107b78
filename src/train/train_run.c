/* train_run.c - a training run from its beginning to its end. */
#include "train/train_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/threads.h"
#include "train/training.h"

/* --- the loop --- */

/* Saves where the run stands between ticks, on request. */
static fdm_status stop_here(struct fdm_training *t, fdm_error *err) {
    fdm_error why = {0};
    if (!fdm_ranks_is_first(t->ranks)) return fdm_fail(err, FDM_INTERRUPTED, "interrupted");
    fdm_run_dir_say(&t->dir, "stopping at %" PRId64 " images, saving", fdm_trainer_images(t->trainer));
    if (fdm_training_save(t, &why) == FDM_OK)
        return fdm_fail(err, FDM_INTERRUPTED, "interrupted at %" PRId64 " images, saved; go on with --resume %s",
                        fdm_trainer_images(t->trainer), t->dir.path);
    return fdm_fail(err, why.status, "interrupted, and the training state was not written: %s", why.message);
}

/* A power cut should cost minutes, however long a tick is. */
static void save_between_ticks(struct fdm_training *t) {
    fdm_error why = {0};
    t->save_failed = fdm_training_save(t, &why) != FDM_OK;
    if (t->save_failed) fdm_training_complain(t, "the training state", &why);
}

/* A batch that cannot be had (a damaged image, say) or a rank that is gone ends the run, but what was trained until then is
 * kept. */
static void save_before_failing(struct fdm_training *t) {
    fdm_error why = {0};
    const int64_t images = fdm_trainer_images(t->trainer);
    if (images == 0 || !fdm_ranks_is_first(t->ranks)) return;
    if (fdm_training_save(t, &why) == FDM_OK) fdm_run_dir_say(&t->dir, "the run ends at %" PRId64 " images, saved", images);
    else fdm_run_dir_say(&t->dir, "warning: the training state was not written: %s", why.message);
}

/* Of all updates, and the trace if one is wanted. */
static void report_messages(struct fdm_training *t) {
    if (!t->ranks) return;
    const struct fdm_rank_sum_times spent = fdm_rank_sum_spent(fdm_trainer_sums(t->trainer));
    fdm_error why = {0};
    if (spent.updates)
        fdm_run_dir_say(&t->dir, "messages between %d ranks: %.1f MB and %.2f ms an update, %.0f %% of them during the backward "
                        "pass; waited for %.2f ms", t->ranks->size, (double)spent.bytes / 1e6 / (double)spent.updates,
                        1e3 * spent.busy / (double)spent.updates, spent.busy > 0 ? 100 * spent.hidden / spent.busy : 0,
                        1e3 * spent.exposed / (double)spent.updates);
    if (!t->trace) return;
    const struct fdm_comm_trace_updates updates = fdm_comm_trace_count(t->trace);
    if (updates.kept < updates.all)
        fdm_run_dir_say(&t->dir, "the trace of messages holds the first %d of %d updates; it has room for no more", updates.kept,
                        updates.all);
    if (fdm_comm_trace_write(t->trace, t->hooks.comm_trace, &why) != FDM_OK)
        fdm_training_complain(t, "the trace of messages", &why);
}

/* Ends the tick on rank 0 even if another rank is found to be gone: the state must say that it is over. */
static fdm_status end_tick(struct fdm_training *t, bool done, fdm_error *err) {
    const fdm_status status = fdm_training_check_weights(t, err);
    if (status != FDM_OK && !t->whole) return status;
    const fdm_status ended = fdm_training_end_tick(t, done, status == FDM_OK ? err : NULL);
    return status != FDM_OK ? status : ended;
}

static fdm_status train_loop(struct fdm_training *t, fdm_error *err) {
    const int64_t per_tick = (int64_t)(t->s->tick * 1000);
    const bool first = fdm_ranks_is_first(t->ranks);
    t->started = t->tick_started = t->saved = fdm_training_now();
    if (fdm_trainer_images(t->trainer) >= t->total) {
        fdm_run_dir_say(&t->dir, "nothing to do: %" PRId64 " images are done", fdm_trainer_images(t->trainer));
        return first ? fdm_training_write_snapshot(t, err) : FDM_OK; /* again: the disk may have had no room for it */
    }
    if (t->hooks.progress) t->hooks.progress(t->hooks.user, fdm_trainer_images(t->trainer), t->total, NAN);
    for (;;) {
        fdm_status status = fdm_training_update(t, err);
        const int64_t images = fdm_trainer_images(t->trainer);
        const bool done = images >= t->total;
        const bool tick = done || t->tick == 0 || images >= t->tick_start + per_tick;
        if (status == FDM_OK && tick) status = end_tick(t, done, err);
        if (t->whole) save_before_failing(t);
        if (done && !t->whole) report_messages(t);
        if (status != FDM_OK || done) return status;
        if (!t->ranks && t->hooks.stop) t->stop = t->hooks.stop(t->hooks.user);
        if (t->stop) report_messages(t);
        if (t->stop) return stop_here(t, err);
        if (first && t->s->save_minutes > 0 && fdm_training_now() - t->saved >= 60 * t->s->save_minutes) save_between_ticks(t);
    }
}

/* --- beginning and end --- */

static fdm_status check_duration(struct fdm_training *t, fdm_error *err) {
    const double images = t->s->duration * 1e6;
    t->total = (int64_t)(images + 0.5);
    if (t->total < 1 || t->s->tick * 1000 < 1)
        return fdm_fail(err, FDM_BAD_USAGE, "--duration is in millions of images, --tick in thousands; both need at least one "
                        "image");
    return FDM_OK;
}

/* What can be known of it before there is a network; fdm_training_choose_round has the rest. */
static fdm_status check_ranks(const struct fdm_training *t, fdm_error *err) {
    const int size = fdm_ranks_size(t->ranks);
    const int64_t share = t->s->batch / size, round = t->s->batch_gpu ? t->s->batch_gpu : share;
    return fdm_trainer_check_ranks(t->s->batch, round ? round : 1, size, err);
}

/* Of several ranks the first one speaks. */
static void begin(struct fdm_training *t, const char *run_dir, const fdm_train_settings *s, const fdm_run_options *run,
                  const fdm_train_hooks *hooks) {
    *t = (struct fdm_training){.settings = *s, .dir = {.stats = -1}, .mine = {0, s->batch}};
    t->s = &t->settings;
    t->run = &t->how;
    if (run) t->how = *run;
    if (hooks) t->hooks = *hooks;
    if (fdm_ranks_size(t->how.ranks) > 1) t->ranks = t->how.ranks;
    if (!fdm_ranks_is_first(t->ranks)) t->hooks.say = NULL, t->hooks.progress = NULL;
    t->how.conv = fdm_conv_mode_name((fdm_conv_mode)s->conv);
    t->threads = run && run->threads ? run->threads : fdm_max_threads();
    t->dir.hooks = &t->hooks;
    snprintf(t->dir.path, sizeof t->dir.path, "%s", run_dir);
}

static void end(struct fdm_training *t) {
    fdm_training_close_batches(t);
    fdm_trainer_free(&t->trainer);
    fdm_comm_trace_free(&t->trace);
    fdm_data_order_free(&t->order);
    fdm_data_order_free(&t->ahead);
    fdm_dataset_free(&t->data);
    fdm_run_dir_close(&t->dir);
}

fdm_status fdm_train_describe(char **text, const fdm_train_settings *s, const fdm_run_options *run, fdm_error *err) {
    struct fdm_training t;
    struct fdm_text out = {0};
    begin(&t, "", s, run, NULL);
    *text = NULL;
    fdm_status status = fdm_train_check(s, err);
    if (status == FDM_OK) status = check_duration(&t, err);
    if (status == FDM_OK) status = fdm_training_open_data(&t, err);
    if (status == FDM_OK) status = fdm_training_start_fresh(&t, err);
    if (status == FDM_OK) status = fdm_training_choose_round(&t, err);
    if (status == FDM_OK) fdm_training_describe(&out, &t);
    end(&t);
    if (status == FDM_OK && out.failed) status = fdm_fail_oom(err, "description", 0);
    if (status == FDM_OK) *text = out.bytes;
    else fdm_text_free(&out);
    return status;
}

/* Where the run starts: rank 0 knows from the run directory; the others are told (fdm_training_spread). */
static fdm_status start(struct fdm_training *t, const char *run_dir, bool resume, fdm_error *err) {
    if (!fdm_ranks_is_first(t->ranks)) return fdm_training_start_fresh(t, err);
    const fdm_status status = fdm_run_dir_open(&t->dir, run_dir, resume, &t->hooks, err);
    if (status != FDM_OK) return status;
    return resume ? fdm_training_resume(t, err) : fdm_training_start_fresh(t, err);
}

/* Everything up to the first update. */
static fdm_status prepare(struct fdm_training *t, const char *run_dir, bool resume, fdm_error *err) {
    const bool first = fdm_ranks_is_first(t->ranks);
    fdm_status status = fdm_train_check(t->s, err);
    if (status == FDM_OK) status = check_duration(t, err);
    if (status == FDM_OK) status = check_ranks(t, err);
    if (status == FDM_OK) status = fdm_training_open_data(t, err); /* bad data leaves no folder behind */
    if (status == FDM_OK) status = fdm_loss_init(&t->loss, t->config.precond.kind, err);
    if (status == FDM_OK) status = start(t, run_dir, resume, err);
    if (status == FDM_OK) status = fdm_training_choose_round(t, err);
    status = fdm_ranks_agree(t->ranks, status, NULL, err);
    if (status == FDM_OK) status = fdm_training_spread(t, err);
    if (status == FDM_OK && first) status = fdm_training_write_options(t, err);
    if (status == FDM_OK && first) status = fdm_training_write_reals(t, err);
    if (status == FDM_OK) status = fdm_training_open_batches(t, err);
    status = fdm_ranks_agree(t->ranks, status, NULL, err);
    if (status != FDM_OK || !t->ranks || !t->hooks.comm_trace) return status;
    struct fdm_rank_sum *sums = fdm_trainer_sums(t->trainer);
    status = fdm_comm_trace_create(&t->trace, t->ranks, fdm_trainer_gradient(t->trainer), fdm_rank_sum_buckets(sums), err);
    fdm_rank_sum_trace(sums, t->trace);
    return status;
}

fdm_status fdm_train(const char *run_dir, const fdm_train_settings *settings, bool resume, const fdm_run_options *run,
                     const fdm_train_hooks *hooks, fdm_error *err) {
    struct fdm_training t;
    struct fdm_text text = {0};
    begin(&t, run_dir, settings, run, hooks);
    fdm_status status = prepare(&t, run_dir, resume, err);
    if (status == FDM_OK) {
        fdm_training_describe(&text, &t);
        fdm_run_dir_say(&t.dir, "run directory %s\n%s", run_dir, text.bytes ? text.bytes : "");
        fdm_text_free(&text);
        status = fdm_training_check_seats(&t, err);
        if (status == FDM_OK) status = train_loop(&t, err);
    }
    status = fdm_ranks_agree(t.ranks, status, NULL, err);
    end(&t);
    return status;
}

fdm_status fdm_train_adopt(const char *run_dir, const fdm_train_settings *settings, const fdm_tensors *state, const char *where,
                           const fdm_run_options *run, const fdm_train_hooks *hooks, fdm_error *err) {
    struct fdm_training t;
    begin(&t, run_dir, settings, run, hooks);
    const fdm_trainer_options options = fdm_training_options(t.s);
    fdm_status status = fdm_train_check(t.s, err);
    if (status == FDM_OK) status = check_duration(&t, err);
    if (status == FDM_OK) status = fdm_training_open_data(&t, err);
    if (status == FDM_OK) status = fdm_trainer_restore(&t.trainer, state, where, &options, t.run, err);
    if (status == FDM_OK) status = fdm_training_check_network(&t, where, err);
    if (status == FDM_OK) status = fdm_training_start_order(&t, err);
    if (status == FDM_OK) status = fdm_training_choose_round(&t, err);
    if (status == FDM_OK) status = fdm_run_dir_open(&t.dir, run_dir, false, &t.hooks, err); /* a bad file leaves no folder behind */
    if (status == FDM_OK) status = fdm_training_write_options(&t, err);
    if (status == FDM_OK) t.tick_start = fdm_trainer_images(t.trainer);
    if (status == FDM_OK) status = fdm_training_save(&t, err);
    if (status == FDM_OK)
        fdm_run_dir_say(&t.dir, "imported %s: %" PRId64 " images, %" PRId64 " updates", where, fdm_trainer_images(t.trainer),
                        fdm_trainer_updates(t.trainer));
    end(&t);
    return status;
}
