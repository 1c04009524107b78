/* training_tick.c - what a run writes now and then: statistics, snapshots, pictures, states. */
#include <inttypes.h>
#include <math.h>
#include <sys/resource.h>
#include <time.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "fdm/safetensors.h"
#include "train/training.h"

double fdm_training_now(void) { return fdm_now(); }

static void put_stat(struct fdm_text *line, const char *name, double count, double mean, double std) {
    fdm_text_printf(line, "\"%s\": {\"num\": %.0f, ", name, count);
    if (isfinite(mean)) fdm_text_printf(line, "\"mean\": %.9g, ", mean);
    else fdm_text_printf(line, "\"mean\": null, ");
    if (isfinite(std)) fdm_text_printf(line, "\"std\": %.9g}, ", std);
    else fdm_text_printf(line, "\"std\": null}, ");
}

static double peak_memory_gb(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (double)usage.ru_maxrss / (1 << 20) : 0;
}

static void write_stats(struct fdm_training *t, double seconds, double kimg, double done_kimg) {
    struct fdm_text line = {0};
    const double mean = t->sums.sum / t->sums.count, variance = t->sums.squares / t->sums.count - mean * mean;
    fdm_text_printf(&line, "{");
    put_stat(&line, "Loss/loss", t->sums.count, mean, sqrt(variance > 0 ? variance : variance <= 0 ? 0 : NAN));
    put_stat(&line, "Progress/tick", 1, (double)t->tick, 0);
    put_stat(&line, "Progress/kimg", 1, kimg, 0);
    put_stat(&line, "Timing/total_sec", 1, fdm_training_now() - t->started, 0);
    put_stat(&line, "Timing/sec_per_tick", 1, seconds, 0);
    put_stat(&line, "Timing/sec_per_kimg", 1, done_kimg > 0 ? seconds / done_kimg : 0, 0);
    put_stat(&line, "Timing/maintenance_sec", 1, t->maintenance, 0);
    put_stat(&line, "Resources/cpu_mem_gb", 1, peak_memory_gb(), 0);
    fdm_text_printf(&line, "\"timestamp\": %.3f}\n", (double)time(NULL));
    if (line.failed || !fdm_run_dir_stats_add(&t->dir, line.bytes, line.length))
        fdm_run_dir_say(&t->dir, "warning: stats.jsonl cannot be written (is the disk full?)");
    fdm_text_free(&line);
}

fdm_status fdm_training_write_snapshot(struct fdm_training *t, fdm_error *err) {
    fdm_tensors model = {0};
    char path[FDM_RUN_PATH];
    const int64_t kimg = fdm_trainer_images(t->trainer) / 1000;
    fdm_status status = fdm_trainer_model(t->trainer, &model, err);
    if (status == FDM_OK)
        status = fdm_run_dir_name(path, &t->dir, err, "network-snapshot-%06" PRId64 ".safetensors", kimg);
    if (status == FDM_OK) status = fdm_safetensors_write(&model, path, err);
    fdm_tensors_free(&model);
    return status;
}

/* On every rank: they share the work. */
static fdm_status write_fakes(struct fdm_training *t, fdm_error *err) {
    fdm_tensors model = {0};
    char path[FDM_RUN_PATH];
    const int64_t kimg = fdm_trainer_images(t->trainer) / 1000;
    if (!t->hooks.sample) return FDM_OK;
    fdm_status status = fdm_trainer_model(t->trainer, &model, err);
    if (status == FDM_OK) status = fdm_run_dir_name(path, &t->dir, err, "fakes%06" PRId64 ".png", kimg);
    status = fdm_ranks_agree(t->ranks, status, NULL, err);
    if (status == FDM_OK)
        status = t->hooks.sample(t->hooks.user, &model, path, (int)t->s->image_count, (int)t->s->image_steps, err);
    fdm_tensors_free(&model);
    return status;
}

void fdm_training_complain(struct fdm_training *t, const char *what, const fdm_error *why) {
    fdm_run_dir_say(&t->dir, "warning: %s was not written: %s; training goes on, earlier files are untouched", what,
                    why->message);
}

static bool due(int64_t tick, int64_t every) { return every > 0 && tick % every == 0; }

static void say_tick(struct fdm_training *t, double seconds, double kimg, double done_kimg) {
    write_stats(t, seconds, kimg, done_kimg);
    if (t->nonfinite > FDM_NONFINITE_SAID)
        fdm_run_dir_say(&t->dir, "warning: %" PRId64 " more updates of this tick had losses or gradients that are not finite; a "
                        "lower --lr may help", t->nonfinite - FDM_NONFINITE_SAID);
    t->nonfinite = 0;
    fdm_run_dir_say(&t->dir, "tick %-5" PRId64 " kimg %-9.3f loss %-8.5f sec/tick %-7.1f sec/kimg %-8.3f maintenance %-5.1f "
                    "mem %.2f GB", t->tick, kimg, t->sums.sum / t->sums.count, seconds,
                    done_kimg > 0 ? seconds / done_kimg : 0, t->maintenance, peak_memory_gb());
}

/* The state after the tick. */
static fdm_status save_tick(struct fdm_training *t, bool done, fdm_error *err) {
    fdm_error why = {0};
    t->save_failed = fdm_training_save(t, &why) != FDM_OK;
    if (t->save_failed) fdm_training_complain(t, "the training state", &why);
    if (!t->save_failed || !done) return FDM_OK;
    return fdm_fail(err, why.status, "the last training state was not written: %s", why.message);
}

fdm_status fdm_training_end_tick(struct fdm_training *t, bool done, fdm_error *err) {
    const bool first = fdm_ranks_is_first(t->ranks);
    const int64_t images = fdm_trainer_images(t->trainer);
    const double begun = fdm_training_now(), kimg = (double)images / 1000;
    fdm_error why = {0};
    fdm_status status = FDM_OK, saved = FDM_OK;
    if (first) say_tick(t, begun - t->tick_started, kimg, (double)(images - t->tick_start) / 1000);
    if (first && (due(t->tick, t->s->snap) || done) && fdm_training_write_snapshot(t, &why) != FDM_OK) {
        fdm_training_complain(t, "the snapshot", &why);
        if (done) status = fdm_fail(err, why.status, "the last snapshot was not written: %s", why.message);
    }
    const bool drawn = due(t->tick, t->s->image_snap) || (done && t->s->image_snap);
    if (drawn && !t->whole && write_fakes(t, &why) != FDM_OK)
        fdm_training_complain(t, "the picture of samples", &why);
    const bool wanted = !t->whole && (done || t->save_failed || (due(t->tick, t->s->dump) && t->tick > 0));
    t->tick++;
    t->tick_start = images;
    t->sums = (struct fdm_loss_sums){0};
    if (first && wanted) saved = save_tick(t, done, status == FDM_OK ? err : NULL);
    t->tick_started = fdm_training_now();
    t->maintenance = t->tick_started - begun;
    return status != FDM_OK ? status : saved;
}
