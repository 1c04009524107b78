/* training_setup.c - what a training run is made from, and what it says of itself. */
#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/base.h"
#include "base/tensor_set.h"
#include "fdm/init.h"
#include "fdm/png.h"
#include "fdm/safetensors.h"
#include "io/atomic_file.h"
#include "train/training.h"

enum { ACTIVATION_BUDGET = 1 << 30 }; /* bytes; what an automatic batch_gpu may plan for */

fdm_trainer_options fdm_training_options(const fdm_train_settings *s) {
    fdm_trainer_options o = fdm_trainer_defaults();
    o.batch = s->batch;
    o.lr = s->lr;
    o.lr_rampup_kimg = s->lr_rampup * 1000;
    o.ema_halflife_kimg = s->ema * 1000;
    o.loss_scaling = s->ls;
    o.warmup_ite = s->warmup_ite;
    return o;
}

fdm_status fdm_training_open_data(struct fdm_training *t, fdm_error *err) {
    const fdm_dataset_options options = {.use_labels = t->s->cond != 0, .xflip = t->s->xflip != 0};
    fdm_status status = fdm_dataset_open(&t->data, t->s->data, &options, err);
    if (status != FDM_OK) return status;
    const int label_dim = fdm_dataset_label_dim(t->data);
    if (t->s->cond && label_dim == 0)
        return fdm_fail(err, FDM_BAD_INPUT, "%s: --cond needs labels, and there is no dataset.json with labels", t->s->data);
    status = fdm_train_network(&t->config, t->s, fdm_dataset_resolution(t->data), fdm_dataset_channels(t->data), label_dim,
                               err);
    t->pixels = (size_t)t->config.img_channels * (size_t)t->config.img_resolution * (size_t)t->config.img_resolution;
    return status;
}

/* Replaces what the transfer model also has, in the same shape; says what it has not. */
static fdm_status transfer_weights(struct fdm_training *t, fdm_tensors *weights, fdm_error *err) {
    fdm_tensors source = {0};
    size_t taken = 0;
    fdm_status status = fdm_safetensors_read(&source, t->s->transfer, err);
    for (size_t i = 0; i < weights->count && status == FDM_OK; i++) {
        fdm_tensor *to = &weights->items[i];
        const fdm_tensor *from = fdm_tensors_find(&source, to->name);
        if (!from || from->dtype != FDM_F32 || from->nbytes != to->nbytes || from->ndim != to->ndim ||
            memcmp(from->shape, to->shape, (size_t)to->ndim * sizeof *to->shape) != 0) {
            fdm_run_dir_say(&t->dir, "transfer: %s starts fresh, the model has no such tensor", to->name);
            continue;
        }
        memcpy(to->data, from->data, to->nbytes);
        taken++;
    }
    fdm_tensors_free(&source);
    if (status == FDM_OK && taken == 0)
        status = fdm_fail(err, FDM_BAD_INPUT, "%s: no tensor fits this network", t->s->transfer);
    if (status == FDM_OK)
        fdm_run_dir_say(&t->dir, "transfer: %zu of %zu tensors from %s", taken, weights->count, t->s->transfer);
    return status;
}

fdm_status fdm_training_start_order(struct fdm_training *t, fdm_error *err) {
    const uint32_t seed = (uint32_t)((uint64_t)t->s->seed % (1u << 31));
    const fdm_status status = fdm_data_order_init(&t->order, fdm_dataset_count(t->data), seed, 0, 1, err);
    return status != FDM_OK ? status : fdm_data_order_init(&t->ahead, fdm_dataset_count(t->data), seed, 0, 1, err);
}

fdm_status fdm_training_start_fresh(struct fdm_training *t, fdm_error *err) {
    const fdm_trainer_options options = fdm_training_options(t->s);
    fdm_tensors weights = {0};
    fdm_rng rng;
    fdm_init_seed_published(&rng, (uint64_t)t->s->seed);
    fdm_status status = fdm_init_weights(&weights, &t->config, &rng, err);
    if (status == FDM_OK && t->s->transfer && fdm_ranks_is_first(t->ranks)) status = transfer_weights(t, &weights, err);
    if (status == FDM_OK)
        status = fdm_trainer_create(&t->trainer, &t->config, &weights, t->s->transfer ? t->s->transfer : "initial weights",
                                    &options, t->run, err);
    fdm_tensors_free(&weights);
    return status == FDM_OK ? fdm_training_start_order(t, err) : status;
}

/* Rounds of so many samples: as asked for, or the largest divisor of the batch whose activations fit the budget in f32.  It
 * depends on the settings alone, never on this machine, the number of ranks, --backend or --recompute, because a warm-up counts rounds; and the
 * choice is saved with them, so that a resumed run keeps it. */
fdm_status fdm_training_choose_round(struct fdm_training *t, fdm_error *err) {
    const int64_t batch = t->s->batch;
    int64_t rounds = t->s->batch_gpu ? batch / t->s->batch_gpu : 1;
    for (; !t->s->batch_gpu && rounds < batch; rounds++) {
        size_t bytes;
        if (batch % rounds != 0) continue;
        const fdm_status status = fdm_gradient_plan_bytes(fdm_trainer_gradient(t->trainer), (int)(batch / rounds), FDM_F32,
                                                          FDM_RECOMPUTE_OFF, &bytes, err);
        if (status != FDM_OK) return status;
        if (bytes <= ACTIVATION_BUDGET) break;
    }
    t->settings.batch_gpu = batch / rounds;
    t->mine = fdm_ranks_share_of(t->ranks, batch);
    const int64_t share = t->mine.end - t->mine.first;
    t->round = (int)(share < t->s->batch_gpu ? share : t->s->batch_gpu);
    return fdm_trainer_check_ranks(batch, t->s->batch_gpu, fdm_ranks_size(t->ranks), err);
}

/* --- what a run says of itself --- */

/* Of the data set, once: a run that is resumed may have been killed before. */
fdm_status fdm_training_write_reals(struct fdm_training *t, fdm_error *err) {
    char path[FDM_RUN_PATH];
    if (fdm_run_dir_name(path, &t->dir, err, "reals.png") != FDM_OK) return FDM_BAD_USAGE;
    if (access(path, F_OK) == 0) return FDM_OK;
    fdm_image grid = {0};
    const int64_t count = fdm_dataset_count(t->data);
    const int n = (int)(count < t->s->image_count ? count : t->s->image_count);
    uint8_t *pixels = malloc((size_t)n * t->pixels);
    fdm_status status = pixels ? FDM_OK : fdm_fail_oom(err, "picture", (size_t)n * t->pixels);
    for (int i = 0; i < n && status == FDM_OK; i++) /* spread over the set, so that every class shows */
        status = fdm_dataset_image(t->data, (int64_t)i * count / n, pixels + (size_t)i * t->pixels, err);
    if (status == FDM_OK)
        status = fdm_image_grid(&grid, pixels, n, t->config.img_channels, t->config.img_resolution, t->config.img_resolution,
                                true, 0, err);
    if (status == FDM_OK) status = fdm_png_write(path, grid.pixels, grid.width, grid.height, grid.channels, err);
    fdm_image_free(&grid);
    free(pixels);
    return status;
}

static void add_facts(struct fdm_text *text, const struct fdm_training *t) {
    fdm_text_printf(text, "  \"dataset_kwargs\": {\"path\": ");
    fdm_text_json_string(text, t->s->data);
    fdm_text_printf(text, ", \"use_labels\": %s, \"xflip\": %s, \"resolution\": %d, \"channels\": %d, \"label_dim\": %d, "
                    "\"images\": %" PRId64 "},\n", t->s->cond ? "true" : "false", t->s->xflip ? "true" : "false",
                    t->config.img_resolution, t->config.img_channels, t->config.label_dim, fdm_dataset_count(t->data));
    fdm_text_printf(text, "  \"optimizer_kwargs\": {\"class_name\": \"Adam\", \"lr\": %.17g, \"betas\": [0.9, 0.999], "
                    "\"eps\": 1e-8},\n", t->s->lr);
    fdm_text_printf(text, "  \"batch_size\": %" PRId64 ", \"batch_gpu\": %" PRId64 ", \"total_kimg\": %.17g, \"kimg_per_tick\": %.17g, "
                    "\"snapshot_ticks\": %" PRId64 ", \"state_dump_ticks\": %" PRId64 ",\n", t->s->batch, t->s->batch_gpu,
                    t->s->duration * 1000, t->s->tick, t->s->snap, t->s->dump);
    fdm_text_printf(text, "  \"ema_halflife_kimg\": %.17g, \"lr_rampup_kimg\": %.17g, \"loss_scaling\": %.17g, \"seed\": %" PRId64
                    ",\n", t->s->ema * 1000, t->s->lr_rampup * 1000, t->s->ls, t->s->seed);
}

fdm_status fdm_training_write_options(struct fdm_training *t, fdm_error *err) {
    char path[FDM_RUN_PATH];
    char *settings = fdm_train_settings_json(t->s), *network = fdm_config_json(&t->config);
    struct fdm_text text = {0};
    fdm_text_printf(&text, "{\n");
    add_facts(&text, t);
    fdm_text_printf(&text, "  \"network_kwargs\": %s,\n  \"settings\": %s\n}\n", network ? network : "", settings ? settings : "");
    fdm_status status = text.failed || !settings || !network ? fdm_fail_oom(err, "settings", 0) : FDM_OK;
    if (status == FDM_OK) status = fdm_run_dir_name(path, &t->dir, err, "training_options.json");
    if (status == FDM_OK) status = fdm_atomic_write_file(path, text.bytes, text.length, err);
    fdm_text_free(&text);
    free(settings);
    free(network);
    return status;
}

static struct fdm_seat own_seat(const struct fdm_training *t) {
    char name[256] = "";
    cpu_set_t set;
    const int32_t cores = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    const bool known = sched_getaffinity(0, sizeof set, &set) == 0; /* not on a node of more than 1024 */
    (void)gethostname(name, sizeof name - 1);
    return (struct fdm_seat){(uint32_t)crc32_z(0, (const Bytef *)name, strlen(name)), t->threads, known ? CPU_COUNT(&set) : cores,
                             cores};
}

bool fdm_seats_remark(char line[256], const struct fdm_seat *seats, int count) {
    int64_t ranks = 1, threads = seats[0].threads, usable = seats[0].usable;
    const int64_t cores = seats[0].cores;
    for (int i = 1; i < count; i++) {
        if (seats[i].host != seats[0].host) continue;
        ranks++;
        threads += seats[i].threads;
        usable += seats[i].usable;
    }
    if (usable > cores) usable = cores;
    if (2 * usable < cores)
        snprintf(line, 256, "warning: the %" PRId64 " ranks of this node are tied to %" PRId64 " of its %" PRId64 " cores; if the "
                 "others should work, too: mpirun --bind-to none with --threads, or data/recipes/mpirun.sh", ranks, usable, cores);
    else if (threads > usable)
        snprintf(line, 256, "warning: the %" PRId64 " ranks of this node have %" PRId64 " threads for %" PRId64 " cores, and wait "
                 "for each other; --threads %" PRId64 " would fit", ranks, threads, usable, usable / ranks > 1 ? usable / ranks : 1);
    else return false;
    return true;
}

fdm_status fdm_training_check_seats(struct fdm_training *t, fdm_error *err) {
    char line[256];
    const int size = fdm_ranks_size(t->ranks);
    if (!t->ranks) return FDM_OK;
    struct fdm_seat *seats = calloc((size_t)size, sizeof *seats);
    fdm_status status = seats ? FDM_OK : fdm_fail_oom(err, "ranks", (size_t)size * sizeof *seats);
    status = fdm_ranks_agree(t->ranks, status, NULL, err);
    if (status == FDM_OK && seats) {
        seats[t->ranks->rank] = own_seat(t);
        status = fdm_ranks_gather(t->ranks, seats, sizeof *seats, size, err);
    }
    if (status == FDM_OK && seats && fdm_ranks_is_first(t->ranks) && fdm_seats_remark(line, seats, size))
        fdm_run_dir_say(&t->dir, "%s", line);
    free(seats);
    return status;
}

void fdm_training_describe(struct fdm_text *text, const struct fdm_training *t) {
    const fdm_train_settings *s = t->s;
    size_t activations = 0;
    fdm_gradient *g = fdm_trainer_gradient(t->trainer);
    (void)fdm_gradient_plan_bytes(g, t->round, fdm_gradient_dtype(g), t->run->recompute,
                                  &activations, NULL);
    const double parameters = (double)fdm_gradient_size(g);
    int depth = 0;
    for (int64_t rounds = (t->mine.end - t->mine.first) / t->round; rounds; rounds >>= 1) depth++;
    const double bytes = parameters * 4 * (5 + depth) + (double)activations;
    fdm_text_printf(text, "data         %s: %" PRId64 " images%s, %dx%d, %d channels, %d classes\n", s->data,
                    fdm_dataset_count(t->data), s->xflip ? " (mirrored ones included)" : "", t->config.img_resolution,
                    t->config.img_resolution, t->config.img_channels, t->config.label_dim);
    fdm_text_printf(text, "network      %s, %s, %.0f parameters; %s\n", fdm_precond_class_name((fdm_precond_kind)s->precond),
                    s->arch == FDM_ARCH_DDPMPP ? "ddpmpp" : "ncsnpp", parameters, fdm_gradient_backend_name(g));
    fdm_text_printf(text, "updates      %" PRId64 " of %" PRId64 " images in rounds of %d, to %g kimg\n",
                    (t->total + s->batch - 1) / s->batch, s->batch, t->round, s->duration * 1000);
    const struct fdm_seat seat = own_seat(t);
    if (t->ranks)
        fdm_text_printf(text, "ranks        %d, each with %" PRId64 " images of an update; %d threads on %d of %d cores\n",
                        t->ranks->size, t->mine.end - t->mine.first, (int)seat.threads, (int)seat.usable, (int)seat.cores);
    if (s->warmup_ite > 0)
        fdm_text_printf(text, "warm-up      %g loss calls, one for %" PRId64 " images: the first %.0f updates%s\n", s->warmup_ite,
                        s->batch_gpu, ceil(s->warmup_ite * (double)s->batch_gpu / (double)s->batch),
                        fdm_precond_is_fdm(t->config.precond.kind) ? "" : "; the published program has none here");
    fdm_text_printf(text, "memory       about %.0f MB%s, %.0f of them activations", bytes / 1e6,
                    t->ranks ? " a rank" : "", (double)activations / 1e6);
}
