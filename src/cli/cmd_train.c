/* cmd_train.c - `fdm train`: a training run in a directory of its own. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/inputs.h"
#include "cli/ranks_mpi.h"
#include "fdm/png.h"
#include "fdm/sample.h"
#include "fdm/train.h"

struct train_options {
    fdm_train_settings s;
    const char *outdir, *resume, *trace_comm;
    double rank_timeout;
    struct fdm_intlist cres, attn;
    int cond, xflip, arch, precond, recompute; /* cond, xflip: index into booleans */
    bool nosubdir, dry_run, warmup_restart;
};

/* Seconds.  Who has not answered for so long, in work that ranks do in step, is unlikely to: Slurm kills 30 s after it asks to stop. */
enum { HURRY = 10 };

static const char *const booleans[] = {"0", "1", "false", "true", "no", "yes", NULL}; /* odd: true */
static const char *const arch_choices[] = {"ddpmpp", "ncsnpp", NULL};
static const char *const precond_choices[] = {
#define PRECOND_CHOICE(e, cli, cls, fdm) cli,
    FDM_PRECONDS(PRECOND_CHOICE)
#undef PRECOND_CHOICE
        NULL};
static const char *const recompute_choices[] = {"off", "norm", "block", NULL};

/* Numbers as in fdm_train_defaults, which is no constant expression; a test compares the two. */
static const struct train_options defaults = {
    .s = {.duration = 200, .batch = 512, .batch_gpu = 0, .cbase = 128, .num_blocks = 4, .lr = 1e-3, .lr_rampup = 10, .ema = 0.5,
          .dropout = 0.13, .label_dropout = 0, .augment = 0.12, .warmup_ite = 0, .fdm_multiplier = 2, .zeta = 1, .ls = 1, .tick = 50,
          .snap = 200, .dump = 500, .image_snap = -1, .image_count = 36, .image_steps = 9, .save_minutes = 30, .seed = -1},
    .precond = FDM_PRECOND_FDM_EDM,
    .recompute = FDM_RECOMPUTE_NORM,
    .rank_timeout = FDM_RANK_TIMEOUT,
};
#define T struct train_options
static const struct fdm_option options[] = {
    FDM_OPTION_STRING(T, outdir, "outdir", "DIR", "where run directories go: DIR/00000-...; required"),
    FDM_OPTION_STRING(T, s.data, "data", "PATH", "archive (.zip) or folder of images; required"),
    FDM_OPTION_ENUM(T, cond, "cond", booleans, "class-conditional: train on dataset.json's labels"),
    FDM_OPTION_ENUM(T, arch, "arch", arch_choices, "network architecture"),
    FDM_OPTION_ENUM(T, precond, "precond", precond_choices, "preconditioning and loss"),
    FDM_OPTION_FLOAT(T, s.duration, "duration", 1e-9, 1e9, "MIMG", "length of the run, in millions of images"),
    FDM_OPTION_INT(T, s.batch, "batch", 1, 65536, "N", "images of an update"),
    FDM_OPTION_INT(T, s.batch_gpu, "batch-gpu", 1, 65536, "N", "images of an accumulation round (default: what fits 1 GiB)"),
    FDM_OPTION_INT(T, s.cbase, "cbase", 1, 4096, "N", "channels of the first level"),
    FDM_OPTION_INTLIST(T, cres, "cres", 1, 64, "LIST", "channels per level, times cbase (default 2,2,2)"),
    FDM_OPTION_INT(T, s.num_blocks, "num_blocks", 1, 64, "N", "residual blocks per level"),
    FDM_OPTION_INTLIST(T, attn, "attn_resolutions", 0, 65536, "LIST", "resolutions with attention (default 16; 0: none)"),
    FDM_OPTION_FLOAT(T, s.lr, "lr", 1e-12, 1e3, "X", "learning rate"),
    FDM_OPTION_FLOAT(T, s.lr_rampup, "lr_rampup", 0, 1e9, "MIMG", "the learning rate grows linearly until then"),
    FDM_OPTION_FLOAT(T, s.ema, "ema", 0, 1e9, "MIMG", "half-life of the averaged weights"),
    FDM_OPTION_FLOAT(T, s.dropout, "dropout", 0, 0.999, "P", "dropout probability"),
    FDM_OPTION_FLOAT(T, s.label_dropout, "label_dropout", 0, 1, "P", "probability that an image's label is zeroed"),
    FDM_OPTION_FLOAT(T, s.augment, "augment", 0, 1, "P", "augmentation probability; 0: none"),
    FDM_OPTION_ENUM(T, xflip, "xflip", booleans, "double the data with mirrored images"),
    FDM_OPTION_FLOAT(T, s.warmup_ite, "warmup_ite", 0, 1e12, "W", "loss calls of the weight warm-up; 0: none; published for fdm_*"),
    FDM_OPTION_FLOAT(T, s.fdm_multiplier, "fdm_multiplier", 1e-6, 1e6, "M", "m of the momentum kernel (fdm_*)"),
    FDM_OPTION_FLOAT(T, s.zeta, "zeta", 0, 1e6, "Z", "damping of that kernel (fdm_*); 1: critical, as published"),
    FDM_OPTION_FLOAT(T, s.ls, "ls", 1e-12, 1e12, "X", "loss scaling"),
    FDM_OPTION_FLOAT(T, s.tick, "tick", 1e-3, 1e9, "KIMG", "thousands of images between lines of progress"),
    FDM_OPTION_INT(T, s.snap, "snap", 0, 1000000000, "TICKS", "between network snapshots; 0: only the last"),
    FDM_OPTION_INT(T, s.image_snap, "image-snap", 0, 1000000000, "TICKS", "between pictures of samples; 0: none (default: as --snap)"),
    FDM_OPTION_INT(T, s.image_count, "image-count", 1, 4096, "N", "images of such a picture"),
    FDM_OPTION_INT(T, s.image_steps, "image-steps", 2, 1000, "N", "sampling steps of such a picture"),
    FDM_OPTION_INT(T, s.dump, "dump", 0, 1000000000, "TICKS", "between training states; 0: only the last"),
    FDM_OPTION_FLOAT(T, s.save_minutes, "save-minutes", 0, 1e6, "MIN", "a training state at least that often; 0: by --dump alone"),
    FDM_OPTION_INT(T, s.seed, "seed", 0, INT64_MAX, "N", "random seed (default: random)"),
    FDM_OPTION_STRING(T, s.transfer, "transfer", "FILE", "model file to start from"),
    FDM_OPTION_STRING(T, resume, "resume", "DIR", "run directory to go on with"),
    FDM_OPTION_FLAG(T, warmup_restart, "warmup_restart", "with --resume: the warm-up starts over, as published"),
    FDM_OPTION_ENUM(T, recompute, "recompute", recompute_choices, "save memory by computing twice: nothing, norms, whole blocks"),
    FDM_OPTION_RANK_TIMEOUT(T, rank_timeout),
    FDM_OPTION_STRING(T, trace_comm, "trace-comm", "FILE", "among MPI ranks: when messages were under way, for chrome://tracing"),
    FDM_OPTION_FLAG(T, nosubdir, "nosubdir", "use --outdir itself as the run directory"),
    {.name = "dry-run", .letter = 'n', .type = FDM_TYPE_FLAG, .offset = FDM_OFFSET(T, dry_run, bool),
     .help = "say what would be done, and do nothing"},
    FDM_OPTION_END,
};
#undef T

/* --- settings --- */

static fdm_status copy_list(int *to, int *count, int most, const struct fdm_intlist *list, const char *name, fdm_error *err) {
    if (!list->count) return FDM_OK;
    if (list->count > (size_t)most) return fdm_fail(err, FDM_BAD_USAGE, "--%s: at most %d numbers", name, most);
    for (size_t i = 0; i < list->count; i++) to[i] = (int)list->items[i];
    *count = (int)list->count;
    return FDM_OK;
}

static fdm_status random_seed(int64_t *seed, fdm_error *err) {
    uint32_t word;
    if (getrandom(&word, sizeof word, 0) != (ssize_t)sizeof word)
        return fdm_fail(err, FDM_NO_RESOURCE, "no random seed from the system (%s); give --seed", strerror(errno));
    *seed = word & 0x7fffffff;
    return FDM_OK;
}

static fdm_status fresh_settings(fdm_train_settings *s, const struct fdm_cli *cli, const struct train_options *o,
                                 fdm_error *err) {
    fdm_conv_mode conv = FDM_CONV_DEFAULT;
    const fdm_train_settings published = fdm_train_defaults();
    *s = o->s;
    if (o->warmup_restart) return fdm_fail(err, FDM_BAD_USAGE, "--warmup_restart belongs to --resume");
    s->cond = o->cond & 1;
    s->xflip = o->xflip & 1;
    s->arch = o->arch;
    s->precond = o->precond;
    if (cli->conv) (void)fdm_conv_mode_find(&conv, cli->conv); /* one of the option's choices */
    s->conv = (int)conv;
    s->levels = published.levels;
    memcpy(s->cres, published.cres, sizeof s->cres);
    s->attn_count = published.attn_count;
    memcpy(s->attn_resolutions, published.attn_resolutions, sizeof s->attn_resolutions);
    if (s->image_snap < 0) s->image_snap = s->snap;
    fdm_status status = copy_list(s->cres, &s->levels, FDM_MAX_LEVELS, &o->cres, "cres", err);
    if (status == FDM_OK)
        status = copy_list(s->attn_resolutions, &s->attn_count, FDM_MAX_ATTN, &o->attn, "attn_resolutions", err);
    if (status == FDM_OK && o->attn.count == 1 && o->attn.items[0] == 0) s->attn_count = 0;
    if (status == FDM_OK && s->seed < 0) status = random_seed(&s->seed, err);
    return status;
}

/* What may change when a run goes on: none of it enters the weights but duration, which only says when to stop. */
static fdm_status resumed_settings(fdm_train_settings *s, const struct fdm_cli *cli, const struct train_options *o,
                                   fdm_error *err) {
    static const char *const fixed[] = {"cond", "arch", "precond", "batch", "batch-gpu", "cbase", "cres", "num_blocks",
                                        "attn_resolutions", "lr", "lr_rampup", "ema", "dropout", "label_dropout", "augment",
                                        "xflip", "warmup_ite", "fdm_multiplier", "zeta", "ls", "seed", "transfer", "outdir",
                                        "nosubdir"};
    for (size_t i = 0; i < FDM_ARRAY_LEN(fixed); i++)
        if (fdm_cli_given(cli, fixed[i]))
            return fdm_fail(err, FDM_BAD_USAGE, "--%s cannot be given with --resume: the run directory says what it is", fixed[i]);
    if (cli->conv)
        return fdm_fail(err, FDM_BAD_USAGE, "--conv cannot be given with --resume: the run directory says what it is");
    fdm_status status = fdm_train_settings_read(s, o->resume, err);
    if (status != FDM_OK) return status;
    s->warmup_restart = o->warmup_restart;
    if (fdm_cli_given(cli, "duration")) s->duration = o->s.duration;
    if (fdm_cli_given(cli, "tick")) s->tick = o->s.tick;
    if (fdm_cli_given(cli, "snap")) s->snap = o->s.snap;
    if (fdm_cli_given(cli, "dump")) s->dump = o->s.dump;
    if (fdm_cli_given(cli, "save-minutes")) s->save_minutes = o->s.save_minutes;
    if (fdm_cli_given(cli, "image-snap")) s->image_snap = o->s.image_snap;
    if (fdm_cli_given(cli, "image-count")) s->image_count = o->s.image_count;
    if (fdm_cli_given(cli, "image-steps")) s->image_steps = o->s.image_steps;
    if (fdm_cli_given(cli, "data")) {
        char *moved = fdm_strdup(o->s.data);
        if (!moved) return fdm_fail_oom(err, "path", strlen(o->s.data));
        free((char *)(uintptr_t)s->data);
        s->data = moved;
    }
    return FDM_OK;
}

/* --- the run directory's name --- */

/* One more than the largest number at the start of a name in `outdir`. */
static int next_number(const char *outdir) {
    int next = 0;
    DIR *folder = opendir(outdir);
    for (const struct dirent *entry; folder && (entry = readdir(folder));) {
        const size_t digits = strspn(entry->d_name, "0123456789");
        if (digits < 5 || digits > 8) continue;
        const int number = (int)strtol(entry->d_name, NULL, 10);
        if (number >= next) next = number + 1;
    }
    if (folder) (void)closedir(folder);
    return next;
}

/* outdir/00000-emoji32-cond-ddpmpp-fdm_edm-batch512 */
static fdm_status run_dir_name(char *out, size_t size, const struct train_options *o, const fdm_train_settings *s,
                               fdm_error *err) {
    const size_t end = strlen(s->data), slashes = end && s->data[end - 1] == '/';
    size_t start = end - slashes;
    while (start && s->data[start - 1] != '/') start--;
    int length = (int)(end - slashes - start);
    if (length > 4 && strncmp(s->data + end - slashes - 4, ".zip", 4) == 0) length -= 4;
    const int n = o->nosubdir ? snprintf(out, size, "%s", o->outdir)
                              : snprintf(out, size, "%s/%05d-%.*s-%s-%s-%s-batch%" PRId64, o->outdir, next_number(o->outdir),
                                         length < 64 ? length : 64, s->data + start, s->cond ? "cond" : "uncond",
                                         arch_choices[s->arch], fdm_precond_name((fdm_precond_kind)s->precond), s->batch);
    return n >= 0 && (size_t)n < size ? FDM_OK : fdm_fail(err, FDM_BAD_USAGE, "--outdir: the path is too long");
}

/* --- what the run says --- */

struct session {
    const struct fdm_cli *cli;
    struct fdm_progress progress;
    fdm_run_options how;
    double rank_timeout;
    bool started;
};

static void say(void *user, const char *line) {
    struct session *session = user;
    if (session->cli->quiet) return;
    if (session->started) fdm_progress_pause(&session->progress);
    printf("%s\n", line);
    (void)fflush(stdout);
}

/* Ranks are in step from the first update on, but not while they draw: a wish to stop ends that on the rank that is asked at
 * once, on the others when they are done. */
static void in_step(const struct session *s, bool yes) { fdm_world_set_patience(s->cli->world, s->rank_timeout, yes ? HURRY : 0); }

static void show_progress(void *user, int64_t images, int64_t total, double loss) {
    struct session *session = user;
    char note[48];
    if (!session->started) {
        fdm_progress_start(&session->progress, session->cli, "training", "images", total);
        session->progress.skipped = images;
        in_step(session, true);
        session->started = true;
    }
    if (isnan(loss) && images == session->progress.skipped) return; /* the start */
    snprintf(note, sizeof note, "loss %.4g", loss);
    fdm_progress_note(&session->progress, note);
    fdm_progress_update(&session->progress, images);
}

/* --- pictures of samples --- */

enum { SAMPLED_AT_ONCE = 8 }; /* more would cost memory beside the training step's; the number changes no bits */

struct sampled {
    fdm_denoiser *denoiser;
    double *labels; /* of the images in work, or NULL */
    double sigma[SAMPLED_AT_ONCE];
};

static fdm_status call_denoiser(void *ctx, int n, double *D, const double *x, double sigma, fdm_error *err) {
    struct sampled *s = ctx;
    for (int i = 0; i < n; i++) s->sigma[i] = sigma;
    const fdm_denoise_args args = {
        .n = n, .x = x, .sigma = s->sigma, .class_labels = s->labels, .stop = fdm_stop_if_interrupted};
    return fdm_denoise(s->denoiser, D, &args, err);
}

/* Images first .. first+n-1 of a picture: seeds 0, 1, ... and classes in turn, so every picture of a run shows the same
 * attempts. */
static fdm_status draw_samples(uint8_t *pixels, struct sampled *s, int first, int n, int steps, fdm_error *err) {
    const fdm_config *c = fdm_denoiser_config(s->denoiser);
    const size_t per = (size_t)c->img_channels * (size_t)c->img_resolution * (size_t)c->img_resolution;
    const size_t label_dim = (size_t)c->label_dim;
    fdm_sample_options how = fdm_sample_defaults();
    how.num_steps = steps;
    double *x = malloc((size_t)n * per * sizeof *x);
    float *latents = malloc((size_t)n * per * sizeof *latents);
    fdm_status status = x && latents ? FDM_OK : fdm_fail_oom(err, "samples", (size_t)n * per * sizeof *x);
    if (s->labels) memset(s->labels, 0, (size_t)n * label_dim * sizeof *s->labels);
    for (int i = 0; i < n && status == FDM_OK; i++) {
        fdm_rng rng;
        const uint64_t seed = (uint64_t)(first + i);
        fdm_sample_seed_rngs(&rng, FDM_RNG_TORCH_CPU, &seed, 1);
        fdm_sample_draw_latents(latents + (size_t)i * per, NULL, &rng, 1, per, 0);
        if (s->labels) s->labels[(size_t)i * label_dim + seed % label_dim] = 1;
    }
    const fdm_denoise_fn net = {call_denoiser, s, c->precond.sigma_min, c->precond.sigma_max, n, c->img_channels,
                                c->img_resolution, c->img_resolution};
    if (status == FDM_OK) status = fdm_sample(x, NULL, latents, &net, NULL, NULL, &how, err);
    for (int i = 0; i < n && status == FDM_OK; i++)
        fdm_pixels_from_x(pixels + (size_t)(first + i) * per, x + (size_t)i * per, c->img_channels, c->img_resolution,
                          c->img_resolution);
    free(x);
    free(latents);
    return status;
}

/* This rank's images of a picture. */
static fdm_status draw_share(uint8_t *pixels, const fdm_tensors *model, const char *path, const fdm_config *c,
                             fdm_ranks_share mine, int steps, const fdm_run_options *how, fdm_error *err) {
    struct sampled s = {0};
    fdm_status status = fdm_denoiser_create(&s.denoiser, c, model, path, how, err);
    if (status == FDM_OK && c->label_dim) {
        s.labels = calloc((size_t)SAMPLED_AT_ONCE * (size_t)c->label_dim, sizeof *s.labels);
        if (!s.labels) status = fdm_fail_oom(err, "labels", (size_t)c->label_dim);
    }
    for (int first = (int)mine.first; first < mine.end && status == FDM_OK; first += SAMPLED_AT_ONCE)
        status = draw_samples(pixels, &s, first, fdm_min_int(SAMPLED_AT_ONCE, (int)mine.end - first), steps, err);
    fdm_denoiser_free(&s.denoiser);
    free(s.labels);
    return status;
}

static fdm_status write_picture(const uint8_t *pixels, int count, const fdm_config *c, const char *path, fdm_error *err) {
    fdm_image grid = {0};
    fdm_status status =
        fdm_image_grid(&grid, pixels, count, c->img_channels, c->img_resolution, c->img_resolution, false, 0, err);
    if (status == FDM_OK) status = fdm_png_write(path, grid.pixels, grid.width, grid.height, grid.channels, err);
    fdm_image_free(&grid);
    return status;
}

/* On all ranks. */
static fdm_status share_picture(const struct session *session, const fdm_tensors *model, const char *path, int count, int steps,
                                fdm_error *err) {
    const fdm_ranks *ranks = session->how.ranks;
    fdm_config c;
    uint8_t *pixels = NULL;
    fdm_status status = fdm_config_from_tensors(&c, model, path, err);
    const size_t per = status == FDM_OK ? (size_t)c.img_channels * (size_t)c.img_resolution * (size_t)c.img_resolution : 0;
    if (status == FDM_OK && !(pixels = malloc((size_t)count * per))) status = fdm_fail_oom(err, "samples", (size_t)count * per);
    if (status == FDM_OK)
        status = draw_share(pixels, model, path, &c, fdm_ranks_share_of(ranks, count), steps, &session->how, err);
    status = fdm_ranks_agree(ranks, status, NULL, err);
    if (status == FDM_OK) status = fdm_ranks_gather(ranks, pixels, per, count, err);
    if (status == FDM_OK && fdm_ranks_is_first(ranks)) status = write_picture(pixels, count, &c, path, err);
    free(pixels);
    return status;
}

static fdm_status sample_picture(void *user, const fdm_tensors *model, const char *path, int count, int steps,
                                 fdm_error *err) {
    in_step(user, false);
    const fdm_status status = share_picture(user, model, path, count, steps, err);
    in_step(user, true);
    return status;
}

/* --- the command --- */

static fdm_status dry_run(const fdm_train_settings *s, const char *run_dir, const fdm_run_options *how, fdm_error *err) {
    char *text, *json;
    const fdm_status status = fdm_train_describe(&text, s, how, err);
    if (status != FDM_OK) return status;
    json = fdm_train_settings_json(s);
    if (fdm_ranks_is_first(how->ranks))
        printf("run directory %s\n%s\nsettings     %s\nnothing was done (--dry-run)\n", run_dir, text, json ? json : "");
    free(text);
    free(json);
    return FDM_OK;
}

enum { PATH_ROOM = 4096 };

/* Settings and run directory, from the options. */
static fdm_status choose_run(fdm_train_settings *s, char run_dir[PATH_ROOM], const struct fdm_cli *cli,
                             const struct train_options *o, fdm_error *err) {
    fdm_status status = o->resume ? resumed_settings(s, cli, o, err) : fresh_settings(s, cli, o, err);
    if (status == FDM_OK) status = fdm_train_check(s, err);
    if (status == FDM_OK && o->resume && snprintf(run_dir, PATH_ROOM, "%s", o->resume) >= PATH_ROOM)
        status = fdm_fail(err, FDM_BAD_USAGE, "--resume: the path is too long");
    if (status == FDM_OK && !o->resume) status = run_dir_name(run_dir, PATH_ROOM, o, s, err);
    return status;
}

/* Rank 0 chooses; the others get its settings as JSON.  *owned: the strings of *s are. */
static fdm_status agree_on_run(fdm_train_settings *s, char run_dir[PATH_ROOM], bool *owned, const struct fdm_cli *cli,
                               const struct train_options *o, fdm_error *err) {
    const bool first = fdm_ranks_is_first(cli->ranks);
    fdm_status status = first ? choose_run(s, run_dir, cli, o, err) : FDM_OK;
    char *json = first && status == FDM_OK && cli->ranks ? fdm_train_settings_json(s) : NULL;
    *owned = first && o->resume;
    if (!cli->ranks) return status;
    if (first && status == FDM_OK && !json) status = fdm_fail_oom(err, "settings", 0);
    uint64_t bytes = json ? strlen(json) + 1 : 0;
    status = fdm_ranks_agree(cli->ranks, status, NULL, err);
    if (status == FDM_OK) status = fdm_ranks_broadcast(cli->ranks, &bytes, sizeof bytes, err);
    if (status == FDM_OK && !json && !(json = malloc(bytes))) status = fdm_fail_oom(err, "settings", bytes);
    status = fdm_ranks_agree(cli->ranks, status, NULL, err);
    if (status == FDM_OK) status = fdm_ranks_broadcast(cli->ranks, json, bytes, err);
    if (status == FDM_OK) status = fdm_ranks_broadcast(cli->ranks, run_dir, PATH_ROOM, err);
    if (status == FDM_OK && !first) status = fdm_train_settings_parse(s, json, bytes - 1, "settings of rank 0", err);
    if (!first) *owned = status == FDM_OK;
    s->warmup_restart = o->warmup_restart;
    free(json);
    return fdm_ranks_agree(cli->ranks, status, NULL, err);
}

static fdm_status run(const struct fdm_cli *cli, const void *values, fdm_error *err) {
    const struct train_options *o = values;
    struct session session = {.cli = cli, .how = fdm_cli_run_options(cli), .rank_timeout = o->rank_timeout};
    fdm_train_settings s = {0};
    bool owned = false;
    char run_dir[PATH_ROOM] = "";
    session.how.recompute = (fdm_recompute)o->recompute;
    session.how.ranks = cli->ranks;
    in_step(&session, false);
    if (!o->resume && (!o->outdir || !o->s.data))
        return fdm_fail(err, FDM_BAD_USAGE, "--outdir and --data (or --resume) are required; see fdm help train");
    if (o->trace_comm && !cli->ranks)
        return fdm_fail(err, FDM_BAD_USAGE, "--trace-comm: there are no messages on one rank; start several with mpirun -n");
    fdm_status status = agree_on_run(&s, run_dir, &owned, cli, o, err);
    if (status == FDM_OK) session.how.conv = fdm_conv_mode_name((fdm_conv_mode)s.conv); /* sampled pictures too */
    const fdm_train_hooks hooks = {&session, say, show_progress, sample_picture, fdm_stop_if_interrupted, o->trace_comm};
    if (status == FDM_OK && o->dry_run) status = dry_run(&s, run_dir, &session.how, err);
    else if (status == FDM_OK) {
        status = fdm_train(run_dir, &s, o->resume != NULL, &session.how, &hooks, err);
        in_step(&session, false);
        if (session.started) fdm_progress_end(&session.progress, status == FDM_OK);
    }
    if (owned) fdm_train_settings_free(&s);
    return status;
}

const struct fdm_command fdm_cmd_train = {
    .name = "train",
    .arguments = "",
    .summary = "a training run, resumable to the bit",
    .description =
        "Trains a network on a data set (see fdm help dataset) as published, in a run directory:\n"
        "  training_options.json   log.txt   stats.jsonl (one line a tick)   reals.png\n"
        "  network-snapshot-KIMG.safetensors   the averaged network, a model file for fdm sample\n"
        "  fakesKIMG.png                       its samples from fixed seeds, classes in turn\n"
        "  training-state-IMAGES.safetensors   everything that --resume needs; the newest two are kept\n"
        "SIGINT, SIGTERM and SIGUSR1 finish the update, save and exit with 130.  A run that was stopped or killed at any time and\n"
        "resumed ends in the same bits as one left alone, whatever the threads or the instruction set.  With --resume only\n"
        "--duration, --tick, --snap, --dump, --save-minutes, --image-*, --data (if it has moved), --warmup_restart and how to\n"
        "compute can be given.\n"
        "mpirun -n N fdm train ... (or srun) shares every batch among N processes, a power of two, with the bits of one; --batch\n"
        "is the total, every process sees the data, the first one alone the run directory.  A run may go on with another N.\n"
        "A loss that is NaN or infinite is named with its image; its gradient is cleaned (NaN 0, infinity 1e5) as published.",
    .examples =
        "  fdm train --outdir runs --data data/emoji32.zip --cond 1 --cbase 32 --batch 64 --duration 0.5 --tick 5 --snap 10\n"
        "  fdm train --outdir runs --data cifar10.zip --precond fdm_edm --warmup_ite 400 --batch-gpu 8 -n\n"
        "  mpirun --bind-to none -n 4 fdm train --outdir runs --data cifar10.zip --batch 512 --batch-gpu 16 --threads 8\n"
        "  fdm train --resume runs/00000-emoji32-cond-ddpmpp-fdm_edm-batch64 --duration 1\n",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .over_ranks = true,
    .run = run,
};
