/* test_train_ranks.c - whole training runs over ranks that are threads: the files of one rank, another number of ranks, a
 * damaged image, a wish to stop, other data, weights that a fault has changed, a rank that is lost. */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archives.h"
#include "base/base.h"
#include "fdm/train.h"
#include "io_util.h"
#include "thread_ranks.h"
#include "train/training.h"

/* A run, and how each rank takes part. */
struct job {
    char dir[300], data[300];
    char other_data[300]; /* what rank 1 sees instead; "": the same */
    double images;
    int threads; /* of each; 0: one */
    bool resume, spoil;
    int lost_at; /* the message before which rank 1 is lost, counted from 0 in the update that follows 16 images; -1: never */
    int stop_rank; /* asks to stop from the start; -1: none does */
    fdm_status expected;
    const char *mention;
    int pictures[MAX_THREAD_RANKS];
};

struct part {
    struct job *job;
    const fdm_ranks *ranks; /* as they are */
    int updates, messages;  /* updates begun; messages since the one in which rank 1 is lost began */
    atomic_bool broken;     /* as struct fdm_world: who has lost one waits no more; the thread that sends gradients asks, too */
};

static fdm_status exchange(const fdm_ranks *ranks, const fdm_exchange *what, fdm_error *err) {
    struct part *p = ranks->user;
    const bool counts = what->channel != FDM_CHANNEL_GRADIENT && p->updates == 3;
    if (p->broken || (counts && ranks->rank == 1 && p->messages++ == p->job->lost_at)) p->broken = true;
    if (!p->broken && p->ranks->exchange(p->ranks, what, err) == FDM_OK) return FDM_OK;
    p->broken = true;
    return fdm_fail(err, FDM_NO_RESOURCE, "rank %d waits in vain", ranks->rank);
}

/* A picture in which only rank 0's file matters; with `spoil`, rank 1's averaged weights change meanwhile. */
static fdm_status sample(void *user, const fdm_tensors *model, const char *path, int count, int steps, fdm_error *err) {
    struct part *p = user;
    (void)path;
    (void)count;
    (void)steps;
    (void)err;
    p->job->pictures[p->ranks->rank]++;
    if (p->job->spoil && p->ranks->rank == 1) ((float *)model->items[0].data)[0] = 1e30f; /* averaging does not hide it */
    return FDM_OK;
}

/* Asked once in every update, before the first of its messages that are not gradients. */
static bool stop(void *user) {
    struct part *p = user;
    p->updates++;
    return p->ranks->rank == p->job->stop_rank;
}

static void train(const fdm_ranks *r, void *user) {
    struct job *j = user;
    struct part p = {.job = j, .ranks = r};
    fdm_ranks watched = *r;
    watched.user = &p;
    watched.exchange = exchange;
    const fdm_train_hooks hooks = {.user = &p, .sample = sample, .stop = stop};
    const fdm_run_options run = {.threads = j->threads ? j->threads : 1, .ranks = &watched};
    fdm_error err = {0};
    fdm_train_settings s = fdm_train_defaults();
    s.data = r->rank == 1 && j->other_data[0] ? j->other_data : j->data;
    s.cond = 1;
    s.batch = 8;
    s.batch_gpu = 4;
    s.cbase = 8;
    s.levels = 2;
    s.cres[0] = s.cres[1] = 1;
    s.num_blocks = 1;
    s.attn_count = 0;
    s.precond = FDM_PRECOND_FDM_EDM;
    s.warmup_ite = 9;
    s.label_dropout = 0.2;
    s.duration = j->images * 1e-6;
    s.tick = 0.016;
    s.snap = s.image_snap = s.dump = 1;
    s.seed = 3;
    const fdm_status status = fdm_train(j->dir, &s, j->resume, &run, &hooks, &err);
    if (j->expected == FDM_OK) ck_assert_msg(status == FDM_OK, "rank %d: %s", r->rank, err.message);
    else check_refused(status, j->expected, &err, j->mention);
}

static struct job make_job(const char *name, double images) {
    struct job j = {.images = images, .stop_rank = -1, .lost_at = -1};
    snprintf(j.dir, sizeof j.dir, "%s", scratch(name));
    snprintf(j.data, sizeof j.data, "%s/data_toy16.zip", FDM_TEST_GOLDEN_DIR);
    return j;
}

static void check_same_file(const struct job *a, const struct job *b, const char *name) {
    char path[700];
    size_t bytes[2];
    snprintf(path, sizeof path, "%s/%s", a->dir, name);
    unsigned char *x = read_bytes(path, &bytes[0]);
    snprintf(path, sizeof path, "%s/%s", b->dir, name);
    unsigned char *y = read_bytes(path, &bytes[1]);
    ck_assert_msg(bytes[0] == bytes[1] && memcmp(x, y, bytes[0]) == 0, "%s: other bytes", path);
    free(x);
    free(y);
}

static const char last[] = "training-state-000000048.safetensors";

START_TEST(files_of_one_rank) {
    struct job one = make_job("one", 48);
    run_thread_ranks(1, 0, train, &one);
    for (int size = 2; size <= 8; size *= 2) {
        struct job several = make_job("several", 48);
        several.dir[strlen(several.dir) - 1] = (char)('0' + size);
        run_thread_ranks(size, 60, train, &several);
        check_same_file(&one, &several, last);
        check_same_file(&one, &several, "network-snapshot-000000.safetensors");
        check_same_file(&one, &several, "training_options.json");
        for (int r = 0; r < size; r++) ck_assert_int_eq(several.pictures[r], one.pictures[0]);
    }
}
END_TEST

START_TEST(stopped_and_gone_on_with) {
    struct job one = make_job("left_alone", 48), several = make_job("stopped", 48);
    run_thread_ranks(1, 0, train, &one);
    static const int sizes[] = {4, 2, 1, 8};
    for (int i = 0; i < 4; i++) { /* each is asked to stop at once, and makes one update */
        several.stop_rank = sizes[i] - 1;
        several.expected = FDM_INTERRUPTED;
        several.mention = "interrupted";
        several.resume = i > 0;
        run_thread_ranks(sizes[i], 60, train, &several);
    }
    several.stop_rank = -1;
    several.expected = FDM_OK;
    run_thread_ranks(2, 60, train, &several);
    check_same_file(&one, &several, last);
}
END_TEST

/* Data with one image whose pixels are damaged: only when a rank gets there does it show. */
static void spoil_image(struct job *j) {
    size_t bytes, at = 0;
    unsigned char *zip = read_bytes(j->data, &bytes);
    for (size_t i = 0; i + 20 < bytes && !at; i++)
        if (memcmp(zip + i, "IDAT", 4) == 0) at = i + 12;
    ck_assert_uint_gt(at, 0);
    zip[at] ^= 0x55;
    snprintf(j->data, sizeof j->data, "%s", scratch("spoiled.zip"));
    write_bytes(j->data, zip, bytes);
    free(zip);
}

START_TEST(a_damaged_image_ends_all) {
    struct job j = make_job("damaged", 4800);
    spoil_image(&j);
    j.expected = FDM_BAD_INPUT;
    j.mention = "spoiled.zip";
    run_thread_ranks(4, 60, train, &j);
}
END_TEST

START_TEST(a_batch_that_does_not_split) {
    struct job j = make_job("three", 48);
    j.expected = FDM_BAD_USAGE;
    j.mention = "cannot be shared by 3 ranks";
    run_thread_ranks(3, 60, train, &j);
    ck_assert_int_ne(access(j.dir, F_OK), 0);
}
END_TEST

/* Four images with their classes, the last one as it is told. */
static void write_set(char path[300], const char *name, int seed, int class) {
    struct archive *a = archive_fresh();
    char json[200];
    size_t bytes;
    for (int i = 0; i < 4; i++) {
        snprintf(json, sizeof json, "%d.png", i);
        archive_picture(a, json, i < 3 ? i : seed, 16, 16, 3);
    }
    snprintf(json, sizeof json, "{\"labels\": [[\"0.png\", 0], [\"1.png\", 1], [\"2.png\", 2], [\"3.png\", %d]]}", class);
    archive_text(a, "dataset.json", json);
    unsigned char *zip = archive_finished(a, &bytes);
    snprintf(path, 300, "%s", scratch(name));
    write_bytes(path, zip, bytes);
    free(zip);
}

START_TEST(other_data_are_found) {
    struct job j = make_job("other", 48);
    write_set(j.data, "set.zip", 3, 0);
    j.expected = FDM_BAD_INPUT;
    write_set(j.other_data, "other_image.zip", 4, 0);
    j.mention = "other_image.zip: not what rank 0 has: the checksum of the images' names, sizes and contents is ";
    run_thread_ranks(2, 60, train, &j);
    j.dir[strlen(j.dir) - 1] = '2';
    write_set(j.other_data, "other_label.zip", 3, 1);
    j.mention = "other_label.zip: not what rank 0 has: the checksum of the labels is ";
    run_thread_ranks(2, 60, train, &j);
}
END_TEST

START_TEST(cores_that_idle_or_are_fought_for) {
    char line[256];
    struct fdm_seat seats[] = {{7, 8, 1, 64}, {7, 8, 1, 64}, {9, 99, 64, 64}}; /* mpirun -n 2 of Open MPI; another node */
    ck_assert(fdm_seats_remark(line, seats, 3));
    ck_assert_ptr_nonnull(strstr(line, "the 2 ranks of this node are tied to 2 of its 64 cores"));
    for (int i = 0; i < 2; i++) seats[i].usable = 64; /* --bind-to none */
    ck_assert(!fdm_seats_remark(line, seats, 3));
    for (int i = 0; i < 2; i++) seats[i].threads = 33;
    ck_assert(fdm_seats_remark(line, seats, 3));
    ck_assert_ptr_nonnull(strstr(line, "have 66 threads for 64 cores, and wait for each other; --threads 32 would fit"));
    for (int i = 0; i < 2; i++) seats[i] = (struct fdm_seat){7, 31, 32, 64}; /* one to a socket */
    ck_assert(!fdm_seats_remark(line, seats, 3));
    seats[0].usable = 16, seats[0].threads = 16;
    ck_assert(!fdm_seats_remark(line, seats, 2)); /* 48 of 64, by 47 threads */
}
END_TEST

/* The line of a run that says it, of one too many threads on whatever this machine has. */
START_TEST(ranks_say_their_threads) {
    struct job j = make_job("threads", 8);
    j.threads = (int)sysconf(_SC_NPROCESSORS_ONLN) / 2 + 1;
    char path[400], want[64];
    size_t bytes;
    run_thread_ranks(2, 60, train, &j);
    snprintf(path, sizeof path, "%s/log.txt", j.dir);
    snprintf(want, sizeof want, "each with 4 images of an update; %d threads on ", j.threads);
    char *log = (char *)read_bytes(path, &bytes);
    ck_assert_ptr_nonnull(memmem(log, bytes, want, strlen(want)));
    ck_assert_ptr_nonnull(memmem(log, bytes, "\nwarning: the 2 ranks of this node ", 35));
    free(log);
}
END_TEST

START_TEST(changed_weights_are_found) {
    struct job j = make_job("faulty", 48);
    j.spoil = true;
    j.expected = FDM_NO_RESOURCE;
    j.mention = "rank 1: after 24 images its weights are not those of rank 0";
    run_thread_ranks(2, 60, train, &j);
}
END_TEST

/* Rank 1 is lost while all agree on the gradient, while losses are gathered, and (the tick ends with this update) before the
 * weights are compared: rank 0 saves all that has been trained, and a run that goes on from there ends in the same bits. */
START_TEST(a_lost_rank_leaves_a_state) {
    static const struct {
        int message;
        const char *state;
    } cases[] = {{0, "000000016"}, {2, "000000016"}, {4, "000000024"}};
    struct job one = make_job("never_lost", 48), two = make_job("lost", 48);
    run_thread_ranks(1, 0, train, &one);
    for (size_t i = 0; i < FDM_ARRAY_LEN(cases); i++) {
        char path[400];
        two.dir[strlen(two.dir) - 1] = (char)('0' + i);
        two.resume = false;
        two.lost_at = cases[i].message;
        two.expected = FDM_NO_RESOURCE;
        two.mention = "waits in vain";
        run_thread_ranks(2, 1, train, &two);
        snprintf(path, sizeof path, "%s/training-state-%s.safetensors", two.dir, cases[i].state);
        ck_assert_msg(access(path, F_OK) == 0, "lost at message %d: %s is not there", cases[i].message, path);
        two.resume = true;
        two.lost_at = -1;
        two.expected = FDM_OK;
        run_thread_ranks(1, 0, train, &two);
        check_same_file(&one, &two, last);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("train_ranks");
    TCase *tc = tcase_create("train_ranks");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, files_of_one_rank);
    tcase_add_test(tc, stopped_and_gone_on_with);
    tcase_add_test(tc, a_damaged_image_ends_all);
    tcase_add_test(tc, a_batch_that_does_not_split);
    tcase_add_test(tc, other_data_are_found);
    tcase_add_test(tc, cores_that_idle_or_are_fought_for);
    tcase_add_test(tc, ranks_say_their_threads);
    tcase_add_test(tc, changed_weights_are_found);
    tcase_add_test(tc, a_lost_rank_leaves_a_state);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
