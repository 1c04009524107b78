/* test_ranks.c - ranks as threads: sharing, agreeing, gathering; gradients summed over them to the bits of one rank, while
 * the backward pass goes on; ranks that fail or do not answer. */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "gradient_trees.h"
#include "io_util.h"
#include "nn/network.h"
#include "thread_ranks.h"
#include "trainers.h"
#include "train/rank_tree.h"
#include "train/trainer.h"

static const int sizes[] = {1, 2, 3, 4, 5, 8};

/* ---- the small collective functions ---- */

START_TEST(shares_cover_everything_once) {
    for (int size = 1; size <= 9; size++)
        for (int64_t count = 0; count < 40; count++) {
            const fdm_ranks r = {.rank = size - 1, .size = size};
            int64_t next = 0;
            for (int rank = 0; rank < size; rank++) {
                const fdm_ranks_share s = fdm_ranks_share_for(&r, count, rank);
                ck_assert_int_eq(s.first, next);
                ck_assert_int_ge(s.end - s.first, count / size);
                ck_assert_int_le(s.end - s.first, (count + size - 1) / size);
                next = s.end;
            }
            ck_assert_int_eq(next, count);
            ck_assert_int_eq(fdm_ranks_share_of(&r, count).end, count);
        }
    ck_assert_int_eq(fdm_ranks_share_of(NULL, 7).first, 0);
    ck_assert_int_eq(fdm_ranks_share_of(NULL, 7).end, 7);
}
END_TEST

enum { ITEMS = 13 };

static void tell_and_gather(const fdm_ranks *r, void *user) {
    int64_t told[3] = {0}, items[ITEMS];
    (void)user;
    if (r->rank == 0) told[0] = 5, told[1] = 6, told[2] = 7;
    ck_assert_int_eq(fdm_ranks_broadcast(r, told, sizeof told, NULL), FDM_OK);
    ck_assert(told[0] == 5 && told[1] == 6 && told[2] == 7);
    for (int64_t count = 0; count <= ITEMS; count++) {
        const fdm_ranks_share mine = fdm_ranks_share_of(r, count);
        for (int64_t i = 0; i < count; i++) items[i] = i >= mine.first && i < mine.end ? 100 + i : -1;
        ck_assert_int_eq(fdm_ranks_gather(r, items, sizeof *items, count, NULL), FDM_OK);
        for (int64_t i = 0; r->rank == 0 && i < count; i++) ck_assert_int_eq(items[i], 100 + i);
        for (int64_t i = mine.first; i < mine.end; i++) ck_assert_int_eq(items[i], 100 + i);
    }
}

/* Ranks 1 and 3 fail in different ways; rank 2 is stopped. */
static void agree_on_failures(const fdm_ranks *r, void *user) {
    (void)user;
    fdm_error err = {0};
    unsigned flags = 1u << r->rank;
    ck_assert_int_eq(fdm_ranks_agree(r, FDM_OK, &flags, &err), FDM_OK);
    ck_assert_uint_eq(flags, (1u << r->size) - 1);
    static const fdm_status all[] = {FDM_MISMATCH, FDM_BAD_INPUT, FDM_INTERRUPTED, FDM_NO_RESOURCE, 0, 0, 0, 0};
    snprintf(err.message, sizeof err.message, "trouble %d", r->rank);
    const fdm_status agreed = fdm_ranks_agree(r, all[r->rank], NULL, &err);
    ck_assert_int_eq(agreed, r->size == 1 ? FDM_MISMATCH : FDM_BAD_INPUT);
    ck_assert_str_eq(err.message, r->size == 1 ? "trouble 0" : "rank 1: trouble 1");
    snprintf(err.message, sizeof err.message, "trouble %d", r->rank);
    ck_assert_int_eq(fdm_ranks_agree(r, r->rank ? FDM_OK : FDM_BAD_USAGE, NULL, &err), FDM_BAD_USAGE);
    ck_assert_str_eq(err.message, "trouble 0");
}

/* The last rank has another number of them. */
static void compare_facts(const fdm_ranks *r, void *user) {
    (void)user;
    fdm_error err = {0};
    const fdm_ranks_fact same[] = {{"its size", 7}, {"its checksum", INT64_MAX}};
    ck_assert_int_eq(fdm_ranks_check_same(r, "x.zip", same, 2, &err), FDM_OK);
    const fdm_ranks_fact facts[] = {{"its size", 7}, {"its checksum", 10 + (r->rank > 0 && r->rank == r->size - 1)}};
    const fdm_status status = fdm_ranks_check_same(r, "x.zip", facts, 2, &err);
    char expected[100];
    snprintf(expected, sizeof expected, "rank %d: x.zip: not what rank 0 has: its checksum is 11 instead of 10", r->size - 1);
    ck_assert_int_eq(status, r->size == 1 ? FDM_OK : FDM_BAD_INPUT);
    if (r->size > 1) ck_assert_str_eq(err.message, expected);
}

START_TEST(collective_functions) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        run_thread_ranks(sizes[i], 30, tell_and_gather, NULL);
        run_thread_ranks(sizes[i], 30, agree_on_failures, NULL);
        run_thread_ranks(sizes[i], 30, compare_facts, NULL);
    }
}
END_TEST

/* ---- the tree ---- */

static const size_t lengths[] = {1, 15, 16, 17, 33, 1000, 4099};
enum { LONGEST = 4099 };

/* Numbers whose sum depends on the order; some of them special. */
static float leaf_element(int rank, size_t i) {
    const uint32_t z = (uint32_t)(i * 2654435761u + (uint32_t)rank * 40503u + 12345u) * 2246822519u;
    if (i % 97 == 3) return rank % 2 ? -0.0f : 0.0f;
    if (i % 97 == 4) return -0.0f;
    if (i % 97 == 5 && rank == 1) return (float)INFINITY;
    return ldexpf((float)(z >> 8) - 8388608.0f, (int)(z & 15) - 30);
}

static void add_floats(void *user, void *left, const void *right, size_t count) {
    (void)user;
    for (size_t i = 0; i < count; i++) ((float *)left)[i] += ((const float *)right)[i];
}

static void sum_leaves(const fdm_ranks *r, void *user) {
    float (*sums)[LONGEST + 1] = user, scratch[LONGEST];
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        float *mine = sums[r->rank];
        for (size_t i = 0; i < lengths[k]; i++) mine[i] = leaf_element(r->rank, i);
        mine[lengths[k]] = 77;
        ck_assert_uint_le(fdm_rank_tree_scratch(lengths[k]), LONGEST);
        const struct fdm_rank_tree tree = {.ranks = r, .element = sizeof(float), .add = add_floats, .scratch = scratch};
        ck_assert_int_eq(fdm_rank_tree_sum(&tree, mine, lengths[k], NULL), FDM_OK);
        struct gradient_tree expected = gradient_tree(r->size, lengths[k]);
        for (int leaf = 0; leaf < r->size; leaf++) {
            for (size_t i = 0; i < lengths[k]; i++) scratch[i] = leaf_element(leaf, i);
            gradient_tree_push(&expected, scratch);
        }
        ck_assert_msg(memcmp(mine, gradient_tree_result(&expected), lengths[k] * sizeof *mine) == 0,
                      "rank %d of %d, %zu elements: other bits than the tree's", r->rank, r->size, lengths[k]);
        ck_assert_float_eq(mine[lengths[k]], 77);
        gradient_tree_free(&expected);
    }
}

START_TEST(sums_follow_the_tree) {
    static float sums[MAX_THREAD_RANKS][LONGEST + 1];
    for (int size = 2; size <= 8; size *= 2) run_thread_ranks(size, 30, sum_leaves, sums);
    /* The order matters for these numbers: a chain over the leaves gives other bits. */
    int other = 0;
    for (size_t i = 0; i < 1000; i++) {
        float chain = leaf_element(0, i);
        for (int leaf = 1; leaf < 8; leaf++) chain += leaf_element(leaf, i);
        other += memcmp(&chain, &sums[0][i], sizeof chain) != 0;
    }
    ck_assert_int_gt(other, 100);
}
END_TEST

/* ---- trainers ---- */

enum { UPDATES = 3 };

/* A way to train, and the trainer that did it on one rank. */
struct plan {
    fdm_trainer_options options;
    const struct runner *runner;
    int threads, batch_gpu, most; /* samples of a round of one rank; at most, of a round among ranks */
    bool no_augment, nan;
    char trace[300], nowhere[300]; /* files */
    int buckets; /* that the trace makes room for; 0: as many as there are */
    fdm_trainer *expected;
};

static fdm_gradient_args args_of(const struct plan *p, struct train_batch *b, int first, int n) {
    if (p->nan) b->y[192 * 5 + 7] = (double)NAN;
    fdm_gradient_args args = batch_part(b, first, n);
    if (p->no_augment) args.augment_labels = NULL;
    return args;
}

static void train_alone(struct plan *p) {
    p->expected = make_trainer(&p->options, p->runner, 1);
    for (int64_t u = 0; u < UPDATES; u++) {
        struct train_batch b = make_train_batch(u);
        for (int first = 0; first < BATCH; first += p->batch_gpu) {
            const fdm_gradient_args args = args_of(p, &b, first, p->batch_gpu);
            ck_assert_int_eq(fdm_trainer_round(p->expected, &args, NULL, NULL), FDM_OK);
        }
        ck_assert_int_eq(fdm_trainer_update(p->expected, NULL, NULL), FDM_OK);
    }
}

static void one_shared_update(fdm_trainer *t, const fdm_ranks *r, const struct plan *p) {
    struct train_batch b = make_train_batch(fdm_trainer_updates(t));
    const int share = BATCH / r->size, round = share < p->most ? share : p->most;
    fdm_status status = FDM_OK;
    fdm_error err = {0};
    for (int i = 0; i < share && status == FDM_OK; i += round) {
        const fdm_gradient_args args = args_of(p, &b, r->rank * share + i, round);
        status = fdm_trainer_round(t, &args, NULL, &err);
    }
    ck_assert_msg(fdm_trainer_agree(t, status, NULL, &err) == FDM_OK, "%s", err.message);
    ck_assert_int_eq(fdm_trainer_update(t, NULL, NULL), FDM_OK);
}

static void train_shared(const fdm_ranks *r, void *user) {
    const struct plan *p = user;
    char what[96];
    fdm_trainer *t = make_trainer(&p->options, p->runner, p->threads);
    ck_assert_int_eq(fdm_trainer_share(t, r, p->batch_gpu, NULL), FDM_OK);
    for (int u = 0; u < UPDATES; u++) one_shared_update(t, r, p);
    snprintf(what, sizeof what, "%s, rank %d of %d, %d threads, rounds of %d", p->runner->label, r->rank, r->size, p->threads,
             p->most);
    check_same_trainers(p->expected, t, what);
    ck_assert_double_eq(fdm_trainer_warmup(p->expected)->value, fdm_trainer_warmup(t)->value);
    fdm_trainer_free(&t);
}

static void compare_ranks(struct plan *p) {
    train_alone(p);
    for (int size = 2; size <= 8; size *= 2) run_thread_ranks(size, 60, train_shared, p);
    fdm_trainer_free(&p->expected);
}

static const struct runner best = {"best", "auto", NULL, true, NULL};

START_TEST(same_bits_as_one_rank) {
    struct runner list[MAX_RUNNERS];
    const int count = runners(list);
    for (int k = 0; k < count; k++) {
        struct plan p = {.options = small_options(), .runner = &list[k], .threads = 1 + k % 2, .batch_gpu = BATCH, .most = BATCH};
        compare_ranks(&p);
    }
}
END_TEST

START_TEST(rounds_and_warm_up) {
    struct plan p = {.options = small_options(), .runner = &best, .threads = 2, .batch_gpu = 4};
    p.options.warmup_ite = 5; /* calls: it ends within the third update */
    for (p.most = 1; p.most <= 4; p.most *= 2) compare_ranks(&p);
}
END_TEST

START_TEST(unreached_and_not_finite) {
    struct runner reference = {"reference", "reference", NULL, false, NULL};
    for (int k = 0; k < 2; k++) {
        struct plan p = {.options = small_options(), .runner = k ? &best : &reference, .threads = 1, .batch_gpu = 2, .most = 2,
                         .no_augment = true, .nan = true};
        p.options.loss_scaling = 1e12; /* whatever is left in memory shows */
        compare_ranks(&p);
    }
}
END_TEST

START_TEST(batches_that_fit) {
    static const struct {
        int64_t batch, batch_gpu;
        int ranks;
        bool fits;
    } cases[] = {{512, 512, 4, true}, {512, 8, 64, true},  {512, 8, 512, true}, {512, 512, 3, false}, {512, 512, 1024, false},
                 {96, 12, 8, true},   {96, 12, 4, true},   {96, 48, 2, true},   {96, 96, 2, false},   {96, 96, 32, false},
                 {999, 37, 1, true},  {96, 3, 4, true},    {96, 16, 2, false},  {48, 24, 4, false},  {24, 8, 3, false},    {6, 1, 2, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fdm_error err = {0};
        const fdm_status status = fdm_trainer_check_ranks(cases[i].batch, cases[i].batch_gpu, cases[i].ranks, &err);
        ck_assert_msg((status == FDM_OK) == cases[i].fits, "case %zu: %s", i, err.message);
        if (!cases[i].fits) check_refused(status, FDM_BAD_USAGE, &err, "cannot be shared");
    }
    fdm_error err = {0};
    check_refused(fdm_trainer_check_ranks(96, 12, 16, &err), FDM_BAD_USAGE, &err, "; 1, 2, 4, 8 of them can");
}
END_TEST

/* ---- buckets, and the overlap with the backward pass ---- */

struct bucket_plan {
    size_t bucket;
    const void *expected;
};

static void sum_in_buckets(const fdm_ranks *r, void *user) {
    const struct bucket_plan *p = user;
    const fdm_trainer_options o = small_options();
    fdm_trainer *t = make_trainer(&o, &best, 1);
    fdm_gradient *g = fdm_trainer_gradient(t);
    fdm_accumulator *a;
    struct fdm_rank_sum *sum;
    const int share = BATCH / r->size;
    ck_assert_int_eq(fdm_accumulator_create(&a, g, NULL), FDM_OK);
    ck_assert_int_eq(fdm_rank_sum_create(&sum, r, a, g, p->bucket, NULL), FDM_OK);
    for (int again = 0; again < 2; again++) {
        const struct train_batch b = make_train_batch(again);
        double weight[BATCH] = {1, 1, 1, 1, 1, 1, 1, 1};
        fdm_gradient_args args = batch_part(&b, r->rank * share, share);
        const struct fdm_gradient_watch watch = fdm_rank_sum_watch(sum);
        args.weight = weight;
        args.scale = 1;
        ck_assert_int_eq(fdm_accumulator_add_last(a, &args, &watch, NULL), FDM_OK);
        ck_assert_int_eq(fdm_rank_sum_finish(sum, NULL), FDM_OK);
        if (!again) ck_assert_int_eq(memcmp(fdm_accumulator_sum(a), p->expected, fdm_gradient_size(g) * sizeof(float)), 0);
        fdm_accumulator_reset(a);
    }
    ck_assert_int_eq(fdm_rank_sum_spent(sum).updates, 2);
    fdm_rank_sum_free(&sum);
    fdm_accumulator_free(&a);
    fdm_trainer_free(&t);
}

START_TEST(buckets_of_any_size) {
    const fdm_trainer_options o = small_options();
    fdm_trainer *t = make_trainer(&o, &best, 1);
    fdm_gradient *g = fdm_trainer_gradient(t);
    const size_t total = fdm_gradient_size(g), buckets[] = {1, 100, 1024, total - 1, total, 4 * total};
    float *gradient = calloc(total, sizeof *gradient);
    const struct train_batch b = make_train_batch(0);
    double weight[BATCH] = {1, 1, 1, 1, 1, 1, 1, 1};
    fdm_gradient_args args = batch_part(&b, 0, BATCH);
    args.weight = weight;
    args.scale = 1;
    ck_assert_int_eq(fdm_gradient_compute(g, gradient, &args, NULL), FDM_OK);
    for (size_t i = 0; i < sizeof buckets / sizeof *buckets; i++) {
        struct bucket_plan p = {buckets[i], gradient};
        run_thread_ranks(2 << i % 3, 60, sum_in_buckets, &p);
    }
    free(gradient);
    fdm_trainer_free(&t);
}
END_TEST

/* A rank whose messages of gradients are counted. */
struct echo {
    pthread_mutex_t lock;
    int64_t messages, polls, patience;
    bool saw_messages;
    const fdm_ranks *others; /* who take the messages; NULL: a rank alone among two, its peer's messages are its own */
};

static fdm_status count_message(const fdm_ranks *r, const fdm_exchange *what, fdm_error *err) {
    struct echo *e = r->user;
    pthread_mutex_lock(&e->lock);
    e->messages += what->channel == FDM_CHANNEL_GRADIENT;
    pthread_mutex_unlock(&e->lock);
    if (e->others) return e->others->exchange(e->others, what, err);
    if (what->receive_bytes) memset(what->receive, 0, what->receive_bytes);
    return FDM_OK;
}

/* Asked before every step, forward and backward.  The backward pass waits, before its last steps, until a message has gone
 * out; if messages went out only after it, none would come. */
static bool wait_for_a_message(void *user) {
    struct echo *e = user;
    if (++e->polls < e->patience) return false;
    for (int i = 0; i < 20000 && !e->saw_messages; i++) {
        const struct timespec ms = {.tv_nsec = 1000000};
        pthread_mutex_lock(&e->lock);
        e->saw_messages = e->messages > 0;
        pthread_mutex_unlock(&e->lock);
        if (!e->saw_messages) (void)nanosleep(&ms, NULL);
    }
    return !e->saw_messages;
}

static int64_t before_the_last_steps(fdm_trainer *t) {
    const int steps = fdm_gradient_network(fdm_trainer_gradient(t))->graph.step_count;
    return 2 * steps - steps / 4;
}

START_TEST(messages_go_out_during_the_backward_pass) {
    struct echo e = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const fdm_ranks r = {.rank = 0, .size = 2, .user = &e, .exchange = count_message};
    const fdm_trainer_options o = small_options();
    const struct train_batch b = make_train_batch(0);
    fdm_trainer *t = make_trainer(&o, &best, 1);
    ck_assert_int_eq(fdm_trainer_share(t, &r, BATCH, NULL), FDM_OK);
    e.patience = before_the_last_steps(t);
    fdm_gradient_args args = batch_part(&b, 0, BATCH / 2);
    args.stop = wait_for_a_message;
    args.stop_user = &e;
    ck_assert_int_eq(fdm_trainer_round(t, &args, NULL, NULL), FDM_OK);
    ck_assert(e.saw_messages);
    ck_assert_int_gt(e.polls, e.patience + 4); /* there were steps left */
    ck_assert_int_eq(fdm_rank_sum_finish(fdm_trainer_sums(t), NULL), FDM_OK);
    const struct fdm_rank_sum_times times = fdm_rank_sum_spent(fdm_trainer_sums(t));
    ck_assert_double_gt(times.hidden, 0);
    ck_assert_double_le(times.hidden, times.busy);
    fdm_trainer_free(&t);
}
END_TEST

/* ---- the trace ---- */

/* Every backward pass waits, before its last steps, for a message of its rank to have gone out. */
static void train_traced(const fdm_ranks *others, void *user) {
    const struct plan *p = user;
    struct echo e = {.lock = PTHREAD_MUTEX_INITIALIZER, .others = others};
    const fdm_ranks r = {.rank = others->rank, .size = others->size, .timeout = others->timeout, .user = &e, .exchange = count_message};
    struct fdm_comm_trace *trace;
    fdm_error err = {0};
    fdm_trainer *t = make_trainer(&p->options, p->runner, 1);
    ck_assert_int_eq(fdm_trainer_share(t, &r, p->batch_gpu, NULL), FDM_OK);
    struct fdm_rank_sum *sums = fdm_trainer_sums(t);
    fdm_gradient *g = fdm_trainer_gradient(t);
    ck_assert_int_eq(fdm_comm_trace_create(&trace, &r, g, p->buckets ? p->buckets : fdm_rank_sum_buckets(sums), NULL), FDM_OK);
    fdm_rank_sum_trace(sums, trace);
    e.patience = before_the_last_steps(t);
    for (int u = 0; u < UPDATES; u++) {
        const struct train_batch b = make_train_batch(u);
        fdm_gradient_args args = batch_part(&b, r.rank * BATCH / r.size, BATCH / r.size);
        args.stop = wait_for_a_message;
        args.stop_user = &e;
        e.messages = e.polls = 0;
        e.saw_messages = false;
        ck_assert_int_eq(fdm_trainer_round(t, &args, NULL, NULL), FDM_OK);
        ck_assert_int_eq(fdm_trainer_agree(t, FDM_OK, NULL, NULL), FDM_OK);
        ck_assert_int_eq(fdm_trainer_update(t, NULL, NULL), FDM_OK);
    }
    ck_assert_int_eq(fdm_comm_trace_count(trace).all, UPDATES);
    ck_assert_msg(fdm_comm_trace_write(trace, p->trace, &err) == FDM_OK, "%s", err.message);
    check_refused(fdm_comm_trace_write(trace, p->nowhere, &err), FDM_NO_RESOURCE, &err, "missing");
    fdm_comm_trace_free(&trace);
    fdm_trainer_free(&t);
}

enum { TRACED_RANKS = 4 };

/* What a trace says of the updates of a rank. */
struct traced {
    int counts[FDM_LANES], overlaps;        /* events; messages that a step of the same update's backward pass overlaps */
    double first_step, last_step, last[FDM_LANES]; /* begin and end of the backward pass; end of the latest event */
};

static void take_event(struct traced *t, enum fdm_comm_lane lane, double begin, double end) {
    ck_assert(begin >= t->last[lane] - 0.002 && end >= begin); /* in microseconds, rounded */
    t->last[lane] = end;
    if (lane == FDM_LANE_BACKWARD && t->counts[lane] == 0) t->first_step = begin;
    if (lane == FDM_LANE_BACKWARD) t->last_step = end; /* step after step: the file has all of them before the messages */
    else t->overlaps += begin < t->last_step && end > t->first_step;
    t->counts[lane]++;
}

/* found[rank][update - 1]; returns the file's otherData, to be given back. */
static json_t *read_trace(struct traced found[TRACED_RANKS][UPDATES], const char *path) {
    json_error_t why;
    json_t *trace = json_load_file(path, 0, &why), *e;
    ck_assert_msg(trace != NULL, "%s", why.text);
    size_t i;
    json_array_foreach(json_object_get(trace, "traceEvents"), i, e) {
        const json_int_t rank = json_integer_value(json_object_get(e, "pid")), lane = json_integer_value(json_object_get(e, "tid"));
        const json_int_t update = json_integer_value(json_object_get(json_object_get(e, "args"), "update"));
        const double begin = json_number_value(json_object_get(e, "ts")), length = json_number_value(json_object_get(e, "dur"));
        ck_assert(rank >= 0 && rank < TRACED_RANKS && lane >= 0 && lane < FDM_LANES);
        if (strcmp(json_string_value(json_object_get(e, "ph")), "X") != 0) continue;
        ck_assert(update >= 1 && update <= UPDATES);
        take_event(&found[rank][update - 1], (enum fdm_comm_lane)lane, begin, begin + length);
    }
    json_t *other = json_incref(json_object_get(trace, "otherData"));
    json_decref(trace);
    return other;
}

/* A trace with room for that many updates: the same ones in both lanes of all ranks. */
static void check_trace(struct plan *p, int kept) {
    struct traced found[TRACED_RANKS][UPDATES] = {{{.overlaps = 0}}};
    snprintf(p->trace, sizeof p->trace, "%s", scratch("trace.json"));
    snprintf(p->nowhere, sizeof p->nowhere, "%s", scratch("missing/trace.json"));
    run_thread_ranks(TRACED_RANKS, 60, train_traced, p);
    json_t *other = read_trace(found, p->trace);
    ck_assert_int_eq(json_integer_value(json_object_get(other, "updates")), kept);
    ck_assert_int_eq(json_integer_value(json_object_get(other, "updates_left_out")), UPDATES - kept);
    json_decref(other);
    for (int r = 0; r < TRACED_RANKS; r++)
        for (int u = 0; u < UPDATES; u++) {
            const struct traced *t = &found[r][u];
            ck_assert_int_eq(t->counts[FDM_LANE_BACKWARD], u < kept ? found[0][0].counts[FDM_LANE_BACKWARD] : 0);
            ck_assert_int_eq(t->counts[FDM_LANE_MESSAGES], u < kept ? found[0][0].counts[FDM_LANE_MESSAGES] : 0);
            ck_assert_msg(t->overlaps > 0 || u >= kept, "rank %d, update %d: no message during the backward pass", r, u + 1);
        }
    ck_assert_int_gt(found[0][0].counts[FDM_LANE_BACKWARD], 30);
    ck_assert_int_ge(found[0][0].counts[FDM_LANE_MESSAGES], 8);
}

START_TEST(the_trace_shows_messages_during_the_backward_pass_of_every_rank) {
    struct plan p = {.options = small_options(), .runner = &best, .batch_gpu = BATCH, .most = BATCH};
    check_trace(&p, UPDATES);
}
END_TEST

START_TEST(a_full_trace_ends_with_an_update) {
    struct plan p = {.options = small_options(), .runner = &best, .batch_gpu = BATCH, .most = BATCH};
    p.buckets = 30000; /* so many events an update, it is told, that there is room for two */
    check_trace(&p, 2);
}
END_TEST

/* ---- failures ---- */

/* Rank 1 cannot compute its part of the second update; then all go on. */
static void fail_and_go_on(const fdm_ranks *r, void *user) {
    const struct plan *p = user;
    fdm_trainer *t = make_trainer(&p->options, p->runner, 1);
    fdm_error err = {0};
    ck_assert_int_eq(fdm_trainer_share(t, r, p->batch_gpu, NULL), FDM_OK);
    one_shared_update(t, r, p);
    for (int when = 0; when < 3; when++) { /* rank 1: in its first round, in its last, before any */
        const struct train_batch b = make_train_batch(99);
        const int share = BATCH / r->size;
        fdm_status status = FDM_OK;
        for (int i = 0; i < share && status == FDM_OK; i++) {
            fdm_gradient_args args = batch_part(&b, r->rank * share + i, 1);
            if (r->rank == 1 && i == (when == 1 ? share - 1 : 0)) args.dropout = 2;
            if (r->rank == 1 && when == 2) status = fdm_fail(&err, FDM_BAD_INPUT, "dropout: image lost");
            else status = fdm_trainer_round(t, &args, NULL, &err);
        }
        status = fdm_trainer_agree(t, status, NULL, &err);
        check_refused(status, when == 2 ? FDM_BAD_INPUT : FDM_BAD_USAGE, &err, "rank 1: dropout");
    }
    for (int u = 1; u < UPDATES; u++) one_shared_update(t, r, p);
    check_same_trainers(p->expected, t, "after failures");
    fdm_trainer_free(&t);
}

START_TEST(a_failure_ends_the_update_of_all) {
    struct plan p = {.options = small_options(), .runner = &best, .threads = 1, .batch_gpu = 1, .most = 1};
    p.options.warmup_ite = 20;
    train_alone(&p);
    run_thread_ranks(2, 60, fail_and_go_on, &p);
    run_thread_ranks(4, 60, fail_and_go_on, &p);
    fdm_trainer_free(&p.expected);
}
END_TEST

static void lose_the_last_rank(const fdm_ranks *all, void *user) {
    const struct plan *p = user;
    fdm_error err = {0};
    fdm_ranks own = *all, *r = &own;
    fdm_trainer *t = make_trainer(&p->options, p->runner, 1);
    ck_assert_int_eq(fdm_trainer_share(t, r, p->batch_gpu, NULL), FDM_OK);
    own.timeout = 0.3; /* until here they may have been slow */
    if (r->rank == r->size - 1) { /* its node vanishes */
        fdm_trainer_free(&t);
        return;
    }
    const struct train_batch b = make_train_batch(0);
    const fdm_gradient_args args = batch_part(&b, 0, BATCH / r->size);
    ck_assert_int_eq(fdm_trainer_round(t, &args, NULL, &err), FDM_OK);
    check_refused(fdm_trainer_agree(t, FDM_OK, NULL, &err), FDM_NO_RESOURCE, &err, "does not answer");
    check_refused(fdm_trainer_agree(t, FDM_OK, NULL, &err), FDM_NO_RESOURCE, &err, "does not answer"); /* at once */
    ck_assert_int_eq(fdm_trainer_images(t), 0);
    fdm_trainer_free(&t);
    check_refused(fdm_ranks_agree(r, FDM_OK, NULL, &err), FDM_NO_RESOURCE, &err, "does not answer");
    (void)fdm_fail(&err, FDM_BAD_INPUT, "own trouble");
    check_refused(fdm_ranks_agree(r, FDM_BAD_INPUT, NULL, &err), FDM_BAD_INPUT, &err, "own trouble");
}

START_TEST(a_rank_that_does_not_answer) {
    struct plan p = {.options = small_options(), .runner = &best, .batch_gpu = 8};
    for (int size = 2; size <= 4; size *= 2) run_thread_ranks(size, 60, lose_the_last_rank, &p);
}
END_TEST

/* Rank 1 takes longer than silence is allowed, but not longer than the others' own work and that. */
static void be_patient(const fdm_ranks *r, void *user) {
    const struct timespec longer = {.tv_nsec = 400000000};
    (void)user;
    if (r->rank == 1) (void)nanosleep(&longer, NULL);
    ck_assert_int_eq(fdm_ranks_agree_after(r, FDM_OK, 20, NULL), FDM_OK);
    ck_assert_int_eq(fdm_ranks_agree_after(NULL, FDM_MISMATCH, 20, NULL), FDM_MISMATCH);
}

START_TEST(slow_work_is_waited_for) {
    run_thread_ranks(3, 0.1, be_patient, NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ranks");
    TCase *tc = tcase_create("ranks");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, shares_cover_everything_once);
    tcase_add_test(tc, collective_functions);
    tcase_add_test(tc, sums_follow_the_tree);
    tcase_add_test(tc, same_bits_as_one_rank);
    tcase_add_test(tc, rounds_and_warm_up);
    tcase_add_test(tc, unreached_and_not_finite);
    tcase_add_test(tc, batches_that_fit);
    tcase_add_test(tc, buckets_of_any_size);
    tcase_add_test(tc, messages_go_out_during_the_backward_pass);
    tcase_add_test(tc, the_trace_shows_messages_during_the_backward_pass_of_every_rank);
    tcase_add_test(tc, a_full_trace_ends_with_an_update);
    tcase_add_test(tc, a_failure_ends_the_update_of_all);
    tcase_add_test(tc, a_rank_that_does_not_answer);
    tcase_add_test(tc, slow_work_is_waited_for);
    suite_add_tcase(suite, tc);
    return scratch_run(suite);
}
